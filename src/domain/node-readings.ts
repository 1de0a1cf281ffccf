// What all sources of a node together say at one moment: one reading per quantity and device, the worst of what is
// good enough, or missing with a cause; and everything that must be there and is not. "Good enough" depends on the
// question: for a running workload a failing source's last answer counts for `staleAfter`, for a start it never does.
import {
  type Expected,
  expectedReadings,
  judgedGpus,
  missing,
  missingGpus,
  missingReading,
  requirementOf,
} from './expected-readings.ts';
import type { KnownGpu } from './known-gpus.ts';
import type { NodeWatch } from './node-watch.ts';
import { estimateTotalPower } from './power-estimate.ts';
import {
  type Measured,
  type Missing,
  type NodeReadings,
  parseReading,
  type Quantity,
  type RawReading,
  type Reading,
  readingKey,
  unitOf,
} from './reading.ts';
import { gpuSettingsOf, type NodeSettings } from './settings.ts';
import { type SourceWatch, type Track, witnessOf } from './tracking.ts';

/** `start`: only what was measured for this question counts. `running`: last good readings count for a while. */
export type Purpose = 'start' | 'running';

export interface ReadingOptions {
  readonly purpose: Purpose;
  readonly nowMs: number;
  /** Readings from before this moment are stale: the wall clock jumped, or the machine slept. */
  readonly staleBeforeMs: number;
}

/** All readings of a node for one question. */
export function readNode(watch: NodeWatch, settings: NodeSettings, options: ReadingOptions): NodeReadings {
  const merged = merge(watch, settings, options);
  const readings: Reading[] = [];
  const there: There = { gpus: new Map(), others: [] };
  for (const reading of merged.values()) {
    if (reading.state.kind !== 'measured') continue;
    readings.push(reading);
    noteThere(there, reading, reading.state);
  }
  const gpus = judgedGpus(watch, settings);
  const systemMemory = readings.find((reading) => reading.component === 'memory');
  const hasTotal = readings.some((reading) => reading.quantity === 'total-power');
  for (const expected of expectedReadings(gpus, settings)) {
    if (
      isThere(expected, there) &&
      (expected.requirement !== 'cpu-temperature' || isWholeCpuRead(watch, settings, options))
    ) {
      continue;
    }
    const borrowed = borrowSystemMemory(expected, gpus, systemMemory, watch.node);
    readings.push(borrowed ?? missingReading(expected, merged, watch));
  }
  readings.push(...missingGpus(watch, settings, gpus), ...lostOfSomeGpu(watch.node, merged, settings));
  if (!hasTotal && settings.power) {
    // A package that cannot be read makes the estimate a lower bound, so it is told of those, too.
    const unreadCpu = [...merged.values()].filter(
      ({ component, quantity, state }) => component === 'cpu' && quantity === 'power' && state.kind === 'missing',
    );
    const estimate = estimateTotalPower(watch.node, [...readings, ...unreadCpu], settings);
    if (estimate) readings.push(estimate);
  }
  return { node: watch.node, readings, throttledGpus: throttledGpus(watch, settings) };
}

const OF_SOME_GPU = (['temperature', 'power', 'memory'] as const).map((quantity) => ({
  quantity,
  key: readingKey('gpu', undefined, quantity),
}));

/**
 * What a source says of a GPU that it cannot name, and cannot give: perhaps of a card that nothing else names, so it is
 * missing while it is said. Such a word is not remembered: the card may be told whole at the next look.
 */
function lostOfSomeGpu(node: string, merged: ReadonlyMap<string, Reading>, settings: NodeSettings): Reading[] {
  return OF_SOME_GPU.flatMap(({ quantity, key }) => {
    const state = merged.get(key)?.state;
    if (state?.kind !== 'missing' || state.cause !== 'invalid') return [];
    const requirement = requirementOf('gpu', quantity);
    if (requirement === null) return [];
    const waived = settings.waive.includes(requirement);
    return [{ node, component: 'gpu', quantity, state: { ...state, required: !waived, waived } }];
  });
}

/** Whether a start is told the same as a running workload: no source fails, and every witness has been seen to move. */
export function isReadAlike(watch: NodeWatch): boolean {
  for (const { failure, witnesses } of watch.sources.values()) {
    if (failure) return false;
    for (const witness of witnesses.values()) if (!witness.everChanged && !witness.disqualified) return false;
  }
  return true;
}

/** What each GPU of a node draws, W, where that is known: what {@link readNode} says of it, without all the rest. */
export function readGpuPowersW(
  watch: NodeWatch,
  settings: NodeSettings,
  options: ReadingOptions,
): ReadonlyMap<string, number> {
  const powers = new Map<string, number>();
  for (const { component, id, state } of merge(watch, settings, options, 'power').values()) {
    if (component === 'gpu' && id !== undefined && state.kind === 'measured') powers.set(id, state.value);
  }
  return powers;
}

/** One reading per key: the worst of the good ones, else missing with the most telling cause; `only` of one quantity. */
function merge(
  watch: NodeWatch,
  settings: NodeSettings,
  options: ReadingOptions,
  only: Quantity | null = null,
): Map<string, Reading> {
  const { node, gpus } = watch;
  const merged = new Map<string, Reading>();
  const ranks = new Map<string, number>();
  for (const source of watch.sources.values()) {
    for (const [ownKey, track] of source.tracks) {
      const { raw } = track;
      const { component, quantity } = raw;
      if (only !== null && quantity !== only) continue;
      const isGpu = component === 'gpu';
      const id = isGpu ? (gpus.aliases.get(raw.id ?? '') ?? raw.id) : raw.id;
      if (isGpu && isIgnored(watch, settings, id)) continue;
      const key = id === raw.id ? ownKey : readingKey(component, id, quantity);
      const state = stateOf(track, source, settings, options);
      const old = merged.get(key);
      const rank = raw.rank ?? Infinity;
      if (old && !outranks(state, rank, old.state, ranks.get(key) ?? Infinity)) continue;
      merged.set(
        key,
        id === undefined ? { node, component, quantity, state } : { node, component, id, quantity, state },
      );
      if (old || rank !== Infinity) ranks.set(key, rank);
    }
  }
  return merged;
}

function outranks(state: Measured | Missing, rank: number, old: Measured | Missing, oldRank: number): boolean {
  // "No sensor" invites a waiver: whoever has more to tell goes before it.
  if (state.kind === 'missing') {
    return old.kind === 'missing' && old.cause === 'no-sensor' && state.cause !== 'no-sensor';
  }
  if (old.kind === 'missing') return true;
  if (state.estimated !== old.estimated) return old.estimated;
  return rank === oldRank ? state.value > old.value : rank < oldRank;
}

function isIgnored(watch: NodeWatch, settings: NodeSettings, id: string | undefined): boolean {
  if (id === undefined || settings.gpus.size === 0) return false;
  const gpu = watch.gpus.known.get(id) ?? watch.gpus.listed.get(id) ?? { id };
  return gpuSettingsOf(settings, gpu).ignore;
}

const wholeSeconds = (ms: number): number => Math.round(ms / 1000);

function stateOf(
  track: Track,
  source: SourceWatch,
  settings: NodeSettings,
  options: ReadingOptions,
): Measured | Missing {
  if (track.state.kind === 'missing') return missing(track.state.cause, track.state.detail);
  const ageMs = options.nowMs - track.atMs;
  if (track.atMs < options.staleBeforeMs)
    return missing('stale', 'it was read before the clock jumped or the machine slept');
  if (source.failure) {
    const why = `${source.source}: ${source.failure.detail}`;
    if (options.purpose === 'start') return missing('source-failed', why);
    if (ageMs > settings.staleAfterMs)
      return missing('source-failed', `${why}; its last reading is ${wholeSeconds(ageMs)} s old`);
  }
  if (ageMs > settings.staleAfterMs) {
    return missing(
      'stale',
      `it is ${wholeSeconds(ageMs)} s old, at most ${settings.staleAfterMs / 1000} s are allowed`,
    );
  }
  const witness = options.purpose === 'start' ? witnessOf(source, track.raw) : null;
  if (witness && !witness.everChanged) {
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

/** What is measured: of each GPU which quantities, and everything else. An estimate never satisfies a requirement. */
interface There {
  readonly gpus: Map<string | undefined, Quantity[]>;
  readonly others: Reading[];
}

function noteThere(there: There, reading: Reading, state: Measured): void {
  if (state.estimated) return;
  if (reading.component !== 'gpu') {
    there.others.push(reading);
    return;
  }
  const own = there.gpus.get(reading.id);
  if (own) own.push(reading.quantity);
  else there.gpus.set(reading.id, [reading.quantity]);
}

function isThere({ component, id, quantity }: Expected, there: There): boolean {
  if (component === 'gpu') return there.gpus.get(id)?.includes(quantity) ?? false;
  return there.others.some((reading) => reading.component === component && reading.quantity === quantity);
}

const isChip = (raw: RawReading): boolean => raw.component === 'cpu' && raw.quantity === 'temperature';

/**
 * A second socket that is silent is a lost sensor, even while the first goes on talking: one source at least must give
 * as many CPU chips as it ever gave, and as it lists now. Counted, not named: an exporter's upgrade may rename its chips.
 */
function isWholeCpuRead(watch: NodeWatch, settings: NodeSettings, options: ReadingOptions): boolean {
  for (const source of watch.sources.values()) {
    const most = watch.cpuChips.get(source.source) ?? 0;
    if (most === 0) continue;
    let chips = 0;
    for (const track of source.tracks.values()) {
      if (isChip(track.raw) && stateOf(track, source, settings, options).kind === 'measured') chips += 1;
    }
    const listed = new Set<string | undefined>();
    for (const raw of source.lastAnswer?.readings ?? []) if (isChip(raw) && !raw.informational) listed.add(raw.id);
    if (chips >= Math.max(most, listed.size)) return true;
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
