// What is to be scraped, and how a list of it is read: the target groups that Prometheus knows from its `file_sd` and
// `http_sd` lists, `[{ targets: ["host:port"], labels: { node: … } }]`. A node is who the list says it is and never a
// guess: a group that does not name its node is refused with words. Where lists come from is file-sd.ts and http-sd.ts;
// how they are joined, and what of them may be read, is discovery.ts.

export type TargetOrigin = 'configured' | 'file' | 'http' | 'kubernetes';

/** One address to scrape, and whose readings it gives. */
export interface Target {
  readonly node: string;
  readonly url: string;
  readonly origin: TargetOrigin;
}

/** What one look at a list gave. */
export type Found =
  | {
      readonly ok: true;
      readonly targets: readonly Target[];
      /** Every node that the list names, also one without a target that can be read. */
      readonly nodes: readonly string[];
      /** What of the list could not be used, one line each. */
      readonly problems: readonly string[];
      /** Parts of the list that have not been read once since the start, such as one of several files. */
      readonly unread?: readonly string[];
    }
  | { readonly ok: false; readonly detail: string };

/** Something that knows targets: the lists of this service's configuration, or a cluster. */
export interface TargetFinder {
  /** Looks once, until `deadlineMs` (monotonic) at the latest. A failure says nothing about what was found before. */
  find(deadlineMs: number): Promise<Found>;
}

export interface GroupRules {
  readonly origin: TargetOrigin;
  /** The label that names a group's node. */
  readonly nodeLabel: string;
  /** The configured node that a name means; a target of a group without the label is read where its host means one. */
  readonly configuredNode: (name: string) => string | null;
  /** What may name a node; names stand in paths, keys and logs. */
  readonly isNodeName: (name: string) => boolean;
}

/** 5,000 nodes with four exporters each; a list with more is a fault of whatever writes it. */
export const MOST_TARGETS = 20_000;
/** Lists written by programs repeat one fault in every group; nobody reads more of them than this. */
export const MOST_PROBLEMS = 50;
const MOST_NAMED = 5;
const LONGEST_ADDRESS = 300;

interface Group {
  readonly place: string;
  readonly targets: readonly string[];
  readonly labels: ReadonlyMap<string, string>;
}

/**
 * The targets of a parsed list. A value of another shape fails as a whole, since it may be half of a list; a group or a
 * target that cannot be used is left out and named in `problems`.
 */
export function readTargetGroups(list: unknown, rules: GroupRules): Found {
  if (!Array.isArray(list)) return { ok: false, detail: 'is not a list of target groups' };
  const groups: Group[] = [];
  let count = 0;
  for (const [index, item] of list.entries()) {
    const group = groupOf(item, `group ${index + 1}`);
    if ('detail' in group) return { ok: false, detail: `${group.place} ${group.detail}` };
    count += group.targets.length;
    if (count > MOST_TARGETS) return { ok: false, detail: `lists more than ${MOST_TARGETS} targets` };
    groups.push(group);
  }
  const targets: Target[] = [];
  const nodes = new Set<string>();
  const problems: string[] = [];
  for (const group of groups) {
    const { node, urls, problem } = readGroup(group, rules);
    if (node !== null) nodes.add(node);
    for (const [owner, url] of urls) {
      nodes.add(owner);
      targets.push({ node: owner, url, origin: rules.origin });
    }
    if (problem !== null) problems.push(`${group.place} ${problem}`);
  }
  return { ok: true, targets, nodes: [...nodes], problems: atMost(problems, MOST_PROBLEMS) };
}

function groupOf(item: unknown, place: string): Group | { readonly place: string; readonly detail: string } {
  if (!isMapping(item)) return { place, detail: 'is not a mapping with targets and labels' };
  const { targets, labels = {} } = item;
  if (!Array.isArray(targets) || !targets.every((target) => typeof target === 'string')) {
    return { place, detail: 'has no list of targets such as "host:9100"' };
  }
  if (!isMapping(labels)) return { place, detail: 'has labels that are not a mapping' };
  const texts = new Map<string, string>();
  for (const [name, value] of Object.entries(labels)) {
    // A number here has lost its leading zeros already: node 007 is not node 7.
    if (typeof value !== 'string') return { place, detail: `has a label that is not text: ${quoted(name)}` };
    texts.set(name, value);
  }
  return { place, targets, labels: texts };
}

function readGroup(
  { targets, labels }: Group,
  { nodeLabel, configuredNode, isNodeName }: GroupRules,
): { node: string | null; urls: [node: string, url: string][]; problem: string | null } {
  const label = labels.get(nodeLabel) ?? '';
  if (label !== '' && !isNodeName(label)) {
    const problem = `is refused: its label ${nodeLabel} is ${quoted(label)}, which cannot name a node`;
    return { node: null, urls: [], problem: `${problem}; not read: ${named(targets)}` };
  }
  const node = label === '' ? null : (configuredNode(label) ?? label);
  const urls: [string, string][] = [];
  const nameless: string[] = [];
  const unreadable: string[] = [];
  for (const target of targets) {
    const url = urlOf(target, labels);
    const owner = node ?? (url === null ? null : configuredNode(new URL(url).hostname));
    if (url === null) unreadable.push(target);
    else if (owner === null) nameless.push(target);
    else urls.push([owner, url]);
  }
  const problems = [
    ...(nameless.length > 0
      ? [`has no label ${nodeLabel}, so nobody knows which node it is; not read: ${named(nameless)}`]
      : []),
    ...(unreadable.length > 0 ? [`has targets that make no address: ${named(unreadable)}`] : []),
  ];
  return { node, urls, problem: problems.length === 0 ? null : problems.join('; it ') };
}

/** The address of a target under Prometheus' own labels; `null` where they make none. */
function urlOf(target: string, labels: ReadonlyMap<string, string>): string | null {
  const scheme = labels.get('__scheme__') || 'http';
  const path = labels.get('__metrics_path__') || '/metrics';
  // Neither a path nor a user may hide in the address: it is a host and a port.
  if (target.length > LONGEST_ADDRESS || !/^[^\s/?#@\\]+$/.test(target)) return null;
  if ((scheme !== 'http' && scheme !== 'https') || !path.startsWith('/')) return null;
  const base = `${scheme}://${target}`;
  if (!URL.canParse(base)) return null;
  const url = new URL(base);
  url.pathname = path;
  for (const [name, value] of labels) {
    if (name.startsWith('__param_')) url.searchParams.append(name.slice('__param_'.length), value);
  }
  return url.href;
}

/**
 * Finds the configured node that a name means. Host names that differ in case mean the same, unless both are configured.
 */
export function configuredNodeFinder(configured: readonly string[]): (name: string) => string | null {
  const exact = new Set(configured);
  const alike = new Map<string, string | null>();
  for (const name of configured) {
    const key = name.toLowerCase();
    alike.set(key, alike.has(key) ? null : name);
  }
  return (name) => (exact.has(name) ? name : (alike.get(name.toLowerCase()) ?? null));
}

/** A few of many, quoted, so that a line stays a line whatever a list holds. */
export function named(all: readonly string[]): string {
  return atMost(all.map(quoted), MOST_NAMED).join(', ');
}

/** The first `most` lines, and how many more there are. */
export function atMost(lines: readonly string[], most: number): string[] {
  return lines.length <= most ? [...lines] : [...lines.slice(0, most), `and ${lines.length - most} more`];
}

function quoted(text: string): string {
  return JSON.stringify(text.length > 100 ? `${text.slice(0, 99)}…` : text);
}

function isMapping(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
