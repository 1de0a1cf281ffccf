// A lease: preflight and grant in one, kept alive by renewals. A grant is answered only when it is on the disk; what
// could not be written down is given back, because nobody would know of it after a restart.
import { randomUUID } from 'node:crypto';
import Type, { type Static } from 'typebox';
import { type Clock, TIMED_OUT, withDeadline } from '../../clock.ts';
import { isLoopbackHost } from '../../config.ts';
import { leaseElsewhere, resultForLease } from '../../domain/decide.ts';
import type { LeaseRequest } from '../../domain/events.ts';
import type { Lease } from '../../domain/lease.ts';
import type { SafetyState } from '../../domain/state.ts';
import type { ProcessGroup } from '../../domain/stop.ts';
import type { Submitted } from '../../supervisor.ts';
import { callerOf } from '../callers.ts';
import { leaseView } from '../lease-view.ts';
import type { App, AppParts } from '../parts.ts';
import { Problem, shown } from '../problem.ts';
import type { QuestionLooks } from '../question-looks.ts';
import { refusal } from '../refusal.ts';
import { json, LeaseAnswerSchema, problems, RefusedLeaseSchema, ref, retryAfter } from '../schemas.ts';
import { IntensitySchema, prepareBody, startFields, startOfBody } from '../start-request.ts';
import { isGone, nobodyAsks, type Turns } from '../turns.ts';
import { refuse } from './preflight.ts';

/** A disk that takes longer than this is a disk that cannot be relied on. */
const RECORD_DEADLINE_MS = 2_000;
/** A month: longer than any run, short enough for a mistake in units to be refused. */
const MOST_DURATION_SECONDS = 2_592_000;
const DEFAULT_TTL_SECONDS = 30;

const UUID = '^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$';
/** Something to see, and nothing that hides: no control, direction or zero-width characters. */
const PRINTABLE = '^(?=.*\\S)[^\\u0000-\\u001f\\u007f-\\u009f\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ufeff]+$';

const LeaseBodySchema = Type.Object(
  {
    ...startFields,
    id: Type.Optional(Type.String({ pattern: UUID, description: 'A UUID; the same again returns the same lease' })),
    workload: Type.String({ minLength: 1, maxLength: 200, pattern: PRINTABLE }),
    gpus: Type.Optional(
      Type.Array(Type.String({ minLength: 1, maxLength: 100 }), { minItems: 1, maxItems: 1000, uniqueItems: true }),
    ),
    ttlSeconds: Type.Optional(
      Type.Number({ minimum: 5, maximum: 300, description: `${DEFAULT_TTL_SECONDS} if left out` }),
    ),
    maxDurationSeconds: Type.Optional(Type.Number({ exclusiveMinimum: 0, maximum: MOST_DURATION_SECONDS })),
    processGroup: Type.Optional(
      Type.Object(
        { pgid: Type.Integer({ description: 'Its leader must run with VSF_LEASE=<id> in its environment' }) },
        { additionalProperties: false },
      ),
    ),
  },
  { additionalProperties: false },
);
const RenewalSchema = Type.Object({ intensity: Type.Optional(IntensitySchema) }, { additionalProperties: false });
const LeaseParamsSchema = Type.Object({ id: Type.String() });

const LeaseAnswer = ref(LeaseAnswerSchema);
const RefusedLease = ref(RefusedLeaseSchema);
const gone = problems('The lease is over: `outcome` and `reason` say how and why');
const unknown = problems('Nobody knows this lease; to its holder the same as lapsed');
const unsafe = {
  description: 'Not safe now, or the grant could not be written down',
  content: { ...json(RefusedLease, '').content, ...problems('').content },
  headers: retryAfter,
};

export function addLeaseRoutes(app: App, parts: AppParts, turns: Turns, looks: QuestionLooks): void {
  const { monitor, supervisor, clock } = parts;
  /** Grants that are being written, so that a repeated request waits for the same writing. */
  const writing = new Map<string, Promise<boolean>>();

  app.post('/leases', {
    schema: {
      operationId: 'takeLease',
      summary: 'Ask for leave to run: preflight and grant in one',
      tags: ['start'],
      body: LeaseBodySchema,
      response: {
        201: json(LeaseAnswer, 'Granted'),
        410: gone,
        423: json(RefusedLease, 'A node asked for is tripped'),
        503: unsafe,
      },
    },
    preValidation: prepareBody,
    preHandler: turns.place('start'),
    async handler(request, reply) {
      const { body } = request;
      const { identity } = callerOf(request);
      const id = idOf(body.id ?? randomUUID());
      const deed = `grant lease ${id}`;
      const processGroup = await pinProcessGroup(parts, body, identity);
      const asked = leaseRequestOf(body, id, processGroup);
      const reports = await monitor.observeNow(asked.nodes);
      await turns.next();
      // Nobody would hold the lease, and its nodes would count as live until it lapsed.
      if (isGone(reply)) {
        looks.observe(reports);
        throw nobodyAsks();
      }
      looks.take(reports);
      const submitted = supervisor.submit({ kind: 'lease-asked', request: asked, identity, reports });
      const given = submitted.answer;
      if (given.kind === 'judged') {
        reply.code(refuse(reply, given, supervisor.state));
        return { result: given.result };
      }
      if (given.kind !== 'granted') throw refusal(given, deed);
      const written = writing.get(id) ?? isWritten(clock, submitted.recorded);
      writing.set(id, written);
      const isDurable = await written;
      if (writing.get(id) === written) {
        writing.delete(id);
        if (!isDurable) supervisor.submit({ kind: 'release-asked', leaseId: id, identity, isUntold: true });
      }
      if (!isDurable) {
        const detail = `Cannot ${deed}: the journal has not taken it within ${RECORD_DEADLINE_MS / 1000} s, so it is given back`;
        throw new Problem('journal-unavailable', detail, {}, supervisor.state.settings.intervalMs / 1000);
      }
      // Writing takes its time, and a trip may have come in between.
      const lease = supervisor.state.leases.get(id);
      if (!lease) throw leaseRefusal(supervisor.state, id, deed);
      reply.code(201);
      return { lease: leaseView(lease, clock.now()), result: given.result };
    },
  });

  app.get('/leases/:id', {
    schema: {
      operationId: 'readLease',
      summary: 'A lease, and what its holder must do now',
      tags: ['start'],
      params: LeaseParamsSchema,
      response: { 200: json(LeaseAnswer, 'Live'), 404: unknown, 410: gone },
    },
    async handler(request) {
      const id = idOf(request.params.id);
      const { state } = supervisor;
      const lease = state.leases.get(id);
      if (!lease) throw leaseRefusal(state, id, `read lease ${shown(id)}`);
      const now = clock.now();
      return { lease: leaseView(lease, now), result: resultForLease(state, lease, now) };
    },
  });

  app.put('/leases/:id', {
    schema: {
      operationId: 'renewLease',
      summary: 'Stay alive, and learn what to do now',
      description: 'A higher intensity is judged as a start; where that is refused the lease is renewed unchanged.',
      tags: ['start'],
      params: LeaseParamsSchema,
      body: RenewalSchema,
      response: {
        200: json(LeaseAnswer, 'Renewed; `result` says what the holder must do'),
        404: unknown,
        410: gone,
        503: problems('The last evaluation is too old to renew by'),
      },
    },
    preValidation: prepareBody,
    async handler(request) {
      const leaseId = idOf(request.params.id);
      const intensity = request.body.intensity ?? null;
      const { identity } = callerOf(request);
      const deed = `renew lease ${shown(leaseId)}`;
      const held = supervisor.state.leases.get(leaseId);
      const isRaise = held?.identity === identity && intensity !== null && intensity > held.intensity;
      const reports = isRaise ? await monitor.observeNow(held.nodes) : [];
      const { answer: given } = supervisor.submit({ kind: 'renewal-asked', leaseId, identity, intensity, reports });
      if (given.kind !== 'renewed') throw refusal(given, deed);
      return { lease: leaseView(given.lease, clock.now()), result: given.result };
    },
  });

  app.delete('/leases/:id', {
    schema: {
      operationId: 'giveLeaseBack',
      summary: 'Give a lease back',
      tags: ['start'],
      params: LeaseParamsSchema,
      response: { 204: { type: 'null', description: 'Given back' }, 404: unknown, 410: gone },
    },
    async handler(request, reply) {
      const leaseId = idOf(request.params.id);
      const { identity } = callerOf(request);
      const { answer: given } = supervisor.submit({ kind: 'release-asked', leaseId, identity });
      if (given.kind !== 'released') throw refusal(given, `give back lease ${shown(leaseId)}`);
      return reply.code(204).send(null);
    },
  });
}

/** A UUID in capitals is the same UUID. */
const idOf = (text: string): string => text.toLowerCase();

/** Why a lease is not live. */
function leaseRefusal(state: SafetyState, id: string, deed: string): Problem {
  const ended = state.endedLeases.get(id);
  return refusal(ended ? { kind: 'lease-ended', ended } : (leaseElsewhere(state) ?? { kind: 'lease-unknown' }), deed);
}

function leaseRequestOf(
  body: Static<typeof LeaseBodySchema>,
  id: string,
  processGroup: ProcessGroup | null,
): LeaseRequest {
  return {
    ...startOfBody(body),
    id,
    workload: body.workload,
    gpus: body.gpus ?? null,
    ttlMs: (body.ttlSeconds ?? DEFAULT_TTL_SECONDS) * 1000,
    maxDurationMs: body.maxDurationSeconds === undefined ? null : body.maxDurationSeconds * 1000,
    processGroup,
  };
}

/** The process group of a request, proven to be this lease's; a repeated request keeps what its lease has. */
async function pinProcessGroup(
  { config, supervisor, verifyProcessGroup }: AppParts,
  { id: givenId, processGroup }: Static<typeof LeaseBodySchema>,
  identity: string,
): Promise<ProcessGroup | null> {
  if (!processGroup) return null;
  const { pgid } = processGroup;
  if (!isLoopbackHost(config.listen.host)) {
    const detail = `Cannot take process group ${pgid}: this service listens on ${config.listen.host}, it must be a loopback address`;
    throw new Problem('process-group-not-local', detail);
  }
  if (givenId === undefined) {
    const detail = `Cannot take process group ${pgid}: its leader must run with VSF_LEASE=<id>, so the request must name the id`;
    throw new Problem('process-group-needs-id', detail);
  }
  const id = idOf(givenId);
  const held: Lease | undefined = supervisor.state.leases.get(id);
  if (held?.identity === identity && held.processGroup?.pgid === pgid) return held.processGroup;
  const checked = await verifyProcessGroup({ pgid, leaseId: id });
  if (!checked.ok) throw new Problem(checked.code, checked.detail);
  return checked.group;
}

async function isWritten(clock: Clock, recorded: Submitted['recorded']): Promise<boolean> {
  const outcome = await withDeadline(clock, RECORD_DEADLINE_MS, recorded);
  return outcome !== TIMED_OUT && outcome.ok;
}
