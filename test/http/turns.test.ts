import { EventEmitter, once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { connect } from 'node:net';
import t, { type Test } from 'tap';
import { loopTurn } from '../../src/clock.ts';
import { boundConnections, mostConnections } from '../../src/http/listener.ts';
import { Turns } from '../../src/http/turns.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { bearer, startApp, TOKENS } from '../support/test-app.ts';

t.test('Turns lets a stop and a renewal through between two long answers, however many are asked', async (t) => {
  const { ask } = await startApp(t, { nodes: 20 });
  const lease = await ask({ method: 'POST', url: '/leases', payload: { workload: 'train' } });
  let answered = 0;
  const flood = Array.from({ length: 200 }, async () => {
    const answer = await ask({ url: '/status' });
    if (answer.statusCode === 200) answered += 1;
    return answer;
  });
  const renewal = await ask({ method: 'PUT', url: `/leases/${lease.json().lease.id}`, payload: {} });
  t.equal(renewal.statusCode, 200);
  const stop = await ask({ method: 'POST', url: '/estop' });
  t.equal(stop.statusCode, 202);
  t.ok(answered < 32, `both were answered after ${answered} of 64 answers`);
  const answers = await Promise.all(flood);
  t.equal(answered, 64);
  const refused = answers.filter(({ statusCode }) => statusCode !== 200);
  for (const answer of refused) t.match(answer, { statusCode: 503, headers: { 'retry-after': '1' } });
  t.equal((await ask({ url: '/status' })).statusCode, 200, 'whoever has been answered holds no place');
});

t.test('Turns refuses one client without another, and never an operator', async (t) => {
  const { ask } = await startApp(t);
  const viewers = Array.from({ length: 100 }, () => ask({ url: '/status', headers: bearer(TOKENS.viewer) }));
  const other = ask({ url: '/status', headers: bearer(TOKENS.workload) });
  const operators = Array.from({ length: 100 }, () => ask({ url: '/status', headers: bearer(TOKENS.operator) }));
  t.equal((await Promise.all(viewers)).filter(({ statusCode }) => statusCode === 200).length, 64);
  t.equal((await other).statusCode, 200);
  for (const { statusCode } of await Promise.all(operators)) t.equal(statusCode, 200);
});

t.test('Turns.whole() works out one answer for all who ask the same before it is begun', async (t) => {
  const turns = new Turns(new ManualClock(), new EventEmitter() as unknown as Server);
  let begun = 0;
  const work = async (): Promise<number> => {
    begun += 1;
    const mine = begun;
    await loopTurn();
    return mine;
  };
  const first = turns.whole('status', work);
  await loopTurn();
  const second = turns.whole('status', work);
  const third = turns.whole('status', work);
  const other = turns.whole('status of an operator', work);
  t.same(await Promise.all([first, second, third, other]), [1, 2, 2, 3], 'the first was under way when others came');
  await t.rejects(
    turns.whole('broken', () => Promise.reject(new Error('no'))),
    /no/,
  );
  t.equal(await turns.whole('broken', work), 4, 'one that failed holds up nobody');
});

t.test('Turns.pause() waits while new connections come, for 16 turns at most', async (t) => {
  const server = new EventEmitter();
  const turns = new Turns(new ManualClock(), server as unknown as Server);
  let turn = 0;
  let isFlooding = true;
  const flood = async (): Promise<void> => {
    for (; isFlooding; turn++) {
      server.emit('connection');
      await loopTurn();
    }
  };
  const flooding = flood();
  await turns.pause();
  t.ok(turn >= 15 && turn <= 18, `${turn} turns`);
  isFlooding = false;
  await flooding;
  const before = turn;
  await turns.pause();
  t.equal(turn, before);
});

/** A server of two connections at most. */
async function smallServer(t: Test): Promise<{ dial: () => Promise<Socket>; held: () => number }> {
  let held = 0;
  const server = createServer((request, response) => {
    if (request.url === '/hold') held += 1;
    else response.end('ok');
  });
  boundConnections(server, 2);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  const dial = async (): Promise<Socket> => {
    const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
    socket.on('error', () => undefined);
    t.teardown(() => socket.destroy());
    await once(socket, 'connect');
    return socket;
  };
  return { dial, held: () => held };
}

const GET = (path: string): string => `GET ${path} HTTP/1.1\r\nhost: x\r\n\r\n`;

t.test('boundConnections() closes the longest idle one for a new one, and answers the new one', async (t) => {
  const { dial } = await smallServer(t);
  const first = await dial();
  const second = await dial();
  second.write(GET('/'));
  await once(second, 'data');
  const gone = once(first, 'close');
  const third = await dial();
  await gone;
  third.write(GET('/'));
  t.match(String((await once(third, 'data'))[0]), /200 OK/);
  second.write(GET('/'));
  t.match(String((await once(second, 'data'))[0]), /200 OK/, 'the other one is still there');
});

t.test('boundConnections() closes the new one where all are busy', async (t) => {
  const { dial, held } = await smallServer(t);
  const busy = [await dial(), await dial()];
  for (const socket of busy) socket.write(GET('/hold'));
  while (held() < 2) await new Promise((resolve) => setTimeout(resolve, 5));
  const late = await dial();
  await once(late, 'close');
  for (const socket of busy) t.notOk(socket.destroyed);
});

t.test('mostConnections() leaves a quarter of the open files, 64 at least, to sensors, /proc and the disk', (t) => {
  const limits = (files: string): string =>
    `Limit                     Soft Limit           Hard Limit           Units     \nMax open files            ${files.padEnd(20)} 524288               files     \n`;
  t.equal(mostConnections(limits('20000')), 10_000);
  t.equal(mostConnections(limits('13332')), 9_999);
  t.equal(mostConnections(limits('1024')), 768);
  t.equal(mostConnections(limits('128')), 64);
  t.equal(mostConnections(limits('70')), 16, 'some callers there must be');
  t.equal(mostConnections(limits('unlimited')), 10_000);
  t.equal(mostConnections(''), 10_000);
  t.end();
});
