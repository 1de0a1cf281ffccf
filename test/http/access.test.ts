// The role × route × method table, written down a second time and tried both ways over real HTTP: every cell that says
// yes gets past the gate, every other one is refused as it says. A route that is in the OpenAPI document and not here
// fails, and so does a page (docs/security.md) that says otherwise.
import { readFile } from 'node:fs/promises';
import { Agent, type IncomingMessage, request } from 'node:http';
import t, { type Test } from 'tap';
import type { ACCESS } from '../../src/http/access.ts';
import { bearer, NODE, OWN_TOKEN, startApp, type TestApp, type TestOptions, TOKENS } from '../support/test-app.ts';

type Route = keyof typeof ACCESS;
/** Past the gate; no token, or an unknown one; a role that does not suffice. */
type Verdict = 'yes' | '401' | '403';

const AWAY: TestOptions = { listen: { host: '0.0.0.0' } };
const CALLERS = {
  viewer: { options: AWAY, headers: bearer(TOKENS.viewer) },
  workload: { options: AWAY, headers: bearer(TOKENS.workload) },
  operator: { options: AWAY, headers: bearer(TOKENS.operator) },
  'the operator’s file': { options: AWAY, headers: bearer(OWN_TOKEN) },
  'no token, loopback': { options: {}, headers: {} },
  'no token, forwarded': { options: {}, headers: { 'x-forwarded-for': '203.0.113.7' } },
  'no token, off loopback': { options: AWAY, headers: {} },
  'no token, auth.anonymous: viewer': { options: { ...AWAY, auth: { anonymous: 'viewer' } }, headers: {} },
  'unknown token': { options: {}, headers: bearer('vsf_nobody-knows-this-token') },
} as const satisfies Record<string, { options: TestOptions; headers: Record<string, string> }>;
type CallerName = keyof typeof CALLERS;
const callers = Object.keys(CALLERS) as CallerName[];

/** In the order of {@link CALLERS}. */
type Row = readonly [Verdict, Verdict, Verdict, Verdict, Verdict, Verdict, Verdict, Verdict, Verdict];
const READS: Row = ['yes', 'yes', 'yes', 'yes', 'yes', '401', '401', 'yes', '401'];
const WORKS: Row = ['403', 'yes', 'yes', 'yes', 'yes', '401', '401', '403', '401'];
const OPERATES: Row = ['403', '403', 'yes', 'yes', '403', '401', '401', '403', '401'];
const OPEN: Row = ['yes', 'yes', 'yes', 'yes', 'yes', 'yes', 'yes', 'yes', 'yes'];

const TABLE: Readonly<Record<Route, Row>> = {
  'GET /preflight': READS,
  'POST /preflight': READS,
  'POST /leases': WORKS,
  'GET /leases/:id': READS,
  'PUT /leases/:id': WORKS,
  'DELETE /leases/:id': WORKS,
  'GET /status': READS,
  'GET /estop': READS,
  'POST /estop': WORKS,
  'POST /estop/alertmanager': WORKS,
  'POST /estop/reset': OPERATES,
  'POST /estop/restore': OPERATES,
  'POST /nodes/:node/forget': OPERATES,
  'POST /simulation': OPERATES,
  'GET /commission': READS,
  'POST /commission': OPERATES,
  'GET /history': READS,
  'GET /metrics': READS,
  'GET /ws': READS,
  'GET /healthz': OPEN,
  'GET /readyz': OPEN,
  'GET /openapi.json': OPEN,
  'GET /docs': OPEN,
  'GET /': OPEN,
  'GET /dashboard/:file': OPEN,
};
const routes = Object.keys(TABLE) as Route[];

/** One request over the network; gives the status. */
async function statusOf(
  { port, agent }: { readonly port: number; readonly agent: Agent },
  route: string,
  headers: Record<string, string>,
): Promise<number> {
  const [method = '', path = ''] = route.split(' ');
  const url = path
    .replace(':id', '0b0e7a52-8f0e-4f8e-9d7c-2b1f5f3f9a01')
    .replace(':node', NODE)
    .replace(':file', 'x.js');
  const answer = await new Promise<IncomingMessage>((resolve, reject) => {
    request({ agent, port, method, path: url, headers: { host: 'localhost', ...headers } }, resolve)
      .on('error', reject)
      .end();
  });
  answer.resume();
  return answer.statusCode ?? 0;
}

async function listening(t: Test, options: TestOptions): Promise<{ app: TestApp; port: number; agent: Agent }> {
  const app = await startApp(t, options);
  const agent = new Agent({ keepAlive: true });
  t.teardown(() => agent.destroy());
  return { app, port: (await app.listen()).port, agent };
}

t.test('the table has every route and method of the OpenAPI document, and no other', async (t) => {
  const { app } = await startApp(t);
  const { paths } = app.swagger() as unknown as { paths: Record<string, Record<string, unknown>> };
  const documented = Object.entries(paths).flatMap(([path, item]) =>
    Object.keys(item).map((method) => `${method.toUpperCase()} ${path.replace(/\{(\w+)\}/g, ':$1')}`),
  );
  t.same(documented.sort(), [...routes].sort());
});

for (const [index, name] of callers.entries()) {
  t.test(`every cell holds over HTTP, both ways: ${name}`, async (t) => {
    const { options, headers } = CALLERS[name];
    const to = await listening(t, options);
    for (const route of routes) {
      const status = await statusOf(to, route, headers);
      const verdict = status === 401 || status === 403 ? `${status}` : 'yes';
      t.equal(verdict, TABLE[route][index], `${route}: ${status}`);
    }
    const hasTripped = to.app.supervisor.state.trips.size > 0;
    t.equal(hasTripped, TABLE['POST /estop'][index] === 'yes', 'the emergency stop was taken exactly where it says so');
  });
}

t.test('a drill is an operator’s, within a route that is a workload’s', async (t) => {
  const { ask } = await startApp(t, AWAY);
  for (const role of ['viewer', 'workload', 'operator'] as const) {
    const payload = { drill: true };
    const answer = await ask({ method: 'POST', url: '/estop', payload, headers: bearer(TOKENS[role]) });
    t.equal(answer.statusCode, role === 'operator' ? 200 : 403, role);
  }
});

t.test('docs/security.md shows this table', async (t) => {
  const rows = routes.map((route) => [`\`${route}\``, ...TABLE[route]]);
  const lines = [['', ...callers], ['---', ...callers.map(() => '---')], ...rows].map(
    (cells) => `| ${cells.join(' | ')} |`,
  );
  const page = await readFile('docs/security.md', 'utf8');
  t.ok(page.includes(lines.join('\n')), `its table must be:\n${lines.join('\n')}`);
});
