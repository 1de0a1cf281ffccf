// The server under the app: plain HTTP or TLS, which requests leave HTTP, and how many connections it holds. A limit on
// connections must not keep a stop out: where there are too many, the one that has been idle for longest makes room.
import { readFileSync } from 'node:fs';
import type { Server } from 'node:http';
import type { Socket } from 'node:net';
import type { Server as TlsServer } from 'node:tls';
import type { ServingCertificate } from './parts.ts';
import { PlainUpgrades } from './plain-upgrades.ts';

/** Request line and all headers together; a token and a traced request fit many times. */
export const MOST_HEADER_BYTES = 16 * 1024;
/** For a whole request to arrive; an emergency stop waits for its body much shorter. */
export const REQUEST_TIMEOUT_MS = 10_000;
const CONNECTION_CHECK_MS = 2_000;
const HANDSHAKE_TIMEOUT_MS = 10_000;
/** All WebSocket clients that are served, and as many again. */
const MOST_CONNECTIONS = 10_000;
/**
 * Each connection is an open file, and so is each look at a sensor and at /proc, without which no process may be signalled:
 * callers who took the last one would keep every stop of this machine out. So much of the limit is not theirs.
 */
const KEPT_FILES_RATIO = 0.25;
const KEPT_FILES_AT_LEAST = 64;
const FEWEST_CONNECTIONS = 16;
const MIN_TLS = 'TLSv1.2';

/** What every server here is made with. */
export const SERVER_OPTIONS = {
  maxHeaderSize: MOST_HEADER_BYTES,
  connectionsCheckingInterval: CONNECTION_CHECK_MS,
  IncomingMessage: PlainUpgrades,
};

/** As {@link SERVER_OPTIONS}, for a server that speaks TLS alone. */
export const tlsOptionsOf = ({ pair }: ServingCertificate) => ({
  ...SERVER_OPTIONS,
  ...pair,
  minVersion: MIN_TLS,
  handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
});

/** A new pair holds for every later connection, and cuts none that is there. */
export function followCertificate(server: Server, certificate: ServingCertificate): void {
  const secure = server as unknown as TlsServer;
  certificate.onChange((pair) => secure.setSecureContext({ minVersion: MIN_TLS, ...pair }));
}

/** Connections held at a time, by the limit of open files in a text like /proc/self/limits. */
export function mostConnections(limits: string): number {
  const files = Number(/^Max open files +(\d+)/m.exec(limits)?.[1] ?? NaN);
  if (Number.isNaN(files)) return MOST_CONNECTIONS;
  const kept = Math.max(KEPT_FILES_AT_LEAST, files * KEPT_FILES_RATIO);
  return Math.max(FEWEST_CONNECTIONS, Math.min(MOST_CONNECTIONS, Math.floor(files - kept)));
}

/** As {@link mostConnections}, of this process; where the system does not tell a limit, none but our own. */
export function mostConnectionsHere(): number {
  try {
    return mostConnections(readFileSync('/proc/self/limits', 'latin1'));
  } catch {
    return MOST_CONNECTIONS;
  }
}

/** Where one more than `most` comes, the longest idle one is closed; where none is idle, the new one. */
export function boundConnections(server: Server, most: number): void {
  /** In the order in which they became idle. */
  const idle = new Set<Socket>();
  let count = 0;
  // With TLS requests come on another socket than the one that was accepted; both are told apart by the ports.
  const accepted = new Map<string, Socket>();
  const keyOf = ({ remoteAddress, remotePort, localPort }: Socket): string =>
    `${remoteAddress} ${remotePort} ${localPort}`;
  server.on('connection', (socket: Socket) => {
    count += 1;
    const key = keyOf(socket);
    accepted.set(key, socket);
    socket.once('close', () => {
      count -= 1;
      idle.delete(socket);
      if (accepted.get(key) === socket) accepted.delete(key);
    });
    if (count > most) {
      const [oldest = socket] = idle;
      oldest.destroy();
      idle.delete(oldest);
    }
    idle.add(socket);
  });
  server.on('request', (request, response) => {
    const socket = accepted.get(keyOf(request.socket));
    if (!socket) return;
    idle.delete(socket);
    response.once('close', () => {
      if (!socket.destroyed) idle.add(socket);
    });
  });
  server.on('upgrade', (request) => {
    const socket = accepted.get(keyOf(request.socket));
    if (socket) idle.delete(socket);
  });
}
