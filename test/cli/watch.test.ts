// `watch` against the product's own app and against services that hang, lie or are gone; on a terminal and on a pipe.
import t, { type Test } from 'tap';
import { runCli } from '../../src/cli/cli.ts';
import { type Seen, screenLines } from '../../src/cli/watch-screen.ts';
import type { ReadingStatus, Status } from '../../src/http/status-view.ts';
import { type Reply, standInService, vsfSafety } from '../support/command-line.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { untilTrue } from '../support/sysfs-tree.ts';
import { startApp } from '../support/test-app.ts';

const ESCAPE = '\u001b';
const ENTER = `${ESCAPE}[?1049h`;
const LEAVE = `${ESCAPE}[?7h${ESCAPE}[?25h${ESCAPE}[?1049l`;
const plain = (text: string): string => text;

interface Watching {
  readonly clock: ManualClock;
  readonly terminal: { columns: number; rows: number };
  out(): string;
  err(): string;
  /** The lines that stand on the screen now. */
  screen(): string[];
  /** Waits, in real time, until what was written matches. */
  shows(pattern: RegExp): Promise<void>;
  code: Promise<number>;
  /** Ctrl-C. */
  interrupt(): Promise<number>;
}

/** Runs `watch` on a clock that moves only by hand. */
function startWatch(t: Test, url: string, { isTTY = false, args = [] as string[], env = {} } = {}): Watching {
  const out: string[] = [];
  const err: string[] = [];
  const clock = new ManualClock();
  const foreign = process.listeners('SIGINT');
  const terminal = { columns: 100, rows: 40, isTTY, write: (text: string) => out.push(text) };
  const code = runCli(['watch', '--url', url, ...args], {
    stdout: terminal,
    stderr: { write: (text) => err.push(text) },
    env,
    clock,
    hostname: 'bizon1',
    homeDir: '/nonexistent',
    fetch,
  });
  const screen = (): string[] => {
    const text = out.join('').split(`${ESCAPE}[H`).at(-1) ?? '';
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is taken out
    return text.replace(/\u001b\[[?\d]*[A-Za-z]/g, '').split('\r\n');
  };
  const watching: Watching = {
    clock,
    terminal,
    out: () => out.join(''),
    err: () => err.join(''),
    screen,
    async shows(pattern) {
      const shown = (): string => (isTTY ? screen().join('\n') : out.join(''));
      await untilTrue(async () => pattern.test(shown()));
      t.match(shown(), pattern);
    },
    code,
    // The test runner has listeners of its own, which would end this process.
    interrupt: () => {
      for (const listener of process.listeners('SIGINT')) if (!foreign.includes(listener)) listener('SIGINT');
      return code;
    },
  };
  t.teardown(() => watching.interrupt());
  return watching;
}

/** A status of the product's own app, as a base for what a stand-in answers. */
async function ownStatus(t: Test): Promise<Status> {
  const { ask, close } = await startApp(t);
  const status = (await ask({ url: '/status' })).json() as Status;
  await close();
  return status;
}

const seenOf = (status: Status | null, change: Partial<Seen> = {}): Seen => ({
  url: 'http://here',
  status,
  ageSeconds: 1,
  failure: null,
  intervalSeconds: 2,
  ...change,
});

t.test('watch and status name the pods that use a card, the first of many', async (t) => {
  const status = await ownStatus(t);
  const [node] = status.nodes;
  const [one, two] = node?.gpus ?? [];
  if (!node || !one || !two) throw new Error('the rig has two cards');
  const pods = ['train/a', 'train/b', 'infer/c', 'infer/d\u001b[2J', 'infer/e'];
  const used = { ...status, nodes: [{ ...node, gpus: [{ ...one, pods }, two] }] };
  const slot = one.pciAddress ?? one.id;
  const screen = screenLines(seenOf(used), { columns: 120, rows: 60 }, plain).join('\n');
  t.match(screen, `GPUs used by pods (1)\n  ${node.node}  ${slot}  train/a, train/b, infer/c and 2 more`);
  t.notMatch(screenLines(seenOf(status), { columns: 120, rows: 60 }, plain).join('\n'), /used by pods/);
  const { url } = await standInService(t, () => [200, used]);
  const { out } = await vsfSafety(['status', '--url', url]);
  t.match(out, `\n  gpu ${slot} is used by train/a, train/b, infer/c and 2 more\n`);
  t.equal(out.match(/is used by/g)?.length, 1, 'of the other one nobody tells');
});

t.test('watch on a pipe prints one line per change of action or interlock, and nothing else', async (t) => {
  const service = await startApp(t);
  const { url } = await service.listen();
  const watching = startWatch(t, url);
  await watching.shows(/^\S+Z PROCEED clear Every check passes \(simulated\)\n$/);
  let asked = 0;
  service.app.server.on('request', () => asked++);
  for (let poll = 1; poll <= 3; poll++) {
    await watching.clock.advance(2_000);
    await untilTrue(async () => asked >= poll);
  }
  t.equal(asked, 3);
  t.equal(watching.out().split('\n').length, 2, 'no change, no line');
  await service.ask({ method: 'POST', url: '/estop', payload: { reason: 'smoke' } });
  await watching.clock.advance(2_000);
  await watching.shows(/\n\S+Z ABORT tripped .*smoke.*\n$/);
  t.notMatch(watching.out(), new RegExp(ESCAPE));
  t.equal(await watching.interrupt(), 0);
  t.equal(watching.err(), '');
});

t.test('watch on a pipe tells lost contact and its end once each, on standard error', async (t) => {
  const status = await ownStatus(t);
  let reply: Reply = [200, status];
  const { url, asked } = await standInService(t, () => reply);
  const watching = startWatch(t, url);
  await watching.shows(/PROCEED/);
  reply = [500, { detail: 'Cannot tell: the disk is on fire' }];
  for (let poll = 2; poll <= 4; poll++) {
    await watching.clock.advance(2_000);
    await untilTrue(async () => asked.length >= poll);
  }
  await untilTrue(async () => watching.err() !== '');
  reply = [200, status];
  await watching.clock.advance(2_000);
  await untilTrue(async () => watching.err().includes('again'));
  t.match(watching.err(), /^vsf-safety watch: NO CONTACT for .* disk is on fire\n.*in contact again.*\n$/);
  t.equal(watching.out().split('\n').length, 2);
});

t.test('watch starts where no service is, and goes on trying until there is one', async (t) => {
  const status = await ownStatus(t);
  let isUp = false;
  const { url } = await standInService(t, () => (isUp ? [200, status] : (response) => response.destroy()));
  const watching = startWatch(t, url, { isTTY: true });
  await watching.shows(/!! NO CONTACT .*the connection was cut/);
  isUp = true;
  await watching.clock.advance(2_000);
  await watching.shows(/^vsf-safety .*SIMULATED[\s\S]*PROCEED {2}Every check passes/);
  t.notMatch(watching.screen().join('\n'), /NO CONTACT/);
});

t.test('watch on a terminal says that a hung service does not answer, and calls the rest the last known', async (t) => {
  const status = await ownStatus(t);
  let isHung = false;
  const { url, asked } = await standInService(t, () => (isHung ? null : [200, status]));
  const watching = startWatch(t, url, { isTTY: true });
  await watching.shows(/^PROCEED {2}/m);
  isHung = true;
  await watching.clock.advance(2_000);
  await untilTrue(async () => asked.length === 2);
  // Before the request's own deadline of 5 s.
  await watching.clock.advance(3_000);
  await watching.shows(/^!! NO CONTACT for 5\.0 s, trying on: .* has not answered yet\nLAST KNOWN: PROCEED/m);
  await watching.clock.advance(2_000);
  await watching.shows(/^!! NO CONTACT for 7\.0 s, .*no answer within 5 s/m);
  await watching.clock.advance(2_000);
  await untilTrue(async () => asked.length === 3);
  t.equal(asked.length, 3, 'it asks again');
  t.equal(await watching.interrupt(), 0, 'and a request under way keeps nobody from ending it');
});

t.test('watch gives the terminal back on Ctrl-C, and after an error of its own', async (t) => {
  const status = await ownStatus(t);
  let answer: unknown = status;
  const { url } = await standInService(t, () => [200, answer]);
  const listeners = (): number[] =>
    ['SIGINT', 'SIGTERM', 'SIGWINCH', 'exit'].map((name) => process.listenerCount(name));
  const before = listeners();
  const first = startWatch(t, url, { isTTY: true });
  await first.shows(/PROCEED/);
  t.ok(first.out().startsWith(ENTER));
  t.equal(await first.interrupt(), 0);
  t.ok(first.out().endsWith(LEAVE));
  t.equal(first.out().split(ENTER).length, 2, 'entered once');

  const second = startWatch(t, url, { isTTY: true });
  await second.shows(/PROCEED/);
  answer = { ...status, nodes: null };
  await second.clock.advance(2_000);
  t.equal(await second.code, 1);
  t.ok(second.out().endsWith(LEAVE));
  t.match(second.err(), /a mistake of this program/);
  t.same(listeners(), before, 'nothing listens any more');
});

t.test('watch fits the terminal, repaints when its size changes, and leaves a dumb one alone', async (t) => {
  const { url } = await standInService(t, () => [200, status]);
  const status = await ownStatus(t);
  const watching = startWatch(t, url, { isTTY: true });
  await watching.shows(/NEARNESS +WARNING +STOP +MARGIN/);
  watching.terminal.columns = 60;
  watching.terminal.rows = 10;
  process.emit('SIGWINCH');
  const small = watching.screen();
  t.equal(small.length, 10);
  t.ok(small.every((line) => line.length < 60));
  t.match(small.join('\n'), /READING +VALUE +MARGIN +STATE\n.*\n[\s\S]* {2}\+\d+ more\nevery 2 s, Ctrl-C ends$/);
  await watching.interrupt();

  const dumb = startWatch(t, url, { isTTY: true, env: { TERM: 'dumb' } });
  await untilTrue(async () => dumb.out() !== '');
  t.match(dumb.out(), /^\S+Z PROCEED clear/);
  t.notMatch(dumb.out(), new RegExp(ESCAPE));
});

t.test('screenLines() puts the worst reading first, and says it in words', async (t) => {
  const status = await ownStatus(t);
  const [node] = status.nodes;
  if (!node) throw new Error('the rig has a node');
  const temperature = {
    component: 'cpu',
    quantity: 'temperature',
    unit: '°C',
    limits: { warning: 90, hardStop: 95 },
  } as const;
  const share = { component: 'cpu', quantity: 'utilization', unit: 'ratio', limits: { max: 0.8 } } as const;
  const power = {
    component: 'system',
    quantity: 'total-power',
    unit: 'W',
    limits: { warning: 2000, hardStop: 2200 },
  } as const;
  const readings: ReadingStatus[] = [
    { ...share, id: 'shown', value: 0.99, informational: true },
    { ...power, missing: 'no-sensor', detail: 'none', required: false, waived: false },
    { ...temperature, id: 'cool', value: 40 },
    { ...temperature, id: 'near', value: 89.9 },
    { ...share, id: 'full', value: 0.8 },
    { ...share, id: 'over', value: 0.801 },
    { ...temperature, id: 'warm', value: 90 },
    { ...temperature, id: 'unread', missing: 'unreadable', detail: 'EIO', required: true, waived: false },
    { ...temperature, id: 'hot', value: 95 },
  ];
  const told = { ...status, nodes: [{ ...node, readings }] };
  const lines = screenLines(seenOf(told), { columns: 120, rows: 50 }, plain);
  const rows = lines
    .slice(lines.findIndex((line) => /READING/.test(line)) + 1)
    .filter((line) => /^ {2}(cpu|total)/.test(line));
  t.same(
    rows.map((line) => line.trim().split(/ {2,}/)),
    [
      ['cpu hot temperature', '95.0 °C', '██████████', '90 °C', '95 °C', '0.0 °C', 'HARD STOP'],
      ['cpu unread temperature', '-', '90 °C', '95 °C', 'MISSING', 'unreadable: EIO'],
      ['cpu over utilization', '80.1 %', '██████████', 'max 80 %', '-0.1 %', 'OVER MAX'],
      ['cpu warm temperature', '90.0 °C', '█████████░', '90 °C', '95 °C', '5.0 °C', 'WARNING'],
      ['cpu full utilization', '80.0 %', '██████████', 'max 80 %', '0.0 %', 'ok'],
      ['cpu near temperature', '89.9 °C', '█████████░', '90 °C', '95 °C', '5.1 °C', 'ok'],
      ['cpu cool temperature', '40.0 °C', '████░░░░░░', '90 °C', '95 °C', '55.0 °C', 'ok'],
      ['total power', '-', '2000 W', '2200 W', 'optional', 'no-sensor: none'],
      ['cpu shown utilization', '99.0 %', '██████████', 'max 80 %', '-19.0 %', 'shown'],
    ],
  );
});

t.test('screenLines() calls an evaluation old from 1.5 intervals on, its own waiting included', async (t) => {
  const status = await ownStatus(t);
  const linesAt = (lastTickAgeSeconds: number, ageSeconds: number): string => {
    const evaluation = { ...status.evaluation, lastTickAgeSeconds, intervalSeconds: 10 };
    return screenLines(seenOf({ ...status, evaluation }, { ageSeconds }), { columns: 120, rows: 50 }, plain).join('\n');
  };
  t.notMatch(linesAt(14, 1), /OLD|LAST KNOWN/);
  t.match(linesAt(14, 1.1), /^!! OLD: the service last judged 15 s ago and should every 10 s.*\nLAST KNOWN: PROCEED/m);
});

t.test('screenLines() keeps to every size and shows leases and what is unprotected where there is room', async (t) => {
  const service = await startApp(t);
  const granted = await service.ask({
    method: 'POST',
    url: '/leases',
    payload: { workload: 'train-7', intensity: 0.5 },
  });
  t.equal(granted.statusCode, 201);
  const unprotected = [{ code: 'waived', message: 'gpu-power of rig may be absent: it is waived' }] as const;
  const status = { ...((await service.ask({ url: '/status' })).json() as Status), unprotected: [...unprotected] };
  const large = screenLines(seenOf(status), { columns: 120, rows: 60 }, plain).join('\n');
  t.match(large, /\nLeases \(1\)\n {2}train-7 {2}intensity 0\.5 {2}all nodes {2}lapses in \d+ s\n/);
  t.match(large, /\nUnprotected \(1\)\n {2}gpu-power of rig may be absent/);
  // Every reading twice, on two nodes.
  const [node] = status.nodes;
  if (!node) throw new Error('the rig has a node');
  const two = { ...status, nodes: [node, { ...node, node: 'other', interlock: 'cooling' as const }] };
  t.match(
    screenLines(seenOf(two), { columns: 120, rows: 90 }, plain).join('\n'),
    /\nNodes \(2\)\n {2}other +cooling[\s\S]*bizon1 +clear/,
  );
  const painted = (text: string): string => `${ESCAPE}[31m${text}${ESCAPE}[0m`;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is taken out
  const bare = (lines: readonly string[]): string[] => lines.map((line) => line.replace(/\u001b\[\d+m/g, ''));
  const seen = seenOf(two, { failure: 'cut '.repeat(100) });
  for (let columns = 1; columns <= 130; columns += 3) {
    for (let rows = 1; rows <= 60; rows += 4) {
      const lines = screenLines(seen, { columns, rows }, plain);
      const isWrong = lines.length > rows || lines.some((line) => line.length > columns);
      if (isWrong) t.fail(`does not fit ${columns} × ${rows}`);
      const isMoved = bare(screenLines(seen, { columns, rows }, painted)).join('\n') !== lines.join('\n');
      if (isMoved) t.fail(`colour moves something on ${columns} × ${rows}`);
    }
  }
});

t.test('watch refuses an interval outside 1 to 60 s', async (t) => {
  for (const interval of ['0', '61', '1.5', 'x']) {
    t.match(await vsfSafety(['watch', '--interval', interval]), { code: 2, out: '', err: /from 1 to 60/ });
  }
  t.match(await vsfSafety(['watch', '--json']), { code: 2, err: /Unknown option/ });
});
