import t from 'tap';
import { systemClock } from '../../src/clock.ts';
import { createExporterFinder, type ExporterPods } from '../../src/kubernetes/exporter-finder.ts';
import type { KubeAnswer, KubeApi, KubeList, KubeObject, ListQuery } from '../../src/kubernetes/kube-api.ts';
import { createKubeClient } from '../../src/kubernetes/kube-client.ts';
import { Discovery } from '../../src/sources/discovery.ts';
import type { Found } from '../../src/sources/targets.ts';
import { lacksControlPlane, startControlPlane } from '../support/control-plane.ts';
import { ManualClock } from '../support/manual-clock.ts';

const NODE_EXPORTER: ExporterPods = {
  selector: 'app=node-exporter',
  namespace: null,
  port: 9100,
  path: '/metrics',
  scheme: 'http',
};
const DCGM: ExporterPods = { selector: 'app=dcgm', namespace: 'gpu-operator', port: 9400, path: '/m', scheme: 'https' };

type Part = Readonly<Record<string, unknown>>;

const node = (
  name: string,
  parts: { spec?: Part; status?: Part; labels?: Record<string, string> } = {},
): KubeObject => ({
  metadata: { name, uid: name, ...(parts.labels && { labels: parts.labels }) },
  spec: parts.spec ?? {},
  status: parts.status ?? {},
});
const pod = (name: string, nodeName: string | undefined, status: Part, leaving = false): KubeObject => ({
  metadata: { name, namespace: 'mon', uid: name, ...(leaving && { deletionTimestamp: '2026-01-01T00:00:00Z' }) },
  spec: nodeName === undefined ? {} : { nodeName },
  status,
});
const running = (name: string, nodeName: string, podIP: string): KubeObject =>
  pod(name, nodeName, { phase: 'Running', podIP });
const KEPT_FREE = { taints: [{ key: 'node-role.kubernetes.io/control-plane', effect: 'NoSchedule' }] };

/** Lists by path and selector; a path that is not there is refused. */
function startFinder(lists: Readonly<Record<string, readonly KubeObject[]>>, exporters: readonly ExporterPods[]) {
  const clock = new ManualClock();
  const asked: [key: string, timeoutMs: number][] = [];
  const api = {
    async list(path: string, { labelSelector }: ListQuery, timeoutMs: number): Promise<KubeAnswer<KubeList>> {
      const key = labelSelector === undefined ? path : `${path}?${labelSelector}`;
      asked.push([key, timeoutMs]);
      const items = lists[key];
      if (items) return { ok: true, value: { items, resourceVersion: '1' } };
      return { ok: false, kind: 'forbidden', status: 403, detail: `Cannot list ${key}: 403`, retryAfterMs: null };
    },
  } as unknown as KubeApi;
  const finder = createExporterFinder({ api, clock, exporters });
  return { clock, asked, finder, find: () => finder.find(clock.now().elapsedMs + 5_000) };
}
const taken = (found: Found): Extract<Found, { ok: true }> => {
  if (!found.ok) throw new Error(found.detail);
  return found;
};
const urlsOf = (found: Found): string[] => taken(found).targets.map((target) => `${target.node} ${target.url}`);

t.test(
  'lookAtNodes() lists the nodes alone, and keeps what is known where it cannot or where they are many',
  async (t) => {
    const ready = (status: string, count = 1): KubeObject[] =>
      Array.from({ length: count }, (_, i) =>
        node(i === 0 ? 'n1' : `n${i + 1}`, { status: { conditions: [{ type: 'Ready', status }] } }),
      );
    const lists: Record<string, readonly KubeObject[]> = {
      '/api/v1/nodes': ready('True'),
      '/api/v1/pods?app=node-exporter': [],
    };
    const { finder, find, asked } = startFinder(lists, [NODE_EXPORTER]);
    await find();
    t.equal(finder.node('N1')?.isReady, true);
    lists['/api/v1/nodes'] = ready('False');
    await finder.lookAtNodes(2_500);
    t.same(asked.at(-1), ['/api/v1/nodes', 2_500]);
    t.equal(finder.node('n1')?.isReady, false);
    delete lists['/api/v1/nodes'];
    await finder.lookAtNodes(2_500);
    t.equal(finder.node('n1')?.isReady, false);
    lists['/api/v1/nodes'] = ready('True', 201);
    await find();
    asked.length = 0;
    await finder.lookAtNodes(2_500);
    t.same(asked, []);
  },
);

t.test('createExporterFinder() makes a target of every running pod, on the node where it was put', async (t) => {
  const { find, asked } = startFinder(
    {
      '/api/v1/nodes': [node('a'), node('b')],
      '/api/v1/pods?app=node-exporter': [running('ne-a', 'a', '10.0.0.1'), running('ne-b', 'b', 'fd00::2')],
      '/api/v1/namespaces/gpu-operator/pods?app=dcgm': [running('d-a', 'a', '10.1.0.1')],
    },
    [NODE_EXPORTER, DCGM],
  );
  const found = await find();
  t.same(urlsOf(found), [
    'a http://10.0.0.1:9100/metrics',
    'b http://[fd00::2]:9100/metrics',
    'a https://10.1.0.1:9400/m',
  ]);
  t.same(taken(found).nodes, ['a', 'b']);
  t.same(taken(found).problems, []);
  t.ok(taken(found).targets.every(({ origin }) => origin === 'kubernetes'));
  t.equal(asked.length, 3);
  t.ok(
    asked.every(([, timeoutMs]) => timeoutMs === 4_900),
    'and has the reason before the caller gives up',
  );
});

t.test('createExporterFinder() asks a pod that is not ready, and says which are not asked', async (t) => {
  const notReady = { phase: 'Running', podIP: '10.0.0.1', conditions: [{ type: 'Ready', status: 'False' }] };
  const { find } = startFinder(
    {
      '/api/v1/nodes': ['a', 'b', 'c', 'd', 'e'].map((name) => node(name)),
      '/api/v1/pods?app=node-exporter': [
        pod('not-ready', 'a', notReady),
        pod('starting', 'b', { phase: 'Pending' }),
        pod('ended', 'c', { phase: 'Failed', podIP: '10.0.0.3' }),
        pod('no-address', 'd', { phase: 'Running' }),
        pod('nowhere', undefined, { phase: 'Pending' }),
        pod('broken', 'd', { phase: 'Running', podIP: 'not an address' }),
        pod('leaving', 'e', { phase: 'Running', podIP: '10.0.0.5' }, true),
      ],
    },
    [NODE_EXPORTER],
  );
  const found = await find();
  t.same(urlsOf(found), ['a http://10.0.0.1:9100/metrics']);
  t.same(taken(found).nodes, ['a', 'b', 'c', 'd', 'e'], 'their nodes are watched all the same');
  const told = taken(found).problems.join('\n');
  for (const name of ['starting', 'ended', 'no-address', 'nowhere', 'broken'])
    t.match(told, new RegExp(`mon/${name}"`));
  t.notMatch(told, /leaving/, 'a rollout is no trouble');
});

t.test(
  'createExporterFinder() watches every node where a workload could be put, that has GPUs, or an exporter',
  async (t) => {
    const gpu = { capacity: { 'nvidia.com/gpu': '4' } };
    const { find, finder } = startFinder(
      {
        '/api/v1/nodes': [
          node('plain'),
          node('control', { spec: KEPT_FREE }),
          node('control-with-exporter', { spec: KEPT_FREE }),
          node('gpu-kept-free', { spec: KEPT_FREE, status: gpu }),
          node('cordoned', { spec: { unschedulable: true } }),
          node('cordoned-gpu', { spec: { unschedulable: true }, labels: { 'nvidia.com/gpu.present': 'true' } }),
        ],
        '/api/v1/pods?app=node-exporter': [running('ne', 'control-with-exporter', '10.0.0.1')],
      },
      [NODE_EXPORTER],
    );
    t.equal(finder.node('plain'), null, 'nothing is known before the first list');
    const found = await find();
    t.same(taken(found).nodes, ['plain', 'control-with-exporter', 'gpu-kept-free', 'cordoned-gpu']);
    t.match(taken(found).problems, [/without a pod that matches .*"plain", "gpu-kept-free", "cordoned-gpu"/]);
    t.match(finder.node('GPU-Kept-Free'), { name: 'gpu-kept-free', gpuSign: 'capacity nvidia.com/gpu=4' });
    t.ok(finder.node('control'), 'also of nodes that are not watched');
  },
);

t.test('createExporterFinder() fails as a whole when one list fails', async (t) => {
  const lists = { '/api/v1/nodes': [node('a')], '/api/v1/pods?app=node-exporter': [running('ne', 'a', '10.0.0.1')] };
  const one = startFinder(lists, [NODE_EXPORTER, DCGM]);
  t.match(await one.find(), { ok: false, detail: /gpu-operator.*403/ });
  const other = startFinder({ '/api/v1/pods?app=node-exporter': [] }, [NODE_EXPORTER]);
  t.match(await other.find(), { ok: false, detail: /nodes: 403/ });
  const late = startFinder(lists, [NODE_EXPORTER]);
  t.match(await late.finder.find(late.clock.now().elapsedMs + 100), { ok: false, detail: /no time left/ });
  t.equal(late.asked.length, 0);
});

// Starting one takes a while where other tests run beside it.
t.setTimeout(240_000);
t.test(
  'createExporterFinder() on a real control plane, behind discovery',
  { timeout: 240_000, skip: lacksControlPlane },
  async (t) => {
    const plane = await startControlPlane(t);
    const client = await createKubeClient({
      clock: systemClock,
      kubeconfig: await plane.kubeconfigFor(plane.serviceToken),
    });
    if (!client.ok) throw new Error(client.detail);
    t.teardown(() => client.api.close());
    await plane.addNode('gpu-1');
    await plane.addNode('cpu-1');
    await plane.addNode('control-1');
    await plane.must('PATCH', '/api/v1/nodes/control-1', { spec: KEPT_FREE });
    await plane.must('PATCH', '/api/v1/nodes/gpu-1', { metadata: { labels: { 'nvidia.com/gpu.count': '4' } } });
    const bootID = '4f1c2d3e-0000-4000-8000-000000000001';
    const status = { capacity: { 'nvidia.com/gpu': '40' }, nodeInfo: { bootID } };
    await plane.must('PATCH', '/api/v1/nodes/gpu-1/status', { status });
    const addPod = async (name: string, labels: object, nodeName: string, podIP: string | null): Promise<void> => {
      const spec = { nodeName, containers: [{ name: 'c', image: 'none' }] };
      await plane.must('POST', '/api/v1/namespaces/default/pods', { metadata: { name, labels }, spec });
      if (podIP === null) return;
      const running = { phase: 'Running', podIP, podIPs: [{ ip: podIP }] };
      await plane.must('PATCH', `/api/v1/namespaces/default/pods/${name}/status`, { status: running });
    };
    await addPod('ne-gpu-1', { app: 'node-exporter' }, 'gpu-1', '10.0.0.1');
    await addPod('ne-cpu-1', { app: 'node-exporter' }, 'cpu-1', null);
    await addPod('other', { app: 'other' }, 'cpu-1', '10.0.0.9');

    const finder = createExporterFinder({ api: client.api, clock: systemClock, exporters: [NODE_EXPORTER] });
    const discovery = new Discovery({
      clock: systemClock,
      settings: { nodes: [], allow: ['10.0.0.0/8'], files: [], http: [], nodeLabel: 'node', refreshMs: 1 },
      get: async () => {
        throw new Error('nothing is got over HTTP here');
      },
      credentials: null,
      kubernetes: finder,
      isNodeName: () => true,
    });
    t.same(discovery.current().unread, ['kubernetes']);
    await discovery.refresh();
    const { targets, nodes, problems, unread } = discovery.current();
    t.same(targets, [{ node: 'gpu-1', url: 'http://10.0.0.1:9100/metrics', origin: 'kubernetes' }]);
    t.same([...nodes].sort(), ['cpu-1', 'gpu-1'], 'the control plane alone is not for workloads');
    t.match(problems, [{ origin: 'kubernetes', detail: /default\/ne-cpu-1/ }]);
    t.same(unread, []);
    t.match(finder.node('gpu-1'), {
      isReady: true,
      gpuCount: 4,
      gpuSign: 'capacity nvidia.com/gpu=40',
      bootId: bootID,
    });
    await plane.setNodeReady('gpu-1', false);
    await plane.apiserver.stop();
    await discovery.refresh();
    t.same(discovery.current().targets, targets, 'silence is no news');
    t.match(discovery.current().problems[0]?.detail, /cannot be reached.*its last list of 1 targets stays/);
    t.equal(finder.node('gpu-1')?.isReady, true, 'as last listed');
  },
);
