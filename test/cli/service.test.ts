// The commands against the service itself, watching a simulated rig.
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import pino from 'pino';
import t, { type Test } from 'tap';
import { loadConfig } from '../../src/config.ts';
import { type Serving, serve } from '../../src/serve.ts';
import { vsfSafety } from '../support/command-line.ts';
import { startWorkload } from '../support/real-service.ts';
import { tempDir } from '../support/temp-dir.ts';

interface Running extends Serving {
  /** Runs a command as somebody on the same machine, who can read the state folder. */
  cli(...argv: string[]): ReturnType<typeof vsfSafety>;
  post(path: string, body: unknown): Promise<{ readonly status: number; readonly body: unknown }>;
}

async function start(t: Test): Promise<Running> {
  const stateDir = await tempDir(t);
  const loaded = loadConfig({
    text: 'interval: 1s\nsource: simulated\nlisten: { port: 0 }\nnodes: [ { name: rig, gpus: { "0000:02:00.0": { waive: [ gpu-power ] } } } ]',
    env: { VSF_SAFETY_STATE_DIR: stateDir },
    hostname: 'rig',
    homeDir: '/nonexistent',
  });
  if (!loaded.ok) throw new Error('the configuration of the test is wrong');
  const onBroken = (error: unknown): void => void t.fail(String(error));
  const serving = await serve(loaded.config, { log: pino({ level: 'silent' }), onBroken });
  if (serving.kind === 'refused') throw new Error(serving.message);
  t.teardown(() => serving.close());
  const env = { VSF_SAFETY_URL: serving.url, VSF_SAFETY_STATE_DIR: stateDir };
  return {
    ...serving,
    cli: (...argv) => vsfSafety(argv, { env }),
    async post(path, body) {
      const headers = { 'content-type': 'application/json' };
      const response = await fetch(serving.url + path, { method: 'POST', headers, body: JSON.stringify(body) });
      return { status: response.status, body: await response.json() };
    },
  };
}

t.test('a day with the service: status, drill, estop, reset and forget do what they say', async (t) => {
  const service = await start(t);
  const { cli, post } = service;
  const leaseId = randomUUID();
  const workload = startWorkload(t, leaseId);
  // The rig has to be seen to change before anything may start.
  const asked = { id: leaseId, workload: 'train-7', intensity: 0.5, processGroup: { pgid: workload.pid } };
  let lease = await post('/leases', asked);
  for (let attempt = 0; lease.status !== 201 && attempt < 20; attempt++) {
    await new Promise((resolve) => setTimeout(resolve, 500));
    lease = await post('/leases', asked);
  }
  t.equal(lease.status, 201, JSON.stringify(lease.body).slice(0, 500));

  const status = await cli('status');
  t.equal(status.code, 0, status.err);
  t.match(status.out, /^vsf-safety \d\S* at http:\/\/127\.0\.0\.1:\d+, up .* SIMULATED/);
  t.match(status.out, /^ {2}Action {8}PROCEED$/m);
  t.match(status.out, /^ {2}Interlock {5}clear$/m);
  t.match(status.out, /^rig {2}interlock clear, a workload is live, profile default$/m);
  t.match(status.out, /^ {2}gpu 0000:01:00\.0 temperature {2}\d+\.\d °C {2}80 °C {5}85 °C {6}\d/m);
  t.match(status.out, /^ {2}memory +\d+\.\d % +max 85 %/m);
  t.match(status.out, /gpu-power of GPU \S+ on rig may be absent: it is waived/);
  t.match(status.out, new RegExp(`^  train-7  intensity 0\\.5  all nodes  until \\S+  ${leaseId}$`, 'm'));
  t.match(status.out, /^ {2}simulated {2}rig {2}up {2}answered/m);
  const json = JSON.parse((await cli('status', '--json', '--node', 'rig')).out);
  t.match(json, { service: 'vsf-safety', nodes: [{ node: 'rig' }] });

  const drill = await cli('drill');
  t.match(drill, { code: 0, out: /a stop of everything would stop this:\n {2}would stop .*\nNothing was touched/s });
  t.equal(workload.exitCode, null, 'the workload still runs');

  const estop = await cli('estop', '--reason', 'smell of burning');
  t.equal(estop.code, 0, estop.err);
  t.match(estop.out, /^STOPPED: EVERYTHING, latched: trip \S+\n {2}stopped .*SIG/);
  t.equal(workload.signalCode, 'SIGTERM');
  const again = await cli('estop', '--json', '--wait', '0');
  t.match(JSON.parse(again.out), { joined: true, report: {} });
  t.match((await cli('status')).out, /^ {2}Action {8}ABORT\n.*\n {2}Interlock {5}tripped$/m);

  const reset = await cli('reset', '--reason', 'looked, all is well', '--acknowledge-unverified');
  t.match(reset, { code: 0, out: /Reset: trip \S+ is over/ }, reset.err);
  t.match(await cli('reset', '--reason', 'again'), { code: 0, out: /Nothing is tripped/ });
  t.match(await cli('reset', '--reason', 'again', '--trip', 'gone'), { code: 75, err: /gone/ });

  const present = await cli('forget', 'rig', '--gpu', '0000:01:00.0', '--reason', 'sold');
  t.match(present, { code: 75, err: /still there.*ignore/ });
  t.match(await cli('forget', 'nowhere', '--reason', 'sold'), { code: 1, err: /nowhere/ });
});

t.test('estop names a node that nobody knows, and says that nothing was stopped', async (t) => {
  const { cli } = await start(t);
  t.match(await cli('estop', '--node', 'nowhere'), {
    code: 1,
    out: '',
    err: /NOTHING IS KNOWN TO BE STOPPED.*nowhere/,
  });
  const stranger = await vsfSafety(['drill'], {
    env: { VSF_SAFETY_URL: (await start(t)).url, VSF_SAFETY_STATE_DIR: join(await tempDir(t), 'x') },
  });
  t.match(stranger, { code: 1, err: /operator is needed \(no token was given/ });
});
