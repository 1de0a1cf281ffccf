import t from 'tap';
import { dial, readAnswer, sendRaw } from '../support/raw-http.ts';
import { bearer, OWN_TOKEN, startApp } from '../support/test-app.ts';

const PROBLEM = 'application/problem+json; charset=utf-8';

t.test('buildApp() sets headers that fit plain HTTP, on refusals too', async (t) => {
  const { ask } = await startApp(t);
  const requests = [
    { url: '/' },
    { url: '/docs' },
    { url: '/preflight' },
    { url: '/nothing' },
    { url: '/status', headers: { host: 'evil.example' } },
    { url: '/status', headers: bearer('nonsense') },
    { url: '/preflight?intensity=x' },
  ];
  for (const request of requests) {
    const { headers } = await ask(request);
    t.equal(headers['x-content-type-options'], 'nosniff', request.url);
    // The page holds nothing that could be old; it is asked for again all the same.
    t.equal(headers['cache-control'], request.url === '/' ? 'no-cache' : 'no-store', request.url);
    t.match(headers['content-security-policy'], /default-src 'none'.*frame-ancestors 'none'/);
    t.notMatch(headers['content-security-policy'], /upgrade-insecure-requests|unsafe/);
    t.equal(headers['strict-transport-security'], undefined, 'this port speaks no TLS');
    t.equal(headers['x-powered-by'], undefined);
  }
});

t.test('buildApp() answers whatever it does not know with a problem', async (t) => {
  const { ask } = await startApp(t);
  const unknown = await ask({ url: '/nothing?x=1' });
  t.equal(unknown.headers['content-type'], PROBLEM);
  t.match(unknown.json(), {
    type: 'urn:vsf-safety:problem:not-found',
    title: String,
    status: 404,
    detail: 'There is no GET /nothing',
    code: 'not-found',
  });
  t.equal((await ask({ method: 'PUT', url: '/estop' })).statusCode, 404);
  t.equal((await ask({ method: 'PATCH', url: '/leases/1' })).statusCode, 404);
  t.match((await ask({ url: '/leases/%zz' })).json(), { status: 400, code: 'invalid-request' });
  t.match((await ask({ url: `/leases/${'x'.repeat(501)}` })).json(), { status: 414, code: 'uri-too-long' });
  t.match((await ask({ url: `/leases/${'x'.repeat(500)}` })).json(), { status: 404, code: 'lease-unknown' });
});

t.test('buildApp() makes no 500 of any input', async (t) => {
  const { ask } = await startApp(t);
  const values = [
    '',
    ' ',
    'null',
    '{}',
    '[]',
    '0',
    '"x"',
    '{"nodes":{}}',
    '{"gpus":[[]]}',
    '\u0000',
    '[[[[[[]]]]]]',
    '{"a":',
  ];
  const routes = [
    ['POST', '/preflight'],
    ['POST', '/leases'],
    ['PUT', '/leases/x'],
    ['DELETE', '/leases/x'],
    ['POST', '/estop/reset'],
    ['POST', '/estop/alertmanager'],
    ['POST', '/nodes/bizon1/forget'],
    ['POST', '/simulation'],
    ['POST', '/estop'],
  ] as const;
  for (const [method, url] of routes) {
    for (const payload of values) {
      for (const type of ['application/json', 'text/plain', 'application/xml']) {
        const headers = { 'content-type': type, ...bearer(OWN_TOKEN) };
        const answer = await ask({ method, url, payload, headers });
        t.ok(
          answer.statusCode < 500 || answer.statusCode === 503,
          `${method} ${url} ${type} ${payload}: ${answer.statusCode}`,
        );
      }
    }
  }
  for (const query of [
    '__proto__=1',
    'intensity[]=1',
    'nodes=%00',
    'constraints=%7B%22__proto__%22%3A1%7D',
    '=',
    '&&',
    'a=1&a=2',
    '%',
  ]) {
    for (const url of ['/preflight', '/status', '/ws', '/estop']) {
      t.ok((await ask({ url: `${url}?${query}` })).statusCode < 500, `${url}?${query}`);
    }
  }
});

t.test('buildApp() refuses what is no HTTP, and too large headers, with a problem', async (t) => {
  const { listen } = await startApp(t);
  const { port } = await listen();
  const garbage = await sendRaw(t, port, 'STOP EVERYTHING\r\n\r\n');
  t.equal(garbage.status, 400);
  t.match(garbage.head, PROBLEM);
  t.match(JSON.parse(garbage.body), { code: 'invalid-request' });
  const large = await sendRaw(
    t,
    port,
    `GET /status HTTP/1.1\r\nhost: localhost\r\nx: ${'x'.repeat(17 * 1024)}\r\n\r\n`,
  );
  t.equal(large.status, 431);
  t.match(JSON.parse(large.body), { code: 'headers-too-large' });
  const long = await sendRaw(t, port, `GET /status?node=${'x'.repeat(17 * 1024)} HTTP/1.1\r\nhost: localhost\r\n\r\n`);
  t.equal(long.status, 431);
});

t.test('buildApp() never leaves HTTP for an upgrade that it does not speak', async (t) => {
  const { listen } = await startApp(t);
  const { port } = await listen();
  const h2c = 'connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQ\r\n';
  const socket = await dial(t, port);
  socket.write(`GET /preflight HTTP/1.1\r\nhost: localhost\r\n${h2c}\r\n`);
  t.equal((await readAnswer(socket)).status, 200);
  socket.write(
    `POST /preflight HTTP/1.1\r\nhost: localhost\r\n${h2c}content-type: application/json\r\ncontent-length: 17\r\n\r\n{"intensity":0.9}`,
  );
  const over = await readAnswer(socket);
  t.equal(over.status, 503, 'its body is read, on the same connection');
  socket.write('GET /status HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n');
  t.equal((await readAnswer(socket)).status, 200, 'a WebSocket is spoken at /ws alone');
});

t.test('buildApp() closes at once with open connections and held answers', async (t) => {
  const { listen, app, clock, pass } = await startApp(t);
  const { port } = await listen();
  const idle = await dial(t, port);
  idle.write('GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n');
  t.equal((await readAnswer(idle)).status, 200);
  const half = await dial(t, port);
  half.write('GET /sta');
  const held = await dial(t, port);
  held.write('POST /estop?wait=60 HTTP/1.1\r\nhost: localhost\r\n\r\n');
  await new Promise((resolve) => setTimeout(resolve, 50));
  await pass(100);
  const startedMs = clock.now().elapsedMs;
  await app.close();
  t.equal(clock.now().elapsedMs, startedMs, 'nothing had to pass on the clock');
});
