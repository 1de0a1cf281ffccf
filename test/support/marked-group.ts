// Real process groups for tests of the local actuator: each is a detached bash with a lease's mark in its environment,
// leading its own group, and every group is killed at the end of its test. Nothing else is ever signalled from here.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { createProcessTable, isLive, type ProcessTable } from '../../src/actuators/process-table.ts';
import { systemClock } from '../../src/clock.ts';
import type { ProcessGroup } from '../../src/domain/stop.ts';

export const realTable: ProcessTable = createProcessTable({ clock: systemClock });

export interface MarkedGroup {
  readonly child: ChildProcess;
  readonly group: ProcessGroup;
  /** What the script printed on its first line. */
  readonly line: string;
  /** The pids of the group that still run. */
  live(): Promise<number[]>;
}

/**
 * Starts `script` in a process group of its own and waits for its first line of output.
 *
 * @param leaseId the mark; `null` for a process without one
 */
export async function startGroup(
  t: { teardown(end: () => void): void },
  leaseId: string | null,
  script: string,
): Promise<MarkedGroup> {
  const env = { PATH: '/usr/local/bin:/usr/bin:/bin', ...(leaseId === null ? {} : { VSF_LEASE: leaseId }) };
  // Without --norc, bash takes a socket for standard input, as Node gives it, for a remote shell and reads ~/.bashrc.
  const child = spawn('bash', ['--norc', '-c', script], { detached: true, stdio: ['pipe', 'pipe', 'ignore'], env });
  const { pid } = child;
  if (pid === undefined || pid <= 1) throw new Error('Cannot start bash');
  t.teardown(() => {
    try {
      process.kill(-pid, 'SIGKILL');
    } catch {
      // Gone already, as most tests want it.
    }
    child.stdin?.destroy();
    child.stdout?.destroy();
  });
  const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string];
  const leader = await realTable.readProcess(pid);
  if (!leader.ok) throw new Error(leader.detail);
  const live = async (): Promise<number[]> => {
    const list = await realTable.membersOf(pid);
    if (!list.ok) throw new Error(list.detail);
    return list.members.filter(isLive).map((member) => member.pid);
  };
  return { child, group: { pgid: pid, startTicks: leader.process.startTicks }, line, live };
}
