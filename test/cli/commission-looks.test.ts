// One look at a service each: its status is the app's own over a simulated rig, changed where a test says so.
import t, { type Test } from 'tap';
import { clusterStep, inventoryStep, limitsStep, serviceStep } from '../../src/cli/commission-looks.ts';
import { StepDraft } from '../../src/cli/commission-step.ts';
import { CommissionWatch } from '../../src/cli/commission-watch.ts';
import type { NodeStatus, Status } from '../../src/http/status-view.ts';
import { VERSION } from '../../src/version.ts';
import { startApp } from '../support/test-app.ts';

async function statusOf(t: Test): Promise<Status> {
  const { ask } = await startApp(t);
  return { ...((await ask({ url: '/status' })).json() as Status), version: VERSION };
}

const changed = (status: Status, change: (node: NodeStatus) => Partial<NodeStatus>): Status => ({
  ...status,
  nodes: status.nodes.map((node) => ({ ...node, ...change(node) })),
});

const told = (step: StepDraft, level: 'fail' | 'warning' | 'note') =>
  step.report(0).notes.filter((note) => note.level === level);

t.test('limitsStep() warns of a hard stop at or over a card’s own slowdown, and of nothing below it', async (t) => {
  const status = { ...(await statusOf(t)), conflicts: [] };
  const withSlowdown = (slowdownC: number): StepDraft =>
    limitsStep(
      changed(status, ({ gpus }) => ({ gpus: gpus.slice(0, 1).map((gpu) => ({ ...gpu, ownLimits: { slowdownC } })) })),
    );
  t.match(told(withSlowdown(84), 'warning'), [
    { text: /84 °C, which is taken as its hard stop/, remedy: /warning: 76, hardStop: 81/ },
  ]);
  t.match(told(withSlowdown(85), 'warning'), [
    { text: /85 °C, is at or over the card’s own slowdown at 85 °C: the card/ },
  ]);
  t.equal(withSlowdown(86).verdict, 'pass');
  t.equal(withSlowdown(2).verdict, 'pass', 'a distance is no temperature');
});

t.test('limitsStep() warns of a power cap that a reboot takes away, and tells alike conflicts once', async (t) => {
  const status = await statusOf(t);
  const capped = (enforcedPowerW: number, defaultPowerW: number): StepDraft =>
    limitsStep(
      changed({ ...status, conflicts: [] }, ({ gpus }) => ({
        gpus: gpus.slice(0, 1).map((gpu) => ({ ...gpu, ownLimits: { enforcedPowerW, defaultPowerW } })),
      })),
    );
  t.match(told(capped(240, 300), 'warning'), [
    { text: /capped at 240 W now; by default it may draw 300 W/, remedy: /at every boot/ },
  ]);
  t.equal(capped(240, 299).verdict, 'pass');
  const alike = told(limitsStep(status), 'warning');
  t.equal(status.conflicts.length, 4, 'two of each of the two cards');
  t.match(alike, [{ text: /280 W.*and so for 1 more of bizon1/ }, { text: /83 °C.*and so for 1 more of bizon1/ }]);
});

t.test('serviceStep() fails what does not protect, and warns of what an operator must know', async (t) => {
  const status = await statusOf(t);
  const ready = { ready: true, reasons: [] };
  t.equal(serviceStep({ ...status, caller: { identity: 'x', role: 'operator' } }, 'http://x', ready).verdict, 'pass');
  t.match(told(serviceStep(status, 'http://x', ready), 'warning'), [
    { text: /caller is a workload/, remedy: /--token-file/ },
  ]);
  const late = serviceStep(status, 'http://x', { ready: false, reasons: ['the last evaluation is 40 s old'] });
  t.match(told(late, 'fail'), [{ text: /not ready to protect: the last evaluation is 40 s old/ }]);
  const interlock = { state: 'cooling', nodes: {} } as const;
  t.match(told(serviceStep({ ...status, interlock }, 'x', ready), 'warning'), [{ text: /cooling/ }, {}]);
  const leadership = { mode: 'cluster', leader: false, state: 'unknown', holder: null, detail: 'no answer' } as const;
  t.match(told(serviceStep({ ...status, leadership }, 'x', ready), 'fail'), [
    { text: /not known who leads.*no answer/ },
  ]);
});

t.test('inventoryStep() names total power that is only a lower bound, and what is waived', async (t) => {
  const status = await statusOf(t);
  t.equal(inventoryStep(status).verdict, 'pass');
  const estimated = changed(status, ({ readings }) => ({
    readings: readings.map((one) =>
      one.quantity === 'total-power'
        ? { ...one, estimated: true, origin: 'lower bound from the parts that are measured' }
        : one,
    ),
  }));
  t.match(told(inventoryStep(estimated), 'warning'), [{ text: /Total power of bizon1 is not measured: lower bound/ }]);
  const unprotected = [{ code: 'waived', node: 'bizon1', message: 'cpu-temperature is waived' }] as const;
  t.match(told(inventoryStep({ ...status, unprotected }), 'warning'), [{ text: /Nothing protects this: cpu-temp/ }]);
  t.equal(inventoryStep({ ...status, nodes: [] }).verdict, 'fail');
});

t.test('clusterStep() fails without a right that a stop needs, and has nothing to say without a cluster', async (t) => {
  const status = await statusOf(t);
  t.equal(clusterStep(status).verdict, 'not-applicable');
  const cluster: NonNullable<Status['cluster']> = {
    server: 'https://10.0.0.1',
    namespace: 'vsf-safety',
    namespaces: [],
    latch: { known: true, failure: null },
    denyRule: 'disarmed',
    leases: { known: true, failure: null },
    missingRights: [],
    missingOptionalRights: [],
    failingGroups: [],
    priorValues: 0,
    priorTrips: {},
  };
  const actuators = { kubernetes: { available: true, detail: '' } };
  const stepOf = (change: Partial<typeof cluster>): StepDraft =>
    clusterStep({ ...status, actuators, cluster: { ...cluster, ...change } });
  t.equal(stepOf({}).verdict, 'pass');
  t.match(told(stepOf({ missingRights: ['delete pods'] }), 'fail'), [{ text: /delete pods/, remedy: /helm/ }]);
  t.match(told(stepOf({ latch: { known: true, failure: '403' } }), 'fail'), [{ text: /latch.*403/ }]);
  t.equal(stepOf({ missingOptionalRights: ['list jobs'] }).verdict, 'warning');
  t.equal(stepOf({ denyRule: 'absent' }).verdict, 'warning');
  t.equal(clusterStep({ ...status, actuators: {}, cluster }).verdict, 'fail');
});

t.test('CommissionWatch fails a source that is too slow for its bound, and warns of little room', async (t) => {
  const status = await statusOf(t);
  const intervals = (change: Partial<Status['sources'][number]>): StepDraft => {
    const watch = new CommissionWatch();
    watch.add({ ...status, sources: status.sources.map((source) => ({ ...source, ...change })) });
    return watch.intervals();
  };
  t.equal(intervals({ updatePeriodSeconds: 20 }).verdict, 'pass', '20 s and an interval of 10 s are the bound of 30 s');
  t.match(told(intervals({ updatePeriodSeconds: 20.1 }), 'fail'), [
    { text: /every 20 s only.*30 s.*starts are refused/, remedy: /-c 1000/ },
  ]);
  t.equal(intervals({ oldestReadingAgeSeconds: 20 }).verdict, 'pass');
  t.match(told(intervals({ oldestReadingAgeSeconds: 20.1 }), 'warning'), [{ text: /one missed look more/ }]);
  t.match(told(intervals({ failure: { cause: 'timeout', detail: 'no answer', seconds: 3 } }), 'fail'), [
    { text: /timeout: no answer/ },
  ]);
});

t.test('StepDraft bounds what it takes, the worst first', async (t) => {
  const step = new StepDraft('sensors');
  const many = Array.from({ length: 300 }, (_, index) => `${index}`);
  for (const one of many) step.note(one);
  step.each(many, (one) => step.fail(one.repeat(2_000)), 'fail');
  step.table(
    'Many',
    ['A'],
    many.map((one) => [one.repeat(1_000)]),
  );
  const { notes, tables, verdict } = step.say('x'.repeat(5_000)).report(1_234.5678);
  t.equal(verdict, 'fail');
  t.equal(notes.length, 200);
  t.match(notes[20], { level: 'fail', text: 'and 280 more of this kind' });
  t.ok(notes.every(({ text }) => text.length <= 1_000));
  t.match(tables, [{ title: 'Many (200 of 300)' }]);
  t.ok(tables[0]?.rows.every(([cell = '']) => cell.length <= 300));
});
