// Secrets are put wherever somebody might put one, and then looked for in everything that the service tells or keeps.
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { WebSocket } from 'ws';
import { freshFolder, ROOT, startService } from '../support/real-service.ts';

const FILES = {
  bearer: 'SECRET-bearer-file-0123456789',
  password: 'SECRET-password-file-0123456789',
  webhook: 'whsec_U0VDUkVULXdlYmhvb2stMDEyMzQ1Njc4OTAxMjM=',
};
const IN_URLS = {
  exporterQuery: 'SECRET-exporter-query',
  prometheusQuery: 'SECRET-prometheus-query',
  listQuery: 'SECRET-list-query',
  webhookPath: 'SECRET-webhook-path',
  webhookQuery: 'SECRET-webhook-query',
};
const SENT = {
  header: 'SECRET-header-token-0123456789',
  basic: 'SECRET-basic-0123456789',
  protocol: 'SECRET-protocol-token-0123456789',
  query: 'SECRET-query-token-0123456789',
  cookie: 'SECRET-cookie-0123456789',
};

/** Where `secrets` stand in `text`. */
const foundIn = (text: string, secrets: readonly string[]): string[] =>
  secrets.filter((secret) => text.includes(secret));

for (const source of ['exporters', 'prometheus'] as const) {
  t.test(`no secret is logged, told or kept (source: ${source})`, async (t) => {
    const folder = freshFolder(t);
    const file = (name: keyof typeof FILES): string => {
      writeFileSync(join(folder, name), `${FILES[name]}\n`, { mode: 0o600 });
      return join(folder, name);
    };
    // Nothing listens on port 1: every failure is told of, which is where an address slips into a message.
    const read =
      source === 'exporters'
        ? `nodes:\n  - { name: n1, endpoints: [ "http://127.0.0.1:1/metrics?token=${IN_URLS.exporterQuery}" ] }
discovery: { allow: [ 10.0.0.0/8 ], http: [ "http://127.0.0.1:1/targets?key=${IN_URLS.listQuery}" ] }`
        : `prometheus: { url: "http://127.0.0.1:1/?token=${IN_URLS.prometheusQuery}" }`;
    const service = await startService(t, {
      config: `source: ${source}
${read}
logLevel: trace
credentials:
  - { hosts: [ "127.0.0.1:1" ], bearerTokenFile: "${file('bearer')}" }
  - { hosts: [ "127.0.0.1:2" ], username: u, passwordFile: "${file('password')}" }
notify:
  - { name: ops, url: "http://127.0.0.1:1/${IN_URLS.webhookPath}?key=${IN_URLS.webhookQuery}", secretFile: "${file('webhook')}" }
`,
      args: [],
    });
    const { token } = service;
    const own = { authorization: `Bearer ${token}` };
    const told: string[] = [];
    const ask = async (
      method: string,
      path: string,
      body?: unknown,
      headers: Record<string, string> = {},
    ): Promise<void> => {
      const reply = await service.ask(method, path, body, headers);
      told.push(JSON.stringify([reply.status, [...reply.headers], reply.body]));
    };

    const socket = new WebSocket(`${service.url.replace('http', 'ws')}/ws`, ['vsf.v1', `bearer.${token}`]);
    t.teardown(() => socket.terminate());
    socket.on('message', (data) => told.push(String(data)));
    await once(socket, 'open');
    const refused = new WebSocket(`${service.url.replace('http', 'ws')}/ws?token=${SENT.query}`, [
      'vsf.v1',
      `bearer.${SENT.protocol}`,
    ]);
    refused.on('error', () => undefined);
    t.teardown(() => refused.terminate());
    await once(refused, 'unexpected-response');

    const paths = [
      '/status',
      '/preflight',
      '/estop',
      '/metrics',
      '/history',
      '/leases/x',
      '/nothing',
      '/',
      '/openapi.json',
    ];
    for (const path of paths) {
      await ask('GET', path, undefined, own);
      await ask('GET', path, undefined, { authorization: `Bearer ${SENT.header}` });
      await ask('GET', path, undefined, {
        authorization: `Basic ${Buffer.from(`u:${SENT.basic}`).toString('base64')}`,
        cookie: SENT.cookie,
      });
      await ask('GET', `${path}?token=${SENT.query}`, undefined, own);
    }
    for (const path of [
      '/preflight',
      '/leases',
      '/estop/reset',
      '/estop/restore',
      '/nodes/n1/forget',
      '/simulation',
      '/estop/alertmanager',
    ]) {
      for (const body of ['{"x":', '{}', '[]', { reason: 'r', tripId: 'x' }]) {
        await ask('POST', path, body, own);
        await ask('POST', path, body, { authorization: `Bearer ${SENT.header}` });
      }
    }
    await ask('POST', '/leases', { workload: 'w', constraints: 'bizon1' }, own);
    await ask('POST', '/estop', { drill: true }, own);
    await ask('POST', '/estop', { reason: 'a stop, so that the webhook is told' }, own);
    // The webhook is tried, and fails; the second evaluation says so, and the history is written.
    await service.until(
      'a failed webhook',
      () => service.ask('GET', '/status', undefined, own),
      ({ body }) => body.notify[0].failed > 0 && body.sources.length + body.discovery.problems.length > 0,
    );
    await ask('GET', '/status', undefined, own);
    await ask('GET', '/status');
    await ask('GET', '/history', undefined, own);
    t.equal(await service.stop(), 0);

    const kept = readdirSync(service.stateDir)
      .filter((name) => name !== 'operator-token')
      .map((name) => [name, readFileSync(join(service.stateDir, name), 'latin1')] as const);
    t.ok(
      kept.some(([name]) => name === 'audit.jsonl') && kept.some(([name]) => /journal/.test(name)),
      'journal and audit are there',
    );
    const secrets = [token, ...Object.values(FILES), ...Object.values(IN_URLS), ...Object.values(SENT)];
    const logs = service.output.join('');
    t.ok(logs.length > 500);
    t.same(foundIn(logs, secrets), [], 'the logs');
    // A problem may tell its own asker of the unknown parameter that it sent; of its value nothing.
    for (const text of told) t.same(foundIn(text, secrets), [], text.slice(0, 300));
    for (const [name, text] of kept) t.same(foundIn(text, secrets), [], name);
  });
}

t.test('a password in an address of the configuration is refused, and not told', async (t) => {
  const file = join(freshFolder(t), 'safety.yaml');
  writeFileSync(
    file,
    `prometheus: { url: "http://u:SECRET-1@p:9090" }
nodes: [ { name: n1, endpoints: [ "http://u:SECRET-2@n1:9100/metrics" ] } ]
discovery: { http: [ "http://u:SECRET-3@cmdb/targets" ] }
notify: [ { url: "https://u:SECRET-4@hooks/x" } ]
auth: { tokens: [ { role: viewer, sha256: "SECRET-5" } ] }
`,
  );
  const { code, text } = await new Promise<{ code: unknown; text: string }>((resolve) =>
    execFile(process.execPath, [join(ROOT, 'dist/bundle/main.js'), 'config', 'check', file], (error, out, err) =>
      resolve({ code: error?.code, text: out + err }),
    ),
  );
  t.equal(code, 1);
  t.match(text, /5 faults/);
  t.same(foundIn(text, ['SECRET-1', 'SECRET-2', 'SECRET-3', 'SECRET-4', 'SECRET-5']), []);
});
