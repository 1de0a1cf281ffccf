// A lease is a workload's leave to run: granted only when all is clear, kept alive by renewals, and over as soon as its
// holder falls silent. A lapse stops that workload alone; a trip ends every lease that it covers.
import type { SafetyConstraints } from './constraints.ts';
import { type Action, REDUCTION_FACTOR, type Unprotected } from './result.ts';
import type { LiveWorkload, ProcessGroup, StopTarget, TripScope } from './stop.ts';

/** A reduced cap is held this long after the finding has gone. */
export const REDUCTION_HELD_MS = 60_000;
/** WAIT or REDUCE repeated this long without effect is told once as `not-obeyed`. */
export const NOT_OBEYED_AFTER_MS = 120_000;
/** A lease is renewed, and taken over, by an evaluation younger than this. */
export const EVALUATION_COUNTS_MS = 30_000;
/** Bounds: live leases at once, and ended ones that are remembered for their 410 alone. */
export const MOST_LEASES = 5_000;
export const MOST_ENDED_LEASES = 1_000;

export interface Lease {
  readonly id: string;
  readonly workload: string;
  /** Who holds it: only that identity may renew it or give it back. */
  readonly identity: string;
  /** `null`: all nodes, for judging. */
  readonly nodes: readonly string[] | null;
  readonly gpus: readonly string[] | null;
  readonly intensity: number;
  readonly ttlMs: number;
  readonly maxDurationMs: number | null;
  readonly processGroup: ProcessGroup | null;
  /** Limits that the workload brought; per cell the stricter applies while it lives. */
  readonly constraints: SafetyConstraints | null;
  readonly looserKeys: readonly string[];
  readonly grantedWallMs: number;
  /** Monotonic. `null` after a restart until the first evaluation gives it one full TTL. */
  readonly expiresAtMs: number | null;
  readonly endsAtMs: number | null;
  readonly bootId: string;
  readonly simulated: boolean;
  /** Cut until this moment, monotonic; `null` is not cut. */
  readonly reducedUntilMs: number | null;
  /** What the holder has been told, since when, and whether `not-obeyed` was said of it. */
  readonly told: { readonly action: Action; readonly sinceMs: number; readonly notObeyed: boolean };
}

export const LEASE_OUTCOMES = ['stopped', 'lapsed', 'revoked', 'released'] as const;
export type LeaseOutcome = (typeof LEASE_OUTCOMES)[number];

/**
 * The stop of a workload whose lease ended by itself, until every actuator has seen it gone. A service that dies on the
 * way orders it again at its next start: nobody else would.
 */
export interface OwedStop {
  readonly target: StopTarget;
  /** The lease's own nodes; `null` is all. */
  readonly nodes: readonly string[] | null;
  /** The boot that the process group belongs to: it died with that, and its number is another's by now. */
  readonly bootId: string;
  /** Actuators that have verified it; each start asks all of them anew. */
  readonly verifiedBy: readonly string[];
  /** Nothing bore the lease's mark, and nothing that does was found since: that it is gone is not known. */
  readonly unmarked?: true;
}

export interface EndedLease {
  readonly id: string;
  readonly workload: string;
  readonly identity: string;
  readonly outcome: LeaseOutcome;
  readonly reason: string;
  readonly endedWallMs: number;
  readonly simulated: boolean;
  /** `null`: there is nothing to stop, or it is seen gone, or a trip has taken it over. */
  readonly owedStop: OwedStop | null;
}

/** What a lease's holder may use now: half of what was granted while reduced; it never compounds. */
export function intensityCapOf(lease: Lease): number {
  return lease.reducedUntilMs === null ? lease.intensity : lease.intensity * REDUCTION_FACTOR;
}

/** What is known of running workloads, from the actuators. */
export interface WorkloadInventory {
  readonly workloads: readonly LiveWorkload[];
  /** Kubernetes was listed, so that "no pod there" means no pod there. */
  readonly seesPods: boolean;
  /** Who may undo a stop of them. */
  readonly unprotected?: readonly Unprotected[];
}

interface WorkloadPlaces {
  /** Nodes with a workload of any kind. */
  readonly nodes: ReadonlySet<string>;
  readonly podNodes: ReadonlySet<string>;
  readonly podNodesByLease: ReadonlyMap<string, ReadonlySet<string>>;
}

const workloadPlaces = new WeakMap<WorkloadInventory, WorkloadPlaces>();

/** Where workloads are. Worked out once for each inventory, which is immutable: thousands of pods are asked about often. */
export function placesIn(inventory: WorkloadInventory): WorkloadPlaces {
  const kept = workloadPlaces.get(inventory);
  if (kept) return kept;
  const nodes = new Set<string>();
  const podNodes = new Set<string>();
  const podNodesByLease = new Map<string, Set<string>>();
  for (const { kind, node, leaseId } of inventory.workloads) {
    if (node === null) continue;
    nodes.add(node);
    if (kind !== 'pod') continue;
    podNodes.add(node);
    if (leaseId === undefined) continue;
    const own = podNodesByLease.get(leaseId);
    if (own) own.add(node);
    else podNodesByLease.set(leaseId, new Set([node]));
  }
  const places = { nodes, podNodes, podNodesByLease };
  workloadPlaces.set(inventory, places);
  return places;
}

/**
 * Whether a lease's workload is on a node, for blindness and for a node's trip. Named nodes count as they are; else
 * where its pods (marked with the lease, else labelled ones) or its process group are; where no inventory can tell,
 * everywhere.
 */
export function isLeaseOn(lease: Lease, node: string, inventory: WorkloadInventory, localNode: string): boolean {
  if (lease.nodes) return lease.nodes.includes(node);
  const { podNodes, podNodesByLease } = placesIn(inventory);
  const own = podNodesByLease.get(lease.id);
  const isGroupHere = lease.processGroup !== null && node === localNode;
  if (own) return own.has(node) || isGroupHere;
  if (lease.processGroup) return isGroupHere;
  return inventory.seesPods ? podNodes.has(node) : true;
}

/** Whether a lease is covered by a trip. */
export function isLeaseIn(lease: Lease, scope: TripScope, inventory: WorkloadInventory, localNode: string): boolean {
  return scope.kind === 'all' || scope.nodes.some((node) => isLeaseOn(lease, node, inventory, localNode));
}

/** What an actuator needs to find a lease's workload. */
export function targetOf(lease: Lease): StopTarget {
  return {
    leaseId: lease.id,
    workload: lease.workload,
    ...(lease.processGroup && { processGroup: lease.processGroup }),
  };
}

/** Whether a lease's workload can be told from others: by its process group, or by pods that bear the lease's id. */
export function isMarked(lease: Lease, inventory: WorkloadInventory): boolean {
  return lease.processGroup !== null || inventory.workloads.some(({ leaseId }) => leaseId === lease.id);
}

/** What is still to be stopped of a lease that lapsed or was revoked. */
export function owedStopOf(lease: Lease, inventory: WorkloadInventory): OwedStop {
  const unmarked = isMarked(lease, inventory) ? {} : { unmarked: true as const };
  return { target: targetOf(lease), nodes: lease.nodes, bootId: lease.bootId, verifiedBy: [], ...unmarked };
}

/** What is still to be stopped in another boot than its own: pods outlive a reboot of this machine, processes do not. */
export function withoutProcesses(owed: OwedStop, bootId: string): OwedStop {
  const { leaseId, workload } = owed.target;
  return { ...owed, target: { leaseId, workload }, bootId };
}

/** A process that computes on a GPU of this machine: shown where no lease accounts for it, and never judged. */
export interface GpuProcess {
  readonly node: string;
  readonly pid: number;
  /** Its program, without the path. */
  readonly program: string;
  /** The GPU's UUID. */
  readonly gpu: string;
  /** In MiB; `null` where the driver does not tell. */
  readonly memoryMiB: number | null;
  /** By its process group or its mark. */
  readonly leaseId: string | null;
}

/** A lease after an evaluation of its nodes: cut, held or freed, and since when it has been told to hold back. */
export function leaseAfter(lease: Lease, action: Action, isReducing: boolean, nowMs: number): Lease {
  const isStillHeld = lease.reducedUntilMs !== null && nowMs < lease.reducedUntilMs;
  const reducedUntilMs = isReducing ? nowMs + REDUCTION_HELD_MS : isStillHeld ? lease.reducedUntilMs : null;
  const told = lease.told.action === action ? lease.told : { action, sinceMs: nowMs, notObeyed: false };
  const isSame = reducedUntilMs === lease.reducedUntilMs && told === lease.told;
  return isSame ? lease : { ...lease, reducedUntilMs, told };
}

/** Whether `not-obeyed` is due: told to wait or to reduce for two minutes, and the cause still stands. */
export function isNotObeying(lease: Lease, nowMs: number): boolean {
  const { action, sinceMs, notObeyed } = lease.told;
  const isHoldingBack = action === 'WAIT_COOLDOWN' || action === 'REDUCE_INTENSITY';
  return isHoldingBack && !notObeyed && nowMs - sinceMs >= NOT_OBEYED_AFTER_MS;
}
