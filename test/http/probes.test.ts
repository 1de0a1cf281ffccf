import t from 'tap';
import { INTERVAL_MS, startApp, type TestApp } from '../support/test-app.ts';

async function stopMonitor({ parts, pass }: TestApp): Promise<void> {
  const stopped = (parts.monitor as unknown as { stop(): Promise<void> }).stop();
  await pass(0);
  await stopped;
}

t.test('GET /healthz lives while the last tick is younger than three intervals', async (t) => {
  const running = await startApp(t);
  const { ask, pass } = running;
  t.same((await ask({ url: '/healthz' })).json(), { alive: true });
  await stopMonitor(running);
  await pass(INTERVAL_MS * 3 - 1);
  t.equal((await ask({ url: '/healthz' })).statusCode, 200);
  await pass(1);
  const stalled = await ask({ url: '/healthz' });
  t.equal(stalled.statusCode, 503);
  t.match(stalled.json(), { code: 'stalled', reasons: [/30 s ago/] });
  await ask({ url: '/preflight' });
  t.equal((await ask({ url: '/healthz' })).statusCode, 503, 'questions that are answered do not make the loop alive');
});

t.test('GET /healthz lives while it starts, for three intervals', async (t) => {
  const running = await startApp(t, { ticks: 0 });
  const { ask, rig, pass, clock } = running;
  t.equal((await ask({ url: '/healthz' })).statusCode, 200);
  t.ok(rig);
  const never = { ...running.supervisor.state, lastTickAtMs: null, startedAtMs: clock.now().elapsedMs };
  const { whyStalled } = await import('../../src/http/routes/probes.ts');
  await pass(INTERVAL_MS * 3 - 1);
  t.equal(whyStalled(never, clock.now()), null);
  await pass(1);
  t.match(whyStalled(never, clock.now()), /no evaluation since the start/);
});

t.test('GET /readyz is ready while the last tick is in time', async (t) => {
  const running = await startApp(t);
  const { ask, pass } = running;
  t.same((await ask({ url: '/readyz' })).json(), { ready: true });
  await stopMonitor(running);
  await pass(INTERVAL_MS * 1.5);
  t.equal((await ask({ url: '/readyz' })).statusCode, 200, 'at 1.5 intervals it is in time');
  await pass(1);
  const late = await ask({ url: '/readyz' });
  t.equal(late.statusCode, 503);
  t.match(late.json(), { code: 'not-ready', reasons: [/at most 15 s/] });
});

t.test(
  'GET /readyz stays ready without a journal, which is told elsewhere: a stop must find this service',
  async (t) => {
    const { ask, disk, supervisor, pass } = await startApp(t);
    const isReady = async (): Promise<boolean> => (await ask({ url: '/readyz' })).statusCode === 200;
    const isTold = async (detail: RegExp, name: string): Promise<void> => {
      t.ok(await isReady(), name);
      t.match((await ask({ url: '/metrics' })).body, /^vsf_safety_journal_ok 0$/m, name);
      const { journal } = (await ask({ url: '/status' })).json();
      t.match(journal, { ok: false }, name);
      t.match(JSON.stringify(journal), detail, name);
    };
    disk.mode = 'hangs';
    await isTold(/overdue/, 'a disk that hangs');
    disk.mode = 'works';
    supervisor.submit({ kind: 'journal-reported', ok: false, detail: 'ENOSPC: no space left' });
    await isTold(/ENOSPC/, 'a disk that is full');
    await pass(INTERVAL_MS);
    const { lastResult } = (await ask({ url: '/status' })).json();
    t.match(lastResult, { safe: false, findings: [{ code: 'journal-unavailable', message: /ENOSPC/ }] });
    const refused = await ask({ url: '/preflight' });
    t.equal(refused.statusCode, 503);
    t.match(refused.json(), { findings: [{ code: 'journal-unavailable' }] });
    t.equal((await ask({ method: 'POST', url: '/estop' })).statusCode, 202);
    t.ok(await isReady());
  },
);

t.test('GET /readyz stays ready while tripped: it protects, and holds its latch', async (t) => {
  const { ask } = await startApp(t);
  await ask({ method: 'POST', url: '/estop' });
  t.equal((await ask({ url: '/readyz' })).statusCode, 200);
});
