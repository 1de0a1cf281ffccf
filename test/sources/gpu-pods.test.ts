// Which pod uses a card, by the labels of its exporter: directly, by an older exporter's names, and past a server that
// renamed them.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { nodeStatusOf } from '../../src/http/status-view.ts';
import { MOST_PODS, podOf } from '../../src/sources/gpu-pods.ts';
import { createGpuSeries } from '../../src/sources/gpu-series.ts';
import type { SeriesAnswer } from '../../src/sources/scrape.ts';
import { AMD_UUID, amd, CARD_A, CARD_B, DCGM_A, DCGM_B, dcgm, dcgmCard, scrapeOf } from '../fixtures/gpu-exporters.ts';
import { NODE } from '../support/domain-world.ts';
import { ExporterRig } from '../support/exporter-rig.ts';

const OPTIONS = { tctlOffsetC: 0, zfsCacheIsAvailable: false, explains: false };
const read = (body: string): SeriesAnswer => createGpuSeries(OPTIONS).read(scrapeOf(body));
const podsOf = (answer: SeriesAnswer): Record<string, readonly string[] | undefined> =>
  Object.fromEntries(answer.gpus.map(({ id, pods }) => [id, pods]));
const usedBy = (pod: string, namespace = 'train'): string =>
  `container="main",namespace="${namespace}",pod="${pod}",pod_uid=""`;

t.test(
  'podOf() tells namespace/name, in the names of now and of old, and past a server that renamed them',
  async (t) => {
    const cases: readonly [labels: Record<string, string>, pod: string | null][] = [
      [{ pod: 'load-0', namespace: 'train' }, 'train/load-0'],
      [{ pod_name: 'load-0', pod_namespace: 'train' }, 'train/load-0'],
      [
        { exported_pod: 'load-0', exported_namespace: 'train', pod: 'dcgm-x7', namespace: 'gpu', instance: 'a:9400' },
        'train/load-0',
      ],
      [{ pod: 'dcgm-x7', namespace: 'gpu', instance: 'a:9400' }, null],
      [{ pod: '', namespace: '' }, null],
      [{ pod: 'load-0' }, null],
      [{ pod: 'load 0', namespace: 'train' }, null],
      [{ pod: 'load-0', namespace: '\u001b[2J' }, null],
      [{ pod: 'p'.repeat(254), namespace: 'train' }, null],
      [{}, null],
    ];
    for (const [labels, pod] of cases) t.equal(podOf(labels), pod, JSON.stringify(labels));
  },
);

t.test('createGpuSeries() tells the pods beside the card, never as a card of their own', async (t) => {
  const plain = read(dcgmCard(DCGM_A));
  const used = read(
    dcgmCard({ ...DCGM_A, more: usedBy('load-0') }) + dcgmCard({ ...DCGM_B, more: 'pod="",namespace=""' }),
  );
  t.same(podsOf(used), { [CARD_A]: ['train/load-0'], [CARD_B]: undefined }, 'an empty label names nobody');
  const { pods: _, ...card } = used.gpus[0] ?? { pods: [] };
  t.same(card, plain.gpus[0]);
  t.same(
    used.readings.filter(({ id }) => id === CARD_A),
    plain.readings,
    'and nothing is read otherwise for it',
  );
});

t.test('createGpuSeries() names every pod of a shared card once, sorted, up to a bound', async (t) => {
  const shared = read(
    [`load-1`, `load-0`].map((pod) => dcgmCard({ ...DCGM_A, more: usedBy(pod) })).join('') +
      dcgm('GPU_TEMP', { ...DCGM_B, more: usedBy('solo', 'infer') }, 50),
  );
  t.same(podsOf(shared), { [CARD_A]: ['train/load-0', 'train/load-1'], [CARD_B]: ['infer/solo'] });
  const crowd = Array.from({ length: 40 }, (_, i) => dcgm('GPU_TEMP', { ...DCGM_A, more: usedBy(`p${i}`) }, 50));
  t.equal(podsOf(read(crowd.join('')))[CARD_A]?.length, MOST_PODS);
});

t.test('createGpuSeries() reads AMD’s labels, which are always there and mostly empty', async (t) => {
  const labels = { gpu_uuid: AMD_UUID, serial_number: '692251001124' };
  const idle = read(amd('gpu_edge_temperature', labels, 40));
  t.same(Object.values(podsOf(idle)), [undefined]);
  const used = read(amd('gpu_edge_temperature', { ...labels, pod: 'burn', namespace: 'train' }, 40));
  t.same(Object.values(podsOf(used)), [['train/burn']]);
  t.equal(used.gpus[0]?.id, idle.gpus[0]?.id);
});

t.test('nodeStatusOf() shows the pods of a card as long as they are told, and judges nothing by them', async (t) => {
  const rig = await ExporterRig.start(t, { answer: dcgmCard({ ...DCGM_A, more: usedBy('load-0') }) });
  const shown = () => {
    const { state } = rig.world;
    const node = state.nodes.get(NODE);
    return node && nodeStatusOf(state, node, rig.clock.now()).gpus.find(({ id }) => id === CARD_A);
  };
  await rig.run(2);
  t.match(shown(), { listed: true, pods: ['train/load-0'] });
  rig.serve(dcgmCard(DCGM_A));
  await rig.run(2);
  t.match(shown(), { listed: true, pods: undefined });
  const kept = JSON.stringify([...rig.world.durable]);
  t.match(kept, CARD_A);
  t.notMatch(kept, /load-0/, 'nothing of it is kept');
});

const RECORDINGS = join(process.cwd(), '../shared/recordings');
const skip = existsSync(RECORDINGS) ? false : 'needs ../shared/recordings, which is not part of this repository';

t.test(
  'createGpuSeries() reads the pods of recorded exporters, also past a server that renamed them',
  { skip },
  async (t) => {
    const of = (file: string) => podsOf(read(readFileSync(join(RECORDINGS, file), 'utf8')));
    const [first, ...others] = Object.values(of('dcgm_exporter-h100-pods-issue490.txt'));
    t.same(first, ['default/dcgmproftester2']);
    t.ok(others.length > 0 && others.every((pods) => pods === undefined), 'of the others nobody tells');
    t.same(Object.values(of('prometheus-api-labels-exported_pod-issue340.txt')), [['default/pod1', 'default/pod2']]);
    t.ok(Object.values(of('dcgm_exporter-2020-empty-pod-labels.txt')).every((pods) => pods === undefined));
  },
);
