// `vsf-safety run`: any program under protection, without touching it. This file reads the command line and opens the
// way to the service; what happens then is run-session.ts.
import { basename } from 'node:path';
import type { SafetyService } from '../sdk/safety-service.ts';
import { type Command, CommandFailed, EXIT, type Io, readArguments } from './io.ts';
import { httpService, LEASE_HELP, LEASE_OPTIONS, orFail, readLeaseAsk, SERVICE_HELP } from './run-options.ts';
import { runUnderLease } from './run-session.ts';

const DEFAULT_TTL_SECONDS = 30;

const help = `\
Usage: vsf-safety run [--intensity SHARE] [options] -- COMMAND [ARGUMENT…]

Asks for leave to run, starts COMMAND under a lease, and obeys: on a cooldown it is paused (SIGSTOP,
SIGCONT), on reduced intensity it gets a lower CPU share where a cgroup allows that, on an abort, or
when the service is not heard for the lease's TTL, it is stopped: SIGTERM, after 3 s SIGKILL. All
processes that it starts belong to it, and none outlives it, even if "run" is killed with -9.

Options:
${LEASE_HELP}
  --name NAME        what people see of it (default: the command's name)
  --wait             wait out a cooldown or a missing reading instead of being refused; never a trip
  --ttl SECONDS      how long the lease lives without the service, 5 to 300 (default ${DEFAULT_TTL_SECONDS})
  --embedded         needs no service: watch this machine in this process
  --config FILE      the configuration of --embedded
${SERVICE_HELP}

COMMAND gets:
  VSF_LEASE           the lease's id; also marks what belongs to it
  VSF_INTENSITY       the share of full load at its start (also VSF_INTENSITY_CAP)
  VSF_INTENSITY_FILE  a file that holds the share that it may use now
  VSF_SAFETY_URL      the service

Exit code: that of COMMAND (128 + N after signal N; 126, 127 where it cannot be run), or
  75 refused, nothing was started; 76 stopped for safety; 1 error; 2 wrong usage.

Examples:
  vsf-safety run -- python3 train.py
  vsf-safety run --intensity 0.6 --wait -- ./generator --hours 4
  vsf-safety run --embedded --config safety.yaml -- ./burn
`;

export const command: Command = {
  help,
  async run(args, io) {
    const split = args.indexOf('--');
    const { values } = readArguments(split < 0 ? args.filter((arg) => arg.startsWith('-')) : args.slice(0, split), {
      ...LEASE_OPTIONS,
      embedded: { type: 'boolean' },
      config: { type: 'string' },
    });
    const [program, ...rest] = split < 0 ? [] : args.slice(split + 1);
    if (program === undefined || program === '') {
      throw new CommandFailed('COMMAND is missing; it stands after "--": vsf-safety run -- COMMAND', EXIT.usage);
    }
    const { embedded = false, config, wait = false, name } = values;
    const elsewhere = values.url !== undefined ? '--url' : values['token-file'] !== undefined ? '--token-file' : null;
    if (embedded && elsewhere !== null) throw new CommandFailed(`${elsewhere} does not go with --embedded`, EXIT.usage);
    if (!embedded && config !== undefined) throw new CommandFailed('--config goes only with --embedded', EXIT.usage);
    const ask = readLeaseAsk(values, name ?? basename(program), DEFAULT_TTL_SECONDS);
    const service = embedded ? await openEmbedded(config, io) : httpService(values, io);
    try {
      return await runUnderLease({ command: [program, ...rest], ask, wait, service }, io);
    } finally {
      await service.close();
    }
  },
};

/** Loaded only when it is wanted: it is the whole service. */
async function openEmbedded(config: string | undefined, io: Io): Promise<SafetyService> {
  const { openEmbedded } = await import('../sdk/embedded.ts');
  return orFail(() => openEmbedded(config, io.clock));
}
