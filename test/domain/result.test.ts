// One answer out of findings: the worst first, one reason, and the numbers that tell a client what to do.
import t from 'tap';
import {
  bySeverity,
  type Finding,
  MOST_FINDINGS,
  resultOf,
  type SafetyResult,
  worstOf,
} from '../../src/domain/result.ts';

const finding = (change: Partial<Finding>): Finding => ({
  code: 'over-warning',
  level: 'warning',
  component: 'gpu',
  action: 'REDUCE_INTENSITY',
  message: 'a card draws too much',
  ...change,
});
const wait = (change: Partial<Finding> = {}): Finding => finding({ action: 'WAIT_COOLDOWN', ...change });

function result(findings: readonly Finding[], change: Partial<Parameters<typeof resultOf>[1]> = {}): SafetyResult {
  return resultOf(findings, {
    scope: { kind: 'all' },
    unprotected: [],
    interlock: { state: 'clear', tripped: [] } as unknown as SafetyResult['interlock'],
    simulated: false,
    sequence: 1,
    wallMs: Date.UTC(2026, 0, 1),
    profile: 'default',
    constraintsDigest: '0123456789abcdef',
    ...change,
  });
}

t.test('worstOf() is the more severe of two, in either order', async (t) => {
  const rising = ['PROCEED', 'REDUCE_INTENSITY', 'WAIT_COOLDOWN', 'ABORT'] as const;
  for (const [index, worse] of rising.entries()) {
    for (const better of rising.slice(0, index + 1)) {
      t.equal(worstOf(worse, better), worse);
      t.equal(worstOf(better, worse), worse);
    }
  }
});

t.test(
  'bySeverity() sorts by action, level, node, component and id, each the next where the last are the same',
  async (t) => {
    const sorted = [
      finding({ action: 'ABORT', level: 'critical', node: 'z' }),
      wait({ level: 'missing', node: 'z' }),
      wait({ level: 'warning', node: 'y' }),
      wait({ level: 'refusal', component: 'cpu' }),
      wait({ level: 'refusal', node: 'a', component: 'cpu', id: 'b' }),
      wait({ level: 'refusal', node: 'a', component: 'gpu' }),
      wait({ level: 'refusal', node: 'a', component: 'gpu', id: 'a' }),
      wait({ level: 'refusal', node: 'a', component: 'gpu', id: 'b' }),
      wait({ level: 'refusal', node: 'b', component: 'cpu', id: 'a' }),
      finding({ level: 'warning' }),
    ];
    t.same([...sorted].reverse().sort(bySeverity), sorted);
    t.equal(bySeverity(finding({ id: 'a' }), finding({ id: 'a' })), 0);
  },
);

t.test('resultOf() says how many findings there are beside the one that is its reason', async (t) => {
  t.match(result([]), { safe: true, action: 'PROCEED', reason: 'Every check passes', findingsTotal: 0 });
  t.equal(result([wait({ message: 'one' })]).reason, 'one');
  t.equal(result([wait({ message: 'one', node: 'a' }), wait({ node: 'b' })]).reason, 'one (and 1 more)');
  t.equal(
    result([wait({ message: 'one', node: 'a' }), wait({ node: 'b' }), wait({ node: 'c' })]).reason,
    'one (and 2 more)',
  );
});

t.test('resultOf() carries 100 findings and 100 unprotected entries at most', async (t) => {
  const unprotected = Array.from(
    { length: 120 },
    (_, n) => ({ code: 'waived', node: `node-${n}`, message: 'waived' }) as const,
  );
  const many = result(
    Array.from({ length: 120 }, (_, n) => wait({ id: `${n}` })),
    { unprotected },
  );
  t.equal(many.findings.length, MOST_FINDINGS);
  t.equal(many.findingsTotal, 120);
  t.equal(many.unprotected.length, MOST_FINDINGS);
});

t.test('resultOf() is marked as simulated only where it is', async (t) => {
  t.equal(result([], { simulated: true }).simulated, true);
  t.notOk('simulated' in result([]));
});

t.test(
  'resultOf() waits for the longest of what is in the way, 60 s where that says nothing, and only on WAIT_COOLDOWN',
  async (t) => {
    t.equal(result([wait()]).waitSeconds, 60);
    t.equal(result([wait({ waitSeconds: 12 })]).waitSeconds, 12);
    t.equal(result([wait({ waitSeconds: 12 }), wait({ waitSeconds: 40 })]).waitSeconds, 40);
    t.equal(result([wait({ waitSeconds: 12 }), wait()]).waitSeconds, 60);
    t.equal(result([wait({ waitSeconds: 12 }), finding({ waitSeconds: 90 })]).waitSeconds, 12, 'a cut is no wait');
    for (const other of [[], [finding({})], [wait(), finding({ action: 'ABORT' })]])
      t.notOk('waitSeconds' in result(other), result(other).action);
  },
);

t.test('resultOf() cuts to half of what was granted or asked, and to the limit where more was asked', async (t) => {
  const over = finding({ component: 'workload', quantity: 'intensity', limit: 0.8 });
  t.match(result([finding({})], { intensity: 0.7 }), { intensityFactor: 0.5, intensityCap: 0.35 });
  t.match(result([finding({})]), { intensityFactor: 0.5 });
  t.notOk('intensityCap' in result([finding({})]), 'half of what nobody knows');
  const asked = result([over], { intensity: 0.9 });
  t.equal(asked.intensityCap, 0.8);
  t.notOk('intensityFactor' in asked, 'the hardware is well');
  t.match(
    result([over, finding({})], { intensity: 0.9 }),
    { intensityFactor: 0.5, intensityCap: 0.45 },
    'the lower of both',
  );
  t.match(result([over, finding({ quantity: 'power' })], { intensity: 1.9 }), {
    intensityFactor: 0.5,
    intensityCap: 0.8,
  });
  for (const other of [[], [wait({ quantity: 'power', limit: 250 })]])
    for (const key of ['intensityFactor', 'intensityCap', 'suggestedPowerCapW']) t.notOk(key in result(other), key);
});

t.test('resultOf() suggests a power cap 5 % below the least warning of a card that draws too much', async (t) => {
  const power = finding({ quantity: 'power', limit: 250 });
  t.equal(result([power]).suggestedPowerCapW, 237);
  t.equal(result([power, finding({ quantity: 'power', limit: 200 })]).suggestedPowerCapW, 190);
  for (const other of [
    finding({ quantity: 'memory', limit: 0.9 }),
    finding({ component: 'system', quantity: 'total-power', limit: 2_000 }),
    finding({ component: 'cpu', quantity: 'power', limit: 100 }),
    finding({ quantity: 'power' }),
  ]) {
    t.notOk('suggestedPowerCapW' in result([other]), `${other.component} ${other.quantity} ${other.limit}`);
    t.equal(result([power, other]).suggestedPowerCapW, 237);
  }
});

t.test('resultOf() joins the findings of any fleet, be it blind as a whole', async (t) => {
  const count = 300_000;
  const missing = wait({ code: 'reading-missing', level: 'missing' });
  const hot = finding({ quantity: 'power', limit: 250 });
  const blind = result([...Array.from({ length: count }, () => missing), { ...missing, waitSeconds: 240 }]);
  t.match(blind, { action: 'WAIT_COOLDOWN', waitSeconds: 240, findingsTotal: count + 1 });
  t.equal(blind.findings.length, MOST_FINDINGS);
  const warned = result([...Array.from({ length: count }, () => hot), { ...hot, limit: 200 }]);
  t.match(warned, { action: 'REDUCE_INTENSITY', suggestedPowerCapW: 190 });
});
