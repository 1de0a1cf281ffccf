import type { InjectOptions } from 'fastify';
import t from 'tap';
import type { Role } from '../../src/config.ts';
import { ACCESS, type Access, may, ROLES } from '../../src/http/access.ts';
import { hostNameOf, isLoopbackName, isSameOrigin } from '../../src/http/auth.ts';
import { sendRaw } from '../support/raw-http.ts';
import { bearer, NODE, OWN_TOKEN, startApp, TOKENS } from '../support/test-app.ts';

const AWAY = { listen: { host: '0.0.0.0' } } as const;
const REFUSED = [401, 403];

/** A request for each row of the table; 426 and 400 are fine here: they come after the gate. */
function requestsOf(key: string): InjectOptions & { url: string } {
  const [method = 'GET', path = '/'] = key.split(' ');
  const url = path.replace(':id', '0b0e7a52-8f0e-4f8e-9d7c-2b1f5f3f9a01').replace(':node', NODE);
  return { method: method as 'GET' | 'POST', url };
}
const rows = Object.entries(ACCESS) as [keyof typeof ACCESS, Access][];

t.test('ACCESS names exactly the routes that there are', async (t) => {
  const { app } = await startApp(t);
  const document = app.swagger() as unknown as { paths: Record<string, Record<string, { 'x-role': string }>> };
  const documented = Object.entries(document.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]) => [
      `${method.toUpperCase()} ${path.replace(/\{(\w+)\}/g, ':$1')}`,
      operation['x-role'],
    ]),
  );
  t.same(Object.fromEntries(documented), ACCESS);
});

for (const role of ROLES) {
  t.test(`ACCESS lets ${role} through where its role suffices, and nowhere else`, async (t) => {
    const { ask } = await startApp(t, AWAY);
    for (const [key, access] of rows) {
      const answer = await ask({ ...requestsOf(key), headers: bearer(TOKENS[role]) });
      const isRefused = REFUSED.includes(answer.statusCode);
      t.equal(!isRefused, may(role, access), `${key} for ${role}: ${answer.statusCode}`);
      if (isRefused) t.match(answer.json(), { status: 403, code: 'role-insufficient' });
    }
  });
}

t.test('ACCESS leaves only the open routes open off loopback without a token', async (t) => {
  const { ask } = await startApp(t, AWAY);
  for (const [key, access] of rows) {
    const answer = await ask(requestsOf(key));
    t.equal(answer.statusCode === 401, access !== 'open', `${key}: ${answer.statusCode}`);
    if (answer.statusCode !== 401) continue;
    t.match(answer.json(), { code: 'token-required' });
    t.equal(answer.headers['www-authenticate'], 'Bearer');
  }
});

t.test('auth.anonymous: viewer opens the reads off loopback, and nothing else', async (t) => {
  const { ask } = await startApp(t, { ...AWAY, auth: { anonymous: 'viewer' } });
  for (const [key, access] of rows) {
    const answer = await ask(requestsOf(key));
    t.equal(
      REFUSED.includes(answer.statusCode),
      access === 'workload' || access === 'operator',
      `${key}: ${answer.statusCode}`,
    );
  }
  const behindProxy = await ask({ url: '/preflight', headers: { 'x-forwarded-for': '203.0.113.7' } });
  t.equal(behindProxy.statusCode, 200, 'an ingress in front of opened reads is what they are for');
});

t.test('a caller without a token is a workload on loopback', async (t) => {
  for (const host of ['127.0.0.1', '127.0.0.2', '::1', 'localhost']) {
    const { ask } = await startApp(t, { listen: { host }, ticks: 1 });
    for (const [key, access] of rows) {
      const answer = await ask(requestsOf(key));
      t.equal(answer.statusCode !== 403, may('workload', access), `${key} on ${host}: ${answer.statusCode}`);
      t.not(answer.statusCode, 401);
    }
  }
});

t.test('a forwarded request needs a token on loopback', async (t) => {
  const { ask } = await startApp(t);
  for (const name of [
    'forwarded',
    'x-forwarded-for',
    'x-forwarded-host',
    'x-forwarded-proto',
    'X-Forwarded-Anything',
  ]) {
    const bare = await ask({ url: '/status', headers: { [name]: 'for=203.0.113.7' } });
    t.match(bare.json(), { status: 401, code: 'token-required', detail: /forwarded/ }, name);
    const known = await ask({ url: '/status', headers: { [name]: 'x', ...bearer(TOKENS.viewer) } });
    t.equal(known.statusCode, 200);
  }
  t.equal((await ask({ url: '/healthz', headers: { forwarded: 'for=x' } })).statusCode, 200);
});

t.test('a wrong token is 401 with WWW-Authenticate, also on loopback', async (t) => {
  const { ask } = await startApp(t);
  const wrong = [
    'Bearer nonsense',
    'Bearer ',
    'bearer',
    `Bearer ${TOKENS.viewer.slice(0, -1)}`,
    `Bearer ${TOKENS.viewer}x`,
    `Bearer ${TOKENS.viewer} ${TOKENS.viewer}`,
    `Basic ${Buffer.from('operator:operator').toString('base64')}`,
    '',
  ];
  for (const authorization of wrong) {
    for (const url of ['/preflight', '/status', '/metrics']) {
      const answer = await ask({ url, headers: { authorization } });
      t.match(answer.json(), { status: 401, code: 'token-invalid' }, authorization);
      t.equal(answer.headers['www-authenticate'], 'Bearer');
    }
  }
  t.equal((await ask({ url: '/status', headers: { authorization: `bEARER   ${TOKENS.viewer}` } })).statusCode, 200);
  t.equal((await ask({ url: '/healthz', headers: { authorization: 'Bearer nonsense' } })).statusCode, 200);
});

t.test('the operator’s own token is an operator, and of two roles for one token the higher counts', async (t) => {
  const { ask, parts } = await startApp(t, AWAY);
  const order = (token: string) => ask({ method: 'POST', url: '/simulation', payload: {}, headers: bearer(token) });
  t.equal((await order(OWN_TOKEN)).statusCode, 200);
  t.equal((await order(TOKENS.operator)).statusCode, 200);
  const [, workload] = parts.config.auth.tokens;
  t.ok(workload);
  const tokens = [
    { role: 'operator' as Role, sha256: workload?.sha256 ?? '' },
    { role: 'viewer' as Role, sha256: workload?.sha256 ?? '' },
  ];
  const other = await startApp(t, { ...AWAY, auth: { tokens } });
  const answer = await other.ask({ method: 'POST', url: '/simulation', payload: {}, headers: bearer(TOKENS.workload) });
  t.equal(answer.statusCode, 200);
});

t.test('an identity is `local` or the start of the token’s SHA-256, never the token', async (t) => {
  const { ask } = await startApp(t);
  const payload = { workload: 'w' };
  const local = await ask({ method: 'POST', url: '/leases', payload });
  t.equal(local.json().lease.identity, 'local');
  const known = await ask({ method: 'POST', url: '/leases', payload, headers: bearer(TOKENS.workload) });
  t.match(known.json().lease.identity, /^token:[0-9a-f]{12}$/);
  t.notOk((await ask({ url: '/status' })).body.includes(TOKENS.workload));
});

t.test('without a bearer token the Host must be a loopback name or in listen.hosts', async (t) => {
  const { ask } = await startApp(t, { listen: { hosts: ['safety.lab.example'] } });
  for (const host of [
    'localhost',
    'LOCALHOST:8470',
    'api.localhost',
    'localhost.',
    '127.0.0.1:1',
    '127.255.3.4',
    '[::1]:8470',
    'safety.lab.example',
    'Safety.Lab.Example:443',
  ]) {
    t.equal((await ask({ url: '/preflight', headers: { host } })).statusCode, 200, host);
  }
  for (const host of [
    'evil.example',
    'localhost.evil.example',
    'notlocalhost',
    '128.0.0.1',
    '127.0.0.256',
    '127.0.0.1.evil.example',
    '[::2]',
    'localhost:8470:1',
    'a@localhost',
    'lab.example',
    '.',
  ]) {
    const answer = await ask({ url: '/preflight', headers: { host } });
    t.match(answer.json(), { status: 403, code: 'host-refused' }, host);
    t.equal((await ask({ method: 'POST', url: '/estop', headers: { host } })).statusCode, 403, host);
    t.equal((await ask({ url: '/preflight', headers: { host, ...bearer(TOKENS.viewer) } })).statusCode, 200, host);
    for (const url of ['/healthz', '/readyz']) t.equal((await ask({ url, headers: { host } })).statusCode, 200, url);
    for (const url of ['/', '/docs', '/openapi.json', '/nothing-here']) {
      t.equal((await ask({ url, headers: { host } })).statusCode, 403, url);
      const wrong = await ask({ url, headers: { host, ...bearer('nonsense') } });
      t.equal(wrong.statusCode, 403, 'a token that nobody knows is none');
    }
  }
});

t.test('a request without any Host is refused', async (t) => {
  const { listen } = await startApp(t);
  const { port } = await listen();
  for (const request of ['GET /status HTTP/1.1\r\nhost:\r\n\r\n', 'GET /status HTTP/1.0\r\n\r\n']) {
    const answer = await sendRaw(t, port, request);
    t.equal(answer.status, 403, request);
    t.match(answer.body, /host-refused/);
  }
});

t.test('an Origin must match the Host, token or not', async (t) => {
  const { ask } = await startApp(t);
  const own = { host: 'localhost:8470' };
  for (const origin of ['http://localhost:8470', 'https://localhost:8470', 'HTTP://LOCALHOST:8470']) {
    t.equal((await ask({ url: '/status', headers: { ...own, origin } })).statusCode, 200, origin);
  }
  for (const origin of [
    'http://evil.example',
    'http://localhost:3000',
    'http://localhost',
    'null',
    '',
    'file://',
    'http://localhost:8470/x',
    'http://localhost:8470.evil.example',
    'http://u@localhost:8470',
  ]) {
    for (const headers of [own, { ...own, ...bearer(OWN_TOKEN) }]) {
      for (const url of ['/status', '/healthz', '/']) {
        const answer = await ask({ url, headers: { ...headers, origin } });
        t.match(answer.json(), { status: 403, code: 'origin-refused' }, `${url} from ${origin}`);
      }
    }
  }
  const trip = await ask({ method: 'POST', url: '/estop', headers: { ...own, origin: 'http://evil.example' } });
  t.equal(trip.statusCode, 403, 'a page in a browser may not press the button');
});

t.test('isSameOrigin() takes a default port as written or left out', async (t) => {
  t.ok(isSameOrigin('https://vsf.example', 'vsf.example'));
  t.ok(isSameOrigin('https://vsf.example', 'vsf.example:443'));
  t.ok(isSameOrigin('http://vsf.example', 'VSF.example:80'));
  t.ok(isSameOrigin('http://[::1]:8470', '[::1]:8470'));
  t.notOk(isSameOrigin('http://vsf.example', 'vsf.example:443'));
  t.notOk(isSameOrigin('http://vsf.example', ''));
  t.notOk(isSameOrigin('ws://vsf.example', 'vsf.example'));
});

t.test('hostNameOf() and isLoopbackName() know a name by its letters, not by its port', async (t) => {
  t.equal(hostNameOf('[::1]:80'), '[::1]');
  t.equal(hostNameOf('A.b:1'), 'a.b');
  for (const text of ['', ' ', 'a b', 'a/b', 'a:b', '::1', '[::1', 'a:123456', 'ä'])
    t.equal(hostNameOf(text), null, text);
  t.ok(isLoopbackName('127.0.0.1'));
  t.notOk(isLoopbackName('127.0.0.01x'));
  t.notOk(isLoopbackName('127.1'));
  t.notOk(isLoopbackName('localhostx'));
});
