// What a whole machine draws, as exporters of BMCs and meters tell it. A total is passed on with its rank, and the domain
// takes one source: never a mix. Power supplies are added, a redundant one in standby rightly at 0 W; one that is silent
// or gone makes the sum missing, since the rest of a sum looks like a light load. Outlets of a PDU that somebody mapped
// to this node go before all else. What the CPU packages draw is the part of an estimate. Which series these are stands
// in series.ts; node_exporter's meters are node-series.ts'.
import { type MissingCause, parseReading, type RawReading } from '../domain/reading.ts';
import { printable } from './nvidia-smi-card.ts';
import {
  type IgnoredSeries,
  type Labels,
  type RejectedLine,
  type Sample,
  type Scrape,
  type SeriesAnswer,
  type SeriesEngine,
  type SeriesOptions,
  sampledAtMs,
} from './scrape.ts';
import { PART_OF_MACHINE, POWER_RANK, POWER_SERIES, POWER_SERIES_NAMES, WHOLE_MACHINE } from './series.ts';
import type { PowerSeries } from './series-rows.ts';
import { UNREAD_POWER_SERIES } from './series-unread.ts';

/** An outlet of a PDU that feeds this node: the one sample of `series` that has all `labels`. */
export interface PowerOutlet {
  readonly series: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Value × scale is W. */
  readonly scale: number;
}

export interface PowerSeriesOptions extends SeriesOptions {
  readonly outlets: readonly PowerOutlet[];
}

/** More supplies than any machine has. Of totals and sockets the bound is that of a report. */
const MOST_SUPPLIES = 64;
const MOST_NOTES = 30;
const MOST_IGNORED = 100;
const READ_NAMES: ReadonlySet<string> = new Set(POWER_SERIES_NAMES);

/** The names that outlets add to what is read of an exposition. */
export function outletNames(outlets: readonly PowerOutlet[]): readonly string[] {
  return [...new Set(outlets.map(({ series }) => series))];
}

/** Reads the power of one target; it remembers how many supplies there were. */
export function createPowerSeries(options: PowerSeriesOptions): SeriesEngine {
  return new PowerEngine(options);
}

/** A sample of a series, or a line of it that could not be read. */
type Row =
  | { readonly kind: 'read'; readonly sample: Sample; readonly name: string; readonly labels: Labels }
  | { readonly kind: 'rejected'; readonly line: RejectedLine; readonly name: string; readonly labels: Labels | null };

class PowerEngine implements SeriesEngine {
  readonly #outlets: readonly PowerOutlet[];
  readonly #explains: boolean;
  /** By series, the most supplies that gave their power at the same time. */
  readonly #mostSupplies = new Map<PowerSeries, number>();

  constructor({ outlets, explains }: PowerSeriesOptions) {
    this.#outlets = outlets;
    this.#explains = explains;
  }

  read(scrape: Scrape): SeriesAnswer {
    const readings: RawReading[] = this.#outlets.length > 0 ? [outletReading(this.#outlets, scrape)] : [];
    for (const series of POWER_SERIES) {
      const rows = rowsOf(series, scrape);
      if (series.is === 'supply') readings.push(...this.#supplyReadings(series, rows, scrape));
      else readings.push(...(series.is === 'total' ? totalReadings : packageReadings)(series, rows, scrape));
    }
    const totals = readings.filter(({ quantity }) => quantity === 'total-power');
    return {
      readings,
      gpus: [],
      gpuSigns: [],
      witnesses: [],
      throttledGpus: [],
      hardwareLimits: [],
      notes: totals.map(noteOf).slice(0, MOST_NOTES),
      ignored: this.#explains ? ignoredIn(scrape, this.#outlets) : [],
    };
  }

  #supplyReadings(series: PowerSeries, rows: readonly Row[], scrape: Scrape): RawReading[] {
    const supplies = partsOf(series, rows);
    const most = this.#mostSupplies.get(series) ?? 0;
    const missing = (cause: MissingCause, why: string): RawReading[] => {
      return [missingTotal(cause, `${series.exporter} power supplies: ${why}`, POWER_RANK.supplies)];
    };
    const down = upFailure(series, scrape);
    if (supplies.size === 0 && most === 0) return [];
    if (down !== null) return missing('unreadable', down);
    if (supplies.size > MOST_SUPPLIES)
      return missing('invalid', `${supplies.size} of them, at most ${MOST_SUPPLIES} are read`);
    let watts = 0;
    const stamps: number[] = [];
    for (const row of supplies.values()) {
      const power = wattsOf(series, row);
      if (!power.ok) return missing('invalid', power.why);
      watts += power.watts;
      const stamp = row.kind === 'read' ? sampledAtMs(row.sample, scrape) : undefined;
      if (stamp !== undefined) stamps.push(stamp);
    }
    if (supplies.size < most) {
      const why = `${supplies.size} of the ${most} that gave their power earlier are there`;
      return missing('gone', `${why}; restart this service if one was taken out`);
    }
    this.#mostSupplies.set(series, supplies.size);
    const [name = ''] = series.names;
    const what = `${series.exporter}: sum of ${supplies.size} power supplies, ${[...supplies.values()][0]?.name ?? name}`;
    return [{ ...totalOf(watts, what, POWER_RANK.supplies), ...oldestOf(stamps) }];
  }
}

/** Rows that a series means; a rejected line, of which only the labels before its fault are known, may be one. */
function rowsOf(series: PowerSeries, scrape: Scrape): Row[] {
  const { names } = series;
  const read = names.flatMap((name) =>
    (scrape.samples.get(name) ?? []).map((sample): Row => ({ kind: 'read', sample, name, labels: sample.labels })),
  );
  const rejected = scrape.rejected
    .filter(({ name }) => names.includes(name))
    .map((line): Row => ({ kind: 'rejected', line, name: line.name, labels: line.labels }));
  return [...read, ...rejected].filter(
    (row) => row.labels === null || isMeant(series, row.labels, row.kind === 'rejected'),
  );
}

function isMeant({ where, whole }: PowerSeries, labels: Labels, isCut = false): boolean {
  for (const [label, form] of Object.entries(where ?? {})) {
    const value = labels[label] ?? '';
    if (!form.test(value) && !(isCut && value === '')) return false;
  }
  if (!whole) return true;
  const told = (candidates: readonly string[]): string[] => candidates.flatMap((label) => labels[label] || []);
  const [ids, names] = [told(whole.ids), told(whole.names)];
  if (ids.length === 0 && names.length === 0) return true;
  if (ids.includes('0')) return true;
  return names.some((name) => WHOLE_MACHINE.test(name)) && !names.some((name) => PART_OF_MACHINE.test(name));
}

/** One reading per row: of several the domain takes the highest. Where the collector failed, a missing one instead. */
function totalReadings(series: PowerSeries, rows: readonly Row[], scrape: Scrape): RawReading[] {
  const rank = series.rank ?? POWER_RANK.supplies;
  const down = upFailure(series, scrape);
  // 0 W of a machine that is on is no power whatever the collector says: the domain refuses it by that.
  const isBelievable = (row: Row): boolean => row.kind === 'read' && parseReading('total-power', row.sample.value).ok;
  if (down !== null && (rows.length === 0 || rows.some(isBelievable)))
    return [missingTotal('unreadable', `${series.exporter}: ${down}`, rank)];
  return rows.map((row) => {
    const what = `${series.exporter} ${row.name}${labelText(row.labels, [...(series.whole?.names ?? []), 'chassis_id'])}`;
    if (row.kind === 'rejected')
      return missingTotal('invalid', `${what}: line ${row.line.line}: ${row.line.reason}`, rank);
    const stamp = sampledAtMs(row.sample, scrape);
    return {
      ...totalOf(row.sample.value / (series.per ?? 1), what, rank),
      ...oldestOf(stamp === undefined ? [] : [stamp]),
    };
  });
}

/** W of CPU packages, called as RAPL's are, so that a package that two sources tell counts once. */
function packageReadings(series: PowerSeries, rows: readonly Row[], scrape: Scrape): RawReading[] {
  return rows.map((row, place) => {
    const told = (series.by ?? []).flatMap((label) => row.labels?.[label] || [])[0] ?? '';
    // `/sys/class/powercap/intel-rapl:1`, or the socket's number. Kepler adds sockets up under a path of no socket.
    const socket = /(?:^|:)(\d{1,3})$/.exec(told)?.[1];
    const what = {
      component: 'cpu',
      id: `package-${socket ?? (place === 0 ? '0' : `unknown-${place}`)}`,
      quantity: 'power',
    } as const;
    const power = wattsOf(series, row);
    if (!power.ok) return { ...what, value: null, cause: 'invalid', origin: printable(power.why) };
    const stamp = row.kind === 'read' ? sampledAtMs(row.sample, scrape) : undefined;
    const origin = printable(`${series.exporter} ${row.name}${labelText(row.labels, series.by ?? [])}`);
    return { ...what, value: power.watts, origin, ...oldestOf(stamp === undefined ? [] : [stamp]) };
  });
}

/** Supplies by what tells them apart; of a repeated one the row that counts against it. */
function partsOf(series: PowerSeries, rows: readonly Row[]): ReadonlyMap<string, Row> {
  const parts = new Map<string, Row>();
  for (const row of rows) {
    const by = (series.by ?? []).map((label) => row.labels?.[label] ?? '');
    const key = row.labels === null ? `line ${row.kind === 'rejected' ? row.line.line : ''}` : JSON.stringify(by);
    const other = parts.get(key);
    if (!other || isWorse(series, row, other)) parts.set(key, row);
  }
  return parts;
}

function isWorse(series: PowerSeries, row: Row, other: Row): boolean {
  const [power, otherPower] = [wattsOf(series, row), wattsOf(series, other)];
  return otherPower.ok && (!power.ok || power.watts > otherPower.watts);
}

type Watts = { readonly ok: true; readonly watts: number } | { readonly ok: false; readonly why: string };

/** A part of a sum: 0 W is a supply in standby, and NaN or a negative number must not vanish among the others. */
function wattsOf(series: PowerSeries, row: Row): Watts {
  const where = `${row.name}${labelText(row.labels, series.by ?? [])}`;
  if (row.kind === 'rejected') return { ok: false, why: `line ${row.line.line} of ${where}: ${row.line.reason}` };
  const watts = row.sample.value / (series.per ?? 1);
  if (watts === 0 && series.is === 'supply') return { ok: true, watts };
  const parsed = parseReading(series.is === 'supply' ? 'total-power' : 'power', watts);
  return parsed.ok ? { ok: true, watts } : { ok: false, why: `${where}: ${parsed.detail}` };
}

/** All outlets together, or nothing: a machine with a supply on each of two PDUs draws what both give. */
function outletReading(outlets: readonly PowerOutlet[], scrape: Scrape): RawReading {
  const rank = POWER_RANK.outlets;
  let watts = 0;
  const stamps: number[] = [];
  for (const { series, labels, scale } of outlets) {
    const what = `outlet ${series}${labelText(labels, Object.keys(labels))}`;
    const found = (scrape.samples.get(series) ?? []).filter((sample) =>
      Object.entries(labels).every(([label, value]) => sample.labels[label] === value),
    );
    const [sample] = found;
    if (!sample) return missingTotal('unreadable', `${what} is not there`, rank);
    if (found.length > 1) return missingTotal('invalid', `${what}: ${found.length} series match, one must`, rank);
    const power = sample.value * scale;
    if (power !== 0 && !parseReading('total-power', power).ok) {
      return missingTotal('invalid', `${what}: ${sample.value} × ${scale} is no power`, rank);
    }
    watts += power;
    const stamp = sampledAtMs(sample, scrape);
    if (stamp !== undefined) stamps.push(stamp);
  }
  const what = `configured: sum of ${outlets.length} PDU outlets (${outletNames(outlets).join(', ')})`;
  return { ...totalOf(watts, what, rank), ...oldestOf(stamps) };
}

/** Why nothing of a series is to be believed: its collector failed, and what stands there may be left over from before. */
function upFailure({ up }: PowerSeries, scrape: Scrape): string | null {
  if (!up) return null;
  const what = `${up.name}${labelText(up.labels, Object.keys(up.labels))}`;
  const isOf = (labels: Labels): boolean =>
    Object.entries(up.labels).every(([label, value]) => labels[label] === value);
  const bad = scrape.samples.get(up.name)?.find(({ labels, value }) => value !== 1 && isOf(labels));
  if (bad) return `${what} is ${bad.value}`;
  // A word of success that cannot be read is none; a line that does not tell its collector may be any's.
  const lost = scrape.rejected.find(({ name, labels }) => name === up.name && isOf({ ...up.labels, ...labels }));
  return lost ? `line ${lost.line} of ${what} cannot be read: ${lost.reason}` : null;
}

/** 0 W stays 0 W here: the domain refuses it. */
function totalOf(watts: number, what: string, rank: number): RawReading {
  return { component: 'system', quantity: 'total-power', value: watts, origin: printable(what), rank };
}

function missingTotal(cause: MissingCause, why: string, rank: number): RawReading {
  return { component: 'system', quantity: 'total-power', value: null, cause, origin: printable(why), rank };
}

const oldestOf = (stamps: readonly number[]): { readonly sampledAtMs?: number } =>
  stamps.length === 0 ? {} : { sampledAtMs: Math.min(...stamps) };

function labelText(labels: Labels | null, shown: readonly string[]): string {
  const told = shown.flatMap((label) => (labels?.[label] ? `${label}="${labels[label]}"` : []));
  return told.length === 0 ? '' : `{${told.join(',')}}`;
}

const noteOf = ({ value, origin }: RawReading): string =>
  printable(`Total power: ${value === null ? '' : `${value} W, `}${origin}`);

function ignoredIn(scrape: Scrape, outlets: readonly PowerOutlet[]): IgnoredSeries[] {
  const read = new Set([...READ_NAMES, ...outletNames(outlets)]);
  const ignored: IgnoredSeries[] = [];
  for (const [name, samples] of scrape.samples) {
    const [sample] = samples;
    const rule = read.has(name) ? undefined : UNREAD_POWER_SERIES.find(({ names }) => names.test(name));
    if (rule) ignored.push({ what: name, ...(sample && { says: String(sample.value) }), why: rule.why });
    // A series that is read may have rows that stand for a part of the machine, or for another total.
    const known = POWER_SERIES.filter(({ names }) => names.includes(name));
    if (known.length === 0) continue;
    for (const { labels, value } of samples) {
      if (known.some((series) => isMeant(series, labels))) continue;
      const what = `${name}${labelText(labels, Object.keys(labels))}`;
      ignored.push({ what: printable(what), says: String(value), why: 'a part of the machine, or of unclear meaning' });
    }
  }
  return ignored.slice(0, MOST_IGNORED);
}
