// What can be said of the image without a container engine: its Dockerfile by two linters, and its files by running them,
// read-only and as another user, with nothing else of the project there.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { validate } from 'dockerfile-utils';
import t, { type Test } from 'tap';
import { copiesOf, DOCKERFILE, layOutImage } from '../support/image-files.ts';
import { freshFolder, type RealService, ROOT, startService } from '../support/real-service.ts';

t.setTimeout(300_000);

/** dockerfilelint has no types of its own. */
const { run: lint } = createRequire(import.meta.url)('dockerfilelint/lib/index.js') as {
  run(path: string, text: string): readonly { readonly title: string; readonly line: number }[];
};

/** The image's command, on its files. */
function startImage(t: Test, root: string, config = 'source: simulated\ninterval: 1s\n') {
  const program = [process.execPath, join(root, 'app/dist/bundle/main.js'), 'serve'];
  return startService(t, { program, config, args: [], cwd: '/' });
}

t.test('Dockerfile passes both linters', async (t) => {
  t.same(validate(DOCKERFILE), []);
  t.same(lint('.', DOCKERFILE), []);
  // The linters see what they are here for.
  t.ok(validate('FROM node\nEXPOSE x\n').length > 0);
  t.ok(lint('.', 'FROM node:latest\n').length > 0);
});

t.test(
  'Dockerfile builds in a stage of its own, on pinned tags, and leaves without root, shell form or package manager',
  async (t) => {
    const [, , final = ''] = DOCKERFILE.split(/^FROM /m);
    const images = [...DOCKERFILE.matchAll(/^FROM (\S+)/gm)].map(([, image]) => image);
    t.match(images, [/^node:24\.\d+\.\d+-bookworm-slim(@sha256:\w+)?$/, /^debian:12\.\d+-slim(@sha256:\w+)?$/]);
    t.match(final, /^USER \d+:\d+$/m);
    t.notMatch(final, /npm|yarn|apt|curl/);
    t.match(final, /^ENTRYPOINT \[/m);
    t.same(
      copiesOf(DOCKERFILE).map(({ to }) => to),
      [
        '/app/package.json',
        '/app/LICENSE',
        '/app/openapi',
        '/app/node_modules/node-sqlite3-wasm',
        '/app/dist/dashboard',
        '/app/dist/bundle',
      ],
    );
  },
);

t.test('.dockerignore keeps out all that the build does not copy', async (t) => {
  const [first, ...kept] = readFileSync(join(ROOT, '.dockerignore'), 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'));
  t.equal(first, '*');
  t.same(kept.sort(), [
    '!LICENSE',
    '!openapi',
    '!package-lock.json',
    '!package.json',
    '!scripts',
    '!src',
    '!tsconfig*.json',
  ]);
});

t.test('the files of the image serve, show the page and keep a history, with nothing else there', async (t) => {
  const root = layOutImage(t);
  const bytes = Number(execFileSync('du', ['-sb', join(root, 'app')], { encoding: 'utf8' }).split('\t')[0]);
  t.comment(`the image's own files: ${(bytes / 1e6).toFixed(1)} MB`);
  t.ok(bytes < 20e6);
  const service = await startImage(t, root);
  await service.until(
    'a safe preflight',
    () => service.get('/preflight'),
    ({ status }) => status === 200,
  );
  t.match(await service.get('/'), { status: 200, body: /<script[^>]* src="\/dashboard\/main\.js"/ });
  t.match(await service.get('/dashboard/main.js'), { status: 200 });
  t.match(await service.get('/status'), { status: 200, body: { version: /^\d/ } });
  await service.until(
    'a history',
    () => service.get('/history'),
    ({ status, body }) => status === 200 && JSON.stringify(body).length > 200,
  );
  t.match(await service.get('/openapi.json'), { status: 200 });

  // As the image's own check asks, on the port of this test.
  const [, check = ''] = /^HEALTHCHECK [^[]*\\\n\s+CMD (\[.*\])$/m.exec(DOCKERFILE) ?? [];
  const [program = '', ...args] = JSON.parse(check.replace('http://127.0.0.1:8470', service.url)) as string[];
  const healthy = async (): Promise<number | null> => {
    const child = spawn(program, args, { stdio: 'ignore' });
    await once(child, 'exit');
    return child.exitCode;
  };
  t.equal(await healthy(), 0);
  await service.stop();
  t.equal(await healthy(), 1, 'and not when it has ended');
});

const KUBECONFIG = JSON.stringify({
  clusters: [{ name: 'k3s', cluster: { server: 'https://127.0.0.1:9' } }],
  users: [{ name: 'vsf', user: { token: 'none' } }],
  contexts: [{ name: 'k3s', context: { cluster: 'k3s', user: 'vsf' } }],
  'current-context': 'k3s',
});

async function startInCluster(t: Test, root: string): Promise<RealService> {
  const kubeconfig = join(freshFolder(t), 'kubeconfig');
  writeFileSync(kubeconfig, KUBECONFIG);
  return startImage(t, root, `interval: 1s\nwaive: [ cpu-temperature ]\nkubernetes: { kubeconfig: ${kubeconfig} }\n`);
}

/** What the service says of its cluster once it has looked. */
const kubernetesIn = async (service: RealService): Promise<unknown> => {
  const { body } = await service.until(
    'a first look at the cluster',
    () => service.get('/status'),
    ({ body }) => !/has not been/.test(body.actuators.kubernetes?.detail ?? 'has not been'),
  );
  return body.actuators.kubernetes;
};

t.test('the files of the image load the Kubernetes client', async (t) => {
  const service = await startInCluster(t, layOutImage(t));
  // It came as far as asking the server, which does not exist.
  t.match(await kubernetesIn(service), { available: false, detail: /ECONNREFUSED|refused|unreachable/ });
});

t.test(
  'a Kubernetes client that does not load is told, refuses starts, and is never taken for no cluster',
  async (t) => {
    const root = layOutImage(t);
    const bundle = join(root, 'app/dist/bundle');
    // The chunk that is loaded where there is a cluster.
    const loads = /KubeConfig \} = await import\("\.\/(chunk-\w+\.js)"\)/;
    const names = readdirSync(bundle).map((name) => loads.exec(readFileSync(join(bundle, name), 'utf8'))?.[1]);
    const chunk = names.find((name) => name !== undefined);
    if (chunk === undefined) throw new Error('the client has no chunk of its own');
    // As client-node 2.0.1 with its own undici fails on Node 20.
    writeFileSync(join(bundle, chunk), "throw new TypeError('zlib.createZstdDecompress is not a function');\n");
    const service = await startInCluster(t, root);
    const why = /Cannot load the Kubernetes client: .*createZstdDecompress/;
    t.match(await kubernetesIn(service), { available: false, detail: why });
    t.match(await service.get('/readyz'), { status: 503, body: { detail: why } });
    const refused = await service.get('/preflight');
    t.equal(refused.status, 503);
    t.match(JSON.stringify(refused.body), /actuator-unavailable/);
    t.match(JSON.stringify(refused.body), /state-unknown/);
  },
);
