// An operator's word that a card, or a whole node, is gone for good.
import Type from 'typebox';
import { noteForAudit } from '../audit-notes.ts';
import { callerOf } from '../callers.ts';
import type { App, AppParts } from '../parts.ts';
import { shown } from '../problem.ts';
import { refusal } from '../refusal.ts';
import { json, problems } from '../schemas.ts';

const ForgetBodySchema = Type.Object(
  {
    gpu: Type.Optional(
      Type.String({ minLength: 1, maxLength: 100, description: 'UUID or PCI address; left out: the node' }),
    ),
    reason: Type.String({ minLength: 1, maxLength: 500, pattern: '\\S', description: 'Why it is gone for good' }),
  },
  { additionalProperties: false },
);

export function addNodeRoutes(app: App, { supervisor }: AppParts): void {
  app.post('/nodes/:node/forget', {
    schema: {
      operationId: 'forget',
      summary: 'Expect a lost GPU, or a removed node, no longer',
      tags: ['nodes'],
      params: Type.Object({ node: Type.String() }),
      body: ForgetBodySchema,
      response: {
        200: json(Type.Object({ node: Type.String(), gpus: Type.Array(Type.String()) }), 'Forgotten'),
        409: problems(
          'It is still read, configured or discovered; `ignore` in the configuration leaves a dead card out',
        ),
      },
    },
    async handler(request) {
      const { node } = request.params;
      const { gpu = null, reason } = request.body;
      const { identity: by } = callerOf(request);
      noteForAudit(request, { nodes: [node], reason, ...(gpu !== null && { gpu }) });
      const deed = gpu === null ? `forget node ${shown(node)}` : `forget GPU ${shown(gpu)} of ${shown(node)}`;
      const { answer } = supervisor.submit({ kind: 'forget-requested', node, gpu, reason, by });
      if (answer.kind !== 'forgotten') throw refusal(answer, deed);
      return { node, gpus: [...answer.gpus] };
    },
  });
}
