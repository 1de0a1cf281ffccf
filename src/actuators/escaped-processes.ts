// Finds and stops what has left its lease's process group (setsid, a daemon, a job of its own shell) and still bears the
// lease's mark in its environment: a signal to the group does not reach it. One look for all leases of an order: a pass
// over /proc, and then each process by itself, pinned by its start time, which is read again right before a signal.
// Only what started after the group's leader counts: whoever is older launched the workload and is no part of it.
// The group itself is local-processes.ts. A process that gave up its mark as well (`env -i setsid …`) is out of reach.
import type { Clock } from '../clock.ts';
import type { ProcessGroup, StopEntry, StopTarget } from '../domain/stop.ts';
import type { Kill } from './process-group.ts';
import { isLive, type MarkedProcess, type ProcessRead, type ProcessStat, type ProcessTable } from './process-table.ts';

/** A pass over /proc with the environments of the young processes costs some 10 ms of work, so there are few of them. */
const LOOK_MS = 250;
/** The first looks go on for this long after the grace; later ones are for what comes back. */
const SETTLE_MS = 2000;
const WATCH_MS = 1000;
const WATCH_FIRST_MS = 30_000;
const WATCH_LATER_MS = 5000;
/** Dying takes a moment; who takes longer than this after SIGKILL is told of. */
const DEATH_USUAL_MS = 1000;
/** Something that starts itself again for days must not fill the memory with its dead; living ones are all kept. */
const MOST_GONE_TOLD = 200;

export type GroupTarget = StopTarget & { readonly processGroup: ProcessGroup };

interface Options {
  /** This machine's name in the reports. */
  readonly node: string;
  readonly clock: Clock;
  readonly table: ProcessTable;
  readonly kill: Kill;
  /** From SIGTERM to SIGKILL, in ms. */
  readonly graceMs: number;
  readonly targets: readonly GroupTarget[];
  /** This service itself, which is never signalled. */
  readonly self: Promise<ProcessRead>;
  /** Called after each look. */
  readonly onLook: () => void;
  readonly ended: AbortSignal;
}

interface Escaped {
  readonly process: ProcessStat;
  /** Started after its workload had been told to stop: it gets no grace of its own. */
  readonly isLate: boolean;
  termAtMs: number | undefined;
  killAtMs: number | undefined;
  readonly how: Set<NodeJS.Signals>;
  /** Why the last signal did not arrive. */
  undelivered: string | undefined;
  entry: StopEntry;
}

/** The processes outside of their groups that one order is after. */
export class EscapedProcesses {
  readonly #options: Options;
  readonly #targets: ReadonlyMap<string, GroupTarget>;
  readonly #sinceTicks: number;
  readonly #orderedAtMs: number;
  /** By pid and start time. */
  readonly #found = new Map<string, Escaped>();
  #hasLooked = false;
  /** Says why others may be there that nobody can know of. */
  #failure: StopEntry | null = null;
  /** When the last look began, if it saw everything and none of them alive; monotonic. */
  clearAtMs: number | null = null;

  constructor(options: Options) {
    this.#options = options;
    this.#targets = new Map(options.targets.map((target) => [target.leaseId.toLowerCase(), target]));
    this.#sinceTicks = Math.min(...options.targets.map(({ processGroup }) => processGroup.startTicks));
    this.#orderedAtMs = options.clock.now().elapsedMs;
  }

  /** One for each process that was found, and one where nobody can know whether there are others. */
  get entries(): StopEntry[] {
    const found = [...this.#found.values()].map(({ entry }) => entry);
    return this.#failure ? [...found, this.#failure] : found;
  }

  /** Looks and acts until the order ends. Never rejects. */
  async run(): Promise<void> {
    const { clock, ended, onLook } = this.#options;
    while (!ended.aborted) {
      try {
        await this.#look();
      } catch (error) {
        // Nothing known throws here. Whatever does must not end the search for what may still run.
        this.#fail(String(error));
        this.clearAtMs = null;
      }
      if (!ended.aborted) onLook();
      await clock.sleep(this.#pauseMs(), ended);
    }
  }

  async #look(): Promise<void> {
    const { clock, table, self, ended } = this.#options;
    const startedMs = clock.now().elapsedMs;
    const [read, own] = await Promise.all([table.markedSince(this.#sinceTicks), self]);
    if (ended.aborted) return;
    // Without knowing which group is ours, nobody new is signalled.
    if (!own.ok || !read.ok) this.#fail(read.ok ? (own.ok ? null : own.detail) : read.detail);
    else {
      for (const marked of read.marked) this.#meet(marked, own.process);
      // Who is in a group is stopped with it, mark or no mark; and a tool of our own is no workload.
      const groups = new Set(this.#options.targets.map(({ processGroup }) => processGroup.pgid));
      const unread = read.unread.find(({ process: { pgid, ppid } }) => !groups.has(pgid) && ppid !== own.process.pid);
      this.#fail(unread?.detail ?? null);
      this.#hasLooked = true;
    }
    const pursued = [...this.#found.values()].filter(({ entry }) => !entry.verified);
    await Promise.all(pursued.map((escaped) => this.#pursue(escaped)));
    this.#forgetGone();
    const isClear = this.#failure === null && pursued.length === 0;
    this.clearAtMs = isClear ? startedMs : null;
  }

  #fail(detail: string | null): void {
    if (detail === null) this.#failure = null;
    else if (this.#failure?.detail !== detail) {
      this.#failure = { ...this.#newEntry('marked processes outside of their groups'), ...failed(detail) };
    }
  }

  /** Takes up a marked process, if it is one of ours that has left its group. */
  #meet({ process, leaseId }: MarkedProcess, own: ProcessStat): void {
    const target = this.#targets.get(leaseId.toLowerCase());
    if (!target || process.startTicks < target.processGroup.startTicks) return;
    const { pid, pgid, startTicks } = process;
    if (pgid === target.processGroup.pgid) return;
    // Never init, and nothing of this service: a mark in its own environment is somebody's mistake.
    if (pid <= 1 || pgid === own.pgid || [own.pid, own.sid, own.ppid].includes(pid)) return;
    const key = `${pid}/${startTicks}`;
    if (this.#found.has(key)) return;
    const { elapsedMs } = this.#options.clock.now();
    this.#found.set(key, {
      process,
      isLate: this.#hasLooked && elapsedMs - this.#orderedAtMs >= this.#options.graceMs,
      termAtMs: undefined,
      killAtMs: undefined,
      how: new Set(),
      undelivered: undefined,
      entry: {
        ...this.#newEntry(`pid ${pid} (${target.workload})`),
        leaseId: target.leaseId,
        prior: `state ${process.state}`,
        detail: outside(process, target),
      },
    });
  }

  /** Looks at one process again, and sends what is due. */
  async #pursue(escaped: Escaped): Promise<void> {
    const { pid, startTicks } = escaped.process;
    const read = await this.#options.table.readProcess(pid);
    if (this.#options.ended.aborted) return;
    if (!read.ok && read.cause !== 'not-there') return this.#tell(escaped, failed(read.detail));
    if (!read.ok || read.process.startTicks !== startTicks || !isLive(read.process)) {
      return this.#tell(escaped, { state: 'stopped', verified: true });
    }
    this.#signal(escaped);
    if (escaped.undelivered !== undefined) return this.#tell(escaped, failed(escaped.undelivered));
    const { elapsedMs } = this.#options.clock.now();
    const isSlow = escaped.killAtMs !== undefined && elapsedMs - escaped.killAtMs >= DEATH_USUAL_MS;
    const detail = isSlow ? `still there after SIGKILL, in state ${read.process.state}` : undefined;
    this.#tell(escaped, { state: 'stopping', verified: false, ...(detail !== undefined && { detail }) });
  }

  /** Sends what is due now, if anything is. */
  #signal(escaped: Escaped): void {
    const { clock, graceMs, kill } = this.#options;
    const { elapsedMs } = clock.now();
    const { pid } = escaped.process;
    let signals: readonly NodeJS.Signals[];
    if (escaped.isLate || (escaped.termAtMs !== undefined && elapsedMs - escaped.termAtMs >= graceMs)) {
      escaped.killAtMs ??= elapsedMs;
      signals = ['SIGKILL'];
    } else if (escaped.termAtMs === undefined) {
      escaped.termAtMs = elapsedMs;
      // A paused process keeps SIGTERM pending until it is continued.
      signals = ['SIGTERM', 'SIGCONT'];
    } else return;
    escaped.undelivered = undefined;
    for (const signal of signals) {
      try {
        kill(pid, signal);
        if (signal !== 'SIGCONT') escaped.how.add(signal);
      } catch (error) {
        const code = (error as NodeJS.ErrnoException).code ?? String(error);
        // ESRCH: it ended since the look; the next one will say so.
        if (code !== 'ESRCH') escaped.undelivered ??= `Cannot send ${signal} to process ${pid}: ${code}`;
      }
    }
  }

  #tell(escaped: Escaped, outcome: Pick<StopEntry, 'state' | 'verified'> & { readonly detail?: string }): void {
    const { entry } = escaped;
    const how = [...escaped.how].join(', ');
    const detail = outcome.detail ?? entry.detail;
    if (entry.state === outcome.state && entry.how === how && entry.detail === detail) return;
    const tookMs = Math.round(this.#options.clock.now().elapsedMs - this.#orderedAtMs);
    escaped.entry = { ...entry, ...outcome, how, tookMs };
  }

  #forgetGone(): void {
    const gone = [...this.#found].filter(([, { entry }]) => entry.verified);
    for (const [key] of gone.slice(0, Math.max(0, gone.length - MOST_GONE_TOLD))) this.#found.delete(key);
  }

  #newEntry(name: string): StopEntry {
    const { node } = this.#options;
    const actuator = 'local-processes';
    return { actuator, kind: 'process', name, node, state: 'found', how: '', verified: false, tookMs: 0 };
  }

  #pauseMs(): number {
    const sinceMs = this.#options.clock.now().elapsedMs - this.#orderedAtMs;
    if (sinceMs < this.#options.graceMs + SETTLE_MS) return LOOK_MS;
    return sinceMs < WATCH_FIRST_MS ? WATCH_MS : WATCH_LATER_MS;
  }
}

const failed = (detail: string) => ({ state: 'failed', verified: false, detail }) as const;
const outside = ({ pgid }: ProcessStat, { processGroup }: GroupTarget): string =>
  `in process group ${pgid}, outside of the lease's ${processGroup.pgid}`;
