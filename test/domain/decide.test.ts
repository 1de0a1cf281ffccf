import t from 'tap';
import { decide, fastNodes, nextWakeMs } from '../../src/domain/decide.ts';
import type { Effect } from '../../src/domain/events.ts';
import { InvariantBroken } from '../../src/domain/invariant.ts';
import { EMPTY_REPORT } from '../../src/domain/reading.ts';
import {
  coolGpu,
  coolNode,
  DomainWorld,
  type FakeNode,
  GPU_A,
  GPU_B,
  LEASE_ID,
  NODE,
  nodeSettings,
  worldSettings,
} from '../support/domain-world.ts';

/** Freezes everything that a value is made of; a Map or Set is made to refuse changes, too. */
function deepFreeze<T>(value: T, seen = new Set<unknown>()): T {
  if (typeof value !== 'object' || value === null || seen.has(value)) return value;
  seen.add(value);
  const refuse = (): never => {
    throw new TypeError('a frozen collection was changed');
  };
  if (value instanceof Map) {
    for (const inner of value.values()) deepFreeze(inner, seen);
    Object.assign(value, { set: refuse, delete: refuse, clear: refuse });
  } else if (value instanceof Set) Object.assign(value, { add: refuse, delete: refuse, clear: refuse });
  for (const inner of Object.values(value)) deepFreeze(inner, seen);
  return Object.freeze(value);
}

const evaluations = (effects: readonly Effect[]): number =>
  effects.filter((effect) => effect.kind === 'publish' && effect.message.type === 'evaluation').length;

t.test(
  'decide() is pure: the same arguments give the same decision, and nothing that it was given changes',
  async (t) => {
    const world = DomainWorld.running();
    world.askLease();
    world.gpu().temperatureC = 82;
    world.run(10);
    const moment = { elapsedMs: world.elapsedMs + 10_000, wallMs: world.wallMs + 10_000, id: 'id' };
    const state = deepFreeze(world.state);
    for (const change of [{ temperatureC: 55 }, { temperatureC: 86 }, { temperatureC: null }, { powerW: 310 }]) {
      Object.assign(world.gpu(), change);
      const event = deepFreeze({ kind: 'observed' as const, why: 'tick' as const, reports: world.reports() });
      t.same(decide(state, event, moment), decide(state, event, moment), JSON.stringify(change));
    }
    const stop = { kind: 'stop-requested' as const, nodes: null, cause: 'manual' as const, reason: '', by: '' };
    t.same(decide(state, stop, moment), decide(state, stop, moment));
  },
);

t.test('decide() ends each tick in exactly one result, whatever failed', async (t) => {
  const world = DomainWorld.running();
  const failures: Record<string, () => void> = {
    nothing: () => undefined,
    'the source fails': () => Object.assign(world.node, { fails: true }),
    'the source answers nothing': () =>
      Object.assign(world.node, {
        fails: false,
        cpuC: {},
        cpuRatio: undefined,
        memoryRatio: undefined,
        totalW: undefined,
        gpus: {},
      }),
    'no node is left': () => {
      world.nodes = {};
    },
  };
  for (const [name, fail] of Object.entries(failures)) {
    fail();
    for (let tick = 0; tick < 3; tick += 1) {
      const before = world.effects.length;
      const { sequence } = world.result;
      world.run(10);
      t.equal(evaluations(world.effects.slice(before)), 1, name);
      t.ok(world.result.sequence > sequence);
    }
  }
  const empty = new DomainWorld(worldSettings({ nodes: new Map() }), {});
  t.match(empty.tick(), { safe: false }, 'nothing is known: not safe');
  t.match(empty.preflight(), { result: { safe: false, action: 'WAIT_COOLDOWN' } });
});

t.test('decide() publishes a change of action at once, and nothing between ticks without one', async (t) => {
  const world = DomainWorld.running();
  world.effects = [];
  world.pass(2_000);
  world.fast();
  t.equal(evaluations(world.effects), 0);
  world.gpu().powerW = 260;
  world.pass(2_000);
  world.fast();
  t.equal(evaluations(world.effects), 1);
  t.equal(world.result.action, 'REDUCE_INTENSITY');
  world.stop();
  t.equal(evaluations(world.effects), 2);
  t.equal(world.result.action, 'ABORT');
  const silent = new DomainWorld();
  silent.submit({ kind: 'observed', why: 'fast', reports: silent.reports() });
  t.equal(evaluations(silent.effects), 0, 'before the first tick there is no action that could change');
});

t.test('decide() counts its messages up without a gap', async (t) => {
  const world = DomainWorld.running();
  world.askLease();
  world.gpu().temperatureC = 86;
  world.run(30);
  const sequences = world.effects.flatMap((effect) => (effect.kind === 'publish' ? [effect.message.sequence] : []));
  t.same(
    sequences,
    sequences.map((_, index) => index + 1),
  );
  t.equal(world.state.sequence, sequences.length);
});

t.test('decide() refuses monotonic time that goes back, and bears a wall clock that does', async (t) => {
  const world = DomainWorld.running();
  world.wallMs -= 5_000;
  t.equal(world.run(10).action, 'PROCEED');
  world.elapsedMs -= 1;
  t.throws(() => world.tick(), InvariantBroken);
});

t.test(
  'decide() takes every reading from before a clock jump of over 15 s for stale, and the next ones again',
  async (t) => {
    // A suspend: two hours on the wall, a second by our clock. What was cached is "one second old".
    for (const [jumpMs, isStale] of [
      [7_200_000, true],
      [15_001, true],
      [15_000, false],
      [-15_001, true],
      [-15_000, false],
    ] as const) {
      const world = DomainWorld.running();
      world.pass(1_000);
      world.wallMs += jumpMs;
      world.submit({ kind: 'clock-looked' });
      const { result } = world.preflight();
      t.ok(result.safe, 'what is read after the jump counts');
      const cached = DomainWorld.running();
      cached.pass(1_000);
      cached.wallMs += jumpMs;
      const answer = cached.submit({
        kind: 'preflight-asked',
        request: { intensity: null, nodes: null, constraints: null, constraintKeys: [] },
        reports: [],
      });
      t.match(answer, { result: { safe: !isStale } }, `a jump of ${jumpMs} ms`);
      t.equal(cached.told('clock-jumped').length, isStale ? 1 : 0);
      cached.pass(10_000);
      t.equal(cached.tick().action, 'PROCEED', 'the new offset is the base');
      t.equal(cached.told('clock-jumped').length, isStale ? 1 : 0);
    }
  },
);

t.test('decide() shortens no duration by a wall-clock jump', async (t) => {
  const world = DomainWorld.running();
  world.askLease({ ttlMs: 30_000, maxDurationMs: 60_000 });
  world.gpu().temperatureC = 82;
  world.run(10);
  world.gpu().temperatureC = 55;
  world.wallMs += 3_600_000;
  world.run(10);
  t.equal(world.interlock, 'cooling');
  t.ok(world.state.leases.has(LEASE_ID));
  world.wallMs -= 7_200_000;
  world.run(10);
  t.notOk(world.state.leases.has(LEASE_ID), 'and lengthens none');
});

t.test('decide() follows a card by its UUID when its number and slot change', async (t) => {
  // Before the reboot slot 21 held a cool card and slot 22 one at 84 °C; afterwards they are the other way round.
  const world = DomainWorld.running();
  Object.assign(world.gpu(GPU_A), { temperatureC: 60, pciAddress: '0000:21:00.0' });
  Object.assign(world.gpu(GPU_B), { temperatureC: 84, pciAddress: '0000:22:00.0' });
  world.run(10);
  t.match(world.result.findings[0], { code: 'over-warning', id: GPU_B });
  world.node.gpus = {
    [GPU_B]: { ...coolGpu(), temperatureC: 85, pciAddress: '0000:21:00.0' },
    [GPU_A]: { ...coolGpu(), temperatureC: 60, pciAddress: '0000:22:00.0' },
  };
  world.run(10);
  t.match(world.state.trips.get(world.tripId), { reason: new RegExp(`${GPU_B}.*85 °C`) });
});

t.test('fastNodes() are the live, the doubtful and the warm, worst first', async (t) => {
  const names = ['idle', 'warm', 'hot', 'live'];
  const settings = worldSettings({ nodes: new Map(names.map((name) => [name, nodeSettings()])) });
  const nodes: Record<string, FakeNode> = Object.fromEntries(
    names.map((name) => [name, { ...coolNode(), gpus: { [`GPU-${name}`]: coolGpu() } }]),
  );
  const world = DomainWorld.running(settings, nodes);
  t.same(fastNodes(world.state), []);
  world.inventory([{ kind: 'pod', node: 'live', name: 'x' }], true);
  Object.assign(nodes['warm']?.gpus['GPU-warm'] ?? {}, { temperatureC: 75 });
  Object.assign(nodes['hot'] ?? {}, { cpuC: 89 });
  Object.assign(nodes['idle']?.gpus['GPU-idle'] ?? {}, { temperatureC: 74.9 });
  world.run(10);
  t.same(fastNodes(world.state), ['hot', 'warm', 'live']);
});

t.test('nextWakeMs() is null while nothing is due', async (t) => {
  t.equal(nextWakeMs(DomainWorld.running().state), null);
});

t.test('decide() throws on an answer of ABORT that nothing has latched', async (t) => {
  // A state as no event can make it: an ABORT stands, and no trip.
  const world = DomainWorld.running();
  const node = world.state.nodes.get(NODE);
  if (!node) throw new Error('no node');
  const findings = [
    {
      code: 'over-hard-stop' as const,
      level: 'critical' as const,
      node: NODE,
      component: 'gpu' as const,
      action: 'ABORT' as const,
      message: '',
    },
  ];
  world.askLease();
  world.state = { ...world.state, nodes: new Map([[NODE, { ...node, findings }]]) };
  t.throws(() => world.renew(), /ABORT was answered untripped/);
});

t.test('decide() takes reports that are late, doubled or of nodes that nobody knows', async (t) => {
  const world = DomainWorld.running();
  const old = world.reports();
  const [first] = old;
  if (!first) throw new Error('no report');
  const empty = { ...first, readings: first.readings.filter((reading) => reading.component !== 'gpu'), gpus: [] };
  world.pass(10_000);
  world.gpu().temperatureC = 82;
  world.tick();
  world.submit({ kind: 'observed', why: 'fast', reports: [...old, ...old, empty] });
  t.equal(world.result.action, 'WAIT_COOLDOWN', 'an older look undoes nothing');
  world.submit({ kind: 'observed', why: 'tick', reports: [] });
  t.same(world.codes, [`over-warning gpu/${GPU_A}/temperature`, 'interlock-cooling interlock//']);
  world.submit({
    kind: 'observed',
    why: 'fast',
    reports: [
      {
        ...EMPTY_REPORT,
        source: 'x',
        node: 'mars',
        startedAtMs: world.elapsedMs,
        finishedAtMs: world.elapsedMs,
        outcome: { kind: 'answered' },
      },
    ],
  });
  t.ok(world.state.nodes.has('mars'));
  t.notOk(world.preflight({ nodes: ['mars'] }).result.safe);
});
