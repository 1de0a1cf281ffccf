// The state as Prometheus metrics. Every scrape gets a registry of its own, filled from the state of that moment: a GPU
// that is gone leaves no last value behind, two scrapes at once never share a half-filled gauge, and two apps in one
// process never meet. Only what is counted since the start lives on between scrapes. No label is ever a pod's name.
import { Counter, Gauge, type OpenMetricsContentType, type PrometheusContentType, Registry } from 'prom-client';
import type { Now } from '../clock.ts';
import { EVENT_NAMES, type EventName, type Message } from '../domain/events.ts';
import { ACTIONS, type Action, FINDING_CODES } from '../domain/result.ts';
import type { SafetyState } from '../domain/state.ts';
import { interlockOf, interlockOfNode } from './estop-view.ts';
import { readingStatusesOf } from './status-view.ts';

export const TEXT_TYPE: PrometheusContentType = Registry.PROMETHEUS_CONTENT_TYPE;
export const OPENMETRICS_TYPE: OpenMetricsContentType = Registry.OPENMETRICS_CONTENT_TYPE;
export type MetricsType = PrometheusContentType | OpenMetricsContentType;

/** Nodes told in one go, some 30 ms of the loop with eight GPUs each; then other requests get their turn. */
const SLICE = 50;
const READING_LABELS = ['node', 'component', 'id', 'quantity'] as const;
const INTERLOCK_STATES = ['clear', 'cooling', 'tripped'] as const;

/** What happened since the start. */
export class Tally {
  readonly events = new Map<EventName, number>(EVENT_NAMES.map((name) => [name, 0]));
  readonly evaluations = new Map<Action, number>(ACTIONS.map((action) => [action, 0]));

  /** Takes one published message. */
  count(message: Message): void {
    if (message.type === 'event') this.events.set(message.data.name, (this.events.get(message.data.name) ?? 0) + 1);
    else this.evaluations.set(message.data.action, (this.evaluations.get(message.data.action) ?? 0) + 1);
  }
}

/** What is told beside the state. */
export interface MetricsContext {
  readonly now: Now;
  readonly version: string;
  readonly lastTickTookMs: number | null;
  readonly journalOk: boolean;
  readonly webSocketClients: number;
  readonly tally: Tally;
  /** Rights that a stop needs and this service lacks; `null` where no cluster is configured. */
  readonly missingRights: number | null;
  /** Lets other work run. */
  readonly pause: () => Promise<void>;
}

/** All metrics as text of the type asked for. */
export async function metricsText(state: SafetyState, context: MetricsContext, type: MetricsType): Promise<string> {
  const registry = new Registry<MetricsType>();
  registry.setContentType(type);
  const gauge = <Label extends string>(name: string, help: string, labelNames: readonly Label[]): Gauge<Label> =>
    new Gauge({ name: `vsf_safety_${name}`, help, labelNames, registers: [registry] });
  const single = (name: string, help: string, value: number | null): void => {
    if (value !== null) gauge(name, help, []).set(value);
  };
  const counter = <Label extends string>(name: string, help: string, labelNames: readonly Label[]): Counter<Label> =>
    new Counter({ name: `vsf_safety_${name}`, help, labelNames, registers: [registry] });
  const { now, tally } = context;
  const since = (atMs: number | null): number | null =>
    atMs === null ? null : Math.max(0, now.elapsedMs - atMs) / 1000;

  gauge('build_info', 'Version of the service, always 1', ['version']).set({ version: context.version }, 1);
  single('uptime_seconds', 'Since this process started', since(state.startedAtMs));
  single('simulated', '1 when the readings come from a simulated rig', state.settings.simulated ? 1 : 0);
  single('interval_seconds', 'Configured time between ticks', state.settings.intervalMs / 1000);
  single('tick_age_seconds', 'Since the last tick was evaluated; absent before the first', since(state.lastTickAtMs));
  single('evaluation_age_seconds', 'Since the last evaluation of any kind', since(state.lastEvaluationAtMs));
  const tookSeconds = context.lastTickTookMs === null ? null : context.lastTickTookMs / 1000;
  single('tick_duration_seconds', 'From the start of the last tick to its result', tookSeconds);
  single('journal_ok', '1 while the journal can be written', context.journalOk ? 1 : 0);
  single('leases', 'Live leases', state.leases.size);
  const reduced = [...state.leases.values()].filter((lease) => lease.reducedUntilMs !== null).length;
  single('leases_reduced', 'Live leases that are cut to half', reduced);
  single('websocket_clients', 'Connected WebSocket clients', context.webSocketClients);
  single('epoch', 'Rises with every reset', state.epoch);

  const action = gauge('action', '1 for the action of the last published evaluation', ['action']);
  for (const name of ACTIONS) action.set({ action: name }, state.publishedAction === name ? 1 : 0);
  const findings = gauge('findings', 'Findings of the last published evaluation, by code', ['code']);
  for (const code of FINDING_CODES) {
    findings.set({ code }, state.lastResult?.findings.filter((finding) => finding.code === code).length ?? 0);
  }
  fillInterlock(state, gauge);
  await fillReadings(state, context, gauge);
  fillSources(state, now, gauge, counter);
  const available = gauge('actuator_available', '1 while the actuator can stop workloads', ['actuator']);
  for (const [name, actuator] of state.actuators) available.set({ actuator: name }, actuator.available ? 1 : 0);

  if (state.cluster) {
    const { leadership, isLatchKnown } = state.cluster;
    single('leader', '1 while this process leads its cluster', leadership.state === 'leader' ? 1 : 0);
    single('cluster_latch_known', '1 once the cluster’s latch has been read', isLatchKnown ? 1 : 0);
    single('missing_rights', 'Rights that a stop of the cluster needs and that are missing', context.missingRights);
  }

  counter('trips_total', 'Emergency stops since the start', []).inc(tally.events.get('tripped') ?? 0);
  const events = counter('events_total', 'Events since the start, by name', ['name']);
  for (const [name, count] of tally.events) events.inc({ name }, count);
  const evaluations = counter('evaluations_total', 'Published evaluations since the start, by action', ['action']);
  for (const [name, count] of tally.evaluations) evaluations.inc({ action: name }, count);
  return registry.metrics();
}

type MakeCounter = <Label extends string>(name: string, help: string, labelNames: readonly Label[]) => Counter<Label>;
type MakeGauge = <Label extends string>(name: string, help: string, labelNames: readonly Label[]) => Gauge<Label>;

function fillInterlock(state: SafetyState, gauge: MakeGauge): void {
  const interlock = interlockOf(state);
  const whole = gauge('interlock', '1 for the state of the interlock over all nodes', ['state']);
  const perNode = gauge('node_interlock', '1 for the state of the interlock of the node', ['node', 'state']);
  for (const name of INTERLOCK_STATES) {
    whole.set({ state: name }, interlock.state === name ? 1 : 0);
    for (const node of state.nodes.keys()) {
      perNode.set({ node, state: name }, interlockOfNode(interlock, state, node) === name ? 1 : 0);
    }
  }
}

async function fillReadings(state: SafetyState, { now, pause }: MetricsContext, gauge: MakeGauge): Promise<void> {
  const value = gauge('reading', 'Reading as it is judged: °C, W, or a share from 0 to 1', READING_LABELS);
  const age = gauge('reading_age_seconds', 'Since the sample was taken', READING_LABELS);
  const limit = gauge('reading_limit', 'Limit in force for the reading', [...READING_LABELS, 'limit']);
  const missing = gauge('reading_missing', '1 for a required reading that is not there', [...READING_LABELS, 'cause']);
  let told = 0;
  for (const node of state.nodes.values()) {
    if (told > 0 && told % SLICE === 0) await pause();
    told += 1;
    for (const reading of readingStatusesOf(state, node, now)) {
      if (reading.informational) continue;
      const { component, id = '', quantity } = reading;
      const labels = { node: node.watch.node, component, id, quantity };
      if (reading.missing !== undefined && reading.required) missing.set({ ...labels, cause: reading.missing }, 1);
      if (reading.value === undefined) continue;
      value.set(labels, reading.value);
      age.set(labels, reading.ageSeconds ?? 0);
      for (const [name, at] of Object.entries(reading.limits ?? {}))
        limit.set({ ...labels, limit: LIMIT_NAMES[name] ?? name }, at);
    }
  }
}

const LIMIT_NAMES: Readonly<Record<string, string>> = { warning: 'warning', hardStop: 'hard-stop', max: 'maximum' };

function fillSources(state: SafetyState, now: Now, gauge: MakeGauge, counter: MakeCounter): void {
  const up = gauge('source_up', '1 while the source answers', ['node', 'source']);
  const age = gauge('source_age_seconds', 'Since the source last answered', ['node', 'source']);
  const latency = gauge('source_latency_seconds', 'Of the last scrape of a source over the network', [
    'node',
    'source',
  ]);
  const rejected = counter(
    'source_rejected_lines_total',
    'Lines of series that are read and that could not be, since the start',
    ['node', 'source'],
  );
  for (const { watch } of state.nodes.values()) {
    for (const source of watch.sources.values()) {
      const labels = { node: watch.node, source: source.source };
      up.set(labels, source.failure ? 0 : 1);
      const { scrape } = source.lastReport;
      if (scrape) latency.set(labels, scrape.tookMs / 1000);
      if (scrape || source.rejectedLines > 0) rejected.inc(labels, source.rejectedLines);
      if (source.lastAnswer) age.set(labels, Math.max(0, now.elapsedMs - source.lastAnswer.finishedAtMs) / 1000);
    }
  }
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
