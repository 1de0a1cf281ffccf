// The values of the chart: which are refused and how, and that schema, defaults and README speak of the same ones.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { parse } from 'yaml';
import { SCHEMA } from '../../src/config-schema.ts';
import { lacksHelm, runTemplate } from '../support/chart.ts';
import type { AnyObject } from '../support/control-plane.ts';
import { freshFolder } from '../support/real-service.ts';

const read = (name: string): Promise<string> => readFile(join('helm', name), 'utf8');
const isMapping = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

t.test('values.schema.json refuses a wrong value by its name', { skip: lacksHelm }, async (t) => {
  const folder = freshFolder(t);
  const refusals: readonly [values: object, words: RegExp][] = [
    [{ replicas: 3 }, /at '\/replicas': value must be one of 1, 2/],
    [{ replica: 2 }, /additional properties 'replica' not allowed/],
    [{ image: { tag: 'latest' } }, /at '\/image\/tag'/],
    [{ image: { digest: 'sha256:12' } }, /at '\/image\/digest': 'sha256:12' does not match pattern/],
    [{ workloadNamespaces: ['GPU'] }, /at '\/workloadNamespaces\/0': 'GPU' does not match pattern/],
    [{ config: { stateDir: '/tmp' } }, /at '\/config': additional properties 'stateDir' not allowed/],
    [{ config: { kubernetes: { enabled: false } } }, /at '\/config': additional properties 'kubernetes' not allowed/],
    [{ config: { source: 'simulated' } }, /at '\/config\/source': value must be one of 'exporters', 'prometheus'/],
    [{ config: { listen: { host: '127.0.0.1' } } }, /at '\/config\/listen\/host': value must be one of/],
    [{ config: { auth: { kubernetes: false } } }, /at '\/config\/auth'/],
    [{ config: { interval: '10' } }, /at '\/config\/interval': '10' does not match pattern/],
    [{ callers: { workload: [{ kind: 'ServiceAccount', name: 'x' }] } }, /missing property 'namespace'/],
    [{ rbac: { projects: ['kedda'] } }, /at '\/rbac\/projects\/0': value must be one of 'argo-rollouts'/],
    [
      { rbac: { extraRules: [{ apiGroups: ['*'], resources: ['x'], verbs: ['get'] }] } },
      /at '\/rbac\/extraRules\/0\/apiGroups\/0'/,
    ],
    [{ flowSchema: { priorityLevel: 'system' } }, /value must be one of 'workload-high', 'exempt'/],
    [{ persistence: { size: '2 GB' } }, /at '\/persistence\/size': '2 GB' does not match pattern/],
    [{ runAs: { user: 0 } }, /at '\/runAs\/user': minimum: got 0, want 1/],
    [{ networkPolicy: { callers: [] } }, /at '\/networkPolicy\/callers': minItems: got 0, want 1/],
    [{ networkPolicy: { egress: { apiServerPorts: [] } } }, /at '\/networkPolicy\/egress\/apiServerPorts': minItems/],
    [{ podLabels: { 'vsf-workload': 'true' } }, /at '\/podLabels'/],
    [
      { config: { source: 'prometheus' } },
      /config\.source is prometheus, and config\.prometheus\.url does not say where/,
    ],
  ];
  for (const [values, words] of refusals) {
    const { code, err } = await runTemplate(folder, { values });
    t.not(code, 0, JSON.stringify(values));
    t.match(err, words);
  }
});

t.test('README.md and values.schema.json know every value, and no other', async (t) => {
  const defaults = parse(await read('values.yaml'));
  const schema = JSON.parse(await read('values.schema.json'));
  /** Down to where the schema says no more, or only a map's type. */
  const paths = (value: unknown, shape: AnyObject, path: string): string[] => {
    const inner = shape?.properties as Record<string, AnyObject> | undefined;
    if (!isMapping(value) || !inner) return [path];
    return Object.entries(value).flatMap(([key, one]) => {
      t.ok(inner[key], `${path}.${key} is in the schema`);
      return paths(one, inner[key], path === '' ? key : `${path}.${key}`);
    });
  };
  const known = paths(defaults, schema, '').flatMap((path) =>
    path === 'config.discovery' ? ['config.discovery.kubernetes', 'config.discovery.allow'] : [path],
  );
  const told = [...(await read('README.md')).matchAll(/^\| `([\w.]+)` \|/gm)].map(([, path]) => path ?? '');
  t.same(told.filter((path) => path !== 'config').sort(), known.sort());
  // What the schema knows of the top and has no default is the service's own.
  for (const key of Object.keys(schema.properties)) t.ok(key === 'global' || key in defaults, key);
});

t.test('values.schema.json knows the keys of the configuration, but for those that the chart sets', async (t) => {
  const { config } = JSON.parse(await read('values.schema.json')).properties;
  const set = ['stateDir', 'kubernetes', 'simulated'];
  t.same(
    Object.keys(config.properties).sort(),
    Object.keys(SCHEMA.properties)
      .filter((key) => !set.includes(key))
      .sort(),
  );
  const auth = SCHEMA.properties.auth.properties;
  t.same(Object.keys(config.properties.auth.properties).sort(), Object.keys(auth).sort());
});
