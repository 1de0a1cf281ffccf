// From raw numbers to readings over time: what is no number, who is who, what repeats itself, and what falls too fast.
import t from 'tap';
import {
  EMPTY_REPORT,
  type Quantity,
  type RawReading,
  readingKey,
  type SourceReport,
  type Witness,
} from '../../src/domain/reading.ts';
import { cpuPowerOf } from '../../src/domain/samples.ts';
import { type SourceWatch, type Track, watchSource, witnessOf } from '../../src/domain/tracking.ts';

const GPU = 'GPU-0';
const STALE_AFTER_MS = 30_000;
const S = 1_000;

const gpuTemperature = (value: number | null, more: Partial<RawReading> = {}): RawReading => ({
  component: 'gpu',
  id: GPU,
  quantity: 'temperature',
  value,
  origin: 'temperature.gpu',
  ...more,
});
const gpuPower = (value: number | null, more: Partial<RawReading> = {}): RawReading => ({
  ...gpuTemperature(value, more),
  quantity: 'power',
  origin: 'power.draw',
});
const energy = (value: number): Witness => ({ of: { gpu: GPU }, name: 'energy counter', value });
const nodeTime = (value: number): Witness => ({ of: 'source', name: 'node_time_seconds', value });

interface Look {
  readings?: RawReading[];
  witnesses?: Witness[];
  fails?: boolean;
  more?: Partial<SourceReport>;
}

function report(atMs: number, look: Look): SourceReport {
  return {
    ...EMPTY_REPORT,
    source: 'fake',
    node: 'bizon1',
    startedAtMs: atMs,
    finishedAtMs: atMs,
    outcome: look.fails
      ? { kind: 'failed', cause: 'timeout', detail: 'no answer within 8000 ms' }
      : { kind: 'answered' },
    readings: look.readings ?? [],
    witnesses: look.witnesses ?? [],
    ...look.more,
  };
}

/** A source that is looked at again and again. */
class Watched {
  watch: SourceWatch | null = null;
  look(atS: number, look: Look): this {
    this.watch = watchSource(this.watch, report(atS * S, look), STALE_AFTER_MS);
    return this;
  }
  get now(): SourceWatch {
    if (!this.watch) throw new Error('not looked at yet');
    return this.watch;
  }
  track(
    quantity: Quantity = 'temperature',
    id: string | undefined = GPU,
    component: RawReading['component'] = 'gpu',
  ): Track {
    const track = this.now.tracks.get(readingKey(component, id, quantity));
    if (!track) throw new Error(`there is no ${component}/${quantity}`);
    return track;
  }
  /** `valid`, or the cause of what is missing. */
  cause(quantity: Quantity = 'temperature'): string {
    const { state } = this.track(quantity);
    return state.kind === 'valid' ? 'valid' : state.cause;
  }
}

t.test('watchSource() takes the worst of duplicates that are possible numbers', async (t) => {
  const source = new Watched();
  source.look(0, {
    readings: [
      gpuTemperature(61),
      gpuTemperature(84),
      gpuTemperature(511),
      gpuTemperature(Number.NaN),
      gpuTemperature(70),
    ],
  });
  t.equal(source.track().value, 84);
  source.look(10, { readings: [gpuTemperature(511), gpuTemperature(null)] });
  t.equal(source.cause(), 'invalid', 'and is missing when none is');
  source.look(20, { readings: [gpuTemperature(99, { informational: true }), gpuTemperature(60)] });
  t.equal(source.track().value, 60, 'what is shown only is not judged');
  source.look(30, { readings: [gpuTemperature(511), gpuTemperature(62)] });
  t.equal(source.track().value, 62, 'whichever comes first');
});

t.test(
  'watchSource() takes of duplicates the better ranked, whichever comes first, and of those the higher',
  async (t) => {
    const totalPower = (value: number, rank?: number): RawReading => ({
      component: 'system',
      quantity: 'total-power',
      value,
      origin: 'a meter',
      ...(rank !== undefined && { rank }),
    });
    for (const [readings, expected] of [
      [[totalPower(700, 1), totalPower(900, 2), totalPower(950)], 700],
      [[totalPower(700, 1), totalPower(720, 1)], 720],
      [[totalPower(700, 1), totalPower(Number.NaN, 0)], 700],
    ] as const) {
      for (const order of [[...readings], [...readings].reverse()]) {
        const source = new Watched().look(0, { readings: order });
        t.equal(source.now.tracks.get(readingKey('system', undefined, 'total-power'))?.value, expected);
      }
    }
  },
);

t.test('watchSource() knows readings by what they are of, whatever stood in their place the look before', async (t) => {
  const cpu = { component: 'cpu', id: GPU } as const;
  const looks: [RawReading[], Record<string, number>][] = [
    [[gpuTemperature(60), gpuPower(100)], { 'gpu temperature GPU-0': 60, 'gpu power GPU-0': 100 }],
    [[gpuPower(101), gpuTemperature(61)], { 'gpu temperature GPU-0': 61, 'gpu power GPU-0': 101 }],
    [[gpuPower(102), gpuTemperature(50, cpu)], { 'cpu temperature GPU-0': 50, 'gpu power GPU-0': 102 }],
    [[gpuPower(103), gpuTemperature(60)], { 'gpu temperature GPU-0': 60, 'gpu power GPU-0': 103 }],
    [[gpuPower(104), gpuTemperature(90, { id: 'GPU-1' })], { 'gpu temperature GPU-1': 90, 'gpu power GPU-0': 104 }],
    [[gpuPower(105)], { 'gpu power GPU-0': 105 }],
  ];
  const source = new Watched();
  for (const [at, [readings, expected]] of looks.entries()) {
    source.look(at * 10, { readings });
    const told = [...source.now.tracks.values()].filter(({ state }) => state.kind === 'valid');
    t.same(
      Object.fromEntries(told.map(({ raw, value }) => [`${raw.component} ${raw.quantity} ${raw.id}`, value])),
      expected,
    );
    for (const [key, { raw }] of source.now.tracks) t.equal(key, readingKey(raw.component, raw.id, raw.quantity));
  }
});

t.test('watchSource() refuses a stamp that is older than staleAfter, or over 5 s ahead, or no number', async (t) => {
  const stamped = (sampledAtMs: number): string =>
    new Watched().look(100, { readings: [gpuTemperature(60, { sampledAtMs })] }).cause();
  t.equal(stamped(70_000), 'valid');
  t.equal(stamped(69_999), 'stale');
  t.equal(stamped(-1), 'stale');
  t.equal(stamped(105_000), 'valid');
  t.equal(stamped(105_001), 'invalid');
  t.equal(stamped(Number.NaN), 'invalid');
  t.equal(stamped(Infinity), 'invalid');
});

t.test('watchSource() keeps the last good reading of a source that fails, and since when it has failed', async (t) => {
  const source = new Watched().look(0, { readings: [gpuTemperature(60)] });
  source.look(10, { fails: true }).look(20, { fails: true });
  t.match(source.track(), { state: { kind: 'valid' }, value: 60, atMs: 0 });
  t.match(source.now.failure, { cause: 'timeout', sinceMs: 10 * S });
  source.look(30, { readings: [gpuTemperature(61)] });
  t.equal(source.now.failure, null);
});

t.test(
  'watchSource() counts an answer without any family that it gave before as a failure, not as absence',
  async (t) => {
    const source = new Watched().look(0, { readings: [gpuTemperature(60), gpuPower(120)] });
    source.look(10, { readings: [] });
    t.match(source.now.failure, { cause: 'empty' });
    t.equal(source.cause(), 'valid', 'its last good readings count on');
    source.look(20, { readings: [gpuTemperature(60, { quantity: 'memory', value: 0.3 })] });
    t.match(source.now.failure, { cause: 'empty' }, 'another family than before is none of them');
    source.look(30, { readings: [gpuPower(120)] });
    t.equal(source.now.failure, null, 'one of them is an answer');
    t.equal(source.cause(), 'gone', 'and what it leaves out is missing at once');
    t.equal(new Watched().look(0, { readings: [] }).now.failure, null, 'a source that never gave anything answers');
    const explicit = new Watched()
      .look(0, { readings: [gpuTemperature(60)] })
      .look(2, { readings: [gpuTemperature(null)] });
    t.equal(explicit.cause(), 'no-sensor', 'a reading that is said to be absent is absent at once');
  },
);

t.test('watchSource() makes an invalid reading missing at once and never remembers it as a value', async (t) => {
  const source = new Watched().look(0, { readings: [gpuTemperature(56)] });
  for (const value of [511, Number.NaN, 0, -3, Infinity]) {
    source.look(10, { readings: [gpuTemperature(value)] });
    t.equal(source.cause(), 'invalid', String(value));
    t.equal(source.track().value, 56, 'the last good value stands for the comparison with the next');
  }
});

t.test(
  'watchSource() takes a repeated value for the same sample while its witness stands, moved before or not',
  async (t) => {
    const source = new Watched();
    const look = (atS: number, power: number, counter: number) =>
      source.look(atS, { readings: [gpuPower(power)], witnesses: [energy(counter)] }).track('power').atMs;
    t.equal(look(0, 749, 5), 0);
    t.equal(look(1, 749, 5), 0, 'right after a start: a mad sample must not confirm itself');
    t.equal(look(2, 749, 6), 2 * S);
    t.equal(look(3, 749, 6), 2 * S);
    t.equal(look(4, 180, 6), 4 * S, 'another value is new whatever the witness says');
  },
);

t.test('watchSource() calls everything frozen once a witness has stood still for staleAfter, not before', async (t) => {
  const source = new Watched().look(0, { readings: [gpuTemperature(60)], witnesses: [energy(5)] });
  source.look(10, { readings: [gpuTemperature(60)], witnesses: [energy(6)] });
  source.look(39.999, { readings: [gpuTemperature(60)], witnesses: [energy(6)] });
  t.equal(source.cause(), 'valid');
  source.look(40, { readings: [gpuTemperature(60)], witnesses: [energy(6)] });
  t.equal(source.cause(), 'frozen');
  source.look(42, { readings: [gpuTemperature(63)], witnesses: [energy(6)] });
  t.equal(source.cause(), 'frozen', 'a witness that moved once goes on being one');
  source.look(44, { readings: [gpuTemperature(63)], witnesses: [energy(7)] });
  t.equal(source.cause(), 'valid', 'and ends the freeze when it moves');
});

t.test('watchSource() freezes by the witness of a card that card alone, by a memory that moves none', async (t) => {
  const other = { id: 'GPU-1' } as const;
  const memory = (value: number): RawReading => ({ ...gpuTemperature(value), quantity: 'memory', origin: 'memory' });
  const source = new Watched();
  for (let atS = 0; atS <= 40; atS += 10) {
    source.look(atS, {
      readings: [gpuTemperature(60), memory(0.3 + atS / 1_000), gpuTemperature(60, other)],
      witnesses: [energy(7), { of: { gpu: 'GPU-1' }, name: 'energy counter', value: atS + 1 }],
    });
  }
  t.equal(source.cause(), 'frozen');
  t.equal(source.track('temperature', 'GPU-1').state.kind, 'valid');
});

t.test(
  'watchSource() takes the slowest witness for the period of a source, by the mean of its last four',
  async (t) => {
    const source = new Watched();
    const counted = (atS: number, everyS: number) => 1 + Math.floor(atS / everyS);
    const look = (atS: number, everyS: readonly [number, number]) =>
      source.look(atS, {
        readings: [gpuTemperature(60), gpuTemperature(60, { id: 'GPU-1' })],
        witnesses: [
          { of: { gpu: GPU }, name: 'energy counter', value: counted(atS, everyS[0]) },
          { of: { gpu: 'GPU-1' }, name: 'energy counter', value: counted(atS, everyS[1]) },
        ],
      });
    for (let atS = 0; atS <= 120; atS += 5) look(atS, [10, 20]);
    t.equal(source.now.updatePeriodMs, 20 * S);
    for (let atS = 125; atS <= 300; atS += 5) look(atS, [30, 20]);
    t.equal(source.now.updatePeriodMs, 30 * S, 'whichever of them it is, and what was long ago counts no more');
  },
);

t.test('watchSource() lets the clock of a source vouch for nothing that needs a witness of its own', async (t) => {
  const source = new Watched();
  const reading = gpuTemperature(60, { ownWitnessOnly: true });
  for (const atS of [0, 10]) source.look(atS, { readings: [reading, gpuPower(100)], witnesses: [nodeTime(atS + 1)] });
  t.equal(witnessOf(source.now, reading), null);
  t.equal(witnessOf(source.now, gpuPower(100))?.name, 'node_time_seconds');
});

t.test('watchSource() believes a fall where the power before it was not read', async (t) => {
  const source = new Watched().look(0, { readings: [gpuTemperature(90)] });
  source.look(10, { readings: [gpuTemperature(40), gpuPower(300)] });
  t.equal(source.cause(), 'valid');
});

t.test('watchSource() remembers through a failure what a witness has shown, and what could not be read', async (t) => {
  const figures = { url: 'http://fake', tookMs: 1, bytes: 1, samples: 1, rejected: [], sourceWallAheadMs: null };
  const scrape = (rejectedLines: number) => ({ more: { scrape: { ...figures, rejectedLines } } });
  const source = new Watched();
  source.look(0, { readings: [gpuTemperature(60)], witnesses: [energy(7)], ...scrape(2) });
  source.look(10, { readings: [gpuTemperature(61)], witnesses: [energy(8)], ...scrape(1) });
  source.look(20, { fails: true, ...scrape(4) });
  t.equal(source.now.rejectedLines, 7);
  source.look(30, { readings: [gpuTemperature(61)], witnesses: [energy(8)] });
  t.equal(source.cause(), 'valid');
  source.look(40, { readings: [gpuTemperature(61)], witnesses: [energy(8)] });
  t.equal(source.cause(), 'frozen', '30 s from when it last moved, not from the failure');
});

t.test('watchSource() lets the clock of a source vouch for all of it', async (t) => {
  const cpu: RawReading = { component: 'cpu', id: 'coretemp-0', quantity: 'temperature', value: 50, origin: 'hwmon' };
  const source = new Watched();
  for (const [atS, clock] of [
    [0, 1],
    [10, 2],
    [20, 2],
    [40, 2],
  ] as const) {
    source.look(atS, { readings: [gpuTemperature(60), cpu], witnesses: [nodeTime(clock)] });
  }
  t.equal(source.cause(), 'frozen');
  t.match(source.track('temperature', 'coretemp-0', 'cpu').state, { cause: 'frozen' });
});

t.test('watchSource() takes a counter at 0 for no witness, at first and after a fall to 0', async (t) => {
  const zero = new Watched();
  for (let atS = 0; atS <= 50; atS += 10) zero.look(atS, { readings: [gpuTemperature(60)], witnesses: [energy(0)] });
  t.equal(zero.cause(), 'valid');
  t.equal(witnessOf(zero.now, gpuTemperature(60)), null);
  const fallen = new Watched().look(0, { readings: [gpuTemperature(60)], witnesses: [energy(8)] });
  for (let atS = 10; atS <= 60; atS += 10) fallen.look(atS, { readings: [gpuTemperature(60)], witnesses: [energy(0)] });
  t.equal(fallen.cause(), 'valid');
  t.equal(witnessOf(fallen.now, gpuTemperature(60)), null);
});

t.test('watchSource() drops a witness that was never seen to move while a temperature or a power did', async (t) => {
  for (const moving of [
    (n: number) => [gpuTemperature(60 + n)],
    (n: number) => [gpuTemperature(60), gpuPower(100 + n)],
  ]) {
    const source = new Watched();
    for (let atS = 0; atS <= 60; atS += 10) source.look(atS, { readings: moving(atS / 10), witnesses: [energy(5)] });
    t.equal(source.cause(), 'valid');
    t.equal(witnessOf(source.now, gpuTemperature(60)), null);
  }
  const still = new Watched();
  for (let atS = 0; atS <= 30; atS += 10) still.look(atS, { readings: [gpuTemperature(60)], witnesses: [energy(5)] });
  t.equal(still.cause(), 'frozen', 'while nothing else moves it is one');
});

t.test('watchSource() falls back to the clock of the source where a card has a dead counter', async (t) => {
  const source = new Watched();
  for (let atS = 0; atS <= 10; atS += 10) {
    source.look(atS, { readings: [gpuTemperature(60)], witnesses: [energy(0), nodeTime(atS)] });
  }
  t.match(witnessOf(source.now, gpuTemperature(60)), { name: 'node_time_seconds', everChanged: true });
});

/** Looks every 10 s from 0 to `untilS` at a card without a witness. */
function steady(
  untilS: number,
  temperatureC: number,
  powerW: (atS: number) => number,
  witness?: (atS: number) => number,
): Watched {
  const source = new Watched();
  for (let atS = 0; atS <= untilS; atS += 10) {
    const witnesses = witness ? [energy(witness(atS))] : [];
    source.look(atS, { readings: [gpuTemperature(temperatureC), gpuPower(powerW(atS))], witnesses });
  }
  return source;
}

t.test(
  'watchSource() calls a pair that is bit-identical for 60 s at 50 W or more frozen, where nothing vouches for it',
  async (t) => {
    t.equal(steady(50, 61, () => 287.412).cause(), 'valid', 'not yet');
    const frozen = steady(60, 61, () => 287.412);
    t.same([frozen.cause(), frozen.cause('power')], ['frozen', 'frozen']);
    t.equal(steady(60, 61, () => 50.5).cause(), 'frozen', 'just over 50 W');
    t.equal(steady(600, 61, () => 49.9).cause(), 'valid', 'idle cards repeat themselves');
    t.equal(steady(290, 61, () => 287).cause(), 'valid', 'whole watts repeat for longer');
    t.equal(steady(300, 61, () => 287).cause(), 'frozen');
    t.equal(
      steady(
        600,
        61,
        () => 287.412,
        (atS) => atS + 1,
      ).cause(),
      'valid',
      'a witness that moves outweighs it',
    );
    t.equal(
      steady(
        60,
        61,
        () => 287.412,
        () => 0,
      ).cause(),
      'frozen',
      'a counter at 0 does not',
    );
    t.equal(steady(200, 61, (atS) => 287.412 + atS / 10).cause(), 'valid', 'moving power is alive');
    frozen.look(70, { readings: [gpuTemperature(61), gpuPower(286.9)] });
    t.same([frozen.cause(), frozen.cause('power')], ['valid', 'valid'], 'until either moves');
  },
);

t.test(
  'watchSource() calls a temperature stuck that stands still for 120 s while mean power rose by 100 W',
  async (t) => {
    const ramp = (riseW: number) => (atS: number) => (atS < 60 ? 30 + (atS % 7) / 10 : 30 + riseW + (atS % 7) / 10);
    t.equal(steady(110, 28, ramp(265)).cause(), 'valid', 'not before two minutes');
    const stuck = steady(120, 28, ramp(265));
    t.equal(stuck.cause(), 'frozen');
    t.equal(stuck.cause('power'), 'valid', 'its power is alive');
    t.equal(steady(120, 28, (atS) => (atS < 60 ? 30 : 129)).cause(), 'valid', '99 W are no proof');
    t.equal(steady(120, 28, (atS) => (atS < 60 ? 30 : 130)).cause(), 'frozen', '100 W are');
    t.equal(steady(120, 28, ramp(265), (atS) => atS + 1).cause(), 'frozen', 'a moving counter does not excuse it');
    for (let atS = 130; atS <= 400; atS += 10)
      stuck.look(atS, { readings: [gpuTemperature(28), gpuPower(295.5 + (atS % 7) / 10)] });
    t.equal(stuck.cause(), 'frozen', 'it stays stuck while power stays up');
    stuck.look(410, { readings: [gpuTemperature(29), gpuPower(295.5)] });
    t.equal(stuck.cause(), 'valid', 'until it moves');
  },
);

t.test('watchSource() calls no settled temperature stuck for a single mad sample of its power', async (t) => {
  // One of the seven samples of a minute: it takes 700 W more to raise their mean by 100 W.
  for (const madW of [749.67, 1_400]) {
    const settled = new Watched();
    for (let atS = 0; atS <= 300; atS += 10) {
      const power = gpuPower(atS === 240 ? madW : 140 + (atS % 7) / 10);
      settled.look(atS, { readings: [gpuTemperature(59), power] });
      t.equal(settled.cause(), 'valid', `${madW} W, ${atS} s`);
    }
  }
});

t.test('watchSource() keeps no more than two minutes of powers beside a temperature that stands still', async (t) => {
  const source = new Watched();
  for (let atS = 0; atS < 600; atS += 1) {
    source.look(atS, { readings: [gpuTemperature(60), gpuPower(100 + (atS % 2) / 10)], witnesses: [energy(atS + 1)] });
  }
  const { powers } = source.track();
  t.ok(powers.length > 50 && powers.length <= 61, `${powers.length}`);
  t.ok((powers[0]?.atMs ?? 0) >= (599 - 120) * S);
});

t.test(
  'watchSource() calls no settled temperature stuck for mad samples of its power that were taken back',
  async (t) => {
    // Looked at every 30 s, and 1.1 s after each power over its hard stop.
    const settled = new Watched();
    const look = (atS: number, powerW: number): void => {
      settled.look(atS, { readings: [gpuTemperature(59), gpuPower(powerW)] });
      t.equal(settled.cause(), 'valid', `${atS} s`);
    };
    for (let atS = 0; atS <= 600; atS += 30) {
      const isMad = atS % 60 === 0 && atS >= 240;
      look(atS, isMad ? 749.67 : 148 + (atS % 7) / 10);
      if (isMad) look(atS + 1.1, 148.75);
    }
  },
);

t.test('watchSource() calls no settled temperature stuck for a load that rests for a moment', async (t) => {
  const settled = (everyS: number, restsAtS: readonly number[], powerW: number) => {
    const source = new Watched();
    for (let atS = 0; atS <= 600; atS += everyS) {
      const isResting = restsAtS.includes(atS);
      source.look(atS, { readings: [gpuTemperature(59), gpuPower(isResting ? 30 : powerW + (atS % 7) / 10)] });
      t.equal(source.cause(), 'valid', `every ${everyS} s, ${powerW} W, ${atS} s`);
    }
  };
  settled(10, [240], 700);
  settled(30, [240], 400);
  settled(30, [240, 480], 400);
});

t.test('watchSource() does not know what stood still while nobody looked', async (t) => {
  // The service stood still from 300 s to 426 s, and met a load that rested for a moment when it woke.
  const source = new Watched();
  const look = (atS: number, powerW: number): Watched =>
    source.look(atS, { readings: [gpuTemperature(56), gpuPower(powerW)] });
  for (let atS = 0; atS <= 300; atS += 30) look(atS, 147.7 + (atS % 7) / 10);
  look(426, 147.7);
  look(427, 33.4);
  for (const atS of [457, 458, 487, 488, 517, 518]) {
    look(atS, 147.7 + (atS % 7) / 10);
    t.equal(source.cause(), 'valid', `${atS} s`);
  }
  const stuck = new Watched();
  const lookAtStuck = (atS: number): Watched =>
    stuck.look(atS, { readings: [gpuTemperature(28), gpuPower((atS < 600 ? 30 : 295) + (atS % 7) / 10)] });
  for (let atS = 0; atS <= 1_200; atS += 60) lookAtStuck(atS);
  t.equal(stuck.cause(), 'frozen', 'one look a minute is enough');
  lookAtStuck(1_400);
  t.equal(stuck.cause(), 'frozen', 'and what was stuck is until it moves');
});

t.test('watchSource() finds a stuck sensor that had stood still for long before the load came', async (t) => {
  // A sensor stuck at 28 °C: nine idle minutes, then 295 W.
  const source = steady(600, 28, (atS) => (atS < 540 ? 30 : 295));
  t.equal(source.cause(), 'frozen');
  t.equal(steady(550, 28, (atS) => (atS < 540 ? 30 : 295)).cause(), 'valid', 'a few seconds of load are not');
});

t.test('watchSource() finds a stuck CPU by the power of all packages together', async (t) => {
  const source = new Watched();
  for (let atS = 0; atS <= 120; atS += 10) {
    const watts = atS < 60 ? 20 : 75;
    const cpu = (id: string, quantity: Quantity, value: number): RawReading => ({
      component: 'cpu',
      id,
      quantity,
      value,
      origin: 'rapl',
    });
    source.look(atS, {
      readings: [cpu('chip', 'temperature', 40), cpu('p0', 'power', watts), cpu('p1', 'power', watts)],
    });
  }
  t.match(source.track('temperature', 'chip', 'cpu').state, { cause: 'frozen' });
});

const falling = (toC: number, powers: readonly [number | null, number | null]): Watched => {
  const look = (temperatureC: number, powerW: number | null): Look => ({
    readings: [gpuTemperature(temperatureC), ...(powerW === null ? [] : [gpuPower(powerW)])],
  });
  return new Watched().look(0, look(78, powers[0])).look(10, look(toC, powers[1]));
};

t.test('watchSource() disbelieves a fall of over 40 °C in 10 s where power is read and did not fall', async (t) => {
  t.equal(falling(38, [290, 291]).cause(), 'valid', '40.0 °C');
  t.equal(falling(37.9, [290, 291]).cause(), 'implausible-fall', '40.1 °C');
  t.equal(falling(24, [290, 100]).cause(), 'valid', 'its power fell with it');
  t.equal(falling(24, [null, null]).cause(), 'valid', 'its power is not read');
  t.equal(falling(24, [290, null]).cause(), 'valid', 'its power is not read now');
});

t.test(
  'watchSource() believes an impossible fall once a second, newer sample says it, and not the same one again',
  async (t) => {
    const look = (sampledAtMs: number, temperatureC: number): Look => ({
      readings: [gpuTemperature(temperatureC, { sampledAtMs }), gpuPower(291, { sampledAtMs })],
    });
    const source = new Watched().look(0, look(0, 78)).look(10, look(10_000, 24));
    t.equal(source.cause(), 'implausible-fall');
    source.look(12, look(10_000, 24));
    t.equal(source.cause(), 'implausible-fall', 'the same sample again confirms nothing');
    source.look(14, look(12_000, 23));
    t.equal(source.cause(), 'valid');
    t.equal(source.track().value, 23);
    const back = new Watched().look(0, look(0, 78)).look(10, look(10_000, 24)).look(12, look(12_000, 77));
    t.equal(back.cause(), 'valid', 'a sensor that comes back is believed at once');
    t.notOk(back.track().jumped, 'and its return is no jump from a value that was never believed');
  },
);

t.test(
  'watchSource() lets no older sample take the place of a newer one, nor end the wait for a second one',
  async (t) => {
    const at = (atS: number, value: number) => gpuTemperature(value, { sampledAtMs: atS * S });
    const source = new Watched();
    source.look(0, { readings: [at(0, 60), gpuPower(200)] }).look(10, { readings: [at(10, 84), gpuPower(200)] });
    source.look(12, { readings: [at(5, 62), gpuPower(200)] });
    t.match(source.track(), { value: 84, atMs: 10 * S, state: { kind: 'valid' } });
    source.look(20, { readings: [at(20, 40), gpuPower(200)] });
    t.equal(source.cause(), 'implausible-fall');
    source.look(22, { readings: [at(10, 84), gpuPower(200)] });
    t.equal(source.cause(), 'implausible-fall', 'the sample from before the fall says nothing of it');
    source.look(24, { readings: [at(24, 41), gpuPower(200)] });
    t.equal(source.cause(), 'valid');
    t.equal(source.track().value, 41);
  },
);

t.test(
  'watchSource() takes a higher sample at once whatever its stamp, and is as old as that stamp says',
  async (t) => {
    const at = (atS: number, value: number): Look => ({ readings: [gpuTemperature(value, { sampledAtMs: atS * S })] });
    const back = new Watched().look(98, at(98, 70)).look(100, at(100, 70)).look(102, at(82, 97));
    t.match(
      back.track(),
      { value: 97, atMs: 82 * S, jumped: false, state: { kind: 'valid' } },
      'a clock set back by 20 s',
    );
    back.look(104, at(84, 96));
    t.match(back.track(), { value: 96, atMs: 84 * S }, 'and is followed from there');
    const equal = new Watched().look(100, at(100, 70)).look(102, at(100, 97));
    t.match(equal.track(), { value: 97, atMs: 100 * S }, 'the same stamp');
    const stale = new Watched().look(100, at(100, 70)).look(102, at(71.999, 97));
    t.equal(stale.cause(), 'stale', 'no older than staleAfter');
  },
);

t.test('watchSource() lets a clock that was set back take a value back with its second sample', async (t) => {
  const at = (atS: number, value: number): Look => ({ readings: [gpuTemperature(value, { sampledAtMs: atS * S })] });
  const hot = (): Watched => new Watched().look(98, at(98, 82)).look(100, at(100, 84));
  const back = hot().look(102, at(82, 70));
  t.match(back.track(), { value: 84, atMs: 100 * S }, 'one answer may be an older one');
  back.look(103, at(82, 70));
  t.match(back.track(), { value: 84 }, 'and says no more the second time');
  back.look(104, at(84, 69));
  t.match(back.track(), { value: 69, atMs: 84 * S }, 'a second sample of the same line shows that time goes on there');

  const inTurn = hot().look(102, at(82, 70)).look(103, at(100, 84)).look(104, at(84, 70));
  t.match(inTurn.track(), { value: 84, atMs: 100 * S }, 'not where the newer sample is still told in between');
  inTurn.look(106, at(106, 83)).look(108, at(88, 70));
  t.match(inTurn.track(), { value: 83, atMs: 106 * S }, 'nor where a newer one is');
});

t.test('watchSource() takes no sample from before for the second one that a jump needs', async (t) => {
  const at = (atS: number, value: number): Look => ({ readings: [gpuTemperature(value, { sampledAtMs: atS * S })] });
  const jump = (): Watched => new Watched().look(98, at(98, 50)).look(100, at(100, 110));
  t.ok(jump().track().jumped);
  // The same sample under a clock that is read to the second.
  t.ok(jump().look(101, at(99.4, 110)).look(102, at(99.6, 110)).track().jumped, 'the same one again');
  t.ok(jump().look(102, at(99, 111)).track().jumped, 'a higher one from before');
  t.ok(jump().look(102, at(98, 50)).look(103, at(100, 110)).track().jumped, 'one in turn with that of before');
  t.notOk(jump().look(102, at(102, 110)).track().jumped, 'only a newer one');
  const back = new Watched().look(98, at(98, 50)).look(100, at(80, 97));
  t.ok(back.track().jumped, 'one that comes by a clock set back is a jump like any other');
  t.notOk(back.look(102, at(82, 97)).track().jumped, 'until the next of its line');
});

t.test('watchSource() takes power for fallen below 90 % of what it was', async (t) => {
  for (const [powerW, cause] of [
    [180, 'implausible-fall'],
    [179.9, 'valid'],
  ] as const) {
    const source = new Watched().look(0, { readings: [gpuTemperature(84), gpuPower(200)] });
    source.look(10, { readings: [gpuTemperature(40), gpuPower(powerW)] });
    t.equal(source.cause(), cause, `${powerW} W`);
  }
});

t.test('watchSource() marks a rise of over 40 °C in 10 s as a jump until the next sample', async (t) => {
  const rise = (toC: number, atS = 10): boolean =>
    new Watched()
      .look(0, { readings: [gpuTemperature(41)] })
      .look(atS, { readings: [gpuTemperature(toC)] })
      .track().jumped;
  t.notOk(rise(81));
  t.ok(rise(81.1));
  t.ok(rise(81.1, 2), 'faster is no easier');
  t.notOk(rise(101, 20), 'twice the time may rise twice as far');
  const source = new Watched().look(0, { readings: [gpuTemperature(41)] }).look(10, { readings: [gpuTemperature(90)] });
  t.notOk(source.look(12, { readings: [gpuTemperature(91)] }).track().jumped);
});

t.test('watchSource() ages a repeated sample by its witness: asking often makes it no newer', async (t) => {
  const source = new Watched();
  source.look(0, { readings: [gpuTemperature(60)], witnesses: [energy(1)] });
  source.look(10, { readings: [gpuTemperature(60)], witnesses: [energy(2)] });
  source.look(20, { readings: [gpuTemperature(60)], witnesses: [energy(2)] });
  t.equal(source.track().atMs, 10 * S);
  source.look(22, { readings: [gpuTemperature(61)], witnesses: [energy(2)] });
  t.equal(source.track().atMs, 22 * S, 'a value that differs is new whatever a coarse counter says');
  const coarse = new Watched().look(0, { readings: [gpuTemperature(60, { sampledAtMs: 0 })] });
  coarse.look(1, { readings: [gpuTemperature(86, { sampledAtMs: 0 })] });
  t.equal(coarse.track().value, 86, 'and so is one under a stamp that is too coarse to tell');
});

/** Looks every 10 s at a source whose witness moves at these times, and gives the update period after each look. */
function periods(changesS: readonly number[], untilS: number): (number | null)[] {
  const source = new Watched();
  const seen: (number | null)[] = [];
  for (let atS = 0; atS <= untilS; atS += 10) {
    const counter = 1 + changesS.filter((changeS) => changeS <= atS).length;
    source.look(atS, { readings: [gpuTemperature(60)], witnesses: [energy(counter)] });
    seen.push(source.now.updatePeriodMs);
  }
  return seen;
}

t.test(
  'watchSource() tells the update period of a source from its witness, whatever the rhythm of the looks',
  async (t) => {
    const every = (s: number, offsetS = 0): number[] => Array.from({ length: 40 }, (_, n) => offsetS + n * s);
    t.equal(periods(every(5), 200).at(-1), null, 'one that moves at every look is as fast as we can tell');
    t.equal(periods(every(30, 1), 300).at(-1), 30 * S);
    // 30 s with some jitter shows as 20 and 40; the mean does not let a start slip through in between.
    const jittered = periods([9, 41, 69, 101, 129, 161, 189], 200).slice(8);
    for (const period of jittered) t.ok(period !== null && period >= 25 * S, String(period));
    const repaired = periods([1, 31, 61, 91, ...every(5, 95)], 300);
    t.equal(repaired.at(9), 30 * S);
    t.equal(repaired.at(-1), null, 'a source that was made faster is fast from then on');
  },
);

t.test('watchSource() sees a CPU stuck under load by the power that another source tells', async (t) => {
  const cpu: RawReading = {
    component: 'cpu',
    id: 'coretemp-0',
    quantity: 'temperature',
    value: 40,
    origin: 'coretemp',
  };
  const power = (value: number): RawReading => ({ ...cpu, id: 'package-0', quantity: 'power', value, origin: 'RAPL' });
  const report = (source: string, atMs: number, readings: readonly RawReading[]): SourceReport => ({
    ...EMPTY_REPORT,
    source,
    node: 'n',
    startedAtMs: atMs,
    finishedAtMs: atMs,
    outcome: { kind: 'answered' },
    readings,
  });
  const causeAfter = (riseW: number): string => {
    let watch: SourceWatch | null = null;
    for (let atS = 0; atS <= 120; atS += 10) {
      const machine = report('local-machine', atS * S, [cpu]);
      const rapl = report('system-power', atS * S, [power(60), power(atS < 60 ? 20 : 20 + riseW)]);
      watch = watchSource(watch, machine, STALE_AFTER_MS, cpuPowerOf([machine, rapl]));
    }
    const state = watch?.tracks.get(readingKey('cpu', 'coretemp-0', 'temperature'))?.state;
    return state?.kind === 'missing' ? state.cause : 'valid';
  };
  t.equal(causeAfter(139), 'valid', 'the highest of a package counts once: 60 to 159 W is 99 W more');
  t.equal(causeAfter(140), 'frozen');
});
