// The cards of a node as people and programs read them: what is known of each, and what it says of its own limits.
import { gpuSettingsOf, type NodeSettings } from '../domain/settings.ts';
import type { NodeState } from '../domain/state.ts';
import type { NodeStatusSchema, Told } from './schemas.ts';

type GpuStatus = Told<typeof NodeStatusSchema>['gpus'][number];
type OwnLimits = NonNullable<GpuStatus['ownLimits']>;

/** Every card that is known here or listed now. */
export function gpuStatusesOf(node: NodeState, settings: NodeSettings): GpuStatus[] {
  const { known, listed } = node.watch.gpus;
  const ownLimits = ownLimitsOf(node);
  return [...new Set([...known.keys(), ...listed.keys()])].flatMap((id) => {
    const gpu = listed.get(id) ?? known.get(id);
    if (!gpu) return [];
    const pods = listed.get(id)?.pods;
    const slowdownC = node.limits.slowdownC.get(id);
    const own = ownLimits.get(id);
    return {
      id,
      ...(gpu.name !== undefined && { name: gpu.name }),
      ...(gpu.pciAddress !== undefined && { pciAddress: gpu.pciAddress }),
      vendor: gpu.vendor,
      required: known.has(id),
      listed: listed.has(id),
      ignored: gpuSettingsOf(settings, gpu).ignore,
      ...(slowdownC !== undefined && { slowdownC }),
      ...(own && { ownLimits: own }),
      ...(pods && { pods: [...pods] }),
    };
  });
}

/** What the cards of a node say of themselves, by id; two sources may tell of one. */
function ownLimitsOf({ watch }: NodeState): ReadonlyMap<string, OwnLimits> {
  const own = new Map<string, OwnLimits>();
  for (const { lastAnswer } of watch.sources.values()) {
    for (const { component, id: told, criticalC: _, ...limits } of lastAnswer?.hardwareLimits ?? []) {
      if (component !== 'gpu' || told === undefined || Object.keys(limits).length === 0) continue;
      const id = watch.gpus.aliases.get(told) ?? told;
      own.set(id, { ...limits, ...own.get(id) });
    }
  }
  return own;
}
