// What a Node object tells that no exporter does: that the machine has GPUs even where nothing reads them, whether it is
// Ready, and its boot. Capacity proves that there is a GPU and never how many, since time-slicing and MIG multiply it.
// Handed on as a source like any other, so that a node whose exporter was never installed has missing readings.
import type { Clock } from '../clock.ts';
import { EMPTY_REPORT, type GpuSign, type SourceReport } from '../domain/reading.ts';
import type { Source } from '../sources/source.ts';
import type { KubeObject } from './kube-api.ts';

export interface ClusterNode {
  readonly name: string;
  /** By its condition; a node that says nothing is not. */
  readonly isReady: boolean;
  /** Ordinary pods may be put there: not cordoned, and without a taint that somebody set on purpose. */
  readonly takesPods: boolean;
  /** Why there must be a GPU: `capacity nvidia.com/gpu=4`; `null` where nothing says so. */
  readonly gpuSign: string | null;
  /** Physical cards, by feature discovery's label; `null` where it does not tell. */
  readonly gpuCount: number | null;
  /** Differs after each boot of the machine; `null` where it is not told. */
  readonly bootId: string | null;
}

/** Extended resources of the device plugins of NVIDIA (MIG slices, shared cards), AMD and Intel. */
const GPU_RESOURCE = /^(nvidia\.com\/(gpu|mig-)|amd\.com\/gpu|gpu\.intel\.com\/(i915|xe))/;
/** Set by feature discovery, also where no device plugin runs, as with dynamic resource allocation. */
const GPU_LABELS: readonly string[] = ['nvidia.com/gpu.present', 'amd.com/gpu.present'];
const COUNT_LABEL = 'nvidia.com/gpu.count';
const PRODUCT_LABEL = 'nvidia.com/gpu.product';
/** More than any machine has; what is over it is a mistake or a count of slices. */
const MOST_CARDS = 64;
/** Set by the cluster itself, and gone when the trouble is over: such a node is meant for pods all the same. */
const PASSING_TAINT = /^node\.kubernetes\.io\//;

export function clusterNodeOf({ metadata, spec = {}, status = {} }: KubeObject): ClusterNode {
  const { name, labels = {} } = metadata;
  const conditions = (status['conditions'] ?? []) as readonly { readonly type?: string; readonly status?: string }[];
  const taints = (spec['taints'] ?? []) as readonly { readonly key?: string; readonly effect?: string }[];
  const keepsOut = taints.some(
    ({ key = '', effect }) => (effect === 'NoSchedule' || effect === 'NoExecute') && !PASSING_TAINT.test(key),
  );
  const { bootID: bootId } = (status['nodeInfo'] ?? {}) as { readonly bootID?: unknown };
  return {
    name,
    isReady: conditions.some((condition) => condition.type === 'Ready' && condition.status === 'True'),
    takesPods: spec['unschedulable'] !== true && !keepsOut,
    gpuSign: gpuSignOf((status['capacity'] ?? {}) as Readonly<Record<string, unknown>>, labels),
    gpuCount: gpuCountOf(labels),
    bootId: typeof bootId === 'string' && bootId !== '' ? bootId : null,
  };
}

function gpuSignOf(
  capacity: Readonly<Record<string, unknown>>,
  labels: Readonly<Record<string, string>>,
): string | null {
  for (const [resource, amount] of Object.entries(capacity).sort()) {
    // A plugin whose cards are all unhealthy leaves the capacity; one that found none leaves 0.
    if (GPU_RESOURCE.test(resource) && String(amount) !== '0') return `capacity ${resource}=${String(amount)}`;
  }
  const label = GPU_LABELS.find((name) => labels[name] === 'true');
  if (label !== undefined) return `label ${label}=true`;
  const count = gpuCountOf(labels);
  return count === null ? null : `label ${COUNT_LABEL}=${count}`;
}

/** Under MIG's "single" strategy the label counts slices, and the product's name says so. */
function gpuCountOf(labels: Readonly<Record<string, string>>): number | null {
  const text = labels[COUNT_LABEL] ?? '';
  if (!/^[1-9]\d?$/.test(text) || (labels[PRODUCT_LABEL] ?? '').includes('-MIG-')) return null;
  const count = Number(text);
  return count <= MOST_CARDS ? count : null;
}

export interface NodeObjectParts {
  readonly node: string;
  readonly clock: Clock;
  /** The Node object as it was last listed; `null` where it is not, or nothing has been listed yet. */
  readonly lookUp: (name: string) => ClusterNode | null;
}

/** A node's own object as a source. It asks nothing itself: it tells what the last list said. */
export function createNodeObjectSource({ node, clock, lookUp }: NodeObjectParts): Source {
  return {
    id: 'kubernetes',
    node,
    carriesHeat: false,
    async read(): Promise<SourceReport> {
      const atMs = clock.now().elapsedMs;
      const report = { ...EMPTY_REPORT, source: 'kubernetes', node, startedAtMs: atMs, finishedAtMs: atMs };
      const found = lookUp(node);
      if (!found) {
        const detail = `the cluster lists no node ${node}, or has not been asked yet`;
        return { ...report, outcome: { kind: 'failed', cause: 'empty', detail } };
      }
      const { isReady, gpuCount, gpuSign } = found;
      const detail = `the cluster's node ${found.name} has ${gpuSign}`;
      const gpuSigns: readonly GpuSign[] =
        gpuSign === null ? [] : [{ kind: 'node-capacity', detail, ...(gpuCount !== null && { count: gpuCount }) }];
      const cards = gpuCount === null ? 'tells no number of GPUs' : `is said to have ${gpuCount} GPUs`;
      const notes = [`Node ${found.name} is ${isReady ? 'Ready' : 'not Ready'} and ${cards}`];
      return { ...report, outcome: { kind: 'answered' }, gpuSigns, notes };
    },
    async close() {},
  };
}
