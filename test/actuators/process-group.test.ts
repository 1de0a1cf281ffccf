import t from 'tap';
import { isGroupNumber, type Kill, sightGroup, verifyProcessGroup } from '../../src/actuators/process-group.ts';
import { realTable, startGroup } from '../support/marked-group.ts';
import { PretendMachine } from '../support/pretend-machine.ts';

const LEASE = '6f1c7a52-3a0e-4c0e-9f55-0a6e2b1d7c11';

const verify = (pgid: number, table = realTable) => verifyProcessGroup({ pgid, leaseId: LEASE, table });

t.test('isGroupNumber() takes whole numbers above 1 only', async (t) => {
  for (const pgid of [2, 4711]) t.ok(isGroupNumber(pgid), String(pgid));
  for (const pgid of [1, 0, -1, -4711, 2.5, NaN, Infinity, 2 ** 60]) t.notOk(isGroupNumber(pgid), String(pgid));
});

t.test('verifyProcessGroup() pins a marked leader by its start time', async (t) => {
  const { group } = await startGroup(t, LEASE, 'echo ready; exec sleep 60');
  t.same(await verify(group.pgid), { ok: true, group });
});

t.test('verifyProcessGroup() refuses what is no group number', async (t) => {
  for (const pgid of [1, 0, -1, 1.5, NaN]) {
    const code = 'process-group-invalid';
    const detail = `Cannot take process group ${pgid} for lease "${LEASE}": it must be a whole number above 1`;
    t.same(await verify(pgid), { ok: false, code, detail });
  }
});

t.test('verifyProcessGroup() refuses the service, its group, its session', async (t) => {
  const own = await realTable.readProcess(process.pid);
  const { pgid, sid } = own.ok ? own.process : { pgid: NaN, sid: NaN };
  // In a container group and session may lie outside its pid namespace; both then read 0.
  for (const number of [process.pid, pgid, sid].filter(isGroupNumber)) {
    t.match(await verify(number), { ok: false, code: 'process-group-own', detail: /this service runs in group/ });
  }
});

t.test('verifyProcessGroup() refuses an unmarked leader, and one of another lease without telling whose', async (t) => {
  const bare = await startGroup(t, null, 'echo ready; exec sleep 60');
  t.match(await verify(bare.group.pgid), { code: 'process-group-unmarked', detail: new RegExp(`VSF_LEASE=${LEASE}$`) });
  const other = await startGroup(t, 'secret-of-another', 'echo ready; exec sleep 60');
  const verdict = await verify(other.group.pgid);
  t.match(verdict, { ok: false, code: 'process-group-unmarked', detail: /it runs under another lease/ });
  t.notMatch(verdict, { detail: /secret-of-another/ });
});

t.test('verifyProcessGroup() refuses a process that leads no group, and one that is not there', async (t) => {
  const { line } = await startGroup(t, LEASE, 'sleep 60 & echo $!; wait');
  t.match(await verify(Number(line)), { code: 'process-group-not-leader', detail: /belongs to group \d+/ });
  t.match(await verify(4_194_303), { code: 'process-group-not-there', detail: /does not run on this machine/ });
});

t.test('verifyProcessGroup() refuses a dead leader and what it cannot read', async (t) => {
  const machine = new PretendMachine();
  machine.add({ pid: 50, pgid: 50, state: 'Z', mark: LEASE });
  machine.add({ pid: 51, pgid: 51, mark: 'hidden' });
  machine.add({ pid: 52, pgid: 52, mark: 'overdue' });
  t.match(await verify(50, machine.table), { code: 'process-group-not-there' });
  t.match(await verify(51, machine.table), { code: 'process-group-unreadable' });
  t.match(await verify(52, machine.table), { code: 'process-group-unreadable' });
});

const GROUP = { pgid: 50, startTicks: 100 };
const sight = (machine: PretendMachine, known = false) =>
  sightGroup({ group: GROUP, leaseId: LEASE, known, table: machine.table, kill: machine.kill });

t.test('sightGroup() knows the whole group by its leader', async (t) => {
  const machine = new PretendMachine();
  machine.add({ pid: 50, pgid: 50, mark: LEASE });
  t.match(await sight(machine), { kind: 'whole', leader: { pid: 50 } });
});

t.test('sightGroup() trusts the start time while the mark cannot be read for a wedged driver', async (t) => {
  const machine = new PretendMachine();
  machine.add({ pid: 50, pgid: 50, mark: 'overdue' });
  t.match(await sight(machine), { kind: 'whole' });
  machine.add({ pid: 50, pgid: 50, mark: 'overdue', startTicks: 101 });
  t.match(await sight(machine), { kind: 'reused' });
});

t.test('sightGroup() takes a leader with another start time for a stranger, mark or no mark', async (t) => {
  const machine = new PretendMachine();
  machine.add({ pid: 50, pgid: 50, mark: LEASE, startTicks: 101 });
  t.match(await sight(machine), { kind: 'reused', detail: /started at tick 101, the lease's at tick 100/ });
  t.match(await sight(machine, true), { kind: 'reused' });
});

t.test('sightGroup() asks a group that is known already for no mark', async (t) => {
  const machine = new PretendMachine();
  machine.add({ pid: 50, pgid: 50, mark: null });
  t.match(await sight(machine), { kind: 'not-ours', detail: /leader 50: no VSF_LEASE/ });
  t.match(await sight(machine, true), { kind: 'whole' });
  machine.remove(50);
  machine.add({ pid: 61, pgid: 50, mark: null });
  t.match(await sight(machine, true), { kind: 'whole' });
});

t.test('sightGroup() lets each member speak for itself once the leader is gone', async (t) => {
  const machine = new PretendMachine();
  machine.add({ pid: 60, pgid: 50, mark: LEASE });
  machine.add({ pid: 61, pgid: 50, mark: null });
  machine.add({ pid: 62, pgid: 50, mark: 'another-lease' });
  machine.add({ pid: 63, pgid: 50, mark: LEASE, state: 'Z' });
  machine.add({ pid: 64, pgid: 51, mark: LEASE });
  t.same(await sight(machine), { kind: 'members', pids: [60] });
  machine.add({ pid: 50, pgid: 50, mark: LEASE, state: 'Z' });
  t.same(await sight(machine), { kind: 'members', pids: [60] }, 'a zombie leads nobody');
  machine.remove(60);
  t.match(await sight(machine), { kind: 'not-ours', detail: /leader 50 is gone; 2 live members, first 61/ });
  machine.add({ pid: 61, pgid: 50, mark: 'hidden' });
  t.match(await sight(machine), { kind: 'unclear' });
});

t.test('sightGroup() lets members speak where the leader may not be asked', async (t) => {
  const machine = new PretendMachine();
  machine.add({ pid: 50, pgid: 50, mark: 'hidden' });
  t.match(await sight(machine), { kind: 'unclear', detail: /environ/ });
  machine.add({ pid: 60, pgid: 50, mark: LEASE });
  t.same(await sight(machine), { kind: 'members', pids: [60] });
});

t.test('sightGroup() calls gone what is empty, or zombies only', async (t) => {
  const machine = new PretendMachine();
  t.same(await sight(machine), { kind: 'gone' });
  machine.add({ pid: 50, pgid: 50, mark: LEASE, state: 'Z' });
  machine.add({ pid: 60, pgid: 50, mark: LEASE, state: 'Z' });
  t.same(await sight(machine), { kind: 'gone' });
});

t.test('sightGroup() calls gone what ends while it looks', async (t) => {
  const { table } = new PretendMachine();
  let isFirst = true;
  const kill: Kill = () => {
    if (!isFirst) throw Object.assign(new Error('kill ESRCH'), { code: 'ESRCH' });
    isFirst = false;
  };
  t.same(await sightGroup({ group: GROUP, leaseId: LEASE, known: false, table, kill }), { kind: 'gone' });
});

t.test('sightGroup() does not call gone what the kernel knows and /proc hides', async (t) => {
  const machine = new PretendMachine();
  const kill: Kill = () => {
    throw Object.assign(new Error('kill EPERM'), { code: 'EPERM' });
  };
  const asked = { group: GROUP, leaseId: LEASE, known: false, table: machine.table, kill };
  t.match(await sightGroup(asked), { kind: 'unclear', detail: /does not show/ });
});
