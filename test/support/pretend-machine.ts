// A process table in memory with a kill to match, for what no test can make real processes do: sit in state D, belong to
// another user, hang when they are read. Signals do nothing here but what `onSignal` says.
import type { ProcessStat, ProcessTable, ReadFailure } from '../../src/actuators/process-table.ts';

interface Pretended {
  readonly pid: number;
  readonly pgid: number;
  readonly state?: string;
  readonly startTicks?: number;
  /** The lease's id; `null` for none; `hidden` and `overdue` for a mark that cannot be read. */
  readonly mark: string | null;
}

export class PretendMachine {
  readonly #processes = new Map<number, Required<Pretended>>();
  /** Every signal that was sent, as `SIGTERM -50`; signal 0 only asks and is not among them. */
  readonly sent: string[] = [];
  /** Set to make stat unreadable, as when the process is out of file descriptors. */
  unreadable = false;
  onSignal: (pid: number, signal: NodeJS.Signals) => void = () => undefined;

  constructor() {
    this.add({ pid: process.pid, pgid: process.pid, mark: null });
  }

  add(process: Pretended): void {
    this.#processes.set(process.pid, { state: 'S', startTicks: 100, ...process });
  }

  has(pid: number): boolean {
    return this.#processes.has(pid);
  }

  remove(...pids: number[]): void {
    for (const pid of pids) this.#processes.delete(pid);
  }

  /** It is started anew: nothing of before runs. */
  reboot(): void {
    for (const pid of this.#processes.keys()) if (pid !== process.pid) this.#processes.delete(pid);
  }

  readonly kill = (pid: number, signal: NodeJS.Signals | 0): void => {
    const members = [...this.#processes.values()].filter((process) => process.pgid === -pid || process.pid === pid);
    if (members.length === 0) throw Object.assign(new Error('kill ESRCH'), { code: 'ESRCH' });
    if (signal === 0) return;
    this.sent.push(`${signal} ${pid}`);
    this.onSignal(pid, signal);
  };

  readonly table: ProcessTable = {
    readProcess: async (pid) => {
      const found = this.#processes.get(pid);
      if (this.unreadable) return failure('unreadable', 'Cannot read stat: EMFILE');
      return found ? { ok: true, process: statOf(found) } : failure('not-there', 'Cannot read stat: ENOENT');
    },
    readMark: async (pid) => {
      const mark = this.#processes.get(pid)?.mark;
      if (mark === undefined) return failure('not-there', 'Cannot read environ: ENOENT');
      if (mark === null) return { ok: false, cause: 'unmarked', detail: 'no VSF_LEASE in environ' };
      return mark === 'hidden' || mark === 'overdue'
        ? failure(mark, 'Cannot read environ')
        : { ok: true, leaseId: mark };
    },
    membersOf: async (pgid) => {
      if (this.unreadable) return failure('unreadable', 'Cannot read stat: EMFILE');
      return { ok: true, members: [...this.#processes.values()].map(statOf).filter((stat) => stat.pgid === pgid) };
    },
    markedSince: async (sinceTicks) => {
      if (this.unreadable) return failure('unreadable', 'Cannot read stat: EMFILE');
      const young = [...this.#processes.values()].filter(({ startTicks }) => startTicks >= sinceTicks);
      const hung = young.filter(({ mark }) => mark === 'overdue');
      const unread = hung.map((found) => ({ process: statOf(found), detail: 'Cannot read environ' }));
      const marked = young.flatMap((found) =>
        isMark(found.mark) ? { process: statOf(found), leaseId: found.mark } : [],
      );
      return { ok: true, marked, unread };
    },
  };
}

const isMark = (mark: string | null): mark is string => mark !== null && mark !== 'hidden' && mark !== 'overdue';

const statOf = ({ pid, pgid, state, startTicks }: Required<Pretended>): ProcessStat => ({
  pid,
  ppid: 1,
  pgid,
  sid: pgid,
  state,
  threads: 1,
  startTicks,
});

const failure = (cause: ReadFailure['cause'], detail: string): ReadFailure => ({ ok: false, cause, detail });
