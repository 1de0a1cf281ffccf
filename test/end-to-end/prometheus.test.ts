// A real Prometheus that scrapes a real node_exporter on this machine.
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { systemClock } from '../../src/clock.ts';
import { parseReading, type RawReading, type SourceReport } from '../../src/domain/reading.ts';
import { createHttpGetter } from '../../src/sources/http-get.ts';
import { PrometheusServer } from '../../src/sources/promql.ts';
import { WANTED_NAMES } from '../../src/sources/series.ts';
import { createSeriesReader } from '../../src/sources/series-reader.ts';
import type { Source } from '../../src/sources/source.ts';
import { lacksNodeExporter, startNodeExporter } from '../support/real-node-exporter.ts';
import { lacksPrometheus, startPrometheus } from '../support/real-prometheus.ts';

const nowMs = (): number => systemClock.now().elapsedMs;
const TARGET = /^prometheus:node\//;

function serverAt(t: Test, url: string): PrometheusServer {
  const getter = createHttpGetter({ clock: systemClock });
  t.teardown(() => getter.close());
  return new PrometheusServer({
    clock: systemClock,
    url,
    get: getter.get,
    credentials: null,
    nodeLabels: ['node', 'instance'],
    match: 'cluster="here"',
    nodes: ['GPU1'],
    isNodeName: () => true,
    wanted: WANTED_NAMES,
    reader: () => createSeriesReader({ tctlOffsetC: 0, zfsCacheIsAvailable: false, explains: false, outlets: [] }),
    outlets: new Map(),
    staleAfterMs: 30_000,
    intervalMs: 10_000,
  });
}

/** Looks every 300 ms until `isSo` of a target's report. */
async function until(
  server: PrometheusServer,
  isSo: (report: SourceReport) => boolean,
): Promise<{ source: Source; report: SourceReport }> {
  for (const endMs = nowMs() + 25_000; nowMs() < endMs; await sleep(300)) {
    for (const source of server.sources()) {
      const report = await source.read(nowMs() + 2_000);
      if (TARGET.test(source.id) && isSo(report)) return { source, report };
    }
  }
  throw new Error(`It did not come so far within 25 s; problems: ${server.problems.join('; ')}`);
}

const readingOf = (report: SourceReport, quantity: RawReading['quantity']): RawReading | undefined =>
  report.readings.find((reading) => reading.quantity === quantity);

const isValid = (reading: RawReading | undefined): boolean =>
  typeof reading?.value === 'number' && parseReading(reading.quantity, reading.value).ok;

t.test(
  'PrometheusServer reads a real node_exporter through a real Prometheus, and fails it when the exporter dies',
  { skip: lacksPrometheus || lacksNodeExporter, timeout: 90_000 },
  async (t) => {
    const exporter = await startNodeExporter(t);
    const prometheus = await startPrometheus(t, [
      { job: 'node', targets: [`127.0.0.1:${exporter.port}`], labels: { node: 'gpu1', cluster: 'here' } },
      { job: 'other', targets: [`127.0.0.1:${exporter.port}`], labels: { node: 'gpu9', cluster: 'elsewhere' } },
    ]);
    const server = serverAt(t, prometheus.url);
    const { source, report } = await until(server, (one) => isValid(readingOf(one, 'utilization')));
    t.equal(source.node, 'GPU1', 'letter case aside it is the configured node');
    t.equal(source.id, `prometheus:node/127.0.0.1:${exporter.port}`);
    t.strictSame(
      server.sources().map(({ node }) => node),
      ['GPU1', 'GPU1'],
      'the matchers of the configuration leave the other cluster out',
    );
    t.strictSame(server.problems, []);
    t.ok(isValid(readingOf(report, 'memory')));
    t.match(
      report.witnesses.map(({ name }) => name),
      ['node_time_seconds'],
    );
    for (const quantity of ['utilization', 'memory'] as const) {
      const ageMs = report.finishedAtMs - (readingOf(report, quantity)?.sampledAtMs ?? 0);
      t.ok(ageMs >= 0 && ageMs < 3_000, `scraped every second: ${quantity} is ${ageMs} ms old`);
    }

    await exporter.kill();
    const { report: dead } = await until(server, ({ outcome }) => outcome.kind === 'failed');
    t.match(dead, { outcome: { cause: 'failed', detail: /the server has not been able to scrape it.*: up is 0/ } });
    t.strictSame(dead.readings, []);

    await startNodeExporter(t, exporter.port);
    const { report: back } = await until(server, (one) => isValid(readingOf(one, 'memory')));
    t.equal(back.outcome.kind, 'answered');

    await prometheus.kill();
    const { report: alone } = await until(server, ({ outcome }) => outcome.kind === 'failed');
    t.match(alone, { outcome: { kind: 'failed', cause: 'refused' } });
  },
);
