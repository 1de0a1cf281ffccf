// What maps and sets lack.
import t from 'tap';
import { dropOldest, groupedBy } from '../../src/domain/collections.ts';

t.test('groupedBy() keeps the order of items and of groups, and leaves out what has no key', async (t) => {
  const groups = groupedBy([3, 1, 4, 1, 5, 9, 2, 6], (n) => (n === 9 ? undefined : n % 2 === 0));
  t.same(
    [...groups],
    [
      [false, [3, 1, 1, 5]],
      [true, [4, 2, 6]],
    ],
  );
});

t.test('dropOldest() lets go of what came first until as many as may be are left', async (t) => {
  const left = (most: number): string[] => {
    const kept = new Set(['a', 'b', 'c', 'd']);
    dropOldest(kept, most);
    return [...kept];
  };
  t.same(left(5), ['a', 'b', 'c', 'd']);
  t.same(left(4), ['a', 'b', 'c', 'd']);
  t.same(left(3), ['b', 'c', 'd']);
  t.same(left(1), ['d']);
  t.same(left(0), []);
});
