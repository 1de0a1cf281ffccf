// The emergency stop. A trip is never refused for its form, and is answered once it is latched; a drill is an
// operator's, and is the same question without a trip. How a trip ends is reset.ts.

import type { FastifyReply, FastifyRequest } from 'fastify';
import Type from 'typebox';
import { may } from '../access.ts';
import { noteForAudit } from '../audit-notes.ts';
import { refuseRole } from '../auth.ts';
import { callerOf } from '../callers.ts';
import { estopView } from '../estop-view.ts';
import type { App, AppParts } from '../parts.ts';
import { refusal } from '../refusal.ts';
import { DrillAnswerSchema, EstopSchema, json, ref, StopAnswerSchema } from '../schemas.ts';
import { NodesSchema } from '../start-request.ts';
import { answerStop, stopNote } from '../stop-answer.ts';
import { EVERYTHING, readStopBody, type StopAsked } from '../stop-body.ts';

const MOST_WAIT_SECONDS = 60;
const NO_VALIDATION = () => () => true;

export const stopped = json(ref(StopAnswerSchema), 'Latched, and the stop is under way');

const StopBodySchema = Type.Object({
  reason: Type.Optional(Type.String()),
  nodes: Type.Optional(Type.Union([Type.String(), NodesSchema], { description: 'Left out: everything' })),
  drill: Type.Optional(Type.Boolean({ description: 'Only list what would be stopped; an operator’s' })),
});
export function addEstopRoutes(app: App, parts: AppParts): void {
  const { supervisor, clock } = parts;
  /** Answers that are held back for a stop's first round; they go out when the app closes. */
  const closing = new AbortController();
  app.addHook('preClose', async () => closing.abort());

  app.get('/estop', {
    schema: {
      operationId: 'readEstop',
      summary: 'The interlock, what is tripped, and how far the stop has come',
      tags: ['stop'],
      response: { 200: json(ref(EstopSchema), 'The interlock, tripped or not') },
    },
    handler: async () => estopView(supervisor.state),
  });

  void app.register(async (bare) => {
    // Whatever the content type says, also nothing or nonsense: the body is read here and judged by what is in it.
    bare.removeAllContentTypeParsers();
    bare.addContentTypeParser('*', async (_request: FastifyRequest, payload: FastifyRequest['raw']) =>
      readStopBody(payload, clock),
    );
    bare.addHook('onRequest', async (request) => {
      delete request.raw.headers['content-type'];
    });
    bare.post('/estop', {
      schema: {
        operationId: 'stop',
        summary: 'EMERGENCY STOP of everything, or of the nodes named',
        description:
          'Never refused for its form: an empty, broken, oversized or slow body stops everything. Answered once it is latched and leases are revoked.',
        tags: ['stop'],
        querystring: Type.Object({
          wait: Type.Optional(
            Type.String({
              description: `Seconds to hold the answer until the stop is verified or unverified, 0 to ${MOST_WAIT_SECONDS}`,
            }),
          ),
        }),
        body: StopBodySchema,
        response: {
          200: json(ref(DrillAnswerSchema), 'A drill: nothing is touched'),
          202: stopped,
        },
      },
      validatorCompiler: NO_VALIDATION,
      async handler(request, reply) {
        const asked = (request.body as StopAsked | undefined) ?? EVERYTHING;
        return asked.isDrill ? drill(request, reply, asked) : stop(request, reply, asked);
      },
    });
  });

  async function stop(request: FastifyRequest, reply: FastifyReply, asked: StopAsked): Promise<unknown> {
    const { identity: by } = callerOf(request);
    const reason = reasonOf(asked, by);
    const submitted = supervisor.submit({ kind: 'stop-requested', nodes: asked.nodes, cause: 'manual', reason, by });
    noteForAudit(request, { ...stopNote(submitted), reason, ...(asked.nodes && { nodes: asked.nodes }) });
    const hold = { ms: waitOf(request.query) * 1000, until: closing.signal };
    return reply.code(202).send(await answerStop(parts, submitted, hold));
  }

  async function drill(request: FastifyRequest, reply: FastifyReply, { nodes }: StopAsked): Promise<unknown> {
    const caller = callerOf(request);
    noteForAudit(request, { deed: 'drill', ...(nodes && { nodes }) });
    if (!may(caller.role, 'operator')) refuseRole(caller, 'operator', 'run a drill');
    const { answer } = supervisor.submit({ kind: 'drill-requested', nodes, by: caller.identity });
    if (answer.kind !== 'drilling') throw refusal(answer, 'run a drill');
    const { order, unknownNodes } = answer;
    const entries = await parts.runDrill(order);
    return reply.code(200).send({ drill: true, orderId: order.orderId, scope: order.scope, unknownNodes, entries });
  }
}

/** Why, in the report and the log; a body that was not understood is named, so that nobody wonders about the scope. */
function reasonOf({ reason, misunderstood }: StopAsked, by: string): string {
  if (misunderstood !== null)
    return `Stop requested by ${by}; its body was not understood (${misunderstood}), so everything is stopped`;
  return reason ?? `Stop requested by ${by}`;
}

/** Seconds to hold the answer. What is no number holds nothing: a stop is not refused for its query either. */
function waitOf(query: unknown): number {
  const { wait } = query as Record<string, unknown>;
  const seconds = typeof wait === 'string' && /^\d{1,9}(\.\d{1,9})?$/.test(wait) ? Number(wait) : 0;
  return Math.min(seconds, MOST_WAIT_SECONDS);
}
