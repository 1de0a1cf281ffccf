// A holder that falls silent, and a service that dies while it stops the workload: the next start goes on with it. What
// left its process group is stopped all the same.
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { freshFolder, isGroupAlive, type RealService, startService, startWorkload } from '../support/real-service.ts';

// Real processes on a machine that may be busy.
t.setTimeout(120_000);

const FAST = 'interval: 1s\nfastInterval: 1s\n';
const STUBBORN = "trap '' TERM; while :; do sleep 0.2; done";

async function takeLease(service: RealService, id: string, pgid: number, ttlSeconds: number): Promise<void> {
  await service.until(
    'a safe preflight',
    () => service.get('/preflight'),
    (r) => r.status === 200,
  );
  const lease = await service.post('/leases', { id, workload: 'w', processGroup: { pgid }, ttlSeconds });
  if (lease.status !== 201) throw new Error(JSON.stringify(lease.body));
}

t.test(
  'kill -9 in the middle of a lapse: the next start goes on with the stop, and the one after does not',
  async (t) => {
    let service = await startService(t, { config: FAST });
    const id = randomUUID();
    const pgid = startWorkload(t, id, STUBBORN).pid ?? 0;
    await takeLease(service, id, pgid, 5);
    await service.until(
      'a lapse',
      () => service.ask('GET', `/leases/${id}`),
      (r) => r.status === 410,
    );
    await service.stop('SIGKILL');
    t.ok(isGroupAlive(pgid), 'TERM alone does not end this load');
    service = await startService(t, { config: FAST, stateDir: service.stateDir });
    await service.until(
      'a dead workload',
      () => service.get('/healthz'),
      () => !isGroupAlive(pgid),
      30_000,
    );
    t.match((await service.get('/estop')).body, { state: 'clear' }, 'a lapse trips nothing');
    await service.until(
      'a verified stop',
      () => service.get('/healthz'),
      () => service.output.join('').includes('Nothing of \\"w\\" runs any more'),
      30_000,
    );
    t.equal(await service.stop(), 0);
    service = await startService(t, { config: FAST, stateDir: service.stateDir });
    t.match((await service.ask('GET', `/leases/${id}`)).body, { outcome: 'lapsed' });
    await service.stop('SIGKILL');
  },
);

t.test('a workload that left its group by setsid is stopped, and is in the report', async (t) => {
  const service = await startService(t, { config: FAST });
  const id = randomUUID();
  const file = join(freshFolder(t), 'pid');
  const script = `setsid bash -c 'echo $$ > ${file}; trap "" TERM; while :; do sleep 0.2; done' & sleep 600`;
  const pgid = startWorkload(t, id, script).pid ?? 0;
  await takeLease(service, id, pgid, 300);
  const escaped = Number(readFileSync(file, 'utf8'));
  t.teardown(() => {
    try {
      process.kill(escaped, 'SIGKILL');
    } catch {
      // It is gone, as it should be.
    }
  });
  await service.post('/estop', { reason: 'smoke' });
  const { body } = await service.until(
    'a stop of both',
    () => service.get('/estop'),
    (r) => r.body.report?.actuators?.['local-processes']?.verified === true,
  );
  const { entries } = body.report.actuators['local-processes'];
  t.match(
    entries.find(({ name }: { name: string }) => name === `pid ${escaped} (w)`),
    { kind: 'process', state: 'stopped', how: 'SIGTERM, SIGKILL', leaseId: id },
  );
  t.notOk(isGroupAlive(escaped));
});
