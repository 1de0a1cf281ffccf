import t, { type Test } from 'tap';
import { parseReading } from '../../src/domain/reading.ts';
import { CpuTemperature, type CpuTemperatureOptions, type CpuTemperatures } from '../../src/sources/cpu-temperature.ts';
import { Sysfs } from '../../src/sources/sysfs.ts';
import {
  BOARD_GARBAGE,
  chip,
  HOT_SECOND_CCD,
  RASPBERRY_PI,
  ROCKCHIP_CHIPS,
  ROCKCHIP_ZONES,
  THREADRIPPER,
  TWO_INTEL_SOCKETS,
  TWO_INTEL_SOCKETS_RENUMBERED,
  UNLABELLED_K10TEMP,
  ZENPOWER,
  ZONES_ONLY,
  zone,
} from '../fixtures/sysfs-cpu.ts';
import { ManualClock } from '../support/manual-clock.ts';
import {
  FAILS_WITH_EINVAL,
  FAILS_WITH_EIO,
  layOut,
  NEVER_ANSWERS,
  type SysfsTree,
  type TreeTable,
  whileTimePasses,
} from '../support/sysfs-tree.ts';

async function readTree(t: Test, table: TreeTable, options?: CpuTemperatureOptions): Promise<CpuTemperatures> {
  return readFrom(await layOut(t, table), options);
}

function readFrom({ root }: SysfsTree, options?: CpuTemperatureOptions): Promise<CpuTemperatures> {
  return new CpuTemperature(new Sysfs({ clock: new ManualClock(), root }), options).read();
}

/** id -> value, or the cause of its absence. */
function valuesOf({ readings }: CpuTemperatures): Record<string, number | string> {
  return Object.fromEntries(readings.map(({ id, value, cause }) => [id ?? '', value ?? cause ?? 'no cause']));
}

t.test(
  'CpuTemperature.read() gives each socket its reading, so that a cool first one hides no hot second',
  async (t) => {
    const found = await readTree(t, TWO_INTEL_SOCKETS);
    t.strictSame(valuesOf(found), { 'coretemp-0': 55, 'coretemp-1': 99 });
    t.match(found.readings[1], {
      component: 'cpu',
      quantity: 'temperature',
      origin: 'coretemp Package id 1, /sys/class/hwmon/hwmon1/temp1_input',
    });
  },
);

t.test('CpuTemperature.read() numbers chips by device path, since hwmonN changes at every boot', async (t) => {
  const found = await readTree(t, TWO_INTEL_SOCKETS_RENUMBERED);
  t.strictSame(valuesOf(found), { 'coretemp-0': 55, 'coretemp-1': 99 });
  t.match(found.readings[1]?.origin, /hwmon3/);
});

t.test('CpuTemperature.read() takes the hottest sensor of a chip, package or core', async (t) => {
  const cores = { temp1_label: 'Package id 0', temp1_input: '60000', temp2_input: '96000', temp10_input: '61000' };
  t.strictSame(valuesOf(await readTree(t, chip('hwmon0', 'coretemp', cores))), { 'coretemp-0': 96 });
  const found = await readTree(t, HOT_SECOND_CCD);
  t.strictSame(valuesOf(found), { 'k10temp-0': 97.125 });
  t.match(found.readings[0]?.origin, /^k10temp Tccd2, /);
});

t.test('CpuTemperature.read() leaves Tctl out where the chip has Tdie, and never asks the ACPI zone', async (t) => {
  t.strictSame(valuesOf(await readTree(t, THREADRIPPER)), { 'k10temp-0': 69 });
  const hot = { ...THREADRIPPER, '/sys/class/hwmon/hwmon1/temp2_input': '97000\n' };
  t.strictSame(valuesOf(await readTree(t, hot)), { 'k10temp-0': 97 });
  t.strictSame(valuesOf(await readTree(t, ZENPOWER)), { 'zenpower-0': 71.5 });
});

t.test('CpuTemperature.read() never takes Tctl of zenpower', async (t) => {
  const tctl = { temp2_label: 'Tctl', temp2_input: '98500' };
  const withCcd = chip('hwmon0', 'zenpower', { ...tctl, temp3_label: 'Tccd1', temp3_input: '70250' });
  t.strictSame(valuesOf(await readTree(t, withCcd)), { 'zenpower-0': 70.25 });
  t.strictSame(valuesOf(await readTree(t, chip('hwmon0', 'zenpower', tctl))), { '': 'no-sensor' });
});

t.test('CpuTemperature.read() leaves Tctl out even where Tdie cannot be read', async (t) => {
  const broken = { ...THREADRIPPER, '/sys/class/hwmon/hwmon1/temp2_input': FAILS_WITH_EIO };
  t.strictSame(valuesOf(await readTree(t, broken)), { 'k10temp-0': 'unreadable' });
});

t.test('CpuTemperature.read() takes a lone Tctl as it stands, less the configured offset only', async (t) => {
  const labelled = chip('hwmon0', 'k10temp', { temp1_label: 'Tctl', temp1_input: '96000' });
  for (const table of [labelled, UNLABELLED_K10TEMP]) {
    t.strictSame(valuesOf(await readTree(t, table)), { 'k10temp-0': 96 });
    t.strictSame(valuesOf(await readTree(t, table, { tctlOffsetC: 27 })), { 'k10temp-0': 69 });
  }
  const found = await readTree(t, UNLABELLED_K10TEMP, { tctlOffsetC: 27 });
  t.match(found.readings[0]?.origin, /less 27 °C/);
  t.strictSame(
    found.hardwareLimits,
    [{ component: 'cpu', id: 'k10temp-0', criticalC: 95 }],
    'the limit is on that scale, too',
  );
});

t.test('CpuTemperature.read() applies the Tctl offset to nothing but Tctl', async (t) => {
  for (const [table, values] of [
    [THREADRIPPER, { 'k10temp-0': 69 }],
    [HOT_SECOND_CCD, { 'k10temp-0': 97.125 }],
    [ZENPOWER, { 'zenpower-0': 71.5 }],
    [TWO_INTEL_SOCKETS, { 'coretemp-0': 55, 'coretemp-1': 99 }],
  ] as const) {
    t.strictSame(valuesOf(await readTree(t, table, { tctlOffsetC: 10 })), values);
  }
});

t.test('CpuTemperature.read() takes two AMD sockets apart', async (t) => {
  const found = await readTree(t, {
    ...chip('hwmon0', 'k10temp', { temp1_label: 'Tctl', temp1_input: '96000' }),
    ...chip('hwmon1', 'k10temp', { temp1_label: 'Tctl', temp1_input: '50000' }),
  });
  t.strictSame(valuesOf(found), { 'k10temp-0': 96, 'k10temp-1': 50 });
});

t.test('CpuTemperature.read() knows the drivers of a CPU by name, and no others', async (t) => {
  for (const name of [
    'coretemp',
    'k10temp',
    'zenpower',
    'k8temp',
    'via_cputemp',
    'cpu_thermal',
    'cpu0_thermal',
    'cpu_0_0_thermal',
    'soc_thermal',
    'tj_thermal',
    'CPU_therm',
    'bigcore0_thermal',
    'cluster0_thermal',
  ]) {
    const found = await readTree(t, chip('hwmon0', name, { temp2_label: 'Tdie', temp2_input: '61000' }));
    t.strictSame(valuesOf(found), { [`${name}-0`]: 61 }, name);
  }
  for (const name of [
    'acpitz',
    'nct6775',
    'it87',
    'f71882fg',
    'w83627ehf',
    'asusec',
    'gpu_thermal',
    'drivetemp',
    'nouveau',
  ]) {
    const found = await readTree(t, chip('hwmon0', name, { temp1_label: 'CPUTIN', temp1_input: '61000' }));
    t.strictSame(valuesOf(found), { '': 'no-sensor' }, name);
  }
});

t.test('CpuTemperature.read() does not let board, disk, network and graphics sensors speak for the CPU', async (t) => {
  const found = await readTree(t, { ...BOARD_GARBAGE, ...TWO_INTEL_SOCKETS });
  t.strictSame(valuesOf(found), { 'coretemp-0': 55, 'coretemp-1': 99 });
  const alone = await readTree(t, BOARD_GARBAGE);
  t.strictSame(valuesOf(alone), { '': 'no-sensor' });
  t.match(alone.readings[0]?.origin, /nct6793, nvme, iwlwifi_1/, 'says what it saw');
});

t.test('CpuTemperature.read() discards a sensor whose fault flag is set or cannot be read', async (t) => {
  const table = chip('hwmon0', 'coretemp', {
    temp1_input: '98000',
    temp1_fault: '1',
    temp2_input: '61000',
    temp2_fault: '0',
  });
  const found = await readTree(t, table);
  t.strictSame(valuesOf(found), { 'coretemp-0': 61 });
  t.match(found.notes.join('\n'), /coretemp-0: left out: .*temp1_fault is 1/);
  const unreadable = { ...table, '/sys/class/hwmon/hwmon0/temp2_fault': FAILS_WITH_EIO };
  t.strictSame(valuesOf(await readTree(t, unreadable)), { 'coretemp-0': 'unreadable' });
});

t.test('CpuTemperature.read() never takes an unreadable sensor for a cool one', async (t) => {
  for (const [what, entry, cause] of [
    ['empty', '', 'unreadable'],
    ['EIO', FAILS_WITH_EIO, 'unreadable'],
    ['EINVAL', FAILS_WITH_EINVAL, 'unreadable'],
    ['a directory', { is: 'directory' }, 'unreadable'],
    ['text', 'N/A\n', 'invalid'],
    ['hex', '0x10\n', 'invalid'],
  ] as const) {
    const path = '/sys/class/hwmon/hwmon1/temp1_input';
    const found = await readTree(t, { ...TWO_INTEL_SOCKETS, [path]: entry });
    t.strictSame(valuesOf(found), { 'coretemp-0': 55, 'coretemp-1': cause }, what);
    t.match(found.readings[1]?.origin, path, `${what}: names the file`);
  }
});

t.test('CpuTemperature.read() takes the plausible sensors of a chip, and notes the others', async (t) => {
  const found = await readTree(t, {
    ...chip('hwmon0', 'coretemp', { temp1_input: '4294948300', temp2_input: '61000', temp3_input: '0' }),
    '/sys/class/hwmon/hwmon0/temp4_input': FAILS_WITH_EIO,
  });
  t.strictSame(valuesOf(found), { 'coretemp-0': 61 });
  t.match(
    found.notes.filter((note) => note.includes('left out')),
    [/temp1_input.*4294948.3 °C/, /temp3_input/, /temp4_input: EIO/],
  );
});

t.test('CpuTemperature.read() passes a number that is none on, for the domain to call invalid', async (t) => {
  for (const [text, value] of [
    ['4294948300', 4294948.3],
    ['0', 0],
    ['-256000', -256],
    ['125001', 125.001],
  ] as const) {
    const found = await readTree(t, chip('hwmon0', 'k10temp', { temp1_input: text }));
    t.strictSame(valuesOf(found), { 'k10temp-0': value });
    t.equal(parseReading('temperature', value).ok, false);
  }
});

t.test('CpuTemperature.read() gives the chip its critical temperature where that is a likely one', async (t) => {
  const found = await readTree(t, TWO_INTEL_SOCKETS);
  t.strictSame(found.hardwareLimits, [
    { component: 'cpu', id: 'coretemp-0', criticalC: 100 },
    { component: 'cpu', id: 'coretemp-1', criticalC: 104 },
  ]);
  for (const [text, limits] of [
    ['59999', []],
    ['60000', [60]],
    ['130000', [130]],
    ['130001', []],
    ['0', []],
    ['-273150', []],
    ['none', []],
  ] as const) {
    const one = await readTree(t, chip('hwmon0', 'coretemp', { temp1_input: '50000', temp1_crit: text }));
    t.strictSame(
      one.hardwareLimits.map(({ criticalC }) => criticalC),
      limits,
      text,
    );
  }
  const second = { temp1_input: '50000', temp1_crit: '0', temp2_input: '50000', temp2_crit: '98000' };
  t.match((await readTree(t, chip('hwmon0', 'coretemp', second))).hardwareLimits, [{ criticalC: 98 }]);
});

t.test('CpuTemperature.read() takes the CPU zones where no chip is, each with its own type', async (t) => {
  const found = await readTree(t, ZONES_ONLY);
  t.strictSame(valuesOf(found), { 'x86_pkg_temp-0': 71 });
  t.match(found.readings[0]?.origin, 'x86_pkg_temp, /sys/class/thermal/thermal_zone10/temp');
});

t.test('CpuTemperature.read() is not led astray by a zone that cannot be read', async (t) => {
  const others = {
    '/sys/class/thermal/thermal_zone0/temp': FAILS_WITH_EINVAL,
    '/sys/class/thermal/thermal_zone2/temp': '',
  };
  t.strictSame(valuesOf(await readTree(t, { ...ZONES_ONLY, ...others })), { 'x86_pkg_temp-0': 71 });
  const second = { ...zone(11, 'x86_pkg_temp', ''), '/sys/class/thermal/thermal_zone11/temp': FAILS_WITH_EINVAL };
  t.strictSame(valuesOf(await readTree(t, { ...ZONES_ONLY, ...second })), {
    'x86_pkg_temp-0': 71,
    'x86_pkg_temp-1': 'unreadable',
  });
});

t.test('CpuTemperature.read() passes a zone at 0 or -274 on, for the domain to call invalid', async (t) => {
  t.strictSame(valuesOf(await readTree(t, zone(3, 'x86_pkg_temp', '0\n'))), { 'x86_pkg_temp-0': 0 });
  t.strictSame(valuesOf(await readTree(t, zone(3, 'cpu-thermal', '-274000\n'))), { 'cpu-thermal-0': -274 });
});

t.test('CpuTemperature.read() knows the zones of a CPU by type, and no others', async (t) => {
  for (const type of [
    'x86_pkg_temp',
    'cpu-thermal',
    'cpu0-thermal',
    'cpu-0-1-thermal',
    'CPU-therm',
    'tj-thermal',
    'soc-thermal',
    'soc_thermal',
    'cpu',
    'cpu_thermal_zone',
    'ap-thermal-cpu1',
    'mtktscpu',
    'a73-thermal',
  ]) {
    t.strictSame(valuesOf(await readTree(t, zone(0, type, '61000'))), { [`${type}-0`]: 61 }, type);
  }
  for (const type of [
    'acpitz',
    'GPU-therm',
    'gpu-thermal',
    'pch_skylake',
    'iwlwifi_1',
    'INT3400 Thermal',
    'PMIC-Die',
    'nvme',
    'cpu_fan',
    'cpu-1-max-step',
    'soc',
  ]) {
    t.strictSame(valuesOf(await readTree(t, zone(0, type, '61000'))), { '': 'no-sensor' }, type);
  }
});

t.test('CpuTemperature.read() reads each cluster of an ARM chip beside a cool sensor of the whole', async (t) => {
  t.strictSame(valuesOf(await readTree(t, ROCKCHIP_CHIPS)), {
    'bigcore0_thermal-0': 96,
    'littlecore_thermal-0': 50,
    'soc_thermal-0': 45,
  });
  t.strictSame(valuesOf(await readTree(t, ROCKCHIP_ZONES)), {
    'soc-thermal-0': 45,
    'bigcore0-thermal-0': 96,
    'littlecore-thermal-0': 50,
  });
});

t.test('CpuTemperature.read() does not fall back to zones while a chip is there and silent', async (t) => {
  const silent = { ...RASPBERRY_PI, '/sys/class/hwmon/hwmon0/temp1_input': '' };
  t.strictSame(valuesOf(await readTree(t, silent)), { 'cpu_thermal-0': 'unreadable' });
  t.strictSame(valuesOf(await readTree(t, RASPBERRY_PI)), { 'cpu_thermal-0': 62.05 }, 'and counts the chip once');
});

t.test('CpuTemperature.read() passes over a CPU chip without a temperature', async (t) => {
  const found = await readTree(t, { ...chip('hwmon0', 'coretemp', {}), ...ZONES_ONLY });
  t.strictSame(valuesOf(found), { 'x86_pkg_temp-0': 71 });
  t.match(found.notes.join('\n'), /coretemp-0: no temperature of the die/);
});

t.test('CpuTemperature.read() takes a chip that will not tell its name for one that may be the CPU', async (t) => {
  const found = await readTree(t, { ...TWO_INTEL_SOCKETS, '/sys/class/hwmon/hwmon7/name': FAILS_WITH_EIO });
  t.strictSame(valuesOf(found), { hwmon7: 'unreadable', 'coretemp-0': 55, 'coretemp-1': 99 });
  const nameless = await readTree(t, { ...TWO_INTEL_SOCKETS, '/sys/class/hwmon/hwmon7/uevent': '' });
  t.strictSame(valuesOf(nameless), { 'coretemp-0': 55, 'coretemp-1': 99 }, 'but not one that has none');
  const zoned = await readTree(t, { ...ZONES_ONLY, '/sys/class/thermal/thermal_zone4/type': FAILS_WITH_EIO });
  t.strictSame(valuesOf(zoned), { thermal_zone4: 'unreadable', 'x86_pkg_temp-0': 71 });
});

t.test('CpuTemperature.read() says where it looked when there is nothing', async (t) => {
  const bare = await readTree(t, { '/sys/class/thermal': { is: 'directory' } });
  t.match(bare.readings, [{ component: 'cpu', quantity: 'temperature', value: null, cause: 'no-sensor' }]);
  t.match(bare.readings[0]?.origin, /\/sys\/class\/hwmon.*\/sys\/class\/thermal/);
  t.match(bare.notes, [/\/sys\/class\/hwmon has nothing/, /\/sys\/class\/thermal has nothing/]);
  t.strictSame(
    valuesOf(await readTree(t, { '/sys/class/hwmon': 'a file' })),
    { '': 'unreadable' },
    'no list is not an empty list',
  );
  t.strictSame(valuesOf(await readTree(t, { '/sys/class/thermal': 'a file' })), { '': 'unreadable' });
});

t.test('CpuTemperature.read() keeps every origin within 120 characters', async (t) => {
  const long = chip('hwmon0', 'coretemp', { temp1_label: 'L'.repeat(300), temp1_input: '50000' });
  const many = Object.assign({}, ...Array.from({ length: 40 }, (_, i) => chip(`hwmon${i}`, `board_chip_${i}`, {})));
  for (const table of [long, many]) {
    const found = await readTree(t, table);
    t.equal(found.readings.length, 1);
    t.equal(found.readings[0]?.origin.length, 120);
  }
});

t.test('CpuTemperature.read() gives a chip that was there and is gone as a missing reading', async (t) => {
  const tree = await layOut(t, TWO_INTEL_SOCKETS_RENUMBERED);
  const cpu = new CpuTemperature(new Sysfs({ clock: new ManualClock(), root: tree.root }));
  await cpu.read();
  await tree.remove('/sys/class/hwmon/hwmon4');
  const found = await cpu.read();
  t.strictSame(valuesOf(found), { 'coretemp-1': 99, 'coretemp-0': 'gone' }, 'and the other keeps its id');
  t.match(found.readings[1]?.origin, /^\/sys\/devices\/platform\/coretemp\.0 had a sensor/);

  await tree.put('/sys/devices/platform/coretemp.0/hwmon/hwmon6/name', 'coretemp\n');
  await tree.put('/sys/devices/platform/coretemp.0/hwmon/hwmon6/temp1_input', '57000\n');
  await tree.put('/sys/class/hwmon/hwmon6', { linkTo: '../../devices/platform/coretemp.0/hwmon/hwmon6' });
  t.strictSame(
    valuesOf(await cpu.read()),
    { 'coretemp-0': 57, 'coretemp-1': 99 },
    'until it is back, under any number',
  );

  await tree.put('/sys/class/hwmon', 'no directory');
  t.strictSame(valuesOf(await cpu.read()), { 'coretemp-0': 'unreadable', 'coretemp-1': 'unreadable' });
});

t.test('CpuTemperature.read() does not miss a chip that another driver has taken over', async (t) => {
  const device = '/sys/devices/pci0000:00/0000:00:18.3/hwmon/hwmon1';
  const tree = await layOut(t, {
    [`${device}/name`]: 'k10temp\n',
    [`${device}/temp1_input`]: '66000\n',
    '/sys/class/hwmon/hwmon1': { linkTo: `../../devices/pci0000:00/0000:00:18.3/hwmon/hwmon1` },
  });
  const cpu = new CpuTemperature(new Sysfs({ clock: new ManualClock(), root: tree.root }));
  t.strictSame(valuesOf(await cpu.read()), { 'k10temp-0': 66 });
  await tree.put(`${device}/name`, 'zenpower\n');
  t.strictSame(valuesOf(await cpu.read()), { 'zenpower-0': 66 });
});

t.test('CpuTemperature.read() keeps a chip that hangs from hiding the other, and waits for it once', async (t) => {
  const tree = await layOut(t, TWO_INTEL_SOCKETS);
  const clock = new ManualClock();
  const cpu = new CpuTemperature(new Sysfs({ clock, root: tree.root, readTimeoutMs: 1000 }));
  t.strictSame(valuesOf(await cpu.read()), { 'coretemp-0': 55, 'coretemp-1': 99 });

  await tree.put('/sys/class/hwmon/hwmon0/temp1_input', NEVER_ANSWERS);
  const startedAtMs = clock.now().elapsedMs;
  const found = await whileTimePasses(clock, cpu.read());
  t.strictSame(valuesOf(found), { 'coretemp-0': 'unreadable', 'coretemp-1': 99 });
  const waitedMs = clock.now().elapsedMs - startedAtMs;
  t.ok(waitedMs >= 1000 && waitedMs <= 1500, `waited ${waitedMs} ms, although the chip has more files`);

  t.strictSame(
    valuesOf(await cpu.read()),
    { 'coretemp-0': 'unreadable', 'coretemp-1': 99 },
    'without a wait, same ids',
  );
});
