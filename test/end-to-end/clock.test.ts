// Somebody sets the clock, or NTP finds it hours off: the real service under libfaketime, whose wall clock is moved while
// it runs. Its monotonic clock goes on, as the kernel's does. The exporters are on another machine, whose clock is right.
import { randomUUID } from 'node:crypto';
import { existsSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { fedNode } from '../support/fed-node.ts';
import { freshFolder, isGroupAlive, type RealService, startService, startWorkload } from '../support/real-service.ts';

// Real processes on a machine that may be busy.
t.setTimeout(300_000);

const CARD = 'GPU-aaaaaaaa-0000-4000-8000-00000000000a';
const library = readdirSync('/usr/lib')
  .map((folder) => join('/usr/lib', folder, 'faketime/libfaketimeMT.so.1'))
  .find((path) => existsSync(path));
const skip = library === undefined && 'needs libfaketime (Debian: faketime)';
const isSafe = (reply: { status: number }): boolean => reply.status === 200;

t.test(
  'serve under a clock that is set forward and back runs on, lapses by its own time, and stops',
  { skip },
  async (t) => {
    const folder = freshFolder(t);
    const offset = join(folder, 'offset');
    const setClock = (seconds: number): void => {
      writeFileSync(`${offset}.next`, `${seconds < 0 ? '' : '+'}${seconds}s\n`);
      renameSync(`${offset}.next`, offset);
    };
    setClock(0);
    const env = {
      LD_PRELOAD: library ?? '',
      FAKETIME_TIMESTAMP_FILE: offset,
      FAKETIME_NO_CACHE: '1',
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
    };
    const node = await fedNode(t, CARD);
    const nodes = `nodes: [ { name: gpu-1, endpoints: [ "${node.exporter.url}" ], expectGpus: 1 } ]`;
    const config = `source: exporters\ninterval: 1s\nfastInterval: 1s\n${nodes}\n`;
    const start = (stateDir?: string): Promise<RealService> =>
      startService(t, { config, args: [], env, ...(stateDir !== undefined && { stateDir }) });
    let service = await start();
    await service.until('a safe preflight', () => service.get('/preflight'), isSafe);
    const lease = async (ttlSeconds: number): Promise<{ id: string; pgid: number }> => {
      const id = randomUUID();
      const pgid = startWorkload(t, id).pid ?? 0;
      const asked = { id, workload: 'w', processGroup: { pgid }, ttlSeconds };
      t.equal((await service.post('/leases', asked)).status, 201);
      return { id, pgid };
    };
    const renew = (id: string) => service.ask('PUT', `/leases/${id}`, {});
    const jumps = (): number => service.output.join('').match(/moved apart by/g)?.length ?? 0;

    const long = await lease(300);
    for (const seconds of [5 * 60, 5 * 3600, 0, -10 * 60, -3 * 3600, -3 * 3600 + 120]) {
      const before = jumps();
      setClock(seconds);
      await service.until(
        'the jump is told',
        () => renew(long.id),
        () => jumps() > before,
      );
      const { body } = await service.until(
        'the lease runs on',
        () => renew(long.id),
        (reply) => isSafe(reply) && reply.body.result.action === 'PROCEED',
      );
      const offS = (Date.parse(body.result.evaluatedAt) - Date.now()) / 1000;
      t.ok(Math.abs(offS - seconds) < 10, `its clock is ${offS} s off, was set to ${seconds}`);
      await service.until('and a workload may start', () => service.get('/preflight'), isSafe);
      t.match((await service.get('/estop')).body, { state: 'clear' });
      t.ok(isGroupAlive(long.pgid));
    }
    t.match(
      service.output.join(''),
      /The clock of gpu-1 is \d+ s (ahead of|behind) ours/,
      'whose clock differs is told',
    );

    const short = await lease(5);
    const heardAtMs = performance.now();
    setClock(-30 * 3600);
    await service.until(
      'a lapse',
      () => service.get('/estop'),
      () => !isGroupAlive(short.pgid),
      20_000,
    );
    const tookS = (performance.now() - heardAtMs) / 1000;
    t.ok(tookS > 4 && tookS < 12, `a clock set back makes no TTL of 5 s longer: ${tookS.toFixed(1)} s`);
    t.match(await renew(short.id), { status: 410, body: { outcome: 'lapsed' } });

    node.celsius = 86;
    setClock(30 * 3600);
    const isTripped = ({ body }: { body: { state: string } }): boolean => body.state === 'tripped';
    await service.until('the trip', () => service.get('/estop'), isTripped, 6_000);
    await service.until(
      'the workload is stopped',
      () => service.get('/estop'),
      () => !isGroupAlive(long.pgid),
    );
    await service.stop('SIGKILL');
    setClock(-300 * 24 * 3600);
    service = await start(service.stateDir);
    t.match((await service.get('/estop')).body, { state: 'tripped', reason: /86/ }, 'a trip of the future is one');
  },
);
