// `npm run bench [-- NAMES] [-- --brief|--quick] [-- --write]`: runs all benches or those named, each in a process of its own, prints
// one table for each, and with `--write` puts them into RESULTS.md beside this file, in place of what stood there of the same.
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { join } from 'node:path';
import { MAIN, machine, ROOT, table } from './measure.mjs';

/** By name, in the order in which they run: what takes long comes last. */
const BENCHES = {
  parse: 'parse.mjs',
  evaluate: 'evaluate.mjs',
  start: 'start.mjs',
  run: 'run-overhead.mjs',
  'fan-out': 'fan-out.mjs',
  HTTP: 'http.mjs',
  reaction: 'reaction.mjs',
  stop: 'stop.mjs',
  scale: 'scale.mjs',
};
/** Load by others at the start, in processes that wish to run, above which the figures are worth little. */
const BUSY_FROM = 0.5;

const options = process.argv.slice(2).filter((arg) => arg.startsWith('-') && arg !== '--');
const asked = process.argv.slice(2).filter((arg) => !arg.startsWith('-'));
const known = Object.keys(BENCHES);
const names = asked.length === 0 ? known : known.filter((name) => asked.some((one) => one.toLowerCase() === name.toLowerCase()));
const wrong = [
  ...options.filter((option) => !['--brief', '--quick', '--write'].includes(option)),
  ...asked.filter((one) => !known.some((name) => name.toLowerCase() === one.toLowerCase())),
];
if (wrong.length > 0) {
  console.error(`Cannot run ${wrong.join(', ')}. Usage: npm run bench [-- ${known.join('|')} …] [-- --brief|--quick] [-- --write]`);
  process.exit(2);
}
const quick = options.includes('--quick');
const sizes = options.filter((option) => option !== '--write');
if (!existsSync(MAIN)) {
  console.error('Cannot find dist/bundle/main.js: npm run build');
  process.exit(1);
}

const RESULTS = join(import.meta.dirname, 'RESULTS.md');
const { text, load } = machine();
const warnings = [
  ...(options.includes('--brief') ? ['`--brief`: the same work as the whole, fewer times.'] : []),
  ...(quick ? ['`--quick`: too small and too short to mean anything; it only shows that the benches run.'] : []),
  ...(load > BUSY_FROM ? [`The machine was busy with other work (load ${load.toFixed(1)} before the start): times are too long, and ratios are only as good as their spread.`] : []),
];
const sections = [];
for (const name of names) {
  process.stderr.write(`${name} …\n`);
  const startedMs = performance.now();
  const busy = loadavg()[0];
  const child = fork(join(import.meta.dirname, BENCHES[name]), sizes, { cwd: ROOT });
  let told = { title: name, rows: [], notes: ['**broke off** without a word'] };
  child.on('message', (message) => {
    told = message;
  });
  const [code] = await once(child, 'exit');
  if (code !== 0) process.exitCode = 1;
  const tookS = Math.round((performance.now() - startedMs) / 1_000);
  const how = [new Date().toISOString().slice(0, 10), ...sizes.map((size) => `\`${size}\``), text].join(', ');
  const foot = `${how}. Took ${tookS} s; load before it ${busy.toFixed(1)}.`;
  const section = [`## ${told.title}`, ...(told.rows.length > 0 ? [table(told.rows)] : []), ...told.notes, foot].join('\n\n');
  sections.push(section);
  console.log(`\n${section}\n`);
}

if (options.includes('--write')) {
  const legend = [
    'How to read it: [README.md](README.md). Medians, in brackets the least and the greatest of `n` repetitions. `--brief` is the same',
    'work as the whole, fewer times.',
  ].join('\n');
  const titleOf = (section) => section.slice(0, section.indexOf('\n'));
  // What was not run now stays.
  const before = existsSync(RESULTS) ? readFileSync(RESULTS, 'utf8').split(/\n+(?=## )/).slice(1) : [];
  const kept = new Map([...before, ...sections].map((section) => [titleOf(section), section.trim()]));
  writeFileSync(RESULTS, `${['# Results', legend, ...kept.values()].join('\n\n')}\n`);
}
console.log([text, ...warnings].join('\n'));
