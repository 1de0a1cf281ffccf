// `vsf-safety status`: how things stand, for a person: what is to be done and why, every reading against its limits, and
// whatever keeps the service from protecting.
import { verdictWords } from '../domain/commission.ts';
import type { Status } from '../http/status-view.ts';
import { CLIENT_HELP, CLIENT_OPTIONS, ServiceClient } from './client.ts';
import { type Command, CommandFailed, EXIT, readArguments } from './io.ts';
import {
  ageText,
  type Cell,
  type Colour,
  type Paint,
  paintFor,
  printable,
  tableOf,
  writeJson,
  writeLines,
} from './layout.ts';
import { nodeLines } from './node-table.ts';

const help = `\
Usage: vsf-safety status [--node NODE]... [options]

Shows what the service sees: the action and its reason, the interlock, every reading against its
limits, what nothing protects, leases, sources and actuators.

Options:
  --node NODE        only this node; may be given more than once
${CLIENT_HELP}

Exit code: 0 when the service answered, whatever it says; 1 when it did not.
As a gate in scripts use GET /preflight, or "vsf-safety check".

Examples:
  vsf-safety status
  vsf-safety status --node bizon1
  vsf-safety status --url http://10.0.0.7:8470 --token-file ./viewer-token
  vsf-safety status --json | jq .interlock
`;

/** Of actions and interlock states. */
export const COLOURS: Readonly<Record<string, Colour>> = {
  PROCEED: 'green',
  REDUCE_INTENSITY: 'yellow',
  WAIT_COOLDOWN: 'yellow',
  ABORT: 'red',
  clear: 'green',
  cooling: 'yellow',
  tripped: 'red',
};

export const command: Command = {
  help,
  async run(args, io) {
    const { values } = readArguments(args, { ...CLIENT_OPTIONS, node: { type: 'string', multiple: true } });
    const client = await ServiceClient.from(values, io);
    const query = (values.node ?? []).map((node) => `node=${encodeURIComponent(node)}`).join('&');
    const path = query === '' ? '/status' : `/status?${query}`;
    const { body } = await client.ask({ method: 'GET', path, needs: 'anybody', expects: [200] });
    if (!isStatus(body)) throw new CommandFailed(`${client.url} did not answer with a status; is it vsf-safety?`);
    if (values.json) writeJson(io.stdout, body);
    else writeLines(io.stdout, statusLines(body, client.url, paintFor(io)));
    return EXIT.ok;
  },
};

/** Whether a body is what GET /status of this product answers. */
export const isStatus = (body: unknown): body is Status =>
  typeof body === 'object' && body !== null && 'service' in body && body.service === 'vsf-safety';

/** Everything that status shows, as lines. */
function statusLines(status: Status, url: string, paint: Paint): string[] {
  const { version, uptimeSeconds, simulated, nodes, conflicts, leases, sources } = status;
  const about = `vsf-safety ${version} at ${url}, up ${ageText(uptimeSeconds)}`;
  return [
    simulated ? `${about}  ${paint('SIMULATED: no hardware is watched', 'yellow')}` : about,
    '',
    ...headLines(status, paint),
    ...nodes.flatMap((node) => {
      const { interlock, coolingSeconds, live, profile } = node;
      const cooling = coolingSeconds === null ? '' : `, ${ageText(coolingSeconds)} to go at least`;
      const workload = live ? 'a workload is live' : 'no workload';
      return ['', ...nodeLines(node, `interlock ${interlock}${cooling}, ${workload}, profile ${profile}`, paint)];
    }),
    ...section(
      'GPUs',
      nodes.flatMap(({ node, gpus }) =>
        gpus.map(({ id, pciAddress = '', name = '', required, listed, ignored }) => {
          const state = ignored ? 'ignored' : !listed ? 'gone' : required ? '' : 'not required';
          return [node, pciAddress, id, name, state];
        }),
      ),
      paint,
    ),
    ...section(
      'Leases',
      leases.map(({ id, workload, intensity, intensityCap, nodes: on, expiresAt }) => [
        workload,
        `intensity ${intensityCap < intensity ? `${intensityCap} of ${intensity}` : intensity}`,
        on === null ? 'all nodes' : on.join(', '),
        expiresAt === null ? 'waits for the first evaluation' : `until ${expiresAt}`,
        id,
      ]),
      paint,
    ),
    ...section(
      'Without a lease',
      status.unleased.map(({ kind, name, node = '-', gpu = '', memoryMiB }) => [
        kind,
        name,
        node,
        gpu,
        memoryMiB === undefined ? '' : `${memoryMiB} MiB`,
      ]),
      paint,
    ),
    ...section(
      'Unprotected',
      status.unprotected.map(({ message }) => [message]),
      paint,
    ),
    ...section(
      'Limits against the hardware',
      conflicts.map(({ message }) => [message]),
      paint,
    ),
    ...section(
      'Sources',
      sources.map(({ node, source, up, lastSuccessAgeSeconds, failure, scrape }) => [
        source,
        node,
        up ? 'up' : { text: 'failed', colour: 'red' as const },
        lastSuccessAgeSeconds === null ? 'never answered' : `answered ${ageText(lastSuccessAgeSeconds)} ago`,
        failure === null ? scrapeText(scrape) : `${failure.cause}: ${failure.detail}`,
      ]),
      paint,
    ),
    ...section(
      'Lists of targets',
      status.discovery.problems.map(({ origin, detail }) => [origin, detail]),
      paint,
    ),
    ...section(
      'Actuators',
      Object.entries(status.actuators).map(([name, { available, detail }]) => [
        name,
        available ? 'available' : { text: 'not available', colour: 'red' as const },
        detail,
      ]),
      paint,
    ),
    ...section(
      'Webhooks',
      // A service of an earlier version tells none.
      (status.notify ?? []).map((one) => [
        one.target,
        one.ok ? 'ok' : { text: 'failed', colour: 'red' as const },
        `${one.sent} told${one.pending > 0 ? `, ${one.pending} wait` : ''}${one.dropped > 0 ? `, ${one.dropped} lost` : ''}`,
        one.ok ? '' : (one.lastError?.detail ?? ''),
      ]),
      paint,
    ),
  ];
}

function headLines(
  { lastResult, interlock, evaluation, constraints, journal, commission }: Status,
  paint: Paint,
): string[] {
  const rows = [
    lastResult === null
      ? ['Action', 'none yet, the first evaluation is under way']
      : ['Action', { text: lastResult.action, colour: COLOURS[lastResult.action] ?? 'bold' }],
    ...(lastResult === null ? [] : [['Reason', lastResult.reason]]),
    ...(lastResult?.waitSeconds === undefined ? [] : [['Wait', ageText(lastResult.waitSeconds)]]),
    ...(lastResult?.intensityCap === undefined ? [] : [['Intensity', `at most ${lastResult.intensityCap}`]]),
    ['Interlock', { text: interlock.state, colour: COLOURS[interlock.state] ?? 'bold' }],
    ...(interlock.tripId === undefined ? [] : [['Trip', interlock.tripId]]),
    ['Evaluated', evaluatedText(evaluation)],
    ['Limits', `profile ${constraints.profile}, digest ${constraints.digest}`],
    // A service of an earlier version tells nothing of it.
    ...(commission === undefined ? [] : [['Commissioned', commissionCell(commission)]]),
    ...(journal.ok ? [] : [['Journal', { text: `cannot be written: ${journal.detail}`, colour: 'red' as const }]]),
  ];
  return tableOf(rows, paint);
}

function commissionCell(commission: Status['commission']): Cell {
  if (commission === null) return 'never; "vsf-safety commission" tests this installation';
  const { at, verdict, operator, isCurrent, outdated, simulated } = commission;
  const text = `${verdictWords(verdict)}, ${at.slice(0, 16).replace('T', ' ')} UTC by ${operator}${simulated ? ', SIMULATED' : ''}`;
  if (!isCurrent) return { text: `OUTDATED: ${outdated.join('; ')} (${text})`, colour: 'yellow' };
  return verdict === 'rejected' ? { text, colour: 'red' } : text;
}

function evaluatedText({ lastEvaluationAgeSeconds, intervalSeconds }: Status['evaluation']): string {
  const every = `every ${intervalSeconds} s`;
  return lastEvaluationAgeSeconds === null ? `not yet, ${every}` : `${ageText(lastEvaluationAgeSeconds)} ago, ${every}`;
}

/** How the last scrape of an exporter went: `12 ms, 2 lines rejected`. */
function scrapeText(scrape: Status['sources'][number]['scrape']): string {
  if (scrape === null) return '';
  const { latencySeconds, rejectedLines } = scrape;
  const took = `${Math.round(latencySeconds * 1000)} ms`;
  return rejectedLines === 0 ? took : `${took}, ${rejectedLines} lines rejected since the start`;
}

/** A titled table; nothing at all where there are no rows. */
function section(title: string, rows: Parameters<typeof tableOf>[0], paint: Paint): string[] {
  return rows.length === 0 ? [] : ['', paint(printable(title), 'bold'), ...tableOf(rows, paint)];
}
