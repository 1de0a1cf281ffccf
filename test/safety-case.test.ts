// docs/safety-case.md says which line enforces what, and which test would fail without it. Here it is looked up that all of
// it is there; that the tests do fail is shown by `npm run safety-case`.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { MUTANTS } from './fixtures/safety-case-mutants.ts';
import { namedTestsIn, tableRows, whyNoTest } from './support/named-tests.ts';

const markdown = readFileSync('docs/safety-case.md', 'utf8');
const rows = tableRows(markdown).map(([id = '', hazard = '', requirement = '', where = '', tests = '']) => ({
  id,
  hazard,
  requirement,
  where: [...where.matchAll(/`([\w./-]+\.ts)` `(\w+)`/g)].map(([, file = '', symbol = '']) => ({ file, symbol })),
  parts: where.split(' · ').length,
  tests: namedTestsIn(tests),
  testParts: tests.split('` · `').length,
}));

t.test('docs/safety-case.md names for every hazard what enforces it and a test, and all of that is there', (t) => {
  t.ok(rows.length >= 60);
  t.equal(new Set(rows.map(({ id }) => id)).size, rows.length, 'each once');
  for (const { id, hazard, requirement, where, parts, tests } of rows) {
    t.ok(hazard !== '' && requirement !== '' && where.length > 0 && tests.length > 0, id);
    t.equal(where.length, parts, `${id}: files with symbols and nothing else`);
    for (const { file, symbol } of where) {
      const path = join('src', file);
      const isThere = existsSync(path) && new RegExp(`\\b${symbol}\\b`).test(readFileSync(path, 'utf8'));
      t.ok(isThere, `${id}: ${symbol} in ${path}`);
    }
    for (const one of tests) t.equal(whyNoTest(one), null, id);
  }
  t.end();
});

t.test(
  'docs/safety-case.md has a change for every hazard that takes its line out, and the last run made all of them',
  (t) => {
    t.same(
      MUTANTS.map(({ row }) => row),
      rows.map(({ id }) => id),
    );
    for (const { row, file, search, replace } of MUTANTS) {
      const { where } = rows.find(({ id }) => id === row) ?? { where: [] };
      t.ok(
        where.some((one) => one.file === file),
        `${row}: ${file} is named there`,
      );
      t.ok(readFileSync(join('src', file), 'utf8').includes(search), `${row}: ${search}`);
      t.not(search, replace);
    }
    t.match(markdown, new RegExp(`all ${MUTANTS.length} changes made their test fail`), 'npm run safety-case');
    t.end();
  },
);
