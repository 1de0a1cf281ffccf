// Tells the service manager (systemd, Type=notify) how this process is: ready, alive, what it says, that it ends. Alive is
// told by the evaluation loop and by no timer, so that a process whose loop stands still looks dead, however well its
// event loop turns.
//
// Node has no datagram sockets of the Unix kind. The unit therefore starts the service through deploy/notify-exec, which
// connects one, hands it over as a descriptor named `notify`, and becomes this process: a message is then one write, and
// the main process's own (NotifyAccess=main). Where a unit of somebody's own leaves that out, `systemd-notify` is run for
// each message, which needs NotifyAccess=all there.
import { execFile } from 'node:child_process';
import { writeSync } from 'node:fs';
import type { Environment } from './config.ts';
import type { Action, SafetyResult } from './domain/result.ts';
import type { SafetyState } from './domain/state.ts';
import type { Log, Supervisor } from './supervisor.ts';

/** Hands assignments (`READY=1`) over. Never throws: what fails is told, and the next evaluation tries anew. */
export type Send = (assignments: readonly string[]) => void;

/** The first descriptor that a service manager hands over (sd_listen_fds). */
const FIRST_DESCRIPTOR = 3;
const COMMAND_TIMEOUT_MS = 5_000;
/** A loop is taken for dead when three ticks are missing and a slow one had its time, whatever the unit says. */
const WATCHDOG_INTERVALS = 3;
const WATCHDOG_MARGIN_MS = 10_000;
/** Until the cluster's latch is known, each evaluation asks for so much more time to start. */
const EXTEND_START_MS = 60_000;
/** systemctl shows one line. */
const MOST_STATUS_CHARS = 300;

const WORDS: Readonly<Record<Action, string>> = {
  PROCEED: 'Safe, workloads may start',
  REDUCE_INTENSITY: 'Workloads are to slow down, none may start',
  WAIT_COOLDOWN: 'Workloads are to wait, none may start',
  ABORT: 'STOPPED until an operator resets',
};

export class ServiceManager {
  readonly #send: Send;
  readonly #watchdogMs: number | null;
  #isReady = false;
  #lastTickAtMs: number | null = null;

  constructor(send: Send, env: Environment, pid: number) {
    this.#send = send;
    this.#watchdogMs = watchdogMsIn(env, pid);
  }

  /** `null`: no service manager wants to be told. */
  static from(env: Environment, pid: number, log: Pick<Log, 'warn'>): ServiceManager | null {
    if (!env['NOTIFY_SOCKET']) return null;
    const descriptor = descriptorIn(env, pid);
    const onOutcome = oncePerFailure(log);
    const send = descriptor === null ? byCommand(env, onOutcome) : byWrite(descriptor, onOutcome);
    return new ServiceManager(send, env, pid);
  }

  /** From now on; the service listens. */
  watch(supervisor: Pick<Supervisor, 'state' | 'subscribe'>): void {
    this.#tell(supervisor.state, ['STATUS=Looks at the hardware for the first time']);
    supervisor.subscribe((message) => {
      if (message.type === 'evaluation') this.#tell(supervisor.state, [`STATUS=${statusOf(message.data)}`]);
    });
  }

  /** The process has begun to end. */
  ending(): void {
    this.#send(['STOPPING=1', 'STATUS=Ends; the interlock is kept']);
  }

  #tell(state: SafetyState, assignments: string[]): void {
    if (!this.#isReady && isLatchKnown(state)) {
      this.#isReady = true;
      assignments.push('READY=1', ...this.#watchdogFor(state.settings.intervalMs));
    }
    // Fast samples publish too, when the action changes; they must not speak for ticks that do not come.
    if (state.lastTickAtMs !== this.#lastTickAtMs) {
      this.#lastTickAtMs = state.lastTickAtMs;
      assignments.push(this.#isReady ? 'WATCHDOG=1' : `EXTEND_TIMEOUT_USEC=${EXTEND_START_MS * 1000}`);
    }
    this.#send(assignments);
  }

  /** A longer interval than the unit was written for needs a longer watchdog. */
  #watchdogFor(intervalMs: number): string[] {
    const neededMs = WATCHDOG_INTERVALS * intervalMs + WATCHDOG_MARGIN_MS;
    if (this.#watchdogMs === null || this.#watchdogMs >= neededMs) return [];
    return [`WATCHDOG_USEC=${neededMs * 1000}`];
  }
}

/** The journal's is read before anything listens; a cluster's may come later. */
const isLatchKnown = ({ cluster }: SafetyState): boolean => cluster === null || cluster.isLatchKnown;

function statusOf({ action, reason, simulated }: SafetyResult): string {
  const text = `${simulated ? 'SIMULATED. ' : ''}${WORDS[action]} (${action}): ${reason}`;
  // A newline would begin an assignment of its own.
  return text.replace(/\s+/g, ' ').slice(0, MOST_STATUS_CHARS);
}

function descriptorIn(env: Environment, pid: number): number | null {
  if (env['LISTEN_PID'] !== String(pid)) return null;
  const place = (env['LISTEN_FDNAMES'] ?? '').split(':').indexOf('notify');
  return place >= 0 && place < Number(env['LISTEN_FDS']) ? FIRST_DESCRIPTOR + place : null;
}

function watchdogMsIn(env: Environment, pid: number): number | null {
  const isOurs = env['WATCHDOG_PID'] === undefined || env['WATCHDOG_PID'] === String(pid);
  const ms = Number(env['WATCHDOG_USEC']) / 1000;
  return isOurs && ms > 0 ? ms : null;
}

/** The socket does not block (deploy/notify-exec): a manager that does not read costs a message, never this loop. */
function byWrite(descriptor: number, onOutcome: (failure: string | null) => void): Send {
  return (assignments) => {
    try {
      writeSync(descriptor, assignments.join('\n'));
      onOutcome(null);
    } catch (error) {
      onOutcome(error instanceof Error ? error.message : String(error));
    }
  };
}

/** One command at a time; what comes meanwhile is joined, the newest of each name. */
function byCommand(env: Environment, onOutcome: (failure: string | null) => void): Send {
  const waiting = new Map<string, string>();
  let running = 0;
  const run = (): void => {
    const assignments = [...waiting.values()];
    waiting.clear();
    running += 1;
    execFile('systemd-notify', assignments, { env: { ...env }, timeout: COMMAND_TIMEOUT_MS }, (error) => {
      running -= 1;
      onOutcome(error === null ? null : error.message.trim().replace(/\s+/g, ' '));
      if (running === 0 && waiting.size > 0) run();
    });
  };
  return (assignments) => {
    for (const assignment of assignments) waiting.set(assignment.split('=', 1)[0] ?? '', assignment);
    // The last word waits for nothing: the process may be gone before its turn.
    if (running === 0 || waiting.has('STOPPING')) run();
  };
}

/** Says once that it fails, until it has worked again. */
function oncePerFailure(log: Pick<Log, 'warn'>): (failure: string | null) => void {
  let isFailing = false;
  return (failure) => {
    if (failure !== null && !isFailing) log.warn(`The service manager cannot be told how this service is: ${failure}`);
    isFailing = failure !== null;
  };
}
