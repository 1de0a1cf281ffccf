// A node whose clock is wrong: told once, refused never. Ages are taken against the source's own time, so that a wrong
// clock makes no reading old or young; but its logs, its certificates and its leases are somebody's next puzzle. Sources of
// one node may differ, as where one sends only the `Date` of a proxy: a clock is wrong until whoever told so tells otherwise.
import { groupedBy } from './collections.ts';
import type { SourceReport } from './reading.ts';
import type { Step } from './step.ts';

/** A source's wall clock this far off ours is worth telling; the same as what a stamp may be ahead. */
const SKEW_FROM_MS = 5_000;
/** Right again only well below, so that a clock at the edge is not told of at every look. */
const RIGHT_BELOW_MS = 3_000;

const NO_SOURCES: ReadonlySet<string> = new Set();

/** Tells of nodes whose clock was found wrong, or right again, by what their sources say of the time. */
export function tellClockSkew(step: Step, reports: readonly SourceReport[]): void {
  const mayMatter = (report: SourceReport): boolean => {
    const aheadMs = aheadOf(report);
    return aheadMs !== null && (Math.abs(aheadMs) > SKEW_FROM_MS || step.state.skewedClocks.has(report.node));
  };
  for (const [node, told] of groupedBy(reports.filter(mayMatter), (report) => report.node)) settle(step, node, told);
}

/** How far a source says its clock is ahead of ours, ms; `null` where it says nothing of the time. */
function aheadOf({ outcome, scrape }: SourceReport): number | null {
  return outcome.kind === 'failed' ? null : (scrape?.sourceWallAheadMs ?? null);
}

function settle(step: Step, node: string, told: readonly SourceReport[]): void {
  const before = step.state.skewedClocks.get(node) ?? NO_SOURCES;
  const watched = step.state.nodes.get(node)?.watch.sources;
  // One that is off the list tells nothing any more.
  const after = new Set([...before].filter((source) => watched?.has(source)));
  let worstMs = 0;
  for (const report of told) {
    const { source } = report;
    const aheadMs = aheadOf(report) ?? 0;
    if (Math.abs(aheadMs) > Math.abs(worstMs)) worstMs = aheadMs;
    if (Math.abs(aheadMs) > (before.has(source) ? RIGHT_BELOW_MS : SKEW_FROM_MS)) after.add(source);
    else after.delete(source);
  }
  // A copy at each look of each of a thousand nodes would be a million entries a tick.
  if (after.size === before.size && [...after].every((source) => before.has(source))) return;
  const isSkewed = after.size > 0;
  const skewedClocks = new Map(step.state.skewedClocks);
  if (isSkewed) skewedClocks.set(node, after);
  else skewedClocks.delete(node);
  step.change({ skewedClocks });
  if (isSkewed === before.size > 0) return;
  const offS = Math.round(Math.abs(worstMs) / 1000);
  const message = isSkewed
    ? `The clock of ${node} is ${offS} s ${worstMs > 0 ? 'ahead of' : 'behind'} ours; ages are taken by its own time`
    : `The clock of ${node} is right again`;
  step.tell({ name: 'clock-skew', node, message }, isSkewed ? 'warn' : 'info');
}
