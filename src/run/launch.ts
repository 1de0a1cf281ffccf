// Starts a command in a process group of its own, but only once it is told to: the service wants to see the group that a
// lease is for before it grants it. So a small shell leads the group, waits on a pipe for the word, and then *becomes* the
// command, which keeps its number, its start time and the lease's mark. If the word never comes because we died, the pipe
// ends, and nothing was ever started.
//
// On a terminal the command must also be its foreground group, for Ctrl-C, Ctrl-Z and its right to read. Node can put a
// child only into a session of its own, where there is no terminal. A shell with job control can do what is needed, so
// there one stands between: it starts the group in our session, brings it to the front when told, takes the terminal back
// when the group stops or ends, and says so. Tried with dash and bash.
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { isatty } from 'node:tty';
import { createProcessTable, isLive, LEASE_VARIABLE, parseStat } from '../actuators/process-table.ts';
import { type Clock, TIMED_OUT, withDeadline } from '../clock.ts';

const SHELL = '/bin/sh';
/** What the waiting shell ends with when the word does not come; nobody looks at it. */
const GATE = `
read -r word cap <&3 && [ "$word" = go ] || exit 75
exec 3<&-
export VSF_INTENSITY="$cap" VSF_INTENSITY_CAP="$cap"
exec "$@"`;
/**
 * The shell itself does not bear the mark: it would be paused and stopped as a part of the workload. `fg` sits in a function because bash leaves a loop in which a job was stopped by Ctrl-Z. Ctrl-C while the terminal is
 * here (waiting, or paused) is ours to answer; it interrupts `read`, which dash does not tell apart from the end.
 */
const FOREGROUND = `
gate=$1; lease=$2; shift 2
${LEASE_VARIABLE}="$lease" ${SHELL} -c "$gate" vsf-safety "$@" 3<&5 4>&- 5<&- &
echo "$!" >&4
exec 5<&-
trap 'kill -INT "$PPID"; told=1' INT
trap 'kill -QUIT "$PPID"; told=1' QUIT
trap '' TSTP
front() { fg %% >/dev/null 2>&1; echo "$?" >&4; }
while :; do
  told=
  if read -r order <&3; then front
  elif [ -z "$told" ]; then exit 0
  fi
done`;
/** A shell starts in milliseconds; on a machine under full load in some hundreds. */
const START_MS = 10_000;

export type Launch =
  | { readonly ok: true; readonly launched: Launched }
  | { readonly ok: false; readonly detail: string };

export interface Launched {
  readonly pgid: number;
  /** The command's exit code, 128 + the signal's number where one ended it. Never rejects. */
  readonly ended: Promise<number>;
  /** The word: `cap` becomes VSF_INTENSITY. */
  begin(cap: number): void;
  /** Gives it the terminal, and lets it go on, where it has lost both by being stopped. Elsewhere nothing. */
  toFront(): void;
  /** Lets go of it, dead or alive. What has not been told to begin ends. */
  close(): void;
}

interface LaunchParts {
  readonly command: readonly string[];
  readonly leaseId: string;
  /** Without the mark, which comes from here. */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
  /** On a terminal: it was stopped, by a pause or by Ctrl-Z, and has lost the terminal. */
  readonly onStopped: () => void;
}

/** Starts the group, waiting. Where the terminal is ours, the command will have it. */
export async function launch(parts: LaunchParts): Promise<Launch> {
  const place = terminalPlace();
  if (place === 'foreground') return launchInFront(parts);
  return launchDetached(parts, place === 'background' ? 'ignore' : 'inherit');
}

/** A job in the background of a terminal must not read from it: its input is empty, as in any shell. */
function terminalPlace(): 'none' | 'foreground' | 'background' {
  if (!isatty(0)) return 'none';
  try {
    const line = readFileSync('/proc/self/stat', 'latin1');
    const foreground = Number(line.slice(line.lastIndexOf(') ') + 2).split(' ')[5]);
    if (foreground <= 0) return 'none';
    return foreground === parseStat(line)?.pgid ? 'foreground' : 'background';
  } catch {
    return 'none';
  }
}

async function launchDetached(parts: LaunchParts, stdin: 'ignore' | 'inherit'): Promise<Launch> {
  const child = spawn(SHELL, ['-c', GATE, 'vsf-safety', ...parts.command], {
    detached: true,
    stdio: [stdin, 'inherit', 'inherit', 'pipe'],
    env: { ...parts.env, [LEASE_VARIABLE]: parts.leaseId },
  });
  const failed = failureOf(child);
  const ended = endOf(child);
  const { pid } = child;
  if (pid === undefined) return { ok: false, detail: await failed };
  const word = pipeOf(child, 3);
  const launched: Launched = {
    pgid: pid,
    ended,
    begin: (cap) => word.end(`go ${cap}\n`),
    toFront: () => undefined,
    close: () => letGo(child),
  };
  return { ok: true, launched };
}

async function launchInFront({ command, leaseId, env, clock, onStopped }: LaunchParts): Promise<Launch> {
  const table = createProcessTable({ clock });
  const child = spawn(SHELL, ['-m', '-c', FOREGROUND, 'vsf-safety', GATE, leaseId, ...command], {
    stdio: ['inherit', 'inherit', 'inherit', 'pipe', 'pipe', 'pipe'],
    env,
  });
  const failed = failureOf(child);
  if (child.pid === undefined) return { ok: false, detail: await failed };
  const orders = pipeOf(child, 3);
  const word = pipeOf(child, 5);
  const reports = lines(child.stdio[4] as Readable);
  const shellEnded = endOf(child);
  const first = await withDeadline(clock, START_MS, reports.next());
  const pgid = first === TIMED_OUT ? Number.NaN : Number(first);
  if (!(pgid > 1)) {
    letGo(child);
    return { ok: false, detail: `the shell ${SHELL} did not start a job on this terminal` };
  }
  let isInFront = false;
  const watch = async (): Promise<number> => {
    for (;;) {
      const report = await reports.next();
      // The shell is gone, and with it whoever could tell how the command ends.
      if (report === null) return shellEnded;
      const read = await table.readProcess(pgid);
      // What could not be read in time is taken to be there: the next report tells.
      if (read.ok ? !isLive(read.process) : read.cause === 'not-there') return Number(report);
      isInFront = false;
      onStopped();
    }
  };
  const toFront = (): void => {
    if (isInFront) return;
    isInFront = true;
    orders.write('front\n');
  };
  const launched: Launched = {
    pgid,
    ended: watch(),
    begin: (cap) => {
      toFront();
      word.end(`go ${cap}\n`);
    },
    toFront,
    close: () => letGo(child),
  };
  return { ok: true, launched };
}

const failureOf = (child: ChildProcess): Promise<string> =>
  new Promise((resolve) => child.once('error', (error) => resolve(error.message)));

function endOf(child: ChildProcess): Promise<number> {
  return new Promise((resolve) =>
    child.once('exit', (code, signal) => resolve(code ?? exitCodeOf(signal ?? 'SIGKILL'))),
  );
}

const NUMBERS: Readonly<Partial<Record<NodeJS.Signals, number>>> = constants.signals;

/** As shells tell of a command that a signal ended. */
export const exitCodeOf = (signal: NodeJS.Signals): number => 128 + (NUMBERS[signal] ?? 0);

/** A pipe to the child; what cannot be written any more because the other end is gone is known by its end. */
function pipeOf(child: ChildProcess, fd: number): Writable {
  const pipe = child.stdio[fd] as Writable;
  return pipe.on('error', () => undefined);
}

function letGo(child: ChildProcess): void {
  for (const pipe of child.stdio.slice(3)) pipe?.destroy();
  child.unref();
}

/** Line after line, `null` at the end. */
function lines(stream: Readable): { next(): Promise<string | null> } {
  const reader = createInterface({ input: stream.on('error', () => undefined) })[Symbol.asyncIterator]();
  return {
    next: async () => {
      const { done, value } = await reader.next();
      return done ? null : value;
    },
  };
}
