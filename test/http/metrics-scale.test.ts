// What a large cluster costs a Prometheus, and that nothing lets it cost more.
import { execFile } from 'node:child_process';
import t from 'tap';
import { METRICS } from '../../src/http/metric-catalogue.ts';
import { type MetricsContext, metricsText, OPENMETRICS_TYPE, TEXT_TYPE } from '../../src/http/metrics.ts';
import { LEADER } from '../support/cluster-state.ts';
import { coolGpu, coolNode, DomainWorld, type FakeNode, worldSettings } from '../support/domain-world.ts';
import { metricsContext } from '../support/metrics-context.ts';
import { isInstalled } from '../support/real-node-exporter.ts';

const PROMTOOL = '/usr/bin/promtool';
const lacksPromtool = isInstalled(PROMTOOL) ? false : `needs ${PROMTOOL} (apt install prometheus)`;

const contextOf = (world: DomainWorld, change: Partial<MetricsContext> = {}): MetricsContext =>
  metricsContext({ now: { elapsedMs: world.elapsedMs, wallMs: world.wallMs }, lastTickTookMs: 900, ...change });

const webhook = (target: string): MetricsContext['notify'][number] => ({
  target,
  host: 'hooks.lab',
  format: 'plain',
  ok: false,
  pending: 1,
  sent: 2,
  failed: 3,
  dropped: 4,
  lastSentAt: null,
  lastError: null,
});

function cluster(nodes: number, gpus: number): DomainWorld {
  const nodeAt = (i: number): FakeNode => ({
    ...coolNode(),
    gpus: Object.fromEntries(
      Array.from({ length: gpus }, (_, gpu) => [`GPU-${String(i).padStart(8, '0')}-0000-4000-8000-${gpu}`, coolGpu()]),
    ),
  });
  const names = Object.fromEntries(Array.from({ length: nodes }, (_, i) => [`node-${i}`, nodeAt(i)]));
  const world = new DomainWorld(worldSettings({ nodes: new Map() }), names);
  world.inventory();
  world.tick();
  return world;
}

/** Values by label, and samples. */
function read(body: Buffer): { series: number; labels: Map<string, Set<string>> } {
  const labels = new Map<string, Set<string>>();
  let series = 0;
  for (const line of body.toString().split('\n')) {
    if (line === '' || line.startsWith('#')) continue;
    series += 1;
    for (const [, name = '', value = ''] of line.matchAll(/([a-z_]+)="((?:[^"\\]|\\.)*)"/g)) {
      const values = labels.get(name);
      if (values) values.add(value);
      else labels.set(name, new Set([value]));
    }
  }
  return { series, labels };
}

/** What `promtool check metrics` finds fault with; empty when it is content. */
const lint = (text: string): Promise<string> =>
  new Promise((resolve) => {
    const child = execFile(PROMTOOL, ['check', 'metrics'], (error, stdout, stderr) =>
      resolve(`${stdout}${stderr}${error && stdout + stderr === '' ? error.message : ''}`),
    );
    child.stdin?.end(text);
  });

t.test('metricsText() of 1,000 nodes with 8 GPUs is 113,000 series, and grows by nothing but nodes', async (t) => {
  const large = read(await metricsText(cluster(1_000, 8).state, contextOf(cluster(1, 8)), TEXT_TYPE));
  const small = read(await metricsText(cluster(10, 8).state, contextOf(cluster(1, 8)), TEXT_TYPE));
  const perNode = (large.series - small.series) / 990;
  t.comment(`${large.series} series, ${perNode} per node, ${small.series - 10 * perNode} for the service`);
  t.equal(perNode, 113);
  t.ok(large.series < 115_000, `${large.series}`);
  t.ok(small.series - 10 * perNode < 120);
  for (const [label, values] of large.labels) {
    const most = { node: 1_000, id: 8_002 }[label] ?? 60;
    t.ok(values.size <= most, `${label} has ${values.size} values`);
  }
});

t.test('metricsText() takes no label from what callers, pods and messages say', async (t) => {
  const world = cluster(2, 1);
  const before = read(await metricsText(world.state, contextOf(world), TEXT_TYPE));
  const node = 'node-0';
  const pods = Array.from({ length: 300 }, (_, i) => ({ kind: 'pod' as const, node, name: `ns-${i}/odd-pod-${i}` }));
  world.inventory(pods, true);
  for (let i = 0; i < 200; i++) {
    world.askLease({ id: crypto.randomUUID(), workload: `odd-${i}`, processGroup: null }, `odd-identity-${i}`);
  }
  for (let i = 0; i < 50; i++) {
    world.submit({ kind: 'stop-requested', nodes: [node], cause: 'manual', reason: `odd ${i}`, by: `odd ${i}` });
  }
  world.tick();
  const body = await metricsText(world.state, contextOf(world), TEXT_TYPE);
  t.notMatch(String(body), /odd/);
  t.match(String(body), /vsf_safety_unleased\{kind="pod"\} 300/);
  const after = read(body);
  t.ok(after.series - before.series <= 5, `${after.series - before.series} more, the trip's own`);
  t.same(
    [...after.labels.keys()].filter((label) => !before.labels.has(label)),
    [],
  );
});

t.test('metricsText() is clean for promtool, every metric with a sample', { skip: lacksPromtool }, async (t) => {
  // More nodes than are told in one go; a trip, a missing card, a source over the network.
  const world = cluster(45, 2);
  const report = world.reports()[0];
  if (!report) throw new Error('this world reads nothing');
  const scrape = {
    url: 'http://x/metrics',
    tookMs: 12,
    bytes: 1,
    samples: 1,
    rejectedLines: 2,
    rejected: [],
    sourceWallAheadMs: 7_000,
  };
  delete world.nodes['node-1']?.gpus['GPU-00000001-0000-4000-8000-1'];
  world.pass(10_000);
  world.submit({ kind: 'observed', why: 'tick', reports: world.reports().map((one) => ({ ...one, scrape })) });
  world.submit({ kind: 'stop-requested', nodes: null, cause: 'manual', reason: 'x', by: 'x' });
  world.submit({ kind: 'cluster-reported', cluster: LEADER });
  const history = { state: 'ok', detail: '', sizeBytes: 1, maxBytes: 2, keepMs: 3, keptFromMs: null, lost: 0 } as const;
  const context = contextOf(world, { notify: [webhook('ops')], history, missingRights: 0 });
  const text = String(await metricsText(world.state, context, TEXT_TYPE));
  t.equal(await lint(text), '');
  const absent = Object.keys(METRICS).filter((name) => !new RegExp(`^${name}[{ ]`, 'm').test(text));
  // Nothing is waived here, so that a metric is told by its help alone.
  t.same(
    absent,
    ['vsf_safety_node_unprotected'].filter((name) => absent.includes(name)),
  );
  t.not(await lint(text.replaceAll('_total', '_count')), '', 'promtool does find fault');
  const open = String(await metricsText(world.state, contextOf(world), OPENMETRICS_TYPE));
  t.match(open, /# TYPE vsf_safety_events counter\nvsf_safety_events_total\{/);
  t.match(open, /\n# EOF\n$/);
});

t.test(
  'METRICS names each label, help in one line that both formats take, and an example of that metric',
  async (t) => {
    for (const [name, { type, help, labels, query }] of Object.entries(METRICS)) {
      t.match(name, type === 'counter' ? /_total$/ : /^(?!.*_total$)/, name);
      t.notMatch(help, /["\\\n]|\.$/, name);
      t.ok(query.includes(name), `${name} is in its example`);
      t.equal(new Set(labels).size, labels.length);
      for (const reserved of ['instance', 'job', 'le', 'quantile']) t.notOk(labels.includes(reserved as never), name);
    }
  },
);
