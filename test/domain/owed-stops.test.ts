// A service that dies while it stops the workload of a lapsed lease goes on with that at its next start.
import t from 'tap';
import { endLeases } from '../../src/domain/lease-endings.ts';
import { Step } from '../../src/domain/step.ts';
import { DomainWorld, LEASE_ID, NODE } from '../support/domain-world.ts';
import { OTHER_NODE, twoNodes, twoSettings } from '../support/two-nodes.ts';

const ORDER = `lapse-${LEASE_ID}`;

function lapsed(): DomainWorld {
  const world = DomainWorld.running();
  world.askLease({ ttlMs: 20_000, nodes: [NODE] });
  world.run(20);
  return world;
}

t.test('decide() orders the stop of a lapsed workload again after a restart, until it is seen gone', async (t) => {
  const world = lapsed();
  for (const start of ['first', 'second']) {
    world.restart();
    t.match(
      world.orders,
      [
        {
          orderId: ORDER,
          what: 'leases',
          scope: { kind: 'nodes', nodes: [NODE] },
          targets: [{ leaseId: LEASE_ID, processGroup: { pgid: 4711, startTicks: 99 } }],
          reason: /not renewed within 20 s/,
        },
      ],
      `${start} start`,
    );
  }
  t.equal(world.state.trips.size, 0);
  world.inventory();
  world.stopReported(true, ORDER);
  world.restart();
  t.same(world.orders, []);
  t.match(world.renew(), { kind: 'lease-ended', ended: { outcome: 'lapsed' } }, 'its holder is told as before');
});

t.test('decide() calls a lapsed workload gone when every actuator has seen it gone, not some', async (t) => {
  const world = DomainWorld.running();
  const actuators = ['kubernetes', 'local-processes'].map((name) => ({ name, available: true, detail: '' }));
  world.submit({ kind: 'inventoried', actuators, workloads: [], seesPods: false });
  world.askLease({ ttlMs: 20_000 });
  world.run(20);
  const owed = () => world.state.endedLeases.get(LEASE_ID)?.owedStop;
  const report = (actuator: string, verified: boolean) =>
    world.submit({ kind: 'stop-reported', orderId: ORDER, actuator, entries: [], verified });
  report('local-processes', true);
  report('kubernetes', false);
  t.match(owed(), { verifiedBy: ['local-processes'] });
  t.equal(world.told('stop-verified').length, 0);
  report('kubernetes', true);
  t.equal(owed(), null);
  t.match(world.told('stop-verified'), [{ leaseId: LEASE_ID }]);
});

t.test('decide() calls nothing gone of a lapsed lease that nothing was marked with, unless it was found', async (t) => {
  const actuators = ['kubernetes', 'local-processes'].map((name) => ({ name, available: true, detail: '' }));
  const entry = { actuator: 'kubernetes', kind: 'Pod', name: 'a/b', how: 'delete', tookMs: 1_000 } as const;
  for (const [entries, told] of [
    [[], 0],
    [[{ ...entry, state: 'stopped', verified: true } as const], 1],
  ] as const) {
    const world = DomainWorld.running();
    world.submit({ kind: 'inventoried', actuators, workloads: [], seesPods: true });
    world.askLease({ ttlMs: 20_000, processGroup: null });
    world.run(20);
    t.equal(world.told('lapsed-unmarked').length, 1);
    world.restart();
    world.submit({ kind: 'inventoried', actuators, workloads: [], seesPods: true });
    const report = { kind: 'stop-reported' as const, orderId: ORDER, verified: true };
    world.submit({ ...report, actuator: 'kubernetes', entries });
    world.submit({ ...report, actuator: 'local-processes', entries: [] });
    t.equal(world.told('stop-verified').length, told);
    t.equal(world.state.endedLeases.get(LEASE_ID)?.owedStop, null, 'and nobody goes on looking');
    world.restart();
    t.same(world.orders, []);
  }
});

t.test(
  'decide() hands to a trip of one node the lapsed workloads that may run there: named among others, or anywhere',
  async (t) => {
    for (const nodes of [null, [NODE, OTHER_NODE]]) {
      const world = DomainWorld.running(twoSettings(), twoNodes());
      world.askLease({ ttlMs: 20_000, nodes });
      world.run(20);
      world.stop([OTHER_NODE]);
      t.match(world.state.trips.get(world.tripId)?.targets, [{ leaseId: LEASE_ID }], String(nodes));
    }
  },
);

t.test(
  'endLeases() remembers the last 1,000 ended leases, and longer those whose workload may still run',
  async (t) => {
    const world = DomainWorld.running();
    world.askLease();
    const endings = Array.from({ length: 1_002 }, (_, at) => ({
      lease: { ...world.lease, id: `lease-${at}` },
      outcome: at === 0 ? ('lapsed' as const) : ('released' as const),
      reason: 'test',
    }));
    const step = new Step(world.state, { elapsedMs: world.elapsedMs, wallMs: world.wallMs, id: 'test' });
    endLeases(step, endings);
    const ids = [...step.state.endedLeases.keys()];
    t.equal(ids.length, 1_000);
    t.same(ids.slice(0, 2), ['lease-0', 'lease-3']);
    const [journal] = step.effects();
    const forgotten =
      journal?.kind === 'journal' ? journal.change.delete.filter((key) => key.startsWith('ended/')) : [];
    t.same(forgotten, ['ended/lease-1', 'ended/lease-2'], 'on the disk, too');
  },
);

t.test('decide() looks for no process of another boot, and for what else the lease may have', async (t) => {
  const world = lapsed();
  world.restart({ settings: { bootId: 'boot-2' } });
  t.same(
    world.orders.map(({ targets }) => targets),
    [[{ leaseId: LEASE_ID, workload: 'train-7' }]],
  );
  const live = DomainWorld.running();
  live.askLease();
  live.restart({ settings: { bootId: 'boot-2' } });
  t.same(
    live.orders.map(({ targets }) => targets),
    [[{ leaseId: LEASE_ID, workload: 'train-7' }]],
    'lapsed by the reboot',
  );
});

t.test('decide() takes over what an earlier version wrote, which owed nothing', async (t) => {
  const world = lapsed();
  const { owedStop, ...before } = world.durable.get(`ended/${LEASE_ID}`) as Record<string, unknown>;
  t.ok(owedStop);
  world.durable.set(`ended/${LEASE_ID}`, before);
  world.restart();
  t.same(world.orders, []);
});

t.test('stopLeases() tells of a lapsed lease that nothing is marked with, and not of one that has pods', async (t) => {
  const untold = (...marked: string[]): boolean => {
    const world = DomainWorld.running();
    world.askLease({ ttlMs: 20_000, nodes: [NODE], processGroup: null });
    const pods = marked.map((leaseId) => ({ kind: 'pod', node: NODE, name: `gpu/${leaseId}`, leaseId }) as const);
    world.inventory(pods, true);
    world.run(20);
    return world.told('lapsed-unmarked').length === 0;
  };
  t.notOk(untold());
  t.notOk(untold('another'), 'another lease’s pod is none of its own');
  t.ok(untold(LEASE_ID));
  t.ok(untold('another', LEASE_ID), 'one is enough');
});
