// The stop of a cluster's marked pods, over a real control plane (KUBEBUILDER_ASSETS) whose nodes answer as kubelets do:
// from the trigger until the last pod has been told to end, until none is left, and how many came back. The service's
// POST /estop; `kubectl scale` and then `kubectl delete pods -l … --now`, as an engineer on call would; and the same two the
// other way round. A watch of its own sees what the API server has taken, so all three are measured by the same eyes.
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { build } from 'esbuild';
import { Agent, request } from 'undici';
import { atMost, below, bench, isInstalled, ROOT, row, skipped, takeTurns } from './measure.mjs';

const PER_DEPLOYMENT = 10;
const AT_A_TIME = 32;
const SELECTOR = 'vsf-workload=true';
const KILLING_FIRST = 'kubectl delete, scale';

/** The parts with which the tests start a control plane, compiled as they are needed. */
async function testParts() {
  const outdir = join(ROOT, '.test-build/bench');
  await build({
    entryPoints: [join(ROOT, 'test/support/cluster-rig.ts')],
    outdir,
    outExtension: { '.js': '.mjs' },
    bundle: true,
    platform: 'node',
    format: 'esm',
    packages: 'external',
    logLevel: 'error',
  });
  process.chdir(ROOT);
  return import(join(outdir, 'cluster-rig.mjs'));
}

/** What the tests' parts need of a test: somewhere to leave what is to be taken down. */
function lifetime() {
  const handlers = [];
  return {
    teardown: (handler) => handlers.unshift(handler),
    end: async () => {
      for (const handler of handlers.splice(0)) await handler();
    },
  };
}

/** Marked pods as the API server has them, from a list and a watch. */
class Watch {
  #closing = new AbortController();
  #agent;
  #url;
  #headers;
  pods = new Map();
  /** Since `mark()`. */
  lastToldMs = 0;
  lastGoneMs = 0;
  cameBack = 0;

  static async open({ url, caFile, adminToken }) {
    const watch = new Watch();
    watch.#agent = new Agent({ connect: { ca: await readFile(caFile, 'utf8') }, bodyTimeout: 0 });
    watch.#url = `${url}/api/v1/pods?labelSelector=${encodeURIComponent(SELECTOR)}`;
    watch.#headers = { authorization: `Bearer ${adminToken}` };
    const list = await request(watch.#url, { dispatcher: watch.#agent, headers: watch.#headers });
    const { items, metadata } = await list.body.json();
    for (const pod of items) watch.pods.set(pod.metadata.uid, pod.metadata.deletionTimestamp !== undefined);
    void watch.#follow(metadata.resourceVersion);
    return watch;
  }

  async #follow(resourceVersion) {
    try {
      const { body } = await request(`${this.#url}&watch=true&resourceVersion=${resourceVersion}`, {
        dispatcher: this.#agent,
        headers: this.#headers,
        signal: this.#closing.signal,
      });
      for await (const line of createInterface({ input: body })) this.#see(JSON.parse(line));
    } catch (error) {
      if (!this.#closing.signal.aborted) throw error;
    }
  }

  #see({ type, object }) {
    const { uid, deletionTimestamp } = object.metadata;
    const nowMs = performance.now();
    const isTold = deletionTimestamp !== undefined || type === 'DELETED';
    if (isTold && this.pods.get(uid) !== true) this.lastToldMs = nowMs;
    if (type === 'ADDED' && !this.pods.has(uid)) this.cameBack += 1;
    if (type === 'DELETED') {
      this.pods.delete(uid);
      this.lastGoneMs = nowMs;
    } else this.pods.set(uid, isTold);
  }

  async close() {
    this.#closing.abort();
    await this.#agent.destroy();
  }
}

/** So many marked pods that run, in Deployments (at most 50) of ten and, for the rest, alone. */
async function fill(rig, deployment, template, mark, pods) {
  const deployments = Math.min(50, Math.floor((pods - 1) / PER_DEPLOYMENT));
  const works = [
    ...Array.from({ length: deployments }, (_, i) => () => rig.create('Deployment', `d${i}`, { ...deployment(`d${i}`, PER_DEPLOYMENT), metadata: { labels: mark } })),
    ...Array.from({ length: pods - deployments * PER_DEPLOYMENT }, (_, i) => () => rig.create('Pod', `bare-${i}`, { ...template({}), metadata: { labels: mark } })),
  ];
  await Promise.all(
    Array.from({ length: AT_A_TIME }, async () => {
      for (let work = works.shift(); work; work = works.shift()) await work();
    }),
  );
  await rig.untilRunning(pods, 1_200_000);
}

/** Takes away what `fill` has made, whatever became of it. */
async function clear(rig) {
  for (const { metadata } of await rig.list('Deployment')) await rig.plane.ask('DELETE', `/apis/apps/v1/namespaces/gpu/deployments/${metadata.name}?propagationPolicy=Background`);
  await rig.plane.must('DELETE', `/api/v1/namespaces/gpu/pods?labelSelector=${encodeURIComponent(SELECTOR)}`, { gracePeriodSeconds: 0 });
  await rig.until('nothing is left', 600_000, async () => (await rig.pods()).length === 0, 500);
}

await bench('stop', async ({ pick, say, rows, note }) => {
  const { deployment, lacksCluster, MARK, startClusterRig, template, untilReady } = await testParts();
  if (lacksCluster) {
    rows.push(skipped('stop', 'kubectl', lacksCluster));
    return;
  }
  const kubectl = [join(process.env.KUBEBUILDER_ASSETS, 'kubectl'), '/usr/bin/kubectl', '/usr/local/bin/kubectl'].find(isInstalled);
  const life = lifetime();
  const rig = await startClusterRig(life);
  const kubeconfig = await rig.plane.kubeconfigFor(rig.plane.adminToken);
  const runKubectl = (signal, ...args) =>
    promisify(execFile)(kubectl, ['--kubeconfig', kubeconfig, '-n', 'gpu', ...args], { maxBuffer: 2 ** 26, signal });
  const scale = (signal) => runKubectl(signal, 'scale', 'deployments', '-l', SELECTOR, '--replicas=0');
  const kill = (signal) => runKubectl(signal, 'delete', 'pods', '-l', SELECTOR, '--now');

  /** Fills, lets `trigger` loose, and looks on until nothing has been there for `quietMs`. */
  const measure = async (pods, quietMs, prepare) => {
    await fill(rig, deployment, template, MARK, pods);
    const { trigger, letGo, finish } = await prepare();
    const watch = await Watch.open(rig.plane);
    if (watch.pods.size !== pods) throw new Error(`${watch.pods.size} of ${pods} pods are there`);
    const startedMs = performance.now();
    const triggered = trigger();
    // A failure is told when its turn comes, not while nobody listens.
    triggered.catch(() => undefined);
    while (watch.pods.size > 0 || performance.now() - watch.lastGoneMs < quietMs) {
      if (performance.now() - startedMs > 1_200_000) throw new Error(`${watch.pods.size} pods do not end`);
      await sleep(50);
    }
    letGo();
    await triggered;
    const found = { toldMs: watch.lastToldMs - startedMs, emptyMs: watch.lastGoneMs - startedMs, cameBack: watch.cameBack };
    await watch.close();
    await finish();
    await clear(rig);
    return found;
  };

  const byService = async () => {
    const service = await rig.serve();
    await untilReady(service, 120_000);
    return {
      trigger: async () => {
        const { status, body } = await service.post('/estop', { reason: 'bench' });
        if (status !== 202) throw new Error(`/estop gave ${status}: ${JSON.stringify(body)}`);
      },
      letGo: () => undefined,
      finish: async () => {
        const { body } = await service.get('/estop');
        const reset = { tripId: body.tripId, reason: 'bench', acknowledgeUnverified: true };
        await service.until('the reset', () => service.operate('/estop/reset', reset), ({ status }) => status === 200, 60_000);
        await service.stop();
      },
    };
  };
  const byHand = (first, second) => async () => {
    const waiting = new AbortController();
    return {
      trigger: async () => {
        try {
          await first(waiting.signal);
          await second(waiting.signal);
        } catch (error) {
          if (!waiting.signal.aborted) throw error;
        }
      },
      // It asks for one pod after the other whether it is gone, long after all are.
      letGo: () => waiting.abort(),
      finish: async () => undefined,
    };
  };

  const peers = kubectl ? { 'kubectl scale, delete': byHand(scale, kill), [KILLING_FIRST]: byHand(kill, scale) } : {};
  try {
    for (const pods of pick([225, 5_000], [225, 5_000], [12])) {
      const repetitions = pods > 1_000 ? pick(3, 2, 2) : pick(5, 3, 2);
      const quietMs = pick(15_000, 15_000, 3_000);
      // Not of thousands: kubectl's first command asks for each whether it is gone, for over a quarter of an hour.
      const asked = Object.entries(peers).filter(([name]) => pods < 1_000 || name !== KILLING_FIRST);
      const found = await takeTurns(
        repetitions,
        Object.fromEntries([['ours', byService], ...asked].map(([way, prepare]) => [way, () => measure(pods, quietMs, prepare)])),
        (text) => say(`${pods} pods: ${text}`),
      );
      const list = (way, name) => found[way]?.map((one) => one[name]);
      const size = `${pods.toLocaleString('en')} pods`;
      for (const [peerName] of asked) {
        for (const [name, what] of [['toldMs', 'the last is told to end'], ['emptyMs', 'none is left']]) {
          rows.push(row({ what: `trigger until ${what}, ${size}`, unit: 'ms', ours: list('ours', name), peer: list(peerName, name), peerName, target: atMost(0.5) }));
        }
      }
      if (!kubectl) {
        rows.push(skipped(size, 'kubectl', 'kubectl is not installed'));
        for (const [name, what] of [['toldMs', 'the last is told to end'], ['emptyMs', 'none is left']]) rows.push(row({ what: `trigger until ${what}, ${size}`, unit: 'ms', ours: list('ours', name) }));
      }
      rows.push(row({ what: `came back, ${size}`, unit: 'pods', ours: list('ours', 'cameBack'), target: below(1, 'pod') }));
      for (const [peerName] of asked) note(`${size}, ${peerName}: ${list(peerName, 'cameBack').join(', ')} came back, for a while.`);
    }
  } finally {
    await life.end();
  }
  note('Each pod ends 2 s after it is told, as a kubelet’s shortest grace has it. At most 500 of them belong to Deployments, the others to nobody. etcd, API server, controllers and kubelets share the machine.');
});
