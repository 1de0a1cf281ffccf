// After an emergency stop, for an operator: a reset ends a trip and starts nothing; a restore, which is another deed and
// never automatic, gives controllers of a cluster back what the stop took. In a cluster both are the leader's.

import Type from 'typebox';
import { TIMED_OUT, withDeadline } from '../../clock.ts';
import type { Answer } from '../../domain/events.ts';
import { InvariantBroken } from '../../domain/invariant.ts';
import { noteForAudit } from '../audit-notes.ts';
import { callerOf } from '../callers.ts';
import type { App, AppParts, ClusterPart } from '../parts.ts';
import { Problem, shown } from '../problem.ts';
import { refusal } from '../refusal.ts';
import { json, problems, ResetAnswerSchema, RestoreAnswerSchema, ref } from '../schemas.ts';

const RECORD_WAIT_MS = 2_000;
/** By then another process leads, or this one does again. */
const LEADER_RETRY_SECONDS = 5;
const WRITE_RETRY_SECONDS = 2;

const TripIdSchema = Type.String({ minLength: 1, maxLength: 200 });
const ResetBodySchema = Type.Object(
  {
    tripId: TripIdSchema,
    reason: Type.String({ minLength: 1, maxLength: 500, pattern: '\\S', description: 'Why it is safe again' }),
    acknowledgeUnverified: Type.Optional(
      Type.Boolean({ description: 'Reset although nobody has seen that everything is stopped' }),
    ),
  },
  { additionalProperties: false },
);
const RestoreBodySchema = Type.Object(
  {
    tripId: TripIdSchema,
    dryRun: Type.Optional(Type.Boolean({ description: 'Only list what would be given back' })),
  },
  { additionalProperties: false },
);
const elsewhere = problems('In a cluster: another process leads, or the cluster’s record could not be written');

export function addResetRoutes(app: App, parts: AppParts): void {
  const { supervisor, monitor, clock, cluster } = parts;
  let isRestoring = false;

  app.post('/estop/reset', {
    schema: {
      operationId: 'reset',
      summary: 'End a trip: permits a restart and causes none',
      tags: ['stop'],
      body: ResetBodySchema,
      response: {
        200: json(ref(ResetAnswerSchema), 'Reset'),
        409: problems('Something is still wrong, or no such trip is active'),
        503: elsewhere,
      },
    },
    async handler(request) {
      const { tripId, reason, acknowledgeUnverified = false } = request.body;
      noteForAudit(request, { tripId, reason, ...(acknowledgeUnverified && { detail: 'acknowledged as unverified' }) });
      const { identity: by } = callerOf(request);
      const deed = `reset trip ${shown(tripId)}`;
      if (cluster) refuseUnlessLeader(parts, deed);
      const trip = supervisor.state.trips.get(tripId);
      const scope = trip?.scope.kind === 'nodes' ? trip.scope.nodes : null;
      const reports = trip ? await monitor.observeNow(scope) : [];
      const event = { kind: 'reset-requested', tripId, reason, by, acknowledgeUnverified, reports } as const;
      const submitted = cluster ? await resetInCluster(parts, cluster, event, deed) : supervisor.submit(event);
      const { answer, recorded } = submitted;
      if (answer.kind !== 'reset-done') {
        // One that stood still reads what was asked meanwhile before it hears that it leads no longer.
        if (cluster) refuseUnlessLeader(parts, deed);
        throw refusal(answer, deed);
      }
      const written = await withDeadline(clock, RECORD_WAIT_MS, recorded);
      return { tripId: answer.tripId, epoch: answer.epoch, recorded: written !== TIMED_OUT && written.ok };
    },
  });

  app.post('/estop/restore', {
    schema: {
      operationId: 'restore',
      summary: 'Give controllers of the cluster back what a stop took, one at a time',
      description:
        'After the reset of that trip. Each controller only if it is the very one that was stopped and still holds the ' +
        'value that the stop set, with a preflight before each. Answered when all is done; each step is an event.',
      tags: ['stop'],
      body: RestoreBodySchema,
      response: {
        200: json(ref(RestoreAnswerSchema), 'What became, or would become, of each controller'),
        409: problems('A trip is on, or a restore is under way already, or there is no cluster'),
        503: elsewhere,
      },
    },
    async handler(request) {
      const { tripId, dryRun = false } = request.body;
      noteForAudit(request, { tripId, dryRun });
      const { identity: by } = callerOf(request);
      const deed = `restore what trip ${shown(tripId)} stopped`;
      if (!cluster) throw new Problem('no-cluster', `Cannot ${deed}: Kubernetes is not configured`);
      refuseUnlessLeader(parts, deed);
      const { trips } = supervisor.state;
      if (!dryRun && trips.size > 0) {
        const active = [...trips.keys()];
        const detail = `Cannot ${deed}: ${active.join(', ')} must be reset first`;
        throw new Problem('restore-refused', detail, { active });
      }
      if (isRestoring) throw new Problem('restore-refused', `Cannot ${deed}: a restore is under way already`);
      isRestoring = true;
      try {
        const onStep = ({ object, outcome, detail }: { object: string; outcome: string; detail: string }): void => {
          if (dryRun) return;
          const message = `Restore after trip ${tripId}: ${object} ${outcome}: ${detail}`;
          supervisor.submit({ kind: 'restore-reported', tripId, by, message });
        };
        const steps = await cluster.restore({ tripId, dryRun, mayGoOn: () => mayStart(parts), onStep });
        const { [tripId]: _, ...otherTrips } = cluster.facts().priorTrips;
        return { tripId, dryRun, steps: [...steps], otherTrips };
      } finally {
        isRestoring = false;
      }
    },
  });
}

/** Judged here, written there, and only then carried out: a reset that the cluster did not take changes nothing. */
async function resetInCluster(
  { supervisor }: AppParts,
  cluster: ClusterPart,
  event: Extract<Parameters<AppParts['supervisor']['submit']>[0], { kind: 'reset-requested' }>,
  deed: string,
): Promise<ReturnType<AppParts['supervisor']['submit']>> {
  const judged = supervisor.submit({ ...event, stage: 'judge' });
  if (judged.answer.kind !== 'reset-allowed') return judged;
  const { tripId, by, reason } = event;
  const { judged: known } = judged.answer;
  const committed: ReturnType<AppParts['supervisor']['submit']>[] = [];
  const outcome = await cluster.reset({
    tripId,
    by,
    reason,
    judged: known,
    commit: () => committed.push(supervisor.submit({ ...event, reports: [], stage: 'commit', judged: known })),
  });
  switch (outcome.kind) {
    case 'not-leader':
      throw notLeader(deed, 'another process leads by now');
    case 'changed':
    case 'not-written':
      throw new Problem('latch-not-written', `Cannot ${deed}: ${outcome.detail}`, {}, WRITE_RETRY_SECONDS);
    case 'done': {
      const [first] = committed;
      if (!first) throw new InvariantBroken('A reset was written to the cluster and not carried out');
      return first;
    }
  }
}

const notLeader = (deed: string, why: string): Problem =>
  new Problem('not-leader', `Cannot ${deed}: ${why}`, {}, LEADER_RETRY_SECONDS);

function refuseUnlessLeader({ supervisor }: AppParts, deed: string): void {
  const leadership = supervisor.state.cluster?.leadership;
  if (leadership?.state === 'leader') return;
  const who = leadership?.state === 'standby' && leadership.leader !== null ? `, ${leadership.leader} does` : '';
  throw notLeader(deed, `this process does not lead${who}`);
}

/** Before each controller: nothing tripped, and a preflight of everything that says yes. */
async function mayStart({
  supervisor,
  monitor,
}: AppParts): Promise<{ readonly ok: true } | { readonly ok: false; readonly detail: string }> {
  const reports = await monitor.observeNow(null);
  const asked = { intensity: null, nodes: null, constraints: null, constraintKeys: [] };
  const { answer }: { readonly answer: Answer } = supervisor.submit({
    kind: 'preflight-asked',
    request: asked,
    reports,
  });
  if (answer.kind !== 'judged') return { ok: false, detail: `the preflight was answered with ${answer.kind}` };
  return answer.result.safe && !answer.isTripped ? { ok: true } : { ok: false, detail: answer.result.reason };
}
