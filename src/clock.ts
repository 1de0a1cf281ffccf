// The only file that touches timers and clocks; everything else is handed a Clock, so that years pass in minutes in the
// simulation and no test sleeps. Durations run on monotonic time; wall time is for stamps that people and other
// machines read.
import { performance } from 'node:perf_hooks';

/** Both times of one moment. */
export interface Now {
  /** Monotonic, ms since an arbitrary start; does not count suspend on Linux. */
  readonly elapsedMs: number;
  /** Wall clock, ms since 1970; may jump. */
  readonly wallMs: number;
}

export interface Clock {
  now(): Now;
  /**
   * Resolves after `ms`, early and quietly when `signal` aborts. Delays are clamped to 0…2^31-1 ms: beyond that a
   * Node timer fires at once.
   */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  /** Calls `fire` once after `ms`; the returned function cancels it. Keeps the process alive only if told to. */
  after(ms: number, fire: () => void, options?: { readonly keepsAlive?: boolean }): () => void;
}

/** The longest delay that a Node timer keeps; a longer one would fire after 1 ms. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

const clamp = (ms: number): number => (ms > 0 ? Math.min(ms, LONGEST_TIMER_MS) : 0);

/** Who sleeps on each signal. */
const sleepers = new WeakMap<AbortSignal, Set<() => void>>();

/**
 * Calls `wake` when `signal` aborts; the returned function takes that back. One listener for all who sleep on a signal:
 * a fleet's sources do by the hundred, and Node warns of more than ten as of a leak.
 */
function wakeOnAbort(signal: AbortSignal, wake: () => void): () => void {
  const found = sleepers.get(signal);
  const asleep = found ?? new Set();
  if (!found) {
    sleepers.set(signal, asleep);
    const wakeAll = (): void => {
      for (const one of asleep) one();
    };
    signal.addEventListener('abort', wakeAll, { once: true });
  }
  asleep.add(wake);
  return () => asleep.delete(wake);
}

/** {@link Clock.sleep} of a clock that has timers. */
export function sleepBy(clock: Pick<Clock, 'after'>, ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const finish = (): void => {
      cancel();
      stayAsleep?.();
      resolve();
    };
    const cancel = clock.after(ms, finish, { keepsAlive: true });
    const stayAsleep = signal && wakeOnAbort(signal, finish);
  });
}

/** The clock of the machine. */
export const systemClock: Clock = {
  now: () => ({ elapsedMs: performance.now(), wallMs: Date.now() }),
  sleep: (ms, signal) => sleepBy(systemClock, ms, signal),
  after: (ms, fire, { keepsAlive = false } = {}) => {
    const timer = setTimeout(fire, clamp(ms));
    if (!keepsAlive) timer.unref();
    return () => clearTimeout(timer);
  },
};

/** Resolves once everything that has arrived meanwhile has had its turn. Real, whatever clock is used: it measures nothing. */
export const loopTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Turns of the loop up to so long are shared out by amount alone; of longer ones the work gets a third of the time. */
const SHORT_TURN_MS = 15;

/**
 * Shares the turns of the loop out to work that comes in many pieces at once: no more than `mostPerTurn` of it is begun
 * in one turn, or one larger piece. In any unit; so much of it should take about 5 ms. Where other work makes the turns
 * long, the share grows with them: otherwise whoever keeps the loop busy would keep this work from ever ending.
 */
export class TurnShare {
  readonly #mostPerTurn: number;
  readonly #nowMs: () => number;
  #left: number;
  #isUntouched = true;
  #isTurning = false;
  readonly #waiting: { readonly amount: number; readonly begin: () => void }[] = [];

  constructor(mostPerTurn: number, nowMs: () => number = () => performance.now()) {
    this.#mostPerTurn = mostPerTurn;
    this.#nowMs = nowMs;
    this.#left = mostPerTurn;
  }

  /** Resolves when the piece may begin: at once where this turn has room for it, in the order of asking. */
  async take(amount: number): Promise<void> {
    if (this.#waiting.length > 0 || !this.#fits(amount)) {
      await new Promise<void>((begin) => this.#waiting.push({ amount, begin }));
    } else this.#use(amount);
    void this.#turn();
  }

  #fits(amount: number): boolean {
    return amount <= this.#left || this.#isUntouched;
  }

  #use(amount: number): void {
    this.#left -= amount;
    this.#isUntouched = false;
  }

  async #turn(): Promise<void> {
    if (this.#isTurning) return;
    this.#isTurning = true;
    do {
      const beganMs = this.#nowMs();
      await loopTurn();
      this.#left = this.#mostPerTurn * Math.max(1, (this.#nowMs() - beganMs) / SHORT_TURN_MS);
      this.#isUntouched = true;
      for (let next = this.#waiting[0]; next && this.#fits(next.amount); next = this.#waiting[0]) {
        this.#waiting.shift();
        this.#use(next.amount);
        next.begin();
      }
    } while (this.#waiting.length > 0);
    this.#isTurning = false;
  }
}

/** What `withDeadline` gives when time is up first. */
export const TIMED_OUT = Symbol('timed out');

/**
 * `work`, or {@link TIMED_OUT} once `ms` have passed. The work itself goes on; whoever calls this must be able to leave
 * it behind. A rejection of `work` after the deadline is swallowed here, since nobody waits for it any more.
 */
export function withDeadline<T>(clock: Clock, ms: number, work: Promise<T>): Promise<T | typeof TIMED_OUT> {
  return new Promise((resolve, reject) => {
    // Each look at each source has one: a timer that is cancelled costs a tenth of a sleep that is aborted.
    const disarm = clock.after(ms, () => resolve(TIMED_OUT), { keepsAlive: true });
    void work.then(resolve, reject).then(disarm);
  });
}
