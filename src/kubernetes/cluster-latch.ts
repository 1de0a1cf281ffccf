// The latch in the cluster, so that a trip outlives the node that it was made on: ConfigMap `vsf-estop`, kept equal to
// the process's own trips by looking every two seconds and at once after a trip, and the deny rule that goes with it.
// The process's memory is the truth of its stop; nothing here ever delays one. Only a reset is the other way round: it
// is written here first, and counts only then. What the ConfigMap says is latch-copy.ts, what two copies make is
// latch-merge.ts; who may reset is the caller's question, asked again here just before the write.

import { randomUUID } from 'node:crypto';
import type { Clock } from '../clock.ts';
import { dropOldest } from '../domain/collections.ts';
import type { JudgedReset } from '../domain/events.ts';
import type { Trip } from '../domain/interlock.ts';
import { isAskedFor, joinedCount } from '../domain/joined-stops.ts';
import type { StopOrder } from '../domain/stop.ts';
import type { Admission, RuleState } from './admission.ts';
import { createConfigMapCell, type MapData, type MapEdit } from './config-map.ts';
import type { KubeApi } from './kube-api.ts';
import {
  asideOf,
  formatLatch,
  type LastReset,
  type LatchCopy,
  type LatchRecord,
  parseLatch,
  progressOf,
} from './latch-copy.ts';
import { type LocalLatch, type Merge, mergeLatch } from './latch-merge.ts';
import { demandOf, LATCH_MAP, type LatchNews, newsOf } from './latch-news.ts';
import type { PriorValues } from './prior-values.ts';
import type { ArmState, PriorValue, StopLatch } from './stop-latch.ts';

/** How long another replica's trip may go unnoticed, and how soon a failed write is tried again. */
const LOOK_EVERY_MS = 2_000;
const AGAIN_AFTER_MS = 500;
const SYNC_TIMEOUT_MS = 3_000;
const RULE_TIMEOUT_MS = 2_500;
const RESET_TIMEOUT_MS = 4_000;
/** Of trips whose reset is remembered: a stop that was under way then asks for seconds more at most. */
const MOST_REMEMBERED = 1_000;
/** Keys that only the leader renews, from its own report of the stop. */
const PROGRESS_KEYS = ['state', 'stoppedOwners', 'unconfirmedPods'] as const;

export type ResetOutcome =
  | { readonly kind: 'done'; readonly epoch: number }
  | { readonly kind: 'not-leader' }
  /** The cluster holds what this process does not know yet; nothing was changed. */
  | { readonly kind: 'changed'; readonly detail: string }
  /** Nothing was changed, or will be taken back. */
  | { readonly kind: 'not-written'; readonly detail: string };

export interface ResetRequest {
  readonly tripId: string;
  readonly by: string;
  readonly reason: string;
  /** What it knew when it was judged, in the same turn in which it is asked for here. */
  readonly judged: JudgedReset;
}

export interface ClusterLatchParts {
  readonly api: KubeApi;
  readonly clock: Clock;
  readonly namespace: string;
  readonly admission: Admission;
  readonly priors: PriorValues;
  /** The process's own latch, as it is now. */
  readonly local: () => { readonly epoch: number; readonly trips: Iterable<Trip> };
  readonly isLeader: () => boolean;
  /** Whether this process runs on a simulation: a real cluster is not stopped by pretended trips. */
  readonly simulated: boolean;
  /** Called with each piece of news, in order; the process has acted on it when this returns. */
  readonly onNews: (news: LatchNews) => void;
}

/** What a look found, once its outcome is written: what the process must do, and the trips that the record holds. */
interface Looked {
  readonly news: readonly LatchNews[];
  readonly standing: readonly string[];
  /** Whether a reset that was judged before did not know all of this. */
  readonly isSurprise: boolean;
  readonly lastStop: string | null;
}

export class ClusterLatch implements StopLatch {
  readonly #parts: ClusterLatchParts;
  readonly #cell: ReturnType<typeof createConfigMapCell>;
  /** Trips whose reset was told to have failed, though the write may have arrived. */
  readonly #kept = new Set<string>();
  readonly #over = new Set<string>();
  readonly #closing = new AbortController();
  /** The order during which a labelled pod was seen to be refused last; of those that arm only one stands at a time. */
  #triedOut: string | null = null;
  #last: Promise<unknown> = Promise.resolve();
  #running: Promise<void> = Promise.resolve();
  #wake = new AbortController();
  /** One that only looks, for `check`, writes nothing. */
  #isStarted = false;
  #isKnown = false;
  #failure: string | null = 'ConfigMap vsf-estop has not been read yet';
  #arming: Promise<unknown> = Promise.resolve();
  /** Also at the start: a reset may have been the last that an earlier process did. */
  #isDisarmDue = true;
  /** News was told whose outcome is not written yet. */
  #isUnsettled = false;
  #isRuleAsked = false;
  /** The record's, as of the last look. */
  #lastStop: string | null = null;
  /** How often a look found a stop that is no trip of its own any more: a reset that was judged before is void. */
  #surprises = 0;

  constructor(parts: ClusterLatchParts) {
    this.#parts = parts;
    this.#cell = createConfigMapCell({ ...parts, name: LATCH_MAP });
  }

  /** `false` until the cluster's latch was read once: starts are refused with `state-unknown`. */
  get isKnown(): boolean {
    return this.#isKnown;
  }

  /** Why the cluster's latch could not be read or written last; `null` when it is as it should be. */
  get failure(): string | null {
    return this.#failure;
  }

  /** Looks once, waiting for at most 3 s, and then again and again until closed. */
  async start(): Promise<void> {
    this.#isStarted = true;
    await this.sync();
    this.#running = this.#keepLooking();
  }

  /** Something changed here: write it now. */
  poke(): void {
    this.#wake.abort();
  }

  /** A trip that came a moment ago is written yet: this process's own disk may go with it. Takes one look's time. */
  async close(): Promise<void> {
    this.#closing.abort();
    this.poke();
    await this.#running;
    if (this.#isStarted && this.#local().trips.length > 0) await this.sync();
    await this.#last;
  }

  /** After the server was away: what happened meanwhile is told before this resolves, if the server tells. */
  async catchUp(): Promise<void> {
    if (!this.#isKnown || this.#failure !== null) await this.sync();
  }

  /** The rule was read. One that is armed and stands for no trip was armed by a process that had not heard of the reset. */
  noteRule(state: RuleState): void {
    if (state.kind === 'armed' && !this.#isEverythingStopped()) this.#isDisarmDue = true;
  }

  /** Makes the cluster's copy and the process's own say the same. Never rejects; `false` when it could not. */
  sync(): Promise<boolean> {
    return this.#inTurn(() => this.#sync());
  }

  /**
   * Writes the reset of a trip, and calls `commit` only if that succeeded and before anything else looks at the latch;
   * then the deny rule is disarmed unless another trip of everything stands.
   */
  reset(request: ResetRequest & { readonly commit: () => void }): Promise<ResetOutcome> {
    const surprises = this.#surprises;
    return this.#inTurn(async () => {
      const { outcome, mayHaveArrived } = await this.#writeReset(request, surprises);
      if (outcome.kind === 'done') {
        request.commit();
        this.#kept.delete(request.tripId);
        remember(this.#over, request.tripId);
        this.#isDisarmDue = true;
        this.poke();
      } else if (mayHaveArrived) {
        // Without its answer, whatever the next try found: then the next look latches the trip again.
        remember(this.#kept, request.tripId);
      }
      // What was news is known before the operator asks again.
      if (outcome.kind === 'changed') this.poke();
      return outcome;
    });
  }

  async arm(order: StopOrder): Promise<ArmState> {
    this.poke();
    // A sweep that was under way at the reset must not arm again what the reset disarms.
    if (this.#over.has(order.orderId)) return { kind: 'failed', detail: `Trip ${order.orderId} is reset` };
    const armed = this.#parts.admission.arm(RULE_TIMEOUT_MS);
    this.#arming = armed;
    const state = await armed;
    if (state.kind !== 'armed' || this.#triedOut === order.orderId) return state;
    const trial = await this.#parts.admission.tryOut(RULE_TIMEOUT_MS);
    // A policy is read by the server once a second; the next look finds it in force.
    if (trial.kind === 'admitted') {
      return { kind: 'failed', detail: 'The deny rule is armed, and a labelled pod would still be admitted' };
    }
    this.#triedOut = order.orderId;
    return state;
  }

  recordPrior(prior: PriorValue): Promise<boolean> {
    return this.#parts.priors.record(prior);
  }

  priorOf(uid: string): PriorValue | undefined {
    return this.#parts.priors.priorOf(uid);
  }

  /** One thing at a time: a look between a reset's write and its commit would see a reset by somebody else. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(work);
    this.#last = turn.catch(() => undefined);
    return turn;
  }

  async #keepLooking(): Promise<void> {
    const { clock } = this.#parts;
    while (!this.#closing.signal.aborted) {
      const isSettled = this.#failure === null && !this.#isUnsettled;
      await clock.sleep(isSettled ? LOOK_EVERY_MS : AGAIN_AFTER_MS, this.#wake.signal);
      this.#wake = new AbortController();
      if (this.#closing.signal.aborted) return;
      await this.sync();
      await this.#disarmIfDue();
    }
  }

  #local(): LocalLatch & { readonly full: readonly Trip[] } {
    const { epoch, trips } = this.#parts.local();
    const full = [...trips];
    return { resets: epoch, trips: full, full };
  }

  #isEverythingStopped(): boolean {
    return this.#local().trips.some(({ scope }) => scope.kind === 'all');
  }

  async #sync(): Promise<boolean> {
    const unheard = this.#unheard();
    const edit = (data: MapData | null) => this.#edit(data, unheard.length > 0);
    let swapped = await this.#cell.swap(edit, SYNC_TIMEOUT_MS);
    if (swapped.ok && swapped.value === 'ask-rule') {
      await this.#askRule();
      swapped = await this.#cell.swap(edit, SYNC_TIMEOUT_MS);
    }
    this.#failure = swapped.ok ? null : swapped.detail;
    if (!swapped.ok || swapped.value === 'ask-rule') return false;
    this.#isKnown = true;
    const { news, standing, isSurprise, lastStop } = swapped.value;
    if (isSurprise) this.#surprises += 1;
    this.#lastStop = lastStop;
    this.#isUnsettled = news.length > 0;
    for (const one of news) this.#parts.onNews(one);
    const heard = unheard.filter(([tripId]) => standing.includes(tripId));
    if (heard.length > 0) this.#parts.onNews({ kind: 'heard', joined: new Map(heard) });
    return true;
  }

  /** What joined our trips and what the cluster may not have heard of: by trip, how many have joined by now. */
  #unheard(): readonly (readonly [string, number])[] {
    const waiting = this.#local().full.filter(({ joined }) => joined?.unheard);
    return waiting.map((trip) => [trip.tripId, joinedCount(trip)] as const);
  }

  #edit(data: MapData | null, isStopTold: boolean): MapEdit<Looked | 'ask-rule'> {
    const local = this.#local();
    if (!data && !this.#isRuleAsked && local.trips.length === 0) return { data: null, value: 'ask-rule' };
    const copy: LatchCopy = data ? parseLatch(data) : { kind: 'absent' };
    const demand = demandOf(copy, local);
    const merge = this.#merge(local, copy);
    const news = newsOf(merge);
    // The trip comes first, then the record of it: a crash in between finds what is corrupt again.
    if (demand && !merge.record.trips.some(({ scope }) => scope.kind === 'all')) {
      const value = { news: [...news, demand], standing: [], isSurprise: true, lastStop: this.#lastStop };
      return { data: null, value };
    }
    const aside = copy.kind === 'corrupt' ? asideOf(data ?? {}) : (data?.['corrupt'] ?? null);
    // What was asked for here and goes into another trip is told, too: an older reset of that one must not be written.
    const isTold = isStopTold || merge.yielded.some(({ cause }) => isAskedFor(cause));
    const lastStop = isTold ? randomUUID() : merge.record.lastStop;
    const written = this.#format({ ...merge.record, lastStop }, local.full, data, aside);
    const value = {
      news,
      standing: merge.record.trips.map(({ tripId }) => tripId),
      isSurprise: this.#isSurprise(merge),
      lastStop,
    };
    return { data: data && isEqual(data, written) ? null : written, value };
  }

  #isSurprise({ swallowed, record }: Merge): boolean {
    return swallowed.length > 0 || record.lastStop !== this.#lastStop;
  }

  #merge(local: LocalLatch, copy: LatchCopy): Merge {
    const readable = copy.kind === 'clear' || copy.kind === 'latched' ? copy.record : null;
    const { simulated } = this.#parts;
    return mergeLatch(local, readable, { isStart: !this.#isKnown, simulated, kept: this.#kept });
  }

  #format(record: LatchRecord, trips: readonly Trip[], before: MapData | null, aside: string | null): MapData {
    const data: Record<string, string> = { ...formatLatch(record, progressOf(trips), aside) };
    if (this.#parts.isLeader() || record.trips.length === 0) return data;
    // Each replica has a report of its own; the leader's is shown.
    for (const key of PROGRESS_KEYS) if (before?.[key] !== undefined) data[key] = before[key];
    return data;
  }

  /** A record that is gone while the rule is armed was lost; nobody disarmed what it stood for. */
  async #askRule(): Promise<void> {
    const state = await this.#parts.admission.readArmed(RULE_TIMEOUT_MS);
    this.#isRuleAsked = true;
    if (state.kind !== 'armed') return;
    const reason = `The deny rule is armed, and ConfigMap ${LATCH_MAP}, which would say why, is gone`;
    this.#parts.onNews({ kind: 'must-trip', cause: 'corrupt-state', reason });
  }

  async #writeReset(
    request: ResetRequest,
    surprises: number,
  ): Promise<{ readonly outcome: ResetOutcome; readonly mayHaveArrived: boolean }> {
    const { isLeader } = this.#parts;
    const { tripId, by, reason, judged } = request;
    const last: LastReset = { tripId, by, reason, wallMs: judged.wallMs };
    const changed = (detail: string): MapEdit<ResetOutcome> => ({ data: null, value: { kind: 'changed', detail } });
    let mayHaveArrived = false;
    const swapped = await this.#cell.swap<ResetOutcome>((data) => {
      if (!isLeader()) return { data: null, value: { kind: 'not-leader' } };
      const local = this.#local();
      const copy: LatchCopy = data ? parseLatch(data) : { kind: 'absent' };
      if (demandOf(copy, local)) return changed(`ConfigMap ${LATCH_MAP} is corrupt, or was latched by hand`);
      const isOurs = (copy.kind === 'clear' || copy.kind === 'latched') && isSameReset(copy.record.lastReset, last);
      // An earlier try arrived, and only its answer was lost.
      if (isOurs) return { data: null, value: { kind: 'done', epoch: local.resets + 1 } };
      const merge = this.#merge(local, copy);
      const { record } = merge;
      if (merge.reset) return changed('another reset was made in the cluster');
      if (merge.adopt.length > 0) return changed('another trip was made in the cluster');
      const ours = local.full.find((trip) => trip.tripId === tripId);
      const hasJoined = ours !== undefined && joinedCount(ours) > judged.joined;
      if (hasJoined || this.#surprises > surprises || this.#isSurprise(merge)) {
        return changed('another stop was made in the cluster, or joined a trip here');
      }
      const trips = record.trips.filter((trip) => trip.tripId !== tripId);
      if (trips.length === record.trips.length) return changed(`the cluster does not hold trip ${tripId}`);
      const resets = record.resets + 1;
      const ended = new Map(record.ended).set(tripId, resets);
      const after = this.#format(
        { resets, trips, ended, lastReset: last, lastStop: record.lastStop },
        local.full,
        data,
        data?.['corrupt'] ?? null,
      );
      mayHaveArrived = true;
      return { data: after, value: { kind: 'done', epoch: resets } };
    }, RESET_TIMEOUT_MS);
    const outcome: ResetOutcome = swapped.ok ? swapped.value : { kind: 'not-written', detail: swapped.detail };
    return { outcome, mayHaveArrived };
  }

  /** The rule goes off after the reset, by the leader alone; it is tried until it is off. */
  async #disarmIfDue(): Promise<void> {
    const { admission, isLeader } = this.#parts;
    const isClear = this.#isKnown && this.#failure === null && !this.#isUnsettled && !this.#isEverythingStopped();
    if (!this.#isDisarmDue || !isClear || !isLeader()) return;
    // A patch that is still on its way would come after ours.
    await this.#arming;
    const state = await admission.disarm(RULE_TIMEOUT_MS);
    this.#isDisarmDue = state.kind === 'failed';
  }
}

function remember(tripIds: Set<string>, tripId: string): void {
  tripIds.add(tripId);
  dropOldest(tripIds, MOST_REMEMBERED);
}

function isEqual(a: MapData, b: MapData): boolean {
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => a[key] === b[key]);
}

const isSameReset = (a: LastReset | null, b: LastReset): boolean =>
  a !== null && a.tripId === b.tripId && a.by === b.by && a.wallMs === b.wallMs;
