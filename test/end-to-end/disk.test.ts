// A full and a read-only disk: the service says so, refuses starts, and still stops workloads. The disk is
// a small tmpfs in a mount namespace of its own, since root is stopped by no file mode.
import { spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import t from 'tap';
import { freshFolder, isGroupAlive, type RealService, startService, startWorkload } from '../support/real-service.ts';

// Real processes on a machine that may be busy.
t.setTimeout(600_000);

const FAST = 'interval: 1s\nfastInterval: 1s\n';
const canMount = spawnSync('unshare', ['-m', 'mount', '-t', 'tmpfs', 'none', '/mnt']).status === 0;
/** A file system that its kernel can make read-only under open files, as one does on a disk that fails. */
const canFail =
  spawnSync('sh', [
    '-c',
    'image=$(mktemp) && truncate -s 8M "$image" && mkfs.ext4 -q "$image" && unshare -m mount -o loop "$image" /mnt; code=$?; rm -f "$image"; exit $code',
  ]).status === 0;
const skip = canMount ? false : 'needs root and mount namespaces (unshare -m)';

/** Runs a shell line in the mount namespace of a service. */
function inside(service: RealService, line: string): void {
  const run = spawnSync('nsenter', ['-t', String(service.child.pid), '-m', 'sh', '-c', line], { encoding: 'utf8' });
  if (run.status !== 0) throw new Error(`${line}: ${run.stderr}`);
}

const isSafe = (reply: { readonly status: number }): boolean => reply.status === 200;

/** What must hold on a disk that takes nothing, with a leased workload running. */
async function stillStops(t: Tap.Test, service: RealService, pgid: number, code: RegExp): Promise<void> {
  const status = await service.until(
    'a journal that cannot be written',
    () => service.get('/status'),
    ({ body }) => body.journal.ok === false,
  );
  t.match(JSON.stringify(status.body.journal), code);
  t.match((await service.get('/metrics')).body, /^vsf_safety_journal_ok 0$/m);
  await service.until('ready all the same: a stop must find this service', () => service.get('/readyz'), isSafe);
  const preflight = await service.get('/preflight');
  t.equal(preflight.status, 503);
  t.ok(preflight.body.findings.some((f: { code: string }) => f.code === 'journal-unavailable'));
  t.ok(isGroupAlive(pgid), 'a disk alone stops nobody');
  const startedMs = performance.now();
  const stop = await service.post('/estop', { reason: 'disk or no disk' });
  t.equal(stop.status, 202);
  t.ok(performance.now() - startedMs < 500, 'the disk does not delay the answer');
  await service.until(
    'a dead workload',
    () => service.get('/estop'),
    () => !isGroupAlive(pgid),
  );
  t.equal((await service.get('/preflight')).status, 423);
}

declare namespace Tap {
  type Test = Pick<typeof t, 'match' | 'equal' | 'ok'>;
}

t.test('serve on a full disk says so, refuses starts, and still stops workloads', { skip }, async (t) => {
  const disk = freshFolder(t);
  const wrap = ['unshare', '-m', 'sh', '-c', `mount -t tmpfs -o size=256k none ${disk} && exec "$@"`, 'sh'];
  const service = await startService(t, { config: FAST, stateDir: join(disk, 'state'), wrap });
  await service.until('a safe preflight', () => service.get('/preflight'), isSafe);
  t.equal((await service.get('/readyz')).status, 200);
  const id = randomUUID();
  const pgid = startWorkload(t, id).pid ?? 0;
  t.equal((await service.post('/leases', { id, workload: 'w', processGroup: { pgid } })).status, 201);

  inside(service, `dd if=/dev/zero of=${disk}/filler bs=4k 2>/dev/null; true`);
  // The last page of the file takes a few more records.
  await service.until(
    'a lease that no restart would remember',
    () => service.post('/leases', { workload: 'another' }),
    (r) => r.status === 503,
  );
  await stillStops(t, service, pgid, /ENOSPC/);

  inside(service, `rm ${disk}/filler`);
  await service.until(
    'a journal that works again',
    () => service.get('/status'),
    ({ body }) => body.journal.ok === true,
  );
  const { tripId } = (await service.get('/estop')).body;
  const journal = spawnSync(
    'nsenter',
    ['-t', String(service.child.pid), '-m', 'cat', join(disk, 'state/journal.jsonl')],
    { encoding: 'utf8' },
  );
  t.match(journal.stdout, new RegExp(`trip/${tripId}`), 'and the trip that it missed is on it now');
});

t.test('serve on a read-only disk replays, says so, refuses starts, and still stops workloads', { skip }, async (t) => {
  const disk = freshFolder(t);
  const stateDir = join(disk, 'state');
  const before = await startService(t, { config: FAST, stateDir });
  await before.until('a safe preflight', () => before.get('/preflight'), isSafe);
  const id = randomUUID();
  const pgid = startWorkload(t, id).pid ?? 0;
  t.equal((await before.post('/leases', { id, workload: 'w', processGroup: { pgid }, ttlSeconds: 300 })).status, 201);
  await before.stop('SIGKILL');

  const readOnly = `mount --bind ${disk} ${disk} && mount -o remount,ro,bind ${disk} && exec "$@"`;
  const service = await startService(t, {
    config: FAST,
    stateDir,
    wrap: ['unshare', '-m', 'sh', '-c', readOnly, 'sh'],
  });
  await service.until('the lease of the record', () => service.ask('PUT', `/leases/${id}`, {}), isSafe);
  await stillStops(t, service, pgid, /EROFS/);
});

t.test(
  'serve on a disk that fails and is made read-only under it says so, and still stops workloads',
  { skip: canFail ? false : 'needs root, mount namespaces and loop devices' },
  async (t) => {
    const [disk, images] = [freshFolder(t), freshFolder(t)];
    const image = join(images, 'image');
    const mount = `truncate -s 16M ${image} && mkfs.ext4 -q ${image} && mount -o loop ${image} ${disk} && exec "$@"`;
    const service = await startService(t, {
      config: FAST,
      stateDir: join(disk, 'state'),
      wrap: ['unshare', '-m', 'sh', '-c', mount, 'sh'],
    });
    await service.until('a safe preflight', () => service.get('/preflight'), isSafe);
    const id = randomUUID();
    const pgid = startWorkload(t, id).pid ?? 0;
    t.equal((await service.post('/leases', { id, workload: 'w', processGroup: { pgid } })).status, 201);

    inside(service, `mount -o remount,abort ${disk}`);
    await service.until(
      'a lease that no restart would remember',
      () => service.post('/leases', { workload: 'another' }),
      (r) => r.status === 503,
    );
    await stillStops(t, service, pgid, /EROFS|EIO/);
  },
);
