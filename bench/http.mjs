// What the service answers under load while it watches a fleet: `/preflight`, `/status`, `/metrics`, and one node's status,
// beside the least that fastify can do. Without targets: it says what a question costs, and so what limits them.
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Pool } from 'undici';
import { fleetConfig, startFleet } from './fleet-parts.mjs';
import { bench, cpuMsOf, quantile, row, start, takeTurns, until } from './measure.mjs';
import { startService } from './service.mjs';

const CONNECTIONS = 8;

/** Asks for `ms` over a few connections, each with one question at a time. */
async function load(url, path, pid, ms) {
  const pool = new Pool(url, { connections: CONNECTIONS, pipelining: 1 });
  const [startMs, startCpuMs] = [performance.now(), cpuMsOf(pid)];
  const latencies = [];
  const statuses = {};
  let bytes = 0;
  await Promise.all(
    Array.from({ length: CONNECTIONS }, async () => {
      while (performance.now() - startMs < ms) {
        const askedMs = performance.now();
        const { statusCode, body } = await pool.request({ method: 'GET', path });
        bytes += (await body.arrayBuffer()).byteLength;
        latencies.push(performance.now() - askedMs);
        statuses[statusCode] = (statuses[statusCode] ?? 0) + 1;
      }
    }),
  );
  const tookS = (performance.now() - startMs) / 1_000;
  await pool.close();
  const count = latencies.length;
  return {
    perSecond: count / tookS,
    p50Ms: quantile(latencies, 0.5),
    p99Ms: quantile(latencies, 0.99),
    cpuMs: (cpuMsOf(pid) - startCpuMs) / count,
    kilobytes: bytes / count / 1_000,
    statuses,
  };
}

await bench('HTTP', async ({ pick, say, rows, note }) => {
  const [nodes, repetitions, ms] = pick([1_000, 7, 10_000], [1_000, 3, 5_000], [50, 3, 500]);
  const fleet = await startFleet(nodes, 0.05);
  const service = await startService({ file: fleetConfig(fleet), probed: true });
  await service.untilEvaluated();
  const hello = start(process.execPath, [join(import.meta.dirname, 'hello-world.mjs')]);
  const helloUrl = `http://127.0.0.1:${await until('hello world', () => Number(hello.said().trim()), { program: hello })}`;
  const routes = ['/preflight', '/status', '/metrics', '/status?node=node-0', '/healthz'];
  const ways = Object.fromEntries(
    routes.map((path) => [
      path,
      async () => {
        await service.loop();
        const found = await load(service.url, path, service.pid, ms);
        const loop = await service.loop();
        // The ticks go on meanwhile, and have their own time.
        await sleep(ms / 10);
        return { ...found, delayP99Ms: loop.p99, busyRatio: loop.busyRatio };
      },
    ]),
  );
  const found = await takeTurns(repetitions, { ...ways, hello: () => load(helloUrl, '/', hello.pid, ms) }, say);
  for (const program of [service, hello, fleet]) await program.stop();
  const list = (way, name) => found[way].map((one) => one[name]);
  const peerName = 'fastify hello world';
  for (const path of routes) {
    rows.push(row({ what: `${path}, answers`, unit: '/s', ours: list(path, 'perSecond'), peer: list('hello', 'perSecond'), peerName }));
    rows.push(row({ what: `${path}, median time`, unit: 'ms', ours: list(path, 'p50Ms'), peer: list('hello', 'p50Ms'), peerName }));
    rows.push(row({ what: `${path}, p99 time`, unit: 'ms', ours: list(path, 'p99Ms'), peer: list('hello', 'p99Ms'), peerName }));
    rows.push(row({ what: `${path}, event-loop delay p99`, unit: 'ms', ours: list(path, 'delayP99Ms') }));
    const statuses = {};
    for (const one of list(path, 'statuses')) for (const [status, count] of Object.entries(one)) statuses[status] = (statuses[status] ?? 0) + count;
    const median = (name) => quantile(list(path, name), 0.5);
    const told = Object.entries(statuses).map(([status, count]) => `${count} × ${status}`);
    note(`${path}: ${told.join(', ')}; ${median('kilobytes').toFixed(1)} KB and ${median('cpuMs').toFixed(2)} ms of CPU an answer (ticks included), event loop ${(median('busyRatio') * 100).toFixed(0)} % busy.`);
  }
  note(`${nodes} nodes × 8 GPUs, ${CONNECTIONS} connections. Questions that come together share an answer, or are refused with 503 when too many wait.`);
});
