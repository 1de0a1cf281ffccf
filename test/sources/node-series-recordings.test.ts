// Bodies of real node_exporters, and inputs from public reports, where they lie beside this project.
import t, { type Test } from 'tap';
import { createNodeSeries } from '../../src/sources/node-series.ts';
import type { SeriesAnswer } from '../../src/sources/scrape.ts';
import { OPTIONS, readingsIn, scrapeOf, sharedText } from '../support/node-scrapes.ts';

/** The body, or the title of what is skipped for want of it. */
function withText(path: string, title: string, check: (t: Test, text: string) => void): void {
  const text = sharedText(path);
  const skip = text === null ? `needs ../shared/${path}, which is not part of this repository` : false;
  t.test(`createNodeSeries(), ${path}: ${title}`, { skip }, async (t) => check(t, text ?? ''));
}

const read = (body: string): SeriesAnswer => createNodeSeries(OPTIONS).read(scrapeOf(body));

/** The last answer to several bodies, split at `# @scrape t=+10s`. */
function readAll(text: string): SeriesAnswer {
  const series = createNodeSeries(OPTIONS);
  const parts = [...text.matchAll(/# @scrape t=\+(\d+)s\n([\s\S]*?)(?=# @scrape|$)/g)];
  const answers = parts.map(([, seconds = '', body = '']) =>
    series.read(scrapeOf(body, 1_000_000 + Number(seconds) * 1000)),
  );
  const last = answers.at(-1);
  if (!last) throw new Error('no scrape in it');
  return last;
}

const CPU = 'cpu/coretemp-0/temperature';

withText('recordings/node_exporter-1.12.1-e2e-fixture.txt', 'two sockets, memory without MemAvailable', (t, text) => {
  const answer = read(text);
  t.strictSame(readingsIn(answer), {
    'cpu/utilization': 'not-yet-read',
    'memory/memory': (3831959552 - 230883328 - 22568960 - 953229312 - 45846528 + 608092160) / 3831959552,
    [CPU]: 55,
    'cpu/coretemp-1/temperature': 55,
    'cpu/package-0/power': 'not-yet-read',
  });
  t.match(answer.readings[1]?.origin, /no MemAvailable.*1\.5 GiB of ZFS cache/);
});

withText('recordings/node_exporter-1.5.0-here.txt', 'a virtual machine has no sensors', (t, text) => {
  const answer = read(text);
  t.strictSame(readingsIn(answer), {
    'cpu/utilization': 'not-yet-read',
    'memory/memory': (25276510208 - 23310594048) / 25276510208,
    'cpu/temperature': 'no-sensor',
  });
  t.match(answer.readings[2]?.origin, /^collector hwmon failed/);
  t.match(answer.witnesses, [{ name: 'node_time_seconds', value: 1795611788.8018866 }]);
});

withText('recordings/node_exporter-1.5.0-synthetic-sysfs.txt', 'every kind of chip at once', (t, text) => {
  t.strictSame(readingsIn(read(text)), {
    'cpu/utilization': 'no-sensor',
    'memory/memory': 'no-sensor',
    'cpu/k10temp-0/temperature': 72.5,
    [CPU]: 73,
    'cpu/zenpower-0/temperature': 65,
    'gpu/0000:0a:00.0/temperature': 61,
    '(gpu/0000:0a:00.0/temperature)': 84,
    'gpu/0000:0a:00.0/power': 211,
    'gpu/0000:0a:00.0/memory': 'no-sensor',
    'gpu/0000:0b:00.0/temperature': 41,
    'gpu/0000:0b:00.0/power': 25,
    'gpu/0000:0b:00.0/memory': 'no-sensor',
    'system/total-power#4': 612,
    'system/total-power#5': 845,
    'cpu/dram-0/power': 'not-yet-read',
    'cpu/package-0/power': 'not-yet-read',
    '(cpu/psys-0/power)': 'not-yet-read',
  });
});

withText('recordings/node_exporter-nct6775-k10temp-issue1993.txt', 'known by its place', (t, text) => {
  t.match(readingsIn(read(text)), { 'cpu/k10temp-0/temperature': 55 });
});

withText('recordings/node_exporter-amdgpu-drm-pr3145-pr3572.txt', 'joined by chip', (t, text) => {
  t.match(readingsIn(read(text)), {
    'gpu/0000:9e:00.0/temperature': 'no-sensor',
    'gpu/0000:9e:00.0/memory': 5570560 / 4294967296,
    '(gpu/0000:9e:00.0/utilization)': 0,
  });
});

const one = (id: string, title: string, expected: Record<string, unknown>): void =>
  withText(`cases/${id}.txt`, title, (t, text) => t.match(readingsIn(read(text)), expected));

one('B01', "the CPU's chip alone speaks", { [CPU]: 48 });
one('B03', 'passed on, for the domain to refuse', { 'cpu/k10temp-0/temperature': 4294948.3 });
one('B04', 'Tdie, not Tctl', { 'cpu/k10temp-0/temperature': 69 });
one('B05', 'not the zone that is frozen', { [CPU]: 96 });
one('B07', 'missing, and why', { 'cpu/temperature': 'unreadable' });
one('B08', '0 °C, for the domain to refuse', { 'cpu/x86_pkg_temp-0/temperature': 0 });
one('B15', 'no power, not 0 W', { [CPU]: 55 });
one('B19', 'a disk is no CPU', { [CPU]: 50 });
one('B21', 'by the letter', { 'memory/memory': (3.4e10 - 4e9) / 3.4e10 });
one('B22', 'estimated', { 'memory/memory': (34 - 2 - 1 - 20) / 34 });

withText('cases/B15.txt', 'CPU power is unknown', (t, text) => {
  const answer = read(text);
  t.notOk(answer.readings.some(({ quantity }) => quantity === 'power'));
  t.match(answer.notes, [/CPU power: no node_rapl series/]);
});

withText('cases/B16.txt', 'one scrape gives no power, and an odd name is a line that is not read', (t, text) => {
  const { readings } = read(text);
  const powers = readings.filter(({ quantity }) => quantity === 'power');
  t.strictSame(
    powers.map(({ id, value, cause }) => [id, value, cause]),
    [
      ['package-0', null, 'not-yet-read'],
      ['package-15', null, 'not-yet-read'],
      ['dram-0', null, 'not-yet-read'],
    ],
  );
});

const share = (id: string, title: string, from: number, to: number): void =>
  withText(`cases/${id}.txt`, title, (t, text) => {
    const value = readingsIn(readAll(text))['cpu/utilization'];
    t.ok(typeof value === 'number' && value >= from && value <= to, `${value}`);
  });

share('B12', 'a step back is no reset', 0.54, 0.56);
share('B13', 'idle', 0, 0);
share('B14', 'CPUs that stand still are left out', 0.984, 0.986);

withText('cases/B10.txt', "an error's text has no series", (t, text) => t.strictSame(readingsIn(read(text)), {}));
withText('cases/B17.txt', "an error's text has no series", (t, text) => t.strictSame(readingsIn(read(text)), {}));
