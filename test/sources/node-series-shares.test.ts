// How busy the CPUs are and how full the memory is, from node_exporter and windows_exporter.
import t from 'tap';
import type { RawReading } from '../../src/domain/reading.ts';
import { createNodeSeries } from '../../src/sources/node-series.ts';
import type { SeriesAnswer, SeriesEngine } from '../../src/sources/scrape.ts';
import { cpuTimes, GIB, memory } from '../fixtures/node-exporter.ts';
import { OPTIONS, readingsOf, scrapeOf } from '../support/node-scrapes.ts';

const START_MS = 1_000_000;
const shareIn = (answer: SeriesAnswer): RawReading | undefined => readingsOf(answer, 'cpu', 'utilization')[0];
const look = (series: SeriesEngine, body: string, atMs: number): RawReading | undefined =>
  shareIn(series.read(scrapeOf(body, START_MS + atMs)));
const memoryOf = (body: string, zfsCacheIsAvailable = false): RawReading | undefined =>
  readingsOf(createNodeSeries({ ...OPTIONS, zfsCacheIsAvailable }).read(scrapeOf(body)), 'memory', 'memory')[0];

t.test('createNodeSeries() takes the share of time that the CPUs worked between two scrapes', async (t) => {
  const series = createNodeSeries(OPTIONS);
  const idle = { user: 10, nice: 0, system: 10, idle: 100, iowait: 5, irq: 0, softirq: 0, steal: 0 };
  const first = look(series, cpuTimes({ 0: idle, 1: idle }), 0);
  t.match(first, { value: null, cause: 'not-yet-read' });
  const busy = { user: 14, nice: 1, system: 11, idle: 102, iowait: 7, irq: 0.5, softirq: 0.5, steal: 1 };
  const later = look(series, cpuTimes({ 0: busy, 1: { ...idle, idle: 112 } }), 12_000);
  // 12 s of two CPUs; the first worked 8 of its 12.
  t.equal(later?.value?.toFixed(4), (8 / 24).toFixed(4));
  t.match(later, { origin: 'node_cpu_seconds_total: 2 of 2 CPUs over 12.0 s', sampledAtMs: START_MS + 12_000 });
});

t.test('createNodeSeries() gives a share again, with its time, to a scrape within a second', async (t) => {
  const series = createNodeSeries(OPTIONS);
  const at = (idle: number, user: number): string => cpuTimes({ 0: { idle, user } });
  look(series, at(100, 0), 0);
  t.match(look(series, at(100, 0.9), 999), { value: null, cause: 'not-yet-read' }, 'too soon for the first share');
  t.match(look(series, at(101, 1), 2000), { value: 0.5 }, 'counted from the first scrape');
  t.match(look(series, at(101, 1.5), 2999), { value: 0.5, sampledAtMs: START_MS + 2000 });
  t.match(look(series, at(101, 2), 3000), { value: 1, sampledAtMs: START_MS + 3000 });
});

t.test('createNodeSeries() begins anew after 90 s without a scrape', async (t) => {
  for (const [gapMs, expected] of [
    [90_000, { value: 1 }],
    [90_001, { value: null, cause: 'not-yet-read' }],
  ] as const) {
    const series = createNodeSeries(OPTIONS);
    look(series, cpuTimes({ 0: { idle: 100, user: 0 } }), 0);
    t.match(look(series, cpuTimes({ 0: { idle: 100, user: 60 } }), gapMs), expected, `${gapMs} ms`);
  }
});

t.test('createNodeSeries() takes small steps back for jitter, and large ones for a CPU that began anew', async (t) => {
  const between = (
    before: Parameters<typeof cpuTimes>[0],
    after: Parameters<typeof cpuTimes>[0],
  ): RawReading | undefined => {
    const series = createNodeSeries(OPTIONS);
    look(series, cpuTimes(before), 0);
    return look(series, cpuTimes(after), 10_000);
  };
  const jitter = between({ 0: { idle: 100, user: 10 } }, { 0: { idle: 97.01, user: 20 } });
  t.match(jitter, { value: 1 });
  const reset = between(
    { 0: { idle: 100, user: 10 }, 1: { idle: 100, user: 10 } },
    { 0: { idle: 97, user: 20 }, 1: { idle: 105, user: 15 } },
  );
  t.match(reset, { value: 0.5, origin: /1 of 2 CPUs .*1 left out/ });
  const offline = between(
    { 0: { idle: 100, user: 10 }, 1: { idle: 5000, user: 10 }, 2: { idle: 7, user: 1 } },
    { 0: { idle: 101, user: 19 }, 1: { idle: 5000, user: 10 } },
  );
  t.match(offline, { value: 0.9 }, 'a CPU that stands still is neither idle nor busy');
  const frozen = between({ 0: { idle: 100, user: 10 } }, { 0: { idle: 100, user: 10 } });
  t.match(frozen, { value: null, cause: 'frozen' });
  const newMode = between({ 0: { idle: 100, user: 10 } }, { 0: { idle: 105, user: 15, steal: 4000 } });
  t.match(newMode, { value: 0.5 }, 'a counter that was not there before has not risen');
});

t.test('createNodeSeries() has no share where a counter cannot be read', async (t) => {
  const series = createNodeSeries(OPTIONS);
  const good = cpuTimes({ 0: { idle: 100, user: 10 } });
  look(series, good, 0);
  const bad = `${cpuTimes({ 0: { idle: 105, user: 15 } })}node_cpu_seconds_total{cpu="1",mode="user"} busy\n`;
  t.match(look(series, bad, 5000), { value: null, cause: 'invalid', origin: /busy/ });
  const alone = 'node_cpu_seconds_total{cpu="1",mode="user"} busy\n';
  t.match(look(series, alone, 5500), { value: null, cause: 'invalid', origin: /busy/ }, 'the only line');
  const nan = `${cpuTimes({ 0: { idle: 105 } })}node_cpu_seconds_total{cpu="0",mode="user"} NaN\n`;
  t.match(look(series, nan, 6000), { value: null, cause: 'invalid' });
  const strange = cpuTimes({ 0: { working: 105 } });
  t.match(look(series, strange, 7000), { value: null, cause: 'invalid' }, 'no mode that anybody knows');
  t.match(look(series, cpuTimes({ 0: { idle: 105, user: 15 } }), 10_000), { value: 0.5 }, 'counted from the good one');
  t.match(look(series, 'node_time_seconds 1\n', 12_000), { cause: 'no-sensor' });
  const failed = 'node_scrape_collector_success{collector="cpu"} 0\n';
  t.match(look(series, failed, 14_000), { cause: 'unreadable', origin: /collector cpu failed/ });
});

t.test('createNodeSeries() counts a CPU by its label, and its time by the modes that add up', async (t) => {
  const series = createNodeSeries(OPTIONS);
  const body = (idle: number, user: number): string => `${cpuTimes({ 0: { idle, user } })}
node_cpu_seconds_total{mode="idle"} ${idle * 9}
node_cpu_seconds_total{cpu="0",mode="guest"} NaN
`;
  look(series, body(100, 10), 0);
  t.match(look(series, body(105, 15), 10_000), { value: 0.5, origin: /1 of 1 CPUs/ });
});

t.test('createNodeSeries() believes an exporter 8192 CPUs, and has no share of more', async (t) => {
  const machine = (count: number, idle: number, user: number): string =>
    cpuTimes(Object.fromEntries(Array.from({ length: count }, (_, cpu) => [cpu, { idle, user }])));
  const share = (count: number): RawReading | undefined => {
    const series = createNodeSeries(OPTIONS);
    look(series, machine(count, 100, 10), 0);
    return look(series, machine(count, 105, 15), 10_000);
  };
  t.match(share(8192), { value: 0.5 });
  t.match(share(8193), { value: null, cause: 'invalid' });
});

t.test('createNodeSeries() waits for a newer sample where samples are stamped', async (t) => {
  const series = createNodeSeries(OPTIONS);
  const wall = Date.UTC(2026, 0, 1);
  const stamped = (user: number, stampMs: number): string =>
    `node_cpu_seconds_total{cpu="0",mode="idle"} 100 ${stampMs}\nnode_cpu_seconds_total{cpu="0",mode="user"} ${user} ${stampMs}\n`;
  const at = (body: string, atMs: number): RawReading | undefined =>
    shareIn(series.read(scrapeOf(body, START_MS + atMs, wall + atMs)));
  at(stamped(0, wall - 5000), 0);
  t.match(at(stamped(15, wall + 10_000), 10_000), { value: 1, sampledAtMs: START_MS + 10_020 });
  t.match(at(stamped(15, wall + 10_000), 20_000), { value: 1, sampledAtMs: START_MS + 10_020 }, 'the same, and older');
  const ahead = series.read(scrapeOf(stamped(15, wall + 10_000), START_MS + 30_000, wall + 25_000));
  t.match(shareIn(ahead), { value: 1, sampledAtMs: START_MS + 10_020 }, "the same, though the server's clock was set");
});

t.test('createNodeSeries() begins anew at a sample that is older than the one before', async (t) => {
  const series = createNodeSeries(OPTIONS);
  const wall = Date.UTC(2026, 0, 1);
  const at = (user: number, stampMs: number, atMs: number): RawReading | undefined => {
    const body = cpuTimes({ 0: { idle: 100, user } }).replaceAll('\n', ` ${wall + stampMs}\n`);
    return shareIn(series.read(scrapeOf(body, START_MS + atMs, wall + atMs)));
  };
  at(0, 0, 0);
  t.match(at(10, 10_000, 10_000), { value: 1 });
  t.match(at(4, 4_000, 12_000), { value: null, cause: 'not-yet-read' }, 'another server, which is behind');
  t.match(at(16, 16_000, 16_000), { value: 1, origin: /over 12\.0 s/ }, 'counted from there');
});

t.test('createNodeSeries() takes what the kernel calls available for free memory', async (t) => {
  const linux = { MemTotal: 64 * GIB, MemAvailable: 16 * GIB, MemFree: GIB };
  t.match(memoryOf(memory(linux)), { value: 0.75, origin: 'node_memory: MemAvailable' });
  const old = {
    MemTotal: 64 * GIB,
    MemFree: 8 * GIB,
    Buffers: GIB,
    Cached: 30 * GIB,
    SReclaimable: GIB,
    Shmem: 8 * GIB,
  };
  t.match(memoryOf(memory(old)), { value: 0.5, origin: /no MemAvailable, estimated/ });
  t.match(memoryOf(memory({ ...old, Buffers: 0, MemFree: 9 * GIB })), { value: 0.5 }, 'a machine without buffers');
  t.match(memoryOf(memory({ MemTotal: 64 * GIB, MemFree: 8 * GIB })), { value: null, cause: 'invalid' });
  t.match(memoryOf(memory({ MemAvailable: GIB })), { value: null, cause: 'no-sensor' });
  t.match(memoryOf(memory({ MemTotal: 0, MemAvailable: 0 })), { value: null, cause: 'invalid' });
  const failed = 'node_scrape_collector_success{collector="meminfo"} 0\n';
  t.match(memoryOf(failed), { cause: 'unreadable', origin: /collector meminfo failed/ });
});

t.test('createNodeSeries() has no memory share where a number of it cannot be read', async (t) => {
  const linux = { MemTotal: 64 * GIB, MemAvailable: 16 * GIB };
  t.match(memoryOf(memory({ ...linux, MemTotal: 'much' })), { value: null, cause: 'invalid', origin: /much/ });
  const fallback = { MemFree: 8 * GIB, Buffers: GIB, Cached: 30 * GIB };
  t.match(
    memoryOf(memory({ ...linux, ...fallback, MemAvailable: 'some' })),
    { cause: 'invalid' },
    'no formula instead',
  );
  t.match(memoryOf(memory({ MemTotal: 64 * GIB, ...fallback, Shmem: 'x' })), { cause: 'invalid' });
  t.match(memoryOf(memory({ ...linux, MemAvailable: 'NaN' })), { value: null, cause: 'invalid' });
  t.match(memoryOf(memory({ ...linux, MemAvailable: -1 })), { value: null, cause: 'invalid', origin: /is -1/ });
  t.match(memoryOf(memory({ ...linux, Shmem: 'x' })), { value: 0.75 }, 'a number that is not needed');
  t.match(memoryOf(memory(linux) + memory({ MemAvailable: 8 * GIB })), { value: 0.875 }, 'the worse of duplicates');
});

t.test('createNodeSeries() counts the ZFS cache as used unless told otherwise', async (t) => {
  const zfs = `${memory({ MemTotal: 64 * GIB, MemAvailable: 8 * GIB })}node_zfs_arc_size ${20 * GIB}\nnode_zfs_arc_c_min ${4 * GIB}\n`;
  t.match(memoryOf(zfs), { value: 0.875, origin: /16.0 GiB of ZFS cache above its minimum counted as used/ });
  t.match(memoryOf(zfs, true), { value: 0.625, origin: /counted as available/ });
  t.match(memoryOf(zfs.replace(/node_zfs_arc_c_min.*/, ''), true), {
    value: 0.875,
    origin: 'node_memory: MemAvailable',
  });
  for (const size of [2 * GIB, '+Inf']) {
    const odd = zfs.replace(/(node_zfs_arc_size) .*/, `$1 ${size}`);
    t.match(memoryOf(odd, true), { value: 0.875, origin: /MemAvailable$/ }, `a cache of ${size} gives nothing back`);
  }
});

t.test('createNodeSeries() takes CPU share and memory of windows_exporter', async (t) => {
  const series = createNodeSeries(OPTIONS);
  const at = (
    idle: number,
    privileged: number,
    user: number,
  ): string => `windows_cpu_time_total{core="0,0",mode="dpc"} ${privileged}
windows_cpu_time_total{core="0,0",mode="idle"} ${idle}
windows_cpu_time_total{core="0,0",mode="interrupt"} ${privileged}
windows_cpu_time_total{core="0,0",mode="privileged"} ${privileged}
windows_cpu_time_total{core="0,0",mode="user"} ${user}
windows_memory_available_bytes ${8 * GIB}
windows_memory_physical_total_bytes ${32 * GIB}
`;
  look(series, at(100, 10, 10), 0);
  const answer = series.read(scrapeOf(at(105, 12, 13), START_MS + 10_000));
  t.match(shareIn(answer), { value: 0.5 }, 'dpc and interrupt are contained in privileged');
  t.match(readingsOf(answer, 'memory', 'memory'), [{ value: 0.75, origin: 'windows_memory: MemAvailable' }]);
  const old = at(1, 1, 1).replace('windows_memory_physical_total', 'windows_cs_physical_memory');
  t.match(memoryOf(old), { value: 0.75 });
  const linux = cpuTimes({ 0: { idle: 100, user: 10 } }) + memory({ MemTotal: 64 * GIB, MemAvailable: 32 * GIB });
  const both = series.read(scrapeOf(linux + at(110, 12, 13), START_MS + 20_000));
  t.match(shareIn(both), { origin: /^node_cpu_seconds_total/ }, "beside node_exporter's series these are not read");
  t.match(readingsOf(both, 'memory', 'memory'), [{ value: 0.5 }]);
});

t.test('createNodeSeries() has no share of windows_exporter where a number of it cannot be read', async (t) => {
  const bytes = (available: string, total: string): string =>
    `windows_memory_available_bytes ${available}\nwindows_memory_physical_total_bytes ${total}\n`;
  for (const [available, total] of [
    ['-1', '100'],
    ['NaN', '100'],
    ['some', '100'],
    ['some', 'all'],
  ] as const) {
    t.match(memoryOf(bytes(available, total)), { value: null, cause: 'invalid' }, `${available} of ${total}`);
  }
  t.match(memoryOf(`${bytes('40', '100')}windows_memory_available_bytes{volume="x"} 10 x\n`), { cause: 'invalid' });
  const cpu = 'windows_cpu_time_total{core="0,0",mode="idle"} much\n';
  t.match(look(createNodeSeries(OPTIONS), cpu, 0), { value: null, cause: 'invalid', origin: /much/ });
});
