// What a server that speaks Prometheus' HTTP API says to an instant query: its JSON made series, or why it is none. An
// answer that the server itself calls incomplete (a Thanos store that is away, a VictoriaMetrics node that is down) is
// none: what is left out of it would look as if it were not there. A large answer is parsed in pieces, so that nothing
// else of this service waits for it. What the labels mean is promql-targets.ts.
import type { FailureCause } from '../domain/reading.ts';
import { excerptOf, type HttpAnswer } from './http-get.ts';

/** One series of an answer; an instant vector's has one sample. */
export interface PromSeries {
  /** As the server has them, `__name__` among them. A plain object: look nothing up that may not be there. */
  readonly metric: Readonly<Record<string, string>>;
  /** Unix seconds and the value as text, ascending in time; at least one. */
  readonly values: readonly (readonly [number, string])[];
}

export interface PromFailure {
  readonly ok: false;
  readonly cause: FailureCause;
  readonly detail: string;
  /** How an error's body begins. For operators only. */
  readonly excerpt?: string;
  /** The server or this service found it too much: fewer series may be had. */
  readonly isTooMuch: boolean;
}

export type PromAnswer = { readonly ok: true; readonly series: readonly PromSeries[] } | PromFailure;

/** About 1 MB of series: some 10 ms of parsing. */
const SERIES_PER_PIECE = 2_000;
/** A quote within a JSON text is escaped, so these bytes are where a series starts and nothing else. */
const SERIES_START = '{"metric":';
const DETAIL_CHARACTERS = 200;

/**
 * Reads the answer to one query.
 *
 * @param pause lets the rest of the service work between two pieces
 */
export async function readAnswer(answer: HttpAnswer, pause: () => Promise<void>): Promise<PromAnswer> {
  if (answer.kind === 'failed') {
    return failure(answer.cause, answer.detail, answer.cause === 'bad-body');
  }
  const { status, statusText, contentType = '', body, isComplete } = answer;
  const excerpt = excerptOf(body);
  if (!isComplete) return failure('bad-body', 'the connection broke before the end of its answer', true, excerpt);
  const isJson = /^application\/json\b/i.test(contentType);
  if (!isJson) {
    const type = contentType === '' ? 'no content type' : `content of type ${brief(contentType)}`;
    const detail = `it answers ${status} with ${type}, not JSON: is this the address of Prometheus' API?`;
    return failure(status === 200 ? 'bad-body' : 'bad-status', detail, false, excerpt);
  }
  const pieces = piecesOf(body);
  const series: PromSeries[] = [];
  let last: unknown;
  try {
    for (const [index, piece] of pieces.entries()) {
      if (index > 0) await pause();
      const parsed: unknown = JSON.parse(piece);
      if (Array.isArray(parsed)) series.push(...parsed.filter(isSeries).map(withValues));
      else last = parsed;
    }
  } catch {
    return failure('bad-body', `its answer (${body.length} bytes) is no JSON`, false, excerpt);
  }
  const envelope = isRecord(last) ? last : {};
  const data = isRecord(envelope['data']) ? envelope['data'] : {};
  if (envelope['status'] !== 'success' || status !== 200) {
    const says = [envelope['errorType'], envelope['error']].filter((text) => typeof text === 'string').join(': ');
    const detail = `it answers ${status} ${statusText}${says === '' ? '' : `, ${brief(says)}`}`;
    // 422: the query cannot be executed, mostly for one of the server's limits on samples or series.
    return failure('bad-status', detail, status === 422, excerpt);
  }
  const warnings = Array.isArray(envelope['warnings']) ? envelope['warnings'] : [];
  if (warnings.length > 0 || envelope['isPartial'] === true) {
    const says = brief(warnings.length > 0 ? warnings.join('; ') : 'isPartial');
    return failure('bad-body', `it says that its answer is not whole: ${says}`, false, excerpt);
  }
  const result = data['result'];
  if (!Array.isArray(result)) return failure('bad-body', 'its answer has no result', false, excerpt);
  series.push(...result.filter(isSeries).map(withValues));
  return { ok: true, series: series.filter(({ values }) => values.length > 0) };
}

/**
 * JSON texts that together say what the body says: arrays of series, and last an answer as if of the last series alone.
 */
function piecesOf(body: Buffer): string[] {
  const starts: number[] = [];
  for (let at = body.indexOf(SERIES_START), count = 0; at >= 0; at = body.indexOf(SERIES_START, at + 1), count++) {
    if (count % SERIES_PER_PIECE === 0) starts.push(at);
  }
  const first = starts[0];
  const tail = starts.at(-1);
  if (first === undefined || tail === undefined || starts.length === 1) return [body.toString('utf8')];
  const pieces = starts.slice(0, -1).map((start, index) => {
    // Without the comma before the next piece.
    const end = body.lastIndexOf(',', starts[index + 1] ?? tail);
    return `[${body.toString('utf8', start, end)}]`;
  });
  return [...pieces, body.toString('utf8', 0, first) + body.toString('utf8', tail)];
}

/** Unlike a native histogram's, which has `histograms` in place of values. */
function isSeries(value: unknown): value is { metric: PromSeries['metric']; values?: unknown; value?: unknown } {
  if (!isRecord(value) || !isRecord(value['metric'])) return false;
  return Object.values(value['metric']).every((label) => typeof label === 'string');
}

function withValues({ metric, values, value }: { metric: PromSeries['metric']; values?: unknown; value?: unknown }) {
  const samples: readonly unknown[] = Array.isArray(values) ? values : [value];
  return { metric, values: samples.filter(isSample) };
}

function isSample(sample: unknown): sample is readonly [number, string] {
  return Array.isArray(sample) && Number.isFinite(sample[0]) && typeof sample[1] === 'string';
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function failure(cause: FailureCause, detail: string, isTooMuch: boolean, excerpt?: string): PromFailure {
  return { ok: false, cause, detail, isTooMuch, ...(excerpt !== undefined && { excerpt }) };
}

/** A server's words, in one printable line. */
function brief(text: string): string {
  const line = text.replace(/[\p{C}\p{Z}]+/gu, ' ').trim();
  return line.length > DETAIL_CHARACTERS ? `${line.slice(0, DETAIL_CHARACTERS - 1)}…` : line;
}

/**
 * The number of a sample's text as Prometheus writes it. NaN for anything else: a value that is none is never a number.
 */
export function numberOf(text: string): number {
  return /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) ? Number(text) : Number.NaN;
}
