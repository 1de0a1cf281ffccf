// Whose are the processes on this machine's GPUs? Each is a lease's by its process group or by the mark in its
// environment, and nobody's else. Only shown: load without a lease is worth knowing of, but who started it has agreed to
// nothing, so nothing here is ever signalled. Who is on a card is told by whoever can ask the driver (`readApps`).
import { type Clock, TIMED_OUT, withDeadline } from '../clock.ts';
import type { GpuProcess } from '../domain/lease.ts';
import type { StopTarget } from '../domain/stop.ts';
import type { ProcessTable } from './process-table.ts';

/** A process on a card, as the driver names it. */
export type AppOnGpu = Omit<GpuProcess, 'node' | 'leaseId'>;

export class GpuProcesses {
  readonly #options: Options;
  #isLooking = false;
  /** By the last look; empty where the driver did not tell. */
  list: readonly GpuProcess[] = [];

  constructor(options: Options) {
    this.#options = options;
  }

  /** Looks anew; ends at `deadlineMs` (monotonic), with the list as it was where that came too soon. Never rejects. */
  async look(deadlineMs: number): Promise<void> {
    // A look that hangs in the kernel goes on behind its deadline, and is not joined by a second one.
    if (this.#isLooking) return;
    this.#isLooking = true;
    const { clock } = this.#options;
    const look = this.#find(deadlineMs).finally(() => {
      this.#isLooking = false;
    });
    const found = await withDeadline(clock, deadlineMs - clock.now().elapsedMs, look).catch(() => []);
    if (found !== TIMED_OUT) this.list = found;
  }

  async #find(deadlineMs: number): Promise<GpuProcess[]> {
    const { node, readApps, clock } = this.#options;
    const found: GpuProcess[] = [];
    const owners = new Map<number, string | null>();
    for (const app of await readApps(deadlineMs)) {
      if (clock.now().elapsedMs >= deadlineMs) break;
      const leaseId = owners.has(app.pid) ? (owners.get(app.pid) ?? null) : await this.#ownerOf(app.pid);
      owners.set(app.pid, leaseId);
      found.push({ ...app, node, leaseId });
    }
    return found;
  }

  async #ownerOf(pid: number): Promise<string | null> {
    const { table, targets } = this.#options;
    const read = await table.readProcess(pid);
    if (!read.ok) return null;
    const { pgid, startTicks } = read.process;
    const target = targets().find(
      ({ processGroup }) => processGroup?.pgid === pgid && startTicks >= processGroup.startTicks,
    );
    if (target) return target.leaseId;
    const mark = await table.readMark(pid);
    return mark.ok ? mark.leaseId.toLowerCase() : null;
  }
}

interface Options {
  /** This machine's name. */
  readonly node: string;
  readonly clock: Clock;
  readonly table: ProcessTable;
  /** The processes on the GPUs now; empty where that cannot be told. Ends by itself at the deadline. */
  readonly readApps: (deadlineMs: number) => Promise<readonly AppOnGpu[]>;
  /** The live leases. */
  readonly targets: () => readonly StopTarget[];
}
