// A server that speaks Prometheus' HTTP API over series that a test sets, by a clock that the test sets too: for answers
// that a healthy Prometheus would not give. It knows the three kinds of queries that promql-queries.ts puts.
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { Test } from 'tap';

/** `metric` with its `__name__`; values as [seconds before the server's now, text], oldest first. */
export interface HeldSeries {
  readonly metric: Readonly<Record<string, string>>;
  readonly values: readonly (readonly [number, string])[];
}

export interface StandIn {
  readonly url: string;
  /** The server's time, Unix seconds. */
  nowSeconds: number;
  series: readonly HeldSeries[];
  /** The answer to the question for CPU time: sums by mode, `count` and `stamp` among them. */
  cpu: readonly HeldSeries[];
  /** Replaces an answer; `undefined` leaves it. `hang` never answers. */
  answer: (query: string) => { status?: number; type?: string; body: string; cut?: true } | 'hang' | undefined;
  /** Every query that was asked. */
  readonly asked: string[];
}

export async function standInPrometheus(t: Test): Promise<StandIn> {
  const server = createServer((request, response) => {
    const url = new URL(request.url ?? '/', 'http://server');
    const query = url.searchParams.get('query') ?? '';
    standIn.asked.push(query);
    const special = url.pathname === '/api/v1/query' ? standIn.answer(query) : { status: 404, body: 'no such page' };
    if (special === 'hang') return;
    const { status = 200, type = 'application/json', body, cut } = special ?? { body: answerTo(standIn, query) };
    response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(body) });
    if (cut) response.write(body.slice(0, body.length / 2), () => response.destroy());
    else response.end(body);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  const port = typeof address === 'object' && address ? address.port : 0;
  const standIn: StandIn = {
    url: `http://127.0.0.1:${port}`,
    // Far from this machine's time: nothing may depend on the two being the same.
    nowSeconds: 1_600_000_000.25,
    series: [],
    cpu: [],
    answer: () => undefined,
    asked: [],
  };
  return standIn;
}

function answerTo(standIn: StandIn, query: string): string {
  const { nowSeconds, series, cpu } = standIn;
  if (query === 'vector(1)') return success('vector', [{ metric: {}, value: [nowSeconds, '1'] }]);
  const instances = /instance=~"([^"]*)"/.exec(query)?.[1]?.replaceAll('\\\\', '').split('|');
  const isAsked = ({ metric }: HeldSeries): boolean => !instances || instances.includes(metric['instance'] ?? '');
  if (query.startsWith('sum by')) {
    return success(
      'vector',
      cpu.filter(isAsked).map(({ metric, values }) => ({ metric, value: [nowSeconds, values.at(-1)?.[1] ?? ''] })),
    );
  }
  const names = new Set(/__name__=~"([^"]*)"/.exec(query)?.[1]?.split('|'));
  const windowSeconds = Number(/\[(\d+)s\]$/.exec(query)?.[1]);
  const result = series
    .filter((one) => names.has(one.metric['__name__'] ?? '') && isAsked(one))
    .map(({ metric, values }) => ({
      metric,
      values: values
        .filter(([ageSeconds]) => ageSeconds >= 0 && ageSeconds < windowSeconds)
        .map(([ageSeconds, value]) => [nowSeconds - ageSeconds, value]),
    }))
    .filter(({ values }) => values.length > 0);
  return success('matrix', result);
}

function success(resultType: string, result: readonly unknown[]): string {
  return JSON.stringify({ status: 'success', data: { resultType, result } });
}
