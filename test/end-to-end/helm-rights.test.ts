// The rights that the chart gives, each taken away by itself: it is named, and where it matters to a stop the service says
// so in /status, stops all the rest, and names what it could not. A case has an account, a namespace and workloads of its
// own, so that several run side by side; the deny rule, which all would share, is not installed.
import t from 'tap';
import { systemClock } from '../../src/clock.ts';
import { createKubeClient } from '../../src/kubernetes/kube-client.ts';
import { discoverKinds } from '../../src/kubernetes/kube-discovery.ts';
import { type Right, reviewRights, wordsOf } from '../../src/kubernetes/kube-rights.ts';
import { neededRights } from '../../src/kubernetes/needed-rights.ts';
import { lacksHelm, renderChart } from '../support/chart.ts';
import { ClusterRig, deployment, MARK, NODE, template } from '../support/cluster-rig.ts';
import { type AnyObject, type ControlPlane, lacksControlPlane, startControlPlane } from '../support/control-plane.ts';
import { startFakeKubelet } from '../support/fake-kubelet.ts';
import { freshFolder } from '../support/real-service.ts';

// Two cores may be shared with other test files: bounds are wide.
t.setTimeout(600_000);
const lacks = lacksControlPlane || lacksHelm;

const isRole = ({ kind }: AnyObject): boolean => kind === 'Role' || kind === 'ClusterRole';

/** `objects` with a rule for each right that their roles grant, but for `right`; how many were left out. */
function without(objects: readonly AnyObject[], right: Right): { objects: AnyObject[]; taken: number } {
  const { verb, group, resource, subresource, name } = right;
  const whole = subresource === undefined ? resource : `${resource}/${subresource}`;
  let taken = 0;
  const isIt = (rule: AnyObject, one: string, inGroup: string, inResource: string): boolean =>
    one === verb &&
    inGroup === group &&
    inResource === whole &&
    (name === undefined || rule.resourceNames?.includes(name));
  const split = (rule: AnyObject): AnyObject[] =>
    rule.verbs.flatMap((one: string) =>
      (rule.apiGroups ?? []).flatMap((inGroup: string) =>
        rule.resources.flatMap((inResource: string) => {
          const granted = { apiGroups: [inGroup], resources: [inResource], verbs: [one] };
          const names = rule.resourceNames && { resourceNames: rule.resourceNames };
          if (!isIt(rule, one, inGroup, inResource)) return [{ ...granted, ...names }];
          taken += 1;
          const others = (rule.resourceNames ?? []).filter((other: string) => other !== name);
          return others.length > 0 ? [{ ...granted, resourceNames: others }] : [];
        }),
      ),
    );
  const changed = objects.map((object) => {
    if (!isRole(object) || !object.rules.every((rule: AnyObject) => rule.resources)) return object;
    const before = taken;
    const rules = object.rules.flatMap(split);
    return taken === before ? object : { ...object, rules };
  });
  return { objects: changed, taken };
}

t.test('each right that is taken away is named, and no other', { skip: lacks, timeout: 300_000 }, async (t) => {
  const plane = await startControlPlane(t, { rights: 'none' });
  const chart = await renderChart(freshFolder(t), { kubeVersion: '1.20.2' });
  await plane.applyObjects(chart.filter(({ kind }) => isRole({ kind }) || /RoleBinding|ServiceAccount/.test(kind)));
  const kubeconfig = await plane.kubeconfigFor(await plane.tokenOf(plane.namespace, 'vsf-safety'));
  const client = await createKubeClient({ clock: systemClock, kubeconfig });
  if (!client.ok) throw new Error(client.detail);
  t.teardown(() => client.api.close());
  const discovered = await discoverKinds(client.api, 10_000);
  if (!discovered.ok) throw new Error(discovered.detail);
  const { kinds } = discovered.value;
  const rights = neededRights({ kinds, namespaces: [], namespace: plane.namespace, findsExporters: true }).map(
    (needed) => needed.right,
  );
  const missing = async (asked: readonly Right[]): Promise<string> => {
    const answer = await reviewRights(client.api, asked, 10_000);
    t.same(answer.unknown, []);
    return answer.missing.map(wordsOf).join();
  };
  t.equal(await missing(rights), '');
  t.ok(rights.length > 40, `${rights.length} rights`);
  const roles = chart.filter(isRole);
  let whole: readonly AnyObject[] = [];
  for (const right of rights) {
    const { objects, taken } = without(roles, right);
    t.equal(taken, 1, wordsOf(right));
    await plane.applyObjects(whole);
    await plane.applyObjects(objects.filter((object) => !roles.includes(object)));
    whole = roles.filter((role) => !objects.includes(role));
    // The server's authorizer follows within milliseconds, for each kind of role by itself.
    for (let tries = 0; tries < 100 && (await missing([right])) === ''; tries += 1);
    let seen = '';
    for (let tries = 0; tries < 20 && seen !== wordsOf(right); tries += 1) seen = await missing(rights);
    t.equal(seen, wordsOf(right));
  }
});

/** A right that is gone, and which workloads a stop then leaves as they are. */
interface Case {
  readonly right: Right;
  readonly remains: readonly string[];
  /** Whether starts are refused for it. */
  readonly isVital: boolean;
}
const one = (verb: string, group: string, resource: string, remains: readonly string[] = [], isVital = true): Case => {
  const [plural = '', subresource] = resource.split('/');
  return {
    right: { verb, group, resource: plural, ...(subresource !== undefined && { subresource }) },
    remains,
    isVital,
  };
};
const named = (verb: string, group: string, resource: string, name: string): Case => ({
  right: { verb, group, resource, name },
  remains: [],
  isVital: true,
});

const CASES: readonly Case[] = [
  one('list', '', 'pods', ['Pod bare']),
  one('delete', '', 'pods', ['Pod bare']),
  // It is found by its pods, and read by itself.
  one('list', 'apps', 'deployments'),
  one('patch', 'apps', 'deployments/scale', ['Deployment']),
  one('patch', 'apps', 'daemonsets', ['DaemonSet']),
  one('patch', 'batch', 'jobs', ['Job']),
  named('patch', 'admissionregistration.k8s.io', 'validatingwebhookconfigurations', 'vsf-estop'),
  one('create', '', 'configmaps'),
  named('update', 'coordination.k8s.io', 'leases', 'vsf-safety'),
  one('create', '', 'events', [], false),
];
/** More services at a time would not be up in time on two cores that are shared. */
const AT_A_TIME = 2;

t.test('without one right all the rest is stopped', { skip: lacks, timeout: 580_000 }, async (t) => {
  const plane = await startControlPlane(t, { rights: 'none' });
  const rig = new ClusterRig(t, plane, await startFakeKubelet(t, plane, [NODE]));
  const folder = freshFolder(t);
  const cases: readonly (Case & { readonly own: string; readonly gpu: string })[] = CASES.map((each, i) => ({
    ...each,
    own: `own-${i}`,
    gpu: `gpu-${i}`,
  }));
  for (const { own, gpu, right } of cases) {
    for (const name of [own, gpu]) await plane.must('POST', '/api/v1/namespaces', { metadata: { name } });
    const values = {
      fullnameOverride: own,
      workloadNamespaces: [gpu],
      admission: { enabled: false },
      config: { discovery: { kubernetes: false } },
    };
    const chart = await renderChart(folder, { namespace: own, values, kubeVersion: '1.20.2' });
    const { objects, taken } = without(chart, right);
    t.equal(taken, 1, wordsOf(right));
    await plane.applyObjects(objects.filter(({ kind }) => kind !== 'Deployment'));
    await fill(plane, gpu);
  }
  for (const { gpu } of cases) {
    await rig.until(`the pods of ${gpu} run`, 120_000, async () => {
      const { items } = await plane.must('GET', `/api/v1/namespaces/${gpu}/pods`);
      return items.length === 5 && items.every(({ status }: AnyObject) => status.phase === 'Running');
    });
  }

  const left = [...cases];
  const work = async (): Promise<void> => {
    for (let next = left.shift(); next !== undefined; next = left.shift()) await stopOne(next);
  };
  await Promise.all(Array.from({ length: AT_A_TIME }, work));

  async function stopOne({ own, gpu, right, remains, isVital }: (typeof cases)[number]): Promise<void> {
    const isGlobal = right.resource === 'nodes' || right.group === 'admissionregistration.k8s.io';
    const isOwn = /configmaps|leases|events/.test(right.resource);
    const place = isGlobal ? {} : { namespace: isOwn ? own : gpu };
    const words = wordsOf({ ...right, ...place });
    const kubeconfig = await plane.kubeconfigFor(await plane.tokenOf(own, own));
    const config = [
      'source: simulated',
      'simulated: { actOnRealWorkloads: true }',
      'interval: 1s',
      `kubernetes: { enabled: true, kubeconfig: ${kubeconfig}, namespace: ${own}, namespaces: [${gpu}] }`,
    ].join('\n');
    const service = await rig.serve({ config });
    const key = isVital ? 'missingRights' : 'missingOptionalRights';
    const status = await service.until(
      words,
      () => service.get('/status'),
      ({ body }) => body.cluster[key].includes(words),
      60_000,
    );
    t.strictSame(status.body.cluster[key], [words], words);
    if (isVital) {
      const refused = await service.get('/preflight');
      t.equal(refused.status, 503, words);
    }
    t.equal((await service.post('/estop', { reason: words })).status, 202);
    const running = async (): Promise<string> => (await unstopped(plane, gpu)).join();
    const expected = [...remains].sort().join();
    await rig.until(
      `only ${expected || 'nothing'} is left without ${words}, not ${await running()}`,
      60_000,
      async () => {
        return (await running()) === expected;
      },
    );
    await service.stop('SIGKILL');
  }
});

const GROUPS: Readonly<Record<string, string>> = {
  Deployment: 'apis/apps/v1',
  StatefulSet: 'apis/apps/v1',
  DaemonSet: 'apis/apps/v1',
  Job: 'apis/batch/v1',
  CronJob: 'apis/batch/v1beta1',
  Pod: 'api/v1',
};

/** One workload of each kind. */
async function fill(plane: ControlPlane, namespace: string): Promise<void> {
  const create = (kind: string, name: string, body: object): Promise<AnyObject> =>
    plane.must('POST', `/${GROUPS[kind]}/namespaces/${namespace}/${kind.toLowerCase()}s`, {
      metadata: { name },
      ...body,
    });
  const labels = { app: 'x', ...MARK };
  const selector = { matchLabels: { app: 'x' } };
  const job = { template: template(MARK, { restartPolicy: 'Never' }) };
  await Promise.all([
    create('Deployment', 'deployment', deployment('deployment', 1)),
    create('StatefulSet', 'set', { spec: { replicas: 1, serviceName: 's', selector, template: template(labels) } }),
    create('DaemonSet', 'daemons', {
      spec: { selector: { matchLabels: { app: 'd' } }, template: template({ ...labels, app: 'd' }) },
    }),
    create('Job', 'job', { spec: { ...job, parallelism: 1, completions: 1 } }),
    create('CronJob', 'cron', { spec: { schedule: '0 0 1 1 *', jobTemplate: { spec: job } } }),
    create('Pod', 'bare', { ...template({}), metadata: { name: 'bare', labels: MARK } }),
  ]);
}

/** Workloads of a namespace that may run on, and a pod without an owner that does. */
async function unstopped(plane: ControlPlane, namespace: string): Promise<readonly string[]> {
  const first = async (kind: string): Promise<AnyObject> =>
    (await plane.must('GET', `/${GROUPS[kind]}/namespaces/${namespace}/${kind.toLowerCase()}s`)).items[0];
  const [deployment, set, daemons, job, cron] = await Promise.all(
    ['Deployment', 'StatefulSet', 'DaemonSet', 'Job', 'CronJob'].map(first),
  );
  const { items: pods } = await plane.must('GET', `/api/v1/namespaces/${namespace}/pods`);
  return [
    ...(deployment.spec.replicas > 0 ? ['Deployment'] : []),
    ...(set.spec.replicas > 0 ? ['StatefulSet'] : []),
    ...(daemons.spec.template.spec.nodeSelector === undefined ? ['DaemonSet'] : []),
    ...(job.spec.parallelism > 0 ? ['Job'] : []),
    ...(cron.spec.suspend ? [] : ['CronJob']),
    ...(pods.some(({ metadata }: AnyObject) => metadata.name === 'bare') ? ['Pod bare'] : []),
  ].sort();
}
