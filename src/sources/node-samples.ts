// The samples of one scrape of node_exporter, joined as its sensors need it: by `chip`, by `chip` and `sensor`. Joins
// are left joins: a sensor without a label has no row among the labels, a chip without a name none among the names, and
// an inner join would lose just these. Lines that could not be read stand beside the samples, since what they would have
// told is missing, not absent. What the numbers mean is left to the node-*-series.

import { groupedBy } from '../domain/collections.ts';
import { type Labels, type RejectedLine, type Sample, type Scrape, sampledAtMs } from './scrape.ts';
import { NODE } from './series.ts';
import { naturalOrder } from './sysfs.ts';

export interface HwmonChip {
  /** The exporter's word for the device: `platform_coretemp_0`. */
  readonly chip: string;
  /** The driver's name; '' where nobody tells it. */
  readonly name: string;
}

/** A sensor as far as anything is said of it: a number, a label, or a line that cannot be read. */
export interface HwmonSensor {
  /** `temp1`. */
  readonly sensor: string;
  /** '' without one. */
  readonly label: string;
}

/** One number, the highest of duplicates; or the line that stands where it should; or neither. */
export type Told = { readonly sample: Sample | undefined; readonly rejected: RejectedLine | undefined };

const NOTHING: readonly never[] = [];

/** What the kernel calls a chip's sensors of a kind. */
const SENSOR = { temp: /^temp\d+$/, power: /^power\d+$/, energy: /^energy\d+$/ } as const;

export class NodeSamples {
  readonly scrape: Scrape;
  /** Sorted as people sort names with numbers in them. */
  readonly chips: readonly HwmonChip[];
  readonly #byChip = new Map<string, ReadonlyMap<string, readonly Sample[]>>();
  /** A chip that claims 50,000 sensors must not have each of them looked for among all. */
  readonly #bySensor = new Map<string, ReadonlyMap<string, ReadonlyMap<string, readonly Sample[]>>>();
  readonly #rejectedByName = new Map<string, readonly RejectedLine[]>();

  /** `namesBefore`: what chips were called in earlier scrapes; a name that a chip told it keeps. */
  constructor(scrape: Scrape, namesBefore: ReadonlyMap<string, string> = new Map()) {
    this.scrape = scrape;
    for (const line of scrape.rejected) {
      this.#rejectedByName.set(line.name, [...this.rejectedOf(line.name), line]);
    }
    this.chips = this.#findChips(namesBefore);
  }

  of(name: string): readonly Sample[] {
    return this.scrape.samples.get(name) ?? NOTHING;
  }

  rejectedOf(name: string): readonly RejectedLine[] {
    return this.#rejectedByName.get(name) ?? NOTHING;
  }

  /** Lines of which nobody knows whose they were: they may have been any sensor's. */
  lostLinesOf(names: readonly string[]): readonly RejectedLine[] {
    return names.flatMap((name) => this.rejectedOf(name).filter(({ labels }) => labels === null));
  }

  /** More lines were rejected than are told of. */
  get hasUntoldRejections(): boolean {
    return this.scrape.rejectedCount > this.scrape.rejected.length;
  }

  ofChip(name: string, chip: string): readonly Sample[] {
    let byChip = this.#byChip.get(name);
    if (!byChip) {
      byChip = groupedByLabel(this.of(name), 'chip');
      this.#byChip.set(name, byChip);
    }
    return byChip.get(chip) ?? NOTHING;
  }

  /** What a series tells of one sensor of a chip. */
  told(name: string, chip: string, sensor: string): Told {
    let bySensor = this.#bySensor.get(name);
    if (!bySensor) {
      const byChip = groupedByLabel(this.of(name), 'chip');
      bySensor = new Map([...byChip].map(([each, samples]) => [each, groupedByLabel(samples, 'sensor')]));
      this.#bySensor.set(name, bySensor);
    }
    return this.#toldOf(bySensor.get(chip)?.get(sensor) ?? NOTHING, name, { chip, sensor });
  }

  /** What a series tells under these labels, whatever others it has. */
  toldBy(name: string, labels: Labels): Told {
    const pairs = Object.entries(labels);
    const own = this.of(name).filter((sample) => pairs.every(([key, value]) => sample.labels[key] === value));
    return this.#toldOf(own, name, labels);
  }

  /** A chip's sensors of a kind (`temp`, `power`) that the series, or a label, or a rejected line of either names. */
  sensorsOf(kind: 'temp' | 'power' | 'energy', series: readonly string[], chip: string): readonly HwmonSensor[] {
    const found = new Map<string, string>();
    const pattern = SENSOR[kind];
    const add = (sensor: string | undefined, label = ''): void => {
      if (sensor !== undefined && pattern.test(sensor) && !found.get(sensor)) found.set(sensor, label);
    };
    for (const { labels } of this.ofChip(NODE.sensorLabel, chip)) add(labels['sensor'], labels['label']);
    // The value of such a line is always 1: a line that can be read up to its labels has told all it knows.
    for (const { labels } of this.rejectedOf(NODE.sensorLabel)) {
      if (labels?.['chip'] === chip) add(labels['sensor'], labels['label']);
    }
    for (const name of series) {
      for (const { labels } of this.ofChip(name, chip)) add(labels['sensor']);
      for (const { labels } of this.rejectedOf(name)) if (labels?.['chip'] === chip) add(labels['sensor']);
    }
    return [...found].map(([sensor, label]) => ({ sensor, label })).sort((a, b) => naturalOrder(a.sensor, b.sensor));
  }

  /** Collectors among these that say that they failed, or that they have no data here. */
  failedCollectors(names: readonly string[]): readonly string[] {
    const failed = this.of(NODE.collectorSuccess).filter(({ value }) => value === 0);
    return names.filter((name) => failed.some(({ labels }) => labels['collector'] === name));
  }

  /** The time of a sample where the body tells it, to be spread into a reading. */
  timeOf(...samples: readonly Sample[]): { readonly sampledAtMs?: number } {
    return this.timeOfAll(samples);
  }

  timeOfAll(samples: readonly Sample[]): { readonly sampledAtMs?: number } {
    const time = leastOf(samples.flatMap((sample) => sampledAtMs(sample, this.scrape) ?? []));
    return time === undefined ? {} : { sampledAtMs: time };
  }

  /** @param own the series' samples with the `wanted` labels */
  #toldOf(own: readonly Sample[], name: string, wanted: Labels): Told {
    let sample: Sample | undefined;
    for (const each of own) {
      if (!sample || Number.isNaN(sample.value) || each.value > sample.value) sample = each;
    }
    const rejected = this.rejectedOf(name).find(({ labels }) =>
      Object.entries(wanted).every(([key, value]) => labels?.[key] === value),
    );
    return { sample, rejected };
  }

  #findChips(namesBefore: ReadonlyMap<string, string>): readonly HwmonChip[] {
    const names = new Map<string, string>();
    const rows = [...this.of(NODE.chipName), ...this.rejectedOf(NODE.chipName)];
    for (const { labels } of rows) {
      const chip = labels?.['chip'];
      if (chip !== undefined) names.set(chip, labels?.['chip_name'] ?? '');
    }
    for (const series of [NODE.temperature, NODE.averagePower, NODE.power, NODE.energy]) {
      for (const { labels } of [...this.of(series), ...this.rejectedOf(series)]) {
        const chip = labels?.['chip'];
        if (chip !== undefined && !names.get(chip)) names.set(chip, namesBefore.get(chip) ?? nameByPath(chip));
      }
    }
    return [...names].map(([chip, name]) => ({ chip, name })).sort((a, b) => naturalOrder(a.chip, b.chip));
  }
}

/** Two CPU chips are known by their place alone: Intel's platform device, and function 3 of AMD's node on bus 0. */
function nameByPath(chip: string): string {
  if (/^platform_coretemp_\d+/.test(chip)) return 'coretemp';
  return /_0000:00:1[89a-f]_3(?:_|$)/.test(chip) ? 'k10temp' : '';
}

const groupedByLabel = (samples: readonly Sample[], label: string): ReadonlyMap<string, readonly Sample[]> =>
  groupedBy(samples, ({ labels }) => labels[label]);

/**
 * The lowest of numbers, `undefined` of none, NaN where one is. Not by Math.min(...): a body may repeat a series more
 * often than a call can have arguments.
 */
export function leastOf(values: readonly number[]): number | undefined {
  return values.length === 0 ? undefined : values.reduce((a, b) => Math.min(a, b));
}

/** The highest, in the same way. */
export function mostOf(values: readonly number[]): number | undefined {
  return values.length === 0 ? undefined : values.reduce((a, b) => Math.max(a, b));
}

/** `node_hwmon_temp_celsius{chip="platform_coretemp_0",sensor="temp1"}`, for people. */
export function seriesText(name: string, labels: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(labels).map(([key, value]) => `${key}=${JSON.stringify(value)}`);
  return pairs.length === 0 ? name : `${name}{${pairs.join(',')}}`;
}

/** Why a rejected line gives no value, for people. */
export function rejectionText({ line, reason, text }: RejectedLine): string {
  return `${line === 0 ? '' : `line ${line}: `}${reason}: ${text}`;
}

/** As much of a text as an origin may have. */
export function clipped(text: string): string {
  return text.length <= 120 ? text : `${text.slice(0, 119)}…`;
}
