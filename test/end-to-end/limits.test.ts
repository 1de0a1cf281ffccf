// The limits on both sides of every edge, asked over HTTP of the real binary. The simulated rig says
// exactly the value; everything else about it is cool.
import t from 'tap';
import { startService } from '../support/real-service.ts';

// Real processes on a machine that may be busy.
t.setTimeout(600_000);

interface Edge {
  readonly name: string;
  readonly fault: Record<string, unknown>;
  readonly status: number;
  readonly action: string;
  readonly code?: string;
}

const gpu = (kind: string, value: Record<string, number>) => ({ kind, gpu: 1, ...value });

/** Edges that do not trip; a hard stop of power needs two samples, so one look at it waits. */
const EDGES: readonly Edge[] = [
  { name: 'GPU 79.9 °C', fault: gpu('gpu-temperature', { valueC: 79.9 }), status: 200, action: 'PROCEED' },
  { name: 'CPU 89.9 °C', fault: { kind: 'cpu-temperature', valueC: 89.9 }, status: 200, action: 'PROCEED' },
  { name: 'total 1999.9 W', fault: { kind: 'total-power', valueW: 1999.9 }, status: 200, action: 'PROCEED' },
  {
    name: 'total 2000 W',
    fault: { kind: 'total-power', valueW: 2000 },
    status: 503,
    action: 'REDUCE_INTENSITY',
    code: 'over-warning',
  },
  {
    name: 'total 2199.9 W',
    fault: { kind: 'total-power', valueW: 2199.9 },
    status: 503,
    action: 'REDUCE_INTENSITY',
    code: 'over-warning',
  },
  { name: 'GPU 249.9 W', fault: gpu('gpu-power', { valueW: 249.9 }), status: 200, action: 'PROCEED' },
  {
    name: 'GPU 250 W',
    fault: gpu('gpu-power', { valueW: 250 }),
    status: 503,
    action: 'REDUCE_INTENSITY',
    code: 'over-warning',
  },
  {
    name: 'GPU 299.9 W',
    fault: gpu('gpu-power', { valueW: 299.9 }),
    status: 503,
    action: 'REDUCE_INTENSITY',
    code: 'over-warning',
  },
  { name: 'CPU 80 %', fault: { kind: 'cpu-utilization', ratio: 0.8 }, status: 200, action: 'PROCEED' },
  {
    name: 'CPU 80.1 %',
    fault: { kind: 'cpu-utilization', ratio: 0.801 },
    status: 503,
    action: 'REDUCE_INTENSITY',
    code: 'over-maximum',
  },
  { name: 'memory 85 %', fault: { kind: 'memory', ratio: 0.85 }, status: 200, action: 'PROCEED' },
  {
    name: 'memory 85.1 %',
    fault: { kind: 'memory', ratio: 0.851 },
    status: 503,
    action: 'REDUCE_INTENSITY',
    code: 'over-maximum',
  },
  { name: 'GPU memory 90 %', fault: gpu('gpu-memory', { ratio: 0.9 }), status: 200, action: 'PROCEED' },
  {
    name: 'GPU memory 90.1 %',
    fault: gpu('gpu-memory', { ratio: 0.901 }),
    status: 503,
    action: 'REDUCE_INTENSITY',
    code: 'over-maximum',
  },
  {
    name: 'GPU NaN °C',
    fault: { kind: 'reading-invalid', component: 'gpu', gpu: 1, quantity: 'temperature', value: 'NaN' },
    status: 503,
    action: 'WAIT_COOLDOWN',
    code: 'reading-missing',
  },
  {
    name: 'CPU reading missing',
    fault: { kind: 'reading-missing', component: 'cpu', quantity: 'temperature' },
    status: 503,
    action: 'WAIT_COOLDOWN',
    code: 'reading-missing',
  },
];

t.test('GET /preflight answers each limit on both sides of its edge', async (t) => {
  const service = await startService(t);
  await service.until(
    'a safe preflight',
    () => service.get('/preflight'),
    (r) => r.status === 200,
  );
  for (const edge of EDGES) {
    await service.simulate({ faults: [edge.fault] });
    const { status, body, headers } = await service.get('/preflight');
    t.equal(status, edge.status, `${edge.name}: ${body.reason}`);
    t.equal(body.action, edge.action, edge.name);
    t.equal(body.safe, edge.status === 200, edge.name);
    if (edge.code) t.equal(body.findings[0].code, edge.code, edge.name);
    t.equal(headers.has('retry-after'), edge.status === 503, edge.name);
  }
  await service.simulate({ faults: [] });
  for (const [intensity, expected] of [
    ['0.8', 200],
    ['0.81', 503],
    ['0', 400],
    ['1.01', 400],
    ['NaN', 400],
    ['', 400],
  ] as const) {
    const reply = await service.get(`/preflight?intensity=${intensity}`);
    t.equal(reply.status, expected, `intensity ${intensity || '(empty)'}`);
    if (expected === 503) {
      t.match(reply.body, {
        action: 'REDUCE_INTENSITY',
        intensityCap: 0.8,
        findings: [{ code: 'over-maximum', component: 'workload' }],
      });
      t.notOk(reply.headers.has('retry-after'), 'asking again with the same intensity will not help');
    }
  }
});

/** Temperatures: at the warning it waits, below the hard stop it waits, at it it trips. A trip needs a fresh service. */
for (const { name, warning, below, hardStop } of [
  {
    name: 'GPU',
    warning: gpu('gpu-temperature', { valueC: 80 }),
    below: gpu('gpu-temperature', { valueC: 84.9 }),
    hardStop: gpu('gpu-temperature', { valueC: 85 }),
  },
  {
    name: 'CPU',
    warning: { kind: 'cpu-temperature', valueC: 90 },
    below: { kind: 'cpu-temperature', valueC: 94.9 },
    hardStop: { kind: 'cpu-temperature', valueC: 95 },
  },
]) {
  t.test(
    `GET /preflight: ${name} temperature waits from its warning to just below its hard stop, and trips there`,
    async (t) => {
      const service = await startService(t);
      await service.until(
        'a safe preflight',
        () => service.get('/preflight'),
        (r) => r.status === 200,
      );
      // A rise of over 40 °C at once would be a jump, which waits for a second look: go up in two steps.
      for (const fault of [warning, below]) {
        await service.simulate({ faults: [fault] });
        const { status, body } = await service.get('/preflight');
        t.equal(status, 503, body.reason);
        t.match(body, { action: 'WAIT_COOLDOWN', findings: [{ code: 'over-warning', level: 'warning' }] });
      }
      await service.simulate({ faults: [hardStop] });
      const { status, body } = await service.get('/preflight');
      t.equal(status, 423, 'seen at a preflight, and tripped by it');
      t.equal(body.action, 'ABORT');
      t.ok(
        body.findings.some(
          (f: { code: string; level: string }) => f.code === 'over-hard-stop' && f.level === 'critical',
        ),
      );
    },
  );
}

for (const { name, fault } of [
  { name: 'GPU power', fault: gpu('gpu-power', { valueW: 300 }) },
  { name: 'total power', fault: { kind: 'total-power', valueW: 2200 } },
]) {
  t.test(`GET /preflight: ${name} at its hard stop waits for a second sample and trips with it`, async (t) => {
    const service = await startService(t);
    await service.until(
      'a safe preflight',
      () => service.get('/preflight'),
      (r) => r.status === 200,
    );
    await service.simulate({ faults: [fault] });
    const first = await service.get('/preflight');
    t.equal(first.status, 503);
    t.match(first.body.findings[0], { code: 'over-hard-stop', level: 'warning', action: 'WAIT_COOLDOWN' });
    const { body } = await service.until(
      'a trip',
      () => service.get('/estop'),
      (r) => r.body.state === 'tripped',
      5_000,
    );
    t.match(body, { by: 'monitor', reason: /hard stop/ });
  });
}
