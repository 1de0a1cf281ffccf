// The thermal model alone: where it settles, how fast, and that the size of a step does not matter.
import t from 'tap';
import {
  advanceRig,
  cpuPowerW,
  cpuUtilization,
  gpuMemoryRatio,
  gpuPowerW,
  gpuUtilization,
  memoryRatio,
  type RigConditions,
  type RigState,
  settledRig,
  totalPowerW,
} from '../../src/sources/simulated-model.ts';

const MINUTE = 60_000;
const idle: RigConditions = { load: 0, ambientC: 22, failedFans: new Set() };
const full: RigConditions = { ...idle, load: 1 };

const gpuC = (state: RigState, index = 0): number => state.gpus[index]?.temperatureC ?? Number.NaN;
const near = (value: number, expected: number): boolean => Math.abs(value - expected) < 1e-6;

t.test('settledRig() lies at the temperatures that its parts were fitted to', async (t) => {
  t.ok(near(gpuC(settledRig(4, idle, 0)), 38));
  t.ok(near(settledRig(4, idle, 0).cpuTemperatureC, 45));
  t.ok(near(gpuC(settledRig(4, full, 0)), 72));
  t.ok(near(settledRig(4, full, 0).cpuTemperatureC, 75));
});

t.test('settledRig() follows the ambient temperature degree for degree', async (t) => {
  const warmer = settledRig(1, { ...full, ambientC: 32 }, 0);
  t.ok(near(gpuC(warmer), 82));
  t.ok(near(warmer.cpuTemperatureC, 85));
});

t.test('settledRig() ends at 120 °C, so that a limit catches it and not a missing reading', async (t) => {
  t.equal(gpuC(settledRig(1, { load: 1, ambientC: 50, failedFans: new Set([0]) }, 0)), 120);
});

t.test('advanceRig() covers 63 % of a change in one time constant, up and down', async (t) => {
  const warm = advanceRig(settledRig(1, idle, 0), full, 40_000);
  t.ok(near(gpuC(warm), 72 - 34 * Math.exp(-1)));
  const cool = advanceRig(settledRig(1, full, 0), idle, 40_000);
  t.ok(near(gpuC(cool), 38 + 34 * Math.exp(-1)));
  t.ok(near(advanceRig(settledRig(1, idle, 0), full, 20_000).cpuTemperatureC, 75 - 30 * Math.exp(-1)));
  t.ok(near(gpuC(advanceRig(warm, full, 60 * MINUTE)), 72));
});

t.test('advanceRig() gives the same curve whatever the size of its steps', async (t) => {
  const conditions: RigConditions = { load: 0.7, ambientC: 30, failedFans: new Set([1]) };
  const start = settledRig(2, idle, 0);
  let small = start;
  for (let atMs = 0; atMs <= 5 * MINUTE; atMs += 100) small = advanceRig(small, conditions, atMs);
  const large = advanceRig(start, conditions, 5 * MINUTE);
  t.ok(near(gpuC(small, 0), gpuC(large, 0)));
  t.ok(near(gpuC(small, 1), gpuC(large, 1)));
  t.ok(near(small.cpuTemperatureC, large.cpuTemperatureC));
  t.ok(Math.abs((small.gpus[1]?.energyMj ?? Number.NaN) - (large.gpus[1]?.energyMj ?? 0)) < 0.01);
});

t.test('advanceRig() heats a card without a fan further and at half the pace', async (t) => {
  const conditions: RigConditions = { ...full, failedFans: new Set([1]) };
  const end = settledRig(2, conditions, 0);
  t.ok(near(gpuC(end, 0), 72), 'its neighbour is as before');
  t.ok(gpuC(end, 1) > 105 && gpuC(end, 1) < 115, `${gpuC(end, 1)} °C`);
  const start = settledRig(2, idle, 0);
  const covered = (gpuC(advanceRig(start, conditions, 80_000), 1) - 38) / (gpuC(end, 1) - 38);
  t.ok(near(covered, 1 - Math.exp(-1)), `${covered} after 80 s`);
});

t.test('advanceRig() changes nothing for a time that is not later', async (t) => {
  const start = settledRig(1, idle, 1000);
  for (const toMs of [1000, 999, Number.NaN]) t.equal(advanceRig(start, full, toMs), start);
});

t.test('powers and shares stay below their warnings at the load that is granted by default', async (t) => {
  t.strictSame([gpuPowerW(0), gpuPowerW(1), cpuPowerW(0), cpuPowerW(1)], [30, 240, 40, 200]);
  t.ok(near(totalPowerW(4, 0), 280 / 0.9));
  t.ok(near(totalPowerW(4, 1), 1280 / 0.9));
  t.ok(cpuUtilization(0.8) < 0.79, 'CPU maximum 0.8, with room for noise');
  t.ok(cpuUtilization(0.7) < 0.69, 'the stricter profile: 0.7 at a load of 0.7');
  t.ok(memoryRatio(1) < 0.8);
  t.ok(gpuMemoryRatio(1) < 0.85);
  for (const share of [cpuUtilization, memoryRatio, gpuMemoryRatio, gpuUtilization]) {
    t.ok(share(0) > 0.005 && share(1) < 0.995, `${share.name} stays a share, noise included`);
  }
});
