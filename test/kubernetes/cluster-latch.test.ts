import t from 'tap';
import { systemClock } from '../../src/clock.ts';
import type { Trip } from '../../src/domain/interlock.ts';
import { withJoined } from '../../src/domain/joined-stops.ts';
import type { TripScope } from '../../src/domain/stop.ts';
import type { Admission, RuleState } from '../../src/kubernetes/admission.ts';
import { createAdmission } from '../../src/kubernetes/admission.ts';
import { ClusterLatch } from '../../src/kubernetes/cluster-latch.ts';
import type { KubeApi } from '../../src/kubernetes/kube-api.ts';
import { createKubeClient } from '../../src/kubernetes/kube-client.ts';
import { formatLatch, parseLatch } from '../../src/kubernetes/latch-copy.ts';
import type { LatchNews } from '../../src/kubernetes/latch-news.ts';
import { createPriorValues, RESTORE_MAP } from '../../src/kubernetes/prior-values.ts';
import type { PriorValue } from '../../src/kubernetes/stop-latch.ts';
import { lacksControlPlane, startControlPlane } from '../support/control-plane.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { failureOf, type ObjectStore, objectStore } from '../support/object-store-api.ts';

t.setTimeout(240_000);

const NAMESPACE = 'vsf-safety';
const PATH = `/api/v1/namespaces/${NAMESPACE}/configmaps/vsf-estop`;
/** A look has 3 s, and its last pause before another try may end 20 ms later. */
const LOOK_ENDS_MS = 3_020;
const EVERYTHING: TripScope = { kind: 'all' };
const onNode = (...nodes: string[]): TripScope => ({ kind: 'nodes', nodes });

function tripOf(tripId: string, scope: TripScope = EVERYTHING, sinceWallMs = Date.UTC(2026, 0, 1)): Trip {
  return {
    tripId,
    scope,
    cause: 'hard-stop',
    reason: `GPU 2 is at 86 °C (${tripId})`,
    by: 'monitor',
    sinceWallMs,
    atMs: 0,
    simulated: false,
    targets: [],
    report: { state: 'stopping', actuators: {}, stillLoaded: [], unknownNodes: [], startedAt: '', settledAt: null },
    loadedW: { 'n1/GPU-1': 250 },
  };
}

interface ReplicaOptions {
  readonly api: KubeApi;
  readonly clock: ManualClock | typeof systemClock;
  readonly admission?: Admission;
  readonly epoch?: number;
  readonly trips?: readonly Trip[];
  readonly simulated?: boolean;
}

const lastStopIn = (store: ObjectStore): string | undefined => store.objects.get(PATH)?.data?.['lastStop'];

/** A process as far as the latch sees it: it does what the news tells it to, as the domain does. */
function replica(options: ReplicaOptions) {
  const { api, clock } = options;
  const trips = new Map((options.trips ?? []).map((trip) => [trip.tripId, trip]));
  const state = { epoch: options.epoch ?? 0, isLeader: true, trips, news: [] as LatchNews[] };
  const priors = createPriorValues({
    api,
    clock,
    namespace: NAMESPACE,
    epoch: () => state.epoch,
    isActive: (orderId) => trips.has(orderId),
  });
  const latch = new ClusterLatch({
    api,
    clock,
    namespace: NAMESPACE,
    priors,
    admission: options.admission ?? ruleThatIs('absent'),
    simulated: options.simulated ?? false,
    isLeader: () => state.isLeader,
    local: () => ({ epoch: state.epoch, trips: trips.values() }),
    onNews: (news) => {
      state.news.push(news);
      if (news.kind === 'must-trip') {
        const id = `made-${trips.size}`;
        trips.set(id, { ...tripOf(id), cause: news.cause, reason: news.reason });
      } else if (news.kind === 'reset-elsewhere') {
        state.epoch = news.epoch;
        for (const id of news.tripIds) trips.delete(id);
      } else if (news.kind === 'tripped-elsewhere') {
        for (const one of news.trips) {
          if (one.scope.kind === 'all') trips.clear();
          trips.set(one.tripId, { ...tripOf(one.tripId), ...one });
        }
      }
    },
  });
  const reset = (tripId: string) =>
    latch.reset({
      tripId,
      by: 'operator',
      reason: 'fan replaced',
      judged: { joined: trips.get(tripId)?.joined?.count ?? 0, wallMs: clock.now().wallMs },
      commit: () => {
        trips.delete(tripId);
        state.epoch += 1;
      },
    });
  return { ...state, state, trips, latch, reset, priors };
}

/** Two replicas at the same moment: one of them finds that the other has written, and looks again. */
async function bothLook(clock: ManualClock, ...replicas: { readonly latch: ClusterLatch }[]): Promise<void> {
  const looked = Promise.all(replicas.map(({ latch }) => latch.sync()));
  await clock.advance(200);
  await looked;
}

function ruleThatIs(kind: 'absent' | 'armed' | 'disarmed', calls: string[] = []): Admission {
  let state: RuleState = { kind };
  const set = (next: 'armed' | 'disarmed') => async (): Promise<never> => {
    calls.push(next);
    if (state.kind !== 'absent') state = { kind: next };
    return state as never;
  };
  return {
    arm: set('armed'),
    disarm: set('disarmed'),
    readArmed: async () => state,
    tryOut: async () => ({ kind: 'denied' }),
  };
}

t.test('parseLatch() reads back what formatLatch() wrote, and the keys are for people', async (t) => {
  const record = { resets: 3, trips: [tripOf('a')], ended: new Map([['old', 3]]), lastReset: null, lastStop: null };
  const progress = { state: 'unverified', stoppedOwners: 2, unconfirmedPods: ['gpu/load-1'] } as const;
  const data = formatLatch(record, progress, null);
  t.match(data, {
    latched: 'true',
    epoch: '4',
    since: '2026-01-01T00:00:00.000Z',
    reason: 'GPU 2 is at 86 °C (a)',
    source: 'hard-stop',
    node: '*',
    operator: 'monitor',
    state: 'unverified',
    stoppedOwners: '2',
    unconfirmedPods: 'gpu/load-1',
  });
  const copy = parseLatch(data);
  t.match(copy, { kind: 'latched', byHand: null, record: { resets: 3, trips: [{ tripId: 'a' }] } });
  t.same(formatLatch({ ...record, trips: [] }, null, null)['epoch'], '3');
});

t.test('formatLatch() stays below the 1 MiB of a ConfigMap with a trip of each of a thousand nodes', async (t) => {
  const loadedW = Object.fromEntries(
    Array.from({ length: 8 }, (_, gpu) => [`node-0000/GPU-${'0'.repeat(36)}${gpu}`, 250]),
  );
  const trips = Array.from({ length: 1_000 }, (_, index) => ({
    ...tripOf(`6f1c1f0e-0000-4000-8000-${index}`, onNode(`node-${index}`)),
    reason: 'x'.repeat(5_000),
    loadedW,
  }));
  const data = formatLatch({ resets: 0, trips, ended: new Map(), lastReset: null, lastStop: null }, null, null);
  const bytes = Object.values(data).reduce((sum, text) => sum + Buffer.byteLength(text), 0);
  t.ok(bytes < 1024 * 1024, `${bytes} bytes`);
  const copy = parseLatch(data);
  t.equal(copy.kind === 'latched' && copy.record.trips.length, 1_000);
});

t.test('parseLatch() takes everything that contradicts itself for corrupt', async (t) => {
  const good = formatLatch(
    { resets: 1, trips: [tripOf('a')], ended: new Map(), lastReset: null, lastStop: null },
    null,
    null,
  );
  const cases: Record<string, Record<string, string | undefined>> = {
    'no latched': { latched: undefined },
    'latched yes': { latched: 'yes' },
    'no epoch': { epoch: undefined },
    'epoch -1': { epoch: '-1' },
    'epoch 1.5': { epoch: '1.5' },
    'trips cut off': { trips: good['trips']?.slice(0, -5) },
    'trips no list': { trips: '{}' },
    'a trip of no node': { trips: JSON.stringify([{ ...tripOf('a'), scope: { kind: 'nodes', nodes: [] } }]) },
    'clear with a trip': { latched: 'false' },
    'ended no object': { ended: '[]' },
  };
  for (const [name, change] of Object.entries(cases)) {
    const data = Object.fromEntries(Object.entries({ ...good, ...change }).filter(([, text]) => text !== undefined));
    t.equal(parseLatch(data as Record<string, string>).kind, 'corrupt', name);
  }
  t.equal(parseLatch({}).kind, 'corrupt', 'empty');
});

t.test('ClusterLatch', async (t) => {
  t.test('makes a clear record where there is none, and says that it knows', async (t) => {
    const store = objectStore();
    const one = replica({ api: store.api, clock: new ManualClock() });
    t.equal(one.latch.isKnown, false);
    t.equal(await one.latch.sync(), true);
    t.equal(one.latch.isKnown, true);
    t.match(store.objects.get(PATH)?.data, { latched: 'false', epoch: '0' });
    const count = store.requests.length;
    await one.latch.sync();
    t.same(
      store.requests.slice(count).map(({ verb }) => verb),
      ['get'],
      'what is right already is not written',
    );
  });

  t.test('an API server that is down is unknown, and trips nothing', async (t) => {
    const store = objectStore();
    const clock = new ManualClock();
    store.before = () => failureOf('unreachable', 'ECONNREFUSED');
    const one = replica({ api: store.api, clock });
    const started = one.latch.start();
    await clock.advance(LOOK_ENDS_MS);
    await started;
    t.equal(one.latch.isKnown, false);
    t.equal(one.latch.failure, 'ECONNREFUSED');
    t.same(one.news, []);
    store.before = () => undefined;
    await clock.advance(600);
    t.equal(one.latch.isKnown, true);
    const closed = one.latch.close();
    await clock.advance(0);
    await closed;
  });

  t.test('writes a trip at once, and a fresh process takes it over under its own id', async (t) => {
    const store = objectStore();
    const clock = new ManualClock();
    const one = replica({ api: store.api, clock });
    await one.latch.start();
    one.trips.set('a', tripOf('a'));
    one.latch.poke();
    await clock.advance(0);
    t.match(store.objects.get(PATH)?.data, { latched: 'true', epoch: '1' });
    const two = replica({ api: store.api, clock });
    await two.latch.sync();
    t.same([...two.trips.keys()], ['a']);
    t.match(two.trips.get('a'), { scope: EVERYTHING, loadedW: { 'n1/GPU-1': 250 } });
    const closed = one.latch.close();
    await clock.advance(0);
    await closed;
  });

  t.test('a corrupt record trips everything, and what it was is kept aside', async (t) => {
    const store = objectStore();
    const clock = new ManualClock();
    store.put(PATH, { data: { latched: 'maybe', epoch: '5' } });
    const one = replica({ api: store.api, clock });
    await one.latch.sync();
    t.match(one.news, [{ kind: 'must-trip', cause: 'corrupt-state', reason: /latched is "maybe"/ }]);
    await one.latch.sync();
    t.match(store.objects.get(PATH)?.data, { latched: 'true', corrupt: '{"latched":"maybe","epoch":"5"}' });
  });

  t.test('latched by hand trips everything, with the reason given', async (t) => {
    const store = objectStore();
    store.put(PATH, { data: { latched: 'true', epoch: '1', reason: 'smoke in row 3' } });
    const one = replica({ api: store.api, clock: new ManualClock() });
    await one.latch.sync();
    t.match(one.news, [{ kind: 'must-trip', cause: 'manual', reason: /by hand: smoke in row 3/ }]);
  });

  t.test('latched by hand trips also where a trip that is over there still stands here', async (t) => {
    const store = objectStore();
    const one = replica({ api: store.api, clock: new ManualClock(), trips: [tripOf('a')] });
    await one.latch.sync();
    const data = { latched: 'true', epoch: '2', reason: 'smoke in row 3', trips: '[]', ended: '{"a":1}' };
    store.put(PATH, { data });
    await one.latch.sync();
    t.match(one.news, [
      { kind: 'reset-elsewhere', tripIds: ['a'] },
      { kind: 'must-trip', cause: 'manual' },
    ]);
    await one.latch.sync();
    t.match(store.objects.get(PATH)?.data, { latched: 'true', epoch: '2' });
    t.match([...one.trips.values()], [{ cause: 'manual', reason: /smoke in row 3/ }]);
  });

  t.test('a record that is gone while the rule is armed trips; gone and disarmed is a first start', async (t) => {
    for (const kind of ['armed', 'disarmed', 'absent'] as const) {
      const one = replica({ api: objectStore().api, clock: new ManualClock(), admission: ruleThatIs(kind) });
      await one.latch.sync();
      t.equal(one.trips.size, kind === 'armed' ? 1 : 0, kind);
    }
  });

  t.test('a copy whose epoch is not above the last reset is ignored and rewritten', async (t) => {
    for (const [epoch, acts] of [
      ['2', false],
      ['3', false],
      ['4', true],
      ['9', true],
    ] as const) {
      const store = objectStore();
      store.put(PATH, { data: { latched: 'true', epoch, trips: JSON.stringify([tripOf('old')]) } });
      const one = replica({ api: store.api, clock: new ManualClock(), epoch: 3 });
      await one.latch.sync();
      t.equal(one.trips.size, acts ? 1 : 0, `epoch ${epoch} after reset 3`);
      if (!acts) t.match(store.objects.get(PATH)?.data, { latched: 'false', epoch: '3' });
    }
  });

  t.test(
    'a journal from before the cluster’s last reset is old; one that the cluster has not seen is none',
    async (t) => {
      const start = async (ended: Record<string, number> | undefined, trip: string, isFirst = true) => {
        const store = objectStore();
        const clear = { latched: 'false', epoch: '2', ...(ended && { ended: JSON.stringify(ended) }) };
        store.put(PATH, { data: { latched: 'false', epoch: '1' } });
        const one = replica({
          api: store.api,
          clock: new ManualClock(),
          epoch: 1,
          trips: isFirst ? [tripOf(trip)] : [],
        });
        if (!isFirst) {
          await one.latch.sync();
          one.trips.set(trip, tripOf(trip));
        }
        store.put(PATH, { data: clear });
        await one.latch.sync();
        return { held: one.trips.size, epoch: one.state.epoch, data: store.objects.get(PATH)?.data };
      };
      t.match(await start({ a: 2 }, 'a'), { held: 0, epoch: 2, data: { latched: 'false' } }, 'named by the reset');
      t.match(await start(undefined, 'a'), { held: 0, epoch: 2 }, 'no reset is named: by its epoch');
      t.match(
        await start({ other: 2 }, 'a'),
        { held: 1, data: { latched: 'true', epoch: '3' } },
        'never reset by anybody',
      );
      t.match(await start(undefined, 'a', false), { held: 1 }, 'a trip of this life is never dropped unnamed');
    },
  );

  t.test('trips of two replicas at the same moment become one and the same', async (t) => {
    const store = objectStore();
    const clock = new ManualClock();
    const one = replica({ api: store.api, clock, trips: [tripOf('b', EVERYTHING, 2_000)] });
    const two = replica({ api: store.api, clock, trips: [tripOf('a', EVERYTHING, 1_000)] });
    for (let round = 0; round < 3; round += 1) await bothLook(clock, one, two);
    t.same([...one.trips.keys()], ['a']);
    t.same([...two.trips.keys()], ['a']);
    const writes = store.requests.filter(({ verb }) => verb !== 'get').length;
    await bothLook(clock, one, two);
    t.equal(store.requests.filter(({ verb }) => verb !== 'get').length, writes, 'and then they are at rest');
  });

  t.test('trips of different nodes stand side by side', async (t) => {
    const store = objectStore();
    const clock = new ManualClock();
    const one = replica({ api: store.api, clock, trips: [tripOf('a', onNode('n1'))] });
    const two = replica({ api: store.api, clock, trips: [tripOf('b', onNode('n2'))] });
    for (let round = 0; round < 3; round += 1) await bothLook(clock, one, two);
    t.same(
      [[...one.trips.keys()].sort(), [...two.trips.keys()].sort()],
      [
        ['a', 'b'],
        ['a', 'b'],
      ],
    );
    t.equal((await one.reset('a')).kind, 'done');
    await two.latch.sync();
    t.same([...two.trips.keys()], ['b'], 'a reset of one leaves the other');
    t.equal(two.state.epoch, 1);
    t.match(store.objects.get(PATH)?.data, { latched: 'true', epoch: '2', node: 'n2' });
  });

  t.test('a trip that went into another one unheard is not reset by a reset beside it', async (t) => {
    const store = objectStore();
    const clock = new ManualClock();
    const aside = tripOf('c', onNode('n2'));
    const one = replica({ api: store.api, clock, trips: [aside, tripOf('a', onNode('n1'), 1_000)] });
    const two = replica({ api: store.api, clock, trips: [aside, tripOf('b', onNode('n1'), 2_000)] });
    await two.latch.sync();
    await one.latch.sync();
    t.same(two.news, []);
    t.equal((await one.reset('c')).kind, 'done');
    await two.latch.sync();
    t.match(two.news, [
      { kind: 'reset-elsewhere', epoch: 1, tripIds: ['c'] },
      { kind: 'tripped-elsewhere', trips: [{ tripId: 'a' }] },
    ]);
    t.equal((await one.reset('a')).kind, 'done');
    one.trips.set('d', tripOf('d', onNode('n1'), 3_000));
    two.trips.delete('b');
    await one.latch.sync();
    await two.latch.sync();
    t.match(
      two.news.slice(2),
      [
        { kind: 'reset-elsewhere', epoch: 2, tripIds: ['a'] },
        { kind: 'tripped-elsewhere', trips: [{ tripId: 'd' }] },
      ],
      'a later trip of the same scope is another one',
    );
  });

  t.test('binds on a real cluster no trip of a simulation, and leaves it where it is', async (t) => {
    const store = objectStore();
    const simulated = { ...tripOf('s'), simulated: true };
    store.put(PATH, { data: { latched: 'true', epoch: '1', trips: JSON.stringify([simulated]) } });
    const real = replica({ api: store.api, clock: new ManualClock() });
    await real.latch.sync();
    t.equal(real.trips.size, 0);
    const rig = replica({ api: store.api, clock: new ManualClock(), simulated: true });
    await rig.latch.sync();
    t.same([...rig.trips.keys()], ['s']);
  });
});

t.test('ClusterLatch.sync() tells what had joined a trip before the cluster was asked for it', async (t) => {
  const stop = { scope: EVERYTHING, cause: 'manual', reason: 'smoke', by: 'ada', begunWallMs: null } as const;
  const pressed = ({ trips }: ReturnType<typeof replica>, tripId: string) => {
    const trip = trips.get(tripId) ?? tripOf(tripId);
    trips.set(tripId, { ...trip, joined: withJoined(trip.joined, stop) });
  };
  const heard = ({ news }: ReturnType<typeof replica>) =>
    news.flatMap((one) => (one.kind === 'heard' ? [Object.fromEntries(one.joined)] : []));
  const start = () => {
    const store = objectStore();
    const clock = new ManualClock();
    return { store, clock, one: replica({ api: store.api, clock, trips: [tripOf('a')] }) };
  };

  t.test('and nothing where nothing joined', async (t) => {
    const { one } = start();
    await one.latch.sync();
    t.same(one.news, []);
    pressed(one, 'a');
    pressed(one, 'a');
    await one.latch.sync();
    t.same(heard(one), [{ a: 2 }]);
  });

  t.test('with a trip that is written by this look, too', async (t) => {
    const { one, store } = start();
    pressed(one, 'a');
    await one.latch.sync();
    t.same(heard(one), [{ a: 1 }]);
    const first = lastStopIn(store);
    t.type(first, 'string');
    await one.latch.sync();
    t.not(lastStopIn(store), first, 'for as long as it is not taken for heard');
  });

  t.test('but not what joined while it was asked', async (t) => {
    const { store, one } = start();
    await one.latch.sync();
    store.after = ({ verb }) => {
      if (verb === 'get') pressed(one, 'a');
      return undefined;
    };
    pressed(one, 'a');
    await one.latch.sync();
    t.same(heard(one), [{ a: 1 }]);
  });

  t.test('not where it could not be asked, nor of a trip that is over there', async (t) => {
    const { store, clock, one } = start();
    await one.latch.sync();
    pressed(one, 'a');
    store.before = () => failureOf('unreachable', 'ECONNREFUSED');
    const looked = one.latch.sync();
    await clock.advance(LOOK_ENDS_MS);
    t.equal(await looked, false);
    store.before = () => undefined;
    const two = replica({ api: store.api, clock });
    await two.latch.sync();
    t.equal((await two.reset('a')).kind, 'done');
    await one.latch.sync();
    t.match(one.news, [{ kind: 'reset-elsewhere', tripIds: ['a'] }]);
  });
});

t.test('ClusterLatch.reset()', async (t) => {
  const tripped = async () => {
    const store = objectStore();
    const clock = new ManualClock();
    const one = replica({ api: store.api, clock, trips: [tripOf('a')] });
    await one.latch.sync();
    return { store, clock, one };
  };

  t.test('is written first and committed then', async (t) => {
    const { store, one } = await tripped();
    t.same(await one.reset('a'), { kind: 'done', epoch: 1 });
    t.equal(one.trips.size, 0);
    const data = store.objects.get(PATH)?.data ?? {};
    t.match(data, { latched: 'false', epoch: '1', ended: '{"a":1}' });
    t.match(JSON.parse(data['lastReset'] ?? ''), { tripId: 'a', by: 'operator', reason: 'fan replaced' });
    t.equal(data['since'], undefined);
  });

  t.test('changes nothing where it cannot be written', async (t) => {
    const { store, clock, one } = await tripped();
    store.before = ({ verb }) => (verb === 'replace' ? failureOf('unreachable', 'ECONNRESET') : undefined);
    const outcome = one.reset('a');
    await clock.advance(5_000);
    t.match(await outcome, { kind: 'not-written', detail: 'ECONNRESET' });
    t.equal(one.trips.size, 1);
    t.match(store.objects.get(PATH)?.data, { latched: 'true' });
  });

  t.test('that was told to have failed and arrived all the same is taken back', async (t) => {
    const { store, clock, one } = await tripped();
    let isStored = false;
    store.before = ({ verb }) => (isStored && verb === 'get' ? failureOf('timeout') : undefined);
    store.after = ({ verb }) => {
      if (verb !== 'replace') return undefined;
      isStored = true;
      return failureOf('timeout');
    };
    const outcome = one.reset('a');
    await clock.advance(5_000);
    t.equal((await outcome).kind, 'not-written');
    store.before = () => undefined;
    store.after = () => undefined;
    t.match(store.objects.get(PATH)?.data, { latched: 'false' });
    await one.latch.sync();
    t.equal(one.trips.size, 1);
    t.match(store.objects.get(PATH)?.data, { latched: 'true', epoch: '2' });
    t.equal((await one.reset('a')).kind, 'done', 'and may be asked for again');
    t.match(store.objects.get(PATH)?.data, { latched: 'false', epoch: '2' });
  });

  t.test('whose answer got lost together with the lead is taken back', async (t) => {
    const { store, clock, one } = await tripped();
    store.after = ({ verb }) => {
      if (verb !== 'replace') return undefined;
      one.state.isLeader = false;
      return failureOf('timeout');
    };
    const outcome = one.reset('a');
    await clock.advance(5_000);
    t.equal((await outcome).kind, 'not-leader', 'the operator is told that nothing was reset');
    store.after = () => undefined;
    t.match(store.objects.get(PATH)?.data, { latched: 'false' });
    await one.latch.sync();
    t.equal(one.trips.size, 1);
    t.match(store.objects.get(PATH)?.data, { latched: 'true' });
  });

  t.test('whose answer alone got lost is done', async (t) => {
    const { store, clock, one } = await tripped();
    let isLost = false;
    store.after = ({ verb }) => {
      if (verb !== 'replace' || isLost) return undefined;
      isLost = true;
      return failureOf('timeout');
    };
    const outcome = one.reset('a');
    await clock.advance(300);
    t.same(await outcome, { kind: 'done', epoch: 1 });
  });

  t.test('is the leader’s, also at the moment of the write', async (t) => {
    const { store, one } = await tripped();
    store.before = ({ verb }) => {
      if (verb === 'get') one.state.isLeader = false;
      return undefined;
    };
    t.same(await one.reset('a'), { kind: 'not-leader' });
    t.match(store.objects.get(PATH)?.data, { latched: 'true' });
  });

  t.test('is refused while the cluster holds a trip that is not known here', async (t) => {
    const { store, clock, one } = await tripped();
    const two = replica({ api: store.api, clock, trips: [tripOf('b', EVERYTHING, 0)] });
    await two.latch.sync();
    t.match(await one.reset('a'), { kind: 'changed', detail: /another trip/ });
    t.equal(one.trips.size, 1);
  });

  t.test('is refused once another stop has joined since it was judged', async (t) => {
    const { store, one } = await tripped();
    const stop = { scope: EVERYTHING, cause: 'manual', reason: 'smoke', by: 'ada', begunWallMs: null } as const;
    store.before = ({ verb }) => {
      if (verb === 'get') one.trips.set('a', { ...tripOf('a'), joined: withJoined(undefined, stop) });
      return undefined;
    };
    t.match(await one.reset('a'), { kind: 'changed', detail: /another stop/ });
    t.match(store.objects.get(PATH)?.data, { latched: 'true' });
    t.equal((await one.reset('a')).kind, 'done', 'judged with it, it is written');
  });

  t.test('is refused where a stop joined elsewhere since it was judged, and the cluster was told of it', async (t) => {
    const { store, clock, one } = await tripped();
    const two = replica({ api: store.api, clock });
    await two.latch.sync();
    const stop = { scope: EVERYTHING, cause: 'manual', reason: 'smoke', by: 'ada', begunWallMs: null } as const;
    two.trips.set('a', { ...tripOf('a'), joined: withJoined(undefined, stop) });
    await two.latch.sync();
    t.match(await one.reset('a'), { kind: 'changed', detail: /another stop/ });
    t.match(store.objects.get(PATH)?.data, { latched: 'true' });
    const told = lastStopIn(store);
    await one.latch.sync();
    t.equal((await one.reset('a')).kind, 'done', 'known by then, it is judged with it');
    t.match(store.objects.get(PATH)?.data, { latched: 'false', lastStop: told });
  });

  t.test('is refused where a replica of an older version wrote, which drops what was told', async (t) => {
    const { store, clock, one } = await tripped();
    const two = replica({ api: store.api, clock });
    await two.latch.sync();
    const stop = { scope: EVERYTHING, cause: 'manual', reason: 'smoke', by: 'ada', begunWallMs: null } as const;
    const press = () => two.trips.set('a', { ...tripOf('a'), joined: withJoined(undefined, stop) });
    press();
    await two.latch.sync();
    await one.latch.sync();
    const { lastStop, ...dropped } = store.objects.get(PATH)?.data ?? {};
    t.type(lastStop, 'string');
    store.put(PATH, { data: dropped });
    press();
    await two.latch.sync();
    t.match(await one.reset('a'), { kind: 'changed', detail: /another stop/ }, 'told anew, it is another one');
    await one.latch.sync();
    store.put(PATH, { data: dropped });
    t.match(await one.reset('a'), { kind: 'changed', detail: /another stop/ }, 'whatever was told is lost');
    await one.latch.sync();
    t.equal((await one.reset('a')).kind, 'done');
  });

  t.test('is written where the stop that this process told of was known when it was judged', async (t) => {
    const { store, one } = await tripped();
    const stop = { scope: EVERYTHING, cause: 'manual', reason: 'smoke', by: 'ada', begunWallMs: null } as const;
    one.trips.set('a', { ...tripOf('a'), joined: withJoined(undefined, stop) });
    const looked = one.latch.sync();
    const outcome = one.reset('a');
    await looked;
    t.type(lastStopIn(store), 'string');
    t.equal((await outcome).kind, 'done');
  });

  t.test('is refused where another process’ stop went into the trip by a write whose answer was lost', async (t) => {
    const { store, clock, one } = await tripped();
    const two = replica({
      api: store.api,
      clock,
      trips: [{ ...tripOf('b', EVERYTHING, Date.now()), cause: 'manual' }],
    });
    let isLost = false;
    store.after = ({ verb }) => {
      if (verb !== 'replace' || isLost) return undefined;
      isLost = true;
      return failureOf('timeout');
    };
    const looked = two.latch.sync();
    await clock.advance(0);
    t.match(store.objects.get(PATH)?.data, { ended: '{"b":0}', lastStop: /./ });
    t.match(await one.reset('a'), { kind: 'changed', detail: /another stop/ });
    await clock.advance(5_000);
    await looked;
    t.same([...two.trips.keys()], ['a'], 'and it stays stopped');
  });

  t.test('is refused where another process’ stop went into the trip since it was judged', async (t) => {
    const store = objectStore();
    const clock = new ManualClock();
    const one = replica({ api: store.api, clock });
    await one.latch.sync();
    const two = replica({ api: store.api, clock, trips: [tripOf('b', EVERYTHING, 2_000)] });
    await two.latch.sync();
    one.trips.set('a', tripOf('a', EVERYTHING, 1_000));
    t.match(await one.reset('a'), { kind: 'changed', detail: /another stop/ }, 'found by the reset itself');
    const looked = one.latch.sync();
    const outcome = one.reset('a');
    await looked;
    t.match(await outcome, { kind: 'changed', detail: /another stop/ }, 'found by a look that it had to wait for');
    t.match(store.objects.get(PATH)?.data, { latched: 'true', ended: '{"b":0}' });
    t.equal((await one.reset('a')).kind, 'done', 'judged after that look, it is written');
  });

  t.test('a trip made by another replica during the write is not written over', async (t) => {
    const { store, clock, one } = await tripped();
    const two = replica({ api: store.api, clock, trips: [tripOf('b', EVERYTHING, 0)] });
    store.before = async ({ verb }) => {
      if (verb !== 'replace') return undefined;
      store.before = () => undefined;
      await two.latch.sync();
      return undefined;
    };
    const outcome = one.reset('a');
    await clock.advance(100);
    t.match(await outcome, { kind: 'changed' });
    t.match(JSON.parse(store.objects.get(PATH)?.data?.['trips'] ?? ''), [{ tripId: 'b' }]);
  });

  t.test('disarms the rule afterwards, and a sweep that is late does not arm it again', async (t) => {
    const calls: string[] = [];
    const store = objectStore();
    const clock = new ManualClock();
    const one = replica({ api: store.api, clock, trips: [tripOf('a')], admission: ruleThatIs('disarmed', calls) });
    await one.latch.start();
    const order = { orderId: 'a', scope: EVERYTHING, what: 'everything', targets: [], reason: '' } as const;
    t.same(await one.latch.arm(order), { kind: 'armed' });
    await clock.advance(2_000);
    t.same(calls, ['armed'], 'not disarmed while tripped');
    await one.reset('a');
    t.match(await one.latch.arm(order), { kind: 'failed' });
    await clock.advance(2_000);
    t.same(calls, ['armed', 'disarmed']);
    const closed = one.latch.close();
    await clock.advance(0);
    await closed;
  });
});

const deployment = (orderId: string, replicas: number, uid = 'd1'): PriorValue => ({
  orderId,
  group: 'apps',
  version: 'v1',
  kind: 'Deployment',
  resource: 'deployments',
  namespace: 'gpu',
  name: 'load',
  uid,
  controllerUid: undefined,
  through: 'scale',
  fields: [{ path: ['spec', 'replicas'], prior: replicas, stop: 0 }],
});

t.test('PriorValues', async (t) => {
  const RESTORE_PATH = `/api/v1/namespaces/${NAMESPACE}/configmaps/${RESTORE_MAP}`;
  const priorIn = (prior: PriorValue | undefined): unknown => prior?.fields[0]?.prior;

  t.test('the first write wins until the reset, then a later trip’s value replaces it', async (t) => {
    const store = objectStore();
    const one = replica({ api: store.api, clock: new ManualClock(), trips: [tripOf('a')] });
    t.equal(await one.latch.recordPrior(deployment('a', 10)), true);
    t.equal(await one.latch.recordPrior(deployment('a', 4)), true);
    t.equal(priorIn(one.latch.priorOf('d1')), 10, 'somebody raised it again during the stop');
    one.trips.clear();
    one.trips.set('b', tripOf('b'));
    await one.latch.recordPrior(deployment('b', 4));
    t.equal(priorIn(one.latch.priorOf('d1')), 10, 'a trip that took the first one over');
    one.state.epoch += 1;
    one.trips.clear();
    await one.latch.recordPrior(deployment('c', 5));
    t.equal(priorIn(one.latch.priorOf('d1')), 5);
    t.match(JSON.parse(store.objects.get(RESTORE_PATH)?.data?.['d1'] ?? ''), { orderId: 'c', epoch: 1 });
  });

  t.test('what a trip took that another one took over is the other’s to give back, in the cluster too', async (t) => {
    const store = objectStore();
    const clock = new ManualClock();
    const one = replica({ api: store.api, clock, trips: [tripOf('node')] });
    const kept = (uid: string): unknown => JSON.parse(store.objects.get(RESTORE_PATH)?.data?.[uid] ?? '{}');
    await one.latch.recordPrior(deployment('node', 10));
    await one.latch.recordPrior(deployment('lapse-1', 3, 'd2'));
    // Another node's trip was reset meanwhile.
    one.state.epoch += 1;
    one.trips.clear();
    one.trips.set('all', tripOf('all'));
    one.priors.handOver(['node'], 'all');
    t.match(one.latch.priorOf('d1'), { orderId: 'all', fields: [{ prior: 10 }] });
    await clock.advance(0);
    t.match(kept('d1'), { orderId: 'all', epoch: 0, fields: [{ prior: 10 }] });
    t.match(kept('d2'), { orderId: 'lapse-1' });
    // The stop that was taken over was in the midst of a controller.
    await one.latch.recordPrior(deployment('node', 7, 'd3'));
    t.match(one.latch.priorOf('d3'), { orderId: 'all', formerly: ['node'], fields: [{ prior: 7 }] });
    await clock.advance(0);
    t.match(kept('d3'), { orderId: 'all', fields: [{ prior: 7 }] });

    // A process that remembers it as it was reads it as it is.
    const other = replica({ api: store.api, clock, trips: [tripOf('node')] });
    await other.latch.recordPrior(deployment('node', 10));
    other.trips.clear();
    t.equal((await other.priors.load(3_000)).ok, true);
    t.match(other.latch.priorOf('d1'), { orderId: 'all' });
  });

  t.test('a lapse’s value is replaced by the next lapse’s', async (t) => {
    const one = replica({ api: objectStore().api, clock: new ManualClock() });
    await one.latch.recordPrior(deployment('lapse-1', 10));
    await one.latch.recordPrior(deployment('lapse-2', 5));
    t.equal(priorIn(one.latch.priorOf('d1')), 5);
  });

  t.test('many at the same moment are one write or two', async (t) => {
    const store = objectStore();
    const one = replica({ api: store.api, clock: new ManualClock(), trips: [tripOf('a')] });
    const kept = await Promise.all(
      Array.from({ length: 200 }, (_, index) => one.latch.recordPrior(deployment('a', 3, `d${index}`))),
    );
    t.ok(kept.every(Boolean));
    t.ok(store.requests.filter(({ verb }) => verb !== 'get').length <= 2);
    t.equal(Object.keys(store.objects.get(RESTORE_PATH)?.data ?? {}).length, 200);
  });

  t.test('says so when the cluster does not take it, and goes on trying', async (t) => {
    const store = objectStore();
    const clock = new ManualClock();
    const one = replica({ api: store.api, clock, trips: [tripOf('a')] });
    store.before = () => failureOf('server-error');
    const kept = one.latch.recordPrior(deployment('a', 10));
    await clock.advance(3_100);
    t.equal(await kept, false);
    t.equal(priorIn(one.latch.priorOf('d1')), 10, 'in memory all the same');
    store.before = () => undefined;
    await clock.advance(5_000);
    t.ok(store.objects.get(RESTORE_PATH)?.data?.['d1']);
  });

  t.test('load() brings back what an earlier process recorded, and forget() ends it', async (t) => {
    const store = objectStore();
    const clock = new ManualClock();
    const one = replica({ api: store.api, clock, trips: [tripOf('a')] });
    await one.latch.recordPrior(deployment('a', 10));
    const two = replica({ api: store.api, clock, trips: [tripOf('a')] });
    await two.priors.load(1_000);
    await two.latch.recordPrior(deployment('a', 4));
    t.equal(priorIn(two.latch.priorOf('d1')), 10);
    t.equal(await two.priors.forget(['d1'], 1_000), true);
    t.same(store.objects.get(RESTORE_PATH)?.data, {});
  });

  t.test('goes into further ConfigMaps above 900 KiB, each entry once', async (t) => {
    const store = objectStore();
    const one = replica({ api: store.api, clock: new ManualClock(), trips: [tripOf('a')] });
    const long = 'x'.repeat(250);
    const record = (from: number, to: number) =>
      Promise.all(
        Array.from({ length: to - from }, (_, index) =>
          one.latch.recordPrior({ ...deployment('a', 3, `d${from + index}`), name: long, namespace: long }),
        ),
      );
    await record(0, 1_500);
    await record(1_000, 2_000);
    const parts = [RESTORE_MAP, `${RESTORE_MAP}-1`].map(
      (name) => store.objects.get(`/api/v1/namespaces/${NAMESPACE}/configmaps/${name}`)?.data ?? {},
    );
    const keys = parts.flatMap((data) => Object.keys(data));
    t.equal(keys.length, 2_000);
    t.equal(new Set(keys).size, 2_000);
    for (const data of parts) {
      const bytes = Object.values(data).reduce((sum, text) => sum + Buffer.byteLength(text), 0);
      t.ok(bytes > 0 && bytes <= 900 * 1024, `${bytes} bytes`);
    }
    const two = replica({ api: store.api, clock: new ManualClock() });
    await two.priors.load(1_000);
    t.equal(two.priors.all().length, 2_000);
  });
});

t.test('ClusterLatch on a real API server, with the rights of the chart', { skip: lacksControlPlane }, async (t) => {
  const plane = await startControlPlane(t);
  await plane.apply('helm/admission/estop.yaml');
  const connect = async (): Promise<KubeApi> => {
    const kubeconfig = await plane.kubeconfigFor(plane.serviceToken);
    const client = await createKubeClient({ clock: systemClock, kubeconfig });
    if (!client.ok) throw new Error(client.detail);
    t.teardown(() => client.api.close());
    return client.api;
  };
  const start = async (trips: readonly Trip[] = []) => {
    const api = await connect();
    const admission = createAdmission({ api, kinds: () => [], namespace: NAMESPACE });
    const one = replica({ api, clock: systemClock, admission, trips });
    await one.latch.start();
    t.teardown(() => one.latch.close());
    return { ...one, admission };
  };
  const until = async (what: string, isSo: () => boolean | Promise<boolean>): Promise<void> => {
    const endMs = systemClock.now().elapsedMs + 15_000;
    while (!(await isSo()) && systemClock.now().elapsedMs < endMs) await systemClock.sleep(50);
    t.ok(await isSo(), what);
  };
  const data = async () => (await plane.must('GET', PATH)).data;

  const one = await start();
  const two = await start();
  two.state.isLeader = false;
  t.match(await data(), { latched: 'false', epoch: '0' });
  two.trips.set('trip-1', tripOf('trip-1'));
  const order = { orderId: 'trip-1', scope: EVERYTHING, what: 'everything', targets: [], reason: '' } as const;
  t.same(await two.latch.arm(order), { kind: 'armed' }, 'armed, and tried out with a pod');
  await until('a standby’s trip reaches the leader', () => one.trips.has('trip-1'));
  t.match(await data(), { latched: 'true', epoch: '1', node: '*' });
  t.equal(await two.latch.recordPrior(deployment('trip-1', 10)), true);

  await plane.apply('helm/admission/estop.yaml');
  t.same(await two.admission.readArmed(5_000), { kind: 'disarmed' }, 'an upgrade of the chart disarms it');
  t.same(await two.latch.arm(order), { kind: 'armed' }, 'and the sweep arms it again');

  t.same(await two.reset('trip-1'), { kind: 'not-leader' });
  await plane.apiserver.stop();
  t.match(await one.reset('trip-1'), { kind: 'not-written' });
  t.equal(one.trips.size, 1, 'a reset that cannot be written changes nothing');
  await plane.apiserver.start();
  t.same(await one.reset('trip-1'), { kind: 'done', epoch: 1 });
  await until('the standby hears of the reset', () => two.trips.size === 0);
  await until('the rule is disarmed', async () => (await one.admission.readArmed(5_000)).kind === 'disarmed');
  t.match(await data(), { latched: 'false', epoch: '1' });

  await plane.must('PATCH', PATH, { data: { latched: 'true', epoch: '1' } });
  await until('a copy that is not above the reset is rewritten', async () => (await data()).latched === 'false');
  t.equal(one.trips.size, 0);
  await plane.must('PATCH', PATH, { data: { trips: '[{' } });
  await until('a corrupt one trips', () => one.trips.size === 1);
  await until('and is rewritten, the old one kept aside', async () => (await data()).corrupt !== undefined);
});
