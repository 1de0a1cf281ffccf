// The state as Prometheus metrics. Every scrape is told anew from the state of that moment: a GPU that is gone leaves no
// last value behind, two scrapes at once never share a half-filled gauge, and two apps in one process never meet. Only
// what is counted since the start lives on between scrapes. What each metric means is metric-catalogue.ts; no label is
// ever a pod's name.
import type { Now } from '../clock.ts';
import { CONFLICT_CODES, limitConflicts } from '../domain/conflicts.ts';
import { EVENT_NAMES, type EventName, type Message } from '../domain/events.ts';
import { type GpuProcess, LEASE_OUTCOMES, type LeaseOutcome } from '../domain/lease.ts';
import { ACTIONS, type Action, FINDING_CODES } from '../domain/result.ts';
import type { SafetyState } from '../domain/state.ts';
import type { HistoryHealth } from '../history/history.ts';
import type { NotifyStatus } from '../notify/target.ts';
import { interlockOf } from './estop-view.ts';
import { tellNodes } from './metrics-nodes.ts';
import type { JournalView, SecurityView } from './parts.ts';
import { type MetricsType, OPENMETRICS_TYPE, ScrapeRegistry, TEXT_TYPE } from './scrape-registry.ts';
import { unleasedOf } from './status-view.ts';

export { type MetricsType, OPENMETRICS_TYPE, TEXT_TYPE } from './scrape-registry.ts';

const INTERLOCK_STATES = ['clear', 'cooling', 'tripped'] as const;
const STOP_STATES = ['stopping', 'verified', 'unverified'] as const;
const UNLEASED_KINDS = ['pod', 'process-group', 'gpu-process'] as const;

/** What happened since the start. */
export class Tally {
  readonly events = new Map<EventName, number>(EVENT_NAMES.map((name) => [name, 0]));
  readonly evaluations = new Map<Action, number>(ACTIONS.map((action) => [action, 0]));
  readonly endedLeases = new Map<LeaseOutcome, number>(LEASE_OUTCOMES.map((outcome) => [outcome, 0]));

  /** Takes one published message. */
  count({ type, data }: Message): void {
    if (type === 'evaluation') add(this.evaluations, data.action);
    else add(this.events, data.name);
    if (type === 'event' && data.name === 'lease-ended' && data.outcome) add(this.endedLeases, data.outcome);
  }
}

function add<Key>(counts: Map<Key, number>, key: Key): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}

/** What the operating system says of this process. */
export interface ProcessFigures {
  /** Unix time; the same at every scrape, or it would look like a restart. */
  readonly startedAtSeconds: number;
  readonly cpuSeconds: number;
  readonly residentBytes: number;
}

/** What is told beside the state. */
export interface MetricsContext {
  readonly now: Now;
  readonly version: string;
  readonly leadership: { readonly mode: string; readonly leader: boolean };
  readonly lastTickTookMs: number | null;
  readonly effectiveFastIntervalMs: number;
  readonly journal: JournalView;
  /** `null`: none is kept. */
  readonly history: HistoryHealth | null;
  readonly gpuProcesses: readonly GpuProcess[];
  readonly notify: readonly NotifyStatus[];
  /** `null`: nobody looks after it. */
  readonly security: SecurityView | null;
  readonly webSocketClients: number;
  readonly process: ProcessFigures;
  readonly tally: Tally;
  /** Rights that a stop needs and this service lacks; `null` where no cluster is configured. */
  readonly missingRights: number | null;
  /** Lets other work run. */
  readonly pause: () => Promise<void>;
}

/** All metrics as text of the type asked for, in UTF-8. */
export async function metricsText(state: SafetyState, context: MetricsContext, type: MetricsType): Promise<Buffer> {
  const out = new ScrapeRegistry(type);
  tellService(out, state, context);
  tellInterlock(out, state);
  tellCounts(out, context);
  await tellNodes(out, state, context);
  return out.text();
}

function tellService(out: ScrapeRegistry, state: SafetyState, context: MetricsContext): void {
  const { now, journal, leadership } = context;
  const { settings, finders, leases } = state;
  const since = (atMs: number | null): number | null =>
    atMs === null ? null : Math.max(0, now.elapsedMs - atMs) / 1000;

  out.tell('vsf_safety_build_info', { version: context.version }, 1);
  out.tell('vsf_safety_uptime_seconds', {}, since(state.startedAtMs));
  out.tell('vsf_safety_simulated', {}, settings.simulated ? 1 : 0);
  const { profile } = settings.defaults;
  out.tell('vsf_safety_constraints_info', { profile, digest: state.constraintsDigest }, 1);
  out.tell('vsf_safety_leader', { mode: leadership.mode }, leadership.leader ? 1 : 0);
  out.tell('vsf_safety_interval_seconds', {}, settings.intervalMs / 1000);
  out.tell('vsf_safety_fast_interval_seconds', {}, context.effectiveFastIntervalMs / 1000);
  out.tell('vsf_safety_tick_age_seconds', {}, since(state.lastTickAtMs));
  out.tell('vsf_safety_evaluation_age_seconds', {}, since(state.lastEvaluationAtMs));
  const tookMs = context.lastTickTookMs;
  out.tell('vsf_safety_tick_duration_seconds', {}, tookMs === null ? null : tookMs / 1000);

  for (const name of ACTIONS) {
    out.tell('vsf_safety_action', { action: name }, state.publishedAction === name ? 1 : 0);
  }
  for (const code of FINDING_CODES) {
    const count = state.lastResult?.findings.filter((finding) => finding.code === code).length ?? 0;
    out.tell('vsf_safety_findings', { code }, count);
  }

  if (state.cluster) {
    out.tell('vsf_safety_cluster_latch_known', {}, state.cluster.isLatchKnown ? 1 : 0);
    out.tell('vsf_safety_missing_rights', {}, context.missingRights);
  }

  out.tell('vsf_safety_leases', {}, leases.size);
  const live = [...leases.values()];
  out.tell('vsf_safety_leases_reduced', {}, live.filter((lease) => lease.reducedUntilMs !== null).length);
  out.tell('vsf_safety_leases_not_obeying', {}, live.filter((lease) => lease.told.notObeyed).length);
  const unleased = unleasedOf(state, context.gpuProcesses, null);
  for (const kind of UNLEASED_KINDS) {
    out.tell('vsf_safety_unleased', { kind }, unleased.filter((one) => one.kind === kind).length);
  }
  for (const [actuator, { available }] of state.actuators) {
    out.tell('vsf_safety_actuator_available', { actuator }, available ? 1 : 0);
  }

  out.tell('vsf_safety_journal_ok', {}, state.journal.ok && journal.ok ? 1 : 0);
  out.tell('vsf_safety_journal_pending', {}, journal.pending);
  out.tell('vsf_safety_journal_size_bytes', {}, journal.sizeBytes);
  if (context.history) {
    out.tell('vsf_safety_history_ok', {}, context.history.state === 'ok' ? 1 : 0);
    out.tell('vsf_safety_history_size_bytes', {}, context.history.sizeBytes);
    out.tell('vsf_safety_history_lost_total', {}, context.history.lost);
  }
  if (context.security) {
    const { certificate, tokens, audit } = context.security;
    for (const [part, stands] of Object.entries({ certificate, tokens, audit })) {
      if (stands) out.tell('vsf_safety_access_ok', { part }, stands.ok ? 1 : 0);
    }
    if (certificate) {
      out.tell('vsf_safety_certificate_not_after_seconds', {}, Date.parse(certificate.notAfter) / 1000);
    }
  }
  out.tell('vsf_safety_websocket_clients', {}, context.webSocketClients);
  out.tell('vsf_safety_discovery_problems', {}, finders.problems.length);
  out.tell('vsf_safety_discovery_unread_lists', {}, finders.unread.length);
  const conflicts = limitConflicts(state);
  for (const code of CONFLICT_CODES) {
    out.tell('vsf_safety_limit_conflicts', { code }, conflicts.filter((conflict) => conflict.code === code).length);
  }
}

function tellInterlock(out: ScrapeRegistry, state: SafetyState): void {
  const interlock = interlockOf(state);
  for (const name of INTERLOCK_STATES) {
    out.tell('vsf_safety_interlock', { state: name }, interlock.state === name ? 1 : 0);
  }
  const trips = [...state.trips.values()];
  for (const name of STOP_STATES) {
    out.tell('vsf_safety_stops', { state: name }, trips.filter(({ report }) => report.state === name).length);
  }
  const oldestMs = trips.length === 0 ? null : Math.min(...trips.map(({ sinceWallMs }) => sinceWallMs));
  out.tell('vsf_safety_trip_start_time_seconds', {}, oldestMs === null ? null : oldestMs / 1000);
  const loaded = trips.reduce((sum, { report }) => sum + report.stillLoaded.length, 0);
  out.tell('vsf_safety_still_loaded_gpus', {}, loaded);
  out.tell('vsf_safety_epoch', {}, state.epoch);
}

function tellCounts(out: ScrapeRegistry, context: MetricsContext): void {
  const { tally, process } = context;
  out.tell('vsf_safety_trips_total', {}, tally.events.get('tripped') ?? 0);
  for (const [name, count] of tally.events) out.tell('vsf_safety_events_total', { name }, count);
  for (const [action, count] of tally.evaluations) out.tell('vsf_safety_evaluations_total', { action }, count);
  for (const [outcome, count] of tally.endedLeases) out.tell('vsf_safety_leases_ended_total', { outcome }, count);
  for (const { target, ok, pending, sent, failed, dropped } of context.notify) {
    out.tell('vsf_safety_notify_ok', { target }, ok ? 1 : 0);
    out.tell('vsf_safety_notify_pending', { target }, pending);
    out.tell('vsf_safety_notify_sent_total', { target }, sent);
    out.tell('vsf_safety_notify_failed_total', { target }, failed);
    out.tell('vsf_safety_notify_dropped_total', { target }, dropped);
  }
  out.tell('process_start_time_seconds', {}, process.startedAtSeconds);
  out.tell('process_cpu_seconds_total', {}, process.cpuSeconds);
  out.tell('process_resident_memory_bytes', {}, process.residentBytes);
}

/**
 * The type that a scraper prefers: OpenMetrics where it is named with at least the weight of plain text, as Prometheus
 * does. Only version 1.0.0 is spoken.
 */
export function negotiateMetrics(accept: string | undefined): MetricsType {
  let openMetrics = 0;
  let text = 0;
  for (const part of (accept ?? '').toLowerCase().split(',')) {
    const [media = '', ...params] = part.split(';').map((piece) => piece.trim());
    const param = (name: string): string | undefined =>
      params
        .find((piece) => piece.startsWith(`${name}=`))
        ?.slice(name.length + 1)
        .replace(/^"|"$/g, '');
    const q = Number(param('q') ?? 1);
    const weight = Number.isFinite(q) ? q : 0;
    if (media === 'application/openmetrics-text') {
      const version = param('version');
      if (version === undefined || version === '1.0.0') openMetrics = Math.max(openMetrics, weight);
    } else if (['text/plain', 'text/*', '*/*'].includes(media)) text = Math.max(text, weight);
  }
  return openMetrics > 0 && openMetrics >= text ? OPENMETRICS_TYPE : TEXT_TYPE;
}
