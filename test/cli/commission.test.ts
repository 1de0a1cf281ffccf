// The whole test of a machine against the real service, which watches a simulated rig.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { createServer, request as httpRequest } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { CommissionInput } from '../../src/cli/commission-step.ts';
import { vsfSafety } from '../support/command-line.ts';
import { isGroupAlive, type RealService, startLeased, startService } from '../support/real-service.ts';
import { tempDir } from '../support/temp-dir.ts';

const VIEWER = 'a-viewers-token-0123456789';
const CONFIG = `
interval: 1s
source: simulated
nodes: [ { name: rig } ]
auth: { tokens: [ { role: viewer, sha256: "${createHash('sha256').update(VIEWER).digest('hex')}" } ] }
`;

async function start(t: Test): Promise<RealService> {
  const service = await startService(t, { config: CONFIG, args: [] });
  await isSafe(service);
  return service;
}

const isSafe = (service: RealService): Promise<unknown> =>
  service.until(
    'a safe preflight',
    () => service.get('/preflight'),
    ({ status }) => status === 200,
  );

interface World {
  readonly confirm?: (question: string) => Promise<boolean>;
  readonly token?: string;
}

function commission(
  service: Pick<RealService, 'url' | 'stateDir'>,
  args: readonly string[],
  { confirm, token }: World = {},
) {
  const env = {
    VSF_SAFETY_URL: service.url,
    VSF_SAFETY_STATE_DIR: service.stateDir,
    ...(token !== undefined && { VSF_SAFETY_TOKEN: token }),
  };
  return vsfSafety(['commission', ...args], { env, ...(confirm && { confirm }) });
}

const reportOf = (out: string): CommissionInput & { readonly name: string } => JSON.parse(out);
const stepOf = ({ steps }: CommissionInput, id: string) => steps.find((step) => step.id === id);
const isClear = async (service: RealService): Promise<boolean> => (await service.get('/estop')).body.state === 'clear';

t.test(
  'commission accepts a machine, stops a canary live with times, and leaves it clear and the report kept',
  async (t) => {
    const service = await start(t);
    const asked: string[] = [];
    const confirm = async (question: string): Promise<boolean> => asked.push(question) > 0;
    const folder = join(await tempDir(t), 'new');
    const ran = await commission(service, ['--watch', '3', '--by', 'J. Doe', '--output', folder], { confirm });
    t.equal(ran.code, 0, ran.out + ran.err);
    t.match(asked, [/trips rig for some seconds/]);
    t.match(ran.out, /^\[1\/8\] The service\n {6}PASS {2}vsf-safety \S+ at http.*ready, interlock clear/);
    t.match(ran.out, /rig {3}0000:01:00\.0 {2}Simulated GPU {2}GPU-5f5f0000-\S+ {2}\d+\.\d °C/);
    t.match(ran.out, /\[4\/8\].*\n {6}PASS {2}\d evaluations in .*17 of 17 readings moved, 5 of 5 witnesses advanced/);
    t.match(ran.out, /\[8\/8\].*\n {6}PASS {2}stop of rig: latched \d+ ms, first signal \d+ ms, gone \d+ ms, verified/);
    t.match(ran.out, /ACCEPTED WITH WARNINGS.*tested by J\. Doe \(token:\w+\); SIMULATED/);

    const { commission: told, interlock, leases } = (await service.get('/status')).body;
    t.match(told, { verdict: 'accepted-with-warnings', operator: 'J. Doe', isCurrent: true });
    t.match({ interlock, leases }, { interlock: { state: 'clear' }, leases: [] }, 'left as it was found');
    const { lastTrip } = (await service.get('/estop')).body;
    t.match(lastTrip, {
      scope: { kind: 'nodes', nodes: ['rig'] },
      reason: /commissioning/,
      resetReason: /commissioning/,
    });
    t.equal(lastTrip.report.actuators['local-processes'].entries.length, 1);

    const kept = reportOf(readFileSync(join(service.stateDir, 'commission', `${told.name}.json`), 'utf8'));
    const { figures = {} } = stepOf(kept, 'canary') ?? {};
    const times = ['commandToSignalMs', 'commandToGoneMs', 'commandToVerifiedMs', 'commandToResetMs'].map(
      (name) => figures[name] ?? 0,
    );
    t.ok(times[0] && times[0] > 0);
    t.same(
      [...times].sort((a, b) => a - b),
      times,
      'in this order',
    );
    t.same(readdirSync(folder).sort(), [`${told.name}.json`, `${told.name}.md`]);
    const status = await vsfSafety(['status'], { env: { VSF_SAFETY_URL: service.url } });
    t.match(status.out, /^ {2}Commissioned {2}accepted with warnings, 20\d\d-\S+ \S+ UTC by J\. Doe, SIMULATED$/m);
    const audit = await vsfSafety(['audit', '--state-dir', service.stateDir]);
    t.match(audit.out, /commission +done +token:\w+ \(operator\).*accepted-with-warnings, tested by J\. Doe/);

    // The same folder under other limits.
    await service.stop();
    const again = await startService(t, {
      stateDir: service.stateDir,
      config: `${CONFIG}constraints: bizon1\n`,
      args: [],
    });
    await again.until(
      'an outdated report',
      () => again.get('/status'),
      ({ body }) => body.commission.outdated[0]?.startsWith('the limits have changed'),
    );
    const outdated = await vsfSafety(['status'], { env: { VSF_SAFETY_URL: again.url } });
    t.match(outdated.out, /^ {2}Commissioned {2}OUTDATED: the limits have changed.*\(accepted with warnings/m);
  },
);

/** For all tests below, which leave it as they found it, but for the last. */
const service = await start(t);

t.test('commission shows a viewer what it can, and says that the report was not kept', async (t) => {
  const ran = await commission(service, ['--watch', '1', '--yes'], { token: VIEWER });
  t.equal(ran.code, 1);
  t.match(ran.out, /warning: The caller is a viewer/);
  t.match(ran.out, /\[7\/8\] Drill\n {6}SKIPPED {2}it is an operator’s: .*viewer/);
  t.match(ran.out, /\[8\/8\].*\n {6}SKIPPED {2}it is an operator’s/);
  t.match(ran.err, /ended with "accepted-with-warnings", and the report was not kept: .*--token-file/);
  t.equal((await service.get('/commission')).status, 404);
});

t.test('commission never stops what is no canary, and asks before it stops anything', async (t) => {
  const args = ['--json', '--watch', '1'];
  const unasked = await commission(service, args);
  t.equal(unasked.code, 0, unasked.err);
  t.match(stepOf(reportOf(unasked.out), 'canary'), { verdict: 'skipped', summary: /no terminal: --yes/ });
  const refused = await commission(service, args, { confirm: async () => false });
  t.match(stepOf(reportOf(refused.out), 'canary'), { verdict: 'skipped', summary: /not wanted/ });
  const none = await commission(service, [...args, '--yes', '--canary', 'none']);
  t.match(stepOf(reportOf(none.out), 'canary'), { verdict: 'skipped', summary: /--canary none/ });

  const { id, pgid } = await startLeased(t, service);
  for (const scope of ['node', 'all']) {
    const ran = await commission(service, [...args, '--yes', '--canary', scope]);
    t.equal(ran.code, 0, ran.err);
    const report = reportOf(ran.out);
    t.match(
      stepOf(report, 'canary'),
      { verdict: 'skipped', summary: /no canary: 1 workload .*lease of train-7/ },
      scope,
    );
    t.match(stepOf(report, 'drill'), { verdict: 'pass', tables: [{ rows: [['process-group', /train-7/]] }] });
    t.equal(report.verdict, 'accepted-with-warnings', 'what was not tried is said');
  }
  t.ok(isGroupAlive(pgid), 'it still runs');
  t.ok(await isClear(service));
  t.equal((await service.get('/estop')).body.lastTrip, null, 'nothing was ever tripped');
  await service.ask('DELETE', `/leases/${id}`);
});

t.test('commission names a dead sensor, a frozen one and a lost card, and rejects', async (t) => {
  await service.simulate({
    faults: [
      { kind: 'reading-missing', component: 'gpu', gpu: 1, quantity: 'power' },
      { kind: 'gpu-temperature', gpu: 0, valueC: 41 },
      { kind: 'gpu-memory', gpu: 0, ratio: 0.02 },
      { kind: 'gpu-lost', gpu: 3 },
    ],
  });
  await service.until(
    'what the faults do',
    () => service.get('/status'),
    ({ body }) => body.nodes[0].findings.length > 0,
  );
  const ran = await commission(service, ['--json', '--watch', '4', '--yes']);
  t.equal(ran.code, 75, ran.err);
  const report = reportOf(ran.out);
  t.equal(report.verdict, 'rejected');
  const texts = (id: string, level: string): string =>
    (stepOf(report, id)?.notes ?? [])
      .filter((note) => note.level === level)
      .map(({ text, remedy = '' }) => `${text} ${remedy}`)
      .join('\n');
  t.match(texts('inventory', 'fail'), /GPU GPU-\S+0003 of rig was there and is gone .*vsf-safety forget rig/);
  t.match(texts('inventory', 'fail'), /gpu 0000:02:00\.0 power of rig is missing/);
  t.match(texts('sensors', 'fail'), /gpu 0000:02:00\.0 power of rig is not there/);
  t.match(texts('sensors', 'warning'), /gpu 0000:01:00\.0 temperature of rig stayed at exactly 41\.0 °C for .*at rest/);
  t.notMatch(texts('sensors', 'warning'), /memory/);
  t.match(texts('sensors', 'note'), /No fault.*gpu 0000:01:00\.0 memory of rig/);
  t.match(stepOf(report, 'canary'), { verdict: 'fail', notes: [{ text: /The canary did not run: refused.*power/ }] });
  t.match((await service.get('/status')).body, { commission: { verdict: 'rejected' }, leases: [] });

  await service.simulate({ faults: [{ kind: 'frozen' }] });
  const frozen = reportOf((await commission(service, ['--json', '--watch', '2', '--canary', 'none'])).out);
  const { notes = [] } = stepOf(frozen, 'sensors') ?? {};
  t.match(notes.map(({ text }) => text).join('\n'), /simulated_seconds of simulated on rig has not advanced for/);
  await service.simulate({ faults: [] });
  await isSafe(service);
});

t.test('commission says when there is no service, and what it would do', async (t) => {
  const url = 'http://127.0.0.1:65533';
  t.match(await vsfSafety(['commission', '--url', url]), {
    code: 1,
    err: /Cannot reach http.*Is the service running\?/,
  });
  const plan = await vsfSafety(['commission', '--url', url, '--dry-run', '--watch', '90']);
  t.match(plan, { code: 0, err: '' });
  t.match(plan.out, /\[4\/8\] Dead or frozen sensors: 90 s/);
  t.match(plan.out, /\[8\/8\].*trips its node[\s\S]*Nothing was asked and nothing was touched/);
  for (const [args, err] of [
    [['--watch', '0'], /--watch/],
    [['--canary', 'some'], /must be node, all or none/],
    [['--by', ' '], /--by is empty/],
  ] as const) {
    t.match(await vsfSafety(['commission', '--url', url, ...args]), { code: 2, err });
  }
});

t.test('commission fails on a tripped service, says what comes first, and leaves the trip alone', async (t) => {
  const { tripId } = (await service.post('/estop', { reason: 'smell of burning' })).body;
  const ran = await commission(service, ['--watch', '1', '--yes']);
  t.equal(ran.code, 75, ran.err);
  t.match(ran.out, new RegExp(`FAIL .*interlock TRIPPED.*tripped \\(trip ${tripId}\\): it must be reset first`, 's'));
  t.match(ran.out, /SKIPPED {2}the interlock is tripped/);
  t.match((await service.get('/estop')).body, { state: 'tripped', tripId });
  const reset = await service.operate('/estop/reset', { tripId, reason: 'aired' });
  t.equal(reset.status, 200, JSON.stringify(reset.body));
});

t.test('commission that is interrupted leaves no canary, and names the trip that it made', async (t) => {
  const env = { ...process.env, VSF_SAFETY_URL: service.url, VSF_SAFETY_STATE_DIR: service.stateDir };
  const started = (...args: string[]) => {
    const child = spawn(process.execPath, ['dist/bundle/main.js', 'commission', ...args], {
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    t.teardown(() => child.kill('SIGKILL'));
    const told = { out: '', err: '' };
    child.stdout.on('data', (text) => (told.out += text));
    child.stderr.on('data', (text) => (told.err += text));
    return { child, told, ended: once(child, 'exit') };
  };
  const early = started('--watch', '60');
  while (!early.told.out.includes('[4/8]')) await once(early.child.stdout, 'data');
  early.child.kill('SIGINT');
  t.same(await early.ended, [1, null]);
  t.match(early.told.err, /Interrupted, no report was made; nothing is left behind/);

  // Too warm to be reset: so the trip stands until somebody loses patience.
  const late = started('--watch', '1', '--yes');
  const { body } = await service.until(
    'the trip of the test',
    () => service.get('/estop'),
    (reply) => reply.body.state === 'tripped',
  );
  await service.simulate({ faults: [{ kind: 'cpu-temperature', valueC: 91 }] });
  await service.until(
    'a verified stop',
    () => service.get('/estop'),
    (reply) => reply.body.report.state === 'verified',
  );
  await new Promise((resolve) => setTimeout(resolve, 300));
  late.child.kill('SIGINT');
  t.same(await late.ended, [1, null], late.told.out);
  t.match(late.told.err, new RegExp(`still on: vsf-safety reset --trip ${body.tripId}`));
  t.same((await service.get('/status')).body.leases, []);
  t.equal((await service.get('/estop')).body.tripId, body.tripId);
});

t.test('commission whose stop was made and not answered names the trip', async (t) => {
  const service = await start(t);
  // What is between the two loses the one answer.
  const between = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on('data', (part) => parts.push(part));
    request.on('end', async () => {
      const body = Buffer.concat(parts);
      const { url = '', method = 'GET', headers } = request;
      const forwarded = httpRequest(`${service.url}${url}`, { method, headers }, (answer) => {
        const isStop = method === 'POST' && url === '/estop' && !body.includes('drill');
        if (isStop) response.destroy();
        else answer.pipe(response.writeHead(answer.statusCode ?? 500, answer.headers));
      });
      forwarded.on('error', () => response.destroy());
      forwarded.end(body);
    });
  });
  between.listen(0, '127.0.0.1');
  await once(between, 'listening');
  t.teardown(() => {
    between.closeAllConnections();
    between.close();
  });
  const { port } = between.address() as AddressInfo;
  const url = `http://127.0.0.1:${port}`;
  const ran = await commission({ url, stateDir: service.stateDir }, ['--watch', '1', '--yes']);
  t.equal(ran.code, 75, ran.out + ran.err);
  const { tripId, state } = (await service.get('/estop')).body;
  t.equal(state, 'tripped');
  t.match(ran.out, new RegExp(`to do: vsf-safety reset --trip ${tripId}`));
  t.same((await service.get('/status')).body.leases, []);
});
