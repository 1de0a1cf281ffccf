// The words that all answers are made of, as JSON schemas: verdicts, limits, leases, problems, and the tools to write
// such words with.
import Type, { type Static, type TSchema, type TUnsafe } from 'typebox';
import { LEASE_OUTCOMES } from '../domain/lease.ts';
import { ACTIONS, FINDING_CODES, FINDING_LEVELS } from '../domain/result.ts';
import { PROBLEM_CODES } from './problem.ts';

/** A value of a schema that nobody may change; what the domain hands out. */
export type Told<S extends TSchema> = DeepReadonly<Static<S>>;
type DeepReadonly<T> = T extends readonly (infer Item)[]
  ? readonly DeepReadonly<Item>[]
  : T extends object
    ? { readonly [Key in keyof T]: DeepReadonly<T[Key]> }
    : T;

/** A reference to a component, typed as what it refers to; a schema used directly would be written out again. */
export function ref<S extends TSchema & { readonly $id: string }>(schema: S): TUnsafe<Told<S>> {
  return Type.Unsafe<Told<S>>(Type.Ref(schema.$id));
}

/** A component: a schema with a name. */
export function component<Name extends string, S extends TSchema>($id: Name, schema: S): S & { readonly $id: Name } {
  return Object.assign(schema, { $id });
}

export const enumOf = <const Values extends readonly string[]>(values: Values, description?: string) =>
  Type.Unsafe<Values[number]>({ type: 'string', enum: [...values], ...(description !== undefined && { description }) });
export const orNull = <S extends TSchema>(schema: S) => Type.Union([schema, Type.Null()]);
/** A map from names to values. */
export const mapOf = <S extends TSchema>(schema: S) =>
  Type.Unsafe<Record<string, Static<S>>>({ type: 'object', additionalProperties: schema });
export const timestamp = (description: string) => Type.String({ format: 'date-time', description });

const units = { '°C': '°C', W: 'W', ratio: 'a share from 0 to 1' };
export const UnitSchema = enumOf(['°C', 'W', 'ratio'], Object.values(units).join(', '));
export const QuantitySchema = enumOf(['temperature', 'power', 'memory', 'utilization', 'total-power', 'intensity']);
export const InterlockStateSchema = enumOf(['clear', 'cooling', 'tripped']);
export const ActionSchema = component('Action', enumOf(ACTIONS, 'In ascending order; the worst finding decides'));

export const ScopeSchema = component(
  'Scope',
  Type.Union([
    Type.Object({ kind: Type.Literal('all') }),
    Type.Object({ kind: Type.Literal('nodes'), nodes: Type.Array(Type.String()) }),
  ]),
);

export const FindingSchema = component(
  'Finding',
  Type.Object(
    {
      code: enumOf(FINDING_CODES),
      level: enumOf(FINDING_LEVELS),
      node: Type.Optional(Type.String()),
      component: enumOf(['gpu', 'cpu', 'memory', 'system', 'workload', 'interlock', 'actuator', 'monitor']),
      id: Type.Optional(Type.String()),
      quantity: Type.Optional(QuantitySchema),
      value: Type.Optional(Type.Number()),
      unit: Type.Optional(UnitSchema),
      limit: Type.Optional(Type.Number()),
      action: ref(ActionSchema),
      message: Type.String(),
      waitSeconds: Type.Optional(Type.Number()),
    },
    { description: 'One constraint warned of, broken, or impossible to judge, with its numbers' },
  ),
);

export const UnprotectedSchema = component(
  'Unprotected',
  Type.Object(
    {
      code: enumOf([
        'waived',
        'ignored',
        'not-measured',
        'no-actuator',
        'no-deny-rule',
        'may-be-raised',
        'constraint-ignored',
      ]),
      node: Type.Optional(Type.String()),
      id: Type.Optional(Type.String()),
      name: Type.Optional(Type.String({ description: 'Waiver, requirement or constraint' })),
      message: Type.String(),
    },
    { description: 'Something that nothing protects' },
  ),
);

export const InterlockSchema = component(
  'Interlock',
  Type.Object({
    state: InterlockStateSchema,
    tripId: Type.Optional(Type.String({ description: 'The trip of everything, else the first of the nodes covered' })),
    nodes: mapOf(InterlockStateSchema),
  }),
);

export const SafetyResultSchema = component(
  'SafetyResult',
  Type.Object({
    safe: Type.Boolean({ description: 'True for PROCEED alone' }),
    action: ref(ActionSchema),
    reason: Type.String(),
    scope: ref(ScopeSchema),
    findings: Type.Array(ref(FindingSchema), { maxItems: 100, description: 'The 100 worst, worst first' }),
    findingsTotal: Type.Integer({ minimum: 0 }),
    unprotected: Type.Array(ref(UnprotectedSchema), { maxItems: 100 }),
    waitSeconds: Type.Optional(Type.Number({ minimum: 0 })),
    intensityFactor: Type.Optional(Type.Number()),
    intensityCap: Type.Optional(Type.Number()),
    suggestedPowerCapW: Type.Optional(Type.Number()),
    interlock: ref(InterlockSchema),
    simulated: Type.Optional(Type.Literal(true, { description: 'Judged from a simulated rig' })),
    sequence: Type.Integer({ minimum: 0 }),
    evaluatedAt: timestamp('Wall clock'),
    profile: Type.String(),
    constraintsDigest: Type.String(),
  }),
);

const over = (maximum: number) => Type.Number({ exclusiveMinimum: 0, maximum });
const share = Type.Number({ exclusiveMinimum: 0, exclusiveMaximum: 1 });
const limits = (maximum: number) => Type.Object({ warning: over(maximum), hardStop: over(maximum) });
const max = Type.Object({ max: share });

export const ConstraintsSchema = component(
  'Constraints',
  Type.Object({
    gpu: Type.Object({ temperatureC: limits(110), powerW: limits(1500), memoryRatio: max }),
    cpu: Type.Object({ temperatureC: limits(110), utilizationRatio: max }),
    system: Type.Object({ powerW: limits(20_000), memoryRatio: max }),
    workload: Type.Object({ intensityRatio: max }),
  }),
);

const closed = { additionalProperties: false };
const someLimits = (maximum: number) =>
  Type.Optional(Type.Object({ warning: Type.Optional(over(maximum)), hardStop: Type.Optional(over(maximum)) }, closed));
const someMax = Type.Optional(Type.Object({ max: Type.Optional(share) }, closed));

export const ConstraintsInputSchema = component(
  'ConstraintsInput',
  Type.Union(
    [
      enumOf(['default', 'bizon1']),
      Type.Object(
        {
          extends: Type.Optional(enumOf(['default', 'bizon1'])),
          gpu: Type.Optional(
            Type.Object({ temperatureC: someLimits(110), powerW: someLimits(1500), memoryRatio: someMax }, closed),
          ),
          cpu: Type.Optional(Type.Object({ temperatureC: someLimits(110), utilizationRatio: someMax }, closed)),
          system: Type.Optional(Type.Object({ powerW: someLimits(20_000), memoryRatio: someMax }, closed)),
          workload: Type.Optional(Type.Object({ intensityRatio: someMax }, closed)),
        },
        closed,
      ),
    ],
    { description: 'Limits of one’s own: per cell the stricter applies, a looser one is ignored and named' },
  ),
);

const ProcessGroupSchema = Type.Object({
  pgid: Type.Integer(),
  startTicks: Type.Integer({ description: 'The leader’s start time in clock ticks since boot' }),
});

export const LeaseSchema = component(
  'Lease',
  Type.Object({
    id: Type.String(),
    workload: Type.String(),
    identity: Type.String({ description: 'Who holds it: `local`, or `token:` and the start of the token’s SHA-256' }),
    nodes: orNull(Type.Array(Type.String(), { description: 'null: all, for judging' })),
    gpus: orNull(Type.Array(Type.String())),
    intensity: Type.Number(),
    intensityCap: Type.Number({ description: 'What may be used now: half of the intensity while it is reduced' }),
    ttlSeconds: Type.Number(),
    maxDurationSeconds: orNull(Type.Number()),
    processGroup: orNull(ProcessGroupSchema),
    grantedAt: timestamp('Wall clock'),
    expiresAt: orNull(timestamp('Without a renewal; null right after a restart, until the first evaluation')),
    endsAt: orNull(timestamp('At the latest, renewed or not')),
    simulated: Type.Boolean(),
  }),
);

export const LeaseAnswerSchema = component(
  'LeaseAnswer',
  Type.Object({ lease: ref(LeaseSchema), result: ref(SafetyResultSchema) }),
);
export const RefusedLeaseSchema = component('RefusedLease', Type.Object({ result: ref(SafetyResultSchema) }));

export const ProblemSchema = component(
  'Problem',
  Type.Object(
    {
      type: Type.String(),
      title: Type.String(),
      status: Type.Integer(),
      detail: Type.String({ description: 'Deed, value and limit' }),
      code: enumOf(PROBLEM_CODES, 'Never changes its meaning'),
      outcome: Type.Optional(enumOf(LEASE_OUTCOMES, 'With `lease-ended`')),
      reason: Type.Optional(Type.String({ description: 'With `lease-ended`' })),
      still: Type.Optional(Type.Array(Type.String(), { description: 'With `reset-refused`: what is still wrong' })),
      active: Type.Optional(Type.Array(Type.String(), { description: 'With `trip-unknown`: the trips there are' })),
      nodes: Type.Optional(Type.Array(Type.String(), { description: 'With `unknown-node`' })),
      known: Type.Optional(Type.Array(Type.String(), { description: 'With `unknown-gpu`: the GPUs there are' })),
      reasons: Type.Optional(Type.Array(Type.String(), { description: 'With `not-ready` and `stalled`' })),
      problems: Type.Optional(
        Type.Array(Type.Object({ key: Type.String(), value: Type.String(), rule: Type.String() }), {
          description: 'With `constraints-invalid`',
        }),
      ),
    },
    { description: 'RFC 9457 problem details' },
  ),
);

/** A response with a body of the given type; its description stands beside it in the document. */
export const json = <S extends TSchema>(schema: S, description: string) => ({
  description,
  content: { 'application/json': { schema } },
});
/** The header of a response that says when to ask again. */
export const retryAfter = { 'retry-after': { type: 'integer', description: 'Seconds' } } as const;

/** A response that is a problem. */
export const problems = (description: string) => ({
  description,
  content: { 'application/problem+json': { schema: ref(ProblemSchema) } },
});

export const BASE_COMPONENTS = [
  ActionSchema,
  ScopeSchema,
  FindingSchema,
  UnprotectedSchema,
  InterlockSchema,
  SafetyResultSchema,
  ConstraintsSchema,
  ConstraintsInputSchema,
  LeaseSchema,
  LeaseAnswerSchema,
  RefusedLeaseSchema,
  ProblemSchema,
] as const;
