// How the readings of one source behave over time. A sample becomes the track's value only if it is a possible number,
// not older than it may be, and not an impossible fall; a sensor or a source that only repeats itself is frozen. All
// times are our monotonic clock's. What several sources together say of a node is node-readings.ts.
import {
  type MissingCause,
  parseReading,
  type RawReading,
  readingKey,
  type SourceReport,
  type Witness,
} from './reading.ts';

/** Contract 4: over 40 °C in 10 s is no physics; later samples may have moved in proportion. */
export const IMPOSSIBLE_RISE_C = 40;
const IMPOSSIBLE_WITHIN_MS = 10_000;
/** A stamp further ahead of the source's own time than this is invalid (contract 5). */
const STAMP_AHEAD_MS = 5_000;
/** Without a witness: temperature and power both bit-identical this long, at this power or more (contract 4). */
const FROZEN_PAIR_MS = 60_000;
const FROZEN_PAIR_WHOLE_WATTS_MS = 300_000;
const FROZEN_PAIR_FROM_W = 50;
/** A temperature that stands still this long while mean power rose by this much (contract 4). */
const FROZEN_UNDER_LOAD_MS = 120_000;
const FROZEN_UNDER_LOAD_RISE_W = 100;
const MINUTE_MS = 60_000;
/** Power within 10 % counts as "did not fall": sensors are good to ±5 W, and a real stop at once halves it. */
const POWER_FALL_RATIO = 0.9;

/** One reading of one source, followed over time. */
export interface Track {
  readonly raw: RawReading;
  readonly state: { readonly kind: 'valid' } | { readonly kind: 'missing'; readonly cause: MissingCause; readonly detail: string };
  /** The last sample that was accepted. `NaN` before the first: never compared, `hasValue` tells. */
  readonly hasValue: boolean;
  readonly value: number;
  readonly atMs: number;
  /** The newest sample rose impossibly fast, and no newer one has come yet. */
  readonly jumped: boolean;
  /** Since when the value has been bit-identical. */
  readonly unchangedSinceMs: number;
  /** A fraction was seen once, so this source does not round to whole watts. */
  readonly fractional: boolean;
  /** The component's power beside this temperature, while the temperature stands still. */
  readonly powerW: number | null;
  readonly powers: readonly { readonly atMs: number; readonly powerW: number }[];
  /** Stood still under rising power: frozen until it moves. */
  readonly stuck: boolean;
  /** The last impossible fall, waiting for a second sample. */
  readonly pendingFallAtMs: number | null;
}

export interface WitnessWatch {
  readonly name: string;
  readonly value: number;
  readonly changedAtMs: number;
  readonly everChanged: boolean;
  /** Stood still while a reading that it vouches for moved, or stands at 0: says nothing. */
  readonly disqualified: boolean;
}

/** One source of one node, followed over time. */
export interface SourceWatch {
  readonly source: string;
  readonly lastReport: SourceReport;
  /** The last report that was an answer: who is listed there, what the hardware says of itself. */
  readonly lastAnswer: SourceReport | null;
  readonly failure: { readonly cause: string; readonly detail: string; readonly sinceMs: number } | null;
  readonly tracks: ReadonlyMap<string, Track>;
  readonly witnesses: ReadonlyMap<string, WitnessWatch>;
  /** Observed update period of a source with a witness, ms; only known when a look in between saw no change. */
  readonly updatePeriodMs: number | null;
  readonly lastLookAtMs: number;
}

const witnessKey = (witness: Witness): string => (witness.of === 'source' ? '' : witness.of.gpu);

/** What a new report makes of a source; `before` is null for the first. `staleAfterMs` bounds stamps and witnesses. */
export function watchSource(before: SourceWatch | null, report: SourceReport, staleAfterMs: number): SourceWatch {
  const failure = failureOf(before, report);
  if (failure) {
    return {
      source: report.source,
      lastReport: report,
      lastAnswer: before?.lastAnswer ?? null,
      failure: { ...failure, sinceMs: before?.failure?.sinceMs ?? report.finishedAtMs },
      tracks: before?.tracks ?? new Map(),
      witnesses: before?.witnesses ?? new Map(),
      updatePeriodMs: before?.updatePeriodMs ?? null,
      lastLookAtMs: before?.lastLookAtMs ?? report.startedAtMs,
    };
  }
  const witnesses = new Map<string, WitnessWatch>();
  let updatePeriodMs = before?.updatePeriodMs ?? null;
  for (const witness of report.witnesses) {
    const key = witnessKey(witness);
    const old = before?.witnesses.get(key);
    const seen = watchWitness(old, witness, report.startedAtMs);
    witnesses.set(key, seen);
    if (old && seen.changedAtMs !== old.changedAtMs) {
      // Only a look that saw no change proves that the source is slower than we look.
      const sawPause = before !== null && before.lastLookAtMs > old.changedAtMs;
      updatePeriodMs = sawPause ? seen.changedAtMs - old.changedAtMs : null;
    }
  }
  const samples = worstSamples(report.readings);
  const powers = powersOf(samples);
  const tracks = new Map<string, Track>();
  for (const [key, raw] of samples) {
    const witness = witnesses.get(raw.id ?? '') ?? witnesses.get('');
    const old = before?.tracks.get(key) ?? null;
    const atMs = sampleTime(raw, old, witness, report);
    const powerW = raw.quantity === 'temperature' ? (powers.get(powerOwner(raw)) ?? null) : null;
    tracks.set(key, watchReading(old, raw, atMs, powerW, report, staleAfterMs));
  }
  for (const [key, old] of before?.tracks ?? []) if (!tracks.has(key)) tracks.set(key, vanished(old));
  freezePairs(tracks, witnesses, report.finishedAtMs);
  freezeByWitness(tracks, witnesses, before, report, staleAfterMs);
  return {
    source: report.source,
    lastReport: report,
    lastAnswer: report,
    failure: null,
    tracks,
    witnesses,
    updatePeriodMs,
    lastLookAtMs: report.startedAtMs,
  };
}

/** An answer without anything that the source gave before is a failure: dcgm-exporter answers 200 and empty on reload. */
function failureOf(before: SourceWatch | null, report: SourceReport): { cause: string; detail: string } | null {
  if (report.outcome.kind === 'failed') return { cause: report.outcome.cause, detail: report.outcome.detail };
  const gaveBefore = before !== null && before.tracks.size > 0;
  if (gaveBefore && report.readings.length === 0) {
    return { cause: 'empty', detail: 'the source answered without any of the readings that it gave before' };
  }
  return null;
}

function watchWitness(old: WitnessWatch | undefined, witness: Witness, atMs: number): WitnessWatch {
  const { name, value } = witness;
  if (!old) return { name, value, changedAtMs: atMs, everChanged: false, disqualified: value === 0 };
  if (value === old.value) return old;
  return { name, value, changedAtMs: atMs, everChanged: true, disqualified: false };
}

/** Duplicates of one reading in one report: the worst, that is the highest, of those that are possible numbers. */
function worstSamples(readings: readonly RawReading[]): Map<string, RawReading> {
  const worst = new Map<string, RawReading>();
  for (const raw of readings) {
    if (raw.informational) continue;
    const key = readingKey(raw.component, raw.id, raw.quantity);
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
const powerOwner = (raw: RawReading): string => (raw.component === 'cpu' ? 'cpu' : `${raw.component}/${raw.id ?? ''}`);

function powersOf(samples: ReadonlyMap<string, RawReading>): Map<string, number> {
  const powers = new Map<string, number>();
  for (const raw of samples.values()) {
    if (raw.quantity !== 'power' || raw.value === null || !parseReading('power', raw.value).ok) continue;
    const owner = powerOwner(raw);
    powers.set(owner, (powers.get(owner) ?? 0) + raw.value);
  }
  return powers;
}

/**
 * When a sample was taken: as the source says; else, while it repeats itself, when its witness last moved (a slow
 * exporter gives the same sample many times); else when the look began. A value that differs is new whatever the
 * witness says: a coarse counter must not hide a rise.
 */
function sampleTime(
  raw: RawReading,
  old: Track | null,
  witness: WitnessWatch | undefined,
  report: SourceReport,
): number {
  if (raw.sampledAtMs !== undefined) return raw.sampledAtMs;
  const repeats = old?.hasValue === true && old.value === raw.value;
  if (repeats && witness?.everChanged && !witness.disqualified) return Math.max(witness.changedAtMs, old.atMs);
  return report.startedAtMs;
}

function missing(old: Track | null, raw: RawReading, cause: MissingCause, detail: string): Track {
  const base = old ?? EMPTY_TRACK;
  return { ...base, raw, state: { kind: 'missing', cause, detail } };
}

const EMPTY_TRACK: Omit<Track, 'raw' | 'state'> = {
  hasValue: false,
  value: Number.NaN,
  atMs: -Infinity,
  jumped: false,
  unchangedSinceMs: -Infinity,
  fractional: false,
  powerW: null,
  powers: [],
  stuck: false,
  pendingFallAtMs: null,
};

function vanished(old: Track): Track {
  return { ...old, state: { kind: 'missing', cause: 'gone', detail: 'the source no longer reports it' } };
}

function watchReading(
  old: Track | null,
  raw: RawReading,
  atMs: number,
  powerW: number | null,
  report: SourceReport,
  staleAfterMs: number,
): Track {
  if (raw.value === null) return missing(old, raw, raw.cause ?? 'no-sensor', raw.origin);
  const parsed = parseReading(raw.quantity, raw.value);
  if (!parsed.ok) return missing(old, raw, 'invalid', `${parsed.detail} (${raw.origin})`);
  if (atMs > report.finishedAtMs + STAMP_AHEAD_MS) {
    const aheadS = Math.round((atMs - report.finishedAtMs) / 1000);
    return missing(old, raw, 'invalid', `its stamp is ${aheadS} s ahead, at most 5 s are allowed (${raw.origin})`);
  }
  if (raw.sampledAtMs !== undefined && report.finishedAtMs - atMs > staleAfterMs) {
    const ageS = Math.round((report.finishedAtMs - atMs) / 1000);
    return missing(old, raw, 'stale', `its stamp is ${ageS} s old, at most ${staleAfterMs / 1000} s are allowed (${raw.origin})`);
  }
  const { value } = parsed;
  if (!old?.hasValue) {
    return {
      ...EMPTY_TRACK,
      raw,
      state: { kind: 'valid' },
      hasValue: true,
      value,
      atMs,
      unchangedSinceMs: atMs,
      fractional: !Number.isInteger(value),
      powerW,
      powers: powerW === null ? [] : [{ atMs, powerW }],
    };
  }
  if (atMs <= old.atMs) {
    // The same sample again: it says nothing new, and a fall that waits for a newer one goes on waiting.
    return old.pendingFallAtMs === null ? { ...old, raw, state: { kind: 'valid' } } : { ...old, raw };
  }

  const isTemperature = raw.quantity === 'temperature';
  const possibleC = IMPOSSIBLE_RISE_C * Math.max(1, (atMs - old.atMs) / IMPOSSIBLE_WITHIN_MS);
  const isFall = isTemperature && old.value - value > possibleC;
  if (isFall && powerW !== null && old.powerW !== null && powerW >= old.powerW * POWER_FALL_RATIO) {
    const isConfirmed = old.pendingFallAtMs !== null && atMs > old.pendingFallAtMs;
    if (!isConfirmed) {
      const detail = `fell from ${old.value} to ${value} °C while power went from ${old.powerW} to ${powerW} W (${raw.origin})`;
      return { ...missing(old, raw, 'implausible-fall', detail), pendingFallAtMs: atMs };
    }
  }
  const isUnchanged = value === old.value;
  const powers = isUnchanged ? withPower(old.powers, atMs, powerW) : withPower([], atMs, powerW);
  const unchangedSinceMs = isUnchanged ? old.unchangedSinceMs : atMs;
  return {
    raw,
    state: { kind: 'valid' },
    hasValue: true,
    value,
    atMs,
    jumped: isTemperature && value - old.value > possibleC,
    unchangedSinceMs,
    fractional: old.fractional || !Number.isInteger(value),
    powerW,
    powers,
    stuck: isUnchanged && (old.stuck || isStuckUnderLoad(isTemperature, unchangedSinceMs, atMs, powers)),
    pendingFallAtMs: null,
  };
}

/** Keeps the powers of the last two minutes, at most one in two seconds: 61 entries. */
function withPower(powers: Track['powers'], atMs: number, powerW: number | null): Track['powers'] {
  if (powerW === null) return powers;
  const last = powers.at(-1);
  const kept = powers.filter((sample) => sample.atMs >= atMs - FROZEN_UNDER_LOAD_MS);
  if (last && atMs - last.atMs < 1_900) return kept;
  return [...kept, { atMs, powerW }];
}

function isStuckUnderLoad(isTemperature: boolean, sinceMs: number, atMs: number, powers: Track['powers']): boolean {
  if (!isTemperature || atMs - sinceMs < FROZEN_UNDER_LOAD_MS) return false;
  const startMs = atMs - FROZEN_UNDER_LOAD_MS;
  const first = meanOf(powers.filter((sample) => sample.atMs < startMs + MINUTE_MS));
  const second = meanOf(powers.filter((sample) => sample.atMs >= startMs + MINUTE_MS));
  return first !== null && second !== null && second - first >= FROZEN_UNDER_LOAD_RISE_W;
}

function meanOf(samples: Track['powers']): number | null {
  if (samples.length === 0) return null;
  return samples.reduce((sum, sample) => sum + sample.powerW, 0) / samples.length;
}

const frozen = (track: Track, detail: string): Track => ({
  ...track,
  state: { kind: 'missing', cause: 'frozen', detail: `${detail} (${track.raw.origin})` },
});

/** The two rules that need no witness. */
function freezePairs(tracks: Map<string, Track>, witnesses: ReadonlyMap<string, WitnessWatch>, nowMs: number): void {
  for (const [key, track] of tracks) {
    if (track.state.kind !== 'valid' || track.raw.quantity !== 'temperature') continue;
    if (track.stuck) {
      tracks.set(key, frozen(track, `${track.value} °C has stood still for 2 min while power rose by 100 W or more`));
      continue;
    }
    if (track.raw.component !== 'gpu') continue;
    const witness = witnesses.get(track.raw.id ?? '') ?? witnesses.get('');
    if (witness && !witness.disqualified) continue;
    const powerKey = readingKey('gpu', track.raw.id, 'power');
    const power = tracks.get(powerKey);
    if (power?.state.kind !== 'valid' || power.value < FROZEN_PAIR_FROM_W) continue;
    const sinceMs = Math.max(track.unchangedSinceMs, power.unchangedSinceMs);
    const limitMs = power.fractional ? FROZEN_PAIR_MS : FROZEN_PAIR_WHOLE_WATTS_MS;
    if (Math.min(track.atMs, nowMs) - sinceMs < limitMs) continue;
    const detail = `${track.value} °C and ${power.value} W have both stood still for ${limitMs / 1000} s`;
    tracks.set(key, frozen(track, detail));
    tracks.set(powerKey, frozen(power, detail));
  }
}

/** A witness that has stood still for `staleAfter` says that everything it vouches for is a repetition. */
function freezeByWitness(
  tracks: Map<string, Track>,
  witnesses: Map<string, WitnessWatch>,
  before: SourceWatch | null,
  report: SourceReport,
  staleAfterMs: number,
): void {
  for (const [key, witness] of witnesses) {
    if (witness.disqualified) continue;
    const vouched = [...tracks].filter(([, track]) => key === '' || track.raw.id === key);
    if (!witness.everChanged && vouched.some(([name, track]) => hasMoved(before?.tracks.get(name), track))) {
      witnesses.set(key, { ...witness, disqualified: true });
      continue;
    }
    const standsForMs = report.startedAtMs - witness.changedAtMs;
    if (standsForMs < staleAfterMs) continue;
    for (const [name, track] of vouched) {
      if (track.state.kind !== 'valid') continue;
      const detail = `${witness.name} has not changed for ${Math.round(standsForMs / 1000)} s`;
      tracks.set(name, frozen(track, detail));
    }
  }
}

function hasMoved(before: Track | undefined, track: Track): boolean {
  const counts = track.raw.quantity === 'temperature' || track.raw.quantity === 'power';
  return counts && before?.hasValue === true && track.state.kind === 'valid' && before.value !== track.value;
}

/** The witness that vouches for a reading, if one does. */
export function witnessOf(watch: SourceWatch, raw: RawReading): WitnessWatch | null {
  const witness = watch.witnesses.get(raw.id ?? '') ?? watch.witnesses.get('');
  return witness && !witness.disqualified ? witness : null;
}
