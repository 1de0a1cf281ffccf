// Two services behind an API server that loses answers, hangs and fails, each by a proxy of its own, and people who press
// and reset against each other at whichever of them. Whatever they do: where a press was answered 202 it stays stopped
// until a reset that ended after it; and once the server is well again, both say the same, and a reset ends it everywhere.
// What happens when is left to chance and to the machine: every run is another one.
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { deployment, lacksCluster, startClusterRig, untilReady } from '../support/cluster-rig.ts';
import { type Fault, type KubeFaultProxy, startKubeFaultProxy } from '../support/kube-fault-proxy.ts';
import type { RealService, Reply } from '../support/real-service.ts';

t.setTimeout(600_000);

const LASTS_MS = 60_000;
const FAULTS: readonly Fault[] = [
  { kind: 'hang-after' },
  { kind: 'cut', afterBytes: 5 },
  { kind: 'drop' },
  { kind: 'answer', status: 500, body: { kind: 'Status', code: 500 } },
  { kind: 'delay', ms: 1_500 },
];
/** Answers that leave open whether a reset was written. */
const OPEN_CODES = ['latch-not-written', 'not-leader'];

interface Replica {
  readonly proxy: KubeFaultProxy;
  readonly service: RealService;
}

const oneOf = <T>(choices: readonly T[]): T => choices[Math.floor(Math.random() * choices.length)] as T;

t.test(
  'what is pressed at either of two services holds until a reset that came after it',
  {
    skip: lacksCluster,
  },
  async (t) => {
    const rig = await startClusterRig(t);
    const start = async (): Promise<Replica> => {
      const proxy = await startKubeFaultProxy(t, rig.plane);
      const service = await rig.serve({ kubeconfig: await rig.plane.kubeconfigFor(rig.plane.serviceToken, proxy) });
      return { proxy, service };
    };
    const replicas = [await start()];
    await untilReady((replicas[0] as Replica).service, 60_000);
    replicas.push(await start());
    await rig.until('the second one stands by', 60_000, async () => {
      const { leadership, cluster } = (await (replicas[1] as Replica).service.get('/status')).body;
      return leadership.state === 'standby' && cluster.latch.known;
    });
    await rig.create('Deployment', 'load', deployment('load', 2));

    const startedMs = performance.now();
    const nowMs = (): number => performance.now() - startedMs;
    const presses: { readonly at: RealService; readonly atMs: number }[] = [];
    /** When a reset that may have been written was over last; Infinity while one is under way. */
    const resets = new Set<{ endedMs: number }>();
    const counts = { presses: 0, resets: 0, looks: 0, clear: 0 };
    const lost: string[] = [];

    async function press(name: string): Promise<void> {
      while (nowMs() < LASTS_MS) {
        await sleep(Math.random() * 6_000);
        const { service } = oneOf(replicas);
        t.equal((await service.post('/estop', { reason: `pressed by ${name}` })).status, 202);
        presses.push({ at: service, atMs: nowMs() });
        counts.presses += 1;
      }
    }

    /** Tries wherever it is, until one of the two has taken it. */
    async function reset(): Promise<void> {
      while (nowMs() < LASTS_MS) {
        const { service } = oneOf(replicas);
        const { body } = await service.get('/estop');
        if (body.state !== 'tripped') {
          await sleep(500);
          continue;
        }
        const tried = { endedMs: Number.POSITIVE_INFINITY };
        resets.add(tried);
        const answer = await resetAt(service, body.tripId);
        tried.endedMs = nowMs();
        if (answer.status !== 200 && !OPEN_CODES.includes(answer.body.code)) resets.delete(tried);
        if (answer.status !== 200) continue;
        counts.resets += 1;
        await sleep(2_500);
      }
    }

    async function watch(service: RealService): Promise<void> {
      while (nowMs() < LASTS_MS) {
        const askedMs = nowMs();
        const { body } = await service.get('/estop');
        counts.looks += 1;
        if (body.state !== 'tripped') {
          counts.clear += 1;
          const before = presses.filter(({ at, atMs }) => at === service && atMs < askedMs);
          for (const press of before) {
            presses.splice(presses.indexOf(press), 1);
            if ([...resets].some(({ endedMs }) => endedMs >= press.atMs)) continue;
            lost.push(
              `${service.url} is ${body.state} at ${askedMs}; what was pressed there at ${press.atMs} was not reset`,
            );
          }
        }
        await sleep(150);
      }
    }

    const resetAt = (service: RealService, tripId: string): Promise<Reply> =>
      service.operate('/estop/reset', { tripId, reason: 'all well', acknowledgeUnverified: true });

    for (const { proxy } of replicas) proxy.setRule(() => (Math.random() < 0.25 ? oneOf(FAULTS) : null));
    const people = ['ada', 'bob', 'eve'].map(press);
    await Promise.all([...people, reset(), ...replicas.map(({ service }) => watch(service))]);
    for (const { proxy } of replicas) proxy.setRule(() => null);
    t.comment(JSON.stringify(counts));
    t.same(lost, []);
    t.ok(counts.presses > 3 && counts.looks > 100, 'much was tried');

    const { tripId } = (await oneOf(replicas).service.post('/estop', { reason: 'the last one' })).body;
    t.ok(tripId);
    const told = (): Promise<Reply['body'][]> =>
      Promise.all(replicas.map(async ({ service }) => (await service.get('/estop')).body));
    await rig.until('both hold the same trip', 120_000, async () => {
      const bodies = await told();
      return bodies.every(({ state }) => state === 'tripped') && new Set(bodies.map((body) => body.tripId)).size === 1;
    });
    const isOverAtBoth = async (): Promise<boolean> => {
      const bodies = await told();
      for (const [index, body] of bodies.entries()) {
        if (body.state === 'tripped') await resetAt((replicas[index] as Replica).service, body.tripId);
      }
      return bodies.every(({ state }) => state !== 'tripped');
    };
    await rig.until('a reset ends it at both', 120_000, isOverAtBoth, 500);
    t.match(await rig.configMap('vsf-estop'), { latched: 'false' });
  },
);
