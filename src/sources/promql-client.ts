// Puts the questions of promql-queries.ts to a server: first for its time, then everything as of that one moment, a few
// questions at a time, and in smaller ones from then on where an answer is too much. One look's answer is whole or none.
import type { Clock } from '../clock.ts';
import type { Credentials } from './credentials.ts';
import type { HttpGet } from './http-get.ts';
import { type PromAnswer, type PromFailure, type PromSeries, readAnswer } from './promql-answer.ts';
import { CPU_TIME, cpuQuery, groupNames, type QueryScope, rawQuery, TIME_QUERY, UP } from './promql-queries.ts';

export interface PromqlClientOptions {
  readonly clock: Clock;
  /** Of the server, up to what comes before `/api/v1`. */
  readonly url: string;
  readonly get: HttpGet;
  readonly credentials: Credentials | null;
  /** Names of the series that are asked for. */
  readonly names: Iterable<string>;
  /** The labels that the server's own sums are kept apart by. */
  readonly by: readonly string[];
  readonly match: string;
  readonly windowMs: number;
}

/** What a server holds of the window before `evaluatedAtMs`, its own time in Unix ms. */
export interface Held {
  readonly ok: true;
  readonly evaluatedAtMs: number;
  /** Raw samples, the series `up` among them. */
  readonly raw: readonly PromSeries[];
  /** The answer to {@link cpuQuery}. */
  readonly cpu: readonly PromSeries[];
}

/** One answer; a node_exporter's temperatures on 1,000 nodes with 70 sensors each are 25 MB. */
const MOST_ANSWER_BYTES = 32 * 2 ** 20;
/** Prometheus runs 20 queries at a time for all that ask it. */
const QUERIES_AT_ONCE = 4;
/** Questions that a look is split into at most, where answers are too much for one of the two sides. */
const MOST_QUERIES = 32;

export class PromqlClient {
  readonly #options: PromqlClientOptions;
  #groups: (readonly string[])[];

  constructor(options: PromqlClientOptions) {
    this.#options = options;
    const names = new Set([UP, ...options.names]);
    names.delete(CPU_TIME);
    this.#groups = groupNames([...names].sort());
  }

  /**
   * Asks for everything once, until `deadlineMs` (monotonic) at the latest.
   *
   * @param instances only series of these values of `instance`; `null`: all
   */
  async ask(instances: readonly string[] | null, deadlineMs: number): Promise<Held | PromFailure> {
    const { match, windowMs, by } = this.#options;
    const scope: QueryScope = { match, windowMs, instances };
    const time = await this.#query(TIME_QUERY, null, deadlineMs);
    if (!time.ok) return time;
    const seconds = time.series[0]?.values[0]?.[0];
    if (seconds === undefined) {
      return { ok: false, cause: 'bad-body', detail: 'it does not tell its time', isTooMuch: false };
    }
    const raw: PromSeries[] = [];
    const cpu: PromSeries[] = [];
    const questions = this.#groups.map((names) => () => this.#queryNames(names, scope, seconds, deadlineMs, raw));
    questions.push(async () => {
      const answer = await this.#query(cpuQuery(by, scope), seconds, deadlineMs);
      if (answer.ok) append(cpu, answer.series);
      return answer.ok ? null : answer;
    });
    const failure = await firstFailure(questions);
    return failure ?? { ok: true, evaluatedAtMs: seconds * 1000, raw, cpu };
  }

  /** In two halves from now on where it is too much for one answer. */
  async #queryNames(
    names: readonly string[],
    scope: QueryScope,
    seconds: number,
    deadlineMs: number,
    series: PromSeries[],
  ): Promise<PromFailure | null> {
    const answer = await this.#query(rawQuery(names, scope), seconds, deadlineMs);
    if (answer.ok) {
      append(series, answer.series);
      return null;
    }
    if (!answer.isTooMuch || names.length === 1 || this.#groups.length >= MOST_QUERIES) return answer;
    const middle = Math.ceil(names.length / 2);
    const halves = [names.slice(0, middle), names.slice(middle)];
    this.#groups = this.#groups.flatMap((group) => (group === names ? halves : [group]));
    for (const half of halves) {
      const failure = await this.#queryNames(half, scope, seconds, deadlineMs, series);
      if (failure) return failure;
    }
    return null;
  }

  async #query(query: string, seconds: number | null, deadlineMs: number): Promise<PromAnswer> {
    const { clock, get, credentials } = this.#options;
    const url = new URL(this.#options.url);
    url.pathname = `${url.pathname.replace(/\/+$/, '')}/api/v1/query`;
    url.searchParams.set('query', query);
    if (seconds !== null) url.searchParams.set('time', seconds.toFixed(3));
    const leftMs = deadlineMs - clock.now().elapsedMs;
    url.searchParams.set('timeout', `${Math.max(1, Math.ceil(leftMs))}ms`);
    // VictoriaMetrics would answer as of half a minute ago.
    url.searchParams.set('nocache', '1');
    const headers = { accept: 'application/json', 'user-agent': 'vsf-safety' };
    const question = { deadlineMs, headers, maxBytes: MOST_ANSWER_BYTES, credentials, allowedRanges: null };
    return readAnswer(await get(url.href, question), () => clock.sleep(0));
  }
}

/** Not by push(...): a spread of 200,000 series is more than the stack holds. */
function append(all: PromSeries[], more: readonly PromSeries[]): void {
  for (const one of more) all.push(one);
}

/** A few at a time; the others are not asked any more once one has failed. */
async function firstFailure(questions: readonly (() => Promise<PromFailure | null>)[]): Promise<PromFailure | null> {
  const left = [...questions];
  let failure: PromFailure | null = null;
  const work = async (): Promise<void> => {
    for (let next = left.shift(); next && !failure; next = left.shift()) failure = (await next()) ?? failure;
  };
  await Promise.all(Array.from({ length: QUERIES_AT_ONCE }, work));
  return failure;
}
