import { once } from 'node:events';
import t from 'tap';
import { WebSocket } from 'ws';
import type { Message } from '../../src/domain/events.ts';
import { Stream } from '../../src/http/stream.ts';
import { dial, readAnswer } from '../support/raw-http.ts';
import { bearer, INTERVAL_MS, NODE, OWN_TOKEN, startApp, type TestApp, TOKENS } from '../support/test-app.ts';

type Told = { type: string; instance: string; sequence: number; at: string; data: Record<string, unknown> };

/** A WebSocket client that keeps what it was told, each message held against the document. */
class Listener {
  readonly messages: Told[] = [];
  readonly socket: WebSocket;
  readonly closed: Promise<{ code: number }>;
  #waiting: (() => void)[] = [];

  constructor(t: Parameters<typeof startApp>[0], { document }: TestApp, socket: WebSocket) {
    this.socket = socket;
    socket.on('message', (data, isBinary) => {
      t.equal(isBinary, false, 'messages are texts');
      const message = JSON.parse(String(data)) as Told;
      t.same(document.problemsOfComponent('Message', message), [], `${message.type} is as documented`);
      this.messages.push(message);
      for (const wake of this.#waiting.splice(0)) wake();
    });
    socket.on('error', () => undefined);
    this.closed = once(socket, 'close').then(([code]) => ({ code: code as number }));
    t.teardown(() => socket.terminate());
  }

  /** The first `count` messages, as soon as they are there. */
  async first(count: number): Promise<Told[]> {
    while (this.messages.length < count) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    return this.messages.slice(0, count);
  }

  /** The first message that fits. */
  async find(isIt: (message: Told) => boolean): Promise<Told> {
    for (;;) {
      const found = this.messages.find(isIt);
      if (found) return found;
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }
}

async function listenTo(
  t: Parameters<typeof startApp>[0],
  running: TestApp,
  url: string,
  path = '/ws',
  options: { protocols?: string[]; headers?: Record<string, string> } = {},
): Promise<Listener> {
  const { protocols = ['vsf.v1'], headers = {} } = options;
  const socket = new WebSocket(url.replace('http', 'ws') + path, protocols, { headers });
  const listener = new Listener(t, running, socket);
  await once(socket, 'open');
  return listener;
}

/** The status with which a handshake is refused. */
async function refusedWith(
  url: string,
  protocols: string[],
  headers: Record<string, string>,
): Promise<number | undefined> {
  const socket = new WebSocket(`${url.replace('http', 'ws')}/ws`, protocols, { headers });
  socket.on('error', () => undefined);
  const [, response] = await once(socket, 'unexpected-response');
  socket.terminate();
  return response.statusCode;
}

const sequences = (messages: readonly Told[]): number[] => messages.map(({ sequence }) => sequence);

t.test('GET /ws says hello, gives the newest evaluation, then everything', async (t) => {
  const running = await startApp(t);
  const { url } = await running.listen();
  const listener = await listenTo(t, running, url);
  t.equal(listener.socket.protocol, 'vsf.v1');
  const [hello, newest] = await listener.first(2);
  const { sequence } = running.supervisor.state;
  t.match(hello, {
    type: 'hello',
    instance: 'instance-1',
    sequence,
    at: '2026-01-01T00:00:10.000Z',
    data: { newest: sequence, oldest: 1, gap: false, interlock: { state: 'clear' } },
  });
  t.match(newest, { type: 'evaluation', data: { safe: true, worstMargins: [{ node: NODE, marginRatio: Number }] } });
  await running.pass(INTERVAL_MS);
  running.supervisor.submit({ kind: 'stop-requested', nodes: null, cause: 'manual', reason: 'smoke', by: 'tester' });
  const tripped = await listener.find(({ data }) => data['name'] === 'tripped');
  t.match(tripped, { type: 'event', data: { by: 'tester', report: { state: 'stopping' }, message: /smoke/ } });
  const after = sequences(listener.messages.slice(2));
  t.same(
    after,
    after.map((_, i) => sequence + 1 + i),
    'no message is left out or comes twice',
  );
});

t.test('GET /ws replays what was missed, from the same instance and within the ring', async (t) => {
  const running = await startApp(t, { ticks: 4 });
  const { url } = await running.listen();
  const newest = running.supervisor.state.sequence;
  const some = await listenTo(t, running, url, `/ws?since=${newest - 3}&instance=instance-1`);
  const [hello, ...replayed] = await some.first(4);
  t.equal(hello?.data['gap'], false);
  t.same(sequences(replayed), [newest - 2, newest - 1, newest]);

  const none = await listenTo(t, running, url, `/ws?since=${newest}&instance=instance-1`);
  await running.pass(INTERVAL_MS);
  const told = await none.first(2);
  t.equal(told[0]?.data['gap'], false);
  t.same(sequences(told.slice(1)), [newest + 1], 'nothing was missed, so nothing is repeated');

  for (const query of [
    `since=${newest - 3}&instance=another`,
    `since=${newest - 3}`,
    `since=${newest + 100}&instance=instance-1`,
  ]) {
    const listener = await listenTo(t, running, url, `/ws?${query}`);
    const [gap, evaluation] = await listener.first(2);
    t.equal(gap?.data['gap'], true, query);
    t.equal(evaluation?.type, 'evaluation', 'and the newest evaluation, as for a new client');
  }
});

t.test('GET /ws keeps a ring of 360 messages, and says where it begins', async (t) => {
  const running = await startApp(t);
  const { url } = await running.listen();
  for (let round = 0; round < 200; round++) {
    for (const ok of [false, true]) running.supervisor.submit({ kind: 'journal-reported', ok, detail: 'test' });
  }
  const newest = running.supervisor.state.sequence;
  const oldest = newest - 359;
  const whole = await listenTo(t, running, url, `/ws?since=${oldest - 1}&instance=instance-1`);
  t.match((await whole.first(361))[0], { data: { oldest, newest, gap: false } });
  t.equal((await whole.first(361))[1]?.sequence, oldest);
  const cut = await listenTo(t, running, url, `/ws?since=${oldest - 2}&instance=instance-1`);
  t.match((await cut.first(1))[0], { data: { oldest, newest, gap: true } });
});

t.test('GET /ws takes its token as a header or as a subprotocol, and its rules like any route', async (t) => {
  const running = await startApp(t, { listen: { host: '0.0.0.0' } });
  const { url } = await running.listen();
  const asHeader = await listenTo(t, running, url, '/ws', { headers: bearer(TOKENS.viewer) });
  t.equal(asHeader.socket.protocol, 'vsf.v1');
  const asProtocol = await listenTo(t, running, url, '/ws', { protocols: ['vsf.v1', `bearer.${OWN_TOKEN}`] });
  t.equal(asProtocol.socket.protocol, 'vsf.v1', 'the token is not echoed');
  t.equal(await refusedWith(url, ['vsf.v1'], {}), 401);
  t.equal(await refusedWith(url, ['vsf.v1', 'bearer.nonsense'], {}), 401);
  t.equal(await refusedWith(url, ['vsf.v1', `bearer.${OWN_TOKEN}`], { origin: 'http://evil.example' }), 403);
  t.equal(await refusedWith(url, ['vsf.v1'], { host: 'evil.example' }), 403);
  const own = { origin: url, ...bearer(TOKENS.viewer) };
  t.equal((await listenTo(t, running, url, '/ws', { headers: own })).socket.readyState, WebSocket.OPEN);
});

t.test('GET /ws refuses a plain request, and a query that is not documented', async (t) => {
  const running = await startApp(t);
  const { ask } = running;
  const plain = await ask({ url: '/ws' });
  t.match(plain.json(), { status: 426, code: 'upgrade-required' });
  t.equal(plain.headers['upgrade'], 'websocket');
  for (const query of ['since=x', 'since=-1', 'since=1e3', 'since=', 'from=1']) {
    t.match((await ask({ url: `/ws?${query}` })).json(), { status: 400, code: 'invalid-request' }, query);
  }
});

t.test('Stream ignores what clients send, and closes on a message over 4 KiB', async (t) => {
  const running = await startApp(t);
  const { url } = await running.listen();
  const listener = await listenTo(t, running, url);
  listener.socket.send('{"type":"stop"}');
  listener.socket.send(Buffer.from([0, 1, 2]));
  await listener.first(2);
  running.supervisor.submit({ kind: 'journal-reported', ok: false, detail: 'test' });
  await listener.first(3);
  t.equal(running.supervisor.state.trips.size, 0);
  listener.socket.send('x'.repeat(4097));
  t.equal((await listener.closed).code, 1009);
});

t.test('Stream drops a client that reads nothing and answers no ping, and no other', async (t) => {
  const running = await startApp(t);
  const { port, url } = await running.listen();
  const good = await listenTo(t, running, url);
  const raw = await dial(t, port);
  raw.write(
    'GET /ws HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n',
  );
  t.equal((await readAnswer(raw)).status, 101);
  raw.pause();
  const clients = async (): Promise<string> =>
    (await running.ask({ url: '/metrics' })).body.match(/websocket_clients (\d+)/)?.[1] ?? '';
  t.equal(await clients(), '2');
  for (let pings = 0; pings < 3; pings++) {
    await running.pass(15_000);
    // Time for the good client's real pong.
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  await running.pass(2_000);
  await until(async () => (await clients()) === '1');
  t.equal(await clients(), '1');
  t.equal(good.socket.readyState, WebSocket.OPEN);
});

t.test('app.close() says 1001 to all and ends within a second or two with a peer that never answers', async (t) => {
  const running = await startApp(t);
  const { port, url } = await running.listen();
  const good = await listenTo(t, running, url);
  const stuck = await dial(t, port);
  stuck.write(
    'GET /ws HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n',
  );
  t.equal((await readAnswer(stuck)).status, 101);
  const idle = await dial(t, port);
  idle.write('GET /status HTTP/1.1\r\nhost: loc');
  const startedMs = running.clock.now().elapsedMs;
  let closedAfterMs = 0;
  const closing = running.app.close().then(() => {
    closedAfterMs = running.clock.now().elapsedMs - startedMs;
  });
  while (closedAfterMs === 0) await running.pass(100);
  await closing;
  t.ok(closedAfterMs >= 1_000 && closedAfterMs < 2_000, `closed after ${closedAfterMs} ms`);
  t.equal((await good.closed).code, 1001);
});

t.test(
  'Stream holds only the newest evaluation for a client that does not read, then drops it with 1013',
  async (t) => {
    const { clock, parts } = await startApp(t);
    let listener: (message: Message) => void = () => undefined;
    const subscribe = (to: (message: Message) => void): (() => void) => {
      listener = to;
      return () => undefined;
    };
    const stream = new Stream({
      ...parts,
      supervisor: { ...parts.supervisor, state: parts.supervisor.state, subscribe },
    });
    stream.start();
    t.teardown(() => stream.close());
    const socket = new PretendSocket();
    stream.add(socket as unknown as WebSocket, null);
    t.equal(socket.sent.length, 1, 'hello; nothing was published yet');
    let { sequence } = parts.supervisor.state;
    const lastResult = parts.supervisor.state.lastResult;
    if (!lastResult) throw new Error('no evaluation yet');
    const evaluate = (): number => {
      sequence += 1;
      listener({
        type: 'evaluation',
        sequence,
        at: '2026-01-01T00:00:00.000Z',
        data: { ...lastResult, worstMargins: [] },
      });
      return sequence;
    };
    const tell = (): void => {
      sequence += 1;
      listener({ type: 'event', sequence, at: '2026-01-01T00:00:00.000Z', data: { name: 'drill', message: 'x' } });
    };
    evaluate();
    t.equal(socket.sent.length, 2);
    socket.bufferedAmount = 256 * 1024 + 1;
    evaluate();
    tell();
    const newest = evaluate();
    tell();
    t.equal(socket.sent.length, 2, 'nothing more is queued for it');
    socket.bufferedAmount = 0;
    socket.drained();
    t.equal(socket.sent.length, 3);
    t.equal(
      JSON.parse(socket.sent[2] ?? '').sequence,
      newest,
      'it reads on: the newest evaluation, and nothing in between',
    );
    t.equal(evaluate(), JSON.parse(socket.sent[3] ?? '').sequence, 'and then everything');

    socket.bufferedAmount = 256 * 1024 + 1;
    evaluate();
    await clock.advance(29_999);
    evaluate();
    t.equal(socket.closedWith, null);
    await clock.advance(1);
    evaluate();
    t.equal(socket.closedWith, 1013);
    t.equal(socket.isTerminated, false);
    await clock.advance(1_000);
    t.equal(socket.isTerminated, true, 'it does not answer the close frame either');
  },
);

t.test('Stream serves many clients in slices, so that a stop never waits for all of them', async (t) => {
  const { clock, parts, supervisor } = await startApp(t);
  const stream = new Stream(parts);
  stream.start();
  t.teardown(() => stream.close());
  const sockets = Array.from({ length: 5_000 }, () => new PretendSocket());
  for (const socket of sockets) stream.add(socket as unknown as WebSocket, null);
  t.equal(stream.isFull, true);
  const got = (): number => sockets.filter((socket) => socket.sent.length > 1).length;
  supervisor.submit({ kind: 'journal-reported', ok: false, detail: 'test' });
  t.equal(got(), 1_000, 'the first slice goes out within the decision');
  await clock.advance(0);
  t.equal(got(), 5_000);
  t.ok(
    sockets.every((socket) => new Set(socket.sent).size === socket.sent.length),
    'nobody got anything twice',
  );
});

/** A socket whose kernel takes as much as a test says. */
class PretendSocket {
  readonly sent: string[] = [];
  bufferedAmount = 0;
  closedWith: number | null = null;
  isTerminated = false;
  drained: () => void = () => undefined;

  on(): this {
    return this;
  }
  once(): this {
    return this;
  }
  ping(): void {}
  send(data: string | Buffer, _options: object, sent?: () => void): void {
    this.sent.push(String(data));
    this.drained = sent ?? this.drained;
  }
  close(code: number): void {
    this.closedWith ??= code;
  }
  terminate(): void {
    this.isTerminated = true;
  }
}

async function until(isDone: () => Promise<boolean>): Promise<void> {
  for (let round = 0; round < 100 && !(await isDone()); round++)
    await new Promise((resolve) => setTimeout(resolve, 10));
}
