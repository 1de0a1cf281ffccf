// `explain` on texts of nvidia-smi and on copies of /sys, read through the real sources.
import { execFileSync } from 'node:child_process';
import { truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import t, { type Test } from 'tap';
import { ALL_FIELDS, CORE_FIELDS } from '../../src/sources/nvidia-smi-card.ts';
import { ADA, ADA_IDLE, type CardCells, POWER_FAILS } from '../fixtures/nvidia-smi-cards.ts';
import { LOST_AT_41, TEMPERATURE_LIMITS, WHOLE_TOOL_FAILURES } from '../fixtures/nvidia-smi-texts.ts';
import { BOARD_GARBAGE, chip, THREADRIPPER, TWO_INTEL_SOCKETS, ZONES_ONLY, zone } from '../fixtures/sysfs-cpu.ts';
import { RADEON_CARD } from '../fixtures/sysfs-gpu.ts';
import { MEMINFO, stat } from '../fixtures/sysfs-machine.ts';
import { NVIDIA_SERVER } from '../fixtures/sysfs-pci.ts';
import { corsairSupply } from '../fixtures/sysfs-power.ts';
import { type Ran, vsfSafety } from '../support/command-line.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { layOut, type TreeTable, whileTimePasses } from '../support/sysfs-tree.ts';
import { tempDir } from '../support/temp-dir.ts';

const rowOf = (card: CardCells, fields: readonly string[] = ALL_FIELDS): string =>
  fields.map((field) => card[field] ?? '').join(', ');

/** Explains a file with this text. */
async function explainText(t: Test, text: string, ...options: string[]): Promise<Ran> {
  const file = join(await tempDir(t), 'out.txt');
  writeFileSync(file, text);
  return vsfSafety(['explain', file, ...options]);
}

const jsonOf = async (t: Test, text: string) => JSON.parse((await explainText(t, text, '--json')).out);

interface Told {
  readonly component: string;
  readonly id?: string;
  readonly quantity: string;
  readonly value?: number;
  readonly verdict: string;
  readonly missing?: string;
}

/** `cpu temperature` -> verdicts in their order. */
const verdicts = (readings: readonly Told[]): string[] =>
  readings.map(({ quantity, verdict, value, missing }) => `${quantity} ${verdict} ${value ?? missing}`);

t.test('explain reads the answer to our own query as the service does, with the verdict on each number', async (t) => {
  const cold = { ...POWER_FAILS, ...ADA_IDLE, 'temperature.gpu': '0', 'power.draw': '[Unknown Error]' };
  const throttled = { ...ADA, 'clocks_event_reasons.active': '0x0000000000000040' };
  const text = `${rowOf(throttled)}\n${rowOf(cold)}\n`;
  const { form, readings, throttledGpus, hardwareLimits } = await jsonOf(t, text);
  t.equal(form, 'nvidia-smi-query');
  const of = (id: string | undefined) => verdicts(readings.filter((reading: Told) => reading.id === id));
  t.match(of(ADA['uuid']), ['temperature judged 71', 'power judged 241.37', 'memory judged 0.25', 'power shown 248.9']);
  t.match(of(ADA_IDLE['uuid']), ['temperature refused invalid', 'power missing unreadable', 'memory judged 0']);
  t.match(throttledGpus, [{ gpu: ADA['uuid'], reason: /HW thermal slowdown/ }]);
  t.match(hardwareLimits, [{ enforcedPowerW: 260, defaultPowerW: 300 }, {}]);
  const { code, out } = await explainText(t, text);
  t.equal(code, 0);
  t.match(out, /gpu 0000:0b:00\.0 temperature {2}71\.0 °C +judged +GPU 0 temperature\.gpu \(T\.Limit: 17 °C left\)/);
  t.match(out, /gpu 0000:41:00\.0 temperature +- +refused +temperature 0 °C is outside over 0 to 125 °C/);
  t.match(out, /gpu 0000:41:00\.0 power +- +missing, unreadable +.*\[Unknown Error\]/);
});

t.test('explain takes the fields from a heading, and says so when the cells carry units', async (t) => {
  const heading = CORE_FIELDS.map((field) => (field.startsWith('memory') ? `${field} [MiB]` : field)).join(', ');
  const good = await jsonOf(t, `${heading}\r\n${rowOf(ADA, CORE_FIELDS)}\r\n`);
  t.match(verdicts(good.readings), ['temperature judged 71', 'power judged 241.37', 'memory judged 0.25']);
  t.match(good.notes.join('\n'), /an old driver: power\.draw\.instant/);
  const units = await jsonOf(t, `${heading}\n${rowOf({ ...ADA, 'memory.used': '12000 MiB' }, CORE_FIELDS)}\n`);
  t.match(verdicts(units.readings), ['temperature judged 71', 'power judged 241.37', 'memory missing invalid']);
  t.match(units.advice, [/nounits/]);
});

t.test('explain tells a lost card beside the rows of the others, and a row that nobody can read', async (t) => {
  for (const text of LOST_AT_41) {
    const { readings } = await jsonOf(t, `${rowOf(ADA)}\n${text}\n`);
    const lost = readings.filter(({ id }: Told) => id === '0000:41:00.0');
    t.match(verdicts(lost), [
      'temperature missing unreadable',
      'power missing unreadable',
      'memory missing unreadable',
    ]);
    t.ok(readings.some(({ id, verdict }: Told) => id === ADA['uuid'] && verdict === 'judged'));
  }
  const comma = await jsonOf(t, rowOf(ADA).replace('241.37', '241,37'));
  t.match(comma, { form: 'nvidia-smi-other-query', title: /garbled or of another query/ });
  t.match(verdicts(comma.readings)[0], 'temperature missing invalid');
});

t.test('explain knows every failure of the whole tool, and what can be done about it', async (t) => {
  for (const { what, stdout } of WHOLE_TOOL_FAILURES.filter(({ stdout }) => stdout !== '')) {
    const told = await jsonOf(t, stdout);
    t.match(told, { form: 'nvidia-smi-failure', readings: [], advice: [/sign of a GPU/, String] }, what);
  }
  t.match((await explainText(t, WHOLE_TOOL_FAILURES[0]?.stdout ?? '')).out, /version mismatch; .*reboot/);
  const refused = await explainText(t, 'Field "clocks_event_reasons.active" is not a valid field to query.\n');
  t.match(
    refused.out,
    /does not know clocks_event_reasons\.active; the service asks again, for:\n.*clocks_throttle_reasons/,
  );
});

t.test('explain recognises the other forms of nvidia-smi, reads nothing of them and shows our question', async (t) => {
  const cases: readonly [form: string, text: string][] = [
    [
      'nvidia-smi-table',
      '+------+\n| NVIDIA-SMI 590.48.01    Driver Version: 590.48.01 |\n|   0  NVIDIA X   On | 41C |\n',
    ],
    ['nvidia-smi-xml', '<?xml version="1.0" ?>\n<nvidia_smi_log>\n<gpu id="0"></gpu></nvidia_smi_log>\n'],
    ['nvidia-smi-list', 'GPU 0: NVIDIA X (UUID: GPU-0c1a7e52-93b4-4f0d-8a6e-1d2f3b4c5d60)\n'],
    ['nvidia-smi-dmon', '# gpu    pwr  gtemp\n# Idx      W      C\n    0     38     40\n'],
    ['nvidia-smi-other-query', 'name, temperature.gpu, power.draw [W]\nNVIDIA X, 40, 38.00 W\n'],
    ['nvidia-smi-other-query', 'timestamp, gpu_uuid, pid, used_gpu_memory [MiB]\n'],
  ];
  for (const [form, text] of cases) {
    const told = await jsonOf(t, text);
    t.match(
      told,
      { form, readings: [], advice: [/asks this instead/, /--query-gpu=index,uuid,.*noheader,nounits/] },
      form,
    );
  }
});

t.test('explain takes only temperature limits from the log of nvidia-smi -q, and no T.Limit', async (t) => {
  const { form, readings, hardwareLimits, ignored } = await jsonOf(t, TEMPERATURE_LIMITS);
  t.match({ form, readings }, { form: 'nvidia-smi-log', readings: [] });
  t.match(hardwareLimits, [{ id: '0000:0b:00.0', slowdownC: 95 }, {}]);
  t.notOk('slowdownC' in hardwareLimits[1], 'the second card tells distances only');
  t.match(ignored, [{ what: /T\.Limit/ }, { what: 'everything else' }]);
});

/** Explains a tree, on a clock of its own. */
async function explainTree(t: Test, table: TreeTable, ...options: string[]): Promise<Ran> {
  const { root } = await layOut(t, {
    '/proc/stat': stat({ cpu0: '1 0 0 9 0 0 0 0 0 0' }),
    '/proc/meminfo': MEMINFO,
    ...table,
  });
  const clock = new ManualClock();
  return whileTimePasses(clock, vsfSafety(['explain', root, ...options], { clock }));
}

/** What is ignored: `acpitz, hwmon0/temp1_input` -> why. */
async function whyNot(t: Test, table: TreeTable): Promise<Record<string, string>> {
  const { ignored } = JSON.parse((await explainTree(t, table, '--json')).out);
  return Object.fromEntries(ignored.map(({ what, why }: { what: string; why: string }) => [what, why]));
}

t.test('explain reads a copy of /sys through the real sources and names each origin', async (t) => {
  const { code, out } = await explainTree(t, { ...THREADRIPPER, ...NVIDIA_SERVER });
  t.equal(code, 0);
  t.match(out, /cpu k10temp-0 temperature +69\.0 °C +judged +k10temp Tdie, \/sys\/class\/hwmon\/hwmon1\/temp2_input/);
  t.match(out, /^ {2}memory +25\.0 % +judged +\/proc\/meminfo: MemAvailable$/m);
  t.match(out, /acpitz, hwmon0\/temp1_input +27\.8 °C +a value of the firmware/);
  t.match(out, /k10temp Tctl, hwmon1\/temp1_input +96\.0 °C +.*fan-control scale, beside Tdie/);
  t.match(out, /A copy stands still/);
  t.match(out, /explain its output as well/);
});

t.test('explain says of every sensor that is not read why, in the reader’s own words where it has some', async (t) => {
  t.strictSame(await whyNot(t, { ...TWO_INTEL_SOCKETS, ...BOARD_GARBAGE, ...zone(0, 'x86_pkg_temp', '50000\n') }), {
    'coretemp Core 0, hwmon0/temp2_input': 'the hottest sensor of its chip counts, and this is not it',
    'nct6793 CPUTIN, hwmon5/temp2_input':
      'a chip on the board (Super-I/O): it also shows pins where nothing is connected',
    'nct6793, hwmon5/temp15_input': 'a chip on the board (Super-I/O): it also shows pins where nothing is connected',
    'nvme Composite, hwmon6/temp1_input': 'a drive',
    'iwlwifi_1, hwmon7/temp1_input': 'a network adapter',
    'pch_cannonlake, hwmon8/temp1_input': 'the chipset',
    'amdgpu edge, hwmon9/temp1_input': 'of a GPU: cards are read in /sys/class/drm, integrated graphics only shown',
    'x86_pkg_temp, thermal_zone0':
      "zones stand in only where hwmon has no chip of the CPU, and then those of a CPU's type",
  });
  const faulty = chip('hwmon0', 'coretemp', {
    temp1_input: '99000',
    temp1_fault: '1',
    temp2_input: '50000',
    temp3_input: '0',
  });
  t.strictSame(await whyNot(t, faulty), {
    'coretemp, hwmon0/temp1_input': 'temp1_fault is 1',
    'coretemp, hwmon0/temp3_input': 'temp3_input: temperature 0 °C is outside over 0 to 125 °C',
  });
  const zones = await whyNot(t, ZONES_ONLY);
  t.same(Object.keys(zones), ['acpitz, thermal_zone0', 'INT3400 Thermal, thermal_zone1', 'pch_skylake, thermal_zone2']);
});

t.test('explain counts as read what is reached through a card or stands in a sum of supplies', async (t) => {
  const table = { ...RADEON_CARD, ...corsairSupply('hwmon7', '712000000'), ...corsairSupply('hwmon8', '698000000') };
  const { readings, ignored } = JSON.parse((await explainTree(t, table, '--json')).out);
  const total = readings.find(({ quantity }: Told) => quantity === 'total-power');
  t.match(total, { value: 1410, verdict: 'judged' });
  t.ok(
    readings.some(
      ({ component, quantity, verdict }: Told) =>
        component === 'gpu' && quantity === 'temperature' && verdict === 'judged',
    ),
  );
  const supplies = ignored.filter(({ what }: { what: string }) => what.startsWith('corsairpsu'));
  t.equal(supplies.length, 6, 'the three rails of each');
  for (const { why } of supplies) t.match(why, /a rail/);
  t.notOk(ignored.some(({ what }: { what: string }) => /amdgpu edge/.test(what)));
});

t.test('explain refuses what it cannot explain, with the reason and the way out', async (t) => {
  const folder = await tempDir(t);
  const refused = async (name: string, err: RegExp): Promise<void> => {
    t.match(await vsfSafety(['explain', name]), { code: 1, out: '', err }, name);
  };
  await refused(join(folder, 'none'), /it is not there/);
  await refused(folder, /no sys\/class and no proc\/stat in it\n$/);
  await refused('/proc', /give the directory around it, \/\n/);
  await refused('/dev/null', /neither a file nor a directory/);
  execFileSync('mkfifo', [join(folder, 'fifo')]);
  await refused(join(folder, 'fifo'), /neither a file nor a directory/);
  writeFileSync(join(folder, 'page'), '<!DOCTYPE html>\n<html><body>Node Exporter</body></html>\n');
  await refused(join(folder, 'page'), /a web page.*\/metrics/);
  writeFileSync(join(folder, 'json'), '{"status":"success","data":{"resultType":"vector","result":[]}}');
  await refused(join(folder, 'json'), /JSON, as a Prometheus server/);
  writeFileSync(join(folder, 'body.gz'), gzipSync('up 1\n'));
  await refused(join(folder, 'body.gz'), /gunzip it first/);
  await refused('localhost:9100/metrics', /as an address it is http:\/\/localhost:9100\/metrics/);
  writeFileSync(join(folder, 'words'), 'hello, world, again, friend\n');
  await refused(join(folder, 'words'), /nor an output of nvidia-smi/);
  writeFileSync(join(folder, 'empty'), '');
  await refused(join(folder, 'empty'), /nor an output of nvidia-smi/);
  writeFileSync(join(folder, 'large'), '');
  truncateSync(join(folder, 'large'), 17 * 1024 * 1024);
  await refused(join(folder, 'large'), /17 MiB.*at most 16 MiB/);
  t.match(await vsfSafety(['explain']), { code: 2, err: /URL, FILE or DIR is missing/ });
});
