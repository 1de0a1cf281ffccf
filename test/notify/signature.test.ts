import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import t from 'tap';
import { keyOf, signatureHeaders } from '../../src/notify/signature.ts';
import { freshFolder } from '../support/real-service.ts';

const SECRET = 'a secret of more than sixteen bytes';
const WALL_MS = 1_767_225_600_900;
const BODY = JSON.stringify({ version: 1, id: 'instance-1-7', event: 'tripped', message: 'GPU is at 86 °C' });

/** The code of a language in docs/notify.md, as a reader would copy it. */
async function snippetOf(language: string): Promise<string> {
  const page = await readFile('docs/notify.md', 'utf8');
  const [, code] = new RegExp(`\`\`\`${language}\\n(.*?)\`\`\``, 's').exec(page) ?? [];
  if (code === undefined) throw new Error(`docs/notify.md has no ${language}`);
  return code;
}

const headers = (): Record<string, string> =>
  signatureHeaders(Buffer.from(SECRET), { id: 'instance-1-7', body: BODY }, WALL_MS);

t.test('signatureHeaders() signs as Standard Webhooks does', async (t) => {
  // The specification's own example.
  const key = keyOf(Buffer.from('whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n'));
  const signed = signatureHeaders(
    key,
    { id: 'msg_p5jXN8AQM9LWM0D4loKWxJek', body: '{"test": 2432232314}' },
    1_614_265_330_000,
  );
  t.equal(signed['webhook-signature'], 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=');
  t.equal(signed['webhook-timestamp'], '1614265330');
  t.same(Object.keys(signatureHeaders(null, { id: 'x', body: BODY }, WALL_MS)), ['webhook-id', 'webhook-timestamp']);
});

t.test('keyOf() takes text or base64, without the blanks around it, and nothing that could be guessed', async (t) => {
  t.equal(keyOf(Buffer.from(` ${SECRET}\n`))?.toString(), SECRET);
  t.equal(keyOf(Buffer.from('whsec_AAECAwQFBgcICQoLDA0ODw=='))?.toString('hex'), '000102030405060708090a0b0c0d0e0f');
  for (const text of ['', '\n', 'fifteen bytes!!', 'whsec_AAECAwQFBgcICQoLDA0O']) {
    t.equal(keyOf(Buffer.from(text)), null, JSON.stringify(text));
  }
});

t.test('the receiver in Node of docs/notify.md takes ours once, and nothing else', async (t) => {
  const file = join(freshFolder(t), 'verify.mjs');
  await writeFile(file, await snippetOf('js'));
  const { verify } = await import(pathToFileURL(file).href);
  const now = WALL_MS / 1000 + 10;
  t.throws(() => verify(headers(), `${BODY} `, SECRET, now), /wrong signature/);
  t.throws(() => verify(headers(), BODY, 'another secret', now), /wrong signature/);
  t.throws(() => verify({ ...headers(), 'webhook-timestamp': `${now}` }, BODY, SECRET, now), /wrong signature/);
  t.throws(() => verify({ ...headers(), 'webhook-signature': undefined }, BODY, SECRET, now), /wrong signature/);
  t.throws(() => verify(headers(), BODY, SECRET, now + 600), /too old/);
  t.throws(() => verify({ ...headers(), 'webhook-timestamp': 'x' }, BODY, SECRET, now), /too old/);
  t.match(verify(headers(), BODY, SECRET, now), { event: 'tripped' });
  t.throws(() => verify(headers(), BODY, SECRET, now), /seen before/);
});

t.test('the receiver in Python of docs/notify.md takes ours once, and nothing else', async (t) => {
  const file = join(freshFolder(t), 'receiver.py');
  const asked = { headers: headers(), body: BODY, secret: SECRET, now: WALL_MS / 1000 + 10 };
  await writeFile(
    file,
    `${await snippetOf('python')}
import sys
asked = json.loads(sys.argv[1])
def tried(**change):
    one = {**asked, **change}
    try:
        return verify(one["headers"], one["body"].encode(), one["secret"].encode(), one["now"])["event"]
    except ValueError as error:
        return str(error)
print(json.dumps([
    tried(body=asked["body"] + " "),
    tried(secret="another secret"),
    tried(headers={k: v for k, v in asked["headers"].items() if k != "webhook-signature"}),
    tried(now=asked["now"] + 600),
    tried(),
    tried(),
]))
`,
  );
  const { stdout } = await promisify(execFile)('python3', [file, JSON.stringify(asked)]);
  t.same(JSON.parse(stdout), [
    'wrong signature',
    'wrong signature',
    'wrong signature',
    'too old, or from the future',
    'tripped',
    'seen before',
  ]);
});
