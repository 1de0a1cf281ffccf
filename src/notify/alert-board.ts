// The Alertmanager form: not a list of what happened but what stands now, told again every minute, as Prometheus does,
// since Alertmanager takes an alert that nobody repeats for over. Made of the state, so that a trip from before a restart
// is told, too, and that after an outage of the receiver it gets what is true then. What no longer stands is told once
// as ended.
import type { Now } from '../clock.ts';
import type { EventName, Message } from '../domain/events.ts';
import { firstFew } from '../domain/first-few.ts';
import type { Trip } from '../domain/interlock.ts';
import type { SafetyState } from '../domain/state.ts';
import type { Delivery, Outbox } from './outbox.ts';

const REPEAT_MS = 60_000;
/** Four repetitions that do not arrive end an alert, as with Prometheus: then this service is gone, or cut off. */
const VALID_MS = 4 * REPEAT_MS;
/** Of one request, trips first; 512 KiB, and Alertmanager's own page shows no more. */
export const MOST_ALERTS = 1_000;
/** These can change what stands. */
const CHANGES: readonly EventName[] = [
  'tripped',
  'stop-verified',
  'stop-unverified',
  'reset',
  'cooling-started',
  'cooling-ended',
];

interface Alert {
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly startsAtMs: number;
}

export class AlertBoard implements Outbox {
  readonly #events: ReadonlySet<EventName>;
  /** What stands as it was told last, and what ended and has not been told yet; by their labels. */
  #standing = new Map<string, Alert>();
  readonly #ended = new Map<string, Alert & { readonly endedAtMs: number }>();
  #sentEnded: readonly string[] = [];
  #changes = 1;
  #toldChanges = 0;
  #sentChanges = 0;
  #repeatAtMs: number | null = null;
  #dropped = 0;
  #sends = 0;

  constructor(events: ReadonlySet<EventName>) {
    this.#events = events;
  }

  get pending(): number {
    return this.#changes - this.#toldChanges;
  }

  get dropped(): number {
    return this.#dropped;
  }

  take({ type, data }: Message): 'urgent' | 'noted' | 'ignored' {
    if (type !== 'event' || !CHANGES.includes(data.name)) return 'ignored';
    this.#changes += 1;
    return data.name === 'tripped' ? 'urgent' : 'noted';
  }

  due({ elapsedMs, wallMs }: Now, state: SafetyState): Delivery | null {
    const isChanged = this.#changes !== this.#toldChanges;
    if (!isChanged && (this.#repeatAtMs === null || elapsedMs < this.#repeatAtMs)) return null;
    this.#look(state, wallMs);
    this.#sentChanges = this.#changes;
    if (this.#standing.size + this.#ended.size === 0) {
      this.#toldChanges = this.#changes;
      this.#repeatAtMs = null;
      return null;
    }
    this.#sentEnded = [...this.#ended.keys()];
    const alerts = [
      ...[...this.#standing.values()].map((alert) => written(alert, wallMs + VALID_MS)),
      ...[...this.#ended.values()].map((alert) => written(alert, alert.endedAtMs)),
    ];
    this.#sends += 1;
    return { id: `${state.settings.instance}-alerts-${this.#sends}`, body: JSON.stringify(alerts) };
  }

  nextDueMs(): number | null {
    return this.#repeatAtMs;
  }

  settle(_delivery: Delivery, outcome: 'taken' | 'refused', { elapsedMs }: Now): void {
    for (const key of this.#sentEnded) this.#ended.delete(key);
    if (outcome === 'refused') this.#dropped += 1;
    this.#toldChanges = this.#sentChanges;
    this.#repeatAtMs = this.#standing.size > 0 ? elapsedMs + REPEAT_MS : null;
  }

  #look(state: SafetyState, wallMs: number): void {
    const standing = new Map<string, Alert>();
    for (const { labels, annotations, startsAtMs } of alertsOf(state, this.#events)) {
      const key = JSON.stringify(labels);
      const since = startsAtMs ?? this.#standing.get(key)?.startsAtMs ?? wallMs;
      standing.set(key, { labels, annotations, startsAtMs: since });
      // Back before its end was told.
      this.#ended.delete(key);
    }
    for (const [key, alert] of this.#standing) {
      if (standing.has(key)) continue;
      this.#ended.set(key, { ...alert, endedAtMs: Math.max(wallMs, alert.startsAtMs) });
      const [oldest] = this.#ended.keys();
      if (this.#ended.size <= MOST_ALERTS || oldest === undefined) continue;
      // It ends by itself when nobody repeats it.
      this.#ended.delete(oldest);
      this.#dropped += 1;
    }
    this.#standing = standing;
  }
}

function written({ labels, annotations, startsAtMs }: Alert, endsAtMs: number): object {
  const iso = (ms: number): string => new Date(ms).toISOString();
  return { labels, annotations, startsAt: iso(startsAtMs), endsAt: iso(endsAtMs) };
}

type Standing = Omit<Alert, 'startsAtMs'> & { readonly startsAtMs: number | null };

/** What stands, trips first. Never with the label that would make Alertmanager trip us. */
function alertsOf({ trips, nodes, settings }: SafetyState, events: ReadonlySet<EventName>): Standing[] {
  const alerts: Standing[] = [];
  const common = {
    service: 'vsf-safety',
    // Two workstations may tell one Alertmanager; a UUID of this start would make a new alert of a trip at each restart.
    instance: settings.localNode,
    ...(settings.simulated && { simulated: 'true' }),
  };
  for (const trip of trips.values()) {
    const { tripId, cause, reason, by, sinceWallMs, report } = trip;
    const labels = { ...common, severity: 'critical', ...nodeOf(trip), trip_id: tripId };
    const stop = `The stop is ${report.state}.`;
    if (events.has('tripped')) {
      const summary = `EMERGENCY STOP of ${placeOf(trip)}: ${reason}`;
      const annotations = {
        summary,
        description: `By ${by}, cause ${cause}. ${stop} It stays until an operator resets.`,
      };
      alerts.push({
        labels: { alertname: 'VsfSafetyEmergencyStop', ...labels },
        annotations,
        startsAtMs: sinceWallMs,
      });
    }
    if (events.has('stop-unverified') && report.state === 'unverified') {
      const summary = `The stop of ${placeOf(trip)} is not verified: something may still run`;
      const description = `Trip ${tripId}: ${reason}. GPUs still loaded: ${report.stillLoaded.length}.`;
      alerts.push({
        labels: { alertname: 'VsfSafetyStopUnverified', ...labels },
        annotations: { summary, description },
        startsAtMs: null,
      });
    }
  }
  if (events.has('cooling-started')) {
    for (const [node, { cooling }] of nodes) {
      if (!cooling) continue;
      alerts.push({
        labels: { alertname: 'VsfSafetyCooling', ...common, severity: 'warning', node },
        annotations: { summary: `${node} cools down after a temperature warning; nothing starts there` },
        startsAtMs: null,
      });
    }
  }
  return alerts.slice(0, MOST_ALERTS);
}

function placeOf({ scope }: Trip): string {
  return scope.kind === 'all' ? 'everything' : firstFew(scope.nodes, 5, 'more nodes');
}

function nodeOf({ scope }: Trip): { readonly node?: string } {
  const [node, ...others] = scope.kind === 'all' ? [] : scope.nodes;
  return node !== undefined && others.length === 0 ? { node } : {};
}
