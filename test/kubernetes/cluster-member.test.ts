// Processes of one cluster, each with the domain's own state behind it, over one store of objects and one clock by hand:
// what they do to one another through the records that they share.
import t from 'tap';
import type { Answer, DurableChange, SafetyEvent } from '../../src/domain/events.ts';
import { ClusterMember } from '../../src/kubernetes/cluster-member.ts';
import type { KubeFailure } from '../../src/kubernetes/kube-api.ts';
import type { KeptPrior } from '../../src/kubernetes/prior-values.ts';
import { coolNode, DomainWorld, LEASE_ID, NODE, nodeSettings, worldSettings } from '../support/domain-world.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { failureOf, type ObjectStore, objectStore } from '../support/object-store-api.ts';

const NAMESPACE = 'vsf-safety';
const mapPath = (name: string): string => `/api/v1/namespaces/${NAMESPACE}/configmaps/${name}`;
const OTHER = 'bizon2';

interface Cluster {
  readonly store: ObjectStore;
  readonly clock: ManualClock;
}

function cluster(): Cluster {
  const store = objectStore();
  store.put('/api', { kind: 'APIVersions', versions: ['v1'] });
  store.put('/apis', { kind: 'APIGroupList', groups: [] });
  return { store, clock: new ManualClock() };
}

const dataOf = ({ store }: Cluster, name: string): Readonly<Record<string, string>> =>
  store.objects.get(mapPath(name))?.data ?? {};

const ALLOWED = { ok: true, value: { metadata: { name: '', uid: '' }, status: { allowed: true } } } as const;

class Process {
  readonly world: DomainWorld;
  readonly member: ClusterMember;
  /** The server does not answer this one. */
  isCutOff = false;
  readonly grants: Promise<{ readonly ok: boolean }>[] = [];
  readonly #clock: ManualClock;

  constructor({ store, clock }: Cluster, identity: string, node: string = NODE, predecessor: string | null = null) {
    this.#clock = clock;
    const names = [node, OTHER];
    const settings = worldSettings({
      localNode: node,
      tripScope: 'node',
      nodes: new Map(names.map((name) => [name, nodeSettings()])),
    });
    this.world = new DomainWorld(settings, Object.fromEntries(names.map((name) => [name, coolNode()])));
    const cut: KubeFailure = failureOf('unreachable', 'connect ECONNREFUSED');
    const within = <T>(ask: () => Promise<T>): Promise<T | KubeFailure> =>
      this.isCutOff ? Promise.resolve(cut) : ask();
    const { api } = store;
    this.member = new ClusterMember({
      api: {
        ...api,
        get: (path, ms) => within(() => api.get(path, ms)),
        create: (path, body, ms, query) =>
          within(async () => (path.endsWith('reviews') ? ALLOWED : api.create(path, body, ms, query))),
        replace: (path, body, ms) => within(() => api.replace(path, body, ms)),
        patch: (path, body, ms) => within(() => api.patch(path, body, ms)),
      },
      clock,
      namespace: NAMESPACE,
      namespaces: [],
      identity,
      predecessors: predecessor === null ? [] : [predecessor],
      exporters: null,
      simulated: false,
      state: () => this.world.state,
      tell: (event) => void this.submit(event),
      warn: () => undefined,
    });
    this.submit({ kind: 'clock-looked' });
    this.world.inventory();
    this.tick();
  }

  /** As the supervisor does: decide, record, tell. */
  submit(event: SafetyEvent): Answer {
    const { world, member } = this;
    Object.assign(world, this.#clock.now());
    const before = world.effects.length;
    const answer = world.submit(event);
    for (const effect of world.effects.slice(before)) {
      if (effect.kind === 'journal') this.grants.push(member.append(effect.change));
      if (effect.kind === 'publish') member.hear(effect.message);
    }
    return answer;
  }

  tick(): void {
    this.submit({ kind: 'observed', why: 'tick', reports: this.world.reports() });
  }

  ask(nodes: readonly string[] | null = [NODE]): Answer {
    return this.submit({
      kind: 'lease-asked',
      identity: 'local',
      reports: this.world.reports(),
      request: {
        intensity: null,
        nodes,
        constraints: null,
        constraintKeys: [],
        id: LEASE_ID,
        workload: 'train-7',
        gpus: null,
        ttlMs: 30_000,
        maxDurationMs: null,
        processGroup: null,
      },
    });
  }

  renew(): Answer {
    return this.submit({ kind: 'renewal-asked', leaseId: LEASE_ID, identity: 'local', intensity: null, reports: [] });
  }

  stop(nodes: readonly string[] | null = null): string {
    const answer = this.submit({ kind: 'stop-requested', nodes, cause: 'manual', reason: 'smoke', by: 'ada' });
    if (answer.kind !== 'stopping') throw new Error(answer.kind);
    return answer.tripId;
  }

  get leadership(): string {
    return this.world.state.cluster?.leadership.state ?? 'none';
  }

  /** Seconds with ticks, and with the timers of the supervisor. */
  static async run(clock: ManualClock, seconds: number, ...processes: readonly Process[]): Promise<void> {
    for (let s = 0; s < seconds; s++) {
      await clock.advance(1_000);
      for (const one of processes) {
        one.submit({ kind: 'clock-looked' });
        if (s % 10 === 9) {
          one.tick();
          const refreshing = one.member.refresh();
          await clock.advance(10);
          await refreshing;
        }
      }
    }
  }

  async begin(): Promise<this> {
    const starting = this.member.start();
    await this.#clock.advance(10);
    await starting;
    this.member.lead();
    await this.#clock.advance(100);
    return this;
  }

  async end(): Promise<void> {
    const closing = this.member.close();
    await this.#clock.advance(10_000);
    await closing;
  }
}

const change = (set: DurableChange['set']): DurableChange => ({ set, delete: [], why: 'test' });

t.test('ClusterMember leads alone, and grants once the leases before it are read', async (t) => {
  const all = cluster();
  const { clock, store } = all;
  const lease = { spec: { holderIdentity: 'earlier', leaseDurationSeconds: 15 } };
  store.put(`/apis/coordination.k8s.io/v1/namespaces/${NAMESPACE}/leases/vsf-safety`, lease);
  let isLeasesAway = true;
  store.before = ({ path }) =>
    isLeasesAway && path.includes('vsf-leases') ? failureOf('server-error', 'etcd is busy') : undefined;
  const one = await new Process(all, 'one', NODE, 'earlier').begin();
  t.equal(one.leadership, 'leader', 'its own earlier start leads nobody');
  t.match(one.ask(), { kind: 'judged', result: { findings: [{ code: 'state-unknown' }] } });
  t.match(one.renew(), { kind: 'lease-elsewhere', code: 'state-unknown' });
  isLeasesAway = false;
  await clock.advance(2_000);
  t.match(one.ask(), { kind: 'granted' });
  await clock.advance(100);
  t.ok((await Promise.all(one.grants)).every(({ ok }) => ok));
  t.match(dataOf(all, 'vsf-leases'), { [LEASE_ID]: /"workload":"train-7"/ });
  await one.end();
});

t.test('ClusterMember.append() refuses a grant that came a moment after the leadership went', async (t) => {
  const all = cluster();
  const one = await new Process(all, 'one').begin();
  const two = await new Process(all, 'two').begin();
  t.match(await two.member.append(change({ 'lease/x': {} })), { ok: false, detail: /leads no longer/ });
  t.same(await two.member.append({ set: {}, delete: ['lease/x'], why: 'an end' }), { ok: true });
  t.same(await two.member.append(change({ 'trip/x': {} })), { ok: true });
  t.notHas(dataOf(all, 'vsf-leases'), { x: String });
  await one.end();
  await two.end();
});

t.test('ClusterMember: no lease lapses on the way from one leader to the next and back', async (t) => {
  const all = cluster();
  const { clock } = all;
  const one = await new Process(all, 'one').begin();
  const two = await new Process(all, 'two').begin();
  one.ask();
  await clock.advance(100);
  one.isCutOff = true;
  await Process.run(clock, 12, one, two);
  t.equal(one.leadership, 'unknown');
  t.match(one.renew(), { kind: 'renewed' }, 'no server is needed for that');
  await Process.run(clock, 20, one, two);
  t.equal(two.leadership, 'leader');
  t.ok(two.world.state.leases.has(LEASE_ID));
  // The holder reaches the new one only, for longer than the TTL.
  for (let i = 0; i < 10; i++) {
    await Process.run(clock, 10, one, two);
    t.match(two.renew(), { kind: 'renewed' });
  }
  t.ok(one.world.state.leases.has(LEASE_ID), 'nobody told it that another one leads');
  // The new one gives the leadership back, and the first has it at once, with a record that is minutes old.
  await two.end();
  one.isCutOff = false;
  const { store } = all;
  store.before = ({ path }) => (path.includes('vsf-leases') ? failureOf('server-error', 'etcd is busy') : undefined);
  await Process.run(clock, 15, one);
  t.equal(one.leadership, 'leader');
  store.before = () => undefined;
  await Process.run(clock, 5, one);
  t.match(one.renew(), { kind: 'renewed' });
  await Process.run(clock, 25, one);
  t.same(
    [one, two].flatMap(({ world }) => world.orders),
    [],
    'nothing was stopped',
  );
  await one.end();
});

t.test('ClusterMember: a standby holds the leader’s trips, under its own names of the nodes', async (t) => {
  const all = cluster();
  const { clock } = all;
  const one = await new Process(all, 'one', 'bizon1').begin();
  const two = await new Process(all, 'two', 'Bizon1').begin();
  const tripId = one.stop(['bizon1']);
  await clock.advance(3_000);
  t.match([...two.world.state.trips.values()], [{ tripId, scope: { kind: 'nodes', nodes: ['Bizon1'] } }]);
  t.match(dataOf(all, 'vsf-estop'), { latched: 'true', node: 'bizon1' });
  await clock.advance(10_000);
  const record = JSON.stringify(dataOf(all, 'vsf-estop'));
  await clock.advance(10_000);
  t.equal(JSON.stringify(dataOf(all, 'vsf-estop')), record, 'and they do not write over one another');
  t.equal(two.world.orders.length, 1);

  let isCommitted = false;
  t.same(
    await two.member.reset({
      tripId,
      by: 'ada',
      reason: 'fan',
      judged: { joined: 0, wallMs: 0 },
      commit: () => (isCommitted = true),
    }),
    {
      kind: 'not-leader',
    },
  );
  const resetting = one.member.reset({
    tripId,
    by: 'ada',
    reason: 'fan',
    judged: { joined: 0, wallMs: 0 },
    commit: () => {
      isCommitted = true;
      const event = { tripId, reason: 'fan', by: 'ada', acknowledgeUnverified: false, reports: [] } as const;
      one.submit({ kind: 'reset-requested', ...event, stage: 'commit' });
    },
  });
  await clock.advance(100);
  t.same([await resetting, isCommitted], [{ kind: 'done', epoch: 1 }, true]);
  await clock.advance(3_000);
  t.equal(two.world.state.trips.size, 0);
  t.match(two.world.state, { epoch: 1, lastTrip: { resetBy: 'ada', resetReason: 'fan' } });
  await one.end();
  await two.end();
});

t.test('ClusterMember.restore() gives back what any process took for the trip', async (t) => {
  const all = cluster();
  const { clock, store } = all;
  const one = await new Process(all, 'one').begin();
  one.stop([OTHER]);
  const tripId = one.stop();
  t.equal(one.world.state.trips.size, 1);
  // Written by another process after this one had started.
  const prior = (uid: string, orderId: string, epoch: number): KeptPrior => ({
    orderId,
    group: 'apps',
    version: 'v1',
    kind: 'Deployment',
    resource: 'deployments',
    namespace: 'gpu',
    name: uid,
    uid,
    controllerUid: undefined,
    through: 'scale',
    fields: [{ path: ['spec', 'replicas'], prior: 4, stop: 0 }],
    epoch,
    recordedWallMs: 0,
  });
  const priors = [prior('a', tripId, 0), prior('c', `lapse-${LEASE_ID}`, 0), prior('d', 'old', -1)];
  store.put(mapPath('vsf-estop-restore'), {
    data: Object.fromEntries(priors.map((one) => [one.uid, JSON.stringify(one)])),
  });
  for (const { uid } of priors) {
    const path = `/apis/apps/v1/namespaces/gpu/deployments/${uid}/scale`;
    store.put(path, { kind: 'Scale', spec: { replicas: 0 } });
    const made = store.objects.get(path);
    if (made) store.objects.set(path, { ...made, metadata: { ...made.metadata, uid } });
  }
  one.submit({
    kind: 'reset-requested',
    tripId,
    reason: 'fan',
    by: 'ada',
    acknowledgeUnverified: true,
    reports: [],
    stage: 'commit',
  });
  const ask = async (of: string): Promise<readonly string[]> => {
    const asking = one.member.restore({
      tripId: of,
      dryRun: true,
      mayGoOn: async () => ({ ok: true }),
      onStep: () => undefined,
    });
    await clock.advance(5_000);
    return (await asking).map(({ uid, outcome }) => `${uid} ${outcome}`);
  };
  t.same(await ask(tripId), ['a would-restore']);
  t.same(await ask('old'), ['d would-restore'], 'an earlier trip has what it took itself');
  one.isCutOff = true;
  t.match(await ask(tripId), [' failed'], 'what cannot be read is not given back by half');
  one.isCutOff = false;
  await one.end();
});

t.test('ClusterMember.close() writes the trip that came last', async (t) => {
  const all = cluster();
  const one = await new Process(all, 'one').begin();
  const tripId = one.stop();
  await one.end();
  t.match(dataOf(all, 'vsf-estop'), { latched: 'true', trips: new RegExp(tripId) });
  const lease = all.store.objects.get(`/apis/coordination.k8s.io/v1/namespaces/${NAMESPACE}/leases/vsf-safety`);
  t.equal(lease?.spec?.['holderIdentity'], undefined, 'and gives the leadership back');
});

t.test('ClusterMember.look() takes no part: what trips meanwhile is nobody’s', async (t) => {
  const all = cluster();
  const one = new Process(all, 'one');
  const looking = one.member.look();
  await all.clock.advance(100);
  await looking;
  one.stop();
  await one.end();
  t.same(dataOf(all, 'vsf-estop'), {});
  t.notOk(all.store.requests.some(({ verb }) => verb !== 'get'));
});

t.test('ClusterMember goes on when its record holds what no date can be', async (t) => {
  const all = cluster();
  const { clock, store } = all;
  const wild = { tripId: 'x', by: 'a', reason: 'b', wallMs: 1e300 };
  store.put(mapPath('vsf-estop'), { data: { latched: 'false', epoch: '3', lastReset: JSON.stringify(wild) } });
  const one = await new Process(all, 'one').begin();
  t.match(one.world.state, { epoch: 3, cluster: { isLatchKnown: true, latchFailure: null } });
  const trip = {
    tripId: 'y',
    scope: { kind: 'all' },
    cause: 'manual',
    reason: 'r',
    by: 'b',
    sinceWallMs: 1e300,
    simulated: false,
    loadedW: {},
  };
  store.put(mapPath('vsf-estop'), { data: { latched: 'true', epoch: '4', trips: JSON.stringify([trip]) } });
  await clock.advance(5_000);
  t.match([...one.world.state.trips.values()], [{ cause: 'corrupt-state', reason: /trips\[0\] is no trip/ }]);
  t.match(dataOf(all, 'vsf-estop'), { latched: 'true', corrupt: /1e\+300/ });
  await one.end();
});

t.test('ClusterMember disarms a rule that stands for no trip, and no other', async (t) => {
  const all = cluster();
  const { clock, store } = all;
  const path = '/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/vsf-estop';
  const armed = {
    name: 'estop.vsf.local',
    failurePolicy: 'Fail',
    objectSelector: { matchLabels: { 'vsf-workload': 'true' } },
  };
  const disarmings = (): number => store.requests.filter((one) => one.verb === 'patch' && one.path === path).length;
  const one = await new Process(all, 'one').begin();
  await Process.run(clock, 10, one);
  store.put(path, { webhooks: [armed] });
  const before = disarmings();
  const tripId = one.stop();
  await Process.run(clock, 21, one);
  t.equal(disarmings(), before, 'a trip of everything stands');
  const resetting = one.member.reset({
    tripId,
    by: 'ada',
    reason: 'fan',
    judged: { joined: 0, wallMs: 0 },
    commit: () =>
      void one.submit({
        kind: 'reset-requested',
        tripId,
        reason: 'fan',
        by: 'ada',
        acknowledgeUnverified: true,
        reports: [],
        stage: 'commit',
      }),
  });
  await clock.advance(1_000);
  t.match(await resetting, { kind: 'done' });
  await Process.run(clock, 30, one);
  const after = disarmings();
  t.ok(after > before);
  // A process that has not heard of the reset arms it again.
  store.put(path, { webhooks: [armed] });
  await Process.run(clock, 30, one);
  t.ok(disarmings() > after, 'or no labelled pod could be made any more');
  await one.end();
});
