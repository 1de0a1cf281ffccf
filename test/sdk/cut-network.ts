// A network that can be cut: a proxy between a client and a service that, once told to, passes no byte any more, takes
// new connections all the same, and closes none: what a pulled cable looks like from both ends.
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import type { Test } from 'tap';

export interface CutNetwork {
  readonly url: string;
  cut(): void;
}

export async function networkTo(t: Test, serviceUrl: string): Promise<CutNetwork> {
  const { hostname, port } = new URL(serviceUrl);
  const sockets = new Set<Socket>();
  let isCut = false;
  const pass = (from: Socket, to: Socket): void => {
    sockets.add(from);
    from.on('error', () => undefined);
    from.on('data', (bytes) => isCut || to.write(bytes));
    from.on('close', () => isCut || to.destroy());
  };
  const server = createServer((client) => {
    if (isCut) {
      sockets.add(client.on('error', () => undefined));
      return;
    }
    const upstream = connect(Number(port), hostname);
    pass(client, upstream);
    pass(upstream, client);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    cut() {
      isCut = true;
    },
  };
}
