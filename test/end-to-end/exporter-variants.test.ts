// Each kind of lie that exporters were reported for, in words of our own: other sentinels, other labels, other exporters
// with the same habit. Over HTTP and through decide(), like exporter-cases.test.ts, and with nothing beside this project.
// Those of node_exporter and of BMCs are in exporter-node-variants.test.ts.
import t from 'tap';
import { AMD_UUID, amd, CARD_A, CARD_B, DCGM_A, DCGM_B, dcgm, intel, nvidiaCard } from '../fixtures/gpu-exporters.ts';
import { comeOut, ExporterRig, type Variant } from '../support/exporter-rig.ts';
import { isCutAfter } from '../support/stand-in-exporter.ts';

const missing = (what: string): string => `reading-missing ${what} WAIT_COOLDOWN`;
const A_MISSING = missing(`gpu/${CARD_A}/temperature`);
const SILENT = missing('monitor');
const MEMORY = { memoryRatio: 0.3 };
const REST_OF_A = { cards: { [CARD_A]: { powerW: 120.5, memoryRatio: 0.3 } } };
const REST_OF_BOTH = { cards: { ...REST_OF_A.cards, [CARD_B]: { powerW: 130.5, memoryRatio: 0.4 } } };
const temp = (value: number | string): string => dcgm('GPU_TEMP', DCGM_A, value);
const instance = (id: number) => ({ ...DCGM_A, more: `GPU_I_PROFILE="1g.6gb",GPU_I_ID="${id}"` });
/** 2026-01-01, when the first look is made. */
const WALL_MS = 1_767_225_600_000;
const AMD_A = `GPU-${AMD_UUID}`;
const amdCard = (edgeC: number | string, packageW: number | string): string =>
  amd('gpu_edge_temperature', { gpu_uuid: AMD_UUID }, edgeC) +
  amd('gpu_package_power', { gpu_uuid: AMD_UUID }, packageW) +
  amd('gpu_used_vram', { gpu_uuid: AMD_UUID }, 100) +
  amd('gpu_free_vram', { gpu_uuid: AMD_UUID }, 900);
const INTEL_A = '0000:03:00.0';
const intelCard = (cardC: number, cardW: number): string =>
  intel('hw_temperature_celsius', 'hw_sensor_location="gpu"', cardC) +
  intel('hw_power_watts', 'hw_sensor_location="card"', cardW) +
  intel('hw_memory_utilization_ratio', '', 0.3);

const VARIANTS: readonly Variant[] = [
  {
    kinds: 'A01, A02',
    title: 'labels may hold braces, commas, blanks, quotes, backslashes and a comment',
    bodies: ['RTX {a},b} 9', 'x\\"} 12 # {', '\\\\', 'C:\\\\\\\\', '# HELP', 'a\\nb"'.replace('b"', 'b\\"'), '☃}'].map(
      (label) => `DCGM_FI_DEV_GPU_TEMP{modelName="${label}",UUID="${CARD_A}", gpu="0" ,} 83\n`,
    ),
    beside: REST_OF_A,
    action: 'WAIT_COOLDOWN',
    findings: [`over-warning gpu/${CARD_A}/temperature WAIT_COOLDOWN`],
    shown: { [`gpu/${CARD_A}/temperature`]: 83 },
    also: (t, rig) => t.equal(rig.report.scrape?.rejectedLines, 0),
  },
  {
    kinds: 'A04, A05, A11',
    title: 'a line of a required series that is none makes its reading missing, and is counted',
    bodies: [
      temp(''),
      temp('  \t'),
      temp('OK'),
      temp('2026-01-05T04:58:04'),
      temp('61,5'),
      temp('61 C'),
      temp('0x3d'),
      temp('"61"'),
      temp('null'),
      temp('61').replace(',device', 'device'),
      temp('61').replace('gpu="0"', 'gpu=0'),
      temp('61').replace('Hostname="dcgm-exporter-x7k2p"}', 'Hostname="dcgm-exporter-x7k2p"'),
      temp('61').replace('UUID=', 'UUID:'),
    ].map((line) => line + dcgm('SM_CLOCK', DCGM_A, 1980) + dcgm('GPU_TEMP', DCGM_B, 64)),
    beside: REST_OF_BOTH,
    action: 'WAIT_COOLDOWN',
    findings: [A_MISSING],
    shown: { [`gpu/${CARD_A}/temperature`]: 'invalid', [`gpu/${CARD_B}/temperature`]: 64 },
    also: (t, rig) => t.equal(rig.report.scrape?.rejectedLines, 1),
  },
  {
    kinds: 'A07',
    title: 'stamps that are negative, zero, in seconds, or older than staleAfter are stale',
    bodies: [-1, -1_767_225_600_000, 0, WALL_MS / 1000, WALL_MS - 60_000].map((stamp) => temp(`55 ${stamp}`)),
    beside: REST_OF_A,
    action: 'WAIT_COOLDOWN',
    findings: [A_MISSING],
    shown: { [`gpu/${CARD_A}/temperature`]: 'stale' },
  },
  {
    kinds: 'A07',
    title: 'a stamp from the future is invalid',
    bodies: [WALL_MS + 60_000, WALL_MS * 1000].map((stamp) => temp(`55 ${stamp}`)),
    beside: REST_OF_A,
    action: 'WAIT_COOLDOWN',
    findings: [A_MISSING],
    shown: { [`gpu/${CARD_A}/temperature`]: 'invalid' },
  },
  {
    kinds: 'A09, E01, C01',
    title: 'no spelling of no number, and no bit pattern, is a temperature',
    bodies: [
      ...['NaN', 'nan', 'Nan', '+Inf', '-Inf', 'Inf', '1e999', '-0', '-1', '125.5', '255', '511', '65535'],
      ...['2147483632', '2147483647', '4294967295', '140737488355328', '9223372036854775792', '9223372036854775807'],
    ].map(temp),
    beside: REST_OF_A,
    action: 'WAIT_COOLDOWN',
    findings: [A_MISSING],
  },
  {
    kinds: 'A09, E01, C01',
    title: 'nor a power',
    bodies: ['NaN', '+Inf', '0', '-5', '1500.5', '3689342859416.54', '2147483634', '9223372036854775794'].map((watts) =>
      dcgm('POWER_USAGE', DCGM_A, watts),
    ),
    beside: { cards: { [CARD_A]: { temperatureC: 60, memoryRatio: 0.3 } } },
    action: 'WAIT_COOLDOWN',
    findings: [missing(`gpu/${CARD_A}/power`)],
  },
  {
    kinds: 'A09, C12',
    title: 'nor an amount of memory',
    bodies: [
      ['NaN', '2100'],
      ['-1', '2100'],
      ['22000', '9223372036854775794'],
      ['22000', 'NaN'],
      ['0', '0'],
    ].map(([used = '', free = '']) => dcgm('FB_USED', DCGM_A, used) + dcgm('FB_FREE', DCGM_A, free)),
    beside: { cards: { [CARD_A]: { temperatureC: 60, powerW: 120.5 } } },
    action: 'WAIT_COOLDOWN',
    findings: [missing(`gpu/${CARD_A}/memory`)],
  },
  {
    kinds: 'A12',
    title: 'OpenMetrics without its end is cut, and nothing of it counts',
    bodies: [`# TYPE DCGM_FI_DEV_GPU_TEMP gauge\n${temp(60)}`, temp(60), `${temp(60)}# EOF\n${temp(61)}`],
    contentType: 'application/openmetrics-text; version=1.0.0; charset=utf-8',
    node: { expectGpus: 1 },
    action: 'WAIT_COOLDOWN',
    findings: [missing('gpu//temperature'), SILENT],
  },
  {
    kinds: 'A12',
    title: 'the classic format counts milliseconds',
    bodies: [temp(`60 ${WALL_MS - 5_000}`), temp(`60 ${WALL_MS + 1_000}`)],
    beside: REST_OF_A,
    action: 'PROCEED',
    shown: { [`gpu/${CARD_A}/temperature`]: 60 },
  },
  ...[
    ['text/html', '<!DOCTYPE html><p>DCGM_FI_DEV_GPU_TEMP 40</p>\n'],
    ['text/html; charset=utf-8', temp(40)],
    ['application/json', `{"status":"success","data":{"result":[]}}`],
    ['text/plain', '<html>\n<body>85</body>\n</html>\n'],
    ['text/plain; version=0.0.4', ''],
    ['text/plain; version=0.0.4', '# HELP DCGM_FI_DEV_GPU_TEMP x\n# TYPE DCGM_FI_DEV_GPU_TEMP gauge\n'],
    ['application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited', '\u0003abc'],
  ].map(
    ([contentType = '', body = '']): Variant => ({
      kinds: 'A13, L11',
      title: `an answer without metrics is a failed look (${contentType.slice(0, 30)}, ${body.length} bytes)`,
      bodies: [body],
      contentType,
      node: { expectGpus: 1 },
      action: 'WAIT_COOLDOWN',
      findings: [missing('gpu//temperature'), SILENT],
    }),
  ),
  {
    kinds: 'A14',
    title: 'what is commented out is not read',
    bodies: [
      `#${temp(99)}${temp(66)}`,
      `#TYPE DCGM_FI_DEV_GPU_TEMP counter\n${temp(66)}##\n#\n`,
      `# ${temp(99)}${temp(66)}#EOF 0\n`,
      `${temp(66)}# HELP DCGM_FI_DEV_GPU_TEMP ${temp(99)}`,
    ],
    beside: REST_OF_A,
    action: 'PROCEED',
    shown: { [`gpu/${CARD_A}/temperature`]: 66 },
    also: (t, rig) => t.equal(rig.report.scrape?.rejectedLines, 0),
  },
  {
    kinds: 'C07, C09',
    title: 'rows of pods, instances and time slices are one card, at its worst',
    bodies: [
      ['pod="a"', 'pod="b",namespace="x"'],
      ['GPU_I_ID="1",GPU_I_PROFILE="1g.6gb"', 'GPU_I_ID="2",GPU_I_PROFILE="1g.6gb"'],
      ['exported_pod="a"', 'vgpu="3"'],
    ].map((labels) =>
      labels
        .map(
          (more, n) =>
            dcgm('GPU_TEMP', { ...DCGM_A, more }, 70 + 11 * n) + dcgm('POWER_USAGE', { ...DCGM_A, more }, 200 + n),
        )
        .join(''),
    ),
    beside: { cards: { [CARD_A]: MEMORY } },
    node: { power: { baseW: 0, psuEfficiency: 1 } },
    action: 'WAIT_COOLDOWN',
    findings: [`over-warning gpu/${CARD_A}/temperature WAIT_COOLDOWN`],
    shown: { [`gpu/${CARD_A}/temperature`]: 81, 'system/total-power': 201 },
    also: (t, rig) => t.same(rig.cards, [CARD_A]),
  },
  {
    kinds: 'C10, C21',
    title: 'neither host nor number names a card: its UUID does, and through it its address',
    bodies: [
      dcgm('GPU_TEMP', { gpu: 3, uuid: CARD_A }, 86).replace('dcgm-exporter-x7k2p', 'localhost'),
      temp(86)
        .replace('UUID="GPU-', 'UUID="gpu-')
        .toUpperCase()
        .replace('HOSTNAME', 'Hostname')
        .replace('PCI_BUS_ID', 'pci_bus_id'),
      nvidiaCard(CARD_A, { temperature_gpu: 86 }),
    ],
    beside: REST_OF_A,
    action: 'ABORT',
    findings: [`over-hard-stop gpu/${CARD_A}/temperature ABORT`],
    also: (t, rig) => t.same(rig.cards, [CARD_A]),
  },
  {
    kinds: 'C12',
    title: 'memory is used / (used + free), (contract 10) reserved or not, in MiB or bytes',
    bodies: [
      dcgm('FB_USED', DCGM_A, 22_000) + dcgm('FB_FREE', DCGM_A, 2100) + dcgm('FB_RESERVED', DCGM_A, 476),
      dcgm('FB_USED', DCGM_A, 22_000) + dcgm('FB_FREE', DCGM_A, 2100) + dcgm('FB_TOTAL', DCGM_A, 24_576),
      nvidiaCard(CARD_A, { memory_used_bytes: 22e9, memory_free_bytes: 2.1e9, memory_total_bytes: 24.576e9 }),
    ],
    beside: { cards: { [CARD_A]: { temperatureC: 59, powerW: 120.5 } } },
    action: 'REDUCE_INTENSITY',
    findings: [`over-maximum gpu/${CARD_A}/memory REDUCE_INTENSITY`],
    shown: { [`gpu/${CARD_A}/memory`]: 0.913 },
  },
  {
    kinds: 'C11, C15, C16, C17',
    title: 'what is optional, old or shown only blocks nothing',
    bodies: [
      dcgm('MEMORY_TEMP', DCGM_A, 0),
      dcgm('MEMORY_TEMP', DCGM_A, 104),
      dcgm('XID_ERRORS', DCGM_A, 79),
      dcgm('XID_ERRORS', DCGM_A, '9223372036854775794'),
      dcgm('GPU_UTIL', DCGM_A, 100) + dcgm('GPU_UTIL', DCGM_A, 4_294_967_295),
      `DCGM_FI_PROF_GR_ENGINE_ACTIVE{gpu="0",UUID="${CARD_A}"} 0\n`,
      dcgm('GPU_TEMP_LIMIT', DCGM_A, 2),
      dcgm('CLOCK_THROTTLE_REASONS', DCGM_A, 4),
    ].map((line) => line + temp(70)),
    beside: REST_OF_A,
    action: 'PROCEED',
    shown: { [`gpu/${CARD_A}/temperature`]: 70 },
  },
  {
    kinds: 'C16',
    title: 'a fault with its readings gone is a lost card',
    bodies: [dcgm('XID_ERRORS', DCGM_A, 79), dcgm('XID_ERRORS', DCGM_A, 119) + dcgm('SM_CLOCK', DCGM_A, 0)],
    action: 'WAIT_COOLDOWN',
    findings: ['memory', 'power', 'temperature'].map((quantity) => missing(`gpu/${CARD_A}/${quantity}`)),
    also: (t, rig) => t.match(rig.report.notes.join('\n'), /last fault Xid (79|119), the card/),
  },
  {
    kinds: 'C20',
    title: 'fewer cards than are configured is a missing card',
    bodies: [temp(50), dcgm('GPU_TEMP', DCGM_A, 50) + dcgm('GPU_TEMP', { ...DCGM_A, gpu: 1, more: 'pod="a"' }, 51)],
    beside: REST_OF_A,
    node: { expectGpus: 4 },
    action: 'WAIT_COOLDOWN',
    findings: [missing('gpu//temperature')],
  },
  {
    kinds: 'C20',
    title: 'cards that any other family names are required',
    bodies: [
      dcgm('MEM_COPY_UTIL', DCGM_B, 3),
      dcgm('NVLINK_BANDWIDTH_TOTAL', DCGM_B, 'NaN'),
      dcgm('UNCORRECTABLE_REMAPPED_ROWS', DCGM_B, '9223372036854775794'),
      `DCGM_FI_PROF_GR_ENGINE_ACTIVE{gpu="1",UUID="${CARD_B}",pci_bus_id="00000000:22:00.0",GPU_I_ID="1"} 0.7\n`,
      `nvidia_smi_pstate{uuid="${CARD_B.replace('GPU-', '')}"} 8\n`,
    ].map((line) => line + temp(50)),
    beside: REST_OF_A,
    action: 'WAIT_COOLDOWN',
    findings: ['memory', 'power', 'temperature'].map((quantity) => missing(`gpu/${CARD_B}/${quantity}`)),
    shown: { [`gpu/${CARD_A}/temperature`]: 50 },
  },
  {
    kinds: 'C07, C12',
    title: 'an instance without its memory may be the fullest',
    bodies: ['GPU_TEMP', 'POWER_USAGE', 'DEC_UTIL'].map(
      (family) =>
        [3, 4].map((id) => dcgm('FB_USED', instance(id), 10) + dcgm('FB_FREE', instance(id), 90)).join('') +
        dcgm('GPU_TEMP', instance(3), 61) +
        dcgm('POWER_USAGE', instance(3), 152.6) +
        dcgm(family, instance(5), 61),
    ),
    action: 'WAIT_COOLDOWN',
    findings: [missing(`gpu/${CARD_A}/memory`)],
  },
  {
    kinds: 'E03',
    title: "AMD's and Intel's zeros and patterns are no readings",
    bodies: ['0', '65535', 'NaN', '-1', '4294967295'].map((none) => amdCard(none, none)),
    action: 'WAIT_COOLDOWN',
    findings: [missing(`gpu/${AMD_A}/power`), missing(`gpu/${AMD_A}/temperature`)],
  },
  {
    kinds: 'E01, E03',
    title: "Intel's likewise",
    bodies: [intelCard(0, 0), intelCard(-1, 3689342859416.54), intelCard(127, 1501)],
    action: 'WAIT_COOLDOWN',
    findings: [missing(`gpu/${INTEL_A}/power`), missing(`gpu/${INTEL_A}/temperature`)],
  },
  {
    kinds: 'E04',
    title: 'an exporter whose tool failed is a blind one, though it repeats what it knew',
    bodies: [
      'nvidia_smi_last_collect_success 0\n',
      'nvidia_smi_last_collect_success 0\nnvidia_smi_command_exit_code 15\n',
    ].map((failed) => nvidiaCard(CARD_A) + failed),
    action: 'WAIT_COOLDOWN',
    findings: ['memory', 'power', 'temperature'].map((quantity) => missing(`gpu/${CARD_A}/${quantity}`)),
  },
];

comeOut(t, VARIANTS);

t.test(
  'decide() over HTTP, like A13, B10, B17: a node whose exporter begins to fail is blind after staleAfter',
  async (t) => {
    const login: [string, Record<string, string>, number] = [
      '<html>Sign in</html>',
      { 'content-type': 'text/html' },
      200,
    ];
    for (const [text, headers, status] of [
      login,
      ['Bad Gateway', {}, 502],
      ['', {}, 204],
      ['', {}, 200],
      ['over there', { location: '/login' }, 302],
      ['no', {}, 401],
    ] as (typeof login)[]) {
      const rig = await ExporterRig.start(t, { answer: temp(70), beside: REST_OF_A });
      rig.load();
      rig.serve(text, headers, status);
      t.same(
        await rig.actionsFor(30),
        ['PROCEED', 'PROCEED', 'PROCEED'],
        `${status}: its last reading counts for 30 s`,
      );
      t.equal((await rig.preflight()).safe, false, 'but not for a start');
      t.same(await rig.actionsFor(40), ['WAIT_COOLDOWN', 'WAIT_COOLDOWN', 'WAIT_COOLDOWN', 'ABORT']);
    }
  },
);

t.test('decide() over HTTP: a body that is cut never gives its last number', async (t) => {
  for (const framing of ['length', 'chunked'] as const) {
    // Of 83 °C.
    const rig = await ExporterRig.start(t, { answer: isCutAfter(`${temp(8).trimEnd()}`, framing), beside: REST_OF_A });
    t.not(rig.shown('gpu', 'temperature', CARD_A), 8);
    t.match(rig.report.outcome, { kind: 'failed', cause: 'bad-body' }, framing);
  }
});
