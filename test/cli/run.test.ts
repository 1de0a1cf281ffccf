import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { FAST, hot, startRig, until } from '../sdk/real-rig.ts';
import { vsfSafety } from '../support/command-line.ts';
import { freshFolder } from '../support/real-service.ts';
import { isAlive, start, stateOf } from './run-started.ts';

t.setTimeout(120_000);
/** One for all: the last to use it trips it. */
const service = await startRig(t);

t.test('run passes its command’s exit code on, and says by its own what was refused', async (t) => {
  const cases: readonly [args: readonly string[], code: number, err: RegExp][] = [
    [['--', 'sh', '-c', 'kill -USR1 $$'], 138, /started at intensity 0.8/],
    [['--', 'no-such-program'], 127, /not found/],
    [['--intensity', '0.9', '--', 'true'], 75, /refused, nothing was started.*90 %/],
    [['--nodes', 'nowhere', '--', 'true'], 1, /nowhere/],
    [['--url', 'http://127.0.0.1:1', '--', 'true'], 75, /connection refused/],
  ];
  const runs = cases.map(([args]) => start(t, ['run', ...args], { VSF_SAFETY_URL: service.url }));
  for (const [index, [args, code, err]] of cases.entries()) {
    t.equal(await runs[index]?.ended, code, args.join(' '));
    t.match(runs[index]?.err(), err);
  }
});

t.test('run goes on looking after its command when nobody reads what it says', async (t) => {
  const run = start(t, ['run', '--', 'sh', '-c', 'sleep 2; exit 7'], { VSF_SAFETY_URL: service.url });
  run.child.stdout?.destroy();
  run.child.stderr?.destroy();
  t.equal(await run.ended, 7);
});

t.test('run refuses a command line that is none, without asking anybody', async (t) => {
  const cases: readonly [args: readonly string[], err: RegExp][] = [
    [['--intensity', '2', '--', 'true'], /--intensity is "2": must be a number over 0 to 1/],
    [['--ttl', '4', '--', 'true'], /--ttl is "4": must be a whole number of seconds from 5 to 300/],
    [['--nodes', 'a,,b', '--', 'true'], /--nodes is "a,,b"/],
    [['--url', 'nowhere', '--', 'true'], /must be an http/],
    [['--embedded', '--url', 'http://a', '--', 'true'], /--url does not go with --embedded/],
    [['--config', 'a.yaml', '--', 'true'], /--config goes only with --embedded/],
    [['true'], /COMMAND is missing/],
    [['--'], /COMMAND is missing/],
  ];
  for (const [args, err] of cases) {
    const ran = await vsfSafety(['run', ...args]);
    t.equal(ran.code, 2, args.join(' '));
    t.match(ran.err, err);
  }
});

t.test('run stops what left its process group, and what its command leaves behind', async (t) => {
  const { url } = service;
  const script = 'setsid sleep 300 & echo $!; sleep 300 & echo $!; exit 3';
  const run = start(t, ['run', '--', 'sh', '-c', script], { VSF_SAFETY_URL: url });
  t.equal(await run.ended, 3);
  const pids = run.out().split('\n').filter(Boolean).map(Number);
  t.equal(pids.length, 2);
  t.same(pids.filter(isAlive), []);
  t.match(run.err(), /left [12] processes behind/);
});

t.test('run passes signals on, and its command’s answer back', async (t) => {
  const { url } = service;
  const script = 'trap "echo one" USR1; trap "exit 9" TERM; echo up; while :; do sleep 0.1; done';
  const run = start(t, ['run', '--', 'sh', '-c', script], { VSF_SAFETY_URL: url });
  await until('a running command', () => /up/.test(run.out()));
  run.child.kill('SIGUSR1');
  await until('the answer', () => /one/.test(run.out()));
  run.child.kill('SIGTERM');
  t.equal(await run.ended, 9);
});

t.test('run --wait waits out what ends by itself, and gives up when told to', async (t) => {
  const missing = { faults: [{ kind: 'reading-missing', component: 'cpu', quantity: 'temperature' }] };
  await service.simulate(missing);
  const args = ['run', '--wait', '--', 'echo', 'done'];
  const [patient, impatient] = [0, 1].map(() => start(t, args, { VSF_SAFETY_URL: service.url }));
  await until('both waiting', () => [patient, impatient].every((run) => /waits for leave/.test(run?.err() ?? '')));
  impatient?.child.kill('SIGINT');
  t.equal(await impatient?.ended, 130);
  t.equal(impatient?.out(), '');
  await service.simulate({ faults: [] });
  t.equal(await patient?.ended, 0);
  t.equal(patient?.out(), 'done\n');
});

t.test('run --embedded needs no service', async (t) => {
  const folder = freshFolder(t);
  const config = join(folder, 'safety.yaml');
  writeFileSync(config, `source: simulated\nstateDir: ${join(folder, 'state')}\n${FAST}`);
  const run = start(t, ['run', '--embedded', '--config', config, '--wait', '--', 'sh', '-c', 'echo ran; exit 4']);
  t.equal(await run.ended, 4);
  t.equal(run.out(), 'ran\n');
  t.match(run.err(), /started .* of the embedded monitor/);
});

t.test('run obeys: environment and file, reduced, paused, going on, and 76 on a hard stop', async (t) => {
  const script =
    'echo pid $$; env | grep ^VSF_; setsid sleep 300 & while :; do sleep 0.2; echo at $(cat $VSF_INTENSITY_FILE); done';
  const run = start(t, ['run', '--intensity', '0.6', '--', 'sh', '-c', script], { VSF_SAFETY_URL: service.url });
  await until('a running command', () => /at 0.6/.test(run.out()));
  t.match(run.out(), /^VSF_INTENSITY=0.6$/m);
  const id = /^VSF_LEASE=(.+)$/m.exec(run.out())?.[1] ?? '';
  t.match((await service.get(`/leases/${id}`)).status, 200);
  const pid = Number(/pid (\d+)/.exec(run.out())?.[1]);

  await service.simulate({ faults: [{ kind: 'gpu-power', gpu: 1, valueW: 260 }] });
  await until('the cap in the file', () => /at 0.3/.test(run.out()));
  t.match(run.err(), /intensity reduced to 0.3: .*260 W/);

  await service.simulate({ faults: [{ kind: 'reading-missing', component: 'cpu', quantity: 'temperature' }] });
  await until('the pause', () => stateOf(pid) === 'T');
  await service.simulate({ faults: [] });
  await until('its end', () => stateOf(pid) !== 'T');
  t.match(run.err(), /paused: .*\n.*goes on after/);

  await service.simulate(hot(86));
  t.equal(await run.ended, 76);
  t.match(run.err(), /stopping for safety: .*86 °C/);
  t.notOk(isAlive(pid));
});
