// Everything that is known, at once.
import Type from 'typebox';
import { isKnownNode } from '../../domain/state.ts';
import { callerOf } from '../callers.ts';
import type { App, AppParts } from '../parts.ts';
import { refusal } from '../refusal.ts';
import { json, problems, ref, StatusSchema } from '../schemas.ts';
import { nodesOfQuery } from '../start-request.ts';
import { statusText } from '../status-view.ts';
import type { Turns } from '../turns.ts';

const QuerySchema = Type.Object(
  {
    node: Type.Optional(
      Type.Union([Type.String(), Type.Array(Type.String())], {
        description: 'Only these nodes: names separated by commas, or the parameter repeated',
      }),
    ),
  },
  { additionalProperties: false },
);

export function addStatusRoute(app: App, parts: AppParts, turns: Turns): void {
  const { supervisor, monitor, clock, version, journalHealth, history, gpuProcesses, notify, cluster, security } =
    parts;
  app.get('/status', {
    schema: {
      operationId: 'readStatus',
      summary: 'Everything that is known: interlock, nodes with every reading, leases, sources',
      tags: ['watch'],
      querystring: QuerySchema,
      response: {
        200: json(ref(StatusSchema), 'All of it'),
        503: problems('Too many such questions are being answered'),
      },
    },
    preHandler: turns.place('read'),
    async handler(request, reply) {
      await turns.next(reply);
      const nodes = nodesOfQuery(request.query.node);
      const unknown = nodes?.filter((node) => !isKnownNode(supervisor.state, node)) ?? [];
      if (unknown.length > 0) throw refusal({ kind: 'unknown-nodes', nodes: unknown }, 'read the status');
      const { identity, role } = callerOf(request);
      const work = async (): Promise<Buffer> => {
        const { lastTickTookMs, effectiveFastIntervalMs } = monitor;
        const about = {
          version,
          lastTickTookMs,
          effectiveFastIntervalMs,
          journal: journalHealth(),
          history: history?.health() ?? null,
          commission: parts.commission?.last ?? null,
          isOperator: role === 'operator',
          caller: { identity, role },
          ...(gpuProcesses && { gpuProcesses: gpuProcesses() }),
          ...(cluster && { cluster: cluster.facts() }),
          ...(notify && { notify: notify() }),
          ...(security && { security: security() }),
        };
        // As bytes, once for all who share it.
        return Buffer.from(await statusText(supervisor.state, clock.now(), about, nodes, () => turns.pause()));
      };
      const body = await turns.whole(JSON.stringify(['status', identity, role, nodes]), reply, work);
      return reply.type('application/json; charset=utf-8').send(body as never);
    },
  });
}
