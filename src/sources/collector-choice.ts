// What a node_exporter is asked for. It has some fifty collectors, of which nine are read here; `collect[]` in the query
// runs only those, which saves both sides most of the work at a thousand nodes. It refuses a collector that it does not
// have, so only those are named that its last plain answer listed; and whoever does not like to be asked so (a proxy, an
// agent that plays node_exporter) is asked plainly for good.
import type { Scrape } from './scrape.ts';

/** Of node_exporter's collectors, those with series that are read. Only the ones that an answer lists are asked for. */
const NEEDED_COLLECTORS: ReadonlySet<string> = new Set([
  'cpu',
  'drm',
  'hwmon',
  'meminfo',
  'rapl',
  'textfile',
  'thermal_zone',
  'time',
  'zfs',
]);
/** Lists the collectors that a node_exporter has. */
export const COLLECTOR_SUCCESS = 'node_scrape_collector_success';

/**
 * After this a node_exporter is asked plainly once, to learn of collectors that an operator has switched on since. Long
 * enough to cost nothing, short enough that a missing hwmon collector is found while somebody is looking.
 */
const LEARN_AGAIN_MS = 600_000;

/** What of a node_exporter is asked for: `collect[]` of the needed collectors that it has. */
export class CollectorChoice {
  readonly #plainUrl: string;
  #chosenUrl: string | null = null;
  #learntAtMs = -Infinity;
  #mayChoose: boolean;
  /** Series of the plain answer that the choice was made of: the choice must not lose any. */
  #plainNames: readonly string[] = [];
  /** Whether the choice has been answered well once: then a failure is not the choice's fault, unless it says so. */
  #hasWorked = false;

  constructor(plainUrl: string) {
    this.#plainUrl = plainUrl;
    // Somebody's own choice stands.
    this.#mayChoose = !/[?&](collect|exclude)(\[|%5b)/i.test(plainUrl);
  }

  urlAt(nowMs: number): string {
    const isRecent = nowMs - this.#learntAtMs < LEARN_AGAIN_MS;
    return this.#chosenUrl !== null && isRecent ? this.#chosenUrl : this.#plainUrl;
  }

  /** From a believed answer to `url`. */
  learn(url: string, askedAtMs: number, samples: Scrape['samples']): void {
    if (url !== this.#plainUrl) {
      this.#hasWorked = true;
      return;
    }
    if (!this.#mayChoose) return;
    const listed = (samples.get(COLLECTOR_SUCCESS) ?? []).map(({ labels }) => labels['collector'] ?? '');
    const needed = [...new Set(listed)].filter((name) => NEEDED_COLLECTORS.has(name)).sort();
    this.#learntAtMs = askedAtMs;
    this.#plainNames = [...samples.keys()];
    const chosenUrl = needed.length === 0 ? null : withCollectors(this.#plainUrl, needed);
    if (chosenUrl !== this.#chosenUrl) this.#hasWorked = false;
    this.#chosenUrl = chosenUrl;
  }

  /**
   * Whether the chosen URL is not to be asked again. A collector that was switched off since gives 400. Before the
   * first success any failure may be its way of refusing, and so is an answer that lacks what the plain one had.
   * `samples` is `null` where the look failed.
   */
  isRefused(status: number | null, samples: Scrape['samples'] | null): boolean {
    if (status === 400) return true;
    if (this.#hasWorked) return false;
    return samples === null || this.#plainNames.some((name) => !samples.has(name));
  }

  /** Asks plainly from now on. */
  giveUp(): void {
    this.#mayChoose = false;
    this.#chosenUrl = null;
  }
}

function withCollectors(plainUrl: string, collectors: readonly string[]): string {
  const url = new URL(plainUrl);
  const query = collectors.map((name) => `collect[]=${name}`).join('&');
  url.search = url.search === '' ? query : `${url.search}&${query}`;
  return url.href;
}
