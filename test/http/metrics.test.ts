import t from 'tap';
import { METRICS } from '../../src/http/metric-catalogue.ts';
import { metricsText, negotiateMetrics } from '../../src/http/metrics.ts';
import { coolNode, DomainWorld, worldSettings } from '../support/domain-world.ts';
import { metricsContext } from '../support/metrics-context.ts';
import { pretendCluster } from '../support/pretend-cluster.ts';
import { INTERVAL_MS, NODE, startApp, type TestApp } from '../support/test-app.ts';

const TEXT = 'text/plain; version=0.0.4; charset=utf-8';
const OPENMETRICS = 'application/openmetrics-text; version=1.0.0; charset=utf-8';
/** What Prometheus 3 sends. */
const PROMETHEUS =
  'application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,' +
  'application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,' +
  'text/plain;version=0.0.4;q=0.2,*/*;q=0.1';

type Samples = Map<string, number>;

/** A strict reading of the text format: anything that is no comment must be a sample, and no series may come twice. */
function parse(text: string): Samples {
  const samples: Samples = new Map();
  for (const line of text.split('\n')) {
    if (line === '' || line.startsWith('#')) continue;
    const match = /^([a-z_]+(?:\{(?:[a-z_]+="(?:[^"\\\n]|\\[\\"n])*",?)*\})?) (\S+)$/.exec(line);
    if (!match) throw new Error(`no sample: ${line}`);
    const [, series = '', value] = match;
    if (samples.has(series)) throw new Error(`twice: ${series}`);
    samples.set(series, Number(value));
  }
  return samples;
}

async function scrape({ ask }: TestApp): Promise<Samples> {
  return parse((await ask({ url: '/metrics' })).body);
}

t.test('GET /metrics is Prometheus text unless OpenMetrics is asked for', async (t) => {
  const { ask } = await startApp(t);
  const text = await ask({ url: '/metrics' });
  t.equal(text.statusCode, 200);
  t.equal(text.headers['content-type'], TEXT);
  t.notMatch(text.body, /# EOF/);
  t.match(text.body, /\nvsf_safety_trips_total 0\n/);
  const open = await ask({ url: '/metrics', headers: { accept: PROMETHEUS } });
  t.equal(open.headers['content-type'], OPENMETRICS);
  t.match(open.body, /# EOF\n$/);
  t.match(open.body, /# TYPE vsf_safety_trips counter\nvsf_safety_trips_total 0\n/);
  t.match(
    (await ask({ url: '/metrics' })).body,
    /\nvsf_safety_trips_total 0\n/,
    'one format leaves no mark on the other',
  );
  parse(open.body);
});

t.test('GET /metrics tells who leads and what is missing where a cluster is configured, and only there', async (t) => {
  const OF_CLUSTER = ['vsf_safety_cluster_latch_known', 'vsf_safety_missing_rights'];
  const alone = await scrape(await startApp(t));
  t.notOk(OF_CLUSTER.some((name) => alone.has(name)));

  const cluster = pretendCluster({ facts: { missingRights: ['delete pods', 'patch jobs'] } });
  const running = await startApp(t, { cluster });
  const told = async (): Promise<unknown[]> => {
    const samples = await scrape(running);
    return ['vsf_safety_leader{mode="cluster"}', ...OF_CLUSTER].map((name) => samples.get(name));
  };
  t.same(await told(), [1, 1, 2]);
  const { state } = running.supervisor;
  const standby = { state: 'standby', identity: 'vsf-safety-1', leader: 'vsf-safety-2' } as const;
  if (!state.cluster) throw new Error('no cluster');
  running.supervisor.submit({
    kind: 'cluster-reported',
    cluster: { ...state.cluster, leadership: standby, isLatchKnown: false },
  });
  t.same(await told(), [0, 0, 2]);
});

t.test('negotiateMetrics() prefers what the scraper does', async (t) => {
  const expected: [accept: string | undefined, type: string][] = [
    [undefined, TEXT],
    ['', TEXT],
    ['*/*', TEXT],
    ['text/plain', TEXT],
    ['text/html,*/*;q=0.8', TEXT],
    ['application/openmetrics-text', OPENMETRICS],
    ['application/openmetrics-text; version=1.0.0; charset=utf-8', OPENMETRICS],
    ['Application/OpenMetrics-Text; Version="1.0.0"', OPENMETRICS],
    ['application/openmetrics-text; version=0.0.1', TEXT],
    ['application/openmetrics-text; version=2.0.0', TEXT],
    ['application/openmetrics-text;q=0', TEXT],
    ['application/openmetrics-text;q=nonsense', TEXT],
    ['application/openmetrics-text;q=0.1,text/plain', TEXT],
    [PROMETHEUS, OPENMETRICS],
  ];
  for (const [accept, type] of expected) t.equal(negotiateMetrics(accept), type, String(accept));
});

t.test('GET /metrics tells readings with their limits and ages, and drops what is gone', async (t) => {
  const running = await startApp(t);
  const { rig, pass } = running;
  rig.apply({ faults: [{ kind: 'gpu-temperature', gpu: 1, valueC: 61 }] });
  await pass(INTERVAL_MS);
  const gpu = rig.describe().gpus[1]?.id ?? '';
  const labels = `node="${NODE}",component="gpu",id="${gpu}",quantity="temperature"`;
  const before = await scrape(running);
  t.equal(before.get(`vsf_safety_reading{${labels}}`), 61);
  t.equal(before.get(`vsf_safety_reading_limit{${labels},limit="warning"}`), 80);
  t.equal(before.get(`vsf_safety_reading_limit{${labels},limit="hard-stop"}`), 85);
  t.equal(before.get(`vsf_safety_reading_age_seconds{${labels}}`), 0);
  const memory = `node="${NODE}",component="memory",id="",quantity="memory"`;
  t.equal(before.get(`vsf_safety_reading_limit{${memory},limit="maximum"}`), 0.85);

  rig.apply({ faults: [{ kind: 'gpu-lost', gpu: 1 }] });
  await pass(INTERVAL_MS);
  const after = await scrape(running);
  t.equal(after.has(`vsf_safety_reading{${labels}}`), false, 'its last value does not stay for ever');
  t.equal(after.get(`vsf_safety_reading_missing{${labels},cause="gone"}`), 1);
  t.notOk([...after.keys()].some((series) => series.includes(gpu) && !series.includes('missing')));
});

t.test('GET /metrics tells action, interlock, leases, sources, journal and counts', async (t) => {
  const running = await startApp(t);
  const { ask, supervisor, rig, pass } = running;
  const before = await scrape(running);
  const expected: Record<string, number> = {
    'vsf_safety_build_info{version="0.0.0-test"}': 1,
    'vsf_safety_action{action="PROCEED"}': 1,
    'vsf_safety_action{action="ABORT"}': 0,
    'vsf_safety_interlock{state="clear"}': 1,
    [`vsf_safety_node_interlock{node="${NODE}",state="tripped"}`]: 0,
    [`vsf_safety_source_up{node="${NODE}",source="simulated"}`]: 1,
    'vsf_safety_actuator_available{actuator="local-processes"}': 1,
    // The first tick comes a second after the start, with the second look, and so is judged by counters that moved.
    vsf_safety_uptime_seconds: 11,
    vsf_safety_tick_age_seconds: 0,
    vsf_safety_evaluation_age_seconds: 0,
    vsf_safety_tick_duration_seconds: 0,
    vsf_safety_journal_ok: 1,
    vsf_safety_leases: 0,
    vsf_safety_websocket_clients: 0,
    vsf_safety_simulated: 1,
    'vsf_safety_leader{mode="single"}': 1,
    'vsf_safety_constraints_info{profile="default",digest="DIGEST"}': 1,
    vsf_safety_fast_interval_seconds: 2,
    vsf_safety_nodes: 1,
    'vsf_safety_stops{state="unverified"}': 0,
    'vsf_safety_unleased{kind="pod"}': 0,
    'vsf_safety_limit_conflicts{code="gpu-slowdown-below-hard-stop"}': 0,
    vsf_safety_trips_total: 0,
    'vsf_safety_events_total{name="tripped"}': 0,
    'vsf_safety_evaluations_total{action="PROCEED"}': 2,
  };
  for (const [series, value] of Object.entries(expected)) {
    t.equal(before.get(series.replace('DIGEST', supervisor.state.constraintsDigest)), value, series);
  }
  t.notOk(before.has('vsf_safety_trip_start_time_seconds'), 'absent while there is none');
  t.equal(before.get('process_start_time_seconds'), (await scrape(running)).get('process_start_time_seconds'));

  await ask({ method: 'POST', url: '/leases', payload: { workload: 'w' } });
  t.equal((await scrape(running)).get('vsf_safety_leases'), 1);
  supervisor.submit({
    kind: 'stop-requested',
    nodes: null,
    cause: 'manual',
    reason: 'a "reason"\\\nwith marks',
    by: 'x',
  });
  rig.apply({ faults: [{ kind: 'source-failed' }] });
  running.disk.mode = 'fails';
  // A failing source is tried again within its tick, so the tick ends late.
  await pass(INTERVAL_MS + 9_000);
  const after = await scrape(running);
  t.equal(after.get('vsf_safety_interlock{state="tripped"}'), 1);
  t.equal(after.get('vsf_safety_interlock{state="clear"}'), 0);
  t.equal(after.get(`vsf_safety_node_interlock{node="${NODE}",state="tripped"}`), 1);
  t.equal(after.get('vsf_safety_action{action="ABORT"}'), 1);
  t.equal(after.get('vsf_safety_findings{code="interlock-tripped"}'), 1);
  t.equal(after.get(`vsf_safety_source_up{node="${NODE}",source="simulated"}`), 0);
  t.equal(after.get(`vsf_safety_source_age_seconds{node="${NODE}",source="simulated"}`), 19);
  t.equal(after.get('vsf_safety_journal_ok'), 0);
  t.equal(after.get('vsf_safety_leases'), 0);
  t.equal(after.get('vsf_safety_trips_total'), 1);
  t.equal(after.get('vsf_safety_events_total{name="lease-granted"}'), 1);
  t.equal(after.get('vsf_safety_leases_ended_total{outcome="stopped"}'), 1);
  t.equal(after.get('vsf_safety_stops{state="stopping"}'), 1);
  t.ok((after.get('vsf_safety_trip_start_time_seconds') ?? 0) > Date.UTC(2026, 0, 1) / 1000);
});

t.test('metricsText() lets other work run between slices of 20 nodes, and tells one moment all the same', async (t) => {
  const nodes = Object.fromEntries(Array.from({ length: 120 }, (_, i) => [`node-${i}`, coolNode()]));
  const world = DomainWorld.running(worldSettings({ nodes: new Map() }), nodes);
  const before = world.state;
  let pauses = 0;
  const context = metricsContext({
    now: { elapsedMs: world.elapsedMs, wallMs: world.wallMs },
    pause: async () => {
      pauses += 1;
      world.run(10);
    },
  });
  const samples = parse(String(await metricsText(before, context, TEXT)));
  t.equal(pauses, 6);
  const ages = [...samples].filter(([series]) => series.startsWith('vsf_safety_reading_age_seconds'));
  t.equal(ages.length, 120 * 10);
  t.ok(ages.every(([, age]) => age === 0));
});

t.test('metricsText() tells each metric once and in one place, however many slices it comes in', async (t) => {
  const nodes = Object.fromEntries(Array.from({ length: 45 }, (_, i) => [`node-${i}`, coolNode()]));
  const world = DomainWorld.running(worldSettings({ nodes: new Map() }), nodes);
  for (const type of [TEXT, OPENMETRICS] as const) {
    const context = metricsContext({ now: { elapsedMs: world.elapsedMs, wallMs: world.wallMs } });
    const text = String(await metricsText(world.state, context, type));
    const heads = text.split('\n').filter((line) => line.startsWith('# HELP ') || line.startsWith('# TYPE '));
    const names = heads.map((line) => line.split(' ', 3).join(' '));
    t.equal(new Set(names).size, 2 * Object.keys(METRICS).length);
    t.equal(names.length, 2 * Object.keys(METRICS).length);
    const pieces = text.split(/^# TYPE /m).slice(1);
    for (const piece of pieces) {
      const [head = '', ...lines] = piece.split('\n');
      const [family = '', kind] = head.split(' ');
      const series = kind === 'counter' && type === OPENMETRICS ? `${family}_total` : family;
      const samples = lines.filter((line) => line !== '' && !line.startsWith('#'));
      t.same(
        samples.filter((line) => !line.startsWith(`${series} `) && !line.startsWith(`${series}{`)),
        [],
      );
    }
    t.equal(parse(text).get('vsf_safety_nodes'), 45);
    t.notOk(parse(text).has('vsf_safety_trip_start_time_seconds'), 'nor is told as 0 what nobody told');
    t.equal([...parse(text).keys()].filter((one) => one.startsWith('vsf_safety_node_live')).length, 45);
  }
});

t.test('GET /metrics names no pod, and escapes what a source calls itself', async (t) => {
  const running = await startApp(t);
  const { actuator, pass, supervisor, clock } = running;
  actuator.workloads = [{ kind: 'pod', node: NODE, name: 'vsf/burner-7d9f' }];
  const nowMs = clock.now().elapsedMs;
  const report = await running.rig.read(nowMs + 1_000);
  const node = 'odd "node"\\\nname';
  supervisor.submit({ kind: 'observed', why: 'question', reports: [{ ...report, node }] });
  await pass(INTERVAL_MS);
  const { body } = await running.ask({ url: '/metrics' });
  t.notMatch(body, /burner/);
  const samples = parse(body);
  t.ok([...samples.keys()].some((series) => series.includes('node="odd \\"node\\"\\\\\\nname"')));
});

t.test('GET /metrics answers a hundred at once, from two apps in one process, each whole', async (t) => {
  const [one, other] = [await startApp(t), await startApp(t)];
  const bodies = await Promise.all(
    Array.from({ length: 100 }, async (_, i) => {
      const { app } = i % 2 === 0 ? one : other;
      const accept = i % 3 === 0 ? PROMETHEUS : '*/*';
      return (await app.inject({ url: '/metrics', headers: { host: 'localhost', accept } })).body;
    }),
  );
  for (const body of bodies) t.ok(parse(body).size > 60, 'no duplicate, and nothing left out');
  const withoutProcess = bodies.map((body) => body.replace(/^process_.*$/gm, ''));
  t.equal(new Set(withoutProcess).size, 2, 'all of a format are the same');
});
