// Hours of history, 24 unless told, made as fast as the disk takes it: how large is it, how long does a question take, what does a
// tick cost? Then real time: how long does keeping it hold the event loop?
// `node bench/history.mjs [NODES] [GPUS] [TICKS IN REAL TIME] [HOURS]`, after `npm run build`.
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay, performance } from 'node:perf_hooks';
import { systemClock } from '../dist/clock.js';
import { DEFAULT_CONSTRAINTS } from '../dist/domain/constraints.js';
import { restoreState } from '../dist/domain/durable.js';
import { answerOf } from '../dist/history/answer.js';
import { History } from '../dist/history/history.js';
import { Store } from '../dist/history/store.js';
import { Supervisor } from '../dist/supervisor.js';

const [nodes = 1, gpus = 4, realTicks = 20, hours = 24] = process.argv.slice(2).map(Number);
const folder = mkdtempSync(join(tmpdir(), 'vsf-history-'));
const bounds = { keepMs: 86_400_000, maxBytes: 2 ** 30, intervalMs: 10_000, simulated: false };
const quantile = (values, share) => [...values].sort((a, b) => a - b)[Math.floor((values.length - 1) * share)];
const ms = (values) => `median ${quantile(values, 0.5).toFixed(1)}, p99 ${quantile(values, 0.99).toFixed(1)}, worst ${Math.max(...values).toFixed(1)} ms`;
const sizeMiB = () => readdirSync(folder).reduce((sum, name) => sum + statSync(join(folder, name)).size, 0) / 2 ** 20;

const series = [
  { component: 'cpu', quantity: 'temperature', unit: '°C', warning: 90, hardStop: 95 },
  { component: 'cpu', quantity: 'utilization', unit: 'ratio', max: 0.8 },
  { component: 'memory', quantity: 'memory', unit: 'ratio', max: 0.85 },
  { component: 'system', quantity: 'total-power', unit: 'W', warning: 2000, hardStop: 2200 },
  ...Array.from({ length: gpus }, (_, i) => `GPU-0000000${i}-0000-4000-8000-000000000000`).flatMap((id) => [
    { component: 'gpu', id, quantity: 'temperature', unit: '°C', warning: 80, hardStop: 85 },
    { component: 'gpu', id, quantity: 'power', unit: 'W', warning: 250, hardStop: 300 },
    { component: 'gpu', id, quantity: 'memory', unit: 'ratio', max: 0.9 },
  ]),
];
const layouts = Array.from({ length: nodes }, (_, i) => ({ id: i + 1, node: `node-${i}`, series }));
const values = Float32Array.from({ length: nodes * series.length }, () => 60);
const endMs = Date.now();
const startMs = endMs - hours * 3_600_000;
const store = new Store(join(folder, 'history.sqlite'), bounds, new Map());
const took = [];
for (let atMs = startMs, first = true; atMs <= endMs; atMs += bounds.intervalMs, first = false) {
  for (let i = 0; i < values.length; i++) values[i] = Math.round((values[i] + Math.random() - 0.5) * 10) / 10;
  const figures = {
    atMs,
    severity: 0,
    layouts: Uint32Array.from({ length: nodes }, (_, i) => i + 1),
    severities: new Uint8Array(nodes),
    margins: new Float32Array(nodes).fill(0.3),
    values,
  };
  const before = performance.now();
  store.write({ atMs, layouts: first ? layouts : [], forgotten: [], figures: [figures], events: [], open: [] });
  took.push(performance.now() - before);
}
console.log(`${nodes} nodes x ${gpus} GPUs, ${series.length * nodes} numbers a tick, ${took.length} ticks: ${sizeMiB().toFixed(1)} MiB on disk`);
console.log(`a tick on the disk's own thread, stretches and dropping included: ${ms(took)}`);
for (const [what, past, node] of [['1 h of one node', 1, 'node-0'], ['24 h of one node', 24, 'node-0'], ['1 h of all', 1, null], ['24 h of all', 24, null]]) {
  const asked = [];
  let text = '';
  let points = 0;
  for (let turn = 0; turn < 7; turn++) {
    const before = performance.now();
    const answer = answerOf(store, { fromMs: endMs - past * 3_600_000, toMs: endMs, node, isKnown: true });
    text = JSON.stringify(answer);
    points = answer.at.length;
    asked.push(performance.now() - before);
  }
  console.log(`${what}: ${points} points, ${(text.length / 1024).toFixed(0)} KiB, ${ms(asked)}`);
}
store.close();

// Real time: a state of so many nodes, published as the supervisor would.
const clock = systemClock;
const node = { constraints: DEFAULT_CONSTRAINTS, profile: 'default', waive: [], require: [], expectGpus: 0, gpus: new Map(), power: null, staleAfterMs: 30_000 };
const settings = { instance: 'bench', localNode: 'node-0', bootId: 'b', simulated: false, intervalMs: 10_000, fastIntervalMs: 2_000, blindAbortAfterMs: 30_000, bootGraceMs: 120_000, tripScope: 'cluster', defaults: node, nodes: new Map() };
const quiet = { fatal: console.error, error: console.error, warn: () => undefined, info: () => undefined };
const supervisor = new Supervisor(restoreState(settings, new Map(), { ...clock.now(), id: 'bench' }).state, {
  clock, log: quiet, actuators: [], journal: { append: async () => ({ ok: true }) }, lookAgain: () => undefined,
  onBroken: (error) => { throw error; },
});
const report = (i) => {
  const now = clock.now().elapsedMs;
  const readings = series.map(({ component, id, quantity, unit }) => ({
    component, ...(id && { id }), quantity, origin: 'bench',
    value: unit === 'ratio' ? 0.4 + Math.random() / 10 : unit === 'W' ? 150 + Math.random() * 20 : 55 + Math.random() * 5,
  }));
  const sightings = [...new Set(series.flatMap(({ id }) => id ?? []))].map((id) => ({ id, uuid: id, vendor: 'nvidia', required: true }));
  return { source: 'bench', node: `node-${i}`, startedAtMs: now, finishedAtMs: now, outcome: { kind: 'answered' }, readings, gpus: sightings, gpuSigns: [], witnesses: [], throttledGpus: [], hardwareLimits: [], notes: [] };
};
const tick = async (history) => {
  const reports = Array.from({ length: nodes }, (_, i) => report(i));
  supervisor.submit({ kind: 'observed', why: 'tick', reports });
  await clock.sleep(1);
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  const before = process.cpuUsage();
  await (history?.settled() ?? clock.sleep(100));
  delay.disable();
  const used = process.cpuUsage(before);
  return { delayMs: delay.max / 1e6, cpuMs: (used.user + used.system) / 1000 };
};
const history = new History({ clock, folder, bounds, supervisor });
history.start();
const ticks = [];
for (let turn = 0; turn < realTicks + 3; turn++) {
  const one = await tick(history);
  // The first ones make the layouts, and warm up.
  if (turn >= 3) ticks.push(one);
}
console.log(`the event loop while a tick is kept (1 ms is the timer's own): ${ms(ticks.map(({ delayMs }) => delayMs))}`);
console.log(`CPU of a tick, both threads: ${ms(ticks.map(({ cpuMs }) => cpuMs))}; ${history.health().state}, ${history.health().lost} lost`);
await history.close();
rmSync(folder, { recursive: true, force: true });
process.exit(0);
