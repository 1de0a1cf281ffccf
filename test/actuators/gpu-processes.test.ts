import t from 'tap';
import { type AppOnGpu, GpuProcesses } from '../../src/actuators/gpu-processes.ts';
import type { StopTarget } from '../../src/domain/stop.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { PretendMachine } from '../support/pretend-machine.ts';

const LEASE = '0b8f8c1e-6d1f-4a3b-8a0e-2f1f6f0c9d77';
const app = (pid: number): AppOnGpu => ({ pid, gpu: 'GPU-a', memoryMiB: 8, program: 'python3' });
const TARGETS: StopTarget[] = [
  { leaseId: LEASE, workload: 'w', processGroup: { pgid: 50, startTicks: 100 } },
  { leaseId: 'in-a-pod', workload: 'pods' },
];

function watch(machine: PretendMachine, readApps: () => Promise<readonly AppOnGpu[]>) {
  const clock = new ManualClock();
  const { table } = machine;
  const gpuProcesses = new GpuProcesses({ node: 'bizon1', clock, table, readApps, targets: () => TARGETS });
  return { clock, gpuProcesses, look: () => gpuProcesses.look(clock.now().elapsedMs + 1000) };
}

t.test('look() gives each process the lease of its group or its mark, and none where there is none', async (t) => {
  const machine = new PretendMachine();
  machine.add({ pid: 60, pgid: 50, startTicks: 200, mark: null });
  machine.add({ pid: 61, pgid: 61, mark: LEASE.toUpperCase() });
  machine.add({ pid: 62, pgid: 62, mark: null });
  machine.add({ pid: 63, pgid: 63, mark: 'hidden' });
  machine.add({ pid: 64, pgid: 50, startTicks: 99, mark: null });
  const { gpuProcesses, look } = watch(machine, async () => [60, 61, 62, 63, 64, 99].map(app));
  await look();
  t.same(
    gpuProcesses.list.map(({ pid, leaseId }) => [pid, leaseId]),
    [
      [60, LEASE],
      [61, LEASE],
      [62, null],
      [63, null],
      [64, null],
      [99, null],
    ],
  );
  t.match(gpuProcesses.list[0], { node: 'bizon1', program: 'python3', gpu: 'GPU-a', memoryMiB: 8 });
  t.same(machine.sent, [], 'nobody is signalled');
});

t.test('look() ends at its deadline, joins none that hangs, and forgets what is told no more', async (t) => {
  let answer: () => Promise<readonly AppOnGpu[]> = async () => [app(60)];
  let asked = 0;
  const { clock, gpuProcesses, look } = watch(new PretendMachine(), () => {
    asked += 1;
    return answer();
  });
  await look();
  t.equal(gpuProcesses.list.length, 1);
  let letGo: (apps: readonly AppOnGpu[]) => void = () => undefined;
  answer = () => new Promise((resolve) => (letGo = resolve));
  const late = look();
  await clock.advance(1000);
  await late;
  await look();
  t.equal(asked, 2);
  t.equal(gpuProcesses.list.length, 1, 'as it was');
  letGo([]);
  await clock.advance(0);
  answer = async () => [];
  await look();
  t.same(gpuProcesses.list, []);
  answer = () => Promise.reject(new Error('broken'));
  await look();
  t.same(gpuProcesses.list, []);
});
