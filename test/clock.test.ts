import { getEventListeners } from 'node:events';
import t from 'tap';
import { loopTurn, systemClock, TurnShare } from '../src/clock.ts';

/** Asks for pieces of these sizes at once; gives in which turn of the loop each of them began. */
async function turnsOf(share: TurnShare, amounts: readonly number[]): Promise<number[]> {
  let turn = 0;
  let isOver = false;
  const counting = (async () => {
    for (; !isOver; turn++) await loopTurn();
  })();
  const began = await Promise.all(amounts.map((amount) => share.take(amount).then(() => turn)));
  isOver = true;
  await counting;
  return began;
}

t.test('TurnShare begins no more than its share in one turn of the loop, in the order of asking', async (t) => {
  const share = new TurnShare(100, () => 0);
  const began = await turnsOf(share, [60, 40, 50, 50, 10, 10]);
  t.same(
    began.map((turn) => turn - (began[0] ?? 0)),
    [0, 0, 1, 1, 2, 2],
  );
});

t.test(
  'TurnShare gives a piece over its share a turn of its own, and keeps no small one back behind it for longer',
  async (t) => {
    const share = new TurnShare(100, () => 0);
    const began = await turnsOf(share, [250, 10, 250, 10]);
    t.same(
      began.map((turn) => turn - (began[0] ?? 0)),
      [0, 1, 2, 3],
    );
  },
);

t.test('TurnShare lets a piece through at once after a pause', async (t) => {
  const share = new TurnShare(100);
  await share.take(100);
  await loopTurn();
  await loopTurn();
  t.same(await turnsOf(share, [100]), [0]);
});

t.test('TurnShare gives the work a third of the time where other work makes the turns long', async (t) => {
  let nowMs = 0;
  const share = new TurnShare(100, () => nowMs);
  let began = 0;
  const pieces = Array.from({ length: 100 }, () => share.take(100).then(() => (began += 1)));
  await loopTurn();
  const inTurn: number[] = [];
  for (const turnMs of [5, 15, 60, 60, 5]) {
    nowMs += turnMs;
    const before = began;
    await loopTurn();
    inTurn.push(began - before);
  }
  t.same(inTurn, [1, 1, 4, 4, 1]);
  for (; began < pieces.length; nowMs += 1_000) await loopTurn();
  await Promise.all(pieces);
});

t.test(
  'systemClock.sleep() holds one listener on a signal, however many sleep on it, and wakes all of them',
  async (t) => {
    const warnings: Error[] = [];
    const warn = (warning: Error): void => void warnings.push(warning);
    process.on('warning', warn);
    t.teardown(() => process.off('warning', warn));
    const ending = new AbortController();
    let woken = 0;
    const asleep = Array.from({ length: 400 }, () =>
      systemClock.sleep(600_000, ending.signal).then(() => (woken += 1)),
    );
    // Those that wake by themselves leave the others asleep.
    await Promise.all(Array.from({ length: 400 }, () => systemClock.sleep(1, ending.signal)));
    t.equal(woken, 0);
    t.equal(getEventListeners(ending.signal, 'abort').length, 1);
    ending.abort();
    await Promise.all(asleep);
    t.equal(woken, 400);
    await systemClock.sleep(600_000, ending.signal);
    await loopTurn();
    t.same(warnings, [], 'Node sees no leak');
  },
);
