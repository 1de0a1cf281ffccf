// What a body says of GPUs without telling of which: rows whose labels name no card (a relabelling that dropped them, a
// UUID in a form that nobody knows), and lines that cannot be read up to the name. Both are of some card, perhaps of one
// that nothing else names, so neither may be passed over: what can be read is judged as that of a card without a name,
// and what cannot is a missing reading of nobody knows which card. Only of exporters that are certainly GPUs': Kepler and
// xpumd use their names for other hardware, too.
import type { GpuSign, Quantity, RawReading } from '../domain/reading.ts';
import { type Given, type GpuRow, readCard } from './gpu-rows.ts';
import { printable } from './nvidia-smi-card.ts';
import type { Scrape } from './scrape.ts';
import type { GpuExporter, GpuFact } from './series-rows.ts';

export interface UnnamedAnswer {
  readonly readings: readonly RawReading[];
  readonly gpuSigns: readonly GpuSign[];
  readonly notes: readonly string[];
}

const QUANTITIES: Partial<Record<GpuFact, Quantity>> = {
  temperature: 'temperature',
  power: 'power',
  'memory-used': 'memory',
  'memory-free': 'memory',
  'memory-ratio': 'memory',
};
const MOST_NOTES = 10;

/**
 * @param unnamed rows that were read, of no card
 * @param nobodys lines that were not, of no card
 * @param present exporters of which the body names a card
 */
export function readUnnamed(
  scrape: Scrape,
  unnamed: readonly GpuRow[],
  nobodys: readonly GpuRow[],
  present: ReadonlySet<GpuExporter>,
  given: Given,
): UnnamedAnswer {
  const meant = unnamed.filter(({ exporter }) => exporter.namesAreItsOwn);
  const lost = nobodys.filter(({ exporter }) => exporter.namesAreItsOwn || present.has(exporter));
  const isAnyUntold = scrape.rejectedCount > scrape.rejected.length && (present.size > 0 || lost.length > 0);
  const names = [...new Set(meant.map(({ exporter, name }) => `${exporter.exporter} ${name}`))];
  return {
    readings: [...ofNamelessCards(meant, given), ...lostReadings(lost, isAnyUntold ? scrape : null)],
    gpuSigns: names.slice(0, 1).map((name) => ({ kind: 'driver-loaded', detail: printable(`${name} names no card`) })),
    notes: [
      ...names.map((name) => printable(`GPUs: no label of ${name} tells which card it is of`)),
      ...nobodys.map(({ name, reason }) => printable(`GPUs: a line of ${name} tells nobody whose it is: ${reason}`)),
    ].slice(0, MOST_NOTES),
  };
}

/** The worst of them counts, as if there were one. */
function ofNamelessCards(rows: readonly GpuRow[], given: Given): RawReading[] {
  const exporters = new Set(rows.map(({ exporter }) => exporter));
  return [...exporters].flatMap((exporter) => {
    const own = rows.filter((row) => row.exporter === exporter);
    const { readings } = readCard(`${exporter.exporter}-unnamed`, own, given);
    // Amounts of memory of several cards together make no share.
    return readings.filter(({ quantity }) => quantity === 'temperature' || quantity === 'power');
  });
}

/** One for each quantity, without an id. `untold`: more lines were lost than are told of. */
function lostReadings(rows: readonly GpuRow[], untold: Scrape | null): RawReading[] {
  const lost = new Map<Quantity, string>();
  for (const { name, series, reason } of rows) {
    const quantity = QUANTITIES[series.is];
    if (quantity && !lost.has(quantity)) lost.set(quantity, `a line of ${name} tells nobody whose it is: ${reason}`);
  }
  if (untold && !lost.has('temperature')) {
    lost.set('temperature', `${untold.rejectedCount} lines cannot be read, and not all of them are told`);
  }
  return [...lost].map(([quantity, why]) => ({
    component: 'gpu',
    quantity,
    value: null,
    cause: 'invalid',
    origin: printable(why),
  }));
}
