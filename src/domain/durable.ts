// From the durable record back to a state. What was written by an earlier start of this process is taken over: trips
// stay, cooldowns start anew, leases of this boot wait for their first evaluation. A value that is not what it should
// be is corruption, and corrupt means tripped.
import { canonicalText, digestOf, parseConstraints, type SafetyConstraints } from './constraints.ts';
import type { Moment } from './events.ts';
import type { JoinedStops, StopReport, Trip } from './interlock.ts';
import type { KnownGpu } from './known-gpus.ts';
import {
  type EndedLease,
  LEASE_OUTCOMES,
  type Lease,
  type OwedStop,
  owedStopOf,
  REDUCTION_HELD_MS,
  withoutProcesses,
} from './lease.ts';
import { newNode } from './node-step.ts';
import { earlierOf } from './recorded-stop.ts';
import type { SafetySettings } from './settings.ts';
import type { NodeState, SafetyState } from './state.ts';
import type { TripScope } from './stop.ts';

/** A process that knows nothing yet. */
export function initialState(settings: SafetySettings, moment: Moment): SafetyState {
  return {
    settings,
    lastNowMs: moment.elapsedMs,
    wallAheadMs: moment.wallMs - moment.elapsedMs,
    staleBeforeMs: -Infinity,
    nodes: new Map(),
    nodesAside: new Map(),
    unlistedSinceMs: new Map(),
    finders: { problems: [], unread: [] },
    skewedClocks: new Map(),
    trips: new Map(),
    lastTrip: null,
    epoch: 0,
    lastResetWallMs: null,
    leases: new Map(),
    endedLeases: new Map(),
    inventory: { workloads: [], seesPods: false },
    actuators: new Map(),
    journal: { ok: true, detail: '' },
    cluster: null,
    sequence: 0,
    startedAtMs: moment.elapsedMs,
    boots: new Map(),
    lastTickAtMs: null,
    lastEvaluationAtMs: null,
    lastResult: null,
    publishedAction: null,
    margins: new Map(),
    constraintsDigest: digestOf(canonicalText(settings.defaults.constraints)),
  };
}

export interface Restored {
  readonly state: SafetyState;
  /** Changes that the take-over itself makes durable: leases of an earlier boot, the boot grace of this one. */
  readonly set: Readonly<Record<string, unknown>>;
  readonly delete: readonly string[];
  /** Keys whose value is not what it should be, each with the reason. Not empty means corrupt. */
  readonly problems: readonly string[];
}

type Fields = Record<string, unknown>;

const isObject = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const isText = (value: unknown): value is string => typeof value === 'string';
const isTexts = (value: unknown): value is string[] => Array.isArray(value) && value.every(isText);
const isNumber = (value: unknown): value is number => typeof value === 'number' && Number.isFinite(value);

/**
 * Replays the journal's map into a state. Never throws; what cannot be read is named in `problems`. With `inCluster` this
 * process may have been moved to another machine than the workloads whose leases it kept.
 */
export function restoreState(
  settings: SafetySettings,
  map: ReadonlyMap<string, unknown>,
  moment: Moment,
  { inCluster = false }: { readonly inCluster?: boolean } = {},
): Restored {
  let state = initialState(settings, moment);
  state = { ...state, boots: bootsIn(map, settings, moment) };
  const set: Record<string, unknown> = {};
  const deleted: string[] = [];
  const problems: string[] = [];
  const nodes = new Map<string, NodeState>();
  const nodeOf = (name: string): NodeState => nodes.get(name) ?? newNode(state, name);
  const trips = new Map<string, Trip>();
  const leases = new Map<string, Lease>();
  const endedLeases = new Map<string, EndedLease>();
  for (const [key, value] of map) {
    const [kind = '', ...path] = key.split('/');
    if (!isObject(value)) {
      problems.push(`${key} is ${typeof value}, must be an object`);
      continue;
    }
    // What was recorded under `source: simulated` binds only under it.
    if (value['simulated'] === true && !settings.simulated) continue;
    const problem = take(kind, path, value);
    if (problem) problems.push(`${key}: ${problem}`);
  }
  state = { ...state, nodes, trips, leases, endedLeases };
  return { state: withBootGrace(state, map, moment, set), set, delete: deleted, problems };

  function take(kind: string, path: readonly string[], value: Fields): string | null {
    switch (kind) {
      case 'trip': {
        const trip = readTrip(value, moment);
        if (!trip) return 'is no trip';
        trips.set(trip.tripId, trip);
        return null;
      }
      case 'last-trip': {
        const trip = isObject(value['trip']) ? readTrip(value['trip'], moment) : null;
        const { resetBy, resetReason, resetWallMs } = value;
        if (!trip || !isText(resetBy) || !isText(resetReason) || !isNumber(resetWallMs)) return 'is no ended trip';
        state = { ...state, lastTrip: { trip: value['trip'] as unknown as Trip, resetBy, resetReason, resetWallMs } };
        return null;
      }
      case 'epoch': {
        const { epoch, lastResetWallMs } = value;
        if (!isNumber(epoch) || !isNumber(lastResetWallMs)) return 'is no epoch';
        state = { ...state, epoch, lastResetWallMs };
        return null;
      }
      case 'lease':
        return takeLease(value);
      case 'ended': {
        const ended = readEnded(value, settings.bootId);
        if (!ended) return 'is no ended lease';
        endedLeases.set(ended.id, ended);
        return null;
      }
      case 'gpu': {
        const gpu = readGpu(value);
        const node = path.slice(0, -1).join('/');
        if (!gpu || !node) return 'is no GPU';
        const before = nodeOf(node);
        const known = new Map(before.watch.gpus.known).set(gpu.id, gpu);
        nodes.set(node, { ...before, watch: { ...before.watch, gpus: { ...before.watch.gpus, known } } });
        return null;
      }
      case 'cooling': {
        // A restart never shortens a cooldown (I6): it begins anew.
        const node = path.join('/');
        if (!node) return 'is no cooldown';
        nodes.set(node, { ...nodeOf(node), cooling: { lastWarningAtMs: moment.elapsedMs } });
        return null;
      }
      case 'blind': {
        const node = path.join('/');
        if (!node || !isNumber(value['forMs']) || value['forMs'] < 0) return 'is no blindness';
        nodes.set(node, { ...nodeOf(node), blindCarryMs: value['forMs'] });
        return null;
      }
      case 'prior':
        return isText(value['uid']) && isText(value['orderId']) ? null : 'is no value from before a stop';
      case 'member':
        return isText(value['identity']) && isText(value['bootId']) ? null : 'is no member of a cluster';
      case 'boot':
        return isText(value['bootId']) && isNumber(value['startedWallMs']) ? null : 'is no boot';
      default:
        return 'is a kind that this version does not know';
    }
  }

  function takeLease(value: Fields): string | null {
    const lease = readLease(value, moment);
    if (!lease) return 'is no lease';
    if (lease.bootId === settings.bootId) {
      leases.set(lease.id, lease);
      return null;
    }
    // Another boot is another machine's, perhaps, and pods run on wherever they are; who holds it no more lets it lapse.
    if (inCluster && lease.processGroup === null) {
      const moved = { ...lease, bootId: settings.bootId };
      leases.set(lease.id, moved);
      set[`lease/${lease.id}`] = moved;
      return null;
    }
    const { id, workload, identity, simulated } = lease;
    const reason = 'the machine was started anew since it was granted';
    const ended: EndedLease = {
      id,
      workload,
      identity,
      outcome: 'lapsed',
      reason,
      endedWallMs: moment.wallMs,
      simulated,
      owedStop: withoutProcesses(owedStopOf(lease, state.inventory), settings.bootId),
    };
    endedLeases.set(id, ended);
    set[`ended/${id}`] = ended;
    deleted.push(`lease/${id}`);
    return null;
  }
}

/** Graces of a cluster's nodes, each in that node's own boot. */
function bootsIn(
  map: ReadonlyMap<string, unknown>,
  { bootGraceMs }: SafetySettings,
  moment: Moment,
): SafetyState['boots'] {
  const boots = new Map<string, Pick<NodeState, 'graceBootId' | 'graceUntilMs'>>();
  for (const [key, record] of map) {
    if (!key.startsWith('boot/') || !isObject(record) || record['ofCluster'] !== true) continue;
    const { bootId, startedWallMs } = record;
    if (!isText(bootId) || !isNumber(startedWallMs)) continue;
    boots.set(key.slice('boot/'.length), {
      graceBootId: bootId,
      graceUntilMs: graceEndMs(startedWallMs, bootGraceMs, moment),
    });
  }
  return boots;
}

/** A wall clock that was set back must not stretch the grace beyond its length. */
function graceEndMs(startedWallMs: number, bootGraceMs: number, moment: Moment): number {
  const spentMs = Math.max(0, moment.wallMs - startedWallMs);
  return moment.elapsedMs + Math.max(0, bootGraceMs - spentMs);
}

/** The boot grace is given once per boot of the node: a crash loop does not extend it. */
function withBootGrace(
  state: SafetyState,
  map: ReadonlyMap<string, unknown>,
  moment: Moment,
  set: Record<string, unknown>,
): SafetyState {
  const { settings } = state;
  const names = new Set([...state.nodes.keys(), ...settings.nodes.keys()]);
  const nodes = new Map<string, NodeState>();
  for (const name of names) {
    // Its own boot is remembered.
    if (state.boots.has(name)) {
      nodes.set(name, state.nodes.get(name) ?? newNode(state, name));
      continue;
    }
    const key = `boot/${name}`;
    const record = map.get(key);
    const isSame = isObject(record) && record['bootId'] === settings.bootId && isNumber(record['startedWallMs']);
    const startedWallMs = isSame ? Number(record['startedWallMs']) : moment.wallMs;
    const graceUntilMs = graceEndMs(startedWallMs, settings.bootGraceMs, moment);
    if (!isSame) set[key] = { bootId: settings.bootId, startedWallMs };
    const node = state.nodes.get(name) ?? newNode(state, name);
    nodes.set(name, { ...node, graceUntilMs, graceBootId: settings.bootId });
  }
  return { ...state, nodes };
}

function readTrip(value: Fields, moment: Moment): Trip | null {
  const { tripId, scope, cause, reason, by, sinceWallMs, targets, report, loadedW } = value;
  if (!isText(tripId) || !isText(cause) || !isText(reason) || !isText(by) || !isNumber(sinceWallMs)) return null;
  if (!isScope(scope)) return null;
  if (!Array.isArray(targets) || !targets.every((target) => isObject(target) && isText(target['leaseId']))) return null;
  if (!isObject(report) || !isText(report['startedAt']) || !isObject(report['actuators']) || !isObject(loadedW))
    return null;
  if (!Array.isArray(report['stillLoaded']) || !isTexts(report['unknownNodes'])) return null;
  const isTold = (one: unknown): boolean =>
    isObject(one) && Array.isArray(one['entries']) && one['entries'].every(isObject);
  if (!Object.values(report['actuators']).every(isTold) || !Object.values(loadedW).every(isNumber)) return null;
  if (value['joined'] !== undefined && !isJoined(value['joined'])) return null;
  // The stop goes on from here: it has 30 s from now to be verified again, by what is seen from now on.
  const told = report as unknown as StopReport;
  const actuators = Object.fromEntries(
    Object.entries(told.actuators).map(([name, { entries }]) => [name, { entries, verified: false }]),
  );
  const fresh = { ...told, actuators, state: 'stopping' as const, settledAt: null };
  return { ...(value as unknown as Trip), atMs: moment.elapsedMs, report: fresh, earlier: earlierOf(told) };
}

function isJoined(value: unknown): value is JoinedStops {
  if (!isObject(value) || !isNumber(value['count'])) return false;
  const { alertWallMs, unheard } = value;
  if (alertWallMs !== null && !isNumber(alertWallMs)) return false;
  if (unheard === null) return true;
  if (
    !isObject(unheard) ||
    !isScope(unheard['scope']) ||
    typeof unheard['reason'] !== 'string' ||
    !isText(unheard['by'])
  )
    return false;
  const { cause, begunWallMs } = unheard;
  return (cause === 'manual' || cause === 'alert') && (begunWallMs === null || isNumber(begunWallMs));
}

const isScope = (value: unknown): value is TripScope =>
  isObject(value) && (value['kind'] === 'all' || (value['kind'] === 'nodes' && isTexts(value['nodes'])));

/** A lease as it was recorded, to go on from `moment`; `null` where `value` is none. */
export const parseLease = (value: unknown, moment: Moment): Lease | null =>
  isObject(value) ? readLease(value, moment) : null;

function readLease(value: Fields, moment: Moment): Lease | null {
  const { id, workload, identity, nodes, intensity, ttlMs, maxDurationMs, processGroup, bootId, grantedWallMs } = value;
  if (!isText(id) || !isText(workload) || !isText(identity) || !isText(bootId) || !isNumber(grantedWallMs)) return null;
  if (!isNumber(intensity) || !(intensity > 0 && intensity <= 1) || !isNumber(ttlMs) || ttlMs <= 0) return null;
  if (nodes !== null && !isTexts(nodes)) return null;
  if (!isTexts(value['looserKeys']) || (maxDurationMs !== null && !isNumber(maxDurationMs))) return null;
  if (processGroup !== null && !isProcessGroup(processGroup)) return null;
  let constraints: SafetyConstraints | null = null;
  if (value['constraints'] !== null) {
    const parsed = parseConstraints(value['constraints']);
    if (!parsed.ok) return null;
    constraints = parsed.constraints;
  }
  // Its maximum duration runs on from the grant by the wall clock: monotonic time does not outlive a process.
  const spentMs = Math.max(0, moment.wallMs - grantedWallMs);
  const endsAtMs = maxDurationMs !== null ? moment.elapsedMs + Math.max(0, maxDurationMs - spentMs) : null;
  return {
    ...(value as unknown as Lease),
    constraints,
    expiresAtMs: null,
    endsAtMs,
    // A cut that was on is held for its full time again: a restart loosens nothing.
    reducedUntilMs: value['reducedUntilMs'] === null ? null : moment.elapsedMs + REDUCTION_HELD_MS,
    told: { action: 'PROCEED', sinceMs: 0, notObeyed: false },
  };
}

function readEnded(value: Fields, bootId: string): EndedLease | null {
  const { id, workload, identity, outcome, reason, endedWallMs } = value;
  if (!isText(id) || !isText(workload) || !isText(identity) || !isText(reason) || !isNumber(endedWallMs)) return null;
  if (!LEASE_OUTCOMES.some((known) => known === outcome)) return null;
  // Earlier versions did not remember what was still to be stopped.
  if (value['owedStop'] === undefined || value['owedStop'] === null) {
    return { ...(value as unknown as EndedLease), owedStop: null };
  }
  const owed = readOwedStop(value['owedStop']);
  if (!owed) return null;
  const owedStop = owed.bootId === bootId ? owed : withoutProcesses(owed, bootId);
  return { ...(value as unknown as EndedLease), owedStop };
}

function readOwedStop(value: unknown): OwedStop | null {
  if (!isObject(value) || !isText(value['bootId'])) return null;
  const { target, nodes } = value;
  if (nodes !== null && !isTexts(nodes)) return null;
  if (!isObject(target) || !isText(target['leaseId']) || !isText(target['workload'])) return null;
  const { processGroup } = target;
  if (processGroup !== undefined && !isProcessGroup(processGroup)) return null;
  return { ...(value as unknown as OwedStop), verifiedBy: [] };
}

const isProcessGroup = (value: unknown): boolean =>
  isObject(value) && isNumber(value['pgid']) && isNumber(value['startTicks']);

function readGpu(value: Fields): KnownGpu | null {
  const { id, vendor, unifiedMemory } = value;
  if (!isText(id) || !isText(vendor) || typeof unifiedMemory !== 'boolean') return null;
  if (value['pciAddress'] !== undefined && !isText(value['pciAddress'])) return null;
  return value as unknown as KnownGpu;
}
