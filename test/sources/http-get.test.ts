import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import t, { type Test } from 'tap';
import { systemClock } from '../../src/clock.ts';
import { type CredentialSettings, createCredentials } from '../../src/sources/credentials.ts';
import type { ResolveHost } from '../../src/sources/host-lookup.ts';
import { createHttpGetter, excerptOf, type HttpAnswer, type HttpQuestion } from '../../src/sources/http-get.ts';
import {
  compresses,
  hangs,
  hangsInBody,
  isBombOf,
  isCutAfter,
  isSlow,
  makeCertificates,
  neverEnds,
  redirectsTo,
  says,
  serverTls,
  standInExporter,
  writesRaw,
} from '../support/stand-in-exporter.ts';
import { tempDir } from '../support/temp-dir.ts';

const clock = systemClock;

/** `get` with a deadline of 2 s, no credentials and no ranges unless told; closed after `t`. */
function getter(t: Test, resolveHost?: ResolveHost) {
  const http = createHttpGetter({ clock, ...(resolveHost && { resolveHost }) });
  t.teardown(() => http.close());
  const get = (
    url: string,
    { withinMs = 2_000, ...question }: Partial<HttpQuestion> & { withinMs?: number } = {},
  ): Promise<HttpAnswer> =>
    http.get(url, {
      deadlineMs: clock.now().elapsedMs + withinMs,
      credentials: null,
      allowedRanges: null,
      ...question,
    });
  return { get, close: () => http.close() };
}

const bodyOf = (answer: HttpAnswer): string =>
  answer.kind === 'answered' ? answer.body.toString() : `failed: ${answer.detail}`;
const detailOf = (answer: HttpAnswer): string => (answer.kind === 'failed' ? answer.detail : 'answered');

t.test('get() gives a whole answer with its status, type, time and body', async (t) => {
  const { get } = getter(t);
  const exporter = await standInExporter(t, says('up 1\n'));
  const answer = await get(exporter.url, { headers: { accept: 'text/plain' } });
  t.match(answer, {
    kind: 'answered',
    status: 200,
    contentType: 'text/plain; version=0.0.4; charset=utf-8',
    isComplete: true,
    hasDeclaredEnd: true,
  });
  t.equal(bodyOf(answer), 'up 1\n');
  if (answer.kind === 'answered') t.ok(Math.abs((answer.dateMs ?? 0) - Date.now()) < 2_000);
  t.match(exporter.requests, [{ path: '/metrics', headers: { accept: 'text/plain', 'accept-encoding': 'gzip' } }]);
});

t.test('get() gives an answer of any status but a redirect, with its body', async (t) => {
  const { get } = getter(t);
  const exporter = await standInExporter(t, says('overloaded', {}, 503));
  const answer = await get(exporter.url);
  t.match(answer, { kind: 'answered', status: 503, statusText: 'Service Unavailable' });
  t.equal(bodyOf(answer), 'overloaded');
});

t.test('get() keeps its connection from one question to the next', async (t) => {
  const { get } = getter(t);
  const exporter = await standInExporter(t, says('up 1\n'));
  for (let question = 0; question < 3; question++) await get(exporter.url);
  t.same(
    exporter.requests.map(({ connection }) => connection),
    [1, 1, 1],
  );
});

t.test('get() asks again on a new connection when a kept one turns out to be closed', async (t) => {
  const { get } = getter(t);
  const exporter = await standInExporter(t, says('up 1\n'));
  await get(exporter.url);
  // The kept connection is closed when, and only when, it is used again.
  exporter.answer = (request, response) => {
    if (exporter.requests.at(-1)?.connection === 1) request.socket.destroy();
    else says('up 2\n')(request, response);
  };
  t.equal(bodyOf(await get(exporter.url)), 'up 2\n');
  t.same(
    exporter.requests.map(({ connection }) => connection),
    [1, 1, 2],
  );
});

t.test('get() asks once only when a new connection is cut before an answer', async (t) => {
  const { get } = getter(t);
  const exporter = await standInExporter(t, (request) => request.socket.destroy());
  const answer = await get(exporter.url);
  t.match(answer, { kind: 'failed', cause: 'failed', detail: 'the connection was cut before an answer' });
  t.equal(exporter.requests.length, 1);
});

t.test('get() does not ask again when a kept connection breaks inside an answer', async (t) => {
  const { get } = getter(t);
  const exporter = await standInExporter(t, says('up 1\n'));
  await get(exporter.url);
  exporter.answer = isCutAfter('up 1\n', 'length');
  t.match(await get(exporter.url), { kind: 'answered', isComplete: false });
  t.equal(exporter.requests.length, 2);
});

const LATE = { withinMs: 150 };
for (const [how, answer, stage] of [
  ['is silent', hangs, 'it was connected to and asked'],
  ['stops in its body', hangsInBody, 'its answer had begun'],
  ['is too slow', isSlow(400, says('up 1\n')), 'it was connected to and asked'],
] as const) {
  t.test(`get() gives up at its deadline on a server that ${how}, and says how far it got`, async (t) => {
    const { get } = getter(t);
    const exporter = await standInExporter(t, answer);
    const startedMs = clock.now().elapsedMs;
    const given = await get(exporter.url, LATE);
    const tookMs = clock.now().elapsedMs - startedMs;
    t.match(given, { kind: 'failed', cause: 'timeout', detail: new RegExp(`^no answer within 150 ms: ${stage}$`) });
    t.ok(tookMs >= 140 && tookMs < 450, `after ${tookMs} ms`);
    // The connection is closed, not used again: its answer would be that to the question before.
    for (let wait = 0; exporter.openConnections > 0 && wait < 100; wait++) await clock.sleep(10);
    t.equal(exporter.openConnections, 0);
    exporter.answer = says('up 2\n');
    t.equal(bodyOf(await get(exporter.url)), 'up 2\n');
    t.equal(exporter.requests.at(-1)?.connection, 2);
  });
}

t.test('get() asks nothing when no time is left', async (t) => {
  const { get } = getter(t);
  const exporter = await standInExporter(t, says('up 1\n'));
  t.match(await get(exporter.url, { withinMs: 0 }), { kind: 'failed', cause: 'timeout' });
  t.equal(exporter.requests.length, 0);
});

t.test('get() gives up at its deadline on a name that DNS does not tell, and looks it up once at a time', async (t) => {
  let looks = 0;
  const { get } = getter(t, () => {
    looks++;
    return new Promise(() => undefined);
  });
  const answers = await Promise.all([1, 2, 3].map(() => get('http://exporter.example/metrics', LATE)));
  for (const answer of answers) t.match(answer, { cause: 'timeout', detail: /it was being connected to/ });
  t.equal(looks, 1);
});

t.test('get() tells a refused connection', async (t) => {
  const { get } = getter(t);
  const exporter = await standInExporter(t, hangs);
  await exporter.close();
  t.match(await get(exporter.url), { kind: 'failed', cause: 'refused', detail: 'the connection was refused' });
});

t.test('get() tells an unknown name', async (t) => {
  const error = Object.assign(new Error('getaddrinfo ENOTFOUND exporter.example'), { code: 'ENOTFOUND' });
  const { get } = getter(t, () => Promise.reject(error));
  t.match(await get('http://exporter.example/'), { kind: 'failed', cause: 'failed', detail: 'its name is unknown' });
});

for (const status of [301, 302, 303, 307, 308]) {
  t.test(`get() refuses redirect ${status}`, async (t) => {
    const { get } = getter(t);
    const goal = await standInExporter(t, says('up 1\n'));
    const exporter = await standInExporter(t, redirectsTo(`${goal.url}?token=abc`, status));
    t.match(await get(exporter.url), {
      kind: 'failed',
      cause: 'bad-status',
      detail: `it answered ${status}: redirect to ${goal.url}?... refused`,
    });
    t.equal(goal.requests.length, 0);
  });
}

for (const framing of ['length', 'chunked'] as const) {
  t.test(`get() tells a body that is cut short of its declared end (${framing})`, async (t) => {
    const { get } = getter(t);
    const exporter = await standInExporter(t, isCutAfter('a 1\nb 8', framing));
    const answer = await get(exporter.url);
    t.match(answer, { kind: 'answered', status: 200, isComplete: false });
    t.equal(bodyOf(answer), 'a 1\nb 8');
  });
}

t.test('get() tells a body that only the end of the connection ended', async (t) => {
  const { get } = getter(t);
  const exporter = await standInExporter(t, writesRaw('HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\na 1\n'));
  const answer = await get(exporter.url);
  t.match(answer, { kind: 'answered', isComplete: true, hasDeclaredEnd: false, dateMs: null });
  t.equal(bodyOf(answer), 'a 1\n');
});

t.test('get() decompresses gzip', async (t) => {
  const { get } = getter(t);
  const exporter = await standInExporter(t, compresses('up 1\n'.repeat(1_000)));
  t.equal(bodyOf(await get(exporter.url)), 'up 1\n'.repeat(1_000));
});

t.test('get() refuses a compressed body that is cut, spoilt, or in another encoding', async (t) => {
  const { get } = getter(t);
  const whole = gzipSync('up 1\n'.repeat(1_000));
  const exporter = await standInExporter(t, says(''));
  const sends = (body: Buffer, encoding = 'gzip') => {
    exporter.answer = (_request, response) => {
      response.writeHead(200, { 'content-encoding': encoding, 'content-length': `${body.length}` });
      response.end(body);
    };
    return get(exporter.url);
  };
  t.match(await sends(whole.subarray(0, -9)), { cause: 'bad-body', detail: /cannot be decompressed \(Z_BUF_ERROR\)/ });
  t.match(await sends(Buffer.from('up 1\n')), { cause: 'bad-body', detail: /cannot be decompressed/ });
  t.match(await sends(whole, 'br'), { cause: 'bad-body', detail: /the encoding "br", which nobody asked for/ });
});

t.test('get() stops at its bound: in what comes, and in what a bomb would become', async (t) => {
  const { get } = getter(t);
  const exporter = await standInExporter(t, says('x'.repeat(1_000)));
  const bound = { maxBytes: 1_000 };
  t.equal(bodyOf(await get(exporter.url, bound)).length, 1_000, 'at the bound');
  exporter.answer = says('x'.repeat(1_001));
  const tooMuch = { kind: 'failed', cause: 'bad-body', detail: 'its body is larger than 1000 bytes' };
  t.match(await get(exporter.url, bound), tooMuch);
  exporter.answer = neverEnds;
  t.match(await get(exporter.url, bound), tooMuch);
  exporter.answer = isBombOf(1_001);
  t.match(await get(exporter.url, bound), tooMuch);
});

t.test('get() holds a bomb to 16 MiB by itself', async (t) => {
  const { get } = getter(t);
  const exporter = await standInExporter(t, isBombOf(20_000_000));
  t.match(await get(exporter.url, { withinMs: 20_000 }), {
    cause: 'bad-body',
    detail: 'its body is larger than 16777216 bytes',
  });
});

for (const [what, text] of [
  ['other protocols', 'SSH-2.0-OpenSSH_9.2\r\n'],
  ['a switch of protocols', 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n'],
] as const) {
  t.test(`get() tells ${what} from an answer`, async (t) => {
    const { get } = getter(t);
    const server = createServer((socket) => socket.on('error', () => undefined).end(text));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    t.teardown(() => server.close());
    const address = server.address();
    const port = typeof address === 'object' ? address?.port : 0;
    t.match(await get(`http://127.0.0.1:${port}/`), { kind: 'failed', cause: 'bad-body', detail: /HTTP/ });
  });
}

t.test('get() refuses what is no http URL and never asks with a password in it', async (t) => {
  const { get } = getter(t);
  for (const url of ['file:///etc/passwd', 'ftp://a.example/', 'nonsense', 'http://', '']) {
    t.match(await get(url), { kind: 'failed', detail: 'it is no http or https URL' }, url);
  }
  const answer = await get('http://vsf:s3cret@127.0.0.1:1/');
  t.match(answer, { kind: 'failed', detail: 'a URL with a password in it is never asked' });
});

t.test('get() connects a found target only inside its ranges, a literal address', async (t) => {
  const { get } = getter(t);
  const exporter = await standInExporter(t, says('up 1\n'));
  const outside = await get(exporter.url, { allowedRanges: ['10.0.0.0/8'] });
  t.match(outside, { kind: 'failed', cause: 'refused', detail: '127.0.0.1 lies outside discovery.allow' });
  const mapped = exporter.url.replace('127.0.0.1', '[::ffff:127.0.0.1]');
  t.match(await get(mapped, { allowedRanges: ['::/0'] }), { cause: 'refused' });
  t.equal(exporter.requests.length, 0);
  t.equal(bodyOf(await get(exporter.url, { allowedRanges: ['127.0.0.0/8'] })), 'up 1\n');
  t.match(await get('http://169.254.169.254/', { allowedRanges: ['0.0.0.0/0'] }), {
    detail: '169.254.169.254 is a link-local address, which is never asked',
  });
});

t.test('get() connects a found target only inside its ranges, whatever its name resolves to', async (t) => {
  let address = '127.0.0.1';
  const { get } = getter(t, async () => [{ address, family: 4 }]);
  const exporter = await standInExporter(t, says('up 1\n'));
  const url = `http://exporter.example:${exporter.port}/metrics`;
  const outside = await get(url, { allowedRanges: ['10.0.0.0/8'] });
  t.match(outside, { cause: 'refused', detail: 'exporter.example: 127.0.0.1 lies outside discovery.allow' });
  t.equal(exporter.requests.length, 0);
  t.equal(bodyOf(await get(url)), 'up 1\n', 'a target of the configuration is not held to them');
  const stillOutside = await get(url, { allowedRanges: ['10.0.0.0/8'] });
  t.match(stillOutside, { cause: 'refused' }, 'nor is its kept connection lent to a found one');
  t.equal(bodyOf(await get(url, { allowedRanges: ['127.0.0.1'] })), 'up 1\n');
  exporter.cutConnections();
  address = '169.254.169.254';
  t.match(await get(url, { allowedRanges: ['127.0.0.1', '169.254.0.0/16'] }), { detail: /link-local/ });
});

t.test('get() takes the allowed one of several addresses', async (t) => {
  const { get } = getter(t, async () => [
    { address: '169.254.169.254', family: 4 },
    { address: '127.0.0.1', family: 4 },
  ]);
  const exporter = await standInExporter(t, says('up 1\n'));
  const answer = await get(`http://exporter.example:${exporter.port}/`, { allowedRanges: ['127.0.0.0/8'] });
  t.equal(bodyOf(answer), 'up 1\n');
});

/** A TLS exporter for `names`, and credentials for it with the files given. */
async function overTls(t: Test, names: string, asksForClient = false) {
  const files = await makeCertificates(await tempDir(t), names);
  const exporter = await standInExporter(t, says('up 1\n'), { tls: await serverTls(files, asksForClient) });
  const credentials = (settings: Omit<CredentialSettings, 'hosts'>) =>
    createCredentials({ clock, settings: [{ hosts: ['127.0.0.1'], ...settings }] });
  return { files, exporter, credentials, ...getter(t) };
}

t.test('get() trusts a server by the CA of its credentials, and nobody without', async (t) => {
  const { files, exporter, credentials, get } = await overTls(t, 'IP:127.0.0.1');
  t.match(detailOf(await get(exporter.url)), /unable to verify|self.signed/i);
  t.equal(exporter.requests.length, 0);
  const withCa = { credentials: credentials({ caFile: files.ca }) };
  t.equal(bodyOf(await get(exporter.url, withCa)), 'up 1\n');
  t.equal(bodyOf(await get(exporter.url, withCa)), 'up 1\n');
  t.equal(exporter.requests[0]?.connection, exporter.requests[1]?.connection, 'the connection is kept');
  t.match(detailOf(await get(exporter.url)), /unable to verify|self.signed/i, 'and not lent to who has no CA');
});

t.test('get() does not accept a certificate for another name, unless serverName says so', async (t) => {
  const { files, exporter, credentials, get } = await overTls(t, 'DNS:exporter.internal');
  const wrong = await get(exporter.url, { credentials: credentials({ caFile: files.ca }) });
  t.match(detailOf(wrong), /ALTNAME_INVALID/);
  const named = credentials({ caFile: files.ca, serverName: 'exporter.internal' });
  t.equal(bodyOf(await get(exporter.url, { credentials: named })), 'up 1\n');
});

t.test('get() shows its client certificate and its token', async (t) => {
  const { files, exporter, credentials, get } = await overTls(t, 'IP:127.0.0.1', true);
  const caFile = files.ca;
  t.equal((await get(exporter.url, { credentials: credentials({ caFile }) })).kind, 'failed', 'without a certificate');
  const tokenFile = join(await tempDir(t), 'token');
  await writeFile(tokenFile, 'tok-1');
  const all = { caFile, certFile: files.clientCert, keyFile: files.clientKey, bearerTokenFile: tokenFile };
  t.equal(bodyOf(await get(exporter.url, { credentials: credentials(all) })), 'up 1\n');
  t.match(exporter.requests, [{ headers: { authorization: 'Bearer tok-1' } }]);
});

t.test('get() shows nothing to a host that no entry names, and asks nobody without what belongs to it', async (t) => {
  const { get } = getter(t);
  const exporter = await standInExporter(t, says('up 1\n'));
  const tokenFile = join(await tempDir(t), 'token');
  await writeFile(tokenFile, 'tok-1');
  const withToken = (hosts: string[], bearerTokenFile = tokenFile) => ({
    credentials: createCredentials({ clock, settings: [{ hosts, bearerTokenFile }] }),
  });
  await get(exporter.url, withToken(['other.example']));
  t.equal(exporter.requests[0]?.headers.authorization, undefined);
  await get(exporter.url, withToken([`127.0.0.1:${exporter.port}`]));
  t.equal(exporter.requests[1]?.headers.authorization, 'Bearer tok-1');
  const missing = await get(exporter.url, withToken(['127.0.0.1'], '/nowhere/token'));
  t.match(missing, { kind: 'failed', cause: 'failed', detail: '/nowhere/token cannot be read: no such file' });
  t.equal(exporter.requests.length, 2);
});

t.test('get() uses a rotated CA for new questions', async (t) => {
  const { files, exporter, get, credentials } = await overTls(t, 'IP:127.0.0.1');
  const rotating = credentials({ caFile: files.ca });
  t.equal(bodyOf(await get(exporter.url, { credentials: rotating })), 'up 1\n');
  const other = await makeCertificates(await tempDir(t), 'IP:127.0.0.1');
  // Another material of the same entry, as after a rotation: the kept connection must not outlive the old trust.
  const changed = credentials({ caFile: other.ca });
  t.match(detailOf(await get(exporter.url, { credentials: changed })), /unable to verify|self.signed|signature/i);
});

t.test('close() breaks off what is under way', async (t) => {
  const { get, close } = getter(t);
  const exporter = await standInExporter(t, (_request, response) => {
    response.writeHead(200, { 'content-type': 'text/plain' });
    response.flushHeaders();
    setImmediate(close);
  });
  const answer = await get(exporter.url);
  t.not(answer.kind === 'answered' && answer.isComplete, true);
});

t.test('excerptOf() gives at most 120 printable characters in one line', async (t) => {
  t.equal(excerptOf(Buffer.from('<html>\r\n\t<b>no\u001b[31m\u0000 \u202efun</b>')), '<html> <b>no [31m fun</b>');
  t.equal(excerptOf(Buffer.from('x'.repeat(500)))?.length, 120);
  t.equal(excerptOf(Buffer.from(' \n\u0007')), undefined);
});
