// Two pretended nodes, each with a workload: for what must stay on its own node.
import { coolGpu, coolNode, DomainWorld, type FakeNode, NODE, nodeSettings, worldSettings } from './domain-world.ts';

export const OTHER_NODE = 'other';
const GPU_C = 'GPU-cccccccc-0000-4000-8000-000000000000';

export const twoNodes = (): Record<string, FakeNode> => ({
  [NODE]: coolNode(),
  [OTHER_NODE]: { ...coolNode(), gpus: { [GPU_C]: coolGpu() } },
});
export const twoSettings = (tripScope: 'cluster' | 'node' = 'node') =>
  worldSettings({
    tripScope,
    nodes: new Map([
      [NODE, nodeSettings()],
      [OTHER_NODE, nodeSettings()],
    ]),
  });
export const LEASE_B = '0b0e7a52-8f0e-4f8e-9d7c-2b1f5f3f9a02';

/** Two nodes, with a lease on each. */
export function twoLeases(tripScope: 'cluster' | 'node' = 'node'): DomainWorld {
  const world = DomainWorld.running(twoSettings(tripScope), twoNodes());
  world.askLease({ nodes: [NODE] });
  world.askLease({ id: LEASE_B, workload: 'bake-2', nodes: [OTHER_NODE], processGroup: null });
  if (world.state.leases.size !== 2) throw new Error('the leases were not granted');
  world.effects = [];
  return world;
}
