// `vsf-safety restore`: gives controllers of a cluster back what an emergency stop took from them, after its reset. Each
// one that comes back is load, so it shows first what it would do and does it only when told to, one controller at a
// time. The service is the one that asks before each whether it is safe; this command waits, however long that takes,
// and shows how far it is (restore-feed.ts).
import type { ProblemSchema, RestoreAnswerSchema, Told } from '../http/schemas.ts';
import { CLIENT_HELP, CLIENT_OPTIONS, ServiceClient } from './client.ts';
import { type Command, CommandFailed, EXIT, type Io, readArguments } from './io.ts';
import { type Cell, type Colour, type Paint, paintFor, printable, tableOf, writeJson, writeLines } from './layout.ts';
import { followRestore, PatientFetch } from './restore-feed.ts';
import type { Estop } from './stop-lines.ts';

/** Each controller is looked at, one after another; one whose API server is away takes 5 s. */
const DRY_RUN_TIMEOUT_MS = 600_000;
/** Beside it for each controller: a look, a pause, a preflight of everything and the change, each with some seconds. */
const EACH_TIMEOUT_MS = 30_000;

const help = `\
Usage: vsf-safety restore [--trip ID] [--yes] [options]

Gives controllers of the cluster back what an emergency stop took from them: replicas, suspended
jobs. Without --yes it only lists what would be given back, and what would not and why. Each is
given back only if it is the very one that was stopped and still holds what the stop set; one at a
time, with a preflight before each, after the reset of that trip. Needs the operator's token.

Options:
  --trip ID          the trip whose stop it was (default: the last one that was reset)
  --yes              give back, instead of only listing; a controller takes up to 10 s
${CLIENT_HELP}

Exit code: 0 all given back, or nothing to give back, or listed; 75 refused, or some could not be
given back; 1 error. What holds another value by now, or is gone, is left as it is and no failure.

Examples:
  vsf-safety restore
  vsf-safety restore --yes
  vsf-safety restore --trip 1f0c… --yes --json
`;

type RestoreAnswer = Told<typeof RestoreAnswerSchema>;
type Outcome = RestoreAnswer['steps'][number]['outcome'];

const WORDS: Readonly<Record<Outcome, { readonly text: string; readonly colour?: Colour }>> = {
  'would-restore': { text: 'would give back', colour: 'yellow' },
  restored: { text: 'given back', colour: 'green' },
  kept: { text: 'left as it is' },
  gone: { text: 'gone' },
  'by-controller': { text: 'by its controller' },
  failed: { text: 'FAILED', colour: 'red' },
  'not-reached': { text: 'NOT REACHED', colour: 'red' },
};
const NOT_DONE: readonly Outcome[] = ['failed', 'not-reached'];

export const command: Command = {
  help,
  async run(args, io) {
    const { values } = readArguments(args, {
      ...CLIENT_OPTIONS,
      trip: { type: 'string' },
      yes: { type: 'boolean' },
    });
    const patient = new PatientFetch(io.env);
    try {
      const client = await ServiceClient.from(values, { ...io, fetch: patient.fetch });
      const asJson = values.json === true;
      const tripId = values.trip ?? (await lastTrip(client));
      if (tripId === null) {
        if (asJson) writeJson(io.stdout, { tripId: null, steps: [] });
        else writeLines(io.stdout, ['No trip has been reset yet; there is nothing to give back.']);
        return EXIT.ok;
      }
      const listed = await ask(client, { tripId, dryRun: true }, DRY_RUN_TIMEOUT_MS);
      if (!listed.ok || !values.yes || listed.answer.steps.length === 0) {
        return show(listed, { io, asJson, more: listed.ok ? howTo(listed.answer, values) : [] });
      }
      const { length: count } = listed.answer.steps;
      return show(await giveBack(client, io, { tripId, count }), { io, asJson, more: [] });
    } finally {
      await patient.close();
    }
  },
};

async function lastTrip(client: ServiceClient): Promise<string | null> {
  const { body } = await client.ask({ method: 'GET', path: '/estop', needs: 'operator', expects: [200] });
  return (body as Estop).lastTrip?.tripId ?? null;
}

type Asked =
  | { readonly ok: true; readonly answer: RestoreAnswer }
  | { readonly ok: false; readonly problem: Told<typeof ProblemSchema> };

/** 503 is a refusal, too: another process leads, or nobody can say who is asking. */
async function ask(
  client: ServiceClient,
  body: { readonly tripId: string; readonly dryRun: boolean },
  timeoutMs: number,
): Promise<Asked> {
  const asked = { method: 'POST', path: '/estop/restore', needs: 'operator', expects: [200, 409, 503] } as const;
  const answer = await client.ask({ ...asked, body, timeoutMs });
  if (answer.status === 200) return { ok: true, answer: answer.body as RestoreAnswer };
  return { ok: false, problem: answer.body as Told<typeof ProblemSchema> };
}

/** Gives back and tells meanwhile how far it is. The service goes on by itself when nobody waits any more. */
async function giveBack(
  client: ServiceClient,
  io: Io,
  { tripId, count }: { readonly tripId: string; readonly count: number },
): Promise<Asked> {
  const unfollow = await followRestore(client, io, { tripId, count });
  try {
    return await ask(client, { tripId, dryRun: false }, DRY_RUN_TIMEOUT_MS + count * EACH_TIMEOUT_MS);
  } catch (error) {
    if (!(error instanceof CommandFailed)) throw error;
    const advice = 'What was begun goes on in the service; "vsf-safety restore" shows what is left.';
    throw new CommandFailed(`${error.message}\n${advice}`, error.exitCode);
  } finally {
    unfollow();
  }
}

/** Writes what came of it; gives the exit code. */
function show(
  asked: Asked,
  { io, asJson, more }: { readonly io: Io; readonly asJson: boolean; readonly more: readonly string[] },
): number {
  if (!asked.ok) {
    const { detail, active = [] } = asked.problem;
    if (asJson) writeJson(io.stdout, asked.problem);
    else {
      const trips = active.map((tripId) => `  on is ${printable(tripId)}`);
      writeLines(io.stderr, [`vsf-safety restore: ${printable(detail)}`, ...trips]);
    }
    return EXIT.refused;
  }
  const { answer } = asked;
  if (asJson) writeJson(io.stdout, answer);
  else writeLines(io.stdout, [...restoreLines(answer, paintFor(io)), ...more]);
  return !answer.dryRun && answer.steps.some(({ outcome }) => NOT_DONE.includes(outcome)) ? EXIT.refused : EXIT.ok;
}

function restoreLines({ tripId, dryRun, steps, otherTrips }: RestoreAnswer, paint: Paint): string[] {
  const rows = steps.map(({ object, outcome, detail }): Cell[] => {
    const { text, colour } = WORDS[outcome];
    return [colour ? { text, colour } : text, object, detail];
  });
  const others = Object.entries(otherTrips).map(
    ([id, count]) => `Kept of another stop: ${controllers(count)}, by --trip ${printable(id)}`,
  );
  const of = `trip ${printable(tripId)}`;
  if (steps.length === 0) return [`Nothing is kept of ${of}; there is nothing to give back.`, ...others];
  const count = (outcome: Outcome): number => steps.filter((step) => step.outcome === outcome).length;
  const notDone = steps.filter(({ outcome }) => NOT_DONE.includes(outcome)).length;
  const head = dryRun
    ? `What the stop of ${of} took: ${controllers(count('would-restore'))} of ${steps.length} would be given back`
    : `After ${of}: ${controllers(count('restored'))} of ${steps.length} given back`;
  const failed = notDone === 0 ? '' : paint(`, ${notDone} could not be`, 'red');
  return [`${head}${failed}`, ...tableOf(rows, paint), ...others];
}

const controllers = (count: number): string => (count === 1 ? '1 controller' : `${count} controllers`);

/** How to go on after a list. */
function howTo({ tripId, steps }: RestoreAnswer, { url }: { readonly url?: string | undefined }): string[] {
  if (!steps.some(({ outcome }) => outcome === 'would-restore')) return [];
  const line = `  vsf-safety restore${url === undefined ? '' : ` --url ${url}`} --trip ${printable(tripId)} --yes`;
  return ['Nothing was touched. To give them back, one at a time, with a preflight before each:', line];
}
