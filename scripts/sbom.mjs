// Writes dist/sbom.cdx.json, a CycloneDX bill of materials of what is shipped: the dependencies as package-lock.json pins
// them, and the two packages that are bundled into the page, which package.json counts as development's.
//
// `npm sbom` makes it, from the lock file alone. Which packages are shipped is taken from the lock file, too: with
// --omit=dev npm 11 leaves out every package that something of development's asks for as well, yaml and ws among them.
import { execFile } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

/** What src/dashboard imports; a test compares. */
const BUNDLED_IN_THE_PAGE = ['preact', 'uplot'];
const MOST_BYTES = 64 * 2 ** 20;

const root = new URL('..', import.meta.url);
const readJson = async (path) => JSON.parse(await readFile(new URL(path, root), 'utf8'));

const args = ['sbom', '--sbom-format=cyclonedx', '--package-lock-only'];
const { stdout } = await promisify(execFile)('npm', args, { cwd: fileURLToPath(root), maxBuffer: MOST_BYTES });
const bom = JSON.parse(stdout);
const shipped = new Set();
for (const [path, { version, dev }] of Object.entries((await readJson('package-lock.json')).packages)) {
  const name = path.split('node_modules/').at(-1);
  if (path !== '' && (dev !== true || BUNDLED_IN_THE_PAGE.includes(name))) shipped.add(`${name}@${version}`);
}
bom.components = bom.components.filter((component) => shipped.has(component['bom-ref']));
if (bom.components.length !== shipped.size) {
  throw new Error(`npm lists ${bom.components.length} of the ${shipped.size} packages that are shipped`);
}
for (const component of bom.components) {
  // Shipped, whatever package.json takes the page's packages for.
  component.properties = component.properties.filter(({ name }) => !name.endsWith(':development'));
}
const { component: product } = bom.metadata;
// npm calls it by its folder.
product.name = (await readJson('package.json')).name;
const refs = new Set([product, ...bom.components].map((component) => component['bom-ref']));
bom.dependencies = bom.dependencies
  .filter(({ ref }) => refs.has(ref))
  .map(({ ref, dependsOn }) => ({ ref, dependsOn: dependsOn.filter((one) => refs.has(one)) }));
const file = new URL('dist/sbom.cdx.json', root);
await mkdir(new URL('.', file), { recursive: true });
await writeFile(file, `${JSON.stringify(bom, null, 2)}\n`);
console.log(`${fileURLToPath(file)}: ${bom.components.length} components`);
