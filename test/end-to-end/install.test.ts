// deploy/install.sh with the real useradd, systemctl and systemd-analyze, over folders of this machine that are a copy of
// their own (a mount namespace), and what it installed run as the unit says.
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { notifySocket } from '../support/notify-socket.ts';
import { isGroupAlive, RealService, ROOT } from '../support/real-service.ts';
import { tempDir } from '../support/temp-dir.ts';
import { commandOfUnit, unitValue } from '../support/unit-file.ts';

t.setTimeout(300_000);
if (process.getuid?.() !== 0) {
  t.plan(0, 'only root can install');
  process.exit(0);
}

const INSTALL = join(ROOT, 'deploy/install.sh');
/** Of 10, the lower the better; what is left is named at the end of the unit, with the reason. */
const MOST_EXPOSURE = 2.3;

/** A machine to install on: /etc is a copy, /opt, /var/lib and /usr/local/bin are empty, and all is gone after the test. */
class Machine {
  readonly #holder: ChildProcess;

  private constructor(holder: ChildProcess) {
    this.#holder = holder;
  }

  static async make(t: Test): Promise<Machine> {
    const folder = await tempDir(t);
    const lay = `
      mount --make-rprivate /
      mount -t tmpfs tmpfs ${folder}
      cp -a /etc ${folder}/etc
      mount --bind ${folder}/etc /etc
      for place in /opt /var/lib /usr/local/bin; do mount -t tmpfs -o mode=0755 tmpfs $place; done
      echo laid
      exec sleep 600`;
    const holder = spawn('unshare', ['-m', 'sh', '-euc', lay], { stdio: ['ignore', 'pipe', 'inherit'] });
    t.teardown(() => holder.kill('SIGKILL'));
    await once(holder.stdout, 'data');
    return new Machine(holder);
  }

  inside(command: readonly string[]): string[] {
    return ['nsenter', '-t', String(this.#holder.pid), '-m', '--', ...command];
  }

  /** As root. `systemctl` takes the machine for one that is not booted: it enables, and starts nothing. */
  run(...command: string[]): { readonly status: number | null; readonly out: string } {
    const [program = '', ...args] = this.inside(command);
    const env = { ...process.env, SYSTEMD_OFFLINE: '1' };
    const { status, stdout, stderr } = spawnSync(program, args, { cwd: ROOT, env, encoding: 'utf8' });
    return { status, out: stdout + stderr };
  }

  /** What install.sh prints: its commands. */
  install(...args: string[]): string[] {
    const { status, out } = this.run(INSTALL, ...args);
    if (status !== 0) throw new Error(out);
    return out.split('\n').filter((line) => /^[a-z/]\S* /.test(line));
  }

  /** Every path that an installation may touch, with owner and mode. */
  picture(): string {
    const places = '/etc/vsf-safety /etc/systemd /etc/udev /etc/passwd /opt /var/lib /usr/local/bin';
    return this.run('sh', '-c', `find ${places} -printf '%p %u %g %m %s\\n' 2>/dev/null | sort`).out;
  }
}

t.test('install.sh --dry-run prints what it would do, and does nothing of it', async (t) => {
  const machine = await Machine.make(t);
  const before = machine.picture();
  const planned = machine.install('--dry-run');
  t.equal(machine.picture(), before);
  t.match(planned.join('\n'), /^useradd --system .*\n(.*\n)*systemctl restart vsf-safety\.service $/);
  const done = machine.install();
  t.same(
    done.filter((line) => planned.includes(line)),
    planned,
    'the run itself prints the very same commands, in their order',
  );
  t.match(machine.run(INSTALL, '--frobnicate'), { status: 2 });
  t.match(machine.run(INSTALL, '--purge'), { status: 2 }, 'an installation that purges');
});

t.test('install.sh lays out a unit that systemd takes without a word, hardened as far as it goes', async (t) => {
  const machine = await Machine.make(t);
  machine.install();
  t.match(machine.run('systemd-analyze', 'verify', '/etc/systemd/system/vsf-safety.service'), { status: 0, out: '' });
  const { out } = machine.run(
    'systemd-analyze',
    'security',
    '--offline=true',
    '/etc/systemd/system/vsf-safety.service',
  );
  const exposure = Number(/Overall exposure level for vsf-safety\.service: ([\d.]+)/.exec(out)?.[1]);
  t.comment(`systemd-analyze security: ${exposure} of 10`);
  t.comment(
    out
      .split('\n')
      .filter((line) => line.startsWith('✗'))
      .map((line) => line.slice(0, 60).trim())
      .join('; '),
  );
  t.ok(exposure > 0 && exposure <= MOST_EXPOSURE, `${exposure}, at most ${MOST_EXPOSURE}`);
  t.match(machine.picture(), /^\/var\/lib\/vsf-safety vsf-safety vsf-safety 700 /m);
  t.match(machine.picture(), /^\/etc\/vsf-safety\/safety\.yaml root vsf-safety 640 /m);
  t.match(machine.picture(), /^\/etc\/systemd\/system\/multi-user\.target\.wants\/vsf-safety\.service /m, 'enabled');
  t.match(machine.run('/usr/local/bin/vsf-safety', '--version'), { status: 0, out: /^vsf-safety \d/ });
});

t.test(
  'what install.sh installed runs as the unit says, stops others’ workloads, and outlives an upgrade',
  async (t) => {
    const machine = await Machine.make(t);
    machine.install();
    machine.run(
      'sh',
      '-c',
      'printf "interval: 1s\\nfastInterval: 1s\\nsource: simulated\\nlisten: { port: 0 }\\n" > /etc/vsf-safety/safety.yaml',
    );
    const manager = await notifySocket(t);
    const start = async (): Promise<RealService> => {
      const [program = '', ...args] = machine.inside(commandOfUnit('ExecStart'));
      const env = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin', NOTIFY_SOCKET: manager.path };
      const from = manager.datagrams.length;
      const service = new RealService('/var/lib/vsf-safety', spawn(program, args, { env, cwd: '/' }));
      t.teardown(() => service.child.kill('SIGKILL'));
      await manager.until(/^READY=1$/, from).catch((error) => t.fail(`${error}\n${service.output.join('')}`));
      // Its log may come through another pipe a little later.
      while (service.url === '') {
        await new Promise((done) => setTimeout(done, 20));
        service.url = /listening at (http:\/\/[^"\s]+)/i.exec(service.output.join(''))?.[1] ?? '';
      }
      return service;
    };
    const service = await start();
    t.equal(manager.datagrams[0]?.pid, service.child.pid, 'the main process');
    t.match(machine.picture(), /^\/var\/lib\/vsf-safety\/journal\.jsonl vsf-safety vsf-safety 600 /m);

    // A workload of another user, whom the service may signal by its capabilities alone.
    const id = randomUUID();
    const script = 'trap "" TERM; while :; do sleep 0.2; done';
    const workload = spawn('setpriv', ['--reuid=65534', '--regid=65534', '--clear-groups', 'bash', '-c', script], {
      detached: true,
      stdio: 'ignore',
      env: { PATH: process.env['PATH'], VSF_LEASE: id },
    });
    const pgid = workload.pid ?? 0;
    t.teardown(() => {
      if (isGroupAlive(pgid)) process.kill(-pgid, 'SIGKILL');
    });
    await service.until(
      'a safe preflight',
      () => service.get('/preflight'),
      ({ status }) => status === 200,
    );
    const lease = await service.post('/leases', { id, workload: 'train-7', processGroup: { pgid }, ttlSeconds: 300 });
    t.equal(lease.status, 201, JSON.stringify(lease.body));

    const stopPost = (env: Record<string, string>) => {
      const [program = '', ...args] = machine.inside([...commandOfUnit('ExecStopPost'), '--simulated']);
      return spawnSync(program, args, { env: { PATH: '/usr/bin:/bin', ...env }, encoding: 'utf8' });
    };
    // An upgrade: the same script again, then systemd's restart.
    machine.install();
    t.equal(await service.stop(), 0);
    t.equal(stopPost({ SERVICE_RESULT: 'success' }).status, 0);
    const upgraded = await start();
    await upgraded.until(
      'a renewal',
      () => upgraded.ask('PUT', `/leases/${id}`, {}),
      ({ status }) => status === 200,
    );
    t.ok(isGroupAlive(pgid), 'an upgrade kills nothing');

    await upgraded.stop('SIGKILL');
    const ended = stopPost({ SERVICE_RESULT: 'signal', EXIT_CODE: 'killed', EXIT_STATUS: 'KILL' });
    t.match(ended, { status: 0, stderr: /stopped .*SIGTERM, SIGKILL/ });
    // A zombie until this process, its parent, has heard of its end.
    if (workload.exitCode === null && workload.signalCode === null) await once(workload, 'exit');
    t.equal(workload.signalCode, 'SIGKILL', 'a death stops it, though it is another user’s');

    const kept = machine.install('uninstall');
    t.match(kept.join('\n'), /^systemctl stop .*\nsystemctl disable /);
    t.match(machine.picture(), /^\/var\/lib\/vsf-safety\/journal\.jsonl /m, 'state is kept');
    t.match(machine.picture(), /^\/etc\/vsf-safety\/safety\.yaml /m);
    t.notMatch(machine.picture(), /\/opt\/vsf-safety|vsf-safety\.service|60-vsf|local\/bin\/vsf-safety/);
    machine.install('uninstall', '--purge');
    t.notMatch(machine.picture(), 'vsf-safety');
    t.equal(machine.run('getent', 'passwd', 'vsf-safety').status, 2, 'and the user');
  },
);

t.test('the unit gives the watchdog and the end of the service more time than these need', async (t) => {
  t.ok(Number(unitValue('WatchdogSec')) > 3 * 10, 'over three ticks of the default interval');
  t.ok(Number(unitValue('TimeoutStopSec')) > 5 + 15, 'a slow end, and then stop-orphans');
  t.match(readFileSync(join(ROOT, 'deploy/vsf-safety.service'), 'utf8'), /^KillMode=mixed$/m);
  t.match(execFileSync(INSTALL, ['--help'], { encoding: 'utf8' }), /^Usage: deploy\/install\.sh/);
});
