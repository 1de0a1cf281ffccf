// What a caller asks of a start, from a body or a query: intensity, nodes, limits of its own. Limits are parsed before
// the schema looks, because only the parser can say which key, which value and which rule.
import type { FastifyRequest } from 'fastify';
import Type, { type Static } from 'typebox';
import { parseConstraints } from '../domain/constraints.ts';
import type { StartRequest } from '../domain/events.ts';
import { Problem, shown } from './problem.ts';
import { ConstraintsInputSchema, ref } from './schemas.ts';

/** A DNS name fits, and so does the longest host name there is. */
export const NodeNameSchema = Type.String({ minLength: 1, maxLength: 253 });
export const NodesSchema = Type.Array(NodeNameSchema, { minItems: 1, maxItems: 1000, uniqueItems: true });
export const IntensitySchema = Type.Number({
  exclusiveMinimum: 0,
  maximum: 1,
  description: 'Share of full load; left out: the profile’s maximum',
});

/** The fields that a preflight and a lease have in common. */
export const startFields = {
  intensity: Type.Optional(IntensitySchema),
  nodes: Type.Optional(NodesSchema),
  constraints: Type.Optional(ref(ConstraintsInputSchema)),
};
export const StartBodySchema = Type.Object(startFields, { additionalProperties: false });

/** A plain decimal over 0 and at most 1: no sign, no exponent, no hex. */
const DECIMAL = '^(?:0\\.\\d{0,17}[1-9]\\d{0,17}|1(?:\\.0{1,17})?)$';

const Name = { minLength: 1, maxLength: 25_000 };
export const StartQuerySchema = Type.Object(
  {
    intensity: Type.Optional(Type.String({ pattern: DECIMAL, description: 'A plain decimal over 0 and at most 1' })),
    nodes: Type.Optional(
      Type.Union([Type.String(Name), Type.Array(Type.String(Name))], {
        description: 'Names separated by commas, or the parameter repeated; left out: all nodes',
      }),
    ),
    constraints: Type.Optional(Type.String({ description: 'A profile’s name, or limits as JSON' })),
  },
  { additionalProperties: false },
);

const MOST_PROBLEMS = 20;

/** The request of a body that fits {@link StartBodySchema}. */
export function startOfBody(body: Static<typeof StartBodySchema>): StartRequest {
  return {
    intensity: body.intensity ?? null,
    nodes: body.nodes ?? null,
    ...constraintsOf(body.constraints),
  };
}

/** The request of a query that fits {@link StartQuerySchema}. */
export function startOfQuery(query: Static<typeof StartQuerySchema>): StartRequest {
  return {
    intensity: query.intensity === undefined ? null : Number(query.intensity),
    nodes: nodesOfQuery(query.nodes),
    ...constraintsOf(constraintsText(query.constraints)),
  };
}

/** Node names in a query; `null` for none. */
export function nodesOfQuery(value: string | readonly string[] | undefined): readonly string[] | null {
  if (value === undefined) return null;
  const names = [value].flat().flatMap((text) => text.split(','));
  const isFine = names.length <= 1000 && names.every((name) => name.length > 0 && name.length <= 253);
  if (!isFine) {
    throw new Problem(
      'invalid-request',
      `Cannot read nodes ${shown(value)}: it must be 1 to 1000 names, separated by commas`,
    );
  }
  return [...new Set(names)];
}

function constraintsText(text: string | undefined): unknown {
  if (text === undefined || !text.trimStart().startsWith('{')) return text;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function constraintsOf(input: unknown): Pick<StartRequest, 'constraints' | 'constraintKeys'> {
  if (input === undefined) return { constraints: null, constraintKeys: [] };
  const parsed = parseConstraints(input);
  if (parsed.ok) return { constraints: parsed.constraints, constraintKeys: parsed.given };
  const problems = parsed.problems.slice(0, MOST_PROBLEMS).map(({ key, value, rule }) => ({
    key: key.slice(0, 200),
    value: shown(value),
    rule,
  }));
  const told = problems.map(({ key, value, rule }) => `${key} ${value} ${rule}`.trim());
  throw new Problem('constraints-invalid', `Cannot take constraints: ${told.join('; ')}`, { problems });
}

/** Runs before the schema does: a left out body is an empty one, and limits are refused with all that is wrong. */
export async function prepareBody(request: FastifyRequest): Promise<void> {
  request.body ??= {};
  const { body } = request;
  if (typeof body === 'object' && body !== null && 'constraints' in body) constraintsOf(body.constraints);
}
