import t, { type Test } from 'tap';
import { axisLines, plotLines } from '../../src/cli/plot.ts';
import { standInService, vsfSafety } from '../support/command-line.ts';

const AT = Date.UTC(2026, 0, 1, 12);
const ESCAPE = '\u001b';
const ID = 'GPU-5f5f0000-0000-4000-8000-000000000002';
const OTHER = 'GPU-7b1f0000-0000-4000-8000-000000000003';

function card(id: string, max: readonly (number | null)[]) {
  return {
    node: 'bizon1',
    component: 'gpu',
    id,
    quantity: 'temperature',
    unit: '°C',
    limits: [{ from: AT, warning: 80, hardStop: 85 }],
    min: max,
    mean: max,
    max,
  };
}

const HISTORY = {
  from: new Date(AT).toISOString(),
  to: new Date(AT + 3_600_000).toISOString(),
  node: 'bizon1',
  simulated: false,
  stepSeconds: 10,
  keptFrom: new Date(AT).toISOString(),
  at: [AT, AT + 1_200_000, AT + 2_400_000, AT + 3_500_000],
  action: ['PROCEED', 'WAIT_COOLDOWN', 'ABORT', 'PROCEED'],
  series: [card(ID, [50, 81, 85.4, null]), card(OTHER, [40, 41, 42, 43])],
  seriesTotal: 2,
  margins: [{ node: 'bizon1', min: [0.4, 0.05, -0.005, 0.4], worst: { at: AT + 2_400_000, marginRatio: -0.005 } }],
  nodesTotal: 1,
  spans: [{ state: 'tripped', node: null, tripId: 't1', reason: 'too hot', from: AT + 2_400_000, to: null }],
  events: [{ at: new Date(AT + 2_400_000).toISOString(), name: 'tripped', message: 'Stopping everything' }],
  eventsTotal: 31,
  store: { state: 'ok', detail: '' },
};

const STATUS = { service: 'vsf-safety', nodes: [{ gpus: [{ id: ID, pciAddress: '0000:03:00.0' }] }] };

const serviceOf = (test: Test, history: unknown = HISTORY) =>
  standInService(test, ({ path }) => [200, path.startsWith('/status') ? STATUS : history]);

t.test('history off a terminal is a plain table: highest value, when, limits; then trips and events', async (t) => {
  const { url, asked } = await serviceOf(t);
  const { code, out, err } = await vsfSafety(['history', '--url', url, '--node', 'bizon1', '--from', '-2h']);
  t.equal(code, 0, err);
  t.equal(asked[0]?.path, '/history?from=-2h&to=now&node=bizon1', '-2h is a value and no option');
  t.match(out, /^bizon1, .* a point stands for 10 s$/m);
  t.match(out, /gpu 0000:03:00\.0 temperature +85\.4 °C OVER +\d\d:\d\d:\d\d +72\.1 °C +80 °C +85 °C/);
  t.match(out, /gpu GPU-7b1f0000 temperature +43\.0 °C/, 'a card whose slot nobody tells');
  t.match(out, /tripped +everything .* still on +too hot/);
  t.match(out, /30 earlier ones/);
  t.match(out, /tripped +Stopping everything/);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: none may be there
  t.notMatch(out, /[\u001b\u2801-\u28ff]/, 'no colour and no dots');
});

t.test(
  'history on a terminal plots with limits and marks, as wide as it is, and as a table where it is narrow',
  async (t) => {
    const { url } = await serviceOf(t);
    const argv = ['history', '--url', url];
    for (const columns of [200, 80, 50]) {
      const { out } = await vsfSafety(argv, { isTTY: true, columns, env: { NO_COLOR: '1' } });
      const plot = out.slice(out.indexOf('gpu temperature'), out.indexOf('READING')).split('\n');
      t.match(plot[0], /gpu temperature, 2 devices from lowest to highest {2}\(warning 80 °C, hard stop 85 °C\)/);
      t.ok(
        plot.slice(1).every((line) => [...line].length <= columns),
        `${columns} columns`,
      );
      t.match(out, /85 °C┤/);
      t.match(out, /█ tripped {2}▒ cooling/, 'marked by shape, not by colour alone');
      t.notOk(out.includes(ESCAPE));
    }
    const narrow = await vsfSafety(argv, { isTTY: true, columns: 40 });
    t.notMatch(narrow.out, /┤/);
    t.match(narrow.out, /READING/);
    t.ok((await vsfSafety(argv, { isTTY: true })).out.includes(`${ESCAPE}[31m`), 'coloured otherwise');
  },
);

t.test('history --gpu shows one card, by slot, UUID or the beginning of one, and names those there are', async (t) => {
  const { url } = await serviceOf(t);
  for (const gpu of ['0000:03:00.0', ID, 'gpu-5f5f']) {
    const { out } = await vsfSafety(['history', '--url', url, '--gpu', gpu]);
    t.match(out, /0000:03:00\.0 temperature/, gpu);
    t.notMatch(out, /GPU-7b1f/);
  }
  const both = await vsfSafety(['history', '--url', url, '--gpu', 'GPU']);
  t.equal(both.code, 1);
  t.match(both.err, /names 2 cards; there are: 0000:03:00\.0, GPU-7b1f/);
  t.match((await vsfSafety(['history', '--url', url, '--gpu', 'x'])).err, /is no card of then/);
});

t.test('history of several nodes shows the worst margins, and --gpu asks for a node', async (t) => {
  const margins = Array.from({ length: 100 }, (_, index) => ({ ...HISTORY.margins[0], node: `n${index}` }));
  const { url } = await serviceOf(t, { ...HISTORY, node: null, series: [], seriesTotal: 0, margins, nodesTotal: 250 });
  const { out } = await vsfSafety(['history', '--url', url], { isTTY: true, env: { NO_COLOR: '1' } });
  t.match(out, /250 nodes/);
  t.match(out, /worst margin of all nodes/);
  t.match(out, /n0 +-0\.5 % OVER/);
  t.match(out, /and 230 more nodes/);
  const refused = await vsfSafety(['history', '--url', url, '--gpu', ID]);
  t.equal(refused.code, 2);
  t.match(refused.err, /needs --node/);
});

t.test(
  'history says that nothing is there, that figures are lost, that a rig was simulated; --json prints all',
  async (t) => {
    const empty = {
      ...HISTORY,
      at: [],
      action: [],
      series: [],
      margins: [],
      nodesTotal: 0,
      spans: [],
      events: [],
      keptFrom: null,
    };
    const store = { state: 'failing', detail: 'disk I/O error' };
    const { url } = await serviceOf(t, { ...empty, node: null, simulated: true, store });
    const { code, out } = await vsfSafety(['history', '--url', url], { isTTY: true, env: { NO_COLOR: '1' } });
    t.equal(code, 0);
    t.match(out, /No figures in this time: nothing is kept yet/);
    t.match(out, /No events in this time/);
    t.match(out, /being LOST: disk I\/O error/);
    t.match(out, /SIMULATED/);
    const json = await vsfSafety(['history', '--url', url, '--json']);
    t.same(JSON.parse(json.out).store, store);
  },
);

t.test('history asks with this machine’s clock where a time has no zone', async (t) => {
  const { url, asked } = await serviceOf(t);
  await vsfSafety(['history', '--url', url, '--from', '2026-01-31T12:00', '--to', '2026-01-31T13:00:00Z']);
  const query = new URL(asked[0]?.path ?? '', url).searchParams;
  t.equal(Number(query.get('from')), new Date(2026, 0, 31, 12).getTime());
  t.equal(query.get('to'), '2026-01-31T13:00:00Z');
});

const FRAME = { fromMs: 0, toMs: 100, width: 10, height: 4 };
const plain = (text: string): string => text;

t.test('plotLines() draws a peak of one point however narrow, and a limit at its own height', async (t) => {
  const at = Array.from({ length: 100 }, (_, index) => index);
  const max = at.map((index) => (index === 55 ? 84 : 40));
  const limits = [{ name: 'hard stop', value: 85, colour: 'red' as const }];
  const [title, top = '', ...rest] = plotLines({ title: 'x', unit: '°C', at, min: max, max, limits }, FRAME, plain);
  t.equal(title, 'x  (hard stop 85 °C)');
  t.match(top, /^ {3}85 °C┤/);
  const dots = [...top.slice(top.indexOf('┤') + 1)];
  const limit = dots[0];
  t.equal(dots.length, 10);
  t.same(
    dots.flatMap((dot, index) => (dot === limit ? [] : [index])),
    [5],
    'the peak, and nothing else',
  );
  t.match(rest.at(-1), /│[⠀-⣿]{10}$/);
});

t.test('plotLines() leaves a hole where a reading is missing, and takes a line that never changes', async (t) => {
  const hole = {
    title: 'x',
    unit: 'W',
    at: [0, 30, 60, 90],
    min: [5, null, null, 5],
    max: [5, null, null, 5],
    limits: [],
  };
  const bottom = plotLines(hole, FRAME, plain).find((line) => /[⠁-⣿]/.test(line)) ?? '';
  t.match(bottom, /│[⠁-⣿] {8}[⠁-⣿]$/);
});

t.test('axisLines() marks what touches the frame, tripped over cooling, and nothing else', async (t) => {
  const spans = [
    { state: 'tripped', from: 50, to: 60 },
    { state: 'cooling', from: 40, to: null },
    { state: 'cooling', from: -50, to: -10 },
  ] as const;
  const [, bar] = axisLines(spans, FRAME, plain);
  t.equal(bar?.trim(), '▒██▒▒▒');
  t.notMatch(axisLines([], FRAME, plain).join('\n'), /tripped/);
});
