// AMD's and Intel's cards, and NVIDIA's under nouveau, as node_exporter shows them.
import t from 'tap';
import { createNodeSeries } from '../../src/sources/node-series.ts';
import type { SeriesAnswer } from '../../src/sources/scrape.ts';
import { AMD_CARD, drm, GIB, hwmon, RYZEN_GRAPHICS } from '../fixtures/node-exporter.ts';
import { OPTIONS, readingsIn, readingsOf, scrapeOf } from '../support/node-scrapes.ts';

const read = (body: string): SeriesAnswer => createNodeSeries(OPTIONS).read(scrapeOf(body));
const gpusIn = ({ readings }: SeriesAnswer): Record<string, number | string> =>
  readingsIn({ readings: readings.filter(({ component }) => component === 'gpu') });
const CARD = '0000:00:03_1_0000:0a:00_0';
const ID = '0000:0a:00.0';

t.test(
  "createNodeSeries() reads a card of AMD's by its PCI address: edge, average power, memory, limits",
  async (t) => {
    const answer = read(AMD_CARD + drm('card0', 4 * GIB, 16 * GIB, CARD));
    t.strictSame(answer.gpus, [
      { id: ID, pciAddress: ID, name: 'AMD card (amdgpu), unique id 2f3a', vendor: 'amd', required: true },
    ]);
    t.match(
      answer.readings.filter(({ component }) => component === 'gpu'),
      [
        { id: ID, quantity: 'temperature', value: 61, origin: /^amdgpu edge, node_hwmon_temp_celsius/ },
        { id: ID, quantity: 'temperature', value: 78, informational: true, origin: /^amdgpu junction/ },
        { id: ID, quantity: 'temperature', value: 84, informational: true, origin: /^amdgpu mem/ },
        { id: ID, quantity: 'power', value: 211, origin: /^amdgpu, node_hwmon_power_average_watt/ },
        {
          id: ID,
          quantity: 'memory',
          value: 0.25,
          origin: /^amdgpu, node_drm_memory_vram_used_bytes of card0 of 16.0 GiB/,
        },
        { id: ID, quantity: 'utilization', value: 0.97, informational: true },
      ],
    );
    t.strictSame(answer.hardwareLimits, [{ component: 'gpu', id: ID, enforcedPowerW: 290, defaultPowerW: 300 }]);
  },
);

t.test('createNodeSeries() judges the hot spot only where a card has no edge', async (t) => {
  const mi300 = hwmon(CARD, 'amdgpu', {
    temp2: { label: 'junction', temp_celsius: 71 },
    temp3: { label: 'mem', temp_celsius: 64 },
    power1: { power_watt: 300 },
  });
  t.match(gpusIn(read(mi300)), { [`gpu/${ID}/temperature`]: 71, [`gpu/${ID}/power`]: 300 });
  const silentEdge = hwmon(CARD, 'amdgpu', {
    temp1: { label: 'edge' },
    temp2: { label: 'junction', temp_celsius: 71 },
  });
  t.match(gpusIn(read(silentEdge)), { [`gpu/${ID}/temperature`]: 'unreadable', [`(gpu/${ID}/temperature)`]: 71 });
  const unlabelled = hwmon(CARD, 'radeon', { temp1: { temp_celsius: 66 } });
  t.match(gpusIn(read(unlabelled)), {
    [`gpu/${ID}/temperature`]: 66,
    [`gpu/${ID}/power`]: 'not-supported',
    [`gpu/${ID}/memory`]: 'no-sensor',
  });
  const lostLabel = hwmon(CARD, 'amdgpu', {
    temp2: { label: 'junction', temp_celsius: 71 },
    temp3: { temp_celsius: 64 },
  });
  t.match(
    gpusIn(read(`${lostLabel}node_hwmon_sensor_label{chip="x" label="edge"} 1\n`)),
    { [`gpu/${ID}/temperature`]: 'unreadable' },
    'the label that is lost may be the edge',
  );
  t.match(
    gpusIn(read(`${AMD_CARD}node_hwmon_sensor_label{chip="x" label="mem"} 1\n`)),
    { [`gpu/${ID}/temperature`]: 61 },
    'where the edge is told it is judged',
  );
});

t.test('createNodeSeries() does not read the parts of a card, and explains it', async (t) => {
  const arc = hwmon(CARD, 'xe', {
    temp2: { label: 'pkg', temp_celsius: 60 },
    temp6: { label: 'pcie', temp_celsius: 99 },
  });
  const answer = createNodeSeries({ ...OPTIONS, explains: true }).read(scrapeOf(arc));
  t.strictSame(
    readingsOf(answer, 'gpu', 'temperature').map(({ value }) => value),
    [60],
  );
  t.match(
    answer.ignored.find(({ what }) => what.includes('temp6')),
    { why: '"pcie" is a part of the card' },
  );
});

t.test("createNodeSeries() lists a processor's graphics and requires nothing of it", async (t) => {
  const answer = read(RYZEN_GRAPHICS);
  t.match(answer.gpus, [{ id: '0000:0e:00.0', name: 'AMD integrated graphics (amdgpu)', required: false }]);
  t.ok(readingsOf(answer, 'gpu', 'temperature').every(({ informational }) => informational));
  t.strictSame(gpusIn(answer), {
    '(gpu/0000:0e:00.0/temperature)': 91,
    '(gpu/0000:0e:00.0/power)': 65,
    '(gpu/0000:0e:00.0/memory)': 'no-sensor',
  });
  const unknown = hwmon('0000:00:08_1_0000:0e:00_0', 'amdgpu', { temp1: { label: 'edge', temp_celsius: 40 } });
  t.match(read(unknown).gpus, [{ required: true }], 'what cannot be told apart is required');
  const mi300a = hwmon(CARD, 'amdgpu', { temp2: { label: 'junction', temp_celsius: 50 }, in1: { label: 'vddnb' } });
  t.match(read(mi300a).gpus, [{ required: true }], 'a hot spot is told by cards alone');
  const arc = hwmon(CARD, 'i915', { in1: { label: 'vddnb' } });
  t.match(read(arc).gpus, [{ required: true }], "that label is AMD's");
});

t.test('createNodeSeries() joins the drm collector by chip, and without that only a single card', async (t) => {
  const second = '0000:40:01_1_0000:43:00_0';
  const two = AMD_CARD + AMD_CARD.replaceAll(CARD, second);
  const memoryOf = (answer: SeriesAnswer): (number | string)[] =>
    readingsOf(answer, 'gpu', 'memory').map(({ value, cause }) => value ?? cause ?? '');
  const swapped = drm('card0', 12 * GIB, 16 * GIB, second) + drm('card1', 4 * GIB, 16 * GIB, CARD);
  t.strictSame(memoryOf(read(two + swapped)), [0.25, 0.75]);
  t.strictSame(memoryOf(read(two + drm('card0', GIB, 16 * GIB) + drm('card1', GIB, 16 * GIB))), [
    'no-sensor',
    'no-sensor',
  ]);
  t.strictSame(memoryOf(read(AMD_CARD + drm('card7', GIB, 16 * GIB))), [0.0625]);
  const alone = read(drm('card0', GIB, 16 * GIB, CARD));
  t.match(alone.gpus, [{ id: ID, required: true }], 'its hwmon chip may have failed');
  t.match(gpusIn(alone), { [`gpu/${ID}/temperature`]: 'no-sensor', [`gpu/${ID}/memory`]: 0.0625 });
  t.match(readingsOf(read(AMD_CARD), 'gpu', 'memory'), [{ cause: 'no-sensor', origin: /--collector.drm/ }]);
  t.strictSame(memoryOf(read(two + drm('card0', GIB, 16 * GIB))), ['no-sensor', 'no-sensor'], 'whose of the two?');
  const twoTold = read(AMD_CARD + drm('card0', GIB, 16 * GIB) + drm('card1', 9 * GIB, 16 * GIB));
  t.match(readingsOf(twoTold, 'gpu', 'memory'), [{ cause: 'no-sensor', origin: /has no chip/ }], 'which of the two?');
  const oneLost = read(AMD_CARD + drm('card0', GIB, 16 * GIB) + drm('card1', 9 * GIB, 'x'));
  t.strictSame(memoryOf(oneLost), ['invalid'], 'nor where the line of one cannot be read');
  const besideIntel = read(AMD_CARD + hwmon(second, 'i915', {}) + drm('card0', GIB, 16 * GIB));
  t.strictSame(memoryOf(besideIntel), [0.0625, 'no-sensor'], "the collector tells AMD's cards only");
});

t.test(
  'createNodeSeries() has no memory of a card where a line of the drm collector is lost or half is told',
  async (t) => {
    const memoryOf = (body: string): unknown => readingsOf(read(AMD_CARD + body), 'gpu', 'memory');
    t.match(memoryOf('node_drm_memory_vram_size_bytes{card="card0 9\n'), [{ value: null, cause: 'invalid' }]);
    t.match(memoryOf(`node_drm_memory_vram_size_bytes{card="card0"} ${16 * GIB}\n`), [
      { value: null, cause: 'no-sensor', origin: /^no node_drm_memory_vram_used_bytes of card0/ },
    ]);
  },
);

t.test('createNodeSeries() makes one card of what hwmon and the drm collector tell of it', async (t) => {
  const hwmonChip = `${CARD}_amdgpu`;
  const answer = read(AMD_CARD.replaceAll(CARD, hwmonChip) + drm('card0', GIB, 16 * GIB, CARD));
  t.match(answer.gpus, [{ id: ID }]);
  t.match(gpusIn(answer), { [`gpu/${ID}/temperature`]: 61, [`gpu/${ID}/memory`]: 0.0625 });
  t.equal(answer.notes.filter((note) => note.startsWith('GPUs of node_exporter')).length, 1);
  const other = drm('card0', GIB, 16 * GIB, CARD).replace('vendor="amd"', 'vendor="intel"');
  t.strictSame(read(other).gpus, [], 'amdgpu drives no card of another vendor');
  const unreadable = read(`${drm('card0', GIB, 16 * GIB, CARD)}node_scrape_collector_success{collector="hwmon"} 0\n`);
  t.match(gpusIn(unreadable), { [`gpu/${ID}/temperature`]: 'unreadable' }, 'its sensors are there');
});

t.test("createNodeSeries() takes bit patterns and lines that are none for no value of a card's", async (t) => {
  const odd = hwmon(CARD, 'amdgpu', {
    temp1: { label: 'edge', temp_celsius: 65.535 },
    power1: { power_average_watt: 4294.967295 },
  });
  t.match(gpusIn(read(odd + drm('card0', 0xffffffff, 16 * GIB, CARD))), {
    [`gpu/${ID}/temperature`]: 'invalid',
    [`gpu/${ID}/power`]: 'invalid',
    [`gpu/${ID}/memory`]: 'invalid',
  });
  const rejected = hwmon(CARD, 'amdgpu', {
    temp1: { label: 'edge', temp_celsius: 'hot' },
    power1: { power_average_watt: 'much' },
  });
  t.match(gpusIn(read(rejected + drm('card0', 'full', 16 * GIB, CARD))), {
    [`gpu/${ID}/temperature`]: 'invalid',
    [`gpu/${ID}/power`]: 'invalid',
    [`gpu/${ID}/memory`]: 'invalid',
  });
});

t.test("createNodeSeries() meters Intel's cards by their counters of energy", async (t) => {
  const arc = (joules: number): string =>
    hwmon('0000:01:01_0_0000:03:00_0_i915', 'i915', {
      in0: { in_volts: 0.7 },
      energy1: { energy_joule_total: joules },
      power1: { power_max_watt: 190, power_rated_max_watt: 0 },
    }) + hwmon('0000:01:01_0_0000:03:00_0_i915_gt0', 'i915_gt0', { energy1: { energy_joule_total: joules / 2 } });
  const series = createNodeSeries(OPTIONS);
  const first = series.read(scrapeOf(arc(1000), 1_000_000));
  t.strictSame(first.gpus, [
    { id: '0000:03:00.0', pciAddress: '0000:03:00.0', name: 'Intel card (i915)', vendor: 'intel', required: true },
  ]);
  t.strictSame(first.hardwareLimits, [{ component: 'gpu', id: '0000:03:00.0', enforcedPowerW: 190 }]);
  t.match(gpusIn(first), {
    'gpu/0000:03:00.0/temperature': 'no-sensor',
    'gpu/0000:03:00.0/power': 'not-yet-read',
    'gpu/0000:03:00.0/memory': 'no-sensor',
  });
  const power = (joules: number, atMs: number): unknown =>
    readingsOf(series.read(scrapeOf(arc(joules), 1_000_000 + atMs)), 'gpu', 'power')[0];
  t.match(power(2500, 10_000), { value: 150, sampledAtMs: 1_010_000 });
  t.match(power(2600, 10_900), { value: 150, sampledAtMs: 1_010_000 }, 'within a second of the last');
  t.match(power(10, 20_000), { value: null, cause: 'not-yet-read' }, 'the counter fell');
});

t.test('createNodeSeries() has no power of a card while its counter of energy cannot be read', async (t) => {
  const arc = (card: number | string | null, part: number): string =>
    hwmon(CARD, 'xe', {
      ...(card !== null && { energy1: { energy_joule_total: card } }),
      energy2: { energy_joule_total: part },
    });
  const powerAfter = (first: string, second: string): unknown => {
    const series = createNodeSeries(OPTIONS);
    series.read(scrapeOf(first, 1_000_000));
    return readingsOf(series.read(scrapeOf(second, 1_010_000)), 'gpu', 'power')[0];
  };
  t.match(powerAfter(arc(100, 50), arc(1600, 550)), { value: 150, origin: /^xe, over/ });
  for (const bad of ['x', 'NaN']) {
    t.match(powerAfter(arc(100, 50), arc(bad, 550)), { value: null, cause: 'invalid' }, 'its package is not the card');
  }
  t.match(powerAfter(arc(null, 50), arc(null, 550)), { value: 50, origin: /^xe package only, / }, 'a card without');
});

t.test('createNodeSeries() requires a card under nouveau, and one whose chip tells no address', async (t) => {
  const nouveau = hwmon('0000:00:01_0_0000:01:00_0', 'nouveau', { temp1: { temp_celsius: 55 } });
  t.match(read(nouveau).gpus, [{ id: '0000:01:00.0', vendor: 'nvidia', required: true }]);
  t.match(gpusIn(read(nouveau)), { 'gpu/0000:01:00.0/power': 'not-supported' });
  const root = read(hwmon('0000:0a:00_0', 'amdgpu', { temp1: { label: 'edge', temp_celsius: 55 } }));
  t.match(root.gpus, [{ id: ID, pciAddress: ID }], 'behind no bridge');
  t.match(gpusIn(root), { [`gpu/${ID}/power`]: 'no-sensor' }, 'amdgpu can tell it');
  t.notMatch(root.notes.join(), /tells no PCI address/);
  const nowhere = read(hwmon('hwmon4', 'amdgpu', { temp1: { label: 'edge', temp_celsius: 55 } }));
  t.strictSame(nowhere.gpus, [{ id: 'hwmon4', name: 'AMD card (amdgpu)', vendor: 'amd', required: true }]);
  t.match(nowhere.notes.join(), /hwmon4 \(amdgpu\) tells no PCI address/);
});

t.test('createNodeSeries() believes an exporter 64 cards', async (t) => {
  const body = Array.from({ length: 70 }, (_, n) => AMD_CARD.replaceAll('0a:00', `${(n + 16).toString(16)}:00`)).join(
    '',
  );
  const answer = read(body);
  t.equal(answer.gpus.length, 64);
  t.equal(answer.notes.filter((note) => note.includes('over 64 cards')).length, 1);
  t.equal(answer.notes.length, 50);
});
