// Which requests leave HTTP. As soon as a server speaks WebSocket, Node hands every request with an Upgrade header to
// it, whatever it asks for, and its body is never read. Java's HttpClient and `curl --http2` offer `Upgrade: h2c` with
// each plain request, an emergency stop among them; such an offer may be ignored (RFC 9110, 7.8), and here it is.
import { IncomingMessage } from 'node:http';

const STREAM_PATH = '/ws';
const OFFERED = Symbol('upgrade offered');

/** An incoming request that only leaves HTTP as a WebSocket handshake on the stream's own path. */
export class PlainUpgrades extends IncomingMessage {
  declare [OFFERED]: boolean | null;

  get upgrade(): boolean {
    return this[OFFERED] === true && this.#isStreamHandshake();
  }

  // Node sets this while the message is made and again when its headers are complete.
  set upgrade(isOffered: boolean | null) {
    this[OFFERED] = isOffered;
  }

  #isStreamHandshake(): boolean {
    const [path = ''] = (this.url ?? '').split('?', 1);
    const offers = this.headers.upgrade?.toLowerCase().split(',') ?? [];
    const isStream = path.replace(/\/$/, '') === STREAM_PATH;
    return this.method === 'GET' && isStream && offers.some((offer) => offer.trim() === 'websocket');
  }
}
