import { once } from 'node:events';
import t from 'tap';
import type { Actuator, StopProgress } from '../../src/actuators/actuator.ts';
import { createLocalProcesses } from '../../src/actuators/local-processes.ts';
import type { Kill } from '../../src/actuators/process-group.ts';
import { systemClock } from '../../src/clock.ts';
import type { ProcessGroup, StopOrder, StopTarget } from '../../src/domain/stop.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { realTable, startGroup } from '../support/marked-group.ts';
import { PretendMachine } from '../support/pretend-machine.ts';

const LEASE = '0b8f8c1e-6d1f-4a3b-8a0e-2f1f6f0c9d77';
const GRACE_MS = 300;

const target = (processGroup: ProcessGroup, leaseId = LEASE): StopTarget => ({
  leaseId,
  workload: 'train-7',
  processGroup,
});
const orderFor = (...targets: StopTarget[]): StopOrder => ({
  orderId: 'trip-1',
  scope: { kind: 'all' },
  what: 'everything',
  targets,
  reason: 'test',
});

/** An actuator for real processes; `sent` has every signal but 0, which only asks. */
function realActuator(kill: Kill = process.kill.bind(process)) {
  const sent: string[] = [];
  const recording: Kill = (pid, signal) => {
    if (signal !== 0) sent.push(`${signal} ${pid}`);
    kill(pid, signal);
  };
  const actuator = createLocalProcesses({
    node: 'bizon1',
    clock: systemClock,
    table: realTable,
    kill: recording,
    targets: () => [],
    termGraceMs: GRACE_MS,
  });
  return { actuator, sent };
}

/** Runs a stop until `isDone`, 5 s at most, then withdraws the order. Gives every progress that was reported. */
async function stopUntil(actuator: Actuator, order: StopOrder, isDone: (progress: StopProgress) => boolean) {
  const reports: StopProgress[] = [];
  const done = new AbortController();
  const withdrawal = new AbortController();
  const report = (progress: StopProgress): void => {
    reports.push(progress);
    if (isDone(progress)) done.abort();
  };
  const stopping = actuator.stop(order, report, withdrawal.signal);
  await systemClock.sleep(5000, done.signal);
  withdrawal.abort();
  await stopping;
  return { reports, last: reports.at(-1) };
}

const isVerified = (progress: StopProgress): boolean => progress.verified;
const isRefused = (progress: StopProgress): boolean => progress.entries[0]?.state === 'refused';

t.test('stop() ends a plain group with SIGTERM and tells found, stopping, stopped', async (t) => {
  const { group, live } = await startGroup(t, LEASE, 'echo ready; exec sleep 60');
  const { actuator, sent } = realActuator();
  const { reports } = await stopUntil(actuator, orderFor(target(group)), isVerified);
  const entry = {
    actuator: 'local-processes',
    kind: 'process-group',
    name: `pgid ${group.pgid} (train-7)`,
    node: 'bizon1',
    leaseId: LEASE,
  };
  t.match(reports, [
    { verified: false, entries: [{ ...entry, state: 'found', how: '', verified: false, tookMs: 0 }] },
    { verified: false, entries: [{ ...entry, state: 'stopping', how: 'SIGTERM', prior: 'state S', verified: false }] },
    { verified: false, entries: [{ ...entry, state: 'stopped', how: 'SIGTERM', prior: 'state S', verified: true }] },
    { verified: true, entries: [{ ...entry, state: 'stopped', how: 'SIGTERM', prior: 'state S', verified: true }] },
  ]);
  t.equal(reports.length, 4, 'told at changes only: the last when a look has shown that nobody left the group');
  t.ok((reports[2]?.entries[0]?.tookMs ?? 0) >= (reports[1]?.entries[0]?.tookMs ?? Infinity), 'times do not go back');
  t.same(sent, [`SIGTERM -${group.pgid}`, `SIGCONT -${group.pgid}`]);
  t.same(await live(), []);
});

t.test('stop() sends the first signal of many groups at once', async (t) => {
  const groups = await Promise.all(Array.from({ length: 12 }, () => startGroup(t, LEASE, 'echo ready; exec sleep 60')));
  const firstAtMs: number[] = [];
  const { actuator } = realActuator((pid, signal) => {
    if (signal === 'SIGTERM') firstAtMs.push(systemClock.now().elapsedMs);
    process.kill(pid, signal);
  });
  const warnings: Error[] = [];
  const warn = (warning: Error): unknown => warnings.push(warning);
  process.on('warning', warn);
  t.teardown(() => process.off('warning', warn));
  const startedMs = systemClock.now().elapsedMs;
  const { last } = await stopUntil(actuator, orderFor(...groups.map(({ group }) => target(group))), isVerified);
  t.equal(last?.verified, true);
  t.equal(firstAtMs.length, 12);
  const slowestMs = Math.max(...firstAtMs) - startedMs;
  // The goal is 50 ms; the rest is for a busy machine that runs two tests at once.
  t.ok(slowestMs < 250, `the last of 12 first signals left after ${slowestMs.toFixed(1)} ms`);
  t.same(warnings, [], 'no leak of listeners on the signal');
});

t.test('stop() kills what ignores SIGTERM, after the grace', async (t) => {
  const { group, live } = await startGroup(t, LEASE, 'trap "" TERM; echo ready; while :; do sleep 1; done');
  const { actuator, sent } = realActuator();
  const { last } = await stopUntil(actuator, orderFor(target(group)), isVerified);
  t.match(last?.entries, [{ state: 'stopped', how: 'SIGTERM, SIGKILL', verified: true }]);
  t.ok((last?.entries[0]?.tookMs ?? 0) >= GRACE_MS, 'not before the grace is over');
  t.same(sent.slice(0, 3), [`SIGTERM -${group.pgid}`, `SIGCONT -${group.pgid}`, `SIGKILL -${group.pgid}`]);
  t.same(await live(), []);
});

t.test('stop() ends a paused group, which would keep SIGTERM pending for ever', async (t) => {
  const { group, live } = await startGroup(t, LEASE, 'echo ready; exec sleep 60');
  process.kill(-group.pgid, 'SIGSTOP');
  await systemClock.sleep(50);
  const { actuator } = realActuator();
  const { last } = await stopUntil(actuator, orderFor(target(group)), isVerified);
  t.match(last?.entries, [{ state: 'stopped', how: 'SIGTERM', prior: 'state T', verified: true }]);
  t.same(await live(), []);
});

t.test('stop() ends grandchildren too, those that ignore SIGTERM and lost the mark included', async (t) => {
  const script = '(trap "" TERM; env -i sleep 60 & env -i sleep 60 & echo ready; wait) & wait';
  const { group, live } = await startGroup(t, LEASE, script);
  t.equal((await live()).length, 4);
  const { actuator } = realActuator();
  const { last } = await stopUntil(actuator, orderFor(target(group)), isVerified);
  t.match(last?.entries, [{ state: 'stopped', how: 'SIGTERM, SIGKILL', verified: true }]);
  t.same(await live(), []);
});

t.test('stop() ends marked members of a group whose leader is dead, one by one', async (t) => {
  const { group, live, child } = await startGroup(t, LEASE, 'sleep 60 & sleep 60 & echo ready; read');
  child.stdin?.end();
  await once(child, 'exit');
  const orphans = await live();
  t.equal(orphans.length, 2);
  const { actuator, sent } = realActuator();
  const { last } = await stopUntil(actuator, orderFor(target(group)), isVerified);
  t.match(last?.entries, [{ state: 'stopped', how: 'SIGTERM', verified: true }]);
  t.same(await live(), []);
  t.same(
    sent,
    orphans.flatMap((pid) => [`SIGTERM ${pid}`, `SIGCONT ${pid}`]),
    'no signal to the group',
  );
});

t.test('stop() leaves unmarked members of a leaderless group alone and does not call it verified', async (t) => {
  const { group, live, child, line } = await startGroup(t, LEASE, 'sleep 60 & env -i sleep 60 & echo $!; read');
  // Until `env` has become the sleep, it bears the mark as well.
  for (let tries = 0; tries < 100 && (await realTable.readMark(Number(line))).ok; tries += 1)
    await systemClock.sleep(20);
  child.stdin?.end();
  await once(child, 'exit');
  const [marked, unmarked] = (await live()).sort((a, b) => a - b);
  const { actuator, sent } = realActuator();
  const { last } = await stopUntil(actuator, orderFor(target(group)), isRefused);
  t.match(last, { verified: false, entries: [{ state: 'refused', how: 'SIGTERM', verified: false }] });
  t.match(last?.entries[0]?.detail, /leader \d+ is gone; 1 live members, first \d+, without VSF_LEASE=/);
  t.same(sent, [`SIGTERM ${marked}`, `SIGCONT ${marked}`]);
  t.same(await live(), [unmarked]);
});

t.test('stop() does not touch a reused number, and takes the recorded group for gone', async (t) => {
  const { group, live } = await startGroup(t, LEASE, 'echo ready; exec sleep 60');
  const { actuator, sent } = realActuator();
  const recorded = { ...group, startTicks: group.startTicks - 1 };
  const { last } = await stopUntil(actuator, orderFor(target(recorded)), isVerified);
  t.match(last, {
    verified: true,
    entries: [{ state: 'refused', how: '', verified: true, detail: /the number was reused/ }],
  });
  t.same(sent, []);
  t.same(await live(), [group.pgid]);
});

t.test('stop() does not touch a group without the mark, or with that of another lease', async (t) => {
  for (const mark of [null, 'another-lease']) {
    const { group, live } = await startGroup(t, mark, 'echo ready; exec sleep 60');
    const { actuator, sent } = realActuator();
    const { last } = await stopUntil(actuator, orderFor(target(group)), isRefused);
    t.match(last, {
      verified: false,
      entries: [{ state: 'refused', how: '', verified: false, detail: /^leader \d+: / }],
    });
    t.same(sent, []);
    t.same(await live(), [group.pgid]);
  }
});

t.test('stop() tells EPERM as failed, goes on trying, and never calls it verified', async (t) => {
  const { group, live } = await startGroup(t, LEASE, 'echo ready; exec sleep 60');
  let permitted = false;
  const { actuator, sent } = realActuator((pid, signal) => {
    if (!permitted) throw Object.assign(new Error('kill EPERM'), { code: 'EPERM' });
    process.kill(pid, signal);
  });
  const { reports } = await stopUntil(actuator, orderFor(target(group)), ({ entries, verified }) => {
    // The second refusal is SIGKILL's; the user then gives us the right.
    if (entries[0]?.detail?.includes('SIGKILL')) permitted = true;
    return verified;
  });
  const told = reports.map(({ entries: [entry] }) => [entry?.state, entry?.how, entry?.verified, entry?.detail]);
  t.same(told, [
    ['found', '', false, undefined],
    ['failed', '', false, `Cannot send SIGTERM to process group ${group.pgid}: EPERM`],
    ['failed', '', false, `Cannot send SIGKILL to process group ${group.pgid}: EPERM`],
    ['stopping', 'SIGKILL', false, undefined],
    ['stopped', 'SIGKILL', true, undefined],
    // The order as a whole: nobody has left the group.
    ['stopped', 'SIGKILL', true, undefined],
  ]);
  t.ok(sent.filter((line) => line.startsWith('SIGKILL')).length >= 2);
  t.same(await live(), []);
});

t.test('stop() ends the replacement that a dying workload starts in its group', async (t) => {
  const script = `trap '(trap "" TERM; sleep 60; sleep 60) & exit' TERM; echo ready; while :; do sleep 0.05; done`;
  const { group, live } = await startGroup(t, LEASE, script);
  const { actuator } = realActuator();
  const { last } = await stopUntil(actuator, orderFor(target(group)), isVerified);
  t.match(last?.entries, [{ state: 'stopped', how: 'SIGTERM, SIGKILL', verified: true }]);
  t.same(await live(), []);
});

t.test('stop() says of a group that ended before that it is gone', async (t) => {
  const { group, child } = await startGroup(t, LEASE, 'echo ready; read');
  child.stdin?.end();
  await once(child, 'exit');
  const { actuator, sent } = realActuator();
  const { last } = await stopUntil(actuator, orderFor(target(group)), isVerified);
  t.match(last?.entries, [{ state: 'stopped', how: '', verified: true, detail: 'gone without a signal from here' }]);
  t.same(sent, []);
});

t.test('stop() lists no target without a process group, and ends at once when there is none', async (t) => {
  const { group } = await startGroup(t, LEASE, 'echo ready; exec sleep 60');
  const { actuator } = realActuator();
  const pods: StopTarget = { leaseId: 'in-a-pod', workload: 'pods' };
  const { last } = await stopUntil(actuator, orderFor(pods, target(group)), isVerified);
  t.same(
    last?.entries.map((entry) => entry.leaseId),
    [LEASE],
  );
  const reports: StopProgress[] = [];
  await actuator.stop(orderFor(pods), (progress) => reports.push(progress), new AbortController().signal);
  t.same(reports, [{ entries: [], verified: true }]);
});

t.test('stop() sends nothing for an order that is withdrawn already, or during the look', async (t) => {
  const { group, live } = await startGroup(t, LEASE, 'echo ready; exec sleep 60');
  const { actuator, sent } = realActuator();
  await actuator.stop(orderFor(target(group)), () => undefined, AbortSignal.abort());
  const withdrawal = new AbortController();
  const stopping = actuator.stop(orderFor(target(group)), () => undefined, withdrawal.signal);
  withdrawal.abort();
  await stopping;
  t.same(sent, []);
  t.same(await live(), [group.pgid]);
});

t.test('close() ends a stop that is under way', async (t) => {
  const { group, child } = await startGroup(t, LEASE, 'echo ready; exec sleep 60');
  const { actuator } = realActuator();
  const stopping = actuator.stop(orderFor(target(group)), () => undefined, new AbortController().signal);
  await once(child, 'exit');
  await actuator.close();
  await stopping;
});

t.test('inventory() lists the groups that still have a live member of the lease', async (t) => {
  const alive = await startGroup(t, LEASE, 'echo ready; exec sleep 60');
  const headless = await startGroup(t, LEASE, 'sleep 60 & echo ready; read');
  const ended = await startGroup(t, LEASE, 'echo ready; read');
  for (const { child } of [headless, ended]) {
    child.stdin?.end();
    await once(child, 'exit');
  }
  const reused = { ...alive.group, startTicks: alive.group.startTicks - 1 };
  const targets = [
    target(alive.group, 'alive'),
    target(headless.group, 'headless'),
    target(ended.group, 'ended'),
    target(reused, 'reused'),
    { leaseId: 'in-a-pod', workload: 'pods' },
  ];
  const actuator = createLocalProcesses({
    node: 'bizon1',
    clock: systemClock,
    table: realTable,
    targets: () => targets,
  });
  t.same(await actuator.inventory(systemClock.now().elapsedMs + 2000), {
    available: true,
    detail: '4 leases with a process group',
    workloads: [
      { kind: 'process-group', node: 'bizon1', name: String(alive.group.pgid), leaseId: 'alive' },
      { kind: 'process-group', node: 'bizon1', name: String(headless.group.pgid), leaseId: 'headless' },
    ],
  });
});

/** A stop on a pretended machine, under a clock that only the test moves. */
function pretendStop(machine: PretendMachine, group: ProcessGroup = { pgid: 50, startTicks: 100 }) {
  const clock = new ManualClock();
  const { table, kill } = machine;
  const actuator = createLocalProcesses({ node: 'bizon1', clock, table, kill, targets: () => [target(group)] });
  const reports: StopProgress[] = [];
  const withdrawal = new AbortController();
  const stopping = actuator.stop(orderFor(target(group)), (progress) => reports.push(progress), withdrawal.signal);
  const withdraw = async (): Promise<void> => {
    withdrawal.abort();
    await stopping;
  };
  return { actuator, clock, reports, withdraw, entry: () => reports.at(-1)?.entries[0] };
}

t.test('stop() keeps 3 s between SIGTERM and SIGKILL unless told otherwise', async (t) => {
  const machine = new PretendMachine();
  machine.add({ pid: 50, pgid: 50, mark: LEASE });
  const { clock, withdraw } = pretendStop(machine);
  await clock.advance(2999);
  t.same(machine.sent, ['SIGTERM -50', 'SIGCONT -50']);
  await clock.advance(1);
  t.same(machine.sent, ['SIGTERM -50', 'SIGCONT -50', 'SIGKILL -50']);
  await withdraw();
});

t.test('stop() kills again what comes back with the mark, for as long as the order stands', async (t) => {
  const machine = new PretendMachine();
  machine.add({ pid: 50, pgid: 50, mark: LEASE });
  machine.onSignal = (_, signal) => signal !== 'SIGTERM' && machine.remove(50, 60, 61);
  const { clock, reports, withdraw, entry } = pretendStop(machine);
  await clock.advance(200);
  t.match(entry(), { state: 'stopped', how: 'SIGTERM', verified: true });

  machine.add({ pid: 60, pgid: 50, mark: LEASE });
  await clock.advance(600);
  t.same(machine.sent.slice(2), ['SIGKILL 60'], 'within 500 ms, at once, and only the one that bears the mark');
  const detail = 'came back 1 times after it was gone';
  t.match(reports.at(-3), { verified: false, entries: [{ state: 'stopping', verified: false, detail }] });
  t.match(reports.at(-1), { verified: true });
  t.match(entry(), { state: 'stopped', how: 'SIGTERM, SIGKILL', verified: true, detail });

  await clock.advance(60_000);
  machine.add({ pid: 61, pgid: 50, mark: LEASE });
  await clock.advance(2000);
  t.same(machine.sent.slice(3), ['SIGKILL 61'], 'within 2 s after the first 30 s');
  await clock.advance(100);
  t.match(entry(), { state: 'stopped', verified: true, detail: 'came back 2 times after it was gone' });

  await withdraw();
  machine.add({ pid: 62, pgid: 50, mark: LEASE });
  await clock.advance(60_000);
  t.equal(machine.sent.length, 4, 'nothing after the order is withdrawn');
});

t.test('stop() does not touch a stranger who got the number after the group was gone', async (t) => {
  const machine = new PretendMachine();
  machine.add({ pid: 50, pgid: 50, mark: LEASE });
  machine.onSignal = () => machine.remove(50);
  const { clock, withdraw, entry } = pretendStop(machine);
  await clock.advance(200);
  machine.add({ pid: 50, pgid: 50, mark: LEASE, startTicks: 777 });
  await clock.advance(2000);
  t.same(machine.sent, ['SIGTERM -50']);
  t.match(entry(), { state: 'stopped', how: 'SIGTERM', verified: true, detail: /started at tick 777/ });
  await withdraw();
});

t.test('stop() tells who hangs in state D and since when, and never verifies it', async (t) => {
  const machine = new PretendMachine();
  machine.add({ pid: 50, pgid: 50, mark: 'overdue', state: 'D' });
  machine.add({ pid: 60, pgid: 50, mark: LEASE });
  machine.onSignal = (_, signal) => signal === 'SIGKILL' && machine.remove(60);
  const { clock, reports, withdraw, entry } = pretendStop(machine);
  await clock.advance(3500);
  t.match(entry(), { state: 'stopping', how: 'SIGTERM, SIGKILL', prior: 'state D', verified: false });
  await clock.advance(600_000);
  const detail =
    'After SIGKILL: process 50 is in state D (waits in the kernel, cannot die) since 2026-01-01T00:00:04.000Z';
  t.match(entry(), { state: 'stopping', verified: false, detail });
  t.equal(reports.length, 4, 'found, stopping, killed, state D: told once');
  machine.remove(50);
  await clock.advance(2000);
  t.match(entry(), { state: 'stopped', verified: true });
  t.equal(entry()?.detail, undefined);
  await withdraw();
});

t.test('stop() waits for what it cannot read, and acts as soon as it can', async (t) => {
  const machine = new PretendMachine();
  machine.add({ pid: 50, pgid: 50, mark: LEASE });
  machine.unreadable = true;
  const { clock, withdraw, entry } = pretendStop(machine);
  await clock.advance(1000);
  t.match(entry(), { state: 'failed', how: '', verified: false, detail: 'Cannot read stat: EMFILE' });
  t.same(machine.sent, []);
  machine.unreadable = false;
  await clock.advance(100);
  t.same(machine.sent, ['SIGTERM -50', 'SIGCONT -50']);
  t.match(entry(), { state: 'stopping', how: 'SIGTERM' });
  await withdraw();
});

t.test('stop() never signals everybody, init, or its own group, whatever was recorded', async (t) => {
  for (const pgid of [1, 0, -1, NaN, process.pid]) {
    const machine = new PretendMachine();
    // A kill(2) that knows of every process, and a group of our own that bears the mark and the start time.
    machine.add({ pid: process.pid, pgid: process.pid, mark: LEASE });
    machine.add({ pid: 1, pgid: 1, mark: LEASE });
    const asked: number[] = [];
    const { kill } = machine;
    const clock = new ManualClock();
    const all: Kill = (pid, signal) => {
      asked.push(pid);
      kill(pid, signal);
    };
    const actuator = createLocalProcesses({
      node: 'bizon1',
      clock,
      table: machine.table,
      kill: all,
      targets: () => [],
    });
    const withdrawal = new AbortController();
    const reports: StopProgress[] = [];
    const order = orderFor(target({ pgid, startTicks: 100 }));
    const stopping = actuator.stop(order, (progress) => reports.push(progress), withdrawal.signal);
    await clock.advance(10_000);
    t.match(
      reports.at(-1),
      { verified: false, entries: [{ state: 'refused', how: '', verified: false }] },
      String(pgid),
    );
    t.same(asked, [], `${pgid}: not even asked with signal 0`);
    withdrawal.abort();
    await stopping;
  }
});

t.test('inventory() is not available while processes cannot be read', async (t) => {
  const machine = new PretendMachine();
  machine.unreadable = true;
  const { actuator, clock, withdraw } = pretendStop(machine);
  const inventory = await actuator.inventory(clock.now().elapsedMs + 1000);
  t.same(inventory, { available: false, detail: 'Cannot read stat: EMFILE', workloads: [] });
  await withdraw();
});

t.test('inventory() answers before its deadline, whatever hangs', async (t) => {
  const clock = new ManualClock();
  const { table, kill } = new PretendMachine();
  const hanging = { ...table, membersOf: () => new Promise<never>(() => undefined) };
  const targets = () => [target({ pgid: 50, startTicks: 100 })];
  const actuator = createLocalProcesses({ node: 'bizon1', clock, table: hanging, kill, targets });
  const inventory = actuator.inventory(clock.now().elapsedMs + 1000);
  await clock.advance(1000);
  t.match(await inventory, { available: false, detail: /no answer before the deadline/ });
});
