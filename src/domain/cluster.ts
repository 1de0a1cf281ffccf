// What the domain knows of the cluster that this process is one of: who leads, whether the common record of the latch is
// known, and what the cluster says of its nodes.
import type { WorkloadInventory } from './lease.ts';
import type { Unprotected } from './result.ts';

/** Who leads a cluster's processes, and what is known of their common record. */
export interface ClusterState {
  readonly leadership:
    | { readonly state: 'leader'; readonly identity: string }
    /** Somebody else leads, or is about to; `leader` is `null` while nobody does. */
    | { readonly state: 'standby'; readonly identity: string; readonly leader: string | null }
    /** The API server does not answer, so nobody knows. */
    | { readonly state: 'unknown'; readonly identity: string; readonly detail: string };
  /** The cluster's latch was read at least once since this process started. */
  readonly isLatchKnown: boolean;
  /** Why the latch could not be read or written last; `null` when it is as it should be. */
  readonly latchFailure: string | null;
  /** The leases of the process that led before have been read since this one leads. */
  readonly areLeasesKnown: boolean;
  /** The admission rule that keeps a stopped cluster stopped, as it was read last. */
  readonly denyRule: 'armed' | 'disarmed' | 'absent' | 'unknown';
}

/** What is known of the cluster beside the state: for people, and decided by nobody. */
export interface ClusterDetails {
  readonly server: string;
  readonly namespace: string;
  readonly namespaces: readonly string[];
  readonly leasesFailure: string | null;
  readonly missingRights: readonly string[];
  readonly missingOptionalRights: readonly string[];
  readonly failingGroups: readonly { readonly groupVersion: string; readonly detail: string }[];
  readonly priorValues: number;
  /** By the trip whose stop took them. */
  readonly priorTrips: Readonly<Record<string, number>>;
}

/** A node as its cluster has it. */
export interface ClusterMachine {
  /** Nothing can be stopped through the API on a node that is not. */
  readonly isReady: boolean;
  /** Differs after each boot of the machine; `null` where it is not told. */
  readonly bootId: string | null;
}

/** The last reset that the cluster's record of the latch tells of. */
export interface LastReset {
  readonly tripId: string;
  readonly by: string;
  readonly reason: string;
  readonly wallMs: number;
}

/** What a process learns of resets that others made. */
export interface ClusterReset {
  /** The cluster's, to go on with. */
  readonly epoch: number;
  /** Which of its own trips they ended. */
  readonly tripIds: readonly string[];
  readonly last: LastReset | null;
}

/** What is unprotected on no single node: what nobody, or nobody for sure, keeps from coming back after a stop. */
export function unprotectedOfAll({
  cluster,
  inventory,
}: {
  readonly cluster: ClusterState | null;
  readonly inventory: WorkloadInventory;
}): Unprotected[] {
  const rivals = inventory.unprotected ?? [];
  if (cluster?.denyRule !== 'absent') return [...rivals];
  const message =
    'The deny rule vsf-estop is not installed: after a stop nothing but sweeping keeps controllers from making pods again';
  return [{ code: 'no-deny-rule', name: 'vsf-estop', message }, ...rivals];
}
