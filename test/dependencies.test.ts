// What the product is made of: the page about it and the bill of materials say what package.json says.
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';

// Tests run compiled, from the project's folder.
const read = (path: string): string => readFileSync(join(process.cwd(), path), 'utf8');
const { dependencies, version } = JSON.parse(read('package.json')) as {
  dependencies: Record<string, string>;
  version: string;
};

/** `| [`name`](…) | …` rows under a heading: the package and its licence. */
function rowsUnder(heading: string): [name: string, licence: string][] {
  const [, section = ''] =
    new RegExp(`^## ${heading}\\n([^]*?)(?=^## |$(?![^]))`, 'm').exec(read('docs/dependencies.md')) ?? [];
  return [...section.matchAll(/^\| `([^`]+)` \| ([^|]+) \|/gm)].map(([, name = '', licence = '']) => [
    name,
    licence.trim(),
  ]);
}

const licenceOf = (name: string): unknown => JSON.parse(read(`node_modules/${name}/package.json`)).license;

t.test('docs/dependencies.md lists every dependency of package.json, no other, and its licence', async (t) => {
  const rows = rowsUnder('Of the service');
  t.same(rows.map(([name]) => name).sort(), Object.keys(dependencies).sort());
  for (const [name, licence] of rows) t.equal(licenceOf(name), licence, name);
});

t.test('docs/dependencies.md lists every package that is bundled into the page', async (t) => {
  const files = readdirSync(join(process.cwd(), 'src/dashboard')).filter((file) => /\.tsx?$/.test(file));
  const imports = files.flatMap((file) =>
    [...read(`src/dashboard/${file}`).matchAll(/from '([a-z@][^'/]*)[^']*';$/gm)].map(([, name]) => name),
  );
  const rows = rowsUnder('Of the page');
  t.same([...new Set(imports)].sort(), rows.map(([name]) => name).sort());
  for (const [name, licence] of rows) t.equal(licenceOf(name), licence, name);
});

t.test('scripts/sbom.mjs writes a CycloneDX list of what is shipped, and of nothing else', async (t) => {
  execFileSync(process.execPath, ['scripts/sbom.mjs'], { stdio: 'pipe' });
  const bom = JSON.parse(read('dist/sbom.cdx.json'));
  t.match(bom, {
    bomFormat: 'CycloneDX',
    specVersion: /^1\.\d$/,
    metadata: { component: { name: 'vsf-safety', version } },
  });
  const byName = new Map<string, { version: string; purl: string; licenses: unknown; hashes: unknown }>(
    bom.components.map((one: { name: string; group?: string }) => [one.name, one]),
  );
  for (const [name, pinned] of Object.entries(dependencies)) {
    t.match(byName.get(name), { version: pinned, purl: /^pkg:npm\// }, name);
  }
  for (const [name] of rowsUnder('Of the page')) t.ok(byName.has(name), name);
  for (const name of ['tap', 'esbuild', 'typescript', '@biomejs/biome']) t.notOk(byName.has(name), name);
  // Against the lock file, as npm ci reads it.
  const { packages } = JSON.parse(read('package-lock.json')) as {
    packages: Record<string, { dev?: boolean; devOptional?: boolean }>;
  };
  const pinned = Object.entries(packages).filter(([path, { dev }]) => path !== '' && dev !== true);
  const names = new Set(pinned.map(([path]) => path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length)));
  t.same(
    [...names].filter((name) => !byName.has(name)),
    [],
    'nothing is left out',
  );
  for (const { name, licenses, hashes } of bom.components) {
    t.ok(licenses?.length > 0, `${name} has a licence`);
    t.ok(hashes?.length > 0, `${name} has a hash`);
  }
});
