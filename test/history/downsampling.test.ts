import fc from 'fast-check';
import t from 'tap';
import { fromBytes, Joiner, type Stretch, toBytes } from '../../src/history/downsampling.ts';
import { fuzz } from '../support/fuzz.ts';

const moment = (...values: number[]): Stretch => {
  const all = Float32Array.from(values);
  return { ticks: 1, min: all, mean: all, max: all };
};

function join(stretches: readonly Stretch[], size: number): Stretch {
  const joiner = new Joiner(size);
  for (const stretch of stretches) joiner.add(stretch);
  return joiner.joined();
}

/** A number or a missing one, as single precision holds it. */
const reading = fc.oneof(
  { weight: 4, arbitrary: fc.float({ min: 0, max: 20_000, noNaN: true }) },
  fc.constant(Number.NaN),
);

t.test(
  'Joiner keeps the lowest and the highest of everything, however it is cut into stretches of stretches',
  async () => {
    fc.assert(
      fc.property(fc.array(reading, { minLength: 1, maxLength: 60 }), fc.integer({ min: 1, max: 9 }), (values, cut) => {
        const moments = values.map((value) => moment(value));
        const parts: Stretch[] = [];
        for (let from = 0; from < moments.length; from += cut) parts.push(join(moments.slice(from, from + cut), 1));
        const [{ min, max, mean, ticks }, there] = [join(parts, 1), values.filter((value) => !Number.isNaN(value))];
        if (ticks !== values.length) return false;
        if (there.length === 0) return [min[0], mean[0], max[0]].every(Number.isNaN);
        const within = (mean[0] ?? -1) >= (min[0] ?? 0) - 1e-2 && (mean[0] ?? -1) <= (max[0] ?? 0) + 1e-2;
        return min[0] === Math.min(...there) && max[0] === Math.max(...there) && within;
      }),
      fuzz(100),
    );
  },
);

t.test('Joiner weighs the mean by how many evaluations are in each stretch', async (t) => {
  const three = join([moment(10), moment(10), moment(10)], 1);
  t.equal(join([three, moment(50)], 1).mean[0], 20);
});

t.test('fromBytes() reads what toBytes() wrote, and nothing that is cut or of another layout', async (t) => {
  const joined = join([moment(1, Number.NaN), moment(3, 4)], 2);
  t.same(fromBytes(toBytes(joined), 2, 2), joined);
  t.same(fromBytes(toBytes(moment(7, 8)), 1, 2), moment(7, 8));
  t.equal(toBytes(moment(7, 8)).length, 8, 'a moment is its numbers alone');
  t.equal(fromBytes(toBytes(joined).subarray(1), 2, 2), null);
  t.equal(fromBytes(toBytes(joined), 2, 3), null);
});
