// Everything that goes wrong with a request, as RFC 9457 problem details with a code that never changes. One table gives
// each code its status and title; a message names deed, value and limit. What is wrong inside is never told outside.
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import { noteForAudit } from './audit-notes.ts';

/** Every code there is, with its HTTP status and what it means in general. */
export const PROBLEMS = {
  'invalid-request': { status: 400, title: 'The request is not as documented' },
  'body-unreadable': { status: 400, title: 'The body cannot be read as JSON' },
  'constraints-invalid': { status: 400, title: 'The constraints are no usable limits' },
  'unknown-node': { status: 400, title: 'No node of that name is known' },
  'unknown-gpu': { status: 400, title: 'No GPU of that name is known' },
  'simulation-invalid': { status: 400, title: 'The simulated rig cannot be changed like that' },
  'process-group-not-local': {
    status: 400,
    title: 'Process groups are taken only where this service listens on loopback',
  },
  'process-group-needs-id': { status: 400, title: 'A process group needs the id that its leader is marked with' },
  'process-group-invalid': { status: 400, title: 'That number is never a workload’s process group' },
  'process-group-own': { status: 400, title: 'That is the process group of this service' },
  'process-group-not-there': { status: 400, title: 'The leader of the process group does not run' },
  'process-group-not-leader': { status: 400, title: 'The process leads no group' },
  'process-group-unmarked': { status: 400, title: 'The leader does not bear the mark of this lease' },
  'process-group-unreadable': { status: 400, title: 'The process group cannot be looked at' },
  'token-required': { status: 401, title: 'A bearer token is needed' },
  'token-invalid': { status: 401, title: 'The bearer token is not known' },
  'role-insufficient': { status: 403, title: 'The role does not suffice' },
  'host-refused': { status: 403, title: 'The Host header names no host of this service' },
  'origin-refused': { status: 403, title: 'The Origin is not this service' },
  'lease-forbidden': { status: 403, title: 'The lease belongs to another identity' },
  'not-found': { status: 404, title: 'There is no such resource' },
  'lease-unknown': { status: 404, title: 'Nobody knows this lease' },
  'request-timeout': { status: 408, title: 'The request took too long to arrive' },
  'reset-refused': { status: 409, title: 'Something is still wrong, so the interlock stays tripped' },
  'trip-unknown': { status: 409, title: 'No trip of that id is active' },
  'forget-refused': { status: 409, title: 'What is still there cannot be forgotten' },
  'restore-refused': { status: 409, title: 'Nothing may be given back now' },
  'no-cluster': { status: 409, title: 'This service stops no cluster' },
  'not-simulated': { status: 409, title: 'This service watches real hardware' },
  'lease-ended': { status: 410, title: 'The lease is over' },
  'body-too-large': { status: 413, title: 'The body is too large' },
  'uri-too-long': { status: 414, title: 'A part of the address is too long' },
  'unsupported-media-type': { status: 415, title: 'The body must be application/json' },
  'upgrade-required': { status: 426, title: 'This address speaks WebSocket' },
  'headers-too-large': { status: 431, title: 'The headers are too large' },
  'internal-error': { status: 500, title: 'This service made a mistake' },
  'auth-unavailable': { status: 503, title: 'Nobody can say now whose token this is' },
  'evaluation-too-old': { status: 503, title: 'The last evaluation is too old to renew by' },
  'commission-not-kept': { status: 503, title: 'The report cannot be kept' },
  'history-unavailable': { status: 503, title: 'The history cannot be read now, or none is kept' },
  'journal-unavailable': { status: 503, title: 'The journal cannot be written' },
  'not-leader': { status: 503, title: 'Another process of the cluster leads' },
  'state-unknown': { status: 503, title: 'What the cluster’s record says is not known' },
  'latch-not-written': { status: 503, title: 'The cluster’s record could not be written' },
  'lease-limit': { status: 503, title: 'No more leases can be held' },
  'too-many-clients': { status: 503, title: 'No more WebSocket clients can be served' },
  'too-busy': { status: 503, title: 'Too many questions are being answered' },
  stalled: { status: 503, title: 'The monitor has stalled' },
  'not-ready': { status: 503, title: 'This service is not ready to protect' },
} as const;

export type ProblemCode = keyof typeof PROBLEMS;
export const PROBLEM_CODES = Object.keys(PROBLEMS) as ProblemCode[];
export const PROBLEM_TYPE = 'application/problem+json; charset=utf-8';

/** Fields that a problem carries beside the standard ones: `still`, `outcome`, `nodes` … */
export type ProblemFields = Readonly<Record<string, unknown>>;

/** Thrown by routes and hooks; becomes the answer. */
export class Problem extends Error {
  override readonly name = 'Problem';
  readonly code: ProblemCode;
  readonly fields: ProblemFields;
  /** Sent as Retry-After, in whole seconds. */
  readonly retryAfterSeconds: number | null;

  constructor(code: ProblemCode, detail: string, fields: ProblemFields = {}, retryAfterSeconds: number | null = null) {
    super(detail);
    this.code = code;
    this.fields = fields;
    this.retryAfterSeconds = retryAfterSeconds;
  }

  get status(): number {
    return PROBLEMS[this.code].status;
  }

  /** The body of the answer. */
  toJSON(): Record<string, unknown> {
    const { status, title } = PROBLEMS[this.code];
    return {
      type: `urn:vsf-safety:problem:${this.code}`,
      title,
      status,
      detail: this.message,
      code: this.code,
      ...this.fields,
    };
  }
}

/** Sends a problem as the answer. */
export function sendProblem(reply: FastifyReply, problem: Problem): FastifyReply {
  noteForAudit(reply.request, { code: problem.code, detail: problem.message });
  if (problem.status === 401) reply.header('www-authenticate', 'Bearer');
  if (problem.status === 426) reply.header('upgrade', 'websocket');
  // Over the same connection the next try would reach the same process again.
  if (isElsewhere(problem.code)) reply.header('connection', 'close');
  if (problem.retryAfterSeconds !== null) reply.header('retry-after', String(wholeSeconds(problem.retryAfterSeconds)));
  return reply.code(problem.status).type(PROBLEM_TYPE).send(JSON.stringify(problem));
}

/** Another process of the cluster may know better. */
const isElsewhere = (code: ProblemCode): boolean => code === 'not-leader' || code === 'state-unknown';

/** Retry-After is whole seconds, and 0 would be a busy loop. */
export function wholeSeconds(seconds: number): number {
  return Math.max(1, Math.ceil(seconds));
}

/** Fastify's error handler: what a route threw, or what Fastify itself found wrong with the request. */
export function answerError(error: FastifyError | Problem, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const problem = error instanceof Problem ? error : problemOf(error, request);
  if (problem.code === 'internal-error') {
    request.log.error(
      { err: error },
      `Cannot answer ${request.method} ${request.routeOptions.url ?? 'an unknown route'}`,
    );
  }
  return sendProblem(reply, problem);
}

/** A problem for an error that is not one of ours. */
export function problemOf(error: FastifyError, request?: FastifyRequest): Problem {
  const deed = request ? `${request.method} ${request.routeOptions.url ?? 'this address'}` : 'the request';
  if (error.validation) return new Problem('invalid-request', `Cannot take ${deed}: ${describeInvalid(error)}`);
  const { statusCode } = error;
  if (statusCode === 400) return new Problem('body-unreadable', `Cannot read the body of ${deed}: ${error.message}`);
  if (statusCode === 413) return new Problem('body-too-large', `Cannot take ${deed}: the body must be at most 1 MiB`);
  if (statusCode === 414) {
    return new Problem('uri-too-long', `Cannot take ${deed}: a part of the path must be at most 500 characters`);
  }
  if (statusCode === 415) {
    const type = shown(request?.headers['content-type'] ?? '');
    return new Problem('unsupported-media-type', `Cannot take ${deed}: type ${type} must be application/json`);
  }
  return new Problem('internal-error', 'Something went wrong inside this service; its log says what');
}

const MOST_SHOWN = 60;

/** A value in a message: short, whatever was sent. */
export function shown(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.slice(0, MOST_SHOWN));
  if (Array.isArray(value)) return `(a list of ${value.length})`;
  if (typeof value === 'object' && value !== null) return '(an object)';
  return value === undefined ? '(missing)' : String(value);
}

/** The first thing that the schema found wrong: field, value, rule. */
function describeInvalid(error: FastifyError): string {
  const found = error.validation?.[0] as {
    instancePath: string;
    keyword: string;
    message?: string;
    data?: unknown;
    params: Record<string, unknown>;
    parentSchema?: { description?: string };
  };
  const where = [error.validationContext, ...found.instancePath.split('/').slice(1)].join('.');
  if (found.keyword === 'additionalProperties') {
    return `${where} has the unknown field ${shown(found.params['additionalProperty'])}`;
  }
  if (found.keyword === 'required') return `${where} ${found.message ?? 'is incomplete'}`;
  const wanted = found.keyword === 'pattern' ? found.parentSchema?.description : undefined;
  const rule = wanted === undefined ? (found.message ?? 'is not as documented') : `must be: ${wanted}`;
  return `${where} ${shown(found.data)} ${rule}`;
}
