// What a look leaves behind of its node: cards on the disk, throttling, readings that are lost and come back, how long it
// has been blind, what its cards drew, and when it is to be looked at again.
import t from 'tap';
import { nextWakeMs } from '../../src/domain/decide.ts';
import type { RawReading, SourceReport } from '../../src/domain/reading.ts';
import {
  answered,
  coolNode,
  DomainWorld,
  GPU_A,
  GPU_B,
  NODE,
  nodeSettings,
  worldSettings,
} from '../support/domain-world.ts';

const SLOT = '0000:0b:00.0';
const POD = { kind: 'pod', node: NODE, name: 'x' } as const;

/** A second source of the node, which says this and nothing else. */
const second =
  (said: () => Partial<SourceReport>) =>
  (atMs: number): SourceReport =>
    answered('another exporter', atMs, said());

const power = (id: string, value: number): RawReading => ({
  component: 'gpu',
  id,
  quantity: 'power',
  value,
  origin: 'another sensor',
});

t.test('takeReports() counts a throttled sample once, however often it is repeated', async (t) => {
  const world = DomainWorld.running();
  Object.assign(world.gpu(), { throttled: 'HW slowdown', witness: 7 });
  world.run(20);
  t.same(world.codes, [], 'three looks at one sample');
  world.gpu().witness = 8;
  world.run(10);
  t.same(world.codes, [`hardware-throttle gpu/${GPU_A}/`]);
});

t.test('takeReports() counts each look at a source that never showed whether it repeats itself', async (t) => {
  const throttled = (world: DomainWorld): string[] =>
    world.codes.filter((code) => code.startsWith('hardware-throttle'));
  for (const witness of [7, false]) {
    const world = new DomainWorld();
    Object.assign(world.gpu(), { witness, throttled: 'HW slowdown' });
    world.inventory();
    world.tick();
    t.same(throttled(world), [], `${witness}: one`);
    world.run(10);
    t.same(throttled(world), [`hardware-throttle gpu/${GPU_A}/`], `${witness}: two`);
  }
});

t.test('readingsFor() tells the cards that throttle twice running, and no others', async (t) => {
  const world = DomainWorld.running();
  world.gpu(GPU_A).throttled = 'HW slowdown';
  world.run(10);
  world.gpu(GPU_B).throttled = 'HW slowdown';
  world.run(10);
  t.same(world.codes, [`hardware-throttle gpu/${GPU_A}/`]);
});

t.test('readingsFor() knows a card that throttles by whatever name a source has for it', async (t) => {
  const world = DomainWorld.running();
  world.gpu().pciAddress = SLOT;
  world.others = [second(() => ({ throttledGpus: [{ gpu: SLOT, reason: 'HW slowdown' }] }))];
  world.run(20);
  t.same(world.codes, [`hardware-throttle gpu/${GPU_A}/`]);
});

t.test('takeReports() keeps on the disk what is newly known of a card, and tells of it once', async (t) => {
  const world = DomainWorld.running();
  t.same(world.told('gpu-seen').length, 2);
  world.effects = [];
  world.run(10);
  const written = (): string[] =>
    world.effects.flatMap((effect) => (effect.kind === 'journal' ? Object.keys(effect.change.set) : []));
  t.same(written(), [], 'nothing is new');
  world.gpu().pciAddress = SLOT;
  world.run(10);
  t.same(written(), [`gpu/${NODE}/${GPU_A}`]);
  t.match(world.durable.get(`gpu/${NODE}/${GPU_A}`), { pciAddress: SLOT });
  t.same(world.told('gpu-seen'), [], 'the card itself is none');
});

t.test('takeReports() takes the name off the disk that a card had before its driver spoke', async (t) => {
  const world = new DomainWorld();
  world.node.gpus = {};
  const onBus = { id: SLOT, pciAddress: SLOT, vendor: 'nvidia', required: true } as const;
  world.others = [second(() => ({ gpus: [onBus] }))];
  world.inventory();
  world.tick();
  t.ok(world.durable.has(`gpu/${NODE}/${SLOT}`));
  world.node.gpus = { [GPU_A]: { ...coolNode().gpus[GPU_A], pciAddress: SLOT } };
  world.run(10);
  t.same(
    [...world.durable.keys()].filter((key) => key.startsWith('gpu/')),
    [`gpu/${NODE}/${GPU_A}`],
  );
});

t.test('judgeNode() tells of a reading that is lost, and of its coming back, each once', async (t) => {
  const world = DomainWorld.running();
  world.gpu().temperatureC = null;
  world.run(30);
  t.match(world.told('reading-lost'), [{ node: NODE, message: /GPU-aaaa.*temperature is lost/ }]);
  t.same(world.told('reading-back'), []);
  world.gpu().temperatureC = 61.5;
  world.run(20);
  t.match(world.told('reading-back'), [{ node: NODE, message: /no longer missing after 30 s \(61\.5 °C\)/ }]);
  t.equal(world.told('reading-lost').length, 1);
});

t.test('judgeNode() calls nothing lost in the first look, and nothing that is waived', async (t) => {
  const unread = new DomainWorld();
  unread.gpu().temperatureC = null;
  unread.inventory();
  unread.tick();
  t.same(unread.told('reading-lost'), [], 'it was never had');
  const waived = DomainWorld.running(worldSettings({}, { waive: ['gpu-memory'] }));
  waived.gpu().memoryRatio = null;
  waived.run(10);
  t.same(waived.told('reading-lost'), []);
  t.same([...(waived.state.nodes.get(NODE)?.missingSinceMs.keys() ?? [])], []);
  waived.gpu().powerW = null;
  waived.run(10);
  t.match(waived.told('reading-lost'), [{ message: /power is lost/ }]);
  t.equal(waived.told('reading-lost').length, 1);
});

t.test('judgeNode() keeps on the disk for how long a loaded node has been blind, until it is not', async (t) => {
  const key = `blind/${NODE}`;
  // Never seen since the start: its grace lets it be blind for longer than `blindAbortAfter`.
  const world = new DomainWorld();
  world.gpu().temperatureC = null;
  world.inventory([POD], true);
  world.tick();
  t.same(world.durable.get(key), { forMs: 0, simulated: false });
  world.run(50);
  t.same(world.durable.get(key), { forMs: 50_000, simulated: false });
  world.run(50);
  t.same(world.durable.get(key), { forMs: 60_000, simulated: false }, 'twice what ends it says as much as more');
  world.gpu().temperatureC = 55;
  world.run(10);
  t.notOk(world.durable.has(key));
  world.effects = [];
  world.run(10);
  const deletes = world.effects.flatMap((effect) => (effect.kind === 'journal' ? effect.change.delete : []));
  t.same(deletes, [], 'it is taken away once');
});

t.test('judgeNode() counts a blindness from before the start on only once the load is known', async (t) => {
  const key = `blind/${NODE}`;
  const blind = (): DomainWorld => {
    const world = DomainWorld.running();
    world.inventory([POD], true);
    world.gpu().temperatureC = null;
    world.run(20);
    t.match(world.durable.get(key), { forMs: 10_000 });
    world.restart();
    world.tick();
    t.match(world.durable.get(key), { forMs: 10_000 }, 'nobody knows yet whether anything runs');
    return world;
  };
  const idle = blind();
  idle.inventory([], true);
  idle.run(10);
  t.notOk(idle.durable.has(key), 'nothing runs: nobody is blind under load');
  const loaded = blind();
  loaded.inventory([POD], true);
  loaded.run(10);
  t.match(loaded.durable.get(key), { forMs: 10_000 }, 'it goes on from there');
  loaded.run(10);
  t.match(loaded.durable.get(key), { forMs: 20_000 });
});

t.test(
  'judgeNode() counts the blindness of a node from its load, or from its first reading that is lost',
  async (t) => {
    const world = DomainWorld.running();
    world.gpu().temperatureC = null;
    world.run(30);
    world.inventory([POD], true);
    world.run(10);
    t.match(world.durable.get(`blind/${NODE}`), { forMs: 0 }, 'the load came after');
    world.gpu().memoryRatio = null;
    world.run(10);
    t.match(world.durable.get(`blind/${NODE}`), { forMs: 10_000 }, 'the first of two');
  },
);

t.test('nextWakeMs() is when the first of several missing readings has been so for too long', async (t) => {
  const world = DomainWorld.running();
  world.askLease();
  world.run(10);
  world.gpu().temperatureC = null;
  world.run(10);
  const firstMs = world.elapsedMs;
  world.gpu().powerW = null;
  world.run(10);
  t.equal(nextWakeMs(world.state), firstMs + 30_000);
  const never = new DomainWorld();
  never.gpu().temperatureC = null;
  never.inventory([POD], true);
  never.tick();
  t.equal(nextWakeMs(never.state), never.state.startedAtMs + 120_000, 'one that was never seen has the grace');
});

t.test('startFindings() adds the hard stops that only a failing source had seen, card by card', async (t) => {
  const world = DomainWorld.running();
  let isSilent = false;
  const hot = (id: string): RawReading => ({ ...power(id, 0), quantity: 'temperature', value: 96 });
  world.others = [
    second(() =>
      isSilent
        ? { outcome: { kind: 'failed', cause: 'timeout', detail: 'no answer' } }
        : { readings: [hot(GPU_B), power(GPU_B, 310)] },
    ),
  ];
  world.gpu(GPU_A).temperatureC = 96;
  world.tick();
  isSilent = true;
  world.pass(5_000);
  const { findings } = world.preflight().result;
  const stops = findings.filter(({ code }) => code === 'over-hard-stop').map(({ id, quantity }) => `${id} ${quantity}`);
  t.ok(stops.includes(`${GPU_A} temperature`), stops.join('; '));
  t.ok(stops.includes(`${GPU_B} temperature`), 'what is fresh of one card says nothing of another');
  t.ok(stops.includes(`${GPU_B} power`), 'nor its temperature of its power');
  t.equal(new Set(stops).size, stops.length, 'each once');
});

t.test('judgeNode() asks once for a second look, and for none that is done', async (t) => {
  const world = DomainWorld.running();
  const looks = () => world.effects.flatMap((effect) => (effect.kind === 'look-again' ? [effect] : []));
  Object.assign(world.gpu(GPU_A), { powerW: 320, witness: 9 });
  world.tick();
  t.same(looks(), [{ kind: 'look-again', nodes: [NODE], deadlineMs: world.elapsedMs + 2_000 }]);
  world.pass(500);
  world.fast();
  t.equal(looks().length, 1, 'its exporter repeats itself: it is waited for');
  world.gpu(GPU_B).powerW = 330;
  world.effects = [];
  world.fast();
  t.same(
    looks(),
    [{ kind: 'look-again', nodes: [NODE], deadlineMs: world.elapsedMs + 2_000 }],
    'another card is another look',
  );
  world.gpu(GPU_A).witness = 10;
  world.effects = [];
  world.fast();
  t.equal(world.interlock, 'tripped', 'confirmed');
  world.fast();
  t.same(looks(), []);
});

t.test('a trip keeps what its cards drew last, by the highest word of a source within 120 s', async (t) => {
  const drawn = (world: DomainWorld): Readonly<Record<string, number>> => {
    world.stop();
    return world.state.trips.get(world.tripId)?.loadedW ?? {};
  };
  const told = (): DomainWorld => {
    const world = DomainWorld.running();
    world.gpu(GPU_A).powerW = 180;
    world.gpu(GPU_B).powerW = 90;
    world.others = [second(() => ({ readings: [power(SLOT, 200), { ...power(GPU_B, 60), quantity: 'temperature' }] }))];
    world.gpu(GPU_A).pciAddress = SLOT;
    world.run(10);
    return world;
  };
  t.same(drawn(told()), { [`${NODE}/${GPU_A}`]: 200 }, 'the higher of two, and none that drew little');

  const unread = told();
  unread.pass(120_000);
  t.same(drawn(unread), { [`${NODE}/${GPU_A}`]: 200 }, 'it may draw that still');
  const longAgo = told();
  longAgo.pass(120_001);
  t.same(drawn(longAgo), {});

  const dark = told();
  Object.assign(dark.gpu(GPU_A), { powerW: null });
  dark.others = [];
  dark.tick();
  t.same(drawn(dark), { [`${NODE}/${GPU_A}`]: 200 }, 'a card that went dark drew what it drew');

  const settings = worldSettings({}, nodeSettings({ gpus: new Map([[GPU_A, { waive: [], ignore: true }]]) }));
  const ignored = DomainWorld.running(settings);
  ignored.gpu(GPU_A).powerW = 180;
  ignored.run(10);
  t.same(drawn(ignored), { [`${NODE}/${GPU_B}`]: 120.5 }, 'nor one that is none of ours');
});
