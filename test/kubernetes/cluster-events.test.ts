import t from 'tap';
import { systemClock } from '../../src/clock.ts';
import type { EventData, EventName, Message } from '../../src/domain/events.ts';
import { createClusterEvents } from '../../src/kubernetes/cluster-events.ts';
import type { KubeFailure } from '../../src/kubernetes/kube-api.ts';
import { createKubeClient } from '../../src/kubernetes/kube-client.ts';
import { type AnyObject, lacksControlPlane, startControlPlane } from '../support/control-plane.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { failureOf, objectStore } from '../support/object-store-api.ts';

const NAMESPACE = 'vsf-safety';
const EVENTS = `/api/v1/namespaces/${NAMESPACE}/events`;
const LATCH = `/api/v1/namespaces/${NAMESPACE}/configmaps/vsf-estop`;

let sequence = 0;
const message = (name: EventName, change: Partial<EventData> = {}): Message => {
  sequence += 1;
  return {
    type: 'event',
    sequence,
    at: '2026-01-01T00:00:00.250Z',
    data: { name, message: `${name} happened`, ...change },
  };
};

function rig() {
  const store = objectStore();
  const clock = new ManualClock();
  const events = createClusterEvents({ api: store.api, clock, namespace: NAMESPACE, identity: 'vsf-safety-0' });
  const told = () => [...store.objects].filter(([path]) => path.startsWith(EVENTS)).map(([, one]) => one as AnyObject);
  return { store, clock, events, told };
}

t.test('createClusterEvents() tells trips, stops and resets about the latch, in order, and nothing else', async (t) => {
  const { store, clock, events, told } = rig();
  store.put(LATCH, { data: {} });
  const names: EventName[] = [
    'tripped',
    'stop-progress',
    'stop-unverified',
    'cooling-started',
    'stop-verified',
    'reset',
  ];
  for (const name of names) events.tell(message(name, { message: `${name} ${'x'.repeat(2_000)}` }));
  t.equal(store.requests.length, 0, 'not within the decision');
  await clock.advance(0);
  t.match(told(), [
    { reason: 'EmergencyStop', type: 'Warning' },
    { reason: 'StopUnverified', type: 'Warning' },
    { reason: 'StopVerified', type: 'Normal' },
    { reason: 'Reset', type: 'Normal' },
  ]);
  const [first] = told();
  t.match(first, {
    involvedObject: { kind: 'ConfigMap', name: 'vsf-estop', namespace: NAMESPACE, uid: /^uid-/ },
    reportingInstance: 'vsf-safety-0',
    firstTimestamp: '2026-01-01T00:00:00Z',
  });
  t.equal(first.message.length, 1024, 'the longest that the API server takes');
  t.match(events.counts(), { sent: 4, failed: 0, dropped: 0, pending: 0, lastError: null });
  await events.close();
});

t.test(
  'createClusterEvents() tries again what may pass, once only what arrived, and never what will not do',
  async (t) => {
    const { store, clock, events, told } = rig();
    const faults: (KubeFailure | undefined)[] = [failureOf('server-error'), failureOf('unreachable')];
    store.before = ({ verb }) => (verb === 'create' ? faults.shift() : undefined);
    events.tell(message('tripped'));
    await clock.advance(10_000);
    t.match(events.counts(), { sent: 1, failed: 0 });

    // The second one arrives, and its answer is lost.
    let isLost = false;
    store.after = ({ verb }) => {
      if (verb !== 'create' || isLost) return undefined;
      isLost = true;
      return failureOf('timeout');
    };
    events.tell(message('reset'));
    await clock.advance(10_000);
    t.match(events.counts(), { sent: 2, failed: 0 });
    t.equal(told().length, 2);

    store.before = ({ verb }) => (verb === 'create' ? failureOf('forbidden', '403 events is forbidden') : undefined);
    const before = store.requests.length;
    events.tell(message('tripped'));
    await clock.advance(60_000);
    t.match(events.counts(), { sent: 2, failed: 1, lastError: '403 events is forbidden' });
    t.equal(store.requests.length - before, 2, 'one look for the latch and one try');
    await events.close();
  },
);

t.test('createClusterEvents() keeps 64 at most, gives each its deadline, and lets go when it is closed', async (t) => {
  const { store, clock, events } = rig();
  store.before = () => new Promise(() => undefined);
  for (let i = 0; i < 70; i++) events.tell(message('tripped'));
  t.match(events.counts(), { pending: 64, dropped: 6 });
  // 5 s for the latch, then three tries of 5 s with 5 s between them.
  await clock.advance(30_000);
  t.match(events.counts(), { pending: 62, failed: 1, lastError: 'Cannot create an event: no answer in time' });
  const closing = events.close();
  await clock.advance(5_000);
  await closing;
  events.tell(message('tripped'));
  t.equal(events.counts().pending, 62, 'nothing is taken any more');
});

t.test(
  'createClusterEvents() on a real control plane, with the rights of helm/rbac',
  { skip: lacksControlPlane, timeout: 200_000 },
  async (t) => {
    const plane = await startControlPlane(t);
    const client = await createKubeClient({
      clock: systemClock,
      kubeconfig: await plane.kubeconfigFor(plane.serviceToken),
    });
    if (!client.ok) throw new Error(client.detail);
    t.teardown(() => client.api.close());
    const path = LATCH.replace(/\/vsf-estop$/, '');
    const { metadata } = await plane.must('POST', path, { metadata: { name: 'vsf-estop' } });
    const events = createClusterEvents({
      api: client.api,
      clock: systemClock,
      namespace: plane.namespace,
      identity: 'vsf-safety-7d9f',
    });
    t.teardown(() => events.close());
    events.tell(message('tripped', { message: 'EMERGENCY STOP: GPU 0 of bizon1 is at 91 °C, hard stop is 85 °C' }));
    events.tell(message('reset', { message: 'Trip 1 is reset by operator: fan replaced' }));
    for (let i = 0; i < 100 && events.counts().sent < 2; i++) await systemClock.sleep(50);
    t.match(events.counts(), { sent: 2, failed: 0, lastError: null });
    // As `kubectl describe configmap vsf-estop` asks for them.
    const selector = `involvedObject.name=vsf-estop,involvedObject.kind=ConfigMap,involvedObject.uid=${metadata.uid}`;
    const { items } = await plane.must('GET', `${EVENTS}?fieldSelector=${encodeURIComponent(selector)}`);
    t.match(items.map((one: AnyObject) => [one.type, one.reason, one.message]).sort(), [
      ['Normal', 'Reset', 'Trip 1 is reset by operator: fan replaced'],
      ['Warning', 'EmergencyStop', 'EMERGENCY STOP: GPU 0 of bizon1 is at 91 °C, hard stop is 85 °C'],
    ]);
  },
);
