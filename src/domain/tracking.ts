// How the readings of one source behave over time. A sample becomes the track's value only if it is a possible number,
// not older than it may be, and not an impossible fall; a sensor or a source that only repeats itself is frozen. All
// times are our monotonic clock's. What several sources together say of a node is node-readings.ts.
import { type MissingCause, parseReading, type RawReading, readingKey, type SourceReport } from './reading.ts';
import { cutReport, excessOf, MOST_ENTRIES } from './report-bounds.ts';
import { isNews, setBackBy } from './sample-order.ts';
import { type KeyedReadings, keyedReadings, powerOwner, powersOf, worstSamples } from './samples.ts';
import { meanOf, slowestPeriodMs, vouching, type WitnessWatch, watchWitness, witnessKey } from './witness.ts';

/** Over 40 °C in 10 s is no physics; later samples may have moved in proportion. */
export const IMPOSSIBLE_RISE_C = 40;
const IMPOSSIBLE_WITHIN_MS = 10_000;
/** A stamp further ahead of the source's own time than this is invalid. */
const STAMP_AHEAD_MS = 5_000;
/** Without a witness: temperature and power both bit-identical this long, at this power or more. */
const FROZEN_PAIR_MS = 60_000;
const FROZEN_PAIR_WHOLE_WATTS_MS = 300_000;
const FROZEN_PAIR_FROM_W = 50;
/** A temperature that stands still this long while mean power rose by this much. */
const FROZEN_UNDER_LOAD_MS = 120_000;
const FROZEN_UNDER_LOAD_RISE_W = 100;
const MINUTE_MS = 60_000;
/** What was not seen for longer, three looks at the longest interval, may have moved meanwhile and come back. */
const LONGEST_UNSEEN_MS = 90_000;
/** Power within 10 % counts as "did not fall": sensors are good to ±5 W, and a real stop at once halves it. */
const POWER_FALL_RATIO = 0.9;

/** One reading of one source, followed over time. */
export interface Track {
  readonly raw: RawReading;
  readonly state:
    | { readonly kind: 'valid' }
    | { readonly kind: 'missing'; readonly cause: MissingCause; readonly detail: string };
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
  /** See sample-order.ts. */
  readonly setBackAtMs: number | null;
}

/** One source of one node, followed over time. */
export interface SourceWatch {
  readonly source: string;
  readonly lastReport: SourceReport;
  /** The last report that was an answer: who is listed there, what the hardware says of itself. */
  readonly lastAnswer: SourceReport | null;
  /** Its readings with their keys. */
  readonly keyed: KeyedReadings | null;
  readonly failure: { readonly cause: string; readonly detail: string; readonly sinceMs: number } | null;
  readonly tracks: ReadonlyMap<string, Track>;
  readonly witnesses: ReadonlyMap<string, WitnessWatch>;
  /** Signs of a GPU, kept while the source fails: a look that only times out takes none back. */
  readonly gpuSigns: SourceReport['gpuSigns'];
  /** Observed update period of a source with a witness, ms; only known when a look in between saw no change. */
  readonly updatePeriodMs: number | null;
  readonly lastLookAtMs: number;
  /** Lines of series that are read and that could not be, since the start. */
  readonly rejectedLines: number;
}

/** What a new report makes of a source; `before` is null for the first. `staleAfterMs` bounds stamps and witnesses. */
export function watchSource(
  before: SourceWatch | null,
  report: SourceReport,
  staleAfterMs: number,
  cpuPowerW: number | null = null,
): SourceWatch {
  const failure = failureOf(before, report);
  const rejectedLines = (before?.rejectedLines ?? 0) + (report.scrape?.rejectedLines ?? 0);
  if (failure) {
    return {
      source: report.source,
      lastReport: failure.cause === 'bad-body' ? cutReport(report) : report,
      lastAnswer: before?.lastAnswer ?? null,
      keyed: before?.keyed ?? null,
      failure: { ...failure, sinceMs: before?.failure?.sinceMs ?? report.finishedAtMs },
      tracks: before?.tracks ?? new Map(),
      witnesses: before?.witnesses ?? new Map(),
      gpuSigns: report.gpuSigns.length > 0 ? report.gpuSigns.slice(0, MOST_ENTRIES) : (before?.gpuSigns ?? []),
      updatePeriodMs: before?.updatePeriodMs ?? null,
      lastLookAtMs: before?.lastLookAtMs ?? report.startedAtMs,
      rejectedLines,
    };
  }
  const witnesses = new Map<string, WitnessWatch>();
  for (const witness of report.witnesses) {
    const key = witnessKey(witness);
    const lastLookAtMs = before?.lastLookAtMs ?? report.startedAtMs;
    witnesses.set(key, watchWitness(before?.witnesses.get(key), witness, report.startedAtMs, lastLookAtMs));
  }
  const keyed = keyedReadings(report.readings, before?.keyed ?? null);
  const samples = worstSamples(report.readings, keyed.keys);
  const powers = powersOf(samples);
  const tracks = new Map<string, Track>();
  for (const [key, raw] of samples) {
    const witness = vouching(witnesses, raw);
    const old = before?.tracks.get(key) ?? null;
    const atMs = sampleTime(raw, old, witness, report);
    const powerW = raw.quantity === 'temperature' ? powerBeside(raw, powers, cpuPowerW) : null;
    tracks.set(key, watchReading(old, raw, atMs, powerW, report, staleAfterMs));
  }
  keepVanished(tracks, before);
  freezePairs(tracks, witnesses, report.finishedAtMs);
  freezeByWitness(tracks, witnesses, before, report, staleAfterMs);
  return {
    source: report.source,
    lastReport: report,
    lastAnswer: report,
    keyed,
    failure: null,
    tracks,
    witnesses,
    gpuSigns: report.gpuSigns,
    updatePeriodMs: slowestPeriodMs(witnesses),
    lastLookAtMs: report.startedAtMs,
    rejectedLines,
  };
}

/** The power of what a temperature is of, W, in the same report; a CPU's perhaps in another source's. */
function powerBeside(raw: RawReading, powers: ReadonlyMap<string, number>, cpuPowerW: number | null): number | null {
  return powers.get(powerOwner(raw)) ?? (raw.component === 'cpu' ? cpuPowerW : null);
}

/**
 * What the answer no longer tells is missing, not gone. Where names never come back (a counter in each of them), the
 * oldest are let go: what must be read is remembered by card and by count, not here.
 */
function keepVanished(tracks: Map<string, Track>, before: SourceWatch | null): void {
  if (!before) return;
  const gone: [string, Track][] = [];
  for (const [key, old] of before.tracks) if (!tracks.has(key)) gone.push([key, old]);
  const room = MOST_ENTRIES - tracks.size;
  if (gone.length > room) gone.sort(([, a], [, b]) => b.atMs - a.atMs).splice(room);
  for (const [key, old] of gone) tracks.set(key, vanished(old));
}

/**
 * An answer without any of the families that the source gave before is a failure: dcgm-exporter answers 200 and empty on
 * reload. One that says of a reading that it cannot give it (`value: null`) is an answer.
 */
function failureOf(before: SourceWatch | null, report: SourceReport): { cause: string; detail: string } | null {
  if (report.outcome.kind === 'failed') return { cause: report.outcome.cause, detail: report.outcome.detail };
  const excess = excessOf(report);
  if (excess) return { cause: 'bad-body', detail: excess };
  const families: RawReading[] = [];
  for (const { raw } of before?.tracks.values() ?? []) {
    if (families.some((other) => isSameFamily(other, raw))) continue;
    if (report.readings.some((now) => !now.informational && isSameFamily(now, raw))) return null;
    families.push(raw);
  }
  if (families.length === 0) return null;
  return { cause: 'empty', detail: 'the source answered without any of the readings that it gave before' };
}

const isSameFamily = (one: RawReading, other: RawReading): boolean =>
  one.component === other.component && one.quantity === other.quantity;

/**
 * When a sample was taken: as the source says; else, while it repeats itself, when its witness last moved (a slow
 * exporter gives the same sample many times); else when the look began. A value that differs is new whatever the
 * witness says: a coarse counter must not hide a rise.
 */
function sampleTime(raw: RawReading, old: Track | null, witness: WitnessWatch | null, report: SourceReport): number {
  if (raw.sampledAtMs !== undefined) return raw.sampledAtMs;
  const repeats = old?.hasValue === true && old.value === raw.value;
  // Also while it has never been seen to move: a mad sample that is only repeated must not confirm itself.
  if (repeats && witness) return Math.max(witness.changedAtMs, old.atMs);
  return report.startedAtMs;
}

function missing(old: Track | null, raw: RawReading, cause: MissingCause, detail: string): Track {
  const state = { kind: 'missing', cause, detail } as const;
  return old ? { ...old, raw, state } : { raw, state, ...EMPTY_TRACK };
}

const VALID: Track['state'] = Object.freeze({ kind: 'valid' });

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
  setBackAtMs: null,
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
  if (!Number.isFinite(atMs)) return missing(old, raw, 'invalid', `its stamp is ${atMs} (${raw.origin})`);
  if (atMs > report.finishedAtMs + STAMP_AHEAD_MS) {
    const aheadS = Math.round((atMs - report.finishedAtMs) / 1000);
    return missing(old, raw, 'invalid', `its stamp is ${aheadS} s ahead, at most 5 s are allowed (${raw.origin})`);
  }
  if (raw.sampledAtMs !== undefined && report.finishedAtMs - atMs > staleAfterMs) {
    const ageS = Math.round((report.finishedAtMs - atMs) / 1000);
    return missing(
      old,
      raw,
      'stale',
      `its stamp is ${ageS} s old, at most ${staleAfterMs / 1000} s are allowed (${raw.origin})`,
    );
  }
  const { value } = parsed;
  if (!old?.hasValue) {
    return {
      raw,
      state: VALID,
      ...EMPTY_TRACK,
      hasValue: true,
      value,
      atMs,
      unchangedSinceMs: atMs,
      fractional: !Number.isInteger(value),
      powerW,
      powers: powerW === null ? [] : [{ atMs, powerW }],
    };
  }
  if (!isNews(old, value, atMs)) {
    // It says nothing new, and a fall that waits for a newer one goes on waiting.
    const again = { ...old, raw, setBackAtMs: setBackBy(old, value, atMs) };
    return old.pendingFallAtMs === null ? { ...again, state: VALID } : again;
  }

  const isTemperature = raw.quantity === 'temperature';
  const possibleC = IMPOSSIBLE_RISE_C * Math.max(1, (atMs - old.atMs) / IMPOSSIBLE_WITHIN_MS);
  // Back from a jump that nothing confirmed is no fall: the mad sample was the one before.
  const isFall = isTemperature && !old.jumped && old.value - value > possibleC;
  if (isFall && powerW !== null && old.powerW !== null && powerW >= old.powerW * POWER_FALL_RATIO) {
    const isConfirmed = old.pendingFallAtMs !== null && atMs > old.pendingFallAtMs;
    if (!isConfirmed) {
      const detail = `fell from ${old.value} to ${value} °C while power went from ${old.powerW} to ${powerW} W (${raw.origin})`;
      return { ...missing(old, raw, 'implausible-fall', detail), pendingFallAtMs: atMs };
    }
  }
  const isUnchanged = value === old.value;
  const hasStoodStill = isUnchanged && atMs - old.atMs <= LONGEST_UNSEEN_MS;
  const powers = withPower(hasStoodStill ? old.powers : EMPTY_TRACK.powers, atMs, powerW);
  const unchangedSinceMs = hasStoodStill ? old.unchangedSinceMs : atMs;
  return {
    raw,
    state: VALID,
    hasValue: true,
    value,
    atMs,
    // A jump is confirmed by a newer sample only: a higher one under an older stamp goes on waiting.
    jumped: isTemperature && (value - old.value > possibleC || (old.jumped && atMs < old.atMs && value > old.value)),
    unchangedSinceMs,
    fractional: old.fractional || !Number.isInteger(value),
    powerW,
    powers,
    stuck: isUnchanged && (old.stuck || isStuckUnderLoad(isTemperature, unchangedSinceMs, atMs, powers)),
    pendingFallAtMs: null,
    setBackAtMs: null,
  };
}

/**
 * Keeps the powers of the last two minutes, at most one in two seconds: 61 entries. Of two that are closer the lower one,
 * since a second look takes a mad sample back, and where looks are far apart two mad ones would make the mean of a minute.
 */
function withPower(powers: Track['powers'], atMs: number, powerW: number | null): Track['powers'] {
  if (powerW === null) return powers;
  const last = powers.at(-1);
  const isKept = (sample: Track['powers'][number]): boolean => sample.atMs >= atMs - FROZEN_UNDER_LOAD_MS;
  const kept = powers.every(isKept) ? powers : powers.filter(isKept);
  if (last && atMs - last.atMs < 1_900) {
    return powerW < last.powerW ? [...kept.slice(0, -1), { atMs: last.atMs, powerW }] : kept;
  }
  return [...kept, { atMs, powerW }];
}

function isStuckUnderLoad(isTemperature: boolean, sinceMs: number, atMs: number, powers: Track['powers']): boolean {
  if (!isTemperature || atMs - sinceMs < FROZEN_UNDER_LOAD_MS || isSteady(powers)) return false;
  const startMs = atMs - FROZEN_UNDER_LOAD_MS;
  const inFirst = (sample: Track['powers'][number]): boolean => sample.atMs < startMs + MINUTE_MS;
  const first = meanOf(withoutLowest(powers.filter(inFirst).map(({ powerW }) => powerW)));
  const second = meanOf(withoutHighest(powers.filter((sample) => !inFirst(sample)).map(({ powerW }) => powerW)));
  return first !== null && second !== null && second - first >= FROZEN_UNDER_LOAD_RISE_W;
}

/** No two means of these powers can be so far apart: so it is beside most temperatures that stand still. */
function isSteady(powers: Track['powers']): boolean {
  let lowestW = Infinity;
  let highestW = -Infinity;
  for (const { powerW } of powers) {
    lowestW = Math.min(lowestW, powerW);
    highestW = Math.max(highestW, powerW);
  }
  return highestW - lowestW < FROZEN_UNDER_LOAD_RISE_W;
}

/** One mad sample of a power among the six of a minute would raise their mean by 100 W, and a settled temperature stands still. */
const withoutHighest = (powersW: readonly number[]): readonly number[] => without(powersW, Math.max(...powersW));

/** A load that rests for a moment of the first minute is no rise either; but the only sample is what is known of it. */
const withoutLowest = (powersW: readonly number[]): readonly number[] =>
  powersW.length > 1 ? without(powersW, Math.min(...powersW)) : powersW;

function without(powersW: readonly number[], oneW: number): readonly number[] {
  const place = powersW.indexOf(oneW);
  return powersW.filter((_, index) => index !== place);
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
    if (vouching(witnesses, track.raw)) continue;
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
    const standsForMs = report.startedAtMs - witness.changedAtMs;
    if (witness.everChanged && standsForMs < staleAfterMs) continue;
    const vouched = [...tracks].filter(([, track]) => key === '' || track.raw.id === key);
    if (!witness.everChanged && vouched.some(([name, track]) => hasMoved(before?.tracks.get(name), track))) {
      witnesses.set(key, { ...witness, disqualified: true });
      continue;
    }
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
  return vouching(watch.witnesses, raw);
}
