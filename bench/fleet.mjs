// A whole fleet watched by one process: does every tick end in time, does memory stay flat, how long is the loop held?
// `node bench/fleet.mjs [NODES] [TICKS] [INTERVAL]`, after `npm run build`; two exporters and eight GPUs per node.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay, performance } from 'node:perf_hooks';
import { assemble } from '../dist/assemble.js';
import { loadConfig } from '../dist/config.js';

const [nodes = 1000, ticks = 100] = process.argv.slice(2, 4).map(Number);
const interval = process.argv[4] ?? '10s';
const folder = mkdtempSync(join(tmpdir(), 'vsf-fleet-'));
const fleet = spawn(process.execPath, [join(import.meta.dirname, 'fleet-exporters.mjs'), `${nodes}`], {
  stdio: ['ignore', 'pipe', 'inherit'],
});
const { port, nodeBytes, gpuBytes } = JSON.parse(await new Promise((done) => fleet.stdout.once('data', done)));

const file = join(folder, 'safety.yaml');
const targets = Array.from({ length: nodes }, (_, i) => {
  const base = `http://127.0.0.1:${port}/${i}`;
  return `  - { name: node-${i}, endpoints: [ "${base}/node", "${base}/gpu" ] }`;
});
writeFileSync(file, `source: exporters\nstateDir: ${folder}/state\ninterval: ${interval}\nkubernetes: { enabled: false }\nnodes:\n${targets.join('\n')}\n`);
const loaded = loadConfig({ file, env: {}, flags: {}, hostname: 'node-0', homeDir: folder });
if (!loaded.ok) throw new Error(JSON.stringify(loaded.problems));
const quiet = { fatal: console.error, error: console.error, warn: () => undefined, info: () => undefined };
const delay = monitorEventLoopDelay({ resolution: 5 });
const began = performance.now();
const parts = await assemble(loaded.config, { log: quiet, onBroken: (error) => { throw error; } });
if (parts.kind !== 'running') throw new Error(parts.message);

console.log(`${nodes} nodes × (${(nodeBytes / 1024).toFixed(0)} KiB node exporter + ${(gpuBytes / 1024).toFixed(0)} KiB of 8 GPUs), every ${interval}`);
const took = [];
const rss = [];
let published = 0;
let lastCpu = process.cpuUsage();
const cpu = [];
await new Promise((done) => {
  parts.supervisor.subscribe((message) => {
    if (message.type !== 'evaluation') return;
    published += 1;
    if (published === 1) {
      console.log(`first evaluation after ${((performance.now() - began) / 1000).toFixed(1)} s: ${message.data.action}, ${message.data.reason}`);
      delay.enable();
    } else {
      took.push(parts.monitor.lastTickTookMs);
      const used = process.cpuUsage(lastCpu);
      cpu.push((used.user + used.system) / 1000);
    }
    lastCpu = process.cpuUsage();
    rss.push(process.memoryUsage.rss() / 2 ** 20);
    if (published % 10 === 0) console.log(`tick ${published}: took ${took.at(-1)?.toFixed(0)} ms, ${rss.at(-1)?.toFixed(0)} MiB, ${message.data.action}`);
    if (published > ticks) done();
  });
});
const quantile = (values, share) => [...values].sort((a, b) => a - b)[Math.floor((values.length - 1) * share)];
const show = (name, values, unit) => console.log(`${name}: median ${quantile(values, 0.5).toFixed(0)}, worst ${Math.max(...values).toFixed(0)} ${unit}`);
show('tick', took, 'ms');
show('CPU per tick', cpu, 'ms');
show('memory, first half', rss.slice(0, rss.length / 2), 'MiB');
show('memory, second half', rss.slice(rss.length / 2), 'MiB');
console.log(`event loop delay: p50 ${(delay.percentile(50) / 1e6).toFixed(0)}, p99 ${(delay.percentile(99) / 1e6).toFixed(0)}, worst ${(delay.max / 1e6).toFixed(0)} ms`);
await parts.close();
fleet.kill();
rmSync(folder, { recursive: true, force: true });
process.exit(0);
