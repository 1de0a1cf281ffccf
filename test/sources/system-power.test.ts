import t, { type Test } from 'tap';
import { parseReading, type RawReading, type SourceReport } from '../../src/domain/reading.ts';
import type { Source } from '../../src/sources/source.ts';
import { createSystemPower } from '../../src/sources/system-power.ts';
import { chip } from '../fixtures/sysfs-cpu.ts';
import { acpiMeter, corsairSupply, PARTS_ONLY, pmbusSupply, TWO_SOCKETS_OF_RAPL } from '../fixtures/sysfs-power.ts';
import { ManualClock } from '../support/manual-clock.ts';
import {
  FAILS_WITH_EIO,
  layOut,
  NEVER_ANSWERS,
  type SysfsTree,
  type TreeTable,
  whileTimePasses,
} from '../support/sysfs-tree.ts';

interface Machine {
  readonly tree: SysfsTree;
  readonly clock: ManualClock;
  readonly source: Source;
  /** A look that needs no time. */
  glance(): Promise<SourceReport>;
}

async function machineWith(t: Test, table: TreeTable): Promise<Machine> {
  const tree = await layOut(t, table);
  const clock = new ManualClock();
  const source = createSystemPower({ node: 'bizon1', clock, root: tree.root });
  return { tree, clock, source, glance: () => source.read(clock.now().elapsedMs + 500) };
}

const totalsOf = ({ readings }: SourceReport): RawReading[] =>
  readings.filter(({ quantity }) => quantity === 'total-power');

async function totals(t: Test, table: TreeTable): Promise<RawReading[]> {
  return totalsOf(await (await machineWith(t, table)).glance());
}

t.test('SystemPower.read() takes the average of an ACPI power meter for the total', async (t) => {
  const { source, glance, clock } = await machineWith(t, { ...acpiMeter('hwmon4'), ...PARTS_ONLY });
  t.match(source, { id: 'system-power', node: 'bizon1', carriesHeat: true });
  const report = await glance();
  t.match(report, {
    source: 'system-power',
    node: 'bizon1',
    startedAtMs: clock.now().elapsedMs,
    outcome: { kind: 'answered' },
  });
  t.strictSame(report.readings, [
    {
      component: 'system',
      quantity: 'total-power',
      value: 412,
      origin: 'ACPI power meter, /sys/class/hwmon/hwmon4/power1_average, average over 1 s',
      rank: 4,
    },
  ]);
});

t.test('SystemPower.read() adds the totals of the supplies, and never a rail', async (t) => {
  const [one] = await totals(t, corsairSupply('hwmon2', '741000000'));
  t.match(one, { value: 741, rank: 5, origin: 'corsairpsu power total (output), /sys/class/hwmon/hwmon2' });
  const two = await totals(t, { ...corsairSupply('hwmon2', '741000000'), ...corsairSupply('hwmon9', '655000000') });
  t.match(two, [{ value: 1396, rank: 5 }]);
  t.equal(two.length, 1);
  t.match(await totals(t, pmbusSupply('hwmon3', '332000000')), [
    { value: 332, origin: 'ps1 pin (input), /sys/class/hwmon/hwmon3' },
  ]);
});

t.test('SystemPower.read() counts a supply in standby as the 0 W that it gives', async (t) => {
  t.match(await totals(t, { ...pmbusSupply('hwmon3', '332000000'), ...pmbusSupply('hwmon4', '0') }), [{ value: 332 }]);
  const [both] = await totals(t, { ...pmbusSupply('hwmon3', '0'), ...pmbusSupply('hwmon4', '0') });
  t.equal(both?.value, 0);
  t.equal(parseReading('total-power', 0).ok, false, 'which the domain refuses');
});

t.test('SystemPower.read() passes sentinels on, in a sum, too, for the domain to refuse', async (t) => {
  const [meter] = await totals(t, acpiMeter('hwmon4', { power1_average: '4294967295000' }));
  t.equal(meter?.value, 4294967.295, '0xFFFFFFFF mW (lm-sensors issue 460)');
  const [inMicrowatts] = await totals(t, acpiMeter('hwmon4', { power1_average: '4294967295' }));
  t.equal(parseReading('total-power', Number(inMicrowatts?.value)).ok, false, '0xFFFFFFFF µW');
  for (const broken of ['4294967295000', '4294967295', '-331000000']) {
    const [sum] = await totals(t, { ...pmbusSupply('hwmon3', '332000000'), ...pmbusSupply('hwmon4', broken) });
    t.equal(sum?.value, Number(broken) / 1e6);
    t.equal(parseReading('total-power', Number(sum?.value)).ok, false);
  }
});

t.test('SystemPower.read() gives meter and supplies each its rank, and mixes none', async (t) => {
  const both = { ...corsairSupply('hwmon2', '741000000'), ...acpiMeter('hwmon4') };
  t.match(await totals(t, both), [
    { value: 412, rank: 4 },
    { value: 741, rank: 5 },
  ]);
  const broken = { ...both, '/sys/class/hwmon/hwmon4/power1_average': FAILS_WITH_EIO };
  t.match(await totals(t, broken), [
    { value: null, cause: 'unreadable', rank: 4 },
    { value: 741, rank: 5 },
  ]);
});

t.test('SystemPower.read() tells why a meter gives nothing', async (t) => {
  for (const [power1_average, cause] of [
    ['', 'unreadable'],
    ['unknown', 'invalid'],
  ] as const) {
    t.match(await totals(t, acpiMeter('hwmon4', { power1_average })), [{ value: null, cause }]);
  }
  t.match(await totals(t, chip('hwmon4', 'power_meter', {})), [{ value: null, cause: 'no-sensor' }]);
  const [battery] = await totals(t, acpiMeter('hwmon4', { power1_is_battery: '1' }));
  t.match(battery, { value: null, cause: 'no-sensor', origin: /measures a battery/ });
});

t.test('SystemPower.read() has no sum without one of its supplies', async (t) => {
  const pair = { ...pmbusSupply('hwmon3', '332000000'), ...pmbusSupply('hwmon4', '341000000') };
  const unreadable = { ...pair, '/sys/class/hwmon/hwmon4/power1_input': FAILS_WITH_EIO };
  t.match(await totals(t, unreadable), [{ value: null, cause: 'unreadable', origin: /hwmon4\/power1_input: EIO/ }]);
  const unlabelled = { ...pair, '/sys/class/hwmon/hwmon4/power1_label': FAILS_WITH_EIO };
  t.match(await totals(t, unlabelled), [{ value: null, cause: 'unreadable' }]);

  const { tree, glance } = await machineWith(t, pair);
  t.match(totalsOf(await glance()), [{ value: 673 }]);
  await tree.remove('/sys/class/hwmon/hwmon3');
  const gone = { value: null, cause: 'gone', origin: /1 of the 2 power supplies .* are there/ };
  t.match(totalsOf(await glance()), [gone], 'half of the load is not the load');
  await tree.remove('/sys/class/hwmon/hwmon4');
  t.match(totalsOf(await glance()), [{ value: null, cause: 'gone' }]);
  for (const [path, entry] of Object.entries(pair)) await tree.put(path, entry);
  t.match(totalsOf(await glance()), [{ value: 673 }]);
});

t.test('SystemPower.read() takes no part of a machine for all of it, and says what it looked for', async (t) => {
  const { glance } = await machineWith(t, PARTS_ONLY);
  const report = await glance();
  t.match(totalsOf(report), [{ value: null, cause: 'no-sensor', origin: /no power meter or power supply/, rank: 4 }]);
  t.match(report.notes[0], /0 ACPI power meters and 0 power supplies .*tps53679, zenpower, amdgpu, acpitz/);
  const outputOnly = chip('hwmon3', 'ps1', { power1_label: 'pout1', power1_input: '300000000' });
  t.match(await totals(t, outputOnly), [{ value: null, cause: 'no-sensor', origin: /no sensor labelled/ }]);
});

t.test('SystemPower.read() answers honestly where there is nothing', async (t) => {
  const bare = await (await machineWith(t, {})).glance();
  t.match(bare.outcome, { kind: 'answered' });
  t.match(bare.readings, [{ quantity: 'total-power', value: null, cause: 'no-sensor', origin: /hwmon is not there/ }]);
  t.match(bare.notes, [/^Total power: \/sys\/class\/hwmon is not there/, /^CPU power: .*powercap is not there/]);
  t.match(await totals(t, { '/sys/class/hwmon': 'a file' }), [{ value: null, cause: 'unreadable', origin: /ENOTDIR/ }]);
  const unnamed = { '/sys/class/hwmon/hwmon0/name': FAILS_WITH_EIO };
  t.match(await totals(t, unnamed), [{ value: null, cause: 'unreadable', origin: /hwmon0\/name: EIO/ }]);
});

t.test('SystemPower.read() reports what the CPUs draw beside the total', async (t) => {
  const { tree, clock, glance } = await machineWith(t, { ...acpiMeter('hwmon4'), ...TWO_SOCKETS_OF_RAPL });
  await glance();
  await tree.put('/sys/class/powercap/intel-rapl:1/energy_uj', '101800000000\n');
  await clock.advance(10_000);
  const { readings } = await glance();
  t.match(readings[0], { component: 'system', value: 412 });
  t.match(
    readings.find(({ id }) => id === 'package-1'),
    { component: 'cpu', quantity: 'power', value: 180 },
  );
});

t.test('SystemPower.read() has the power of the CPUs at the first look, given a second', async (t) => {
  const { clock, source } = await machineWith(t, TWO_SOCKETS_OF_RAPL);
  const report = await whileTimePasses(clock, source.read(clock.now().elapsedMs + 5000));
  t.match(
    report.readings.find(({ id }) => id === 'package-0'),
    { value: 0, origin: /over 1\.\d s/ },
  );
});

t.test('SystemPower.read() answers by its deadline, and a later call joins the look', async (t) => {
  const { tree, clock, source } = await machineWith(t, acpiMeter('hwmon4'));
  await tree.put('/sys/class/hwmon/hwmon4/power1_average', NEVER_ANSWERS);
  const startedAtMs = clock.now().elapsedMs;
  const [short, long] = [source.read(startedAtMs + 300), source.read(startedAtMs + 5000)];
  const reports = await whileTimePasses(clock, Promise.all([short, long]));
  t.match(reports[0], { outcome: { kind: 'failed', cause: 'timeout', detail: /no answer within 300 ms/ } });
  t.match(reports[1], { outcome: { kind: 'answered' }, readings: [{ value: null, cause: 'unreadable' }] });
});

t.test('SystemPower.close() ends the wait between two reads of a counter', async (t) => {
  const { clock, source } = await machineWith(t, TWO_SOCKETS_OF_RAPL);
  const report = source.read(clock.now().elapsedMs + 5000);
  await source.close();
  t.match((await report).readings[1], { id: 'package-0', value: null, cause: 'not-yet-read' }, 'without time passing');
});
