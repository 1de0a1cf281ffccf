// Stops that join a trip which another process of the cluster has reset, or resets at that moment: none of them may go
// with a reset that did not know of it, and none may come back after one that did.
import t from 'tap';
import type { Trip } from '../../src/domain/interlock.ts';
import { joinedByTakeOver, outliving, withHeard, withJoined } from '../../src/domain/joined-stops.ts';
import type { TripScope } from '../../src/domain/stop.ts';
import { LEADER } from '../support/cluster-state.ts';
import { coolNode, DomainWorld, NODE, nodeSettings, worldSettings } from '../support/domain-world.ts';

const OTHER = 'bizon2';
const EVERYTHING: TripScope = { kind: 'all' };
const onNode = (...nodes: string[]): TripScope => ({ kind: 'nodes', nodes });
const pressed = { scope: EVERYTHING, cause: 'manual', reason: 'smoke', by: 'ada', begunWallMs: null } as const;

/** Two nodes of a cluster, stopped by hand. */
function stoppedWorld(nodes: readonly string[] | null = null): { world: DomainWorld; first: string } {
  const names = [NODE, OTHER];
  const settings = worldSettings({ nodes: new Map(names.map((name) => [name, nodeSettings()])), tripScope: 'node' });
  const world = DomainWorld.running(settings, Object.fromEntries(names.map((name) => [name, coolNode()])));
  world.submit({ kind: 'cluster-reported', cluster: LEADER });
  return { world, first: world.stop(nodes).tripId };
}

const heard = (world: DomainWorld, tripId: string, count: number) =>
  world.submit({ kind: 'cluster-heard', joined: new Map([[tripId, count]]) });
const resetThere = (world: DomainWorld, tripId: string, epoch = 1) =>
  world.submit({
    kind: 'cluster-reset',
    epoch,
    tripIds: [tripId],
    last: { tripId, by: 'eve', reason: 'all well', wallMs: world.wallMs },
  });
const tripsOf = ({ state }: DomainWorld): readonly Trip[] => [...state.trips.values()];

t.test('cluster-reset leaves a stop that joined the trip and that the cluster has not heard of', async (t) => {
  const { world, first } = stoppedWorld();
  t.equal(world.stop().joined, true);
  resetThere(world, first);
  t.equal(world.interlock, 'tripped');
  t.match(tripsOf(world), [
    {
      scope: EVERYTHING,
      cause: 'manual',
      by: 'ada',
      reason: `smoke (joined trip ${first}, whose reset did not know of it)`,
    },
  ]);
  t.not(tripsOf(world)[0]?.tripId, first);
  t.equal(world.orders.length, 2, 'and what was started since is stopped');

  await t.test('once it was heard of, the reset ends it with the trip', async (t) => {
    const { world, first } = stoppedWorld();
    world.stop();
    heard(world, first, 1);
    resetThere(world, first);
    t.equal(world.interlock, 'clear');
  });

  await t.test('of two, the one that came after the look is left', async (t) => {
    const { world, first } = stoppedWorld();
    world.stop();
    world.submit({ kind: 'stop-requested', nodes: null, cause: 'manual', reason: 'flames', by: 'bob' });
    heard(world, first, 1);
    resetThere(world, first);
    t.match(tripsOf(world), [{ by: 'bob', reason: /^flames/ }]);
  });

  await t.test('a reset of another trip leaves it where it is', async (t) => {
    const { world, first } = stoppedWorld();
    world.stop();
    resetThere(world, 'another');
    t.same([...world.state.trips.keys()], [first]);
  });

  await t.test('a trip that nothing joined goes, and what the monitor finds joins nothing', async (t) => {
    const { world, first } = stoppedWorld();
    world.gpu().temperatureC = 90;
    world.tick();
    world.cool();
    world.tick();
    t.equal(tripsOf(world)[0]?.joined, undefined);
    resetThere(world, first);
    t.equal(world.state.trips.size, 0);
  });
});

t.test('cluster-reset leaves of a stop what it was asked for, and no more', async (t) => {
  const { world, first } = stoppedWorld();
  world.stop([OTHER]);
  resetThere(world, first);
  t.match(tripsOf(world), [{ scope: onNode(OTHER) }], 'not all that the trip was of');

  await t.test('a stop of two nodes, one of which is stopped, joins there and trips the other', async (t) => {
    const { world, first } = stoppedWorld([NODE]);
    const second = world.stop([NODE, OTHER]);
    t.equal(second.joined, false);
    t.same(
      tripsOf(world).map(({ scope }) => scope),
      [onNode(NODE), onNode(OTHER)],
    );
    resetThere(world, first);
    t.same(
      tripsOf(world).map(({ scope }) => scope),
      [onNode(OTHER), onNode(NODE)],
    );
  });

  await t.test('an alert that began before the reset does not count after it; one that began later does', async (t) => {
    const alert = (world: DomainWorld, begunWallMs: number) =>
      world.submit({ kind: 'stop-requested', nodes: null, cause: 'alert', reason: 'Smoke', by: 'am', begunWallMs });
    const { world: before, first } = stoppedWorld();
    alert(before, before.wallMs - 1);
    resetThere(before, first);
    t.equal(before.interlock, 'clear');
    const { world: after, first: second } = stoppedWorld();
    alert(after, after.wallMs + 1);
    resetThere(after, second);
    t.match(tripsOf(after), [{ cause: 'alert', by: 'am' }]);
  });
});

t.test('a stop that joined outlives a restart for as long as the cluster has not heard of it', async (t) => {
  const { world, first } = stoppedWorld();
  world.stop();
  world.restart();
  t.match(tripsOf(world), [{ tripId: first, joined: { count: 1, unheard: { by: 'ada' } } }]);
  resetThere(world, first);
  t.match(tripsOf(world), [{ reason: /^smoke \(joined/ }]);

  await t.test('and no longer', async (t) => {
    const { world, first } = stoppedWorld();
    world.stop();
    heard(world, first, 1);
    world.restart();
    resetThere(world, first);
    t.equal(world.state.trips.size, 0);
  });

  await t.test('all that was asked for, and not only the first of it', async (t) => {
    const { world, first } = stoppedWorld();
    world.stop([OTHER]);
    world.stop();
    world.restart();
    resetThere(world, first);
    t.match(tripsOf(world), [{ scope: EVERYTHING }]);
    const { world: alerted, first: second } = stoppedWorld();
    const begunWallMs = alerted.wallMs + 1;
    alerted.submit({ kind: 'stop-requested', nodes: null, cause: 'alert', reason: 'Smoke', by: 'am', begunWallMs });
    alerted.stop();
    alerted.restart();
    alerted.pass(60_000);
    resetThere(alerted, second);
    t.match(tripsOf(alerted), [{ cause: 'manual', by: 'ada' }], 'a hand beside an alert that is over');
  });

  await t.test('many presses in a row are one write to the journal', async (t) => {
    const { world, first } = stoppedWorld();
    const before = world.effects.length;
    for (let i = 0; i < 50; i += 1) world.stop();
    const writes = world.effects.slice(before).filter(({ kind }) => kind === 'journal');
    t.equal(writes.length, 1);
    t.match(writes[0], { urgent: true });
    t.match(world.state.trips.get(first)?.joined, { count: 50 });
  });

  await t.test('what no stop can be is corruption', async (t) => {
    for (const joined of [
      null,
      3,
      { count: 1, alertWallMs: 'x', unheard: null },
      { count: '1', alertWallMs: null, unheard: null },
      { count: 1, alertWallMs: null },
      { count: 1, alertWallMs: null, unheard: { ...pressed, scope: { kind: 'none' } } },
      { count: 1, alertWallMs: null, unheard: { ...pressed, cause: 'blind' } },
      { count: 1, alertWallMs: null, unheard: { ...pressed, reason: 7 } },
      { count: 1, alertWallMs: null, unheard: { ...pressed, by: 7 } },
      { count: 1, alertWallMs: null, unheard: { ...pressed, begunWallMs: 'noon' } },
    ]) {
      const { world, first } = stoppedWorld();
      world.durable.set(`trip/${first}`, { ...world.state.trips.get(first), joined });
      t.throws(() => world.restart(), /is no trip/, JSON.stringify(joined));
    }
    const { world, first } = stoppedWorld();
    const joined = {
      count: 1,
      alertWallMs: null,
      unheard: { ...pressed, scope: onNode(NODE), begunWallMs: 5, cause: 'alert' },
    };
    world.durable.set(`trip/${first}`, { ...world.state.trips.get(first), joined });
    t.doesNotThrow(() => world.restart());
  });
});

t.test('without a cluster a press that joins is not written: nobody else can reset', async (t) => {
  const world = DomainWorld.running();
  world.stop();
  const before = world.effects.length;
  t.equal(world.stop().joined, true);
  t.notOk(world.effects.slice(before).some(({ kind }) => kind === 'journal'));
  t.match(world.reset({ acknowledgeUnverified: true }), { kind: 'reset-done' });
  t.equal(world.interlock, 'clear', 'the reset came after it');
});

t.test('reset-requested, judged and carried out apart, leaves what joined in between', async (t) => {
  const resetOf = (world: DomainWorld, tripId: string, between: () => void) => {
    const event = { kind: 'reset-requested', tripId, reason: 'well', by: 'eve', acknowledgeUnverified: true } as const;
    const judged = world.submit({ ...event, reports: world.reports(), stage: 'judge' });
    if (judged.kind !== 'reset-allowed') throw new Error(`it was answered ${judged.kind}`);
    between();
    return world.submit({ ...event, reports: [], stage: 'commit', judged: judged.judged });
  };
  const { world, first } = stoppedWorld();
  t.match(
    resetOf(world, first, () => world.stop()),
    { kind: 'reset-done', tripId: first },
  );
  t.match(tripsOf(world), [{ by: 'ada', reason: /^smoke \(joined/ }]);
  const { world: alerted, first: third } = stoppedWorld();
  resetOf(alerted, third, () => {
    alerted.pass(1_000);
    const begunWallMs = alerted.wallMs;
    alerted.submit({ kind: 'stop-requested', nodes: null, cause: 'alert', reason: 'Smoke', by: 'am', begunWallMs });
    alerted.pass(1_000);
  });
  t.match(tripsOf(alerted), [{ cause: 'alert' }], 'the time of a reset is that of its judgement');
  const { world: earlier, first: second } = stoppedWorld();
  earlier.stop();
  resetOf(earlier, second, () => undefined);
  t.equal(earlier.interlock, 'clear', 'what had joined before was judged with it');
});

t.test('cluster-tripped keeps a stop by hand that goes into another process’ trip', async (t) => {
  const theirs = {
    tripId: 'theirs',
    scope: EVERYTHING,
    cause: 'hard-stop',
    reason: 'heat',
    by: 'monitor',
    sinceWallMs: Date.UTC(2026, 0, 1),
    simulated: false,
    loadedW: {},
  } as const;
  const { world } = stoppedWorld([NODE]);
  world.submit({ kind: 'cluster-tripped', trips: [theirs] });
  t.same([...world.state.trips.keys()], ['theirs']);
  resetThere(world, 'theirs');
  t.match(tripsOf(world), [{ scope: onNode(NODE), by: 'ada', reason: /^smoke \(joined trip theirs/ }]);

  await t.test('until the cluster was asked again', async (t) => {
    const { world } = stoppedWorld([NODE]);
    world.submit({ kind: 'cluster-tripped', trips: [theirs] });
    heard(world, 'theirs', 1);
    resetThere(world, 'theirs');
    t.equal(world.interlock, 'clear');
  });

  await t.test('and not what this process’ own wider stop takes over: that came later', async (t) => {
    const { world } = stoppedWorld([NODE]);
    const wide = world.stop().tripId;
    t.same([...world.state.trips.keys()], [wide]);
    resetThere(world, wide);
    t.equal(world.interlock, 'clear');
  });
});

t.test('joinedByTakeOver() takes what was asked for, once and with what had joined it', async (t) => {
  const { world, first } = stoppedWorld();
  const trip = world.state.trips.get(first);
  if (!trip) throw new Error('no trip');
  t.equal(joinedByTakeOver([]), undefined);
  for (const cause of ['hard-stop', 'blind', 'corrupt-state'] as const)
    t.equal(joinedByTakeOver([{ ...trip, cause }]), undefined, cause);
  const alerted = joinedByTakeOver([{ ...trip, cause: 'alert', sinceWallMs: 7 }]);
  t.match(alerted, { count: 1, alertWallMs: 7, unheard: { cause: 'alert', begunWallMs: 7 } });
  const both = joinedByTakeOver([
    { ...trip, cause: 'blind', scope: onNode('a'), joined: withJoined(undefined, { ...pressed, scope: onNode('b') }) },
    { ...trip, cause: 'manual', scope: onNode('c', 'b') },
  ]);
  t.match(both, { count: 2, unheard: { scope: onNode('b', 'c'), begunWallMs: null } });
});

t.test('withJoined() tells of the newest, and a hand is never made less by an alert', async (t) => {
  const alert = { ...pressed, cause: 'alert', by: 'am', reason: 'Smoke', begunWallMs: 5 } as const;
  const hand = withJoined(withJoined(undefined, { ...pressed, scope: onNode('a') }), { ...alert, scope: onNode('b') });
  t.same(hand, { count: 2, alertWallMs: 5, unheard: { ...pressed, scope: onNode('a', 'b') } });
  t.same(withJoined(withJoined(undefined, alert), pressed).unheard, pressed);
  const alerts = withJoined(withJoined(undefined, alert), { ...alert, begunWallMs: 3, by: 'am2' });
  t.match(alerts.unheard, { by: 'am2', begunWallMs: 5 });
  t.same(withHeard(hand, 2), { count: 2, alertWallMs: 5, unheard: null });
  t.match(withHeard(hand, 1), { count: 2, unheard: { scope: onNode('a', 'b') } });
});

t.test('countsBeside() takes an alert for a stop once, and never one from before the trip', async (t) => {
  const { world, first } = stoppedWorld();
  const alert = (begunWallMs: number) =>
    world.submit({ kind: 'stop-requested', nodes: null, cause: 'alert', reason: 'Smoke', by: 'am', begunWallMs });
  const count = () => world.state.trips.get(first)?.joined?.count ?? 0;
  const { wallMs } = world;
  alert(wallMs);
  alert(0);
  t.equal(count(), 0);
  alert(wallMs + 5);
  alert(wallMs + 5);
  alert(wallMs + 4);
  t.equal(count(), 1);
  heard(world, first, 1);
  alert(wallMs + 5);
  t.equal(count(), 1, 'nor once it was heard of');
  alert(wallMs + 6);
  world.stop();
  world.stop();
  t.equal(count(), 4, 'a hand counts each time');
});

t.test('outliving() lets an alert of the very moment of the reset go', async (t) => {
  const { world, first } = stoppedWorld();
  const trip = world.state.trips.get(first);
  if (!trip) throw new Error('no trip');
  const alert = { ...pressed, cause: 'alert', begunWallMs: 100 } as const;
  t.equal(outliving({ ...trip, joined: withJoined(undefined, alert) }, 100), null);
  t.equal(outliving({ ...trip, joined: withJoined(undefined, alert) }, 99)?.begunWallMs, 100);
  t.equal(outliving(trip, 0), null);
});
