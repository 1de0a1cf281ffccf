// What a command needs of the world around it, how it reads its arguments, and how it ends. Commands write to the
// outputs that they are given and answer with an exit code, so that tests run them in this process.
import { type ParseArgsConfig, parseArgs } from 'node:util';
import type { Clock } from '../clock.ts';
import type { Environment } from '../config.ts';
import { closest } from '../config.ts';

export interface Output {
  write(text: string): unknown;
  readonly isTTY?: boolean;
}

export interface Io {
  readonly stdout: Output;
  readonly stderr: Output;
  readonly env: Environment;
  readonly clock: Clock;
  readonly hostname: string;
  readonly homeDir: string;
  readonly fetch: typeof fetch;
  /** Asks the person at the terminal; left out where there is none. `false` too when `signal` aborts. */
  readonly confirm?: (question: string, signal: AbortSignal) => Promise<boolean>;
}

/** The exit codes that commands end with. */
export const EXIT = { ok: 0, error: 1, usage: 2, refused: 75 } as const;

/** Ends a command: the message goes to standard error, the code to the shell. */
export class CommandFailed extends Error {
  override readonly name = 'CommandFailed';
  readonly exitCode: number;

  constructor(message: string, exitCode: number = EXIT.error) {
    super(message);
    this.exitCode = exitCode;
  }
}

/** One command: its help, and its deed. */
export interface Command {
  /** Shown by `--help`, whole. */
  readonly help: string;
  /** Gives the exit code; throws {@link CommandFailed} for everything that can go wrong. */
  run(args: readonly string[], io: Io): Promise<number>;
}

type Options = NonNullable<ParseArgsConfig['options']>;

/**
 * Reads `args` strictly. An unknown option, a missing value, or a number of positionals outside `from`…`to` ends the
 * command with exit code 2.
 */
export function readArguments<const T extends Options>(
  args: readonly string[],
  options: T,
  positionals: { readonly names: readonly string[]; readonly from: number } = { names: [], from: 0 },
): ReturnType<typeof parseArgs<{ args: string[]; options: T; allowPositionals: boolean; strict: true }>> {
  const { names, from } = positionals;
  try {
    const parsed = parseArgs({ args: [...args], options, allowPositionals: names.length > 0, strict: true });
    const count = parsed.positionals.length;
    if (count < from) throw new CommandFailed(`${names[count]} is missing`, EXIT.usage);
    if (count > names.length) {
      throw new CommandFailed(`Unexpected argument ${JSON.stringify(parsed.positionals[names.length])}`, EXIT.usage);
    }
    return parsed;
  } catch (error) {
    if (!(error instanceof TypeError) || !('code' in error)) throw error;
    throw new CommandFailed(explainArguments(error, Object.keys(options)), EXIT.usage);
  }
}

/** Node's first sentence, and the option that was probably meant. */
function explainArguments(error: TypeError & { readonly code?: unknown }, names: readonly string[]): string {
  const sentence = error.message.split(/(?<!')\. |\n/)[0] ?? error.message;
  if (error.code !== 'ERR_PARSE_ARGS_UNKNOWN_OPTION') return sentence;
  const hint = closest(/'--?([^']*)'/.exec(sentence)?.[1] ?? '', names);
  return hint === null ? sentence : `${sentence}; did you mean --${hint}?`;
}

/** A whole number of seconds from an option; exit code 2 when it is none from `from` to `to`. */
export function readSeconds(name: string, text: string, from: number, to: number): number {
  const seconds = /^\d{1,6}$/.test(text) ? Number(text) : Number.NaN;
  if (seconds >= from && seconds <= to) return seconds;
  throw new CommandFailed(
    `--${name} is ${JSON.stringify(text)}: must be a whole number of seconds from ${from} to ${to}`,
    EXIT.usage,
  );
}
