// The share of a machine's memory that is in use, by the kernel's own word on what a program could still get. One rule
// for /proc/meminfo (local-machine.ts) and for an exporter's copy of it (node-share-series.ts).
import type { RawReading } from '../domain/reading.ts';

/** In bytes; `undefined` for what is not told. */
export interface MemoryFigures {
  readonly total: number | undefined;
  readonly available: number | undefined;
  readonly free: number | undefined;
  readonly buffers: number | undefined;
  readonly cached: number | undefined;
  readonly reclaimable: number | undefined;
  readonly shared: number | undefined;
  /** What ZFS could give back of its cache: it is not in MemAvailable. 0 without ZFS. */
  readonly zfsCacheAboveMinimum: number;
}

/** 1 - available / total. MemFree alone would count the page cache as used. `where` says for people where it stands. */
export function memoryShare(figures: MemoryFigures, zfsCacheIsAvailable: boolean, where: string): RawReading {
  const { total, zfsCacheAboveMinimum: cache } = figures;
  const available = availableBytes(figures);
  const reading = { component: 'memory', quantity: 'memory' } as const;
  if (total === undefined || total === 0 || !available) {
    const origin = `${where}: no MemTotal, or neither MemAvailable nor MemFree`;
    return { ...reading, value: null, cause: 'invalid', origin };
  }
  const gibibytes = `${(cache / 1024 ** 3).toFixed(1)} GiB of ZFS cache above its minimum`;
  const cacheNote = cache === 0 ? '' : `; ${gibibytes} counted as ${zfsCacheIsAvailable ? 'available' : 'used'}`;
  return {
    ...reading,
    value: (total - available.bytes - (zfsCacheIsAvailable ? cache : 0)) / total,
    origin: `${where}: ${available.formula}${cacheNote}`,
  };
}

function availableBytes({
  available,
  free,
  buffers,
  cached,
  reclaimable = 0,
  shared = 0,
}: MemoryFigures): { readonly bytes: number; readonly formula: string } | undefined {
  if (available !== undefined) return { bytes: available, formula: 'MemAvailable' };
  if (free === undefined || buffers === undefined || cached === undefined) return undefined;
  // Shared memory stands in Cached and cannot be given back.
  const bytes = free + buffers + cached + reclaimable - shared;
  return { bytes, formula: 'no MemAvailable, estimated from free, buffers and cache' };
}
