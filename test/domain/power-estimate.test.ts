// Total power from its parts, where nothing measures it: labelled as what it is.
import t from 'tap';
import { estimateTotalPower } from '../../src/domain/power-estimate.ts';
import type { Reading } from '../../src/domain/reading.ts';
import { NODE, nodeSettings } from '../support/domain-world.ts';

const SETTINGS = nodeSettings({ power: { baseW: 100, psuEfficiency: 0.8 } });

function power(component: 'gpu' | 'cpu', value: number | null, atMs = 5): Reading {
  const measured = { kind: 'measured', value: value ?? 0, unit: 'W', atMs, source: 's', origin: 'o' } as const;
  const missing = { kind: 'missing', cause: 'unreadable', detail: 'd', required: true, waived: false } as const;
  const state =
    value === null ? missing : { ...measured, estimated: false, informational: false, secondLook: 'done' as const };
  return { node: NODE, component, quantity: 'power', state };
}

t.test('estimateTotalPower() is the parts and the base by the efficiency, as old as the oldest part', async (t) => {
  const other: Reading = { ...power('cpu', 900), quantity: 'temperature' };
  const estimate = estimateTotalPower(NODE, [power('gpu', 200, 7), power('cpu', 60, 5), other], SETTINGS);
  t.match(estimate, {
    component: 'system',
    quantity: 'total-power',
    state: { value: 450, unit: 'W', atMs: 5, estimated: true, informational: false },
  });
  t.match(estimate?.state, { origin: /^estimate from GPUs, CPU packages and base \(base 100 W, efficiency 0\.8\)/ });
});

t.test('estimateTotalPower() is a lower bound without a part: no CPU, or one that is not read', async (t) => {
  for (const parts of [
    [power('gpu', 200)],
    [power('gpu', 200), power('cpu', null)],
    [power('gpu', 200), power('gpu', null), power('cpu', 60)],
  ])
    t.match(estimateTotalPower(NODE, parts, SETTINGS)?.state, { origin: /^lower bound/ });
});

t.test(
  'estimateTotalPower() is nothing without a configured base, without a part, or beyond what can be',
  async (t) => {
    t.equal(estimateTotalPower(NODE, [power('gpu', 200)], nodeSettings()), null);
    t.equal(estimateTotalPower(NODE, [power('gpu', null)], SETTINGS), null);
    t.equal(estimateTotalPower(NODE, [], SETTINGS), null);
    t.equal(estimateTotalPower(NODE, [power('gpu', 1e9)], SETTINGS), null);
  },
);
