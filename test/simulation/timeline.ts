// The one time of a world, and the clocks of its processes on top of it. The timeline is a queue of things to do; it
// takes the next, lets everything that follows from it run (promises alone: nothing here waits for the real world), and
// only then moves on. A process's clock may stand still (suspend), its event loop may (stall), its wall clock may jump.
import { type Clock, type Now, sleepBy } from '../../src/clock.ts';

interface Entry {
  readonly atMs: number;
  readonly order: number;
  /** `null` once it is cancelled. */
  fire: (() => void) | null;
}

/** 2026-01-01T00:00:00Z: when each world begins. */
export const WORLD_BEGINS_WALL_MS = Date.UTC(2026, 0, 1);

/** What waits for the next turn of the loop, while a world runs. */
let nextTurn: (() => void)[] = [];

/** Every promise that can go on has gone on: Node runs its next ticks when no microtask is left. */
const settled = (): Promise<void> => new Promise((resolve) => process.nextTick(resolve));

/** All that follows from what was done has been done. */
async function quiescence(): Promise<void> {
  await settled();
  while (nextTurn.length > 0) {
    const due = nextTurn;
    nextTurn = [];
    for (const fire of due) fire();
    await settled();
  }
}

/**
 * Runs `work` with the turns of the loop taken by {@link Timeline.run}: a real one at each step, of which a world has a
 * hundred thousand, would take longer than the step. One at a time in a process.
 */
export async function withOwnTurns<T>(work: () => Promise<T>): Promise<T> {
  const real = globalThis.setImmediate;
  globalThis.setImmediate = ((fire: () => void) => void nextTurn.push(fire)) as unknown as typeof setImmediate;
  try {
    return await work();
  } finally {
    globalThis.setImmediate = real;
    nextTurn = [];
  }
}

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

/** No process starts at 0 of its machine's monotonic clock. */
export const STARTS_AT_MS = 1_000_000;

/** Of one process, from its start to its end. */
export class ProcessClock implements Clock {
  readonly #timeline: Timeline;
  readonly #startedMs: number;
  /** What is still to be slept is in it. */
  #suspendedMs = 0;
  #asleepUntilMs = 0;
  #wallAheadMs: number;
  /** Nothing of the process runs before. */
  #blockedUntilMs = 0;
  #isOver = false;
  /** The last time that its event loop stood still, while its clock went on. */
  #stalledMs: readonly [number, number] = [0, 0];
  /** The last time that its machine slept. */
  #sleptMs: readonly [number, number] = [0, 0];
  /** When wall and monotonic time last moved apart, on the timeline. */
  jumpedAtMs = Number.NEGATIVE_INFINITY;

  constructor(timeline: Timeline, wallAheadMs: number) {
    this.#timeline = timeline;
    this.#startedMs = timeline.nowMs;
    this.#wallAheadMs = wallAheadMs;
  }

  now(): Now {
    const { nowMs } = this.#timeline;
    const sleptMs = this.#suspendedMs - Math.max(0, this.#asleepUntilMs - nowMs);
    return {
      elapsedMs: STARTS_AT_MS + nowMs - this.#startedMs - sleptMs,
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
    const { nowMs } = this.#timeline;
    this.#stalledMs = [nowMs, nowMs + ms];
    this.#block(ms);
  }

  /** How much of the time since `sinceMs` on the timeline it could do something in; a sleep of the machine counts. */
  ableForMs(sinceMs: number): number {
    return this.#sinceWithout(sinceMs, this.#stalledMs);
  }

  /** How much of the time since `sinceMs` on the timeline its monotonic clock has counted. */
  countedSinceMs(sinceMs: number): number {
    return this.#sinceWithout(sinceMs, this.#sleptMs);
  }

  /** How much of it the machine slept through. */
  sleptForMs(sinceMs: number): number {
    return this.#timeline.nowMs - sinceMs - this.countedSinceMs(sinceMs);
  }

  #sinceWithout(sinceMs: number, [fromMs, untilMs]: readonly [number, number]): number {
    const { nowMs } = this.#timeline;
    return nowMs - sinceMs - Math.max(0, Math.min(untilMs, nowMs) - Math.max(fromMs, sinceMs));
  }

  #block(ms: number): void {
    this.#blockedUntilMs = Math.max(this.#blockedUntilMs, this.#timeline.nowMs + ms);
  }

  /** The machine sleeps for `ms`: its monotonic clock does not count them. One that sleeps already sleeps on. */
  suspend(ms: number): void {
    const { nowMs } = this.#timeline;
    const untilMs = Math.max(this.#asleepUntilMs, nowMs + Math.round(ms));
    this.#suspendedMs += untilMs - Math.max(this.#asleepUntilMs, nowMs);
    this.#sleptMs = [nowMs < this.#asleepUntilMs ? this.#sleptMs[0] : nowMs, untilMs];
    this.#asleepUntilMs = untilMs;
    this.jumpedAtMs = untilMs;
    this.#block(untilMs - nowMs);
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
