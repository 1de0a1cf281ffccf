// Reads what Linux tells of processes under /proc: who leads and belongs to a group, since when, and which lease a
// process was started under. Bounded and single-flight, because a wedged GPU driver can hold a process' memory map lock,
// and then reading its `environ` hangs for as long as the driver does (the reason why `ps` freezes on such machines).
// Whose group it is and whether it may be stopped is process-group.ts.
import { open, readdir } from 'node:fs/promises';
import { type Clock, TIMED_OUT, withDeadline } from '../clock.ts';

/** The environment variable that marks a workload's processes with their lease's id. */
export const LEASE_VARIABLE = 'VSF_LEASE';

/** One line of /proc/PID/stat, as far as it is needed. */
export interface ProcessStat {
  readonly pid: number;
  readonly ppid: number;
  readonly pgid: number;
  readonly sid: number;
  /** `R` `S` `D` `T` `t` `I`, or `Z` `X` for what is dead. */
  readonly state: string;
  readonly threads: number;
  /** Start time in clock ticks since boot (field 22); with the pid it names one process for good. */
  readonly startTicks: number;
}

export interface ReadFailure {
  readonly ok: false;
  /**
   * `hidden`: another user's (EACCES, EPERM) · `overdue`: the kernel did not answer in time; a read of the mark then
   * stays under way and is joined by the next · `unreadable`: anything else.
   */
  readonly cause: 'not-there' | 'hidden' | 'overdue' | 'unreadable';
  readonly detail: string;
}

export type ProcessRead = { readonly ok: true; readonly process: ProcessStat } | ReadFailure;
export type MembersRead = { readonly ok: true; readonly members: readonly ProcessStat[] } | ReadFailure;
export type MarkRead =
  | { readonly ok: true; readonly leaseId: string }
  | { readonly ok: false; readonly cause: ReadFailure['cause'] | 'unmarked'; readonly detail: string };

export interface MarkedProcess {
  readonly process: ProcessStat;
  readonly leaseId: string;
}

export type MarkedRead =
  | {
      readonly ok: true;
      readonly marked: readonly MarkedProcess[];
      /** Those whose mark the kernel did not tell, each with why: they may bear one. */
      readonly unread: readonly { readonly process: ProcessStat; readonly detail: string }[];
    }
  | ReadFailure;

export interface ProcessTable {
  /** One process, dead ones (`Z`) too. */
  readProcess(pid: number): Promise<ProcessRead>;
  /** The value of `VSF_LEASE` in the environment that `pid` was started with. */
  readMark(pid: number): Promise<MarkRead>;
  /** Every process of one group, dead ones too. Calls at the same time share one pass over /proc. */
  membersOf(pgid: number): Promise<MembersRead>;
  /**
   * Every live process that bears a lease's mark and started at `sinceTicks` (clock ticks since boot) or later. What is
   * another user's is left out: its environment is not ours to read, nor it ours to signal. Takes 4.5 s at most.
   */
  markedSince(sinceTicks: number): Promise<MarkedRead>;
}

/** A line of /proc/PID/stat is some 300 characters; comm is 64 at most. */
const STAT_LIMIT_BYTES = 4096;
/** execve refuses arguments and environment over 3/4 of the 8 MiB default stack together, whatever the ulimit. */
const ENVIRON_LIMIT_BYTES = 6 * 1024 * 1024;
const CHUNK_BYTES = 64 * 1024;
/** A healthy read takes well under 1 ms; on a machine that is loaded on purpose, with node itself still starting, over 500. */
const READ_TIMEOUT_MS = 1500;
const SCAN_TIMEOUT_MS = 2500;
/** Files open at once during a pass over /proc. */
const SCAN_WIDTH = 8;
/** Marks read at once: of libuv's four threads two stay free for the journal and the sensors. */
const MARKS_WIDTH = 2;
/** For a pass over the marks of all that are young enough: some 10 ms, and 200 were seen on a machine loaded sixteenfold. */
const MARKS_TIMEOUT_MS = 2000;
/** Each overdue read keeps one of libuv's four threads; the journal and the sensors need the others. */
const OVERDUE_LIMIT = 2;

/**
 * The processes of this machine.
 *
 * @param options.root where procfs is; another folder in tests
 */
export function createProcessTable(options: { readonly clock: Clock; readonly root?: string }): ProcessTable {
  const { clock, root = '/proc' } = options;
  const environReads = new Map<number, Promise<MarkRead>>();
  const overdue = new Set<number>();
  let scan: Promise<MembersRead> | undefined;

  const tooLate = (path: string, timeoutMs: number): ReadFailure => ({
    ok: false,
    cause: 'overdue',
    detail: `Cannot read ${path}: no answer within ${timeoutMs} ms`,
  });

  async function readStat(pid: number): Promise<ProcessRead> {
    const path = `${root}/${pid}/stat`;
    const text = await readBounded(path, STAT_LIMIT_BYTES);
    if (!text.ok) return text;
    const process = parseStat(text.bytes.toString('latin1'));
    return process
      ? { ok: true, process }
      : { ok: false, cause: 'unreadable', detail: `Cannot read ${path}: not a line of process status` };
  }

  async function readProcess(pid: number): Promise<ProcessRead> {
    const read = await withDeadline(clock, READ_TIMEOUT_MS, readStat(pid));
    return read === TIMED_OUT ? tooLate(`${root}/${pid}/stat`, READ_TIMEOUT_MS) : read;
  }

  async function readMark(pid: number): Promise<MarkRead> {
    const path = `${root}/${pid}/environ`;
    let reading = environReads.get(pid);
    if (!reading) {
      if (overdue.size >= OVERDUE_LIMIT) {
        const detail = `Cannot read ${path}: ${overdue.size} such reads hang, ${OVERDUE_LIMIT} at most may`;
        return { ok: false, cause: 'overdue', detail };
      }
      reading = readEnviron(path).finally(() => {
        environReads.delete(pid);
        overdue.delete(pid);
      });
      environReads.set(pid, reading);
    }
    const mark = await withDeadline(clock, READ_TIMEOUT_MS, reading);
    if (mark !== TIMED_OUT) return mark;
    if (environReads.has(pid)) overdue.add(pid);
    return tooLate(path, READ_TIMEOUT_MS);
  }

  async function readAll(): Promise<MembersRead> {
    let names: string[];
    try {
      names = await readdir(root);
    } catch (error) {
      return failureOf(root, error);
    }
    const pids = names.filter((name) => /^[1-9]\d*$/.test(name)).values();
    const members: ProcessStat[] = [];
    let failure: ReadFailure | undefined;
    const walk = async (): Promise<void> => {
      for (const pid of pids) {
        const read = await readStat(Number(pid));
        if (read.ok) members.push(read.process);
        else if (read.cause === 'unreadable') failure ??= read;
      }
    };
    await Promise.all(Array.from({ length: SCAN_WIDTH }, walk));
    // A process that could not be read might belong to any group: no list is better than a list with a hole. (What
    // hidepid keeps from us is another user's; for that, kill(2) is asked whether the group is empty.)
    // In the order of their numbers, whichever read came back first: signals and reports then keep one order.
    return failure ?? { ok: true, members: members.sort((one, other) => one.pid - other.pid) };
  }

  async function readAllInTime(): Promise<MembersRead> {
    scan ??= readAll().finally(() => {
      scan = undefined;
    });
    const all = await withDeadline(clock, SCAN_TIMEOUT_MS, scan);
    return all === TIMED_OUT ? tooLate(root, SCAN_TIMEOUT_MS) : all;
  }

  async function membersOf(pgid: number): Promise<MembersRead> {
    const all = await readAllInTime();
    return all.ok ? { ok: true, members: all.members.filter((process) => process.pgid === pgid) } : all;
  }

  async function markedSince(sinceTicks: number): Promise<MarkedRead> {
    const all = await readAllInTime();
    if (!all.ok) return all;
    const endMs = clock.now().elapsedMs + MARKS_TIMEOUT_MS;
    const young = all.members.filter((process) => process.startTicks >= sinceTicks && isLive(process));
    const left = young.values();
    const marked: MarkedProcess[] = [];
    const unread: { process: ProcessStat; detail: string }[] = [];
    const walk = async (): Promise<void> => {
      for (const process of left) {
        const leftMs = endMs - clock.now().elapsedMs;
        // A pass goes no further once it is late: the wedged driver that holds one up holds up its like.
        const mark = leftMs > 0 ? await withDeadline(clock, leftMs, readMark(process.pid)) : TIMED_OUT;
        if (mark === TIMED_OUT) {
          const detail = `Cannot read ${root}/${process.pid}/environ: the pass had ${MARKS_TIMEOUT_MS} ms`;
          unread.push({ process, detail });
        } else if (mark.ok) marked.push({ process, leaseId: mark.leaseId });
        else if (mark.cause === 'overdue' || mark.cause === 'unreadable') {
          unread.push({ process, detail: mark.detail });
        }
      }
    };
    await Promise.all(Array.from({ length: MARKS_WIDTH }, walk));
    return { ok: true, marked, unread };
  }

  return { readProcess, readMark, membersOf, markedSince };
}

/**
 * Whether anything of it can still run. A dead main thread shows as `Z` while other threads of the process work on;
 * a process that is wholly dead has one thread or none.
 */
export function isLive(process: ProcessStat): boolean {
  return !['Z', 'X', 'x'].includes(process.state) || process.threads > 1;
}

/**
 * Takes a line of /proc/PID/stat apart; undefined if it is none. The name in parentheses is the program's own choice and
 * may hold spaces, newlines and parentheses, so the fields are counted from the last `)`.
 */
export function parseStat(line: string): ProcessStat | undefined {
  const opening = line.indexOf(' (');
  const closing = line.lastIndexOf(') ');
  if (opening < 0 || closing < opening) return undefined;
  const fields = line.slice(closing + 2).split(' ');
  const field = (number: number): number =>
    /^-?\d+$/.test(fields[number - 3] ?? '') ? Number(fields[number - 3]) : NaN;
  const process = {
    pid: Number(line.slice(0, opening)),
    ppid: field(4),
    pgid: field(5),
    sid: field(6),
    state: fields[0] ?? '',
    threads: field(20),
    startTicks: field(22),
  };
  const { state, ...numbers } = process;
  return /^[A-Za-z]$/.test(state) && Object.values(numbers).every(Number.isSafeInteger) ? process : undefined;
}

async function readEnviron(path: string): Promise<MarkRead> {
  const environ = await readBounded(path, ENVIRON_LIMIT_BYTES);
  if (!environ.ok) return environ;
  const mark = `${LEASE_VARIABLE}=`;
  // getenv() gives the first of two: so do we.
  const entry = environ.bytes
    .toString('latin1')
    .split('\0')
    .find((variable) => variable.startsWith(mark));
  if (entry !== undefined) return { ok: true, leaseId: entry.slice(mark.length) };
  return { ok: false, cause: 'unmarked', detail: `no ${LEASE_VARIABLE} in ${path}` };
}

type BytesRead = { readonly ok: true; readonly bytes: Buffer } | ReadFailure;

async function readBounded(path: string, limitBytes: number): Promise<BytesRead> {
  try {
    const file = await open(path, 'r');
    try {
      const chunks: Buffer[] = [];
      let length = 0;
      while (length <= limitBytes) {
        const { bytesRead, buffer } = await file.read(Buffer.alloc(Math.min(CHUNK_BYTES, limitBytes + 1)));
        if (bytesRead === 0) return { ok: true, bytes: Buffer.concat(chunks) };
        chunks.push(buffer.subarray(0, bytesRead));
        length += bytesRead;
      }
      return { ok: false, cause: 'unreadable', detail: `Cannot read ${path}: longer than ${limitBytes} bytes` };
    } finally {
      await file.close();
    }
  } catch (error) {
    return failureOf(path, error);
  }
}

function failureOf(path: string, error: unknown): ReadFailure {
  const code = (error as NodeJS.ErrnoException).code ?? String(error);
  const detail = `Cannot read ${path}: ${code}`;
  // ESRCH: the process ended between open and read.
  if (code === 'ENOENT' || code === 'ESRCH') return { ok: false, cause: 'not-there', detail };
  return { ok: false, cause: code === 'EACCES' || code === 'EPERM' ? 'hidden' : 'unreadable', detail };
}
