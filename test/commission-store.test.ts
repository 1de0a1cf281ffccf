import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { CommissionStore, commissionName } from '../src/commission-store.ts';
import { tempDir } from './support/temp-dir.ts';

interface Report {
  readonly name: string;
  readonly text: string;
}
const read = (value: unknown): Report | null =>
  typeof value === 'object' && value !== null && 'text' in value ? (value as Report) : null;
const reportAt = (second: number): Report => ({
  name: commissionName(Date.UTC(2026, 0, 31, 12, 0, second)),
  text: `at ${second}`,
});

async function openIn(t: Test) {
  const folder = await tempDir(t);
  return { folder, reports: join(folder, 'commission'), store: await CommissionStore.open(folder, read) };
}

t.test('CommissionStore keeps the last ten, each as JSON and in words, and finds the newest again', async (t) => {
  const { folder, reports, store } = await openIn(t);
  t.equal(store.last, null, 'an empty folder is no fault');
  for (let second = 0; second < 13; second++) await store.keep(reportAt(second), `# ${second}\n`);
  t.equal(store.last?.text, 'at 12');
  const files = readdirSync(reports).sort();
  t.equal(files.length, 20);
  t.same(files.slice(0, 2), ['commission-2026-01-31T120003Z.json', 'commission-2026-01-31T120003Z.md']);
  t.equal((await CommissionStore.open(folder, read)).last?.text, 'at 12');
});

t.test(
  'CommissionStore keeps a report although the ten before it are of later dates, as a clock was ahead',
  async (t) => {
    const { reports, store } = await openIn(t);
    for (let second = 10; second < 20; second++) await store.keep(reportAt(second), 'x');
    await store.keep(reportAt(1), 'now');
    t.equal(store.last?.text, 'at 1');
    const files = readdirSync(reports).sort();
    t.equal(files.length, 20);
    t.same(files.slice(0, 4), [
      'commission-2026-01-31T120001Z.json',
      'commission-2026-01-31T120001Z.md',
      'commission-2026-01-31T120011Z.json',
      'commission-2026-01-31T120011Z.md',
    ]);
  },
);

t.test('CommissionStore takes one after the other, and of the same second the later', async (t) => {
  const { folder, store } = await openIn(t);
  await Promise.all(['a', 'b', 'c'].map((text) => store.keep({ ...reportAt(1), text }, text)));
  t.equal(store.last?.text, 'c');
  t.equal((await CommissionStore.open(folder, read)).last?.text, 'c');
});

t.test('CommissionStore passes over what is damaged, half written, or no report', async (t) => {
  const { folder, reports, store } = await openIn(t);
  await store.keep(reportAt(1), 'good');
  writeFileSync(join(reports, 'commission-2026-01-31T120002Z.json'), '{"text": "tor');
  writeFileSync(join(reports, 'commission-2026-01-31T120003Z.json'), '{"other": 1}');
  writeFileSync(join(reports, 'commission-2026-01-31T120004Z.json.new'), '{"text": "new"}');
  writeFileSync(join(reports, 'commission-last.json'), '{"text": "not ours"}');
  mkdirSync(join(reports, 'commission-2026-01-31T120005Z.json'));
  t.equal((await CommissionStore.open(folder, read)).last?.text, 'at 1');
});

t.test('CommissionStore rejects where it cannot write, and goes on with what it had', async (t) => {
  const folder = await tempDir(t);
  writeFileSync(join(folder, 'commission'), 'a file in the way');
  const store = await CommissionStore.open(folder, read);
  await t.rejects(store.keep(reportAt(1), ''), { code: 'EEXIST' });
  t.equal(store.last, null);
});
