// What waits to be told to one webhook. Two kinds: a queue of notices, each told once (notice-queue.ts), and a board of
// alerts, told again for as long as they stand (alert-board.ts). Who sends it, and again when that fails, is target.ts.
import type { Now } from '../clock.ts';
import type { Message } from '../domain/events.ts';
import type { SafetyState } from '../domain/state.ts';

export interface Delivery {
  /** The same at every try, so that a receiver knows what it has seen. */
  readonly id: string;
  readonly body: string;
}

export interface Outbox {
  /** Takes what was published; called within a decision, so it only notes. Whether it cannot wait for a back-off. */
  take(message: Message, state: SafetyState): 'urgent' | 'noted' | 'ignored';
  /** What is to be sent now, the oldest first; the same again until it is settled. */
  due(now: Now, state: SafetyState): Delivery | null;
  /** When something is due by itself, monotonic; `null`: only what is taken makes something due. */
  nextDueMs(): number | null;
  /** `taken`: the receiver has it. `refused`: it will never take it. */
  settle(delivery: Delivery, outcome: 'taken' | 'refused', now: Now): void;
  /** How much waits, and what was given up since the start. */
  readonly pending: number;
  readonly dropped: number;
}
