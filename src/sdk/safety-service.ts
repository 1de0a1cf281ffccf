// The one thing that the SDK asks: a service of VSF Safety, over the network (http-service.ts) or in this process
// (embedded.ts). Both speak the same requests and answers, so that nothing above knows which it is. Not getting an
// answer is a value here; a refusal of the request itself becomes an error where somebody must be told of a mistake.
import { isObject } from './verdict.ts';

export interface ServiceRequest {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  readonly path: string;
  readonly body?: unknown;
  /** The whole exchange is over by then. */
  readonly timeoutMs: number;
  /** Asks as a caller without a token, which on the service's own machine may start and stop workloads. */
  readonly asNobody?: boolean;
}

export type ServiceAnswer =
  | {
      readonly kind: 'answered';
      readonly status: number;
      /** A JSON object; empty where there was no body. */
      readonly body: Readonly<Record<string, unknown>>;
      readonly retryAfterSeconds: number | null;
    }
  | { readonly kind: 'unreachable'; readonly detail: string };

export interface SafetyService {
  /** For messages: its address, or what it is. */
  readonly place: string;
  readonly hasToken: boolean;
  /** Never throws. Any status is an answer. */
  ask(request: ServiceRequest): Promise<ServiceAnswer>;
  /**
   * Calls `listener` when a lease may have to be told something new, so that it need not wait for its next renewal.
   * Only a hint: where none ever comes, the renewals bring the same. The returned function ends it.
   */
  onChange(listener: () => void): () => void;
  close(): Promise<void>;
}

/** The error's codes where there is no answer, and where what answers is not VSF Safety. */
const UNREACHABLE = 'service-unreachable';
export const NOT_THE_SERVICE = 'not-the-service';

/**
 * The service refused the request itself, or could not be asked. `code` is stable: a problem's (`unknown-node`,
 * `constraints-invalid`, `token-required` …), `service-unreachable`, `not-the-service`, or `embedded-refused`.
 *
 * @example
 * import { HardwareSafetyMonitor, SafetyServiceError } from 'vsf-safety';
 *
 * try {
 *   await new HardwareSafetyMonitor({ nodes: ['no-such-node'] }).preFlightCheck();
 * } catch (error) {
 *   if (!(error instanceof SafetyServiceError)) throw error;
 *   console.log(error.code, error.status, error.message); // unknown-node 400 Cannot judge a preflight: …
 * }
 */
export class SafetyServiceError extends Error {
  override readonly name = 'SafetyServiceError';
  readonly code: string;
  /** HTTP status; 0 where there was no answer. */
  readonly status: number;
  readonly retryAfterSeconds: number | null;

  constructor(code: string, detail: string, status = 0, retryAfterSeconds: number | null = null) {
    super(detail);
    this.code = code;
    this.status = status;
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

/** An answer that is not what was hoped for, as an error. */
export function errorOf(answer: ServiceAnswer): SafetyServiceError {
  if (answer.kind === 'unreachable') return new SafetyServiceError(UNREACHABLE, answer.detail);
  const { status, body, retryAfterSeconds } = answer;
  const { code, detail } = body;
  if (typeof code !== 'string' || typeof detail !== 'string') return notTheService(status, 'no problem details');
  return new SafetyServiceError(code, detail, status, retryAfterSeconds);
}

/** For answers that no VSF Safety gives. */
export function notTheService(status: number, what: string): SafetyServiceError {
  return new SafetyServiceError(
    NOT_THE_SERVICE,
    `The answer (status ${status}) is not one of VSF Safety: ${what}`,
    status,
  );
}

/** An answer out of what was received; text that is no JSON object answers nothing. */
export function answerOf(status: number, retryAfter: string | undefined, text: string): ServiceAnswer {
  let body: unknown = {};
  try {
    if (text !== '') body = JSON.parse(text);
  } catch {
    body = null;
  }
  if (!isObject(body)) return { kind: 'answered', status, body: {}, retryAfterSeconds: null };
  const seconds = /^\d{1,6}$/.test(retryAfter ?? '') ? Number(retryAfter) : null;
  return { kind: 'answered', status, body, retryAfterSeconds: seconds };
}
