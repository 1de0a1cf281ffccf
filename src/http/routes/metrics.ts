// GET /metrics, in the format that the scraper asks for.
import Type from 'typebox';
import { metricsText, negotiateMetrics, Tally } from '../metrics.ts';
import type { App, AppParts } from '../parts.ts';
import { problems } from '../schemas.ts';
import { leadershipOf } from '../status-view.ts';
import type { Stream } from '../stream.ts';
import type { Turns } from '../turns.ts';

export function addMetricsRoute(app: App, parts: AppParts, stream: Pick<Stream, 'clientCount'>, turns: Turns): void {
  const { supervisor, monitor, clock, version, journalHealth, history, gpuProcesses, notify, cluster, security } =
    parts;
  const tally = new Tally();
  const startedAtSeconds = Math.round(clock.now().wallMs / 1000 - process.uptime());
  const unsubscribe = supervisor.subscribe((message) => tally.count(message));
  app.addHook('onClose', async () => unsubscribe());

  const text = { schema: Type.Unsafe<Buffer>(Type.String()) };
  app.get('/metrics', {
    schema: {
      operationId: 'readMetrics',
      summary: 'Metrics for Prometheus',
      tags: ['watch'],
      response: {
        200: {
          description: 'Prometheus text, or OpenMetrics where Accept prefers it',
          content: { 'text/plain': text, 'application/openmetrics-text': text },
        },
        503: problems('Too many such questions are being answered'),
      },
    },
    preHandler: turns.place('read'),
    async handler(request, reply) {
      await turns.next(reply);
      const type = negotiateMetrics(request.headers.accept);
      const work = async (): Promise<Buffer> => {
        const { state } = supervisor;
        const { user, system } = process.cpuUsage();
        const context = {
          now: clock.now(),
          version,
          leadership: leadershipOf(state),
          lastTickTookMs: monitor.lastTickTookMs,
          effectiveFastIntervalMs: monitor.effectiveFastIntervalMs,
          journal: journalHealth(),
          history: history?.health() ?? null,
          gpuProcesses: gpuProcesses?.() ?? [],
          notify: notify?.() ?? [],
          webSocketClients: stream.clientCount,
          process: {
            startedAtSeconds,
            cpuSeconds: (user + system) / 1e6,
            residentBytes: process.memoryUsage.rss(),
          },
          tally,
          security: security?.() ?? null,
          missingRights: cluster?.facts().missingRights.length ?? null,
          pause: () => turns.pause(),
        };
        return metricsText(state, context, type);
      };
      const body = await turns.whole(`metrics ${type}`, reply, work);
      reply.header('content-type', type);
      return body;
    },
  });
}
