// Target lists in files, as Prometheus' `file_sd` reads them: JSON or YAML, named in full or with one `*` in the
// last part of the path. Whoever writes such a file may be in the middle of it, so a file that cannot be read as a whole, or that
// is gone, says nothing: what it listed before stays. A file that a pattern no longer finds beside others is given up.
//
// Files are read one after the other: a dead network mount then holds one thread of Node's pool and not all four, on
// which name look-ups wait too.
import { constants } from 'node:fs';
import { type FileHandle, open, readdir } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { parseDocument } from 'yaml';
import { lineTooDeep } from '../domain/nesting.ts';
import { atMost, type Found, type GroupRules, MOST_PROBLEMS, readTargetGroups, type TargetFinder } from './targets.ts';

/** Nothing else happens while a list is parsed. JSON takes about 15 ms per MiB, YAML over a second. */
const LARGEST_JSON_BYTES = 8 * 1024 * 1024;
/** About 3,000 nodes with two targets each, and a third of a second. */
const LARGEST_YAML_BYTES = 256 * 1024;
/** Of one pattern. */
const MOST_FILES = 1000;

type List = Extract<Found, { ok: true }>;
type Outcome<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly detail: string };

/** Reads the lists at `paths`: absolute, ending in .json, .yaml or .yml, with one `*` at most, in the last part. */
export function createFileFinder({
  paths,
  rules,
}: {
  readonly paths: readonly string[];
  readonly rules: Omit<GroupRules, 'origin'>;
}): TargetFinder {
  /** The last good list of each file, with the text that it was read from, so that only a new text is parsed. */
  let kept = new Map<string, { readonly text: string; readonly list: List }>();

  async function find(): Promise<Found> {
    const problems: string[] = [];
    const unread: string[] = [];
    const next: typeof kept = new Map();
    for (const path of paths) {
      const files = await filesOf(path);
      const all = files.ok ? files.value : [...matching(path, kept.keys())];
      if (!files.ok) problems.push(`${path} ${files.detail}`);
      if (all.length === 0) unread.push(path);
      for (const file of all) {
        if (next.has(file)) continue;
        const before = kept.get(file);
        const text = files.ok ? await readList(file) : files;
        const list: Found = !text.ok
          ? text
          : text.value === before?.text
            ? before.list
            : parseList(file, text.value, { ...rules, origin: 'file' });
        if (list.ok && text.ok) next.set(file, { text: text.value, list });
        else if (before) next.set(file, before);
        else unread.push(file);
        if (!list.ok && files.ok)
          problems.push(`${file} ${list.detail}${before ? '; what it listed before stays' : ''}`);
      }
    }
    kept = next;
    const lists = [...next].map(([file, { list }]) => ({ file, ...list }));
    return {
      ok: true,
      targets: lists.flatMap(({ targets }) => targets),
      nodes: [...new Set(lists.flatMap(({ nodes }) => nodes))],
      problems: atMost(
        [...problems, ...lists.flatMap((list) => list.problems.map((problem) => `${list.file} ${problem}`))],
        MOST_PROBLEMS,
      ),
      unread: [...new Set(unread)],
    };
  }
  return { find };
}

/** The files that `path` names now. A pattern that finds none is a mount that is gone as likely as an empty folder. */
async function filesOf(path: string): Promise<Outcome<readonly string[]>> {
  if (!path.includes('*')) return { ok: true, value: [path] };
  let names: string[];
  try {
    names = await readdir(dirname(path));
  } catch (error) {
    return { ok: false, detail: `names a folder that ${failure(error)}` };
  }
  const files = [
    ...matching(
      path,
      names.map((name) => join(dirname(path), name)),
    ),
  ].sort();
  if (files.length === 0) return { ok: false, detail: 'finds no file; write [] into one to list nothing' };
  if (files.length > MOST_FILES)
    return { ok: false, detail: `finds ${files.length} files, at most ${MOST_FILES} are read` };
  return { ok: true, value: files };
}

/** Those of `files` that `path` means. As in a shell, `*` does not find hidden files: editors leave halves there. */
function* matching(path: string, files: Iterable<string>): Generator<string> {
  const [start = '', end] = path.split('*');
  for (const file of files) {
    if (end === undefined) {
      if (file === path) yield file;
      continue;
    }
    const isHidden = basename(file).startsWith('.') && basename(path).startsWith('*');
    const isMatch = file.startsWith(start) && file.endsWith(end) && file.length >= start.length + end.length;
    if (isMatch && dirname(file) === dirname(path) && !isHidden) yield file;
  }
}

const isJson = (file: string): boolean => file.endsWith('.json');

/** The text of a list, read as a whole. Never waits at a pipe. */
async function readList(file: string): Promise<Outcome<string>> {
  const most = isJson(file) ? LARGEST_JSON_BYTES : LARGEST_YAML_BYTES;
  const hint = isJson(file) ? '' : '; a longer list is read as JSON';
  let handle: FileHandle | undefined;
  try {
    handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK);
    const before = await handle.stat();
    if (!before.isFile()) return { ok: false, detail: 'is not a file' };
    if (before.size > most) return { ok: false, detail: `has ${before.size} bytes, at most ${most} are read${hint}` };
    const buffer = Buffer.alloc(before.size);
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, 0);
    const after = await handle.stat();
    if (bytesRead !== before.size || after.size !== before.size || after.mtimeMs !== before.mtimeMs) {
      return { ok: false, detail: 'was written while it was read' };
    }
    return { ok: true, value: new TextDecoder('utf-8', { fatal: true }).decode(buffer) };
  } catch (error) {
    if (error instanceof TypeError) return { ok: false, detail: 'is not UTF-8 text' };
    return { ok: false, detail: failure(error) };
  } finally {
    await handle?.close().catch(() => undefined);
  }
}

function parseList(file: string, text: string, rules: GroupRules): Found {
  // Writers empty a file before they fill it.
  if (text.trim() === '') return { ok: false, detail: 'is empty; [] lists nothing' };
  try {
    if (isJson(file)) return readTargetGroups(JSON.parse(text), rules);
  } catch {
    return { ok: false, detail: 'is not whole JSON' };
  }
  // Half of a YAML list is a list, and half of the name gpu-12 is gpu-1. Cut between two lines it cannot be told.
  if (!text.endsWith('\n')) return { ok: false, detail: 'does not end with a line break, so that it may be cut off' };
  const deepLine = lineTooDeep(text);
  if (deepLine !== null) return { ok: false, detail: `is not a list: line ${deepLine} is nested too deeply` };
  try {
    // By this schema every value is text: node 007 stays 007, and `no` stays a name.
    const document = parseDocument(text, { schema: 'failsafe', prettyErrors: false });
    const [error] = document.errors;
    if (error) return { ok: false, detail: `is not whole YAML: ${error.message.slice(0, 200)}` };
    return readTargetGroups(document.toJS({ maxAliasCount: 100 }), rules);
  } catch (error) {
    return { ok: false, detail: `is not whole YAML: ${String(error).slice(0, 200)}` };
  }
}

function failure(error: unknown): string {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'ENOENT' ? 'does not exist' : `cannot be read: ${code ?? String(error).slice(0, 200)}`;
}
