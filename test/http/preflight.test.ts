import type { InjectOptions } from 'fastify';
import t from 'tap';
import { loopTurn } from '../../src/clock.ts';
import { askAndGo } from '../support/impatient-client.ts';
import { INTERVAL_MS, NODE, startApp } from '../support/test-app.ts';

const post = (payload: object): InjectOptions & { url: string } => ({ method: 'POST', url: '/preflight', payload });

t.test('GET /preflight answers 200 with the result when every check passes', async (t) => {
  const { ask } = await startApp(t);
  const answer = await ask({ url: '/preflight' });
  t.equal(answer.statusCode, 200, answer.body);
  t.match(answer.json(), { safe: true, action: 'PROCEED', scope: { kind: 'all' }, simulated: true });
  t.equal(answer.headers['content-type'], 'application/json; charset=utf-8');
  t.equal(answer.headers['cache-control'], 'no-store', 'no cache may answer for the gate');
  t.equal(answer.headers['retry-after'], undefined);
  t.equal((await ask({ url: '/preflight/' })).statusCode, 200, 'a trailing slash is no redirect');
});

t.test('GET /preflight answers 503 with Retry-After and the result when something is warm', async (t) => {
  const { ask, rig } = await startApp(t);
  rig.apply({ faults: [{ kind: 'gpu-temperature', gpu: 0, valueC: 80 }] });
  const answer = await ask({ url: '/preflight' });
  t.equal(answer.statusCode, 503);
  t.equal(answer.headers['retry-after'], '60');
  t.equal(answer.headers['content-type'], 'application/json; charset=utf-8', 'a refusal carries its result');
  t.match(answer.json(), { safe: false, action: 'WAIT_COOLDOWN', waitSeconds: 60 });
});

t.test('GET /preflight takes its readings now: a temperature below the last tick’s already counts', async (t) => {
  const { ask, rig } = await startApp(t);
  rig.apply({ faults: [{ kind: 'gpu-temperature', gpu: 0, valueC: 79.9 }] });
  t.equal((await ask({ url: '/preflight' })).statusCode, 200);
  rig.apply({ faults: [{ kind: 'reading-missing', component: 'cpu', quantity: 'temperature' }] });
  const blind = await ask({ url: '/preflight' });
  t.equal(blind.statusCode, 503);
  t.match(blind.json(), { findings: [{ code: 'reading-missing', component: 'cpu' }] });
});

t.test('GET /preflight answers 423 before every 503 while a node asked about is tripped', async (t) => {
  const { ask, rig, supervisor } = await startApp(t);
  supervisor.submit({ kind: 'stop-requested', nodes: [NODE], cause: 'manual', reason: 'test', by: 'tester' });
  rig.apply({ faults: [{ kind: 'gpu-temperature', gpu: 0, valueC: 81 }] });
  for (const url of ['/preflight', `/preflight?nodes=${NODE}`]) {
    const answer = await ask({ url });
    t.equal(answer.statusCode, 423);
    t.equal(answer.headers['retry-after'], undefined, 'waiting does not help; a person must reset');
    t.match(answer.json(), { safe: false, action: 'ABORT', interlock: { state: 'tripped' } });
  }
});

t.test('GET /preflight trips on a hard stop that it sees', async (t) => {
  const { ask, rig, actuator } = await startApp(t);
  rig.apply({ faults: [{ kind: 'cpu-temperature', valueC: 70 }] });
  await ask({ url: '/preflight' });
  rig.apply({ faults: [{ kind: 'cpu-temperature', valueC: 95 }] });
  t.equal((await ask({ url: '/preflight' })).statusCode, 423);
  t.equal(actuator.orders.length, 1);
});

t.test('GET /preflight trips on a hard stop that a look saw whose question was answered by a later look', async (t) => {
  const { ask, rig, actuator, clock } = await startApp(t);
  rig.apply({ faults: [{ kind: 'cpu-temperature', valueC: 70 }] });
  await ask({ url: '/preflight' });
  // So many answers before it that the question still waits for its turn when the next one comes.
  const before = Array.from({ length: 60 }, (_, index) =>
    ask({ url: index === 0 ? '/status' : `/status?node=${NODE}` }),
  );
  rig.apply({ faults: [{ kind: 'cpu-temperature', valueC: 95 }] });
  const first = ask({ url: '/preflight' });
  for (let turn = 0; turn < 10; turn++) await loopTurn();
  rig.apply({ faults: [{ kind: 'cpu-temperature', valueC: 70 }] });
  clock.hold(300);
  const second = ask({ url: '/preflight' });
  t.equal((await first).statusCode, 423);
  t.equal((await second).statusCode, 423);
  t.equal(actuator.orders.length, 1);
  await Promise.all(before);
});

t.test('GET /preflight trips on a hard stop that was seen for somebody who has gone', async (t) => {
  const testApp = await startApp(t);
  testApp.rig.apply({ faults: [{ kind: 'cpu-temperature', valueC: 70 }] });
  await testApp.ask({ url: '/preflight' });
  testApp.rig.apply({ faults: [{ kind: 'cpu-temperature', valueC: 95 }] });
  await askAndGo(testApp, 'GET /preflight');
  t.equal(testApp.actuator.orders.length, 1);
});

t.test('GET /preflight answers with its result even before the first evaluation', async (t) => {
  const { ask } = await startApp(t, { ticks: 0 });
  const answer = await ask({ url: '/preflight' });
  t.equal(answer.statusCode, 503);
  t.ok(answer.headers['retry-after']);
  t.match(answer.json(), { safe: false });
});

t.test('GET /preflight refuses a start when the last tick is late', async (t) => {
  const { ask, monitor, pass } = await withStoppedMonitor(t);
  t.ok(monitor);
  await pass(INTERVAL_MS * 1.5 + 1);
  const answer = await ask({ url: '/preflight' });
  t.equal(answer.statusCode, 503);
  t.match(answer.json().findings, [{ code: 'tick-late', action: 'WAIT_COOLDOWN' }]);
});

async function withStoppedMonitor(t: Parameters<typeof startApp>[0]) {
  const running = await startApp(t);
  const monitor = running.parts.monitor as unknown as { stop(): Promise<void> };
  const stopped = monitor.stop();
  await running.pass(0);
  await stopped;
  return { ...running, monitor };
}

t.test('POST /preflight refuses intensity over the maximum without Retry-After and names the cap', async (t) => {
  const { ask } = await startApp(t);
  t.equal((await ask(post({ intensity: 0.8 }))).statusCode, 200, 'at the maximum is not over it');
  const over = await ask(post({ intensity: 0.81 }));
  t.equal(over.statusCode, 503);
  t.equal(over.headers['retry-after'], undefined, 'waiting changes nothing, asking for less does');
  t.match(over.json(), { action: 'REDUCE_INTENSITY', intensityCap: 0.8, findings: [{ code: 'over-maximum' }] });
});

t.test('POST /preflight takes an intensity over 0 and at most 1, a number and nothing else', async (t) => {
  const { ask, app } = await startApp(t);
  for (const intensity of [0.0001, 0.5, 1]) t.not((await ask(post({ intensity }))).statusCode, 400, String(intensity));
  for (const intensity of [0, -0.1, 1.0001, '0.5', null, true, [0.5], {}, '']) {
    const answer = await ask(post({ intensity }));
    t.equal(answer.statusCode, 400, JSON.stringify(intensity));
    t.match(answer.json(), { code: 'invalid-request', detail: /body\.intensity/ });
  }
  for (const text of ['NaN', '1e999', 'Infinity', '0x1', '.5']) {
    const headers = { host: 'localhost', 'content-type': 'application/json' };
    const answer = await app.inject({ method: 'POST', url: '/preflight', headers, payload: `{"intensity":${text}}` });
    t.equal(answer.statusCode, 400, text);
    t.equal(answer.headers['content-type'], 'application/problem+json; charset=utf-8');
  }
});

t.test('GET /preflight takes a plain decimal as intensity, and no other spelling', async (t) => {
  const { ask } = await startApp(t);
  for (const text of ['0.5', '0.50', '0.8', '1', '1.0', '0.001']) {
    t.not((await ask({ url: `/preflight?intensity=${text}` })).statusCode, 400, text);
  }
  for (const text of [
    '0',
    '0.0',
    '0.000',
    '',
    '0x1',
    '1e-1',
    '1e999',
    'NaN',
    '.5',
    '-0.5',
    '+0.5',
    '1.5',
    '2',
    '0,5',
    '%200.5',
  ]) {
    const answer = await ask({ url: `/preflight?intensity=${text}` });
    t.equal(answer.statusCode, 400, text);
    t.match(answer.json(), { code: 'invalid-request', detail: /plain decimal/ });
  }
  t.equal((await ask({ url: '/preflight?intensity=0.5&intensity=0.9' })).statusCode, 400, 'not two of them');
});

t.test('GET /preflight judges the nodes named, by commas or repeated, and refuses unknown ones', async (t) => {
  const { ask } = await startApp(t);
  const named = await ask({ url: `/preflight?nodes=${NODE}` });
  t.match(named.json(), { scope: { kind: 'nodes', nodes: [NODE] } });
  t.equal((await ask({ url: `/preflight?nodes=${NODE}&nodes=${NODE}` })).statusCode, 200);
  for (const query of [
    'nodes=',
    'nodes=,',
    `nodes=${NODE},`,
    `nodes=${'n'.repeat(254)}`,
    `nodes=${'a,'.repeat(1000)}a`,
  ]) {
    t.match((await ask({ url: `/preflight?${query}` })).json(), { code: 'invalid-request' }, query.slice(0, 30));
  }
  const unknown = await ask({ url: `/preflight?nodes=${NODE},nowhere` });
  t.equal(unknown.statusCode, 400);
  t.match(unknown.json(), { code: 'unknown-node', nodes: ['nowhere'], detail: /"nowhere"/ });
  t.match((await ask(post({ nodes: [] }))).json(), { code: 'invalid-request' }, 'no node at all is no question');
  t.match((await ask(post({ nodes: [NODE, NODE] }))).json(), { code: 'invalid-request' });
});

t.test('POST /preflight applies stricter constraints and names looser ones', async (t) => {
  const { ask, rig } = await startApp(t);
  rig.apply({ faults: [{ kind: 'gpu-temperature', gpu: 0, valueC: 76 }] });
  t.equal((await ask(post({}))).statusCode, 200);
  t.equal((await ask(post({ constraints: 'bizon1' }))).statusCode, 503, 'warm for bizon1, whose warning is 75 °C');
  t.equal((await ask({ url: '/preflight?constraints=bizon1' })).statusCode, 503);
  const asJson = encodeURIComponent(JSON.stringify({ gpu: { temperatureC: { warning: 76 } } }));
  t.equal((await ask({ url: `/preflight?constraints=${asJson}` })).statusCode, 503);
  const looser = await ask(post({ constraints: { gpu: { temperatureC: { warning: 84 } } } }));
  t.equal(looser.statusCode, 200);
  t.match(looser.json().unprotected, [{ code: 'constraint-ignored', name: 'gpu.temperatureC.warning' }]);
});

t.test('POST /preflight refuses constraints with key, value and rule of everything that is wrong', async (t) => {
  const { ask } = await startApp(t);
  const answer = await ask(
    post({ constraints: { gpu: { temperatureC: { warning: 120, hardStop: -1 } }, nonsense: 1 } }),
  );
  t.equal(answer.statusCode, 400);
  t.match(answer.json(), {
    code: 'constraints-invalid',
    problems: [
      { key: 'gpu.temperatureC.warning', value: '120', rule: /at most 110/ },
      { key: 'gpu.temperatureC.hardStop', value: '-1' },
      { key: 'nonsense' },
    ],
    detail: /gpu\.temperatureC\.warning 120 must be at most 110 °C/,
  });
  for (const constraints of ['loose', null, 1, [], { gpu: { temperatureC: { warning: 90 } } }, { gpu: 1 }]) {
    t.match((await ask(post({ constraints }))).json(), { code: 'constraints-invalid' }, JSON.stringify(constraints));
  }
  for (const text of ['loose', '', '{', '{"gpu":']) {
    const url = `/preflight?constraints=${encodeURIComponent(text)}`;
    t.match((await ask({ url })).json(), { code: 'constraints-invalid' }, text);
  }
});

t.test('POST /preflight refuses what is not documented and takes a missing body as an empty one', async (t) => {
  const { ask } = await startApp(t);
  const unknownKey = await ask(post({ intensty: 0.5 }));
  t.match(unknownKey.json(), { code: 'invalid-request', detail: /unknown field "intensty"/ });
  t.match((await ask({ url: '/preflight?intensty=0.5' })).json(), { code: 'invalid-request' });
  t.equal((await ask({ method: 'POST', url: '/preflight' })).statusCode, 200);
  const json = { 'content-type': 'application/json' };
  t.equal((await ask({ method: 'POST', url: '/preflight', headers: json, payload: '' })).statusCode, 200);
  for (const payload of ['{', 'null', '[]', '"text"', '{"__proto__":{"x":1}}']) {
    const answer = await ask({ method: 'POST', url: '/preflight', headers: json, payload });
    t.equal(answer.statusCode, payload === 'null' ? 200 : 400, payload);
  }
  const form = { 'content-type': 'application/x-www-form-urlencoded' };
  const asForm = await ask({ method: 'POST', url: '/preflight', headers: form, payload: 'intensity=0.5' });
  t.match(asForm.json(), { status: 415, code: 'unsupported-media-type', detail: /x-www-form-urlencoded/ });
  const long = await ask({
    method: 'POST',
    url: '/preflight',
    headers: json,
    payload: `{"a":"${'x'.repeat(1024 * 1024)}"}`,
  });
  t.match(long.json(), { status: 413, code: 'body-too-large' });
});

t.test('HEAD /preflight has the status and no body', async (t) => {
  const { ask, rig } = await startApp(t);
  const safe = await ask({ method: 'HEAD', url: '/preflight' });
  t.equal(safe.statusCode, 200);
  t.equal(safe.body, '');
  rig.apply({ faults: [{ kind: 'cpu-temperature', valueC: 90 }] });
  t.equal((await ask({ method: 'HEAD', url: '/preflight' })).statusCode, 503);
});
