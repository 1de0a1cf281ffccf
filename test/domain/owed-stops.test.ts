// A service that dies while it stops the workload of a lapsed lease goes on with that at its next start.
import t from 'tap';
import { DomainWorld, LEASE_ID, NODE } from '../support/domain-world.ts';

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
