// Readings of a whole cluster from a server that speaks Prometheus' HTTP API (Prometheus, Thanos, VictoriaMetrics,
// Mimir), for clusters larger than one process should scrape. Each target that the server scrapes is a source; all
// that are asked at once share one set of queries. A sample is as old as its own stamp says against the server's time.
// What the server cannot scrape has failed, whatever it still remembers of it.
//
// The questions are promql-queries.ts, put by promql-client.ts, answers promql-answer.ts, targets promql-targets.ts, node names promql-nodes.ts.
import { type Clock, TIMED_OUT, withDeadline } from '../clock.ts';
import { invariant } from '../domain/invariant.ts';
import { EMPTY_REPORT, type FailureCause, type SourceReport } from '../domain/reading.ts';
import type { Credentials } from './credentials.ts';
import type { HttpGet } from './http-get.ts';
import type { PromFailure } from './promql-answer.ts';
import { PromqlClient } from './promql-client.ts';
import { NodeNames } from './promql-nodes.ts';
import { INSTANCES_LENGTH } from './promql-queries.ts';
import { type Grouped, groupByTarget, scrapeOf, type TargetSeries } from './promql-targets.ts';
import type { SeriesAnswer, SeriesEngine } from './scrape.ts';
import type { Source } from './source.ts';

export interface PrometheusOptions {
  readonly clock: Clock;
  /** Of the server, up to what comes before `/api/v1`. */
  readonly url: string;
  readonly get: HttpGet;
  readonly credentials: Credentials | null;
  /** The first of these labels that a series bears names its node; of `instance` its host does. */
  readonly nodeLabels: readonly string[];
  /** Further label matchers of every query, `cluster="x"`; may be empty. */
  readonly match: string;
  /** Configured nodes: each has a source from the start. */
  readonly nodes: readonly string[];
  /** The configuration's rule for names of nodes. */
  readonly isNodeName: (name: string) => boolean;
  /** Names of the series that are read. */
  readonly wanted: ReadonlySet<string>;
  /** Makes the readings of one target, or of the outlets that feed a node; called once for each. */
  readonly reader: (node: string, of: 'target' | 'outlets') => SeriesEngine;
  /** Names of series of power outlets, and the nodes that they are configured for. */
  readonly outlets: ReadonlyMap<string, readonly string[]>;
  readonly staleAfterMs: number;
  readonly intervalMs: number;
}

/** Sources that are asked within this share one look. The monitor asks all of a round in one go. */
const GATHER_MS = 5;
/** Left of a look's time for putting the reports together. */
const REPORT_MS = 50;
/** Some 10 ms of work. */
const REPORTS_AT_ONCE = 50;
/** What the server does not have, it does not have a moment later either: the retry within a tick gets the same word. */
const SAME_WORD_MS = 1_000;
/** A target of an exporter's pod that is gone for good is forgotten after this; what it measured stays required. */
const FORGET_AFTER_MS = 15 * 60_000;

/** One target, or with `target: null` what the server knows of a configured node at all. */
interface Origin {
  readonly source: Source;
  readonly target: TargetState | null;
  running: Promise<SourceReport> | undefined;
  last: SourceReport | undefined;
}

interface TargetState {
  readonly key: string;
  readonly instance: string;
  readonly of: 'target' | 'outlets';
  engine: SeriesEngine;
  /** Stamp of the newest scrape that the engine has read, Unix ms, and how many samples it had. */
  newestMs: number;
  size: number;
  /** The monotonic time of that scrape, as it was known when it was read. */
  scrapedAtMs: number;
  answer: SeriesAnswer | undefined;
  seenAtMs: number;
}

interface Batch {
  readonly asked: Set<Origin>;
  deadlineMs: number;
  /** One set of queries, and what came of it for each that was asked. */
  readonly done: Promise<ReadonlyMap<Origin, SourceReport>>;
}

type Result = { readonly ok: true; readonly wallMs: number; readonly grouped: Grouped } | PromFailure;

export class PrometheusServer {
  readonly #options: PrometheusOptions;
  readonly #names: NodeNames;
  readonly #windowMs: number;
  readonly #client: PromqlClient;
  readonly #nodes: ReadonlyMap<string, Origin>;
  readonly #targets = new Map<string, Origin>();
  #gathering: Batch | undefined;
  #problems: readonly string[] = ['has not been asked yet'];
  #hasAnswered = false;

  constructor(options: PrometheusOptions) {
    const { nodes, isNodeName, nodeLabels, staleAfterMs, intervalMs, wanted, outlets } = options;
    this.#options = options;
    this.#names = new NodeNames(nodes, isNodeName);
    this.#windowMs = staleAfterMs + intervalMs;
    this.#client = new PromqlClient({
      ...options,
      names: [...wanted, ...outlets.keys()],
      by: [...new Set(['job', 'instance', ...nodeLabels])],
      windowMs: this.#windowMs,
    });
    this.#nodes = new Map(nodes.map((node) => [node, this.#origin('prometheus', node, null)]));
  }

  /**
   * One per configured node, `prometheus`, which fails where the server has nothing of it; and one per target that was
   * found so far, `prometheus:<job>/<instance>`, the outlets of a node being one of them. Grows and shrinks with the looks.
   */
  sources(): readonly Source[] {
    return [...this.#nodes.values(), ...this.#targets.values()].map(({ source }) => source);
  }

  /** Looks what there is, for a caller who knows of no source yet. Ends by the deadline (monotonic); never rejects. */
  async discover(deadlineMs: number): Promise<void> {
    const startedAtMs = this.#nowMs();
    await withDeadline(this.#options.clock, deadlineMs - startedAtMs, this.#look(new Set(), deadlineMs - REPORT_MS));
  }

  /** Why the last look failed, or which series of it are nobody's, one line each; at most 50. */
  get problems(): readonly string[] {
    return this.#problems;
  }

  /** Whether one look at least has been answered: before it nobody knows what the server scrapes. */
  get hasAnswered(): boolean {
    return this.#hasAnswered;
  }

  #origin(id: string, node: string, target: TargetState | null): Origin {
    const origin: Origin = {
      target,
      running: undefined,
      last: undefined,
      source: {
        id,
        node,
        // Nothing but the node's targets carries anything, once there are some. A target may, until it has been read.
        get carriesHeat(): boolean {
          if (!target) return origin.last?.outcome.kind !== 'answered';
          return target.answer?.readings.some(isHeat) ?? true;
        },
        read: (deadlineMs) => this.#read(origin, deadlineMs),
        close: async () => undefined,
      },
    };
    return origin;
  }

  async #read(origin: Origin, deadlineMs: number): Promise<SourceReport> {
    const startedAtMs = this.#nowMs();
    const { last } = origin;
    const isSameWord = last !== undefined && startedAtMs - last.finishedAtMs < SAME_WORD_MS;
    if (isSameWord && last.outcome.kind === 'failed' && last.outcome.cause === 'empty') return last;
    origin.running ??= this.#join(origin, deadlineMs).finally(() => {
      origin.running = undefined;
    });
    const report = await withDeadline(this.#options.clock, deadlineMs - startedAtMs, origin.running);
    if (report !== TIMED_OUT) return report;
    const allowedMs = Math.max(0, Math.round(deadlineMs - startedAtMs));
    return this.#failed(origin, startedAtMs, 'timeout', `no answer within ${allowedMs} ms`);
  }

  /** With all others that are asked within a few milliseconds. */
  async #join(origin: Origin, deadlineMs: number): Promise<SourceReport> {
    this.#gathering ??= this.#gather();
    const batch = this.#gathering;
    batch.asked.add(origin);
    batch.deadlineMs = Math.max(batch.deadlineMs, deadlineMs);
    const report = (await batch.done).get(origin);
    invariant(report !== undefined, `A look at Prometheus has no report of ${origin.source.id}`);
    origin.last = report;
    return report;
  }

  #gather(): Batch {
    const asked = new Set<Origin>();
    const run = async (): Promise<ReadonlyMap<Origin, SourceReport>> => {
      await this.#options.clock.sleep(GATHER_MS);
      this.#gathering = undefined;
      return this.#look(asked, batch.deadlineMs - REPORT_MS);
    };
    const batch: Batch = { asked, deadlineMs: 0, done: run() };
    return batch;
  }

  async #look(asked: ReadonlySet<Origin>, deadlineMs: number): Promise<ReadonlyMap<Origin, SourceReport>> {
    const startedAtMs = this.#nowMs();
    const instances = this.#instancesOf(asked);
    const result = await this.#ask(instances, deadlineMs);
    // New targets are read at once, asked or not, since a rate needs two. Others that nobody asked may be part of
    // another look at this moment.
    const met = result.ok ? this.#meet(result, instances === null) : [];
    if (!result.ok) this.#problems = [result.detail];
    const reports = new Map<Origin, SourceReport>();
    for (const origin of [...asked, ...met]) {
      if (reports.size % REPORTS_AT_ONCE === REPORTS_AT_ONCE - 1) await this.#options.clock.sleep(0);
      reports.set(origin, this.#reportOf(origin, startedAtMs, result));
    }
    return reports;
  }

  /** Remembers which targets there are, gives the new ones, and forgets those that have not been there for long. */
  #meet({ grouped }: Extract<Result, { ok: true }>, isWhole: boolean): Origin[] {
    const met: Origin[] = [];
    if (isWhole) this.#problems = grouped.problems;
    this.#hasAnswered = true;
    const nowMs = this.#nowMs();
    for (const series of grouped.targets.values()) {
      const known = this.#targets.get(series.key);
      if (known?.target) known.target.seenAtMs = nowMs;
      if (!known) met.push(this.#addTarget(series));
    }
    for (const [key, { target }] of this.#targets) {
      if (target && nowMs - target.seenAtMs > FORGET_AFTER_MS) this.#targets.delete(key);
    }
    return met;
  }

  /** A few targets are asked for by their name, which spares the server and us the others; `null`: all. */
  #instancesOf(asked: ReadonlySet<Origin>): string[] | null {
    if (asked.size === 0 || asked.size * 2 > this.#targets.size) return null;
    const targets = [...this.#targets.values()].flatMap(({ source, target }) =>
      target ? [{ node: source.node, instance: target.instance }] : [],
    );
    const instances = new Set<string>();
    const isWhole = [...asked].some(({ source, target }) => {
      const own = target ? [target] : targets.filter(({ node }) => node === source.node);
      for (const { instance } of own) instances.add(instance);
      // Outlets have no instance: those of a node are spread over several.
      return own.length === 0 || own.some(({ instance }) => instance === '');
    });
    const all = new Set(targets.map(({ instance }) => instance));
    if (isWhole || instances.size * 2 > all.size) return null;
    return encodeURIComponent([...instances].join('|')).length > INSTANCES_LENGTH ? null : [...instances];
  }

  #addTarget({ key, node, job, instance, of }: TargetSeries): Origin {
    const target: TargetState = {
      key,
      instance,
      of,
      engine: this.#options.reader(node, of),
      newestMs: -Infinity,
      size: 0,
      scrapedAtMs: 0,
      answer: undefined,
      seenAtMs: this.#nowMs(),
    };
    const id = of === 'outlets' ? 'prometheus:outlets' : `prometheus:${job}/${instance}`;
    const origin = this.#origin(id, node, target);
    this.#targets.set(key, origin);
    return origin;
  }

  async #ask(instances: readonly string[] | null, deadlineMs: number): Promise<Result> {
    const held = await this.#client.ask(instances, deadlineMs);
    if (!held.ok) return held;
    const { clock, nodeLabels, outlets } = this.#options;
    const rules = { nodeLabels, outlets, names: this.#names, windowMs: this.#windowMs };
    const grouped = await groupByTarget(held, rules, () => clock.sleep(0));
    return { ok: true, wallMs: held.evaluatedAtMs, grouped };
  }

  #reportOf(origin: Origin, startedAtMs: number, result: Result): SourceReport {
    if (!result.ok) return this.#failed(origin, startedAtMs, result.cause, result.detail, result.excerpt);
    const { grouped, wallMs } = result;
    if (origin.target) {
      const series = grouped.targets.get(origin.target.key);
      return this.#readTarget(origin, series, wallMs, startedAtMs);
    }
    const { node } = origin.source;
    const own = grouped.byNode.get(node) ?? [];
    const frame = this.#frame(origin, startedAtMs);
    if (own.length === 0) {
      const labels = this.#options.nodeLabels.join(', ');
      const detail = `it has no series of this node from the last ${this.#windowMs / 1000} s; its label (${labels}) must name it`;
      return { ...this.#failed(origin, startedAtMs, 'empty', detail), notes: grouped.problems };
    }
    const targets = own.map(({ job, instance, of }) => (of === 'outlets' ? of : `${job}/${instance}`)).sort();
    return { ...frame, outcome: { kind: 'answered' }, notes: [`Prometheus scrapes ${targets.join(', ')}`] };
  }

  #readTarget(origin: Origin, series: TargetSeries | undefined, wallMs: number, startedAtMs: number): SourceReport {
    const { target } = origin;
    const scraped = series ? scrapeOf(series, wallMs, startedAtMs) : ({ kind: 'empty' } as const);
    if (scraped.kind === 'failed') return this.#failed(origin, startedAtMs, 'failed', scraped.detail);
    if (!target || scraped.kind === 'empty') {
      const seconds = this.#windowMs / 1000;
      return this.#failed(origin, startedAtMs, 'empty', `it has no sample of it from the last ${seconds} s`);
    }
    const { newestMs, scrape } = scraped;
    const size = [...scrape.samples.values()].reduce((sum, samples) => sum + samples.length, 0);
    // A clock that was set back far, on the server or where it scrapes: what was read before is of another time.
    if (newestMs < target.newestMs - this.#windowMs) {
      target.engine = this.#options.reader(origin.source.node, target.of);
      target.newestMs = -Infinity;
    }
    // Of two servers behind one address, one may lag: an older scrape is no news.
    const isNews = newestMs > target.newestMs || (newestMs === target.newestMs && size !== target.size);
    if (isNews || !target.answer) {
      target.answer = target.engine.read(scrape);
      target.scrapedAtMs = scrape.startedAtMs;
      target.newestMs = newestMs;
      target.size = size;
    }
    // By the server's time it may be older than by ours, which stands still while this machine sleeps.
    const knownMs = scrape.startedAtMs + (target.newestMs - newestMs);
    const olderByMs = Math.max(0, target.scrapedAtMs - knownMs);
    const { ignored: _, readings, ...answer } = target.answer;
    return {
      ...this.#frame(origin, startedAtMs),
      ...answer,
      outcome: { kind: 'answered' },
      // The scrape's time where a reading has none of its own: the look is newer than what it found.
      readings: readings.map((reading) => ({
        ...reading,
        sampledAtMs: (reading.sampledAtMs ?? target.scrapedAtMs) - olderByMs,
      })),
    };
  }

  #failed(origin: Origin, startedAtMs: number, cause: FailureCause, why: string, excerpt?: string): SourceReport {
    const { origin: host, pathname } = new URL(this.#options.url);
    const what = origin.target ? origin.source.id.replace(/^prometheus:/, '') : `node ${origin.source.node}`;
    const detail = `Cannot read ${what} from ${host}${pathname.replace(/\/+$/, '')}: ${why}`;
    const outcome = { kind: 'failed', cause, detail, ...(excerpt !== undefined && { excerpt }) } as const;
    return { ...this.#frame(origin, startedAtMs), outcome };
  }

  #frame({ source }: Origin, startedAtMs: number): Omit<SourceReport, 'outcome'> {
    return { ...EMPTY_REPORT, source: source.id, node: source.node, startedAtMs, finishedAtMs: this.#nowMs() };
  }

  #nowMs(): number {
    return this.#options.clock.now().elapsedMs;
  }
}

const isHeat = ({ quantity, informational }: SeriesAnswer['readings'][number]): boolean =>
  informational !== true && (quantity === 'temperature' || quantity === 'power' || quantity === 'total-power');
