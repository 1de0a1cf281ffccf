// The live stop of a commissioning test: a real emergency stop of a workload that does nothing. It must hit nobody else,
// so it is done only where a drill of the very same stop lists the canary alone; and it must leave the machine as it was,
// so the trip that it made is reset, and no other one.
import { randomUUID } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { TIMED_OUT, withDeadline } from '../clock.ts';
import type { DrillAnswerSchema, ProblemSchema, StopAnswerSchema, Told } from '../http/schemas.ts';
import type { Status } from '../http/status-view.ts';
import { CANARY_MARKS } from '../run/canary-marks.ts';
import { HttpService } from '../sdk/http-service.ts';
import type { ServiceClient } from './client.ts';
import { resetCommand, StepDraft } from './commission-step.ts';
import { CommandFailed, type Io } from './io.ts';
import { STOPPED_FOR_SAFETY } from './run-options.ts';
import { runUnderLease } from './run-session.ts';
import type { Estop, StopReport } from './stop-lines.ts';

/** Beside this file in a bundle, in the folder of `run` otherwise. */
const PROGRAM = ['./canary.js', '../run/canary.js']
  .map((path) => fileURLToPath(new URL(path, import.meta.url)))
  .find(existsSync);
const START_MS = 20_000;
const STOP_TIMEOUT_MS = 5_000;
/** A stop becomes unverified after 30 s. */
const VERIFY_MS = 45_000;
const END_MS = 15_000;
/** Readings must be fresh and the stop verified; in a cluster it is written there first. */
const RESET_MS = 30_000;
const RESET_TIMEOUT_MS = 20_000;
const GONE_SLOW_MS = 5_000;
const LOOK_MS = 5;
const ASK_EVERY_MS = 100;

export interface CanaryOrder {
  readonly client: ServiceClient;
  readonly io: Io;
  /** Where the canary is; `all` stops everything, which hits the same where nothing else runs. */
  readonly node: string;
  readonly scope: 'node' | 'all';
  readonly signal: AbortSignal;
}

export interface CanaryOutcome {
  readonly step: StepDraft;
  /** A trip that this test made and that is still on. */
  readonly tripLeft: string | null;
  /** Ctrl-C, which on a terminal reaches the canary and not us. */
  readonly isInterrupted: boolean;
}

/** Workloads, beside the one named, that a stop would end. */
export function othersOf(
  { leases, unleased }: Status,
  { node, scope }: Pick<CanaryOrder, 'node' | 'scope'>,
  own: string | null,
): string[] {
  const isHit = (nodes: readonly string[] | null): boolean => scope === 'all' || nodes === null || nodes.includes(node);
  return [
    ...leases
      .filter((lease) => lease.workload !== own && isHit(lease.nodes))
      .map(({ workload }) => `lease of ${workload}`),
    ...unleased
      // Those are shown and never stopped.
      .filter(({ kind }) => kind !== 'gpu-process')
      .filter((one) => isHit(one.node === undefined ? null : [one.node]))
      .map(({ kind, name }) => `${kind} ${name}`),
  ];
}

/** Starts a canary, stops it, resets. Ends with the canary gone, whatever happens. */
export async function stopCanary(order: CanaryOrder): Promise<CanaryOutcome> {
  const folder = await mkdtemp(join(tmpdir(), 'vsf-canary-'));
  try {
    return await new CanaryStop(order, join(folder, 'canary')).run();
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** When things happened, ms after the command. */
interface Times {
  signalMs: number | null;
  goneMs: number | null;
}

class CanaryStop {
  readonly #order: CanaryOrder;
  readonly #mark: string;
  readonly #workload = `commissioning canary ${randomUUID().slice(0, 8)}`;
  readonly #step = new StepDraft('canary');
  readonly #said: string[] = [];
  #code: number | null = null;
  #tripLeft: string | null = null;
  /** The stop was asked for, and its answer has not come. */
  #isStopUnanswered = false;

  constructor(order: CanaryOrder, mark: string) {
    this.#order = order;
    this.#mark = mark;
  }

  async run(): Promise<CanaryOutcome> {
    const ended = this.#start().then(
      (code) => code,
      (error: unknown) => {
        this.#said.push(error instanceof Error ? error.message : String(error));
        return 1;
      },
    );
    void ended.then((code) => {
      this.#code = code;
    });
    let isOurs = false;
    try {
      const lease = await this.#awaitStart();
      const others = lease && (await this.#whatElseWouldStop(lease.id));
      if (lease && others === null && this.#code === null && !this.#order.signal.aborted) {
        isOurs = true;
        await this.#stop(lease, ended);
      } else if (others !== null) this.#step.skip(others);
      else {
        const why = this.#said.at(-1) ?? 'it did not run within 20 s';
        this.#step.say('the canary did not come to be stopped').fail(`The canary did not run: ${why}`);
      }
    } catch (error) {
      if (!(error instanceof CommandFailed)) throw error;
      const remedy = await this.#remedy();
      this.#step.say('it broke off').fail(error.message, remedy);
    } finally {
      this.#end();
      await withDeadline(this.#order.io.clock, END_MS, ended);
    }
    const isEndedBySignal = !isOurs && (this.#code ?? 0) > 128;
    return {
      step: this.#step,
      tripLeft: this.#tripLeft,
      isInterrupted: this.#order.signal.aborted || isEndedBySignal,
    };
  }

  /** As `vsf-safety run` starts any workload, with its watchdog. */
  async #start(): Promise<number> {
    const { client, io, node } = this.#order;
    if (PROGRAM === undefined) throw new Error('its program is not there: the installation is not whole');
    const token = (await client.operatorToken()) ?? undefined;
    const service = new HttpService({ url: client.url, token }, io.env, io.clock);
    const output = { write: (text: string) => this.#said.push(text.replace(/^vsf-safety: /, '').trim()) };
    const ask = { workload: this.#workload, intensity: 0.05, nodes: [node] };
    const command = [process.execPath, PROGRAM, this.#mark];
    try {
      return await runUnderLease({ command, ask, wait: false, service }, { ...io, stdout: output, stderr: output });
    } finally {
      await service.close();
    }
  }

  async #awaitStart(): Promise<Status['leases'][number] | null> {
    await this.#until(() => this.#pid !== null, START_MS);
    if (this.#pid === null) return null;
    return (await this.#status()).leases.find(({ workload }) => workload === this.#workload) ?? null;
  }

  /** `null`: the canary alone. */
  async #whatElseWouldStop(leaseId: string): Promise<string | null> {
    const others = othersOf(await this.#status(), this.#order, this.#workload);
    if (others.length > 0) return `something else runs by now: ${others.slice(0, 3).join(', ')}`;
    const { client } = this.#order;
    const body = { drill: true, ...this.#nodes };
    const answer = await client.ask({ method: 'POST', path: '/estop', body, needs: 'operator', expects: [200] });
    const { entries } = answer.body as Told<typeof DrillAnswerSchema>;
    const unknown = entries.find(({ state }) => state === 'failed');
    if (unknown) return `it is not known what a stop would end: ${unknown.detail ?? unknown.name}`;
    const strange = entries.filter((entry) => entry.leaseId !== leaseId);
    return strange.length === 0
      ? null
      : `a stop would end more than the canary: ${strange
          .slice(0, 3)
          .map(({ kind, name }) => `${kind} ${name}`)
          .join(', ')}`;
  }

  async #stop({ id: leaseId, processGroup }: Status['leases'][number], ended: Promise<number>): Promise<void> {
    const { client, io, node, scope } = this.#order;
    const step = this.#step;
    if (processGroup === null) {
      step.warn('The service does not see the processes of this machine: the canary was stopped by its own "run"');
    }
    const startMs = io.clock.now().elapsedMs;
    const passedMs = (): number => io.clock.now().elapsedMs - startMs;
    const times: Times = { signalMs: null, goneMs: null };
    const watching = this.#watchMarks(times, passedMs);
    const body = { reason: this.#reason, ...this.#nodes };
    const asked = { method: 'POST', path: '/estop', body, needs: 'operator', expects: [202] } as const;
    this.#isStopUnanswered = true;
    const posted = (await client.ask({ ...asked, timeoutMs: STOP_TIMEOUT_MS })).body as Told<typeof StopAnswerSchema>;
    this.#isStopUnanswered = false;
    const latchedMs = passedMs();
    const { tripId, joined } = posted;
    if (!joined) this.#tripLeft = tripId;
    const report = await this.#settled(tripId, posted.report);
    const verifiedMs = report.state === 'verified' ? passedMs() : null;
    await watching;
    const code = await withDeadline(io.clock, END_MS, ended);

    step.figure('commandToLatchedMs', latchedMs);
    step.figure('commandToSignalMs', times.signalMs);
    step.figure('commandToGoneMs', times.goneMs);
    step.figure('commandToVerifiedMs', verifiedMs);
    const entries = Object.values(report.actuators).flatMap((actuator) => actuator.entries);
    step.table(
      'What was stopped',
      ['STATE', 'WHAT', 'NAME', 'HOW', 'TOOK'],
      entries.map(({ state, kind, name, how, tookMs }) => [state, kind, name, how, `${(tookMs / 1000).toFixed(1)} s`]),
    );
    const others = entries.filter((entry) => entry.leaseId !== undefined && entry.leaseId !== leaseId);
    for (const { kind, name } of others) step.fail(`It ended another workload, too: ${kind} ${name}`);
    if (times.signalMs === null) step.warn('The canary saw no SIGTERM');
    if (times.goneMs === null) step.fail('The canary was not gone within 20 s of the command');
    else if (times.goneMs > GONE_SLOW_MS) step.warn(`The canary was gone only after ${msText(times.goneMs)}`);
    if (report.state !== 'verified') step.fail(`The stop is ${report.state}: nobody has seen that nothing runs on`);
    if (code !== STOPPED_FOR_SAFETY && !this.#order.signal.aborted) {
      step.fail(`Its "run" did not end as stopped for safety (76) but with ${code === TIMED_OUT ? 'nothing' : code}`);
    }
    const where = scope === 'all' ? 'everything' : node;
    const told = [
      `latched ${msText(latchedMs)}`,
      `first signal ${msText(times.signalMs)}`,
      `gone ${msText(times.goneMs)}`,
      `verified ${msText(verifiedMs)}`,
    ];
    step.say(`stop of ${where}: ${told.join(', ')} after the command`);
    if (joined) {
      step.fail(`Another stop came in between (trip ${tripId}), and is left on`);
    } else await this.#reset(tripId, passedMs);
  }

  /** Looks for the first signal and for the end, all the time: both may come before the stop is answered. */
  async #watchMarks(times: Times, passedMs: () => number): Promise<void> {
    const pid = this.#pid ?? 0;
    while (times.goneMs === null && passedMs() < START_MS) {
      if (times.signalMs === null && existsSync(this.#mark + CANARY_MARKS.signalled)) times.signalMs = passedMs();
      if (!isThere(pid)) times.goneMs = passedMs();
      await this.#order.io.clock.sleep(LOOK_MS);
    }
  }

  async #settled(tripId: string, first: StopReport): Promise<StopReport> {
    const { client, io, signal } = this.#order;
    const endMs = io.clock.now().elapsedMs + VERIFY_MS;
    let report = first;
    while (report.state === 'stopping' && io.clock.now().elapsedMs < endMs && !signal.aborted) {
      await io.clock.sleep(ASK_EVERY_MS, signal);
      const { body } = await client.ask({ method: 'GET', path: '/estop', needs: 'anybody', expects: [200] });
      report = (body as Estop).trips.find((trip) => trip.tripId === tripId)?.report ?? report;
    }
    return report;
  }

  /** What is to be done after a test that broke off: a stop whose answer was lost has tripped all the same, perhaps. */
  async #remedy(): Promise<string | null> {
    if (this.#isStopUnanswered) {
      try {
        const { client } = this.#order;
        const { body } = await client.ask({ method: 'GET', path: '/estop', needs: 'anybody', expects: [200] });
        this.#tripLeft = (body as Estop).trips.find(({ reason }) => reason === this.#reason)?.tripId ?? null;
      } catch (error) {
        if (!(error instanceof CommandFailed)) throw error;
        return 'the stop may have tripped: look by "vsf-safety status", and reset it if it did';
      }
    }
    return this.#tripLeft === null ? null : resetCommand(this.#tripLeft);
  }

  async #reset(tripId: string, passedMs: () => number): Promise<void> {
    const { client, io, signal } = this.#order;
    const endMs = io.clock.now().elapsedMs + RESET_MS;
    const body = { tripId, reason: 'commissioning: the canary was stopped' };
    const asked = { method: 'POST', path: '/estop/reset', body, needs: 'operator', expects: [200, 409] } as const;
    let why = 'interrupted';
    while (!signal.aborted) {
      const answer = await client.ask({ ...asked, timeoutMs: RESET_TIMEOUT_MS });
      if (answer.status === 200) {
        this.#tripLeft = null;
        this.#step.figure('commandToResetMs', passedMs());
        const { interlock } = await this.#status();
        if (interlock.state !== 'clear') this.#step.warn(`After the reset the interlock is ${interlock.state}`);
        return;
      }
      const { detail, still = [] } = answer.body as Told<typeof ProblemSchema>;
      why = still.length > 0 ? still.join('; ') : detail;
      if (io.clock.now().elapsedMs > endMs) break;
      await io.clock.sleep(1_000, signal);
    }
    this.#step.fail(`The trip ${tripId} of this test could not be reset: ${why}`, resetCommand(tripId));
  }

  /** By itself, where nobody stopped it. */
  #end(): void {
    const pid = this.#pid;
    if (pid === null || this.#code !== null) return;
    try {
      process.kill(pid, 'SIGTERM');
    } catch {
      // It is gone.
    }
  }

  /** By it the trip of this very test is known. */
  get #reason(): string {
    return `commissioning: live stop of the ${this.#workload}`;
  }

  get #nodes(): { readonly nodes?: readonly string[] } {
    return this.#order.scope === 'all' ? {} : { nodes: [this.#order.node] };
  }

  get #pid(): number | null {
    try {
      const pid = Number(readFileSync(this.#mark + CANARY_MARKS.started, 'utf8'));
      return pid > 1 ? pid : null;
    } catch {
      return null;
    }
  }

  async #until(isSo: () => boolean, ms: number): Promise<void> {
    const { io, signal } = this.#order;
    const endMs = io.clock.now().elapsedMs + ms;
    while (!isSo() && this.#code === null && !signal.aborted && io.clock.now().elapsedMs < endMs) {
      await io.clock.sleep(LOOK_MS * 4, signal);
    }
  }

  async #status(): Promise<Status> {
    const { body } = await this.#order.client.ask({
      method: 'GET',
      path: '/status',
      needs: 'operator',
      expects: [200],
    });
    return body as Status;
  }
}

function isThere(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

const msText = (ms: number | null): string =>
  ms === null ? 'never' : ms < 1_000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
