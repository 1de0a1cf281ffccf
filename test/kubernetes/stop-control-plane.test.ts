// The stop on a real control plane, with the service's own rights, no deny rule, and controllers that fight back.
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { Actuator, StopProgress } from '../../src/actuators/actuator.ts';
import { systemClock } from '../../src/clock.ts';
import type { StopOrder } from '../../src/domain/stop.ts';
import type { KubeApi, KubeResource } from '../../src/kubernetes/kube-api.ts';
import { createKubeClient } from '../../src/kubernetes/kube-client.ts';
import { discoverKinds } from '../../src/kubernetes/kube-discovery.ts';
import { createKubernetesActuator } from '../../src/kubernetes/kubernetes-stop.ts';
import { type AnyObject, type ControlPlane, lacksControlPlane, startControlPlane } from '../support/control-plane.ts';
import { startFakeKubelet } from '../support/fake-kubelet.ts';
import { MemoryLatch } from '../support/memory-latch.ts';

// Two cores may be shared with other test files: times are told, and bounds are wide.
t.setTimeout(600_000);

const LABELS = { 'vsf-workload': 'true' };
const order = (change: Partial<StopOrder> = {}): StopOrder => ({
  orderId: 'trip-1',
  scope: { kind: 'all' },
  what: 'everything',
  targets: [],
  reason: 'GPU 0 of node-1 is at 91 °C, hard stop is 85 °C',
  ...change,
});

interface Rig {
  readonly api: KubeApi;
  readonly actuator: Actuator;
  readonly latch: MemoryLatch;
}

async function rigOn(t: Test, plane: ControlPlane): Promise<Rig> {
  const kubeconfig = await plane.kubeconfigFor(plane.serviceToken);
  const client = await createKubeClient({ clock: systemClock, kubeconfig });
  if (!client.ok) throw new Error(client.detail);
  const found = await discoverKinds(client.api, 10_000);
  if (!found.ok) throw new Error(found.detail);
  const kinds: readonly KubeResource[] = found.value.kinds;
  const latch = new MemoryLatch();
  const actuator = createKubernetesActuator({
    clock: systemClock,
    api: client.api,
    kinds: () => kinds,
    namespaces: [],
    latch,
    nodeName: (node) => node,
    missingRights: () => [],
  });
  t.teardown(async () => {
    await actuator.close();
    await client.api.close();
  });
  return { api: client.api, actuator, latch };
}

const template = (labels: object, change: object = {}): object => ({
  metadata: { labels: { app: 'load', ...labels } },
  spec: { containers: [{ name: 'load', image: 'example.invalid/load:1' }], ...change },
});

/** Creates an object in namespace `gpu` under its kind's path. */
const PATHS: Record<string, string> = {
  Deployment: '/apis/apps/v1/namespaces/gpu/deployments',
  StatefulSet: '/apis/apps/v1/namespaces/gpu/statefulsets',
  DaemonSet: '/apis/apps/v1/namespaces/gpu/daemonsets',
  Job: '/apis/batch/v1/namespaces/gpu/jobs',
  Pod: '/api/v1/namespaces/gpu/pods',
};
const create = (plane: ControlPlane, kind: keyof typeof PATHS, name: string, body: object): Promise<AnyObject> =>
  plane.must('POST', PATHS[kind] ?? '', {
    metadata: { name, ...('labels' in body && { labels: body.labels }) },
    ...body,
  });

async function podsOf(plane: ControlPlane): Promise<AnyObject[]> {
  return (await plane.must('GET', '/api/v1/namespaces/gpu/pods')).items;
}

async function until(what: string, ms: number, holds: () => Promise<boolean> | boolean): Promise<number> {
  const startedAt = Date.now();
  while (!(await holds())) {
    if (Date.now() - startedAt > ms) throw new Error(`Not within ${ms} ms: ${what}`);
    await sleep(100);
  }
  return Date.now() - startedAt;
}

const isLabelled = (pod: AnyObject): boolean => pod.metadata.labels?.['vsf-workload'] === 'true';

t.test('stop() on a real control plane', { skip: lacksControlPlane, timeout: 500_000 }, async (t) => {
  const plane = await startControlPlane(t);
  await startFakeKubelet(t, plane, ['node-1', 'node-2']);
  await plane.apply('helm/rbac/cluster-role.yaml');
  await plane.must('POST', '/api/v1/namespaces', { metadata: { name: 'gpu' } });
  const { actuator, latch } = await rigOn(t, plane);

  await t.test(
    'takes down everything labelled, in seconds and for good, and nothing else',
    { timeout: 400_000 },
    async (t) => {
      const made = [];
      for (let i = 0; i < 20; i++) {
        const labels = { ...LABELS, app: `d${i}` };
        const spec = { replicas: 10, selector: { matchLabels: { app: `d${i}` } }, template: template(labels) };
        made.push(create(plane, 'Deployment', `d${i}`, { spec }));
      }
      for (let i = 0; i < 5; i++) {
        const spec = {
          parallelism: 3,
          completions: 3,
          backoffLimit: 2,
          template: template(LABELS, { restartPolicy: 'Never' }),
        };
        made.push(create(plane, 'Job', `j${i}`, { spec }));
      }
      const labels = { ...LABELS, app: 's' };
      made.push(
        create(plane, 'StatefulSet', 's', {
          spec: {
            replicas: 3,
            serviceName: 's',
            selector: { matchLabels: { app: 's' } },
            podManagementPolicy: 'Parallel',
            template: template(labels),
          },
        }),
        create(plane, 'DaemonSet', 'ds', {
          spec: { selector: { matchLabels: { app: 'ds' } }, template: template({ ...LABELS, app: 'ds' }) },
        }),
        create(plane, 'Pod', 'bare', { ...template({}), metadata: { name: 'bare', labels: LABELS } }),
        create(plane, 'Pod', 'stranger', { ...template({}), metadata: { name: 'stranger' } }),
        create(plane, 'Deployment', 'neighbour', {
          spec: { replicas: 2, selector: { matchLabels: { app: 'n' } }, template: template({ app: 'n' }) },
        }),
        create(plane, 'Deployment', 'by-owner', {
          labels: LABELS,
          spec: { replicas: 2, selector: { matchLabels: { app: 'o' } }, template: template({ app: 'o' }) },
        }),
      );
      await Promise.all(made);
      const running = async (): Promise<boolean> => {
        const pods = await podsOf(plane);
        return pods.length === 200 + 15 + 3 + 2 + 1 + 1 + 2 + 2 && pods.every((pod) => pod.status.phase === 'Running');
      };
      await until('everything runs', 120_000, running);
      const inventory = await actuator.inventory(systemClock.now().elapsedMs + 5000);
      t.match(inventory, { available: true });
      t.equal(inventory.workloads.length, 223, 'labelled pods, and those of a labelled controller');

      const withdrawn = new AbortController();
      let last: StopProgress = { entries: [], verified: false };
      const startedAt = Date.now();
      const stopping = actuator.stop(order(), (progress) => (last = progress), withdrawn.signal);
      const emptyMs = await until('all pods gone', 90_000, async () => {
        const pods = await podsOf(plane);
        return pods.every((pod) => !isLabelled(pod) && pod.metadata.labels?.app !== 'o');
      });
      t.comment(`empty after ${emptyMs} ms`);
      let back = 0;
      const verifiedMs = await until('verified', 90_000, async () => {
        back += (await podsOf(plane)).filter(isLabelled).length;
        return last.verified;
      });
      t.comment(`verified after ${Date.now() - startedAt} ms (${verifiedMs} after empty)`);
      t.equal(back, 0, 'nothing came back');
      t.equal((await podsOf(plane)).length, 3, 'neighbours are untouched');
      const jobs = (await plane.must('GET', PATHS['Job'] ?? '')).items;
      t.equal(jobs.length, 5);
      t.notOk(jobs.some((job: AnyObject) => job.status.conditions?.some((one: AnyObject) => one.type === 'Failed')));
      t.match(
        last.entries.find((entry) => entry.name === 'gpu/d7' && entry.kind === 'Deployment'),
        {
          state: 'stopped',
          prior: '10',
          how: 'scale 10 -> 0',
          verified: true,
        },
      );
      t.equal([...latch.priors.values()].filter((prior) => prior.kind === 'Deployment').length, 21);
      withdrawn.abort();
      await stopping;
    },
  );

  await t.test(
    'ends although the API server is killed in the middle and comes back',
    { timeout: 400_000 },
    async (t) => {
      const labels = { ...LABELS, app: 'again' };
      const spec = { replicas: 10, selector: { matchLabels: { app: 'again' } }, template: template(labels) };
      await create(plane, 'Deployment', 'again', { spec });
      const isRunning = async (): Promise<boolean> => {
        const pods = (await podsOf(plane)).filter(isLabelled);
        return pods.length === 10 && pods.every((pod) => pod.status.phase === 'Running');
      };
      await until('everything runs', 120_000, isRunning);
      await actuator.inventory(systemClock.now().elapsedMs + 10_000);
      const withdrawn = new AbortController();
      let last: StopProgress = { entries: [], verified: false };
      await plane.apiserver.stop();
      const stopping = actuator.stop(order(), (progress) => (last = progress), withdrawn.signal);
      await until('the report says so', 20_000, () => last.entries.some((entry) => entry.kind === 'Cluster'));
      t.notOk(last.verified);
      await plane.apiserver.start();
      await until('verified', 120_000, () => last.verified);
      t.notOk((await podsOf(plane)).some(isLabelled));
      t.notOk(last.entries.some((entry) => entry.kind === 'Cluster'));
      withdrawn.abort();
      await stopping;
    },
  );
});
