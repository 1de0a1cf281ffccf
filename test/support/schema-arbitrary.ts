// Values for a schema of the OpenAPI document: mostly as it says, at its bounds and just over them, and now and then
// something else altogether. Only what our schemas use is understood; the rest comes out as anything.
import * as fc from 'fast-check';

type Json = Record<string, unknown>;

const isObject = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Texts that have broken parsers, logs and terminals before. */
export const nastyText = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 40 }),
  fc.string({ unit: 'grapheme', maxLength: 40 }),
  fc.constantFrom(
    '',
    ' ',
    '\0',
    '\u202e\u2066',
    '\ud800',
    '__proto__',
    'constructor',
    '../../etc/passwd',
    '%00',
    '%zz',
    '-1',
    '1e999',
    'NaN',
    '0x10',
    "' OR 1=1",
    '%s%n$1',
    '<script>',
    '\r\nx: y',
    'x'.repeat(3_000),
    '🔥'.repeat(300),
  ),
);
const nastyNumber = fc.oneof(
  fc.double(),
  fc.integer(),
  fc.constantFrom(0, -0, -1, 1, 0.1, 1e308, -1e308, 5e-324, Number.MAX_SAFE_INTEGER + 2, 2 ** 63),
);
/** Anything that JSON can say, with names that are dangerous in JavaScript. */
export const anyJson: fc.Arbitrary<unknown> = fc.oneof(
  nastyText,
  nastyNumber,
  fc.constantFrom(null, true, false, [], {}),
  fc.jsonValue({ maxDepth: 4 }),
  fc.dictionary(fc.constantFrom('__proto__', 'constructor', 'toString', 'nodes', 'x'), fc.jsonValue({ maxDepth: 2 }), {
    maxKeys: 4,
  }),
  fc.integer({ min: 1, max: 3_000 }).map((depth) => JSON.parse('['.repeat(depth) + ']'.repeat(depth)) as unknown),
);

/** Values for schemas of one document. */
export class SchemaArbitrary {
  readonly #document: Json;

  constructor(document: unknown) {
    this.#document = document as Json;
  }

  /** One in eight is anything, at every depth. */
  of(schema: unknown, depth = 0): fc.Arbitrary<unknown> {
    if (!isObject(schema) || depth > 6) return anyJson;
    return fc.oneof({ weight: 7, arbitrary: this.#fitting(schema, depth) }, { weight: 1, arbitrary: anyJson });
  }

  #fitting(schema: Json, depth: number): fc.Arbitrary<unknown> {
    const { $ref, anyOf, type, properties, items, pattern } = schema;
    if (typeof $ref === 'string') return this.of(this.#resolve($ref), depth + 1);
    if (Array.isArray(schema['enum'])) return fc.constantFrom(...(schema['enum'] as unknown[]));
    if ('const' in schema) return fc.constant(schema['const']);
    if (Array.isArray(anyOf)) return fc.oneof(...anyOf.map((one) => this.of(one, depth + 1)));
    switch (type) {
      case 'string':
        return typeof pattern === 'string' ? fc.oneof(matching(pattern), nastyText) : nastyText;
      case 'number':
      case 'integer':
        return numberFor(schema);
      case 'boolean':
        return fc.boolean();
      case 'array': {
        const maxLength = Math.min(Number(schema['maxItems'] ?? 5), 5);
        return fc.array(this.of(items, depth + 1), { maxLength });
      }
      case 'object': {
        const fields = isObject(properties) ? properties : {};
        const model = Object.fromEntries(Object.entries(fields).map(([name, one]) => [name, this.of(one, depth + 1)]));
        const known = fc.record(model, { requiredKeys: [] });
        const extra = fc.dictionary(nastyText, anyJson, { maxKeys: 2 });
        return fc.oneof(
          { weight: 3, arbitrary: fc.record(model) },
          { weight: 3, arbitrary: known },
          { weight: 1, arbitrary: fc.tuple(known, extra).map(([one, other]) => ({ ...one, ...other })) },
        );
      }
      default:
        return anyJson;
    }
  }

  #resolve($ref: string): unknown {
    return $ref
      .slice(2)
      .split('/')
      .reduce<unknown>((value, step) => (isObject(value) ? value[step] : undefined), this.#document);
  }
}

/** At its bounds, on both sides of them, and between. */
function numberFor(schema: Json): fc.Arbitrary<number> {
  const bounds = ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum'].flatMap((name) => {
    const bound = schema[name];
    return typeof bound === 'number' ? [bound, bound - 1, bound + 1, bound * (1 + 1e-12)] : [];
  });
  const between = fc.double({ min: 0, max: 1, noNaN: true }).map((share) => {
    const [from = 0, to = 1] = [schema['minimum'] ?? schema['exclusiveMinimum'], schema['maximum']] as number[];
    return from + share * (to - from);
  });
  return fc.oneof(between, nastyNumber, ...(bounds.length > 0 ? [fc.constantFrom(...bounds)] : []));
}

/** Some patterns use what fast-check cannot read; then anything does. */
function matching(pattern: string): fc.Arbitrary<string> {
  try {
    return fc.stringMatching(new RegExp(pattern));
  } catch {
    return nastyText;
  }
}
