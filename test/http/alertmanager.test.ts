import type { InjectOptions } from 'fastify';
import t from 'tap';
import { stoppingAlerts } from '../../src/http/routes/alertmanager.ts';
import { bearer, OWN_TOKEN, startApp, type TestApp, TOKENS } from '../support/test-app.ts';

/** The clock of the test app begins at this wall time. */
const START = Date.UTC(2026, 0, 1);
const at = (seconds: number): string => new Date(START + seconds * 1000).toISOString();

const alert = (change: object = {}, labels: object = {}): object => ({
  status: 'firing',
  labels: { alertname: 'RoomTooHot', severity: 'critical', vsf_estop: 'true', ...labels },
  annotations: {},
  startsAt: at(0),
  endsAt: '0001-01-01T00:00:00Z',
  generatorURL: 'http://prometheus:9090/graph',
  ...change,
});
const webhook = (...alerts: unknown[]): InjectOptions & { url: string } => ({
  method: 'POST',
  url: '/estop/alertmanager',
  payload: { version: '4', groupKey: '{}:{}', status: 'firing', receiver: 'vsf', alerts },
});

async function reset({ ask, actuator, pass }: TestApp, tripId: string): Promise<void> {
  actuator.verify();
  await pass(0);
  const payload = { tripId, reason: 'aired the room' };
  await ask({ method: 'POST', url: '/estop/reset', payload, headers: bearer(OWN_TOKEN) });
}

t.test('POST /estop/alertmanager trips everything on a firing alert with the label, and names it', async (t) => {
  const { ask, supervisor } = await startApp(t);
  const answer = await ask(webhook(alert({}, { vsf_estop: 'false' }), alert(), alert({}, { alertname: 'Smoke' })));
  t.equal(answer.statusCode, 202, answer.body);
  t.match(answer.json(), { joined: false, report: { state: 'stopping' } });
  t.match(
    [...supervisor.state.trips.values()],
    [{ scope: { kind: 'all' }, cause: 'alert', reason: 'Alertmanager: RoomTooHot, Smoke', by: 'alertmanager (local)' }],
  );
  t.match((await ask(webhook(alert()))).json(), { joined: true }, 'its repetition joins');
});

t.test('POST /estop/alertmanager ignores whatever is no order to stop, with 200 and why', async (t) => {
  const { ask, supervisor } = await startApp(t);
  const ignored = [
    webhook(),
    webhook(alert({ status: 'resolved' })),
    webhook(alert({}, { vsf_estop: 'yes' })),
    webhook(alert({}, { vsf_estop: true })),
    webhook(alert({ labels: null })),
    webhook(null, 7, 'x', []),
    { ...webhook(), payload: { alerts: 'many' } },
    { ...webhook(), payload: {} },
    { ...webhook(), payload: '[1]', headers: { 'content-type': 'application/json' } },
    { ...webhook(), payload: 'null', headers: { 'content-type': 'application/json' } },
  ];
  for (const request of ignored) {
    const answer = await ask(request);
    t.equal(answer.statusCode, 200, JSON.stringify(request));
    t.match(answer.json(), { ignored: /vsf_estop/ });
  }
  t.equal(supervisor.state.trips.size, 0);
});

t.test('POST /estop/alertmanager does not undo a reset: only an alert that began after it trips', async (t) => {
  const running = await startApp(t);
  const { ask, supervisor, pass } = running;
  const { tripId } = (await ask(webhook(alert()))).json();
  await reset(running, tripId);
  const resetAt = supervisor.state.lastResetWallMs ?? 0;
  t.ok(resetAt > START);
  const stamp = (ms: number): string => new Date(resetAt + ms).toISOString();
  for (const startsAt of [at(0), stamp(0), 'yesterday', undefined, 7]) {
    const answer = await ask(webhook(alert({ startsAt })));
    t.equal(answer.statusCode, 200, String(startsAt));
    t.match(answer.json(), { ignored: /after the last reset/ });
    const isRead = typeof startsAt === 'string' && startsAt !== 'yesterday';
    t.match(answer.json(), { ignored: isRead ? /^no alert/ : /^RoomTooHot .* nothing readable in startsAt/ });
  }
  await pass(60_000);
  t.equal((await ask(webhook(alert(), alert({ startsAt: stamp(1) })))).statusCode, 202);
});

t.test('POST /estop/alertmanager ignores what is no webhook, and misses no alert for its form', async (t) => {
  const { ask, supervisor } = await startApp(t);
  const headers = { 'content-type': 'application/json' };
  for (const payload of ['{"alerts":[', '', 'null', '{"__proto__":{"alerts":[]}}']) {
    const answer = await ask({ ...webhook(), payload, headers });
    t.equal(answer.statusCode, 200, payload);
    t.match(answer.json(), { ignored: /^the body (is no JSON|has no list of alerts), so no alert/ }, payload);
  }
  t.equal(supervisor.state.trips.size, 0);
  // A group of thousands, with a label that a strict parser would refuse, and the wrong content type.
  const padding = Array.from({ length: 4_000 }, (_, i) =>
    alert({}, { alertname: `A${i}`, vsf_estop: 'no', text: 'x'.repeat(400) }),
  );
  const body = { alerts: [...padding, alert({}, { alertname: 'Smoke', constructor: 'x' })] };
  const big = JSON.stringify(body).replace('"alerts"', '"__proto__":1,"alerts"');
  t.ok(big.length > 1024 * 1024);
  const answer = await ask({ ...webhook(), payload: big, headers: { 'content-type': 'text/plain' } });
  t.equal(answer.statusCode, 202, answer.body);
  t.match([...supervisor.state.trips.values()], [{ reason: 'Alertmanager: Smoke' }]);
  t.match((await ask({ ...webhook(), headers: bearer(TOKENS.viewer) })).json(), { status: 403 });
});

t.test('stoppingAlerts() bounds what it is told of', async (t) => {
  const alerts = stoppingAlerts(
    { alerts: [alert({}, { alertname: 'x'.repeat(500) }), alert({}, { alertname: '' })] },
    null,
  );
  t.same(
    alerts.map(({ name }) => name),
    ['x'.repeat(100), 'an alert without a name'],
  );
  const many = Array.from({ length: 8 }, (_, i) => alert({}, { alertname: `A${i}` }));
  const { ask, supervisor } = await startApp(t);
  await ask(webhook(...many));
  t.match([...supervisor.state.trips.values()], [{ reason: 'Alertmanager: A0, A1, A2, A3, A4 and 3 more' }]);
});
