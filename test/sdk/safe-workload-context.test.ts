// The SDK against the real service: refused, warned, cooled, reduced, aborted, given back.
import t from 'tap';
import { HardwareSafetyMonitor, SafeWorkloadContext, UnsafeError, type Verdict } from '../../src/sdk/index.ts';
import { hot, startRig, until } from './real-rig.ts';

t.setTimeout(300_000);

const actions = (results: readonly Verdict[]): string[] => results.map(({ action }) => action);

t.test('SafeWorkloadContext holds a lease for as long as its block lasts', async (t) => {
  const service = await startRig(t);
  const { url } = service;
  let signal: AbortSignal;
  {
    await using ctx = await SafeWorkloadContext.start({ url, workload: 'train-7', intensity: 0.6, ttlSeconds: 10 });
    t.match({ safe: ctx.safe, paused: ctx.paused, cap: ctx.intensityCap }, { safe: true, paused: false, cap: 0.6 });
    t.match(ctx.result, { action: 'PROCEED', simulated: true });
    ctx.throwIfUnsafe();
    await ctx.resumed();
    signal = ctx.signal;
    t.equal(signal.aborted, false);
    t.match((await service.get('/status')).body.leases, [{ workload: 'train-7', intensity: 0.6, ttlSeconds: 10 }]);
  }
  t.same((await service.get('/status')).body.leases, []);
  t.match(signal.reason, { name: 'UnsafeError', result: { local: 'given-back' } }, 'nothing runs on without a lease');
  t.equal(
    await SafeWorkloadContext.run({ url }, ({ intensityCap }) => intensityCap),
    0.8,
    'run gives what its body does',
  );
  await t.rejects(
    SafeWorkloadContext.run({ url }, () => {
      throw new Error('my own');
    }),
    { message: 'my own' },
  );
  t.same((await service.get('/status')).body.leases, []);
});

t.test('SafeWorkloadContext is warned, pauses, and goes on; nothing is lost on who registers late', async (t) => {
  const service = await startRig(t);
  const { url } = service;
  const early: Verdict[] = [];
  let generator: { told: string[] } | null = null;
  await using ctx = await SafeWorkloadContext.start({
    url,
    onWarning: (result) => {
      early.push(result);
      (generator as { told: string[] }).told.push(result.action);
    },
  });
  await service.simulate({ faults: [{ kind: 'gpu-power', gpu: 1, valueW: 260 }] });
  await until('a reduction', () => ctx.intensityCap === 0.4);
  t.equal(ctx.paused, false);
  await ctx.resumed();
  generator = { told: [] };
  await until('the warning, once it can be taken', () => generator?.told.length);
  t.same(generator.told, ['REDUCE_INTENSITY']);
  await service.simulate(hot(81));
  await until('a pause', () => ctx.paused);
  t.equal(ctx.safe, true);
  t.match(ctx.result, { action: 'WAIT_COOLDOWN', waitSeconds: 60 });
  let isResumed = false;
  const resumed = ctx.resumed().then(() => {
    isResumed = true;
  });
  const startedMs = performance.now();
  await service.simulate({ faults: [] });
  await new Promise((resolve) => setTimeout(resolve, 3_000));
  t.equal(isResumed, false, 'a cooldown lasts a minute');
  await resumed;
  const tookMs = performance.now() - startedMs;
  t.ok(tookMs > 50_000 && tookMs < 80_000, `${tookMs} ms`);
  t.match(generator.told, ['REDUCE_INTENSITY', 'WAIT_COOLDOWN']);
  t.match(actions(early).slice(-1), ['WAIT_COOLDOWN']);
});

t.test(
  'SafeWorkloadContext aborts its signal at a hard stop, and run throws whatever its body made of it',
  async (t) => {
    const service = await startRig(t);
    const { url } = service;
    const critical: Verdict[] = [];
    const onCritical = (result: Verdict): unknown => critical.push(result);
    const running = {
      obeys: SafeWorkloadContext.run({ url, onCritical }, async ({ signal }) => {
        await new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
      }),
      returns: SafeWorkloadContext.run({ url }, async ({ signal }) => {
        await new Promise((resolve) => signal.addEventListener('abort', resolve));
        return 'half of it';
      }),
      stumbles: SafeWorkloadContext.run({ url }, async ({ signal }) => {
        await new Promise((resolve) => signal.addEventListener('abort', resolve));
        throw new Error('stumbled');
      }),
      pauses: SafeWorkloadContext.run({ url }, async (ctx) => {
        await until('a pause', () => ctx.paused || !ctx.safe);
        await ctx.resumed();
        await new Promise((resolve) => ctx.signal.addEventListener('abort', resolve));
      }),
      'does not listen': SafeWorkloadContext.run({ url }, () => new Promise(() => undefined)),
    };
    const errors = Object.entries(running).map(
      async ([what, run]) => [what, await run.catch((error: unknown) => error)] as const,
    );
    await service.until(
      'five leases',
      () => service.get('/status'),
      ({ body }) => body.leases.length === 5,
    );
    const startedMs = performance.now();
    await service.simulate(hot(85));
    for (const [what, error] of await Promise.all(errors)) {
      t.match(error, { name: 'UnsafeError', result: { action: 'ABORT', local: 'lease-ended' } }, what);
      t.match(error, { message: /stopped: .*85 °C, hard stop is 85 °C/ }, what);
      if (what === 'stumbles') t.match((error as Error).cause, { message: 'stumbled' });
    }
    t.ok(performance.now() - startedMs < 17_000, 'a body that does not listen is left behind after 5 s');
    t.same(actions(critical), ['ABORT']);

    await using refused = await SafeWorkloadContext.start({ url, wait: true });
    t.match(
      refused.result,
      { safe: false, action: 'ABORT', interlock: { state: 'tripped' } },
      'a trip is not waited for',
    );
  },
);

t.test('SafeWorkloadContext refused at entry is not safe, its signal aborted; required throws', async (t) => {
  const service = await startRig(t);
  const { url } = service;
  await service.simulate(hot(81));
  await using ctx = await SafeWorkloadContext.start({ url });
  t.match({ safe: ctx.safe, paused: ctx.paused, cap: ctx.intensityCap }, { safe: false, paused: false, cap: 0 });
  t.match(ctx.result, { safe: false, action: 'WAIT_COOLDOWN', reason: /81 °C, warning is 80 °C/ });
  t.equal(ctx.signal.aborted, true);
  t.equal((ctx.signal.reason as UnsafeError).result, ctx.result);
  t.throws(() => ctx.throwIfUnsafe(), UnsafeError);
  await t.rejects(ctx.resumed(), UnsafeError);
  t.equal(await SafeWorkloadContext.run({ url }, ({ safe }) => safe), false, 'the body runs all the same');
  await t.rejects(SafeWorkloadContext.start({ url, required: true }), { name: 'UnsafeError' });
  await t.rejects(SafeWorkloadContext.start({ url, nodes: ['nowhere'] }), { code: 'unknown-node' });
  const giveUp = new AbortController();
  const waiting = SafeWorkloadContext.start({ url, wait: true, giveUp: giveUp.signal });
  waiting.catch(() => undefined);
  setTimeout(() => giveUp.abort(new Error('enough')), 500);
  await t.rejects(waiting, { message: 'enough' });
  const monitor = new HardwareSafetyMonitor({ url });
  const late = monitor.takeLease({ wait: true });
  late.catch(() => undefined);
  await new Promise((resolve) => setTimeout(resolve, 500));
  await monitor.stopRuntimeMonitoring();
  await t.rejects(late, { name: 'UnsafeError', result: { local: 'given-back' } });
  t.same((await service.get('/status')).body.leases, []);
});

t.test('SafeWorkloadContext waits for leave to start, as long as the service says when to ask again', async (t) => {
  const service = await startRig(t);
  await service.simulate({ faults: [{ kind: 'gpu-lost', gpu: 3 }] });
  const starting = SafeWorkloadContext.start({ url: service.url, wait: true });
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  await service.simulate({ faults: [] });
  await using ctx = await starting;
  t.equal(ctx.safe, true, ctx.result.reason);
});

t.test('HardwareSafetyMonitor asks, holds, measures and stops', async (t) => {
  const service = await startRig(t);
  const { url } = service;
  const monitor = new HardwareSafetyMonitor({ url, token: service.token });
  t.throws(() => monitor.throwIfUnsafe(), UnsafeError);
  t.match(monitor.result, { local: 'not-started' });
  t.equal(monitor.signal.aborted, true);
  t.match(await monitor.preFlightCheck(), { safe: true, action: 'PROCEED' });
  const [first, second] = await Promise.all([monitor.startRuntimeMonitoring(), monitor.startRuntimeMonitoring()]);
  t.match(first, { action: 'PROCEED' });
  t.equal(first, second);
  t.equal((await service.get('/status')).body.leases.length, 1, 'two starts are one lease');
  const metrics = await monitor.collectMetrics();
  t.equal(metrics.simulated, true);
  t.match(
    metrics.nodes[0]?.readings.find(({ component, quantity }) => component === 'gpu' && quantity === 'temperature'),
    { unit: '°C', value: Number, id: String, ageSeconds: Number },
  );
  const none = new HardwareSafetyMonitor({ url, nodes: ['elsewhere'] });
  t.same((await none.collectMetrics()).nodes, []);
  await monitor.stopRuntimeMonitoring();
  t.equal(monitor.safe, false);
  t.same((await service.get('/status')).body.leases, []);

  const starting = monitor.startRuntimeMonitoring();
  await monitor.stopRuntimeMonitoring();
  await t.rejects(starting, { name: 'UnsafeError' });
  t.equal(monitor.safe, false);
  t.same((await service.get('/status')).body.leases, [], 'what was granted too late is given back');

  await monitor.startRuntimeMonitoring();
  const other = new HardwareSafetyMonitor({ url });
  await other.startRuntimeMonitoring();
  const critical: Verdict[] = [];
  monitor.onCritical((result) => critical.push(result));
  const stopping = monitor.emergencyStop({ reason: 'smoke' });
  t.equal(monitor.safe, false, 'its own workload is over at once');
  t.match(critical, [{ local: 'emergency-stop', reason: 'smoke' }]);
  const { tripId, joined, report } = await stopping;
  t.match({ joined, report }, { joined: false, report: { state: /stopping|verified/ } });
  t.match((await service.get('/estop')).body, { state: 'tripped', tripId, reason: 'smoke' });
  await until('the end of the other', () => other.signal.aborted);
  t.match(other.result, { local: 'lease-ended', reason: /stopped: .*smoke/ });
  t.match(await other.emergencyStop(), { tripId, joined: true });
  await t.rejects(monitor.startRuntimeMonitoring(), { name: 'UnsafeError', result: { action: 'ABORT' } });
  await Promise.all([monitor.stopRuntimeMonitoring(), other.stopRuntimeMonitoring()]);
});

t.test(
  'HardwareSafetyMonitor.emergencyStop() stops with a wrong token, too, and tells when nobody took it',
  async (t) => {
    const service = await startRig(t);
    const monitor = new HardwareSafetyMonitor({ url: service.url, token: 'wrong' });
    await t.rejects(monitor.preFlightCheck(), { code: 'token-invalid', status: 401 });
    t.match(await monitor.emergencyStop(), { tripId: String });
    await service.stop('SIGKILL');
    await t.rejects(monitor.emergencyStop(), { code: 'service-unreachable', message: /refused/ });
    t.match(await monitor.preFlightCheck(), { safe: false, local: 'service-unreachable' });
  },
);

t.test('HardwareSafetyMonitor protects by the stricter limits that it brings', async (t) => {
  const service = await startRig(t);
  await service.simulate(hot(76));
  const result = await new HardwareSafetyMonitor({ url: service.url, constraints: 'bizon1' }).preFlightCheck();
  t.match(result, { safe: false, action: 'WAIT_COOLDOWN', reason: /76 °C, warning is 75 °C/ });
  t.match(await new HardwareSafetyMonitor({ url: service.url }).preFlightCheck(), { safe: true });
  const wrong = new HardwareSafetyMonitor({ url: service.url, constraints: { gpu: { powerW: { warning: 900 } } } });
  await t.rejects(wrong.preFlightCheck(), { code: 'constraints-invalid', message: /powerW.warning/ });
});
