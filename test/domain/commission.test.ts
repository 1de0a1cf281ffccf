import t from 'tap';
import { commissionVerdict, outdatedReasons, type StepVerdict } from '../../src/domain/commission.ts';

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
