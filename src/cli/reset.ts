// `vsf-safety reset`: an operator's leave to start again. It starts nothing. While something is still wrong the service
// refuses, and says what.
import type { ProblemSchema, ResetAnswerSchema, Told } from '../http/schemas.ts';
import { CLIENT_HELP, CLIENT_OPTIONS, ServiceClient } from './client.ts';
import { type Command, CommandFailed, EXIT, readArguments } from './io.ts';
import { paintFor, printable, writeJson, writeLines } from './layout.ts';
import type { Estop } from './stop-lines.ts';

/** In a cluster it is written there first, which takes some 12 s at most. */
const RESET_TIMEOUT_MS = 20_000;

const help = `\
Usage: vsf-safety reset --reason TEXT [--trip ID] [--acknowledge-unverified] [options]

Ends a trip, so that workloads may start again; it starts none, and old leases stay dead. Refused
until every required reading is fresh, every temperature and power is below its warning, and the
stop is verified. Needs the operator's token.

Options:
  --reason TEXT      why it is safe again; kept in the journal (required)
  --trip ID          the trip; needed only where more than one is on
  --acknowledge-unverified
                     reset although the stop is not verified: you have looked yourself
${CLIENT_HELP}

Exit code: 0 reset, or nothing was tripped; 75 refused, with what is still wrong; 1 error.

Examples:
  vsf-safety reset --reason "fan of GPU 2 replaced"
  vsf-safety reset --trip 1f0c… --reason "false alarm, sensor checked" --json
`;

export const command: Command = {
  help,
  async run(args, io) {
    const { values } = readArguments(args, {
      ...CLIENT_OPTIONS,
      trip: { type: 'string' },
      reason: { type: 'string' },
      'acknowledge-unverified': { type: 'boolean' },
    });
    const { reason } = values;
    if (!reason?.trim()) throw new CommandFailed('--reason is missing: say why it is safe again', EXIT.usage);
    const client = await ServiceClient.from(values, io);
    const tripId = values.trip ?? (await onlyTrip(client));
    if (tripId === null) {
      if (values.json) writeJson(io.stdout, { reset: false, reason: 'nothing is tripped' });
      else writeLines(io.stdout, ['Nothing is tripped; there is nothing to reset.']);
      return EXIT.ok;
    }
    const body = { tripId, reason, ...(values['acknowledge-unverified'] && { acknowledgeUnverified: true }) };
    const asked = { method: 'POST', path: '/estop/reset', needs: 'operator' } as const;
    const answer = await client.ask({ ...asked, body, expects: [200, 409], timeoutMs: RESET_TIMEOUT_MS });
    if (values.json) writeJson(io.stdout, answer.body);
    if (answer.status === 409) {
      if (!values.json) writeLines(io.stderr, refusalLines(answer.body as Told<typeof ProblemSchema>));
      return EXIT.refused;
    }
    if (values.json) return EXIT.ok;
    const { recorded } = answer.body as Told<typeof ResetAnswerSchema>;
    const paint = paintFor(io);
    writeLines(io.stdout, [
      `${paint('Reset', 'green')}: trip ${printable(tripId)} is over. Nothing was started.`,
      ...(recorded
        ? []
        : [paint('It could not be written to the journal: after a restart it would be tripped again.', 'yellow')]),
    ]);
    return EXIT.ok;
  },
};

/** The trip that is on, `null` when none is; exit code 2 when somebody has to choose. */
async function onlyTrip(client: ServiceClient): Promise<string | null> {
  const { body } = await client.ask({ method: 'GET', path: '/estop', needs: 'anybody', expects: [200] });
  const { trips } = body as Estop;
  const [first, ...others] = trips;
  if (others.length === 0) return first?.tripId ?? null;
  const listed = trips.map(({ tripId, scope, reason }) => {
    const where = scope.kind === 'all' ? 'everything' : scope.nodes.join(', ');
    return `  --trip ${tripId}   ${where}: ${reason}`;
  });
  throw new CommandFailed([`${trips.length} trips are on; name one:`, ...listed.map(printable)].join('\n'), EXIT.usage);
}

function refusalLines({ detail, still = [], active = [] }: Told<typeof ProblemSchema>): string[] {
  if (still.length > 0) {
    return ['vsf-safety reset: refused, still wrong:', ...still.map((what) => `  - ${printable(what)}`)];
  }
  return [`vsf-safety reset: ${printable(detail)}`, ...active.map((tripId) => `  on is --trip ${printable(tripId)}`)];
}
