// The service is stopped in its tracks (SIGSTOP, a debugger, a hypervisor that pauses it) and goes on later: whatever was
// asked meanwhile waits in its sockets, its timers are late, and what it knew is old.
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { fedNode } from '../support/fed-node.ts';
import { isGroupAlive, startService, startWorkload } from '../support/real-service.ts';

// Real processes on a machine that may be busy.
t.setTimeout(300_000);

const CARD = 'GPU-aaaaaaaa-0000-4000-8000-00000000000a';

t.test(
  'serve after SIGSTOP and SIGCONT looks before it answers, lapses what ran out, and stops what is hot',
  async (t) => {
    const node = await fedNode(t, CARD);
    const nodes = `nodes: [ { name: gpu-1, endpoints: [ "${node.exporter.url}" ], expectGpus: 1 } ]`;
    const config = `source: exporters\ninterval: 1s\nfastInterval: 1s\n${nodes}\n`;
    const service = await startService(t, { config, args: [] });
    const isSafe = (reply: { status: number }): boolean => reply.status === 200;
    await service.until('a safe preflight', () => service.get('/preflight'), isSafe);
    const lease = async (ttlSeconds: number): Promise<{ id: string; pgid: number }> => {
      const id = randomUUID();
      const pgid = startWorkload(t, id).pid ?? 0;
      const asked = { id, workload: `ttl-${ttlSeconds}`, processGroup: { pgid }, ttlSeconds };
      t.equal((await service.post('/leases', asked)).status, 201);
      return { id, pgid };
    };
    const [short, long] = [await lease(5), await lease(300)];
    const renew = (id: string) => service.ask('PUT', `/leases/${id}`, {});
    /** Frozen for so many ms; what is asked after half of it is answered afterwards. When it went on, and the answers. */
    const freeze = async <T>(ms: number, ask: () => Promise<T>): Promise<{ wentOnAtMs: number; answers: T }> => {
      service.child.kill('SIGSTOP');
      await sleep(ms / 2);
      const answers = ask();
      await sleep(ms / 2);
      const wentOnAtMs = Date.now();
      service.child.kill('SIGCONT');
      return { wentOnAtMs, answers: await answers };
    };

    const cool = await freeze(8_000, () => Promise.all([service.get('/preflight'), renew(short.id), renew(long.id)]));
    const [preflight, lapsed, renewed] = cool.answers;
    if (preflight.status === 200) {
      const evaluatedAtMs = Date.parse(preflight.body.evaluatedAt);
      t.ok(evaluatedAtMs >= cool.wentOnAtMs - 5, 'what lets a workload start was judged after it went on');
    }
    t.match(lapsed, { status: 410, body: { outcome: 'lapsed' } }, 'its holder was not heard for its TTL');
    t.match(renewed, { status: 200 }, 'this one had time left');
    await service.until(
      'the lapsed workload is stopped',
      () => service.get('/estop'),
      () => !isGroupAlive(short.pgid),
    );
    await service.until('a start is safe again', () => service.get('/preflight'), isSafe);
    t.match((await service.get('/estop')).body, { state: 'clear' }, 'to stand still trips nothing');
    t.ok(isGroupAlive(long.pgid));

    const hot = await freeze(3_000, () => {
      node.celsius = 86;
      return Promise.all([service.get('/preflight'), service.get('/preflight?nodes=gpu-1')]);
    });
    for (const { status, body } of hot.answers) t.ok(status === 423 || status === 503, `${status}: ${body.reason}`);
    const tripped = await service.until(
      'the trip',
      () => service.get('/estop'),
      ({ body }) => body.state === 'tripped',
      5_000,
    );
    t.match(tripped.body.reason, /86/);
    t.match(await renew(long.id), { status: 410, body: { outcome: 'stopped' } });
    await service.until(
      'the workload is stopped',
      () => service.get('/estop'),
      () => !isGroupAlive(long.pgid),
    );
  },
);
