// A node whose clock is wrong: told once, refused never. Ages are taken against the source's own time, so that a wrong
// clock makes no reading old or young; but its logs, its certificates and its leases are somebody's next puzzle.
import type { SourceReport } from './reading.ts';
import type { Step } from './step.ts';

/** A source's wall clock this far off ours is worth telling; the same as what a stamp may be ahead. */
const SKEW_FROM_MS = 5_000;
/** Right again only well below, so that a clock at the edge is not told of at every look. */
const RIGHT_BELOW_MS = 3_000;

/** Tells of nodes whose clock was found wrong, or right again, by what their sources say of the time. */
export function tellClockSkew(step: Step, reports: readonly SourceReport[]): void {
  for (const { node, outcome, scrape } of reports) {
    const aheadMs = scrape?.sourceWallAheadMs;
    if (outcome.kind === 'failed' || aheadMs === undefined || aheadMs === null) continue;
    const wasSkewed = step.state.skewedNodes.has(node);
    const isSkewed = Math.abs(aheadMs) > (wasSkewed ? RIGHT_BELOW_MS : SKEW_FROM_MS);
    if (isSkewed === wasSkewed) continue;
    const skewedNodes = new Set(step.state.skewedNodes);
    if (isSkewed) skewedNodes.add(node);
    else skewedNodes.delete(node);
    step.change({ skewedNodes });
    const offS = Math.round(Math.abs(aheadMs) / 1000);
    const message = isSkewed
      ? `The clock of ${node} is ${offS} s ${aheadMs > 0 ? 'ahead of' : 'behind'} ours; ages are taken by its own time`
      : `The clock of ${node} is right again`;
    step.tell({ name: 'clock-skew', node, message }, isSkewed ? 'warn' : 'info');
  }
}
