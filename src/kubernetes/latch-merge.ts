// What becomes of two copies of the latch, the process's own and the cluster's: which trips both must hold, which are
// over, and what has to be written. Pure, and the same on every replica, so that they end up with the same trips
// whoever writes first. An unknown trip is always taken over; one ends only by a reset that names it, or because a wider
// or earlier trip covers it.
import type { ClusterReset } from '../domain/cluster.ts';
import { isWithin } from '../domain/interlock.ts';
import type { CopiedTrip, LatchCopy, LatchRecord } from './latch-copy.ts';

/** The latch as this process has it. */
export interface LocalLatch {
  /** How many resets it knows of: the state's `epoch`. */
  readonly resets: number;
  readonly trips: readonly CopiedTrip[];
}

export interface Merge {
  /** To be taken over by this process, under their own ids; a local trip that one of them covers goes into it. */
  readonly adopt: readonly CopiedTrip[];
  /** A reset elsewhere. `null`: none that we do not know. */
  readonly reset: ClusterReset | null;
  /** Trips of others that this process has not known, and that go into one that stands. */
  readonly swallowed: readonly string[];
  /** Trips of ours that go into another one. */
  readonly yielded: readonly CopiedTrip[];
  /** What the cluster should hold. */
  readonly record: LatchRecord;
}

type Readable = Extract<LatchCopy, { kind: 'clear' | 'latched' }>['record'];

export interface MergeOptions {
  /** The first look since the start: our trips come from a journal, which may be older than the cluster's last reset. */
  readonly isStart: boolean;
  /** Whether trips of a simulation bind here. */
  readonly simulated: boolean;
  /** Trips whose reset we have told to have failed: should it have been written all the same, they are latched again. */
  readonly kept: ReadonlySet<string>;
}

/** `copy` is `null` where the cluster has none. */
export function mergeLatch(local: LocalLatch, copy: Readable | null, options: MergeOptions): Merge {
  const theirs = copy ?? { resets: 0, trips: [], ended: new Map<string, number>(), lastReset: null, lastStop: null };
  const resets = Math.max(local.resets, theirs.resets);
  const ended = new Map([...theirs.ended].filter(([tripId]) => !options.kept.has(tripId)));
  const isBehind = local.resets < theirs.resets;
  const dropped = isBehind ? outlived(local, theirs, options) : [];
  const ours = local.trips.filter((trip) => !dropped.includes(trip));
  const ids = new Set(local.trips.map(({ tripId }) => tripId));
  // A copy from before our last reset holds nothing that is still true. Epoch 0 is before no reset.
  const isOld = theirs.resets < local.resets;
  const foreign = theirs.trips.filter(({ tripId }) => !ids.has(tripId));
  const binding = isOld ? [] : foreign.filter(({ simulated }) => options.simulated || !simulated);
  const aside = isOld ? [] : foreign.filter((trip) => !binding.includes(trip));
  const all = [...ours, ...binding];
  const standing = all.filter((trip) => !all.some((other) => isBeaten(trip, other)));
  const adopt = standing.filter((trip) => binding.includes(trip));
  // What may have gone into a trip that stands was reset by nobody: that one takes over what is still to be stopped.
  const reset = dropped.filter((trip) => !adopt.some((other) => isBeaten(trip, other)));
  for (const { tripId } of [...foreign, ...ours]) {
    const isOver = !standing.some((trip) => trip.tripId === tripId) && !aside.some((trip) => trip.tripId === tripId);
    if (isOver) ended.set(tripId, resets);
  }
  // What the cluster has already stays word for word, or two replicas would go on writing over one another.
  const written = (trip: CopiedTrip): CopiedTrip => theirs.trips.find(({ tripId }) => tripId === trip.tripId) ?? trip;
  const trips = [...standing, ...aside].map(written).sort(byAge);
  return {
    adopt,
    swallowed: binding.filter((trip) => !standing.includes(trip)).map(({ tripId }) => tripId),
    yielded: ours.filter((trip) => !standing.includes(trip)),
    reset: isBehind
      ? { epoch: theirs.resets, tripIds: reset.map(({ tripId }) => tripId), last: theirs.lastReset }
      : null,
    record: { resets, trips, ended, lastReset: theirs.lastReset, lastStop: theirs.lastStop },
  };
}

/**
 * Our trips that the cluster's resets ended. A trip that no reset names was never known to the cluster and stays, save
 * at the start, where the names do not reach back as far as our journal: then everything of an older epoch is old.
 */
function outlived(local: LocalLatch, theirs: Readable, { isStart, kept }: MergeOptions): readonly CopiedTrip[] {
  const named = new Set(theirs.ended.values());
  let isCovered = true;
  for (let epoch = theirs.resets; epoch > local.resets && isCovered; epoch -= 1) isCovered = named.has(epoch);
  return local.trips.filter(({ tripId }) => {
    if (kept.has(tripId)) return false;
    if (theirs.ended.has(tripId)) return true;
    const isHeld = theirs.trips.some((trip) => trip.tripId === tripId);
    return isStart && !isCovered && !isHeld;
  });
}

/** The wider trip stands; of two with the same scope the earlier one, and at the same moment the smaller id. */
function isBeaten(trip: CopiedTrip, other: CopiedTrip): boolean {
  if (trip.tripId === other.tripId || !isWithin(trip.scope, other.scope)) return false;
  return !isWithin(other.scope, trip.scope) || byAge(other, trip) < 0;
}

function byAge(a: CopiedTrip, b: CopiedTrip): number {
  return a.sinceWallMs - b.sinceWallMs || (a.tripId < b.tripId ? -1 : 1);
}
