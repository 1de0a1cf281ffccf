// What the body before said of each series, up to its value. A target tells the same series at each scrape, in the same
// order; a line that begins as one of these did has its name and labels, and nothing but its value is read anew. Lines are
// read from left to right, so the same beginning, to after its closing brace, is always the same series.
import type { Labels } from './scrape.ts';

export interface KnownSeries {
  /** The line up to and with its closing brace, or up to its value; ASCII, so that bytes are characters. */
  readonly head: string;
  readonly name: string;
  readonly labels: Labels;
}

/** How many series may have gone since the body before, at one place, for the next one to be found again. */
const MOST_GONE = 8;

/** Where every node has the same ones (`node_cpu_seconds_total{cpu="0",mode="idle"}`), they are there once. */
const MOST_SHARED = 1 << 16;
const shared = new Map<string, KnownSeries>();

/** The series of one target, in the order of its last body. */
export class SeriesMemory {
  #before: readonly KnownSeries[] = [];
  #at = 0;
  #now: KnownSeries[] = [];

  /** The series that the line at `start` of `body` (as Latin-1) is of, if the body before had it about here. */
  recall(body: string, start: number): KnownSeries | undefined {
    for (let next = this.#at; next <= this.#at + MOST_GONE; next += 1) {
      const known = this.#before[next];
      if (known === undefined) return undefined;
      // Not by startsWith(), which compares a character at a time and takes five times as long.
      if (body.slice(start, start + known.head.length) !== known.head) continue;
      this.#at = next + 1;
      this.#now.push(known);
      return known;
    }
    return undefined;
  }

  /** One that was not, and had to be read whole. */
  learn(series: KnownSeries): void {
    let known = shared.get(series.head);
    if (known === undefined) {
      const { name } = this.#now.at(-1) ?? series;
      // The very name of the one before compares faster.
      known = name === series.name ? { ...series, name } : series;
      // Pods come and go, and each is a new series. Who knows one keeps it.
      if (shared.size >= MOST_SHARED) shared.clear();
      shared.set(series.head, known);
    }
    this.#now.push(known);
  }

  /** The body is read, or given up. */
  endOfBody(): void {
    this.#before = this.#now;
    this.#now = [];
    this.#at = 0;
  }
}
