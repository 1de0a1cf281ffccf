import t, { type Test } from 'tap';
import { type Clock, systemClock } from '../../src/clock.ts';
import type { RawReading, SourceReport } from '../../src/domain/reading.ts';
import { createHttpGetter } from '../../src/sources/http-get.ts';
import { type PrometheusOptions, PrometheusServer } from '../../src/sources/promql.ts';
import { WANTED_NAMES } from '../../src/sources/series.ts';
import { createSeriesReader } from '../../src/sources/series-reader.ts';
import { type HeldSeries, type StandIn, standInPrometheus } from '../support/stand-in-prometheus.ts';

/** The machine's clock, and what a test adds to it. */
const moved = { byMs: 0 };
const clock: Clock = {
  ...systemClock,
  now: () => ({ elapsedMs: systemClock.now().elapsedMs + moved.byMs, wallMs: systemClock.now().wallMs + moved.byMs }),
};
const nowMs = (): number => clock.now().elapsedMs;
const UUID = 'GPU-00000000-1111-2222-3333-444444444444';
const OTHER_UUID = 'GPU-00000000-1111-2222-3333-555555555555';

/** Two scrapes ago and last, at 15 s: what a Prometheus holds of a healthy target within 40 s. */
const STEADY = [18, 3];

function held(name: string, value: number | string, labels: Record<string, string>, ages = STEADY): HeldSeries {
  return { metric: { __name__: name, ...labels }, values: ages.map((age) => [age, String(value)] as const) };
}

function nodeExporter(node: string, ages = STEADY): HeldSeries[] {
  const target = { job: 'node', instance: `${node}:9100`, node };
  const chip = { ...target, chip: 'platform_coretemp_0' };
  return [
    held('up', 1, target, ages),
    held('node_time_seconds', 1_600_000_000, target, ages),
    held('node_memory_MemTotal_bytes', 1000, target, ages),
    held('node_memory_MemAvailable_bytes', 750, target, ages),
    held('node_hwmon_chip_names', 1, { ...chip, chip_name: 'coretemp' }, ages),
    held('node_hwmon_temp_celsius', 61, { ...chip, sensor: 'temp1' }, ages),
  ];
}

function dcgm(node: string, uuid: string, labels: Record<string, string> = {}, ages = STEADY): HeldSeries[] {
  const target = { job: 'dcgm', instance: '192.0.2.10:9400', node };
  const gpu = { ...target, UUID: uuid, gpu: '0', Hostname: 'dcgm-exporter-abc', modelName: 'A100', ...labels };
  return [
    held('up', 1, target),
    held('DCGM_FI_DEV_GPU_TEMP', 71, gpu, ages),
    held('DCGM_FI_DEV_POWER_USAGE', 240, gpu, ages),
    held('DCGM_FI_DEV_FB_USED', 100, gpu, ages),
    held('DCGM_FI_DEV_FB_FREE', 300, gpu, ages),
  ];
}

/** Sums of one node's CPUs, as the server gives them. */
function cpuSums(node: string, stampSeconds: number, count: number, idle: number, user: number): HeldSeries[] {
  const target = { job: 'node', instance: `${node}:9100`, node };
  const sums = { idle, user, iowait: 0, irq: 0, nice: 0, softirq: 0, steal: 0, system: 0, count, stamp: stampSeconds };
  return Object.entries(sums).map(([mode, value]) => ({ metric: { ...target, mode }, values: [[0, String(value)]] }));
}

type Setup = { readonly standIn: StandIn; readonly server: PrometheusServer } & Looks;
interface Looks {
  /** One round: all sources at once; reports by `node source`. */
  readonly look: (only?: (id: string, node: string) => boolean) => Promise<Record<string, SourceReport>>;
}

async function setup(t: Test, options: Partial<PrometheusOptions> = {}): Promise<Setup> {
  const standIn = await standInPrometheus(t);
  const getter = createHttpGetter({ clock });
  t.teardown(() => getter.close());
  const reader = (): ReturnType<typeof createSeriesReader> =>
    createSeriesReader({ tctlOffsetC: 0, zfsCacheIsAvailable: false, explains: false, outlets: [] });
  const server = new PrometheusServer({
    clock,
    url: standIn.url,
    get: getter.get,
    credentials: null,
    nodeLabels: ['node', 'nodename', 'kubernetes_node', 'instance'],
    match: '',
    nodes: ['gpu1'],
    isNodeName: (name) => /^[a-z0-9][a-z0-9._-]*$/i.test(name),
    wanted: WANTED_NAMES,
    reader,
    outlets: new Map(),
    staleAfterMs: 30_000,
    intervalMs: 10_000,
    ...options,
  });
  return { standIn, server, look: (only) => lookAt(server, only) };
}

async function lookAt(
  server: PrometheusServer,
  only: (id: string, node: string) => boolean = () => true,
  withinMs = 5_000,
): Promise<Record<string, SourceReport>> {
  const asked = server.sources().filter(({ id, node }) => only(id, node));
  const reports = await Promise.all(asked.map((source) => source.read(nowMs() + withinMs)));
  return Object.fromEntries(reports.map((report) => [`${report.node} ${report.source}`, report]));
}

/** The second round, in which the targets that the first one found are read. */
async function secondLook({ look }: Looks): Promise<Record<string, SourceReport>> {
  await look();
  return look();
}

const toldOf = (
  report: SourceReport | undefined,
  component: string,
  quantity: string,
): RawReading['value'] | undefined =>
  report?.readings.find((reading) => reading.component === component && reading.quantity === quantity)?.value;

const detailOf = (report: SourceReport | undefined): string =>
  report?.outcome.kind === 'failed' ? report.outcome.detail : 'answered';

t.test(
  'PrometheusServer.sources() has each configured node from the start, and each target once it is found',
  async (t) => {
    const { standIn, server, look } = await setup(t, { nodes: ['gpu1', 'gpu2'] });
    standIn.series = [...nodeExporter('gpu1'), ...nodeExporter('gpu3')];
    const known = (): string[] => server.sources().map(({ node, id }) => `${node} ${id}`);
    t.strictSame(known(), ['gpu1 prometheus', 'gpu2 prometheus']);
    const first = await look();
    t.strictSame(known(), [
      'gpu1 prometheus',
      'gpu2 prometheus',
      'gpu1 prometheus:node/gpu1:9100',
      'gpu3 prometheus:node/gpu3:9100',
    ]);
    t.match(first['gpu1 prometheus'], { outcome: { kind: 'answered' }, notes: ['Prometheus scrapes node/gpu1:9100'] });
    t.match(first['gpu2 prometheus'], { outcome: { kind: 'failed', cause: 'empty' } });
    t.match(detailOf(first['gpu2 prometheus']), /Cannot read node gpu2 .* no series of this node from the last 40 s/);
  },
);

t.test('PrometheusServer reads all that is asked at once by one set of queries', async (t) => {
  const { standIn, server, look } = await setup(t);
  standIn.series = [...nodeExporter('gpu1'), ...nodeExporter('gpu2'), ...dcgm('gpu2', UUID)];
  await look();
  const ofOne = standIn.asked.length;
  t.equal(server.sources().length, 4);
  await look();
  t.equal(standIn.asked.length, 2 * ofOne);
  t.ok(standIn.asked.every((query) => query.length < 8_000));
});

t.test("PrometheusServer gives readings the age of their samples, by the server's time", async (t) => {
  const { standIn, ...looks } = await setup(t);
  standIn.series = nodeExporter('gpu1');
  const startedMs = nowMs();
  const { 'gpu1 prometheus:node/gpu1:9100': report } = await secondLook(looks);
  t.equal(toldOf(report, 'cpu', 'temperature'), 61);
  t.equal(toldOf(report, 'memory', 'memory'), 0.25);
  t.match(report?.witnesses, [{ of: 'source', name: 'node_time_seconds' }]);
  t.equal(report?.readings.length, 3);
  for (const { value, sampledAtMs = Number.NaN } of report?.readings ?? []) {
    if (value !== null) t.ok(Math.abs(startedMs - 3_000 - sampledAtMs) < 500, `age ${nowMs() - sampledAtMs}`);
  }
});

t.test('PrometheusServer lets a sample grow old while the server tells no newer one, and then fails', async (t) => {
  const { standIn, ...looks } = await setup(t);
  // A server that answers and does not scrape any more: `up` stands still as well.
  standIn.series = nodeExporter('gpu1');
  await secondLook(looks);
  const aged = async (seconds: number): Promise<SourceReport | undefined> => {
    standIn.nowSeconds = 1_600_000_000.25 + seconds;
    standIn.series = nodeExporter(
      'gpu1',
      STEADY.map((age) => age + seconds),
    );
    return (await looks.look())['gpu1 prometheus:node/gpu1:9100'];
  };
  const old = await aged(28);
  const temperature = old?.readings.find(({ quantity }) => quantity === 'temperature');
  t.equal(temperature?.value, 61);
  // Read 3 s old and never again; our own clock has hardly moved, as when this machine slept.
  const ageMs = nowMs() - (temperature?.sampledAtMs ?? 0);
  t.ok(ageMs >= 31_000 && ageMs < 32_000, `${ageMs}`);
  const gone = await aged(38);
  t.match(gone, { outcome: { kind: 'failed', cause: 'empty' }, readings: [] });
});

t.test('PrometheusServer fails a target that the server cannot scrape, whatever it remembers of it', async (t) => {
  const { standIn, ...looks } = await setup(t);
  standIn.series = nodeExporter('gpu1');
  await secondLook(looks);
  const target = { job: 'node', instance: 'gpu1:9100', node: 'gpu1' };
  standIn.series = [
    ...nodeExporter('gpu1').filter(({ metric }) => metric['__name__'] !== 'up'),
    {
      metric: { __name__: 'up', ...target },
      values: [
        [33, '1'],
        [18, '1'],
        [3, '0'],
      ],
    },
  ];
  const { 'gpu1 prometheus:node/gpu1:9100': report } = await looks.look();
  t.match(report, { outcome: { kind: 'failed', cause: 'failed' }, readings: [] });
  t.match(
    detailOf(report),
    /Cannot read node\/gpu1:9100 from .*: the server has not been able to scrape it for 18 s: up is 0/,
  );
});

t.test('PrometheusServer knows a GPU by its UUID and a workload never as its exporter', async (t) => {
  const { standIn, ...looks } = await setup(t, { nodes: ['worker1'] });
  const shared = { namespace: 'monitoring', pod: 'dcgm-exporter-78z52', exported_namespace: 'default' };
  standIn.series = [
    ...dcgm('worker1', UUID, { ...shared, exported_pod: 'pod1', exported_gpu: '3', gpu: 'yes' }),
    ...dcgm('worker1', UUID, { ...shared, exported_pod: 'pod2', exported_gpu: '3', gpu: 'yes' }).slice(1),
  ];
  const reports = await secondLook(looks);
  t.strictSame(Object.keys(reports), ['worker1 prometheus', 'worker1 prometheus:dcgm/192.0.2.10:9400']);
  const report = reports['worker1 prometheus:dcgm/192.0.2.10:9400'];
  t.strictSame(
    report?.gpus.map(({ id }) => id),
    [UUID.toLowerCase().replace('gpu-', 'GPU-')],
  );
  t.strictSame(report?.gpus[0]?.pods, ['default/pod1', 'default/pod2']);
  t.equal(toldOf(report, 'gpu', 'temperature'), 71);
  t.equal(toldOf(report, 'gpu', 'memory'), 0.25);
});

t.test('PrometheusServer names a node by its labels, short or long, and by neither of two', async (t) => {
  const { standIn, server, look } = await setup(t, { nodes: ['gpu1', 'GPU2.example', 'gpu3.a', 'gpu3.b', 'gpu4'] });
  const named = (labels: Record<string, string>): HeldSeries[] => [
    held('node_time_seconds', 1, { job: 'node', ...labels }),
    held('node_memory_MemTotal_bytes', 1, { job: 'node', ...labels }),
  ];
  standIn.series = [
    ...named({ instance: '10.0.0.1:9100', nodename: 'GPU1.example' }),
    ...named({ instance: 'gpu2:9100', node: '' }),
    ...named({ instance: 'gpu3:9100' }),
    ...named({ instance: 'gpu4.a:9100' }),
    ...named({ instance: 'gpu4.b:9100' }),
    ...named({ instance: 'https://gpu5:9100/metrics' }),
    ...named({ instance: 'localhost:9100' }),
    ...named({ instance: '[fe80::1]:9100' }),
    ...named({ exported_instance: 'gpu6' }),
    ...named({ instance: '10.0.0.1:9100', nodename: 'gpu1', exported_node: 'gpu7' }),
  ];
  await look();
  await look();
  const found = server.sources().filter(({ id }) => id !== 'prometheus');
  t.strictSame(
    found.map(({ node, id }) => `${node} ${id}`),
    [
      'gpu1 prometheus:node/10.0.0.1:9100',
      'GPU2.example prometheus:node/gpu2:9100',
      'gpu4 prometheus:node/gpu4.a:9100',
      'gpu5 prometheus:node/https://gpu5:9100/metrics',
    ],
    'the first long name was taken for the short one before there were two',
  );
  const problems = server.problems.join('\n');
  t.match(problems, /node\/gpu3:9100 is nobody's: "gpu3" may be any of gpu3\.a, gpu3\.b \(2 series\)/);
  t.match(problems, /node\/gpu4\.a:9100 is nobody's: "gpu4" may be any of gpu4\.a, gpu4\.b/);
  t.match(problems, /node\/localhost:9100 is nobody's: "localhost" is a different machine to everybody/);
  t.match(problems, /"fe80::1" cannot name a node/);
  t.match(problems, /node\/no instance is nobody's: it has none of the labels node, nodename/);
});

t.test('PrometheusServer leaves out a GPU that newer scrapes of its target do not have', async (t) => {
  const { standIn, ...looks } = await setup(t);
  const up = { metric: { __name__: 'up', job: 'dcgm', instance: '192.0.2.10:9400', node: 'gpu1' } };
  const startSeconds = standIn.nowSeconds;
  const look = async (seconds: number, scrapes: number[], scrapesWithLost: number[]): Promise<string[]> => {
    standIn.nowSeconds = startSeconds + seconds;
    const ages = (times: number[]): number[] => times.map((time) => seconds - time);
    standIn.series = [
      { ...up, values: ages(scrapes).map((age) => [age, '1'] as const) },
      ...dcgm('gpu1', UUID, {}, ages(scrapes)).slice(1),
      ...dcgm('gpu1', OTHER_UUID, {}, ages(scrapesWithLost)).slice(1),
    ];
    const report = (await looks.look())['gpu1 prometheus:dcgm/192.0.2.10:9400'];
    return report?.gpus.map(({ id }) => id) ?? [];
  };
  await look(3, [-15, 0], [-15, 0]);
  t.equal((await look(4, [-15, 0], [-15, 0])).length, 2);
  t.equal((await look(17, [-15, 0, 15], [-15, 0])).length, 2, 'the newest scrape may not be all there yet');
  t.strictSame(await look(24, [-15, 0, 15], [-15, 0]), [UUID]);
});

t.test('PrometheusServer fails every source when the server does not give its whole answer', async (t) => {
  const { standIn, server, ...looks } = await setup(t);
  standIn.series = nodeExporter('gpu1');
  await secondLook(looks);
  const good = JSON.stringify({ status: 'success', data: { resultType: 'matrix', result: [] } });
  const answers = {
    'it says that its answer is not whole: store 10.0.0.7 is unreachable': {
      body: good.replace('}}', '},"warnings":["store 10.0.0.7 is unreachable"]}'),
    },
    'it says that its answer is not whole: isPartial': { body: good.replace('}}', '},"isPartial":true}') },
    'it answers 503 Service Unavailable, timeout: query timed out': {
      status: 503,
      body: '{"status":"error","errorType":"timeout","error":"query timed out"}',
    },
    'it answers 200 OK, execution: no': { body: '{"status":"error","errorType":"execution","error":"no"}' },
    'it answers 200 with content of type text/html, not JSON': { type: 'text/html', body: '<h1>Sign in</h1>' },
    'it answers 502 with content of type text/plain, not JSON': {
      status: 502,
      type: 'text/plain',
      body: 'bad gateway',
    },
    'is no JSON': { body: `${good.slice(0, -2)}` },
    'its answer has no result': { body: '{"status":"success","data":{}}' },
    'the connection broke before the end of its answer': { body: good, cut: true as const },
  };
  for (const [words, answer] of Object.entries(answers)) {
    standIn.answer = (query) => (query.includes('node_time_seconds') ? answer : undefined);
    const reports = Object.values(await looks.look());
    t.equal(reports.length, 2);
    for (const report of reports) {
      t.equal(report.outcome.kind, 'failed', words);
      t.ok(detailOf(report).includes(words), detailOf(report));
      t.strictSame(report.readings, []);
    }
    t.ok(server.problems[0]?.includes(words));
  }
  standIn.answer = () => undefined;
  t.match(
    Object.values(await looks.look()).map(({ outcome }) => outcome.kind),
    ['answered', 'answered'],
  );
});

t.test('PrometheusServer fails in time when the server hangs, and when it is not there', async (t) => {
  const { standIn, server } = await setup(t);
  standIn.answer = () => 'hang';
  const startedMs = nowMs();
  const hung = await lookAt(server, undefined, 300);
  t.match(hung['gpu1 prometheus'], { outcome: { kind: 'failed', cause: 'timeout' } });
  t.ok(nowMs() - startedMs < 1_000);
  const { server: absent } = await setup(t, { url: 'http://127.0.0.1:9' });
  t.match((await lookAt(absent))['gpu1 prometheus'], { outcome: { kind: 'failed', cause: 'refused' } });
});

t.test('PrometheusServer asks for less at a time when one answer is too much for the server', async (t) => {
  const { standIn, ...looks } = await setup(t);
  standIn.series = nodeExporter('gpu1');
  const tooMuch = { status: 422, body: '{"status":"error","errorType":"execution","error":"too many samples"}' };
  standIn.answer = (query) => (query.split('|').length > 20 ? tooMuch : undefined);
  const reports = await secondLook(looks);
  t.equal(toldOf(reports['gpu1 prometheus:node/gpu1:9100'], 'cpu', 'temperature'), 61);
  standIn.asked.length = 0;
  await looks.look();
  t.ok(
    standIn.asked.every((query) => query.split('|').length <= 20),
    'remembered',
  );
});

t.test('PrometheusServer gives the CPU share of two scrapes, and none when CPUs come or go', async (t) => {
  const { standIn, ...looks } = await setup(t);
  const share = async (seconds: number, sums: HeldSeries[]): Promise<RawReading['value'] | undefined> => {
    moved.byMs += (1_600_000_000 + seconds - standIn.nowSeconds) * 1000;
    standIn.nowSeconds = 1_600_000_000 + seconds;
    standIn.series = nodeExporter('gpu1', [0]);
    standIn.cpu = sums;
    return toldOf((await looks.look())['gpu1 prometheus:node/gpu1:9100'], 'cpu', 'utilization');
  };
  const at = (seconds: number): number => 1_600_000_000 + seconds;
  await share(0, cpuSums('gpu1', at(0), 64, 1_000, 0));
  t.equal(await share(10, cpuSums('gpu1', at(10), 64, 1_160, 480)), 0.75);
  t.equal(await share(10.2, cpuSums('gpu1', at(10), 64, 1_160, 480)), 0.75, 'the same scrape again');
  // One CPU more, which has been idle for a million seconds.
  t.equal(await share(20, cpuSums('gpu1', at(20), 65, 1_001_160, 1_000)), null);
  t.equal(await share(30, cpuSums('gpu1', at(30), 65, 1_001_485, 1_325)), 0.5);
  t.equal(await share(100, cpuSums('gpu1', at(31), 65, 1_001_500, 1_400)), null, 'an instant selector finds old ones');
});

t.test('PrometheusServer asks only for the targets of a few nodes that are hot', async (t) => {
  const { standIn, server, look } = await setup(t, { nodes: [] });
  standIn.series = ['gpu1', 'gpu2', 'gpu3', 'gpu4'].flatMap((node) => nodeExporter(node));
  const gather = server.sources();
  t.strictSame(gather, [], 'nobody is configured, and nothing was found');
  const { server: other, look: lookOther, standIn: held } = await setup(t, { nodes: ['gpu1'] });
  held.series = standIn.series;
  await lookOther();
  t.equal(other.sources().length, 5);
  held.asked.length = 0;
  const reports = await lookOther((id, node) => node === 'gpu2' && id !== 'prometheus');
  t.strictSame(Object.keys(reports), ['gpu2 prometheus:node/gpu2:9100']);
  t.equal(toldOf(reports['gpu2 prometheus:node/gpu2:9100'], 'cpu', 'temperature'), 61);
  t.ok(held.asked.filter((query) => query !== 'vector(1)').every((query) => query.includes('instance=~"gpu2:9100"')));
  await look();
});

t.test('PrometheusServer says of sources that they carry heat until it knows better', async (t) => {
  const { standIn, server, look } = await setup(t);
  const target = { job: 'zfs', instance: 'gpu1:9101', node: 'gpu1' };
  standIn.series = [...nodeExporter('gpu1'), held('node_memory_MemTotal_bytes', 1, target)];
  t.strictSame(
    server.sources().map(({ carriesHeat }) => carriesHeat),
    [true],
  );
  await look();
  await look();
  t.strictSame(
    server.sources().map(({ id, carriesHeat }) => `${id} ${carriesHeat}`),
    ['prometheus false', 'prometheus:node/gpu1:9100 true', 'prometheus:zfs/gpu1:9101 true'],
    'a target without any CPU sensor still says that its temperature is missing',
  );
});

t.test('PrometheusServer reads no target that is there twice at once', async (t) => {
  const { standIn, ...looks } = await setup(t);
  const ofReplica = (replica: string): HeldSeries[] =>
    nodeExporter('gpu1').map(({ metric, values }) => ({ metric: { ...metric, cluster: replica }, values }));
  standIn.series = [...ofReplica('east'), ...ofReplica('west')];
  const reports = await secondLook(looks);
  t.match(
    detailOf(reports['gpu1 prometheus:node/gpu1:9100']),
    /several times at once \(cluster="east" and "west"\): choose one by prometheus\.match/,
  );
});

t.test('PrometheusServer follows an exporter whose pod was started anew', async (t) => {
  const { standIn, ...looks } = await setup(t);
  const ofPod = (pod: string, ages: number[]): HeldSeries[] =>
    nodeExporter('gpu1', ages).map(({ metric, values }) => ({ metric: { ...metric, pod }, values }));
  standIn.series = [...ofPod('old', [38, 30]), ...ofPod('new', [16, 1])];
  const reports = await secondLook(looks);
  const report = reports['gpu1 prometheus:node/gpu1:9100'];
  t.equal(report?.outcome.kind, 'answered');
  t.equal(report?.readings.filter(({ quantity }) => quantity === 'temperature').length, 1);
});

t.test('PrometheusServer makes no node of a BMC, and reads one that a label gives to a node', async (t) => {
  const { standIn, server, look } = await setup(t);
  const bmc = (labels: Record<string, string>): HeldSeries =>
    held('ipmi_dcmi_power_consumption_watts', 1500, { job: 'ipmi', ...labels });
  standIn.series = [bmc({ instance: 'bmc7' }), bmc({ instance: 'bmc1', node: 'gpu1' })];
  await look();
  const reports = await look();
  t.equal(toldOf(reports['gpu1 prometheus:ipmi/bmc1'], 'system', 'total-power'), 1500);
  t.equal(server.sources().length, 2);
  t.strictSame(server.problems, ["ipmi/bmc7 tells of a device and not of which node's: it needs a label node"]);
});

t.test('PrometheusServer gives the outlets of a node to one source, whichever PDU has them', async (t) => {
  const outlets = [
    { series: 'outlet_watts', labels: { instance: 'pdu1', outlet: '3' }, scale: 1 },
    { series: 'outlet_watts', labels: { instance: 'pdu2', outlet: '3' }, scale: 1 },
  ];
  const { standIn, ...looks } = await setup(t, {
    outlets: new Map([['outlet_watts', ['gpu1']]]),
    reader: (_, of) =>
      createSeriesReader({
        tctlOffsetC: 0,
        zfsCacheIsAvailable: false,
        explains: false,
        outlets: of === 'outlets' ? outlets : [],
      }),
  });
  standIn.series = [
    ...nodeExporter('gpu1'),
    held('outlet_watts', 700, { job: 'pdu', instance: 'pdu1', outlet: '3' }),
    held('outlet_watts', 800, { job: 'pdu', instance: 'pdu2', outlet: '3' }),
    held('outlet_watts', 50, { job: 'pdu', instance: 'pdu2', outlet: '4' }),
  ];
  const reports = await secondLook(looks);
  t.equal(toldOf(reports['gpu1 prometheus:outlets'], 'system', 'total-power'), 1500);
});

t.test('PrometheusServer takes a value that is no number for none', async (t) => {
  const { standIn, ...looks } = await setup(t);
  for (const value of ['NaN', '+Inf', '', '0x3d', 'sixty']) {
    standIn.series = nodeExporter('gpu1').map((one) =>
      one.metric['__name__'] === 'node_hwmon_temp_celsius' ? held('node_hwmon_temp_celsius', value, one.metric) : one,
    );
    const reports = await secondLook(looks);
    const temperature = toldOf(reports['gpu1 prometheus:node/gpu1:9100'], 'cpu', 'temperature');
    t.ok(temperature === null || !Number.isFinite(temperature), `"${value}" gives ${temperature}`);
  }
});

t.test('PrometheusServer reads an answer of many series in pieces', async (t) => {
  const { standIn, ...looks } = await setup(t);
  // Quotes, braces and the very words that a series starts with, in a label.
  const odd = '{"metric":{"__name__":"x"},{"metric":';
  standIn.series = [
    ...nodeExporter('gpu1'),
    ...Array.from({ length: 6_001 }, (_, index) =>
      held('node_hwmon_temp_celsius', 40, {
        job: 'node',
        instance: 'gpu1:9100',
        node: 'gpu1',
        chip: odd,
        sensor: `temp${index}`,
      }),
    ),
    held('node_hwmon_temp_celsius', 77, {
      job: 'node',
      instance: 'gpu1:9100',
      node: 'gpu1',
      chip: 'platform_coretemp_0',
      sensor: 'temp2',
    }),
  ];
  const reports = await secondLook(looks);
  t.equal(toldOf(reports['gpu1 prometheus:node/gpu1:9100'], 'cpu', 'temperature'), 77);
});
