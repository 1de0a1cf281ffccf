// The time axis of an answer. What is kept lies in tiers, coarser the older it is; this says which tier tells of which
// time, and which point of the axis a kept moment belongs to.
import { floatsOf } from './downsampling.ts';
import { floorTo, idsOf, type Store, TIERS } from './store.ts';

/** With room for gaps this stays below 1,000. */
const MOST_POINTS = 900;
const MOST_GAPS = 100;
/** Points so many steps apart have something missing between them. */
const GAP_STEPS = 3;
/** Steps that people read on an axis, seconds. */
const STEPS_S = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 28_800, 86_400];

/** A stretch of time, and the tier that knows it best. */
export interface Segment {
  readonly tier: number;
  readonly from: number;
  readonly to: number;
}

/** One kept moment or stretch of all nodes. */
export interface Moment {
  readonly tier: number;
  readonly at: number;
  readonly severity: number;
  readonly nodes: Uint32Array;
  readonly margins: Float32Array;
}

/** The points of an answer: which of them a kept moment belongs to, by when it was. */
export interface Axis {
  readonly at: readonly number[];
  readonly stepMs: number;
  placeOf(at: number): number;
}

/** What is asked for, cut by who knows it: coarse for long ago, fine for what no coarse stretch has yet. */
export function segmentsOf(store: Store, from: number, to: number): Segment[] {
  const wantedMs = (to - from) / MOST_POINTS;
  const preferred = TIERS.findLastIndex(({ stretchMs }) => stretchMs <= wantedMs);
  const segments: Segment[] = [];
  let end = to + 1;
  let isCut = false;
  for (const [tier, { stretchMs }] of TIERS.entries()) {
    // A stretch is told only where no finer tier tells of any part of it …
    const last = isCut ? end - stretchMs + 1 : end;
    // A tier finer than what is wanted tells only of what is in no stretch yet.
    const known = tier < preferred ? (store.rolledUpTo(tier + 1) ?? from) : (store.oldest(tier) ?? end);
    const begin = Math.max(from, Math.min(tier === TIERS.length - 1 ? from : known, end));
    // … and one that began before what is asked for reaches into it.
    const first = stretchMs > 0 && begin === from ? floorTo(begin, stretchMs) : begin;
    if (first < last) segments.unshift({ tier, from: first, to: last });
    isCut ||= begin < end;
    end = begin;
    if (end <= from) break;
  }
  return segments;
}

/** What a segment has of all nodes, ascending. */
export function momentsOf({ database }: Store, { tier, from, to }: Segment): Moment[] {
  const sql = 'SELECT at, severity, nodes, margins FROM moment WHERE tier=? AND at>=? AND at<? ORDER BY at';
  let last: Uint32Array = new Uint32Array();
  return database.all(sql, tier, from, to).map(({ at, severity, nodes, margins }) => {
    const own = idsOf(nodes as Uint8Array);
    // Mostly the same nodes as before: then they are looked at once.
    if (own.length !== last.length || own.some((node, index) => node !== last[index])) last = own;
    return { tier, at: Number(at), severity: Number(severity), nodes: last, margins: floatsOf(margins as Uint8Array) };
  });
}

/** The points for `moments`: each its own while they are few enough, else stretches of one step. */
export function axisOf(
  moments: readonly Moment[],
  segments: readonly Segment[],
  intervalMs: number,
  from: number,
  to: number,
): Axis {
  const isEach = moments.length <= MOST_POINTS;
  const finestMs = Math.max(intervalMs, ...segments.map(({ tier }) => TIERS[tier]?.stretchMs ?? 0));
  const start = moments[0]?.at ?? from;
  const stepMs = isEach ? finestMs : stepFor((to - Math.min(start, to)) / MOST_POINTS);
  const times: number[] = [];
  const placed = new Map<number, number>();
  const keyOf = (at: number): number => (isEach ? at : floorTo(at, stepMs));
  let gaps = 0;
  let last: { readonly at: number; readonly spacingMs: number } | null = null;
  for (const { at, tier } of moments) {
    const key = keyOf(at);
    if (placed.has(key)) continue;
    const shown = Math.max(from, key);
    const spacingMs = isEach ? Math.max(intervalMs, TIERS[tier]?.stretchMs ?? 0) : stepMs;
    const isGap = last !== null && shown - last.at > GAP_STEPS * Math.max(last.spacingMs, spacingMs);
    if (last && isGap && gaps < MOST_GAPS) {
      times.push(last.at + last.spacingMs);
      gaps += 1;
    }
    placed.set(key, times.length);
    times.push(shown);
    last = { at: shown, spacingMs };
  }
  return { at: times, stepMs, placeOf: (at) => placed.get(keyOf(at)) ?? -1 };
}

const stepFor = (ms: number): number => {
  const days = Math.ceil(ms / 86_400_000);
  return 1000 * (STEPS_S.find((step) => step * 1000 >= ms) ?? days * 86_400);
};
