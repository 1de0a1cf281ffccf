// A service over the network: address, token, and a deadline over the whole of every exchange. Each exchange has a
// connection of its own: one that hangs in a cut network takes none of the next with it, and where several replicas
// stand behind one address, the next may reach another. No proxy is used and no redirect followed: nothing of this
// service redirects, and whoever does must not get the token.
import { open, readFile } from 'node:fs/promises';
import { type IncomingMessage, request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import { type Clock, TIMED_OUT, withDeadline } from '../clock.ts';
import { answerOf, type SafetyService, type ServiceAnswer, type ServiceRequest } from './safety-service.ts';

const DEFAULT_URL = 'http://127.0.0.1:8470';
/** The status of 5000 nodes stays below it; what is larger is not from this service. */
const LARGEST_ANSWER_BYTES = 64 * 1024 * 1024;
const LARGEST_TOKEN_FILE_BYTES = 4096;
/** What fits into a header; anything else cannot be a token of this service. */
const TOKEN = /^[\x21-\x7e]+$/;

/** Where the service is, and who is calling. */
export interface ServiceOptions {
  readonly embedded?: false | undefined;
  /** `http://` or `https://`; default `VSF_SAFETY_URL`, else `http://127.0.0.1:8470`. */
  readonly url?: string | undefined;
  /** Bearer token of a `workload`; default `VSF_SAFETY_TOKEN`. Not needed on the service's own machine. */
  readonly token?: string | undefined;
  /** PEM of the authorities that the service's certificate is trusted by, instead of the usual ones; default `VSF_SAFETY_CA_FILE`. */
  readonly caFile?: string | undefined;
  /** A file that holds it, read anew for each request: a cluster replaces the tokens that it mounts. */
  readonly tokenFile?: string | undefined;
}

export class HttpService implements SafetyService {
  readonly place: string;
  readonly #clock: Clock;
  readonly #token: string | null;
  readonly #tokenFile: string | null;
  readonly #caFile: string | null;

  /** `env` is what stands in for options that are left out. Throws a `TypeError` for what can be no address or token. */
  constructor(options: ServiceOptions, env: Readonly<Record<string, string | undefined>>, clock: Clock) {
    this.place = addressOf(options.url ?? (env['VSF_SAFETY_URL'] || DEFAULT_URL));
    this.#clock = clock;
    this.#caFile = options.caFile ?? (env['VSF_SAFETY_CA_FILE'] || null);
    this.#tokenFile = options.token === undefined ? (options.tokenFile ?? null) : null;
    const inEnvironment = options.tokenFile === undefined ? env['VSF_SAFETY_TOKEN']?.trim() || null : null;
    this.#token = options.token ?? inEnvironment;
    if (this.#token !== null && !TOKEN.test(this.#token)) {
      throw new TypeError('Cannot use the token for the safety service: it must be visible ASCII in one line');
    }
  }

  get hasToken(): boolean {
    return this.#token !== null || this.#tokenFile !== null;
  }

  async ask(request: ServiceRequest): Promise<ServiceAnswer> {
    const { timeoutMs } = request;
    const over = new AbortController();
    try {
      const answer = await withDeadline(this.#clock, timeoutMs, this.#exchange(request, over.signal));
      if (answer !== TIMED_OUT) return answer;
      return this.#unreachable(`no answer within ${Number((timeoutMs / 1000).toPrecision(3))} s`);
    } catch (error) {
      return this.#unreachable(networkErrorText(error));
    } finally {
      // With a reason of its own no error is made.
      over.abort(TIMED_OUT);
    }
  }

  /** Over the network nothing hints; the renewals are frequent enough. */
  onChange(): () => void {
    return () => undefined;
  }

  async close(): Promise<void> {}

  #unreachable(why: string): ServiceAnswer {
    return { kind: 'unreachable', detail: `Cannot reach ${this.place}: ${why}` };
  }

  async #exchange({ method, path, body, asNobody }: ServiceRequest, signal: AbortSignal): Promise<ServiceAnswer> {
    const token = asNobody ? null : await this.#readToken();
    const payload = body === undefined ? null : JSON.stringify(body);
    const headers = {
      accept: 'application/json',
      connection: 'close',
      ...(payload !== null && { 'content-type': 'application/json', 'content-length': Buffer.byteLength(payload) }),
      ...(token !== null && { authorization: `Bearer ${token}` }),
    };
    const isTls = this.place.startsWith('https:');
    const send = isTls ? requestHttps : requestHttp;
    // Read anew each time, as tokens are: an authority is replaced under a run that lasts for weeks.
    const ca = isTls && this.#caFile !== null ? await readFile(this.#caFile) : null;
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const outgoing = send(this.place + path, { method, headers, signal, agent: false, ...(ca && { ca }) }, resolve);
      outgoing.on('error', reject);
      outgoing.end(payload ?? undefined);
    });
    const text = await readText(response);
    return answerOf(response.statusCode ?? 0, response.headers['retry-after'], text);
  }

  async #readToken(): Promise<string | null> {
    if (this.#tokenFile === null) return this.#token;
    const file = await open(this.#tokenFile);
    try {
      const { bytesRead, buffer } = await file.read({ buffer: Buffer.alloc(LARGEST_TOKEN_FILE_BYTES) });
      const token = buffer.toString('utf8', 0, bytesRead).trim();
      if (TOKEN.test(token)) return token;
    } finally {
      await file.close();
    }
    throw new Error(`the token file ${this.#tokenFile} holds no token: one line of visible ASCII is expected`);
  }
}

function addressOf(told: string): string {
  const {
    protocol = '',
    username = '',
    password = '',
    search = '',
    hash = '',
  } = URL.canParse(told) ? new URL(told) : {};
  if (!/^https?:$/.test(protocol) || search !== '' || hash !== '') {
    const rule = 'it must be an http:// or https:// address';
    throw new TypeError(`Cannot use ${JSON.stringify(told)} as the safety service's address: ${rule}`);
  }
  if (username !== '' || password !== '') {
    const rule = 'it must carry no user and password; a token is given by token or tokenFile';
    throw new TypeError(`Cannot use this address for the safety service: ${rule}`);
  }
  return told.replace(/\/+$/, '');
}

/** Bounded, whatever is on the other end. */
async function readText(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > LARGEST_ANSWER_BYTES) throw new Error(`the answer is larger than ${LARGEST_ANSWER_BYTES} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** What TLS says of an authority that is not known. */
const UNTRUSTED = 'its certificate is not trusted here: name its authority with VSF_SAFETY_CA_FILE=ca.pem';
export const NETWORK_ERRORS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused, nothing listens there. Is the service running? (vsf-safety serve)',
  ENOTFOUND: 'no such host',
  EAI_AGAIN: 'the host name cannot be looked up',
  ECONNRESET: 'the connection was cut',
  EHOSTUNREACH: 'no route to that host',
  SELF_SIGNED_CERT_IN_CHAIN: UNTRUSTED,
  DEPTH_ZERO_SELF_SIGNED_CERT: UNTRUSTED,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: UNTRUSTED,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: UNTRUSTED,
};

/** Where a name has several addresses, the error is one of several errors, and has the code of them all. */
function networkErrorText(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  return NETWORK_ERRORS[code ?? ''] ?? (message || code || String(error));
}
