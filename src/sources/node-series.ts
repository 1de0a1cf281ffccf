// The readings of node_exporter, and of windows_exporter as far as it has any. The same machine must be judged alike
// whether its files are read here or by an exporter over there, so the rules are those of the local readers, used from
// their files; the node-*-series.ts only say where the exporter keeps what. A body without any series of these exporters
// gives nothing, not even missing readings: it is another exporter's.
import type { Witness } from '../domain/reading.ts';
import { NodeCpuTemperature } from './node-cpu-series.ts';
import { NodeGpus } from './node-gpu-series.ts';
import { ignoredOf } from './node-ignored.ts';
import { NodeRapl, NodeTotalPower } from './node-power-series.ts';
import { leastOf, NodeSamples } from './node-samples.ts';
import { NodeCpuShare, nodeMemory } from './node-share-series.ts';
import type { Scrape, SeriesAnswer, SeriesEngine, SeriesOptions } from './scrape.ts';
import { NODE, NODE_SERIES_NAMES } from './series.ts';

const MOST_NOTES = 50;
/** An exporter that names other chips at every scrape must not fill the memory. */
const MOST_NAMES = 1024;

const NAMES: ReadonlySet<string> = new Set(NODE_SERIES_NAMES);

const NOTHING: SeriesAnswer = {
  readings: [],
  gpus: [],
  gpuSigns: [],
  witnesses: [],
  throttledGpus: [],
  hardwareLimits: [],
  notes: [],
  ignored: [],
};

/** What node_exporter's series mean; remembers counters, chips and supplies of one target. */
export function createNodeSeries(options: SeriesOptions): SeriesEngine {
  return new NodeSeries(options);
}

class NodeSeries implements SeriesEngine {
  readonly #options: SeriesOptions;
  readonly #cpuTemperature: NodeCpuTemperature;
  readonly #cpuShare = new NodeCpuShare();
  readonly #gpus = new NodeGpus();
  readonly #totalPower = new NodeTotalPower();
  readonly #rapl = new NodeRapl();
  /** The names of chips, which a chip keeps when one scrape does not tell them. */
  #names: ReadonlyMap<string, string> = new Map();

  constructor(options: SeriesOptions) {
    this.#options = options;
    this.#cpuTemperature = new NodeCpuTemperature(options.tctlOffsetC);
  }

  read(scrape: Scrape): SeriesAnswer {
    if (!isOfNode(scrape)) return NOTHING;
    const node = new NodeSamples(scrape, this.#names);
    this.#names = new Map(node.chips.slice(0, MOST_NAMES).map(({ chip, name }) => [chip, name]));
    const cpu = this.#cpuTemperature.read(node);
    const gpus = this.#gpus.read(node);
    const total = this.#totalPower.read(node);
    const rapl = this.#rapl.read(node);
    const parts = [cpu, gpus, total, rapl];
    return {
      ...NOTHING,
      readings: [
        this.#cpuShare.read(node),
        nodeMemory(node, this.#options.zfsCacheIsAvailable),
        ...parts.flatMap(({ readings }) => readings),
      ],
      gpus: gpus.gpus,
      witnesses: witnessesOf(node),
      hardwareLimits: [...cpu.hardwareLimits, ...gpus.hardwareLimits],
      notes: parts.flatMap(({ notes }) => notes).slice(0, MOST_NOTES),
      ignored: this.#options.explains ? [...parts.flatMap(({ ignored }) => ignored), ...ignoredOf(node)] : [],
    };
  }
}

function isOfNode(scrape: Scrape): boolean {
  if (NODE_SERIES_NAMES.some((name) => scrape.samples.has(name))) return true;
  return scrape.rejected.some(({ name }) => NAMES.has(name));
}

/** The exporter's clock must move; without one the counters of time cannot vouch for more than themselves. */
function witnessesOf(node: NodeSamples): readonly Witness[] {
  const [time] = node.of(NODE.time);
  return time && Number.isFinite(time.value) ? [{ of: 'source', name: NODE.time, value: time.value }] : [];
}

/**
 * How old the oldest file of the textfile collector is, seconds, by the exporter's own clock; `null` where it serves
 * none. What other exporters' series stand in the body of a node_exporter may be as old as that.
 */
export function textfileAgeSeconds(scrape: Scrape): number | null {
  const times = (scrape.samples.get(NODE.textfileTime) ?? []).map(({ value }) => value);
  const oldest = leastOf(times.filter(Number.isFinite));
  return oldest === undefined ? null : scrape.sourceWallMs / 1000 - oldest;
}
