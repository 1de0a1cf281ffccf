// Runs compiled test files, each in a process of its own, and ends with a plain line "N passed, N failed".
// The tests are tap's; its own runner is not used, since its loaders cost every file two seconds of CPU, and there are
// two hundred. Two lanes run what starts services and control planes and mostly waits; three of these at a time missed
// their times. What CPU they leave, a third lane of low priority spends on files that wait for nothing real.
import { spawn } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { constants, setPriority } from 'node:os';
import { relative } from 'node:path';

const REPORT = '.tap/report.tap';
const FILE_TIMEOUT_MS = 900_000;
/** Most output that is kept of one file. */
const MOST_BYTES = 64 * 2 ** 20;
const SLOW = /\/(end-to-end|clients|dashboard|kubernetes)\//;
/** On simulated time, or none at all: they may take as long as they are let. */
const PATIENT = /\/(domain|simulation)\/|-fuzz\./;

const files = process.argv.slice(2);
const slow = files.filter((file) => SLOW.test(file));
const patient = files.filter((file) => PATIENT.test(file));
const quick = files.filter((file) => !SLOW.test(file) && !PATIENT.test(file));
await mkdir('.tap', { recursive: true });
const report = createWriteStream(REPORT);
const totals = { passed: 0, failed: 0, skipped: 0 };
const skips = [];
const failures = [];
let done = 0;

/** What a file printed, and how it ended. */
function run(file, priority) {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ['--enable-source-maps', file], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, TAP_TIMEOUT: String(FILE_TIMEOUT_MS / 1_000) },
    });
    if (child.pid !== undefined) setPriority(child.pid, priority);
    const chunks = { out: [], err: [] };
    let bytes = 0;
    const keep = (name) => (chunk) => {
      bytes += chunk.length;
      if (bytes <= MOST_BYTES) chunks[name].push(chunk);
    };
    child.stdout.on('data', keep('out'));
    child.stderr.on('data', keep('err'));
    const timer = setTimeout(() => child.kill('SIGKILL'), FILE_TIMEOUT_MS + 5_000);
    const end = (how) => {
      clearTimeout(timer);
      const text = (name) => Buffer.concat(chunks[name]).toString();
      resolve({ how, out: text('out'), err: text('err') });
    };
    child.on('error', (error) => end(error.message));
    // `close` would wait for whatever a test left behind with our pipes in its hands.
    child.on('exit', (code, signal) => setTimeout(end, 50, code === 0 ? null : (signal ?? `exit ${code}`)));
  });
}

const countIn = (summary, name) => Number(new RegExp(`\\b${name}: (\\d+)`).exec(summary)?.[1] ?? 0);

function take(file, { how, out, err }, seconds) {
  const name = relative('.test-build', file);
  const summary = [...out.matchAll(/^# (\{ total: .*\})$/gm)].at(-1)?.[1] ?? '';
  const [total, fail, skip] = [
    countIn(summary, 'total'),
    countIn(summary, 'fail'),
    countIn(summary, 'skip') + countIn(summary, 'todo'),
  ];
  // One that ended badly without saying what failed, or said nothing at all, has failed all the same.
  const failed = Math.max(fail, how !== null || total === 0 ? 1 : 0);
  totals.passed += Math.max(0, total - fail - skip);
  totals.failed += failed;
  totals.skipped += skip;
  for (const [line] of out.matchAll(/^ *ok .*# (SKIP|TODO).*$/gm)) skips.push(`${name}: ${line.trim()}`);
  if (failed > 0) failures.push(name);
  done += 1;
  const verdict = failed > 0 ? `FAILED (${failed} of ${total}${how === null ? '' : `, ${how}`})` : `${total} ok`;
  console.log(
    `[${String(done).padStart(String(files.length).length)}/${files.length}] ${name}  ${verdict}  ${seconds} s`,
  );
  // What is green in a file that failed is in the report.
  if (failed > 0) console.log(`${out.replace(/^ *ok .*\n/gm, '')}\n${err}`);
  report.write(`# File: ${name}\n${out}\n`);
}

async function lane(priority, next) {
  for (let file = next(); file !== undefined; file = next()) {
    const startedMs = performance.now();
    const ended = await run(file, priority);
    take(file, ended, ((performance.now() - startedMs) / 1_000).toFixed(1));
  }
}

const { PRIORITY_NORMAL, PRIORITY_LOW } = constants.priority;
await Promise.all([
  // One from each end, so that two slow ones seldom meet.
  lane(PRIORITY_NORMAL, () => slow.shift() ?? quick.shift() ?? patient.shift()),
  lane(PRIORITY_NORMAL, () => quick.shift() ?? slow.shift() ?? patient.shift()),
  lane(PRIORITY_LOW, () => patient.shift()),
]);
await new Promise((resolve) => report.end(resolve));
console.log('');
for (const line of skips) console.log(line);
if (failures.length > 0) console.log(`Failed: ${failures.join(', ')} (all output: ${REPORT})`);
const { passed, failed, skipped } = totals;
if (passed + failed === 0) console.log('No test ran');
console.log(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`);
process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
