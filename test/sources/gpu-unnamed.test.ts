import t from 'tap';
import { createGpuSeries } from '../../src/sources/gpu-series.ts';
import { ExporterRig, findingsOf } from '../support/exporter-rig.ts';
import { OPTIONS, readingsIn, scrapeOf } from '../support/node-scrapes.ts';

const UUID = 'GPU-00000001-0000-4000-8000-000000000000';
const REST =
  `DCGM_FI_DEV_GPU_TEMP{UUID="${UUID}"} 50\nDCGM_FI_DEV_POWER_USAGE{UUID="${UUID}"} 120.5\n` +
  `DCGM_FI_DEV_FB_USED{UUID="${UUID}"} 1\nDCGM_FI_DEV_FB_FREE{UUID="${UUID}"} 9\n`;
const untold = Array.from({ length: 60 }, (_, id) => `ipmi_power_watts{id="${id}"} x\n`).join('');

t.test('readUnnamed() lets the heat of a card that no label names stop like any other', async (t) => {
  for (const labels of ['', '{UUID="xyz!"}', '{gpu="12345"}', '{UUID="",gpu=""}']) {
    const rig = await ExporterRig.start(t, { answer: `${REST}DCGM_FI_DEV_GPU_TEMP${labels} 90\n` });
    t.match(findingsOf(rig.world.result), ['over-hard-stop gpu/dcgm-exporter-unnamed/temperature ABORT'], labels);
  }
});

t.test('readUnnamed() takes rows of no card for a sign of a card, where no other is known', async (t) => {
  const rig = await ExporterRig.start(t, { answer: 'DCGM_FI_DEV_SM_CLOCK{UUID=""} 1200\n' });
  t.match(findingsOf(await rig.preflight()), ['reading-missing gpu//temperature WAIT_COOLDOWN']);
});

t.test(
  'readUnnamed() misses what stood in a line of nobody knows which card, for as long as it stands there',
  async (t) => {
    const bad = 'DCGM_FI_DEV_GPU_TEMP{gpu="1",modelName="a"b",UUID="GPU-2"} 90\n';
    for (const lines of [bad, `${untold}DCGM_FI_DEV_GPU_TEMP{UUID="${UUID.replace('1', '2')}"} 90x\n`]) {
      const rig = await ExporterRig.start(t, { answer: REST + lines });
      t.match(findingsOf(await rig.preflight()), ['reading-missing gpu//temperature WAIT_COOLDOWN']);
      rig.serve(REST);
      t.equal((await rig.run(10)).action, 'PROCEED');
    }
  },
);

t.test('readUnnamed() passes over rows of exporters that use their names for other hardware, too', async (t) => {
  const answer = createGpuSeries(OPTIONS).read(scrapeOf('hw_temperature_celsius{hw_id="disk"} 99\n'));
  t.same(readingsIn(answer), {});
  t.same(answer.gpuSigns, []);
});
