import t from 'tap';
import { systemClock } from '../../src/clock.ts';
import { createKubeClient } from '../../src/kubernetes/kube-client.ts';
import { createLeaseStore } from '../../src/kubernetes/lease-store.ts';
import { lacksControlPlane, startControlPlane } from '../support/control-plane.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { failureOf, objectStore } from '../support/object-store-api.ts';

t.setTimeout(240_000);

const NAMESPACE = 'vsf-safety';
const PATH = `/api/v1/namespaces/${NAMESPACE}/configmaps/vsf-leases`;

const granted = (id: string, intensity = 0.8) => ({
  set: { [`lease/${id}`]: { id, workload: 'train', identity: 'me', intensity } },
  delete: [],
  why: '',
});
const ended = (id: string) => ({ set: { [`ended/${id}`]: { id } }, delete: [`lease/${id}`], why: '' });

function setUp() {
  const store = objectStore();
  const clock = new ManualClock();
  const leading = { isLeader: true };
  const leases = createLeaseStore({ api: store.api, clock, namespace: NAMESPACE, mayWrite: () => leading.isLeader });
  const writes = (): number => store.requests.filter(({ verb }) => verb === 'create' || verb === 'replace').length;
  const stored = (): string[] => Object.keys(store.objects.get(PATH)?.data ?? {});
  return { store, clock, leading, leases, writes, stored };
}

t.test('LeaseStore', async (t) => {
  t.test('writes a grant at once, a change, and takes away what has ended', async (t) => {
    const { store, clock, leases, stored } = setUp();
    t.same(await leases.append(granted('a')), { ok: true });
    t.same(JSON.parse(store.objects.get(PATH)?.data?.['a'] ?? ''), granted('a').set['lease/a']);
    const changed = leases.append(granted('a', 0.4));
    await clock.advance(1_000);
    t.same(await changed, { ok: true });
    t.match(JSON.parse(store.objects.get(PATH)?.data?.['a'] ?? ''), { intensity: 0.4 });
    const over = leases.append(ended('a'));
    await clock.advance(1_000);
    t.same(await over, { ok: true });
    t.same(stored(), []);
  });

  t.test('is asked nothing by changes that are about no lease', async (t) => {
    const { store, leases } = setUp();
    t.same(await leases.append({ set: { 'trip/1': {}, 'ended/a': {} }, delete: ['boot/n'], why: '' }), { ok: true });
    t.equal(store.requests.length, 0);
  });

  t.test('makes one write a second of however many, and the last word counts', async (t) => {
    const { clock, leases, writes, stored } = setUp();
    const first = leases.append(granted('a'));
    await clock.advance(0);
    t.same(await first, { ok: true });
    const many = Array.from({ length: 300 }, (_, index) => leases.append(granted(`b${index}`)));
    many.push(leases.append(ended('b7')), leases.append(ended('a')));
    await clock.advance(999);
    t.equal(writes(), 1);
    await clock.advance(1);
    t.ok((await Promise.all(many)).every(({ ok }) => ok));
    t.equal(writes(), 2);
    t.equal(stored().length, 299);
    t.notOk(stored().includes('b7'));
  });

  t.test('keeps what another process wrote', async (t) => {
    const { store, clock, leases, stored } = setUp();
    await leases.append(granted('a'));
    store.before = ({ verb }) => {
      if (verb !== 'replace') return undefined;
      store.before = () => undefined;
      const now = store.objects.get(PATH);
      store.put(PATH, { data: { ...now?.data, other: '{}' } });
      return undefined;
    };
    const written = leases.append(granted('b'));
    await clock.advance(2_000);
    t.same(await written, { ok: true });
    t.same(stored().sort(), ['a', 'b', 'other']);
  });

  t.test('answers within 3 s when the cluster does not, and writes it when it is back', async (t) => {
    const { store, clock, leases, stored } = setUp();
    store.before = () => failureOf('timeout', 'no answer in 2000 ms');
    const written = leases.append(granted('a'));
    await clock.advance(3_000);
    t.same(await written, { ok: false, detail: 'no answer in 2000 ms' });
    t.equal(leases.failure, 'no answer in 2000 ms');
    store.before = () => undefined;
    await clock.advance(4_000);
    t.same(stored(), ['a']);
    t.equal(leases.failure, null);
  });

  t.test('writes nothing while another process leads, also later', async (t) => {
    const { clock, leading, leases, writes } = setUp();
    leading.isLeader = false;
    t.match(await leases.append(granted('a')), { ok: false, detail: /another process leads/ });
    leading.isLeader = true;
    await clock.advance(5_000);
    t.equal(writes(), 0);
  });

  t.test('read() gives all, names what is no JSON, and tells unreachable from empty', async (t) => {
    const { store, leases } = setUp();
    t.match(await leases.read(1_000), { kind: 'read', leases: new Map() });
    store.put(PATH, { data: { a: '{"id":"a"}', b: '{' } });
    const read = await leases.read(1_000);
    t.match(read, { kind: 'read', problems: [/b is no JSON/] });
    if (read.kind === 'read') t.same([...read.leases], [['a', { id: 'a' }]]);
    store.before = () => failureOf('unreachable', 'ECONNREFUSED');
    t.same(await leases.read(1_000), { kind: 'unreachable', detail: 'ECONNREFUSED' });
  });

  t.test('close() writes what is left', async (t) => {
    const { clock, leases, stored } = setUp();
    await leases.append(granted('a'));
    const last = leases.append(ended('a'));
    const closed = leases.close(1_000);
    await clock.advance(0);
    await closed;
    t.same(await last, { ok: true });
    t.same(stored(), []);
    t.match(await leases.append(granted('b')), { ok: false });
  });
});

t.test('LeaseStore on a real API server, with the rights of the chart', { skip: lacksControlPlane }, async (t) => {
  const plane = await startControlPlane(t);
  const kubeconfig = await plane.kubeconfigFor(plane.serviceToken);
  const client = await createKubeClient({ clock: systemClock, kubeconfig });
  if (!client.ok) throw new Error(client.detail);
  t.teardown(() => client.api.close());
  const parts = { api: client.api, clock: systemClock, namespace: plane.namespace, mayWrite: () => true };
  const leases = createLeaseStore(parts);
  const startedMs = systemClock.now().elapsedMs;
  t.same(await leases.append(granted('lease-1')), { ok: true });
  t.comment(`the first grant was stored after ${Math.round(systemClock.now().elapsedMs - startedMs)} ms`);

  // As many as there may be at once, each as large as one with limits of its own: more than one ConfigMap holds.
  const constraints = 'x'.repeat(400);
  const set = Object.fromEntries(
    Array.from({ length: 5_000 }, (_, index) => [`lease/many-${index}`, { id: `many-${index}`, constraints }]),
  );
  t.same(await leases.append({ set, delete: [], why: '' }), { ok: true });
  const next = createLeaseStore(parts);
  const read = await next.read(10_000);
  t.equal(read.kind === 'read' && read.leases.size, 5_001);
  const gone = Object.keys(set);
  t.same(await next.append({ set: {}, delete: gone, why: '' }), { ok: true });
  const after = await leases.read(10_000);
  t.same(after.kind === 'read' && [...after.leases.keys()], ['lease-1']);
  await Promise.all([leases.close(1_000), next.close(1_000)]);
});
