// Which node a series of a Prometheus server belongs to. The server's labels of the target tell it (`node`, else the
// host of `instance`), never what an exporter says of itself: a node_exporter in a container calls itself after its
// pod. Where two nodes could be meant, it is neither.
import { configuredNodeFinder } from './targets.ts';

export type NodeAnswer = { readonly ok: true; readonly node: string } | { readonly ok: false; readonly why: string };

/** Names that are remembered, so that one node is not two by its letter case. */
const MOST_NAMES = 20_000;

/** The node names that are known, and what else they may be called. */
export class NodeNames {
  readonly #isNodeName: (name: string) => boolean;
  readonly #exact: (name: string) => string | null;
  readonly #configured: ReadonlySet<string>;
  /** Configured names by their part before the first dot. */
  readonly #byHost = new Map<string, string[]>();
  /** The long names that were taken for a configured short one; two of them are two machines. */
  readonly #longNames = new Map<string, Set<string>>();
  /** Names that nobody configured, by their lower case. */
  readonly #found = new Map<string, string>();

  constructor(configured: readonly string[], isNodeName: (name: string) => boolean) {
    this.#isNodeName = isNodeName;
    this.#exact = configuredNodeFinder(configured);
    this.#configured = new Set(configured);
    for (const name of configured) {
      if (isAddress(name)) continue;
      const host = hostPart(name);
      this.#byHost.set(host, [...(this.#byHost.get(host) ?? []), name]);
    }
  }

  isConfigured(node: string): boolean {
    return this.#configured.has(node);
  }

  /**
   * The node that a label's value names: a configured one whatever the letter case, also short for long or long for
   * short where only one can be meant; else the value itself.
   */
  nodeOf(value: string): NodeAnswer {
    const exact = this.#exact(value);
    if (exact !== null) return { ok: true, node: exact };
    if (!this.#isNodeName(value)) return refused(`${JSON.stringify(value.slice(0, 100))} cannot name a node`);
    if (/^localhost$|^127\./i.test(value)) return refused(`"${value}" is a different machine to everybody`);
    const alike = isAddress(value) ? [] : this.#alike(value);
    const [only] = alike;
    if (alike.length > 1) return refused(`"${value}" may be any of ${alike.slice(0, 5).join(', ')}`);
    if (only === undefined) return { ok: true, node: this.#foundName(value) };
    const longNames = this.#longNames.get(only) ?? new Set();
    // Remembered over the looks: a look at some nodes does not show what else claims the name.
    if (value.includes('.') && longNames.size < 2) this.#longNames.set(only, longNames.add(value.toLowerCase()));
    if (value.includes('.') && longNames.size > 1) {
      return refused(`"${only}" may be any of ${[...longNames].join(', ')}`);
    }
    return { ok: true, node: only };
  }

  /** Configured names with the same host part, where one of the two is short. */
  #alike(value: string): string[] {
    return (this.#byHost.get(hostPart(value)) ?? []).filter((name) => !name.includes('.') || !value.includes('.'));
  }

  #foundName(value: string): string {
    const key = value.toLowerCase();
    const known = this.#found.get(key);
    if (known === undefined && this.#found.size < MOST_NAMES) this.#found.set(key, value);
    return known ?? value;
  }
}

/**
 * The value that names a series' node: the first of the labels that it bears; of `instance` only the host.
 * `null` where it bears none.
 */
export function nodeLabelOf(metric: Readonly<Record<string, string>>, nodeLabels: readonly string[]): string | null {
  const label = nodeLabels.find((name) => Object.hasOwn(metric, name) && metric[name] !== '');
  if (label === undefined) return null;
  const value = metric[label] ?? '';
  if (label !== 'instance') return value;
  // `host:port`, `[address]:port`, or the URL of a device that an exporter asks on behalf of the server.
  const match = /^(?:[a-z][a-z0-9+.-]*:\/\/)?(?:\[([^\]]+)\]|([^:/]+))/i.exec(value);
  return match?.[1] ?? match?.[2] ?? value;
}

const hostPart = (name: string): string => (name.split('.')[0] ?? '').toLowerCase();
const isAddress = (name: string): boolean => /^[\d.]+$/.test(name);
const refused = (why: string): NodeAnswer => ({ ok: false, why });
