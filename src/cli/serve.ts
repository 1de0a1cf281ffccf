// `vsf-safety serve`: runs the service until it is told to end. On a terminal it says in a few lines where it is and how
// to talk to it; everywhere else it writes JSON lines alone.
import closeWithGrace from 'close-with-grace';
import { createLogger, serve } from '../serve.ts';
import { ServiceManager } from '../service-manager.ts';
import { type Command, CommandFailed, type Io, readArguments } from './io.ts';
import { paintFor, writeLines } from './layout.ts';
import { environmentHelp, type Loaded, loadFor } from './load.ts';

/** The whole shutdown ends within 5 s, sockets that nobody reads included; this leaves time for the exit itself. */
const SHUTDOWN_MS = 4_500;

const help = `\
Usage: vsf-safety serve [--config FILE] [options]

Watches this machine and serves the API until it gets SIGTERM or Ctrl-C. Without any configuration
it watches the machine that it runs on and listens on http://127.0.0.1:8470.

Options:
  --config FILE      the configuration, YAML
  --host HOST        listen.host
  --port PORT        listen.port; 0 takes any free one
  --state-dir DIR    where the latch, the journal and the operator's token are kept
  --source SOURCE    local, or simulated for a rig that does not exist
  --log-level LEVEL  trace, debug, info, warn, error or fatal

Environment, over the file and under the options; lists are written with commas:
${environmentHelp()}

SIGHUP reads the tokens of --config, the operator's token and the certificate again, and nothing
else.
They are looked at every few seconds as well. On a terminal SIGHUP ends the service.

Exit code: 0 after SIGTERM or Ctrl-C; 1 when it cannot start or had to give up; 2 wrong options.

Examples:
  vsf-safety serve
  vsf-safety serve --config /etc/vsf-safety/safety.yaml
  vsf-safety serve --source simulated --port 8471 --state-dir /tmp/vsf-trial
`;

export const command: Command = {
  help,
  async run(args, io) {
    const { values } = readArguments(args, {
      config: { type: 'string' },
      host: { type: 'string' },
      port: { type: 'string' },
      'state-dir': { type: 'string' },
      source: { type: 'string' },
      'log-level': { type: 'string' },
    });
    const loaded = loadFor(values, io);
    const { config, warnings } = loaded;
    const log = createLogger(config.logLevel);
    for (const warning of warnings) log.warn(warning);

    let broken: unknown = null;
    let end = (): void => undefined;
    const serving = await serve(config, {
      log,
      ...(loaded.file !== null && { configFile: { path: loaded.file, load: (text) => loaded.reload(text) } }),
      onBroken: (error) => {
        broken ??= error ?? new Error('an invariant broke');
        end();
      },
    });
    if (serving.kind === 'refused') throw new CommandFailed(serving.message, serving.exitCode);
    const manager = ServiceManager.from(io.env, process.pid, log);
    manager?.watch(serving.supervisor);
    const grace = closeWithGrace(
      {
        delay: SHUTDOWN_MS,
        logger: { error: (message) => log.error(message) },
        // A real fault of the machine code would come back for ever instead of ending the process.
        // A terminal that is closed ends the service; everywhere else SIGHUP means: read your files again.
        skip: ['SIGSEGV', 'SIGBUS', 'SIGFPE', 'SIGILL', ...(io.stdout.isTTY ? [] : (['SIGHUP'] as const))],
      },
      async ({ signal, err }) => {
        if (err) log.fatal({ err }, 'Ends after an error that nobody caught');
        else log.info(`Ends${signal ? ` on ${signal}` : ''}; the interlock is kept in ${config.stateDir}`);
        manager?.ending();
        await serving.close();
        // Thrown for the exit code: whoever restarts the service must see that it did not end by itself.
        if (broken !== null) throw broken;
      },
    );
    if (!io.stdout.isTTY) process.on('SIGHUP', () => void serving.reload());
    end = () => grace.close();
    if (broken !== null) end();
    if (io.stdout.isTTY) writeLines(io.stdout, bannerLines(serving, loaded, io));
    // From here on only a signal or a broken invariant ends the process.
    return new Promise<never>(() => undefined);
  },
};

/** What a person at a terminal is told. */
export function bannerLines(
  serving: { readonly url: string; readonly isFirstStart: boolean; readonly tokenFile: string },
  { config, file }: Pick<Loaded, 'config' | 'file'>,
  io: Pick<Io, 'stdout' | 'env'>,
): string[] {
  const paint = paintFor(io);
  const { source, settings, simulated } = config;
  const what =
    source === 'simulated'
      ? `a simulated rig with ${simulated.gpus} GPUs; no hardware is watched`
      : `this machine, as node ${settings.localNode}`;
  const option = serving.url === 'http://127.0.0.1:8470' ? '' : ` --url ${serving.url}`;
  return [
    '',
    `  ${paint('vsf-safety', 'bold')} listens on ${paint(serving.url, 'bold')}`,
    `  watches  ${what}, every ${settings.intervalMs / 1000} s, profile ${settings.defaults.profile}`,
    `  config   ${file ?? 'defaults'}`,
    `  token    ${serving.tokenFile}${serving.isFirstStart ? ' (made now, the operator’s)' : ''}`,
    '',
    `  vsf-safety status${option}          how things stand`,
    `  vsf-safety estop${option}           stop everything`,
    `  curl -f ${serving.url}/preflight    a gate for scripts`,
    '',
  ];
}
