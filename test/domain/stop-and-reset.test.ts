// What the report of a stop says, and what it takes to reset a trip: time, an operator, and everything cool.
import t from 'tap';
import { nextWakeMs } from '../../src/domain/decide.ts';
import type { Trip } from '../../src/domain/interlock.ts';
import type { StopEntry } from '../../src/domain/stop.ts';
import { coolGpu, DomainWorld, GPU_A, GPU_B, LEASE_ID, NODE, worldSettings } from '../support/domain-world.ts';
import { OTHER_NODE, twoLeases, twoNodes, twoSettings } from '../support/two-nodes.ts';

const reportOf = (world: DomainWorld) => world.state.trips.get(world.tripId)?.report;

t.test(
  'decide() calls a stop verified only when every actuator says so and every loaded card fell under 70 %',
  async (t) => {
    const world = DomainWorld.running();
    Object.assign(world.gpu(GPU_A), { powerW: 200 });
    Object.assign(world.gpu(GPU_B), { powerW: 99.9 });
    world.run(10);
    world.stop();
    world.stopReported(true);
    t.match(reportOf(world), { state: 'stopping', stillLoaded: [{ node: NODE, gpu: GPU_A, atTripW: 200, nowW: 200 }] });
    t.equal(reportOf(world)?.stillLoaded.length, 1, 'a card under 100 W needs not fall');
    world.gpu().powerW = 140;
    world.run(10);
    t.equal(reportOf(world)?.state, 'stopping', '70 % is still loaded');
    world.gpu().powerW = 139.9;
    world.run(10);
    t.match(reportOf(world), { state: 'verified', stillLoaded: [] });
    t.equal(world.told('stop-verified').length, 1);
    world.stopReported(false);
    t.not(reportOf(world)?.state, 'verified', 'and it is not any more when something came back');
  },
);

t.test(
  'decide() calls a stop unverified 30 s after the trip, wakes for it, and takes it back when it is done',
  async (t) => {
    const world = DomainWorld.running();
    world.stop();
    world.cool();
    world.run(20);
    t.equal(reportOf(world)?.state, 'stopping');
    t.equal(nextWakeMs(world.state), world.elapsedMs + 10_000);
    world.pass(10_000);
    world.submit({ kind: 'clock-looked' });
    t.equal(reportOf(world)?.state, 'unverified');
    t.match(world.told('stop-unverified'), [{ message: /local-processes has not verified its stop/ }]);
    world.stopReported(true);
    t.equal(reportOf(world)?.state, 'verified');
  },
);

t.test('decide() waits for the cards of the stopped nodes alone that drew 100 W or more', async (t) => {
  const world = DomainWorld.running(twoSettings(), twoNodes());
  Object.assign(world.gpu(GPU_A), { powerW: 100 });
  Object.assign(world.gpu(GPU_B), { powerW: 99.9 });
  world.run(10);
  world.stop([NODE]);
  t.same(world.state.trips.get(world.tripId)?.loadedW, { [`${NODE}/${GPU_A}`]: 100 }, 'the other node works on');
});

t.test('decide() keeps waiting for a card of a node that it knows nothing of', async (t) => {
  const world = DomainWorld.running();
  world.submit({
    kind: 'cluster-tripped',
    trips: [
      {
        tripId: 'elsewhere',
        scope: { kind: 'all' },
        cause: 'manual',
        reason: 'smoke',
        by: 'kubernetes:ada',
        sinceWallMs: world.wallMs,
        simulated: false,
        loadedW: { 'far/GPU-far': 200 },
      },
    ],
  });
  world.cool();
  world.run(10);
  world.stopReported(true);
  t.match(reportOf(world), { state: 'stopping', stillLoaded: [{ node: 'far', gpu: 'GPU-far', nowW: null }] });
});

t.test('decide() tells once what has become of a stop, and again only when that changes', async (t) => {
  const world = DomainWorld.running();
  world.stop();
  world.cool();
  world.stopReported(true);
  world.run(20);
  t.equal(world.told('stop-verified').length, 1);
  world.stopReported(false);
  t.match(reportOf(world), { state: 'stopping', settledAt: null });
  t.equal(world.told('stop-unverified').length, 0, 'it has 30 s');
  world.run(60);
  t.equal(world.told('stop-unverified').length, 1);
});

t.test('decide() keeps of a report as much on the disk as it can bear, and all of it in memory', async (t) => {
  const world = DomainWorld.running();
  world.stop();
  world.cool();
  world.run(10);
  const entry = (name: string): StopEntry => ({
    actuator: 'kubernetes',
    kind: 'Pod',
    name,
    state: 'stopped',
    how: 'deleted',
    verified: true,
    tookMs: 0,
  });
  const entries = Array.from({ length: 400 }, (_, at) => entry(`a/${at}`));
  const orderId = world.tripId;
  const actuators = ['kubernetes', 'local-processes'].map((name) => ({ name, available: true, detail: '' }));
  world.submit({ kind: 'inventoried', actuators, workloads: [], seesPods: false });
  for (const { name } of actuators)
    world.submit({ kind: 'stop-reported', orderId, actuator: name, entries, verified: true });
  t.equal(reportOf(world)?.state, 'verified');
  const kept = (report = reportOf(world)) => Object.values(report?.actuators ?? {}).map((one) => one.entries.length);
  t.same(kept(), [400, 400]);
  t.same(kept((world.durable.get(`trip/${orderId}`) as Trip).report), [400, 100]);
});

t.test('decide() resets nothing before anything has been read', async (t) => {
  const world = new DomainWorld(worldSettings({ nodes: new Map() }), {});
  world.inventory();
  world.stop();
  world.stopReported(true);
  world.run(10);
  t.equal(reportOf(world)?.state, 'verified');
  t.match(world.reset(), { kind: 'reset-refused' });
});

t.test('decide() never calls a stop verified by some of its actuators', async (t) => {
  const world = DomainWorld.running();
  const actuators = ['kubernetes', 'local-processes'].map((name) => ({ name, available: true, detail: '' }));
  world.submit({ kind: 'inventoried', actuators, workloads: [], seesPods: false });
  world.stop();
  world.cool();
  world.run(10);
  world.stopReported(true);
  t.equal(reportOf(world)?.state, 'stopping', 'the other one has said nothing');
  const orderId = world.tripId;
  world.submit({ kind: 'stop-reported', orderId, actuator: 'kubernetes', entries: [], verified: false });
  t.equal(reportOf(world)?.state, 'stopping');
  world.submit({ kind: 'stop-reported', orderId, actuator: 'kubernetes', entries: [], verified: true });
  t.equal(reportOf(world)?.state, 'verified');
});

t.test('decide() dates a stop by when it became verified or unverified, and by nothing before', async (t) => {
  const world = DomainWorld.running();
  world.stop();
  world.cool();
  world.run(20);
  t.equal(reportOf(world)?.settledAt, null);
  world.run(10);
  const lateAt = new Date(world.wallMs).toISOString();
  t.match(reportOf(world), { state: 'unverified', settledAt: lateAt });
  world.run(20);
  t.equal(reportOf(world)?.settledAt, lateAt, 'not by each look again');
  world.stopReported(true);
  t.match(reportOf(world), { state: 'verified', settledAt: new Date(world.wallMs).toISOString() });
});

t.test('decide() never calls a stop verified by a loaded card that cannot be read', async (t) => {
  const world = DomainWorld.running();
  world.stop();
  world.cool();
  world.gpu().powerW = null;
  world.stopReported(true);
  world.run(60);
  t.match(reportOf(world), { state: 'unverified', stillLoaded: [{ gpu: GPU_A, nowW: null }] });
  t.match(world.told('stop-unverified'), [{ message: /cannot be read/ }]);
});

t.test('decide() never calls a stop verified before it knows an actuator', async (t) => {
  const world = new DomainWorld();
  world.cool();
  world.tick();
  world.stop();
  world.run(20);
  t.equal(reportOf(world)?.state, 'stopping');
});

// Reset.

/** Tripped, stopped, cool and verified: ready for a reset. */
function resettable(): DomainWorld {
  const world = DomainWorld.running();
  world.gpu().temperatureC = 86;
  world.run(10);
  world.cool();
  world.stopReported(true);
  world.run(10);
  return world;
}

t.test('decide() resets when all is cool, fresh and verified, raises the epoch and brings nothing back', async (t) => {
  const world = resettable();
  world.run(60);
  const { tripId } = world;
  t.same(world.reset(), { kind: 'reset-done', tripId, epoch: 1 });
  t.match(world.result, { action: 'PROCEED', interlock: { state: 'clear' } }, 'published at once');
  t.ok(world.effects.some((effect) => effect.kind === 'withdraw-order' && effect.orderId === tripId));
  t.match(world.state, {
    epoch: 1,
    lastResetWallMs: world.wallMs,
    lastTrip: { trip: { tripId }, resetBy: 'ada', resetReason: 'checked' },
  });
  t.same(world.reset({ tripId }), { kind: 'trip-unknown', tripId, active: [] });
});

t.test('decide() refuses a reset while anything is still wrong, and says what', async (t) => {
  const wrongs: Record<string, [(world: DomainWorld) => void, RegExp]> = {
    'a temperature at its warning': [
      (world) => Object.assign(world.gpu(), { temperatureC: 80 }),
      /80 °C, warning is 80 °C/,
    ],
    'a power at its warning': [(world) => Object.assign(world.gpu(), { powerW: 250 }), /250 W, warning is 250 W/],
    'the total at its warning': [(world) => Object.assign(world.node, { totalW: 2000 }), /2000 W, warning is 2000 W/],
    'a missing reading': [(world) => Object.assign(world.gpu(), { temperatureC: null }), /temperature is missing/],
    'a missing CPU load': [(world) => Object.assign(world.node, { cpuRatio: null }), /load is missing/],
    'a card that is gone': [(world) => Object.assign(world.node, { gpus: { [GPU_A]: coolGpu() } }), new RegExp(GPU_B)],
    'a failing source': [(world) => Object.assign(world.node, { fails: true }), /no answer within/],
    'a journal that cannot be written': [
      (world) => world.submit({ kind: 'journal-reported', ok: false, detail: 'ENOSPC' }),
      /ENOSPC/,
    ],
    'an unverified stop': [(world) => world.stopReported(false), /the stop is (stopping|unverified)/],
  };
  for (const [name, [spoil, why]] of Object.entries(wrongs)) {
    const world = resettable();
    spoil(world);
    world.pass(2_000);
    const answer = world.reset();
    t.match(answer, { kind: 'reset-refused', still: [why] }, name);
    t.equal(world.interlock, 'tripped', name);
    t.equal(world.state.epoch, 0, name);
  }
});

t.test('decide() does not hold a full memory or a busy CPU against a reset', async (t) => {
  const world = resettable();
  Object.assign(world.node, { memoryRatio: 0.99, cpuRatio: 1 });
  Object.assign(world.gpu(), { memoryRatio: 0.99 });
  t.match(world.reset(), { kind: 'reset-done' });
});

t.test('decide() lets an operator acknowledge an unverified stop, and nothing else', async (t) => {
  const world = resettable();
  world.stopReported(false);
  t.match(world.reset(), { kind: 'reset-refused' });
  world.gpu().temperatureC = 81;
  world.pass(2_000);
  t.match(world.reset({ acknowledgeUnverified: true }), { kind: 'reset-refused', still: [/81 °C/] });
  world.gpu().temperatureC = 50;
  world.pass(2_000);
  t.match(world.reset({ acknowledgeUnverified: true }), { kind: 'reset-done' });
});

t.test("decide() resets a node's trip by the readings of that node alone", async (t) => {
  const world = DomainWorld.running(twoSettings(), twoNodes());
  world.stop([NODE]);
  world.cool();
  Object.assign(world.nodes[OTHER_NODE] ?? {}, { cpuC: 91 });
  world.stopReported(true);
  world.run(10);
  t.match(world.reset(), { kind: 'reset-done' });
  t.equal(world.preflight({ nodes: [NODE] }).result.interlock.state, 'clear');
});

t.test('decide() refuses a reset by readings of which the clock is in doubt', async (t) => {
  const world = resettable();
  world.pass(2_000);
  world.wallMs += 7_200_000;
  t.match(world.reset({ reports: [] }), { kind: 'reset-refused', still: [/before the clock jumped/] });
});

t.test('decide() ignores what an actuator reports of a trip that was reset', async (t) => {
  const world = resettable();
  const { tripId } = world;
  world.reset();
  world.effects = [];
  const before = world.state.lastTrip;
  world.stopReported(false, tripId, []);
  t.equal(world.state.trips.size, 0);
  t.equal(world.state.lastTrip, before);
  t.same(world.events, []);
});

t.test(
  'decide() keeps what a report says of what was verified, through a restart and what that finds gone',
  async (t) => {
    const world = twoLeases();
    world.stop();
    const { tripId } = world;
    world.cool();
    const entry: StopEntry = {
      actuator: 'local-processes',
      kind: 'process-group',
      name: 'pgid 4711 (train-7)',
      node: NODE,
      leaseId: LEASE_ID,
      state: 'stopped',
      how: 'SIGTERM, SIGKILL',
      prior: 'state S',
      verified: true,
      tookMs: 3_201,
    };
    const other = { ...entry, kind: 'process', name: 'pid 4800 (train-7)', how: 'SIGTERM', tookMs: 12 };
    const entriesOf = () => reportOf(world)?.actuators['local-processes']?.entries;
    world.run(10);
    world.stopReported(true, tripId, [entry, other]);
    const before = reportOf(world);
    t.match(before, { state: 'verified', settledAt: new Date(world.wallMs).toISOString() });
    for (const start of ['first', 'second']) {
      world.restart({ downMs: 60_000 });
      world.inventory();
      world.tick();
      const { prior: _, ...fresh } = { ...entry, state: 'found' as const, how: '', verified: false, tookMs: 0 };
      world.stopReported(false, tripId, [fresh]);
      t.match(reportOf(world), { state: 'stopping', settledAt: null }, `${start} start: nothing is verified by itself`);
      t.same(entriesOf(), [entry, other], `${start} start: not looked at yet`);
      const detail = 'gone without a signal from here';
      world.stopReported(true, tripId, [{ ...fresh, state: 'stopped', verified: true, tookMs: 788, detail }]);
      t.same(reportOf(world), before, `${start} start: as it was recorded`);
    }
    world.restart();
    world.inventory();
    world.tick();
    const back: StopEntry = { ...entry, state: 'stopping', how: 'SIGTERM', verified: false, tookMs: 5 };
    world.stopReported(false, tripId, [back]);
    t.same(entriesOf(), [back, other], 'what runs again is told');
    const ended: StopEntry = { ...entry, tookMs: 3_100 };
    world.stopReported(true, tripId, [ended]);
    t.same(entriesOf(), [ended, other], 'and how it was stopped again');
    t.equal(reportOf(world)?.settledAt, new Date(world.wallMs).toISOString());
    world.restart();
    t.same(entriesOf(), [ended, other], 'and that is kept, too');
  },
);

t.test('decide() keeps the entries of pods, which no list shows any more, and of what was set to 0', async (t) => {
  const world = DomainWorld.running();
  world.stop();
  const { tripId } = world;
  world.cool();
  const made = (entry: Pick<StopEntry, 'kind' | 'name' | 'how' | 'tookMs'>): StopEntry => ({
    actuator: 'kubernetes',
    state: 'stopped',
    verified: true,
    ...entry,
  });
  const pod = made({ kind: 'Pod', name: 'a/b', how: 'delete', tookMs: 2_000 });
  const owner = made({ kind: 'Deployment', name: 'a/b', how: 'scale 3 -> 0', tookMs: 900 });
  const raised = { ...owner, tookMs: 700, detail: 'raised again 1 times' };
  for (const [seen, after] of [
    [{ ...owner, tookMs: 40 }, owner],
    [raised, raised],
  ] as const) {
    const actuators = [{ name: 'kubernetes', available: true, detail: '' }];
    const report = (entries: readonly StopEntry[]) =>
      world.submit({ kind: 'stop-reported', orderId: tripId, actuator: 'kubernetes', entries, verified: true });
    world.submit({ kind: 'inventoried', actuators, workloads: [], seesPods: true });
    report([owner, pod]);
    world.run(40);
    world.restart();
    world.submit({ kind: 'inventoried', actuators, workloads: [], seesPods: true });
    report([seen]);
    t.same(reportOf(world)?.actuators['kubernetes']?.entries, [after, pod]);
  }
});

t.test(
  'decide() keeps a trip through a restart, orders it again, and verifies it anew by what is seen from then on',
  async (t) => {
    const world = twoLeases();
    world.stop([NODE]);
    const { tripId } = world;
    world.cool();
    world.stopReported(true);
    world.run(40);
    t.equal(reportOf(world)?.state, 'verified');
    world.restart();
    t.match(world.orders, [
      {
        orderId: tripId,
        scope: { nodes: [NODE] },
        targets: [{ leaseId: LEASE_ID, processGroup: { pgid: 4711, startTicks: 99 } }],
      },
    ]);
    world.inventory();
    world.tick();
    t.match(world.result, { action: 'ABORT', interlock: { state: 'tripped', tripId } });
    t.equal(reportOf(world)?.state, 'stopping', 'what the process before saw proves nothing now');
    world.stopReported(true);
    t.equal(reportOf(world)?.state, 'verified');
    world.restart({ downMs: 3_600_000, settings: { bootId: 'boot-2' } });
    world.inventory();
    world.tick();
    t.equal(world.interlock, 'tripped', 'nor does a reboot reset it');
  },
);

t.test('decide() binds what was recorded under the simulation only under it, and the rest always', async (t) => {
  const simulated = DomainWorld.running(worldSettings({ simulated: true }));
  simulated.askLease();
  simulated.stop();
  simulated.cool();
  simulated.restart({ settings: { simulated: false } });
  t.equal(simulated.state.trips.size, 0);
  t.equal(simulated.state.nodes.get(NODE)?.watch.gpus.known.size ?? 0, 0);
  simulated.restart({ settings: { simulated: true } });
  t.equal(simulated.state.trips.size, 1);
  const real = DomainWorld.running();
  real.stop();
  real.restart({ settings: { simulated: true } });
  t.equal(real.state.trips.size, 1);
});
