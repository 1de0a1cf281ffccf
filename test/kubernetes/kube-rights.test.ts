import t from 'tap';
import { systemClock } from '../../src/clock.ts';
import type { KubeApi } from '../../src/kubernetes/kube-api.ts';
import { createKubeClient } from '../../src/kubernetes/kube-client.ts';
import { type Right, reviewRights, wordsOf } from '../../src/kubernetes/kube-rights.ts';
import { lacksControlPlane, startControlPlane } from '../support/control-plane.ts';
import { startKubeFaultProxy } from '../support/kube-fault-proxy.ts';

const ADMISSION = 'admissionregistration.k8s.io';
const pods = (verb: string, namespace?: string): Right => ({
  verb,
  group: '',
  resource: 'pods',
  ...(namespace !== undefined && { namespace }),
});
const scale = (verb: string, resource: string, group = 'apps'): Right => ({
  verb,
  group,
  resource,
  subresource: 'scale',
});
const whole = (verb: string, group: string, resource: string): Right => ({ verb, group, resource });
const armable = (verb: string, resource: string, name: string): Right => ({ verb, group: ADMISSION, resource, name });
const own = (verb: string, group: string, resource: string, name?: string): Right => ({
  verb,
  group,
  resource,
  namespace: 'vsf-safety',
  ...(name !== undefined && { name }),
});

/** Every right that the emergency stop and what surrounds it use. */
const NEEDED: readonly Right[] = [
  ...['get', 'list', 'delete'].map((verb) => pods(verb)),
  whole('list', '', 'nodes'),
  ...['deployments', 'replicasets', 'statefulsets'].flatMap((kind) => [
    whole('get', 'apps', kind),
    whole('list', 'apps', kind),
    scale('get', kind),
    scale('patch', kind),
  ]),
  whole('get', '', 'replicationcontrollers'),
  whole('list', '', 'replicationcontrollers'),
  scale('get', 'replicationcontrollers', ''),
  scale('patch', 'replicationcontrollers', ''),
  ...['get', 'list', 'patch'].flatMap((verb) => [
    whole(verb, 'apps', 'daemonsets'),
    whole(verb, 'batch', 'jobs'),
    whole(verb, 'batch', 'cronjobs'),
  ]),
  whole('list', 'autoscaling', 'horizontalpodautoscalers'),
  ...['get', 'patch'].flatMap((verb) => [
    armable(verb, 'validatingwebhookconfigurations', 'vsf-estop'),
    armable(verb, 'validatingadmissionpolicybindings', 'vsf-estop'),
  ]),
  own('create', '', 'events'),
  own('create', '', 'configmaps'),
  ...['get', 'update'].flatMap((verb) => [
    own(verb, '', 'configmaps', 'vsf-estop'),
    own(verb, '', 'configmaps', 'vsf-estop-restore'),
    own(verb, '', 'configmaps', 'vsf-leases'),
    own(verb, 'coordination.k8s.io', 'leases', 'vsf-safety'),
  ]),
  own('create', 'coordination.k8s.io', 'leases'),
  own('create', '', 'pods'),
  whole('create', 'authentication.k8s.io', 'tokenreviews'),
  whole('create', 'authorization.k8s.io', 'subjectaccessreviews'),
];

/** What the service may never do, whoever asks for it. */
const NEVER: readonly Right[] = [
  pods('deletecollection'),
  pods('watch'),
  whole('watch', '', 'nodes'),
  whole('get', '', 'nodes'),
  { ...own('create', '', 'events'), namespace: 'default' },
  own('patch', '', 'configmaps', 'vsf-estop'),
  pods('create', 'default'),
  { ...pods('create'), subresource: 'eviction' },
  { ...pods('create'), subresource: 'exec' },
  whole('get', '', 'secrets'),
  whole('patch', 'apps', 'deployments'),
  whole('delete', 'apps', 'deployments'),
  whole('delete', 'batch', 'jobs'),
  whole('patch', '', 'nodes'),
  armable('patch', 'validatingwebhookconfigurations', 'somebody-elses'),
  whole('create', ADMISSION, 'validatingwebhookconfigurations'),
  own('get', '', 'configmaps', 'somebody-elses'),
  { ...own('get', '', 'configmaps', 'vsf-estop'), namespace: 'default' },
  whole('delete', '', 'namespaces'),
];

t.test('reviewRights() on a real control plane', { skip: lacksControlPlane }, async (t) => {
  const plane = await startControlPlane(t);
  const proxy = await startKubeFaultProxy(t, plane);
  const clientFor = async (token: string): Promise<KubeApi> => {
    const made = await createKubeClient({ clock: systemClock, kubeconfig: await plane.kubeconfigFor(token, proxy) });
    if (!made.ok) throw new Error(made.detail);
    t.teardown(() => made.api.close());
    return made.api;
  };
  const service = await clientFor(plane.serviceToken);

  await t.test('misses nothing of what the service needs under the rights that ship', async (t) => {
    t.same(await reviewRights(service, NEEDED, 10_000), { missing: [], unknown: [] });
  });

  await t.test('misses everything that the service must never be able to do', async (t) => {
    const { missing, unknown } = await reviewRights(service, NEVER, 10_000);
    t.same(unknown, []);
    t.same(missing.map(wordsOf), NEVER.map(wordsOf));
  });

  await t.test('tells a stranger each right that it lacks, in the order asked', async (t) => {
    const stranger = await clientFor(plane.strangerToken);
    const { missing } = await reviewRights(stranger, NEEDED, 10_000);
    t.same(missing, NEEDED);
  });

  await t.test('tells a right that could not be asked apart from one that is refused', async (t) => {
    proxy.setRule(({ body }) => (body.includes('"nodes"') ? { kind: 'answer', status: 500, body: 'no' } : null));
    const asked = [whole('list', '', 'nodes'), whole('list', '', 'secrets'), pods('list')];
    const { missing, unknown } = await reviewRights(service, asked, 10_000);
    t.same(missing, [asked[1]]);
    t.match(unknown, [{ right: asked[0], detail: /500/ }]);
    t.equal(unknown.length, 1);
  });

  await t.test('does not take a review without an answer for a yes', async (t) => {
    proxy.setRule(() => ({
      kind: 'answer',
      status: 201,
      body: { kind: 'SelfSubjectAccessReview', apiVersion: 'authorization.k8s.io/v1', metadata: {}, status: {} },
    }));
    const { missing, unknown } = await reviewRights(service, [pods('list')], 10_000);
    t.same(missing, []);
    t.match(unknown, [{ right: pods('list'), detail: /does not say/ }]);
  });
});

t.test('wordsOf() names verb, kind, subresource, name and namespace', async (t) => {
  t.equal(wordsOf({ ...scale('patch', 'deployments'), namespace: 'gpu' }), 'patch deployments.apps/scale in gpu');
  t.equal(wordsOf(pods('list')), 'list pods');
  t.equal(wordsOf(own('update', '', 'configmaps', 'vsf-estop')), 'update configmaps "vsf-estop" in vsf-safety');
});
