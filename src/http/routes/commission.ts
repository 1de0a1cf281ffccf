// Commissioning reports: an operator's test hands one in, anybody who may read gets the last one.
import { commissionName } from '../../commission-store.ts';
import { commissionFault, commissionVerdict } from '../../domain/commission.ts';
import { errorText } from '../../durable-files.ts';
import { noteForAudit } from '../audit-notes.ts';
import { callerOf } from '../callers.ts';
import { commissionText } from '../commission-text.ts';
import { commissionSubject } from '../commission-view.ts';
import type { App, AppParts, CommissionReport } from '../parts.ts';
import { Problem } from '../problem.ts';
import { CommissionInputSchema, CommissionReportSchema, json, problems, ref } from '../schemas.ts';
import type { Turns } from '../turns.ts';

export function addCommissionRoutes(app: App, parts: AppParts, turns: Turns): void {
  const { supervisor, clock, version, instance, commission, log } = parts;

  app.get('/commission', {
    schema: {
      operationId: 'readCommission',
      summary: 'The last commissioning report',
      tags: ['about'],
      response: {
        200: json(ref(CommissionReportSchema), 'As it was handed in, with who, when and of what'),
        404: problems('None has been handed in'),
        503: problems('Too many such questions are being answered'),
      },
    },
    preHandler: turns.place('read'),
    async handler(_request, reply) {
      // A report may be a megabyte.
      await turns.next(reply);
      const last = commission?.last ?? null;
      if (last === null) throw new Problem('not-found', 'No commissioning report has been handed in here');
      return last;
    },
  });

  app.post('/commission', {
    schema: {
      operationId: 'handInCommission',
      summary: 'Hand in what a commissioning test found (`vsf-safety commission`)',
      description:
        'Kept in the state folder as JSON and in words, the last 10 of them; /status refers to the last one. It changes ' +
        'nothing that is judged.',
      tags: ['about'],
      body: ref(CommissionInputSchema),
      response: {
        201: json(ref(CommissionReportSchema), 'Kept'),
        503: problems('It cannot be written'),
      },
    },
    async handler(request, reply) {
      const found = request.body;
      const { verdict, operator, steps } = found;
      noteForAudit(request, { detail: `${verdict}, tested by ${operator}` });
      const due = commissionVerdict(steps);
      const wrong = `its verdict is ${verdict}, and with the verdicts of its steps it must be ${due}`;
      const why = commissionFault(steps) ?? (verdict === due ? null : wrong);
      if (why !== null) {
        throw new Problem('invalid-request', `Cannot keep the commissioning report: ${why}`);
      }
      const { wallMs } = clock.now();
      const { simulated, gpus } = commissionSubject(supervisor.state);
      const report: CommissionReport = {
        name: commissionName(wallMs),
        at: new Date(wallMs).toISOString(),
        by: callerOf(request).identity,
        version,
        instance,
        simulated,
        gpus,
        ...found,
      };
      if (!commission) throw notKept('this service keeps none');
      try {
        await commission.keep(report, commissionText(report));
      } catch (error) {
        throw notKept(errorText(error));
      }
      log.info({ report: report.name, by: report.by }, `Commissioned by ${operator}: ${verdict}`);
      return reply.code(201).send(report);
    },
  });
}

const notKept = (why: string): Problem =>
  new Problem('commission-not-kept', `Cannot keep the commissioning report: ${why}`);
