// One step through the door, while it is being decided: the state so far, and what shall follow. Created by decide(),
// handed to the steps of each kind of event, and never seen outside.

import type { WorstMargin } from './evaluate.ts';
import type { DurableChange, Effect, EventData, Message, Moment } from './events.ts';
import { invariant } from './invariant.ts';
import type { Purpose } from './node-readings.ts';
import type { NodeWatch } from './node-watch.ts';
import type { NodeReadings } from './reading.ts';
import type { SafetyResult } from './result.ts';
import type { KnownMargin, NodeState, SafetyState } from './state.ts';

/** A trip of thousands of leases has thousands of reasons; the record names the first few. */
const MOST_REASONS = 20;

export class Step {
  state: SafetyState;
  readonly moment: Moment;
  /** What was read last out of a node's watch in this step: one node is asked several times in a row. */
  lastRead: { readonly watch: NodeWatch; readonly by: Readonly<Partial<Record<Purpose, NodeReadings>>> } | null = null;
  /** The worst margins found while judging in this step, by watch. */
  readonly margins = new Map<NodeWatch, KnownMargin>();
  readonly #effects: Effect[] = [];
  readonly #set: Record<string, unknown> = {};
  readonly #deleted = new Set<string>();
  readonly #why = new Set<string>();
  #nodes = new Map<string, NodeState>();
  #isUrgent = false;
  #ids = 0;

  constructor(state: SafetyState, moment: Moment) {
    this.state = state;
    this.moment = moment;
  }

  get nowMs(): number {
    return this.moment.elapsedMs;
  }

  /** Replaces parts of the state. */
  change(parts: Partial<SafetyState>): void {
    this.state = { ...this.state, ...parts };
  }

  /**
   * Replaces or adds one node. The step's own map takes it, copied once from the state's: a copy for each of a
   * thousand nodes would be a million entries a tick. Whoever holds the step's `state.nodes` sees it change.
   */
  setNode(name: string, node: NodeState): void {
    if (this.state.nodes !== this.#nodes) {
      this.#nodes = new Map(this.state.nodes);
      this.change({ nodes: this.#nodes });
    }
    this.#nodes.set(name, node);
  }

  /** A new id: the moment's own UUID first, then numbered ones. */
  newId(): string {
    const id = this.#ids === 0 ? this.moment.id : `${this.moment.id}-${this.#ids}`;
    this.#ids += 1;
    return id;
  }

  /** Remembers durably; `null` forgets the key. */
  record(key: string, value: unknown, why: string, urgent = false): void {
    invariant(key.length > 0, 'A durable record needs a key');
    if (value === null) {
      delete this.#set[key];
      this.#deleted.add(key);
    } else {
      this.#deleted.delete(key);
      this.#set[key] = value;
    }
    if (this.#why.size < MOST_REASONS) this.#why.add(why);
    this.#isUrgent ||= urgent;
  }

  effect(effect: Effect): void {
    this.#effects.push(effect);
  }

  log(level: 'fatal' | 'error' | 'warn' | 'info', message: string): void {
    this.effect({ kind: 'log', level, message });
  }

  /** Tells everybody who listens, and the log. */
  tell(data: EventData, level: 'fatal' | 'error' | 'warn' | 'info' = 'info'): void {
    this.log(level, data.message);
    this.#publish({ type: 'event', ...this.#envelope(), data });
  }

  publishEvaluation(result: SafetyResult, worstMargins: readonly WorstMargin[]): void {
    const envelope = this.#envelope();
    const data = { ...result, sequence: envelope.sequence, worstMargins };
    this.change({ lastResult: { ...result, sequence: envelope.sequence }, publishedAction: result.action });
    this.#publish({ type: 'evaluation', ...envelope, data });
  }

  #envelope(): { sequence: number; at: string } {
    const sequence = this.state.sequence + 1;
    this.change({ sequence });
    return { sequence, at: new Date(this.moment.wallMs).toISOString() };
  }

  #publish(message: Message): void {
    this.effect({ kind: 'publish', message });
  }

  /** Everything that shall follow; the durable change first. */
  effects(): Effect[] {
    const deleted = [...this.#deleted];
    const hasChange = Object.keys(this.#set).length > 0 || deleted.length > 0;
    if (!hasChange) return this.#effects;
    const change: DurableChange = { set: this.#set, delete: deleted, why: [...this.#why].join('; ').slice(0, 1000) };
    return [{ kind: 'journal', change, urgent: this.#isUrgent }, ...this.#effects];
  }
}
