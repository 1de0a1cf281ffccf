import { appendFile, mkdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { Audit, type AuditEntry, readAudit } from '../src/audit.ts';
import { systemClock } from '../src/clock.ts';
import { ManualClock } from './support/manual-clock.ts';
import { tempDir } from './support/temp-dir.ts';
import { bearer, OWN_TOKEN, startApp, TOKENS } from './support/test-app.ts';

const entry = (reason: string): AuditEntry => ({ deed: 'reset', outcome: 'done', by: 'token:abc', reason });
const settled = async (audit: Audit): Promise<void> => audit.close();

t.test('Audit writes a line for each entry, readable by nobody else, and goes on after half a line', async (t) => {
  const folder = await tempDir(t);
  const audit = new Audit({ folder, clock: systemClock });
  audit.record(entry('first'));
  await settled(audit);
  const path = join(folder, 'audit.jsonl');
  t.equal((await stat(path)).mode & 0o777, 0o600);
  await appendFile(path, '{"deed":"res');
  const next = new Audit({ folder, clock: systemClock });
  next.record(entry('second'));
  await settled(next);
  const records = await readAudit(folder);
  t.match(records, [entry('first'), entry('second')]);
  t.match(records[0]?.at, /^\d{4}-.*Z$/);
});

t.test('Audit keeps two files within their bound, the newest entries last', async (t) => {
  const folder = await tempDir(t);
  const audit = new Audit({ folder, clock: systemClock, mostBytes: 4_000 });
  for (let index = 0; index < 200; index++) {
    audit.record(entry(`number ${index} ${'x'.repeat(5_000)}`));
    if (index % 3 === 0) await settled(audit);
  }
  await settled(audit);
  for (const name of ['audit.jsonl', 'audit.1.jsonl']) {
    const { size } = await stat(join(folder, name));
    t.ok(size <= 4_000, `${name} has ${size} bytes`);
  }
  const reasons = (await readAudit(folder)).map(({ reason = '' }) => Number(reason.split(' ')[1]));
  t.equal(reasons.at(-1), 199);
  t.same(
    reasons,
    [...reasons].sort((a, b) => a - b),
  );
});

t.test('Audit keeps what the disk does not take, tries again, and says how much was lost', async (t) => {
  const folder = join(await tempDir(t), 'not-there');
  const clock = new ManualClock();
  const audit = new Audit({ folder, clock });
  audit.record(entry('0'));
  while (audit.health().ok) await new Promise((resolve) => setTimeout(resolve, 1));
  t.match(audit.health(), { ok: false, detail: /Cannot write .*audit\.jsonl: ENOENT/, lost: 0 });
  for (let index = 1; index <= 1_200; index++) audit.record(entry(`${index}`));
  t.equal(audit.health().lost, 201);
  await mkdir(folder);
  await clock.advance(10_000);
  while (!audit.health().ok) await new Promise((resolve) => setTimeout(resolve, 1));
  const records = await readAudit(folder);
  t.match(records[0], { deed: 'entries-lost', left: 201 });
  t.equal(records.length, 1_001);
  t.equal(records.at(-1)?.reason, '1200');
});

t.test('Audit follows no link out of its folder', async (t) => {
  const folder = await tempDir(t);
  const elsewhere = join(await tempDir(t), 'victim');
  await writeFile(elsewhere, 'untouched');
  await symlink(elsewhere, join(folder, 'audit.jsonl'));
  const audit = new Audit({ folder, clock: systemClock });
  audit.record(entry('x'));
  await settled(audit);
  t.equal(audit.health().ok, false);
  t.equal(await readFile(elsewhere, 'utf8'), 'untouched');
});

t.test(
  'addAudit() writes down every deed and every refused one: who, from where, why, and what became of it',
  async (t) => {
    const entries: AuditEntry[] = [];
    const { ask, supervisor } = await startApp(t, { audit: { record: (one) => void entries.push(one) } });
    const operator = bearer(OWN_TOKEN);
    const post = (url: string, payload: object, headers: Record<string, string>) =>
      ask({ method: 'POST', url, payload, headers });

    await post('/estop/reset', { tripId: 'x', reason: 'r' }, bearer(TOKENS.viewer));
    await post('/estop/reset', { tripId: 'x', reason: 'r' }, bearer('nobody'));
    await post('/estop', { drill: true, nodes: ['bizon1'] }, operator);
    await post('/estop', { reason: 'smell of burning' }, {});
    await post('/estop', { reason: 'me too' }, {});
    const [tripId = ''] = supervisor.state.trips.keys();
    await post('/estop/reset', { tripId, reason: 'too early' }, operator);
    await post('/estop/restore', { tripId }, operator);
    await post('/nodes/bizon1/forget', { reason: 'sold' }, operator);
    await post('/simulation', { load: 0 }, operator);
    await post('/estop/alertmanager', { alerts: [] }, {});
    await ask({ url: '/status' });

    t.match(entries, [
      {
        deed: 'reset',
        outcome: 'refused',
        role: 'viewer',
        by: /^token:/,
        status: 403,
        code: 'role-insufficient',
        address: '127.0.0.1',
      },
      { deed: 'reset', outcome: 'refused', by: 'nobody known', status: 401, code: 'token-invalid' },
      { deed: 'drill', outcome: 'done', role: 'operator', nodes: ['bizon1'], status: 200 },
      {
        deed: 'stop',
        outcome: 'done',
        by: 'local',
        role: 'workload',
        reason: 'smell of burning',
        tripId,
        joined: false,
        status: 202,
      },
      { deed: 'stop', outcome: 'done', reason: 'me too', tripId, joined: true },
      { deed: 'reset', outcome: 'refused', reason: 'too early', tripId, status: 409, code: 'reset-refused' },
      { deed: 'restore', outcome: 'refused', code: 'no-cluster' },
      { deed: 'forget', outcome: 'refused', nodes: ['bizon1'], reason: 'sold', code: 'forget-refused' },
      { deed: 'simulate', outcome: 'done', detail: '{"load":0}' },
    ]);
    t.equal(entries.length, 9, 'an alert that concerns nobody, and a question, are no deeds');
  },
);

t.test('addAudit() writes down a trip that nobody asked for', async (t) => {
  const entries: AuditEntry[] = [];
  const { ask, pass } = await startApp(t, { audit: { record: (one) => void entries.push(one) } });
  await ask({
    method: 'POST',
    url: '/simulation',
    payload: { faults: [{ kind: 'gpu-temperature', gpu: 0, valueC: 86 }] },
    headers: bearer(OWN_TOKEN),
  });
  for (let tick = 0; tick < 60 && entries.length < 2; tick++) await pass(10_000);
  t.match(entries[1], { deed: 'stop', outcome: 'done', by: 'monitor', reason: /°C/, tripId: String });
});

t.test('addAudit() leaves out the flood of refused requests, counts it, and keeps room for deeds', async (t) => {
  const entries: AuditEntry[] = [];
  const { ask, pass } = await startApp(t, { audit: { record: (one) => void entries.push(one) } });
  for (let count = 0; count < 100; count++) {
    await ask({ method: 'POST', url: '/estop/reset', payload: {}, headers: bearer('nobody') });
  }
  t.equal(entries.length, 30);
  await ask({ method: 'POST', url: '/simulation', payload: { load: 0 }, headers: bearer(OWN_TOKEN) });
  t.equal(entries.at(-1)?.deed, 'simulate');
  await pass(60_000);
  await ask({ method: 'POST', url: '/estop/reset', payload: {}, headers: bearer('nobody') });
  t.match(entries.at(-1), { deed: 'reset', left: 70 });
});
