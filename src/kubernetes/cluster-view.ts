// What of a cluster is ours to stop, worked out from one set of lists: labelled pods, the controllers above them, the
// controllers that bear the label or give it to their pods, all that hangs below those, and their pods. Pure. What is
// not in a view is never touched.
import type { KubeObject, OwnerReference } from './kube-api.ts';
import { hasEnded, type OwnerKind, scaleTargetOf, templateLabels, templateMark, valueAt } from './owner-kinds.ts';
import { isActive } from './pod-state.ts';
import { isMarked, LEASE_MARK, leaseOf } from './workload-label.ts';

export interface PodView {
  readonly uid: string;
  readonly namespace: string;
  readonly name: string;
  /** `null` while it is not scheduled. */
  readonly node: string | null;
  readonly leaseId: string | undefined;
  readonly controllerUid: string | undefined;
  readonly isActive: boolean;
  readonly object: KubeObject;
}

export interface OwnerView {
  readonly uid: string;
  readonly namespace: string | undefined;
  readonly name: string;
  readonly kind: OwnerKind;
  readonly controllerUid: string | undefined;
  /** Bears the label, or gives it to its pods. */
  readonly isMarked: boolean;
  /** The leases that it, or its template, is marked with. */
  readonly leaseIds: readonly string[];
  /** Its pods can be found by the label. */
  readonly labelsItsPods: boolean;
  readonly hasEnded: boolean;
  /** `false`: known only by a reference, since it could not be read. */
  readonly isRead: boolean;
  readonly object: KubeObject;
}

/** The reference that leads to the one controller of an object. */
export const controllerOf = ({ metadata }: KubeObject): OwnerReference | undefined =>
  metadata.ownerReferences?.find((reference) => reference.controller === true && reference.kind !== 'Node');

export function podView(object: KubeObject): PodView {
  const { uid, name, namespace = 'default' } = object.metadata;
  const node = object.spec?.['nodeName'];
  return {
    uid,
    name,
    namespace,
    node: typeof node === 'string' && node !== '' ? node : null,
    leaseId: leaseOf(object),
    controllerUid: controllerOf(object)?.uid,
    isActive: isActive(object),
    object,
  };
}

export function ownerView(kind: OwnerKind, object: KubeObject, isRead = true): OwnerView {
  const { uid, name, namespace, labels } = object.metadata;
  const mark = templateMark(kind.rule, object);
  const ofPods = templateLabels(kind.rule, object).map((template) => template[LEASE_MARK]);
  return {
    uid,
    name,
    namespace,
    kind,
    controllerUid: controllerOf(object)?.uid,
    isMarked: isMarked(labels) || mark === 'marked',
    leaseIds: [leaseOf(object), ...ofPods].filter((id) => typeof id === 'string'),
    labelsItsPods: mark === 'marked' || (mark === 'unknown' && kind.rule.target !== undefined),
    hasEnded: hasEnded(kind.rule, object),
    isRead,
    object,
  };
}

/** Everything ours, and how it hangs together. */
export class ClusterView {
  readonly pods: ReadonlyMap<string, PodView>;
  readonly owners: ReadonlyMap<string, OwnerView>;
  readonly #podsOf = new Map<string, PodView[]>();
  readonly #childrenOf = new Map<string, OwnerView[]>();
  /** What scales an owner without being its controller. */
  readonly #scalersOf = new Map<string, OwnerView[]>();
  readonly #depths = new Map<string, number>();

  /**
   * `pods` may hold strangers, `owners` every controller of the cluster. `kept` are uids of controllers that were ours
   * when a stop took them: one that was so only by its pods is not forgotten with them.
   */
  constructor(pods: readonly KubeObject[], owners: readonly OwnerView[], kept: ReadonlySet<string> = new Set()) {
    const all = new Map(owners.map((owner) => [owner.uid, owner]));
    for (const owner of all.values()) {
      if (owner.controllerUid !== undefined) push(this.#childrenOf, owner.controllerUid, owner);
    }
    const ours = new Map<string, OwnerView>();
    const take = (owner: OwnerView): void => {
      if (ours.has(owner.uid)) return;
      ours.set(owner.uid, owner);
      for (const child of this.#childrenOf.get(owner.uid) ?? []) take(child);
    };
    const views = pods.map(podView);
    for (const pod of views) {
      if (!isMarked(pod.object.metadata.labels)) continue;
      let uid = pod.controllerUid;
      for (let owner = all.get(uid ?? ''); owner && !ours.has(owner.uid); owner = all.get(uid ?? '')) {
        take(owner);
        uid = owner.controllerUid;
      }
    }
    for (const owner of all.values()) if (owner.isMarked || kept.has(owner.uid)) take(owner);
    const scaled = new Map(
      [...ours.values()].map((owner) => [placeOf(owner.namespace, owner.kind, owner.name), owner]),
    );
    for (const scaler of all.values()) {
      if (!scaler.kind.rule.target) continue;
      const { kind, name } = scaleTargetOf(scaler.object, scaler.kind.rule.target);
      const owner = scaled.get(`${scaler.namespace}/${kind}/${name}`);
      if (!owner) continue;
      ours.set(scaler.uid, scaler);
      push(this.#scalersOf, owner.uid, scaler);
    }
    this.owners = ours;
    const isOurs = (pod: PodView): boolean =>
      isMarked(pod.object.metadata.labels) || (pod.controllerUid !== undefined && ours.has(pod.controllerUid));
    this.pods = new Map(views.filter(isOurs).map((pod) => [pod.uid, pod]));
    for (const pod of this.pods.values()) {
      if (pod.controllerUid !== undefined) push(this.#podsOf, pod.controllerUid, pod);
    }
  }

  /** The pods that a controller owns itself. */
  podsOf(ownerUid: string): readonly PodView[] {
    return this.#podsOf.get(ownerUid) ?? [];
  }

  /** The controllers below one, at all levels. */
  descendantsOf(ownerUid: string): readonly OwnerView[] {
    // Nobody keeps references from going round in a circle.
    const found = new Map<string, OwnerView>();
    const waiting = [ownerUid];
    for (let uid = waiting.pop(); uid !== undefined; uid = waiting.pop()) {
      for (const child of this.#childrenOf.get(uid) ?? []) {
        if (found.has(child.uid)) continue;
        found.set(child.uid, child);
        waiting.push(child.uid);
      }
    }
    return [...found.values()];
  }

  /** Everything that controls or scales this object, nearest first. */
  ancestorsOf({ uid, controllerUid }: Pick<PodView, 'uid' | 'controllerUid'>): readonly OwnerView[] {
    const found = new Map<string, OwnerView>();
    const climb = (from: { readonly uid: string; readonly controllerUid: string | undefined }): void => {
      const above = this.owners.get(from.controllerUid ?? '');
      for (const owner of [...(above ? [above] : []), ...(this.#scalersOf.get(from.uid) ?? [])]) {
        if (found.has(owner.uid)) continue;
        found.set(owner.uid, owner);
        climb(owner);
      }
    };
    climb({ uid, controllerUid });
    return [...found.values()];
  }

  /** 0 for a controller that nothing of ours controls. */
  depthOf(owner: OwnerView): number {
    const kept = this.#depths.get(owner.uid);
    if (kept !== undefined) return kept;
    const depth = this.ancestorsOf(owner).length;
    this.#depths.set(owner.uid, depth);
    return depth;
  }
}

/** Namespaces where pods of ours may be without the label: their controller is ours and does not give it to them. */
export function unlabelledNamespaces(view: ClusterView): ReadonlySet<string> {
  const names = new Set<string>();
  for (const owner of view.owners.values()) {
    if (owner.labelsItsPods || owner.namespace === undefined || owner.hasEnded) continue;
    // An old revision of a Deployment, long at 0.
    const isIdle = valueAt(owner.object, ['spec', 'replicas']) === 0 && !valueAt(owner.object, ['status', 'replicas']);
    if (!isIdle) names.add(owner.namespace);
  }
  return names;
}

const placeOf = (namespace: string | undefined, { resource }: OwnerKind, name: string): string =>
  `${namespace}/${resource.kind}/${name}`;

function push<T>(map: Map<string, T[]>, key: string, value: T): void {
  const list = map.get(key);
  if (list) list.push(value);
  else map.set(key, [value]);
}
