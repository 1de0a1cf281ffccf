import t from 'tap';
import { type ClusterNode, clusterNodeOf, createNodeObjectSource } from '../../src/kubernetes/cluster-node.ts';
import type { KubeObject } from '../../src/kubernetes/kube-api.ts';
import { ManualClock } from '../support/manual-clock.ts';

type Labels = Readonly<Record<string, string>>;
type Part = Readonly<Record<string, unknown>>;

const read = (status: Part, labels: Labels = {}, spec: Part = {}): ClusterNode =>
  clusterNodeOf({ metadata: { name: 'gpu-1', uid: 'u', labels }, spec, status } as KubeObject);

t.test('clusterNodeOf() takes the condition and the boot as they are told', async (t) => {
  const of = (conditions: unknown, bootID: unknown): ClusterNode => read({ conditions, nodeInfo: { bootID } });
  const boot = '4f1c2d3e-0000-4000-8000-000000000001';
  t.match(of([{ type: 'Ready', status: 'True' }], boot), { name: 'gpu-1', isReady: true, bootId: boot });
  for (const status of ['False', 'Unknown', 'true'])
    t.equal(of([{ type: 'Ready', status }], boot).isReady, false, status);
  t.match(of([{ type: 'DiskPressure', status: 'True' }], ''), { isReady: false, bootId: null });
  t.match(read({}), { isReady: false, bootId: null, gpuSign: null, gpuCount: null, takesPods: true });
});

t.test('clusterNodeOf() takes capacity for a sign of a GPU, and never for a number', async (t) => {
  for (const resource of [
    'nvidia.com/gpu',
    'nvidia.com/gpu.shared',
    'nvidia.com/mig-1g.5gb',
    'amd.com/gpu',
    'gpu.intel.com/i915',
    'gpu.intel.com/xe',
  ]) {
    t.match(read({ capacity: { cpu: '8', [resource]: '40' } }), {
      gpuSign: `capacity ${resource}=40`,
      gpuCount: null,
    });
    t.equal(read({ capacity: { [resource]: '0' } }).gpuSign, null, 'a plugin that found none');
  }
  for (const resource of ['cpu', 'memory', 'nvidia.com/pgpu-license', 'example.com/gpu', 'hugepages-2Mi']) {
    t.equal(read({ capacity: { [resource]: '4' } }).gpuSign, null, resource);
  }
});

t.test('clusterNodeOf() takes the number of cards from the label, unless that counts slices', async (t) => {
  const count = (value: string, product = 'NVIDIA-A100-SXM4-40GB'): ClusterNode =>
    read({}, { 'nvidia.com/gpu.count': value, 'nvidia.com/gpu.product': product });
  t.match(count('4'), { gpuCount: 4, gpuSign: 'label nvidia.com/gpu.count=4' });
  t.equal(count('64').gpuCount, 64);
  for (const value of ['65', '0', '-1', '', '4x', '4.0', '1e1', '100']) t.equal(count(value).gpuCount, null, value);
  t.equal(count('56', 'A100-SXM4-40GB-MIG-1g.5gb').gpuCount, null, 'MIG "single" counts slices');
  t.equal(count('4', 'Tesla-T4-SHARED').gpuCount, 4, 'time-slicing leaves it alone');
  t.match(read({}, { 'nvidia.com/gpu.present': 'true' }), {
    gpuCount: null,
    gpuSign: 'label nvidia.com/gpu.present=true',
  });
  t.equal(read({}, { 'nvidia.com/gpu.present': 'false' }).gpuSign, null);
});

t.test('clusterNodeOf() tells a node for ordinary pods from one that is kept free', async (t) => {
  const taints = (...list: [key: string, effect: string][]): boolean =>
    read({}, {}, { taints: list.map(([key, effect]) => ({ key, effect })) }).takesPods;
  t.equal(taints(), true);
  t.equal(taints(['node-role.kubernetes.io/control-plane', 'NoSchedule']), false);
  t.equal(taints(['dedicated', 'NoExecute']), false);
  t.equal(taints(['dedicated', 'PreferNoSchedule']), true, 'a wish');
  t.equal(taints(['node.kubernetes.io/unreachable', 'NoExecute']), true, 'passes');
  t.equal(read({}, {}, { unschedulable: true }).takesPods, false, 'cordoned');
});

t.test(
  'createNodeObjectSource() reports a sign of a GPU, and fails where the cluster lists no such node',
  async (t) => {
    const clock = new ManualClock();
    let found: ClusterNode | null = null;
    const source = createNodeObjectSource({ node: 'GPU-1', clock, lookUp: () => found });
    t.match(source, { id: 'kubernetes', node: 'GPU-1', carriesHeat: false });
    const deadlineMs = clock.now().elapsedMs + 1_000;
    t.match(await source.read(deadlineMs), { outcome: { kind: 'failed', cause: 'empty' }, gpuSigns: [] });
    found = read({ capacity: { 'nvidia.com/gpu': '4' } }, { 'nvidia.com/gpu.count': '2' });
    const report = await source.read(deadlineMs);
    t.match(report, {
      source: 'kubernetes',
      node: 'GPU-1',
      outcome: { kind: 'answered' },
      readings: [],
      gpuSigns: [{ kind: 'node-capacity', detail: /gpu-1 has capacity nvidia\.com\/gpu=4/ }],
      notes: [/not Ready .* 2 GPUs/],
    });
    found = read({});
    t.same((await source.read(deadlineMs)).gpuSigns, []);
    await source.close();
  },
);
