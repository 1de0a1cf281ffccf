// What becomes of workloads when the service ends: after a death of any kind they are stopped, after an end that was asked
// for nothing happens to them.
import { type ChildProcess, execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { createProcessTable, isLive } from '../../src/actuators/process-table.ts';
import { systemClock } from '../../src/clock.ts';
import { openJournal } from '../../src/journal.ts';
import {
  freshFolder,
  isGroupAlive,
  ROOT,
  STUBBORN,
  startLeased,
  startService,
  startWorkload,
} from '../support/real-service.ts';

t.setTimeout(300_000);

const FAST = 'interval: 1s\nfastInterval: 1s\n';
const DIED = { SERVICE_RESULT: 'signal', EXIT_CODE: 'killed', EXIT_STATUS: 'KILL' };

interface Ran {
  readonly code: number;
  readonly err: string;
}

/** As the unit's ExecStopPost. */
function stopOrphans(stateDir: string, env: Record<string, string> = DIED, ...more: string[]): Promise<Ran> {
  const args = ['dist/bundle/main.js', 'stop-orphans', '--state-dir', stateDir, ...more];
  return new Promise((resolve) => {
    execFile(process.execPath, args, { cwd: ROOT, env: { ...process.env, ...env } }, (error, _out, err) =>
      resolve({ code: error === null ? 0 : Number(error.code), err }),
    );
  });
}

/** Whether nothing of a group can run; members that were left without a parent may stay as zombies for a while. */
async function isGone(pgid: number): Promise<boolean> {
  const list = await createProcessTable({ clock: systemClock }).membersOf(pgid);
  return list.ok && !list.members.some(isLive);
}

const journalOf = (stateDir: string): string => readFileSync(join(stateDir, 'journal.jsonl'), 'latin1');

t.test(
  'stop-orphans after a restart touches nothing, and after a death what has a lease and nothing else',
  async (t) => {
    let service = await startService(t, { config: FAST });
    const { stateDir } = service;
    const stubborn = await startLeased(t, service, STUBBORN);
    const released = await startLeased(t, service);
    t.equal((await service.ask('DELETE', `/leases/${released.id}`)).status, 204);
    const marked = startWorkload(t, randomUUID()).pid ?? 0;

    t.match(await stopOrphans(stateDir, DIED, '--simulated'), { code: 0, err: /watches over what runs/ }, 'it lives');
    t.ok(isGroupAlive(stubborn.pgid));

    t.equal(await service.stop(), 0);
    const asked = { SERVICE_RESULT: 'success', EXIT_CODE: 'exited', EXIT_STATUS: '0' };
    t.same(await stopOrphans(stateDir, asked, '--simulated'), { code: 0, err: '' });
    service = await startService(t, { config: FAST, stateDir });
    await service.until(
      'a renewal',
      () => service.ask('PUT', `/leases/${stubborn.id}`, {}),
      ({ status }) => status === 200,
    );
    t.ok(isGroupAlive(stubborn.pgid), 'leases survive a restart');

    await service.stop('SIGKILL');
    const before = journalOf(stateDir);
    t.same(await stopOrphans(stateDir), { code: 0, err: '' }, 'leases of a simulation bind only there');
    t.ok(isGroupAlive(stubborn.pgid));
    const ran = await stopOrphans(stateDir, DIED, '--simulated');
    t.equal(ran.code, 0, ran.err);
    t.match(ran.err, /stopping train-7: the service died \(signal, killed, KILL\), and nobody watches the hardware/);
    t.match(ran.err, /stopped {2}process-group {2}pgid \d+ \(train-7\).*SIGTERM, SIGKILL/);
    t.ok(await isGone(stubborn.pgid));
    t.ok(isGroupAlive(released.pgid), 'it gave its lease back');
    t.ok(isGroupAlive(marked), 'it has a mark, and the journal knows no such lease');
    t.equal(journalOf(stateDir), before, 'the journal is only read');

    const again = await startService(t, { config: FAST, stateDir });
    t.match((await again.get('/estop')).body, { state: 'clear' }, 'and the folder is free for the next start');
  },
);

t.test('stop-orphans goes on with a stop that the service died in', async (t) => {
  const service = await startService(t, { config: FAST });
  const { pgid } = await startLeased(t, service, STUBBORN);
  t.equal((await service.post('/estop')).status, 202);
  await service.stop('SIGKILL');
  t.ok(isGroupAlive(pgid), 'TERM alone does not end it');
  t.match(await stopOrphans(service.stateDir, { SERVICE_RESULT: 'watchdog' }, '--simulated'), { code: 0 });
  t.ok(await isGone(pgid));
  const again = await startService(t, { config: FAST, stateDir: service.stateDir });
  t.match((await again.get('/estop')).body, { state: 'tripped' });
});

/** A journal as a service of this boot, or another, would have left it. */
async function journalWith(t: Test, lease: object): Promise<string> {
  const folder = freshFolder(t);
  const opened = await openJournal({ folder, clock: systemClock, productVersion: '0.0.0', tokenExists: false });
  if (opened.kind !== 'first-start') throw new Error(opened.kind);
  await opened.journal.append({ set: { 'lease/a': lease }, why: 'made for a test' });
  await opened.journal.close();
  return folder;
}

async function leaseOf(workload: ChildProcess, id: string): Promise<Record<string, unknown>> {
  const leader = await createProcessTable({ clock: systemClock }).readProcess(workload.pid ?? 0);
  if (!leader.ok) throw new Error(leader.detail);
  return {
    id,
    workload: 'train-7',
    identity: 'test',
    nodes: null,
    intensity: 0.5,
    ttlMs: 30_000,
    maxDurationMs: null,
    processGroup: { pgid: leader.process.pid, startTicks: leader.process.startTicks },
    bootId: readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim(),
    grantedWallMs: Date.now(),
    looserKeys: [],
    constraints: null,
    reducedUntilMs: null,
    simulated: false,
  };
}

t.test('stop-orphans leaves alone what only looks like the lease’s', async (t) => {
  const id = randomUUID();
  const workload = startWorkload(t, id);
  const lease = await leaseOf(workload, id);
  const { pgid, startTicks } = lease['processGroup'] as { pgid: number; startTicks: number };

  // Side by side: what is refused is looked at for as long as what is stopped.
  const [reused, others, earlier, none] = await Promise.all([
    stopOrphans(await journalWith(t, { ...lease, processGroup: { pgid, startTicks: startTicks - 1 } })),
    stopOrphans(await journalWith(t, { ...lease, id: randomUUID() })),
    stopOrphans(await journalWith(t, { ...lease, bootId: randomUUID() })),
    stopOrphans(freshFolder(t)),
  ]);
  t.match(reused, { code: 0, err: /refused .*the number was reused/ }, 'another start time');
  t.match(others, { code: 1, err: /refused .*another lease.*\n.*SOMETHING MAY STILL RUN/ }, 'another mark');
  t.same(earlier, { code: 0, err: '' }, 'another boot');
  t.same(none, { code: 0, err: '' }, 'no journal, no leases');
  t.ok(isGroupAlive(pgid));

  const damaged = await journalWith(t, lease);
  writeFileSync(join(damaged, 'journal.jsonl'), journalOf(damaged).replace('train-7', 'train-8'));
  t.match(await stopOrphans(damaged), { code: 1, err: /does not fit its checksum.*RUNS ON UNWATCHED/ });
  t.ok(isGroupAlive(pgid), 'a journal that cannot be trusted names nobody');

  const ended = once(workload, 'exit');
  t.match(
    await stopOrphans(await journalWith(t, lease)),
    { code: 0, err: /stopped .*pgid/ },
    'the very one is stopped',
  );
  t.same(await ended, [null, 'SIGTERM']);
});
