import { execFileSync } from 'node:child_process';
import { open } from 'node:fs/promises';
import { uptime } from 'node:os';
import t from 'tap';
import { createProcessTable, isLive, parseStat } from '../../src/actuators/process-table.ts';
import { systemClock } from '../../src/clock.ts';
import { realTable, startGroup } from '../support/marked-group.ts';

/** A line as Linux 6.1 prints it, with what matters here put in. */
const statLine = (pid: number, comm: string, state: string, pgid: number, threads = 1, startTicks = 101092): string =>
  `${pid} (${comm}) ${state} 17 ${pgid} 4423 0 -1 4194304 98 0 0 0 0 0 0 0 20 0 ${threads} 0 ${startTicks} 3133440 359 ` +
  '18446744073709551615 94412091351040 94412091370921 140727862938240 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n';

const proc = (t: Tap, files: Record<string, Record<string, string>>) =>
  createProcessTable({ clock: systemClock, root: t.testdir(files) });
type Tap = { testdir(files: Record<string, Record<string, string>>): string };

t.test('parseStat() reads pid, group, session, state, threads and start time', async (t) => {
  t.same(parseStat(statLine(40, 'bash', 'S', 40, 3)), {
    pid: 40,
    ppid: 17,
    pgid: 40,
    sid: 4423,
    state: 'S',
    threads: 3,
    startTicks: 101092,
  });
});

t.test('parseStat() is not led astray by what a program calls itself', async (t) => {
  for (const comm of ['tmux: server', 'a) R 1 1 1', '((sd-pam))', 'x\ny) Z', ') ', '']) {
    t.match(parseStat(statLine(41, comm, 'D', 40)), { pid: 41, state: 'D', pgid: 40, startTicks: 101092 }, comm);
  }
});

t.test('parseStat() takes nothing else for a process', async (t) => {
  const good = statLine(40, 'bash', 'S', 40);
  const bad = [
    '',
    'no such thing',
    '40 (bash',
    good.slice(0, 60),
    good.replace('101092', 'x'),
    good.replace(' S ', ' ? '),
  ];
  for (const line of bad) t.equal(parseStat(line), undefined, line);
});

t.test('isLive() counts zombies as gone, unless threads of theirs still run', async (t) => {
  const cells: [string, number, boolean][] = [
    ['R', 1, true],
    ['S', 1, true],
    ['D', 1, true],
    ['T', 1, true],
    ['Z', 1, false],
    ['Z', 0, false],
    ['X', 1, false],
    ['Z', 4, true],
  ];
  for (const [state, threads, live] of cells) {
    const process = parseStat(statLine(40, 'x', state, 40, threads));
    t.equal(process && isLive(process), live, `${state} with ${threads} threads`);
  }
});

t.test('readProcess() tells of this very process what Node knows otherwise', async (t) => {
  const read = await realTable.readProcess(process.pid);
  t.match(read, { ok: true, process: { pid: process.pid, ppid: process.ppid } });
  const startedS = read.ok ? read.process.startTicks / 100 : NaN;
  t.ok(Math.abs(startedS - (uptime() - process.uptime())) < 3, `100 ticks a second since boot: ${startedS} s`);
});

t.test('readProcess() fails as a value: not there, or not readable', async (t) => {
  const table = proc(t, { '50': { stat: 'garbage' }, '51': { stat: 'x'.repeat(5000) }, '52': {} });
  t.match(await table.readProcess(49), { ok: false, cause: 'not-there', detail: /\/49\/stat: ENOENT/ });
  t.match(await table.readProcess(50), { ok: false, cause: 'unreadable', detail: /not a line of process status/ });
  t.match(await table.readProcess(51), { ok: false, cause: 'unreadable', detail: /longer than 4096 bytes/ });
  t.match(await table.readProcess(52), { ok: false, cause: 'not-there' });
});

t.test('readMark() gives the value of VSF_LEASE, wherever it stands', async (t) => {
  const table = proc(t, {
    '60': { environ: 'PATH=/bin\0VSF_LEASE=train-7\0HOME=/\0' },
    '61': { environ: 'VSF_LEASE=train-8\0' },
    '62': { environ: 'A=1\0VSF_LEASE=first\0VSF_LEASE=second\0' },
    '63': { environ: `BIG=${'x'.repeat(300_000)}\0VSF_LEASE=behind-it\0` },
    '64': { environ: 'VSF_LEASE=' },
  });
  const marks = await Promise.all([60, 61, 62, 63, 64].map((pid) => table.readMark(pid)));
  t.same(
    marks.map((mark) => mark.ok && mark.leaseId),
    ['train-7', 'train-8', 'first', 'behind-it', ''],
  );
});

t.test('readMark() takes neither a longer name nor a value for the mark', async (t) => {
  const table = proc(t, { '65': { environ: 'MY_VSF_LEASE=a\0X=VSF_LEASE=b\0VSF_LEASED=c\0' }, '66': { environ: '' } });
  t.match(await table.readMark(65), { ok: false, cause: 'unmarked' });
  t.match(await table.readMark(66), { ok: false, cause: 'unmarked' });
  t.match(await table.readMark(67), { ok: false, cause: 'not-there' });
});

t.test('readMark() never reads more than an environment can hold', async (t) => {
  const table = proc(t, { '68': { environ: `${'x'.repeat(6 * 1024 * 1024)}\0VSF_LEASE=a\0` } });
  t.match(await table.readMark(68), { ok: false, cause: 'unreadable', detail: /longer than 6291456 bytes/ });
});

t.test('readMark() reads a real child', async (t) => {
  const { group } = await startGroup(t, 'lease-real', 'echo ready; exec sleep 60');
  t.same(await realTable.readMark(group.pgid), { ok: true, leaseId: 'lease-real' });
});

t.test("readMark() of what is another user's is hidden, not unmarked", async (t) => {
  const { group } = await startGroup(t, 'lease-hidden', 'echo ready; exec sleep 60');
  // Only root can become another user; anybody else finds one in process 1.
  const isRoot = process.geteuid?.() === 0;
  if (isRoot) process.seteuid?.(65534);
  const mark = await realTable.readMark(isRoot ? group.pgid : 1);
  if (isRoot) process.seteuid?.(0);
  t.match(mark, { ok: false, cause: 'hidden', detail: /EACCES/ });
});

t.test('readMark() waits for no hanging read, joins it, and lets two hang at most', async (t) => {
  const root = t.testdir({ '70': {}, '71': {}, '72': {}, '73': { environ: 'VSF_LEASE=well\0' } });
  // Opening a FIFO that nobody writes hangs in the kernel, as `environ` does behind a wedged driver.
  for (const pid of [70, 71, 72]) execFileSync('mkfifo', [`${root}/${pid}/environ`]);
  const table = createProcessTable({ clock: systemClock, root });
  const hung = await Promise.all([table.readMark(70), table.readMark(71)]);
  t.match(hung, [{ cause: 'overdue', detail: /no answer within 1500 ms/ }, { cause: 'overdue' }]);
  t.match(await table.readMark(72), { ok: false, cause: 'overdue', detail: /2 such reads hang, 2 at most/ });
  t.match(await table.readMark(70), { ok: false, cause: 'overdue', detail: /no answer/ }, 'joins the one under way');
  for (const pid of [70, 71]) {
    const writer = await open(`${root}/${pid}/environ`, 'w');
    await writer.write('VSF_LEASE=late\0');
    await writer.close();
  }
  let again = await table.readMark(73);
  for (let looks = 0; !again.ok && looks < 100; looks += 1) {
    await systemClock.sleep(50);
    again = await table.readMark(73);
  }
  t.same(again, { ok: true, leaseId: 'well' }, 'reads again once they came back');
});

t.test('membersOf() finds every process of a group and nobody else', async (t) => {
  const table = proc(t, {
    '80': { stat: statLine(80, 'leader', 'S', 80) },
    '81': { stat: statLine(81, 'child) S 1 99', 'Z', 80) },
    '82': { stat: statLine(82, 'other', 'S', 82) },
    '83': {}, // ended during the pass
    sys: { stat: statLine(84, 'no process', 'S', 80) },
  });
  const members = await table.membersOf(80);
  t.same(members.ok && members.members.map(({ pid }) => pid).sort(), [80, 81]);
  t.same(await table.membersOf(99), { ok: true, members: [] });
});

t.test('membersOf() gives no list rather than one with a hole', async (t) => {
  const table = proc(t, { '80': { stat: statLine(80, 'leader', 'S', 80) }, '81': { stat: 'garbage' } });
  t.match(await table.membersOf(80), { ok: false, cause: 'unreadable' });
  const nowhere = createProcessTable({ clock: systemClock, root: '/nonexistent' });
  t.match(await nowhere.membersOf(80), { ok: false, detail: /Cannot read \/nonexistent: ENOENT/ });
});

t.test('membersOf() sees real grandchildren', async (t) => {
  const { group, line } = await startGroup(t, 'lease-family', '(sleep 60 & sleep 60 & wait) & echo $!; wait');
  await systemClock.sleep(100);
  const read = await realTable.membersOf(group.pgid);
  const pids = read.ok ? read.members.map(({ pid }) => pid) : [];
  t.equal(pids.length, 4, 'bash, subshell and two sleeps');
  t.ok(pids.includes(group.pgid) && pids.includes(Number(line)));
});

t.test('markedSince() gives the marked that live and are young enough, and names those it cannot read', async (t) => {
  const root = t.testdir({
    '80': { stat: statLine(80, 'marked', 'S', 80), environ: 'VSF_LEASE=a\0' },
    '81': { stat: statLine(81, 'marked too', 'S', 81), environ: 'VSF_LEASE=b\0' },
    '82': { stat: statLine(82, 'unmarked', 'S', 82), environ: 'PATH=/bin\0' },
    '83': { stat: statLine(83, 'dead', 'Z', 83), environ: 'VSF_LEASE=c\0' },
    '84': { stat: statLine(84, 'older', 'S', 84, 1, 101091), environ: 'VSF_LEASE=d\0' },
    '85': { stat: statLine(85, 'ended since', 'S', 85) },
    '86': { stat: statLine(86, 'hangs', 'D', 86) },
  });
  execFileSync('mkfifo', [`${root}/86/environ`]);
  const table = createProcessTable({ clock: systemClock, root });
  const read = await table.markedSince(101092);
  // Nobody writes the FIFO: this lets its reader go.
  await (await open(`${root}/86/environ`, 'r+')).close();
  if (!read.ok) throw new Error(read.detail);
  t.same(read.marked.map(({ process, leaseId }) => `${process.pid} ${leaseId}`).sort(), ['80 a', '81 b']);
  t.match(read.unread, [{ process: { pid: 86 }, detail: /no answer within 1500 ms/ }]);
  t.equal(read.unread.length, 1);
});
