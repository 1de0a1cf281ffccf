import t from 'tap';
import { systemClock } from '../../src/clock.ts';
import { createAdmission, findArmable } from '../../src/kubernetes/admission.ts';
import type { KubeApi, KubeObject, KubeResource } from '../../src/kubernetes/kube-api.ts';
import { createKubeClient } from '../../src/kubernetes/kube-client.ts';
import { discoverKinds } from '../../src/kubernetes/kube-discovery.ts';
import { lacksControlPlane, startControlPlane } from '../support/control-plane.ts';
import { failureOf, objectStore } from '../support/object-store-api.ts';

t.setTimeout(240_000);

const GROUP = 'admissionregistration.k8s.io';
const kindOf = (resource: string, version = 'v1'): KubeResource => ({
  group: GROUP,
  version,
  kind: resource,
  resource,
  namespaced: false,
  verbs: ['get', 'patch'],
  hasScale: false,
});
const WEBHOOKS = kindOf('validatingwebhookconfigurations');
const BINDINGS = kindOf('validatingadmissionpolicybindings');
const WEBHOOK_PATH = `/apis/${GROUP}/v1/validatingwebhookconfigurations/vsf-estop`;
const BINDING_PATH = `/apis/${GROUP}/v1/validatingadmissionpolicybindings/vsf-estop`;

const DISARMED = { 'vsf-workload': 'true', 'vsf-estop-disarmed': 'never-set' };
const webhook = (matchLabels: Record<string, string> = DISARMED, more: object = {}): Partial<KubeObject> => ({
  webhooks: [{ name: 'estop.vsf.local', failurePolicy: 'Fail', objectSelector: { matchLabels }, ...more }],
});
const binding = (matchLabels: Record<string, string> = { 'vsf-estop-disarmed': 'never-set' }): Partial<KubeObject> => ({
  spec: { validationActions: ['Deny'], matchResources: { objectSelector: { matchLabels } } },
});

function installed(forms: { readonly webhook?: Partial<KubeObject>; readonly policy?: Partial<KubeObject> }) {
  const store = objectStore();
  if (forms.webhook) store.put(WEBHOOK_PATH, forms.webhook);
  if (forms.policy) store.put(BINDING_PATH, forms.policy);
  // The store knows merge patches alone; the webhook's is a JSON patch with a test and a replacement.
  const { patch } = store.api;
  const api: KubeApi = {
    ...store.api,
    patch: async (path, body, timeoutMs) => {
      if (!Array.isArray(body)) return patch(path, body, timeoutMs);
      const now = store.objects.get(path);
      const [first] = (now?.['webhooks'] ?? []) as readonly { readonly name: string }[];
      const [test, replace] = body;
      if (!now) return failureOf('not-found');
      if (first?.name !== test.value) return failureOf('refused', '422 test failed');
      return patch(path, { webhooks: [{ ...first, objectSelector: replace.value }] }, timeoutMs);
    },
  };
  return { store, admission: createAdmission({ api, kinds: () => [WEBHOOKS, BINDINGS], namespace: 'vsf-safety' }) };
}

t.test('findArmable() takes what discovery found, at its version, and both where it found nothing', async (t) => {
  const found = (kinds: readonly KubeResource[]) => findArmable(kinds).map(({ form, place }) => [form, place.version]);
  t.same(found([WEBHOOKS]), [['webhook', 'v1']]);
  t.same(found([kindOf('validatingwebhookconfigurations', 'v1beta1')]), [['webhook', 'v1beta1']]);
  t.same(found([WEBHOOKS, BINDINGS]), [
    ['webhook', 'v1'],
    ['policy', 'v1'],
  ]);
  t.same(found([]), [
    ['webhook', 'v1'],
    ['policy', 'v1'],
  ]);
});

t.test('Admission', async (t) => {
  t.test('arm() and disarm() change the selectors of both, and nothing else', async (t) => {
    const { store, admission } = installed({ webhook: webhook(), policy: binding() });
    t.same(await admission.readArmed(1_000), { kind: 'disarmed' });
    t.same(await admission.arm(1_000), { kind: 'armed' });
    t.match(store.objects.get(WEBHOOK_PATH)?.['webhooks'], [
      { objectSelector: { matchLabels: { 'vsf-workload': 'true' } } },
    ]);
    t.same(store.objects.get(BINDING_PATH)?.spec?.['matchResources'], { objectSelector: { matchLabels: {} } });
    t.same(await admission.readArmed(1_000), { kind: 'armed' });
    t.same(await admission.disarm(1_000), { kind: 'disarmed' });
    t.match(store.objects.get(WEBHOOK_PATH), webhook());
    t.match(store.objects.get(BINDING_PATH), binding());
  });

  t.test('is absent where neither is installed, and armed where the one that is there is', async (t) => {
    t.same(await installed({}).admission.arm(1_000), { kind: 'absent' });
    t.same(await installed({ webhook: webhook() }).admission.arm(1_000), { kind: 'armed' });
    t.same(await installed({ policy: binding() }).admission.arm(1_000), { kind: 'armed' });
  });

  t.test('armed by half is not armed, and a missing right is no absence', async (t) => {
    const half = installed({ webhook: webhook({ 'vsf-workload': 'true' }), policy: binding() });
    t.same(await half.admission.readArmed(1_000), { kind: 'disarmed' });
    half.store.before = ({ path }) => (path === BINDING_PATH ? failureOf('forbidden', '403 patch') : undefined);
    t.same(await half.admission.arm(1_000), { kind: 'failed', detail: '403 patch' });
  });

  t.test('a rule that would not deny is no armed rule, whatever its selector says', async (t) => {
    const armed = { 'vsf-workload': 'true' };
    const cases: [string, Partial<KubeObject>, RegExp][] = [
      ['ignores failures', webhook(armed, { failurePolicy: 'Ignore' }), /failurePolicy Ignore, must be Fail/],
      ['another name', webhook(armed, { name: 'other' }), /no webhook estop/],
      ['another label', webhook({ ...armed, team: 'a' }), /only objects with team=a/],
      ['another value', webhook({ 'vsf-workload': 'false' }), /only objects with vsf-workload=false/],
      ['some namespaces', webhook(armed, { namespaceSelector: { matchLabels: { a: 'b' } } }), /some namespaces only/],
      [
        'expressions',
        webhook(armed, { objectSelector: { matchExpressions: [{ key: 'a', operator: 'Exists' }] } }),
        /expressions/,
      ],
    ];
    for (const [name, object, detail] of cases) {
      t.match(await installed({ webhook: object }).admission.readArmed(1_000), { kind: 'failed', detail }, name);
    }
    const audit = { spec: { validationActions: ['Audit'], matchResources: {} } };
    t.match(await installed({ policy: audit }).admission.readArmed(1_000), {
      kind: 'failed',
      detail: /must have Deny/,
    });
  });

  t.test('tryOut() tells our rule’s refusal from a missing right and from somebody else’s', async (t) => {
    const { store, admission } = installed({});
    const refuse = async (detail: string) => {
      store.before = () => failureOf('forbidden', detail);
      return (await admission.tryOut(1_000)).kind;
    };
    t.equal(await refuse('500 failed calling webhook "estop.vsf.local": Post "https://127.0.0.1:9/"'), 'denied');
    t.equal(
      await refuse("403 ValidatingAdmissionPolicy 'vsf-estop' with binding 'vsf-estop' denied request"),
      'denied',
    );
    t.equal(await refuse('403 pods is forbidden: User "x" cannot create resource "pods"'), 'unknown');
    t.equal(await refuse('403 exceeded quota: pods'), 'unknown');
    store.before = () => undefined;
    t.equal((await admission.tryOut(1_000)).kind, 'admitted');
  });
});

t.test('Admission on a real API server, with the rights of the chart', { skip: lacksControlPlane }, async (t) => {
  const plane = await startControlPlane(t);
  const kubeconfig = await plane.kubeconfigFor(plane.serviceToken);
  const client = await createKubeClient({ clock: systemClock, kubeconfig });
  if (!client.ok) throw new Error(client.detail);
  t.teardown(() => client.api.close());
  const discovered = await discoverKinds(client.api, 5_000);
  if (!discovered.ok) throw new Error(discovered.detail);
  const { kinds } = discovered.value;
  const { api } = client;
  const admission = createAdmission({ api, kinds: () => kinds, namespace: plane.namespace });
  const pods = '/api/v1/namespaces/default/pods';
  const podOf = (name: string, labels: object) => ({
    metadata: { name, labels },
    spec: { containers: [{ name: 'c', image: 'i' }] },
  });

  t.same(await admission.arm(5_000), { kind: 'absent' }, 'nothing is installed');
  t.same(await admission.tryOut(5_000), { kind: 'admitted' });
  const unserved = await plane.apply('helm/admission/estop-policy.yaml');
  await plane.apply('helm/admission/estop.yaml');
  t.equal(findArmable(kinds).length, unserved.length > 0 ? 1 : 2, 'the policy where it is served');
  t.same(await admission.readArmed(5_000), { kind: 'disarmed' });
  t.equal((await plane.ask('POST', pods, podOf('before', { 'vsf-workload': 'true' }))).status, 201);

  const startedMs = systemClock.now().elapsedMs;
  t.same(await admission.arm(5_000), { kind: 'armed' });
  let refusedAfterMs = 0;
  for (let tries = 0; tries < 40; tries += 1) {
    const dryRun = await plane.ask('POST', `${pods}?dryRun=All`, podOf('trial', { 'vsf-workload': 'true' }));
    refusedAfterMs = systemClock.now().elapsedMs - startedMs;
    if (dryRun.status !== 201) break;
    await systemClock.sleep(50);
  }
  t.comment(`a labelled pod was refused ${Math.round(refusedAfterMs)} ms after the order to arm`);
  t.ok(refusedAfterMs < 2_000);
  t.same(await admission.tryOut(5_000), { kind: 'denied' });
  t.not((await plane.ask('POST', pods, podOf('during', { 'vsf-workload': 'true' }))).status, 201);
  t.equal((await plane.ask('POST', pods, podOf('neighbour', {}))).status, 201, 'others start as ever');
  t.equal((await plane.ask('POST', pods, podOf('false', { 'vsf-workload': 'false' }))).status, 201);
  t.same(await admission.arm(5_000), { kind: 'armed' }, 'arming again changes nothing');

  t.same(await admission.disarm(5_000), { kind: 'disarmed' });
  await systemClock.sleep(1_000);
  t.equal((await plane.ask('POST', pods, podOf('after', { 'vsf-workload': 'true' }))).status, 201);
});
