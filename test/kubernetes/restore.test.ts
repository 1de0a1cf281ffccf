import t from 'tap';
import { systemClock } from '../../src/clock.ts';
import { createKubeClient } from '../../src/kubernetes/kube-client.ts';
import { type RestoreStep, restore } from '../../src/kubernetes/restore.ts';
import type { PriorValue } from '../../src/kubernetes/stop-latch.ts';
import { lacksControlPlane, startControlPlane } from '../support/control-plane.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { failureOf, type ObjectStore, objectStore } from '../support/object-store-api.ts';

t.setTimeout(240_000);

const YES = async () => ({ ok: true }) as const;

function priorOf(name: string, more: Partial<PriorValue> = {}): PriorValue {
  return {
    orderId: 'trip-1',
    group: 'apps',
    version: 'v1',
    kind: 'Deployment',
    resource: 'deployments',
    namespace: 'gpu',
    name,
    uid: `uid-of-${name}`,
    controllerUid: undefined,
    through: 'scale',
    fields: [{ path: ['spec', 'replicas'], prior: 10, stop: 0 }],
    ...more,
  };
}

const scalePath = (name: string): string => `/apis/apps/v1/namespaces/gpu/deployments/${name}/scale`;
function putScale(store: ObjectStore, name: string, spec: Record<string, unknown>): void {
  store.put(scalePath(name), { spec });
  const made = store.objects.get(scalePath(name));
  if (made) store.objects.set(scalePath(name), { ...made, metadata: { ...made.metadata, uid: `uid-of-${name}` } });
}

async function run(
  store: ObjectStore,
  priors: readonly PriorValue[],
  options: {
    readonly dryRun?: boolean;
    readonly mayGoOn?: () => Promise<{ ok: true } | { ok: false; detail: string }>;
  } = {},
): Promise<readonly RestoreStep[]> {
  const clock = new ManualClock();
  const { dryRun = false, mayGoOn = YES } = options;
  const done = restore({ api: store.api, clock, priors, dryRun, mayGoOn });
  await clock.advance(60_000);
  return done;
}

const outcomes = (steps: readonly RestoreStep[]): string[] =>
  steps.map(({ object, outcome }) => `${object}: ${outcome}`);

t.test('restore()', async (t) => {
  t.test('gives back the exact value, and says from what to what', async (t) => {
    const store = objectStore();
    // A scale of 0 comes back without the field.
    putScale(store, 'load', {});
    const [step] = await run(store, [priorOf('load')]);
    t.match(step, { object: 'deployments.apps gpu/load', outcome: 'restored', detail: 'spec.replicas 0 -> 10' });
    t.equal(store.objects.get(scalePath('load'))?.spec?.['replicas'], 10);
  });

  t.test('a dry run touches nothing and asks nothing', async (t) => {
    const store = objectStore();
    putScale(store, 'load', { replicas: 0 });
    const mayGoOn = () => {
      t.fail('asked');
      return YES();
    };
    t.match(await run(store, [priorOf('load')], { dryRun: true, mayGoOn }), [{ outcome: 'would-restore' }]);
    t.ok(store.requests.every(({ verb }) => verb === 'get'));
  });

  t.test('leaves what somebody changed since, what is gone, and what only bears the name', async (t) => {
    const store = objectStore();
    putScale(store, 'raised', { replicas: 4 });
    putScale(store, 'renewed', {});
    putScale(store, 'ending', {});
    const ending = store.objects.get(scalePath('ending'));
    if (ending) {
      const metadata = { ...ending.metadata, deletionTimestamp: '2026-01-01T00:00:00Z' };
      store.objects.set(scalePath('ending'), { ...ending, metadata });
    }
    const priors = ['raised', 'missing', 'ending'].map((name) => priorOf(name));
    const steps = await run(store, [...priors, priorOf('renewed', { uid: 'uid-of-an-older-one' })]);
    t.same(outcomes(steps).sort(), [
      'deployments.apps gpu/ending: gone',
      'deployments.apps gpu/missing: gone',
      'deployments.apps gpu/raised: kept',
      'deployments.apps gpu/renewed: gone',
    ]);
    t.match(steps.find(({ outcome }) => outcome === 'kept')?.detail, /spec.replicas is 4 by now, not 0/);
    t.ok(store.requests.every(({ verb }) => verb === 'get'));
  });

  t.test('asks before each one, and reaches no further once the answer is no', async (t) => {
    const store = objectStore();
    for (const name of ['a', 'b', 'c', 'd']) putScale(store, name, { replicas: name === 'b' ? 3 : 0 });
    let asked = 0;
    const mayGoOn = async () => {
      asked += 1;
      return asked === 1 ? ({ ok: true } as const) : { ok: false as const, detail: 'GPU 2 is at 82 °C' };
    };
    const steps = await run(
      store,
      ['a', 'b', 'c', 'd'].map((name) => priorOf(name)),
      { mayGoOn },
    );
    t.same(
      steps.map(({ outcome }) => outcome),
      ['restored', 'kept', 'not-reached', 'not-reached'],
    );
    t.match(steps[3]?.detail, /82 °C/);
    t.equal(asked, 2, 'nothing is asked for what is left as it is');
  });

  t.test('leaves replicas to the controller above, and a running Job to nobody', async (t) => {
    const store = objectStore();
    putScale(store, 'load', {});
    const set = priorOf('load-abc', { resource: 'replicasets', kind: 'ReplicaSet', controllerUid: 'uid-of-load' });
    const suspend = { path: ['spec', 'suspend'], prior: null, stop: true };
    const batch = { group: 'batch', through: 'object', fields: [suspend] } as const;
    const cron = priorOf('nightly', { ...batch, resource: 'cronjobs', kind: 'CronJob' });
    const job = priorOf('nightly-1', { ...batch, resource: 'jobs', kind: 'Job', controllerUid: cron.uid });
    for (const { resource, name, uid } of [cron, job]) {
      const path = `/apis/batch/v1/namespaces/gpu/${resource}/${name}`;
      store.put(path, { spec: { suspend: true, other: 1 } });
      const made = store.objects.get(path);
      if (made) store.objects.set(path, { ...made, metadata: { ...made.metadata, uid } });
    }
    const steps = await run(store, [job, set, cron, priorOf('load')]);
    t.same(outcomes(steps), [
      'cronjobs.batch gpu/nightly: restored',
      'deployments.apps gpu/load: restored',
      'jobs.batch gpu/nightly-1: restored',
      'replicasets.apps gpu/load-abc: by-controller',
    ]);
    t.same(store.objects.get('/apis/batch/v1/namespaces/gpu/jobs/nightly-1')?.spec, { other: 1 });
  });

  t.test('a failure of one is its own, also a value that was not taken', async (t) => {
    const store = objectStore();
    for (const name of ['a', 'b', 'c']) putScale(store, name, {});
    store.before = ({ verb, path }) =>
      verb === 'patch' && path === scalePath('a') ? failureOf('forbidden', '403 patch') : undefined;
    const { patch } = store.api;
    const stubborn: ObjectStore = {
      ...store,
      api: {
        ...store.api,
        patch: (path, body, ms) => (path === scalePath('b') ? store.api.get(path, ms) : patch(path, body, ms)),
      },
    };
    const steps = await run(
      stubborn,
      ['a', 'b', 'c'].map((name) => priorOf(name)),
    );
    t.same(
      steps.map(({ outcome }) => outcome),
      ['failed', 'failed', 'restored'],
    );
    t.match(steps[1]?.detail, /was not taken/);
  });

  t.test('is a compare-and-swap: what changes after the look is not written over', async (t) => {
    const store = objectStore();
    putScale(store, 'a', {});
    const mayGoOn = async () => {
      putScale(store, 'a', { replicas: 7 });
      return { ok: true } as const;
    };
    t.match(await run(store, [priorOf('a')], { mayGoOn }), [{ outcome: 'failed', detail: /changed just now/ }]);
    t.equal(store.objects.get(scalePath('a'))?.spec?.['replicas'], 7);
  });

  t.test('a ring of owners ends', async (t) => {
    const steps = await run(objectStore(), [
      priorOf('a', { controllerUid: 'uid-of-b' }),
      priorOf('b', { controllerUid: 'uid-of-a' }),
    ]);
    t.equal(steps.length, 2);
  });
});

t.test('restore() on a real API server, with the rights of the chart', { skip: lacksControlPlane }, async (t) => {
  const plane = await startControlPlane(t);
  const kubeconfig = await plane.kubeconfigFor(plane.serviceToken);
  const client = await createKubeClient({ clock: systemClock, kubeconfig });
  if (!client.ok) throw new Error(client.detail);
  t.teardown(() => client.api.close());
  const labels = { app: 'load' };
  const template = { metadata: { labels }, spec: { containers: [{ name: 'c', image: 'i' }], restartPolicy: 'Always' } };
  const once = { ...template, spec: { ...template.spec, restartPolicy: 'Never' } };
  const stopped = { 'vsf-safety.io/stopped': 'true' };
  const make = (path: string, name: string, spec: unknown) => plane.must('POST', path, { metadata: { name }, spec });
  const apps = '/apis/apps/v1/namespaces/default';
  const deployment = await make(`${apps}/deployments`, 'load', {
    replicas: 0,
    selector: { matchLabels: labels },
    template,
  });
  const stateful = await make(`${apps}/statefulsets`, 'db', {
    replicas: 0,
    serviceName: 'db',
    selector: { matchLabels: labels },
    template,
  });
  const daemon = await make(`${apps}/daemonsets`, 'agent', {
    selector: { matchLabels: labels },
    template: { ...template, spec: { ...template.spec, nodeSelector: stopped } },
  });
  const job = await make('/apis/batch/v1/namespaces/default/jobs', 'train', { parallelism: 0, template: once });
  const of = (object: { metadata: { name: string; uid: string } }, more: Partial<PriorValue>): PriorValue =>
    priorOf(object.metadata.name, { namespace: 'default', uid: object.metadata.uid, ...more });
  const priors = [
    of(deployment, { fields: [{ path: ['spec', 'replicas'], prior: 3, stop: 0 }] }),
    of(stateful, { resource: 'statefulsets', fields: [{ path: ['spec', 'replicas'], prior: 2, stop: 0 }] }),
    of(daemon, {
      resource: 'daemonsets',
      through: 'object',
      fields: [
        { path: ['spec', 'template', 'spec', 'nodeSelector', 'vsf-safety.io/stopped'], prior: null, stop: 'true' },
      ],
    }),
    of(job, {
      group: 'batch',
      resource: 'jobs',
      through: 'object',
      fields: [{ path: ['spec', 'parallelism'], prior: 2, stop: 0 }],
    }),
  ];
  const ask = { api: client.api, clock: systemClock, priors, mayGoOn: YES };
  const dry = await restore({ ...ask, dryRun: true });
  t.same(
    dry.map(({ outcome }) => outcome),
    Array(4).fill('would-restore'),
  );
  t.equal((await plane.must('GET', `${apps}/deployments/load`)).spec.replicas, 0);
  const done = await restore({ ...ask, dryRun: false });
  t.same(
    done.map(({ object, outcome }) => `${object} ${outcome}`),
    [
      'daemonsets.apps default/agent restored',
      'deployments.apps default/load restored',
      'jobs.batch default/train restored',
      'statefulsets.apps default/db restored',
    ],
    JSON.stringify(done),
  );
  t.equal((await plane.must('GET', `${apps}/deployments/load`)).spec.replicas, 3);
  t.equal((await plane.must('GET', `${apps}/statefulsets/db`)).spec.replicas, 2);
  t.equal((await plane.must('GET', `${apps}/daemonsets/agent`)).spec.template.spec.nodeSelector, undefined);
  t.equal((await plane.must('GET', '/apis/batch/v1/namespaces/default/jobs/train')).spec.parallelism, 2);
  const again = await restore({ ...ask, dryRun: false });
  t.same(
    again.map(({ outcome }) => outcome),
    Array(4).fill('kept'),
    'what was given back is nobody’s to change twice',
  );
});
