import t from 'tap';
import { openSources } from '../src/assemble-sources.ts';
import { loadConfig } from '../src/config.ts';
import type { ExporterFinder } from '../src/kubernetes/exporter-finder.ts';
import { ManualClock } from './support/manual-clock.ts';
import { tempDir } from './support/temp-dir.ts';

t.test('openSources() takes this machine and its cluster’s node for one, in whatever letters', async (t) => {
  const text = 'discovery: { kubernetes: true, allow: [ "10.0.0.0/8" ] }';
  const loaded = loadConfig({ text, env: {}, hostname: 'Bizon1', homeDir: '/' });
  if (!loaded.ok) throw new Error('the configuration is refused');
  const clock = new ManualClock();
  let looks = 0;
  let isReady = true;
  const finder: ExporterFinder = {
    find: async () => ({
      ok: true,
      targets: [{ node: 'bizon1', url: 'http://10.0.0.1:9400/metrics', origin: 'kubernetes' }],
      nodes: ['bizon1', 'bizon2'],
      problems: [],
    }),
    lookAtNodes: async () => {
      looks += 1;
    },
    node: (name) => ({ name, isReady, takesPods: true, gpuSign: null, gpuCount: null, bootId: 'k-1' }),
  };
  const settings = { ...loaded.config.settings, instance: 'i', bootId: 'b' };
  const root = await tempDir(t);
  const sources = await openSources({ config: loaded.config, settings, clock, root, finder });
  t.teardown(() => sources.close());
  const listing = sources.listing();
  t.same([...(listing?.nodes ?? [])].sort(), ['Bizon1', 'bizon2']);
  t.ok(listing?.sources.get('Bizon1')?.has('kubernetes'));
  t.ok([...(listing?.sources.get('Bizon1') ?? [])].some((id) => id.includes('10.0.0.1:9400')));

  await t.test('and asks at each refresh whether the nodes are Ready', async (t) => {
    t.equal(looks, 1);
    isReady = false;
    await sources.refresh();
    t.equal(looks, 2);
    t.match(sources.listing()?.machines?.get('Bizon1'), { isReady: false, bootId: 'k-1' });
  });
});
