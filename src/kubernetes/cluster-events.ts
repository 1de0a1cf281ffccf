// What `kubectl get events` and `kubectl describe configmap vsf-estop` say of trips: core/v1 Events in the service's own
// namespace, about the ConfigMap that holds the latch. For people who look there first, and for nothing else: nobody
// waits for it, it never logs, and an API server that is down costs these Events and no more.
import { createHash } from 'node:crypto';
import { type Clock, TIMED_OUT, withDeadline } from '../clock.ts';
import type { EventName, Message } from '../domain/events.ts';
import { type KubeAnswer, type KubeApi, type KubeObject, pathOf } from './kube-api.ts';

export interface ClusterEvents {
  /** Takes one published message; returns at once and never throws. */
  tell(message: Message): void;
  counts(): EventCounts;
  /** What waits is not told. */
  close(): Promise<void>;
}

/** Since the start. */
export interface EventCounts {
  readonly sent: number;
  readonly failed: number;
  /** Pushed out by newer ones. */
  readonly dropped: number;
  readonly pending: number;
  /** Why the last one failed; `null` after one that did not. */
  readonly lastError: string | null;
}

/** What is told, and how it is called; `kubectl get events --field-selector reason=EmergencyStop`. */
const KINDS: Partial<Readonly<Record<EventName, { readonly reason: string; readonly type: 'Normal' | 'Warning' }>>> = {
  tripped: { reason: 'EmergencyStop', type: 'Warning' },
  'stop-unverified': { reason: 'StopUnverified', type: 'Warning' },
  'stop-verified': { reason: 'StopVerified', type: 'Normal' },
  reset: { reason: 'Reset', type: 'Normal' },
};

const ABOUT = 'vsf-estop';
const COMPONENT = 'vsf-safety';
const MOST_WAITING = 64;
const REQUEST_TIMEOUT_MS = 5_000;
/** A failure that may pass is tried this often, this far apart: an API server's restart, and no more. */
const MOST_TRIES = 3;
const AGAIN_AFTER_MS = 5_000;
/** The API server's own bound. */
const LONGEST_MESSAGE = 1_024;
const EVENTS = { group: '', version: 'v1', resource: 'events', namespaced: true } as const;
const CONFIG_MAPS = { group: '', version: 'v1', resource: 'configmaps', namespaced: true } as const;

/** @param parts.identity this process, as `reportingInstance`: the pod's name. */
export function createClusterEvents(parts: {
  readonly api: KubeApi;
  readonly clock: Clock;
  readonly namespace: string;
  readonly identity: string;
}): ClusterEvents {
  return new Teller(parts);
}

type Waiting = Extract<Message, { type: 'event' }>;

class Teller implements ClusterEvents {
  readonly #parts: Parameters<typeof createClusterEvents>[0];
  readonly #waiting: Waiting[] = [];
  readonly #closing = new AbortController();
  #running: Promise<void> | null = null;
  #sent = 0;
  #failed = 0;
  #dropped = 0;
  #lastError: string | null = null;

  constructor(parts: Parameters<typeof createClusterEvents>[0]) {
    this.#parts = parts;
  }

  tell(message: Message): void {
    if (message.type !== 'event' || !KINDS[message.data.name] || this.#closing.signal.aborted) return;
    this.#waiting.push(message);
    if (this.#waiting.length > MOST_WAITING) {
      this.#waiting.shift();
      this.#dropped += 1;
    }
    this.#running ??= this.#run();
  }

  counts(): EventCounts {
    return {
      sent: this.#sent,
      failed: this.#failed,
      dropped: this.#dropped,
      pending: this.#waiting.length,
      lastError: this.#lastError,
    };
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    // Never within the decision that published it.
    await this.#parts.clock.sleep(0, this.#closing.signal);
    for (let next = this.#waiting.shift(); next; next = this.#waiting.shift()) {
      const failure = await this.#create(next);
      if (this.#closing.signal.aborted) break;
      if (failure === null) this.#sent += 1;
      else this.#failed += 1;
      this.#lastError = failure;
    }
    this.#running = null;
  }

  /** `null`, or why not. */
  async #create(message: Waiting): Promise<string | null> {
    const { api, clock, namespace } = this.#parts;
    const event = this.#eventOf(message, await this.#uidOfLatch());
    let failure = 'it was not tried';
    for (let tries = 1; tries <= MOST_TRIES && !this.#closing.signal.aborted; tries++) {
      const answer = await this.#inTime(api.create(pathOf(EVENTS, { namespace }), event, REQUEST_TIMEOUT_MS));
      if (answer === TIMED_OUT) failure = 'Cannot create an event: no answer in time';
      // A conflict: an earlier try arrived after all, and its answer did not.
      else if (answer.ok || answer.kind === 'conflict') return null;
      else failure = answer.detail;
      if (answer !== TIMED_OUT && !mayPass(answer)) break;
      if (tries < MOST_TRIES) await clock.sleep(AGAIN_AFTER_MS, this.#closing.signal);
    }
    return failure;
  }

  /** `kubectl describe` shows only the events of that very object. */
  async #uidOfLatch(): Promise<string | undefined> {
    const { api, namespace } = this.#parts;
    const found = await this.#inTime(api.get(pathOf(CONFIG_MAPS, { namespace, name: ABOUT }), REQUEST_TIMEOUT_MS));
    return found !== TIMED_OUT && found.ok ? found.value.metadata.uid : undefined;
  }

  #inTime(answer: Promise<KubeAnswer<KubeObject>>): Promise<KubeAnswer<KubeObject> | typeof TIMED_OUT> {
    return withDeadline(this.#parts.clock, REQUEST_TIMEOUT_MS, answer);
  }

  #eventOf({ sequence, at, data }: Waiting, uid: string | undefined): object {
    const { namespace, identity } = this.#parts;
    const own = createHash('sha256').update(`${identity} ${sequence} ${at}`).digest('hex').slice(0, 16);
    // As an event's stamps are written: to the second.
    const stamp = at.replace(/\.\d+Z$/, 'Z');
    return {
      apiVersion: 'v1',
      kind: 'Event',
      metadata: { name: `${ABOUT}.${own}`, namespace },
      involvedObject: {
        apiVersion: 'v1',
        kind: 'ConfigMap',
        namespace,
        name: ABOUT,
        ...(uid !== undefined && { uid }),
      },
      ...KINDS[data.name],
      message: data.message.length > LONGEST_MESSAGE ? `${data.message.slice(0, LONGEST_MESSAGE - 1)}…` : data.message,
      source: { component: COMPONENT },
      reportingComponent: COMPONENT,
      reportingInstance: identity.slice(0, 128),
      firstTimestamp: stamp,
      lastTimestamp: stamp,
      count: 1,
    };
  }
}

function mayPass(answer: KubeAnswer<KubeObject>): boolean {
  if (answer.ok) return false;
  return ['timeout', 'unreachable', 'server-error', 'too-many-requests'].includes(answer.kind);
}
