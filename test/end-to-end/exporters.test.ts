// The real binary watching nodes that it is not on: a real node_exporter, a stand-in for dcgm-exporter, and a list of
// targets in a file that changes.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { lacksNodeExporter, startNodeExporter } from '../support/real-node-exporter.ts';
import { freshFolder, type RealService, type Reply, startService } from '../support/real-service.ts';
import { says, standInExporter } from '../support/stand-in-exporter.ts';

const GPU = 'GPU-5fd4b087-86f3-4b29-9a9f-4a4c0d2b3c11';
/** Each answer draws a little more energy than the one before. */
let energyMj = 1_000_000;

function dcgm(temperatureC: number): string {
  energyMj += 150_000;
  const labels = `gpu="0",UUID="${GPU}",pci_bus_id="00000000:0B:00.0",device="nvidia0",modelName="NVIDIA L40S",Hostname="dcgm-x7k2p"`;
  return [
    `DCGM_FI_DEV_GPU_TEMP{${labels}} ${temperatureC}`,
    `DCGM_FI_DEV_POWER_USAGE{${labels}} 150.25`,
    `DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{${labels}} ${energyMj}`,
    `DCGM_FI_DEV_FB_USED{${labels}} 2048`,
    `DCGM_FI_DEV_FB_FREE{${labels}} 40960`,
    '',
  ].join('\n');
}

/** A node of a real node_exporter, which on a virtual machine has no CPU sensor, and a card. */
async function watched(
  t: Test,
): Promise<{ service: RealService; heat: (celsius: number) => void; kill: () => Promise<void>; list: string }> {
  const exporter = await startNodeExporter(t);
  let celsius = 55;
  const gpus = await standInExporter(t, (request, response) => says(dcgm(celsius))(request, response));
  const list = join(freshFolder(t), 'targets.json');
  writeFileSync(list, '[]');
  const config = `
source: exporters
interval: 1s
fastInterval: 1s
staleAfter: 3s
waive: [ cpu-temperature ]
nodes:
  - { name: gpu-1, endpoints: [ "${exporter.url}/metrics", "${gpus.url}" ], expectGpus: 1 }
discovery: { files: [ "${list}" ], allow: [ "127.0.0.0/8" ], refresh: 5s }
`;
  const service = await startService(t, { config, args: [] });
  return { service, heat: (value) => (celsius = value), kill: exporter.kill, list };
}

/** The real node_exporter tells how busy the machine really is, with these very tests on it. */
const isCalm = ({ body }: Reply): boolean =>
  body.findings.every(
    ({ code, quantity }: Record<string, string>) => code === 'over-maximum' && quantity === 'utilization',
  );
const calm = (service: RealService): Promise<Reply> =>
  service.until('a preflight with nothing wrong', () => service.get('/preflight'), isCalm);

t.test(
  'serve watches a real node_exporter and a card, and stops all when the card is hot',
  { skip: lacksNodeExporter },
  async (t) => {
    const { service, heat } = await watched(t);
    const safe = await calm(service);
    t.match(safe.body.unprotected, [{ code: 'waived', name: 'cpu-temperature' }]);
    const { body: status } = await service.get('/status');
    t.same(
      status.sources.map(({ up }: { up: boolean }) => up),
      [true, true],
    );
    t.match(status.sources[0].scrape, { latencySeconds: Number, bytes: Number, rejectedLines: 0 });
    t.ok(status.sources[0].scrape.samples > 10);
    t.match(status.nodes[0].gpus, [{ id: GPU, required: true, listed: true }]);
    const metrics = await service.get('/metrics');
    t.match(metrics.body, /vsf_safety_source_latency_seconds\{node="gpu-1",source="http:[^"]+\/metrics"\} [\d.e-]+/);
    heat(86);
    const hot = await service.until(
      'the trip',
      () => service.get('/estop'),
      ({ body }) => body.state === 'tripped',
    );
    t.match(hot.body.reason, /GPU .*86/);
  },
);

t.test('serve refuses starts while an exporter is down, and says which', { skip: lacksNodeExporter }, async (t) => {
  const { service, kill } = await watched(t);
  await calm(service);
  await kill();
  const blind = await service.until(
    'a refusal',
    () => service.get('/preflight'),
    (reply) => !isCalm(reply),
  );
  t.match(blind.body, { safe: false, action: 'WAIT_COOLDOWN', reason: /gpu-1.*(refused|no answer)/ });
});

t.test(
  'serve takes nodes from a list in a file, and refuses what lies outside the ranges',
  { skip: lacksNodeExporter },
  async (t) => {
    const { service, list } = await watched(t);
    await calm(service);
    writeFileSync(list, JSON.stringify([{ targets: ['10.9.9.9:9100'], labels: { node: 'gpu-2' } }]));
    const found = await service.until(
      'the node',
      () => service.get('/status'),
      ({ body }) => body.nodes.length === 2,
    );
    t.match(found.body.discovery.problems, [{ origin: 'files', detail: /outside discovery\.allow.*10\.9\.9\.9/ }]);
    t.match(await service.get('/preflight?nodes=gpu-2'), { status: 503 });
    t.match(await service.get('/preflight?nodes=gpu-1'), { status: 200 });
  },
);
