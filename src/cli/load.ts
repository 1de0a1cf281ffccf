// The configuration as `serve` and `check` take it: from --config, the environment and their own flags. Faults end the
// command, all of them told.
import { type Config, ENVIRONMENT_VARIABLES, explainProblems, type LoadedConfig, loadConfig } from '../config.ts';
import { CommandFailed, EXIT, type Io } from './io.ts';
import { tableOf } from './layout.ts';

export interface ConfigValues {
  readonly config?: string | undefined;
  readonly host?: string | undefined;
  readonly port?: string | undefined;
  readonly 'state-dir'?: string | undefined;
  readonly source?: string | undefined;
  readonly 'log-level'?: string | undefined;
}

export interface Loaded {
  readonly config: Config;
  readonly warnings: readonly string[];
  /** The file that was read; `null`: none. */
  readonly file: string | null;
  /** What a start would make of another text of the file; never throws. */
  reload(text: string): LoadedConfig;
}

/** Exit code 2 when only flags are wrong, else 1. */
export function loadFor({ config: file, ...flags }: ConfigValues, io: Io): Loaded {
  const { env, hostname, homeDir } = io;
  const given = Object.fromEntries(Object.entries(flags).filter(([, value]) => value !== undefined));
  const origin = { ...(file !== undefined && { file }), env, flags: given, hostname, homeDir };
  const loaded = loadConfig(origin);
  if (loaded.ok) return { ...loaded, reload: (text) => loadConfig({ ...origin, text }) };
  const areFlags = loaded.problems.every(({ source }) => source === 'flag');
  throw new CommandFailed(explainProblems(loaded.problems, loaded.file), areFlags ? EXIT.usage : EXIT.error);
}

/** The table of variables for help texts. */
export function environmentHelp(): string {
  const rows = ENVIRONMENT_VARIABLES.map(({ name, key }) => [name, key]);
  return tableOf([['VSF_SAFETY_CONFIG', 'the file, as --config'], ...rows], (text) => text).join('\n');
}
