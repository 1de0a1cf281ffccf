// One body of an exporter, as people reported it, from the socket to the verdict: served over HTTP, read by the exporter
// source, judged by decide(). Each kind of lie has an input of its own here, which needs nothing beside this project;
// where the reports' inputs lie beside it, they are served, too. Bodies that matter only in a sequence are in
// exporter-timelines.test.ts. Where the reports' table and the contract differ, the contract's word is said in the title.
import t from 'tap';
import { comesOut, type Outcome, sharedFile } from '../support/exporter-rig.ts';

const GPU = (n: number): string => `GPU-00000000-0000-0000-0000-${String(n).padStart(12, '0')}`;
const [G0, G1, G2, G3] = [GPU(0), GPU(1), GPU(2), GPU(3)];
const MEMORY = { memoryRatio: 0.3 };
const POWER_AND_MEMORY = { powerW: 120.5, memoryRatio: 0.3 };
const missing = (what: string): string => `reading-missing ${what} WAIT_COOLDOWN`;
const NOTHING_BESIDE = { cpuC: null, cpuRatio: null, memoryRatio: null };
const NODE_MISSING = [missing('cpu//temperature'), missing('cpu//utilization'), missing('memory//memory')];
const SILENT = missing('monitor');

const CASES: Record<string, Outcome & { readonly title: string }> = {
  A01: {
    title: 'a label may hold a closing brace',
    beside: { cards: { [G0]: POWER_AND_MEMORY, [G1]: POWER_AND_MEMORY } },
    action: 'WAIT_COOLDOWN',
    findings: [`over-warning gpu/${G1}/temperature WAIT_COOLDOWN`],
    shown: { [`gpu/${G0}/temperature`]: 61, [`gpu/${G1}/temperature`]: 83 },
  },
  A02: {
    title: 'a label may end in an escaped backslash',
    beside: { cards: { [G0]: POWER_AND_MEMORY } },
    action: 'PROCEED',
    shown: { [`gpu/${G0}/temperature`]: 72 },
    also: (t, rig) => t.equal(rig.report.scrape?.rejectedLines, 0),
  },
  A04: {
    title: 'no value is missing, not 0',
    beside: { cards: { [G0]: MEMORY, [G1]: MEMORY } },
    action: 'WAIT_COOLDOWN',
    findings: [missing(`gpu/${G0}/temperature`), `over-warning gpu/${G0}/power REDUCE_INTENSITY`],
    shown: { [`gpu/${G0}/temperature`]: 'invalid', [`gpu/${G1}/temperature`]: 64, [`gpu/${G0}/power`]: 290 },
  },
  A05: {
    title: 'odd values of unread families are skipped unread, and (contract 10) not counted',
    beside: { cards: { [G0]: POWER_AND_MEMORY } },
    action: 'PROCEED',
    shown: { [`gpu/${G0}/temperature`]: 66 },
    also: (t, rig) => t.equal(rig.report.scrape?.rejectedLines, 0),
  },
  A07: {
    title: 'a negative and an old stamp are stale',
    beside: { cards: { [G0]: POWER_AND_MEMORY, [G1]: POWER_AND_MEMORY, [G2]: POWER_AND_MEMORY } },
    action: 'WAIT_COOLDOWN',
    findings: [missing(`gpu/${G0}/temperature`), missing(`gpu/${G1}/temperature`)],
    shown: {
      [`gpu/${G0}/temperature`]: 'stale',
      [`gpu/${G1}/temperature`]: 'stale',
      [`gpu/${G2}/temperature`]: 59,
    },
  },
  A09: {
    title: 'NaN and infinities are no temperatures',
    beside: { cards: Object.fromEntries([G0, G1, G2, G3].map((id) => [id, POWER_AND_MEMORY])) },
    action: 'WAIT_COOLDOWN',
    findings: [G0, G1, G2].map((id) => missing(`gpu/${id}/temperature`)),
    shown: { [`gpu/${G0}/temperature`]: 'invalid', [`gpu/${G3}/temperature`]: 60 },
  },
  A11: {
    title: 'a missing comma rejects the line, and names its card',
    beside: { cards: { [G0]: POWER_AND_MEMORY, [G1]: POWER_AND_MEMORY } },
    action: 'WAIT_COOLDOWN',
    findings: [missing(`gpu/${G0}/temperature`)],
    shown: { [`gpu/${G0}/temperature`]: 'invalid', [`gpu/${G1}/temperature`]: 72 },
    also: (t, rig) => t.equal(rig.report.scrape?.rejectedLines, 1),
  },
  A12: {
    title: "OpenMetrics' stamps are seconds",
    contentType: 'application/openmetrics-text; version=1.0.0',
    beside: { cards: { [G0]: POWER_AND_MEMORY, [G1]: POWER_AND_MEMORY } },
    action: 'PROCEED',
    shown: { [`gpu/${G0}/temperature`]: 70, [`gpu/${G1}/temperature`]: 71 },
    also: async (t, rig) => {
      t.equal(rig.ageSeconds('gpu', 'temperature', G1), 4.75, '2026-01-01T00:00:00.25Z, looked at 5 s after midnight');
      t.notMatch(rig.exporter.requests[0]?.headers.accept, /openmetrics/, 'nobody asked for it');
      await rig.until(28);
      t.equal(rig.shown('gpu', 'temperature', G0), 70);
      await rig.until(30);
      t.equal(rig.shown('gpu', 'temperature', G0), 'stale', 'over staleAfter old');
    },
  },
  A13: {
    title: 'a page where metrics were expected is a failed look',
    contentType: 'text/html; charset=utf-8',
    node: { expectGpus: 1 },
    beside: NOTHING_BESIDE,
    action: 'WAIT_COOLDOWN',
    findings: [...NODE_MISSING, missing('gpu//temperature'), SILENT],
    also: (t, rig) => t.match(rig.report.outcome, { kind: 'failed', cause: 'bad-body', detail: /html/ }),
  },
  A14: {
    title: 'a line that begins with # is a comment',
    beside: { cards: { [G0]: MEMORY } },
    action: 'PROCEED',
    shown: { [`gpu/${G0}/temperature`]: 66, [`gpu/${G0}/power`]: 150.5 },
    also: (t, rig) => t.equal(rig.report.scrape?.rejectedLines, 0),
  },
  B01: {
    title: "the CPU's own chip speaks for it, a board's pins do not",
    beside: { cpuC: null },
    action: 'PROCEED',
    shown: { 'cpu/coretemp-0/temperature': 48 },
  },
  B03: {
    title: '4 million degrees are no temperature',
    beside: { cpuC: null },
    action: 'WAIT_COOLDOWN',
    findings: [missing('cpu//temperature')],
  },
  B04: {
    title: 'Tdie, not Tctl',
    beside: { cpuC: null },
    action: 'PROCEED',
    shown: { 'cpu/k10temp-0/temperature': 69 },
  },
  B05: {
    title: 'hot cores beside a cool zone',
    beside: { cpuC: null },
    action: 'ABORT',
    findings: ['over-hard-stop cpu/coretemp-0/temperature ABORT'],
    shown: { 'cpu/coretemp-0/temperature': 96 },
    also: (t, rig) => t.match(rig.world.orders, [{ scope: { kind: 'all' } }]),
  },
  B07: {
    title: 'failed collectors are missing readings, and named',
    beside: { cpuC: null },
    action: 'WAIT_COOLDOWN',
    findings: [missing('cpu//temperature')],
    shown: { 'cpu/temperature': 'unreadable' },
    also: (t, rig) => t.match(rig.world.result.findings, [{ message: /collectors?.*hwmon.*failed/ }]),
  },
  B08: {
    title: '0 °C is no temperature of a CPU',
    beside: { cpuC: null },
    action: 'WAIT_COOLDOWN',
    findings: [missing('cpu//temperature')],
  },
  B10: {
    title: 'an error text is a failed look, and its beginning is kept',
    status: 500,
    beside: NOTHING_BESIDE,
    action: 'WAIT_COOLDOWN',
    findings: [...NODE_MISSING, SILENT],
    also: (t, rig) =>
      t.match(rig.report.outcome, {
        kind: 'failed',
        cause: 'bad-status',
        detail: /it answered 500/,
        excerpt: /^An error has occurred while serving metrics:/,
      }),
  },
  B15: {
    title: 'no RAPL series is no 0 W: a required total is missing',
    beside: { cpuC: null },
    node: { require: ['total-power'], power: { baseW: 100, psuEfficiency: 0.9 } },
    action: 'WAIT_COOLDOWN',
    findings: [missing('system//total-power')],
    shown: { 'cpu/coretemp-0/temperature': 55, 'cpu/package-0/power': undefined },
  },
  B16: {
    title: 'one scrape gives no power',
    action: 'PROCEED',
    also: async (t, rig) => {
      const zone = (index: number, joules: number): string =>
        `node_rapl_package_joules_total{index="${index}",path="/sys/class/powercap/intel-rapl:${index}"} ${joules}\n`;
      rig.serve(`${zone(0, 1500)}${zone(15, 1300)}node_rapl_package-15_joules_total{index="0"} 2\n`);
      await rig.run(10);
      t.equal(rig.world.result.action, 'PROCEED');
      t.match(
        rig.report.readings.filter(({ quantity, value }) => quantity === 'power' && value !== null),
        [
          { id: 'package-0', value: 50 },
          { id: 'package-15', value: 40 },
        ],
      );
    },
  },
  B17: {
    title: 'an exporter that is overrun is a failed look',
    status: 503,
    beside: NOTHING_BESIDE,
    action: 'WAIT_COOLDOWN',
    findings: [...NODE_MISSING, SILENT],
    also: (t, rig) => t.match(rig.report.outcome, { cause: 'bad-status', excerpt: /^Limit of concurrent requests/ }),
  },
  B19: {
    title: 'a disk is no CPU, and a limit is no reading',
    beside: { cpuC: null },
    action: 'PROCEED',
    shown: { 'cpu/coretemp-0/temperature': 50 },
  },
  B21: {
    title: 'by the letter the ZFS cache is in use',
    beside: { memoryRatio: null },
    action: 'REDUCE_INTENSITY',
    findings: ['over-maximum memory//memory REDUCE_INTENSITY'],
    shown: { 'memory/memory': 0.882 },
  },
  B22: {
    title: 'without MemAvailable it is estimated',
    beside: { memoryRatio: null },
    action: 'PROCEED',
    shown: { 'memory/memory': 0.324 },
  },
  C01: {
    title: 'the 64-bit blank is no memory temperature',
    beside: { cards: { [G0]: MEMORY } },
    action: 'PROCEED',
    shown: { [`gpu/${G0}/temperature`]: 62, [`gpu/${G0}/power`]: 70.1 },
    also: (t, rig) => t.same(rig.informational('temperature'), []),
  },
  C07: {
    title: "instances repeat their card's power, which counts once",
    beside: { cards: { [G0]: MEMORY, [G1]: MEMORY } },
    node: { power: { baseW: 0, psuEfficiency: 1 } },
    action: 'PROCEED',
    shown: { [`gpu/${G0}/power`]: 152.6, [`gpu/${G1}/power`]: 156.1, 'system/total-power': 308.7 },
    also: (t, rig) => t.same(rig.cards, [G0, G1]),
  },
  C09: {
    title: 'two rows of one card are one card, at its worst',
    beside: { cards: { [G0]: MEMORY } },
    action: 'WAIT_COOLDOWN',
    findings: [`over-warning gpu/${G0}/power REDUCE_INTENSITY`, `over-warning gpu/${G0}/temperature WAIT_COOLDOWN`],
    shown: { [`gpu/${G0}/temperature`]: 80, [`gpu/${G0}/power`]: 251.9 },
    also: (t, rig) => t.same(rig.cards, [G0]),
  },
  C10: {
    title: 'the node is the target, whatever Hostname says',
    beside: { cards: { [G0]: MEMORY } },
    action: 'ABORT',
    findings: [`over-hard-stop gpu/${G0}/temperature ABORT`],
    shown: { [`gpu/${G0}/temperature`]: 86, [`gpu/${G0}/power`]: 200 },
    also: (t, rig) => {
      t.match(
        rig.world.result.findings.find(({ code }) => code === 'over-hard-stop'),
        { node: 'bizon1' },
      );
      t.same(rig.cards, [G0]);
    },
  },
  C11: {
    title: '0 °C of memory is no sensor',
    beside: { cards: { [G0]: MEMORY } },
    action: 'PROCEED',
    shown: { [`gpu/${G0}/temperature`]: 70, [`gpu/${G0}/power`]: 200 },
    also: (t, rig) => t.same(rig.informational('temperature'), []),
  },
  C12: {
    title: 'memory is used / (used + free)',
    action: 'REDUCE_INTENSITY',
    findings: [`over-maximum gpu/${G0}/memory REDUCE_INTENSITY`],
    shown: { [`gpu/${G0}/memory`]: 0.913 },
  },
  C15: {
    title: 'the load is GPU_UTIL, not the profiling 0; (contract 10) it is shown and never judged',
    beside: { cards: { [G0]: MEMORY } },
    action: 'PROCEED',
    shown: { [`gpu/${G0}/temperature`]: 79, [`gpu/${G0}/power`]: 240 },
    also: (t, rig) => t.same(rig.informational('utilization'), [1]),
  },
  C16: {
    title: 'an old Xid is told and blocks nothing',
    beside: { cards: { [G0]: MEMORY, [G1]: MEMORY } },
    action: 'PROCEED',
    also: (t, rig) => t.match(rig.report.notes.join('\n'), /0{11}0: last fault Xid 31$/m),
  },
  C17: { title: 'optional fields may be absent', action: 'PROCEED', shown: { [`gpu/${G0}/memory`]: 0.004 } },
  C20: {
    title: 'cards that only a limit names are required',
    beside: { cards: { [G0]: MEMORY } },
    action: 'WAIT_COOLDOWN',
    findings: [G1, G2, G3].flatMap((id) =>
      ['memory', 'power', 'temperature'].map((quantity) => missing(`gpu/${id}/${quantity}`)),
    ),
    shown: { [`gpu/${G0}/temperature`]: 50, [`gpu/${G0}/power`]: 60 },
  },
  E03: {
    title: '0 °C and 0 W at full load are no readings',
    beside: { also: 'gpu_used_vram{gpu_id="0"} 100\ngpu_free_vram{gpu_id="0"} 900\n' },
    action: 'WAIT_COOLDOWN',
    findings: ['power', 'temperature'].map((quantity) => missing(`gpu/device-metrics-exporter-gpu-0/${quantity}`)),
    shown: { 'gpu/device-metrics-exporter-gpu-0/temperature': 'invalid' },
  },
  E04: {
    title: "a tool's table of N/A is no answer",
    node: { expectGpus: 1 },
    action: 'WAIT_COOLDOWN',
    findings: [missing('gpu//temperature'), SILENT],
    also: (t, rig) => t.match(rig.report.outcome, { kind: 'failed', cause: 'empty' }),
  },
  F01: {
    title: 'NaN is missing, and a nominal state is no number',
    node: { require: ['total-power'] },
    action: 'WAIT_COOLDOWN',
    findings: [missing('system//total-power')],
    shown: { 'system/total-power': 'invalid', 'cpu/coretemp-0/temperature': 52.125 },
  },
  F03: {
    title: '0 W of a machine that is on is no power',
    node: { require: ['total-power'] },
    action: 'WAIT_COOLDOWN',
    findings: [missing('system//total-power')],
    shown: { 'system/total-power': 'invalid' },
    also: async (t, rig) => {
      rig.beside.also = 'redfish_chassis_power_average_consumed_watts{power_control_id="0"} 480\n';
      t.equal((await rig.run(10)).action, 'PROCEED', 'another source tells it');
      t.equal(rig.all()['system/total-power'], 480);
    },
  },
  F04: {
    title: 'an answer of a BMC that does not answer has no power',
    node: { require: ['total-power'] },
    action: 'WAIT_COOLDOWN',
    findings: [missing('system//total-power')],
    shown: { 'system/total-power': 'unreadable' },
  },
  F06: {
    title: "a tool's table with na is no answer",
    node: { require: ['total-power'] },
    action: 'WAIT_COOLDOWN',
    findings: [SILENT, missing('system//total-power')],
    also: (t, rig) => t.match(rig.report.outcome, { kind: 'failed', cause: 'empty' }),
  },
};

for (const [id, { title, ...outcome }] of Object.entries(CASES)) {
  const body = sharedFile('cases', `${id}.txt`);
  const skip = body === null && `needs ../shared/cases/${id}.txt, which is not part of this repository`;
  t.test(`decide() over HTTP, ${id}: ${title}`, { skip }, (t) => comesOut(t, body ?? '', outcome));
}
