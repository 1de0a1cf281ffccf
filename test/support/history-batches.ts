// Batches as the service hands them to the history's store, and questions to it.
import type { Batch, HistoryQuery, Layout, Series, StoreBounds } from '../../src/history/records.ts';

/** A round moment: the beginning of an hour. */
export const START_MS = Date.UTC(2026, 0, 1, 12);
export const TICK_MS = 10_000;
export const HOUR_MS = 3_600_000;
export const BOUNDS: StoreBounds = { keepMs: 24 * HOUR_MS, maxBytes: 2 ** 30, intervalMs: TICK_MS, simulated: false };

export const GPU: Series = {
  component: 'gpu',
  id: 'GPU-a',
  quantity: 'temperature',
  unit: '°C',
  warning: 80,
  hardStop: 85,
};
export const CPU: Series = { component: 'cpu', quantity: 'utilization', unit: 'ratio', max: 0.8 };

export const layoutOf = (id: number, node: string, series: readonly Series[] = [GPU]): Layout => ({ id, node, series });

/** What one tick saw: for each node the id of its layout and its numbers. */
export function tickAt(
  atMs: number,
  nodes: readonly { readonly layout: number; readonly values: readonly number[]; readonly margin?: number }[],
  more: Partial<Batch> & { readonly severity?: number } = {},
): Batch {
  const { severity = 0, ...rest } = more;
  const figures = {
    atMs,
    severity,
    layouts: Uint32Array.from(nodes, ({ layout }) => layout),
    severities: Uint8Array.from(nodes, () => severity),
    margins: Float32Array.from(nodes, ({ margin = 0.5 }) => margin),
    values: Float32Array.from(nodes.flatMap(({ values }) => values)),
  };
  return { atMs, layouts: [], forgotten: [], figures: [figures], events: [], open: [], ...rest };
}

/** A question about a stretch, by default of the node `n`. */
export const between = (fromMs: number, toMs: number, node: string | null = 'n'): HistoryQuery => ({
  fromMs,
  toMs,
  node,
  isKnown: true,
});
