// The WebSocket: connects, and when it breaks connects again by itself, later each time, asking for what was missed. A
// socket that stays open and says nothing is as broken as a closed one: each tick sends an evaluation.
import { after } from './clock.ts';
import { currentToken } from './token.ts';
import type { Message } from './wire.ts';

const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 5_000;
/** A handshake takes milliseconds; one that hangs is given up. */
const HANDSHAKE_MS = 5_000;

export interface StreamListener {
  onOpen(): void;
  onMessage(message: Message): void;
  /** Broken or never made; the next try comes in `retryMs`. */
  onBroken(retryMs: number): void;
}

export class Stream {
  readonly #listener: StreamListener;
  #socket: WebSocket | null = null;
  #failures = 0;
  #cancel: () => void = () => undefined;
  #cancelSilence: () => void = () => undefined;
  #last: { readonly sequence: number; readonly instance: string } | null = null;
  /** How long a healthy socket may say nothing. */
  silenceMs = 25_000;

  constructor(listener: StreamListener) {
    this.#listener = listener;
  }

  /** Connects now, whatever was under way: at the start, with a new token, or when somebody asks. */
  connect(): void {
    this.#cancel();
    this.#cancelSilence();
    this.#leave();
    const since = this.#last ? `?since=${this.#last.sequence}&instance=${encodeURIComponent(this.#last.instance)}` : '';
    const token = currentToken();
    const url = `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/ws${since}`;
    const socket = new WebSocket(url, ['vsf.v1', ...(token === null ? [] : [`bearer.${token}`])]);
    this.#socket = socket;
    this.#cancel = after(HANDSHAKE_MS, () => this.#broken());
    socket.addEventListener('open', () => {
      this.#cancel();
      this.#listenFor(this.silenceMs);
      this.#listener.onOpen();
    });
    socket.addEventListener('message', ({ data }) => {
      if (this.#socket !== socket) return;
      this.#failures = 0;
      this.#listenFor(this.silenceMs);
      this.#take(JSON.parse(String(data)) as Message);
    });
    socket.addEventListener('close', () => {
      if (this.#socket === socket) this.#broken();
    });
  }

  #take(message: Message): void {
    const isNewProcess = this.#last !== null && this.#last.instance !== message.instance;
    // A hello tells the newest sequence, which a replay still leads up to.
    const isReplayed = message.type === 'hello' && this.#last !== null && !isNewProcess && !message.data.gap;
    if (!isReplayed) this.#last = { sequence: message.sequence, instance: message.instance };
    this.#listener.onMessage(message);
  }

  #listenFor(ms: number): void {
    this.#cancelSilence();
    this.#cancelSilence = after(ms, () => this.#broken());
  }

  #broken(): void {
    this.#cancel();
    this.#cancelSilence();
    this.#leave();
    // A third of chance, so that a service that comes back is not met by all pages at once.
    const retryMs = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** this.#failures) * (1 - Math.random() / 3);
    this.#failures += 1;
    this.#cancel = after(retryMs, () => this.connect());
    this.#listener.onBroken(retryMs);
  }

  #leave(): void {
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }
}
