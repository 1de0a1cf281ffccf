// Readings against limits: one finding for each constraint that is warned of, broken, or cannot be judged. Nothing is
// decided here about trips, leases or waiting; that is decide.ts.
import { cardTemperatureC, type SafetyConstraints, type Thresholds } from './constraints.ts';
import type { Measured, NodeReadings, Quantity, Reading, Unit } from './reading.ts';
import type { Action, Finding } from './result.ts';

/** The limits in force on one node. */
export interface NodeLimits {
  readonly constraints: SafetyConstraints;
  /** Cards' own slowdown temperatures, °C, by card id. */
  readonly slowdownC: ReadonlyMap<string, number>;
}

/** A number for people: at most one decimal for °C and W, one decimal percent for shares. */
export function formatValue(value: number, unit: Unit): string {
  if (unit === 'ratio') return `${round1(value * 100)} %`;
  return `${round1(value)} ${unit}`;
}

// Never rounds up to a limit that was not reached: 84.96 °C is said as 84.9, a warning, not as the hard stop's 85.
const round1 = (value: number): number => Math.floor(value * 10 + 1e-9) / 10;

/** What a reading is of, for people: `GPU GPU-5f… on bizon1`, `CPU chip coretemp-0 on bizon1`. */
export function describeSubject(reading: Pick<Reading, 'component' | 'id' | 'node'>): string {
  switch (reading.component) {
    case 'gpu':
      return reading.id === undefined ? `A GPU on ${reading.node}` : `GPU ${reading.id} on ${reading.node}`;
    case 'cpu':
      return reading.id === undefined ? `CPU of ${reading.node}` : `CPU chip ${reading.id} of ${reading.node}`;
    case 'memory':
      return `Memory of ${reading.node}`;
    case 'system':
      return `System ${reading.node}`;
  }
}

/**
 * All findings of one node. A reading at its warning or over is `over-warning`, at its hard stop or over
 * `over-hard-stop`; a share over its maximum `over-maximum`; a required reading that is not there `reading-missing`.
 * A hard stop that awaits its second look is a warning that waits.
 *
 * @example
 * evaluate({ node: 'n', readings: [gpuAt(84.6)], throttledGpus: [] }, limits)[0].code // 'over-warning'
 */
export function evaluate(node: NodeReadings, limits: NodeLimits): Finding[] {
  const findings: Finding[] = [];
  for (const reading of node.readings) {
    if (reading.state.kind === 'missing') {
      if (reading.state.required) findings.push(missingFinding(reading, reading.state.detail));
      continue;
    }
    const finding = judge(reading, reading.state, limits);
    if (finding) findings.push(finding);
  }
  for (const { gpu, reason } of node.throttledGpus) {
    findings.push({
      code: 'hardware-throttle',
      level: 'warning',
      node: node.node,
      component: 'gpu',
      id: gpu,
      action: 'WAIT_COOLDOWN',
      message: `GPU ${gpu} on ${node.node} protects itself: ${reason}`,
    });
  }
  return findings;
}

function missingFinding(reading: Reading, detail: string): Finding {
  const what = reading.quantity.replace('utilization', 'load').replace('-', ' ');
  return {
    code: 'reading-missing',
    level: 'missing',
    node: reading.node,
    component: reading.component,
    ...(reading.id !== undefined && { id: reading.id }),
    quantity: reading.quantity,
    action: 'WAIT_COOLDOWN',
    message: `${describeSubject(reading)}: ${what} is missing: ${detail}`,
  };
}

function judge(reading: Reading, state: Measured, limits: NodeLimits): Finding | null {
  const { gpu, cpu, system } = limits.constraints;
  switch (reading.component) {
    case 'gpu':
      if (reading.quantity === 'temperature') {
        const slowdownC = limits.slowdownC.get(reading.id ?? '');
        return judgeThresholds(reading, state, cardTemperatureC(gpu.temperatureC, slowdownC), 'WAIT_COOLDOWN');
      }
      if (reading.quantity === 'power') return judgeThresholds(reading, state, gpu.powerW, 'REDUCE_INTENSITY');
      return reading.quantity === 'memory' ? judgeMaximum(reading, state, gpu.memoryRatio.max) : null;
    case 'cpu':
      if (reading.quantity === 'temperature') return judgeThresholds(reading, state, cpu.temperatureC, 'WAIT_COOLDOWN');
      return reading.quantity === 'utilization' ? judgeMaximum(reading, state, cpu.utilizationRatio.max) : null;
    case 'memory':
      return judgeMaximum(reading, state, system.memoryRatio.max);
    case 'system':
      return reading.quantity === 'total-power'
        ? judgeThresholds(reading, state, system.powerW, 'REDUCE_INTENSITY')
        : null;
  }
}

function judgeThresholds(reading: Reading, state: Measured, limits: Thresholds, onWarning: Action): Finding | null {
  if (state.value < limits.warning) return null;
  const isHardStop = state.value >= limits.hardStop;
  const isAwaiting = isHardStop && state.secondLook === 'awaiting';
  const limit = isHardStop ? limits.hardStop : limits.warning;
  const name = isHardStop ? 'hard stop' : 'warning';
  const action: Action = isAwaiting ? 'WAIT_COOLDOWN' : isHardStop ? 'ABORT' : onWarning;
  const estimated = state.estimated ? ' (estimated)' : '';
  const awaiting = isAwaiting ? '; waiting for a second sample' : '';
  return {
    code: isHardStop ? 'over-hard-stop' : 'over-warning',
    level: isHardStop && !isAwaiting ? 'critical' : 'warning',
    ...numbersOf(reading, state, limit),
    action,
    message:
      `${describeSubject(reading)} is at ${formatValue(state.value, state.unit)}${estimated}, ` +
      `${name} is ${formatValue(limit, state.unit)}${awaiting}`,
  };
}

function judgeMaximum(reading: Reading, state: Measured, max: number): Finding | null {
  if (state.value <= max) return null;
  const what: Partial<Record<Quantity, string>> = { memory: 'memory', utilization: 'load' };
  const kind = reading.component === 'memory' ? 'use' : (what[reading.quantity] ?? reading.quantity);
  return {
    code: 'over-maximum',
    level: 'warning',
    ...numbersOf(reading, state, max),
    action: 'REDUCE_INTENSITY',
    message:
      `${describeSubject(reading)}: ${kind} is at ${formatValue(state.value, state.unit)}, ` +
      `maximum is ${formatValue(max, state.unit)}`,
  };
}

function numbersOf(
  reading: Reading,
  state: Measured,
  limit: number,
): Pick<Finding, 'node' | 'component' | 'id' | 'quantity' | 'value' | 'unit' | 'limit'> {
  return {
    node: reading.node,
    component: reading.component,
    ...(reading.id !== undefined && { id: reading.id }),
    quantity: reading.quantity,
    value: state.value,
    unit: state.unit,
    limit,
  };
}

/** How far a reading is from its hard stop (its maximum where it has none), as a share of it: 1 cold, 0 at the limit. */
export function worstMargin(node: NodeReadings, limits: NodeLimits): WorstMargin | null {
  let worst: Reading | null = null;
  let [limit, marginRatio] = [Infinity, Infinity];
  for (const reading of node.readings) {
    if (reading.state.kind !== 'measured') continue;
    const ownLimit = hardLimitOf(reading, limits);
    if (ownLimit === null) continue;
    const ownRatio = (ownLimit - reading.state.value) / ownLimit;
    if (worst && marginRatio <= ownRatio) continue;
    worst = reading;
    limit = ownLimit;
    marginRatio = ownRatio;
  }
  if (worst?.state.kind !== 'measured') return null;
  const { component, id, quantity, state } = worst;
  const { value, unit } = state;
  return { node: node.node, component, ...(id !== undefined && { id }), quantity, value, unit, limit, marginRatio };
}

export interface WorstMargin {
  readonly node: string;
  readonly component: Reading['component'];
  readonly id?: string;
  readonly quantity: Quantity;
  readonly value: number;
  readonly unit: Unit;
  readonly limit: number;
  readonly marginRatio: number;
}

/** The limits that a reading is judged by; `null` where it has none. */
export function limitsOf(
  reading: Pick<Reading, 'component' | 'id' | 'quantity'>,
  { constraints, slowdownC }: NodeLimits,
): { readonly warning?: number; readonly hardStop?: number; readonly max?: number } | null {
  const { gpu, cpu, system } = constraints;
  const { component, id, quantity } = reading;
  switch (component) {
    case 'gpu':
      if (quantity === 'temperature') return cardTemperatureC(gpu.temperatureC, slowdownC.get(id ?? ''));
      if (quantity === 'power') return gpu.powerW;
      return quantity === 'memory' ? gpu.memoryRatio : null;
    case 'cpu':
      if (quantity === 'temperature') return cpu.temperatureC;
      return quantity === 'utilization' ? cpu.utilizationRatio : null;
    case 'memory':
      return quantity === 'memory' ? system.memoryRatio : null;
    case 'system':
      return quantity === 'total-power' ? system.powerW : null;
  }
}

/** The limit that a quantity must not reach: a hard stop, or a maximum; `null` where it has none. */
export function hardLimitOf(
  reading: Pick<Reading, 'component' | 'id' | 'quantity'>,
  limits: NodeLimits,
): number | null {
  const own = limitsOf(reading, limits);
  return own?.hardStop ?? own?.max ?? null;
}
