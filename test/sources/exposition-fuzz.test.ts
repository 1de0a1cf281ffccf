// Random bodies: nothing throws, what was rendered is read back, and what is cut off never yields another number.
import * as fc from 'fast-check';
import t from 'tap';
import { type Exposition, type ExpositionFormat, parseExposition } from '../../src/sources/exposition.ts';
import { SeriesMemory } from '../../src/sources/series-memory.ts';
import { fuzz, garbled as garbledBytes } from '../support/fuzz.ts';

const FORMATS: readonly ExpositionFormat[] = ['text', 'openmetrics'];
const format = fc.constantFrom(...FORMATS);

interface RandomSample {
  readonly name: string;
  readonly labels: ReadonlyMap<string, string>;
  readonly value: number;
  readonly timestampMs: number | null;
}

const bareName = fc.stringMatching(/^[a-zA-Z_:][a-zA-Z0-9_:]{0,20}$/);
const bareKey = fc.stringMatching(/^[a-zA-Z_][a-zA-Z0-9_]{0,12}$/);
const anyText = fc.string({ unit: 'grapheme', maxLength: 12 });
const nastyText = fc
  .array(
    fc.constantFrom('\\', '"', '\n', '{', '}', ',', '=', ' ', '#', '\t', '\r', 'n', '\\n', '\0', '\ufffd', 'é', '😀'),
    {
      maxLength: 10,
    },
  )
  .map((parts) => parts.join(''));
const labelText = fc.oneof(anyText, nastyText);
const isKey = (key: string): boolean => key !== '' && key !== '__name__';
const key = fc.oneof({ weight: 4, arbitrary: bareKey }, { weight: 1, arbitrary: labelText }).filter(isKey);
const name = fc.oneof(
  { weight: 4, arbitrary: bareName },
  { weight: 1, arbitrary: labelText.filter((text) => text !== '') },
);
const sample: fc.Arbitrary<RandomSample> = fc.record({
  name,
  labels: fc.array(fc.tuple(key, labelText), { maxLength: 6 }).map((pairs) => new Map(pairs)),
  value: fc.oneof(fc.double(), fc.integer(), fc.constantFrom(Number.NaN, Infinity, -Infinity, 2 ** 63)),
  timestampMs: fc.option(fc.integer({ min: -1_000, max: 4e12 })),
});
const registry = fc.array(sample, { maxLength: 12 });

const quoted = (text: string): string =>
  `"${text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')}"`;
const numberText = (value: number): string =>
  Object.is(value, -0)
    ? '-0'
    : Number.isFinite(value)
      ? `${value}`
      : Number.isNaN(value)
        ? 'NaN'
        : value > 0
          ? '+Inf'
          : '-Inf';

/** As an exporter would write it: by the format's own rules, and nothing that this reader alone takes. */
function lineOf({ name, labels, value, timestampMs }: RandomSample, format: ExpositionFormat): string {
  const isBare = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/.test(name);
  const pairs = [...labels].map(
    ([key, text]) => `${/^[a-zA-Z_][a-zA-Z0-9_]*$/.test(key) ? key : quoted(key)}=${quoted(text)}`,
  );
  const inside = (isBare ? pairs : [quoted(name), ...pairs]).join(',');
  const head = `${isBare ? name : ''}${inside === '' ? '' : `{${inside}}`}`;
  const stamp = timestampMs === null ? '' : ` ${format === 'text' ? timestampMs : timestampMs / 1_000}`;
  return `${head} ${numberText(value)}${stamp}\n`;
}

const render = (samples: readonly RandomSample[], format: ExpositionFormat): Buffer =>
  Buffer.from(
    samples.map((sample) => `# HELP x {"} \\\n${lineOf(sample, format)}`).join('') +
      (format === 'text' ? '' : '# EOF\n'),
  );

type Series = readonly [series: string, number: string];
const seriesOf = (name: string, labels: Iterable<readonly [string, string]>): string =>
  JSON.stringify([name, [...labels].sort(([a], [b]) => (a < b ? -1 : 1))]);
const numbersOf = (value: number, timestampMs: number | null): string =>
  `${Object.is(value, -0) ? '-0' : value} @${timestampMs === null ? null : timestampMs + 0}`;
const seriesRead = ({ samples }: Exposition): Series[] =>
  [...samples.values()]
    .flat()
    .map(({ name, labels, value, timestampMs }) => [
      seriesOf(name, Object.entries(labels)),
      numbersOf(value, timestampMs),
    ]);
const seriesWritten = (samples: readonly RandomSample[]): Series[] =>
  samples.map(({ name, labels, value, timestampMs }) => [seriesOf(name, labels), numbersOf(value, timestampMs)]);
/** One text for each series with its number, sorted: the order of names is not part of the answer. */
const asSet = (series: readonly Series[]): string[] => series.map((one) => one.join(' ')).sort();

t.test('parseExposition() reads back every registry that was rendered', async () => {
  fc.assert(
    fc.property(registry, format, (samples, format) => {
      const exposition = parseExposition(render(samples, format), { format, wanted: null, isComplete: true });
      const { rejected, cutOff, sampleCount } = exposition;
      const found = JSON.stringify([asSet(seriesRead(exposition)), rejected, cutOff, sampleCount]);
      const due = JSON.stringify([asSet(seriesWritten(samples)), [], null, samples.length]);
      if (found !== due) throw new Error(`read    ${found}\nwritten ${due}`);
    }),
    fuzz(800),
  );
});

t.test('parseExposition() reads of wanted names the same as when it reads all', async () => {
  fc.assert(
    fc.property(registry, format, fc.infiniteStream(fc.boolean()), (samples, format, isWanted) => {
      const wanted = new Set(samples.map(({ name }) => name).filter(() => isWanted.next().value === true));
      const exposition = parseExposition(render(samples, format), { format, wanted, isComplete: true });
      const due = seriesWritten(samples.filter(({ name }) => wanted.has(name)));
      return JSON.stringify(asSet(seriesRead(exposition))) === JSON.stringify(asSet(due));
    }),
    fuzz(500),
  );
});

t.test('parseExposition() of a body that broke off gives no number that the whole body does not have', async () => {
  fc.assert(
    fc.property(registry, format, fc.double({ min: 0, max: 1, noNaN: true }), (samples, format, share) => {
      const whole = render(samples, format);
      const part = whole.subarray(0, Math.floor(whole.length * share));
      const exposition = parseExposition(part, { format, wanted: null, isComplete: false });
      const due = new Set(asSet(seriesWritten(samples)));
      const isWhole =
        part.length === whole.length || (format === 'text' && (part.length === 0 || part.at(-1) === 0x0a));
      // Up to the newline after # EOF, OpenMetrics is whole, too.
      const isEnded = format === 'openmetrics' && part.length >= whole.length - 1;
      return (
        asSet(seriesRead(exposition)).every((one) => due.has(one)) &&
        (exposition.cutOff === null) === (isWhole || isEnded)
      );
    }),
    fuzz(800),
  );
});

t.test('parseExposition() reads the same with a memory of the bodies before as without', async () => {
  const everything = ({ samples, ...rest }: Exposition): string =>
    JSON.stringify([...samples], (_, value) => (typeof value === 'number' ? numbersOf(value, null) : value)) +
    JSON.stringify(rest);
  // Of few series, so that they come again: moved, gone, broken, in another order.
  const bodies = fc.tuple(fc.array(sample, { minLength: 1, maxLength: 8 }), format).chain(([pool, format]) => {
    const again = fc.tuple(fc.constantFrom(...pool), sample).map(([{ name, labels }, { value, timestampMs }]) => {
      return { name, labels, value, timestampMs };
    });
    const body = fc.array(again, { maxLength: 12 }).map((samples) => render(samples, format));
    const text = fc.array(fc.oneof({ weight: 3, arbitrary: body }, garbledBytes(body)), { minLength: 2, maxLength: 6 });
    return fc.tuple(text, fc.constant(format), fc.constant(pool.map(({ name }) => name)), fc.boolean());
  });
  fc.assert(
    fc.property(bodies, fc.boolean(), ([texts, format, names, isAll], isComplete) => {
      const options = { format, isComplete, wanted: isAll ? null : new Set(names.slice(1)) };
      const memory = new SeriesMemory();
      for (const body of texts) {
        const [found, due] = [parseExposition(body, { ...options, memory }), parseExposition(body, options)];
        if (everything(found) !== everything(due)) throw new Error(`${everything(found)}\n${everything(due)}`);
      }
    }),
    fuzz(800),
  );
});

t.test('parseExposition() does not throw, and counts what it gives, whatever the bytes are', async () => {
  const bytes = fc.uint8Array({ maxLength: 300 }).map((array) => Buffer.from(array));
  const garbled = fc
    .tuple(registry, format, fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 5 }))
    .map(([samples, format, changes]) => {
      const body = render(samples, format);
      for (const [place, byte] of changes) if (body.length > 0) body[place % body.length] = byte;
      return body;
    });
  const syntax = fc
    .array(
      fc.constantFrom(
        'a',
        'b',
        '{',
        '}',
        '"',
        ',',
        '=',
        '\\',
        ' ',
        '\n',
        '#',
        '1',
        '.',
        '-',
        '# EOF',
        'NaN',
        '\r',
        '\xff',
      ),
    )
    .map((parts) => Buffer.from(parts.join(''), 'latin1'));
  fc.assert(
    fc.property(
      fc.oneof(bytes, garbled, syntax),
      format,
      fc.boolean(),
      fc.boolean(),
      (body, format, isComplete, isAll) => {
        const wanted = isAll ? null : new Set(['a', 'b']);
        const { samples, sampleCount, rejected, rejectedCount } = parseExposition(body, { format, wanted, isComplete });
        const lines = body.filter((byte) => byte === 0x0a).length + 1;
        const given = [...samples.values()].flat();
        return (
          sampleCount === given.length &&
          [...samples].every(([name, list]) => list.length > 0 && list.every((sample) => sample.name === name)) &&
          given.every(({ name, value }) => name !== '' && typeof value === 'number' && (isAll || wanted?.has(name))) &&
          rejected.length === Math.min(rejectedCount, 50) &&
          rejected.every(
            ({ text, reason, line }) => text.length <= 120 && reason !== '' && line >= 1 && line <= lines,
          ) &&
          sampleCount + rejectedCount <= lines
        );
      },
    ),
    fuzz(2_000),
  );
});

// Lines of 60 KB took minutes where a pattern tried all ways to halve a number, or each label looked to the line's end.
t.test('parseExposition() takes time in proportion to the body, however hostile', { timeout: 60_000 }, (t) => {
  // Enough to hang where time grows with the square of it.
  const MANY = 200_000;
  const bodies: Record<string, string> = {
    'one line of 2 MB': `a{x="${'x'.repeat(10 * MANY)}"} 1\n`,
    'many labels': `a{${'x="1",'.repeat(MANY)}} 1\n`,
    'many labels of as many names': `a{${Array.from({ length: MANY }, (_, index) => `l${index}="1"`).join(',')}} 1\n`,
    'lines of 60 KB with backslashes at the end': `a{${'x="1",'.repeat(9_000)}y="\\\\\n`.repeat(30),
    'lines of 60 KB of quotes': `a{x=${'"'.repeat(60_000)}\n`.repeat(30),
    'lines of 60 KB of escapes': `a{x="${'\\'.repeat(60_000)}\n`.repeat(30),
    'lines of 60 KB of digits': `a ${'0'.repeat(60_000)}1e1 ${'9'.repeat(200)}\n`.repeat(30),
    'lines of 60 KB of digits and a letter': `a ${'1'.repeat(60_000)}x\n`.repeat(30),
    'blanks only': ' \t'.repeat(5 * MANY),
    'newlines only': '\n'.repeat(10 * MANY),
    'a brace per line': '{\n'.repeat(2 * MANY),
    'names of 60 KB': `${'n'.repeat(60_000)} 1\n`.repeat(30),
    'a new name per line': Array.from({ length: 50_000 }, (_, index) => `n${index} 1\n`).join(''),
    'a name that is the beginning of the next': Array.from({ length: 1_500 }, (_, i) => `${'n'.repeat(i)} 1\n`).join(
      '',
    ),
    'ends without end': '# EOF'.repeat(MANY),
  };
  for (const [what, body] of Object.entries(bodies))
    for (const wanted of [null, new Set(['a'])])
      for (const format of FORMATS) {
        const exposition = parseExposition(Buffer.from(body), { format, wanted, isComplete: true });
        t.ok(
          exposition.sampleCount + exposition.rejectedCount <= 2 * MANY,
          `${what}, ${format}, ${wanted ? 'a' : 'all'}`,
        );
      }
  t.end();
});
