// Exporters behind a network that drops, resets, delays, truncates and corrupts what they answer. One node for each fault:
// what cannot be read lets nothing start, stops what runs there once it has been blind for too long, and keeps no stop
// waiting that another exporter of the same node calls for.
import { randomUUID } from 'node:crypto';
import t, { type Test } from 'tap';
import { cardText, fedNode } from '../support/fed-node.ts';
import { isGroupAlive, type RealService, startService, startWorkload } from '../support/real-service.ts';
import { says, standInExporter } from '../support/stand-in-exporter.ts';
import { type TcpFault, type TcpFaultProxy, tcpFaultProxy } from '../support/tcp-fault-proxy.ts';

// Real processes on a machine that may be busy.
t.setTimeout(300_000);

const FAULTS: Readonly<Record<string, TcpFault>> = {
  drops: 'drop',
  resets: 'reset',
  delays: { delayMs: 5_000 },
  truncates: 'truncate',
  corrupts: 'corrupt',
};
const NAMES = Object.keys(FAULTS);
/** Its exporter answers later than most, and is no fault. */
const SLOW = 'slow';
const FAR_CARD = 'GPU-aaaaaaaa-0000-4000-8000-00000000000a';
const NEAR_CARD = 'GPU-bbbbbbbb-0000-4000-8000-00000000000b';

interface Rig {
  readonly service: RealService;
  /** Of each node, its name first. */
  readonly proxies: Readonly<Record<string, TcpFaultProxy>>;
  readonly pgids: Readonly<Record<string, number>>;
  /** Of the card that each node's own exporter tells, behind no proxy. */
  heat(celsius: number): void;
}

/** A node for each fault, and one that is well; with a workload on each. */
async function startRig(t: Test): Promise<Rig> {
  const far = await fedNode(t, FAR_CARD);
  let nearC = 55;
  const near = await standInExporter(t, (...args) => says(cardText(NEAR_CARD, nearC))(...args));
  const proxies: Record<string, TcpFaultProxy> = {};
  for (const name of [...NAMES, SLOW]) proxies[name] = await tcpFaultProxy(t, far.exporter.port);
  proxies[SLOW]?.setFault({ delayMs: 200 });
  const nodes = Object.entries(proxies).map(
    ([name, { port }]) =>
      `{ name: ${name}, expectGpus: 2, endpoints: [ "http://127.0.0.1:${port}/metrics", "${near.url}" ] }`,
  );
  const config = `source: exporters\ninterval: 1s\nfastInterval: 1s\nstaleAfter: 3s\nblindAbortAfter: 4s\ntripScope: node\nnodes: [ ${nodes.join(', ')} ]\n`;
  const service = await startService(t, { config, args: [] });
  await service.until(
    'all is well',
    () => service.get('/preflight'),
    ({ status }) => status === 200,
    30_000,
  );
  const pgids: Record<string, number> = {};
  for (const name of Object.keys(proxies)) {
    const id = randomUUID();
    pgids[name] = startWorkload(t, id).pid ?? 0;
    const asked = { id, workload: name, nodes: [name], processGroup: { pgid: pgids[name] }, ttlSeconds: 300 };
    const lease = await service.post('/leases', asked);
    t.equal(lease.status, 201, lease.body.reason);
  }
  const heat = (celsius: number): void => {
    nearC = celsius;
  };
  return { service, proxies, pgids, heat };
}

const spoil = ({ proxies }: Rig): void => {
  for (const [name, fault] of Object.entries(FAULTS)) proxies[name]?.setFault(fault);
};
const trips = async ({ service }: Rig): Promise<Record<string, string>> => {
  const { body } = await service.get('/status');
  return body.interlock.nodes;
};

t.test('serve lets nothing start behind a broken network, and stops what it is blind of, alone', async (t) => {
  const rig = await startRig(t);
  const { service, pgids, proxies } = rig;
  spoil(rig);
  // All at once: there are four seconds between the first refusal and the stop, and an answer may take one of them.
  const refusals = NAMES.map(async (name) => {
    const refused = await service.until(
      `a refusal where it ${name}`,
      () => service.get(`/preflight?nodes=${name}`),
      ({ status }) => status !== 200,
      5_000,
    );
    t.match(refused.body, { safe: false, findings: [{ code: 'reading-missing' }] }, name);
  });
  await Promise.all(refusals);
  for (const name of NAMES) {
    await service.until(
      `the workload where it ${name} is stopped`,
      () => service.get('/estop'),
      () => !isGroupAlive(pgids[name] ?? 0),
      20_000,
    );
  }
  const tripped = await trips(rig);
  for (const name of NAMES) t.equal(tripped[name], 'tripped', name);
  t.not(tripped[SLOW], 'tripped');
  t.ok(isGroupAlive(pgids[SLOW] ?? 0), 'a slow exporter is none that is missing');
  // A tick that a loaded machine was late with refuses a start, too, until the next one.
  await service.until(
    'a start where it is slow',
    () => service.get(`/preflight?nodes=${SLOW}`),
    ({ status }) => status === 200,
    10_000,
  );

  for (const name of NAMES) proxies[name]?.setFault('none');
  await service.until(
    'all is read again',
    () => service.get('/status'),
    ({ body }) => body.sources.every((source: { up: boolean }) => source.up),
  );
  t.equal((await service.get(`/preflight?nodes=${NAMES[0]}`)).status, 423, 'and stays stopped');
});

t.test('serve stops for what one exporter tells while the other’s network is broken', async (t) => {
  const rig = await startRig(t);
  spoil(rig);
  rig.heat(86);
  const heatedAtMs = performance.now();
  for (const name of [...NAMES, SLOW]) {
    await rig.service.until(
      `the workload where it ${name} is stopped`,
      () => rig.service.get('/estop'),
      () => !isGroupAlive(rig.pgids[name] ?? 0),
    );
  }
  const tookS = (performance.now() - heatedAtMs) / 1000;
  t.ok(tookS < 5, `all within ${tookS.toFixed(1)} s of the heat, before anything could be blind`);
  t.notMatch(rig.service.output.join(''), /blind/);
});
