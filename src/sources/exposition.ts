// What an exporter's body says: lines to samples by name, for Prometheus text 0.0.4, its UTF-8 names, and OpenMetrics.
// Our own, since the packages for it lose data silently: an empty value becomes '', a page of HTML becomes metrics.
//
// Two ideas. A bad line costs that line and nothing else: a scraper that drops the whole target for one pod's label has
// lost its eyes. But it is kept with its name and labels, for what it would have told is missing, never safe. And most
// of a body is never looked at: a line whose name is not wanted costs a search for the next newline. Of some families
// only the labels are, each text of them once: they name a card, and its labels are the same in each of its families.
//
// Lines are exposition-line.ts. TYPE, HELP and UNIT are not read: the series know what they read, by whole sample names,
// so that `x_created`, a time, is never taken for `x`. The worse of two lines for one series is the domain's to pick.
import { isAscii, isUtf8 } from 'node:buffer';
import { type ExpositionFormat, isNameCharacter, LineReader, plainNumber } from './exposition-line.ts';
import { printable } from './nvidia-smi-card.ts';
import type { Labels, ListedSeries, RejectedLine, Sample } from './scrape.ts';
import type { SeriesMemory } from './series-memory.ts';

export type { ExpositionFormat };

export interface Exposition {
  /** By whole sample name, in the order of the body; of wanted names only. Duplicates are all there. */
  readonly samples: ReadonlyMap<string, readonly Sample[]>;
  /** The first 50 bad lines of wanted names. */
  readonly rejected: readonly RejectedLine[];
  /** How many there were. */
  readonly rejectedCount: number;
  readonly sampleCount: number;
  /** Of families of which only labels are read; each text of labels once, whatever its value says. */
  readonly listed: readonly ListedSeries[];
  /** Why the body is not one whole body; `null` if it is. What was read before stands in `samples`, for people. */
  readonly cutOff: string | null;
}

export interface ExpositionOptions {
  readonly format: ExpositionFormat;
  /** Whole sample names, as they stand in the text; `null`: all. */
  readonly wanted: ReadonlySet<string> | null;
  /** Of which others only the labels are read; left out, of none. */
  readonly isListing?: ((name: string) => boolean) | undefined;
  /** All of its declared length arrived, or its last chunk did. Else a last line without newline is half a line. */
  readonly isComplete: boolean;
  /** Of the same target, read with the same names wanted; left out, each line is read whole. */
  readonly memory?: SeriesMemory;
}

const MOST_REJECTED = 50;
/** A dcgm-exporter with pod labels writes about 1 KiB. */
const LONGEST_LINE = 64 * 1024;
/** Where every name is wanted: for people, who look at one body. */
const MOST_LINES = 200_000;
/**
 * Wanted ones, and those whose name is in braces. A node with 256 CPUs and 8 cards has about 5,000. While so many are
 * read and made readings, a second or two, nothing else of this service moves.
 */
const MOST_WANTED_LINES = 50_000;
/** Texts of labels that differ; 64 cards with 7 instances each and some pods are about 2,000. Further ones are not listed. */
const MOST_LISTED = 10_000;
/** How many lines of the family before may have no fellow in this one, at one place, for the next one to be found again. */
const MOST_PASSED = 8;
/** A rejected line's words are cut to 120 characters; not before blanks are joined. */
const EXCERPT_BYTES = 400;

const TAB = 0x09;
const RETURN = 0x0d;
const BLANK = 0x20;
const HASH = 0x23;
const OPENING = 0x7b;
/** As Latin-1 reads it. */
const BYTE_ORDER_MARK = '\u00ef\u00bb\u00bf';
/** What a decoder writes for bytes that are not UTF-8; exporters send it, too, in its own right. */
const REPLACEMENT = '\ufffd';

/**
 * Reads a body (16 MiB at most, by whom it is fetched). Never throws, and takes time in proportion to its length whatever
 * is in it.
 */
export function parseExposition(body: Buffer, options: ExpositionOptions): Exposition {
  return new BodyReader(body, options).read();
}

class BodyReader {
  readonly #body: Buffer;
  /** A character per byte: places are the same as in `#body`, and searches run at the speed of memory. */
  readonly #text: string;
  readonly #isAscii: boolean;
  readonly #format: ExpositionFormat;
  readonly #wanted: ReadonlySet<string> | null;
  /** Whether a last line without newline counts. In OpenMetrics only `# EOF` may end so. */
  readonly #trustsLastLine: boolean;
  readonly #line: LineReader;
  readonly #memory: SeriesMemory | undefined;
  readonly #samples = new Map<string, Sample[]>();
  /** Those of the name that came last. */
  #latest: Sample[] = [];
  readonly #rejected: RejectedLine[] = [];
  #rejectedCount = 0;
  #sampleCount = 0;
  #lineNumber = 0;
  /** The name of the line before, which is mostly this line's, too, and whether it is wanted. */
  #name = '';
  #isWanted: boolean;
  /** Whether of the lines of that name the labels are read, and nothing else. */
  #isListed = false;
  readonly #isListing: (name: string) => boolean;
  readonly #listed: ListedSeries[] = [];
  /** What stood between name and value of listed lines, in the order of the families before. */
  readonly #labelTexts: string[] = [];
  readonly #knownTexts = new Set<string>();
  /** Where among them the next line of this family is looked for. */
  #place = 0;

  constructor(body: Buffer, { format, wanted, isListing, isComplete, memory }: ExpositionOptions) {
    this.#body = body;
    this.#text = body.toString('latin1');
    this.#isAscii = isAscii(body);
    this.#format = format;
    this.#wanted = wanted;
    this.#isWanted = wanted === null;
    this.#isListing = (wanted !== null && isListing) || (() => false);
    this.#trustsLastLine = isComplete && format === 'text';
    this.#line = new LineReader(format);
    this.#memory = memory;
  }

  read(): Exposition {
    const cutOff = this.#readLines();
    this.#memory?.endOfBody();
    return {
      samples: this.#samples,
      rejected: this.#rejected,
      rejectedCount: this.#rejectedCount,
      sampleCount: this.#sampleCount,
      listed: this.#listed,
      cutOff,
    };
  }

  /** Why the body is not whole, or `null`. */
  #readLines(): string | null {
    const text = this.#text;
    const bytes = this.#body;
    const mostLines = this.#wanted === null ? MOST_LINES : MOST_WANTED_LINES;
    let hasEnded = false;
    let linesRead = 0;
    let next = text.startsWith(BYTE_ORDER_MARK) ? BYTE_ORDER_MARK.length : 0;
    while (next < text.length) {
      let start = next;
      const newline = text.indexOf('\n', start);
      const end = newline === -1 ? text.length : newline;
      const isCut = newline === -1 && !this.#trustsLastLine;
      next = end + 1;
      this.#lineNumber += 1;

      while (isBlank(bytes[start])) start += 1;
      const code = bytes[start];
      if (start < end) {
        // A body ends once. What follows is another exporter's body, or the tail of an older and longer one.
        if (hasEnded) return `line ${this.#lineNumber} stands after "# EOF"`;
        if (code === HASH) hasEnded = this.#format === 'openmetrics' && this.#isEndMark(start, end);
        else if (code === OPENING || this.#isWantedAt(start, end, isCut)) {
          if (linesRead === mostLines) return `more than ${mostLines} lines that are to be read`;
          linesRead += 1;
          this.#readLine(start, end, isCut);
        } else if (this.#isListed && !isCut) this.#listLine(start, end);
      }
      if (isCut && !hasEnded) return `the body ends inside line ${this.#lineNumber}`;
    }
    return this.#format === 'openmetrics' && !hasEnded ? 'the body does not end with "# EOF"' : null;
  }

  #isEndMark(start: number, end: number): boolean {
    return this.#text.startsWith('# EOF', start) && this.#text.slice(start, end).trimEnd() === '# EOF';
  }

  /** Whether the line at `start` has a wanted name; where the body is cut there, one that is not cut itself. */
  #isWantedAt(start: number, end: number, isCut: boolean): boolean {
    const text = this.#text;
    const bytes = this.#body;
    let nameEnd = start + this.#name.length;
    // Not by startsWith(), which compares a character at a time and takes five times as long.
    if (text.slice(start, nameEnd) !== this.#name || isNameCharacter(bytes[nameEnd])) {
      nameEnd = start;
      while (isNameCharacter(bytes[nameEnd])) nameEnd += 1;
      this.#name = text.slice(start, nameEnd);
      this.#isWanted = this.#wanted === null || this.#wanted.has(this.#name);
      this.#isListed = !this.#isWanted && this.#isListing(this.#name);
      this.#place = 0;
    }
    return this.#isWanted && !(isCut && nameEnd === end);
  }

  #readLine(start: number, lineEnd: number, isCut: boolean): void {
    let end = lineEnd;
    while (isBlank(this.#body[end - 1])) end -= 1;
    const isQuoted = this.#body[start] === OPENING;
    if (end - start > LONGEST_LINE) {
      // Its braces are not looked into: a name in there stays unknown.
      if (isQuoted && this.#wanted !== null) return;
      const nameBytes = isQuoted ? 0 : Math.min(this.#name.length, EXCERPT_BYTES);
      const name = this.#body.toString('latin1', start, start + nameBytes);
      this.#reject(start, end, { name, labels: null, reason: `longer than ${LONGEST_LINE} bytes` });
      return;
    }
    const mayBeKnown = this.#memory !== undefined && this.#isAsciiLine(start, end);
    if (mayBeKnown && !isCut && this.#readKnown(start, end)) return;
    // A copy: parts of the line that live on must not keep the whole body in memory.
    const text = this.#body.toString(this.#isAscii ? 'latin1' : 'utf8', start, end);
    const line = this.#line;
    const sample = line.read(text);
    const { name } = line;
    const isBroken = this.#isBroken(text, start, end);
    if (isQuoted && this.#wanted !== null && !this.#wanted.has(name)) {
      if (!isCut && this.#isListing(name)) this.#list(name, isBroken ? withoutBroken(line.labels) : line.labels);
      return;
    }
    if (sample !== null && !isCut && !isBroken) {
      this.#add(sample);
      if (mayBeKnown) this.#memory?.learn({ head: line.head, name, labels: sample.labels });
    } else {
      const labels = isBroken ? withoutBroken(line.labels) : line.labels;
      const reason = isCut ? 'the body ends inside this line' : isBroken ? 'not UTF-8' : line.fault;
      this.#reject(start, end, { name, labels, reason });
    }
  }

  /** A line whose labels are all that is read. It is of the same series' labels as one that begins so did. */
  #listLine(start: number, lineEnd: number): void {
    const labelsStart = start + this.#name.length;
    const last = Math.min(this.#place + MOST_PASSED, this.#labelTexts.length - 1);
    for (let next = this.#place; next <= last; next += 1) {
      const known = this.#labelTexts[next] ?? '';
      if (this.#text.slice(labelsStart, labelsStart + known.length) !== known) continue;
      this.#place = next + 1;
      return;
    }
    if (this.#listed.length >= MOST_LISTED || lineEnd - start > LONGEST_LINE) return;
    const text = this.#body.toString(this.#isAscii ? 'latin1' : 'utf8', start, lineEnd).trimEnd();
    const line = this.#line;
    line.read(text);
    const { head, labels } = line;
    // What was read up to its closing brace is the same wherever it stands again. In ASCII bytes are characters.
    const isWhole = head.endsWith('}') && this.#isAsciiLine(start, lineEnd);
    const labelText = head.slice(this.#name.length);
    if (isWhole && this.#labelTexts.length < MOST_LISTED) this.#labelTexts.splice(this.#place++, 0, labelText);
    if (isWhole && this.#knownTexts.has(labelText)) return;
    if (isWhole) this.#knownTexts.add(labelText);
    this.#list(this.#name, this.#isBroken(text, start, lineEnd) ? withoutBroken(labels) : labels);
  }

  #list(name: string, labels: Labels | null): void {
    if (labels !== null && this.#listed.length < MOST_LISTED) this.#listed.push({ name, labels });
  }

  #isBroken(text: string, start: number, end: number): boolean {
    return !this.#isAscii && text.includes(REPLACEMENT) && !isUtf8(this.#body.subarray(start, end));
  }

  #isAsciiLine(start: number, end: number): boolean {
    return this.#isAscii || isAscii(this.#body.subarray(start, end));
  }

  /** Whether the line is of a series that the body before had; then it is read. */
  #readKnown(start: number, end: number): boolean {
    const known = this.#memory?.recall(this.#text, start);
    if (!known) return false;
    const { head, name, labels } = known;
    const numbersStart = start + head.length;
    // Without braces a series is what it is by what follows: braces after all, or other blanks and then braces.
    const next = this.#body[numbersStart];
    if (!head.endsWith('}') && (isBlank(next) || next === OPENING)) return false;
    let valueStart = numbersStart;
    while (isBlank(this.#body[valueStart])) valueStart += 1;
    const value = plainNumber(this.#body, valueStart, end);
    const sample: Sample | null =
      value === null
        ? this.#line.readAfter(this.#text.slice(numbersStart, end), name, labels)
        : { name, labels, value, timestampMs: null };
    if (sample !== null) this.#add(sample);
    return sample !== null;
  }

  #add(sample: Sample): void {
    this.#sampleCount += 1;
    const { name } = sample;
    if (this.#latest[0]?.name !== name) {
      this.#latest = this.#samples.get(name) ?? [];
      this.#samples.set(name, this.#latest);
    }
    this.#latest.push(sample);
  }

  #reject(start: number, end: number, what: Pick<RejectedLine, 'name' | 'labels' | 'reason'>): void {
    this.#rejectedCount += 1;
    if (this.#rejected.length >= MOST_REJECTED) return;
    const excerpt = this.#body.toString('utf8', start, Math.min(end, start + EXCERPT_BYTES));
    this.#rejected.push({ ...what, line: this.#lineNumber, text: printable(excerpt) });
  }
}

/** `\r` too: exporters on Windows, and files that were edited there, end their lines with `\r\n`. */
const isBlank = (code: number | undefined): boolean => code === BLANK || code === TAB || code === RETURN;

/** The labels that no broken byte is in: half a UUID would name a card that does not exist. */
function withoutBroken(labels: Labels | null): Labels | null {
  const whole: Record<string, string> = Object.create(null);
  for (const [key, value] of Object.entries(labels ?? {}))
    if (!key.includes(REPLACEMENT) && !value.includes(REPLACEMENT)) whole[key] = value;
  return Object.keys(whole).length === 0 ? null : whole;
}

const REFUSED_TYPES = new Map([
  ['text/html', 'a web page (a login, a proxy, an error), not metrics'],
  ['application/json', 'JSON, not metrics'],
  ['application/vnd.google.protobuf', 'protobuf, which was not asked for'],
]);

/**
 * How to read a body, by the `Content-Type` it came with. Without one it is text, as Prometheus 2 has it: a page of HTML
 * gives no wanted series, and OpenMetrics' stamps in seconds would be of 1970 and so stale. Every version of a format is
 * read; a type that is neither is refused, in words for the failure's detail.
 */
export function expositionFormat(
  contentType: string | undefined,
): { readonly ok: true; readonly format: ExpositionFormat } | { readonly ok: false; readonly detail: string } {
  const [type = ''] = (contentType ?? '').toLowerCase().split(';');
  const mediaType = type.trim();
  if (mediaType === '' || mediaType === 'text/plain') return { ok: true, format: 'text' };
  if (mediaType === 'application/openmetrics-text') return { ok: true, format: 'openmetrics' };
  const what = REFUSED_TYPES.get(mediaType) ?? 'neither text/plain nor application/openmetrics-text';
  return { ok: false, detail: `Content-Type "${printable(mediaType)}": ${what}` };
}
