// Two services of one cluster, each with a state folder of its own: what is the leader's alone, what either may do, and
// what becomes of leases and trips when one of them is killed, ended, stands still, or starts without an API server.
import { randomUUID } from 'node:crypto';
import t from 'tap';
import { launchBrowser, NO_BROWSER, openDashboard } from '../support/browser.ts';
import { deployment, lacksCluster, MARK, NODE, startClusterRig, untilReady } from '../support/cluster-rig.ts';
import type { RealService, Reply } from '../support/real-service.ts';

// Two cores may be shared with other test files: times are told, and bounds are wide.
t.setTimeout(600_000);

const SETTINGS = { settings: 'auth: { kubernetes: true }' };
const TAKE_OVER_MS = 90_000;

const untilStandby = (service: RealService): Promise<Reply> =>
  service.until(
    'it stands by',
    () => service.get('/status'),
    ({ body }) => body.leadership.state === 'standby' && body.leadership.holder !== null && body.cluster.latch.known,
    60_000,
  );
const untilLeading = (service: RealService): Promise<Reply> =>
  service.until(
    'it leads',
    () => service.get('/status'),
    ({ body }) => body.leadership.leader && body.cluster.leases.known,
    TAKE_OVER_MS,
  );
const untilState = (service: RealService, state: 'clear' | 'tripped', ms = 60_000): Promise<Reply> =>
  service.until(
    `it is ${state}`,
    () => service.get('/estop'),
    ({ body }) => body.state === state,
    ms,
  );
const codesOf = ({ body }: Reply): string[] =>
  (body.result ?? body).findings.map((finding: { code: string }) => finding.code);
const closes = ({ headers }: Reply): boolean => headers.get('connection') === 'close';

t.test('two services of a cluster', { skip: lacksCluster, timeout: 590_000 }, async (t) => {
  const rig = await startClusterRig(t);
  let first = await rig.serve(SETTINGS);
  await untilReady(first, 60_000);
  let second = await rig.serve(SETTINGS);
  await untilStandby(second);
  const uids = async (): Promise<string[]> => (await rig.marked()).map(({ metadata }) => metadata.uid).sort();

  await t.test('the dashboard of each says what it may do, and who leads', { skip: NO_BROWSER }, async (t) => {
    const browser = await launchBrowser();
    t.teardown(() => browser.close());
    const { holder } = (await second.get('/status')).body.leadership;
    const standby = await openDashboard(t, browser, second.url);
    await standby.page.getByText(`${holder} leads. The emergency stop works here`).waitFor();
    const leader = await openDashboard(t, browser, first.url);
    await leader.page.getByText(`${holder}, which leads`).waitFor();
    t.equal(await leader.page.getByText('STANDBY').count(), 0);
    t.same([...standby.faults, ...leader.faults], []);
  });

  await t.test('auth.kubernetes: the cluster says who may do what', async (t) => {
    const roles = { workload: '/vsf-safety/leases', operator: '/vsf-safety/estop/reset' };
    for (const [name, url] of Object.entries(roles)) {
      const role = { metadata: { name }, rules: [{ nonResourceURLs: [url], verbs: ['post'] }] };
      await rig.plane.must('POST', '/apis/rbac.authorization.k8s.io/v1/clusterroles', role);
      await rig.plane.must('POST', '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings', {
        metadata: { name },
        roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name },
        subjects: [{ kind: 'ServiceAccount', name, namespace: 'gpu' }],
      });
    }
    const trainer = await tokenOf('workload');
    const granted = await first.ask('POST', '/leases', { workload: 'train' }, trainer);
    t.equal(granted.status, 201);
    const { id } = granted.body.lease;
    t.match(await first.ask('PUT', `/leases/${id}`, {}), { status: 403, body: { code: 'lease-forbidden' } });
    t.equal((await first.ask('DELETE', `/leases/${id}`, undefined, trainer)).status, 204);
    const reset = { tripId: randomUUID(), reason: 'nothing is tripped' };
    t.match(await first.ask('POST', '/estop/reset', reset, trainer), { status: 403 });
    t.match(await first.ask('POST', '/estop/reset', reset, await tokenOf('operator')), {
      status: 409,
      body: { code: 'trip-unknown' },
    });
    const stranger = { authorization: 'Bearer made-up' };
    t.match(await first.ask('POST', '/leases', { workload: 'train' }, stranger), { status: 401 });
    t.match(await first.ask('POST', '/estop', {}, stranger), { status: 401 });
  });

  /** A header with a token of the service account `gpu/NAME`. */
  async function tokenOf(name: string): Promise<{ authorization: string }> {
    const accounts = '/api/v1/namespaces/gpu/serviceaccounts';
    await rig.plane.ask('POST', accounts, { metadata: { name } });
    const { status } = await rig.plane.must('POST', `${accounts}/${name}/token`, { spec: { expirationSeconds: 3600 } });
    return { authorization: `Bearer ${status.token}` };
  }

  await t.test('a standby grants nothing and knows of no lease, and says so', async (t) => {
    const asked = await second.post('/preflight', {});
    t.match(asked, { status: 503, body: { safe: false, action: 'WAIT_COOLDOWN' } });
    t.ok(codesOf(asked).includes('not-leader'));
    t.ok(closes(asked), 'the next try may reach another one');
    const lease = await second.post('/leases', { workload: 'train' });
    t.equal(lease.status, 503);
    t.ok(codesOf(lease).includes('not-leader'));
    t.ok(closes(lease));
    for (const method of ['GET', 'PUT', 'DELETE']) {
      // A server that is slow for long makes it say `state-unknown` for a while.
      const unknown = await second.until(
        `not-leader for ${method}`,
        () => second.ask(method, `/leases/${randomUUID()}`, method === 'PUT' ? {} : undefined),
        ({ status, body }) => status !== 503 || body.code === 'not-leader',
        30_000,
      );
      t.match(unknown, { status: 503, body: { code: 'not-leader' } }, method);
      t.ok(closes(unknown), method);
    }
    for (const path of ['reset', 'restore']) {
      const body = { tripId: randomUUID(), ...(path === 'reset' && { reason: 'by mistake' }) };
      const refused = await second.operate(`/estop/${path}`, body);
      t.match(refused, { status: 503, body: { code: 'not-leader' } }, path);
      t.ok(closes(refused), path);
    }
    t.equal((await second.get('/readyz')).status, 200, 'it is ready all the same: it watches and stops');
  });

  await t.test('a stop at the standby acts on the spot, and is the leader’s too', async (t) => {
    await rig.create('Deployment', 'load', deployment('load', 5));
    await rig.untilRunning(5);
    const { id } = (await first.post('/leases', { workload: 'train', ttlSeconds: 300 })).body.lease;
    const since = Date.now();
    const stopped = await second.post('/estop', { reason: 'seen from the standby' });
    t.equal(stopped.status, 202);
    const { tripId } = stopped.body;
    t.match((await untilState(first, 'tripped')).body, { tripId, reason: 'seen from the standby' });
    t.comment(`the leader has the trip ${Date.now() - since} ms after the button`);
    await rig.until('the pods are gone', 60_000, async () => (await rig.marked()).length === 0);
    t.comment(`empty ${Date.now() - since} ms after the button`);
    t.match(await rig.configMap('vsf-estop'), { latched: 'true', reason: 'seen from the standby' });
    t.match(await first.ask('PUT', `/leases/${id}`, {}), { status: 410, body: { outcome: 'stopped' } });
    t.match(await second.ask('PUT', `/leases/${id}`, {}), { status: 503, body: { code: /not-leader|state-unknown/ } });
    for (const refused of [await second.get('/preflight'), await second.post('/leases', { workload: 'train' })]) {
      t.equal(refused.status, 423);
      t.ok(closes(refused));
    }

    const reset = { tripId, reason: 'it was toast' };
    t.match(await second.operate('/estop/reset', reset), { status: 503, body: { code: 'not-leader' } });

    // A leader that stands still, with an operator's reset in its socket.
    first.child.kill('SIGSTOP');
    const pausedAt = Date.now();
    const late = first.ask('POST', '/estop/reset', reset, { authorization: `Bearer ${first.token}` }, 300_000);
    await untilLeading(second);
    t.comment(`the standby leads ${Date.now() - pausedAt} ms after the leader stood still`);
    await second.until(
      'the stop is verified',
      () => second.get('/estop'),
      ({ body }) => body.report.state === 'verified',
      90_000,
    );
    const operator = await tokenOf('operator');
    t.match(await second.ask('POST', '/estop/reset', reset, operator), { status: 200, body: { tripId, epoch: 1 } });
    first.child.kill('SIGCONT');
    const refused = await late;
    t.match(refused, { status: 503, body: { code: 'not-leader' } }, 'the one that stood still resets nothing');
    await untilStandby(first);
    await untilState(first, 'clear');
    const lastReset = /"by":"kubernetes:system:serviceaccount:gpu:operator"/;
    t.match(await rig.configMap('vsf-estop'), { latched: 'false', epoch: '1', lastReset });
    t.match((await second.get('/status')).body.leadership, { leader: true }, 'who leads goes on leading');

    t.match(await first.operate('/estop/restore', { tripId }), { status: 503, body: { code: 'not-leader' } });
    t.equal((await rig.read('Deployment', 'load')).spec.replicas, 0);
    await rig.until('labelled pods are admitted again', 30_000, async () => {
      const pod = { metadata: { name: 'tried', labels: MARK }, spec: { containers: [{ name: 'c', image: 'none' }] } };
      return (await rig.plane.ask('POST', '/api/v1/namespaces/gpu/pods?dryRun=All', pod)).status === 201;
    });
    // A late tick of a busy machine holds a restore up.
    await second.until(
      'the restore',
      () => second.ask('POST', '/estop/restore', { tripId }, operator, 60_000),
      ({ status, body }) =>
        status === 200 && body.steps.some(({ outcome }: { outcome: string }) => outcome === 'restored'),
      60_000,
    );
    await rig.untilRunning(5);
  });

  let leaseId = '';
  let running: string[] = [];
  /** Asks each of `services` for the renewal, as a balancer would, until one grants it. */
  async function renewal(services: readonly RealService[]): Promise<{ tookMs: number; statuses: number[] }> {
    const since = Date.now();
    const statuses: number[] = [];
    for (let i = 0; statuses.at(-1) !== 200; i++) {
      if (Date.now() - since > TAKE_OVER_MS) throw new Error(`not renewed, only ${statuses}`);
      const service = services[i % services.length];
      const reply = await service?.ask('PUT', `/leases/${leaseId}`, {}).catch(() => null);
      if (reply) statuses.push(reply.status);
      await new Promise((done) => setTimeout(done, 200));
    }
    return { tookMs: Date.now() - since, statuses: [...new Set(statuses)] };
  }

  await t.test('the leader is killed: the standby goes on with its leases', async (t) => {
    leaseId = (await second.post('/leases', { workload: 'train', nodes: [NODE] })).body.lease.id;
    await rig.create('Deployment', 'train', deployment('train', 3, { ...MARK, 'vsf-lease': leaseId }));
    await rig.untilRunning(8);
    running = await uids();
    t.equal((await second.ask('PUT', `/leases/${leaseId}`, {})).status, 200);
    await second.stop('SIGKILL');
    const { tookMs, statuses } = await renewal([first]);
    t.comment(`renewed by the standby ${tookMs} ms after the leader was killed`);
    t.same(
      statuses.filter((status) => status !== 503),
      [200],
      'never 404 or 410',
    );
    await untilReady(first, 60_000);
    t.same(await uids(), running, 'its pods run on');
    const { leases } = (await first.get('/status')).body;
    t.match(leases, [{ id: leaseId }]);
  });

  await t.test('the leader ends: the standby leads at once', async (t) => {
    second = await rig.serve({ ...SETTINGS, stateDir: second.stateDir });
    await untilStandby(second);
    // It had the lease in its own journal, and another one keeps it by now.
    t.match(await second.ask('PUT', `/leases/${leaseId}`, {}), {
      status: 503,
      body: { code: /not-leader|state-unknown/ },
    });
    const since = Date.now();
    t.equal(await first.stop('SIGTERM'), 0);
    const endedAt = Date.now();
    const { statuses } = await renewal([second]);
    await untilLeading(second);
    const tookMs = Date.now() - endedAt;
    t.comment(`ended after ${endedAt - since} ms, led on ${tookMs} ms later`);
    t.ok(tookMs < 12_000, 'without waiting for the Lease to run out');
    t.same(
      statuses.filter((status) => status !== 503),
      [200],
    );
    t.same(await uids(), running);
  });

  await t.test('the API server is down: who starts knows nothing and stops nothing, who runs renews', async (t) => {
    await rig.plane.apiserver.stop();
    first = await rig.serve({ ...SETTINGS, stateDir: first.stateDir });
    const asked = await first.until(
      'it knows that it does not know',
      () => first.get('/preflight'),
      (reply) => codesOf(reply).includes('state-unknown') && !codesOf(reply).includes('reading-missing'),
    );
    t.equal(asked.status, 503);
    t.ok(closes(asked));
    t.match((await first.get('/estop')).body, { state: 'clear' });
    const unready = await first.get('/readyz');
    t.equal(unready.status, 503);
    t.match(unready.body.reasons.join(), /whether the cluster is stopped is not known/);
    t.match(await first.ask('PUT', `/leases/${randomUUID()}`, {}), { status: 503, body: { code: 'state-unknown' } });
    t.match((await first.get('/status')).body, {
      leadership: { state: 'unknown' },
      cluster: { latch: { known: false } },
    });
    const led = await second.until(
      'the leader gives up',
      () => second.get('/status'),
      ({ body }) => body.leadership.state === 'unknown',
      30_000,
    );
    t.match(led.body.leases, [{ id: leaseId }]);
    t.equal((await second.ask('PUT', `/leases/${leaseId}`, {})).status, 200, 'renewing needs no API server');
    await rig.plane.apiserver.start();
    const since = Date.now();
    await first.until(
      'it is ready',
      () => first.get('/readyz'),
      ({ status }) => status === 200,
      60_000,
    );
    t.comment(`ready ${Date.now() - since} ms after the server`);
    t.equal((await second.ask('PUT', `/leases/${leaseId}`, {})).status, 200);
    await untilLeading(second);
    await untilStandby(first);
    await untilReady(second, 60_000);
    t.match((await second.get('/status')).body.leases, [{ id: leaseId }]);
    t.same(await uids(), running);
  });

  await t.test('a latch that somebody broke stops everything', async (t) => {
    const path = `/api/v1/namespaces/${rig.plane.namespace}/configmaps/vsf-estop`;
    await rig.plane.must('PATCH', path, { data: { latched: 'maybe' } });
    t.match((await untilState(second, 'tripped')).body, { reason: /latched is "maybe"/, by: 'cluster' });
    await rig.until('the pods are gone', 60_000, async () => (await rig.marked()).length === 0);
    // Each may have found it by itself; the earlier trip becomes the trip of both.
    let tripId = '';
    await rig.until('both have one trip', 30_000, async () => {
      tripId = (await second.get('/estop')).body.tripId;
      return (await first.get('/estop')).body.tripId === tripId;
    });
    t.match(await rig.configMap('vsf-estop'), { latched: 'true', corrupt: /maybe/ });
    t.match(await second.ask('PUT', `/leases/${leaseId}`, {}), { status: 410, body: { outcome: 'stopped' } });
    const reset = { tripId, reason: 'mended', acknowledgeUnverified: true };
    t.match(await second.operate('/estop/reset', reset), { status: 200, body: { epoch: 2 } });
    await untilState(first, 'clear');
  });
});
