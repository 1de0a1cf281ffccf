// One line of an exposition: a name, labels in braces, a value, perhaps a stamp. Read from left to right with a cursor,
// since a label's value may hold every character that elsewhere divides the line: braces, commas, blanks, `#`. Readers
// that searched for the first `}` lost the cards whose model name holds one. Which lines are read at all, and what a
// body is beside its lines, is exposition.ts.
//
// Lenient where every reading of a line is the same (blanks anywhere, a comma before the brace, unknown escapes), strict
// where two are possible: a missing comma or an unescaped quote may have swallowed half of a neighbour.
import type { Labels, Sample } from './scrape.ts';

/** `text`: Prometheus text 0.0.4 and 1.0.0, stamps in ms. `openmetrics`: stamps in seconds, and exemplars. */
export type ExpositionFormat = 'text' | 'openmetrics';

/** More labels than any exporter sends (dcgm-exporter with pod labels: about 40); Prometheus' own usual bound is 64. */
const MOST_LABELS = 128;

// Go's ParseFloat without hex and `_`: what the exporters' own library takes, and less than Number() does ('' is 0).
// One way only to match each digit: `\d+\.?\d*` tries all ways to halve a 60 KB number that ends in a letter.
const DECIMAL = /^[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?$/i;
const INFINITE = /^([+-]?)inf(?:inity)?$/i;
const NOT_A_NUMBER = /^nan$/i;
const INTEGER = /^[+-]?\d+$/;

const TAB = 0x09;
const BLANK = 0x20;
const QUOTE = 0x22;
const HASH = 0x23;
const COMMA = 0x2c;
const PLUS = 0x2b;
const MINUS = 0x2d;
const POINT = 0x2e;
const ZERO = 0x30;
const EQUALS = 0x3d;
const BACKSLASH = 0x5c;
const LOWER_E = 0x65;
const OPENING = 0x7b;
const CLOSING = 0x7d;

const NAME_CHARACTER = new Uint8Array(128);
for (const character of '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz:')
  NAME_CHARACTER[character.charCodeAt(0)] = 1;

/** Whether a character may stand in a bare metric name, `[a-zA-Z0-9_:]`; past the end there is none. */
export const isNameCharacter = (code: number | undefined): boolean => NAME_CHARACTER[code ?? 0] === 1;

const isDigit = (code: number): boolean => code >= ZERO && code <= 0x39;
const isBlank = (code: number): boolean => code === BLANK || code === TAB;

/** Inherits nothing, like Object.create(null), and is read and filled as fast as any other object. */
class OwnLabels {
  [key: string]: string;
}
Object.setPrototypeOf(OwnLabels.prototype, null);
Reflect.deleteProperty(OwnLabels.prototype, 'constructor');

/** Reads lines one after the other; of a line that is no sample it tells why, and what could be read of it. */
export class LineReader {
  /** `''` where the line does not tell it. Quoted names may be any text. */
  name = '';
  /** Why the line is no sample; `''` if it is one. */
  fault = '';
  /** The line to after its closing brace, or to its value where it has none; `''` of one that was not read so far. */
  head = '';
  readonly #format: ExpositionFormat;
  #line = '';
  #at = 0;
  #hasEscapes = false;
  #text = '';
  #labels = new OwnLabels();
  #labelCount = 0;
  readonly #usualKeys: string[] = [];
  #hasAllLabels = false;

  constructor(format: ExpositionFormat) {
    this.#format = format;
  }

  /**
   * The labels. Of a line whose fault lies among them only those before it that are certain, each with the comma after
   * it, so that one can tell whose value is missing; `null` where there are none, or two of a name.
   */
  get labels(): Labels | null {
    return this.#hasAllLabels || this.#labelCount > 0 ? this.#labels : null;
  }

  /** Reads a line that has neither its newline nor blanks at its end; `null` if it is no sample. Never throws. */
  read(line: string): Sample | null {
    this.#line = line;
    this.#at = 0;
    this.#hasEscapes = line.includes('\\');
    this.name = '';
    this.head = '';
    this.#clearLabels();
    this.#hasAllLabels = false;
    this.fault = this.#readName() || this.#readLabels();
    if (this.fault !== '') return null;

    this.#hasAllLabels = true;
    this.head = line.slice(0, this.#at);
    return this.#readNumbers(this.name, this.#labels);
  }

  /** Reads what follows `name` and `labels`, which are known. Of a line that is no sample it tells nothing. */
  readAfter(rest: string, name: string, labels: Labels): Sample | null {
    this.#line = rest;
    this.#at = 0;
    return this.#readNumbers(name, labels);
  }

  #readNumbers(name: string, labels: Labels): Sample | null {
    const valueWord = this.#nextWord();
    const value = numberOf(valueWord);
    const stamp = this.#readStamp();
    if (valueWord === '') this.fault = 'no value';
    else if (value === null) this.fault = `"${short(valueWord)}" is no number`;
    else if (stamp === undefined) this.fault = 'what follows the value is no stamp';
    else return { name, labels, value, timestampMs: stamp };
    return null;
  }

  /** A bare name; `''` is no fault before a brace, in which a quoted one may be. Like all that follow: why not, or `''`. */
  #readName(): string {
    this.#skipBlanks();
    this.name = this.#bareWord();
    if (isDigit(this.name.charCodeAt(0))) return 'a name begins with a digit';
    const next = this.#code();
    const isDivided = next === OPENING || isBlank(next) || this.#at === this.#line.length;
    return isDivided ? '' : `${this.#here()} in the name`;
  }

  /** What is in braces, if there are any, to after the closing one. */
  #readLabels(): string {
    this.#skipBlanks();
    if (this.#code() !== OPENING) return this.name === '' ? 'no name' : '';
    do {
      this.#at += 1;
      this.#skipBlanks();
      if (this.#code() === CLOSING) break;
      const fault = this.#readLabel();
      if (fault !== '') return fault;
    } while (this.#code() === COMMA);
    this.#at += 1;
    return this.name === '' ? 'no name' : '';
  }

  /** A label, or the quoted name, to the comma or brace after it. Only with that is it certain where its text ended. */
  #readLabel(): string {
    const isQuoted = this.#code() === QUOTE;
    if (isQuoted && !this.#readQuoted()) return 'a quote is not closed';
    const key = isQuoted ? this.#text : this.#key();
    if (key === '') return `${this.#here()} where a label is due`;
    if (!isQuoted && (isDigit(key.charCodeAt(0)) || key.includes(':'))) return `"${short(key)}" is no name of a label`;
    this.#skipBlanks();

    const hasValue = this.#code() === EQUALS;
    if (hasValue) {
      this.#at += 1;
      this.#skipBlanks();
      if (this.#code() !== QUOTE) return `label "${short(key)}" has no quoted value`;
      if (!this.#readQuoted()) return `the quote of label "${short(key)}" is not closed`;
      this.#skipBlanks();
    } else if (!isQuoted) return `label "${short(key)}" has no value`;
    if (this.#code() !== COMMA && this.#code() !== CLOSING) return `${this.#here()} after "${short(key)}"`;

    if (hasValue) return this.#addLabel(key, this.#text);
    if (this.name !== '') return `two names, "${short(this.name)}" and "${short(key)}"`;
    this.name = key;
    return '';
  }

  #addLabel(key: string, value: string): string {
    if (key === '__name__') return 'a label "__name__"';
    if (this.#labels[key] !== undefined) {
      this.#clearLabels();
      return `two labels "${short(key)}"`;
    }
    if (this.#labelCount === MOST_LABELS) return `more than ${MOST_LABELS} labels`;
    this.#labels[key] = value;
    this.#labelCount += 1;
    return '';
  }

  #clearLabels(): void {
    this.#labels = new OwnLabels();
    this.#labelCount = 0;
  }

  /**
   * The stamp after a value; `null` if there is none, `undefined` if there is something else. An exemplar is cut off
   * unread: value and stamp before it are whole, and nothing in a trace's labels changes them. Text has no exemplars.
   */
  #readStamp(): number | null | undefined {
    const word = this.#nextWord();
    if (this.#isEnd(word)) return null;
    const inSeconds = this.#format === 'openmetrics';
    if (!(inSeconds ? DECIMAL : INTEGER).test(word) || !this.#isEnd(this.#nextWord())) return undefined;
    const stampMs = inSeconds ? Math.round(Number(word) * 1_000) : Number(word);
    return Number.isFinite(stampMs) ? stampMs : undefined;
  }

  #isEnd(word: string): boolean {
    return word === '' || (this.#format === 'openmetrics' && word.charCodeAt(0) === HASH);
  }

  /** At a quote: reads to after the closing one, into `#text`. Unknown escapes stay as they are, as Prometheus has it. */
  #readQuoted(): boolean {
    const start = this.#at + 1;
    let end = this.#line.indexOf('"', start);
    if (this.#hasEscapes) {
      end = start;
      while (end < this.#line.length && this.#line.charCodeAt(end) !== QUOTE)
        end += this.#line.charCodeAt(end) === BACKSLASH ? 2 : 1;
    }
    if (end === -1 || end >= this.#line.length) return false;
    const text = this.#line.slice(start, end);
    this.#text = this.#hasEscapes
      ? text.replace(/\\([\\"n])/g, (_, escaped) => (escaped === 'n' ? '\n' : escaped))
      : text;
    this.#at = end + 1;
    return true;
  }

  /** Mostly the key that stood here in the line before: then it need not be cut out and hashed anew. */
  #key(): string {
    const usual = this.#usualKeys[this.#labelCount];
    if (usual !== undefined && this.#line.startsWith(usual, this.#at)) {
      const end = this.#at + usual.length;
      if (this.#line.charCodeAt(end) === EQUALS) {
        this.#at = end;
        return usual;
      }
    }
    const key = this.#bareWord();
    this.#usualKeys[this.#labelCount] = key;
    return key;
  }

  #bareWord(): string {
    const start = this.#at;
    while (isNameCharacter(this.#code())) this.#at += 1;
    return this.#line.slice(start, this.#at);
  }

  /** The next word, blanks before it passed; `''` at the end. */
  #nextWord(): string {
    this.#skipBlanks();
    const start = this.#at;
    while (this.#at < this.#line.length && !isBlank(this.#code())) this.#at += 1;
    return this.#line.slice(start, this.#at);
  }

  #skipBlanks(): void {
    while (isBlank(this.#code())) this.#at += 1;
  }

  /** NaN at the end. */
  #code(): number {
    return this.#line.charCodeAt(this.#at);
  }

  #here(): string {
    return this.#at < this.#line.length ? `"${this.#line.charAt(this.#at)}"` : 'the end';
  }
}

/** A double holds a number of so many digits, and a power of ten up to this, exactly; their product is then what Number() gives. */
const MOST_EXACT_DIGITS = 15;
const POWERS_OF_TEN = Array.from({ length: 23 }, (_, exponent) => 10 ** exponent);

/**
 * A value as most are: digits, a point among them, an exponent. `null` for all else, and for what is not exact this way.
 * A tenth of the time that a pattern and Number() take.
 */
export function plainNumber(bytes: Uint8Array, start: number, end: number): number | null {
  let number = 0;
  let digits = 0;
  let decimals = 0;
  let hasPoint = false;
  let at = start;
  for (; at < end; at += 1) {
    const code = bytes[at] ?? 0;
    if (isDigit(code)) {
      number = number * 10 + (code - ZERO);
      digits += 1;
      if (hasPoint) decimals += 1;
    } else if (code === POINT && !hasPoint) hasPoint = true;
    else break;
  }
  if (digits === 0 || digits > MOST_EXACT_DIGITS) return null;
  const exponent = at === end ? 0 : exponentAt(bytes, at, end);
  const power = POWERS_OF_TEN[Math.abs(exponent - decimals)];
  if (power === undefined) return null;
  return exponent < decimals ? number / power : number * power;
}

/** `e+09`; NaN for anything else. */
function exponentAt(bytes: Uint8Array, start: number, end: number): number {
  let at = start + 1;
  const sign = bytes[at];
  if (sign === PLUS || sign === MINUS) at += 1;
  if (((bytes[start] ?? 0) | 0x20) !== LOWER_E || at === end || end - at > 3) return Number.NaN;
  let exponent = 0;
  for (; at < end; at += 1) {
    const code = bytes[at] ?? 0;
    if (!isDigit(code)) return Number.NaN;
    exponent = exponent * 10 + (code - ZERO);
  }
  return sign === MINUS ? -exponent : exponent;
}

/** A value as exporters write it; `null` for any other text. NaN and infinities are values, and say "unknown". */
function numberOf(word: string): number | null {
  if (DECIMAL.test(word)) {
    const value = Number(word);
    // 1e400 is out of range, which is not infinite.
    return Number.isFinite(value) ? value : null;
  }
  const sign = INFINITE.exec(word)?.[1];
  if (sign !== undefined) return sign === '-' ? -Infinity : Infinity;
  return NOT_A_NUMBER.test(word) ? Number.NaN : null;
}

/** A word for a reason. */
const short = (word: string): string => (word.length > 40 ? `${word.slice(0, 40)}...` : word);
