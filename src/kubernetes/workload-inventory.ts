// Reads what is ours in the cluster: labelled pods, the controllers of every kind that has a switch, and, one by one,
// what is above a pod without being in any list. Every list has its own fate: one that fails leaves what it said last,
// so that a stop always starts from the best that is known and needs no answer first.
import { type Clock, TIMED_OUT, withDeadline } from '../clock.ts';
import type { Unprotected } from '../domain/result.ts';
import { ClusterView, controllerOf, type OwnerView, ownerView, unlabelledNamespaces } from './cluster-view.ts';
import { limitInFlight } from './in-flight.ts';
import {
  type KubeAnswer,
  type KubeApi,
  type KubeFailure,
  type KubeList,
  type KubeObject,
  type KubeResource,
  type OwnerReference,
  pathOf,
} from './kube-api.ts';
import { isBuiltIn, type OwnerKind, ownerKindsIn, ruleOf } from './owner-kinds.ts';
import { autoscalerIn, rivalsOf } from './rivals.ts';
import { isMarked, WORKLOAD_SELECTOR } from './workload-label.ts';

const PODS = { group: '', version: 'v1', resource: 'pods', namespaced: true };
/** Single look-ups under way at a time. */
const LOOKUPS_IN_FLIGHT = 8;
/** How far above a pod controllers are looked for; the deepest chain known has 5. */
const HIGHEST = 10;

interface InventoryParts {
  readonly clock: Clock;
  readonly api: KubeApi;
  readonly kinds: () => readonly KubeResource[];
  /** Empty: all. */
  readonly namespaces: readonly string[];
  /** Controllers that a stop under way has taken, by uid. */
  readonly kept: () => ReadonlySet<string>;
}

/** One look at the cluster. */
export interface Look {
  readonly view: ClusterView;
  /** When its lists were asked for, monotonic: nothing that happened after is in it for sure. */
  readonly askedAtMs: number;
  /** Every pod of ours that there was is in the view; `null`, or why not. */
  readonly podsFailure: KubeFailure | null;
  /** Whether controllers were listed in this look. */
  readonly hasOwners: boolean;
  /** Whether this look's list would have shown this controller. */
  readonly wouldShow: (owner: OwnerView) => boolean;
  /** Who may raise again what a stop holds at 0. */
  readonly rivals: readonly Unprotected[];
  /** What could not be read. */
  readonly problems: readonly LookProblem[];
}

export interface LookProblem {
  /** `deployments`, `Foo gpu/train`. */
  readonly what: string;
  readonly detail: string;
  /** A stop would not know of something that it must. */
  readonly isVital: boolean;
}

export class WorkloadInventory {
  readonly #parts: InventoryParts;
  /** The last good answer of each list of pods, and of each list of controllers (only ours), by its name. */
  readonly #pods = new Map<string, readonly KubeObject[]>();
  readonly #owners = new Map<string, readonly OwnerView[]>();
  /** Controllers that are in no list, by uid; `null` for one that is gone. Only those that the last look needed. */
  readonly #autoscalers = new Map<string, readonly KubeObject[]>();
  #lookedUp: ReadonlyMap<string, OwnerView | null> = new Map();
  #wide: ReadonlySet<string> = new Set();
  #last: Look | null = null;
  #lastFull: Look | null = null;

  constructor(parts: InventoryParts) {
    this.#parts = parts;
  }

  /** The newest look; `null` before the first. */
  get last(): Look | null {
    return this.#last;
  }

  /** The newest look with controllers. */
  get lastFull(): Look | null {
    return this.#lastFull;
  }

  /** Lists pods and, with `owners`, controllers; answers within `timeoutMs` whatever the server does. */
  async look({ owners, timeoutMs }: { readonly owners: boolean; readonly timeoutMs: number }): Promise<Look> {
    const { clock, kinds } = this.#parts;
    const askedAtMs = clock.now().elapsedMs;
    const leftMs = (): number => Math.max(1, askedAtMs + timeoutMs - clock.now().elapsedMs);
    const problems: LookProblem[] = [];
    let podsFailure: KubeFailure | null = null;
    const freshOwners = new Set<string>();
    const listedPods = new Set<string>();

    const listPods = async (namespace: string | undefined, isWide: boolean): Promise<void> => {
      const name = `${namespace ?? ''}${isWide ? ' (all)' : ''}`;
      listedPods.add(name);
      const path = pathOf(PODS, inPlace(namespace));
      const answer = await this.#list(path, isWide ? undefined : WORKLOAD_SELECTOR, leftMs());
      if (answer.ok) this.#pods.set(name, answer.value.items);
      else podsFailure ??= answer;
    };
    const listOwners = async (kind: OwnerKind, namespace: string | undefined): Promise<void> => {
      const answer = await this.#list(pathOf(kind.resource, inPlace(namespace)), undefined, leftMs());
      const name = cellOf(kind, namespace);
      if (answer.ok) {
        freshOwners.add(name);
        this.#owners.set(
          name,
          answer.value.items.map((object) => ownerView(kind, object)),
        );
      } else problems.push({ what: kind.resource.resource, detail: answer.detail, isVital: isBuiltIn(kind) });
    };

    const listAutoscalers = async (resource: KubeResource, namespace: string | undefined): Promise<void> => {
      const answer = await this.#list(pathOf(resource, inPlace(namespace)), undefined, leftMs());
      if (answer.ok) this.#autoscalers.set(namespace ?? '', answer.value.items);
      else problems.push({ what: resource.resource, detail: answer.detail, isVital: false });
    };

    const places = this.#places();
    const autoscaler = autoscalerIn(kinds());
    const ownerKinds = ownerKindsIn(kinds()).filter(({ resource }) => resource.namespaced || places[0] === undefined);
    const wide = new Set(this.#wide);
    await Promise.all([
      ...places.map((namespace) => listPods(namespace, false)),
      ...[...wide].map((namespace) => listPods(namespace, true)),
      ...(owners ? ownerKinds.flatMap((kind) => places.map((namespace) => listOwners(kind, namespace))) : []),
      ...(owners && autoscaler ? places.map((namespace) => listAutoscalers(autoscaler, namespace)) : []),
    ]);
    await this.#lookUp(owners, leftMs, problems);
    let view = this.#view();
    // Pods that only their controller marks are found by looking at all pods of its namespace.
    const missing = [...unlabelledNamespaces(view)].filter((namespace) => !wide.has(namespace));
    if (missing.length > 0) {
      this.#wide = new Set([...wide, ...missing]);
      await Promise.all(missing.map((namespace) => listPods(namespace, true)));
      view = this.#view();
    }
    if (owners) {
      for (const [name, list] of this.#owners)
        this.#owners.set(
          name,
          list.filter(({ uid }) => view.owners.has(uid)),
        );
    }
    const wouldShow = (owner: OwnerView): boolean =>
      places.some((namespace) =>
        freshOwners.has(cellOf(owner.kind, namespace === undefined ? undefined : owner.namespace)),
      );
    const rivals = owners ? rivalsOf(view, [...this.#autoscalers.values()].flat()) : (this.#lastFull?.rivals ?? []);
    const look: Look = { view, askedAtMs, podsFailure, hasOwners: owners, wouldShow, rivals, problems };
    this.#last = look;
    if (owners) this.#lastFull = look;
    return look;
  }

  /** Forgets which namespaces had unlabelled pods of ours; while a stop goes on they are looked at to its end. */
  narrow(): void {
    this.#wide = new Set();
    for (const name of this.#pods.keys()) if (name.endsWith(' (all)')) this.#pods.delete(name);
  }

  #places(): readonly (string | undefined)[] {
    const { namespaces } = this.#parts;
    return namespaces.length === 0 ? [undefined] : namespaces;
  }

  async #list(path: string, labelSelector: string | undefined, timeoutMs: number): Promise<KubeAnswer<KubeList>> {
    const { api, clock } = this.#parts;
    const query = labelSelector === undefined ? {} : { labelSelector };
    const answer = await withDeadline(clock, timeoutMs, api.list(path, query, timeoutMs));
    return answer === TIMED_OUT ? timedOut(`list ${path}`, timeoutMs) : answer;
  }

  #view(): ClusterView {
    const pods = new Map([...this.#pods.values()].flat().map((pod) => [pod.metadata.uid, pod]));
    const lookedUp = [...this.#lookedUp.values()].filter((owner) => owner !== null);
    const owners = [...lookedUp, ...[...this.#owners.values()].flat()];
    return new ClusterView([...pods.values()], owners, this.#parts.kept());
  }

  /** Finds the controllers above labelled pods that no list showed, level by level. */
  async #lookUp(again: boolean, leftMs: () => number, problems: LookProblem[]): Promise<void> {
    const listed = new Map([...this.#owners.values()].flat().map((owner) => [owner.uid, owner]));
    const found = new Map<string, OwnerView | null>();
    const limit = limitInFlight(LOOKUPS_IN_FLIGHT);
    let level = [...this.#pods.values()].flat().filter((pod) => isMarked(pod.metadata.labels));
    for (let height = 0; height < HIGHEST && level.length > 0; height++) {
      const wanted = new Map<string, { reference: OwnerReference; namespace: string | undefined }>();
      const above: KubeObject[] = [];
      for (const object of level) {
        const reference = controllerOf(object);
        if (!reference || found.has(reference.uid)) continue;
        const known = listed.get(reference.uid);
        if (known) {
          found.set(reference.uid, known);
          above.push(known.object);
        } else wanted.set(reference.uid, { reference, namespace: object.metadata.namespace });
      }
      const look = async ({ reference, namespace }: { reference: OwnerReference; namespace: string | undefined }) => {
        const kept = this.#lookedUp.get(reference.uid);
        // What has no switch is only a step on the way up: it need not be read at every look.
        const isFresh = kept === null || (kept?.isRead && (!again || kept.kind.rule.method.by === 'nothing'));
        const owner =
          isFresh && kept !== undefined ? kept : await this.#readOwner(reference, namespace, leftMs(), problems);
        found.set(reference.uid, owner);
        if (owner) above.push(owner.object);
      };
      await Promise.all([...wanted.values()].map((one) => limit(() => look(one))));
      level = above;
    }
    this.#lookedUp = new Map([...found].filter(([uid]) => !listed.has(uid)));
  }

  async #readOwner(
    reference: OwnerReference,
    namespace: string | undefined,
    timeoutMs: number,
    problems: LookProblem[],
  ): Promise<OwnerView | null> {
    const [first = '', second] = reference.apiVersion.split('/');
    const group = second === undefined ? '' : first;
    const { kind, name, uid } = reference;
    const resource = this.#parts.kinds().find((one) => one.group === group && one.kind === kind);
    // As much as the reference tells: enough to try the switch, where the kind has one.
    const unread = (served: KubeResource, detail: string): OwnerView | null => {
      const rule = ruleOf(served);
      problems.push({ what: `${kind} ${namespace ?? ''}/${name}`, detail, isVital: true });
      const metadata = { name, uid, ...(namespace === undefined ? {} : { namespace }) };
      return rule && ownerView({ resource: served, rule }, { metadata }, false);
    };
    if (!resource) {
      const version = second ?? first;
      const unknown = { group, version, kind, resource: kind, namespaced: true, verbs: [], hasScale: false };
      return unread(unknown, `Cannot read ${kind} ${namespace}/${name}: the cluster does not serve this kind`);
    }
    const rule = ruleOf(resource);
    if (!rule) return null;
    const place = resource.namespaced && namespace !== undefined ? { namespace, name } : { name };
    const answer = await this.#parts.api.get(pathOf(resource, place), timeoutMs);
    if (answer.ok) return answer.value.metadata.uid === uid ? ownerView({ resource, rule }, answer.value) : null;
    return answer.kind === 'not-found' ? null : unread(resource, answer.detail);
  }
}

const inPlace = (namespace: string | undefined): { readonly namespace?: string } =>
  namespace === undefined ? {} : { namespace };

const cellOf = ({ resource }: OwnerKind, namespace: string | undefined): string =>
  `${resource.group}/${resource.kind}/${namespace ?? ''}`;

const timedOut = (deed: string, ms: number): KubeFailure => ({
  ok: false,
  kind: 'timeout',
  status: null,
  detail: `Cannot ${deed}: no answer within ${Math.round(ms)} ms`,
  retryAfterMs: null,
});
