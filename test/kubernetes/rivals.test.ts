import t, { type Test } from 'tap';
import type { Unprotected } from '../../src/domain/result.ts';
import { createKubernetesActuator } from '../../src/kubernetes/kubernetes-stop.ts';
import { neededRights } from '../../src/kubernetes/needed-rights.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { MemoryLatch } from '../support/memory-latch.ts';
import { BUILT_IN_KINDS, customKind, failed, StandInCluster } from '../support/stand-in-cluster.ts';

const AUTOSCALER = customKind('autoscaling', 'HorizontalPodAutoscaler', 'horizontalpodautoscalers', false, 'v2');
const SCALED_OBJECT = customKind('keda.sh', 'ScaledObject', 'scaledobjects', false, 'v1alpha1');
const template = (labels: object): object => ({ metadata: { labels } });

interface Rig {
  readonly cluster: StandInCluster;
  /** A Deployment of ours, with these labels and annotations on itself. */
  deploy(name: string, metadata?: object, mark?: string): void;
  look(): Promise<{ readonly available: boolean; readonly unprotected: readonly Unprotected[] }>;
}

function rig(t: Test): Rig {
  const clock = new ManualClock();
  const cluster = new StandInCluster(clock);
  cluster.kinds = [...BUILT_IN_KINDS, AUTOSCALER, SCALED_OBJECT];
  const actuator = createKubernetesActuator({
    clock,
    api: cluster,
    kinds: () => cluster.kinds,
    namespaces: [],
    latch: new MemoryLatch(),
    nodeName: (node) => node,
    missingRights: () => [],
  });
  t.teardown(() => actuator.close());
  return {
    cluster,
    deploy: (name, metadata = {}, mark = 'true') => {
      cluster.owner('Deployment', name, {
        metadata,
        spec: { replicas: 1, template: template({ 'vsf-workload': mark }) },
      });
    },
    look: async () => {
      const looking = actuator.inventory(clock.now().elapsedMs + 3000);
      await clock.advance(3000);
      const { available, unprotected = [] } = await looking;
      return { available, unprotected };
    },
  };
}

const scaling = (name: string, kind?: string): object => ({
  spec: { scaleTargetRef: { ...(kind && { kind }), name } },
});

t.test('inventory() names nobody where nobody raises what a stop holds at 0', async (t) => {
  const { cluster, deploy, look } = rig(t);
  deploy('train', { labels: { 'app.kubernetes.io/instance': 'train', 'app.kubernetes.io/managed-by': 'Helm' } });
  deploy('web', { labels: { 'argocd.argoproj.io/instance': 'web' } }, 'false');
  cluster.put('HorizontalPodAutoscaler', 'web', scaling('web', 'Deployment'));
  cluster.put('HorizontalPodAutoscaler', 'away', scaling('train', 'Deployment'), 'other');
  cluster.put('HorizontalPodAutoscaler', 'kind', scaling('train', 'StatefulSet'));
  t.strictSame(await look(), { available: true, unprotected: [] }, 'not of strangers, other places or other kinds');
});

t.test('inventory() names each tool that keeps a workload as a repository says (H06)', async (t) => {
  const marks = [
    ['Argo CD', { labels: { 'argocd.argoproj.io/instance': 'x' } }],
    ['Argo CD', { annotations: { 'argocd.argoproj.io/tracking-id': 'x:apps/Deployment:gpu/train' } }],
    ['Flux', { labels: { 'kustomize.toolkit.fluxcd.io/name': 'x' } }],
    ['Flux', { labels: { 'helm.toolkit.fluxcd.io/name': 'x' } }],
    ['Rancher Fleet', { annotations: { 'objectset.rio.cattle.io/id': 'x' } }],
  ] as const;
  for (const [name, metadata] of marks) {
    const { deploy, look } = rig(t);
    deploy('train', metadata);
    const { available, unprotected } = await look();
    t.ok(available, 'a start is warned, not refused');
    t.match(unprotected, [
      { code: 'may-be-raised', name, message: new RegExp(`${name} manages Deployment gpu/train `) },
    ]);
    t.equal(unprotected.length, 1, JSON.stringify(metadata));
  }
});

t.test('inventory() names KEDA and autoscalers by what they scale (H06)', async (t) => {
  const { cluster, deploy, look } = rig(t);
  deploy('train');
  deploy('tune');
  const uid = cluster.put('ScaledObject', 'queue', scaling('train'));
  const own = { apiVersion: 'keda.sh/v1alpha1', kind: 'ScaledObject', name: 'queue', uid, controller: true };
  const ofKeda = { ...scaling('train', 'Deployment'), metadata: { ownerReferences: [own] } };
  cluster.put('HorizontalPodAutoscaler', 'keda-hpa-queue', ofKeda);
  cluster.put('HorizontalPodAutoscaler', 'tune', scaling('tune', 'Deployment'));
  const { unprotected } = await look();
  t.match(unprotected, [
    { code: 'may-be-raised', name: 'KEDA', message: /^KEDA scales Deployment gpu\/train: a stop pauses/ },
    { code: 'may-be-raised', name: 'HorizontalPodAutoscaler', message: /scales Deployment gpu\/tune: it rests/ },
  ]);
  t.equal(unprotected.length, 2, "KEDA's own autoscaler sleeps with its ScaledObject");
});

t.test('inventory() names three and counts the rest, in one entry for each who may raise them', async (t) => {
  const { deploy, look } = rig(t);
  for (const name of ['e', 'd', 'c', 'b', 'a']) deploy(name, { labels: { 'argocd.argoproj.io/instance': 'x' } });
  const { unprotected } = await look();
  t.equal(unprotected.length, 1);
  t.match(unprotected[0]?.message, /Deployment gpu\/a, Deployment gpu\/b, Deployment gpu\/c and 2 more and may raise/);
});

t.test('inventory() goes on without autoscalers where it may not list them', async (t) => {
  const { cluster, deploy, look } = rig(t);
  deploy('train');
  cluster.fault = ({ path }) => (path.endsWith('horizontalpodautoscalers') ? failed('forbidden') : undefined);
  t.strictSame(await look(), { available: true, unprotected: [] });
  const wanted = neededRights({ kinds: cluster.kinds, namespaces: [], namespace: 'vsf', findsExporters: false });
  const right = wanted.find(({ right: { resource } }) => resource === 'horizontalpodautoscalers');
  t.strictSame(right, {
    right: { verb: 'list', group: 'autoscaling', resource: 'horizontalpodautoscalers' },
    isVital: false,
  });
});
