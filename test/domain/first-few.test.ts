import t from 'tap';
import { firstFew } from '../../src/domain/first-few.ts';

t.test('firstFew() names the first and counts the rest', async (t) => {
  t.equal(firstFew([], 2), '');
  t.equal(firstFew(['a'], 2), 'a');
  t.equal(firstFew(['a', 'b'], 2), 'a, b');
  t.equal(firstFew(['a', 'b', 'c'], 2), 'a, b and 1 more');
  t.equal(firstFew(['a', 'b', 'c', 'd'], 2, 'more nodes'), 'a, b and 2 more nodes');
});
