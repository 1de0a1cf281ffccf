// One run: a command, its lease, and what is done to the command when the lease says so. The order is what protects: the
// watchdog is there before the command begins, the command is gone before the lease is given back. A command that ends is
// believed to have ended by itself only after the service was asked, since the service stops the process group itself
// when it trips, and is quicker than the next renewal.
import { randomUUID } from 'node:crypto';
import { withDeadline } from '../clock.ts';
import { type CpuShare, prepareCpuShare } from '../run/cpu-share.ts';
import { IntensityFile } from '../run/intensity-file.ts';
import { exitCodeOf, type Launched, launch } from '../run/launch.ts';
import { WatchdogLink } from '../run/watchdog-link.ts';
import { type StopOutcome, Workload } from '../run/workload.ts';
import { LeaseHolder, type LeaseView } from '../sdk/lease-holder.ts';
import { askLease, type Grant, type LeaseAsk, type Refusal, renewLease, waitForLease } from '../sdk/lease-requests.ts';
import { type SafetyService, SafetyServiceError } from '../sdk/safety-service.ts';
import { CommandFailed, EXIT, type Io } from './io.ts';
import { ageText } from './layout.ts';
import { RunLine } from './run-line.ts';
import { isOnThisMachine, orFail, STOPPED_FOR_SAFETY } from './run-options.ts';

/** The watchdog acts when we should have acted: a little after the lease has run out … */
const WATCHDOG_MARGIN_MS = 1_000;
/** … or a stop is over, with its grace and its looks. */
const STOP_MS = 10_000;
const WATCHDOG_RETRY_MS = 1_000;
/** As the SDK waits between two questions. */
const LONGEST_WAIT_MS = 10_000;
const LAST_QUESTION_MS = 2_000;
/** For the shell between to take the terminal back. */
const TERMINAL_MS = 1_000;

/** What ends a program by its usual meaning; a paused one must be let go on to take it. */
const ENDING = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const;
const PASSED_ON = [...ENDING, 'SIGUSR1', 'SIGUSR2'] as const;

export interface RunOrder {
  readonly command: readonly string[];
  readonly ask: LeaseAsk;
  readonly wait: boolean;
  readonly service: SafetyService;
}

/** Gives the exit code. */
export async function runUnderLease(order: RunOrder, io: Io): Promise<number> {
  const id = randomUUID();
  const line = new RunLine(io);
  const file = await IntensityFile.create();
  // First of all, so that what is to stay out of the cgroup does.
  const cpu = await prepareCpuShare(id);
  const { VSF_LEASE: _around, ...env } = io.env;
  const isHttp = URL.canParse(order.service.place);
  const session = { current: null as RunSession | null };
  const launching = await launch({
    command: order.command,
    leaseId: id,
    env: { ...env, VSF_INTENSITY_FILE: file.path, ...(isHttp && { VSF_SAFETY_URL: order.service.place }) },
    clock: io.clock,
    onStopped: () => session.current?.onStopped(),
  });
  if (!launching.ok) {
    await file.remove();
    if (cpu.ok) await cpu.share.remove();
    throw new CommandFailed(`Cannot start ${JSON.stringify(order.command[0])}: ${launching.detail}`);
  }
  const { launched } = launching;
  session.current = new RunSession({ order, io, line, id, file, cpu, launched });
  try {
    return await session.current.run();
  } finally {
    line.live(null);
    launched.close();
    await file.remove();
    if (cpu.ok) await cpu.share.remove();
  }
}

interface Parts {
  readonly order: RunOrder;
  readonly io: Io;
  readonly line: RunLine;
  readonly id: string;
  readonly file: IntensityFile;
  readonly cpu: CpuShare;
  readonly launched: Launched;
}

class RunSession {
  readonly #parts: Parts;
  readonly #workload: Workload;
  readonly #giveUp = new AbortController();
  #state: 'waiting' | 'running' | 'paused' | 'stopping' = 'waiting';
  #stopping: Promise<StopOutcome> | null = null;
  #watching: Promise<boolean> | null = null;
  #watchdog: WatchdogLink | null = null;
  #grantedCap = 0;
  #cap = 0;
  #pausedAtMs = 0;
  #toldOfSuspending = false;
  #isOver = false;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#workload = new Workload({ leaseId: parts.id, pgid: parts.launched.pgid, clock: parts.io.clock });
  }

  async run(): Promise<number> {
    const listeners = PASSED_ON.map((signal) => [signal, () => this.#onSignal(signal)] as const);
    const onSuspend = (): void => this.#tellOfSuspending();
    for (const [signal, listener] of listeners) process.on(signal, listener);
    process.on('SIGTSTP', onSuspend);
    try {
      return await this.#run();
    } catch (error) {
      // Nothing known throws once the command runs. Whatever does must not leave it running: the watchdog is dismissed below.
      if (this.#state !== 'waiting') await this.#stop();
      throw error;
    } finally {
      this.#isOver = true;
      await this.#watching;
      this.#watchdog?.farewell();
      for (const [signal, listener] of listeners) process.off(signal, listener);
      process.off('SIGTSTP', onSuspend);
    }
  }

  /** On a terminal: it has been stopped, and the terminal is ours. A job that keeps a lease alive is not suspended. */
  onStopped(): void {
    if (this.#state !== 'running') return;
    this.#tellOfSuspending();
    this.#parts.launched.toFront();
  }

  async #run(): Promise<number> {
    const { order, io, line, id, launched } = this.#parts;
    this.#watching = this.#startWatchdog();
    const grant = await orFail(() => this.#askForLeave());
    line.live(null);
    const isWatched = await this.#watching;
    if (grant.kind === 'refused') {
      if (this.#giveUp.signal.aborted) return this.#givenUp();
      line.say(`refused, nothing was started: ${grant.verdict.action}: ${grant.verdict.reason}`);
      return EXIT.refused;
    }
    let tellOver = (_view: LeaseView): void => undefined;
    const over = new Promise<LeaseView>((resolve) => {
      tellOver = resolve;
    });
    const holder = new LeaseHolder({ service: order.service, clock: io.clock }, grant, {
      onResult: (view) => this.#obey(view, grant.ttlMs),
      onMissed: (detail, leftMs) => line.say(`${detail}; it is stopped in ${ageText(leftMs / 1000)} unless that ends`),
      onOver: tellOver,
    });
    try {
      if (!isWatched) {
        line.say('nothing was started: its watchdog does not start, without which it would outlive a kill -9');
        return EXIT.error;
      }
      await this.#prepare(grant.intensityCap);
      // From here on a signal reaches the command; whoever gave up before it must not see it start.
      if (this.#giveUp.signal.aborted) return this.#givenUp();
      this.#state = 'running';
      holder.start();
      // The view asks the clock: preparing may have taken longer than the lease lives.
      const { state, verdict } = holder.view;
      if (state === 'over') {
        line.say(`refused, nothing was started: ${verdict.action}: ${verdict.reason}`);
        return EXIT.refused;
      }
      line.say(`started at intensity ${grant.intensityCap}, lease ${id} of ${order.service.place}`);
      launched.begin(grant.intensityCap);
      const ended = launched.ended.then((code) => ({ view: null, code }));
      const first = await Promise.race([ended, over.then((view) => ({ view, code: 0 }))]);
      const end = first.view ?? (await this.#endOf(holder));
      await this.#stopAll(end);
      return end ? STOPPED_FOR_SAFETY : first.code;
    } finally {
      const failed = await holder.release();
      if (failed !== null) line.say(`the lease could not be given back and will lapse: ${failed}`);
    }
  }

  #givenUp(): number {
    return exitCodeOf(this.#giveUp.signal.reason as NodeJS.Signals);
  }

  /** With its process group, so that the service can stop it, too, where it can see it. */
  async #askForLeave(): Promise<Grant | Refusal> {
    const { order, io, line, id, launched } = this.#parts;
    const { service, wait } = order;
    const clock = io.clock;
    const bare: LeaseAsk = { ...order.ask, id };
    let ask = isOnThisMachine(service) ? { ...bare, processGroup: { pgid: launched.pgid } } : bare;
    line.live('asks for leave to start');
    let answer: Grant | Refusal;
    try {
      answer = await askLease(service, clock, ask);
    } catch (error) {
      // A service in a container, or at the other end of a forwarded port, does not see our processes.
      if (!(error instanceof SafetyServiceError && error.code.startsWith('process-group-'))) throw error;
      line.say(`the service cannot stop it, only this command can: ${error.message}`);
      ask = bare;
      answer = await askLease(service, clock, ask);
    }
    if (answer.kind === 'granted' || answer.retryAfterSeconds === null || !wait) return answer;
    line.say(`waits for leave to start: ${answer.verdict.reason}`);
    line.live('waits for leave to start; Ctrl-C gives up');
    await clock.sleep(Math.min(answer.retryAfterSeconds * 1000, LONGEST_WAIT_MS), this.#giveUp.signal);
    return waitForLease(service, clock, ask, this.#giveUp.signal).catch((error: unknown) => {
      if (this.#giveUp.signal.aborted) return answer;
      throw error;
    });
  }

  async #prepare(cap: number): Promise<void> {
    const { cpu, launched, file } = this.#parts;
    this.#grantedCap = cap;
    this.#cap = cap;
    const failed = cpu.ok ? await cpu.share.adopt(launched.pgid) : null;
    if (failed !== null) this.#parts.line.say(`its CPU share cannot be lowered: ${failed}`);
    this.#tellFailure(await file.write(cap));
  }

  /** What the lease says now. Called with every answer. */
  #obey(view: LeaseView, ttlMs: number): void {
    this.#watchdog?.extend(ttlMs + WATCHDOG_MARGIN_MS);
    if (this.#state === 'stopping' || this.#state === 'waiting') return;
    const { line, launched, io } = this.#parts;
    const { reason } = view.verdict;
    if (view.intensityCap !== this.#cap) void this.#setCap(view.intensityCap, reason);
    if (view.state === 'paused') {
      // At each answer: what was born while the others were stopped is seen the next time.
      void this.#workload.pause();
      if (this.#state === 'running') {
        this.#pausedAtMs = io.clock.now().elapsedMs;
        line.say(`paused: ${reason}`);
      }
      this.#state = 'paused';
      line.live(`paused: ${reason}`);
      return;
    }
    if (this.#state === 'paused') {
      this.#state = 'running';
      void this.#workload.resume().then(() => this.#state === 'running' && launched.toFront());
      line.say(`goes on after ${ageText((io.clock.now().elapsedMs - this.#pausedAtMs) / 1000)}`);
    }
    line.liveUnlessShown(`running at intensity ${view.intensityCap}: ${reason}`);
  }

  async #setCap(cap: number, reason: string): Promise<void> {
    const { cpu, line, file } = this.#parts;
    const isReduced = cap < this.#grantedCap;
    this.#cap = cap;
    line.say(isReduced ? `intensity reduced to ${cap}: ${reason}` : `intensity back at ${cap}`);
    this.#tellFailure(await file.write(cap));
    const failed = cpu.ok ? await cpu.share.limit(isReduced ? cap : null) : cpu.detail;
    if (failed !== null && isReduced) line.say(`its CPU share is not lowered: ${failed}`);
  }

  /**
   * The command has ended. The lease's end, if that was why: the service stops the group as soon as it trips, before
   * any renewal could tell us.
   */
  async #endOf(holder: LeaseHolder): Promise<LeaseView | null> {
    const before = holder.view;
    if (before.state === 'over') return before;
    const { id, order } = this.#parts;
    const answer = await renewLease(order.service, id, LAST_QUESTION_MS);
    const isOver = answer.kind === 'over' || (answer.kind === 'renewed' && answer.verdict.action === 'ABORT');
    // Meanwhile a renewal of the holder's own may have been told.
    const after = holder.view;
    if (!isOver) return after.state === 'over' ? after : null;
    const end = answer.kind === 'over' ? answer.outcome : 'aborted';
    return { id, state: 'over', intensityCap: 0, verdict: answer.verdict, end };
  }

  /** Nothing of it runs on: neither for want of a lease, nor when the command has ended and left some behind. */
  async #stopAll(end: LeaseView | null): Promise<void> {
    const { line, launched, io } = this.#parts;
    this.#watchdog?.extend(STOP_MS);
    line.live(null);
    if (end) line.say(`stopping for safety: ${end.verdict.reason}`);
    else {
      const rest = await this.#workload.live();
      if (rest.length === 0) return;
      line.say(`it has ended and left ${rest.length} processes behind, which are stopped`);
    }
    const { tookMs, signals, left } = await this.#stop();
    await withDeadline(io.clock, TERMINAL_MS, launched.ended);
    const how = `${signals.join(', ')}, ${(tookMs / 1000).toFixed(1)} s`;
    if (left.length > 0) line.say(`not stopped (${how}): process ${left.join(', ')} is still there`);
    else line.say(`stopped (${how})`);
  }

  #stop(): Promise<StopOutcome> {
    this.#state = 'stopping';
    this.#stopping ??= this.#workload.stop();
    this.#parts.launched.toFront();
    return this.#stopping;
  }

  #onSignal(signal: (typeof PASSED_ON)[number]): void {
    const isEnding = ENDING.some((ending) => ending === signal);
    switch (this.#state) {
      case 'waiting':
        if (isEnding) this.#giveUp.abort(signal);
        return;
      case 'running':
        this.#workload.pass(signal);
        return;
      case 'paused':
        this.#workload.pass(signal);
        // It must run to end, and may not run on: hardware that must cool is no place for a program that ignores it.
        if (isEnding) void this.#stop();
        return;
      case 'stopping':
        return;
    }
  }

  #tellOfSuspending(): void {
    if (this.#toldOfSuspending || this.#state === 'stopping') return;
    this.#toldOfSuspending = true;
    this.#parts.line.say('under a lease it cannot be suspended and goes on; Ctrl-C ends it');
  }

  #tellFailure(failure: string | null): void {
    if (failure !== null) this.#parts.line.say(failure);
  }

  /** Whether it is there. If somebody ends it, another one is started. */
  async #startWatchdog(): Promise<boolean> {
    const { id, launched, file, cpu, io, line } = this.#parts;
    const leftovers = [...file.leftovers, ...(cpu.ok ? [cpu.share.folder] : [])];
    const watchdog = await WatchdogLink.start({ leaseId: id, pgid: launched.pgid, leftovers }, io.clock, io.env);
    this.#watchdog = watchdog;
    void watchdog?.lost.then(async () => {
      line.say('its watchdog was ended from outside; starting another');
      await io.clock.sleep(WATCHDOG_RETRY_MS);
      if (this.#isOver) return;
      // The end waits for it: one that comes up after the farewell would keep this process from ending.
      this.#watching = this.#startWatchdog();
      if (!(await this.#watching)) {
        line.say('without a watchdog it would outlive a kill -9 of this command');
      }
    });
    return watchdog !== null;
  }
}
