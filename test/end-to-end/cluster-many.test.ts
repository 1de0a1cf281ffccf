// A stop of so many pods that lists come in pages. How many is STOP_TEST_PODS, 1,200 unless it is set: three pages,
// in a time that a test may take.
import t from 'tap';
import { lacksCluster, MARK, startClusterRig, template, untilReady } from '../support/cluster-rig.ts';

t.setTimeout(1_800_000);

const PODS = Number(process.env['STOP_TEST_PODS'] ?? 1_200);
const AT_A_TIME = 32;
const EVERY_MS = 1_000;

t.test(`${PODS} pods are told to stop, and gone`, { skip: lacksCluster, timeout: 1_700_000 }, async (t) => {
  const rig = await startClusterRig(t);
  let left = PODS;
  const makeSome = async (): Promise<void> => {
    for (let i = left--; i > 0; i = left--) {
      await rig.create('Pod', `load-${i}`, { ...template({}), metadata: { labels: MARK } });
    }
  };
  await Promise.all(Array.from({ length: AT_A_TIME }, makeSome));
  await rig.untilRunning(PODS, 900_000);
  const service = await rig.serve();
  await untilReady(service, 60_000);
  t.match((await service.get('/status')).body.actuators.kubernetes.detail, new RegExp(`^${PODS} pods on nodes`));

  const startedAt = Date.now();
  const since = (): number => Date.now() - startedAt;
  t.equal((await service.post('/estop', { reason: 'all of it' })).status, 202);
  t.comment(`latched after ${since()} ms`);
  // Lists of them all would keep the server from the deletes.
  const areTold = async (): Promise<boolean> =>
    (await rig.marked()).every(({ metadata }) => metadata.deletionTimestamp !== undefined);
  await rig.until('every pod is told', 900_000, areTold, EVERY_MS);
  t.comment(`last delete sent after ${since()} ms at most`);
  await rig.until('no pod is left', 900_000, async () => (await rig.marked()).length === 0, EVERY_MS);
  t.comment(`empty after ${since()} ms`);
  const { body } = await service.until(
    'verified',
    () => service.get('/estop'),
    ({ body: { report } }) => report.state === 'verified',
    120_000,
  );
  t.comment(`verified after ${since()} ms`);
  t.equal(body.report.actuators.kubernetes.entries.filter(({ kind }: { kind: string }) => kind === 'Pod').length, PODS);
});
