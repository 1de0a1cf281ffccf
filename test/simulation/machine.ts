// One node of a world: its cards and its CPU as they truly are, what loads them, and the programs that tell of them.
import type { Chance } from './chance.ts';
import type { Exporter } from './exporters.ts';
import { LIMITS } from './exposition-text.ts';
import { Part, type PartKind } from './thermal.ts';

/** A card, and where the world has put it. */
export interface Card {
  readonly index: number;
  readonly uuid: string;
  readonly part: Part;
  /** Off the bus: nobody tells of it. */
  isLost: boolean;
}

/** A share of the card's memory that a load takes. */
const MEMORY_MIB = 24_000;

export class Machine {
  readonly name: string;
  readonly cards: readonly Card[];
  readonly cpu: Part;
  readonly parts: readonly Part[];
  exporters: readonly Exporter[] = [];
  /** The machine itself is up; a workload on it heats it whatever the cluster thinks. */
  #load = 0;
  /** CPU time of the four modes, s: idle, iowait, system, user. */
  #cpuIdleS = 5000;
  #cpuBusyS = 1000;
  #cpuAtMs = 0;
  /** Before this no part comes to its warning unless something changes. */
  #coolUntilMs = Number.NEGATIVE_INFINITY;

  constructor(name: string, chance: Chance, cards: number, nowMs: number) {
    this.name = name;
    const ambientC = chance.between(18, 27);
    this.cards = Array.from({ length: cards }, (_, index) => ({
      index,
      uuid: `GPU-${chance.uuid()}`,
      part: new Part(kindOf(chance, ambientC, [20, 40], [170, 240], [58, 74]), ambientC, nowMs),
      isLost: false,
    }));
    this.cpu = new Part(kindOf(chance, ambientC, [30, 60], [150, 220], [60, 82]), ambientC, nowMs);
    this.parts = [...this.cards.map(({ part }) => part), this.cpu];
  }

  get load(): number {
    return this.#load;
  }

  /** Whether a part is truly at its warning or over. Asked of each node twice a second, so reckoned ahead. */
  isWarm(nowMs: number): boolean {
    if (nowMs < this.#coolUntilMs) return false;
    const { cpuC, gpuC, gpuW } = LIMITS;
    const isWarm =
      this.cpu.temperatureC(nowMs) >= cpuC.warning ||
      this.cards.some(({ part }) => part.temperatureC(nowMs) >= gpuC.warning || part.powerW >= gpuW.warning);
    if (isWarm) return true;
    const cards = this.cards.map(({ part }) => part.reachesAtMs(gpuC.warning));
    this.#coolUntilMs = Math.floor(Math.min(this.cpu.reachesAtMs(cpuC.warning), ...cards));
    return false;
  }

  /** Whatever changes the truth comes by here, so that samples from before it are of before it. */
  change(nowMs: number, work: () => void): void {
    for (const exporter of this.exporters) exporter.sample(nowMs);
    work();
    this.#coolUntilMs = Number.NEGATIVE_INFINITY;
  }

  setLoad(load: number, nowMs: number): void {
    if (load === this.#load) return;
    this.change(nowMs, () => {
      this.#passCpu(nowMs);
      this.#load = load;
      for (const part of this.parts) part.change(nowMs, { load });
    });
  }

  /** s, idle and busy, since the boot. */
  cpuTimes(nowMs: number): readonly [number, number] {
    const passedS = ((nowMs - this.#cpuAtMs) / 1000) * 4;
    const busy = this.busyShare;
    return [this.#cpuIdleS + passedS * (1 - busy), this.#cpuBusyS + passedS * busy];
  }

  cardMemoryMib(): readonly [number, number] {
    const used = Math.round(MEMORY_MIB * (0.02 + 0.68 * this.#load));
    return [used, MEMORY_MIB - used];
  }

  get memoryShare(): number {
    return 0.15 + 0.35 * this.#load;
  }

  get busyShare(): number {
    return 0.03 + 0.7 * this.#load;
  }

  #passCpu(nowMs: number): void {
    [this.#cpuIdleS, this.#cpuBusyS] = this.cpuTimes(nowMs);
    this.#cpuAtMs = nowMs;
  }
}

/** A part that settles within `settlesC` under the highest load that is granted. */
function kindOf(
  chance: Chance,
  ambientC: number,
  idleW: readonly [number, number],
  fullW: readonly [number, number],
  settlesC: readonly [number, number],
): PartKind {
  const [idle, full] = [chance.between(...idleW), chance.between(...fullW)];
  const riseK = chance.between(...settlesC) - ambientC;
  const baseRiseK = 8;
  const atLoadW = idle + (full - idle) * 0.8;
  const resistanceKPerW = (riseK - baseRiseK) / atLoadW;
  return { idleW: idle, fullW: full, baseRiseK, resistanceKPerW, timeConstantMs: chance.between(30_000, 120_000) };
}
