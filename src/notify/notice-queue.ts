// The plain form: one JSON object for each event, in order, each until the receiver has it. Bounded: when too much
// waits, the oldest cooldown goes first (a thousand nodes may start to cool in one tick, and must not push out the trip
// that came before them), else the oldest of all; how many went is told with the next one.
import type { Now } from '../clock.ts';
import type { EventData, EventName, Message } from '../domain/events.ts';
import type { StopReport, Trip } from '../domain/interlock.ts';
import type { SafetyState } from '../domain/state.ts';
import type { Delivery, Outbox } from './outbox.ts';

/** Some trips with all that follows them, and a cluster's cooldowns; a notice has a kilobyte. */
export const MOST_WAITING = 256;

/** What is sent. Every key is always there; keys may be added. */
export interface Notice {
  readonly version: 1;
  /** `<instance>-<sequence>`: once for each event, the same at every try. */
  readonly id: string;
  readonly event: EventName;
  /** ISO 8601, wall clock. */
  readonly at: string;
  readonly service: 'vsf-safety';
  readonly instance: string;
  readonly simulated: boolean;
  readonly message: string;
  readonly node: string | null;
  readonly tripId: string | null;
  readonly by: string | null;
  /** Of the trip. */
  readonly scope: Trip['scope'] | null;
  readonly cause: Trip['cause'] | null;
  readonly reason: string | null;
  /** How far the stop has come: objects found, and those of them that are gone. */
  readonly stop: {
    readonly state: StopReport['state'];
    readonly found: number;
    readonly stopped: number;
    readonly stillLoaded: number;
  } | null;
  /** Notices that were given up since the last one that arrived. */
  readonly dropped: number;
}

type Waiting = Omit<Notice, 'dropped'>;

const isCooling = ({ event }: Waiting): boolean => event === 'cooling-started' || event === 'cooling-ended';

export class NoticeQueue implements Outbox {
  readonly #events: ReadonlySet<EventName>;
  readonly #waiting: Waiting[] = [];
  #dropped = 0;
  /** Of those dropped, how many have been told of. */
  #dropsTold = 0;
  #dropsInFlight = 0;

  constructor(events: ReadonlySet<EventName>) {
    this.#events = events;
  }

  get pending(): number {
    return this.#waiting.length;
  }

  get dropped(): number {
    return this.#dropped;
  }

  take(message: Message, state: SafetyState): 'urgent' | 'noted' | 'ignored' {
    if (message.type !== 'event' || !this.#events.has(message.data.name)) return 'ignored';
    this.#waiting.push(noticeOf(message, state));
    if (this.#waiting.length > MOST_WAITING) {
      const cooling = this.#waiting.findIndex(isCooling);
      this.#waiting.splice(Math.max(0, cooling), 1);
      this.#dropped += 1;
    }
    return message.data.name === 'tripped' ? 'urgent' : 'noted';
  }

  due(_now: Now, _state: SafetyState): Delivery | null {
    const [first] = this.#waiting;
    if (!first) return null;
    this.#dropsInFlight = this.#dropped;
    const notice: Notice = { ...first, dropped: this.#dropped - this.#dropsTold };
    return { id: first.id, body: JSON.stringify(notice) };
  }

  nextDueMs(): number | null {
    return null;
  }

  settle({ id }: Delivery, outcome: 'taken' | 'refused'): void {
    // It may have been dropped while it was under way.
    if (this.#waiting[0]?.id === id) this.#waiting.shift();
    if (outcome === 'refused') this.#dropped += 1;
    else this.#dropsTold = this.#dropsInFlight;
  }
}

function noticeOf({ sequence, at, data }: Extract<Message, { type: 'event' }>, state: SafetyState): Waiting {
  const { settings } = state;
  const trip = tripOf(data, state);
  return {
    version: 1,
    id: `${settings.instance}-${sequence}`,
    event: data.name,
    at,
    service: 'vsf-safety',
    instance: settings.instance,
    simulated: settings.simulated,
    message: data.message,
    node: data.node ?? null,
    tripId: data.tripId ?? null,
    by: data.by ?? trip?.by ?? null,
    scope: trip?.scope ?? null,
    cause: trip?.cause ?? null,
    reason: trip?.reason ?? null,
    stop: trip && stopOf(trip.report),
  };
}

function tripOf({ tripId }: EventData, { trips, lastTrip }: SafetyState): Trip | null {
  if (tripId === undefined) return null;
  return trips.get(tripId) ?? (lastTrip?.trip.tripId === tripId ? lastTrip.trip : null);
}

function stopOf({ state, actuators, stillLoaded }: StopReport): NonNullable<Notice['stop']> {
  const entries = Object.values(actuators).flatMap((actuator) => actuator.entries);
  const stopped = entries.filter((entry) => entry.state === 'stopped').length;
  return { state, found: entries.length, stopped, stillLoaded: stillLoaded.length };
}
