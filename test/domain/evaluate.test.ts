// Readings against limits: each on both sides, what must be there, what may be absent, and what is only shown.
import t from 'tap';
import { DEFAULT_CONSTRAINTS } from '../../src/domain/constraints.ts';
import { evaluate, formatValue, type NodeLimits, worstMargin } from '../../src/domain/evaluate.ts';
import type { Measured, NodeReadings, Reading } from '../../src/domain/reading.ts';
import type { Finding } from '../../src/domain/result.ts';
import { GPU_A, GPU_B, NODE } from '../support/domain-world.ts';

const LIMITS: NodeLimits = { constraints: DEFAULT_CONSTRAINTS, slowdownC: new Map() };

function measured(
  component: Reading['component'],
  quantity: Reading['quantity'],
  value: number,
  more: Partial<Measured> = {},
): Reading {
  const unit = quantity === 'temperature' ? '°C' : quantity === 'power' || quantity === 'total-power' ? 'W' : 'ratio';
  const state: Measured = {
    kind: 'measured',
    value,
    unit,
    atMs: 0,
    source: 'fake',
    origin: 'a fake sensor',
    estimated: false,
    informational: false,
    secondLook: 'not-needed',
    ...more,
  };
  return { node: NODE, component, ...(component === 'gpu' && { id: GPU_A }), quantity, state };
}

const judged = (readings: Reading[], limits = LIMITS): Finding[] => {
  const node: NodeReadings = { node: NODE, readings, throttledGpus: [] };
  return evaluate(node, limits);
};

const NONE = 'PROCEED none';
const table: [Reading['component'], Reading['quantity'], [number, string][]][] = [
  [
    'gpu',
    'temperature',
    [
      [79.9, NONE],
      [80, 'WAIT_COOLDOWN over-warning'],
      [84.6, 'WAIT_COOLDOWN over-warning'],
      [84.9, 'WAIT_COOLDOWN over-warning'],
      [85, 'ABORT over-hard-stop'],
      [125, 'ABORT over-hard-stop'],
    ],
  ],
  [
    'cpu',
    'temperature',
    [
      [89.9, NONE],
      [90, 'WAIT_COOLDOWN over-warning'],
      [94.9, 'WAIT_COOLDOWN over-warning'],
      [95, 'ABORT over-hard-stop'],
    ],
  ],
  [
    'gpu',
    'power',
    [
      [249.9, NONE],
      [250, 'REDUCE_INTENSITY over-warning'],
      [299.9, 'REDUCE_INTENSITY over-warning'],
      [300, 'ABORT over-hard-stop'],
    ],
  ],
  [
    'system',
    'total-power',
    [
      [1999.9, NONE],
      [2000, 'REDUCE_INTENSITY over-warning'],
      [2199.9, 'REDUCE_INTENSITY over-warning'],
      [2200, 'ABORT over-hard-stop'],
    ],
  ],
  [
    'cpu',
    'utilization',
    [
      [0.8, NONE],
      [0.8001, 'REDUCE_INTENSITY over-maximum'],
      [1, 'REDUCE_INTENSITY over-maximum'],
    ],
  ],
  [
    'memory',
    'memory',
    [
      [0.85, NONE],
      [0.8501, 'REDUCE_INTENSITY over-maximum'],
    ],
  ],
  [
    'gpu',
    'memory',
    [
      [0.9, NONE],
      [0.9001, 'REDUCE_INTENSITY over-maximum'],
    ],
  ],
  [
    'gpu',
    'utilization',
    [
      [0.5, NONE],
      [1, NONE],
    ],
  ],
];

t.test("evaluate() judges every limit on both sides of it, and a GPU's utilisation never", async (t) => {
  for (const [component, quantity, rows] of table) {
    for (const [value, expected] of rows) {
      const [finding] = judged([measured(component, quantity, value)]);
      t.equal(
        `${finding?.action ?? 'PROCEED'} ${finding?.code ?? 'none'}`,
        expected,
        `${component} ${quantity} ${value}`,
      );
    }
  }
});

t.test('evaluate() gives each finding its numbers, and a message that never rounds up to a limit', async (t) => {
  t.match(judged([measured('gpu', 'temperature', 84.96)]), [
    {
      level: 'warning',
      node: NODE,
      component: 'gpu',
      id: GPU_A,
      quantity: 'temperature',
      value: 84.96,
      unit: '°C',
      limit: 80,
    },
  ]);
  const [warning] = judged([measured('gpu', 'temperature', 84.96)]);
  t.equal(warning?.message, `GPU ${GPU_A} on ${NODE} is at 84.9 °C, warning is 80 °C`);
  const [stop] = judged([measured('cpu', 'temperature', 95)]);
  t.match(stop, { level: 'critical', limit: 95, message: /is at 95 °C, hard stop is 95 °C/ });
  const [over] = judged([measured('gpu', 'memory', 0.93)]);
  t.match(over, { limit: 0.9, value: 0.93, message: /memory is at 93 %, maximum is 90 %/ });
  t.equal(formatValue(0.29, 'ratio'), '29 %');
  t.equal(formatValue(299.99, 'W'), '299.9 W');
});

t.test('evaluate() makes an unconfirmed hard stop a warning that waits, and a confirmed one an ABORT', async (t) => {
  t.match(judged([measured('gpu', 'power', 320, { secondLook: 'awaiting' })]), [
    {
      code: 'over-hard-stop',
      level: 'warning',
      action: 'WAIT_COOLDOWN',
      limit: 300,
      message: /waiting for a second sample/,
    },
  ]);
  t.match(judged([measured('gpu', 'power', 320, { secondLook: 'done' })]), [{ level: 'critical', action: 'ABORT' }]);
});

t.test('evaluate() judges a card by its own slowdown temperature, the others by the profile', async (t) => {
  const limits = { constraints: DEFAULT_CONSTRAINTS, slowdownC: new Map([[GPU_A, 75]]) };
  t.match(judged([measured('gpu', 'temperature', 70)], limits), [{ code: 'over-warning', limit: 70 }]);
  t.match(judged([measured('gpu', 'temperature', 75)], limits), [{ code: 'over-hard-stop', limit: 75 }]);
  t.same(judged([{ ...measured('gpu', 'temperature', 75), id: GPU_B }], limits), []);
});

t.test('worstMargin() is the reading that is closest to its hard stop or maximum', async (t) => {
  const readings = [
    measured('gpu', 'temperature', 68),
    measured('gpu', 'power', 285),
    measured('gpu', 'utilization', 1),
  ];
  t.match(worstMargin({ node: NODE, readings, throttledGpus: [] }, LIMITS), {
    quantity: 'power',
    limit: 300,
    marginRatio: 0.05,
  });
  t.equal(worstMargin({ node: NODE, readings: [], throttledGpus: [] }, LIMITS), null);
});

t.test('worstMargin() counts every limit of the profile, and no reading that is missing or has none', async (t) => {
  const rows: [Reading, number, string?][] = [
    [measured('gpu', 'temperature', 34), 85, GPU_A],
    [measured('gpu', 'power', 30), 300, GPU_A],
    [measured('gpu', 'memory', 0.3), 0.9, GPU_A],
    [measured('cpu', 'temperature', 38), 95],
    [measured('cpu', 'utilization', 0.4), 0.8],
    [measured('memory', 'memory', 0.17), 0.85],
    [measured('system', 'total-power', 440), 2_200],
  ];
  const missing: Reading = {
    ...measured('cpu', 'temperature', 0),
    state: { kind: 'missing', cause: 'no-sensor', detail: 'test', required: true, waived: false },
  };
  const without = [
    measured('gpu', 'utilization', 1),
    measured('cpu', 'power', 150),
    measured('memory', 'utilization', 1),
    measured('system', 'power', 900),
  ];
  for (const [reading, limit, id] of rows) {
    const found = worstMargin({ node: NODE, readings: [missing, ...without, reading], throttledGpus: [] }, LIMITS);
    const { component, quantity } = reading;
    t.match(found, { component, quantity, limit }, `${component} ${quantity}`);
    t.equal(found?.id, id);
  }
  t.equal(worstMargin({ node: NODE, readings: [missing, ...without], throttledGpus: [] }, LIMITS), null);
});
