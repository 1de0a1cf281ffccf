import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { systemClock } from '../../src/clock.ts';
import type { KubeAnswer, KubeApi, KubeObject } from '../../src/kubernetes/kube-api.ts';
import { createKubeClient } from '../../src/kubernetes/kube-client.ts';
import { discoverKinds } from '../../src/kubernetes/kube-discovery.ts';
import { lacksControlPlane, startControlPlane } from '../support/control-plane.ts';
import { startKubeFaultProxy } from '../support/kube-fault-proxy.ts';

/** A server that answers these documents, and 404 to everything else; `asked` are the paths. */
function serverOf(documents: Readonly<Record<string, object>>): { readonly api: KubeApi; readonly asked: string[] } {
  const asked: string[] = [];
  const get = async (path: string): Promise<KubeAnswer<KubeObject>> => {
    asked.push(path);
    const found = documents[path];
    if (found) return { ok: true, value: { metadata: { name: '', uid: '' }, ...found } };
    return { ok: false, kind: 'server-error', status: 503, detail: `Cannot get ${path}: 503`, retryAfterMs: null };
  };
  return { api: { get } as Partial<KubeApi> as KubeApi, asked };
}

const SCALABLE = { resource: 'gpusets', responseKind: { kind: 'GpuSet' }, scope: 'Namespaced', verbs: ['get', 'list'] };

t.test('discoverKinds() on a real control plane', { skip: lacksControlPlane }, async (t) => {
  const plane = await startControlPlane(t);
  const proxy = await startKubeFaultProxy(t, plane);
  const made = await createKubeClient({
    clock: systemClock,
    kubeconfig: await plane.kubeconfigFor(plane.serviceToken, proxy),
  });
  if (!made.ok) throw new Error(made.detail);
  t.teardown(() => made.api.close());

  await t.test('finds workloads, their scope, verbs and scale, with the service’s own rights', async (t) => {
    const found = await discoverKinds(made.api, 5_000);
    if (!found.ok) throw new Error(found.detail);
    t.same(found.value.failing, []);
    const of = (group: string, resource: string): unknown =>
      found.value.kinds.find((kind) => kind.group === group && kind.resource === resource);
    t.match(of('', 'pods'), { version: 'v1', kind: 'Pod', namespaced: true, hasScale: false });
    t.match(of('', 'nodes'), { kind: 'Node', namespaced: false });
    t.match(of('', 'replicationcontrollers'), { hasScale: true });
    t.match(of('apps', 'deployments'), { version: 'v1', kind: 'Deployment', hasScale: true });
    t.match(of('apps', 'daemonsets'), { hasScale: false });
    // On 1.20 they are in batch/v1beta1 alone.
    t.match(of('batch', 'cronjobs'), { kind: 'CronJob', namespaced: true });
    t.equal(of('apps', 'deployments/scale'), undefined, 'subresources are no kinds');
    const keys = found.value.kinds.map(({ group, resource }) => `${group}/${resource}`);
    t.equal(new Set(keys).size, keys.length, 'each kind once');
  });

  await t.test('finds a made-up kind with a scale as soon as it is installed', async (t) => {
    await plane.must('POST', '/apis/apiextensions.k8s.io/v1/customresourcedefinitions', {
      metadata: { name: 'gpusets.test.example' },
      spec: {
        group: 'test.example',
        names: { plural: 'gpusets', singular: 'gpuset', kind: 'GpuSet', listKind: 'GpuSetList' },
        scope: 'Namespaced',
        versions: [
          {
            name: 'v1alpha1',
            served: true,
            storage: true,
            schema: { openAPIV3Schema: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true } },
            subresources: { scale: { specReplicasPath: '.spec.replicas', statusReplicasPath: '.status.replicas' } },
          },
        ],
      },
    });
    const untilMs = Date.now() + 20_000;
    for (;;) {
      const found = await discoverKinds(made.api, 5_000);
      const kind = found.ok && found.value.kinds.find((one) => one.resource === 'gpusets');
      if (kind) {
        t.match(kind, { group: 'test.example', version: 'v1alpha1', kind: 'GpuSet', hasScale: true });
        return;
      }
      if (Date.now() > untilMs) throw new Error('the made-up kind was never served');
      await sleep(100);
    }
  });

  await t.test('names a group whose server is down, and finds the others', async (t) => {
    // An APIService whose server is nowhere: as a broken metrics adapter.
    await plane.must('POST', '/apis/apiregistration.k8s.io/v1/apiservices', {
      metadata: { name: 'v1beta1.broken.example' },
      spec: {
        group: 'broken.example',
        version: 'v1beta1',
        groupPriorityMinimum: 100,
        versionPriority: 100,
        insecureSkipTLSVerify: true,
        service: { name: 'nowhere', namespace: 'default' },
      },
    });
    const untilMs = Date.now() + 20_000;
    for (;;) {
      const found = await discoverKinds(made.api, 5_000);
      if (found.ok && found.value.failing.length > 0) {
        t.equal(found.value.failing[0]?.groupVersion, 'broken.example/v1beta1');
        t.ok(found.value.kinds.some(({ resource }) => resource === 'deployments'));
        return;
      }
      // It is listed only once the aggregator has taken it in.
      if (Date.now() > untilMs) throw new Error('the broken group never showed');
      await sleep(100);
    }
  });

  await t.test('fails where the server itself does', async (t) => {
    proxy.setRule(({ path }) => (path === '/apis' ? { kind: 'answer', status: 503, body: 'no' } : null));
    t.match(await discoverKinds(made.api, 5_000), { ok: false, kind: 'server-error' });
  });
});

t.test('discoverKinds() takes a kind at the version that its server prefers', async (t) => {
  const gpuset = { name: 'gpusets', kind: 'GpuSet', namespaced: true, verbs: ['get'] };
  const { api } = serverOf({
    '/api': { kind: 'APIVersions', versions: ['v1'] },
    '/api/v1': { kind: 'APIResourceList', resources: [] },
    '/apis': {
      kind: 'APIGroupList',
      groups: [
        {
          name: 'test.example',
          versions: [{ version: 'v2' }, { version: 'v1' }],
          preferredVersion: { version: 'v1' },
        },
      ],
    },
    '/apis/test.example/v1': { kind: 'APIResourceList', resources: [gpuset] },
    '/apis/test.example/v2': { kind: 'APIResourceList', resources: [gpuset, { ...gpuset, name: 'onlynew' }] },
  });
  const found = await discoverKinds(api, 100);
  if (!found.ok) throw new Error(found.detail);
  t.same(
    found.value.kinds.map(({ resource, version }) => [resource, version]),
    [
      ['gpusets', 'v1'],
      ['onlynew', 'v2'],
    ],
  );
});

t.test('discoverKinds() names a failing version and keeps the rest', async (t) => {
  const { api } = serverOf({
    '/api': { kind: 'APIVersions', versions: ['v1'] },
    '/api/v1': {
      kind: 'APIResourceList',
      resources: [{ name: 'pods', kind: 'Pod', namespaced: true, verbs: ['list', 'delete'] }],
    },
    '/apis': {
      kind: 'APIGroupList',
      groups: [{ name: 'broken.example', versions: [{ version: 'v1' }], preferredVersion: { version: 'v1' } }],
    },
  });
  const found = await discoverKinds(api, 100);
  if (!found.ok) throw new Error(found.detail);
  t.same(found.value.failing, [
    { groupVersion: 'broken.example/v1', detail: 'Cannot get /apis/broken.example/v1: 503' },
  ]);
  t.same(found.value.kinds, [
    {
      group: '',
      version: 'v1',
      kind: 'Pod',
      resource: 'pods',
      namespaced: true,
      verbs: ['list', 'delete'],
      hasScale: false,
    },
  ]);
});

t.test('discoverKinds() reads aggregated discovery in two requests, and names stale groups', async (t) => {
  // As a server from 1.27 on answers; written after the API's description of APIGroupDiscoveryList.
  const { api, asked } = serverOf({
    '/api': {
      kind: 'APIGroupDiscoveryList',
      items: [
        {
          metadata: {},
          versions: [
            {
              version: 'v1',
              freshness: 'Current',
              resources: [{ resource: 'nodes', responseKind: { kind: 'Node' }, scope: 'Cluster', verbs: ['list'] }],
            },
          ],
        },
      ],
    },
    '/apis': {
      kind: 'APIGroupDiscoveryList',
      items: [
        {
          metadata: { name: 'test.example' },
          versions: [
            {
              version: 'v1',
              freshness: 'Current',
              resources: [{ ...SCALABLE, subresources: [{ subresource: 'status' }, { subresource: 'scale' }] }],
            },
            { version: 'v1alpha1', freshness: 'Current', resources: [SCALABLE] },
          ],
        },
        { metadata: { name: 'metrics.example' }, versions: [{ version: 'v1', freshness: 'Stale' }] },
      ],
    },
  });
  const found = await discoverKinds(api, 100);
  if (!found.ok) throw new Error(found.detail);
  t.same(found.value.kinds, [
    { group: '', version: 'v1', kind: 'Node', resource: 'nodes', namespaced: false, verbs: ['list'], hasScale: false },
    {
      group: 'test.example',
      version: 'v1',
      kind: 'GpuSet',
      resource: 'gpusets',
      namespaced: true,
      verbs: ['get', 'list'],
      hasScale: true,
    },
  ]);
  t.match(found.value.failing, [{ groupVersion: 'metrics.example/v1' }]);
  t.same(asked, ['/api', '/apis']);
});
