// What can happen, what follows, and what is answered: the words at the one door.
import type { ClusterMachine, ClusterReset, ClusterState } from './cluster.ts';
import type { SafetyConstraints } from './constraints.ts';
import type { WorstMargin } from './evaluate.ts';
import type { CopiedTrip, StopReport, TripCause } from './interlock.ts';
import type { EndedLease, Lease, LeaseOutcome } from './lease.ts';
import type { SourceReport } from './reading.ts';
import type { SafetyResult, Unprotected } from './result.ts';
import type { LiveWorkload, ProcessGroup, StopEntry, StopOrder, TripScope } from './stop.ts';

/** The moment of a step: both clocks, and a fresh UUID for whatever the step creates. */
export interface Moment {
  readonly elapsedMs: number;
  readonly wallMs: number;
  readonly id: string;
}

export interface StartRequest {
  /** Over 0 and at most 1; `null` asks for the profile's maximum. */
  readonly intensity: number | null;
  readonly nodes: readonly string[] | null;
  readonly constraints: SafetyConstraints | null;
  /** Keys that the request itself gave, for naming those that are looser and so ignored. */
  readonly constraintKeys: readonly string[];
}

export interface LeaseRequest extends StartRequest {
  readonly id: string;
  readonly workload: string;
  readonly gpus: readonly string[] | null;
  readonly ttlMs: number;
  readonly maxDurationMs: number | null;
  readonly processGroup: ProcessGroup | null;
}

/** What is to be watched, as the finders say: the nodes, and the sources of each. */
export interface Listing {
  readonly nodes: ReadonlySet<string>;
  /** Ids of sources, by node; a node without an entry has none. */
  readonly sources: ReadonlyMap<string, ReadonlySet<string>>;
  /** What of the lists could not be used, or why one could not be read. */
  readonly problems: readonly { readonly origin: string; readonly detail: string }[];
  /** Lists that have not been read once since the start: nobody knows what they would name. */
  readonly unread: readonly string[];
  /** What a cluster says of its nodes, by name; left out where none is asked. */
  readonly machines?: ReadonlyMap<string, ClusterMachine>;
}

export type SafetyEvent =
  /** The clock was looked at: before a round of readings, and when something is due. */
  | { readonly kind: 'clock-looked' }
  /** Sources were read. A `tick` covers every node and is published; the others only when the action changes. */
  | { readonly kind: 'observed'; readonly why: 'tick' | 'fast' | 'question'; readonly reports: readonly SourceReport[] }
  | { readonly kind: 'preflight-asked'; readonly request: StartRequest; readonly reports: readonly SourceReport[] }
  | {
      readonly kind: 'lease-asked';
      readonly request: LeaseRequest;
      readonly identity: string;
      readonly reports: readonly SourceReport[];
    }
  | {
      readonly kind: 'renewal-asked';
      readonly leaseId: string;
      readonly identity: string;
      readonly intensity: number | null;
      /** Read for this question when the intensity is to rise; else empty. */
      readonly reports: readonly SourceReport[];
    }
  | {
      readonly kind: 'release-asked';
      readonly leaseId: string;
      readonly identity: string;
      /** Its grant was never answered, since it could not be written: whoever asks again by this id asks anew. */
      readonly isUntold?: true;
    }
  | {
      readonly kind: 'stop-requested';
      /** `null` stops everything. */
      readonly nodes: readonly string[] | null;
      readonly cause: Extract<TripCause, 'manual' | 'alert' | 'corrupt-state'>;
      readonly reason: string;
      readonly by: string;
      /** When the newest of its alerts began, wall ms; only with `cause: alert`. */
      readonly begunWallMs?: number;
    }
  | { readonly kind: 'drill-requested'; readonly nodes: readonly string[] | null; readonly by: string }
  | {
      readonly kind: 'stop-reported';
      readonly orderId: string;
      readonly actuator: string;
      readonly entries: readonly StopEntry[];
      readonly verified: boolean;
    }
  | {
      readonly kind: 'reset-requested';
      readonly tripId: string;
      readonly reason: string;
      readonly by: string;
      readonly acknowledgeUnverified: boolean;
      readonly reports: readonly SourceReport[];
      /**
       * In a cluster the reset is judged first, then written there, and only then carried out here: whatever else is
       * wrong by then is a new trip's business. Left out: judged and carried out at once.
       */
      readonly stage?: 'judge' | 'commit';
      /** With `commit`: what the judgement was. */
      readonly judged?: JudgedReset;
    }
  | {
      readonly kind: 'forget-requested';
      readonly node: string;
      readonly gpu: string | null;
      readonly reason: string;
      readonly by: string;
    }
  | {
      readonly kind: 'inventoried';
      readonly actuators: readonly { readonly name: string; readonly available: boolean; readonly detail: string }[];
      readonly workloads: readonly LiveWorkload[];
      readonly seesPods: boolean;
      readonly unprotected?: readonly Unprotected[];
    }
  /** What is to be watched, where something finds it. */
  | { readonly kind: 'nodes-listed'; readonly listing: Listing }
  | { readonly kind: 'journal-reported'; readonly ok: boolean; readonly detail: string }
  /** Trips of other processes, as the cluster's record holds them, under their own ids. */
  | { readonly kind: 'cluster-tripped'; readonly trips: readonly CopiedTrip[] }
  /** Another process reset these trips. */
  | ({ readonly kind: 'cluster-reset' } & ClusterReset)
  /** The cluster's record holds these trips; by id, how many stops had joined each before it was asked. */
  | { readonly kind: 'cluster-heard'; readonly joined: ReadonlyMap<string, number> }
  /** Who leads, and what is known of the cluster's record. */
  | { readonly kind: 'cluster-reported'; readonly cluster: ClusterState }
  /** This process leads from now on, and read the leases that the one before it wrote; in the journal's own form. */
  | { readonly kind: 'leases-taken-over'; readonly leases: ReadonlyMap<string, unknown> }
  /** A controller of the cluster was given back what a stop took, or why not. */
  | { readonly kind: 'restore-reported'; readonly tripId: string; readonly by: string; readonly message: string }
  /** Figures and events are kept again, are being lost, do not fit, or go to a new store since the old one was damaged. */
  | {
      readonly kind: 'history-reported';
      readonly what: 'back' | 'failed' | 'full' | 'begun-anew';
      readonly detail: string;
    }
  /** Once, after replay: trips that are still on are ordered again. */
  | { readonly kind: 'started' };

/** What a reset knew when it was judged: whatever came later it does not end. */
export interface JudgedReset {
  /** How many stops had joined the trip. */
  readonly joined: number;
  /** The time of the reset, wherever it is carried out. */
  readonly wallMs: number;
}

/** A durable change: keys of the journal's map. */
export interface DurableChange {
  readonly set: Readonly<Record<string, unknown>>;
  readonly delete: readonly string[];
  readonly why: string;
}

export const EVENT_NAMES = [
  'tripped',
  'stop-progress',
  'stop-verified',
  'stop-unverified',
  'reset',
  'restore',
  'cooling-started',
  'cooling-ended',
  'lease-granted',
  'lease-ended',
  'lapsed-unmarked',
  'not-obeyed',
  'intensity-reduced',
  'intensity-restored',
  'gpu-seen',
  'gpu-forgotten',
  'sensor-glitch',
  'reading-lost',
  'reading-back',
  'clock-jumped',
  'clock-skew',
  'node-listed',
  'node-unlisted',
  'journal-failed',
  'journal-back',
  'leadership',
  'history-failed',
  'history-back',
  'history-full',
  'history-begun-anew',
  'drill',
] as const;
export type EventName = (typeof EVENT_NAMES)[number];

/** What a WebSocket client gets in `data` of an `event`. */
export interface EventData {
  readonly name: EventName;
  readonly node?: string;
  readonly leaseId?: string;
  readonly tripId?: string;
  readonly message: string;
  readonly by?: string;
  readonly outcome?: LeaseOutcome;
  readonly report?: StopReport;
  /** Trips of single nodes that this one covers, and that are over for it. */
  readonly tookOver?: readonly string[];
}

export type Message =
  | {
      readonly type: 'evaluation';
      readonly sequence: number;
      readonly at: string;
      readonly data: SafetyResult & { readonly worstMargins: readonly WorstMargin[] };
    }
  | { readonly type: 'event'; readonly sequence: number; readonly at: string; readonly data: EventData };

export type Effect =
  /** `urgent`: a trip; begun before any other effect, waited for by none of them (I3). */
  | { readonly kind: 'journal'; readonly change: DurableChange; readonly urgent: boolean }
  | { readonly kind: 'stop-workloads'; readonly order: StopOrder }
  | { readonly kind: 'withdraw-order'; readonly orderId: string }
  /** A hard stop waits for a second sample: read these nodes again before the deadline. */
  | { readonly kind: 'look-again'; readonly nodes: readonly string[]; readonly deadlineMs: number }
  | { readonly kind: 'publish'; readonly message: Message }
  | { readonly kind: 'log'; readonly level: 'fatal' | 'error' | 'warn' | 'info'; readonly message: string };

/** What the asker of an event is told. */
export type Answer =
  | { readonly kind: 'none' }
  | {
      readonly kind: 'judged';
      readonly result: SafetyResult;
      readonly isTripped: boolean;
      readonly retryAfterSeconds: number | null;
    }
  | { readonly kind: 'granted'; readonly lease: Lease; readonly result: SafetyResult }
  | { readonly kind: 'renewed'; readonly lease: Lease; readonly result: SafetyResult }
  | { readonly kind: 'released' }
  | { readonly kind: 'lease-ended'; readonly ended: EndedLease }
  | { readonly kind: 'lease-unknown' }
  /** Another process may know this lease, or nobody has been able to say yet. */
  | { readonly kind: 'lease-elsewhere'; readonly code: 'not-leader' | 'state-unknown'; readonly why: string }
  | { readonly kind: 'lease-forbidden' }
  | { readonly kind: 'lease-limit'; readonly limit: number }
  | { readonly kind: 'evaluation-too-old'; readonly ageSeconds: number | null }
  | { readonly kind: 'unknown-nodes'; readonly nodes: readonly string[] }
  | { readonly kind: 'stopping'; readonly tripId: string; readonly joined: boolean; readonly report: StopReport }
  | { readonly kind: 'drilling'; readonly order: StopOrder; readonly unknownNodes: readonly string[] }
  | { readonly kind: 'reset-done'; readonly tripId: string; readonly epoch: number }
  /** Judged, and nothing stands against it. */
  | { readonly kind: 'reset-allowed'; readonly tripId: string; readonly judged: JudgedReset }
  | { readonly kind: 'reset-refused'; readonly still: readonly string[] }
  | { readonly kind: 'trip-unknown'; readonly tripId: string; readonly active: readonly string[] }
  | { readonly kind: 'forgotten'; readonly gpus: readonly string[] }
  | { readonly kind: 'forget-refused'; readonly why: string }
  | { readonly kind: 'gpu-unknown'; readonly asked: readonly string[]; readonly known: readonly string[] };

export type { TripScope };
