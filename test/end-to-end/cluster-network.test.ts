// An API server behind a network that corrupts, truncates, drops and delays what it answers. A stop that is ordered then
// reaches this machine's processes at once, the cluster's as soon as anything comes through, and is called verified by
// nothing but what was read.
import { randomUUID } from 'node:crypto';
import t from 'tap';
import { deployment, lacksCluster, NODE, startClusterRig, untilReady } from '../support/cluster-rig.ts';
import { isGroupAlive, type RealService, type Reply, startWorkload } from '../support/real-service.ts';
import { type TcpFault, tcpFaultProxy } from '../support/tcp-fault-proxy.ts';

// Two cores may be shared with other test files.
t.setTimeout(600_000);

const FAULTS: readonly TcpFault[] = ['drop', 'reset', 'truncate', 'corrupt'];
const EACH_FOR_MS = 2_500;

t.test(
  'a stop behind a broken network stops this machine at once and the cluster when it can',
  { skip: lacksCluster },
  async (t) => {
    const rig = await startClusterRig(t);
    const proxy = await tcpFaultProxy(t, Number(new URL(rig.plane.url).port));
    const url = `https://127.0.0.1:${proxy.port}`;
    const kubeconfig = await rig.plane.kubeconfigFor(rig.plane.serviceToken, { url, caFile: rig.plane.caFile });
    await rig.create('Deployment', 'load', deployment('load', 3));
    await rig.untilRunning(3);
    const service = await rig.serve({ kubeconfig });
    await untilReady(service, 60_000);
    const id = randomUUID();
    const pgid = startWorkload(t, id).pid ?? 0;
    const asked = { id, workload: 'local', nodes: [NODE], processGroup: { pgid }, ttlSeconds: 300 };
    t.equal((await service.post('/leases', asked)).status, 201);

    proxy.setFault(FAULTS[0] ?? 'drop');
    const orderedAtMs = performance.now();
    t.equal((await service.post('/estop', { reason: 'behind a broken network' })).status, 202);
    t.ok(performance.now() - orderedAtMs < 1_000, 'the network does not delay the answer');
    await service.until(
      'this machine is stopped',
      () => service.get('/estop'),
      () => !isGroupAlive(pgid),
    );
    for (const fault of FAULTS) {
      proxy.setFault(fault);
      const endMs = performance.now() + EACH_FOR_MS;
      while (performance.now() < endMs) {
        const { status } = await service.get('/preflight');
        t.equal(status, 423, `${fault}`);
        const { body } = await service.get('/estop');
        t.match(body, { state: 'tripped', report: { state: /^(stopping|unverified)$/ } }, `${fault}`);
        await new Promise((done) => setTimeout(done, 500));
      }
      // What is sent may arrive where only its answer is spoilt.
      if (fault === 'drop') t.equal((await rig.marked()).length, 3, 'nothing came through');
    }
    const told = await service.get('/estop');
    const entries: { kind: string; state: string; detail?: string }[] = told.body.report.actuators.kubernetes.entries;
    t.match(
      entries.find(({ kind }) => kind === 'Cluster'),
      { state: 'failed', detail: /still trying/ },
      'and it says so',
    );

    proxy.setFault({ delayMs: 300 });
    const isStopped = async (): Promise<boolean> =>
      (await rig.read('Deployment', 'load')).spec.replicas === 0 && (await rig.marked()).length === 0;
    const tookMs = await rig.until('slow is enough', 60_000, isStopped);
    t.comment(`stopped ${tookMs} ms after answers came again, 300 ms late each`);
  },
);

t.test(
  'a stop that is pressed where a reset has not been heard of outlives that reset',
  { skip: lacksCluster },
  async (t) => {
    const rig = await startClusterRig(t);
    const first = await rig.serve();
    await untilReady(first, 60_000);
    const proxy = await tcpFaultProxy(t, Number(new URL(rig.plane.url).port));
    const url = `https://127.0.0.1:${proxy.port}`;
    const kubeconfig = await rig.plane.kubeconfigFor(rig.plane.serviceToken, { url, caFile: rig.plane.caFile });
    let second = await rig.serve({ kubeconfig });
    const until = (service: RealService, what: string, isSo: (body: Reply['body']) => boolean): Promise<Reply> =>
      service.until(
        what,
        () => service.get('/estop'),
        ({ body }) => isSo(body),
        60_000,
      );
    const resetAt = (service: RealService, tripId: string): Promise<Reply> =>
      service.until(
        `the reset of ${tripId} is taken`,
        () => service.operate('/estop/reset', { tripId, reason: 'all well', acknowledgeUnverified: true }),
        ({ status }) => status === 200,
        60_000,
      );
    const { tripId } = (await first.post('/estop', { reason: 'smoke' })).body;
    await until(second, 'the standby has the trip', (body) => body.tripId === tripId);

    proxy.setFault('drop');
    await resetAt(first, tripId);
    t.match((await second.get('/estop')).body, { state: 'tripped', tripId }, 'it cannot know');
    const pressed = await second.post('/estop', { reason: 'flames' });
    t.match(pressed, { status: 202, body: { tripId, joined: true, recorded: true } });
    await second.stop('SIGKILL');
    second = await rig.serve({ kubeconfig, stateDir: second.stateDir });
    await until(second, 'it is tripped after a kill', (body) => body.state === 'tripped');

    proxy.setFault('none');
    const isAnew = (body: Reply['body']): boolean => body.state === 'tripped' && body.tripId !== tripId;
    const anew = await until(second, 'it is tripped anew', isAnew);
    t.match(anew.body.reason, new RegExp(`^flames \\(joined trip ${tripId}`));
    await until(first, 'the leader is stopped by it, too', (body) => body.tripId === anew.body.tripId);
    await resetAt(first, anew.body.tripId);
    await until(second, 'a reset that knew of it ends it', (body) => body.state !== 'tripped');
  },
);
