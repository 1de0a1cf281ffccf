// `restore` against the product's own app with a pretended cluster, and against services that refuse, hang or are old.
import t, { type Test } from 'tap';
import type { ClusterPart, RestoreStep } from '../../src/http/parts.ts';
import { type Ran, standInService, vsfSafety } from '../support/command-line.ts';
import { pretendCluster } from '../support/pretend-cluster.ts';
import { OWN_TOKEN, startApp, type TestApp } from '../support/test-app.ts';

const env = { VSF_SAFETY_TOKEN: OWN_TOKEN };

const step = (object: string, outcome: RestoreStep['outcome'], detail = 'spec.replicas 0 -> 10'): RestoreStep => ({
  uid: `uid of ${object}`,
  object,
  outcome,
  detail,
});

interface Stopped {
  readonly running: TestApp;
  readonly url: string;
  readonly tripId: string;
  readonly restored: Parameters<ClusterPart['restore']>[0][];
}

/** A trip that was on and is reset, whose stop took what `listed` says; a restore of it ends as `done` says. */
async function afterReset(t: Test, listed: readonly RestoreStep[], done: readonly RestoreStep[]): Promise<Stopped> {
  const restored: Parameters<ClusterPart['restore']>[0][] = [];
  const running = await startApp(t, {
    cluster: pretendCluster({
      facts: { priorValues: 5, priorTrips: { 'trip-before': 2 } },
      restore: async (request) => {
        restored.push(request);
        for (const each of request.dryRun ? listed : done) request.onStep(each);
        return request.dryRun ? listed : done;
      },
    }),
  });
  const { ask, actuator, pass } = running;
  const { tripId } = (await ask({ method: 'POST', url: '/estop' })).json();
  actuator.verify();
  await pass(0);
  const { url } = await running.listen();
  t.equal((await vsfSafety(['reset', '--url', url, '--reason', 'toast'], { env })).code, 0);
  return { running, url, tripId, restored };
}

const run = ({ url }: Stopped, ...args: readonly string[]): Promise<Ran> =>
  vsfSafety(['restore', '--url', url, ...args], { env });

const LISTED = [
  step('deployments.apps gpu/load', 'would-restore'),
  step('deployments.apps gpu/other', 'kept', 'spec.replicas is 2 by now, not 0: left as it is'),
  step('jobs.batch gpu/burn', 'would-restore', 'spec.suspend true -> false'),
];
const DONE = [
  step('deployments.apps gpu/load', 'restored'),
  step('deployments.apps gpu/other', 'kept', 'spec.replicas is 2 by now, not 0: left as it is'),
  step('jobs.batch gpu/burn', 'restored', 'spec.suspend true -> false'),
];

t.test('restore without --yes lists what the last reset trip’s stop took, and gives nothing back', async (t) => {
  const stopped = await afterReset(t, LISTED, DONE);
  const ran = await run(stopped);
  t.equal(ran.code, 0);
  t.match(stopped.restored, [{ tripId: stopped.tripId, dryRun: true }]);
  const lines = ran.out.split('\n');
  t.match(lines, [
    `What the stop of trip ${stopped.tripId} took: 2 controllers of 3 would be given back`,
    /^ {2}would give back {2}deployments\.apps gpu\/load {3}spec\.replicas 0 -> 10$/,
    /^ {2}left as it is {4}deployments\.apps gpu\/other {2}spec\.replicas is 2 by now/,
    /^ {2}would give back {2}jobs\.batch gpu\/burn {9}spec\.suspend true -> false$/,
    'Kept of another stop: 2 controllers, by --trip trip-before',
    /^Nothing was touched\./,
    `  vsf-safety restore --url ${stopped.url} --trip ${stopped.tripId} --yes`,
  ]);
  t.equal(ran.err, '');
});

t.test('restore --yes gives back, counting each by the service’s own events', async (t) => {
  const stopped = await afterReset(t, LISTED, DONE);
  const ran = await run(stopped, '--yes');
  t.equal(ran.code, 0);
  t.match(
    stopped.restored.map(({ dryRun }) => dryRun),
    [true, false],
  );
  t.match(ran.err.split('\n'), [
    'Giving back, one at a time: 3 to look at',
    '  1 of 3  deployments.apps gpu/load restored: spec.replicas 0 -> 10',
    /^ {2}2 of 3 {2}deployments\.apps gpu\/other kept/,
    /^ {2}3 of 3 {2}jobs\.batch gpu\/burn restored/,
  ]);
  t.match(ran.out, `After trip ${stopped.tripId}: 2 controllers of 3 given back\n`);
  t.notMatch(ran.out, /Nothing was touched/);
});

t.test('restore --yes ends with 75 when some could not be given back', async (t) => {
  const why = 'Not restored: GPU 2 is at 81 °C';
  const stopped = await afterReset(t, LISTED, [
    step('deployments.apps gpu/load', 'restored'),
    step('deployments.apps gpu/other', 'kept', ''),
    step('jobs.batch gpu/burn', 'not-reached', why),
  ]);
  const ran = await run(stopped, '--yes');
  t.equal(ran.code, 75);
  t.match(ran.out, /1 controller of 3 given back, 1 could not be\n/);
  t.match(ran.out, new RegExp(`NOT REACHED +jobs\\.batch gpu/burn +${why}`));
  const json = await run(stopped, '--yes', '--json');
  t.equal(json.code, 75);
  t.match(JSON.parse(json.out), { tripId: stopped.tripId, dryRun: false, otherTrips: { 'trip-before': 2 } });
});

t.test('restore with nothing kept of the trip gives nothing back and says which trips there are', async (t) => {
  const stopped = await afterReset(t, [], [step('never asked', 'restored')]);
  const ran = await run(stopped, '--yes');
  t.equal(ran.code, 0);
  t.equal(stopped.restored.length, 1, 'a dry run was enough');
  t.match(ran.out, /^Nothing is kept of trip .*\nKept of another stop: 2 controllers, by --trip trip-before\n$/);
});

t.test('restore is refused with 75 while a trip is on, without a cluster, and by a standby', async (t) => {
  const problems: readonly [status: number, body: object, said: RegExp][] = [
    [
      409,
      { code: 'restore-refused', detail: 'Cannot restore: t9 must be reset first', active: ['t9'] },
      /t9 must be reset first\n {2}on is t9\n$/,
    ],
    [409, { code: 'no-cluster', detail: 'Cannot restore: Kubernetes is not configured' }, /not configured\n$/],
    [503, { code: 'not-leader', detail: 'Cannot restore: this process does not lead, b does' }, /b does\n$/],
  ];
  for (const [status, body, err] of problems) {
    const { url, asked } = await standInService(t, ({ method }) =>
      method === 'GET' ? [200, { lastTrip: { tripId: 't1' } }] : [status, body],
    );
    t.match(await vsfSafety(['restore', '--url', url, '--yes'], { env }), { code: 75, out: '', err });
    t.match(asked.at(-1)?.body, { tripId: 't1', dryRun: true });
  }
});

t.test('restore needs no trip to have been', async (t) => {
  const { url, asked } = await standInService(t, () => [200, { lastTrip: null }]);
  t.match(await vsfSafety(['restore', '--url', url, '--yes'], { env }), { code: 0, out: /No trip has been reset yet/ });
  t.equal(asked.length, 1);
});

t.test('restore of a named trip asks for that one, and does without events where there are none', async (t) => {
  const { url, asked } = await standInService(t, ({ method, body, path }) => {
    if (method === 'GET') return [404, { detail: path }];
    const { dryRun } = body as { dryRun: boolean };
    return [
      200,
      { tripId: 'lapse-7', dryRun, steps: [step('a', dryRun ? 'would-restore' : 'restored')], otherTrips: {} },
    ];
  });
  const ran = await vsfSafety(['restore', '--url', url, '--trip', 'lapse-7', '--yes'], { env });
  t.match(ran, { code: 0, out: /1 controller of 1 given back/, err: 'Giving back, one at a time: 1 to look at\n' });
  t.same(
    asked.filter(({ method }) => method === 'POST').map(({ body }) => body),
    [
      { tripId: 'lapse-7', dryRun: true },
      { tripId: 'lapse-7', dryRun: false },
    ],
  );
});

t.test('restore ends with 1 when the connection breaks meanwhile, and 2 for what is no option', async (t) => {
  const { url } = await standInService(t, ({ method, body }) => {
    if (method === 'GET') return [404, {}];
    if ((body as { dryRun: boolean }).dryRun) {
      return [200, { tripId: 't1', dryRun: true, steps: [step('a', 'would-restore')], otherTrips: {} }];
    }
    return (response) => response.destroy();
  });
  const ran = await vsfSafety(['restore', '--url', url, '--trip', 't1', '--yes'], { env });
  t.match(ran, { code: 1, err: /connection was cut.*goes on.*vsf-safety restore/s });
  t.equal((await vsfSafety(['restore', '--force'])).code, 2);
});
