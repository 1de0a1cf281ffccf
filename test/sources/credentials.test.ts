import { execFile } from 'node:child_process';
import { chmod, rename, symlink, unlink, utimes, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { type CredentialAnswer, type CredentialSettings, createCredentials } from '../../src/sources/credentials.ts';
import { asNobody } from '../support/as-nobody.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { makeCertificates } from '../support/stand-in-exporter.ts';
import { tempDir } from '../support/temp-dir.ts';

const SECRET = 's3cr3t-T0ken';

/** Credentials with a token file of `hosts`, in a folder of their own. */
async function withToken(t: Test, settings: Omit<CredentialSettings, 'bearerTokenFile'>) {
  const tokenFile = join(await tempDir(t), 'token');
  await writeFile(tokenFile, `${SECRET}\n`);
  const clock = new ManualClock();
  const credentials = createCredentials({ clock, settings: [{ ...settings, bearerTokenFile: tokenFile }] });
  return { tokenFile, clock, ask: (url: string) => credentials.credentialsFor(new URL(url)) };
}

function authorizationOf(answer: CredentialAnswer): string | null | undefined {
  return answer.kind === 'given' ? answer.authorization : undefined;
}

t.test('credentialsFor() gives a token only to the exact host that is named', async (t) => {
  const { ask } = await withToken(t, {
    hosts: ['Exporter.Example', 'other.example:9100', '[fd00::1]:9400', 'FD00::2'],
  });
  const given = [
    'https://exporter.example/metrics',
    'https://EXPORTER.example:9100/',
    'https://other.example:9100/',
    'https://[fd00::1]:9400/',
    'https://[fd00::2]/',
    'https://[fd00:0::2]:1/',
  ];
  for (const url of given) t.equal(authorizationOf(await ask(url)), `Bearer ${SECRET}`, url);
  const none = [
    'https://exporter.example.evil.test/',
    'https://sub.exporter.example/',
    'https://evil.test/?exporter.example',
    'https://exporter.example@evil.test/',
    'https://other.example/',
    'https://other.example:9101/',
    'https://[fd00::1]/',
    'https://exporter/',
  ];
  for (const url of none) t.same(await ask(url), { kind: 'none' }, url);
});

t.test('credentialsFor() knows the port that a URL leaves out', async (t) => {
  const { ask } = await withToken(t, { hosts: ['a.example:443'] });
  t.equal(authorizationOf(await ask('https://a.example/')), `Bearer ${SECRET}`);
  t.same(await ask('http://a.example/'), { kind: 'none' }, 'which is 80');
});

t.test('credentialsFor() prefers the entry for the port to the one for the host', async (t) => {
  const folder = await tempDir(t);
  await Promise.all(['one', 'two'].map((name) => writeFile(join(folder, name), name)));
  const settings = [
    { hosts: ['a.example'], bearerTokenFile: join(folder, 'one') },
    { hosts: ['a.example:9100'], bearerTokenFile: join(folder, 'two') },
  ];
  const credentials = createCredentials({ clock: new ManualClock(), settings });
  t.equal(authorizationOf(await credentials.credentialsFor(new URL('https://a.example:9100'))), 'Bearer two');
  t.equal(authorizationOf(await credentials.credentialsFor(new URL('https://a.example:9400'))), 'Bearer one');
});

t.test('credentialsFor() sends no secret over plain HTTP, except on loopback or where told', async (t) => {
  const hosts = ['a.example', 'localhost', '127.0.0.1', '::1'];
  const { ask } = await withToken(t, { hosts });
  const refused = await ask('http://a.example:9100/metrics');
  t.match(refused, { kind: 'failed', detail: /a\.example would go over plain HTTP: use https/ });
  for (const url of ['http://localhost/', 'http://127.0.0.1/', 'http://[::1]/']) {
    t.equal(authorizationOf(await ask(url)), `Bearer ${SECRET}`, url);
  }
  const plain = await withToken(t, { hosts, plain: true });
  t.equal(authorizationOf(await plain.ask('http://a.example/')), `Bearer ${SECRET}`);
});

t.test('credentialsFor() makes a Basic header of a name and a password file', async (t) => {
  const passwordFile = join(await tempDir(t), 'password');
  await writeFile(passwordFile, 'pä ss:word \r\n');
  const settings = [{ hosts: ['a.example'], username: 'vsf', passwordFile }];
  const answer = await createCredentials({ clock: new ManualClock(), settings }).credentialsFor(
    new URL('https://a.example'),
  );
  t.equal(authorizationOf(answer), `Basic ${Buffer.from('vsf:pä ss:word ').toString('base64')}`);
});

t.test('credentialsFor() reads a rotated file again, at most every five seconds', async (t) => {
  const { ask, tokenFile, clock } = await withToken(t, { hosts: ['a.example'] });
  t.equal(authorizationOf(await ask('https://a.example')), `Bearer ${SECRET}`);
  await writeFile(tokenFile, 'new-token');
  await clock.advance(4_999);
  t.equal(authorizationOf(await ask('https://a.example')), `Bearer ${SECRET}`, 'not looked at yet');
  await clock.advance(1);
  t.equal(authorizationOf(await ask('https://a.example')), 'Bearer new-token');
});

t.test('credentialsFor() follows a link that is swapped, as Kubernetes rotates a secret', async (t) => {
  const folder = await tempDir(t);
  await Promise.all(['one', 'two'].map((name) => writeFile(join(folder, name), name)));
  // The same time and size in both: only the file is another one.
  await Promise.all(['one', 'two'].map((name) => utimes(join(folder, name), 1_700_000_000, 1_700_000_000)));
  const link = join(folder, 'token');
  await symlink('one', link);
  const clock = new ManualClock();
  const credentials = createCredentials({ clock, settings: [{ hosts: ['a.example'], bearerTokenFile: link }] });
  t.equal(authorizationOf(await credentials.credentialsFor(new URL('https://a.example'))), 'Bearer one');
  await symlink('two', join(folder, 'next'));
  await rename(join(folder, 'next'), link);
  await clock.advance(5_000);
  t.equal(authorizationOf(await credentials.credentialsFor(new URL('https://a.example'))), 'Bearer two');
});

t.test('credentialsFor() fails with the name of a file that cannot be read, and recovers', async (t) => {
  const { ask, tokenFile, clock } = await withToken(t, { hosts: ['a.example'] });
  await ask('https://a.example');
  await unlink(tokenFile);
  await clock.advance(5_000);
  t.same(await ask('https://a.example'), { kind: 'failed', detail: `${tokenFile} cannot be read: no such file` });
  await writeFile(tokenFile, SECRET);
  await clock.advance(5_000);
  t.equal(authorizationOf(await ask('https://a.example')), `Bearer ${SECRET}`);
});

const UNFIT: Record<string, string | Buffer> = {
  'is empty': '',
  'has two lines': `${SECRET}\nX-Injected: 1`,
  'has a blank inside': `${SECRET} ${SECRET}`,
  'is binary': Buffer.from([0xff, 0x00, 0x73]),
  'is larger than a megabyte': Buffer.alloc(2 ** 20 + 1, 'a'),
};
for (const [how, content] of Object.entries(UNFIT)) {
  t.test(`credentialsFor() refuses a token file that ${how}, without a word of it`, async (t) => {
    const { ask, tokenFile } = await withToken(t, { hosts: ['a.example'] });
    await writeFile(tokenFile, content);
    const answer = await ask('https://a.example');
    const detail = answer.kind === 'failed' ? answer.detail : 'it was taken';
    t.match(detail, tokenFile);
    t.notMatch(detail, SECRET);
  });
}

t.test('credentialsFor() does not wait for the writer of a pipe', async (t) => {
  const pipe = join(await tempDir(t), 'token');
  await promisify(execFile)('mkfifo', [pipe]);
  const credentials = createCredentials({
    clock: new ManualClock(),
    settings: [{ hosts: ['a.example'], bearerTokenFile: pipe }],
  });
  const answer = await credentials.credentialsFor(new URL('https://a.example'));
  t.same(answer, { kind: 'failed', detail: `${pipe} is no regular file` });
});

t.test('credentialsFor() keeps one TLS material until a file changes', async (t) => {
  const folder = await tempDir(t);
  const { ca, clientCert, clientKey } = await makeCertificates(folder, 'DNS:a.example');
  const settings = [
    { hosts: ['a.example'], caFile: ca, certFile: clientCert, keyFile: clientKey, serverName: 'exporter' },
  ];
  const clock = new ManualClock();
  const credentials = createCredentials({ clock, settings });
  const tlsOf = async () => {
    const answer = await credentials.credentialsFor(new URL('https://a.example'));
    return answer.kind === 'given' ? answer.tls : answer;
  };
  const first = await tlsOf();
  t.match(first, { serverName: 'exporter', entry: '0' });
  await clock.advance(5_000);
  t.equal(await tlsOf(), first);
  const other = await makeCertificates(await tempDir(t), 'DNS:b.example');
  await rename(other.clientKey, clientKey);
  await clock.advance(5_000);
  const mismatch = await tlsOf();
  t.match(mismatch, { kind: 'failed', detail: /no TLS can be made of .*client\.pem.*MISMATCH/ }, 'half of a rotation');
  await rename(other.clientCert, clientCert);
  await clock.advance(5_000);
  const second = await tlsOf();
  t.match(second, { serverName: 'exporter' });
  t.not(second, first);
});

t.test('credentialsFor() refuses a CA file without a certificate, which OpenSSL takes for an empty list', async (t) => {
  const caFile = join(await tempDir(t), 'ca.pem');
  await writeFile(caFile, 'not yet written');
  const settings = [{ hosts: ['a.example'], caFile }];
  const credentials = createCredentials({ clock: new ManualClock(), settings });
  const answer = await credentials.credentialsFor(new URL('https://a.example'));
  t.same(answer, { kind: 'failed', detail: `${caFile} holds no certificate in PEM` });
  const overHttp = await credentials.credentialsFor(new URL('http://a.example'));
  t.match(overHttp, { kind: 'given', authorization: null, tls: null }, 'plain HTTP has no use for it');
});

t.test('credentialsFor() names a file that may not be read', async (t) => {
  const { ask, tokenFile } = await withToken(t, { hosts: ['a.example'] });
  await chmod(tokenFile, 0);
  const answer = await asNobody(dirname(tokenFile), () => ask('https://a.example'));
  t.same(answer, { kind: 'failed', detail: `${tokenFile} cannot be read: permission denied` });
});
