// The interlock: what each kind of event does in each of its states, how long a cooldown lasts, and what ends a trip.
import t from 'tap';
import type { SafetyEvent } from '../../src/domain/events.ts';
import type { InterlockState } from '../../src/domain/result.ts';
import type { StopEntry } from '../../src/domain/stop.ts';
import { standbyOf } from '../support/cluster-state.ts';
import { coolNode, DomainWorld, GPU_A, LEASE_ID, NODE, worldSettings } from '../support/domain-world.ts';
import { LEASE_B, OTHER_NODE, twoLeases, twoNodes, twoSettings } from '../support/two-nodes.ts';

/** A world in this state, with whatever was hot cool again. */
function worldIn(state: InterlockState): DomainWorld {
  const world = DomainWorld.running();
  if (state === 'cooling') {
    world.gpu().temperatureC = 82;
    world.run(10);
    world.gpu().temperatureC = 60;
    world.run(10);
  }
  if (state === 'tripped') {
    world.stop();
    world.cool();
    world.run(10);
  }
  if (world.interlock !== state) throw new Error(`the world is ${world.interlock}, not ${state}`);
  world.effects = [];
  return world;
}

/** A trip that another process of the cluster made, earlier than any of here. */
const FOREIGN = {
  tripId: 'a-trip-from-elsewhere',
  scope: { kind: 'all' },
  cause: 'manual',
  reason: 'smoke',
  by: 'kubernetes:ada',
  sinceWallMs: Date.UTC(2025, 0, 1),
  simulated: false,
  loadedW: {},
} as const;

type EventKind = SafetyEvent['kind'];
/** What happens to be said of an event of each kind: the state after it, and whether a stop is ordered by it. */
type Row = Record<EventKind, string>;

const stopEntries: StopEntry[] = [];
const events: Record<EventKind, (world: DomainWorld) => unknown> = {
  'clock-looked': (world) => world.submit({ kind: 'clock-looked' }),
  observed: (world) => world.tick(),
  'preflight-asked': (world) => world.preflight().result.action,
  'lease-asked': (world) => world.askLease(),
  'renewal-asked': (world) => world.renew(),
  'release-asked': (world) => world.submit({ kind: 'release-asked', leaseId: LEASE_ID, identity: 'local' }),
  'stop-requested': (world) => world.stop(),
  'drill-requested': (world) => world.submit({ kind: 'drill-requested', nodes: null, by: 'ada' }),
  'stop-reported': (world) => world.stopReported(true, [...world.state.trips.keys()][0] ?? 'no-such-trip', stopEntries),
  'reset-requested': (world) =>
    world.reset({ tripId: [...world.state.trips.keys()][0] ?? 'no-such-trip', acknowledgeUnverified: true }),
  'forget-requested': (world) =>
    world.submit({ kind: 'forget-requested', node: NODE, gpu: GPU_A, reason: 'sold', by: 'ada' }),
  inventoried: (world) => world.inventory(),
  'journal-reported': (world) => world.submit({ kind: 'journal-reported', ok: false, detail: 'ENOSPC' }),
  'history-reported': (world) => world.submit({ kind: 'history-reported', what: 'failed', detail: 'ENOSPC' }),
  'nodes-listed': (world) =>
    world.submit({
      kind: 'nodes-listed',
      listing: { nodes: new Set([NODE]), sources: new Map(), problems: [], unread: [] },
    }),
  'cluster-tripped': (world) => world.submit({ kind: 'cluster-tripped', trips: [FOREIGN] }),
  'cluster-reset': (world) =>
    world.submit({ kind: 'cluster-reset', epoch: 1, tripIds: [...world.state.trips.keys()], last: null }),
  'cluster-heard': (world) =>
    world.submit({
      kind: 'cluster-heard',
      joined: new Map([...world.state.trips.keys()].map((tripId) => [tripId, 0])),
    }),
  'cluster-reported': (world) => world.submit({ kind: 'cluster-reported', cluster: standbyOf('other') }),
  'leases-taken-over': (world) => world.submit({ kind: 'leases-taken-over', leases: new Map() }),
  'restore-reported': (world) =>
    world.submit({ kind: 'restore-reported', tripId: 'a', by: 'ada', message: 'deployments gpu/load restored' }),
  started: (world) => world.submit({ kind: 'started' }),
};

// Readings are cool in all of these. A forgotten cell does not compile.
const TABLE: Record<InterlockState, Row> = {
  clear: {
    'clock-looked': 'clear',
    observed: 'clear',
    'preflight-asked': 'clear, PROCEED',
    'lease-asked': 'clear, granted',
    'renewal-asked': 'clear, lease-unknown',
    'release-asked': 'clear, lease-unknown',
    'stop-requested': 'tripped, stopping, orders a stop',
    'drill-requested': 'clear, drilling',
    'stop-reported': 'clear',
    'reset-requested': 'clear, trip-unknown',
    'forget-requested': 'clear, forget-refused',
    inventoried: 'clear',
    'journal-reported': 'clear',
    'history-reported': 'clear',
    'nodes-listed': 'clear',
    'cluster-tripped': 'tripped, orders a stop',
    'cluster-reset': 'clear',
    'cluster-heard': 'clear',
    'cluster-reported': 'clear',
    'leases-taken-over': 'clear',
    'restore-reported': 'clear',
    started: 'clear',
  },
  cooling: {
    'clock-looked': 'cooling',
    observed: 'cooling',
    'preflight-asked': 'cooling, WAIT_COOLDOWN',
    'lease-asked': 'cooling, judged',
    'renewal-asked': 'cooling, lease-unknown',
    'release-asked': 'cooling, lease-unknown',
    'stop-requested': 'tripped, stopping, orders a stop',
    'drill-requested': 'cooling, drilling',
    'stop-reported': 'cooling',
    'reset-requested': 'cooling, trip-unknown',
    'forget-requested': 'cooling, forget-refused',
    inventoried: 'cooling',
    'journal-reported': 'cooling',
    'history-reported': 'cooling',
    'nodes-listed': 'cooling',
    'cluster-tripped': 'tripped, orders a stop',
    'cluster-reset': 'cooling',
    'cluster-heard': 'cooling',
    'cluster-reported': 'cooling',
    'leases-taken-over': 'cooling',
    'restore-reported': 'cooling',
    started: 'cooling',
  },
  tripped: {
    'clock-looked': 'tripped',
    observed: 'tripped',
    'preflight-asked': 'tripped, ABORT',
    'lease-asked': 'tripped, judged',
    'renewal-asked': 'tripped, lease-unknown',
    'release-asked': 'tripped, lease-unknown',
    'stop-requested': 'tripped, stopping',
    'drill-requested': 'tripped, drilling',
    'stop-reported': 'tripped',
    'reset-requested': 'clear, reset-done',
    'forget-requested': 'tripped, forget-refused',
    inventoried: 'tripped',
    'journal-reported': 'tripped',
    'history-reported': 'tripped',
    'nodes-listed': 'tripped',
    'cluster-tripped': 'tripped, orders a stop',
    'cluster-reset': 'clear',
    'cluster-heard': 'tripped',
    'cluster-reported': 'tripped',
    'leases-taken-over': 'tripped',
    'restore-reported': 'tripped',
    started: 'tripped, orders a stop',
  },
};

t.test('decide() does with each event in each state of the interlock what the table says', async (t) => {
  for (const [state, row] of Object.entries(TABLE) as [InterlockState, Row][]) {
    for (const [kind, expected] of Object.entries(row) as [EventKind, string][]) {
      const world = worldIn(state);
      const before = world.orders.length;
      const answer = events[kind](world);
      const told = typeof answer === 'string' ? answer : ((answer as { kind?: string } | undefined)?.kind ?? 'none');
      const order = world.orders.length > before ? 'orders a stop' : '';
      const after = world.preflight().result.interlock.state;
      const is = [after, told === 'none' ? '' : told, order].filter(Boolean).join(', ');
      t.equal(is, expected, `${kind} in ${state}`);
    }
  }
});

t.test('decide() cools for 60 s from the last warning, not from the first', async (t) => {
  const world = DomainWorld.running();
  world.gpu().temperatureC = 80;
  world.run(30);
  t.match(world.result, { action: 'WAIT_COOLDOWN', interlock: { state: 'cooling', nodes: { [NODE]: 'cooling' } } });
  world.gpu().temperatureC = 60;
  world.run(50);
  t.match(world.result, {
    action: 'WAIT_COOLDOWN',
    waitSeconds: 10,
    findings: [{ code: 'interlock-cooling', waitSeconds: 10 }],
  });
  t.match(world.preflight(), { result: { action: 'WAIT_COOLDOWN' }, retryAfterSeconds: 10 });
  world.run(10);
  t.match(world.result, { action: 'PROCEED', interlock: { state: 'clear' } });
  t.equal(world.told('cooling-started').length, 1, 'one event for one cooldown, however often the warning repeats');
  t.equal(world.told('cooling-ended').length, 1);
});

t.test('decide() says how long to wait: what is left of the minute, then one tick at a time', async (t) => {
  const world = DomainWorld.running();
  world.gpu().temperatureC = 82;
  t.equal(world.run(10).waitSeconds, 60);
  world.gpu().temperatureC = 79;
  t.equal(world.run(20).waitSeconds, 40);
  t.equal(world.run(40).waitSeconds, 10, 'the minute is over, and 79 °C is not cool');
  t.match(world.run(30), { waitSeconds: 10, interlock: { state: 'cooling' } });
});

t.test('decide() cools until every temperature of the node is 2 °C below its warning', async (t) => {
  const world = DomainWorld.running();
  world.gpu().temperatureC = 82;
  world.run(10);
  world.gpu().temperatureC = 78.1;
  world.run(200);
  t.match(world.result, { interlock: { state: 'cooling' } }, '1.9 °C below is not');
  world.gpu().temperatureC = 77;
  world.node.cpuC = 88.5;
  world.run(20);
  t.equal(world.interlock, 'cooling', 'the CPU counts, too');
  world.node.cpuC = 60;
  world.gpu().temperatureC = 78;
  world.run(10);
  t.equal(world.interlock, 'clear', '2.0 °C below is');
});

t.test(
  "decide() cools by a card's own warning where its slowdown temperature is below the profile's hard stop",
  async (t) => {
    const node = coolNode();
    Object.assign(node.gpus[GPU_A] ?? {}, { slowdownC: 75 });
    const world = DomainWorld.running(worldSettings(), { [NODE]: node });
    world.gpu().temperatureC = 69.9;
    world.run(10);
    t.equal(world.interlock, 'clear');
    world.gpu().temperatureC = 70;
    world.run(10);
    t.equal(world.interlock, 'cooling', '5 °C below its slowdown temperature');
    world.gpu().temperatureC = 68.1;
    world.run(120);
    t.equal(world.interlock, 'cooling', '1.9 °C below that is not cool');
    world.gpu().temperatureC = 68;
    world.run(10);
    t.equal(world.interlock, 'clear');
  },
);

t.test('decide() ends a cooldown without a temperature that is waived and not there', async (t) => {
  const world = DomainWorld.running(worldSettings({}, { waive: ['cpu-temperature'] }));
  world.node.cpuC = 91;
  world.run(10);
  world.node.cpuC = null;
  world.run(50);
  t.equal(world.interlock, 'cooling');
  world.run(10);
  t.equal(world.interlock, 'clear', 'nobody requires it, and it may never come back');
});

t.test('decide() neither ends nor starts a cooldown by a temperature that is missing', async (t) => {
  const cooling = DomainWorld.running();
  cooling.gpu().temperatureC = 82;
  cooling.run(10);
  cooling.gpu().temperatureC = null;
  cooling.run(120);
  t.equal(cooling.state.nodes.get(NODE)?.cooling !== null, true);
  cooling.gpu().temperatureC = 60;
  cooling.run(10);
  t.equal(cooling.interlock, 'clear', 'the minute has long passed and a cool reading is back');
  const clear = DomainWorld.running();
  clear.gpu().temperatureC = null;
  clear.run(20);
  t.equal(clear.interlock, 'clear');
  clear.gpu().temperatureC = 60;
  clear.run(10);
  t.match(clear.result, { action: 'PROCEED' }, 'a missing reading ends with the next good one');
});

t.test('decide() starts no cooldown by a power or a maximum', async (t) => {
  const world = DomainWorld.running();
  world.gpu().powerW = 260;
  world.node.cpuRatio = 0.95;
  world.run(20);
  t.match(world.result, { action: 'REDUCE_INTENSITY', interlock: { state: 'clear' } });
});

t.test('decide() goes on waiting at 82 °C for as long as it takes, and never aborts by that alone', async (t) => {
  const world = DomainWorld.running();
  world.gpu().temperatureC = 82;
  for (let tick = 0; tick < 30; tick += 1) {
    world.gpu().powerW = 240 + (tick % 5) / 10;
    t.equal(world.run(10).action, 'WAIT_COOLDOWN');
  }
  t.equal(world.told('tripped').length, 0);
});

t.test('decide() begins a cooldown anew after a restart, and takes it up under a reset monotonic clock', async (t) => {
  const world = worldIn('cooling');
  world.run(20);
  world.restart();
  world.inventory();
  world.tick();
  t.equal(world.interlock, 'cooling');
  world.run(50);
  t.equal(world.interlock, 'cooling', 'a whole minute from the restart');
  world.run(10);
  t.equal(world.interlock, 'clear');
});

t.test("decide() answers of the nodes asked about alone: another one's cooldown or trip is not theirs", async (t) => {
  const world = DomainWorld.running(twoSettings(), twoNodes());
  const here = { nodes: [NODE] };
  world.gpu().temperatureC = 82;
  world.run(10);
  world.gpu().temperatureC = 60;
  t.match(world.preflight({ nodes: [OTHER_NODE] }).result, { action: 'PROCEED', interlock: { state: 'clear' } });
  const cooling = world.preflight(here).result;
  t.same(cooling.interlock, { state: 'cooling', nodes: { [NODE]: 'cooling' } });
  t.match(cooling.findings, [{ code: 'interlock-cooling', component: 'interlock', node: NODE }]);
  world.run(60);
  world.stop([OTHER_NODE]);
  const { tripId } = world;
  const clear = world.preflight(here).result;
  t.same([clear.action, clear.interlock], ['PROCEED', { state: 'clear', nodes: {} }]);
  const both = world.preflight().result;
  t.same(both.interlock, { state: 'tripped', tripId, nodes: { [OTHER_NODE]: 'tripped' } });
  t.match(both.findings, [{ code: 'interlock-tripped', component: 'interlock', node: OTHER_NODE, action: 'ABORT' }]);
  world.stop();
  const everything = world.preflight(here).result;
  t.same(everything.interlock, { state: 'tripped', tripId: world.tripId, nodes: {} });
  t.match(everything.findings, [{ code: 'interlock-tripped', component: 'interlock', action: 'ABORT' }]);
  t.notOk('node' in (everything.findings[0] ?? {}), 'of no node: of everything');
});

// Trips.

t.test('decide() stops everything by a hard stop, or only its node where the configuration says so', async (t) => {
  const cluster = twoLeases('cluster');
  cluster.gpu().temperatureC = 86;
  cluster.run(10);
  t.match(cluster.orders, [
    {
      scope: { kind: 'all' },
      what: 'everything',
      targets: [{ leaseId: LEASE_ID, processGroup: { pgid: 4711 } }, { leaseId: LEASE_B }],
    },
  ]);
  t.equal(cluster.state.leases.size, 0);
  const node = twoLeases('node');
  node.gpu().temperatureC = 86;
  node.run(10);
  t.match(node.orders, [{ scope: { kind: 'nodes', nodes: [NODE] }, targets: [{ leaseId: LEASE_ID }] }]);
  t.same([...node.state.leases.keys()], [LEASE_B], "the other node's lease lives on");
  t.match(node.renew(null, LEASE_B), { kind: 'renewed', result: { action: 'PROCEED' } });
  t.match(node.renew(), { kind: 'lease-ended', ended: { outcome: 'stopped', reason: /86 °C, hard stop is 85 °C/ } });
  t.match(node.preflight({ nodes: [NODE] }), {
    isTripped: true,
    result: { action: 'ABORT', interlock: { state: 'tripped' } },
  });
  t.match(node.preflight({ nodes: [OTHER_NODE] }), {
    isTripped: false,
    result: { action: 'PROCEED', interlock: { state: 'clear' } },
  });
});

t.test(
  'decide() trips by a hard stop whether or not a workload is live, and in a preflight as in a tick',
  async (t) => {
    const idle = DomainWorld.running();
    idle.gpu().temperatureC = 85;
    t.match(idle.preflight(), { isTripped: true, result: { action: 'ABORT', interlock: { state: 'tripped' } } });
    t.match(idle.result, { action: 'ABORT', interlock: { state: 'tripped' } }, 'and publishes it at once');
  },
);

t.test('decide() stays tripped when the heat is gone, the reading is gone, or everything is gone', async (t) => {
  // 86, then a read that failed, then 0, then 70: a failed read once counted as 0 °C and lifted an overheated pause.
  const world = DomainWorld.running();
  world.gpu().temperatureC = 86;
  world.run(10);
  for (const change of [{ temperatureC: null }, { temperatureC: 0 }, { temperatureC: 70 }, { temperatureC: 30 }]) {
    Object.assign(world.gpu(), change);
    world.run(30);
    t.match(world.result, { action: 'ABORT', interlock: { state: 'tripped' } }, JSON.stringify(change));
    t.notMatch(world.askLease(), { kind: 'granted' });
  }
  world.node.fails = true;
  world.run(600);
  t.match(world.result, { action: 'ABORT', interlock: { state: 'tripped' } });
  world.nodes = {};
  world.run(600);
  t.equal(world.interlock, 'tripped');
  t.equal(world.orders.length, 1, 'one trip, one order');
});

t.test('decide() logs the stop as fatal before anything else, and publishes the changed verdict at once', async (t) => {
  const world = twoLeases();
  world.stop();
  const kinds = world.effects.map((effect) => (effect.kind === 'log' ? `log ${effect.level}` : effect.kind));
  t.same(kinds.slice(0, 2), ['journal', 'log fatal'], 'the record is begun, then the fatal line');
  t.match(world.effects[0], { kind: 'journal', urgent: true });
  t.match(world.effects[1], { message: /EMERGENCY STOP of everything: smoke \(by ada/ });
  t.match(world.result, { action: 'ABORT', interlock: { state: 'tripped' } });
  t.ok(world.events.some((event) => event.name === 'tripped'));
  t.same(
    world.told('lease-ended').map((event) => event.outcome),
    ['stopped', 'stopped'],
  );
});

t.test('decide() joins a second trigger to the trip that holds it already', async (t) => {
  const world = DomainWorld.running(twoSettings(), twoNodes());
  const first = world.stop([NODE]);
  t.match(first, { joined: false });
  t.match(world.stop([NODE]), { tripId: first.tripId, joined: true });
  const both = world.stop([NODE, OTHER_NODE]);
  t.match(both, { joined: false }, 'what is not held yet trips');
  t.same(world.state.trips.get(both.tripId)?.scope, { kind: 'nodes', nodes: [OTHER_NODE] });
  const all = world.stop();
  t.match(all, { joined: false });
  t.same([...world.state.trips.keys()], [all.tripId], 'a trip of everything takes the others over');
  t.match(world.stop([OTHER_NODE]), { tripId: all.tripId, joined: true });
  t.match(world.stop(), { tripId: all.tripId, joined: true });
  t.equal(world.orders.length, 3);
  const withdrawn = world.effects.flatMap((effect) => (effect.kind === 'withdraw-order' ? [effect.orderId] : []));
  t.same(withdrawn.sort(), [first.tripId, both.tripId].sort());
  t.same(
    [...world.durable.keys()].filter((key) => key.startsWith('trip/')),
    [`trip/${all.tripId}`],
  );
});

t.test('decide() joins a trigger to the trip of its own node, among several', async (t) => {
  const world = DomainWorld.running(twoSettings(), twoNodes());
  const trips = [world.stop([NODE]), world.stop([OTHER_NODE])];
  t.same(
    trips.map(({ joined }) => joined),
    [false, false],
  );
  for (const [at, node] of [NODE, OTHER_NODE].entries()) {
    t.match(world.stop([node]), { joined: true, tripId: trips[at]?.tripId }, node);
  }
});

t.test('decide() tells which trips a new one has taken over, and keeps no record of them', async (t) => {
  const world = DomainWorld.running(twoSettings(), twoNodes());
  const { tripId: first } = world.stop([NODE]);
  const { tripId: second } = world.stop();
  const [told, toldNext] = world.told('tripped');
  t.notOk('tookOver' in (told ?? {}));
  t.same([toldNext?.tripId, toldNext?.tookOver], [second, [first]]);
  t.same(
    [...world.durable.keys()].filter((key) => key.startsWith('trip/')),
    [`trip/${second}`],
  );
});

t.test("decide() hands what a node's trip had still to stop to the trip that takes it over", async (t) => {
  const world = twoLeases();
  Object.assign(world.gpu(), { powerW: 240.5 });
  world.run(10);
  world.stop([NODE]);
  world.gpu().powerW = null;
  world.run(150);
  world.stop();
  const taken = world.state.trips.get(world.tripId);
  t.same(taken?.targets.map(({ leaseId }) => leaseId).sort(), [LEASE_ID, LEASE_B].sort());
  t.equal(taken?.loadedW[`${NODE}/${GPU_A}`], 240.5, 'a card that went dark under load must still be seen silent');
});

t.test('decide() names the unknown nodes of a manual stop, and refuses only when it knows none', async (t) => {
  const world = DomainWorld.running(twoSettings(), twoNodes());
  t.same(world.submit({ kind: 'stop-requested', nodes: ['mars'], cause: 'manual', reason: '', by: 'ada' }), {
    kind: 'unknown-nodes',
    nodes: ['mars'],
  });
  t.equal(world.state.trips.size, 0);
  t.match(world.stop(['mars', NODE, NODE]), { joined: false, report: { unknownNodes: ['mars'] } });
  t.same(world.state.trips.get(world.tripId)?.scope, { kind: 'nodes', nodes: [NODE] });
  t.same(world.state.trips.get(world.tripId)?.report.unknownNodes, ['mars'], 'and of those that it knows, none');
});

t.test('decide() touches and latches nothing by a drill', async (t) => {
  const world = twoLeases();
  const before = structuredClone([...world.durable]);
  const answer = world.submit({ kind: 'drill-requested', nodes: [NODE], by: 'ada' });
  t.match(answer, {
    kind: 'drilling',
    order: { orderId: /^drill-/, scope: { nodes: [NODE] }, targets: [{ leaseId: LEASE_ID }] },
  });
  t.equal(world.state.leases.size, 2);
  t.equal(world.state.trips.size, 0);
  t.same([...world.durable], before);
  t.same(
    world.effects.map((effect) => effect.kind).filter((kind) => kind !== 'log' && kind !== 'publish'),
    [],
  );
});

t.test('decide() drills what is in scope, names the unknown nodes, and refuses only when it knows none', async (t) => {
  const world = twoLeases();
  const drill = (nodes: readonly string[] | null) => {
    const answer = world.submit({ kind: 'drill-requested', nodes, by: 'ada' });
    if (answer.kind !== 'drilling') return answer;
    const { order, unknownNodes } = answer;
    return { scope: order.scope, leases: order.targets.map(({ leaseId }) => leaseId), unknownNodes };
  };
  const here = { scope: { kind: 'nodes', nodes: [NODE] }, leases: [LEASE_ID] };
  t.same(drill([NODE]), { ...here, unknownNodes: [] });
  t.same(drill(['mars', NODE]), { ...here, unknownNodes: ['mars'] });
  t.same(drill(null), { scope: { kind: 'all' }, leases: [LEASE_ID, LEASE_B], unknownNodes: [] });
  t.same(drill(['mars']), { kind: 'unknown-nodes', nodes: ['mars'] });
});

t.test('resultForLease() of a lease without nodes leaves out a node whose own trip it is not among', async (t) => {
  const world = DomainWorld.running(twoSettings('node'), twoNodes());
  t.equal(world.askLease().kind, 'granted', 'its process group is on the first node');
  world.submit({ kind: 'stop-requested', nodes: [OTHER_NODE], cause: 'manual', reason: 'test', by: 'tester' });
  t.match(world.renew(), { kind: 'renewed', result: { action: 'PROCEED', scope: { nodes: [NODE] } } });
  world.submit({ kind: 'stop-requested', nodes: [NODE], cause: 'manual', reason: 'test', by: 'tester' });
  t.match(world.renew(), { kind: 'lease-ended', ended: { outcome: 'stopped' } });
});
