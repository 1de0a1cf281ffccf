// The WebSocket of the real binary, with a real client.
import t from 'tap';
import WebSocket from 'ws';
import { type RealService, startService } from '../support/real-service.ts';

// Real processes on a machine that may be busy.
t.setTimeout(600_000);

interface Envelope {
  readonly type: string;
  readonly instance: string;
  readonly sequence: number;
  readonly at: string;
  // biome-ignore lint/suspicious/noExplicitAny: tests match it against patterns
  readonly data: any;
}

/** A client that keeps what it gets. */
class Client {
  readonly messages: Envelope[] = [];
  readonly socket: WebSocket;
  constructor(service: RealService, query = '') {
    this.socket = new WebSocket(`${service.url.replace('http', 'ws')}/ws${query}`);
    this.socket.on('message', (data) => this.messages.push(JSON.parse(String(data))));
  }
  async until(what: string, isGood: (message: Envelope) => boolean, withinMs: number): Promise<Envelope> {
    const endMs = performance.now() + withinMs;
    for (;;) {
      const found = this.messages.find(isGood);
      if (found) return found;
      if (performance.now() > endMs)
        throw new Error(`${what} did not come: ${JSON.stringify(this.messages).slice(0, 2000)}`);
      await new Promise((done) => setTimeout(done, 20));
    }
  }
}

t.test('GET /ws pushes an evaluation every interval, one at once when the action changes, and replays', async (t) => {
  const service = await startService(t);
  await service.until(
    'a first evaluation',
    () => service.get('/healthz'),
    (r) => r.status === 200,
  );
  const client = new Client(service);
  t.teardown(() => client.socket.terminate());
  const hello = await client.until('hello', (m) => m.type === 'hello', 2_000);
  t.match(hello.data, { interlock: { state: 'clear' } });
  const first = await client.until('an evaluation', (m) => m.type === 'evaluation', 15_000);
  const second = await client.until(
    'the next tick',
    (m) => m.type === 'evaluation' && m.sequence > first.sequence,
    15_000,
  );
  const third = await client.until(
    'one more tick',
    (m) => m.type === 'evaluation' && m.sequence > second.sequence,
    15_000,
  );
  const apartMs = Date.parse(third.at) - Date.parse(second.at);
  t.ok(apartMs > 9_000 && apartMs < 11_500, `two ticks are ${apartMs} ms apart`);
  t.match(third.data, { action: 'PROCEED', worstMargins: [{ node: String, marginRatio: Number }] });

  await service.simulate({ faults: [{ kind: 'gpu-temperature', gpu: 0, valueC: 78 }] });
  await client.until('a tick that sees it warm', (m) => m.type === 'evaluation' && m.sequence > third.sequence, 15_000);
  await service.simulate({ faults: [{ kind: 'gpu-temperature', gpu: 0, valueC: 86 }] });
  const startedMs = performance.now();
  const abort = await client.until('the abort', (m) => m.type === 'evaluation' && m.data.action === 'ABORT', 9_000);
  const tookMs = performance.now() - startedMs;
  t.ok(tookMs < 5_000, `pushed ${Math.round(tookMs)} ms after the card was hot, long before the next tick`);
  await client.until('the trip as an event', (m) => m.type === 'event' && m.data.name === 'tripped', 1_000);

  const sequences = client.messages.filter((m) => m.type !== 'hello').map((m) => m.sequence);
  t.same(
    sequences,
    [...sequences].sort((a, b) => a - b),
    'in order',
  );
  const again = new Client(service, `?since=${second.sequence}&instance=${hello.instance}`);
  t.teardown(() => again.socket.terminate());
  await again.until('the replay', (m) => m.sequence === abort.sequence, 2_000);
  const replayed = again.messages.filter((m) => m.type !== 'hello').map((m) => m.sequence);
  t.equal(replayed[0], second.sequence + 1, 'everything since, and nothing twice');
  t.equal(new Set(replayed).size, replayed.length);
  const stranger = new Client(service, `?since=${second.sequence}&instance=another`);
  t.teardown(() => stranger.socket.terminate());
  t.match((await stranger.until('hello', (m) => m.type === 'hello', 2_000)).data, { gap: true });
});
