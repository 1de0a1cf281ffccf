// The history of the real service: killed in the middle of it, over a damaged file, on a full and a read-only disk. A
// disk costs history, and never safety.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { freshFolder, type RealService, startService } from '../support/real-service.ts';

// Real processes on a machine that may be busy.
t.setTimeout(300_000);

const FAST = 'interval: 1s\nfastInterval: 1s\n';
const FILE = 'history-simulated.sqlite';
const canMount = spawnSync('unshare', ['-m', 'mount', '-t', 'tmpfs', 'none', '/mnt']).status === 0;
const skip = canMount ? false : 'needs root and mount namespaces (unshare -m)';

interface Kept {
  readonly at: number[];
  readonly series: { readonly max: (number | null)[] }[];
  readonly events: { readonly name: string }[];
  readonly store: { readonly state: string };
}

/** The history, once it has so many points. */
async function points(service: RealService, least: number): Promise<Kept> {
  const reply = await service.until(
    `${least} points`,
    () => service.get('/history'),
    ({ status, body }) => status === 200 && body.at.length >= least,
    30_000,
  );
  return reply.body as Kept;
}

const stateIs = async (service: RealService, state: string): Promise<void> => {
  await service.until(
    `a history that is ${state}`,
    () => service.get('/status'),
    ({ body }) => body.history.state === state,
    30_000,
  );
};

/** Watching, judging and stopping go on. */
async function protects(
  t: { equal: typeof import('tap').t.equal; ok: typeof import('tap').t.ok },
  service: RealService,
) {
  t.equal((await service.get('/healthz')).status, 200);
  const { body } = await service.get('/status');
  t.ok(body.evaluation.lastTickAgeSeconds < 5, `the last tick is ${body.evaluation.lastTickAgeSeconds} s old`);
  t.equal((await service.post('/estop', { reason: 'history or not' })).status, 202);
}

t.test('history is there after kill -9, with everything that was answered before', async (t) => {
  const stateDir = freshFolder(t);
  let known: number[] = [];
  for (let start = 0; start < 3; start++) {
    const service = await startService(t, { config: FAST, stateDir });
    const { at, events } = await points(service, known.length + 4);
    const missing = known.filter((one) => !at.includes(one));
    t.same(missing, [], `start ${start}`);
    t.notOk(
      events.some(({ name }) => name === 'history-begun-anew'),
      'nothing was damaged',
    );
    known = at.slice(0, -1);
    await service.stop('SIGKILL');
  }
  t.ok(existsSync(join(stateDir, `${FILE}.lock`)), 'it was killed with its lock in place');
});

t.test('history over a damaged file sets it aside, begins anew, and tells so everywhere', async (t) => {
  const stateDir = freshFolder(t);
  const before = await startService(t, { config: FAST, stateDir });
  await points(before, 3);
  await before.stop();
  const path = join(stateDir, FILE);
  const noise = readFileSync(path);
  noise.fill(0x5a, 4096);
  writeFileSync(path, noise);
  const service = await startService(t, { config: FAST, stateDir });
  const { events } = await points(service, 3);
  t.ok(
    events.some(({ name }) => name === 'history-begun-anew'),
    'an event',
  );
  t.ok(existsSync(`${path}.corrupt`));
  t.match(service.output.join(''), /The history was damaged and begins anew; the old one is .*\.corrupt/, 'the log');
  t.match((await service.get('/metrics')).body, /events_total\{name="history-begun-anew"\} 1/, 'a metric');
  t.match((await service.get('/status')).body.history, { state: 'ok' });
  await protects(t, service);
});

t.test('history on a full disk is lost, said to be, and comes back; what was stays readable', { skip }, async (t) => {
  const disk = freshFolder(t);
  const wrap = ['unshare', '-m', 'sh', '-c', `mount -t tmpfs -o size=8m none ${disk} && exec "$@"`, 'sh'];
  const service = await startService(t, { config: FAST, stateDir: join(disk, 'state'), wrap });
  const inside = (line: string) =>
    spawnSync('nsenter', ['-t', String(service.child.pid), '-m', 'sh', '-c', line], { encoding: 'utf8' });
  const { at } = await points(service, 4);
  inside(`dd if=/dev/zero of=${disk}/filler bs=4k 2>/dev/null`);
  await stateIs(service, 'failing');
  const meanwhile = (await service.get('/history')).body as Kept;
  t.equal(meanwhile.store.state, 'failing');
  t.ok(
    at.every((one) => meanwhile.at.includes(one)),
    'what was is there',
  );
  t.match((await service.get('/metrics')).body, /^vsf_safety_history_ok 0$/m);
  await protects(t, service);
  inside(`rm ${disk}/filler`);
  await stateIs(service, 'ok');
  const { events } = await points(service, meanwhile.at.length + 1);
  t.ok(
    events.some(({ name }) => name === 'history-back'),
    'its return is told',
  );
});

t.test('history on a read-only disk is none, and the service protects all the same', { skip }, async (t) => {
  const disk = freshFolder(t);
  const stateDir = join(disk, 'state');
  const before = await startService(t, { config: FAST, stateDir });
  await points(before, 2);
  await before.stop('SIGKILL');
  const readOnly = `mount --bind ${disk} ${disk} && mount -o remount,ro,bind ${disk} && exec "$@"`;
  const wrap = ['unshare', '-m', 'sh', '-c', readOnly, 'sh'];
  const service = await startService(t, { config: FAST, stateDir, wrap });
  await stateIs(service, 'failing');
  const reply = await service.get('/history');
  t.equal(reply.status, 503);
  t.equal(reply.body.code, 'history-unavailable');
  await protects(t, service);
});
