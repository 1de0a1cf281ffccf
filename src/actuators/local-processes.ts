// Stops the process groups of leases on this machine: SIGTERM, a short grace, SIGKILL, and then keeps looking until the
// order is withdrawn, because "killed" is not "gone" (a process in a wedged driver sits in state D) and what was gone
// can come back. One loop per group: look (process-group.ts), act on what was seen, tell what changed, wait. Nothing is
// signalled that the look did not recognise as the lease's. What has left the group (setsid) is escaped-processes.ts; pods
// are not here.
import { type Clock, TIMED_OUT, withDeadline } from '../clock.ts';
import { unreachable } from '../domain/invariant.ts';
import type { StopEntry, StopOrder, StopTarget } from '../domain/stop.ts';
import type { Actuator, Inventory, StopProgress } from './actuator.ts';
import { EscapedProcesses, type GroupTarget } from './escaped-processes.ts';
import { type GroupSighting, isGroupNumber, type Kill, sightGroup } from './process-group.ts';
import { isLive, type ProcessRead, type ProcessTable } from './process-table.ts';

/** Time to write a checkpoint's last bytes and close the GPU: SIGKILL of a GPU client has wedged drivers. */
const TERM_GRACE_MS = 3000;
/** Between looks until the grace is over and the kernel has had time to take the processes down … */
const POLL_MS = 100;
const SETTLE_MS = 2000;
/** … then for the first 30 s of the order, and after. */
const WATCH_MS = 500;
const WATCH_FIRST_MS = 30_000;
const WATCH_LATER_MS = 2000;
/** Dying takes a moment, more with much memory pinned for a GPU; who takes longer than this is told of. */
const DEATH_USUAL_MS = 1000;
const SURVIVORS_TOLD = 5;

interface Options {
  /** This machine's name in the reports. */
  readonly node: string;
  readonly clock: Clock;
  readonly table: ProcessTable;
  readonly kill?: Kill;
  /** The live leases, asked at every inventory. */
  readonly targets: () => readonly StopTarget[];
  /** From SIGTERM to SIGKILL, in ms; default 3000. */
  readonly termGraceMs?: number;
}

/** The actuator for process groups of this machine. */
export function createLocalProcesses(options: Options): Actuator {
  const { node, clock, table, targets } = options;
  /** The stops under way, each with what ends it. */
  const running = new Map<AbortController, Promise<unknown>>();

  async function inventory(deadlineMs: number): Promise<Inventory> {
    const groups = targets().filter(hasGroup);
    // Without a group to look for, one read tells whether processes can be seen here at all.
    const reads = groups.length > 0 ? groups.map((target) => table.membersOf(target.processGroup.pgid)) : [];
    const look = Promise.all([table.readProcess(process.pid), ...reads]);
    const answer = await withDeadline(clock, deadlineMs - clock.now().elapsedMs, look);
    if (answer === TIMED_OUT) return unavailable('Cannot list processes: no answer before the deadline');
    const [self, ...lists] = answer;
    if (!self.ok) return unavailable(self.detail);
    const workloads = [];
    for (const [index, { leaseId, processGroup }] of groups.entries()) {
      const list = lists[index];
      if (!list?.ok) return unavailable(list?.detail ?? 'Cannot list processes');
      const live = list.members.filter(isLive);
      const { pgid, startTicks } = processGroup;
      if (live.length === 0 || live.some((member) => member.pid === pgid && member.startTicks !== startTicks)) continue;
      workloads.push({ kind: 'process-group' as const, node, name: String(pgid), leaseId });
    }
    return { available: true, detail: `${groups.length} leases with a process group`, workloads };
  }

  async function stop(
    order: StopOrder,
    report: (progress: StopProgress) => void,
    withdrawn: AbortSignal,
  ): Promise<void> {
    const ending = new AbortController();
    const end = (): void => ending.abort();
    if (withdrawn.aborted) end();
    else withdrawn.addEventListener('abort', end, { once: true });
    const pursuits: Pursuit[] = [];
    const groups = order.targets.filter(hasGroup);
    const self = table.readProcess(process.pid);
    let told: StopProgress = { entries: [], verified: false };
    const tell = (): void => {
      const entries = [...pursuits.map((pursuit) => pursuit.entry), ...(escaped?.entries ?? [])];
      told = { entries, verified: entries.every((entry) => entry.verified) && isNobodyOutside() };
      try {
        report(told);
      } catch (error) {
        // A listener's bug is the process's to die of, by its own handler; it must not end the pursuit here.
        queueMicrotask(() => {
          throw error;
        });
      }
    };
    const escaped =
      groups.length === 0
        ? null
        : new EscapedProcesses({
            node,
            clock,
            table,
            kill: killOf(options),
            graceMs: options.termGraceMs ?? TERM_GRACE_MS,
            // A damaged record must not lead to anybody; its own entry says so.
            targets: groups.filter(({ processGroup }) => isGroupNumber(processGroup.pgid)),
            self,
            onLook: () => {
              if (escaped && isNews(escaped.entries)) tell();
            },
            ended: ending.signal,
          });
    // A member may leave its group while that is being stopped: only a look that began after the group was seen gone
    // shows that nobody did.
    const isNobodyOutside = (): boolean => {
      if (!escaped) return true;
      const { clearAtMs } = escaped;
      return clearAtMs !== null && pursuits.every(({ goneAtMs }) => goneAtMs !== null && goneAtMs <= clearAtMs);
    };
    const isNews = (entries: readonly StopEntry[]): boolean => {
      const before = told.entries.slice(pursuits.length);
      const isSame = before.length === entries.length && entries.every((entry, place) => entry === before[place]);
      const isVerified = told.entries.every((entry) => entry.verified) && isNobodyOutside();
      return !isSame || isVerified !== told.verified;
    };
    for (const target of groups) pursuits.push(new Pursuit(options, target, self, tell, ending.signal));
    const work = Promise.all([...pursuits.map((pursuit) => pursuit.run()), escaped?.run()]);
    running.set(ending, work);
    // Told once the first looks are under way, so that a slow listener does not delay the first signal. With no group
    // in the order this says so: nothing here, verified.
    tell();
    await work;
    withdrawn.removeEventListener('abort', end);
    running.delete(ending);
  }

  async function close(): Promise<void> {
    for (const ending of running.keys()) ending.abort();
    await Promise.all(running.values());
  }

  return { name: 'local-processes', inventory, stop, close };
}

const killOf = ({ kill }: Options): Kill => kill ?? ((pid, signal) => void process.kill(pid, signal));
const hasGroup = (target: StopTarget): target is GroupTarget => target.processGroup !== undefined;
const unavailable = (detail: string): Inventory => ({ available: false, detail, workloads: [] });

/** What a look or an act changes in the report. */
type Outcome = Pick<StopEntry, 'state' | 'verified'> & { readonly detail?: string };

/** One group of one order, followed until the order ends. */
class Pursuit {
  readonly #clock: Clock;
  readonly #table: ProcessTable;
  readonly #kill: Kill;
  readonly #graceMs: number;
  readonly #target: GroupTarget;
  readonly #self: Promise<ProcessRead>;
  readonly #changed: () => void;
  readonly #ended: AbortSignal;
  readonly #orderedAtMs: number;
  /** Signals that arrived, in the order of their first use. SIGCONT only lets SIGTERM through and is not told. */
  readonly #how = new Set<string>();
  /** When a process was first seen in state D, in wall time. */
  readonly #sleepingSince = new Map<number, number>();
  #known = false;
  #gone = false;
  #returns = 0;
  /** When the group was ordered to stop, or last came back. */
  #appearedAtMs: number;
  #termAtMs: number | undefined;
  #killAtMs: number | undefined;
  /** Why the last signal did not arrive. */
  #undelivered: string | undefined;
  entry: StopEntry;
  /** Since when it has been seen gone, monotonic; `null` while it may run. */
  goneAtMs: number | null = null;

  constructor(
    options: Options,
    target: GroupTarget,
    self: Promise<ProcessRead>,
    changed: () => void,
    ended: AbortSignal,
  ) {
    this.#clock = options.clock;
    this.#table = options.table;
    this.#kill = killOf(options);
    this.#graceMs = options.termGraceMs ?? TERM_GRACE_MS;
    this.#target = target;
    this.#self = self;
    this.#changed = changed;
    this.#ended = ended;
    this.#orderedAtMs = this.#clock.now().elapsedMs;
    this.#appearedAtMs = this.#orderedAtMs;
    this.entry = {
      actuator: 'local-processes',
      kind: 'process-group',
      name: `pgid ${target.processGroup.pgid} (${target.workload})`,
      node: options.node,
      leaseId: target.leaseId,
      state: 'found',
      how: '',
      verified: false,
      tookMs: 0,
    };
  }

  /** Looks and acts until the order ends. Never rejects. */
  async run(): Promise<void> {
    while (!this.#ended.aborted) {
      let outcome: Outcome | undefined;
      try {
        outcome = await this.#round();
      } catch (error) {
        // Nothing known throws here. Whatever does must not end the pursuit of a group that may still run.
        outcome = { state: 'failed', verified: false, detail: String(error) };
      }
      if (outcome) {
        this.goneAtMs = outcome.verified ? (this.goneAtMs ?? this.#clock.now().elapsedMs) : null;
        this.#tell(outcome);
      }
      await this.#clock.sleep(this.#pauseMs(), this.#ended);
    }
  }

  /** One look and what follows from it; nothing when the order ended meanwhile. */
  async #round(): Promise<Outcome | undefined> {
    const { processGroup: group, leaseId } = this.#target;
    // A damaged record must never reach kill(): -1 is everybody, 0 and our own group are this service.
    if (!isGroupNumber(group.pgid)) return refused(`process group ${group.pgid} is no number above 1`);
    const looks = [
      sightGroup({ group, leaseId, known: this.#known, table: this.#table, kill: this.#kill }),
      this.#self,
    ] as const;
    const [sighting, self] = await Promise.all(looks);
    if (this.#ended.aborted) return undefined;
    if (self.ok && self.process.pgid === group.pgid) return refused('this service itself runs in that group');
    return await this.#act(sighting);
  }

  async #act(sighting: GroupSighting): Promise<Outcome | undefined> {
    const wasGone = this.#gone;
    if (sighting.kind !== 'unclear') this.#gone = sighting.kind === 'gone' || sighting.kind === 'reused';
    switch (sighting.kind) {
      case 'gone':
        this.#known = false;
        return { state: 'stopped', verified: true, ...this.#history() };
      case 'reused':
        // The number is another's and stays untouched. Linux gives a number away only when no member of the old group
        // is left, so the lease's group is known to be gone: verified, and "refused" if it was not us who ended it.
        this.#known = false;
        return { state: this.#how.size > 0 ? 'stopped' : 'refused', verified: true, detail: sighting.detail };
      case 'not-ours':
        this.#known = false;
        return refused(sighting.detail);
      case 'unclear':
        return { state: this.#how.size > 0 ? 'stopping' : 'failed', verified: false, detail: sighting.detail };
      case 'whole':
      case 'members': {
        if (wasGone) {
          this.#returns += 1;
          this.#killAtMs = undefined;
          this.#appearedAtMs = this.#clock.now().elapsedMs;
        }
        this.#known = sighting.kind === 'whole';
        // The state that the order found the leader in: `state T` was paused. Later looks do not change it.
        if (sighting.kind === 'whole' && sighting.leader) {
          this.entry = { prior: `state ${sighting.leader.state}`, ...this.entry };
        }
        this.#signal(sighting.kind === 'whole' ? [-this.#target.processGroup.pgid] : sighting.pids);
        if (this.#undelivered !== undefined) return { state: 'failed', verified: false, detail: this.#undelivered };
        const survivors = await this.#survivors(sighting.kind === 'members' ? sighting.pids : undefined);
        return { state: 'stopping', verified: false, ...(survivors ? { detail: survivors } : this.#history()) };
      }
      default:
        return unreachable(sighting);
    }
  }

  /** Sends what is due now, if anything is. A negative pid is a whole group. */
  #signal(pids: readonly number[]): void {
    const nowMs = this.#clock.now().elapsedMs;
    let signals: readonly NodeJS.Signals[];
    if (this.#returns > 0 || (this.#termAtMs !== undefined && nowMs - this.#termAtMs >= this.#graceMs)) {
      this.#killAtMs ??= nowMs;
      signals = ['SIGKILL'];
    } else if (this.#termAtMs === undefined) {
      this.#termAtMs = nowMs;
      // A paused process keeps SIGTERM pending. Continued after it, it takes the signal before it works on.
      signals = ['SIGTERM', 'SIGCONT'];
    } else return;
    this.#undelivered = undefined;
    for (const pid of pids) {
      for (const signal of signals) {
        try {
          this.#kill(pid, signal);
          if (signal !== 'SIGCONT') this.#how.add(signal);
        } catch (error) {
          const code = (error as NodeJS.ErrnoException).code ?? String(error);
          // ESRCH: ended since the look; the next one will say so.
          if (code !== 'ESRCH') this.#undelivered ??= `Cannot send ${signal} to ${whom(pid)}: ${code}`;
        }
      }
    }
  }

  /** Who of the group, or of `pids` in it, outlives SIGKILL for longer than is usual, and in which state. */
  async #survivors(pids: readonly number[] | undefined): Promise<string | undefined> {
    const { elapsedMs, wallMs } = this.#clock.now();
    if (this.#killAtMs === undefined || elapsedMs - this.#killAtMs < DEATH_USUAL_MS) return undefined;
    const list = await this.#table.membersOf(this.#target.processGroup.pgid);
    if (!list.ok) return list.detail;
    const live = list.members.filter((member) => isLive(member) && (pids?.includes(member.pid) ?? true));
    const told = live.slice(0, SURVIVORS_TOLD).map(({ pid, state }) => {
      if (state !== 'D') {
        this.#sleepingSince.delete(pid);
        return `process ${pid} is still there`;
      }
      if (!this.#sleepingSince.has(pid)) this.#sleepingSince.set(pid, wallMs);
      const since = new Date(this.#sleepingSince.get(pid) ?? wallMs).toISOString();
      return `process ${pid} is in state D (waits in the kernel, cannot die) since ${since}`;
    });
    const more = live.length > SURVIVORS_TOLD ? [`${live.length - SURVIVORS_TOLD} more`] : [];
    return live.length > 0 ? `After SIGKILL: ${[...told, ...more].join('; ')}` : undefined;
  }

  #history(): { readonly detail?: string } {
    if (this.#returns > 0) return { detail: `came back ${this.#returns} times after it was gone` };
    return this.#gone && this.#how.size === 0 ? { detail: 'gone without a signal from here' } : {};
  }

  /** Takes the outcome into the entry and tells, if it says anything new. */
  #tell(outcome: Outcome): void {
    const { state, verified, detail, ...rest } = this.entry;
    const how = [...this.#how].join(', ');
    const isNews = state !== outcome.state || verified !== outcome.verified || detail !== outcome.detail;
    if (!isNews && rest.how === how) return;
    this.entry = { ...rest, ...outcome, how, tookMs: Math.round(this.#clock.now().elapsedMs - this.#orderedAtMs) };
    this.#changed();
  }

  #pauseMs(): number {
    const { elapsedMs } = this.#clock.now();
    if (!this.#gone && elapsedMs - this.#appearedAtMs < this.#graceMs + SETTLE_MS) return POLL_MS;
    return elapsedMs - this.#orderedAtMs < WATCH_FIRST_MS ? WATCH_MS : WATCH_LATER_MS;
  }
}

const refused = (detail: string): Outcome => ({ state: 'refused', verified: false, detail });
const whom = (pid: number): string => (pid < 0 ? `process group ${-pid}` : `process ${pid}`);
