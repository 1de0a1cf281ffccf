// The lines of one node in an answer: numbers of the store, each in its place on the axis, with the limits of then. A
// node's cards come and go, so one line is put together from several layouts.
import { ACTIONS, type Action } from '../domain/result.ts';
import type { Axis, Segment } from './axis.ts';
import { fromBytes, Joiner, type Stretch } from './downsampling.ts';
import type { Series } from './records.ts';
import { type Store, seriesOf } from './store.ts';

const MOST_SERIES = 500;

export type Cells = (number | null)[];

export interface SeriesAnswer extends Pick<Series, 'component' | 'id' | 'quantity' | 'unit'> {
  readonly node: string;
  readonly limits: { from: number; warning?: number; hardStop?: number; max?: number }[];
  readonly min: Cells;
  readonly mean: Cells;
  readonly max: Cells;
}

/** The lines that the numbers of a layout belong to, in their order. */
interface Placed {
  readonly series: readonly Series[];
  readonly lines: readonly Line[];
}

/** The lines of one node on the axis of an answer. */
export class Lines {
  readonly actions: (Action | null)[];
  readonly #axis: Axis;
  readonly #from: number;
  readonly #lines = new Map<string, Line>();
  readonly #layouts = new Map<number, Placed>();
  #place = -1;
  #joiners = new Map<Placed, Joiner>();

  constructor(axis: Axis, from: number) {
    this.#axis = axis;
    this.#from = from;
    this.actions = axis.at.map(() => null);
  }

  /** Takes in what a segment has of the node. */
  read(store: Store, { tier, from, to }: Segment, node: number): void {
    const sql =
      'SELECT m.at, f.layout, f.severity, f.ticks, f.numbers FROM moment m CROSS JOIN figures f ' +
      'ON f.tier=m.tier AND f.at=m.at AND f.node=? WHERE m.tier=? AND m.at>=? AND m.at<? ORDER BY m.at';
    for (const row of store.database.each(sql, node, tier, from, to)) {
      const at = Number(row['at']);
      const place = this.#axis.placeOf(at);
      if (place < 0) continue;
      if (place !== this.#place) this.#settle(place);
      worsen(this.actions, place, Number(row['severity']));
      const placed = this.#placedOf(store, Number(row['layout']));
      const stretch = fromBytes(row['numbers'] as Uint8Array, Number(row['ticks']), placed.lines.length);
      if (!stretch) continue;
      for (const [index, line] of placed.lines.entries()) line.judgeBy(placed.series[index], Math.max(at, this.#from));
      let joiner = this.#joiners.get(placed);
      if (!joiner) {
        joiner = new Joiner(placed.lines.length);
        this.#joiners.set(placed, joiner);
      }
      joiner.add(stretch);
    }
    this.#settle(-1);
  }

  answer(node: string): { series: readonly SeriesAnswer[]; seriesTotal: number } {
    const lines = [...this.#lines.values()].filter(({ isEmpty }) => !isEmpty);
    const nearest = lines.sort((a, b) => a.margin - b.margin).slice(0, MOST_SERIES);
    const shown = nearest.sort((a, b) => (a.key < b.key ? -1 : 1)).map((line) => line.answer(node));
    return { series: shown, seriesTotal: lines.length };
  }

  /** A point is whole once the next one begins. */
  #settle(place: number): void {
    for (const [{ lines }, joiner] of this.#joiners) {
      const joined = joiner.joined();
      for (const [index, line] of lines.entries()) line.put(this.#place, joined, index);
    }
    this.#joiners = new Map();
    this.#place = place;
  }

  #placedOf({ database }: Store, layout: number): Placed {
    let placed = this.#layouts.get(layout);
    if (!placed) {
      const text = database.first('SELECT series FROM layout WHERE id=?', layout)?.['series'];
      const series = seriesOf(typeof text === 'string' ? text : '[]');
      placed = { series, lines: series.map((one) => this.#lineOf(one)) };
      this.#layouts.set(layout, placed);
    }
    return placed;
  }

  #lineOf(series: Series): Line {
    const key = `${series.component}\n${series.id ?? ''}\n${series.quantity}`;
    let line = this.#lines.get(key);
    if (!line) {
      line = new Line(key, series, this.#axis.at.length);
      this.#lines.set(key, line);
    }
    return line;
  }
}

/** One line: a quantity of one component. */
class Line {
  readonly key: string;
  /** How near it came to the limit that no workload may pass, as a share of it. */
  margin = Number.POSITIVE_INFINITY;
  isEmpty = true;
  readonly #series: Series;
  readonly #limits: SeriesAnswer['limits'] = [];
  readonly #min: Cells;
  readonly #mean: Cells;
  readonly #max: Cells;

  constructor(key: string, series: Series, size: number) {
    this.key = key;
    this.#series = series;
    this.#min = new Array<null>(size).fill(null);
    this.#mean = new Array<null>(size).fill(null);
    this.#max = new Array<null>(size).fill(null);
  }

  judgeBy(series: Series | undefined, at: number): void {
    if (!series) return;
    const { warning, hardStop, max } = series;
    const last = this.#limits.at(-1);
    if (last && last.warning === warning && last.hardStop === hardStop && last.max === max) return;
    this.#limits.push({
      from: at,
      ...(warning !== undefined && { warning }),
      ...(hardStop !== undefined && { hardStop }),
      ...(max !== undefined && { max }),
    });
  }

  put(place: number, { min, mean, max }: Stretch, index: number): void {
    const highest = max[index] ?? Number.NaN;
    if (Number.isNaN(highest) || place < 0) return;
    const { unit, hardStop, max: most } = this.#series;
    this.isEmpty = false;
    // Two layouts in one point, when a card came or went within it.
    const put = (cells: Cells, value: number, choose: (a: number, b: number) => number): void => {
      const shown = rounded(value, unit);
      const old = cells[place] ?? null;
      cells[place] = old === null ? shown : choose(old, shown);
    };
    put(this.#min, min[index] ?? highest, Math.min);
    put(this.#mean, mean[index] ?? highest, (_, newer) => newer);
    put(this.#max, highest, Math.max);
    const limit = hardStop ?? most;
    if (limit !== undefined) this.margin = Math.min(this.margin, (limit - highest) / limit);
  }

  answer(node: string): SeriesAnswer {
    const { component, id, quantity, unit } = this.#series;
    const what = { node, component, ...(id !== undefined && { id }), quantity, unit };
    return { ...what, limits: this.#limits, min: this.#min, mean: this.#mean, max: this.#max };
  }
}

/** Keeps the worse of two actions in a point. */
export function worsen(actions: (Action | null)[], place: number, severity: number): void {
  const old = actions[place];
  if (old === undefined) return;
  if (old === null || ACTIONS.indexOf(old) < severity) actions[place] = ACTIONS[severity] ?? null;
}

/** Kept in single precision, 80.2 is 80.19999695; what was measured has three decimals at most, a share five. */
export function rounded(value: number, unit: Series['unit']): number {
  const scale = unit === 'ratio' ? 100_000 : 1_000;
  return Math.round(value * scale) / scale;
}
