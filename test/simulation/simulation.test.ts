// The simulation in small: some worlds break no rule, a seed gives the same run twice, a failing story shrinks, and faults
// planted in the product are found. The thousands of worlds are `npm run simulate`'s.
import { spawn } from 'node:child_process';
import t from 'tap';
import { addOutcome, describeFailure, neverOccurred, noTotals, takeFailures } from './report.ts';
import { shrink } from './shrink.ts';
import { type Story, storyOf } from './story.ts';
import { runWorld } from './world.ts';

const SEEDS = Array.from({ length: 4 }, (_, index) => index + 1);

t.test('runWorld() breaks no rule in the first worlds', async (t) => {
  for (const seed of SEEDS) {
    const story = storyOf(seed);
    const outcome = await runWorld(story);
    t.equal(outcome.violation, null, describeFailure(story, outcome).join('\n') || `seed ${seed}`);
    t.ok(outcome.steps > 1_000 && outcome.nodeHours > 0, `seed ${seed} was worth it: ${outcome.steps} steps`);
  }
});

t.test('runWorld() gives the same run for the same seed, and another for another', async (t) => {
  const isShort = (story: Story): Story => ({ ...story, lengthMs: 300_000 });
  const seeds = [1, 2];
  const digests: string[] = [];
  for (const seed of seeds) {
    const first = await runWorld(isShort(storyOf(seed)));
    const second = await runWorld(isShort(storyOf(seed)));
    t.equal(second.digest, first.digest, `seed ${seed}`);
    t.same(second.counts, first.counts);
    t.equal(second.steps, first.steps);
    digests.push(first.digest);
  }
  t.equal(new Set(digests).size, seeds.length);
});

t.test('a sum of worlds has none that broke a rule, and gives their seeds back to be run anew', async (t) => {
  const totals = noTotals();
  const outcome = await runWorld({ ...storyOf(1), lengthMs: 120_000 });
  const violation = { rule: 'false trip', detail: 'for nothing', atMs: 1 };
  addOutcome(totals, { ...outcome, seed: 7, violation }, 'light', 1);
  t.match(totals, { worlds: 0, nodeHours: 0, falseTrips: 1, failedSeeds: [{ seed: 7, rule: 'false trip' }] });
  t.same(takeFailures(totals), [7]);
  t.same(totals, noTotals());
});

t.test('storyOf() draws the same story for the same seed', async (t) => {
  t.same(storyOf(77), storyOf(77));
  t.not(JSON.stringify(storyOf(77)), JSON.stringify(storyOf(78)));
});

t.test('neverOccurred() names what never came up', async (t) => {
  t.ok(neverOccurred(noTotals()).includes('act dies'));
});

t.test('shrink() leaves of a failing story what it takes', async (t) => {
  // A world that breaks a rule on purpose: a card that reads 90 °C to the world's own eyes and to nobody else is not to be
  // had without a fault in the product, so the rule is made impossible instead: a bound of less than nothing.
  const story: Story = { ...storyOf(1), boundSlackMs: -1e9 };
  const hot: Story = {
    ...story,
    acts: [
      { atMs: 95_000, forMs: 5_000, kind: 'operator-drills', replica: 0 },
      { atMs: 100_000, forMs: 200_000, kind: 'fan-fails', node: 0, card: 0, factor: 3 },
      { atMs: 100_000, forMs: 200_000, kind: 'hot-air', node: 0, byC: 25 },
      { atMs: 110_000, forMs: 5_000, kind: 'operator-resets', replica: 0 },
    ],
  };
  const failed = await runWorld(hot);
  t.equal(failed.violation?.rule, 'missed');
  const short = await shrink(hot, failed, 20);
  t.equal(short.outcome.violation?.rule, 'missed');
  t.ok(short.story.acts.length < hot.acts.length, `${short.story.acts.length} acts are left`);
  t.ok(short.story.acts.every(({ kind }) => kind === 'fan-fails' || kind === 'hot-air'));
  t.match(
    describeFailure(short.story, short.outcome).join('\n'),
    /seed 1: missed at[\s\S]*npm run simulate -- --seed 1/,
  );
});

t.test('npm run simulate -- --planted finds each planted fault in its world', { timeout: 240_000 }, async (t) => {
  const child = spawn(process.execPath, ['scripts/simulate.mjs', '--planted'], { stdio: ['ignore', 'pipe', 'pipe'] });
  let told = '';
  child.stdout.on('data', (part) => (told += String(part)));
  child.stderr.on('data', (part) => (told += String(part)));
  const code = await new Promise((resolve) => child.on('close', resolve));
  t.equal(code, 0, told);
  t.notMatch(told, /NOT FOUND/);
  t.ok([...told.matchAll(/^ {4}(?:seed|the story of) /gm)].length >= 10, told);
});
