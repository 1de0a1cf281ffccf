// One process of a cluster's: what others trip and reset, whose leases these are, and what a place in the cluster has
// against a start. Everything goes through decide(), on pretended nodes and a clock by hand.
import t from 'tap';
import type { ClusterMachine, ClusterState } from '../../src/domain/cluster.ts';
import { restoreState } from '../../src/domain/durable.ts';
import type { SafetyEvent } from '../../src/domain/events.ts';
import type { CopiedTrip } from '../../src/domain/interlock.ts';
import type { Lease } from '../../src/domain/lease.ts';
import type { LiveWorkload } from '../../src/domain/stop.ts';
import { LEADER, standbyOf, UNREACHABLE } from '../support/cluster-state.ts';
import { coolNode, DomainWorld, GPU_A, LEASE_ID, NODE, nodeSettings, worldSettings } from '../support/domain-world.ts';

const OTHER = 'bizon2';
const THIRD = 'bizon3';
const OTHER_LEASE = '1b0e7a52-8f0e-4f8e-9d7c-2b1f5f3f9a02';

/** Three nodes, and what Kubernetes shows of them. */
function clusterWorld(cluster: ClusterState = LEADER): DomainWorld {
  const names = [NODE, OTHER, THIRD];
  const settings = worldSettings({ nodes: new Map(names.map((name) => [name, nodeSettings()])), tripScope: 'node' });
  const world = DomainWorld.running(settings, Object.fromEntries(names.map((name) => [name, coolNode()])));
  report(world, cluster);
  return world;
}

const report = (world: DomainWorld, cluster: ClusterState) => world.submit({ kind: 'cluster-reported', cluster });

const copyOf = (tripId: string, nodes: readonly string[] | null, change: Partial<CopiedTrip> = {}): CopiedTrip => ({
  tripId,
  scope: nodes ? { kind: 'nodes', nodes } : { kind: 'all' },
  cause: 'hard-stop',
  reason: `heat (${tripId})`,
  by: 'monitor',
  sinceWallMs: Date.UTC(2026, 0, 1),
  simulated: false,
  loadedW: {},
  ...change,
});

const adopt = (world: DomainWorld, ...trips: CopiedTrip[]) => world.submit({ kind: 'cluster-tripped', trips });
const resetThere = (world: DomainWorld, epoch: number, tripIds: readonly string[], last: string | null = null) =>
  world.submit({
    kind: 'cluster-reset',
    epoch,
    tripIds,
    last: last === null ? null : { tripId: last, by: 'ada', reason: 'fan replaced', wallMs: world.wallMs },
  });
const takeOver = (world: DomainWorld, leases: readonly (readonly [string, unknown])[] = []) =>
  world.submit({ kind: 'leases-taken-over', leases: new Map(leases) });

const pod = (node: string | null, leaseId?: string): LiveWorkload => ({
  kind: 'pod',
  node,
  name: 'gpu/train',
  ...(leaseId !== undefined && { leaseId }),
});

/** A lease without a process group, as pods have them, on `nodes`. */
function granted(world: DomainWorld, nodes: readonly string[] | null, ttlMs = 30_000): Lease {
  const answer = world.askLease({ processGroup: null, nodes, ttlMs });
  if (answer.kind !== 'granted') throw new Error(`the lease was answered ${answer.kind}`);
  return world.lease;
}

/** As another process' journal has it. */
function stored(id: string, change: Record<string, unknown> = {}): [string, unknown] {
  const world = clusterWorld();
  const lease = { ...granted(world, [NODE]), id, bootId: 'boot-elsewhere', ...change };
  return [id, JSON.parse(JSON.stringify(lease))];
}

t.test('cluster-tripped holds others’ trips under their own ids, each once', async (t) => {
  const world = clusterWorld();
  adopt(world, copyOf('theirs', [OTHER], { loadedW: { [`${OTHER}/${GPU_A}`]: 250 } }));
  t.same([...world.state.trips.keys()], ['theirs']);
  t.match(world.state.trips.get('theirs'), { by: 'monitor', loadedW: { [`${OTHER}/${GPU_A}`]: 250 }, targets: [] });
  t.equal(world.orders.length, 1);
  t.equal(world.interlock, 'tripped');
  adopt(world, copyOf('theirs', [OTHER]), copyOf('theirs', [OTHER]));
  t.equal(world.orders.length, 1, 'what is held already is not ordered again');
  t.ok(world.durable.has('trip/theirs'));

  await t.test('scopes that overlap stand side by side, and each has a reset of its own', async (t) => {
    adopt(world, copyOf('wide', [OTHER, THIRD]), copyOf('beside', [NODE, THIRD]));
    t.same([...world.state.trips.keys()].sort(), ['beside', 'wide'], 'the wider one takes over what it covers');
    t.notOk(world.durable.has('trip/theirs'));
    world.cool();
    world.tick();
    resetThere(world, 1, ['wide'], 'wide');
    t.same([...world.state.trips.keys()], ['beside']);
    t.equal(world.preflight({ nodes: [THIRD] }).isTripped, true, 'the other one still holds it');
    t.equal(world.preflight({ nodes: [OTHER] }).isTripped, false);
  });

  await t.test('what one of ours covers is left to that', async (t) => {
    const own = world.stop().tripId;
    adopt(world, copyOf('narrow', [NODE]), copyOf('late', [THIRD, OTHER]));
    t.same([...world.state.trips.keys()], [own]);
  });

  await t.test('one of everything takes over all, with what they had still to stop', async (t) => {
    const running = clusterWorld();
    running.askLease({ nodes: [NODE] });
    const own = running.stop([NODE]).tripId;
    adopt(running, copyOf('all', null));
    t.same([...running.state.trips.keys()], ['all']);
    t.match(running.state.trips.get('all')?.targets, [{ leaseId: LEASE_ID, processGroup: { pgid: 4711 } }]);
    t.ok(running.effects.some((effect) => effect.kind === 'withdraw-order' && effect.orderId === own));
  });
});

t.test('cluster-reset ends what another process reset, and nothing else', async (t) => {
  const world = clusterWorld();
  adopt(world, copyOf('one', [NODE]), copyOf('two', [OTHER]), copyOf('three', [THIRD]));
  resetThere(world, 2, ['two', 'one', 'unknown'], 'two');
  t.same([...world.state.trips.keys()], ['three']);
  t.equal(world.state.epoch, 2);
  t.match(world.state.lastTrip, { trip: { tripId: 'two' }, resetBy: 'ada', resetReason: 'fan replaced' });
  const withdrawn = world.effects.flatMap((effect) => (effect.kind === 'withdraw-order' ? [effect.orderId] : []));
  t.same(withdrawn.sort(), ['one', 'two']);

  await t.test('an older epoch takes nothing back', async (t) => {
    resetThere(world, 1, []);
    t.equal(world.state.epoch, 2);
  });

  await t.test('an epoch alone is remembered, too', async (t) => {
    resetThere(world, 7, [], 'before-our-time');
    t.match(world.durable.get('epoch'), { epoch: 7 });
  });

  await t.test('all of it outlives a restart', async (t) => {
    world.restart();
    t.same([...world.state.trips.keys()], ['three']);
    t.match(world.state, { epoch: 7, lastTrip: { trip: { tripId: 'two' } } });
  });

  await t.test('what is hot by then is a new trip, never an answer that nothing stands behind', async (t) => {
    const hot = clusterWorld();
    const gpu = hot.gpu();
    gpu.temperatureC = 90;
    hot.tick();
    const { tripId } = hot;
    resetThere(hot, 1, [tripId], tripId);
    t.equal(hot.state.trips.size, 1);
    t.not(hot.tripId, tripId);
    t.equal(hot.interlock, 'tripped');
  });

  await t.test('before the first look nothing is judged by what is not there yet', async (t) => {
    const blind = clusterWorld();
    granted(blind, [NODE], 300_000);
    blind.node.fails = true;
    blind.submit({ kind: 'nodes-listed', listing: listing({ [NODE]: { isReady: false, bootId: null } }) });
    for (let i = 0; i < 9; i++) blind.run(10);
    t.equal(blind.state.trips.size, 0, 'the node is not Ready');
    blind.node.fails = false;
    blind.restart();
    blind.inventory();
    resetThere(blind, 1, []);
    t.equal(blind.state.trips.size, 0);
    blind.tick();
    t.equal(blind.state.trips.size, 0);
  });
});

t.test('a reset is judged first and carried out later, whatever else is by then', async (t) => {
  const ask = (world: DomainWorld, stage: 'judge' | 'commit', tripId = world.tripId) =>
    world.submit({
      kind: 'reset-requested',
      tripId,
      reason: 'checked',
      by: 'ada',
      acknowledgeUnverified: false,
      reports: stage === 'judge' ? world.reports() : [],
      stage,
    });
  const world = clusterWorld();
  const { tripId } = world.stop();
  t.match(ask(world, 'judge'), { kind: 'reset-refused', still: [/stopping/] });
  world.cool();
  world.tick();
  world.stopReported();
  t.same(ask(world, 'judge'), { kind: 'reset-allowed', tripId, judged: { joined: 0, wallMs: world.wallMs } });
  t.same([...world.state.trips.keys()], [tripId], 'a judgement ends nothing');
  t.equal(world.state.epoch, 0);
  world.stopReported(false);
  t.match(ask(world, 'commit'), { kind: 'reset-done', tripId, epoch: 1 }, 'it is written in the cluster by now');
  t.equal(world.state.trips.size, 0);

  await t.test('a trip that went into another one meanwhile is not reset with it', async (t) => {
    const { tripId: narrow } = world.stop([NODE]);
    world.stopReported();
    t.match(ask(world, 'judge'), { kind: 'reset-allowed', tripId: narrow });
    const { tripId: wide } = world.stop();
    t.match(ask(world, 'commit', narrow), { kind: 'trip-unknown', active: [wide] });
    resetThere(world, 2, [], narrow);
    t.same([...world.state.trips.keys()], [wide], 'nor by what the cluster says of it then');
    t.equal(world.state.epoch, 2);
  });
});

t.test('leases go with the leadership', async (t) => {
  await t.test('to the process that leads, and what runs on this machine stays', async (t) => {
    const world = clusterWorld();
    const lease = granted(world, [NODE]);
    world.askLease({ id: OTHER_LEASE, ttlMs: 30_000 });
    report(world, standbyOf(null));
    t.equal(world.state.leases.size, 2, 'nobody leads yet');
    report(world, standbyOf('other'));
    t.same([...world.state.leases.keys()], [OTHER_LEASE], 'its holder reaches nobody else');
    t.notOk(world.durable.has(`lease/${lease.id}`));
    t.match(world.renew(), { kind: 'lease-elsewhere', code: 'not-leader' });
    t.match(world.renew(null, OTHER_LEASE), { kind: 'renewed' });
    t.equal(world.orders.length, 0, 'nothing is stopped by it');
    world.pass(31_000);
    world.tick();
    t.match(world.orders, [{ what: 'leases', targets: [{ leaseId: OTHER_LEASE }] }], 'and it lapses here');
  });

  await t.test('none lapses while another process may renew it, or may have', async (t) => {
    for (const cluster of [UNREACHABLE, standbyOf(null)]) {
      const world = clusterWorld();
      granted(world, [NODE]);
      report(world, cluster);
      world.run(300);
      t.equal(world.state.leases.size, 1, cluster.leadership.state);
      // Leading again, by an old record: the leases of the leader in between have not been read.
      report(world, { ...LEADER, areLeasesKnown: false });
      world.pass(1_000);
      world.submit({ kind: 'clock-looked' });
      world.run(10);
      t.equal(world.state.leases.size, 1, 'not before they are');
      t.equal(world.orders.length, 0);
      takeOver(world);
      report(world, LEADER);
      world.run(20);
      t.equal(world.state.leases.size, 1, 'then it has one full TTL');
      world.run(20);
      t.equal(world.state.endedLeases.get(LEASE_ID)?.outcome, 'lapsed');
    }
  });

  await t.test('a renewal needs no leadership where the lease is', async (t) => {
    const world = clusterWorld();
    granted(world, [NODE]);
    report(world, UNREACHABLE);
    world.run(60);
    t.match(world.renew(), { kind: 'renewed' });
    t.match(world.submit({ kind: 'release-asked', leaseId: LEASE_ID, identity: 'local' }), { kind: 'released' });
    // The leader in between may have kept it; this process knows better.
    takeOver(world, [stored(LEASE_ID)]);
    t.equal(world.state.leases.size, 0);
    t.notOk(world.durable.has(`lease/${LEASE_ID}`));
  });

  await t.test('whose lease it is nobody can say before they are read', async (t) => {
    const cases: readonly [ClusterState, string][] = [
      [standbyOf('other'), 'not-leader'],
      [standbyOf(null), 'not-leader'],
      [UNREACHABLE, 'state-unknown'],
      [{ ...LEADER, areLeasesKnown: false }, 'state-unknown'],
    ];
    for (const [cluster, code] of cases) {
      const world = clusterWorld(cluster);
      t.match(world.renew(), { kind: 'lease-elsewhere', code });
      t.match(world.submit({ kind: 'release-asked', leaseId: LEASE_ID, identity: 'local' }), { code });
    }
    t.same(clusterWorld().renew(), { kind: 'lease-unknown' });
  });
});

t.test('leases-taken-over goes on with the leases of the process before', async (t) => {
  await t.test('each with one full TTL and no process group, and durably', async (t) => {
    const world = clusterWorld();
    takeOver(world, [stored(LEASE_ID, { processGroup: { pgid: 1234, startTicks: 5 } })]);
    t.match(world.lease, { processGroup: null, bootId: 'boot-1', expiresAtMs: world.elapsedMs + 30_000 });
    world.restart();
    t.match(world.lease, { expiresAtMs: null });
    t.equal(world.state.endedLeases.size, 0);
  });

  await t.test('by the first evaluation where there was none yet', async (t) => {
    const names = new Map([[NODE, nodeSettings()]]);
    const world = new DomainWorld(worldSettings({ nodes: names }));
    world.inventory();
    report(world, LEADER);
    takeOver(world, [stored(LEASE_ID)]);
    t.equal(world.lease.expiresAtMs, null);
    t.match(world.renew(), { kind: 'evaluation-too-old' });
    world.tick();
    t.equal(world.lease.expiresAtMs, world.elapsedMs + 30_000);
  });

  await t.test('twice is once', async (t) => {
    const world = clusterWorld();
    takeOver(world, [stored(LEASE_ID)]);
    world.pass(5_000);
    takeOver(world, [stored(LEASE_ID)]);
    t.equal(world.state.leases.size, 1);
    t.equal(world.lease.expiresAtMs, world.elapsedMs + 30_000);
  });

  await t.test('what runs elsewhere than a node’s trip runs on, as it did when that came', async (t) => {
    const world = clusterWorld();
    world.inventory([pod(NODE, LEASE_ID), pod(OTHER, OTHER_LEASE)], true);
    adopt(world, copyOf('theirs', [OTHER]));
    takeOver(world, [
      stored(LEASE_ID, { nodes: null }),
      stored(OTHER_LEASE, { nodes: null }),
      stored('named', { nodes: [OTHER] }),
    ]);
    t.same([...world.state.leases.keys()], [LEASE_ID]);
    t.equal(world.state.endedLeases.get(OTHER_LEASE)?.outcome, 'stopped');
    t.equal(world.state.endedLeases.get('named')?.outcome, 'stopped');
    t.match(world.renew(), { kind: 'renewed', result: { action: 'PROCEED' } });
  });

  await t.test('everything stopped is every lease over', async (t) => {
    const world = clusterWorld();
    adopt(world, copyOf('all', null));
    takeOver(world, [stored(LEASE_ID)]);
    t.equal(world.state.leases.size, 0);
    t.match(world.renew(), { kind: 'lease-ended', ended: { outcome: 'stopped' } });
  });

  await t.test('what cannot be read, or is a simulation’s, is left out', async (t) => {
    const world = clusterWorld();
    takeOver(world, [
      ['a', { id: 'a' }],
      ['b', null],
      ['c', 7],
      stored('other-id', { id: 'not-its-key' }),
      stored('huge', { ttlMs: -1 }),
      stored(OTHER_LEASE, { simulated: true }),
    ]);
    t.equal(world.state.leases.size, 0);
    t.equal(world.orders.length, 0);
    t.ok(world.effects.some((effect) => effect.kind === 'log' && /5 leases/.test(effect.message)));
  });
});

t.test('resetElsewhere() ends each trip by the name of who reset it, the last one last', async (t) => {
  const world = clusterWorld();
  adopt(world, copyOf('one', [OTHER]), copyOf('two', [THIRD]));
  world.effects = [];
  resetThere(world, 2, ['two', 'one'], 'two');
  t.match(world.told('reset'), [
    { tripId: 'one', by: 'another process' },
    { tripId: 'two', by: 'ada', message: /fan replaced/ },
  ]);
  t.match(world.durable.get('epoch'), { epoch: 2, lastResetWallMs: world.wallMs });
  world.effects = [];
  resetThere(world, 2, []);
  t.same(world.effects, [], 'the same epoch again is no news');
});

t.test('takeCluster() tells who leads when that changes, and of nobody louder', async (t) => {
  const world = clusterWorld();
  const told = (cluster: ClusterState): string[] => {
    world.effects = [];
    report(world, cluster);
    return world.effects.flatMap((effect) => (effect.kind === 'log' ? [`${effect.level}: ${effect.message}`] : []));
  };
  t.same(told(LEADER), []);
  t.match(told(standbyOf('safety-1')), ['info: safety-1 leads; this process only watches and stops']);
  t.same(told(standbyOf('safety-1')), []);
  t.match(told(standbyOf('safety-2')), ['info: safety-2 leads; this process only watches and stops']);
  t.match(told(standbyOf(null)), ['info: Another process leads, or is about to']);
  t.match(told(UNREACHABLE), [/^warn: Nobody knows who leads: ./]);
  t.same(told(UNREACHABLE), []);
  t.match(told(LEADER), [/^info: This process leads as ./]);
});

t.test('takeOverLeases() gives a TTL by an evaluation that counts, and says what it took', async (t) => {
  const world = clusterWorld();
  const logged = () => world.effects.flatMap((effect) => (effect.kind === 'log' ? [effect.message] : []));
  world.pass(30_000);
  takeOver(world, [stored(LEASE_ID)]);
  t.equal(world.lease.expiresAtMs, world.elapsedMs + 30_000, '30 s old');
  t.ok(logged().includes('1 leases are taken over'));
  const late = clusterWorld();
  late.pass(30_001);
  takeOver(late, [stored(LEASE_ID)]);
  t.equal(late.lease.expiresAtMs, null);
  const nothing = clusterWorld();
  nothing.effects = [];
  takeOver(nothing);
  t.same(nothing.effects, []);
});

t.test('takeOverLeases() keeps leases of its own on the cluster’s record, and takes off what ended here', async (t) => {
  const world = clusterWorld();
  granted(world, [NODE]);
  world.effects = [];
  const written = (): unknown[] =>
    world.effects.flatMap((effect) => (effect.kind === 'journal' ? [effect.change] : []));
  takeOver(world, [stored(LEASE_ID)]);
  t.same(written(), [], 'it is there');
  takeOver(world);
  t.match(written(), [{ set: { [`lease/${LEASE_ID}`]: { id: LEASE_ID } } }]);
  world.submit({ kind: 'release-asked', leaseId: LEASE_ID, identity: 'local' });
  world.effects = [];
  takeOver(world, [stored(LEASE_ID)]);
  t.equal(world.state.leases.size, 0);
  t.match(written(), [{ set: {}, delete: [`lease/${LEASE_ID}`] }]);
});

t.test('findings name what keeps a process of a cluster from granting', async (t) => {
  const cases: readonly [string, ClusterState, readonly string[]][] = [
    ['leads', LEADER, []],
    ['leads, leases unread', { ...LEADER, areLeasesKnown: false }, ['state-unknown']],
    ['another one leads', standbyOf('other'), ['not-leader']],
    ['nobody leads', standbyOf(null), ['not-leader']],
    ['the server is away', UNREACHABLE, ['not-leader']],
    ['the record is unread', { ...LEADER, isLatchKnown: false, latchFailure: 'refused' }, ['state-unknown']],
    ['neither', { ...UNREACHABLE, isLatchKnown: false }, ['state-unknown']],
  ];
  for (const [title, cluster, codes] of cases) {
    await t.test(title, async (t) => {
      const world = clusterWorld(cluster);
      const { result, isTripped } = world.preflight();
      t.same(
        result.findings.map(({ code }) => code),
        codes,
      );
      t.equal(result.safe, codes.length === 0);
      t.equal(isTripped, false);
      t.equal(world.askLease({ processGroup: null }).kind, codes.length === 0 ? 'granted' : 'judged');
      world.tick();
      t.equal(world.result.safe, codes.length === 0, 'idle nodes are judged as a start is');
      world.stop();
      t.equal(world.interlock, 'tripped', 'stopping needs no leave');
      t.equal(world.preflight().isTripped, true);
    });
  }

  await t.test('a node with a workload is judged by its hardware alone', async (t) => {
    const world = clusterWorld(standbyOf('other'));
    world.inventory([pod(NODE), pod(OTHER), pod(THIRD)], true);
    world.tick();
    t.equal(world.result.action, 'PROCEED');
  });

  await t.test('leadership is told when it changes, and no other time', async (t) => {
    const world = clusterWorld();
    const words = () => world.told('leadership').length;
    t.equal(words(), 1);
    report(world, { ...LEADER, latchFailure: 'conflict' });
    t.equal(words(), 1);
    report(world, standbyOf('a'));
    report(world, standbyOf('a'));
    report(world, standbyOf('b'));
    t.equal(words(), 3);
  });
});

t.test('no-deny-rule is unprotected where the rule is not installed', async (t) => {
  const codes = (denyRule: ClusterState['denyRule']): string[] =>
    clusterWorld({ ...LEADER, denyRule })
      .preflight()
      .result.unprotected.map(({ code }) => code);
  t.ok(codes('absent').includes('no-deny-rule'));
  for (const rule of ['armed', 'disarmed', 'unknown'] as const) t.notOk(codes(rule).includes('no-deny-rule'), rule);
});

t.test('restoreState() of a process that was moved goes on with leases of pods, and not of processes', async (t) => {
  const world = clusterWorld();
  granted(world, [NODE]);
  world.askLease({ id: OTHER_LEASE });
  const settings = { ...world.settings, bootId: 'another-machine' };
  const moment = { elapsedMs: world.elapsedMs, wallMs: world.wallMs, id: 'restore' };
  const moved = restoreState(settings, world.durable, moment, { inCluster: true });
  t.same(moved.problems, []);
  t.match([...moved.state.leases.values()], [{ id: LEASE_ID, bootId: 'another-machine', expiresAtMs: null }]);
  t.equal(moved.state.endedLeases.get(OTHER_LEASE)?.outcome, 'lapsed');
  t.match(moved.set[`lease/${LEASE_ID}`], { bootId: 'another-machine' });
  t.notOk(moved.delete.includes(`lease/${LEASE_ID}`));
  const alone = restoreState(settings, world.durable, moment);
  t.equal(alone.state.leases.size, 0, 'without a cluster the machine was started anew');
});

type Listed = Extract<SafetyEvent, { kind: 'nodes-listed' }>['listing'];

function listing(machines: Readonly<Record<string, ClusterMachine>>): Listed {
  return {
    nodes: new Set([NODE, OTHER, THIRD]),
    sources: new Map([NODE, OTHER, THIRD].map((name) => [name, new Set(['fake'])])),
    problems: [],
    unread: [],
    machines: new Map(Object.entries(machines)),
  };
}

t.test('a node’s own boot gives it its grace, and being away its time', async (t) => {
  const see = (world: DomainWorld, isReady: boolean, bootId: string | null = 'k-1') =>
    world.submit({ kind: 'nodes-listed', listing: listing({ [OTHER]: { isReady, bootId } }) });
  const loaded = (): DomainWorld => {
    const world = clusterWorld();
    world.inventory([pod(OTHER)], true);
    see(world, true);
    // Whatever grace this start gave is over.
    world.run(200);
    return world;
  };
  const node = (world: DomainWorld) => {
    const found = world.nodes[OTHER];
    if (!found) throw new Error('no such node');
    return found;
  };
  /** Seconds until it trips, looked at each second. */
  const blindFor = (world: DomainWorld, most = 400): number => {
    for (let s = 0; s <= most; s++) {
      if (world.state.trips.size > 0) return s;
      world.pass(1_000);
      if (s % 10 === 9) world.tick();
      else world.submit({ kind: 'clock-looked' });
    }
    return Infinity;
  };

  await t.test('a Ready one is tripped by blindness as ever', async (t) => {
    const world = loaded();
    node(world).fails = true;
    const s = blindFor(world);
    t.ok(s >= 60 && s <= 70, `${s} s after the last good reading`);
    t.match([...world.state.trips.values()], [{ cause: 'blind', scope: { kind: 'nodes', nodes: [OTHER] } }]);
  });

  await t.test('one that is not Ready has 300 s', async (t) => {
    const world = loaded();
    node(world).fails = true;
    world.run(40);
    see(world, false);
    const s = 40 + blindFor(world);
    t.ok(s >= 330 && s <= 341, `${s} s after the last good reading`);
  });

  await t.test('back again, its exporters have the usual time, and never more than 300 s in all', async (t) => {
    const world = loaded();
    node(world).fails = true;
    world.run(40);
    see(world, false);
    world.run(100);
    see(world, true);
    world.pass(1_000);
    world.submit({ kind: 'clock-looked' });
    t.equal(world.state.trips.size, 0, 'it may have come back between two looks');
    node(world).fails = false;
    world.tick();
    t.equal(world.state.trips.size, 0);

    const flapping = loaded();
    node(flapping).fails = true;
    let s = 0;
    for (; s < 500 && flapping.state.trips.size === 0; s += 10) {
      see(flapping, (s / 10) % 2 === 0);
      flapping.run(10);
    }
    t.ok(s >= 300 && s <= 350, `${s} s: coming and going buys no more`);
  });

  await t.test('a new boot gives the grace anew, once, and a restart none', async (t) => {
    const world = loaded();
    node(world).fails = true;
    world.run(40);
    see(world, false);
    world.run(30);
    see(world, true, 'k-2');
    t.match(world.durable.get(`boot/${OTHER}`), { bootId: 'k-2', ofCluster: true });
    const endsMs = world.elapsedMs + 120_000;
    t.equal(world.state.nodes.get(OTHER)?.graceUntilMs, endsMs);
    world.run(30);
    see(world, true, 'k-2');
    t.equal(world.state.nodes.get(OTHER)?.graceUntilMs, endsMs, 'the same boot gives none');
    t.equal(world.state.trips.size, 0);
    world.restart();
    world.inventory([pod(OTHER)], true);
    see(world, true, 'k-2');
    t.equal(world.state.nodes.get(OTHER)?.graceUntilMs, endsMs, 'nor does a restart');
    const s = blindFor(world);
    t.ok(s >= 60 && s <= 100, `${s} s after the restart`);
  });
});

t.test('nvidia.com/gpu.count says how many cards there must be, capacity only that there is one', async (t) => {
  const missing = (count: number | undefined, cards: number): number => {
    const world = clusterWorld();
    const fake = world.nodes[OTHER];
    if (!fake) throw new Error('no such node');
    fake.gpus = Object.fromEntries(Object.entries(coolNode().gpus).slice(0, cards));
    fake.signs = [
      { kind: 'node-capacity', detail: 'capacity nvidia.com/gpu=8', ...(count !== undefined && { count }) },
    ];
    const fresh = new DomainWorld(world.settings, world.nodes);
    fresh.inventory();
    report(fresh, LEADER);
    fresh.tick();
    fresh.pass(10_000);
    fresh.tick();
    return fresh.preflight({ nodes: [OTHER] }).result.findings.filter(({ component }) => component === 'gpu').length;
  };
  t.equal(missing(undefined, 2), 0, 'a capacity of 8 may be two cards shared');
  t.equal(missing(undefined, 0), 1);
  t.equal(missing(2, 2), 0);
  t.equal(missing(3, 2), 1);
});

t.test('pods that are on no node yet load nothing', async (t) => {
  const world = clusterWorld();
  world.inventory([pod(null, LEASE_ID)], true);
  world.tick();
  t.equal(world.preflight().result.safe, true, 'no node is unmonitored for it');
  t.equal(world.state.nodes.get(NODE)?.liveSinceMs, null);
  world.inventory([pod('nowhere')], true);
  t.match(world.preflight().result.findings, [{ code: 'node-unmonitored', node: 'nowhere' }]);
});

t.test('may-be-raised is told in every answer and refuses nothing', async (t) => {
  const world = clusterWorld(LEADER);
  const entry = { code: 'may-be-raised', name: 'Argo CD', message: 'Argo CD manages Deployment gpu/train' } as const;
  world.submit({ kind: 'inventoried', actuators: [], workloads: [], seesPods: true, unprotected: [entry] });
  const { result } = world.preflight();
  t.strictSame(
    result.unprotected.filter(({ code }) => code === 'may-be-raised'),
    [entry],
  );
  t.ok(result.safe);
  t.match(world.tick().unprotected, [entry]);
});
