// Random worlds and random orders of events: the invariants hold, nothing throws, and the record gives back the state.
import * as fc from 'fast-check';
import t from 'tap';
import { restoreState } from '../../src/domain/durable.ts';
import type { Effect } from '../../src/domain/events.ts';
import { severityOf } from '../../src/domain/result.ts';
import type { SafetyState } from '../../src/domain/state.ts';
import { coolNode, DomainWorld, type FakeNode, GPU_A, GPU_B, NODE, worldSettings } from '../support/domain-world.ts';
import { fuzz } from '../support/fuzz.ts';

const evaluations = (effects: readonly Effect[]): number =>
  effects.filter((effect) => effect.kind === 'publish' && effect.message.type === 'evaluation').length;

const value = (cool: number, ...others: number[]): fc.Arbitrary<number | null | undefined> =>
  fc.oneof(
    { weight: 40, arbitrary: fc.constant(cool) },
    { weight: 4, arbitrary: fc.constantFrom(...others) },
    { weight: 1, arbitrary: fc.constantFrom(null, undefined, Number.NaN, 0, -1, 1e9) },
  );
const card = fc.record({
  temperatureC: value(55.5, 30, 79.9, 81, 84.9, 85, 99, 124),
  powerW: value(120.5, 49, 251, 299, 301, 700),
  memoryRatio: value(0.3, 0.95),
  witness: fc.constantFrom(true, true, true, false, 7),
  throttled: fc.constantFrom('', '', '', 'HW power brake'),
});
const nodeWorld = fc.record({
  cpuC: value(50, 30, 91, 96),
  cpuRatio: value(0.2, 0.9),
  memoryRatio: value(0.4, 0.9),
  totalW: value(600, 2100, 2300),
  fails: fc.constantFrom(false, false, false, false, true),
  a: fc.option(card),
  b: fc.option(card),
});
const action = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('tick' as const), node: nodeWorld }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('fast' as const), node: nodeWorld }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constantFrom('cool', 'lease', 'begin', 'renew', 'reset', 'recover') }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constantFrom('wake', 'raise', 'release', 'preflight', 'verified', 'inventory', 'forget'),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constantFrom('stop', 'stop-node', 'restart', 'jump', 'journal', 'drill') }),
  },
);
const step = fc.record({ action, passMs: fc.constantFrom(0, 1, 500, 2_000, 10_000, 10_000, 31_000, 61_000) });
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

/** Everything is cool for some ticks. */
function coolDown(world: DomainWorld, ticks: number): void {
  world.nodes = { [NODE]: coolNode() };
  world.cool();
  world.tick();
  world.run(ticks * 10);
}

function act(world: DomainWorld, { action, passMs }: Step): void {
  world.pass(passMs);
  if ('node' in action) {
    const { a, b, ...node } = action.node;
    const gpus = Object.fromEntries([[GPU_A, a] as const, [GPU_B, b] as const].filter(([, gpu]) => gpu !== null));
    world.nodes = { [NODE]: { ...node, gpus } as FakeNode };
  }
  switch (action.do) {
    case 'tick':
    case 'fast':
      world.submit({ kind: 'observed', why: action.do, reports: world.reports() });
      break;
    case 'wake':
      world.submit({ kind: 'clock-looked' });
      break;
    case 'lease':
      world.askLease({ id: `lease-${world.elapsedMs}`, ttlMs: 30_000 });
      break;
    case 'renew':
    case 'raise':
      for (const id of world.state.leases.keys()) world.renew(action.do === 'raise' ? 0.8 : null, id);
      break;
    case 'release': {
      const [leaseId = 'none'] = world.state.leases.keys();
      world.submit({ kind: 'release-asked', leaseId, identity: 'local' });
      break;
    }
    case 'preflight':
      world.preflight();
      break;
    case 'verified':
      for (const id of world.state.trips.keys()) world.stopReported(true, id);
      break;
    case 'reset':
      for (const id of [...world.state.trips.keys()]) world.reset({ tripId: id, acknowledgeUnverified: true });
      break;
    case 'cool':
      coolDown(world, 1);
      break;
    case 'begin':
      coolDown(world, 7);
      world.askLease({ id: `lease-${world.elapsedMs}`, ttlMs: 300_000 });
      break;
    case 'recover':
      coolDown(world, 1);
      for (const id of [...world.state.trips.keys()]) world.reset({ tripId: id, acknowledgeUnverified: true });
      break;
    case 'inventory':
      world.inventory([{ kind: 'pod', node: NODE, name: 'x' }], true);
      break;
    case 'forget':
      world.submit({ kind: 'forget-requested', node: NODE, gpu: GPU_B, reason: 'sold', by: 'ada' });
      break;
    case 'stop':
      world.stop();
      break;
    case 'stop-node':
      world.stop([NODE]);
      break;
    case 'restart':
      world.restart();
      break;
    case 'jump':
      world.wallMs += 60_000;
      break;
    case 'journal':
      world.submit({ kind: 'journal-reported', ok: !world.state.journal.ok, detail: 'ENOSPC' });
      break;
    case 'drill':
      world.submit({ kind: 'drill-requested', nodes: null, by: 'ada' });
      break;
  }
}

/** What the durable part of a state is, for a comparison after a replay. */
function durablePart(state: SafetyState): unknown {
  const gpus = [...state.nodes].flatMap(([name, node]) =>
    [...node.watch.gpus.known.values()].map((gpu) => [name, gpu]),
  );
  return JSON.parse(
    JSON.stringify({
      trips: [...state.trips.values()].map(({ tripId, scope, cause, reason, by, targets, loadedW }) => ({
        tripId,
        scope,
        cause,
        reason,
        by,
        targets,
        loadedW,
      })),
      leases: [...state.leases.values()].map(({ id, identity, intensity, nodes, reducedUntilMs }) => ({
        id,
        identity,
        intensity,
        nodes,
        isCut: reducedUntilMs !== null,
      })),
      ended: [...state.endedLeases.keys()].sort(),
      cooling: [...state.nodes].filter(([, node]) => node.cooling).map(([name]) => name),
      gpus,
      epoch: state.epoch,
      lastResetWallMs: state.lastResetWallMs,
      lastTripId: state.lastTrip?.trip.tripId ?? null,
    }),
  );
}

t.test('decide() keeps its invariants under any order of events, and never throws', async (t) => {
  const scopes = ['cluster', 'node'] as const;
  let trips = 0;
  let grants = 0;
  let resets = 0;
  fc.assert(
    fc.property(fc.array(step, { minLength: 5, maxLength: 40 }), fc.constantFrom(...scopes), (steps, tripScope) => {
      const world = DomainWorld.running(worldSettings({ tripScope }));
      for (const one of steps) {
        const before = world.state;
        const restarts = one.action.do === 'restart';
        world.effects = [];
        act(world, one);
        const { state } = world;
        // I1, I6: only an operator's reset ends a trip; a restart does not.
        for (const id of before.trips.keys()) {
          const isTakenOver = [...state.trips.values()].some((trip) => trip.scope.kind === 'all');
          if (!state.trips.has(id) && one.action.do !== 'reset' && one.action.do !== 'recover' && !isTakenOver)
            throw new Error(`trip ${id} ended by ${one.action.do}`);
        }
        // I2: nothing is granted by anything but a lease asked for while clear.
        const isHeld = state.trips.size > 0 || [...state.nodes.values()].some((node) => node.cooling);
        for (const id of state.leases.keys()) {
          if (!before.leases.has(id) && (isHeld || (one.action.do !== 'lease' && one.action.do !== 'begin')))
            throw new Error(`lease ${id} granted`);
        }
        // No lease outlives a trip that covers it.
        if (state.trips.size > 0 && state.leases.size > 0) throw new Error('a lease lives while its node is tripped');
        // I4, I7, and ABORT is never published untripped.
        if (one.action.do === 'tick' && evaluations(world.effects) !== 1) throw new Error('a tick without one result');
        const { lastResult } = state;
        if (lastResult) {
          const worst = Math.max(0, ...lastResult.findings.map((finding) => severityOf(finding.action)));
          if (severityOf(lastResult.action) !== worst) throw new Error("the action is not the worst finding's");
          if (lastResult.safe !== (lastResult.action === 'PROCEED')) throw new Error('safe without PROCEED');
          if (lastResult.action === 'ABORT' && lastResult.interlock.state !== 'tripped')
            throw new Error('ABORT untripped');
        }
        // I5: an order only with a trip, or for a lease that ended by itself.
        for (const order of world.orders) {
          const isKnown = state.trips.has(order.orderId) || order.orderId.startsWith('lapse-');
          if (!isKnown) throw new Error(`order ${order.orderId} of nothing`);
        }
        if (!restarts && state.sequence < before.sequence) throw new Error('the sequence went back');
        if (state.epoch < before.epoch) throw new Error('the epoch went back');
        // The journal's map gives back what the state holds.
        const replay = restoreState(world.settings, world.durable, {
          elapsedMs: world.elapsedMs,
          wallMs: world.wallMs,
          id: '',
        });
        if (replay.problems.length > 0) throw new Error(replay.problems.join());
        const [is, should] = [durablePart(replay.state), durablePart(state)].map((part) =>
          JSON.stringify(sorted(part)),
        );
        if (is !== should) throw new Error(`replayed ${is}, state is ${should}`);
        trips += state.trips.size > before.trips.size ? 1 : 0;
        grants += state.leases.size > before.leases.size ? 1 : 0;
        resets += state.epoch > before.epoch ? 1 : 0;
      }
    }),
    fuzz(150, 20260101),
  );
  t.ok(
    trips > 50 && grants > 20 && resets > 10,
    `the random worlds were worth it: ${trips} trips, ${grants} leases, ${resets} resets`,
  );
});

/** Lists in an order of their own, since a replay may bring them in another. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted).sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .map(([key, inner]) => [key, sorted(inner)])
      .sort(),
  );
}

t.test('decide() is safe only when every required reading is measured and below every limit', async (t) => {
  let safe = 0;
  fc.assert(
    fc.property(nodeWorld, ({ a, b, ...node }) => {
      const world = DomainWorld.running();
      const gpus = Object.fromEntries([[GPU_A, a] as const, [GPU_B, b] as const].filter(([, gpu]) => gpu !== null));
      world.nodes = { [NODE]: { ...node, gpus } as FakeNode };
      world.run(10);
      // The same rule, said the other way round and without any of the code under test.
      const within = (value: number | null | undefined, overIs: number, isShare = false): boolean =>
        typeof value === 'number' && (isShare ? value >= 0 && value <= overIs : value > 0 && value < overIs);
      const isCool =
        !node.fails &&
        within(node.cpuC, 90) &&
        within(node.cpuRatio, 0.8, true) &&
        within(node.memoryRatio, 0.85, true) &&
        (node.totalW === null || node.totalW === undefined || !(node.totalW >= 2000 && node.totalW <= 20_000)) &&
        [a, b].every(
          (gpu) =>
            gpu !== null &&
            within(gpu.temperatureC, 80) &&
            within(gpu.powerW, 250) &&
            within(gpu.memoryRatio, 0.9, true),
        );
      if (isCool) safe += 1;
      if (world.result.safe !== isCool) throw new Error(`safe: ${world.result.safe}, because ${world.result.reason}`);
    }),
    fuzz(250, 20260102),
  );
  t.ok(safe > 25 && safe < 225, `${safe} of 250 were safe`);
});
