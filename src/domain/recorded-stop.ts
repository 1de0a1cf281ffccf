// What outlives a process of a stop: which part of its report is written down, and how the next process goes on with it.
// It verifies everything anew by what it sees itself, and must not take that for how the stop went: what it finds gone was
// stopped by its predecessor, with signals and times that only the record knows.
import type { EarlierReport, StopReport, Trip } from './interlock.ts';
import type { StopEntry } from './stop.ts';

/** The most entries of a report that are kept on disk; in memory all are. */
const MOST_DURABLE_ENTRIES = 500;

export function durableTrip({ earlier: _, ...trip }: Trip): Trip {
  let left = MOST_DURABLE_ENTRIES;
  const actuators: Record<string, { verified: boolean; entries: readonly StopEntry[] }> = {};
  for (const [name, { verified, entries }] of Object.entries(trip.report.actuators)) {
    actuators[name] = { verified, entries: entries.slice(0, left) };
    left = Math.max(0, left - entries.length);
  }
  return { ...trip, report: { ...trip.report, actuators } };
}

/** What a record says for good: entries that were seen gone, and since when all were. */
export function earlierOf(report: StopReport): EarlierReport {
  const entries = Object.entries(report.actuators).map(([name, told]) => [
    name,
    told.entries.filter((entry) => entry.verified),
  ]);
  return { entries: Object.fromEntries(entries), settledAt: report.state === 'verified' ? report.settledAt : null };
}

/** An actuator's entries, where it has nothing new to say of a recorded one with that one as it is recorded. */
export function withRecorded(trip: Trip, actuator: string, entries: readonly StopEntry[]): readonly StopEntry[] {
  const recorded = trip.earlier?.entries[actuator] ?? [];
  if (recorded.length === 0) return entries;
  const left = new Map(recorded.map((entry) => [keyOf(entry), entry]));
  const merged = entries.map((entry) => {
    const before = left.get(keyOf(entry));
    if (!before) return entry;
    left.delete(keyOf(entry));
    return hasNews(entry, before) ? entry : before;
  });
  // A pod that is gone is in no list any more.
  return [...merged, ...left.values()];
}

/** When the stop was settled: by the record, unless something has been found since that was not in it. */
export function settledAtOf({ earlier }: Trip, report: StopReport): string | null {
  if (report.state !== 'verified' || !earlier?.settledAt) return report.settledAt;
  const isRecorded = Object.entries(report.actuators).every(([name, { entries }]) => {
    const recorded = new Set(earlier.entries[name]);
    return entries.every((entry) => recorded.has(entry));
  });
  return isRecorded ? earlier.settledAt : report.settledAt;
}

const keyOf = ({ kind, name, node, leaseId }: StopEntry): string => JSON.stringify([kind, name, node, leaseId]);

function hasNews(entry: StopEntry, before: StopEntry): boolean {
  // Not looked at yet.
  if (entry.state === 'found') return false;
  if (!entry.verified) return true;
  if (entry.how === '') return false;
  // A controller's entry is made from its value before the stop, which is remembered: it tells the same way again.
  return entry.actuator !== 'kubernetes' || entry.how !== before.how || entry.detail !== before.detail;
}
