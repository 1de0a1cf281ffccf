// Which command was meant, its help, and how it ends. A command's file is loaded only when it is called, so that an
// emergency stop does not wait for a web server to be read.
import { closest } from '../config.ts';
import { VERSION } from '../version.ts';
import { type Command, CommandFailed, EXIT, type Io } from './io.ts';
import { tableOf, writeLines } from './layout.ts';

interface Entry {
  readonly usage: string;
  readonly summary: string;
  load(): Promise<{ readonly command: Command }>;
}

const COMMANDS: Readonly<Record<string, Entry>> = {
  serve: { usage: 'serve', summary: 'run the service', load: () => import('./serve.ts') },
  check: { usage: 'check', summary: 'judge this machine once, without a service', load: () => import('./check.ts') },
  run: { usage: 'run -- COMMAND', summary: 'run a program under protection', load: () => import('./run.ts') },
  guard: {
    usage: 'guard',
    summary: 'hold the lease of a pod, and stop it when told',
    load: () => import('./guard.ts'),
  },
  status: { usage: 'status', summary: 'show what the service sees', load: () => import('./status.ts') },
  watch: { usage: 'watch', summary: 'show it live, or its changes on a pipe', load: () => import('./watch.ts') },
  history: { usage: 'history', summary: 'plot what was, with limits and events', load: () => import('./history.ts') },
  estop: { usage: 'estop', summary: 'emergency stop: everything, or some nodes', load: () => import('./estop.ts') },
  drill: { usage: 'drill', summary: 'list what a stop would stop; touches nothing', load: () => import('./drill.ts') },
  reset: { usage: 'reset', summary: 'let workloads start again after a stop', load: () => import('./reset.ts') },
  commission: {
    usage: 'commission',
    summary: 'test a new machine or cluster, and keep a report',
    load: () => import('./commission.ts'),
  },
  restore: {
    usage: 'restore',
    summary: 'give controllers back what a stop took',
    load: () => import('./restore.ts'),
  },
  forget: {
    usage: 'forget NODE',
    summary: 'stop expecting a card that was taken out',
    load: () => import('./forget.ts'),
  },
  'stop-orphans': {
    usage: 'stop-orphans',
    summary: 'stop what a dead service had given leases to',
    load: () => import('./stop-orphans.ts'),
  },
  explain: {
    usage: 'explain URL|FILE|DIR',
    summary: 'what is read from an exporter, an nvidia-smi output or a sysfs tree',
    load: () => import('./explain.ts'),
  },
  audit: { usage: 'audit', summary: 'list who did what and why on this machine', load: () => import('./audit.ts') },
  token: {
    usage: 'token new',
    summary: 'make a token and the line that makes it known',
    load: () => import('./token.ts'),
  },
  config: {
    usage: 'config check FILE',
    summary: 'explain every fault of a configuration',
    load: () => import('./config-check.ts'),
  },
};

const OVERVIEW = `\
Usage: vsf-safety COMMAND [options]

Watches GPU machines under load, refuses starts that are not safe, and stops workloads before a
hardware limit is passed for long.

Commands:
${tableOf(
  Object.values(COMMANDS).map(({ usage, summary }) => [usage, summary]),
  (text) => text,
).join('\n')}

"vsf-safety COMMAND --help" or "vsf-safety help COMMAND" explains one; --version tells the version.

Exit codes:
  0   done, or safe
  1   error
  2   wrong usage
  75  refused, or not safe; nothing was started
  76  stopped for safety

Examples:
  vsf-safety serve --config safety.yaml
  vsf-safety check && ./train.sh
  vsf-safety estop --reason "smell of burning"
`;

const isHelp = (text: string | undefined): boolean => text === '--help' || text === '-h';

/** Runs one command line, without the program's name; gives the exit code. Never rejects. */
export async function runCli(argv: readonly string[], io: Io): Promise<number> {
  const [first, ...rest] = argv;
  if (first === undefined) {
    io.stderr.write(OVERVIEW);
    return EXIT.usage;
  }
  if (isHelp(first) || (first === 'help' && rest.length === 0)) {
    io.stdout.write(OVERVIEW);
    return EXIT.ok;
  }
  if (first === '--version' || first === '-v') {
    writeLines(io.stdout, [`vsf-safety ${VERSION}`]);
    return EXIT.ok;
  }
  const wantsHelp =
    first === 'help' || rest.slice(0, rest.includes('--') ? rest.indexOf('--') : undefined).some(isHelp);
  const name = first === 'help' ? (rest[0] ?? '') : first;
  const entry = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (!entry) {
    writeLines(io.stderr, [unknownCommand(name)]);
    return EXIT.usage;
  }
  try {
    const { command } = await entry.load();
    if (!wantsHelp) return await command.run(rest, io);
    io.stdout.write(command.help);
    return EXIT.ok;
  } catch (error) {
    return explain(name, error, io);
  }
}

function unknownCommand(name: string): string {
  const names = Object.keys(COMMANDS);
  const hint = closest(name, names);
  const what = name.startsWith('-') ? 'option' : 'command';
  const meant = hint === null ? '' : ` Did you mean "${hint}"?`;
  return `vsf-safety: there is no ${what} ${JSON.stringify(name)}.${meant} There are: ${names.join(', ')}, help`;
}

function explain(name: string, error: unknown, io: Io): number {
  if (!(error instanceof CommandFailed)) {
    const trace = error instanceof Error ? (error.stack ?? error.message) : String(error);
    writeLines(io.stderr, [`vsf-safety ${name}: a mistake of this program, please report it`, trace]);
    return EXIT.error;
  }
  writeLines(io.stderr, [`vsf-safety ${name}: ${error.message}`]);
  if (error.exitCode === EXIT.usage) writeLines(io.stderr, [`See "vsf-safety ${name} --help"`]);
  return error.exitCode;
}
