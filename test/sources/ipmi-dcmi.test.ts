import { PassThrough } from 'node:stream';
import t, { type Test } from 'tap';
import { parseReading, type SourceReport } from '../../src/domain/reading.ts';
import type { Child, ChildEnd, Launch } from '../../src/sources/bounded-command.ts';
import { createIpmiDcmi } from '../../src/sources/ipmi-dcmi.ts';
import type { Source } from '../../src/sources/source.ts';
import { DEVICE_DENIED, dcmiAnswer, dcmiRefusal, NO_DEVICE } from '../fixtures/ipmitool-dcmi.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { standIn } from '../support/stand-in-command.ts';

interface Call {
  readonly args: string;
  readonly signals: string[];
  /** The tool prints this and ends. */
  end(stdout: string, status?: number, stderr?: string): Promise<void>;
}

interface Bench {
  readonly clock: ManualClock;
  readonly source: Source;
  readonly calls: Call[];
  /** A look of a round of 10 s. */
  look(): Promise<SourceReport>;
}

/** The source over a tool that answers when the test says so. */
function bench(t: Test): Bench {
  const clock = new ManualClock();
  const calls: Call[] = [];
  const launch: Launch = (_command, args) => {
    const [stdout, stderr] = [new PassThrough(), new PassThrough()];
    const signals: string[] = [];
    let endWith: (end: ChildEnd) => void = () => undefined;
    const ended = new Promise<ChildEnd>((resolve) => {
      endWith = resolve;
    });
    calls.push({
      args: args.join(' '),
      signals,
      async end(out, status = 0, error = '') {
        stdout.end(out);
        stderr.end(error);
        endWith({ kind: 'exited', status, signal: null });
        await clock.advance(0);
      },
    });
    const child: Child = {
      pid: 4711,
      stdout,
      stderr,
      ended,
      signal: (name) => signals.push(name),
      letGo: () => undefined,
    };
    return child;
  };
  const source = createIpmiDcmi({ node: 'bizon1', clock, env: {}, launch });
  t.teardown(() => source.close());
  return { clock, source, calls, look: () => source.read(clock.now().elapsedMs + 8000) };
}

/** What the source makes of one run of the tool. */
async function reportOn(t: Test, stdout: string, status = 0, stderr = ''): Promise<SourceReport> {
  const { calls, look } = bench(t);
  const report = look();
  await calls[0]?.end(stdout, status, stderr);
  return report;
}

t.test('IpmiDcmi.read() asks ipmitool for the power that the BMC measures', async (t) => {
  const program = await standIn(t, 'ipmitool', `cat <<'END'\n${dcmiAnswer('220')}\nEND`);
  const clock = new ManualClock();
  const source = createIpmiDcmi({ node: 'bizon1', clock, env: program.env });
  t.match(source, { id: 'ipmi-dcmi', node: 'bizon1', carriesHeat: false });
  const startedAtMs = clock.now().elapsedMs;
  t.strictSame(await source.read(startedAtMs + 4000), {
    source: 'ipmi-dcmi',
    node: 'bizon1',
    startedAtMs,
    finishedAtMs: startedAtMs,
    outcome: { kind: 'answered' },
    readings: [
      {
        component: 'system',
        quantity: 'total-power',
        value: 220,
        rank: 2,
        origin: 'BMC, ipmitool dcmi power reading, instantaneous',
        sampledAtMs: startedAtMs,
      },
    ],
    gpus: [],
    gpuSigns: [],
    witnesses: [],
    throttledGpus: [],
    hardwareLimits: [],
    notes: [],
  });
  t.strictSame(await program.calls(), ['dcmi power reading']);
});

t.test('IpmiDcmi.read() passes numbers on as they are, for the domain to refuse', async (t) => {
  for (const [watts, isPlausible] of [
    ['0', false],
    ['1', true],
    ['2212', true],
    ['65535', false],
  ] as const) {
    const { readings } = await reportOn(t, dcmiAnswer(watts));
    t.equal(readings[0]?.value, Number(watts));
    t.equal(parseReading('total-power', Number(watts)).ok, isPlausible, watts);
  }
});

t.test('IpmiDcmi.read() takes nothing for a number that is not one in a whole answer', async (t) => {
  for (const text of [
    dcmiAnswer('na'),
    dcmiAnswer('-1'),
    dcmiAnswer('220.5'),
    dcmiAnswer('220,5'),
    dcmiAnswer('0x1F'),
    dcmiAnswer('1234567'),
    dcmiAnswer('220').replace('220 Watts', '220'),
    dcmiAnswer('220').replace('220 Watts', '220 W'),
    dcmiAnswer('220').replace('220 Watts', '220 Watts peak'),
    dcmiAnswer('220').replace('Instantaneous power', 'Power'),
    dcmiAnswer('220').slice(0, -30),
    dcmiAnswer('2200').slice(0, 60),
    'Total power: 220 Watts\n',
    '',
  ]) {
    const report = await reportOn(t, text);
    t.match(report, { outcome: { kind: 'answered' }, readings: [{ value: null, cause: 'invalid', rank: 2 }] }, text);
    t.ok((report.readings[0]?.origin.length ?? 999) <= 120);
  }
});

t.test('IpmiDcmi.read() calls a reading that the BMC calls deactivated an estimate', async (t) => {
  const { readings } = await reportOn(t, dcmiAnswer('235', 'deactivated'));
  t.match(readings, [{ value: 235, estimated: true, origin: /the BMC calls it deactivated/ }]);
});

t.test('IpmiDcmi.read() says why there is nothing to be had, and asks again only after five minutes', async (t) => {
  for (const [stdout, status, stderr, cause, note] of [
    ['', 1, NO_DEVICE, 'no-sensor', /no \/dev\/ipmi0: no BMC, or its drivers/],
    ['', 1, DEVICE_DENIED, 'unreadable', /permission denied: run as root/],
    [dcmiRefusal('Invalid command', 'c1'), 0, '', 'not-supported', /"Invalid command" \(c1\)/],
    ['', 1, dcmiRefusal('Invalid command', 'C1'), 'not-supported', /measures no power/],
    ['', 1, dcmiRefusal('Invalid data field in request', 'cc'), 'not-supported', /\(cc\)/],
  ] as const) {
    const { calls, look, clock } = bench(t);
    const first = look();
    await calls[0]?.end(stdout, status, stderr);
    const told = { outcome: { kind: 'answered' }, readings: [{ value: null, cause }], notes: [note] };
    t.match(await first, told, String(note));
    await clock.advance(299_999);
    t.match(await look(), told);
    t.equal(calls.length, 1);
    await clock.advance(1);
    const again = look();
    await calls[1]?.end(dcmiAnswer('220'));
    t.match((await again).readings, [{ value: 220 }]);
  }
});

t.test('IpmiDcmi.read() answers where ipmitool is not installed', async (t) => {
  const source = createIpmiDcmi({ node: 'n', clock: new ManualClock(), env: { PATH: '/nonexistent' } });
  t.match(await source.read(1_004_000), {
    outcome: { kind: 'answered' },
    readings: [{ value: null, cause: 'no-sensor', origin: 'ipmitool is not installed' }],
    notes: [/ipmitool is not installed/],
  });
});

t.test('IpmiDcmi.read() fails with the BMC and recovers with it', async (t) => {
  const { calls, look, clock } = bench(t);
  for (const [stdout, status, stderr, detail] of [
    [dcmiRefusal('Node busy', 'c0'), 0, '', /refuses with "Node busy" \(c0\)/],
    ['', 1, dcmiRefusal('Timeout', 'c3'), /"Timeout" \(c3\)/],
    ['', 1, 'Get Device ID command failed\n', /status 1: Get Device ID command failed/],
    [dcmiAnswer('220'), 1, '', /status 1: Instantaneous power reading/],
  ] as const) {
    const report = look();
    await calls.at(-1)?.end(stdout, status, stderr);
    t.match(await report, { outcome: { kind: 'failed', cause: 'failed', detail }, readings: [] }, String(detail));
    await clock.advance(10_000);
  }
  const report = look();
  await calls.at(-1)?.end(dcmiAnswer('220'));
  t.match(await report, { outcome: { kind: 'answered' }, readings: [{ value: 220 }] });
});

t.test('IpmiDcmi.read() asks every ten seconds, and gives the last answer with its time until then', async (t) => {
  const { calls, look, clock } = bench(t);
  const startedAtMs = clock.now().elapsedMs;
  const first = look();
  await calls[0]?.end(dcmiAnswer('220'));
  await first;
  await clock.advance(9_499);
  t.match((await look()).readings, [{ value: 220, sampledAtMs: startedAtMs }]);
  t.equal(calls.length, 1);
  await clock.advance(1);
  const second = look();
  await calls[1]?.end(dcmiAnswer('230'));
  t.match((await second).readings, [{ value: 230, sampledAtMs: startedAtMs + 9_500 }]);
  t.strictSame(
    calls.map(({ args }) => args),
    ['dcmi power reading', 'dcmi power reading'],
  );
});

t.test('IpmiDcmi.read() does not hold a round up for a slow BMC, and asks it one question at a time', async (t) => {
  const { calls, look, clock } = bench(t);
  const startedAtMs = clock.now().elapsedMs;
  const early = look();
  await clock.advance(1000);
  t.match(await early, {
    outcome: { kind: 'answered' },
    finishedAtMs: startedAtMs + 1000,
    readings: [{ value: null, cause: 'not-yet-read', origin: /first question for 1 s/ }],
  });
  await clock.advance(39_000);
  await calls[0]?.end(dcmiAnswer('1730'));

  const afterwards = look();
  await clock.advance(1000);
  const report = await afterwards;
  t.match(report.readings, [{ value: 1730, sampledAtMs: startedAtMs }], 'as old as its question: 40 s');
  t.match(report.notes, [/not answered for 1 s; its last answer stands/]);
  t.equal(calls.length, 2, 'the next question is under way');
  await clock.advance(30_000);
  const meanwhile = look();
  await clock.advance(1000);
  t.match((await meanwhile).readings, [{ value: 1730, sampledAtMs: startedAtMs }], 'ageing');
  t.equal(calls.length, 2, 'and none beside it');
});

t.test('IpmiDcmi.read() keeps to a deadline that is shorter than its patience', async (t) => {
  const { source, clock } = bench(t);
  const report = source.read(clock.now().elapsedMs + 200);
  await clock.advance(200);
  t.match(await report, { readings: [{ cause: 'not-yet-read' }] });
});

t.test(
  'IpmiDcmi.read() ends a call that hangs for a minute, and starts none beside one that cannot be ended',
  async (t) => {
    const { calls, look, clock } = bench(t);
    const first = look();
    await clock.advance(60_000);
    await first;
    t.strictSame(calls[0]?.signals, ['SIGTERM', 'SIGKILL']);
    const failed = { outcome: { kind: 'failed', cause: 'unkillable' } };
    t.match(await look(), failed);
    await clock.advance(10_000);
    t.match(await look(), failed);
    t.equal(calls.length, 1);
    await calls[0]?.end('');
    await clock.advance(10_000);
    const later = look();
    await calls[1]?.end(dcmiAnswer('220'));
    t.match((await later).readings, [{ value: 220 }], 'asked again once it has gone');
  },
);

t.test('IpmiDcmi.close() lets a call under way go', async (t) => {
  const { calls, look, source, clock } = bench(t);
  const report = look();
  await source.close();
  await clock.advance(0);
  t.strictSame(calls[0]?.signals, ['SIGTERM']);
  t.match(await report, { outcome: { kind: 'failed', detail: /closed/ } });
});
