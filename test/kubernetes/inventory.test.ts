import t, { type Test } from 'tap';
import type { Actuator } from '../../src/actuators/actuator.ts';
import { createKubernetesActuator } from '../../src/kubernetes/kubernetes-stop.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { MemoryLatch } from '../support/memory-latch.ts';
import { customKind, failed, StandInCluster } from '../support/stand-in-cluster.ts';

const MARK = { 'vsf-workload': 'true' };

function rig(t: Test, missingRights: readonly string[] = []) {
  const clock = new ManualClock();
  const cluster = new StandInCluster(clock);
  const actuator: Actuator = createKubernetesActuator({
    clock,
    api: cluster,
    kinds: () => cluster.kinds,
    namespaces: [],
    latch: new MemoryLatch(),
    nodeName: (node) => node,
    missingRights: () => missingRights,
  });
  t.teardown(() => actuator.close());
  const look = async (ms = 3000) => {
    const looking = actuator.inventory(clock.now().elapsedMs + ms);
    await clock.advance(ms + 1);
    return await looking;
  };
  return { clock, cluster, look };
}

t.test('inventory() tells active labelled pods with node and lease, and pods of labelled controllers', async (t) => {
  const { cluster, look } = rig(t);
  cluster.pod('a', { labels: { ...MARK, 'vsf-lease': 'L1' } });
  cluster.pod('b', { node: 'node-2', metadata: { annotations: { 'vsf-lease': 'L2' } } });
  cluster.pod('done', { status: { phase: 'Succeeded' } });
  cluster.pod('waiting', { node: null });
  cluster.pod('stranger', { labels: {} });
  cluster.owner('StatefulSet', 's', {
    metadata: { labels: MARK },
    spec: { replicas: 1, template: { metadata: { labels: {} } } },
  });
  const { available, workloads, detail } = await look();
  t.ok(available);
  t.match(detail, /3 pods on nodes, 1 pods not scheduled, 1 controllers/);
  t.strictSame(
    workloads.filter(({ name }) => !name.startsWith('gpu/s-')),
    [
      { kind: 'pod', node: 'node-1', name: 'gpu/a', leaseId: 'L1' },
      { kind: 'pod', node: 'node-2', name: 'gpu/b', leaseId: 'L2' },
      { kind: 'pod', node: null, name: 'gpu/waiting' },
    ],
  );
  t.equal(workloads.length, 4);
});

t.test('inventory() counts a terminating pod until its containers are told to have ended', async (t) => {
  const { cluster, look } = rig(t);
  const metadata = { deletionTimestamp: 'now', deletionGracePeriodSeconds: 1, finalizers: ['x/y'] };
  cluster.pod('dying', { metadata });
  cluster.pod('dead', { metadata, status: { phase: 'Running', containerStatuses: [{ state: { terminated: {} } }] } });
  t.strictSame(
    (await look()).workloads.map(({ name }) => name),
    ['gpu/dying'],
  );
});

t.test('inventory() keeps what it knew when the lists fail, and is not available', async (t) => {
  const { clock, cluster, look } = rig(t);
  cluster.pod('a');
  await look();
  cluster.fault = () => failed('server-error', 'Cannot list pods: 500');
  await clock.advance(10_000);
  t.match(await look(), { available: false, detail: /500/, workloads: [{ name: 'gpu/a' }] });
  cluster.fault = () => 'hang';
  await clock.advance(10_000);
  t.match(await look(500), { available: false, detail: /no answer within 500 ms/, workloads: [{ name: 'gpu/a' }] });
});

t.test('inventory() is not available without a built-in kind or a right, and only notes a custom kind', async (t) => {
  const { clock, cluster, look } = rig(t);
  cluster.kinds = [...cluster.kinds, customKind('example.org', 'Gang', 'gangs', true)];
  cluster.fault = ({ path }) => (path.endsWith('/gangs') ? failed('forbidden', 'Cannot list gangs: 403') : undefined);
  t.match(await look(), { available: true, detail: /Cannot list gangs: 403/ });
  cluster.fault = ({ path }) => (path.endsWith('/jobs') ? failed('forbidden', 'Cannot list jobs: 403') : undefined);
  await clock.advance(10_000);
  t.match(await look(), { available: false, detail: 'Cannot list jobs: 403' });
  t.match(await rig(t, ['patch jobs.batch in gpu']).look(), { available: false, detail: /patch jobs.batch in gpu/ });
});

t.test('inventory() looks up a controller that is in no list, once, and says when it cannot be read', async (t) => {
  const { clock, cluster, look } = rig(t);
  cluster.kinds = [...cluster.kinds, customKind('example.org', 'Thing', 'things')];
  const thing = cluster.owner('Thing', 'x', { spec: {} });
  cluster.pod('a', { owner: thing });
  cluster.pod('b', { owner: thing });
  t.match(await look(), { available: true, detail: /2 pods on nodes, 1 controllers/ });
  await clock.advance(10_000);
  await look();
  t.equal(cluster.count('get', '/things/x'), 1);
  cluster.pod('c', { owner: { apiVersion: 'unknown.org/v1', kind: 'Ghost', name: 'g', uid: 'ghost' } });
  await clock.advance(10_000);
  t.match(await look(), { available: false, detail: /Ghost gpu\/g: the cluster does not serve this kind/ });
});

t.test('inventory() survives owner references that go round in a circle', async (t) => {
  const { cluster, look } = rig(t);
  const spec = { replicas: 0, template: { metadata: { labels: MARK } } };
  const a = { apiVersion: 'apps/v1', kind: 'StatefulSet', name: 'a', uid: 'uid-a', controller: true };
  const b = { ...a, name: 'b', uid: 'uid-b' };
  cluster.put('StatefulSet', 'a', { spec, metadata: { uid: 'uid-a', ownerReferences: [b] } });
  cluster.put('StatefulSet', 'b', { spec, metadata: { uid: 'uid-b', ownerReferences: [a] } });
  cluster.pod('p', { owner: a });
  t.match(await look(), { available: true, detail: /1 pods on nodes, 2 controllers/ });
});

t.test('inventory() takes a static pod for a pod without a controller', async (t) => {
  const { cluster, look } = rig(t);
  const metadata = { annotations: { 'kubernetes.io/config.mirror': 'x' } };
  cluster.pod('static', { metadata, owner: { apiVersion: 'v1', kind: 'Node', name: 'node-1', uid: 'n' } });
  t.match(await look(), { available: true, workloads: [{ name: 'gpu/static' }] });
  t.equal(cluster.count('get', '/nodes/node-1'), 0);
});
