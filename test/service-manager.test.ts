import t from 'tap';
import type { ClusterState } from '../src/domain/cluster.ts';
import type { Message } from '../src/domain/events.ts';
import type { SafetyState } from '../src/domain/state.ts';
import { ServiceManager } from '../src/service-manager.ts';

const UNKNOWN = { isLatchKnown: false } as ClusterState;

/** A manager that watches what a test says; `told` is each message that it sent. */
function watched(options: { intervalMs?: number; cluster?: ClusterState; env?: Record<string, string> } = {}) {
  const { intervalMs = 10_000, cluster = null, env = {} } = options;
  const told: string[][] = [];
  let listener = (_message: Message): void => undefined;
  const supervisor = {
    state: { settings: { intervalMs }, cluster, lastTickAtMs: null } as unknown as SafetyState,
    subscribe: (to: (message: Message) => void) => {
      listener = to;
      return () => undefined;
    },
  };
  const manager = new ServiceManager((lines) => told.push([...lines]), env, 1);
  manager.watch(supervisor);
  return {
    manager,
    told,
    /** Publishes an evaluation: a tick's where it comes with its moment. Gives what was told. */
    evaluate(change: Partial<SafetyState> = {}, result: object = {}): string[] {
      supervisor.state = { ...supervisor.state, ...change };
      const data = { action: 'PROCEED', reason: 'all is well', ...result };
      listener({ type: 'evaluation', sequence: 1, at: '', data } as unknown as Message);
      return told.at(-1) ?? [];
    },
  };
}

t.test('ServiceManager feeds the watchdog with each tick and with nothing else', async (t) => {
  const { told, evaluate } = watched();
  t.same(told, [['STATUS=Looks at the hardware for the first time', 'READY=1']]);
  t.same(evaluate().length, 1, 'a fast sample before the first tick');
  t.same(evaluate({ lastTickAtMs: 5 }).slice(1), ['WATCHDOG=1']);
  t.same(evaluate({}, { action: 'ABORT' }).length, 1, 'a fast sample that says something new');
  t.same(evaluate({ lastTickAtMs: 6 }).slice(1), ['WATCHDOG=1']);
});

t.test('ServiceManager is ready once the latch is known, and asks for time with each tick until then', async (t) => {
  const { told, evaluate } = watched({ cluster: UNKNOWN });
  t.notMatch(told.join(), 'READY');
  t.same(evaluate({ lastTickAtMs: 1 }).slice(1), ['EXTEND_TIMEOUT_USEC=60000000']);
  t.same(evaluate().length, 1, 'a loop that stands still gets none');
  const cluster = { ...UNKNOWN, isLatchKnown: true };
  t.same(evaluate({ lastTickAtMs: 2, cluster }).slice(1), ['READY=1', 'WATCHDOG=1']);
  t.notMatch(evaluate({ lastTickAtMs: 3 }).join(), 'READY', 'says so once');
});

t.test(
  'ServiceManager asks for a longer watchdog where the interval needs it, and never for a shorter one',
  async (t) => {
    const env = { WATCHDOG_USEC: '40000000' };
    t.notMatch(watched({ env }).told.join(), 'WATCHDOG_USEC');
    t.match(watched({ env, intervalMs: 30_000 }).told.join(), 'WATCHDOG_USEC=100000000');
    t.notMatch(watched({ intervalMs: 30_000 }).told.join(), 'WATCHDOG_USEC', 'no watchdog');
    const others = { ...env, WATCHDOG_PID: '2' };
    t.notMatch(watched({ env: others, intervalMs: 30_000 }).told.join(), 'WATCHDOG_USEC', 'another process is watched');
  },
);

t.test('ServiceManager tells the action in words, on one line, and that it ends', async (t) => {
  const { manager, told, evaluate } = watched();
  const statusOf = (action: string): string | undefined => evaluate({}, { action, reason: 'GPU 2 is at 86 °C' })[0];
  t.equal(statusOf('PROCEED'), 'STATUS=Safe, workloads may start (PROCEED): GPU 2 is at 86 °C');
  t.equal(
    statusOf('REDUCE_INTENSITY'),
    'STATUS=Workloads are to slow down, none may start (REDUCE_INTENSITY): GPU 2 is at 86 °C',
  );
  t.equal(statusOf('WAIT_COOLDOWN'), 'STATUS=Workloads are to wait, none may start (WAIT_COOLDOWN): GPU 2 is at 86 °C');
  t.equal(statusOf('ABORT'), 'STATUS=STOPPED until an operator resets (ABORT): GPU 2 is at 86 °C');
  t.match(
    evaluate({}, { reason: 'smoke\nWATCHDOG=1', simulated: true })[0],
    /^STATUS=SIMULATED\. .*: smoke WATCHDOG=1$/,
  );
  t.ok((evaluate({}, { reason: 'x'.repeat(5_000) })[0] ?? '').length < 400);
  manager.ending();
  t.same(told.at(-1), ['STOPPING=1', 'STATUS=Ends; the interlock is kept']);
});

t.test('ServiceManager.from() is nobody where no service manager asks', async (t) => {
  t.equal(ServiceManager.from({}, 1, { warn: () => undefined }), null);
});

t.test('ServiceManager.from() says once that nothing can be told, and goes on', async (t) => {
  const warnings: string[] = [];
  // A descriptor that nobody has opened.
  const env = {
    NOTIFY_SOCKET: '/nowhere',
    LISTEN_PID: '7',
    LISTEN_FDS: '900',
    LISTEN_FDNAMES: `${'x:'.repeat(890)}notify`,
  };
  const manager = ServiceManager.from(env, 7, { warn: (text) => warnings.push(text) });
  manager?.ending();
  manager?.ending();
  t.match(warnings, [/cannot be told .*EBADF/]);
  t.equal(warnings.length, 1);
});
