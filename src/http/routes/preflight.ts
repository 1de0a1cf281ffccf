// May a workload start? Asked with readings taken for the question, and answered so that `curl -f` alone is a correct
// gate: 200 safe, 503 not, 423 tripped, never a redirect.
import { loopTurn } from '../../clock.ts';
import type { Answer, StartRequest } from '../../domain/events.ts';
import type { SourceReport } from '../../domain/reading.ts';
import type { SafetyResult } from '../../domain/result.ts';
import type { SafetyState } from '../../domain/state.ts';
import type { App, AppParts } from '../parts.ts';
import { wholeSeconds } from '../problem.ts';
import type { QuestionLooks } from '../question-looks.ts';
import { refusal } from '../refusal.ts';
import { json, ref, retryAfter, SafetyResultSchema } from '../schemas.ts';
import { prepareBody, StartBodySchema, StartQuerySchema, startOfBody, startOfQuery } from '../start-request.ts';
import { type Asker, isGone, nobodyAsks, type Turns } from '../turns.ts';

const Result = ref(SafetyResultSchema);
const verdicts = {
  200: json(Result, 'Safe to start'),
  423: json(Result, 'A node asked about is tripped'),
  503: {
    ...json(Result, 'Not safe now; Retry-After says when to ask again, unless asking for less would do'),
    headers: retryAfter,
  },
};

interface Question {
  reports: readonly SourceReport[];
  readonly askers: Asker[];
  readonly answer: Promise<Answer>;
}

/** What is needed of a reply to either question. */
interface PreflightReply {
  code(status: 200 | 423 | 503): unknown;
  header(name: string, value: string): unknown;
}

export function addPreflightRoutes(app: App, parts: AppParts, turns: Turns, looks: QuestionLooks): void {
  const { monitor, supervisor } = parts;

  /** Questions that wait for their turn, by what they ask. */
  const waiting = new Map<string, Question>();

  /** Who asks the same at the same time is answered the same: judging a thousand nodes takes half a second. */
  function ask(request: StartRequest, reports: readonly SourceReport[], asker: Asker): Promise<Answer> {
    const key = JSON.stringify(request);
    const same = waiting.get(key);
    if (same) {
      same.askers.push(asker);
      const before = same.reports;
      same.reports = reports;
      // What an earlier look saw alone would be judged by nobody, be it a hard stop.
      if (before !== reports) looks.observe(before, reports);
      return same.answer;
    }
    const judged = async (): Promise<Answer> => {
      await loopTurn();
      await turns.next();
      waiting.delete(key);
      if (question.askers.every(isGone)) {
        looks.observe(question.reports);
        throw nobodyAsks();
      }
      looks.take(question.reports);
      return supervisor.submit({ kind: 'preflight-asked', request, reports: question.reports }).answer;
    };
    const question: Question = { reports, askers: [asker], answer: judged() };
    waiting.set(key, question);
    return question.answer;
  }

  async function judge(request: StartRequest, reply: PreflightReply & Asker): Promise<SafetyResult> {
    const answer = await ask(request, await monitor.observeNow(request.nodes), reply);
    if (answer.kind !== 'judged') throw refusal(answer, 'judge a preflight');
    reply.code(answer.result.safe && !answer.isTripped ? 200 : refuse(reply, answer, supervisor.state));
    return answer.result;
  }

  app.get('/preflight', {
    schema: {
      operationId: 'askPreflight',
      summary: 'May a workload start now?',
      tags: ['start'],
      querystring: StartQuerySchema,
      response: verdicts,
    },
    preHandler: turns.place('start'),
    handler: (request, reply) => judge(startOfQuery(request.query), reply),
  });

  app.post('/preflight', {
    schema: {
      operationId: 'postPreflight',
      summary: 'May a workload start now, by limits of its own?',
      tags: ['start'],
      body: StartBodySchema,
      response: verdicts,
    },
    preValidation: prepareBody,
    preHandler: turns.place('start'),
    handler: (request, reply) => judge(startOfBody(request.body), reply),
  });
}

type Judged = Extract<Answer, { kind: 'judged' }>;

/** The status of a refused start, with its Retry-After set: 423 goes before every 503. */
export function refuse(
  reply: { header(name: string, value: string): unknown },
  answer: Judged,
  { cluster }: Pick<SafetyState, 'cluster'>,
): 423 | 503 {
  // Over the same connection the next try would reach the same process again, which does not lead.
  if (cluster && cluster.leadership.state !== 'leader') reply.header('connection', 'close');
  if (answer.isTripped) return 423;
  const { retryAfterSeconds } = answer;
  if (retryAfterSeconds !== null) reply.header('retry-after', String(wholeSeconds(retryAfterSeconds)));
  return 503;
}
