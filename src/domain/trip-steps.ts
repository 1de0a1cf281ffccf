// Trips: how the interlock latches, what a stop is told to stop, how its report settles, and how an operator's reset
// ends it. Every trigger, automatic or by hand, comes through `trip`.

import type { LastReset } from './cluster.ts';
import { evaluate, formatValue } from './evaluate.ts';
import type { Answer, JudgedReset } from './events.ts';
import {
  covers,
  isWithin,
  LOADED_FROM_W,
  type StopReport,
  settleReport,
  type Trip,
  type TripCause,
  UNVERIFIED_AFTER_MS,
} from './interlock.ts';
import { invariant } from './invariant.ts';
import {
  asksForMore,
  countsBeside,
  isAskedFor,
  joinedByTakeOver,
  joinedCount,
  outliving,
  withJoined,
} from './joined-stops.ts';
import { isLeaseIn, MOST_LEASES, targetOf } from './lease.ts';
import { endLeases, orderOwedStop, owedTargets, settleOwedStop } from './lease-endings.ts';
import { gpuPowersW, lastGpuPowersW, readingsFor } from './node-step.ts';
import { durableTrip, settledAtOf, withRecorded } from './recorded-stop.ts';
import { isKnownNode } from './state.ts';
import type { Step } from './step.ts';
import type { StopOrder, StopTarget, TripScope } from './stop.ts';

interface Trigger {
  readonly scope: TripScope;
  readonly cause: TripCause;
  readonly reason: string;
  readonly by: string;
  readonly unknownNodes?: readonly string[];
  /** When its alert began, wall ms; only with `cause: alert`. */
  readonly begunWallMs?: number | null;
}

/** Another process's trip keeps its id, its time, and what it saw loaded. */
type Latching = Trigger & Partial<Pick<Trip, 'tripId' | 'sinceWallMs' | 'simulated' | 'loadedW'>>;

/** Latches, revokes and orders the stop; a trigger that an active trip covers joins it. */
export function trip(step: Step, trigger: Trigger): { readonly trip: Trip; readonly joined: boolean } {
  const active = [...step.state.trips.values()];
  const everything = active.find((other) => other.scope.kind === 'all');
  if (everything) {
    join(step, everything, trigger);
    return { trip: everything, joined: true };
  }
  let { scope } = trigger;
  if (scope.kind === 'nodes') {
    const { nodes } = scope;
    const free = nodes.filter((node) => !active.some((other) => covers(other.scope, node)));
    const [first] = nodes;
    for (const other of active) {
      const shared = nodes.filter((node) => covers(other.scope, node));
      if (shared.length > 0) join(step, other, { ...trigger, scope: { kind: 'nodes', nodes: shared } });
    }
    const holder = active.find((other) => first !== undefined && covers(other.scope, first));
    if (free.length === 0 && holder) return { trip: holder, joined: true };
    scope = { kind: 'nodes', nodes: free };
    invariant(free.length > 0, 'A trip of no node');
  }
  return { trip: latch(step, { ...trigger, scope }), joined: false };
}

/** A stop that was asked for once joins a trip that is on. */
function join(step: Step, trip: Trip, { scope, cause, reason, by, begunWallMs = null }: Trigger): void {
  if (!isAskedFor(cause)) return;
  const stop = { scope, cause, reason, by, begunWallMs };
  if (!countsBeside(trip, stop)) return;
  const joined = withJoined(trip.joined, stop);
  const next = { ...trip, joined };
  keepTrip(step, next);
  // Only another process could reset it unheard; and of many that ask for the same the first is enough.
  if (!step.state.cluster || !asksForMore(joined.unheard, trip.joined?.unheard ?? null)) return;
  step.record(`trip/${trip.tripId}`, durableTrip(next), `a stop by ${by} joins trip ${trip.tripId}: ${reason}`, true);
}

/** Makes a trip: it takes over those that it covers, with what they had still to stop. */
export function latch(step: Step, trigger: Latching): Trip {
  const { scope } = trigger;
  const absorbed = [...step.state.trips.values()].filter((other) => isWithin(other.scope, scope));
  const { settings, inventory } = step.state;
  const leases = [...step.state.leases.values()].filter((lease) =>
    isLeaseIn(lease, scope, inventory, settings.localNode),
  );
  const own = [...absorbed.flatMap((other) => other.targets), ...leases.map(targetOf)];
  // Beside them, as many as the trip's record can hold: lapsed ones have orders and records of their own.
  const owed = owedTargets(step, scope).slice(0, Math.max(0, MOST_LEASES - own.length));
  const targets = distinct([...own, ...owed]);
  // A card that was loaded at an earlier trip and went dark since must still be seen silent.
  const loadedW = Object.assign(
    {},
    ...absorbed.map((other) => other.loadedW),
    loadedGpus(step, scope),
    // Another process's trip: what it saw then, and not what is left of that by now.
    trigger.loadedW ?? {},
  ) as Trip['loadedW'];
  const joined = trigger.tripId === undefined ? undefined : joinedByTakeOver(absorbed);
  const made: Trip = {
    tripId: trigger.tripId ?? step.newId(),
    scope,
    cause: trigger.cause,
    reason: trigger.reason,
    by: trigger.by,
    sinceWallMs: trigger.sinceWallMs ?? step.moment.wallMs,
    atMs: step.nowMs,
    simulated: trigger.simulated ?? settings.simulated,
    targets,
    report: newReport(step, trigger.unknownNodes ?? []),
    loadedW,
    ...(joined && { joined }),
  };
  const trips = new Map(step.state.trips);
  for (const other of absorbed) {
    trips.delete(other.tripId);
    step.record(`trip/${other.tripId}`, null, `taken over by trip ${made.tripId}`, true);
  }
  trips.set(made.tripId, made);
  step.change({ trips });
  step.record(`trip/${made.tripId}`, durableTrip(made), `TRIP: ${made.reason} (by ${made.by})`, true);
  // The fatal line comes first, so that it is there even if the stop itself goes wrong.
  const what = scope.kind === 'all' ? 'everything' : scope.nodes.join(', ');
  step.log('fatal', `EMERGENCY STOP of ${what}: ${made.reason} (by ${made.by}, trip ${made.tripId})`);
  endLeases(
    step,
    leases.map((lease) => ({ lease, outcome: 'stopped', reason: made.reason })),
  );
  orderStop(step, made);
  for (const other of absorbed) step.effect({ kind: 'withdraw-order', orderId: other.tripId });
  step.tell(
    {
      name: 'tripped',
      tripId: made.tripId,
      message: `Stopping ${what}: ${made.reason}`,
      by: made.by,
      report: made.report,
      ...(absorbed.length > 0 && { tookOver: absorbed.map((other) => other.tripId) }),
    },
    'error',
  );
  return made;
}

/** One target for each lease. */
const distinct = (targets: readonly StopTarget[]): StopTarget[] => [
  ...new Map(targets.map((target) => [target.leaseId, target])).values(),
];

/** After a restart: everything that was to be stopped is ordered again. */
export function resumeStops(step: Step): void {
  for (const trip of step.state.trips.values()) orderStop(step, trip);
  for (const ended of step.state.endedLeases.values()) orderOwedStop(step, ended);
}

/** Orders (or, after a restart, orders again) what a trip stops. */
export function orderStop(step: Step, trip: Trip): void {
  const { tripId: orderId, scope, targets, reason } = trip;
  step.effect({ kind: 'stop-workloads', order: { orderId, scope, what: 'everything', targets, reason } });
}

function newReport(step: Step, unknownNodes: readonly string[]): StopReport {
  return {
    state: 'stopping',
    actuators: {},
    stillLoaded: [],
    unknownNodes,
    startedAt: new Date(step.moment.wallMs).toISOString(),
    settledAt: null,
  };
}

/** GPUs in scope that drew 100 W or more, by their last known power: a card that went dark under load counts too. */
function loadedGpus(step: Step, scope: TripScope): Record<string, number> {
  const loaded: Record<string, number> = {};
  for (const [name, node] of step.state.nodes) {
    if (!covers(scope, name)) continue;
    for (const [gpu, powerW] of lastGpuPowersW(step, node))
      if (powerW >= LOADED_FROM_W) loaded[`${name}/${gpu}`] = powerW;
  }
  return loaded;
}

/** What a manual stop does: everything, or the known ones of the nodes named. */
export function requestStop(
  step: Step,
  event: {
    readonly nodes: readonly string[] | null;
    readonly cause: TripCause;
    readonly reason: string;
    readonly by: string;
    readonly begunWallMs?: number;
  },
): Answer {
  const asked = event.nodes === null ? null : [...new Set(event.nodes)];
  const known = asked?.filter((node) => isKnownNode(step.state, node)) ?? null;
  if (asked && known?.length === 0) return { kind: 'unknown-nodes', nodes: asked };
  const unknownNodes = asked?.filter((node) => !known?.includes(node)) ?? [];
  const scope: TripScope = known ? { kind: 'nodes', nodes: known } : { kind: 'all' };
  const { cause, reason, by, begunWallMs = null } = event;
  const { trip: made, joined } = trip(step, { scope, cause, reason, by, unknownNodes, begunWallMs });
  const report = joined ? { ...made.report, unknownNodes } : made.report;
  return { kind: 'stopping', tripId: made.tripId, joined, report };
}

/** The order of a drill: what a stop would get, from the same state; nothing is latched or touched (I8). */
export function requestDrill(step: Step, nodes: readonly string[] | null, by: string): Answer {
  const known = nodes?.filter((node) => isKnownNode(step.state, node)) ?? null;
  const unknownNodes = nodes?.filter((node) => !known?.includes(node)) ?? [];
  if (nodes && known?.length === 0) return { kind: 'unknown-nodes', nodes };
  const scope: TripScope = known ? { kind: 'nodes', nodes: known } : { kind: 'all' };
  const { inventory, settings } = step.state;
  const leases = [...step.state.leases.values()].filter((lease) =>
    isLeaseIn(lease, scope, inventory, settings.localNode),
  );
  const order: StopOrder = {
    orderId: `drill-${step.newId()}`,
    scope,
    what: 'everything',
    targets: leases.map(targetOf),
    reason: `drill by ${by}`,
  };
  step.tell({ name: 'drill', message: `Drill by ${by}: nothing is stopped`, by });
  return { kind: 'drilling', order, unknownNodes };
}

/** Takes an actuator's progress into the report of its trip. */
export function takeProgress(
  step: Step,
  progress: { readonly orderId: string; readonly actuator: string } & StopReport['actuators'][string],
): void {
  const trip = step.state.trips.get(progress.orderId);
  const { actuator, verified } = progress;
  if (!trip) {
    // A reset trip's actuator may still report; nothing older than the last reset acts (I11).
    if (verified) settleOwedStop(step, progress.orderId, actuator, progress.entries.length > 0);
    return;
  }
  const entries = withRecorded(trip, actuator, progress.entries);
  const actuators = { ...trip.report.actuators, [actuator]: { entries, verified } };
  keepTrip(step, { ...trip, report: { ...trip.report, actuators } });
  const gone = entries.filter((entry) => entry.state === 'stopped').length;
  const message = `Stop ${trip.tripId}: ${actuator} has stopped ${gone} of ${entries.length}`;
  step.tell({ name: 'stop-progress', tripId: trip.tripId, message, report: trip.report });
}

export function keepTrip(step: Step, trip: Trip): void {
  step.change({ trips: new Map(step.state.trips).set(trip.tripId, trip) });
}

/** Looks whether stops are verified by now: actuators done, and no GPU in scope still loaded. */
export function settleTrips(step: Step): void {
  const powersW = new Map<string, ReadonlyMap<string, number>>();
  const powerNowW = (name: string, gpu: string): number | null => {
    const node = step.state.nodes.get(name);
    if (!node) return null;
    const powers = powersW.get(name) ?? gpuPowersW(step, node);
    powersW.set(name, powers);
    return powers.get(gpu) ?? null;
  };
  for (const trip of [...step.state.trips.values()]) {
    const names = [...step.state.actuators.keys()];
    const seen = settleReport(trip, names, powerNowW, step.nowMs, step.moment.wallMs);
    const report = { ...seen, settledAt: settledAtOf(trip, seen) };
    const settled = { ...trip, report };
    keepTrip(step, settled);
    if (report.state === trip.report.state) continue;
    step.record(`trip/${trip.tripId}`, durableTrip(settled), `stop ${trip.tripId} is ${report.state}`);
    if (report.state === 'verified') {
      const message = `Stop ${trip.tripId} is verified: nothing in scope runs any more`;
      step.tell({ name: 'stop-verified', tripId: trip.tripId, message, report });
    } else if (report.state === 'unverified') {
      const message = `Stop ${trip.tripId} is not verified after 30 s: ${whyUnverified(settled, names).join('; ')}`;
      step.tell({ name: 'stop-unverified', tripId: trip.tripId, message, report }, 'fatal');
    }
  }
}

function whyUnverified(trip: Trip, actuatorNames: readonly string[]): string[] {
  const why = trip.report.stillLoaded.map(({ node, gpu, atTripW, nowW }) =>
    nowW === null
      ? `GPU ${gpu} on ${node} drew ${formatValue(atTripW, 'W')} at the trip and cannot be read`
      : `GPU ${gpu} on ${node} still draws ${formatValue(nowW, 'W')} of ${formatValue(atTripW, 'W')} (still-loaded)`,
  );
  for (const name of actuatorNames) {
    const told = trip.report.actuators[name];
    if (told?.verified) continue;
    const resisting = told?.entries.filter((entry) => !entry.verified).map((entry) => entry.name) ?? [];
    const which = resisting.length > 0 ? `: ${resisting.slice(0, 10).join(', ')}` : '';
    why.push(`${name} has not verified its stop${which}`);
  }
  return why;
}

/** When a stop that is still going on becomes `unverified`, monotonic. */
export function unverifiedAtMs(trip: Trip): number | null {
  return trip.report.state === 'stopping' ? trip.atMs + UNVERIFIED_AFTER_MS : null;
}

/** An operator's reset: permits a restart and causes none. Refused with everything that is still wrong. */
export function requestReset(
  step: Step,
  event: {
    readonly tripId: string;
    readonly reason: string;
    readonly by: string;
    readonly acknowledgeUnverified: boolean;
    readonly stage?: 'judge' | 'commit';
    readonly judged?: JudgedReset;
  },
): Answer {
  const { tripId, stage } = event;
  const trip = step.state.trips.get(tripId);
  const active = [...step.state.trips.keys()];
  if (!trip) return { kind: 'trip-unknown', tripId, active };
  const still = stage === 'commit' ? [] : stillWrong(step, trip, event.acknowledgeUnverified);
  if (still.length > 0) return { kind: 'reset-refused', still };
  const { wallMs } = event.judged ?? step.moment;
  if (stage === 'judge') return { kind: 'reset-allowed', tripId, judged: { joined: joinedCount(trip), wallMs } };
  const epoch = step.state.epoch + 1;
  endTrip(step, trip, { tripId, by: event.by, reason: event.reason, wallMs }, epoch);
  // What came while it was being written was not judged with it.
  if (event.judged && joinedCount(trip) > event.judged.joined) tripAnew(step, trip, wallMs);
  return { kind: 'reset-done', tripId, epoch };
}

/** Stops that joined a trip and that its reset could not know of stand for themselves. */
export function tripAnew(step: Step, ended: Trip, resetWallMs: number): void {
  const stop = outliving(ended, resetWallMs);
  if (!stop) return;
  const reason = `${stop.reason} (joined trip ${ended.tripId}, whose reset did not know of it)`;
  trip(step, { ...stop, reason });
}

/** Ends a trip by a reset, made here or elsewhere; `epoch` is the one after it. */
export function endTrip(step: Step, trip: Trip, reset: LastReset, epoch: number): void {
  const trips = new Map(step.state.trips);
  trips.delete(trip.tripId);
  const { by, reason, wallMs } = reset;
  const lastTrip = { trip, resetBy: by, resetReason: reason, resetWallMs: wallMs };
  // A sample from before the reset that nothing confirmed or took back must not trip again (I11).
  const nodes = new Map(
    [...step.state.nodes].map(([name, node]) => [
      name,
      covers(trip.scope, name) ? { ...node, looks: new Map() } : node,
    ]),
  );
  step.change({ trips, epoch, lastResetWallMs: wallMs, lastTrip, nodes });
  const message = `Trip ${trip.tripId} is reset by ${by}: ${reason}`;
  step.record(`trip/${trip.tripId}`, null, message);
  step.record('last-trip', { ...lastTrip, trip: durableTrip(trip) }, message);
  step.record('epoch', { epoch, lastResetWallMs: wallMs }, message);
  step.effect({ kind: 'withdraw-order', orderId: trip.tripId });
  step.tell({ name: 'reset', tripId: trip.tripId, message, by }, 'warn');
}

/** What still stands against a reset: missing readings, anything at its warning, an unverified stop. */
function stillWrong(step: Step, trip: Trip, isUnverifiedAcknowledged: boolean): string[] {
  const still: string[] = [];
  if (!step.state.journal.ok) still.push(`the reset could not be recorded: ${step.state.journal.detail}`);
  for (const [name, node] of step.state.nodes) {
    if (!covers(trip.scope, name)) continue;
    const findings = evaluate(readingsFor(step, node, 'start'), node.limits);
    // Maxima do not count: memory that is full hurts nothing.
    const counting = findings.filter((finding) => finding.code !== 'over-maximum');
    still.push(...counting.map((finding) => finding.message));
  }
  if (step.state.nodes.size === 0) still.push('nothing has been read since this service started');
  if (trip.report.state !== 'verified' && !isUnverifiedAcknowledged) {
    const why = whyUnverified(trip, [...step.state.actuators.keys()]);
    still.push(`the stop is ${trip.report.state}: ${why.join('; ') || 'it has not been looked at again yet'}`);
  }
  return still;
}
