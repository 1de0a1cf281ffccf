// The series of the body before: found again where they stood, where others went or came, and told apart where they only
// begin alike. That a body read with a memory says what it says without one is tried by chance in exposition-fuzz.
import t from 'tap';
import { parseExposition } from '../../src/sources/exposition.ts';
import type { Labels } from '../../src/sources/scrape.ts';
import { SeriesMemory } from '../../src/sources/series-memory.ts';

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
});
