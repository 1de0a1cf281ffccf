// The simulated rig is what demos and drills lean on: its curves, and what each fault makes of a report.
// Where the model settles is simulated-model.test.ts, which changes are refused simulated-faults.test.ts.
import t, { type Test } from 'tap';
import { parseReading, readingKey, type SourceReport } from '../../src/domain/reading.ts';
import { createSimulatedRig, type SimulatedRig, type SimulatedState } from '../../src/sources/simulated.ts';
import type { Fault, SimulationChange } from '../../src/sources/simulated-faults.ts';
import { ManualClock } from '../support/manual-clock.ts';

const GPU_0 = 'GPU-5f5f0000-0000-4000-8000-000000000000';
const GPU_3 = 'GPU-5f5f0000-0000-4000-8000-000000000003';
const SECOND = 1000;
const MINUTE = 60 * SECOND;

function setUp(options: { gpus?: number; seed?: number } = {}): { clock: ManualClock; rig: SimulatedRig } {
  const clock = new ManualClock();
  return { clock, rig: createSimulatedRig({ node: 'ws1', clock, ...options }) };
}

const look = (rig: SimulatedRig, clock: ManualClock): Promise<SourceReport> =>
  rig.read(clock.now().elapsedMs + 5 * SECOND);

/** A reading's value by its key, `gpu/0/temperature` for the first GPU; `undefined` where it is not listed. */
function told(report: SourceReport, key: string): number | null | undefined {
  const full = key.replace(/^gpu\/(\d)/, (_, index: string) => `gpu/GPU-5f5f0000-0000-4000-8000-00000000000${index}`);
  return report.readings.find((one) => readingKey(one.component, one.id, one.quantity) === full)?.value;
}

/** The same where a number must be. */
function number(report: SourceReport, key: string): number {
  const value = told(report, key);
  if (typeof value !== 'number') throw new Error(`${key} is ${value}`);
  return value;
}

const energyOf = (report: SourceReport, gpu: string): number | undefined =>
  report.witnesses.find(({ of }) => of !== 'source' && of.gpu === gpu)?.value;

function applied(rig: SimulatedRig, change: SimulationChange): SimulatedState {
  const answer = rig.apply(change);
  if (!answer.ok) throw new Error(answer.problem);
  return answer.state;
}

function between(test: Test, value: number, low: number, high: number, name: string): void {
  test.ok(value >= low && value <= high, `${name}: ${value} lies in ${low} to ${high}`);
}

t.test('createSimulatedRig() starts as an idle workstation with every reading plausible', async (t) => {
  const { clock, rig } = setUp();
  t.match(rig, { id: 'simulated', node: 'ws1', carriesHeat: true });
  const report = await look(rig, clock);
  t.match(report, { source: 'simulated', node: 'ws1', simulated: true, outcome: { kind: 'answered' }, gpuSigns: [] });
  between(t, number(report, 'gpu/0/temperature'), 37.9, 38.1, 'GPU temperature, °C');
  between(t, number(report, 'gpu/0/power'), 29, 31, 'GPU power, W');
  between(t, number(report, 'cpu//temperature'), 44.9, 45.1, 'CPU temperature, °C');
  t.equal(report.readings.length, 4 * 4 + 5);
  for (const reading of report.readings) {
    t.ok(parseReading(reading.quantity, reading.value ?? Number.NaN).ok, `${reading.component} ${reading.quantity}`);
  }
  t.strictSame(report.gpus[3], {
    id: GPU_3,
    uuid: GPU_3,
    pciAddress: '0000:04:00.0',
    name: 'Simulated GPU',
    vendor: 'nvidia',
    required: true,
  });
  t.strictSame(report.hardwareLimits[0], { component: 'gpu', id: GPU_0, targetC: 83, enforcedPowerW: 280 });
  t.strictSame(
    report.witnesses.map(({ of }) => of),
    ['source', ...report.gpus.map(({ id }) => ({ gpu: id }))],
  );
});

t.test('createSimulatedRig() takes 0 to 32 GPUs', async (t) => {
  const { clock, rig } = setUp({ gpus: 0 });
  t.strictSame((await look(rig, clock)).gpus, []);
  const many = setUp({ gpus: 32 });
  const { gpus } = await look(many.rig, many.clock);
  t.equal(new Set(gpus.flatMap(({ id, pciAddress }) => [id, pciAddress])).size, 64);
  for (const count of [-1, 33, 1.5, Number.NaN]) {
    t.throws(() => setUp({ gpus: count }), { message: /0 to 32/ }, `${count}`);
  }
});

t.test('read() heats up along an exponential to full load, below every temperature and power warning', async (t) => {
  const { clock, rig } = setUp();
  applied(rig, { load: 1 });
  const curve: number[] = [];
  for (let second = 0; second < 600; second += 10) {
    curve.push(number(await look(rig, clock), 'gpu/1/temperature'));
    await clock.advance(10 * SECOND);
  }
  const at = (second: number): number => curve[second / 10] ?? Number.NaN;
  between(t, at(0), 37.9, 38.1, 'no jump at the change');
  between(t, at(40), 38 + 34 * 0.63, 38 + 34 * 0.635, '63 % after one time constant of 40 s');
  between(t, at(120), 38 + 34 * 0.948, 38 + 34 * 0.953, '95 % after three');
  const report = await look(rig, clock);
  between(t, number(report, 'gpu/1/temperature'), 71.9, 72.1, 'GPU temperature, °C');
  between(t, number(report, 'gpu/1/power'), 238, 242, 'GPU power, W');
  between(t, number(report, 'gpu/1/memory'), 0.6, 0.8, 'GPU memory');
  between(t, number(report, 'cpu//temperature'), 74.9, 75.1, 'CPU temperature, °C');
  between(t, number(report, 'cpu//power'), 199, 201, 'CPU power, W');
  // (4 · 240 + 200 + 120) / 0.9
  between(t, number(report, 'system//total-power'), 1418, 1427, 'total power, W');
  between(t, number(report, 'memory//memory'), 0.4, 0.6, 'memory');
});

t.test('read() cools down from the moment at which the load ends', async (t) => {
  const { clock, rig } = setUp();
  applied(rig, { load: 1 });
  await clock.advance(10 * MINUTE);
  applied(rig, { load: 0 });
  const hot = await look(rig, clock);
  between(t, number(hot, 'gpu/0/temperature'), 71.9, 72.1, 'still hot, though nobody looked before');
  between(t, number(hot, 'gpu/0/power'), 29, 31, 'power falls at once');
  await clock.advance(40 * SECOND);
  between(t, number(await look(rig, clock), 'gpu/0/temperature'), 50.4, 50.7, '37 % of the rise after 40 s');
});

t.test('read() gives the same curve whatever the steps between two looks', async (t) => {
  const often = setUp();
  const seldom = setUp();
  for (const { rig } of [often, seldom]) {
    applied(rig, { load: 0.9, ambientC: 30, faults: [{ kind: 'fan-failed', gpu: 1 }] });
  }
  for (let step = 0; step < 90; step++) {
    await often.clock.advance(SECOND);
    await look(often.rig, often.clock);
  }
  await seldom.clock.advance(90 * SECOND);
  const [a, b] = [await look(often.rig, often.clock), await look(seldom.rig, seldom.clock)];
  for (const { component, id, quantity, value } of a.readings) {
    const key = readingKey(component, id, quantity);
    t.ok(Math.abs(number(b, key) - (value ?? Number.NaN)) < 1e-9, key);
  }
  t.ok(Math.abs((energyOf(a, GPU_3) ?? Number.NaN) - (energyOf(b, GPU_3) ?? 0)) <= 1, 'energy');
});

t.test('read() repeats a run from its seed, and no reading repeats itself within a run', async (t) => {
  const run = async (seed: number): Promise<SourceReport[]> => {
    const { clock, rig } = setUp({ seed });
    const reports: SourceReport[] = [];
    for (let second = 0; second < 60; second++) {
      reports.push(await look(rig, clock));
      await clock.advance(SECOND);
    }
    return reports;
  };
  const [first, again, other] = [await run(7), await run(7), await run(8)];
  t.strictSame(again, first);
  const keys = (first[0]?.readings ?? []).map((one) => readingKey(one.component, one.id, one.quantity));
  for (const key of keys) {
    const values = first.map((report) => number(report, key));
    t.equal(new Set(values).size, values.length, `${key} is bit-identical in no two looks`);
    t.not(other[0] && number(other[0], key), values[0], `${key} has other noise from another seed`);
  }
});

t.test('witnesses rise with every millisecond, and the energy counter is the integral of the power', async (t) => {
  const { clock, rig } = setUp();
  const before = await look(rig, clock);
  await clock.advance(1);
  const after = await look(rig, clock);
  for (const [index, { value }] of before.witnesses.entries()) {
    t.ok(value > 0 && (after.witnesses[index]?.value ?? 0) > value, `witness ${index} rises from ${value}`);
  }
  applied(rig, { load: 1 });
  await clock.advance(MINUTE);
  const drawnMj = (energyOf(await look(rig, clock), GPU_0) ?? 0) - (energyOf(after, GPU_0) ?? 0);
  t.equal(drawnMj, 240 * 60 * 1000);
});

t.test('apply() pins a reading at exactly the value that a fault gives, and only that reading', async (t) => {
  const pins: [Fault, string, number][] = [
    [{ kind: 'gpu-temperature', gpu: 2, valueC: 84.9 }, 'gpu/2/temperature', 84.9],
    [{ kind: 'gpu-temperature', gpu: GPU_3.toUpperCase(), valueC: 85 }, 'gpu/3/temperature', 85],
    [{ kind: 'gpu-power', gpu: 0, valueW: 300 }, 'gpu/0/power', 300],
    [{ kind: 'gpu-memory', gpu: 1, ratio: 0.9 }, 'gpu/1/memory', 0.9],
    [{ kind: 'cpu-temperature', valueC: 90 }, 'cpu//temperature', 90],
    [{ kind: 'cpu-utilization', ratio: 1 }, 'cpu//utilization', 1],
    [{ kind: 'memory', ratio: 0 }, 'memory//memory', 0],
    [{ kind: 'total-power', valueW: 2199.9 }, 'system//total-power', 2199.9],
  ];
  for (const [fault, key, value] of pins) {
    const { clock, rig } = setUp();
    const healthy = await look(rig, clock);
    t.strictSame(applied(rig, { faults: [fault] }).faults, [fault]);
    const report = await look(rig, clock);
    t.equal(told(report, key), value, `${fault.kind} gives ${key}`);
    const changed = report.readings.filter((reading, index) => reading.value !== healthy.readings[index]?.value);
    t.match(changed, [{ origin: `fault ${fault.kind}` }]);
    t.equal(changed.length, 1, `${fault.kind} changes one reading`);

    await clock.advance(SECOND);
    const later = await look(rig, clock);
    t.equal(told(later, key), value, `${fault.kind} holds`);
    t.ok((energyOf(later, GPU_0) ?? 0) > (energyOf(report, GPU_0) ?? 0), 'the energy counter goes on');
    applied(rig, { faults: [] });
    t.not(told(await look(rig, clock), key), value, `${fault.kind} ends with an empty list`);
  }
});

t.test('apply() takes a GPU off the bus with gpu-lost, whatever else is wrong with it', async (t) => {
  const { clock, rig } = setUp();
  applied(rig, {
    faults: [
      { kind: 'gpu-lost', gpu: 3 },
      { kind: 'gpu-temperature', gpu: 3, valueC: 99 },
      { kind: 'hardware-throttle', gpu: 3, reason: 'hw_thermal_slowdown' },
    ],
  });
  const report = await look(rig, clock);
  t.equal(report.gpus.length, 3);
  t.notOk(JSON.stringify(report).includes(GPU_3));
  t.equal(report.readings.length, 3 * 4 + 5);
});

t.test('apply() makes one sensor tell a number that is none', async (t) => {
  const values = [
    ['NaN', Number.NaN],
    ['Infinity', Number.POSITIVE_INFINITY],
    ['-Infinity', Number.NEGATIVE_INFINITY],
    [0, 0],
    [-1, -1],
    [125.1, 125.1],
  ] as const;
  for (const [value, expected] of values) {
    const { clock, rig } = setUp();
    applied(rig, { faults: [{ kind: 'reading-invalid', component: 'gpu', gpu: 0, quantity: 'temperature', value }] });
    const reading = (await look(rig, clock)).readings.find(
      ({ id, quantity }) => id === GPU_0 && quantity === 'temperature',
    );
    t.ok(Object.is(reading?.value, expected), `${value}`);
    t.notOk('cause' in (reading ?? {}), 'a number carries no cause');
  }
});

t.test('apply() leaves a listed sensor without a value, with the cause', async (t) => {
  const { clock, rig } = setUp();
  applied(rig, {
    faults: [
      { kind: 'reading-missing', component: 'cpu', quantity: 'temperature' },
      { kind: 'reading-invalid', component: 'system', quantity: 'total-power', value: null },
    ],
  });
  const { readings } = await look(rig, clock);
  t.match(
    readings.filter(({ value }) => value === null),
    [
      { component: 'cpu', quantity: 'temperature', cause: 'unreadable', origin: 'fault reading-missing' },
      { component: 'system', quantity: 'total-power', cause: 'invalid', origin: 'fault reading-invalid' },
    ],
  );
});

t.test('apply() lets the last of several faults on one reading win', async (t) => {
  const { clock, rig } = setUp();
  applied(rig, {
    faults: [
      { kind: 'reading-missing', component: 'cpu', quantity: 'temperature' },
      { kind: 'cpu-temperature', valueC: 91 },
    ],
  });
  const reading = (await look(rig, clock)).readings.find(({ origin }) => origin === 'fault cpu-temperature');
  t.equal(reading?.value, 91);
  t.notOk('cause' in (reading ?? {}), 'nothing of the first is left');
});

t.test('apply() freezes readings and witnesses at the last answer, and thaws to the present', async (t) => {
  const { clock, rig } = setUp();
  applied(rig, { load: 1 });
  const last = await look(rig, clock);
  applied(rig, { faults: [{ kind: 'frozen' }, { kind: 'gpu-temperature', gpu: 0, valueC: 99 }] });
  await clock.advance(MINUTE);
  const frozen = await look(rig, clock);
  t.strictSame(frozen.readings, last.readings);
  t.strictSame(frozen.witnesses, last.witnesses);
  t.equal(frozen.startedAtMs, clock.now().elapsedMs, 'a frozen source answers now');
  applied(rig, { faults: [] });
  const thawed = await look(rig, clock);
  t.ok(number(thawed, 'gpu/0/temperature') > number(last, 'gpu/0/temperature') + 20);
  t.ok((energyOf(thawed, GPU_0) ?? 0) > (energyOf(last, GPU_0) ?? 0));
});

t.test('apply() freezes a rig that never answered at its first answer', async (t) => {
  const { clock, rig } = setUp();
  applied(rig, { faults: [{ kind: 'frozen' }] });
  const first = await look(rig, clock);
  t.equal(first.outcome.kind, 'answered');
  await clock.advance(MINUTE);
  t.strictSame((await look(rig, clock)).readings, first.readings);
});

t.test('apply() makes the source fail at once, without any reading', async (t) => {
  const { clock, rig } = setUp();
  applied(rig, { faults: [{ kind: 'source-failed' }] });
  const report = await look(rig, clock);
  t.match(report, { outcome: { kind: 'failed', cause: 'failed', detail: /source-failed/ }, simulated: true });
  t.strictSame([report.readings, report.gpus, report.witnesses], [[], [], []]);
  applied(rig, { faults: [] });
  t.equal((await look(rig, clock)).outcome.kind, 'answered');
});

t.test('read() of a hung source ends at its deadline, not before and not after', async (t) => {
  const { clock, rig } = setUp();
  applied(rig, { faults: [{ kind: 'source-hung' }] });
  let report: SourceReport | undefined;
  const reading = look(rig, clock).then((answer) => {
    report = answer;
  });
  await clock.advance(5 * SECOND - 1);
  t.equal(report, undefined);
  await clock.advance(1);
  await reading;
  t.match(report, {
    outcome: { kind: 'failed', cause: 'timeout', detail: /within 5000 ms/ },
    finishedAtMs: clock.now().elapsedMs,
    simulated: true,
    readings: [],
  });
  applied(rig, { faults: [] });
  t.equal((await look(rig, clock)).outcome.kind, 'answered', 'the next look is a new one');
});

t.test('read() joins a look under way, and each caller has its own deadline', async (t) => {
  const { clock, rig } = setUp();
  const [one, two] = await Promise.all([look(rig, clock), look(rig, clock)]);
  t.equal(one, two, 'one look, one report');

  applied(rig, { faults: [{ kind: 'source-hung' }] });
  const startMs = clock.now().elapsedMs;
  const patient = rig.read(startMs + 5 * SECOND);
  await clock.advance(SECOND);
  const hasty = rig.read(startMs + 2 * SECOND);
  await clock.advance(SECOND);
  t.match(await hasty, {
    outcome: { kind: 'failed', cause: 'timeout', detail: /within 1000 ms/ },
    finishedAtMs: startMs + 2 * SECOND,
  });
  await clock.advance(3 * SECOND);
  t.match(await patient, { outcome: { kind: 'failed', cause: 'timeout' }, finishedAtMs: startMs + 5 * SECOND });
});

t.test('close() ends a hung look at once, and every later one fails', async (t) => {
  const { clock, rig } = setUp();
  applied(rig, { faults: [{ kind: 'source-hung' }] });
  const reading = look(rig, clock);
  await rig.close();
  const failed = { outcome: { kind: 'failed', cause: 'failed', detail: /closed/ } };
  t.match(await reading, failed);
  applied(rig, { faults: [] });
  t.match(await look(rig, clock), failed);
});

t.test('apply() reports a throttled GPU with its reason', async (t) => {
  const { clock, rig } = setUp();
  applied(rig, { faults: [{ kind: 'hardware-throttle', gpu: 0, reason: 'hw_power_brake' }] });
  t.strictSame((await look(rig, clock)).throttledGpus, [{ gpu: GPU_0, reason: 'hw_power_brake' }]);
});

t.test('apply() heats a GPU without a fan slowly past its hard stop, and its neighbours not', async (t) => {
  const { clock, rig } = setUp();
  applied(rig, { load: 0.8, faults: [{ kind: 'fan-failed', gpu: 2 }] });
  await clock.advance(10 * SECOND);
  const early = number(await look(rig, clock), 'gpu/2/temperature');
  t.ok(early < 50, `${early} °C after 10 s: no jump`);
  await clock.advance(110 * SECOND);
  const report = await look(rig, clock);
  between(t, number(report, 'gpu/2/temperature'), 80, 90, 'without a fan after two minutes');
  between(t, number(report, 'gpu/1/temperature'), 60, 67, 'with one');
  applied(rig, { faults: [] });
  await clock.advance(10 * MINUTE);
  between(t, number(await look(rig, clock), 'gpu/2/temperature'), 60, 67, 'the fan turns again');
});

t.test('describe() tells the rig as it is, not as its faults tell it', async (t) => {
  const { clock, rig } = setUp();
  applied(rig, { load: 1, ambientC: 30, faults: [{ kind: 'gpu-temperature', gpu: 0, valueC: 99 }] });
  await clock.advance(10 * MINUTE);
  const state = rig.describe();
  t.match(state, {
    node: 'ws1',
    load: 1,
    ambientC: 30,
    faults: [{ kind: 'gpu-temperature', gpu: 0, valueC: 99 }],
    cpu: { powerW: 200 },
  });
  between(t, state.gpus[0]?.temperatureC ?? 0, 79.9, 80, 'true GPU temperature');
  t.match(state.gpus[3], { id: GPU_3, powerW: 240 });
  between(t, state.totalPowerW, 1422, 1423, 'total power');
});
