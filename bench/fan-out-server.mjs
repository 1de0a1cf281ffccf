// One server of fan-out.mjs, in a process of its own: the product's Stream over real sockets, or a bare loop of `ws` that
// sends the same bytes. Told over IPC: `{ publish: N }` sends a message whose data is N bytes of text.
import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';
import { systemClock } from '../dist/clock.js';
import { Stream } from '../dist/http/stream.js';

const isBare = process.argv[2] === 'bare';
const INSTANCE = '00000000-0000-4000-8000-000000000000';
/** Of a constant number of digits, so that all messages of a size are equally long. */
let sequence = 1_000_000;
let listener = () => undefined;
const supervisor = {
  subscribe: (hear) => {
    listener = hear;
    return () => undefined;
  },
  state: { sequence: 0, trips: new Map(), nodes: new Map(), interlock: { kind: 'clear' } },
};
const server = createServer();
const sockets = new WebSocketServer({ server, perMessageDeflate: false });
const clients = new Set();
let stream = null;
if (!isBare) {
  stream = new Stream({ supervisor, clock: systemClock, instance: INSTANCE, log: console });
  stream.start();
}
sockets.on('connection', (socket) => {
  clients.add(socket);
  socket.on('close', () => clients.delete(socket));
  socket.on('error', () => socket.terminate());
  if (stream) stream.add(socket, null);
  else socket.send('{}', { binary: false });
});

const cpuMs = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1_000;
};

process.on('message', ({ publish }) => {
  if (publish === undefined) {
    const lagging = [...clients].filter(({ bufferedAmount }) => bufferedAmount > 256 * 1024).length;
    process.send({ clients: clients.size, lagging, cpuMs: cpuMs() });
    return;
  }
  sequence += 1;
  const message = { type: 'evaluation', sequence, at: '2026-01-01T00:00:00.000Z', data: { text: 'x'.repeat(publish) } };
  const told = JSON.stringify({ type: message.type, instance: INSTANCE, sequence, at: message.at, data: message.data });
  // Known before anything is sent, so that who counts bytes knows how many are due.
  process.send({ bytes: Buffer.byteLength(told) }, () => {
    const [cpuStartMs, startMs] = [cpuMs(), Number(process.hrtime.bigint()) / 1e6];
    if (stream) listener(message);
    else {
      const buffer = Buffer.from(told);
      for (const socket of clients) socket.send(buffer, { binary: false });
    }
    process.send({ startMs, cpuStartMs });
  });
});
process.on('disconnect', () => process.exit());
server.listen(0, '127.0.0.1', 8192, () => process.stdout.write(`${server.address().port}\n`));
