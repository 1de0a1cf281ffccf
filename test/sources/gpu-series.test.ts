// GPUs in the body of dcgm-exporter, and what holds for all exporters: which card a row is of, and what a card's rows
// make together.
import t from 'tap';
import type { Quantity } from '../../src/domain/reading.ts';
import { createGpuSeries } from '../../src/sources/gpu-series.ts';
import type { SeriesAnswer, SeriesEngine } from '../../src/sources/scrape.ts';
import {
  CARD_A,
  CARD_B,
  DCGM_A,
  DCGM_B,
  type DcgmCard,
  dcgm,
  dcgmCard,
  judged,
  nvidiaCard,
  SOURCE_WALL_MS,
  scrapeOf,
} from '../fixtures/gpu-exporters.ts';

const OPTIONS = { tctlOffsetC: 0, zfsCacheIsAvailable: false, explains: false };

const engine = (): SeriesEngine => createGpuSeries(OPTIONS);
const read = (body: string, series = engine()): SeriesAnswer => series.read(scrapeOf(body));
const numberOf = (answer: SeriesAnswer, id: string, quantity: Quantity): number | null | undefined =>
  judged(answer, id, quantity)?.value;
const idsOf = (answer: SeriesAnswer): string[] => answer.gpus.map(({ id }) => id);

t.test(
  'createGpuSeries() reads a card of dcgm-exporter: °C, W, used / (used + free), and its energy counter',
  async (t) => {
    const answer = read(dcgmCard(DCGM_A));
    t.same(answer.gpus, [
      {
        id: CARD_A,
        uuid: CARD_A,
        pciAddress: '0000:21:00.0',
        name: 'NVIDIA RTX 6000',
        vendor: 'nvidia',
        required: true,
        unifiedMemory: false,
      },
    ]);
    t.equal(numberOf(answer, CARD_A, 'temperature'), 61);
    t.equal(numberOf(answer, CARD_A, 'power'), 187.5);
    t.equal(numberOf(answer, CARD_A, 'memory'), 22_000 / 24_100, 'reserved memory is in neither');
    t.same(answer.witnesses, [{ of: { gpu: CARD_A }, name: 'DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION', value: 4_742_776 }]);
    const shown = answer.readings.filter(({ informational }) => informational);
    t.match(
      shown.map(({ quantity, value }) => [quantity, value]),
      [
        ['temperature', null],
        ['utilization', 0.97],
      ],
      'a memory temperature of 0 is no sensor',
    );
    t.same(answer.notes, ['dcgm-exporter tells of 1 GPUs']);
    t.same(read(dcgmCard(DCGM_A) + dcgmCard(DCGM_B)).notes, ['dcgm-exporter tells of 2 GPUs']);
  },
);

t.test('createGpuSeries() reads the names of DCGM 4.6 like the older ones', async (t) => {
  const answer = read(
    dcgm('GPU_TEMP_CELSIUS', DCGM_A, 62) +
      dcgm('BOARD_POWER_WATTS', DCGM_A, 200.5) +
      dcgm('FB_USED_RATIO', DCGM_A, 0.914) +
      dcgm('GPU_UTIL_RATIO', DCGM_A, 55) +
      dcgm('GPU_TEMP_MARGIN_CELSIUS', DCGM_A, 3) +
      dcgm('GPU_TEMP_SLOWDOWN_CELSIUS', DCGM_A, 84) +
      dcgm('BOARD_POWER_LIMIT_ENFORCED_WATTS', DCGM_A, 300) +
      dcgm('BOARD_POWER_LIMIT_DEFAULT_WATTS', DCGM_A, 310),
  );
  t.equal(numberOf(answer, CARD_A, 'temperature'), 62);
  t.equal(numberOf(answer, CARD_A, 'power'), 200.5);
  t.equal(numberOf(answer, CARD_A, 'memory'), 0.914);
  t.equal(
    answer.readings.find(({ quantity }) => quantity === 'utilization')?.value,
    0.55,
    'percent under this name too',
  );
  t.same(answer.hardwareLimits, [
    { component: 'gpu', id: CARD_A, slowdownC: 84, enforcedPowerW: 300, defaultPowerW: 310 },
  ]);
});

t.test('createGpuSeries() makes one card of one UUID, whatever the other labels say', async (t) => {
  const pods = { ...DCGM_A, more: 'container="load",namespace="vsf",pod="load-0"' };
  const answer = read(
    dcgm('GPU_TEMP', DCGM_A, 78) +
      dcgm('GPU_TEMP', pods, 80) +
      dcgm('POWER_USAGE', { ...DCGM_A, gpu: 3 }, 250.1) +
      dcgm('POWER_USAGE', pods, 251.9) +
      nvidiaCard(CARD_A, { temperature_gpu: 79 }),
  );
  t.same(idsOf(answer), [CARD_A]);
  t.equal(numberOf(answer, CARD_A, 'temperature'), 80, 'the worst of the duplicates');
  t.equal(numberOf(answer, CARD_A, 'power'), 251.9);
});

t.test('createGpuSeries() takes instant power and the requested limit only where nothing better is told', async (t) => {
  const instant = dcgm('POWER_USAGE_INSTANT', DCGM_A, 299);
  t.equal(numberOf(read(instant), CARD_A, 'power'), 299);
  t.equal(numberOf(read(instant + dcgm('POWER_USAGE', DCGM_A, 250)), CARD_A, 'power'), 250);
  const limits = read(dcgm('POWER_MGMT_LIMIT', DCGM_A, 300) + dcgm('ENFORCED_POWER_LIMIT', DCGM_A, 260)).hardwareLimits;
  t.match(limits, [{ enforcedPowerW: 260 }]);
});

t.test('createGpuSeries() passes an identical row of a sharing pod on once', async (t) => {
  const rows = Array.from({ length: 20 }, (_, pod) => dcgm('GPU_TEMP', { ...DCGM_A, more: `pod="load-${pod}"` }, 70));
  t.equal(read(rows.join('')).readings.length, 1);
});

t.test('createGpuSeries() takes a card by its PCI address where no UUID is told, and joins both', async (t) => {
  const bare = 'DCGM_FI_DEV_GPU_TEMP{gpu="0",pci_bus_id="0000000F:21:00.0"} 66\n';
  t.same(idsOf(read(bare)), ['000f:21:00.0']);
  const both = read(
    `DCGM_FI_DEV_GPU_TEMP{gpu="0",pci_bus_id="00000000:21:00.0"} 66\n${dcgm('POWER_USAGE', DCGM_A, 90)}`,
  );
  t.same(idsOf(both), [CARD_A]);
  t.equal(numberOf(both, CARD_A, 'temperature'), 66);
});

t.test('createGpuSeries() takes a number for a card only where nothing else is told, and says so', async (t) => {
  const answer = read('DCGM_FI_DEV_GPU_TEMP{gpu="2",UUID="<<<NULL>>>",pci_bus_id=""} 66\n');
  t.same(idsOf(answer), ['dcgm-exporter-gpu-2']);
  t.match(answer.notes.join('\n'), /dcgm-exporter-gpu-2: known by number only/);
  const joined = read(`${dcgm('GPU_TEMP', DCGM_A, 60)}DCGM_FI_DEV_GPU_UTIL{gpu="0"} 50\n`);
  t.same(idsOf(joined), [CARD_A], 'in one body a number stands for the card that bears it there');
});

t.test('createGpuSeries() lists a card that only a limit or a clock names, without readings', async (t) => {
  const answer = read(
    dcgm('GPU_TEMP', DCGM_A, 50) + dcgm('POWER_MGMT_LIMIT', DCGM_A, 300) + dcgm('POWER_MGMT_LIMIT', DCGM_B, 300),
  );
  t.same(idsOf(answer), [CARD_A, CARD_B]);
  t.equal(judged(answer, CARD_B, 'temperature'), undefined);
  t.same(
    answer.hardwareLimits.map(({ enforcedPowerW }) => enforcedPowerW),
    [300, 300],
  );
});

t.test(
  'createGpuSeries() lists a card that stands in any family of dcgm-exporter, by UUID or PCI address',
  async (t) => {
    const families = [
      'MEM_COPY_UTIL',
      'NVLINK_BANDWIDTH_TOTAL',
      'FB_RESERVED',
      'FB_TOTAL',
      'PSTATE',
      'FAN_SPEED',
      'GPU_TEMP_LIMIT',
    ];
    for (const family of families) {
      for (const value of [0, 41, 'NaN', '9223372036854775794', 'ERROR - FAILED TO CONVERT TO STRING']) {
        const answer = read(dcgmCard(DCGM_A) + dcgm(family, DCGM_A, 1) + dcgm(family, DCGM_B, value));
        t.same(idsOf(answer), [CARD_A, CARD_B], `${family} ${value}`);
        t.same(answer.gpus[1], {
          id: CARD_B,
          uuid: CARD_B,
          pciAddress: '0000:22:00.0',
          name: 'NVIDIA RTX 6000',
          vendor: 'nvidia',
          required: true,
        });
        t.ok(
          answer.readings.every(({ id }) => id === CARD_A),
          'and nothing is read of it',
        );
        t.equal(answer.witnesses.length, 1);
      }
    }
    const profiling = 'DCGM_FI_PROF_DRAM_ACTIVE{gpu="1",pci_bus_id="00000000:22:00.0"} 0.5\n';
    t.same(idsOf(read(dcgmCard(DCGM_A) + profiling)), [CARD_A, '0000:22:00.0']);
    const quoted = `{"DCGM_FI_PROF_DRAM_ACTIVE",UUID="${CARD_B}"} 0.5\n`;
    t.same(idsOf(read(dcgmCard(DCGM_A) + quoted)), [CARD_A, CARD_B]);
    const faulty = `DCGM_FI_PROF_DRAM_ACTIVE{UUID="${CARD_B}",pod="say "hi""} 0.5\n`;
    t.same(idsOf(read(dcgmCard(DCGM_A) + faulty)), [CARD_A, CARD_B], 'by what stands before the fault');
  },
);

t.test('createGpuSeries() takes no other entity of dcgm-exporter, and no number, for a card', async (t) => {
  const rows = [
    `DCGM_FI_DEV_NVSWITCH_TEMPERATURE_CURRENT{nvswitch="nvswitch0",pci_bus_id="00000000:05:00.0"} 40`,
    `DCGM_FI_DEV_NVLINK_COUNT_TX_BYTES{nvlink="3",nvswitch="nvswitch0",UUID="${CARD_B}"} 40`,
    'DCGM_FI_DEV_CPU_TEMP_CURRENT{cpu="0",Hostname="a"} 40',
    'DCGM_FI_DEV_CPU_UTIL_TOTAL{cpucore="5",cpu="0",Hostname="a"} 40',
    'DCGM_FI_DEV_MEM_COPY_UTIL{gpu="7"} 40',
    'DCGM_FI_DEV_MEM_COPY_UTIL 40',
    'DCGM_FI_DRIVER_VERSION{Hostname="a"} 590.48.01',
  ];
  for (const row of rows) {
    const answer = read(`${dcgmCard(DCGM_A)}${row}\n`);
    t.same([idsOf(answer), answer.gpuSigns, answer.notes], [[CARD_A], [], ['dcgm-exporter tells of 1 GPUs']], row);
  }
});

t.test('createGpuSeries() takes a MIG instance that stands in one family only for a part of its card', async (t) => {
  const instance = (gpu: DcgmCard, id: number): DcgmCard => ({
    ...gpu,
    more: `GPU_I_PROFILE="1g.6gb",GPU_I_ID="${id}"`,
  });
  const engines = [3, 4].map((id) => dcgm('PSTATE', instance(DCGM_B, id), 0)).join('');
  t.same(idsOf(read(dcgmCard(DCGM_A) + engines)), [CARD_A, CARD_B]);
});

t.test('createGpuSeries() takes every blank code of DCGM for no value, in whatever width', async (t) => {
  const causes = (text: string): unknown => {
    const answer = read(dcgm('POWER_USAGE', DCGM_A, text) + dcgm('FB_USED', DCGM_A, text) + dcgm('FB_FREE', DCGM_A, 5));
    return [judged(answer, CARD_A, 'power')?.cause, judged(answer, CARD_A, 'memory')?.cause];
  };
  for (const code of ['9223372036854775792', '9223372036854775794', '9223372036854775807']) {
    t.same(causes(code), ['not-supported', 'not-supported'], code);
  }
  t.same(causes('2147483634'), ['not-supported', 'not-supported']);
  t.same(causes('2147483632'), ['unreadable', 'unreadable'], 'blank: the driver may tell it later');
  t.same(causes('2147483647'), ['unreadable', 'unreadable']);
  t.same(causes('140737488355330.000000'), ['not-supported', 'not-supported']);
  t.equal(
    numberOf(read(dcgm('POWER_USAGE', DCGM_A, 2147483631)), CARD_A, 'power'),
    2147483631,
    'the domain refuses that',
  );
});

t.test('createGpuSeries() takes no throttling out of a blank code', async (t) => {
  for (const code of ['2147483632', '2147483634', '9223372036854775794']) {
    t.same(read(dcgm('CLOCKS_EVENT_REASONS', DCGM_A, code)).throttledGpus, [], code);
  }
});

t.test('createGpuSeries() tells HW thermal slowdown and HW power brake, and no other clock event', async (t) => {
  const reason = (bits: number): string | undefined =>
    read(dcgm('CLOCKS_EVENT_REASONS', DCGM_A, bits)).throttledGpus[0]?.reason;
  for (const bits of [0, 1, 2, 4, 8, 0x10, 0x20, 0x100, 0x13f]) t.equal(reason(bits), undefined, String(bits));
  t.match(reason(0x40), /^HW thermal slowdown \(/);
  t.match(reason(0x80), /^HW power brake \(/);
  t.match(reason(2 ** 40 + 0xc4), /^HW thermal slowdown and HW power brake/, 'a mask wider than 32 bits');
  const older = read(dcgm('CLOCK_THROTTLE_REASONS', DCGM_A, 0x48));
  t.same(
    older.throttledGpus.map(({ gpu }) => gpu),
    [CARD_A],
  );
});

t.test('createGpuSeries() counts the power and temperature of a card once for all of its MIG instances', async (t) => {
  const instance = (id: number) => ({ ...DCGM_A, more: `GPU_I_PROFILE="1g.6gb",GPU_I_ID="${id}"` });
  const answer = read(
    [3, 4, 5]
      .map((id) => dcgm('POWER_USAGE', instance(id), 150 + id / 10) + dcgm('GPU_TEMP', instance(id), 61))
      .join(''),
  );
  t.same(idsOf(answer), [CARD_A]);
  t.equal(numberOf(answer, CARD_A, 'power'), 150.5);
});

t.test('createGpuSeries() judges the fullest MIG instance, and none while one cannot be read', async (t) => {
  const instance = (id: number) => ({ ...DCGM_A, more: `GPU_I_PROFILE="1g.6gb",GPU_I_ID="${id}"` });
  const memory = (id: number, used: number | string, free: number | string): string =>
    dcgm('FB_USED', instance(id), used) + dcgm('FB_FREE', instance(id), free);
  const answer = read(memory(3, 100, 5900) + memory(4, 5700, 300));
  t.equal(numberOf(answer, CARD_A, 'memory'), 0.95, 'all together 48 %');
  t.match(judged(answer, CARD_A, 'memory')?.origin, /part 4/);
  for (const bad of ['NaN', '-1', '9223372036854775794']) {
    t.equal(numberOf(read(memory(3, 100, 5900) + memory(4, bad, 300)), CARD_A, 'memory'), null, bad);
  }
  const half = read(memory(3, 100, 5900) + dcgm('FB_USED', instance(4), 10));
  t.match(judged(half, CARD_A, 'memory'), { value: null, origin: /part 4: neither what is free nor the size is told/ });
  const rejected = read(memory(3, 100, 5900) + dcgm('FB_USED', instance(4), 'ERROR - FAILED TO CONVERT TO STRING'));
  t.equal(numberOf(rejected, CARD_A, 'memory'), null, 'the line that could not be read may be the fullest');
});

t.test('createGpuSeries() misses the memory of a MIG card while it names an instance without any', async (t) => {
  const instance = (id: number) => ({ ...DCGM_A, more: `GPU_I_PROFILE="1g.6gb",GPU_I_ID="${id}"` });
  const memory = (id: number, used: number): string =>
    dcgm('FB_USED', instance(id), used) + dcgm('FB_FREE', instance(id), 100 - used);
  const whole = dcgm('FB_USED', DCGM_A, 20) + dcgm('FB_FREE', DCGM_A, 80);
  for (const family of ['GPU_TEMP', 'POWER_USAGE', 'SM_CLOCK', 'PSTATE']) {
    const named = dcgm(family, instance(5), 61);
    for (const rest of ['', whole, dcgm('FB_USED_RATIO', instance(4), 0.1)]) {
      const lost = judged(read(memory(3, 10) + memory(4, 10) + named + rest), CARD_A, 'memory');
      t.match(lost, { value: null, cause: 'no-sensor', origin: /^dcgm-exporter memory, part 5: it is there/ }, family);
    }
    t.equal(numberOf(read(memory(3, 10) + named + memory(5, 95)), CARD_A, 'memory'), 0.95, family);
    t.equal(numberOf(read(memory(3, 10) + named + dcgm('FB_USED_RATIO', instance(5), 0.9)), CARD_A, 'memory'), 0.9);
    t.equal(numberOf(read(whole + named), CARD_A, 'memory'), 0.2, 'a release that tells memory of the whole card only');
  }
  const unused = memory(3, 10) + dcgm('FB_USED', instance(5), 0) + dcgm('FB_FREE', instance(5), 0);
  t.equal(numberOf(read(unused), CARD_A, 'memory'), 0.1, 'one without memory of its own tells that');
  t.equal(numberOf(read(dcgmCard(DCGM_A) + memory(3, 10)), CARD_A, 'memory'), 22_000 / 24_100, 'the card beside them');
  t.equal(judged(read(dcgm('GPU_TEMP', instance(3), 61)), CARD_A, 'memory'), undefined, 'nobody has told any');
});

t.test('createGpuSeries() takes no share of the whole card for that of instances that have told theirs', async (t) => {
  const series = engine();
  const instance = { ...DCGM_A, more: 'GPU_I_ID="3"' };
  const whole = dcgm('FB_USED', DCGM_A, 20) + dcgm('FB_FREE', DCGM_A, 80) + dcgm('GPU_TEMP', instance, 61);
  t.equal(numberOf(read(whole, series), CARD_A, 'memory'), 0.2);
  const told = dcgm('FB_USED', instance, 95) + dcgm('FB_FREE', instance, 5);
  t.equal(numberOf(read(whole + told, series), CARD_A, 'memory'), 0.95);
  t.equal(numberOf(read(whole, series), CARD_A, 'memory'), null);
  const undivided = dcgm('FB_USED', DCGM_A, 20) + dcgm('FB_FREE', DCGM_A, 80);
  t.equal(numberOf(read(undivided, series), CARD_A, 'memory'), 0.2, 'the instances are gone');
});

t.test('createGpuSeries() sees a full instance behind an emptier card', async (t) => {
  const bare = CARD_A.replace('GPU-', '');
  const mig = (id: number, used: number, free: number): string =>
    `nvidia_smi_mig_memory_used_bytes{gpu_instance_id="${id}",uuid="${bare}"} ${used}\n` +
    `nvidia_smi_mig_memory_free_bytes{gpu_instance_id="${id}",uuid="${bare}"} ${free}\n`;
  t.equal(numberOf(read(nvidiaCard(CARD_A) + mig(2, 1e9, 3e9) + mig(7, 19e9, 1e9)), CARD_A, 'memory'), 0.95);
  const named = `nvidia_smi_mig_info{gpu_instance_id="7",mig_uuid="292b7eb0-0beb-5abe-04b8-475f1ff17b99",uuid="${bare}"} 1\n`;
  t.equal(numberOf(read(nvidiaCard(CARD_A) + mig(2, 1e9, 3e9) + named), CARD_A, 'memory'), null);
  const other = read(nvidiaCard(CARD_A) + named);
  t.same(
    [idsOf(other), numberOf(other, CARD_A, 'memory')],
    [[CARD_A], 0.25],
    'a driver that tells no memory of instances',
  );
});

t.test('createGpuSeries() takes used 0 and free 0 for no share', async (t) => {
  t.match(judged(read(dcgm('FB_USED', DCGM_A, 0) + dcgm('FB_FREE', DCGM_A, 0)), CARD_A, 'memory'), {
    value: null,
    cause: 'invalid',
  });
  t.equal(numberOf(read(dcgm('FB_USED', DCGM_A, 0) + dcgm('FB_FREE', DCGM_A, 10)), CARD_A, 'memory'), 0);
});

t.test('createGpuSeries() makes missing what a rejected line would have told, and names the card', async (t) => {
  const unescaped = dcgm('GPU_TEMP', { ...DCGM_A, more: 'pod="say "hi""' }, 84);
  const answer = read(unescaped + dcgm('POWER_USAGE', DCGM_A, 90) + dcgm('GPU_TEMP', DCGM_B, 60));
  t.same(idsOf(answer).sort(), [CARD_A, CARD_B]);
  t.match(judged(answer, CARD_A, 'temperature'), { value: null, cause: 'invalid', origin: /GPU_TEMP: line 1: / });
  const noComma = read(
    `DCGM_FI_DEV_GPU_TEMP{gpu="0",UUID="${CARD_A}",pci_bus_id="00000000:21:00.0"device="nvidia0"} 71\n`,
  );
  t.equal(numberOf(noComma, CARD_A, 'temperature'), null);
  const noValue = read(dcgm('GPU_TEMP', DCGM_A, ''));
  t.equal(numberOf(noValue, CARD_A, 'temperature'), null, 'an empty value is not 0');
  const alone = read(`DCGM_FI_DEV_GPU_TEMP{UUID="${CARD_A}"} hot\n`);
  t.same(idsOf(alone), [CARD_A], 'a card that nothing else names');
  t.equal(numberOf(alone, CARD_A, 'temperature'), null);
  const behind = read(`DCGM_FI_DEV_GPU_TEMP{gpu="0",device=nvidia0,UUID="${CARD_A}"} 71\n`);
  t.same(idsOf(behind), [CARD_A], 'its UUID stands behind the fault');
});

t.test('createGpuSeries() takes no card out of half a UUID, and notes the line', async (t) => {
  const answer = read('DCGM_FI_DEV_GPU_TEMP{gpu="0",UUID="GPU-aaaaaaaa" 71\n');
  t.same(answer.gpus, []);
  t.match(answer.notes.join('\n'), /a line of DCGM_FI_DEV_GPU_TEMP tells nobody whose it is: line 1: /);
});

t.test(
  'createGpuSeries() finds the card of a rejected line by its number where the body names it otherwise',
  async (t) => {
    const answer = read(`${dcgm('POWER_USAGE', DCGM_B, 90)}DCGM_FI_DEV_GPU_TEMP{gpu="1",device=nvidia1} 71\n`);
    t.same(idsOf(answer), [CARD_B]);
    t.equal(numberOf(answer, CARD_B, 'temperature'), null);
  },
);

t.test('createGpuSeries() keeps the good row of a card beside a rejected one', async (t) => {
  const answer = read(dcgm('GPU_TEMP', DCGM_A, 'garbage') + dcgm('GPU_TEMP', { ...DCGM_A, more: 'pod="a"' }, 70));
  t.equal(numberOf(answer, CARD_A, 'temperature'), 70);
});

t.test('createGpuSeries() passes NaN, infinities and impossible numbers on as no good number', async (t) => {
  for (const text of ['NaN', '+Inf', '-Inf', '0', '4294967295', '-5']) {
    const answer = read(dcgm('GPU_TEMP', DCGM_A, text) + dcgm('GPU_TEMP', { ...DCGM_A, more: 'pod="a"' }, 55));
    t.equal(numberOf(answer, CARD_A, 'temperature'), 55, `${text} hides no good duplicate`);
  }
});

t.test('createGpuSeries() gives a stamped sample its own time, on our clock', async (t) => {
  const stamped = dcgm('GPU_TEMP', DCGM_A, `58 ${SOURCE_WALL_MS - 7_000}`);
  t.equal(judged(read(stamped), CARD_A, 'temperature')?.sampledAtMs, 3_000);
  t.equal(judged(read(dcgm('GPU_TEMP', DCGM_A, 58)), CARD_A, 'temperature')?.sampledAtMs, undefined);
  const old = judged(read(dcgm('GPU_TEMP', DCGM_A, '55 -1')), CARD_A, 'temperature');
  t.ok((old?.sampledAtMs ?? 0) < -1e12, 'a nonsense stamp makes it very old');
  const memory = read(
    dcgm('FB_USED', DCGM_A, `1 ${SOURCE_WALL_MS - 9_000}`) + dcgm('FB_FREE', DCGM_A, `1 ${SOURCE_WALL_MS}`),
  );
  t.equal(judged(memory, CARD_A, 'memory')?.sampledAtMs, 1_000, 'as old as the older half');
});

t.test('createGpuSeries() takes no witness from a counter that is 0, blank or absent', async (t) => {
  for (const value of ['0', '9223372036854775794', 'NaN']) {
    t.same(read(dcgm('TOTAL_ENERGY_CONSUMPTION', DCGM_A, value)).witnesses, [], value);
  }
  const passing = read(dcgm('TOTAL_ENERGY_CONSUMPTION', DCGM_A, 2147483634));
  t.equal(passing.witnesses[0]?.value, 2147483634, 'a counter in mJ passes the 32-bit codes');
});

t.test('createGpuSeries() tells faults in notes and judges nothing by them', async (t) => {
  const answer = read(
    dcgmCard(DCGM_A) +
      dcgm('XID_ERRORS', DCGM_A, 31) +
      dcgm('XID_ERRORS', DCGM_B, 79) +
      `nvidia_smi_xid_errors_total{uuid="${CARD_A.replace('GPU-', '')}",xid="48"} 2\n`,
  );
  const notes = answer.notes.join('\n');
  t.match(notes, new RegExp(`GPU ${CARD_A}: last fault Xid 31$`, 'm'));
  t.match(notes, /last fault Xid 79, the card has fallen off the bus/);
  t.match(notes, /2 faults Xid 48, double-bit memory error/);
  t.equal(numberOf(answer, CARD_A, 'temperature'), 61);
  t.notMatch(read(dcgm('XID_ERRORS', DCGM_A, 0)).notes.join('\n'), /Xid/);
});

t.test('createGpuSeries() gives unified memory only to chips that have it and tell none', async (t) => {
  const gb10 = (more: string): string =>
    `DCGM_FI_DEV_GPU_TEMP{gpu="0",UUID="${CARD_A}",modelName="NVIDIA GB10"} 55\n${more}`;
  const blank = `DCGM_FI_DEV_FB_USED{gpu="0",UUID="${CARD_A}",modelName="NVIDIA GB10"} 9223372036854775794\n`;
  t.equal(read(gb10('')).gpus[0]?.unifiedMemory, true);
  t.equal(read(gb10(blank)).gpus[0]?.unifiedMemory, true);
  t.equal(read(dcgm('GPU_TEMP', DCGM_A, 55)).gpus[0]?.unifiedMemory, undefined, 'no FB_USED in the CSV');
});

t.test('createGpuSeries() leaves out what one body names beyond 64 cards, with a note', async (t) => {
  const uuid = (n: number): string => `GPU-aaaaaaaa-0000-4000-8000-${String(n).padStart(12, '0')}`;
  const body = Array.from({ length: 70 }, (_, n) => `DCGM_FI_DEV_GPU_TEMP{UUID="${uuid(n)}"} 50\n`).join('');
  const answer = read(body);
  t.equal(answer.gpus.length, 64);
  t.match(answer.notes[0], /more than 64 are named; 6 are left out/);
  const faults = Array.from({ length: 60 }, (_, n) => `DCGM_FI_DEV_XID_ERRORS{UUID="${uuid(n)}"} 79\n`).join('');
  t.equal(read(faults).notes.length, 30, 'nor more notes than 30');
});

t.test('createGpuSeries() forgets what cards gave when it remembers 512 such facts', async (t) => {
  const uuid = (n: number): string => `GPU-aaaaaaaa-0000-4000-8000-${String(n).padStart(12, '0')}`;
  const cards = (from: number, names: readonly string[]): string =>
    Array.from({ length: 64 }, (_, n) =>
      names.map((name) => `DCGM_FI_DEV_${name}{UUID="${uuid(from + n)}"} 50\n`).join(''),
    ).join('');
  const series = engine();
  const instant = (): number | null | undefined =>
    numberOf(read(`DCGM_FI_DEV_POWER_USAGE_INSTANT{UUID="${uuid(0)}"} 90\n`, series), uuid(0), 'power');
  for (const from of [0, 64, 128, 192]) read(cards(from, ['GPU_TEMP', 'POWER_USAGE']), series);
  t.equal(instant(), undefined, 'its average is lost');
  read(cards(256, ['GPU_TEMP']), series);
  t.equal(instant(), 90, 'nobody knows that it had one');
});

t.test('createGpuSeries() says nothing of a body without GPUs', async (t) => {
  const answer = read('node_load1 3\n');
  t.same(answer, {
    readings: [],
    gpus: [],
    gpuSigns: [],
    witnesses: [],
    throttledGpus: [],
    hardwareLimits: [],
    notes: [],
    ignored: [],
  });
});

t.test('createGpuSeries() explains what it does not read', async (t) => {
  const body = `${dcgmCard(DCGM_A)}${nvidiaCard(CARD_A)}kepler_node_gpu_watts{gpu="1"} 70\nnode_load1 3\n`;
  const { ignored } = createGpuSeries({ ...OPTIONS, explains: true }).read(scrapeOf(body, { all: true }));
  const why = (what: string): string | undefined => ignored.find((each) => each.what === what)?.why;
  t.match(why('nvidia_smi_temperature_gpu_tlimit'), /not a temperature/);
  t.match(why('DCGM_FI_DEV_MEM_COPY_UTIL'), /memory bus/);
  t.match(why('DCGM_FI_DEV_FB_RESERVED'), /reserved/);
  t.match(why('Kepler kepler_node_gpu_watts'), /no label tells which card/);
  t.equal(why('node_load1'), undefined, "node_exporter's are another's word");
  t.equal(why('DCGM_FI_DEV_GPU_TEMP'), undefined);
  t.match(why('nvidia_smi_memory_reserved_bytes'), /reserved/);
  t.match(
    ignored.find(({ what }) => what === 'DCGM_FI_DEV_FB_RESERVED'),
    { says: '476' },
  );
  const many = Array.from({ length: 120 }, (_, n) => `DCGM_FI_PROF_${n}{UUID="${CARD_A}"} 1\n`).join('');
  t.equal(createGpuSeries({ ...OPTIONS, explains: true }).read(scrapeOf(many, { all: true })).ignored.length, 100);
});

t.test(
  'createGpuSeries() judges the share that an exporter tells itself, and none while one is no share',
  async (t) => {
    const instance = (id: number) => ({ ...DCGM_A, more: `GPU_I_ID="${id}"` });
    const ratios = (other: number | string): string =>
      dcgm('FB_USED_RATIO', instance(3), 0.2) + dcgm('FB_USED_RATIO', instance(4), other);
    t.equal(numberOf(read(ratios(0.93)), CARD_A, 'memory'), 0.93);
    for (const bad of ['NaN', '93', '140737488355330']) {
      const told = numberOf(read(ratios(bad)), CARD_A, 'memory');
      t.notOk(typeof told === 'number' && told <= 1, bad);
    }
  },
);
