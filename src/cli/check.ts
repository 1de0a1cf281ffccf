// `vsf-safety check`: one preflight without a running service, of this machine or of all that a configuration names. Where
// it is not safe because nothing tells a reading, it says what was looked for and where, and which lines of configuration
// would excuse the absence. Of a cluster it shows the worst first, and not all of it.
import { type ClusterSeen, judgeOnce } from '../assemble-once.ts';
import { systemClock } from '../clock.ts';
import type { Config } from '../config.ts';
import { type Conflict, limitConflicts } from '../domain/conflicts.ts';
import { requirementOf } from '../domain/expected-readings.ts';
import type { MissingCause } from '../domain/reading.ts';
import { ACTIONS, type Action, type Finding, type SafetyResult, severityOf, worstOf } from '../domain/result.ts';
import { type NodeStatus, nodeStatusOf } from '../http/status-view.ts';
import { type Command, CommandFailed, EXIT, readArguments } from './io.ts';
import { type Paint, paintFor, printable, tableOf, writeJson, writeLines } from './layout.ts';
import { loadFor } from './load.ts';
import { nodeLines } from './node-table.ts';

const help = `\
Usage: vsf-safety check [--config FILE] [--source SOURCE] [--json]

Reads everything once, judges it as the start of a workload would be judged, and shows every reading
against its limits: this machine, or with source exporters or prometheus the nodes of a cluster, the
worst first, at most 20 of them. Needs no running service; takes about two seconds. It knows nothing
of a service's interlock: to ask a running one, use "vsf-safety status" or GET /preflight.

Options:
  --config FILE      the configuration, as for serve; exporters and Prometheus are named there
  --source SOURCE    local, exporters, prometheus, or simulated for a rig that does not exist
  --json             the result as JSON, with all nodes, notes, conflicts and waivers

Exit code: 0 safe; 75 not safe; 1 it could not be judged.

Examples:
  vsf-safety check && ./train.sh
  vsf-safety check --config safety.yaml --json | jq .reason
  vsf-safety check --config cluster.yaml --json | jq -r '.nodes[] | select(.findings != []) | .node'
`;

/** Shown in full; a screen of a cluster's worst says more than all of it. */
const MOST_SHOWN = 20;

/** What one look found. */
interface Judged {
  readonly result: SafetyResult;
  readonly nodes: readonly NodeStatus[];
  /** What each source looked for, and where. */
  readonly notes: readonly { readonly node: string; readonly source: string; readonly notes: readonly string[] }[];
  readonly conflicts: readonly Conflict[];
  /** What is wrong with lists of targets. */
  readonly discovery: readonly { readonly origin: string; readonly detail: string }[];
  /** The cluster whose workloads a service would stop; `null` where none is configured. */
  readonly cluster: ClusterSeen | null;
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
    const judged = await judge(config);
    if (values.json) {
      const waivers = waiverLines(judged.nodes, config);
      const { result, ...rest } = judged;
      writeJson(io.stdout, { ...result, ...rest, warnings, waivers: waivers.length === 0 ? null : waivers.join('\n') });
    } else {
      for (const warning of warnings) writeLines(io.stderr, [`warning: ${warning}`]);
      const waivers = waiverLines(worstFirst(judged).slice(0, MOST_SHOWN), config);
      writeLines(io.stdout, checkLines(judged, waivers, paintFor(io)));
    }
    return judged.result.safe ? EXIT.ok : EXIT.refused;
  },
};

async function judge(config: Config): Promise<Judged> {
  const judged = await judgeOnce(config);
  if (!judged.ok) throw new CommandFailed(judged.detail);
  const { answer, state, nowMs, cluster } = judged;
  if (answer.kind !== 'judged') throw new CommandFailed(`Cannot judge what was read: the answer was ${answer.kind}`);
  const now = { elapsedMs: nowMs, wallMs: systemClock.now().wallMs };
  const sources = [...state.nodes.values()].flatMap(({ watch: { node, sources: own } }) =>
    [...own.values()].map(({ source, lastReport }) => ({ node, source, notes: lastReport.notes })),
  );
  return {
    result: answer.result,
    nodes: [...state.nodes.values()].map((node) => nodeStatusOf(state, node, now)),
    notes: sources,
    conflicts: limitConflicts(state),
    discovery: state.finders.problems,
    cluster,
  };
}

function checkLines(judged: Judged, waivers: readonly string[], paint: Paint): string[] {
  const { result, nodes, notes, conflicts, discovery, cluster } = judged;
  const verdict = result.safe ? paint('SAFE', 'green') : paint('NOT SAFE', 'red');
  const simulated = result.simulated ? `  ${paint('SIMULATED: no hardware was read', 'yellow')}` : '';
  const section = (title: string, lines: readonly string[]): string[] =>
    lines.length === 0 ? [] : ['', paint(title, 'bold'), ...lines.map(printable)];
  const shown = worstFirst(judged).slice(0, MOST_SHOWN);
  const actions = actionsOf(judged);
  const names = new Set(shown.map(({ node }) => node));
  const isAnythingMissing = shown.some(
    ({ readings }) => readings.length === 0 || readings.some(({ required }) => required),
  );
  const findings = nodes.length === 1 ? result.findings : result.findings.slice(0, MOST_SHOWN);
  const unprotected = upTo(
    MOST_SHOWN,
    result.unprotected.map(({ message }) => `  - ${message}`),
  );
  return [
    `${verdict}: ${result.action}${simulated}`,
    ...(nodes.length > 1 ? [summaryOf(nodes, actions)] : []),
    ...tableOf(
      findings.map(({ action, message }) => [action, message]),
      paint,
    ),
    ...(result.findingsTotal > findings.length ? [`  and ${result.findingsTotal - findings.length} more`] : []),
    ...section(
      'Lists of targets',
      upTo(
        MOST_SHOWN,
        discovery.map(({ origin, detail }) => `  - ${origin}: ${detail}`),
      ),
    ),
    ...shown.flatMap((node) => ['', ...nodeLines(node, headlineOf(node, nodes.length > 1 ? actions : null), paint)]),
    ...(nodes.length > shown.length
      ? ['', `${nodes.length - shown.length} more nodes, none of them worse: --json shows all`]
      : []),
    ...section('Cluster', clusterLines(cluster)),
    ...section('Unprotected', unprotected),
    ...section('Limits against the hardware', [
      ...conflicts
        .slice(0, MOST_SHOWN)
        .flatMap(({ message, remedy }) => [
          `  - ${message}`,
          ...(remedy === null ? [] : [`    to resolve: ${remedy}`]),
        ]),
      ...(conflicts.length > MOST_SHOWN ? [`  and ${conflicts.length - MOST_SHOWN} more`] : []),
    ]),
    ...section(
      'Looked for, and where',
      isAnythingMissing
        ? lookedFor(
            notes.filter(({ node }) => names.has(node)),
            nodes.length > 1,
          )
        : [],
    ),
    ...slowLines(result),
    ...(waivers.length === 0
      ? []
      : [
          '',
          paint(
            `What ${nodes.length === 1 ? 'this machine' : 'a node'} cannot measure, it can be excused from`,
            'bold',
          ),
          '  Nothing protects what is waived. Where a driver or a sensor is only not set up, set it up instead.',
          nodes.length === 1
            ? '  Lines for the configuration:'
            : '  Lines for the configuration, each to be added to what it says of that node:',
          '',
          ...waivers,
        ]),
  ];
}

/**
 * What is asked of each node: by its own evaluation, and by the question of a start, which is stricter and of which only
 * the worst findings are told.
 */
function findingsOf({ nodes, result }: Judged): ReadonlyMap<string, readonly Finding[]> {
  const findings = new Map<string, Finding[]>();
  for (const { node, findings: own } of nodes) findings.set(node, [...own]);
  for (const finding of result.findings) findings.get(finding.node ?? '')?.push(finding);
  return findings;
}

function actionsOf(judged: Judged): ReadonlyMap<string, Action> {
  return new Map(
    [...findingsOf(judged)].map(([node, findings]) => [
      node,
      findings.map(({ action }) => action).reduce<Action>(worstOf, 'PROCEED'),
    ]),
  );
}

/** The worst action first, then what has most against it; equals in their order. */
function worstFirst(judged: Judged): NodeStatus[] {
  const findings = findingsOf(judged);
  const actions = actionsOf(judged);
  const severity = ({ node }: NodeStatus): number => severityOf(actions.get(node) ?? 'PROCEED');
  const count = ({ node }: NodeStatus): number => findings.get(node)?.length ?? 0;
  return [...judged.nodes].sort((a, b) => severity(b) - severity(a) || count(b) - count(a));
}

/** `30 nodes: 20 WAIT_COOLDOWN, 10 PROCEED` */
function summaryOf(nodes: readonly NodeStatus[], actions: ReadonlyMap<string, Action>): string {
  const told = [...ACTIONS]
    .reverse()
    .map((action) => ({ action, count: nodes.filter(({ node }) => actions.get(node) === action).length }))
    .filter(({ count }) => count > 0)
    .map(({ action, count }) => `${count} ${action}`);
  const cards = nodes.reduce((sum, { gpus }) => sum + gpus.filter(({ required }) => required).length, 0);
  return `${nodes.length} nodes, ${cards} GPUs: ${told.join(', ')}`;
}

/** Among many each node has its own action. */
function headlineOf({ node, profile }: NodeStatus, actions: ReadonlyMap<string, Action> | null): string {
  return actions ? `${actions.get(node) ?? 'PROCEED'}, profile ${profile}` : `profile ${profile}`;
}

/** Whether the cluster would let a stop do what it must. */
function clusterLines(cluster: ClusterSeen | null): readonly string[] {
  if (!cluster) return [];
  const { facts, denyRule, inventory } = cluster;
  const rule: Record<ClusterSeen['denyRule'], string> = {
    armed: 'armed: labelled pods are refused',
    disarmed: 'installed, disarmed',
    absent: 'not installed: after a stop nothing but sweeping keeps controllers from making pods again',
    unknown: 'could not be read',
  };
  return [
    `  - ${facts.server}: ${inventory.available ? inventory.detail : `not available: ${inventory.detail}`}`,
    `  - deny rule vsf-estop: ${rule[denyRule]}`,
    ...upTo(
      MOST_SHOWN,
      facts.missingRights.map((right) => `  - missing, and a stop needs it: ${right}`),
    ),
    ...upTo(
      MOST_SHOWN,
      facts.missingOptionalRights.map((right) => `  - missing: ${right}`),
    ),
    ...facts.failingGroups.map(({ groupVersion, detail }) => `  - ${groupVersion} could not be looked at: ${detail}`),
  ];
}

/** The first, and how many more. */
function upTo(most: number, lines: readonly string[]): readonly string[] {
  return lines.length <= most ? lines : [...lines.slice(0, most), `  and ${lines.length - most} more`];
}

/** What sources say; of a cluster what several say alike once, with where. */
function lookedFor(sources: Judged['notes'], isOfMany: boolean): readonly string[] {
  if (!isOfMany) return sources.flatMap(({ source, notes }) => notes.map((note) => `  - ${source}: ${note}`));
  const places = new Map<string, Set<string>>();
  for (const { node, notes } of sources) {
    for (const note of notes) places.set(note, (places.get(note) ?? new Set()).add(node));
  }
  const lines = [...places].map(([note, nodes]) => {
    const [first = '', ...others] = nodes;
    return `  - ${first}${others.length === 0 ? '' : ` and ${others.length} more`}: ${note}`;
  });
  return upTo(MOST_SHOWN, lines);
}

/** Whether a slow source is alive is not known after a second, and so never in this command's time. */
function slowLines({ findings }: SafetyResult): string[] {
  const isSlow = findings.some(({ message }) => message.includes('has not moved since this service started'));
  if (!isSlow) return [];
  return [
    '',
    'Something has not moved between two looks a second apart: it is slower than that, as a Prometheus that scrapes every',
    '15 s or a dcgm-exporter without -c 1000, or it is dead. A running service knows after a minute: vsf-safety status.',
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
