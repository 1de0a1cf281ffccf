// The interlock as GET /estop tells it: what is tripped and why, how far the stop has come, and the last trip that an
// operator reset. Pure.
import { type Trip, viewInterlock } from '../domain/interlock.ts';
import type { InterlockState, InterlockView } from '../domain/result.ts';
import type { SafetyState } from '../domain/state.ts';
import type { EstopSchema, Told, TripSchema } from './schemas.ts';

const iso = (wallMs: number): string => new Date(wallMs).toISOString();

function tripView(trip: Trip): Told<typeof TripSchema> {
  const { tripId, scope, cause, reason, by, sinceWallMs, simulated, report } = trip;
  return { tripId, scope, cause, reason, by, since: iso(sinceWallMs), simulated, report };
}

/** The interlock over all nodes; `nodes` names those that are not clear. */
export function interlockOf(state: SafetyState): InterlockView {
  const coolings = [...state.nodes].flatMap(([name, { cooling }]) => (cooling ? [[name, cooling] as const] : []));
  return viewInterlock(state.trips.values(), coolings, () => true);
}

/** The state of one node, under its own trip or the one of everything. */
export function interlockOfNode(interlock: InterlockView, state: SafetyState, node: string): InterlockState {
  const isAllTripped = [...state.trips.values()].some((trip) => trip.scope.kind === 'all');
  return isAllTripped ? 'tripped' : (interlock.nodes[node] ?? 'clear');
}

/** The answer of GET /estop. */
export function estopView(state: SafetyState): Told<typeof EstopSchema> {
  const interlock = interlockOf(state);
  const trips = [...state.trips.values()].sort((a, b) => a.sinceWallMs - b.sinceWallMs);
  const main = trips.find((trip) => trip.scope.kind === 'all') ?? trips[0];
  const last = state.lastTrip;
  const names = new Set([...state.nodes.keys(), ...Object.keys(interlock.nodes)]);
  return {
    state: interlock.state,
    tripId: main?.tripId ?? null,
    scope: main?.scope ?? null,
    reason: main?.reason ?? null,
    by: main?.by ?? null,
    since: main ? iso(main.sinceWallMs) : null,
    report: main?.report ?? null,
    nodes: Object.fromEntries([...names].map((name) => [name, interlockOfNode(interlock, state, name)])),
    trips: trips.map(tripView),
    lastTrip: last && {
      ...tripView(last.trip),
      resetBy: last.resetBy,
      resetReason: last.resetReason,
      resetAt: iso(last.resetWallMs),
    },
  };
}
