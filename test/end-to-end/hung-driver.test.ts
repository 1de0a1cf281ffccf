// A driver that hangs takes nvidia-smi with it: the tool ignores TERM, or cannot be ended at all. The service must stay
// as quick as ever, above all at the emergency stop; must not pile up processes; and must come to the end that a machine
// deserves of which nobody knows how hot it is.
import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { ADA, ADA_IDLE, UUID } from '../fixtures/nvidia-smi-cards.ts';
import { type LaidOutMachine, NODE, readingsOf, startMachine } from '../support/laid-out-machine.ts';
import { isGroupAlive, type Reply, startWorkload } from '../support/real-service.ts';
import type { StandIn } from '../support/stand-in-command.ts';
import { driverScript } from '../support/stand-in-nvidia-smi.ts';

// Real processes on a machine that may be busy.
t.setTimeout(300_000);

const HEALTHY = driverScript({ cards: [ADA, ADA_IDLE] });
const IGNORES_TERM = 'echo $$ >> "$STAND_IN/started"; trap "" TERM; while :; do sleep 1; done';
/** The tool proper is in a session of its own, where no signal to the group reaches it: as in uninterruptible sleep. */
const CANNOT_BE_ENDED = 'setsid sh -c \'echo $$ >> "$STAND_IN/started"; exec sleep 600\' & wait';

/** 100 ms are promised. A machine that runs other tests beside this one may be late now and then, not by seconds. */
const PROMISED_MS = 100;
const AT_MOST_MS = 500;

/** How long answers took, while they were asked for. */
class Stopwatch {
  readonly #tookMs: number[] = [];

  async time(ask: () => Promise<Reply>): Promise<Reply> {
    const startMs = performance.now();
    const reply = await ask();
    this.#tookMs.push(performance.now() - startMs);
    return reply;
  }

  check(t: Test, what: string, atLeast: number): void {
    const sorted = [...this.#tookMs].sort((a, b) => a - b);
    const median = sorted[Math.floor(sorted.length / 2)] ?? Infinity;
    const max = sorted.at(-1) ?? Infinity;
    t.ok(sorted.length >= atLeast, `${what}: ${sorted.length} answers`);
    t.ok(median < PROMISED_MS, `${what}: median ${median.toFixed(1)} ms`);
    t.ok(max < AT_MOST_MS, `${what}: at most ${max.toFixed(1)} ms`);
  }
}

/** The pids of hanging tools, as they noted themselves: all that were ever started, and those that still run. */
async function hangingOf(nvidiaSmi: StandIn): Promise<{ started: number[]; running: number[] }> {
  const noted = await readFile(join(nvidiaSmi.folder, 'started'), 'utf8').catch(() => '');
  const started = noted.split('\n').flatMap((line) => (line === '' ? [] : Number(line)));
  const live = new Set(await nvidiaSmi.live());
  return { started, running: started.filter((pid) => live.has(pid)) };
}

/** A machine with two cards, and a workload of its own that has a lease. */
async function machineAtWork(t: Test): Promise<{ machine: LaidOutMachine; pgid: number; leaseId: string }> {
  const machine = await startMachine(t, { nvidiaSmi: HEALTHY, config: 'staleAfter: 3s\nblindAbortAfter: 4s' });
  await machine.preflight('two cards', (r) => r.status === 200);
  const leaseId = randomUUID();
  const pgid = startWorkload(t, leaseId).pid ?? 0;
  const asked = { id: leaseId, workload: 'train-7', processGroup: { pgid }, ttlSeconds: 300 };
  t.equal((await machine.service.post('/leases', asked)).status, 201);
  return { machine, pgid, leaseId };
}

t.test(
  'serve: while nvidia-smi hangs and ignores TERM everything else goes on, until blindness stops it',
  async (t) => {
    const { machine, pgid, leaseId } = await machineAtWork(t);
    const { service, nvidiaSmi } = machine;
    const before = (await service.get('/status')).body;
    await nvidiaSmi.become(IGNORES_TERM);
    const startMs = performance.now();
    const status = new Stopwatch();
    const renewals = new Stopwatch();
    let mostRunning = 0;
    const causes = new Set<unknown>();
    const actions = new Set<unknown>();
    for (;;) {
      const { body } = await status.time(() => service.get('/status'));
      const reading = body.nodes[0].readings.find(
        (r: { id?: string; quantity: string }) => r.id === UUID.first && r.quantity === 'temperature',
      );
      causes.add(reading?.missing ?? 'measured');
      const renewed = await renewals.time(() => service.ask('PUT', `/leases/${leaseId}`, {}));
      actions.add(renewed.body.result?.action ?? renewed.body.outcome);
      mostRunning = Math.max(mostRunning, (await hangingOf(nvidiaSmi)).running.length);
      if (renewed.status === 410) {
        t.match(renewed.body.reason, /temperature is missing.*nvidia-smi.*blind for too long/);
        break;
      }
      if (performance.now() - startMs > 40_000) throw new Error('nobody stopped the workload');
      await new Promise((done) => setTimeout(done, 100));
    }
    const tookS = (performance.now() - startMs) / 1000;
    t.ok(tookS > 6, `last good readings count for 3 s, then it may be blind for 4 s: ${tookS.toFixed(1)} s`);
    t.same([...causes], ['measured', 'source-failed']);
    t.same([...actions], ['PROCEED', 'WAIT_COOLDOWN', 'stopped']);
    t.equal(mostRunning, 1, 'never two at a time');
    await service.until(
      'a dead workload',
      () => service.get('/estop'),
      () => !isGroupAlive(pgid),
    );
    t.match((await service.get('/estop')).body, { state: 'tripped', scope: { kind: 'nodes', nodes: [NODE] } });

    const stops = new Stopwatch();
    for (let press = 0; press < 20; press++) {
      const { status: code } = await stops.time(() => service.post('/estop', { reason: 'smoke' }));
      t.equal(code, 202);
      await status.time(() => service.get('/status'));
    }
    status.check(t, '/status', 40);
    renewals.check(t, 'renewals', 20);
    stops.check(t, '/estop', 20);
    const after = (await service.get('/status')).body;
    t.ok(after.lastResult.sequence >= before.lastResult.sequence + 5, 'each tick has had its result');
    t.equal(after.nodes[0].readings.find((r: { component: string }) => r.component === 'cpu')?.missing, undefined);
    t.equal((await service.get('/healthz')).status, 200);

    await nvidiaSmi.become(HEALTHY);
    await service.until(
      'two cards again',
      () => service.get('/status'),
      (r) => r.body.sources.find((s: { source: string }) => s.source === 'nvidia-smi').up,
    );
    t.equal((await readingsOf(service))[`gpu/${UUID.first}/temperature`], 71);
    t.same((await hangingOf(nvidiaSmi)).running, [], 'none is left behind');
    t.equal((await service.get('/preflight')).status, 423, 'it stays stopped');
  },
);

t.test('serve: a nvidia-smi that cannot be ended is started once, and the stop is as quick as ever', async (t) => {
  const { machine, pgid } = await machineAtWork(t);
  const { service, nvidiaSmi } = machine;
  await nvidiaSmi.become(CANNOT_BE_ENDED);
  await service.until(
    'a tool that is given up',
    () => service.get('/status'),
    (r) => r.body.sources.some((s: { failure: { cause: string } | null }) => s.failure?.cause === 'unkillable'),
  );
  const calls = (await nvidiaSmi.calls()).length;
  const stops = new Stopwatch();
  const first = await stops.time(() => service.post('/estop', { reason: 'smoke' }));
  t.match(first, { status: 202, body: { joined: false } });
  const endMs = performance.now() + 4_000;
  while (performance.now() < endMs) {
    t.equal((await stops.time(() => service.post('/estop', {}))).status, 202);
    await new Promise((done) => setTimeout(done, 100));
  }
  stops.check(t, '/estop', 10);
  t.notOk(isGroupAlive(pgid), 'the workload is gone');
  const { started, running } = await hangingOf(nvidiaSmi);
  t.same([started.length, running], [1, started], 'the first hangs on');
  t.equal((await nvidiaSmi.calls()).length, calls, 'and no second one was started');
  t.equal(await service.stop(), 0, 'it ends without waiting for it');
});
