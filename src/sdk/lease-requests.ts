// The questions around a lease, each asked once and its answer understood: may it start, grant it, renew it, take it
// back. Who asks when, and what a workload must do then, is lease-holder.ts. An answer that is not understood is no
// answer: it neither grants nor renews.
import { randomUUID } from 'node:crypto';
import type { Clock, Now } from '../clock.ts';
import type { SafetyConstraints } from '../domain/constraints.ts';
import { LEASE_OUTCOMES, type LeaseOutcome } from '../domain/lease.ts';
import {
  errorOf,
  NOT_THE_SERVICE,
  notTheService,
  type SafetyService,
  type SafetyServiceError,
  type ServiceAnswer,
  type ServiceRequest,
} from './safety-service.ts';
import { isObject, localVerdict, parseVerdict, type Verdict } from './verdict.ts';

/** Limits of one's own: a profile's name, or limits, where what is left out comes from `extends`. */
export type ConstraintsInput =
  | 'default'
  | 'bizon1'
  | ({ readonly extends?: 'default' | 'bizon1' } & {
      readonly [Part in keyof SafetyConstraints]?: {
        readonly [Quantity in keyof SafetyConstraints[Part]]?: Partial<SafetyConstraints[Part][Quantity]>;
      };
    });

/** What is asked of a start. */
export interface StartAsk {
  /** Share of full load, over 0 to 1; left out: the profile's maximum. */
  readonly intensity?: number | undefined;
  /** Left out: all nodes. */
  readonly nodes?: readonly string[] | undefined;
  /** Per limit the stricter of these and the service's applies while the lease lives; a looser one is ignored and named. */
  readonly constraints?: ConstraintsInput | undefined;
}

export interface LeaseAsk extends StartAsk {
  /** A name for people, 1 to 200 printable characters. */
  readonly workload: string;
  /** By UUID or PCI address; an index is refused. */
  readonly gpus?: readonly string[] | undefined;
  /** How long the lease lives without a renewal, 5 to 300 s; left out: 30. */
  readonly ttlSeconds?: number | undefined;
  readonly maxDurationSeconds?: number | undefined;
  /** A process group that the service stops itself; its leader must run with `VSF_LEASE=<id>` in its environment. */
  readonly processGroup?: { readonly pgid: number } | undefined;
  /** A UUID; needed with `processGroup`, else made here. */
  readonly id?: string | undefined;
}

/** How a live lease stood when it was last heard of. */
export interface Standing {
  readonly verdict: Verdict;
  /** Share of full load that may be used. */
  readonly intensityCap: number;
}

export interface Grant extends Standing {
  readonly kind: 'granted';
  readonly id: string;
  readonly ttlMs: number;
  /** Monotonic: until when it surely lives without a renewal, counted from when the request was *sent*. */
  readonly expiresAtMs: number;
}

export interface Refusal {
  readonly kind: 'refused';
  readonly verdict: Verdict;
  /** When to ask again, where asking again can help. */
  readonly retryAfterSeconds: number | null;
}

export type Renewal =
  | ({ readonly kind: 'renewed'; readonly ttlMs: number } & Standing)
  | { readonly kind: 'over'; readonly outcome: LeaseOutcome; readonly verdict: Verdict }
  /** No renewal, and no end either: nobody answered, or nobody who could know. */
  | { readonly kind: 'missed'; readonly detail: string };

/** No exchange about a live lease takes longer, nor longer than a third of its TTL. */
export const REQUEST_TIMEOUT_MS = 5_000;
/** A start is answered once its readings are taken (5 s at most) and its grant is on the disk (2 s at most). */
const START_TIMEOUT_MS = 8_000;
/** A grant whose answer was lost is asked for again by the same id, which grants nothing twice. */
const START_ATTEMPTS = 2;
const RETRY_PAUSE_MS = 500;
/** While waiting for leave to start: no longer than one tick of the service, whatever it says is left. */
const LONGEST_WAIT_SECONDS = 10;
const SHORTEST_WAIT_SECONDS = 1;

/**
 * Behind one address there may be several processes of a cluster, of which one grants leases and knows them; each exchange
 * has a connection of its own, so that the next one may find it. Of two, four tries miss it once in sixteen.
 */
const LEADER_ATTEMPTS = 4;
const ELSEWHERE: readonly unknown[] = ['not-leader', 'state-unknown'];

/** Asks again where the process that answered only says that another one must be asked. */
async function askLeader(service: SafetyService, request: ServiceRequest): Promise<ServiceAnswer> {
  let answer = await service.ask(request);
  for (let attempt = 1; attempt < LEADER_ATTEMPTS && isElsewhere(answer); attempt++)
    answer = await service.ask(request);
  return answer;
}

function isElsewhere(answer: ServiceAnswer): boolean {
  if (answer.kind !== 'answered' || answer.status !== 503) return false;
  const { code, result = answer.body } = answer.body;
  const findings = isObject(result) && Array.isArray(result['findings']) ? result['findings'] : [];
  return ELSEWHERE.includes(code) || findings.some((finding) => isObject(finding) && finding['code'] === 'not-leader');
}

export function timeoutFor(ttlMs: number): number {
  return Math.min(REQUEST_TIMEOUT_MS, ttlMs / 3);
}

/** May it start? A service that cannot be asked is an unsafe verdict; a mistake in the request throws. */
export async function askPreflight(service: SafetyService, ask: StartAsk): Promise<Verdict> {
  const { intensity, nodes, constraints } = ask;
  const body = { intensity, nodes, constraints };
  const answer = await askLeader(service, { method: 'POST', path: '/preflight', body, timeoutMs: START_TIMEOUT_MS });
  const verdict = answer.kind === 'answered' && 'action' in answer.body ? parseVerdict(answer.body) : null;
  if (answer.kind === 'answered' && verdict && verdict.safe === (answer.status === 200)) return verdict;
  return refusalOf(errorOf(answer)).verdict;
}

/** Preflight and grant in one. Throws a {@link SafetyServiceError} for a mistake in the request. */
export async function askLease(service: SafetyService, clock: Clock, ask: LeaseAsk): Promise<Grant | Refusal> {
  const id = (ask.id ?? randomUUID()).toLowerCase();
  const firstSent = clock.now();
  const body = { ...ask, id };
  const request = { method: 'POST', path: '/leases', body, timeoutMs: START_TIMEOUT_MS } as const;
  let answer = await askLeader(service, request);
  for (let attempt = 1; attempt < START_ATTEMPTS && answer.kind === 'unreachable'; attempt++) {
    await clock.sleep(RETRY_PAUSE_MS);
    answer = await askLeader(service, request);
  }
  if (answer.kind === 'answered' && answer.status === 201) {
    const standing = standingOf(answer, id);
    if (standing) return confirm(service, clock, { id, firstSent, ...standing });
    return refusalOf(notTheService(201, 'no lease that was asked for'));
  }
  if (answer.kind === 'answered' && 'result' in answer.body) {
    const verdict = parseVerdict(answer.body['result']);
    if (verdict && !verdict.safe) {
      return { kind: 'refused', verdict, retryAfterSeconds: answer.retryAfterSeconds };
    }
    return refusalOf(notTheService(answer.status, 'a refusal that refuses nothing'));
  }
  // What was granted all the same, nobody will hold.
  if (answer.kind === 'unreachable') void releaseLease(service, id, REQUEST_TIMEOUT_MS);
  return refusalOf(errorOf(answer));
}

/**
 * Nobody knows when between question and answer a lease began. One that took long to be answered may be near its end
 * already, so that it counts only once it has been renewed.
 */
async function confirm(
  service: SafetyService,
  clock: Clock,
  granted: Standing & { readonly id: string; readonly ttlMs: number; readonly firstSent: Now },
): Promise<Grant | Refusal> {
  const { id, ttlMs, firstSent, verdict, intensityCap } = granted;
  const sent = clock.now();
  if (sent.elapsedMs - firstSent.elapsedMs < ttlMs / 3) {
    return { kind: 'granted', id, ttlMs, verdict, intensityCap, expiresAtMs: firstSent.elapsedMs + ttlMs };
  }
  const renewal = await renewLease(service, id, timeoutFor(ttlMs));
  switch (renewal.kind) {
    case 'renewed':
      return { ...renewal, kind: 'granted', id, expiresAtMs: sent.elapsedMs + renewal.ttlMs };
    case 'over':
      return { kind: 'refused', verdict: renewal.verdict, retryAfterSeconds: null };
    case 'missed':
      void releaseLease(service, id, timeoutFor(ttlMs));
      return {
        kind: 'refused',
        verdict: localVerdict('WAIT_COOLDOWN', 'service-unreachable', renewal.detail),
        retryAfterSeconds: null,
      };
  }
}

/** Stays alive, and learns what to do now. Never throws. */
export async function renewLease(service: SafetyService, id: string, timeoutMs: number): Promise<Renewal> {
  const answer = await service.ask({ method: 'PUT', path: `/leases/${id}`, body: {}, timeoutMs });
  const standing = answer.kind === 'answered' && answer.status === 200 ? standingOf(answer, id) : null;
  if (standing) return { kind: 'renewed', ...standing };
  const error = errorOf(answer);
  const body = answer.kind === 'answered' ? answer.body : {};
  if (error.code === 'lease-ended') {
    const outcome = LEASE_OUTCOMES.find((known) => known === body['outcome']) ?? 'revoked';
    const why = typeof body['reason'] === 'string' ? body['reason'] : error.message;
    return { kind: 'over', outcome, verdict: localVerdict('ABORT', error.code, `The lease was ${outcome}: ${why}`) };
  }
  if (error.code === 'lease-unknown') {
    const why = 'The service does not know the lease, so it has lapsed';
    return { kind: 'over', outcome: 'lapsed', verdict: localVerdict('ABORT', error.code, why) };
  }
  return { kind: 'missed', detail: error.message };
}

/** Gives a lease back, as well as it goes: one that cannot be given back lapses. Says why it could not be. */
export async function releaseLease(service: SafetyService, id: string, timeoutMs: number): Promise<string | null> {
  const answer = await askLeader(service, { method: 'DELETE', path: `/leases/${id}`, timeoutMs });
  const isGone = answer.kind === 'answered' && [204, 404, 410].includes(answer.status);
  return isGone ? null : errorOf(answer).message;
}

/**
 * Asks until a lease is granted or refused for good: for as long as the service says when to ask again, which it does
 * of a cooldown or a missing reading, and never of a trip. Throws the reason of `signal` once that aborts.
 */
export async function waitForLease(
  service: SafetyService,
  clock: Clock,
  ask: LeaseAsk,
  signal: AbortSignal | undefined,
): Promise<Grant | Refusal> {
  for (;;) {
    signal?.throwIfAborted();
    const answer = await askLease(service, clock, ask);
    if (signal?.aborted && answer.kind === 'granted') {
      await releaseLease(service, answer.id, timeoutFor(answer.ttlMs));
    }
    signal?.throwIfAborted();
    if (answer.kind === 'granted' || answer.retryAfterSeconds === null) return answer;
    const waitSeconds = Math.max(SHORTEST_WAIT_SECONDS, Math.min(answer.retryAfterSeconds, LONGEST_WAIT_SECONDS));
    await clock.sleep(waitSeconds * 1000, signal);
  }
}

/** Who cannot judge refuses; who was asked for what cannot be says so, and that is the asker's mistake. */
function refusalOf(error: SafetyServiceError): Refusal {
  const { code, status, message, retryAfterSeconds } = error;
  if (code === 'lease-ended') {
    // Granted, and tripped before the answer was out.
    return { kind: 'refused', verdict: localVerdict('ABORT', code, message), retryAfterSeconds: null };
  }
  if (status >= 400 && status < 500 && code !== NOT_THE_SERVICE) throw error;
  return { kind: 'refused', verdict: localVerdict('WAIT_COOLDOWN', code, message), retryAfterSeconds };
}

/** What an answer says of the lease that was asked about; `null` where it is about none, or another. */
function standingOf(
  answer: Extract<ServiceAnswer, { kind: 'answered' }>,
  id: string,
): (Standing & { readonly ttlMs: number }) | null {
  const { lease, result } = answer.body;
  const verdict = parseVerdict(result);
  if (!verdict || !isObject(lease) || lease['id'] !== id) return null;
  const { ttlSeconds, intensityCap } = lease;
  if (typeof ttlSeconds !== 'number' || !(ttlSeconds > 0)) return null;
  if (typeof intensityCap !== 'number' || !(intensityCap > 0 && intensityCap <= 1)) return null;
  return { verdict, intensityCap, ttlMs: ttlSeconds * 1000 };
}
