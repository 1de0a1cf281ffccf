// The messages of the WebSocket, as JSON schemas.
import Type, { type TSchema } from 'typebox';
import { EVENT_NAMES } from '../domain/events.ts';
import { LEASE_OUTCOMES } from '../domain/lease.ts';
import {
  component,
  enumOf,
  InterlockSchema,
  orNull,
  QuantitySchema,
  ref,
  SafetyResultSchema,
  timestamp,
  UnitSchema,
} from './base-schemas.ts';
import { StopReportSchema } from './stop-schemas.ts';

/** What is told of an event, now and by the history. */
export const eventFields = {
  name: enumOf(EVENT_NAMES),
  node: Type.Optional(Type.String()),
  leaseId: Type.Optional(Type.String()),
  tripId: Type.Optional(Type.String()),
  message: Type.String(),
  by: Type.Optional(Type.String()),
  outcome: Type.Optional(enumOf(LEASE_OUTCOMES)),
};

const WorstMarginSchema = Type.Object({
  node: Type.String(),
  component: enumOf(['gpu', 'cpu', 'memory', 'system']),
  id: Type.Optional(Type.String()),
  quantity: QuantitySchema,
  value: Type.Number(),
  unit: UnitSchema,
  limit: Type.Number(),
  marginRatio: Type.Number({ description: 'Distance to the limit as a share of it: 1 far, 0 at it' }),
});

const EvaluationSchema = component(
  'Evaluation',
  Type.Object({ ...SafetyResultSchema.properties, worstMargins: Type.Array(WorstMarginSchema) }),
);

const envelope = <const Kind extends string, S extends TSchema>(type: Kind, data: S) =>
  Type.Object({
    type: Type.Literal(type),
    instance: Type.String(),
    sequence: Type.Integer(),
    at: timestamp('Wall clock'),
    data,
  });

export const MessageSchema = component(
  'Message',
  Type.Union([
    envelope(
      'hello',
      Type.Object({
        oldest: orNull(Type.Integer({ description: 'What can be replayed' })),
        newest: orNull(Type.Integer()),
        interlock: ref(InterlockSchema),
        gap: Type.Boolean({ description: 'A replay was asked for and is not whole' }),
      }),
    ),
    envelope('evaluation', ref(EvaluationSchema)),
    envelope(
      'event',
      Type.Object({
        ...eventFields,
        report: Type.Optional(ref(StopReportSchema)),
        tookOver: Type.Optional(Type.Array(Type.String(), { description: 'Trips that the new one covers' })),
      }),
    ),
  ]),
);

export const STREAM_COMPONENTS = [EvaluationSchema, MessageSchema] as const;
