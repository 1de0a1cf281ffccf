import t from 'tap';
import { systemClock } from '../../src/clock.ts';
import type { KubeApi } from '../../src/kubernetes/kube-api.ts';
import { createKubeClient } from '../../src/kubernetes/kube-client.ts';
import {
  LEASE_DURATION_MS,
  Leadership,
  type LeadershipView,
  microTime,
  RENEW_DEADLINE_MS,
  RETRY_PERIOD_MS,
} from '../../src/kubernetes/leadership.ts';
import { lacksControlPlane, startControlPlane } from '../support/control-plane.ts';
import { startKubeFaultProxy } from '../support/kube-fault-proxy.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { failureOf, type ObjectStore, objectStore } from '../support/object-store-api.ts';

// A take-over on a real server takes its 15 s.
t.setTimeout(240_000);

const NAMESPACE = 'vsf-safety';
const PATH = `/apis/coordination.k8s.io/v1/namespaces/${NAMESPACE}/leases/vsf-safety`;

function candidate(store: ObjectStore, clock: ManualClock, identity: string): Leadership {
  return new Leadership({ api: store.api, clock, namespace: NAMESPACE, identity, random: () => 0 });
}

const spec = (store: ObjectStore): Record<string, unknown> => store.objects.get(PATH)?.spec ?? {};

t.test('microTime() has six digits of a second', async (t) => {
  t.equal(microTime(Date.UTC(2026, 10, 25, 1, 2, 3, 4)), '2026-11-25T01:02:03.004000Z');
});

t.test('Leadership', async (t) => {
  t.test('knows nothing before the first answer, then makes the Lease and leads', async (t) => {
    const store = objectStore();
    const clock = new ManualClock();
    const one = candidate(store, clock, 'one');
    t.equal(one.view.state, 'unknown');
    const told: string[] = [];
    one.onChange(({ state }) => told.push(state));
    one.start();
    await clock.advance(0);
    t.equal(one.view.state, 'leader');
    t.same(told, ['leader']);
    t.match(spec(store), { holderIdentity: 'one', leaseDurationSeconds: 15, leaseTransitions: 0 });
    await one.stop();
    t.equal(one.isLeader, false);
    t.same(told, ['leader', 'standby']);
  });

  t.test('renews every 2 s, by compare and swap', async (t) => {
    const store = objectStore();
    const clock = new ManualClock();
    const one = candidate(store, clock, 'one');
    one.start();
    await clock.advance(4 * RETRY_PERIOD_MS);
    const writes = store.requests.filter(({ verb }) => verb === 'replace');
    t.equal(writes.length, 4);
    t.ok(writes.every(({ body }) => (body as { metadata: { resourceVersion?: string } }).metadata.resourceVersion));
    t.equal(spec(store)['leaseTransitions'], 0);
    await one.stop();
  });

  t.test('a second one stands by, and names who leads', async (t) => {
    const store = objectStore();
    const clock = new ManualClock();
    const [one, two] = [candidate(store, clock, 'one'), candidate(store, clock, 'two')];
    one.start();
    await clock.advance(0);
    two.start();
    await clock.advance(60_000);
    t.equal(one.isLeader, true);
    t.same(two.view, { state: 'standby', identity: 'two', leader: 'one' } satisfies LeadershipView);
    await Promise.all([one.stop(), two.stop()]);
  });

  t.test(
    'takes over only when the record has not changed for its whole duration, whatever wall clocks say',
    async (t) => {
      const store = objectStore();
      const clock = new ManualClock();
      store.put(PATH, {
        apiVersion: 'coordination.k8s.io/v1',
        kind: 'Lease',
        // Renewed a year ago, by the other side's clock.
        spec: {
          holderIdentity: 'gone',
          leaseDurationSeconds: 15,
          renewTime: '2025-01-01T00:00:00.000000Z',
          leaseTransitions: 6,
        },
      });
      const one = candidate(store, clock, 'one');
      one.start();
      await clock.advance(LEASE_DURATION_MS - 1_000);
      t.equal(one.view.state, 'standby');
      await clock.advance(1_000 + RETRY_PERIOD_MS);
      t.equal(one.view.state, 'leader');
      t.match(spec(store), { holderIdentity: 'one', leaseTransitions: 7 });
      await one.stop();
    },
  );

  t.test('leads no longer than 10 s after the start of the last renewal that succeeded', async (t) => {
    const store = objectStore();
    const clock = new ManualClock();
    const one = candidate(store, clock, 'one');
    const told: LeadershipView[] = [];
    one.onChange((view) => told.push(view));
    one.start();
    await clock.advance(0);
    const renewedAtMs = clock.now().elapsedMs;
    store.before = () => failureOf('unreachable', 'connect ECONNREFUSED');
    await clock.advance(RENEW_DEADLINE_MS - 1);
    t.equal(one.isLeader, true);
    await clock.advance(1);
    t.equal(clock.now().elapsedMs - renewedAtMs, RENEW_DEADLINE_MS);
    t.match(one.view, { state: 'unknown', detail: 'connect ECONNREFUSED' });
    await clock.advance(1_000);
    t.match(told.at(-1), { state: 'unknown' });
    store.before = () => undefined;
    await clock.advance(10_000);
    t.equal(one.view.state, 'leader', 'its own record is still there');
    t.equal(spec(store)['leaseTransitions'], 0);
    await one.stop();
  });

  t.test('counts a renewal from when it was begun, not from when it was answered', async (t) => {
    const store = objectStore();
    const clock = new ManualClock();
    const one = candidate(store, clock, 'one');
    one.start();
    await clock.advance(0);
    store.before = async ({ verb }) => {
      if (verb === 'replace') await clock.sleep(2_400);
      return undefined;
    };
    // Begun at 2.0 s, answered at 4.4 s; then nothing more is answered.
    await clock.advance(2_000 + 2_400);
    store.before = () => new Promise(() => undefined);
    await clock.advance(7_599);
    t.equal(one.isLeader, true);
    await clock.advance(1);
    t.equal(one.isLeader, false);
    void one.stop();
  });

  t.test('gives way at once to a record that somebody else wrote', async (t) => {
    const store = objectStore();
    const clock = new ManualClock();
    const one = candidate(store, clock, 'one');
    one.start();
    await clock.advance(0);
    store.put(PATH, { spec: { holderIdentity: 'two', leaseDurationSeconds: 15, leaseTransitions: 1 } });
    await clock.advance(RETRY_PERIOD_MS);
    t.match(one.view, { state: 'standby', leader: 'two' });
    await one.stop();
  });

  t.test('a write whose answer got lost is found to be its own', async (t) => {
    const store = objectStore();
    const clock = new ManualClock();
    const one = candidate(store, clock, 'one');
    one.start();
    await clock.advance(0);
    store.after = ({ verb }) => (verb === 'replace' ? failureOf('timeout') : undefined);
    await clock.advance(RETRY_PERIOD_MS);
    store.after = () => undefined;
    await clock.advance(RETRY_PERIOD_MS);
    t.equal(one.isLeader, true);
    await clock.advance(RENEW_DEADLINE_MS);
    t.equal(one.isLeader, true);
    t.equal(spec(store)['leaseTransitions'], 0);
    await one.stop();
  });

  t.test('a process that stood still for over 5 s does not lead, before anything else of it runs', async (t) => {
    const store = objectStore();
    const clock = new StallingClock();
    const one = candidate(store, clock, 'one');
    one.start();
    await clock.advance(0);
    t.equal(one.isLeader, true);
    clock.stall(5_000);
    t.equal(one.isLeader, true, 'exactly 5 s since its last beat is not over 5 s');
    clock.stall(600);
    t.match(one.view, { state: 'unknown' });
    await clock.advance(RETRY_PERIOD_MS + 1_000);
    t.equal(one.isLeader, true, 'after a renewal it leads again');
    await one.stop();
  });

  t.test('release() gives the Lease back, so that another leads at its next try', async (t) => {
    const store = objectStore();
    const clock = new ManualClock();
    const [one, two] = [candidate(store, clock, 'one'), candidate(store, clock, 'two')];
    one.start();
    await clock.advance(0);
    two.start();
    await clock.advance(100);
    await one.release();
    t.equal(one.isLeader, false);
    t.equal(spec(store)['holderIdentity'], undefined);
    t.equal(spec(store)['leaseDurationSeconds'], 1);
    await clock.advance(RETRY_PERIOD_MS);
    t.equal(two.isLeader, true);
    t.match(spec(store), { holderIdentity: 'two', leaseTransitions: 1, leaseDurationSeconds: 15 });
    await two.stop();
  });

  t.test('release() leaves a Lease alone that is another one’s', async (t) => {
    const store = objectStore();
    const clock = new ManualClock();
    const [one, two] = [candidate(store, clock, 'one'), candidate(store, clock, 'two')];
    one.start();
    await clock.advance(0);
    two.start();
    await clock.advance(100);
    await two.release();
    t.equal(spec(store)['holderIdentity'], 'one');
    await one.stop();
  });

  t.test('a right that is missing is told, and is no standing by', async (t) => {
    const store = objectStore();
    const clock = new ManualClock();
    store.before = ({ verb }) => (verb === 'create' ? failureOf('forbidden', 'cannot create leases') : undefined);
    const one = candidate(store, clock, 'one');
    one.start();
    await clock.advance(0);
    t.match(one.view, { state: 'unknown', detail: 'cannot create leases' });
    await one.stop();
  });

  t.test('a duration that makes no sense holds as long as ours', async (t) => {
    for (const leaseDurationSeconds of [0, -5, 1e9, undefined]) {
      const store = objectStore();
      const clock = new ManualClock();
      store.put(PATH, { spec: { holderIdentity: 'gone', leaseDurationSeconds } });
      const one = candidate(store, clock, 'one');
      one.start();
      await clock.advance(LEASE_DURATION_MS - 1_000);
      t.equal(one.isLeader, false, `${leaseDurationSeconds}`);
      await clock.advance(1_000 + RETRY_PERIOD_MS);
      t.equal(one.isLeader, true, `${leaseDurationSeconds}`);
      await one.stop();
    }
  });
});

/** A clock whose time can pass without a timer being fired, as for a process that was stopped. */
class StallingClock extends ManualClock {
  #stalledMs = 0;
  stall(ms: number): void {
    this.#stalledMs += ms;
  }
  override now(): { readonly elapsedMs: number; readonly wallMs: number } {
    const { elapsedMs, wallMs } = super.now();
    return { elapsedMs: elapsedMs + this.#stalledMs, wallMs: wallMs + this.#stalledMs };
  }
}

t.test('Leadership on a real API server', { skip: lacksControlPlane }, async (t) => {
  const plane = await startControlPlane(t);
  const proxy = await startKubeFaultProxy(t, plane);
  const connect = async (through?: typeof proxy): Promise<KubeApi> => {
    const client = await createKubeClient({
      clock: systemClock,
      kubeconfig: await plane.kubeconfigFor(plane.serviceToken, through),
    });
    if (!client.ok) throw new Error(client.detail);
    t.teardown(() => client.api.close());
    return client.api;
  };
  const make = (api: KubeApi, identity: string): Leadership =>
    new Leadership({ api, clock: systemClock, namespace: plane.namespace, identity });
  const until = async (what: string, isSo: () => boolean, withinMs: number): Promise<void> => {
    const endMs = systemClock.now().elapsedMs + withinMs;
    while (!isSo() && systemClock.now().elapsedMs < endMs) await systemClock.sleep(50);
    t.ok(isSo(), what);
  };

  const one = make(await connect(proxy), 'pod-one');
  const two = make(await connect(), 'pod-two');
  one.start();
  await until('the first leads, with the rights of the chart', () => one.isLeader, 5_000);
  two.start();
  await until('the second stands by', () => two.view.state === 'standby', 5_000);
  // A leader that reaches nobody stops leading before the other may begin.
  proxy.setRule(() => ({ kind: 'hang' }));
  let isBoth = false;
  let endedMs = Infinity;
  one.onChange(() => (endedMs = Math.min(endedMs, systemClock.now().elapsedMs)));
  await until(
    'the second takes over',
    () => {
      isBoth ||= one.isLeader && two.isLeader;
      return two.isLeader;
    },
    30_000,
  );
  t.equal(isBoth, false, 'never two at once');
  t.ok(systemClock.now().elapsedMs - endedMs > 2_000, 'with a margin');
  proxy.setRule(() => null);
  await until('the first comes back as a standby', () => one.view.state === 'standby', 10_000);
  await two.release();
  await until('and leads as soon as the second gives it back', () => one.isLeader, 8_000);
  const lease = await plane.must('GET', `/apis/coordination.k8s.io/v1/namespaces/${plane.namespace}/leases/vsf-safety`);
  t.match(lease.spec, { holderIdentity: 'pod-one', leaseTransitions: 2 });
  t.match(lease.spec.renewTime, /\.\d{6}Z$/);
  await one.release();
});
