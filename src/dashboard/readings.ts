// A node's readings as people look at them: part by part, each with how near its limit it is, and nodes in the order in
// which they want attention. Pure.
import { byName } from './text.ts';
import type { NodeStatus, ReadingStatus, SafetyResult, Status, WorstMargin } from './wire.ts';

/** How a reading stands; in ascending order of attention. */
export const LEVELS = ['none', 'ok', 'near', 'missing', 'warning', 'stop'] as const;
export type Level = (typeof LEVELS)[number];

/** From this share of its hard stop or maximum on, a reading that is still in order is called near. */
const NEAR_RATIO = 0.9;

/** The limit that may not be passed: the hard stop, or the maximum where there is none; `null` without limits. */
export const lastLimitOf = ({ limits }: ReadingStatus): number | null => limits?.hardStop ?? limits?.max ?? null;

/** Share of the way to the last limit that is gone: 0 far, 1 at it, above 1 beyond; `null` where it cannot be told. */
export function nearnessOf(reading: ReadingStatus): number | null {
  const limit = lastLimitOf(reading);
  return reading.value === undefined || limit === null || reading.informational ? null : reading.value / limit;
}

/** Where a reading stands against its limits. */
export function levelOf(reading: ReadingStatus): Level {
  const { value, limits, required, informational } = reading;
  if (informational) return 'none';
  if (value === undefined) return required ? 'missing' : 'none';
  if (limits === undefined) return 'none';
  if (limits.hardStop !== undefined && value >= limits.hardStop) return 'stop';
  if (limits.warning !== undefined && value >= limits.warning) return 'warning';
  if (limits.max !== undefined && value > limits.max) return 'warning';
  return (nearnessOf(reading) ?? 0) >= NEAR_RATIO ? 'near' : 'ok';
}

export const worseLevel = (a: Level, b: Level): Level => (LEVELS.indexOf(a) >= LEVELS.indexOf(b) ? a : b);

/** `71.2 °C`, `184 W`, `41 %`. */
export function valueText(value: number, unit: ReadingStatus['unit']): string {
  if (unit === 'ratio') return `${Math.round(value * 100)} %`;
  return unit === '°C' ? `${value.toFixed(1)} °C` : `${Math.round(value)} W`;
}

/** A limit, as it is written: `85 °C`, `82.5 °C`, `80 %`. */
export function limitText(value: number, unit: ReadingStatus['unit']): string {
  return unit === 'ratio' ? `${Math.round(value * 1000) / 10} %` : `${value} ${unit}`;
}

/** A card by its slot, as it is found in the case; by the start of its UUID where nobody tells. */
export function gpuName(id: string, gpus: NodeStatus['gpus']): string {
  const slot = gpus.find((gpu) => gpu.id === id)?.pciAddress;
  return slot === undefined ? id.replace(/^(GPU-[0-9a-f]{8})-.*$/, '$1') : slot.replace(/^0000:/, '');
}

const PART_NAMES = { gpu: 'GPU', cpu: 'CPU', memory: '', system: '' } as const;
const QUANTITY_NAMES: Readonly<Record<string, string>> = {
  temperature: 'temperature',
  power: 'power',
  memory: 'memory',
  utilization: 'load',
  'total-power': 'total power',
};

/** `temperature`, `load`; what a reading measures. */
export const quantityName = (quantity: string): string => QUANTITY_NAMES[quantity] ?? quantity;

/** `GPU 0b:00.0 temperature`, `CPU load`, `memory`, `total power`. */
export function nameOf(
  { component, id, quantity }: Pick<ReadingStatus, 'component' | 'id' | 'quantity'>,
  gpus: NodeStatus['gpus'],
): string {
  const device = component === 'gpu' && id !== undefined ? gpuName(id, gpus) : '';
  return [PART_NAMES[component], device, quantityName(quantity)].filter(Boolean).join(' ');
}

/** A part of a machine: one card, the CPU, or the rest of it. */
export interface Part {
  readonly key: string;
  readonly title: string;
  readonly subtitle: string;
  /** What this service judges and shows, in a fixed order. */
  readonly readings: readonly ReadingStatus[];
}

const ORDER = ['temperature', 'power', 'total-power', 'utilization', 'memory'];
const byQuantity = (a: ReadingStatus, b: ReadingStatus): number =>
  ORDER.indexOf(a.quantity) - ORDER.indexOf(b.quantity);

/** Of several on one quantity (a mean of cores beside the package) the one that is judged, else the first. */
function judgedOf(readings: readonly ReadingStatus[]): ReadingStatus[] {
  const found = new Map<string, ReadingStatus>();
  for (const reading of readings) {
    const other = found.get(reading.quantity);
    const isBetter =
      !other ||
      (other.informational && !reading.informational) ||
      (!reading.informational && (nearnessOf(reading) ?? 0) > (nearnessOf(other) ?? 0));
    if (isBetter) found.set(reading.quantity, reading);
  }
  return [...found.values()].sort(byQuantity);
}

/** The parts of a node: every card in the order of its slots, then the CPU, then memory and power of the whole. */
export function partsOf({ readings, gpus }: Pick<NodeStatus, 'readings' | 'gpus'>): Part[] {
  const of = (component: ReadingStatus['component'], id?: string): ReadingStatus[] =>
    readings.filter((one) => one.component === component && (id === undefined || one.id === id));
  const ids = new Set([...gpus.map(({ id }) => id), ...of('gpu').flatMap(({ id }) => id ?? [])]);
  const cards = [...ids].map((id): Part => {
    const gpu = gpus.find((one) => one.id === id);
    const state = gpu?.ignored ? 'ignored' : gpu && !gpu.listed ? 'gone' : gpu && !gpu.required ? 'not required' : '';
    return {
      key: id,
      title: `GPU ${gpuName(id, gpus)}`,
      subtitle: [gpu?.name, state].filter(Boolean).join(', '),
      readings: judgedOf(of('gpu', id)).filter(({ quantity }) => quantity !== 'utilization'),
    };
  });
  cards.sort((a, b) => byName(a.title, b.title));
  const cpu: Part = { key: 'cpu', title: 'CPU', subtitle: '', readings: judgedOf(of('cpu')).filter(isShownOfCpu) };
  const whole: Part = {
    key: 'whole',
    title: 'Machine',
    subtitle: '',
    readings: [...judgedOf(of('system')), ...judgedOf(of('memory'))],
  };
  return [...cards, cpu, whole].filter((part) => part.readings.length > 0);
}

const isShownOfCpu = ({ quantity }: ReadingStatus): boolean => quantity === 'temperature' || quantity === 'utilization';

/** A node in a list: how it stands, and its reading that is nearest to a limit. */
export interface NodeSummary {
  readonly node: string;
  readonly state: NodeStatus['interlock'];
  readonly level: Level;
  /** Of its nearest reading; `null` where nothing can be judged. */
  readonly nearness: number | null;
  /** `GPU 71.2 °C`. */
  readonly nearest: string;
  /** Why it wants attention; empty while all is well. */
  readonly trouble: string;
  readonly isLive: boolean;
}

/**
 * Every node, the ones that want attention first. The newest evaluation corrects what the last status said, since it
 * comes first.
 */
export function summariesOf(status: Status, result: SafetyResult, margins: readonly WorstMargin[]): NodeSummary[] {
  const marginOf = new Map(margins.map((margin) => [margin.node, margin]));
  const troubles = new Map<string, { readonly level: Level; readonly message: string }>();
  for (const { node, level, message, component } of result.findings) {
    if (node === undefined || level === 'refusal' || component === 'interlock' || troubles.has(node)) continue;
    troubles.set(node, { level: FINDING_LEVELS[level], message });
  }
  const isCut = result.findingsTotal > result.findings.length;
  const isAllTripped = result.interlock.state === 'tripped' && Object.keys(result.interlock.nodes).length === 0;
  const summaries = status.nodes.map((node): NodeSummary => {
    const trouble = troubles.get(node.node);
    const margin = marginOf.get(node.node);
    const nearness = margin ? 1 - margin.marginRatio : null;
    let level = trouble?.level ?? (nearness === null ? 'none' : nearness >= NEAR_RATIO ? 'near' : 'ok');
    // Only the worst findings are told; of the other nodes the status knows, though it may be older.
    if (isCut) for (const reading of node.readings) level = worseLevel(level, levelOf(reading));
    return {
      node: node.node,
      state: isAllTripped ? 'tripped' : (result.interlock.nodes[node.node] ?? 'clear'),
      level,
      nearness,
      nearest: margin ? `${shortName(margin)} ${valueText(margin.value, margin.unit)}` : 'nothing is read',
      trouble: trouble?.message ?? '',
      isLive: node.live,
    };
  });
  return summaries.sort((a, b) => rankOf(b) - rankOf(a) || byName(a.node, b.node));
}

const FINDING_LEVELS = { warning: 'warning', critical: 'stop', missing: 'missing' } as const;
const STATE_RANKS = { clear: 0, cooling: 1, tripped: 2 } as const;

/** In steps, so that tiles of like nodes do not change places all the time. */
function rankOf({ level, state, nearness }: NodeSummary): number {
  const attention = Math.max(STATE_RANKS[state] * 2, LEVELS.indexOf(level) - 1);
  return attention * 100 + Math.floor(Math.min(nearness ?? 1.2, 1.2) * 20);
}

function shortName({ component, quantity }: WorstMargin): string {
  if (quantity === 'total-power') return 'total';
  if (component === 'memory') return 'memory';
  const part = component === 'gpu' ? 'GPU' : 'CPU';
  return quantity === 'memory' ? `${part} mem` : part;
}

/** The reading of all nodes that is nearest to a limit, with the value that the newest evaluation saw. */
export function nearestReading(
  nodes: readonly NodeStatus[],
  margins: readonly WorstMargin[],
): { readonly node: NodeStatus; readonly reading: ReadingStatus } | null {
  let worst: WorstMargin | null = null;
  for (const margin of margins) if (!worst || margin.marginRatio < worst.marginRatio) worst = margin;
  const node = worst && nodes.find((one) => one.node === worst.node);
  const reading = node?.readings.find(
    ({ component, id, quantity, informational }) =>
      component === worst?.component && id === worst.id && quantity === worst.quantity && !informational,
  );
  return worst && node && reading ? { node, reading: { ...reading, value: worst.value } } : null;
}
