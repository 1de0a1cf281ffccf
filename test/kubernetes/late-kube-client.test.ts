import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import { systemClock } from '../../src/clock.ts';
import { createLateKubeClient } from '../../src/kubernetes/late-kube-client.ts';
import { tempDir } from '../support/temp-dir.ts';

const kubeconfig = (server: string, user: object = { token: 'secret-token' }): string =>
  JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': 'c',
    contexts: [{ name: 'c', context: { cluster: 'c', user: 'u' } }],
    clusters: [{ name: 'c', cluster: { server } }],
    users: [{ name: 'u', user }],
  });

t.test('createLateKubeClient() asks as soon as its credentials are there, and says why not until then', async (t) => {
  const server = createServer((_, response) => {
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify({ kind: 'ConfigMap', metadata: { name: 'a', uid: 'u' } }));
  }).listen(0, '127.0.0.1');
  t.teardown(() => server.close());
  const file = join(await tempDir(t), 'k3s.yaml');
  const api = createLateKubeClient({ clock: systemClock, kubeconfig: file });
  t.equal(api.server, file);
  const path = '/api/v1/namespaces/x/configmaps/a';
  const failed = await api.get(path, 20_000);
  t.match(failed, { ok: false, kind: 'unreachable', detail: /Cannot read kubeconfig .*k3s\.yaml/ });
  t.notMatch(JSON.stringify(failed), /secret-token/);
  const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  await writeFile(file, kubeconfig(address));
  await systemClock.sleep(1_100);
  t.match(await api.get(path, 20_000), { ok: true, value: { metadata: { name: 'a' } } });
  t.equal(api.server, address);
  await api.close();
  t.match(await api.get(path, 1_000), { ok: false });
});

t.test('createLateKubeClient() keeps nobody longer than was asked for, whatever a login plugin does', async (t) => {
  const file = join(await tempDir(t), 'config');
  const exec = {
    apiVersion: 'client.authentication.k8s.io/v1',
    command: 'sleep',
    args: ['8'],
    interactiveMode: 'Never',
  };
  await writeFile(file, kubeconfig('https://127.0.0.1:9', { exec }));
  const api = createLateKubeClient({ clock: systemClock, kubeconfig: file });
  const started = systemClock.now().elapsedMs;
  t.match(await api.list('/api/v1/nodes', {}, 100), { ok: false, kind: 'unreachable' });
  const tookMs = systemClock.now().elapsedMs - started;
  t.comment(`${Math.round(tookMs)} ms`);
  t.ok(tookMs < 7_000, 'the plugin takes 8 s');
  await api.close();
  t.match(await api.get('/api/v1/nodes/a', 100), { ok: false }, 'closed is closed');
});
