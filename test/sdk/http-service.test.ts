import { once } from 'node:events';
import { rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import { systemClock } from '../../src/clock.ts';
import { HttpService } from '../../src/sdk/http-service.ts';
import { standInService } from '../support/command-line.ts';
import { freshFolder } from '../support/real-service.ts';

const STATUS = { method: 'GET', path: '/status', timeoutMs: 2_000 } as const;

t.test('HttpService asks with the token, each time over a connection of its own', async (t) => {
  const { url, asked } = await standInService(t, () => [200, { ok: true }]);
  const service = new HttpService({ url: `${url}/`, token: 'secret' }, {}, systemClock);
  const answer = await service.ask({ method: 'PUT', path: '/leases/1', body: { a: 1 }, timeoutMs: 2_000 });
  t.match(answer, { kind: 'answered', status: 200, body: { ok: true }, retryAfterSeconds: null });
  t.match(asked, [
    {
      method: 'PUT',
      path: '/leases/1',
      body: { a: 1 },
      headers: { authorization: 'Bearer secret', connection: 'close', 'content-type': 'application/json' },
    },
  ]);
  await service.ask({ ...STATUS, asNobody: true });
  t.equal(asked[1]?.headers.authorization, undefined);
});

t.test('HttpService takes address and token from the environment, where no option says otherwise', async (t) => {
  const { url, asked } = await standInService(t, () => [200, {}]);
  const env = { VSF_SAFETY_URL: url, VSF_SAFETY_TOKEN: ' from-env\n' };
  await new HttpService({}, env, systemClock).ask(STATUS);
  t.equal(asked[0]?.headers.authorization, 'Bearer from-env');
  await new HttpService({ token: 'given' }, env, systemClock).ask(STATUS);
  t.equal(asked[1]?.headers.authorization, 'Bearer given');
  t.equal(new HttpService({}, {}, systemClock).place, 'http://127.0.0.1:8470');
});

t.test('HttpService reads a token file anew for each request, and says what is wrong with it', async (t) => {
  const { url, asked } = await standInService(t, () => [200, {}]);
  const tokenFile = join(freshFolder(t), 'token');
  writeFileSync(tokenFile, 'first\n');
  const service = new HttpService({ url, tokenFile }, { VSF_SAFETY_TOKEN: 'other' }, systemClock);
  await service.ask(STATUS);
  writeFileSync(tokenFile, 'second\n');
  await service.ask(STATUS);
  t.same(
    asked.map(({ headers }) => headers.authorization),
    ['Bearer first', 'Bearer second'],
  );
  writeFileSync(tokenFile, 'two\nlines');
  t.match(await service.ask(STATUS), { kind: 'unreachable', detail: /holds no token/ });
  rmSync(tokenFile);
  t.match(await service.ask(STATUS), { kind: 'unreachable', detail: /ENOENT/ });
  t.equal(asked.length, 2, 'nothing is asked without it');
});

t.test('HttpService throws for what can be no address or token', async (t) => {
  for (const url of ['ftp://x', 'nonsense', 'http://user:secret@host', 'http://host/?a=1', 'http://host/#a']) {
    t.throws(() => new HttpService({ url }, {}, systemClock), { name: 'TypeError', message: /address/ }, url);
  }
  t.throws(() => new HttpService({ token: 'two\nlines' }, {}, systemClock), { name: 'TypeError', message: /token/ });
});

t.test('HttpService ends every exchange at its deadline, also one that trickles', async (t) => {
  const server = createTcpServer((socket) => {
    socket.on('error', () => undefined);
    socket.write('HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{');
    const trickle = setInterval(() => socket.write(' '), 50);
    socket.on('close', () => clearInterval(trickle));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const startedMs = performance.now();
  const answer = await new HttpService({ url }, {}, systemClock).ask({ ...STATUS, timeoutMs: 400 });
  t.match(answer, { kind: 'unreachable', detail: /no answer within 0.4 s/ });
  t.ok(performance.now() - startedMs < 2_000);
});

t.test('HttpService says what keeps it from an answer', async (t) => {
  const server = createTcpServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  const refused = await new HttpService({ url: `http://127.0.0.1:${port}` }, {}, systemClock).ask(STATUS);
  t.match(refused, { kind: 'unreachable', detail: /connection refused, nothing listens there/ });
  const { url } = await standInService(t, () => (response) => response.destroy());
  t.match(await new HttpService({ url }, {}, systemClock).ask(STATUS), { detail: /the connection was cut/ });
});

t.test('HttpService follows no redirect and takes what is no JSON object for nothing', async (t) => {
  const { url, asked } = await standInService(t, ({ path }) =>
    path === '/status' ? (response) => response.writeHead(307, { location: '/stolen' }).end() : [200, '<html>'],
  );
  const service = new HttpService({ url, token: 'secret' }, {}, systemClock);
  t.match(await service.ask(STATUS), { kind: 'answered', status: 307, body: {} });
  t.same(await service.ask({ ...STATUS, path: '/x' }), {
    kind: 'answered',
    status: 200,
    body: {},
    retryAfterSeconds: null,
  });
  t.equal(asked.length, 2);
});
