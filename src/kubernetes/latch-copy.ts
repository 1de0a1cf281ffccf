// The latch as ConfigMap `vsf-estop` holds it: keys that a person reads with kubectl, the trips for the process that
// takes over, and an epoch that rises with every trip and reset pair, so that an old copy is known for one. Pure: texts
// in, a verdict out. Reading and writing it is cluster-latch.ts.
//
// `epoch` is n while clear after n resets, and n+1 while latched after n resets: a copy whose epoch is not above the
// last reset's is from before that reset.
import type { LastReset } from '../domain/cluster.ts';
import { firstFew } from '../domain/first-few.ts';
import type { CopiedTrip, StopReport, Trip, TripCause } from '../domain/interlock.ts';
import type { TripScope } from '../domain/stop.ts';
import type { MapData } from './config-map.ts';

export type { LastReset } from '../domain/cluster.ts';
export type { CopiedTrip } from '../domain/interlock.ts';

/** What is written: by a process that knows. */
export interface LatchRecord {
  /** How many resets there have been. */
  readonly resets: number;
  readonly trips: readonly CopiedTrip[];
  /** Trips that are over, and after which reset: a copy of one of these is old wherever it turns up. */
  readonly ended: ReadonlyMap<string, number>;
  readonly lastReset: LastReset | null;
  /**
   * Another one each time a process tells that a stop joined a trip: a reset that knew another one did not know that
   * stop. No count: a replica of an older version drops what it does not know, and a count would begin anew.
   */
  readonly lastStop: string | null;
}

/** What was read. */
export type LatchCopy =
  | { readonly kind: 'clear'; readonly record: LatchRecord }
  | { readonly kind: 'latched'; readonly record: LatchRecord; readonly byHand: string | null }
  | { readonly kind: 'corrupt'; readonly detail: string }
  | { readonly kind: 'absent' };

/** Ended trips that are remembered: enough for any copy that a backup brings back. */
export const MOST_ENDED = 200;
/** Loaded cards that are copied, the most loaded of each trip: a thousand nodes' trips must stay below 1 MiB. */
const MOST_LOADED = 2_000;
const MOST_REASON_CHARS = 300;
const MOST_NAMED_PODS = 50;
const MOST_ASIDE_CHARS = 100_000;

const CAUSES: readonly TripCause[] = ['hard-stop', 'blind', 'manual', 'alert', 'corrupt-state'];

/** How far the stops have come, for the people who read the ConfigMap. */
export interface LatchProgress {
  readonly state: StopReport['state'];
  readonly stoppedOwners: number;
  readonly unconfirmedPods: readonly string[];
}

export function progressOf(trips: readonly Trip[]): LatchProgress {
  const entries = trips.flatMap((trip) => trip.report.actuators['kubernetes']?.entries ?? []);
  const states = trips.map((trip) => trip.report.state);
  const state = states.includes('unverified') ? 'unverified' : states.includes('stopping') ? 'stopping' : 'verified';
  return {
    state,
    stoppedOwners: entries.filter(({ prior }) => prior !== undefined).length,
    unconfirmedPods: entries.filter(({ kind, verified }) => isPod(kind) && !verified).map(({ name }) => name),
  };
}

const isPod = (kind: string): boolean => kind.toLowerCase() === 'pod';

function copiesOf(trips: readonly CopiedTrip[]): readonly CopiedTrip[] {
  let left = MOST_LOADED;
  return trips.map(({ tripId, scope, cause, reason, by, sinceWallMs, simulated, loadedW }) => {
    const loaded = Object.entries(loadedW);
    const kept = loaded.length <= left ? loaded : loaded.sort((a, b) => b[1] - a[1]).slice(0, left);
    left -= kept.length;
    const short = reason.slice(0, MOST_REASON_CHARS);
    return { tripId, scope, cause, reason: short, by, sinceWallMs, simulated, loadedW: Object.fromEntries(kept) };
  });
}

/** The ConfigMap's data. `aside` is the text of a corrupt record that this one replaces, or replaced once. */
export function formatLatch(record: LatchRecord, progress: LatchProgress | null, aside: string | null): MapData {
  const { resets, trips, lastReset, lastStop } = record;
  const [first] = [...trips].sort((a, b) => a.sinceWallMs - b.sinceWallMs);
  const ended = [...record.ended].slice(-MOST_ENDED);
  const data: Record<string, string> = {
    latched: String(trips.length > 0),
    epoch: String(trips.length > 0 ? resets + 1 : resets),
    trips: JSON.stringify(copiesOf(trips)),
    ended: JSON.stringify(Object.fromEntries(ended)),
  };
  if (lastStop !== null) data['lastStop'] = lastStop;
  if (lastReset) {
    data['lastReset'] = JSON.stringify({ ...lastReset, at: new Date(lastReset.wallMs).toISOString() });
  }
  if (first) {
    const nodes = trips.flatMap(({ scope }) => (scope.kind === 'nodes' ? scope.nodes : []));
    data['since'] = new Date(first.sinceWallMs).toISOString();
    data['reason'] = trips
      .map(({ reason }) => reason.slice(0, MOST_REASON_CHARS))
      .slice(0, 10)
      .join('; ');
    data['source'] = first.cause;
    data['operator'] = first.by;
    data['node'] = trips.some(({ scope }) => scope.kind === 'all') ? '*' : nodes.join(', ');
    data['state'] = progress?.state ?? 'stopping';
    data['stoppedOwners'] = String(progress?.stoppedOwners ?? 0);
    data['unconfirmedPods'] = firstFew(progress?.unconfirmedPods ?? [], MOST_NAMED_PODS);
  }
  if (aside !== null) data['corrupt'] = aside;
  return data;
}

/** What is kept of data that could not be read, for whoever wants to know what became of it. */
export function asideOf(data: MapData): string {
  return JSON.stringify(data).slice(0, MOST_ASIDE_CHARS);
}

/** What the data says. Anything that contradicts itself is corrupt, and corrupt means tripped. */
export function parseLatch(data: MapData): LatchCopy {
  const corrupt = (detail: string): LatchCopy => ({ kind: 'corrupt', detail: detail.slice(0, 300) });
  const { latched, epoch, lastStop = null } = data;
  if (latched !== 'true' && latched !== 'false') return corrupt(`latched is ${shown(latched)}, must be true or false`);
  if (epoch === undefined || !/^\d{1,15}$/.test(epoch)) return corrupt(`epoch is ${shown(epoch)}, must be a number`);
  const trips = readTrips(data['trips']);
  if (typeof trips === 'string') return corrupt(trips);
  const ended = readEnded(data['ended']);
  if (!ended) return corrupt(`ended is ${shown(data['ended'])}, must map trips to epochs`);
  const isLatched = latched === 'true';
  if (!isLatched && trips.length > 0) return corrupt(`latched is false, and ${trips.length} trips are not over`);
  const resets = isLatched ? Math.max(0, Number(epoch) - 1) : Number(epoch);
  const lastReset = readLastReset(data['lastReset']);
  const record: LatchRecord = { resets, trips, ended, lastReset, lastStop };
  if (!isLatched) return { kind: 'clear', record };
  // Written with kubectl by somebody who wants everything stopped.
  const byHand = trips.length === 0 ? (data['reason'] ?? 'no reason is given') : null;
  return { kind: 'latched', record, byHand };
}

const shown = (text: string | undefined): string =>
  text === undefined ? 'missing' : JSON.stringify(text.slice(0, 60));

type Fields = Readonly<Record<string, unknown>>;

const isObject = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const isText = (value: unknown): value is string => typeof value === 'string' && value.length > 0;
const isNumber = (value: unknown): value is number => typeof value === 'number' && Number.isFinite(value);
/** Further from 1970 there is no date, and whoever writes one throws. */
const MOST_WALL_MS = 8.64e15;
const isWallTime = (value: unknown): value is number => isNumber(value) && Math.abs(value) <= MOST_WALL_MS;

function fromJson(text: string | undefined, missing: unknown): unknown {
  if (text === undefined) return missing;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The trips, or what is wrong with them. */
function readTrips(text: string | undefined): readonly CopiedTrip[] | string {
  const value = fromJson(text, []);
  if (!Array.isArray(value)) return `trips is ${shown(text)}, must be a list`;
  const trips: CopiedTrip[] = [];
  for (const [index, one] of value.entries()) {
    const trip = readTrip(one);
    if (!trip) return `trips[${index}] is no trip: ${JSON.stringify(one).slice(0, 100)}`;
    trips.push(trip);
  }
  return trips;
}

function readTrip(value: unknown): CopiedTrip | null {
  if (!isObject(value)) return null;
  const { tripId, cause, reason, by, sinceWallMs, simulated, loadedW } = value;
  const scope = readScope(value['scope']);
  const known = CAUSES.find((one) => one === cause);
  if (!isText(tripId) || !scope || !known || typeof reason !== 'string' || typeof by !== 'string') return null;
  if (!isWallTime(sinceWallMs) || typeof simulated !== 'boolean') return null;
  if (!isObject(loadedW) || !Object.values(loadedW).every(isNumber)) return null;
  return {
    tripId,
    scope,
    cause: known,
    reason,
    by,
    sinceWallMs,
    simulated,
    loadedW: loadedW as Readonly<Record<string, number>>,
  };
}

function readScope(value: unknown): TripScope | null {
  if (!isObject(value)) return null;
  if (value['kind'] === 'all') return { kind: 'all' };
  const { nodes } = value;
  if (value['kind'] !== 'nodes' || !Array.isArray(nodes) || nodes.length === 0 || !nodes.every(isText)) return null;
  return { kind: 'nodes', nodes };
}

function readEnded(text: string | undefined): ReadonlyMap<string, number> | null {
  const value = fromJson(text, {});
  if (!isObject(value)) return null;
  const ended = new Map<string, number>();
  for (const [tripId, epoch] of Object.entries(value)) {
    if (!isNumber(epoch)) return null;
    ended.set(tripId, epoch);
  }
  return ended;
}

/** For people; one that cannot be read is no reason to stop anything. */
function readLastReset(text: string | undefined): LastReset | null {
  const value = fromJson(text, null);
  if (!isObject(value)) return null;
  const { tripId, by, reason, wallMs } = value;
  if (!isText(tripId) || typeof by !== 'string' || typeof reason !== 'string' || !isWallTime(wallMs)) return null;
  return { tripId, by, reason, wallMs };
}
