// Runs a tool of this machine (nvidia-smi, ipmitool) so that nothing it does can hold this service up. Such tools wait
// for drivers: they hang for minutes, ignore TERM, or enter uninterruptible sleep, where even KILL only takes effect when
// the driver lets go. So each run ends at its deadline: TERM to the tool's own process group a moment before, then KILL,
// and if the tool is still there the run answers `unkillable` and leaves it behind. While one is left behind no second
// one is started, or a wedged driver would collect a process every few seconds. Nothing here blocks: no shell, no
// synchronous call, no waiting for a pipe that a grandchild keeps open. What the output means is left to the caller.
import { spawn } from 'node:child_process';
import type { Socket } from 'node:net';
import { Readable } from 'node:stream';
import { type Clock, TIMED_OUT, withDeadline } from '../clock.ts';
import type { FailureCause } from '../domain/reading.ts';

/** The tool ran to its own end; what its status says is the caller's to judge. */
export interface CommandExit {
  readonly ok: true;
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CommandFailure {
  readonly ok: false;
  readonly cause: Extract<FailureCause, 'not-installed' | 'timeout' | 'unkillable' | 'failed'>;
  /** For people: deed, value, limit. */
  readonly detail: string;
}

export type CommandAnswer = CommandExit | CommandFailure;

/** A started child, as far as it matters here; a test may stand in for one that never exits. */
export interface Child {
  readonly pid: number | undefined;
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** Settles once the process has gone, or could not be started. Never rejects. */
  readonly ended: Promise<ChildEnd>;
  /** To the child's whole process group, so that a wrapper's own children get it too. */
  signal(signal: 'SIGTERM' | 'SIGKILL'): void;
  /** From now on it no longer keeps this process running. */
  letGo(): void;
}

export type ChildEnd =
  | { readonly kind: 'exited'; readonly status: number | null; readonly signal: string | null }
  | { readonly kind: 'not-started'; readonly code: string };

export type Launch = (command: string, args: readonly string[], env: NodeJS.ProcessEnv) => Child;

export interface BoundedCommandOptions {
  readonly clock: Clock;
  /** A name looked up on the `PATH` of `env`, or a path. */
  readonly command: string;
  /** The child's environment; `LC_ALL` and `LANG` are set to C over it, else 299.90 W may come as `299,90`. */
  readonly env: NodeJS.ProcessEnv;
  /** How much of stdout, and of stderr, is taken; a tool that writes more is ended. Default 1 MiB. */
  readonly maxOutputBytes?: number;
  readonly launch?: Launch;
}

/**
 * How long before the deadline TERM is sent, and how long before it KILL, ms; of a short run at most a half and a
 * sixth. TERM comes first, with time to obey it: a GPU was seen to wedge when a client of its driver was killed in
 * mid-call (dcgm-exporter issue 84).
 */
const TERM_BEFORE_DEADLINE_MS = 600;
const KILL_BEFORE_DEADLINE_MS = 200;

/** What a tool wrote is in the pipe when it exits; one that stays open longer than this is held by a grandchild. */
const DRAIN_MS = 100;

/** Grace between TERM and KILL for grandchildren that a tool leaves behind. */
const SWEEP_MS = 400;

/** The process that has not gone yet. */
interface Current {
  readonly pid: number | undefined;
  readonly sinceMs: number;
  /** Its run has answered without it. */
  isAbandoned: boolean;
}

const TOO_MUCH = Symbol('too much output');
const CLOSED = Symbol('closed');

/** One tool, of which at most one process runs at any time. */
export class BoundedCommand {
  readonly #clock: Clock;
  readonly #command: string;
  readonly #env: NodeJS.ProcessEnv;
  readonly #maxOutputBytes: number;
  readonly #launch: Launch;
  #isClosed = false;
  /** Ends the wait of the run under way. Made anew for each: races on one lasting promise would pile up in it. */
  #interrupt: (() => void) | undefined;
  #current: Current | undefined;

  constructor({ clock, command, env, maxOutputBytes = 1024 * 1024, launch = launchInOwnGroup }: BoundedCommandOptions) {
    this.#clock = clock;
    this.#command = command;
    this.#env = { ...env, LC_ALL: 'C', LANG: 'C' };
    this.#maxOutputBytes = maxOutputBytes;
    this.#launch = launch;
  }

  /**
   * Runs the tool once. Answers at the latest at `deadlineMs` (monotonic), at once while an earlier process has not
   * gone. Never rejects: `not-installed` when there is no such program, `timeout` when it had to be ended, `unkillable`
   * when it could not be, `failed` for everything else (not executable, ended by a signal, too much output, closed).
   */
  async run(args: readonly string[], deadlineMs: number): Promise<CommandAnswer> {
    const startedAtMs = this.#nowMs();
    const refusal = this.#refusal(deadlineMs - startedAtMs);
    if (refusal) return refusal;
    let child: Child;
    try {
      child = this.#launch(this.#command, args, this.#env);
    } catch (error) {
      return this.#notStarted((error as NodeJS.ErrnoException).code ?? String(error));
    }
    const current: Current = { pid: child.pid, sinceMs: startedAtMs, isAbandoned: false };
    this.#current = current;
    const answer = await this.#follow(child, deadlineMs, current);
    if (!current.isAbandoned) this.#current = undefined;
    return answer;
  }

  /** Sends TERM to a run under way and lets it go, without waiting. Later runs are refused. */
  close(): void {
    this.#isClosed = true;
    this.#interrupt?.();
  }

  async #follow(child: Child, deadlineMs: number, current: Current): Promise<CommandAnswer> {
    const allowedMs = deadlineMs - current.sinceMs;
    const termAtMs = deadlineMs - Math.min(TERM_BEFORE_DEADLINE_MS, allowedMs / 2);
    const killAtMs = deadlineMs - Math.min(KILL_BEFORE_DEADLINE_MS, allowedMs / 6);
    const stdout = collect(child.stdout, this.#maxOutputBytes);
    const stderr = collect(child.stderr, this.#maxOutputBytes);
    const pipesClosed = Promise.all([stdout.closed, stderr.closed]);
    const interrupted = new Promise<typeof CLOSED>((resolve) => {
      this.#interrupt = () => resolve(CLOSED);
    });

    const end = await withDeadline(
      this.#clock,
      termAtMs - this.#nowMs(),
      Promise.race([child.ended, stdout.tooMuch, stderr.tooMuch, interrupted]),
    );
    if (end === CLOSED) {
      child.signal('SIGTERM');
      child.letGo();
      return this.#failed('failed', 'the source was closed while it ran');
    }
    if (end !== TIMED_OUT && end !== TOO_MUCH) {
      if (end.kind === 'not-started') return this.#notStarted(end.code);
      const drained = await withDeadline(this.#clock, Math.min(DRAIN_MS, deadlineMs - this.#nowMs()), pipesClosed);
      if (drained === TIMED_OUT) this.#sweep(child, pipesClosed);
      if (stdout.isTooMuch() || stderr.isTooMuch()) return this.#tooMuch();
      // What a killed process wrote may be cut in the middle of a number.
      if (end.status === null) return this.#failed('failed', `it was ended by ${end.signal ?? 'a signal'}`);
      return { ok: true, status: end.status, stdout: stdout.text(), stderr: stderr.text() };
    }

    // A wrapper may obey and leave the real tool stuck behind it: that is gone when it no longer holds the pipes.
    const gone = Promise.all([child.ended, pipesClosed]);
    child.signal('SIGTERM');
    if ((await withDeadline(this.#clock, killAtMs - this.#nowMs(), gone)) === TIMED_OUT) {
      child.signal('SIGKILL');
      if ((await withDeadline(this.#clock, deadlineMs - this.#nowMs(), gone)) === TIMED_OUT) {
        current.isAbandoned = true;
        child.letGo();
        void gone.then(() => {
          this.#current = undefined;
        });
        const detail = `process ${child.pid} did not end within ${Math.round(allowedMs)} ms, not even by KILL`;
        return this.#failed('unkillable', `${detail}; none other is started until it is gone`);
      }
    }
    if (end === TOO_MUCH) return this.#tooMuch();
    return this.#failed('timeout', `it did not answer within ${Math.round(allowedMs)} ms and was ended`);
  }

  /** Grandchildren of a tool that ended by itself: asked to go, so that none are left over at every look. */
  #sweep(child: Child, pipesClosed: Promise<unknown>): void {
    child.signal('SIGTERM');
    child.letGo();
    void withDeadline(this.#clock, SWEEP_MS, pipesClosed).then((closed) => {
      // An open pipe proves that somebody is left, so that the group's number has not passed to another.
      if (closed === TIMED_OUT) child.signal('SIGKILL');
      child.stdout.destroy();
      child.stderr.destroy();
    });
  }

  #refusal(allowedMs: number): CommandFailure | undefined {
    if (this.#isClosed) return this.#failed('failed', 'the source is closed');
    if (this.#current) {
      const { pid, sinceMs, isAbandoned } = this.#current;
      const seconds = ((this.#nowMs() - sinceMs) / 1000).toFixed(0);
      return isAbandoned
        ? this.#failed(
            'unkillable',
            `process ${pid} has hung for ${seconds} s and cannot be ended; none other is started`,
          )
        : this.#failed('failed', `process ${pid} has been running for ${seconds} s; none other is started`);
    }
    return allowedMs > 0 ? undefined : this.#failed('timeout', 'no time is left before the deadline');
  }

  #tooMuch(): CommandFailure {
    return this.#failed('failed', `it wrote more than ${this.#maxOutputBytes} bytes`);
  }

  #notStarted(code: string): CommandFailure {
    if (code === 'ENOENT') return this.#failed('not-installed', 'it is not installed, or not on the PATH');
    return this.#failed('failed', `it cannot be started: ${code}`);
  }

  #failed(cause: CommandFailure['cause'], why: string): CommandFailure {
    return { ok: false, cause, detail: `Cannot run ${this.#command}: ${why}` };
  }

  #nowMs(): number {
    return this.#clock.now().elapsedMs;
  }
}

/** Takes what a stream brings, up to a bound. Beyond it the stream is still emptied, so that its end is seen. */
function collect(
  stream: Readable,
  maxBytes: number,
): {
  text(): string;
  isTooMuch(): boolean;
  readonly closed: Promise<void>;
  readonly tooMuch: Promise<typeof TOO_MUCH>;
} {
  const chunks: Buffer[] = [];
  let bytes = 0;
  const tooMuch = new Promise<typeof TOO_MUCH>((resolve) => {
    stream.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes <= maxBytes) chunks.push(chunk);
      else resolve(TOO_MUCH);
    });
  });
  // A pipe that breaks is closed next, and is then judged as one that ended.
  stream.on('error', () => undefined);
  return {
    text: () => Buffer.concat(chunks).toString('utf8'),
    isTooMuch: () => bytes > maxBytes,
    closed: new Promise((resolve) => stream.once('close', resolve)),
    tooMuch,
  };
}

const launchInOwnGroup: Launch = (command, args, env) => {
  // `cwd`: with a working directory that was removed, spawn says ENOENT, as if the tool were not installed.
  const child = spawn(command, args, { cwd: '/', env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
  const ended = new Promise<ChildEnd>((resolve) => {
    child.on('error', (error: NodeJS.ErrnoException) =>
      resolve({ kind: 'not-started', code: error.code ?? String(error) }),
    );
    child.once('exit', (status, signal) => resolve({ kind: 'exited', status, signal }));
  });
  return {
    pid: child.pid,
    // With all file descriptors in use (EMFILE) Node makes no pipes, whatever its types say.
    stdout: child.stdout ?? Readable.from([]),
    stderr: child.stderr ?? Readable.from([]),
    ended,
    signal(signal) {
      if (child.pid === undefined || child.pid <= 1) return;
      try {
        process.kill(-child.pid, signal);
      } catch {
        // ESRCH: gone meanwhile. EPERM: it runs as somebody else now; it is waited for, and reported if it stays.
      }
    },
    letGo() {
      child.unref();
      for (const pipe of [child.stdout, child.stderr]) (pipe as Socket | null)?.unref();
    },
  };
};
