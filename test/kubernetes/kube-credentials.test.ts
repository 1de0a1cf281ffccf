import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { systemClock } from '../../src/clock.ts';
import { createKubeClient } from '../../src/kubernetes/kube-client.ts';
import { tempDir } from '../support/temp-dir.ts';

t.test('createKubeClient() says why there is no cluster', async (t) => {
  const folder = await tempDir(t);
  const config = (cluster: object, context = 'test'): string =>
    JSON.stringify({
      clusters: [{ name: 'test', cluster }],
      users: [{ name: 'test', user: { token: 'secret-token' } }],
      contexts: [{ name: 'test', context: { cluster: 'test', user: 'test' } }],
      'current-context': context,
    });
  const refused: readonly [string, string, RegExp][] = [
    ['plain HTTP to another machine', config({ server: 'http://10.0.0.1:8080' }), /plain HTTP/],
    ['a proxy', config({ server: 'https://10.0.0.1', 'proxy-url': 'socks5://10.0.0.2' }), /proxy-url/],
    ['a URL with a password', config({ server: 'https://me:secret@10.0.0.1' }), /password/],
    ['no URL', config({ server: 'here' }), /no http or https URL/],
    ['no such context', config({ server: 'https://10.0.0.1' }, 'other'), /"other" leads to no cluster/],
    ['no file for its authority', config({ server: 'https://10.0.0.1', 'certificate-authority': 'no.crt' }), /no\.crt/],
    [
      'a broken authority',
      config({ server: 'https://10.0.0.1', 'certificate-authority-data': 'aGFsZg==' }),
      /PEM|asn1/i,
    ],
    ['no YAML', '{{{', /Cannot read kubeconfig/],
    ['nothing', '', /Cannot read kubeconfig/],
    ['a list', '[1, 2]', /Cannot read kubeconfig/],
  ];
  for (const [name, text, why] of refused) {
    const kubeconfig = join(folder, 'config');
    await writeFile(kubeconfig, text);
    const made = await createKubeClient({ clock: systemClock, kubeconfig });
    t.match(made, { ok: false, detail: why }, name);
    t.notMatch(!made.ok && made.detail, 'secret', 'and shows no secret');
  }
  t.match(await createKubeClient({ clock: systemClock, kubeconfig: join(folder, 'none') }), {
    ok: false,
    detail: /ENOENT/,
  });
  t.match(await createKubeClient({ clock: systemClock, kubeconfig: null, root: folder }), {
    ok: false,
    detail: /this is no pod/,
  });
  await writeFile(join(folder, 'loopback'), config({ server: 'http://127.0.0.1:9' }));
  const loopback = await createKubeClient({ clock: systemClock, kubeconfig: join(folder, 'loopback') });
  if (!loopback.ok) throw new Error(loopback.detail);
  t.match(await loopback.api.get('/api', 5_000), { ok: false, kind: 'unreachable' }, 'kubectl proxy may be used');
  await loopback.api.close();
});
