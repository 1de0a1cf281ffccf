import t from 'tap';
import type { KubeObject } from '../../src/kubernetes/kube-api.ts';
import {
  hasEnded,
  isSwitchedOff,
  losesDataWhenScaled,
  OWNER_RULES,
  ownerKindsIn,
  patchOf,
  ruleOf,
  templateMark,
  valueAt,
} from '../../src/kubernetes/owner-kinds.ts';
import { BUILT_IN_KINDS, customKind } from '../support/stand-in-cluster.ts';

const object = (change: object): KubeObject => ({ metadata: { name: 'x', uid: 'u' }, ...change });
const rule = (group: string, kind: string) => {
  const found = ruleOf({ group, kind, hasScale: false });
  if (!found) throw new Error(`No rule for ${group}/${kind}`);
  return found;
};

t.test('OWNER_RULES holds every kind once, and every switch sets at least one field', async (t) => {
  const names = OWNER_RULES.map(({ group, kind }) => `${group}/${kind}`);
  t.equal(new Set(names).size, names.length);
  for (const { method } of OWNER_RULES) {
    if (method.by !== 'fields') continue;
    for (const attempt of method.attempts) t.ok(attempt.length > 0 && attempt.every(({ path }) => path.length > 1));
  }
});

t.test('isSwitchedOff() is true after the patch of any attempt, and false for the object as it was', async (t) => {
  for (const { group, kind, method } of OWNER_RULES) {
    if (method.by !== 'fields') continue;
    t.notOk(isSwitchedOff(method, object({})), `${group}/${kind} as it was`);
    for (const attempt of method.attempts) {
      const patch = patchOf(attempt.map(({ path, stop }) => ({ path, value: stop })));
      const patched = { ...patch, metadata: { name: 'x', uid: 'u', ...(patch as { metadata?: object }).metadata } };
      t.ok(isSwitchedOff(method, patched), `${group}/${kind} patched`);
    }
  }
});

t.test('isSwitchedOff() needs both annotations of a ScaledObject', async (t) => {
  const annotations = { 'autoscaling.keda.sh/paused': 'true' };
  t.notOk(
    isSwitchedOff(rule('keda.sh', 'ScaledObject').method, object({ metadata: { name: 'x', uid: 'u', annotations } })),
  );
});

t.test(
  'ruleOf() scales any kind with a /scale, has no switch for others, and takes a Node for no controller',
  async (t) => {
    t.match(ruleOf({ group: 'example.org', kind: 'Gang', hasScale: true }), { method: { by: 'scale' } });
    t.match(ruleOf({ group: 'example.org', kind: 'Thing', hasScale: false }), { method: { by: 'nothing' } });
    t.equal(ruleOf({ group: '', kind: 'Node', hasScale: false }), null);
    t.match(ruleOf({ group: 'batch.volcano.sh', kind: 'Job', hasScale: false }), { method: { by: 'command' } });
  },
);

t.test('ownerKindsIn() takes what discovery found: rows of the table and anything with /scale', async (t) => {
  const kinds = [
    ...BUILT_IN_KINDS,
    customKind('example.org', 'Gang', 'gangs', true),
    customKind('example.org', 'Thing', 'things'),
    customKind('', 'ConfigMap', 'configmaps'),
    customKind('serving.knative.dev', 'Service', 'services'),
    { ...customKind('ray.io', 'RayJob', 'rayjobs'), verbs: ['get'] },
  ];
  const found = ownerKindsIn(kinds).map(({ resource }) => resource.kind);
  t.strictSame(found, [...BUILT_IN_KINDS.map((one) => one.kind), 'Gang', 'Service']);
});

t.test('templateMark() finds the label wherever a kind keeps the labels of its pods', async (t) => {
  const labels = { 'vsf-workload': 'true' };
  const marked = { metadata: { labels } };
  const cases: [string, string, object][] = [
    ['apps', 'Deployment', { spec: { template: marked } }],
    ['batch', 'CronJob', { spec: { jobTemplate: { spec: { template: marked } } } }],
    ['jobset.x-k8s.io', 'JobSet', { spec: { replicatedJobs: [{}, { template: { spec: { template: marked } } }] } }],
    ['kubeflow.org', 'PyTorchJob', { spec: { pytorchReplicaSpecs: { Worker: { template: marked } } } }],
    ['ray.io', 'RayCluster', { spec: { workerGroupSpecs: [{ template: marked }] } }],
    ['batch.volcano.sh', 'Job', { spec: { tasks: [{ template: marked }] } }],
    ['argoproj.io', 'Workflow', { spec: { podMetadata: { labels } } }],
  ];
  for (const [group, kind, spec] of cases) t.equal(templateMark(rule(group, kind), object(spec)), 'marked', kind);
  t.equal(templateMark(rule('apps', 'Deployment'), object({ spec: { template: { metadata: {} } } })), 'unmarked');
  t.equal(templateMark(rule('example.org', 'Thing'), object({})), 'unknown');
  const almost = { spec: { template: { metadata: { labels: { 'vsf-workload': 'True' } } } } };
  t.equal(templateMark(rule('apps', 'Deployment'), object(almost)), 'unmarked');
});

t.test('hasEnded() knows a finished Job, and never takes a Deployment for one', async (t) => {
  const failed = object({ status: { conditions: [{ type: 'Failed', status: 'True' }] } });
  t.ok(hasEnded(rule('batch', 'Job'), failed));
  t.notOk(hasEnded(rule('apps', 'Deployment'), failed));
  t.notOk(hasEnded(rule('batch', 'Job'), object({ status: { conditions: [{ type: 'Complete', status: 'False' }] } })));
  t.notOk(hasEnded(rule('batch', 'Job'), object({})));
});

t.test('losesDataWhenScaled() spares the volumes of a StatefulSet that deletes them', async (t) => {
  const policy = (whenScaled: string): KubeObject =>
    object({ spec: { persistentVolumeClaimRetentionPolicy: { whenScaled } } });
  t.ok(losesDataWhenScaled(rule('apps', 'StatefulSet'), policy('Delete')));
  t.notOk(losesDataWhenScaled(rule('apps', 'StatefulSet'), policy('Retain')));
});

t.test('patchOf() and valueAt() take keys with dots and slashes as they are', async (t) => {
  const path = ['spec', 'nodeSelector', 'vsf-safety.io/stopped'];
  const patch = patchOf([
    { path, value: 'true' },
    { path: ['spec', 'suspend'], value: true },
  ]);
  t.strictSame(patch, { spec: { nodeSelector: { 'vsf-safety.io/stopped': 'true' }, suspend: true } });
  t.equal(valueAt(patch, path), 'true');
  t.equal(valueAt({ spec: null }, path), undefined);
});
