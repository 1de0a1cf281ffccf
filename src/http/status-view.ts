// The state as people and programs read it: every node with every reading, what is missing and why, and whatever keeps
// this service from protecting. A pure function of the state and the moment; GET /status, /metrics and the command
// line's `check` all show what it says.
import type { Now } from '../clock.ts';
import { type ClusterDetails, type ClusterState, unprotectedOfAll } from '../domain/cluster.ts';
import { limitConflicts } from '../domain/conflicts.ts';
import { limitsOf, type NodeLimits } from '../domain/evaluate.ts';
import { coolingLeftSeconds } from '../domain/interlock.ts';
import type { GpuProcess } from '../domain/lease.ts';
import { isLive } from '../domain/lease-places.ts';
import { readNode } from '../domain/node-readings.ts';
import { parseReading, type RawReading, type Reading, unitOf } from '../domain/reading.ts';
import type { InterlockState, InterlockView } from '../domain/result.ts';
import { settingsOf } from '../domain/settings.ts';
import type { NodeState, SafetyState } from '../domain/state.ts';
import type { SourceWatch } from '../domain/tracking.ts';
import type { HistoryHealth } from '../history/history.ts';
import type { NotifyStatus } from '../notify/target.ts';
import type { Caller } from './access.ts';
import { commissionStatusOf } from './commission-view.ts';
import { interlockOf, interlockOfNode } from './estop-view.ts';
import { gpuStatusesOf } from './gpu-view.ts';
import { historyStatusOf } from './history-view.ts';
import { leaseView } from './lease-view.ts';
import type { CommissionReport, JournalView, SecurityView } from './parts.ts';
import type {
  ClusterStatusSchema,
  NodeStatusSchema,
  ReadingStatusSchema,
  SourceStatusSchema,
  StatusSchema,
  Told,
} from './schemas.ts';

export type Status = Told<typeof StatusSchema>;
export type NodeStatus = Told<typeof NodeStatusSchema>;
export type ReadingStatus = Told<typeof ReadingStatusSchema>;

/** What is told beside the state. */
export interface About {
  readonly version: string;
  readonly lastTickTookMs: number | null;
  readonly effectiveFastIntervalMs: number;
  readonly journal: JournalView;
  /** The cluster whose workloads are stopped; left out where none is configured. */
  readonly cluster?: ClusterDetails;
  /** `null` or left out: none is kept. */
  readonly history?: HistoryHealth | null;
  /** The last commissioning report; `null` or left out: there is none. */
  readonly commission?: CommissionReport | null;
  /** What computes on this machine's GPUs; left out where nobody looks. */
  readonly gpuProcesses?: readonly GpuProcess[];
  /** How telling the webhooks goes; left out where none is configured. */
  readonly notify?: readonly NotifyStatus[];
  /** How certificate, tokens and audit stand; left out where nobody looks after them. */
  readonly security?: SecurityView;
  /** The asker may see what an exporter's error says: it may hold secrets. */
  readonly isOperator: boolean;
  /** Who asks; left out where nobody does. */
  readonly caller?: Caller;
}

/** Nodes that are told of before other work may run: some 5 ms of it, where each has eight cards. */
const SLICE = 5;

type NodeParts = Pick<Status, 'nodes' | 'unprotected' | 'sources'>;

/** The whole status; `nodes` narrows it to some of them. */
export function statusOf(state: SafetyState, now: Now, about: About, nodes: readonly string[] | null = null): Status {
  const shown = shownNodes(state, nodes);
  const interlock = interlockOf(state);
  const parts = shown.map((node) => partsOf(state, node, now, about, interlock));
  return {
    ...frameOf(state, now, about, nodes, { ...interlock, nodes: Object.fromEntries(parts.flatMap(interlocksIn)) }),
    nodes: parts.flatMap((part) => part.nodes),
    unprotected: [...unprotectedOfAll(state), ...parts.flatMap((part) => part.unprotected)],
    sources: parts.flatMap((part) => part.sources),
  };
}

/** As `statusOf`, in JSON and a few nodes at a time: a thousand at once would hold everything else up for a second. */
export async function statusText(
  state: SafetyState,
  now: Now,
  about: About,
  nodes: readonly string[] | null,
  pause: () => Promise<unknown>,
): Promise<string> {
  const shown = shownNodes(state, nodes);
  const interlock = interlockOf(state);
  const inJson = (items: readonly unknown[]): string[] => items.map((item) => JSON.stringify(item));
  const texts: Record<keyof NodeParts, string[]> = {
    nodes: [],
    unprotected: inJson(unprotectedOfAll(state)),
    sources: [],
  };
  const interlocks: (readonly [string, InterlockState])[] = [];
  for (const [index, node] of shown.entries()) {
    if (index > 0 && index % SLICE === 0) await pause();
    const parts = partsOf(state, node, now, about, interlock);
    interlocks.push(...interlocksIn(parts));
    texts.nodes.push(...inJson(parts.nodes));
    texts.unprotected.push(...inJson(parts.unprotected));
    texts.sources.push(...inJson(parts.sources));
  }
  const lists = Object.entries(texts).map(([name, items]) => `,"${name}":[${items.join(',')}]`);
  const frame = frameOf(state, now, about, nodes, { ...interlock, nodes: Object.fromEntries(interlocks) });
  return `${JSON.stringify(frame).slice(0, -1)}${lists.join('')}}`;
}

function shownNodes(state: SafetyState, nodes: readonly string[] | null): readonly NodeState[] {
  const asked = nodes && new Set(nodes);
  return [...state.nodes.values()].filter(({ watch }) => !asked || asked.has(watch.node));
}

/** What is told of one node. */
function partsOf(
  state: SafetyState,
  node: NodeState,
  now: Now,
  { isOperator }: About,
  interlock: InterlockView,
): NodeParts {
  const { watch } = node;
  return {
    nodes: [nodeStatusOf(state, node, now, interlock)],
    unprotected: [...node.unprotected],
    sources: [...watch.sources.values()].map((source) => sourceStatusOf(watch.node, source, now, isOperator)),
  };
}

const interlocksIn = ({ nodes }: NodeParts) => nodes.map((view) => [view.node, view.interlock] as const);

/** Everything that is not told node by node. */
function frameOf(
  state: SafetyState,
  now: Now,
  about: About,
  nodes: readonly string[] | null,
  interlock: InterlockView,
): Omit<Status, keyof NodeParts> {
  const { settings } = state;
  const ageSeconds = (atMs: number | null): number | null => (atMs === null ? null : secondsSince(atMs, now));
  return {
    service: 'vsf-safety',
    version: about.version,
    instance: settings.instance,
    at: new Date(now.wallMs).toISOString(),
    uptimeSeconds: secondsSince(state.startedAtMs, now),
    simulated: settings.simulated,
    leadership: leadershipOf(state),
    interlock,
    lastResult: state.lastResult,
    evaluation: {
      intervalSeconds: settings.intervalMs / 1000,
      fastIntervalSeconds: settings.fastIntervalMs / 1000,
      effectiveFastIntervalSeconds: about.effectiveFastIntervalMs / 1000,
      lastTickAgeSeconds: ageSeconds(state.lastTickAtMs),
      lastTickTookSeconds: about.lastTickTookMs === null ? null : about.lastTickTookMs / 1000,
      lastEvaluationAgeSeconds: ageSeconds(state.lastEvaluationAtMs),
    },
    constraints: {
      digest: state.constraintsDigest,
      profile: settings.defaults.profile,
      limits: settings.defaults.constraints,
    },
    conflicts: limitConflicts(state, nodes),
    leases: [...state.leases.values()].map((lease) => leaseView(lease, now)),
    unleased: unleasedOf(state, about.gpuProcesses ?? [], nodes),
    discovery: { problems: [...state.finders.problems], unread: [...state.finders.unread] },
    actuators: Object.fromEntries(state.actuators),
    ...(state.cluster && about.cluster && { cluster: clusterStatusOf(state.cluster, about.cluster) }),
    notify: [...(about.notify ?? [])],
    journal: {
      ok: state.journal.ok && about.journal.ok,
      detail: about.journal.ok || !state.journal.ok ? state.journal.detail : journalDetail(about.journal),
      lastError: about.journal.lastError,
      sizeBytes: about.journal.sizeBytes,
      pending: about.journal.pending,
    },
    history: historyStatusOf(about.history ?? null),
    commission: about.commission ? commissionStatusOf(state, about.commission) : null,
    ...(about.caller && { caller: about.caller }),
    ...(about.security && { security: about.security }),
  };
}

/** Who grants, resets and restores. */
export function leadershipOf({ cluster }: SafetyState): Status['leadership'] {
  if (!cluster) return { mode: 'single', leader: true };
  const { leadership } = cluster;
  const { state, identity } = leadership;
  const own = { mode: 'cluster', leader: state === 'leader', state, identity } as const;
  if (leadership.state === 'unknown') return { ...own, holder: null, detail: leadership.detail };
  return { ...own, holder: leadership.state === 'leader' ? identity : leadership.leader };
}

function clusterStatusOf(
  { isLatchKnown, latchFailure, areLeasesKnown, denyRule }: ClusterState,
  { leasesFailure, ...facts }: ClusterDetails,
): Told<typeof ClusterStatusSchema> {
  return {
    ...facts,
    latch: { known: isLatchKnown, failure: latchFailure },
    denyRule,
    leases: { known: areLeasesKnown, failure: leasesFailure },
  };
}

/** One node: how it stands, by which limits, and everything that is read of it. */
export function nodeStatusOf(
  state: SafetyState,
  node: NodeState,
  now: Now,
  interlock: InterlockView = interlockOf(state),
): NodeStatus {
  const name = node.watch.node;
  const settings = settingsOf(state.settings, name);
  return {
    node: name,
    interlock: interlockOfNode(interlock, state, name),
    coolingSeconds: node.cooling && coolingLeftSeconds(node.cooling, now.elapsedMs, state.settings.intervalMs),
    live: isLive(state, name),
    profile: settings.profile,
    staleAfterSeconds: settings.staleAfterMs / 1000,
    constraints: node.limits.constraints,
    findings: node.findings,
    readings: readingStatusesOf(state, node, now),
    gpus: gpuStatusesOf(node, settings),
    unprotected: node.unprotected,
  };
}

/** Every reading of a node as a running workload is judged by it, then those that are only shown. */
export function readingStatusesOf(state: SafetyState, node: NodeState, now: Now): ReadingStatus[] {
  const options = { purpose: 'running', nowMs: now.elapsedMs, staleBeforeMs: state.staleBeforeMs } as const;
  const { readings } = readNode(node.watch, settingsOf(state.settings, node.watch.node), options);
  return [
    ...readings.map((reading) => readingStatusOf(reading, node.limits, now)),
    ...[...node.watch.sources.values()].flatMap((source) => informationalOf(source, now)),
  ];
}

function readingStatusOf(reading: Reading, limits: NodeLimits, now: Now): ReadingStatus {
  const { component, id, quantity, state } = reading;
  const own = limitsOf(reading, limits);
  const what = {
    component,
    ...(id !== undefined && { id }),
    quantity,
    unit: unitOf(quantity),
    ...(own && { limits: own }),
  };
  if (state.kind === 'missing') {
    const { cause, detail, required, waived } = state;
    return { ...what, missing: cause, detail, required, waived };
  }
  return {
    ...what,
    value: state.value,
    ageSeconds: secondsSince(state.atMs, now),
    source: state.source,
    origin: state.origin,
    ...(state.estimated && { estimated: true }),
    ...(state.secondLook === 'awaiting' && { awaitingSecondSample: true }),
  };
}

/**
 * What a source shows beside what is judged. An impossible number is shown as invalid, since somebody may wonder at it;
 * only a 0 is how many drivers say that they do not measure it.
 */
function informationalOf(source: SourceWatch, now: Now): ReadingStatus[] {
  const answer = source.lastAnswer;
  if (!answer) return [];
  return answer.readings.flatMap((raw: RawReading) => {
    if (!raw.informational || raw.value === null) return [];
    const parsed = parseReading(raw.quantity, raw.value);
    if (!parsed.ok && raw.value === 0) return [];
    return {
      component: raw.component,
      ...(raw.id !== undefined && { id: raw.id }),
      quantity: raw.quantity,
      unit: unitOf(raw.quantity),
      ...(parsed.ok
        ? { value: parsed.value }
        : { missing: 'invalid' as const, detail: parsed.detail, required: false, waived: false }),
      ageSeconds: secondsSince(raw.sampledAtMs ?? answer.startedAtMs, now),
      source: source.source,
      origin: raw.origin,
      informational: true,
    };
  });
}

function sourceStatusOf(
  node: string,
  source: SourceWatch,
  now: Now,
  isOperator: boolean,
): Told<typeof SourceStatusSchema> {
  const { failure, lastAnswer, updatePeriodMs } = source;
  const valid = [...source.tracks.values()].filter((track) => track.state.kind === 'valid' && track.hasValue);
  const oldestMs = valid.length === 0 ? null : Math.min(...valid.map(({ atMs }) => atMs));
  return {
    node,
    source: source.source,
    up: failure === null,
    lastSuccessAgeSeconds: lastAnswer ? secondsSince(lastAnswer.finishedAtMs, now) : null,
    failure: failure && {
      cause: failure.cause,
      detail: failure.detail,
      seconds: secondsSince(failure.sinceMs, now),
    },
    updatePeriodSeconds: updatePeriodMs === null ? null : updatePeriodMs / 1000,
    witnesses: [...source.witnesses].map(([gpu, { name, changedAtMs, everChanged, disqualified }]) => ({
      name,
      ...(gpu !== '' && { gpu }),
      changedAgeSeconds: everChanged ? secondsSince(changedAtMs, now) : null,
      counts: !disqualified,
    })),
    oldestReadingAgeSeconds: oldestMs === null ? null : secondsSince(oldestMs, now),
    scrape: scrapeStatusOf(source, isOperator),
    notes: source.lastReport.notes,
  };
}

function scrapeStatusOf(
  { lastReport, rejectedLines }: SourceWatch,
  isOperator: boolean,
): Told<typeof SourceStatusSchema>['scrape'] {
  const { scrape, outcome } = lastReport;
  if (!scrape) return null;
  const { url, tookMs, bytes, samples, sourceWallAheadMs, rejected } = scrape;
  const excerpt = outcome.kind === 'failed' ? outcome.excerpt : undefined;
  return {
    url,
    latencySeconds: Math.round(tookMs) / 1000,
    bytes,
    samples,
    rejectedLines,
    clockAheadSeconds: sourceWallAheadMs === null ? null : Math.round(sourceWallAheadMs) / 1000,
    ...(isOperator && rejected.length > 0 && { rejected: [...rejected] }),
    ...(isOperator && excerpt !== undefined && { excerpt }),
  };
}

/** Workloads, and processes on GPUs, that run here and that no live lease accounts for. */
export function unleasedOf(
  state: SafetyState,
  gpuProcesses: readonly GpuProcess[],
  nodes: readonly string[] | null,
): Status['unleased'] {
  const isShown = ({ node, leaseId }: { readonly node: string | null; readonly leaseId?: string | null }): boolean =>
    (!nodes || (node !== null && nodes.includes(node))) && (leaseId == null || !state.leases.has(leaseId));
  return [
    ...state.inventory.workloads.filter(isShown).map(({ kind, node, name }) => ({
      kind,
      ...(node !== null && { node }),
      name,
    })),
    ...gpuProcesses.filter(isShown).map(({ node, pid, program, gpu, memoryMiB }) => ({
      kind: 'gpu-process' as const,
      node,
      name: `pid ${pid} ${program}`,
      gpu,
      ...(memoryMiB !== null && { memoryMiB }),
    })),
  ];
}

/** Whole milliseconds are enough; never negative, since a source may look while the state is read. */
function secondsSince(atMs: number, now: Now): number {
  return Math.max(0, Math.round(now.elapsedMs - atMs) / 1000);
}

/** Why a journal fails that has not reported it yet. */
const journalDetail = ({ lastError }: JournalView): string => lastError?.detail ?? 'a write is overdue';
