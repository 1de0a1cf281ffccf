// Opening the journal: what a start finds, on real files.
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import t, { type Test } from 'tap';
import { diskFiles } from '../src/durable-files.ts';
import { expectKind, JOURNAL_FILE as FILE, open, replay } from './support/journal-folder.ts';
import { ManualClock } from './support/manual-clock.ts';
import { tempDir } from './support/temp-dir.ts';

/** A closed journal that holds a trip and a lease. */
async function folderWithRecords(t: Test): Promise<{ folder: string; path: string; bytes: Buffer }> {
  const folder = await tempDir(t);
  const { journal } = await expectKind(open(folder), 'first-start');
  t.same(await journal.append({ set: { 'trip/1': { by: 'GPU 0' }, 'lease/a': 1 }, why: 'trip' }), { ok: true });
  t.same(await journal.append({ set: { 'lease/b': [2] }, delete: ['lease/a'], why: 'lease' }), { ok: true });
  await journal.close();
  const path = join(folder, FILE);
  return { folder, path, bytes: await readFile(path) };
}

/** A line as the journal writes it behind one with the checksum `before`. */
const line = (json: string, before = 0): string => `${crc32(json, before).toString(16).padStart(8, '0')} ${json}\n`;
const HEADER = '{"format":"vsf-safety-journal","version":1}';

t.test('openJournal() begins a file at a first start that says what it is, readable to its owner alone', async (t) => {
  const folder = await tempDir(t);
  const { journal } = await expectKind(open(folder), 'first-start');
  t.teardown(() => journal.close());
  const header = { format: 'vsf-safety-journal', version: 1, productVersion: '1.2.3', at: '2026-01-01T00:00:00.000Z' };
  t.equal(await readFile(join(folder, FILE), 'utf8'), line(JSON.stringify(header)));
  t.equal((await stat(join(folder, FILE))).mode & 0o777, 0o600);
  t.same(await readdir(folder), [FILE], 'nothing else is left behind');
  t.match(journal.health(), { ok: true, lastError: null, appends: 0, pending: 0 });
});

t.test('openJournal() replays every acknowledged change in order, delete before set', async (t) => {
  const folder = await tempDir(t);
  const first = await expectKind(open(folder), 'first-start');
  const values = {
    text: 'quote " newline \n NUL \0 ümlaut 🔥',
    number: 84.6,
    none: null,
    list: [1, [2]],
    deep: { a: { b: true } },
  };
  const value = { n: 1 };
  const appended = first.journal.append({
    set: { ...values, ['__proto__']: 'a key like any other', value },
    why: 'all kinds',
  });
  value.n = 2; // what was handed in counts, not what the caller makes of it
  await appended;
  await first.journal.append({ set: { a: 1, b: 1 }, why: 'two' });
  await first.journal.append({ set: { a: 2 }, delete: ['a', 'b', 'never there'], why: 'delete, then set' });
  await first.journal.append({ why: 'nothing' });
  await first.journal.close();

  const second = await expectKind(open(folder), 'replayed');
  t.notOk(second.droppedTornRecord);
  t.same(
    [...second.state].sort(),
    [...Object.entries(values), ['__proto__', 'a key like any other'], ['value', { n: 1 }], ['a', 2]].sort(),
  );
  await second.journal.append({ delete: ['text'], why: 'a later start goes on' });
  await second.journal.close();
  t.notOk('text' in (await replay(folder)));
});

t.test('openJournal() drops a last record that was cut short, at any byte, and goes on before it', async (t) => {
  const { folder, path, bytes } = await folderWithRecords(t);
  const lastStart = bytes.lastIndexOf('\n', bytes.length - 2) + 1;
  const tails = ['!', '00000000 {"set"', `${'\0'.repeat(30)}{"set":{}}`, '\0'.repeat(5000)].map((tail) =>
    Buffer.from(tail),
  );
  const cut = Array.from({ length: bytes.length - 1 - lastStart }, (_, n) =>
    bytes.subarray(lastStart, lastStart + n + 1),
  );
  for (const torn of [...cut, ...tails]) {
    await writeFile(path, Buffer.concat([bytes.subarray(0, lastStart), torn]));
    const { journal, state, droppedTornRecord } = await expectKind(open(folder), 'replayed');
    if (!droppedTornRecord) t.fail(`${torn.length} torn bytes were not noticed`);
    if ([...state.keys()].join() !== 'trip/1,lease/a') t.fail(`replayed ${[...state.keys()]}`);
    await journal.append({ set: { next: 1 }, why: 'after the torn one' });
    await journal.close();
    const { next } = await replay(folder);
    if (next !== 1) t.fail(`the append after ${torn.length} torn bytes is lost`);
  }
  t.equal((await readFile(path)).indexOf(0), -1, 'the torn tail is gone from the file');
});

t.test('openJournal() calls any changed byte corrupt, keeps the file aside and begins a new one', async (t) => {
  const { folder, path, bytes } = await folderWithRecords(t);
  // All but the last newline: a file without it was cut short, which is another rule.
  for (let at = 0; at < bytes.length - 1; at++) {
    const damaged = Buffer.from(bytes);
    damaged[at] = (damaged[at] ?? 0) ^ 0x01;
    await writeFile(path, damaged);
    const { journal, keptAside, detail } = await expectKind(open(folder), 'corrupt');
    if (keptAside === null || !(await readFile(keptAside)).equals(damaged)) t.fail(`byte ${at}: not kept aside`);
    if (!detail.includes('at byte')) t.fail(`byte ${at}: ${detail}`);
    await journal.append({ set: { 'trip/2': at }, why: 'start on a corrupt journal' });
    await journal.close();
    t.match(await replay(folder), { 'trip/2': at });
  }
  t.equal(
    (await readdir(folder)).find((name) => name !== FILE),
    'journal.corrupt-20260101T000000.000Z',
  );
});

t.test('openJournal() calls a file corrupt that cannot be one of its own', async (t) => {
  const header = line(HEADER);
  const second = (json: string): string => header + line(json, crc32(HEADER));
  const files = {
    'an empty file': '',
    'a header cut short': header.slice(0, -1),
    'another format': line('{"format":"other","version":1}'),
    'a version that is none': line('{"format":"vsf-safety-journal","version":-1}'),
    'a header of no object': line('[]'),
    'a record that is no JSON': second('{'),
    'a record whose set is no map': second('{"set":[1],"why":"","at":""}'),
    'a record whose delete holds no keys': second('{"delete":[1],"why":"","at":""}'),
    'an empty line': `${header}\n`,
    'bytes that are no UTF-8': Buffer.concat([Buffer.from(header), Buffer.from([0xff, 0xfe, 0x0a])]),
  };
  for (const [what, content] of Object.entries(files)) {
    const folder = await tempDir(t);
    await writeFile(join(folder, FILE), content);
    const { journal } = await expectKind(open(folder), 'corrupt');
    await journal.close();
    t.pass(what);
  }
  const folder = await tempDir(t);
  await mkdir(join(folder, FILE));
  const { journal, keptAside } = await expectKind(open(folder), 'corrupt');
  await journal.close();
  t.ok(keptAside && (await stat(keptAside)).isDirectory(), 'what cannot be read is set aside too');
});

t.test('openJournal() finds corruption again at each start until a change is recorded', async (t) => {
  const { folder, path } = await folderWithRecords(t);
  await writeFile(path, 'garbage\n');
  const first = await expectKind(open(folder), 'corrupt');
  await first.journal.close(); // died before it could record its trip
  const second = await expectKind(open(folder), 'corrupt');
  t.equal(second.keptAside, first.keptAside);
  t.equal(second.detail, first.detail);
  await second.journal.append({ set: { 'trip/2': 1 }, why: 'corrupt journal' });
  await second.journal.close();
  t.same(await replay(folder), { 'trip/2': 1 });
});

t.test('openJournal() calls a journal corrupt that is gone from a folder which had one', async (t) => {
  const empty = await tempDir(t);
  const lost = await expectKind(open(empty, { tokenExists: true }), 'corrupt');
  await lost.journal.close();
  t.equal(lost.keptAside, null);
  t.match(lost.detail, /journal\.jsonl is gone, though an earlier start left its operator token/);

  const { folder, path } = await folderWithRecords(t);
  await rename(path, join(folder, 'journal.corrupt-20251231T235959.000Z')); // and died right there
  const { journal, detail } = await expectKind(open(folder), 'corrupt');
  await journal.close();
  t.match(detail, /left its journal\.corrupt-20251231T235959\.000Z/);
});

t.test('openJournal() calls an empty folder a first start, and a missing one unwritable', async (t) => {
  const folder = await tempDir(t);
  await writeFile(join(folder, `${FILE}.new`), 'of a first start that died'); // never in use, so never a record
  const first = await expectKind(open(folder), 'first-start');
  await first.journal.close();
  await rm(folder, { recursive: true });
  const { journal, state, detail } = await expectKind(open(folder), 'unwritable');
  t.equal(state.size, 0);
  t.match(detail, /ENOENT/);
  t.match(await journal.append({ set: { a: 1 }, why: 'trip' }), { ok: false, code: 'ENOENT' });
  await mkdir(folder);
  t.same(await journal.append({ set: { a: 2 }, why: 'trip' }), { ok: true }, 'each append tries again');
  await journal.close();
  t.same(await replay(folder), { a: 2 });
});

t.test("openJournal() leaves a newer version's file untouched and names both versions", async (t) => {
  const { folder, path } = await folderWithRecords(t);
  const newer = `${line('{"format":"vsf-safety-journal","version":2}')}records of another form\n`;
  await writeFile(path, newer);
  t.same(await open(folder), { kind: 'newer', fileVersion: 2, supported: 1 });
  t.equal(await readFile(path, 'utf8'), newer);
  t.same(await readdir(folder), [FILE]);
});

t.test("openJournal() reads an older version's file and goes on in its own form", async (t) => {
  const { folder, path } = await folderWithRecords(t);
  await writeFile(path, line('{"format":"vsf-safety-journal","version":0}') + line('{"set":{"trip/0":"old"}}'));
  const { journal, state } = await expectKind(open(folder), 'replayed');
  t.same(Object.fromEntries(state), { 'trip/0': 'old' });
  t.match(await readFile(path, 'utf8'), /^[0-9a-f]{8} \{"format":"vsf-safety-journal","version":1,/);
  await journal.append({ set: { 'trip/1': 'new' }, why: 'trip' });
  await journal.close();
  t.same(await replay(folder), { 'trip/0': 'old', 'trip/1': 'new' });
});

t.test('openJournal() reports corruption also where the file can neither be moved nor replaced', async (t) => {
  const { folder, path } = await folderWithRecords(t);
  await writeFile(path, 'garbage\n');
  let isReadOnly = true;
  const refuse = (): Promise<never> => Promise.reject(Object.assign(new Error('read-only'), { code: 'EROFS' }));
  const files = {
    ...diskFiles,
    rename: (from: string, to: string) => (isReadOnly ? refuse() : diskFiles.rename(from, to)),
  };
  const clock = new ManualClock();
  const { journal, keptAside, detail } = await expectKind(open(folder, { files, clock }), 'corrupt');
  t.equal(keptAside, null);
  t.match(detail, /no new one could be begun: .*read-only/);
  await clock.advance(5_000);
  t.equal(await readFile(path, 'utf8'), 'garbage\n', 'the evidence is not written over');
  isReadOnly = false;
  await clock.advance(5_000);
  while (!journal.health().ok) await new Promise((resolve) => setImmediate(resolve));
  const died = await expectKind(open(folder), 'corrupt'); // as long as no trip is recorded in the new file
  await died.journal.close();
  t.same(await journal.append({ set: { 'trip/2': 1 }, why: 'trip' }), { ok: true });
  await journal.close();
  t.same(await replay(folder), { 'trip/2': 1 });
  t.equal(await readFile(join(folder, 'journal.corrupt-20260101T000000.000Z'), 'utf8'), 'garbage\n');
});

t.test('openJournal() finds lines that are missing, doubled or moved, though each is whole', async (t) => {
  const { folder, path, bytes } = await folderWithRecords(t);
  const lines = bytes.toString().trimEnd().split('\n');
  const [header = '', trip = '', lease = ''] = lines;
  t.equal(lines.length, 3);
  for (const [name, kept] of Object.entries({
    'a trip cut out of the middle': [header, lease],
    'a line twice': [header, trip, trip, lease],
    'two lines the other way round': [header, lease, trip],
    'a line of another journal': [header, line('{"set":{"a":1},"why":"","at":""}', 7).trimEnd()],
  })) {
    await writeFile(path, `${kept.join('\n')}\n`);
    const { journal } = await expectKind(open(folder), 'corrupt');
    await journal.close();
    for (const file of await readdir(folder)) await rm(join(folder, file));
    t.pass(name);
  }
});
