// How leases end, and what follows for their workloads. A lapsed or revoked one is stopped alone, and that is remembered
// until every actuator has seen it gone, because a service that dies on the way leaves nobody else who would go on. What a
// trip stops is trip-steps.ts; when a lease ends by itself is lease-steps.ts.
import { covers } from './interlock.ts';
import {
  type EndedLease,
  isMarked,
  type Lease,
  type LeaseOutcome,
  MOST_ENDED_LEASES,
  MOST_LEASES,
  owedStopOf,
} from './lease.ts';
import type { Step } from './step.ts';
import type { StopOrder, StopTarget, TripScope } from './stop.ts';

/** Before the lease's id in the order for the workload of a lease that ended by itself, lapsed or revoked. */
export const LAPSE_ORDER = 'lapse-';

/** A lease that is over, and why. */
export interface Ending {
  readonly lease: Lease;
  readonly outcome: LeaseOutcome;
  readonly reason: string;
}

/** Ends leases with an outcome that their holders will be told (410). All in one go: a trip may end thousands. */
export function endLeases(step: Step, endings: readonly Ending[]): void {
  if (endings.length === 0) return;
  const leases = new Map(step.state.leases);
  const endedLeases = new Map(step.state.endedLeases);
  for (const { lease, outcome, reason } of endings) {
    const { id, workload, identity, simulated } = lease;
    const ended: EndedLease = {
      id,
      workload,
      identity,
      outcome,
      reason,
      endedWallMs: step.moment.wallMs,
      simulated,
      owedStop: outcome === 'lapsed' || outcome === 'revoked' ? owedStopOf(lease, step.state.inventory) : null,
    };
    const why = `lease "${workload}" (${id}) ${outcome}: ${reason}`;
    leases.delete(id);
    endedLeases.set(id, ended);
    step.record(`lease/${id}`, null, why, outcome === 'stopped');
    step.record(`ended/${id}`, ended, why, outcome === 'stopped');
    const message = `Lease "${workload}" ${outcome}: ${reason}`;
    step.tell({ name: 'lease-ended', leaseId: id, message, outcome }, outcome === 'released' ? 'info' : 'warn');
  }
  step.change({ leases });
  keepEnded(step, endedLeases);
}

/** Takes the ended leases, without the oldest that are too many. Those with a stop on its way are the last to go. */
function keepEnded(step: Step, endedLeases: Map<string, EndedLease>): void {
  for (const [oldest, { owedStop }] of endedLeases) {
    if (endedLeases.size <= MOST_ENDED_LEASES) break;
    if (owedStop && endedLeases.size <= MOST_ENDED_LEASES + MOST_LEASES) continue;
    endedLeases.delete(oldest);
    step.record(`ended/${oldest}`, null, 'only the last ended leases are remembered');
  }
  step.change({ endedLeases });
}

/** Orders (or, after a restart, orders again) what is still to be stopped of an ended lease. */
export function orderOwedStop(step: Step, { id, reason, owedStop }: EndedLease): void {
  if (!owedStop) return;
  const { target, nodes } = owedStop;
  const scope: TripScope = nodes ? { kind: 'nodes', nodes } : { kind: 'all' };
  const order: StopOrder = { orderId: `${LAPSE_ORDER}${id}`, scope, what: 'leases', targets: [target], reason };
  step.effect({ kind: 'stop-workloads', order });
}

/** Stops the workloads of leases that have just ended by themselves, and nothing else. */
export function stopLeases(step: Step, leases: readonly Lease[]): void {
  for (const lease of leases) {
    const ended = step.state.endedLeases.get(lease.id);
    if (ended) orderOwedStop(step, ended);
    if (isMarked(lease, step.state.inventory)) continue;
    const message = `Lease "${lease.workload}" ended and nothing is marked with it, so nothing could be stopped for it`;
    step.tell({ name: 'lapsed-unmarked', leaseId: lease.id, message }, 'warn');
  }
}

/** Workloads of lapsed leases that may still run in scope: a trip answers for them, too. */
export function owedTargets(step: Step, scope: TripScope): StopTarget[] {
  return [...step.state.endedLeases.values()].flatMap(({ owedStop }) => {
    if (!owedStop) return [];
    const { nodes, target } = owedStop;
    return nodes === null || nodes.some((node) => covers(scope, node)) ? [target] : [];
  });
}

/**
 * A lapse is over when every actuator has seen its workload gone; until then a restart begins with it again. Where nothing
 * was marked and nothing was found, the order is over as well, and nobody may call the workload gone.
 */
export function settleOwedStop(step: Step, orderId: string, actuator: string, hasFound: boolean): void {
  if (!orderId.startsWith(LAPSE_ORDER)) return;
  const leaseId = orderId.slice(LAPSE_ORDER.length);
  const ended = step.state.endedLeases.get(leaseId);
  if (!ended?.owedStop) return;
  const { unmarked, ...owed } = ended.owedStop;
  const isUnknown = unmarked === true && !hasFound;
  const verifiedBy = [...new Set([...owed.verifiedBy, actuator])];
  const isDone = [...step.state.actuators.keys()].every((name) => verifiedBy.includes(name));
  const left = { ...owed, verifiedBy, ...(isUnknown && { unmarked }) };
  const settled: EndedLease = { ...ended, owedStop: isDone ? null : left };
  const endedLeases = new Map(step.state.endedLeases).set(leaseId, settled);
  if (!isDone) {
    step.change({ endedLeases });
    return;
  }
  const message = isUnknown
    ? `Nothing was marked with "${ended.workload}", whose lease ended: ${ended.reason}`
    : `Nothing of "${ended.workload}" runs any more, whose lease ended: ${ended.reason}`;
  step.record(`ended/${leaseId}`, settled, message);
  keepEnded(step, endedLeases);
  step.effect({ kind: 'withdraw-order', orderId });
  if (!isUnknown) step.tell({ name: 'stop-verified', leaseId, message });
}
