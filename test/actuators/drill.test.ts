import t from 'tap';
import type { Inventory, StopProgress } from '../../src/actuators/actuator.ts';
import { createDrill, type InventoryOf } from '../../src/actuators/drill.ts';
import { createLocalProcesses } from '../../src/actuators/local-processes.ts';
import { systemClock } from '../../src/clock.ts';
import type { LiveWorkload, StopOrder, StopTarget } from '../../src/domain/stop.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { realTable, startGroup } from '../support/marked-group.ts';

const drillOrder = (change: Partial<StopOrder> = {}): StopOrder => ({
  orderId: 'drill-1',
  scope: { kind: 'all' },
  what: 'everything',
  targets: [],
  reason: 'test',
  ...change,
});

const sees = (name: InventoryOf['name'], inventory: Partial<Inventory>): InventoryOf => ({
  name,
  inventory: async () => ({ available: true, detail: 'fine', workloads: [], ...inventory }),
});

/** Runs a drill to its end and gives the one progress that it reports. */
async function drill(actuators: readonly InventoryOf[], order: StopOrder): Promise<StopProgress> {
  const reports: StopProgress[] = [];
  const { signal } = new AbortController();
  await createDrill({ clock: systemClock, actuators }).stop(order, (progress) => reports.push(progress), signal);
  const [only, ...more] = reports;
  if (!only || more.length > 0) throw new Error(`reported ${reports.length} times instead of once`);
  return only;
}

const pod = (node: string, name: string, leaseId?: string): LiveWorkload => ({
  kind: 'pod',
  node,
  name,
  ...(leaseId === undefined ? {} : { leaseId }),
});

t.test('stop() of a drill lists a real process group and lets it run', async (t) => {
  const { group, live } = await startGroup(
    t,
    'lease-1',
    'trap "echo hit; exit" TERM CONT; echo ready; while :; do sleep 1; done',
  );
  const target: StopTarget = { leaseId: 'lease-1', workload: 'train-7', processGroup: group };
  const sent: unknown[] = [];
  const local = createLocalProcesses({
    node: 'bizon1',
    clock: systemClock,
    table: realTable,
    kill: (pid, signal) => void sent.push([pid, signal]),
    targets: () => [target],
  });
  const progress = await drill([local], drillOrder({ targets: [target] }));
  t.match(progress, {
    verified: false,
    entries: [
      {
        actuator: 'drill',
        kind: 'process-group',
        name: `pgid ${group.pgid} (train-7)`,
        node: 'bizon1',
        leaseId: 'lease-1',
        state: 'would-stop',
        how: 'SIGTERM, SIGKILL',
        verified: false,
      },
    ],
  });
  t.equal(progress.entries.length, 1);
  t.ok((progress.entries[0]?.tookMs ?? -1) >= 0);
  await systemClock.sleep(200);
  t.ok((await live()).includes(group.pgid));
  t.same(sent, [], 'not even signal 0');
});

t.test('stop() of a drill only ever looks', async (t) => {
  const used = new Set<string | symbol>();
  const real = {
    ...sees('kubernetes', { workloads: [pod('a', 'vsf/train-0')] }),
    stop: () => t.fail('stopped'),
    close: () => t.fail(),
  };
  const watched = new Proxy(real, {
    get(object, key, receiver) {
      used.add(key);
      return Reflect.get(object, key, receiver);
    },
  });
  await drill([watched], drillOrder());
  t.same([...used].sort(), ['inventory', 'preview']);
});

t.test('stop() of a drill covers the whole scope, or what is named', async (t) => {
  const workloads = [pod('a', 'vsf/a-0'), pod('b', 'vsf/b-0', 'lease-b'), pod('c', 'vsf/c-0', 'lease-c')];
  const kubernetes = sees('kubernetes', { workloads });
  const names = async (change: Partial<StopOrder>): Promise<string[]> =>
    (await drill([kubernetes], drillOrder(change))).entries.map((entry) => entry.name);
  const leaseC: StopTarget = { leaseId: 'lease-c', workload: 'train-c' };
  t.same(await names({}), ['vsf/a-0', 'vsf/b-0', 'vsf/c-0']);
  t.same(await names({ scope: { kind: 'nodes', nodes: ['a'] } }), ['vsf/a-0']);
  t.same(await names({ scope: { kind: 'nodes', nodes: ['a'] }, targets: [leaseC] }), ['vsf/a-0', 'vsf/c-0']);
  t.same(await names({ what: 'leases', targets: [leaseC] }), ['vsf/c-0']);
});

t.test('stop() of a drill lists leases of which nothing is seen, and pods as they would be deleted', async (t) => {
  const kubernetes = sees('kubernetes', { workloads: [pod('a', 'vsf/a-0', 'lease-a')] });
  const targets = [
    { leaseId: 'lease-a', workload: 'train-a' },
    { leaseId: 'lease-z', workload: 'train-z' },
  ];
  const progress = await drill([kubernetes, sees('local-processes', {})], drillOrder({ targets }));
  t.match(progress.entries, [
    { kind: 'pod', name: 'vsf/a-0', node: 'a', state: 'would-stop', how: 'delete, grace 1 s' },
    {
      kind: 'lease',
      name: 'train-z',
      leaseId: 'lease-z',
      state: 'would-stop',
      how: 'revoke',
      detail: /no live process group/,
    },
  ]);
  t.equal(progress.entries.length, 2);
});

t.test('stop() of a drill says which actuator could not be asked', async (t) => {
  const broken = sees('kubernetes', {
    available: false,
    detail: 'Cannot list pods: 403',
    workloads: [pod('a', 'vsf/a-0')],
  });
  const progress = await drill([broken], drillOrder());
  t.match(progress.entries, [
    { kind: 'pod', name: 'vsf/a-0', state: 'would-stop' },
    { kind: 'actuator', name: 'kubernetes', state: 'failed', how: '', detail: 'Cannot list pods: 403' },
  ]);
});

t.test('stop() of a drill waits 3 s for an inventory, with the same deadline for all', async (t) => {
  const clock = new ManualClock();
  const startedMs = clock.now().elapsedMs;
  const deadlines: number[] = [];
  const hanging: InventoryOf = {
    name: 'kubernetes',
    inventory: (deadlineMs) => {
      deadlines.push(deadlineMs - startedMs);
      return new Promise(() => undefined);
    },
  };
  const local = sees('local-processes', {
    workloads: [{ kind: 'process-group', node: 'a', name: '50', leaseId: 'x' }],
  });
  const reports: StopProgress[] = [];
  const { signal } = new AbortController();
  const stopping = createDrill({ clock, actuators: [hanging, local] }).stop(
    drillOrder(),
    (progress) => reports.push(progress),
    signal,
  );
  await clock.advance(2999);
  t.equal(reports.length, 0);
  await clock.advance(1);
  await stopping;
  t.same(deadlines, [3000]);
  t.match(reports[0]?.entries, [
    { kind: 'actuator', name: 'kubernetes', state: 'failed', tookMs: 3000, detail: /no answer within 3000 ms/ },
    { kind: 'process-group', name: 'pgid 50', state: 'would-stop', tookMs: 0 },
  ]);
});

t.test('inventory() of a drill runs nothing', async (t) => {
  const actuator = createDrill({ clock: systemClock, actuators: [] });
  t.match(await actuator.inventory(0), { available: true, workloads: [] });
  await actuator.close();
});
