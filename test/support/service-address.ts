// What a Service of a cluster is to its callers: one address, behind which processes come and go. Each connection goes to
// the next one in turn, as kube-proxy would send it, to one that has just ended, too.
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import type { Test } from 'tap';
import type { RealService } from './real-service.ts';

export interface ServiceAddress {
  readonly url: string;
  /** Who is behind it from now on; connections that are there stay as they are. */
  point(services: readonly RealService[]): void;
}

export async function serviceAddress(t: Test): Promise<ServiceAddress> {
  let ports: readonly number[] = [];
  let next = 0;
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const port = ports[next++ % Math.max(1, ports.length)];
    if (port === undefined) {
      client.destroy();
      return;
    }
    const upstream = connect(port, '127.0.0.1');
    for (const [one, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(one);
      one.on('error', () => other.destroy());
      one.on('close', () => {
        sockets.delete(one);
        other.destroy();
      });
      one.pipe(other);
    }
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    point(services) {
      ports = services.map(({ url }) => Number(new URL(url).port));
    },
  };
}
