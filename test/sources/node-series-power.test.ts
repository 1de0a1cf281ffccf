// What the machine and its CPUs draw, as node_exporter shows it.
import t from 'tap';
import type { RawReading } from '../../src/domain/reading.ts';
import { createNodeSeries } from '../../src/sources/node-series.ts';
import type { SeriesAnswer, SeriesEngine } from '../../src/sources/scrape.ts';
import { ACPI_METER, AMD_CARD, corsair, hwmon, K10TEMP, rapl } from '../fixtures/node-exporter.ts';
import { OPTIONS, readingsIn, readingsOf, scrapeOf } from '../support/node-scrapes.ts';

const START_MS = 1_000_000;
const read = (body: string): SeriesAnswer => createNodeSeries(OPTIONS).read(scrapeOf(body));
const totalsIn = (answer: SeriesAnswer): readonly RawReading[] => readingsOf(answer, 'system', 'total-power');
const cpuPower = (series: SeriesEngine, body: string, atMs: number): Record<string, number | string> =>
  readingsIn({ readings: readingsOf(series.read(scrapeOf(body, START_MS + atMs)), 'cpu', 'power') });

t.test(
  'createNodeSeries() takes the average of an ACPI meter for the total, and the supplies by their own rank',
  async (t) => {
    const answer = read(ACPI_METER + corsair('usb_1', 845) + AMD_CARD);
    t.strictSame(totalsIn(answer), [
      {
        component: 'system',
        quantity: 'total-power',
        value: 612,
        origin: 'ACPI power meter lnxsybus:00_acpi000d:00, average over 1 s',
        rank: 4,
      },
      {
        component: 'system',
        quantity: 'total-power',
        value: 845,
        origin: 'corsairpsu power total (output), usb_1',
        rank: 5,
      },
    ]);
    t.match(
      totalsIn(read(ACPI_METER.replace(' 612', ' 4294967.295'))),
      [{ value: 4294967.295 }],
      'the domain refuses it',
    );
    const battery = ACPI_METER.replace(/(is_battery_watt\{.*\}) 0/, '$1 1e-06');
    t.match(totalsIn(read(battery)), [{ value: null, cause: 'no-sensor', origin: /battery/ }]);
    t.match(totalsIn(read(ACPI_METER.replace(' 612', ' lots'))), [{ value: null, cause: 'invalid', rank: 4 }]);
    t.match(totalsIn(read(ACPI_METER.replace(/.*average_watt.*\n/, ''))), [{ value: null, cause: 'unreadable' }]);
    t.strictSame(totalsIn(read(AMD_CARD)), [], "no part's power is the machine's");
    const withoutInterval = read(ACPI_METER.replace(/.*average_interval.*\n/, ''));
    t.match(totalsIn(withoutInterval), [{ value: 612, origin: /_acpi000d:00$/ }], 'over how long is not told');
    t.match(withoutInterval.notes, [/^Total power: ACPI power meter .*: 612 W$/]);
  },
);

t.test('createNodeSeries() adds the supplies, and misses one that is gone or cannot be read', async (t) => {
  const series = createNodeSeries(OPTIONS);
  const totals = (body: string): readonly RawReading[] => totalsIn(series.read(scrapeOf(body)));
  const pmbus = hwmon('i2c_6_0058', 'ps1', {
    power1: { label: 'pin', power_watt: 300 },
    power2: { label: 'pout1', power_watt: 280 },
  });
  t.match(totals(corsair('usb_1', 500) + pmbus), [{ value: 800, rank: 5 }]);
  t.match(totals(corsair('usb_1', 500)), [{ value: null, cause: 'gone', rank: 5 }]);
  t.match(totals('node_time_seconds 1\n'), [{ value: null, cause: 'gone' }]);
  t.match(totals(corsair('usb_1', 0) + pmbus), [{ value: 300 }], 'a redundant supply in standby gives 0');
  t.match(totals(corsair('usb_1', -5) + pmbus), [{ value: -5 }], 'a wrong number does not vanish in a sum');
  t.match(totals(corsair('usb_1', 'x') + pmbus), [{ value: null, cause: 'invalid' }]);
  t.match(totals(`${corsair('usb_1', 500)}${pmbus}node_hwmon_power_watt{chip="u 1\n`), [
    { value: null, cause: 'invalid' },
  ]);
  const railsOnly = hwmon('usb_1', 'corsairpsu', { power2: { label: 'power +12v', power_watt: 700 } });
  t.match(totalsIn(read(railsOnly)), [{ value: null, cause: 'no-sensor', rank: 5 }]);
  const silent = hwmon('usb_1', 'corsairpsu', { power1: { label: 'power total' } });
  t.match(totalsIn(read(silent + pmbus)), [{ value: null, cause: 'unreadable', origin: /power total/ }]);
  const noSupply = `${AMD_CARD}node_hwmon_power_watt{chip="u 1\n`;
  t.strictSame(totalsIn(read(noSupply)), [], 'a lost line makes no supply where there never was one');
});

t.test('createNodeSeries() takes the power of packages and their memory from two scrapes of RAPL', async (t) => {
  const series = createNodeSeries(OPTIONS);
  t.strictSame(cpuPower(series, rapl(1000, 50), 0), {
    'cpu/package-0/power': 'not-yet-read',
    'cpu/dram-0/power': 'not-yet-read',
    '(cpu/psys-0/power)': 'not-yet-read',
  });
  t.strictSame(
    cpuPower(series, rapl(3000, 150), 10_000),
    { 'cpu/package-0/power': 200, 'cpu/dram-0/power': 10, '(cpu/psys-0/power)': 400 },
    'the MMIO zone counts nothing twice',
  );
  t.match(
    cpuPower(series, rapl(10, 250), 20_000),
    { 'cpu/package-0/power': 'not-yet-read', 'cpu/dram-0/power': 10 },
    'wrapped',
  );
  t.match(cpuPower(series, rapl(2010, 350), 30_000), { 'cpu/package-0/power': 200 });
  t.match(cpuPower(series, rapl(9010, 350), 90_001), { 'cpu/package-0/power': 'not-yet-read' }, 'over 60 s');
  const [reading] = readingsOf(series.read(scrapeOf(rapl(9110, 350), START_MS + 91_001)), 'cpu', 'power');
  t.match(reading, { id: 'package-0', value: 100, sampledAtMs: START_MS + 91_001 });
});

t.test('createNodeSeries() reads RAPL with zones in a label, and without paths', async (t) => {
  const labelled = (
    joules: number,
  ): string => `node_rapl_joules_total{index="0",path="/sys/class/powercap/intel-rapl-mmio:0",rapl_zone="package"} ${joules}
node_rapl_joules_total{index="0",path="/sys/class/powercap/intel-rapl:0",rapl_zone="package"} ${joules}
node_rapl_joules_total{index="0",path="/sys/class/powercap/intel-rapl:0:0",rapl_zone="core"} ${joules}
node_rapl_joules_total{index="1",path="/sys/class/powercap/intel-rapl:1",rapl_zone="package"} ${joules * 2}
node_rapl_joules_total{index="7",path="/sys/class/powercap/intel-rapl:1:0",rapl_zone="dram"} ${joules}
`;
  const series = createNodeSeries(OPTIONS);
  cpuPower(series, labelled(0), 0);
  t.strictSame(cpuPower(series, labelled(1000), 10_000), {
    'cpu/package-0/power': 100,
    'cpu/package-1/power': 200,
    'cpu/dram-1/power': 100,
  });
  const old = createNodeSeries(OPTIONS);
  const pathless = (joules: number): string =>
    `node_rapl_package_joules_total{index="1"} ${joules}\nnode_rapl_dram_joules_total{index="1"} ${joules}\n`;
  cpuPower(old, pathless(0), 0);
  t.strictSame(cpuPower(old, pathless(500), 10_000), { 'cpu/package-1/power': 50, 'cpu/dram-1/power': 50 });
});

t.test("createNodeSeries() adds Intel's dies, and takes the highest of AMD's, which repeat the socket", async (t) => {
  const dies = (
    joules: number,
  ): string => `node_rapl_package_0_die_0_joules_total{index="0",path="/sys/class/powercap/intel-rapl:0"} ${joules}
node_rapl_package_0_die_1_joules_total{index="0",path="/sys/class/powercap/intel-rapl:1"} ${joules + 10}
`;
  const amdChip = hwmon(K10TEMP, 'k10temp', { temp1: { temp_celsius: 50 } });
  for (const [chip, watts] of [
    ['', 200],
    [amdChip, 100],
  ] as const) {
    const series = createNodeSeries(OPTIONS);
    cpuPower(series, dies(0) + chip, 0);
    t.strictSame(cpuPower(series, dies(1000) + chip, 10_000), { 'cpu/package-0/power': watts });
  }
});

t.test('createNodeSeries() has no power of a zone whose line cannot be read', async (t) => {
  const series = createNodeSeries(OPTIONS);
  cpuPower(series, rapl(0, 0), 0);
  const broken = rapl(1000, 100).replace(/(dram_joules_total\{.*\}) .*/, '$1 warm');
  t.match(cpuPower(series, broken, 10_000), { 'cpu/package-0/power': 100, 'cpu/dram-0/power': 'invalid' });
  const lost = `${rapl(2000, 200)}node_rapl_package_joules_total{index="1 9\n`;
  t.match(cpuPower(series, lost, 20_000), { 'cpu/package-0/power': 100, 'cpu/unreadable-line/power': 'invalid' });
  const nan = rapl(3000, 300).replace(/(intel-rapl:0"\}) .*/, '$1 NaN');
  t.match(cpuPower(series, nan, 30_000), { 'cpu/package-0/power': 'invalid' });
  const mirror = rapl(4000, 400).replace(/(intel-rapl-mmio:0"\}) .*/, '$1 x');
  cpuPower(series, rapl(3000, 300), 35_000);
  t.match(cpuPower(series, mirror, 45_000), { 'cpu/package-0/power': 100 }, 'what repeats a zone is not needed');
});

t.test('createNodeSeries() says that RAPL is not readable where its collector gives nothing', async (t) => {
  const answer = read('node_scrape_collector_success{collector="rapl"} 1\n');
  t.strictSame(readingsOf(answer, 'cpu', 'power'), []);
  t.match(answer.notes, [/CPU power: no node_rapl series/]);
  const others = 'node_scrape_collector_success{collector="cpu"} 1\n';
  t.strictSame(read(others).notes, [], 'its collector was not asked');
  t.match(read(`${others}node_scrape_collector_success{collector="rapl"} 1\n`).notes, [/no node_rapl series/]);
  t.strictSame(read(`${rapl(1000, 50)}node_scrape_collector_success{collector="rapl"} 1\n`).notes, []);
});

t.test('createNodeSeries() explains the zones of RAPL that it leaves out', async (t) => {
  const { ignored } = createNodeSeries({ ...OPTIONS, explains: true }).read(scrapeOf(rapl(1000, 50)));
  const zones = ignored.filter(({ what }) => what.includes('path='));
  t.match(zones, [{ what: /^node_rapl_package_joules_total\{.*intel-rapl-mmio:0"/, why: /repeats one/ }]);
  t.equal(zones.length, 1);
});

t.test('createNodeSeries() reads 256 zones of RAPL, and says of more that they cannot be read', async (t) => {
  const powersOf = (count: number): readonly RawReading[] => {
    const body = Array.from({ length: count }, (_, n) => `node_rapl_package_joules_total{index="${n}"} 1\n`).join('');
    return readingsOf(read(body), 'cpu', 'power');
  };
  t.equal(powersOf(256).length, 256);
  t.equal(powersOf(257).length, 257);
  t.match(powersOf(257).at(-1), { id: 'zones', value: null, cause: 'invalid', origin: /257 zones, at most 256/ });
});
