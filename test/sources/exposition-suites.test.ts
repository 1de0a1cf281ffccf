// What real parsers were seen to say of the same bodies, where their records are at hand: a Prometheus 2.42 and its
// client library, the OpenMetrics suite, and bodies as real exporters and libraries write them. Where this parser says
// something else, the reason stands here.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { type ExpositionFormat, expositionFormat, parseExposition } from '../../src/sources/exposition.ts';
import { told } from '../fixtures/expositions.ts';

const recording = (name: string): string => join(process.cwd(), '../shared/recordings', name);
const caseFile = (id: string): string => join(process.cwd(), '../shared/cases', `${id}.txt`);
const skipWithout = (path: string) => ({
  skip: existsSync(path) ? false : `needs ${path.slice(path.indexOf('shared'))}, which is not part of this repository`,
});
const jsonLines = <T>(path: string): T[] =>
  readFileSync(path, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as T);
const readAll = (body: Buffer, format: ExpositionFormat) =>
  parseExposition(body, { format, wanted: null, isComplete: true });

interface Verdict {
  readonly case: string;
  readonly content_type: string | null;
  /** Latin-1: a character per byte. */
  readonly body: string;
  readonly server: 'up' | 'down';
  readonly server_samples: readonly { name: string; labels: Record<string, string>; value: string }[];
}

const READ_HERE =
  'that server drops every sample of a target for one line; here a line costs itself, and what can have only one meaning is read';
const REJECTED_HERE = 'two meanings are possible, so the line is rejected and what it tells is missing';
const NOT_SHOWN = 'the server read the sample; its stamp is too old for the query that listed them';

/** Where this parser differs from the server: what it reads, and how many lines it rejects. */
const DIFFERENT: Readonly<Record<string, { why: string; reads: readonly string[]; rejects?: number }>> = {
  crlf: { why: READ_HERE, reads: ['a 1', 'b 2'] },
  crlf_comment_only: { why: READ_HERE, reads: ['a 1'] },
  leading_ws: { why: `${READ_HERE}; its library reads them`, reads: ['a 1', 'b 2', 'c 3'] },
  missing_comma: { why: `${REJECTED_HERE}; its library rejects it`, reads: [], rejects: 1 },
  raw_newline_in_label: { why: `${REJECTED_HERE}: a line is a line; its library rejects it`, reads: [], rejects: 2 },
  nan_inf: {
    why: READ_HERE,
    reads: ['a NaN', 'b Infinity', 'c -Infinity', 'd Infinity', 'e NaN', 'f Infinity', 'h Infinity'],
    rejects: 1,
  },
  ts_ms: { why: NOT_SHOWN, reads: ['a 1 @1395066363000'] },
  ts_neg: {
    why: 'its library reads it; a stamp before 1970 makes the sample stale, not unread',
    reads: ['a 1 @-1000'],
  },
  dup_same: {
    why: 'all are given; which of them counts is not the parser’s to say',
    reads: ['a{"x":"1"} 3', 'a{"x":"1"} 3'],
  },
  dup_diff: {
    why: 'the first may be the cooler one: the worse is chosen later',
    reads: ['a{"x":"1"} 3', 'a{"x":"1"} 4'],
  },
  type_unknown: { why: 'no type is read at all', reads: ['a 1'] },
  utf8_quoted: { why: 'that server is older than quoted names', reads: ['a.b{"x":"1"} 3'] },
  om_blank: { why: READ_HERE, reads: ['a 1'] },
  om_crlf: { why: READ_HERE, reads: ['a 1'] },
  om_ts_s: { why: NOT_SHOWN, reads: ['a 1 @1395066363123'] },
  om_counter_no_total: {
    why: 'the recorded list is empty though the scrape was taken; no type is read here',
    reads: ['a 1'],
  },
  om_unit_bad: { why: 'no unit is read at all', reads: ['a 1'] },
};
/** Read by that server in spite of their type; refused here, as Prometheus 3 does, since a page of HTML is no metrics. */
const REFUSED_TYPE = ['ct_html', 'ct_json'];

const verdicts = recording('parser-verdicts-prometheus-2.42.txt');
t.test('parseExposition() agrees with Prometheus 2.42, or differs for a reason', skipWithout(verdicts), (t) => {
  const seen = new Set<string>();
  for (const verdict of jsonLines<Verdict>(verdicts)) {
    seen.add(verdict.case);
    const format = expositionFormat(verdict.content_type ?? undefined);
    t.equal(format.ok, !REFUSED_TYPE.includes(verdict.case), `${verdict.case}: its type`);
    if (!format.ok) continue;
    const exposition = readAll(Buffer.from(verdict.body, 'latin1'), format.format);
    const { reads, cutOff } = told(exposition);
    const different = DIFFERENT[verdict.case];
    if (different) {
      t.strictSame([...reads].sort(), [...different.reads].sort(), `${verdict.case}: ${different.why}`);
      t.equal(exposition.rejectedCount, different.rejects ?? 0, `${verdict.case}: rejected lines`);
      t.equal(cutOff, null, `${verdict.case}: whole`);
    } else if (verdict.server === 'up') {
      const given = [...exposition.samples.values()]
        .flat()
        .map(({ name, labels, value }) => [name, { ...labels }, value]);
      const due = verdict.server_samples.map(({ name, labels, value }) => [
        name,
        labels,
        Number(value.replace('Inf', 'Infinity')),
      ]);
      const order = (list: unknown[][]) => list.map((one) => JSON.stringify(one)).sort();
      t.strictSame(order(given), order(due), `${verdict.case}: the same samples`);
      t.strictSame([exposition.rejectedCount, cutOff], [0, null], `${verdict.case}: nothing rejected`);
    } else {
      t.ok(exposition.rejectedCount > 0 || cutOff !== null, `${verdict.case}: not taken for good`);
      if (cutOff === null) t.strictSame(reads, [], `${verdict.case}: nothing read`);
    }
  }
  t.strictSame(
    Object.keys(DIFFERENT).filter((name) => !seen.has(name)),
    [],
    'no difference is argued that is not there',
  );
  t.end();
});

/** Bodies that the suite wants refused, and that are read here: by the beginning of their names. */
const READ_ALL_THE_SAME: readonly (readonly [names: RegExp, why: string])[] = [
  [
    /^bad_(help|type|unit|metadata|repeated_metadata|clashing_names)/,
    'HELP, TYPE and UNIT are not read: names are wanted whole',
  ],
  [
    /^bad_(counter_values|histograms|info_and_stateset_values|stateset_info_values)/,
    'a value’s sense is for who reads the series; none of these types is read for safety',
  ],
  [/^bad_missing_or_invalid_labels_for_a_type/, 'labels of types that are not read'],
  [/^bad_grouping_or_ordering/, 'order and groups change no value; stamps are judged where the clocks are known'],
  [/^bad_exemplar/, 'an exemplar is cut off unread: the value before it is whole'],
  [/^bad_blank_line$/, 'a blank line has one meaning'],
  [/^bad_invalid_labels_6$/, 'a value that touches the brace has one meaning, and Prometheus reads it'],
  [/^bad_missing_or_extra_commas_2$/, 'a comma before the brace has one meaning, and Prometheus reads it'],
  [/^bad_value_[123]$/, 'blanks more or less have one meaning'],
];
/** Of those groups, the bodies with a line that is refused here as well. */
const REFUSED_ALL_THE_SAME = ['bad_exemplars_1', 'bad_exemplars_12', 'bad_grouping_or_ordering_1'];

const suite = recording('openmetrics-parser-suite-211cases.txt');
t.test('parseExposition() agrees with the OpenMetrics suite, or differs for a reason', skipWithout(suite), (t) => {
  for (const { name, test, metrics } of jsonLines<{ name: string; test: { shouldParse: boolean }; metrics: string }>(
    suite,
  )) {
    const exposition = readAll(Buffer.from(metrics), 'openmetrics');
    const isTaken = exposition.rejectedCount === 0 && exposition.cutOff === null;
    const why = REFUSED_ALL_THE_SAME.includes(name)
      ? undefined
      : READ_ALL_THE_SAME.find(([names]) => names.test(name))?.[1];
    t.equal(isTaken, test.shouldParse || why !== undefined, `${name}${why === undefined ? '' : `: ${why}`}`);
    const lines = metrics.split('\n').filter((line) => line !== '' && !line.trimStart().startsWith('#'));
    if (test.shouldParse) t.equal(exposition.sampleCount, lines.length, `${name}: every sample`);
  }
  t.end();
});

for (const [name, format] of [
  ['text004-prometheus-alltypes-237mfs.txt', 'text'],
  ['openmetrics-prometheus-alltypes-5mfs.txt', 'openmetrics'],
  ['openmetrics-prometheus-1histogram.txt', 'openmetrics'],
  ['node_exporter-1.12.1-e2e-fixture.txt', 'text'],
  ['node_exporter-1.5.0-here.txt', 'text'],
  ['dcgm_exporter-l4-idle-nopods.txt', 'text'],
  ['dcgm_exporter-readme-quickstart.txt', 'text'],
  ['windows_exporter-e2e-fixture.txt', 'text'],
] as const)
  t.test(`parseExposition() reads every sample of ${name}`, skipWithout(recording(name)), (t) => {
    const body = readFileSync(recording(name));
    const lines = body
      .toString()
      .replace(/^\ufeff/, '')
      .split('\n')
      .filter((line) => line.trim() !== '' && !line.startsWith('#'));
    const { sampleCount, rejected, cutOff, samples } = readAll(body, format);
    t.strictSame({ sampleCount, rejected, cutOff }, { sampleCount: lines.length, rejected: [], cutOff: null });
    t.strictSame(
      [...samples.keys()].sort(),
      [...new Set(lines.map((line) => /^[\w:]+/.exec(line)?.[0] ?? ''))].sort(),
      'by name',
    );
    t.end();
  });

const CASES: Readonly<Record<string, { reads: Record<string, number>; rejects?: readonly (string | undefined)[] }>> = {
  A01: { reads: { 0: 61, 1: 83 } },
  A02: { reads: { 0: 72 } },
  A04: { reads: { 1: 64 }, rejects: ['0'] },
  A05: { reads: { 0: 66 } },
  A07: { reads: { 0: 55, 1: 58, 2: 59 } },
  A09: { reads: { 0: Number.NaN, 1: Infinity, 2: -Infinity, 3: 60 } },
  A11: { reads: { 1: 72 }, rejects: ['0'] },
  A14: { reads: { 0: 66 } },
};
for (const [id, { reads, rejects = [] }] of Object.entries(CASES))
  t.test(`parseExposition() of case ${id}: temperatures by GPU`, skipWithout(caseFile(id)), (t) => {
    const wanted = new Set(['DCGM_FI_DEV_GPU_TEMP']);
    const { samples, rejected } = parseExposition(readFileSync(caseFile(id)), {
      format: 'text',
      wanted,
      isComplete: true,
    });
    const temperatures = samples.get('DCGM_FI_DEV_GPU_TEMP') ?? [];
    t.strictSame(Object.fromEntries(temperatures.map(({ labels, value }) => [labels['gpu'], value])), reads);
    t.strictSame(
      rejected.map(({ labels }) => labels?.['gpu']),
      rejects,
      'and whose value is missing',
    );
    t.end();
  });

t.test('parseExposition() of case A02: an escaped backslash before the quote', skipWithout(caseFile('A02')), (t) => {
  const { samples, rejectedCount } = readAll(readFileSync(caseFile('A02')), 'text');
  t.same(samples.get('node_filesystem_avail_bytes')?.[0]?.labels, { device: 'F:\\', mountpoint: 'F:\\' });
  t.equal(rejectedCount, 0);
  t.end();
});

t.test(
  'parseExposition() of case A05: bad lines of others are counted where all is read',
  skipWithout(caseFile('A05')),
  (t) => {
    t.equal(readAll(readFileSync(caseFile('A05')), 'text').rejectedCount, 2);
    t.end();
  },
);

t.test('parseExposition() of case A07: stamps as they are', skipWithout(caseFile('A07')), (t) => {
  const { samples } = readAll(readFileSync(caseFile('A07')), 'text');
  t.strictSame(
    samples.get('DCGM_FI_DEV_GPU_TEMP')?.map(({ timestampMs }) => timestampMs),
    [-1, 1_672_531_200_000, null],
  );
  t.end();
});

t.test('parseExposition() of case A12: OpenMetrics stamps are seconds', skipWithout(caseFile('A12')), (t) => {
  const { samples, cutOff } = readAll(readFileSync(caseFile('A12')), 'openmetrics');
  const stamps = samples
    .get('DCGM_FI_DEV_GPU_TEMP')
    ?.map(({ timestampMs }) => new Date(timestampMs ?? 0).toISOString());
  t.strictSame(stamps, ['2026-01-01T00:00:00.250Z', '2026-01-01T00:00:00.250Z']);
  t.equal(cutOff, null);
  t.end();
});

t.test('expositionFormat() of case A13: a page of HTML is refused', skipWithout(caseFile('A13')), (t) => {
  t.equal(expositionFormat('text/html; charset=utf-8').ok, false);
  t.equal(readAll(readFileSync(caseFile('A13')), 'text').sampleCount, 0, 'and gives nothing under another type');
  t.end();
});

t.test('parseExposition() of case A14: a comment needs no blank', skipWithout(caseFile('A14')), (t) => {
  const { samples, rejectedCount } = readAll(readFileSync(caseFile('A14')), 'text');
  t.strictSame([...samples.keys()], ['DCGM_FI_DEV_GPU_TEMP', 'DCGM_FI_DEV_POWER_USAGE']);
  t.equal(samples.get('DCGM_FI_DEV_POWER_USAGE')?.[0]?.value, 150.5);
  t.equal(rejectedCount, 0);
  t.end();
});
