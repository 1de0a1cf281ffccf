// The chart as people install it, by Helm itself, on a real control plane; and the service with the configuration and the
// account that the chart gives it: its updates under live leases, a stop, and what an upgrade during a stop does.
import { randomUUID } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { request } from 'undici';
import { parse, stringify } from 'yaml';
import { isAlive, type Started, start } from '../cli/run-started.ts';
import { helm, lacksHelm, renderChart } from '../support/chart.ts';
import { ClusterRig, deployment, MARK, NODE, untilReady } from '../support/cluster-rig.ts';
import { type AnyObject, lacksControlPlane, startControlPlane } from '../support/control-plane.ts';
import { startFakeKubelet } from '../support/fake-kubelet.ts';
import { startKubeFaultProxy } from '../support/kube-fault-proxy.ts';
import { freshFolder, type RealService, startWorkload } from '../support/real-service.ts';
import { serviceAddress } from '../support/service-address.ts';

// Two cores may be shared with other test files: bounds are wide.
t.setTimeout(600_000);

const OWN = '/api/v1/namespaces/vsf-safety';
const WEBHOOK = '/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/vsf-estop';
const VALUES = {
  callers: {
    workload: [{ kind: 'ServiceAccount', name: 'trainer', namespace: 'gpu' }],
    operator: [{ kind: 'ServiceAccount', name: 'operator', namespace: 'gpu' }],
  },
};

t.test('the chart in a cluster', { skip: lacksControlPlane || lacksHelm, timeout: 590_000 }, async (t) => {
  const plane = await startControlPlane(t, { rights: 'none' });
  const rig = new ClusterRig(t, plane, await startFakeKubelet(t, plane, [NODE]));
  await plane.must('POST', '/api/v1/namespaces', { metadata: { name: 'gpu' } });
  for (const name of ['trainer', 'operator']) {
    await plane.must('POST', '/api/v1/namespaces/gpu/serviceaccounts', { metadata: { name } });
  }
  // A build of the server that does not know its own version would be too old for the chart.
  const version = { major: '1', minor: '20', gitVersion: 'v1.20.2', platform: 'linux/amd64' };
  const proxy = await startKubeFaultProxy(t, plane, ({ path }) =>
    path === '/version' ? { kind: 'answer', status: 200, body: version } : null,
  );
  const kubeconfig = await plane.kubeconfigFor(plane.adminToken, proxy);
  const folder = freshFolder(t);
  const values = join(folder, 'values.json');
  writeFileSync(values, JSON.stringify(VALUES));
  const release = async (...args: readonly string[]): Promise<string> => {
    const ran = await helm([...args, '--namespace=vsf-safety', `--kubeconfig=${kubeconfig}`]);
    if (ran.code !== 0) throw new Error(`helm ${args[0]}: ${ran.err}`);
    return ran.out;
  };

  await t.test('helm install: every object is taken, and the pod is made', async (t) => {
    await release('install', 'vsf-safety', 'helm', `--values=${values}`);
    for (const object of await renderChart(folder, { kubeVersion: '1.20.2', values: VALUES })) {
      t.equal(await plane.lacks(object), false, `${object.kind} ${object.metadata.name}`);
    }
    await rig.until('its pod runs', 60_000, async () => {
      const { items } = await plane.must('GET', `${OWN}/pods`);
      return items.some(({ status }: AnyObject) => status.phase === 'Running');
    });
    const [pod] = (await plane.must('GET', `${OWN}/pods`)).items;
    t.match(pod, {
      metadata: { labels: { 'vsf-workload': 'false' } },
      spec: { serviceAccountName: 'vsf-safety', priorityClassName: 'system-cluster-critical' },
      status: { qosClass: 'Guaranteed' },
    });
    t.equal((await plane.must('GET', `${OWN}/services/vsf-safety`)).spec.publishNotReadyAddresses, true);
  });

  /** As the chart configures it, with a rig to read that a test may have, and its account by a kubeconfig. */
  const account = await plane.kubeconfigFor(await plane.tokenOf('vsf-safety', 'vsf-safety'));
  const told = parse((await rig.configMap('vsf-safety'))['safety.yaml'] ?? '');
  const config = stringify({
    ...told,
    source: 'simulated',
    simulated: { actOnRealWorkloads: true },
    discovery: {},
    interval: '1s',
    kubernetes: { ...told.kubernetes, kubeconfig: account },
  });
  const serve = async (stateDir?: string): Promise<RealService> => {
    const service = await rig.serve({ config, ...(stateDir !== undefined && { stateDir }) });
    service.url = service.url.replace('0.0.0.0', '127.0.0.1');
    return service;
  };
  const headers = async (name: string): Promise<{ authorization: string }> => ({
    authorization: `Bearer ${await plane.tokenOf('gpu', name)}`,
  });
  const trainer = await headers('trainer');
  let service = await serve();
  await untilReady(service, 60_000);

  await t.test(
    'the service has its rights, and lets callers in by the Service’s names and their accounts',
    async (t) => {
      t.match((await service.get('/status')).body, {
        actuators: { kubernetes: { available: true } },
        cluster: { denyRule: 'disarmed', missingRights: [], missingOptionalRights: [] },
      });
      const by = async (host: string): Promise<number> => {
        const { statusCode, body } = await request(`${service.url}/preflight`, { headers: { host: `${host}:8470` } });
        await body.dump();
        return statusCode;
      };
      for (const host of told.listen.hosts) t.equal(await by(host), 200, host);
      t.equal(await by('elsewhere.example'), 403);
      t.equal((await service.post('/estop', {})).status, 403, 'who has no token stops nothing');
      t.equal((await service.post('/leases', { workload: 'x' })).status, 403);
    },
  );

  await t.test('an update of the service ends no run', async (t) => {
    const address = await serviceAddress(t);
    address.point([service]);
    const tokenFile = join(folder, 'token');
    writeFileSync(tokenFile, trainer.authorization.replace('Bearer ', ''));
    const guarded = randomUUID();
    const workload = startWorkload(t, guarded);
    // Far shorter than the 120 s that a guard asks for: renewals fall into each update.
    const options = ['--ttl', '20', '--url', address.url, '--token-file', tokenFile];
    const runs: readonly Started[] = [
      start(t, ['guard', ...options], { VSF_LEASE: guarded }),
      start(t, ['run', ...options, '--', 'sleep', '600']),
    ];
    await rig.create('Deployment', 'train', deployment('train', 2, { ...MARK, 'vsf-lease': guarded }));
    await rig.untilRunning(2);
    const uids = async (): Promise<string[]> => (await rig.marked()).map(({ metadata }) => metadata.uid).sort();
    const pods = await uids();
    const held = async (one: RealService): Promise<AnyObject[]> => (await one.get('/status')).body.leases;
    await service.until(
      'both leases',
      () => service.get('/status'),
      ({ body }) => body.leases.length === 2,
      30_000,
    );
    const ids = (await held(service)).map(({ id }) => id).sort();

    /** Until `leader` leads, and each lease has been renewed with it by its holder. */
    const untilRenewed = async (leader: RealService, what: string): Promise<void> => {
      const sinceMs = Date.now();
      const ends = new Map<string, string>();
      await leader.until(
        `renewals with it (${what})`,
        () => leader.get('/status'),
        ({ body }) => {
          if (!body.leadership.leader) return false;
          // The first that is seen may be the full TTL that a take-over gives.
          const isRenewed = ({ id, expiresAt }: AnyObject): boolean => {
            if (expiresAt !== null && !ends.has(id)) ends.set(id, expiresAt);
            return expiresAt !== null && expiresAt > (ends.get(id) ?? '');
          };
          return body.leases.length === 2 && body.leases.map(isRenewed).every(Boolean);
        },
        60_000,
      );
      t.comment(`${what}: renewed with the new one after ${Date.now() - sinceMs} ms`);
      for (const { child, err } of runs) t.equal(child.exitCode, null, `${what}: ${err()}`);
      t.ok(isAlive(workload.pid ?? 0), what);
      t.same(await uids(), pods, `${what}: the pods run on`);
      t.same((await held(leader)).map(({ id }) => id).sort(), ids, what);
    };
    const end = async (one: RealService): Promise<void> => {
      t.equal(await one.stop('SIGTERM'), 0);
    };

    // A Deployment: the new pod first, with a state of its own.
    let next = await serve();
    address.point([service, next]);
    await next.until(
      'it is ready',
      () => next.get('/readyz'),
      ({ status }) => status === 200,
      60_000,
    );
    await end(service);
    address.point([next]);
    await untilRenewed(next, 'Deployment');

    // A StatefulSet: the old pod ends, and the new one has its volume. Its address is there meanwhile, and nobody answers.
    await end(next);
    const { stateDir } = next;
    next = await serve(stateDir);
    address.point([next]);
    await untilRenewed(next, 'StatefulSet');

    // Two replicas, one after the other, the leader first.
    const other = await serve();
    address.point([next, other]);
    await other.until(
      'it is ready',
      () => other.get('/readyz'),
      ({ status }) => status === 200,
      60_000,
    );
    await end(next);
    // Whichever asks first leads, and here it is to be the one that has never led.
    await other.until(
      'it leads',
      () => other.get('/status'),
      ({ body }) => body.leadership.leader,
      30_000,
    );
    next = await serve(next.stateDir);
    address.point([next, other]);
    await untilRenewed(other, 'two replicas, the first');
    await next.until(
      'it is ready',
      () => next.get('/readyz'),
      ({ status }) => status === 200,
      60_000,
    );
    await end(other);
    await untilRenewed(next, 'two replicas, the second');
    service = next;
    address.point([service]);
    for (const { child, ended } of runs) {
      child.kill('SIGTERM');
      await ended;
    }
    t.same(await held(service), [], 'given back');
  });

  await t.test('a stop by a caller’s account, an upgrade meanwhile, and the way back', async (t) => {
    const { status, body } = await service.ask('POST', '/estop', { reason: 'smoke' }, trainer);
    t.equal(status, 202);
    await rig.until('the pods are gone', 60_000, async () => (await rig.marked()).length === 0);
    t.equal((await rig.read('Deployment', 'train')).spec.replicas, 0);
    const isArmed = async (): Promise<boolean> => {
      const { matchLabels } = (await plane.must('GET', WEBHOOK)).webhooks[0].objectSelector;
      return !('vsf-estop-disarmed' in matchLabels);
    };
    t.ok(await isArmed());
    const { items } = await plane.must('GET', `${OWN}/events`);
    t.ok(items.some(({ reason }: AnyObject) => reason === 'EmergencyStop'));

    // With the service gone, nobody would arm it again.
    await service.stop('SIGKILL');
    await release('upgrade', 'vsf-safety', 'helm', `--values=${values}`, '--set=podAnnotations.rolled=again');
    t.ok(await isArmed(), 'an upgrade opens no door');
    const again = { metadata: { name: 'again', labels: MARK }, spec: { containers: [{ name: 'c', image: 'i' }] } };
    t.ok((await plane.ask('POST', '/api/v1/namespaces/gpu/pods?dryRun=All', again)).status >= 400);

    service = await serve(service.stateDir);
    await service.until(
      'the stop is verified',
      () => service.get('/estop'),
      (reply) => reply.body.report?.state === 'verified',
      90_000,
    );
    const reset = { tripId: body.tripId, reason: 'toast' };
    t.equal((await service.ask('POST', '/estop/reset', reset, trainer)).status, 403, 'not a workload’s');
    t.equal((await service.ask('POST', '/estop/reset', reset, await headers('operator'))).status, 200);
    await rig.until('the rule is disarmed', 15_000, async () => !(await isArmed()));
    await release('upgrade', 'vsf-safety', 'helm', `--values=${values}`);
    t.notOk(await isArmed(), 'nor does one close it');
    await release('uninstall', 'vsf-safety');
    t.equal((await plane.ask('GET', WEBHOOK)).status, 200, 'the rule is kept');
    t.equal((await plane.ask('GET', `${OWN}/serviceaccounts/vsf-safety`)).status, 404);
  });
});
