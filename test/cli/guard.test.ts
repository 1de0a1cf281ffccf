import { randomUUID } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { hot, startRig, until } from '../sdk/real-rig.ts';
import { freshFolder, startWorkload } from '../support/real-service.ts';
import { isAlive, start, stateOf } from './run-started.ts';

t.setTimeout(120_000);
/** One for all: the last to use it trips it. */
const service = await startRig(t);

t.test('guard holds a lease, is ready meanwhile, and gives it back on SIGTERM', async (t) => {
  const folder = freshFolder(t);
  const [lease, ready, intensity] = ['lease', 'ready', 'intensity'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ];
  const args = ['guard', '--lease', lease, '--ready-file', ready, '--intensity-file', intensity, '--intensity', '0.5'];
  const guard = start(t, args, { VSF_SAFETY_URL: service.url, POD_NAME: 'burn-1', POD_NAMESPACE: 'load' });
  await until('readiness', () => existsSync(ready));
  const id = readFileSync(lease, 'utf8').trim();
  t.equal(readFileSync(intensity, 'utf8'), '0.5\n');
  t.match((await service.get(`/leases/${id}`)).body, { lease: { workload: 'load/burn-1', ttlSeconds: 120 } });

  guard.child.kill('SIGKILL');
  await guard.ended;
  const again = start(t, args, { VSF_SAFETY_URL: service.url, POD_NAME: 'burn-1', POD_NAMESPACE: 'load' });
  await until('the same lease again', () => again.err().includes(`holds lease ${id}`));
  again.child.kill('SIGTERM');
  t.equal(await again.ended, 0);
  t.notOk(existsSync(ready));
  t.match((await service.get(`/leases/${id}`)).body, { outcome: 'released' });
});

t.test('guard lets go on what a guard of before had paused when it was killed', async (t) => {
  const id = randomUUID();
  const { pid = 0 } = startWorkload(t, id);
  process.kill(pid, 'SIGSTOP');
  await until('the pause', () => stateOf(pid) === 'T');
  const guard = start(t, ['guard'], { VSF_SAFETY_URL: service.url, VSF_LEASE: id });
  await until('its end', () => stateOf(pid) !== 'T');
  guard.child.kill('SIGTERM');
  t.equal(await guard.ended, 0);
});

t.test('guard pauses and stops the processes that bear its lease, and those alone', async (t) => {
  const id = randomUUID();
  const [mine, other] = [startWorkload(t, id), startWorkload(t, randomUUID())];
  const guard = start(t, ['guard'], { VSF_SAFETY_URL: service.url, VSF_LEASE: id });
  await until('the lease', () => guard.err().includes('holds lease'));
  await service.simulate({ faults: [{ kind: 'reading-missing', component: 'cpu', quantity: 'temperature' }] });
  await until('the pause', () => stateOf(mine.pid ?? 0) === 'T');
  await service.simulate({ faults: [] });
  await until('its end', () => stateOf(mine.pid ?? 0) !== 'T');
  await service.simulate(hot(86));
  t.equal(await guard.ended, 76);
  t.match(guard.err(), /stopping for safety: .*86 °C[\s\S]*stopped \d+ processes/);
  t.notOk(isAlive(mine.pid ?? 0));
  t.ok(isAlive(other.pid ?? 0));

  const late = startWorkload(t, id);
  const restarted = start(t, ['guard'], { VSF_SAFETY_URL: service.url, VSF_LEASE: id });
  t.equal(await restarted.ended, 76, 'a dead lease stays dead');
  t.notOk(isAlive(late.pid ?? 0));
});

t.test('guard refuses an id that is none', async (t) => {
  const guard = start(t, ['guard'], { VSF_LEASE: 'train-7' });
  t.equal(await guard.ended, 1);
  t.match(guard.err(), /VSF_LEASE holds "train-7": must be a UUID/);
});
