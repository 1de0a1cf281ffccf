// Is this process group the lease's, and does anything of it still run? The answers decide whom a signal may hit, so
// they lean on what cannot be faked by chance: a process is one pid with one start time, a lease's processes bear
// VSF_LEASE=<lease id> in their environment, and Linux gives no process a number that a group with members still bears.
// Sends nothing itself, except signal 0, which asks; local-processes.ts signals.
import type { ProcessGroup } from '../domain/stop.ts';
import { isLive, LEASE_VARIABLE, type MarkRead, type ProcessStat, type ProcessTable } from './process-table.ts';

/** `process.kill`, or a test's recorder: throws an error with `code` ESRCH, EPERM … */
export type Kill = (pid: number, signal: NodeJS.Signals | 0) => void;

export type ProcessGroupRefusal =
  | 'process-group-invalid'
  | 'process-group-own'
  | 'process-group-not-there'
  | 'process-group-not-leader'
  | 'process-group-unmarked'
  | 'process-group-unreadable';

export type ProcessGroupVerdict =
  | { readonly ok: true; readonly group: ProcessGroup }
  | { readonly ok: false; readonly code: ProcessGroupRefusal; readonly detail: string };

/** What one look at a group found. */
export type GroupSighting =
  /** Nothing of it runs any more. */
  | { readonly kind: 'gone' }
  /** Its number now belongs to a process with another start time, so the recorded group is gone. */
  | { readonly kind: 'reused'; readonly detail: string }
  /** The group is the lease's: signals go to all of it. */
  | { readonly kind: 'whole'; readonly leader?: ProcessStat }
  /** The leader is gone; of the rest these bear the mark, and only they may be signalled. */
  | { readonly kind: 'members'; readonly pids: readonly number[] }
  /** It runs, and nothing proves that it is the lease's. */
  | { readonly kind: 'not-ours'; readonly detail: string }
  /** It could not be found out. */
  | { readonly kind: 'unclear'; readonly detail: string };

/** 0 and 1 (and anything that `kill` would read as "all processes") are never a group of ours. */
export const isGroupNumber = (pgid: number): boolean => Number.isSafeInteger(pgid) && pgid > 1;

/**
 * Pins a process group at the grant of a lease: its leader must run, lead it, and bear the lease's mark. Records the
 * leader's start time.
 * The service's own group, and its session leader's, are never taken.
 */
export async function verifyProcessGroup(asked: {
  readonly pgid: number;
  readonly leaseId: string;
  readonly table: ProcessTable;
}): Promise<ProcessGroupVerdict> {
  const { pgid, leaseId, table } = asked;
  const refuse = (code: ProcessGroupRefusal, why: string): ProcessGroupVerdict => ({
    ok: false,
    code,
    detail: `Cannot take process group ${pgid} for lease "${leaseId}": ${why}`,
  });
  if (!isGroupNumber(pgid)) return refuse('process-group-invalid', 'it must be a whole number above 1');
  const own = await table.readProcess(process.pid);
  if (!own.ok) return refuse('process-group-unreadable', `which group this service is in is not known: ${own.detail}`);
  if ([process.pid, own.process.pgid, own.process.sid].includes(pgid)) {
    return refuse('process-group-own', `this service runs in group ${own.process.pgid} of session ${own.process.sid}`);
  }
  const leader = await table.readProcess(pgid);
  if (!leader.ok && leader.cause !== 'not-there') return refuse('process-group-unreadable', leader.detail);
  if (!leader.ok || !isLive(leader.process)) {
    return refuse('process-group-not-there', `its leader, process ${pgid}, does not run on this machine`);
  }
  if (leader.process.pgid !== pgid) {
    return refuse('process-group-not-leader', `process ${pgid} belongs to group ${leader.process.pgid}`);
  }
  const mark = await table.readMark(pgid);
  if (!mark.ok && mark.cause !== 'unmarked') return refuse('process-group-unreadable', mark.detail);
  if (!bears(mark, leaseId)) {
    return refuse('process-group-unmarked', `${markOf(mark)}, it must run with ${LEASE_VARIABLE}=${leaseId}`);
  }
  return { ok: true, group: { pgid, startTicks: leader.process.startTicks } };
}

/**
 * Looks once at a pinned group.
 *
 * @param known it was recognised as the lease's at an earlier look and was there at every look since, so that its
 *   number has not changed hands: the mark is not asked for again, and the leader's death changes nothing
 */
export async function sightGroup(asked: {
  readonly group: ProcessGroup;
  readonly leaseId: string;
  readonly known: boolean;
  readonly table: ProcessTable;
  readonly kill: Kill;
}): Promise<GroupSighting> {
  const { group, leaseId, known, table } = asked;
  const { pgid, startTicks } = group;
  const leader = await table.readProcess(pgid);
  if (!leader.ok && leader.cause !== 'not-there') return { kind: 'unclear', detail: leader.detail };
  if (leader.ok && leader.process.startTicks !== startTicks) {
    const { startTicks: foreignTicks } = leader.process;
    const detail = `process ${pgid} started at tick ${foreignTicks}, the lease's at tick ${startTicks}: the number was reused`;
    return { kind: 'reused', detail };
  }
  if (leader.ok && isLive(leader.process) && leader.process.pgid === pgid) {
    if (known) return { kind: 'whole', leader: leader.process };
    const mark = await table.readMark(pgid);
    // A wedged driver makes this read hang. The process is the very one that bore the mark at the grant, and it is what
    // a stop is for; waiting for the driver would leave the group's other processes at work.
    if (bears(mark, leaseId) || (!mark.ok && mark.cause === 'overdue'))
      return { kind: 'whole', leader: leader.process };
    if (mark.ok || mark.cause === 'unmarked') return { kind: 'not-ours', detail: `leader ${pgid}: ${markOf(mark)}` };
  }
  return await sightMembers(asked, known);
}

/** The group without its leader, or with one whose mark may not be read: each member speaks for itself. */
async function sightMembers(
  { group: { pgid }, leaseId, table, kill }: Parameters<typeof sightGroup>[0],
  known: boolean,
): Promise<GroupSighting> {
  // The kernel's own answer is cheaper than a pass over /proc, and sees what another user's hidepid mount hides.
  if (isEmpty(pgid, kill)) return { kind: 'gone' };
  const list = await table.membersOf(pgid);
  if (!list.ok) return { kind: 'unclear', detail: list.detail };
  const live = list.members.filter(isLive);
  if (live.length === 0) {
    // Zombies only: killed, and their parent has not asked for them yet.
    if (list.members.length > 0 || isEmpty(pgid, kill)) return { kind: 'gone' };
    return { kind: 'unclear', detail: `process group ${pgid} has members that /proc does not show to this service` };
  }
  if (known) return { kind: 'whole' };
  const marked: number[] = [];
  const unmarked: number[] = [];
  let unreadable: string | undefined;
  for (const { pid } of live) {
    const mark = await table.readMark(pid);
    if (bears(mark, leaseId)) marked.push(pid);
    else if (mark.ok || mark.cause === 'unmarked') unmarked.push(pid);
    else if (mark.cause !== 'not-there') unreadable ??= mark.detail;
  }
  if (marked.length > 0) return { kind: 'members', pids: marked };
  if (unreadable !== undefined) return { kind: 'unclear', detail: unreadable };
  if (unmarked.length > 0) {
    const detail = `leader ${pgid} is gone; ${unmarked.length} live members, first ${unmarked[0]}, without ${LEASE_VARIABLE}=${leaseId}`;
    return { kind: 'not-ours', detail };
  }
  // All of them ended while they were read.
  return { kind: 'gone' };
}

/** Whether the kernel knows no process of this group, not even a zombie. Throws if asked about 0, 1 or less. */
function isEmpty(pgid: number, kill: Kill): boolean {
  if (!isGroupNumber(pgid)) throw new RangeError(`Cannot ask about process group ${pgid}: it must be above 1`);
  try {
    kill(-pgid, 0);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH';
  }
}

/** A UUID is the same in capitals: leases go by its small letters, a workload's environment as somebody typed it. */
const bears = (mark: MarkRead, leaseId: string): boolean =>
  mark.ok && mark.leaseId.toLowerCase() === leaseId.toLowerCase();

/** For a message. Another lease's id is its holder's to use, so it is not told. */
const markOf = (mark: MarkRead): string => (mark.ok ? 'it runs under another lease' : mark.detail);
