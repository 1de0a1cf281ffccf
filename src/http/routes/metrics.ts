// GET /metrics, in the format that the scraper asks for.
import Type from 'typebox';
import { metricsText, negotiateMetrics, OPENMETRICS_TYPE, Tally, TEXT_TYPE } from '../metrics.ts';
import type { App, AppParts } from '../parts.ts';
import type { Stream } from '../stream.ts';

export function addMetricsRoute(app: App, parts: AppParts, stream: Pick<Stream, 'clientCount'>): void {
  const { supervisor, monitor, clock, version, journalHealth, cluster } = parts;
  const tally = new Tally();
  const unsubscribe = supervisor.subscribe((message) => tally.count(message));
  app.addHook('onClose', async () => unsubscribe());

  const text = { schema: Type.String() };
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
      },
    },
    async handler(request, reply) {
      const type = negotiateMetrics(request.headers.accept);
      const { state } = supervisor;
      const context = {
        now: clock.now(),
        version,
        lastTickTookMs: monitor.lastTickTookMs,
        journalOk: state.journal.ok && journalHealth().ok,
        webSocketClients: stream.clientCount,
        tally,
        missingRights: cluster?.facts().missingRights.length ?? null,
        pause: () => clock.sleep(0),
      };
      reply.header('content-type', type === OPENMETRICS_TYPE ? OPENMETRICS_TYPE : TEXT_TYPE);
      return metricsText(state, context, type);
    },
  });
}
