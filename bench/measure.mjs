// What all benches share: repetitions that take turns, medians with their spread, ratios, what a process has used, and
// programs that do not outlive the bench. Each bench is a file that calls `bench` with what it does; run.mjs runs several.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { cpus, loadavg, release, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

export const ROOT = join(import.meta.dirname, '..');
export const MAIN = join(ROOT, 'dist/bundle/main.js');

/** Median, quartiles and ends of some repetitions. */
export function summaryOf(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share) => {
    const place = (sorted.length - 1) * share;
    const [low, high] = [sorted[Math.floor(place)], sorted[Math.ceil(place)]];
    return low + (high - low) * (place % 1);
  };
  return { median: at(0.5), low: at(0.25), high: at(0.75), min: sorted[0], max: sorted.at(-1), count: sorted.length };
}

/** The value that `share` of the values do not exceed. */
export const quantile = (values, share) => [...values].sort((a, b) => a - b)[Math.floor((values.length - 1) * share)];

/** Each repetition runs all `ways` once, in turn (A B A B …), so that what the machine does beside is shared by all. */
export async function takeTurns(repetitions, ways, say = () => undefined) {
  const values = Object.fromEntries(Object.keys(ways).map((name) => [name, []]));
  for (let turn = 1; turn <= repetitions; turn += 1) {
    for (const [name, work] of Object.entries(ways)) {
      values[name].push(await work(turn));
      say(`${name}, ${turn} of ${repetitions}`);
    }
  }
  return values;
}

/**
 * One line of the result. `ours` and `peer` are lists of the same length, by repetition; the ratio is ours ÷ peer of each
 * pair. Where chance decides most of each value (`byMedians`), it is that of the medians, and its spread that of the
 * quartiles against each other. `target` is made by {@link atMost} and its kin.
 */
export function row({ what, unit, ours, peer = null, peerName = '', target = null, byMedians = false }) {
  const summaries = { ours: summaryOf(ours), peer: peer && summaryOf(peer), ratio: null };
  if (peer) {
    summaries.ratio = byMedians
      ? ratioOfMedians(summaries.ours, summaries.peer)
      : summaryOf(peer.map((value, i) => ours[i] / value));
  }
  return { what, unit, peerName, ...summaries, target: target?.text ?? '', isMet: target?.holds(summaries) ?? null };
}

const ratioOfMedians = (ours, peer) => ({
  median: ours.median / peer.median,
  min: ours.low / peer.high,
  max: ours.high / peer.low,
});

/** A peer that is not here, said in the table. */
export const skipped = (what, peerName, why) => ({ what, peerName, skipped: why });

export const atMost = (ratio) => ({ text: `≤ ${ratio} ×`, holds: (found) => found.ratio.median <= ratio });
export const atLeast = (ratio) => ({ text: `≥ ${ratio} ×`, holds: (found) => found.ratio.median >= ratio });
export const below = (value, unit) => ({ text: `< ${value} ${unit}`, holds: (found) => found.ours.median < value });

const figure = (value) => {
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  if (size >= 100) return Math.round(value).toLocaleString('en');
  return value.toFixed(size >= 10 ? 1 : size >= 1 ? 2 : 3);
};
const spread = (found, unit = '') =>
  found ? `${figure(found.median)}${unit} (${figure(found.min)}–${figure(found.max)})` : '';

const HEAD = ['what', 'ours', 'peer', 'peer is', 'ours ÷ peer', 'target', 'met', 'n'];

/** Rows as a Markdown table, which is readable in a terminal, too. */
export function table(rows) {
  const cells = rows.map((one) =>
    one.skipped
      ? [one.what, '', '', one.peerName, `skipped: ${one.skipped}`, '', '', '']
      : [
          one.what,
          `${spread(one.ours)} ${one.unit}`,
          one.peer ? `${spread(one.peer)} ${one.unit}` : '',
          one.peerName,
          one.ratio ? spread(one.ratio, ' ×') : '',
          one.target,
          one.isMet === null ? '' : one.isMet ? 'yes' : 'NO',
          `${one.ours.count}`,
        ],
  );
  const widths = HEAD.map((title, i) => Math.max(title.length, ...cells.map((line) => line[i].length)));
  const line = (texts) => `| ${texts.map((text, i) => text.padEnd(widths[i])).join(' | ')} |`;
  return [line(HEAD), line(widths.map((width) => '-'.repeat(width))), ...cells.map(line)].join('\n');
}

/** The machine in general terms, and how busy it was. */
export function machine() {
  const processors = cpus();
  const model = processors[0]?.model.trim().replace(/\s+/g, ' ') ?? 'unknown processor';
  return {
    text: `${processors.length} cores (${model}), ${Math.round(totalmem() / 2 ** 30)} GiB, Linux ${release().split('.').slice(0, 2).join('.')}, Node ${process.version}`,
    load: loadavg()[0],
  };
}

// --- programs ---

export function isInstalled(program) {
  try {
    accessSync(program, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

const running = new Set();
const folders = new Set();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
  for (const folder of folders) rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => process.exit(1));

/** A folder that is gone with the bench. */
export function freshFolder() {
  const folder = mkdtempSync(join(tmpdir(), 'vsf-bench-'));
  folders.add(folder);
  return folder;
}

/** A loopback port that nobody listened on a moment ago. */
export async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

/** Starts a program that ends with this one; `said()` is the end of what it wrote. */
export function start(command, args, options = {}) {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
  let text = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8').on('data', (chunk) => {
      text = (text + chunk).slice(-20_000);
    });
  }
  running.add(child);
  const ended = once(child, 'exit').finally(() => running.delete(child));
  const stop = async (signal = 'SIGKILL') => {
    if (child.exitCode === null && child.signalCode === null) child.kill(signal);
    await ended;
  };
  return { child, pid: child.pid, said: () => text, ended, stop };
}

/** Asks again until `ask` gives something, which is given. Throws with `said()` when the program has ended. */
export async function until(what, ask, { withinMs = 60_000, everyMs = 20, program } = {}) {
  const startedMs = performance.now();
  for (;;) {
    const found = await (async () => ask())().catch(() => null);
    if (found) return found;
    const hasEnded = program && (program.child.exitCode !== null || program.child.signalCode !== null);
    if (hasEnded || performance.now() - startedMs > withinMs) {
      throw new Error(`${what} did not come about: ${program?.said() ?? ''}`);
    }
    await sleep(everyMs);
  }
}

export async function isAnswered(url) {
  const answer = await fetch(url);
  await answer.arrayBuffer();
  return answer.status === 200;
}

// --- what a process has used ---

/** The kernel's clock ticks a second, as /proc counts CPU; 100 on every Linux of today. */
const TICKS = 100;

/** CPU of all threads of a process so far, ms; in steps of 10. */
export function cpuMsOf(pid) {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // After the name, which may hold blanks and brackets.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return ((Number(fields[11]) + Number(fields[12])) * 1000) / TICKS;
}

/** Memory of a process that is really there, MiB. */
export function rssMiBOf(pid) {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))[1]) / 1024;
}

// --- a bench ---

/**
 * Runs a bench. With `--quick` each is small enough to be tried in seconds, and its figures mean little; with `--brief` it
 * does the same work as the whole, a few times. `work` gives rows and, for people, notes. Alone it prints its table; under
 * run.mjs it hands it over.
 */
export async function bench(title, work) {
  const quick = process.argv.includes('--quick');
  const pick = (whole, brief, least) => (quick ? least : process.argv.includes('--brief') ? brief : whole);
  const notes = [];
  const say = (text) => process.stderr.write(`  ${text}\n`);
  const rows = [];
  try {
    await work({ pick, say, rows, note: (text) => notes.push(text) });
  } catch (error) {
    // What is kept names no folder of this machine.
    console.error(error);
    notes.push(`**broke off**: ${String(error).slice(0, 1_500)}`);
    process.exitCode = 1;
  }
  if (process.send) await new Promise((done) => process.send({ title, rows, notes }, done));
  else console.log([`${title}${quick ? ' (quick: figures mean little)' : ''}`, table(rows), ...notes].join('\n\n'));
  process.exit();
}
