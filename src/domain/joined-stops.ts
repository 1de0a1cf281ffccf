// Stops by hand or by an alert that joined a trip which was on. In a cluster another process may have reset that trip a
// moment before, and this one not know it yet: when it hears of the reset, the stop must not go with a trip that was over
// when it joined. So it is unheard until the cluster's latch was looked at after it and the trip still stood there; a
// trip that is reset before that leaves its unheard stops behind, and they trip anew. What the monitor finds needs none
// of this: it is found again at the next look.
import { type AskedStop, isWithin, type JoinedStops, type Trip, type TripCause } from './interlock.ts';
import type { TripScope } from './stop.ts';

const NONE: JoinedStops = { count: 0, alertWallMs: null, unheard: null };

/** Whether a stop was asked for once; what the monitor finds it finds again. */
export const isAskedFor = (cause: TripCause): cause is AskedStop['cause'] => cause === 'manual' || cause === 'alert';

/** How many stops have joined a trip. */
export const joinedCount = ({ joined }: Pick<Trip, 'joined'>): number => joined?.count ?? 0;

/** With one more. */
export function withJoined(before: JoinedStops | undefined, stop: AskedStop): JoinedStops {
  const { count, alertWallMs, unheard } = before ?? NONE;
  return {
    count: count + 1,
    alertWallMs: stop.begunWallMs === null ? alertWallMs : Math.max(stop.begunWallMs, alertWallMs ?? stop.begunWallMs),
    unheard: unheard ? united(unheard, stop) : stop,
  };
}

/**
 * Whether a stop could outlive any reset of the trip. An alert that began before the trip, or was counted before, cannot:
 * Alertmanager repeats it for as long as it fires, and no repetition is to hold a reset up.
 */
export const countsBeside = ({ sinceWallMs, joined }: Trip, { begunWallMs }: AskedStop): boolean =>
  begunWallMs === null || begunWallMs > Math.max(sinceWallMs, joined?.alertWallMs ?? sinceWallMs);

/** Whether the first asks for anything that the second does not. */
export const asksForMore = (stop: AskedStop | null, known: AskedStop | null): boolean =>
  stop !== null && (known === null || !isWithin(stop.scope, known.scope) || stop.begunWallMs !== known.begunWallMs);

/** After the cluster's latch was found to hold the trip, asked when `heard` stops had joined. */
export function withHeard(before: JoinedStops, heard: number): JoinedStops {
  return { ...before, unheard: before.count > heard ? before.unheard : null };
}

/** What another process's trip must outlive of the trips that go into it here: it may be reset by who knows none of them. */
export function joinedByTakeOver(absorbed: readonly Trip[]): JoinedStops | undefined {
  let joined: JoinedStops | undefined;
  for (const trip of absorbed) {
    const { scope, cause, reason, by } = trip;
    const begunWallMs = cause === 'alert' ? trip.sinceWallMs : null;
    if (isAskedFor(cause)) joined = withJoined(joined, { scope, cause, reason, by, begunWallMs });
    if (trip.joined?.unheard) joined = withJoined(joined, trip.joined.unheard);
  }
  return joined;
}

/** What of a trip's stops must trip anew after a reset that could not know them; `null` for nothing. */
export function outliving({ joined }: Trip, resetWallMs: number): AskedStop | null {
  const stop = joined?.unheard ?? null;
  if (!stop) return null;
  return stop.begunWallMs === null || stop.begunWallMs > resetWallMs ? stop : null;
}

/** An alert is no more than what a hand asked for as well. */
function united(before: AskedStop, next: AskedStop): AskedStop {
  const told = before.begunWallMs === null && next.begunWallMs !== null ? before : next;
  const begunWallMs =
    before.begunWallMs === null || next.begunWallMs === null ? null : Math.max(before.begunWallMs, next.begunWallMs);
  return { ...told, scope: unionOf(before.scope, next.scope), begunWallMs };
}

function unionOf(a: TripScope, b: TripScope): TripScope {
  if (a.kind === 'all' || b.kind === 'all') return { kind: 'all' };
  return { kind: 'nodes', nodes: [...new Set([...a.nodes, ...b.nodes])] };
}
