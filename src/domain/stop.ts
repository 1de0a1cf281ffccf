// The words of an emergency stop: what is ordered, what is touched, and what the report says of it.

/** What a trip covers: everything, or the nodes named. */
export type TripScope = { readonly kind: 'all' } | { readonly kind: 'nodes'; readonly nodes: readonly string[] };

/** A process group on this machine, pinned by its leader's start time so that a reused number is never hit. */
export interface ProcessGroup {
  /** Process group id = its leader's pid; over 1 and never the service's own. */
  readonly pgid: number;
  /** The leader's start time in clock ticks since boot (field 22 of /proc/PID/stat). */
  readonly startTicks: number;
}

/** Something that runs now and could be stopped. */
export interface LiveWorkload {
  readonly kind: 'pod' | 'process-group';
  /** `null`: a pod that is on no node yet. */
  readonly node: string | null;
  /** `namespace/name`, or the process group's number. */
  readonly name: string;
  readonly leaseId?: string;
}

/** One lease that an order covers, with what an actuator needs to find its workload. */
export interface StopTarget {
  readonly leaseId: string;
  readonly workload: string;
  readonly processGroup?: ProcessGroup;
}

/** The order that `decide` gives to the actuators. */
export interface StopOrder {
  /** The trip's id; for a lapsed lease `lapse-<lease id>`; for a drill `drill-<uuid>`. */
  readonly orderId: string;
  readonly scope: TripScope;
  /**
   * `everything`: all labelled workloads in scope, leased or not. `leases`: only what `targets` names (a lapse).
   */
  readonly what: 'everything' | 'leases';
  readonly targets: readonly StopTarget[];
  readonly reason: string;
}

/** One object in a stop's report. */
export interface StopEntry {
  readonly actuator: 'local-processes' | 'kubernetes' | 'drill';
  readonly kind: string;
  /** `namespace/name`, `pgid 4711 (train-7)`. */
  readonly name: string;
  readonly node?: string;
  readonly leaseId?: string;
  /**
   * `found` nothing sent yet · `stopping` told to stop · `stopped` seen gone · `failed` could not be told (see detail) ·
   * `refused` not ours to touch (another start time, no mark) · `would-stop` in a drill.
   */
  readonly state: 'found' | 'stopping' | 'stopped' | 'failed' | 'refused' | 'would-stop';
  /** How it was stopped: `SIGTERM`, `SIGTERM, SIGKILL`, `scale 3 -> 0` … */
  readonly how: string;
  /** The value before, where one was changed. */
  readonly prior?: string;
  readonly verified: boolean;
  /** From the order until this entry's state, in ms. */
  readonly tookMs: number;
  readonly detail?: string;
}
