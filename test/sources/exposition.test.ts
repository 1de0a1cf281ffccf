import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import t from 'tap';
import { systemClock } from '../../src/clock.ts';
import { type ExpositionFormat, expositionFormat, parseExposition } from '../../src/sources/exposition.ts';
import { type BodyCase, OPENMETRICS_CASES, TEXT_CASES, told } from '../fixtures/expositions.ts';

interface Reading {
  readonly format?: ExpositionFormat;
  readonly wanted?: readonly string[] | null;
  readonly isComplete?: boolean;
}

const read = (body: string | Buffer, { format = 'text', wanted = null, isComplete = true }: Reading = {}) =>
  parseExposition(Buffer.from(body), { format, wanted: wanted && new Set(wanted), isComplete });

const TEMPERATURE = 'DCGM_FI_DEV_GPU_TEMP';
const FIRST = 'GPU-5a3c0d61-0000-4000-8000-000000000001';
const SECOND = 'GPU-5a3c0d61-0000-4000-8000-000000000002';
const rejectedLine = (line: string, reading: Reading = {}) =>
  read(`${line}\n`, { wanted: [TEMPERATURE], ...reading }).rejected[0];

for (const [format, cases] of Object.entries({ text: TEXT_CASES, openmetrics: OPENMETRICS_CASES } satisfies Record<
  ExpositionFormat,
  readonly BodyCase[]
>) as [ExpositionFormat, readonly BodyCase[]][])
  t.test(`parseExposition() of ${format}`, (t) => {
    for (const { rule, body, reads, rejects = [], cutOff = null } of cases) {
      const exposition = read(body, { format });
      t.strictSame(told(exposition), { reads, rejects, cutOff }, rule);
      t.equal(exposition.sampleCount, reads.length, `${rule}: counted`);
      t.equal(exposition.rejectedCount, rejects.length, `${rule}: rejected lines counted`);
    }
    t.end();
  });

t.test('parseExposition() takes a value as a whole: what only begins or ends like a number is none', (t) => {
  for (const [text, value] of [
    ['.55', 0.55],
    ['-.125e2', -12.5],
    ['+7.', 7],
    ['infinity', Infinity],
  ] as const) {
    t.equal(read(`a ${text}\n`).samples.get('a')?.[0]?.value, value, text);
  }
  for (const text of ['xinf', '1inf', 'infx', 'infinityx', 'nanx', 'xnan', '.', '1e', '1.5x', 'x1.5']) {
    t.strictSame(told(read(`a ${text}\n`)), { reads: [], rejects: [`1: "${text}" is no number`], cutOff: null }, text);
  }
  t.end();
});

t.test('parseExposition() reads wanted names only, each as a whole, and counts no line of others', (t) => {
  const body = [
    'up 1',
    'upper 2',
    'up_total 3',
    'up{x="1"} 4',
    'start_time 2026-01-05T04:58:04',
    'not{a metric',
    'up_created 5',
    '{"up",y="2"} 6',
    '{"upper"} 7',
    '{"upper"} bad',
    '{nonsense} 8',
    'up bad',
    '',
  ].join('\n');
  const exposition = read(body, { wanted: ['up', 'absent'] });
  t.strictSame(told(exposition).reads, ['up 1', 'up{"x":"1"} 4', 'up{"y":"2"} 6']);
  t.strictSame([...exposition.samples.keys()], ['up'], 'a wanted name without samples is absent, not empty');
  t.strictSame(told(exposition).rejects, ['12: "bad" is no number']);
  t.equal(exposition.rejectedCount, 1);
  t.equal(exposition.sampleCount, 3);
  t.equal(read('-up 1\nup 2\n', { wanted: ['up'] }).rejectedCount, 0, 'a first line without a name');
  t.equal(read('-up 1\nup 2\n').rejectedCount, 1, 'which is told where all are read');
  t.end();
});

t.test('parseExposition() reads the labels of each line, whatever stood in the line before', (t) => {
  const lines = [
    'gpu="0",pod="a"',
    'gpu_uuid="1",pod="b"',
    'gp="2",po="c"',
    'pod="d",gpu="3"',
    'pod ="e" ,gpu = "4"',
    '',
  ];
  const body = lines.map((labels) => `x{${labels}} 1\n`).join('');
  t.strictSame(told(read(body)).reads, [
    'x{"gpu":"0","pod":"a"} 1',
    'x{"gpu_uuid":"1","pod":"b"} 1',
    'x{"gp":"2","po":"c"} 1',
    'x{"pod":"d","gpu":"3"} 1',
    'x{"pod":"e","gpu":"4"} 1',
    'x 1',
  ]);
  const faulty = ['9="0"', '9="0"', '="0"', '="0"', 'a:b="0"', 'a:b="0"', 'a="0",a="1"', 'a="0",a="1"'];
  t.equal(
    read(faulty.map((labels) => `x{${labels}} 1\n`).join('')).rejectedCount,
    faulty.length,
    'a fault twice is one twice',
  );
  t.end();
});

t.test(
  'parseExposition() lists each labels of a listing family once, in whatever order, and rejects none of it',
  (t) => {
    const listed = (body: string, wanted: readonly string[] | null = ['temp']) =>
      parseExposition(Buffer.from(body), {
        format: 'text',
        wanted: wanted && new Set(wanted),
        isListing: (name) => name.startsWith('l_'),
        isComplete: false,
      });
    const names = (body: string): string[] => listed(body).listed.map(({ name, labels }) => `${name} ${labels['c']}`);
    const family = (name: string, cards: string): string =>
      [...cards].map((card) => `l_${name}{c="${card}"} ${name}\n`).join('');
    t.same(names(family('1', 'ABC') + family('2', 'ABC') + family('3', 'AC') + family('4', 'CBA')), [
      'l_1 A',
      'l_1 B',
      'l_1 C',
    ]);
    t.same(names(family('1', 'AC') + family('2', 'ABC') + family('3', 'D') + family('4', 'ABCDE')), [
      'l_1 A',
      'l_1 C',
      'l_2 B',
      'l_3 D',
      'l_4 E',
    ]);
    t.same(names('temp{c="A"} 1\nl_1{c="A"} 1\nother{c="B"} 1\ntemp{c="C"} x\n'), ['l_1 A']);
    t.same(names('l_1{c="A",d="1"} 1\nl_2{c="A"} 1\nl_2{c="A",d="1"} 1\n'), ['l_1 A', 'l_2 A']);
    t.same(
      names('l_1{c="\u00e9"} 1\nl_1{c="\u00e9"} 1\n'),
      ['l_1 \u00e9', 'l_1 \u00e9'],
      'what is not ASCII each time',
    );
    t.same(names('l_1{c="A",d="x" 1\nl_2{c="A",d=} 1\n{"l_3",c="B"} 1\nl_4 1\n l_5 {c="A"} x\n'), [
      'l_1 A',
      'l_2 A',
      'l_3 B',
      'l_4 undefined',
      'l_5 A',
    ]);
    const odd = listed('l_1{c="A",d="x y\nl_2{c="A"} not a number\nl_3 {\n');
    t.same([odd.rejectedCount, odd.sampleCount, odd.cutOff], [0, 0, null]);
    t.same(listed(family('1', 'A'), null).listed, [], 'where all is read, nothing is only listed');
    t.same(listed(`${family('1', 'A')}l_2{c="B"} 1`).listed.length, 1, 'of a line that is cut nothing is known');
    const many = listed(Array.from({ length: 60_000 }, (_, card) => `l_1{c="${card}"} 1\n`).join(''));
    t.same([many.listed.length, many.cutOff], [10_000, null]);
    t.end();
  },
);

t.test('parseExposition() never takes x_created or x_total for x', (t) => {
  const body = '# TYPE x counter\nx_total 3\nx_created 1520872607.123\n# EOF\n';
  t.strictSame(told(read(body, { format: 'openmetrics', wanted: ['x'] })).reads, []);
  t.strictSame(told(read(body, { format: 'openmetrics', wanted: ['x_total'] })).reads, ['x_total 3']);
  t.end();
});

t.test('parseExposition() tells whose value a rejected line is', (t) => {
  const labels = `gpu="0",UUID="${FIRST}",modelName="RTX {rev}A}"`;
  const whole = { gpu: '0', UUID: FIRST, modelName: 'RTX {rev}A}' };
  for (const end of ['', ' ', ' ERROR - FAILED TO CONVERT TO STRING', ' 71 x', ' 71 # {} 1']) {
    const rejected = rejectedLine(`${TEMPERATURE}{${labels}}${end}`);
    t.same(rejected?.labels, whole, `all labels before "${end}"`);
    t.equal(rejected?.name, TEMPERATURE);
    t.equal(rejected?.line, 1);
  }
  t.same(rejectedLine(`${TEMPERATURE} hot`)?.labels, {}, 'none, and known to be none');
  t.equal(rejectedLine(`${TEMPERATURE}{"other"} 1`)?.labels, null);
  t.end();
});

t.test('parseExposition() gives of labels with a fault among them only the certain ones', (t) => {
  const labelsOf = (braces: string | Buffer) =>
    rejectedLine(`${TEMPERATURE}{${braces.toString('latin1')}} 71`)?.labels ?? null;
  t.same(
    labelsOf(`gpu="0",UUID="${FIRST}",pci="21"device="nvidia0"`),
    { gpu: '0', UUID: FIRST },
    'before a lost comma',
  );
  t.same(labelsOf(`UUID="${FIRST}",pod="a"b"`), { UUID: FIRST }, 'before an unescaped quote');
  t.equal(labelsOf(`UUID="${FIRST}" gpu="0"`), null, 'a value without its comma may be half a value');
  t.equal(labelsOf(`UUID="${FIRST}",gpu="0",UUID="${SECOND}"`), null, 'which of two is nobody knows');
  t.equal(labelsOf(`UUID="${FIRST}`), null);
  const broken = Buffer.from(`${TEMPERATURE}{UUID="GPU-\xff",gpu="0"} 71\n`, 'latin1');
  t.same(read(broken, { wanted: [TEMPERATURE] }).rejected[0]?.labels, { gpu: '0' }, 'no value with a broken byte');
  const alone = Buffer.from(`${TEMPERATURE}{UUID="GPU-\xff"} 71\n`, 'latin1');
  t.equal(read(alone, { wanted: [TEMPERATURE] }).rejected[0]?.labels, null);
  t.end();
});

t.test('parseExposition() shows a rejected line in at most 120 printable characters', (t) => {
  t.equal(rejectedLine(`  ${TEMPERATURE}{pod="a\u001b[31m\u0007b"} hot\r`)?.text, `${TEMPERATURE}{pod="a [31m b"} hot`);
  const long = rejectedLine(`${TEMPERATURE}{pod="${'p'.repeat(9_000)}"} hot`);
  t.equal(long?.text.length, 120);
  t.equal(long?.reason, '"hot" is no number');
  t.equal(read('a hot\nb 1\n').rejected[0]?.text, 'a hot', 'nothing of the next line');
  t.ok((rejectedLine(`${TEMPERATURE} ${'z'.repeat(9_000)}`)?.reason.length ?? 999) < 80, 'its reason is short, too');
  t.end();
});

t.test('parseExposition() does not trust the last line of a body that broke off', (t) => {
  const cut = (body: string, reading: Reading = {}) => read(body, { isComplete: false, ...reading });
  t.strictSame(told(cut('a 1\nb 27')), {
    reads: ['a 1'],
    rejects: ['2: the body ends inside this line'],
    cutOff: 'the body ends inside line 2',
  });
  t.strictSame(
    told(cut('a 1\nb 2\n')),
    { reads: ['a 1', 'b 2'], rejects: [], cutOff: null },
    'all of its lines are whole',
  );
  t.strictSame(told(cut('a 1\n# HELP b wor')).cutOff, 'the body ends inside line 2');
  t.same(cut(`a 1\n${TEMPERATURE}{UUID="${FIRST}",gpu="0"} 8`).rejected[0]?.labels, { UUID: FIRST, gpu: '0' });
  t.same(cut(`${TEMPERATURE}{gpu="0",UUID="GPU-5a`).rejected[0]?.labels, { gpu: '0' }, 'half a UUID is none');
  t.strictSame(told(cut('a 1\nnode_cpu', { wanted: ['node_cpu'] })).rejects, [], 'half a name is no name');
  t.strictSame(told(cut('a 1\nnode_cpu 1', { wanted: ['node_cpu'] })).rejects, ['2: the body ends inside this line']);
  t.equal(cut('a 1\n# EOF', { format: 'openmetrics' }).cutOff, null, '# EOF is an end');
  t.equal(cut('a 1\n# EO', { format: 'openmetrics' }).cutOff, 'the body ends inside line 2');
  t.end();
});

t.test('parseExposition() takes no line over 64 KiB, and no more than 128 labels', (t) => {
  const ofBytes = (bytes: number) => `a{x="${'x'.repeat(bytes - 'a{x=""} 1'.length)}"} 1\n`;
  t.equal(read(ofBytes(65_536)).sampleCount, 1);
  t.strictSame(told(read(`${ofBytes(65_537)}b 1\n`)), {
    reads: ['b 1'],
    rejects: ['1: longer than 65536 bytes'],
    cutOff: null,
  });
  const [long] = read(ofBytes(65_537), { wanted: ['a'] }).rejected;
  t.equal(long?.name, 'a');
  t.equal(long?.labels, null, 'it may be any of them');
  t.equal(read(ofBytes(65_537), { wanted: ['b'] }).rejectedCount, 0, 'not of a name that is read');
  const quoted = ofBytes(70_000).replace('a{', '{"a",');
  t.equal(read(quoted, { wanted: ['a'] }).rejectedCount, 0, 'its name is not known');
  t.strictSame(told(read(quoted)).rejects, ['1: longer than 65536 bytes']);

  const ofLabels = (count: number) =>
    `a{${Array.from({ length: count }, (_, index) => `l${index}="v"`).join(',')}} 1\n`;
  t.equal(read(ofLabels(128)).sampleCount, 1);
  t.strictSame(told(read(ofLabels(129))).rejects, ['1: more than 128 labels']);
  t.end();
});

t.test('parseExposition() keeps the first 50 rejected lines, and counts all', (t) => {
  const exposition = read('a bad\n'.repeat(70));
  t.equal(exposition.rejected.length, 50);
  t.equal(exposition.rejected[49]?.line, 50);
  t.equal(exposition.rejectedCount, 70);
  t.end();
});

t.test('parseExposition() reads at most 50,000 wanted lines, and calls a body with more cut off', (t) => {
  t.equal(read('a 1\n'.repeat(50_000), { wanted: ['a'] }).cutOff, null);
  const more = read('a 1\n'.repeat(50_001), { wanted: ['a'] });
  t.match(more.cutOff, /^more than 50000 lines/);
  t.equal(more.sampleCount, 50_000);
  t.equal(read('a 1\n'.repeat(50_001)).cutOff, null, 'for people more are read');
  t.end();
});

t.test('parseExposition() reads at most 200,000 of all lines, and calls a body with more cut off', (t) => {
  const whole = read('a 1\n'.repeat(200_000));
  t.equal(whole.sampleCount, 200_000);
  t.equal(whole.cutOff, null);
  const more = read('a 1\n'.repeat(200_001));
  t.equal(more.sampleCount, 200_000);
  t.match(more.cutOff, /^more than 200000 lines/);
  t.equal(read('a 1\n'.repeat(200_001), { wanted: ['b'] }).cutOff, null, 'lines that are not read do not count');
  t.ok(read('{\n'.repeat(200_001), { wanted: ['b'] }).cutOff, 'lines whose name must be looked for do');
  t.end();
});

t.test('parseExposition() gives no part of a body that keeps all of it in memory', async (t) => {
  // V8 keeps the whole of a long string for a part of it: one UUID kept of each of 30 bodies would be 60 MB.
  setFlagsFromString('--expose-gc');
  const collectGarbage: () => void = runInNewContext('gc');
  // What a collection found dead of buffers is given back by another thread, a little later: the least of a few looks.
  const heldBytes = async (): Promise<number> => {
    const looks: number[] = [];
    for (let look = 0; look < 5; look++) {
      collectGarbage();
      await systemClock.sleep(20);
      const { heapUsed, external } = process.memoryUsage();
      looks.push(heapUsed + external);
    }
    return Math.min(...looks);
  };
  const unread = 'other{x="y"} 1\n'.repeat(2_000_000 / 15);
  const tooLong = `${TEMPERATURE} ${'7'.repeat(70_000)}\n`;
  const before = await heldBytes();
  const kept = Array.from({ length: 30 }, () => {
    const { samples, rejected } = read(
      `${unread}${tooLong}${TEMPERATURE}{UUID="${FIRST}"} 71\n${TEMPERATURE}{UUID="${SECOND}"}\n`,
      {
        wanted: [TEMPERATURE],
      },
    );
    return [samples, rejected];
  });
  const heldMb = ((await heldBytes()) - before) / 1e6;
  t.ok(heldMb < 10, `${heldMb.toFixed(1)} MB are held`);
  t.equal(kept.length, 30);
});

t.test('expositionFormat() takes text of any version, and OpenMetrics', (t) => {
  for (const type of [
    'text/plain; version=0.0.4; charset=utf-8',
    'text/plain; charset=utf-8',
    'text/plain',
    'Text/Plain;version=1.0.0;escaping=allow-utf-8',
    'text/plain ; charset=utf-8',
    '',
    undefined,
  ])
    t.strictSame(expositionFormat(type), { ok: true, format: 'text' }, `${type}`);
  for (const type of ['application/openmetrics-text; version=1.0.0; charset=utf-8', 'application/openmetrics-text'])
    t.strictSame(expositionFormat(type), { ok: true, format: 'openmetrics' }, type);
  t.end();
});

t.test('expositionFormat() refuses everything else in words', (t) => {
  const detailOf = (type: string) => {
    const format = expositionFormat(type);
    return format.ok ? 'taken' : format.detail;
  };
  t.equal(
    detailOf('text/html; charset=utf-8'),
    'Content-Type "text/html": a web page (a login, a proxy, an error), not metrics',
  );
  t.equal(
    detailOf('application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited'),
    'Content-Type "application/vnd.google.protobuf": protobuf, which was not asked for',
  );
  t.equal(detailOf('application/json'), 'Content-Type "application/json": JSON, not metrics');
  t.match(detailOf('text/plain2'), /neither text\/plain nor application\/openmetrics-text$/);
  t.ok(detailOf(`x/${'y'.repeat(5_000)}`).length < 250, 'however long it is');
  t.end();
});
