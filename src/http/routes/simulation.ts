// Load, air and faults of the simulated rig, for drills and demos. The rig itself says what it takes.
import Type from 'typebox';
import { noteForAudit } from '../audit-notes.ts';
import type { App, AppParts } from '../parts.ts';
import { Problem } from '../problem.ts';
import { FaultSchema, json, problems, ref, SimulationStateSchema } from '../schemas.ts';

const ChangeSchema = Type.Object(
  {
    load: Type.Optional(Type.Number({ minimum: 0, maximum: 1 })),
    ambientC: Type.Optional(Type.Number({ minimum: 0, maximum: 50 })),
    faults: Type.Optional(Type.Array(ref(FaultSchema), { maxItems: 100 })),
  },
  { description: 'What is left out stays; `faults` replaces all active faults' },
);

export function addSimulationRoute(app: App, { simulation }: AppParts): void {
  app.post('/simulation', {
    schema: {
      operationId: 'simulate',
      summary: 'Change the simulated rig (with `source: simulated` only)',
      tags: ['nodes'],
      body: ChangeSchema,
      response: {
        200: json(ref(SimulationStateSchema), 'The rig as it really is now'),
        409: problems('This service watches real hardware'),
      },
    },
    // The rig checks a change itself, against its own cards and sensors.
    validatorCompiler: () => () => true,
    async handler(request, reply) {
      if (!simulation) {
        throw new Problem(
          'not-simulated',
          'Cannot change the simulation: the source must be "simulated", here it is real hardware',
        );
      }
      noteForAudit(request, { detail: JSON.stringify(request.body ?? {}) });
      const applied = simulation.apply(request.body ?? {});
      if (!applied.ok) throw new Problem('simulation-invalid', applied.problem);
      return reply.code(200).send(applied.state);
    },
  });
}
