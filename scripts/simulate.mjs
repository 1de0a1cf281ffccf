// Bundles the simulation and runs it: `npm run simulate -- --seeds 1000`. A bundle starts in a second where a compile of
// all tests takes minutes. What it takes is in test/simulation/run.ts. Two more things are here, since they change the
// product's text on its way into the bundle: `--planted` plants each fault of planted-faults.mjs and runs the world that
// finds it; `--hunt N` looks for such worlds among the first N.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { build } from 'esbuild';
import { PLANTED } from './planted-faults.mjs';

const FOLDER = 'dist/simulation';

async function bundle(entry, outfile, plugins = []) {
  await build({
    entryPoints: [entry],
    outfile,
    bundle: true,
    platform: 'node',
    format: 'esm',
    packages: 'external',
    sourcemap: 'inline',
    logLevel: 'warning',
    plugins,
  });
}

/** Changes the text of files as they are bundled; each change must find its place exactly once. */
const planter = ({ name, file, search, replace, also }) => ({
  name: 'plant',
  setup({ onLoad }) {
    const changes = [{ file, search, replace }, ...(also ? [also] : [])];
    for (const each of new Set(changes.map((change) => change.file))) {
      const path = resolve(each);
      onLoad({ filter: new RegExp(`${path.replaceAll('/', '\\/').replaceAll('.', '\\.')}$`) }, () => {
        let text = readFileSync(path, 'utf8');
        for (const change of changes.filter((one) => one.file === each)) {
          const parts = text.split(change.search);
          if (parts.length !== 2) throw new Error(`"${name}": its place is in ${each} ${parts.length - 1} times`);
          text = parts.join(change.replace);
        }
        return { contents: text, loader: 'ts' };
      });
    }
  },
});

/** Worlds with the fault, from `from` on, until one finds it. */
async function plant(fault, index, seeds) {
  const outfile = `${FOLDER}/planted-${index}.mjs`;
  await bundle('test/simulation/worlds.ts', outfile, [planter(fault)]);
  const { KEPT_STORIES, runWorld, storyOf } = await import(pathToFileURL(resolve(outfile)).href);
  for (const seed of seeds) {
    const { violation } = await runWorld(typeof seed === 'string' ? KEPT_STORIES[seed] : storyOf(seed));
    if (violation) return { seed, violation };
  }
  return null;
}

async function plantAll(hunted, only) {
  let missed = 0;
  for (const [index, fault] of PLANTED.entries()) {
    if (only !== undefined && !fault.name.includes(only)) continue;
    const seeds = hunted ? Array.from({ length: hunted }, (_, at) => at + 1) : [fault.story ?? fault.seed];
    const found = await plant(fault, index, seeds);
    if (!found) missed += 1;
    const how = found
      ? `${fault.story && !hunted ? 'the story of' : 'seed'} ${found.seed}: ${found.violation.rule}: ${found.violation.detail.slice(0, 110)}`
      : 'NOT FOUND';
    console.log(`${fault.name}\n    ${how}`);
  }
  return missed === 0 ? 0 : 1;
}

const args = process.argv.slice(2);
const valueAfter = (flag) => (args.includes(flag) ? args[args.indexOf(flag) + 1] : undefined);
if (args.includes('--planted')) process.exitCode = await plantAll(0, valueAfter('--only'));
else if (args.includes('--hunt')) process.exitCode = await plantAll(Number(valueAfter('--hunt')), valueAfter('--only'));
else {
  await bundle('test/simulation/run.ts', `${FOLDER}/run.mjs`);
  const { status } = spawnSync(process.execPath, ['--enable-source-maps', `${FOLDER}/run.mjs`, ...args], {
    stdio: 'inherit',
  });
  process.exitCode = status ?? 1;
}
