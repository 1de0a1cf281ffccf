import t, { type Test } from 'tap';
import { systemClock } from '../../src/clock.ts';
import type { RawReading, SourceReport } from '../../src/domain/reading.ts';
import { createExporter } from '../../src/sources/exporter.ts';
import { createHttpGetter, type HttpGet } from '../../src/sources/http-get.ts';
import type { Scrape, SeriesAnswer } from '../../src/sources/scrape.ts';
import type { SeriesReader } from '../../src/sources/series-reader.ts';
import { ExporterRig } from '../support/exporter-rig.ts';
import { ManualClock } from '../support/manual-clock.ts';
import {
  compresses,
  hangs,
  hangsInBody,
  isCutAfter,
  isSlow,
  redirectsTo,
  says,
  standInExporter,
  writesRaw,
} from '../support/stand-in-exporter.ts';

const NOTHING: SeriesAnswer = {
  readings: [],
  gpus: [],
  gpuSigns: [],
  witnesses: [],
  throttledGpus: [],
  hardwareLimits: [],
  notes: [],
  ignored: [],
};

/** Reads `temp{gpu}` as temperatures and `mem` as memory, and keeps the scrapes. */
class TwoSeries implements SeriesReader {
  readonly wanted = new Set(['temp', 'mem']);
  readonly scrapes: Scrape[] = [];

  read(scrape: Scrape): SeriesAnswer {
    this.scrapes.push(scrape);
    const temperatures = (scrape.samples.get('temp') ?? []).map(
      ({ labels, value }): RawReading => ({
        component: 'gpu',
        id: labels['gpu'] ?? '',
        quantity: 'temperature',
        value,
        origin: 'temp',
      }),
    );
    const memory = (scrape.samples.get('mem') ?? []).map(
      ({ value }): RawReading => ({ component: 'memory', quantity: 'memory', value, origin: 'mem' }),
    );
    return { ...NOTHING, readings: [...temperatures, ...memory] };
  }
}

interface World {
  readonly clock?: ManualClock;
  readonly get?: HttpGet;
}

/** An exporter source on node n1 for `url`; reads within 2 s unless told. */
function exporterAt(t: Test, url: string, { clock, get }: World = {}) {
  const http = createHttpGetter({ clock: systemClock });
  t.teardown(() => http.close());
  const reader = new TwoSeries();
  const source = createExporter({
    node: 'n1',
    url,
    clock: clock ?? systemClock,
    get: get ?? http.get,
    allowedRanges: null,
    credentials: null,
    reader,
    version: '1.2.3',
  });
  const read = (withinMs = 2_000) => source.read((clock ?? systemClock).now().elapsedMs + withinMs);
  return { source, reader, read };
}

const valuesOf = (report: SourceReport): (number | null)[] => report.readings.map(({ value }) => value);

t.test('read() asks as Prometheus does, and gives what its series read', async (t) => {
  const exporter = await standInExporter(t, says('temp{gpu="0"} 61\nother 5\nmem 0.5\n'));
  const { source, read } = exporterAt(t, exporter.url);
  const report = await read();
  t.match(report, { source: exporter.url, node: 'n1', outcome: { kind: 'answered' } });
  t.same(valuesOf(report), [61, 0.5]);
  t.equal(source.id, exporter.url);
  const headers = exporter.requests[0]?.headers ?? {};
  t.equal(headers['accept'], 'text/plain;version=0.0.4;q=1,*/*;q=0.1');
  t.equal(headers['user-agent'], 'vsf-safety/1.2.3');
  const seconds = Number(headers['x-prometheus-scrape-timeout-seconds']);
  t.ok(seconds > 1.5 && seconds <= 2, `${seconds} s`);
});

t.test('read() tells how the scrape went', async (t) => {
  const body = ['temp{gpu="0"} 61', 'temp{gpu="1"} n/a', 'unread x', ...Array(9).fill('mem "'), 'temp{gpu="2"} 5', ''];
  const exporter = await standInExporter(t, compresses(body.join('\n')));
  const { scrape } = await exporterAt(t, exporter.url).read();
  t.match(scrape, { url: exporter.url, bytes: body.join('\n').length, samples: 2, rejectedLines: 10 });
  t.equal(scrape?.rejected.length, 5);
  t.match(scrape?.rejected[0], /^line 2: .*: temp\{gpu="1"\} n\/a$/);
  t.ok((scrape?.tookMs ?? -1) >= 0);
});

t.test('read() hands the rejected lines to the series, so that what they told is missing', async (t) => {
  const exporter = await standInExporter(t, says('temp{gpu="0"} 61\ntemp{gpu="1"} ERROR\n'));
  const { reader, read } = exporterAt(t, exporter.url);
  await read();
  t.match(reader.scrapes[0], { rejectedCount: 1, rejected: [{ name: 'temp', labels: { gpu: '1' } }] });
});

t.test('read() answers when every line that it wants is rejected: its readings are missing at once', async (t) => {
  const exporter = await standInExporter(t, says('temp{gpu="0"} ERROR\n'));
  t.match(await exporterAt(t, exporter.url).read(), { outcome: { kind: 'answered' }, scrape: { rejectedLines: 1 } });
});

const FAILURES: Record<string, readonly [answer: Parameters<typeof standInExporter>[1], outcome: object]> = {
  'a status that is not 200, with how its body begins': [
    says('<b>no\u0000 token=abc</b>', {}, 503),
    { cause: 'bad-status', detail: /^Cannot read http:.*: it answered 503 Service/, excerpt: '<b>no token=abc</b>' },
  ],
  'a status of 204': [writesRaw('HTTP/1.1 204 No Content\r\n\r\n'), { cause: 'bad-status', detail: /204 No Content/ }],
  'a redirect': [redirectsTo('/login'), { cause: 'bad-status', detail: /redirect to \/login refused/ }],
  'a page of HTML': [
    says('<html><body>temp 61\ntemp 5\n</body></html>', { 'content-type': 'text/html; charset=utf-8' }),
    { cause: 'bad-body', detail: /text\/html/, excerpt: /^<html>/ },
  ],
  protobuf: [
    says('temp 61\n', { 'content-type': 'application/vnd.google.protobuf; proto=x' }),
    { cause: 'bad-body', detail: /protobuf/ },
  ],
  'an empty body': [says(''), { cause: 'empty', detail: /it answered without any series that is read/ }],
  'a body of other series': [says('other 1\n'), { cause: 'empty', excerpt: 'other 1' }],
  'a body cut short of its length': [
    isCutAfter('temp 61\nmem 0.', 'length'),
    { cause: 'bad-body', detail: /the connection broke after 14 bytes/ },
  ],
  'a body whose last chunk is missing': [isCutAfter('temp 61\n', 'chunked'), { cause: 'bad-body' }],
  'a last line without newline where only the connection ended it': [
    writesRaw('HTTP/1.0 200 OK\r\n\r\nmem 0.5\ntemp 8'),
    { cause: 'bad-body', detail: /its answer is cut/ },
  ],
  'OpenMetrics without # EOF': [
    says('temp 61\n', { 'content-type': 'application/openmetrics-text; version=1.0.0' }),
    { cause: 'bad-body', detail: /EOF/ },
  ],
};
for (const [what, [answer, outcome]] of Object.entries(FAILURES)) {
  t.test(`read() fails on ${what}`, async (t) => {
    const exporter = await standInExporter(t, answer);
    const report = await exporterAt(t, exporter.url).read();
    t.match(report, { outcome: { kind: 'failed', ...outcome }, scrape: { url: exporter.url, samples: 0 } });
    t.same(valuesOf(report), []);
  });
}

t.test(
  'read() takes whole bodies: OpenMetrics with # EOF, and one without newline of its declared length',
  async (t) => {
    const exporter = await standInExporter(
      t,
      says('temp 61 1700000000.25\n# EOF\n', { 'content-type': 'application/openmetrics-text; version=1.0.0' }),
    );
    const { reader, read } = exporterAt(t, exporter.url);
    t.same(valuesOf(await read()), [61]);
    t.equal(reader.scrapes[0]?.samples.get('temp')?.[0]?.timestampMs, 1_700_000_000_250);
    exporter.answer = says('temp 62');
    t.same(valuesOf(await read()), [62]);
  },
);

for (const [how, answer] of [
  ['is silent', hangs],
  ['stops in its body', hangsInBody],
] as const) {
  t.test(`read() fails at its deadline on an exporter that ${how}`, async (t) => {
    const exporter = await standInExporter(t, answer);
    const startedMs = systemClock.now().elapsedMs;
    const report = await exporterAt(t, exporter.url).read(200);
    t.match(report, { outcome: { kind: 'failed', cause: 'timeout', detail: /no answer within \d+ ms: it/ } });
    const tookMs = systemClock.now().elapsedMs - startedMs;
    t.ok(tookMs >= 150 && tookMs < 400, `after ${tookMs} ms`);
  });
}

t.test('read() joins a look under way, each caller with its own deadline', async (t) => {
  const exporter = await standInExporter(t, isSlow(200, says('temp 61\n')));
  const { read } = exporterAt(t, exporter.url);
  const [patient, hasty] = await Promise.all([read(2_000), read(80)]);
  t.same(valuesOf(patient), [61]);
  t.match(hasty, { outcome: { kind: 'failed', cause: 'timeout', detail: /no answer within 80 ms/ } });
  t.equal(exporter.requests.length, 1);
});

t.test('read() never rejects, also when the getter answers late', async (t) => {
  const clock = new ManualClock();
  const { read } = exporterAt(t, 'http://a.example/metrics', { clock, get: () => new Promise(() => undefined) });
  const report = read(1_000);
  await clock.advance(1_000);
  t.match(await report, { outcome: { kind: 'failed', cause: 'timeout' } });
});

t.test('carriesHeat is false once an answer showed neither temperature nor power, until one does', async (t) => {
  const exporter = await standInExporter(t, says('mem 0.5\n'));
  const { source, read } = exporterAt(t, exporter.url);
  t.equal(source.carriesHeat, true, 'nobody knows yet');
  await read();
  t.equal(source.carriesHeat, false);
  exporter.answer = hangs;
  await read(60);
  t.equal(source.carriesHeat, false, 'a failure shows nothing');
  exporter.answer = says('temp 61\nmem 0.5\n');
  await read();
  t.equal(source.carriesHeat, true);
});

t.test(
  'read() fails on an answer without any of the series that it gave before, and takes a second such',
  async (t) => {
    const exporter = await standInExporter(t, says('temp 61\n'));
    const { read } = exporterAt(t, exporter.url);
    await read();
    exporter.answer = says('mem 0.5\n');
    t.match(await read(), { outcome: { cause: 'empty', detail: /without any of the series that it gave before/ } });
    t.match(await read(), { outcome: { kind: 'answered' } }, 'it has changed for good');
    exporter.answer = says('temp 61\nmem 0.5\n');
    t.match(await read(), { outcome: { kind: 'answered' } });
    exporter.answer = says('temp 61\n');
    t.match(await read(), { outcome: { kind: 'answered' } }, 'one of two is still the same exporter');
  },
);

/** A getter that takes `tookMs` on the manual clock and answers with `text`. */
function slowGetter(clock: ManualClock, tookMs: number, text: string, dateMs: number | null): HttpGet {
  return async () => {
    await clock.advance(tookMs);
    return {
      kind: 'answered',
      status: 200,
      statusText: 'OK',
      contentType: 'text/plain',
      dateMs,
      body: Buffer.from(text),
      isComplete: true,
      hasDeclaredEnd: true,
    };
  };
}

t.test("read() takes the source's time from node_time_seconds, else from Date, else its own", async (t) => {
  const clock = new ManualClock();
  const wallMs = clock.now().wallMs;
  const cases = [
    {
      text: `temp 61\nnode_time_seconds ${wallMs / 1000 + 100}\n`,
      dateMs: 5_000,
      source: wallMs + 100_400,
      ahead: 99_800,
    },
    { text: 'temp 61\n', dateMs: wallMs - 60_000, source: wallMs - 59_600, ahead: -60_200 },
    { text: 'temp 61\nnode_time_seconds NaN\n', dateMs: wallMs, source: wallMs + 400, ahead: -200 },
    { text: 'temp 61\n', dateMs: null, source: wallMs + 400, ahead: null },
  ];
  for (const { text, dateMs, source, ahead } of cases) {
    const ownClock = new ManualClock();
    const { reader, read } = exporterAt(t, 'http://a.example/metrics', {
      clock: ownClock,
      get: slowGetter(ownClock, 400, text, dateMs),
    });
    const startedAtMs = ownClock.now().elapsedMs;
    const report = await read();
    t.match(reader.scrapes[0], { startedAtMs, finishedAtMs: startedAtMs + 400, sourceWallMs: source }, text);
    // Half of the request's time lies, as far as anybody knows, on either side of the moment that it told.
    t.equal(report.scrape?.sourceWallAheadMs, ahead, text);
  }
});

const success = (...collectors: string[]): string =>
  collectors.map((name) => `node_scrape_collector_success{collector="${name}"} 1\n`).join('');
const NODE = `temp 61\n${success('cpu', 'hwmon', 'systemd', 'time', 'meminfo')}`;
const CHOSEN = '/metrics?collect[]=cpu&collect[]=hwmon&collect[]=meminfo&collect[]=time';

t.test('read() asks a node_exporter for the collectors that are read and that it has', async (t) => {
  const exporter = await standInExporter(t, says(NODE));
  const { source, read } = exporterAt(t, exporter.url);
  const reports = [await read(), await read(), await read()];
  t.same(
    exporter.requests.map(({ path }) => path),
    ['/metrics', CHOSEN, CHOSEN],
  );
  t.same(reports.map(valuesOf), [[61], [61], [61]]);
  t.same(
    reports.map((report) => report.source),
    Array(3).fill(source.id),
    'its name stays',
  );
});

t.test("read() appends the collectors to the URL's own query, and leaves somebody's own choice alone", async (t) => {
  const exporter = await standInExporter(t, says(NODE));
  const withQuery = exporterAt(t, `${exporter.url}?a=b%20c`);
  await withQuery.read();
  await withQuery.read();
  const ownChoice = exporterAt(t, `${exporter.url}?collect%5B%5D=cpu`);
  await ownChoice.read();
  await ownChoice.read();
  t.same(
    exporter.requests.map(({ path }) => path),
    ['/metrics?a=b%20c', CHOSEN.replace('?', '?a=b%20c&'), '/metrics?collect%5B%5D=cpu', '/metrics?collect%5B%5D=cpu'],
  );
});

t.test('read() asks other exporters plainly', async (t) => {
  const exporter = await standInExporter(t, says(`temp 61\n${success('gpu', 'os')}`));
  const { read } = exporterAt(t, exporter.url);
  await read();
  await read();
  t.same(
    exporter.requests.map(({ path }) => path),
    ['/metrics', '/metrics'],
  );
});

const REFUSALS = {
  'answers 400': says('disabled collector: cpu', {}, 400),
  'answers 500': says('', {}, 500),
  'answers with an empty body': says(''),
  'cuts the connection': writesRaw(''),
  'leaves out series that it has': says(success('cpu')),
};
for (const [how, refusal] of Object.entries(REFUSALS)) {
  t.test(`read() asks plainly in the same look and for good when collect[] ${how}`, async (t) => {
    const exporter = await standInExporter(t, (request, response) =>
      (request.url?.includes('collect') ? refusal : says(NODE))(request, response),
    );
    const { read } = exporterAt(t, exporter.url);
    const reports = [await read(), await read(), await read()];
    t.same(reports.map(valuesOf), [[61], [61], [61]]);
    const paths = exporter.requests.map(({ path }) => path.replace(/\?.*/, '?…'));
    // A kept connection that is cut is asked a second time on a new one.
    const asked = how === 'cuts the connection' ? ['/metrics?…', '/metrics?…'] : ['/metrics?…'];
    t.same(paths, ['/metrics', ...asked, '/metrics', '/metrics']);
  });
}

t.test('read() keeps its choice when a node_exporter that took it fails later, unless by 400', async (t) => {
  const exporter = await standInExporter(t, says(NODE));
  const { read } = exporterAt(t, exporter.url);
  await read();
  await read();
  exporter.answer = says('', {}, 503);
  t.match(await read(), { outcome: { cause: 'bad-status' } });
  exporter.answer = says(NODE);
  await read();
  t.same(
    exporter.requests.map(({ path }) => path),
    ['/metrics', CHOSEN, CHOSEN, CHOSEN],
  );
  exporter.answer = (request, response) =>
    (request.url === '/metrics' ? says(NODE) : says('missing collector: hwmon', {}, 400))(request, response);
  t.same(valuesOf(await read()), [61]);
  t.equal(exporter.requests.at(-1)?.path, '/metrics');
});

t.test('read() asks plainly again after ten minutes, to learn of a collector that was switched on', async (t) => {
  const clock = new ManualClock();
  const urls: string[] = [];
  let text = NODE;
  const get: HttpGet = (url, question) => {
    urls.push(url.replace(/^.*metrics/, ''));
    return slowGetter(clock, 10, text, null)(url, question);
  };
  const { read } = exporterAt(t, 'http://a.example/metrics', { clock, get });
  await read();
  await read();
  text = `${NODE}${success('rapl')}`;
  await clock.advance(599_000);
  await read();
  await clock.advance(1_000);
  await read();
  await read();
  const chosen = CHOSEN.replace('/metrics', '');
  t.same(urls, ['', chosen, chosen, '', chosen.replace('&collect[]=time', '&collect[]=rapl&collect[]=time')]);
});

t.test('createExporter() does not take the cards of another machine for new ones of this node at once', async (t) => {
  const body = (n: number) => `DCGM_FI_DEV_GPU_TEMP{UUID="GPU-0000000${n}-0000-4000-8000-000000000000"} 60\n`;
  const rig = await ExporterRig.start(t, { answer: body(1) });
  rig.serve(body(2));
  await rig.run(10);
  t.match(rig.report.outcome, { kind: 'failed', cause: 'bad-body', detail: /another machine's exporter/ });
  await rig.run(10);
  t.equal(rig.report.outcome.kind, 'failed', 'nor when asked again');
  t.equal([...rig.world.state.nodes.values()][0]?.watch.gpus.known.size, 1);
  await rig.run(10);
  await rig.run(10);
  t.equal(rig.report.outcome.kind, 'answered', 'after 30 s it is a repair');
});

t.test('createExporter() shows which target an address asks for, and not with which secret', async (t) => {
  const url = 'http://a.example/metrics?target=10.1.1.5&api_key=hunter2&token=abc';
  const { read } = exporterAt(t, url, {
    clock: new ManualClock(),
    get: async () => ({ kind: 'failed', cause: 'refused', detail: 'refused' }),
  });
  const report = await read();
  t.equal(report.source, 'http://a.example/metrics?target=10.1.1.5&api_key=…&token=…');
  t.notMatch(JSON.stringify(report), /hunter2|abc/);
});
