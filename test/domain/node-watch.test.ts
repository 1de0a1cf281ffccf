// What a node's watch remembers of its looks: which readings were ever good, how many chips told a CPU's temperature, and
// its cards' own slowdown temperatures; each under the card's one name, and none without a bound.
import t from 'tap';
import { NO_GPUS } from '../../src/domain/known-gpus.ts';
import { type NodeWatch, rewatchNode } from '../../src/domain/node-watch.ts';
import type { HardwareLimits, RawReading, SourceReport } from '../../src/domain/reading.ts';
import { MOST_ENTRIES } from '../../src/domain/report-bounds.ts';
import { type SourceWatch, watchSource } from '../../src/domain/tracking.ts';
import { answered, GPU_A, GPU_B, NODE } from '../support/domain-world.ts';

const SLOT = '0000:0b:00.0';
const UNWATCHED: NodeWatch = {
  node: NODE,
  sources: new Map(),
  gpus: NO_GPUS,
  slowdownC: new Map(),
  seen: new Set(),
  cpuChips: new Map(),
};

let lookMs = 0;

/** The watch after its sources have said this, each for itself. */
function looked(before: NodeWatch, said: Readonly<Record<string, Partial<SourceReport>>>): NodeWatch {
  lookMs += 1_000;
  const sources = new Map<string, SourceWatch>(before.sources);
  for (const [source, report] of Object.entries(said)) {
    const whole = answered(source, lookMs, report);
    sources.set(source, watchSource(before.sources.get(source) ?? null, whole, 30_000, null));
  }
  return rewatchNode(before, sources, false);
}

const reading = (change: Partial<RawReading>): RawReading => ({
  component: 'cpu',
  quantity: 'temperature',
  value: 50,
  origin: 'a sensor',
  ...change,
});
const cpu = (...chips: string[]): Partial<SourceReport> => ({ readings: chips.map((id) => reading({ id })) });
const card = { id: GPU_A, uuid: GPU_A, pciAddress: SLOT, vendor: 'nvidia', required: true } as const;
const FAILED = { outcome: { kind: 'failed', cause: 'timeout', detail: 'no answer' } } as const;

t.test('rewatchNode() has seen the readings that were good once, and not those that were not', async (t) => {
  const readings = [
    reading({ id: 'coretemp-0' }),
    reading({ component: 'memory', quantity: 'memory', value: 0.4 }),
    reading({ component: 'cpu', quantity: 'utilization', value: null, cause: 'unreadable' }),
    reading({ component: 'system', quantity: 'total-power', value: -1 }),
  ];
  const first = looked(UNWATCHED, { one: { readings } });
  t.same(
    [...first.seen].sort(),
    ['cpu//temperature', 'memory//memory'],
    'a CPU’s temperature is that of all its chips',
  );
  const next = looked(first, { one: { readings } });
  t.equal(next.seen, first.seen, 'and nothing is copied where nothing is new');
  const failed = looked(first, { one: FAILED });
  t.equal(failed.seen, first.seen);
});

t.test('rewatchNode() takes nothing again from what a source that fails said last', async (t) => {
  const first = looked(UNWATCHED, { one: cpu('coretemp-0') });
  // As after a new boot of the machine: what was seen before counts no more.
  const booted = { ...first, seen: new Set<string>() };
  t.same([...looked(booted, { one: FAILED }).seen], []);
  t.same([...looked(booted, { one: cpu('coretemp-0') }).seen], ['cpu//temperature']);
});

t.test('rewatchNode() sees a card’s readings under its one name', async (t) => {
  const watch = looked(UNWATCHED, {
    driver: { gpus: [card], readings: [reading({ component: 'gpu', id: GPU_A })] },
    bus: {
      readings: [
        reading({ component: 'gpu', id: SLOT, quantity: 'power', value: 90 }),
        reading({ component: 'gpu', id: GPU_B, quantity: 'power', value: 90 }),
        reading({ component: 'gpu', quantity: 'utilization', value: 0.5 }),
      ],
    },
  });
  t.same([...watch.seen].sort(), [
    'gpu//utilization',
    `gpu/${GPU_A}/power`,
    `gpu/${GPU_A}/temperature`,
    `gpu/${GPU_B}/power`,
  ]);
});

t.test('rewatchNode() remembers no more than 4,096 keys of readings, and those it has', async (t) => {
  const ids = (from: number, count: number): Partial<SourceReport> => ({
    readings: Array.from({ length: count }, (_, n) =>
      reading({ component: 'gpu', id: `GPU-${from + n}`, quantity: 'utilization', value: 0.5 }),
    ),
  });
  let watch = UNWATCHED;
  for (let from = 0; from < 6 * MOST_ENTRIES; from += MOST_ENTRIES)
    watch = looked(watch, { one: ids(from, MOST_ENTRIES) });
  t.equal(watch.seen.size, 4_096);
  t.ok(watch.seen.has('gpu/GPU-0/utilization'));
  t.equal(looked(watch, { one: ids(0, 2) }).seen, watch.seen);
});

t.test('rewatchNode() keeps for each source the most chips that gave a CPU temperature at the same time', async (t) => {
  const chips = (watch: NodeWatch) => Object.fromEntries(watch.cpuChips);
  const first = looked(UNWATCHED, {
    one: cpu('a', 'b'),
    two: { readings: [reading({ quantity: 'utilization', value: 0.5 })] },
  });
  t.same(chips(first), { one: 2, two: 0 });
  const fewer = looked(first, { one: cpu('a') });
  t.same(chips(fewer), { one: 2, two: 0 });
  t.equal(fewer.cpuChips, first.cpuChips, 'nothing is copied');
  t.same(chips(looked(fewer, { one: cpu('a', 'b', 'c') })), { one: 3, two: 0 });
  t.same(
    chips(looked(first, { one: { readings: [reading({ component: 'gpu', id: GPU_A }), reading({ id: 'a' })] } })),
    {
      one: 2,
      two: 0,
    },
  );
});

t.test('rewatchNode() counts the cards of sources that answer now, and keeps those known', async (t) => {
  const first = looked(UNWATCHED, {
    one: { gpus: [card] },
    two: { gpus: [{ ...card, id: GPU_B, uuid: GPU_B, pciAddress: '0000:0c:00.0' }] },
  });
  t.same([...first.gpus.listed.keys()], [GPU_A, GPU_B]);
  const later = looked(first, { one: FAILED, two: {} });
  t.same([...later.gpus.listed.keys()], [], 'what a source listed before it failed is not listed now');
  t.same([...later.gpus.known.keys()], [GPU_A, GPU_B]);
  const silent = looked(UNWATCHED, { one: FAILED });
  t.equal(silent.gpus.known.size, 0, 'one that has never answered lists nothing');
});

t.test('rewatchNode() takes a card’s slowdown temperature once, under its one name', async (t) => {
  const limits = (...hardwareLimits: HardwareLimits[]): Partial<SourceReport> => ({ gpus: [card], hardwareLimits });
  const first = looked(UNWATCHED, { one: limits({ component: 'gpu', id: SLOT, slowdownC: 88 }) });
  t.same([...first.slowdownC], [[GPU_A, 88]]);
  const later = looked(first, { one: limits({ component: 'gpu', id: GPU_A, slowdownC: 95 }) });
  t.equal(later.slowdownC, first.slowdownC, 'a card does not loosen its limit while it runs');
  const others = looked(first, {
    one: limits(
      { component: 'cpu', id: 'coretemp-0', slowdownC: 90 } as HardwareLimits,
      { component: 'gpu', slowdownC: 91 } as HardwareLimits,
      { component: 'gpu', id: GPU_B },
    ),
  });
  t.equal(others.slowdownC, first.slowdownC, 'nor is any other part’s taken');
});

t.test(
  'rewatchNode() remembers 256 slowdown temperatures of ids that are no known card, and all of known ones',
  async (t) => {
    const unknown = (from: number, count: number): HardwareLimits[] =>
      Array.from({ length: count }, (_, n) => ({ component: 'gpu', id: `GPU-${from + n}`, slowdownC: 90 }));
    const full = looked(UNWATCHED, { one: { hardwareLimits: unknown(0, 256) } });
    t.equal(full.slowdownC.size, 256);
    const over = looked(full, {
      one: { gpus: [card], hardwareLimits: [...unknown(256, 3), { component: 'gpu', id: GPU_A, slowdownC: 87 }] },
    });
    t.equal(over.slowdownC.size, 257);
    t.equal(over.slowdownC.get(GPU_A), 87);
  },
);
