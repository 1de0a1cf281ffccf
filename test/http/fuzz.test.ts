// Every route and the WebSocket of the real service, asked with what the OpenAPI document says, with what it does not
// say, and with what is no HTTP. Nothing may be answered 500, answered otherwise than documented, crash the process, fill
// its memory, or keep a stop from being taken.
//
// How much and from which seed: support/fuzz.ts. A failure prints its seed and the request.
import { readFileSync } from 'node:fs';
import { Agent, request as httpRequest, type IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import * as fc from 'fast-check';
import t from 'tap';
import { WebSocket } from 'ws';
import { parse } from 'yaml';
import { ApiDocument } from '../support/api-document.ts';
import { fuzz } from '../support/fuzz.ts';
import { type RealService, startService } from '../support/real-service.ts';
import { anyJson, nastyText, SchemaArbitrary } from '../support/schema-arbitrary.ts';

const ANSWER_WITHIN_MS = 20_000;
/** Above what it holds anyhow, after thousands of requests: the ring of evaluations, the journal's copy, Node's slack. */
const MOST_GROWTH_BYTES = 150 * 2 ** 20;

interface Operation {
  readonly parameters?: readonly { readonly name: string; readonly in: string; readonly schema: unknown }[];
  readonly requestBody?: { readonly content: Record<string, { readonly schema: unknown }> };
}
interface Asked {
  readonly method: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

const yaml = parse(readFileSync('openapi/openapi.yaml', 'utf8')) as {
  paths: Record<string, Record<string, Operation>>;
};
const document = new ApiDocument(yaml);
const values = new SchemaArbitrary(yaml);

const asText = (value: unknown): string => (typeof value === 'string' ? value : (JSON.stringify(value) ?? ''));
/** Lone halves of a surrogate pair cannot be sent. */
const wellFormed = (text: string): string => Buffer.from(text).toString();
const encoded = (text: string): string => encodeURIComponent(wellFormed(text));
/** What a header may carry at all; the rest is tried over a raw socket. */
const headerText = nastyText.map((text) => text.replace(/[^\x20-\x7e]/g, '').slice(0, 200));

const junkHeaders = fc.dictionary(
  fc.constantFrom(
    'accept',
    'accept-encoding',
    'range',
    'if-none-match',
    'cookie',
    'expect',
    'te',
    'x-request-id',
    'prefer',
  ),
  headerText,
  { maxKeys: 3 },
);
const contentType = fc.constantFrom(
  'application/json',
  'application/json',
  'application/json; charset=utf-8',
  'application/json;charset=',
  'text/plain',
  'application/x-www-form-urlencoded',
  'multipart/form-data; boundary=x',
  'application/json, text/html',
  ';',
  '',
);

/** Requests for one operation: parameters and body by its schemas, each of them broken now and then. */
function requestsFor(path: string, method: string, operation: Operation): fc.Arbitrary<Asked> {
  const parameters = operation.parameters ?? [];
  const inPath = parameters.filter((one) => one.in === 'path');
  const inQuery = parameters.filter((one) => one.in === 'query' && one.name !== 'wait');
  const schema = operation.requestBody?.content['application/json']?.schema;
  const body = schema === undefined ? anyJson : values.of(schema);
  return fc
    .record({
      path: fc.tuple(...inPath.map(({ schema: one }) => fc.oneof(fc.constantFrom('bizon1', 'x'), values.of(one)))),
      query: fc.tuple(...inQuery.map(({ schema: one }) => fc.option(values.of(one)))),
      extra: fc.option(fc.tuple(nastyText, nastyText), { freq: 8 }),
      body: fc.oneof(
        { weight: 8, arbitrary: body.map((value) => JSON.stringify(value) ?? '') },
        { weight: 1, arbitrary: nastyText },
        { weight: 1, arbitrary: body.map((value) => (JSON.stringify(value) ?? '').slice(0, -1)) },
      ),
      hasBody: schema === undefined ? fc.constant(false) : fc.constantFrom(true, true, true, false),
      type: contentType,
      headers: junkHeaders,
    })
    .map(({ path: steps, query, extra, body: text, hasBody, type, headers }) => {
      const filled = inPath.reduce(
        (url, { name }, index) => url.replace(`{${name}}`, encoded(asText(steps[index]).slice(0, 700))),
        path,
      );
      const pairs = inQuery.flatMap(({ name }, index) => {
        const value = query[index];
        return value === null || value === undefined ? [] : [`${name}=${encoded(asText(value).slice(0, 2_000))}`];
      });
      if (extra) pairs.push(`${encoded(extra[0])}=${encoded(extra[1]).slice(0, 2_000)}`);
      return {
        method: method.toUpperCase(),
        url: pairs.length === 0 ? filled : `${filled}?${pairs.join('&')}`,
        headers: { ...headers, ...(hasBody && type !== '' && { 'content-type': type }) },
        body: hasBody ? wellFormed(text) : '',
      };
    });
}

const operations = Object.entries(yaml.paths).flatMap(([path, item]) =>
  Object.entries(item).map(([method, operation]) => ({ path, method, operation })),
);

const agent = new Agent({ keepAlive: true, maxSockets: 16 });
t.teardown(() => agent.destroy());

async function send(service: RealService, asked: Asked, token: string | null) {
  const { hostname, port } = new URL(service.url);
  const answer = await new Promise<IncomingMessage>((resolve, reject) => {
    const outgoing = httpRequest(
      {
        agent,
        hostname,
        port,
        method: asked.method,
        path: asked.url,
        headers: {
          ...asked.headers,
          ...(asked.body !== '' && { 'content-length': String(Buffer.byteLength(asked.body)) }),
          ...(token !== null && { authorization: `Bearer ${token}` }),
        },
        timeout: ANSWER_WITHIN_MS,
      },
      resolve,
    );
    outgoing.on('timeout', () => outgoing.destroy(new Error(`no answer within ${ANSWER_WITHIN_MS / 1000} s`)));
    outgoing.on('error', reject).end(asked.body);
  });
  const chunks: Buffer[] = [];
  for await (const chunk of answer) chunks.push(chunk as Buffer);
  return { statusCode: answer.statusCode ?? 0, headers: answer.headers, body: Buffer.concat(chunks).toString() };
}

const shown = (asked: Asked): string => JSON.stringify({ ...asked, body: asked.body.slice(0, 500) });
/** A problem with `internal-error` is a 500; what else is broken shows in the log. */
function mistakesIn({ output }: RealService): string[] {
  return output
    .join('')
    .split('\n')
    .filter((line) => /"level":"(error|fatal)"/.test(line) && /Cannot answer|invariant|TypeError/.test(line));
}

async function residentBytes(service: RealService): Promise<number> {
  const { body } = await service.get('/metrics');
  return Number(/^process_resident_memory_bytes (\S+)$/m.exec(body)?.[1]);
}

t.test('the service under fire', async (t) => {
  const service = await startService(t, { args: ['--source', 'simulated', '--log-level', 'error'].slice(0, 2) });
  const { token } = service;
  await residentBytes(service);
  const beforeBytes = await residentBytes(service);
  const isAlive = (): boolean => service.child.exitCode === null && service.child.signalCode === null;

  await t.test('every route answers as documented, whatever is asked', async (t) => {
    t.ok(operations.length > 20);
    for (const { path, method, operation } of operations) {
      if (path === '/ws') continue;
      const property = fc.asyncProperty(
        fc.array(requestsFor(path, method, operation), { minLength: 1, maxLength: 6 }),
        fc.boolean(),
        async (batch, isOperator) => {
          await Promise.all(
            batch.map(async (asked) => {
              const answer = await send(service, asked, isOperator ? token : null);
              if (answer.statusCode === 500) throw new Error(`500 to ${shown(asked)}`);
              const problems = asked.method === 'HEAD' ? [] : document.problemsOf(asked.method, asked.url, answer);
              if (problems.length > 0)
                throw new Error(`${problems.join('; ')}\n${answer.body.slice(0, 500)}\nto ${shown(asked)}`);
            }),
          );
          // A rig whose source hangs would make every later answer slow.
          if (path === '/simulation') await service.simulate({ faults: [], load: 0 });
        },
      );
      await fc.assert(property, fuzz(20));
      t.ok(isAlive(), `${method} ${path}`);
    }
    t.same(mistakesIn(service), []);
  });

  await t.test('what is no HTTP, or stops half way, is answered or cut off', async (t) => {
    const line = fc.oneof(
      fc.constantFrom(...operations.map(({ path, method }) => `${method.toUpperCase()} ${path} HTTP/1.1`)),
      fc.constantFrom(
        'GET /status HTTP/9.9',
        'GET  HTTP/1.1',
        'PRI * HTTP/2.0',
        'TRACE / HTTP/1.1',
        'GET http://x/status HTTP/1.1',
        'get /status http/1.1',
        'OPTIONS * HTTP/1.1',
        'CONNECT x:1 HTTP/1.1',
      ),
      nastyText,
    );
    const header = fc.oneof(
      fc.constantFrom(
        'host: localhost',
        'host: localhost\r\nhost: evil.example',
        'content-length: -1',
        'content-length: 5\r\ncontent-length: 6',
        'content-length: 99999999999999999999',
        'content-length: 4\r\ntransfer-encoding: chunked',
        'transfer-encoding: chunked, gzip',
        'transfer-encoding:\tchunked',
        'expect: 100-continue',
        'connection: upgrade\r\nupgrade: h2c',
        'connection: upgrade\r\nupgrade: websocket',
        'authorization: Bearer ',
        'origin: null',
        'cookie: a=b; a=c',
        'x-forwarded-for: ::1',
        ' folded: x',
        'bad header: x',
        'no-colon',
      ),
      fc.tuple(nastyText, nastyText).map(([name, value]) => `${name}: ${value}`),
    );
    const body = fc.oneof(
      fc.constantFrom('', '{}', '5\r\nhello\r\n0\r\n\r\n', 'zz\r\n', 'ffffffffffffffff\r\nx'),
      nastyText,
    );
    const message = fc.record({
      line,
      headers: fc.array(header, { maxLength: 6 }),
      body,
      cut: fc.option(fc.double({ min: 0, max: 1, noNaN: true })),
    });
    const property = fc.asyncProperty(fc.array(message, { minLength: 1, maxLength: 8 }), async (messages) => {
      await Promise.all(
        messages.map(async ({ line: first, headers, body: rest, cut }) => {
          const whole = Buffer.from(`${first}\r\n${headers.join('\r\n')}\r\n\r\n${rest}`);
          const sent = cut === null ? whole : whole.subarray(0, Math.floor(whole.length * cut));
          const answer = await writeAndLeave(service.url, [sent], 250);
          const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(answer)?.[1] ?? 0);
          if (status === 500) throw new Error(`500 to ${whole.toString('latin1').slice(0, 500)}`);
        }),
      );
    });
    await fc.assert(property, fuzz(40));
    t.ok(isAlive());
    t.same(mistakesIn(service), []);
  });

  await t.test('WebSocket handshakes and frames of any kind harm nobody else', async (t) => {
    const url = `${service.url.replace('http', 'ws')}/ws`;
    const watcher = new WebSocket(url, ['vsf.v1']);
    t.teardown(() => watcher.terminate());
    let messages = 0;
    watcher.on('message', () => {
      messages += 1;
    });
    const handshake = (lines: readonly string[]): string =>
      ['GET /ws HTTP/1.1', 'host: localhost', 'connection: upgrade', 'upgrade: websocket', ...lines].join('\r\n') +
      '\r\n\r\n';
    const GOOD = [
      'sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==',
      'sec-websocket-version: 13',
      'sec-websocket-protocol: vsf.v1',
    ];
    const opening = fc.oneof(
      { weight: 4, arbitrary: fc.constant(handshake(GOOD)) },
      {
        weight: 2,
        arbitrary: fc
          .array(
            fc.oneof(
              fc.constantFrom(
                ...GOOD,
                'sec-websocket-version: 8',
                'sec-websocket-key: x',
                'sec-websocket-extensions: permessage-deflate; x="',
                'sec-websocket-protocol: bearer.x, vsf.v1',
                'sec-websocket-protocol: ,,',
                'origin: http://evil.example',
              ),
              headerText.map((text) => `sec-websocket-protocol: ${text}`),
            ),
            { maxLength: 5 },
          )
          .map(handshake),
      },
    );
    const frame = fc.oneof(
      fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
      // FIN and operation, masked length, mask, and what follows: also longer than is allowed, and longer than it is.
      fc
        .tuple(
          fc.integer({ min: 0, max: 255 }),
          fc.constantFrom(0, 1, 125, 126, 127),
          fc.uint8Array({ minLength: 0, maxLength: 5_000 }),
        )
        .map(([first, length, bytes]) => Buffer.concat([Buffer.from([first, 0x80 | length]), Buffer.from(bytes)])),
    );
    const property = fc.asyncProperty(
      fc.array(fc.tuple(opening, fc.array(frame, { maxLength: 6 })), { minLength: 1, maxLength: 8 }),
      async (clients) => {
        await Promise.all(
          clients.map(async ([hello, frames]) => {
            const answer = await writeAndLeave(service.url, [hello, ...frames], 60);
            const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(answer)?.[1] ?? 0);
            if (status === 500) throw new Error(`500 to ${hello}`);
          }),
        );
      },
    );
    await fc.assert(property, fuzz(40));
    t.ok(isAlive());
    const seen = messages;
    await service.post('/estop', { reason: 'a message for whoever still listens' });
    const endMs = performance.now() + 10_000;
    while (messages === seen && performance.now() < endMs) await new Promise((resolve) => setTimeout(resolve, 20));
    t.ok(messages > seen, 'a client that behaves is still told');
    const settled = await service.until(
      'one WebSocket client',
      () => service.get('/metrics'),
      ({ body }) => /^vsf_safety_websocket_clients 1$/m.test(body),
    );
    t.equal(settled.status, 200, 'the others are gone');
    t.same(mistakesIn(service), []);
  });

  await t.test('after all that it stops at once, is well, and has not grown', async (t) => {
    const beganMs = performance.now();
    t.equal((await service.post('/estop', '{"nodes": broken')).status, 202);
    t.ok(performance.now() - beganMs < 1_000);
    t.equal((await service.get('/healthz')).status, 200);
    const grown = (await residentBytes(service)) - beforeBytes;
    t.ok(grown < MOST_GROWTH_BYTES, `it grew by ${Math.round(grown / 2 ** 20)} MiB`);
    t.equal(await service.stop(), 0);
  });
});

/** Writes `parts` on a connection of its own and goes away after `leaveMs`; the service must not mind. What was answered. */
function writeAndLeave(url: string, parts: readonly (string | Uint8Array)[], leaveMs: number): Promise<string> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve) => {
    const socket = connect({ host: hostname, port: Number(port) });
    let text = '';
    socket.setTimeout(1_500, () => socket.destroy());
    socket.on('data', (chunk) => (text += chunk.toString('latin1'))).on('error', () => undefined);
    socket.on('close', () => resolve(text));
    socket.on('connect', () => {
      for (const part of parts) socket.write(part);
      setTimeout(() => socket.destroy(), leaveMs);
    });
  });
}
