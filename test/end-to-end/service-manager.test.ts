// The real service, started as the unit starts it, against a real datagram socket in the place of systemd's.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import t from 'tap';
import { notifySocket } from '../support/notify-socket.ts';
import { ROOT, startService } from '../support/real-service.ts';
import { tempDir } from '../support/temp-dir.ts';

t.setTimeout(300_000);

const NOTIFY_EXEC = join(ROOT, 'deploy/notify-exec');
const FAST = 'interval: 1s\nfastInterval: 1s\nsource: simulated\n';

/** Bound, its queue filled to the brim, and never read. */
const DEAF = `
import socket, sys, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
c = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
c.setblocking(False)
try:
    while True: c.sendto(b'x', sys.argv[1])
except BlockingIOError: print('full', flush=True)
time.sleep(600)
`;

t.test('serve under notify-exec tells ready, alive, its action and its end, as the main process', async (t) => {
  const manager = await notifySocket(t);
  const env = { NOTIFY_SOCKET: manager.path, WATCHDOG_USEC: '40000000' };
  const service = await startService(t, { config: FAST, wrap: [NOTIFY_EXEC], env });
  const ready = await manager.until(/^READY=1$/);
  t.equal((await service.get('/estop')).status, 200, 'it listens, and knows its latch');
  t.equal(manager.datagrams[0], ready, 'and said nothing before');
  await manager.until(/^WATCHDOG=1$/);
  await manager.until(/^STATUS=SIMULATED\. Safe, workloads may start \(PROCEED\)/);
  t.equal((await service.get('/healthz')).status, 200);

  const before = manager.datagrams.length;
  await service.post('/estop', { reason: 'smell of burning' });
  await manager.until(/^STATUS=.*STOPPED until an operator resets \(ABORT\): .*smell of burning/, before);

  // One a tick, a second apart; a timer of its own would go on where ticks do not.
  const [from, fromMs] = [manager.datagrams.length, performance.now()];
  await new Promise((done) => setTimeout(done, 3_000));
  const fed = manager.datagrams.slice(from).filter(({ lines }) => lines.includes('WATCHDOG=1')).length;
  const seconds = (performance.now() - fromMs) / 1000;
  t.ok(fed >= 1 && fed <= seconds + 1.5, `${fed} in ${seconds} s`);

  t.equal(await service.stop(), 0);
  await manager.until(/^STOPPING=1$/);
  t.same(
    [...new Set(manager.datagrams.map(({ pid }) => pid))],
    [service.child.pid],
    'NotifyAccess=main takes all of it',
  );
});

t.test('serve without notify-exec runs systemd-notify for it', async (t) => {
  const manager = await notifySocket(t);
  const service = await startService(t, { config: FAST, env: { NOTIFY_SOCKET: manager.path } });
  await manager.until(/^READY=1$/);
  await manager.until(/^WATCHDOG=1$/);
  await service.stop();
  // Whose pid it bears depends on rights: root's systemd-notify may speak as its parent, anybody else's as itself.
  t.match((await manager.until(/^STOPPING=1$/)).lines, ['STOPPING=1', /^STATUS=Ends/]);
});

t.test('a service manager that does not read costs messages, and never the service', async (t) => {
  const path = join(await tempDir(t), 'deaf');
  const deaf = spawn('python3', ['-c', DEAF, path], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => deaf.kill('SIGKILL'));
  await once(deaf.stdout, 'data');
  const service = await startService(t, { config: FAST, wrap: [NOTIFY_EXEC], env: { NOTIFY_SOCKET: path } });
  await service.until(
    'a warning',
    () => service.get('/healthz'),
    () => service.output.join('').includes('The service manager cannot be told'),
    60_000,
  );
  t.equal((await service.get('/healthz')).status, 200);
  t.equal(await service.stop(), 0);
});

t.test(
  'notify-exec becomes its command, which finds no socket where none was named, and fails where it is not there',
  async (t) => {
    const show = ['sh', '-c', 'echo "$LISTEN_FDS" $$ "$@"', 'sh', 'a b'];
    const { NOTIFY_SOCKET: _, LISTEN_FDS: __, ...env } = process.env;
    t.match(execFileSync(NOTIFY_EXEC, show, { env, encoding: 'utf8' }), /^ \d+ a b\n$/);
    const lost = { ...env, NOTIFY_SOCKET: '/nowhere/notify' };
    t.throws(
      () => execFileSync(NOTIFY_EXEC, show, { env: lost, stdio: 'pipe' }),
      /notify-exec: \/nowhere\/notify: No such/,
    );
  },
);
