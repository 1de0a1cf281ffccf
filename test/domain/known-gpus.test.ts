// Which cards a node has: by UUID, over restarts, until an operator forgets one.
import t from 'tap';
import { gpuNamed, identifyGpus, type KnownGpu } from '../../src/domain/known-gpus.ts';
import { EMPTY_REPORT, type GpuSighting, type RawReading } from '../../src/domain/reading.ts';
import { coolGpu, coolNode, DomainWorld, GPU_A, GPU_B, NODE, worldSettings } from '../support/domain-world.ts';

const PCI = '0000:0b:00.0';
const onBus: GpuSighting = { id: PCI, pciAddress: PCI, vendor: 'nvidia', required: true };
const byDriver: GpuSighting = {
  id: GPU_A,
  uuid: GPU_A,
  pciAddress: PCI,
  name: 'RTX',
  vendor: 'nvidia',
  required: true,
};

const identify = (before: ReadonlyMap<string, KnownGpu>, ...sightings: GpuSighting[]) =>
  identifyGpus(before, sightings, false);

t.test('identifyGpus() keeps one entry for a card that the bus and its driver list', async (t) => {
  for (const order of [
    [onBus, byDriver],
    [byDriver, onBus],
  ]) {
    const { known, aliases } = identify(new Map(), ...order);
    t.same([...known.keys()], [GPU_A]);
    t.match(known.get(GPU_A), { pciAddress: PCI, name: 'RTX' });
    t.equal(aliases.get(PCI), GPU_A);
  }
  const bus = identify(new Map(), onBus);
  t.same([...bus.known.keys()], [PCI]);
  t.same([...identify(bus.known, byDriver).known.keys()], [GPU_A], 'also when the driver comes later');
});

t.test("identifyGpus() keeps what is not listed any more, and its slot's name", async (t) => {
  const { known } = identify(new Map(), byDriver);
  const gone = identify(known);
  t.same([...gone.known.keys()], [GPU_A]);
  t.equal(gone.listed.size, 0);
  t.equal(gone.aliases.get(PCI), GPU_A);
  t.same([...identify(known, onBus).known.keys()], [GPU_A], 'its driver may be gone while the bus shows it');
});

t.test('identifyGpus() takes another UUID in the same slot for another card', async (t) => {
  const { known } = identify(new Map(), byDriver);
  const swapped = identify(known, { ...byDriver, id: GPU_B, uuid: GPU_B });
  t.same([...swapped.known.keys()].sort(), [GPU_A, GPU_B]);
  t.same([...swapped.listed.keys()], [GPU_B]);
});

t.test('identifyGpus() lists what is not required, and never expects it', async (t) => {
  const integrated: GpuSighting = { ...onBus, vendor: 'intel', required: false };
  const { known, listed } = identify(new Map(), integrated);
  t.equal(known.size, 0);
  t.equal(listed.size, 1);
  t.equal(
    identify(new Map(), onBus, { ...onBus, required: false }).known.size,
    0,
    'one source that can tell outweighs the bus',
  );
  t.equal(
    identify(identify(new Map(), byDriver).known, integrated).known.size,
    1,
    'a card that was required once stays so',
  );
});

const four = (): Record<string, ReturnType<typeof coolGpu>> =>
  Object.fromEntries([0, 1, 2, 3].map((n) => [`GPU-${n}`, { ...coolGpu(), powerW: 240.5 + n }]));

t.test('decide() misses a lost card at once and across restarts, not "three cards, all fine"', async (t) => {
  const world = DomainWorld.running(worldSettings(), { [NODE]: { ...coolNode(), gpus: four() } });
  t.ok(world.result.safe);
  delete world.node.gpus['GPU-2'];
  world.run(10);
  const missing = ['memory', 'power', 'temperature'].map((quantity) => `reading-missing gpu/GPU-2/${quantity}`);
  t.same(world.codes.sort(), missing);
  t.ok(world.result.findings.every((finding) => finding.message.includes('GPU-2')));
  for (const downMs of [1_000, 86_400_000]) {
    world.restart({ downMs });
    world.inventory();
    world.tick();
    world.run(10);
    t.same(world.codes.sort(), missing, 'after a restart');
  }
  world.node.gpus['GPU-2'] = coolGpu();
  world.run(20);
  t.ok(world.result.safe, 'until it is back');
});

const forget = (world: DomainWorld, gpu: string | null, node = NODE) =>
  world.submit({ kind: 'forget-requested', node, gpu, reason: 'sold', by: 'ada' });

t.test('decide() forgets a card that is gone, in any spelling, and durably', async (t) => {
  for (const spelling of ['GPU-2', 'gpu-2', '0000:0B:00.0', '00000000:0b:00.0']) {
    const gpus = four();
    Object.assign(gpus['GPU-2'] ?? {}, { pciAddress: PCI });
    const world = DomainWorld.running(worldSettings(), { [NODE]: { ...coolNode(), gpus } });
    t.match(forget(world, spelling), { kind: 'forget-refused', why: /still there.*ignore: true/ }, spelling);
    delete world.node.gpus['GPU-2'];
    world.run(10);
    t.same(forget(world, spelling), { kind: 'forgotten', gpus: ['GPU-2'] }, spelling);
    t.ok(world.result.safe, 'and the verdict follows at once');
    t.notOk(world.durable.has(`gpu/${NODE}/GPU-2`));
    t.match(world.told('gpu-forgotten'), [{ by: 'ada', message: /sold/ }]);
    world.run(20);
    t.ok(world.result.safe);
    t.match(forget(world, spelling), { kind: 'gpu-unknown', known: ['GPU-0', 'GPU-1', 'GPU-3'] });
  }
});

t.test('decide() does not forget what the configuration names, nor a node that is read or configured', async (t) => {
  const gpus = new Map([['GPU-2', { waive: [], ignore: false }]]);
  const world = DomainWorld.running(worldSettings({}, { gpus }), { [NODE]: { ...coolNode(), gpus: four() } });
  delete world.node.gpus['GPU-2'];
  world.run(10);
  t.match(forget(world, 'GPU-2'), { kind: 'forget-refused', why: /named in the configuration/ });
  t.match(forget(world, null), { kind: 'forget-refused', why: /still read or configured/ });
  t.same(forget(world, 'GPU-2', 'mars'), { kind: 'unknown-nodes', nodes: ['mars'] });
  t.match(forget(world, 'GPU-9'), { kind: 'gpu-unknown' });
});

t.test(
  'decide() keeps a card that is there or named by its slot, and a node that is configured or our own',
  async (t) => {
    const slotOf = (card: string, settings = worldSettings()): DomainWorld => {
      const gpus = four();
      Object.assign(gpus[card] ?? {}, { pciAddress: PCI });
      return DomainWorld.running(settings, { [NODE]: { ...coolNode(), gpus } });
    };
    const gpus = new Map([[PCI, { waive: [], ignore: false }]]);
    const named = slotOf('GPU-2', worldSettings({}, { gpus }));
    delete named.node.gpus['GPU-2'];
    named.run(10);
    t.match(forget(named, 'GPU-2'), { kind: 'forget-refused', why: /named in the configuration/ }, 'by its slot');
    delete named.node.gpus['GPU-1'];
    named.run(10);
    t.match(forget(named, 'GPU-1'), { kind: 'forgotten', gpus: ['GPU-1'] }, 'another card of the same node');
    const there = slotOf('GPU-2');
    t.match(forget(there, 'GPU-2'), { kind: 'forget-refused', why: /gpus\."0000:0b:00\.0"\.ignore/ });
    t.match(
      forget(there, 'GPU-1'),
      { kind: 'forget-refused', why: /gpus\."GPU-1"\.ignore/ },
      'one without a slot by its id',
    );

    const silent = DomainWorld.running(worldSettings({ nodes: new Map() }));
    silent.node.fails = true;
    silent.run(60);
    t.match(forget(silent, null), { kind: 'forget-refused' }, 'the service’s own machine');
    const elsewhere = DomainWorld.running(worldSettings({ localNode: 'elsewhere' }));
    elsewhere.node.fails = true;
    elsewhere.run(60);
    t.match(forget(elsewhere, null), { kind: 'forget-refused' }, 'one that is configured');
  },
);

t.test(
  'decide() forgets a node once what was read of it is stale, and not while its last answer is good',
  async (t) => {
    const world = DomainWorld.running(worldSettings({ localNode: 'elsewhere', nodes: new Map() }));
    world.pass(30_000);
    t.match(forget(world, null), { kind: 'forget-refused', why: /still read/ });
    world.pass(1);
    t.match(forget(world, null), { kind: 'forgotten' });
  },
);

t.test('decide() forgets a card with its readings, and keeps those of the others', async (t) => {
  const world = DomainWorld.running(worldSettings(), { [NODE]: { ...coolNode(), gpus: four() } });
  Object.assign(world.gpu('GPU-1'), { powerW: 400 });
  Object.assign(world.gpu('GPU-2'), { powerW: 400 });
  world.fast();
  delete world.node.gpus['GPU-2'];
  world.fast();
  t.match(forget(world, 'GPU-2'), { kind: 'forgotten' });
  const node = world.state.nodes.get(NODE);
  const tracked = [...(node?.watch.sources.values() ?? [])].flatMap(({ tracks }) => [...tracks.values()]);
  t.same(new Set(tracked.map(({ raw }) => raw.id)), new Set(['coretemp-0', undefined, 'GPU-0', 'GPU-1', 'GPU-3']));
  t.same([...(node?.looks.keys() ?? [])], ['gpu/GPU-1/power'], 'nor is it looked at again');
  t.same([...(node?.watch.gpus.known.keys() ?? [])], ['GPU-0', 'GPU-1', 'GPU-3']);
});

t.test('decide() forgets a discovered node that is gone, with its cards and its records', async (t) => {
  const nodes = { [NODE]: coolNode(), found: { ...coolNode(), gpus: { 'GPU-c': coolGpu() } } };
  const world = DomainWorld.running(worldSettings(), nodes);
  t.match(forget(world, null, 'found'), { kind: 'forget-refused' });
  Object.assign(nodes.found, { fails: true });
  world.run(10);
  t.same(forget(world, null, 'found'), { kind: 'forgotten', gpus: ['GPU-c'] });
  t.notOk(world.state.nodes.has('found'));
  t.same(
    [...world.durable.keys()].filter((key) => key.includes('found')),
    [],
  );
});

t.test("decide() counts the last readings of a failing source under the card's one name", async (t) => {
  // The driver tells the UUID, an exporter only the slot; then both fall silent for a moment while a workload runs.
  const world = DomainWorld.running();
  Object.assign(world.gpu(GPU_A), { pciAddress: PCI, temperatureC: undefined });
  let isSilent = false;
  const temperature: RawReading = {
    component: 'gpu',
    id: PCI,
    quantity: 'temperature',
    value: 70.5,
    origin: 'hw_temperature',
  };
  world.others = [
    (atMs) => ({
      ...EMPTY_REPORT,
      source: 'slots',
      node: NODE,
      startedAtMs: atMs,
      finishedAtMs: atMs,
      outcome: isSilent ? { kind: 'failed', cause: 'timeout', detail: 'no answer' } : { kind: 'answered' },
      readings: isSilent ? [] : [temperature],
      gpus: isSilent ? [] : [onBus],
    }),
  ];
  world.run(20);
  t.match(world.askLease(), { kind: 'granted' });
  isSilent = true;
  world.node.fails = true;
  world.run(20);
  t.match(world.renew(), { result: { action: 'PROCEED' } }, 'for 30 s');
  world.run(20);
  t.match(world.renew(), { result: { action: 'WAIT_COOLDOWN' } });
});

t.test('identifyGpus() keeps the pods of a listed card by all sources, and none of a known one', async (t) => {
  const card = { id: 'GPU-a', uuid: 'GPU-a', vendor: 'nvidia', required: true } as const;
  const sightings = [
    { ...card, pods: ['a/one', 'a/two'] },
    { ...card, name: 'RTX' },
    { ...card, pods: ['a/two', 'b/three'] },
  ];
  const { known, listed } = identifyGpus(new Map(), sightings, false);
  t.same(listed.get('GPU-a')?.pods, ['a/one', 'a/two', 'b/three']);
  t.notHas(known.get('GPU-a'), { pods: Array });
  const later = identifyGpus(known, [card], false);
  t.equal(later.listed.get('GPU-a')?.pods, undefined, 'a pod that has ended is not told any more');
  t.equal(later.known.get('GPU-a'), known.get('GPU-a'), 'and nothing durable has changed');
});

t.test('identifyGpus() joins what several sources say of one card, whoever speaks first', async (t) => {
  const named = { ...byDriver, name: 'RTX 6000', unifiedMemory: true };
  const onlyOnBus = { ...onBus, name: 'NVIDIA device 2204' };
  for (const order of [
    [named, onlyOnBus],
    [onlyOnBus, named],
  ]) {
    const { listed, known } = identify(new Map(), ...order);
    t.match(listed.get(GPU_A), { id: GPU_A, uuid: GPU_A, name: 'RTX 6000' }, 'the driver’s word before the bus’s');
    t.match(known.get(GPU_A), { name: 'RTX 6000', unifiedMemory: true });
  }
  const withoutName = identify(new Map(), onBus);
  t.notOk('name' in (withoutName.known.get(PCI) ?? {}), 'what nobody tells has no field');
  const withoutSlot = identify(new Map(), { id: GPU_B, uuid: GPU_B, vendor: 'nvidia', required: true });
  t.same(withoutSlot.known.get(GPU_B), { id: GPU_B, vendor: 'nvidia', unifiedMemory: false, simulated: false });
  t.same([...withoutSlot.aliases], [[GPU_B, GPU_B]]);
});

t.test(
  'identifyGpus() renames a card on the bus once its driver speaks, and keeps one that has its name',
  async (t) => {
    const kept = {
      id: GPU_A,
      pciAddress: PCI,
      name: 'RTX',
      vendor: 'nvidia',
      unifiedMemory: false,
      simulated: true,
    } as const;
    const bus = { id: PCI, pciAddress: PCI, vendor: 'nvidia', unifiedMemory: true, simulated: false } as const;
    const both = identify(
      new Map<string, KnownGpu>([
        [PCI, bus],
        [GPU_A, kept],
      ]),
    );
    t.same([...both.known], [[GPU_A, kept]], 'two records of one card are one, and its own is kept');
    const renamed = identify(new Map<string, KnownGpu>([[PCI, bus]]), byDriver);
    t.match(renamed.known.get(GPU_A), { id: GPU_A, unifiedMemory: true }, 'what was known of it stays known');
  },
);

t.test('identifyGpus() names at most 32 pods of a card', async (t) => {
  const pods = (from: number): string[] => Array.from({ length: 20 }, (_, n) => `gpu/pod-${from + n}`);
  const { listed } = identify(new Map(), { ...byDriver, pods: pods(0) }, { ...onBus, pods: pods(20) });
  t.equal(listed.get(GPU_A)?.pods?.length, 32);
});

t.test('gpuNamed() finds a known card by any spelling of any name, and nothing else', async (t) => {
  const gpus = identify(new Map(), byDriver);
  for (const name of [GPU_A, GPU_A.toUpperCase().replace('GPU', 'gpu'), PCI, '00000000:0B:00.0'])
    t.equal(gpuNamed(gpus, name)?.id, GPU_A, name);
  t.equal(gpuNamed(gpus, GPU_B), null);
  t.equal(gpuNamed(identify(new Map(), { ...onBus, required: false }), PCI), null, 'one that is only listed');
});
