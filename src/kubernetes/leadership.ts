// Who leads: at most one process of a cluster resets, restores and grants leases. client-go's algorithm over one Lease
// object: renewed by compare-and-swap; a follower takes over only when the record has not *changed* for its whole
// duration, by the follower's own monotonic clock, so that no wall clock matters. The leader stops believing in itself
// well before anybody else may take over. This is no fencing; what is guarded by it must also compare and swap.
// Stopping needs no leader and never asks here.
import type { Clock } from '../clock.ts';
import { type KubeAnswer, type KubeApi, type KubeObject, pathOf } from './kube-api.ts';

/** As client-go's defaults; the tolerated rate between two clocks is their ratio. */
export const LEASE_DURATION_MS = 15_000;
export const RENEW_DEADLINE_MS = 10_000;
export const RETRY_PERIOD_MS = 2_000;
const JITTER = 1.2;
const SHORTEST_WAIT_MS = 500;
/** So that several tries fit into the renew deadline, whatever the server does. */
const REQUEST_TIMEOUT_MS = 2_500;
/** A process that did not run for this long (stopped, swapped, blocked) does not know what happened meanwhile. */
const STALL_MS = 5_000;
const BEAT_MS = 1_000;
/** A duration written by hand must not leave the cluster without a leader for a day. */
const LONGEST_DURATION_S = 300;

export const LEADER_LEASE = 'vsf-safety';
const LEASES = { group: 'coordination.k8s.io', version: 'v1', resource: 'leases', namespaced: true } as const;

export type LeadershipView =
  | { readonly state: 'leader'; readonly identity: string }
  /** Somebody else leads, or is about to; `null` while nobody does. */
  | { readonly state: 'standby'; readonly identity: string; readonly leader: string | null }
  /** The API server does not answer, so nobody knows. */
  | { readonly state: 'unknown'; readonly identity: string; readonly detail: string };

export interface LeadershipParts {
  readonly api: KubeApi;
  readonly clock: Clock;
  readonly namespace: string;
  /** Unlike any other process's, also of the same pod's next start: pod name + random uuid. */
  readonly identity: string;
  /**
   * Identities of this process's earlier starts, which are known to have ended: a Lease of theirs is free at once.
   * Default: none.
   */
  readonly predecessors?: readonly string[];
  /** Default {@link LEADER_LEASE}. */
  readonly name?: string;
  /** In [0, 1); for the jitter between tries. */
  readonly random?: () => number;
}

interface Observed {
  readonly object: KubeObject;
  readonly holder: string;
  readonly durationMs: number;
  /** Our own monotonic time when this record was first seen. */
  readonly sinceMs: number;
}

export class Leadership {
  readonly #parts: Required<LeadershipParts>;
  readonly #path: string;
  readonly #listeners = new Set<(view: LeadershipView) => void>();
  #observed: Observed | null = null;
  /** Start of the last renewal that succeeded; `null` while not leading. */
  #renewedAtMs: number | null = null;
  /** When the last request was begun that told how the Lease stands; `null` when none did. */
  #answeredAtMs: number | null = null;
  #lastBeatMs = 0;
  #failure = 'The Lease has not been read yet';
  #told: LeadershipView['state'] = 'unknown';
  #stopping = new AbortController();
  #running: Promise<void> = Promise.resolve();
  #cancelWatch: () => void = () => undefined;

  constructor(parts: LeadershipParts) {
    this.#parts = { name: LEADER_LEASE, random: Math.random, predecessors: [], ...parts };
    this.#path = pathOf(LEASES, { namespace: parts.namespace, name: this.#parts.name });
  }

  /** As of now: judged by the clock at every call, so that a late timer cannot lengthen a leadership. */
  get view(): LeadershipView {
    const { identity, predecessors } = this.#parts;
    if (this.#isLeading()) return { state: 'leader', identity };
    const nowMs = this.#nowMs();
    const isFresh = this.#answeredAtMs !== null && nowMs - this.#answeredAtMs < RENEW_DEADLINE_MS;
    if (!isFresh || this.#hasStalled(nowMs)) return { state: 'unknown', identity, detail: this.#failure };
    const holder = this.#observed?.holder ?? '';
    // One that has ended leads nobody, though its name stands there until our own write is answered.
    const isNobody = holder === '' || holder === identity || predecessors.includes(holder);
    return { state: 'standby', identity, leader: isNobody ? null : holder };
  }

  get isLeader(): boolean {
    return this.view.state === 'leader';
  }

  /** Calls `listener` when the state changes; the returned function ends that. */
  onChange(listener: (view: LeadershipView) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Begins to stand for election, and goes on until `stop` or `release`. */
  start(): void {
    this.#stopping = new AbortController();
    this.#lastBeatMs = this.#nowMs();
    this.#watch();
    this.#running = this.#campaign(this.#stopping.signal);
  }

  /** Leads no more from this moment on. The Lease runs out by itself. */
  async stop(): Promise<void> {
    this.#renewedAtMs = null;
    this.#stopping.abort();
    this.#cancelWatch();
    this.#tell();
    await this.#running;
  }

  /**
   * Stops, and gives the Lease back, so that another can lead at once. Only after everything that leadership guards has
   * ended. Takes at most one request's time.
   */
  async release(): Promise<void> {
    await this.stop();
    const observed = this.#observed;
    if (observed?.holder !== this.#parts.identity) return;
    const { holderIdentity: _, ...spec } = { ...observed.object.spec };
    const given = { ...spec, leaseDurationSeconds: 1, renewTime: microTime(this.#parts.clock.now().wallMs) };
    await this.#parts.api.replace(this.#path, { ...observed.object, spec: given }, REQUEST_TIMEOUT_MS);
    this.#observed = null;
  }

  #nowMs(): number {
    return this.#parts.clock.now().elapsedMs;
  }

  #isLeading(): boolean {
    const nowMs = this.#nowMs();
    if (this.#renewedAtMs === null || this.#hasStalled(nowMs)) return false;
    return nowMs - this.#renewedAtMs < RENEW_DEADLINE_MS;
  }

  #hasStalled(nowMs: number): boolean {
    return nowMs - this.#lastBeatMs > STALL_MS;
  }

  /** A beat that comes late is how a stall is noticed afterwards; until then `view` sees that it is missing. */
  #watch(): void {
    this.#cancelWatch = this.#parts.clock.after(BEAT_MS, () => {
      const nowMs = this.#nowMs();
      if (this.#hasStalled(nowMs)) {
        // What was known before the stall is of another time; the next answer decides.
        this.#failure = `This process stood still for ${Math.round((nowMs - this.#lastBeatMs) / 1000)} s`;
        this.#renewedAtMs = null;
        this.#answeredAtMs = null;
      }
      this.#lastBeatMs = nowMs;
      this.#tell();
      this.#watch();
    });
  }

  #tell(): void {
    const { view } = this;
    if (view.state === this.#told) return;
    this.#told = view.state;
    for (const listener of this.#listeners) listener(view);
  }

  async #campaign(stopping: AbortSignal): Promise<void> {
    const { clock, random } = this.#parts;
    while (!stopping.aborted) {
      const startedMs = this.#nowMs();
      await this.#tryOnce(stopping);
      this.#tell();
      const spentMs = this.#nowMs() - startedMs;
      // A leader renews steadily, whatever a try took; those who wait spread out, so that they do not all try at once.
      const waitMs = this.#isLeading()
        ? Math.max(SHORTEST_WAIT_MS, RETRY_PERIOD_MS - spentMs)
        : RETRY_PERIOD_MS * (1 + random() * JITTER);
      await clock.sleep(waitMs, stopping);
    }
  }

  /** One try to acquire or to renew. */
  async #tryOnce(stopping: AbortSignal): Promise<void> {
    const { api, identity, predecessors } = this.#parts;
    const startedMs = this.#nowMs();
    if (this.#isLeading() && this.#observed) {
      const isSettled = await this.#write(this.#observed, startedMs, stopping);
      if (isSettled) return;
    }
    if (stopping.aborted) return;
    const askedMs = this.#nowMs();
    const found = await api.get(this.#path, REQUEST_TIMEOUT_MS);
    if (!found.ok && found.kind === 'not-found') {
      await this.#create(this.#nowMs(), stopping);
      return;
    }
    if (!found.ok) {
      this.#failure = found.detail;
      return;
    }
    const observed = this.#observe(found.value, askedMs);
    const isFree = observed.holder === '' || predecessors.includes(observed.holder);
    const isHeld = !isFree && this.#nowMs() - observed.sinceMs < observed.durationMs;
    if (observed.holder !== identity && isHeld) {
      // Somebody else leads; whatever we believed until now is over.
      this.#renewedAtMs = null;
      return;
    }
    if (!stopping.aborted) await this.#write(observed, this.#nowMs(), stopping);
  }

  /** Takes note of a record; its time runs anew only if it changed. */
  #observe(object: KubeObject, askedMs: number): Observed {
    const nowMs = this.#nowMs();
    this.#answeredAtMs = askedMs;
    const before = this.#observed;
    const isSame =
      before !== null &&
      before.object.metadata.uid === object.metadata.uid &&
      before.object.metadata.resourceVersion === object.metadata.resourceVersion;
    if (isSame) return before;
    const holder = object.spec?.['holderIdentity'];
    const durationS = object.spec?.['leaseDurationSeconds'];
    const isSane = typeof durationS === 'number' && durationS > 0 && durationS <= LONGEST_DURATION_S;
    const observed: Observed = {
      object,
      holder: typeof holder === 'string' ? holder : '',
      durationMs: isSane ? durationS * 1000 : LEASE_DURATION_MS,
      sinceMs: nowMs,
    };
    this.#observed = observed;
    return observed;
  }

  /** `false` only where the Lease must be read again: somebody else wrote it. */
  async #write(observed: Observed, startedMs: number, stopping: AbortSignal): Promise<boolean> {
    const { api, clock, identity } = this.#parts;
    const now = microTime(clock.now().wallMs);
    const { object } = observed;
    const transitions = Number(object.spec?.['leaseTransitions'] ?? 0);
    const isOurs = observed.holder === identity;
    const spec = {
      ...object.spec,
      holderIdentity: identity,
      leaseDurationSeconds: LEASE_DURATION_MS / 1000,
      acquireTime: isOurs ? (object.spec?.['acquireTime'] ?? now) : now,
      renewTime: now,
      leaseTransitions: isOurs ? transitions : transitions + 1,
    };
    const replaced = { ...object, apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', spec };
    return this.#take(await api.replace(this.#path, replaced, REQUEST_TIMEOUT_MS), startedMs, stopping);
  }

  async #create(startedMs: number, stopping: AbortSignal): Promise<void> {
    const { api, clock, identity, namespace, name } = this.#parts;
    const now = microTime(clock.now().wallMs);
    const spec = {
      holderIdentity: identity,
      leaseDurationSeconds: LEASE_DURATION_MS / 1000,
      acquireTime: now,
      renewTime: now,
      leaseTransitions: 0,
    };
    const lease = { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata: { name, namespace }, spec };
    this.#take(await api.create(pathOf(LEASES, { namespace }), lease, REQUEST_TIMEOUT_MS), startedMs, stopping);
  }

  /** A write that succeeded counts from when it was begun: the server may have stored it at once and answered late. */
  #take(answer: KubeAnswer<KubeObject>, startedMs: number, stopping: AbortSignal): boolean {
    if (answer.ok) {
      this.#observe(answer.value, startedMs);
      if (!stopping.aborted) this.#renewedAtMs = startedMs;
      return true;
    }
    this.#failure = answer.detail;
    if (answer.kind === 'conflict') return false;
    // Without an answer, or without the right to write, nobody is known to lead, unless we still do for a while.
    this.#answeredAtMs = null;
    return true;
  }
}

/** Kubernetes' MicroTime: six digits of a second; a Date's three are refused with 400. */
export function microTime(wallMs: number): string {
  return new Date(wallMs).toISOString().replace('Z', '000Z');
}
