import t from 'tap';
import { ageText, limitText, paintFor, printable, tableOf, valueText } from '../../src/cli/layout.ts';

const plain = (text: string): string => text;

t.test('tableOf() aligns columns by their longest cell and leaves no blanks at the end', async (t) => {
  t.same(
    tableOf(
      [
        ['a', 'bb', ''],
        ['ccc', 'd', 'e'],
        ['', '', ''],
      ],
      plain,
    ),
    ['  a    bb', '  ccc  d   e', ''],
  );
});

t.test('tableOf() paints a cell without moving its column', async (t) => {
  const painted = tableOf(
    [
      [{ text: 'a', colour: 'red' }, 'b'],
      ['ccc', 'd'],
    ],
    (text, colour) => `<${colour}>${text}</>`,
  );
  t.same(painted, ['  <red>a  </>  b', '  ccc  d']);
});

t.test('printable() leaves nothing that moves a cursor, breaks a line or turns the direction of text', async (t) => {
  t.equal(printable('a\u001b[31mb\u0007\u009bc'), 'a?[31mb??c');
  t.equal(printable('one\n  two\r\nthree'), 'one two three');
  t.equal(printable('a\u202eb'), 'a?b');
  t.equal(printable('85 °C, “naïve”'), '85 °C, “naïve”');
});

t.test('paintFor() paints only for a terminal without NO_COLOR', async (t) => {
  const paints = (isTTY: boolean, env: Record<string, string>): boolean =>
    paintFor({ stdout: { write: () => undefined, isTTY }, env })('x', 'red') !== 'x';
  t.equal(paints(true, {}), true);
  t.equal(paints(true, { NO_COLOR: '' }), true, 'set and empty does not count');
  t.equal(paints(true, { NO_COLOR: '1' }), false);
  t.equal(paints(true, { TERM: 'dumb' }), false);
  t.equal(paints(false, {}), false);
});

t.test('ageText() gives two units at most', async (t) => {
  const cases = [
    [null, 'never'],
    [0, '0.0 s'],
    [9.94, '9.9 s'],
    [9.96, '10 s'],
    [59.4, '59 s'],
    [59.6, '1 min'],
    [200, '3 min 20 s'],
    [3600, '1 h'],
    [18_130, '5 h 2 min'],
    [190_800, '2 d 5 h'],
  ] as const;
  for (const [seconds, text] of cases) t.equal(ageText(seconds), text);
});

t.test('valueText() and limitText() give shares as per cent', async (t) => {
  t.equal(valueText(0.1234, 'ratio'), '12.3 %');
  t.equal(valueText(84.96, '°C'), '85.0 °C');
  t.equal(valueText(230.4, 'W'), '230 W');
  t.equal(limitText(0.855, 'ratio'), '85.5 %');
  t.equal(limitText(0.29, 'ratio'), '29 %');
  t.equal(limitText(85, '°C'), '85 °C');
  t.equal(limitText(undefined, 'W'), '');
});
