// The chart with `tls.secretName`: the service speaks TLS by the Secret's files, and whoever calls it is told so.
import { chmodSync, copyFileSync, mkdirSync, renameSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { parse } from 'yaml';
import { loadConfig } from '../../src/config.ts';
import { helm, lacksHelm, type Render, renderChart, runTemplate } from '../support/chart.ts';
import type { AnyObject } from '../support/control-plane.ts';
import { fieldFaults, isKnownKind } from '../support/manifest-fields.ts';
import { brokenRules } from '../support/pod-security.ts';
import { freshFolder, startService } from '../support/real-service.ts';
import { makeCertificates } from '../support/stand-in-exporter.ts';

const SECRET = 'safety.lab-tls';
const OPERATOR = ['monitoring.coreos.com/v1/ServiceMonitor'];
const SERVED: Render = { apiVersions: OPERATOR, values: { tls: { secretName: SECRET }, secrets: ['webhook'] } };

const one = (objects: readonly AnyObject[], kind: string): AnyObject => objects.find((object) => object.kind === kind);
const podOf = (objects: readonly AnyObject[]): AnyObject =>
  (one(objects, 'Deployment') ?? one(objects, 'StatefulSet')).spec.template.spec;
const configOf = (objects: readonly AnyObject[]): string =>
  objects.find(({ data }) => data?.['safety.yaml'])?.data['safety.yaml'];
const probesOf = ({ containers: [container] }: AnyObject): AnyObject[] =>
  ['startupProbe', 'livenessProbe', 'readinessProbe'].map((probe) => container[probe].httpGet);

t.test('tls.secretName', { skip: lacksHelm }, async (t) => {
  const folder = freshFolder(t);
  const plain = await renderChart(folder, { apiVersions: OPERATOR });
  const served = await renderChart(folder, SERVED);

  await t.test('without it everything speaks plain HTTP', (t) => {
    t.notOk('tls' in parse(configOf(plain)).listen);
    for (const probe of probesOf(podOf(plain))) t.equal(probe.scheme, 'HTTP');
    const [endpoint] = one(plain, 'ServiceMonitor').spec.endpoints;
    t.equal(endpoint.scheme, 'http');
    t.notOk('tlsConfig' in endpoint);
    t.notMatch(JSON.stringify(plain), /vsf-safety-tls|https:\/\/localhost|appProtocol/);
    t.end();
  });

  await t.test(
    'values of a chart that did not know tls render, as with --reuse-values, and tls can be set then',
    async (t) => {
      const reused = await renderChart(folder, { apiVersions: OPERATOR, values: { tls: null } });
      t.same(reused, plain);
      const values = { ...SERVED.values, tls: { secretName: SECRET, caKey: null } };
      t.same(await renderChart(folder, { ...SERVED, values }), served, 'the authority is where it is by default');
    },
  );

  await t.test('the Secret is mounted as a folder, read-only, and only the configuration’s files are taken', (t) => {
    const { containers, volumes } = podOf(served);
    const volume = volumes.find(({ name }: AnyObject) => name === 'tls');
    t.equal(volume.secret.secretName, SECRET);
    const mount = containers[0].volumeMounts.find(({ name }: AnyObject) => name === 'tls');
    // With a subPath the kubelet would never replace the files.
    t.same(mount, { name: 'tls', mountPath: '/run/secrets/vsf-safety-tls', readOnly: true });
    t.same(parse(configOf(served)).listen.tls, {
      certFile: `${mount.mountPath}/tls.crt`,
      keyFile: `${mount.mountPath}/tls.key`,
    });
    t.same(brokenRules(podOf(served)), [], 'pod security standard restricted');
    for (const object of served.filter(isKnownKind)) t.same(fieldFaults(object), [], object.kind);
    t.end();
  });

  await t.test('probes, ServiceMonitor, Service and commands within the pod follow', async (t) => {
    for (const probe of probesOf(podOf(served))) t.equal(probe.scheme, 'HTTPS');
    t.equal(one(served, 'Service').spec.ports[0].appProtocol, 'https');
    const ca = { secret: { name: SECRET, key: 'ca.crt' } };
    t.match(one(served, 'ServiceMonitor').spec.endpoints, [
      { scheme: 'https', tlsConfig: { serverName: 'vsf-safety.vsf-safety.svc', ca } },
    ]);
    const environment = (objects: AnyObject[]): Record<string, string> =>
      Object.fromEntries(podOf(objects).containers[0].env.map(({ name, value }: AnyObject) => [name, value]));
    t.match(environment(served), {
      VSF_SAFETY_URL: 'https://localhost:8470',
      VSF_SAFETY_CA_FILE: '/run/secrets/vsf-safety-tls/ca.crt',
    });
    const env = { ...environment(served), VSF_SAFETY_LISTEN_HOSTS: '10.42.0.7' };
    const loaded = loadConfig({ text: configOf(served), file: 'x', env, hostname: 'pod', homeDir: '/' });
    t.match(loaded, { ok: true, config: { listen: { tls: { certFile: String, keyFile: String } } } });
    t.same(loaded.ok && loaded.warnings, [], 'and nothing is warned of');

    const known = await renderChart(folder, {
      apiVersions: OPERATOR,
      values: { tls: { secretName: SECRET, caKey: '' }, persistence: { enabled: true } },
    });
    t.same(one(known, 'ServiceMonitor').spec.endpoints[0].tlsConfig, { serverName: 'vsf-safety.vsf-safety.svc' });
    t.notOk('VSF_SAFETY_CA_FILE' in environment(known));
    const own = { insecureSkipVerify: true };
    const monitoring = { serviceMonitor: { tlsConfig: own } };
    const told = await renderChart(folder, { ...SERVED, values: { tls: { secretName: SECRET }, monitoring } });
    t.same(one(told, 'ServiceMonitor').spec.endpoints[0].tlsConfig, own);
  });

  await t.test('a service takes the rendered configuration, and a Secret that the kubelet replaces', async (t) => {
    const place = freshFolder(t);
    /** As a kubelet mounts a Secret: files with its mode, that lead through one link, which is swapped. */
    const mount = async (version: string): Promise<void> => {
      const made = freshFolder(t);
      const { ca, cert, key } = await makeCertificates(made, 'DNS:localhost,IP:127.0.0.1');
      mkdirSync(join(place, version));
      for (const [name, file] of Object.entries({ 'ca.crt': ca, 'tls.crt': cert, 'tls.key': key })) {
        copyFileSync(file, join(place, version, name));
        chmodSync(join(place, version, name), 0o440);
      }
      symlinkSync(version, join(place, '..data_tmp'));
      renameSync(join(place, '..data_tmp'), join(place, '..data'));
    };
    await mount('..2026_01_01');
    for (const name of ['ca.crt', 'tls.crt', 'tls.key']) symlinkSync(`..data/${name}`, join(place, name));
    const { listen } = parse(configOf(served).replaceAll('/run/secrets/vsf-safety-tls', place));
    const config = JSON.stringify({ listen: { tls: listen.tls }, source: 'simulated' });
    const service = await startService(t, { config, args: [] });
    t.match(service.url, /^https:/);
    await mount('..2026_01_02');
    service.child.kill('SIGHUP');
    const endMs = performance.now() + 15_000;
    while (!/Renewed: certificate/.test(service.output.join('')) && performance.now() < endMs) {
      await new Promise((done) => setTimeout(done, 50));
    }
    t.match(service.output.join(''), /Renewed: certificate/);
  });

  await t.test('the schema refuses names that are none, and listen.tls beside it', async (t) => {
    const refusals: readonly [values: object, words: RegExp][] = [
      [{ tls: { secretName: 'TLS' } }, /at '\/tls\/secretName': 'TLS' does not match pattern/],
      [{ tls: { caKey: 'a/b' } }, /at '\/tls\/caKey'/],
      [{ tls: { secret: 'x' } }, /at '\/tls': additional properties 'secret' not allowed/],
      [{ config: { listen: { tls: { certFile: '/x' } } } }, /at '\/config\/listen': additional properties 'tls'/],
    ];
    for (const [values, words] of refusals) {
      const { code, err } = await runTemplate(folder, { values });
      t.not(code, 0);
      t.match(err, words);
    }
  });

  await t.test('NOTES.txt says https, and how its authority is named', async (t) => {
    const args = ['install', 'vsf-safety', 'helm', '--namespace=vsf-safety', '--dry-run=client'];
    const { code, out, err } = await helm([...args, `--set=tls.secretName=${SECRET}`]);
    t.equal(code, 0, err);
    const notes = out.slice(out.indexOf('NOTES:'));
    t.match(notes, /https:\/\/127\.0\.0\.1:8470\/ after/);
    t.match(notes, /ask at https:\/\/vsf-safety\.vsf-safety:8470[\s\S]*VSF_SAFETY_CA_FILE/);
    t.notMatch(notes, /http:\/\//);
  });
});
