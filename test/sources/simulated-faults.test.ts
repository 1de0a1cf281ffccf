// Which changes of the simulation are taken, and how a refusal reads.
import { Ajv2020 } from 'ajv/dist/2020.js';
import t from 'tap';
import { createSimulatedRig, type SimulatedRig, type SimulatedState } from '../../src/sources/simulated.ts';
import {
  FAULT_SCHEMAS,
  type Fault,
  type SimulationChange,
  SimulationChangeSchema,
} from '../../src/sources/simulated-faults.ts';
import { ManualClock } from '../support/manual-clock.ts';

const GPU_0 = 'GPU-5f5f0000-0000-4000-8000-000000000000';

function applied(rig: SimulatedRig, change: SimulationChange): SimulatedState {
  const answer = rig.apply(change);
  if (!answer.ok) throw new Error(answer.problem);
  return answer.state;
}

const newRig = (): SimulatedRig => createSimulatedRig({ node: 'ws1', clock: new ManualClock() });

t.test('apply() keeps what a change leaves out', async (t) => {
  const rig = newRig();
  applied(rig, { load: 0.5, ambientC: 25, faults: [{ kind: 'frozen' }] });
  t.match(applied(rig, {}), { load: 0.5, ambientC: 25, faults: [{ kind: 'frozen' }] });
  t.match(applied(rig, { load: 0.6 }), { load: 0.6, ambientC: 25, faults: [{ kind: 'frozen' }] });
  t.strictSame(applied(rig, { faults: [] }).faults, []);
});

t.test('apply() keeps its own copy of a change', async (t) => {
  const rig = newRig();
  const fault = { kind: 'cpu-temperature' as const, valueC: 70 };
  applied(rig, { faults: [fault] });
  fault.valueC = 9999;
  t.match(rig.describe().faults, [{ valueC: 70 }]);
});

t.test('apply() refuses what it does not know or cannot do, names it, and changes nothing', async (t) => {
  const rig = newRig();
  applied(rig, { load: 0.5, faults: [{ kind: 'memory', ratio: 0.7 }] });
  const before = rig.describe();
  const one = (fault: unknown): unknown => ({ load: 0.1, faults: [{ kind: 'frozen' }, fault] });
  const refusals: [unknown, string | RegExp][] = [
    [null, /^Cannot change the simulation: null must be an object with the fields load, ambientC, faults$/],
    [[], /^Cannot change the simulation: \(a list of 0\) must be an object/],
    [{ load: 1.01 }, 'Cannot change the simulation: load 1.01 must be 0 to 1'],
    [{ load: -0.1 }, 'Cannot change the simulation: load -0.1 must be 0 to 1'],
    [{ load: Number.NaN }, 'Cannot change the simulation: load NaN must be 0 to 1'],
    [{ load: '0.5' }, 'Cannot change the simulation: load "0.5" must be 0 to 1'],
    [{ ambientC: 51 }, 'Cannot change the simulation: ambientC 51 must be 0 to 50 °C'],
    [{ fault: [] }, 'Cannot change the simulation: field "fault" must be one of load, ambientC, faults'],
    [{ faults: {} }, 'Cannot change the simulation: faults (an object) must be a list of at most 100 faults'],
    [
      { faults: Array.from({ length: 101 }, () => ({ kind: 'frozen' })) },
      'Cannot change the simulation: faults (a list of 101) must be a list of at most 100 faults',
    ],
    [
      one({ kind: 'gpu-temprature', gpu: 0, valueC: 90 }),
      /fault 1: kind "gpu-temprature" must be one of gpu-temperature, /,
    ],
    [one({ kind: 'toString' }), /^Cannot apply fault 1: kind "toString"/],
    [one({}), /^Cannot apply fault 1: kind \(missing\)/],
    [one(null), /^Cannot apply fault 1: kind \(missing\)/],
    [one('frozen'), /^Cannot apply fault 1: kind \(missing\)/],
    [one({ kind: 'frozen', gpu: 0 }), /^Cannot apply fault 1 \(frozen\): field "gpu" must be one of kind$/],
    [
      one({ kind: 'cpu-temperature', valueC: 130 }),
      'Cannot apply fault 1 (cpu-temperature): valueC 130 must be over 0 to 125 °C',
    ],
    [one({ kind: 'cpu-temperature', valueC: 0 }), /valueC 0 must be over 0 to 125 °C$/],
    [one({ kind: 'cpu-temperature' }), /valueC \(missing\) must be over 0 to 125 °C$/],
    [one({ kind: 'gpu-power', gpu: 0, valueW: 1501 }), /valueW 1501 must be over 0 to 1500 W$/],
    [one({ kind: 'total-power', valueW: 20_001 }), /valueW 20001 must be over 0 to 20000 W$/],
    [one({ kind: 'memory', ratio: 1.1 }), /ratio 1.1 must be 0 to 1$/],
    [
      one({ kind: 'gpu-lost', gpu: 4 }),
      /\(gpu-lost\): gpu 4 must be one of the 4 GPUs of this rig, by index from 0 or by id$/,
    ],
    [one({ kind: 'gpu-lost', gpu: -1 }), /gpu -1 must be a GPU's index, from 0, or its id$/],
    [one({ kind: 'gpu-lost', gpu: 0.5 }), /gpu 0.5 must be a GPU's index/],
    [one({ kind: 'gpu-lost', gpu: 'GPU-none' }), /gpu "GPU-none" must be one of the 4 GPUs/],
    [one({ kind: 'gpu-lost' }), /gpu \(missing\) must be a GPU's index/],
    [one({ kind: 'hardware-throttle', gpu: 0, reason: '' }), /reason "" must be a text of 1 to 100 characters$/],
    [
      one({ kind: 'reading-missing', component: 'disk', quantity: 'power' }),
      /component "disk" must be gpu, cpu, memory or system$/,
    ],
    [
      one({ kind: 'reading-missing', component: 'memory', quantity: 'power' }),
      /reading memory\/\/power must be one of gpu\//,
    ],
    [
      one({ kind: 'reading-missing', component: 'gpu', quantity: 'power' }),
      /reading gpu\/\/power must be one of gpu\//,
    ],
    [
      one({ kind: 'reading-missing', component: 'cpu', gpu: 0, quantity: 'power' }),
      /reading cpu\/GPU-.*\/power must be/,
    ],
    [
      one({ kind: 'reading-invalid', component: 'cpu', quantity: 'temperature', value: 61 }),
      /value 61 must be a number that is physically impossible, "NaN"/,
    ],
    [
      one({ kind: 'reading-invalid', component: 'cpu', quantity: 'temperature', value: 'hot' }),
      /value "hot" must be a number that is physically impossible/,
    ],
  ];
  for (const [change, problem] of refusals) {
    const answer = rig.apply(change);
    t.match(answer, { ok: false, problem }, JSON.stringify(change)?.slice(0, 100));
    t.strictSame(rig.describe(), before);
  }
  t.ok(rig.apply({ faults: Array.from({ length: 100 }, () => ({ kind: 'frozen' })) }).ok, '100 faults are allowed');
});

t.test('SimulationChangeSchema is a JSON schema that takes what apply() takes', async (t) => {
  const check = new Ajv2020({ strict: false }).compile(SimulationChangeSchema);
  const rig = newRig();
  const samples: Record<Fault['kind'], Fault> = {
    'gpu-temperature': { kind: 'gpu-temperature', gpu: 0, valueC: 80 },
    'gpu-power': { kind: 'gpu-power', gpu: GPU_0, valueW: 250 },
    'gpu-memory': { kind: 'gpu-memory', gpu: 0, ratio: 0.5 },
    'cpu-temperature': { kind: 'cpu-temperature', valueC: 80 },
    'cpu-utilization': { kind: 'cpu-utilization', ratio: 0.5 },
    memory: { kind: 'memory', ratio: 0.5 },
    'total-power': { kind: 'total-power', valueW: 2000 },
    'gpu-lost': { kind: 'gpu-lost', gpu: 1 },
    'reading-invalid': { kind: 'reading-invalid', component: 'cpu', quantity: 'power', value: 'NaN' },
    'reading-missing': { kind: 'reading-missing', component: 'gpu', gpu: 1, quantity: 'power' },
    frozen: { kind: 'frozen' },
    'source-failed': { kind: 'source-failed' },
    'source-hung': { kind: 'source-hung' },
    'hardware-throttle': { kind: 'hardware-throttle', gpu: 0, reason: 'hw_thermal_slowdown' },
    'fan-failed': { kind: 'fan-failed', gpu: 0 },
  };
  t.strictSame(Object.keys(samples), Object.keys(FAULT_SCHEMAS));
  for (const fault of Object.values(samples)) {
    const change = { load: 0.5, ambientC: 20, faults: [fault] };
    t.ok(check(change) && rig.apply(change).ok, fault.kind);
    const unknownField = { faults: [{ ...fault, unknown: 1 }] };
    t.notOk(check(unknownField) || rig.apply(unknownField).ok, `${fault.kind} with an unknown field`);
  }
});
