// What the hardware of a world truly is: each card and each CPU stores heat and warms towards a settled temperature with
// one time constant, as the rig of src/sources/simulated-model.ts does, but each part with figures and faults of its own.
// Between two changes the solution is exact, so a crossing is known to the millisecond however seldom anybody looks.

export interface PartKind {
  readonly idleW: number;
  readonly fullW: number;
  /** Rise over ambient at no power, K, and per watt. */
  readonly baseRiseK: number;
  readonly resistanceKPerW: number;
  readonly timeConstantMs: number;
}

export class Part {
  readonly kind: PartKind;
  /** Share of full load. */
  #load = 0;
  /** Heat resistance as a multiple of what a working cooler gives. */
  #coolerFactor = 1;
  #ambientC: number;
  #surgeW = 0;
  #temperatureC: number;
  #settledC: number;
  #atMs: number;
  #energyJ = 1000;

  constructor(kind: PartKind, ambientC: number, nowMs: number) {
    this.kind = kind;
    this.#ambientC = ambientC;
    this.#atMs = nowMs;
    this.#settledC = this.#settles();
    this.#temperatureC = this.#settledC;
  }

  get powerW(): number {
    const { idleW, fullW } = this.kind;
    return idleW + (fullW - idleW) * this.#load + this.#surgeW;
  }

  get load(): number {
    return this.#load;
  }

  temperatureC(nowMs: number): number {
    const passed = nowMs - this.#atMs;
    return this.#settledC + (this.#temperatureC - this.#settledC) * Math.exp(-passed / this.#timeConstantMs);
  }

  /** Drawn since the driver was loaded, J. */
  energyJ(nowMs: number): number {
    return this.#energyJ + (this.powerW * (nowMs - this.#atMs)) / 1000;
  }

  /** Since when it has been at or over `limitC`; `null` while it is below. Exact back to the last change alone. */
  overSinceMs(limitC: number, nowMs: number): number | null {
    if (this.temperatureC(nowMs) < limitC) return null;
    return this.#temperatureC >= limitC ? this.#atMs : this.#crossesAtMs(limitC);
  }

  /** Of a part below `limitC`: when it will be there if nothing changes; `Infinity` where it never will. */
  reachesAtMs(limitC: number): number {
    return this.#settledC <= limitC ? Number.POSITIVE_INFINITY : this.#crossesAtMs(limitC);
  }

  #crossesAtMs(limitC: number): number {
    const share = (this.#settledC - limitC) / (this.#settledC - this.#temperatureC);
    return this.#atMs - this.#timeConstantMs * Math.log(share);
  }

  change(
    nowMs: number,
    { load, coolerFactor, ambientC, surgeW }: Partial<Record<'load' | 'coolerFactor' | 'ambientC' | 'surgeW', number>>,
  ): void {
    const isSame =
      (load ?? this.#load) === this.#load &&
      (coolerFactor ?? this.#coolerFactor) === this.#coolerFactor &&
      (ambientC ?? this.#ambientC) === this.#ambientC &&
      (surgeW ?? this.#surgeW) === this.#surgeW;
    if (isSame) return;
    this.#energyJ = this.energyJ(nowMs);
    this.#temperatureC = this.temperatureC(nowMs);
    this.#atMs = nowMs;
    this.#load = load ?? this.#load;
    this.#coolerFactor = coolerFactor ?? this.#coolerFactor;
    this.#ambientC = ambientC ?? this.#ambientC;
    this.#surgeW = surgeW ?? this.#surgeW;
    this.#settledC = this.#settles();
  }

  get ambientC(): number {
    return this.#ambientC;
  }

  get #timeConstantMs(): number {
    return this.kind.timeConstantMs * this.#coolerFactor;
  }

  /** Hardware cuts itself off before its sensor ends. */
  #settles(): number {
    const { baseRiseK, resistanceKPerW } = this.kind;
    return Math.min(this.#ambientC + baseRiseK + resistanceKPerW * this.#coolerFactor * this.powerW, 118);
  }
}
