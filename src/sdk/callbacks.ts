// The user's callbacks for warnings, or for the critical end: called once per change, and never in vain. A warning may
// come before the workload exists. So what nobody is registered for is kept until somebody is; and a callback that
// fails, because it names a generator that is not there yet, gets the standing warning again with the next answer. What
// a callback does wrong is told to the process as a warning, and reaches nobody else.
import { type Clock, withDeadline } from '../clock.ts';
import type { Verdict } from './verdict.ts';

/** Plain or async. What it returns is not looked at; what it throws is told as a warning of the process. */
export type SafetyCallback = (result: Verdict) => unknown;

/** More changes than anybody would want to be told of afterwards; the oldest go first. */
const MOST_KEPT = 16;
/** How long the end of a run waits for async callbacks. */
const DRAIN_MS = 5_000;

export class Callbacks {
  readonly #name: string;
  readonly #registered = new Set<{ readonly call: SafetyCallback }>();
  readonly #running = new Set<Promise<void>>();
  #kept: Verdict[] = [];
  #failed = new Set<{ readonly call: SafetyCallback }>();
  /** Callbacks whose failure was told: the same one would fail with every answer. */
  readonly #toldOf = new WeakSet<SafetyCallback>();

  /** `name` is the callback's for messages: `onWarning`. */
  constructor(name: string) {
    this.#name = name;
  }

  /** Registers, and hands over what came before anybody was. The returned function ends it. */
  add(call: SafetyCallback): () => void {
    const entry = { call };
    this.#registered.add(entry);
    const kept = this.#kept;
    this.#kept = [];
    for (const result of kept) this.#run(entry, result);
    return () => {
      this.#registered.delete(entry);
      this.#failed.delete(entry);
    };
  }

  /** Something has changed. */
  deliver(result: Verdict): void {
    this.#failed = new Set();
    if (this.#registered.size === 0) this.#kept = [...this.#kept, result].slice(-MOST_KEPT);
    for (const entry of [...this.#registered]) this.#run(entry, result);
  }

  /** Nothing has changed, and `result` stands: those that failed get it again. */
  retry(result: Verdict): void {
    const failed = this.#failed;
    this.#failed = new Set();
    for (const entry of failed) this.#run(entry, result);
  }

  /** What stood is over: those that failed have nothing left to do. */
  forgive(): void {
    this.#failed = new Set();
  }

  /** Waits for async callbacks, 5 s at most. */
  async drain(clock: Clock): Promise<void> {
    if (this.#running.size > 0) await withDeadline(clock, DRAIN_MS, Promise.allSettled(this.#running));
  }

  #run(entry: { readonly call: SafetyCallback }, result: Verdict): void {
    const running: Promise<void> = this.#call(entry, result).finally(() => this.#running.delete(running));
    this.#running.add(running);
  }

  async #call(entry: { readonly call: SafetyCallback }, result: Verdict): Promise<void> {
    try {
      await entry.call(result);
    } catch (error) {
      if (this.#registered.has(entry)) this.#failed.add(entry);
      if (this.#toldOf.has(entry.call)) return;
      this.#toldOf.add(entry.call);
      const why = error instanceof Error ? (error.stack ?? error.message) : String(error);
      warn(`A callback of ${this.#name} failed; it is called again while its cause stands: ${why}`);
    }
  }
}

/** Tells the process, on standard error unless it listens to `warning` itself. */
export function warn(message: string): void {
  process.emitWarning(message, 'VsfSafetyWarning');
}
