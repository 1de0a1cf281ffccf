// The samples of one report: the worst of each reading's duplicates, and the power that stands beside a temperature.
import { parseReading, type RawReading, readingKey, type SourceReport } from './reading.ts';

/** The readings of a report and the key of each. */
export interface KeyedReadings {
  readonly readings: readonly RawReading[];
  readonly keys: readonly string[];
}

/**
 * Names each reading. A source names the same ones in the same order at each look, so the keys of `before` serve again:
 * of a cluster they are tens of thousands, each a text to be built, hashed and kept.
 */
export function keyedReadings(readings: readonly RawReading[], before: KeyedReadings | null): KeyedReadings {
  const isSame = (raw: RawReading, index: number): boolean => {
    const old = before?.readings[index];
    return old?.component === raw.component && old.id === raw.id && old.quantity === raw.quantity;
  };
  if (before?.readings.length === readings.length && readings.every(isSame)) return { readings, keys: before.keys };
  return { readings, keys: readings.map(keyOf) };
}

const keyOf = (raw: RawReading): string => readingKey(raw.component, raw.id, raw.quantity);

/** Duplicates of one reading in one report: the worst, that is the highest, of those that are possible numbers. */
export function worstSamples(readings: readonly RawReading[], keys?: readonly string[]): Map<string, RawReading> {
  const worst = new Map<string, RawReading>();
  for (let index = 0; index < readings.length; index += 1) {
    const raw = readings[index];
    if (!raw || raw.informational) continue;
    const key = keys?.[index] ?? keyOf(raw);
    const other = worst.get(key);
    if (!other || isWorse(raw, other)) worst.set(key, raw);
  }
  return worst;
}

function isWorse(raw: RawReading, other: RawReading): boolean {
  const value = raw.value === null ? null : parseReading(raw.quantity, raw.value);
  const otherValue = other.value === null ? null : parseReading(other.quantity, other.value);
  if (!value?.ok) return false;
  if (!otherValue?.ok) return true;
  if (raw.rank !== other.rank) return (raw.rank ?? Infinity) < (other.rank ?? Infinity);
  return value.value > otherValue.value;
}

/** Whose power stands beside a temperature: a GPU's own; all CPU packages together for a CPU chip. */
export const powerOwner = (raw: RawReading): string =>
  raw.component === 'cpu' ? 'cpu' : `${raw.component}/${raw.id ?? ''}`;

/** The power of all CPU packages in reports of the same look; `null` where none tells it. */
export function cpuPowerOf(reports: readonly SourceReport[]): number | null {
  const powers: RawReading[] = [];
  for (const { readings } of reports) {
    for (const raw of readings) if (raw.component === 'cpu' && raw.quantity === 'power') powers.push(raw);
  }
  return powers.length === 0 ? null : (powersOf(worstSamples(powers)).get('cpu') ?? null);
}

export function powersOf(samples: ReadonlyMap<string, RawReading>): Map<string, number> {
  const powers = new Map<string, number>();
  for (const raw of samples.values()) {
    if (raw.quantity !== 'power' || raw.value === null || !parseReading('power', raw.value).ok) continue;
    const owner = powerOwner(raw);
    powers.set(owner, (powers.get(owner) ?? 0) + raw.value);
  }
  return powers;
}
