// What must be there on a node: which readings are required, what to say of those that are not there, and what nobody
// protects. What is there is node-readings.ts.
import { type KnownGpu, MOST_GPUS } from './known-gpus.ts';
import type { NodeWatch } from './node-watch.ts';
import { type Missing, type NodeReadings, type Quantity, type Reading, readingKey } from './reading.ts';
import type { Unprotected } from './result.ts';
import { gpuSettingsOf, type NodeSettings, type RequirementName } from './settings.ts';
import type { SourceWatch } from './tracking.ts';

export interface Expected {
  readonly component: 'gpu' | 'cpu' | 'memory' | 'system';
  readonly id?: string;
  readonly quantity: Quantity;
  readonly requirement: RequirementName;
  readonly waived: boolean;
}

export function requirementOf(component: Expected['component'], quantity: Quantity): RequirementName | null {
  if (component === 'gpu') {
    if (quantity === 'temperature') return 'gpu-temperature';
    if (quantity === 'power') return 'gpu-power';
    return quantity === 'memory' ? 'gpu-memory' : null;
  }
  if (component === 'cpu') {
    if (quantity === 'temperature') return 'cpu-temperature';
    return quantity === 'utilization' ? 'cpu' : null;
  }
  if (component === 'memory') return 'memory';
  return quantity === 'total-power' ? 'total-power' : null;
}

/** Cards that are judged: known and not taken out by `ignore`. */
export function judgedGpus(watch: NodeWatch, settings: NodeSettings): readonly KnownGpu[] {
  return [...watch.gpus.known.values()].filter((gpu) => !gpuSettingsOf(settings, gpu).ignore);
}

const GPU_REQUIREMENTS = [
  ['temperature', 'gpu-temperature'],
  ['power', 'gpu-power'],
  ['memory', 'gpu-memory'],
] as const;

/** Every reading that must be there, waived or not. */
export function expectedReadings(gpus: readonly KnownGpu[], settings: NodeSettings): Expected[] {
  const isWaived = (name: RequirementName): boolean => settings.waive.includes(name);
  const expected: Expected[] = [
    { component: 'cpu', quantity: 'temperature', requirement: 'cpu-temperature', waived: isWaived('cpu-temperature') },
    { component: 'cpu', quantity: 'utilization', requirement: 'cpu', waived: isWaived('cpu') },
    { component: 'memory', quantity: 'memory', requirement: 'memory', waived: isWaived('memory') },
  ];
  if (settings.require.includes('total-power')) {
    const waived = isWaived('total-power');
    expected.push({ component: 'system', quantity: 'total-power', requirement: 'total-power', waived });
  }
  for (const gpu of gpus) {
    const own = gpuSettingsOf(settings, gpu);
    for (const [quantity, requirement] of GPU_REQUIREMENTS) {
      const waived = isWaived(requirement) || own.waive.includes(requirement);
      expected.push({ component: 'gpu', id: gpu.id, quantity, requirement, waived });
    }
  }
  return expected;
}

/** An absence, with its cause; whether it is required is said where that is known. */
export const missing = (cause: Missing['cause'], detail: string): Missing => ({
  kind: 'missing',
  cause,
  detail,
  required: false,
  waived: false,
});

/** An expected reading that is not there; `merged` is what the sources say, by reading key. */
export function missingReading(expected: Expected, merged: ReadonlyMap<string, Reading>, watch: NodeWatch): Reading {
  const { component, id, quantity, waived } = expected;
  const told = tellingOf(expected, merged, watch);
  return {
    node: watch.node,
    component,
    ...(id !== undefined && { id }),
    quantity,
    state: { ...told, required: !waived, waived },
  };
}

/** What to say of an absent reading: the source's own word where there is one. */
function tellingOf(expected: Expected, merged: ReadonlyMap<string, Reading>, watch: NodeWatch): Missing {
  if (expected.id !== undefined) {
    const own = merged.get(readingKey(expected.component, expected.id, expected.quantity));
    if (own?.state.kind === 'missing') return own.state;
    const failing = failureOfTool(watch, expected.id) ?? silenceOfLister(watch, expected.id);
    if (failing) return failing;
    const card = watch.gpus.listed.has(expected.id)
      ? 'the card is listed and no source reads it'
      : 'the card was here earlier and no source lists it now';
    return missing(watch.gpus.listed.has(expected.id) ? 'no-sensor' : 'gone', card);
  }
  for (const { component, quantity, state } of merged.values()) {
    if (component === expected.component && quantity === expected.quantity && state.kind === 'missing') return state;
  }
  const failed = [...watch.sources.values()].find((source) => source.failure);
  if (failed?.failure) return missing('source-failed', `${failed.source}: ${failed.failure.detail}`);
  if (watch.sources.size === 0) return missing('not-yet-read', 'nothing has been read of this node yet');
  return missing('no-sensor', 'no source of this node offers it');
}

/** A tool that fails for its cards is why they are not read. "No sensor" would invite a waiver, and nobody repairs it. */
function failureOfTool(watch: NodeWatch, gpu: string): Missing | null {
  if (watch.gpus.known.get(gpu)?.vendor !== 'nvidia') return null;
  for (const { source, failure, gpuSigns } of watch.sources.values()) {
    if (failure && gpuSigns.some(({ kind }) => kind === 'nvidia-smi-failed')) {
      return missing('source-failed', `${source}: ${failure.detail}`);
    }
  }
  return null;
}

/**
 * After a start a card that was known before may be listed by a source that has not answered yet: then that is why it is
 * not read. Not where a source lists cards of its kind without it, which says that it is gone.
 */
function silenceOfLister(watch: NodeWatch, gpu: string): Missing | null {
  const { listed, known } = watch.gpus;
  const vendor = known.get(gpu)?.vendor;
  if (listed.has(gpu) || [...listed.values()].some((other) => other.required && other.vendor === vendor)) return null;
  // A tool with a sign of its cards fails for those alone.
  const silent = [...watch.sources.values()].find((source) => isSilent(source) && source.gpuSigns.length === 0);
  return silent?.failure ? missing('source-failed', `${silent.source}: ${silent.failure.detail}`) : null;
}

/** Whether a source has never answered since this process started. A tool that is not installed is none. */
export function isSilent({ failure, lastAnswer }: SourceWatch): boolean {
  return failure !== null && lastAnswer === null && failure.cause !== 'not-installed';
}

/** Cards that must exist and that nothing names: too few for `expectGpus`, or a sign without a card. */
export function missingGpus(watch: NodeWatch, settings: NodeSettings, gpus: readonly KnownGpu[]): Reading[] {
  const absent = (detail: string): Reading[] => [
    {
      node: watch.node,
      component: 'gpu',
      quantity: 'temperature',
      state: { kind: 'missing', cause: 'gone', detail, required: true, waived: false },
    },
  ];
  const ignored = [...settings.gpus.values()].filter((gpu) => gpu.ignore).length;
  const counted = [...watch.sources.values()].flatMap(({ gpuSigns }) => gpuSigns.map(({ count = 0 }) => count));
  const expected = Math.max(settings.expectGpus, ...counted) - ignored;
  if (gpus.length < expected) return absent(`${gpus.length} of ${expected} expected GPUs are known`);
  if (gpus.length > 0 || ignored > 0) return [];
  for (const source of watch.sources.values()) {
    const [sign] = source.gpuSigns;
    if (sign) return absent(`there is a GPU here that nothing reads: ${sign.detail}`);
  }
  return [];
}

/** What to say of a node that names more cards than are learnt; `null` where it does not. */
export function tooManyGpus(watch: NodeWatch): string | null {
  const { unlearnt } = watch.gpus;
  if (unlearnt === 0) return null;
  return (
    `The sources of ${watch.node} name more than ${MOST_GPUS} GPUs, the most that are learnt of a node: nobody notices ` +
    `when ${unlearnt} of them cannot be read. Forget cards that are gone, or correct the source that invents them`
  );
}

/** What nobody protects on this node: waivers, ignored cards, quantities neither required nor measured. */
export function unprotectedOn(watch: NodeWatch, settings: NodeSettings, readings: NodeReadings): Unprotected[] {
  const list: Unprotected[] = [];
  const { node } = watch;
  const at = (id: string | undefined): string => (id === undefined ? '' : ` of GPU ${id}`);
  for (const gpu of watch.gpus.known.values()) {
    if (!gpuSettingsOf(settings, gpu).ignore) continue;
    list.push({
      code: 'ignored',
      node,
      id: gpu.id,
      message: `GPU ${gpu.id} on ${node} is ignored by the configuration`,
    });
  }
  const unlearnt = tooManyGpus(watch);
  if (unlearnt !== null) list.push({ code: 'not-measured', node, message: unlearnt });
  const mayWaive = settings.waive.length > 0 || settings.gpus.size > 0;
  const expected = mayWaive ? expectedReadings(judgedGpus(watch, settings), settings) : [];
  for (const { id, requirement, waived } of expected) {
    if (!waived) continue;
    const message = `${requirement}${at(id)} on ${node} may be absent: it is waived`;
    list.push({ code: 'waived', node, ...(id !== undefined && { id }), name: requirement, message });
  }
  const hasTotal = readings.readings.some(
    (reading) => reading.quantity === 'total-power' && reading.state.kind === 'measured',
  );
  if (!hasTotal && !settings.require.includes('total-power')) {
    const message = `total-power on ${node} is neither required nor measured, so its limit protects nothing`;
    list.push({ code: 'not-measured', node, name: 'total-power', message });
  }
  return list;
}
