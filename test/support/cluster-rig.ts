// A real control plane with nodes that answer, workloads on it, and the real service in front of it: what the tests of a
// cluster's stop begin with. The service has exactly the rights that the chart ships and reads a simulated rig, whose node
// has the name of the cluster's.
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import { lacksHelm, renderChart } from './chart.ts';
import { type AnyObject, type ControlPlane, lacksControlPlane, startControlPlane } from './control-plane.ts';
import { type FakeKubelet, startFakeKubelet } from './fake-kubelet.ts';
import { freshFolder, type RealService, type ServiceOptions, startService } from './real-service.ts';

/** The simulated rig's node, and the cluster's. */
export const NODE = hostname().toLowerCase();
export const MARK = { 'vsf-workload': 'true' };
export const IN_GPU = '/api/v1/namespaces/gpu';

const PATHS = {
  Deployment: '/apis/apps/v1/namespaces/gpu/deployments',
  StatefulSet: '/apis/apps/v1/namespaces/gpu/statefulsets',
  DaemonSet: '/apis/apps/v1/namespaces/gpu/daemonsets',
  Job: '/apis/batch/v1/namespaces/gpu/jobs',
  CronJob: '/apis/batch/v1beta1/namespaces/gpu/cronjobs',
  HorizontalPodAutoscaler: '/apis/autoscaling/v1/namespaces/gpu/horizontalpodautoscalers',
  Pod: `${IN_GPU}/pods`,
} as const;
export type OwnerName = keyof typeof PATHS;

/** A template of pods that carry `labels`. */
export const template = (labels: object, change: object = {}): object => ({
  metadata: { labels },
  spec: { containers: [{ name: 'load', image: 'example.invalid/load:1' }], ...change },
});

/** A Deployment of marked pods. */
export const deployment = (name: string, replicas: number, labels: object = MARK): object => ({
  spec: {
    replicas,
    selector: { matchLabels: { app: name } },
    template: template({ app: name, ...labels }),
  },
});

export class ClusterRig {
  readonly plane: ControlPlane;
  readonly kubelet: FakeKubelet;
  readonly #t: Test;

  constructor(t: Test, plane: ControlPlane, kubelet: FakeKubelet) {
    this.#t = t;
    this.plane = plane;
    this.kubelet = kubelet;
  }

  /** The service, as `options` change it; `settings` are further lines of its configuration. */
  async serve(
    options: ServiceOptions & { readonly kubeconfig?: string; readonly settings?: string } = {},
  ): Promise<RealService> {
    const { kubeconfig = await this.plane.kubeconfigFor(this.plane.serviceToken), settings = '', ...rest } = options;
    const config = [
      'source: simulated',
      'simulated: { actOnRealWorkloads: true }',
      'interval: 1s',
      `kubernetes: { enabled: true, kubeconfig: ${kubeconfig} }`,
      settings,
    ].join('\n');
    return startService(this.#t, { args: [], config, ...rest });
  }

  create(kind: OwnerName, name: string, body: object): Promise<AnyObject> {
    const { metadata = {} } = body as { metadata?: object };
    return this.plane.must('POST', PATHS[kind], { ...body, metadata: { name, ...metadata } });
  }

  async list(kind: OwnerName): Promise<AnyObject[]> {
    return (await this.plane.must('GET', PATHS[kind])).items;
  }

  read(kind: OwnerName, name: string): Promise<AnyObject> {
    return this.plane.must('GET', `${PATHS[kind]}/${name}`);
  }

  async pods(label = ''): Promise<AnyObject[]> {
    const query = label === '' ? '' : `?labelSelector=${encodeURIComponent(label)}`;
    return (await this.plane.must('GET', `${PATHS.Pod}${query}`)).items;
  }

  marked = (): Promise<AnyObject[]> => this.pods('vsf-workload=true');

  /** `data` of a ConfigMap in the service's namespace; `{}` where there is none. */
  async configMap(name: string): Promise<Record<string, string>> {
    const { status, body } = await this.plane.ask(
      'GET',
      `/api/v1/namespaces/${this.plane.namespace}/configmaps/${name}`,
    );
    return status === 200 ? (body.data ?? {}) : {};
  }

  /** How long it took, in ms; asked again every `everyMs`. */
  async until(what: string, ms: number, holds: () => Promise<boolean>, everyMs = 100): Promise<number> {
    const startedAt = Date.now();
    while (!(await holds())) {
      if (Date.now() - startedAt > ms) throw new Error(`Not within ${ms} ms: ${what}`);
      await sleep(everyMs);
    }
    return Date.now() - startedAt;
  }

  async untilRunning(count: number, ms = 120_000): Promise<void> {
    const run = async (): Promise<boolean> => {
      const pods = await this.pods();
      return pods.length === count && pods.every((pod) => pod.status.phase === 'Running');
    };
    // A list of thousands keeps a small server busy.
    await this.until(`${count} pods run`, ms, run, Math.max(100, count));
  }
}

/** Why a test that needs a rig is skipped; `false` where all of it is there. */
export const lacksCluster: string | false = lacksControlPlane || lacksHelm;

/** Ready to be served: what the chart installs, but for the service's own pod, and the namespace of the workloads. */
export async function startClusterRig(t: Test, nodes: readonly string[] = [NODE]): Promise<ClusterRig> {
  const plane = await startControlPlane(t, { rights: 'none' });
  const kubelet = await startFakeKubelet(t, plane, nodes);
  const chart = await renderChart(freshFolder(t), { kubeVersion: '1.20.2' });
  await plane.applyObjects(chart.filter(({ kind }) => kind !== 'Deployment'));
  await plane.must('POST', '/api/v1/namespaces', { metadata: { name: 'gpu' } });
  return new ClusterRig(t, plane, kubelet);
}

/** Until it leads, knows the cluster's record, and would let a workload start. */
export async function untilReady(service: RealService, withinMs = 30_000): Promise<void> {
  await service.until(
    'a safe preflight',
    () => service.get('/preflight'),
    ({ status }) => status === 200,
    withinMs,
  );
}
