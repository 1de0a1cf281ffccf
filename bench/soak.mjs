// `npm run soak -- --minutes 30 [--results FILE]`: the real service over 200 nodes, under everything that callers do to it
// (soak-load.mjs), and whether anything in it grows: memory, open files, threads, files of the state folder, the event loop.
// Looks every ten seconds, says every minute how things stand, and at the end for each quantity start, end, slope and verdict
// (soak-verdict.mjs). Exit code 1 if something grows, if Node warns, or if an answer came that none should get.
import { setMaxListeners } from 'node:events';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { fleetConfig, startFleet } from './fleet-parts.mjs';
import { machine, rssMiBOf } from './measure.mjs';
import { startService } from './service.mjs';
import { startLoad } from './soak-load.mjs';
import { round, verdictOf } from './soak-verdict.mjs';

const NODES = 200;
const WARM_SHARE = 0.05;
const LOOK_EVERY_MS = 10_000;
/** Garbage is collected by force this often, which shows what is held, and no more often, since it is not what is usual. */
const COLLECT_EVERY = 6;
/** What is filled once is full by then: the quarter of the run, five minutes at most. */
const WARM_UP_SHARE = 0.25;
const WARM_UP_AT_MOST_MS = 300_000;
const HISTORY_MIB = 16;
const MIB = 2 ** 20;

/** By name: unit, and how much more after three days would be a fault; `atMost`: its bound (docs/operations.md). */
const QUANTITIES = {
  'memory (RSS)': { unit: 'MiB', matters: 256 },
  'heap after collection': { unit: 'MiB', matters: 64 },
  'buffers after collection': { unit: 'MiB', matters: 64 },
  'open files': { unit: '', matters: 100 },
  'what keeps it alive': { unit: 'handles', matters: 100 },
  threads: { unit: '', matters: 8 },
  'event-loop delay p99': { unit: 'ms', matters: 50 },
  'files in the state folder': { unit: '', matters: 10 },
};
const FILES = [
  [/^history.*\.sqlite(-wal|-shm|-journal)?$/, HISTORY_MIB],
  [/^journal\.jsonl(\.new)?$/, 4],
  [/^audit(\.1)?\.jsonl$/, 4],
];
const fileQuantity = (name) => ({ unit: 'MiB', matters: 1, atMost: FILES.find(([form]) => form.test(name))?.[1] ?? null });

const { values: options } = parseArgs({ options: { minutes: { type: 'string', default: '30' }, results: { type: 'string' } } });
const minutes = Number(options.minutes);
if (!(minutes > 0)) {
  console.error(`--minutes is ${options.minutes}: must be a number above 0`);
  process.exit(2);
}

const listOf = (folder) => readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());

function countsOf(names) {
  const counts = {};
  for (const name of names) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}

/** One look from outside and, over IPC, from within. */
async function look(service, stateDir, isCollected) {
  const { p99, memory, resources } = await service.loop(true, isCollected);
  const status = readFileSync(`/proc/${service.pid}/status`, 'utf8');
  const files = {};
  for (const { parentPath, name } of listOf(stateDir)) {
    // A file that is replaced just now.
    const size = statSync(join(parentPath, name), { throwIfNoEntry: false })?.size;
    if (size !== undefined) files[name] = size / MIB;
  }
  return {
    'memory (RSS)': rssMiBOf(service.pid),
    ...(isCollected && {
      'heap after collection': memory.heapUsed / MIB,
      'buffers after collection': memory.external / MIB,
    }),
    'open files': readdirSync(`/proc/${service.pid}/fd`).length,
    'what keeps it alive': resources.length,
    threads: Number(/^Threads:\s+(\d+)/m.exec(status)[1]),
    'event-loop delay p99': p99,
    'files in the state folder': Object.keys(files).length,
    files,
    handles: countsOf(resources),
  };
}

function progress(minute, found, { requests, leases, sockets, messages }, told) {
  const total = Object.values(found.files).reduce((sum, size) => sum + size, 0);
  const held = told['heap after collection']?.toFixed(0) ?? '?';
  const parts = [
    `${minute} min`,
    `RSS ${found['memory (RSS)'].toFixed(0)} MiB`,
    `heap ${held} MiB`,
    `files ${found['open files']}`,
    `handles ${found['what keeps it alive']}`,
    `threads ${found.threads}`,
    `loop p99 ${found['event-loop delay p99'].toFixed(0)} ms`,
    `state ${total.toFixed(1)} MiB`,
    `so far ${requests} requests, ${leases} leases, ${sockets} sockets, ${messages} messages`,
  ];
  console.log(parts.join('  '));
}

function table(verdicts) {
  const figure = (value) => (value === undefined ? '' : `${round(value)}`);
  const rows = Object.entries(verdicts).map(([what, { unit, start, end, perHour, spread, verdict }]) => [
    unit === '' ? what : `${what}, ${unit}`,
    figure(start),
    figure(end),
    perHour === undefined ? '' : `${figure(perHour)} ± ${figure(spread)}`,
    verdict,
  ]);
  const all = [['what', 'start', 'end', 'slope per hour', 'verdict'], ...rows];
  const widths = all[0].map((_, i) => Math.max(...all.map((row) => row[i].length)));
  return all.map((row) => `| ${row.map((cell, i) => cell.padEnd(widths[i])).join(' | ')} |`).join('\n');
}

const fleet = await startFleet(NODES, WARM_SHARE, NODES);
const settings = [
  `history: { maxBytes: ${HISTORY_MIB * MIB} }`,
  `notify: [ { name: hook, url: "${fleet.base}/hook" }, { name: ill, url: "${fleet.base}/0/none" }, { name: board, url: "${fleet.base}/hook", format: alertmanager } ]`,
];
const file = fleetConfig(fleet, { settings: settings.join('\n') });
const stateDir = join(dirname(file), 'state');
const service = await startService({ file, probed: true, stateDir });
const warnings = [];
service.child.stderr.on('data', (chunk) => warnings.push(...chunk.split('\n').filter((line) => /Warning:/.test(line))));
await service.untilEvaluated(120_000);

const ending = new AbortController();
// A hundred loops sleep on it.
setMaxListeners(0, ending.signal);
const load = startLoad({ service, fleet, file, signal: ending.signal });
const startedMs = performance.now();
const endMs = startedMs + minutes * 60_000;
const warmUpMs = Math.min(minutes * 60_000 * WARM_UP_SHARE, WARM_UP_AT_MOST_MS);
const looks = [];
let failure = null;
const told = {};
for (let count = 1; failure === null && performance.now() < endMs; count += 1) {
  await sleep(Math.max(0, Math.min(startedMs + count * LOOK_EVERY_MS, endMs) - performance.now()));
  try {
    const found = await look(service, stateDir, count % COLLECT_EVERY === 0);
    looks.push({ atMs: performance.now() - startedMs, ...found });
    Object.assign(told, found);
    if (count % COLLECT_EVERY === 0) progress(count / COLLECT_EVERY, found, load.counts, told);
  } catch (error) {
    failure = `the service ended: ${service.said() || String(error)}`;
  }
}
ending.abort();
await load.ended;
await service.stop('SIGTERM');
await fleet.stop();

const measured = looks.filter(({ atMs }) => atMs >= warmUpMs);
const pointsOf = (take) => measured.flatMap((one) => (take(one) === undefined ? [] : [{ atMs: one.atMs, value: take(one) }]));
const names = [...new Set(measured.flatMap(({ files }) => Object.keys(files)))].sort();
const verdicts = {
  ...Object.fromEntries(Object.entries(QUANTITIES).map(([name, how]) => [name, { unit: how.unit, ...verdictOf(pointsOf((one) => one[name]), how) }])),
  ...Object.fromEntries(names.map((name) => [name, { unit: 'MiB', ...verdictOf(pointsOf(({ files }) => files[name]), fileQuantity(name)) }])),
};
const { counts } = load;
const faults = [
  ...(failure === null ? [] : [failure]),
  ...Object.entries(verdicts).flatMap(([name, { grows, verdict }]) => (grows ? [`${name} ${verdict}`] : [])),
  ...new Set(warnings),
  ...counts.strange.map((strange) => `answered ${strange}`),
];
const head = `${NODES} nodes, ${minutes} minutes, the first ${round(warmUpMs / 60_000)} of them to warm up; ${machine().text}`;
console.log(`\n${head}\n\n${table(verdicts)}\n`);
console.log(Object.entries(counts.answers).sort().map(([answer, count]) => `${count} × ${answer}`).join(', '));
const isShort = Object.values(verdicts).some(({ verdict }) => verdict === 'too short');
const nothing = isShort ? 'Nothing is seen to grow; for some of it the run was too short.' : 'Nothing grows.';
console.log(`\n${faults.length === 0 ? nothing : faults.join('\n')}`);
if (options.results) writeFileSync(options.results, `${JSON.stringify({ head, verdicts, counts, warnings, faults, looks }, null, 1)}\n`);
process.exit(faults.length === 0 ? 0 : 1);
