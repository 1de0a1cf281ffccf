// One card as a row of nvidia-smi tells it: which card it is, its readings, its own limits, and whether its hardware
// slows it down. A cell holds a number or words: words for "this card cannot tell" make a reading not supported, all
// others are a fault of the card. A number is taken from plain digits only, since Number('') is 0 and a card at 0 °C
// looks cool. What is physically possible is judged in domain/reading.ts; finding the rows in the output is
// nvidia-smi-output.ts.
import {
  canonicalGpuUuid,
  canonicalPciAddress,
  type GpuSighting,
  type HardwareLimits,
  type MissingCause,
  type RawReading,
} from '../domain/reading.ts';

/**
 * What every driver of the last ten years can be asked. Identity comes first, so that a row garbled further on (a
 * decimal comma adds columns) still tells whose it is.
 */
export const CORE_FIELDS = [
  'index',
  'uuid',
  'pci.bus_id',
  'name',
  'temperature.gpu',
  'power.draw',
  'memory.used',
  'memory.free',
] as const;

/**
 * The first question. Beyond the core: the average power's instant twin, the card's own limits, and what is only shown.
 * Nobody asks memory.total and memory.reserved: the share counts against what a workload can get, used + free.
 */
export const ALL_FIELDS: readonly string[] = [
  ...CORE_FIELDS,
  'power.draw.instant',
  'enforced.power.limit',
  'power.default_limit',
  'temperature.memory',
  'temperature.gpu.tlimit',
  'utilization.gpu',
  'mig.mode.current',
  'clocks_event_reasons.active',
];

/** Names that drivers used to know a field by: before 535, clocks were "throttled". */
const OLDER_NAME = new Map([['clocks_event_reasons.active', 'clocks_throttle_reasons.active']]);

/** One card of an answer: its three required readings, each there or missing with a cause, and what else it tells. */
export interface Card {
  readonly sighting: GpuSighting;
  readonly readings: readonly RawReading[];
  /** Power limits; its own temperature limits are asked for separately. */
  readonly limits: HardwareLimits;
  /** The hardware slows the card down for this reason: heat, or an outside power brake. */
  readonly throttle?: string;
}

/** What to ask a driver that refused `rejected`: its older name or nothing in its place; the core, if it is no use. */
export function withoutField(fields: readonly string[], rejected: string | undefined): readonly string[] {
  if (rejected === undefined || !fields.includes(rejected) || isCore(rejected)) return CORE_FIELDS;
  const older = OLDER_NAME.get(rejected);
  return fields.flatMap((field) => (field !== rejected ? field : older === undefined ? [] : older));
}

const isCore = (field: string): boolean => CORE_FIELDS.some((core) => core === field);

/**
 * The card of one row, or null where the row does not tell which card it is. A row with another number of cells than
 * fields were asked is invalid as a whole: nobody knows which cell is which.
 *
 * @param cells trimmed, in the order of `fields`, which begin with {@link CORE_FIELDS}
 */
export function cardOfRow(cells: readonly string[], fields: readonly string[]): Card | null {
  const [index = '', uuid = '', bus = '', name = ''] = cells;
  const sighting = sightingOf(uuid, bus, name);
  if (!sighting) return null;
  if (cells.length !== fields.length) {
    const text = `GPU ${index}: ${cells.length} cells for ${fields.length} fields: ${cells.slice(4).join(', ')}`;
    return unreadCard(sighting, 'invalid', text);
  }
  const cellOf = (field: string): Cell => parseCell(cells[fields.indexOf(field)] ?? '');
  const row: Row = { id: sighting.id, index, cellOf };
  const memory = memoryReading(row);
  const unified = isUnifiedMemory(row);
  const throttle = throttleReason(cellOf(fields.find((field) => field.endsWith('_reasons.active')) ?? ''));
  return {
    sighting: {
      ...sighting,
      ...(unified ? { unifiedMemory: true } : memory.value !== null && { unifiedMemory: false }),
    },
    readings: [temperatureReading(row), powerReading(row), memory, ...shownReadings(row)],
    limits: powerLimits(row),
    ...(throttle !== undefined && { throttle }),
  };
}

/** A card that is there and tells nothing, for the reason `text`. */
export function unreadCard(sighting: GpuSighting, cause: MissingCause, text: string): Card {
  const { id } = sighting;
  const origin = printable(text);
  return {
    sighting,
    readings: (['temperature', 'power', 'memory'] as const).map((quantity) => ({
      component: 'gpu',
      id,
      quantity,
      value: null,
      cause,
      origin,
    })),
    limits: { component: 'gpu', id },
  };
}

/** A card of which only its place on the bus is known; `address` is canonical. */
export function sightingAt(address: string): GpuSighting {
  return { id: address, pciAddress: address, vendor: 'nvidia', required: true };
}

/** A tool's words as one short line: at most 120 printable characters. */
export function printable(text: string): string {
  const line = text
    .replace(/[^\x20-\x7e°]+/g, ' ')
    .replace(/ {2,}/g, ' ')
    .trim();
  return line.length > 120 ? `${line.slice(0, 117)}...` : line;
}

interface Row {
  readonly id: string;
  /** Only for people: numbers move between boots and tools. */
  readonly index: string;
  /** A field that was not asked for is an empty cell. */
  cellOf(field: string): Cell;
}

type Cell =
  | { readonly kind: 'number'; readonly value: number; readonly text: string }
  | { readonly kind: 'absent'; readonly cause: MissingCause; readonly text: string };

/** What the tool says, with or without brackets, where a card or driver has no such thing. */
const NOT_SUPPORTED = new Set([
  '',
  'n/a',
  'not supported',
  'requested functionality has been deprecated',
  'insufficient permissions',
  'function not found',
]);

/** Sound words are a fault of the card: `[Unknown Error]`, `[GPU requires reset]`, `[GPU is lost]`, `ERR!`. */
function parseCell(text: string): Cell {
  if (/^-?\d{1,12}(\.\d{1,12})?$/.test(text)) return { kind: 'number', value: Number(text), text };
  if (NOT_SUPPORTED.has(withoutBrackets(text))) return { kind: 'absent', cause: 'not-supported', text };
  const looksLikeNumber = /^[[+-]?(\.?\d|nan|inf)/i.test(text);
  return { kind: 'absent', cause: looksLikeNumber ? 'invalid' : 'unreadable', text };
}

const withoutBrackets = (text: string): string => text.replace(/^\[(.*)\]$/, '$1').toLowerCase();

function sightingOf(uuidCell: string, busCell: string, nameCell: string): GpuSighting | null {
  const uuid = /^GPU-[0-9a-f-]{4,60}$/i.test(uuidCell) ? canonicalGpuUuid(uuidCell) : undefined;
  const pciAddress = canonicalPciAddress(busCell) ?? undefined;
  const id = uuid ?? pciAddress;
  if (id === undefined) return null;
  const isName = /^[a-z0-9]/i.test(nameCell) && !NOT_SUPPORTED.has(nameCell.toLowerCase()) && nameCell !== 'ERR!';
  return {
    id,
    ...(uuid !== undefined && { uuid }),
    ...(pciAddress !== undefined && { pciAddress }),
    ...(isName && { name: printable(nameCell) }),
    vendor: 'nvidia',
    required: true,
  };
}

function reading(row: Row, quantity: RawReading['quantity'], field: string, cell: Cell, aside = ''): RawReading {
  const what = { component: 'gpu', id: row.id, quantity } as const;
  const origin = `GPU ${row.index} ${field}${aside}`;
  return cell.kind === 'number'
    ? { ...what, value: cell.value, origin: printable(origin) }
    : { ...what, value: null, cause: cell.cause, origin: printable(`${origin}: ${cell.text || 'nothing'}`) };
}

/** T.Limit is a distance, degrees left until the card slows down, and no temperature: it is only put into words. */
function temperatureReading(row: Row): RawReading {
  const distance = row.cellOf('temperature.gpu.tlimit');
  const aside = distance.kind === 'number' ? ` (T.Limit: ${distance.text} °C left)` : '';
  return reading(row, 'temperature', 'temperature.gpu', row.cellOf('temperature.gpu'), aside);
}

/**
 * power.draw: on Ampere and newer the average over a second. Cards without it that tell the instant are judged by that;
 * a card that *fails* to tell it is not.
 */
function powerReading(row: Row): RawReading {
  const draw = row.cellOf('power.draw');
  const instant = row.cellOf('power.draw.instant');
  if (draw.kind === 'absent' && draw.cause === 'not-supported' && instant.kind === 'number') {
    return reading(row, 'power', 'power.draw.instant', instant, ` (power.draw: ${draw.text || 'nothing'})`);
  }
  return reading(row, 'power', 'power.draw', draw);
}

/** used / (used + free): reserved memory is in neither, and no workload can get it. */
function memoryReading(row: Row): RawReading {
  const [used, free] = [row.cellOf('memory.used'), row.cellOf('memory.free')];
  if (used.kind === 'absent') return reading(row, 'memory', 'memory.used', used);
  if (free.kind === 'absent') return reading(row, 'memory', 'memory.free', free);
  const origin = `GPU ${row.index} memory.used, memory.free: ${used.text} and ${free.text} MiB`;
  const what = { component: 'gpu', id: row.id, quantity: 'memory' } as const;
  return used.value < 0 || free.value < 0 || used.value + free.value === 0
    ? { ...what, value: null, cause: 'invalid', origin }
    : { ...what, value: used.value / (used.value + free.value), origin };
}

/**
 * GB10 and its like answer `[N/A]` to all questions of memory and give a temperature. Older cards that cannot tell say
 * `[Not Supported]` and do have memory of their own; so has a card that is split up (MIG).
 */
function isUnifiedMemory(row: Row): boolean {
  const isNone = (cell: Cell): boolean => cell.kind === 'absent' && withoutBrackets(cell.text) === 'n/a';
  return (
    isNone(row.cellOf('memory.used')) &&
    isNone(row.cellOf('memory.free')) &&
    row.cellOf('temperature.gpu').kind === 'number' &&
    row.cellOf('mig.mode.current').text.toLowerCase() !== 'enabled'
  );
}

/** Shown where the card tells them, never judged. Utilisation is not told while MIG is on. */
function shownReadings(row: Row): RawReading[] {
  const shown: RawReading[] = [];
  const show = (quantity: RawReading['quantity'], field: string, perUnit: number): void => {
    const cell = row.cellOf(field);
    if (cell.kind !== 'number') return;
    shown.push({ ...reading(row, quantity, field, cell), value: cell.value / perUnit, informational: true });
  };
  show('power', 'power.draw.instant', 1);
  show('temperature', 'temperature.memory', 1);
  show('utilization', 'utilization.gpu', 100);
  return shown;
}

function powerLimits(row: Row): HardwareLimits {
  const [enforced, byDefault] = [row.cellOf('enforced.power.limit'), row.cellOf('power.default_limit')];
  return {
    component: 'gpu',
    id: row.id,
    ...(enforced.kind === 'number' && enforced.value > 0 && { enforcedPowerW: enforced.value }),
    ...(byDefault.kind === 'number' && byDefault.value > 0 && { defaultPowerW: byDefault.value }),
  };
}

/** Bits of NVML's clock event reasons. The others (idle, power cap, software slowdown) are normal under load. */
export const HARDWARE_THERMAL_SLOWDOWN = 0x40;
export const HARDWARE_POWER_BRAKE = 0x80;

/** Which of the two are set, in words; `null` where neither is. The mask has 64 bits, and both of ours lie in its last byte. */
export function hardwareThrottle(lastByte: number): string | null {
  const reasons = [
    ...(lastByte & HARDWARE_THERMAL_SLOWDOWN ? ['HW thermal slowdown'] : []),
    ...(lastByte & HARDWARE_POWER_BRAKE ? ['HW power brake'] : []),
  ];
  return reasons.length === 0 ? null : reasons.join(' and ');
}

function throttleReason({ text }: Cell): string | undefined {
  const lastByte = /^0x[0-9a-f]{0,14}([0-9a-f]{2})$/i.exec(text)?.[1];
  if (lastByte === undefined) return undefined;
  const throttle = hardwareThrottle(Number.parseInt(lastByte, 16));
  return throttle === null ? undefined : `${throttle} (clock event reasons ${text})`;
}
