// The service inside the workload's own process: same words, same files, no port.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { HardwareSafetyMonitor, SafeWorkloadContext, type Verdict } from '../../src/sdk/index.ts';
import { freshFolder, startService } from '../support/real-service.ts';
import { until } from './real-rig.ts';

t.setTimeout(300_000);

const configIn = (stateDir: string): Record<string, unknown> => ({
  source: 'simulated',
  stateDir,
  interval: '1s',
  fastInterval: '1s',
  logLevel: 'fatal',
});

t.test('SafeWorkloadContext embedded holds a lease of the monitor in its own process', async (t) => {
  const stateDir = freshFolder(t);
  const config = configIn(stateDir);
  const critical: Verdict[] = [];
  {
    await using ctx = await SafeWorkloadContext.start({
      embedded: true,
      config,
      wait: true,
      ttlSeconds: 5,
      onCritical: (result) => critical.push(result),
    });
    t.equal(ctx.safe, true, ctx.result.reason);
    t.match(ctx.result, { action: 'PROCEED', simulated: true });
    t.ok((await ctx.monitor.collectMetrics()).nodes[0]?.readings.length);
    await new Promise((resolve) => setTimeout(resolve, 7_000));
    t.equal(ctx.safe, true, 'it is renewed');

    // Another in this process shares the monitor, and its stop is heard at once.
    await using other = new HardwareSafetyMonitor({ embedded: true, config });
    t.match(await other.preFlightCheck(), { safe: true });
    const startedMs = performance.now();
    const { tripId } = await other.emergencyStop({ reason: 'smoke' });
    await until('the abort', () => ctx.signal.aborted);
    t.ok(performance.now() - startedMs < 500, 'without waiting for the next renewal');
    t.match(critical, [{ action: 'ABORT', local: 'lease-ended', reason: /stopped: .*smoke/ }]);
    t.type(tripId, 'string');
  }
  t.ok(existsSync(join(stateDir, 'operator-token')), 'it keeps what a service keeps');

  // The latch is the service's, too, and the folder is free again.
  const service = await startService(t, { stateDir });
  t.match((await service.get('/estop')).body, { state: 'tripped', reason: 'smoke' });
  const held = new HardwareSafetyMonitor({ embedded: true, config });
  await t.rejects(held.preFlightCheck(), { code: 'embedded-refused', message: /holds it/ });
  await service.stop();
  t.match(await held.preFlightCheck(), { safe: false, action: 'ABORT' }, 'a refused one may be asked again');
  await held.stopRuntimeMonitoring();
  t.match(await held.preFlightCheck(), { action: 'ABORT' }, 'and begins anew after it was stopped');
  await held.stopRuntimeMonitoring();
});

t.test('HardwareSafetyMonitor embedded refuses a wrong configuration with every fault', async (t) => {
  const config = { ...configIn(freshFolder(t)), interval: '1ms', colour: 'red' };
  const monitor = new HardwareSafetyMonitor({ embedded: true, config });
  await t.rejects(monitor.preFlightCheck(), { code: 'embedded-refused', message: /interval.*|colour/s });
  const file = new HardwareSafetyMonitor({ embedded: true, config: '/nonexistent/safety.yaml' });
  await t.rejects(file.preFlightCheck(), { code: 'embedded-refused', message: /does not exist/ });
});
