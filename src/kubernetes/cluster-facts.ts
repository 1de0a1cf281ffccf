// What is found out about a cluster in quiet times, so that a stop need not ask: which kinds it serves, and whether it
// would let us do what a stop does. Asked anew now and then, and soon again while something is wrong.
import type { Clock } from '../clock.ts';
import type { KubeApi, KubeResource } from './kube-api.ts';
import { discoverKinds, type FailingGroup } from './kube-discovery.ts';
import { type Right, reviewRights, wordsOf } from './kube-rights.ts';
import { neededRights } from './needed-rights.ts';
import { BUILT_IN_GROUPS } from './owner-kinds.ts';

/** Custom kinds are installed while we run. */
const KINDS_EVERY_MS = 60_000;
const RIGHTS_EVERY_MS = 300_000;
const TIMEOUT_MS = 2_500;

export interface ClusterFactsParts {
  readonly api: KubeApi;
  readonly clock: Clock;
  readonly namespace: string;
  readonly namespaces: readonly string[];
  readonly findsExporters: boolean;
}

export class ClusterFacts {
  readonly #parts: ClusterFactsParts;
  #kinds: readonly KubeResource[] = [];
  #failing: readonly FailingGroup[] = [];
  #kindsAtMs: number | null = null;
  #kindsFailure: string | null = 'its kinds have not been asked for yet';
  #rightsAtMs: number | null = null;
  #missing: readonly string[] = [];
  #missingOptional: readonly string[] = [];
  #rightsFailure: string | null = 'its rights have not been asked for yet';
  #reviewed = '';
  #running: Promise<void> | null = null;

  constructor(parts: ClusterFactsParts) {
    this.#parts = parts;
  }

  /** What discovery found last. */
  get kinds(): readonly KubeResource[] {
    return this.#kinds;
  }

  /** Groups that could not be looked at. */
  get failing(): readonly FailingGroup[] {
    return this.#failing;
  }

  /** Rights that a stop cannot do without and that we lack, and what of both could not be found out: in words. */
  get missing(): readonly string[] {
    const unknown = [this.#kindsFailure, this.#rightsFailure].filter((failure) => failure !== null);
    return [...this.#missing, ...unknown, ...this.#unseenGroups()];
  }

  /** Rights that would help and that we lack, in words. */
  get missingOptional(): readonly string[] {
    return this.#missingOptional;
  }

  /** Of the groups that every cluster has: without them a stop would know of no Deployment. */
  #unseenGroups(): readonly string[] {
    const seen = new Set(this.#kinds.map(({ group, version }) => (group === '' ? version : `${group}/${version}`)));
    return this.#failing
      .filter(({ groupVersion }) => BUILT_IN_GROUPS.includes(groupOf(groupVersion)) && !seen.has(groupVersion))
      .map(({ groupVersion, detail }) => `its kinds in ${groupVersion} could not be found out: ${detail}`);
  }

  /** Asks what is due. Never rejects; ends within some 5 s. */
  refresh(): Promise<void> {
    this.#running ??= this.#refresh().finally(() => (this.#running = null));
    return this.#running;
  }

  async #refresh(): Promise<void> {
    const isUnknown = this.#kindsFailure !== null || this.#unseenGroups().length > 0;
    if (this.#isDue(this.#kindsAtMs, KINDS_EVERY_MS, isUnknown)) await this.#discover();
    const isWanting = this.#rightsFailure !== null || this.#missing.length > 0;
    const isChanged = this.#kindsFailure === null && this.#reviewed !== this.#kindsKey();
    if (isChanged || this.#isDue(this.#rightsAtMs, RIGHTS_EVERY_MS, isWanting)) await this.#review();
  }

  #isDue(atMs: number | null, everyMs: number, isAgain: boolean): boolean {
    return isAgain || atMs === null || this.#parts.clock.now().elapsedMs - atMs >= everyMs;
  }

  async #discover(): Promise<void> {
    const { api, clock } = this.#parts;
    const atMs = clock.now().elapsedMs;
    const found = await discoverKinds(api, TIMEOUT_MS);
    if (!found.ok) {
      // What was found before serves on; nothing found yet is nothing known.
      if (this.#kinds.length === 0) this.#kindsFailure = `its kinds could not be found out: ${found.detail}`;
      return;
    }
    const { kinds, failing } = found.value;
    this.#kinds = withFailingGroups(kinds, failing, this.#kinds);
    this.#failing = failing;
    this.#kindsAtMs = atMs;
    this.#kindsFailure = null;
  }

  async #review(): Promise<void> {
    const { api, clock, namespace, namespaces, findsExporters } = this.#parts;
    const needed = neededRights({ kinds: this.#kinds, namespace, namespaces, findsExporters });
    const reviewed = this.#kindsKey();
    const vital = new Map(needed.map(({ right, isVital }) => [right, isVital]));
    const answer = await reviewRights(
      api,
      needed.map(({ right }) => right),
      TIMEOUT_MS,
    );
    const words = (rights: readonly Right[], isVital: boolean): string[] =>
      rights.filter((right) => vital.get(right) === isVital).map(wordsOf);
    const unasked = answer.unknown.filter(({ right }) => vital.get(right) === true);
    const [first] = unasked;
    if (first) {
      // A server that is away says nothing about rights; what was known stays.
      if (this.#rightsAtMs === null) this.#rightsFailure = `its rights could not be found out: ${first.detail}`;
      return;
    }
    this.#missing = words(answer.missing, true);
    this.#missingOptional = words(answer.missing, false);
    this.#rightsFailure = null;
    this.#rightsAtMs = clock.now().elapsedMs;
    this.#reviewed = reviewed;
  }

  #kindsKey(): string {
    return this.#kinds
      .map(({ group, version, resource, hasScale }) => `${group}/${version}/${resource}/${hasScale}`)
      .join();
  }
}

/** `apps` of `apps/v1`; the core group, of `v1`, is nameless. */
const groupOf = (groupVersion: string): string =>
  groupVersion.includes('/') ? (groupVersion.split('/')[0] ?? '') : '';

/** A group whose own server is down for a moment still has its kinds: a stop tries them. */
function withFailingGroups(
  kinds: readonly KubeResource[],
  failing: readonly FailingGroup[],
  before: readonly KubeResource[],
): readonly KubeResource[] {
  const lost = new Set(failing.map(({ groupVersion }) => groupVersion));
  const has = new Set(kinds.map(({ group, kind }) => `${group}/${kind}`));
  const kept = before.filter(
    ({ group, version, kind }) =>
      lost.has(group === '' ? version : `${group}/${version}`) && !has.has(`${group}/${kind}`),
  );
  return [...kinds, ...kept];
}
