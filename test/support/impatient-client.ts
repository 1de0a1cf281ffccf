// A client that asks and goes away while the hardware is looked at for it.
import { once } from 'node:events';
import { connect } from 'node:net';
import { loopTurn } from '../../src/clock.ts';
import type { TestApp } from './test-app.ts';

/** Puts `asked` (`POST /leases`) with a body; resolves when whatever comes of it has come. */
export async function askAndGo({ app, parts, listen }: TestApp, asked: string, body = ''): Promise<void> {
  const address = app.server.address();
  const { port } = typeof address === 'object' && address ? address : await listen();
  const { monitor } = parts;
  const look = monitor.observeNow;
  const arrived = once(app.server, 'connection');
  const client = connect(port, '127.0.0.1');
  const [server] = await arrived;
  const looked = new Promise<void>((resolve) => {
    monitor.observeNow = async (nodes) => {
      monitor.observeNow = look;
      const reports = await monitor.observeNow(nodes);
      client.destroy();
      await once(server, 'close');
      setImmediate(resolve);
      return reports;
    };
  });
  const head = `${asked} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nContent-Type: application/json\r\n`;
  client.write(`${head}Content-Length: ${body.length}\r\n\r\n${body}`);
  await looked;
  for (let turn = 0; turn < 10; turn++) await loopTurn();
}
