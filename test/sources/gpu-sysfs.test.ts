import t, { type Test } from 'tap';
import { parseReading, type RawReading, type SourceReport } from '../../src/domain/reading.ts';
import { createGpuSysfs } from '../../src/sources/gpu-sysfs.ts';
import type { Source } from '../../src/sources/source.ts';
import {
  ARC_HWMON,
  ARC_ID,
  arcWith,
  gpu,
  INSTINCT_CARD,
  RADEON_CARD,
  RADEON_DEVICE,
  RADEON_HWMON,
  RADEON_ID,
  RYZEN_GPU,
  radeonWith,
} from '../fixtures/sysfs-gpu.ts';
import { ManualClock } from '../support/manual-clock.ts';
import {
  FAILS_WITH_EINVAL,
  FAILS_WITH_EIO,
  layOut,
  NEVER_ANSWERS,
  type SysfsTree,
  type TreeTable,
  untilTrue,
  whileTimePasses,
} from '../support/sysfs-tree.ts';

interface Machine {
  readonly tree: SysfsTree;
  readonly clock: ManualClock;
  readonly source: Source;
  /** A look that needs no time. */
  glance(timeoutMs?: number): Promise<SourceReport>;
  /** A look during which manual time passes as needed. */
  look(): Promise<SourceReport>;
}

async function machineWith(t: Test, table: TreeTable): Promise<Machine> {
  const tree = await layOut(t, table);
  const clock = new ManualClock();
  const source = createGpuSysfs({ node: 'bizon1', clock, root: tree.root });
  const glance = (timeoutMs = 5000) => source.read(clock.now().elapsedMs + timeoutMs);
  return { tree, clock, source, glance, look: () => whileTimePasses(clock, glance()) };
}

async function reportOf(t: Test, table: TreeTable): Promise<SourceReport> {
  return (await machineWith(t, table)).glance();
}

/** id -> judged quantity -> value, or the cause of its absence. */
function judged({ readings }: SourceReport): Record<string, Record<string, number | string>> {
  const byCard: Record<string, Record<string, number | string>> = {};
  for (const { id = '', quantity, value, cause, informational } of readings) {
    if (informational) continue;
    t.notOk(byCard[id]?.[quantity], `${id} has one judged ${quantity}`);
    byCard[id] = { ...byCard[id], [quantity]: value ?? cause ?? 'no cause' };
  }
  return byCard;
}

/** What is only shown, as `temperature 88`. */
function shown({ readings }: SourceReport): string[] {
  return readings.flatMap(({ quantity, value, informational }) => (informational ? [`${quantity} ${value}`] : []));
}

function readingOf({ readings }: SourceReport, quantity: RawReading['quantity']): RawReading | undefined {
  return readings.find((reading) => reading.quantity === quantity && !reading.informational);
}

const RADEON_READINGS = { temperature: 61, power: 287, memory: 0.25 };

t.test('GpuSysfs.read() reads a card of amdgpu: edge, average power, share of memory', async (t) => {
  const { source, glance, clock } = await machineWith(t, RADEON_CARD);
  t.match(source, { id: 'gpu-sysfs', node: 'bizon1', carriesHeat: true });
  const startedAtMs = clock.now().elapsedMs;
  const report = await glance();
  t.match(report, { source: 'gpu-sysfs', node: 'bizon1', startedAtMs, outcome: { kind: 'answered' } });
  t.strictSame(judged(report), { [RADEON_ID]: RADEON_READINGS });
  t.strictSame(
    shown(report),
    ['temperature 88', 'temperature 72', 'utilization 0.97'],
    'hot spot and memory are shown',
  );
  t.equal(
    readingOf(report, 'temperature')?.origin,
    'amdgpu edge, /sys/class/drm/card1/device/hwmon/hwmon1/temp1_input',
  );
});

t.test('GpuSysfs.read() names a card by its PCI address, with the unique id beside the name', async (t) => {
  const { gpus } = await reportOf(t, RADEON_CARD);
  t.strictSame(gpus, [
    {
      id: '0000:03:00.0',
      pciAddress: '0000:03:00.0',
      name: 'AMD card 1002:744c, unique id 1a2b3c4d5e6f7081',
      vendor: 'amd',
      required: true,
    },
  ]);
});

t.test('GpuSysfs.read() tells the power limits, and takes no temperature limit of amdgpu for a slowdown', async (t) => {
  const { hardwareLimits } = await reportOf(t, RADEON_CARD);
  t.strictSame(hardwareLimits, [{ component: 'gpu', id: RADEON_ID, enforcedPowerW: 303, defaultPowerW: 327 }]);
  const without = await reportOf(t, radeonWith({ hwmon: { power1_cap: '0\n', power1_cap_default: null } }));
  t.strictSame(without.hardwareLimits, [], 'a cap of 0 is none');
});

t.test('GpuSysfs.read() judges the hot spot only where there is no edge', async (t) => {
  const report = await reportOf(t, INSTINCT_CARD);
  t.strictSame(judged(report), { '0000:83:00.0': { temperature: 79, power: 612, memory: 20614165299 / 206141652992 } });
  t.match(readingOf(report, 'temperature')?.origin, /^amdgpu junction, /);
  t.match(readingOf(report, 'power')?.origin, /^amdgpu power1_input, /);
});

t.test('GpuSysfs.read() judges the hot spot for no edge that is there and fails', async (t) => {
  for (const hwmon of [{ temp1_input: FAILS_WITH_EIO }, { temp1_label: FAILS_WITH_EIO }]) {
    const report = await reportOf(t, radeonWith({ hwmon }));
    t.strictSame(
      judged(report)[RADEON_ID],
      { ...RADEON_READINGS, temperature: 'unreadable' },
      Object.keys(hwmon).join(),
    );
  }
});

t.test('GpuSysfs.read() judges the one sensor of a driver that has no labels', async (t) => {
  const labels = { temp1_label: null, temp2_label: null, temp2_input: null, temp3_label: null, temp3_input: null };
  const report = await reportOf(t, radeonWith({ hwmon: labels }));
  t.strictSame(judged(report)[RADEON_ID], RADEON_READINGS);
});

t.test('GpuSysfs.read() finds the judged sensor wherever it stands among the others', async (t) => {
  const hwmon = { temp1_label: 'mem\n', temp2_label: 'junction\n', temp3_label: 'edge\n' };
  const report = await reportOf(t, radeonWith({ hwmon }));
  t.equal(judged(report)[RADEON_ID]?.['temperature'], 72);
  t.strictSame(shown(report).slice(0, 2), ['temperature 61', 'temperature 88']);
});

t.test('GpuSysfs.read() takes the average of the two powers where a kernel has both', async (t) => {
  const both = await reportOf(t, radeonWith({ hwmon: { power1_input: '351000000\n' } }));
  t.equal(judged(both)[RADEON_ID]?.['power'], 287);
  const instant = await reportOf(t, radeonWith({ hwmon: { power1_input: '351000000\n', power1_average: null } }));
  t.equal(judged(instant)[RADEON_ID]?.['power'], 351);
});

t.test('GpuSysfs.read() passes impossible numbers on for the domain to refuse', async (t) => {
  const hwmon = { temp1_input: '0\n', power1_average: '0\n' };
  const zero = await reportOf(t, radeonWith({ hwmon, device: { mem_info_vram_used: '25800000000000\n' } }));
  t.strictSame(judged(zero)[RADEON_ID], { temperature: 0, power: 0, memory: 25800000000000 / 25753026560 });
  for (const { quantity, value, informational } of zero.readings) {
    if (!informational) t.equal(parseReading(quantity, value ?? Number.NaN).ok, false, `${quantity} ${value}`);
  }
  const high = await reportOf(t, radeonWith({ hwmon: { temp1_input: '65535000\n', power1_average: '65535000000\n' } }));
  t.match(judged(high)[RADEON_ID], { temperature: 65535, power: 65535 });
});

t.test('GpuSysfs.read() takes all ones of any width for no value', async (t) => {
  for (const ones of ['65535', '2147483647', '4294967295', '18446744073709551615']) {
    const hwmon = { temp1_input: ones, power1_average: ones, power1_cap: ones, power1_cap_default: ones };
    const report = await reportOf(t, radeonWith({ hwmon, device: { mem_info_vram_used: ones } }));
    t.strictSame(
      judged(report)[RADEON_ID],
      { temperature: 'invalid', power: 'invalid', memory: 'invalid' },
      `${ones} m°C, µW and bytes`,
    );
  }
  const plain = await reportOf(t, radeonWith({ hwmon: { power1_average: '255000000\n' } }));
  t.equal(judged(plain)[RADEON_ID]?.['power'], 255, '255 W is a power like any other');
});

t.test('GpuSysfs.read() tells why a single file gives nothing, and reads the others', async (t) => {
  for (const [file, entry, quantity, cause] of [
    ['temp1_input', FAILS_WITH_EINVAL, 'temperature', 'unreadable'],
    ['temp1_input', '', 'temperature', 'unreadable'],
    ['temp1_input', 'N/A\n', 'temperature', 'invalid'],
    ['power1_average', FAILS_WITH_EIO, 'power', 'unreadable'],
    ['power1_average', 'N/A\n', 'power', 'invalid'],
    ['power1_average', null, 'power', 'no-sensor'],
  ] as const) {
    const report = await reportOf(t, radeonWith({ hwmon: { [file]: entry } }));
    t.strictSame(judged(report)[RADEON_ID], { ...RADEON_READINGS, [quantity]: cause }, `${file}: ${cause}`);
  }
  for (const [device, cause] of [
    [{ mem_info_vram_used: FAILS_WITH_EIO }, 'unreadable'],
    [{ mem_info_vram_total: FAILS_WITH_EIO }, 'unreadable'],
    [{ mem_info_vram_used: null, mem_info_vram_total: FAILS_WITH_EIO }, 'unreadable'],
    [{ mem_info_vram_total: 'N/A\n' }, 'invalid'],
    [{ mem_info_vram_total: '0\n' }, 'invalid'],
    [{ mem_info_vram_total: null }, 'no-sensor'],
    [{ mem_info_vram_used: null, mem_info_vram_total: null }, 'no-sensor'],
  ] as const) {
    const report = await reportOf(t, radeonWith({ device }));
    t.strictSame(judged(report)[RADEON_ID], { ...RADEON_READINGS, memory: cause }, JSON.stringify(device));
  }
});

t.test('GpuSysfs.read() shows no utilization that is none', async (t) => {
  for (const busy of ['65535\n', '-1\n', 'N/A\n']) {
    const report = await reportOf(t, radeonWith({ device: { gpu_busy_percent: busy } }));
    t.notMatch(shown(report).join(), /utilization/, busy);
  }
});

t.test('GpuSysfs.read() reports a card without sensors, since it may be hot', async (t) => {
  const report = await reportOf(t, gpu({ card: 0, address: '0000:03:00.0', ids: '1002:744c' }));
  t.strictSame(judged(report), {
    [RADEON_ID]: { temperature: 'no-sensor', power: 'no-sensor', memory: 'no-sensor' },
  });
  t.match(readingOf(report, 'temperature')?.origin, /no sensors of amdgpu or radeon/);
  const unnamed = await machineWith(t, RADEON_CARD);
  await unnamed.tree.put(`${RADEON_HWMON}/name`, FAILS_WITH_EIO);
  t.match(judged(await unnamed.glance())[RADEON_ID], { temperature: 'unreadable', power: 'unreadable', memory: 0.25 });
});

t.test('GpuSysfs.read() takes sockets, render nodes and a second cardN of a device for no further cards', async (t) => {
  const { tree, glance } = await machineWith(t, RADEON_CARD);
  await tree.put('/sys/class/drm/card7', { linkTo: '../../devices/pci0000:00/0000:03:00.0/drm/card1' });
  await tree.put('/sys/devices/platform/amdgpu_xcp_1/drm/card8/device', { linkTo: '../../../amdgpu_xcp_1' });
  await tree.put('/sys/class/drm/card8', { linkTo: '../../devices/platform/amdgpu_xcp_1/drm/card8' });
  const report = await glance();
  t.strictSame(judged(report), { [RADEON_ID]: RADEON_READINGS });
  t.equal(report.gpus.length, 1);
  t.match(readingOf(report, 'power')?.origin, /\/card1\//, 'the first entry is read');
  t.match(report.notes.join('\n'), /no PCI device behind .*card8/, 'what is left out is named');
});

t.test('GpuSysfs.read() lists integrated graphics as not required, and judges nothing of them', async (t) => {
  const report = await reportOf(t, { ...RADEON_CARD, ...RYZEN_GPU });
  t.strictSame(
    report.gpus.map(({ id, required }) => `${id} ${required}`),
    ['0000:13:00.0 false', '0000:03:00.0 true'],
  );
  t.strictSame(judged(report), { [RADEON_ID]: RADEON_READINGS }, 'a CPU at 94 °C is no GPU over 85');
  t.match(shown(report), ['temperature 94', 'power 142', /^memory 0.96/, 'utilization 0.03']);
});

t.test('GpuSysfs.read() requires a card that the bus does not list', async (t) => {
  const { tree, glance } = await machineWith(t, RYZEN_GPU);
  await tree.remove('/sys/bus/pci');
  const report = await glance();
  t.match(report.gpus, [{ id: '0000:13:00.0', required: true }]);
  t.match(judged(report), { '0000:13:00.0': { temperature: 94 } });
});

t.test('GpuSysfs.read() meters an Intel card between two reads: a second apart at first', async (t) => {
  const { tree, clock, look, glance } = await machineWith(t, arcWith());
  const startedAtMs = clock.now().elapsedMs;
  const looking = look();
  await untilTrue(async () => clock.now().elapsedMs > startedAtMs + 300);
  await tree.put(`${ARC_HWMON}/energy1_input`, '1151500000\n');
  const first = await looking;
  t.match(judged(first), { [ARC_ID]: { temperature: 58, memory: 'no-sensor' } });
  t.strictSame(shown(first), ['temperature 66'], 'and no channel of its memory is asked: that takes 100 ms each');
  const power = readingOf(first, 'power');
  t.match(power?.origin, /^xe, .*\/energy1_input over 1\.\d s$/);
  const metered = Number(power?.value);
  t.ok(metered > 100 && metered <= 150, `151.5 J in a second or a little more: ${metered} W`);

  await tree.put(`${ARC_HWMON}/energy1_input`, '2951500000\n');
  await clock.advance(10_000);
  const then = readingOf(await glance(), 'power');
  const overMs = Number(then?.sampledAtMs) - Number(power?.sampledAtMs);
  t.equal(then?.value, 1_800_000_000 / overMs / 1000, 'then since the last read');
});

t.test('GpuSysfs.read() has no power of an Intel card where the deadline allows one read only', async (t) => {
  const { glance } = await machineWith(t, arcWith());
  t.match(judged(await glance(1000))[ARC_ID], { temperature: 58, power: 'not-yet-read' }, 'and does not wait for it');
});

t.test('GpuSysfs.read() prefers a power of Intel to a counter, the card to its package, and tells which', async (t) => {
  const direct = await reportOf(t, arcWith({ power1_input: '143000000\n' }));
  t.match(readingOf(direct, 'power'), { value: 143, origin: /^xe power1_input, / });
  const { tree, look, glance } = await machineWith(t, arcWith());
  await tree.remove(`${ARC_HWMON}/energy1_input`);
  t.match(readingOf(await look(), 'power')?.origin, /^xe package only, .*energy2_input/);
  await tree.remove(`${ARC_HWMON}/energy2_input`);
  t.match(readingOf(await glance(), 'power'), { value: null, cause: 'no-sensor' });
});

t.test('GpuSysfs.read() takes the sustained limit of an Intel card for its limit, not the one of bursts', async (t) => {
  const power = { power1_input: '143000000\n' };
  const limits = { component: 'gpu', id: ARC_ID, enforcedPowerW: 190, defaultPowerW: 190 };
  t.strictSame((await reportOf(t, arcWith(power))).hardwareLimits, [limits]);
  const off = await reportOf(t, arcWith({ ...power, power1_max: '0\n' }));
  t.strictSame(off.hardwareLimits, [{ component: 'gpu', id: ARC_ID, defaultPowerW: 190 }], '0 is no limit');
});

t.test('GpuSysfs.read() reads i915 of the card, not of a part of it', async (t) => {
  const card = { card: 0, address: '0000:03:00.0', ids: '8086:56a0' };
  const { tree, glance } = await machineWith(t, gpu({ ...card, chip: 'i915_gt0', hwmon: { temp1_input: '90000\n' } }));
  t.match(judged(await glance())[card.address], { temperature: 'no-sensor', power: 'no-sensor' });
  await tree.put(`${RADEON_DEVICE}/hwmon/hwmon5/name`, 'i915\n');
  await tree.put(`${RADEON_DEVICE}/hwmon/hwmon5/temp1_input`, '57000\n');
  t.match(judged(await glance())[card.address], { temperature: 57, power: 'no-sensor' });
});

t.test('GpuSysfs.read() takes the temperature that nouveau and radeon have, and names what they lack', async (t) => {
  const readings = { temperature: 66, power: 'not-supported', memory: 'no-sensor' };
  const hwmon = { temp1_input: '66000\n', temp1_crit: '95000\n' };
  for (const [ids, chip] of [
    ['10de:1b81', 'nouveau'],
    ['1002:6779', 'radeon'],
  ] as const) {
    const report = await reportOf(t, gpu({ card: 0, address: '0000:01:00.0', ids, chip, hwmon }));
    t.strictSame(judged(report), { '0000:01:00.0': readings }, chip);
  }
});

t.test("GpuSysfs.read() leaves cards under NVIDIA's own driver and consoles to others", async (t) => {
  const report = await reportOf(t, {
    ...gpu({ card: 0, address: '0000:41:00.0', ids: '10de:2684' }),
    ...gpu({ card: 1, address: '0000:02:00.0', ids: '1a03:2000' }),
  });
  t.match(report, { outcome: { kind: 'answered' }, gpus: [], readings: [] });
  t.match(report.notes.join('\n'), /0 cards.*0000:41:00\.0: no sensors of nouveau.*0000:02:00\.0: not of AMD/s);
});

t.test('GpuSysfs.read() says of a machine without GPU drivers where it looked', async (t) => {
  t.match(await reportOf(t, {}), {
    outcome: { kind: 'answered' },
    gpus: [],
    readings: [],
    notes: [/drm is not there/],
  });
  t.match(await reportOf(t, { '/sys/class/drm/version': 'drm' }), {
    outcome: { kind: 'answered' },
    notes: [/0 cards/],
  });
});

t.test('GpuSysfs.read() fails where the list of cards cannot be had', async (t) => {
  const report = await reportOf(t, { '/sys/class/drm': 'a file' });
  t.match(report, { outcome: { kind: 'failed', cause: 'failed', detail: /drm: ENOTDIR/ }, gpus: [] });
});

t.test('GpuSysfs.read() no longer lists a card that has left the bus', async (t) => {
  const { tree, glance } = await machineWith(t, { ...RADEON_CARD, ...INSTINCT_CARD });
  t.equal((await glance()).gpus.length, 2);
  await tree.remove('/sys/class/drm/card1');
  const report = await glance();
  t.strictSame(Object.keys(judged(report)), ['0000:83:00.0']);
  t.equal(report.gpus.length, 1);
});

t.test('GpuSysfs.read() explains a card that sleeps', async (t) => {
  const asleep = { hwmon: { temp1_input: FAILS_WITH_EIO }, device: { 'power/runtime_status': 'suspended\n' } };
  t.match((await reportOf(t, radeonWith(asleep))).notes.join('\n'), /0000:03:00\.0 sleeps .*power\/control/);
  const awake = await reportOf(t, radeonWith({ hwmon: { temp1_input: FAILS_WITH_EIO } }));
  t.notMatch(awake.notes.join('\n'), /sleeps/);
});

t.test('GpuSysfs.read() asks a driver that hangs for nothing more, and reads the other card', async (t) => {
  for (const [file, hung] of [
    [`${RADEON_HWMON}/temp1_input`, 'all'],
    [`${RADEON_DEVICE}/mem_info_vram_used`, 'memory'],
  ] as const) {
    const { tree, look, glance } = await machineWith(t, { ...RADEON_CARD, ...INSTINCT_CARD });
    await glance();
    await tree.put(file, NEVER_ANSWERS);
    const first = await look();
    t.equal(judged(first)['0000:83:00.0']?.['temperature'], 79, `${hung}: the other card is read`);
    t.equal(judged(first)[RADEON_ID]?.['memory'], 'unreadable');
    t.equal(judged(first)[RADEON_ID]?.['temperature'], hung === 'all' ? 'unreadable' : 61);

    // Were the driver's other directory asked now, this look would hang, and then no file could be read any more.
    await tree.put(`${RADEON_HWMON}/power1_average`, NEVER_ANSWERS);
    const later = await glance();
    t.strictSame(
      judged(later)[RADEON_ID],
      { temperature: 'unreadable', power: 'unreadable', memory: 'unreadable' },
      `${hung}: all of the card is missing`,
    );
    t.equal(judged(later)['0000:83:00.0']?.['temperature'], 79);
    await tree.remove(file);
    await tree.remove(`${RADEON_HWMON}/power1_average`);
  }
});

t.test('GpuSysfs.read() answers by its deadline, and a second call joins the look', async (t) => {
  const { tree, clock, source } = await machineWith(t, RADEON_CARD);
  await tree.put(`${RADEON_HWMON}/temp1_input`, NEVER_ANSWERS);
  const startedAtMs = clock.now().elapsedMs;
  const [short, long] = [source.read(startedAtMs + 300), source.read(startedAtMs + 5000)];
  const reports = await whileTimePasses(clock, Promise.all([short, long]));
  t.match(reports[0], { outcome: { kind: 'failed', cause: 'timeout', detail: /no answer within 300 ms/ } });
  t.equal(reports[0].finishedAtMs, startedAtMs + 300);
  t.match(reports[1], { outcome: { kind: 'answered' }, startedAtMs });
});

t.test('GpuSysfs.close() ends the wait between two reads of a counter', async (t) => {
  const { clock, source } = await machineWith(t, arcWith());
  const report = source.read(clock.now().elapsedMs + 5000);
  await source.close();
  t.match(judged(await report)[ARC_ID], { temperature: 58, power: 'not-yet-read' }, 'without time passing');
});
