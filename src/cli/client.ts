// How client commands reach the service: which address, which token, how long they wait, and what they say when it does
// not answer. An answer that is a problem (RFC 9457) becomes the message of the command.
import { readFile, stat } from 'node:fs/promises';
import { TIMED_OUT, withDeadline } from '../clock.ts';
import { defaultStateDir, isLoopbackHost } from '../config.ts';
import { NETWORK_ERRORS } from '../sdk/http-service.ts';
import { readOperatorToken } from '../state-folder.ts';
import { CommandFailed, EXIT, type Io } from './io.ts';

export const DEFAULT_URL = 'http://127.0.0.1:8470';
export const REQUEST_TIMEOUT_MS = 10_000;
/** The status of 5000 nodes stays below it; what is larger is not from this service. */
const LARGEST_ANSWER_BYTES = 64 * 1024 * 1024;
const LARGEST_TOKEN_FILE_BYTES = 4096;
/** What fits into a header; anything else cannot be a token of this service. */
const TOKEN = /^[\x21-\x7e]+$/;

/** What every client command takes beside its own options. */
export const CLIENT_OPTIONS = {
  url: { type: 'string' },
  'token-file': { type: 'string' },
  json: { type: 'boolean' },
} as const;

export const CLIENT_HELP = `\
  --url URL          where the service listens (default ${DEFAULT_URL})
  --token-file FILE  holds the bearer token
  --json             print the service's answer as JSON

Environment:
  VSF_SAFETY_URL     as --url
  VSF_SAFETY_TOKEN   the bearer token itself
  VSF_SAFETY_CA_FILE certificates to trust for https, PEM, instead of the usual ones
  Without a token, the operator's is taken from the state folder of this machine
  (VSF_SAFETY_STATE_DIR, else ~/.local/state/vsf-safety) where the service asks for one.`;

export interface ClientValues {
  readonly url?: string | undefined;
  readonly 'token-file'?: string | undefined;
}

export interface ServiceAnswer {
  readonly status: number;
  readonly body: unknown;
}

export interface ServiceRequest {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  readonly body?: unknown;
  /** An operator's deed brings the operator's token at once; others only when they are asked for one. */
  readonly needs: 'anybody' | 'operator';
  /** Statuses that the command itself deals with; every other one ends it with the problem's detail. */
  readonly expects: readonly number[];
  readonly timeoutMs?: number;
}

/** A connection to one service, with one way to say who is calling. */
export class ServiceClient {
  readonly url: string;
  readonly #io: Io;
  readonly #token: string | null;

  private constructor(url: string, token: string | null, io: Io) {
    this.url = url;
    this.#token = token;
    this.#io = io;
  }

  /** From the options and the environment; exit code 2 for an address that is none. */
  static async from(values: ClientValues, io: Io): Promise<ServiceClient> {
    const told = values.url ?? io.env['VSF_SAFETY_URL'] ?? DEFAULT_URL;
    const where = values.url === undefined ? 'VSF_SAFETY_URL' : '--url';
    const { protocol = '', username = '', password = '' } = URL.canParse(told) ? new URL(told) : {};
    if (username !== '' || password !== '') {
      throw new CommandFailed(`${where} must carry no user and password; a token is given by --token-file`, EXIT.usage);
    }
    if (!/^https?:$/.test(protocol)) {
      const rule = 'must be an http:// or https:// address';
      throw new CommandFailed(`${where} is ${JSON.stringify(told)}: ${rule}`, EXIT.usage);
    }
    const file = values['token-file'];
    const inEnvironment = io.env['VSF_SAFETY_TOKEN']?.trim() ?? '';
    const token = file === undefined ? inEnvironment : await readTokenFile(file);
    return new ServiceClient(told.replace(/\/+$/, ''), TOKEN.test(token) ? token : null, io);
  }

  /**
   * Asks, and where the service does not know the token (401), or does not let its bearer do this (403), asks again as
   * somebody else who may: neither a wrong token in the environment nor a place where everybody may only read must keep
   * anybody from stopping.
   */
  async ask(request: ServiceRequest): Promise<ServiceAnswer> {
    let answer: ServiceAnswer | null = null;
    const tried = new Set<string | null>();
    for (const token of this.#tokensFor(request)) {
      const next = await token();
      if (tried.has(next)) continue;
      tried.add(next);
      answer = await this.#send(request, next);
      if ((answer.status !== 401 && answer.status !== 403) || request.expects.includes(answer.status)) break;
    }
    if (!answer || answer.body === null || !request.expects.includes(answer.status)) throw this.#refusal(answer);
    return answer;
  }

  /** What an operator's deed is done with: the token that was given, else the one of this machine's state folder. */
  async operatorToken(): Promise<string | null> {
    return this.#token ?? (await this.#findOperatorToken());
  }

  /** Where the events are told, and who asks for them: as an operator. */
  async streamRequest(): Promise<{ readonly url: string; readonly headers: Readonly<Record<string, string>> }> {
    const token = await this.operatorToken();
    return {
      url: `${this.url.replace(/^http/, 'ws')}/ws`,
      headers: token === null ? {} : { authorization: `Bearer ${token}` },
    };
  }

  #tokensFor({ needs }: ServiceRequest): readonly (() => Promise<string | null>)[] {
    const given = this.#token === null ? null : async () => this.#token;
    const found = () => this.#findOperatorToken();
    if (needs === 'operator') return [given ?? found];
    return [...(given ? [given] : []), async () => null, found];
  }

  /** Only for a service on this machine: the token must not go to whoever an address leads to. */
  async #findOperatorToken(): Promise<string | null> {
    if (!isLoopbackHost(new URL(this.url).hostname)) return null;
    const found = await readOperatorToken(this.#stateDir);
    if (found.kind === 'refused') throw new CommandFailed(found.detail);
    return found.kind === 'found' ? found.token : null;
  }

  get #stateDir(): string {
    return this.#io.env['VSF_SAFETY_STATE_DIR'] || defaultStateDir(this.#io.env, this.#io.homeDir);
  }

  async #send(request: ServiceRequest, token: string | null): Promise<ServiceAnswer> {
    const { method, path, body, timeoutMs = REQUEST_TIMEOUT_MS } = request;
    const abort = new AbortController();
    const exchange = async (): Promise<ServiceAnswer> => {
      const response = await this.#io.fetch(this.url + path, {
        method,
        headers: {
          accept: 'application/json',
          ...(body !== undefined && { 'content-type': 'application/json' }),
          ...(token !== null && { authorization: `Bearer ${token}` }),
        },
        ...(body !== undefined && { body: JSON.stringify(body) }),
        // Nothing of this service redirects; whoever does must not get the token.
        redirect: 'manual',
        signal: abort.signal,
      });
      return { status: response.status, body: await readJson(response) };
    };
    try {
      const answer = await withDeadline(this.#io.clock, timeoutMs, exchange());
      if (answer !== TIMED_OUT) return answer;
      throw new CommandFailed(`Cannot reach ${this.url}: no answer within ${timeoutMs / 1000} s`);
    } catch (error) {
      if (error instanceof CommandFailed) throw error;
      throw new CommandFailed(`Cannot reach ${this.url}: ${networkErrorText(error)}`);
    } finally {
      abort.abort();
    }
  }

  #refusal(answer: ServiceAnswer | null): CommandFailed {
    const { status, body } = answer ?? { status: 0, body: null };
    const { detail } = (body ?? {}) as { readonly detail?: unknown };
    if (typeof detail !== 'string') {
      const what = `${this.url} answered with status ${status} and nothing that vsf-safety would say`;
      return new CommandFailed(`${what}; is it another service?`);
    }
    if (status !== 401 && status !== 403) return new CommandFailed(detail);
    const hint =
      this.#token === null
        ? `no token was given, and none was found in ${this.#stateDir}: name it with --token-file or VSF_SAFETY_TOKEN`
        : 'another token may be needed: --token-file or VSF_SAFETY_TOKEN';
    return new CommandFailed(`${detail} (${hint})`);
  }
}

async function readTokenFile(path: string): Promise<string> {
  try {
    const { size } = await stat(path);
    const token = size > LARGEST_TOKEN_FILE_BYTES ? '' : (await readFile(path, 'utf8')).trim();
    if (TOKEN.test(token)) return token;
  } catch (error) {
    throw new CommandFailed(
      `Cannot read --token-file ${path}: ${(error as NodeJS.ErrnoException).code ?? String(error)}`,
    );
  }
  throw new CommandFailed(`--token-file ${path} holds no token: one line of visible ASCII is expected`);
}

/** The body as JSON; `null` where it is none. Bounded, whatever is on the other end. */
async function readJson(response: Response): Promise<unknown> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += chunk.length;
    if (bytes > LARGEST_ANSWER_BYTES) throw new Error(`the answer is larger than ${LARGEST_ANSWER_BYTES} bytes`);
    chunks.push(chunk);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8'));
  } catch {
    return null;
  }
}

const MORE_NETWORK_ERRORS: Readonly<Record<string, string>> = {
  ...NETWORK_ERRORS,
  ENOTFOUND: 'no such host',
  EAI_AGAIN: 'the host name cannot be looked up',
  UND_ERR_SOCKET: 'the connection was cut',
};

/** fetch says "fetch failed"; what failed is its cause, or the causes of each address that was tried. */
function networkErrorText(error: unknown): string {
  const { cause } = error as {
    readonly cause?: {
      readonly code?: string;
      readonly message?: string;
      readonly errors?: readonly { code?: string }[];
    };
  };
  const code = cause?.code ?? cause?.errors?.[0]?.code;
  return (
    (code && MORE_NETWORK_ERRORS[code]) ?? cause?.message ?? (error instanceof Error ? error.message : String(error))
  );
}
