import type { InjectOptions } from 'fastify';
import t from 'tap';
import { askAndGo } from '../support/impatient-client.ts';
import { bearer, INTERVAL_MS, NODE, startApp, type TestApp, TOKENS } from '../support/test-app.ts';

const ID = '0b0e7a52-8f0e-4f8e-9d7c-2b1f5f3f9a01';
const take = (payload: object, headers: Record<string, string> = {}): InjectOptions & { url: string } => ({
  method: 'POST',
  url: '/leases',
  payload,
  headers,
});
const renew = (payload?: object, headers: Record<string, string> = {}): InjectOptions & { url: string } => ({
  method: 'PUT',
  url: `/leases/${ID}`,
  ...(payload && { payload }),
  headers,
});
const GIVE_BACK = { method: 'DELETE', url: `/leases/${ID}` } as const;

t.test('POST /leases grants with 201, the lease and the result', async (t) => {
  const { ask, supervisor, disk } = await startApp(t);
  const answer = await ask(
    take({ workload: 'train-7', intensity: 0.6, nodes: [NODE], gpus: ['00000000:02:00.0'], maxDurationSeconds: 3600 }),
  );
  t.equal(answer.statusCode, 201, answer.body);
  const { lease, result } = answer.json();
  t.match(lease, {
    id: /^[0-9a-f-]{36}$/,
    workload: 'train-7',
    identity: 'local',
    nodes: [NODE],
    gpus: ['GPU-5f5f0000-0000-4000-8000-000000000001'],
    intensity: 0.6,
    intensityCap: 0.6,
    ttlSeconds: 30,
    maxDurationSeconds: 3600,
    processGroup: null,
    grantedAt: '2026-01-01T00:00:10.000Z',
    expiresAt: '2026-01-01T00:00:40.000Z',
    endsAt: '2026-01-01T01:00:10.000Z',
    simulated: true,
  });
  t.match(result, { safe: true, unprotected: [{ code: 'no-actuator' }] });
  t.equal(supervisor.state.leases.has(lease.id), true);
  t.match(disk.written.join('\n'), lease.id, 'it is on the disk');
});

t.test('POST /leases refuses a GPU that no node asked for has, an index above all', async (t) => {
  const { ask, supervisor } = await startApp(t);
  for (const gpu of ['0', 'GPU-ffffffff-0000-4000-8000-000000000000', '0000:99:00.0']) {
    const detail = `no GPU is called ${JSON.stringify(gpu)}, only GPU-`;
    t.match(
      (await ask(take({ workload: 'w', gpus: [gpu] }))).json(),
      { status: 400, code: 'unknown-gpu', detail },
      gpu,
    );
  }
  t.equal(supervisor.state.leases.size, 0);
});

t.test('POST /leases takes a UUID in capitals for the same lease', async (t) => {
  const { ask, supervisor } = await startApp(t);
  const id = 'abcdef01-0000-4000-8000-000000000abc';
  t.equal((await ask(take({ id: id.toUpperCase(), workload: 'w' }))).statusCode, 201);
  t.equal((await ask(take({ id, workload: 'w' }))).statusCode, 201);
  t.same([...supervisor.state.leases.keys()], [id]);
  t.equal((await ask({ method: 'PUT', url: `/leases/${id.toUpperCase()}`, payload: {} })).statusCode, 200);
});

t.test('POST /leases grants the profile’s maximum when no intensity is asked for', async (t) => {
  const { ask } = await startApp(t);
  t.equal((await ask(take({ workload: 'w' }))).json().lease.intensity, 0.8);
});

t.test('POST /leases with the same id gives the same lease, to its holder alone', async (t) => {
  const { ask, supervisor } = await startApp(t);
  const first = await ask(take({ id: ID, workload: 'train-7' }));
  const again = await ask(take({ id: ID, workload: 'another name' }));
  t.equal(again.statusCode, 201);
  t.same(again.json().lease, first.json().lease);
  t.equal(supervisor.state.leases.size, 1);
  const other = await ask(take({ id: ID, workload: 'train-7' }, bearer(TOKENS.workload)));
  t.match(other.json(), { status: 403, code: 'lease-forbidden' });
});

t.test('POST /leases refuses with preflight’s status and the result', async (t) => {
  const { ask, rig, supervisor } = await startApp(t);
  const over = await ask(take({ workload: 'w', intensity: 0.9 }));
  t.equal(over.statusCode, 503);
  t.equal(over.headers['retry-after'], undefined);
  t.match(over.json(), { result: { safe: false, intensityCap: 0.8 } });
  rig.apply({ faults: [{ kind: 'cpu-temperature', valueC: 90 }] });
  const warm = await ask(take({ workload: 'w' }));
  t.equal(warm.statusCode, 503);
  t.equal(warm.headers['retry-after'], '60');
  t.match(warm.json(), { result: { safe: false, action: 'WAIT_COOLDOWN' } });
  supervisor.submit({ kind: 'stop-requested', nodes: null, cause: 'manual', reason: 'test', by: 'tester' });
  const tripped = await ask(take({ workload: 'w' }));
  t.equal(tripped.statusCode, 423);
  t.match(tripped.json(), { result: { interlock: { state: 'tripped' } } });
  t.equal(supervisor.state.leases.size, 0);
});

t.test('POST /leases takes only what is documented', async (t) => {
  const { ask, supervisor } = await startApp(t);
  const wrong: Record<string, object> = {
    'no workload': {},
    'an empty workload': { workload: '' },
    'a blank workload': { workload: '   ' },
    'a workload of 201 characters': { workload: 'x'.repeat(201) },
    'a workload with a line break': { workload: 'a\nb' },
    'a workload with a hidden direction mark': { workload: 'a\u202eb' },
    'an id that is no UUID': { workload: 'w', id: 'train-7' },
    'an id as a URN': { workload: 'w', id: `urn:uuid:${ID}` },
    'a TTL below 5 s': { workload: 'w', ttlSeconds: 4.9 },
    'a TTL over 300 s': { workload: 'w', ttlSeconds: 301 },
    'a TTL as a text': { workload: 'w', ttlSeconds: '30' },
    'a duration of 0': { workload: 'w', maxDurationSeconds: 0 },
    'a duration over a month': { workload: 'w', maxDurationSeconds: 2_592_001 },
    'no node': { workload: 'w', nodes: [] },
    'a node that is no text': { workload: 'w', nodes: [1] },
    'too many nodes': { workload: 'w', nodes: Array.from({ length: 1001 }, (_, i) => `n${i}`) },
    'an unknown field': { workload: 'w', tlSeconds: 10 },
    'a process group without number': { workload: 'w', id: ID, processGroup: {} },
    'a process group that is a text': { workload: 'w', id: ID, processGroup: { pgid: '4711' } },
  };
  for (const [what, payload] of Object.entries(wrong)) {
    const answer = await ask(take(payload));
    t.equal(answer.statusCode, 400, what);
    t.match(answer.json(), { code: 'invalid-request', detail: /^Cannot take POST \/leases: body/ }, what);
  }
  t.match((await ask(take({ workload: 'w', nodes: ['nowhere'] }))).json(), { code: 'unknown-node' });
  t.equal(supervisor.state.leases.size, 0);
  for (const [what, payload] of Object.entries({
    'the bounds of TTL': { workload: 'w', ttlSeconds: 5 },
    'the other bound': { workload: 'w', ttlSeconds: 300, maxDurationSeconds: 2_592_000 },
    '200 characters of any script': { workload: '訓練'.repeat(100) },
    'a UUID in upper case': { workload: 'w', id: ID.toUpperCase() },
  })) {
    t.equal((await ask(take(payload))).statusCode, 201, what);
  }
});

t.test('POST /leases gives back what the journal does not take, and says so', async (t) => {
  const { ask, supervisor, disk, pass } = await startApp(t);
  disk.mode = 'fails';
  const failed = await ask(take({ id: ID, workload: 'w' }));
  t.equal(failed.statusCode, 503);
  t.match(failed.json(), { code: 'journal-unavailable' });
  t.ok(failed.headers['retry-after']);
  t.equal(supervisor.state.leases.size, 0);

  disk.mode = 'works';
  await pass(INTERVAL_MS);
  disk.mode = 'hangs';
  const id = ID.replace('01', '02');
  const hanging = ask(take({ id, workload: 'w' }));
  const repeated = ask(take({ id, workload: 'w' }));
  await pass(1_999);
  t.equal(supervisor.state.leases.size, 1, 'granted in memory, and not answered');
  await pass(1);
  t.match((await hanging).json(), { status: 503, code: 'journal-unavailable' });
  t.match(
    (await repeated).json(),
    { status: 503, code: 'journal-unavailable' },
    'a repeated request waits for the same writing',
  );
  t.equal(supervisor.state.leases.size, 0);

  disk.recover();
  await pass(INTERVAL_MS);
  t.equal((await ask(take({ id, workload: 'w' }))).statusCode, 201, 'whoever asks again by that id asks anew');
});

t.test('POST /leases does not answer 201 for a lease that a trip ended while it was written', async (t) => {
  const { ask, supervisor, disk, pass } = await startApp(t);
  disk.mode = 'hangs';
  const asked = ask(take({ id: ID, workload: 'w' }));
  await pass(1_000);
  supervisor.submit({ kind: 'stop-requested', nodes: null, cause: 'manual', reason: 'smoke', by: 'tester' });
  disk.recover();
  await pass(0);
  t.match((await asked).json(), { status: 410, code: 'lease-ended', outcome: 'stopped', reason: 'smoke' });
});

t.test('POST /leases grants nothing to whoever has gone, and acts on what was seen for him all the same', async (t) => {
  const testApp = await startApp(t);
  const { supervisor, rig, actuator } = testApp;
  const asked = JSON.stringify({ id: ID, workload: 'impatient', nodes: [NODE] });

  rig.apply({ faults: [{ kind: 'cpu-temperature', valueC: 70 }] });
  await askAndGo(testApp, 'POST /leases', asked);
  t.equal(supervisor.state.leases.size, 0);
  t.equal(supervisor.state.endedLeases.size, 0, 'nothing was granted that would have to be taken back');

  rig.apply({ faults: [{ kind: 'cpu-temperature', valueC: 95 }] });
  await askAndGo(testApp, 'POST /leases', asked);
  t.equal(actuator.orders.length, 1, 'a hard stop counts, whoever had it looked for');
});

t.test('POST /leases refuses a known-bad journal with its result', async (t) => {
  const { ask, supervisor } = await startApp(t);
  supervisor.submit({ kind: 'journal-reported', ok: false, detail: 'ENOSPC' });
  const answer = await ask(take({ workload: 'w' }));
  t.equal(answer.statusCode, 503);
  t.match(answer.json(), { result: { findings: [{ code: 'journal-unavailable' }] } });
});

t.test('POST /leases pins a process group on loopback, by the id that its leader is marked with', async (t) => {
  const asked: unknown[] = [];
  const { ask, actuator, supervisor } = await startApp(t, {
    verifyProcessGroup: async (group) => {
      asked.push(group);
      if (group.pgid === 1) return { ok: false, code: 'process-group-invalid', detail: 'Cannot take process group 1' };
      return { ok: true, group: { pgid: group.pgid, startTicks: 99 } };
    },
  });
  const granted = await ask(take({ id: ID, workload: 'w', processGroup: { pgid: 4711 } }));
  t.match(granted.json(), { lease: { processGroup: { pgid: 4711, startTicks: 99 } } });
  t.same(asked, [{ pgid: 4711, leaseId: ID }]);
  await ask(take({ id: ID, workload: 'w', processGroup: { pgid: 4711 } }));
  t.equal(asked.length, 1, 'a repeated request keeps what its lease has: the leader may be gone by now');
  const refused = await ask(take({ id: ID.replace('01', '02'), workload: 'w', processGroup: { pgid: 1 } }));
  t.match(refused.json(), { status: 400, code: 'process-group-invalid' });
  const anonymous = await ask(take({ workload: 'w', processGroup: { pgid: 4711 } }));
  t.match(anonymous.json(), { status: 400, code: 'process-group-needs-id' });
  supervisor.submit({ kind: 'stop-requested', nodes: null, cause: 'manual', reason: 'test', by: 'tester' });
  t.match(actuator.orders[0]?.targets, [{ leaseId: ID, processGroup: { pgid: 4711, startTicks: 99 } }]);
});

t.test('POST /leases takes no process group where others than this machine can ask', async (t) => {
  const { ask } = await startApp(t, { listen: { host: '0.0.0.0' } });
  const answer = await ask(take({ id: ID, workload: 'w', processGroup: { pgid: 4711 } }, bearer(TOKENS.workload)));
  t.match(answer.json(), { status: 400, code: 'process-group-not-local', detail: /0\.0\.0\.0/ });
});

t.test('PUT /leases/:id renews without a body and says what to do now', async (t) => {
  const { ask, pass, rig } = await startApp(t);
  await ask(take({ id: ID, workload: 'w' }));
  await pass(INTERVAL_MS);
  const renewed = await ask(renew());
  t.equal(renewed.statusCode, 200);
  t.match(renewed.json(), { lease: { id: ID, expiresAt: '2026-01-01T00:00:50.000Z' }, result: { action: 'PROCEED' } });
  rig.apply({ faults: [{ kind: 'gpu-power', gpu: 0, valueW: 260 }] });
  await pass(INTERVAL_MS);
  const cut = await ask(renew({}));
  t.equal(cut.statusCode, 200, 'a renewal is no start: the holder is told, and goes on');
  t.match(cut.json(), {
    lease: { intensity: 0.8, intensityCap: 0.4 },
    result: { action: 'REDUCE_INTENSITY', intensityCap: 0.4 },
  });
});

t.test(
  'PUT /leases/:id judges a higher intensity as a start, and renews unchanged where that is refused',
  async (t) => {
    const { ask, pass, rig } = await startApp(t);
    await ask(take({ id: ID, workload: 'w', intensity: 0.3 }));
    t.equal((await ask(renew({ intensity: 0.6 }))).json().lease.intensity, 0.6);
    await pass(1_000);
    rig.apply({ faults: [{ kind: 'cpu-utilization', ratio: 0.9 }] });
    const refused = await ask(renew({ intensity: 0.7 }));
    t.equal(refused.statusCode, 200);
    t.match(refused.json(), {
      lease: { intensity: 0.6, expiresAt: '2026-01-01T00:00:41.000Z' },
      result: { safe: false },
    });
    t.equal((await ask(renew({ intensity: 0.2 }))).json().lease.intensity, 0.2, 'less is always granted');
    for (const intensity of [0, 1.1, '0.5']) t.equal((await ask(renew({ intensity }))).statusCode, 400);
  },
);

t.test('PUT /leases/:id refuses a renewal by an evaluation of over 30 s ago, and extends nothing', async (t) => {
  const running = await startApp(t);
  const { ask, pass, supervisor } = running;
  await ask(take({ id: ID, workload: 'w', ttlSeconds: 300 }));
  await stopMonitor(running);
  await pass(30_000);
  t.equal((await ask(renew())).statusCode, 200, 'at 30 s it still counts');
  const before = supervisor.state.leases.get(ID)?.expiresAtMs;
  await pass(1);
  const answer = await ask(renew());
  t.match(answer.json(), { status: 503, code: 'evaluation-too-old', detail: /30 s/ });
  t.ok(answer.headers['retry-after']);
  t.equal(supervisor.state.leases.get(ID)?.expiresAtMs, before);
});

async function stopMonitor({ parts, pass }: TestApp): Promise<void> {
  const stopped = (parts.monitor as unknown as { stop(): Promise<void> }).stop();
  await pass(0);
  await stopped;
}

t.test('PUT, DELETE and GET /leases/:id tell ended, foreign and unknown leases apart', async (t) => {
  const { ask, pass, supervisor } = await startApp(t);
  for (const request of [renew(), GIVE_BACK, { url: `/leases/${ID}` }, { url: '/leases/nonsense' }]) {
    t.match((await ask(request)).json(), { status: 404, code: 'lease-unknown' });
  }
  await ask(take({ id: ID, workload: 'w', ttlSeconds: 5 }));
  for (const method of ['PUT', 'DELETE'] as const) {
    const foreign = await ask({ method, url: `/leases/${ID}`, headers: bearer(TOKENS.workload) });
    t.match(foreign.json(), { status: 403, code: 'lease-forbidden' });
  }
  t.match((await ask({ url: `/leases/${ID}`, headers: bearer(TOKENS.viewer) })).json(), {
    lease: { id: ID },
    result: {},
  });
  await pass(5_000);
  for (const request of [renew(), GIVE_BACK, { url: `/leases/${ID}` }, take({ id: ID, workload: 'w' })]) {
    const lapsed = await ask(request);
    t.equal(lapsed.statusCode, 410);
    t.match(lapsed.json(), { code: 'lease-ended', outcome: 'lapsed', reason: /not renewed within 5 s/ });
  }
  const id = ID.replace('01', '02');
  await ask(take({ id, workload: 'w' }));
  supervisor.submit({ kind: 'stop-requested', nodes: null, cause: 'manual', reason: 'smoke', by: 'tester' });
  const stopped = await ask({ method: 'PUT', url: `/leases/${id}` });
  t.match(stopped.json(), { status: 410, outcome: 'stopped', reason: 'smoke' });
});

t.test('DELETE /leases/:id gives back with 204, as often as it is asked', async (t) => {
  const { ask, supervisor } = await startApp(t);
  await ask(take({ id: ID, workload: 'w' }));
  for (const _ of [1, 2]) {
    const answer = await ask(GIVE_BACK);
    t.equal(answer.statusCode, 204);
    t.equal(answer.body, '');
  }
  t.equal(supervisor.state.leases.size, 0);
  t.match((await ask(renew())).json(), { status: 410, outcome: 'released' });
});

t.test('PUT /leases/:id tells a revoked lease by its maximum duration, and that it is stopped alone', async (t) => {
  const { ask, pass, actuator } = await startApp(t);
  const other = ID.replace('01', '02');
  await ask(take({ id: ID, workload: 'w', ttlSeconds: 300, maxDurationSeconds: 20, processGroup: { pgid: 4711 } }));
  await ask(take({ id: other, workload: 'another', ttlSeconds: 300 }));
  await pass(20_000);
  t.match((await ask(renew())).json(), { status: 410, outcome: 'revoked', reason: /maximum duration of 20 s/ });
  t.equal((await ask({ method: 'PUT', url: `/leases/${other}` })).statusCode, 200);
  t.match(actuator.orders, [{ orderId: `lapse-${ID}`, what: 'leases', targets: [{ leaseId: ID }] }]);
  t.equal(actuator.orders.length, 1);
});
