// What is kept of a moment, as it goes from the thread that judges to the thread that writes: numbers side by side in
// typed arrays, since a thousand nodes with eight GPUs are 28,000 of them every ten seconds.
import type { EventData } from '../domain/events.ts';
import type { HardwareComponent, Quantity, Unit } from '../domain/reading.ts';

/** One line of a plot, and the limits that it was judged by. */
export interface Series {
  readonly component: HardwareComponent;
  readonly id?: string;
  readonly quantity: Quantity;
  readonly unit: Unit;
  readonly warning?: number;
  readonly hardStop?: number;
  readonly max?: number;
}

/** Which series a node's numbers are, in their order. New whenever a card, a reading or a limit comes or goes. */
export interface Layout {
  /** Unique while the process runs. */
  readonly id: number;
  readonly node: string;
  readonly series: readonly Series[];
}

/** What one evaluation saw of all nodes. */
export interface Figures {
  /** Wall clock, ms. */
  readonly atMs: number;
  /** Severity of the published action, 0 PROCEED to 3 ABORT. */
  readonly severity: number;
  /** Per node: the id of its layout. */
  readonly layouts: Uint32Array;
  /** Per node: the severity of its own action. */
  readonly severities: Uint8Array;
  /** Per node: how far it is from its nearest limit, 1 far to 0 at it; NaN where nothing is measured. */
  readonly margins: Float32Array;
  /** The numbers of all nodes one after another, each in the order of its layout; NaN where one is missing. */
  readonly values: Float32Array;
}

/** An event, without the report of a stop, which the journal keeps. */
export interface KeptEvent extends Omit<EventData, 'report'> {
  /** ISO 8601, wall clock. */
  readonly at: string;
}

/** A trip or a cooldown that is on now. */
export interface OpenSpan {
  readonly state: 'tripped' | 'cooling';
  /** `null`: everything. A trip of several nodes is one span for each. */
  readonly node: string | null;
  readonly tripId: string | null;
  readonly reason: string | null;
  /** Wall clock, ms; `null`: since this was first told. */
  readonly sinceMs: number | null;
}

/** Written in one go. */
export interface Batch {
  /** Wall clock, ms. */
  readonly atMs: number;
  readonly layouts: readonly Layout[];
  /** Layouts that no later figures are in. */
  readonly forgotten: readonly number[];
  readonly figures: readonly Figures[];
  readonly events: readonly KeptEvent[];
  /** All that are on; one that is not among them any more is over. */
  readonly open: readonly OpenSpan[];
}

/** What is asked of the store; times are wall clock, ms. */
export interface HistoryQuery {
  readonly fromMs: number;
  readonly toMs: number;
  readonly node: string | null;
  /** The node is known to the service, whatever the store knows. */
  readonly isKnown: boolean;
}

/** How the store stands after a batch. */
export interface StoreFigures {
  readonly sizeBytes: number;
  /** The oldest figure that is kept, wall clock, ms; `null`: there is none. */
  readonly keptFromMs: number | null;
  /** Set once, when figures were dropped before their time because the store was full. */
  readonly droppedBeforeMs: number | null;
}

/** How the store is bounded. */
export interface StoreBounds {
  readonly keepMs: number;
  readonly maxBytes: number;
  /** Between two ticks, for telling a gap from a pause. */
  readonly intervalMs: number;
  readonly simulated: boolean;
}

export type Request =
  | { readonly kind: 'write'; readonly id: number; readonly batch: Batch }
  | { readonly kind: 'query'; readonly id: number; readonly query: HistoryQuery }
  | { readonly kind: 'close'; readonly id: number };

/** `begunAnew`: the old store was corrupt and stands aside under this name. */
export type Reply =
  | { readonly kind: 'written'; readonly id: number; readonly store: StoreFigures; readonly begunAnew: string | null }
  | { readonly kind: 'answered'; readonly id: number; readonly text: string; readonly begunAnew: string | null }
  | { readonly kind: 'unknown-node'; readonly id: number; readonly begunAnew: string | null }
  | { readonly kind: 'failed'; readonly id: number; readonly detail: string; readonly begunAnew: string | null }
  | { readonly kind: 'closed'; readonly id: number };
