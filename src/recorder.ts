// What must be durable and is not yet. The journal writes each change once; when the disk does not take it, the newest
// value of each key is kept here and written again with every tick, until it is there. A trip on a full disk is so in
// the record as soon as there is space, not only until the next restart.
import type { DurableChange } from './domain/events.ts';

/** What is needed of the journal. */
export interface DurableRecord {
  append(change: DurableChange & { readonly at: string }, options: { readonly urgent: boolean }): Promise<Recorded>;
}

export type Recorded = { readonly ok: true } | { readonly ok: false; readonly code: string; readonly detail: string };

/** A record written again holds at most so many keys, so that it stays far below the journal's bound. */
const MOST_KEYS_AGAIN = 200;

export class Recorder {
  readonly #journal: DurableRecord;
  /** Number of the newest change of each key that is under way or failed. */
  readonly #newest = new Map<string, number>();
  /** Keys whose newest change failed, with the value to be written (`undefined`: the key is to be deleted). */
  readonly #unrecorded = new Map<string, unknown>();
  #changes = 0;
  #isWritingAgain = false;

  constructor(journal: DurableRecord) {
    this.#journal = journal;
  }

  /** How many keys wait to be written again. */
  get unrecorded(): number {
    return this.#unrecorded.size;
  }

  /** Hands a change to the journal at once; resolves when it is durable or failed. Never rejects. */
  async record(change: DurableChange, at: string, urgent: boolean): Promise<Recorded> {
    this.#changes += 1;
    const number = this.#changes;
    const keys = [...Object.keys(change.set), ...change.delete];
    for (const key of keys) this.#newest.set(key, number);
    const outcome = await this.#journal.append({ ...change, at }, { urgent });
    for (const key of keys) {
      // A newer change of the same key carries a newer value, and its own outcome.
      if (this.#newest.get(key) !== number) continue;
      if (outcome.ok) {
        this.#newest.delete(key);
        this.#unrecorded.delete(key);
      } else this.#unrecorded.set(key, change.set[key]);
    }
    return outcome;
  }

  /** Writes again what failed; with nothing to write it only asks the disk. `null` while that is under way. */
  async writeAgain(at: string): Promise<Recorded | null> {
    if (this.#isWritingAgain) return null;
    this.#isWritingAgain = true;
    try {
      const waiting = [...this.#unrecorded].slice(0, MOST_KEYS_AGAIN);
      const set = Object.fromEntries(waiting.filter(([, value]) => value !== undefined));
      const deleted = waiting.filter(([, value]) => value === undefined).map(([key]) => key);
      return await this.record({ set, delete: deleted, why: 'written again after a failure' }, at, false);
    } finally {
      this.#isWritingAgain = false;
    }
  }
}
