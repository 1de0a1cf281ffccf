// From the moment that an exporter's GPU stands over its hard stop to the end of the workload by SIGTERM: the service with
// a lease for that workload; and Prometheus, an alert rule, Alertmanager and a webhook that sends the same signal. The moment
// falls anywhere within a sampling interval. Both at one sample a second, and both at their usual ten seconds, where the
// service samples every two seconds what is loaded.
import { randomUUID } from 'node:crypto';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { gpuBody, nodeBody } from './expositions.mjs';
import { atMost, bench, row, skipped, takeTurns, until } from './measure.mjs';
import { lacksAlertmanager, lacksPrometheus, startAlertmanager, startPrometheus } from './peers.mjs';
import { startService } from './service.mjs';

const COOL_C = 70;
const HOT_C = 86;
const NODE = hostname().toLowerCase();

/** Exporters of nodes by number, each as hot as it is told; and the webhook, at `/hook`. */
async function startExporters() {
  const hottestC = new Map();
  const listeners = new Set();
  const server = createServer(async (request, response) => {
    const [, node, kind] = (request.url ?? '').split('?')[0].split('/');
    if (node === 'hook') {
      let text = '';
      for await (const chunk of request) text += chunk;
      for (const { status, labels } of JSON.parse(text).alerts) {
        if (status === 'firing') for (const listener of listeners) listener(labels.instance);
      }
      response.end();
      return;
    }
    response.setHeader('content-type', 'text/plain; version=0.0.4');
    response.end(kind === 'gpu' ? gpuBody(Number(node), hottestC.get(node) ?? COOL_C) : nodeBody(Number(node)));
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const url = `http://127.0.0.1:${server.address().port}`;
  return {
    url,
    heat: (node) => hottestC.set(`${node}`, HOT_C),
    onAlert: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

/** A process group that SIGTERM ends at once. */
function startWorkload(leaseId) {
  const child = spawn('sleep', ['600'], { detached: true, stdio: 'ignore', env: { ...process.env, VSF_LEASE: leaseId } });
  return { pgid: child.pid, ended: once(child, 'exit').then(() => performance.now()) };
}

let nextNode = 0;

/** Of the service, started anew each time, since a trip stays until an operator resets it and then cools. */
async function ourReaction(exporters, intervalMs, fastIntervalMs) {
  nextNode += 1;
  const node = nextNode;
  const endpoints = ['node', 'gpu'].map((kind) => `${exporters.url}/${node}/${kind}`);
  const service = await startService({
    config: [
      'source: exporters',
      `interval: ${intervalMs}ms`,
      `fastInterval: ${fastIntervalMs}ms`,
      'kubernetes: { enabled: false }',
      `nodes: [ { name: ${NODE}, endpoints: ${JSON.stringify(endpoints)} } ]`,
    ].join('\n'),
  });
  await service.untilSafe();
  const id = randomUUID();
  const workload = startWorkload(id);
  const lease = await service.ask('POST', '/leases', { id, workload: 'bench', processGroup: { pgid: workload.pgid }, ttlSeconds: 300 });
  if (lease.status !== 201) throw new Error(`no lease: ${JSON.stringify(lease.body).slice(0, 500)}`);
  await sleep(1_000 + Math.random() * intervalMs);
  const crossedMs = performance.now();
  exporters.heat(node);
  const endedMs = await Promise.race([workload.ended, sleep(60_000, Number.NaN, { ref: false })]);
  await service.stop();
  if (Number.isNaN(endedMs)) process.kill(-workload.pgid, 'SIGKILL');
  return endedMs - crossedMs;
}

/** Prometheus scrapes `count` targets; each crosses once. */
async function startChain(exporters, intervalMs, count) {
  const first = nextNode + 1;
  nextNode += count;
  const interval = `${intervalMs}ms`;
  const alertmanager = await startAlertmanager({ webhook: `${exporters.url}/hook`, groupInterval: '1s' });
  const prometheus = await startPrometheus({
    jobs: [{ job: 'gpus', urls: Array.from({ length: count }, (_, i) => `${exporters.url}/${first + i}/gpu`) }],
    interval,
    rules: [{ name: 'limits', rules: [{ alert: 'GpuTooHot', expr: 'DCGM_FI_DEV_GPU_TEMP >= 85' }] }],
    alertmanager: alertmanager.url,
  });
  await until('all targets', async () => {
    const answer = await fetch(`${prometheus.url}/api/v1/query?query=${encodeURIComponent('count(up == 1)')}`);
    return Number((await answer.json()).data.result[0]?.value[1]) === count;
  }, { program: prometheus, everyMs: 200 });
  let used = 0;
  return {
    react: async () => {
      const node = first + used;
      used += 1;
      const workload = startWorkload('');
      const forget = exporters.onAlert((instance) => {
        if (instance !== `/${node}/gpu`) return;
        forget();
        process.kill(-workload.pgid, 'SIGTERM');
      });
      await sleep(Math.random() * intervalMs);
      const crossedMs = performance.now();
      exporters.heat(node);
      const endedMs = await Promise.race([workload.ended, sleep(120_000, Number.NaN, { ref: false })]);
      if (Number.isNaN(endedMs)) process.kill(-workload.pgid, 'SIGKILL');
      return endedMs - crossedMs;
    },
    stop: async () => {
      await prometheus.stop();
      await alertmanager.stop();
    },
  };
}

await bench('reaction', async ({ pick, say, rows, note }) => {
  const exporters = await startExporters();
  const lacks = lacksPrometheus || lacksAlertmanager;
  const settings = [
    { what: 'one sample a second', intervalMs: 1_000, fastIntervalMs: 1_000, repetitions: pick(21, 7, 3), target: atMost(0.6) },
    { what: 'usual settings, 10 s', intervalMs: 10_000, fastIntervalMs: 2_000, repetitions: pick(15, 5, 2), target: atMost(0.2) },
  ];
  for (const { what, intervalMs, fastIntervalMs, repetitions, target } of settings) {
    const peerName = 'Prometheus, Alertmanager, webhook';
    const chain = lacks ? null : await startChain(exporters, intervalMs, repetitions);
    const found = await takeTurns(
      repetitions,
      { ours: () => ourReaction(exporters, intervalMs, fastIntervalMs), ...(chain && { chain: chain.react }) },
      (text) => say(`${what}: ${text}`),
    );
    await chain?.stop();
    if (!chain) rows.push(skipped(`over the hard stop to SIGTERM, ${what}`, peerName, lacks));
    rows.push(row({ what: `over the hard stop to SIGTERM, ${what}`, unit: 'ms', ours: found.ours, peer: found.chain ?? null, peerName, target: chain ? target : null, byMedians: true }));
  }
  note('The moment is random, so the ratio is that of the medians, its spread that of the quartiles. Alertmanager waits for nothing (group_wait 0 s; its own default is 30 s), and the rule has no `for`.');
});
