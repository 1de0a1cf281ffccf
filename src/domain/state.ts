// Everything the service knows, as one immutable value. Only decide() makes a new one.
import type { ClusterMachine, ClusterState } from './cluster.ts';
import type { NodeLimits, WorstMargin } from './evaluate.ts';
import type { Listing } from './events.ts';
import type { Cooling, Trip } from './interlock.ts';
import type { EndedLease, Lease, WorkloadInventory } from './lease.ts';
import type { NodeWatch } from './node-watch.ts';
import type { Action, Finding, SafetyResult, Unprotected } from './result.ts';
import type { PendingLook } from './second-look.ts';
import type { SafetySettings } from './settings.ts';

/** One node: what is seen of it, how that was judged last, and for how long it has been blind. */
export interface NodeState {
  readonly watch: NodeWatch;
  readonly cooling: Cooling | null;
  readonly looks: ReadonlyMap<string, PendingLook>;
  /** Since when each required reading has been missing, monotonic. */
  readonly missingSinceMs: ReadonlyMap<string, number>;
  /** Since when a workload has been live here without a break; `null` is none. */
  readonly liveSinceMs: number | null;
  /** From when its blindness counts as too long, monotonic: settled when the time for that has come; `null` before. */
  readonly blindCountsAtMs: number | null;
  /** Until when a reading never seen since the start may be missing without ABORT, monotonic. */
  readonly graceUntilMs: number;
  /** The boot that this grace was given for: it is given once in each. `null`: none is known. */
  readonly graceBootId: string | null;
  /** The node as its cluster has it; `null` where no cluster tells. */
  readonly machine: ClusterMachine | null;
  /** When its cluster called it Ready again, monotonic; `null` where it never was otherwise. */
  readonly readySinceMs: number | null;
  /** How long this node had been blind under load before the restart, ms; spent at the first evaluation. */
  readonly blindCarryMs: number;
  /** HW throttle bits in how many samples running, per source and GPU. */
  readonly throttles: ReadonlyMap<string, { readonly gpu: string; readonly count: number }>;
  readonly limits: NodeLimits;
  /** The last evaluation: as a running workload's where one is live, else as a start's. */
  readonly findings: readonly Finding[];
  readonly unprotected: readonly Unprotected[];
}

export interface ActuatorState {
  readonly available: boolean;
  readonly detail: string;
}

/** The last trip that an operator reset; its report stays readable. */
export interface EndedTrip {
  readonly trip: Trip;
  readonly resetBy: string;
  readonly resetReason: string;
  readonly resetWallMs: number;
}

/** A node's worst margin, with the limits that it is a margin to; `null` where nothing with a limit is read. */
export interface KnownMargin {
  readonly limits: NodeLimits;
  readonly margin: WorstMargin | null;
}

export interface SafetyState {
  readonly settings: SafetySettings;
  /** Monotonic time of the last event (I9) and how far wall time was ahead of it. */
  readonly lastNowMs: number;
  readonly wallAheadMs: number;
  /** Readings taken before this moment are stale. */
  readonly staleBeforeMs: number;
  readonly nodes: ReadonlyMap<string, NodeState>;
  /** Nodes that nothing lists any more and that nothing runs on: not judged, and known when they come back. */
  readonly nodesAside: ReadonlyMap<string, NodeState>;
  /** Since when nodes have been off the lists, monotonic. */
  readonly unlistedSinceMs: ReadonlyMap<string, number>;
  /** What is wrong with the lists that nodes are found by. */
  readonly finders: Pick<Listing, 'problems' | 'unread'>;
  /** Nodes whose wall clock was found wrong, with the sources that told so. */
  readonly skewedClocks: ReadonlyMap<string, ReadonlySet<string>>;
  readonly trips: ReadonlyMap<string, Trip>;
  readonly lastTrip: EndedTrip | null;
  /** Rises with every reset; nothing older than the last reset can act (I11). */
  readonly epoch: number;
  readonly lastResetWallMs: number | null;
  readonly leases: ReadonlyMap<string, Lease>;
  readonly endedLeases: ReadonlyMap<string, EndedLease>;
  readonly inventory: WorkloadInventory;
  readonly actuators: ReadonlyMap<string, ActuatorState>;
  readonly journal: { readonly ok: boolean; readonly detail: string };
  /** `null`: no cluster is configured, and this process alone decides. */
  readonly cluster: ClusterState | null;
  /** Number of the last published message. */
  readonly sequence: number;
  readonly startedAtMs: number;
  /** Boot graces of a cluster's nodes that earlier starts gave, for when these nodes are found again. */
  readonly boots: ReadonlyMap<string, Pick<NodeState, 'graceBootId' | 'graceUntilMs'>>;
  /** When the last tick was published, monotonic; `null` before the first. */
  readonly lastTickAtMs: number | null;
  /** When anything was evaluated last, monotonic. */
  readonly lastEvaluationAtMs: number | null;
  readonly lastResult: SafetyResult | null;
  readonly publishedAction: Action | null;
  /** The worst margins of the last publication: a stop of a thousand nodes is published before all are read anew. */
  readonly margins: ReadonlyMap<NodeWatch, KnownMargin>;
  /** Digest of all limits in force, cards' own included. */
  readonly constraintsDigest: string;
}

/** All names that a request may use for a node: configured, or read at least once. */
export function isKnownNode(state: SafetyState, node: string): boolean {
  return state.nodes.has(node) || state.settings.nodes.has(node) || state.nodesAside.has(node);
}
