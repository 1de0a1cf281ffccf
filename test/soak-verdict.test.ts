// The soak's verdict (bench/soak-verdict.mjs) on courses of which it is known whether they grow.
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import t from 'tap';

interface Point {
  readonly atMs: number;
  readonly value: number;
}
interface Verdict {
  readonly verdict: string;
  readonly grows: boolean;
}
const { slopeOf, verdictOf } = (await import(pathToFileURL(join(process.cwd(), 'bench/soak-verdict.mjs')).href)) as {
  slopeOf: (points: readonly Point[]) => { readonly perHour: number; readonly spread: number };
  verdictOf: (
    points: readonly Point[],
    bounds: { readonly matters: number; readonly atMost?: number | null },
  ) => Verdict;
};

const LOOKS = 150;
const LOOK_MS = 10_000;
const HOURS = (LOOKS * LOOK_MS) / 3_600_000;

/** Numbers from 0 to 1 by a seed: Park and Miller. */
function chanceOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 48_271) % 2_147_483_647;
    return state / 2_147_483_647;
  };
}

const course = (valueAt: (index: number) => number): Point[] =>
  Array.from({ length: LOOKS }, (_, index) => ({ atMs: index * LOOK_MS, value: valueAt(index) }));
/** A line of so much per hour, with noise of ±5 that is new at each look. */
const line = (perHour: number, seed: number): Point[] => {
  const chance = chanceOf(seed);
  return course((index) => 100 + (perHour * HOURS * index) / LOOKS + (chance() - 0.5) * 10);
};
const MEMORY = { matters: 256 };

t.test('slopeOf() gives a spread that holds the true slope 19 of 20 times', async (t) => {
  let held = 0;
  for (let seed = 1; seed <= 400; seed++) {
    const { perHour, spread } = slopeOf(line(12, seed));
    if (Math.abs(perHour - 12) <= spread) held += 1;
  }
  t.ok(held >= 368 && held <= 394, `${held} of 400`);
  t.same(slopeOf(course((index) => index / 360)), { perHour: 1, spread: 0 }, 'a line without noise is sure');
});

t.test('slopeOf() is less sure where looks resemble the one before', async (t) => {
  const chance = chanceOf(7);
  let value = 0;
  const wandering = course(() => {
    value = 0.95 * value + chance() - 0.5;
    return value;
  });
  const order = chanceOf(8);
  const mixed = [...wandering].map(({ value }) => value).sort(() => order() - 0.5);
  const shuffled = course((index) => mixed[index] ?? 0);
  t.ok(slopeOf(wandering).spread > 2 * slopeOf(shuffled).spread);
});

t.test('verdictOf() says that what grows grows, from what matters in three days on', async (t) => {
  for (const seed of [1, 2, 3, 4, 5]) {
    t.match(verdictOf(line(20, seed), MEMORY), { grows: true, verdict: /^grows, by 1\d{3} in three days/ });
    t.match(verdictOf(line(0, seed), MEMORY), { grows: false, verdict: /^flat/ });
  }
  const slight = course((index) => index / 1_000);
  t.match(verdictOf(slight, MEMORY), { grows: false, verdict: 'flat' }, 'for sure, and by 26 in three days');
  t.match(verdictOf(slight, { matters: 20 }), { grows: true });
});

t.test('verdictOf() takes no course for growth that has come to its end', async (t) => {
  const filled = course((index) => 100 + 50 * (1 - Math.exp(-index / 15)));
  t.match(verdictOf(filled, MEMORY), { grows: false });
  t.match(
    verdictOf(
      [...filled].reverse().map(({ value }, index) => ({ atMs: index, value })),
      MEMORY,
    ),
    { grows: false },
  );
});

t.test('verdictOf() lets a file grow up to its bound and no further', async (t) => {
  const growing = course((index) => index / 10);
  t.match(verdictOf(growing, { matters: 1, atMost: 16 }), { grows: false, verdict: 'within its bound of 16' });
  t.match(verdictOf(growing, { matters: 1, atMost: 14 }), { grows: true, verdict: 'grows over its bound of 14' });
});

t.test('verdictOf() says what a wavering line could hide, and that a short one tells nothing', async (t) => {
  t.match(verdictOf(line(0, 3), { matters: 64 }), {
    verdict: /^flat, as far as this tells: up to \d+ in three days could hide$/,
  });
  t.match(verdictOf(line(50, 1).slice(0, 11), MEMORY), { grows: false, verdict: 'too short' });
});
