// The public recordings and cases of GPU and power exporters, which are no part of this repository: what is read of each.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { createGpuSeries } from '../../src/sources/gpu-series.ts';
import { createPowerSeries } from '../../src/sources/power-series.ts';
import type { SeriesAnswer, SeriesEngine } from '../../src/sources/scrape.ts';
import { judged, scrapeOf } from '../fixtures/gpu-exporters.ts';

const SHARED = join(process.cwd(), '../shared');
const skip = (folder: string): string | false =>
  existsSync(join(SHARED, folder)) ? false : `needs ../shared/${folder}, which is not part of this repository`;
const textOf = (folder: string, file: string): string => readFileSync(join(SHARED, folder, file), 'utf8');

const OPTIONS = { tctlOffsetC: 0, zfsCacheIsAvailable: false, explains: false, outlets: [] };
const gpus = (): SeriesEngine => createGpuSeries(OPTIONS);
const recording = (file: string): SeriesAnswer => gpus().read(scrapeOf(textOf('recordings', file)));
const oneCase = (id: string): SeriesAnswer => gpus().read(scrapeOf(textOf('cases', `${id}.txt`)));
/** Each body of a file of several, read one after another. */
function scrapes(id: string): SeriesAnswer[] {
  const series = gpus();
  const bodies = textOf('cases', `${id}.txt`)
    .split(/^# @scrape .*\n/m)
    .slice(1);
  return bodies.map((body) => series.read(scrapeOf(body)));
}
const power = (folder: string, file: string): SeriesAnswer =>
  createPowerSeries(OPTIONS).read(scrapeOf(textOf(folder, file)));

/** By card: temperature, power and memory as the domain is left with them; `undefined` for none. */
function cardsOf(answer: SeriesAnswer): Record<string, readonly (number | null | undefined)[]> {
  return Object.fromEntries(
    answer.gpus.map(({ id }) => [
      id,
      (['temperature', 'power', 'memory'] as const).map((quantity) => {
        const value = judged(answer, id, quantity)?.value;
        return typeof value === 'number' ? Math.round(value * 1000) / 1000 : value;
      }),
    ]),
  );
}
const GPU = (n: number): string => `GPU-00000000-0000-0000-0000-${String(n).padStart(12, '0')}`;

t.test('createGpuSeries() reads the recordings', { skip: skip('recordings') }, async (t) => {
  const cards = (file: string): unknown => cardsOf(recording(file));
  t.same(cards('dcgm_exporter-2020-empty-pod-labels.txt'), {
    'GPU-00000000-0000-0000-0000-0000000000aa': [55, 302.206, undefined],
  });
  t.same(cards('dcgm_exporter-a30-mig-issue317.txt'), {
    'GPU-00000000-aaaa-bbbb-cccc-000000000000': [undefined, 52.746, undefined],
    'GPU-00000000-aaaa-bbbb-cccc-000000000001': [undefined, 56.127, undefined],
  });
  t.same(Object.keys(cardsOf(recording('dcgm_exporter-h100-pods-issue490.txt'))), [GPU(0), GPU(1), GPU(2)]);
  t.same(cards('dcgm_exporter-l4-idle-nopods.txt'), { 'GPU-11111111-2222-3333-4444-555555555555': [31, 16.365, 0] });
  const quickstart = recording('dcgm_exporter-readme-quickstart.txt');
  t.same(cardsOf(quickstart), { 'GPU-604ac76c-d9cf-fef3-62e9-d92044ab6e52': [undefined, undefined, undefined] });
  t.match(quickstart.readings, [{ value: null, cause: 'not-supported', informational: true }]);
  t.same(cards('prometheus-api-labels-exported_pod-issue340.txt'), { [GPU(40)]: [41, undefined, undefined] });
  t.same(cards('nvidia_gpu_exporter-demo-multigpu.txt'), {
    'GPU-1c67088e-9ecb-4564-bb97-6151ecc2ef64': [52, 627.4, 0.565],
    'GPU-ef427e4f-1970-42f2-ab0c-ecf0e56a33b9': [52, 627.4, 0.226],
  });
  t.match(recording('nvidia_gpu_exporter-demo-multigpu.txt').notes.join('\n'), /2 faults Xid 79/);
  t.same(cards('nvidia_gpu_exporter-h100-load.txt'), { [GPU(0)]: [59, 631.95, 0.244] });
  t.same(cards('nvidia_gpu_exporter-h100-mig-load.txt'), { [GPU(0)]: [53, 433.78, 0.137] });
  t.same(cards('nvidia_gpu_exporter-rtx4080s-idle.txt'), { [GPU(0)]: [43, 26.2, 0.037] });
  t.same(cards('nvidia_gpu_exporter-windows-rtx2080s-load.txt'), { [GPU(0)]: [45, 97.43, 0.162] });
  const [hopper] = recording('nvidia_gpu_exporter-h100-load.txt').gpus;
  t.match(hopper, { pciAddress: '0000:00:09.0', name: 'NVIDIA H100 80GB HBM3' });
  // Three hosts in one file: the one row with a UUID lends it to the others, which tell the same number.
  t.same(cards('amd_device_metrics_exporter-issues353-259-236.txt'), {
    'GPU-00000000-0000-1000-8000-000000000000': [undefined, 0, null],
  });
  // Two moments in one file.
  t.same(cards('intel_xpumd-issue130-terawatt.txt'), { '0001:91:00.0': [undefined, 52.03, undefined] });
});

t.test('createPowerSeries() reads the recordings', { skip: skip('recordings') }, async (t) => {
  const ranked = (file: string): unknown => power('recordings', file).readings.map(({ rank, value }) => [rank, value]);
  t.same(ranked('ipmi_exporter-dcmi-pr160.txt'), [[2, 372]]);
  t.same(ranked('ipmi_exporter-docs-examples.txt'), [[2, null]], 'the DCMI collector is down, and 70 W are a sensor');
  t.same(ranked('idrac_exporter-issue2-two-psus.txt'), [[5, 166.62]]);
});

t.test('createGpuSeries() reads the cases of dcgm-exporter', { skip: skip('cases') }, async (t) => {
  const cards = (id: string): unknown => cardsOf(oneCase(id));
  t.same(cards('C01'), { [GPU(0)]: [62, 70.1, undefined] });
  t.same(
    scrapes('C03').map((answer) => answer.readings.find(({ quantity }) => quantity === 'utilization')?.value),
    [0.97, 8083349.05, 0.96],
  );
  t.ok(scrapes('C03').every((answer) => cardsOf(answer)[GPU(0)]?.[0] === 70));
  const frozen = scrapes('C04').map((answer) => cardsOf(answer)[GPU(0)]);
  t.ok(frozen.length > 2 && frozen.every((card) => card?.[0] === 61 && card[1] === 287.412), 'for the domain to see');
  t.same(
    scrapes('C05').map((answer) => answer.gpus.length),
    [4, 3],
  );
  t.same(cards('C07'), { [GPU(0)]: [61, 152.6, undefined], [GPU(1)]: [62, 156.1, undefined] });
  t.same(cards('C09'), { [GPU(0)]: [80, 251.9, undefined] });
  t.same(cards('C10'), { [GPU(0)]: [86, 200, undefined] });
  t.same(cards('C11'), { [GPU(0)]: [70, 200, undefined] });
  t.same(cards('C12'), { [GPU(0)]: [60, 100, 0.913] });
  t.same(cards('C15'), { [GPU(0)]: [79, 240, undefined] });
  t.equal(oneCase('C15').readings.find(({ quantity }) => quantity === 'utilization')?.value, 1, 'not the profiling 0');
  t.match(oneCase('C16').notes.join('\n'), /last fault Xid 31$/m);
  t.same(cards('C17'), { [GPU(0)]: [60, 100, 0.004] });
  const partial = cardsOf(oneCase('C20'));
  t.same(partial[GPU(0)], [50, 60, undefined]);
  for (const n of [1, 2, 3]) t.same(partial[GPU(n)], [undefined, undefined, undefined]);
  t.same(
    scrapes('C21').map((answer) => cardsOf(answer)[GPU(11)]?.[0]),
    [84, 85],
  );
});

t.test('createGpuSeries() reads the cases of other exporters and of bad lines', { skip: skip('cases') }, async (t) => {
  t.same(
    scrapes('E01').map((answer) => cardsOf(answer)['0000:21:00.0']?.[1]),
    [52.03, 3689342859416.54, 52.1],
  );
  t.same(cardsOf(oneCase('E03')), { 'device-metrics-exporter-gpu-0': [0, 0, undefined] });
  const stamps = oneCase('A07').readings.map(({ sampledAtMs }) => sampledAtMs);
  t.ok((stamps[0] ?? 0) < -1e12 && (stamps[1] ?? 0) < -1e10 && stamps[2] === undefined);
  t.same(cardsOf(oneCase('A09'))[GPU(3)]?.[0], 60);
  t.same(
    oneCase('A09')
      .readings.slice(0, 3)
      .map(({ value }) => Number.isFinite(value)),
    [false, false, false],
  );
  t.same(cardsOf(oneCase('A11')), { [GPU(0)]: [null, undefined, undefined], [GPU(1)]: [72, undefined, undefined] });
});

t.test('createPowerSeries() reads the cases of BMCs', { skip: skip('cases') }, async (t) => {
  t.match(power('cases', 'F01.txt').readings, [{ value: null, cause: 'invalid', rank: 5, origin: /PSU1 Input/ }]);
  t.match(power('cases', 'F03.txt').readings, [{ value: 0, rank: 2 }], 'which the domain refuses');
  t.match(power('cases', 'F04.txt').readings, [{ value: null, cause: 'unreadable', rank: 2 }]);
});
