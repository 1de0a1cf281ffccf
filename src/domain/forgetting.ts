// What an operator says is gone for good: a card that was sold, a node that was taken down. The only way in which the
// domain forgets that something must be read.
import type { Answer } from './events.ts';
import { gpuNamed } from './known-gpus.ts';
import { settingsOf } from './settings.ts';
import type { NodeState } from './state.ts';
import type { Step } from './step.ts';

/**
 * An operator's word that a card, or a whole node, is gone for good. Refused while it is still read, configured or
 * listed: then it is not gone, and `ignore` in the configuration is the way out.
 */
export function forget(
  step: Step,
  event: { readonly node: string; readonly gpu: string | null; readonly reason: string; readonly by: string },
): Answer {
  const { state } = step;
  const node = state.nodes.get(event.node) ?? state.nodesAside.get(event.node);
  if (!node) return { kind: 'unknown-nodes', nodes: [event.node] };
  if (event.gpu === null) return forgetNode(step, node, event);
  const { known, listed } = node.watch.gpus;
  const gpu = gpuNamed(node.watch.gpus, event.gpu);
  if (!gpu) return { kind: 'gpu-unknown', asked: [event.gpu], known: [...known.keys()] };
  const where = `GPU ${gpu.id} on ${event.node}`;
  const isListed = listed.has(gpu.id) || (gpu.pciAddress !== undefined && listed.has(gpu.pciAddress));
  if (isListed) {
    const key = gpu.pciAddress ?? gpu.id;
    const why = `${where} is still there; to leave a dead card out, set nodes[].gpus."${key}".ignore: true`;
    return { kind: 'forget-refused', why };
  }
  const settings = settingsOf(state.settings, event.node);
  const isNamed = settings.gpus.has(gpu.id) || (gpu.pciAddress !== undefined && settings.gpus.has(gpu.pciAddress));
  if (isNamed) {
    const why = `${where} is named in the configuration; take it out there, or set ignore: true for it`;
    return { kind: 'forget-refused', why };
  }
  dropGpus(step, node, [gpu.id], event);
  return { kind: 'forgotten', gpus: [gpu.id] };
}

function forgetNode(
  step: Step,
  node: NodeState,
  event: { readonly node: string; readonly reason: string; readonly by: string },
): Answer {
  const { settings } = step.state;
  const { staleAfterMs } = settingsOf(settings, event.node);
  const isRead = [...node.watch.sources.values()].some(
    ({ failure, lastReport }) => !failure && step.nowMs - lastReport.finishedAtMs <= staleAfterMs,
  );
  if (settings.nodes.has(event.node) || event.node === settings.localNode || isRead) {
    const why =
      `${event.node} is still read or configured; name a GPU to forget one, or set ignore: true for a dead card ` +
      'in the configuration';
    return { kind: 'forget-refused', why };
  }
  return { kind: 'forgotten', gpus: dropNode(step, node, event) };
}

/** Takes out a node and everything that is remembered of it; gives the cards that it had. */
export function dropNode(
  step: Step,
  node: NodeState,
  event: { readonly node: string; readonly reason: string; readonly by: string },
): readonly string[] {
  const gpus = [...node.watch.gpus.known.keys()];
  dropGpus(step, node, gpus, event);
  const nodes = new Map(step.state.nodes);
  const nodesAside = new Map(step.state.nodesAside);
  nodes.delete(event.node);
  nodesAside.delete(event.node);
  step.change({ nodes, nodesAside });
  for (const key of [`cooling/${event.node}`, `blind/${event.node}`, `boot/${event.node}`]) {
    step.record(key, null, `node ${event.node} forgotten`);
  }
  return gpus;
}

function dropGpus(
  step: Step,
  node: NodeState,
  ids: readonly string[],
  event: { readonly node: string; readonly reason: string; readonly by: string },
): void {
  const { aliases } = node.watch.gpus;
  const gone = (id: string): boolean => ids.includes(aliases.get(id) ?? id);
  const known = new Map([...node.watch.gpus.known].filter(([id]) => !gone(id)));
  const sources = new Map(
    [...node.watch.sources].map(([name, source]) => {
      const tracks = new Map([...source.tracks].filter(([, track]) => !gone(track.raw.id ?? '')));
      return [name, { ...source, tracks }];
    }),
  );
  const watch = { ...node.watch, sources, gpus: { ...node.watch.gpus, known } };
  const looks = new Map([...node.looks].filter(([, look]) => !gone(look.reading.id ?? '')));
  const where = step.state.nodes.has(event.node) ? 'nodes' : 'nodesAside';
  step.change({ [where]: new Map(step.state[where]).set(event.node, { ...node, watch, looks }) });
  for (const id of ids) {
    const message = `GPU ${id} on ${event.node} is forgotten by ${event.by}: ${event.reason}`;
    step.record(`gpu/${event.node}/${id}`, null, message);
    step.tell({ name: 'gpu-forgotten', node: event.node, message, by: event.by }, 'warn');
  }
}
