// docs/faults.md promises an outcome for each fault and names the tests that show it. Here it is looked up that they exist;
// whether they pass they say themselves.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { namedTestsIn, tableRows, whyNoTest } from './support/named-tests.ts';

t.test('docs/faults.md names a test that exists for every fault', (t) => {
  const rows = tableRows(readFileSync('docs/faults.md', 'utf8'));
  t.ok(rows.length > 40);
  for (const [fault = '', outcome = '', tests = ''] of rows) {
    const named = namedTestsIn(tests);
    t.ok(fault !== '' && outcome !== '' && named.length > 0, fault);
    t.equal(tests.split(' · ').length, named.length, `${fault}: nothing but tests in the last column`);
    for (const one of named) t.equal(whyNoTest(one), null, fault);
  }
  t.end();
});

t.test('every property takes its runs and its seed from one place', (t) => {
  const files = readdirSync('test', { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.test.ts'));
  const usual = files.filter((name) => /fc\.assert\(|fc\.check\(/.test(readFileSync(join('test', name), 'utf8')));
  t.ok(usual.length >= 8);
  for (const name of usual) {
    const text = readFileSync(join('test', name), 'utf8');
    const [asserts, fuzzes] = [/fc\.(?:assert|check)\(/g, /\bfuzz\(/g].map((what) => text.match(what)?.length ?? 0);
    if (name !== 'faults.test.ts') t.equal(fuzzes, asserts, name);
  }
  t.end();
});

t.test('whyNoTest() knows a title with variable parts, and misses what is not there', (t) => {
  const file = 'end-to-end/crash.test.ts';
  t.equal(
    whyNoTest({ file, title: 'a crash at step … of a trip: still tripped after it, and the stop goes on' }),
    null,
  );
  t.match(whyNoTest({ file, title: 'a crash at step … of a trip' }), /has no test/);
  t.match(whyNoTest({ file: 'end-to-end/nowhere.test.ts', title: 'x' }), /there is no/);
  t.end();
});
