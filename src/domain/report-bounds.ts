// What one report may hold. A machine has some hundred readings; a source that gives thousands is broken or hostile, and
// everything it names would be followed and kept.
import type { SourceReport } from './reading.ts';

/** The most entries of a kind in one report, and the most readings that are followed of one source. */
export const MOST_ENTRIES = 1_024;

const LISTS = ['readings', 'gpus', 'gpuSigns', 'witnesses', 'throttledGpus', 'hardwareLimits'] as const;

/** What is too much about a report, for people; `null` where nothing is. */
export function excessOf(report: SourceReport): string | null {
  const list = LISTS.find((name) => report[name].length > MOST_ENTRIES);
  return list ? `the source gave ${report[list].length} ${list}, at most ${MOST_ENTRIES} are taken` : null;
}

/** The report without what is beyond the bounds. */
export function cutReport(report: SourceReport): SourceReport {
  return { ...report, ...Object.fromEntries(LISTS.map((name) => [name, report[name].slice(0, MOST_ENTRIES)])) };
}
