// The one time of a world, and the clocks of its processes on top of it. The timeline is a queue of things to do; it
// takes the next, lets everything that follows from it run (promises alone: nothing here waits for the real world), and
// only then moves on. A process's clock may stand still (suspend), its event loop may (stall), its wall clock may jump.
import type { Clock, Now } from '../../src/clock.ts';
import { sleepBy } from '../support/manual-clock.ts';

interface Entry {
  readonly atMs: number;
  readonly order: number;
  /** `null` once it is cancelled. */
  fire: (() => void) | null;
}

/** 2026-01-01T00:00:00Z: when each world begins. */
export const WORLD_BEGINS_WALL_MS = Date.UTC(2026, 0, 1);

const quiescence = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

export class Timeline {
  nowMs = 0;
  /** How many things were done. */
  steps = 0;
  #order = 0;
  readonly #heap: Entry[] = [];

  at(atMs: number, fire: () => void): Entry {
    // Whole milliseconds: a rest that is lost in rounding would be waited for for ever.
    const entry: Entry = { atMs: Math.max(Math.ceil(atMs), this.nowMs), order: this.#order++, fire };
    this.#push(entry);
    return entry;
  }

  after(ms: number, fire: () => void): () => void {
    const entry = this.at(this.nowMs + Math.max(0, ms), fire);
    return () => {
      entry.fire = null;
    };
  }

  /** `fire` every `ms` from now on. */
  every(ms: number, fire: () => void): void {
    this.at(this.nowMs + ms, () => {
      fire();
      this.every(ms, fire);
    });
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => void this.at(this.nowMs + Math.max(0, ms), resolve));
  }

  /** Does what is due until `untilMs`, or until `isOver`. */
  async run(untilMs: number, isOver: () => boolean): Promise<void> {
    await quiescence();
    for (;;) {
      const [next] = this.#heap;
      if (!next || next.atMs > untilMs) break;
      this.#pop();
      if (next.fire === null) continue;
      this.nowMs = next.atMs;
      this.steps += 1;
      next.fire();
      await quiescence();
      if (isOver()) return;
    }
    this.nowMs = untilMs;
  }

  #push(entry: Entry): void {
    const heap = this.#heap;
    let at = heap.push(entry) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const above = heap[parent] as Entry;
      if (isBefore(above, entry)) break;
      heap[at] = above;
      at = parent;
    }
    heap[at] = entry;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (!last || heap.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1] as Entry, heap[child] as Entry)) child += 1;
      if (isBefore(last, heap[child] as Entry)) break;
      heap[at] = heap[child] as Entry;
      at = child;
    }
    heap[at] = last;
  }
}

const isBefore = (one: Entry, other: Entry): boolean =>
  one.atMs < other.atMs || (one.atMs === other.atMs && one.order < other.order);

/** Of one process, from its start to its end. */
export class ProcessClock implements Clock {
  readonly #timeline: Timeline;
  readonly #startedMs: number;
  #suspendedMs = 0;
  #wallAheadMs: number;
  /** Nothing of the process runs before. */
  #blockedUntilMs = 0;
  #isOver = false;
  /** When wall and monotonic time last moved apart, on the timeline. */
  jumpedAtMs = Number.NEGATIVE_INFINITY;

  constructor(timeline: Timeline, wallAheadMs: number) {
    this.#timeline = timeline;
    this.#startedMs = timeline.nowMs;
    this.#wallAheadMs = wallAheadMs;
  }

  now(): Now {
    const { nowMs } = this.#timeline;
    return {
      // No process starts at 0 of its machine's monotonic clock.
      elapsedMs: 1_000_000 + nowMs - this.#startedMs - this.#suspendedMs,
      wallMs: WORLD_BEGINS_WALL_MS + nowMs + this.#wallAheadMs,
    };
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return sleepBy(this, ms, signal);
  }

  after(ms: number, fire: () => void): () => void {
    // As Node's timers: whole milliseconds, and at least one.
    const waitMs = Math.max(1, Math.ceil(ms));
    const dueMs = this.now().elapsedMs + waitMs;
    let cancel: () => void = () => undefined;
    const come = (): void => {
      if (this.#isOver) return;
      const { nowMs } = this.#timeline;
      const leftMs = dueMs - this.now().elapsedMs;
      if (nowMs < this.#blockedUntilMs) cancel = this.#timeline.after(this.#blockedUntilMs - nowMs, come);
      else if (leftMs > 0) cancel = this.#timeline.after(leftMs, come);
      else fire();
    };
    cancel = this.#timeline.after(waitMs, come);
    return () => cancel();
  }

  /** The event loop does nothing for `ms`; time passes. */
  stall(ms: number): void {
    this.#blockedUntilMs = Math.max(this.#blockedUntilMs, this.#timeline.nowMs + ms);
  }

  /** The machine sleeps for `ms`: its monotonic clock does not count them. */
  suspend(ms: number): void {
    this.stall(ms);
    this.jumpedAtMs = this.#timeline.nowMs + ms;
    this.#suspendedMs += Math.round(ms);
  }

  jumpWall(ms: number): void {
    this.jumpedAtMs = this.#timeline.nowMs;
    this.#wallAheadMs += Math.round(ms);
  }

  get wallAheadMs(): number {
    return this.#wallAheadMs;
  }

  get isBlocked(): boolean {
    return this.#timeline.nowMs < this.#blockedUntilMs;
  }

  /** No timer of this process fires any more. */
  end(): void {
    this.#isOver = true;
  }
}
