// A whole day at the rig, through the real binary and its network: safe, warm, hot, stopped, restarted, reset.
import { randomUUID } from 'node:crypto';
import t from 'tap';
import { isGroupAlive, startService, startWorkload } from '../support/real-service.ts';

// Real processes on a machine that may be busy.
t.setTimeout(600_000);

/** Ticks of a second, so that a test need not wait for ten. */
const FAST = 'interval: 1s\nfastInterval: 1s\n';

t.test(
  'serve: heated, it waits at 80 °C and stops everything at 85 °C, through a restart, until a reset',
  async (t) => {
    let service = await startService(t, { config: FAST });
    const preflight = await service.until(
      'a safe preflight',
      () => service.get('/preflight'),
      (r) => r.status === 200,
    );
    t.match(preflight.body, { safe: true, action: 'PROCEED', simulated: true, profile: 'default' });

    const id = randomUUID();
    const workload = startWorkload(t, id);
    const pgid = workload.pid ?? 0;
    const lease = await service.post('/leases', { id, workload: 'train-7', processGroup: { pgid }, ttlSeconds: 300 });
    t.equal(lease.status, 201, JSON.stringify(lease.body));
    t.match(lease.body, { lease: { id, intensity: 0.8, intensityCap: 0.8 }, result: { safe: true } });

    await service.simulate({ faults: [{ kind: 'gpu-temperature', gpu: 2, valueC: 79.9 }] });
    const warm = await service.ask('PUT', `/leases/${id}`, {});
    t.match(warm.body.result, { action: 'PROCEED' });

    await service.simulate({ faults: [{ kind: 'gpu-temperature', gpu: 2, valueC: 80 }] });
    const hot = await service.until(
      'a renewal that is told to wait',
      () => service.ask('PUT', `/leases/${id}`, {}),
      (r) => r.body.result?.action === 'WAIT_COOLDOWN',
    );
    t.match(hot.body.result, { safe: false, waitSeconds: 60, interlock: { state: 'cooling' } });
    t.match(hot.body.result.findings[0], {
      code: 'over-warning',
      component: 'gpu',
      quantity: 'temperature',
      value: 80,
      limit: 80,
    });
    t.ok(isGroupAlive(pgid), 'a workload that waits lives on');

    await service.simulate({ faults: [{ kind: 'gpu-temperature', gpu: 2, valueC: 85 }] });
    const gone = await service.until(
      'a stopped lease',
      () => service.ask('PUT', `/leases/${id}`, {}),
      (r) => r.status === 410,
    );
    t.match(gone.body, { outcome: 'stopped', reason: /85 °C, hard stop is 85 °C/ });
    await service.until(
      'a dead workload',
      () => service.get('/estop'),
      () => !isGroupAlive(pgid),
    );
    const refused = await service.get('/preflight');
    t.equal(refused.status, 423);
    t.match(refused.body, { action: 'ABORT', interlock: { state: 'tripped' } });
    const { body: estop } = await service.until(
      'a report that it is gone',
      () => service.get('/estop'),
      (r) => r.body.report.actuators['local-processes']?.verified === true,
    );
    t.match(estop, { state: 'tripped', scope: { kind: 'all' }, by: 'monitor', reason: /GPU .* hard stop/ });
    t.match(estop.report.actuators['local-processes'].entries, [{ leaseId: id, state: 'stopped', verified: true }]);

    t.equal(await service.stop(), 0, 'SIGTERM ends with 0');
    service = await startService(t, { config: FAST, stateDir: service.stateDir });
    t.equal((await service.get('/preflight')).status, 423, 'tripped from the first moment on');
    const { tripId } = (await service.get('/estop')).body;
    t.equal(tripId, estop.tripId);

    await service.simulate({ faults: [{ kind: 'gpu-temperature', gpu: 2, valueC: 83 }] });
    const tooHot = await service.operate('/estop/reset', { tripId, reason: 'test' });
    t.equal(tooHot.status, 409);
    t.match(tooHot.body, { code: 'reset-refused', still: [/83 °C, warning is 80 °C/] });
    await service.simulate({ faults: [] });
    const reset = await service.until(
      'a reset',
      () => service.operate('/estop/reset', { tripId, reason: 'fan replaced', acknowledgeUnverified: true }),
      (r) => r.status === 200,
    );
    t.match(reset.body, { tripId });
    t.match((await service.get('/estop')).body, { state: /clear|cooling/, lastTrip: { tripId } });
    t.equal((await service.ask('PUT', `/leases/${id}`, {})).status, 410, 'old leases stay dead');
  },
);

t.test('serve: a lost GPU refuses starts, through a restart, until an operator forgets it', async (t) => {
  const config = `nodes: [{ name: rig }]\n${FAST}`;
  let service = await startService(t, { config });
  await service.until(
    'a safe preflight',
    () => service.get('/preflight'),
    (r) => r.status === 200,
  );
  const before = await service.get('/status');
  const gpus = new Set(
    before.body.nodes[0].readings
      .filter((r: { component: string }) => r.component === 'gpu')
      .map((r: { id: string }) => r.id),
  );
  t.equal(gpus.size, 4);
  await service.simulate({ faults: [{ kind: 'gpu-lost', gpu: 3 }] });
  const lost = await service.get('/preflight');
  t.equal(lost.status, 503);
  t.ok(Number(lost.headers.get('retry-after')) > 0);
  t.match(lost.body.findings[0], { code: 'reading-missing', component: 'gpu', action: 'WAIT_COOLDOWN' });
  const gpu = lost.body.findings[0].id;
  await service.stop('SIGKILL');
  service = await startService(t, { config, stateDir: service.stateDir });
  await service.simulate({ faults: [{ kind: 'gpu-lost', gpu: 3 }] });
  await service.until(
    'the same card missing',
    () => service.get('/preflight'),
    (r) =>
      r.body.findings?.length > 0 &&
      r.body.findings.every((f: { id: string; code: string }) => f.code === 'reading-missing' && f.id === gpu),
  );
  await service.simulate({ faults: [] });
  const there = await service.until(
    'a card that is back',
    () => service.operate('/nodes/rig/forget', { gpu, reason: 'x' }),
    (r) => r.status === 409,
  );
  t.match(there.body, { detail: /ignore/ });
  await service.simulate({ faults: [{ kind: 'gpu-lost', gpu: 3 }] });
  await service.get('/preflight');
  const forgotten = await service.operate('/nodes/rig/forget', { gpu, reason: 'sold' });
  t.equal(forgotten.status, 200, JSON.stringify(forgotten.body));
  t.equal((await service.get('/preflight')).status, 200);
});

t.test(
  'serve: refuses a second process on the same state folder, and ends within 5 s with stuck sockets',
  async (t) => {
    const service = await startService(t);
    await t.rejects(startService(t, { stateDir: service.stateDir }), /exit 1.*holds it/s);
    const { connect } = await import('node:net');
    const { hostname, port } = new URL(service.url);
    for (const request of [
      'GET /status HTTP/1.1\r\nHost: localhost\r\n',
      'POST /estop/reset HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{',
    ]) {
      const socket = connect(Number(port), hostname);
      socket.on('error', () => undefined);
      await new Promise<void>((resolve) => socket.write(request, () => resolve()));
      t.teardown(() => socket.destroy());
    }
    const { WebSocket } = await import('ws');
    const stream = new WebSocket(`${service.url.replace('http', 'ws')}/ws`);
    stream.on('error', () => undefined);
    await new Promise((resolve) => stream.once('open', resolve));
    // A peer that neither reads nor answers the close frame.
    stream.pause();
    const startedMs = performance.now();
    t.equal(await service.stop(), 0);
    t.ok(performance.now() - startedMs < 5_000, `ended after ${Math.round(performance.now() - startedMs)} ms`);
    stream.terminate();
  },
);
