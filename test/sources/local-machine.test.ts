import { hostname } from 'node:os';
import t, { type Test } from 'tap';
import { systemClock } from '../../src/clock.ts';
import { parseReading, type RawReading, type SourceReport } from '../../src/domain/reading.ts';
import { createLocalMachine, type LocalMachineOptions } from '../../src/sources/local-machine.ts';
import type { Source } from '../../src/sources/source.ts';
import { chip, THREADRIPPER, UNLABELLED_K10TEMP } from '../fixtures/sysfs-cpu.ts';
import { IDLE_SERVER, MEMINFO, stat } from '../fixtures/sysfs-machine.ts';
import { ManualClock } from '../support/manual-clock.ts';
import {
  FAILS_WITH_EIO,
  layOut,
  NEVER_ANSWERS,
  type SysfsTree,
  type TreeTable,
  untilTrue,
  whileTimePasses,
} from '../support/sysfs-tree.ts';

interface Machine {
  readonly tree: SysfsTree;
  readonly clock: ManualClock;
  readonly source: Source;
  /** A look with a deadline of 5 s unless told, during which manual time passes as needed. */
  look(timeoutMs?: number): Promise<SourceReport>;
  /** A look that needs no time. */
  glance(): Promise<SourceReport>;
}

async function machineWith(t: Test, table: TreeTable, options: Partial<LocalMachineOptions> = {}): Promise<Machine> {
  const tree = await layOut(t, table);
  const clock = new ManualClock();
  const source = createLocalMachine({ node: 'bizon1', clock, root: tree.root, ...options });
  const look = (timeoutMs = 5000) => whileTimePasses(clock, source.read(clock.now().elapsedMs + timeoutMs));
  const glance = () => source.read(clock.now().elapsedMs + 5000);
  return { tree, clock, source, look, glance };
}

function shareIn({ readings }: SourceReport): RawReading | undefined {
  return readings.find(({ quantity }) => quantity === 'utilization');
}

function memoryIn({ readings }: SourceReport): RawReading | undefined {
  return readings.find(({ quantity }) => quantity === 'memory');
}

/** The CPU share between two contents of /proc/stat. */
async function shareBetween(t: Test, before: string, after: string): Promise<RawReading | undefined> {
  const { tree, clock, look, glance } = await machineWith(t, { '/proc/stat': before });
  await look();
  await tree.put('/proc/stat', after);
  await clock.advance(10_000);
  return shareIn(await glance());
}

async function memoryOf(t: Test, table: TreeTable, options?: Partial<LocalMachineOptions>) {
  const { look } = await machineWith(t, table, options);
  return memoryIn(await look());
}

t.test('createLocalMachine() reports CPU share, memory, CPU temperature, limits and GPUs of its node', async (t) => {
  const { tree, clock, source, look, glance } = await machineWith(t, IDLE_SERVER);
  t.match(source, { id: 'local-machine', node: 'bizon1', carriesHeat: true });
  await look();
  await tree.put('/proc/stat', stat({ cpu0: '200 0 0 1900 0 0 0 0 0 0' }));
  await clock.advance(10_000);
  const startedAtMs = clock.now().elapsedMs;
  const report = await glance();

  t.match(report, { source: 'local-machine', node: 'bizon1', startedAtMs, outcome: { kind: 'answered' } });
  t.match(report.readings, [
    { component: 'cpu', quantity: 'utilization', value: 0.1 },
    { component: 'memory', quantity: 'memory', value: 0.25, origin: /: MemAvailable$/, sampledAtMs: startedAtMs },
    { component: 'cpu', id: 'coretemp-0', quantity: 'temperature', value: 55, sampledAtMs: startedAtMs },
    { component: 'cpu', id: 'coretemp-1', quantity: 'temperature', value: 99, sampledAtMs: startedAtMs },
  ]);
  t.strictSame(
    report.hardwareLimits.map(({ criticalC }) => criticalC),
    [100, 104],
  );
  t.strictSame(
    report.gpus.map(({ id, required }) => `${id} ${required}`),
    ['0000:03:00.0 false', '0000:41:00.0 true', '0000:81:00.0 true'],
  );
  t.strictSame(report.witnesses, []);
  t.match(report.notes.join('\n'), /coretemp-0, coretemp-1.*3 display functions among 6/s);
});

t.test('createLocalMachine() passes the Tctl offset to the chips that need it', async (t) => {
  const lone = await machineWith(t, UNLABELLED_K10TEMP, { tctlOffsetC: 27 });
  t.match((await lone.look()).readings.at(-1), { quantity: 'temperature', value: 69 });
  const withTdie = await machineWith(t, THREADRIPPER, { tctlOffsetC: 27 });
  t.match((await withTdie.look()).readings.at(-1), { quantity: 'temperature', value: 69 });
});

t.test('createLocalMachine() answers without a sensor honestly, and names a virtual machine', async (t) => {
  const { look } = await machineWith(t, {
    '/proc/meminfo': MEMINFO,
    '/proc/cpuinfo': 'flags\t\t: fpu hypervisor sse\n',
  });
  const report = await look();
  t.match(report.readings.at(-1), { component: 'cpu', quantity: 'temperature', value: null, cause: 'no-sensor' });
  t.match(report.notes.join('\n'), /virtual machine/);
  const bare = await machineWith(t, { '/proc/cpuinfo': 'flags\t\t: fpu sse\nmodel name\t: hypervisor\n' });
  t.notMatch((await bare.look()).notes.join('\n'), /virtual machine/);
});

t.test('createLocalMachine() keeps the notes within 50 lines', async (t) => {
  const sensors = Object.fromEntries(Array.from({ length: 80 }, (_, i) => [`temp${i + 1}_input`, '0']));
  const { look } = await machineWith(t, chip('hwmon0', 'coretemp', sensors));
  t.equal((await look()).notes.length, 50);
});

t.test('createLocalMachine() takes a CPU share from two samples a second apart', async (t) => {
  const { clock, look } = await machineWith(t, IDLE_SERVER);
  const startedAtMs = clock.now().elapsedMs;
  const first = await look();
  t.match(shareIn(first), { value: null, cause: 'frozen', origin: /no counter moved over 1\.\d s/ });
  const tookMs = first.finishedAtMs - startedAtMs;
  t.ok(tookMs >= 1000 && tookMs < 1500, `took ${tookMs} ms`);
});

t.test('createLocalMachine() measures the CPU share from the last look, and repeats it within a second', async (t) => {
  const { tree, clock, look, glance } = await machineWith(t, IDLE_SERVER);
  await look();
  await tree.put('/proc/stat', stat({ cpu0: '190 0 0 1010 0 0 0 0 0 0' }));
  await clock.advance(2000);
  const second = shareIn(await glance());
  t.match(second, { value: 0.9, origin: '/proc/stat: 1 of 1 CPUs over 2.0 s' });

  await tree.put('/proc/stat', stat({ cpu0: '190 0 0 1050 0 0 0 0 0 0' }));
  await clock.advance(500);
  t.strictSame(shareIn(await glance()), second, 'the same share with the same time');
  await clock.advance(500);
  const fourth = shareIn(await glance());
  t.match(fourth, { value: 0, origin: /over 1.0 s/ });
  t.equal((fourth?.sampledAtMs ?? 0) - (second?.sampledAtMs ?? 0), 1000);
});

t.test('createLocalMachine() does not average the CPU share over more than 90 s', async (t) => {
  const { tree, clock, look, glance } = await machineWith(t, IDLE_SERVER);
  await look();
  await tree.put('/proc/stat', stat({ cpu0: '100 0 0 9000 0 0 0 0 0 0' }));
  await clock.advance(59_900);
  t.match(shareIn(await glance()), { value: 0 });
  await tree.put('/proc/stat', stat({ cpu0: '100 0 0 18000 0 0 0 0 0 0' }));
  await clock.advance(90_100);
  t.match(
    shareIn(await look()),
    { value: null, cause: 'frozen', origin: /over 1\.\d s/ },
    'two samples of now instead',
  );
});

t.test('createLocalMachine() counts iowait as idle, steal as work, and guest time once', async (t) => {
  const before = stat({ cpu0: '1000 100 100 5000 500 10 10 10 900 90' });
  for (const [what, after, value] of [
    ['user', '1100 100 100 5000 500 10 10 10 900 90', 1],
    ['guest inside user', '1050 100 100 5050 500 10 10 10 950 90', 0.5],
    ['guest_nice inside nice', '1000 125 100 5075 500 10 10 10 900 115', 0.25],
    ['iowait', '1000 100 100 5050 550 10 10 10 900 90', 0],
    ['irq, softirq, steal', '1000 100 100 5070 500 20 20 20 900 90', 0.3],
    ['system', '1000 100 120 5080 500 10 10 10 900 90', 0.2],
  ] as const) {
    const share = await shareBetween(t, before, stat({ cpu0: after }));
    t.ok(Math.abs((share?.value ?? Number.NaN) - value) < 1e-9, `${what}: ${share?.value}`);
  }
});

t.test('createLocalMachine() takes a CPU share from the CPUs that ran between both samples', async (t) => {
  const offline = { cpu2: '7000 0 0 500000 0', cpu3: '7000 0 0 500000 0' };
  for (const [what, before, after, share] of [
    [
      'idle time beyond wall time',
      { cpu0: '5000 0 0 100000 0', cpu1: '5000 0 0 100000 0' },
      { cpu0: '5000 0 0 101011 0', cpu1: '5000 0 0 101010 0' },
      { value: 0, origin: /: 2 of 2 CPUs/ },
    ],
    [
      'two CPUs that stand still',
      { cpu0: '5000 0 0 100000 0', cpu1: '5000 0 0 100000 0', ...offline },
      { cpu0: '5990 0 0 100010 0', cpu1: '5980 0 0 100020 0', ...offline },
      { value: 0.985, origin: /: 2 of 4 CPUs/ },
    ],
    [
      'one CPU gone and one new',
      { cpu0: '100 0 0 1000 0', cpu1: '900 0 0 1000 0' },
      { cpu0: '150 0 0 1050 0', cpu2: '5000 0 0 1000 0' },
      { value: 0.5, origin: /: 1 of 2 CPUs/ },
    ],
  ] as const) {
    t.match(await shareBetween(t, stat(before), stat(after)), share, what);
  }
});

t.test('createLocalMachine() takes a small step back for jitter and a large one for a new start', async (t) => {
  const before = stat({ cpu0: '17335 0 0 1229595 0', cpu1: '19384 0 0 1209910 0' });
  const jitter = await shareBetween(t, before, stat({ cpu0: '17430 0 0 1230490 0', cpu1: '20370 0 0 1209898 0' }));
  t.equal(jitter?.value?.toFixed(3), '0.547', 'the busy CPU whose idle counter fell by 0.12 s still counts');
  const reset = await shareBetween(t, before, stat({ cpu0: '17430 0 0 1230490 0', cpu1: '20 0 0 900 0' }));
  t.match(reset, { origin: /: 1 of 2 CPUs .*; 1 left out: counters began anew/ });
  t.equal(reset?.value?.toFixed(3), '0.096');
  const edge = await shareBetween(t, before, stat({ cpu0: '17430 0 0 1230490 0', cpu1: '20370 0 0 1209611 0' }));
  t.match(edge, { origin: /: 2 of 2 CPUs/ }, '2.99 s back');
  const over = await shareBetween(t, before, stat({ cpu0: '17430 0 0 1230490 0', cpu1: '20370 0 0 1209610 0' }));
  t.match(over, { origin: /: 1 of 2 CPUs/ }, '3 s back');
  const all = await shareBetween(t, stat({ cpu0: '17335 0 0 1229595 0' }), stat({ cpu0: '1 0 0 1 0' }));
  t.match(all, { value: null, cause: 'frozen' }, 'nothing is left to measure');
});

t.test('createLocalMachine() has no CPU share without counters that can be read', async (t) => {
  for (const [what, entry, cause] of [
    ['no file', undefined, 'unreadable'],
    ['an empty file', '', 'unreadable'],
    ['EIO', FAILS_WITH_EIO, 'unreadable'],
    ['no CPU lines', 'cpu  1 2 3 4 5\nintr 0\n', 'invalid'],
    ['text for numbers', 'cpu0 a b c d e f g h\n', 'invalid'],
    ['too few columns', 'cpu0 1 2 3\n', 'invalid'],
  ] as const) {
    const { look } = await machineWith(t, {
      '/proc/meminfo': MEMINFO,
      ...(entry === undefined ? {} : { '/proc/stat': entry }),
    });
    t.match(shareIn(await look()), { component: 'cpu', quantity: 'utilization', value: null, cause }, what);
  }
});

t.test('createLocalMachine() has a CPU share again once counters that failed can be read', async (t) => {
  const { tree, clock, look, glance } = await machineWith(t, IDLE_SERVER);
  await look();
  await tree.put('/proc/stat', '');
  await clock.advance(2000);
  t.match(shareIn(await glance()), { value: null, cause: 'unreadable' });
  await tree.put('/proc/stat', stat({ cpu0: '150 0 0 1050 0 0 0 0 0 0' }));
  t.match(shareIn(await glance()), { value: 0.5 });
});

t.test('createLocalMachine() estimates available memory where the kernel does not, and says so', async (t) => {
  const parts = 'MemTotal: 34000000 kB\nMemFree: 2000000 kB\nBuffers: 1000000 kB\nCached: 20000000 kB\n';
  const plain = await memoryOf(t, { '/proc/meminfo': parts });
  t.equal(plain?.value?.toFixed(3), '0.324');
  t.match(plain?.origin, /no MemAvailable, estimated/);
  const all = await memoryOf(t, { '/proc/meminfo': `${parts}SReclaimable: 3400000 kB\nShmem: 6800000 kB\n` });
  t.equal(all?.value?.toFixed(3), '0.424', 'slabs can be given back, shared memory cannot');
});

t.test('createLocalMachine() has no memory share from a file that lacks what it takes', async (t) => {
  for (const [what, entry, cause] of [
    ['no file', undefined, 'unreadable'],
    ['an empty file', '', 'unreadable'],
    ['EIO', FAILS_WITH_EIO, 'unreadable'],
    ['no total', 'MemAvailable: 5 kB\n', 'invalid'],
    ['a total of 0', 'MemTotal: 0 kB\nMemAvailable: 5 kB\n', 'invalid'],
    ['MemFree alone', 'MemTotal: 10 kB\nMemFree: 5 kB\n', 'invalid'],
    ['no number', 'MemTotal: 10 kB\nMemAvailable: many kB\n', 'invalid'],
  ] as const) {
    const table: TreeTable = { '/proc/stat': stat({}), ...(entry === undefined ? {} : { '/proc/meminfo': entry }) };
    t.match(await memoryOf(t, table), { component: 'memory', quantity: 'memory', value: null, cause }, what);
  }
});

t.test(
  'createLocalMachine() counts the ZFS cache as used unless told otherwise, and shows it either way',
  async (t) => {
    const table: TreeTable = {
      '/proc/meminfo': 'MemTotal: 32000000 kB\nMemAvailable: 4000000 kB\n',
      '/proc/spl/kstat/zfs/arcstats':
        '13 1 0x01 123 33456 1 2\nname type data\nhits 4 99\nc_min 4 1024000000\nsize 4 17408000000\n',
    };
    t.match(await memoryOf(t, table), {
      value: 0.875,
      origin: /; 15\.3 GiB of ZFS cache above its minimum counted as used/,
    });
    t.match(await memoryOf(t, table, { zfsCacheIsAvailable: true }), { value: 0.375, origin: /counted as available/ });
    const small = { ...table, '/proc/spl/kstat/zfs/arcstats': 'c_min 4 1024000000\nsize 4 1000000000\n' };
    t.match(
      await memoryOf(t, small, { zfsCacheIsAvailable: true }),
      { value: 0.875 },
      'a cache below its minimum gives nothing',
    );
    const unreadable = { ...table, '/proc/spl/kstat/zfs/arcstats': FAILS_WITH_EIO };
    t.match(
      await memoryOf(t, unreadable, { zfsCacheIsAvailable: true }),
      { value: 0.875 },
      'nor one that cannot be read',
    );
  },
);

t.test('createLocalMachine() has one look under way, which a second call joins', async (t) => {
  const { clock, source } = await machineWith(t, IDLE_SERVER);
  const deadlineMs = clock.now().elapsedMs + 5000;
  const [first, second] = await whileTimePasses(clock, Promise.all([source.read(deadlineMs), source.read(deadlineMs)]));
  t.equal(first, second);
  await clock.advance(2000);
  t.not(await whileTimePasses(clock, source.read(deadlineMs + 5000)), first, 'a later call looks anew');
});

t.test('createLocalMachine() lets a call that joins go at its own deadline', async (t) => {
  const { clock, source } = await machineWith(t, IDLE_SERVER);
  const startedAtMs = clock.now().elapsedMs;
  const long = source.read(startedAtMs + 5000);
  const short = await whileTimePasses(clock, source.read(startedAtMs + 300));
  t.match(short, { outcome: { kind: 'failed', cause: 'timeout' }, readings: [], node: 'bizon1' });
  t.equal(short.finishedAtMs, startedAtMs + 300);
  t.match(await whileTimePasses(clock, long), { outcome: { kind: 'answered' } });
});

t.test('createLocalMachine() answers at its deadline with what it has, also when a sensor hangs', async (t) => {
  const { tree, clock, look } = await machineWith(t, IDLE_SERVER);
  await look();
  await tree.put('/proc/stat', stat({ cpu0: '150 0 0 1050 0 0 0 0 0 0' }));
  await tree.put('/sys/class/hwmon/hwmon1/temp1_input', NEVER_ANSWERS);
  await clock.advance(2000);

  const startedAtMs = clock.now().elapsedMs;
  const late = await look(500);
  t.equal(late.finishedAtMs, startedAtMs + 500);
  t.match(late.outcome, { kind: 'answered' });
  t.match(late.readings, [
    { quantity: 'utilization', value: 0.5 },
    { quantity: 'memory', value: 0.25 },
    { quantity: 'temperature', value: null, cause: 'unreadable', origin: 'CPU sensors: not read within 500 ms' },
  ]);

  const next = await look();
  t.match(next.readings.slice(2), [
    { id: 'coretemp-0', value: 55 },
    { id: 'coretemp-1', value: null, cause: 'unreadable' },
  ]);
  t.equal(next.gpus.length, 3);
  await clock.advance(2000);
  const againAtMs = clock.now().elapsedMs;
  const again = await look();
  t.ok(again.finishedAtMs - againAtMs < 500, 'the sensor that hangs is not waited for again');
  t.match(again.readings.slice(2), [
    { id: 'coretemp-0', value: 55 },
    { id: 'coretemp-1', cause: 'unreadable' },
  ]);

  await tree.put('/sys/class/hwmon/hwmon1/temp1_input', '64000\n');
  await untilTrue(async () => (await look()).readings.at(-1)?.value === 64);
  t.match((await look()).readings.at(-1), { id: 'coretemp-1', value: 64 }, 'read again once it is let go');
});

t.test('createLocalMachine() fails when nothing answers, and recovers', async (t) => {
  const { tree, clock, look } = await machineWith(t, { ...IDLE_SERVER, '/proc/stat': NEVER_ANSWERS });
  const startedAtMs = clock.now().elapsedMs;
  const report = await look(400);
  t.match(report, {
    outcome: { kind: 'failed', cause: 'timeout', detail: 'Cannot read /proc and /sys: no answer within 400 ms' },
    readings: [],
    gpus: [],
    finishedAtMs: startedAtMs + 400,
  });
  await tree.put('/proc/stat', stat({ cpu0: '150 0 0 1050 0 0 0 0 0 0' }));
  const next = await look();
  t.match(next.outcome, { kind: 'answered' });
  t.match(memoryIn(next), { value: 0.25 });
});

t.test('createLocalMachine() says that the CPU share is not there yet when the deadline comes first', async (t) => {
  const { look } = await machineWith(t, IDLE_SERVER);
  const report = await look(600);
  t.match(report.readings, [
    { quantity: 'utilization', value: null, cause: 'not-yet-read' },
    { quantity: 'memory', value: 0.25 },
    { id: 'coretemp-0', value: 55 },
    { id: 'coretemp-1', value: 99 },
  ]);
  t.match(shareIn(await look()), { cause: 'frozen' }, 'the next look joins the wait for the second sample');
});

t.test('createLocalMachine() stops waiting for a second sample when it is closed', async (t) => {
  const { clock, source } = await machineWith(t, IDLE_SERVER);
  const reading = source.read(clock.now().elapsedMs + 5000);
  await source.close();
  t.match(shareIn(await reading), { value: null, cause: 'not-yet-read' });
});

t.test('createLocalMachine() reads the machine that this test runs on', async (t) => {
  const source = createLocalMachine({ node: hostname(), clock: systemClock });
  t.teardown(() => source.close());
  const startedAtMs = systemClock.now().elapsedMs;
  const report = await source.read(startedAtMs + 10_000);
  t.match(report.outcome, { kind: 'answered' });
  for (const quantity of ['utilization', 'memory'] as const) {
    const value = report.readings.find((reading) => reading.quantity === quantity)?.value ?? Number.NaN;
    t.match(parseReading(quantity, value), { ok: true }, `${quantity} ${value}`);
  }
  const temperatures = report.readings.filter(({ quantity }) => quantity === 'temperature');
  t.ok(temperatures.length > 0, 'the CPU temperature is told, or that there is none');
  for (const { value, cause, origin } of temperatures) {
    t.ok(value === null ? cause : parseReading('temperature', value).ok, `${value ?? cause}: ${origin}`);
  }
});
