// What GET /history says, and what GET /status says of it. Everything lies on one axis, so that a plot takes it as it is.
import Type from 'typebox';
import { ACTIONS } from '../domain/result.ts';
import { component, enumOf, orNull, QuantitySchema, ref, timestamp, UnitSchema } from './base-schemas.ts';
import { eventFields } from './stream-schemas.ts';

const epochMs = (description: string) => Type.Integer({ description: `${description}, ms since 1970` });
const cells = (description: string) =>
  Type.Array(orNull(Type.Number()), { description: `${description}; as long as \`at\`, null: missing then` });

export const HistorySeriesSchema = component(
  'HistorySeries',
  Type.Object({
    node: Type.String(),
    component: enumOf(['gpu', 'cpu', 'memory', 'system']),
    id: Type.Optional(Type.String()),
    quantity: QuantitySchema,
    unit: UnitSchema,
    limits: Type.Array(
      Type.Object({
        from: epochMs('In force from then until the next'),
        warning: Type.Optional(Type.Number()),
        hardStop: Type.Optional(Type.Number()),
        max: Type.Optional(Type.Number()),
      }),
    ),
    min: cells('Lowest'),
    mean: cells('Mean'),
    max: cells('Highest: no peak of the evaluations is lost'),
  }),
);

export const HistorySchema = component(
  'History',
  Type.Object(
    {
      from: timestamp('As it was understood'),
      to: timestamp('As it was understood'),
      node: orNull(Type.String({ description: 'The node asked about; null: all' })),
      simulated: Type.Boolean(),
      stepSeconds: Type.Number({ description: 'The time that the coarsest point stands for' }),
      keptFrom: orNull(timestamp('The oldest figures there are')),
      store: Type.Object({
        state: enumOf(['ok', 'failing'], 'failing: new figures are being lost'),
        detail: Type.String(),
      }),
      at: Type.Array(epochMs('When each point begins'), {
        maxItems: 1000,
        description: 'The axis of everything, ascending. Where nothing was kept for a while, one point is all null',
      }),
      action: Type.Array(orNull(enumOf(ACTIONS)), { description: 'The worst of each point; of the node asked about' }),
      series: Type.Array(ref(HistorySeriesSchema), {
        maxItems: 500,
        description: 'Of the node asked about, or of the only one there is; else empty. The nearest to their limits',
      }),
      seriesTotal: Type.Integer(),
      margins: Type.Array(
        Type.Object({
          node: Type.String(),
          min: cells('The worst margin of each point: 1 far, 0 at the limit'),
          worst: Type.Object({ at: epochMs('When it was'), marginRatio: Type.Number() }),
        }),
        { maxItems: 100, description: 'Of the nodes that came nearest to a limit, the worst first' },
      ),
      nodesTotal: Type.Integer({ description: 'Nodes with figures in the range' }),
      spans: Type.Array(
        Type.Object({
          state: enumOf(['tripped', 'cooling']),
          node: orNull(Type.String({ description: 'null: everything' })),
          tripId: Type.Optional(Type.String()),
          reason: Type.Optional(Type.String()),
          from: epochMs('Since'),
          to: orNull(epochMs('Until; null: it is on')),
        }),
        { maxItems: 500, description: 'When the interlock was not clear; the newest' },
      ),
      events: Type.Array(
        Type.Object({
          at: timestamp('Wall clock'),
          ...eventFields,
        }),
        { maxItems: 500, description: 'The newest, the oldest of them first' },
      ),
      eventsTotal: Type.Integer(),
    },
    { description: 'What was, on at most 1,000 points' },
  ),
);

export const HistoryStatusSchema = component(
  'HistoryStatus',
  Type.Object({
    state: enumOf(['off', 'ok', 'failing'], 'failing costs history, and never safety'),
    detail: Type.String(),
    sizeBytes: Type.Integer(),
    maxBytes: Type.Integer(),
    keepSeconds: Type.Number(),
    keptFrom: orNull(timestamp('The oldest figures there are')),
    lost: Type.Integer({ description: 'Evaluations and events that were not kept, since the start' }),
  }),
);

export const HISTORY_COMPONENTS = [HistorySeriesSchema, HistorySchema, HistoryStatusSchema] as const;
