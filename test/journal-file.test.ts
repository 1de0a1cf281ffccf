// Appending to the journal: order, urgency, bounds, failures and compaction, on real files with faults in front of them.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { readdir, readFile, stat, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import t from 'tap';
import type { Clock } from '../src/clock.ts';
import { diskFiles } from '../src/durable-files.ts';
import type { AppendOutcome, Journal } from '../src/journal.ts';
import { failure, faulty, hangingDisk } from './support/faulty-files.ts';
import { expectKind, JOURNAL_FILE as FILE, open, replay } from './support/journal-folder.ts';
import { ManualClock } from './support/manual-clock.ts';
import { tempDir } from './support/temp-dir.ts';

const OK: AppendOutcome = { ok: true };
const MIB = 1024 * 1024;
/** No deadline ever passes on it; ten thousand sleepers are too many for the manual clock. */
const TIMELESS: Clock = {
  now: () => new ManualClock().now(),
  sleep: () => new Promise(() => undefined),
  after: () => () => undefined,
};
/** The built product; tests run from the project's folder. */
const BUILT = pathToFileURL('dist/').href;

t.test('append() lets what arrives during a sync share the next one, in order', async (t) => {
  const folder = await tempDir(t);
  const { files, count } = hangingDisk();
  const { journal } = await expectKind(open(folder, { files }), 'first-start');
  const before = count['datasync'] ?? 0;
  const appends = Array.from({ length: 500 }, (_, n) =>
    journal.append({ set: { last: n, [`k${n}`]: n }, why: `${n}` }),
  );
  t.equal(journal.health().pending, 500);
  t.ok((await Promise.all(appends)).every((outcome) => outcome.ok));
  t.equal((count['datasync'] ?? 0) - before, 2, 'one for the first, one for all others');
  t.match(journal.health(), { ok: true, appends: 500, pending: 0 });
  await journal.close();
  t.equal((await replay(folder))['last'], 499);
  const whys = [...(await readFile(join(folder, FILE), 'utf8')).matchAll(/"why":"(\d+)"/g)].map(([, why]) =>
    Number(why),
  );
  t.same(
    whys,
    Array.from({ length: 500 }, (_, n) => n),
  );
});

t.test('append() has an urgent record in the file before it returns, and never writes to a busy disk', async (t) => {
  const folder = await tempDir(t);
  const path = join(folder, FILE);
  const { files, hang, goOn, count } = hangingDisk();
  const { journal } = await expectKind(open(folder, { files }), 'first-start');
  hang();
  const trip = journal.append({ set: { 'trip/1': 1 }, why: 'trip' }, { urgent: true });
  t.match(readFileSync(path, 'utf8'), /"trip\/1":1/, 'without waiting for anything');
  const second = journal.append({ set: { 'trip/2': 1 }, why: 'second trip' }, { urgent: true });
  t.notMatch(readFileSync(path, 'utf8'), /"trip\/2"/, 'a second write could block on the hung disk');
  t.equal(count['writeNow'], 1);
  goOn();
  t.same(await Promise.all([trip, second]), [OK, OK]);
  await journal.close();
  t.same(await replay(folder), { 'trip/1': 1, 'trip/2': 1 });
});

t.test('append() keeps an urgent record through a kill -9 in the same turn', async (t) => {
  const folder = await tempDir(t);
  const script = `
    import { openJournal } from '${BUILT}journal.js';
    import { systemClock } from '${BUILT}clock.js';
    const { journal } = await openJournal({ folder: ${JSON.stringify(folder)}, clock: systemClock, productVersion: '1', tokenExists: false });
    void journal.append({ set: { 'trip/1': 'hot' }, why: 'trip' }, { urgent: true });
    process.kill(process.pid, 'SIGKILL');`;
  const child = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    encoding: 'utf8',
  });
  t.equal(child.signal, 'SIGKILL', child.stderr);
  t.same(await replay(folder), { 'trip/1': 'hot' });
});

t.test('append() answers a failed write with its code, and the next one starts at the last good byte', async (t) => {
  for (const broken of ['write', 'writeNow', 'datasync', 'truncate'] as const) {
    const folder = await tempDir(t);
    let isBroken = false;
    const healthy = faulty((operation) => {
      if (isBroken && (operation === broken || (broken === 'truncate' && operation === 'write')))
        throw failure('ENOSPC');
    });
    const half = async (fd: number, bytes: Buffer, position: number): Promise<number> => {
      if (isBroken) await diskFiles.write(fd, bytes.subarray(0, bytes.length >> 1), position); // some of it arrived
      return healthy.write(fd, bytes, position);
    };
    const { journal } = await expectKind(open(folder, { files: { ...healthy, write: half } }), 'first-start');
    t.same(await journal.append({ set: { a: 1 }, why: 'good' }), OK);
    isBroken = true;
    const urgent = broken === 'writeNow';
    const outcome = await journal.append({ set: { a: 'late', long: 'x'.repeat(5000) }, why: 'trip "7"' }, { urgent });
    if (urgent) {
      t.same(outcome, OK, 'what could not be written at once is tried again in line');
    } else {
      t.match(outcome, { ok: false, code: 'ENOSPC', detail: /^Cannot record "trip "7"" in .*journal\.jsonl: ENOSPC/ });
      t.match(journal.health(), { ok: false, lastError: { at: '2026-01-01T00:00:00.000Z', detail: /ENOSPC/ } });
      t.match(await journal.append({ set: { b: 1 }, why: 'still' }), { ok: false, code: 'ENOSPC' });
    }
    isBroken = false;
    t.same(await journal.append({ set: { c: 1 }, why: 'again' }), OK);
    t.ok(journal.health().ok);
    await journal.close();
    t.match(await replay(folder), { a: 'late', long: 'x'.repeat(5000), c: 1 }, 'what failed went before it');
  }
});

t.test('append() refuses what is too large, not JSON, too much, or too late', async (t) => {
  const folder = await tempDir(t);
  const { files, hang, goOn } = hangingDisk();
  const { journal } = await expectKind(open(folder, { files, clock: TIMELESS }), 'first-start');
  const big = await journal.append({ set: { big: 'x'.repeat(MIB) }, why: 'report' });
  t.match(big, { ok: false, code: 'too-large', detail: /^Cannot record "report": .* at most 1048576/ });
  t.same(await journal.append({ set: { big: 'x'.repeat(MIB - 200) }, why: 'report' }), OK);
  const cycle: Record<string, unknown> = {};
  cycle['self'] = cycle;
  for (const value of [undefined, 1n, () => 0, cycle]) {
    t.match(await journal.append({ set: { value }, why: 'odd' }), { ok: false, code: 'not-json' });
  }
  hang();
  const waiting = Array.from({ length: 9_000 }, (_, n) => journal.append({ set: { n }, why: 'many' }));
  t.match(await journal.append({ set: { n: -1 }, why: 'one more' }), {
    ok: false,
    code: 'queue-full',
    detail: /9000 records .* at most 9000/,
  });
  const urgent = { urgent: true };
  const trips = Array.from({ length: 1_000 }, (_, n) => journal.append({ set: { trip: n }, why: 'trip' }, urgent));
  t.match(await journal.append({ set: { trip: -1 }, why: 'trip' }, urgent), { code: 'queue-full' }, 'bounded too');
  goOn();
  t.ok(
    (await Promise.all([...waiting, ...trips])).every((outcome) => outcome.ok),
    'a place is kept for trips',
  );
  hang();
  const fat = Array.from({ length: 29 }, () => journal.append({ set: { fat: 'x'.repeat(MIB - 200) }, why: 'fat' }));
  t.match(await fat.at(-1), { ok: false, code: 'queue-full' }, 'bytes are bounded as well as records');
  goOn();
  t.equal((await Promise.all(fat)).filter((outcome) => outcome.ok).length, 28);
  await journal.close();
  t.match(await journal.append({ set: { n: 2 }, why: 'late' }), { ok: false, code: 'closed' });
  t.match(await replay(folder), { n: 8_999, trip: 999 });
});

t.test('append() takes a record of 1 MiB, line and all, and none that is longer', async (t) => {
  const folder = await tempDir(t);
  const { journal } = await expectKind(open(folder), 'first-start');
  const add = (length: number) => journal.append({ set: { big: 'x'.repeat(length) }, why: 'report' });
  const refused = await add(MIB);
  const bytes = Number(/the record has (\d+) bytes/.exec(refused.ok ? '' : refused.detail)?.[1]);
  const before = journal.health().sizeBytes;
  t.same(await add(MIB - (bytes - MIB)), OK);
  t.equal(journal.health().sizeBytes - before, MIB, 'what is refused by is what it takes in the file');
  t.match(await add(MIB - (bytes - MIB) + 1), { ok: false, code: 'too-large' });
  await journal.close();
});

t.test('append() leaves nothing of a record that was cut short behind the next one', async (t) => {
  const folder = await tempDir(t);
  const first = await expectKind(open(folder), 'first-start');
  await first.journal.append({ set: { a: 1 }, why: 'a' });
  await first.journal.append({ set: { long: 'x'.repeat(5_000) }, why: 'long' });
  await first.journal.close();
  const path = join(folder, FILE);
  const whole = await readFile(path);
  await truncate(path, whole.length - 10);
  const { journal } = await expectKind(open(folder), 'replayed');
  t.same(await journal.append({ set: { b: 2 }, why: 'b' }), OK);
  await journal.close();
  const text = await readFile(path, 'utf8');
  t.notMatch(text, /xxx/);
  t.ok(text.endsWith('\n'));
  t.same(await replay(folder), { a: 1, b: 2 });
});

t.test('append() owes what the disk did not take, and writes it when the disk is back, appends or not', async (t) => {
  const folder = await tempDir(t);
  const path = join(folder, FILE);
  const clock = new ManualClock();
  let isFull = false;
  const files = faulty((operation) => {
    if (isFull && operation === 'write') throw failure('ENOSPC');
  });
  const { journal } = await expectKind(open(folder, { files, clock }), 'first-start');
  await journal.append({ set: { old: 1 }, why: 'before' });
  const told: boolean[] = [];
  journal.onHealthChange(({ ok }) => told.push(ok));
  isFull = true;
  t.match(await journal.append({ set: { 'trip/1': 1, 'lease/a': 1 }, why: 'trip' }), { code: 'ENOSPC' });
  t.match(await journal.append({ set: { 'lease/b': 2 }, delete: ['lease/a', 'old'], why: 'lapse' }), { ok: false });
  await clock.advance(5_000);
  await until(() => journal.health().lastError?.at === '2026-01-01T00:00:05.000Z'); // tried again, and still full
  isFull = false;
  await clock.advance(4_999);
  t.notMatch(await readFile(path, 'utf8'), /trip/);
  await clock.advance(1);
  await until(() => journal.health().ok);
  t.match(
    await readFile(path, 'utf8'),
    /\{"set":\{"trip\/1":1,"lease\/b":2\},"delete":\["old"\],"why":"written late",/,
    'as one change, that grows no further than the keys that are left',
  );
  t.same(told, [false, true]);
  isFull = true;
  t.match(await journal.append({ delete: ['lease/b'], why: 'give back' }), { ok: false });
  isFull = false;
  await journal.close();
  t.same(await replay(folder), { 'trip/1': 1 }, 'closing is a last chance');
});

/** Waits for real disk operations that a manual clock has set off. */
async function until(isReached: () => boolean): Promise<void> {
  while (!isReached()) await new Promise((resolve) => setImmediate(resolve));
}

t.test('append() answers after 5 s on a hung disk, and close() waits for what is under way', async (t) => {
  const folder = await tempDir(t);
  const clock = new ManualClock();
  const { files, hang, goOn } = hangingDisk();
  const { journal } = await expectKind(open(folder, { files, clock }), 'first-start');
  hang();
  let outcome: AppendOutcome | null = null;
  const append = journal.append({ set: { 'trip/1': 1 }, why: 'trip' }).then((answer) => {
    outcome = answer;
  });
  await clock.advance(4_999);
  t.equal(outcome, null);
  await clock.advance(1);
  await append;
  t.match(outcome, {
    ok: false,
    code: 'timed-out',
    detail: /Cannot record "trip" in .* not on the disk after 5000 ms/,
  });
  t.match(journal.health(), { ok: false, pending: 1 });
  const closing = journal.close();
  goOn();
  await closing;
  t.match(journal.health(), { ok: true, pending: 0 }, 'it did become durable');
  t.same(await replay(folder), { 'trip/1': 1 });
});

/** 1.2 MiB of history over three live keys. */
async function fill(journal: Journal): Promise<AppendOutcome[]> {
  const outcomes: AppendOutcome[] = [];
  for (let n = 0; n < 12; n++) {
    outcomes.push(
      await journal.append({ set: { [`lease/${n % 3}`]: `${n}`.padEnd(100_000, '.') }, why: `lease ${n}` }),
    );
  }
  return outcomes;
}

t.test('append() has the file replaced by a snapshot of the live keys once it is mostly history', async (t) => {
  const folder = await tempDir(t);
  const { journal } = await expectKind(open(folder), 'first-start');
  t.ok((await fill(journal)).every((outcome) => outcome.ok));
  await journal.append({ set: { 'trip/1': 1 }, why: 'trip' });
  const { size } = await stat(join(folder, FILE));
  t.ok(size < 500_000, `${size} bytes`);
  t.equal(journal.health().sizeBytes, size);
  t.same(await readdir(folder), [FILE]);
  await journal.close();
  const state = await replay(folder);
  t.same(Object.keys(state), ['lease/0', 'lease/1', 'lease/2', 'trip/1']);
  t.equal(state['lease/2'], '11'.padEnd(100_000, '.'));
});

t.test('append() lets the file grow to four times its snapshot', async (t) => {
  const folder = await tempDir(t);
  const { files, count } = hangingDisk();
  const { journal } = await expectKind(open(folder, { files }), 'first-start');
  const before = count['rename'] ?? 0;
  const add = async (key: string, bytes: number, times = 1): Promise<void> => {
    for (let n = 0; n < times; n++) await journal.append({ set: { [key]: `${n}`.padEnd(bytes, '.') }, why: key });
  };
  /** An append is answered before the compaction that it brings; the next one waits for that. */
  const snapshots = async (): Promise<number> => {
    await add('now', 1);
    return (count['rename'] ?? 0) - before;
  };
  await add('large', 600_000, 2);
  t.equal(await snapshots(), 1, 'above 1 MiB; 0.6 MB are left');
  await add('small', 100_000, 17);
  t.equal(await snapshots(), 1, `${journal.health().sizeBytes} bytes`);
  await add('small', 100_000, 2);
  t.equal(await snapshots(), 2, 'above 2.4 MB');
  await journal.close();
});

t.test('append() tries a compaction that failed again after another MiB, not at each append', async (t) => {
  const folder = await tempDir(t);
  let isFull = false;
  let tries = 0;
  const files = faulty((operation) => {
    if (!isFull || operation !== 'open') return;
    tries += 1;
    throw failure('ENOSPC');
  });
  const { journal } = await expectKind(open(folder, { files }), 'first-start');
  isFull = true;
  for (let n = 0; n < 25; n++) await journal.append({ set: { a: `${n}`.padEnd(100_000, '.') }, why: 'a' });
  t.equal(tries, 2, 'at 1 MiB and at 2');
  await journal.close();
});

t.test('append() goes on with the old file where compaction fails, and the next start catches up', async (t) => {
  const folder = await tempDir(t);
  let isFull = false;
  const files = faulty((operation) => {
    if (isFull && operation === 'open') throw failure('ENOSPC');
  });
  const { journal } = await expectKind(open(folder, { files }), 'first-start');
  isFull = true;
  t.ok((await fill(journal)).every((outcome) => outcome.ok));
  t.ok((await fill(journal)).every((outcome) => outcome.ok));
  t.same(await journal.append({ set: { 'trip/1': 1 }, why: 'trip' }), OK);
  t.match(journal.health(), { ok: true, lastError: { detail: /^Cannot compact .*ENOSPC/ } });
  await journal.close();
  t.ok((await stat(join(folder, FILE))).size > MIB);
  t.equal(Object.keys(await replay(folder)).length, 4);
  t.ok((await stat(join(folder, FILE))).size < 500_000, 'compacted at the start');
  t.equal(Object.keys(await replay(folder)).length, 4);
});

t.test('append() acknowledges nothing in a new file whose name may not survive a power cut', async (t) => {
  const folder = await tempDir(t);
  let isBroken = false;
  const files = faulty((operation) => {
    if (isBroken && operation === 'syncFolder') throw failure('EIO');
  });
  const { journal } = await expectKind(open(folder, { files }), 'first-start');
  isBroken = true;
  const outcomes = await fill(journal); // compacts at the eleventh
  t.match(outcomes.at(-1), { ok: false, code: 'EIO' });
  t.match(await journal.append({ set: { 'trip/1': 1 }, why: 'trip' }, { urgent: true }), { ok: false, code: 'EIO' });
  isBroken = false;
  t.same(await journal.append({ set: { 'trip/1': 1 }, why: 'trip' }, { urgent: true }), OK);
  await journal.close();
  t.equal((await replay(folder))['trip/1'], 1);
});
