// `vsf-safety stop-orphans`: stops what a dead service had given leases to. Meant for the service manager, which calls it
// whenever the service has ended (ExecStopPost) and says how: after an end that was asked for it touches nothing, since
// leases survive a restart.
import { resolve } from 'node:path';
import { findOrphans } from '../assemble-orphans.ts';
import { defaultStateDir } from '../config.ts';
import { type Command, EXIT, type Io, readArguments } from './io.ts';
import { paintFor, printable, writeLines } from './layout.ts';
import { entryLines } from './stop-lines.ts';

const help = `\
Usage: vsf-safety stop-orphans [--state-dir DIR] [--simulated]

Stops the process groups that a service had given leases to, after that service has died: nobody
watches the hardware for them any more. Reads the service's journal and does not change it. Stops
only a group whose leader runs with VSF_LEASE=<id> and started when the journal says, and what has
left that group with the mark. Touches nothing while a service holds the state folder.

Meant as ExecStopPost of the systemd unit. With SERVICE_RESULT=success, after a stop or restart
that was asked for, it touches nothing: leases survive a restart. Pods are not stopped.

Options:
  --state-dir DIR    the dead service's state folder
  --simulated        it ran with source: simulated

Environment: SERVICE_RESULT, EXIT_CODE, EXIT_STATUS as systemd sets them; without SERVICE_RESULT
the service is taken for dead. VSF_SAFETY_STATE_DIR as --state-dir.

Exit code: 0 nothing is left; 1 something may still run, or the journal cannot be read; 2 usage.

Examples:
  vsf-safety stop-orphans --state-dir /var/lib/vsf-safety
`;

export const command: Command = {
  help,
  async run(args, io) {
    const { values } = readArguments(args, { 'state-dir': { type: 'string' }, simulated: { type: 'boolean' } });
    const { env, clock, hostname, homeDir } = io;
    if (env['SERVICE_RESULT'] === 'success') return EXIT.ok;
    const folder = resolve(values['state-dir'] ?? env['VSF_SAFETY_STATE_DIR'] ?? defaultStateDir(env, homeDir));
    const orphans = await findOrphans({ folder, hostname, simulated: values.simulated === true, clock });
    switch (orphans.kind) {
      case 'watched':
        say(io, `${orphans.detail} and watches over what runs; nothing was touched`);
        return EXIT.ok;
      case 'unknown':
        say(io, `${orphans.detail}. WHAT HOLDS A LEASE RUNS ON UNWATCHED: stop it by hand`);
        return EXIT.error;
      case 'found':
        try {
          if (orphans.targets.length === 0) return EXIT.ok;
          const reason = `the service ${howItEnded(env)}, and nobody watches the hardware`;
          say(io, `stopping ${orphans.targets.map(({ workload }) => workload).join(', ')}: ${reason}`);
          const { entries, verified } = await orphans.stop(reason);
          writeLines(io.stderr, entryLines(entries, paintFor(io)));
          if (!verified) say(io, 'SOMETHING MAY STILL RUN: look at the machine, or cut its power');
          return verified ? EXIT.ok : EXIT.error;
        } finally {
          await orphans.release();
        }
    }
  },
};

function howItEnded(env: Io['env']): string {
  const { SERVICE_RESULT: result, EXIT_CODE: code, EXIT_STATUS: status } = env;
  return result === undefined ? 'is dead' : `died (${[result, code, status].filter(Boolean).join(', ')})`;
}

function say(io: Io, text: string): void {
  writeLines(io.stderr, [`vsf-safety stop-orphans: ${printable(text)}`]);
}
