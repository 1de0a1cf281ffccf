// `vsf-safety estop`: stops everything, or the nodes it names. First it makes sure that the stop is latched, within 5 s,
// and says so; only then does it wait to see what was stopped. When the service cannot be reached nothing was stopped,
// and that is said in capitals.
import type { StopAnswerSchema, Told } from '../http/schemas.ts';
import { CLIENT_HELP, CLIENT_OPTIONS, type ClientValues, ServiceClient } from './client.ts';
import { type Command, CommandFailed, EXIT, type Io, readArguments, readSeconds } from './io.ts';
import { paintFor, printable, writeJson, writeLines } from './layout.ts';
import { type Estop, reportLines, type StopReport } from './stop-lines.ts';

const ESTOP_TIMEOUT_MS = 5_000;
const DEFAULT_WAIT_SECONDS = '10';
const LOOK_EVERY_MS = 500;

const help = `\
Usage: vsf-safety estop [--reason TEXT] [--node NODE]... [--wait SECONDS] [options]

Emergency stop: stops every workload at once and refuses new ones until an operator resets.
It is software and no certified emergency stop: where people are in danger, cut the power.

Options:
  --reason TEXT      kept with the trip, up to 500 characters
  --node NODE        stop only this node; may be given more than once
  --wait SECONDS     show what was stopped, waiting up to so long for it (0 to 120, default ${DEFAULT_WAIT_SECONDS})
${CLIENT_HELP}

Exit code: 0 once the stop is latched, even where it is not verified yet; 1 when it is not.

Examples:
  vsf-safety estop
  vsf-safety estop --reason "smell of burning"
  vsf-safety estop --node bizon1 --wait 30
`;

type StopAnswer = Told<typeof StopAnswerSchema>;

export const command: Command = {
  help,
  async run(args, io) {
    const { values } = readArguments(args, {
      ...CLIENT_OPTIONS,
      reason: { type: 'string' },
      node: { type: 'string', multiple: true },
      wait: { type: 'string', default: DEFAULT_WAIT_SECONDS },
    });
    const waitMs = readSeconds('wait', values.wait, 0, 120) * 1000;
    const { client, posted } = await latch(values, io);
    const paint = paintFor(io);
    if (!values.json) {
      const what = values.node ? values.node.join(', ') : 'EVERYTHING';
      const joined = posted.joined ? 'joined the trip that is on' : 'latched';
      writeLines(io.stdout, [paint(`STOPPED: ${printable(what)}, ${joined}: trip ${printable(posted.tripId)}`, 'red')]);
    }
    const report = await watchStop(client, posted, waitMs, io);
    if (values.json) writeJson(io.stdout, { ...posted, report });
    else writeLines(io.stdout, [...reportLines(report, paint), ...afterLines(posted.tripId, values.url)]);
    return EXIT.ok;
  },
};

const afterLines = (tripId: string, url: string | undefined): string[] => [
  'New workloads are refused until an operator resets:',
  `  vsf-safety reset${url === undefined ? '' : ` --url ${url}`} --trip ${printable(tripId)} --reason "…"`,
];

async function latch(
  values: ClientValues & { readonly reason?: string | undefined; readonly node?: readonly string[] | undefined },
  io: Io,
): Promise<{ readonly client: ServiceClient; readonly posted: StopAnswer }> {
  const { reason, node: nodes } = values;
  const body = { ...(reason !== undefined && { reason }), ...(nodes && { nodes }) };
  const asked = { method: 'POST', path: '/estop', body, needs: 'anybody', expects: [202] } as const;
  try {
    const client = await ServiceClient.from(values, io);
    const answer = await client.ask({ ...asked, timeoutMs: ESTOP_TIMEOUT_MS });
    return { client, posted: answer.body as StopAnswer };
  } catch (error) {
    if (!(error instanceof CommandFailed)) throw error;
    throw new CommandFailed(
      `NOTHING IS KNOWN TO BE STOPPED. ${error.message}\nStop the workloads by hand, or cut the power.`,
      error.exitCode,
    );
  }
}

/** The newest report of the trip: when it has settled, or when the time is up. A failing look changes nothing. */
async function watchStop(client: ServiceClient, posted: StopAnswer, waitMs: number, io: Io): Promise<StopReport> {
  const untilMs = io.clock.now().elapsedMs + waitMs;
  let { report } = posted;
  while (report.state === 'stopping') {
    const leftMs = untilMs - io.clock.now().elapsedMs;
    if (leftMs <= 0) break;
    await io.clock.sleep(Math.min(LOOK_EVERY_MS, leftMs));
    try {
      const { body } = await client.ask({ method: 'GET', path: '/estop', needs: 'anybody', expects: [200] });
      report = (body as Estop).trips.find(({ tripId }) => tripId === posted.tripId)?.report ?? report;
    } catch {
      // Latched it is; the service may be busy stopping.
    }
  }
  return report;
}
