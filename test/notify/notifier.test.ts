// Over real sockets: what a webhook gets, and what a bad one cannot do.
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer, type IncomingHttpHeaders, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { systemClock } from '../../src/clock.ts';
import type { EventName, Message } from '../../src/domain/events.ts';
import { createNotifier, type Notifier } from '../../src/notify/notifier.ts';
import { signatureHeaders } from '../../src/notify/signature.ts';
import type { NotifySettings } from '../../src/notify/target.ts';
import { DomainWorld } from '../support/domain-world.ts';
import { freshFolder } from '../support/real-service.ts';

async function serve(t: Test, listener: RequestListener): Promise<string> {
  const server = createServer(listener).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function open(t: Test, targets: readonly Partial<NotifySettings>[]): { notifier: Notifier; logged: string[] } {
  const { state } = DomainWorld.running();
  const logged: string[] = [];
  const log = (text: string): void => void logged.push(text);
  const notifier = createNotifier({
    clock: systemClock,
    targets: targets.map((target, index) => ({
      name: `t${index}`,
      url: '',
      format: 'plain',
      secretFile: null,
      events: ['tripped', 'reset'],
      ...target,
    })),
    credentials: null,
    state: () => state,
    log: { warn: log, info: log },
    random: () => 0,
  });
  t.teardown(() => notifier.close());
  return { notifier, logged };
}

const message = (sequence: number, name: EventName = 'tripped'): Message => ({
  type: 'event',
  sequence,
  at: '2026-01-01T00:00:00.000Z',
  data: { name, message: `${sequence}: 86 °C` },
});

async function until(what: string, holds: () => boolean): Promise<void> {
  for (let i = 0; i < 400 && !holds(); i++) await systemClock.sleep(25);
  if (!holds()) throw new Error(`It did not come about: ${what}`);
}

t.test('createNotifier() posts what happened, signed, in order, over a kept connection', async (t) => {
  const got: { headers: IncomingHttpHeaders; method: string | undefined; path: string | undefined; body: string }[] =
    [];
  const sockets = new Set<unknown>();
  const url = await serve(t, async (request, response) => {
    sockets.add(request.socket);
    let body = '';
    for await (const chunk of request.setEncoding('utf8')) body += chunk;
    got.push({ headers: request.headers, method: request.method, path: request.url, body });
    response.writeHead(got.length === 2 ? 503 : 204).end();
  });
  const secretFile = join(freshFolder(t), 'secret');
  writeFileSync(secretFile, 'a secret of more than sixteen bytes');
  const { notifier } = open(t, [{ url: `${url}/hook?x=1`, secretFile }]);
  for (let sequence = 1; sequence <= 4; sequence++) notifier.tell(message(sequence));
  t.equal(got.length, 0, 'nobody waits for it');
  await until('five requests', () => got.length === 5);
  t.same(
    got.map(({ body }) => JSON.parse(body).message),
    ['1: 86 °C', '2: 86 °C', '2: 86 °C', '3: 86 °C', '4: 86 °C'],
  );
  for (const { headers, method, path, body } of got) {
    t.match({ method, path }, { method: 'POST', path: '/hook?x=1' });
    t.equal(headers['content-type'], 'application/json');
    const id = JSON.parse(body).id;
    const wallMs = Number(headers['webhook-timestamp']) * 1000;
    const key = Buffer.from('a secret of more than sixteen bytes');
    t.match(headers, signatureHeaders(key, { id, body }, wallMs));
    t.ok(Math.abs(Date.now() - wallMs) < 10_000);
  }
  t.equal(got[1]?.headers['webhook-id'], got[2]?.headers['webhook-id'], 'the same notice again');
  t.equal(sockets.size, 1);
  await until('the last answer', () => notifier.status()[0]?.pending === 0);
  t.match(notifier.status(), [{ target: 't0', ok: true, sent: 4, failed: 1, dropped: 0, pending: 0 }]);
});

t.test('createNotifier() follows no redirect, asks no link-local address, and tells none of its path', async (t) => {
  let strayed = 0;
  const elsewhere = await serve(t, (_request, response) => {
    strayed += 1;
    response.end();
  });
  const url = await serve(t, (_request, response) => {
    response.writeHead(307, { location: `${elsewhere}/services/SECRETPATH` }).end();
  });
  const { notifier, logged } = open(t, [
    { url: `${url}/services/SECRETPATH` },
    { url: 'http://169.254.169.254/latest/SECRETPATH' },
    { url: 'http://[::ffff:169.254.1.1]/SECRETPATH' },
  ]);
  notifier.tell(message(1));
  await until('all have failed', () => notifier.status().every(({ ok }) => !ok));
  t.match(
    notifier.status().map(({ lastError }) => lastError?.detail),
    [/answered 307: a redirect, which is not followed/, /link-local address, which is never asked/, /link-local/],
  );
  t.equal(strayed, 0);
  t.notMatch(JSON.stringify([logged, notifier.status()]), /SECRETPATH/);
});

t.test('createNotifier() is kept by no webhook: not by one that hangs, trickles or cuts, nor at its end', async (t) => {
  const hangs = await serve(t, () => undefined);
  let cuts = 0;
  const cut = await serve(t, (request) => {
    cuts += 1;
    request.socket.destroy();
  });
  let told = 0;
  const well = await serve(t, (_request, response) => {
    told += 1;
    response.end('ok');
  });
  const { notifier } = open(t, [{ url: hangs }, { url: cut }, { url: well }]);
  const startedAt = performance.now();
  for (let sequence = 1; sequence <= 300; sequence++) notifier.tell(message(sequence, 'reset'));
  t.ok(performance.now() - startedAt < 500, 'three hundred notices are noted at once');
  await until('the others go on', () => told >= 256 && cuts >= 2);
  t.match(notifier.status()[0], { ok: true, pending: 256, sent: 0, dropped: 44 });
  const closedAt = performance.now();
  await notifier.close();
  t.ok(performance.now() - closedAt < 1_000, 'and it ends at once');
});

t.test('createNotifier() survives a listener that breaks', async (t) => {
  const { notifier, logged } = open(t, [{ url: 'http://127.0.0.1:1' }]);
  notifier.tell({ type: 'event' } as unknown as Message);
  t.match(logged, [/^Cannot note what a webhook is to be told/]);
});
