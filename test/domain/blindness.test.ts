// A node that cannot be seen while a workload runs there: how long it may go on, and what a restart makes of that.
import t from 'tap';
import { nextWakeMs } from '../../src/domain/decide.ts';
import { coolGpu, DomainWorld, GPU_A, LEASE_ID, NODE, START } from '../support/domain-world.ts';
import { LEASE_B, twoLeases } from '../support/two-nodes.ts';

/** A running workload on a node that is then blinded; gives the seconds until it trips. */
function secondsUntilTrip(
  blind: (world: DomainWorld) => void,
  world = DomainWorld.running(),
  limitS = 300,
): number | null {
  if (world.state.leases.size === 0) world.askLease();
  world.pass(10_000);
  world.tick();
  const lastGoodMs = world.elapsedMs;
  blind(world);
  while (world.elapsedMs - lastGoodMs < limitS * 1_000) {
    // As the supervisor does: wakes when something is due, ticks every 10 s.
    const tickMs = lastGoodMs + (Math.floor((world.elapsedMs - lastGoodMs) / 10_000) + 1) * 10_000;
    const wakeMs = Math.min(nextWakeMs(world.state) ?? Infinity, tickMs);
    world.pass(Math.max(0, wakeMs - world.elapsedMs));
    if (world.elapsedMs < tickMs) world.submit({ kind: 'clock-looked' });
    else world.tick();
    if (world.state.trips.size > 0) return (world.elapsedMs - lastGoodMs) / 1_000;
    if (world.state.leases.size > 0) world.renew();
  }
  return null;
}

t.test(
  'decide() aborts the node that was blind under load for 30 s: 40 s after an absent reading, 70 s after a failing source',
  async (t) => {
    t.equal(
      secondsUntilTrip((world) => Object.assign(world.gpu(), { temperatureC: null })),
      40,
    );
    t.equal(
      secondsUntilTrip((world) => Object.assign(world.node, { gpus: { [GPU_A]: coolGpu() } })),
      40,
      'a lost card',
    );
    t.equal(
      secondsUntilTrip((world) => Object.assign(world.node, { cpuC: null })),
      40,
      'a lost CPU sensor: which of its chips told the temperature before makes no difference',
    );
    t.equal(
      secondsUntilTrip((world) => Object.assign(world.node, { fails: true })),
      70,
    );
    const frozen = secondsUntilTrip((world) => {
      for (const gpu of Object.values(world.node.gpus)) gpu.witness = 5;
      world.submit({ kind: 'observed', why: 'fast', reports: world.reports() });
    });
    t.ok(frozen !== null && frozen <= 70, `a source that repeats itself: ${frozen} s`);
  },
);

t.test('decide() aborts in time although each round takes most of its interval', async (t) => {
  // The source fails by its deadline, 8 s into each round; the reading is as old as the start of its round.
  const world = DomainWorld.running();
  world.askLease();
  const lastGoodMs = world.elapsedMs;
  world.submit({ kind: 'observed', why: 'tick', reports: world.reports() });
  world.node.fails = true;
  let trippedMs: number | null = null;
  for (let round = 1; round < 9 && trippedMs === null; round += 1) {
    const startMs = lastGoodMs + round * 10_000;
    const dueMs = nextWakeMs(world.state);
    if (dueMs !== null && dueMs < startMs + 8_010) {
      world.pass(dueMs - world.elapsedMs);
      world.submit({ kind: 'clock-looked' });
    }
    if (world.state.trips.size === 0) {
      world.pass(startMs + 8_010 - round - world.elapsedMs);
      world.tick();
      world.renew();
    }
    if (world.state.trips.size > 0) trippedMs = world.elapsedMs;
  }
  t.ok(trippedMs !== null && trippedMs - lastGoodMs <= 70_000, `${(trippedMs ?? 0) - lastGoodMs} ms`);
});

t.test('decide() looks once more at a node whose blindness came due while the process stood still', async (t) => {
  /** Blind for 20 s, and then nobody looks for `forMs`. */
  function standstill(forMs: number): DomainWorld {
    const world = DomainWorld.running();
    world.askLease();
    world.gpu().temperatureC = null;
    world.tick();
    world.run(20);
    world.renew();
    world.pass(forMs);
    return world;
  }
  const wake = (world: DomainWorld): void => {
    world.pass(Math.max(0, (nextWakeMs(world.state) ?? Infinity) - world.elapsedMs));
    world.submit({ kind: 'clock-looked' });
  };

  const onTime = standstill(10_900);
  onTime.submit({ kind: 'clock-looked' });
  t.equal(onTime.interlock, 'tripped', 'less than a second late is no standstill');

  const late = standstill(11_000);
  late.submit({ kind: 'clock-looked' });
  t.equal(late.interlock, 'clear');
  const asked = late.effects.findLast(({ kind }) => kind === 'look-again');
  t.match(asked, { nodes: [NODE], deadlineMs: late.elapsedMs + 5_000 }, 'and the node is read within 5 s');
  t.equal(nextWakeMs(late.state), late.elapsedMs + 5_000);
  late.pass(1_000);
  late.tick();
  t.equal(late.interlock, 'clear', 'a look that finds nothing does not end the time for others');
  wake(late);
  t.equal(late.interlock, 'tripped', 'none of which found anything');
  t.match(late.state.trips.get(late.tripId)?.reason, /blind for too long: 36 s, at most 30 s are allowed/);

  const well = standstill(25_000);
  well.submit({ kind: 'clock-looked' });
  well.gpu().temperatureC = 55.25;
  well.pass(1_000);
  well.tick();
  t.equal(well.result.action, 'PROCEED', 'it is well again');
  well.gpu().temperatureC = null;
  well.pass(1_000);
  well.tick();
  well.renew();
  wake(well);
  t.equal(well.interlock, 'tripped', 'the next blindness has its usual time');

  const twice = standstill(11_000);
  twice.submit({ kind: 'clock-looked' });
  twice.pass(20_000);
  twice.submit({ kind: 'clock-looked' });
  t.equal(twice.interlock, 'tripped', 'a second standstill in the same blindness is waited for no more');
});

t.test('decide() makes blindness stop its own node alone, whatever the trip scope', async (t) => {
  const world = twoLeases('cluster');
  Object.assign(world.gpu(), { temperatureC: null });
  for (let tick = 0; tick < 5; tick += 1) {
    world.run(10);
    world.renew();
    world.renew(null, LEASE_B);
  }
  t.match(world.orders, [{ scope: { kind: 'nodes', nodes: [NODE] }, targets: [{ leaseId: LEASE_ID }] }]);
  t.match(world.state.trips.get(world.tripId), {
    cause: 'blind',
    reason: /temperature is missing.*; blind for too long: 30 s, at most 30 s are allowed/,
  });
  t.same([...world.state.leases.keys()], [LEASE_B]);
});

t.test('decide() never aborts an idle node for being blind', async (t) => {
  const world = DomainWorld.running();
  world.gpu().temperatureC = null;
  world.run(600);
  t.match(world.result, { action: 'WAIT_COOLDOWN', interlock: { state: 'clear' } });
});

t.test('decide() takes a labelled pod and a process group for a live workload, too', async (t) => {
  for (const kind of ['pod', 'process-group'] as const) {
    const world = DomainWorld.running();
    world.inventory([{ kind, node: NODE, name: 'x' }], kind === 'pod');
    world.gpu().temperatureC = null;
    world.run(40);
    t.match(world.state.trips.get(world.tripId), { cause: 'blind' }, kind);
  }
});

t.test('decide() counts blindness from when the workload came, and only without a break', async (t) => {
  const world = DomainWorld.running();
  world.gpu().temperatureC = null;
  world.run(300);
  world.inventory([{ kind: 'pod', node: NODE, name: 'x' }], true);
  world.run(30);
  t.equal(world.interlock, 'clear', 'live and blind since the first of these ticks');
  world.run(10);
  t.equal(world.interlock, 'tripped');
  const flapping = DomainWorld.running();
  flapping.askLease();
  for (let round = 0; round < 5; round += 1) {
    flapping.gpu().temperatureC = null;
    flapping.run(20);
    flapping.gpu().temperatureC = 55.25;
    flapping.run(10);
    flapping.renew();
  }
  t.equal(flapping.interlock, 'clear');
});

/** A world whose pods run, of which one card has never been read since the boot. */
function unseen(): DomainWorld {
  const world = new DomainWorld();
  world.gpu().temperatureC = null;
  world.inventory([{ kind: 'pod', node: NODE, name: 'x' }], true);
  world.tick();
  return world;
}

t.test('decide() gives a reading that was never seen since the start 120 s before it aborts', async (t) => {
  const world = unseen();
  world.run(110);
  t.match(world.result, { action: 'WAIT_COOLDOWN', interlock: { state: 'clear' } });
  world.run(10);
  t.equal(world.interlock, 'tripped');
  t.match(world.state.trips.get(world.tripId)?.reason, /blind for too long: 120 s, at most 120 s are allowed/);
});

t.test('decide() gives that grace once per boot: a crash loop neither renews it nor outruns the abort', async (t) => {
  const world = unseen();
  let aliveS = 0;
  while (world.state.trips.size === 0 && aliveS < 600) {
    world.run(10);
    world.restart({ downMs: 10_000 });
    // The first look may come before the actuators were asked.
    world.submit({ kind: 'observed', why: 'fast', reports: world.reports() });
    world.inventory([{ kind: 'pod', node: NODE, name: 'x' }], true);
    world.tick();
    aliveS += 20;
  }
  t.ok(aliveS <= 160, `a restart every 20 s aborts after ${aliveS} s`);
  const later = DomainWorld.running();
  later.run(120);
  later.inventory([{ kind: 'pod', node: NODE, name: 'x' }], true);
  later.gpu().temperatureC = null;
  later.run(10);
  let blindS = 0;
  while (later.state.trips.size === 0 && blindS < 600) {
    later.restart({ downMs: 5_000 });
    later.inventory([{ kind: 'pod', node: NODE, name: 'x' }], true);
    later.tick();
    later.run(10);
    blindS += 15;
  }
  t.ok(blindS <= 75, `well after the grace a restart every 15 s aborts after ${blindS} s`);
  const rebooted = unseen();
  rebooted.run(60);
  rebooted.elapsedMs = 1_000;
  rebooted.restart({ settings: { bootId: 'boot-2' } });
  rebooted.inventory([{ kind: 'pod', node: NODE, name: 'x' }], true);
  rebooted.tick();
  rebooted.run(60);
  t.equal(rebooted.interlock, 'clear', 'a reboot of the machine gives a new one');
});

t.test('decide() lets nothing start in all that time', async (t) => {
  const world = unseen();
  world.run(60);
  t.match(world.submit({ kind: 'preflight-asked', request: START, reports: world.reports() }), {
    kind: 'judged',
    result: { safe: false },
  });
});
