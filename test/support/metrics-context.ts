// What metricsText() is told beside the state, of a service that is all well.
import { type MetricsContext, Tally } from '../../src/http/metrics.ts';

export function metricsContext(change: Partial<MetricsContext> & Pick<MetricsContext, 'now'>): MetricsContext {
  return {
    version: '1',
    leadership: { mode: 'single', leader: true },
    lastTickTookMs: null,
    effectiveFastIntervalMs: 2_000,
    journal: { ok: true, lastError: null, sizeBytes: 0, pending: 0 },
    history: null,
    gpuProcesses: [],
    notify: [],
    security: {
      certificate: {
        subject: 'CN=safety',
        notAfter: '2027-01-01T00:00:00.000Z',
        expiresInSeconds: 31_536_000,
        fingerprint256: 'AB:CD',
        loadedAt: '2026-01-01T00:00:00.000Z',
        ok: true,
        detail: '',
      },
      tokens: { configured: 1, loadedAt: '2026-01-01T00:00:00.000Z', ok: true, detail: '' },
      audit: { ok: true, detail: '', lost: 0 },
    },
    webSocketClients: 0,
    process: { startedAtSeconds: 1_767_225_600, cpuSeconds: 1.5, residentBytes: 100e6 },
    tally: new Tally(),
    missingRights: null,
    pause: async () => undefined,
    ...change,
  };
}
