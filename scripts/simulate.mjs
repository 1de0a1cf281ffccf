// Bundles the simulation and runs it: `npm run simulate -- --seeds 1000`. A bundle starts in a second where a compile of
// all tests takes minutes. What it takes is in test/simulation/run.ts. Two more things are here, since they change the
// product's text on its way into the bundle: `--planted` plants each fault of planted-faults.mjs and runs the world that
// finds it; `--hunt N` looks for such worlds among the first N.
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { build, context } from 'esbuild';
import { PLANTED } from './planted-faults.mjs';

const FOLDER = 'dist/simulation';

const bundled = (entry, outfile) => ({
  entryPoints: [entry],
  outfile,
  bundle: true,
  platform: 'node',
  format: 'esm',
  packages: 'external',
  logLevel: 'warning',
});

/** The fault that is planted now. */
let planted = null;

/** Changes the text of files as they are bundled; each change must find its place exactly once. */
const planter = {
  name: 'plant',
  setup({ onLoad }) {
    onLoad({ filter: /\/src\/.*\.ts$/ }, ({ path }) => {
      const { name, also, ...first } = planted;
      const changes = [first, ...(also ? [also] : [])].filter(({ file }) => resolve(file) === path);
      if (changes.length === 0) return undefined;
      let text = readFileSync(path, 'utf8');
      for (const { search, replace } of changes) {
        const parts = text.split(search);
        if (parts.length !== 2) throw new Error(`"${name}": its place is in ${path} ${parts.length - 1} times`);
        text = parts.join(replace);
      }
      return { contents: text, loader: 'ts' };
    });
  },
};

/** Worlds with the fault, one after the other, until one finds it. */
async function plant(bundler, fault, index, seeds) {
  planted = fault;
  const { outputFiles } = await bundler.rebuild();
  const outfile = `${FOLDER}/planted-${index}.mjs`;
  writeFileSync(outfile, outputFiles[0].contents);
  const { KEPT_STORIES, runWorld, storyOf } = await import(pathToFileURL(resolve(outfile)).href);
  for (const seed of seeds) {
    const { violation } = await runWorld(typeof seed === 'string' ? KEPT_STORIES[seed] : storyOf(seed));
    if (violation) return { seed, violation };
  }
  return null;
}

async function plantAll(hunted, only) {
  let missed = 0;
  mkdirSync(FOLDER, { recursive: true });
  const options = {
    ...bundled('test/simulation/worlds.ts', `${FOLDER}/planted.mjs`),
    write: false,
    plugins: [planter],
  };
  const bundler = await context(options);
  for (const [index, fault] of PLANTED.entries()) {
    if (only !== undefined && !fault.name.includes(only)) continue;
    const seeds = hunted ? Array.from({ length: hunted }, (_, at) => at + 1) : [fault.story ?? fault.seed];
    const found = await plant(bundler, fault, index, seeds);
    if (!found) missed += 1;
    const how = found
      ? `${fault.story && !hunted ? 'the story of' : 'seed'} ${found.seed}: ${found.violation.rule}: ${found.violation.detail.slice(0, 110)}`
      : 'NOT FOUND';
    console.log(`${fault.name}\n    ${how}`);
  }
  await bundler.dispose();
  return missed === 0 ? 0 : 1;
}

const args = process.argv.slice(2);
const valueAfter = (flag) => (args.includes(flag) ? args[args.indexOf(flag) + 1] : undefined);
if (args.includes('--planted')) process.exitCode = await plantAll(0, valueAfter('--only'));
else if (args.includes('--hunt')) process.exitCode = await plantAll(Number(valueAfter('--hunt')), valueAfter('--only'));
else {
  await build({ ...bundled('test/simulation/run.ts', `${FOLDER}/run.mjs`), sourcemap: 'inline' });
  const { status } = spawnSync(process.execPath, ['--enable-source-maps', `${FOLDER}/run.mjs`, ...args], {
    stdio: 'inherit',
  });
  process.exitCode = status ?? 1;
}
