// Finds exporters among a cluster's pods, and the nodes that must have one. A target's node is where its pod was put, by
// the scheduler's own word and no label. Which nodes are watched is the other half: one without an exporter must show up
// as unread instead of not at all, as long as a workload could be put there or it has GPUs. What of the found addresses
// may be read is discovery.ts' to decide.
import type { Clock } from '../clock.ts';
import { type Found, named, type Target, type TargetFinder } from '../sources/targets.ts';
import { type ClusterNode, clusterNodeOf } from './cluster-node.ts';
import { type KubeApi, type KubeFailure, type KubeObject, pathOf } from './kube-api.ts';

/** Pods with an exporter, as `discovery.exporters` describes them. */
export interface ExporterPods {
  readonly selector: string;
  /** `null`: in every namespace. Whoever may create pods there can pretend readings of the node where they run. */
  readonly namespace: string | null;
  readonly port: number;
  readonly path: string;
  readonly scheme: 'http' | 'https';
}

export interface ExporterFinder extends TargetFinder {
  /**
   * Lists the nodes alone: whether a node is Ready decides within a minute what blindness there means, and targets are
   * looked for less often. Large clusters' lists are too long for that. Never rejects.
   */
  lookAtNodes(timeoutMs: number): Promise<void>;
  /** A node as it was last listed; upper and lower case are one, as Kubernetes has lower case alone. */
  node(name: string): ClusterNode | null;
}

export interface ExporterFinderParts {
  readonly api: KubeApi;
  readonly clock: Clock;
  readonly exporters: readonly ExporterPods[];
}

/** Whoever waits for the lists gives up at their deadline; the reason should be there before. */
const MARGIN_MS = 100;

/** A Node object has some 15 KB, most of it images. */
const MOST_LOOKED_AT_OFTEN = 200;

const NODES = pathOf({ group: '', version: 'v1', resource: 'nodes', namespaced: false });
const podsIn = (namespace: string | null): string =>
  pathOf({ group: '', version: 'v1', resource: 'pods', namespaced: true }, namespace === null ? {} : { namespace });

export function createExporterFinder({ api, clock, exporters }: ExporterFinderParts): ExporterFinder {
  let listed: ReadonlyMap<string, ClusterNode> = new Map();

  /** All lists or none: half of them would take exporters off the other half's nodes. */
  async function find(deadlineMs: number): Promise<Found> {
    const leftMs = deadlineMs - clock.now().elapsedMs - MARGIN_MS;
    if (leftMs <= 0) return { ok: false, detail: 'has no time left to be asked' };
    const [nodes, ...pods] = await Promise.all([
      api.list(NODES, {}, leftMs),
      ...exporters.map(({ namespace, selector }) => api.list(podsIn(namespace), { labelSelector: selector }, leftMs)),
    ]);
    if (!nodes.ok) return failed(nodes);
    const clusterNodes = nodes.value.items.map(clusterNodeOf);
    take(clusterNodes);
    const sightings: Sighting[] = [];
    for (const [index, answer] of pods.entries()) {
      const exporter = exporters[index];
      if (!exporter) continue;
      if (!answer.ok) return failed(answer);
      for (const pod of answer.value.items) sightings.push(sightingOf(pod, exporter));
    }
    return foundOf(clusterNodes, sightings);
  }

  async function lookAtNodes(timeoutMs: number): Promise<void> {
    if (listed.size > MOST_LOOKED_AT_OFTEN) return;
    const nodes = await api.list(NODES, {}, timeoutMs);
    if (nodes.ok) take(nodes.value.items.map(clusterNodeOf));
  }

  function take(nodes: readonly ClusterNode[]): void {
    listed = new Map(nodes.map((node) => [node.name.toLowerCase(), node]));
  }

  return { find, lookAtNodes, node: (name) => listed.get(name.toLowerCase()) ?? null };
}

const failed = ({ detail }: KubeFailure): Found => ({ ok: false, detail });

/** An exporter's pod: where it is, and its address or why it has none. */
interface Sighting {
  readonly name: string;
  /** `null` while it is not scheduled. */
  readonly node: string | null;
  readonly url: string | null;
  /** For people, where it cannot be read; `null` also for one that is on its way out. */
  readonly fault: string | null;
}

/**
 * A running pod is asked whether it calls itself ready or not: on a node that is not Ready no pod is, and its exporter
 * may answer still; and one that does not answer tells more than one that nobody asks.
 */
function sightingOf({ metadata, spec = {}, status = {} }: KubeObject, exporter: ExporterPods): Sighting {
  const name = `${metadata.namespace ?? ''}/${metadata.name}`;
  const node = textOf(spec['nodeName']);
  const { phase, podIP } = status;
  const isLeaving = metadata.deletionTimestamp !== undefined;
  const address = textOf(podIP);
  if (phase === 'Running' && !isLeaving && node !== null && address !== null) {
    const host = address.includes(':') ? `[${address}]` : address;
    const url = `${exporter.scheme}://${host}:${exporter.port}${exporter.path}`;
    if (URL.canParse(url)) return { name, node, url, fault: null };
    return { name, node, url: null, fault: 'has an address that is none' };
  }
  if (isLeaving) return { name, node, url: null, fault: null };
  if (node === null) return { name, node, url: null, fault: 'is on no node' };
  return { name, node, url: null, fault: phase === 'Running' ? 'has no address' : `is ${String(phase)}` };
}

function foundOf(clusterNodes: readonly ClusterNode[], sightings: readonly Sighting[]): Found {
  const targets = new Map<string, Target>();
  const faulty = new Map<string, string[]>();
  for (const { name, node, url, fault } of sightings) {
    if (node !== null && url !== null) targets.set(`${node} ${url}`, { node, url, origin: 'kubernetes' });
    if (fault !== null) faulty.set(fault, [...(faulty.get(fault) ?? []), name]);
  }
  const withExporter = new Set(sightings.flatMap(({ node }) => node ?? []));
  const isWatched = ({ name, takesPods, gpuSign }: ClusterNode): boolean =>
    takesPods || gpuSign !== null || withExporter.has(name);
  const nodes = clusterNodes.filter(isWatched).map(({ name }) => name);
  const bare = nodes.filter((name) => !withExporter.has(name));
  const problems = [
    ...[...faulty].map(([fault, names]) => `lists exporters that are not read, since each ${fault}: ${named(names)}`),
    ...(bare.length === 0
      ? []
      : [
          `has nodes without a pod that matches discovery.exporters, so that nothing is found to read there: ${named(bare)}`,
        ]),
  ];
  return { ok: true, targets: [...targets.values()], nodes, problems };
}

const textOf = (value: unknown): string | null => (typeof value === 'string' && value !== '' ? value : null);
