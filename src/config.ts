// What the process is told at start, read once: the file, then VSF_SAFETY_* variables, then flags, into one frozen
// Config. A wrong value is never replaced by a default: every fault is told, with its key, its value, the rule and its
// line, and nothing starts. This is the only file that reads the process' environment.
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { isAbsolute, join, resolve } from 'node:path';
import { inspect } from 'node:util';
import { buildConfig } from './config-build.ts';
import type { Environment } from './config-environment.ts';
import { type ParsedFile, parseConfigText, readConfigFile } from './config-file.ts';
import { type ConfigFlags, type ConfigProblem, joinLayers } from './config-layers.ts';
import type { Config } from './config-types.ts';

export { isLoopbackHost } from './config-build.ts';
export { type Environment, processEnvironment } from './config-environment.ts';
export { type ConfigFlags, type ConfigProblem, closest, ENVIRONMENT_VARIABLES } from './config-layers.ts';
export { isNodeName } from './config-rules.ts';
export type { LogLevel, Role, SourceName } from './config-schema.ts';
export type { Config, ConfiguredNode } from './config-types.ts';

export interface ConfigOrigin {
  /** Path of the file; `null` reads none; left out, `VSF_SAFETY_CONFIG` names it, if anything does. */
  readonly file?: string | null;
  /** The file's text, where it is known already; `file` is then only its name. */
  readonly text?: string;
  readonly env: Environment;
  readonly flags?: ConfigFlags;
  readonly hostname: string;
  readonly homeDir: string;
}

export type LoadedConfig =
  | {
      readonly ok: true;
      readonly config: Config;
      /** Nothing is refused for these, and a person should know. */
      readonly warnings: readonly string[];
      /** The file that was read, as it was named. */
      readonly file: string | null;
    }
  | { readonly ok: false; readonly problems: readonly ConfigProblem[]; readonly file: string | null };

/**
 * Reads, checks and joins everything. Tells all faults at once, those of the file first and by line. Never throws.
 *
 * @example
 * loadConfig({ text: 'interval: 500ms\n', env: {}, hostname: 'bizon1', homeDir: '/root' })
 * // { ok: false, problems: [{ key: 'interval', value: '500ms', rule: 'must be a duration from 1s …', line: 1, … }] }
 */
export function loadConfig({ file, text, env, flags = {}, hostname, homeDir }: ConfigOrigin): LoadedConfig {
  const name = file === undefined ? (env['VSF_SAFETY_CONFIG'] ?? null) : file;
  const parsed = openFile(name, text);
  if ('rule' in parsed) {
    return { ok: false, file: name, problems: [{ key: '', value: undefined, rule: parsed.rule, source: 'file' }] };
  }
  // A folder typed in a shell is meant from where the shell stands.
  const stateDir = flags['state-dir'];
  const absolute = stateDir ? { ...flags, 'state-dir': resolve(stateDir) } : flags;
  const layers = joinLayers(parsed, env, absolute);
  const { config, warnings } = buildConfig(layers, { hostname, defaultStateDir: defaultStateDir(env, homeDir) });
  if (layers.problems.length > 0) return { ok: false, file: name, problems: layers.problems.sort(inReadingOrder) };
  return { ok: true, config: deepFreeze(config), warnings, file: name };
}

function openFile(name: string | null, text: string | undefined): ParsedFile | { readonly rule: string } {
  if (text !== undefined) return parseConfigText(text);
  if (name === null) return parseConfigText('');
  const read = readConfigFile(name);
  return read.ok ? parseConfigText(read.text) : { rule: read.rule };
}

const SOURCE_ORDER = { file: 0, environment: 1, flag: 2 };

function inReadingOrder(a: ConfigProblem, b: ConfigProblem): number {
  return (
    SOURCE_ORDER[a.source] - SOURCE_ORDER[b.source] ||
    (a.line ?? 0) - (b.line ?? 0) ||
    (a.column ?? 0) - (b.column ?? 0)
  );
}

/** A file turned upside down has thousands of faults, and nobody reads more than these. */
const MOST_EXPLAINED = 50;

/**
 * The faults as lines for people, `safety.yaml:4:13  interval is "500ms": must be …`. `file` is the file's name.
 */
export function explainProblems(problems: readonly ConfigProblem[], file: string | null): string {
  const shown = problems.slice(0, MOST_EXPLAINED).map((problem) => {
    const { key, value, rule, line, column, source } = problem;
    const inFile = line === undefined ? (file ?? 'configuration') : `${file ?? 'configuration'}:${line}:${column}`;
    const place = source === 'file' ? inFile : source;
    const shown = value === undefined ? 'missing' : inspect(value);
    return [place, key === '' ? rule : `${key} is ${shown}: ${rule}`] as const;
  });
  const width = Math.max(0, ...shown.map(([place]) => place.length));
  const rest = problems.length - shown.length;
  const lines = shown.map(([place, message]) => `  ${place.padEnd(width)}  ${message}`);
  const count = problems.length === 1 ? '1 fault' : `${problems.length} faults`;
  return [`Cannot use the configuration, ${count}:`, ...lines, ...(rest > 0 ? [`  and ${rest} more`] : [])].join('\n');
}

/** Where state is kept by default: `$XDG_STATE_HOME/vsf-safety`, else `~/.local/state/vsf-safety`. */
export function defaultStateDir(env: Environment, homeDir: string): string {
  const stateHome = env['XDG_STATE_HOME'];
  // The XDG rules: a relative path there is to be ignored.
  const base = stateHome && isAbsolute(stateHome) ? stateHome : join(homeDir, '.local', 'state');
  return join(base, 'vsf-safety');
}

/**
 * The kernel's boot id; `root` is where `/proc` is found. Where it cannot be read, a fresh one: then no lease from
 * before this start is taken for one of this boot.
 */
export function readBootId(root = '/'): string {
  try {
    const text = readFileSync(join(root, 'proc/sys/kernel/random/boot_id'), 'utf8').trim();
    if (/^[0-9a-f-]{36}$/i.test(text)) return text;
  } catch {
    // Not Linux, or a container without /proc: as good as unknown.
  }
  return randomUUID();
}

function deepFreeze<T>(value: T): T {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return value;
  // A Map cannot be frozen; ReadonlyMap in the types is all that there is.
  for (const inner of value instanceof Map ? value.values() : Object.values(value)) deepFreeze(inner);
  return Object.freeze(value);
}
