// The series of the body before: found again where they stood, where others went or came, and told apart where they only
// begin alike. That a body read with a memory says what it says without one is tried by chance in exposition-fuzz.
import t from 'tap';
import { parseExposition } from '../../src/sources/exposition.ts';
import type { Labels } from '../../src/sources/scrape.ts';
import { type KnownSeries, SeriesMemory } from '../../src/sources/series-memory.ts';

const line = (card: number, value: string): string => `temp{gpu="${card}",UUID="GPU-${card}"} ${value}\n`;

/** Labels of a body's samples by value, read after `before` with one memory. */
function readAfter(before: string, body: string): { before: readonly Labels[]; after: readonly Labels[] } {
  const memory = new SeriesMemory();
  const options = { format: 'text', wanted: new Set(['temp']), isComplete: true, memory } as const;
  const labelsOf = (text: string): Labels[] =>
    (parseExposition(Buffer.from(text), options).samples.get('temp') ?? []).map(({ labels }) => labels);
  return { before: labelsOf(before), after: labelsOf(body) };
}

t.test('SeriesMemory gives a series the labels that it had, the same object', async (t) => {
  const { before, after } = readAfter(line(0, '40') + line(1, '41'), line(0, '42') + line(1, '43'));
  t.equal(before.length, 2);
  t.equal(after[0], before[0]);
  t.equal(after[1], before[1]);
});

t.test('SeriesMemory finds those behind one that has gone, and behind one that came', async (t) => {
  const bodyOf = (...cards: readonly number[]): string => cards.map((card) => line(card, '40')).join('');
  const fewer = readAfter(bodyOf(10, 11, 12), bodyOf(10, 12));
  t.equal(fewer.after[1], fewer.before[2]);
  const more = readAfter(bodyOf(20, 22), bodyOf(20, 21, 22));
  t.equal(more.after[2], more.before[1]);
  t.equal(more.after[1]?.['gpu'], '21');
  const gone = (count: number): boolean => {
    const cards = Array.from({ length: count + 2 }, (_, card) => 30 + card);
    const { before, after } = readAfter(bodyOf(...cards), bodyOf(30, 30 + count + 1));
    return after[1] === before[count + 1];
  };
  t.ok(gone(8));
  t.notOk(gone(9), 'no further is looked');
});

t.test('SeriesMemory takes no series for another one that begins alike', async (t) => {
  const { after } = readAfter('temp{gpu="1"} 5\ntemp 6\n', 'temp{gpu="1",part="2"} 5\ntemp {gpu="3"} 6\n');
  t.same(
    after.map((labels) => ({ ...labels })),
    [{ gpu: '1', part: '2' }, { gpu: '3' }],
  );
});

t.test('SeriesMemory has what all targets tell alike once', async (t) => {
  const [one, other] = [readAfter(line(7, '40'), ''), readAfter(line(7, '41'), line(7, '42'))];
  t.equal(other.after[0], one.before[0]);
  const both = line(8, '40') + line(9, '40');
  const [first, second] = [readAfter(both, ''), readAfter(both, both)];
  t.equal(second.after[0], first.before[0]);
  t.equal(second.after[1], first.before[1]);
});

t.test('SeriesMemory keeps 65,536 series for others, and then begins anew', async (t) => {
  const seriesOf = (pod: number): KnownSeries => ({
    head: `pods{pod="${pod}"}`,
    name: 'pods',
    labels: { pod: `${pod}` },
  });
  const labelsOf = (series: KnownSeries): Labels | undefined => {
    const memory = new SeriesMemory();
    memory.learn(series);
    memory.endOfBody();
    return memory.recall(`${series.head} 1`, 0)?.labels;
  };
  const first = seriesOf(-1);
  labelsOf(first);
  t.equal(labelsOf(seriesOf(-1)), first.labels, 'the one that was there');
  const crowd = new SeriesMemory();
  for (let pod = 0; pod < 65_536; pod += 1) crowd.learn(seriesOf(pod));
  const again = seriesOf(-1);
  t.equal(labelsOf(again), again.labels, 'it is forgotten');
});

t.test('SeriesMemory never hides that the value of a series cannot be read, or is cut off', async (t) => {
  const memory = new SeriesMemory();
  const parse = (body: string, isComplete = true) =>
    parseExposition(Buffer.from(body), { format: 'text', wanted: new Set(['temp']), isComplete, memory });
  parse(line(0, '40'));
  const garbage = parse(line(0, 'hot') + line(1, '41'));
  t.match(garbage.rejected, [{ name: 'temp', labels: { gpu: '0' } }]);
  t.equal(garbage.sampleCount, 1);
  parse(line(0, '40'));
  const cut = parse(line(0, '97').slice(0, -2), false);
  t.equal(cut.sampleCount, 0, '9 of 97');
  t.match(cut.rejected, [{ labels: { gpu: '0' } }]);
});

t.test('SeriesMemory takes no bytes beyond ASCII for the characters that they would be alone', async (t) => {
  const { after } = readAfter('temp{pod="Ã©"} 1\n', 'temp{pod="é"} 2\n');
  t.equal(after[0]?.['pod'], 'é');
});
