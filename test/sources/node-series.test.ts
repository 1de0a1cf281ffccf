// What node_exporter says of the CPU's temperature, and what holds for the whole body. Shares, GPUs, powers and the
// recordings have files of their own.
import t from 'tap';
import { createNodeSeries, textfileAgeSeconds } from '../../src/sources/node-series.ts';
import type { SeriesAnswer, SeriesOptions } from '../../src/sources/scrape.ts';
import { AMD_CARD, BOARD, hwmon, intelSocket, K10TEMP } from '../fixtures/node-exporter.ts';
import { OPTIONS, readingsIn, readingsOf, scrapeOf } from '../support/node-scrapes.ts';

const read = (body: string, options: Partial<SeriesOptions> = {}): SeriesAnswer =>
  createNodeSeries({ ...OPTIONS, ...options }).read(scrapeOf(body));
const temperatures = (answer: SeriesAnswer): Record<string, number | string> =>
  readingsIn({ readings: readingsOf(answer, 'cpu', 'temperature') });

t.test(
  'createNodeSeries() takes the CPU from its own chips, each socket a reading, and from nothing else',
  async (t) => {
    const answer = read(BOARD + intelSocket(1, 55, 99) + intelSocket(0, 71, 70));
    t.strictSame(temperatures(answer), { 'cpu/coretemp-0/temperature': 71, 'cpu/coretemp-1/temperature': 99 });
    t.strictSame(answer.hardwareLimits, [
      { component: 'cpu', id: 'coretemp-0', criticalC: 100 },
      { component: 'cpu', id: 'coretemp-1', criticalC: 100 },
    ]);
    const [first] = readingsOf(answer, 'cpu', 'temperature');
    t.equal(
      first?.origin,
      'coretemp Package id 0, node_hwmon_temp_celsius{chip="platform_coretemp_0",sensor="temp1"}',
      'where it stands',
    );
    t.notOk(first && 'sampledAtMs' in first, 'as old as the scrape');
  },
);

t.test('createNodeSeries() takes Tdie and the dies of AMD, and Tctl only where there is no Tdie', async (t) => {
  const tctl = { label: 'Tctl', temp_celsius: 96 };
  const amd = (sensors: Parameters<typeof hwmon>[2]): string => hwmon(K10TEMP, 'k10temp', sensors);
  const id = 'cpu/k10temp-0/temperature';
  const withTdie = amd({ temp1: tctl, temp2: { label: 'Tdie', temp_celsius: 69 } });
  t.strictSame(temperatures(read(withTdie)), { [id]: 69 });
  const withTccd = amd({
    temp1: tctl,
    temp2: { label: 'Tdie', temp_celsius: 61 },
    temp3: { label: 'Tccd1', temp_celsius: 60 },
    temp4: { label: 'Tccd2', temp_celsius: 97 },
  });
  t.strictSame(temperatures(read(withTccd)), { [id]: 97 });
  t.strictSame(temperatures(read(amd({ temp1: tctl }))), { [id]: 96 });
  t.strictSame(temperatures(read(amd({ temp1: tctl }), { tctlOffsetC: 27 })), { [id]: 69 });
  t.strictSame(
    temperatures(read(amd({ temp1: { temp_celsius: 96 } }), { tctlOffsetC: 27 })),
    { [id]: 69 },
    'unlabelled',
  );
  const silentTdie = amd({ temp1: tctl, temp2: { label: 'Tdie' } });
  t.strictSame(temperatures(read(silentTdie)), { [id]: 'unreadable' }, 'Tdie is there and gives no number');
  const zen = hwmon('platform_zenpower_0', 'zenpower', { temp1: { label: 'Tdie', temp_celsius: 65 }, temp2: tctl });
  t.strictSame(temperatures(read(zen)), { 'cpu/zenpower-0/temperature': 65 });
});

t.test('createNodeSeries() leaves out a sensor whose fault flag is set, or cannot be read', async (t) => {
  for (const flag of ['1', 'true']) {
    const chip = hwmon('platform_coretemp_0', 'coretemp', {
      temp1: { temp_celsius: 99, temp_fault: flag },
      temp2: { temp_celsius: 60, temp_fault: 0 },
    });
    t.strictSame(temperatures(read(chip)), { 'cpu/coretemp-0/temperature': 60 }, `fault ${flag}`);
  }
  const alone = hwmon('platform_coretemp_0', 'coretemp', { temp1: { temp_celsius: 40, temp_fault: 1 } });
  t.strictSame(temperatures(read(alone)), { 'cpu/coretemp-0/temperature': 'unreadable' });
});

t.test(
  'createNodeSeries() takes a chip without labels, and one that tells no name where its place is known',
  async (t) => {
    t.strictSame(temperatures(read(hwmon(K10TEMP, 'k10temp', { temp1: { temp_celsius: 71 } }))), {
      'cpu/k10temp-0/temperature': 71,
    });
    const nameless =
      hwmon('platform_coretemp_0', null, { temp1: { temp_celsius: 70 } }) +
      hwmon(K10TEMP, null, { temp1: { temp_celsius: 60 } }) +
      hwmon('hwmon4', null, { temp1: { temp_celsius: 99 } });
    t.strictSame(temperatures(read(nameless)), {
      'cpu/k10temp-0/temperature': 60,
      'cpu/coretemp-0/temperature': 70,
    });
  },
);

t.test('createNodeSeries() remembers a name that a chip told, and the id that it was given', async (t) => {
  const series = createNodeSeries(OPTIONS);
  const arm = (name: string | null): string => hwmon('thermal_thermal_zone3', name, { temp1: { temp_celsius: 71 } });
  series.read(scrapeOf(arm('cpu_thermal')));
  t.strictSame(temperatures(series.read(scrapeOf(arm(null)))), { 'cpu/cpu_thermal-0/temperature': 71 });
  t.strictSame(temperatures(series.read(scrapeOf(`${arm(null)}${intelSocket(1, 50)}`))), {
    'cpu/coretemp-0/temperature': 50,
    'cpu/cpu_thermal-0/temperature': 71,
  });
  t.strictSame(temperatures(series.read(scrapeOf(intelSocket(0, 40) + intelSocket(1, 50)))), {
    'cpu/coretemp-1/temperature': 40,
    'cpu/coretemp-0/temperature': 50,
  });
});

t.test('createNodeSeries() calls a chip that is listed without a number unreadable', async (t) => {
  const body = `${intelSocket(0, 50)}node_hwmon_chip_names{chip="platform_coretemp_1",chip_name="coretemp"} 1\n`;
  t.strictSame(temperatures(read(body)), {
    'cpu/coretemp-0/temperature': 50,
    'cpu/coretemp-1/temperature': 'unreadable',
  });
});

t.test('createNodeSeries() passes on what cannot be true, and takes the hottest that can', async (t) => {
  const chip = (c: string | number): string => hwmon('platform_coretemp_0', 'coretemp', { temp1: { temp_celsius: c } });
  t.strictSame(temperatures(read(chip(4294948.3))), { 'cpu/coretemp-0/temperature': 4294948.3 });
  t.strictSame(temperatures(read(chip('NaN'))), { 'cpu/coretemp-0/temperature': Number.NaN });
  t.strictSame(temperatures(read(intelSocket(0, 3892313.987, 61))), { 'cpu/coretemp-0/temperature': 61 });
  t.strictSame(
    temperatures(read(chip(55) + chip(96))),
    { 'cpu/coretemp-0/temperature': 96 },
    'the worse of duplicates',
  );
  t.strictSame(temperatures(read(chip('NaN') + chip(96))), { 'cpu/coretemp-0/temperature': 96 });
});

t.test('createNodeSeries() takes a critical temperature between 60 and 130 °C for one', async (t) => {
  for (const [crit, expected] of [
    [59.9, []],
    [60, [60]],
    [130, [130]],
    [130.1, []],
  ] as const) {
    const body = hwmon(K10TEMP, 'k10temp', { temp1: { temp_celsius: 50, temp_crit_celsius: crit } });
    t.strictSame(
      read(body).hardwareLimits.map(({ criticalC }) => criticalC),
      expected,
    );
  }
  const tctl = hwmon(K10TEMP, 'k10temp', { temp1: { label: 'Tctl', temp_celsius: 96, temp_crit_celsius: 110 } });
  t.match(read(tctl, { tctlOffsetC: 27 }).hardwareLimits, [{ criticalC: 83 }], "on Tctl's own scale");
});

t.test('createNodeSeries() takes thermal zones of a CPU only where no chip of a CPU ever was', async (t) => {
  const zones = `node_thermal_zone_temp{type="x86_pkg_temp",zone="10"} 72
node_thermal_zone_temp{type="x86_pkg_temp",zone="2"} 64
node_thermal_zone_temp{type="cpu-thermal",zone="0"} 0
node_thermal_zone_temp{type="gpu-thermal",zone="1"} 90
`;
  t.strictSame(temperatures(read(BOARD + zones)), {
    'cpu/cpu-thermal-0/temperature': 0,
    'cpu/x86_pkg_temp-0/temperature': 64,
    'cpu/x86_pkg_temp-1/temperature': 72,
  });
  t.match(readingsOf(read(zones), 'cpu', 'temperature')[0]?.origin, '0 for a zone that cannot be read');
  t.strictSame(temperatures(read(intelSocket(0, 50) + zones)), { 'cpu/coretemp-0/temperature': 50 });

  const series = createNodeSeries(OPTIONS);
  series.read(scrapeOf(intelSocket(0, 50) + zones));
  const without = series.read(scrapeOf(`${zones}node_scrape_collector_success{collector="hwmon"} 0\n`));
  t.strictSame(temperatures(without), { 'cpu/temperature': 'gone' });
  t.match(readingsOf(without, 'cpu', 'temperature')[0]?.origin, /coretemp-0 had a sensor.*collector hwmon failed/);
});

t.test('createNodeSeries() reads each cluster of an ARM chip beside a cool sensor of the whole', async (t) => {
  const heat = { soc: 45, bigcore0: 96, littlecore: 50, center: 97, gpu: 98 };
  const of = (row: (name: string, c: number, place: number) => string): string =>
    Object.entries(heat)
      .map(([name, c], place) => row(name, c, place))
      .join('');
  const chips = of((name, c, place) =>
    hwmon(`thermal_thermal_zone${place}`, `${name}_thermal`, { temp1: { temp_celsius: c } }),
  );
  t.strictSame(temperatures(read(chips)), {
    'cpu/soc_thermal-0/temperature': 45,
    'cpu/bigcore0_thermal-0/temperature': 96,
    'cpu/littlecore_thermal-0/temperature': 50,
  });
  const zones = of((name, c, place) => `node_thermal_zone_temp{type="${name}-thermal",zone="${place}"} ${c}\n`);
  t.strictSame(temperatures(read(zones)), {
    'cpu/soc-thermal-0/temperature': 45,
    'cpu/bigcore0-thermal-0/temperature': 96,
    'cpu/littlecore-thermal-0/temperature': 50,
  });
});

t.test('createNodeSeries() names the collectors that failed when there is no temperature', async (t) => {
  const failed = (...collectors: string[]): string =>
    collectors.map((name) => `node_scrape_collector_success{collector="${name}"} 0\n`).join('');
  const [both] = readingsOf(read(failed('hwmon', 'thermal_zone')), 'cpu', 'temperature');
  t.match(both, { value: null, cause: 'unreadable' });
  t.match(both?.origin, /^collectors thermal_zone and hwmon failed/);
  const virtual = `${failed('hwmon')}node_scrape_collector_success{collector="thermal_zone"} 1\n`;
  t.match(readingsOf(read(virtual), 'cpu', 'temperature'), [{ cause: 'no-sensor', origin: /^collector hwmon failed/ }]);
  t.match(readingsOf(read(BOARD), 'cpu', 'temperature'), [{ cause: 'no-sensor', origin: /acpitz/ }]);
});

t.test('createNodeSeries() makes a sensor unreadable whose line cannot be read', async (t) => {
  const one = `${intelSocket(0, 50)}${intelSocket(1, 'hot', 'hot')}`;
  t.strictSame(temperatures(read(one)), {
    'cpu/coretemp-0/temperature': 50,
    'cpu/coretemp-1/temperature': 'invalid',
  });
  t.match(readingsOf(read(one), 'cpu', 'temperature')[1]?.origin, /^line \d+: .*hot/);
  const zone = 'node_thermal_zone_temp{type="x86_pkg_temp",zone="1"} hot\n';
  t.strictSame(temperatures(read(zone)), { 'cpu/x86_pkg_temp-0/temperature': 'invalid' });
  const name = intelSocket(0, 50).replace('"coretemp"} 1', '"coretemp"} one');
  t.strictSame(temperatures(read(name)), { 'cpu/coretemp-0/temperature': 50 }, 'its labels have told all');
});

t.test('createNodeSeries() never calls the CPU whole when a line may have been any sensor', async (t) => {
  const lost = ['node_hwmon_temp_celsius', 'node_hwmon_chip_names', 'node_hwmon_sensor_label'];
  for (const name of lost) {
    t.strictSame(
      temperatures(read(`${intelSocket(0, 50)}${name}{chip="a" sensor="b",} 1\n`)),
      { 'cpu/coretemp-0/temperature': 50, 'cpu/unreadable-line/temperature': 'invalid' },
      name,
    );
  }
  const zone = 'node_thermal_zone_temp{type="x86_pkg_temp",zone="1"} 50\nnode_thermal_zone_temp{type="x86 60\n';
  t.strictSame(temperatures(read(zone)), {
    'cpu/x86_pkg_temp-0/temperature': 50,
    'cpu/unreadable-line/temperature': 'invalid',
  });
  const many = Array.from({ length: 60 }, (_, n) => `node_hwmon_temp_fault{chip="c${n}",sensor="temp1"} x\n`).join('');
  t.strictSame(
    temperatures(read(intelSocket(0, 50) + many)),
    { 'cpu/coretemp-0/temperature': 50, 'cpu/unreadable-line/temperature': 'invalid' },
    'more are rejected than are told',
  );
});

t.test('createNodeSeries() believes an exporter 64 chips', async (t) => {
  const body = Array.from({ length: 70 }, (_, socket) => intelSocket(socket, 50)).join('');
  const answer = read(body);
  t.equal(readingsOf(answer, 'cpu', 'temperature').length, 64);
  t.match(answer.notes[0], '70 chips, only 64 are read');
  const zones = Array.from({ length: 70 }, (_, n) => `node_thermal_zone_temp{type="x86_pkg_temp",zone="${n}"} 50\n`);
  t.equal(readingsOf(read(zones.join('')), 'cpu', 'temperature').length, 64, 'nor more zones');
});

t.test('createNodeSeries() remembers 256 ids and 1024 names of chips, and then forgets', async (t) => {
  const series = createNodeSeries(OPTIONS);
  const idsFrom = (first: number): readonly (string | undefined)[] => {
    const body = Array.from({ length: 64 }, (_, n) => intelSocket(first + n, 50)).join('');
    return readingsOf(series.read(scrapeOf(body)), 'cpu', 'temperature').map(({ id }) => id);
  };
  t.equal(idsFrom(0)[0], 'coretemp-0');
  t.equal(idsFrom(64)[0], 'coretemp-64');
  t.equal(idsFrom(128)[0], 'coretemp-128');
  t.equal(idsFrom(192)[63], 'coretemp-255');
  t.equal(idsFrom(256)[0], 'coretemp-0');

  const others = (count: number): string =>
    Array.from({ length: count }, (_, n) => `node_hwmon_chip_names{chip="c${n}",chip_name="fan"} 1\n`).join('');
  for (const [count, expected] of [
    [1023, { 'cpu/cpu_thermal-0/temperature': 71 }],
    [1024, { 'cpu/temperature': 'gone' }],
  ] as const) {
    const named = createNodeSeries(OPTIONS);
    const last = (name: string | null): string => hwmon('z', name, { temp1: { temp_celsius: 71 } });
    named.read(scrapeOf(others(count) + last('cpu_thermal')));
    t.strictSame(temperatures(named.read(scrapeOf(last(null)))), expected, `behind ${count} others`);
  }
});

t.test('createNodeSeries() gives the sample its own time where the body stamps it', async (t) => {
  const at = Date.UTC(2026, 0, 1, 0, 10);
  const body = `node_hwmon_chip_names{chip="platform_coretemp_0",chip_name="coretemp"} 1
node_hwmon_temp_celsius{chip="platform_coretemp_0",sensor="temp1"} 50 ${at - 7000}
`;
  const answer = createNodeSeries(OPTIONS).read(scrapeOf(body, 500_000, at));
  t.match(readingsOf(answer, 'cpu', 'temperature'), [{ value: 50, sampledAtMs: 500_020 - 7000 }]);
});

t.test('createNodeSeries() gives the exporter its clock for a witness', async (t) => {
  const body = 'node_time_seconds 1.7956117888018866e+09\n';
  t.strictSame(read(body).witnesses, [{ of: 'source', name: 'node_time_seconds', value: 1795611788.8018866 }]);
  t.strictSame(read('node_time_seconds NaN\n').witnesses, []);
  t.strictSame(read('windows_cpu_time_total{core="0,0",mode="idle"} 1\n').witnesses, []);
});

t.test("createNodeSeries() says nothing of another exporter's body", async (t) => {
  const answer = read('DCGM_FI_DEV_GPU_TEMP{gpu="0",UUID="GPU-1"} 61\nDCGM_FI_DEV_POWER_USAGE{gpu="0"\n');
  t.strictSame(readingsIn(answer), {});
  t.strictSame(readingsIn(read('node_hwmon_temp_celsius{chip="a",sensor="temp1"} x\n')), {
    'cpu/utilization': 'no-sensor',
    'memory/memory': 'no-sensor',
    'cpu/temperature': 'no-sensor',
  });
  const merged = 'DCGM_FI_DEV_POWER_USAGE{gpu="0"\nnode_hwmon_temp_celsius{chip="a",sensor="temp1"} x\n';
  t.ok('cpu/temperature' in readingsIn(read(merged)), 'a lost line of its own among those of others');
});

t.test('createNodeSeries() explains what it does not read, only when asked', async (t) => {
  const body = `${BOARD}${AMD_CARD}${hwmon(K10TEMP, 'k10temp', {
    temp1: { label: 'Tctl', temp_celsius: 96, temp_max_celsius: 70 },
    temp2: { label: 'Tdie', temp_celsius: 69 },
  })}node_thermal_zone_temp{type="x86_pkg_temp",zone="1"} 71
node_cpu_guest_seconds_total{cpu="0",mode="user"} 3
`;
  t.strictSame(read(body).ignored, []);
  const { ignored } = read(body, { explains: true });
  const why = (what: string): string =>
    ignored
      .filter((each) => each.what.includes(what))
      .map((each) => each.why)
      .join();
  t.match(why('thermal_thermal_zone0",sensor="temp0'), /firmware/);
  t.match(why('nct6775_656",sensor="temp1'), /board chip/);
  t.match(why('nvme_nvme0'), /disk/);
  t.match(why(`${K10TEMP}",sensor="temp1`), /fan-control scale/);
  t.match(why('type="acpitz"'), /no CPU's zone/);
  t.match(why('x86_pkg_temp'), /own chip is read/);
  t.match(why('node_hwmon_temp_max_celsius'), /limit/);
  t.match(why('node_cpu_guest'), /contained in user/);
  t.equal(why(`${K10TEMP}",sensor="temp2`), '', 'what is read is not ignored');
  t.equal(why('0a:00_0",sensor="temp1'), '');
});

t.test("textfileAgeSeconds() is the oldest file's age by the exporter's own clock", async (t) => {
  const scrape = scrapeOf(
    'node_textfile_mtime_seconds{file="ipmi.prom"} 1000\nnode_textfile_mtime_seconds{file="smart.prom"} 400\n',
    5000,
    1_010_000,
  );
  t.equal(textfileAgeSeconds(scrape), 610);
  const odd = scrapeOf(
    'node_textfile_mtime_seconds{file="a"} NaN\nnode_textfile_mtime_seconds{file="b"} 400\n',
    0,
    1_010_000,
  );
  t.equal(textfileAgeSeconds(odd), 610, 'a time that is none hides no other');
  t.equal(textfileAgeSeconds(scrapeOf('node_time_seconds 1\n')), null);
});

t.test('createNodeSeries() takes time in proportion to the sensors of a chip', { timeout: 30_000 }, async (t) => {
  const sensors = (chip: string) =>
    Array.from({ length: 40_000 }, (_, n) => `node_hwmon_temp_celsius{chip="${chip}",sensor="temp${n}"} 50\n`).join('');
  const card = '0000:00:03_1_0000:0a:00_0';
  const names = `node_hwmon_chip_names{chip="${card}",chip_name="amdgpu"} 1\n`;
  const answer = read(names + sensors('platform_coretemp_0') + sensors(card));
  t.equal(readingsIn(answer)['cpu/coretemp-0/temperature'], 50);
});

t.test('createNodeSeries() bears a series that is repeated more often than a call has arguments', async (t) => {
  const body = `${'node_memory_MemTotal_bytes 100\n'.repeat(190_000)}node_memory_MemAvailable_bytes 60\n`;
  t.equal(readingsIn(read(body))['memory/memory'], 0.4);
});

t.test('createNodeSeries() calls a CPU unread where the number of one of its sensors cannot be read', async (t) => {
  const of = (n: number, value: string) =>
    `node_hwmon_temp_celsius{chip="platform_coretemp_0",sensor="temp${n}"} ${value}\n`;
  const answer = read(of(1, '99,0') + of(2, '50'));
  t.match(readingsIn(answer), { 'cpu/coretemp-0/temperature': 50, 'cpu/unreadable-line/temperature': 'invalid' });
});
