// Power from counters of energy. RAPL and Intel's cards count microjoules and tell no power, so power is what a counter
// rose by between two reads, over the time between them: a mean in which every short spike has its part. The first read
// of a counter gives no power; rather than leave the first round without one, it is read again a second later where the
// deadline allows that. Which counters there are, and what they count, is left to those who ask.

import type { Clock } from '../clock.ts';
import { dropOldest } from '../domain/collections.ts';
import type { FileFailure, Sysfs } from './sysfs.ts';

export interface EnergyCounter {
  /** A file with a count of µJ. */
  readonly file: string;
  /** The count after which it begins anew, µJ; left out for a counter that does not wrap. */
  readonly rangeUj?: number;
}

/** Power from a counter that was read without a failure. */
export type Rate =
  | {
      readonly kind: 'power';
      /** Mean since the read before. Not checked: a counter that stands still gives 0. */
      readonly powerW: number;
      /** Monotonic time of the second read. */
      readonly atMs: number;
      readonly overMs: number;
    }
  /** Read once so far, or begun anew. */
  | { readonly kind: 'first' };

export type Metered = Rate | { readonly kind: 'failed'; readonly failure: FileFailure };

/** Over less the steps of the counters show (an RAPL counter moves about once per ms, an Intel card's more rarely). */
const SHORTEST_MS = 1000;
/**
 * Over more a mean hides what is drawn now, and a counter may have wrapped unseen: the smallest range seen, 65.5 kJ
 * (AMD packages, Intel memory), lasts 65 s at 1 kW.
 */
const LONGEST_MS = 60_000;
/** Timers may fire a moment early. */
const FIRST_WAIT_MS = SHORTEST_MS + 10;
/** What the second reads may take within the deadline; a healthy counter answers in under 1 ms. */
const SECOND_READ_MS = 100;

/** Of one source; far more than any machine has. The one that was added first is forgotten for the next one. */
const MOST_COUNTERS = 1024;

interface Sample {
  readonly energyUj: number;
  readonly atMs: number;
  readonly rate: Rate;
}

/** Counters of energy, followed from read to read, however they are read. */
export class EnergyRates {
  readonly #last = new Map<string, Sample>();

  /** The power given at a read within the last second: it is given again, with its time. */
  recent(counter: string, nowMs: number): Rate | undefined {
    const last = this.#last.get(counter);
    return last && nowMs - last.atMs < SHORTEST_MS ? last.rate : undefined;
  }

  /** The mean power since the read before. `energyUj` in µJ, `atMs` monotonic; see {@link EnergyCounter.rangeUj}. */
  next(counter: string, energyUj: number, atMs: number, rangeUj?: number): Rate {
    const recent = this.recent(counter, atMs);
    if (recent) return recent;
    const last = this.#last.get(counter);
    const rate = last ? powerBetween(last, energyUj, atMs, rangeUj) : ({ kind: 'first' } as const);
    this.#last.set(counter, { energyUj, atMs, rate });
    dropOldest(this.#last, MOST_COUNTERS);
    return rate;
  }
}

export class EnergyMeter {
  readonly #sysfs: Sysfs;
  readonly #clock: Clock;
  readonly #closing: AbortSignal;
  readonly #rates = new EnergyRates();

  /** `closing` ends the wait between two first reads. */
  constructor(sysfs: Sysfs, clock: Clock, closing: AbortSignal) {
    this.#sysfs = sysfs;
    this.#clock = clock;
    this.#closing = closing;
  }

  /**
   * The power of each counter, by file. Waits a second for counters that are read for the first time, if that ends
   * before `deadlineMs` (monotonic). Within a second of a read its power is given again, with its time. Never rejects.
   */
  async read(counters: readonly EnergyCounter[], deadlineMs: number): Promise<ReadonlyMap<string, Metered>> {
    const metered = new Map<string, Metered>();
    for (const counter of counters) metered.set(counter.file, await this.#sample(counter));
    const first = counters.filter(({ file }) => metered.get(file)?.kind === 'first');
    if (first.length === 0 || deadlineMs - this.#nowMs() < FIRST_WAIT_MS + SECOND_READ_MS) return metered;
    await this.#clock.sleep(FIRST_WAIT_MS, this.#closing);
    if (this.#closing.aborted) return metered;
    for (const counter of first) metered.set(counter.file, await this.#sample(counter));
    return metered;
  }

  async #sample({ file, rangeUj }: EnergyCounter): Promise<Metered> {
    const recent = this.#rates.recent(file, this.#nowMs());
    if (recent) return recent;
    const energy = await this.#sysfs.readInteger(file);
    if (!energy.ok) return { kind: 'failed', failure: energy };
    return this.#rates.next(file, energy.value, this.#nowMs(), rangeUj);
  }

  #nowMs(): number {
    return this.#clock.now().elapsedMs;
  }
}

function powerBetween(last: Sample, energyUj: number, atMs: number, rangeUj: number | undefined): Rate {
  const overMs = atMs - last.atMs;
  const roseUj = energyUj - last.energyUj + (energyUj < last.energyUj ? (rangeUj ?? 0) : 0);
  // A counter without a range that fell, or one that fell by more than its range, was reset.
  if (overMs > LONGEST_MS || roseUj < 0) return { kind: 'first' };
  // 1 µJ per ms is 1 mW.
  return { kind: 'power', powerW: roseUj / overMs / 1000, atMs, overMs };
}
