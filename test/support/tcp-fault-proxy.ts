// Stands before any server and spoils the bytes that it answers, as a bad cable, a full switch or a broken middlebox does.
// It knows nothing of what it carries: plain HTTP, or TLS, which it cannot look into.
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import type { Test } from 'tap';

export type TcpFault =
  | 'none'
  /** The connection stands, and nothing comes through. */
  | 'drop'
  /** Connections are broken off, those that are there and those that come. */
  | 'reset'
  /** The answer breaks off in its middle. */
  | 'truncate'
  /** Every 40th byte of the answer has its bits turned. */
  | 'corrupt'
  /** Whatever is answered comes so many ms late. */
  | { readonly delayMs: number };

export interface TcpFaultProxy {
  readonly port: number;
  readonly fault: TcpFault;
  setFault(fault: TcpFault): void;
}

const CORRUPT_EACH = 40;

/** Before the server on `port` of loopback; closed after `t`. */
export async function tcpFaultProxy(t: Test, port: number): Promise<TcpFaultProxy> {
  let fault: TcpFault = 'none';
  const sockets = new Set<Socket>();
  const keep = (socket: Socket, other: Socket): void => {
    sockets.add(socket);
    socket.on('error', () => other.destroy());
    socket.on('close', () => {
      sockets.delete(socket);
      other.destroy();
    });
  };
  const server = createServer((client) => {
    const upstream = connect(port, '127.0.0.1');
    keep(client, upstream);
    keep(upstream, client);
    if (fault === 'reset') client.resetAndDestroy();
    client.on('data', (bytes) => {
      if (fault !== 'drop') upstream.write(bytes);
    });
    upstream.on('data', (bytes: Buffer) => answer(client, bytes));
  });
  function answer(client: Socket, bytes: Buffer): void {
    if (typeof fault === 'object') {
      setTimeout(() => client.writable && client.write(bytes), fault.delayMs);
      return;
    }
    if (fault === 'corrupt') {
      client.write(bytes.map((byte, place) => (place % CORRUPT_EACH === 0 ? byte ^ 0xff : byte)));
    } else if (fault === 'truncate') client.end(bytes.subarray(0, bytes.length >> 1));
    else if (fault === 'none') client.write(bytes);
  }
  await once(server.listen(0, '127.0.0.1'), 'listening');
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return {
    port: (server.address() as AddressInfo).port,
    get fault() {
      return fault;
    },
    setFault(next) {
      fault = next;
      if (next === 'reset') for (const socket of sockets) socket.resetAndDestroy();
    },
  };
}
