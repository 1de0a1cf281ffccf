// The whole stop of a cluster, through the service's own door: a real control plane, the real binary with the chart's
// rights, and a person's way from the button to the restore.
import t from 'tap';
import {
  type ClusterRig,
  deployment,
  lacksCluster,
  MARK,
  NODE,
  startClusterRig,
  template,
  untilReady,
} from '../support/cluster-rig.ts';
import { vsfSafety } from '../support/command-line.ts';

// Two cores may be shared with other test files: times are told, and bounds are wide.
t.setTimeout(600_000);

const PODS = 200 + 15 + 3 + 1 + 3 + 1;
const STRANGERS = 3;

/** What the product promises to stop, and neighbours that it must not touch. */
async function fill(rig: ClusterRig): Promise<void> {
  const made = Array.from({ length: 20 }, (_, i) => rig.create('Deployment', `d${i}`, deployment(`d${i}`, 10)));
  for (let i = 0; i < 5; i++) {
    const pods = template(MARK, { restartPolicy: 'Never' });
    const spec = { parallelism: 3, completions: 3, backoffLimit: 2, template: pods };
    made.push(rig.create('Job', `j${i}`, { spec }));
  }
  const set = {
    replicas: 3,
    serviceName: 's',
    selector: { matchLabels: { app: 's' } },
    podManagementPolicy: 'Parallel',
  };
  const daemons = { selector: { matchLabels: { app: 'ds' } }, template: template({ app: 'ds', ...MARK }) };
  const job = { template: template(MARK, { restartPolicy: 'Never' }) };
  const scaler = {
    minReplicas: 3,
    maxReplicas: 5,
    scaleTargetRef: { apiVersion: 'apps/v1', kind: 'Deployment', name: 'scaled' },
  };
  made.push(
    rig.create('StatefulSet', 's', { spec: { ...set, template: template({ app: 's', ...MARK }) } }),
    rig.create('DaemonSet', 'ds', { spec: daemons }),
    rig.create('CronJob', 'cron', { spec: { schedule: '0 0 1 1 *', jobTemplate: { spec: job } } }),
    rig.create('Deployment', 'scaled', deployment('scaled', 3)),
    rig.create('HorizontalPodAutoscaler', 'scaled', { spec: scaler }),
    rig.create('Pod', 'bare', { ...template({}), metadata: { labels: MARK } }),
    rig.create('Pod', 'stranger', { ...template({}), metadata: {} }),
    rig.create('Deployment', 'neighbour', deployment('neighbour', STRANGERS - 1, {})),
  );
  await Promise.all(made);
  await rig.untilRunning(PODS + STRANGERS);
}

t.test('the emergency stop of a cluster, and the way back', { skip: lacksCluster, timeout: 580_000 }, async (t) => {
  const rig = await startClusterRig(t);
  let service = await rig.serve();
  await untilReady(service);
  await fill(rig);

  t.match((await service.get('/status')).body, {
    leadership: { mode: 'cluster', leader: true, state: 'leader' },
    actuators: { kubernetes: { available: true } },
    cluster: {
      latch: { known: true, failure: null },
      denyRule: 'disarmed',
      leases: { known: true },
      missingRights: [],
    },
  });
  const granted = await service.post('/leases', { workload: 'train', nodes: [NODE], ttlSeconds: 300 });
  t.equal(granted.status, 201);
  const { id } = granted.body.lease;
  t.match(await rig.configMap('vsf-leases'), { [id]: /"workload":"train"/ }, 'the next leader would find it');

  const drill = await service.operate('/estop', { drill: true });
  t.equal(drill.body.entries.filter(({ kind }: { kind: string }) => kind === 'Pod').length, PODS);
  t.match(
    drill.body.entries.find(({ name }: { name: string }) => name === 'gpu/d7'),
    { kind: 'Deployment', how: 'scale 10 -> 0', state: 'would-stop' },
  );
  t.equal((await rig.marked()).length, PODS, 'a drill touches nothing');

  const warned = (await service.get('/preflight')).body.unprotected;
  t.match(
    warned.filter(({ code }: { code: string }) => code === 'may-be-raised'),
    [{ name: 'HorizontalPodAutoscaler', message: /scales Deployment gpu\// }],
    'who may raise it again is told before',
  );

  const startedAt = Date.now();
  const stopped = await service.post('/estop', { reason: 'smoke' });
  t.equal(stopped.status, 202);
  const { tripId } = stopped.body;
  // Lists of them all would keep a small server from the deletes.
  await rig.until('all labelled pods are gone', 90_000, async () => (await rig.marked()).length === 0, 500);
  t.comment(`empty ${Date.now() - startedAt} ms after the button`);
  t.match(await rig.configMap('vsf-estop'), { latched: 'true', reason: 'smoke', source: 'manual' });
  const refused = await rig.plane.ask('POST', '/api/v1/namespaces/gpu/pods', {
    ...template(MARK),
    metadata: { name: 'again', labels: MARK },
  });
  t.ok(refused.status >= 400, 'the deny rule refuses new ones');
  t.match(await service.get('/preflight'), { status: 423, body: { action: 'ABORT' } });
  t.match(await service.ask('PUT', `/leases/${id}`, {}), { status: 410, body: { outcome: 'stopped' } });
  t.notHas(await rig.configMap('vsf-leases'), { [id]: String });

  await t.test('a service that is killed goes on where it was, and leads at once', async (t) => {
    await service.stop('SIGKILL');
    service = await rig.serve({ stateDir: service.stateDir });
    const since = Date.now();
    t.match((await service.get('/estop')).body, { state: 'tripped', tripId });
    await service.until(
      'it leads',
      () => service.get('/status'),
      ({ body }) => body.leadership.leader,
    );
    t.comment(`leads ${Date.now() - since} ms after it serves`);
    t.ok(Date.now() - since < 12_000, 'without waiting for its own old Lease to run out');
  });

  const { report } = (
    await service.until(
      'the stop is verified',
      () => service.get('/estop'),
      ({ body }) => body.report.state === 'verified',
      90_000,
    )
  ).body;
  t.equal((await rig.marked()).length, 0, 'nothing came back');
  t.equal((await rig.pods()).length, STRANGERS, 'neighbours are untouched');
  const jobs = await rig.list('Job');
  t.notOk(jobs.some((one) => one.status.conditions?.some(({ type }: { type: string }) => type === 'Failed')));
  const entries: { kind: string; name: string; prior?: string }[] = report.actuators.kubernetes.entries;
  const priorOf = (kind: string, name: string): string | undefined =>
    entries.find((entry) => entry.kind === kind && entry.name === `gpu/${name}`)?.prior;
  t.equal(priorOf('Deployment', 'd7'), '10');
  t.equal(priorOf('Deployment', 'scaled'), '3');
  t.equal(priorOf('StatefulSet', 's'), '3');
  t.equal(priorOf('CronJob', 'cron'), 'suspend: false');

  t.match(await service.operate('/estop/restore', { tripId }), { status: 409, body: { code: 'restore-refused' } });
  const reset = await service.operate('/estop/reset', { tripId, reason: 'toast' });
  t.match(reset, { status: 200, body: { tripId, recorded: true } });
  t.match(await rig.configMap('vsf-estop'), {
    latched: 'false',
    epoch: String(reset.body.epoch),
    lastReset: /toast/,
  });
  await rig.until('the rule is disarmed', 15_000, async () => {
    const made = await rig.plane.ask('POST', '/api/v1/namespaces/gpu/pods?dryRun=All', {
      ...template(MARK),
      metadata: { name: 'again', labels: MARK },
    });
    return made.status === 201;
  });
  t.equal((await rig.marked()).length, 0, 'a reset starts nothing');

  const plan = await service.operate('/estop/restore', { tripId, dryRun: true });
  const outcomes = (steps: { outcome: string }[], outcome: string): number =>
    steps.filter((step) => step.outcome === outcome).length;
  // 21 Deployments with a ReplicaSet below each, a StatefulSet, a DaemonSet, a CronJob, 5 Jobs.
  t.equal(outcomes(plan.body.steps, 'would-restore'), 21 + 1 + 1 + 1 + 5);
  t.equal((await rig.read('Deployment', 'd0')).spec.replicas, 0, 'a dry run gives nothing back');
  // Given back by hand, so that the restore has fewer to do and something to leave alone.
  for (let i = 3; i < 20; i++) {
    await rig.plane.must('PATCH', `/apis/apps/v1/namespaces/gpu/deployments/d${i}/scale`, { spec: { replicas: 1 } });
  }
  const env = { VSF_SAFETY_TOKEN: service.token };
  const given = await vsfSafety(['restore', '--url', service.url, '--yes', '--json'], { env });
  t.equal(given.code, 0, given.err);
  const { tripId: restored, steps } = JSON.parse(given.out);
  t.equal(restored, tripId, 'the last one that was reset');
  t.equal(outcomes(steps, 'restored'), 3 + 1 + 1 + 1 + 1 + 5, 'd0 to d2, scaled, s, ds, cron, the Jobs');
  t.equal(outcomes(steps, 'kept'), 17, 'what somebody has decided since stays');
  t.match(given.err, `  ${steps.length} of ${steps.length}  `, 'each was told as it was done');
  t.equal((await rig.read('Deployment', 'd0')).spec.replicas, 10);
  t.equal((await rig.read('Deployment', 'scaled')).spec.replicas, 3);
  t.equal((await rig.read('StatefulSet', 's')).spec.replicas, 3);
  t.notOk((await rig.read('CronJob', 'cron')).spec.suspend);
  t.notOk((await rig.read('DaemonSet', 'ds')).spec.template.spec.nodeSelector);
  t.equal((await rig.read('Job', 'j0')).spec.parallelism, 3);
  await rig.untilRunning(30 + 17 + 15 + 3 + 1 + 3 + STRANGERS);
  t.equal((await service.get('/status')).body.cluster.priorValues, 17, 'what was given back is forgotten');
});

t.test(
  'a stop of everything gives back what the stop of a node took before it',
  { skip: lacksCluster, timeout: 300_000 },
  async (t) => {
    const rig = await startClusterRig(t);
    const service = await rig.serve();
    await untilReady(service);
    await rig.create('Deployment', 'load', deployment('load', 4));
    await rig.untilRunning(4);
    t.equal((await service.post('/estop', { nodes: [NODE] })).status, 202);
    await rig.until('it is at 0', 60_000, async () => (await rig.read('Deployment', 'load')).spec.replicas === 0);
    const { tripId } = (await service.post('/estop', { reason: 'smoke' })).body;
    await service.until(
      'the stop is verified',
      () => service.get('/estop'),
      ({ body }) => body.tripId === tripId && body.report.state === 'verified',
      90_000,
    );
    const reset = await service.operate('/estop/reset', { tripId, reason: 'toast' });
    t.equal(reset.status, 200);
    const orderIds = async (): Promise<string[]> =>
      Object.values(await rig.configMap('vsf-estop-restore')).map((text) => JSON.parse(text).orderId);
    // By whichever process restores.
    await rig.until('the cluster has them under the wider trip', 10_000, async () =>
      (await orderIds()).every((orderId) => orderId === tripId),
    );
    const { body } = await service.operate('/estop/restore', { tripId, dryRun: true });
    t.match(
      body.steps.find(({ object }: { object: string }) => object === 'deployments.apps gpu/load'),
      { outcome: 'would-restore', detail: 'spec.replicas 0 -> 4' },
    );
    t.same(body.otherTrips, {});
  },
);
