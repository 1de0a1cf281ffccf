// GPUs in the bodies of nvidia_gpu_exporter, AMD's and Intel's exporters and Kepler.
import t from 'tap';
import type { Quantity } from '../../src/domain/reading.ts';
import { createGpuSeries } from '../../src/sources/gpu-series.ts';
import type { SeriesAnswer, SeriesEngine } from '../../src/sources/scrape.ts';
import {
  AMD_UUID,
  amd,
  CARD_A,
  CARD_B,
  DCGM_A,
  dcgm,
  intel,
  judged,
  nvidiaCard,
  scrapeOf,
} from '../fixtures/gpu-exporters.ts';

const OPTIONS = { tctlOffsetC: 0, zfsCacheIsAvailable: false, explains: false };

const engine = (): SeriesEngine => createGpuSeries(OPTIONS);
const read = (body: string, series = engine()): SeriesAnswer => series.read(scrapeOf(body));
const numberOf = (answer: SeriesAnswer, id: string, quantity: Quantity): number | null | undefined =>
  judged(answer, id, quantity)?.value;
const idsOf = (answer: SeriesAnswer): string[] => answer.gpus.map(({ id }) => id);

t.test('createGpuSeries() reads the throttling flags of nvidia_gpu_exporter', async (t) => {
  t.same(read(nvidiaCard(CARD_A)).throttledGpus, []);
  const hot = read(nvidiaCard(CARD_A, { clocks_event_reasons_hw_thermal_slowdown: 1 }));
  t.match(hot.throttledGpus, [{ gpu: CARD_A, reason: /^HW thermal slowdown/ }]);
  const braked = read(nvidiaCard(CARD_A, { clocks_event_reasons_hw_power_brake_slowdown: 1 }));
  t.match(braked.throttledGpus, [{ gpu: CARD_A, reason: /^HW power brake/ }]);
});

t.test('createGpuSeries() judges by instant power only a card that never gave its average', async (t) => {
  const instantOnly = nvidiaCard(CARD_A, { power_draw_watts: null, power_draw_average_watts: null });
  t.equal(numberOf(read(instantOnly), CARD_A, 'power'), 225.68);
  const series = engine();
  t.equal(numberOf(read(nvidiaCard(CARD_A), series), CARD_A, 'power'), 231.95);
  t.equal(judged(read(instantOnly, series), CARD_A, 'power'), undefined, 'the average is lost, and nothing hides it');
});

t.test('createGpuSeries() never reads a T.Limit margin as a temperature', async (t) => {
  const answer = read(nvidiaCard(CARD_A, { temperature_gpu: null, temperature_memory: null }));
  t.notOk(answer.readings.some(({ quantity }) => quantity === 'temperature'));
  const margin = read(dcgm('GPU_TEMP_LIMIT', DCGM_A, 26) + dcgm('SM_CLOCK', DCGM_A, 1));
  t.same(margin.readings, []);
  t.same(margin.hardwareLimits, []);
});

t.test('createGpuSeries() lists cards and gives no readings while nvidia_gpu_exporter fails to collect', async (t) => {
  const series = engine();
  const answer = read(
    `${nvidiaCard(CARD_A)}nvidia_smi_last_collect_success 0\nnvidia_smi_command_exit_code 9\n`,
    series,
  );
  t.same(answer.readings, []);
  t.same(answer.throttledGpus, []);
  t.same(idsOf(answer), [CARD_A]);
  t.match(answer.gpuSigns, [
    { kind: 'nvidia-smi-failed', detail: /nvidia_smi_last_collect_success is 0/ },
    { kind: 'nvidia-smi-failed', detail: /nvidia_smi_command_exit_code is 9/ },
  ]);
  const empty = read('nvidia_smi_last_collect_success 0\n');
  t.equal(empty.gpuSigns.length, 1, 'a sign of a GPU without a card');
  const good = read(`${nvidiaCard(CARD_A)}nvidia_smi_last_collect_success 1\nnvidia_smi_command_exit_code 0\n`, series);
  t.same(good.gpuSigns, []);
  t.equal(numberOf(good, CARD_A, 'temperature'), 59);
});

t.test(
  'createGpuSeries() goes by the word of success alone, and takes none that cannot be read for a failure',
  async (t) => {
    const after = (line: string): SeriesAnswer => read(`${nvidiaCard(CARD_A)}${line}\n`);
    for (const word of ['0', 'NaN', 'x']) {
      const failed = after(`nvidia_smi_last_collect_success ${word}`);
      t.same(failed.readings, [], word);
      t.match(failed.gpuSigns, [{ kind: 'nvidia-smi-failed', detail: /nvidia_smi_last_collect_success/ }], word);
    }
    const exited = after('nvidia_smi_command_exit_code 9');
    t.equal(exited.gpuSigns.length, 1);
    t.equal(numberOf(exited, CARD_A, 'temperature'), 59, 'the tool may fail for one card of many');
    for (const line of ['nvidia_smi_command_exit_code x', `nvidia_smi_power_draw_watts{uuid="${CARD_A}"} x`]) {
      const answer = after(line);
      t.same(answer.gpuSigns, [], line);
      t.equal(numberOf(answer, CARD_A, 'temperature'), 59);
    }
  },
);

t.test('createGpuSeries() takes the time of the last collection for a witness of the whole source', async (t) => {
  const name = 'nvidia_smi_last_collect_success_timestamp_seconds';
  t.same(read(`${name} 1767225600\n`).witnesses, [{ of: 'source', name, value: 1_767_225_600 }]);
  t.same(read(`${name} 1767225600\n`).gpuSigns, [], 'which is no failure');
  t.same(read(`${name} NaN\nnvidia_smi_last_collect_success 1\n`).witnesses, [], 'nothing else must ever move');
});

t.test('createGpuSeries() takes the worst of an AMD card, whose other partitions tell 0', async (t) => {
  const first = { gpu_uuid: AMD_UUID, serial_number: '692251001124', gpu_partition_id: '0' };
  const second = { ...first, gpu_uuid: '72ff740f-0001-1000-804c-3b58bf67050e', gpu_partition_id: '1' };
  const answer = read(
    amd('gpu_package_power', second, 0) +
      amd('gpu_package_power', first, 512) +
      amd('gpu_edge_temperature', first, 0) +
      amd('gpu_junction_temperature', first, 71) +
      amd('gpu_junction_temperature', second, 0) +
      amd('gpu_used_vram', first, 90_000) +
      amd('gpu_free_vram', first, 10_000) +
      amd('gpu_used_vram', second, 0) +
      amd('gpu_free_vram', second, 0),
  );
  const id = `GPU-${AMD_UUID}`;
  t.match(answer.gpus, [{ id, uuid: id, vendor: 'amd', required: true }]);
  t.equal(answer.gpus.length, 1, 'partitions of one serial number are one card');
  t.equal(numberOf(answer, id, 'power'), 512);
  t.equal(numberOf(answer, id, 'temperature'), 71, 'no edge: the hot spot is judged');
  t.equal(numberOf(answer, id, 'memory'), 0.9);
});

t.test('createGpuSeries() judges an AMD card by its edge, and not by the hot spot when the edge is lost', async (t) => {
  const card = { gpu_uuid: AMD_UUID };
  const id = `GPU-${AMD_UUID}`;
  const series = engine();
  const spot = amd('amd_gpu_junction_temperature', card, 96);
  t.equal(numberOf(read(amd('amd_gpu_edge_temperature', card, 78) + spot, series), id, 'temperature'), 78);
  const lost = read(amd('amd_gpu_edge_temperature', card, 0) + spot, series);
  t.equal(numberOf(lost, id, 'temperature'), 0, 'which the domain refuses');
  t.equal(judged(read(spot, series), id, 'temperature'), undefined);
});

t.test("createGpuSeries() takes all ones for no value of AMD's, and 65,535 MB for memory", async (t) => {
  const card = { gpu_uuid: AMD_UUID };
  const id = `GPU-${AMD_UUID}`;
  for (const text of ['65535', '4294967295', '2147483647', '18446744073709551615']) {
    t.match(judged(read(amd('gpu_package_power', card, text)), id, 'power'), { value: null, cause: 'invalid' }, text);
  }
  t.equal(numberOf(read(amd('gpu_power_usage', card, 255)), id, 'power'), 255, 'no power is eight bits wide');
  const full = read(amd('gpu_used_vram', card, 65_535) + amd('gpu_free_vram', card, 65_535));
  t.equal(numberOf(full, id, 'memory'), 0.5);
  const absent = read(amd('gpu_used_vram', card, '18446744073709551615') + amd('gpu_free_vram', card, 100));
  t.equal(numberOf(absent, id, 'memory'), null);
  const unused = read(amd('gpu_free_vram', card, 100) + amd('gpu_total_vram', card, 200));
  t.match(judged(unused, id, 'memory'), { value: null, origin: /what is used is not told/ });
});

t.test('createGpuSeries() knows an AMD card by serial number where no UUID is told', async (t) => {
  const answer = read(amd('gpu_edge_temperature', { serial_number: '692251001124' }, 60));
  t.same(idsOf(answer), ['device-metrics-exporter-serial-692251001124']);
  t.same(idsOf(read(amd('gpu_edge_temperature', { serial_number: '000000' }, 60))), ['device-metrics-exporter-gpu-0']);
});

t.test('createGpuSeries() reads amd_smi_exporter in m°C and µW, and refuses other units', async (t) => {
  const rows = (temperature: number, power: number): string =>
    `amd_gpu_current_temperature{gpu_current_temperature="0",productname="Instinct"} ${temperature}\n` +
    `amd_gpu_power{gpu_power="0",productname="Instinct"} ${power}\n`;
  const id = 'amd_smi_exporter-gpu-0';
  const answer = read(rows(85_000, 152_000_000));
  t.same(idsOf(answer), [id]);
  t.equal(numberOf(answer, id, 'temperature'), 85);
  t.equal(numberOf(answer, id, 'power'), 152);
  const plain = read(rows(65, 150));
  t.equal(numberOf(plain, id, 'temperature'), null, '65 would be 0.065 °C');
  t.equal(numberOf(plain, id, 'power'), null);
  t.equal(numberOf(read(rows(-1, -1)), id, 'power'), null, '-1 is not read');
});

t.test("createGpuSeries() reads xpumd: the GPU's maximum, the card's power, memory of the device", async (t) => {
  const answer = read(
    intel('hw_gpu_info', 'hw_model="Intel(R) Arc(TM) Pro B60 Graphics"', 1) +
      intel('hw_temperature_celsius', 'hw_sensor_location="gpu",statistic="max"', 66) +
      intel('hw_temperature_celsius', 'hw_sensor_location="gpu",statistic="min"', 99) +
      intel('hw_temperature_celsius', 'hw_sensor_location="memory",statistic="max"', 88) +
      intel('hw_power_watts', 'hw_sensor_location="card"', 120) +
      intel('hw_power_watts', 'hw_sensor_location="gpu"', 199) +
      intel('hw_memory_usage_bytes', 'hw_memory_location="device",hw_name="mem-1"', 3e9) +
      intel('hw_memory_size_bytes', 'hw_memory_location="device",hw_name="mem-1"', 12e9) +
      'hw_temperature_celsius{hw_id="cpu0",hw_sensor_location="gpu"} 91\n',
  );
  const id = '0000:03:00.0';
  t.match(answer.gpus, [{ id, pciAddress: id, vendor: 'intel', name: 'Intel(R) Arc(TM) Pro B60 Graphics' }]);
  t.equal(answer.gpus.length, 1, 'hw_ names are for any hardware: without a PCI address it is no card');
  t.equal(numberOf(answer, id, 'temperature'), 66);
  t.equal(numberOf(answer, id, 'power'), 120, 'locations contain each other: never a sum');
  t.equal(numberOf(answer, id, 'memory'), 0.25);
  t.equal(numberOf(read(intel('hw_power_watts', 'hw_sensor_location="package"', 80)), id, 'power'), 80);
  const hottest = (of: string, celsius: number): string =>
    intel('hw_temperature_celsius', `hw_sensor_location="${of}",statistic="max"`, celsius);
  t.equal(numberOf(read(hottest('package', 90)), id, 'temperature'), 90);
  t.equal(numberOf(read(hottest('package', 90) + hottest('gpu', 66)), id, 'temperature'), 66);
  t.equal(
    numberOf(read(intel('hw_memory_utilization_ratio', 'hw_memory_location="device"', 0.68)), id, 'memory'),
    0.68,
  );
});

t.test('createGpuSeries() reads the power of a card from Kepler only with its UUID', async (t) => {
  const answer = read(
    `kepler_node_gpu_watts{gpu="0",gpu_uuid="${CARD_A}",vendor="nvidia"} 65.5\nkepler_node_gpu_watts{gpu="1"} 70\n`,
  );
  t.same(idsOf(answer), [CARD_A]);
  t.equal(numberOf(answer, CARD_A, 'power'), 65.5);
});

t.test(
  "createGpuSeries() misses a temperature where a line of a card's exporter is lost, whatever else uses its names",
  async (t) => {
    for (const [body, line] of [
      [amd('gpu_edge_temperature', { gpu_uuid: AMD_UUID }, 60), 'gpu_edge_temperature{gpu'],
      [intel('hw_power_watts', 'hw_sensor_location="card"', 120), 'hw_temperature_celsius{hw'],
    ] as const) {
      const { readings } = read(`${body}${line}\n`);
      t.match(
        readings.filter(({ id }) => id === undefined),
        [{ component: 'gpu', quantity: 'temperature', value: null, cause: 'invalid' }],
        line,
      );
      t.same(read(`${line}\n`).readings, [], 'without a card of it nobody knows that it is one');
    }
  },
);

t.test('createGpuSeries() judges a row of nvidia_gpu_exporter that tells no card', async (t) => {
  t.match(read('nvidia_smi_temperature_gpu 97\n').readings, [{ component: 'gpu', quantity: 'temperature', value: 97 }]);
});

t.test("createGpuSeries() lists a card that stands in any family of AMD's or of nvidia_gpu_exporter", async (t) => {
  const amdLost = 'GPU-72ff740f-0000-1000-804c-3b58bf67050f';
  const rows = [
    ...['gpu_clock', 'gpu_ecc_uncorrect_total', 'amd_gpu_fan_speed'].flatMap((name) => [
      [amd(name, { gpu_id: '1', gpu_uuid: amdLost.replace('GPU-', '') }, 'NaN'), amdLost],
      [
        amd(name, { gpu_id: '1', serial_number: '692251001124' }, 65_535),
        'device-metrics-exporter-serial-692251001124',
      ],
    ]),
    ...['pstate', 'memory_total_bytes', 'fan_speed_ratio'].map((name) => [
      `nvidia_smi_${name}{uuid="${CARD_B.replace('GPU-', '')}"} 0\n`,
      CARD_B,
    ]),
  ];
  const here = amd('gpu_edge_temperature', { gpu_uuid: AMD_UUID, serial_number: '1' }, 60) + nvidiaCard(CARD_A);
  const before = read(here);
  for (const [row = '', id] of rows) {
    const answer = read(here + row);
    t.same(idsOf(answer).sort(), [...idsOf(before), id].sort(), row);
    t.same(answer.readings, before.readings);
  }
});

t.test("createGpuSeries() takes no row of others under AMD's plain names for a card", async (t) => {
  const here = amd('gpu_edge_temperature', { gpu_uuid: AMD_UUID, serial_number: '1' }, 60);
  for (const row of [
    amd('gpu_nodes_total', { gpu_id: '' }, 8),
    amd('gpu_clock', { gpu_id: '5', serial_number: '000000' }, 8),
    amd('gpu_clock', { gpu_id: '5', serial_number: '1' }, 8),
    'gpu_operator_reconciliation_status 1\n',
    'gpu_clock{gpu_uuid="half"} 1\n',
  ]) {
    const answer = read(here + row);
    t.same([idsOf(answer), answer.gpuSigns], [idsOf(read(here)), []], row);
  }
});
