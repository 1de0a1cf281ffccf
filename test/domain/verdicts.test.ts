// One answer out of findings: whose they are, which profile they were judged by, and what a lease's holder is told.
import t from 'tap';
import { MOST_FINDINGS } from '../../src/domain/result.ts';
import type { NodeSettings } from '../../src/domain/settings.ts';
import { isIn, resultForLease, standingFindings } from '../../src/domain/verdicts.ts';
import { coolNode, DomainWorld, LEASE_ID, NODE, nodeSettings, worldSettings } from '../support/domain-world.ts';
import { LEASE_B, OTHER_NODE, twoLeases, twoNodes, twoSettings } from '../support/two-nodes.ts';

t.test('isIn() is every node, or those named', async (t) => {
  t.ok(isIn({ kind: 'all' })('any'));
  const asked = isIn({ kind: 'nodes', nodes: ['a', 'b'] });
  t.same(['a', 'b', 'c'].filter(asked), ['a', 'b']);
});

t.test('compose() names the profiles of the nodes asked about, and the usual one where there is none', async (t) => {
  const profiles = (names: Readonly<Record<string, NodeSettings['profile']>>): DomainWorld =>
    DomainWorld.running(
      worldSettings({
        defaults: nodeSettings({ profile: 'bizon1' }),
        nodes: new Map(Object.entries(names).map(([name, profile]) => [name, nodeSettings({ profile })])),
      }),
      Object.fromEntries(Object.keys(names).map((name) => [name, coolNode()])),
    );
  const two = profiles({ [NODE]: 'custom', [OTHER_NODE]: 'default' });
  t.equal(two.result.profile, 'custom, default');
  t.equal(two.preflight({ nodes: [OTHER_NODE] }).result.profile, 'default');
  t.equal(two.preflight({ nodes: [OTHER_NODE, NODE] }).result.profile, 'custom, default', 'in the order of the nodes');
  t.equal(profiles({ [NODE]: 'custom', [OTHER_NODE]: 'custom' }).result.profile, 'custom', 'each once');
  const none = new DomainWorld(worldSettings({ defaults: nodeSettings({ profile: 'bizon1' }), nodes: new Map() }), {});
  t.equal(none.tick().profile, 'bizon1');
});

t.test('compose() carries what nobody protects of the nodes asked about, 100 entries at most', async (t) => {
  const names = Array.from({ length: 60 }, (_, n) => `node-${n}`);
  const settings = nodeSettings({ waive: ['cpu', 'memory'] });
  const world = DomainWorld.running(
    worldSettings({ nodes: new Map(names.map((name) => [name, settings])) }),
    Object.fromEntries(names.map((name) => [name, coolNode()])),
  );
  t.equal(world.result.unprotected.length, MOST_FINDINGS);
  const own = world.preflight({ nodes: ['node-7'] }).result.unprotected.filter(({ code }) => code === 'waived');
  t.same(new Set(own.map(({ node }) => node)), new Set(['node-7']));
  t.equal(own.length, 2);
});

t.test(
  'standingFindings() gives those of the nodes asked about, each once, and none of a node that is not known',
  async (t) => {
    const world = DomainWorld.running(twoSettings(), twoNodes());
    Object.assign(world.nodes[OTHER_NODE] ?? {}, { memoryRatio: 0.99 });
    world.run(10);
    const on = (...nodes: string[]): number => standingFindings(world.state, { kind: 'nodes', nodes }).length;
    t.equal(on(OTHER_NODE), 1);
    t.equal(on(OTHER_NODE, OTHER_NODE, NODE), 1);
    t.equal(on(NODE), 0);
    t.equal(on('nobody knows it'), 0);
    t.equal(standingFindings(world.state, { kind: 'all' }).length, 1);
  },
);

t.test('resultForLease() holds a cut for what is left of it, and says how long', async (t) => {
  const world = DomainWorld.running();
  world.askLease({ intensity: 0.8 });
  world.node.memoryRatio = 0.9;
  world.run(10);
  t.match(world.renew(), { result: { action: 'REDUCE_INTENSITY' } });
  world.node.memoryRatio = 0.4;
  world.run(10);
  const held = world.renew();
  const [finding] = 'result' in held ? held.result.findings : [];
  t.match(finding, { code: 'reduction-held', message: /is held for 50 s more/ });
  world.run(40);
  t.match(world.renew(), { result: { findings: [{ message: /is held for 10 s more/ }] } });
  world.pass(9_999);
  t.match(resultForLease(world.state, world.lease, world).findings, [{ message: /is held for 1 s more/ }]);
});

t.test('resultForLease() tells no holder of refusals, which hold up starts alone', async (t) => {
  const world = DomainWorld.running();
  world.askLease();
  world.submit({
    kind: 'nodes-listed',
    listing: {
      nodes: new Set([NODE]),
      sources: new Map([[NODE, new Set(['fake'])]]),
      problems: [],
      unread: ['a list'],
    },
  });
  world.run(10);
  t.equal(world.preflight().result.safe, false);
  t.match(world.renew(), { result: { safe: true } });
});

t.test('resultForLease() of a lease without nodes leaves out the nodes whose own trip stopped others', async (t) => {
  const world = DomainWorld.running(twoSettings(), twoNodes());
  const everywhere = { id: LEASE_B, nodes: null, processGroup: null };
  world.askLease({ nodes: [OTHER_NODE], processGroup: null });
  world.askLease(everywhere);
  world.inventory([{ kind: 'pod', node: NODE, name: 'gpu/x', leaseId: LEASE_B }], true);
  world.stop([OTHER_NODE]);
  const scope = () => resultForLease(world.state, leaseB(world), world).scope;
  t.same(scope(), { kind: 'nodes', nodes: [NODE] });
  const untouched = DomainWorld.running(twoSettings(), twoNodes());
  untouched.askLease(everywhere);
  t.same(resultForLease(untouched.state, leaseB(untouched), untouched).scope, { kind: 'all' });
});

t.test('resultForLease() says that nothing can stop a lease without a process group where no cluster is', async (t) => {
  const world = twoLeases();
  const of = (id: string): string[] => {
    const lease = world.state.leases.get(id);
    if (!lease) throw new Error('there is no such lease');
    return resultForLease(world.state, lease, world).unprotected.map(({ code }) => code);
  };
  t.notOk(of(LEASE_ID).includes('no-actuator'), 'its processes can be');
  t.ok(of(LEASE_B).includes('no-actuator'));
  const report = (available: boolean) =>
    world.submit({
      kind: 'inventoried',
      actuators: [{ name: 'kubernetes', available, detail: '' }],
      workloads: [],
      seesPods: available,
    });
  report(true);
  t.notOk(of(LEASE_B).includes('no-actuator'), 'its pods can be');
  report(false);
  t.ok(of(LEASE_B).includes('no-actuator'), 'not by a cluster that cannot be reached');
});

function leaseB(world: DomainWorld) {
  const lease = world.state.leases.get(LEASE_B);
  if (!lease) throw new Error('there is no such lease');
  return lease;
}
