// The last hour of one node: what the service kept on disk, where it keeps a history, and after that what this page has
// seen itself. One time axis, one column per reading, `null` where there was none. Pure; what draws it is charts.tsx.
import type { History, NodeStatus, Status } from './wire.ts';

export const HOUR_SECONDS = 3600;
/** Moments that the page keeps by itself: an hour of ticks of 10 s, and some more for changes between ticks. */
const MOST_MOMENTS = 720;
/** With more readings than this per status only the node that is looked at is kept. */
const MOST_COLUMNS = 2_000;

export const columnKey = (component: string, id: string | undefined, quantity: string): string =>
  `${component}/${id ?? ''}/${quantity}`;

/** Moments in seconds since 1970, ascending, and a column per reading. */
export interface Timeline {
  readonly at: readonly number[];
  readonly columns: ReadonlyMap<string, readonly (number | null)[]>;
}

interface Moment {
  readonly atSeconds: number;
  readonly values: ReadonlyMap<string, number>;
}

/** What the page has seen since it was opened, bounded. */
export class Recorder {
  readonly #moments = new Map<string, Moment[]>();
  /** The node that is looked at; in a large fleet only that one is kept. */
  watched: string | null = null;

  /** Takes the readings of a status, at its own time. */
  record(status: Status): void {
    const columns = status.nodes.reduce((sum, { readings }) => sum + readings.length, 0);
    const atSeconds = Date.parse(status.at) / 1000;
    for (const node of status.nodes) {
      if (columns > MOST_COLUMNS && node.node !== this.watched) continue;
      const moments = this.#moments.get(node.node) ?? [];
      if ((moments.at(-1)?.atSeconds ?? 0) >= atSeconds) continue;
      moments.push({ atSeconds, values: valuesOf(node) });
      if (moments.length > MOST_MOMENTS) moments.shift();
      this.#moments.set(node.node, moments);
    }
    if (this.#moments.size > status.nodes.length * 2) this.#moments.clear();
  }

  momentsOf(node: string): readonly Moment[] {
    return this.#moments.get(node) ?? [];
  }

  /** Since when a node is being kept, in seconds; `null`: not yet. */
  since(node: string): number | null {
    return this.#moments.get(node)?.[0]?.atSeconds ?? null;
  }
}

function valuesOf({ readings }: NodeStatus): ReadonlyMap<string, number> {
  const values = new Map<string, number>();
  for (const { component, id, quantity, value, informational } of readings) {
    if (value !== undefined && !informational) values.set(columnKey(component, id, quantity), value);
  }
  return values;
}

/** A longer silence than this many steps is a gap: no line is drawn over what nobody saw. */
const GAP_STEPS = 3.5;

/** The hour before `endSeconds`: the history first, then what the page has seen after its end. */
export function timelineOf(
  history: History | null,
  moments: readonly Moment[],
  endSeconds: number,
  stepSeconds: number,
): Timeline {
  const fromSeconds = endSeconds - HOUR_SECONDS;
  const at: number[] = [];
  const columns = new Map<string, (number | null)[]>();
  const put = (key: string, row: number, value: number | null): void => {
    const column = columns.get(key) ?? [];
    columns.set(key, column);
    while (column.length < row) column.push(null);
    column[row] = value;
  };
  for (const [index, ms] of (history?.at ?? []).entries()) {
    if (ms / 1000 < fromSeconds) continue;
    const row = at.push(ms / 1000) - 1;
    for (const { component, id, quantity, max } of history?.series ?? []) {
      put(columnKey(component, id, quantity), row, max[index] ?? null);
    }
  }
  for (const { atSeconds, values } of moments) {
    const last = at.at(-1) ?? 0;
    if (atSeconds < fromSeconds || atSeconds <= last) continue;
    // An empty row breaks the line.
    if (last > 0 && atSeconds - last > GAP_STEPS * stepSeconds) at.push(last + stepSeconds);
    const row = at.push(atSeconds) - 1;
    for (const [key, value] of values) put(key, row, value);
  }
  for (const column of columns.values()) while (column.length < at.length) column.push(null);
  return { at, columns };
}

/** A stretch of the hour in which a node was tripped or cooling. */
export interface Span {
  readonly state: 'tripped' | 'cooling';
  readonly fromSeconds: number;
  /** `null`: it is still on. */
  readonly toSeconds: number | null;
}
