// Fewer points from many, so that no peak is lost: of each stretch the lowest, the mean and the highest are kept, and a
// stretch of stretches is made from those. Where a number was missing for part of a stretch, the rest of it counts.

/** What is kept of one node over one stretch of time. A single moment has three times the same number. */
export interface Stretch {
  /** How many evaluations are in it. */
  readonly ticks: number;
  readonly min: Float32Array;
  readonly mean: Float32Array;
  readonly max: Float32Array;
}

/** Joins stretches of the same series. */
export class Joiner {
  readonly #min: Float32Array;
  readonly #max: Float32Array;
  /** In double precision: a day has thousands of addends. */
  readonly #sum: Float64Array;
  readonly #weight: Float64Array;
  #ticks = 0;

  constructor(size: number) {
    this.#min = new Float32Array(size).fill(Number.NaN);
    this.#max = new Float32Array(size).fill(Number.NaN);
    this.#sum = new Float64Array(size);
    this.#weight = new Float64Array(size);
  }

  add({ ticks, min, mean, max }: Stretch): void {
    this.#ticks += ticks;
    for (let index = 0; index < this.#min.length; index++) {
      const value = mean[index] ?? Number.NaN;
      if (Number.isNaN(value)) continue;
      const low = min[index] ?? value;
      const high = max[index] ?? value;
      // Asked so that NaN, "nothing yet", gives way.
      if (!((this.#min[index] ?? Number.NaN) <= low)) this.#min[index] = low;
      if (!((this.#max[index] ?? Number.NaN) >= high)) this.#max[index] = high;
      this.#sum[index] = (this.#sum[index] ?? 0) + value * ticks;
      this.#weight[index] = (this.#weight[index] ?? 0) + ticks;
    }
  }

  /** All that was added, as one. */
  joined(): Stretch {
    // 0 / 0 is NaN: missing throughout.
    const mean = Float32Array.from(this.#sum, (sum, index) => sum / (this.#weight[index] ?? 0));
    return { ticks: this.#ticks, min: this.#min, mean, max: this.#max };
  }
}

/** A stretch as bytes: of one moment its numbers, else all lowest, all means, all highest. */
export function toBytes({ ticks, min, mean, max }: Stretch): Uint8Array {
  if (ticks === 1) return bytesOf(mean);
  const all = new Float32Array(mean.length * 3);
  all.set(min, 0);
  all.set(mean, mean.length);
  all.set(max, mean.length * 2);
  return bytesOf(all);
}

/** The bytes of {@link toBytes}; `null` where they are not as many as `size` series need. */
export function fromBytes(bytes: Uint8Array, ticks: number, size: number): Stretch | null {
  if (bytes.length !== size * 4 * (ticks === 1 ? 1 : 3)) return null;
  const all = floatsOf(bytes);
  if (ticks === 1) return { ticks, min: all, mean: all, max: all };
  return { ticks, min: all.subarray(0, size), mean: all.subarray(size, size * 2), max: all.subarray(size * 2) };
}

export const bytesOf = (floats: Float32Array): Uint8Array =>
  new Uint8Array(floats.buffer, floats.byteOffset, floats.byteLength);

/** Copied: a blob of a database begins anywhere, floats only at every fourth byte. */
export const floatsOf = (bytes: Uint8Array): Float32Array =>
  new Float32Array(bytes.slice().buffer, 0, Math.floor(bytes.length / 4));
