// A single mad sample kills nothing, and delays nothing for long.
import t from 'tap';
import { nextWakeMs } from '../../src/domain/decide.ts';
import {
  coolGpu,
  coolNode,
  DomainWorld,
  GPU_A,
  GPU_B,
  LEASE_ID,
  NODE,
  worldSettings,
} from '../support/domain-world.ts';

/** Wakes the world as the supervisor would, `ms` from now. */
function wakeAfter(world: DomainWorld, ms: number): void {
  world.pass(ms);
  world.submit({ kind: 'clock-looked' });
}

const lookDeadlines = (world: DomainWorld): number[] =>
  world.effects.flatMap((effect) => (effect.kind === 'look-again' ? [effect.deadlineMs - world.elapsedMs] : []));

t.test('decide() stops at once for a temperature that reached its hard stop by a possible rise', async (t) => {
  // 62, 78, 94 °C: faster than any tick can follow, and no jump.
  const world = DomainWorld.running();
  for (const temperatureC of [62, 78]) {
    world.gpu().temperatureC = temperatureC;
    world.run(10);
    t.equal(world.interlock, 'clear');
  }
  world.gpu().temperatureC = 94;
  world.run(10);
  t.match(world.result, { action: 'ABORT', interlock: { state: 'tripped' } });
  for (const temperatureC of [85, 95.25]) {
    const at = DomainWorld.running();
    at.gpu().temperatureC = temperatureC;
    at.run(10);
    t.equal(at.interlock, 'tripped', `a rise of ${temperatureC - 55.25} °C in 10 s`);
  }
});

t.test('decide() waits for a second sample where a hard stop came by a jump of over 40 °C in 10 s', async (t) => {
  const world = DomainWorld.running();
  world.gpu().temperatureC = 95.5;
  world.run(10);
  t.match(world.result, { action: 'WAIT_COOLDOWN', interlock: { state: 'clear' } });
  t.match(world.result.findings, [{ code: 'over-hard-stop', level: 'warning', action: 'WAIT_COOLDOWN' }]);
  t.same(lookDeadlines(world), [2_000], 'it asks for another look within 2 s');
  t.equal(nextWakeMs(world.state), world.elapsedMs + 2_000);
});

t.test('decide() forgets a mad sample that the next one takes back: no stop, no cooldown, one event', async (t) => {
  // 41, 127 is impossible and so invalid; 41, 110 is possible and mad.
  for (const mad of [110, 127]) {
    const world = DomainWorld.running();
    world.askLease();
    world.gpu().temperatureC = 41;
    world.run(10);
    world.gpu().temperatureC = mad;
    world.run(10);
    t.equal(world.result.action, 'WAIT_COOLDOWN', `${mad} °C`);
    world.gpu().temperatureC = 41;
    world.pass(2_000);
    world.fast();
    t.match(world.result, { action: 'PROCEED', interlock: { state: 'clear' } }, 'and PROCEED is published at once');
    world.run(60);
    t.ok(world.state.leases.has(LEASE_ID));
    t.equal(world.told('tripped').length, 0);
    t.equal(world.told('cooling-started').length, 0);
    t.equal(world.told('sensor-glitch').length, mad === 110 ? 1 : 0);
  }
});

t.test('decide() looks once more where the deadline of a second look was slept through', async (t) => {
  /** The service stands still for 40 s right after the sample; what it held is too old by then. */
  const wokenUp = (source: 'sound' | 'dead' = 'sound'): DomainWorld => {
    const world = DomainWorld.running();
    world.askLease();
    world.gpu().temperatureC = 96;
    world.run(10);
    world.effects = [];
    if (source === 'dead') world.node.fails = true;
    wakeAfter(world, 40_000);
    t.match(world.result, { action: 'WAIT_COOLDOWN', interlock: { state: 'clear' } });
    t.same(lookDeadlines(world), [2_000], 'it asks for a look again');
    t.equal(nextWakeMs(world.state), world.elapsedMs + 2_000);
    return world;
  };
  const mad = wokenUp();
  mad.gpu().temperatureC = 55;
  mad.pass(1_000);
  t.match(mad.fast(), { action: 'PROCEED', interlock: { state: 'clear' } });
  t.equal(mad.told('sensor-glitch').length, 1);
  const hot = wokenUp();
  hot.pass(1_000);
  t.match(hot.fast(), { action: 'ABORT', interlock: { state: 'tripped' } });
  const silent = wokenUp('dead');
  wakeAfter(silent, 1_999);
  t.equal(silent.interlock, 'clear');
  wakeAfter(silent, 1);
  t.equal(silent.interlock, 'tripped', 'none to be had: it counts');
  const again = wokenUp('dead');
  wakeAfter(again, 40_000);
  t.equal(again.interlock, 'tripped', 'and so it does where that is slept through, too');
});

t.test('decide() stops when a newer sample confirms the jump, at once and without a glitch', async (t) => {
  const world = DomainWorld.running();
  world.gpu().temperatureC = 96;
  world.run(10);
  world.pass(1_000);
  world.fast();
  t.match(world.result, { action: 'ABORT', interlock: { state: 'tripped' } });
  world.gpu().temperatureC = 60;
  world.run(20);
  t.equal(world.told('sensor-glitch').length, 0);
});

t.test('decide() lets every power over its hard stop wait for a second sample, and stops by it', async (t) => {
  for (const [name, heat] of [
    ['a GPU', (world: DomainWorld) => Object.assign(world.gpu(), { powerW: 300 })],
    ['the total', (world: DomainWorld) => Object.assign(world.node, { totalW: 2200 })],
  ] as const) {
    const world = DomainWorld.running();
    heat(world);
    world.run(10);
    t.match(world.result, { action: 'WAIT_COOLDOWN', interlock: { state: 'clear' } }, name);
    world.pass(500);
    world.fast();
    t.equal(world.interlock, 'tripped', name);
  }
});

t.test('decide() says nothing of a glitch when a power that tripped falls after the stop', async (t) => {
  const world = DomainWorld.running();
  world.gpu().powerW = 320;
  world.run(20);
  t.equal(world.interlock, 'tripped');
  world.gpu().powerW = 40;
  world.run(20);
  t.equal(world.told('sensor-glitch').length, 0);
});

t.test('decide() forgets a power that was over its hard stop in one sample only', async (t) => {
  const world = DomainWorld.running();
  world.gpu().powerW = 749.67;
  world.run(10);
  world.gpu().powerW = 90;
  world.pass(2_000);
  t.equal(world.fast().action, 'PROCEED');
  t.match(world.told('sensor-glitch'), [{ message: /749.6 W/ }]);
});

t.test('decide() does not take the same sample again for a confirmation', async (t) => {
  const world = DomainWorld.running();
  world.gpu().witness = 7;
  world.run(10);
  Object.assign(world.gpu(), { powerW: 320, witness: 8 });
  world.run(10);
  world.pass(1_000);
  world.fast();
  t.equal(world.interlock, 'clear', 'the counter has not moved: nothing newer was read');
  wakeAfter(world, 1_000);
  t.equal(world.interlock, 'tripped', 'but none to be had in time confirms it');
});

t.test('decide() stops at the deadline when nobody answers the second look', async (t) => {
  const world = DomainWorld.running();
  world.gpu().powerW = 320;
  world.run(10);
  wakeAfter(world, 1_999);
  t.equal(world.interlock, 'clear');
  wakeAfter(world, 1);
  t.match(world.result, { action: 'ABORT', interlock: { state: 'tripped' } }, 'published at once');
});

t.test('decide() stops at the deadline when the reading is lost meanwhile, required or not', async (t) => {
  const lost: Record<string, [(world: DomainWorld) => void, (world: DomainWorld) => void]> = {
    'a GPU that answers without its power': [
      (world) => Object.assign(world.gpu(), { powerW: 320 }),
      (world) => Object.assign(world.gpu(), { powerW: null }),
    ],
    'a GPU that is gone': [
      (world) => Object.assign(world.gpu(), { powerW: 320 }),
      (world) => Object.assign(world.node, { gpus: {} }),
    ],
    'a source that fails': [
      (world) => Object.assign(world.gpu(), { powerW: 320 }),
      (world) => Object.assign(world.node, { fails: true }),
    ],
    'a total that nobody requires': [
      (world) => Object.assign(world.node, { totalW: 2300 }),
      (world) => Object.assign(world.node, { totalW: undefined }),
    ],
    'one chip of the CPU': [
      (world) => Object.assign(world.node, { cpuC: { 'coretemp-0': 100 } }),
      (world) => Object.assign(world.node, { cpuC: {} }),
    ],
  };
  for (const [name, [heat, lose]] of Object.entries(lost)) {
    const world = DomainWorld.running();
    heat(world);
    world.run(10);
    t.equal(world.result.action, 'WAIT_COOLDOWN', name);
    lose(world);
    world.pass(1_000);
    world.fast();
    t.not(world.interlock, 'tripped', `${name}: not before the deadline`);
    wakeAfter(world, 1_000);
    t.match(world.result, { action: 'ABORT', interlock: { state: 'tripped' } }, name);
  }
});

t.test('decide() waits for one update period of a slow source, 5 s at most', async (t) => {
  for (const [periodS, expectedMs] of [
    [4, 4_000],
    [20, 5_000],
  ] as const) {
    const world = DomainWorld.running();
    let counter = 100;
    for (let atS = 0; atS < 80; atS += 2) {
      if (atS % periodS === 0) counter += 1;
      for (const gpu of Object.values(world.node.gpus)) gpu.witness = counter;
      world.pass(2_000);
      world.tick();
    }
    world.gpu().powerW = 320;
    world.pass(2_000);
    world.tick();
    t.same(lookDeadlines(world), [expectedMs], `${periodS} s`);
  }
});

t.test(
  'decide() starts no cooldown by an unconfirmed hard stop, and one by a jump that is only a warning',
  async (t) => {
    const stop = DomainWorld.running();
    stop.gpu().temperatureC = 96;
    stop.run(10);
    t.equal(stop.state.nodes.get(NODE)?.cooling, null);
    const warning = DomainWorld.running();
    warning.gpu().temperatureC = 38;
    warning.run(10);
    warning.gpu().temperatureC = 81;
    warning.run(10);
    t.equal(warning.interlock, 'cooling', 'a jump from 38 to 81 °C');
    warning.gpu().temperatureC = 60;
    warning.run(10);
    t.equal(warning.interlock, 'cooling');
  },
);

t.test('decide() judges the second look by the sensor that was over, not by another', async (t) => {
  const world = DomainWorld.running();
  world.gpu(GPU_A).powerW = 320;
  world.run(10);
  world.node.gpus = Object.fromEntries(
    Object.entries(coolNode().gpus).map(([id, gpu]) => [id, { ...gpu, powerW: 310 }]),
  );
  world.gpu(GPU_A).powerW = 100;
  world.pass(1_000);
  world.fast();
  t.equal(world.interlock, 'clear', 'the other card has only just begun');
  world.pass(1_000);
  world.fast();
  t.equal(world.interlock, 'tripped');
});

t.test('decide() does not let a look from before a reset trip again', async (t) => {
  const world = DomainWorld.running(worldSettings());
  world.node.totalW = 2300;
  world.run(10);
  world.cool();
  world.node.totalW = undefined as never;
  wakeAfter(world, 2_000);
  t.equal(world.interlock, 'tripped');
  world.stopReported();
  const { tripId } = world;
  t.same(world.reset(), { kind: 'reset-done', tripId, epoch: 1 });
  world.run(60);
  t.equal(world.interlock, 'clear');
});

/** A second CPU chip that gives the stamps of its samples: what it says at so many seconds before now. */
const stampedCpu = (world: DomainWorld, value: number, ageS: number): void => {
  world.node.also = [
    {
      component: 'cpu',
      id: 'stamped',
      quantity: 'temperature',
      value,
      origin: 'x',
      sampledAtMs: world.elapsedMs - ageS * 1_000,
    },
  ];
};

t.test('decide() stops for a hard stop in the answer asked for last, though its stamp is from before', async (t) => {
  const world = DomainWorld.running();
  for (let look = 0; look < 3; look += 1) {
    world.pass(2_000);
    stampedCpu(world, 70, 0);
    world.fast();
  }
  world.pass(1_000);
  stampedCpu(world, 97, 20);
  t.match(world.preflight(), { result: { safe: false, action: 'ABORT', interlock: { state: 'tripped' } } });

  const cool = DomainWorld.running();
  cool.pass(2_000);
  stampedCpu(cool, 50, 0);
  cool.fast();
  cool.pass(1_000);
  stampedCpu(cool, 97, 20);
  t.match(cool.preflight(), { result: { action: 'WAIT_COOLDOWN', interlock: { state: 'clear' } } }, 'by a jump');
  cool.pass(1_000);
  stampedCpu(cool, 97, 20);
  cool.fast();
  t.equal(cool.interlock, 'tripped', 'until the next sample of the same clock');
});

t.test('decide() lets no repeated sample of a power confirm itself by a stamp from before', async (t) => {
  const world = DomainWorld.running();
  const atS = (seconds: number): number => seconds * 1_000;
  /** Told in turn by two servers that share an address: what each of them has, with its stamp. */
  const say = (powerW: number, sampledAtMs: number): void => {
    world.node.gpus = {
      [GPU_A]: { temperatureC: 55.25, memoryRatio: 0.3 },
      [GPU_B]: coolGpu(),
    };
    world.node.also = [{ component: 'gpu', id: GPU_A, quantity: 'power', value: powerW, origin: 'x', sampledAtMs }];
    world.pass(1_000);
    world.fast();
  };
  const startMs = world.elapsedMs;
  say(150, startMs);
  say(350, startMs + atS(1));
  t.match(world.result, { action: 'WAIT_COOLDOWN' }, 'a mad one');
  say(350, startMs + atS(0.8));
  t.equal(world.interlock, 'clear', 'the same one, by a clock that is read coarsely');
  say(150, startMs + atS(4));
  t.match(world.result, { action: 'PROCEED' }, 'taken back');
  for (let turn = 0; turn < 5; turn += 1) {
    say(350, startMs + atS(1));
    t.match(
      world.result,
      { action: 'WAIT_COOLDOWN', interlock: { state: 'clear' } },
      'told again by the one that lags',
    );
    say(150, world.elapsedMs);
    t.match(world.result, { action: 'PROCEED', interlock: { state: 'clear' } });
  }

  say(350, world.elapsedMs - atS(20));
  t.equal(world.interlock, 'clear');
  say(350, world.elapsedMs - atS(20));
  t.equal(world.interlock, 'tripped', 'a newer one of the same clock confirms it');
});
