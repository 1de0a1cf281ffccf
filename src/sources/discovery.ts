// Which nodes there are and what is scraped of them: the configured ones, and those that lists (files, HTTP) or a cluster
// name. Found is weaker than configured: an address that somebody else wrote is only read inside `discovery.allow`, and
// one that two nodes claim is read for neither, since whose readings they are would be a guess. Silence is no news: a
// finder that fails keeps its last list, by name, and a node whose addresses are refused stays a node, so that its
// readings are missing instead of nobody asking for them.
//
// What a node that is no longer listed means for a workload there is the domain's to say.
import { type Clock, TIMED_OUT, withDeadline } from '../clock.ts';
import { isAllowed, literalAddress } from './address-ranges.ts';
import type { Credentials } from './credentials.ts';
import { createFileFinder } from './file-sd.ts';
import type { HttpGet } from './http-get.ts';
import { createHttpFinder } from './http-sd.ts';
import { joined } from './joined.ts';
import { shownAddress } from './shown-address.ts';
import { configuredNodeFinder, type Found, MOST_TARGETS, named, type Target, type TargetFinder } from './targets.ts';

export interface DiscoverySettings {
  readonly nodes: readonly { readonly name: string; readonly endpoints: readonly string[] }[];
  /** Address ranges that found targets must lie in; none: no found target is read. */
  readonly allow: readonly string[];
  /** Absolute paths of lists, with one `*` at most. */
  readonly files: readonly string[];
  /** Addresses of lists. */
  readonly http: readonly string[];
  readonly nodeLabel: string;
  readonly refreshMs: number;
}

export interface DiscoveryProblem {
  /** `files`, `kubernetes`, or the address of a list. */
  readonly origin: string;
  readonly detail: string;
}

export interface Discovered {
  /** One per address and node: configured ones first, then by node and address. */
  readonly targets: readonly Target[];
  /** Every configured or listed node, also one without a target that may be read. */
  readonly nodes: readonly string[];
  readonly problems: readonly DiscoveryProblem[];
  /** Lists that have not been read once: `kubernetes`, or the address or path of one. */
  readonly unread: readonly string[];
}

/** As many as can be judged within a tick; the bound of `nodes` in the configuration, too. */
export const MOST_NODES = 5000;
/** Several exporters per node, and room for one per BMC, PDU and GPU. */
export const MOST_TARGETS_PER_NODE = 64;
/** For one look at one finder. A list that takes longer is read at the next refresh. */
const FIND_TIMEOUT_MS = 5_000;

/** A target and what it is compared by. */
interface Candidate {
  readonly target: Target;
  /** The address in its one spelling: two spellings of one address are one. */
  readonly href: string;
  /** Of node and address. */
  readonly key: string;
  /** A host name is held against the ranges when it is connected to: only then is it an address. */
  readonly isAllowed: boolean;
}

interface List {
  readonly candidates: readonly Candidate[];
  readonly nodes: readonly string[];
  readonly problems: readonly string[];
  readonly unread: readonly string[];
}

interface Origin {
  readonly name: string;
  readonly find: (deadlineMs: number) => Promise<Found>;
  /** `null` until a look succeeded. */
  list: List | null;
  /** Why the newest look gave nothing. */
  failure: string | null;
}

export interface DiscoveryParts {
  readonly clock: Clock;
  readonly settings: DiscoverySettings;
  readonly get: HttpGet;
  /** Shown to the hosts of lists, each only what is meant for it. */
  readonly credentials: Credentials | null;
  /** Finds exporters in the cluster; `null` where they are not looked for. */
  readonly kubernetes: TargetFinder | null;
  /** The configuration's rule for names of nodes. */
  readonly isNodeName: (name: string) => boolean;
}

/** Reads nothing by itself: the caller asks for a refresh, at start and then with every tick. */
export class Discovery {
  readonly #clock: Clock;
  readonly #settings: DiscoverySettings;
  readonly #isNodeName: (name: string) => boolean;
  readonly #configuredNode: (name: string) => string | null;
  readonly #origins: readonly Origin[];
  /** As they were written; one whose address stands twice at its node is there once. */
  readonly #configured: ReadonlyMap<string, Candidate>;
  /** Behind `#current`. */
  #taken: ReadonlyMap<string, Candidate> = new Map();
  #current: Discovered;
  #refreshedAtMs: number | null = null;

  constructor({ clock, settings, get, credentials, kubernetes, isNodeName }: DiscoveryParts) {
    this.#clock = clock;
    this.#settings = settings;
    this.#isNodeName = isNodeName;
    const { nodes, files, http, nodeLabel, refreshMs } = settings;
    this.#configuredNode = configuredNodeFinder(nodes.map(({ name }) => name));
    const rules = { nodeLabel, isNodeName, configuredNode: this.#configuredNode };
    const finders: [name: string, finder: TargetFinder][] = [];
    if (files.length > 0) finders.push(['files', createFileFinder({ paths: files, rules })]);
    for (const url of http)
      finders.push([shownAddress(url), createHttpFinder({ url, get, credentials, refreshMs, rules })]);
    if (kubernetes) finders.push(['kubernetes', kubernetes]);
    this.#origins = finders.map(([name, finder]) => ({
      name,
      // One look at a time: one that hangs past its deadline is joined by the next refresh, never doubled.
      find: joined(async (deadlineMs: number) => finder.find(deadlineMs)),
      list: null,
      failure: 'has not been asked yet',
    }));
    const configured = new Map<string, Candidate>();
    for (const { name, endpoints } of nodes) {
      for (const url of endpoints) {
        const candidate = candidateOf({ node: name, url, origin: 'configured' }, settings.allow);
        if (!configured.has(candidate.key)) configured.set(candidate.key, candidate);
      }
    }
    this.#configured = configured;
    this.#current = { targets: [], nodes: [], problems: [], unread: [] };
    this.#current = this.#join();
  }

  /** What is known now. The same object until a refresh ends. */
  current(): Discovered {
    return this.#current;
  }

  /** Asks every finder once, side by side; ends within 5 s. Never rejects. A call during another joins it. */
  readonly refresh: () => Promise<void> = joined(async () => {
    this.#refreshedAtMs = this.#clock.now().elapsedMs;
    await Promise.all(this.#origins.map((origin) => this.#look(origin)));
    this.#current = this.#join();
  });

  /** Refreshes if the last refresh began at least `refreshMs` ago; for a caller with a tick of its own. */
  async refreshIfDue(): Promise<void> {
    const { elapsedMs } = this.#clock.now();
    if (this.#refreshedAtMs !== null && elapsedMs - this.#refreshedAtMs < this.#settings.refreshMs) return;
    await this.refresh();
  }

  async #look(origin: Origin): Promise<void> {
    const deadlineMs = this.#clock.now().elapsedMs + FIND_TIMEOUT_MS;
    try {
      const found = await withDeadline(this.#clock, FIND_TIMEOUT_MS, origin.find(deadlineMs));
      if (found === TIMED_OUT) origin.failure = `did not answer within ${FIND_TIMEOUT_MS / 1000} s`;
      else if (!found.ok) origin.failure = found.detail;
      else {
        origin.list = this.#listOf(found, origin.list);
        origin.failure = null;
      }
    } catch (error) {
      origin.failure = `broke off: ${String(error).slice(0, 200)}`;
    }
  }

  /** A list in the configuration's spelling of its nodes; by node and address, so that the same list gives the same. */
  #listOf({ targets, nodes, problems, unread = [] }: Extract<Found, { ok: true }>, last: List | null): List {
    // Most of a list is as before, and 20,000 addresses take half a second to parse.
    const parsed = new Map(last?.candidates.map((candidate) => [nameOf(candidate.target), candidate]));
    const nodeOf = (name: string): string => this.#configuredNode(name) ?? name;
    const names = new Set([...nodes, ...targets.map(({ node }) => node)].map(nodeOf));
    const unusable = [...names].filter((name) => !this.#isNodeName(name));
    for (const name of unusable) names.delete(name);
    return {
      candidates: targets
        .map((target) => ({ ...target, node: nodeOf(target.node) }))
        .map((target) => parsed.get(nameOf(target)) ?? candidateOf(target, this.#settings.allow))
        .filter(({ target }) => names.has(target.node))
        .sort(byKey),
      nodes: [...names].sort(),
      problems: unusable.length === 0 ? problems : [...problems, `lists what cannot name a node: ${named(unusable)}`],
      unread,
    };
  }

  /** Configured and found made one. What was there before goes first where there is too much: nothing new pushes it out. */
  #join(): Discovered {
    const problems: DiscoveryProblem[] = [];
    const nodes = this.#joinNodes(problems);
    const owners = this.#owners();
    const taken = new Map(this.#configured);
    const perNode = new Map<string, number>();
    for (const { target } of taken.values()) perNode.set(target.node, (perNode.get(target.node) ?? 0) + 1);

    for (const { name, list, failure } of this.#origins) {
      const refused = { outside: [] as string[], shared: [] as string[], tooMany: [] as string[] };
      for (const candidate of firstThose(list?.candidates ?? [], ({ key }) => this.#taken.has(key))) {
        const { href, key, target } = candidate;
        const { node, url } = target;
        if (taken.has(key) || !nodes.has(node)) continue;
        const count = perNode.get(node) ?? 0;
        if ((owners.get(href)?.size ?? 0) > 1) refused.shared.push(`${url} of ${node}`);
        else if (!candidate.isAllowed) refused.outside.push(url);
        else if (count >= MOST_TARGETS_PER_NODE || taken.size >= MOST_TARGETS) refused.tooMany.push(url);
        else {
          taken.set(key, candidate);
          perNode.set(node, count + 1);
        }
      }
      const told = problemsOf(list, failure, refused, this.#settings.allow);
      problems.push(...told.map((detail) => ({ origin: name, detail })));
    }
    const found = [...taken.values()].filter(({ key }) => !this.#configured.has(key)).sort(byKey);
    const targets = [...this.#configured.values(), ...found].map(({ target }) => target);
    this.#taken = taken;
    const unread = this.#origins.flatMap(({ name, list }) => list?.unread ?? [name]);
    return { targets, nodes: [...nodes], problems, unread };
  }

  #joinNodes(problems: DiscoveryProblem[]): ReadonlySet<string> {
    const before = new Set(this.#current.nodes);
    const nodes = new Set(this.#settings.nodes.map(({ name }) => name));
    const listed = this.#origins.flatMap(({ name, list }) => (list?.nodes ?? []).map((node) => ({ name, node })));
    const refused = new Map(this.#origins.map(({ name }) => [name, [] as string[]]));
    for (const { name, node } of firstThose(listed, (each) => before.has(each.node))) {
      if (nodes.has(node) || nodes.size < MOST_NODES) nodes.add(node);
      else refused.get(name)?.push(node);
    }
    for (const [origin, names] of refused) {
      if (names.length === 0) continue;
      const detail = `lists more nodes than the ${MOST_NODES} that are watched; refused: ${named(names)}`;
      problems.push({ origin, detail });
    }
    return nodes;
  }

  /** Whose an address is said to be, by everybody who lists it. */
  #owners(): ReadonlyMap<string, ReadonlySet<string>> {
    const owners = new Map<string, Set<string>>();
    const found = this.#origins.flatMap(({ list }) => list?.candidates ?? []);
    for (const { href, target } of [...this.#configured.values(), ...found]) {
      const nodes = owners.get(href);
      if (nodes) nodes.add(target.node);
      else owners.set(href, new Set([target.node]));
    }
    return owners;
  }
}

function problemsOf(
  list: List | null,
  failure: string | null,
  refused: Readonly<Record<'outside' | 'shared' | 'tooMany', readonly string[]>>,
  allow: readonly string[],
): string[] {
  const kept =
    list === null ? 'no list of it has been read yet' : `its last list of ${list.candidates.length} targets stays`;
  const { outside, shared, tooMany } = refused;
  const ranges = allow.length === 0 ? 'discovery.allow, which is empty' : 'discovery.allow';
  const bounds = `more than ${MOST_TARGETS_PER_NODE} targets of one node, or ${MOST_TARGETS} in all`;
  return [
    ...(failure === null ? [] : [`${failure}; ${kept}`]),
    ...(list?.problems ?? []),
    ...(outside.length === 0 ? [] : [`lists addresses outside ${ranges}; not read: ${named(outside)}`]),
    ...(shared.length === 0 ? [] : [`lists addresses that stand for several nodes; not read: ${named(shared)}`]),
    ...(tooMany.length === 0 ? [] : [`lists ${bounds}; not read: ${named(tooMany)}`]),
  ];
}

const nameOf = ({ node, url }: Target): string => `${node} ${url}`;

function candidateOf(target: Target, allow: readonly string[]): Candidate {
  const { href, hostname } = new URL(target.url);
  const isAddressAllowed = literalAddress(hostname) === null || isAllowed(hostname, allow);
  return { target, href, key: `${target.node} ${href}`, isAllowed: allow.length > 0 && isAddressAllowed };
}

const byKey = (a: Candidate, b: Candidate): number => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0);

function firstThose<T>(all: readonly T[], isFirst: (each: T) => boolean): T[] {
  return [...all.filter(isFirst), ...all.filter((each) => !isFirst(each))];
}
