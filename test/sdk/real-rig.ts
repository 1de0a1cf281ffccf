// The real service over its simulated rig, quick, and settled: the first starts are refused until it has looked twice.
import type { Test } from 'tap';
import { type RealService, startService } from '../support/real-service.ts';

/** Ticks of a second, so that a test need not wait for ten. */
export const FAST = 'interval: 1s\nfastInterval: 1s\n';

export async function startRig(t: Test): Promise<RealService> {
  const service = await startService(t, { config: FAST });
  await service.until(
    'a safe preflight',
    () => service.get('/preflight'),
    ({ status }) => status === 200,
  );
  return service;
}

export const hot = (valueC: number): object => ({ faults: [{ kind: 'gpu-temperature', gpu: 2, valueC }] });

/** Looks again until `isSo`, or throws. */
export async function until(what: string, isSo: () => unknown, withinMs = 20_000): Promise<void> {
  const endMs = performance.now() + withinMs;
  while (!isSo()) {
    if (performance.now() > endMs) throw new Error(`${what} did not come about`);
    await new Promise((done) => setTimeout(done, 20));
  }
}
