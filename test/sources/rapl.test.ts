import { chmod } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { RawReading } from '../../src/domain/reading.ts';
import { type CpuPower, Rapl } from '../../src/sources/rapl.ts';
import { Sysfs } from '../../src/sources/sysfs.ts';
import { energyFile, raplZone, TWO_SOCKETS_OF_RAPL } from '../fixtures/sysfs-power.ts';
import { asNobody } from '../support/as-nobody.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { FAILS_WITH_EINVAL, FAILS_WITH_EIO, layOut, type SysfsTree, type TreeTable } from '../support/sysfs-tree.ts';

interface Machine {
  readonly tree: SysfsTree;
  readonly clock: ManualClock;
  /** One read of each counter, without time for a second. */
  read(): Promise<CpuPower>;
  /** Sets counters, µJ, ten seconds after the last read, and reads them. */
  tenSecondsLater(energiesUj: Readonly<Record<string, number>>): Promise<CpuPower>;
}

async function machineWith(t: Test, table: TreeTable): Promise<Machine> {
  const tree = await layOut(t, table);
  const clock = new ManualClock();
  const rapl = new Rapl(new Sysfs({ clock, root: tree.root }), clock, new AbortController().signal);
  const read = () => rapl.read(clock.now().elapsedMs + 500);
  const tenSecondsLater = async (energiesUj: Readonly<Record<string, number>>) => {
    for (const [entry, energyUj] of Object.entries(energiesUj)) await tree.put(energyFile(entry), `${energyUj}\n`);
    await clock.advance(10_000);
    return read();
  };
  return { tree, clock, read, tenSecondsLater };
}

/** id -> watts, or the cause of their absence; what is only shown in brackets. */
function valuesOf({ readings }: CpuPower): Record<string, number | string> {
  return Object.fromEntries(
    readings.map(({ id = '', value, cause, informational }: RawReading) => {
      const told = value ?? cause ?? 'no cause';
      return [id, informational ? `(${told})` : told];
    }),
  );
}

t.test('Rapl.read() counts each package and each memory once, per socket, and shows the platform', async (t) => {
  const { tenSecondsLater, read, clock } = await machineWith(t, TWO_SOCKETS_OF_RAPL);
  t.strictSame(valuesOf(await read()), {
    'package-0': 'not-yet-read',
    'dram-0': 'not-yet-read',
    'package-1': 'not-yet-read',
    'dram-1': 'not-yet-read',
    'psys-0': '(not-yet-read)',
  });
  const found = await tenSecondsLater({
    'intel-rapl:0': 2_356_671_150, // over its wrap at 262 143 328 850
    'intel-rapl:0:0': 91_800_000_000,
    'intel-rapl:0:1': 1_200_000_000,
    'intel-rapl:0:2': 5_300_000_000,
    'intel-rapl:1': 101_800_000_000,
    'intel-rapl:1:0': 71_500_000_000,
    'intel-rapl:1:1': 6_250_000_000,
    'intel-rapl:2': 405_000_000_000,
    'intel-rapl-mmio:0': 264_500_000_000,
  });
  t.strictSame(valuesOf(found), {
    'package-0': 250,
    'dram-0': 30,
    'package-1': 180,
    'dram-1': 25,
    'psys-0': '(500)',
  });
  t.match(found.readings[0], {
    component: 'cpu',
    quantity: 'power',
    origin: 'RAPL package-0: intel-rapl:0 in /sys/class/powercap over 10.0 s',
    sampledAtMs: clock.now().elapsedMs,
  });
  t.match(found.notes[0], /repeating them: intel-rapl-mmio:0, intel-rapl:0:0 \(core\), intel-rapl:0:1 \(uncore\)/);
});

t.test('Rapl.read() takes the MMIO zones where there are no others', async (t) => {
  const { read, tenSecondsLater } = await machineWith(t, raplZone('intel-rapl-mmio:0', 'package-0', '0\n'));
  await read();
  t.strictSame(valuesOf(await tenSecondsLater({ 'intel-rapl-mmio:0': 450_000_000 })), { 'package-0': 45 });
});

t.test("Rapl.read() takes AMD's dies, which all show their socket, for one, and adds Intel's", async (t) => {
  const dies = {
    ...raplZone('intel-rapl:0', 'package-0-die-0', '0\n'),
    ...raplZone('intel-rapl:1', 'package-0-die-1', '0\n'),
    ...raplZone('intel-rapl:2', 'package-1-die-0', '0\n'),
  };
  const later = { 'intel-rapl:0': 1_660_000_000, 'intel-rapl:1': 1_661_000_000, 'intel-rapl:2': 900_000_000 };
  for (const [vendor, watts] of [
    ['AuthenticAMD', 166.1],
    ['HygonGenuine', 166.1],
    ['GenuineIntel', 332.1],
  ] as const) {
    const { read, tenSecondsLater } = await machineWith(t, { ...dies, '/proc/cpuinfo': `vendor_id\t: ${vendor}\n` });
    await read();
    t.strictSame(valuesOf(await tenSecondsLater(later)), { 'package-0': watts, 'package-1': 90 }, vendor);
  }
});

t.test('Rapl.read() counts a zone that is there twice under one name once', async (t) => {
  const { read, tenSecondsLater } = await machineWith(t, {
    ...raplZone('intel-rapl:0', 'package-0', '0\n'),
    ...raplZone('intel-rapl:1', 'package-0', '0\n'),
  });
  await read();
  const found = await tenSecondsLater({ 'intel-rapl:0': 1_010_000_000, 'intel-rapl:1': 1_000_000_000 });
  t.strictSame(valuesOf(found), { 'package-0': 101 });
});

t.test('Rapl.read() keeps a socket apart whose number is not its zone’s', async (t) => {
  const { read, tenSecondsLater } = await machineWith(t, {
    ...raplZone('intel-rapl:0', 'package-1', '0\n'),
    ...raplZone('intel-rapl:0:0', 'dram', '0\n'),
    ...raplZone('intel-rapl:10', 'package-0', '0\n'),
    ...raplZone('intel-rapl:10:0', 'dram', '0\n'),
  });
  await read();
  const energies = { 'intel-rapl:0': 1e9, 'intel-rapl:0:0': 2e8, 'intel-rapl:10': 3e9, 'intel-rapl:10:0': 4e8 };
  t.strictSame(valuesOf(await tenSecondsLater(energies)), {
    'package-1': 100,
    'dram-1': 20,
    'package-0': 300,
    'dram-0': 40,
  });
});

t.test('Rapl.read() names the permission that the counters ask for', async (t) => {
  const { tree, read } = await machineWith(t, raplZone('intel-rapl:0', 'package-0', '0\n'));
  await chmod(join(tree.root, energyFile('intel-rapl:0')), process.geteuid?.() === 0 ? 0o400 : 0);
  const found = await asNobody(tree.root, read);
  t.match(found.readings, [
    { id: 'package-0', value: null, cause: 'unreadable', origin: /energy_uj: EACCES: run as root or with CAP_DAC/ },
  ]);
  t.match(found.notes.join('\n'), /run as root .* only a lower bound/);
});

t.test('Rapl.read() tells a counter that fails from the others', async (t) => {
  const { read, tree, tenSecondsLater } = await machineWith(t, {
    ...raplZone('intel-rapl:0', 'package-0', '0\n'),
    ...raplZone('intel-rapl:1', 'package-1', FAILS_WITH_EINVAL),
    ...raplZone('intel-rapl:2', 'package-2', 'N/A\n'),
  });
  t.strictSame(valuesOf(await read()), {
    'package-0': 'not-yet-read',
    'package-1': 'unreadable',
    'package-2': 'invalid',
  });
  t.match(valuesOf(await tenSecondsLater({ 'intel-rapl:0': 1e9 })), { 'package-0': 100, 'package-1': 'unreadable' });
  await tree.put('/sys/class/powercap/intel-rapl:1/name', FAILS_WITH_EIO);
  t.match((await read()).notes.join('\n'), /left out: Cannot read .*intel-rapl:1\/name: EIO/);
});

t.test('Rapl.read() passes a counter that stands still on as 0 W, for the domain to refuse', async (t) => {
  const { read, tenSecondsLater } = await machineWith(t, raplZone('intel-rapl:0', 'package-0', '77\n', FAILS_WITH_EIO));
  await read();
  t.strictSame(valuesOf(await tenSecondsLater({})), { 'package-0': 0 });
  t.strictSame(valuesOf(await tenSecondsLater({ 'intel-rapl:0': 5 })), { 'package-0': 'not-yet-read' }, 'no range');
});

t.test('Rapl.read() says of a machine without RAPL where it looked', async (t) => {
  const none = await machineWith(t, {});
  t.match(await none.read(), { readings: [], notes: [/powercap is not there/] });
  const empty = await machineWith(t, { '/sys/class/powercap/dtpm/enabled': '0\n' });
  t.match(await empty.read(), { readings: [], notes: [/powercap has nothing/] });
  const broken = await machineWith(t, { '/sys/class/powercap': 'a file' });
  t.match(await broken.read(), { readings: [], notes: [/ENOTDIR/] });
});
