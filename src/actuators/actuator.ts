// The shape of what can stop workloads. An actuator acts only on an order that `decide` returned (I5), reports every
// object that it touched, and keeps looking until the order is withdrawn. Operating failures are entries of the report.
import type { Unprotected } from '../domain/result.ts';
import type { LiveWorkload, StopEntry, StopOrder } from '../domain/stop.ts';

export interface Actuator {
  readonly name: 'local-processes' | 'kubernetes' | 'drill';
  /** What this actuator sees running right now; answers before `deadlineMs` (monotonic). */
  inventory(deadlineMs: number): Promise<Inventory>;
  /**
   * Carries out one order: finds, stops and verifies, calling `report` with the whole list of entries at every change,
   * and goes on looking and stopping until `withdrawn` is aborted (the reset). Never rejects.
   */
  stop(order: StopOrder, report: (progress: StopProgress) => void, withdrawn: AbortSignal): Promise<void>;
  /**
   * What `stop` would do under an order, by a look of its own that ends before `deadlineMs`; touches nothing. Left out
   * where the inventory tells all of it.
   */
  preview?(order: StopOrder, deadlineMs: number): Promise<Preview>;
  close(): Promise<void>;
}

export interface Preview {
  /** Why something may be missing from the list; `null`: nothing is. */
  readonly failure: string | null;
  readonly entries: readonly StopEntry[];
}

export interface Inventory {
  /** `false` refuses starts with `actuator-unavailable`. */
  readonly available: boolean;
  readonly detail: string;
  readonly workloads: readonly LiveWorkload[];
  /** Pods were listed, so that "no pod there" means no pod there. */
  readonly seesPods?: boolean;
  /** Who may undo a stop, as far as it can be seen before. */
  readonly unprotected?: readonly Unprotected[];
}

export interface StopProgress {
  readonly entries: readonly StopEntry[];
  /** Everything in the order is gone for sure, by this actuator's own rule. */
  readonly verified: boolean;
}
