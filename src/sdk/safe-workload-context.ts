// A workload's body and its lease are one: no lease, no leave to run; the body's end gives it back, and the lease's end
// aborts the body's signal. JavaScript cannot be stopped from outside: a body that listens to nothing runs on, which is
// what `vsf-safety run` and leases with a process group are for.
import { systemClock, TIMED_OUT, withDeadline } from '../clock.ts';
import type { SafetyCallback } from './callbacks.ts';
import { HardwareSafetyMonitor, type MonitorOptions } from './hardware-safety-monitor.ts';
import { UnsafeError, type Verdict } from './verdict.ts';

/** What is to run, who watches it, and what happens where it may not start. */
export type ContextOptions = MonitorOptions & {
  /** Ask again for as long as the service says when to: a cooldown, a missing reading; never a trip. */
  readonly wait?: boolean | undefined;
  /** Throw {@link UnsafeError} where it is refused, instead of giving a context that is not safe. */
  readonly required?: boolean | undefined;
  /** Aborted, it ends the waiting for leave to start, by throwing its reason. */
  readonly giveUp?: AbortSignal | undefined;
  readonly onWarning?: SafetyCallback | undefined;
  readonly onCritical?: SafetyCallback | undefined;
};

/** `run` gives a body that was aborted this long to end before it is left behind. */
const BODY_GRACE_MS = 5_000;

/**
 * Runs a workload under a lease.
 *
 * Refused at entry, there is a context all the same: `safe` is false, `signal` aborted, and `result` says why. Its
 * settings are those of {@link HardwareSafetyMonitor}, and `wait`, `required`, `onWarning`, `onCritical`.
 *
 * @example
 * import { setTimeout as sleep } from 'node:timers/promises';
 * import { SafeWorkloadContext } from 'vsf-safety';
 *
 * await using ctx = await SafeWorkloadContext.start({
 *   intensity: 0.6,
 *   onWarning: (result) => console.log('warning:', result.action, result.reason),
 *   onCritical: (result) => console.log('critical:', result.reason),
 * });
 * if (ctx.safe) {
 *   console.log('running at', ctx.intensityCap);
 *   for (let step = 0; step < 10; step++) {
 *     await ctx.resumed(); // waits out a cooldown, throws once it must end
 *     await sleep(100 * ctx.intensityCap, undefined, { signal: ctx.signal }); // your work
 *   }
 * } else {
 *   console.log('refused:', ctx.result.reason);
 * }
 */
export class SafeWorkloadContext {
  /** What the context stands on: metrics, preflight, emergency stop. */
  readonly monitor: HardwareSafetyMonitor;

  private constructor(monitor: HardwareSafetyMonitor) {
    this.monitor = monitor;
  }

  /**
   * Asks for leave to run. For `await using`, which ends it with its block; without, it ends by `end()`. Throws as
   * {@link HardwareSafetyMonitor} does for a mistake in what is asked.
   */
  static async start(options: ContextOptions = {}): Promise<SafeWorkloadContext> {
    const { wait = false, required = false, giveUp, onWarning, onCritical, ...rest } = options;
    const monitor = new HardwareSafetyMonitor(rest);
    if (onWarning) monitor.onWarning(onWarning);
    if (onCritical) monitor.onCritical(onCritical);
    const context = new SafeWorkloadContext(monitor);
    try {
      const refused = await monitor.takeLease({ wait, signal: giveUp });
      if (refused && required) throw new UnsafeError(refused);
      return context;
    } catch (error) {
      await monitor.stopRuntimeMonitoring();
      throw error;
    }
  }

  /**
   * Runs `body` in a context and gives the lease back when it has ended. Gives what the body gives. Throws
   * {@link UnsafeError} when the lease was over before the body was, also where the body ended in good order: nobody
   * shall take half a run for a whole one. An aborted body that has not ended after 5 s is left behind.
   *
   * @example
   * import { setTimeout as sleep } from 'node:timers/promises';
   * import { SafeWorkloadContext } from 'vsf-safety';
   *
   * const steps = await SafeWorkloadContext.run({ intensity: 0.5, wait: true }, async (ctx) => {
   *   let done = 0;
   *   while (ctx.safe && done < 5) {
   *     await ctx.resumed();
   *     await sleep(100, undefined, { signal: ctx.signal }); // your work
   *     done++;
   *   }
   *   return done;
   * });
   * console.log(steps, 'steps');
   */
  static async run<T>(options: ContextOptions, body: (ctx: SafeWorkloadContext) => T | Promise<T>): Promise<T> {
    const ctx = await SafeWorkloadContext.start(options);
    const hadLeave = ctx.safe;
    try {
      const running = Promise.resolve().then(() => body(ctx));
      const outcome = hadLeave ? await endedOrLeft(running, ctx.signal) : await running;
      if (outcome === TIMED_OUT || (hadLeave && !ctx.safe)) throw new UnsafeError(ctx.result);
      return outcome;
    } catch (error) {
      if (!hadLeave || ctx.safe || error instanceof UnsafeError) throw error;
      throw new UnsafeError(ctx.result, { cause: error });
    } finally {
      await ctx.end();
    }
  }

  /** Whether there is leave to run. True also while paused or reduced; false from a refusal or an abort on. */
  get safe(): boolean {
    return this.monitor.safe;
  }

  /** Whether the body must hold still now. */
  get paused(): boolean {
    return this.monitor.paused;
  }

  /** The share of full load that may be used now, over 0 to 1; 0 without leave to run. */
  get intensityCap(): number {
    return this.monitor.intensityCap;
  }

  /** The newest verdict: the refusal, the last renewal's, or the abort's. */
  get result(): Verdict {
    return this.monitor.result;
  }

  /** Aborts, with an {@link UnsafeError} as its reason, when the body must end. */
  get signal(): AbortSignal {
    return this.monitor.signal;
  }

  /** For code that works without a break: throws {@link UnsafeError} once the body must end, to the moment. */
  throwIfUnsafe(): void {
    this.monitor.throwIfUnsafe();
  }

  /** Resolves when the body may go on, at once unless it is paused; rejects with {@link UnsafeError} once it must end. */
  resumed(): Promise<void> {
    return this.monitor.resumed();
  }

  /** As the option of that name; what came before is handed over. The returned function ends it. */
  onWarning(callback: SafetyCallback): () => void {
    return this.monitor.onWarning(callback);
  }

  /** As the option of that name. */
  onCritical(callback: SafetyCallback): () => void {
    return this.monitor.onCritical(callback);
  }

  /** Gives the lease back and aborts the signal. Never throws. */
  end(): Promise<void> {
    return this.monitor.stopRuntimeMonitoring();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
  }
}

/** What `running` gives, or {@link TIMED_OUT} when it has not ended a while after the abort. */
async function endedOrLeft<T>(running: Promise<T>, signal: AbortSignal): Promise<T | typeof TIMED_OUT> {
  let stop = (): void => undefined;
  const aborted = new Promise<void>((resolve) => {
    stop = resolve;
  });
  signal.addEventListener('abort', stop, { once: true });
  try {
    await Promise.race([running, aborted]);
    return await withDeadline(systemClock, BODY_GRACE_MS, running);
  } finally {
    signal.removeEventListener('abort', stop);
  }
}
