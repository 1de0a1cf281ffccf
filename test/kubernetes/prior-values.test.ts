// What a stop overwrote, on the disk until the cluster has it: a server with too much to do takes it late, and a process
// that is killed before that must still know.
import t from 'tap';
import {
  createPriorValues,
  type KeptPrior,
  type PriorDisk,
  type PriorValues,
} from '../../src/kubernetes/prior-values.ts';
import type { PriorValue } from '../../src/kubernetes/stop-latch.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { failureOf, type ObjectStore, objectStore } from '../support/object-store-api.ts';

const JOB: PriorValue = {
  orderId: 'trip-1',
  group: 'batch',
  version: 'v1',
  kind: 'Job',
  resource: 'jobs',
  namespace: 'gpu',
  name: 'train',
  uid: 'uid-train',
  controllerUid: undefined,
  through: 'object',
  fields: [{ path: ['spec', 'suspend'], prior: false, stop: true }],
};
const SECOND = { ...JOB, fields: [{ path: ['spec', 'parallelism'], prior: 3, stop: 0 }] };

/** A disk that outlives the process. */
function pretendDisk(map = new Map<string, KeptPrior>()): PriorDisk & { readonly map: Map<string, KeptPrior> } {
  return {
    map,
    earlier: [...map.values()],
    async keep(prior) {
      map.set(prior.uid, structuredClone(prior));
      return true;
    },
    drop(uids) {
      for (const uid of uids) map.delete(uid);
    },
  };
}

function priorsOf(
  store: ObjectStore,
  clock: ManualClock,
  disk?: PriorDisk,
  isActive: (orderId: string) => boolean = () => true,
): PriorValues {
  const own = { api: store.api, clock, namespace: 'vsf-safety', epoch: () => 0, isActive };
  return createPriorValues({ ...own, ...(disk && { disk }) });
}

t.test('record() is durable once the disk has it, whatever the cluster does', async (t) => {
  const store = objectStore();
  const clock = new ManualClock();
  store.before = () => new Promise(() => undefined);
  t.equal(await priorsOf(store, clock, pretendDisk()).record(JOB), true);
});

t.test('record() waits for the cluster where the disk did not take it', async (t) => {
  const store = objectStore();
  const clock = new ManualClock();
  const disk = { ...pretendDisk(), keep: async () => false };
  t.equal(await priorsOf(store, clock, disk).record(JOB), true);
  store.before = () => failureOf('forbidden');
  t.equal(await priorsOf(store, clock, disk).record(JOB), false);
});

t.test(
  'what the cluster did not get in time is known after a kill, written there, and then off the disk',
  async (t) => {
    const store = objectStore();
    const clock = new ManualClock();
    const disk = pretendDisk();
    store.before = () => new Promise(() => undefined);
    const killed = priorsOf(store, clock, disk);
    await killed.record(JOB);
    await killed.record(SECOND);
    killed.close();
    store.before = () => undefined;

    const next = priorsOf(store, clock, pretendDisk(disk.map));
    const fields = [...JOB.fields, ...SECOND.fields];
    t.match(next.priorOf(JOB.uid), { fields, orderId: 'trip-1' });
    t.equal((await next.load(1_000)).ok, true);
    await clock.advance(1_000);
    const [map] = [...store.objects.values()];
    t.match(JSON.parse(map?.data?.[JOB.uid] ?? '{}'), { fields });
    t.equal(disk.map.size, 0, 'the cluster has it now');
  },
);

t.test('forget() takes it off the disk, too', async (t) => {
  const store = objectStore();
  const clock = new ManualClock();
  const disk = pretendDisk();
  store.before = () => failureOf('server-error');
  const priors = priorsOf(store, clock, disk);
  await priors.record(JOB);
  t.equal(disk.map.size, 1);
  store.before = () => undefined;
  const forgetting = priors.forget([JOB.uid], 1_000);
  await clock.advance(1_000);
  t.equal(await forgetting, true);
  t.equal(disk.map.size, 0);
  t.equal(priors.priorOf(JOB.uid), undefined);
});

t.test('load() forgets the oldest stops that are over, each as a whole, beyond 2,000 values', async (t) => {
  const store = objectStore();
  const clock = new ManualClock();
  const active = new Set<string>();
  const priors = priorsOf(store, clock, undefined, (orderId) => active.has(orderId));
  const stop = async (orderId: string, count: number): Promise<void> => {
    await clock.advance(1_000);
    const uids = Array.from({ length: count }, (_, index) => `${orderId}-${index}`);
    await Promise.all(uids.map((uid) => priors.record({ ...JOB, orderId, uid })));
  };
  const counts = (): Record<string, number> => {
    const found: Record<string, number> = {};
    for (const { orderId } of priors.all()) found[orderId] = (found[orderId] ?? 0) + 1;
    return found;
  };
  active.add('trip-on');
  await stop('trip-on', 50);
  await stop('lapse/a', 900);
  await stop('lapse/b', 1_100);
  t.same(await priors.load(1_000), { ok: true });
  t.same(counts(), { 'trip-on': 50, 'lapse/a': 900, 'lapse/b': 1_100 }, '2,000 are kept');
  await stop('trip-2', 1);
  await priors.load(1_000);
  t.same(counts(), { 'trip-on': 50, 'lapse/b': 1_100, 'trip-2': 1 }, 'no half of a stop, and none that goes on');
  const other = priorsOf(store, clock);
  await other.load(1_000);
  t.equal(other.all().length, 1_151, 'in the cluster, too');
  await stop('trip-large', 2_500);
  await priors.load(1_000);
  t.same(counts(), { 'trip-on': 50, 'trip-large': 2_500 }, 'the newest is kept however large it is');
});
