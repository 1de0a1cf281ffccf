import type { InjectOptions } from 'fastify';
import t from 'tap';
import { bearer, INTERVAL_MS, LEADING, NODE, OWN_TOKEN, startApp, TOKENS } from '../support/test-app.ts';

const OPERATOR = bearer(OWN_TOKEN);
const order = (url: string, payload?: object): InjectOptions & { url: string } => ({
  method: 'POST',
  url,
  ...(payload && { payload }),
  headers: OPERATOR,
});

t.test('POST /estop/reset is refused with everything that is still wrong, until it is right', async (t) => {
  const { ask, rig, actuator, pass, supervisor, disk } = await startApp(t);
  rig.apply({ faults: [{ kind: 'cpu-temperature', valueC: 60 }] });
  await pass(INTERVAL_MS);
  rig.apply({ faults: [{ kind: 'cpu-temperature', valueC: 96 }] });
  await pass(INTERVAL_MS);
  const { tripId } = (await ask({ url: '/estop' })).json();
  const reset = order('/estop/reset', { tripId, reason: 'fan replaced' });
  const hot = await ask(reset);
  t.equal(hot.statusCode, 409);
  t.match(hot.json(), {
    code: 'reset-refused',
    still: [/96 °C/, /the stop is stopping/],
    detail: /^Cannot reset trip .*96 °C/,
  });

  // A fall of over 40 °C at once would rightly not be believed.
  rig.apply({ faults: [{ kind: 'cpu-temperature', valueC: 70 }] });
  await pass(INTERVAL_MS);
  rig.apply({ faults: [] });
  t.match((await ask(reset)).json().still, [/the stop is stopping/], 'read anew, so one reason less');
  actuator.verify();
  await pass(0);
  const done = await ask(reset);
  t.equal(done.statusCode, 200, done.body);
  t.same(done.json(), { tripId, epoch: 1, recorded: true });
  t.match(disk.written.join('\n'), /fan replaced/);
  t.equal(supervisor.state.trips.size, 0);
  t.match((await ask(reset)).json(), { status: 409, code: 'trip-unknown', active: [] }, 'once is enough');
});

t.test('POST /estop/reset says who leads where the lead was lost while it was judged', async (t) => {
  const cluster = {
    facts: () => ({ priorTrips: {} }) as never,
    reset: async () => ({ kind: 'not-leader' }) as const,
    restore: async () => [],
  };
  const { ask, supervisor } = await startApp(t, { cluster });
  const { tripId } = (await ask({ method: 'POST', url: '/estop' })).json();
  const reset = order('/estop/reset', { tripId, reason: 'all well' });
  t.match((await ask(reset)).json(), { status: 409, code: 'reset-refused' }, 'while it leads, what is still wrong');
  const submit = supervisor.submit.bind(supervisor);
  supervisor.submit = (event) => {
    const submitted = submit(event);
    const leadership = { state: 'standby', identity: 'vsf-safety-1', leader: 'vsf-safety-2' } as const;
    if (event.kind === 'reset-requested') submit({ kind: 'cluster-reported', cluster: { ...LEADING, leadership } });
    return submitted;
  };
  const answer = (await ask(reset)).json();
  t.match(answer, { status: 503, code: 'not-leader', detail: /vsf-safety-2 does$/ });
});

t.test('POST /estop/reset may acknowledge a stop that nobody verified', async (t) => {
  const { ask } = await startApp(t);
  const { tripId } = (await ask({ method: 'POST', url: '/estop' })).json();
  const answer = await ask(order('/estop/reset', { tripId, reason: 'looked myself', acknowledgeUnverified: true }));
  t.equal(answer.statusCode, 200);
});

t.test('POST /estop/reset says when it is not on the disk', async (t) => {
  const { ask, disk, actuator, pass } = await startApp(t);
  const { tripId } = (await ask({ method: 'POST', url: '/estop' })).json();
  actuator.verify();
  await pass(0);
  disk.mode = 'hangs';
  const asked = ask(order('/estop/reset', { tripId, reason: 'test' }));
  await pass(2_000);
  t.same((await asked).json(), { tripId, epoch: 1, recorded: false });
});

t.test('POST /estop/reset takes a trip, a reason and nothing unknown', async (t) => {
  const { ask } = await startApp(t);
  const { tripId } = (await ask({ method: 'POST', url: '/estop' })).json();
  for (const payload of [
    {},
    { tripId },
    { reason: 'x' },
    { tripId, reason: '' },
    { tripId, reason: '   ' },
    { tripId, reason: 'x', force: true },
  ]) {
    t.match((await ask(order('/estop/reset', payload))).json(), { status: 400, code: 'invalid-request' });
  }
  const wrong = await ask(order('/estop/reset', { tripId: 'another', reason: 'x' }));
  t.match(wrong.json(), { status: 409, code: 'trip-unknown', active: [tripId] });
});

t.test('POST /nodes/:node/forget forgets a lost GPU, and refuses one that is there by naming `ignore`', async (t) => {
  const { ask, rig, pass } = await startApp(t);
  const [gpu] = rig.describe().gpus;
  t.ok(gpu);
  const forget = order(`/nodes/${NODE}/forget`, { gpu: gpu?.id, reason: 'sent in for repair' });
  const present = await ask(forget);
  t.match(present.json(), { status: 409, code: 'forget-refused', detail: /ignore/ });
  rig.apply({ faults: [{ kind: 'gpu-lost', gpu: 0 }] });
  await pass(INTERVAL_MS);
  t.equal((await ask({ url: '/preflight' })).statusCode, 503, 'a lost GPU refuses starts');
  const forgotten = await ask(forget);
  t.equal(forgotten.statusCode, 200, forgotten.body);
  t.same(forgotten.json(), { node: NODE, gpus: [gpu?.id] });
  t.equal((await ask({ url: '/preflight' })).statusCode, 200);
  t.match((await ask(forget)).json(), {
    status: 400,
    code: 'unknown-gpu',
    detail: /no GPU is called "/,
    known: [/^GPU-/],
  });
});

t.test('POST /nodes/:node/forget knows its nodes and its fields', async (t) => {
  const { ask } = await startApp(t);
  const unknown = await ask(order('/nodes/nowhere/forget', { reason: 'gone' }));
  t.match(unknown.json(), { status: 400, code: 'unknown-node', nodes: ['nowhere'] });
  t.match((await ask(order(`/nodes/${NODE}/forget`, { reason: 'x' }))).json(), { status: 409, code: 'forget-refused' });
  for (const payload of [{}, { gpu: '', reason: 'x' }, { gpu: 1, reason: 'x' }, { reason: 'x', all: true }]) {
    t.match((await ask(order(`/nodes/${NODE}/forget`, payload))).json(), { status: 400, code: 'invalid-request' });
  }
});

t.test('POST /simulation changes the rig whole or not at all', async (t) => {
  const { ask, rig } = await startApp(t);
  const done = await ask(order('/simulation', { load: 0.5, faults: [{ kind: 'fan-failed', gpu: 1 }] }));
  t.equal(done.statusCode, 200, done.body);
  t.match(done.json(), { node: NODE, load: 0.5, faults: [{ kind: 'fan-failed', gpu: 1 }] });
  t.match((await ask(order('/simulation'))).json(), { load: 0.5 }, 'nothing asked, nothing changed');
  for (const payload of [{ load: 2 }, { faults: [{ kind: 'meltdown' }] }, { load: 0.1, faults: 'none' }, { wind: 3 }]) {
    const wrong = await ask(order('/simulation', payload));
    t.match(wrong.json(), { status: 400, code: 'simulation-invalid', detail: /^Cannot/ });
  }
  t.equal(rig.describe().load, 0.5);
});

t.test('POST /simulation is refused where the hardware is real', async (t) => {
  const { ask } = await startApp(t, { real: true });
  t.match((await ask(order('/simulation', { load: 1 }))).json(), { status: 409, code: 'not-simulated' });
});

t.test('POST /estop/reset, /nodes/:node/forget and /simulation are an operator’s', async (t) => {
  const { ask } = await startApp(t);
  for (const url of ['/estop/reset', `/nodes/${NODE}/forget`, '/simulation']) {
    for (const headers of [{}, bearer(TOKENS.workload), bearer(TOKENS.viewer)]) {
      t.match((await ask({ ...order(url, {}), headers })).json(), { status: 403, code: 'role-insufficient' }, url);
    }
    t.not((await ask({ ...order(url, {}), headers: bearer(TOKENS.operator) })).statusCode, 403, url);
  }
});
