// Whatever happens to the service or to the way there, the workload is over within its lease's TTL and a little.
import t from 'tap';
import { SafeWorkloadContext, UnsafeError, type Verdict } from '../../src/sdk/index.ts';
import { startService } from '../support/real-service.ts';
import { networkTo } from './cut-network.ts';
import { FAST, startRig, until } from './real-rig.ts';

t.setTimeout(300_000);
const TTL_SECONDS = 5;

/** Runs a body that ends only by its signal, does `harm`, and gives what the body was told, and after how long. */
async function harmed(t: Tap, url: string, harm: () => unknown): Promise<{ end: Verdict; tookMs: number }> {
  const critical: Verdict[] = [];
  let isRunning = false;
  const options = { url, ttlSeconds: TTL_SECONDS, wait: true, onCritical: (result: Verdict) => critical.push(result) };
  const running = SafeWorkloadContext.run(options, async (ctx) => {
    isRunning = ctx.safe;
    await new Promise((resolve) => ctx.signal.addEventListener('abort', resolve));
  });
  running.catch(() => undefined);
  await until('a running body', () => isRunning);
  await new Promise((resolve) => setTimeout(resolve, 2_000));
  const startedMs = performance.now();
  await harm();
  const error = await running.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  const tookMs = performance.now() - startedMs;
  t.ok(error instanceof UnsafeError, String(error));
  t.equal(critical.length, 1);
  if (!(error instanceof UnsafeError)) throw error;
  t.same(critical[0], error.result);
  return { end: error.result, tookMs };
}
type Tap = Parameters<typeof startRig>[0];

t.test('SafeWorkloadContext ends its workload within TTL + 5 s of a service that is killed', async (t) => {
  const service = await startRig(t);
  const { end, tookMs } = await harmed(t, service.url, () => service.stop('SIGKILL'));
  t.match(end, { action: 'ABORT', local: 'service-lost', reason: /Nothing was heard from .* for 5 s.*refused/ });
  t.ok(tookMs <= TTL_SECONDS * 1000 + 5_000, `${tookMs} ms`);
  t.comment(`killed: ${Math.round(tookMs)} ms`);
});

t.test('SafeWorkloadContext ends its workload within TTL + 5 s of a service that is frozen', async (t) => {
  const service = await startRig(t);
  const { end, tookMs } = await harmed(t, service.url, () => service.child.kill('SIGSTOP'));
  t.match(end, { action: 'ABORT', local: 'service-lost', reason: /no answer within/ });
  t.ok(tookMs <= TTL_SECONDS * 1000 + 5_000, `${tookMs} ms`);
  t.comment(`frozen: ${Math.round(tookMs)} ms`);
});

t.test('SafeWorkloadContext ends its workload within TTL + 5 s of a network that is cut', async (t) => {
  const service = await startRig(t);
  const network = await networkTo(t, service.url);
  const { end, tookMs } = await harmed(t, network.url, () => network.cut());
  t.match(end, { action: 'ABORT', local: 'service-lost', reason: /no answer within/ });
  t.ok(tookMs <= TTL_SECONDS * 1000 + 5_000, `${tookMs} ms`);
  t.comment(`cut: ${Math.round(tookMs)} ms`);
});

t.test('SafeWorkloadContext runs on through a restart of the service within its TTL', async (t) => {
  const service = await startRig(t);
  const { port } = new URL(service.url);
  await using ctx = await SafeWorkloadContext.start({ url: service.url, ttlSeconds: 20, wait: true });
  t.equal(ctx.safe, true, ctx.result.reason);
  await service.stop('SIGKILL');
  const again = await startService(t, {
    stateDir: service.stateDir,
    config: FAST,
    args: ['--source', 'simulated', '--port', port],
  });
  await new Promise((resolve) => setTimeout(resolve, 8_000));
  t.equal(ctx.safe, true, ctx.result.reason);
  t.match((await again.get('/status')).body.leases, [{ id: ctx.monitor.view?.id }]);
});
