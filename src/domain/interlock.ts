// The interlock: clear, cooling or tripped, per node and, for trips of everything, once for all. Only an operator's
// reset ends a trip (I1). Tighten fast, loosen slowly: a cooldown starts with the first temperature warning and ends
// only when a minute has passed and every temperature is clearly below its warning.
import { cardTemperatureC } from './constraints.ts';
import type { NodeLimits } from './evaluate.ts';
import type { NodeReadings } from './reading.ts';
import { COOLDOWN_SECONDS, type Finding, type InterlockState, type InterlockView } from './result.ts';
import type { StopEntry, StopTarget, TripScope } from './stop.ts';

/** A cooldown lasts this long from the last temperature warning, and until every temperature is this far below it. */
export const COOLING_MS = COOLDOWN_SECONDS * 1000;
export const COOL_BELOW_WARNING_C = 2;
/** Without verification for this long, a stop is `unverified`. */
export const UNVERIFIED_AFTER_MS = 30_000;
/** A GPU that drew this much at the trip must fall under this share of it before the stop counts. */
export const LOADED_FROM_W = 100;
export const STILL_LOADED_RATIO = 0.7;

export type TripCause = 'hard-stop' | 'blind' | 'manual' | 'alert' | 'corrupt-state';

export interface StillLoaded {
  readonly node: string;
  readonly gpu: string;
  readonly atTripW: number;
  /** `null`: it cannot be read, so nobody knows. */
  readonly nowW: number | null;
}

export interface StopReport {
  readonly state: 'stopping' | 'verified' | 'unverified';
  /** By name of the actuator: what it found, and whether it is done by its own rule. */
  readonly actuators: Readonly<Record<string, { readonly verified: boolean; readonly entries: readonly StopEntry[] }>>;
  readonly stillLoaded: readonly StillLoaded[];
  /** Nodes that a manual trip named and that do not exist. */
  readonly unknownNodes: readonly string[];
  /** Wall times, ISO 8601. */
  readonly startedAt: string;
  readonly settledAt: string | null;
}

/** A stop that somebody or something asked for once. */
export interface AskedStop {
  readonly scope: TripScope;
  readonly cause: Extract<TripCause, 'manual' | 'alert'>;
  readonly reason: string;
  readonly by: string;
  /** When its alert began, wall ms: one from before a reset does not count after it. `null`: pressed by hand. */
  readonly begunWallMs: number | null;
}

/** Stops that joined a trip: joined-stops.ts. */
export interface JoinedStops {
  readonly count: number;
  /** When the newest alert among them began, wall ms: its repetitions are no further stops. `null`: there is none. */
  readonly alertWallMs: number | null;
  /** All that were not heard, as one: everywhere they ask for, by the newest; `null` where there is none. */
  readonly unheard: AskedStop | null;
}

/** What the record of an earlier process says of a stop that this one goes on with. */
export interface EarlierReport {
  /** By name of the actuator: those that were verified. */
  readonly entries: Readonly<Record<string, readonly StopEntry[]>>;
  /** When the whole stop was verified; `null` where it was not. */
  readonly settledAt: string | null;
}

export interface Trip {
  readonly tripId: string;
  readonly scope: TripScope;
  readonly cause: TripCause;
  readonly reason: string;
  /** Who or what triggered it. */
  readonly by: string;
  readonly sinceWallMs: number;
  /** Monotonic time of the trip, or of the restart that took it over. */
  readonly atMs: number;
  /** Recorded under `source: simulated`; binds only there. */
  readonly simulated: boolean;
  /** Process groups to stop, kept so that a restart goes on with them. */
  readonly targets: readonly StopTarget[];
  readonly report: StopReport;
  /** GPUs that drew 100 W or more at the trip: `node/gpu` to W. */
  readonly loadedW: Readonly<Record<string, number>>;
  /** Stops by hand or by an alert that joined it; left out where there were none. */
  readonly joined?: JoinedStops;
  /** Only after a restart; not written down. */
  readonly earlier?: EarlierReport;
}

/** What another process needs of a trip to hold it. Process groups stay with the machine that they are on. */
export type CopiedTrip = Pick<
  Trip,
  'tripId' | 'scope' | 'cause' | 'reason' | 'by' | 'sinceWallMs' | 'simulated' | 'loadedW'
>;

export interface Cooling {
  readonly lastWarningAtMs: number;
}

/** Whether every node of `inner` is in `outer`. */
export function isWithin(inner: TripScope, outer: TripScope): boolean {
  if (outer.kind === 'all') return true;
  return inner.kind === 'nodes' && inner.nodes.every((node) => outer.nodes.includes(node));
}

/** Whether a trip covers a node. */
export function covers(scope: TripScope, node: string): boolean {
  return scope.kind === 'all' || scope.nodes.includes(node);
}

/** What a look makes of a node's cooldown. `null` is none. An unconfirmed hard stop starts none. */
export function coolingAfter(
  before: Cooling | null,
  node: NodeReadings,
  limits: NodeLimits,
  nowMs: number,
): Cooling | null {
  let isWarm = false;
  for (const { component, id, quantity, state } of node.readings) {
    if (quantity !== 'temperature') continue;
    if (state.kind === 'missing') {
      // What cannot be read may be hot: a missing temperature starts no cooldown and ends none.
      if (state.required) isWarm = true;
      continue;
    }
    const profile = component === 'gpu' ? limits.constraints.gpu.temperatureC : limits.constraints.cpu.temperatureC;
    const { warning } = cardTemperatureC(profile, component === 'gpu' ? limits.slowdownC.get(id ?? '') : undefined);
    if (state.value >= warning && state.secondLook !== 'awaiting') return { lastWarningAtMs: nowMs };
    if (state.value > warning - COOL_BELOW_WARNING_C) isWarm = true;
  }
  if (!before) return null;
  return isWarm || nowMs - before.lastWarningAtMs < COOLING_MS ? before : null;
}

/** Seconds until a cooldown can end: what is left of its minute, then one tick at a time until it is cool. */
export function coolingLeftSeconds(cooling: Cooling, nowMs: number, intervalMs: number): number {
  const leftMs = COOLING_MS - (nowMs - cooling.lastWarningAtMs);
  return Math.ceil((leftMs > 0 ? leftMs : intervalMs) / 1000);
}

/** The interlock as the nodes asked about see it; `cooling` are those of them that cool down. */
export function viewInterlock(
  trips: Iterable<Trip>,
  cooling: Iterable<readonly [string, Cooling]>,
  isAsked: (node: string) => boolean,
): InterlockView {
  const nodes: Record<string, InterlockState> = {};
  let tripId: string | undefined;
  let everything: string | undefined;
  for (const [node] of cooling) nodes[node] = 'cooling';
  for (const trip of trips) {
    if (trip.scope.kind === 'all') {
      everything = trip.tripId;
      continue;
    }
    for (const node of trip.scope.nodes.filter(isAsked)) {
      nodes[node] = 'tripped';
      tripId ??= trip.tripId;
    }
  }
  tripId = everything ?? tripId;
  const state = tripId ? 'tripped' : Object.keys(nodes).length > 0 ? 'cooling' : 'clear';
  return { state, ...(tripId !== undefined && { tripId }), nodes };
}

/** The interlock's own findings for the nodes asked about; `cooling` are those of them that cool down. */
export function interlockFindings(
  trips: Iterable<Trip>,
  cooling: Iterable<readonly [string, Cooling]>,
  isAsked: (node: string) => boolean,
  nowMs: number,
  intervalMs: number,
): Finding[] {
  const findings: Finding[] = [];
  for (const trip of trips) {
    const nodes = trip.scope.kind === 'all' ? [undefined] : trip.scope.nodes.filter(isAsked);
    for (const node of nodes) {
      findings.push({
        code: 'interlock-tripped',
        level: 'critical',
        ...(node !== undefined && { node }),
        component: 'interlock',
        action: 'ABORT',
        message: `${node ?? 'Everything'} is stopped since ${new Date(trip.sinceWallMs).toISOString()}: ${trip.reason}`,
      });
    }
  }
  for (const [node, cools] of cooling) {
    const waitSeconds = coolingLeftSeconds(cools, nowMs, intervalMs);
    findings.push({
      code: 'interlock-cooling',
      level: 'warning',
      node,
      component: 'interlock',
      action: 'WAIT_COOLDOWN',
      message: `${node} cools down after a temperature warning, ${waitSeconds} s to go at least`,
      waitSeconds,
    });
  }
  return findings;
}

/** What the report of a stop says once the actuators and the GPUs have been looked at again. */
export function settleReport(
  trip: Trip,
  actuatorNames: readonly string[],
  powerNowW: (node: string, gpu: string) => number | null,
  nowMs: number,
  wallMs: number,
): StopReport {
  const stillLoaded: StillLoaded[] = [];
  for (const [key, atTripW] of Object.entries(trip.loadedW)) {
    const slash = key.lastIndexOf('/');
    const node = key.slice(0, slash);
    const gpu = key.slice(slash + 1);
    const nowW = powerNowW(node, gpu);
    if (nowW === null || nowW >= atTripW * STILL_LOADED_RATIO) stillLoaded.push({ node, gpu, atTripW, nowW });
  }
  // No actuator at all has verified nothing.
  const isDone =
    actuatorNames.length > 0 && actuatorNames.every((name) => trip.report.actuators[name]?.verified === true);
  const isVerified = isDone && stillLoaded.length === 0;
  const isLate = nowMs - trip.atMs >= UNVERIFIED_AFTER_MS;
  const state = isVerified ? 'verified' : isLate ? 'unverified' : 'stopping';
  const hasSettled = state !== 'stopping';
  return {
    ...trip.report,
    state,
    stillLoaded,
    settledAt: hasSettled
      ? trip.report.state === state
        ? trip.report.settledAt
        : new Date(wallMs).toISOString()
      : null,
  };
}
