// What a journal file looks like, and reading one back. Pure: bytes in, contents out.
//
// Each line is `<checksum, 8 hex digits> <JSON>\n`. The checksum is the CRC-32 of the JSON, begun with the checksum of the
// line before it, so that a line which is lost, doubled or moved does not fit either. The first line is the header; each further one is a change to a
// map of text keys to JSON values. The header's line keeps this form and the fields `format` and `version` in every
// version to come, so that an old program recognises a newer file instead of calling it damaged.
//
// Only a last line without its newline is the mark of a write that a crash cut short: it was never acknowledged, and is
// dropped. A whole line that does not fit its checksum is damage, wherever it stands, since it may have been a trip. (A
// power cut in the middle of a write can leave such a line too, where the disk wrote a later page first. That reads as
// damage, hence as tripped, which is the safe way to be wrong.)
import { crc32 } from 'node:zlib';

/** The version that this program writes. It reads all from 0 on. */
export const JOURNAL_VERSION = 1;

const FORMAT = 'vsf-safety-journal';
const NEWLINE = 0x0a;
const LINE = /^([0-9a-f]{8}) (.*)$/s;

/** Why the file before this one could not be used; kept in the new one's header until a first change is recorded. */
export interface Damage {
  /** Where the damaged file was kept; null: there is none (gone, or it could not be moved). */
  readonly keptAside: string | null;
  readonly detail: string;
}

/** One change of the map. `delete` applies first, then `set`; both together or neither. */
export interface JournalChange {
  readonly set?: Readonly<Record<string, unknown>>;
  readonly delete?: readonly string[];
  /** For the person who reads the file: what happened. */
  readonly why: string;
}

/** The same with each value as a JSON text, which no later change of the caller's objects reaches. */
export interface ChangeText {
  readonly set: ReadonlyMap<string, string>;
  readonly delete: readonly string[];
}

/** The live keys, each with its value as a JSON text. */
export type LiveKeys = Map<string, string>;

export type JournalContents =
  | {
      readonly kind: 'read';
      readonly version: number;
      readonly live: LiveKeys;
      /** Bytes up to and with the last whole record; what lies behind is a torn write. */
      readonly goodBytes: number;
      /** Of the last whole record: see {@link Lines}. */
      readonly checksum: number;
      readonly damage: Damage | null;
    }
  | { readonly kind: 'damaged'; readonly detail: string }
  | { readonly kind: 'newer'; readonly fileVersion: number };

/** Lines of the file, and the checksum of the last: what the next one begins with. */
export interface Lines {
  readonly bytes: Buffer;
  readonly checksum: number;
}

/** What a line holds beside its JSON: checksum, blank and newline. */
export const LINE_FRAME_BYTES = 10;

/** Lines from their JSON texts, which must hold no raw newline (`JSON.stringify` makes none). `before`: see {@link Lines}. */
export function encodeLines(jsons: readonly string[], before: number): Lines {
  let checksum = before;
  const lines = jsons.map((json) => {
    checksum = crc32(json, checksum);
    return Buffer.from(`${checksum.toString(16).padStart(8, '0')} ${json}\n`);
  });
  return { bytes: Buffer.concat(lines), checksum };
}

/** The JSON text of one change; `at` is ISO wall time. */
export function changeJson(change: ChangeText, why: string, at: string): string {
  const fields: string[] = [];
  if (change.set.size > 0)
    fields.push(`"set":{${[...change.set].map(([key, text]) => `${JSON.stringify(key)}:${text}`)}}`);
  if (change.delete.length > 0) fields.push(`"delete":${JSON.stringify(change.delete)}`);
  fields.push(`"why":${JSON.stringify(why)}`, `"at":${JSON.stringify(at)}`);
  return `{${fields.join()}}`;
}

/** A whole file that holds `live` and nothing of how it came about: what compaction writes. */
export function encodeSnapshot(live: LiveKeys, damage: Damage | null, productVersion: string, at: string): Lines {
  const header = { format: FORMAT, version: JOURNAL_VERSION, productVersion, at, ...(damage ? { damage } : {}) };
  const jsons = [JSON.stringify(header)];
  for (const [key, text] of live) jsons.push(changeJson({ set: new Map([[key, text]]), delete: [] }, 'snapshot', at));
  return encodeLines(jsons, 0);
}

/** A change as it goes into the file; null: a value has no JSON form. */
export function changeText({ set = {}, delete: deleted = [] }: JournalChange): ChangeText | null {
  const texts = new Map<string, string>();
  try {
    for (const [key, value] of Object.entries(set)) {
      const text: string | undefined = JSON.stringify(value);
      if (text === undefined) return null;
      texts.set(key, text);
    }
  } catch {
    return null; // a cycle or a BigInt
  }
  return { set: texts, delete: [...deleted] };
}

/** Applies one change to `live`. */
export function applyChange(live: LiveKeys, change: ChangeText): void {
  for (const key of change.delete) live.delete(key);
  for (const [key, text] of change.set) live.set(key, text);
}

/**
 * Several changes, in order, as one. A deletion of what `live` does not hold is left out, so that the sum of any number
 * of changes stays about as large as the map that they make.
 */
export function mergeChanges(live: LiveKeys, changes: readonly ChangeText[]): ChangeText {
  const set = new Map<string, string>();
  const deleted = new Set<string>();
  for (const change of changes) {
    for (const key of change.delete) {
      set.delete(key);
      if (live.has(key)) deleted.add(key);
    }
    for (const [key, text] of change.set) set.set(key, text);
  }
  return { set, delete: [...deleted] };
}

/** Reads a whole journal file. */
export function readJournal(bytes: Buffer): JournalContents {
  let line = takeLine(bytes, 0, 0);
  const header = line && parseHeader(line.json);
  if (!line || !header) return { kind: 'damaged', detail: describe('its header (line 1) is not one', bytes, 0) };
  if (header.version > JOURNAL_VERSION) return { kind: 'newer', fileVersion: header.version };
  const live: LiveKeys = new Map();
  let { damage } = header;
  let goodBytes = line.end;
  let { checksum } = line;
  // Version 0 stands for files whose lines did not hang together yet.
  const isChained = header.version > 0;
  for (let number = 2; bytes.indexOf(NEWLINE, goodBytes) >= 0; number++) {
    line = takeLine(bytes, goodBytes, isChained ? checksum : 0);
    const change = line && parseChange(line.json, header.version);
    if (!line || !change) {
      return {
        kind: 'damaged',
        detail: describe(`line ${number} does not fit its checksum, the line before it, or its form`, bytes, goodBytes),
      };
    }
    applyChange(live, change);
    damage = null;
    goodBytes = line.end;
    checksum = line.checksum;
  }
  return { kind: 'read', version: header.version, live, goodBytes, checksum, damage };
}

/** The JSON text of the line at `start` and the offset after it; null: cut short or not fitting its checksum. */
function takeLine(
  bytes: Buffer,
  start: number,
  before: number,
): { readonly json: string; readonly end: number; readonly checksum: number } | null {
  const newline = bytes.indexOf(NEWLINE, start);
  if (newline < 0) return null;
  const [, hex, json] = LINE.exec(bytes.toString('utf8', start, newline)) ?? [];
  if (hex === undefined || json === undefined) return null;
  // Over the bytes as they are, not over the decoded text: decoding hides broken UTF-8.
  const checksum = crc32(bytes.subarray(start + hex.length + 1, newline), before);
  return checksum === Number.parseInt(hex, 16) ? { json, end: newline + 1, checksum } : null;
}

function parseHeader(json: string): { version: number; damage: Damage | null } | null {
  const header = parseObject(json);
  const version = header?.['version'];
  if (header?.['format'] !== FORMAT || typeof version !== 'number' || !Number.isInteger(version) || version < 0)
    return null;
  const damage = header['damage'];
  if (!isObject(damage)) return { version, damage: null };
  const { keptAside, detail } = damage;
  return { version, damage: { keptAside: typeof keptAside === 'string' ? keptAside : null, detail: String(detail) } };
}

/** A change as the file's version wrote it: the place for what an older version spelled otherwise. */
function parseChange(json: string, version: number): ChangeText | null {
  switch (version) {
    case 0: // no release wrote it; it stands for the older versions to come, so that the way they are read is tried
    case JOURNAL_VERSION: {
      const { set = {}, delete: deleted = [] } = parseObject(json) ?? { set: null };
      if (!isObject(set) || !Array.isArray(deleted) || !deleted.every((key) => typeof key === 'string')) return null;
      const texts = Object.entries(set).map(([key, value]): [string, string] => [key, JSON.stringify(value)]);
      return { set: new Map(texts), delete: deleted };
    }
    default:
      return null;
  }
}

function parseObject(json: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(json);
    return isObject(value) ? value : null;
  } catch {
    return null;
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function describe(what: string, bytes: Buffer, offset: number): string {
  return `${what}, at byte ${offset} of ${bytes.length}`;
}
