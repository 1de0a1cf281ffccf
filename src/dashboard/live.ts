// Everything that the page knows, kept up to date: the stream says at once what changes, and after each of its messages
// the status is asked for, which tells every reading. Components read a snapshot and are told when there is a new one.
import { ask } from './api.ts';
import { after, type Now, now, secondsBetween } from './clock.ts';
import type { Contact } from './liveness.ts';
import type { LogEntry } from './spans.ts';
import { Stream } from './stream.ts';
import { Recorder } from './timeline.ts';
import type { Estop, Evaluation, EventData, History, Message, Status, WithHistory } from './wire.ts';

const MOST_EVENTS = 300;
/** Several messages at once (a trip, its lease, its stop) are one question. */
const REFRESH_DELAY_MS = 80;
/**
 * A status of a thousand nodes costs the service and the page something: at most this share of the time goes into it.
 * What is quick is asked for at once.
 */
const REFRESH_SHARE = 1 / 20;
const QUICK_SECONDS = 0.1;
const STATUS_TIMEOUT_MS = 15_000;
const DEFAULT_INTERVAL_SECONDS = 10;
/** A history that the service does not have is not asked for again and again. */
const HISTORY_AGAIN_SECONDS = 60;

export type HistoryState =
  | { readonly kind: 'asking' }
  | { readonly kind: 'there'; readonly history: History }
  | { readonly kind: 'none'; readonly why: string };

/** A snapshot; replaced, never changed. */
export interface Seen {
  readonly contact: Contact;
  readonly evaluation: Evaluation | null;
  readonly status: Status | null;
  readonly estop: Estop | null;
  /** The newest first. */
  readonly events: readonly LogEntry[];
  /** Events were missed while there was no contact, and nobody can tell them any more. */
  readonly hasGap: boolean;
  /** When the newest status came. */
  readonly readAt: Now | null;
  /** Of the node that is looked at. */
  readonly history: HistoryState;
}

export class Live {
  readonly recorder = new Recorder();
  readonly #listeners = new Set<() => void>();
  readonly #stream: Stream;
  #seen: Seen;
  #refreshing = false;
  #refreshAgain = false;
  #cancelRefresh: (() => void) | null = null;
  #nextWholeMs = 0;
  #watched: string | null = null;
  #instance: string | null = null;
  #historyAskedAt: Now | null = null;
  /** Our moment at which the service's wall clock said something. */
  #sync: { readonly serverMs: number; readonly at: Now } | null = null;

  constructor() {
    const contact: Contact = {
      isOpen: false,
      brokenSince: now(),
      hadContact: false,
      nextTryAt: null,
      refusal: null,
      evaluated: null,
      read: null,
      intervalSeconds: DEFAULT_INTERVAL_SECONDS,
    };
    const history: HistoryState = { kind: 'asking' };
    this.#seen = {
      contact,
      evaluation: null,
      status: null,
      estop: null,
      events: [],
      hasGap: false,
      readAt: null,
      history,
    };
    this.#stream = new Stream({
      onOpen: () => undefined,
      onMessage: (message) => this.#take(message),
      onBroken: (retryMs) => this.#onBroken(retryMs),
    });
  }

  get seen(): Seen {
    return this.#seen;
  }

  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Connects, now; also after a new token. */
  connect(): void {
    this.#stream.connect();
    this.refresh();
  }

  /** The service's wall clock at `moment`, in seconds since 1970. */
  serverSeconds(moment: Now): number {
    if (!this.#sync) return moment.wallMs / 1000;
    return this.#sync.serverMs / 1000 + secondsBetween(this.#sync.at, moment);
  }

  /** Looks at another node: its history is asked for. */
  watch(node: string): void {
    if (node === this.#watched) return;
    this.#watched = node;
    this.recorder.watched = node;
    if (this.#seen.status) this.recorder.record(this.#seen.status);
    this.#set({ history: { kind: 'asking' } });
    void this.#askHistory(node);
  }

  /** Asks for the status, soon; one question at a time. */
  refresh(): void {
    if (this.#refreshing) {
      this.#refreshAgain = true;
      return;
    }
    if (this.#cancelRefresh) return;
    this.#cancelRefresh = after(REFRESH_DELAY_MS, () => {
      this.#cancelRefresh = null;
      void this.#refreshNow();
    });
  }

  /** Everything; or, while that is too dear, the node that is looked at: the stream tells of the others. */
  async #refreshNow(): Promise<void> {
    this.#refreshing = true;
    const beganAt = now();
    const isWhole = this.#watched === null || !this.#seen.status || beganAt.elapsedMs >= this.#nextWholeMs;
    const path = isWhole ? '/status' : `/status?node=${encodeURIComponent(this.#watched ?? '')}`;
    const [status, estop] = await Promise.all([
      ask<Status>('GET', path, { timeoutMs: STATUS_TIMEOUT_MS }),
      ask<Estop>('GET', '/estop', { timeoutMs: STATUS_TIMEOUT_MS }),
    ]);
    this.#refreshing = false;
    const tookSeconds = secondsBetween(beganAt, now());
    const pauseSeconds = tookSeconds > QUICK_SECONDS ? tookSeconds / REFRESH_SHARE : 0;
    if (isWhole) this.#nextWholeMs = now().elapsedMs + pauseSeconds * 1000;
    if (status.ok && estop.ok) this.#takeStatus(isWhole ? status.body : this.#patched(status.body), estop.body);
    else if (!status.ok) this.#onNoStatus(status.status, status.why);
    if (this.#refreshAgain) {
      this.#refreshAgain = false;
      this.refresh();
    }
  }

  /** The last whole status with what is newer of one node. */
  #patched(part: Status): Status {
    const last = this.#seen.status;
    if (!last) return part;
    const newer = new Map(part.nodes.map((node) => [node.node, node]));
    const { unprotected, conflicts, unleased, sources } = last;
    const nodes = last.nodes.map((node) => newer.get(node.node) ?? node);
    return { ...part, nodes, unprotected, conflicts, unleased, sources };
  }

  #takeStatus(status: Status, estop: Estop): void {
    const moment = now();
    this.#sync = { serverMs: Date.parse(status.at), at: moment };
    this.recorder.record(status);
    const { intervalSeconds, lastTickAgeSeconds } = status.evaluation;
    // Twice, since a tick may be late by half, and once for the way.
    this.#stream.silenceMs = intervalSeconds * 2_500 + 2_000;
    this.#set({
      status,
      estop,
      readAt: moment,
      contact: {
        ...this.#seen.contact,
        refusal: null,
        intervalSeconds,
        read: { tickAgeSeconds: lastTickAgeSeconds, at: moment, isFailing: false },
      },
    });
    const { history } = this.#seen;
    const isDue = this.#historyAskedAt && secondsBetween(this.#historyAskedAt, moment) > HISTORY_AGAIN_SECONDS;
    if (this.#watched !== null && history.kind === 'none' && isDue) void this.#askHistory(this.#watched);
  }

  #onNoStatus(code: number | null, why: string): void {
    const { contact } = this.#seen;
    const refusal = code === 401 || code === 403 ? why : null;
    this.#set({ contact: { ...contact, refusal, read: contact.read && { ...contact.read, isFailing: true } } });
  }

  #onBroken(retryMs: number): void {
    const { contact } = this.#seen;
    const moment = now();
    this.#set({
      contact: {
        ...contact,
        isOpen: false,
        brokenSince: contact.isOpen ? moment : contact.brokenSince,
        nextTryAt: { ...moment, elapsedMs: moment.elapsedMs + retryMs },
      },
    });
    // A browser does not say why a WebSocket failed; the status does, when a token is missing.
    this.refresh();
  }

  #take(message: Message): void {
    const moment = now();
    const atMs = Date.parse(message.at);
    const { contact, events } = this.#seen;
    const opened: Contact = { ...contact, isOpen: true, hadContact: true, nextTryAt: null };
    switch (message.type) {
      case 'hello': {
        this.#sync = { serverMs: atMs, at: moment };
        // What another process judged is nothing that this one stands for.
        const isNewProcess = this.#instance !== null && this.#instance !== message.instance;
        this.#instance = message.instance;
        const contactNow = isNewProcess ? { ...opened, evaluated: null, read: null } : opened;
        this.#set({ contact: contactNow, hasGap: this.#seen.hasGap || message.data.gap });
        if (message.data.gap && this.#watched !== null) void this.#askHistory(this.#watched);
        break;
      }
      case 'evaluation': {
        const ageSeconds = Math.max(0, this.serverSeconds(moment) - atMs / 1000);
        this.#set({ contact: { ...opened, evaluated: { ageSeconds, at: moment } }, evaluation: message.data });
        break;
      }
      case 'event': {
        const entry = entryOf(message.data, message.at, `${message.instance}/${message.sequence}`);
        this.#set({ contact: opened, events: [entry, ...events].slice(0, MOST_EVENTS) });
        break;
      }
    }
    this.refresh();
  }

  async #askHistory(node: string): Promise<void> {
    this.#historyAskedAt = now();
    const kept = (this.#seen.status as (Status & WithHistory) | null)?.history;
    if (kept === undefined || kept.state === 'off') {
      const why = kept === undefined ? 'this service keeps no history' : `the history is switched off`;
      this.#set({ history: { kind: 'none', why } });
      return;
    }
    const answer = await ask<History>('GET', `/history?from=-1h&node=${encodeURIComponent(node)}`);
    if (node !== this.#watched) return;
    if (!answer.ok) {
      this.#set({ history: { kind: 'none', why: answer.why } });
      return;
    }
    const known = new Set(this.#seen.events.map(sameness));
    const earlier = answer.body.events
      .map((event) => entryOf(event, event.at, `history/${event.at}/${event.name}/${event.message}`))
      .filter((entry) => !known.has(sameness(entry)));
    const events = [...this.#seen.events, ...earlier].sort((a, b) => Date.parse(b.at) - Date.parse(a.at));
    this.#set({
      history: { kind: 'there', history: answer.body },
      events: events.slice(0, MOST_EVENTS),
      hasGap: false,
    });
  }

  #set(change: Partial<Seen>): void {
    this.#seen = { ...this.#seen, ...change };
    for (const listener of this.#listeners) listener();
  }
}

const sameness = ({ at, name, message }: LogEntry): string => `${Date.parse(at)}/${name}/${message}`;

type Told = Pick<EventData, 'message'> & { readonly name: string; readonly node?: string; readonly by?: string };

function entryOf({ name, message, node, by }: Told, at: string, key: string): LogEntry {
  return { key, at, name, message, ...(node !== undefined && { node }), ...(by !== undefined && { by }) };
}
