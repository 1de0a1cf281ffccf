// Holds one lease for a workload: renews it, tells what the workload must do now, and ends by itself. It fails safe:
// when nothing was heard from the service for the lease's TTL, counted on the monotonic clock from when the last
// successful renewal was *sent*, the workload is over, since the service's own count has ended it or soon will. Whoever
// holds it (the SDK, `vsf-safety run`, a guard) only listens, and decides how a workload pauses, slows down or stops.
import type { Clock } from '../clock.ts';
import type { LeaseOutcome } from '../domain/lease.ts';
import { type Grant, releaseLease, renewLease, type Standing, timeoutFor } from './lease-requests.ts';
import type { SafetyService } from './safety-service.ts';
import { type LocalVerdict, localVerdict, type Verdict } from './verdict.ts';

/**
 * Who ended it: the service (its outcome; `aborted` by a verdict), silence (`lost`), or this side (`ended-here`: an
 * emergency stop of the workload's own; `given-back`).
 */
export type LeaseEnd = LeaseOutcome | 'aborted' | 'lost' | 'ended-here' | 'given-back';

/** How a lease stands, and what its workload must do. */
export interface LeaseView {
  readonly id: string;
  /** `running`: go on, at most at `intensityCap` · `paused`: hold still · `over`: stop, for good. */
  readonly state: 'running' | 'paused' | 'over';
  /** Share of full load that may be used; 0 once it is over. */
  readonly intensityCap: number;
  readonly verdict: Verdict;
  /** Set once it is over. */
  readonly end: LeaseEnd | null;
}

/** Called in this order of time, one at a time; none after `onOver`. They must not throw. */
export interface LeaseEvents {
  /** With every answer, whether it says something new or not. */
  onResult?(view: LeaseView): void;
  /** A renewal failed; the first of an outage, and never again until one succeeds. */
  onMissed?(detail: string, leftMs: number): void;
  /** The workload must stop. Once; not after a release. */
  onOver?(view: LeaseView): void;
}

/**
 * A push of every verdict would be quicker by this much at most, and would be one more thing that can hang. What 500
 * leases cost at this pace is in the bench.
 */
const LONGEST_PERIOD_MS = 2_000;
/** While paused, so that a cooldown ends soon after it may; and after a renewal that failed. */
const SHORT_PERIOD_MS = 1_000;
/** With a reason of its own no error is made, whose stack costs more than the timer. */
const WAKE = Symbol('wake up');

export class LeaseHolder {
  readonly #service: SafetyService;
  readonly #clock: Clock;
  readonly #events: LeaseEvents;
  #view: LeaseView;
  #ttlMs: number;
  #expiresAtMs: number;
  /** Aborted to renew at once, or to end. */
  #woken = new AbortController();
  #isOver = false;
  /** The service has ended it, or nobody hears us: there is nothing to give back. */
  #isGone = false;
  #lastMissed: string | null = null;
  #unsubscribe: () => void = () => undefined;

  constructor(parts: { readonly service: SafetyService; readonly clock: Clock }, grant: Grant, events: LeaseEvents) {
    this.#service = parts.service;
    this.#clock = parts.clock;
    this.#events = events;
    this.#ttlMs = grant.ttlMs;
    this.#expiresAtMs = grant.expiresAtMs;
    this.#view = viewOf(grant.id, grant);
  }

  /** Begins to renew. The view of the grant is told first, at once; keeps the process alive until the lease is over. */
  start(): void {
    this.#unsubscribe = this.#service.onChange(() => this.renewNow());
    if (this.#view.state === 'over') this.#conclude(this.#view);
    else {
      this.#events.onResult?.(this.#view);
      void this.#renew();
    }
  }

  /** How it stands now. Asks the clock itself, for when this process was too busy to. */
  get view(): LeaseView {
    if (!this.#isOver && this.#clock.now().elapsedMs >= this.#expiresAtMs) this.#lapse();
    return this.#view;
  }

  /** Does not wait for the next renewal's turn. */
  renewNow(): void {
    this.#woken.abort(WAKE);
  }

  /** Ends the workload from this side, at once; the lease is still to be given back by `release()`. */
  end(verdict: LocalVerdict): void {
    this.#conclude(overView(this.#view.id, verdict, 'ended-here'));
  }

  /**
   * Stops renewing at once and gives the lease back: one request, with a deadline. `onOver` is not called. Resolves with
   * why it could not be given back, so that it will lapse; `null` is all well. Never rejects.
   */
  async release(): Promise<string | null> {
    if (!this.#isOver) {
      const verdict = localVerdict('ABORT', 'given-back', 'The lease was given back');
      this.#view = overView(this.#view.id, verdict, 'given-back');
      this.#finish();
    }
    if (this.#isGone) return null;
    this.#isGone = true;
    return releaseLease(this.#service, this.#view.id, timeoutFor(this.#ttlMs));
  }

  async #renew(): Promise<void> {
    let waitMs = this.#periodMs;
    while (!this.#isOver) {
      const leftMs = this.#expiresAtMs - this.#clock.now().elapsedMs;
      await this.#clock.sleep(Math.min(waitMs, leftMs), this.#woken.signal);
      this.#woken = new AbortController();
      if (this.#isOver) return;
      waitMs = (await this.#renewOnce()) ? this.#periodMs : Math.min(SHORT_PERIOD_MS, this.#periodMs);
    }
  }

  /** Whether it was renewed. */
  async #renewOnce(): Promise<boolean> {
    const sentAtMs = this.#clock.now().elapsedMs;
    const leftMs = this.#expiresAtMs - sentAtMs;
    if (leftMs <= 0) {
      this.#lapse();
      return false;
    }
    const renewal = await renewLease(this.#service, this.#view.id, Math.min(timeoutFor(this.#ttlMs), leftMs));
    if (this.#isOver) return false;
    switch (renewal.kind) {
      case 'renewed':
        this.#ttlMs = renewal.ttlMs;
        this.#expiresAtMs = sentAtMs + renewal.ttlMs;
        this.#lastMissed = null;
        this.#take(renewal);
        return true;
      case 'over':
        this.#isGone = true;
        this.#conclude(overView(this.#view.id, renewal.verdict, renewal.outcome));
        return false;
      case 'missed':
        if (this.#lastMissed === null) this.#events.onMissed?.(renewal.detail, leftMs);
        this.#lastMissed = renewal.detail;
        return false;
    }
  }

  #take(standing: Standing): void {
    const view = viewOf(this.#view.id, standing);
    if (view.state === 'over') this.#conclude(view);
    else {
      this.#view = view;
      this.#events.onResult?.(view);
    }
  }

  #lapse(): void {
    this.#isGone = true;
    const seconds = this.#ttlMs / 1000;
    const why = this.#lastMissed ?? 'this process was too busy to renew it';
    const reason = `Nothing was heard from ${this.#service.place} for ${seconds} s, the time that the lease lives without a renewal: ${why}`;
    this.#conclude(overView(this.#view.id, localVerdict('ABORT', 'service-lost', reason), 'lost'));
  }

  /** The first end stays. */
  #conclude(view: LeaseView): void {
    if (this.#isOver) return;
    this.#view = view;
    this.#finish();
    this.#events.onOver?.(view);
  }

  #finish(): void {
    this.#isOver = true;
    this.#unsubscribe();
    this.#woken.abort(WAKE);
  }

  get #periodMs(): number {
    const longest = Math.min(LONGEST_PERIOD_MS, this.#ttlMs / 3);
    return this.#view.state === 'paused' ? Math.min(longest, SHORT_PERIOD_MS) : longest;
  }
}

function viewOf(id: string, { verdict, intensityCap }: Standing): LeaseView {
  switch (verdict.action) {
    case 'PROCEED':
    case 'REDUCE_INTENSITY':
      return { id, state: 'running', intensityCap, verdict, end: null };
    case 'WAIT_COOLDOWN':
      return { id, state: 'paused', intensityCap, verdict, end: null };
    case 'ABORT':
      return overView(id, verdict, 'aborted');
  }
}

function overView(id: string, verdict: Verdict, end: LeaseEnd): LeaseView {
  return { id, state: 'over', intensityCap: 0, verdict, end };
}
