// The commissioning of a machine or cluster: a guided test that an operator runs before it is used, and of which a report
// is kept. Here is what its verdicts mean, and when a kept report speaks of another machine than the one that is watched
// now. The test itself is a client's (cli/commission.ts); nothing here or there changes what is judged safe.
import { firstFew } from './first-few.ts';

/** In the order in which they are tried. */
export const COMMISSION_STEPS = [
  'service',
  'inventory',
  'limits',
  'sensors',
  'intervals',
  'cluster',
  'drill',
  'canary',
] as const;
export type CommissionStep = (typeof COMMISSION_STEPS)[number];

/** Of one step. `not-applicable`: there is nothing to be tried here; `skipped`: there is, and it was left out. */
export const STEP_VERDICTS = ['pass', 'warning', 'fail', 'skipped', 'not-applicable'] as const;
export type StepVerdict = (typeof STEP_VERDICTS)[number];

export const COMMISSION_VERDICTS = ['accepted', 'accepted-with-warnings', 'rejected'] as const;
export type CommissionVerdict = (typeof COMMISSION_VERDICTS)[number];

/** As people read it. */
export const verdictWords = (verdict: StepVerdict | CommissionVerdict): string => verdict.replaceAll('-', ' ');

/** One failure rejects; a warning, and what was left out, is said with the acceptance. */
export function commissionVerdict(steps: readonly { readonly verdict: StepVerdict }[]): CommissionVerdict {
  if (steps.some(({ verdict }) => verdict === 'fail')) return 'rejected';
  const isClean = steps.every(({ verdict }) => verdict === 'pass' || verdict === 'not-applicable');
  return isClean ? 'accepted' : 'accepted-with-warnings';
}

/** Why the steps of a report are no whole test: each is tried once, and none that noticed a failure has another verdict. */
export function commissionFault(
  steps: readonly {
    readonly id: CommissionStep;
    readonly verdict: StepVerdict;
    readonly notes: readonly { readonly level: string }[];
  }[],
): string | null {
  for (const id of COMMISSION_STEPS) {
    const count = steps.filter((step) => step.id === id).length;
    if (count !== 1) return `its step ${id} is there ${count} times: must be once`;
  }
  const hidden = steps.find(({ verdict, notes }) => verdict !== 'fail' && notes.some(({ level }) => level === 'fail'));
  return hidden === undefined ? null : `its step ${hidden.id} noticed a failure: its verdict must be fail`;
}

/** `commission-2026-01-31T120000Z` */
export const COMMISSION_NAME = /^commission-\d{4}-\d{2}-\d{2}T\d{6}Z$/;

/** What a report was made of, or what is there now. */
export interface CommissionSubject {
  readonly simulated: boolean;
  /** Over every limit in force. */
  readonly constraintsDigest: string;
  /** `node/id` of every card that is judged. */
  readonly gpus: readonly string[];
}

/** Cards that are named; of the others the number. */
const MOST_NAMED = 3;

/** Why a report speaks no longer of what is there now, a sentence each; none: it does. */
export function outdatedReasons(then: CommissionSubject, now: CommissionSubject): string[] {
  const isGone = absentFrom(now.gpus);
  const isNew = absentFrom(then.gpus);
  return [
    ...(then.simulated === now.simulated
      ? []
      : [then.simulated ? 'it was made on a simulated rig' : 'it was made on real hardware, this is a simulated rig']),
    ...(then.constraintsDigest === now.constraintsDigest
      ? []
      : [`the limits have changed: their digest was ${then.constraintsDigest} and is ${now.constraintsDigest}`]),
    ...named('gone since', then.gpus.filter(isGone)),
    ...named('new since', now.gpus.filter(isNew)),
  ];
}

function absentFrom(gpus: readonly string[]): (gpu: string) => boolean {
  const there = new Set(gpus);
  return (gpu) => !there.has(gpu);
}

function named(what: string, gpus: readonly string[]): string[] {
  if (gpus.length === 0) return [];
  return [`${gpus.length === 1 ? 'a GPU is' : `${gpus.length} GPUs are`} ${what}: ${firstFew(gpus, MOST_NAMED)}`];
}
