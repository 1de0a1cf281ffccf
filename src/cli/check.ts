// `vsf-safety check`: one preflight of this machine without a running service. Where it is not safe because nothing tells
// a reading, it says what was looked for and where, and which lines of configuration would excuse the absence.
import { judgeOnce } from '../assemble.ts';
import { systemClock } from '../clock.ts';
import type { Config } from '../config.ts';
import { type Conflict, limitConflicts } from '../domain/conflicts.ts';
import { requirementOf } from '../domain/node-readings.ts';
import type { MissingCause } from '../domain/reading.ts';
import type { SafetyResult } from '../domain/result.ts';
import { type NodeStatus, nodeStatusOf } from '../http/status-view.ts';
import { type Command, CommandFailed, EXIT, readArguments } from './io.ts';
import { type Paint, paintFor, printable, tableOf, writeJson, writeLines } from './layout.ts';
import { loadFor, notReadYet } from './load.ts';
import { nodeLines } from './node-table.ts';

const help = `\
Usage: vsf-safety check [--config FILE] [--source SOURCE] [--json]

Reads this machine once, judges it as the start of a workload would be judged, and shows every
reading against its limits. Needs no running service; takes about two seconds. It knows nothing of
a service's interlock: to ask a running one, use "vsf-safety status" or GET /preflight.

Options:
  --config FILE      the configuration, as for serve
  --source SOURCE    local, or simulated for a rig that does not exist
  --json             the result as JSON, with nodes, notes, conflicts and waivers

Exit code: 0 safe; 75 not safe; 1 it could not be judged.

Examples:
  vsf-safety check && ./train.sh
  vsf-safety check --config safety.yaml --json | jq .reason
`;

/** What one look found. */
interface Judged {
  readonly result: SafetyResult;
  readonly nodes: readonly NodeStatus[];
  /** What each source looked for, and where. */
  readonly notes: readonly { readonly source: string; readonly notes: readonly string[] }[];
  readonly conflicts: readonly Conflict[];
}

export const command: Command = {
  help,
  async run(args, io) {
    const { values } = readArguments(args, {
      config: { type: 'string' },
      source: { type: 'string' },
      json: { type: 'boolean' },
    });
    const { config, warnings } = loadFor({ config: values.config, source: values.source }, io);
    const unread = notReadYet(config);
    if (unread !== null) throw new CommandFailed(unread);
    const judged = await judge(config);
    const waivers = waiverLines(judged.nodes, config);
    if (values.json) {
      const { result, ...rest } = judged;
      writeJson(io.stdout, { ...result, ...rest, warnings, waivers: waivers.length === 0 ? null : waivers.join('\n') });
    } else {
      for (const warning of warnings) writeLines(io.stderr, [`warning: ${warning}`]);
      writeLines(io.stdout, checkLines(judged, waivers, paintFor(io)));
    }
    return judged.result.safe ? EXIT.ok : EXIT.refused;
  },
};

async function judge(config: Config): Promise<Judged> {
  const { answer, state, nowMs } = await judgeOnce(config);
  if (answer.kind !== 'judged') throw new CommandFailed(`Cannot judge this machine: the answer was ${answer.kind}`);
  const now = { elapsedMs: nowMs, wallMs: systemClock.now().wallMs };
  const sources = [...state.nodes.values()].flatMap(({ watch }) => [...watch.sources.values()]);
  return {
    result: answer.result,
    nodes: [...state.nodes.values()].map((node) => nodeStatusOf(state, node, now)),
    notes: sources.map(({ source, lastReport }) => ({ source, notes: lastReport.notes })),
    conflicts: limitConflicts(state),
  };
}

function checkLines({ result, nodes, notes, conflicts }: Judged, waivers: readonly string[], paint: Paint): string[] {
  const verdict = result.safe ? paint('SAFE', 'green') : paint('NOT SAFE', 'red');
  const simulated = result.simulated ? `  ${paint('SIMULATED: no hardware was read', 'yellow')}` : '';
  const section = (title: string, lines: readonly string[]): string[] =>
    lines.length === 0 ? [] : ['', paint(title, 'bold'), ...lines.map(printable)];
  const isAnythingMissing = nodes.some(
    ({ readings }) => readings.length === 0 || readings.some(({ required }) => required),
  );
  return [
    `${verdict}: ${result.action}${simulated}`,
    ...tableOf(
      result.findings.map(({ action, message }) => [action, message]),
      paint,
    ),
    ...(result.findingsTotal > result.findings.length
      ? [`  and ${result.findingsTotal - result.findings.length} more`]
      : []),
    ...nodes.flatMap((node) => ['', ...nodeLines(node, `profile ${node.profile}`, paint)]),
    ...section(
      'Unprotected',
      result.unprotected.map(({ message }) => `  - ${message}`),
    ),
    ...section(
      'Limits against the hardware',
      conflicts.flatMap(({ message, remedy }) => [
        `  - ${message}`,
        ...(remedy === null ? [] : [`    to resolve: ${remedy}`]),
      ]),
    ),
    ...section(
      'Looked for, and where',
      isAnythingMissing
        ? notes.flatMap(({ source, notes: looked }) => looked.map((note) => `  - ${source}: ${note}`))
        : [],
    ),
    ...(waivers.length === 0
      ? []
      : [
          '',
          paint('What this machine cannot measure, it can be excused from', 'bold'),
          '  Nothing protects what is waived. Where a driver or a sensor is only not set up, set it up instead.',
          '  Lines for the configuration:',
          '',
          ...waivers,
        ]),
  ];
}

/** A waiver excuses absence alone; a sensor that fails or lies must be repaired. */
const ABSENT: readonly MissingCause[] = ['no-sensor', 'not-supported'];

/** YAML that waives what is absent, with what the node's own entry waives already; empty where nothing is absent. */
function waiverLines(nodes: readonly NodeStatus[], { settings }: Config): string[] {
  const entries = nodes.flatMap(({ node, readings }): string[] => {
    const own = new Set<string>(settings.nodes.get(node)?.waive ?? []);
    const gpus = new Map<string, string[]>();
    let isAnyAbsent = false;
    for (const { component, id, quantity, missing, required } of readings) {
      if (missing === undefined || !required || !ABSENT.includes(missing)) continue;
      const requirement = requirementOf(component, quantity);
      if (requirement === null) continue;
      isAnyAbsent = true;
      if (component === 'gpu' && id !== undefined) gpus.set(id, [...(gpus.get(id) ?? []), requirement]);
      else own.add(requirement);
    }
    if (!isAnyAbsent) return [];
    return [
      `  - name: ${node}`,
      ...(own.size > 0 ? [`    waive: [ ${[...own].join(', ')} ]`] : []),
      ...(gpus.size > 0 ? ['    gpus:'] : []),
      ...[...gpus].map(([id, names]) => `      "${id}": { waive: [ ${names.join(', ')} ] }`),
    ];
  });
  return entries.length === 0 ? [] : ['nodes:', ...entries];
}
