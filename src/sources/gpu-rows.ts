// What the rows of one card in one body make: its sighting, readings, limits, witness and throttling. Every temperature
// and power is passed on and the domain takes the worst, so that a sharing pod's or an instance's repeated row costs
// nothing and hides nothing. Memory is taken apart by instance, since their memory is their own: the fullest counts,
// and one that cannot be read, or is named without memory, makes the card's share missing, as it may be the fullest.
import { groupedBy } from '../domain/collections.ts';
import {
  type GpuSighting,
  type HardwareLimits,
  type MissingCause,
  parseReading,
  type Quantity,
  type RawReading,
  type Witness,
} from '../domain/reading.ts';
import type { RowIdentity } from './gpu-identity.ts';
import { MOST_PODS } from './gpu-pods.ts';
import { leastOf } from './node-samples.ts';
import { HARDWARE_POWER_BRAKE, HARDWARE_THERMAL_SLOWDOWN, hardwareThrottle, printable } from './nvidia-smi-card.ts';
import { blankCause, blankCountCause } from './sentinels.ts';
import type { GpuExporter, GpuSeries } from './series-rows.ts';

/** One sample, or one line that could not be read, of a card. */
export interface GpuRow {
  readonly exporter: GpuExporter;
  readonly series: GpuSeries;
  readonly name: string;
  readonly identity: RowIdentity;
  /** As it stands in the body; `null` for a line that could not be read. */
  readonly value: number | null;
  /** Why it could not be read. */
  readonly reason: string | undefined;
  readonly sampledAtMs: number | undefined;
  /** Code of a fault, of a count of them. */
  readonly xid: string | undefined;
  /** `namespace/name` of the pod that uses the card, as this row tells it. */
  readonly pod: string | null;
}

/** Cards and quantities that were given otherwise than by a stand-in, since this process started. */
export interface Given {
  has(key: string): boolean;
  add(key: string): unknown;
}

export interface CardAnswer {
  readonly sighting: GpuSighting;
  readonly readings: readonly RawReading[];
  readonly witnesses: readonly Witness[];
  readonly limits: HardwareLimits | null;
  readonly throttle: string | null;
  readonly notes: readonly string[];
}

/** Chips that share the machine's memory: where they tell none, the system's is theirs. Grace Hopper is not one. */
const UNIFIED_MEMORY = /\b(GB10|Jetson|Orin|Thor|Xavier|Tegra)\b/i;

/** NVIDIA's codes of a card that will not come back by itself. */
const FATAL_XIDS: ReadonlyMap<number, string> = new Map([
  [48, 'double-bit memory error'],
  [79, 'the card has fallen off the bus'],
  [119, "the card's own processor does not answer"],
]);

/** What `rows`, all of the card `id`, say together. At least one row. */
export function readCard(id: string, rows: readonly GpuRow[], given: Given): CardAnswer {
  const byFact = groupedBy(rows, ({ series }) => series.is);
  const of = (...facts: readonly GpuSeries['is'][]): readonly GpuRow[] => {
    const found: GpuRow[] = [];
    for (const fact of facts) for (const row of byFact.get(fact) ?? []) found.push(row);
    return found;
  };
  const untold = untoldInstance(id, rows, given);
  const memory = untold ? [untold] : memoryReadings(id, of(...MEMORY_FACTS));
  const readings = [
    ...judgedReadings(id, 'temperature', of('temperature'), given),
    ...judgedReadings(id, 'power', of('power'), given),
    ...memory,
    ...of('memory-temperature').map((row) => shown(memoryTemperature(id, row))),
    ...of('utilization').map((row) => shown(readingOf(id, 'utilization', row))),
  ];
  const throttle = throttleReason(of('throttle-bits', 'hw-thermal-flag', 'hw-power-brake-flag'));
  return {
    sighting: sightingOf(id, rows, memory),
    readings: withoutRepeats(readings),
    witnesses: witnessesOf(id, of('energy')),
    limits: limitsOf(id, of('slowdown-temperature', 'enforced-power-limit', 'default-power-limit')),
    throttle,
    notes: faultNotes(id, of('xid', 'xid-count', 'wants-recovery')),
  };
}

type Value =
  | { readonly ok: true; readonly value: number }
  | { readonly ok: false; readonly cause: MissingCause; readonly text: string };

/** In °C, W or as a share. NaN and what is impossible pass: the domain refuses them. */
function rowValue({ exporter, series, value, reason }: GpuRow): Value {
  if (value === null) return { ok: false, cause: 'invalid', text: reason ?? 'not read' };
  const cause = blankCause(exporter.blanks, value);
  if (cause) return { ok: false, cause, text: `${value} stands for no value` };
  if (series.least !== undefined && value < series.least) {
    return { ok: false, cause: 'invalid', text: `${value} is under ${series.least}, the least in its unit` };
  }
  return { ok: true, value: value / (series.per ?? 1) };
}

function readingOf(id: string, quantity: Quantity, row: GpuRow): RawReading {
  const { sampledAtMs } = row;
  const value = rowValue(row);
  const reading: RawReading = value.ok
    ? { component: 'gpu', id, quantity, value: value.value, origin: originOf(row) }
    : {
        component: 'gpu',
        id,
        quantity,
        value: null,
        cause: value.cause,
        origin: printable(`${originOf(row)}: ${value.text}`),
      };
  // In this order it has the shape of all others: V8 gives a copy to which something is added a shape of its own.
  return sampledAtMs === undefined ? reading : { sampledAtMs, ...reading };
}

function originOf({ exporter, name, identity: { part } }: GpuRow): string {
  const isWhole = part === '' || part === '0';
  const known = isWhole ? ORIGINS.get(name) : undefined;
  if (known?.exporter === exporter) return known.text;
  const text = printable(`${exporter.exporter} ${name}${isWhole ? '' : `, part ${part}`}`);
  if (isWhole) ORIGINS.set(name, { exporter, text });
  return text;
}

/** Of whole cards, by the names of series.ts: the same for every card at every tick. */
const ORIGINS = new Map<string, { readonly exporter: GpuExporter; readonly text: string }>();

const shown = (reading: RawReading): RawReading => ({ informational: true, ...reading });

/**
 * Temperature or power. A stand-in (instant power, the hot spot) is judged while the card has never given the real one:
 * the place of a reading that is lost stays empty, since the hot spot is hotter by design.
 */
function judgedReadings(id: string, quantity: 'temperature' | 'power', rows: readonly GpuRow[], given: Given) {
  const key = `${id}/${quantity}`;
  const real = rows.filter(({ series }) => !series.standIn).map((row) => readingOf(id, quantity, row));
  if (real.some(({ value }) => value !== null && parseReading(quantity, value).ok)) given.add(key);
  const standIns = rows.filter(({ series }) => series.standIn).map((row) => readingOf(id, quantity, row));
  return [...real, ...(given.has(key) ? standIns.map(shown) : standIns)];
}

/** GDDR cards tell 0 °C for memory that has no sensor (dcgm-exporter#460). */
function memoryTemperature(id: string, row: GpuRow): RawReading {
  const reading = readingOf(id, 'temperature', row);
  if (reading.value !== 0) return reading;
  return { cause: 'not-supported', ...reading, value: null, origin: printable(`${reading.origin}: 0, no sensor`) };
}

const MEMORY_FACTS = ['memory-used', 'memory-free', 'memory-size', 'memory-ratio'] as const;

/**
 * A MIG instance that the body names, by whatever row, and whose memory it does not tell: a missing reading. Where no
 * instance has ever told any, the exporter tells of the whole card only, and that share is all there is.
 */
function untoldInstance(id: string, rows: readonly GpuRow[], given: Given): RawReading | undefined {
  const named = new Map<string, GpuExporter>();
  const told = new Set<string>();
  for (const { exporter, identity, series } of rows) {
    if (!exporter.hasInstances || identity.part === '') continue;
    named.set(identity.part, exporter);
    if (MEMORY_FACTS.some((fact) => fact === series.is)) told.add(identity.part);
  }
  const key = `${id}/instances`;
  if (told.size > 0) given.add(key);
  else if (!given.has(key)) return undefined;
  for (const [part, { exporter }] of named) {
    if (told.has(part)) continue;
    const origin = printable(`${exporter} memory, part ${part}: it is there, and neither used nor free is told`);
    return { component: 'gpu', id, quantity: 'memory', value: null, cause: 'no-sensor', origin };
  }
  return undefined;
}

interface Memory {
  readonly used: readonly GpuRow[];
  readonly free: readonly GpuRow[];
  readonly size: readonly GpuRow[];
}

function memoryReadings(id: string, rows: readonly GpuRow[]): RawReading[] {
  const ratios = rows.filter(({ series }) => series.is === 'memory-ratio').map((row) => readingOf(id, 'memory', row));
  const unread = ratios.find(({ value }) => value === null || !parseReading('memory', value).ok);
  const amounts = rows.filter(({ series }) => series.is !== 'memory-ratio');
  const exporters = new Set(amounts.map(({ exporter }) => exporter));
  return [...(unread ? [unread] : ratios), ...[...exporters].map((each) => memoryShare(id, amounts, each))];
}

/**
 * used / (used + free) of the fullest part of a card, in whatever unit its exporter uses. The share of all parts
 * together is never above the fullest one's. Nothing used and nothing free is a partition that has no memory of its own.
 */
function memoryShare(id: string, rows: readonly GpuRow[], exporter: GpuExporter): RawReading {
  const parts = groupedBy(
    rows.filter((row) => row.exporter === exporter),
    ({ identity }) => identity.part,
  );
  let worst: RawReading | undefined;
  for (const [part, own] of parts) {
    const share = shareOf(id, exporter, part, {
      used: own.filter(({ series }) => series.is === 'memory-used'),
      free: own.filter(({ series }) => series.is === 'memory-free'),
      size: own.filter(({ series }) => series.is === 'memory-size'),
    });
    if (share === null) continue;
    if (share.value === null) return share;
    if (!worst || (worst.value ?? 0) < share.value) worst = share;
  }
  const none = `${exporter.exporter}: 0 used and 0 free`;
  return worst ?? { component: 'gpu', id, quantity: 'memory', value: null, cause: 'invalid', origin: none };
}

function shareOf(id: string, exporter: GpuExporter, part: string, memory: Memory): RawReading | null {
  const where = `${exporter.exporter} memory${part === '' ? '' : `, part ${part}`}`;
  const missing = (cause: MissingCause, why: string): RawReading => {
    return { component: 'gpu', id, quantity: 'memory', value: null, cause, origin: printable(`${where}: ${why}`) };
  };
  const [used, free, size] = [
    amountOf(memory.used, 'most'),
    amountOf(memory.free, 'least'),
    amountOf(memory.size, 'least'),
  ];
  for (const amount of [used, free]) if (amount && !amount.ok) return missing(amount.cause, amount.text);
  if (!used) return missing('no-sensor', 'what is used is not told');
  const rest = free ?? size;
  if (!rest) return missing('no-sensor', 'neither what is free nor the size is told');
  if (!rest.ok) return missing(rest.cause, rest.text);
  if (!used.ok) return missing(used.cause, used.text);
  const whole = free ? used.value + rest.value : rest.value;
  if (whole === 0) return used.value === 0 ? null : missing('invalid', `${used.value} used of 0`);
  const sampled = [...memory.used, ...(free ? memory.free : memory.size)].flatMap(
    ({ sampledAtMs }) => sampledAtMs ?? [],
  );
  const sampledAtMs = leastOf(sampled);
  const told = free ? `${used.value} used, ${rest.value} free` : `${used.value} of ${rest.value} used`;
  return {
    component: 'gpu',
    id,
    quantity: 'memory',
    value: used.value / whole,
    origin: printable(`${where}: ${told}`),
    ...(sampledAtMs !== undefined && { sampledAtMs }),
  };
}

/** The worst of repeated rows; `undefined` without any. An amount is a number from 0 to 2^50. */
function amountOf(rows: readonly GpuRow[], worst: 'most' | 'least'): Value | undefined {
  let found: Value | undefined;
  for (const { exporter, name, value, reason } of rows) {
    if (value === null) return { ok: false, cause: 'invalid', text: `${name}: ${reason ?? 'not read'}` };
    const cause = blankCountCause(exporter.blanks, value, true);
    if (cause) return { ok: false, cause, text: `${name}: ${value} stands for no value` };
    if (!(value >= 0 && value <= MOST_MEMORY)) return { ok: false, cause: 'invalid', text: `${name}: ${value}` };
    const isWorse = !found?.ok || (worst === 'most' ? value > found.value : value < found.value);
    if (isWorse) found = { ok: true, value };
  }
  return found;
}

const MOST_MEMORY = 2 ** 50;

function sightingOf(id: string, rows: readonly GpuRow[], memory: readonly RawReading[]): GpuSighting {
  const told = <Key extends 'uuid' | 'pciAddress' | 'name'>(key: Key): string | undefined => {
    // A further partition's UUID is not the card's.
    for (const { identity } of rows) {
      const value = identity[key];
      if (value !== undefined && (key !== 'uuid' || value === id)) return value;
    }
    return undefined;
  };
  const [uuid, pciAddress, name] = [told('uuid'), told('pciAddress'), told('name')];
  const pods = podsOf(rows);
  const isTold = memory.some(({ value }) => value !== null);
  const isUnified =
    !isTold && UNIFIED_MEMORY.test(name ?? '') && rows.some(({ series }) => series.is === 'temperature');
  return {
    id,
    ...(uuid !== undefined && { uuid }),
    ...(pciAddress !== undefined && { pciAddress }),
    ...(name !== undefined && { name }),
    vendor: rows[0]?.exporter.vendor ?? 'other',
    // These exporters serve cards; one that turns out to be integrated is outweighed by a source that can tell.
    required: true,
    ...(isUnified ? { unifiedMemory: true } : isTold && { unifiedMemory: false }),
    ...(pods.length > 0 && { pods }),
  };
}

/** Mostly one, and the same in each row. */
function podsOf(rows: readonly GpuRow[]): string[] {
  const pods = new Set<string>();
  for (const { pod } of rows) if (pod !== null) pods.add(pod);
  return [...pods].sort().slice(0, MOST_PODS);
}

/** The highest of a card's counters; partitions tell 0, which never moves. */
function witnessesOf(id: string, rows: readonly GpuRow[]): Witness[] {
  const counters = rows.filter(
    ({ exporter, value }) => value !== null && value > 0 && blankCountCause(exporter.blanks, value, false) === null,
  );
  const highest = counters.reduce<GpuRow | undefined>((a, b) => ((a?.value ?? 0) >= (b.value ?? 0) ? a : b), undefined);
  return highest ? [{ of: { gpu: id }, name: highest.name, value: highest.value ?? 0 }] : [];
}

/** What a card says of its own limits; of a slowdown temperature the lowest, in doubt. */
function limitsOf(id: string, rows: readonly GpuRow[]): HardwareLimits | null {
  const values = (fact: GpuSeries['is'], quantity: 'temperature' | 'power', standIn: boolean): number[] =>
    rows
      .filter(({ series }) => series.is === fact && (series.standIn === true) === standIn)
      .flatMap((row) => {
        const value = rowValue(row);
        return value.ok && parseReading(quantity, value.value).ok ? value.value : [];
      });
  const slowdownC = leastOf(values('slowdown-temperature', 'temperature', false));
  const [enforced = values('enforced-power-limit', 'power', true)[0]] = values('enforced-power-limit', 'power', false);
  const [byDefault] = values('default-power-limit', 'power', false);
  if (slowdownC === undefined && enforced === undefined && byDefault === undefined) return null;
  return {
    component: 'gpu',
    id,
    ...(slowdownC !== undefined && { slowdownC }),
    ...(enforced !== undefined && { enforcedPowerW: enforced }),
    ...(byDefault !== undefined && { defaultPowerW: byDefault }),
  };
}

function throttleReason(rows: readonly GpuRow[]): string | null {
  const throttle = hardwareThrottle(rows.reduce((bits, row) => bits | throttleBits(row), 0));
  return throttle === null ? null : `${throttle} (${rows[0]?.exporter.exporter} clock event reasons)`;
}

function throttleBits(row: GpuRow): number {
  const value = rowValue(row);
  if (!value.ok || !Number.isSafeInteger(value.value) || value.value < 0) return 0;
  if (row.series.is === 'hw-thermal-flag') return value.value === 1 ? HARDWARE_THERMAL_SLOWDOWN : 0;
  if (row.series.is === 'hw-power-brake-flag') return value.value === 1 ? HARDWARE_POWER_BRAKE : 0;
  // The mask may be wider than the 32 bits that `&` sees.
  return value.value % 256;
}

/**
 * Faults are told and never judged: the gauge keeps the last code until the driver is loaded again, long after the card
 * has recovered (dcgm-exporter#500). A card that is really lost has no readings.
 */
function faultNotes(id: string, rows: readonly GpuRow[]): string[] {
  const notes = rows.flatMap((row) => {
    const value = rowValue(row);
    if (!value.ok || !(value.value > 0) || !Number.isSafeInteger(value.value)) return [];
    if (row.series.is === 'wants-recovery') return `GPU ${id} asks for a reset (recovery action ${value.value})`;
    const code = row.series.is === 'xid' ? value.value : Number(row.xid ?? Number.NaN);
    const meaning = FATAL_XIDS.get(code);
    const what = `Xid ${Number.isNaN(code) ? '?' : code}${meaning === undefined ? '' : `, ${meaning}`}`;
    return row.series.is === 'xid' ? `GPU ${id}: last fault ${what}` : `GPU ${id}: ${value.value} faults ${what}`;
  });
  return [...new Set(notes.map(printable))];
}

/** Sharing pods and instances repeat a card's rows. Values are compared as numbers: as text they take longer than all else. */
function withoutRepeats(readings: readonly RawReading[]): readonly RawReading[] {
  if (new Set(readings.map(({ value }) => value)).size === readings.length) return readings;
  const told = new Map<number | null, Set<string>>();
  return readings.filter(({ quantity, value, cause, informational, sampledAtMs, origin }) => {
    const rest = `${quantity} ${cause} ${informational} ${sampledAtMs} ${value === null ? origin : ''}`;
    const same = told.get(value);
    if (same?.has(rest)) return false;
    if (same) same.add(rest);
    else told.set(value, new Set([rest]));
    return true;
  });
}
