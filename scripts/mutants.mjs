// Mutation tests: `npm run mutants` changes the code in one small place after the other (a `<` into a `<=`, a condition into
// `true`, a block into nothing) and looks whether a unit test fails. `npm run mutants -- src/domain/interlock.ts` does so for
// some files, and `src/domain/interlock.ts:40-60` for some lines. What is left standing is printed, and counted per file.
//
// Stryker makes the changes, all at once and each behind a switch; scripts/mutants-plugin.mjs runs the tests. These are
// bundled once, so that neither a change nor a test file has to be compiled again: a change costs some 0.1 s.
import { mkdirSync, readdirSync } from 'node:fs';
import { constants, setPriority } from 'node:os';
import { Stryker } from '@stryker-mutator/core';
import { build } from 'esbuild';
import { BUNDLE } from './mutants-plugin.mjs';

/** What decides. The rest of the product is edges, which tests reach by running it. */
const MUTATED = [
  'src/domain/*.ts',
  'src/supervisor.ts',
  'src/journal*.ts',
  'src/sources/exposition*.ts',
  'src/sources/*series*.ts',
];
/** The tests that need neither another process nor the network, and nothing by chance: that is no rule that a test states. */
const TESTS =
  /^(domain\/(?!random-).*|supervisor|journal(-file|-crashes)?|sources\/(exposition(-suites)?|.*series.*|gpu-unnamed))\.test\.ts$/;
const FOLDER = '.tap/mutants';

/** One file of all tests and all that they import of ours; it gives, by name, what loads a test file. */
async function bundle() {
  const files = readdirSync('test', { recursive: true }).filter((file) => TESTS.test(file));
  const loaders = files.map((file) => `${JSON.stringify(file)}: () => require(${JSON.stringify(`./test/${file}`)}),`);
  await build({
    stdin: { contents: `module.exports = {\n${loaders.join('\n')}\n};`, resolveDir: '.', loader: 'js' },
    outfile: BUNDLE,
    bundle: true,
    platform: 'node',
    format: 'cjs',
    target: 'node20',
    packages: 'external',
    logLevel: 'warning',
  });
}

async function mutate(asked) {
  setPriority(constants.priority.PRIORITY_BELOW_NORMAL);
  mkdirSync(FOLDER, { recursive: true });
  const results = await new Stryker({
    mutate: asked.length > 0 ? asked : MUTATED,
    buildCommand: 'node scripts/mutants.mjs --bundle',
    plugins: [new URL('mutants-plugin.mjs', import.meta.url).href],
    testRunner: 'bundled-tap',
    ignorers: ['words'],
    // A name, a record or a list replaced by an empty one is refused by the compiler nearly everywhere.
    mutator: { excludedMutations: ['StringLiteral', 'ObjectLiteral', 'ArrayDeclaration'] },
    ignorePatterns: ['/*', '!/src', '!/test', '!/scripts', '!/package.json', '!/tsconfig.json'],
    tempDirName: FOLDER,
    coverageAnalysis: 'perTest',
    concurrency: 2,
    timeoutMS: 3_000,
    timeoutFactor: 3,
    disableTypeChecks: false,
    allowConsoleColors: false,
    reporters: ['survivors', 'progress-append-only', 'clear-text', 'json', 'html'],
    clearTextReporter: { allowColor: false, allowEmojis: false, reportTests: false, logTests: false },
    jsonReporter: { fileName: `${FOLDER}/report.json` },
    htmlReporter: { fileName: `${FOLDER}/report.html` },
  }).runMutationTest();
  if (results.length === 0) process.exitCode = 1;
}

const args = process.argv.slice(2);
if (args[0] === '--bundle') await bundle();
else await mutate(args);
