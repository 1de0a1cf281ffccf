import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { rootCertificates } from 'node:tls';
import t, { type Test } from 'tap';
import { type Clock, systemClock } from '../../src/clock.ts';
import type { KubeApi, KubeFailureKind } from '../../src/kubernetes/kube-api.ts';
import { createKubeClient } from '../../src/kubernetes/kube-client.ts';
import { type ControlPlane, lacksControlPlane, startControlPlane } from '../support/control-plane.ts';
import {
  type Asked,
  type Fault,
  type KubeFaultProxy,
  loginPage,
  startKubeFaultProxy,
  tooManyRequests,
} from '../support/kube-fault-proxy.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { tempDir } from '../support/temp-dir.ts';

const PODS = '/api/v1/namespaces/default/pods';
const LABELLED = { labelSelector: 'vsf-workload=true' };
const TIMEOUT_MS = 10_000;

const statusOf = (code: number, reason: string): Fault => ({
  kind: 'answer',
  status: code,
  body: { kind: 'Status', apiVersion: 'v1', status: 'Failure', reason, code, message: `made up: ${reason}` },
});
const said = (body: unknown, status = 200): Fault => ({ kind: 'answer', status, body });
const once = (fault: Fault, which: (asked: Asked) => boolean = () => true) => {
  let isOver = false;
  return (asked: Asked): Fault | null => {
    if (isOver || !which(asked)) return null;
    isOver = true;
    return fault;
  };
};

async function clientOf(t: Test, kubeconfig: string | null, clock: Clock = systemClock, root = ''): Promise<KubeApi> {
  const made = await createKubeClient({ clock, kubeconfig, root });
  if (!made.ok) throw new Error(made.detail);
  t.teardown(() => made.api.close());
  return made.api;
}

async function makePod(plane: ControlPlane, name: string, nodeName?: string): Promise<string> {
  const pod = await plane.must('POST', PODS, {
    metadata: { name, labels: { 'vsf-workload': 'true' } },
    spec: { ...(nodeName !== undefined && { nodeName }), containers: [{ name: 'load', image: 'example/load:1' }] },
  });
  return pod.metadata.uid;
}

t.test('KubeClient on a real control plane', { skip: lacksControlPlane }, async (t) => {
  const plane = await startControlPlane(t);
  const proxy = await startKubeFaultProxy(t, plane);
  const api = await clientOf(t, await plane.kubeconfigFor(plane.serviceToken, proxy));
  t.beforeEach(() => proxy.setRule(() => null));
  /** What is asked while `work` runs. */
  const during = async (work: () => Promise<unknown>): Promise<readonly Asked[]> => {
    const before = proxy.asked.length;
    await work();
    return proxy.asked.slice(before);
  };

  await t.test('createKubeClient() tells the context’s namespace', async (t) => {
    const made = await createKubeClient({ clock: systemClock, kubeconfig: await plane.kubeconfigFor('x') });
    t.match(made, { ok: true, namespace: 'vsf-safety' });
    if (made.ok) await made.api.close();
  });

  await t.test('list() gives an empty list only for a real one', async (t) => {
    t.match(await api.list('/api/v1/pods', LABELLED, TIMEOUT_MS), { ok: true, value: { items: [] } });
    const wrong: readonly [string, Fault][] = [
      ['an empty object', said({})],
      ['an HTML page', loginPage],
      ['a list without items', said({ kind: 'PodList', apiVersion: 'v1', metadata: {} })],
      ['a list whose items are null', said({ kind: 'PodList', apiVersion: 'v1', metadata: {}, items: null })],
      ['an item without a uid', said({ kind: 'PodList', metadata: {}, items: [{ metadata: { name: 'a' } }] })],
      ['something else', said({ kind: 'Pod', metadata: { name: 'a', uid: 'b' }, items: [] })],
      [
        'JSON that is called something else',
        {
          kind: 'answer',
          status: 200,
          headers: { 'content-type': 'text/plain' },
          body: '{"kind":"PodList","items":[]}',
        },
      ],
      ['nothing', said('')],
      ['a redirect', { kind: 'answer', status: 302, headers: { location: 'https://login.example/' } }],
      ['half a body', { kind: 'cut', afterBytes: 20 }],
    ];
    for (const [name, fault] of wrong) {
      proxy.setRule(() => fault);
      t.match(await api.list('/api/v1/pods', LABELLED, TIMEOUT_MS), { ok: false, kind: 'bad-body' }, name);
    }
  });

  await t.test('list() takes all pages, and starts again when its token is gone', async (t) => {
    await Promise.all(Array.from({ length: 510 }, (_, index) => makePod(plane, `load-${index}`)));
    const isSecondPage = ({ query }: Asked): boolean => query.has('continue');
    const asked = await during(async () => {
      const listed = await api.list('/api/v1/pods', LABELLED, TIMEOUT_MS);
      t.equal(listed.ok && new Set(listed.value.items.map(({ metadata }) => metadata.name)).size, 510);
      t.match(listed.ok && listed.value.items[0], { kind: 'Pod', apiVersion: 'v1' }, 'items are told their kind');
    });
    t.same(
      asked.map(({ query }) => [query.get('limit'), query.get('labelSelector'), query.get('resourceVersion')]),
      Array(2).fill(['500', 'vsf-workload=true', null]),
    );

    proxy.setRule(once(statusOf(410, 'Expired'), isSecondPage));
    const again = await api.list('/api/v1/pods', LABELLED, TIMEOUT_MS);
    t.equal(again.ok && again.value.items.length, 510, 'none twice, none missing');

    proxy.setRule((one) => (isSecondPage(one) ? statusOf(410, 'Expired') : null));
    const rounds = await during(async () => {
      t.match(await api.list('/api/v1/pods', LABELLED, TIMEOUT_MS), { ok: false, kind: 'gone', status: 410 });
    });
    t.equal(rounds.length, 8, 'four rounds, and no more');

    proxy.setRule((one) => (isSecondPage(one) ? { kind: 'hang' } : null));
    t.match(await api.list('/api/v1/pods', LABELLED, 300), { ok: false, kind: 'timeout' }, 'no half list');
  });

  await t.test('remove() deletes one object of this uid, with the grace that it is told', async (t) => {
    const uid = await makePod(plane, 'running', 'node-1');
    const path = `${PODS}/running`;
    const other = { graceSeconds: 1, uid: '00000000-0000-0000-0000-000000000001' };
    t.match(await api.remove(path, other, TIMEOUT_MS), { ok: false, kind: 'conflict', status: 409 });
    const terminating = { ok: true, value: { metadata: { uid, deletionGracePeriodSeconds: 1 } } };
    t.match(await api.remove(path, { graceSeconds: 1, uid }, TIMEOUT_MS), terminating);
    t.match(await api.remove(path, { graceSeconds: 0, uid }, TIMEOUT_MS), { ok: true });
    t.match(await api.remove(path, { graceSeconds: 0, uid }, TIMEOUT_MS), { ok: false, kind: 'not-found' });
    const status = { kind: 'Status', status: 'Success', details: { name: 'running', kind: 'pods', uid } };
    proxy.setRule(() => said(status));
    t.match(
      await api.remove(path, { graceSeconds: 0, uid }, TIMEOUT_MS),
      { ok: true, value: { metadata: { name: 'running', uid } } },
      'some kinds are answered with a Status',
    );
  });

  await t.test('remove(), patch() and the others ask nothing where a name is missing', async (t) => {
    const options = { graceSeconds: 0, uid: 'x' };
    const asked = await during(async () => {
      for (const path of [
        PODS,
        `${PODS}/`,
        '/api/v1/namespaces//pods/a',
        '/api/v1/namespaces/gpu',
        '/api/v1/nodes',
        `${PODS}/..`,
        `${PODS}/a?gracePeriodSeconds=0`,
        `${PODS}/a%2Fb`,
        'api/v1/nodes/a',
        '',
      ]) {
        t.match(await api.remove(path, options, TIMEOUT_MS), { ok: false, kind: 'refused' }, path);
        t.match(await api.patch(path, { spec: {} }, TIMEOUT_MS), { ok: false, kind: 'refused' }, path);
      }
      t.match(await api.remove(`${PODS}/a`, { ...options, uid: '' }, TIMEOUT_MS), { ok: false, kind: 'refused' });
      t.match(await api.list(PODS, { labelSelector: '' }, TIMEOUT_MS), { ok: false, kind: 'refused' });
      t.match(await api.list(`${PODS}/a`, {}, TIMEOUT_MS), { ok: false, kind: 'refused' });
    });
    t.same(asked, []);
  });

  await t.test('patch() sends an object as a merge patch and a list as a JSON patch', async (t) => {
    await plane.must('POST', '/apis/apps/v1/namespaces/default/deployments', {
      metadata: { name: 'web' },
      spec: {
        replicas: 3,
        selector: { matchLabels: { app: 'web' } },
        template: { metadata: { labels: { app: 'web' } }, spec: { containers: [{ name: 'c', image: 'x' }] } },
      },
    });
    const path = '/apis/apps/v1/namespaces/default/deployments/web/scale';
    const asked = await during(async () => {
      const scaled = await api.patch(path, { spec: { replicas: 0 } }, TIMEOUT_MS);
      t.match(scaled, { ok: true, value: { kind: 'Scale', metadata: { name: 'web' } } });
      const back = await api.patch(path, [{ op: 'add', path: '/spec/replicas', value: 2 }], TIMEOUT_MS);
      t.match(back, { ok: true, value: { spec: { replicas: 2 } } });
    });
    t.same(
      asked.map(({ contentType }) => contentType),
      ['application/merge-patch+json', 'application/json-patch+json'],
    );
  });

  await t.test('create() as a dry run leaves nothing; replace() compares and swaps', async (t) => {
    const maps = '/api/v1/namespaces/vsf-safety/configmaps';
    const map = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'vsf-estop' }, data: { epoch: '1' } };
    t.match(await api.create(maps, map, TIMEOUT_MS, { dryRun: true }), { ok: true });
    t.match(await api.get(`${maps}/vsf-estop`, TIMEOUT_MS), { ok: false, kind: 'not-found' });
    const made = await api.create(maps, map, TIMEOUT_MS);
    if (!made.ok) throw new Error(made.detail);
    t.match(await api.create(maps, map, TIMEOUT_MS), { ok: false, kind: 'conflict' });
    const next = { ...made.value, data: { epoch: '2' } };
    t.match(await api.replace(`${maps}/vsf-estop`, next, TIMEOUT_MS), { ok: true, value: { data: { epoch: '2' } } });
    t.match(await api.replace(`${maps}/vsf-estop`, next, TIMEOUT_MS), { ok: false, kind: 'conflict' });
  });

  await t.test('failures have their kind, deed and cause', async (t) => {
    const forbidden = await api.list('/api/v1/secrets', {}, TIMEOUT_MS);
    t.match(forbidden, { ok: false, kind: 'forbidden', status: 403, detail: /^Cannot list secrets: 403 secrets is/ });
    const kinds: readonly [Fault, KubeFailureKind, number | null][] = [
      [statusOf(400, 'BadRequest'), 'refused', null],
      [statusOf(405, 'MethodNotAllowed'), 'refused', null],
      [statusOf(415, 'UnsupportedMediaType'), 'refused', null],
      [statusOf(422, 'Invalid'), 'refused', null],
      [statusOf(404, 'NotFound'), 'not-found', null],
      [statusOf(409, 'Conflict'), 'conflict', null],
      [statusOf(500, 'InternalError'), 'server-error', null],
      [said('<html>bad gateway</html>', 502), 'server-error', null],
      [tooManyRequests('1'), 'too-many-requests', 1_000],
      [tooManyRequests('0'), 'too-many-requests', 0],
      [tooManyRequests('120'), 'too-many-requests', 1_000],
      [tooManyRequests('Wed, 21 Oct 2026 07:28:00 GMT'), 'too-many-requests', 1_000],
      // Not the API server's: a proxy that knows no such host must not read as "the pod is gone".
      [said('404 page not found', 404), 'bad-body', null],
      [said({ error: 'conflict' }, 409), 'bad-body', null],
    ];
    for (const [fault, kind, retryAfterMs] of kinds) {
      proxy.setRule(() => fault);
      const answer = await api.get(`${PODS}/load-1`, TIMEOUT_MS);
      t.match(answer, { ok: false, kind, retryAfterMs, detail: /^Cannot get pods default\/load-1: / }, kind);
    }
    proxy.setRule(() => said({ kind: 'Status', message: `\x1b[31m${'long '.repeat(200)}` }, 500));
    const long = await api.get(`${PODS}/load-1`, TIMEOUT_MS);
    t.equal(!long.ok && long.detail.length, 300);
    t.notMatch(!long.ok && long.detail, '\x1b', 'printable');
  });

  await t.test('every request ends at its deadline', async (t) => {
    for (const fault of [{ kind: 'hang' }, { kind: 'hang-after' }] as const) {
      proxy.setRule(() => fault);
      const startMs = performance.now();
      const answers = await Promise.all([
        api.list('/api/v1/pods', LABELLED, 300),
        api.remove(`${PODS}/load-1`, { graceSeconds: 1, uid: 'x' }, 300),
        api.patch(`${PODS}/load-1`, {}, 300),
        // More than the pool has connections: these wait in vain for one.
        ...Array.from({ length: 40 }, () => api.get(`${PODS}/load-1`, 300)),
      ]);
      t.ok(performance.now() - startMs < 2_000, 'in time');
      t.same(new Set(answers.map((answer) => !answer.ok && answer.kind)), new Set(['timeout']));
    }
    proxy.setRule(() => null);
    t.match(await api.get(`${PODS}/load-1`, TIMEOUT_MS), { ok: true }, 'and the pool is free again');
  });

  await t.test('an answer larger than the bound is no answer', async (t) => {
    proxy.setRule(() => said('x'.repeat(65 * 2 ** 20)));
    const answer = await api.get(`${PODS}/load-1`, TIMEOUT_MS);
    t.match(answer, { ok: false, kind: 'bad-body', detail: /larger than 67108864 bytes/ });
  });

  await t.test('a kept connection that was closed is no failure, except where something is created', async (t) => {
    proxy.setRule(once({ kind: 'drop' }));
    const asked = await during(async () => {
      t.match(await api.get(`${PODS}/load-1`, TIMEOUT_MS), { ok: true });
    });
    t.equal(asked.length, 2);
    proxy.setRule(() => ({ kind: 'drop' }));
    const dropped = await during(async () => {
      t.match(await api.get(`${PODS}/load-1`, TIMEOUT_MS), { ok: false, kind: 'unreachable', status: null });
    });
    t.equal(dropped.length, 2, 'once more, and no more');
    const created = await during(async () => {
      t.match(await api.create('/api/v1/namespaces/vsf-safety/pods', {}, TIMEOUT_MS), { ok: false });
    });
    t.equal(created.length, 1);
  });

  await t.test('all requests share one pool of 16 kept connections', async (t) => {
    const fresh = await startKubeFaultProxy(t, plane);
    const own = await clientOf(t, await plane.kubeconfigFor(plane.serviceToken, fresh));
    for (let index = 0; index < 20; index++) await own.get(`${PODS}/load-${index}`, TIMEOUT_MS);
    // Not always 1: a connection is busy for a moment after its answer.
    t.ok(fresh.connectionsMade <= 2, `${fresh.connectionsMade} one after the other`);
    await Promise.all(Array.from({ length: 200 }, (_, index) => own.get(`${PODS}/load-${index}`, TIMEOUT_MS)));
    t.ok(fresh.connectionsMade <= 16, `${fresh.connectionsMade} in parallel`);
    // A DELETE has a body, which libraries take for a reason to close its connection.
    const gone = (index: number) => own.remove(`${PODS}/none-${index}`, { graceSeconds: 1, uid: 'none' }, TIMEOUT_MS);
    t.match(await gone(0), { ok: false, kind: 'not-found' });
    await Promise.all(Array.from({ length: 200 }, (_, index) => gone(index)));
    t.ok(fresh.connectionsMade <= 16, `${fresh.connectionsMade} with deletes`);
  });

  await t.test('an API server that is away is unreachable, and asked again as if nothing had been', async (t) => {
    const direct = await clientOf(t, await plane.kubeconfigFor(plane.serviceToken));
    t.match(await direct.get(`${PODS}/load-1`, TIMEOUT_MS), { ok: true });
    await plane.apiserver.stop();
    t.match(await direct.get(`${PODS}/load-1`, TIMEOUT_MS), { ok: false, kind: 'unreachable', detail: /ECONNREFUSED/ });
    await plane.apiserver.start();
    t.match(await direct.get(`${PODS}/load-1`, TIMEOUT_MS), { ok: true });
  });

  await t.test('in a pod', async (t) => inPod(t, plane, proxy));

  await t.test('close() breaks off what is under way', async (t) => {
    proxy.setRule(() => ({ kind: 'hang' }));
    const own = await clientOf(t, await plane.kubeconfigFor(plane.serviceToken, proxy));
    const waiting = own.get(`${PODS}/load-1`, 60_000);
    await own.close();
    t.match(await waiting, { ok: false, kind: 'unreachable', detail: /the client is closed/ });
    t.match(await own.get(`${PODS}/load-1`, TIMEOUT_MS), { ok: false, kind: 'unreachable' });
  });
});

/** With a service account's files in a folder, rotated as a kubelet rotates them. */
async function inPod(t: Test, plane: ControlPlane, proxy: KubeFaultProxy): Promise<void> {
  const { hostname, port } = new URL(proxy.url);
  process.env['KUBERNETES_SERVICE_HOST'] = hostname;
  process.env['KUBERNETES_SERVICE_PORT'] = port;
  t.teardown(() => {
    delete process.env['KUBERNETES_SERVICE_HOST'];
    delete process.env['KUBERNETES_SERVICE_PORT'];
  });
  const root = await tempDir(t);
  const file = (name: string): string => join(root, 'var/run/secrets/kubernetes.io/serviceaccount', name);
  const right = await readFile(plane.caFile, 'utf8');
  const setUp = async (token: string, ca: string): Promise<void> => {
    await mkdir(dirname(file('token')), { recursive: true });
    await Promise.all([
      writeFile(file('token'), `${token}\n`),
      writeFile(file('ca.crt'), ca),
      writeFile(file('namespace'), 'gpu-ops\n'),
    ]);
  };

  await t.test('the service account’s files say where, who and which namespace', async (t) => {
    await setUp(plane.serviceToken, right);
    const made = await createKubeClient({ clock: systemClock, kubeconfig: null, root });
    if (!made.ok) throw new Error(made.detail);
    t.equal(made.namespace, 'gpu-ops');
    t.match(await made.api.get(`${PODS}/load-1`, TIMEOUT_MS), { ok: true });
    await made.api.close();
  });

  await t.test('a refused token is read anew once, by all who were refused', async (t) => {
    await setUp('an-old-token', right);
    const clock = new ManualClock();
    const api = await clientOf(t, null, clock, root);
    await clock.advance(1_000);
    t.match(await api.get(`${PODS}/load-1`, TIMEOUT_MS), { ok: false, kind: 'unauthorized', status: 401 });
    await setUp(plane.serviceToken, right);
    await clock.advance(1_000);
    const before = proxy.connectionsMade;
    const answers = await Promise.all(Array.from({ length: 10 }, () => api.get(`${PODS}/load-1`, TIMEOUT_MS)));
    t.ok(answers.every(({ ok }) => ok));
    // A connection is busy for a moment after its answer, so ten may need a few more; a second pool would make twenty.
    const made = proxy.connectionsMade - before;
    t.ok(made <= 16, `${made} connections: over the one pool`);
  });

  /** Asks until `token` is what is shown, 2 s at most, since nobody waits for a reload; what is shown at the end. */
  const shownToBe = async (api: KubeApi, token: string): Promise<string | undefined> => {
    for (let tries = 0; tries < 100; tries++) {
      await api.get(`${PODS}/load-1`, TIMEOUT_MS);
      if (proxy.asked.at(-1)?.authorization === `Bearer ${token}`) break;
      await sleep(20);
    }
    return proxy.asked.at(-1)?.authorization;
  };

  await t.test(
    'files are read anew each minute, before they are refused; broken ones leave the last in use',
    async (t) => {
      await setUp(plane.serviceToken, right);
      const clock = new ManualClock();
      const api = await clientOf(t, null, clock, root);
      await setUp(plane.adminToken, right);
      await clock.advance(59_999);
      await api.get(`${PODS}/load-1`, TIMEOUT_MS);
      t.equal(proxy.asked.at(-1)?.authorization, `Bearer ${plane.serviceToken}`);
      await clock.advance(1);
      t.equal(await shownToBe(api, plane.adminToken), `Bearer ${plane.adminToken}`);

      await setUp(plane.serviceToken, 'half a certif');
      await clock.advance(60_000);
      t.equal(await shownToBe(api, plane.serviceToken), `Bearer ${plane.adminToken}`);
      await setUp(plane.serviceToken, right);
      await clock.advance(60_000);
      t.equal(await shownToBe(api, plane.serviceToken), `Bearer ${plane.serviceToken}`);
    },
  );

  await t.test('a certificate of an unknown authority is refused until the file names it', async (t) => {
    await setUp(plane.serviceToken, rootCertificates[0] ?? '');
    const clock = new ManualClock();
    const api = await clientOf(t, null, clock, root);
    await clock.advance(1_000);
    t.match(await api.get(`${PODS}/load-1`, TIMEOUT_MS), { ok: false, kind: 'unreachable', detail: /certificate/ });
    await setUp(plane.serviceToken, right);
    await clock.advance(1_000);
    t.match(await api.get(`${PODS}/load-1`, TIMEOUT_MS), { ok: true });
  });
}
