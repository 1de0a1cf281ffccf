// Total power, and that of CPU packages, in the bodies of exporters: what counts as the whole, what is added, what is not.
import t from 'tap';
import type { RawReading } from '../../src/domain/reading.ts';
import { createPowerSeries, outletNames, type PowerOutlet } from '../../src/sources/power-series.ts';
import type { SeriesAnswer, SeriesEngine } from '../../src/sources/scrape.ts';
import { SOURCE_WALL_MS, scrapeOf, worstOf } from '../fixtures/gpu-exporters.ts';
import { idracControl, idracSupply, ipmi, ipmiSensor, keplerPlatform, outlet } from '../fixtures/power-exporters.ts';

const OPTIONS = { tctlOffsetC: 0, zfsCacheIsAvailable: false, explains: false, outlets: [] };

const engine = (outlets: readonly PowerOutlet[] = []): SeriesEngine => createPowerSeries({ ...OPTIONS, outlets });
const read = (body: string, series = engine(), extraNames: readonly string[] = []): SeriesAnswer =>
  series.read(scrapeOf(body, { extraNames }));
const totals = ({ readings }: SeriesAnswer): RawReading[] => readings.filter((raw) => raw.quantity === 'total-power');
const ranked = (answer: SeriesAnswer): unknown[] => totals(answer).map(({ rank, value }) => [rank, value]);
/** What the domain takes of them. */
const taken = (answer: SeriesAnswer): number | null | undefined => worstOf(totals(answer))?.value;

t.test('createPowerSeries() reads the total of DCMI with rank 2, by either of its names', async (t) => {
  const answer = read(ipmi());
  t.match(totals(answer), [
    { component: 'system', value: 372, rank: 2, origin: 'ipmi_exporter ipmi_dcmi_power_consumption_watts' },
  ]);
  t.same(ranked(read('ipmi_dcmi_power_consumption_current_watts 500\n')), [[2, 500]]);
  t.match(answer.notes, [/^Total power: 372 W, ipmi_exporter/]);
});

t.test('createPowerSeries() passes 0 W of DCMI on for the domain to refuse', async (t) => {
  t.same(ranked(read(ipmi({ dcmiW: 0 }))), [[2, 0]]);
});

t.test('createPowerSeries() believes no total that is left over from before the DCMI collector failed', async (t) => {
  t.match(totals(read(ipmi({ dcmiUp: 0, dcmiW: 0 }))), [{ value: 0, rank: 2 }], 'which the domain refuses');
  for (const dcmiW of [null, 300]) {
    t.match(totals(read(ipmi({ dcmiUp: 0, dcmiW }))), [
      { value: null, cause: 'unreadable', rank: 2, origin: 'ipmi_exporter: ipmi_up{collector="dcmi"} is 0' },
    ]);
  }
  for (const word of ['0', '0.5', '-1', '2', 'NaN', '+Inf', 'yes', '']) {
    const answer = read(`ipmi_dcmi_power_consumption_watts 300\nipmi_up{collector="dcmi"} ${word}\n`);
    t.match(totals(answer), [{ value: null, cause: 'unreadable', rank: 2, origin: /ipmi_up/ }], word);
  }
  const twice = 'ipmi_up{collector="dcmi"} 1\nipmi_up{collector="dcmi",module="b"} 0\n';
  t.match(totals(read(`${twice}ipmi_dcmi_power_consumption_watts 300\n`)), [{ value: null }], 'one of two failed');
  const cut = 'ipmi_up{collector="dcmi" 1\n';
  t.match(totals(read(`${cut}ipmi_dcmi_power_consumption_watts 300\n`)), [{ value: null }], 'it may be any collector');
  t.same(totals(read(ipmi({ dcmiUp: 1, dcmiW: null }))), [], 'a BMC without a power measurement');
  const other = 'ipmi_up{collector="ipmi"} 0\nipmi_up{collector="dcmi"} 1\n';
  t.same(totals(read(other)), [], "another collector's failure is not its own");
  t.same(ranked(read(`${other}ipmi_dcmi_power_consumption_watts 300\n`)), [[2, 300]]);
  t.same(ranked(read('ipmi_dcmi_power_consumption_watts 300\n')), [[2, 300]], 'no word of success, as in old releases');
});

t.test('createPowerSeries() believes no supplies that are left over from before their collector failed', async (t) => {
  const failed = 'ipmi_up{collector="ipmi"} 0\nipmi_up{collector="dcmi"} 1\n';
  const supply = ipmiSensor(40, 'PS1 Input Power', 210);
  const series = engine();
  t.match(totals(read(failed + supply, series)), [
    { value: null, cause: 'unreadable', rank: 5, origin: /ipmi_up.* is 0/ },
  ]);
  t.same(totals(read(failed, series)), [], 'nobody knows of any supplies');
  t.same(ranked(read(`${supply}ipmi_up{collector="ipmi"} 1\n`, series)), [[5, 210]]);
  t.match(totals(read(failed, series)), [{ value: null, cause: 'unreadable', origin: /ipmi_up.* is 0/ }]);
  t.same(
    ranked(read(`${supply}ipmi_up{collector="dcmi"} 0\n`)),
    [
      [2, null],
      [5, 210],
    ],
    "another collector's failure is not their own",
  );
});

t.test("createPowerSeries() adds power supplies' inputs of ipmi_exporter, and no other sensor in W", async (t) => {
  const answer = read(
    ipmiSensor(40, 'PS1 Input Power', 210) +
      ipmiSensor(41, 'PS2 Input Power', 0) +
      ipmiSensor(42, 'PS1 Output Power', 180) +
      ipmiSensor(43, 'CPU Power', 120) +
      ipmiSensor(90, 'Pwr Consumption', 390),
  );
  t.same(ranked(answer), [[5, 210]], 'a redundant supply in standby rightly takes 0 W');
  for (const name of [
    'PSU1 Input',
    'PSU12 Input',
    'PSU2 Power In',
    'PS1 Pin',
    'Power Supply 1 Input',
    'PS_1 Input Power',
    'PSU1_PIN',
    'PSU0_Pin',
    'PS1_PIN',
    'PSU1_pin',
    'PSU1_INPUT',
    'PSU1_Power_In',
    'PS2_AC_IN',
    'Power_Supply_1_Input',
  ]) {
    t.same(ranked(read(ipmiSensor(1, name, 100))), [[5, 100]], name);
  }
  for (const name of [
    'PSU1 Output',
    'Pwr Consumption',
    'System Power',
    'PS1 POUT',
    'GPU1 Power',
    'PSU Inlet Temp',
    'Max PS1 Input',
    'PSU1_POUT',
    'PSU1_PInlet',
    'PS1_Output_Power',
    'PSU_PIN',
    'PSU1A_PIN',
    'HSC_PSU1_PIN',
  ]) {
    t.same(ranked(read(ipmiSensor(1, name, 100))), [], name);
  }
  t.same(ranked(read('ipmi_power_watts{id="1"} 100\n')), [], 'a sensor without a name');
});

t.test('createPowerSeries() makes the sum of supplies missing when one has no number', async (t) => {
  for (const bad of ['NaN', '-5', '+Inf', '65535', 'na']) {
    const answer = read(ipmiSensor(40, 'PS1 Input Power', bad) + ipmiSensor(41, 'PS2 Input Power', 200));
    t.match(totals(answer), [{ value: null, cause: 'invalid', rank: 5, origin: /PS1 Input Power/ }], bad);
  }
  t.match(totals(read('ipmi_power_watts{id="40",name="PS1 In\n')), [{ value: null, cause: 'invalid' }]);
  t.match(totals(read('ipmi_power_watts{id\n')), [{ value: null, cause: 'invalid' }], 'it may be any sensor');
  t.same(totals(read(ipmiSensor(43, 'CPU Power', 'x'))), [], 'it is certainly no supply');
});

t.test('createPowerSeries() adds up to 64 supplies, and makes the sum of more missing', async (t) => {
  const supplies = (count: number): string =>
    Array.from({ length: count }, (_, id) => idracSupply(String(id), 10)).join('');
  t.same(ranked(read(supplies(64))), [[5, 640]]);
  t.match(totals(read(supplies(65))), [{ value: null, cause: 'invalid', origin: /65 of them/ }]);
});

t.test('createPowerSeries() takes a supply of more than 1500 W, which a CPU package never draws', async (t) => {
  t.same(ranked(read(idracSupply('0', 2400))), [[5, 2400]]);
  const socket = (milliwatts: number): unknown =>
    read(`amd_socket_power{socket_power="0"} ${milliwatts}\n`).readings[0];
  t.match(socket(1_500_000), { value: 1500 });
  t.match(socket(1_500_001), { value: null, cause: 'invalid' });
  t.match(socket(0), { value: null, cause: 'invalid' }, 'nor is it ever in standby');
});

t.test('createPowerSeries() makes the sum missing when a supply is gone that was there', async (t) => {
  const series = engine();
  t.same(ranked(read(idracSupply('0', 89) + idracSupply('1', 77.62), series)), [[5, 166.62]]);
  t.match(totals(read(idracSupply('0', 160), series)), [
    { value: null, cause: 'gone', origin: /1 of the 2 that gave/ },
  ]);
  t.match(totals(read('idrac_power_on 1\n', series)), [{ value: null, cause: 'gone', origin: /0 of the 2/ }]);
  t.same(ranked(read(idracSupply('0', 89) + idracSupply('1', 77.62), series)), [[5, 166.62]]);
});

t.test('createPowerSeries() counts a supply once that two rows tell', async (t) => {
  const twice = (a: number, b: number): string =>
    `idrac_power_input_watts{psu="0",instance="a"} ${a}\nidrac_power_input_watts{psu="0",instance="b"} ${b}\n`;
  t.same(ranked(read(twice(80, 90))), [[5, 90]]);
  t.same(ranked(read(twice(90, 80))), [[5, 90]], 'the higher, in whatever order');
  t.equal(totals(read(twice(80, Number.NaN)))[0]?.value, null);
  t.equal(totals(read(twice(Number.NaN, 80)))[0]?.value, null);
});

t.test('createPowerSeries() passes supplies that all tell 0 W on for the domain to refuse', async (t) => {
  t.same(ranked(read(idracSupply('0', 0) + idracSupply('1', 0))), [[5, 0]]);
});

t.test('createPowerSeries() takes the whole among the power controls of idrac_exporter, rank 3', async (t) => {
  const answer = read(
    idracControl('0', 'System Power Control', 429) + idracControl('1', 'CPU Power', 190) + idracSupply('0', 460, true),
  );
  t.same(ranked(answer), [
    [3, 429],
    [5, 460],
  ]);
  t.equal(taken(answer), 429, 'the sum of supplies only where there is no power control');
  t.same(ranked(read(idracControl('PowerControl', 'Chassis', 300))), [[3, 300]]);
  t.same(ranked(read(idracControl('3', 'Total', 300))), [[3, 300]]);
  for (const name of [
    'Memory',
    'CPU Sub-system Power',
    'Memory Subsystem Power',
    'GPU System Power',
    'Total GPU Power',
    'Total Processor Power',
    'System Fan Power',
    'Chassis Fans',
    'Storage System',
  ]) {
    t.same(ranked(read(idracControl('2', name, 300))), [], name);
    t.same(
      ranked(read(idracControl('0', 'System Power Control', 500) + idracControl('2', name, 900))),
      [[3, 500]],
      name,
    );
  }
  for (const name of ['System Power', 'System Board Pwr Consumption', 'Chassis Power', 'Total Power', 'System']) {
    t.same(ranked(read(idracControl('2', name, 300))), [[3, 300]], name);
  }
  t.same(
    ranked(read(idracControl('0', 'CPU and GPU Chassis', 300))),
    [[3, 300]],
    'the first is the whole by its number',
  );
  t.same(ranked(read('idrac_power_control_consumed_watts{id="1"} 300\n')), [], 'a second one that tells no name');
  t.same(ranked(read('idrac_power_control_consumed_watts{name="Memory"} 300\n')), [], 'a part that tells no number');
});

t.test('createPowerSeries() reads redfish_exporter: the average of the chassis, and its supplies', async (t) => {
  const average = (id: string, name: string, watts: number): string =>
    `redfish_chassis_power_average_consumed_watts{chassis_id="1",power_metric="${name}",power_metric_id="${id}"} ${watts}\n`;
  const supply = (id: string, watts: number): string =>
    `redfish_chassis_power_powersupply_power_input_watts{chassis_id="1",power_supply="PSU",power_supply_id="${id}"} ${watts}\n`;
  const answer = read(average('0', '', 221) + average('1', 'CPU', 90) + supply('0', 120) + supply('1', 118));
  t.same(ranked(answer), [
    [3, 221],
    [5, 238],
  ]);
  t.same(ranked(read('redfish_chassis_power_average_consumed_watts{chassis_id="1"} 221\n')), [[3, 221]]);
  const told =
    'redfish_chassis_power_average_consumed_watts{power_metric_id="1",power_metric="Power",name="Chassis"} 300\n';
  t.same(ranked(read(told)), [[3, 300]], 'one of its names says so');
  t.same(ranked(read(told.replace('"Power"', '"GPU Power"'))), [], 'another one says that it is a part');
});

t.test("createPowerSeries() never mixes Kepler's supplies and power controls", async (t) => {
  const supplies = keplerPlatform('PowerSupply', 'PS1', 245) + keplerPlatform('PowerSupply', 'PS2', 250);
  t.same(ranked(read(supplies)), [[5, 495]]);
  const controls = keplerPlatform('PowerControl', 'PC1', 450.5) + keplerPlatform('PowerControl', 'PC2', 85);
  t.equal(taken(read(controls)), 450.5, 'a subsystem stands beside the whole: no sum');
  t.equal(taken(read(supplies + controls)), 495);
  for (const type of ['PowerSupplyUnit', 'NoPowerSupply', 'PowerControls', 'SubPowerControl']) {
    t.same(ranked(read(supplies.replaceAll('"PowerSupply"', `"${type}"`))), [], type);
  }
});

t.test("createPowerSeries() reads Kepler's package zone as the CPUs' power, called as RAPL's", async (t) => {
  const zone = (name: string, path: string, watts: number): string =>
    `kepler_node_cpu_watts{zone="${name}",path="/sys/class/powercap/${path}",node_name="worker-1"} ${watts}\n`;
  const { readings } = read(
    zone('package', 'intel-rapl:0', 125.2) +
      zone('package', 'intel-rapl:1', 110) +
      zone('core', 'intel-rapl:0:0', 80) +
      zone('subpackage', 'intel-rapl:3', 80) +
      zone('packages', 'intel-rapl:4', 80) +
      zone('psys', 'intel-rapl:2', 300),
  );
  t.match(readings, [
    { component: 'cpu', id: 'package-0', quantity: 'power', value: 125.2 },
    { component: 'cpu', id: 'package-1', quantity: 'power', value: 110 },
  ]);
  t.equal(readings.length, 2, 'zones overlap');
  t.same(read(zone('package', 'intel-rapl:0', 125.2)).notes, [], 'which is no total');
  t.match(read(zone('package', 'intel-rapl:0', Number.NaN)).readings, [{ value: null, cause: 'invalid' }]);
  t.match(read('kepler_node_cpu_watts{zone\n').readings, [{ value: null, cause: 'invalid' }], 'it may be any zone');
});

t.test(
  "createPowerSeries() tells sockets apart by the number at a path's end, and by their place without one",
  async (t) => {
    const ids = (...paths: readonly string[]): unknown[] =>
      read(paths.map((path) => `kepler_node_cpu_watts{zone="package",path="${path}"} 100\n`).join('')).readings.map(
        ({ id }) => id,
      );
    t.same(ids('/sys/class/powercap/intel-rapl:12', 'intel-rapl:0'), ['package-12', 'package-0']);
    t.same(ids('', 'aggregated', 'intel-rapl:0/of'), ['package-0', 'package-unknown-1', 'package-unknown-2']);
  },
);

t.test('createPowerSeries() leaves no total and no package out, and tells of 30', async (t) => {
  const rows = (of: (n: number) => string): string => Array.from({ length: 70 }, (_, n) => of(n)).join('');
  const controls = read(rows((n) => keplerPlatform('PowerControl', `PC${n}`, n === 69 ? 2300 : 100)));
  t.equal(controls.readings.length, 70);
  t.match(controls.readings.at(-1), { value: 2300 }, 'the last may be the highest');
  t.equal(controls.notes.length, 30);
  t.equal(read(rows((n) => `amd_socket_power{socket_power="${n}"} 100000\n`)).readings.length, 70);
});

t.test('createPowerSeries() reads the sockets of amd_smi_exporter in mW', async (t) => {
  const { readings } = read('amd_socket_power{socket_power="0"} 150000\namd_socket_power{socket_power="1"} -1\n');
  t.match(readings, [
    { id: 'package-0', value: 150 },
    { id: 'package-1', value: null, cause: 'invalid' },
  ]);
});

t.test('createPowerSeries() adds the configured outlets, with rank 1, and asks for their names', async (t) => {
  const outlets = [4, 5].map((index) => ({
    series: 'outletActivePower',
    labels: { pduId: '1', outletId: String(index) },
    scale: 0.1,
  }));
  t.same(outletNames(outlets), ['outletActivePower']);
  const names = outletNames(outlets);
  const body = outlet(4, 4210) + outlet(5, 3900) + outlet(6, 9999);
  const answer = read(ipmi() + body, engine(outlets), names);
  t.same(ranked(answer), [
    [1, 811],
    [2, 372],
  ]);
  t.equal(taken(answer), 811);
  t.same(ranked(read(outlet(4, 4210) + outlet(5, 0), engine(outlets), names)), [[1, 421]], 'a redundant feed may rest');
});

t.test('createPowerSeries() tells no total of outlets while one is absent, invalid or ambiguous', async (t) => {
  const outlets = [4, 5].map((index) => ({
    series: 'outletActivePower',
    labels: { outletId: String(index) },
    scale: 1,
  }));
  const names = outletNames(outlets);
  const only = (body: string): RawReading | undefined => totals(read(body, engine(outlets), names))[0];
  t.match(only(outlet(4, 421)), { value: null, cause: 'unreadable', rank: 1, origin: /outletId="5"} is not there/ });
  t.match(only(''), { value: null, cause: 'unreadable' });
  t.match(only(outlet(4, 421) + outlet(5, 'NaN')), { value: null, cause: 'invalid' });
  t.match(only(outlet(4, 421) + outlet(5, -1)), { value: null, cause: 'invalid' });
  t.match(only(outlet(4, 421) + outlet(5, 'x')), { value: null });
  const second = 'outletActivePower{pduId="2",outletId="5"} 30\n';
  t.match(only(outlet(4, 421) + outlet(5, 400) + second), { value: null, cause: 'invalid', origin: /2 series match/ });
});

t.test('createPowerSeries() gives a sum the age of its oldest part', async (t) => {
  const stamped = (id: number, agoMs: number): string =>
    ipmiSensor(id, `PS${id} Input Power`, `100 ${SOURCE_WALL_MS - agoMs}`);
  const [sum] = totals(read(stamped(1, 2_000) + stamped(2, 8_000)));
  t.match(sum, { value: 200, sampledAtMs: 2_000 });
  const [mixed] = totals(read(stamped(1, 2_000) + ipmiSensor(2, 'PS2 Input Power', 100)));
  t.match(mixed, { value: 200, sampledAtMs: 8_000 }, 'the stamp that there is');
  const [bare] = totals(read(ipmiSensor(1, 'PS1 Input Power', 100)));
  t.notOk(bare && 'sampledAtMs' in bare, 'as old as the scrape');
});

t.test('createPowerSeries() gives a total, a package and the outlets the age of their stamps', async (t) => {
  const ageOf = (body: string, series = engine(), names: readonly string[] = []): number | undefined => {
    const [reading] = read(body, series, names).readings;
    return reading?.sampledAtMs === undefined ? undefined : 10_000 - reading.sampledAtMs;
  };
  const stamp = SOURCE_WALL_MS - 7_000;
  t.equal(ageOf(`ipmi_dcmi_power_consumption_watts 500 ${stamp}\n`), 7_000);
  t.equal(ageOf('ipmi_dcmi_power_consumption_watts 500\n'), undefined);
  t.equal(ageOf(`amd_socket_power{socket_power="0"} 150000 ${stamp}\n`), 7_000);
  t.equal(ageOf('amd_socket_power{socket_power="0"} 150000\n'), undefined);
  const outlets = [4, 5].map((index) => ({
    series: 'outletActivePower',
    labels: { outletId: String(index) },
    scale: 1,
  }));
  const both = outlet(4, `421 ${stamp}`) + outlet(5, 400);
  t.equal(ageOf(both, engine(outlets), outletNames(outlets)), 7_000);
});

t.test('createPowerSeries() makes a rejected total missing', async (t) => {
  t.match(totals(read('ipmi_dcmi_power_consumption_watts 3x\n')), [{ value: null, cause: 'invalid', rank: 2 }]);
  t.match(totals(read('idrac_power_control_consumed_watts{id="0",name="System Power Control"} \n')), [
    { value: null, cause: 'invalid', rank: 3 },
  ]);
  t.match(
    totals(read('idrac_power_control_consumed_watts{id\n')),
    [{ value: null, cause: 'invalid', rank: 3 }],
    'it may be the whole',
  );
});

t.test('createPowerSeries() explains what it does not read', async (t) => {
  const body = ipmi() + idracControl('1', 'CPU Power', 190) + idracSupply('0', 89);
  const series = createPowerSeries({ ...OPTIONS, explains: true });
  const { ignored } = series.read(scrapeOf(body, { all: true }));
  const why = (what: string): string | undefined => ignored.find((each) => each.what === what)?.why;
  t.match(why('idrac_power_supply_output_watts'), /less than what it takes/);
  t.match(why('ipmi_temperature_celsius'), /margin/);
  t.match(why('ipmi_chassis_power_state'), /a state is no number/);
  t.match(why('ipmi_power_watts{id="90",name="Pwr Consumption"}'), /unclear meaning/);
  t.match(why('idrac_power_control_consumed_watts{id="1",name="CPU Power"}'), /a part of the machine/);
  t.equal(why('ipmi_dcmi_power_consumption_watts'), undefined);
  t.match(
    ignored.find(({ what }) => what === 'idrac_power_supply_output_watts'),
    { says: '74.5' },
  );
});

t.test(
  'createPowerSeries() explains of series that it reads only the rows that stand for something else',
  async (t) => {
    const explained = (body: string): readonly string[] =>
      createPowerSeries({ ...OPTIONS, explains: true })
        .read(scrapeOf(body, { all: true }))
        .ignored.map(({ what }) => what);
    t.same(explained('ipmi_power_watts{id="91"} 100\n'), ['ipmi_power_watts{id="91"}'], 'it tells no name');
    t.same(explained(keplerPlatform('PowerSupply', 'PS1', 245) + keplerPlatform('PowerControl', 'PC1', 245)), []);
    t.same(explained('node_load1 3\n'), [], "another's series");
    const many = Array.from({ length: 120 }, (_, id) => ipmiSensor(id, 'GPU1 Power', 100)).join('');
    t.equal(explained(many).length, 100);
  },
);
