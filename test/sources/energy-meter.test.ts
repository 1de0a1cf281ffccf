import t, { type Test } from 'tap';
import { type EnergyCounter, EnergyMeter, type Metered } from '../../src/sources/energy-meter.ts';
import { Sysfs } from '../../src/sources/sysfs.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { FAILS_WITH_EIO, layOut, type SysfsTree, untilTrue, whileTimePasses } from '../support/sysfs-tree.ts';

const FILE = '/sys/counter/energy_uj';
const OTHER = '/sys/other/energy_uj';

interface Bench {
  readonly tree: SysfsTree;
  readonly clock: ManualClock;
  readonly closing: AbortController;
  /** One read, without time for a second. */
  read(counter?: EnergyCounter): Promise<Metered | undefined>;
  readonly meter: EnergyMeter;
}

async function bench(t: Test, energyUj: string): Promise<Bench> {
  const tree = await layOut(t, { [FILE]: energyUj });
  const clock = new ManualClock();
  const closing = new AbortController();
  const meter = new EnergyMeter(new Sysfs({ clock, root: tree.root }), clock, closing.signal);
  const read = async (counter: EnergyCounter = { file: FILE }) =>
    (await meter.read([counter], clock.now().elapsedMs + 500)).get(counter.file);
  return { tree, clock, closing, read, meter };
}

t.test('EnergyMeter.read() gives the mean power between two reads', async (t) => {
  const { tree, clock, read } = await bench(t, '5000000');
  t.strictSame(await read(), { kind: 'first' });
  await tree.put(FILE, '755000000');
  await clock.advance(2500);
  t.strictSame(await read(), { kind: 'power', powerW: 300, atMs: clock.now().elapsedMs, overMs: 2500 });
  await clock.advance(1000);
  t.match(await read(), { kind: 'power', powerW: 0, overMs: 1000 }, 'a counter that stands still is no failure here');
});

t.test('EnergyMeter.read() measures over a second at least, and until then repeats itself', async (t) => {
  const { tree, clock, read } = await bench(t, '0');
  await read();
  await tree.put(FILE, '100000000');
  await clock.advance(999);
  t.strictSame(await read(), { kind: 'first' });
  await clock.advance(1);
  const power = await read();
  t.match(power, { kind: 'power', powerW: 100, overMs: 1000 });
  await tree.put(FILE, '900000000');
  await clock.advance(999);
  t.strictSame(await read(), power, 'with the time of the read that it is from');
});

t.test('EnergyMeter.read() begins anew after a minute without a read', async (t) => {
  const { tree, clock, read } = await bench(t, '0');
  await read();
  await tree.put(FILE, '60000000000');
  await clock.advance(60_000);
  t.match(await read(), { kind: 'power', powerW: 1000 });
  await clock.advance(60_001);
  t.strictSame(await read(), { kind: 'first' }, 'a counter may have wrapped meanwhile');
  await tree.put(FILE, '60100000000');
  await clock.advance(1000);
  t.match(await read(), { kind: 'power', powerW: 100 });
});

t.test('EnergyMeter.read() goes on over the wrap of a counter whose range is known', async (t) => {
  const { tree, clock, read } = await bench(t, '262000000000');
  const counter = { file: FILE, rangeUj: 262_143_328_850 };
  await read(counter);
  await tree.put(FILE, '56671150');
  await clock.advance(1000);
  t.match(await read(counter), { kind: 'power', powerW: 200 });
});

t.test('EnergyMeter.read() begins anew where a counter fell and no wrap explains it', async (t) => {
  const { tree, clock, read } = await bench(t, '900000000');
  await read();
  await tree.put(FILE, '1000000');
  await clock.advance(1000);
  t.strictSame(await read(), { kind: 'first' }, 'no range');
  const small = { file: FILE, rangeUj: 500 };
  await tree.put(FILE, '1000');
  await clock.advance(1000);
  t.strictSame(await read(small), { kind: 'first' }, 'fell by more than the range');
  await tree.put(FILE, '50001000');
  await clock.advance(1000);
  t.match(await read(small), { kind: 'power', powerW: 50 });
});

t.test('EnergyMeter.read() gives a failure with its reason, and measures over the gap', async (t) => {
  const { tree, clock, read } = await bench(t, '0');
  await read();
  await clock.advance(1000);
  await tree.put(FILE, FAILS_WITH_EIO);
  t.match(await read(), { kind: 'failed', failure: { code: 'EIO' } });
  await tree.put(FILE, 'N/A');
  t.match(await read(), { kind: 'failed', failure: { code: 'not-a-number' } });
  await tree.put(FILE, '200000000');
  await clock.advance(1000);
  t.match(await read(), { kind: 'power', powerW: 100, overMs: 2000 });
});

t.test('EnergyMeter.read() reads twice where the deadline has room for the second between', async (t) => {
  const { tree, clock, meter } = await bench(t, '0');
  await tree.put(OTHER, FAILS_WITH_EIO);
  const startedAtMs = clock.now().elapsedMs;
  const reading = whileTimePasses(clock, meter.read([{ file: FILE }, { file: OTHER }], startedAtMs + 5000));
  await untilTrue(async () => clock.now().elapsedMs > startedAtMs + 300);
  await tree.put(FILE, '120000000');
  const metered = await reading;
  const power = metered.get(FILE);
  t.match(power, { kind: 'power' });
  if (power?.kind === 'power') {
    t.ok(power.overMs >= 1000 && power.overMs < 1300, `over ${power.overMs} ms`);
    t.equal(power.powerW, 120_000 / power.overMs);
  }
  t.match(metered.get(OTHER), { kind: 'failed' });
});

t.test('EnergyMeter.read() does not wait past the deadline, nor when it is closed', async (t) => {
  const { clock, closing, meter } = await bench(t, '0');
  const startedAtMs = clock.now().elapsedMs;
  t.strictSame((await meter.read([{ file: FILE }], startedAtMs + 1100)).get(FILE), { kind: 'first' });
  await clock.advance(70_000);
  const waiting = meter.read([{ file: FILE }], clock.now().elapsedMs + 5000);
  closing.abort();
  t.strictSame((await waiting).get(FILE), { kind: 'first' }, 'without time passing');
});
