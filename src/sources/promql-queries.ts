// The questions that are put to a Prometheus server, as texts of PromQL. A range selector in an instant query gives raw
// samples under their own times: an instant selector would give the last value of up to 5 minutes ago as if it were
// from now, and a dead exporter would look alive. The one family that is summed up by the server is CPU time: eight
// modes of each CPU of each node would be most of the answer, and only their sums are needed.

/** What all questions of one look have in common. */
export interface QueryScope {
  /** Further label matchers, `cluster="x"`; may be empty. */
  readonly match: string;
  /** How far back samples count, ms. */
  readonly windowMs: number;
  /** Only series of these values of `instance`; `null`: all. */
  readonly instances: readonly string[] | null;
}

/** CPU time by CPU and mode, as node_exporter counts it. */
export const CPU_TIME = 'node_cpu_seconds_total';
/** Written by the server at each of its scrapes, under the scrape's time: 1, or 0 when the scrape failed. */
export const UP = 'up';
/** Modes of the answer to {@link cpuQuery} beside those of the kernel. */
export const CPU_COUNT = 'count';
export const CPU_STAMP = 'stamp';

/** The server's own time: an instant vector's stamp is the moment of its evaluation. */
export const TIME_QUERY = 'vector(1)';

/** With everything else in the URL this stays below 8 KB, which proxies take at least. */
const NAMES_LENGTH = 3_000;
/** As many instances fit as well. */
export const INSTANCES_LENGTH = 2_000;

/** `names` in as few groups as questions can hold. */
export function groupNames(names: Iterable<string>): string[][] {
  const groups: string[][] = [];
  let length = Number.POSITIVE_INFINITY;
  for (const name of names) {
    const needed = encodeURIComponent(`|${name}`).length;
    length += needed;
    if (length > NAMES_LENGTH) {
      groups.push([]);
      length = needed;
    }
    groups.at(-1)?.push(name);
  }
  return groups;
}

/** All samples of these series within the window. */
export function rawQuery(names: readonly string[], scope: QueryScope): string {
  return `{${selector(`__name__=~${anyOf(names)}`, scope)}}[${Math.ceil(scope.windowMs / 1000)}s]`;
}

/**
 * CPU time by target and mode; how many CPUs that are, as mode `count`; and the time of its oldest sample in Unix
 * seconds, as mode `stamp`. Instant selectors, since they end with a CPU that goes offline; the stamp tells their age.
 *
 * @param by labels that tell targets and nodes apart
 */
export function cpuQuery(by: readonly string[], scope: QueryScope): string {
  const all = `${CPU_TIME}{${selector('', scope)}}`;
  const idle = `${CPU_TIME}{${selector('mode="idle"', scope)}}`;
  const labels = by.join(',');
  return [
    `sum by (${labels},mode) (${all})`,
    `label_replace(count by (${labels}) (${idle}), "mode", "${CPU_COUNT}", "", "")`,
    `label_replace(min by (${labels}) (timestamp(${idle})), "mode", "${CPU_STAMP}", "", "")`,
  ].join(' or ');
}

function selector(own: string, { match, instances }: QueryScope): string {
  return [own, match, instances ? `instance=~${anyOf(instances)}` : ''].filter((part) => part !== '').join(',');
}

/** A literal of the regular expression that matches these texts and no other: PromQL anchors it. */
function anyOf(texts: readonly string[]): string {
  return JSON.stringify(texts.map((text) => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('|'));
}
