import type { InjectOptions } from 'fastify';
import t from 'tap';
import type { Message } from '../../src/domain/events.ts';
import type { StopEntry } from '../../src/domain/stop.ts';
import { understandStopBody } from '../../src/http/stop-body.ts';
import { dial, readAnswer, sendRaw } from '../support/raw-http.ts';
import { bearer, NODE, OWN_TOKEN, startApp, TOKENS } from '../support/test-app.ts';

const stop = (payload?: string | object, headers: Record<string, string> = {}): InjectOptions & { url: string } => ({
  method: 'POST',
  url: '/estop',
  ...(payload !== undefined && { payload }),
  headers,
});
const JSON_TYPE = { 'content-type': 'application/json' };
const OPERATOR = bearer(OWN_TOKEN);

t.test('POST /estop answers 202 once it is latched, with the trip and its report', async (t) => {
  const { ask, actuator, supervisor } = await startApp(t);
  await ask({ method: 'POST', url: '/leases', payload: { workload: 'w' } });
  const answer = await ask(stop({ reason: 'smoke in the rack' }));
  t.equal(answer.statusCode, 202, answer.body);
  const { tripId, joined, recorded, report } = answer.json();
  t.same([joined, recorded, report.state], [false, true, 'stopping']);
  t.match(supervisor.state.trips.get(tripId), {
    scope: { kind: 'all' },
    cause: 'manual',
    reason: 'smoke in the rack',
    by: 'local',
  });
  t.equal(supervisor.state.leases.size, 0, 'leases are revoked');
  t.match(actuator.orders, [{ orderId: tripId, what: 'everything', scope: { kind: 'all' } }]);
  const again = await ask(stop());
  t.match(again.json(), { tripId, joined: true });
  t.equal(actuator.orders.length, 1, 'a second trigger joins the first');
});

t.test('POST /estop trips everything whatever the form of its body', async (t) => {
  const forms: Record<string, [payload: string | undefined, headers: Record<string, string>]> = {
    nothing: [undefined, {}],
    'an empty body': ['', JSON_TYPE],
    'blanks only': [' \n ', JSON_TYPE],
    'no JSON': ['stop now!', JSON_TYPE],
    'half a JSON': ['{"drill": tr', JSON_TYPE],
    'a form': ['drill=true', { 'content-type': 'application/x-www-form-urlencoded' }],
    'a type that is none': ['{}', { 'content-type': ';;;=' }],
    'a type without a subtype': ['{}', { 'content-type': 'json' }],
    'an empty type': ['{}', { 'content-type': '' }],
    'a multipart without parts': ['x', { 'content-type': 'multipart/form-data' }],
    'a compressed body': ['\u001f\u008b\u0008', { ...JSON_TYPE, 'content-encoding': 'gzip' }],
    null: ['null', JSON_TYPE],
    'a list': ['[{"drill":true}]', JSON_TYPE],
    'a text': ['"drill"', JSON_TYPE],
    'drill as a text': ['{"drill":"true"}', JSON_TYPE],
    'drill as a number': ['{"drill":1}', JSON_TYPE],
    'no drill': ['{"drill":false}', JSON_TYPE],
    'nodes as a number': [`{"nodes":5}`, JSON_TYPE],
    'no node at all': ['{"nodes":[]}', JSON_TYPE],
    'a node that is no text': [`{"nodes":["${NODE}",7]}`, JSON_TYPE],
    'an empty name': ['{"nodes":""}', JSON_TYPE],
    'a reason that is no text': [`{"nodes":["${NODE}"],"reason":{}}`, JSON_TYPE],
    'more than 64 KiB': [`{"nodes":["${NODE}"],"reason":"${'x'.repeat(64 * 1024)}"}`, JSON_TYPE],
    'more than 1 MiB': ['x'.repeat(1024 * 1024 + 1), JSON_TYPE],
  };
  const { ask, supervisor, actuator, pass, rig } = await startApp(t);
  for (const [what, [payload, headers]] of Object.entries(forms)) {
    const answer = await ask(stop(payload, headers));
    t.equal(answer.statusCode, 202, what);
    const { tripId } = answer.json();
    t.same(supervisor.state.trips.get(tripId)?.scope, { kind: 'all' }, what);
    actuator.verify();
    await pass(2_000);
    rig.apply({ faults: [] });
    const reset = { tripId, reason: 'next form' };
    const done = await ask({ method: 'POST', url: '/estop/reset', payload: reset, headers: OPERATOR });
    t.equal(done.statusCode, 200, done.body);
  }
});

t.test('POST /estop says in its reason when a body was not understood', async (t) => {
  const { ask, supervisor } = await startApp(t);
  const { tripId } = (await ask(stop('{"nodes":5}', JSON_TYPE))).json();
  t.match(supervisor.state.trips.get(tripId)?.reason, /not understood \(nodes must be.*everything is stopped/);
});

t.test('POST /estop stops the nodes named, names unknown ones, and refuses only when none is known', async (t) => {
  const { ask, supervisor } = await startApp(t);
  const none = await ask(stop({ nodes: ['nowhere', 'neither'] }));
  t.match(none.json(), { status: 400, code: 'unknown-node', nodes: ['nowhere', 'neither'] });
  t.equal(supervisor.state.trips.size, 0);
  const answer = await ask(stop({ nodes: [NODE, 'nowhere'], reason: ' heat ' }));
  t.equal(answer.statusCode, 202);
  t.match(answer.json(), { report: { unknownNodes: ['nowhere'] } });
  const [trip] = supervisor.state.trips.values();
  t.match(trip, { scope: { kind: 'nodes', nodes: [NODE] }, reason: 'heat' });
  const told: Message[] = [];
  supervisor.subscribe((message) => told.push(message));
  const wider = await ask(stop());
  t.match(wider.json(), { joined: false });
  t.match(
    told.find(({ type }) => type === 'event'),
    { data: { name: 'tripped', tripId: wider.json().tripId, tookOver: [trip?.tripId] } },
    'whoever keeps what a trip’s stop took must know whose it is now',
  );
  t.match([...supervisor.state.trips.values()], [{ scope: { kind: 'all' } }], 'a trip of everything takes over');
});

t.test('POST /estop takes a single name, unknown fields and a byte order mark', async (t) => {
  for (const body of [`{"nodes":"${NODE}"}`, `\uFEFF{"nodes":["${NODE}"],"client":"cli 2"}`]) {
    const { ask, supervisor } = await startApp(t, { ticks: 1 });
    t.equal((await ask(stop(body, JSON_TYPE))).statusCode, 202);
    t.match([...supervisor.state.trips.values()], [{ scope: { kind: 'nodes', nodes: [NODE] } }]);
  }
});

t.test('POST /estop is a drill only for an operator who says so, and then touches nothing', async (t) => {
  const { ask, supervisor, actuator } = await startApp(t);
  await ask({ method: 'POST', url: '/leases', payload: { workload: 'train-7' } });
  for (const headers of [{}, bearer(TOKENS.workload)]) {
    t.match((await ask(stop({ drill: true }, headers))).json(), { status: 403, code: 'role-insufficient' });
  }
  const drill = await ask(stop({ drill: true, nodes: [NODE, 'nowhere'] }, OPERATOR));
  t.equal(drill.statusCode, 200);
  t.match(drill.json(), {
    drill: true,
    orderId: /^drill-/,
    scope: { kind: 'nodes', nodes: [NODE] },
    unknownNodes: ['nowhere'],
    entries: [{ name: 'train-7', state: 'would-stop' }],
  });
  t.match((await ask(stop({ drill: true, nodes: ['nowhere'] }, OPERATOR))).json(), {
    status: 400,
    code: 'unknown-node',
  });
  t.equal(supervisor.state.trips.size, 0);
  t.equal(supervisor.state.leases.size, 1);
  t.equal(actuator.orders.length, 0);
  t.same((await ask({ url: '/estop' })).json().lastTrip, null);
});

t.test('POST /estop waits 50 ms at most for a disk, and says whether the trip is durable', async (t) => {
  const { ask, disk, pass, supervisor } = await startApp(t);
  disk.mode = 'hangs';
  const asked = ask(stop());
  await pass(0);
  t.equal(supervisor.state.trips.size, 1, 'latched before any waiting');
  await pass(50);
  const answer = await asked;
  t.equal(answer.statusCode, 202);
  t.equal(answer.json().recorded, false);
});

t.test('POST /estop stops all the same when the disk is full', async (t) => {
  const { ask, disk, actuator } = await startApp(t);
  disk.mode = 'fails';
  const answer = await ask(stop());
  t.equal(answer.statusCode, 202);
  t.equal(answer.json().recorded, false);
  t.equal(actuator.orders.length, 1);
});

t.test('POST /estop works before anything has been read', async (t) => {
  const { ask, supervisor } = await startApp(t, { ticks: 0 });
  t.equal(supervisor.state.lastTickAtMs, null);
  t.equal((await ask(stop())).statusCode, 202);
  t.equal(supervisor.state.trips.size, 1);
});

t.test('POST /estop?wait holds the answer until the stop is verified', async (t) => {
  const { ask, actuator, pass } = await startApp(t);
  const asked = ask({ ...stop(), url: '/estop?wait=10' });
  await pass(3_000);
  const entry: StopEntry = {
    actuator: 'local-processes',
    kind: 'process-group',
    name: 'pgid 4711 (w)',
    state: 'stopped',
    how: 'SIGTERM',
    verified: true,
    tookMs: 3_000,
  };
  actuator.verify([entry]);
  await pass(0);
  const answer = await asked;
  t.equal(answer.statusCode, 202);
  t.match(answer.json(), {
    report: { state: 'verified', actuators: { 'local-processes': { verified: true, entries: [entry] } } },
  });
});

t.test(
  'POST /estop?wait ends when its time is over or the stop is unverified, and holds nothing for nonsense',
  async (t) => {
    const { ask, pass } = await startApp(t);
    for (const [wait, ms] of [
      ['2', 2_000],
      ['0.5', 500],
      ['1e9', 0],
      ['-1', 0],
      ['soon', 0],
      ['', 0],
      ['0', 0],
    ] as const) {
      let isAnswered = false;
      const asked = ask({ ...stop(), url: `/estop?wait=${wait}` }).then((answer) => {
        isAnswered = true;
        return answer;
      });
      await pass(0);
      if (ms > 0) {
        await pass(ms - 1);
        t.equal(isAnswered, false, wait);
        await pass(1);
      }
      t.equal((await asked).statusCode, 202, wait);
    }
    const long = ask({ ...stop(), url: '/estop?wait=100000&other=1' });
    await pass(30_000);
    t.match((await long).json(), { report: { state: 'unverified' } });
  },
);

t.test('POST /estop takes a body that is not complete within a second as none', async (t) => {
  const { listen, pass, supervisor } = await startApp(t);
  const { port } = await listen();
  const socket = await dial(t, port);
  socket.write(`POST /estop HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{"nodes":["${NODE}"],`);
  await until(
    () => supervisor.state.trips.size > 0,
    () => pass(250),
  );
  const answer = await readAnswer(socket);
  t.equal(answer.status, 202);
  t.match([...supervisor.state.trips.values()], [{ scope: { kind: 'all' }, reason: /not complete within 1000 ms/ }]);
});

t.test('POST /estop trips everything when its client hangs up in mid-body', async (t) => {
  const { listen, supervisor } = await startApp(t);
  const { port } = await listen();
  const socket = await dial(t, port);
  socket.write(`POST /estop HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{"drill":true,`);
  await new Promise((resolve) => setTimeout(resolve, 50));
  socket.destroy();
  await until(() => supervisor.state.trips.size > 0);
  t.match([...supervisor.state.trips.values()], [{ scope: { kind: 'all' }, reason: /broke off/ }]);
});

t.test('POST /estop reads no further than 64 KiB and still gets its answer across', async (t) => {
  const { listen, supervisor } = await startApp(t);
  const { port } = await listen();
  const socket = await dial(t, port);
  socket.write(`POST /estop HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n`);
  const chunk = `10000\r\n${'x'.repeat(65_536)}\r\n`;
  for (let sent = 0; sent < 32; sent++) socket.write(chunk);
  t.equal((await readAnswer(socket)).status, 202);
  t.match([...supervisor.state.trips.values()], [{ reason: /longer than 64 KiB/ }]);
});

t.test('POST /estop is no upgrade and no expectation, whatever its headers offer', async (t) => {
  const offers = {
    'h2c, as Java and curl --http2 offer it':
      'connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQ\r\n',
    'a WebSocket':
      'connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n',
    'an expectation that nobody knows': 'expect: miracles\r\n',
    'an expectation of 100-continue': 'expect: 100-continue\r\n',
  };
  const { listen, supervisor } = await startApp(t);
  const { port } = await listen();
  for (const [what, headers] of Object.entries(offers)) {
    const body = `{"nodes":"${NODE}","reason":"${what}"}`;
    const request = `POST /estop HTTP/1.1\r\nhost: localhost\r\n${headers}content-length: ${body.length}\r\n\r\n${body}`;
    t.equal((await sendRaw(t, port, request)).status, 202, what);
  }
  t.match(
    [...supervisor.state.trips.values()],
    [{ scope: { kind: 'nodes', nodes: [NODE] } }],
    'its body was read, too',
  );
});

t.test('GET and HEAD /estop trip nothing', async (t) => {
  const { ask, supervisor, listen } = await startApp(t);
  t.equal((await ask({ method: 'HEAD', url: '/estop' })).statusCode, 200);
  const { port } = await listen();
  t.equal(
    (await sendRaw(t, port, 'GET /estop HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{}')).status,
    200,
  );
  t.equal(supervisor.state.trips.size, 0);
  t.same((await ask({ url: '/estop' })).json(), {
    state: 'clear',
    tripId: null,
    scope: null,
    reason: null,
    by: null,
    since: null,
    report: null,
    nodes: { [NODE]: 'clear' },
    trips: [],
    lastTrip: null,
  });
});

t.test('GET /estop tells the trip, and after the reset the last one with its report', async (t) => {
  const { ask, actuator, pass } = await startApp(t);
  const { tripId } = (await ask(stop({ reason: 'smoke' }))).json();
  t.match((await ask({ url: '/estop' })).json(), {
    state: 'tripped',
    tripId,
    scope: { kind: 'all' },
    reason: 'smoke',
    by: 'local',
    since: '2026-01-01T00:00:10.000Z',
    report: { state: 'stopping' },
    nodes: { [NODE]: 'tripped' },
    trips: [{ tripId, cause: 'manual' }],
    lastTrip: null,
  });
  actuator.verify();
  await pass(0);
  await ask({ method: 'POST', url: '/estop/reset', payload: { tripId, reason: 'put out' }, headers: OPERATOR });
  t.match((await ask({ url: '/estop' })).json(), {
    state: 'clear',
    tripId: null,
    trips: [],
    lastTrip: { tripId, resetReason: 'put out', resetBy: /^token:[0-9a-f]{12}$/, report: { state: 'verified' } },
  });
});

t.test('GET /estop tells which nodes cool down', async (t) => {
  const { ask, rig, pass } = await startApp(t);
  rig.apply({ faults: [{ kind: 'cpu-temperature', valueC: 91 }] });
  await pass(10_000);
  t.match((await ask({ url: '/estop' })).json(), { state: 'cooling', nodes: { [NODE]: 'cooling' } });
});

t.test('understandStopBody() takes a name of 253 characters and a thousand nodes, and no more', async (t) => {
  const understand = (body: unknown) => understandStopBody(Buffer.from(JSON.stringify(body)));
  t.match(understand({ nodes: 'n'.repeat(253) }), { misunderstood: null });
  t.match(understand({ nodes: 'n'.repeat(254) }), { nodes: null, misunderstood: /nodes/ });
  t.equal(understand({ nodes: Array(1000).fill('a') }).nodes?.length, 1000);
  t.match(understand({ nodes: Array(1001).fill('a') }), { nodes: null, misunderstood: /1 to 1000/ });
  t.equal(understand({ reason: 'x'.repeat(600) }).reason?.length, 500);
  t.match(understand({ drill: true, nodes: 7 }), { isDrill: true, nodes: null }, 'it says that it is a drill');
});

/** Waits for something that real sockets bring about, with time passing on the manual clock meanwhile. */
async function until(isDone: () => boolean, pass: () => Promise<void> = async () => undefined): Promise<void> {
  for (let round = 0; round < 200 && !isDone(); round++) {
    await pass();
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
