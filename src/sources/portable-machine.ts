// The machine that this process runs on where it is no Linux: memory and CPU load through systeminformation, so that a
// developer's laptop can run the service. Its CPU temperature is taken where it has one, which is rarely: then it says
// so, and the machine is not safe. Its graphics() is never called: it runs nvidia-smi synchronously without a deadline
// and would stop the whole process with a hung driver. On Linux it is not used at all (local-machine.ts says why).
import { type Clock, TIMED_OUT, withDeadline } from '../clock.ts';
import { EMPTY_REPORT, type RawReading, type SourceReport } from '../domain/reading.ts';
import { joined } from './joined.ts';
import type { Source } from './source.ts';

/** What is asked of systeminformation. */
export interface MachineInformation {
  currentLoad(): Promise<{ currentLoad: number }>;
  mem(): Promise<{ total: number; available: number }>;
  cpuTemperature(): Promise<{ max: number | null }>;
}

export function createPortableMachine(options: {
  readonly node: string;
  readonly clock: Clock;
  /** Loads systeminformation; only where it is needed, since that takes its time. */
  readonly load?: () => Promise<MachineInformation>;
}): Source {
  const { node, clock, load = async () => (await import('systeminformation')).default } = options;
  const id = 'portable-machine';
  const look = joined(async (): Promise<readonly RawReading[]> => {
    const information = await load();
    const [cpu, memory, temperature] = await Promise.all([
      information.currentLoad(),
      information.mem(),
      information.cpuTemperature(),
    ]);
    const hottest = temperature.max;
    return [
      {
        component: 'cpu',
        quantity: 'utilization',
        value: cpu.currentLoad / 100,
        origin: 'systeminformation currentLoad',
      },
      {
        component: 'memory',
        quantity: 'memory',
        // `used` counts the cache; what is available is what the kernel could still give.
        value: 1 - memory.available / memory.total,
        origin: 'systeminformation mem: 1 - available/total',
      },
      {
        component: 'cpu',
        quantity: 'temperature',
        value: hottest,
        ...(hottest === null && { cause: 'no-sensor' as const }),
        origin: 'systeminformation cpuTemperature',
      },
    ];
  });

  return {
    id,
    node,
    carriesHeat: true,
    async read(deadlineMs: number): Promise<SourceReport> {
      const startedAtMs = clock.now().elapsedMs;
      const readings = await withDeadline(clock, deadlineMs - startedAtMs, look()).catch((error: unknown) => error);
      const report = { ...EMPTY_REPORT, source: id, node, startedAtMs, finishedAtMs: clock.now().elapsedMs };
      if (Array.isArray(readings)) {
        const notes = [
          `${process.platform} is read through systeminformation: no GPU, no power, rarely a CPU temperature.`,
        ];
        return { ...report, outcome: { kind: 'answered' }, readings, notes };
      }
      const isLate = readings === TIMED_OUT;
      const detail = isLate
        ? 'systeminformation did not answer in time'
        : `systeminformation broke off: ${String(readings)}`;
      return { ...report, outcome: { kind: 'failed', cause: isLate ? 'timeout' : 'failed', detail } };
    },
    async close(): Promise<void> {},
  };
}
