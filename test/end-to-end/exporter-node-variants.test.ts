// Each kind of lie that node_exporter and the exporters of BMCs were reported for, in words of our own: over HTTP and
// through decide(), like exporter-cases.test.ts, and with nothing beside this project. Those of cards, and of lines and
// bodies, are in exporter-variants.test.ts.
import t from 'tap';
import { CARD_A, DCGM_A, dcgm } from '../fixtures/gpu-exporters.ts';
import { hwmon, intelSocket, K10TEMP, memory, rapl } from '../fixtures/node-exporter.ts';
import { idracSupply, ipmi, ipmiSensor } from '../fixtures/power-exporters.ts';
import { comeOut, type Variant } from '../support/exporter-rig.ts';

const missing = (what: string): string => `reading-missing ${what} WAIT_COOLDOWN`;
const CPU_MISSING = missing('cpu//temperature');
const TOTAL_MISSING = missing('system//total-power');
const MEMORY = { memoryRatio: 0.3 };
const CORETEMP = 'platform_coretemp_0';
const zone = (number: number, type: string, c: number): string =>
  `node_thermal_zone_temp{type="${type}",zone="${number}"} ${c}\n`;
const zoneChip = (number: number, name: string, c: number): string =>
  hwmon(`thermal_thermal_zone${number}`, name, { temp1: { temp_celsius: c } });

const VARIANTS: readonly Variant[] = [
  {
    kinds: 'A04, A05',
    title: "the same of a CPU's chip",
    bodies: ['', 'OK', '"48"', '48°'].map((value) => hwmon(CORETEMP, 'coretemp', { temp1: { temp_celsius: value } })),
    beside: { cpuC: null },
    action: 'WAIT_COOLDOWN',
    findings: [CPU_MISSING],
  },
  {
    kinds: 'B01, B05, B19',
    title: 'neither a board, a disk, a network card nor a firmware zone speaks for the CPU, hot or cool',
    bodies: [
      hwmon('platform_it87_2624', 'it8686', { temp1: { label: 'CPU', temp_celsius: 127 } }),
      hwmon('nvme_nvme1', 'nvme', { temp1: { label: 'Composite', temp_celsius: 97, temp_crit_celsius: -273.15 } }),
      hwmon('pci0000:00_0000:04:00_0', 'mlx5', { temp1: { temp_celsius: 105 } }),
      `node_thermal_zone_temp{type="acpitz",zone="0"} 16.8\n`,
      hwmon('platform_asus_ec', 'asusec', { temp2: { label: 'CPU', temp_celsius: -62 } }),
    ].map((other) => other + intelSocket(0, 58.5)),
    beside: { cpuC: null },
    action: 'PROCEED',
    shown: { 'cpu/coretemp-0/temperature': 58.5 },
  },
  ...(
    [
      ['hwmon', CPU_MISSING, { cpuC: null }],
      ['cpu', missing('cpu//utilization'), { cpuRatio: null }],
      ['meminfo', missing('memory//memory'), { memoryRatio: null }],
    ] as const
  ).map(
    ([collector, finding, beside]): Variant => ({
      kinds: 'B07',
      title: `a ${collector} collector that failed leaves its readings missing, though the scrape succeeded`,
      bodies: [`node_scrape_collector_success{collector="${collector}"} 0\nnode_load1 3\n`],
      beside,
      action: 'WAIT_COOLDOWN',
      findings: [finding],
    }),
  ),
  {
    kinds: 'B03, B08',
    title: "no pattern, no zero and no frost is the CPU's temperature",
    bodies: [
      ...['4294948.3', '-273.15', '0', '511', '125.5', 'NaN'].map((value) =>
        hwmon(K10TEMP, 'k10temp', { temp1: { label: 'Tctl', temp_celsius: value } }),
      ),
      'node_thermal_zone_temp{type="x86_pkg_temp",zone="7"} 0\n',
      'node_thermal_zone_temp{type="cpu-thermal",zone="0"} -1\n',
      `${intelSocket(0, 50)}${intelSocket(1, 0)}`,
    ],
    beside: { cpuC: null },
    action: 'WAIT_COOLDOWN',
    findings: [CPU_MISSING],
  },
  ...[
    ['coretemp-1', `${intelSocket(0, 55)}${intelSocket(1, 99)}`],
    ['coretemp-0', intelSocket(0, 60, 99)],
    [
      'k10temp-0',
      hwmon(K10TEMP, 'k10temp', {
        temp1: { label: 'Tctl', temp_celsius: 61 },
        temp4: { label: 'Tccd2', temp_celsius: 99 },
      }),
    ],
    ['k10temp-0', hwmon(K10TEMP, 'k10temp', { temp1: { label: 'Tctl', temp_celsius: 99 } })],
    [
      'x86_pkg_temp-0',
      'node_thermal_zone_temp{type="acpitz",zone="0"} 27.8\nnode_thermal_zone_temp{type="x86_pkg_temp",zone="1"} 99\n',
    ],
  ].map(
    ([id = '', body = '']): Variant => ({
      kinds: 'B05',
      title: `the hottest of all sockets, dies and cores counts: ${id}`,
      bodies: [body],
      beside: { cpuC: null },
      action: 'ABORT',
      findings: [`over-hard-stop cpu/${id}/temperature ABORT`],
    }),
  ),
  ...[
    [
      'bigcore0_thermal-0',
      zoneChip(0, 'soc_thermal', 45) + zoneChip(1, 'bigcore0_thermal', 96) + zoneChip(2, 'gpu_thermal', 44),
    ],
    [
      'bigcore0-thermal-0',
      zone(0, 'soc-thermal', 45) + zone(1, 'bigcore0-thermal', 96) + zone(2, 'littlecore-thermal', 50),
    ],
    ...[
      'cpu',
      'cpu_thermal',
      'cpu-thermal-zone',
      'cpu_thermal_zone',
      'ap-cpu-thermal',
      'ap-thermal-cpu1',
      'cpu-1-0-usr',
      'cpuss-0',
      'MCPU-therm',
      'mtktscpu',
      'soc_thermal',
      'a73-thermal',
    ].map((type) => [`${type}-0`, zone(0, 'acpitz', 27.8) + zone(1, type, 96)]),
  ].map(
    ([id = '', body = '']): Variant => ({
      kinds: 'B05',
      title: `a cluster of an ARM chip is the CPU: ${id}`,
      bodies: [body],
      beside: { cpuC: null },
      action: 'ABORT',
      findings: [`over-hard-stop cpu/${id}/temperature ABORT`],
    }),
  ),
  {
    kinds: 'B05, B19',
    title: 'no zone or chip beside the CPU speaks for it, however hot',
    bodies: [
      'gpu-thermal',
      'cpu_fan',
      'INT3400 Thermal',
      'cpu-1-max-step',
      'pch_skylake',
      'center-thermal',
      'soc',
    ].flatMap((type) => [zone(1, type, 96), zoneChip(1, type, 96)]),
    beside: { cpuC: null },
    action: 'WAIT_COOLDOWN',
    findings: [CPU_MISSING],
  },
  {
    kinds: 'B04',
    title: 'Tdie before Tctl, whichever comes first',
    bodies: ['k10temp', 'zenpower'].map((name) =>
      hwmon('platform_amd_dummy', name, {
        temp1: { label: 'Tdie', temp_celsius: 69 },
        temp2: { label: 'Tctl', temp_celsius: 96 },
      }),
    ),
    beside: { cpuC: null },
    action: 'PROCEED',
  },
  {
    kinds: 'B10, B17, B22',
    title: 'without its amounts the memory is missing, never empty',
    bodies: [
      memory({ MemTotal: 34e9 }),
      memory({ MemTotal: 'NaN', MemAvailable: 1e9 }),
      memory({ MemTotal: 0, MemAvailable: 0 }),
      memory({ MemTotal: 34e9, MemAvailable: '' }),
      memory({ MemAvailable: 4e9 }),
    ],
    beside: { memoryRatio: null },
    action: 'WAIT_COOLDOWN',
    findings: [missing('memory//memory')],
  },
  {
    kinds: 'B21',
    title: 'a full memory is full, whatever of it a cache holds',
    bodies: [
      `${memory({ MemTotal: 1e11, MemAvailable: 1e10, Cached: 8e10 })}node_zfs_arc_size 8e10\nnode_zfs_arc_c_min 1e9\n`,
      'windows_memory_physical_total_bytes 1e11\nwindows_memory_available_bytes 1e10\n',
    ],
    beside: { memoryRatio: null },
    action: 'REDUCE_INTENSITY',
    findings: ['over-maximum memory//memory REDUCE_INTENSITY'],
    shown: { 'memory/memory': 0.9 },
  },
  {
    kinds: 'B15, F01, F03, F04',
    title: 'a total that is 0, NaN, half told, or of a BMC that failed, is missing',
    bodies: [
      ipmi({ dcmiUp: 0, dcmiW: 0 }),
      ipmi({ dcmiUp: 0, dcmiW: null }),
      'ipmi_dcmi_power_consumption_watts NaN\n',
      'redfish_chassis_power_average_consumed_watts{power_control_id="0"} 0\n',
      idracSupply('0', 89) + idracSupply('1', 'NaN'),
      ipmiSensor(40, 'PS1 Input Power', 210) + ipmiSensor(41, 'PS2 Input Power', 'na'),
      ipmiSensor(90, 'Pwr Consumption', 390),
      ipmi({ dcmiUp: 0, dcmiW: 300 }),
      `${ipmiSensor(40, 'PS1 Input Power', 210)}ipmi_up{collector="ipmi"} 0\n`,
      ...[0, 4294.967295, 4294967.295].map((watts) =>
        hwmon('lnxsybus:00_acpi000d:00', 'power_meter', { power1: { power_average_watt: watts } }),
      ),
      rapl(240_422, 1000),
    ],
    node: { require: ['total-power'] },
    action: 'WAIT_COOLDOWN',
    findings: [TOTAL_MISSING],
  },
  {
    kinds: 'F01',
    title: 'supplies are known by names with underscores, too, and outputs are none',
    bodies: [
      ipmiSensor(40, 'PSU1_PIN', 210) + ipmiSensor(41, 'PSU2_PIN', 170) + ipmiSensor(42, 'PSU1_POUT', 190),
      ipmiSensor(40, 'PS1_AC_IN', 380) + ipmiSensor(42, 'PS1_Output_Power', 350),
    ],
    node: { require: ['total-power'] },
    action: 'PROCEED',
    shown: { 'system/total-power': 380 },
  },
  {
    kinds: 'F03',
    title: 'another source of the total stands in for one that is none, the better one first',
    bodies: [
      `${ipmi({ dcmiW: 0 })}${idracSupply('0', 200)}${idracSupply('1', 180)}`,
      `${ipmi({ dcmiW: 380 })}${idracSupply('0', 900)}`,
    ],
    node: { require: ['total-power'] },
    action: 'PROCEED',
    shown: { 'system/total-power': 380 },
  },
  {
    kinds: 'B15, D17',
    title: 'an estimate of what is measured satisfies no requirement',
    bodies: [dcgm('POWER_USAGE', DCGM_A, 200) + dcgm('GPU_TEMP', DCGM_A, 60)],
    beside: { cards: { [CARD_A]: MEMORY } },
    node: { require: ['total-power'], power: { baseW: 100, psuEfficiency: 0.5 } },
    action: 'WAIT_COOLDOWN',
    findings: [TOTAL_MISSING],
  },
];

comeOut(t, VARIANTS);
