// What has left its lease's process group is found by its mark, and by nothing else.
import { once } from 'node:events';
import t from 'tap';
import type { StopProgress } from '../../src/actuators/actuator.ts';
import { createLocalProcesses } from '../../src/actuators/local-processes.ts';
import type { ProcessTable } from '../../src/actuators/process-table.ts';
import { systemClock } from '../../src/clock.ts';
import type { StopOrder, StopTarget } from '../../src/domain/stop.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { type MarkedGroup, realTable, startGroup } from '../support/marked-group.ts';
import { PretendMachine } from '../support/pretend-machine.ts';

const LEASE = '0b8f8c1e-6d1f-4a3b-8a0e-2f1f6f0c9d77';
const OTHER = '1c9f8c1e-6d1f-4a3b-8a0e-2f1f6f0c9d88';
const GRACE_MS = 300;

const orderFor = (...targets: StopTarget[]): StopOrder => ({
  orderId: 'trip-1',
  scope: { kind: 'all' },
  what: 'everything',
  targets,
  reason: 'test',
});

/** A group whose script prints the pids of what it let out of the group; each is killed at the end of the test. */
async function startWithEscaped(t: Tap, script: string, mark = LEASE): Promise<MarkedGroup & { pids: number[] }> {
  const started = await startGroup(t, mark, script);
  const pids = started.line.split(' ').map(Number);
  t.teardown(() => {
    for (const pid of pids) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // Gone already, as most tests want it.
      }
    }
  });
  // The pid is that of the shell's child before it has become setsid.
  for (const pid of pids) {
    for (let tries = 0; tries < 100; tries += 1) {
      const read = await realTable.readProcess(pid);
      if (!read.ok || read.process.pgid === pid) break;
      await systemClock.sleep(20);
    }
  }
  return { ...started, pids };
}
interface Tap {
  teardown(end: () => void): void;
}

const isRunning = async (pid: number): Promise<boolean> => {
  const read = await realTable.readProcess(pid);
  return read.ok && read.process.state !== 'Z';
};

/** Stops until everything is verified, `forMs` at most. */
async function stopFor(order: StopOrder, forMs: number): Promise<{ sent: string[]; reports: StopProgress[] }> {
  const sent: string[] = [];
  const actuator = createLocalProcesses({
    node: 'bizon1',
    clock: systemClock,
    table: realTable,
    kill: (pid, signal) => {
      if (signal !== 0) sent.push(`${signal} ${pid}`);
      process.kill(pid, signal);
    },
    targets: () => [],
    termGraceMs: GRACE_MS,
  });
  const reports: StopProgress[] = [];
  const done = new AbortController();
  const withdrawal = new AbortController();
  const report = (progress: StopProgress): void => {
    reports.push(progress);
    if (progress.verified) done.abort();
  };
  const stopping = actuator.stop(order, report, withdrawal.signal);
  await systemClock.sleep(forMs, done.signal);
  withdrawal.abort();
  await stopping;
  return { sent, reports };
}

t.test('stop() ends what left the group by setsid, as an entry of its own', async (t) => {
  const { group, pids, live } = await startWithEscaped(t, 'setsid sleep 60 & echo $!; exec sleep 60');
  const [pid = 0] = pids;
  t.notOk((await live()).includes(pid), 'it is in no group of the lease');
  const { sent, reports } = await stopFor(orderFor({ leaseId: LEASE, workload: 'train-7', processGroup: group }), 5000);
  t.match(reports.at(-1), {
    verified: true,
    entries: [
      { kind: 'process-group', state: 'stopped', verified: true },
      {
        actuator: 'local-processes',
        kind: 'process',
        name: `pid ${pid} (train-7)`,
        node: 'bizon1',
        leaseId: LEASE,
        state: 'stopped',
        how: 'SIGTERM',
        prior: 'state S',
        verified: true,
        detail: `in process group ${pid}, outside of the lease's ${group.pgid}`,
      },
    ],
  });
  t.ok(sent.includes(`SIGTERM ${pid}`) && sent.includes(`SIGCONT ${pid}`));
  t.notOk(sent.includes(`SIGTERM -${pid}`), 'a group of its own is nobody else’s to signal as a whole');
  t.notOk(await isRunning(pid));
});

t.test('stop() kills an escaped process that ignores SIGTERM, its own children too, after the grace', async (t) => {
  const stubborn = `setsid bash --norc -c 'trap "" TERM; sleep 60 & while :; do sleep 1; done' & echo $!; exec sleep 60`;
  const { group, pids } = await startWithEscaped(t, stubborn);
  await systemClock.sleep(200);
  const { reports } = await stopFor(orderFor({ leaseId: LEASE, workload: 'train-7', processGroup: group }), 8000);
  t.equal(reports.at(-1)?.verified, true);
  const escaped = reports.at(-1)?.entries.filter(({ kind }) => kind === 'process') ?? [];
  t.ok(escaped.length >= 2, `the shell and its sleeps: ${escaped.length}`);
  t.match(
    escaped.find(({ name }) => name.startsWith(`pid ${pids[0]} `)),
    { state: 'stopped', how: 'SIGTERM, SIGKILL' },
  );
  const left = await realTable.markedSince(group.startTicks);
  t.same(left.ok && left.marked.filter(({ leaseId }) => leaseId === LEASE), []);
});

t.test('stop() finds an escaped process whose group ended long ago', async (t) => {
  const { group, pids, child } = await startWithEscaped(t, 'setsid sleep 60 & echo $!; read');
  child.stdin?.end();
  await once(child, 'exit');
  const { reports } = await stopFor(orderFor({ leaseId: LEASE, workload: 'train-7', processGroup: group }), 5000);
  t.match(reports.at(-1), { verified: true, entries: [{ how: '' }, { kind: 'process', how: 'SIGTERM' }] });
  t.notOk(await isRunning(pids[0] ?? 0));
});

t.test('stop() touches none without the mark, of another lease, or that was there before the leader', async (t) => {
  const before = await startWithEscaped(t, 'setsid sleep 60 & echo $!; exec sleep 60');
  await systemClock.sleep(50);
  const stranger = await startWithEscaped(t, 'setsid sleep 60 & echo $!; exec sleep 60', OTHER);
  const unmarked = 'env -u VSF_LEASE setsid sleep 60 & echo $!; exec sleep 60';
  const { group, pids } = await startWithEscaped(t, unmarked);
  const order = orderFor({ leaseId: LEASE, workload: 'train-7', processGroup: group });
  const { sent, reports } = await stopFor(order, 5000);
  t.match(reports.at(-1), { verified: true });
  t.equal(reports.at(-1)?.entries.length, 1);
  t.same(sent, [`SIGTERM -${group.pgid}`, `SIGCONT -${group.pgid}`]);
  for (const pid of [...pids, ...before.pids, ...stranger.pids]) t.ok(await isRunning(pid), String(pid));
});

/** A stop on a pretended machine, under a clock that only the test moves. Group 50 is the lease's. */
function pretendStop(machine: PretendMachine, table: ProcessTable = machine.table) {
  const clock = new ManualClock();
  const { kill } = machine;
  const actuator = createLocalProcesses({ node: 'bizon1', clock, table, kill, targets: () => [] });
  const reports: StopProgress[] = [];
  const withdrawal = new AbortController();
  const order = orderFor({ leaseId: LEASE, workload: 'w', processGroup: { pgid: 50, startTicks: 100 } });
  const stopping = actuator.stop(order, (progress) => reports.push(progress), withdrawal.signal);
  const withdraw = async (): Promise<void> => {
    withdrawal.abort();
    await stopping;
  };
  return { clock, reports, withdraw };
}

t.test(
  'stop() never signals init, itself, its group, its session or its parent, whatever mark they bear',
  async (t) => {
    const machine = new PretendMachine();
    machine.add({ pid: process.pid, pgid: process.pid, mark: LEASE });
    machine.add({ pid: 90, pgid: process.pid, mark: LEASE });
    machine.add({ pid: 1, pgid: 1, mark: LEASE });
    const { clock, reports, withdraw } = pretendStop(machine);
    await clock.advance(10_000);
    t.same(machine.sent, []);
    t.match(reports.at(-1), { verified: true });
    t.equal(reports.at(-1)?.entries.length, 1);
    await withdraw();
  },
);

t.test('stop() verifies nothing before a look that began after the group was gone', async (t) => {
  const machine = new PretendMachine();
  machine.add({ pid: 50, pgid: 50, mark: LEASE });
  // Told to stop, the leader lets a child out of the group; that one goes only by SIGKILL.
  machine.onSignal = (pid, signal) => {
    if (pid === -50 && signal === 'SIGTERM') {
      machine.remove(50);
      machine.add({ pid: 60, pgid: 60, startTicks: 200, mark: LEASE.toUpperCase() });
    }
    if (pid === 60 && signal === 'SIGKILL') machine.remove(60);
  };
  const { clock, reports, withdraw } = pretendStop(machine);
  await clock.advance(2000);
  t.notOk(reports.some(({ verified }) => verified));
  t.match(reports.at(-1)?.entries, [{ verified: true }, { name: 'pid 60 (w)', state: 'stopping', how: 'SIGTERM' }]);
  await clock.advance(2000);
  t.match(reports.at(-1), { verified: true, entries: [{}, { state: 'stopped', how: 'SIGTERM, SIGKILL' }] });
  t.equal(reports.filter(({ verified }) => verified).length, 1, 'told once');

  machine.add({ pid: 61, pgid: 61, startTicks: 900, mark: LEASE });
  machine.onSignal = (pid) => machine.remove(pid);
  await clock.advance(60_000);
  t.same(machine.sent.slice(-1), ['SIGKILL 61'], 'what comes back gets no grace');
  t.match(reports.at(-1), { verified: true, entries: [{}, {}, { name: 'pid 61 (w)', state: 'stopped' }] });
  await withdraw();
  machine.add({ pid: 62, pgid: 62, startTicks: 950, mark: LEASE });
  await clock.advance(60_000);
  t.same(machine.sent.slice(-1), ['SIGKILL 61'], 'nothing after the order is withdrawn');
});

t.test('stop() does not signal a number that changed hands between the look and the signal', async (t) => {
  const machine = new PretendMachine();
  machine.add({ pid: 60, pgid: 60, startTicks: 200, mark: LEASE });
  const table: ProcessTable = {
    ...machine.table,
    readProcess: async (pid) => {
      const read = await machine.table.readProcess(pid);
      return pid === 60 && read.ok ? { ok: true, process: { ...read.process, startTicks: 777 } } : read;
    },
  };
  const { clock, reports, withdraw } = pretendStop(machine, table);
  await clock.advance(10_000);
  t.same(machine.sent, []);
  t.match(reports.at(-1)?.entries[1], { name: 'pid 60 (w)', state: 'stopped', how: '' });
  await withdraw();
});

t.test('stop() keeps after one that lost its mark by exec once it was seen with it', async (t) => {
  const machine = new PretendMachine();
  machine.add({ pid: 60, pgid: 60, startTicks: 200, mark: LEASE });
  const { clock, withdraw } = pretendStop(machine);
  await clock.advance(100);
  machine.add({ pid: 60, pgid: 60, startTicks: 200, mark: null });
  await clock.advance(3500);
  t.ok(machine.sent.includes('SIGKILL 60'));
  await withdraw();
});

t.test('stop() verifies nothing while a mark cannot be read, and says whose', async (t) => {
  const machine = new PretendMachine();
  machine.add({ pid: 60, pgid: 60, startTicks: 200, mark: 'overdue', state: 'D' });
  const { clock, reports, withdraw } = pretendStop(machine);
  await clock.advance(60_000);
  t.match(reports.at(-1), {
    verified: false,
    entries: [{ verified: true }, { kind: 'process', state: 'failed', detail: 'Cannot read environ' }],
  });
  t.ok(reports.length <= 4, `told at changes only: ${reports.length}`);
  machine.remove(60);
  await clock.advance(5000);
  t.match(reports.at(-1), { verified: true });
  t.equal(reports.at(-1)?.entries.length, 1);
  await withdraw();
});

t.test('stop() tells of an escaped process that it may not signal, and goes on trying', async (t) => {
  const machine = new PretendMachine();
  machine.add({ pid: 60, pgid: 60, startTicks: 200, mark: LEASE });
  const clock = new ManualClock();
  const kill = (pid: number, signal: NodeJS.Signals | 0): void => {
    if (pid === 60) throw Object.assign(new Error('kill EPERM'), { code: 'EPERM' });
    machine.kill(pid, signal);
  };
  const actuator = createLocalProcesses({ node: 'bizon1', clock, table: machine.table, kill, targets: () => [] });
  const reports: StopProgress[] = [];
  const withdrawal = new AbortController();
  const order = orderFor({ leaseId: LEASE, workload: 'w', processGroup: { pgid: 50, startTicks: 100 } });
  const stopping = actuator.stop(order, (progress) => reports.push(progress), withdrawal.signal);
  await clock.advance(4000);
  t.match(reports.at(-1), {
    verified: false,
    entries: [{}, { state: 'failed', how: '', detail: 'Cannot send SIGKILL to process 60: EPERM' }],
  });
  const states = new Set(reports.flatMap(({ entries }) => entries.slice(1).map(({ state }) => state)));
  t.notOk(states.has('stopping'), 'not even between its two signals');
  withdrawal.abort();
  await stopping;
});
