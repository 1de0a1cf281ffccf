import t from 'tap';
import { parseTime } from '../../src/http/routes/history.ts';
import { tempDir } from '../support/temp-dir.ts';
import { bearer, INTERVAL_MS, NODE, startApp, TOKENS } from '../support/test-app.ts';

t.test('GET /history answers with figures, limits, events, trips and cooldowns as they were', async (t) => {
  const { ask, pass, rig, actuator, clock, historySettled } = await startApp(t, { historyFolder: await tempDir(t) });
  rig.apply({ faults: [{ kind: 'gpu-temperature', gpu: 1, valueC: 81 }] });
  await pass(INTERVAL_MS);
  rig.apply({ faults: [{ kind: 'gpu-temperature', gpu: 1, valueC: 85 }] });
  await pass(2 * INTERVAL_MS);
  actuator.verify();
  rig.apply({ faults: [] });
  await pass(2 * INTERVAL_MS);
  await historySettled();
  const answer = await ask({ url: '/history' });
  t.equal(answer.statusCode, 200, answer.body);
  t.equal(answer.headers['content-type'], 'application/json; charset=utf-8');
  const body = answer.json();
  t.equal(body.node, null);
  t.equal(body.simulated, true);
  t.same(body.store, { state: 'ok', detail: '' });
  t.equal(Date.parse(body.to), clock.now().wallMs);
  t.equal(Date.parse(body.to) - Date.parse(body.from), 3_600_000);
  t.ok(body.at.length >= 7, `${body.at.length} points`);
  for (const action of ['PROCEED', 'WAIT_COOLDOWN', 'ABORT']) t.ok(body.action.includes(action), action);
  const hot = body.series.find((one: { component: string; quantity: string; id?: string; max: number[] }) => {
    return one.component === 'gpu' && one.quantity === 'temperature' && Math.max(...one.max) === 85;
  });
  t.ok(hot, 'the peak is there');
  t.same(hot.limits, [{ from: body.at[0], warning: 80, hardStop: 85 }]);
  t.same(body.spans.map(({ state }: { state: string }) => state).sort(), ['cooling', 'tripped']);
  const names = body.events.map(({ name }: { name: string }) => name);
  for (const name of ['cooling-started', 'tripped', 'stop-verified']) t.ok(names.includes(name), name);
  t.notOk(JSON.stringify(body.events).includes('"report"'), 'the journal keeps the reports');
  t.ok(body.margins[0].worst.marginRatio <= 0, 'at its limit');
  const again = await ask({ url: `/history?node=${NODE}&from=-30s` });
  t.equal(again.json().series[0].node, NODE);
  t.ok(again.json().at.length < body.at.length);
  const none = await ask({ url: '/history?from=-2h&to=-1h' });
  t.same(none.json().at, []);
  t.same(none.json().events, []);
});

t.test('GET /history refuses unknown nodes and bad times with value and rule', async (t) => {
  const { ask } = await startApp(t, { historyFolder: await tempDir(t) });
  const unknown = await ask({ url: '/history?node=nowhere' });
  t.equal(unknown.statusCode, 400);
  t.match(unknown.json(), { code: 'unknown-node', nodes: ['nowhere'] });
  const bad: [string, RegExp][] = [
    ['from=yesterday', /from is "yesterday": must be a time such as/],
    ['to=2026-01-01T00:00', /to is "2026-01-01T00:00": must be/],
    ['from=-1y', /from is "-1y"/],
    ['from=-999999999d', /from is "-999999999d"/],
    ['from=99999999999999', /from is "99999999999999[^"]*": must be a time|before to/],
    ['from=now', /from is 2026-.*: must be before to/],
    ['from=-1h&to=-2h', /must be before to, which is/],
    ['since=1', /unknown field "since"/],
  ];
  for (const [query, message] of bad) {
    const answer = await ask({ url: `/history?${query}` });
    t.equal(answer.statusCode, 400, query);
    t.equal(answer.json().code, 'invalid-request', query);
    t.match(answer.json().detail, message);
  }
});

t.test('GET /history is a viewer’s, and 503 where none is kept', async (t) => {
  const { ask } = await startApp(t);
  const off = await ask({ url: '/history' });
  t.equal(off.statusCode, 503);
  t.match(off.json(), { code: 'history-unavailable', detail: /turned off/ });
  t.match((await ask({ url: '/status' })).json().history, { state: 'off', keptFrom: null });
  t.notMatch((await ask({ url: '/metrics' })).body, /^vsf_safety_history_ok/m);
  const remote = { 'x-forwarded-for': '10.0.0.1' };
  t.equal((await ask({ url: '/history', headers: { ...remote, ...bearer(TOKENS.viewer) } })).statusCode, 503);
  t.equal((await ask({ url: '/history', headers: remote })).statusCode, 401);
});

t.test('GET /status and /metrics tell how the history stands', async (t) => {
  const { ask, historySettled } = await startApp(t, { historyFolder: await tempDir(t) });
  await historySettled();
  const { history } = (await ask({ url: '/status' })).json();
  t.match(history, { state: 'ok', detail: '', keepSeconds: 86_400, lost: 0, maxBytes: 2 ** 26 });
  t.ok(history.sizeBytes > 0);
  t.ok(history.keptFrom);
  const metrics = (await ask({ url: '/metrics' })).body;
  t.match(metrics, /^vsf_safety_history_ok 1$/m);
  t.match(metrics, /^vsf_safety_history_lost_total 0$/m);
});

t.test('GET /history says so where the folder takes no file, and everything else goes on', async (t) => {
  const historyFolder = `${await tempDir(t)}/not-there`;
  const { ask, pass, historySettled, supervisor } = await startApp(t, { historyFolder });
  await historySettled();
  const answer = await ask({ url: '/history' });
  t.equal(answer.statusCode, 503);
  t.match(answer.json(), { code: 'history-unavailable', detail: /not-there/ });
  t.equal(answer.headers['retry-after'], '5');
  const { history } = (await ask({ url: '/status' })).json();
  t.equal(history.state, 'failing');
  t.ok(history.lost > 0);
  t.match((await ask({ url: '/metrics' })).body, /^vsf_safety_history_ok 0$/m);
  t.match((await ask({ url: '/metrics' })).body, /events_total\{name="history-failed"\} 1$/m, 'told once');
  await pass(INTERVAL_MS);
  t.equal((await ask({ url: '/preflight' })).statusCode, 200, 'a disk costs history, never safety');
  t.equal(supervisor.state.journal.ok, true);
});

t.test('parseTime() takes ISO 8601 with a zone, ms, and times before now, and nothing else', async (t) => {
  const now = Date.UTC(2026, 0, 2, 12);
  const good: [string, number][] = [
    ['now', now],
    ['-90s', now - 90_000],
    ['-30m', now - 1_800_000],
    ['-1h', now - 3_600_000],
    ['-2d', now - 172_800_000],
    ['2026-01-02T11:00:00Z', now - 3_600_000],
    ['2026-01-02T11:00:00.500Z', now - 3_599_500],
    ['2026-01-02T12:00+01:00', now - 3_600_000],
    ['2026-01-02T12:00 01:00', now - 3_600_000],
    ['2026-01-02', now - 43_200_000],
    [String(now), now],
  ];
  for (const [text, ms] of good) t.equal(parseTime(text, now), ms, text);
  for (const text of ['', '1h', '-1', '-1.5h', '2026-13-01T00:00Z', '2026-01-02T11:00', '1e12', 'NaN']) {
    t.equal(parseTime(text, now), null, text);
  }
});
