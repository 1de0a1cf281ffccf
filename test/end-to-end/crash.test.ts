// A crash between any two steps of a trip loses nothing: the next start is tripped, and the stop goes on.
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import t from 'tap';
import {
  freshFolder,
  isGroupAlive,
  ROOT,
  STUBBORN,
  startLeased,
  startService,
  startWorkload,
} from '../support/real-service.ts';

// Real processes on a machine that may be busy.
t.setTimeout(600_000);

const FAST = 'interval: 1s\nfastInterval: 1s\n';
const CRASHING = [process.execPath, join(ROOT, 'test/support/crashing-service.mjs')];

/** A new start on the same folder is tripped, and what the crash left running dies. */
async function goesOn(t: Tap.Test, stateDir: string, pgid: number, reason: RegExp): Promise<void> {
  const again = await startService(t, { config: FAST, stateDir });
  const { body } = await again.get('/estop');
  t.match(body, { state: 'tripped', reason });
  t.equal((await again.get('/preflight')).status, 423);
  await again.until(
    'a dead workload',
    () => again.get('/estop'),
    () => !isGroupAlive(pgid),
    10_000,
  );
  await again.stop('SIGKILL');
}

declare namespace Tap {
  type Test = typeof t;
}

// Steps 2 to 9: the record handed over, then one by one the effects: log lines, the order to stop, messages.
for (const crashAt of [2, 3, 4, 5, 6, 7, 8, 9]) {
  t.test(`a crash at step ${crashAt} of a trip: still tripped after it, and the stop goes on`, async (t) => {
    const stateDir = freshFolder(t);
    const env = { CRASH_AT: String(crashAt) };
    const service = await startService(t, { config: FAST, stateDir, program: CRASHING, env });
    const { pgid } = await startLeased(t, service, STUBBORN);
    const answer = await service.post('/estop', { reason: 'smell of burning' }).then(
      (r) => r.status,
      () => 'cut off',
    );
    t.equal(await service.ended(), 'SIGKILL', `answered ${answer}`);
    t.ok(isGroupAlive(pgid), 'TERM alone does not end this load');
    await goesOn(t as unknown as Tap.Test, stateDir, pgid, /smell of burning/);
  });
}

t.test('kill -9 at any moment after the answer: still tripped, and the stop goes on', async (t) => {
  for (const delayMs of [0, 3, 40, 1_000]) {
    const service = await startService(t, { config: FAST });
    const { pgid } = await startLeased(t, service, STUBBORN);
    t.equal((await service.post('/estop', 'not even JSON')).status, 202);
    await new Promise((done) => setTimeout(done, delayMs));
    await service.stop('SIGKILL');
    await goesOn(t as unknown as Tap.Test, service.stateDir, pgid, /./);
  }
});

t.test('kill -9 under a live lease: the lease lives on for its TTL, and its workload untouched', async (t) => {
  let service = await startService(t, { config: FAST });
  await service.until(
    'a safe preflight',
    () => service.get('/preflight'),
    (r) => r.status === 200,
  );
  const id = randomUUID();
  const pgid = startWorkload(t, id).pid ?? 0;
  t.equal((await service.post('/leases', { id, workload: 'w', processGroup: { pgid }, ttlSeconds: 5 })).status, 201);
  await service.stop('SIGKILL');
  service = await startService(t, { config: FAST, stateDir: service.stateDir });
  await service.until(
    'a renewal',
    () => service.ask('PUT', `/leases/${id}`, {}),
    (r) => r.status === 200,
  );
  t.ok(isGroupAlive(pgid));
  // Its holder falls silent: it lapses after its 5 s, and is stopped alone.
  await service.until(
    'a lapse',
    () => service.ask('PUT', `/leases/${randomUUID()}`, {}),
    () => !isGroupAlive(pgid),
    15_000,
  );
  t.match((await service.ask('PUT', `/leases/${id}`, {})).body, { outcome: 'lapsed' });
  t.match((await service.get('/estop')).body, { state: 'clear' }, 'a lapse trips nothing');
});
