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
import { OTHER_NODE, twoLeases } from '../support/two-nodes.ts';

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

t.test('decide() misses every required reading of a configured node that no source has told of', async (t) => {
  const nodes = new Map([NODE, 'silent'].map((name) => [name, nodeSettings()]));
  const world = DomainWorld.running(worldSettings({ nodes }));
  t.equal(world.result.action, 'WAIT_COOLDOWN');
  const missing = world.result.findings.filter(({ node }) => node === 'silent');
  t.same(missing.map(({ code, component, quantity }) => `${code} ${component} ${quantity}`).sort(), [
    'reading-missing cpu temperature',
    'reading-missing cpu utilization',
    'reading-missing memory memory',
  ]);
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

t.test(
  "fastNodes() measures a temperature by its own warning: a CPU's, a card's, and no reading that is missing",
  async (t) => {
    const world = DomainWorld.running();
    const isFastAt = (change: () => void): boolean => {
      change();
      world.run(10);
      return fastNodes(world.state).length > 0;
    };
    t.notOk(
      isFastAt(() => Object.assign(world.node, { cpuC: 84.9 })),
      'a CPU may be warmer than a card',
    );
    t.ok(isFastAt(() => Object.assign(world.node, { cpuC: 85 })));
    t.notOk(isFastAt(() => Object.assign(world.node, { cpuC: 50 })));
    t.ok(isFastAt(() => Object.assign(world.gpu(), { temperatureC: 76 })));
    t.notOk(
      isFastAt(() => Object.assign(world.gpu(), { temperatureC: null })),
      'nothing is read any more that is warm',
    );
    const node = coolNode();
    Object.assign(node.gpus[GPU_A] ?? {}, { slowdownC: 65, temperatureC: 55.5 });
    t.same(
      fastNodes(DomainWorld.running(worldSettings(), { [NODE]: node }).state),
      [NODE],
      'by its slowdown temperature',
    );
  },
);

t.test('fastNodes() are 200 at most, the worst ones', async (t) => {
  const names = Array.from({ length: 201 }, (_, at) => `node-${at}`);
  const nodes = Object.fromEntries(names.map((name) => [name, { ...coolNode(), cpuC: 88.25, gpus: {} }]));
  Object.assign(nodes['node-200'] ?? {}, { cpuC: 89 });
  const world = new DomainWorld(worldSettings({ nodes: new Map(names.map((name) => [name, nodeSettings()])) }), nodes);
  world.tick();
  const fast = fastNodes(world.state);
  t.same([fast.length, fast[0]], [200, 'node-200']);
});

t.test('nextWakeMs() never names a time that is over: nobody would sleep again', async (t) => {
  const wakesLater = (world: DomainWorld): boolean => (nextWakeMs(world.state) ?? Infinity) > world.elapsedMs;
  const looked = DomainWorld.running();
  looked.gpu().powerW = 305;
  looked.fast();
  looked.pass(2_000);
  looked.submit({ kind: 'clock-looked' });
  t.equal(looked.interlock, 'tripped');
  t.ok(wakesLater(looked), 'a second look that is over stands until its reading comes down');
  const blind = DomainWorld.running();
  blind.askLease();
  blind.node.fails = true;
  for (let atS = 0; atS < 120; atS += 10) {
    blind.run(10);
    t.ok(wakesLater(blind), `${atS} s blind`);
  }
  t.equal(blind.interlock, 'tripped');
});

t.test('decide() judges by a question every node that it is about, read or not', async (t) => {
  for (const asked of [null, ['other']]) {
    const settings = worldSettings({ nodes: new Map([NODE, 'other'].map((name) => [name, nodeSettings()])) });
    const world = DomainWorld.running(settings, {
      [NODE]: coolNode(),
      other: { ...coolNode(), gpus: { 'GPU-c': coolGpu() } },
    });
    Object.assign(world.nodes['other']?.gpus['GPU-c'] ?? {}, { powerW: 305 });
    world.fast();
    world.pass(2_000);
    const reports = world.reports().filter(({ node }) => node === NODE);
    const request = { intensity: null, nodes: asked, constraints: null, constraintKeys: [] };
    const answer = world.submit({ kind: 'preflight-asked', request, reports });
    t.match(answer, { kind: 'judged', isTripped: true, result: { action: 'ABORT' } }, 'no second sample came in time');
  }
});

t.test('decide() takes a tick for an evaluation whoever was silent, and a look at all nodes, too', async (t) => {
  const settings = worldSettings({ nodes: new Map([NODE, 'silent'].map((name) => [name, nodeSettings()])) });
  const silent = DomainWorld.running(settings);
  t.equal(silent.askLease({ nodes: [NODE] }).kind, 'granted');
  silent.run(40);
  t.equal(silent.renew().kind, 'renewed');
  const world = DomainWorld.running();
  world.askLease();
  for (let atS = 0; atS < 40; atS += 2) {
    world.pass(2_000);
    world.fast();
  }
  t.equal(world.renew().kind, 'renewed');
});

t.test('decide() judges when any second look is due, not when all are', async (t) => {
  const world = DomainWorld.running();
  world.gpu(GPU_A).powerW = 305;
  world.fast();
  world.pass(1_500);
  Object.assign(world.gpu(GPU_A), { powerW: null });
  world.gpu(GPU_B).powerW = 305;
  world.fast();
  world.pass(500);
  world.submit({ kind: 'clock-looked' });
  t.equal(world.interlock, 'tripped');
});

t.test('decide() tells once that the journal failed, and once that it is back', async (t) => {
  const world = DomainWorld.running();
  for (const ok of [false, false, true, true]) world.submit({ kind: 'journal-reported', ok, detail: 'ENOSPC' });
  t.equal(world.told('journal-failed').length, 1);
  t.equal(world.told('journal-back').length, 1);
});

t.test('decide() publishes what a start is refused for as long as some node is idle', async (t) => {
  const world = twoLeases();
  world.inventory([], false, false);
  t.equal(world.run(10).action, 'PROCEED', 'both nodes are at work, and what runs may go on');
  world.submit({ kind: 'release-asked', leaseId: LEASE_ID, identity: 'local' });
  t.match(world.run(10), { action: 'WAIT_COOLDOWN', findings: [{ code: 'actuator-unavailable' }] });
});

t.test("decide() publishes each node's worst margin, judged in this step or not", async (t) => {
  const world = twoLeases();
  const margins = () =>
    world.effects.flatMap((effect) =>
      effect.kind === 'publish' && effect.message.type === 'evaluation' ? [effect.message.data.worstMargins] : [],
    );
  world.gpu().temperatureC = 68;
  world.run(10);
  const [first] = margins();
  t.match(first, [
    { node: NODE, component: 'gpu', quantity: 'temperature', value: 68, limit: 85, marginRatio: 0.2 },
    { node: OTHER_NODE, component: 'gpu', quantity: 'temperature', value: 55.25 },
  ]);
  world.effects = [];
  world.gpu().temperatureC = 81;
  world.submit({ kind: 'observed', why: 'fast', reports: world.reports().filter(({ node }) => node === NODE) });
  t.match(margins(), [
    [
      { node: NODE, value: 81 },
      { node: OTHER_NODE, value: 55.25 },
    ],
  ]);
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
