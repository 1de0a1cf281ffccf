// Whole timelines of sensors that lie, as people reported them of miners, printers, exporters and fan controllers: what
// decide() makes of each look, from the first to the last. The single rules have their tests beside this one; here they
// must come out right together, for the reported numbers' kind and not for one number.
import t from 'tap';
import { fastNodes } from '../../src/domain/decide.ts';
import type { Reading } from '../../src/domain/reading.ts';
import { readingStatusesOf } from '../../src/http/status-view.ts';
import { coolGpu, coolNode, DomainWorld, type FakeGpu, GPU_A, NODE, worldSettings } from '../support/domain-world.ts';

const TTL_MS = 86_400_000;

/** A machine with one card, which is in the state `start` and has been for two looks. */
function cardAt(start: FakeGpu, { lease = false } = {}): DomainWorld {
  // In whole watts, so that a fraction in `start` is the first that is seen.
  const gpus = { [GPU_A]: { ...coolGpu(), powerW: 120 } };
  const world = DomainWorld.running(worldSettings(), { [NODE]: { ...coolNode(), gpus } });
  if (lease) world.askLease({ ttlMs: TTL_MS });
  Object.assign(world.gpu(), start);
  world.run(10);
  return world;
}

/** Ten seconds later the card says `change`: the action, or `ABORT` with why. */
function next(world: DomainWorld, change: FakeGpu = {}): string {
  Object.assign(world.gpu(), change);
  return world.run(10).action;
}

/** Value or cause of absence, as /status shows it. */
function shown(world: DomainWorld, quantity: Reading['quantity'] = 'temperature', id = GPU_A): unknown {
  const node = world.state.nodes.get(NODE);
  if (!node) throw new Error('nothing was read');
  const now = { elapsedMs: world.elapsedMs, wallMs: world.wallMs };
  const reading = readingStatusesOf(world.state, node, now).find((r) => r.quantity === quantity && r.id === id);
  return reading?.value ?? reading?.missing;
}

t.test(
  'decide() takes one impossible number of an idle card for no reason to kill, and for none to go on',
  async (t) => {
    for (const mad of [127, 125.5, 255, 511, 65_535, 0, -1, -273.15, Number.NaN, Number.POSITIVE_INFINITY]) {
      for (const lease of [false, true]) {
        const world = cardAt({ temperatureC: 41, powerW: 60.5 }, { lease });
        t.equal(next(world, { temperatureC: mad }), 'WAIT_COOLDOWN', `${mad}`);
        t.equal(shown(world), 'invalid');
        t.equal(world.preflight().result.safe, false);
        world.gpu().temperatureC = 41;
        world.pass(2_000);
        t.equal(world.fast().action, 'PROCEED', 'the next good sample ends it');
        t.equal(world.run(10).action, 'PROCEED');
        t.same(world.orders, [], 'nothing was stopped');
        t.same([world.told('reading-lost').length, world.told('reading-back').length], [1, 1], 'both were told');
        t.equal(world.interlock, 'clear', 'no cooldown by a number that is none');
      }
    }
  },
);

t.test('decide() acts at once on a rise that can be, and on one that cannot once it is confirmed', async (t) => {
  t.equal(next(cardAt({ temperatureC: 84, powerW: 240.5 }), { temperatureC: 86 }), 'ABORT');
  t.equal(next(cardAt({ temperatureC: 45.5, powerW: 240.5 }), { temperatureC: 85 }), 'ABORT', '39.5 °C in 10 s');
  const world = cardAt({ temperatureC: 41, powerW: 60.5 });
  t.equal(next(world, { temperatureC: 118 }), 'WAIT_COOLDOWN');
  t.equal(world.interlock, 'clear');
  world.pass(1_000);
  world.gpu().temperatureC = 117;
  t.equal(world.fast().action, 'ABORT');
  t.equal(world.orders.length, 1);
});

t.test(
  'decide() neither aborts for 511 °C nor ignores it: the sensor is lost, and under load that stops it',
  async (t) => {
    const lost: FakeGpu[][] = [
      [{ temperatureC: 511 }, { powerW: 0 }, {}],
      [{ powerW: 0 }, { temperatureC: 511 }, {}],
      [{ temperatureC: null }, { temperatureC: 511 }, { temperatureC: 0 }],
      [{ temperatureC: Number.NaN, powerW: null }, { temperatureC: -40 }, { powerW: 65_535 }],
    ];
    for (const steps of lost) {
      const idle = cardAt({ temperatureC: 56, powerW: 180.5 });
      const loaded = cardAt({ temperatureC: 56, powerW: 180.5 }, { lease: true });
      for (const step of steps) {
        t.equal(next(idle, step), 'WAIT_COOLDOWN');
        t.equal(next(loaded, step), 'WAIT_COOLDOWN');
        t.ok(loaded.codes.some((code) => code.startsWith(`reading-missing gpu/${GPU_A}/`)));
      }
      t.same(loaded.orders, []);
      t.equal(next(loaded), 'ABORT', 'for 30 s nobody has known how hot it is');
      t.match(loaded.orders, [{ scope: { kind: 'nodes', nodes: [NODE] } }], 'blindness stops its own node');
      t.equal(idle.run(300).action, 'WAIT_COOLDOWN', 'where nothing runs there is nothing to stop, and nothing starts');
    }
  },
);

t.test('decide() stays stopped whatever the sensors say next, until a cool reading and a reset', async (t) => {
  const afterwards: [what: string, (world: DomainWorld) => void, stillRefused: boolean][] = [
    ['the read fails', (world) => Object.assign(world.gpu(), { temperatureC: null }), true],
    ['the source fails', (world) => Object.assign(world.node, { fails: true }), true],
    ['0 °C', (world) => Object.assign(world.gpu(), { temperatureC: 0 }), true],
    ['not a number', (world) => Object.assign(world.gpu(), { temperatureC: Number.NaN }), true],
    ['the card is gone', (world) => Object.assign(world.node, { gpus: {} }), true],
    ['a warm card', (world) => Object.assign(world.gpu(), { temperatureC: 80 }), true],
    ['a cool card', (world) => Object.assign(world.gpu(), { temperatureC: 70 }), false],
  ];
  for (const [what, change, stillRefused] of afterwards) {
    const world = cardAt({ temperatureC: 80, powerW: 240.5 }, { lease: true });
    t.equal(next(world, { temperatureC: 86 }), 'ABORT');
    const { tripId } = world;
    world.gpu().powerW = 31;
    change(world);
    for (let look = 0; look < 12; look++) t.equal(world.run(10).action, 'ABORT', what);
    world.stopReported();
    world.run(30);
    world.restart({ downMs: 5_000 });
    world.inventory();
    t.equal(world.tick().action, 'ABORT', `${what}: after a restart`);
    world.run(10);
    t.equal(world.tripId, tripId);
    t.equal(world.preflight().result.action, 'ABORT');
    world.stopReported();
    const answer = world.reset();
    t.equal(answer.kind, stillRefused ? 'reset-refused' : 'reset-done', `${what}: ${JSON.stringify(answer)}`);
    t.equal(world.state.trips.size, stillRefused ? 1 : 0);
  }
});

t.test('decide() looks more often before the warning, and stops in the first look over the hard stop', async (t) => {
  for (const [before, between, after, isFast] of [
    [62, 78, 94, true],
    [55.5, 75, 88.5, true],
    [50, 74.9, 100, false],
  ] as const) {
    const world = cardAt({ temperatureC: before, powerW: 240.5 });
    t.same(fastNodes(world.state), []);
    t.equal(next(world, { temperatureC: between }), 'PROCEED');
    t.same(fastNodes(world.state), isFast ? [NODE] : [], `${between} °C: within 5 °C of the warning`);
    Object.assign(world.gpu(), { temperatureC: after });
    world.pass(2_000);
    t.equal(world.fast().action, 'ABORT');
    t.equal(world.orders.length, 1);
  }
  const loaded = cardAt({ temperatureC: 40, powerW: 60.5 }, { lease: true });
  t.same(fastNodes(loaded.state), [NODE], 'and wherever a workload runs');
});

t.test('decide() finds a sensor that stands still while the card beside it draws its full power', async (t) => {
  // It was idle and stuck for two minutes before the load came; the power wavers as power does.
  const load = (idleW: number, loadW: number, restC = 28): { world: DomainWorld; stuckAfterS: number | null } => {
    const world = cardAt({ temperatureC: restC, powerW: idleW });
    for (let look = 0; look < 12; look++) next(world, { powerW: idleW + (look % 2) / 4 });
    for (let seconds = 0; seconds <= 300; seconds += 10) {
      if (shown(world) === 'frozen') return { world, stuckAfterS: seconds };
      next(world, { powerW: loadW + ((seconds / 10) % 3) / 4 });
    }
    return { world, stuckAfterS: null };
  };
  for (const [idleW, loadW] of [
    [30.5, 245],
    [12, 180.5],
    [60, 175.25],
  ] as const) {
    const { world, stuckAfterS } = load(idleW, loadW);
    t.ok(stuckAfterS !== null && stuckAfterS <= 120, `${idleW} to ${loadW} W: found after ${stuckAfterS} s`);
    t.equal(world.result.action, 'WAIT_COOLDOWN');
    t.equal(world.preflight().result.safe, false);
    world.gpu().temperatureC = 61;
    t.equal(world.run(10).action, 'PROCEED', 'until it moves');
  }
  t.equal(load(30.5, 120).stuckAfterS, null, '90 W more heat a good cooler by less than a degree, perhaps');
  const stepping = cardAt({ temperatureC: 28, powerW: 30.5 });
  for (let look = 0; look < 30; look++) {
    next(stepping, { powerW: 240.5 + (look % 3) / 4, temperatureC: 28 + (look % 8 === 7 ? 0.5 : 0) });
    t.not(shown(stepping), 'frozen');
  }
});

t.test('decide() stops a workload whose card is stuck, when that has stood for 30 s', async (t) => {
  const world = cardAt({ temperatureC: 28, powerW: 30.5 }, { lease: true });
  world.run(120);
  let seconds = 0;
  for (; seconds < 300 && world.orders.length === 0; seconds += 10)
    next(world, { powerW: 240.5 + (seconds % 30) / 40 });
  t.ok(seconds <= 160, `stopped after ${seconds} s of load`);
  t.match(world.orders, [{ scope: { kind: 'nodes', nodes: [NODE] } }]);
});

t.test('decide() takes a card for frozen that repeats temperature and power to the last digit', async (t) => {
  const repeating = (powerW: number, change: FakeGpu = {}): number | null => {
    const world = cardAt({ temperatureC: 61, powerW, witness: false, ...change });
    for (let seconds = 10; seconds <= 400; seconds += 10) {
      if (next(world) !== 'PROCEED') {
        t.same([shown(world), shown(world, 'power')], ['frozen', 'frozen']);
        t.equal(world.preflight().result.safe, false);
        return seconds;
      }
    }
    return null;
  };
  t.equal(repeating(217.412), 60, 'milliwatts that stand still are no physics');
  t.equal(repeating(50.5), 60);
  t.equal(repeating(49.5), null, 'an idle card does stand still');
  t.equal(repeating(217), 300, 'whole watts take longer');
  const counting = repeating(217.412, { witness: true });
  t.equal(counting, null, 'a counter that goes on counting vouches for the rest');
  const stopped = cardAt({ temperatureC: 61, powerW: 217.412 });
  stopped.run(30);
  stopped.gpu().witness = 77;
  t.equal(stopped.run(10).action, 'PROCEED', 'it changes one last time');
  t.equal(stopped.run(20).action, 'PROCEED');
  t.equal(stopped.run(10).action, 'WAIT_COOLDOWN', 'and has stood still for 30 s');
  t.equal(shown(stopped), 'frozen');
});

t.test('decide() disbelieves a sensor that fell off under load, until it is seen a second time', async (t) => {
  for (const [fromC, toC, fromW, toW] of [
    [78, 24, 240, 241.5],
    [79.5, 39.25, 150.5, 150.5],
    [70, 1, 200.5, 181],
  ] as const) {
    const world = cardAt({ temperatureC: fromC, powerW: fromW }, { lease: true });
    t.equal(next(world, { temperatureC: toC, powerW: toW }), 'WAIT_COOLDOWN');
    t.equal(shown(world), 'implausible-fall');
    t.equal(world.preflight().result.safe, false);
    t.equal(
      next(world, { temperatureC: toC - 0.5, powerW: toW + 1 }),
      'PROCEED',
      'a second, newer sample says it, too',
    );
    t.same(world.orders, []);
  }
  const back = cardAt({ temperatureC: 78, powerW: 240 });
  next(back, { temperatureC: 24 });
  t.equal(next(back, { temperatureC: 78.5 }), 'PROCEED', 'a loose wire that makes contact again');
  const gone = cardAt({ temperatureC: 78, powerW: 240 }, { lease: true });
  next(gone, { temperatureC: 24 });
  next(gone, { temperatureC: null });
  next(gone);
  t.equal(next(gone), 'ABORT', 'one that does not come back is missing from the fall on');
  const stopped = cardAt({ temperatureC: 78, powerW: 240 });
  t.equal(next(stopped, { temperatureC: 30, powerW: 31 }), 'PROCEED', 'where the power fell, too, the load has ended');
});

t.test('decide() lets a machine wait that is hot and stable: never PROCEED, never ABORT', async (t) => {
  for (const [what, heat] of [
    ['GPU at 82', (world: DomainWorld) => Object.assign(world.gpu(), { temperatureC: 82 })],
    ['GPU at 80', (world: DomainWorld) => Object.assign(world.gpu(), { temperatureC: 80 })],
    ['GPU at 84.9', (world: DomainWorld) => Object.assign(world.gpu(), { temperatureC: 84.9 })],
    ['CPU at 94.9', (world: DomainWorld) => Object.assign(world.node, { cpuC: 94.9 })],
  ] as const) {
    const world = cardAt({ temperatureC: 60, powerW: 240.5 }, { lease: true });
    heat(world);
    for (let seconds = 0; seconds <= 600; seconds += 10) {
      const { action, waitSeconds } = world.run(10);
      t.equal(action, 'WAIT_COOLDOWN', `${what} after ${seconds} s`);
      t.ok(waitSeconds !== undefined && waitSeconds > 0 && waitSeconds <= 60, `${waitSeconds} s to wait`);
      t.equal(world.told('not-obeyed').length, seconds < 120 ? 0 : 1, `not-obeyed once, ${seconds} s`);
      if (seconds % 60 === 0) t.match(world.renew(), { result: { action: 'WAIT_COOLDOWN' } });
    }
    t.same(world.orders, []);
  }
  const world = cardAt({ temperatureC: 82, powerW: 240.5 });
  world.run(60);
  next(world, { temperatureC: 78.1 });
  t.equal(world.run(120).action, 'WAIT_COOLDOWN', 'less than 2 °C below its warning');
  t.equal(next(world, { temperatureC: 78 }), 'PROCEED');
});

t.test('decide() judges nothing by what was read before the machine slept', async (t) => {
  for (const [jumpMs, isStale] of [
    [7_200_000, true],
    [15_100, true],
    [-3_600_000, true],
    [14_000, false],
  ] as const) {
    const world = cardAt({ temperatureC: 60, powerW: 120.5 }, { lease: true });
    world.pass(1_000);
    world.wallMs += jumpMs;
    world.submit({ kind: 'clock-looked' });
    t.equal(shown(world), isStale ? 'stale' : 60, `${jumpMs} ms`);
    // What is answered before the next look says so.
    t.match(world.renew(), { result: { action: isStale ? 'WAIT_COOLDOWN' : 'PROCEED' } });
    world.pass(1_000);
    t.equal(world.tick().action, 'PROCEED', 'the next look counts again');
    t.same(world.orders, []);
  }
});

t.test('decide() misses every card that is gone: one of four, three of four, all four', async (t) => {
  const names = ['GPU-0', 'GPU-1', 'GPU-2', 'GPU-3'];
  const four = () => Object.fromEntries(names.map((name, n) => [name, { ...coolGpu(), powerW: 230.5 + n }]));
  for (const gone of [['GPU-2'], ['GPU-0', 'GPU-1', 'GPU-3'], names]) {
    const world = DomainWorld.running(worldSettings(), { [NODE]: { ...coolNode(), gpus: four() } });
    world.askLease({ ttlMs: TTL_MS });
    for (const name of gone) delete world.node.gpus[name];
    t.equal(world.run(10).action, 'WAIT_COOLDOWN');
    const missing = new Set(world.result.findings.map(({ id }) => id));
    t.same([...missing].sort(), gone, 'each is named');
    t.ok(world.result.findings.every(({ code, level }) => code === 'reading-missing' && level === 'missing'));
    t.equal(world.preflight().result.safe, false);
    t.equal(world.run(30).action, 'ABORT', 'and stops its node when it does not come back');
    t.match(world.orders, [{ scope: { kind: 'nodes', nodes: [NODE] } }]);
    world.restart();
    world.inventory();
    world.tick();
    t.match(
      world.run(10).findings.filter(({ code }) => code === 'reading-missing').length,
      3 * gone.length,
      'remembered over a restart',
    );
  }
});

t.test('decide() misses a CPU chip that its source lists and has never read', async (t) => {
  for (const silent of [null, Number.NaN, 0, 511]) {
    const node = { ...coolNode(), cpuC: { 'coretemp-0': 50, 'coretemp-1': silent } as Record<string, number | null> };
    const world = DomainWorld.running(worldSettings(), { [NODE]: node });
    t.same(world.codes, ['reading-missing cpu//temperature'], `${silent}`);
    node.cpuC = { 'coretemp-0': 50, 'coretemp-1': 51 };
    t.equal(world.run(10).action, 'PROCEED');
  }
});
