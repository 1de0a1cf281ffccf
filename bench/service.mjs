// The real service, dist/bundle/main.js, started as `serve` would be, and what benches ask of it.
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { freshFolder, MAIN, ROOT, start, until } from './measure.mjs';

/**
 * Starts the service and waits until it listens. `config`: lines of YAML, or `file`: a whole file's path, with the `stateDir`
 * that it names. With `probed` its event loop is watched (probe.mjs).
 */
export async function startService({ config = '', file = null, stateDir = join(freshFolder(), 'state'), args = [], probed = false } = {}) {
  const path = file ?? join(dirname(stateDir), 'safety.yaml');
  if (!file) writeFileSync(path, `stateDir: ${stateDir}\n${config}\n`);
  const probe = probed ? ['--import', join(import.meta.dirname, 'probe.mjs')] : [];
  const startedMs = performance.now();
  const program = start(process.execPath, [...probe, MAIN, 'serve', '--port', '0', '--config', path, ...args], {
    cwd: ROOT,
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  const listening = /listening at (http:\/\/[^"\s]+)/i;
  await until('the service', () => listening.test(program.said()), { program, everyMs: 2 });
  const [, url] = listening.exec(program.said());
  const ask = async (method, route, body, token) => {
    const response = await fetch(url + route, {
      method,
      headers: { ...(body && { 'content-type': 'application/json' }), ...(token && { authorization: `Bearer ${token}` }) },
      ...(body && { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    return { status: response.status, body: response.headers.get('content-type')?.includes('json') ? JSON.parse(text) : text };
  };
  return {
    ...program,
    url,
    listeningAfterMs: performance.now() - startedMs,
    startedMs,
    ask,
    get: (route) => ask('GET', route),
    operatorToken: () => readFileSync(join(stateDir, 'operator-token'), 'utf8').trim(),
    /** Until its first evaluation is published. */
    untilEvaluated: (withinMs = 60_000) =>
      until('a first evaluation', async () => (await ask('GET', '/readyz')).status === 200, { program, everyMs: 10, withinMs }),
    /** Until a workload may start. */
    untilSafe: (withinMs = 60_000) =>
      until('a safe preflight', async () => (await ask('GET', '/preflight')).status === 200, { program, everyMs: 50, withinMs }),
    /** The event loop since it was last asked, memory, and what keeps the process alive; see probe.mjs. */
    loop: async (reset = true, collect = false) => {
      const told = once(program.child, 'message');
      program.child.send({ reset, collect });
      return (await told)[0];
    },
    /** A metric without labels, by its name. */
    metric: async (name) => Number(new RegExp(`^${name} (\\S+)`, 'm').exec((await ask('GET', '/metrics')).body)?.[1]),
  };
}
