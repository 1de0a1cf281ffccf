import t from 'tap';
import type { Clock } from '../../src/clock.ts';
import { FigureTaker, openSpansOf } from '../../src/history/figure-taker.ts';
import type { Figures, Layout, Series } from '../../src/history/records.ts';
import { coolNode, DomainWorld, GPU_A, GPU_B, NODE, worldSettings } from '../support/domain-world.ts';

/** Reads what a taker gives, by the names of the readings. */
class Reader {
  readonly world: DomainWorld;
  readonly taker: FigureTaker;
  readonly layouts = new Map<number, Layout>();
  forgotten: number[] = [];
  pauses = 0;

  constructor(world: DomainWorld) {
    this.world = world;
    // Each look at the clock takes a microsecond, so that a long list of nodes is seen to be cut.
    let looks = 0;
    const clock: Clock = {
      now: () => ({ elapsedMs: world.elapsedMs + looks++ / 1000, wallMs: world.wallMs }),
      sleep: async () => {
        this.pauses += 1;
      },
      after: () => () => undefined,
    };
    this.taker = new FigureTaker(clock);
  }

  async take(): Promise<Figures> {
    const figures = await this.taker.take(this.world.state, { wallMs: this.world.wallMs, severity: 0, margins: [] });
    const { layouts, forgotten } = this.taker.changes();
    for (const layout of layouts) this.layouts.set(layout.id, layout);
    this.forgotten.push(...forgotten);
    return figures;
  }

  valuesOf({ layouts, values }: Figures): Record<string, number> {
    let start = 0;
    const found: Record<string, number> = {};
    for (const id of layouts) {
      for (const { component, id: device, quantity } of this.layouts.get(id)?.series ?? []) {
        found[[component, device, quantity].filter(Boolean).join(' ')] = values[start++] ?? Number.NaN;
      }
    }
    t.equal(start, values.length, 'the layouts say where every number belongs');
    return found;
  }

  seriesOf(figures: Figures): readonly Series[] {
    return this.layouts.get(figures.layouts[0] ?? 0)?.series ?? [];
  }
}

t.test('FigureTaker takes every reading that has limits, with the limits', async (t) => {
  const world = new DomainWorld();
  world.run(20);
  const reader = new Reader(world);
  const figures = await reader.take();
  t.match(reader.valuesOf(figures), {
    [`gpu ${GPU_A} temperature`]: 55.25,
    [`gpu ${GPU_B} power`]: 120.5,
    'system total-power': 640,
  });
  t.equal(figures.values.length, 10);
  const hot = reader.seriesOf(figures).find(({ id, quantity }) => id === GPU_A && quantity === 'temperature');
  t.match(hot, { unit: '°C', warning: 80, hardStop: 85 });
});

t.test('FigureTaker keeps the place of a required reading that is missing, and takes no number for it', async (t) => {
  const world = new DomainWorld();
  world.run(20);
  const reader = new Reader(world);
  const before = await reader.take();
  world.gpu().temperatureC = null;
  world.run(10);
  const after = await reader.take();
  t.ok(Number.isNaN(reader.valuesOf(after)[`gpu ${GPU_A} temperature`]));
  t.same(after.layouts, before.layouts, 'the same readings, whatever their order, are the same layout');
  world.gpu().temperatureC = 61;
  world.run(10);
  t.equal(reader.valuesOf(await reader.take())[`gpu ${GPU_A} temperature`], 61);
  t.equal(reader.layouts.size, 1);
});

t.test('FigureTaker makes a new layout when a card’s limits change, and forgets old ones beyond a bound', async (t) => {
  const world = new DomainWorld();
  world.run(20);
  const reader = new Reader(world);
  for (let slowdownC = 61; slowdownC < 84; slowdownC++) {
    const node = world.state.nodes.get(NODE);
    if (!node) throw new Error('no node');
    const limits = { ...node.limits, slowdownC: new Map([[GPU_A, slowdownC]]) };
    world.state = { ...world.state, nodes: new Map([[NODE, { ...node, limits }]]) };
    const figures = await reader.take();
    const hot = reader.seriesOf(figures).find(({ id, quantity }) => id === GPU_A && quantity === 'temperature');
    t.equal(hot?.hardStop, slowdownC);
    t.notOk(reader.forgotten.includes(figures.layouts[0] ?? 0), 'what is in use is not forgotten');
  }
  t.equal(reader.layouts.size, 23);
  t.equal(reader.forgotten.length, 16);
});

t.test('FigureTaker lets other work run between nodes, and takes all of them from one state', async (t) => {
  const names = Array.from({ length: 3_000 }, (_, index) => `node-${index}`);
  const nodes = Object.fromEntries(names.map((name) => [name, coolNode()]));
  const world = new DomainWorld(worldSettings({ nodes: new Map() }), nodes);
  world.run(10);
  const reader = new Reader(world);
  const figures = await reader.take();
  t.equal(figures.layouts.length, 3_000);
  t.ok(reader.pauses >= 1, `${reader.pauses} pauses`);
});

t.test('FigureTaker and openSpansOf() tell of trips and cooldowns, per node and of everything', async (t) => {
  const world = new DomainWorld();
  world.run(20);
  const reader = new Reader(world);
  t.same([...(await reader.take()).severities], [0]);
  t.same(openSpansOf(world.state), []);
  world.gpu().temperatureC = 81;
  world.run(10);
  t.same([...(await reader.take()).severities], [2], 'a node that cools waits');
  t.same(openSpansOf(world.state), [{ state: 'cooling', node: NODE, tripId: null, reason: null, sinceMs: null }]);
  world.stop([NODE]);
  t.same([...(await reader.take()).severities], [3]);
  const tripped = (): (string | null)[] =>
    openSpansOf(world.state).flatMap(({ state, node }) => (state === 'tripped' ? [node] : []));
  t.same(tripped(), [NODE]);
  world.stop();
  t.same(tripped(), [null], 'a stop of everything takes the place of the node’s own');
});
