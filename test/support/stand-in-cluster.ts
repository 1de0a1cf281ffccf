// A cluster in memory that behaves as a real one does where it matters to a stop: deletes are graceful and have
// preconditions, an unscheduled pod goes at once, a finalizer keeps an object, controllers make pods again 50 ms after
// one is marked for deletion, kubelets confirm after 2 s unless their node hangs. Runs on a manual clock. What a real
// server does is tried in stop-control-plane.test.ts; this one is for what a real server cannot be made to do in time.
import type { Clock } from '../../src/clock.ts';
import type {
  KubeAnswer,
  KubeApi,
  KubeFailure,
  KubeFailureKind,
  KubeObject,
  KubeResource,
} from '../../src/kubernetes/kube-api.ts';
import { copied } from './copied.ts';

export interface Asked {
  readonly verb: 'list' | 'get' | 'create' | 'patch' | 'replace' | 'remove';
  readonly path: string;
  readonly body?: unknown;
  readonly graceSeconds?: number;
  readonly labelSelector?: string;
}

// biome-ignore lint/suspicious/noExplicitAny: a store of objects of every kind.
type Any = any;

const STATUS: Partial<Record<KubeFailureKind, number>> = {
  unauthorized: 401,
  forbidden: 403,
  'not-found': 404,
  conflict: 409,
  refused: 422,
  'too-many-requests': 429,
  'server-error': 500,
};

export const failed = (
  kind: KubeFailureKind,
  detail: string = kind,
  retryAfterMs: number | null = null,
): KubeFailure => ({
  ok: false,
  kind,
  status: STATUS[kind] ?? null,
  detail,
  retryAfterMs,
});

const kind = (group: string, name: string, resource: string, hasScale = false, version = 'v1'): KubeResource => ({
  group,
  version,
  kind: name,
  resource,
  namespaced: true,
  verbs: ['get', 'list', 'patch', 'create'],
  hasScale,
});

export const BUILT_IN_KINDS: readonly KubeResource[] = [
  kind('apps', 'Deployment', 'deployments', true),
  kind('apps', 'ReplicaSet', 'replicasets', true),
  kind('apps', 'StatefulSet', 'statefulsets', true),
  kind('apps', 'DaemonSet', 'daemonsets'),
  kind('', 'ReplicationController', 'replicationcontrollers', true),
  kind('batch', 'Job', 'jobs'),
  kind('batch', 'CronJob', 'cronjobs'),
];

export const customKind = kind;

/** Controllers react this much later, as measured on a real one. */
const CONTROLLER_MS = 50;
/** … and try again this much later where they were refused. */
const DENIED_AGAIN_MS = 5_000;
const KUBELET_LEAST_S = 2;

export class StandInCluster implements KubeApi {
  readonly server = 'https://cluster.invalid';
  readonly asked: Asked[] = [];
  readonly hung = new Set<string>();
  kinds: readonly KubeResource[] = BUILT_IN_KINDS;
  /** Asked before each request: what it gets instead. `hang` is no answer at all. */
  fault: (asked: Asked) => KubeFailure | 'hang' | undefined = () => undefined;
  /** An admission rule: labels of pods that may not be made. */
  denies: (labels: Readonly<Record<string, string>>) => boolean = () => false;
  /** Fields that the server takes and drops. */
  drops: readonly string[] = [];
  readonly #clock: Clock;
  readonly #objects = new Map<string, Any>();
  #made = 0;

  constructor(clock: Clock, nodes: readonly string[] = ['node-1', 'node-2']) {
    this.#clock = clock;
    for (const name of nodes) this.node(name);
  }

  node(name: string, ready = 'True'): void {
    this.#objects.set(`/api/v1/nodes/${name}`, {
      metadata: { name, uid: name },
      status: { conditions: [{ type: 'Ready', status: ready }] },
    });
  }

  /** Puts an object there, as it is; gives its uid. */
  put(kindName: string, name: string, object: Any = {}, namespace = 'gpu'): string {
    this.#made += 1;
    const uid = object.metadata?.uid ?? `uid-${this.#made}`;
    const { resource } = this.#place(kindName);
    const path =
      kindName === 'Pod'
        ? `/api/v1/namespaces/${namespace}/pods/${name}`
        : `${this.#root(resource, namespace)}/${name}`;
    this.#objects.set(path, {
      ...object,
      kind: kindName.slice(kindName.lastIndexOf('/') + 1),
      metadata: { ...object.metadata, name, namespace, uid },
    });
    return uid;
  }

  pod(name: string, { labels = { 'vsf-workload': 'true' }, node = 'node-1', ...rest }: Any = {}): string {
    const { owner, metadata, ...change } = rest;
    const ownerReferences = owner ? [{ ...owner, apiVersion: owner.apiVersion, controller: true }] : undefined;
    return this.put('Pod', name, {
      spec: { ...(node && { nodeName: node }), containers: [{ name: 'load' }] },
      status: { phase: 'Running', containerStatuses: [{ name: 'load', state: { running: {} } }] },
      ...change,
      metadata: { labels, ...(ownerReferences && { ownerReferences }), ...metadata },
    });
  }

  /** A controller with the pods it wants, made at once. */
  owner(kindName: string, name: string, object: Any = {}, parent?: Any): Any {
    const uid = this.put(kindName, name, {
      ...object,
      metadata: { ...object.metadata, ...(parent && { ownerReferences: [parent] }) },
    });
    const { resource } = this.#place(kindName);
    const apiVersion = resource.group === '' ? resource.version : `${resource.group}/${resource.version}`;
    const reference = { apiVersion, kind: resource.kind, name, uid, controller: true };
    this.#reconcile();
    return reference;
  }

  get(path: string): Promise<KubeAnswer<KubeObject>> {
    return this.#ask({ verb: 'get', path }, () => {
      const object = this.#objects.get(path.replace(/\/scale$/, ''));
      if (!object) return failed('not-found', `404 ${path}`);
      return { ok: true, value: path.endsWith('/scale') ? scaleOf(object) : object };
    });
  }

  list(path: string, query: { readonly labelSelector?: string } = {}): Promise<KubeAnswer<Any>> {
    const { labelSelector } = query;
    return this.#ask({ verb: 'list', path, ...(labelSelector !== undefined && { labelSelector }) }, () => {
      const [key = '', value] = (query.labelSelector ?? '').split('=');
      const items = [...this.#objects]
        .filter(([at]) => collectionOf(at) === path || isOfAll(at, path))
        .map(([, object]) => object);
      const chosen = key === '' ? items : items.filter((object) => object.metadata.labels?.[key] === value);
      return { ok: true, value: { items: chosen, resourceVersion: '1' } };
    });
  }

  create(path: string, body: Any): Promise<KubeAnswer<KubeObject>> {
    return this.#ask({ verb: 'create', path, body }, () => {
      this.#made += 1;
      const made = { ...body, metadata: { ...body.metadata, uid: `uid-${this.#made}` } };
      this.#objects.set(`${path}/${body.metadata.name}`, made);
      return { ok: true, value: made };
    });
  }

  patch(path: string, body: Any): Promise<KubeAnswer<KubeObject>> {
    return this.#ask({ verb: 'patch', path, body }, () => {
      const object = this.#objects.get(path.replace(/\/scale$/, ''));
      if (!object) return failed('not-found', `404 ${path}`);
      if (body.metadata?.uid && body.metadata.uid !== object.metadata.uid) return failed('conflict', '409 another uid');
      const kept = copied(body);
      for (const field of this.drops) delete kept.spec?.[field];
      merge(object, kept);
      this.#soon();
      return { ok: true, value: path.endsWith('/scale') ? scaleOf(object) : object };
    });
  }

  replace(): Promise<KubeAnswer<KubeObject>> {
    throw new Error('A stop replaces nothing');
  }

  remove(
    path: string,
    { graceSeconds, uid }: { readonly graceSeconds: number; readonly uid: string },
  ): Promise<KubeAnswer<KubeObject>> {
    return this.#ask({ verb: 'remove', path, graceSeconds }, () => {
      const pod = this.#objects.get(path);
      if (!pod) return failed('not-found', `404 ${path}`);
      if (pod.metadata.uid !== uid) return failed('conflict', '409 the uid in the precondition is another');
      const told = Math.min(pod.metadata.deletionGracePeriodSeconds ?? Infinity, graceSeconds);
      pod.metadata.deletionTimestamp = 'now';
      pod.metadata.deletionGracePeriodSeconds = told;
      if (!pod.spec.nodeName || told === 0) this.#vanish(path, uid);
      else this.#clock.after(Math.max(KUBELET_LEAST_S, told) * 1000, () => this.#confirm(path, uid));
      this.#soon();
      return { ok: true, value: pod };
    });
  }

  async close(): Promise<void> {}

  /** The live object, to look at or to change. */
  at(kindName: string, name: string, namespace = 'gpu'): Any {
    const path =
      kindName === 'Pod'
        ? `/api/v1/namespaces/${namespace}/pods/${name}`
        : `${this.#root(this.#place(kindName).resource, namespace)}/${name}`;
    return this.#objects.get(path);
  }

  get pods(): Any[] {
    return [...this.#objects].filter(([path]) => path.includes('/pods/')).map(([, pod]) => pod);
  }

  /** A node that hung answers again: what it was told to end, it ends. */
  wake(node: string): void {
    this.hung.delete(node);
    for (const { metadata, spec } of this.pods) {
      if (spec.nodeName !== node || !metadata.deletionTimestamp) continue;
      const path = `/api/v1/namespaces/${metadata.namespace}/pods/${metadata.name}`;
      this.#clock.after(KUBELET_LEAST_S * 1000, () => this.#confirm(path, metadata.uid));
    }
  }

  /** Everything of the cluster that is there: kind, name and object. */
  get all(): Any[] {
    return [...this.#objects.values()];
  }

  /** Their owner clears these away. */
  takeAway(isMeant: (object: Any) => boolean): void {
    for (const [path, object] of this.#objects) if (isMeant(object)) this.#objects.delete(path);
  }

  /** Its owner scales a controller back up, as people and autoscalers do. */
  rescale(kindName: string, name: string, spec: Any): void {
    const object = this.at(kindName, name);
    if (!object) return;
    merge(object, { spec });
    this.#soon();
  }

  count(verb: Asked['verb'], part: string): number {
    return this.asked.filter((asked) => asked.verb === verb && asked.path.includes(part)).length;
  }

  #confirm(path: string, uid: string): void {
    const pod = this.#objects.get(path);
    if (!pod || this.hung.has(pod.spec.nodeName)) return;
    for (const status of pod.status?.containerStatuses ?? []) status.state = { terminated: {} };
    this.#vanish(path, uid);
  }

  #vanish(path: string, uid: string): void {
    const pod = this.#objects.get(path);
    if (pod?.metadata.uid === uid && !pod.metadata.finalizers?.length) this.#objects.delete(path);
  }

  #soon(): void {
    this.#clock.after(CONTROLLER_MS, () => this.#reconcile());
  }

  #reconcile(): void {
    for (const owner of [...this.#objects.values()]) {
      if (owner.kind === 'Deployment') {
        for (const child of this.#objects.values()) {
          if (child.kind === 'ReplicaSet' && isChild(child, owner)) child.spec.replicas = owner.spec.replicas;
        }
      }
      const wanted = wantedBy(owner);
      const own = this.pods.filter((pod) => isChild(pod, owner) && !pod.metadata.deletionTimestamp);
      for (let missing = wanted - own.length; missing > 0; missing--) {
        const { kind: kindName, metadata } = owner;
        const { resource } = this.#place(kindName);
        const apiVersion = resource.group === '' ? resource.version : `${resource.group}/${resource.version}`;
        const { labels = {}, annotations } = owner.spec.template.metadata;
        if (this.denies(labels)) {
          this.#clock.after(DENIED_AGAIN_MS, () => this.#reconcile());
          break;
        }
        const reference = { apiVersion, kind: kindName, name: metadata.name, uid: metadata.uid };
        const node = owner.spec.template.spec?.nodeName ?? 'node-1';
        this.pod(`${metadata.name}-${this.#made}`, {
          labels,
          node,
          owner: reference,
          metadata: { ...(annotations && { annotations }) },
        });
      }
    }
  }

  /** By kind, or by `group/Kind` where two groups have one of that name. */
  #place(kindName: string): { readonly resource: KubeResource } {
    const slash = kindName.lastIndexOf('/');
    const group = kindName.slice(0, Math.max(0, slash));
    const isIt = (one: KubeResource): boolean =>
      one.kind === kindName.slice(slash + 1) && (slash < 0 || one.group === group);
    const resource = this.kinds.find(isIt);
    if (!resource && kindName !== 'Pod') throw new Error(`The stand-in does not serve ${kindName}`);
    return { resource: resource ?? kind('', 'Pod', 'pods') };
  }

  #root({ group, version, resource }: KubeResource, namespace: string): string {
    return `${group === '' ? '/api' : `/apis/${group}`}/${version}/namespaces/${namespace}/${resource}`;
  }

  async #ask<T>(asked: Asked, work: () => KubeAnswer<T>): Promise<KubeAnswer<T>> {
    this.asked.push(asked);
    await this.#clock.sleep(2);
    const fault = this.fault(asked);
    if (fault === 'hang') return await new Promise(() => undefined);
    return fault ?? copied(work());
  }
}

const scaleOf = ({ metadata, spec }: Any): Any => ({
  kind: 'Scale',
  metadata: { name: metadata.name, namespace: metadata.namespace, uid: metadata.uid },
  // A scale at 0 comes back without the field.
  spec: spec.replicas === 0 ? {} : { replicas: spec.replicas },
});

function wantedBy({ kind: kindName, spec }: Any): number {
  if (!spec?.template) return 0;
  if (kindName === 'Job') return spec.suspend ? 0 : (spec.parallelism ?? 1);
  if (kindName === 'DaemonSet') return spec.template.spec?.nodeSelector?.['vsf-safety.io/stopped'] ? 0 : 1;
  return ['ReplicaSet', 'StatefulSet', 'ReplicationController', 'Gang'].includes(kindName) ? (spec.replicas ?? 0) : 0;
}

const isChild = (child: Any, { metadata }: Any): boolean =>
  child.metadata.ownerReferences?.some((one: Any) => one.controller && one.uid === metadata.uid) ?? false;

const collectionOf = (path: string): string => path.slice(0, path.lastIndexOf('/'));

/** Whether an object's path lies in the list over all namespaces that `path` names. */
const isOfAll = (at: string, path: string): boolean =>
  collectionOf(at).replace(/\/namespaces\/[^/]+/, '') === path && !path.includes('/namespaces/');

function merge(object: Any, patch: Any): void {
  for (const [key, value] of Object.entries<Any>(patch)) {
    if (value === null) delete object[key];
    else if (typeof value === 'object' && !Array.isArray(value)) {
      object[key] ??= {};
      merge(object[key], value);
    } else object[key] = value;
  }
}
