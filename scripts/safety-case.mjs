// Proves the last column of docs/safety-case.md: makes each change of test/fixtures/safety-case-mutants.ts in a copy of the
// compiled tests, and runs the row's first test without it, where it must pass, and with it, where it must fail. Writes what
// came of it into the document. `npm run safety-case` compiles first; `npm run safety-case -- U1 F3` tries some rows only.
import { spawn } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const DOCUMENT = 'docs/safety-case.md';
const BUILT = '.test-build';
/** Below the project, so that its packages are found. */
const COPIES = '.tap/safety-case';
const LANES = 2;
const TIMEOUT_MS = 60_000;

const { MUTANTS } = await import(`../${BUILT}/test/fixtures/safety-case-mutants.js`);
const { namedTestsIn, tableRows } = await import(`../${BUILT}/test/support/named-tests.js`);
const markdown = readFileSync(DOCUMENT, 'utf8');
const proofs = new Map(tableRows(markdown).map((cells) => [cells[0], namedTestsIn(cells.at(-1))[0]]));
const asked = process.argv.slice(2);
const queue = MUTANTS.filter(({ row }) => asked.length === 0 || asked.includes(row));

/** Runs one test of one file; `passed`, `failed`, or why neither can be said. */
function run(folder, { file, title }) {
  const pattern = title
    .split('…')
    .map((part) => part.replace(/[\\/^$.*+?()[\]{}|]/g, '\\$&'))
    .join('.*');
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [join(folder, 'test', file.replace(/\.ts$/, '.js'))], {
      env: { ...process.env, TAP: '1', TAP_GREP: `/^${pattern}$/`, TAP_TIMEOUT: String(TIMEOUT_MS / 2_000) },
      stdio: ['ignore', 'pipe', 'ignore'],
      timeout: TIMEOUT_MS,
      killSignal: 'SIGKILL',
    });
    let out = '';
    child.stdout.setEncoding('utf8').on('data', (text) => {
      out += text;
    });
    child.on('close', (code) => {
      const lines = out.split('\n').filter((line) => /^(not )?ok /.test(line) && !/# SKIP/.test(line));
      const ours = lines.filter((line) => new RegExp(` - ${pattern}( #|$)`).test(unescaped(line)));
      if (ours.length === 0) resolve(`it did not run (exit ${code}): ${out.slice(-300)}`);
      else resolve(ours.some((line) => line.startsWith('not')) ? 'failed' : 'passed');
    });
  });
}

const unescaped = (line) => line.replace(/\\([#\\])/g, '$1');

/** What came of one row; `null` is as it must be. */
async function prove(folder, { row, file, search, replace }) {
  const proof = proofs.get(row);
  if (!proof) return 'the document has no such row, or the row no test';
  const path = join(folder, 'src', file.replace(/\.ts$/, '.js'));
  const before = readFileSync(path, 'utf8');
  if (!before.includes(search)) return `${file} has no ${JSON.stringify(search)}`;
  const without = await run(folder, proof);
  if (without !== 'passed') return `without the change: ${without}`;
  writeFileSync(path, before.replaceAll(search, replace));
  const made = await run(folder, proof);
  writeFileSync(path, before);
  return made === 'failed' ? null : `with the change: ${made}`;
}

const wrong = [];
let done = 0;
async function lane(number) {
  const folder = join(COPIES, String(number));
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  cpSync(BUILT, folder, { recursive: true });
  for (let mutant = queue.shift(); mutant; mutant = queue.shift()) {
    const outcome = await prove(folder, mutant);
    done += 1;
    if (outcome !== null) wrong.push(mutant.row);
    console.log(`${mutant.row.padEnd(4)} ${outcome ?? `fails without its line: ${proofs.get(mutant.row).title}`}`);
  }
}

await Promise.all(Array.from({ length: LANES }, (_, number) => lane(number)));
rmSync(COPIES, { recursive: true, force: true });
console.log(`${done - wrong.length} of ${done}${wrong.length > 0 ? `; not ${wrong.join(', ')}` : ''}`);
if (wrong.length > 0) process.exit(1);
if (asked.length === 0) {
  const day = new Date().toISOString().slice(0, 10);
  const said = `Last run: ${day}, all ${done} changes made their test fail, and each test passed without its change.`;
  writeFileSync(DOCUMENT, markdown.replace(/^Last run: .*$/m, said));
}
