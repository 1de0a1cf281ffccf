// What GET /history says: rows of the store brought onto one axis of at most 1,000 points. Where more moments were kept
// than that, each point is the lowest, mean and highest of a stretch. Made by the thread that reads the disk, down to
// the text, so that the thread that judges only passes it on.
import type { Action } from '../domain/result.ts';
import { type Axis, axisOf, type Moment, momentsOf, segmentsOf } from './axis.ts';
import { type Cells, Lines, rounded, type SeriesAnswer, worsen } from './lines.ts';
import type { HistoryQuery, KeptEvent } from './records.ts';
import type { Store } from './store.ts';

const MOST_NODES = 100;
const MOST_EVENTS = 500;
const MOST_SPANS = 500;

export interface HistoryAnswer {
  readonly from: string;
  readonly to: string;
  readonly node: string | null;
  readonly simulated: boolean;
  readonly stepSeconds: number;
  readonly keptFrom: string | null;
  readonly at: readonly number[];
  readonly action: readonly (Action | null)[];
  readonly series: readonly SeriesAnswer[];
  readonly seriesTotal: number;
  readonly margins: readonly MarginAnswer[];
  readonly nodesTotal: number;
  readonly spans: readonly SpanAnswer[];
  readonly events: readonly KeptEvent[];
  readonly eventsTotal: number;
}

export interface MarginAnswer {
  readonly node: string;
  readonly min: Cells;
  readonly worst: { readonly at: number; readonly marginRatio: number };
}

export interface SpanAnswer {
  readonly state: 'tripped' | 'cooling';
  readonly node: string | null;
  readonly tripId?: string;
  readonly reason?: string;
  readonly from: number;
  readonly to: number | null;
}

/** The answer; `null` for a node that neither the service nor the store knows. */
export function answerOf(store: Store, query: HistoryQuery): HistoryAnswer | null {
  const { database, bounds } = store;
  const nodeId = query.node === null ? null : database.first('SELECT id FROM node WHERE name=?', query.node)?.['id'];
  if (nodeId === undefined && !query.isKnown) return null;
  const keptFrom = store.keptFromMs;
  const from = query.fromMs;
  const to = query.toMs;
  // A month that is asked for where a day is kept is a day.
  const segments = segmentsOf(store, Math.max(from, keptFrom ?? from), to);
  const moments = segments.flatMap((segment) => momentsOf(store, segment));
  const axis = axisOf(moments, segments, bounds.intervalMs, from, to);
  const nodes = nodesOf(moments);
  // One node needs no naming.
  const only = nodeId === null && nodes.size === 1 ? [...nodes][0] : nodeId;
  const chosen = only === undefined || only === null ? null : Number(only);
  const lines = new Lines(axis, from);
  if (chosen !== null) for (const segment of segments) lines.read(store, segment, chosen);
  const margins = nodeId === undefined ? [] : marginsOf(store, moments, axis, nodeId === null ? null : chosen, from);
  return {
    from: iso(from),
    to: iso(to),
    node: query.node,
    simulated: bounds.simulated,
    stepSeconds: axis.stepMs / 1000,
    keptFrom: keptFrom === null ? null : iso(keptFrom),
    at: axis.at,
    action: query.node === null ? actionsOf(moments, axis) : lines.actions,
    ...lines.answer(query.node ?? nameOf(store, chosen ?? 0)),
    margins,
    nodesTotal: nodes.size,
    spans: spansOf(store, query),
    ...eventsOf(store, query),
  };
}

function actionsOf(moments: readonly Moment[], axis: Axis): (Action | null)[] {
  const actions: (Action | null)[] = axis.at.map(() => null);
  for (const { at, severity } of moments) worsen(actions, axis.placeOf(at), severity);
  return actions;
}

/** The worst margins of the worst nodes. Ids of nodes are small numbers, so that arrays do for maps. */
function marginsOf(
  store: Store,
  moments: readonly Moment[],
  axis: Axis,
  only: number | null,
  from: number,
): MarginAnswer[] {
  const worst: number[] = [];
  const worstAt: number[] = [];
  for (const { at, nodes, margins } of moments) {
    for (const [index, node] of nodes.entries()) {
      const marginRatio = margins[index] ?? Number.NaN;
      if (Number.isNaN(marginRatio) || marginRatio >= (worst[node] ?? Number.POSITIVE_INFINITY)) continue;
      worst[node] = marginRatio;
      worstAt[node] = Math.max(at, from);
    }
  }
  const ranked = Object.entries(worst)
    .map(([node, marginRatio]) => ({ node: Number(node), marginRatio }))
    .filter(({ node }) => only === null || node === only)
    .sort((a, b) => a.marginRatio - b.marginRatio)
    .slice(0, MOST_NODES);
  const cells: Cells[] = [];
  for (const { node } of ranked) cells[node] = new Array<null>(axis.at.length).fill(null);
  for (const { at, nodes, margins } of moments) {
    const place = axis.placeOf(at);
    for (const [index, node] of nodes.entries()) {
      const own = cells[node];
      const marginRatio = margins[index] ?? Number.NaN;
      if (!own || place < 0 || Number.isNaN(marginRatio)) continue;
      own[place] = Math.min(own[place] ?? Number.POSITIVE_INFINITY, rounded(marginRatio, 'ratio'));
    }
  }
  return ranked.map(({ node, marginRatio }) => ({
    node: nameOf(store, node),
    min: cells[node] ?? [],
    worst: { at: worstAt[node] ?? from, marginRatio: rounded(marginRatio, 'ratio') },
  }));
}

function nodesOf(moments: readonly Moment[]): Set<number> {
  const found = new Set<number>();
  let last: Uint32Array | null = null;
  for (const { nodes } of moments) {
    if (nodes === last) continue;
    last = nodes;
    for (const node of nodes) found.add(node);
  }
  return found;
}

function spansOf({ database }: Store, { fromMs, toMs, node }: HistoryQuery): SpanAnswer[] {
  const sql =
    'SELECT * FROM span WHERE since<=? AND (until IS NULL OR until>=?) AND (? IS NULL OR node IS NULL OR node=?) ' +
    'ORDER BY since DESC LIMIT ?';
  const rows = database.all(sql, toMs, fromMs, node, node, MOST_SPANS);
  return rows.reverse().map(({ state, node: on, trip, reason, since, until }) => ({
    state: state === 'tripped' ? 'tripped' : 'cooling',
    node: on === null || on === undefined ? null : String(on),
    ...(typeof trip === 'string' && { tripId: trip }),
    ...(typeof reason === 'string' && { reason }),
    from: Number(since),
    to: typeof until === 'number' ? until : null,
  }));
}

function eventsOf(
  { database }: Store,
  { fromMs, toMs, node }: HistoryQuery,
): Pick<HistoryAnswer, 'events' | 'eventsTotal'> {
  const where = 'FROM event WHERE at>=? AND at<=? AND (? IS NULL OR node IS NULL OR node=?)';
  const total = database.first(`SELECT count(*) AS total ${where}`, fromMs, toMs, node, node)?.['total'];
  const rows = database.all(
    `SELECT data ${where} ORDER BY at DESC, id DESC LIMIT ?`,
    fromMs,
    toMs,
    node,
    node,
    MOST_EVENTS,
  );
  const events = rows.reverse().map(({ data }) => JSON.parse(String(data)) as KeptEvent);
  return { events, eventsTotal: Number(total ?? 0) };
}

const nameOf = ({ database }: Store, id: number): string =>
  String(database.first('SELECT name FROM node WHERE id=?', id)?.['name'] ?? '');

const iso = (ms: number): string => new Date(ms).toISOString();
