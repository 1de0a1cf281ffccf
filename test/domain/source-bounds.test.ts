// What a source may invent: cards and readings are bounded, and what lies beyond a bound is never silently unprotected.
import t from 'tap';
import { identifyGpus, MOST_GPUS } from '../../src/domain/known-gpus.ts';
import { EMPTY_REPORT, type GpuSighting, type RawReading, type SourceReport } from '../../src/domain/reading.ts';
import { MOST_ENTRIES } from '../../src/domain/report-bounds.ts';
import { type SourceWatch, watchSource } from '../../src/domain/tracking.ts';
import {
  codesOf,
  coolGpu,
  coolNode,
  DomainWorld,
  type FakeNode,
  NODE,
  worldSettings,
} from '../support/domain-world.ts';

const card = (n: number): string => `GPU-00000000-0000-4000-8000-${String(n).padStart(12, '0')}`;
const cards = (count: number): FakeNode['gpus'] =>
  Object.fromEntries(Array.from({ length: count }, (_, n) => [card(n), coolGpu()]));
const nodeOf = (count: number): FakeNode => ({ ...coolNode(), gpus: cards(count) });
const sighting = (n: number, change: Partial<GpuSighting> = {}): GpuSighting => ({
  id: card(n),
  uuid: card(n),
  vendor: 'nvidia',
  required: true,
  ...change,
});
const sightings = (count: number): GpuSighting[] => Array.from({ length: count }, (_, n) => sighting(n));

t.test('identifyGpus() learns 64 cards of a node and counts those beyond', async (t) => {
  const full = identifyGpus(new Map(), sightings(MOST_GPUS), false);
  t.equal(full.known.size, 64);
  t.equal(full.unlearnt, 0);
  const over = identifyGpus(new Map(), [...sightings(67), sighting(66)], false);
  t.equal(over.known.size, 64);
  t.equal(over.unlearnt, 3, 'each card once');
  t.ok(over.listed.has(card(66)), 'listed all the same');
  const integrated = identifyGpus(full.known, [...sightings(64), sighting(64, { required: false })], false);
  t.equal(integrated.unlearnt, 0, 'one that nobody requires needs no learning');
});

t.test('identifyGpus() never drops a known card for the bound, and renames one at it', async (t) => {
  const remembered = new Map(
    Array.from({ length: 66 }, (_, n) => {
      const gpu = { id: card(n), vendor: 'nvidia' as const, unifiedMemory: false, simulated: false };
      return [gpu.id, gpu] as const;
    }),
  );
  const { known, unlearnt } = identifyGpus(remembered, [sighting(65), sighting(66)], false);
  t.equal(known.size, 66);
  t.equal(unlearnt, 1);
  const bus = { ...sighting(99, { id: '0000:0b:00.0', pciAddress: '0000:0b:00.0' }) };
  const before = identifyGpus(new Map(), [...sightings(63), bus], false);
  const driver = identifyGpus(before.known, [...sightings(63), sighting(63, { pciAddress: '0000:0b:00.0' })], false);
  t.same([driver.known.size, driver.unlearnt, driver.known.has(card(63))], [64, 0, true]);
});

t.test('decide() starts nothing on a node that names more than 64 cards, and says so', async (t) => {
  const world = DomainWorld.running(worldSettings(), { [NODE]: nodeOf(64) });
  t.equal(world.preflight().result.action, 'PROCEED');
  world.nodes = { [NODE]: nodeOf(65) };
  world.pass(10_000);
  world.tick();
  world.pass(10_000);
  const { result } = world.preflight();
  t.same(codesOf(result.findings), ['reading-missing gpu//']);
  t.equal(result.action, 'WAIT_COOLDOWN');
  t.match(result.reason, /bizon1 name more than 64 GPUs/);
  t.match(result.unprotected, [{ code: 'not-measured', node: NODE, message: /more than 64 GPUs/ }]);
  t.equal(world.durable.has(`gpu/${NODE}/${card(64)}`), false, 'nothing is remembered of it');
  world.nodes = { [NODE]: nodeOf(64) };
  world.pass(10_000);
  world.tick();
  world.pass(1_000);
  t.equal(world.preflight().result.action, 'PROCEED', 'back within the bound');
});

t.test('decide() stops nothing for a card too many, and still stops for its temperature', async (t) => {
  const world = DomainWorld.running(worldSettings(), { [NODE]: nodeOf(64) });
  t.equal(world.askLease().kind, 'granted');
  world.nodes = { [NODE]: nodeOf(65) };
  const runOn = (seconds: number): void => {
    for (let left = seconds; left > 0; left -= 10) {
      world.run(10);
      world.renew();
    }
  };
  runOn(200);
  t.equal(world.result.action, 'PROCEED');
  t.match(world.result.unprotected, [{ code: 'not-measured' }]);
  Object.assign(world.gpu(card(64)), { temperatureC: 91 });
  world.pass(10_000);
  t.equal(world.tick().action, 'ABORT');
});

const reading = (id: string, value: number): RawReading => ({
  component: 'cpu',
  id,
  quantity: 'temperature',
  value,
  origin: 'a fake sensor',
});
const report = (atMs: number, readings: readonly RawReading[], change: Partial<SourceReport> = {}): SourceReport => ({
  ...EMPTY_REPORT,
  source: 'fake',
  node: NODE,
  startedAtMs: atMs,
  finishedAtMs: atMs,
  outcome: { kind: 'answered' },
  readings,
  ...change,
});
const many = (count: number, prefix = 'chip'): RawReading[] =>
  Array.from({ length: count }, (_, n) => reading(`${prefix}-${n}`, 50));

t.test('watchSource() takes 1,024 readings of a report, and more for a broken body that is cut', async (t) => {
  const before = watchSource(null, report(0, many(MOST_ENTRIES)), 30_000);
  t.equal(before.failure, null);
  t.equal(before.tracks.size, 1_024);
  const after = watchSource(before, report(10_000, many(MOST_ENTRIES + 1)), 30_000);
  t.match(after.failure, { cause: 'bad-body', detail: 'the source gave 1025 readings, at most 1024 are taken' });
  t.equal(after.lastReport.readings.length, 1_024, 'what lies beyond is not kept');
  t.equal(after.lastAnswer, before.lastAnswer);
  t.equal(after.tracks, before.tracks, 'the last good readings stand, as with any failure');
});

t.test('watchSource() bounds everything else that a report lists', async (t) => {
  const gpus = sightings(MOST_ENTRIES + 1);
  const witnesses = gpus.map(({ id }) => ({ of: { gpu: id }, name: 'energy counter', value: 1 }));
  const throttledGpus = gpus.map(({ id }) => ({ gpu: id, reason: 'HW power brake' }));
  const hardwareLimits = gpus.map(({ id }) => ({ component: 'gpu' as const, id, slowdownC: 70 }));
  const gpuSigns = gpus.map(() => ({ kind: 'driver-loaded' as const, detail: 'nvidia' }));
  for (const change of [{ gpus }, { witnesses }, { throttledGpus }, { hardwareLimits }, { gpuSigns }]) {
    const [list = ''] = Object.keys(change);
    const watch = watchSource(null, report(0, [reading('chip-0', 50)], change), 30_000);
    t.equal(watch.failure?.cause, 'bad-body', list);
    t.same(watch.tracks, new Map(), `${list}: nothing is believed`);
    t.ok(watch.gpuSigns.length <= MOST_ENTRIES);
  }
});

t.test('watchSource() follows no more readings than the bound where names never come back', async (t) => {
  let watch: SourceWatch | null = null;
  for (let look = 0; look < 5; look += 1)
    watch = watchSource(watch, report(look * 10_000, many(500, `x${look}`)), 30_000);
  t.equal(watch?.tracks.size, 1_024);
  const kept = [...(watch?.tracks.keys() ?? [])];
  t.equal(kept.filter((key) => key.includes('/x4-')).length, 500, 'all of the newest look');
  t.equal(kept.filter((key) => key.includes('/x3-')).length, 500, 'then the look before');
  t.equal(watch?.tracks.get('cpu/x3-0/temperature')?.state.kind, 'missing');
});

t.test('decide() refuses a start while a source says too much, and judges it again when it does not', async (t) => {
  const world = DomainWorld.running();
  world.node.also = many(MOST_ENTRIES);
  world.pass(10_000);
  world.tick();
  t.not(world.preflight().result.action, 'PROCEED');
  t.match(world.state.nodes.get(NODE)?.watch.sources.get('fake')?.failure, { cause: 'bad-body' });
  delete world.node.also;
  world.pass(10_000);
  world.tick();
  t.equal(world.preflight().result.action, 'PROCEED');
});
