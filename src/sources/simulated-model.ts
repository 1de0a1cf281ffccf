// The physics behind the simulated rig: how power, heat and fill of a 4-GPU workstation follow its load and the air
// around it. Each part warms towards a settled temperature with one time constant, and load and air change in steps, so
// between two changes the exact solution is an exponential: one step of a minute gives the same curve as sixty of a
// second, and nothing has to run between two reads. Pure: no clock, no chance. Noise, faults of sensors and the answer
// that a source gives are simulated.ts and simulated-faults.ts.

/** What drives the rig from outside; constant between two steps. */
export interface RigConditions {
  /** Load of every GPU and of the CPU, 0 to 1. */
  readonly load: number;
  /** Air around the case, °C. */
  readonly ambientC: number;
  /** Indexes of the GPUs whose fan stands still. */
  readonly failedFans: ReadonlySet<number>;
}

/** Everything that has a memory: temperatures and energy counters. */
export interface RigState {
  /** Monotonic time that the state is of. */
  readonly atMs: number;
  readonly cpuTemperatureC: number;
  readonly gpus: readonly GpuState[];
}

export interface GpuState {
  readonly temperatureC: number;
  /** Energy drawn since the driver was loaded, mJ, as NVML counts it; only rises. */
  readonly energyMj: number;
}

/**
 * How one part turns power into heat. A card's fan speeds up with its heat, so idle and full load do not lie on one line
 * through the ambient temperature: the line that meets both has a rise at 0 W, which is also the warm air in the case.
 */
interface Part {
  readonly idleW: number;
  readonly fullW: number;
  /** Rise over ambient at no power, K. */
  readonly baseRiseK: number;
  /** Further rise per watt, K/W. */
  readonly resistanceKPerW: number;
  /** Time in which 63 % of a change has happened, ms. */
  readonly timeConstantMs: number;
}

/** 30 W and 38 °C idle, 240 W and 72 °C at full load in air of 22 °C: a blower card kept just below 250 W. */
const GPU: Part = {
  idleW: 30,
  fullW: 240,
  baseRiseK: 16 - (30 * 34) / 210,
  resistanceKPerW: 34 / 210,
  timeConstantMs: 40_000,
};

/** 40 W and 45 °C idle, 200 W and 75 °C at full load in air of 22 °C. */
const CPU: Part = {
  idleW: 40,
  fullW: 200,
  baseRiseK: 23 - (40 * 30) / 160,
  resistanceKPerW: 30 / 160,
  timeConstantMs: 20_000,
};

/** Board, memory, disks and fans, W, and what the power supply makes of the sum. */
const BASE_W = 120;
const PSU_EFFICIENCY = 0.9;

/**
 * Where a sensor stops, °C. Without it a card without a fan in hot air would pass 125 °C and read as invalid: missing,
 * where a real card, which cuts itself off before that, reads as hot.
 */
const SENSOR_END_C = 120;

/** Power of one GPU, W. */
export function gpuPowerW(load: number): number {
  return powerW(GPU, load);
}

/** Power of the CPU package, W. */
export function cpuPowerW(load: number): number {
  return powerW(CPU, load);
}

/** What the whole machine draws from the wall, W: its parts and the loss of the power supply. */
export function totalPowerW(gpuCount: number, load: number): number {
  return (gpuCount * gpuPowerW(load) + cpuPowerW(load) + BASE_W) / PSU_EFFICIENCY;
}

/** CPU share, 0 to 1. At a load of 0.8, the highest that is granted by default, it stays below its maximum of 0.8. */
export function cpuUtilization(load: number): number {
  return 0.03 + 0.92 * load;
}

/** Share of system memory in use, 0 to 1. */
export function memoryRatio(load: number): number {
  return 0.15 + 0.35 * load;
}

/** Busy share of a GPU, 0 to 1. */
export function gpuUtilization(load: number): number {
  return 0.01 + 0.98 * load;
}

/** Share of a GPU's memory in use, 0 to 1. */
export function gpuMemoryRatio(load: number): number {
  return 0.02 + 0.68 * load;
}

/** The rig as it stands when these conditions have held for hours; counters as if each card had run a while. */
export function settledRig(gpuCount: number, conditions: RigConditions, atMs: number): RigState {
  return {
    atMs,
    cpuTemperatureC: settledC(CPU, conditions, false),
    gpus: Array.from({ length: gpuCount }, (_, index) => ({
      temperatureC: settledC(GPU, conditions, conditions.failedFans.has(index)),
      energyMj: (index + 1) * 1e9,
    })),
  };
}

/** The rig at `toMs`, `conditions` having held since the state's own time. A time before that changes nothing. */
export function advanceRig(state: RigState, conditions: RigConditions, toMs: number): RigState {
  const passedMs = toMs - state.atMs;
  if (!(passedMs > 0)) return state;
  return {
    atMs: toMs,
    cpuTemperatureC: approach(CPU, state.cpuTemperatureC, conditions, false, passedMs),
    gpus: state.gpus.map((gpu, index) => ({
      temperatureC: approach(GPU, gpu.temperatureC, conditions, conditions.failedFans.has(index), passedMs),
      energyMj: gpu.energyMj + gpuPowerW(conditions.load) * passedMs,
    })),
  };
}

function powerW(part: Part, load: number): number {
  return part.idleW + (part.fullW - part.idleW) * load;
}

/** A standing fan doubles the resistance, and with it the time constant: the same heat stored, half the way out. */
function settledC(part: Part, { load, ambientC }: RigConditions, fanFailed: boolean): number {
  const resistanceKPerW = part.resistanceKPerW * (fanFailed ? 2 : 1);
  return Math.min(ambientC + part.baseRiseK + resistanceKPerW * powerW(part, load), SENSOR_END_C);
}

function approach(part: Part, fromC: number, conditions: RigConditions, fanFailed: boolean, passedMs: number): number {
  const endC = settledC(part, conditions, fanFailed);
  return endC + (fromC - endC) * Math.exp(-passedMs / (part.timeConstantMs * (fanFailed ? 2 : 1)));
}
