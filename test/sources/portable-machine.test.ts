import t from 'tap';
import { systemClock } from '../../src/clock.ts';
import { createPortableMachine, type MachineInformation } from '../../src/sources/portable-machine.ts';

const inMs = (ms: number): number => systemClock.now().elapsedMs + ms;

t.test('createPortableMachine() reads this machine through the real systeminformation', async (t) => {
  const source = createPortableMachine({ node: 'n', clock: systemClock });
  const report = await source.read(inMs(8_000));
  t.same(report.outcome, { kind: 'answered' });
  const valueFor = (component: string, quantity: string): unknown =>
    report.readings.find((reading) => reading.component === component && reading.quantity === quantity)?.value;
  for (const value of [valueFor('cpu', 'utilization'), valueFor('memory', 'memory')]) {
    t.ok(typeof value === 'number' && value >= 0 && value <= 1, `a share: ${value}`);
  }
  const temperature = valueFor('cpu', 'temperature');
  t.ok(temperature === null || typeof temperature === 'number');
});

t.test('createPortableMachine() has one look under way, and ends at its deadline', async (t) => {
  let calls = 0;
  const hung: MachineInformation = {
    currentLoad: () => {
      calls += 1;
      return new Promise(() => undefined);
    },
    mem: async () => ({ total: 2, available: 1 }),
    cpuTemperature: async () => ({ max: null }),
  };
  const source = createPortableMachine({ node: 'n', clock: systemClock, load: async () => hung });
  for (let round = 0; round < 2; round++) {
    t.match(await source.read(inMs(20)), { outcome: { kind: 'failed', cause: 'timeout' } });
  }
  t.equal(calls, 1);
});

t.test('createPortableMachine() reports a library that breaks off', async (t) => {
  const load = async (): Promise<MachineInformation> => {
    throw new Error('not for this platform');
  };
  const source = createPortableMachine({ node: 'n', clock: systemClock, load });
  t.match(await source.read(inMs(1_000)), { outcome: { kind: 'failed', detail: /not for this platform/ } });
});
