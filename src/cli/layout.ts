// How a terminal is written to: aligned columns, colour where it is wanted, ages and shares as people read them. What a
// service sends is shown without its control characters, since a reason typed by somebody else must not move the cursor
// of whoever reads it.
import type { Io, Output } from './io.ts';

export type Colour = 'red' | 'yellow' | 'green' | 'bold' | 'dim';

const CODES: Readonly<Record<Colour, number>> = { red: 31, yellow: 33, green: 32, bold: 1, dim: 2 };

/** Paints text on a terminal; elsewhere, and with NO_COLOR (https://no-color.org), leaves it as it is. */
export type Paint = (text: string, colour: Colour) => string;

export function paintFor({ stdout, env }: Pick<Io, 'stdout' | 'env'>): Paint {
  const isWanted = stdout.isTTY === true && !env['NO_COLOR'] && env['TERM'] !== 'dumb';
  return isWanted ? (text, colour) => `\u001b[${CODES[colour]}m${text}\u001b[0m` : (text) => text;
}

/** One cell: its text, and how it is painted once its column's width is known. */
export type Cell = string | { readonly text: string; readonly colour: Colour };

/** Rows with their columns aligned, each indented by two; without trailing blanks. */
export function tableOf(rows: readonly (readonly Cell[])[], paint: Paint): string[] {
  const shown = rows.map((row) => row.map((cell) => (typeof cell === 'string' ? { text: cell } : cell)));
  const widths: number[] = [];
  for (const row of shown) {
    for (const [index, { text }] of row.entries()) widths[index] = Math.max(widths[index] ?? 0, printable(text).length);
  }
  return shown.map((row) => {
    const last = row.findLastIndex(({ text }) => text !== '');
    const cells = row.slice(0, last + 1).map((cell, index) => {
      const text = printable(cell.text).padEnd(index === last ? 0 : (widths[index] ?? 0));
      return 'colour' in cell ? paint(text, cell.colour) : text;
    });
    return cells.length === 0 ? '' : `  ${cells.join('  ')}`;
  });
}

/** Text from elsewhere on one line, without control characters. */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is taken out
  return text.replace(/\s*\n\s*/g, ' ').replace(/[\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g, '?');
}

export function writeLines(output: Output, lines: readonly string[]): void {
  output.write(lines.map((line) => `${line}\n`).join(''));
}

export function writeJson(output: Output, value: unknown): void {
  output.write(`${JSON.stringify(value, null, 2)}\n`);
}

/** `0.4 s`, `12 s`, `3 min 20 s`, `5 h 2 min`, `2 d 5 h`; `never` for `null`. */
export function ageText(seconds: number | null): string {
  if (seconds === null) return 'never';
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const [large, unit, small, smallUnit] =
    whole < 3600
      ? [Math.floor(whole / 60), 'min', whole % 60, 's']
      : whole < 86_400
        ? [Math.floor(whole / 3600), 'h', Math.floor((whole % 3600) / 60), 'min']
        : [Math.floor(whole / 86_400), 'd', Math.floor((whole % 86_400) / 3600), 'h'];
  return `${large} ${unit}${small > 0 ? ` ${small} ${smallUnit}` : ''}`;
}

/** A value with its unit: `61.2 °C`, `230 W`, `12.4 %`. */
export function valueText(value: number, unit: string): string {
  if (unit === 'ratio') return `${(value * 100).toFixed(1)} %`;
  return unit === 'W' ? `${Math.round(value)} W` : `${value.toFixed(1)} ${unit}`;
}

/** A limit with its unit, as short as it was configured: `85 °C`, `80 %`. */
export function limitText(limit: number | undefined, unit: string): string {
  if (limit === undefined) return '';
  return unit === 'ratio' ? `${Number((limit * 100).toFixed(2))} %` : `${limit} ${unit}`;
}
