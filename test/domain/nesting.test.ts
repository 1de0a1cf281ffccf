import t from 'tap';
import { lineTooDeep } from '../../src/domain/nesting.ts';

t.test(
  'lineTooDeep() finds brackets, dashes and indents beyond 200 levels, and nothing that closes again',
  async (t) => {
    t.equal(lineTooDeep(''), null);
    t.equal(lineTooDeep(`a: 1\nb: ${'['.repeat(200)}`), null);
    t.equal(lineTooDeep(`a: 1\nb: ${'['.repeat(201)}`), 2);
    t.equal(lineTooDeep(`${'[{\n'.repeat(101)}`), 101, 'over many lines');
    t.equal(lineTooDeep('[]{}'.repeat(10_000)), null);
    t.equal(lineTooDeep('[[]'.repeat(201)), 1, 'a bracket that closes takes back one');
    t.equal(lineTooDeep('[[]'.repeat(199)), null);
    t.equal(lineTooDeep(']'.repeat(10_000) + '['.repeat(200)), null);
    t.equal(lineTooDeep(`${'- '.repeat(100)}x`), null);
    t.equal(lineTooDeep(`${'- '.repeat(101)}x`), 1);
    t.equal(lineTooDeep(`a:\n${' '.repeat(201)}b: 1`), 2);
    t.equal(lineTooDeep('x'.repeat(10_000)), null);
  },
);
