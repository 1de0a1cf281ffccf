// Every published message to every WebSocket client, each turned into bytes once. A client that comes back gets what it
// missed from a ring; one that does not read is first sent only the newest evaluation, and then let go, so that its
// unread messages never fill this process. The route is routes/stream.ts.
import type { WebSocket } from 'ws';
import type { Clock } from '../clock.ts';
import type { Message } from '../domain/events.ts';
import { interlockOf } from './estop-view.ts';
import type { AppParts } from './parts.ts';
import type { MessageSchema, Told } from './schemas.ts';

/** An hour of evaluations. */
const RING_SIZE = 360;
/** A broadcast to this many takes over 100 ms of the loop already (measured), sliced below. */
const MOST_CLIENTS = 5_000;
/** Clients served in one go, some 10 ms; between slices other requests get their turn, an emergency stop first of all. */
const SLICE = 1_000;
/** Unsent bytes of one client from which it only gets the newest evaluation: several large ones. */
const MOST_BUFFERED_BYTES = 256 * 1024;
const MOST_LAG_MS = 30_000;
/** Proxies drop a socket that is idle for 60 s. */
const PING_INTERVAL_MS = 15_000;
const MOST_UNANSWERED_PINGS = 2;
/** A peer that does not answer the close frame is cut off. */
const CLOSE_GRACE_MS = 1_000;
const GOING_AWAY = 1001;
const POLICY_VIOLATION = 1008;
const TRY_AGAIN_LATER = 1013;

interface Frame {
  readonly sequence: number;
  readonly isEvaluation: boolean;
  readonly bytes: Buffer;
}

interface Client {
  readonly socket: WebSocket;
  /** Whether its token is still known here; `null`: it was let in by something else. */
  readonly isKnown: (() => boolean) | null;
  sentThrough: number;
  /** The newest evaluation, waiting for the client to read on. */
  held: Frame | null;
  laggingSinceMs: number | null;
  unansweredPings: number;
}

/** From where a client wants to go on. */
export interface Since {
  readonly sequence: number;
  readonly instance: string | undefined;
}

export class Stream {
  readonly #parts: Pick<AppParts, 'supervisor' | 'clock' | 'instance' | 'log'>;
  readonly #clients = new Set<Client>();
  readonly #ring: Frame[] = [];
  readonly #outbox: Frame[] = [];
  readonly #closed = new AbortController();
  #newestEvaluation: Frame | null = null;
  #isSending = false;
  #unsubscribe: () => void = () => undefined;

  constructor(parts: Pick<AppParts, 'supervisor' | 'clock' | 'instance' | 'log'>) {
    this.#parts = parts;
  }

  get clientCount(): number {
    return this.#clients.size;
  }

  get isFull(): boolean {
    return this.#clients.size >= MOST_CLIENTS;
  }

  /** Begins to listen and to ping. */
  start(): void {
    this.#unsubscribe = this.#parts.supervisor.subscribe((message) => {
      // A listener runs within a decision; nothing that goes wrong here may reach it.
      try {
        this.#publish(message);
      } catch (error) {
        this.#parts.log.error({ err: error }, 'Cannot send a message to WebSocket clients');
      }
    });
    void this.#pingLoop();
  }

  /** Takes a client in: `hello`, what it missed or the newest evaluation, then everything. */
  add(socket: WebSocket, since: Since | null, isKnown: Client['isKnown'] = null): void {
    if (this.#closed.signal.aborted) {
      this.#letGo(socket, GOING_AWAY, 'shutting down');
      return;
    }
    const { state } = this.#parts.supervisor;
    const client: Client = {
      socket,
      isKnown,
      sentThrough: state.sequence,
      held: null,
      laggingSinceMs: null,
      unansweredPings: 0,
    };
    this.#clients.add(client);
    socket.on('close', () => this.#clients.delete(client));
    socket.on('pong', () => {
      client.unansweredPings = 0;
    });
    socket.on('ping', (data) => {
      if (socket.bufferedAmount <= MOST_BUFFERED_BYTES) socket.pong(data);
    });
    const missed = since && this.#missedSince(since);
    socket.send(this.#helloText(since !== null && missed === null), { binary: false });
    const frames = missed ?? (this.#newestEvaluation ? [this.#newestEvaluation] : []);
    for (const frame of frames) this.#send(client, frame);
    client.sentThrough = Math.max(client.sentThrough, this.#ring.at(-1)?.sequence ?? 0);
  }

  /** Lets those go whose token is known no longer (1008). */
  dropUnknown(): void {
    for (const { socket, isKnown } of this.#clients) {
      if (isKnown && !isKnown()) this.#letGo(socket, POLICY_VIOLATION, 'the token is not known any more');
    }
  }

  /** Says goodbye to all (1001), and cuts off who does not answer within a second. */
  close(): void {
    this.#closed.abort();
    this.#unsubscribe();
    for (const { socket } of this.#clients) this.#letGo(socket, GOING_AWAY, 'shutting down');
  }

  #publish(message: Message): void {
    const envelope = { type: message.type, instance: this.#parts.instance, sequence: message.sequence, at: message.at };
    const bytes = Buffer.from(JSON.stringify({ ...envelope, data: message.data }));
    const frame = { sequence: message.sequence, isEvaluation: message.type === 'evaluation', bytes };
    this.#ring.push(frame);
    if (this.#ring.length > RING_SIZE) this.#ring.shift();
    if (frame.isEvaluation) this.#newestEvaluation = frame;
    this.#outbox.push(frame);
    if (this.#outbox.length > RING_SIZE) this.#outbox.shift();
    if (!this.#isSending) void this.#drainOutbox();
  }

  async #drainOutbox(): Promise<void> {
    this.#isSending = true;
    for (let frame = this.#outbox.shift(); frame; frame = this.#outbox.shift()) {
      let served = 0;
      for (const client of [...this.#clients]) {
        if (served > 0 && served % SLICE === 0) await this.#parts.clock.sleep(0);
        served += 1;
        this.#deliver(client, frame);
      }
    }
    this.#isSending = false;
  }

  #deliver(client: Client, frame: Frame): void {
    if (frame.sequence <= client.sentThrough) return;
    if (client.socket.bufferedAmount <= MOST_BUFFERED_BYTES) {
      this.#catchUp(client);
      this.#send(client, frame);
      return;
    }
    const nowMs = this.#parts.clock.now().elapsedMs;
    client.laggingSinceMs ??= nowMs;
    if (frame.isEvaluation) client.held = frame;
    if (nowMs - client.laggingSinceMs >= MOST_LAG_MS) this.#letGo(client.socket, TRY_AGAIN_LATER, 'not reading');
  }

  #send(client: Client, frame: Frame): void {
    client.sentThrough = frame.sequence;
    client.socket.send(frame.bytes, { binary: false }, () => this.#catchUp(client));
  }

  /** Something of what was sent has left this process: a client that lagged gets the newest evaluation. */
  #catchUp(client: Client): void {
    if (client.socket.bufferedAmount > MOST_BUFFERED_BYTES) return;
    client.laggingSinceMs = null;
    const { held } = client;
    client.held = null;
    if (held && held.sequence > client.sentThrough) this.#send(client, held);
  }

  /** The frames that a client has missed; `null` where they are no longer all there, or were another process'. */
  #missedSince({ sequence, instance }: Since): readonly Frame[] | null {
    const oldest = this.#ring[0]?.sequence ?? this.#parts.supervisor.state.sequence + 1;
    const newest = this.#ring.at(-1)?.sequence ?? this.#parts.supervisor.state.sequence;
    const isWhole = instance === this.#parts.instance && sequence >= oldest - 1 && sequence <= newest;
    return isWhole ? this.#ring.filter((frame) => frame.sequence > sequence) : null;
  }

  #helloText(gap: boolean): string {
    const { supervisor, clock, instance } = this.#parts;
    const hello: Told<typeof MessageSchema> = {
      type: 'hello',
      instance,
      sequence: supervisor.state.sequence,
      at: new Date(clock.now().wallMs).toISOString(),
      data: {
        oldest: this.#ring[0]?.sequence ?? null,
        newest: this.#ring.at(-1)?.sequence ?? null,
        interlock: interlockOf(supervisor.state),
        gap,
      },
    };
    return JSON.stringify(hello);
  }

  /** Independent of evaluations, so that a client can tell a stalled monitor from a dead socket. */
  async #pingLoop(): Promise<void> {
    const { clock } = this.#parts;
    while (!this.#closed.signal.aborted) {
      await clock.sleep(PING_INTERVAL_MS, this.#closed.signal);
      for (const client of this.#clients) {
        if (client.unansweredPings >= MOST_UNANSWERED_PINGS) {
          this.#letGo(client.socket, TRY_AGAIN_LATER, 'not answering');
          continue;
        }
        client.unansweredPings += 1;
        client.socket.ping();
      }
    }
  }

  #letGo(socket: WebSocket, code: number, reason: string): void {
    socket.close(code, reason);
    const { clock }: { readonly clock: Clock } = this.#parts;
    const cancel = clock.after(CLOSE_GRACE_MS, () => socket.terminate());
    socket.once('close', cancel);
  }
}
