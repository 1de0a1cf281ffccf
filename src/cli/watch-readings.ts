// The readings of a live screen: every one of every node, the worst first, with its limits, how far it is from the one
// that no workload may pass, and a word for how it stands, since colour alone tells some people nothing. Fewer columns
// where the terminal is narrow. What else is on the screen is watch-screen.ts.
import type { NodeStatus, ReadingStatus, Status } from '../http/status-view.ts';
import { type Cell, type Colour, limitText, type Paint, tableOf, valueText } from './layout.ts';
import { nameOf } from './node-table.ts';

const BAR_WIDTH = 10;

interface Row {
  readonly name: string;
  readonly reading: ReadingStatus;
  readonly state: State;
}

interface State {
  /** 0 stands on top. */
  readonly rank: number;
  readonly word: string;
  readonly colour: Colour | null;
}

/** Of the limit that no workload may pass: 1 far, 0 at it, negative beyond; as the stream's worst margins. */
function marginRatio({ value, limits }: ReadingStatus): number | null {
  const limit = limits?.hardStop ?? limits?.max;
  return value === undefined || limit === undefined ? null : (limit - value) / limit;
}

/** In steps of 2 %, so that rows of like readings do not change places all the time. */
const nearnessOf = (reading: ReadingStatus): number => Math.round((marginRatio(reading) ?? 1) * 50);

function stateOf({
  value,
  limits,
  missing,
  required,
  waived,
  informational,
  awaitingSecondSample,
}: ReadingStatus): State {
  if (informational) return { rank: 7, word: 'shown', colour: 'dim' };
  if (value === undefined) {
    if (required) return { rank: 1, word: 'MISSING', colour: missing === 'not-yet-read' ? 'yellow' : 'red' };
    return { rank: 6, word: waived ? 'waived' : 'optional', colour: 'dim' };
  }
  if (limits?.hardStop !== undefined && value >= limits.hardStop) {
    return { rank: 0, word: awaitingSecondSample ? 'HARD STOP?' : 'HARD STOP', colour: 'red' };
  }
  if (limits?.max !== undefined && value > limits.max) return { rank: 2, word: 'OVER MAX', colour: 'yellow' };
  if (limits?.warning !== undefined && value >= limits.warning) return { rank: 2, word: 'WARNING', colour: 'yellow' };
  return limits === undefined ? { rank: 5, word: 'no limit', colour: 'dim' } : { rank: 4, word: 'ok', colour: null };
}

/** Every reading of every node, worst first, under a heading; as many columns as there is room for. */
export function readingLines({ nodes }: Status, columns: number, paint: Paint): string[] {
  const prefix = (node: NodeStatus): string => (nodes.length > 1 ? `${node.node}: ` : '');
  const rows = nodes
    .flatMap((node) =>
      node.readings.map((reading) => ({
        name: prefix(node) + nameOf(reading, node),
        reading,
        state: stateOf(reading),
      })),
    )
    .sort((a, b) => a.state.rank - b.state.rank || nearnessOf(a.reading) - nearnessOf(b.reading));
  if (rows.length === 0) return ['', '  nothing has been read yet'];
  const head = ['READING', 'VALUE', 'NEARNESS', 'WARNING', 'STOP', 'MARGIN', 'STATE'];
  const full = [head.map((text): Cell => ({ text, colour: 'dim' })), ...rows.map(cellsOf)];
  // The bar goes first, then the limits: the margin says what counts.
  const layouts = [full, full.map((row) => without(row, [2])), full.map((row) => without(row, [2, 3, 4]))];
  const fits = (layout: readonly (readonly Cell[])[]): boolean =>
    tableOf(layout, (text) => text).every((line) => line.length <= columns);
  const chosen = layouts.find(fits) ?? layouts[layouts.length - 1] ?? full;
  // Why something is missing may be cut off at the edge of the screen.
  return [
    '',
    ...tableOf(
      chosen.map((row, index) => [...row, ...whyMissing(rows[index - 1])]),
      paint,
    ),
  ];
}

const without = (row: readonly Cell[], columns: readonly number[]): Cell[] =>
  row.filter((_, index) => !columns.includes(index));

function cellsOf({ name, reading, state }: Row): Cell[] {
  const { value, unit, limits, estimated } = reading;
  const painted = (text: string): Cell => (state.colour === null ? text : { text, colour: state.colour });
  const limit = limits?.hardStop ?? limits?.max;
  const ratio = marginRatio(reading);
  const margin = value === undefined || limit === undefined ? '' : valueText(limit - value, unit);
  return [
    painted(name),
    painted(value === undefined ? '-' : `${estimated ? '~' : ''}${valueText(value, unit)}`),
    painted(ratio === null ? '' : barText(1 - ratio)),
    limits?.max === undefined ? limitText(limits?.warning, unit) : `max ${limitText(limits.max, unit)}`,
    limitText(limits?.hardStop, unit),
    painted(margin),
    painted(state.word),
  ];
}

const whyMissing = (row: Row | undefined): Cell[] =>
  row?.reading.missing === undefined
    ? []
    : [{ text: [row.reading.missing, row.reading.detail].filter(Boolean).join(': '), colour: 'dim' }];

/** How much of the way to the limit is gone; full at the limit and beyond. */
function barText(share: number): string {
  const filled = Math.max(0, Math.min(BAR_WIDTH, Math.floor(share * BAR_WIDTH)));
  return '█'.repeat(filled) + '░'.repeat(BAR_WIDTH - filled);
}
