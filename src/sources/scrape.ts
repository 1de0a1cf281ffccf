// What one scrape of one target said, between the bytes and the readings: exposition.ts makes samples of a body,
// promql.ts makes them of a query's answer, and the series (node-series.ts, gpu-series.ts, power-series.ts) make readings
// of them. A value here is still raw: NaN, infinite, a sentinel, or in the exporter's own unit.
import type { GpuSighting, GpuSign, HardwareLimits, RawReading, SourceReport, Witness } from '../domain/reading.ts';

/** Labels of a sample, in an object without prototype: a label may be called `constructor`. */
export type Labels = Readonly<Record<string, string>>;

export interface Sample {
  readonly name: string;
  readonly labels: Labels;
  readonly value: number;
  /** The stamp that the body gives with the sample, Unix ms; `null` without one. May be nonsense. */
  readonly timestampMs: number | null;
}

/** A line of a wanted family that is none, or whose value is no number. What it would have told is missing. */
export interface RejectedLine {
  /** From 1; 0 where the source has no lines. */
  readonly line: number;
  readonly name: string;
  /** `null` where the labels could not be read: nobody knows whose value it was. */
  readonly labels: Labels | null;
  readonly reason: string;
  /** The line itself, printable, at most 120 characters. */
  readonly text: string;
}

/** The labels of a line of which nothing else is read: they name a card. */
export interface ListedSeries {
  readonly name: string;
  readonly labels: Labels;
}

export interface Scrape {
  /** By metric name, in the order of the body. Only names that are read. */
  readonly samples: ReadonlyMap<string, readonly Sample[]>;
  /** Of names that are read; at most 50 are kept. */
  readonly rejected: readonly RejectedLine[];
  /** How many there were. */
  readonly rejectedCount: number;
  /** Of families that are read for whom they name alone; not every line. */
  readonly listed?: readonly ListedSeries[];
  /** Monotonic times of the request. A sample without a stamp is as old as the start. */
  readonly startedAtMs: number;
  readonly finishedAtMs: number;
  /** What the source's own clock said at `finishedAtMs`, Unix ms; ours where it does not tell. */
  readonly sourceWallMs: number;
}

/** Something that is there and is not read: for `explain`. */
export interface IgnoredSeries {
  readonly what: string;
  readonly says?: string;
  readonly why: string;
}

/** What series make of a scrape; spread over several engines and joined. */
export interface SeriesAnswer {
  readonly readings: readonly RawReading[];
  readonly gpus: readonly GpuSighting[];
  readonly gpuSigns: readonly GpuSign[];
  readonly witnesses: readonly Witness[];
  readonly throttledGpus: SourceReport['throttledGpus'];
  readonly hardwareLimits: readonly HardwareLimits[];
  /** For people, one line each; only what is worth telling. */
  readonly notes: readonly string[];
  /** Only filled when asked for: it costs time that a tick does not have. */
  readonly ignored: readonly IgnoredSeries[];
}

/** What a set of series knows beside the scrape. */
export interface SeriesOptions {
  /** How far Tctl lies above the die on this node, °C; only for AMD chips without Tdie. */
  readonly tctlOffsetC: number;
  readonly zfsCacheIsAvailable: boolean;
  /** Collect `ignored`. */
  readonly explains: boolean;
}

/** One kind of series of one target: remembers what a rate needs from the scrape before. */
export interface SeriesEngine {
  read(scrape: Scrape): SeriesAnswer;
}

/** Monotonic time of a sample where its body stamps it; `undefined` where the start of the look counts. */
export function sampledAtMs(sample: Sample, scrape: Scrape): number | undefined {
  if (sample.timestampMs === null) return undefined;
  return scrape.finishedAtMs - (scrape.sourceWallMs - sample.timestampMs);
}
