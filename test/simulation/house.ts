// The invariants of the house (docs/interlock.md, I1 to I11), watched from the outside: by what the process says, what
// it touches, and what its state is after each step and after each restart. The product asserts its own; this is what a
// stranger would see if an assertion were wrong.

import type { Message } from '../../src/domain/events.ts';
import { isWithin } from '../../src/domain/interlock.ts';
import type { SafetyResult } from '../../src/domain/result.ts';
import type { SafetyState } from '../../src/domain/state.ts';
import type { TripScope } from '../../src/domain/stop.ts';
import type { Chronicle } from './chronicle.ts';
import type { Touched } from './cluster.ts';
import type { Life, Replica } from './replica.ts';
import { STARTS_AT_MS, type Timeline } from './timeline.ts';

const ORDER = ['PROCEED', 'REDUCE_INTENSITY', 'WAIT_COOLDOWN', 'ABORT'];
const COOLING_MS = 60_000;
/** A result is late after so many intervals; for the first one a round is waited for, too. */
const LATEST_INTERVALS = 1.5;
const LATEST_SLACK_MS = 500;

const NOTHING: TripScope = { kind: 'nodes', nodes: [] };

interface Seen {
  trips: SafetyState['trips'];
  epoch: number;
  lastNowMs: number;
  evaluatedAtMs: number;
  readonly coolingSinceMs: Map<string, number>;
  /** Stops by hand that are still held, and the trips that have held each. */
  presses: { readonly scope: TripScope; readonly atMs: number; readonly heldBy: Set<string> }[];
}

/** What a replica must still hold after its next start. */
interface Kept {
  /** The last of which all was known to be on the disk. */
  readonly state: SafetyState;
  /** At its end: of what was over by then nobody knows whether the disk has that. `null` while it lives. */
  readonly last: SafetyState | null;
}

export class House {
  readonly #timeline: Timeline;
  readonly #chronicle: Chronicle;
  readonly #seen = new Map<number, Seen>();
  readonly #kept = new Map<Replica, Kept>();
  /** Trips that an operator's reset ended, by the process where it did; others hear of it. */
  readonly #reset = new Set<string>();
  /** When a reset of a trip was judged last, and nothing stood against it. */
  readonly #resetAskedAtMs = new Map<string, number>();
  /** Of all trips that ever were. */
  readonly #scopes = new Map<string, TripScope>();
  readonly #isOverInCluster: (tripId: string) => boolean;
  readonly #lives: () => readonly Life[];
  readonly #latestMs: number;
  touches = 0;

  constructor(parts: {
    readonly timeline: Timeline;
    readonly chronicle: Chronicle;
    readonly lives: () => readonly Life[];
    readonly intervalMs: number;
    /** Whether the cluster's record of the latch tells that the trip is over. */
    readonly isOverInCluster: (tripId: string) => boolean;
  }) {
    this.#timeline = parts.timeline;
    this.#chronicle = parts.chronicle;
    this.#lives = parts.lives;
    this.#isOverInCluster = parts.isOverInCluster;
    this.#latestMs = parts.intervalMs * LATEST_INTERVALS + LATEST_SLACK_MS;
  }

  /** A reset was judged and is about to be carried out, or written to the cluster: others may hear of it before that. */
  noteResetAsked(tripId: string): void {
    this.#resetAskedAtMs.set(tripId, this.#timeline.nowMs);
  }

  /** An operator's reset of this trip is being carried out. */
  noteReset(tripId: string): void {
    this.#reset.add(tripId);
  }

  /** It was refused. */
  takeBackReset(tripId: string): void {
    this.#reset.delete(tripId);
    this.#resetAskedAtMs.delete(tripId);
  }

  /** A reset of the trip was judged, or of one as wide, into which the cluster's record says that it went. */
  #isResetAsked(tripId: string): boolean {
    if (this.#resetAskedAtMs.has(tripId)) return true;
    const scope = this.#scopes.get(tripId);
    if (!scope || !this.#isOverInCluster(tripId)) return false;
    return [...this.#resetAskedAtMs.keys()].some((other) => isWithin(scope, this.#scopes.get(other) ?? NOTHING));
  }

  /** A life runs: what it found must hold what was kept (I6). */
  running(life: Life): void {
    const { state } = runningOf(life);
    const kept = this.#kept.get(life.replica);
    this.#seen.set(life.number, {
      trips: state.trips,
      epoch: state.epoch,
      lastNowMs: state.lastNowMs,
      evaluatedAtMs: this.#timeline.nowMs,
      // A start takes cooldowns from the disk before it has its first word of who leads.
      coolingSinceMs: new Map(coolingIn(state).map((name) => [name, STARTS_AT_MS])),
      presses: [],
    });
    if (!kept) return;
    const { state: durable, last } = kept;
    for (const [tripId, { scope }] of durable.trips) {
      // What it went into at the very end an operator may have reset meanwhile.
      const wasOver =
        last !== null && !last.trips.has(tripId) && covering(last, scope).every((other) => this.#isResetAsked(other));
      if (wasOver || state.trips.has(tripId) || this.#isResetAsked(tripId) || isCovered(state, scope)) continue;
      this.#chronicle.violate('I6', `${life.replica.name} forgot trip ${tripId} by a restart`);
    }
    for (const node of coolingIn(durable)) {
      if (last?.nodes.get(node)?.cooling === null || state.nodes.get(node)?.cooling) continue;
      this.#chronicle.violate('I6', `${life.replica.name} forgot that ${node} cools down by a restart`);
    }
    if (state.epoch < durable.epoch)
      this.#chronicle.violate('I11', `the epoch fell from ${durable.epoch} to ${state.epoch} by a restart`);
  }

  /** A stop was pressed here, and answered: whatever trip it made or joined. */
  pressed(life: Life, scope: TripScope): void {
    const { state } = runningOf(life);
    this.#seen
      .get(life.number)
      ?.presses.push({ scope, atMs: this.#timeline.nowMs, heldBy: new Set(covering(state, scope)) });
  }

  /** A life ends, perhaps in the middle of a step or of a write. */
  ended(life: Life): void {
    const kept = this.#kept.get(life.replica);
    if (life.running && kept) this.#kept.set(life.replica, { ...kept, last: life.running.supervisor.state });
  }

  /** Between two steps: where the journal has nothing under way, all that this process holds is on the disk. */
  #keep(life: Life): void {
    if (!life.running) return;
    const { supervisor, journal } = life.running;
    const { ok, pending } = journal.health();
    if (ok && pending === 0) this.#kept.set(life.replica, { state: supervisor.state, last: null });
  }

  /** Bits of the journal changed by themselves: nothing can be asked of the next start but that it is tripped. */
  rotted(replica: Replica): void {
    this.#kept.delete(replica);
  }

  /** After each step of the supervisor. */
  step(life: Life): void {
    const seen = this.#seen.get(life.number);
    if (!seen || !life.running) return;
    const { state } = life.running.supervisor;
    if (state.trips !== seen.trips) this.#compareTrips(life, seen, state);
    if (state.epoch < seen.epoch) this.#chronicle.violate('I11', `the epoch went from ${seen.epoch} to ${state.epoch}`);
    seen.epoch = state.epoch;
    if (state.lastNowMs < seen.lastNowMs) this.#chronicle.violate('I9', 'time inside went back');
    seen.lastNowMs = state.lastNowMs;
    if (state.endedLeases.size > 6_000 || state.leases.size > 5_000) {
      this.#chronicle.violate('I10', `${state.endedLeases.size} ended leases are remembered`);
    }
    this.#keep(life);
  }

  /** Everything that is published (I4, I7, and durations that no wall clock may change). */
  message(life: Life, message: Message): void {
    const seen = this.#seen.get(life.number);
    if (!seen) return;
    const { elapsedMs } = life.clock.now();
    if (message.type === 'evaluation') {
      seen.evaluatedAtMs = this.#timeline.nowMs;
      this.result(message.data);
      return;
    }
    const { name, node } = message.data;
    if (node === undefined) return;
    if (name === 'cooling-started') seen.coolingSinceMs.set(node, elapsedMs);
    if (name !== 'cooling-ended') return;
    const sinceMs = seen.coolingSinceMs.get(node);
    this.#chronicle.count('cooldowns that ended');
    if (sinceMs === undefined || elapsedMs - sinceMs < COOLING_MS) {
      this.#chronicle.violate(
        'I6',
        `${node} cooled down for ${Math.round(elapsedMs - (sinceMs ?? elapsedMs))} ms, must be 60 s`,
      );
    }
  }

  /** Each result: the worst finding's action, and ABORT only while tripped (I7). */
  result(result: SafetyResult): void {
    const worst = Math.max(0, ...result.findings.map(({ action }) => ORDER.indexOf(action)));
    if (ORDER[worst] !== result.action) {
      this.#chronicle.violate('I7', `the action is ${result.action}, the worst finding's is ${ORDER[worst]}`);
    }
    if (result.safe !== (result.action === 'PROCEED'))
      this.#chronicle.violate('I7', `safe is ${result.safe} at ${result.action}`);
    if (result.action === 'ABORT' && result.interlock.state !== 'tripped') {
      this.#chronicle.violate('I7', 'ABORT was answered untripped');
    }
  }

  /** A lease was granted (I2): nothing holds the node, and what was just read of it is well. */
  granted(life: Life, node: string, isWellRead: boolean): void {
    const { state } = runningOf(life);
    for (const { tripId, scope } of state.trips.values()) {
      if (scope.kind === 'all' || scope.nodes.includes(node)) {
        this.#chronicle.violate('I2', `a lease was granted on ${node} under trip ${tripId}`);
      }
    }
    if (state.nodes.get(node)?.cooling)
      this.#chronicle.violate('I2', `a lease was granted on ${node} while it cools down`);
    if (!isWellRead)
      this.#chronicle.violate('I2', `a lease was granted on ${node}, of which no whole and cool reading was had`);
  }

  /** Something of the cluster is about to be touched: only what is labelled, and only under an order (I5). */
  touched({ verb, path, object, by }: Touched): void {
    this.touches += 1;
    this.#chronicle.count(`touched: ${verb}`);
    if (!object) return;
    const { labels } = object.metadata;
    const template = (object.spec?.['template'] as { metadata?: { labels?: Record<string, string> } } | undefined)
      ?.metadata;
    const isOurs = labels?.['vsf-workload'] === 'true' || template?.labels?.['vsf-workload'] === 'true';
    if (!isOurs) this.#chronicle.violate('what is touched', `${verb} ${path}, which bears no label`);
    const lives = this.#lives();
    // Of one that is still starting, as after a corrupt journal, the state is not to be seen.
    if (!lives.some(({ number }) => number === by)) return;
    const isOrdered = lives.some((life) => {
      const { state } = runningOf(life);
      return state.trips.size > 0 || [...state.endedLeases.values()].some(({ outcome }) => outcome !== 'released');
    });
    if (!isOrdered) this.#chronicle.violate('I5', `${verb} ${path} without an order`);
  }

  /** Now and then: each process publishes a result in time (I4). */
  watch(): void {
    for (const life of this.#lives()) {
      const seen = this.#seen.get(life.number);
      if (!seen || life.isDead) continue;
      this.#keep(life);
      if (life.clock.isBlocked) seen.evaluatedAtMs = this.#timeline.nowMs + this.#latestMs;
      const lateMs = this.#timeline.nowMs - seen.evaluatedAtMs - this.#latestMs;
      if (lateMs > 0)
        this.#chronicle.violate('I4', `${life.replica.name} has published no result for over ${this.#latestMs} ms`);
    }
  }

  #compareTrips(life: Life, seen: Seen, state: SafetyState): void {
    for (const [tripId, { scope }] of seen.trips) {
      if (state.trips.has(tripId)) continue;
      if (!isCovered(state, scope) && !this.#isResetAsked(tripId)) {
        this.#chronicle.violate('I1', `${life.replica.name}'s trip ${tripId} ended, and nobody reset it`);
      }
    }
    for (const [tripId, trip] of state.trips) {
      if (seen.trips.has(tripId)) continue;
      this.#scopes.set(tripId, trip.scope);
      if (this.#reset.has(tripId) && state.lastTrip?.trip.tripId === tripId) {
        this.#chronicle.violate('I11', `trip ${tripId}, which was reset, is on again at ${life.replica.name}`);
      }
      for (const lease of state.leases.values()) {
        const { scope } = trip;
        const isHit = scope.kind === 'all' || lease.nodes?.some((node) => scope.nodes.includes(node));
        if (isHit) this.#chronicle.violate('a trip revokes', `lease ${lease.id} lives on under trip ${tripId}`);
      }
    }
    seen.trips = state.trips;
    this.#comparePresses(life, seen, state);
  }

  /** What was pressed holds until a reset that was asked for after it. */
  #comparePresses(life: Life, seen: Seen, state: SafetyState): void {
    seen.presses = seen.presses.filter(({ scope, atMs, heldBy }) => {
      const holding = covering(state, scope);
      for (const tripId of holding) heldBy.add(tripId);
      if (holding.length > 0) return true;
      if (![...heldBy].some((tripId) => (this.#resetAskedAtMs.get(tripId) ?? -1) >= atMs)) {
        this.#chronicle.violate('a press is held', `what was pressed at ${life.replica.name} went without a reset`);
      }
      return false;
    });
  }
}

/** The trips that hold all of a scope: one may go into another whose scope contains its own. */
const covering = ({ trips }: SafetyState, inner: TripScope): readonly string[] =>
  [...trips.values()].filter(({ scope }) => isWithin(inner, scope)).map(({ tripId }) => tripId);

const isCovered = (state: SafetyState, inner: TripScope): boolean => covering(state, inner).length > 0;

const coolingIn = ({ nodes }: SafetyState): readonly string[] =>
  [...nodes].flatMap(([name, { cooling }]) => (cooling === null ? [] : [name]));

function runningOf(life: Life): { readonly state: SafetyState } {
  if (!life.running) throw new Error('This life does not run');
  return life.running.supervisor;
}
