// How busy the CPUs are and how full the memory is, from node_exporter or windows_exporter, by the rules of
// cpu-share.ts and memory-share.ts. A share needs two scrapes, 1 to 90 s apart; a scrape within a second of the one
// before gives its share again, with its time. A line that cannot be read makes the whole share missing: the CPU whose
// line it was may be the one that is busy.
import type { MissingCause, RawReading } from '../domain/reading.ts';
import { type CpuTimes, LONGEST_SHARE_MS, SHORTEST_SHARE_MS, shareBetween } from './cpu-share.ts';
import { type MemoryFigures, memoryShare } from './memory-share.ts';
import { failedText } from './node-cpu-series.ts';
import { clipped, leastOf, mostOf, type NodeSamples, rejectionText } from './node-samples.ts';
import type { Sample } from './scrape.ts';
import { NODE } from './series.ts';

/** In the order of {@link CpuTimes}. */
const LINUX_MODES = ['user', 'nice', 'system', 'idle', 'iowait', 'irq', 'softirq', 'steal'];
/** In the same places. `dpc` and `interrupt` are contained in `privileged`. */
const WINDOWS_MODES = ['user', '', 'privileged', 'idle'];

/** A machine has fewer; the exporter is not to be believed beyond. */
const MOST_CPUS = 8192;

const LINUX_MEMORY = [
  NODE.memoryFree,
  NODE.memoryBuffers,
  NODE.memoryCached,
  NODE.memoryReclaimable,
  NODE.memoryShared,
];

/** The share of time that one target's CPUs worked; remembers the scrape before. */
export class NodeCpuShare {
  #last: CpuTimes | undefined;
  /** The stamp of that sample where the body has one: a server gives the same sample until it has a newer one. */
  #lastStampMs: number | null = null;
  #share: RawReading | undefined;

  read(node: NodeSamples): RawReading {
    const isWindows = !isTold(node, NODE.cpuTime) && isTold(node, NODE.windowsCpuTime);
    const name = isWindows ? NODE.windowsCpuTime : NODE.cpuTime;
    const samples = node.of(name);
    const rejected = node.rejectedOf(name)[0];
    if (rejected) return missing('invalid', rejectionText(rejected));
    const [first] = samples;
    if (!first) {
      const failed = failedText(node, ['cpu']);
      return missing(failed === '' ? 'no-sensor' : 'unreadable', `no ${name}${failed && `: ${failed}`}`);
    }
    const atMs = node.timeOf(first).sampledAtMs ?? node.scrape.startedAtMs;
    const cpus = isWindows ? timesOf(samples, 'core', WINDOWS_MODES) : timesOf(samples, 'cpu', LINUX_MODES);
    if (!cpus || cpus.size === 0) return missing('invalid', `${name}: a counter is no number, or none has a mode`);
    return this.#step({ atMs, cpus }, first.timestampMs, name);
  }

  #step(to: CpuTimes, stampMs: number | null, name: string): RawReading {
    const from = this.#last;
    const overMs = from ? to.atMs - from.atMs : Infinity;
    const isSame = from !== undefined && stampMs !== null && stampMs === this.#lastStampMs;
    if (isSame || (overMs >= 0 && overMs < SHORTEST_SHARE_MS)) return this.#share ?? notYet(name);
    this.#last = to;
    this.#lastStampMs = stampMs;
    this.#share = from && overMs > 0 && overMs <= LONGEST_SHARE_MS ? shareBetween(from, to, name) : undefined;
    return this.#share ?? notYet(name);
  }
}

/** `null` where a counter is no number. Of a series that is there twice the first counts. */
function timesOf(samples: readonly Sample[], label: string, modes: readonly string[]): CpuTimes['cpus'] | null {
  const cpus = new Map<string, (number | undefined)[]>();
  for (const { labels, value } of samples) {
    const cpu = labels[label];
    const mode = modes.indexOf(labels['mode'] ?? '');
    if (cpu === undefined || mode < 0) continue;
    if (!Number.isFinite(value)) return null;
    let ticks = cpus.get(cpu);
    if (!ticks) {
      if (cpus.size >= MOST_CPUS) return null;
      ticks = modes.map(() => undefined);
      cpus.set(cpu, ticks);
    }
    ticks[mode] ??= value * 100;
  }
  return cpus;
}

/** 1 - available / total of a target, in its own words. */
export function nodeMemory(node: NodeSamples, zfsCacheIsAvailable: boolean): RawReading {
  const linux = [...node.of(NODE.memoryTotal), ...node.rejectedOf(NODE.memoryTotal)];
  const windows = [NODE.windowsMemoryAvailable, NODE.windowsMemoryTotal, NODE.windowsMemoryTotalOld];
  if (linux.length === 0 && windows.some((name) => isTold(node, name))) return windowsMemory(node, windows);

  const isToldAvailable = node.of(NODE.memoryAvailable).length > 0;
  const names = [NODE.memoryTotal, NODE.memoryAvailable, ...(isToldAvailable ? [] : LINUX_MEMORY)];
  const fault = faultIn(node, names);
  if (fault !== undefined) return missingMemory('invalid', fault);
  if (linux.length === 0) {
    const failed = failedText(node, ['meminfo']);
    return missingMemory(
      failed === '' ? 'no-sensor' : 'unreadable',
      `no ${NODE.memoryTotal}${failed && `: ${failed}`}`,
    );
  }
  // Of a series that is there twice, what makes the memory look fuller.
  const figures: MemoryFigures = {
    total: highest(node, NODE.memoryTotal),
    available: lowest(node, NODE.memoryAvailable),
    free: lowest(node, NODE.memoryFree),
    buffers: lowest(node, NODE.memoryBuffers),
    cached: lowest(node, NODE.memoryCached),
    reclaimable: lowest(node, NODE.memoryReclaimable),
    shared: highest(node, NODE.memoryShared),
    zfsCacheAboveMinimum: zfsCacheAboveMinimum(node),
  };
  const samples = names.flatMap((name) => node.of(name));
  return { ...memoryShare(figures, zfsCacheIsAvailable, 'node_memory'), ...node.timeOfAll(samples) };
}

function windowsMemory(node: NodeSamples, names: readonly string[]): RawReading {
  const fault = faultIn(node, names);
  if (fault !== undefined) return missingMemory('invalid', fault);
  const figures: MemoryFigures = {
    total: highest(node, NODE.windowsMemoryTotal) ?? highest(node, NODE.windowsMemoryTotalOld),
    available: lowest(node, NODE.windowsMemoryAvailable),
    free: undefined,
    buffers: undefined,
    cached: undefined,
    reclaimable: undefined,
    shared: undefined,
    zfsCacheAboveMinimum: 0,
  };
  const samples = names.flatMap((name) => node.of(name));
  return { ...memoryShare(figures, false, 'windows_memory'), ...node.timeOfAll(samples) };
}

/** What is wrong with the numbers that the share is made of. */
function faultIn(node: NodeSamples, names: readonly string[]): string | undefined {
  const rejected = names.flatMap((name) => node.rejectedOf(name))[0];
  if (rejected) return rejectionText(rejected);
  const odd = names.flatMap((name) => node.of(name)).find(({ value }) => !Number.isFinite(value) || value < 0);
  return odd && `${odd.name} is ${odd.value}`;
}

/** 0 where a number is missing or none: by the letter the cache is in use. */
function zfsCacheAboveMinimum(node: NodeSamples): number {
  const [size, minimum] = [lowest(node, NODE.zfsCache), highest(node, NODE.zfsCacheMinimum)];
  const above = size === undefined || minimum === undefined ? 0 : size - minimum;
  return above > 0 && Number.isFinite(above) ? above : 0;
}

/** Whether a series is there, be it in lines that cannot be read. */
function isTold(node: NodeSamples, name: string): boolean {
  return node.of(name).length > 0 || node.rejectedOf(name).length > 0;
}

function highest(node: NodeSamples, name: string): number | undefined {
  return mostOf(node.of(name).map(({ value }) => value));
}

function lowest(node: NodeSamples, name: string): number | undefined {
  return leastOf(node.of(name).map(({ value }) => value));
}

function notYet(name: string): RawReading {
  return missing('not-yet-read', `${name}: a share takes two scrapes, 1 to 90 s apart`);
}

function missing(cause: MissingCause, detail: string): RawReading {
  return { component: 'cpu', quantity: 'utilization', value: null, cause, origin: clipped(detail) };
}

function missingMemory(cause: MissingCause, detail: string): RawReading {
  return { component: 'memory', quantity: 'memory', value: null, cause, origin: clipped(detail) };
}
