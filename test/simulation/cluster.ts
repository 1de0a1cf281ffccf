// The Kubernetes of a world: the stand-in cluster of the stop's tests for pods, controllers and kubelets, the store of the
// latch's tests for the service's own records, and before both a server that is slow, away, throttling, wrong, or that
// loses its answers. Each process asks through a door of its own, which shuts when the process dies.
import type { Clock } from '../../src/clock.ts';
import { DENY_RULE, DISARM_LABEL } from '../../src/kubernetes/admission.ts';
import type { KubeAnswer, KubeApi, KubeFailure, KubeObject, KubeResource } from '../../src/kubernetes/kube-api.ts';
import { LATCH_MAP } from '../../src/kubernetes/latch-news.ts';
import { failureOf, type ObjectStore, objectStore } from '../support/object-store-api.ts';
import { BUILT_IN_KINDS, customKind, failed, StandInCluster } from '../support/stand-in-cluster.ts';
import type { Chance } from './chance.ts';
import type { Chronicle } from './chronicle.ts';

export const OWN_NAMESPACE = 'vsf-safety';
const BINDING = '/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings';

/** How the server is unwell, for everybody or for one process. */
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

/** A process that asks. */
interface Visitor {
  readonly clock: Clock;
  readonly replica: string;
  /** The number of its life. */
  readonly by: number;
  readonly isDead: () => boolean;
}

export class WorldCluster {
  readonly standIn: StandInCluster;
  readonly store: ObjectStore;
  /** Called with each change of somebody else's object, before it is done. */
  onTouch: (touched: Touched) => void = () => undefined;
  /** By whose way to the server it is, a replica's name; `null`: everybody's. */
  readonly #faults = new Map<string | null, ServerFault>();
  readonly #wellSinceMs = new Map<string | null, number>();
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

  /** The record of the latch names the trip among those that are over. */
  isOver(tripId: string): boolean {
    const data = this.store.objects.get(`/api/v1/namespaces/${OWN_NAMESPACE}/configmaps/${LATCH_MAP}`)?.data;
    return data !== undefined && tripId in JSON.parse(data['ended'] ?? '{}');
  }

  /** Since when the server has answered this replica everything in time; `Infinity` while it does not. */
  wellSinceMs(replica: string): number {
    if (this.#faultOf(replica) !== null) return Number.POSITIVE_INFINITY;
    return Math.max(this.#wellSinceMs.get(replica) ?? 0, this.#wellSinceMs.get(null) ?? 0);
  }

  /** `whose` is a replica's name; `null`: everybody's way to the server. */
  fail(fault: ServerFault | null, whose: string | null): void {
    if (fault !== null) {
      this.#faults.set(whose, fault);
      return;
    }
    if (this.#faults.delete(whose)) this.#wellSinceMs.set(whose, this.#nowMs());
  }

  #faultOf(replica: string): ServerFault | null {
    return this.#faults.get(null) ?? this.#faults.get(replica) ?? null;
  }

  /** What a process talks to. `isDead` shuts its door: nothing goes out any more, and nothing comes back. */
  doorOf(parts: Visitor): KubeApi {
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
    { clock, replica, isDead }: Visitor,
    verb: string,
    path: string,
    timeoutMs: number,
    work: () => Promise<KubeAnswer<T>>,
  ): Promise<KubeAnswer<T>> {
    const never = new Promise<never>(() => undefined);
    if (isDead()) return never;
    const chance = this.#chance;
    const fault = this.#faultOf(replica);
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
