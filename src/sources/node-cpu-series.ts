// The temperature of the CPU from node_exporter, one reading per chip, by the rules of cpu-temperature.ts: the driver's
// name decides which chip speaks for the CPU, AMD's Tctl counts only without Tdie, a sensor with its fault flag set says
// nothing, and thermal zones stand in only where no chip of a CPU ever was. What is different: the exporter leaves out
// a sensor that it cannot read, so a chip or a label without a number is a sensor that failed, and a line that cannot be
// read may have been any chip's, so with one of these the CPU is never called whole.
import type { HardwareLimits, MissingCause, RawReading } from '../domain/reading.ts';
import { isCpuChip, isCpuZone } from './cpu-sensor-names.ts';
import { dieSensors, hottestOf, isLikelyCritical } from './cpu-temperature.ts';
import {
  clipped,
  type HwmonChip,
  type HwmonSensor,
  type NodeSamples,
  rejectionText,
  seriesText,
  type Told,
} from './node-samples.ts';
import type { IgnoredSeries, Sample } from './scrape.ts';
import { NODE } from './series.ts';
import { naturalOrder } from './sysfs.ts';

export interface NodeCpuTemperatures {
  /** At least one: with nothing found it is a missing one that says why. */
  readonly readings: readonly RawReading[];
  readonly hardwareLimits: readonly HardwareLimits[];
  readonly notes: readonly string[];
  readonly ignored: readonly IgnoredSeries[];
}

/** More sockets than any machine has; the exporter is not to be believed beyond. */
const MOST_CHIPS = 64;
/** Ids that are remembered; an exporter that renames its chips at every scrape must not fill the memory. */
const MOST_IDS = 4 * MOST_CHIPS;

/** Where a rejected line may have been a CPU's sensor, or what tells that a chip is one. */
const CHIP_SERIES = [NODE.temperature, NODE.chipName, NODE.sensorLabel];

/** What a sensor said: a number, believed or not, or why there is none. */
type Said =
  | { readonly kind: 'number'; readonly celsius: number; readonly sample: Sample; readonly what: () => string }
  | { readonly kind: 'nothing'; readonly cause: MissingCause; readonly detail: string };

/** The CPU's sensors of one target. It remembers the chips' ids, and that there were chips. */
export class NodeCpuTemperature {
  readonly #tctlOffsetC: number;
  /** By name and chip; given once, in the order of chips. */
  readonly #ids = new Map<string, string>();
  #hadChips = false;

  constructor(tctlOffsetC: number) {
    this.#tctlOffsetC = tctlOffsetC;
  }

  read(node: NodeSamples): NodeCpuTemperatures {
    const chips = node.chips.filter(({ name }) => isCpuChip(name));
    const notes: string[] = [];
    if (chips.length > MOST_CHIPS) notes.push(`CPU temperature: ${chips.length} chips, only ${MOST_CHIPS} are read`);
    const readings: RawReading[] = [];
    const hardwareLimits: HardwareLimits[] = [];
    const ignored: IgnoredSeries[] = [];
    let lostOfChip: string | undefined;
    for (const chip of chips.slice(0, MOST_CHIPS)) {
      const id = this.#idOf(chip);
      const said = readChip(node, chip, id, this.#tctlOffsetC);
      readings.push(said.reading);
      lostOfChip ??= said.lost;
      notes.push(...said.notes);
      ignored.push(...said.ignored);
      if (said.criticalC !== undefined) hardwareLimits.push({ component: 'cpu', id, criticalC: said.criticalC });
    }
    const lost = node.lostLinesOf(CHIP_SERIES)[0];
    if (lost) readings.push(unreadableLine(rejectionText(lost)));
    else if (lostOfChip !== undefined) readings.push(unreadableLine(lostOfChip));
    else if (node.hasUntoldRejections) {
      readings.push(unreadableLine(`${node.scrape.rejectedCount} lines cannot be read, and not all of them are told`));
    }
    const hasChips = chips.length > 0;
    const zones = hasChips || this.#hadChips ? undefined : readZones(node);
    if (zones) readings.push(...zones);
    else if (!hasChips) readings.push(missing(undefined, 'gone', this.#goneDetail(node)));
    this.#hadChips ||= hasChips;
    if (readings.length === 0) readings.push(noSensor(node));
    return { readings, hardwareLimits, notes, ignored };
  }

  #goneDetail(node: NodeSamples): string {
    const failed = failedText(node, ['hwmon']);
    return `${[...this.#ids.values()].slice(0, 4).join(', ')} had a sensor earlier and has none now${failed && `; ${failed}`}`;
  }

  /** Name and place in the order of chips, `coretemp-1`. */
  #idOf({ name, chip }: HwmonChip): string {
    const key = `${name} ${chip}`;
    const known = this.#ids.get(key);
    if (known !== undefined) return known;
    if (this.#ids.size >= MOST_IDS) this.#ids.clear();
    const ordinal = [...this.#ids.keys()].filter((other) => other.startsWith(`${name} `)).length;
    this.#ids.set(key, `${name}-${ordinal}`);
    return `${name}-${ordinal}`;
  }
}

interface ChipSaid {
  readonly reading: RawReading;
  /** A sensor's number that was there and could not be read: it may be the hottest, so the chip is not read whole. */
  readonly lost?: string;
  readonly criticalC?: number;
  readonly notes: readonly string[];
  readonly ignored: readonly IgnoredSeries[];
}

function readChip(node: NodeSamples, { chip, name }: HwmonChip, id: string, tctlOffsetC: number): ChipSaid {
  const sensors = node.sensorsOf('temp', [NODE.temperature], chip);
  const { kept, besideTdie } = dieSensors(name, sensors, tctlOffsetC);
  const notes: string[] = [];
  const ignored = besideTdie.flatMap(({ sensor }) => {
    const why = 'Tctl is a fan-control scale, up to 27 °C above the die; the chip tells Tdie';
    const { sample } = node.told(NODE.temperature, chip, sensor);
    return sample ? [{ what: seriesText(NODE.temperature, sample.labels), says: `${sample.value} °C`, why }] : [];
  });
  const numbers: (Said & { readonly kind: 'number' })[] = [];
  let silent: (Said & { readonly kind: 'nothing' }) | undefined;
  let lost: string | undefined;
  for (const sensor of kept) {
    const said = readSensor(node, chip, name, sensor);
    if (said.kind === 'number') numbers.push(said);
    else {
      notes.push(`${id}: left out: ${said.detail}`);
      silent ??= said;
      if (said.cause === 'invalid') lost ??= said.detail;
    }
  }
  const criticalC = criticalOf(node, chip, kept);
  const found = { notes, ignored, ...(criticalC !== undefined && { criticalC }) };
  const best = hottestOf(numbers);
  if (best) {
    const reading: RawReading = {
      component: 'cpu',
      id,
      quantity: 'temperature',
      value: best.celsius,
      origin: clipped(best.what()),
      ...node.timeOf(best.sample),
    };
    return { reading, ...found, ...(lost !== undefined && { lost }) };
  }
  // A chip that its driver registered has a sensor: the exporter leaves out what it cannot read.
  const detail = silent?.detail ?? `${name} (${chip}) is listed without a temperature: node_exporter cannot read it`;
  return { reading: missing(id, silent?.cause ?? 'unreadable', detail), ...found };
}

function readSensor(
  node: NodeSamples,
  chip: string,
  name: string,
  { sensor, label, offsetC }: HwmonSensor & { readonly offsetC: number },
): Said {
  // A flag that cannot be read vouches for nothing.
  const fault = node.told(NODE.temperatureFault, chip, sensor);
  if (fault.rejected) return { kind: 'nothing', cause: 'unreadable', detail: rejectionText(fault.rejected) };
  if (fault.sample && fault.sample.value !== 0) {
    const detail = `${seriesText(NODE.temperatureFault, { chip, sensor })} is ${fault.sample.value}`;
    return { kind: 'nothing', cause: 'unreadable', detail };
  }
  const { sample, rejected } = node.told(NODE.temperature, chip, sensor);
  if (sample) {
    const offset = offsetC === 0 ? '' : ` less ${offsetC} °C`;
    // Told of the hottest alone.
    const what = (): string =>
      `${[name, label].join(' ').trim()}${offset}, ${seriesText(NODE.temperature, { chip, sensor })}`;
    return { kind: 'number', celsius: sample.value - offsetC, sample, what };
  }
  if (rejected) return { kind: 'nothing', cause: 'invalid', detail: rejectionText(rejected) };
  const detail = `${name} ${label} (${chip}, ${sensor}) has no number: node_exporter cannot read it`;
  return { kind: 'nothing', cause: 'unreadable', detail };
}

/** The chip's own limit, °C, from the first sensor that has a likely one; a chip's sensors share it. */
function criticalOf(
  node: NodeSamples,
  chip: string,
  sensors: readonly (HwmonSensor & { readonly offsetC: number })[],
): number | undefined {
  for (const { sensor, offsetC } of sensors) {
    const { sample } = node.told(NODE.criticalTemperature, chip, sensor);
    if (sample && isLikelyCritical(sample.value - offsetC)) return sample.value - offsetC;
  }
  return undefined;
}

/** CPU zones, each a reading of its own. */
function readZones(node: NodeSamples): RawReading[] {
  const zones = new Map<string, { readonly type: string; readonly zone: string }>();
  for (const { labels } of [...node.of(NODE.zoneTemperature), ...node.rejectedOf(NODE.zoneTemperature)]) {
    const { type = '', zone = '' } = labels ?? {};
    if (isCpuZone(type)) zones.set(`${zone} ${type}`, { type, zone });
  }
  const ofType = new Map<string, number>();
  const readings = [...zones.values()]
    .sort((a, b) => naturalOrder(a.zone, b.zone))
    .slice(0, MOST_CHIPS)
    .map(({ type, zone }) => {
      const ordinal = ofType.get(type) ?? 0;
      ofType.set(type, ordinal + 1);
      return zoneReading(node, `${type}-${ordinal}`, zone, node.toldBy(NODE.zoneTemperature, { type, zone }));
    });
  const lost = node.lostLinesOf([NODE.zoneTemperature])[0];
  return lost ? [...readings, unreadableLine(rejectionText(lost))] : readings;
}

function zoneReading(node: NodeSamples, id: string, zone: string, { sample, rejected }: Told): RawReading {
  if (!sample) return missing(id, 'invalid', rejected ? rejectionText(rejected) : `zone ${zone} has no number`);
  // From 1.12 on node_exporter gives 0 °C for a zone that it cannot read.
  const zero = sample.value === 0 ? ', 0 for a zone that cannot be read' : '';
  const origin = clipped(`${seriesText(NODE.zoneTemperature, sample.labels)}${zero}`);
  return { component: 'cpu', id, quantity: 'temperature', value: sample.value, origin, ...node.timeOf(sample) };
}

/**
 * A collector that "failed" may only have no data here, as hwmon in a virtual machine. Thermal zones are different: one
 * that cannot be read takes all the others with it (before node_exporter 1.12).
 */
function noSensor(node: NodeSamples): RawReading {
  const others = [...new Set(node.chips.map(({ name, chip }) => name || chip))].slice(0, 8).join(', ');
  const seen = `no CPU chip or zone; other chips: ${others || 'none'}`;
  const failed = failedText(node, ['thermal_zone', 'hwmon']);
  const cause = node.failedCollectors(['thermal_zone']).length > 0 ? 'unreadable' : 'no-sensor';
  return missing(undefined, cause, failed === '' ? seen : `${failed}: ${seen}`);
}

/** `collector hwmon failed`, or ''. */
export function failedText(node: NodeSamples, collectors: readonly string[]): string {
  const failed = node.failedCollectors(collectors);
  if (failed.length === 0) return '';
  return `${failed.length === 1 ? 'collector' : 'collectors'} ${failed.join(' and ')} failed`;
}

function unreadableLine(detail: string): RawReading {
  return missing('unreadable-line', 'invalid', detail);
}

function missing(id: string | undefined, cause: MissingCause, detail: string): RawReading {
  const of = id === undefined ? {} : { id };
  return { component: 'cpu', ...of, quantity: 'temperature', value: null, cause, origin: clipped(detail) };
}
