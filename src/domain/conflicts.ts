// Limits against what the hardware says of itself. A card whose own power limit is at our hard stop will trip at full
// load though nothing is wrong; a CPU that is made to run at our hard stop will, too. Each conflict is named with the
// lines that would resolve it; no limit is changed by itself, except a card's own slowdown temperature (constraints.ts).
import { cardTemperatureC, type SafetyConstraints } from './constraints.ts';
import { judgedGpus } from './expected-readings.ts';
import type { HardwareLimits } from './reading.ts';
import { settingsOf } from './settings.ts';
import type { SafetyState } from './state.ts';
import { isIn, scopeOf } from './verdicts.ts';

export const CONFLICT_CODES = [
  'gpu-power-limit-at-hard-stop',
  'gpu-power-limit-at-warning',
  'gpu-target-temperature-at-warning',
  'gpu-slowdown-below-hard-stop',
  'cpu-critical-at-hard-stop',
] as const;

export interface Conflict {
  readonly code: (typeof CONFLICT_CODES)[number];
  readonly node: string;
  readonly component: 'gpu' | 'cpu';
  readonly id?: string;
  /** Key of our limit, `gpu.powerW.hardStop`, and its value. */
  readonly key: string;
  readonly limit: number;
  /** What the hardware says. */
  readonly hardware: number;
  readonly message: string;
  /** What would resolve it: lines of a profile, or what to set on the card; `null` where it is resolved already. */
  readonly remedy: string | null;
}

/** All conflicts of the nodes named (`null`: all), from the last answers of their sources. */
export function limitConflicts(state: SafetyState, nodes: readonly string[] | null = null): Conflict[] {
  const conflicts: Conflict[] = [];
  const isAsked = isIn(scopeOf(nodes));
  for (const [name, node] of state.nodes) {
    if (!isAsked(name)) continue;
    const settings = settingsOf(state.settings, name);
    const judged = new Set(judgedGpus(node.watch, settings).map((gpu) => gpu.id));
    const seen = new Set<string>();
    for (const source of node.watch.sources.values()) {
      for (const limits of source.lastAnswer?.hardwareLimits ?? []) {
        const id = limits.component === 'gpu' ? (node.watch.gpus.aliases.get(limits.id ?? '') ?? limits.id) : limits.id;
        if (limits.component === 'gpu' && !judged.has(id ?? '')) continue;
        const found =
          limits.component === 'gpu'
            ? gpuConflicts(name, id ?? '', limits, settings.constraints)
            : cpuConflicts(name, id, limits, settings.constraints);
        for (const conflict of found) {
          // Two sources may tell the same card's limits.
          const key = `${conflict.code}/${conflict.id ?? ''}`;
          if (!seen.has(key)) conflicts.push(conflict);
          seen.add(key);
        }
      }
    }
  }
  return conflicts;
}

function gpuConflicts(node: string, id: string, own: HardwareLimits, limits: SafetyConstraints): Conflict[] {
  const { powerW, temperatureC } = limits.gpu;
  const base = { node, component: 'gpu' as const, id };
  const conflicts: Conflict[] = [];
  const capW = own.enforcedPowerW ?? own.defaultPowerW;
  if (capW !== undefined && capW >= powerW.hardStop) {
    conflicts.push({
      ...base,
      code: 'gpu-power-limit-at-hard-stop',
      key: 'gpu.powerW.hardStop',
      limit: powerW.hardStop,
      hardware: capW,
      message:
        `GPU ${id} on ${node} may draw ${capW} W by its own power limit, the hard stop is ${powerW.hardStop} W: ` +
        'full load will stop everything',
      remedy:
        `constraints: { gpu: { powerW: { warning: ${Math.ceil(capW * 1.02)}, hardStop: ${Math.ceil(capW * 1.1)} } } }` +
        `   # or cap the card: nvidia-smi -i ${id} -pl ${Math.floor(powerW.warning * 0.95)}`,
    });
  } else if (capW !== undefined && capW >= powerW.warning) {
    conflicts.push({
      ...base,
      code: 'gpu-power-limit-at-warning',
      key: 'gpu.powerW.warning',
      limit: powerW.warning,
      hardware: capW,
      message:
        `GPU ${id} on ${node} may draw ${capW} W by its own power limit, the warning is ${powerW.warning} W: ` +
        'full load will be cut to half',
      remedy:
        `constraints: { gpu: { powerW: { warning: ${Math.ceil(capW * 1.02)}, hardStop: ${Math.max(powerW.hardStop, Math.ceil(capW * 1.1))} } } }` +
        `   # or cap the card: nvidia-smi -i ${id} -pl ${Math.floor(powerW.warning * 0.95)}`,
    });
  }
  if (own.targetC !== undefined && own.targetC >= temperatureC.warning) {
    conflicts.push({
      ...base,
      code: 'gpu-target-temperature-at-warning',
      key: 'gpu.temperatureC.warning',
      limit: temperatureC.warning,
      hardware: own.targetC,
      message:
        `GPU ${id} on ${node} regulates itself to ${own.targetC} °C, the warning is ${temperatureC.warning} °C: ` +
        'it may sit in the cooldown band for hours',
      remedy: `lower the card's target: nvidia-smi -i ${id} -gtt ${Math.floor(temperatureC.warning - 2)}`,
    });
  }
  const card = cardTemperatureC(temperatureC, own.slowdownC);
  if (card !== temperatureC) {
    conflicts.push({
      ...base,
      code: 'gpu-slowdown-below-hard-stop',
      key: 'gpu.temperatureC.hardStop',
      limit: temperatureC.hardStop,
      hardware: card.hardStop,
      message:
        `GPU ${id} on ${node} slows itself down at ${card.hardStop} °C, below the hard stop of ` +
        `${temperatureC.hardStop} °C: for this card that is the hard stop, and ${card.warning} °C the warning`,
      remedy: null,
    });
  }
  return conflicts;
}

function cpuConflicts(
  node: string,
  id: string | undefined,
  own: HardwareLimits,
  limits: SafetyConstraints,
): Conflict[] {
  const { temperatureC } = limits.cpu;
  if (own.criticalC === undefined || own.criticalC > temperatureC.hardStop) return [];
  const hardStop = Math.floor(own.criticalC - 3);
  return [
    {
      node,
      component: 'cpu',
      ...(id !== undefined && { id }),
      code: 'cpu-critical-at-hard-stop',
      key: 'cpu.temperatureC.hardStop',
      limit: temperatureC.hardStop,
      hardware: own.criticalC,
      message:
        `The CPU${id === undefined ? '' : ` chip ${id}`} of ${node} calls ${own.criticalC} °C critical, the hard stop ` +
        `is ${temperatureC.hardStop} °C: it protects itself before we stop anything`,
      remedy: `constraints: { cpu: { temperatureC: { warning: ${hardStop - 5}, hardStop: ${hardStop} } } }`,
    },
  ];
}
