// Bodies of real exporters, recorded or taken from their projects, served over HTTP: what is read of each, in full, so
// that what must be left out is seen to be left out. They lie beside this project and are no part of it.
import t, { type Test } from 'tap';
import type { SourceReport } from '../../src/domain/reading.ts';
import { worstSamples } from '../../src/domain/samples.ts';
import { exporterSource, LOOK_MS, sharedFile } from '../support/exporter-rig.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { says, standInExporter } from '../support/stand-in-exporter.ts';

interface Recording {
  readonly title: string;
  /** What the domain is left with: value, or cause of absence; of a total also its rank, `#2`. */
  readonly judged: Record<string, number | string>;
  /** Beside it, for people. */
  readonly shown?: Record<string, number | string>;
  readonly also?: (t: Test, report: SourceReport) => unknown;
}

const GPU = (n: number): string => `GPU-00000000-0000-0000-0000-${String(n).padStart(12, '0')}`;
const A30 = (n: number): string => `GPU-00000000-aaaa-bbbb-cccc-${String(n).padStart(12, '0')}`;
const V100 = GPU(0).replace(/00$/, 'aa');
const L4 = 'GPU-11111111-2222-3333-4444-555555555555';
const H200 = ['GPU-1c67088e-9ecb-4564-bb97-6151ecc2ef64', 'GPU-ef427e4f-1970-42f2-ab0c-ecf0e56a33b9'] as const;
const QUICKSTART = 'GPU-604ac76c-d9cf-fef3-62e9-d92044ab6e52';
const MI300X = 'GPU-00000000-0000-1000-8000-000000000000';
const NODE_WITHOUT_SHARES = { 'cpu/utilization': 'no-sensor', 'memory/memory': 'no-sensor' };

const card = (id: string, temperature: number, power: number, memory: number): Record<string, number> => ({
  [`gpu/${id}/temperature`]: temperature,
  [`gpu/${id}/power`]: power,
  [`gpu/${id}/memory`]: memory,
});
const namesOf = ({ gpus }: SourceReport): (string | undefined)[] => gpus.map(({ name }) => name);
const limitsOf = ({ hardwareLimits }: SourceReport): unknown[] =>
  hardwareLimits.map(({ enforcedPowerW, criticalC }) => enforcedPowerW ?? criticalC);

const RECORDINGS: Record<string, Recording> = {
  'node_exporter-1.12.1-e2e-fixture': {
    title: 'two sockets among the boards and radios; memory without MemAvailable, less the cache that is shared',
    judged: {
      'cpu/coretemp-0/temperature': 55,
      'cpu/coretemp-1/temperature': 55,
      'cpu/utilization': 'not-yet-read',
      'cpu/package-0/power': 'not-yet-read',
      'memory/memory': 0.8318,
    },
    also: (t, report) => {
      t.same(limitsOf(report), [100, 100], 'crit of each socket');
      t.equal(report.scrape?.rejectedLines, 0, 'of 5,483 lines, one with U+FFFD in a label');
    },
  },
  'node_exporter-1.5.0-here': {
    title: 'a virtual machine without sensors, whose collectors fail with HTTP 200',
    judged: { 'cpu/temperature': 'no-sensor', 'cpu/utilization': 'not-yet-read', 'memory/memory': 0.0778 },
    also: (t, report) => {
      t.match(report.readings.find(({ quantity }) => quantity === 'temperature')?.origin, /collector hwmon failed/);
      t.match(report.witnesses, [{ of: 'source', name: 'node_time_seconds', value: 1795611788.8018866 }]);
    },
  },
  'node_exporter-1.5.0-synthetic-sysfs': {
    title: 'of every kind of chip the right sensor: Tdie, edge, average power; the ACPI meter before the supply',
    judged: {
      ...NODE_WITHOUT_SHARES,
      'cpu/coretemp-0/temperature': 73,
      'cpu/k10temp-0/temperature': 72.5,
      'cpu/zenpower-0/temperature': 65,
      'cpu/package-0/power': 'not-yet-read',
      'cpu/dram-0/power': 'not-yet-read',
      'gpu/0000:0a:00.0/temperature': 61,
      'gpu/0000:0a:00.0/power': 211,
      'gpu/0000:0a:00.0/memory': 'no-sensor',
      'gpu/0000:0b:00.0/temperature': 41,
      'gpu/0000:0b:00.0/power': 25,
      'gpu/0000:0b:00.0/memory': 'no-sensor',
      'system/total-power#4': 612,
    },
    shown: { 'gpu/0000:0a:00.0/temperature': 84, 'cpu/psys-0/power': 'not-yet-read' },
    also: (t, report) => {
      const totals = report.readings.filter(({ quantity }) => quantity === 'total-power');
      t.same(
        totals.map(({ rank, value }) => [rank, value]),
        [
          [4, 612],
          [5, 845],
        ],
        'both are told',
      );
      t.match(report.notes.join('\n'), /corsairpsu power total \(output\)/);
    },
  },
  'node_exporter-nct6775-k10temp-issue1993': {
    title: "k10temp is known by its place, and 109 °C of a board are nobody's",
    judged: { ...NODE_WITHOUT_SHARES, 'cpu/k10temp-0/temperature': 55 },
  },
  'node_exporter-amdgpu-drm-pr3145-pr3572': {
    title: 'a card of the drm collector, joined by chip',
    judged: {
      ...NODE_WITHOUT_SHARES,
      'cpu/temperature': 'no-sensor',
      'gpu/0000:9e:00.0/temperature': 'no-sensor',
      'gpu/0000:9e:00.0/power': 'no-sensor',
      'gpu/0000:9e:00.0/memory': 0.0013,
    },
    shown: { 'gpu/0000:9e:00.0/utilization': 0 },
  },
  'dcgm_exporter-l4-idle-nopods': {
    title: 'a whole default set; memory of 0 °C has no sensor, FB_RESERVED is in neither amount',
    judged: card(L4, 31, 16.365, 0),
    shown: { [`gpu/${L4}/temperature`]: 'not-supported', [`gpu/${L4}/utilization`]: 0 },
    also: (t, report) => {
      t.match(report.gpus, [{ pciAddress: '0000:31:00.0', name: 'NVIDIA L4' }]);
      t.match(report.witnesses, [{ of: { gpu: L4 }, value: 4_742_776 }]);
    },
  },
  'dcgm_exporter-a30-mig-issue317': {
    title: 'four instances are one card, at the highest of its numbers',
    judged: { [`gpu/${A30(0)}/power`]: 52.746, [`gpu/${A30(1)}/power`]: 56.127 },
    shown: { [`gpu/${A30(0)}/temperature`]: 35, [`gpu/${A30(1)}/temperature`]: 34 },
    also: (t, report) => t.same(namesOf(report), ['NVIDIA A30', 'NVIDIA A30']),
  },
  'dcgm_exporter-h100-pods-issue490': {
    title: 'rows with and without a pod are three cards, none of which is read',
    judged: {},
    shown: Object.fromEntries([0, 1, 2].map((n) => [`gpu/${GPU(n)}/utilization`, 0])),
    also: (t, report) => t.equal(report.gpus.length, 3),
  },
  'dcgm_exporter-2020-empty-pod-labels': {
    title: 'without a host, a comment or a pod',
    judged: { [`gpu/${V100}/temperature`]: 55, [`gpu/${V100}/power`]: 302.206 },
    shown: { [`gpu/${V100}/temperature`]: 54, [`gpu/${V100}/utilization`]: 0.44 },
  },
  'dcgm_exporter-readme-quickstart': {
    title: 'a blank after a comma, and a blank code: the card is there, and not read',
    judged: {},
    shown: { [`gpu/${QUICKSTART}/temperature`]: 'not-supported' },
    also: (t, report) => t.match(report.gpus, [{ id: QUICKSTART, required: true }]),
  },
  'prometheus-api-labels-exported_pod-issue340': {
    title: "a server's labels: two pods that share a card",
    judged: { [`gpu/${GPU(40)}/temperature`]: 41 },
    also: (t, report) => t.equal(report.gpus.length, 1),
  },
  'nvidia_gpu_exporter-h100-load': {
    title: 'average power is judged, instant power and the memory are shown, T.Limit is left out',
    judged: card(GPU(0), 59, 631.95, 0.2444),
    shown: { [`gpu/${GPU(0)}/temperature`]: 54, [`gpu/${GPU(0)}/power`]: 625.68, [`gpu/${GPU(0)}/utilization`]: 1 },
    also: (t, report) => t.same(limitsOf(report), [700]),
  },
  'nvidia_gpu_exporter-h100-mig-load': {
    title: 'MIG tells no utilisation',
    judged: card(GPU(0), 53, 433.78, 0.1372),
    shown: { [`gpu/${GPU(0)}/temperature`]: 59, [`gpu/${GPU(0)}/power`]: 447.35 },
  },
  'nvidia_gpu_exporter-rtx4080s-idle': {
    title: 'idle',
    judged: card(GPU(0), 43, 26.2, 0.0374),
    shown: { [`gpu/${GPU(0)}/power`]: 28.77, [`gpu/${GPU(0)}/utilization`]: 0 },
  },
  'nvidia_gpu_exporter-windows-rtx2080s-load': {
    title: 'on Windows',
    judged: card(GPU(0), 45, 97.43, 0.1622),
    shown: { [`gpu/${GPU(0)}/power`]: 97.43, [`gpu/${GPU(0)}/utilization`]: 0.07 },
    also: (t, report) => t.match(report.gpus, [{ pciAddress: '0000:0c:00.0' }]),
  },
  'nvidia_gpu_exporter-demo-multigpu': {
    title: 'two cards, one by the fullest of its instances, one with an old Xid 79',
    judged: { ...card(H200[0], 52, 627.4, 0.5653), ...card(H200[1], 52, 627.4, 0.2261) },
    shown: Object.assign(
      {},
      ...H200.map((id) => ({
        [`gpu/${id}/temperature`]: 40,
        [`gpu/${id}/power`]: 626.26,
        [`gpu/${id}/utilization`]: 1,
      })),
    ),
    also: (t, report) =>
      t.match(report.notes.join('\n'), new RegExp(`${H200[1]}: 2 faults Xid 79, the card has fallen`)),
  },
  'amd_device_metrics_exporter-issues353-259-236': {
    title: '0 W of an APU is passed on for the domain to refuse; a host name that is a container is no card',
    judged: { [`gpu/${MI300X}/power`]: 0, [`gpu/${MI300X}/memory`]: 'no-sensor' },
    shown: { [`gpu/${MI300X}/utilization`]: 0 },
    also: (t, report) => t.same(report.witnesses, [], 'an energy counter at 0 is none'),
  },
  'ipmi_exporter-dcmi-pr160': { title: 'DCMI by its real name', judged: { 'system/total-power#2': 372 } },
  'ipmi_exporter-docs-examples': {
    title: 'DCMI is down, and 70 W of a sensor are no total',
    judged: { 'system/total-power#2': 'unreadable' },
    also: (t, report) => t.match(report.readings, [{ origin: /ipmi_up\{collector="dcmi"\} is 0/ }]),
  },
  'idrac_exporter-issue2-two-psus': {
    title: 'inputs of two supplies, not their outputs',
    judged: { 'system/total-power#5': 166.62 },
  },
  'intel_xpumd-issue130-terawatt': {
    title: 'of a series that is there twice the highest that can be',
    judged: { 'gpu/0001:91:00.0/power': 52.03 },
  },
};

/** By component, id and quantity: value or cause. */
function told(readings: SourceReport['readings']): Record<string, number | string> {
  return Object.fromEntries(
    readings.map(({ component, id, quantity, value, cause, rank }) => [
      `${component}${id === undefined ? '' : `/${id}`}/${quantity}${rank === undefined ? '' : `#${rank}`}`,
      value ?? cause ?? 'no-sensor',
    ]),
  );
}

function agree(
  t: Test,
  found: Record<string, number | string>,
  expected: Record<string, number | string>,
  what: string,
) {
  t.same(Object.keys(found).sort(), Object.keys(expected).sort(), `${what}: nothing more and nothing less`);
  for (const [key, value] of Object.entries(expected)) {
    const is = found[key];
    if (typeof value === 'string' || typeof is !== 'number') t.equal(is, value, key);
    else t.ok(Math.abs(is - value) < 1e-4, `${key} is ${is}, ${value} is expected`);
  }
}

/** One look at an exporter that answers so. */
async function lookAt(t: Test, body: string, contentType?: string): Promise<SourceReport> {
  const exporter = await standInExporter(
    t,
    says(body, contentType === undefined ? {} : { 'content-type': contentType }),
  );
  const clock = new ManualClock();
  return exporterSource(t, exporter.url, clock).read(clock.now().elapsedMs + LOOK_MS);
}

function withRecording(name: string, title: string, check: (t: Test, body: string) => Promise<unknown>): void {
  const body = sharedFile('recordings', `${name}.txt`);
  const skip = body === null && `needs ../shared/recordings/${name}.txt, which is not part of this repository`;
  t.test(`createExporter() over HTTP, ${name}: ${title}`, { skip }, async (t) => void (await check(t, body ?? '')));
}

for (const [name, { title, judged, shown = {}, also }] of Object.entries(RECORDINGS)) {
  withRecording(name, title, async (t, body) => {
    const report = await lookAt(t, body);
    t.match(report.outcome, { kind: 'answered' });
    agree(t, told([...worstSamples(report.readings).values()]), judged, 'judged');
    agree(t, told(report.readings.filter(({ informational }) => informational)), shown, 'shown');
    await also?.(t, report);
  });
}

for (const [name, contentType] of [
  ['text004-prometheus-alltypes-237mfs', undefined],
  ['windows_exporter-e2e-fixture', undefined],
  ['openmetrics-prometheus-alltypes-5mfs', 'application/openmetrics-text; version=1.0.0; charset=utf-8'],
  ['openmetrics-prometheus-1histogram', 'application/openmetrics-text; version=1.0.0; charset=utf-8'],
] as const) {
  withRecording(
    name,
    'a body without any series that is read is a failed look, not a machine without GPUs',
    async (t, body) => {
      const { outcome, readings } = await lookAt(t, body, contentType);
      t.match(outcome, { kind: 'failed', cause: 'empty', excerpt: /^# HELP / });
      t.same(readings, []);
      if (contentType === undefined) return;
      t.match((await lookAt(t, body.replace(/# EOF\n?$/, ''), contentType)).outcome, {
        kind: 'failed',
        cause: 'bad-body',
      });
      t.match((await lookAt(t, body)).outcome, { cause: 'empty' }, 'the same as plain text');
    },
  );
}
