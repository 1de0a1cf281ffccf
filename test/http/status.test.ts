import t from 'tap';
import { limitConflicts } from '../../src/domain/conflicts.ts';
import { EMPTY_REPORT } from '../../src/domain/reading.ts';
import { statusOf, statusText } from '../../src/http/status-view.ts';
import { coolNode, DomainWorld, GPU_A, LEASE_ID, nodeSettings, worldSettings } from '../support/domain-world.ts';
import { INTERVAL_MS, NODE, startApp } from '../support/test-app.ts';

const ABOUT = {
  version: '1',
  lastTickTookMs: 120,
  effectiveFastIntervalMs: 2_000,
  journal: { ok: true, lastError: null, sizeBytes: 10, pending: 0 },
  isOperator: false,
};
const viewOf = (world: DomainWorld) =>
  statusOf(world.state, { elapsedMs: world.elapsedMs, wallMs: world.wallMs }, ABOUT);

t.test('GET /status tells service, interlock, result, limits, nodes, sources, actuators and journal', async (t) => {
  const { ask, pass } = await startApp(t);
  await pass(3_000);
  const answer = await ask({ url: '/status' });
  t.equal(answer.statusCode, 200);
  const status = answer.json();
  t.match(status, {
    service: 'vsf-safety',
    version: '0.0.0-test',
    instance: 'instance-1',
    uptimeSeconds: 14,
    simulated: true,
    leadership: { mode: 'single', leader: true },
    interlock: { state: 'clear', nodes: { [NODE]: 'clear' } },
    lastResult: { action: 'PROCEED' },
    evaluation: { intervalSeconds: 10, fastIntervalSeconds: 2, lastTickAgeSeconds: 3, lastTickTookSeconds: 0 },
    constraints: {
      profile: 'default',
      digest: /^[0-9a-f]{16}$/,
      limits: { gpu: { temperatureC: { warning: 80, hardStop: 85 } } },
    },
    leases: [],
    unleased: [],
    sources: [{ node: NODE, source: 'simulated', up: true, lastSuccessAgeSeconds: 3, failure: null }],
    actuators: { 'local-processes': { available: true, detail: 'pretended' } },
    journal: { ok: true },
  });
  const [node] = status.nodes;
  t.match(node, { node: NODE, interlock: 'clear', coolingSeconds: null, live: false, profile: 'default' });
  t.equal(node.gpus.length, 2);
  const cpu = node.readings.find(
    (r: { component: string; quantity: string }) => r.component === 'cpu' && r.quantity === 'temperature',
  );
  t.match(cpu, {
    value: Number,
    unit: '°C',
    ageSeconds: 3,
    source: 'simulated',
    origin: String,
    limits: { warning: 90, hardStop: 95 },
  });
  const informational = node.readings.filter((r: { informational?: boolean }) => r.informational);
  t.equal(informational.length, 2, 'what is only shown is shown too: the utilisation of each GPU');
});

t.test('GET /status?node narrows everything to the nodes named, and refuses unknown ones', async (t) => {
  const { ask } = await startApp(t);
  t.equal((await ask({ url: `/status?node=${NODE}` })).json().nodes.length, 1);
  t.match((await ask({ url: '/status?node=nowhere' })).json(), {
    status: 400,
    code: 'unknown-node',
    nodes: ['nowhere'],
  });
  t.match((await ask({ url: '/status?node=' })).json(), { status: 400, code: 'invalid-request' });
  t.match((await ask({ url: '/status?nodes=x' })).json(), { status: 400, code: 'invalid-request' });
});

t.test('GET /status answers before anything has been read, and while a source hangs', async (t) => {
  const starting = await startApp(t, { ticks: 0 });
  const nothing = (await starting.ask({ url: '/status' })).json();
  t.match(nothing, { lastResult: null, evaluation: { lastTickAgeSeconds: null }, nodes: [] });
  const { ask, rig, pass } = await startApp(t);
  rig.apply({ faults: [{ kind: 'source-hung' }] });
  await pass(INTERVAL_MS + 1_000);
  t.equal((await ask({ url: '/status' })).statusCode, 200);
  await pass(INTERVAL_MS);
  const { sources } = (await ask({ url: '/status' })).json();
  t.match(sources, [{ up: false, failure: { cause: 'timeout', detail: /did not answer/, seconds: Number } }]);
});

t.test('GET /status tells leases, and what runs without one', async (t) => {
  const { ask, actuator, pass } = await startApp(t);
  const { lease } = (await ask({ method: 'POST', url: '/leases', payload: { workload: 'train-7' } })).json();
  actuator.workloads = [
    { kind: 'process-group', node: NODE, name: '4711', leaseId: lease.id },
    { kind: 'pod', node: NODE, name: 'vsf/stray' },
    { kind: 'pod', node: NODE, name: 'vsf/orphan', leaseId: 'nobody knows it' },
  ];
  await pass(INTERVAL_MS);
  const status = (await ask({ url: '/status' })).json();
  t.same(status.leases, [lease]);
  t.same(status.unleased, [
    { kind: 'pod', node: NODE, name: 'vsf/stray' },
    { kind: 'pod', node: NODE, name: 'vsf/orphan' },
  ]);
  t.equal(status.nodes[0].live, true);
});

t.test('statusOf() tells why a reading is missing, and whether it is required or waived', async (t) => {
  const world = DomainWorld.running(worldSettings({}, { waive: ['cpu-temperature'] }));
  world.node.cpuC = null;
  world.gpu().powerW = null;
  world.gpu().memoryRatio = Number.NaN;
  world.run(10);
  const [node] = viewOf(world).nodes;
  const find = (component: string, quantity: string, id?: string) =>
    node?.readings.find(
      (r) => r.component === component && r.quantity === quantity && (id === undefined || r.id === id),
    );
  t.match(find('cpu', 'temperature'), { missing: 'no-sensor', required: false, waived: true });
  t.match(find('gpu', 'power', GPU_A), {
    missing: 'no-sensor',
    detail: /fake sensor/,
    required: true,
    unit: 'W',
    limits: { warning: 250 },
  });
  t.match(find('gpu', 'memory', GPU_A), { missing: 'invalid', detail: /NaN/ });
  t.equal('value' in (find('gpu', 'power', GPU_A) ?? {}), false);
  t.match(viewOf(world).unprotected, [{ code: 'waived', name: 'cpu-temperature' }]);
});

t.test('statusOf() shows the limits by which each card is judged, and the conflicts', async (t) => {
  const world = DomainWorld.running();
  world.gpu().slowdownC = 78;
  world.run(10);
  const status = viewOf(world);
  const [node] = status.nodes;
  const own = node?.readings.find((r) => r.id === GPU_A && r.quantity === 'temperature');
  t.same(own?.limits, { warning: 73, hardStop: 78 });
  t.equal(node?.gpus.find((gpu) => gpu.id === GPU_A)?.slowdownC, 78);
  t.same(status.conflicts, limitConflicts(world.state));
  t.match(status.conflicts, [{ code: 'gpu-slowdown-below-hard-stop', id: GPU_A }]);
});

t.test('statusOf() tells trips, cooldowns and ignored cards per node', async (t) => {
  const nodes = new Map([[NODE, nodeSettings({ gpus: new Map([[GPU_A, { waive: [], ignore: true }]]) })]]);
  const world = DomainWorld.running(worldSettings({ nodes }));
  world.node.cpuC = 90;
  world.run(10);
  t.match(viewOf(world).nodes, [{ interlock: 'cooling', coolingSeconds: 60 }]);
  const [node] = viewOf(world).nodes;
  t.match(
    node?.gpus.find((gpu) => gpu.id === GPU_A),
    { ignored: true },
  );
  world.submit({ kind: 'stop-requested', nodes: null, cause: 'manual', reason: 'test', by: 'tester' });
  t.match(viewOf(world), {
    interlock: { state: 'tripped', nodes: { [NODE]: 'tripped' } },
    nodes: [{ interlock: 'tripped' }],
  });
});

t.test('statusOf() is a pure view: it tells ages by the moment it is given', async (t) => {
  const world = DomainWorld.running();
  const now = { elapsedMs: world.elapsedMs + 2_500, wallMs: world.wallMs + 2_500 };
  const first = statusOf(world.state, now, ABOUT);
  t.same(statusOf(world.state, now, ABOUT), first);
  t.match(first, { evaluation: { lastTickAgeSeconds: 2.5, lastTickTookSeconds: 0.12 } });
  const early = { elapsedMs: world.elapsedMs - 10, wallMs: world.wallMs };
  t.equal(statusOf(world.state, early, ABOUT).evaluation.lastTickAgeSeconds, 0, 'no age is negative');
});

t.test('statusOf() tells how each scrape went; what an exporter said in an error is for operators', async (t) => {
  const world = DomainWorld.running();
  const scrape = {
    url: 'http://10.0.0.7:9400/metrics',
    tookMs: 12.4,
    bytes: 7_544,
    samples: 20,
    rejectedLines: 2,
    rejected: ['line 7: no value: DCGM_FI_DEV_GPU_TEMP{gpu="0"}'],
    sourceWallAheadMs: 1_500,
  };
  const base = { ...EMPTY_REPORT, source: scrape.url, node: NODE, scrape };
  world.others = [(atMs) => ({ ...base, startedAtMs: atMs, finishedAtMs: atMs, outcome: { kind: 'answered' } })];
  world.run(20);
  const find = (isOperator: boolean) => {
    const now = { elapsedMs: world.elapsedMs, wallMs: world.wallMs };
    return statusOf(world.state, now, { ...ABOUT, isOperator }).sources.find(({ source }) => source === scrape.url);
  };
  const told = {
    url: scrape.url,
    latencySeconds: 0.012,
    bytes: 7_544,
    samples: 20,
    rejectedLines: 4,
    clockAheadSeconds: 1.5,
  };
  t.same(find(false)?.scrape, told, 'lines are counted from the start on');
  t.same(find(true)?.scrape, { ...told, rejected: scrape.rejected });
  const outcome = { kind: 'failed', cause: 'bad-status', detail: 'answered 500', excerpt: 'token=abc' } as const;
  world.others = [(atMs) => ({ ...base, startedAtMs: atMs, finishedAtMs: atMs, outcome })];
  world.run(10);
  t.notMatch(JSON.stringify(find(false)), /abc/);
  t.equal(find(true)?.scrape?.excerpt, 'token=abc');
});

t.test('statusOf() shows the processes on GPUs that no live lease accounts for', async (t) => {
  const world = DomainWorld.running();
  world.askLease();
  const app = { node: NODE, gpu: GPU_A, memoryMiB: 1024, program: 'python3' };
  const gpuProcesses = [
    { ...app, pid: 4711, leaseId: LEASE_ID },
    { ...app, pid: 4712, leaseId: null },
    { ...app, pid: 4713, leaseId: 'of a lease that is over', memoryMiB: null },
  ];
  const now = { elapsedMs: world.elapsedMs, wallMs: world.wallMs };
  t.same(statusOf(world.state, now, { ...ABOUT, gpuProcesses }).unleased, [
    { kind: 'gpu-process', node: NODE, name: 'pid 4712 python3', gpu: GPU_A, memoryMiB: 1024 },
    { kind: 'gpu-process', node: NODE, name: 'pid 4713 python3', gpu: GPU_A },
  ]);
  t.same(statusOf(world.state, now, { ...ABOUT, gpuProcesses }, ['other']).unleased, []);
  t.equal(statusOf(DomainWorld.running().state, now, { ...ABOUT, gpuProcesses }).nodes[0]?.live, false, 'only shown');
});

t.test('statusText() says the same as statusOf(), and lets other work run after every 5 nodes', async (t) => {
  const names = Array.from({ length: 65 }, (_, index) => `node-${index}`);
  const world = DomainWorld.running(worldSettings(), Object.fromEntries(names.map((name) => [name, coolNode()])));
  const now = { elapsedMs: world.elapsedMs, wallMs: world.wallMs };
  let pauses = 0;
  const pause = async (): Promise<void> => {
    pauses += 1;
  };
  const textOf = async (nodes: readonly string[] | null) =>
    JSON.parse(await statusText(world.state, now, ABOUT, nodes, pause));
  const plain = (nodes: readonly string[] | null) =>
    JSON.parse(JSON.stringify(statusOf(world.state, now, ABOUT, nodes)));
  t.strictSame(await textOf(null), plain(null));
  t.equal(pauses, 13, 'of 66 nodes');
  t.strictSame(await textOf(['node-3', 'node-64']), plain(['node-3', 'node-64']));
  t.strictSame(await textOf([]), plain([]));
});

t.test('statusOf() tells what is unprotected on no single node', async (t) => {
  const world = DomainWorld.running();
  const entry = { code: 'may-be-raised', name: 'Argo CD', message: 'Argo CD manages Deployment gpu/train' } as const;
  world.submit({ kind: 'inventoried', actuators: [], workloads: [], seesPods: true, unprotected: [entry] });
  t.strictSame(viewOf(world).unprotected[0], entry);
});
