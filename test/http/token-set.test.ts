import { createHash } from 'node:crypto';
import { once } from 'node:events';
import t from 'tap';
import { WebSocket } from 'ws';
import { TokenSet } from '../../src/http/token-set.ts';
import { bearer, OWN_TOKEN, startApp, TOKENS } from '../support/test-app.ts';

const row = (role: 'viewer' | 'workload' | 'operator', token: string) => ({
  role,
  sha256: createHash('sha256').update(token).digest('hex'),
});

t.test('TokenSet.replace() tells what came and what is gone, and tells listeners only of a change', async (t) => {
  const tokens = new TokenSet({ operator: 'own', configured: [row('viewer', 'a')] });
  let told = 0;
  const end = tokens.onChange(() => {
    told += 1;
  });
  t.same(tokens.replace({ operator: 'own', configured: [row('viewer', 'a')] }), { added: [], removed: [] });
  t.equal(told, 0);
  const { added, removed } = tokens.replace({ operator: 'own', configured: [row('workload', 'a')] });
  t.match(added, [/^workload token:[0-9a-f]{12}$/]);
  t.match(removed, [/^viewer token:[0-9a-f]{12}$/]);
  t.equal(told, 1);
  t.equal(tokens.callerOf('a')?.role, 'workload');
  end();
  tokens.replace({ operator: 'other', configured: [] });
  t.equal(told, 1);
  t.equal(tokens.callerOf('own'), null);
  t.equal(tokens.callerOf('a'), null);
  t.equal(tokens.callerOf('other')?.role, 'operator');
});

t.test('a removed token is refused at once, and its WebSocket is closed (1008); others stay', async (t) => {
  const { ask, listen, parts } = await startApp(t);
  const { url } = await listen();
  const open = async (token: string | null, protocols = ['vsf.v1']): Promise<WebSocket> => {
    const headers = token === null ? {} : bearer(token);
    const socket = new WebSocket(`${url.replace('http', 'ws')}/ws`, protocols, { headers });
    t.teardown(() => socket.terminate());
    await once(socket, 'open');
    return socket;
  };
  const removed = await open(TOKENS.viewer);
  const removedToo = await open(null, ['vsf.v1', `bearer.${TOKENS.viewer}`]);
  const kept = await open(TOKENS.workload);
  const local = await open(null);
  const closings = [once(removed, 'close'), once(removedToo, 'close')];
  parts.tokens.replace({ operator: OWN_TOKEN, configured: [row('workload', TOKENS.workload)] });
  for (const closing of closings) t.equal((await closing)[0], 1008);
  const refused = await ask({ url: '/status', headers: bearer(TOKENS.viewer) });
  t.match(refused.json(), { status: 401, code: 'token-invalid' });
  t.equal((await ask({ url: '/status', headers: bearer(TOKENS.workload) })).statusCode, 200);
  t.equal(kept.readyState, WebSocket.OPEN);
  t.equal(local.readyState, WebSocket.OPEN);
});

t.test('Stream answers pings, and none of a client that does not read them', async (t) => {
  const { listen } = await startApp(t);
  const { url } = await listen();
  const socket = new WebSocket(`${url.replace('http', 'ws')}/ws`, ['vsf.v1']);
  t.teardown(() => socket.terminate());
  await once(socket, 'open');
  socket.ping('here');
  t.equal(String((await once(socket, 'pong'))[0]), 'here');
  const before = process.memoryUsage().rss;
  const raw = (socket as unknown as { _socket: import('node:net').Socket })._socket;
  raw.pause();
  // 125 bytes are the most that a ping carries; 64 MiB of them, masked with zeros.
  const frames = Buffer.concat(
    Array.from({ length: 8_192 }, () => Buffer.concat([Buffer.from([0x89, 0xfd, 0, 0, 0, 0]), Buffer.alloc(125)])),
  );
  for (let round = 0; round < 64; round++) {
    if (!raw.write(frames)) await once(raw, 'drain');
  }
  await new Promise((resolve) => setTimeout(resolve, 200));
  const grownMiB = (process.memoryUsage().rss - before) / 2 ** 20;
  t.ok(grownMiB < 60, `the process grew by ${Math.round(grownMiB)} MiB for 64 MiB of pings`);
});
