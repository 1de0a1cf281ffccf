// The state folder: making it, its lock as a value, and the operator's token.
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { systemClock } from '../src/clock.ts';
import { openStateFolder, readOperatorToken, type StateFolder } from '../src/state-folder.ts';
import { tempDir } from './support/temp-dir.ts';

const TOKEN = 'operator-token';

async function expectOpen(folder: string): Promise<StateFolder> {
  const opened = await openStateFolder({ folder, clock: systemClock });
  if (opened.kind !== 'open') throw new Error(opened.detail);
  return opened.stateFolder;
}

const modeOf = async (path: string): Promise<string> => ((await fs.stat(path)).mode & 0o777).toString(8);

t.test('openStateFolder() makes the folder and what is missing above it, for its owner alone', async (t) => {
  const folder = join(await tempDir(t), 'state', 'vsf-safety');
  const stateFolder = await expectOpen(folder);
  t.equal(stateFolder.folder, folder);
  t.equal(await modeOf(folder), '700');
  t.notOk(stateFolder.tokenExists);
  t.same(stateFolder.notes, []);
  await stateFolder.close();
  await (await expectOpen(folder)).close();
});

t.test('openStateFolder() refuses a folder that another holds, naming its process', async (t) => {
  const folder = await tempDir(t);
  const stateFolder = await expectOpen(folder);
  const second = await openStateFolder({ folder, clock: systemClock });
  t.match(second, { kind: 'held', holder: { pid: process.pid } });
  t.match(second, {
    detail: new RegExp(`^Cannot lock state folder ${folder}: process ${process.pid} on .+ holds it$`),
  });
  await stateFolder.close();
  await (await expectOpen(folder)).close();
});

t.test('openStateFolder() refuses what cannot be a folder', async (t) => {
  const file = join(await tempDir(t), 'file');
  await fs.writeFile(file, '');
  for (const folder of [file, join(file, 'below')]) {
    const opened = await openStateFolder({ folder, clock: systemClock });
    t.match(opened, { kind: 'unusable', detail: new RegExp(`^Cannot use ${folder} as state folder: `) });
  }
});

t.test('openStateFolder() says when others may change what is in the folder', async (t) => {
  const folder = await tempDir(t);
  for (const [mode, isNoted] of [
    [0o750, false],
    [0o770, true],
    [0o777, true],
  ] as const) {
    await fs.chmod(folder, mode);
    const { notes, close } = await expectOpen(folder);
    t.equal(notes.length, isNoted ? 1 : 0);
    if (isNoted) t.match(notes[0], new RegExp(`its mode is 0${mode.toString(8)}, better 0700`));
    await close();
  }
});

t.test('ensureOperatorToken() makes a token once, for its owner alone, where the command line finds it', async (t) => {
  const folder = await tempDir(t);
  const first = await expectOpen(folder);
  t.same(await readOperatorToken(folder), { kind: 'absent' });
  await fs.writeFile(join(folder, `${TOKEN}.new`), 'of a start that died', { mode: 0o666 });
  const made = await first.ensureOperatorToken();
  if (made.kind !== 'made') throw new Error(JSON.stringify(made));
  t.match(made.token, /^vsf_[A-Za-z0-9_-]{43}$/);
  t.equal(await modeOf(join(folder, TOKEN)), '600');
  t.same((await fs.readdir(folder)).sort(), ['lock', TOKEN]);
  t.same(await first.ensureOperatorToken(), { kind: 'found', token: made.token });
  t.same(await readOperatorToken(folder), { kind: 'found', token: made.token });
  await first.close();

  const second = await expectOpen(folder);
  t.ok(second.tokenExists);
  t.same(await second.ensureOperatorToken(), { kind: 'found', token: made.token });
  await second.close();

  const other = await expectOpen(await tempDir(t));
  const another = await other.ensureOperatorToken();
  t.ok(another.kind === 'made' && another.token !== made.token, 'each folder has its own');
  await other.close();
});

t.test('ensureOperatorToken() refuses a token that others can read or change, and says how to mend it', async (t) => {
  const folder = await tempDir(t);
  const path = join(folder, TOKEN);
  await fs.writeFile(path, 'a-token-of-ones-own\n');
  for (const mode of [0o640, 0o620, 0o610, 0o604, 0o602, 0o601, 0o644, 0o777]) {
    await fs.chmod(path, mode);
    const { tokenExists, ensureOperatorToken, close } = await expectOpen(folder);
    t.ok(tokenExists, 'it was made by somebody all the same');
    const detail = `its mode is 0${mode.toString(8)}, so that others can read or change it; allowed is 0600: chmod 600 ${path}`;
    t.same(await ensureOperatorToken(), { kind: 'refused', detail: `Cannot use operator token ${path}: ${detail}` });
    await close();
  }
  for (const mode of [0o600, 0o400]) {
    await fs.chmod(path, mode);
    t.same(await readOperatorToken(folder), { kind: 'found', token: 'a-token-of-ones-own' });
  }
});

t.test('readOperatorToken() refuses what is no token', async (t) => {
  const folder = await tempDir(t);
  const path = join(folder, TOKEN);
  const contents: [string, RegExp][] = [
    ['', /it is empty; remove it and a start makes a new one/],
    [' \n', /it is empty/],
    ['x'.repeat(513), /it has 513 bytes, allowed are 512/],
    ['vsf_short', /one line of at least 16 visible ASCII characters/],
    ['two-lines-of-text\nare-no-token', /one line/],
    ['a token with spaces in it', /one line/],
    ['ümläut-ümläut-ümläut', /one line/],
    ['\0'.repeat(47), /one line/],
  ];
  for (const [content, detail] of contents) {
    await fs.writeFile(path, content, { mode: 0o600 });
    t.match(await readOperatorToken(folder), { kind: 'refused', detail });
  }
  await fs.writeFile(path, 'x'.repeat(512));
  t.match(await readOperatorToken(folder), { kind: 'found' });
  await fs.rm(path);
  await fs.mkdir(path, { mode: 0o700 });
  t.match(await readOperatorToken(folder), { kind: 'refused', detail: /it is not a file/ });
});

t.test('ensureOperatorToken() tells when it cannot write one', async (t) => {
  const folder = await tempDir(t);
  const { ensureOperatorToken, close } = await expectOpen(folder);
  await fs.mkdir(join(folder, `${TOKEN}.new`));
  t.match(await ensureOperatorToken(), {
    kind: 'unwritable',
    detail: /^Cannot write operator token .*operator-token: /,
  });
  t.same(await readOperatorToken(folder), { kind: 'absent' });
  await close();
});
