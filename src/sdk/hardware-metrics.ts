// What the service reads of the hardware, as `collectMetrics()` hands it out.
import type { InterlockState } from '../domain/result.ts';
import { errorOf, notTheService, type SafetyService } from './safety-service.ts';
import { isObject } from './verdict.ts';

/** One quantity of one component: measured, or missing with a cause. */
export interface HardwareReading {
  readonly component: 'gpu' | 'cpu' | 'memory' | 'system';
  /** The GPU's; one of several CPU packages or sensors. */
  readonly id?: string;
  readonly quantity: 'temperature' | 'power' | 'memory' | 'utilization' | 'total-power';
  /** `ratio`: a share from 0 to 1. */
  readonly unit: '°C' | 'W' | 'ratio';
  readonly value?: number;
  readonly ageSeconds?: number;
  readonly source?: string;
  /** Why there is no value: `no-sensor`, `stale`, `frozen` … */
  readonly missing?: string;
  /** With `missing`: more of why. */
  readonly detail?: string;
}

/** The readings of one node, and its interlock. */
export interface NodeMetrics {
  readonly node: string;
  readonly interlock: InterlockState;
  readonly readings: readonly HardwareReading[];
}

/** All readings of one moment. */
export interface HardwareMetrics {
  /** ISO 8601, wall clock of the service. */
  readonly at: string;
  /** No hardware was read: a simulated rig. */
  readonly simulated: boolean;
  readonly nodes: readonly NodeMetrics[];
}

/** Reads `nodes`, `undefined`: all. Throws a SafetyServiceError where the service cannot be asked. */
export async function readMetrics(
  service: SafetyService,
  nodes: readonly string[] | undefined,
  timeoutMs: number,
): Promise<HardwareMetrics> {
  const answer = await service.ask({ method: 'GET', path: '/status', timeoutMs });
  if (answer.kind === 'unreachable' || answer.status !== 200) throw errorOf(answer);
  const { at, simulated, nodes: listed } = answer.body;
  const isNode = (value: unknown): value is NodeMetrics => isObject(value) && Array.isArray(value['readings']);
  if (typeof at !== 'string' || !Array.isArray(listed) || !listed.every(isNode)) {
    throw notTheService(answer.status, 'no status');
  }
  const asked = listed.filter(({ node }) => !nodes || nodes.includes(node));
  return {
    at,
    simulated: simulated === true,
    nodes: asked.map(({ node, interlock, readings }) => ({ node, interlock, readings })),
  };
}
