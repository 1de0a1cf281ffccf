// GET /history: what was. The answer comes as text from the thread that reads the disk, and is passed on as it is.
import Type from 'typebox';
import { isKnownNode } from '../../domain/state.ts';
import type { App, AppParts } from '../parts.ts';
import { Problem, shown } from '../problem.ts';
import { refusal } from '../refusal.ts';
import { HistorySchema, json, problems, ref } from '../schemas.ts';
import { NodeNameSchema } from '../start-request.ts';
import type { Turns } from '../turns.ts';

const TIME_RULE =
  'a time such as 2026-01-31T12:00:00Z, ms since 1970, or before now such as -90s, -30m, -1h or -2d, or now';
const RETRY_SECONDS = 5;
const HOUR_MS = 3_600_000;
/** The end of the year 9999. */
const LATEST_MS = 253_402_300_799_999;
const UNIT_MS: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: HOUR_MS, d: 24 * HOUR_MS };

const QuerySchema = Type.Object(
  {
    from: Type.Optional(Type.String({ maxLength: 50, description: `${TIME_RULE}; left out: -1h` })),
    to: Type.Optional(Type.String({ maxLength: 50, description: `${TIME_RULE}; left out: now` })),
    node: Type.Optional(NodeNameSchema),
  },
  { additionalProperties: false },
);

export function addHistoryRoute(app: App, parts: AppParts, turns: Turns): void {
  const { supervisor, clock, history = null } = parts;
  app.get('/history', {
    schema: {
      operationId: 'readHistory',
      summary: 'What was: figures, events, trips and cooldowns, on at most 1,000 points',
      description:
        'Every evaluation of the last hour, then minutes, then quarters of an hour, each with its lowest, mean and highest; where these are more than the points there are, they are joined further. With `node`, or where there is one node only, every quantity that has limits; for more, each node’s worst margin.',
      tags: ['watch'],
      querystring: QuerySchema,
      response: {
        200: json(ref(HistorySchema), 'What was'),
        503: problems('None is kept, or the disk does not give it'),
      },
    },
    preHandler: turns.place('read'),
    async handler(request, reply) {
      if (!history) {
        throw new Problem(
          'history-unavailable',
          'Cannot read the history: it is turned off (history.enabled, history.keep)',
        );
      }
      const { node = null } = request.query;
      const nowMs = clock.now().wallMs;
      const fromMs = timeOf('from', request.query.from ?? '-1h', nowMs);
      const toMs = timeOf('to', request.query.to ?? 'now', nowMs);
      if (fromMs >= toMs) {
        const why = `from is ${isoOf(fromMs)}: must be before to, which is ${isoOf(toMs)}`;
        throw new Problem('invalid-request', `Cannot take GET /history: ${why}`);
      }
      const isKnown = node === null || isKnownNode(supervisor.state, node);
      const outcome = await history.ask({ fromMs, toMs, node, isKnown });
      switch (outcome.kind) {
        case 'answered': {
          const { state, detail } = history.health();
          reply.type('application/json; charset=utf-8');
          return withStore(outcome.text, { state: state === 'failing' ? state : 'ok', detail }) as never;
        }
        case 'unknown-node':
          throw refusal({ kind: 'unknown-nodes', nodes: [node ?? ''] }, 'read the history');
        case 'unavailable':
          throw new Problem('history-unavailable', `Cannot read the history: ${outcome.detail}`, {}, RETRY_SECONDS);
      }
    },
  });
}

/** Puts how the store stands into an answer that is text already. */
const withStore = (text: string, store: { readonly state: 'ok' | 'failing'; readonly detail: string }): string =>
  `${text.slice(0, -1)},"store":${JSON.stringify(store)}}`;

/** Wall clock, ms. */
function timeOf(name: string, text: string, nowMs: number): number {
  const ms = parseTime(text, nowMs);
  if (ms !== null && ms >= 0 && ms <= LATEST_MS) return ms;
  throw new Problem('invalid-request', `Cannot take GET /history: ${name} is ${shown(text)}: must be ${TIME_RULE}`);
}

/** A moment as people and programs name it, wall clock ms; `null` for any other text. */
export function parseTime(text: string, nowMs: number): number | null {
  if (text === 'now') return nowMs;
  const before = /^-(\d{1,9})([smhd])$/.exec(text);
  if (before) return nowMs - Number(before[1]) * (UNIT_MS[before[2] ?? ''] ?? Number.NaN);
  if (/^\d{12,15}$/.test(text)) return Number(text);
  // A plus that was not encoded has become a blank on its way. A time without a zone would be that of this machine.
  const iso = text.replace(' ', '+');
  if (!/^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d))?$/.test(iso)) return null;
  const ms = Date.parse(iso);
  return Number.isNaN(ms) ? null : ms;
}

const isoOf = (ms: number): string => new Date(ms).toISOString();
