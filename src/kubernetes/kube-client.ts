// Asks one API server over one pool of kept connections, used for nothing else, so that an emergency stop waits for no
// handshake. Thin on purpose: the usual client library opens a connection per call, has no deadline of its own, and
// sends an object as a JSON patch. Here every request has a deadline by our clock, every body a bound, and every
// failure is a value. Nothing is tried again but what could not have arrived, and once with fresh credentials: on the
// stop path each object's retries are its caller's.
import { createSecureContext } from 'node:tls';
import { Agent, request } from 'undici';
import { type Clock, TIMED_OUT, withDeadline } from '../clock.ts';
import { failure, type HttpAnswer, type ListPage, listPageOf, objectOf } from './kube-answer.ts';
import type { KubeAnswer, KubeApi, KubeFailure, KubeList, KubeObject, ListQuery } from './kube-api.ts';
import {
  type ConnectionAnswer,
  type CredentialPlace,
  type KubeConnection,
  loadConnection,
} from './kube-credentials.ts';
import { deedOf, pathFault } from './kube-path.ts';

export type KubeClientAnswer =
  | {
      readonly ok: true;
      readonly api: KubeApi;
      /** The context's or service account's; `null` where neither tells. */
      readonly namespace: string | null;
    }
  | { readonly ok: false; readonly detail: string };

const CONNECTIONS = 16;
/** Over any interval between ticks, under the 90 s after which an API server closes idle connections itself. */
const IDLE_MS = 60_000;
const CONNECT_WITHIN_MS = 3_000;
/** A page of 500 pods has about 5 MB. */
const LARGEST_BODY_BYTES = 64 * 2 ** 20;
const PAGE_SIZE = 500;
/** Half a million objects: a server that goes on giving continue tokens beyond that turns in a circle. */
const MOST_PAGES = 1_000;
/** A continue token lives 5 minutes; one that is gone again and again is no accident. */
const MOST_LIST_RESTARTS = 3;
/** Mounted tokens are replaced long before they end; client-go looks as often. */
const RELOAD_AFTER_MS = 60_000;
/** Between two reloads that refusals ask for: a login plugin is a process of its own. */
const RELOAD_AT_MOST_EVERY_MS = 1_000;
/** The first may have to wait for a login plugin. */
const FIRST_LOAD_WITHIN_MS = 15_000;

/** Certificates that a renewed authority would explain. */
const CERTIFICATE_CODES: ReadonlySet<string> = new Set([
  'CERT_HAS_EXPIRED',
  'CERT_SIGNATURE_FAILURE',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
]);

/**
 * A client for the cluster that `kubeconfig` names, or that this process is a pod of. Asks nothing yet: a server that
 * is down shows at the first request. Never rejects.
 */
export async function createKubeClient(
  options: { readonly clock: Clock } & CredentialPlace,
): Promise<KubeClientAnswer> {
  const { clock, ...place } = options;
  const load = (): Promise<ConnectionAnswer> => loadConnection(place);
  const loaded = await withDeadline(clock, FIRST_LOAD_WITHIN_MS, load());
  if (loaded === TIMED_OUT) {
    return { ok: false, detail: `Cannot read cluster credentials: not there within ${FIRST_LOAD_WITHIN_MS} ms` };
  }
  if (!loaded.ok) return loaded;
  const { connection } = loaded;
  return { ok: true, api: new KubeClient(clock, connection, load), namespace: connection.namespace };
}

interface Ask {
  readonly deed: string;
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** With its query. */
  readonly path: string;
  readonly accept?: string;
  readonly body?: { readonly type: string; readonly value: unknown };
}

/** A connection and the pool made for it; replaced as a whole. */
interface Link {
  readonly connection: KubeConnection;
  readonly agent: Agent;
}

class KubeClient implements KubeApi {
  readonly server: string;
  readonly #clock: Clock;
  readonly #load: () => Promise<ConnectionAnswer>;
  readonly #underWay = new Set<AbortController>();
  #link: Link;
  #loadedAtMs: number;
  #reloading: Promise<void> | undefined;
  #isClosed = false;

  constructor(clock: Clock, connection: KubeConnection, load: () => Promise<ConnectionAnswer>) {
    this.server = connection.server;
    this.#clock = clock;
    this.#load = load;
    this.#link = { connection, agent: agentFor(connection) };
    this.#loadedAtMs = clock.now().elapsedMs;
  }

  list(path: string, query: ListQuery, timeoutMs: number): Promise<KubeAnswer<KubeList>> {
    const deed = deedOf('list', path);
    const selectors = { ...query };
    // An empty selector would list everything where somebody meant to choose.
    const empty = Object.entries(selectors).find(([, selector]) => selector === '');
    const fault = empty ? `its ${empty[0]} is empty` : pathFault(path, 'collection');
    return this.#within(deed, fault, timeoutMs, (signal) => this.#pages(deed, path, selectors, signal));
  }

  get(path: string, timeoutMs: number): Promise<KubeAnswer<KubeObject>> {
    const deed = deedOf('get', path);
    // Newer servers tell all their kinds in these two; others ignore the wish.
    const accept = path === '/api' || path === '/apis' ? DISCOVERY_TYPES : undefined;
    return this.#one({ deed, method: 'GET', path, ...(accept && { accept }) }, pathFault(path, 'any'), timeoutMs);
  }

  create(
    path: string,
    body: unknown,
    timeoutMs: number,
    query: { readonly dryRun?: true } = {},
  ): Promise<KubeAnswer<KubeObject>> {
    const deed = deedOf(query.dryRun ? 'create (dry run)' : 'create', path);
    const target = query.dryRun ? `${path}?dryRun=All` : path;
    const sent = { type: 'application/json', value: body };
    return this.#one({ deed, method: 'POST', path: target, body: sent }, pathFault(path, 'collection'), timeoutMs);
  }

  patch(path: string, body: unknown, timeoutMs: number): Promise<KubeAnswer<KubeObject>> {
    const type = Array.isArray(body) ? 'application/json-patch+json' : 'application/merge-patch+json';
    const ask: Ask = { deed: deedOf('patch', path), method: 'PATCH', path, body: { type, value: body } };
    return this.#one(ask, pathFault(path, 'object'), timeoutMs);
  }

  replace(path: string, body: KubeObject, timeoutMs: number): Promise<KubeAnswer<KubeObject>> {
    const sent = { type: 'application/json', value: body };
    const ask: Ask = { deed: deedOf('replace', path), method: 'PUT', path, body: sent };
    return this.#one(ask, pathFault(path, 'object'), timeoutMs);
  }

  remove(
    path: string,
    { graceSeconds, uid }: { readonly graceSeconds: number; readonly uid: string },
    timeoutMs: number,
  ): Promise<KubeAnswer<KubeObject>> {
    const value = {
      apiVersion: 'v1',
      kind: 'DeleteOptions',
      gracePeriodSeconds: graceSeconds,
      preconditions: { uid },
    };
    const fault = uid === '' ? 'its uid is not known' : pathFault(path, 'object');
    const ask: Ask = {
      deed: deedOf('delete', path),
      method: 'DELETE',
      path,
      body: { type: 'application/json', value },
    };
    return this.#one(ask, fault, timeoutMs);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    for (const abort of this.#underWay) abort.abort(CLOSED);
    await this.#link.agent.destroy();
  }

  async #one(ask: Ask, fault: string | null, timeoutMs: number): Promise<KubeAnswer<KubeObject>> {
    return this.#within(ask.deed, fault, timeoutMs, async (signal) => {
      const answer = await this.#exchange(ask, signal);
      return 'ok' in answer ? answer : objectOf(ask.deed, answer);
    });
  }

  async #pages(
    deed: string,
    path: string,
    selectors: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<KubeAnswer<KubeList>> {
    let items: KubeObject[] = [];
    let token = '';
    let restarts = 0;
    for (let pages = 0; pages < MOST_PAGES; pages++) {
      const query = new URLSearchParams({ ...selectors, limit: `${PAGE_SIZE}` });
      if (token !== '') query.set('continue', token);
      const answer = await this.#exchange({ deed, method: 'GET', path: `${path}?${query}` }, signal);
      const page: KubeAnswer<ListPage> = 'ok' in answer ? answer : listPageOf(deed, answer);
      if (!page.ok) {
        if (page.kind !== 'gone' || token === '' || restarts === MOST_LIST_RESTARTS) return page;
        // What was listed is a picture that the server no longer has: from the start, or pods would be missing.
        restarts += 1;
        items = [];
        token = '';
        continue;
      }
      for (const item of page.value.items) items.push(item);
      token = page.value.continueToken;
      if (token === '') return { ok: true, value: { items, resourceVersion: page.value.resourceVersion } };
    }
    return failure(deed, 'bad-body', `its list goes on after ${MOST_PAGES} pages`, 200);
  }

  /** Runs `work` unless there is a `fault`; gives a failure when time is up, and breaks the work off. */
  async #within<T>(
    deed: string,
    fault: string | null,
    timeoutMs: number,
    work: (signal: AbortSignal) => Promise<KubeAnswer<T>>,
  ): Promise<KubeAnswer<T>> {
    if (fault !== null) return failure(deed, 'refused', fault);
    if (this.#isClosed) return failure(deed, 'unreachable', CLOSED);
    const abort = new AbortController();
    this.#underWay.add(abort);
    try {
      const answer = await withDeadline(this.#clock, timeoutMs, work(abort.signal));
      if (answer !== TIMED_OUT) return answer;
      return failure(deed, 'timeout', `no answer from ${this.server} within ${Math.round(timeoutMs)} ms`);
    } catch (error) {
      return this.#isClosed ? failure(deed, 'unreachable', CLOSED) : this.#unreachable(deed, error);
    } finally {
      this.#underWay.delete(abort);
      abort.abort(TIMED_OUT);
    }
  }

  #unreachable(deed: string, error: unknown): KubeFailure {
    return failure(deed, 'unreachable', `${this.server} cannot be reached: ${messageOf(error)}`);
  }

  /** The answer whatever its status, with fresh credentials where the first ones were refused. */
  async #exchange(ask: Ask, signal: AbortSignal): Promise<HttpAnswer | KubeFailure> {
    if (this.#clock.now().elapsedMs - this.#loadedAtMs >= RELOAD_AFTER_MS) void this.#reload();
    const link = this.#link;
    try {
      const answer = await this.#send(link, ask, signal);
      if ('ok' in answer || answer.status !== 401 || !(await this.#hasFresh(link))) return answer;
    } catch (error) {
      if (!CERTIFICATE_CODES.has(codeOf(error)) || !(await this.#hasFresh(link))) throw error;
    }
    return this.#send(this.#link, ask, signal);
  }

  /** Whether there are other credentials than `used` now. */
  async #hasFresh(used: Link): Promise<boolean> {
    const sinceMs = this.#clock.now().elapsedMs - this.#loadedAtMs;
    if (this.#link === used && (this.#reloading || sinceMs >= RELOAD_AT_MOST_EVERY_MS)) await this.#reload();
    return this.#link !== used;
  }

  async #send(link: Link, ask: Ask, signal: AbortSignal): Promise<HttpAnswer | KubeFailure> {
    try {
      return await this.#sendOnce(link, ask, signal);
    } catch (error) {
      // A kept connection that the server had closed just then. Creating is left to the caller: it may have arrived.
      const wasCut = ['UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE'].includes(codeOf(error));
      if (ask.method === 'POST' || !wasCut || signal.aborted) throw error;
      return this.#sendOnce(link, ask, signal);
    }
  }

  /** Rejects only while no answer has begun. */
  async #sendOnce({ connection, agent }: Link, ask: Ask, signal: AbortSignal): Promise<HttpAnswer | KubeFailure> {
    const answer = await request(`${connection.server}${ask.path}`, {
      method: ask.method,
      dispatcher: agent,
      signal,
      // A DELETE with a body would close its connection: a stop of hundreds of pods would be one of handshakes.
      reset: false,
      headers: {
        ...connection.headers,
        accept: ask.accept ?? 'application/json',
        'user-agent': 'vsf-safety',
        ...(ask.body && { 'content-type': ask.body.type }),
      },
      body: ask.body ? JSON.stringify(ask.body.value) : null,
    });
    const { statusCode: status, headers } = answer;
    try {
      return {
        status,
        contentType: one(headers['content-type']) ?? '',
        retryAfter: one(headers['retry-after']),
        text: await answer.body.text(),
      };
    } catch (error) {
      const isTooLarge = codeOf(error) === 'UND_ERR_RES_EXCEEDED_MAX_SIZE';
      const why = isTooLarge ? `is larger than ${LARGEST_BODY_BYTES} bytes` : `was cut (${messageOf(error)})`;
      return failure(ask.deed, 'bad-body', `the body of its answer ${status} ${why}`, status);
    }
  }

  /** Loads everything anew, once for all who ask meanwhile; what cannot be loaded leaves the old in use. */
  #reload(): Promise<void> {
    this.#reloading ??= this.#loadAnew().finally(() => {
      this.#reloading = undefined;
    });
    return this.#reloading;
  }

  async #loadAnew(): Promise<void> {
    const loaded = await this.#load();
    this.#loadedAtMs = this.#clock.now().elapsedMs;
    const { connection, agent } = this.#link;
    if (!loaded.ok || this.#isClosed || isSame(loaded.connection, connection)) return;
    // Another cluster is another client: what was found in the one is not in the other.
    if (loaded.connection.server !== this.server) return;
    const hasSameTls = isSame(loaded.connection.tls, connection.tls);
    this.#link = { connection: loaded.connection, agent: hasSameTls ? agent : agentFor(loaded.connection) };
    if (hasSameTls) return;
    // What is under way ends on the old connections.
    agent.close().catch(() => undefined);
  }
}

const CLOSED = 'the client is closed';

const DISCOVERY_TYPES = [
  'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList',
  'application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList',
  'application/json',
].join(',');

function agentFor({ tls }: KubeConnection): Agent {
  const { ca, cert, key, ...rest } = tls;
  // Made once: with a server that is away each of many tries would read the certificates anew, at a millisecond and some
  // hundred kilobytes each.
  const secureContext = createSecureContext({
    ...(ca !== undefined && { ca }),
    ...(cert !== undefined && { cert }),
    ...(key !== undefined && { key }),
  });
  return new Agent({
    connections: CONNECTIONS,
    keepAliveTimeout: IDLE_MS,
    keepAliveMaxTimeout: IDLE_MS,
    // Ours are exact; undici's are looked at once a second.
    headersTimeout: 0,
    bodyTimeout: 0,
    maxResponseSize: LARGEST_BODY_BYTES,
    connect: { ...rest, secureContext, timeout: CONNECT_WITHIN_MS, keepAlive: true, keepAliveInitialDelay: 15_000 },
  });
}

const isSame = (one: object, other: object): boolean => JSON.stringify(one) === JSON.stringify(other);

const one = (header: string | string[] | undefined): string | null =>
  (Array.isArray(header) ? header[0] : header) ?? null;

/** Of the error, of its cause, or of the first of several: a name with two addresses fails twice. */
function codeOf(error: unknown): string {
  if (typeof error !== 'object' || error === null) return '';
  if ('code' in error && typeof error.code === 'string') return error.code;
  if (error instanceof AggregateError) return codeOf(error.errors[0]);
  return 'cause' in error ? codeOf(error.cause) : '';
}

function messageOf(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return message || codeOf(error) || 'unknown error';
}
