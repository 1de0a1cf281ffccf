// The house rules that a machine can check: import directions, cycles, who touches time and the environment, files
// that nobody imports, files that grew too long.
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import t from 'tap';

// Tests run compiled, from the project's folder.
const ROOT = process.cwd();
const SRC = join(ROOT, 'src');

/** The part of the house that a file belongs to: its folder, or its name for a file of the ground floor. */
function partOf(file: string): string {
  const [first = '', ...rest] = file.split('/');
  if (rest.length > 0) return first;
  const name = first.replace(/\.ts$/, '');
  if (name.startsWith('journal') || name === 'durable-files') return 'journal';
  if (name.startsWith('state-')) return 'state-folder';
  if (name.startsWith('config')) return 'config';
  if (name.startsWith('assemble')) return 'assemble';
  if (name.startsWith('serve')) return 'serve';
  return name;
}

/** Which parts may import which. Their own part is always allowed. */
const MAY_IMPORT: Record<string, readonly string[]> = {
  domain: [],
  clock: [],
  version: [],
  journal: ['domain', 'clock'],
  'state-folder': ['journal', 'clock'],
  audit: ['clock', 'journal'],
  'commission-store': ['journal', 'domain'],
  history: ['domain', 'clock'],
  config: ['domain', 'clock'],
  sources: ['domain', 'clock'],
  actuators: ['domain', 'clock'],
  kubernetes: ['domain', 'clock', 'sources', 'actuators'],
  notify: ['domain', 'clock', 'sources'],
  run: ['actuators', 'clock'],
  supervisor: ['domain', 'actuators', 'clock'],
  monitor: ['domain', 'sources', 'supervisor', 'clock'],
  assemble: [
    'domain',
    'clock',
    'version',
    'journal',
    'history',
    'state-folder',
    'config',
    'sources',
    'actuators',
    'kubernetes',
    'supervisor',
    'monitor',
    'notify',
  ],
  // The page takes the service's types, so that both speak of the same fields; see below.
  dashboard: ['domain', 'http'],
  http: [
    'domain',
    'clock',
    'config',
    'supervisor',
    'monitor',
    'journal',
    'history',
    'notify',
    'version',
    'audit',
    'commission-store',
  ],
  serve: [
    'assemble',
    'http',
    'config',
    'actuators',
    'supervisor',
    'version',
    'clock',
    'audit',
    'sources',
    'state-folder',
    'commission-store',
  ],
  'service-manager': ['domain', 'config', 'supervisor'],
  sdk: ['domain', 'clock', 'config', 'assemble', 'serve', 'http'],
  cli: [
    'run',
    'sdk',
    'domain',
    'sources',
    'clock',
    'config',
    'assemble',
    'serve',
    'http',
    'state-folder',
    'version',
    'audit',
    'service-manager',
  ],
};
/** Started by node itself, or imported by other packages. */
const ENTRIES = [
  'cli/main.ts',
  'sdk/index.ts',
  'run/watchdog.ts',
  'run/canary.ts',
  'history/worker.ts',
  'dashboard/main.tsx',
];
/** The page runs in another world, with a clock of its own. */
const CLOCKS = ['clock.ts', 'dashboard/clock.ts'];

const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
  .filter((file) => /\.tsx?$/.test(file) && !file.endsWith('.d.ts'))
  .sort();
const textOf = new Map(files.map((file) => [file, readFileSync(join(SRC, file), 'utf8')]));
const codeOf = (file: string): string =>
  (textOf.get(file) ?? '').replace(/\/\*[\s\S]*?\*\//g, '').replace(/(^|\s)\/\/.*$/gm, '$1');

function importsOf(file: string): string[] {
  const found = [...codeOf(file).matchAll(/(?:from|import)\s*\(?\s*'(\.[^']+)'/g)];
  return found.map((match) => relative(SRC, resolve(dirname(join(SRC, file)), match[1] ?? '')));
}

t.test('imports go only in the directions of the house', async (t) => {
  const wrong = files.flatMap((file) => {
    const part = partOf(file);
    const allowed = MAY_IMPORT[part];
    if (!allowed) return [`${file} belongs to no part of the house`];
    return importsOf(file)
      .map((target) => partOf(target))
      .filter((target) => target !== part && !allowed.includes(target))
      .map((target) => `${file} imports ${target}`);
  });
  t.same(wrong, []);
});

t.test('domain imports no package and nothing of Node', async (t) => {
  const wrong = files.filter((file) => partOf(file) === 'domain').filter((file) => /from\s+'(?!\.)/.test(codeOf(file)));
  t.same(wrong, []);
});

t.test('the dashboard takes types alone from the service, and packages that are bundled', async (t) => {
  const page = files.filter((file) => partOf(file) === 'dashboard');
  t.ok(page.length > 10);
  const code = page.flatMap((file) =>
    [...codeOf(file).matchAll(/^.*from '([^']+)';$/gm)].map((match) => [file, ...match]),
  );
  const wrong = code.filter(([, line = '', target = '']) => {
    if (target.startsWith('../')) return !/^\s*(?:import|export) type /.test(line);
    return !target.startsWith('./') && !/^(?:preact(?:\/hooks|\/compat)?|uplot)$/.test(target);
  });
  t.same(wrong, []);
});

t.test('no two files import each other in a circle', async (t) => {
  const done = new Set<string>();
  const circles: string[] = [];
  const walk = (file: string, path: readonly string[]): void => {
    if (path.includes(file)) {
      circles.push([...path.slice(path.indexOf(file)), file].join(' -> '));
      return;
    }
    if (done.has(file)) return;
    for (const target of importsOf(file)) if (textOf.has(target)) walk(target, [...path, file]);
    done.add(file);
  };
  for (const file of files) walk(file, []);
  t.same(circles, []);
});

t.test('only clock.ts touches timers and clocks', async (t) => {
  const wrong = files
    .filter((file) => !CLOCKS.includes(file))
    .filter((file) =>
      /\b(Date\.now|performance\.now|setTimeout|setInterval|setImmediate|AbortSignal\.timeout)\b|new Date\(\)/.test(
        codeOf(file),
      ),
    );
  t.same(wrong, []);
});

t.test('only config-environment.ts reads the environment', async (t) => {
  const wrong = files
    .filter((file) => file !== 'config-environment.ts')
    .filter((file) => /\bprocess\.env\b/.test(codeOf(file)));
  t.same(wrong, []);
});

t.test('every file is imported by another', async (t) => {
  const imported = new Set(files.flatMap(importsOf));
  t.same(
    files.filter((file) => !imported.has(file) && !ENTRIES.includes(file)),
    [],
  );
});

t.test('no file grows past 400 lines', async (t) => {
  const long = [...textOf]
    .map(([file, text]) => [file, text.split('\n').length] as const)
    .filter(([, lines]) => lines > 401);
  t.same(long, []);
});
