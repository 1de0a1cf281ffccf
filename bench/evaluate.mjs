// Readings in memory against limits: `evaluate()` over every node, against the same rules as PromQL, by the time that
// Prometheus itself tells of its rules. And, without a peer, all that a tick decides of the same fleet (`decide()`):
// freshness, merging, frozen sensors, jumps, interlocks, the result, which alert rules know nothing of.
import { createServer } from 'node:http';
import { once } from 'node:events';
import { DEFAULT_CONSTRAINTS } from '../dist/domain/constraints.js';
import { decide } from '../dist/domain/decide.js';
import { restoreState } from '../dist/domain/durable.js';
import { evaluate } from '../dist/domain/evaluate.js';
import { unitOf } from '../dist/domain/reading.js';
import { atLeast, below, bench, row, skipped, takeTurns, until } from './measure.mjs';
import { lacksPrometheus, startPrometheus } from './peers.mjs';

const GPUS = 8;
/** One node in a hundred has a GPU over its warning, one in a thousand lacks a GPU's power. */
const isWarm = (node) => node % 100 === 50;
const lacksPower = (node) => node % 1_000 === 500;

/** `[component, id, quantity, value]` of a node. */
function numbersOf(node) {
  const numbers = [['cpu', undefined, 'temperature', 55 + (node % 9)], ['cpu', undefined, 'utilization', 0.3], ['memory', undefined, 'memory', 0.4]];
  for (let gpu = 0; gpu < GPUS; gpu += 1) {
    const id = `GPU-${node.toString(16).padStart(8, '0')}-0000-4000-8000-00000000000${gpu}`;
    numbers.push(['gpu', id, 'temperature', gpu === 0 && isWarm(node) ? 81 : 55 + ((node + gpu) % 9)]);
    numbers.push(['gpu', id, 'power', gpu === 0 && lacksPower(node) ? null : 180 + ((node * 7 + gpu) % 40)]);
    numbers.push(['gpu', id, 'memory', 0.25]);
  }
  return numbers;
}

function readingsOf(i) {
  const readings = numbersOf(i).map(([component, id, quantity, value]) => ({
    node: `node-${i}`,
    component,
    ...(id && { id }),
    quantity,
    state:
      value === null
        ? { kind: 'missing', cause: 'no-sensor', detail: 'no series', required: true, waived: false }
        : { kind: 'measured', value, unit: unitOf(quantity), atMs: 0, source: 'bench', origin: 'bench', estimated: false, informational: false, secondLook: 'not-needed' },
  }));
  return { node: `node-${i}`, readings, throttledGpus: [] };
}

function reportOf(i, nowMs) {
  const numbers = numbersOf(i);
  const readings = numbers.map(([component, id, quantity, value]) => ({ component, ...(id && { id }), quantity, value, origin: 'bench' }));
  const gpus = [...new Set(numbers.flatMap(([, id]) => id ?? []))].map((id) => ({ id, uuid: id, vendor: 'nvidia', required: true }));
  const witnesses = [{ of: 'source', name: 'node_time_seconds', value: nowMs }];
  return { source: 'bench', node: `node-${i}`, startedAtMs: nowMs, finishedAtMs: nowMs, outcome: { kind: 'answered' }, readings, gpus, gpuSigns: [], witnesses, throttledGpus: [], hardwareLimits: [], notes: [] };
}

/** What `evaluate()` looks for, in PromQL. */
const RULES = [
  ['GpuHot', 'gpu_temperature >= 80'],
  ['GpuTooHot', 'gpu_temperature >= 85'],
  ['GpuPower', 'gpu_power >= 250'],
  ['GpuTooMuchPower', 'gpu_power >= 300'],
  ['GpuMemory', 'gpu_memory > 0.9'],
  ['CpuHot', 'cpu_temperature >= 90'],
  ['CpuTooHot', 'cpu_temperature >= 95'],
  ['CpuLoad', 'cpu_utilization > 0.8'],
  ['Memory', 'memory_memory > 0.85'],
  ...['gpu_temperature', 'gpu_power', 'gpu_memory'].map((name) => [`Missing_${name}`, `gpu_known unless on (node, gpu) ${name}`]),
  ...['cpu_temperature', 'cpu_utilization', 'memory_memory'].map((name) => [`Missing_${name}`, `node_known unless on (node) ${name}`]),
].map(([alert, expr]) => ({ alert, expr }));

/** As many targets as there are hundreds of nodes, each with all series of its hundred. */
async function serveSeries(nodes) {
  const bodyOf = (hundred) => {
    const lines = [];
    for (let node = hundred * 100; node < Math.min(nodes, (hundred + 1) * 100); node += 1) {
      lines.push(`node_known{node="node-${node}"} 1`);
      for (const [component, id, quantity, value] of numbersOf(node)) {
        const labels = `{node="node-${node}"${id ? `,gpu="${id}"` : ''}}`;
        if (quantity === 'temperature' && id) lines.push(`gpu_known${labels} 1`);
        if (value !== null) lines.push(`${component}_${quantity}${labels} ${value}`);
      }
    }
    return `${lines.join('\n')}\n`;
  };
  const server = createServer((request, response) => {
    response.setHeader('content-type', 'text/plain; version=0.0.4');
    response.end(bodyOf(Number((request.url ?? '').slice(1))));
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const base = `http://127.0.0.1:${server.address().port}`;
  return { server, urls: Array.from({ length: Math.ceil(nodes / 100) }, (_, i) => `${base}/${i}`) };
}

await bench('evaluate', async ({ pick, say, rows, note }) => {
  const [nodes, repetitions, interval] = pick([10_000, 7, '10s'], [10_000, 3, '10s'], [200, 5, '1s']);
  const what = `${nodes.toLocaleString('en')} nodes × ${GPUS} GPUs`;
  const all = Array.from({ length: nodes }, (_, i) => readingsOf(i));
  const limits = { constraints: DEFAULT_CONSTRAINTS, slowdownC: new Map() };
  let findings = [];
  const ours = () => {
    const startedMs = performance.now();
    findings = all.flatMap((node) => evaluate(node, limits));
    return performance.now() - startedMs;
  };
  for (let i = 0; i < 10; i += 1) ours();
  const peer = lacksPrometheus ? null : await startPeer(nodes, interval, say);
  const took = await takeTurns(repetitions, { evaluate: ours, ...(peer && { Prometheus: peer.measure }) }, say);
  rows.push(row({ what: `evaluate(), ${what}`, unit: 'ms', ours: took.evaluate, target: below(100, 'ms') }));
  const perSecond = (list) => list.map((ms) => 1_000 / ms);
  const speed = `speed of evaluate(), ${what}`;
  if (!peer) rows.push(skipped(speed, 'Prometheus', lacksPrometheus));
  else {
    rows.push(row({ what: speed, unit: '/s', ours: perSecond(took.evaluate), peer: perSecond(took.Prometheus), peerName: 'Prometheus, its rules', target: atLeast(10) }));
    note(`Found by evaluate(): ${findings.length}; alerts of Prometheus: ${await peer.countAlerts()}.`);
    await peer.stop();
  }
  rows.push(row({ what: `decide() of a whole tick, ${what}`, unit: 'ms', ours: wholeTicks(nodes, repetitions), peerName: '' }));
});

/** A Prometheus that holds the same numbers, stopped while it is not measured. */
async function startPeer(nodes, interval, say) {
  const { server, urls } = await serveSeries(nodes);
  const prometheus = await startPrometheus({ jobs: [{ job: 'fleet', urls }], interval, rules: [{ name: 'limits', rules: RULES }] });
  const ask = async (path) => (await (await fetch(`${prometheus.url}/api/v1/${path}`)).json()).data;
  const count = async (query) => Number((await ask(`query?query=${encodeURIComponent(query)}`)).result[0]?.value[1] ?? 0);
  say('Prometheus reads everything once');
  await until('all series', async () => (await count('count(node_known)')) === nodes && (await count('count(gpu_known)')) === nodes * GPUS, {
    program: prometheus,
    withinMs: 180_000,
    everyMs: 1_000,
  });
  const lastEvaluation = async () => (await ask('rules')).groups[0];
  return {
    ...prometheus,
    countAlerts: async () => {
      prometheus.child.kill('SIGCONT');
      return (await ask('alerts')).alerts.length;
    },
    stop: async () => {
      server.close();
      await prometheus.stop();
    },
    measure: async () => {
      prometheus.child.kill('SIGCONT');
      const before = await lastEvaluation();
      // Not the one that the stop fell into: the one after it.
      const next = await until('an evaluation', async () => {
        const group = await lastEvaluation();
        return group.lastEvaluation !== before.lastEvaluation && group;
      });
      const group = await until('the next evaluation', async () => {
        const found = await lastEvaluation();
        return found.lastEvaluation !== next.lastEvaluation && found;
      });
      prometheus.child.kill('SIGSTOP');
      return group.evaluationTime * 1_000;
    },
  };
}

/** What a tick decides once all has been read, ms. */
function wholeTicks(nodes, repetitions) {
  const own = { constraints: DEFAULT_CONSTRAINTS, profile: 'default', waive: [], require: [], expectGpus: 0, gpus: new Map(), power: null, staleAfterMs: 30_000 };
  const settings = { instance: 'bench', localNode: 'node-0', bootId: 'b', simulated: false, intervalMs: 10_000, fastIntervalMs: 2_000, blindAbortAfterMs: 30_000, bootGraceMs: 120_000, tripScope: 'cluster', defaults: own, nodes: new Map() };
  const momentAt = (elapsedMs) => ({ elapsedMs, wallMs: 1.7e12 + elapsedMs, id: `bench-${elapsedMs}` });
  let { state } = restoreState(settings, new Map(), momentAt(0), { inCluster: false });
  const took = [];
  for (let tick = 0; tick < repetitions + 3; tick += 1) {
    const nowMs = 1_000 + tick * 10_000;
    const reports = Array.from({ length: nodes }, (_, i) => reportOf(i, nowMs));
    const startedMs = performance.now();
    state = decide(state, { kind: 'observed', why: 'tick', reports }, momentAt(nowMs)).state;
    // The first ones meet every card for the first time, and warm up.
    if (tick >= 3) took.push(performance.now() - startedMs);
  }
  return took;
}
