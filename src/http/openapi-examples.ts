// A body for each route that takes one, as a caller would send it: the OpenAPI document and its page show them, and a test
// holds each against the route's own schema.

const TRIP = '6b1f6a0e-8a53-4b0f-9d3c-2f1f6f0c7a11';

/** By operation id. */
export const BODY_EXAMPLES: Readonly<Record<string, unknown>> = {
  postPreflight: { intensity: 0.6, nodes: ['bizon1'], constraints: 'bizon1' },
  takeLease: {
    id: '0c7ff2b6-6d1c-4f0e-8a9e-3f5b1c2d4e6f',
    workload: 'train-7',
    intensity: 0.6,
    nodes: ['bizon1'],
    ttlSeconds: 30,
  },
  renewLease: { intensity: 0.4 },
  stop: { reason: 'smell of burning in row 3', nodes: ['bizon1'] },
  reset: { tripId: TRIP, reason: 'fan of GPU 2 replaced' },
  restore: { tripId: TRIP, dryRun: true },
  forget: { gpu: 'GPU-5f5f0000-0000-4000-8000-000000000002', reason: 'taken out for repair' },
  handInCommission: {
    verdict: 'accepted',
    operator: 'J. Doe',
    host: 'bizon1',
    clientVersion: '0.1.0',
    startedAt: '2026-01-31T12:00:00Z',
    finishedAt: '2026-01-31T12:02:00Z',
    profile: 'bizon1',
    constraintsDigest: 'cbd634d4e57488e6',
    nodes: ['bizon1'],
    nodesTotal: 1,
    steps: [
      {
        id: 'drill',
        title: 'Drill',
        verdict: 'pass',
        summary: 'local-processes answered within 39 ms',
        notes: [],
        tables: [],
        figures: { answeredMs: 39 },
        tookSeconds: 0.1,
      },
    ],
  },
  simulate: { load: 0.8, faults: [{ kind: 'gpu-temperature', gpu: 2, valueC: 85 }] },
  stopByAlert: {
    status: 'firing',
    alerts: [
      {
        status: 'firing',
        labels: { alertname: 'RoomTooHot', vsf_estop: 'true' },
        annotations: { summary: 'The room is at 41 °C' },
        startsAt: '2026-01-31T12:00:00Z',
      },
    ],
  },
};
