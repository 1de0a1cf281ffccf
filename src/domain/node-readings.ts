// What all sources of a node together say at one moment: one reading per quantity and device, the worst of what is
// good enough, or missing with a cause; and everything that must be there and is not. "Good enough" depends on the
// question: for a running workload a failing source's last answer counts for `staleAfter`, for a start it never does.
import { type GpuIdentities, identifyGpus, type KnownGpu } from './known-gpus.ts';
import { estimateTotalPower } from './power-estimate.ts';
import {
  type HardwareLimits,
  type Measured,
  type Missing,
  type NodeReadings,
  parseReading,
  type Quantity,
  type Reading,
  readingKey,
  unitOf,
} from './reading.ts';
import type { Unprotected } from './result.ts';
import { gpuSettingsOf, type NodeSettings, type RequirementName } from './settings.ts';
import { type SourceWatch, type Track, witnessOf } from './tracking.ts';

/** `start`: only what was measured for this question counts. `running`: last good readings count for a while. */
export type Purpose = 'start' | 'running';

export interface NodeWatch {
  readonly node: string;
  readonly sources: ReadonlyMap<string, SourceWatch>;
  readonly gpus: GpuIdentities;
  /** Cards' own slowdown temperatures, °C, taken once per start. */
  readonly slowdownC: ReadonlyMap<string, number>;
  /** Keys of readings that were good at least once since this process started. */
  readonly seen: ReadonlySet<string>;
  /** For each source the most CPU chips that gave it a temperature at the same time. */
  readonly cpuChips: ReadonlyMap<string, number>;
}

export interface ReadingOptions {
  readonly purpose: Purpose;
  readonly nowMs: number;
  /** Readings from before this moment are stale: the wall clock jumped, or the machine slept. */
  readonly staleBeforeMs: number;
}

interface Expected {
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

/** All readings of a node for one question. */
export function readNode(watch: NodeWatch, settings: NodeSettings, options: ReadingOptions): NodeReadings {
  const measured = merge(watch, settings, options);
  const readings: Reading[] = [...measured.values()].filter((reading) => reading.state.kind === 'measured');
  const gpus = judgedGpus(watch, settings);
  const systemMemory = readings.find((reading) => reading.component === 'memory');
  for (const expected of expectedReadings(gpus, settings)) {
    if (
      isThere(expected, readings) &&
      (expected.requirement !== 'cpu-temperature' || isWholeCpuRead(watch, settings, options))
    ) {
      continue;
    }
    const borrowed = borrowSystemMemory(expected, gpus, systemMemory, watch.node);
    readings.push(borrowed ?? missingReading(expected, measured, watch));
  }
  readings.push(...missingGpus(watch, settings, gpus));
  const total = readings.find((reading) => reading.quantity === 'total-power' && reading.state.kind === 'measured');
  // A package that cannot be read makes the estimate a lower bound, so it is told of those, too.
  const unreadCpu = [...measured.values()].filter(
    ({ component, quantity, state }) => component === 'cpu' && quantity === 'power' && state.kind === 'missing',
  );
  const estimate = total ? null : estimateTotalPower(watch.node, [...readings, ...unreadCpu], settings);
  if (estimate) readings.push(estimate);
  return { node: watch.node, readings, throttledGpus: throttledGpus(watch, settings) };
}

/** One reading per key: the worst of the good ones, else missing with the most telling cause. */
function merge(watch: NodeWatch, settings: NodeSettings, options: ReadingOptions): Map<string, Reading> {
  const merged = new Map<string, Reading>();
  const ranks = new Map<string, number>();
  for (const source of watch.sources.values()) {
    for (const track of source.tracks.values()) {
      const raw = track.raw;
      const id = raw.component === 'gpu' ? (watch.gpus.aliases.get(raw.id ?? '') ?? raw.id) : raw.id;
      if (raw.component === 'gpu' && isIgnored(watch, settings, id)) continue;
      const key = readingKey(raw.component, id, raw.quantity);
      const state = stateOf(track, source, settings, options);
      const old = merged.get(key);
      const rank = raw.rank ?? Infinity;
      if (old && !outranks(state, rank, old.state, ranks.get(key) ?? Infinity)) continue;
      merged.set(key, {
        node: watch.node,
        component: raw.component,
        ...(id !== undefined && { id }),
        quantity: raw.quantity,
        state,
      });
      ranks.set(key, rank);
    }
  }
  return merged;
}

function outranks(state: Measured | Missing, rank: number, old: Measured | Missing, oldRank: number): boolean {
  if (state.kind === 'missing') return false;
  if (old.kind === 'missing') return true;
  if (state.estimated !== old.estimated) return old.estimated;
  return rank === oldRank ? state.value > old.value : rank < oldRank;
}

function isIgnored(watch: NodeWatch, settings: NodeSettings, id: string | undefined): boolean {
  if (id === undefined) return false;
  const gpu = watch.gpus.known.get(id) ?? watch.gpus.listed.get(id) ?? { id };
  return gpuSettingsOf(settings, gpu).ignore;
}

const missing = (cause: Missing['cause'], detail: string): Missing => ({
  kind: 'missing',
  cause,
  detail,
  required: false,
  waived: false,
});

function stateOf(
  track: Track,
  source: SourceWatch,
  settings: NodeSettings,
  options: ReadingOptions,
): Measured | Missing {
  if (track.state.kind === 'missing') return missing(track.state.cause, track.state.detail);
  const ageMs = options.nowMs - track.atMs;
  const ageS = Math.round(ageMs / 1000);
  if (track.atMs < options.staleBeforeMs)
    return missing('stale', 'it was read before the clock jumped or the machine slept');
  if (source.failure) {
    const why = `${source.source}: ${source.failure.detail}`;
    if (options.purpose === 'start') return missing('source-failed', why);
    if (ageMs > settings.staleAfterMs) return missing('source-failed', `${why}; its last reading is ${ageS} s old`);
  }
  if (ageMs > settings.staleAfterMs) {
    return missing('stale', `it is ${ageS} s old, at most ${settings.staleAfterMs / 1000} s are allowed`);
  }
  const witness = witnessOf(source, track.raw);
  if (options.purpose === 'start' && witness && !witness.everChanged) {
    return missing('not-yet-seen-to-change', `${witness.name} has not moved since this service started`);
  }
  const parsed = parseReading(track.raw.quantity, track.value);
  if (!parsed.ok) return missing('invalid', parsed.detail);
  return {
    kind: 'measured',
    value: parsed.value,
    unit: unitOf(track.raw.quantity),
    atMs: track.atMs,
    source: source.source,
    origin: track.raw.origin,
    estimated: track.raw.estimated ?? false,
    informational: false,
    secondLook: track.jumped ? 'awaiting' : 'not-needed',
  };
}

function expectedReadings(gpus: readonly KnownGpu[], settings: NodeSettings): Expected[] {
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
    for (const quantity of ['temperature', 'power', 'memory'] as const) {
      const requirement: RequirementName = `gpu-${quantity}`;
      const waived = isWaived(requirement) || own.waive.includes(requirement);
      expected.push({ component: 'gpu', id: gpu.id, quantity, requirement, waived });
    }
  }
  return expected;
}

function isThere(expected: Expected, readings: readonly Reading[]): boolean {
  return readings.some(
    (reading) =>
      reading.component === expected.component &&
      reading.quantity === expected.quantity &&
      (expected.id === undefined || reading.id === expected.id) &&
      // An estimate never satisfies a requirement.
      reading.state.kind === 'measured' &&
      !reading.state.estimated,
  );
}

/**
 * A second socket that is silent is a lost sensor, even while the first goes on talking: one source at least must give
 * as many CPU chips as it ever gave, and as it lists now. Counted, not named: an exporter's upgrade may rename its chips.
 */
function isWholeCpuRead(watch: NodeWatch, settings: NodeSettings, options: ReadingOptions): boolean {
  for (const source of watch.sources.values()) {
    const most = watch.cpuChips.get(source.source) ?? 0;
    if (most === 0) continue;
    const chips = [...source.tracks.values()].filter(
      (track) =>
        track.raw.component === 'cpu' &&
        track.raw.quantity === 'temperature' &&
        stateOf(track, source, settings, options).kind === 'measured',
    );
    const listed = source.lastAnswer?.readings.filter(
      (raw) => raw.component === 'cpu' && raw.quantity === 'temperature' && !raw.informational,
    );
    if (chips.length >= Math.max(most, new Set(listed?.map(({ id }) => id)).size)) return true;
  }
  return false;
}

/** GB10, Jetson: the GPU's memory is the system's. */
function borrowSystemMemory(
  expected: Expected,
  gpus: readonly KnownGpu[],
  systemMemory: Reading | undefined,
  node: string,
): Reading | null {
  if (expected.requirement !== 'gpu-memory' || systemMemory?.state.kind !== 'measured') return null;
  if (!gpus.find((gpu) => gpu.id === expected.id)?.unifiedMemory) return null;
  const { component, id, quantity } = expected;
  const state = { ...systemMemory.state, origin: `unified memory: ${systemMemory.state.origin}` };
  return { node, component, ...(id !== undefined && { id }), quantity, state };
}

function missingReading(expected: Expected, merged: ReadonlyMap<string, Reading>, watch: NodeWatch): Reading {
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
  for (const reading of merged.values()) {
    const isSame =
      reading.component === expected.component &&
      reading.quantity === expected.quantity &&
      (expected.id === undefined || reading.id === expected.id);
    if (isSame && reading.state.kind === 'missing') return reading.state;
  }
  if (expected.id !== undefined) {
    const failing = failureOfTool(watch, expected.id);
    if (failing) return failing;
    const card = watch.gpus.listed.has(expected.id)
      ? 'the card is listed and no source reads it'
      : 'the card was here earlier and no source lists it now';
    return missing(watch.gpus.listed.has(expected.id) ? 'no-sensor' : 'gone', card);
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

/** Cards that must exist and that nothing names: too few for `expectGpus`, or a sign without a card. */
function missingGpus(watch: NodeWatch, settings: NodeSettings, gpus: readonly KnownGpu[]): Reading[] {
  const absent = (detail: string): Reading[] => [
    {
      node: watch.node,
      component: 'gpu',
      quantity: 'temperature',
      state: { kind: 'missing', cause: 'gone', detail, required: true, waived: false },
    },
  ];
  const ignored = [...settings.gpus.values()].filter((gpu) => gpu.ignore).length;
  const expected = settings.expectGpus - ignored;
  if (gpus.length < expected) return absent(`${gpus.length} of ${expected} expected GPUs are known`);
  if (gpus.length > 0 || ignored > 0) return [];
  for (const source of watch.sources.values()) {
    const [sign] = source.gpuSigns;
    if (sign) return absent(`there is a GPU here that nothing reads: ${sign.detail}`);
  }
  return [];
}

function throttledGpus(watch: NodeWatch, settings: NodeSettings): NodeReadings['throttledGpus'] {
  const throttled = new Map<string, string>();
  for (const source of watch.sources.values()) {
    if (source.failure) continue;
    for (const { gpu, reason } of source.lastReport.throttledGpus) {
      const id = watch.gpus.aliases.get(gpu) ?? gpu;
      if (!isIgnored(watch, settings, id)) throttled.set(id, reason);
    }
  }
  return [...throttled].map(([gpu, reason]) => ({ gpu, reason }));
}

/** Takes what a look changed into the node's watch: cards, slowdown temperatures, what was seen. */
export function rewatchNode(
  before: NodeWatch,
  sources: ReadonlyMap<string, SourceWatch>,
  simulated: boolean,
): NodeWatch {
  const answers = [...sources.values()].flatMap((source) => (source.lastAnswer ? [source.lastAnswer] : []));
  const current = answers.filter((answer) => sources.get(answer.source)?.lastReport === answer);
  const sightings = current.flatMap((answer) => answer.gpus);
  const gpus = identifyGpus(before.gpus.known, sightings, simulated);
  const slowdownC = takeSlowdowns(before.slowdownC, answers, gpus.aliases);
  const seen = new Set(before.seen);
  const cpuChips = new Map(before.cpuChips);
  for (const source of sources.values()) {
    let chips = 0;
    for (const track of source.tracks.values()) {
      if (track.state.kind !== 'valid') continue;
      const id = track.raw.component === 'gpu' ? (gpus.aliases.get(track.raw.id ?? '') ?? track.raw.id) : track.raw.id;
      seen.add(readingKey(track.raw.component, id, track.raw.quantity));
      if (track.raw.component === 'cpu' && track.raw.quantity === 'temperature') chips += 1;
    }
    cpuChips.set(source.source, Math.max(chips, cpuChips.get(source.source) ?? 0));
  }
  return { node: before.node, sources, gpus, slowdownC, seen, cpuChips };
}

function takeSlowdowns(
  before: ReadonlyMap<string, number>,
  answers: readonly { readonly hardwareLimits: readonly HardwareLimits[] }[],
  aliases: ReadonlyMap<string, string>,
): ReadonlyMap<string, number> {
  const taken = new Map(before);
  for (const limits of answers.flatMap((answer) => answer.hardwareLimits)) {
    if (limits.component !== 'gpu' || limits.id === undefined || limits.slowdownC === undefined) continue;
    const id = aliases.get(limits.id) ?? limits.id;
    if (!taken.has(id)) taken.set(id, limits.slowdownC);
  }
  return taken;
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
  const waivers = expectedReadings(judgedGpus(watch, settings), settings).filter((expected) => expected.waived);
  for (const { id, requirement } of waivers) {
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
