// Random configurations: nothing throws, every refusal says which key and why, and what is taken is whole, frozen and
// within what is plausible, however it was written.
import * as fc from 'fast-check';
import t from 'tap';
import { stringify } from 'yaml';
import { explainProblems, type LoadedConfig, loadConfig } from '../src/config.ts';
import { SCHEMA } from '../src/config-schema.ts';
import type { SafetyConstraints } from '../src/domain/constraints.ts';
import { broken, fuzz, garbled } from './support/fuzz.ts';
import { anyJson, nastyText, SchemaArbitrary } from './support/schema-arbitrary.ts';

const load = (text: string, env: Readonly<Record<string, string>> = {}): LoadedConfig =>
  loadConfig({ file: 'safety.yaml', text, env, flags: {}, hostname: 'bizon1', homeDir: '/home/ann' });

const GOOD = {
  listen: { host: '127.0.0.1', port: 8470, hosts: ['safety.lab'] },
  constraints: { extends: 'bizon1', gpu: { temperatureC: { warning: 70, hardStop: 78 } } },
  interval: '5s',
  staleAfter: '20s',
  tripScope: 'node',
  source: 'exporters',
  waive: ['cpu-temperature'],
  nodes: [
    {
      name: 'bizon1',
      endpoints: ['http://127.0.0.1:9100/metrics'],
      expectGpus: 4,
      constraints: 'bizon1',
      gpus: { '0000:0b:00.0': { ignore: true } },
      power: { baseW: 120, psuEfficiency: 0.9 },
    },
  ],
  auth: { tokens: [{ role: 'operator', sha256: 'ab'.repeat(32) }] },
};

function checkLimits({ gpu, cpu, system, workload }: SafetyConstraints): void {
  const pairs = [
    [gpu.temperatureC, 110],
    [cpu.temperatureC, 110],
    [gpu.powerW, 1_500],
    [system.powerW, 20_000],
  ] as const;
  for (const [{ warning, hardStop }, most] of pairs) {
    if (!(warning > 0 && warning < hardStop && hardStop <= most)) throw new Error(`limits ${warning}/${hardStop}`);
  }
  const shares = [gpu.memoryRatio.max, cpu.utilizationRatio.max, system.memoryRatio.max, workload.intensityRatio.max];
  for (const max of shares) if (!(max > 0 && max < 1)) throw new Error(`a share of ${max}`);
}

/** What must hold whatever was given. */
function check(loaded: LoadedConfig, text: string): void {
  if (!loaded.ok) {
    if (loaded.problems.length === 0) throw new Error('refused without a reason');
    const lines = text.split('\n').length;
    for (const { rule, line } of loaded.problems) {
      if (rule === '') throw new Error('refused without a rule');
      if (line !== undefined && (line < 1 || line > lines)) throw new Error(`line ${line} of ${lines}`);
    }
    if (explainProblems(loaded.problems, loaded.file).trim() === '') throw new Error('explained by nothing');
    return;
  }
  const { config } = loaded;
  const { settings } = config;
  for (const { constraints } of [settings.defaults, ...settings.nodes.values()]) checkLimits(constraints);
  if (!isFrozen(config)) throw new Error('not frozen');
  const isOpen = config.auth.tokens.length === 0 && !config.auth.kubernetes;
  if (isOpen && !/^(127\.|localhost$|::1$|\[::1\]$)/.test(config.listen.host))
    throw new Error(`open at ${config.listen.host}`);
  for (const ms of [
    settings.intervalMs,
    settings.fastIntervalMs,
    settings.blindAbortAfterMs,
    settings.defaults.staleAfterMs,
  ]) {
    if (!(Number.isFinite(ms) && ms > 0)) throw new Error(`a time of ${ms} ms`);
  }
}

function isFrozen(value: unknown): boolean {
  if (typeof value !== 'object' || value === null || value instanceof Map || value instanceof Set) return true;
  return Object.isFrozen(value) && Object.values(value).every(isFrozen);
}

const depthOf = (value: unknown): number =>
  typeof value === 'object' && value !== null ? 1 + Math.max(0, ...Object.values(value).map(depthOf)) : 0;

t.test('loadConfig() takes or explains whatever the schema can be made to mean', async (t) => {
  let taken = 0;
  const bySchema = new SchemaArbitrary({}).of(SCHEMA);
  const nearly = fc
    .array(fc.tuple(fc.nat(), fc.oneof(anyJson, fc.constant(undefined))), { maxLength: 2 })
    .map((wounds) => wounds.reduce<unknown>((value, [pick, junk]) => broken(value, pick, junk), GOOD));
  fc.assert(
    fc.property(fc.oneof(bySchema, nearly), fc.boolean(), (value, isJson) => {
      // The writer of YAML runs out of stack where JSON's does not, and JSON is YAML.
      const text = isJson || depthOf(value) > 50 ? (JSON.stringify(value) ?? '') : stringify(value ?? null);
      const loaded = load(text);
      check(loaded, text);
      taken += loaded.ok ? 1 : 0;
    }),
    fuzz(150),
  );
  t.ok(taken > 20, `${taken} were good`);
});

t.test('loadConfig() takes or explains any bytes', async () => {
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 200 }).map((array) => Buffer.from(array)),
    garbled(fc.constant(Buffer.from(stringify(GOOD)))),
  );
  fc.assert(
    fc.property(bytes, (body) => {
      const text = body.toString('utf8');
      check(load(text), text);
    }),
    fuzz(500),
  );
});

t.test('loadConfig() takes or explains any variable of the environment', async () => {
  const name = fc.constantFrom(
    'INTERVAL',
    'LISTEN_HOST',
    'LISTEN_PORT',
    'CONSTRAINTS',
    'STALE_AFTER',
    'SOURCE',
    'WAIVE',
    'NO_SUCH',
  );
  const variables = fc.dictionary(
    name.map((one) => `VSF_SAFETY_${one}`),
    nastyText.map((text) => text.replaceAll('\0', '')),
    { maxKeys: 3 },
  );
  fc.assert(
    fc.property(variables, (env) => check(load(stringify(GOOD), env), stringify(GOOD))),
    fuzz(200),
  );
});
