// Total power where nothing measures it: a sum of what is measured and what was configured, labelled as an estimate.
import { parseReading, type Reading } from './reading.ts';
import type { NodeSettings } from './settings.ts';

/**
 * Total power from parts: (GPUs + CPU packages + base) / PSU efficiency. Without
 * configured `power` there is no estimate: the base and the efficiency are the machine's, and a guess could say
 * anything. Parts that are not measured are left out and named, which makes it a lower bound.
 */
export function estimateTotalPower(node: string, readings: readonly Reading[], settings: NodeSettings): Reading | null {
  if (!settings.power) return null;
  const powers = readings.filter((reading) => reading.quantity === 'power');
  const parts = powers.flatMap(({ state }) => (state.kind === 'measured' ? [state] : []));
  if (parts.length === 0) return null;
  const hasCpu = powers.some((reading) => reading.component === 'cpu' && reading.state.kind === 'measured');
  const isBound = !hasCpu || parts.length < powers.length;
  const sumW = parts.reduce((sum, part) => sum + part.value, settings.power.baseW);
  const parsed = parseReading('total-power', sumW / settings.power.psuEfficiency);
  if (!parsed.ok) return null;
  const label = isBound ? 'lower bound from the parts that are measured' : 'estimate from GPUs, CPU packages and base';
  return {
    node,
    component: 'system',
    quantity: 'total-power',
    state: {
      kind: 'measured',
      value: parsed.value,
      unit: 'W',
      atMs: Math.min(...parts.map((part) => part.atMs)),
      source: 'estimate',
      origin: `${label} (base ${settings.power.baseW} W, efficiency ${settings.power.psuEfficiency})`,
      estimated: true,
      informational: false,
      secondLook: 'not-needed',
    },
  };
}
