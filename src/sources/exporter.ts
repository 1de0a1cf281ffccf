// One exporter of one node: asked over HTTP, its body read line by line, its series made readings. A 200 proves little:
// an exporter that reloads answers with an empty body, a proxy with a page, a broken connection with half of the truth;
// each of these is a failed look and never a node without GPUs. node_exporter is asked only for the collectors that are
// read, which saves both sides most of the work, and plainly where it does not like that. Which node it is, is told by
// whoever made this source, never by a label. Trying again within a tick is the monitor's.
import { type Clock, TIMED_OUT, TurnShare, withDeadline } from '../clock.ts';
import { EMPTY_REPORT, type FailureCause, type ScrapeFigures, type SourceReport } from '../domain/reading.ts';
import { COLLECTOR_SUCCESS, CollectorChoice } from './collector-choice.ts';
import type { Credentials } from './credentials.ts';
import { type Exposition, expositionFormat, parseExposition } from './exposition.ts';
import { excerptOf, type HttpAnswer, type HttpGet } from './http-get.ts';
import { joined } from './joined.ts';
import type { Scrape, SeriesAnswer } from './scrape.ts';
import { listsCards } from './series.ts';
import { SeriesMemory } from './series-memory.ts';
import type { SeriesReader } from './series-reader.ts';
import { shownAddress } from './shown-address.ts';
import type { Source } from './source.ts';

export interface ExporterOptions {
  readonly node: string;
  readonly url: string;
  readonly clock: Clock;
  readonly get: HttpGet;
  /** Only for a URL that was found, never for one of the configuration: see `HttpQuestion.allowedRanges`. */
  readonly allowedRanges: readonly string[] | null;
  readonly credentials: Credentials | null;
  readonly reader: SeriesReader;
  /** For the `User-Agent`. */
  readonly version: string;
}

/** Text first, since it is what all of these exporters write, and no protobuf. */
const ACCEPT = 'text/plain;version=0.0.4;q=1,*/*;q=0.1';

/**
 * Bytes that are read line by line in one turn of the loop, of all exporters together: some 5 ms of work. The answers of
 * a thousand come in bursts, and a stop that arrives meanwhile is let in between two turns.
 */
const bodies = new TurnShare(192 * 1024);

/** Left of a look's time for telling how it failed. */
const REPORT_MS = 20;

/**
 * Cards of which none was here before are another machine's for so long: an address that was given to another pod is
 * corrected by what lists it, and one scrape of a neighbour must not leave its cards behind as lost ones of this node.
 * After that they are believed, as after a repair.
 */
const STRANGE_CARDS_MS = 30_000;

const MOST_REJECTED_TOLD = 5;
const MOST_NOTES = 50;

/** A source whose `id` is the URL. */
export function createExporter(options: ExporterOptions): Source {
  return new Exporter(options);
}

/** A look that came to nothing. */
interface Failure {
  readonly cause: FailureCause;
  readonly detail: string;
  readonly excerpt?: string | undefined;
}

/** What one request gave, with the times around it. */
interface Asked {
  readonly answer: HttpAnswer;
  readonly startedAtMs: number;
  readonly finishedAtMs: number;
  /** Our wall clock at the end, Unix ms. */
  readonly wallMs: number;
}

/** A body that can be believed. */
interface Told extends Asked {
  readonly exposition: Exposition;
  readonly bytes: number;
}

class Exporter implements Source {
  readonly id: string;
  readonly node: string;
  readonly #options: ExporterOptions;
  readonly #url: string;
  readonly #clock: Clock;
  readonly #wanted: ReadonlySet<string>;
  readonly #collectors: CollectorChoice;
  readonly #memory = new SeriesMemory();
  #carriesHeat = true;
  /** Names of the last answer that was believed, and those of one that had none of them. */
  #names: ReadonlySet<string> = new Set();
  #strangeNames: ReadonlySet<string> = new Set();
  /** UUIDs of the last answer that was believed and had any. */
  #cards: ReadonlySet<string> = new Set();
  #strangeCardsSinceMs: number | null = null;
  readonly #joinedLook = joined((startedAtMs: number, deadlineMs: number) => this.#look(startedAtMs, deadlineMs));

  constructor(options: ExporterOptions) {
    this.id = shownAddress(options.url);
    this.#url = options.url;
    this.node = options.node;
    this.#options = options;
    this.#clock = options.clock;
    this.#wanted = new Set([...options.reader.wanted, COLLECTOR_SUCCESS, 'node_time_seconds']);
    this.#collectors = new CollectorChoice(options.url);
  }

  /** `false` once an answer has shown neither temperature nor power, until one does. */
  get carriesHeat(): boolean {
    return this.#carriesHeat;
  }

  async read(deadlineMs: number): Promise<SourceReport> {
    const startedAtMs = this.#nowMs();
    const allowedMs = deadlineMs - startedAtMs;
    // A look that is joined may have a later deadline than this caller's.
    const look = this.#joinedLook(startedAtMs, deadlineMs - REPORT_MS);
    const report = await withDeadline(this.#clock, allowedMs, look);
    if (report !== TIMED_OUT) return report;
    const detail = `no answer within ${Math.max(0, Math.round(allowedMs))} ms`;
    return this.#failed(startedAtMs, { cause: 'timeout', detail });
  }

  /** Connections are the getter's, and are closed with it. */
  async close(): Promise<void> {}

  async #look(startedAtMs: number, deadlineMs: number): Promise<SourceReport> {
    const chosen = this.#collectors.urlAt(startedAtMs);
    const first = await this.#ask(chosen, deadlineMs);
    let result = await this.#judge(first);
    if (
      chosen !== this.#url &&
      this.#collectors.isRefused(statusOf(first.answer), 'cause' in result ? null : result.exposition.samples)
    ) {
      this.#collectors.giveUp();
      result = await this.#judge(await this.#ask(this.#url, deadlineMs));
    }
    if ('cause' in result) return this.#failed(startedAtMs, result);
    const isStrange = this.#isStrange(result.exposition);
    if (isStrange) return this.#failed(startedAtMs, isStrange);
    this.#collectors.learn(chosen, result.startedAtMs, result.exposition.samples);
    return this.#report(startedAtMs, result);
  }

  async #ask(url: string, deadlineMs: number): Promise<Asked> {
    const { get, allowedRanges, credentials, version } = this.#options;
    const startedAtMs = this.#nowMs();
    const leftSeconds = Math.max(0, deadlineMs - startedAtMs) / 1000;
    const answer = await get(url, {
      deadlineMs,
      headers: {
        accept: ACCEPT,
        'user-agent': `vsf-safety/${version}`,
        // Exporters that ask slow hardware give up in time, and answer with what they have.
        'x-prometheus-scrape-timeout-seconds': leftSeconds.toFixed(3),
      },
      credentials,
      allowedRanges,
    });
    const { elapsedMs, wallMs } = this.#clock.now();
    return { answer, startedAtMs, finishedAtMs: elapsedMs, wallMs };
  }

  /** The body's samples, or why it is not to be believed. */
  async #judge(asked: Asked): Promise<Told | Failure> {
    const { answer } = asked;
    if (answer.kind === 'failed') return answer;
    const { status, statusText, body, isComplete, hasDeclaredEnd } = answer;
    if (status !== 200) {
      const detail = `it answered ${status} ${statusText}`.trim();
      return { cause: 'bad-status', detail, excerpt: excerptOf(body) };
    }
    if (!isComplete) {
      return { cause: 'bad-body', detail: `the connection broke after ${body.length} bytes of its answer` };
    }
    const format = expositionFormat(answer.contentType);
    if (!format.ok) return { cause: 'bad-body', detail: format.detail, excerpt: excerptOf(body) };
    await bodies.take(body.length);
    const exposition = parseExposition(body, {
      format: format.format,
      wanted: this.#wanted,
      isListing: listsCards,
      isComplete: hasDeclaredEnd,
      memory: this.#memory,
    });
    if (exposition.cutOff !== null) return { cause: 'bad-body', detail: `its answer is cut: ${exposition.cutOff}` };
    if (exposition.sampleCount === 0 && exposition.rejectedCount === 0) {
      return { cause: 'empty', detail: 'it answered without any series that is read', excerpt: excerptOf(body) };
    }
    return { ...asked, exposition, bytes: body.length };
  }

  /**
   * An answer without any of the families that it gave before is a failure: another exporter behind the same address,
   * or one half started. Two in a row with the same families are its new self, as after an upgrade that renamed them.
   */
  #isStrange({ samples }: Exposition): Failure | null {
    const names = new Set(samples.keys());
    const isKnown = this.#names.size === 0 || names.size === 0 || sharesAny(names, this.#names);
    if (!isKnown && !sharesAny(names, this.#strangeNames)) {
      this.#strangeNames = names;
      return { cause: 'empty', detail: 'it answered without any of the series that it gave before' };
    }
    if (names.size > 0) this.#names = names;
    this.#strangeNames = new Set();
    return null;
  }

  /** See {@link STRANGE_CARDS_MS}. */
  #areCardsStrange({ gpus }: SeriesAnswer, atMs: number): Failure | null {
    const cards = new Set(gpus.flatMap(({ uuid }) => uuid ?? []));
    if (cards.size === 0) return null;
    if (this.#cards.size > 0 && !sharesAny(cards, this.#cards)) {
      this.#strangeCardsSinceMs ??= atMs;
      if (atMs - this.#strangeCardsSinceMs < STRANGE_CARDS_MS) {
        const detail = `it names ${cards.size} GPUs of which none was there before: another machine's exporter?`;
        return { cause: 'bad-body', detail };
      }
    }
    this.#cards = cards;
    this.#strangeCardsSinceMs = null;
    return null;
  }

  #report(startedAtMs: number, told: Told): SourceReport {
    const { exposition, finishedAtMs, wallMs } = told;
    const tookMs = finishedAtMs - told.startedAtMs;
    const toldMs = wallTimeOf(told);
    const scrape: Scrape = {
      samples: exposition.samples,
      rejected: exposition.rejected,
      rejectedCount: exposition.rejectedCount,
      listed: exposition.listed,
      startedAtMs: told.startedAtMs,
      finishedAtMs,
      // It read its clock some time during the request; as if at the start makes samples older rather than younger.
      sourceWallMs: toldMs === null ? wallMs : toldMs + tookMs,
    };
    const answer = this.#options.reader.read(scrape);
    const areStrange = this.#areCardsStrange(answer, told.startedAtMs);
    if (areStrange) return this.#failed(startedAtMs, areStrange);
    this.#carriesHeat = showsHeat(answer);
    return {
      source: this.id,
      node: this.node,
      startedAtMs: told.startedAtMs,
      finishedAtMs,
      outcome: { kind: 'answered' },
      readings: answer.readings,
      gpus: answer.gpus,
      gpuSigns: answer.gpuSigns,
      witnesses: answer.witnesses,
      throttledGpus: answer.throttledGpus,
      hardwareLimits: answer.hardwareLimits,
      notes: answer.notes.slice(0, MOST_NOTES),
      scrape: {
        ...this.#noFigures(startedAtMs, finishedAtMs),
        bytes: told.bytes,
        samples: exposition.sampleCount,
        rejectedLines: exposition.rejectedCount,
        rejected: exposition.rejected
          .slice(0, MOST_REJECTED_TOLD)
          .map(({ line, reason, text }) => `line ${line}: ${reason}: ${text}`),
        sourceWallAheadMs: toldMs === null ? null : Math.round(toldMs - (wallMs - tookMs / 2)),
      },
    };
  }

  #failed(startedAtMs: number, { cause, detail, excerpt }: Failure): SourceReport {
    const finishedAtMs = this.#nowMs();
    return {
      ...EMPTY_REPORT,
      source: this.id,
      node: this.node,
      startedAtMs,
      finishedAtMs,
      outcome: {
        kind: 'failed',
        cause,
        detail: `Cannot read ${this.id}: ${detail}`,
        ...(excerpt !== undefined && { excerpt }),
      },
      scrape: this.#noFigures(startedAtMs, finishedAtMs),
    };
  }

  #noFigures(startedAtMs: number, finishedAtMs: number): ScrapeFigures {
    const tookMs = Math.round(finishedAtMs - startedAtMs);
    return { url: this.id, tookMs, bytes: 0, samples: 0, rejectedLines: 0, rejected: [], sourceWallAheadMs: null };
  }

  #nowMs(): number {
    return this.#clock.now().elapsedMs;
  }
}

/** The source's own time, Unix ms: node_exporter's clock, else the answer's `Date`; `null` where it tells none. */
function wallTimeOf({ answer, exposition }: Told): number | null {
  const seconds = exposition.samples.get('node_time_seconds')?.[0]?.value ?? Number.NaN;
  if (Number.isFinite(seconds) && seconds > 0) return seconds * 1000;
  return answer.kind === 'answered' ? answer.dateMs : null;
}

function statusOf(answer: HttpAnswer): number | null {
  return answer.kind === 'answered' ? answer.status : null;
}

/** A sensor that is there and cannot be read carries heat, too: it may be read at the next look. */
function showsHeat({ readings, gpus }: SeriesAnswer): boolean {
  const isOffered = ({ value, cause = 'no-sensor' }: SeriesAnswer['readings'][number]): boolean =>
    value !== null || (cause !== 'no-sensor' && cause !== 'not-supported');
  return (
    gpus.length > 0 ||
    readings.some((reading) => /^(temperature|power|total-power)$/.test(reading.quantity) && isOffered(reading))
  );
}

function sharesAny(one: ReadonlySet<string>, other: ReadonlySet<string>): boolean {
  for (const name of one) if (other.has(name)) return true;
  return false;
}
