// Tokens that a cluster judges, as the gate deals with them. How the cluster is asked is kubernetes/token-review.
import type { InjectOptions } from 'fastify';
import t, { type Test } from 'tap';
import { ACCESS, type Access, isPrompt, may, ROLES } from '../../src/http/access.ts';
import { buildApp } from '../../src/http/app.ts';
import type { ReviewToken, TokenReview } from '../../src/http/auth.ts';
import { bearer, NODE, startApp, type TestOptions, TOKENS } from '../support/test-app.ts';

const AWAY = { listen: { host: '0.0.0.0' } } as const;
const ACCOUNT = 'kubernetes:system:serviceaccount:gpu:trainer';
const known = (role: 'viewer' | 'workload' | 'operator' | null, isSure = true): TokenReview => ({
  kind: 'known',
  identity: ACCOUNT,
  role,
  isSure,
});

/** An app whose cluster answers as told; `asked` remembers with what pace. */
async function startReviewed(t: Test, reviews: Readonly<Record<string, TokenReview>>, options: TestOptions = AWAY) {
  const { parts, document } = await startApp(t, options);
  const asked: [token: string, pace: string][] = [];
  const reviewToken: ReviewToken = async (token, pace) => {
    asked.push([token, pace]);
    return reviews[token] ?? { kind: 'unknown' };
  };
  const app = buildApp({ ...parts, reviewToken });
  await app.ready();
  t.teardown(() => app.close());
  return {
    asked,
    async ask(request: InjectOptions & { readonly url: string }) {
      const answer = await app.inject({ ...request, headers: { host: 'vsf-safety.gpu.svc:8470', ...request.headers } });
      t.same(document.problemsOf(request.method ?? 'GET', request.url, answer), [], `${request.url} is as documented`);
      return answer;
    },
  };
}

function requestsOf(key: string): { method: 'GET' | 'POST'; url: string } {
  const [method = 'GET', path = '/'] = key.split(' ');
  const url = path.replace(':id', '0b0e7a52-8f0e-4f8e-9d7c-2b1f5f3f9a01').replace(':node', NODE);
  return { method: method as 'GET', url };
}
const rows = Object.entries(ACCESS) as [keyof typeof ACCESS, Access][];

for (const role of ROLES) {
  t.test(`createGate() lets a reviewed ${role} through where the role suffices, and nowhere else`, async (t) => {
    const { ask } = await startReviewed(t, { theirs: known(role) });
    for (const [key, access] of rows) {
      const answer = await ask({ ...requestsOf(key), headers: bearer('theirs') });
      const isRefused = [401, 403].includes(answer.statusCode);
      t.equal(!isRefused, may(role, access), `${key} for ${role}: ${answer.statusCode}`);
    }
  });
}

t.test('createGate() refuses an account without a role with 403, and names it', async (t) => {
  const { ask } = await startReviewed(t, { theirs: known(null) });
  for (const [key, access] of rows) {
    const answer = await ask({ ...requestsOf(key), headers: bearer('theirs') });
    t.equal(answer.statusCode === 403, access !== 'open', `${key}: ${answer.statusCode}`);
    if (access !== 'open') t.match(answer.json(), { code: 'role-insufficient', detail: new RegExp(ACCOUNT) });
  }
});

t.test(
  'createGate() refuses with 503 auth-unavailable where the cluster does not answer, and trips nothing',
  async (t) => {
    const { ask } = await startReviewed(t, { theirs: { kind: 'unanswered' } });
    for (const [key, access] of rows) {
      if (access === 'open') continue;
      const answer = await ask({ ...requestsOf(key), headers: bearer('theirs') });
      t.match(answer.json(), { status: 503, code: 'auth-unavailable' }, key);
      t.equal(answer.headers['retry-after'], '1');
    }
    const estop = await ask({ url: '/estop', headers: bearer(TOKENS.viewer) });
    t.equal(estop.json().state, 'clear');
  },
);

t.test('createGate() says 503, not 403, where a higher role could not be asked for', async (t) => {
  const { ask } = await startReviewed(t, { theirs: known('workload', false) });
  const reset = await ask({ method: 'POST', url: '/estop/reset', headers: bearer('theirs') });
  t.match(reset.json(), { status: 503, code: 'auth-unavailable' });
  const trip = await ask({ method: 'POST', url: '/estop', headers: bearer('theirs') });
  t.equal(trip.statusCode, 202, 'what is granted is granted');
  t.equal(trip.json().tripId.length > 0, true);
});

t.test('createGate() refuses a token that the cluster does not know as before', async (t) => {
  const { ask } = await startReviewed(t, {}, { ...AWAY, listen: { ...AWAY.listen, hosts: ['vsf-safety.gpu.svc'] } });
  const answer = await ask({ url: '/status', headers: bearer('nonsense') });
  t.match(answer.json(), { status: 401, code: 'token-invalid' });
  const foreign = await ask({ url: '/status', headers: { ...bearer('nonsense'), host: 'evil.example' } });
  t.match(foreign.json(), { status: 403, code: 'host-refused' }, 'a token that nobody knows is none');
});

t.test('createGate() asks the cluster only where it makes a difference', async (t) => {
  const { ask, asked } = await startReviewed(t, { theirs: known('viewer') });
  await ask({ url: '/status', headers: bearer(TOKENS.viewer) });
  await ask({ url: '/healthz', headers: bearer('theirs') });
  await ask({ url: '/readyz', headers: bearer('theirs') });
  await ask({ url: '/', headers: { ...bearer('theirs'), host: 'localhost' } });
  await ask({ url: '/status', headers: { authorization: 'Basic dGhlaXJzOg==' } });
  await ask({ url: '/status' });
  await ask({ url: '/status', headers: { ...bearer('theirs'), origin: 'http://evil.example' } });
  t.same(asked, []);
  t.equal(
    (await ask({ url: '/docs', headers: bearer('theirs') })).statusCode,
    200,
    'a known token frees from the Host',
  );
  t.equal(asked.length, 1);
});

t.test('isPrompt() names what must not hang on a cluster: stopping, renewing and giving back', async (t) => {
  const { ask, asked } = await startReviewed(t, { theirs: known('operator') });
  for (const [key] of rows) await ask({ ...requestsOf(key), headers: bearer('theirs') });
  const prompt = rows.filter(([key]) => isPrompt(...(key.split(' ') as [string, string]))).map(([key]) => key);
  t.same(prompt, ['PUT /leases/:id', 'DELETE /leases/:id', 'POST /estop', 'POST /estop/alertmanager']);
  t.equal(asked.filter(([, pace]) => pace === 'prompt').length, prompt.length);
});

t.test('a lease belongs to the account that the cluster names', async (t) => {
  const { ask } = await startReviewed(t, { first: known('workload'), second: known('workload') });
  const granted = await ask({ method: 'POST', url: '/leases', payload: { workload: 'w' }, headers: bearer('first') });
  t.equal(granted.statusCode, 201);
  const { id, identity } = granted.json().lease;
  t.equal(identity, ACCOUNT);
  const renewed = await ask({ method: 'PUT', url: `/leases/${id}`, payload: {}, headers: bearer('second') });
  t.equal(renewed.statusCode, 200, 'with the token that replaced the first one');
  const other = await ask({ method: 'PUT', url: `/leases/${id}`, payload: {}, headers: bearer(TOKENS.workload) });
  t.equal(other.statusCode, 403);
});
