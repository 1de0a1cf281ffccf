// Which charts a node has, and what each shows: lines, limits, range. Pure; charts.tsx draws them.
import { gpuName, lastLimitOf, limitText, valueText } from './readings.ts';
import { byName } from './text.ts';
import { columnKey, HOUR_SECONDS, type Timeline } from './timeline.ts';
import type { NodeStatus, ReadingStatus } from './wire.ts';

export interface Line {
  readonly key: string;
  readonly label: string;
}

export interface ChartPlan {
  readonly key: string;
  readonly title: string;
  readonly unit: ReadingStatus['unit'];
  readonly lines: readonly Line[];
  readonly warning: number | null;
  readonly last: number | null;
  /** A hard stop, or a maximum that may be reached. */
  readonly lastName: 'hard stop' | 'maximum';
}

const LEAST_WINDOW_SECONDS = 600;

const KINDS: readonly {
  readonly component: ReadingStatus['component'];
  readonly quantity: string;
  readonly title: string;
}[] = [
  { component: 'gpu', quantity: 'temperature', title: 'GPU temperature' },
  { component: 'gpu', quantity: 'power', title: 'GPU power' },
  { component: 'cpu', quantity: 'temperature', title: 'CPU temperature' },
  { component: 'system', quantity: 'total-power', title: 'Total power' },
  { component: 'gpu', quantity: 'memory', title: 'GPU memory' },
  { component: 'memory', quantity: 'memory', title: 'Memory' },
  { component: 'cpu', quantity: 'utilization', title: 'CPU load' },
];

/** More lines than this cannot be told apart: the ones nearest to their limit are shown. */
const MOST_LINES = 8;

/** The charts of a node, those that matter most first; one without a single reading is left out. */
export function chartPlans(node: NodeStatus, timeline: Timeline): ChartPlan[] {
  return KINDS.flatMap(({ component, quantity, title }): ChartPlan[] => {
    const readings = node.readings.filter(
      (one) => one.component === component && one.quantity === quantity && !one.informational,
    );
    const lines = new Map<string, Line>();
    for (const { id, value } of [...readings].sort((a, b) => (b.value ?? 0) - (a.value ?? 0))) {
      const key = columnKey(component, id, quantity);
      if (value === undefined && !timeline.columns.has(key)) continue;
      if (lines.size < MOST_LINES)
        lines.set(key, { key, label: id === undefined ? title : gpuLabel(component, id, node) });
    }
    if (lines.size === 0) return [];
    // Cards may have limits of their own; the lowest is drawn.
    const lowest = (values: readonly (number | null | undefined)[]): number | null => {
      const told = values.filter((value) => value !== null && value !== undefined);
      return told.length === 0 ? null : Math.min(...told);
    };
    return [
      {
        key: `${component}/${quantity}`,
        title,
        unit: readings[0]?.unit ?? 'ratio',
        lines: [...lines.values()].sort((a, b) => byName(a.label, b.label)),
        warning: lowest(readings.map(({ limits }) => limits?.warning)),
        last: lowest(readings.map(lastLimitOf)),
        lastName: readings.some(({ limits }) => limits?.hardStop !== undefined) ? 'hard stop' : 'maximum',
      },
    ];
  });
}

const gpuLabel = (component: string, id: string, node: NodeStatus): string =>
  component === 'gpu' ? gpuName(id, node.gpus) : id;

/** From the lowest value to just above the last limit, so that the way to it is seen; wider where something is beyond. */
export function rangeOf({ last, unit, lines }: ChartPlan, { columns }: Timeline): readonly [number, number] {
  let low = Number.POSITIVE_INFINITY;
  let high = last ?? 0;
  for (const { key } of lines) {
    for (const value of columns.get(key) ?? []) {
      if (value === null) continue;
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
  }
  const floor = unit === '°C' ? Math.max(0, Math.floor((Math.min(low, high) - 5) / 10) * 10) : 0;
  return [Number.isFinite(low) ? floor : 0, high + (high - (Number.isFinite(floor) ? floor : 0)) * 0.16];
}

/** The left edge: an hour back, or nearer where less has been seen, so that a page just opened does not show a void. */
export function startOf({ at }: Timeline, endSeconds: number): number {
  const seenSeconds = endSeconds - (at[0] ?? endSeconds);
  return endSeconds - Math.min(HOUR_SECONDS, Math.max(LEAST_WINDOW_SECONDS, seenSeconds));
}

/** The highest of the newest figures: `71.2 °C`, `at most 71.2 °C` of several. */
export function newestText({ lines, unit }: ChartPlan, { columns }: Timeline): string {
  const newest = lines.flatMap(({ key }) => columns.get(key)?.at(-1) ?? []);
  if (newest.length === 0) return 'no figure now';
  return `${newest.length > 1 ? 'at most ' : ''}${valueText(Math.max(...newest), unit)}`;
}

/** What a chart shows, in words, for those who cannot see it. */
export function chartWords({ title, unit, lines, warning, last, lastName }: ChartPlan, { columns }: Timeline): string {
  const values = lines.flatMap(({ key }) => columns.get(key) ?? []).filter((value) => value !== null);
  if (values.length === 0) return `${title}: nothing was measured in the last hour.`;
  const newest = lines.flatMap(({ key }) => columns.get(key)?.findLast((value) => value !== null) ?? []);
  const limits = [
    warning === null ? '' : `warning at ${limitText(warning, unit)}`,
    last === null ? '' : `${lastName} at ${limitText(last, unit)}`,
  ];
  const told = [
    `now at most ${valueText(Math.max(...newest), unit)}`,
    `highest ${valueText(Math.max(...values), unit)}`,
  ];
  return `${title} over the last hour: ${[...told, ...limits].filter(Boolean).join(', ')}.`;
}
