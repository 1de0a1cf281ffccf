// The part of the metrics that grows with the cluster: each node, its readings with their limits, and its sources. Told
// in slices, since a thousand nodes with eight GPUs each are over a hundred thousand series.
import type { Now } from '../clock.ts';
import { isLive } from '../domain/lease-places.ts';
import type { InterlockView } from '../domain/result.ts';
import type { NodeState, SafetyState } from '../domain/state.ts';
import { interlockOf, interlockOfNode } from './estop-view.ts';
import type { ScrapeRegistry } from './scrape-registry.ts';
import { type ReadingStatus, readingStatusesOf } from './status-view.ts';

/** Nodes told in one go, some 25 ms of the loop with eight GPUs each; then other requests get their turn. */
const SLICE = 20;
const INTERLOCK_STATES = ['clear', 'cooling', 'tripped'] as const;
/** Limits as they are called in the label. */
const LIMIT_NAMES = { warning: 'warning', hardStop: 'hard-stop', max: 'maximum' } as const;

export async function tellNodes(
  out: ScrapeRegistry,
  state: SafetyState,
  { now, pause }: { readonly now: Now; readonly pause: () => Promise<void> },
): Promise<void> {
  const interlock = interlockOf(state);
  out.tell('vsf_safety_nodes', {}, state.nodes.size);
  let told = 0;
  for (const node of state.nodes.values()) {
    tellNode(out, state, interlock, node);
    tellReadings(out, node.watch.node, readingStatusesOf(state, node, now));
    tellSources(out, node, now);
    told += 1;
    if (told % SLICE > 0) continue;
    await out.write();
    await pause();
  }
}

function tellNode(out: ScrapeRegistry, state: SafetyState, interlock: InterlockView, node: NodeState): void {
  const name = node.watch.node;
  const own = interlockOfNode(interlock, state, name);
  for (const one of INTERLOCK_STATES) {
    out.tell('vsf_safety_node_interlock', { node: name, state: one }, own === one ? 1 : 0);
  }
  out.tell('vsf_safety_node_live', { node: name }, isLive(state, name) ? 1 : 0);
  const unprotected = new Map<string, number>();
  for (const { code } of node.unprotected) unprotected.set(code, (unprotected.get(code) ?? 0) + 1);
  for (const [code, count] of unprotected) out.tell('vsf_safety_node_unprotected', { node: name, code }, count);
}

function tellReadings(out: ScrapeRegistry, node: string, readings: readonly ReadingStatus[]): void {
  const margins = new Map<string, number>();
  for (const reading of readings) {
    if (reading.informational) continue;
    const { component, id = '', quantity, limits = {} } = reading;
    const labels = { node, component, id, quantity };
    if (reading.missing !== undefined && reading.required) {
      out.tell('vsf_safety_reading_missing', { ...labels, cause: reading.missing }, 1);
    }
    if (reading.value === undefined) continue;
    out.tell('vsf_safety_reading', labels, reading.value);
    out.tell('vsf_safety_reading_age_seconds', labels, reading.ageSeconds ?? 0);
    for (const key of ['warning', 'hardStop', 'max'] as const) {
      const limit = limits[key];
      if (limit !== undefined) out.tell('vsf_safety_reading_limit', { ...labels, limit: LIMIT_NAMES[key] }, limit);
    }
    const hard = limits.hardStop ?? limits.max;
    if (hard === undefined) continue;
    margins.set(quantity, Math.min(margins.get(quantity) ?? Infinity, (hard - reading.value) / hard));
  }
  // One for each quantity, not for each reading: which card it is, the readings tell.
  for (const [quantity, margin] of margins) out.tell('vsf_safety_node_margin_ratio', { node, quantity }, margin);
}

function tellSources(out: ScrapeRegistry, { watch }: NodeState, now: Now): void {
  for (const { source, failure, lastReport, lastAnswer, rejectedLines } of watch.sources.values()) {
    const labels = { node: watch.node, source };
    out.tell('vsf_safety_source_up', labels, failure ? 0 : 1);
    const ageMs = lastAnswer ? Math.max(0, now.elapsedMs - lastAnswer.finishedAtMs) : null;
    out.tell('vsf_safety_source_age_seconds', labels, ageMs === null ? null : ageMs / 1000);
    const { scrape } = lastReport;
    if (scrape) out.tell('vsf_safety_source_latency_seconds', labels, scrape.tookMs / 1000);
    const aheadMs = scrape?.sourceWallAheadMs ?? null;
    out.tell('vsf_safety_source_clock_ahead_seconds', labels, aheadMs === null ? null : aheadMs / 1000);
    if (scrape || rejectedLines > 0) out.tell('vsf_safety_source_rejected_lines_total', labels, rejectedLines);
  }
}
