import t from 'tap';
import {
  COMMISSION_NAME,
  COMMISSION_STEPS,
  commissionFault,
  commissionVerdict,
  outdatedReasons,
  type StepVerdict,
} from '../../src/domain/commission.ts';

const verdictOf = (...verdicts: StepVerdict[]) => commissionVerdict(verdicts.map((verdict) => ({ verdict })));

t.test('commissionVerdict() rejects by one failure, and names warnings and what was left out', async (t) => {
  t.equal(verdictOf('pass', 'not-applicable'), 'accepted');
  t.equal(verdictOf('pass', 'warning'), 'accepted-with-warnings');
  t.equal(verdictOf('pass', 'skipped'), 'accepted-with-warnings', 'what was not tried was not seen to work');
  t.equal(verdictOf('warning', 'fail', 'pass'), 'rejected');
});

t.test('outdatedReasons() names each thing that is no longer as it was, and nothing else', async (t) => {
  const then = { simulated: false, constraintsDigest: 'aaaa', gpus: ['a/GPU-1', 'a/GPU-2'] };
  t.same(outdatedReasons(then, { ...then, gpus: ['a/GPU-2', 'a/GPU-1'] }), [], 'the order is nothing');
  t.match(outdatedReasons(then, { ...then, constraintsDigest: 'bbbb' }), [/limits have changed.*aaaa.*bbbb/]);
  t.match(outdatedReasons(then, { ...then, gpus: ['a/GPU-1', 'b/GPU-2'] }), [
    /^a GPU is gone since: a\/GPU-2$/,
    /^a GPU is new since: b\/GPU-2$/,
  ]);
  const many = Array.from({ length: 9 }, (_, index) => `c/GPU-${index}`);
  t.match(outdatedReasons({ ...then, gpus: [] }, { ...then, gpus: many }), [
    /^9 GPUs are new since: c\/GPU-0, c\/GPU-1, c\/GPU-2 and 6 more$/,
  ]);
  t.match(outdatedReasons({ ...then, simulated: true }, then), [/made on a simulated rig/]);
  t.match(outdatedReasons(then, { ...then, simulated: true }), [/made on real hardware/]);
});

t.test('commissionFault() wants each step once, and no failure that its step does not tell', async (t) => {
  const whole = COMMISSION_STEPS.map((id) => ({ id, verdict: 'pass' as const, notes: [{ level: 'ok' }] }));
  const [first, ...others] = whole;
  if (!first) throw new Error('there are steps');
  t.equal(commissionFault(whole), null);
  t.match(commissionFault(others), `its step ${first.id} is there 0 times`);
  t.match(commissionFault([...whole, first]), `its step ${first.id} is there 2 times`);
  const noticed = { ...first, notes: [{ level: 'ok' }, { level: 'fail' }] };
  t.match(commissionFault([noticed, ...others]), `its step ${first.id} noticed a failure: its verdict must be fail`);
  t.equal(commissionFault([{ ...noticed, verdict: 'fail' }, ...others]), null);
  t.equal(
    commissionFault([{ ...first, verdict: 'fail' }, ...others]),
    null,
    'a step may fail by what it says nothing of',
  );
});

t.test('COMMISSION_NAME is a name with a time, whole', async (t) => {
  const name = 'commission-2026-01-31T120000Z';
  t.match(name, COMMISSION_NAME);
  for (const other of [
    `x${name}`,
    `${name}x`,
    'commission-202-01-31T120000Z',
    'commission-2026-1-31T120000Z',
    'commission-2026-01-3T120000Z',
    'commission-2026-01-31T12000Z',
    'commission-abcd-01-31T120000Z',
    'commission-2026-ab-31T120000Z',
    'commission-2026-01-abT120000Z',
    'commission-2026-01-31TabcdefZ',
    '../commission-2026-01-31T120000Z',
  ])
    t.notMatch(other, COMMISSION_NAME);
});
