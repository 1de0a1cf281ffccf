// The single writer. Every event goes through `submit`: decide, journal, effects, listeners, in that order and one event
// at a time. The decision itself is synchronous, so that an emergency stop is latched before its request's handler goes
// on; the journal and the actuators run beside it, never before one another's completion.
import { randomUUID } from 'node:crypto';
import type { Actuator } from './actuators/actuator.ts';
import type { Clock } from './clock.ts';
import { decide, nextWakeMs } from './domain/decide.ts';
import type { Answer, DurableChange, Effect, Message, SafetyEvent } from './domain/events.ts';
import { InvariantBroken } from './domain/invariant.ts';
import { targetOf } from './domain/lease.ts';
import type { SafetyState } from './domain/state.ts';
import type { StopEntry, StopOrder } from './domain/stop.ts';

/**
 * What the supervisor needs of the journal. A change that the disk did not take is written again by the journal itself,
 * which tells through `journal-reported` when it fails and when it works again (assemble.ts).
 */
export interface DurableRecord {
  append(change: DurableChange, options: { readonly urgent: boolean }): Promise<Recorded>;
}

export type Recorded = { readonly ok: true } | { readonly ok: false; readonly code: string; readonly detail: string };

export interface Log {
  fatal(message: string): void;
  error(message: string): void;
  warn(message: string): void;
  info(message: string): void;
}

export interface SupervisorParts {
  readonly clock: Clock;
  readonly journal: DurableRecord;
  readonly actuators: readonly Actuator[];
  readonly log: Log;
  /** Asked to read nodes again before a deadline, for a second look. */
  readonly lookAgain: (nodes: readonly string[], deadlineMs: number) => void;
  /** A broken invariant: workloads have been ordered to stop; the process must end, non-zero. */
  readonly onBroken: (error: unknown) => void;
  /** Test seam: called between the steps of an event; a crash here must lose nothing that was answered. */
  readonly onStep?: (step: 'decided' | 'journaling' | 'effect' | 'done', effect?: Effect) => void;
}

export interface Submitted {
  readonly answer: Answer;
  /** Resolves once the event's record is durable, or could not be written. Never rejects. */
  readonly recorded: Promise<Recorded>;
}

const RECORDED: Recorded = { ok: true };
/** After a broken invariant the actuators get this long for TERM and KILL before the process ends. */
const BLIND_STOP_MS = 4_000;

export class Supervisor {
  readonly #parts: SupervisorParts;
  readonly #listeners = new Set<(message: Message) => void>();
  readonly #orders = new Map<string, AbortController>();
  readonly #running = new Set<Promise<void>>();
  readonly #waiting: SafetyEvent[] = [];
  #state: SafetyState;
  #isDeciding = false;
  #cancelWake: () => void = () => undefined;
  #isClosed = false;
  #isStoppingBlindly = false;

  constructor(initial: SafetyState, parts: SupervisorParts) {
    this.#state = initial;
    this.#parts = parts;
  }

  get state(): SafetyState {
    return this.#state;
  }

  /** Calls `listener` with every published message; the returned function ends that. */
  subscribe(listener: (message: Message) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Puts one event through the door. Throws only when an invariant broke; then a stop has been ordered already. */
  submit(event: SafetyEvent): Submitted {
    if (this.#isDeciding) throw new InvariantBroken('An event was submitted from within a decision');
    this.#isDeciding = true;
    try {
      return this.#step(event);
    } catch (error) {
      this.#stopBlindly(error);
      throw error;
    } finally {
      this.#isDeciding = false;
      this.#drainWaiting();
    }
  }

  /** For listeners and actuators: submits now, or right after the decision that is under way. */
  submitSoon(event: SafetyEvent): void {
    if (this.#isClosed) return;
    this.#waiting.push(event);
    if (!this.#isDeciding) this.#drainWaiting();
  }

  /** Withdraws all orders and waits for the actuators to let go. What they stopped stays stopped. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#cancelWake();
    if (this.#isStoppingBlindly) await this.#parts.clock.sleep(BLIND_STOP_MS);
    for (const order of this.#orders.values()) order.abort();
    await Promise.allSettled(this.#running);
  }

  #drainWaiting(): void {
    for (let event = this.#waiting.shift(); event; event = this.#waiting.shift()) this.submit(event);
  }

  #step(event: SafetyEvent): Submitted {
    const { clock, onStep } = this.#parts;
    const decision = decide(this.#state, event, { ...clock.now(), id: randomUUID() });
    this.#state = decision.state;
    onStep?.('decided');
    const records: Promise<Recorded>[] = [];
    // The record is begun before anything else happens, and nothing waits for it (I3).
    for (const effect of decision.effects) if (effect.kind === 'journal') records.push(this.#record(effect));
    for (const effect of decision.effects) {
      if (effect.kind === 'journal') continue;
      onStep?.('effect', effect);
      this.#carryOut(effect);
    }
    onStep?.('done');
    this.#scheduleWake();
    return { answer: decision.answer, recorded: allRecorded(records) };
  }

  #record(effect: Extract<Effect, { kind: 'journal' }>): Promise<Recorded> {
    const recorded = this.#parts.journal.append(effect.change, { urgent: effect.urgent });
    this.#parts.onStep?.('journaling', effect);
    return recorded;
  }

  #carryOut(effect: Exclude<Effect, { kind: 'journal' }>): void {
    switch (effect.kind) {
      case 'stop-workloads':
        this.#order(effect.order);
        break;
      case 'withdraw-order':
        this.#withdraw(effect.orderId);
        break;
      case 'look-again':
        this.#parts.lookAgain(effect.nodes, effect.deadlineMs);
        break;
      case 'publish':
        for (const listener of this.#listeners) listener(effect.message);
        break;
      case 'log':
        this.#parts.log[effect.level](effect.message);
        break;
    }
  }

  /** All actuators at the same time; each reports back through the door for as long as the order stands. */
  #order(order: StopOrder): void {
    const withdrawn = new AbortController();
    this.#orders.get(order.orderId)?.abort();
    this.#orders.set(order.orderId, withdrawn);
    const unverified = new Set(this.#parts.actuators);
    for (const actuator of this.#parts.actuators) {
      const report = ({ entries, verified }: { entries: readonly StopEntry[]; verified: boolean }): void => {
        if (withdrawn.signal.aborted) return;
        const { orderId } = order;
        this.submitSoon({ kind: 'stop-reported', orderId, actuator: actuator.name, entries, verified });
        if (verified) unverified.delete(actuator);
        // A trip is looked after until its reset; a lapse is over when its workload is gone.
        if (order.what === 'leases' && unverified.size === 0) this.#withdraw(orderId);
      };
      const running = actuator
        .stop(order, report, withdrawn.signal)
        .catch((error: unknown) => this.#parts.log.error(`Actuator ${actuator.name} broke off: ${String(error)}`))
        .finally(() => this.#running.delete(running));
      this.#running.add(running);
    }
  }

  #withdraw(orderId: string): void {
    this.#orders.get(orderId)?.abort();
    this.#orders.delete(orderId);
  }

  #scheduleWake(): void {
    this.#cancelWake();
    const dueMs = nextWakeMs(this.#state);
    if (dueMs === null || this.#isClosed) return;
    const { clock } = this.#parts;
    this.#cancelWake = clock.after(dueMs - clock.now().elapsedMs, () => this.submitSoon({ kind: 'clock-looked' }));
  }

  /** What can be done when the state can no longer be trusted: order the actuators to stop everything, and end. */
  #stopBlindly(error: unknown): void {
    const reason = `An invariant broke: ${error instanceof Error ? error.message : String(error)}`;
    this.#parts.log.fatal(`${reason}. Stopping all workloads and ending.`);
    if (!this.#isStoppingBlindly) {
      this.#isStoppingBlindly = true;
      const live = [...this.#state.leases.values()].map(targetOf);
      const targets = [...live, ...[...this.#state.trips.values()].flatMap((trip) => trip.targets)];
      this.#order({ orderId: 'broken-invariant', scope: { kind: 'all' }, what: 'everything', targets, reason });
    }
    this.#parts.onBroken(error);
  }
}

async function allRecorded(records: readonly Promise<Recorded>[]): Promise<Recorded> {
  const outcomes = await Promise.all(records);
  return outcomes.find((outcome) => !outcome.ok) ?? RECORDED;
}
