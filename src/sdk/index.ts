// What `import … from 'vsf-safety'` gives: the SDK for workload generators written in TypeScript or JavaScript.

export {
  /**
   * The stricter limits of the workstation `bizon1`, deeply frozen. As `constraints` they tighten whatever the service
   * has: per limit the stricter applies.
   *
   * @example
   * import { BIZON1_CONSTRAINTS, SafeWorkloadContext } from 'vsf-safety';
   *
   * await using ctx = await SafeWorkloadContext.start({ constraints: BIZON1_CONSTRAINTS });
   * console.log(ctx.safe, ctx.intensityCap); // 0.7 at most
   */
  BIZON1_CONSTRAINTS,
  /**
   * The limits that hold unless a profile says otherwise, deeply frozen. °C, W, and shares from 0 to 1.
   *
   * @example
   * import { DEFAULT_CONSTRAINTS, HardwareSafetyMonitor } from 'vsf-safety';
   *
   * console.log(DEFAULT_CONSTRAINTS.gpu.temperatureC.hardStop); // 85
   * const constraints = { gpu: { temperatureC: { warning: 70 } } }; // the rest as in DEFAULT_CONSTRAINTS
   * console.log((await new HardwareSafetyMonitor({ constraints }).preFlightCheck()).action);
   */
  DEFAULT_CONSTRAINTS,
  type SafetyConstraints,
} from '../domain/constraints.ts';
export type {
  /** What a workload must do, in ascending order: go on, slow down, pause, stop. */
  Action,
  Finding,
  SafetyResult,
  Unprotected,
} from '../domain/result.ts';
export type { SafetyCallback } from './callbacks.ts';
export type { EmbeddedConfig } from './embedded.ts';
export type { HardwareMetrics, HardwareReading, NodeMetrics } from './hardware-metrics.ts';
export {
  type EmbeddedOptions,
  HardwareSafetyMonitor,
  type MonitorOptions,
  type StopAnswer,
  type StopOptions,
  type WorkloadOptions,
} from './hardware-safety-monitor.ts';
export type { ServiceOptions } from './http-service.ts';
export type { LeaseEnd, LeaseView } from './lease-holder.ts';
export type { ConstraintsInput } from './lease-requests.ts';
export { type ContextOptions, SafeWorkloadContext } from './safe-workload-context.ts';
export { SafetyServiceError } from './safety-service.ts';
export { type LocalVerdict, type ServiceVerdict, UnsafeError, type Verdict } from './verdict.ts';
