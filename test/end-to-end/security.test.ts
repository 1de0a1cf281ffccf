// The real service with TLS and tokens that are replaced while it runs, and the clients that must trust it.
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { Agent, request } from 'node:https';
import { connect as connectPlain } from 'node:net';
import { join } from 'node:path';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import t, { type Test } from 'tap';
import { WebSocket } from 'ws';
import { readAudit } from '../../src/audit.ts';
import { systemClock } from '../../src/clock.ts';
import { HttpService } from '../../src/sdk/http-service.ts';
import { freshFolder, type RealService, ROOT, startService } from '../support/real-service.ts';
import { makeCertificates, type TestCertificates } from '../support/stand-in-exporter.ts';

const MAIN = join(ROOT, 'dist/bundle/main.js');
const bearer = (token: string): { authorization: string } => ({ authorization: `Bearer ${token}` });
const hashOf = (token: string): string => createHash('sha256').update(token).digest('hex');

async function waitFor(what: string, isSo: () => boolean | Promise<boolean>, withinMs = 15_000): Promise<void> {
  const endMs = performance.now() + withinMs;
  while (!(await isSo())) {
    if (performance.now() > endMs) throw new Error(`${what} did not come about`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** A command line, to its end. */
function run(
  args: readonly string[],
  env: Record<string, string>,
): Promise<{ code: number; out: string; err: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [MAIN, ...args], { env: { PATH: process.env['PATH'], ...env } }, (error, out, err) =>
      resolve({ code: error ? Number(error.code) : 0, out, err }),
    );
  });
}

/** As a kubelet mounts a Secret: names that lead through one link, which is swapped. */
function mount(folder: string, version: string, { cert, key }: TestCertificates): void {
  mkdirSync(join(folder, version));
  copyFileSync(cert, join(folder, version, 'tls.crt'));
  copyFileSync(key, join(folder, version, 'tls.key'));
  symlinkSync(version, join(folder, '..data_tmp'));
  renameSync(join(folder, '..data_tmp'), join(folder, '..data'));
}

interface Tls {
  readonly url: string;
  readonly ca: Buffer;
}
interface Answer {
  readonly status: number;
  readonly body: string;
  readonly fingerprint: string;
}

function askTls(
  { url, ca }: Tls,
  path: string,
  options: { agent?: Agent; headers?: Record<string, string>; servername?: string } = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    request(
      url + path,
      {
        ca,
        agent: options.agent ?? false,
        headers: options.headers ?? {},
        ...(options.servername && { servername: options.servername }),
      },
      (answer: IncomingMessage) => {
        const { fingerprint256: fingerprint } = (answer.socket as TLSSocket).getPeerCertificate();
        let body = '';
        answer.setEncoding('utf8').on('data', (text: string) => (body += text));
        answer.on('end', () => resolve({ status: answer.statusCode ?? 0, body, fingerprint }));
      },
    )
      .on('error', reject)
      .end();
  });
}

t.test(
  'listen.tls serves TLS, takes new files without dropping a connection, and keeps the old ones where they are broken',
  async (t) => {
    const secrets = freshFolder(t);
    const [oldFolder, newFolder] = [freshFolder(t), freshFolder(t)];
    const names = 'DNS:localhost,IP:127.0.0.1';
    const [before, after] = await Promise.all([makeCertificates(oldFolder, names), makeCertificates(newFolder, names)]);
    mount(secrets, 'v1', before);
    for (const name of ['tls.crt', 'tls.key']) symlinkSync(`..data/${name}`, join(secrets, name));
    const service = await startService(t, {
      config: `listen: { tls: { certFile: "${secrets}/tls.crt", keyFile: "${secrets}/tls.key" } }\n`,
    });
    t.match(service.url, /^https:/);
    const url = service.url.replace('127.0.0.1', 'localhost');
    const old: Tls = { url, ca: readFileSync(before.ca) };
    const renewed: Tls = { url, ca: readFileSync(after.ca) };
    const port = Number(new URL(url).port);

    await t.test('it speaks TLS 1.2 and 1.3, and nothing else', async (t) => {
      for (const [version, isSpoken] of [
        ['TLSv1.3', true],
        ['TLSv1.2', true],
        ['TLSv1.1', false],
      ] as const) {
        const socket = connectTls({
          host: 'localhost',
          port,
          ca: old.ca,
          minVersion: version,
          maxVersion: version,
          ciphers: 'DEFAULT@SECLEVEL=0',
        });
        const outcome = await Promise.race([
          once(socket, 'secureConnect').then(() => true),
          once(socket, 'error').then(() => false),
        ]).catch(() => false);
        socket.destroy();
        t.equal(outcome, isSpoken, version);
      }
      const plain = connectPlain(port, '127.0.0.1');
      plain.on('error', () => undefined).write('GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n');
      plain.resume();
      await once(plain, 'close');
      t.equal((await askTls(old, '/healthz')).status, 200, 'whoever speaks plain HTTP is cut off and harms nobody');
    });

    await t.test('an Origin of https is judged as one of http', async (t) => {
      t.equal((await askTls(old, '/status', { headers: { origin: url } })).status, 200);
      t.equal((await askTls(old, '/status', { headers: { origin: 'https://evil.example' } })).status, 403);
      t.equal(
        (await askTls(old, '/status', { headers: { host: 'evil.example' }, servername: 'localhost' })).status,
        403,
      );
    });

    await t.test('the command line and the SDK trust the authority that they are told', async (t) => {
      const asked = ['status', '--url', url];
      const [refused, told, extra] = await Promise.all([
        run(asked, {}),
        run(asked, { VSF_SAFETY_CA_FILE: before.ca }),
        run(asked, { NODE_EXTRA_CA_CERTS: before.ca }),
      ]);
      t.equal(refused.code, 1);
      t.match(refused.err, /VSF_SAFETY_CA_FILE/);
      t.equal(told.code, 0, told.err);
      t.equal(extra.code, 0, extra.err);
      const question = { method: 'GET', path: '/estop', timeoutMs: 5_000 } as const;
      const trusting = new HttpService({ url }, { VSF_SAFETY_CA_FILE: before.ca }, systemClock);
      t.match(await trusting.ask(question), { kind: 'answered' });
      t.match(await new HttpService({ url }, {}, systemClock).ask(question), {
        kind: 'unreachable',
        detail: /VSF_SAFETY_CA_FILE/,
      });
    });

    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    t.teardown(() => agent.destroy());
    const first = await askTls(old, '/healthz', { agent });
    const socket = new WebSocket(`${url.replace('https', 'wss')}/ws`, ['vsf.v1'], { ca: old.ca });
    t.teardown(() => socket.terminate());
    await once(socket, 'open');

    // Nobody tells it: it looks by itself, within 10 s.
    mount(secrets, 'v2', after);
    await waitFor(
      'the new certificate',
      async () => (await askTls(renewed, '/healthz').catch(() => null))?.status === 200,
      20_000,
    );
    const second = await askTls(old, '/healthz', { agent });
    t.equal(second.fingerprint, first.fingerprint, 'a connection that was there goes on');
    t.equal(socket.readyState, WebSocket.OPEN);
    await t.rejects(askTls(old, '/healthz'), 'a new one gets the new certificate');

    rmSync(join(secrets, 'v2', 'tls.key'));
    copyFileSync(before.key, join(secrets, 'v2', 'tls.key'));
    service.child.kill('SIGHUP');
    const security = async () => JSON.parse((await askTls(renewed, '/status')).body).security;
    await waitFor('a broken pair', async () => !(await security()).certificate.ok);
    t.match((await security()).certificate, {
      detail: /no TLS can be made of .*KEY_VALUES_MISMATCH/,
    });
    t.match((await askTls(renewed, '/metrics')).body, /^vsf_safety_access_ok\{part="certificate"\} 0$/m);
    t.match(service.output.join(''), /Cannot renew the certificate.*The old one stays in use/);
    t.match(service.output.join(''), /certificate expires at/, 'two days are left, which is warned of');
    t.notMatch(service.output.join(''), /PRIVATE KEY/);

    copyFileSync(after.key, join(secrets, 'v2', 'tls.key'));
    service.child.kill('SIGHUP');
    await waitFor('a good pair', async () => (await security()).certificate.ok);
    t.match((await askTls(renewed, '/metrics')).body, /^vsf_safety_certificate_not_after_seconds \d{10}$/m);
    t.equal(await service.stop(), 0);
    t.ok((await readAudit(service.stateDir)).some(({ deed }) => deed === 'certificate-reloaded'));
  },
);

t.test('serve refuses to start without a usable certificate, and says which file', async (t) => {
  const folder = freshFolder(t);
  writeFileSync(join(folder, 'tls.crt'), 'nothing');
  writeFileSync(
    join(folder, 'safety.yaml'),
    `listen: { tls: { certFile: "${folder}/tls.crt", keyFile: "${folder}/none.key" } }\n`,
  );
  const args = ['serve', '--source', 'simulated', '--port', '0', '--state-dir', join(folder, 'state')];
  const ended = await run([...args, '--config', join(folder, 'safety.yaml')], {});
  t.equal(ended.code, 1);
  t.match(ended.err, /Cannot serve TLS: .*none\.key.*no such file/);
});

/** A service whose configuration a test rewrites. */
async function withConfig(
  t: Test,
  text: string,
): Promise<{ service: RealService; file: string; write: (text: string) => void }> {
  const file = join(freshFolder(t), 'safety.yaml');
  writeFileSync(file, text);
  const service = await startService(t, { args: ['--source', 'simulated', '--config', file] });
  const write = (next: string): void => {
    writeFileSync(`${file}.new`, next);
    renameSync(`${file}.new`, file);
  };
  return { service, file, write };
}
const tokensOf = (...tokens: string[]): string =>
  `auth: { tokens: [ ${tokens.map((token) => `{ role: viewer, sha256: "${hashOf(token)}" }`).join(', ')} ] }\n`;

t.test('tokens are rotated without a restart: on SIGHUP, by themselves, and never by a broken file', async (t) => {
  const { service, write } = await withConfig(t, tokensOf('token-a-0123456789'));
  const status = async (token: string): Promise<number> =>
    (await service.ask('GET', '/status', undefined, bearer(token))).status;
  const socket = new WebSocket(`${service.url.replace('http', 'ws')}/ws`, ['vsf.v1'], {
    headers: bearer('token-a-0123456789'),
  });
  t.teardown(() => socket.terminate());
  await once(socket, 'open');
  const closed = once(socket, 'close');
  t.equal(await status('token-a-0123456789'), 200);

  write(tokensOf('token-b-0123456789'));
  service.child.kill('SIGHUP');
  await waitFor('token b', async () => (await status('token-b-0123456789')) === 200, 4_000);
  t.equal(await status('token-a-0123456789'), 401, 'a removed token is refused');
  t.equal((await closed)[0], 1008, 'and its WebSocket is closed');

  write('auth: { tokens: [ { role: viewer\n');
  service.child.kill('SIGHUP');
  const security = async () => (await service.get('/status')).body.security;
  await waitFor('a broken file', async () => !(await security()).tokens.ok);
  t.match((await security()).tokens.detail, /Cannot use the configuration/);
  t.equal(await status('token-b-0123456789'), 200, 'the old tokens hold');
  t.match((await service.get('/metrics')).body, /^vsf_safety_access_ok\{part="tokens"\} 0$/m);

  // Nobody tells it: seen twice, five seconds apart.
  write(`interval: 5s\n${tokensOf('token-c-0123456789')}`);
  await waitFor('token c', async () => (await status('token-c-0123456789')) === 200, 20_000);
  t.ok((await security()).tokens.ok);
  t.match(service.output.join(''), /changed beside its tokens/);
  t.equal((await service.get('/status')).body.evaluation.intervalSeconds, 10, 'and nothing else of the file holds');
  t.equal(await service.stop(), 0);
  const reloads = (await readAudit(service.stateDir)).filter(({ deed }) => deed === 'tokens-reloaded');
  t.match(reloads, [
    {
      outcome: 'done',
      detail: `tokens added: viewer token:${hashOf('token-b-0123456789').slice(0, 12)}; removed: viewer token:${hashOf('token-a-0123456789').slice(0, 12)}`,
    },
    { outcome: 'failed' },
    { outcome: 'done' },
  ]);
});

t.test(
  'the operator’s token is rotated by its file: removed and asked for, replaced, and never by a bad one',
  async (t) => {
    const service = await startService(t);
    const file = join(service.stateDir, 'operator-token');
    const operate = async (token: string): Promise<number> =>
      (await service.ask('POST', '/simulation', {}, bearer(token))).status;
    const first = service.token;
    t.equal(await operate(first), 200);

    rmSync(file);
    service.child.kill('SIGHUP');
    await waitFor('a new token', async () => (await operate(first)) === 401);
    const second = service.token;
    t.not(second, first);
    t.equal(await operate(second), 200);

    writeFileSync(`${file}.mine`, 'a-token-of-my-own-0123456789\n', { mode: 0o644 });
    chmodSync(`${file}.mine`, 0o644);
    renameSync(`${file}.mine`, file);
    service.child.kill('SIGHUP');
    await waitFor('a refusal', async () => !(await service.get('/status')).body.security.tokens.ok);
    t.equal(await operate('a-token-of-my-own-0123456789'), 401, 'others may have read it');
    t.equal(await operate(second), 200, 'the old one holds');

    chmodSync(file, 0o600);
    service.child.kill('SIGHUP');
    await waitFor('my own token', async () => (await operate('a-token-of-my-own-0123456789')) === 200);
    t.equal(await operate(second), 401);
    t.equal(await service.stop(), 0);
  },
);

t.test('vsf-safety token new makes a token that its line makes known; audit lists what was done', async (t) => {
  const made = await run(['token', 'new', '--role', 'viewer', '--json'], {});
  const { token, sha256 } = JSON.parse(made.out) as { token: string; sha256: string };
  t.equal(sha256, hashOf(token));
  const shown = await run(['token', 'new', '--role', 'operator'], {});
  const line = /- (\{ role: operator, sha256: "[0-9a-f]{64}" \})/.exec(shown.out)?.[1];
  const shownToken = /token +(vsf_\S+)/.exec(shown.out)?.[1] ?? '';
  t.equal((await run(['token', 'new', '--role', 'root'], {})).code, 2);
  const { service } = await withConfig(t, `auth: { tokens: [ { role: viewer, sha256: "${sha256}" }, ${line} ] }\n`);
  t.equal((await service.ask('GET', '/status', undefined, bearer(token))).status, 200);
  t.equal((await service.ask('POST', '/simulation', {}, bearer(shownToken))).status, 200);
  await service.ask('POST', '/estop', { reason: 'smoke in rack 4' }, bearer(shownToken));
  await waitFor('the entry', async () => (await readAudit(service.stateDir)).some(({ deed }) => deed === 'stop'));
  const listed = await run(['audit', '--state-dir', service.stateDir], {});
  t.equal(listed.code, 0);
  t.match(
    listed.out,
    new RegExp(`stop +done +token:${hashOf(shownToken).slice(0, 12)} \\(operator\\) +127\\.0\\.0\\.1 +smoke in rack 4`),
  );
  const json = await run(['audit', '--state-dir', service.stateDir, '--json', '--last', '1'], {});
  t.match(JSON.parse(json.out), { deed: 'stop', reason: 'smoke in rack 4', status: 202 });
});
