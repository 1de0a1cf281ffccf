// How fast bodies become samples: wanted families alone, as every tick does it, and all of them, against the npm parsers,
// which know no other way than all. Then whole scrapes over HTTP, against Prometheus itself on the same bodies.
import { createRequire } from 'node:module';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseExposition } from '../dist/sources/exposition.js';
import { WANTED_NAMES } from '../dist/sources/series.js';
import { SeriesMemory } from '../dist/sources/series-memory.js';
import { gpuBody, nodeBody } from './expositions.mjs';
import { startFleet } from './fleet-parts.mjs';
import { atLeast, atMost, bench, cpuMsOf, freePort, isAnswered, isInstalled, row, skipped, start, takeTurns, until } from './measure.mjs';
import { lacksPrometheus, startPrometheus } from './peers.mjs';

const NODE_EXPORTER = '/usr/bin/prometheus-node-exporter';

/** What the machine's own node_exporter writes, where there is one. */
async function realBodies() {
  if (!isInstalled(NODE_EXPORTER)) return null;
  const port = await freePort();
  const url = `http://127.0.0.1:${port}/metrics`;
  const program = start(NODE_EXPORTER, [`--web.listen-address=127.0.0.1:${port}`, '--collector.textfile.directory=']);
  await until('node_exporter', () => isAnswered(url), { program });
  const bodies = await scrapes(async () => (await fetch(url)).text());
  await program.stop();
  return bodies;
}

/** The parsers that npm has, as `text → how many samples it found`. */
function npmParsers() {
  const require = createRequire(import.meta.url);
  const load = (name) => {
    try {
      return require(name);
    } catch {
      return null;
    }
  };
  const [first, second] = ['parse-prometheus-text-format', 'prom2javascript'].map(load);
  const count = (lists) => lists.reduce((sum, list) => sum + list.length, 0);
  return {
    'parse-prometheus-text-format': first && ((text) => count((first.default ?? first)(text).map(({ metrics }) => metrics))),
    prom2javascript:
      second &&
      (async (text) => count(Object.values(await second.getMetricsFromIterator(text.split('\n')[Symbol.iterator]())).map(({ data }) => data))),
  };
}

/** MB/s of `parse` over bodies of one target in turn, for about `ms`. */
async function speed(parse, bodies, ms) {
  const startedMs = performance.now();
  let bytes = 0;
  for (let i = 0; performance.now() - startedMs < ms; i = (i + 1) % bodies.length) {
    await parse(i);
    bytes += bodies[i].length;
  }
  return bytes / 1e3 / (performance.now() - startedMs);
}

/** A few bodies of one target, a moment apart: its values move. */
async function scrapes(body) {
  const texts = [];
  for (let i = 0; i < 4; i += 1) {
    texts.push(await body());
    await sleep(300);
  }
  return texts;
}

await bench('parse', async ({ pick, say, rows, note }) => {
  const [repetitions, ms] = pick([9, 1_000], [5, 500], [5, 60]);
  const bodies = { 'node_exporter, made': await scrapes(() => nodeBody(1)), 'dcgm-exporter, made': await scrapes(() => gpuBody(1)) };
  const real = await realBodies();
  if (real) bodies["node_exporter, this machine's"] = real;
  else rows.push(skipped("node_exporter, this machine's", 'a body', `${NODE_EXPORTER} is not installed`));
  const parsers = npmParsers();
  const options = { format: 'text', isComplete: true };
  for (const [name, texts] of Object.entries(bodies)) {
    const bytes = texts.map((text) => Buffer.from(text));
    // As a service reads a target that it has scraped before, and as it reads one for the first time.
    const reader = (wanted, again) => {
      const memory = again ? { memory: new SeriesMemory() } : {};
      return (i) => parseExposition(bytes[i], { ...options, wanted, ...memory });
    };
    const ways = {
      wanted: reader(WANTED_NAMES, true),
      all: reader(null, true),
      'wanted, first': reader(WANTED_NAMES, false),
      'all, first': reader(null, false),
    };
    const size = `${name}, ${(bytes[0].length / 1e3).toFixed(0)} KB`;
    const found = [`${ways.wanted(0).sampleCount} wanted`, `${ways.all(0).sampleCount} of all`];
    for (const [peer, parse] of Object.entries(parsers)) {
      if (!parse) rows.push(skipped(size, peer, 'not installed (npm ci)'));
      else found.push(`${await parse(texts[0])} by ${peer}`);
    }
    note(`Series in ${size}: ${found.join(', ')}.`);
    const here = Object.entries(parsers).filter(([, parse]) => parse);
    const all = { ...ways, ...Object.fromEntries(here.map(([peer, parse]) => [peer, (i) => parse(texts[i])])) };
    for (const parse of Object.values(all)) await speed(parse, bytes, ms / 2);
    say(size);
    const speeds = await takeTurns(
      repetitions,
      Object.fromEntries(Object.entries(all).map(([way, parse]) => [way, () => speed(parse, bytes, ms)])),
    );
    for (const [peerName] of here) {
      const peer = speeds[peerName];
      for (const [way, target] of [['wanted', atLeast(20)], ['wanted, first', null], ['all', atLeast(4)], ['all, first', null]]) {
        const what = `${way.split(',')[0]} families of ${size}${way.endsWith('first') ? ', never scraped before' : ''}`;
        rows.push(row({ what, unit: 'MB/s', ours: speeds[way], peer, peerName, target }));
      }
    }
  }
  await againstPrometheus({ pick, say, rows });
});

/**
 * Both scrape the same bodies every second, in turn: who is not measured is stopped meanwhile. Ours makes readings of them;
 * Prometheus stores all.
 */
async function againstPrometheus({ pick, say, rows }) {
  const what = 'whole scrapes, CPU per MB';
  const peerName = 'Prometheus';
  if (lacksPrometheus) {
    rows.push(skipped(what, peerName, lacksPrometheus));
    return;
  }
  const [nodes, repetitions, seconds] = pick([100, 7, 10], [100, 3, 8], [20, 5, 2]);
  const fleet = await startFleet(nodes);
  const targets = fleet.urls.flat();
  const reader = start(process.execPath, [`${import.meta.dirname}/scrape-loop.mjs`], { stdio: ['pipe', 'pipe', 'inherit'] });
  reader.child.stdin.end(JSON.stringify(targets));
  await until('the first scrape', () => reader.said().includes('scraped'), { program: reader });
  reader.child.kill('SIGSTOP');
  const prometheus = await startPrometheus({ jobs: [{ job: 'fleet', urls: targets }], interval: '1s' });
  await sleep(3_000);
  prometheus.child.kill('SIGSTOP');
  const measure = async ({ child, pid }, who) => {
    child.kill('SIGCONT');
    // What was under way when it was stopped fails, and is over by then.
    await sleep(1_200);
    const [cpuMs, bytes] = [cpuMsOf(pid), await fleet.sentTo(who)];
    await sleep(seconds * 1_000);
    const [cpuEndMs, endBytes] = [cpuMsOf(pid), await fleet.sentTo(who)];
    child.kill('SIGSTOP');
    return ((cpuEndMs - cpuMs) * 1e6) / (endBytes - bytes);
  };
  const used = await takeTurns(
    repetitions,
    { ours: () => measure(reader, 'vsf-safety'), [peerName]: () => measure(prometheus, peerName) },
    say,
  );
  for (const program of [reader, prometheus, fleet]) await program.stop();
  rows.push(row({ what, unit: 'ms/MB', ours: used.ours, peer: used[peerName], peerName, target: atMost(0.5) }));
}
