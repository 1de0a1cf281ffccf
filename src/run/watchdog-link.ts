// The watchdog's pipe, as seen from `vsf-safety run`: starts it, tells it now and then how long to be patient, and says
// farewell. What it does when nothing comes any more is watchdog.ts.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { LEASE_VARIABLE } from '../actuators/process-table.ts';
import { type Clock, TIMED_OUT, withDeadline } from '../clock.ts';
import type { WatchdogOrder } from './watchdog.ts';

const PROGRAM = fileURLToPath(new URL('./watchdog.js', import.meta.url));
/** Node starts in 50 ms; beside a machine's full load in a second or two. */
const START_MS = 10_000;

type Environment = Readonly<Record<string, string | undefined>>;

export class WatchdogLink {
  readonly #child: ChildProcess;
  /** When it ends before the farewell: somebody killed it. */
  readonly lost: Promise<void>;
  #isOver = false;

  private constructor(child: ChildProcess) {
    this.#child = child;
    child.stdin?.on('error', () => undefined);
    this.lost = new Promise((resolve) => {
      child.once('exit', () => {
        if (!this.#isOver) resolve();
      });
    });
  }

  /** `null` when it did not come up. */
  static async start(order: WatchdogOrder, clock: Clock, env: Environment): Promise<WatchdogLink | null> {
    // With the mark of a workload around us it would be stopped as a part of that.
    const child = spawn(process.execPath, [PROGRAM, JSON.stringify(order)], {
      detached: true,
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { ...env, [LEASE_VARIABLE]: undefined },
    });
    const link = new WatchdogLink(child);
    const isReady = once(child.stdout, 'data').then(
      () => true,
      () => false,
    );
    const failed = new Promise<boolean>((resolve) => {
      child.once('error', () => resolve(false)).once('exit', () => resolve(false));
    });
    const up = await withDeadline(clock, START_MS, Promise.race([isReady, failed]));
    if (up === true) return link;
    if (up === TIMED_OUT) link.#child.kill('SIGKILL');
    return null;
  }

  /** Be patient for `ms` from now; then act. */
  extend(ms: number): void {
    this.#child.stdin?.write(`patience ${Math.round(ms)}\n`);
  }

  /** All is well; it ends and touches nothing. */
  farewell(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#child.stdin?.end('farewell\n');
    this.#child.stdout?.destroy();
    this.#child.unref();
  }
}
