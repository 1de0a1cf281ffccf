// What other processes of the cluster did, and what this one may do among them: their trips are held here as our own,
// their resets end ours, and leases belong to whoever leads. Stopping needs no leave; granting, resetting and restoring
// are the leader's. How it is learnt is src/kubernetes.
import type { ClusterReset, ClusterState } from './cluster.ts';
import { parseLease } from './durable.ts';
import type { Answer } from './events.ts';
import { type CopiedTrip, isWithin, type Trip } from './interlock.ts';
import { withHeard } from './joined-stops.ts';
import { EVALUATION_COUNTS_MS, isLeaseIn, type Lease, MOST_LEASES } from './lease.ts';
import { endLeases } from './lease-endings.ts';
import { durableTrip } from './recorded-stop.ts';
import type { Finding } from './result.ts';
import type { SafetyState } from './state.ts';
import type { Step } from './step.ts';
import { endTrip, keepTrip, latch, tripAnew } from './trip-steps.ts';

/** Holds other processes' trips under their own ids; one of ours that such a trip covers goes into it. */
export function adoptTrips(step: Step, trips: readonly CopiedTrip[]): void {
  for (const copy of trips) {
    const { trips: own } = step.state;
    if (own.has(copy.tripId)) continue;
    // Ours may have grown since the record was compared; the next look writes it there.
    const isCovered = [...own.values()].some(
      (other) => isWithin(copy.scope, other.scope) && !isWithin(other.scope, copy.scope),
    );
    if (!isCovered) latch(step, copy);
  }
}

/** Ends the trips that another process reset, and goes on with the cluster's epoch. */
export function resetElsewhere(step: Step, event: ClusterReset): void {
  const { last } = event;
  const { epoch: before } = step.state;
  const epoch = Math.max(before, event.epoch);
  // The last one of all is the one whose report stays readable.
  const ids = [...event.tripIds].sort((a, b) => Number(a === last?.tripId) - Number(b === last?.tripId));
  const ended: Trip[] = [];
  for (const tripId of ids) {
    const trip = step.state.trips.get(tripId);
    if (!trip) continue;
    ended.push(trip);
    const unnamed = { tripId, by: 'another process', reason: 'reset in the cluster', wallMs: step.moment.wallMs };
    endTrip(step, trip, last?.tripId === tripId ? last : unnamed, epoch);
  }
  const lastResetWallMs = last?.wallMs ?? step.moment.wallMs;
  if (epoch !== before) {
    step.change({ epoch, lastResetWallMs });
    step.record('epoch', { epoch, lastResetWallMs }, `the cluster has had ${epoch} resets`);
  }
  for (const trip of ended) tripAnew(step, trip, lastResetWallMs);
}

/** The cluster's latch holds these trips, asked when so many stops had joined each. */
export function hearStops(step: Step, heard: ReadonlyMap<string, number>): void {
  for (const [tripId, count] of heard) {
    const trip = step.state.trips.get(tripId);
    if (!trip?.joined?.unheard) continue;
    const next = { ...trip, joined: withHeard(trip.joined, count) };
    keepTrip(step, next);
    if (next.joined.unheard) continue;
    step.record(`trip/${tripId}`, durableTrip(next), `trip ${tripId} stands in the cluster, with what joined it`);
  }
}

/** Takes note of who leads; leases go with the leadership. */
export function takeCluster(step: Step, cluster: ClusterState): void {
  const before = step.state.cluster?.leadership;
  const { leadership } = cluster;
  step.change({ cluster });
  if (leadership.state === 'standby' && leadership.leader !== null) handOver(step, leadership.leader);
  const isSame =
    before?.state === leadership.state &&
    (before.state !== 'standby' || leadership.state !== 'standby' || before.leader === leadership.leader);
  if (isSame) return;
  step.tell({ name: 'leadership', message: wordsOf(leadership) }, leadership.state === 'unknown' ? 'warn' : 'info');
}

/**
 * Another process leads and renews the leases by its own record: here they would only run out, and their workloads be
 * stopped in the middle of their run. What runs in a process group stays: its holder is on this machine and reaches no
 * other process, and no other process could stop it.
 */
function handOver(step: Step, leader: string): void {
  const handed = [...step.state.leases.values()].filter(({ processGroup }) => processGroup === null);
  if (handed.length === 0) return;
  const why = `${leader} leads and keeps the leases`;
  const leases = new Map(step.state.leases);
  for (const { id } of handed) {
    leases.delete(id);
    step.record(`lease/${id}`, null, why);
  }
  step.log('info', `${handed.length} leases are handed over: ${why}`);
  step.change({ leases });
}

/** Goes on with the leases of the process that led before; those of a tripped place are over. */
export function takeOverLeases(step: Step, stored: ReadonlyMap<string, unknown>): void {
  const { state, moment, nowMs } = step;
  const { simulated, localNode, bootId } = state.settings;
  const isFresh = state.lastEvaluationAtMs !== null && nowMs - state.lastEvaluationAtMs <= EVALUATION_COUNTS_MS;
  const expiresAtMs = (ttlMs: number): number | null => (isFresh ? nowMs + ttlMs : null);
  const leases = new Map<string, Lease>();
  for (const [id, lease] of state.leases) {
    // It may have been renewed elsewhere since.
    leases.set(id, { ...lease, expiresAtMs: expiresAtMs(lease.ttlMs) });
    if (!stored.has(id)) step.record(`lease/${id}`, lease, `lease "${lease.workload}" (${id}) goes on`);
  }
  const unread: string[] = [];
  const stopped: Lease[] = [];
  let taken = 0;
  for (const [id, value] of stored) {
    if (leases.has(id)) continue;
    // It ended here while the cluster could not be told.
    if (state.endedLeases.has(id)) {
      step.record(`lease/${id}`, null, `lease ${id} is over`);
      continue;
    }
    const parsed = parseLease(value, moment);
    if (parsed?.id !== id || leases.size >= MOST_LEASES) {
      unread.push(id);
      continue;
    }
    if (parsed.simulated && !simulated) continue;
    // Its processes, if any, are another machine's.
    const lease: Lease = { ...parsed, processGroup: null, bootId, expiresAtMs: expiresAtMs(parsed.ttlMs) };
    if ([...state.trips.values()].some(({ scope }) => isLeaseIn(lease, scope, state.inventory, localNode))) {
      stopped.push(lease);
      continue;
    }
    leases.set(id, lease);
    step.record(`lease/${id}`, lease, `lease "${lease.workload}" (${id}) taken over`);
    taken += 1;
  }
  step.change({ leases });
  const reason = 'a stop came before this process took over';
  endLeases(
    step,
    stopped.map((lease) => ({ lease, outcome: 'stopped', reason })),
  );
  if (taken > 0) step.log('info', `${taken} leases are taken over`);
  if (unread.length > 0) {
    const named = unread.slice(0, 5).join(', ');
    step.log('error', `${unread.length} leases of the cluster's record cannot be read and are dropped: ${named}`);
    for (const id of unread) step.record(`lease/${id}`, null, `lease ${id} could not be read`);
  }
}

/** What a place among several processes has against a start. */
export function clusterFindings({ cluster }: SafetyState): Finding[] {
  if (!cluster) return [];
  const { leadership, isLatchKnown, areLeasesKnown, latchFailure } = cluster;
  const refuse = (code: 'not-leader' | 'state-unknown', message: string): Finding => {
    return { code, level: 'refusal', component: 'monitor', action: 'WAIT_COOLDOWN', message };
  };
  if (!isLatchKnown) {
    const message = `Whether the cluster is stopped is not known: ${latchFailure ?? 'its record has not been read yet'}`;
    return [refuse('state-unknown', message)];
  }
  if (leadership.state !== 'leader') return [refuse('not-leader', wordsOf(leadership))];
  return areLeasesKnown ? [] : [refuse('state-unknown', 'The leases of the leader before have not been read yet')];
}

/** Why a lease that is not known here may be known elsewhere; `null` where this process would know it. */
export function leaseElsewhere({ cluster }: SafetyState): Extract<Answer, { kind: 'lease-elsewhere' }> | null {
  if (!cluster) return null;
  const { leadership, areLeasesKnown } = cluster;
  if (leadership.state === 'standby') return { kind: 'lease-elsewhere', code: 'not-leader', why: wordsOf(leadership) };
  if (leadership.state === 'unknown')
    return { kind: 'lease-elsewhere', code: 'state-unknown', why: wordsOf(leadership) };
  const why = 'the leases of the leader before have not been read yet';
  return areLeasesKnown ? null : { kind: 'lease-elsewhere', code: 'state-unknown', why };
}

function wordsOf(leadership: ClusterState['leadership']): string {
  switch (leadership.state) {
    case 'leader':
      return `This process leads as ${leadership.identity}`;
    case 'standby':
      return leadership.leader === null
        ? 'Another process leads, or is about to; this one only watches and stops'
        : `${leadership.leader} leads; this process only watches and stops`;
    case 'unknown':
      return `Nobody knows who leads: ${leadership.detail}`;
  }
}
