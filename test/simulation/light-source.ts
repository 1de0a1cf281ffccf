// The light way to read an exporter of a world: the same samples and the same faults, handed over as readings without
// being written as text and parsed. For the worlds that count node-hours; the bytes have worlds of their own.
import type { GpuSighting, RawReading, SourceReport, Witness } from '../../src/domain/reading.ts';
import { EMPTY_REPORT } from '../../src/domain/reading.ts';
import type { Source } from '../../src/sources/source.ts';
import type { Exporter } from './exporters.ts';
import { type Distortion, rounded, type Told } from './exposition-text.ts';
import type { Machine } from './machine.ts';
import type { Life } from './replica.ts';
import type { Timeline } from './timeline.ts';

export interface LightSample {
  readonly readings: readonly RawReading[];
  readonly gpus: readonly GpuSighting[];
  readonly witnesses: readonly Witness[];
}

/** What `machine` is as a sample of readings; as `exposition` says it in text. */
export function lightSample(
  machine: Machine,
  atMs: number,
  { wallS, lowerBy, notANumber, withoutCard, mad }: Distortion,
  rounds: Exporter['rounds'],
  busyShare: number,
): { readonly sample: LightSample; readonly told: Told; readonly isWhole: boolean } {
  const readings: RawReading[] = [];
  const gpus: GpuSighting[] = [];
  const witnesses: Witness[] = [{ of: 'source', name: 'node_time_seconds', value: wallS }];
  const number = (value: number): number => (notANumber === null ? value : Number.NaN);
  const cpuC = Math.max(rounded(machine.cpu.temperatureC(atMs) - lowerBy, 'tenths'), 1);
  readings.push(
    { component: 'cpu', quantity: 'temperature', value: number(cpuC), origin: 'light' },
    { component: 'cpu', quantity: 'utilization', value: busyShare, origin: 'light' },
    { component: 'memory', quantity: 'memory', value: machine.memoryShare, origin: 'light' },
  );
  let temperatureShare = cpuC / 95;
  let warningShare = cpuC / 90;
  let powerShare = 0;
  const cardsC: (number | undefined)[] = [];
  let isWhole = notANumber === null;
  for (const { part, uuid, index, isLost } of machine.cards) {
    if (isLost || index === withoutCard) {
      isWhole = false;
      continue;
    }
    const isMad = mad?.card === index;
    const celsius =
      isMad && mad.quantity === 'temperature'
        ? mad.value
        : Math.max(rounded(part.temperatureC(atMs) - lowerBy, rounds), 1);
    const watts = isMad && mad.quantity === 'power' ? mad.value : Math.max(part.powerW - lowerBy, 5);
    const [used, free] = machine.cardMemoryMib();
    const id = uuid.toLowerCase().replace('gpu', 'GPU');
    gpus.push({ id, uuid: id, name: 'NVIDIA RTX 6000', vendor: 'nvidia', required: true });
    witnesses.push({ of: { gpu: id }, name: 'energy counter', value: Math.round(part.energyJ(atMs) * 1000) });
    readings.push(
      { component: 'gpu', id, quantity: 'temperature', value: number(celsius), origin: 'light' },
      { component: 'gpu', id, quantity: 'power', value: watts, origin: 'light' },
      { component: 'gpu', id, quantity: 'memory', value: used / (used + free), origin: 'light' },
    );
    cardsC[index] = celsius;
    temperatureShare = Math.max(temperatureShare, celsius / 85);
    warningShare = Math.max(warningShare, celsius / 80, watts / 250);
    powerShare = Math.max(powerShare, watts / 300);
  }
  return {
    sample: { readings, gpus, witnesses },
    told: { temperatureShare, powerShare, warningShare, cardsC },
    isWhole,
  };
}

/** A source over `exporter` for one life of a process. */
export function createLightSource(parts: {
  readonly exporter: Exporter;
  readonly life: Life;
  readonly timeline: Timeline;
}): Source {
  const { exporter, life, timeline } = parts;
  const { clock } = life;
  const base = { ...EMPTY_REPORT, source: exporter.url, node: exporter.machine.name };
  return {
    id: exporter.url,
    node: exporter.machine.name,
    carriesHeat: true,
    async read(deadlineMs): Promise<SourceReport> {
      const startedAtMs = clock.now().elapsedMs;
      const takesMs = exporter.answersInMs(timeline.nowMs);
      if (takesMs === null || takesMs > deadlineMs - startedAtMs) {
        await clock.sleep(deadlineMs - startedAtMs);
        const outcome = { kind: 'failed', cause: 'timeout', detail: 'no answer' } as const;
        return { ...base, startedAtMs, finishedAtMs: clock.now().elapsedMs, outcome };
      }
      const { light, failure } = exporter.lightAnswer(timeline.nowMs, life.number);
      await clock.sleep(takesMs);
      const finishedAtMs = clock.now().elapsedMs;
      if (failure !== null) {
        return { ...base, startedAtMs, finishedAtMs, outcome: { kind: 'failed', cause: failure, detail: failure } };
      }
      return {
        source: base.source,
        node: base.node,
        startedAtMs,
        finishedAtMs,
        outcome: { kind: 'answered' },
        readings: light.readings,
        gpus: light.gpus,
        gpuSigns: [],
        witnesses: light.witnesses,
        throttledGpus: [],
        hardwareLimits: [],
        notes: [],
      };
    },
    close: async () => undefined,
  };
}
