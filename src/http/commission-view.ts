// What is told of the last commissioning report, and what the state has to do with it: which cards it was made of, and
// whether those and the limits are still the same.
import { Check } from 'typebox/value';
import { type CommissionSubject, outdatedReasons } from '../domain/commission.ts';
import { judgedGpus } from '../domain/expected-readings.ts';
import { settingsOf } from '../domain/settings.ts';
import type { SafetyState } from '../domain/state.ts';
import type { CommissionReport } from './parts.ts';
import { CommissionReportSchema, type CommissionStatusSchema, type Told } from './schemas.ts';

/** A report that was kept; `null` where it is none, or of a version that says more than this one knows. */
export const readCommissionReport = (value: unknown): CommissionReport | null =>
  Check(CommissionReportSchema, value) ? (value as CommissionReport) : null;

/** What a report that is handed in now is of. */
export function commissionSubject(state: SafetyState): CommissionSubject {
  return {
    simulated: state.settings.simulated,
    constraintsDigest: state.constraintsDigest,
    gpus: [...state.nodes].flatMap(([node, { watch }]) =>
      judgedGpus(watch, settingsOf(state.settings, node)).map(({ id }) => `${node}/${id}`),
    ),
  };
}

export function commissionStatusOf(state: SafetyState, report: CommissionReport): Told<typeof CommissionStatusSchema> {
  const { name, at, verdict, by, operator, constraintsDigest, simulated } = report;
  // Cards tell of their own limits with the first look, and these are part of the digest.
  const outdated =
    state.lastTickAtMs === null
      ? ['not known yet: the first evaluation is under way']
      : outdatedReasons(report, commissionSubject(state));
  return { name, at, verdict, by, operator, constraintsDigest, simulated, isCurrent: outdated.length === 0, outdated };
}
