// A workload on this machine: a process group, and every process that bears the lease's mark. The group alone would not
// do: what starts its workers in sessions of their own (torchrun does) takes them out of its group, and a pause or a stop
// would leave exactly those at work that load the hardware. Environments are inherited, so the mark goes along.
import { readdir } from 'node:fs/promises';
import { isGroupNumber, type Kill } from '../actuators/process-group.ts';
import { createProcessTable, isLive, type ProcessTable } from '../actuators/process-table.ts';
import { type Clock, TIMED_OUT, withDeadline } from '../clock.ts';

/**
 * From SIGTERM to SIGKILL. As the service's own, and short enough that a load which ignores SIGTERM is gone 5 s after its
 * lease has run out.
 */
export const TERM_GRACE_MS = 3_000;
/** Memory pinned for a GPU takes its time to be given back. */
const DEATH_MS = 2_000;
const LOOK_EVERY_MS = 100;
/**
 * Marks read at once. A wedged driver lets such reads hang, each on one of libuv's four threads; with all four gone no look
 * would ever come back.
 */
const SCAN_WIDTH = 2;
const LIST_TIMEOUT_MS = 1_500;

export interface WorkloadParts {
  readonly leaseId: string;
  /** The group that the workload was started in; `null`: none is known, the mark alone tells. */
  readonly pgid: number | null;
  readonly clock: Clock;
  readonly table?: ProcessTable;
  readonly kill?: Kill;
}

export interface StopOutcome {
  readonly tookMs: number;
  /** Signals that were needed: none, SIGTERM, or SIGKILL as well. */
  readonly signals: readonly ('SIGTERM' | 'SIGKILL')[];
  /** Processes that outlived SIGKILL: they wait in the kernel, mostly for a driver. */
  readonly left: readonly number[];
}

export class Workload {
  readonly #leaseId: string;
  readonly #pgid: number | null;
  readonly #clock: Clock;
  readonly #table: ProcessTable;
  readonly #kill: Kill;
  /** Once nobody bears its number it may become somebody else's. */
  #isGroupGone = false;
  #isStopping = false;
  /** The newest of pause and resume: an older one that has not had its turn yet is out of date. */
  #wanted: 'SIGSTOP' | 'SIGCONT' = 'SIGCONT';
  /** Signals go out in the order in which they were asked for. */
  #lastTurn: Promise<void> = Promise.resolve();

  constructor({ leaseId, pgid, clock, table, kill }: WorkloadParts) {
    this.#leaseId = leaseId.toLowerCase();
    this.#pgid = pgid;
    this.#clock = clock;
    this.#table = table ?? createProcessTable({ clock });
    this.#kill = kill ?? ((pid, signal) => void process.kill(pid, signal));
  }

  /** Stops its processes where they are. To be repeated, since one may have been born while it was done. */
  pause(): Promise<void> {
    return this.#inTurn('SIGSTOP');
  }

  resume(): Promise<void> {
    return this.#inTurn('SIGCONT');
  }

  /** Hands a signal to the group, as a terminal would. */
  pass(signal: NodeJS.Signals): void {
    this.#sendToGroup(signal);
  }

  /** SIGTERM, and SIGCONT so that it arrives; after the grace SIGKILL, until nothing is left or is known not to die. */
  async stop(graceMs: number = TERM_GRACE_MS): Promise<StopOutcome> {
    const startMs = this.#clock.now().elapsedMs;
    const passedMs = (): number => this.#clock.now().elapsedMs - startMs;
    const signals: StopOutcome['signals'][number][] = ['SIGTERM'];
    this.#isStopping = true;
    this.#sendToGroup('SIGTERM');
    this.#sendToGroup('SIGCONT');
    // By the clock alone: looks at /proc may be slow, and the group is not to live any longer for that.
    const disarm = this.#clock.after(graceMs, () => {
      if (this.#sendToGroup('SIGKILL') && signals.length === 1) signals.push('SIGKILL');
    });
    // A pause under way may stop some after this.
    await this.#lastTurn;
    this.#sendToGroup('SIGCONT');
    for (const pid of await this.#strays()) {
      this.#deliver(pid, 'SIGTERM');
      this.#deliver(pid, 'SIGCONT');
    }
    let left = await this.live();
    let untilMs = Infinity;
    while (left.length > 0 && passedMs() < untilMs) {
      if (passedMs() >= graceMs) {
        // Counted from the first SIGKILL: looks that took longer than all of it must not leave that out.
        untilMs = Math.min(untilMs, passedMs() + DEATH_MS);
        if (signals.length === 1) signals.push('SIGKILL');
        // At each look: what forks faster than it is found is found in the end.
        this.#sendToGroup('SIGKILL');
        for (const pid of left) this.#deliver(pid, 'SIGKILL');
      }
      await this.#clock.sleep(LOOK_EVERY_MS);
      left = await this.live();
    }
    disarm();
    return { tookMs: passedMs(), signals, left };
  }

  /** The processes that still run. */
  async live(): Promise<number[]> {
    return [...(await this.#members()), ...(await this.#strays())];
  }

  async #members(): Promise<number[]> {
    if (this.#pgid === null || this.#isGroupGone) return [];
    const list = await this.#table.membersOf(this.#pgid);
    if (list.ok) return list.members.filter(isLive).map(({ pid }) => pid);
    // They cannot be listed. The kernel still tells whether there are any.
    return this.#sendToGroup(0) ? [this.#pgid] : [];
  }

  /** To the group at once, to marked processes elsewhere as they are found. Once a stop has begun, nothing. */
  #inTurn(signal: 'SIGSTOP' | 'SIGCONT'): Promise<void> {
    this.#wanted = signal;
    const turn = this.#lastTurn.then(async () => {
      if (this.#isStopping || this.#wanted !== signal) return;
      this.#sendToGroup(signal);
      for (const pid of await this.#strays()) if (!this.#isStopping) this.#deliver(pid, signal);
    });
    this.#lastTurn = turn;
    return turn;
  }

  /** Whether the group is there. */
  #sendToGroup(signal: NodeJS.Signals | 0): boolean {
    if (this.#pgid === null || this.#isGroupGone) return false;
    if (!isGroupNumber(this.#pgid))
      throw new RangeError(`Cannot signal process group ${this.#pgid}: it must be above 1`);
    const isThere = this.#deliver(-this.#pgid, signal);
    this.#isGroupGone = !isThere;
    return isThere;
  }

  /** Whether somebody is there. Another user's process (EPERM) is, and will be told of as left. */
  #deliver(pid: number, signal: NodeJS.Signals | 0): boolean {
    try {
      this.#kill(pid, signal);
      return true;
    } catch (error) {
      return (error as NodeJS.ErrnoException).code !== 'ESRCH';
    }
  }

  /** Live processes with the mark outside of the group. Never this process, nor the first of the machine or container. */
  async #strays(): Promise<number[]> {
    const listing = readdir('/proc').catch(() => []);
    const names = await withDeadline(this.#clock, LIST_TIMEOUT_MS, listing);
    if (names === TIMED_OUT) return [];
    const pids = names.map(Number).filter((pid) => Number.isSafeInteger(pid) && pid > 1 && pid !== process.pid);
    const rest = pids.values();
    const found: number[] = [];
    const walk = async (): Promise<void> => {
      for (const pid of rest) {
        const mark = await this.#table.readMark(pid);
        if (!mark.ok || mark.leaseId.toLowerCase() !== this.#leaseId) continue;
        const read = await this.#table.readProcess(pid);
        if (read.ok && isLive(read.process) && read.process.pgid !== this.#pgid) found.push(pid);
      }
    };
    await Promise.all(Array.from({ length: SCAN_WIDTH }, walk));
    return found;
  }
}
