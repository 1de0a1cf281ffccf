// The Kubernetes of a world: the stand-in cluster of the stop's tests for pods, controllers and kubelets, the store of the
// latch's tests for the service's own records, and before both a server that is slow, away, throttling, wrong, or that
// loses its answers. Each process asks through a door of its own, which shuts when the process dies.
import type { Clock } from '../../src/clock.ts';
import { DENY_RULE, DISARM_LABEL } from '../../src/kubernetes/admission.ts';
import type { KubeAnswer, KubeApi, KubeFailure, KubeObject, KubeResource } from '../../src/kubernetes/kube-api.ts';
import { failureOf, type ObjectStore, objectStore } from '../support/object-store-api.ts';
import { BUILT_IN_KINDS, customKind, failed, StandInCluster } from '../support/stand-in-cluster.ts';
import type { Chance } from './chance.ts';
import type { Chronicle } from './chronicle.ts';

export const OWN_NAMESPACE = 'vsf-safety';
const BINDING = '/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings';

/** How the server is unwell, for everybody. */
export type ServerFault = 'away' | 'silent' | 'throttles' | 'errs' | 'conflicts' | 'slow' | 'forgets-answers';

const KINDS: readonly KubeResource[] = [
  ...BUILT_IN_KINDS,
  {
    ...customKind(
      'admissionregistration.k8s.io',
      'ValidatingAdmissionPolicyBinding',
      'validatingadmissionpolicybindings',
    ),
    namespaced: false,
  },
];

/** A change that the service asked for, for those who watch what it touches. */
export interface Touched {
  readonly verb: 'remove' | 'patch';
  readonly path: string;
  readonly object: KubeObject | null;
  readonly by: number;
}

export class WorldCluster {
  readonly standIn: StandInCluster;
  readonly store: ObjectStore;
  /** Called with each change of somebody else's object, before it is done. */
  onTouch: (touched: Touched) => void = () => undefined;
  fault: ServerFault | null = null;
  #wellSinceMs = 0;
  readonly #chance: Chance;
  readonly #chronicle: Chronicle;
  readonly #nowMs: () => number;

  constructor(parts: {
    readonly clock: Clock;
    readonly nodes: readonly string[];
    readonly chance: Chance;
    readonly chronicle: Chronicle;
    readonly nowMs: () => number;
    readonly hasDenyRule: boolean;
  }) {
    this.standIn = new StandInCluster(parts.clock, parts.nodes);
    this.standIn.denies = (labels) => labels['vsf-workload'] === 'true' && this.isDenying;
    this.store = objectStore();
    this.#chance = parts.chance;
    this.#chronicle = parts.chronicle;
    this.#nowMs = parts.nowMs;
    if (parts.hasDenyRule) {
      this.store.put(`${BINDING}/${DENY_RULE}`, {
        kind: 'ValidatingAdmissionPolicyBinding',
        spec: {
          policyName: DENY_RULE,
          validationActions: ['Deny'],
          matchResources: { objectSelector: { matchLabels: { 'vsf-workload': 'true', [DISARM_LABEL]: 'never-set' } } },
        },
      });
    }
  }

  /** The deny rule stands. */
  get isDenying(): boolean {
    const labels = (this.store.objects.get(`${BINDING}/${DENY_RULE}`)?.spec as Binding | undefined)?.matchResources
      .objectSelector.matchLabels;
    return labels !== undefined && labels[DISARM_LABEL] === undefined;
  }

  /** Since when the server has answered everything in time; `Infinity` while it does not. */
  get wellSinceMs(): number {
    return this.fault === null ? this.#wellSinceMs : Number.POSITIVE_INFINITY;
  }

  fail(fault: ServerFault | null): void {
    if (this.fault !== null && fault === null) this.#wellSinceMs = this.#nowMs();
    this.fault = fault;
  }

  /** What a process talks to. `isDead` shuts its door: nothing goes out any more, and nothing comes back. */
  doorOf(parts: { readonly clock: Clock; readonly by: number; readonly isDead: () => boolean }): KubeApi {
    const ask = <T>(
      verb: 'list' | 'get' | 'create' | 'patch' | 'replace' | 'remove',
      path: string,
      timeoutMs: number,
      work: () => Promise<KubeAnswer<T>>,
    ) => this.#ask(parts, verb, path, timeoutMs, work);
    const backend = (path: string): KubeApi => (isOwn(path) ? this.store.api : this.standIn);
    return {
      server: 'https://world',
      get: (path, timeoutMs) =>
        ask('get', path, timeoutMs, async () => this.#discovery(path) ?? backend(path).get(path, timeoutMs)),
      list: (path, query, timeoutMs) => ask('list', path, timeoutMs, () => this.standIn.list(path, query)),
      create: (path, body, timeoutMs, query) =>
        ask('create', path, timeoutMs, async () => {
          if (path.endsWith('selfsubjectaccessreviews')) return ok({ status: { allowed: true } });
          if (path.endsWith('/events')) return ok({});
          if (query?.dryRun) return this.isDenying ? failed('forbidden', `403 ${DENY_RULE} denied it`) : ok({});
          return backend(path).create(path, body, timeoutMs);
        }),
      patch: (path, body, timeoutMs) =>
        ask('patch', path, timeoutMs, () => {
          if (!isOwn(path)) this.#touch('patch', path, parts.by);
          return backend(path).patch(path, body, timeoutMs);
        }),
      replace: (path, body, timeoutMs) =>
        ask('replace', path, timeoutMs, () => this.store.api.replace(path, body, timeoutMs)),
      remove: (path, options, timeoutMs) =>
        ask('remove', path, timeoutMs, () => {
          this.#touch('remove', path, parts.by);
          return this.standIn.remove(path, options);
        }),
      close: async () => undefined,
    };
  }

  /** Nothing that was asked is kept; a long world asks much. */
  forgetRequests(): void {
    this.standIn.asked.length = 0;
    this.store.requests.length = 0;
  }

  #touch(verb: 'remove' | 'patch', path: string, by: number): void {
    const place = path.replace(/\/scale$/, '');
    const object = this.standIn.all.find(({ kind, metadata }) => {
      const plural = kind === undefined ? 'nodes' : `${String(kind).toLowerCase()}s`;
      return place.endsWith(`/${plural}/${metadata.name}`);
    });
    this.onTouch({ verb, path, object: object ?? null, by });
  }

  async #ask<T>(
    { clock, isDead }: { readonly clock: Clock; readonly isDead: () => boolean },
    verb: string,
    path: string,
    timeoutMs: number,
    work: () => Promise<KubeAnswer<T>>,
  ): Promise<KubeAnswer<T>> {
    const never = new Promise<never>(() => undefined);
    if (isDead()) return never;
    const chance = this.#chance;
    const { fault } = this;
    const timeout = (): KubeFailure => ({ ...failureOf('timeout', `Cannot ${verb} ${path}: no answer`), status: null });
    if (fault === 'silent' || (fault === 'slow' && chance.is(0.3))) {
      await clock.sleep(timeoutMs);
      return isDead() ? never : timeout();
    }
    await clock.sleep(fault === 'slow' ? Math.min(timeoutMs - 1, chance.between(200, 2500)) : chance.between(2, 20));
    if (isDead()) return never;
    if (fault !== null) this.#chronicle.count(`server ${fault}`);
    if (fault === 'away') return { ...failureOf('unreachable', 'connect ECONNREFUSED'), status: null };
    if (fault === 'throttles' && chance.is(0.6)) return { ...failed('too-many-requests'), retryAfterMs: 1000 };
    if (fault === 'errs' && chance.is(0.5)) return failureOf('server-error');
    const isWrite = verb === 'patch' || verb === 'replace';
    if (fault === 'conflicts' && isWrite && chance.is(0.5)) return failureOf('conflict', '409 changed meanwhile');
    const answer = await work();
    if (isDead()) return never;
    if (fault === 'forgets-answers' && chance.is(0.4)) {
      await clock.sleep(timeoutMs);
      return isDead() ? never : timeout();
    }
    return answer;
  }

  #discovery(path: string): KubeAnswer<KubeObject> | null {
    if (path !== '/api' && path !== '/apis') return null;
    const groups = new Map<string, KubeResource[]>();
    for (const one of KINDS) {
      if ((one.group === '') !== (path === '/api')) continue;
      groups.set(one.group, [...(groups.get(one.group) ?? []), one]);
    }
    const items = [...groups].map(([group, kinds]) => ({
      metadata: { name: group },
      versions: [{ version: 'v1', freshness: 'Current', resources: kinds.map(resourceOf) }],
    }));
    return ok({ kind: 'APIGroupDiscoveryList', items });
  }
}

interface Binding {
  readonly matchResources: { readonly objectSelector: { readonly matchLabels: Readonly<Record<string, string>> } };
}

const isOwn = (path: string): boolean =>
  path.includes(`/namespaces/${OWN_NAMESPACE}/`) || path.startsWith('/apis/admissionregistration.k8s.io/');

const ok = (value: object): KubeAnswer<KubeObject> => ({ ok: true, value: value as KubeObject });

const resourceOf = ({ resource, kind, namespaced, verbs, hasScale }: KubeResource): object => ({
  resource,
  responseKind: { kind },
  scope: namespaced ? 'Namespaced' : 'Cluster',
  verbs,
  subresources: hasScale ? [{ subresource: 'scale' }] : [],
});
