// The store over real files. Time is what each batch says it is.
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { answerOf, type HistoryAnswer } from '../../src/history/answer.ts';
import { isCorrupt } from '../../src/history/database.ts';
import type { HistoryQuery, KeptEvent, StoreBounds } from '../../src/history/records.ts';
import { Store } from '../../src/history/store.ts';
import { fuzz } from '../support/fuzz.ts';
import { BOUNDS, between, CPU, GPU, HOUR_MS, layoutOf, START_MS, TICK_MS, tickAt } from '../support/history-batches.ts';
import { tempDir } from '../support/temp-dir.ts';

const LAYOUTS = [layoutOf(1, 'n')];

async function fresh(t: Test, bounds: Partial<StoreBounds> = {}): Promise<{ store: Store; path: string }> {
  const path = join(await tempDir(t), 'history.sqlite');
  const store = new Store(path, { ...BOUNDS, ...bounds }, new Map());
  t.teardown(() => store.close());
  return { store, path };
}

const ask = (store: Store, query: HistoryQuery): HistoryAnswer => answerOf(store, query) as HistoryAnswer;

/** So many ticks come in one batch, as after a disk that hung; else each would wait for the disk. */
const BATCH = 15;

/** One node, one card, by these temperatures; gives the time of the last. */
function heat(store: Store, temperatures: readonly number[], fromMs = START_MS, stepMs = TICK_MS): number {
  const ticks = temperatures.map((value, index) => tickAt(fromMs + index * stepMs, [{ layout: 1, values: [value] }]));
  for (let from = 0; from < ticks.length; from += BATCH) {
    const together = ticks.slice(from, from + BATCH);
    const atMs = together.at(-1)?.atMs ?? fromMs;
    const figures = together.flatMap((tick) => tick.figures);
    store.write({ ...tickAt(atMs, []), layouts: from === 0 ? LAYOUTS : [], figures });
  }
  return fromMs + (temperatures.length - 1) * stepMs;
}

t.test('Store keeps every evaluation of the last hour as it was, missing readings included', async (t) => {
  const { store } = await fresh(t);
  const layouts = [layoutOf(1, 'n', [GPU, CPU])];
  store.write(tickAt(START_MS, [{ layout: 1, values: [60.2, 0.5] }], { layouts }));
  store.write(tickAt(START_MS + TICK_MS, [{ layout: 1, values: [Number.NaN, 0.25] }], { severity: 2 }));
  const answer = ask(store, between(START_MS, START_MS + HOUR_MS));
  t.same(answer.at, [START_MS, START_MS + TICK_MS]);
  t.same(answer.action, ['PROCEED', 'WAIT_COOLDOWN']);
  t.same(
    answer.series.map(({ component, max, mean }) => [component, max, mean]),
    [
      ['cpu', [0.5, 0.25], [0.5, 0.25]],
      ['gpu', [60.2, null], [60.2, null]],
    ],
  );
  t.same(answer.series[1]?.limits, [{ from: START_MS, warning: 80, hardStop: 85 }]);
  t.same(answer.margins, [{ node: 'n', min: [0.5, 0.5], worst: { at: START_MS, marginRatio: 0.5 } }]);
  t.equal(answer.stepSeconds, 10);
});

t.test('Store makes minutes of what is older than an hour, then drops the moments', async (t) => {
  const { store } = await fresh(t);
  const temperatures = Array.from({ length: 3 * 360 }, (_, index) => (index === 100 ? 84.5 : 50 + (index % 6)));
  const endMs = heat(store, temperatures);
  const early = ask(store, between(START_MS, START_MS + HOUR_MS - 1));
  t.equal(early.at.length, 60);
  t.equal(early.stepSeconds, 60);
  t.equal(Math.max(...(early.series[0]?.max ?? []).map(Number)), 84.5, 'the peak of one tick is there');
  t.equal(early.series[0]?.min[0], 50);
  t.equal(early.series[0]?.mean[0], 52.5);
  const late = ask(store, between(endMs - HOUR_MS / 2, endMs));
  t.equal(late.at.length, 181, 'each tick of the last half hour');
  const counted = store.database.first('SELECT count(*) AS n FROM figures WHERE tier=0')?.['n'];
  t.ok(Number(counted) <= 360 + 7 + BATCH, `${counted} moments are kept`);
});

t.test('answerOf() has at most 1,000 points, ascending, and loses no peak, whatever is asked for', async (t) => {
  const { store } = await fresh(t);
  const temperatures: number[] = [];
  let value = 50;
  let seed = 7;
  for (let index = 0; index < 5 * 360; index++) {
    seed = (seed * 16_807) % 2_147_483_647;
    value = Math.min(84, Math.max(30, value + (seed / 2_147_483_647 - 0.5) * 6));
    temperatures.push(Math.round(value * 10) / 10);
  }
  const endMs = heat(store, temperatures);
  const minutes = fc.integer({ min: 0, max: 5 * 60 });
  fc.assert(
    fc.property(minutes, minutes, (a, b) => {
      const fromMs = START_MS + Math.min(a, b) * 60_000;
      const toMs = START_MS + Math.max(a, b) * 60_000 + 59_999;
      const within = temperatures.filter((_, index) => {
        const at = START_MS + index * TICK_MS;
        return at >= fromMs && at <= toMs;
      });
      if (within.length === 0) return true;
      const { at, series } = ask(store, between(fromMs, toMs));
      const cells = (series[0]?.max ?? []).filter((cell) => cell !== null);
      const lows = (series[0]?.min ?? []).filter((cell) => cell !== null);
      const isAscending = at.every((one, index) => index === 0 || one > (at[index - 1] ?? 0));
      const isWhole = Math.max(...cells) === Math.max(...within) && Math.min(...lows) === Math.min(...within);
      return at.length <= 1000 && isAscending && isWhole && (at[0] ?? 0) >= fromMs;
    }),
    fuzz(60),
  );
  t.equal(ask(store, between(START_MS, endMs)).at.length > 200, true);
});

t.test('answerOf() joins the moments of fast ticks to at most 1,000 points', async (t) => {
  const { store } = await fresh(t, { intervalMs: 1_000 });
  const temperatures = Array.from({ length: 3_000 }, (_, index) => (index === 1_234 ? 99 : 40));
  const endMs = heat(store, temperatures, START_MS, 1_000);
  const { at, stepSeconds, series } = ask(store, between(START_MS, endMs));
  t.equal(stepSeconds, 5);
  t.equal(at.length, 600);
  t.equal(Math.max(...(series[0]?.max ?? []).map(Number)), 99);
});

t.test('answerOf() shows a pause of the service as one empty point', async (t) => {
  const { store } = await fresh(t);
  heat(store, [50, 51]);
  heat(store, [60, 61], START_MS + 600_000);
  const { at, series, action } = ask(store, between(START_MS, START_MS + HOUR_MS));
  t.same(series[0]?.max, [50, 51, null, 60, 61]);
  t.same(action, ['PROCEED', 'PROCEED', null, 'PROCEED', 'PROCEED']);
  t.equal(at[2], START_MS + 2 * TICK_MS);
});

t.test('answerOf() tells the limits of then, and follows a card that comes, goes and changes', async (t) => {
  const { store } = await fresh(t);
  const stricter = { ...GPU, warning: 75, hardStop: 80 };
  const other = { ...GPU, id: 'GPU-b' };
  const layouts = [layoutOf(1, 'n'), layoutOf(2, 'n', [stricter]), layoutOf(3, 'n', [stricter, other])];
  for (const [index, layout] of [1, 1, 2, 3].entries()) {
    const values = layout === 3 ? [70, 30] : [70];
    store.write(tickAt(START_MS + index * TICK_MS, [{ layout, values }], { layouts: index === 0 ? layouts : [] }));
  }
  const { series } = ask(store, between(START_MS, START_MS + HOUR_MS));
  t.same(series[0]?.limits, [
    { from: START_MS, warning: 80, hardStop: 85 },
    { from: START_MS + 2 * TICK_MS, warning: 75, hardStop: 80 },
  ]);
  t.same(series[1]?.max, [null, null, null, 30]);
});

t.test('answerOf() without a node gives the worst margins of at most 100 nodes, the worst first', async (t) => {
  const { store } = await fresh(t);
  const ids = Array.from({ length: 120 }, (_, index) => index + 1);
  const layouts = ids.map((id) => layoutOf(id, `n${id}`));
  const nodes = ids.map((id) => ({ layout: id, values: [50], margin: id === 77 ? -0.01 : id / 200 }));
  store.write(tickAt(START_MS, nodes, { layouts }));
  const all = ask(store, between(START_MS, START_MS + HOUR_MS, null));
  t.same(all.series, []);
  t.equal(all.nodesTotal, 120);
  t.equal(all.margins.length, 100);
  t.same(all.margins[0], { node: 'n77', min: [-0.01], worst: { at: START_MS, marginRatio: -0.01 } });
  const one = ask(store, between(START_MS, START_MS + HOUR_MS, 'n3'));
  t.same(
    one.margins.map(({ node }) => node),
    ['n3'],
  );
  t.equal(one.series[0]?.node, 'n3');
});

t.test('answerOf() knows no node that neither the service nor the store knows', async (t) => {
  const { store } = await fresh(t);
  heat(store, [50]);
  t.equal(answerOf(store, { ...between(START_MS, START_MS + 1, 'x'), isKnown: false }), null);
  t.same(ask(store, between(START_MS, START_MS + 1, 'x')).at.length, 1);
  t.same(ask(store, between(START_MS, START_MS + 1, 'x')).margins, []);
  t.not(answerOf(store, { ...between(START_MS, START_MS + 1, 'n'), isKnown: false }), null, 'a node of the past');
});

t.test('Store keeps events and the spans of trips and cooldowns, and ends those that are over', async (t) => {
  const { store } = await fresh(t);
  const event = (name: KeptEvent['name'], node?: string): KeptEvent => ({
    at: new Date(START_MS).toISOString(),
    name,
    message: name,
    ...(node !== undefined && { node }),
  });
  const trip = { state: 'tripped', node: null, tripId: 't1', reason: 'hot', sinceMs: START_MS - 5 } as const;
  const cooling = { state: 'cooling', node: 'm', tripId: null, reason: null, sinceMs: null } as const;
  const events = [event('tripped'), event('cooling-started', 'm')];
  store.write(tickAt(START_MS, [], { events, open: [trip, cooling] }));
  store.write(tickAt(START_MS + TICK_MS, [], { open: [trip] }));
  const answer = ask(store, between(START_MS, START_MS + HOUR_MS, null));
  t.same(answer.spans, [
    { state: 'tripped', node: null, tripId: 't1', reason: 'hot', from: START_MS - 5, to: null },
    { state: 'cooling', node: 'm', from: START_MS, to: START_MS + TICK_MS },
  ]);
  t.same(answer.events, events);
  const other = ask(store, between(START_MS, START_MS + HOUR_MS));
  t.same(
    other.events.map(({ name }) => name),
    ['tripped'],
    'another node’s are left out',
  );
  t.same(
    other.spans.map(({ state }) => state),
    ['tripped'],
  );
  t.same(ask(store, between(START_MS + HOUR_MS, START_MS + 2 * HOUR_MS, null)).spans.length, 1, 'what is on is told');
});

t.test('Store goes on where an earlier process stopped, and ends its spans', async (t) => {
  const { store, path } = await fresh(t);
  heat(
    store,
    Array.from({ length: 400 }, () => 50),
  );
  const open = [{ state: 'cooling', node: 'n', tripId: null, reason: null, sinceMs: null }] as const;
  store.write(tickAt(START_MS + 400 * TICK_MS, [{ layout: 1, values: [60] }], { open }));
  store.close();
  const next = new Store(path, BOUNDS, new Map());
  t.teardown(() => next.close());
  next.write(tickAt(START_MS + 401 * TICK_MS, [{ layout: 9, values: [61] }], { layouts: [layoutOf(9, 'n')] }));
  const { series, spans } = ask(next, between(START_MS, START_MS + 2 * HOUR_MS));
  t.same(series[0]?.max.slice(-2), [60, 61]);
  t.equal(spans[0]?.to, START_MS + 401 * TICK_MS);
  t.equal(next.database.first('SELECT count(*) AS n FROM layout')?.['n'], 1, 'the same layout is the same');
});

t.test('Store drops what is older than it is to keep, and no sooner', async (t) => {
  const { store } = await fresh(t, { keepMs: 2 * HOUR_MS });
  const endMs = heat(
    store,
    Array.from({ length: 3 * 360 }, () => 50),
  );
  const { keptFrom } = ask(store, between(START_MS, endMs));
  const keptMs = endMs - Date.parse(keptFrom ?? '');
  t.ok(keptMs <= 2 * HOUR_MS && keptMs > 2 * HOUR_MS - 120_000, `${keptMs / 60_000} min`);
});

t.test('Store forgets the names of nodes that no figure is kept of', async (t) => {
  const { store } = await fresh(t, { keepMs: 2 * HOUR_MS });
  const layouts = [layoutOf(1, 'n'), layoutOf(2, 'passing')];
  store.write(
    tickAt(
      START_MS,
      [1, 2].map((layout) => ({ layout, values: [60] })),
      { layouts },
    ),
  );
  const names = (): unknown[] => store.database.all('SELECT name FROM node ORDER BY name').map(({ name }) => name);
  t.same(names(), ['n', 'passing']);
  for (let hour = 1; hour <= 8; hour++) store.write(tickAt(START_MS + hour * HOUR_MS, [{ layout: 1, values: [61] }]));
  t.same(names(), ['n']);
  t.equal(ask(store, between(START_MS + 7 * HOUR_MS, START_MS + 8 * HOUR_MS)).series.length, 1);
});

t.test('Store with quarters of an hour keeps a peak of days ago', async (t) => {
  const { store } = await fresh(t, { keepMs: 7 * 24 * HOUR_MS });
  // Ticks of five minutes: a minute of its own each.
  const temperatures = Array.from({ length: 3 * 288 }, (_, index) => (index === 13 ? 83 : 40));
  const endMs = heat(store, temperatures, START_MS, 300_000);
  const { series, at } = ask(store, between(START_MS, endMs));
  t.equal(Math.max(...(series[0]?.max ?? []).map(Number)), 83);
  t.ok(at.length <= 1000);
  const early = store.database.first('SELECT max(ticks) AS ticks FROM figures WHERE tier=2')?.['ticks'];
  t.equal(early, 3, 'three ticks of five minutes make a quarter');
});

t.test('Store that is full drops the oldest, says so, and never grows past its bytes', async (t) => {
  const maxBytes = 16 * 1024 * 1024;
  const { store, path } = await fresh(t, { maxBytes });
  const series = Array.from({ length: 70 }, (_, index) => ({ ...GPU, id: `GPU-${index}` }));
  const layouts = Array.from({ length: 150 }, (_, index) => layoutOf(index + 1, `n${index}`, series));
  const values = series.map((_, index) => index);
  let dropped: number | null = null;
  let largest = 0;
  for (let index = 0; index < 300; index++) {
    const nodes = layouts.map(({ id }) => ({ layout: id, values }));
    const kept = store.write(tickAt(START_MS + index * TICK_MS, nodes, { layouts: index === 0 ? layouts : [] }));
    dropped = kept.droppedBeforeMs ?? dropped;
    const log = existsSync(`${path}-wal`) ? statSync(`${path}-wal`).size : 0;
    largest = Math.max(largest, statSync(path).size + log);
  }
  t.ok(dropped !== null && dropped > START_MS, 'it says before when nothing is left');
  t.ok(largest <= maxBytes, `${largest} bytes at most`);
  const { at } = ask(store, between(START_MS, START_MS + 2 * HOUR_MS, 'n0'));
  t.equal(at.at(-1), START_MS + 299 * TICK_MS, 'the newest is always there');
  t.ok(at.length > 100, `${at.length} points are left`);
});

t.test('Store survives a wall clock that is set back, and loses no peak by it', async (t) => {
  const { store } = await fresh(t);
  heat(
    store,
    Array.from({ length: 60 }, () => 50),
  );
  heat(store, [50, 84, 50, 50, 50, 50, 50, 50], START_MS + 5_000);
  const endMs = heat(
    store,
    Array.from({ length: 800 }, () => 40),
    START_MS + 600_000,
  );
  const { series } = ask(store, between(START_MS, endMs));
  t.equal(Math.max(...(series[0]?.max ?? []).map(Number)), 84);
});

t.test('Store sets a damaged file aside and begins anew, whatever the damage', async (t) => {
  const damages: Record<string, (path: string) => void> = {
    'no database at all': (path) => writeFileSync(path, 'x'.repeat(10_000)),
    'cut to a part': (path) => truncateSync(path, Math.floor(statSync(path).size * 0.6)),
    'a first page of noise': (path) => {
      const bytes = readFileSync(path);
      bytes.fill(0xa5, 0, 4096);
      writeFileSync(path, bytes);
    },
    'the format of another version': (path) => {
      const bytes = readFileSync(path);
      bytes.writeUInt32BE(99, 60); // user_version of the SQLite header
      writeFileSync(path, bytes);
    },
  };
  for (const [name, damage] of Object.entries(damages)) {
    const { store, path } = await fresh(t);
    heat(
      store,
      Array.from({ length: 100 }, () => 50),
    );
    store.close();
    damage(path);
    const next = new Store(path, BOUNDS, new Map());
    t.teardown(() => next.close());
    try {
      heat(next, [61]);
    } catch (error) {
      t.ok(isCorrupt(error), `${name}: ${String(error)}`);
      next.beginAnew();
      heat(next, [61]);
    }
    t.equal(next.takeBegunAnew(), `${path}.corrupt`, name);
    t.equal(next.takeBegunAnew(), null, 'told once');
    t.ok(existsSync(`${path}.corrupt`), name);
    t.same(ask(next, between(START_MS, START_MS + HOUR_MS)).series[0]?.max, [61], name);
  }
});

t.test('Store opens in spite of the lock of a process that was killed', async (t) => {
  const { store, path } = await fresh(t);
  heat(store, [50]);
  store.close();
  const copy = join(await tempDir(t), 'copy.sqlite');
  copyFileSync(path, copy);
  mkdirSync(`${copy}.lock`);
  const next = new Store(copy, BOUNDS, new Map());
  t.same(ask(next, between(START_MS, START_MS + 1)).series[0]?.max, [50]);
  next.close();
  rmSync(`${copy}.lock`, { recursive: true, force: true });
});
