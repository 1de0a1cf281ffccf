// Witnesses: counters and clocks of a source that move while it is alive. They tell a source that repeats itself from a
// steady value, and how often it has something new to say.
import type { RawReading, Witness } from './reading.ts';

/** How many update periods are remembered; their mean is the source's. */
const MOST_PERIODS = 4;

export interface WitnessWatch {
  readonly name: string;
  readonly value: number;
  readonly changedAtMs: number;
  readonly everChanged: boolean;
  /** Stood still while a reading that it vouches for moved, or stands at 0: says nothing. */
  readonly disqualified: boolean;
  /** The last few observed update periods, ms; none while every look sees a change. */
  readonly periodsMs: readonly number[];
}

/** `''` for the whole source, else the GPU's id. */
export const witnessKey = (witness: Witness): string => (witness.of === 'source' ? '' : witness.of.gpu);

/** A witness after the next look. `lastLookAtMs` is when the source was looked at before. */
export function watchWitness(
  old: WitnessWatch | undefined,
  witness: Witness,
  atMs: number,
  lastLookAtMs: number,
): WitnessWatch {
  const { name, value } = witness;
  if (!old) return { name, value, changedAtMs: atMs, everChanged: false, disqualified: value === 0, periodsMs: [] };
  if (value === old.value) return old;
  // Only a look in between that saw no change proves that the source is slower than we look. The mean of a few periods,
  // since each is off by up to one look: 30 s, looked at every 10 s, may show as 20 and 40.
  const gapMs = atMs - old.changedAtMs;
  const sawPause = lastLookAtMs > old.changedAtMs;
  const isQuick = !sawPause && gapMs < (meanOf(old.periodsMs) ?? Infinity);
  const periodsMs = sawPause ? [...old.periodsMs, gapMs].slice(-MOST_PERIODS) : isQuick ? [] : old.periodsMs;
  return { name, value, changedAtMs: atMs, everChanged: true, disqualified: value === 0, periodsMs };
}

/** The slowest of them: a node's cards may be read by turns. `null` while every look sees each of them move. */
export function slowestPeriodMs(witnesses: ReadonlyMap<string, WitnessWatch>): number | null {
  let slowestMs: number | null = null;
  for (const witness of witnesses.values()) {
    const periodMs = meanOf(witness.periodsMs);
    if (periodMs !== null) slowestMs = Math.max(periodMs, slowestMs ?? periodMs);
  }
  return slowestMs;
}

/** A device's own witness first, else the source's; one that says nothing vouches for nothing. */
export function vouching(witnesses: ReadonlyMap<string, WitnessWatch>, raw: RawReading): WitnessWatch | null {
  const own = witnesses.get(raw.id ?? '');
  if (own?.disqualified === false) return own;
  if (raw.ownWitnessOnly) return null;
  const source = witnesses.get('');
  return source?.disqualified === false ? source : null;
}

export function meanOf(values: readonly number[]): number | null {
  if (values.length === 0) return null;
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
