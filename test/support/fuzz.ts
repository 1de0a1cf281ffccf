// How much is tried by chance, and from which seed: in one place, for every test that uses fast-check. FUZZ_RUNS=50 does fifty
// times as much, FUZZ_SEED=7 begins elsewhere (FUZZ_SEED=random anywhere); a failure prints its seed and path.
import * as fc from 'fast-check';

const FACTOR = Number(process.env['FUZZ_RUNS'] ?? 1);
const ASKED_SEED = process.env['FUZZ_SEED'];
const SEED = 20_260_101;

/** Parameters of `fc.assert` for so many runs, which a test can afford each time. */
export function fuzz<T = unknown>(runs: number, seed = SEED): fc.Parameters<T> {
  const asked = ASKED_SEED === undefined ? seed : Number(ASKED_SEED);
  return { numRuns: Math.ceil(runs * FACTOR), ...(Number.isFinite(asked) && { seed: asked }) };
}

/** Time for so much, ms: what a test takes at most when nobody asks for more, times as much as is asked for. */
export const fuzzTimeoutMs = (ms: number): number => ms * Math.max(1, FACTOR);

/** What becomes of bytes that are cut in two at some place, with others at hand. */
const WOUNDS = {
  change: (before: Buffer, after: Buffer, other: Uint8Array) => [before, other, after.subarray(other.length)],
  lose: (before: Buffer, after: Buffer, other: Uint8Array) => [before, after.subarray(other.length)],
  double: (before: Buffer, after: Buffer, other: Uint8Array) => [before, after.subarray(0, 4 * other.length), after],
  put: (before: Buffer, after: Buffer, other: Uint8Array) => [before, other, after],
  cut: (before: Buffer) => [before],
} as const;

/** What a bad disk, cable or pen makes of bytes: some changed, some lost, some doubled, some put in. */
export const garbled = (good: fc.Arbitrary<Buffer>): fc.Arbitrary<Buffer> => {
  const wound = fc.record({
    how: fc.constantFrom(...(Object.keys(WOUNDS) as (keyof typeof WOUNDS)[])),
    at: fc.double({ min: 0, max: 1, noNaN: true }),
    other: fc.oneof(
      fc.uint8Array({ minLength: 1, maxLength: 12 }),
      fc.constantFrom('\n', '\0', ',', ': ', '- ', '"', '{', '9', '[N/A]').map((text) => Buffer.from(text)),
    ),
  });
  return fc.tuple(good, fc.array(wound, { minLength: 1, maxLength: 4 })).map(([bytes, wounds]) =>
    wounds.reduce<Buffer>((body, { how, at, other }) => {
      const place = Math.floor(at * body.length);
      return Buffer.concat(WOUNDS[how](body.subarray(0, place), body.subarray(place), other));
    }, bytes),
  );
};

/** `value` with one of its parts, the `pick`th in order, replaced by `junk`, or left out where that is `undefined`. */
export function broken(value: unknown, pick: number, junk: unknown): unknown {
  let left = pick % Math.max(1, countOf(value));
  const walk = (part: unknown): unknown => {
    if (left-- === 0) return junk;
    if (Array.isArray(part)) return part.map(walk).filter((one) => one !== undefined);
    if (typeof part !== 'object' || part === null) return part;
    const fields = Object.entries(part).map(([name, one]) => [name, walk(one)] as const);
    return Object.fromEntries(fields.filter(([, one]) => one !== undefined));
  };
  return walk(value);
}

const countOf = (value: unknown): number =>
  1 +
  (typeof value === 'object' && value !== null
    ? Object.values(value).reduce<number>((sum, one) => sum + countOf(one), 0)
    : 0);
