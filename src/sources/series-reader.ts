// All series of one target as one reader: node_exporter's, GPU exporters' and power exporters' series are looked for in
// every body, whatever exporter the URL was meant to be, since bodies are merged (textfile collectors, agents) and
// nobody has to configure kinds. Adds the one rule that needs to know of several engines: what node_exporter serves from
// text files is as old as its oldest file, for the exporter reads the same file again for ever.
import type { RawReading } from '../domain/reading.ts';
import { createGpuSeries } from './gpu-series.ts';
import { createNodeSeries, textfileAgeSeconds } from './node-series.ts';
import { createPowerSeries, outletNames, type PowerSeriesOptions } from './power-series.ts';
import type { Scrape, SeriesAnswer, SeriesEngine } from './scrape.ts';
import { WANTED_NAMES } from './series.ts';

/** Makes readings of the scrapes of one target, which it remembers for rates. */
export interface SeriesReader extends SeriesEngine {
  /** Sample names that it reads; nothing else needs to be parsed. */
  readonly wanted: ReadonlySet<string>;
}

/** The reader of one target of one node. */
export function createSeriesReader(options: PowerSeriesOptions): SeriesReader {
  const node = createNodeSeries(options);
  const others = [createGpuSeries(options), createPowerSeries(options)];
  return {
    // One set for all targets, where no outlets make a difference.
    wanted: options.outlets.length === 0 ? WANTED_NAMES : new Set([...WANTED_NAMES, ...outletNames(options.outlets)]),
    read(scrape) {
      const fromFiles = writtenAtMs(scrape);
      const own = node.read(scrape);
      const answers = others.map((engine) => noNewerThan(fromFiles, engine.read(scrape)));
      return join([own, ...(own.witnesses.length > 0 ? answers.map(byAnotherProgram) : answers)]);
    },
  };
}

/** When the oldest text file of a node_exporter was written, monotonic; `null` where it serves none. */
function writtenAtMs(scrape: Scrape): number | null {
  const ageSeconds = textfileAgeSeconds(scrape);
  return ageSeconds === null ? null : scrape.finishedAtMs - ageSeconds * 1000;
}

/** Series of other exporters in a node_exporter's body came by a text file. */
function noNewerThan(atMs: number | null, answer: SeriesAnswer): SeriesAnswer {
  if (atMs === null) return answer;
  const readings = answer.readings.map(
    (reading): RawReading => ({ ...reading, sampledAtMs: Math.min(reading.sampledAtMs ?? atMs, atMs) }),
  );
  return { ...answer, readings };
}

/** In a merged body node_exporter's clock goes on while a GPU's exporter repeats itself for ever. */
function byAnotherProgram(answer: SeriesAnswer): SeriesAnswer {
  return { ...answer, readings: answer.readings.map((reading) => ({ ownWitnessOnly: true as const, ...reading })) };
}

function join(answers: readonly SeriesAnswer[]): SeriesAnswer {
  return {
    readings: answers.flatMap((answer) => answer.readings),
    gpus: answers.flatMap((answer) => answer.gpus),
    gpuSigns: answers.flatMap((answer) => answer.gpuSigns),
    witnesses: answers.flatMap((answer) => answer.witnesses),
    throttledGpus: answers.flatMap((answer) => answer.throttledGpus),
    hardwareLimits: answers.flatMap((answer) => answer.hardwareLimits),
    notes: answers.flatMap((answer) => answer.notes),
    ignored: answers.flatMap((answer) => answer.ignored),
  };
}
