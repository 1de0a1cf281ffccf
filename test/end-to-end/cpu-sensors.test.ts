// Which of a machine's many temperatures is the CPU's, through the real service: two sockets, AMD's scales, zones of the
// firmware and chips of the board that say something else, sensors that hang, fail or lie.
import t from 'tap';
import {
  chip,
  HOT_SECOND_CCD,
  ROCKCHIP_CHIPS,
  ROCKCHIP_ZONES,
  THREADRIPPER,
  TWO_INTEL_SOCKETS,
  UNLABELLED_K10TEMP,
  ZONES_ONLY,
  zone,
} from '../fixtures/sysfs-cpu.ts';
import { isSafe, readingsOf, refusal, startMachine } from '../support/laid-out-machine.ts';
import { FAILS_WITH_EIO, NEVER_ANSWERS, type TreeTable } from '../support/sysfs-tree.ts';

// Real processes on a machine that may be busy.
t.setTimeout(900_000);

t.test('serve: the CPU is judged by its hottest own sensor, and stopped for: never by a neighbour', async (t) => {
  const hot: readonly (readonly [what: string, tree: TreeTable, id: string, valueC: number])[] = [
    ['the second socket', TWO_INTEL_SOCKETS, 'coretemp-1', 99],
    [
      'a socket of AMD beside a cool one',
      {
        ...chip('hwmon0', 'k10temp', { temp1_label: 'Tctl', temp1_input: '96500' }),
        ...chip('hwmon1', 'k10temp', { temp1_label: 'Tctl', temp1_input: '50000' }),
      },
      'k10temp-0',
      96.5,
    ],
    ['the second die', HOT_SECOND_CCD, 'k10temp-0', 97.125],
    ['a cluster of an ARM chip', ROCKCHIP_CHIPS, 'bigcore0_thermal-0', 96],
    ['a cluster that is a zone only', ROCKCHIP_ZONES, 'bigcore0-thermal-0', 96],
    [
      'Tdie, with Tctl far above and an ACPI zone far below',
      {
        ...chip('hwmon0', 'k10temp', {
          temp1_label: 'Tctl',
          temp1_input: '123000',
          temp2_label: 'Tdie',
          temp2_input: '96000',
        }),
        ...chip('hwmon1', 'acpitz', { temp1_input: '27800' }),
        ...zone(0, 'acpitz', '27800\n'),
      },
      'k10temp-0',
      96,
    ],
  ];
  for (const [what, tree, id, valueC] of hot) {
    const machine = await startMachine(t, { cpu: false, tree });
    const { body } = await machine.preflight(`a stop by ${what}`, (r) => r.status === 423);
    t.match(
      body.findings.find(({ code }: { code: string }) => code === 'over-hard-stop'),
      { level: 'critical', component: 'cpu', id, quantity: 'temperature', value: valueC, limit: 95, action: 'ABORT' },
      what,
    );
    t.match((await machine.service.get('/estop')).body, { state: 'tripped', scope: { kind: 'all' } });
    const shownC = Math.round(valueC * 10) / 10;
    t.match(machine.service.output.join(''), new RegExp(`"level":"fatal".*${id}.*${shownC} °C, hard stop is 95 °C`));
  }
});

t.test('serve: no sensor of the CPU, or none that can be believed, is a missing reading', async (t) => {
  for (const [tree, told] of [
    [{ '/sys/class/hwmon': { is: 'directory' } }, /no CPU chip or zone/],
    [{ ...zone(3, 'x86_pkg_temp', '0\n'), ...zone(0, 'acpitz', '41000\n') }, /0 °C is outside/],
    [chip('hwmon0', 'k10temp', { temp1_input: '4294948300' }), /4294948.3 °C is outside/],
    [chip('hwmon0', 'nct6793', { temp2_label: 'CPUTIN', temp2_input: '48000' }), /nct6793/],
  ] as const satisfies readonly (readonly [TreeTable, RegExp])[]) {
    const machine = await startMachine(t, { cpu: false, tree });
    const { body } = await refusal(t, machine, ['reading-missing missing cpu//temperature WAIT_COOLDOWN']);
    t.match(body.findings[0].message, told);
  }
});

t.test('serve: a second socket that cannot be read from the start is missing, while the first is cool', async (t) => {
  const second: readonly (readonly [what: string, files: TreeTable, told: RegExp])[] = [
    ['hangs', { ...chip('hwmon1', 'coretemp', {}), '/sys/class/hwmon/hwmon1/temp1_input': NEVER_ANSWERS }, /hwmon1/],
    ['fails', { ...chip('hwmon1', 'coretemp', {}), '/sys/class/hwmon/hwmon1/temp1_input': FAILS_WITH_EIO }, /hwmon1/],
    ['reports a fault', chip('hwmon1', 'coretemp', { temp1_input: '40000', temp1_fault: '1' }), /temp1_fault is 1/],
    ['lies', chip('hwmon1', 'coretemp', { temp1_input: '-1000' }), /-1 °C is outside/],
  ];
  for (const [what, files, told] of second) {
    const machine = await startMachine(t, { tree: files });
    const { body } = await refusal(t, machine, ['reading-missing missing cpu//temperature WAIT_COOLDOWN']);
    t.match(body.findings[0].message, told, what);
    t.equal((await readingsOf(machine.service))['cpu/coretemp-0/temperature'], 52);
    await machine.tree.put('/sys/class/hwmon/hwmon1/temp1_input', '53000\n');
    await machine.tree.remove('/sys/class/hwmon/hwmon1/temp1_fault');
    await machine.preflight(`both sockets, after one that ${what}`, isSafe);
  }
});

t.test('serve: a CPU that only looks hot is let go on', async (t) => {
  for (const [what, tree, node, valueC] of [
    ['Tctl stands 27 °C above the die', THREADRIPPER, '', 69],
    ['the offset of a chip without Tdie is configured', UNLABELLED_K10TEMP, 'tctlOffsetC: 27', 69],
    ['another zone is hot', ZONES_ONLY, '', 71],
  ] as const) {
    const machine = await startMachine(t, { cpu: false, tree, node });
    await machine.preflight(what, isSafe);
    const [judged] = Object.entries(await readingsOf(machine.service)).filter(([key]) => /^cpu.*temperature/.test(key));
    t.equal(judged?.[1], valueC, what);
  }
});

t.test('serve: a CPU without Tdie and without a configured offset is judged as it reads', async (t) => {
  const machine = await startMachine(t, { cpu: false, tree: UNLABELLED_K10TEMP });
  await machine.preflight('a stop', (r) => r.status === 423);
});
