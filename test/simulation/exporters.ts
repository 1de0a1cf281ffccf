// The programs that tell of a node, as servers of bytes: node_exporter, dcgm-exporter, nvidia_gpu_exporter, or several
// behind one address. They are read by the real source (src/sources/exporter.ts) through a pretended HTTP getter. Each
// takes a sample of the truth once per period and serves that; each can be made to hang, lie, freeze, repeat itself, be
// cut off, vanish and come back. What was truly delivered to whom is written down for those who judge the service.
import type { FailureCause } from '../../src/domain/reading.ts';
import type { HttpAnswer } from '../../src/sources/http-get.ts';
import { exposition, type Told } from './exposition-text.ts';
import { type LightSample, lightSample } from './light-source.ts';
import type { Machine } from './machine.ts';
import { WORLD_BEGINS_WALL_MS } from './timeline.ts';

export type ExporterKind = 'node' | 'dcgm' | 'nvidia' | 'merged';

/** How an exporter fails. `card` is an index; `by` is °C or W. */
export type ExporterFault =
  | { readonly kind: 'hang' | 'refuse' | 'error' | 'empty' | 'html' | 'cut' | 'cut-quietly' | 'freeze' | 'slow' }
  | { readonly kind: 'stranger'; readonly of: Machine }
  /** Reads too low, and goes on telling. */
  | { readonly kind: 'lie-low'; readonly by: number }
  | { readonly kind: 'not-a-number'; readonly text: string }
  | { readonly kind: 'card-missing'; readonly card: number };

/** One sample that is mad, and no other: a jump of a temperature or of a power. */
export interface MadSample {
  readonly quantity: 'temperature' | 'power';
  readonly card: number;
  readonly value: number;
}

/** What an exporter gave to a process. */
export interface Delivery {
  readonly atMs: number;
  readonly sampledAtMs: number;
  /** Everything that must be read, and in time, as far as anybody could tell: a lie may look good. */
  readonly isGood: boolean;
  /** An answer, whatever is in it or not in it, and no failure of the source. */
  readonly isAnswer: boolean;
  /** The highest shares of their hard stops that were told: 1 is at the hard stop. */
  readonly told: Told;
  readonly madSample: MadSample | null;
}

interface Sample {
  readonly atMs: number;
  readonly body: Buffer;
  readonly light: LightSample;
  readonly told: Told;
  readonly isWhole: boolean;
  readonly mad: MadSample | null;
}

export class Exporter {
  readonly url: string;
  readonly kind: ExporterKind;
  readonly machine: Machine;
  readonly periodMs: number;
  readonly latencyMs: number;
  readonly skewMs: number;
  readonly rounds: 'nearest' | 'down' | 'tenths';
  /** Read without its bytes. */
  readonly isLight: boolean;
  /** Since when it has told nothing but the truth, to everybody and in time; `Infinity` while it does not. */
  honestSinceMs = 0;
  /** The last deliveries to each process, by its start's number; short. */
  readonly deliveries = new Map<number, Delivery[]>();
  /** The last good one among those that are no longer listed. */
  readonly goodBeforeAtMs = new Map<number, number>();
  /** The last good one to each. */
  readonly lastGoodAtMs = new Map<number, number>();
  /** How old its sample was. */
  readonly lastGoodAgeMs = new Map<number, number>();
  readonly #lastSample = new Map<number, Sample>();
  /** For how long it has told of another machine at most, ms. */
  longestStrangeMs = 0;
  #fault: ExporterFault | null = null;
  #faultUntilMs = 0;
  #nextMad: MadSample | null = null;
  #sample: Sample;

  constructor(
    parts: Pick<Exporter, 'url' | 'kind' | 'machine' | 'periodMs' | 'latencyMs' | 'skewMs' | 'rounds' | 'isLight'>,
    nowMs: number,
  ) {
    this.url = parts.url;
    this.kind = parts.kind;
    this.machine = parts.machine;
    this.periodMs = parts.periodMs;
    this.latencyMs = parts.latencyMs;
    this.skewMs = parts.skewMs;
    this.rounds = parts.rounds;
    this.isLight = parts.isLight;
    this.#sample = this.#take(nowMs);
  }

  get fault(): ExporterFault | null {
    return this.#fault;
  }

  get isSlow(): boolean {
    return this.#fault?.kind === 'slow';
  }

  /** From now on and for `forMs`; what went wrong before is over. */
  fail(fault: ExporterFault, forMs: number, nowMs: number): void {
    this.sample(nowMs);
    if (this.#fault) {
      this.#fault = null;
      this.#sample = this.#take(nowMs);
    }
    this.#fault = fault;
    this.#faultUntilMs = nowMs + forMs;
    if (fault.kind === 'stranger') this.longestStrangeMs = Math.max(this.longestStrangeMs, forMs);
    if (fault.kind !== 'slow') this.honestSinceMs = Number.POSITIVE_INFINITY;
  }

  /** The next sample is mad. */
  madden(mad: MadSample): void {
    this.#nextMad = mad;
  }

  /** Its fault ends when its time is up; called before anything that depends on it. */
  settle(nowMs: number): void {
    if (this.#fault === null || nowMs < this.#faultUntilMs) return;
    this.#fault = null;
    // The sample from before, or a lie, is not told any more.
    this.#sample = this.#take(nowMs);
    this.honestSinceMs = Math.max(nowMs, this.#faultUntilMs);
  }

  /** Takes a sample where one is due. */
  sample(nowMs: number): void {
    this.settle(nowMs);
    if (this.#fault?.kind === 'freeze') return;
    if (nowMs === this.#sample.atMs || nowMs - this.#sample.atMs < this.periodMs) return;
    const { atMs } = this.#sample;
    const periods = Math.floor((nowMs - atMs) / this.periodMs);
    this.#sample = this.#take(this.periodMs === 0 ? nowMs : atMs + periods * this.periodMs);
  }

  /** How long an answer takes now, ms; `null` is for ever. */
  answersInMs(nowMs: number): number | null {
    this.settle(nowMs);
    if (this.#fault?.kind === 'hang') return null;
    return this.#fault?.kind === 'slow' ? 600 + this.latencyMs * 2 : this.latencyMs;
  }

  /** The bytes of now, noted as delivered to the process `to`. */
  answer(nowMs: number, to: number): HttpAnswer {
    const { sample, fault } = this.#deliver(nowMs, to);
    switch (fault?.kind) {
      case 'refuse':
        return { kind: 'failed', cause: 'refused', detail: 'connection refused' };
      case 'error':
        return { ...answered(Buffer.from('collector failed\n')), status: 500, statusText: 'Internal Server Error' };
      case 'empty':
        return answered(Buffer.alloc(0));
      case 'html':
        return { ...answered(Buffer.from('<html>login</html>')), contentType: 'text/html' };
      case 'cut':
        return { ...answered(sample.body.subarray(0, sample.body.length >> 1)), isComplete: false };
      case 'cut-quietly':
        return { ...answered(sample.body.subarray(0, (sample.body.length * 3) >> 2)), hasDeclaredEnd: false };
      case 'card-missing':
      case 'freeze':
      case 'hang':
      case 'lie-low':
      case 'not-a-number':
      case 'slow':
      case 'stranger':
      case undefined:
        return answered(sample.body);
    }
  }

  /** The same as readings. */
  lightAnswer(nowMs: number, to: number): { readonly light: LightSample; readonly failure: FailureCause | null } {
    const { sample, fault } = this.#deliver(nowMs, to);
    const failure = fault === null ? null : (FAILURES[fault.kind] ?? null);
    return { light: sample.light, failure };
  }

  #deliver(nowMs: number, to: number): { readonly sample: Sample; readonly fault: ExporterFault | null } {
    this.sample(nowMs);
    const sample = this.#sample;
    const fault = this.#fault;
    // Of whose CPU a node_exporter speaks nobody can tell; and of one machine there is no other.
    const isUntold = fault?.kind === 'stranger' && (this.kind === 'node' || fault.of === this.machine);
    // A card that is left out shows in the sample, if its exporter has cards.
    const isIntact = fault === null || ['slow', 'lie-low', 'card-missing'].includes(fault.kind) || isUntold;
    const isGood = isIntact && sample.mad === null && sample.isWhole;
    const isTold =
      !fault || ['slow', 'freeze', 'lie-low', 'card-missing', 'not-a-number', 'stranger'].includes(fault.kind);
    // One that freezes tells the truth of that moment once to everybody who has read it before.
    const isLastTruth = fault?.kind === 'freeze' && sample.mad === null && sample.isWhole;
    if (isLastTruth && ![undefined, sample].includes(this.#lastSample.get(to))) {
      this.lastGoodAtMs.set(to, nowMs);
      this.lastGoodAgeMs.set(to, nowMs - sample.atMs);
    }
    if (isTold) this.#lastSample.set(to, sample);
    this.#note(to, {
      atMs: nowMs,
      sampledAtMs: sample.atMs,
      isGood,
      isAnswer: isTold || fault.kind === 'cut-quietly',
      told: isTold ? sample.told : NOTHING_TOLD,
      madSample: sample.mad,
    });
    return { sample, fault };
  }

  /** This process is no more. */
  forget(to: number): void {
    this.deliveries.delete(to);
    this.lastGoodAtMs.delete(to);
    this.goodBeforeAtMs.delete(to);
    this.lastGoodAgeMs.delete(to);
    this.#lastSample.delete(to);
  }

  #note(to: number, delivery: Delivery): void {
    if (delivery.isGood) {
      this.lastGoodAtMs.set(to, delivery.atMs);
      this.lastGoodAgeMs.set(to, delivery.atMs - delivery.sampledAtMs);
    }
    const list = this.deliveries.get(to);
    if (!list) this.deliveries.set(to, [delivery]);
    else if (list.push(delivery) > 40) {
      const dropped = list.splice(0, 20).findLast(({ isGood }) => isGood);
      if (dropped) this.goodBeforeAtMs.set(to, dropped.atMs);
    }
  }

  #take(atMs: number): Sample {
    const mad = this.#nextMad;
    this.#nextMad = null;
    const fault = this.#fault;
    const machine = fault?.kind === 'stranger' ? fault.of : this.machine;
    const distortion = {
      wallS: (WORLD_BEGINS_WALL_MS + atMs + this.skewMs) / 1000,
      lowerBy: fault?.kind === 'lie-low' ? fault.by : 0,
      notANumber: fault?.kind === 'not-a-number' ? fault.text : null,
      withoutCard: fault?.kind === 'card-missing' ? fault.card : null,
      mad,
    };
    // A mad sample is no lie that lasts, but no honest one either.
    if (fault === null && this.honestSinceMs !== Number.POSITIVE_INFINITY && mad) {
      this.honestSinceMs = atMs + this.periodMs;
    }
    if (this.isLight) {
      const { sample, ...rest } = lightSample(machine, atMs, distortion, this.rounds, machine.busyShare);
      return { atMs, body: NO_BYTES, light: sample, ...rest, mad };
    }
    const { text, told, isWhole } = exposition(this, machine, atMs, distortion);
    return { atMs, body: Buffer.from(text), light: NO_READINGS, told, isWhole, mad };
  }
}

const NO_BYTES = Buffer.alloc(0);
const NO_READINGS: LightSample = { readings: [], gpus: [], witnesses: [] };

/** What the bytes of a failing exporter come to. */
const FAILURES: Partial<Record<ExporterFault['kind'], FailureCause>> = {
  stranger: 'bad-body',
  refuse: 'refused',
  error: 'bad-status',
  empty: 'empty',
  html: 'bad-body',
  cut: 'bad-body',
  'cut-quietly': 'bad-body',
};

const NOTHING_TOLD: Told = { temperatureShare: 0, powerShare: 0, warningShare: 0, cardsC: [] };

const answered = (body: Buffer): Extract<HttpAnswer, { kind: 'answered' }> => ({
  kind: 'answered',
  status: 200,
  statusText: 'OK',
  contentType: 'text/plain; version=0.0.4; charset=utf-8',
  dateMs: null,
  body,
  isComplete: true,
  hasDeclaredEnd: true,
});
