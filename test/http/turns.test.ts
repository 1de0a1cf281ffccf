import { EventEmitter, once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { connect } from 'node:net';
import t, { type Test } from 'tap';
import { loopTurn } from '../../src/clock.ts';
import { boundConnections, mostConnections } from '../../src/http/listener.ts';
import { type Asker, Turns } from '../../src/http/turns.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { bearer, startApp, TOKENS } from '../support/test-app.ts';

interface Doubles {
  readonly clock?: ManualClock;
  readonly server?: EventEmitter;
  readonly monitor?: { isReading: boolean };
}

const turnsOf = ({ clock, server, monitor }: Doubles = {}): Turns =>
  new Turns(
    clock ?? new ManualClock(),
    (server ?? new EventEmitter()) as unknown as Server,
    monitor ?? { isReading: false },
  );

/** A reply that somebody waits for until `raw` is closed. */
const askerThere = (): Asker & { raw: { closed: boolean } } =>
  ({ raw: { destroyed: false, closed: false } }) as Asker & { raw: { closed: boolean } };

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
  const turns = turnsOf();
  let begun = 0;
  const work = async (): Promise<number> => {
    begun += 1;
    const mine = begun;
    await loopTurn();
    return mine;
  };
  const first = turns.whole('status', askerThere(), work);
  await loopTurn();
  const second = turns.whole('status', askerThere(), work);
  const third = turns.whole('status', askerThere(), work);
  const other = turns.whole('status of an operator', askerThere(), work);
  t.same(await Promise.all([first, second, third, other]), [1, 2, 2, 3], 'the first was under way when others came');
  await t.rejects(
    turns.whole('broken', askerThere(), () => Promise.reject(new Error('no'))),
    /no/,
  );
  t.equal(await turns.whole('broken', askerThere(), work), 4, 'one that failed holds up nobody');
});

t.test('Turns.next() leaves the monitor most of the time between heavy answers while it reads', async (t) => {
  const clock = new ManualClock();
  const monitor = { isReading: true };
  const turns = turnsOf({ clock, monitor });
  const begun: number[] = [];
  const heavy = async (): Promise<void> => {
    await turns.next();
    begun.push(clock.now().elapsedMs);
    // Two thirds of all time are the monitor's: 50 ms of work, 100 ms of leave.
    clock.hold(50);
  };
  const startMs = clock.now().elapsedMs;
  const answers = [heavy(), heavy(), heavy()];
  await loopTurn();
  await clock.advance(99);
  t.equal(begun.length, 1);
  await clock.advance(1);
  t.equal(begun.length, 2);
  monitor.isReading = false;
  await clock.advance(100);
  await Promise.all(answers);
  t.same(
    begun.map((ms) => ms - startMs),
    [0, 150, 300],
  );
  const later = [heavy(), heavy(), heavy()];
  await Promise.all(later);
  t.equal(begun.length, 6, 'nothing waits while nobody reads');
});

t.test('Turns works nothing out for whoever has gone away', async (t) => {
  const turns = turnsOf();
  await turns.next(askerThere());
  const gone = askerThere();
  const given = turns.next(gone);
  const after = turns.next(askerThere());
  gone.raw.closed = true;
  await t.rejects(given, { code: 'too-busy' });
  await after;

  let worked = 0;
  const work = async (): Promise<number> => {
    worked += 1;
    await loopTurn();
    return worked;
  };
  const first = turns.whole('first', askerThere(), work);
  await Promise.resolve();
  const alone = turns.whole('alone', gone, work);
  const shared = [turns.whole('shared', gone, work), turns.whole('shared', askerThere(), work)];
  await t.rejects(alone, { code: 'too-busy' });
  t.same(await Promise.all([first, ...shared]), [1, 2, 2]);
});

t.test('Turns.pause() waits while new connections come, for 16 turns at most', async (t) => {
  const server = new EventEmitter();
  const turns = turnsOf({ server });
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
