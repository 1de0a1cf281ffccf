// What a program outside of this repository gets: types that compile strictly, examples that run, and no more loaded
// than it asks for.
import { execFile } from 'node:child_process';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import ts from 'typescript';
import { freshFolder, ROOT } from '../support/real-service.ts';
import { startRig } from './real-rig.ts';

t.setTimeout(300_000);
const run = promisify(execFile);

/** A package of somebody else's that depends on this one. */
function consumer(t: Parameters<typeof freshFolder>[0]): string {
  const folder = freshFolder(t);
  mkdirSync(join(folder, 'node_modules/@types'), { recursive: true });
  symlinkSync(ROOT, join(folder, 'node_modules/vsf-safety'));
  symlinkSync(join(ROOT, 'node_modules/@types/node'), join(folder, 'node_modules/@types/node'));
  symlinkSync(join(ROOT, 'node_modules/undici-types'), join(folder, 'node_modules/undici-types'));
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
  return folder;
}

/** Compiles strictly against what is published; gives the errors. */
function compile(folder: string, files: readonly string[]): string[] {
  const program = ts.createProgram(files, {
    target: ts.ScriptTarget.ES2022,
    lib: ['lib.es2022.d.ts'],
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    types: ['node'],
    typeRoots: [join(folder, 'node_modules/@types')],
    strict: true,
    skipLibCheck: false,
    exactOptionalPropertyTypes: true,
    preserveSymlinks: true,
  });
  const { diagnostics } = program.emit();
  return [...ts.getPreEmitDiagnostics(program), ...diagnostics].map(
    ({ file, messageText }) => `${file?.fileName}: ${ts.flattenDiagnosticMessageText(messageText, '\n')}`,
  );
}

interface Documented {
  readonly name: string;
  readonly hasText: boolean;
  readonly examples: readonly string[];
  readonly isValue: boolean;
}

/** Every export of the package's entry, with its docstring. */
function exportsOf(entry: string): Documented[] {
  const options = { module: ts.ModuleKind.NodeNext, allowImportingTsExtensions: true, noEmit: true };
  const program = ts.createProgram([entry], options);
  const checker = program.getTypeChecker();
  const source = program.getSourceFile(entry);
  const module = source && checker.getSymbolAtLocation(source);
  if (!module) throw new Error(`${entry} exports nothing`);
  return checker.getExportsOfModule(module).map((symbol) => {
    const target = symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol;
    const members = target.exports ? [...target.exports.values()] : [];
    const methods = target.members ? [...target.members.values()] : [];
    const documented = [symbol, target, ...members, ...methods];
    const examples = documented.flatMap((one) =>
      one
        .getJsDocTags(checker)
        .filter(({ name }) => name === 'example')
        .map(({ text }) => ts.displayPartsToString(text)),
    );
    const texts = [symbol, target].map((one) => ts.displayPartsToString(one.getDocumentationComment(checker)));
    return {
      name: symbol.name,
      hasText: texts.some((text) => text !== ''),
      examples: [...new Set(examples)],
      isValue: (target.flags & ts.SymbolFlags.Value) !== 0,
    };
  });
}

t.test('vsf-safety documents every export, and every value with an example that compiles and runs', async (t) => {
  const documented = exportsOf(join(ROOT, 'src/sdk/index.ts'));
  t.same(
    documented.filter(({ hasText }) => !hasText).map(({ name }) => name),
    [],
  );
  const values = documented.filter(({ isValue }) => isValue);
  t.same(values.map(({ name }) => name).sort(), [
    'BIZON1_CONSTRAINTS',
    'DEFAULT_CONSTRAINTS',
    'HardwareSafetyMonitor',
    'SafeWorkloadContext',
    'SafetyServiceError',
    'UnsafeError',
  ]);
  t.same(
    values.filter(({ examples }) => examples.length === 0).map(({ name }) => name),
    [],
  );
  const folder = consumer(t);
  const files = values.flatMap(({ name, examples }) =>
    examples.map((code, index) => {
      const file = join(folder, `${name}-${index + 1}.mts`);
      writeFileSync(file, code);
      return file;
    }),
  );
  t.same(compile(folder, files), []);
  // The emergency stop last: it latches.
  const isStop = (file: string): boolean => readFileSync(file, 'utf8').includes('emergencyStop');
  files.sort((a, b) => Number(isStop(a)) - Number(isStop(b)));
  const service = await startRig(t);
  const env = { ...process.env, VSF_SAFETY_URL: service.url, NODE_OPTIONS: '' };
  for (const file of files) {
    const script = file.replace(/\.mts$/, '.mjs');
    const { stdout } = await run(process.execPath, [script], { cwd: folder, env, timeout: 60_000 });
    t.match(stdout, /\S/, `${file} says something`);
    t.comment(stdout);
  }
});

t.test('vsf-safety has types that take what is right and refuse what is wrong', async (t) => {
  const folder = consumer(t);
  const right = join(folder, 'right.mts');
  writeFileSync(
    right,
    `import { HardwareSafetyMonitor, SafeWorkloadContext, BIZON1_CONSTRAINTS, DEFAULT_CONSTRAINTS } from 'vsf-safety';
import type { ContextOptions, HardwareMetrics, SafetyConstraints, Verdict } from 'vsf-safety';
const limits: SafetyConstraints = DEFAULT_CONSTRAINTS;
const one = new HardwareSafetyMonitor({ constraints: BIZON1_CONSTRAINTS, url: process.env['X'] });
const two = new HardwareSafetyMonitor({ embedded: true, config: { source: 'simulated' }, intensity: 0.5 });
const both: HardwareSafetyMonitor[] = [one, two];
new HardwareSafetyMonitor({ constraints: { extends: 'bizon1', gpu: { temperatureC: { warning: 70 } } } });
const options: ContextOptions = { wait: true, onWarning: async (result) => console.log(result.reason) };
const told = (result: Verdict): string => (result.local === undefined ? result.constraintsDigest : result.local);
async function main(): Promise<HardwareMetrics> {
  await using ctx = await SafeWorkloadContext.start(options);
  const signal: AbortSignal = ctx.signal;
  const steps: number = await SafeWorkloadContext.run({ ...options, ttlSeconds: 30 }, async (inner) => inner.intensityCap);
  console.log(limits.gpu.powerW.hardStop, both, told(ctx.result), signal.aborted, steps);
  return ctx.monitor.collectMetrics();
}
export { main };
`,
  );
  t.same(compile(folder, [right]), []);
  const wrong = {
    'an option that there is not': `import { HardwareSafetyMonitor } from 'vsf-safety';\nnew HardwareSafetyMonitor({ intensty: 1 });`,
    'a limit that there is not': `import { HardwareSafetyMonitor } from 'vsf-safety';\nnew HardwareSafetyMonitor({ constraints: { gpu: { noise: 1 } } });`,
    'a change of the limits': `import { DEFAULT_CONSTRAINTS } from 'vsf-safety';\nDEFAULT_CONSTRAINTS.gpu.powerW.hardStop = 1;`,
    'an address for an embedded one': `import { HardwareSafetyMonitor } from 'vsf-safety';\nnew HardwareSafetyMonitor({ embedded: true, url: 'http://x' });`,
    'what is not exported': `import { LeaseHolder } from 'vsf-safety';\nconsole.log(LeaseHolder);`,
  };
  for (const [what, code] of Object.entries(wrong)) {
    const file = join(folder, 'wrong.mts');
    writeFileSync(file, code);
    t.equal(compile(folder, [file]).length, 1, what);
  }
});

t.test('vsf-safety loads the service only where it is embedded', async (t) => {
  const folder = consumer(t);
  const file = join(folder, 'loads.mjs');
  writeFileSync(
    file,
    `import { register } from 'node:module';
import { MessageChannel } from 'node:worker_threads';
const { port1, port2 } = new MessageChannel();
const seen = [];
port1.on('message', (url) => seen.push(url));
register('data:text/javascript,' + encodeURIComponent(\`
let port;
export function initialize(data) { port = data.port; }
export async function resolve(specifier, context, next) {
  const found = await next(specifier, context);
  port.postMessage(found.url);
  return found;
}\`), { data: { port: port2 }, transferList: [port2] });
await import('vsf-safety');
await new Promise((done) => setTimeout(done, 200));
console.log(seen.filter((url) => /fastify|pino|assemble|supervisor|embedded/.test(url)).join('\\n') || 'none');
process.exit(0);
`,
  );
  const { stdout } = await run(process.execPath, [file], { cwd: folder });
  t.equal(stdout.trim(), 'none');
});
