// A clock that moves only when a test says so. Timers fire in order of their time, each with its microtasks drained.
import { type Clock, type Now, sleepBy } from '../../src/clock.ts';

interface Timer {
  readonly atMs: number;
  readonly order: number;
  readonly fire: () => void;
}

export class ManualClock implements Clock {
  #elapsedMs: number;
  #wallMs: number;
  #timers: Timer[] = [];
  #order = 0;

  constructor(start: Now = { elapsedMs: 1_000_000, wallMs: Date.UTC(2026, 0, 1) }) {
    this.#elapsedMs = start.elapsedMs;
    this.#wallMs = start.wallMs;
  }

  now(): Now {
    return { elapsedMs: this.#elapsedMs, wallMs: this.#wallMs };
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return sleepBy(this, ms, signal);
  }

  after(ms: number, fire: () => void): () => void {
    const timer: Timer = { atMs: this.#elapsedMs + Math.max(0, ms), order: this.#order++, fire };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  /** Moves both clocks on by `ms`, firing what comes due on the way and letting promises settle after each. */
  async advance(ms: number): Promise<void> {
    const endMs = this.#elapsedMs + ms;
    for (;;) {
      await settle();
      const next = this.#timers
        .filter((timer) => timer.atMs <= endMs)
        .sort((a, b) => a.atMs - b.atMs || a.order - b.order)[0];
      if (!next) break;
      this.#timers = this.#timers.filter((timer) => timer !== next);
      this.#moveTo(Math.max(this.#elapsedMs, next.atMs));
      next.fire();
    }
    this.#moveTo(Math.max(this.#elapsedMs, endMs));
    await settle();
  }

  /** Moves both clocks on by `ms` with nothing fired, as work does that holds the loop. */
  hold(ms: number): void {
    this.#moveTo(this.#elapsedMs + ms);
  }

  /** Sets the wall clock off by `ms` without monotonic time passing: a suspend, or somebody set the clock. */
  jumpWall(ms: number): void {
    this.#wallMs += ms;
  }

  #moveTo(elapsedMs: number): void {
    this.#wallMs += elapsedMs - this.#elapsedMs;
    this.#elapsedMs = elapsedMs;
  }
}

/** Lets everything that is already resolved run. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
}
