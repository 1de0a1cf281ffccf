import t, { type Test } from 'tap';
import type { Actuator, StopProgress } from '../../src/actuators/actuator.ts';
import type { StopEntry, StopOrder } from '../../src/domain/stop.ts';
import { createKubernetesActuator } from '../../src/kubernetes/kubernetes-stop.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { MemoryLatch } from '../support/memory-latch.ts';
import { customKind, failed, StandInCluster } from '../support/stand-in-cluster.ts';

const MARK = { 'vsf-workload': 'true' };
const template = (labels: object = MARK, spec: object = {}): object => ({ metadata: { labels }, spec });

class Rig {
  readonly clock = new ManualClock();
  readonly cluster = new StandInCluster(this.clock);
  readonly latch = new MemoryLatch();
  readonly withdrawn = new AbortController();
  readonly actuator: Actuator;
  last: StopProgress = { entries: [], verified: false };
  reports = 0;

  constructor(t: Test, namespaces: readonly string[] = []) {
    this.actuator = createKubernetesActuator({
      clock: this.clock,
      api: this.cluster,
      kinds: () => this.cluster.kinds,
      namespaces,
      latch: this.latch,
      nodeName: (node) => node,
      missingRights: () => [],
    });
    t.teardown(async () => {
      this.withdrawn.abort();
      const closing = this.actuator.close();
      await this.clock.advance(20_000);
      await closing;
    });
  }

  /** A tick's look, so that a stop starts from memory. */
  async look(): Promise<void> {
    const looking = this.actuator.inventory(this.clock.now().elapsedMs + 3000);
    await this.clock.advance(100);
    await looking;
    this.cluster.asked.length = 0;
  }

  stop(change: Partial<StopOrder> = {}): void {
    const order: StopOrder = {
      orderId: 'trip-1',
      scope: { kind: 'all' },
      what: 'everything',
      targets: [],
      reason: 'hot',
      ...change,
    };
    void this.actuator.stop(
      order,
      (progress) => {
        this.last = progress;
        this.reports += 1;
      },
      this.withdrawn.signal,
    );
  }

  entry(kind: string, name: string): StopEntry | undefined {
    return this.last.entries.find((entry) => entry.kind === kind && entry.name === `gpu/${name}`);
  }

  get running(): string[] {
    return this.cluster.pods.map((pod) => pod.metadata.name).sort();
  }
}

/** A Deployment with its ReplicaSet and pods. */
function deployment(cluster: StandInCluster, name: string, replicas: number, labels: object = MARK): void {
  const above = cluster.owner('Deployment', name, { spec: { replicas, template: template(labels) } });
  cluster.owner('ReplicaSet', `${name}-rs`, { spec: { replicas, template: template(labels) } }, above);
}

t.test(
  'stop() scales controllers to 0 at every level, deletes each pod with grace 1, and verifies after 15 s',
  async (t) => {
    const rig = new Rig(t);
    deployment(rig.cluster, 'train', 3);
    rig.cluster.pod('stranger', { labels: {} });
    rig.cluster.pod('false-friend', { labels: { 'vsf-workload': 'True' } });
    await rig.look();
    rig.stop();
    await rig.clock.advance(3);
    t.equal(rig.cluster.count('remove', '/pods/'), 3, 'from memory, without waiting for a list');
    await rig.clock.advance(5000);
    t.strictSame(rig.running, ['false-friend', 'stranger']);
    t.notOk(rig.last.verified, 'gone is not verified');
    t.match(rig.entry('Deployment', 'train'), { state: 'stopped', prior: '3', how: 'scale 3 -> 0', verified: true });
    t.ok(rig.cluster.asked.filter(({ verb }) => verb === 'remove').every(({ graceSeconds }) => graceSeconds === 1));
    await rig.clock.advance(9000);
    t.notOk(rig.last.verified, 'not before 15 s of quiet');
    await rig.clock.advance(6000);
    t.ok(rig.last.verified);
    t.equal(rig.latch.armedFor.length > 5, true, 'the deny rule is armed again and again');
  },
);

t.test('stop() hears of resets elsewhere before it goes on after the server was away', async (t) => {
  const rig = new Rig(t);
  rig.cluster.pod('a');
  await rig.look();
  rig.stop();
  await rig.clock.advance(20_000);
  t.same(rig.running, []);
  let isAway = true;
  rig.cluster.fault = () => (isAway ? failed('unreachable') : undefined);
  await rig.clock.advance(10_000);
  // Another process resets the trip, and what it permits is started; then this one is back.
  rig.cluster.pod('b');
  rig.latch.onCatchUp = async () => {
    await rig.clock.sleep(200);
    rig.withdrawn.abort();
  };
  isAway = false;
  await rig.clock.advance(10_000);
  t.same(rig.running, ['b'], 'what was started since is not stopped');

  await t.test('and goes on after 3 s if nobody tells', async (t) => {
    const mute = new Rig(t);
    mute.latch.onCatchUp = () => new Promise(() => undefined);
    mute.cluster.pod('a');
    await mute.look();
    mute.stop();
    mute.cluster.pod('b');
    await mute.clock.advance(3_300);
    t.same(mute.running, ['b'], 'what was known is deleted at once');
    await mute.clock.advance(4_000);
    t.same(mute.running, []);
  });
});

t.test('stop() keeps looking: what comes back is stopped, and verified is taken back', async (t) => {
  const rig = new Rig(t);
  rig.cluster.pod('a');
  await rig.look();
  rig.stop();
  await rig.clock.advance(25_000);
  t.ok(rig.last.verified);
  rig.cluster.pod('b');
  await rig.clock.advance(1000);
  t.notOk(rig.last.verified);
  await rig.clock.advance(2500);
  t.strictSame(rig.running, [], 'H05: a pod that replaced another');
  rig.withdrawn.abort();
  await rig.clock.advance(5000);
  rig.cluster.asked.length = 0;
  rig.cluster.pod('c');
  await rig.clock.advance(10_000);
  t.equal(rig.cluster.asked.length, 0, 'an order that is withdrawn asks nothing more');
});

t.test(
  'stop() asks for the deny rule before anything else: behind deletes it would let the first new pods in',
  async (t) => {
    const rig = new Rig(t);
    deployment(rig.cluster, 'train', 3);
    await rig.look();
    let askedBefore: number | null = null;
    const { arm } = rig.latch;
    rig.latch.arm = (order) => {
      askedBefore ??= rig.cluster.asked.length;
      return arm.call(rig.latch, order);
    };
    rig.stop();
    t.equal(askedBefore, 0);
    t.ok(rig.cluster.count('remove', '/pods/') > 0, 'and the first deletes are sent in the same moment');
    await rig.clock.advance(100);
  },
);

t.test('stop() deletes pods that nothing makes again before those of controllers', async (t) => {
  const rig = new Rig(t);
  deployment(rig.cluster, 'train', 3);
  for (const name of ['a', 'b']) rig.cluster.pod(name);
  await rig.look();
  rig.stop();
  const deleted = rig.cluster.asked.filter(({ verb }) => verb === 'remove').map(({ path }) => path.split('/').at(-1));
  t.strictSame(deleted.slice(0, 2).sort(), ['a', 'b']);
  t.equal(deleted.length, 5, 'and all of them in the same moment, as far as there is room');
  await rig.clock.advance(100);
});

t.test('stop() looks as soon as the deny rule holds, and so finds at once what came in before it', async (t) => {
  const rig = new Rig(t);
  deployment(rig.cluster, 'train', 3);
  await rig.look();
  // Controllers that are slow to be scaled, and a rule that comes into force a moment too late.
  rig.cluster.fault = ({ verb }) => (verb === 'patch' ? 'hang' : undefined);
  rig.latch.arm = async () => {
    await rig.clock.sleep(100);
    rig.cluster.denies = () => true;
    return { kind: 'armed' };
  };
  rig.stop();
  await rig.clock.advance(99);
  t.equal(rig.cluster.pods.length, 6, 'three that are told to end, three that came back');
  t.equal(rig.cluster.count('remove', '/pods/'), 3);
  await rig.clock.advance(21);
  t.equal(rig.cluster.count('remove', '/pods/'), 6, 'not only after the 500 ms of the usual look');
  await rig.clock.advance(20_000);
  t.strictSame(rig.running, []);
});

t.test('stop() follows 2,000 controllers, and counts those beyond that are gone', async (t) => {
  const rig = new Rig(t);
  const labels = { 'vsf-workload': 'true' };
  const spec = { replicas: 0, template: template() };
  const names = Array.from({ length: 2_100 }, (_, index) => `old-${index}`);
  for (const name of names) rig.cluster.put('ReplicaSet', name, { metadata: { labels }, spec });
  await rig.look();
  rig.stop();
  await rig.clock.advance(5_000);
  const told = (): number => rig.last.entries.filter(({ kind }) => kind === 'ReplicaSet').length;
  t.equal(told(), 2_100, 'all that are there');
  rig.cluster.takeAway(({ kind }) => kind === 'ReplicaSet');
  await rig.clock.advance(20_000);
  t.equal(told(), 2_000);
  t.match(
    rig.last.entries.find(({ kind }) => kind === 'Controller'),
    { name: '100 more that are gone', state: 'stopped', verified: true },
  );
  t.ok(rig.last.verified);
});

t.test('stop() suspends a Job before its pods are deleted, or gives it 300 ms', async (t) => {
  const rig = new Rig(t);
  rig.cluster.owner('Job', 'batch', { spec: { parallelism: 2, template: template() } });
  await rig.look();
  rig.stop();
  await rig.clock.advance(1000);
  const order = rig.cluster.asked.filter(({ verb }) => verb === 'patch' || verb === 'remove').map(({ verb }) => verb);
  t.strictSame(order.slice(0, 3), ['patch', 'remove', 'remove']);
  t.match(rig.entry('Job', 'batch'), { prior: 'suspend: false', how: 'suspend -> true' });

  const slow = new Rig(t);
  slow.cluster.owner('Job', 'batch', { spec: { template: template() } });
  await slow.look();
  slow.cluster.fault = ({ verb }) => (verb === 'patch' ? 'hang' : undefined);
  slow.stop();
  await slow.clock.advance(290);
  t.equal(slow.cluster.count('remove', '/pods/'), 0);
  await slow.clock.advance(20);
  t.equal(slow.cluster.count('remove', '/pods/'), 1, 'no suspend keeps a pod alive for longer');
});

t.test('stop() sees that a server took a suspend and dropped it, and sets parallelism to 0', async (t) => {
  const rig = new Rig(t);
  rig.cluster.drops = ['suspend'];
  rig.cluster.owner('Job', 'old', { spec: { parallelism: 2, template: template() } });
  await rig.look();
  rig.stop();
  await rig.clock.advance(5000);
  t.equal(rig.cluster.at('Job', 'old').spec.parallelism, 0);
  t.match(rig.entry('Job', 'old'), { state: 'stopped', verified: true, how: /parallelism -> 0/ });
  t.strictSame(rig.running, []);
});

t.test(
  'stop() stops a DaemonSet by a node selector, a CronJob by suspend, a labelled owner with unlabelled pods',
  async (t) => {
    const rig = new Rig(t);
    rig.cluster.owner('DaemonSet', 'ds', { spec: { template: template() } });
    rig.cluster.owner('CronJob', 'cron', { spec: { jobTemplate: { spec: { template: template() } } } });
    deployment(rig.cluster, 'by-owner', 2, {});
    rig.cluster.at('Deployment', 'by-owner').metadata.labels = MARK;
    rig.cluster.pod('stranger', { labels: {} });
    await rig.look();
    rig.stop();
    await rig.clock.advance(5000);
    t.equal(rig.cluster.at('DaemonSet', 'ds').spec.template.spec.nodeSelector['vsf-safety.io/stopped'], 'true');
    t.match(rig.entry('DaemonSet', 'ds'), { prior: 'vsf-safety.io/stopped: none', verified: true });
    t.equal(rig.cluster.at('CronJob', 'cron').spec.suspend, true);
    t.strictSame(rig.running, ['stranger']);
    await rig.clock.advance(20_000);
    t.ok(rig.last.verified);
  },
);

t.test('stop() follows a controller that was ours by its pods alone until it is read back stopped', async (t) => {
  const rig = new Rig(t);
  deployment(rig.cluster, 'mixed', 2, {});
  const [pod] = rig.cluster.pods;
  pod.metadata.labels = MARK;
  await rig.look();
  rig.stop();
  await rig.clock.advance(4000);
  t.strictSame(rig.running, []);
  rig.cluster.at('Deployment', 'mixed').spec.replicas = 4;
  rig.cluster.at('Deployment', 'mixed').metadata.managedFields = [
    { manager: 'argocd-controller', time: '2026-01-01T00:00:00Z', fieldsV1: { 'f:spec': { 'f:replicas': {} } } },
  ];
  await rig.clock.advance(4000);
  t.equal(rig.cluster.at('Deployment', 'mixed').spec.replicas, 0, 'H06: set back');
  t.match(rig.entry('Deployment', 'mixed'), { detail: /raised again 1 times, last by argocd-controller/, prior: '2' });
});

t.test('stop() leaves a StatefulSet alone whose scale-down deletes volumes, and relies on the deny rule', async (t) => {
  const rig = new Rig(t);
  rig.latch.armState = { kind: 'armed' };
  const spec = { replicas: 1, persistentVolumeClaimRetentionPolicy: { whenScaled: 'Delete' }, template: template() };
  rig.cluster.owner('StatefulSet', 'data', { spec });
  await rig.look();
  rig.stop();
  await rig.clock.advance(3000);
  t.equal(rig.cluster.count('patch', '/statefulsets/'), 0);
  t.match(rig.entry('StatefulSet', 'data'), { how: 'deny rule and deletes only', detail: /would delete its volumes/ });
});

t.test('stop() goes on past a right that is missing, and says which', async (t) => {
  const rig = new Rig(t);
  deployment(rig.cluster, 'train', 2);
  rig.cluster.owner('Job', 'batch', { spec: { template: template() } });
  await rig.look();
  rig.cluster.fault = ({ verb, path }) =>
    verb === 'patch' && path.includes('deployments')
      ? failed('forbidden', 'Cannot patch deployments/scale: 403')
      : undefined;
  rig.stop();
  await rig.clock.advance(30_000);
  t.equal(rig.cluster.at('Job', 'batch').spec.suspend, true);
  t.match(rig.entry('Deployment', 'train'), { state: 'failed', detail: /403/, verified: false });
  t.notOk(rig.last.verified);
  t.ok(rig.cluster.count('patch', 'deployments/train/scale') > 5, 'a right may come: it is tried for ever');
  rig.cluster.fault = () => undefined;
  await rig.clock.advance(25_000);
  t.match(rig.entry('Deployment', 'train'), { state: 'stopped', verified: true });
  t.ok(rig.last.verified);
});

t.test('stop() tries a pod that an admission rule protects for ever, and names it', async (t) => {
  const rig = new Rig(t);
  for (const name of ['a', 'b', 'protected']) rig.cluster.pod(name);
  await rig.look();
  rig.cluster.fault = ({ verb, path }) =>
    verb === 'remove' && path.endsWith('/protected')
      ? failed('forbidden', '403 admission webhook "keep" denied it')
      : undefined;
  rig.stop();
  await rig.clock.advance(60_000);
  t.strictSame(rig.running, ['protected']);
  t.match(rig.entry('Pod', 'protected'), { state: 'failed', detail: /"keep" denied/ });
  t.ok(rig.cluster.count('remove', '/protected') > 20);
});

t.test('stop() waits as long as a busy server asks, at most 1 s, and repeats conflicts', async (t) => {
  const rig = new Rig(t);
  rig.cluster.pod('busy');
  deployment(rig.cluster, 'train', 1);
  await rig.look();
  let refusals = 0;
  let conflicts = 0;
  rig.cluster.fault = ({ verb, path }) => {
    if (verb === 'remove' && path.endsWith('/busy') && refusals++ < 3)
      return failed('too-many-requests', '429', 60_000);
    if (verb === 'patch' && path.includes('/deployments/') && conflicts++ < 3)
      return failed('conflict', '409 Conflict');
    return undefined;
  };
  rig.stop();
  await rig.clock.advance(3500);
  t.equal(rig.cluster.count('remove', '/busy'), 4, 'H08');
  t.equal(rig.cluster.at('Deployment', 'train').spec.replicas, 0, 'H07');
});

t.test('stop() removes by force only after 10 s and only from a node that does not answer, unconfirmed', async (t) => {
  const rig = new Rig(t);
  rig.cluster.hung.add('node-2').add('node-1');
  rig.cluster.node('node-2', 'Unknown');
  rig.cluster.pod('on-dead', { node: 'node-2' });
  rig.cluster.pod('on-live', { node: 'node-1', metadata: { finalizers: ['keep/it'] } });
  await rig.look();
  rig.stop();
  await rig.clock.advance(9000);
  t.notOk(rig.cluster.asked.some(({ graceSeconds }) => graceSeconds === 0));
  await rig.clock.advance(3000);
  const forced = rig.cluster.asked.filter(({ graceSeconds }) => graceSeconds === 0);
  t.strictSame(
    forced.map(({ path }) => path),
    ['/api/v1/namespaces/gpu/pods/on-dead'],
  );
  await rig.clock.advance(20_000);
  t.match(rig.entry('Pod', 'on-dead'), {
    state: 'stopped',
    verified: false,
    detail: /unconfirmed: removed by force from node-2/,
  });
  t.match(rig.entry('Pod', 'on-live'), { state: 'stopping', detail: /its node node-1 answers/ }, 'H02');
  t.notOk(rig.last.verified);
});

t.test(
  'stop() says after 5 s that the cluster cannot be listed, goes on deleting from memory, and recovers',
  async (t) => {
    const rig = new Rig(t);
    rig.cluster.pod('a');
    await rig.look();
    rig.cluster.fault = ({ verb }) =>
      verb === 'list' ? failed('bad-body', 'Cannot list pods: 200 is no PodList') : undefined;
    rig.stop();
    await rig.clock.advance(4000);
    t.strictSame(rig.running, []);
    t.notOk(rig.last.entries.some((entry) => entry.kind === 'Cluster'));
    await rig.clock.advance(3000);
    const cluster = rig.last.entries.find((entry) => entry.kind === 'Cluster');
    t.match(cluster, { state: 'failed', verified: false, detail: /over 5 s, still trying: .*no PodList/ }, 'H19');
    t.match(rig.entry('Pod', 'a'), { state: 'stopping', verified: false }, 'an answer to a delete proves nothing');
    rig.cluster.fault = () => undefined;
    await rig.clock.advance(25_000);
    t.ok(rig.last.verified);
  },
);

t.test('stop() with a server that answers nothing still reports, and starts when it is back', async (t) => {
  const rig = new Rig(t);
  deployment(rig.cluster, 'train', 2);
  await rig.look();
  rig.cluster.fault = () => 'hang';
  rig.stop();
  await rig.clock.advance(10_000);
  t.match(
    rig.last.entries.find((entry) => entry.kind === 'Cluster'),
    { state: 'failed' },
  );
  rig.cluster.fault = () => undefined;
  await rig.clock.advance(20_000);
  t.strictSame(rig.running, []);
});

t.test('stop() of a node takes its pods, their controllers and all of their pods, wherever', async (t) => {
  const rig = new Rig(t);
  deployment(rig.cluster, 'both', 2);
  const [first] = rig.cluster.pods;
  first.spec.nodeName = 'node-2';
  deployment(rig.cluster, 'elsewhere', 1);
  rig.cluster.pod('marked', { labels: { ...MARK, 'vsf-lease': 'L1' } });
  await rig.look();
  const targets = [{ leaseId: 'L1', workload: 'x' }];
  rig.stop({ scope: { kind: 'nodes', nodes: ['node-2'] }, targets });
  await rig.clock.advance(5000);
  t.equal(rig.cluster.at('Deployment', 'both').spec.replicas, 0);
  t.equal(rig.cluster.at('Deployment', 'elsewhere').spec.replicas, 1);
  t.equal(rig.running.length, 1);
  t.equal(rig.latch.armedFor.length, 0, 'a rule for all of the cluster does not suit a node');
  await rig.clock.advance(20_000);
  t.ok(rig.last.verified);
});

t.test('stop() of a lease takes its pods, and a controller only if nothing else hangs on it', async (t) => {
  const rig = new Rig(t);
  deployment(rig.cluster, 'own', 2, { ...MARK, 'vsf-lease': 'L1' });
  deployment(rig.cluster, 'shared', 2);
  const shared = rig.cluster.pods.find((pod) => pod.metadata.name.startsWith('shared'));
  shared.metadata.annotations = { 'vsf-lease': 'L1' };
  await rig.look();
  rig.stop({ what: 'leases', targets: [{ leaseId: 'L1', workload: 'own' }] });
  await rig.clock.advance(5000);
  t.equal(rig.cluster.at('Deployment', 'own').spec.replicas, 0);
  t.equal(rig.cluster.at('Deployment', 'shared').spec.replicas, 2);
  t.equal(rig.running.length, 2);
  t.notOk(rig.running.includes(shared.metadata.name));
  t.strictSame([...new Set(rig.last.entries.map((entry) => entry.kind))].sort(), ['Deployment', 'Pod', 'ReplicaSet']);
});

t.test('stop() of a lease that nothing is marked with reports nothing and is verified', async (t) => {
  const rig = new Rig(t);
  rig.cluster.pod('other');
  await rig.look();
  rig.stop({ what: 'leases', targets: [{ leaseId: 'L9', workload: 'none' }] });
  await rig.clock.advance(17_000);
  t.strictSame(rig.last, { entries: [], verified: true });
  t.strictSame(rig.running, ['other']);
});

t.test('stop() never deletes what has lost its label meanwhile, and never a collection', async (t) => {
  const rig = new Rig(t);
  rig.cluster.pod('changed');
  await rig.look();
  rig.cluster.fault = ({ verb }) => (verb === 'remove' ? failed('server-error', '500') : undefined);
  rig.stop();
  await rig.clock.advance(300);
  rig.cluster.at('Pod', 'changed').metadata.labels = {};
  await rig.clock.advance(1500);
  rig.cluster.fault = () => undefined;
  await rig.clock.advance(10_000);
  t.strictSame(rig.running, ['changed']);
  t.match(rig.entry('Pod', 'changed'), { state: 'refused', verified: false });
  t.ok(
    rig.cluster.asked.every(({ verb, path }) => verb !== 'remove' || /\/pods\/[^/]+$/.test(path)),
    'H14',
  );
});

t.test('stop() keeps what was recorded before a restart, and does not wait for a record that hangs', async (t) => {
  const rig = new Rig(t);
  deployment(rig.cluster, 'train', 5);
  await rig.look();
  rig.latch.hangs = true;
  rig.stop();
  await rig.clock.advance(1500);
  t.equal(rig.cluster.at('Deployment', 'train').spec.replicas, 0);
  const again = new Rig(t);
  deployment(again.cluster, 'train', 0);
  for (const [uid, prior] of rig.latch.priors) again.latch.priors.set(uid, prior);
  const known = [...rig.latch.priors.values()].find((prior) => prior.kind === 'Deployment');
  again.cluster.at('Deployment', 'train').metadata.uid = known?.uid;
  again.stop();
  await again.clock.advance(3000);
  t.match(again.entry('Deployment', 'train'), { state: 'stopped', prior: '5', how: 'scale 5 -> 0' });
});

t.test('stop() scales a custom kind with /scale, and gives Volcano its command', async (t) => {
  const rig = new Rig(t);
  rig.cluster.kinds = [
    ...rig.cluster.kinds,
    customKind('example.org', 'Gang', 'gangs', true),
    customKind('batch.volcano.sh', 'Job', 'vcjobs', false, 'v1alpha1'),
    customKind('bus.volcano.sh', 'Command', 'commands', false, 'v1alpha1'),
  ];
  rig.cluster.owner('Gang', 'g', { spec: { replicas: 2, template: template() } });
  const running = { spec: {}, status: { state: { phase: 'Running' } } };
  rig.cluster.pod('v-0', { owner: rig.cluster.owner('batch.volcano.sh/Job', 'v', running) });
  await rig.look();
  rig.stop();
  await rig.clock.advance(4000);
  t.equal(rig.cluster.at('Gang', 'g').spec.replicas, 0);
  t.match(rig.entry('Gang', 'g'), { state: 'stopped', prior: '2', verified: true }, 'a missing number reads as 0');
  const commands = rig.cluster.asked.filter(({ verb }) => verb === 'create').map(({ body }) => body);
  t.match(commands, [{ action: 'AbortJob', target: { kind: 'Job', name: 'v' } }]);
  t.equal(commands.length, 1, 'given once, while it may still work');
  t.match(rig.entry('Job', 'v'), { state: 'stopping', prior: 'phase: Running' });
  rig.cluster.at('batch.volcano.sh/Job', 'v').status.state.phase = 'Aborted';
  await rig.clock.advance(4000);
  t.match(rig.entry('Job', 'v'), { state: 'stopped', verified: true });
  t.strictSame(rig.running, []);
});

t.test('stop() takes a ScaledObject with its Deployment, and the Kueue Workload of a Job', async (t) => {
  const rig = new Rig(t);
  rig.cluster.kinds = [
    ...rig.cluster.kinds,
    customKind('keda.sh', 'ScaledObject', 'scaledobjects', false, 'v1alpha1'),
    customKind('kueue.x-k8s.io', 'Workload', 'workloads', false, 'v1beta1'),
  ];
  deployment(rig.cluster, 'train', 1);
  rig.cluster.owner('ScaledObject', 'so', { spec: { scaleTargetRef: { name: 'train' } } });
  rig.cluster.owner('ScaledObject', 'other', { spec: { scaleTargetRef: { name: 'somebody-elses' } } });
  const job = rig.cluster.owner('Job', 'batch', { spec: { template: template() } });
  rig.cluster.owner('Workload', 'job-batch', { spec: { podSets: [] } }, job);
  await rig.look();
  rig.stop();
  await rig.clock.advance(4000);
  t.match(rig.cluster.at('ScaledObject', 'so').metadata.annotations, {
    'autoscaling.keda.sh/paused': 'true',
    'autoscaling.keda.sh/paused-replicas': '0',
  });
  t.equal(rig.cluster.at('ScaledObject', 'other').metadata.annotations, undefined);
  t.equal(rig.cluster.at('Workload', 'job-batch').spec.active, false);
});

t.test('stop() looks only in its namespaces', async (t) => {
  const rig = new Rig(t, ['gpu']);
  rig.cluster.pod('ours');
  rig.cluster.put(
    'Pod',
    'theirs',
    { metadata: { labels: MARK }, spec: { nodeName: 'node-1' }, status: { phase: 'Running' } },
    'other',
  );
  await rig.look();
  rig.stop();
  await rig.clock.advance(4000);
  t.strictSame(rig.running, ['theirs']);
  t.ok(rig.cluster.asked.every(({ path }) => path.includes('/namespaces/gpu/') || path === '/api/v1/nodes'));
});
