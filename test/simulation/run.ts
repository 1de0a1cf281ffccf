// `npm run simulate`: worlds by the thousand, on as many processes as there are cores (--workers N). --seeds N [--from S],
// or --seed S for one with its whole log; --minutes M ends after that time whatever is left; --nightly runs long worlds
// until a machine-century is through or three hours are; --results FILE keeps the sum, and --add-to FILE goes on after the
// worlds whose sum FILE holds, with those first that broke a rule. Exit 1 when a rule was broken, or when something never came up that should have.
import { fork } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import {
  addOutcome,
  addTotals,
  describeCounts,
  describeFailure,
  describeTotals,
  neverOccurred,
  noTotals,
  type Totals,
  takeFailures,
} from './report.ts';
import { shrink } from './shrink.ts';
import { type MixName, storyOf } from './story.ts';
import { runWorld } from './world.ts';

const MACHINE_YEAR_HOURS = 8_760;
/** Most of what a step makes is garbage at the next: with room for many steps little of it is ever looked at. */
const YOUNG_MIB = 64;
/** A failing world is run anew for so long, to find a shorter one. */
const SHRINKS_FOR_S = 180;
/** With fewer worlds than this a fault may well not come up. */
const ENOUGH_WORLDS = 200;

interface Job {
  readonly seed: number;
  readonly mix: MixName;
}

function work(): void {
  process.on('message', async ({ seed, mix }: Job) => {
    const before = process.cpuUsage();
    const totals = noTotals();
    const story = storyOf(seed, mix);
    const outcome = await runWorld(story);
    const { user, system } = process.cpuUsage(before);
    addOutcome(totals, outcome, story.kind, (user + system) / 1e6);
    process.send?.(totals);
  });
}

/** A run, or one of the runs that a sum is of. */
interface Part {
  readonly on: string;
  readonly fromSeed: number;
  readonly worlds: number;
  readonly nodeHours: number;
  readonly workers: number;
  readonly wallSeconds: number;
  readonly cpuSeconds: number;
}

/** What a file of results holds. */
interface Results {
  readonly mix: MixName;
  readonly parts: readonly Part[];
  /** The first one that was not run. */
  readonly nextSeed: number;
  /** The sum in words. */
  readonly table: Readonly<Record<string, string>>;
  readonly totals: Totals;
}

/** The results in `file`, of worlds of `mix`; null where there is no such file yet. */
function readResults(file: string, mix: MixName): Results | null {
  if (!existsSync(file)) return null;
  const results = JSON.parse(readFileSync(file, 'utf8')) as Results;
  if (results.mix !== mix)
    throw new Error(`--add-to ${file}: it holds worlds of the mix "${results.mix}", not "${mix}"`);
  return results;
}

function keepResults(file: string, { mix, parts, nextSeed, totals }: Omit<Results, 'table'>): void {
  // The kinds of worlds, each in a line under the CPU time, are told apart in the totals.
  const lines = describeTotals(totals, wallSecondsOf(parts)).filter((line) => !line.startsWith(' '));
  const table = Object.fromEntries(lines.map((line) => line.split(/ {2,}/) as [string, string]));
  writeFileSync(file, `${JSON.stringify({ mix, parts, nextSeed, table, totals } satisfies Results, null, 2)}\n`);
}

const wallSecondsOf = (parts: readonly Part[]): number => parts.reduce((sum, { wallSeconds }) => sum + wallSeconds, 0);

/** Runs worlds and adds them to `sum`. */
async function runMany(options: {
  readonly sum: Totals;
  readonly workers: number;
  /** Seeds that are run before all others. */
  readonly again: readonly number[];
  readonly from: number;
  readonly count: number;
  readonly untilHours: number;
  readonly minutes: number;
  readonly mix: MixName;
}): Promise<{ readonly part: Part; readonly nextSeed: number }> {
  const startedAt = performance.now();
  const passedS = (): number => (performance.now() - startedAt) / 1000;
  const { sum } = options;
  const before = { ...sum };
  const again = [...options.again];
  let next = options.from;
  let toldAtS = 0;
  const end = options.from + options.count;
  const isOver = (): boolean => next >= end || passedS() > options.minutes * 60 || sum.nodeHours >= options.untilHours;
  await Promise.all(
    Array.from({ length: options.workers }, () => {
      const execArgv = [...process.execArgv, `--max-semi-space-size=${YOUNG_MIB}`];
      const worker = fork(fileURLToPath(import.meta.url), ['--worker'], { execArgv });
      return new Promise<void>((resolve, reject) => {
        const hand = (): void => {
          const seed = again.shift() ?? (isOver() ? null : next++);
          if (seed !== null) worker.send({ seed, mix: options.mix } satisfies Job);
          else {
            worker.disconnect();
            resolve();
          }
        };
        worker.on('message', (totals: Totals) => {
          addTotals(sum, totals);
          for (const { seed, rule, detail } of totals.failedSeeds)
            console.log(`seed ${seed} FAILED: ${rule}: ${detail}`);
          if (passedS() - toldAtS > 20) {
            toldAtS = passedS();
            console.log(
              `${toldAtS.toFixed(0)} s: ${sum.worlds} worlds, ${sum.nodeHours.toFixed(0)} node-hours, ${sum.failedSeeds.length} failed`,
            );
          }
          hand();
        });
        worker.on('error', reject);
        worker.on('exit', (code) => (code ? reject(new Error(`A worker ended with ${code}`)) : resolve()));
        hand();
      });
    }),
  );
  const part = {
    on: new Date().toISOString().slice(0, 10),
    fromSeed: options.from,
    worlds: sum.worlds - before.worlds,
    nodeHours: sum.nodeHours - before.nodeHours,
    workers: options.workers,
    wallSeconds: passedS(),
    cpuSeconds: sum.cpuSeconds - before.cpuSeconds,
  };
  return { part, nextSeed: next };
}

async function runOne(seed: number, mix: MixName, isQuiet: boolean): Promise<number> {
  const story = storyOf(seed, mix);
  const startedAt = performance.now();
  const outcome = await runWorld(story, isQuiet ? null : console.log);
  const tookS = (performance.now() - startedAt) / 1000;
  console.log(
    `seed ${seed}: digest ${outcome.digest}, ${outcome.nodeHours.toFixed(2)} node-hours, ${outcome.steps} steps`,
  );
  if (!outcome.violation) return 0;
  console.log('shrinking …');
  const short = await shrink(story, outcome, Math.min(120, Math.ceil(SHRINKS_FOR_S / tookS)));
  console.log(describeFailure(short.story, short.outcome, mix).join('\n'));
  return 1;
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      worker: { type: 'boolean' },
      seeds: { type: 'string', default: '1000' },
      from: { type: 'string', default: '1' },
      seed: { type: 'string' },
      quiet: { type: 'boolean', default: false },
      minutes: { type: 'string' },
      nightly: { type: 'boolean', default: false },
      results: { type: 'string' },
      'add-to': { type: 'string' },
      workers: { type: 'string', default: String(availableParallelism()) },
    },
  });
  if (values.worker) {
    work();
    return -1;
  }
  const { nightly } = values;
  const mix = nightly ? 'long' : 'many';
  if (values.seed !== undefined) return runOne(Number(values.seed), mix, values.quiet);
  const addTo = values['add-to'];
  const earlier = addTo === undefined ? null : readResults(addTo, mix);
  const totals = earlier?.totals ?? noTotals();
  const { part, nextSeed } = await runMany({
    sum: totals,
    workers: Number(values.workers),
    again: takeFailures(totals),
    from: earlier?.nextSeed ?? Number(values.from),
    count: nightly ? Number.POSITIVE_INFINITY : Number(values.seeds),
    untilHours: nightly ? 100 * MACHINE_YEAR_HOURS : Number.POSITIVE_INFINITY,
    mix,
    minutes: values.minutes === undefined ? (nightly ? 175 : Number.POSITIVE_INFINITY) : Number(values.minutes),
  });
  const parts = [...(earlier?.parts ?? []), part];
  console.log(describeCounts(totals).join('\n'));
  console.log(describeTotals(totals, wallSecondsOf(parts)).join('\n'));
  const file = addTo ?? values.results;
  if (file !== undefined) keepResults(file, { mix, parts, nextSeed, totals });
  const [first] = totals.failedSeeds;
  if (first) await runOne(first.seed, mix, true);
  const isWanting = totals.worlds >= ENOUGH_WORLDS && neverOccurred(totals).length > 0;
  return first || isWanting ? 1 : 0;
}

const code = await main();
if (code >= 0) process.exitCode = code;
