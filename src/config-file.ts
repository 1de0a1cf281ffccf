// The configuration file as text: opened with bounds, read as YAML, and every value kept together with the line that it
// stands on. YAML's surprises are answered as faults here: a key that stands twice, a tab, a tag that nobody knows, a
// second document, aliases that multiply into gigabytes. What the keys mean is config-schema.ts.
import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';
import {
  type Alias,
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  parseDocument,
  visit,
  type YAMLError,
} from 'yaml';
import { lineTooDeep } from './domain/nesting.ts';

/** A place in the configuration: keys and indexes, `['nodes', '0', 'expectGpus']`. */
export type ConfigPath = readonly string[];

export interface Position {
  /** Both from 1 on. */
  readonly line: number;
  readonly column: number;
}

export interface ParsedFile {
  /** A mapping; empty where the text is empty or holds no mapping (then with a fault). */
  readonly value: Record<string, unknown>;
  readonly faults: readonly ({ readonly rule: string } & Partial<Position>)[];
  /** Where the value at `path` begins, or its key; of what is left out, the nearest mapping around it. */
  locate(path: ConfigPath, what: 'key' | 'value'): Position | null;
}

/** A configuration of 1000 nodes with eight GPUs each is about half of it. */
export const LARGEST_FILE_BYTES = 1024 * 1024;
/** How many values aliases may stand for in all; a profile shared by that many nodes is one each. */
const MOST_ALIASES = 5000;
const MOST_SYNTAX_FAULTS = 20;

/** Reads the file at `path`; `rule` says why not. Never blocks on a pipe and never reads more than 1 MiB. */
export function readConfigFile(
  path: string,
): { readonly ok: true; readonly text: string } | { readonly ok: false; readonly rule: string } {
  let fd: number | undefined;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const stat = fstatSync(fd);
    if (!stat.isFile()) return { ok: false, rule: 'is not a file' };
    if (stat.size > LARGEST_FILE_BYTES) return { ok: false, rule: tooLarge(stat.size) };
    return { ok: true, text: new TextDecoder('utf-8', { fatal: true }).decode(readFileSync(fd)) };
  } catch (error) {
    if (error instanceof TypeError) return { ok: false, rule: 'is not UTF-8 text' };
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return { ok: false, rule: 'does not exist' };
    return { ok: false, rule: `cannot be read: ${code ?? String(error)}` };
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

const tooLarge = (bytes: number): string => `has ${bytes} bytes, at most ${LARGEST_FILE_BYTES} are read`;

/** Reads YAML. An empty text is an empty mapping; every fault of form is told, with its line. */
export function parseConfigText(text: string): ParsedFile {
  const nowhere = (rule: string): ParsedFile => ({ value: {}, faults: [{ rule }], locate: () => null });
  if (Buffer.byteLength(text) > LARGEST_FILE_BYTES) return nowhere(tooLarge(Buffer.byteLength(text)));
  const deepLine = lineTooDeep(text);
  if (deepLine !== null) {
    return { value: {}, faults: [{ rule: TOO_DEEP, line: deepLine, column: 1 }], locate: () => null };
  }
  const lines = new LineCounter();
  // Not `logLevel: silent`: with it a second document in the file passes without a word (seen with yaml 2.9.1).
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, stringKeys: true });
  const positionOf = (offset: number): Position => {
    const { line, col } = lines.linePos(offset);
    return { line, column: col };
  };
  const locate: ParsedFile['locate'] = (path, what) => {
    const offset = offsetOf(document, path, what);
    return offset === null ? null : positionOf(offset);
  };
  const errors = [...document.errors, ...document.warnings];
  const exhausted = errors.find(({ code }) => code === 'RESOURCE_EXHAUSTION');
  const told = exhausted ? [exhausted] : errors.slice(0, MOST_SYNTAX_FAULTS);
  const faults = told.map((error) => ({ rule: ruleOf(error), ...positionOf(error.pos[0]) }));
  // After a duplicate key the rest still means what it says; after a broken line it may not.
  const isBroken = document.errors.some(({ code }) => code !== 'DUPLICATE_KEY');
  const { contents } = document;
  // A bare `---` is a null, and means as little as an empty file.
  const isEmpty = contents === null || (isScalar(contents) && contents.value === null);
  if (isBroken || isEmpty) return { value: {}, faults, locate };
  if (!isMap(contents)) {
    const rule = 'must be a mapping of keys to values';
    return { value: {}, faults: [...faults, { rule, ...positionOf(contents.range[0]) }], locate };
  }
  const { aliases, unresolved } = aliasesOf(document);
  const aliasFault = (alias: Alias | undefined, rule: string) => ({ rule, ...positionOf(alias?.range?.[0] ?? 0) });
  if (unresolved.length > 0) {
    const lost = unresolved.map((alias) => aliasFault(alias, `no anchor &${alias.source} stands before this alias`));
    return { value: {}, faults: [...faults, ...lost], locate };
  }
  try {
    return { value: document.toJS({ maxAliasCount: MOST_ALIASES }) as Record<string, unknown>, faults, locate };
  } catch {
    const rule = `aliases must not stand for more than ${MOST_ALIASES} values in all`;
    return { value: {}, faults: [...faults, aliasFault(aliases.at(-1), rule)], locate };
  }
}

/** Every alias in the order of the text, and those that no anchor stands before. */
function aliasesOf(document: Document.Parsed): { aliases: Alias[]; unresolved: Alias[] } {
  const anchors = new Set<string>();
  const aliases: Alias[] = [];
  const unresolved: Alias[] = [];
  visit(document, {
    Node: (_key, node) => {
      if (isAlias(node)) {
        aliases.push(node);
        if (!anchors.has(node.source)) unresolved.push(node);
      } else if (node.anchor !== undefined) {
        anchors.add(node.anchor);
      }
    },
  });
  return { aliases, unresolved: unresolved.slice(0, MOST_SYNTAX_FAULTS) };
}

const TOO_DEEP = 'is nested too deeply';

/** What yaml finds, in words that do not need its manual. */
const SYNTAX_RULES: Partial<Record<YAMLError['code'], string>> = {
  DUPLICATE_KEY: 'this key stands twice in its mapping',
  TAB_AS_INDENT: 'tabs must not indent a line; use spaces',
  MULTIPLE_DOCS: 'the file must hold one document; a second one begins here',
  RESOURCE_EXHAUSTION: TOO_DEEP,
};

function ruleOf({ code, message }: YAMLError): string {
  return SYNTAX_RULES[code] ?? message.charAt(0).toLowerCase() + message.slice(1);
}

function offsetOf(document: Document.Parsed, path: ConfigPath, what: 'key' | 'value'): number | null {
  let node: Node | null = document.contents;
  let offset = node?.range?.[0] ?? null;
  for (const [depth, step] of path.entries()) {
    const here: Node | null | undefined = isAlias(node) ? node.resolve(document) : node;
    if (isSeq(here)) {
      node = (here.items[Number(step)] as Node | undefined) ?? null;
    } else if (isMap(here)) {
      const pair = here.items.find(({ key }) => isScalar(key) && String(key.value) === step);
      if (!pair) return offset;
      const key = pair.key as Node;
      node = pair.value as Node | null;
      const isKeyAskedFor = what === 'key' && depth === path.length - 1;
      if (isKeyAskedFor || node === null) offset = key.range?.[0] ?? offset;
      if (isKeyAskedFor) return offset;
    } else {
      return offset;
    }
    offset = node?.range?.[0] ?? offset;
  }
  return offset;
}
