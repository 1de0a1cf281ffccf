// Where leases are: which nodes are live by them, and which limits they brought there.
import t from 'tap';
import { DEFAULT_CONSTRAINTS } from '../../src/domain/constraints.ts';
import { isLive, withLeaseLimits } from '../../src/domain/lease-places.ts';
import { DomainWorld, NODE, profile, type DomainWorld as World } from '../support/domain-world.ts';
import { LEASE_B, OTHER_NODE, twoNodes, twoSettings } from '../support/two-nodes.ts';

const BARE = { nodes: null, processGroup: null };
const liveOn = (world: World): string[] => [NODE, OTHER_NODE].filter((node) => isLive(world.state, node));
const fresh = (): World => DomainWorld.running(twoSettings(), twoNodes());
const pod = (node: string, leaseId: string) => ({ kind: 'pod', node, name: 'gpu/x', leaseId }) as const;

t.test('isLive() is where a lease says that it runs, or where its processes or its pods are seen', async (t) => {
  t.same(liveOn(fresh()), []);
  const named = fresh();
  named.askLease({ nodes: [OTHER_NODE] });
  t.same(liveOn(named), [OTHER_NODE], 'its nodes before its process group');
  const group = fresh();
  group.askLease();
  t.same(liveOn(group), [NODE], 'a process group is on this machine');
  const withPods = fresh();
  withPods.askLease({ ...BARE, id: LEASE_B });
  withPods.inventory([pod(OTHER_NODE, LEASE_B)], true);
  t.same(liveOn(withPods), [OTHER_NODE]);
});

t.test('isLive() is everywhere for a lease of which nobody can tell where it is', async (t) => {
  const world = fresh();
  world.askLease({ ...BARE, id: LEASE_B });
  t.same(liveOn(world), [NODE, OTHER_NODE], 'pods are not seen');
  world.inventory([], true);
  t.same(liveOn(world), [], 'they are, and it has none');
  world.inventory([pod(NODE, LEASE_B)], false);
  t.same(liveOn(world), [NODE], 'it has one, of the last look that was whole');
  world.askLease({ nodes: [OTHER_NODE] });
  t.same(liveOn(world), [NODE, OTHER_NODE]);
});

t.test('withLeaseLimits() takes per cell the strictest of the profile and what the leases there brought', async (t) => {
  const own = DEFAULT_CONSTRAINTS;
  const gpuAt = (warning: number, hardStop: number) =>
    profile((copy) => {
      copy.gpu = { ...copy.gpu, temperatureC: { warning, hardStop } };
    });
  const on = (world: World, node: string) => withLeaseLimits(world.state, node, own).gpu.temperatureC;
  const keys = { constraintKeys: ['gpu.temperatureC.warning', 'gpu.temperatureC.hardStop'] };
  const world = fresh();
  t.equal(withLeaseLimits(world.state, NODE, own), own, 'the very profile where no lease brought any');
  world.askLease({ nodes: [NODE], constraints: gpuAt(70, 84), ...keys });
  t.same(on(world, NODE), { warning: 70, hardStop: 84 });
  t.same(on(world, OTHER_NODE), own.gpu.temperatureC);
  world.askLease({ id: LEASE_B, nodes: [NODE, OTHER_NODE], processGroup: null, constraints: gpuAt(75, 80), ...keys });
  t.same(on(world, NODE), { warning: 70, hardStop: 80 });
  t.same(on(world, OTHER_NODE), { warning: 75, hardStop: 80 });
  const third = '0b0e7a52-8f0e-4f8e-9d7c-2b1f5f3f9a03';
  world.askLease({ ...BARE, id: third, constraints: gpuAt(72, 78), ...keys });
  t.same(on(world, NODE), { warning: 70, hardStop: 78 });
  t.same(on(world, OTHER_NODE), { warning: 72, hardStop: 78 });
  const fourth = '0b0e7a52-8f0e-4f8e-9d7c-2b1f5f3f9a04';
  world.askLease({ ...BARE, id: fourth, constraints: gpuAt(71, 79), ...keys });
  t.same(on(world, OTHER_NODE), { warning: 71, hardStop: 78 }, 'of all that are everywhere');
  world.submit({ kind: 'release-asked', leaseId: third, identity: 'local' });
  t.same(on(world, OTHER_NODE), { warning: 71, hardStop: 79 }, 'and no longer than the lease');
});
