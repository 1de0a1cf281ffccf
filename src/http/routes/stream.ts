// GET /ws: the WebSocket of everything that is published, for dashboards and clients.
import Type from 'typebox';
import type { App, AppParts } from '../parts.ts';
import { Problem } from '../problem.ts';
import { json, MessageSchema, problems, ref } from '../schemas.ts';
import { type Since, Stream } from '../stream.ts';

const QuerySchema = Type.Object(
  {
    since: Type.Optional(Type.String({ pattern: '^\\d{1,15}$', description: 'Sequence of the last message seen' })),
    instance: Type.Optional(Type.String({ maxLength: 100, description: 'The instance that it came from' })),
  },
  { additionalProperties: false },
);

export function addStreamRoute(app: App, parts: AppParts): Stream {
  const stream = new Stream(parts);
  stream.start();
  const unsubscribe = parts.tokens.onChange(() => stream.dropUnknown());
  app.addHook('preClose', async () => {
    unsubscribe();
    stream.close();
  });

  app.route({
    method: 'GET',
    url: '/ws',
    schema: {
      operationId: 'stream',
      summary: 'WebSocket of evaluations and events',
      description:
        'Subprotocol `vsf.v1`; a token goes in Authorization, or as a second subprotocol `bearer.<token>`. Messages are JSON texts: `hello`, the newest `evaluation` (or, with `since` and `instance`, what was missed), then everything. What clients send is ignored. A client that does not read is first sent only the newest evaluation, then dropped (1013).',
      tags: ['watch'],
      querystring: QuerySchema,
      response: {
        101: json(ref(MessageSchema), 'Each message'),
        426: problems('A plain request'),
        503: problems('Too many clients'),
      },
    },
    async preHandler(request) {
      if (!request.ws) {
        throw new Problem(
          'upgrade-required',
          'Cannot stream over plain HTTP: the request must be a WebSocket handshake',
        );
      }
      if (stream.isFull) {
        throw new Problem(
          'too-many-clients',
          `Cannot take another WebSocket client: ${stream.clientCount} are connected`,
          {},
          60,
        );
      }
    },
    handler: async () => {
      throw new Error('a plain request got past the handshake');
    },
    wsHandler(socket, request) {
      const { caller } = request;
      const isOwn = caller !== null && parts.tokens.stillKnows(caller);
      stream.add(socket, sinceOf(request.query), isOwn ? () => parts.tokens.stillKnows(caller) : null);
    },
  });
  return stream;
}

function sinceOf({ since, instance }: { since?: string; instance?: string }): Since | null {
  return since === undefined ? null : { sequence: Number(since), instance };
}
