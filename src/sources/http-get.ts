// One HTTP GET to an exporter, a Prometheus server or a target list, or POST to a webhook, as careful as a stranger's
// server deserves: a deadline of our own over everything, from the name's look-up to the last byte; a bound on the body, before and after
// decompression; no redirect followed, since it would lead past the ranges and credentials that were checked; a body
// cut short told apart from a whole one. Connections are kept, one pool per kind of trust, so that a thousand targets
// cost a thousand handshakes once. node:http rather than undici or fetch: half the CPU for this work. Never throws.
import { type ClientRequest, Agent as HttpAgent, type IncomingMessage, request as requestHttp } from 'node:http';
import { Agent as HttpsAgent, request as requestHttps } from 'node:https';
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import { type Clock, TIMED_OUT, withDeadline } from '../clock.ts';
import type { FailureCause } from '../domain/reading.ts';
import { explainRefusal, isAllowed, literalAddress } from './address-ranges.ts';
import type { Credentials, TlsMaterial } from './credentials.ts';
import { AddressRefused, createHostResolver, lookupWithin, type ResolveHost } from './host-lookup.ts';
import { printable } from './nvidia-smi-card.ts';

export interface HttpQuestion {
  /** Monotonic; the answer is there by then, whatever the server does. */
  readonly deadlineMs: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** Of the body, compressed and decompressed; default 16 MiB. */
  readonly maxBytes?: number;
  /** `null`: nothing is shown. Else only what an entry gives for the URL's host. */
  readonly credentials: Credentials | null;
  /**
   * Where the address that is connected to must lie (never link-local, then), for URLs that somebody else wrote; `null`
   * for those of the configuration.
   */
  readonly allowedRanges: readonly string[] | null;
}

export type HttpAnswer =
  | {
      readonly kind: 'answered';
      /** Any but a redirect's. */
      readonly status: number;
      readonly statusText: string;
      readonly contentType: string | undefined;
      /** The server's time by its `Date` header, Unix ms, to the second; `null` without one. */
      readonly dateMs: number | null;
      /** Decompressed. */
      readonly body: Buffer;
      /** `false`: the connection broke before the end that was declared. */
      readonly isComplete: boolean;
      /** `false`: the end of the connection was the only end, which a server that dies gives, too. */
      readonly hasDeclaredEnd: boolean;
    }
  | { readonly kind: 'failed'; readonly cause: FailureCause; readonly detail: string };

type HttpFailure = Extract<HttpAnswer, { kind: 'failed' }>;

export type HttpGet = (url: string, question: HttpQuestion) => Promise<HttpAnswer>;
/** The headers must say what the body is. It may arrive twice, where a kept connection breaks at the wrong moment. */
export type HttpPost = (url: string, question: HttpQuestion & { readonly body: string }) => Promise<HttpAnswer>;

export interface HttpGetter {
  readonly get: HttpGet;
  readonly post: HttpPost;
  /** Breaks off what is under way and closes all connections. */
  close(): void;
}

/** A large node_exporter answers with half a megabyte; Prometheus' own default is no bound at all. */
const MAX_BYTES = 16 * 2 ** 20;
/** Idle connections, such as those of a target that is gone, are closed after this; over any interval between ticks. */
const IDLE_MS = 120_000;
/** Of one pool to one host; a target is asked once at a time, a Prometheus server a few times. */
const MOST_SOCKETS_PER_HOST = 8;
/** Enough for 120 printable characters, whatever stands between them. */
const EXCERPT_BYTES = 480;

const gunzipBounded = promisify(gunzip);

/** @param options.resolveHost replaces the system's resolver. */
export function createHttpGetter(options: { readonly clock: Clock; readonly resolveHost?: ResolveHost }): HttpGetter {
  return new PooledGetter(options.clock, createHostResolver(options.resolveHost));
}

/**
 * How a body begins, for operators: printable, blanks joined, at most 120 characters; `undefined` if nothing is left.
 */
export function excerptOf(body: Buffer): string | undefined {
  return printable(body.subarray(0, EXCERPT_BYTES).toString('utf8')) || undefined;
}

/** Where a question has got to: the words of a timeout. */
interface Progress {
  stage: string;
}

class PooledGetter implements HttpGetter {
  readonly #clock: Clock;
  readonly #resolveHost: ResolveHost;
  /** By protocol, ranges and entry of credentials: a connection checked for one is no connection for another. */
  readonly #pools = new Map<string, { readonly tls: TlsMaterial | null; readonly agent: HttpAgent }>();
  readonly #underWay = new Set<AbortController>();

  constructor(clock: Clock, resolveHost: ResolveHost) {
    this.#clock = clock;
    this.#resolveHost = resolveHost;
  }

  readonly get: HttpGet = (url, question) => this.#ask(url, question, null);

  readonly post: HttpPost = (url, { body, ...question }) => this.#ask(url, question, body);

  async #ask(url: string, question: HttpQuestion, sent: string | null): Promise<HttpAnswer> {
    const allowedMs = question.deadlineMs - this.#clock.now().elapsedMs;
    if (allowedMs <= 0) return failed('timeout', 'no time was left to ask');
    const progress: Progress = { stage: 'its credentials were being read' };
    const abort = new AbortController();
    this.#underWay.add(abort);
    try {
      const exchange = this.#exchange(url, question, sent, abort.signal, progress);
      const answer = await withDeadline(this.#clock, allowedMs, exchange);
      if (answer !== TIMED_OUT) return answer;
      abort.abort();
      return failed('timeout', `no answer within ${Math.round(allowedMs)} ms: ${progress.stage}`);
    } catch (error) {
      return failureOf(error);
    } finally {
      this.#underWay.delete(abort);
    }
  }

  close(): void {
    for (const abort of this.#underWay) abort.abort();
    for (const { agent } of this.#pools.values()) agent.destroy();
    this.#pools.clear();
  }

  async #exchange(
    text: string,
    { headers, maxBytes = MAX_BYTES, credentials, allowedRanges }: HttpQuestion,
    sent: string | null,
    signal: AbortSignal,
    progress: Progress,
  ): Promise<HttpAnswer> {
    const url = URL.canParse(text) ? new URL(text) : null;
    if (!url || !/^https?:$/.test(url.protocol)) return failed('failed', 'it is no http or https URL');
    if (url.username || url.password) return failed('failed', 'a URL with a password in it is never asked');
    // A literal address never reaches the look-up that checks names.
    const literal = literalAddress(url.hostname);
    if (allowedRanges && literal !== null && !isAllowed(literal, allowedRanges)) {
      return failed('refused', explainRefusal(literal));
    }
    const shown = (await credentials?.credentialsFor(url)) ?? { kind: 'none' };
    if (shown.kind === 'failed') return failed('failed', shown.detail);
    const { authorization, tls } = shown.kind === 'given' ? shown : { authorization: null, tls: null };
    const ask = (agent: HttpAgent): Promise<HttpAnswer | typeof STALE_SOCKET> => {
      progress.stage = 'it was being connected to';
      const request = (url.protocol === 'https:' ? requestHttps : requestHttp)(url, {
        agent,
        signal,
        method: sent === null ? 'GET' : 'POST',
        headers: { ...headers, 'accept-encoding': 'gzip', ...(authorization !== null && { authorization }) },
      });
      return collect(request, sent, maxBytes, progress);
    };
    const answer = await ask(this.#pooledAgent(url, allowedRanges, tls));
    if (answer !== STALE_SOCKET) return answer;
    // The server had closed a kept connection just when it was used again: nothing was asked, so a new one may.
    const again = await ask(this.#agent(url, allowedRanges, tls, false));
    return again === STALE_SOCKET ? failed('failed', 'the connection was cut before an answer') : again;
  }

  #pooledAgent(url: URL, ranges: readonly string[] | null, tls: TlsMaterial | null): HttpAgent {
    const key = `${url.protocol} ${ranges?.join(' ') ?? 'any'} ${tls?.entry ?? ''}`;
    const pool = this.#pools.get(key);
    if (pool?.tls === tls && pool) return pool.agent;
    // After a rotation: what is under way ends on the old connections, and no new question starts on them.
    for (const sockets of Object.values(pool?.agent.freeSockets ?? {})) for (const one of sockets ?? []) one.destroy();
    const agent = this.#agent(url, ranges, tls, true);
    this.#pools.set(key, { tls, agent });
    return agent;
  }

  #agent(url: URL, ranges: readonly string[] | null, tls: TlsMaterial | null, keepAlive: boolean): HttpAgent {
    const options = {
      keepAlive,
      timeout: IDLE_MS,
      maxSockets: MOST_SOCKETS_PER_HOST,
      lookup: lookupWithin(this.#resolveHost, ranges),
    };
    if (url.protocol !== 'https:') return new HttpAgent(options);
    const { secureContext, serverName } = tls ?? { secureContext: null, serverName: null };
    return new HttpsAgent({
      ...options,
      ...(secureContext && { secureContext }),
      ...(serverName !== null && { servername: serverName }),
    });
  }
}

/** The kept connection was closed before a byte of an answer came. */
const STALE_SOCKET = Symbol('stale socket');

function collect(
  request: ClientRequest,
  sent: string | null,
  maxBytes: number,
  progress: Progress,
): Promise<HttpAnswer | typeof STALE_SOCKET> {
  return new Promise((resolve) => {
    let hasResponse = false;
    const fail = (error: NodeJS.ErrnoException | null): void => {
      // What breaks after the head is told by the response.
      if (hasResponse) return;
      const wasCut = error === null || error.code === 'ECONNRESET' || error.code === 'EPIPE';
      if (wasCut && request.reusedSocket) resolve(STALE_SOCKET);
      else resolve(error ? failureOf(error) : failed('bad-body', 'the connection was closed without an HTTP answer'));
    };
    request.on('socket', (socket) => {
      const connected = (): void => {
        progress.stage = 'it was connected to and asked';
      };
      if (socket.connecting) socket.once('connect', connected);
      else connected();
    });
    request.on('error', fail);
    // An answer of "101 Switching Protocols" ends without an error or a response.
    request.on('close', () => fail(null));
    request.on('response', (response) => {
      hasResponse = true;
      progress.stage = 'its answer had begun';
      if (isRedirect(response)) {
        const to = printable(String(response.headers.location ?? 'nowhere').replace(/\?.*$/s, '?...'));
        resolve(failed('bad-status', `it answered ${response.statusCode}: redirect to ${to} refused`));
        request.destroy();
        return;
      }
      gather(response, maxBytes).then(resolve, (error) => resolve(failureOf(error)));
    });
    if (sent === null) request.end();
    else request.end(sent);
  });
}

/** The whole answer, bounded. */
async function gather(response: IncomingMessage, maxBytes: number): Promise<HttpAnswer> {
  const encoding = (response.headers['content-encoding'] ?? 'identity').trim().toLowerCase();
  const isGzip = encoding === 'gzip' || encoding === 'x-gzip';
  if (!isGzip && encoding !== 'identity' && encoding !== '') {
    response.destroy();
    return failed('bad-body', `its body comes in the encoding "${printable(encoding)}", which nobody asked for`);
  }
  const bytes = await receive(response, maxBytes);
  if (bytes === null) return failed('bad-body', `its body is larger than ${maxBytes} bytes`);
  const { 'content-length': length, 'transfer-encoding': transfer, date } = response.headers;
  const dateMs = date === undefined ? Number.NaN : Date.parse(date);
  const answered = {
    kind: 'answered',
    status: response.statusCode ?? 0,
    statusText: printable(response.statusMessage ?? ''),
    contentType: response.headers['content-type'],
    dateMs: Number.isFinite(dateMs) ? dateMs : null,
    isComplete: response.complete,
    hasDeclaredEnd: length !== undefined || transfer !== undefined,
  } as const;
  // Half of a compressed body is no body: what is told is that it was cut.
  if (!isGzip || !response.complete) return { ...answered, body: isGzip ? Buffer.alloc(0) : bytes };
  try {
    return { ...answered, body: await gunzipBounded(bytes, { maxOutputLength: maxBytes }) };
  } catch (error) {
    const isTooLarge = codeOf(error) === 'ERR_BUFFER_TOO_LARGE';
    const why = isTooLarge ? `is larger than ${maxBytes} bytes` : `cannot be decompressed (${codeOf(error)})`;
    return failed('bad-body', `its body ${why}`);
  }
}

/** What came until the end or the cut; `null` if it is too much, and then nothing more is taken. */
function receive(response: IncomingMessage, maxBytes: number): Promise<Buffer | null> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    let length = 0;
    let isOver = false;
    // An end is followed by a close: the body is joined once.
    const finish = (): void => {
      if (isOver) return;
      isOver = true;
      resolve(Buffer.concat(chunks, length));
    };
    response.on('data', (chunk: Buffer) => {
      length += chunk.length;
      chunks.push(chunk);
      if (length <= maxBytes) return;
      resolve(null);
      response.destroy();
    });
    response.on('end', finish);
    response.on('error', finish);
    response.on('close', finish);
  });
}

function isRedirect({ statusCode = 0, headers }: IncomingMessage): boolean {
  return [301, 302, 303, 307, 308].includes(statusCode) || (statusCode === 300 && headers.location !== undefined);
}

/** Codes that people meet, in their words. */
const WORDS: Readonly<Record<string, readonly [FailureCause, string]>> = {
  ECONNREFUSED: ['refused', 'the connection was refused'],
  ENOTFOUND: ['failed', 'its name is unknown'],
  EAI_AGAIN: ['failed', 'its name could not be looked up: DNS does not answer'],
  EHOSTUNREACH: ['failed', 'there is no route to it'],
  ENETUNREACH: ['failed', 'there is no route to it'],
  ECONNRESET: ['failed', 'the connection was cut before an answer'],
  EPIPE: ['failed', 'the connection was cut before an answer'],
  ABORT_ERR: ['failed', 'the question was broken off'],
};

function failureOf(error: unknown): HttpFailure {
  const code = codeOf(error);
  const message = error instanceof Error ? printable(error.message) : 'unknown error';
  if (error instanceof AddressRefused) return failed('refused', message);
  const known = WORDS[code];
  if (known) return failed(...known);
  if (code.startsWith('HPE_')) return failed('bad-body', `it does not answer in HTTP (${code})`);
  // Mostly TLS: the message tells which certificate or name is wrong.
  return failed('failed', code === '' || message.includes(code) ? message : `${message} (${code})`);
}

function failed(cause: FailureCause, detail: string): HttpFailure {
  return { kind: 'failed', cause, detail };
}

function codeOf(error: unknown): string {
  return typeof error === 'object' && error !== null && 'code' in error ? String(error.code) : '';
}
