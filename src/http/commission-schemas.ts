// The words of a commissioning report as JSON schemas: what a client hands in, with bounds on everything, and what is
// kept and told of it.
import Type from 'typebox';
import { COMMISSION_STEPS, COMMISSION_VERDICTS, STEP_VERDICTS } from '../domain/commission.ts';
import { component, enumOf, mapOf, timestamp } from './base-schemas.ts';

const closed = { additionalProperties: false };
const text = (maxLength: number, description?: string) =>
  Type.String({ maxLength, ...(description !== undefined && { description }) });

const TableSchema = Type.Object(
  {
    title: text(100),
    head: Type.Array(text(100), { maxItems: 12 }),
    rows: Type.Array(Type.Array(text(300), { maxItems: 12 }), { maxItems: 300 }),
  },
  closed,
);

const StepSchema = Type.Object(
  {
    id: enumOf(COMMISSION_STEPS),
    title: text(100),
    verdict: enumOf(
      STEP_VERDICTS,
      '`skipped` was left out, and `summary` says why; `not-applicable`: there is nothing to be tried here',
    ),
    summary: text(1_000),
    notes: Type.Array(
      Type.Object(
        {
          level: enumOf(['fail', 'warning', 'note']),
          text: text(1_000),
          remedy: Type.Optional(text(1_000, 'What would resolve it')),
        },
        closed,
      ),
      { maxItems: 200 },
    ),
    tables: Type.Array(TableSchema, { maxItems: 6 }),
    figures: Type.Unsafe<Record<string, number>>({
      ...mapOf(Type.Number()),
      maxProperties: 50,
      propertyNames: { maxLength: 100 },
      description: 'What was measured; the unit comes last in the name',
    }),
    tookSeconds: Type.Number({ minimum: 0, maximum: 1e6 }),
  },
  closed,
);

const handedIn = {
  verdict: enumOf(COMMISSION_VERDICTS, 'As the steps say: one that fails rejects'),
  operator: Type.String({ minLength: 1, maxLength: 200, pattern: '\\S', description: 'The person who ran the test' }),
  host: text(253, 'Where it was run'),
  clientVersion: text(50),
  startedAt: timestamp('The client’s wall clock'),
  finishedAt: timestamp('The client’s wall clock'),
  profile: text(50),
  constraintsDigest: text(100, 'Of the limits that were in force at its start'),
  nodes: Type.Array(text(253), { maxItems: 300, description: 'The first of those that were tested' }),
  nodesTotal: Type.Integer({ minimum: 0 }),
  steps: Type.Array(StepSchema, { minItems: 1, maxItems: 20 }),
};

export const CommissionInputSchema = component(
  'CommissionInput',
  Type.Object(handedIn, { ...closed, description: 'What a commissioning test found, as handed in' }),
);

export const CommissionReportSchema = component(
  'CommissionReport',
  Type.Object(
    {
      name: Type.String({ description: 'Of its files in the state folder, without `.json` or `.md`' }),
      at: timestamp('When it was handed in, by this service’s clock'),
      by: Type.String({ description: 'The identity that handed it in' }),
      version: Type.String({ description: 'Of the service' }),
      instance: Type.String(),
      simulated: Type.Boolean(),
      gpus: Type.Array(Type.String(), { description: '`node/id` of every card that was judged then' }),
      ...handedIn,
    },
    { description: 'A commissioning report as it is kept' },
  ),
);

export const CommissionStatusSchema = component(
  'CommissionStatus',
  Type.Object(
    {
      name: Type.String(),
      at: timestamp('When it was handed in'),
      verdict: enumOf(COMMISSION_VERDICTS),
      by: Type.String(),
      operator: Type.String(),
      constraintsDigest: Type.String(),
      simulated: Type.Boolean(),
      isCurrent: Type.Boolean({ description: 'It speaks of the limits and cards that there are now' }),
      outdated: Type.Array(Type.String(), { description: 'Why it is not current' }),
    },
    { description: 'The last commissioning report; all of it is at `GET /commission`' },
  ),
);

export const COMMISSION_COMPONENTS = [CommissionInputSchema, CommissionReportSchema, CommissionStatusSchema] as const;
