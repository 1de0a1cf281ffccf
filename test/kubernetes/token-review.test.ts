import t from 'tap';
import { systemClock } from '../../src/clock.ts';
import type { ReviewToken } from '../../src/http/auth.ts';
import type { KubeAnswer, KubeApi, KubeObject } from '../../src/kubernetes/kube-api.ts';
import { createKubeClient } from '../../src/kubernetes/kube-client.ts';
import {
  createTokenReviewer,
  type ReviewedRole,
  ROLE_RIGHTS,
  TOKEN_AUDIENCE,
  type TokenReviewer,
} from '../../src/kubernetes/token-review.ts';
import { lacksControlPlane, startControlPlane } from '../support/control-plane.ts';
import { ManualClock } from '../support/manual-clock.ts';

type Body = Readonly<Record<string, unknown>> & {
  readonly kind: string;
  readonly spec: Readonly<Record<string, unknown>>;
};
type Answer = KubeAnswer<KubeObject> | 'hangs';

const failure = (kind: 'timeout' | 'forbidden' | 'too-many-requests'): Answer => ({
  ok: false,
  kind,
  status: null,
  detail: `Cannot create: ${kind} at https://10.0.0.1`,
  retryAfterMs: null,
});
const object = (kind: string, status: unknown): Answer => ({
  ok: true,
  value: { kind, metadata: { name: '', uid: '' }, status } as KubeObject,
});
const USER = { username: 'system:serviceaccount:gpu:trainer', uid: 'u1', groups: ['g'], extra: { k: ['v'] } };
const authenticated = object('TokenReview', { authenticated: true, user: USER });

/** An API server that answers these two reviews and remembers what it was asked; `hangs` ends at the request's deadline. */
class ReviewServer {
  readonly asked: Body[] = [];
  readonly clock = new ManualClock();
  readonly told: (string | null)[] = [];
  readonly reviewer: TokenReviewer;
  user: (token: string) => Answer = () => authenticated;
  access: (path: string) => Answer = () => object('SubjectAccessReview', { allowed: false });

  constructor() {
    const api = {
      create: (path: string, body: unknown, timeoutMs: number) => this.#create(path, body as Body, timeoutMs),
    };
    this.reviewer = createTokenReviewer({
      api: api as KubeApi,
      clock: this.clock,
      onTrouble: (detail) => this.told.push(detail),
    });
  }

  grant(...roles: ReviewedRole[]): void {
    const paths = ROLE_RIGHTS.filter(({ role }) => roles.includes(role)).map(({ path }) => path);
    this.access = (path) => object('SubjectAccessReview', { allowed: paths.includes(path) });
  }

  count(kind: string): number {
    return this.asked.filter((body) => body.kind === kind).length;
  }

  async #create(path: string, body: Body, timeoutMs: number): Promise<KubeAnswer<KubeObject>> {
    this.asked.push(body);
    const { nonResourceAttributes, token } = body.spec as { nonResourceAttributes?: { path: string }; token?: string };
    const isUser = path === '/apis/authentication.k8s.io/v1/tokenreviews';
    const answer = isUser ? this.user(token ?? '') : this.access(nonResourceAttributes?.path ?? '');
    if (answer !== 'hangs') return answer;
    await this.clock.sleep(timeoutMs);
    return failure('timeout') as KubeAnswer<KubeObject>;
  }
}

/** The answer, and after how many ms on the manual clock. */
async function timed<T>(clock: ManualClock, promise: Promise<T>): Promise<{ answer: T; tookMs: number }> {
  const startedMs = clock.now().elapsedMs;
  let done: { answer: T; tookMs: number } | undefined;
  void promise.then((answer) => {
    done = { answer, tookMs: clock.now().elapsedMs - startedMs };
  });
  for (let turn = 0; turn < 500 && !done; turn++) await clock.advance(10);
  if (!done) throw new Error('never answered');
  return done;
}

const IDENTITY = 'kubernetes:system:serviceaccount:gpu:trainer';
const as = (role: ReviewedRole | null) => ({ kind: 'known', identity: IDENTITY, role, isSure: true });

t.test('review() gives the highest role that is granted', async (t) => {
  for (const [granted, role] of [
    [[], null],
    [['viewer'], 'viewer'],
    [['viewer', 'workload'], 'workload'],
    [['operator'], 'operator'],
    [['viewer', 'workload', 'operator'], 'operator'],
  ] as [ReviewedRole[], ReviewedRole | null][]) {
    const server = new ReviewServer();
    server.grant(...granted);
    t.same(await server.reviewer.review('theirs', 'thorough'), as(role), granted.join());
  }
});

t.test('review() asks about the user as the cluster told it', async (t) => {
  const server = new ReviewServer();
  await server.reviewer.review('theirs', 'thorough');
  const { username: user, uid, groups, extra } = USER;
  t.same(server.asked, [
    { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenReview', spec: { token: 'theirs' } },
    ...ROLE_RIGHTS.map(({ path, verb }) => ({
      apiVersion: 'authorization.k8s.io/v1',
      kind: 'SubjectAccessReview',
      spec: { user, uid, groups, extra, nonResourceAttributes: { path, verb } },
    })),
  ]);
});

t.test('review() takes nobody for somebody by a strange answer', async (t) => {
  const unknown = [
    object('TokenReview', {}),
    object('TokenReview', { authenticated: false, error: 'invalid bearer token' }),
    object('TokenReview', { authenticated: 'true', user: USER }),
    object('TokenReview', { authenticated: false, user: USER }),
  ];
  for (const answer of unknown) {
    const server = new ReviewServer();
    server.grant('operator');
    server.user = () => answer;
    t.same(await server.reviewer.review('theirs', 'thorough'), { kind: 'unknown' }, JSON.stringify(answer));
    t.equal(server.count('SubjectAccessReview'), 0);
  }
  const unanswered = [
    object('Status', { authenticated: true, user: USER }),
    object('SubjectAccessReview', { authenticated: true, user: USER }),
    object('TokenReview', undefined),
    object('TokenReview', [{ authenticated: true }]),
    object('TokenReview', { authenticated: true }),
    object('TokenReview', { authenticated: true, user: { username: '' } }),
    object('TokenReview', { authenticated: true, user: { username: 'x'.repeat(501) } }),
    failure('forbidden'),
  ];
  for (const answer of unanswered) {
    const server = new ReviewServer();
    server.grant('operator');
    server.user = () => answer;
    t.same(await server.reviewer.review('theirs', 'thorough'), { kind: 'unanswered' }, JSON.stringify(answer));
    t.equal(server.told.length, 1, 'the reason is for the log');
  }
});

t.test('review() takes nothing for granted by a strange access review', async (t) => {
  for (const status of [
    {},
    { allowed: 'true' },
    { allowed: true, denied: true },
    { allowed: false, evaluationError: 'role "gone" not found' },
  ]) {
    const server = new ReviewServer();
    server.access = () => object('SubjectAccessReview', status);
    t.same(await server.reviewer.review('theirs', 'thorough'), as(null), JSON.stringify(status));
  }
  const server = new ReviewServer();
  server.access = () => object('Status', { allowed: true });
  t.same(await server.reviewer.review('theirs', 'thorough'), { kind: 'unanswered' });
});

t.test('review() asks a token for this service about this service, and insists on the answer', async (t) => {
  const jwt = (claims: unknown): string => `e30.${Buffer.from(JSON.stringify(claims)).toString('base64url')}.c2ln`;
  for (const aud of [TOKEN_AUDIENCE, [TOKEN_AUDIENCE], ['other', TOKEN_AUDIENCE]]) {
    for (const [audiences, kind] of [
      [[TOKEN_AUDIENCE], 'known'],
      [['https://kubernetes.default.svc'], 'unknown'],
      [undefined, 'unknown'],
    ] as const) {
      const server = new ReviewServer();
      server.user = () => object('TokenReview', { authenticated: true, user: USER, audiences });
      const review = await server.reviewer.review(jwt({ aud }), 'thorough');
      t.equal(review.kind, kind, `${JSON.stringify(aud)} answered ${JSON.stringify(audiences)}`);
      t.same(server.asked[0]?.spec['audiences'], [TOKEN_AUDIENCE]);
    }
  }
  for (const token of [
    jwt({ aud: 'other' }),
    jwt(null),
    jwt([]),
    'a.b.c',
    'opaque',
    '..',
    `${jwt({ aud: TOKEN_AUDIENCE })}.x`,
  ]) {
    const server = new ReviewServer();
    t.equal((await server.reviewer.review(token, 'thorough')).kind, 'known', token);
    t.notOk('audiences' in (server.asked[0]?.spec ?? {}), 'as for the API server itself');
  }
});

t.test('review() keeps a role for 10 s and a refusal for 5 s', async (t) => {
  const server = new ReviewServer();
  server.grant('workload');
  const ask = async (): Promise<number> => {
    await server.reviewer.review('theirs', 'thorough');
    return server.count('TokenReview');
  };
  t.equal(await ask(), 1);
  await server.clock.advance(9_999);
  t.equal(await ask(), 1);
  await server.clock.advance(1);
  server.user = () => object('TokenReview', {});
  t.equal(await ask(), 2);
  t.same(await server.reviewer.review('theirs', 'prompt'), { kind: 'unknown' }, 'a refusal ends the grant at once');
  await server.clock.advance(4_999);
  t.equal(await ask(), 2);
  await server.clock.advance(1);
  server.user = () => authenticated;
  t.equal(await ask(), 3);
  t.same(await server.reviewer.review('theirs', 'prompt'), as('workload'));
});

t.test('review() asks once for all who ask at the same time, and keeps tokens apart', async (t) => {
  const server = new ReviewServer();
  server.grant('viewer');
  server.user = (token) => (token === 'a' ? authenticated : object('TokenReview', {}));
  const answers = await Promise.all(['a', 'a', 'b', 'a'].map((token) => server.reviewer.review(token, 'thorough')));
  t.same(answers, [as('viewer'), as('viewer'), { kind: 'unknown' }, as('viewer')]);
  t.equal(server.count('TokenReview'), 2);
});

t.test('review() ends within 3 s in all, also where the second question hangs', async (t) => {
  const server = new ReviewServer();
  server.user = () => 'hangs';
  const first = await timed(server.clock, server.reviewer.review('theirs', 'thorough'));
  t.same(first, { answer: { kind: 'unanswered' }, tookMs: 3_000 });
  server.user = () => authenticated;
  server.access = () => 'hangs';
  const second = await timed(server.clock, server.reviewer.review('theirs', 'thorough'));
  t.same(second, { answer: { kind: 'unanswered' }, tookMs: 3_000 });
  t.equal(server.told.length, 1, 'told once');
  server.grant('viewer');
  t.same(await server.reviewer.review('theirs', 'thorough'), as('viewer'), 'what went wrong is not kept');
  t.equal(server.told.length, 2);
  t.equal(server.told[1], null);
});

t.test(
  'review() of a known role does not wait over 50 ms for a cluster that hangs, where it must be prompt',
  async (t) => {
    const server = new ReviewServer();
    server.grant('workload');
    await server.reviewer.review('theirs', 'thorough');
    server.user = () => 'hangs';
    await server.clock.advance(10_000);
    const prompt = await timed(server.clock, server.reviewer.review('theirs', 'prompt'));
    t.same(prompt, { answer: as('workload'), tookMs: 50 });
    const thorough = await timed(server.clock, server.reviewer.review('theirs', 'thorough'));
    t.equal(thorough.answer.kind, 'unanswered', 'everything else fails closed');
    await server.clock.advance(24 * 3_600_000 - 14_000);
    t.same((await timed(server.clock, server.reviewer.review('theirs', 'prompt'))).answer, as('workload'));
    await server.clock.advance(10_000);
    const late = await timed(server.clock, server.reviewer.review('theirs', 'prompt'));
    t.same(late.answer, { kind: 'unanswered' }, 'for 24 h and no longer');
  },
);

t.test('review() of a token never seen waits 2 s where it must be prompt, and lets nobody through', async (t) => {
  const server = new ReviewServer();
  server.user = () => 'hangs';
  const { answer, tookMs } = await timed(server.clock, server.reviewer.review('theirs', 'prompt'));
  t.same({ answer, tookMs }, { answer: { kind: 'unanswered' }, tookMs: 2_000 });
});

t.test('review() heeds a refusal that comes in time, and remembers one that comes late', async (t) => {
  const server = new ReviewServer();
  server.grant('operator');
  await server.reviewer.review('theirs', 'prompt');
  await server.clock.advance(10_000);
  server.grant();
  t.same(await server.reviewer.review('theirs', 'prompt'), as(null));
  server.user = () => 'hangs';
  await server.clock.advance(5_000);
  t.equal((await timed(server.clock, server.reviewer.review('theirs', 'prompt'))).answer.kind, 'unanswered');
});

t.test('review() with half an answer gives what is granted, says so, and keeps nothing', async (t) => {
  const server = new ReviewServer();
  const [operator, workload, viewer] = ROLE_RIGHTS.map(({ path }) => path);
  const yes = object('SubjectAccessReview', { allowed: true });
  server.access = (path) => (path === operator ? failure('too-many-requests') : yes);
  t.match(await server.reviewer.review('theirs', 'thorough'), { kind: 'known', role: 'workload', isSure: false });
  server.access = (path) => (path === viewer ? failure('too-many-requests') : yes);
  t.same(await server.reviewer.review('theirs', 'thorough'), as('operator'), 'a lower one makes no difference');
  await server.clock.advance(10_000);
  server.access = (path) => (path === operator ? failure('too-many-requests') : yes);
  t.same(await server.reviewer.review('theirs', 'prompt'), as('operator'), 'what was sure stands in');
  server.access = (path) => (path === workload ? failure('timeout') : object('SubjectAccessReview', {}));
  t.equal((await server.reviewer.review('theirs', 'thorough')).kind, 'unanswered', 'no role, and nobody knows');
});

t.test('review() is not drowned by made-up tokens', async (t) => {
  const server = new ReviewServer();
  server.grant('workload');
  await server.reviewer.review('theirs', 'thorough');
  server.user = () => object('TokenReview', {});
  for (let n = 0; n < 1_100; n++) await server.reviewer.review(`made-up-${n}`, 'thorough');
  await server.reviewer.review('made-up-1099', 'thorough');
  t.equal(server.count('TokenReview'), 1_101, 'refusals are kept');
  await server.reviewer.review('made-up-0', 'thorough');
  t.equal(server.count('TokenReview'), 1_102, 'a thousand of them');
  await server.clock.advance(10_000);
  server.user = () => 'hangs';
  const crowd = Array.from({ length: 65 }, (_, n) => server.reviewer.review(`crowd-${n}`, 'thorough'));
  t.same(await crowd[64], { kind: 'unanswered' }, 'one too many is answered at once');
  t.equal(server.count('TokenReview'), 1_102 + 64);
  const { answer } = await timed(server.clock, server.reviewer.review('theirs', 'prompt'));
  t.same(answer, as('workload'), 'and a stop still has room');
  await server.clock.advance(3_000);
  await Promise.all(crowd);
});

// Starting one takes a while where other tests run beside it.
t.setTimeout(240_000);
t.test('review() on a real control plane', { timeout: 240_000, skip: lacksControlPlane }, async (t) => {
  const plane = await startControlPlane(t);
  const client = await createKubeClient({
    clock: systemClock,
    kubeconfig: await plane.kubeconfigFor(plane.serviceToken),
  });
  if (!client.ok) throw new Error(client.detail);
  t.teardown(() => client.api.close());
  const told: (string | null)[] = [];
  const reviewer = createTokenReviewer({
    api: client.api,
    clock: systemClock,
    onTrouble: (detail) => told.push(detail),
  });
  // What the HTTP layer takes is what this gives.
  const reviewToken: ReviewToken = (token, pace) => reviewer.review(token, pace);

  // As docs/kubernetes.md tells people.
  await plane.apply('helm/rbac/caller-roles.yaml');
  for (const name of ['viewer', 'workload', 'operator']) {
    await plane.must('POST', '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings', {
      metadata: { name: `test-${name}` },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: `vsf-safety-${name}` },
      subjects: [{ kind: 'ServiceAccount', name, namespace: 'default' }],
    });
  }
  const tokenOf = async (name: string, audiences?: readonly string[]): Promise<string> => {
    await plane.ask('POST', '/api/v1/namespaces/default/serviceaccounts', { metadata: { name } });
    const request = { spec: { expirationSeconds: 3_600, ...(audiences && { audiences }) } };
    return (await plane.must('POST', `/api/v1/namespaces/default/serviceaccounts/${name}/token`, request)).status.token;
  };
  const identity = (name: string): string => `kubernetes:system:serviceaccount:default:${name}`;
  for (const role of ['viewer', 'workload', 'operator'] as const) {
    const expected = { kind: 'known', identity: identity(role), role, isSure: true };
    t.same(await reviewToken(await tokenOf(role), 'thorough'), expected, role);
    t.same(await reviewToken(await tokenOf(role, [TOKEN_AUDIENCE]), 'prompt'), expected, `${role}, for this service`);
  }
  t.match(await reviewToken(await tokenOf('bare'), 'thorough'), {
    identity: identity('bare'),
    role: null,
    isSure: true,
  });
  t.match(await reviewToken(await tokenOf('operator', ['somebody-else']), 'thorough'), { kind: 'unknown' });
  t.match(await reviewToken(plane.adminToken, 'thorough'), { identity: 'kubernetes:admin', role: 'operator' });
  t.match(await reviewToken(plane.strangerToken, 'thorough'), { identity: 'kubernetes:stranger', role: null });
  t.same(await reviewToken('nonsense', 'thorough'), { kind: 'unknown' });
  t.same(told, []);

  // Without the right to review.
  const bare = await createKubeClient({
    clock: systemClock,
    kubeconfig: await plane.kubeconfigFor(plane.strangerToken),
  });
  if (!bare.ok) throw new Error(bare.detail);
  t.teardown(() => bare.api.close());
  const refused: (string | null)[] = [];
  const onTrouble = (detail: string | null): unknown => refused.push(detail);
  const powerless = createTokenReviewer({ api: bare.api, clock: systemClock, onTrouble });
  t.same(await powerless.review(plane.adminToken, 'thorough'), { kind: 'unanswered' });
  t.match(refused, [/403.*tokenreviews/]);

  const before = await tokenOf('workload');
  t.match(await reviewToken(before, 'thorough'), { role: 'workload' });
  await plane.apiserver.stop();
  t.match(await reviewToken('never seen', 'prompt'), { kind: 'unanswered' });
  t.equal(told.length, 1);
  await systemClock.sleep(10_000);
  t.match(await reviewToken(before, 'thorough'), { kind: 'unanswered' });
  t.match(await reviewToken(before, 'prompt'), { role: 'workload' }, 'a confirmed role may stop without the cluster');
});
