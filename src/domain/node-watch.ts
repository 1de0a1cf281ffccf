// What has been seen of one node: each of its sources over time, its cards, and what they once were able to tell.
import { type GpuIdentities, identifyGpus } from './known-gpus.ts';
import { type GpuSighting, type HardwareLimits, readingKey, type SourceReport } from './reading.ts';
import type { SourceWatch } from './tracking.ts';

/** Slowdown temperatures of ids that are no known card, remembered all the same. */
const MOST_SLOWDOWNS = 256;
/** Keys of readings that are remembered as seen: far more than a node has, so that invented ids fill no memory. */
const MOST_SEEN = 4_096;

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

/** Takes what a look changed into the node's watch: cards, slowdown temperatures, what was seen. */
export function rewatchNode(
  before: NodeWatch,
  sources: ReadonlyMap<string, SourceWatch>,
  simulated: boolean,
): NodeWatch {
  const answers: SourceReport[] = [];
  const sightings: GpuSighting[] = [];
  for (const { lastAnswer, lastReport } of sources.values()) {
    if (!lastAnswer) continue;
    answers.push(lastAnswer);
    if (lastAnswer === lastReport) sightings.push(...lastAnswer.gpus);
  }
  const gpus = identifyGpus(before.gpus.known, sightings, simulated);
  const slowdownC = takeSlowdowns(before.slowdownC, answers, gpus);
  // Most looks see nothing new: then the sets of before serve on, with nothing copied.
  let seen: Set<string> | null = null;
  let cpuChips: Map<string, number> | null = null;
  for (const source of sources.values()) {
    // What it said last was taken when it said so; since then the machine may have been booted.
    if (source.failure !== null) continue;
    let chips = 0;
    for (const [ownKey, { raw, state }] of source.tracks) {
      if (state.kind !== 'valid') continue;
      const id = raw.component === 'gpu' ? (gpus.aliases.get(raw.id ?? '') ?? raw.id) : raw.id;
      // Which chip of a CPU is lost is not told by a missing reading: it is the CPU's temperature that was seen.
      const ofDevice = raw.component === 'cpu' ? undefined : id;
      const key = ofDevice === raw.id ? ownKey : readingKey(raw.component, ofDevice, raw.quantity);
      if (!before.seen.has(key) && (seen ?? before.seen).size < MOST_SEEN) {
        seen ??= new Set(before.seen);
        seen.add(key);
      }
      if (raw.component === 'cpu' && raw.quantity === 'temperature') chips += 1;
    }
    const most = before.cpuChips.get(source.source);
    if (most !== undefined && chips <= most) continue;
    cpuChips ??= new Map(before.cpuChips);
    cpuChips.set(source.source, chips);
  }
  return {
    node: before.node,
    sources,
    gpus,
    slowdownC,
    seen: seen ?? before.seen,
    cpuChips: cpuChips ?? before.cpuChips,
  };
}

/** A card's slowdown temperature is taken once per start; of ids that are no known card only so many. */
function takeSlowdowns(
  before: ReadonlyMap<string, number>,
  answers: readonly { readonly hardwareLimits: readonly HardwareLimits[] }[],
  gpus: GpuIdentities,
): ReadonlyMap<string, number> {
  let taken: Map<string, number> | null = null;
  for (const { hardwareLimits } of answers) {
    for (const limits of hardwareLimits) {
      if (limits.component !== 'gpu' || limits.id === undefined || limits.slowdownC === undefined) continue;
      const id = gpus.aliases.get(limits.id) ?? limits.id;
      const now = taken ?? before;
      if (now.has(id) || (now.size >= MOST_SLOWDOWNS && !gpus.known.has(id))) continue;
      taken ??= new Map(before);
      taken.set(id, limits.slowdownC);
    }
  }
  return taken ?? before;
}
