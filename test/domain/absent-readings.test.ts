// What is said of a reading that should be there and is not: the source's own word, a tool that fails, or where it was
// looked for; and what nobody protects.
import t from 'tap';
import { expectedReadings, missingReading, requirementOf, unprotectedOn } from '../../src/domain/expected-readings.ts';
import { readNode } from '../../src/domain/node-readings.ts';
import type { Missing, SourceReport } from '../../src/domain/reading.ts';
import type { NodeSettings } from '../../src/domain/settings.ts';
import { answered, DomainWorld, GPU_A, GPU_B, NODE, nodeSettings, worldSettings } from '../support/domain-world.ts';

const FAILS = { outcome: { kind: 'failed', cause: 'timeout', detail: 'no answer' } } as const;

/** A node without its own source, of which others say this. */
function told(...said: Partial<SourceReport>[]): DomainWorld {
  const world = new DomainWorld();
  world.inventory();
  const reports = said.map((report, index) => answered(`source ${index + 1}`, world.elapsedMs, report));
  world.submit({ kind: 'observed', why: 'tick', reports });
  return world;
}

const watchOf = (world: DomainWorld) => {
  const watch = world.state.nodes.get(NODE)?.watch;
  if (!watch) throw new Error('the node is not watched');
  return watch;
};

function readingsOf(world: DomainWorld, settings: NodeSettings = nodeSettings()) {
  const options = { purpose: 'running', nowMs: world.elapsedMs, staleBeforeMs: Number.NEGATIVE_INFINITY } as const;
  return readNode(watchOf(world), settings, options);
}

/** What is said of a reading that must be missing. */
function absent(world: DomainWorld, component: string, quantity: string, id?: string): Missing {
  const found = readingsOf(world).readings.find(
    (reading) => reading.component === component && reading.quantity === quantity && reading.id === id,
  );
  if (found?.state.kind !== 'missing') throw new Error(`${component} ${quantity} is ${JSON.stringify(found)}`);
  return found.state;
}

const card = { id: GPU_A, uuid: GPU_A, vendor: 'nvidia', required: true } as const;

t.test('requirementOf() names what must be read of each part, and nothing else', async (t) => {
  t.equal(requirementOf('gpu', 'temperature'), 'gpu-temperature');
  t.equal(requirementOf('gpu', 'power'), 'gpu-power');
  t.equal(requirementOf('gpu', 'memory'), 'gpu-memory');
  t.equal(requirementOf('gpu', 'utilization'), null);
  t.equal(requirementOf('cpu', 'temperature'), 'cpu-temperature');
  t.equal(requirementOf('cpu', 'utilization'), 'cpu');
  t.equal(requirementOf('cpu', 'power'), null);
  t.equal(requirementOf('memory', 'memory'), 'memory');
  t.equal(requirementOf('system', 'total-power'), 'total-power');
  t.equal(requirementOf('system', 'temperature'), null);
});

t.test('expectedReadings() marks what is waived, for the node or for one card', async (t) => {
  const [gpuA, gpuB] = [GPU_A, GPU_B].map((id) => ({
    id,
    vendor: 'nvidia' as const,
    unifiedMemory: false,
    simulated: false,
  }));
  if (!gpuA || !gpuB) throw new Error('two cards');
  const settings = nodeSettings({
    waive: ['cpu'],
    require: ['total-power'],
    gpus: new Map([[GPU_B, { waive: ['gpu-power'], ignore: false }]]),
  });
  const waived = expectedReadings([gpuA, gpuB], settings).filter((expected) => expected.waived);
  t.same(
    waived.map(({ id, requirement }) => [id, requirement]),
    [
      [undefined, 'cpu'],
      [GPU_B, 'gpu-power'],
    ],
  );
  t.equal(expectedReadings([gpuA], nodeSettings()).length, 6, 'total power only where it is required');
  t.equal(expectedReadings([gpuA], settings).length, 7);
});

t.test('missingReading() tells a card’s absence: no sensor while it is listed, gone when it is not', async (t) => {
  const world = told({ gpus: [card] });
  t.match(absent(world, 'gpu', 'temperature', GPU_A), {
    cause: 'no-sensor',
    detail: /listed and no source reads it/,
    required: true,
  });
  world.pass(1_000);
  world.submit({
    kind: 'observed',
    why: 'tick',
    reports: [answered('source 1', world.elapsedMs)],
  });
  t.match(absent(world, 'gpu', 'temperature', GPU_A), { cause: 'gone', detail: /was here earlier/ });
});

t.test('missingReading() tells the source’s own word of a card before a guess', async (t) => {
  const unreadable = {
    component: 'gpu',
    id: GPU_A,
    quantity: 'power',
    value: null,
    cause: 'unreadable',
    origin: 'N/A',
  } as const;
  t.match(absent(told({ gpus: [card], readings: [unreadable] }), 'gpu', 'power', GPU_A), { cause: 'unreadable' });
});

t.test('missingReading() names a tool that fails for its own cards, and for no other maker’s', async (t) => {
  const failing = { ...FAILS, gpuSigns: [{ kind: 'nvidia-smi-failed', detail: 'no devices' } as const] };
  const nvidia = told({ gpus: [card] }, failing);
  t.match(absent(nvidia, 'gpu', 'temperature', GPU_A), { cause: 'source-failed', detail: /source 2.*no answer/ });
  const amd = told({ gpus: [{ ...card, vendor: 'amd' }] }, failing);
  t.match(absent(amd, 'gpu', 'temperature', GPU_A), { cause: 'no-sensor' });
  const other = told({ gpus: [card] }, FAILS);
  t.match(
    absent(other, 'gpu', 'temperature', GPU_A),
    { cause: 'no-sensor' },
    'another source’s failure says nothing of it',
  );
  const withSigns = { gpuSigns: [{ kind: 'nvidia-smi-failed', detail: 'one card' } as const] };
  t.match(absent(told({ gpus: [card] }, withSigns), 'gpu', 'temperature', GPU_A), { cause: 'no-sensor' }, 'it answers');
});

t.test(
  'missingReading() of what is no card’s tells the source’s word, a source that fails, or that nobody has it',
  async (t) => {
    const unread = {
      component: 'cpu',
      id: 'coretemp-0',
      quantity: 'temperature',
      value: null,
      cause: 'unreadable',
      origin: 'x',
    } as const;
    const busy = { component: 'cpu', quantity: 'utilization', value: null, cause: 'invalid', origin: 'y' } as const;
    const world = told({ readings: [busy, unread] });
    t.match(absent(world, 'cpu', 'utilization'), { cause: 'invalid' });
    t.match(absent(world, 'memory', 'memory'), { cause: 'no-sensor', detail: /no source of this node offers it/ });
    t.match(absent(told({}, FAILS), 'memory', 'memory'), { cause: 'source-failed', detail: /source 2: no answer/ });
    const unseen = new DomainWorld();
    unseen.nodes = {};
    unseen.tick();
    t.match(absent(unseen, 'memory', 'memory'), { cause: 'not-yet-read' });
  },
);

t.test('missingReading() is required unless it is waived, and says whose it is', async (t) => {
  const watch = watchOf(told({}));
  const base = { component: 'memory', quantity: 'memory', requirement: 'memory' } as const;
  t.same(Object.keys(missingReading({ ...base, waived: false }, new Map(), watch)).sort(), [
    'component',
    'node',
    'quantity',
    'state',
  ]);
  t.match(missingReading({ ...base, waived: true }, new Map(), watch).state, { required: false, waived: true });
  t.match(missingReading({ ...base, component: 'gpu', id: GPU_A, waived: false }, new Map(), watch), { id: GPU_A });
});

t.test('a node misses the cards that a sign or the configuration tells of, less those that are ignored', async (t) => {
  const counts = (gpuSigns: SourceReport['gpuSigns'], settings: Partial<NodeSettings>, gpus = [card]): string[] => {
    const { readings } = readingsOf(told({ gpus, gpuSigns }), nodeSettings(settings));
    return readings.flatMap(({ component, id, state }) =>
      component === 'gpu' && id === undefined && state.kind === 'missing' ? [state.detail] : [],
    );
  };
  const two = [{ kind: 'driver', detail: 'two', count: 2 }] as unknown as SourceReport['gpuSigns'];
  const plain = [{ kind: 'driver', detail: 'a driver is loaded' }] as unknown as SourceReport['gpuSigns'];
  t.same(counts([], {}), []);
  t.match(counts([], { expectGpus: 2 }), [/1 of 2 expected/]);
  t.match(counts(two, {}), [/1 of 2 expected/]);
  t.same(counts(plain, {}), [], 'a card is there');
  t.match(counts(plain, {}, []), [/nothing reads: a driver is loaded/]);
  const ignored = { gpus: new Map([[GPU_B, { waive: [], ignore: true }]]) };
  t.same(counts(two, ignored), [], 'one of the two is left out');
  t.same(counts(plain, ignored, []), [], 'what is there is left out');
  const waived = { gpus: new Map([[GPU_B, { waive: ['gpu-power' as const], ignore: false }]]) };
  t.match(counts(two, waived), [/1 of 2 expected/], 'a waiver leaves no card out');
});

t.test(
  'unprotectedOn() names ignored cards, waivers with whose they are, and a total power that nobody has',
  async (t) => {
    const settings = nodeSettings({
      waive: ['cpu'],
      gpus: new Map([
        [GPU_A, { waive: ['gpu-power'], ignore: false }],
        [GPU_B, { waive: [], ignore: true }],
      ]),
    });
    const world = DomainWorld.running(worldSettings({}, settings));
    const of = (change: Partial<NodeSettings>) => {
      const own = { ...settings, ...change };
      return unprotectedOn(watchOf(world), own, readingsOf(world, own)).map(({ code, id, name }) => [code, id, name]);
    };
    t.same(of({}), [
      ['ignored', GPU_B, undefined],
      ['waived', undefined, 'cpu'],
      ['waived', GPU_A, 'gpu-power'],
    ]);
    t.same(of({ waive: [], gpus: new Map() }), []);
    t.same(of({ waive: ['cpu'], gpus: new Map() }), [['waived', undefined, 'cpu']]);
    delete world.node.totalW;
    world.run(10);
    t.same(of({ waive: [], gpus: new Map() }), [['not-measured', undefined, 'total-power']]);
    t.same(of({ waive: [], gpus: new Map(), require: ['total-power'] }), [], 'one that is required is missed instead');
  },
);

t.test(
  'missingReading() names a source that has been silent since the start for cards that it may be the one to list',
  async (t) => {
    /** Started anew: both cards are known of before, and now only this is said. */
    const after = (...said: Partial<SourceReport>[]): DomainWorld => {
      const world = DomainWorld.running();
      world.restart();
      world.inventory();
      const reports = said.map((report, index) => answered(`source ${index + 1}`, world.elapsedMs, report));
      world.submit({ kind: 'observed', why: 'tick', reports });
      return world;
    };
    const cut = { outcome: { kind: 'failed', cause: 'bad-body', detail: 'connection was cut' } } as const;
    const silent = { cause: 'source-failed', detail: 'source 1: connection was cut' };
    t.match(absent(after(cut), 'gpu', 'temperature', GPU_A), silent);
    t.match(absent(after(cut, {}), 'gpu', 'power', GPU_B), silent, 'whatever answers beside it and lists no card');
    const other = { ...card, id: 'GPU-c', uuid: 'GPU-c' };
    t.match(
      absent(after(cut, { gpus: [{ ...other, vendor: 'amd' }] }), 'gpu', 'power', GPU_A),
      silent,
      'or one of another kind',
    );
    t.match(absent(after(cut, { gpus: [{ ...other, required: false }] }), 'gpu', 'power', GPU_A), silent);

    const gone = { cause: 'gone', detail: 'the card was here earlier and no source lists it now' };
    t.match(
      absent(after(cut, { gpus: [card] }), 'gpu', 'temperature', GPU_B),
      gone,
      'not where its kind is listed without it',
    );
    t.match(absent(after({}), 'gpu', 'temperature', GPU_A), gone);
    const failsForIts = { ...cut, gpuSigns: [{ kind: 'driver-loaded', detail: 'amdgpu is loaded' }] } as const;
    t.match(absent(after(failsForIts, {}), 'gpu', 'temperature', GPU_A), gone, 'nor for what fails for its own cards');
    const notInstalled = {
      outcome: { kind: 'failed', cause: 'not-installed', detail: 'it is not installed' },
    } as const;
    t.match(
      absent(after(notInstalled, {}), 'gpu', 'temperature', GPU_A),
      gone,
      'a tool that is not there lists nothing',
    );
    const answeredOnce = after({});
    answeredOnce.pass(10_000);
    answeredOnce.submit({
      kind: 'observed',
      why: 'tick',
      reports: [answered('source 1', answeredOnce.elapsedMs, cut)],
    });
    t.match(absent(answeredOnce, 'gpu', 'temperature', GPU_A), gone, 'nor once it has answered without the card');
  },
);
