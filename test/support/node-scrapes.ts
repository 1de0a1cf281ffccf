// Bodies as scrapes, through the real parser, for tests of series.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { RawReading } from '../../src/domain/reading.ts';
import { parseExposition } from '../../src/sources/exposition.ts';
import type { Scrape, SeriesAnswer, SeriesOptions } from '../../src/sources/scrape.ts';

export const OPTIONS: SeriesOptions = { tctlOffsetC: 0, zfsCacheIsAvailable: false, explains: false };

/** Our wall clock where the monotonic one is 0. */
const WALL_MS = Date.UTC(2026, 0, 1);

/** A whole body, asked for at `atMs` (monotonic) and there 20 ms later. */
export function scrapeOf(body: string, atMs = 1_000_000, sourceWallMs = WALL_MS + atMs + 20): Scrape {
  const parsed = parseExposition(Buffer.from(body), { format: 'text', wanted: null, isComplete: true });
  return { ...parsed, startedAtMs: atMs, finishedAtMs: atMs + 20, sourceWallMs };
}

/** `cpu/coretemp-0/temperature` to its value or, in words, the cause of its absence. Informational ones in brackets. */
export function readingsIn({ readings }: Pick<SeriesAnswer, 'readings'>): Record<string, number | string> {
  const entries = readings.map(
    ({ component, id, quantity, value, cause, informational, rank }): [string, number | string] => {
      const key = `${component}${id === undefined ? '' : `/${id}`}/${quantity}${rank === undefined ? '' : `#${rank}`}`;
      return [informational ? `(${key})` : key, value ?? cause ?? 'no-sensor'];
    },
  );
  return Object.fromEntries(entries);
}

/** The readings of one quantity of one component. */
export function readingsOf(answer: SeriesAnswer, component: string, quantity: string): readonly RawReading[] {
  return answer.readings.filter((reading) => reading.component === component && reading.quantity === quantity);
}

/** A file beside the project that is no part of it; `null` where it is not there. */
export function sharedText(path: string): string | null {
  const file = join(process.cwd(), '../shared', path);
  return existsSync(file) ? readFileSync(file, 'utf8') : null;
}
