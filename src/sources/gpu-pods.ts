// Which pod uses a card, where the exporter's labels tell: shown beside the card, and nothing else. It is no part of who the
// card is and nothing is judged or stopped by it, since of several pods that share a card an exporter may name only one,
// and an empty label means that the exporter does not know, not that the card is idle.
import type { Labels } from './scrape.ts';

/** Time-slicing and MIG put some pods on a card; of more the rest is left out. */
export const MOST_PODS = 16;

/** What a pod and a namespace may be called. */
const POD = /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/;
const NAMESPACE = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;

/** dcgm-exporter's names now, and with its old namespace option. */
const NAMES = [
  { pod: 'pod', namespace: 'namespace' },
  { pod: 'pod_name', namespace: 'pod_namespace' },
] as const;

/** A series that is told again has the very labels of before. */
const known = new WeakMap<Labels, string | null>();

/**
 * `namespace/name` of the pod that a row names as the card's user; `null` for none. A server that scraped the row has
 * given `pod` the name of the exporter's own pod and keeps what it found as `exported_pod` (`honor_labels: false`), so
 * beside its `instance` a plain `pod` is not believed.
 */
export function podOf(labels: Labels): string | null {
  let pod = known.get(labels);
  if (pod === undefined) {
    pod = readPod(labels);
    known.set(labels, pod);
  }
  return pod;
}

function readPod(labels: Labels): string | null {
  for (const names of NAMES) {
    const pod = labels[`exported_${names.pod}`] ?? (labels['instance'] === undefined ? labels[names.pod] : undefined);
    if (pod === undefined) continue;
    const namespace = labels[`exported_${names.namespace}`] ?? labels[names.namespace] ?? '';
    if (POD.test(pod) && NAMESPACE.test(namespace)) return `${namespace}/${pod}`;
  }
  return null;
}
