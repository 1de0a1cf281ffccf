// A plot of one line in a terminal: braille dots, eight to a character, with its limits drawn across it. What is drawn
// is each column's lowest to highest, so that a peak of one moment is there however narrow the terminal.
import { type Colour, limitText, type Paint, valueText } from './layout.ts';

const DOTS_X = 2;
const DOTS_Y = 4;
/** The bit of each dot in a braille character, by column and row (Unicode, Braille Patterns). */
const BITS: readonly (readonly number[])[] = [
  [0x01, 0x02, 0x04, 0x40],
  [0x08, 0x10, 0x20, 0x80],
];
const BRAILLE = 0x2800;

export interface PlotLimit {
  readonly name: string;
  readonly value: number;
  readonly colour: Colour;
}

export interface PlotLine {
  readonly title: string;
  readonly unit: string;
  /** When each point begins, ms since 1970, ascending. */
  readonly at: readonly number[];
  /** As many as `at`; `null`: missing then. */
  readonly min: readonly (number | null)[];
  readonly max: readonly (number | null)[];
  /** In force at the end. */
  readonly limits: readonly PlotLimit[];
}

/** The part of a terminal that a plot has. */
export interface PlotFrame {
  readonly fromMs: number;
  readonly toMs: number;
  /** Characters from the axis to the right edge. */
  readonly width: number;
  readonly height: number;
}

/** Room for the numbers on the left of each row. */
export const LABEL_WIDTH = 9;

/** Title and rows of one plot; the time axis is {@link axisLines}'. */
export function plotLines(line: PlotLine, frame: PlotFrame, paint: Paint): string[] {
  const { unit, limits } = line;
  const [low, high] = rangeOf(line);
  const rows = frame.height * DOTS_Y;
  const rowOf = (value: number): number =>
    Math.max(0, Math.min(rows - 1, Math.round(((high - value) / (high - low)) * (rows - 1))));
  const cells = dotsOf(line, frame, rowOf);
  const shown = Array.from({ length: frame.height }, (_, row) => {
    const own = limits.filter((limit) => Math.floor(rowOf(limit.value) / DOTS_Y) === row);
    // A dot to each character, at its very height: a line just below a limit must not look as if on it.
    const dotted = own.reduce((bits, limit) => bits | (BITS[0]?.[rowOf(limit.value) % DOTS_Y] ?? 0), 0);
    const limit = own.at(-1);
    const value = high - ((high - low) * (row * DOTS_Y + 1.5)) / (rows - 1);
    const isLabelled = row % 2 === 0 || row === frame.height - 1;
    const text = limit ? limitText(limit.value, unit) : isLabelled ? valueText(value, unit).replace(/\.\d+/, '') : '';
    const label = text.padStart(LABEL_WIDTH - 1);
    const body = (cells[row] ?? []).map((bits) => charOf(bits > 0 ? bits : dotted)).join('');
    if (!limit) return `${label}│${body}`.trimEnd();
    const dots = new RegExp(`${charOf(dotted)}+`, 'g');
    return `${paint(label, limit.colour)}┤${body.replace(dots, (part) => paint(part, limit.colour))}`;
  });
  const names = limits.map(({ name, value }) => `${name} ${limitText(value, unit)}`).join(', ');
  return [`${paint(line.title, 'bold')}${names === '' ? '' : `  (${names})`}`, ...shown];
}

const charOf = (bits: number): string => (bits === 0 ? ' ' : String.fromCodePoint(BRAILLE + bits));

/** From below the lowest value to above the highest one or the highest limit: how far it is must be seen. */
function rangeOf({ min, max, limits }: PlotLine): [number, number] {
  const lows = min.filter((value) => value !== null);
  const highs = max.filter((value) => value !== null);
  const top = Math.max(...limits.map(({ value }) => value), ...highs);
  const bottom = Math.min(...lows, top);
  const margin = (top - bottom) * 0.05 || Math.abs(top) * 0.05 || 1;
  return [bottom >= 0 ? Math.max(0, bottom - margin) : bottom - margin, top + margin];
}

/** The bits of each character, row by row. */
function dotsOf({ at, min, max }: PlotLine, frame: PlotFrame, rowOf: (value: number) => number): number[][] {
  const cells = Array.from({ length: frame.height }, () => new Array<number>(frame.width).fill(0));
  const columns = frame.width * DOTS_X;
  const spanMs = Math.max(1, frame.toMs - frame.fromMs);
  let last: { readonly column: number; readonly top: number; readonly bottom: number } | null = null;
  for (const [index, atMs] of at.entries()) {
    const highest = max[index] ?? null;
    const lowest = min[index] ?? highest;
    if (highest === null || lowest === null) {
      last = null;
      continue;
    }
    const column = Math.max(0, Math.min(columns - 1, Math.floor(((atMs - frame.fromMs) / spanMs) * columns)));
    const point = { column, top: rowOf(highest), bottom: rowOf(lowest) };
    // From where the last one ended, so that a steep line has no holes.
    for (let x = last?.column ?? column; x <= column; x++) {
      const isHere = x === column || last === null;
      const top = isHere ? Math.min(point.top, last?.bottom ?? point.top) : (last?.top ?? point.top);
      const bottom = isHere ? Math.max(point.bottom, last?.top ?? point.bottom) : (last?.bottom ?? point.bottom);
      for (let y = top; y <= bottom; y++) setDot(cells, x, y);
    }
    last = point;
  }
  return cells;
}

function setDot(cells: number[][], x: number, y: number): void {
  const row = cells[Math.floor(y / DOTS_Y)];
  const column = Math.floor(x / DOTS_X);
  if (row) row[column] = (row[column] ?? 0) | (BITS[x % DOTS_X]?.[y % DOTS_Y] ?? 0);
}

/** A stretch of time in which the interlock was not clear. */
export interface PlotSpan {
  readonly state: 'tripped' | 'cooling';
  readonly from: number;
  /** `null`: it is on. */
  readonly to: number | null;
}

const MARKS = { tripped: '█', cooling: '▒' } as const;

/** The line under the plots: when it was tripped and when it cooled; then the times. */
export function axisLines(spans: readonly PlotSpan[], frame: PlotFrame, paint: Paint): string[] {
  const { fromMs, toMs, width } = frame;
  const spanMs = Math.max(1, toMs - fromMs);
  const columnOf = (atMs: number): number =>
    Math.max(0, Math.min(width - 1, Math.floor(((atMs - fromMs) / spanMs) * width)));
  const marks = new Array<'tripped' | 'cooling' | null>(width).fill(null);
  // Tripped is drawn over cooling.
  for (const { state, from, to } of [...spans].sort((a, b) => (a.state < b.state ? -1 : 1))) {
    if (from <= toMs && (to ?? toMs) >= fromMs) marks.fill(state, columnOf(from), columnOf(to ?? toMs) + 1);
  }
  const blank = ' '.repeat(LABEL_WIDTH - 1);
  const bar = marks
    .map((state) => (state === null ? ' ' : MARKS[state]))
    .join('')
    .trimEnd()
    .replace(new RegExp(`${MARKS.tripped}+`, 'g'), (run) => paint(run, 'red'))
    .replace(new RegExp(`${MARKS.cooling}+`, 'g'), (run) => paint(run, 'yellow'));
  const legend = `${blank} ${MARKS.tripped} tripped  ${MARKS.cooling} cooling`;
  return [
    `${blank}└${'─'.repeat(width)}`,
    ...(marks.some((state) => state !== null) ? [`${blank} ${bar}`, legend] : []),
    `${blank} ${timesOf(frame)}`,
  ];
}

/** Three times where they fit: the beginning, the middle, the end. */
function timesOf({ fromMs, toMs, width }: PlotFrame): string {
  const text = (ms: number): string => timeText(ms, toMs - fromMs > 86_400_000);
  const [start, middle, end] = [text(fromMs), text((fromMs + toMs) / 2), text(toMs)];
  const free = width - start.length - end.length;
  if (free < middle.length + 4) return start + end.padStart(Math.max(end.length + 1, width - start.length));
  const before = Math.floor((width - middle.length) / 2) - start.length;
  return start + ' '.repeat(before) + middle + end.padStart(free - before - middle.length + end.length);
}

const two = (value: number): string => String(value).padStart(2, '0');

/** A moment on the clock of whoever looks: `14:05`, with its day `31 Jan 14:05`. */
export function timeText(ms: number, withDay: boolean): string {
  const at = new Date(ms);
  const time = `${two(at.getHours())}:${two(at.getMinutes())}`;
  return withDay ? `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${time}` : time;
}

/** The same to the second. */
export const secondText = (ms: number, withDay: boolean): string =>
  `${timeText(ms, withDay)}:${two(new Date(ms).getSeconds())}`;
