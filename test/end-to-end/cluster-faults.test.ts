// What may go wrong around a stop, on a real control plane through the real service: somebody's webhook, a node that does
// not answer, a right that is gone, a service that is killed, an API server that is; and exporters found in the cluster.

import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { cpuTimes, intelSocket, memory } from '../fixtures/node-exporter.ts';
import { deployment, lacksCluster, MARK, NODE, startClusterRig, template, untilReady } from '../support/cluster-rig.ts';
import type { AnyObject } from '../support/control-plane.ts';
import {
  freshFolder,
  isGroupAlive,
  type RealService,
  type Reply,
  ROOT,
  startWorkload,
} from '../support/real-service.ts';
import { says, standInExporter } from '../support/stand-in-exporter.ts';

// Two cores may be shared with other test files: times are told, and bounds are wide.
t.setTimeout(900_000);

const OTHER = 'node-2';
const on = (node: string): object => ({ nodeSelector: { 'kubernetes.io/hostname': node } });
const pinned = (name: string, replicas: number, node: string): object => {
  const labels = { app: name, ...MARK };
  return { spec: { replicas, selector: { matchLabels: { app: name } }, template: template(labels, on(node)) } };
};
const barePod = (labels: object, node: string): object => ({ ...template({}, on(node)), metadata: { labels } });
const RIGHTS = '/apis/rbac.authorization.k8s.io/v1/clusterroles/vsf-safety-workloads';
const WEBHOOKS = '/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations';

/** Somebody's rule that lets nobody delete a pod with the label `keep`. */
const KEEPING = {
  metadata: { name: 'keep' },
  webhooks: [
    {
      name: 'keep.example.invalid',
      clientConfig: { url: 'https://127.0.0.1:1/' },
      rules: [{ apiGroups: [''], apiVersions: ['v1'], operations: ['DELETE'], resources: ['pods'] }],
      objectSelector: { matchLabels: { keep: 'it' } },
      failurePolicy: 'Fail',
      sideEffects: 'None',
      admissionReviewVersions: ['v1'],
      timeoutSeconds: 1,
    },
  ],
};

t.test('faults around the stop of a cluster', { skip: lacksCluster, timeout: 890_000 }, async (t) => {
  const rig = await startClusterRig(t, [NODE, OTHER]);
  const machine = { celsius: 45 };
  const exporter = await standInExporter(t, (request, response) => says(machineAt(machine.celsius))(request, response));
  const kubeconfig = await rig.plane.kubeconfigFor(rig.plane.serviceToken);
  /** A service that reads real text over HTTP, so that two nodes can be watched. */
  const reading = (...lines: readonly string[]): string =>
    [
      'source: exporters',
      'interval: 1s',
      'fastInterval: 1s',
      `kubernetes: { enabled: true, kubeconfig: ${kubeconfig} }`,
      ...lines,
    ].join('\n');
  const nodes = [NODE, OTHER].map((name) => `{ name: ${name}, endpoints: [ "${exporter.url}" ] }`);
  const config = reading(`nodes: [ ${nodes.join(', ')} ]`);
  let service: RealService = await rig.serve({ config });
  await untilReady(service, 60_000);

  const names = async (): Promise<string[]> => (await rig.marked()).map(({ metadata }) => metadata.name);
  const empty = (ms = 90_000): Promise<number> =>
    rig.until('all labelled pods are gone', ms, async () => (await rig.marked()).length === 0);
  const replicas = async (): Promise<Record<string, number>> => {
    const found = (await rig.list('Deployment')).map(({ metadata, spec }) => [metadata.name, spec.replicas]);
    return Object.fromEntries(found);
  };
  const entriesOf = ({ body }: Reply): AnyObject[] => body.report.actuators.kubernetes?.entries ?? [];
  const entry = (reply: Reply, kind: string, name: string): AnyObject =>
    entriesOf(reply).find((one) => one.kind === kind && one.name === `gpu/${name}`);
  const untilReport = (state: string, ms: number): Promise<Reply> =>
    service.until(
      `the stop is ${state}`,
      () => service.get('/estop'),
      ({ body }) => body.report?.state === state,
      ms,
    );
  const restart = async (): Promise<void> => {
    await service.stop('SIGKILL');
    service = await rig.serve({ config, stateDir: service.stateDir });
  };
  /** Asks until it is done: a late tick of a busy machine holds both up. */
  async function wayBack(tripId: string, isAcknowledged: boolean): Promise<AnyObject[]> {
    const reset = { tripId, reason: 'tried', ...(isAcknowledged && { acknowledgeUnverified: true }) };
    await service.until(
      'the reset',
      () => service.operate('/estop/reset', reset),
      ({ status }) => status === 200,
      60_000,
    );
    const steps: AnyObject[] = [];
    await service.until(
      'the restore',
      () => service.ask('POST', '/estop/restore', { tripId }, { authorization: `Bearer ${service.token}` }, 90_000),
      ({ status, body }) => {
        if (status !== 200) return false;
        steps.push(...body.steps.filter(({ outcome }: AnyObject) => outcome !== 'not-reached'));
        return body.steps.every(({ outcome }: AnyObject) => outcome !== 'not-reached');
      },
      120_000,
    );
    return steps;
  }

  await t.test('a trip of one node stops its pods with their controllers, and nothing else', async (t) => {
    await rig.create('Deployment', 'here', pinned('here', 2, NODE));
    await rig.create('Deployment', 'there', pinned('there', 3, OTHER));
    await rig.create('Deployment', 'both', deployment('both', 4));
    await rig.untilRunning(9);
    const there = (await rig.pods('app=there')).map(({ metadata }) => metadata.uid).sort();
    const { status, body } = await service.post('/estop', { nodes: [NODE], reason: 'one node' });
    t.equal(status, 202);
    await rig.until('only the other node’s are left', 60_000, async () => (await rig.marked()).length === 3);
    t.same((await rig.pods('app=there')).map(({ metadata }) => metadata.uid).sort(), there);
    t.same(await replicas(), { here: 0, both: 0, there: 3 });
    const report = await service.get('/estop');
    t.match(report.body, { scope: { kind: 'nodes', nodes: [NODE] } });
    t.match(entry(report, 'Deployment', 'both'), { prior: '4' });
    t.notOk(entriesOf(report).some(({ name }) => name.startsWith('gpu/there')));
    t.match(await rig.configMap('vsf-estop'), { latched: 'true', node: NODE });
    t.equal(
      (await service.get('/status')).body.cluster.denyRule,
      'disarmed',
      'it would keep the other node from working',
    );
    await wayBack(body.tripId, true);
    t.same(await replicas(), { here: 2, both: 4, there: 3 });
    await rig.untilRunning(9);
  });

  await t.test('what resists is named, and everything else is stopped', async (t) => {
    // The service starts without one right of the chart's.
    const role = await rig.plane.must('GET', RIGHTS);
    const isBatch = ({ resources }: AnyObject): boolean => resources.includes('jobs');
    const rules = role.rules.flatMap((rule: AnyObject) =>
      isBatch(rule)
        ? [
            { ...rule, resources: ['jobs'], verbs: ['get', 'list'] },
            { ...rule, resources: ['cronjobs'] },
          ]
        : [rule],
    );
    await rig.plane.must('PATCH', RIGHTS, { rules });
    await restart();
    const status = await service.until(
      'the missing right',
      () => service.get('/status'),
      ({ body }) => body.leadership.leader && body.cluster.missingRights.some((right: string) => /patch/.test(right)),
      30_000,
    );
    t.strictSame(status.body.cluster.missingRights, ['patch jobs.batch']);
    const refused = await service.until(
      'a refusal',
      () => service.get('/preflight'),
      ({ body }) =>
        body.findings.some(
          ({ code, message }: AnyObject) => code === 'actuator-unavailable' && /patch jobs\.batch/.test(message),
        ),
    );
    t.equal(refused.status, 503);
    const checked = await check();
    t.equal(checked.code, 75);
    t.match(checked.out, /missing, and a stop needs it: patch jobs\.batch/);

    const spec = { parallelism: 2, completions: 2, template: template(MARK, { restartPolicy: 'Never' }) };
    await rig.create('Job', 'job', { spec });
    await rig.create('Pod', 'far', barePod(MARK, OTHER));
    await rig.create('Pod', 'kept', barePod({ ...MARK, keep: 'it' }, NODE));
    await rig.untilRunning(9 + 4);
    await rig.plane.must('POST', WEBHOOKS, KEEPING);
    rig.kubelet.hang(OTHER);
    await rig.plane.setNodeReady(OTHER, false);

    const since = Date.now();
    const { tripId } = (await service.post('/estop', { reason: 'resisted' })).body;
    await rig.until('only the protected one is left', 90_000, async () => (await names()).join() === 'kept');
    t.comment(`all but one gone ${Date.now() - since} ms after the button`);
    const report = await untilReport('unverified', 60_000);
    t.match(entry(report, 'Pod', 'kept'), { state: 'failed', verified: false, detail: /keep\.example/ });
    t.match(entry(report, 'Pod', 'far'), {
      state: 'stopped',
      verified: false,
      detail: /unconfirmed: removed by force/,
    });
    t.match(entry(report, 'Pod', 'far').how, /grace 1 s; delete, grace 0 s/);
    t.match(entry(report, 'Job', 'job'), { state: 'failed', verified: false, detail: /403|forbidden/i });
    t.match(entry(report, 'Deployment', 'both'), { state: 'stopped', verified: true, prior: '4' });
    t.match((await rig.configMap('vsf-estop'))['unconfirmedPods'], /gpu\/kept/);
    const reset = await service.operate('/estop/reset', { tripId, reason: 'no' });
    t.match(reset, { status: 409, body: { code: 'reset-refused' } });

    await rig.plane.must('DELETE', `${WEBHOOKS}/keep`);
    await rig.plane.must('PATCH', RIGHTS, { rules: role.rules });
    await rig.plane.setNodeReady(OTHER, true);
    rig.kubelet.wake(OTHER);
    await empty();
    await service.until(
      'the Job is stopped, too',
      () => service.get('/estop'),
      (reply) => entry(reply, 'Job', 'job').state === 'stopped',
      30_000,
    );
    t.match(await service.get('/estop'), { body: { report: { state: 'unverified' } } }, 'nobody has seen those die');
    await rig.plane.must('DELETE', '/apis/batch/v1/namespaces/gpu/jobs/job?propagationPolicy=Background');
    await wayBack(tripId, true);
    t.same(await replicas(), { here: 2, both: 4, there: 3 });
    await rig.untilRunning(9);
  });

  /** `vsf-safety check` of the same cluster. */
  async function check(): Promise<{ code: number; out: string }> {
    const file = join(freshFolder(t), 'safety.yaml');
    writeFileSync(file, config);
    const args = [join(ROOT, 'dist/bundle/main.js'), 'check', '--config', file];
    return new Promise((resolve) => {
      execFile(process.execPath, args, (error, out) => resolve({ code: Number(error?.code ?? 0), out }));
    });
  }

  await t.test('a service that is killed at any point of a stop goes on, and remembers what was', async (t) => {
    await rig.create('Deployment', 'big', deployment('big', 30));
    await rig.create('Job', 'job-2', {
      spec: { parallelism: 3, completions: 3, template: template(MARK, { restartPolicy: 'Never' }) },
    });
    await rig.untilRunning(9 + 33);
    const { tripId } = (await service.post('/estop', { reason: 'killed on the way' })).body;
    await restart();
    t.match((await service.get('/estop')).body, { state: 'tripped', tripId });
    await rig.until('it has begun', 60_000, async () => {
      const pods = await rig.marked();
      return pods.length < 42 || pods.some(({ metadata }) => metadata.deletionTimestamp);
    });
    await restart();
    t.match((await service.get('/estop')).body, { state: 'tripped', tripId });
    await empty();
    await restart();
    const report = await service.until(
      'its controllers are read',
      () => service.get('/estop'),
      (reply) => entry(reply, 'Deployment', 'big')?.state === 'stopped',
      60_000,
    );
    t.match(report.body, { state: 'tripped', tripId });
    for (const [name, prior] of Object.entries({ here: '2', both: '4', there: '3', big: '30' })) {
      t.match(entry(report, 'Deployment', name), { prior, verified: true }, name);
    }
    t.match(entry(report, 'Job', 'job-2'), { prior: /parallelism: 3/ });
    t.same(await names(), [], 'none came back');
    await wayBack(tripId, true);
    t.same(await replicas(), { here: 2, both: 4, there: 3, big: 30 });
    t.equal((await rig.read('Job', 'job-2')).spec.parallelism, 3);
    await rig.untilRunning(9 + 33);
  });

  await t.test(
    'an API server that dies in the middle: this machine is stopped all the same, the rest later',
    async (t) => {
      await service.until(
        'it would let a workload start here',
        () => service.get('/preflight'),
        ({ status }) => status === 200,
        60_000,
      );
      const id = randomUUID();
      const pgid = startWorkload(t, id, "trap '' TERM; while :; do sleep 0.2; done").pid ?? 0;
      const asked = { id, workload: 'stubborn', nodes: [NODE], processGroup: { pgid }, ttlSeconds: 300 };
      t.equal((await service.post('/leases', asked)).status, 201);
      const { tripId } = (await service.post('/estop', { reason: 'no server' })).body;
      await rig.until('it has begun', 60_000, async () =>
        (await rig.marked()).some(({ metadata }) => metadata.deletionTimestamp),
      );
      await rig.plane.apiserver.stop();
      const since = Date.now();
      await rig.until('the process group is gone', 30_000, async () => !isGroupAlive(pgid));
      t.comment(`the process group is gone ${Date.now() - since} ms after the server`);
      const isTold = (reply: Reply): boolean =>
        entriesOf(reply).some(({ kind }) => kind === 'Cluster') &&
        reply.body.report.actuators['local-processes'].verified;
      const silent = await service.until(
        'the silence is told, and the end of the group',
        () => service.get('/estop'),
        isTold,
        30_000,
      );
      const cluster = entriesOf(silent).find(({ kind }) => kind === 'Cluster');
      t.match(cluster, { name: rig.plane.url, state: 'failed', verified: false, detail: /over 5 s, still trying/ });
      const local: AnyObject[] = silent.body.report.actuators['local-processes'].entries;
      t.match(local, [{ leaseId: id, state: 'stopped', how: /SIGKILL/ }]);
      t.match(silent.body, { state: 'tripped', tripId, report: { state: /stopping|unverified/ } });
      t.equal((await service.get('/preflight')).status, 423);
      await rig.plane.apiserver.start();
      const backAt = Date.now();
      await empty();
      t.comment(`empty ${Date.now() - backAt} ms after the server was back`);
      const report = await untilReport('verified', 120_000);
      t.notOk(isTold(report));
      t.match(entry(report, 'Deployment', 'big'), { prior: '30', verified: true });
      await wayBack(tripId, false);
      t.same(await replicas(), { here: 2, both: 4, there: 3, big: 30 });
    },
  );

  await t.test('discovery.kubernetes finds the exporters, and the nodes that have none', async (t) => {
    await service.stop();
    for (const name of ['here', 'both', 'there', 'big']) {
      await rig.plane.must('DELETE', `/apis/apps/v1/namespaces/gpu/deployments/${name}?propagationPolicy=Background`);
    }
    await rig.plane.must('DELETE', '/apis/batch/v1/namespaces/gpu/jobs/job-2?propagationPolicy=Background');
    await rig.create('Pod', 'exporter', barePod({ app: 'exporter' }, NODE));
    await rig.until(
      'the exporter runs',
      60_000,
      async () => (await rig.read('Pod', 'exporter')).status.phase === 'Running',
    );
    const address = { status: { podIP: '127.0.0.1', podIPs: [{ ip: '127.0.0.1' }] } };
    await rig.plane.must('PATCH', '/api/v1/namespaces/gpu/pods/exporter/status', address);
    await empty();
    const found = `{ selector: "app=exporter", namespace: gpu, port: ${exporter.port} }`;
    const discovering = `discovery: { kubernetes: true, allow: [ "127.0.0.0/8" ], refresh: 5s, exporters: [ ${found} ] }`;
    service = await rig.serve({ config: reading(discovering) });
    await service.until(
      'a safe preflight of the node with an exporter',
      () => service.get(`/preflight?nodes=${NODE}`),
      ({ status }) => status === 200,
      60_000,
    );
    const blind = await service.get(`/preflight?nodes=${OTHER}`);
    t.equal(blind.status, 503);
    t.match(blind.body.findings, [{ code: 'reading-missing', node: OTHER }]);
    const { discovery } = (await service.get('/status')).body;
    t.match(discovery.problems, [{ origin: 'kubernetes', detail: new RegExp(`nodes without a pod.*${OTHER}`) }]);

    // Kept free on purpose, so nobody expects an exporter there; somebody put a workload there all the same.
    await rig.plane.addNode('node-3');
    await rig.plane.must('PATCH', '/api/v1/nodes/node-3', {
      spec: { taints: [{ key: 'for', value: 'others', effect: 'NoSchedule' }] },
    });
    const spec = { nodeName: 'node-3', containers: [{ name: 'load', image: 'example.invalid/load:1' }] };
    await rig.create('Pod', 'stray', { metadata: { labels: MARK }, spec });
    const stray = await service.until(
      'a refusal for the stray pod',
      () => service.get('/preflight'),
      ({ body }) => body.findings.some(({ code }: AnyObject) => code === 'node-unmonitored'),
      30_000,
    );
    t.match(
      stray.body.findings.find(({ code }: AnyObject) => code === 'node-unmonitored'),
      { node: 'node-3' },
    );

    await rig.create('Pod', 'load', barePod(MARK, NODE));
    await rig.until('the load runs', 60_000, async () => (await rig.read('Pod', 'load')).status.phase === 'Running');
    machine.celsius = 96;
    const hot = await service.until(
      'the trip',
      () => service.get('/estop'),
      ({ body }) => body.state === 'tripped',
      30_000,
    );
    t.match(hot.body, { reason: /96/, scope: { kind: 'all' } });
    await rig.until('the load is gone', 60_000, async () => !(await names()).includes('load'));
  });
});

/** What a node_exporter on a machine without a card says now. */
function machineAt(celsius: number): string {
  const seconds = performance.now() / 1000;
  const cpu = { idle: seconds * 0.9, user: seconds * 0.1 };
  return [
    `node_time_seconds ${Date.now() / 1000}`,
    intelSocket(0, celsius),
    cpuTimes({ 0: cpu, 1: cpu }),
    memory({ MemTotal: 64e9, MemAvailable: 48e9 }),
  ].join('\n');
}
