// One evaluation to thousands of WebSocket clients: until the last of those that read has all of it, and the CPU that the
// server has used for that. The product's Stream against a bare loop of `ws` with the same bytes; and the Stream with some
// clients that do not read at all, of which those that read must notice nothing.
import { once } from 'node:events';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { atMost, bench, row, start, takeTurns, until } from './measure.mjs';

/** An evaluation with some twenty findings. */
const EVALUATION_BYTES = 8_000;
const LARGE_BYTES = 200_000;
const HANDSHAKE = 'GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n';

/** Clients that count bytes and no more: parsing thousands of messages here would hide what the server does. */
class Clients {
  #sockets = [];
  #missing = 0;
  #due = new Map();
  #done = () => undefined;

  async connect(port, count, { reading = true } = {}) {
    for (let i = 0; i < count; i += 50) {
      await Promise.all(Array.from({ length: Math.min(50, count - i) }, () => this.#connectOne(port, reading)));
    }
    // What every newcomer is told has come.
    await sleep(300);
  }

  async #connectOne(port, reading) {
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => undefined);
    await once(socket, 'connect');
    socket.write(HANDSHAKE);
    if (!reading) return;
    this.#sockets.push(socket);
    const arrived = once(socket, 'data');
    socket.on('data', (chunk) => this.#take(socket, chunk.length));
    await arrived;
  }

  #take(socket, bytes) {
    const due = this.#due.get(socket);
    if (due === undefined) return;
    const left = due - bytes;
    if (left > 0) {
      this.#due.set(socket, left);
      return;
    }
    this.#due.delete(socket);
    this.#missing -= 1;
    if (this.#missing === 0) this.#done(Number(process.hrtime.bigint()) / 1e6);
  }

  /** Resolves with the time at which all have received so many bytes. */
  expect(bytes) {
    this.#missing = this.#sockets.length;
    for (const socket of this.#sockets) this.#due.set(socket, bytes);
    return new Promise((done) => {
      this.#done = done;
    });
  }

  close() {
    for (const socket of this.#sockets) socket.destroy();
  }
}

async function startServer(kind) {
  const program = start(process.execPath, [join(import.meta.dirname, 'fan-out-server.mjs'), kind], { stdio: ['ignore', 'pipe', 'pipe', 'ipc'] });
  const port = await until('a server', () => Number(program.said().trim()), { program });
  const clients = new Clients();
  const ask = async (question) => {
    const told = once(program.child, 'message');
    program.child.send(question);
    return (await told)[0];
  };
  return {
    ...program,
    port,
    clients,
    count: () => ask({}),
    /** One evaluation to all: ms until the last has it, and the server's CPU. */
    publish: async (size = EVALUATION_BYTES) => {
      const { bytes } = await ask({ publish: size });
      const arrived = clients.expect(bytes + (bytes < 65_536 ? 4 : 10));
      const [[{ startMs, cpuStartMs }], endMs] = await Promise.all([once(program.child, 'message'), arrived]);
      const { cpuMs } = await ask({});
      return { tookMs: endMs - startMs, cpuMs: cpuMs - cpuStartMs };
    },
  };
}

await bench('fan-out', async ({ pick, say, rows, note }) => {
  const sizes = pick([1_000, 5_000], [1_000, 5_000], [200]);
  const repetitions = pick(31, 15, 9);
  const slow = pick(20, 20, 5);
  for (const subscribers of sizes) {
    const [ours, bare, withSlow] = await Promise.all(['ours', 'bare', 'ours'].map(startServer));
    // Before the others come: large messages until nothing more fits between them and the server.
    await withSlow.clients.connect(withSlow.port, slow, { reading: false });
    for (let i = 0; i < 200 && (await withSlow.count()).lagging < slow; i += 1) {
      withSlow.child.send({ publish: LARGE_BYTES });
      await once(withSlow.child, 'message');
      await once(withSlow.child, 'message');
    }
    for (const server of [ours, bare]) await server.clients.connect(server.port, subscribers);
    await withSlow.clients.connect(withSlow.port, subscribers - slow);
    say(`${subscribers} clients each`);
    for (const server of [ours, bare, withSlow]) for (let i = 0; i < 5; i += 1) await server.publish();
    const took = await takeTurns(repetitions, { ours: () => ours.publish(), bare: () => bare.publish(), withSlow: () => withSlow.publish() });
    const { lagging } = await withSlow.count();
    note(`${subscribers} clients: ${lagging} of ${slow} slow ones were still held at the end (those that read nothing for 30 s are let go).`);
    const list = (way, name) => took[way].map((one) => one[name]);
    const to = `${subscribers.toLocaleString('en')} clients`;
    const peerName = 'bare ws loop';
    rows.push(row({ what: `until the last of ${to} has it`, unit: 'ms', ours: list('ours', 'tookMs'), peer: list('bare', 'tookMs'), peerName, target: atMost(1.2) }));
    rows.push(row({ what: `CPU of the server, ${to}`, unit: 'ms', ours: list('ours', 'cpuMs'), peer: list('bare', 'cpuMs'), peerName, target: atMost(1.2) }));
    rows.push(row({ what: `until the last of ${to} has it, ${slow} of them slow`, unit: 'ms', ours: list('withSlow', 'tookMs'), peer: list('ours', 'tookMs'), peerName: 'itself, none slow', target: atMost(1.2) }));
    for (const server of [ours, bare, withSlow]) {
      server.clients.close();
      await server.stop();
    }
  }
  note(`A message has ${(EVALUATION_BYTES / 1_000).toFixed(0)} KB. The clients share the other core, and their work is in all these times.`);
});
