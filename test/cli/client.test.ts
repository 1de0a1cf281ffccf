import { once } from 'node:events';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { type Asked, type Reply, standInService, vsfSafety } from '../support/command-line.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { tempDir } from '../support/temp-dir.ts';

const TOKEN = 'vsf_the-operators-own-token';
const FORGOTTEN: Reply = [200, { node: 'a', gpus: [] }];
const UNKNOWN_TOKEN: Reply = [
  401,
  { code: 'token-invalid', detail: 'Cannot do that: the bearer token is not known here' },
];
const NEEDS_TOKEN: Reply = [401, { code: 'token-required', detail: 'Cannot do that: a bearer token is needed' }];
const TRIPPED: Reply = [202, { tripId: 'trip-1', joined: false, recorded: true, report: reportOf('verified') }];

function reportOf(state: string) {
  return {
    state,
    actuators: {},
    stillLoaded: [],
    unknownNodes: [],
    startedAt: '2026-01-01T00:00:00Z',
    settledAt: null,
  };
}

/** A state folder with the operator's token. */
async function stateFolder(t: Test): Promise<string> {
  const folder = await tempDir(t);
  writeFileSync(join(folder, 'operator-token'), `${TOKEN}\n`, { mode: 0o600 });
  return folder;
}

/** Tells when somebody has begun to wait. */
class WatchedClock extends ManualClock {
  waits = 0;

  override after(ms: number, fire: () => void): () => void {
    this.waits += 1;
    return super.after(ms, fire);
  }
}

const tokensOf = (asked: readonly Asked[]): (string | undefined)[] => asked.map(({ headers }) => headers.authorization);
const forget = ['forget', 'a', '--reason', 'r'];

t.test('an operator’s command finds the operator’s token in the state folder', async (t) => {
  const folder = await stateFolder(t);
  const { url, asked } = await standInService(t, () => FORGOTTEN);
  t.equal((await vsfSafety([...forget, '--url', url], { env: { VSF_SAFETY_STATE_DIR: folder } })).code, 0);
  const home = await tempDir(t);
  mkdirSync(join(home, '.local/state/vsf-safety'), { recursive: true });
  writeFileSync(join(home, '.local/state/vsf-safety/operator-token'), TOKEN, { mode: 0o600 });
  t.equal((await vsfSafety([...forget, '--url', url], { homeDir: home })).code, 0);
  t.same(tokensOf(asked), [`Bearer ${TOKEN}`, `Bearer ${TOKEN}`]);
});

t.test('--token-file goes before VSF_SAFETY_TOKEN, and both before the state folder', async (t) => {
  const folder = await stateFolder(t);
  const file = join(folder, 'other');
  writeFileSync(file, 'from-file\n');
  const { url, asked } = await standInService(t, () => FORGOTTEN);
  const env = { VSF_SAFETY_STATE_DIR: folder, VSF_SAFETY_TOKEN: 'from-env', VSF_SAFETY_URL: `${url}/` };
  await vsfSafety([...forget, '--token-file', file], { env });
  await vsfSafety(forget, { env });
  t.same(tokensOf(asked), ['Bearer from-file', 'Bearer from-env']);
  t.equal(asked[0]?.path, '/nodes/a/forget', 'a slash at the end of the address does no harm');
});

t.test('a token file that cannot be used ends the command before anything is sent', async (t) => {
  const folder = await tempDir(t);
  writeFileSync(join(folder, 'empty'), '\n');
  writeFileSync(join(folder, 'two'), 'a\nb\n');
  const { url, asked } = await standInService(t, () => FORGOTTEN);
  for (const [name, err] of [
    ['absent', /ENOENT/],
    ['empty', /holds no token/],
    ['two', /holds no token/],
  ] as const) {
    t.match(await vsfSafety([...forget, '--url', url, '--token-file', join(folder, name)]), { code: 1, err });
  }
  t.same(asked, []);
});

t.test('the operator’s token never goes to a service on another machine', async (t) => {
  const folder = await stateFolder(t);
  const sent: string[] = [];
  const fetch = async (_url: unknown, init?: RequestInit): Promise<Response> => {
    sent.push(JSON.stringify(init?.headers));
    return Response.json({ detail: 'a bearer token is needed' }, { status: 401 });
  };
  const world = { env: { VSF_SAFETY_STATE_DIR: folder }, fetch: fetch as typeof globalThis.fetch };
  for (const argv of [forget, ['status'], ['estop']]) {
    t.equal((await vsfSafety([...argv, '--url', 'http://10.0.0.7:8470'], world)).code, 1);
  }
  t.not(sent.length, 0);
  t.notMatch(sent.join(), new RegExp(TOKEN));
});

t.test('a token that others can read is refused with the way out', async (t) => {
  const folder = await stateFolder(t);
  chmodSync(join(folder, 'operator-token'), 0o644);
  const { url, asked } = await standInService(t, () => FORGOTTEN);
  const ran = await vsfSafety([...forget, '--url', url], { env: { VSF_SAFETY_STATE_DIR: folder } });
  t.match(ran, { code: 1, err: /mode is 0644.*chmod 600/ });
  t.same(asked, []);
});

t.test('reading and stopping send no token until they are asked for one', async (t) => {
  const folder = await stateFolder(t);
  const env = { VSF_SAFETY_STATE_DIR: folder };
  const open = await standInService(t, () => TRIPPED);
  t.equal((await vsfSafety(['estop', '--url', open.url], { env })).code, 0);
  t.same(tokensOf(open.asked), [undefined]);
  const closed = await standInService(t, ({ headers }) => (headers.authorization ? TRIPPED : NEEDS_TOKEN));
  t.equal((await vsfSafety(['estop', '--url', closed.url], { env })).code, 0);
  t.same(tokensOf(closed.asked), [undefined, `Bearer ${TOKEN}`]);
});

t.test('estop is not kept from stopping by a wrong token in the environment', async (t) => {
  const { url, asked } = await standInService(t, ({ headers }) => (headers.authorization ? UNKNOWN_TOKEN : TRIPPED));
  t.equal((await vsfSafety(['estop', '--url', url], { env: { VSF_SAFETY_TOKEN: 'old' } })).code, 0);
  await vsfSafety(['estop', '--url', url], { env: { VSF_SAFETY_TOKEN: 'two\nlines' } });
  t.same(tokensOf(asked), ['Bearer old', undefined, undefined]);
});

t.test('an address with a password is refused without showing it', async (t) => {
  const ran = await vsfSafety(['status', '--url', 'http://ann:hunter2@host']);
  t.match(ran, { code: 2, err: /--url must carry no user and password/ });
  t.notMatch(ran.err, /hunter2/);
});

t.test('a refused caller is told which token was missing', async (t) => {
  const folder = await tempDir(t);
  const { url } = await standInService(t, () => [
    403,
    { code: 'role-insufficient', detail: 'Cannot forget: operator is needed' },
  ]);
  const env = { VSF_SAFETY_STATE_DIR: folder };
  const ran = await vsfSafety([...forget, '--url', url], { env });
  t.match(ran, {
    code: 1,
    err: `Cannot forget: operator is needed (no token was given, and none was found in ${folder}`,
  });
  const withToken = await vsfSafety([...forget, '--url', url], { env: { VSF_SAFETY_TOKEN: 'viewer' } });
  t.match(withToken, { code: 1, err: /another token may be needed/ });
});

t.test('a service that is not there is named, with exit code 1', async (t) => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  const url = `http://127.0.0.1:${port}`;
  t.match(await vsfSafety(['status', '--url', url]), {
    code: 1,
    out: '',
    err: `Cannot reach ${url}: connection refused`,
  });
  t.match(await vsfSafety(['estop', '--url', url]), {
    code: 1,
    out: '',
    err: /NOTHING IS KNOWN TO BE STOPPED\. Cannot reach .*\nStop the workloads by hand, or cut the power/,
  });
});

t.test('status gives up after 10 s, and estop after 5', async (t) => {
  const { url } = await standInService(t, () => null);
  for (const [name, seconds] of [
    ['status', 10],
    ['estop', 5],
  ] as const) {
    const clock = new WatchedClock();
    let isOver = false;
    const running = vsfSafety([name, '--url', url], { clock }).finally(() => {
      isOver = true;
    });
    // Loading the command takes real time, in which it does not yet wait.
    while (clock.waits === 0) await new Promise((resolve) => setImmediate(resolve));
    await clock.advance(seconds * 1000 - 1);
    t.equal(isOver, false, `${name} still waits`);
    await clock.advance(1);
    t.match(await running, { code: 1, err: `no answer within ${seconds} s` });
  }
});

t.test('whatever answers and is no such service is told apart from a refusal', async (t) => {
  const cases: readonly [reply: Reply, err: RegExp][] = [
    [[200, '<html>login</html>'], /answered with status 200 and nothing that vsf-safety would say/],
    [[200, { service: 'other' }], /did not answer with a status/],
    [[502, 'bad gateway'], /answered with status 502 and nothing/],
    [
      [500, { code: 'internal-error', detail: 'Something went wrong inside' }],
      /^vsf-safety status: Something went wrong inside/,
    ],
    [(response) => response.writeHead(302, { location: 'http://127.0.0.1:1/' }).end(), /answered with status 302/],
    [(response) => response.destroy(), /connection was cut/],
    [
      (response) => {
        response.writeHead(200, { 'content-length': '100' });
        response.write('{"service"');
        response.socket?.destroySoon();
      },
      /Cannot reach/,
    ],
  ];
  for (const [reply, err] of cases) {
    const { url } = await standInService(t, () => reply);
    t.match(await vsfSafety(['status', '--url', url]), { code: 1, out: '', err });
  }
});

t.test('estop says at once that it is latched, then waits for the report to settle', async (t) => {
  let looks = 0;
  const { url, asked } = await standInService(t, ({ method }) => {
    if (method === 'POST')
      return [202, { tripId: 'trip-1', joined: false, recorded: true, report: reportOf('stopping') }];
    looks += 1;
    if (looks === 1) return [500, { detail: 'busy' }];
    return [200, { trips: [{ tripId: 'trip-1', report: reportOf(looks < 3 ? 'stopping' : 'verified') }] }];
  });
  const ran = await vsfSafety(['estop', '--url', url, '--node', 'a', '--node', 'b', '--reason', 'why']);
  t.equal(ran.code, 0);
  t.match(ran.out, /^STOPPED: a, b, latched: trip trip-1\n/);
  t.match(ran.out, /verified: nothing is left running/);
  t.match(ran.out, `vsf-safety reset --url ${url} --trip trip-1 --reason`);
  t.same(asked[0]?.body, { reason: 'why', nodes: ['a', 'b'] });
  t.equal(looks, 3);
});

t.test('estop ends with 0 when its wait is over and the stop is not verified', async (t) => {
  const { url, asked } = await standInService(t, () => [
    202,
    {
      tripId: 'trip-1',
      joined: true,
      recorded: true,
      report: {
        ...reportOf('stopping'),
        actuators: { 'local-processes': { verified: false, entries: [] } },
        unknownNodes: ['x'],
      },
    },
  ]);
  const ran = await vsfSafety(['estop', '--url', url, '--wait', '0']);
  t.equal(ran.code, 0);
  t.match(ran.out, /^STOPPED: EVERYTHING, joined the trip that is on/);
  t.match(ran.out, /not yet verified by local-processes/);
  t.match(ran.out, /unknown node {2}x: nothing was stopped there/);
  t.equal(asked.length, 1);
});

t.test('reset looks up the trip where only one is on, and lets a person choose among several', async (t) => {
  const trip = (tripId: string, nodes: string[]) => ({
    tripId,
    reason: `hot \u001b[2J ${tripId}`,
    scope: { kind: 'nodes', nodes },
  });
  let trips = [trip('t1', ['a'])];
  const { url, asked } = await standInService(t, ({ method }) =>
    method === 'GET' ? [200, { trips }] : [200, { tripId: 't1', epoch: 1, recorded: false }],
  );
  const ran = await vsfSafety(['reset', '--url', url, '--reason', 'cool', '--acknowledge-unverified']);
  t.match(ran, { code: 0, out: /trip t1 is over\. Nothing was started\.\nIt could not be written to the journal/ });
  t.same(asked[1]?.body, { tripId: 't1', reason: 'cool', acknowledgeUnverified: true });

  trips = [trip('t1', ['a']), trip('t2', ['b', 'c'])];
  const several = await vsfSafety(['reset', '--url', url, '--reason', 'cool']);
  t.match(several, {
    code: 2,
    err: /2 trips are on; name one:\n {2}--trip t1 {3}a: hot \?\[2J t1\n {2}--trip t2 {3}b, c/,
  });
  trips = [];
  t.match(await vsfSafety(['reset', '--url', url, '--reason', 'cool']), { code: 0, out: /Nothing is tripped/ });
});

t.test('reset and forget end with 75 when they are refused, and say what is still wrong', async (t) => {
  const still = ['GPU 2 is at 86 °C, the warning is 80 °C', 'the stop is not verified'];
  const { url } = await standInService(t, ({ path }) =>
    path === '/estop/reset'
      ? [409, { code: 'reset-refused', detail: 'Cannot reset', still }]
      : [409, { code: 'forget-refused', detail: 'Cannot forget: it is still there' }],
  );
  const reset = ['reset', '--url', url, '--trip', 't1', '--reason', 'r'];
  t.match(await vsfSafety(reset), { code: 75, out: '', err: `still wrong:\n  - ${still[0]}\n  - ${still[1]}\n` });
  const json = await vsfSafety([...reset, '--json']);
  t.equal(json.code, 75);
  t.same(JSON.parse(json.out).still, still);
  t.match(await vsfSafety([...forget, '--url', url]), { code: 75, out: '', err: /Cannot forget: it is still there/ });
});

t.test('estop and status ask again with the operator’s token where anybody may read and no more', async (t) => {
  const folder = await stateFolder(t);
  const env = { VSF_SAFETY_STATE_DIR: folder };
  const mayNot: Reply = [403, { code: 'forbidden', detail: 'Cannot trip: a viewer may not' }];
  const { url, asked } = await standInService(t, ({ headers }) => (headers.authorization ? TRIPPED : mayNot));
  t.equal((await vsfSafety(['estop', '--url', url], { env })).code, 0, 'it was stopped');
  t.same(tokensOf(asked), [undefined, `Bearer ${TOKEN}`]);

  const nobody = await standInService(t, () => mayNot);
  const refused = await vsfSafety(['estop', '--url', nobody.url], { env: { VSF_SAFETY_STATE_DIR: await tempDir(t) } });
  t.match(refused, { code: 1, err: /a viewer may not.*none was found/s });
  t.ok(
    tokensOf(nobody.asked).every((token) => token === undefined),
    'each way is tried once in each attempt',
  );
});
