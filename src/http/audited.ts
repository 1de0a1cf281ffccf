// What is written down of a request that changes what may run, whether it was let through or refused: who, from where,
// why, and what became of it. Routes add what only they know; trips that nobody asked for are written down as well.
import type { AuditDeed, AuditEntry } from '../audit.ts';
import type { Clock } from '../clock.ts';
import type { ACCESS } from './access.ts';
import { auditNoteOf } from './audit-notes.ts';
import type { App, AppParts } from './parts.ts';

const DEEDS: Readonly<Partial<Record<keyof typeof ACCESS, AuditDeed>>> = {
  'POST /estop': 'stop',
  'POST /estop/alertmanager': 'stop',
  'POST /estop/reset': 'reset',
  'POST /estop/restore': 'restore',
  'POST /nodes/:node/forget': 'forget',
  'POST /simulation': 'simulate',
  'POST /commission': 'commission',
};

/** In a minute. What was refused, or changed nothing, can be asked for by anybody without end, and must not push out of the files what was done. */
const MOST = { done: 600, other: 30 } as const;
const MINUTE_MS = 60_000;

/** Writes down every request of {@link DEEDS}, and every trip that no request asked for. */
export function addAudit(app: App, { audit, supervisor, clock }: AppParts): void {
  if (!audit) return;
  const budgets = { done: new Budget(clock, MOST.done), other: new Budget(clock, MOST.other) };
  const record = (entry: AuditEntry): void => {
    const isOther = entry.outcome === 'refused' || entry.joined === true;
    const left = budgets[isOther ? 'other' : 'done'].take();
    if (left !== null) audit.record({ ...entry, ...(left > 0 && { left }) });
  };

  app.addHook('onResponse', async (request, reply) => {
    const deed = DEEDS[`${request.method} ${request.routeOptions.url}` as keyof typeof ACCESS];
    const { isNothing = false, ...note } = auditNoteOf(request);
    if (deed === undefined || isNothing) return;
    const status = reply.statusCode;
    record({
      deed,
      outcome: status < 400 ? 'done' : status === 500 ? 'failed' : 'refused',
      by: request.caller?.identity ?? 'nobody known',
      ...(request.caller && { role: request.caller.role }),
      address: request.ip,
      status,
      ...note,
    });
  });

  const unsubscribe = supervisor.subscribe(({ type, data }) => {
    if (type !== 'event' || data.name !== 'tripped') return;
    const trip = supervisor.state.trips.get(data.tripId ?? '');
    if (!trip || trip.cause === 'manual' || trip.cause === 'alert') return;
    const { by, reason, tripId, scope } = trip;
    record({
      deed: 'stop',
      outcome: 'done',
      by,
      reason,
      tripId,
      ...(scope.kind === 'nodes' && { nodes: scope.nodes }),
    });
  });
  app.addHook('onClose', async () => unsubscribe());
}

/** So many in a minute. */
class Budget {
  readonly #clock: Clock;
  readonly #most: number;
  #sinceMs = -Infinity;
  #taken = 0;
  #left = 0;

  constructor(clock: Clock, most: number) {
    this.#clock = clock;
    this.#most = most;
  }

  /** How many were left out before this one; `null`: this one is left out, too. */
  take(): number | null {
    const nowMs = this.#clock.now().elapsedMs;
    if (nowMs - this.#sinceMs >= MINUTE_MS) {
      this.#sinceMs = nowMs;
      this.#taken = 0;
    }
    if (this.#taken >= this.#most) {
      this.#left += 1;
      return null;
    }
    this.#taken += 1;
    const left = this.#left;
    this.#left = 0;
    return left;
  }
}
