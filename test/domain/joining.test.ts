// What several sources of one node say together: which reading counts, and which cause where none does.
import t from 'tap';
import { readGpuPowersW, readNode } from '../../src/domain/node-readings.ts';
import type { Measured, Missing, RawReading } from '../../src/domain/reading.ts';
import type { NodeSettings } from '../../src/domain/settings.ts';
import { answered, DomainWorld, GPU_A, GPU_B, NODE, nodeSettings } from '../support/domain-world.ts';

type Said = Omit<RawReading, 'origin'>;

const TOTAL = { component: 'system', quantity: 'total-power' } as const;
const CPU = { component: 'cpu', quantity: 'temperature' } as const;

/** A node of which two sources say this, each after the other. */
function joined(first: readonly Said[], second: readonly Said[]): DomainWorld {
  const world = new DomainWorld();
  const told = [first, second].entries();
  const gpus = [GPU_A, GPU_B].map((id) => ({ id, uuid: id, vendor: 'nvidia' as const, required: true }));
  const reports = [...told].map(([index, said]) => {
    const readings = said.map((raw) => ({ ...raw, origin: String(raw.value ?? raw.cause) }));
    return answered(`source ${index + 1}`, world.elapsedMs, { readings, gpus });
  });
  world.submit({ kind: 'observed', why: 'tick', reports });
  return world;
}

function readingsOf(world: DomainWorld, settings: Partial<NodeSettings> = {}): ReturnType<typeof readNode>['readings'] {
  const watch = world.state.nodes.get(NODE)?.watch;
  if (!watch) throw new Error('the node was never read');
  const options = { purpose: 'running', nowMs: world.elapsedMs, staleBeforeMs: Number.NEGATIVE_INFINITY } as const;
  return readNode(watch, { ...nodeSettings(), ...settings }, options).readings;
}

function stateOf(
  world: DomainWorld,
  { component, quantity }: Pick<Said, 'component' | 'quantity'>,
): Measured | Missing {
  const found = readingsOf(world).filter((one) => one.component === component && one.quantity === quantity);
  if (found.length !== 1) throw new Error(`${found.length} readings of ${component} ${quantity}`);
  return (found[0] as (typeof found)[number]).state;
}

const both = (a: Said, b: Said): readonly DomainWorld[] => [joined([a], [b]), joined([b], [a])];

t.test('readNode() takes the worst of what sources say, in whatever order they come', async (t) => {
  for (const world of both({ ...CPU, value: 70 }, { ...CPU, value: 60 })) t.match(stateOf(world, CPU), { value: 70 });
});

t.test('readNode() takes a value before none, and a measurement before an estimate, be it lower', async (t) => {
  const none = { ...TOTAL, value: null, cause: 'unreadable' } as const;
  const measured = { ...TOTAL, value: 300 };
  const estimated = { ...TOTAL, value: 400, estimated: true };
  for (const world of both(measured, none)) t.match(stateOf(world, TOTAL), { kind: 'measured', value: 300 });
  for (const world of both(measured, estimated)) t.match(stateOf(world, TOTAL), { value: 300, estimated: false });
  for (const world of both(estimated, none)) t.match(stateOf(world, TOTAL), { value: 400, estimated: true });
});

t.test('readNode() takes total power by rank, what has none last, and the worst among equals', async (t) => {
  const ranked = (rank: number | null, value: number): Said => ({ ...TOTAL, value, ...(rank !== null && { rank }) });
  const cases: readonly [Said, Said, number][] = [
    [ranked(1, 200), ranked(2, 300), 200],
    [ranked(5, 2_100), ranked(2, 300), 300],
    [ranked(null, 2_100), ranked(2, 300), 300],
    [ranked(2, 310), ranked(2, 300), 310],
    [ranked(null, 310), ranked(null, 300), 310],
  ];
  for (const [a, b, value] of cases) {
    for (const world of both(a, b)) t.match(stateOf(world, TOTAL), { value }, `${a.rank} and ${b.rank}`);
  }
});

t.test('readNode() tells a cause before "no sensor", which invites a waiver, and of others the first', async (t) => {
  const lacks = (cause: 'no-sensor' | 'unreadable' | 'not-supported'): Said => ({ ...CPU, value: null, cause });
  for (const world of both(lacks('no-sensor'), lacks('unreadable'))) {
    t.match(stateOf(world, CPU), { kind: 'missing', cause: 'unreadable' });
  }
  t.match(stateOf(joined([lacks('unreadable')], [lacks('not-supported')]), CPU), { cause: 'unreadable' });
  t.match(stateOf(joined([lacks('not-supported')], [lacks('unreadable')]), CPU), { cause: 'not-supported' });
});

t.test(
  'readNode() estimates total power where it is configured and not measured, and says what the sum lacks',
  async (t) => {
    const settings = { power: { baseW: 100, psuEfficiency: 0.5 } };
    const gpu = { component: 'gpu', id: GPU_A, quantity: 'power', value: 200 } as const;
    const cpu = { component: 'cpu', id: 'package-0', quantity: 'power', value: 50 } as const;
    const unread = { component: 'cpu', id: 'package-1', quantity: 'power', value: null, cause: 'unreadable' } as const;
    const noTemperature = { ...CPU, value: null, cause: 'unreadable' } as const;
    const totalsOf = (said: readonly Said[], own: Partial<NodeSettings> = settings): unknown[] =>
      readingsOf(joined(said, []), own).flatMap(({ quantity, state }) => (quantity === 'total-power' ? [state] : []));
    t.match(totalsOf([gpu, cpu]), [{ value: 700, estimated: true, origin: /^lower bound/ }], 'GPU_B tells no power');
    const whole = [gpu, cpu, { ...gpu, id: GPU_B }];
    t.match(totalsOf([...whole, noTemperature]), [{ value: 1_100, origin: /^estimate/ }]);
    t.match(totalsOf([...whole, unread]), [{ value: 1_100, origin: /^lower bound/ }]);
    t.match(
      totalsOf([...whole, { ...TOTAL, value: 900 }]),
      [{ value: 900, estimated: false }],
      'and nothing beside it',
    );
    t.same(totalsOf(whole, {}), [], 'nor without a base');
  },
);

t.test('readGpuPowersW() gives what each card draws, and nothing of cards that do not tell', async (t) => {
  const gpu = { component: 'gpu', id: GPU_A, quantity: 'power' } as const;
  const world = joined(
    [
      { ...gpu, value: 200 },
      { ...gpu, id: GPU_B, value: null, cause: 'unreadable' },
      { component: 'cpu', id: 'package-0', quantity: 'power', value: 50 },
      { ...TOTAL, value: 900 },
    ],
    [
      { ...gpu, value: 210 },
      { ...gpu, quantity: 'temperature', value: 60 },
    ],
  );
  const watch = world.state.nodes.get(NODE)?.watch;
  const options = { purpose: 'running', nowMs: world.elapsedMs, staleBeforeMs: Number.NEGATIVE_INFINITY } as const;
  t.same([...(watch ? readGpuPowersW(watch, nodeSettings(), options) : [])], [[GPU_A, 210]]);
});
