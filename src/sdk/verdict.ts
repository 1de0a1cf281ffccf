// What a workload is told: the service's own result, or one that was made here, because the service did not answer or
// the workload itself gave up. Only the service judges hardware; here it is only decided whether an answer is one.
import { ACTIONS, type Action, type Finding, type SafetyResult, type Unprotected } from '../domain/result.ts';

/** A verdict that no service gave. Never safe. */
export interface LocalVerdict {
  readonly safe: false;
  readonly action: Extract<Action, 'WAIT_COOLDOWN' | 'ABORT'>;
  readonly reason: string;
  /** Empty: nothing was read. */
  readonly findings: readonly Finding[];
  readonly unprotected: readonly Unprotected[];
  /**
   * Why: `service-unreachable` at a start, `service-lost` while running, `lease-ended` and `lease-unknown` (the service
   * says that the lease is over), `emergency-stop`, `given-back`, `not-started`, `not-the-service`, or the code of the
   * problem that kept the service from judging.
   */
  readonly local: string;
}

/** What {@link LocalVerdict} is not: a result that the service gave. `local` tells the two apart. */
export type ServiceVerdict = SafetyResult & { readonly local?: undefined };

/** May it run, and if not, why: what every method and callback of the SDK answers with. */
export type Verdict = ServiceVerdict | LocalVerdict;

/** A verdict made here. */
export function localVerdict(action: LocalVerdict['action'], local: string, reason: string): LocalVerdict {
  return { safe: false, action, reason, findings: [], unprotected: [], local };
}

export const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/**
 * A result as it came over the network, `null` where it is none. An action that is not known here makes it none, too:
 * a workload that does not understand what it is told must not take it for leave to go on.
 */
export function parseVerdict(value: unknown): ServiceVerdict | null {
  if (!isObject(value)) return null;
  const { safe, action, reason, findings, unprotected } = value;
  const isKnown = ACTIONS.some((known) => known === action) && safe === (action === 'PROCEED');
  const isWhole = typeof reason === 'string' && Array.isArray(findings) && Array.isArray(unprotected);
  return isKnown && isWhole ? (value as unknown as ServiceVerdict) : null;
}

/**
 * A workload must not run: it was refused, aborted, or lost the service. `result` says why. The reason of every
 * `signal` that the SDK aborts.
 *
 * @example
 * import { SafeWorkloadContext, UnsafeError } from 'vsf-safety';
 *
 * try {
 *   await SafeWorkloadContext.run({ required: true, intensity: 1 }, () => console.log('never: 0.8 is the most there is'));
 * } catch (error) {
 *   if (!(error instanceof UnsafeError)) throw error;
 *   console.log(error.result.action, error.result.reason);
 * }
 */
export class UnsafeError extends Error {
  override readonly name = 'UnsafeError';
  readonly result: Verdict;

  constructor(result: Verdict, options?: ErrorOptions) {
    super(`${result.action}: ${result.reason}`, options);
    this.result = result;
  }
}
