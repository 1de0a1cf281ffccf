// Fleets of growing size, two exporters and eight GPUs a node, every twentieth node warm enough for fast sampling: how long
// a tick takes, CPU, memory, and how long the event loop is held, of the real service; CPU and memory against Prometheus
// on the same targets at the same interval, which samples nothing faster.
import { setTimeout as sleep } from 'node:timers/promises';
import { fleetConfig, startFleet } from './fleet-parts.mjs';
import { atMost, below, bench, cpuMsOf, row, rssMiBOf, skipped, takeTurns, until } from './measure.mjs';
import { lacksPrometheus, startPrometheus } from './peers.mjs';
import { startService } from './service.mjs';

const WARM_SHARE = 0.05;
/** Until what is done once has been done, compiling above all: both are made to run for months. */
const WARM_UP_TICKS = 3.5;

/** CPU in percent of a core over `ms`, and memory at its end. */
async function usage({ pid }, ms, each = async () => undefined) {
  const [startCpuMs, startMs] = [cpuMsOf(pid), performance.now()];
  while (performance.now() - startMs < ms) {
    await sleep(Math.min(1_000, ms / 4));
    await each();
  }
  return { cpuPercent: ((cpuMsOf(pid) - startCpuMs) / (performance.now() - startMs)) * 100, rssMiB: rssMiBOf(pid) };
}

async function measureService(file, intervalMs, ticks) {
  const service = await startService({ file, probed: true });
  await service.untilEvaluated(120_000);
  await sleep(intervalMs * WARM_UP_TICKS);
  await service.loop();
  const tookMs = [];
  const used = await usage(service, ticks * intervalMs, async () => {
    const { lastTickTookSeconds } = (await service.get('/status?node=node-0')).body.evaluation;
    if (lastTickTookSeconds !== null) tookMs.push(lastTickTookSeconds * 1_000);
  });
  const loop = await service.loop();
  await service.stop();
  return { ...used, tickMs: Math.max(...tookMs), delayP99Ms: loop.p99, delayMaxMs: loop.max };
}

async function measurePrometheus(urls, interval, intervalMs, ticks) {
  const prometheus = await startPrometheus({ jobs: [{ job: 'fleet', urls }], interval });
  const isUp = async () => {
    const answer = await fetch(`${prometheus.url}/api/v1/query?query=${encodeURIComponent('count(up == 1)')}`);
    return Number((await answer.json()).data.result[0]?.value[1]) === urls.length;
  };
  await until('all targets', isUp, { program: prometheus, withinMs: 120_000, everyMs: 500 });
  await sleep(intervalMs * WARM_UP_TICKS);
  const used = await usage(prometheus, ticks * intervalMs);
  await prometheus.stop();
  return used;
}

await bench('scale', async ({ pick, say, rows, note }) => {
  const sizes = pick([100, 300, 1_000, 3_000], [100, 300, 1_000, 3_000], [20, 60]);
  const [repetitions, ticks, intervalMs] = pick([5, 3, 10_000], [3, 2, 10_000], [2, 2, 2_000]);
  const interval = `${intervalMs / 1_000}s`;
  const perNode = [];
  for (const nodes of sizes) {
    const fleet = await startFleet(nodes, WARM_SHARE);
    say(`${nodes} nodes × (${(fleet.nodeBytes / 1e3).toFixed(0)} KB + ${(fleet.gpuBytes / 1e3).toFixed(0)} KB), every ${interval}`);
    const file = () => fleetConfig(fleet, { interval });
    const found = await takeTurns(
      repetitions,
      {
        ours: () => measureService(file(), intervalMs, ticks),
        ...(!lacksPrometheus && { Prometheus: () => measurePrometheus(fleet.urls.flat(), interval, intervalMs, ticks) }),
      },
      say,
    );
    await fleet.stop();
    const list = (way, name) => found[way]?.map((one) => one[name]) ?? null;
    const at = `${nodes.toLocaleString('en')} nodes`;
    const peerName = 'Prometheus';
    rows.push(row({ what: `worst tick, ${at}`, unit: 'ms', ours: list('ours', 'tickMs'), target: nodes === 1_000 ? below(3_000, 'ms') : null }));
    rows.push(row({ what: `CPU, ${at}`, unit: '% of a core', ours: list('ours', 'cpuPercent'), peer: list(peerName, 'cpuPercent'), peerName, target: lacksPrometheus ? null : atMost(0.5) }));
    rows.push(row({ what: `memory, ${at}`, unit: 'MiB', ours: list('ours', 'rssMiB'), peer: list(peerName, 'rssMiB'), peerName, target: lacksPrometheus ? null : atMost(0.2) }));
    rows.push(row({ what: `event-loop delay p99, ${at}`, unit: 'ms', ours: list('ours', 'delayP99Ms'), target: below(20, 'ms') }));
    rows.push(row({ what: `event-loop delay, worst, ${at}`, unit: 'ms', ours: list('ours', 'delayMaxMs') }));
    perNode.push(list('ours', 'cpuPercent').map((percent) => (percent * intervalMs) / 100 / nodes));
    if (perNode.length > 1) {
      rows.push(row({ what: `CPU of a tick per node, ${at}`, unit: 'ms', ours: perNode.at(-1), peer: perNode[0], peerName: `itself, ${sizes[0]} nodes`, target: atMost(1.2) }));
    }
  }
  if (lacksPrometheus) rows.push(skipped('CPU and memory', 'Prometheus', lacksPrometheus));
  note(`Every twentieth node is sampled fast by ours. Prometheus' memory is that of its first ${Math.round((intervalMs / 1_000) * (ticks + 2))} s and grows for two hours. Exporters and watcher share the machine.`);
});
