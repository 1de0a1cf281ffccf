import t from 'tap';
import { parseExposition } from '../../src/sources/exposition.ts';
import type { Scrape } from '../../src/sources/scrape.ts';
import { createSeriesReader } from '../../src/sources/series-reader.ts';

const OPTIONS = { tctlOffsetC: 0, zfsCacheIsAvailable: false, explains: false, outlets: [] };
const WALL_MS = 1_700_000_000_000;
const FINISHED_MS = 1_000_000;

function scrapeOf(body: string, wanted: ReadonlySet<string>): Scrape {
  const { samples, rejected, rejectedCount } = parseExposition(Buffer.from(body), {
    format: 'text',
    wanted,
    isComplete: true,
  });
  const times = { startedAtMs: FINISHED_MS - 20, finishedAtMs: FINISHED_MS, sourceWallMs: WALL_MS };
  return { samples, rejected, rejectedCount, ...times };
}

function read(body: string, options: Parameters<typeof createSeriesReader>[0] = OPTIONS) {
  const reader = createSeriesReader(options);
  return reader.read(scrapeOf(body, reader.wanted));
}

const NODE = `node_memory_MemTotal_bytes 100
node_memory_MemAvailable_bytes 40
node_time_seconds ${WALL_MS / 1000}
`;
const GPU = 'DCGM_FI_DEV_GPU_TEMP{gpu="0",UUID="GPU-aaaaaaaa-0000-4000-8000-000000000000"} 61\n';
const BMC = 'ipmi_dcmi_power_consumption_watts 700\n';

t.test('read() joins what all series say of one body', async (t) => {
  const { readings, gpus, witnesses } = read(NODE + GPU + BMC);
  t.match(
    readings.filter(({ value }) => value !== null).map(({ quantity, value }) => [quantity, value]),
    [
      ['memory', 0.6],
      ['temperature', 61],
      ['total-power', 700],
    ],
  );
  t.match(gpus, [{ id: 'GPU-aaaaaaaa-0000-4000-8000-000000000000' }]);
  t.match(witnesses, [{ name: 'node_time_seconds' }]);
});

t.test('read() joins what all series say beside readings: signs, slowdowns, limits, notes', async (t) => {
  const card = (name: string, value: number): string => GPU.replace('GPU_TEMP', name).replace(' 61', ` ${value}`);
  const answer = read(
    `${NODE}${card('CLOCKS_EVENT_REASONS', 0x40)}${card('ENFORCED_POWER_LIMIT', 300)}${BMC}DCGM_FI_DEV_GPU_TEMP 61\n`,
  );
  t.match(answer.gpuSigns, [{ kind: 'driver-loaded' }]);
  t.match(answer.throttledGpus, [{ reason: /^HW thermal slowdown/ }]);
  t.match(answer.hardwareLimits, [{ enforcedPowerW: 300 }]);
  t.match(answer.notes.join('\n'), /dcgm-exporter tells of 1 GPUs\nTotal power: 700 W/);
  const unread = `${NODE}node_cpu_guest_seconds_total{cpu="0"} 1\nDCGM_FI_DEV_FB_RESERVED 1\nipmi_fan_speed_rpm 1\n`;
  const reader = createSeriesReader({ ...OPTIONS, explains: true });
  const all = new Set(['node_cpu_guest_seconds_total', 'DCGM_FI_DEV_FB_RESERVED', 'ipmi_fan_speed_rpm']);
  const { ignored } = reader.read(scrapeOf(unread, new Set([...reader.wanted, ...all])));
  t.same(new Set(ignored.map(({ what }) => what)), all);
});

t.test("read() takes what other exporters' series say for as old as the oldest text file of the body", async (t) => {
  const mtime = (file: string, ageSeconds: number): string =>
    `node_textfile_mtime_seconds{file="${file}"} ${WALL_MS / 1000 - ageSeconds}\n`;
  const { readings } = read(NODE + GPU + BMC + mtime('new.prom', 5) + mtime('old.prom', 90));
  const ages = readings
    .filter(({ value }) => value !== null)
    .map(({ quantity, sampledAtMs }) => [quantity, sampledAtMs && FINISHED_MS - sampledAtMs]);
  t.same(ages, [
    ['memory', undefined],
    ['temperature', 90_000],
    ['total-power', 90_000],
  ]);
  for (const [stampAge, age] of [
    [5_000, 90_000],
    [120_000, 120_000],
  ] as const) {
    const stamped = read(NODE + GPU.replace('\n', ` ${WALL_MS - stampAge}\n`) + mtime('old.prom', 90));
    const sampledAtMs = stamped.readings.find(({ value }) => value === 61)?.sampledAtMs ?? 0;
    t.equal(FINISHED_MS - sampledAtMs, age, `stamped ${stampAge} ms ago`);
  }
});

t.test('read() keeps the age of a body without text files to its own stamps', async (t) => {
  const { readings } = read(GPU);
  t.equal(readings.find(({ quantity }) => quantity === 'temperature')?.sampledAtMs, undefined);
});

t.test('wanted has the series of the configured outlets, which are then read', async (t) => {
  const outlets = [{ series: 'pduOutletWatts', labels: { outlet: '3' }, scale: 0.1 }];
  t.notOk(createSeriesReader(OPTIONS).wanted.has('pduOutletWatts'));
  t.equal(createSeriesReader(OPTIONS).wanted, createSeriesReader(OPTIONS).wanted, 'one set where there are none');
  const { readings } = read('pduOutletWatts{outlet="3"} 4210\n', { ...OPTIONS, outlets });
  t.match(
    readings.filter(({ value }) => value !== null),
    [{ quantity: 'total-power', value: 421, rank: 1 }],
  );
});

t.test("read() lets node_exporter's clock vouch for nothing that another exporter says in the same body", async (t) => {
  const merged = read(NODE + GPU);
  t.same(
    merged.readings.filter(({ ownWitnessOnly }) => ownWitnessOnly).map(({ component, value }) => [component, value]),
    [['gpu', 61]],
  );
  t.same(
    read(GPU).readings.filter(({ ownWitnessOnly }) => ownWitnessOnly),
    [],
    'by itself it has only its own',
  );
});
