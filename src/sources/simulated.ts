// A workstation that does not exist, for demos, drills and tests: it answers as real sources do, with readings that
// follow its load and the air around it, and can be made to fail in every way that this service guards against. Its
// state is moved on when somebody looks; noise is drawn from seed, reading and time, so the same seed gives the same run
// however often it is read, and no two moments are alike (a repeating sensor would rightly be taken for frozen). Every
// report says `simulated`. The physics are simulated-model.ts, the faults and their checking simulated-faults.ts.
import { createHash } from 'node:crypto';
import { type Clock, TIMED_OUT, withDeadline } from '../clock.ts';
import { invariant } from '../domain/invariant.ts';
import {
  canonicalGpuUuid,
  EMPTY_REPORT,
  type FailureCause,
  type GpuSighting,
  type RawReading,
  readingKey,
  type SourceReport,
  type Witness,
} from '../domain/reading.ts';
import { joined } from './joined.ts';
import { type Fault, falseReadingOf, gpuIdOf, parseSimulationChange } from './simulated-faults.ts';
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
} from './simulated-model.ts';
import type { Source } from './source.ts';

export interface SimulatedRigOptions {
  readonly node: string;
  readonly clock: Clock;
  /** 0 to 32; 4 if left out. */
  readonly gpus?: number;
  /** Of the sensor noise; the same seed gives the same run. */
  readonly seed?: number;
}

/** The rig as it really is, whatever its faults make it tell; the answer of `POST /simulation`. */
export interface SimulatedState {
  readonly node: string;
  readonly load: number;
  readonly ambientC: number;
  readonly faults: readonly Fault[];
  readonly cpu: { readonly temperatureC: number; readonly powerW: number };
  readonly gpus: readonly { readonly id: string; readonly temperatureC: number; readonly powerW: number }[];
  readonly totalPowerW: number;
}

export interface SimulatedRig extends Source {
  /**
   * Changes load, air and faults from now on ({@link parseSimulationChange} says what is allowed). All or nothing:
   * with a `problem` everything stays as it was.
   */
  apply(
    change: unknown,
  ): { readonly ok: true; readonly state: SimulatedState } | { readonly ok: false; readonly problem: string };
  describe(): SimulatedState;
}

/** One PCI bus per card, from 01 on, as on a workstation board. */
const MAX_GPUS = 32;

/** Where the driver would regulate to, and the power limit it enforces: as a 280 W blower card tells. */
const TARGET_C = 83;
const ENFORCED_POWER_W = 280;

/** Half the width of the noise of each kind of sensor. Large against float rounding, small against every limit. */
const NOISE = { temperatureC: 0.05, powerW: 1, totalPowerW: 4, ratio: 0.002 };

/**
 * An idle rig, warmed through, in air of 22 °C.
 *
 * @example
 * const rig = createSimulatedRig({ node: 'demo', clock: systemClock });
 * rig.apply({ load: 0.8, faults: [{ kind: 'fan-failed', gpu: 2 }] }); // GPU 2 passes 80 °C within two minutes
 */
export function createSimulatedRig({ node, clock, gpus = 4, seed = 1 }: SimulatedRigOptions): SimulatedRig {
  invariant(Number.isInteger(gpus) && gpus >= 0 && gpus <= MAX_GPUS, `${gpus} simulated GPUs must be 0 to ${MAX_GPUS}`);
  const id = 'simulated';
  const sightings = Array.from({ length: gpus }, (_, index) => sightingOf(index));
  const gpuIds = sightings.map((sighting) => sighting.id);
  const closing = new AbortController();
  const bornAtMs = clock.now().elapsedMs;

  let conditions: RigConditions = { load: 0, ambientC: 22, failedFans: new Set() };
  let faults: readonly Fault[] = [];
  let state = settledRig(gpus, conditions, bornAtMs);
  let lastAnswer: SourceReport | undefined;

  const has = (kind: Fault['kind']): boolean => faults.some((fault) => fault.kind === kind);
  const moveToNow = (): void => {
    state = advanceRig(state, conditions, clock.now().elapsedMs);
  };

  /** What the sensors tell with all faults in place. */
  function toldReadings(): RawReading[] {
    const healthy = healthyReadings(state, conditions, gpuIds, `${seed}/${state.atMs - bornAtMs}`);
    const told = new Map(healthy);
    for (const fault of faults) {
      const lie = falseReadingOf(fault);
      if (!lie) continue;
      const key = readingKey(lie.component, lie.gpu === undefined ? undefined : idOf(lie.gpu), lie.quantity);
      const reading = healthy.get(key);
      invariant(reading, `fault ${fault.kind} names the reading ${key}, which this rig does not have`);
      told.set(key, { ...reading, ...lie.says, origin: `fault ${fault.kind}` });
    }
    return [...told.values()];
  }

  function answer(startedAtMs: number): SourceReport {
    moveToNow();
    const lost = new Set(gpusWith('gpu-lost'));
    const isThere = (gpu: string | undefined): boolean => gpu === undefined || !lost.has(gpu);
    // Vouches for CPU and memory, as an exporter's own clock does. From 1 on: a counter at 0 counts as dead.
    const uptime: Witness = { of: 'source', name: 'simulated_seconds', value: 1 + (state.atMs - bornAtMs) / 1000 };
    const energy = state.gpus.flatMap(({ energyMj }, index): Witness[] => {
      const gpu = idOf(index);
      return isThere(gpu) ? [{ of: { gpu }, name: 'total_energy_consumption_mj', value: Math.floor(energyMj) }] : [];
    });
    return {
      ...reportFrame(startedAtMs),
      outcome: { kind: 'answered' },
      readings: toldReadings().filter((reading) => isThere(reading.id)),
      gpus: sightings.filter((gpu) => isThere(gpu.id)),
      witnesses: [uptime, ...energy],
      throttledGpus: faults
        .filter((fault) => fault.kind === 'hardware-throttle')
        .map(({ gpu, reason }) => ({ gpu: idOf(gpu), reason }))
        .filter(({ gpu }) => isThere(gpu)),
      hardwareLimits: gpuIds
        .filter(isThere)
        .map((gpu) => ({ component: 'gpu', id: gpu, targetC: TARGET_C, enforcedPowerW: ENFORCED_POWER_W })),
      notes: [
        `simulated rig with ${gpus} GPUs at load ${conditions.load} in air of ${conditions.ambientC} °C`,
        `faults: ${faults.map((fault) => fault.kind).join(', ') || 'none'}`,
      ],
    };
  }

  function idOf(gpu: number | string): string {
    const gpuId = gpuIdOf(gpu, gpuIds);
    invariant(gpuId, `GPU ${gpu} is not one of the ${gpus} of this rig`);
    return gpuId;
  }

  function gpusWith(kind: 'gpu-lost' | 'fan-failed'): string[] {
    return faults.flatMap((fault) => (fault.kind === kind ? idOf(fault.gpu) : []));
  }

  const joinedLook = joined(look);

  async function look(deadlineMs: number): Promise<SourceReport> {
    const startedAtMs = clock.now().elapsedMs;
    if (has('source-hung')) {
      await clock.sleep(deadlineMs - startedAtMs, closing.signal);
      if (!closing.signal.aborted) return lateReport(startedAtMs, deadlineMs);
    }
    if (closing.signal.aborted) return failedReport(startedAtMs, 'failed', 'the simulated rig is closed');
    if (has('source-failed')) return failedReport(startedAtMs, 'failed', 'fault source-failed is active');
    // A frozen source is alive and answers at once: only what it says is old.
    if (!has('frozen') || !lastAnswer) lastAnswer = answer(startedAtMs);
    return { ...lastAnswer, startedAtMs, finishedAtMs: clock.now().elapsedMs };
  }

  function reportFrame(startedAtMs: number) {
    const finishedAtMs = clock.now().elapsedMs;
    return { ...EMPTY_REPORT, source: id, node, startedAtMs, finishedAtMs, simulated: true } as const;
  }

  function failedReport(startedAtMs: number, cause: FailureCause, detail: string): SourceReport {
    return { ...reportFrame(startedAtMs), outcome: { kind: 'failed', cause, detail } };
  }

  function lateReport(startedAtMs: number, deadlineMs: number): SourceReport {
    const allowedMs = Math.max(0, Math.round(deadlineMs - startedAtMs));
    return failedReport(startedAtMs, 'timeout', `the simulated rig did not answer within ${allowedMs} ms`);
  }

  function describe(): SimulatedState {
    moveToNow();
    const { load, ambientC } = conditions;
    return {
      node,
      load,
      ambientC,
      faults,
      cpu: { temperatureC: state.cpuTemperatureC, powerW: cpuPowerW(load) },
      gpus: state.gpus.map(({ temperatureC }, index) => ({
        id: idOf(index),
        temperatureC,
        powerW: gpuPowerW(load),
      })),
      totalPowerW: totalPowerW(gpus, load),
    };
  }

  return {
    id,
    node,
    carriesHeat: true,
    async read(deadlineMs) {
      const startedAtMs = clock.now().elapsedMs;
      // A look that is joined may have a later deadline than this caller's.
      const report = await withDeadline(clock, deadlineMs - startedAtMs, joinedLook(deadlineMs));
      return report === TIMED_OUT ? lateReport(startedAtMs, deadlineMs) : report;
    },
    apply(input) {
      // Up to now the old conditions held.
      moveToNow();
      const readingKeys = new Set(healthyReadings(state, conditions, gpuIds, '').keys());
      const parsed = parseSimulationChange(input, { gpuIds, readingKeys });
      if (!parsed.ok) return parsed;
      const { change } = parsed;
      faults = change.faults ?? faults;
      const failedFans = new Set(gpusWith('fan-failed').map((gpu) => gpuIds.indexOf(gpu)));
      conditions = {
        load: change.load ?? conditions.load,
        ambientC: change.ambientC ?? conditions.ambientC,
        failedFans,
      };
      return { ok: true, state: describe() };
    },
    describe,
    async close() {
      closing.abort();
    },
  };
}

/** A card that stays the same from run to run, so that known GPUs, waivers and `forget` can be practised on it. */
function sightingOf(index: number): GpuSighting {
  const uuid = canonicalGpuUuid(`GPU-5f5f0000-0000-4000-8000-${index.toString(16).padStart(12, '0')}`);
  const bus = (index + 1).toString(16).padStart(2, '0');
  return {
    id: uuid,
    uuid,
    pciAddress: `0000:${bus}:00.0`,
    name: 'Simulated GPU',
    vendor: 'nvidia',
    required: true,
  };
}

/** What sensors without a fault tell, by reading key; `moment` names the noise. */
function healthyReadings(
  state: RigState,
  { load }: RigConditions,
  gpuIds: readonly string[],
  moment: string,
): Map<string, RawReading> {
  const readings = new Map<string, RawReading>();
  const tell = (reading: Omit<RawReading, 'value' | 'origin'>, value: number, noise: number): void => {
    const key = readingKey(reading.component, reading.id, reading.quantity);
    const told = value + noise * noiseOf(`${moment}/${key}`);
    readings.set(key, { ...reading, value: told, origin: 'simulated sensor' });
  };
  for (const [index, id] of gpuIds.entries()) {
    const gpu = state.gpus[index];
    invariant(gpu, `GPU ${index} has an id and no state`);
    tell({ component: 'gpu', id, quantity: 'temperature' }, gpu.temperatureC, NOISE.temperatureC);
    tell({ component: 'gpu', id, quantity: 'power' }, gpuPowerW(load), NOISE.powerW);
    tell({ component: 'gpu', id, quantity: 'memory' }, gpuMemoryRatio(load), NOISE.ratio);
    tell({ component: 'gpu', id, quantity: 'utilization', informational: true }, gpuUtilization(load), NOISE.ratio);
  }
  tell({ component: 'cpu', quantity: 'temperature' }, state.cpuTemperatureC, NOISE.temperatureC);
  tell({ component: 'cpu', quantity: 'utilization' }, cpuUtilization(load), NOISE.ratio);
  tell({ component: 'cpu', quantity: 'power' }, cpuPowerW(load), NOISE.powerW);
  tell({ component: 'memory', quantity: 'memory' }, memoryRatio(load), NOISE.ratio);
  tell({ component: 'system', quantity: 'total-power', rank: 1 }, totalPowerW(gpuIds.length, load), NOISE.totalPowerW);
  return readings;
}

/** Noise from -1 to 1 that belongs to `name` for ever. */
function noiseOf(name: string): number {
  return createHash('sha256').update(name).digest().readInt32LE(0) / 2 ** 31;
}
