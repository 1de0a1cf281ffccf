import t from 'tap';
import type { Actuator, StopProgress } from '../src/actuators/actuator.ts';
import type { Message, SafetyEvent } from '../src/domain/events.ts';
import { InvariantBroken } from '../src/domain/invariant.ts';
import type { StopOrder } from '../src/domain/stop.ts';
import { type DurableRecord, type Log, type Recorded, Supervisor, type SupervisorParts } from '../src/supervisor.ts';
import { DomainWorld, worldSettings } from './support/domain-world.ts';
import { ManualClock } from './support/manual-clock.ts';

const STOP: SafetyEvent = { kind: 'stop-requested', nodes: null, cause: 'manual', reason: 'test', by: 'tester' };

class RecordingActuator implements Actuator {
  readonly name = 'local-processes';
  readonly orders: StopOrder[] = [];
  readonly log: string[];
  report: (progress: StopProgress) => void = () => undefined;
  withdrawn: AbortSignal | null = null;

  constructor(log: string[]) {
    this.log = log;
  }
  async inventory() {
    return { available: true, detail: '', workloads: [] };
  }
  async stop(order: StopOrder, report: (progress: StopProgress) => void, withdrawn: AbortSignal): Promise<void> {
    this.log.push('stop');
    this.orders.push(order);
    this.report = report;
    this.withdrawn = withdrawn;
    await new Promise<void>((resolve) => withdrawn.addEventListener('abort', () => resolve()));
  }
  async close(): Promise<void> {}
}

const SILENT: Log = { fatal: () => undefined, error: () => undefined, warn: () => undefined, info: () => undefined };

function build(parts: Partial<SupervisorParts> = {}) {
  const order: string[] = [];
  const clock = new ManualClock();
  const settle: ((outcome: Recorded) => void)[] = [];
  const journal: DurableRecord = {
    append: (change, { urgent }) => {
      order.push(`journal${urgent ? ' urgent' : ''}: ${change.why.slice(0, 40)}`);
      return new Promise((resolve) => settle.push(resolve));
    },
  };
  const actuator = new RecordingActuator(order);
  const broken: unknown[] = [];
  const world = new DomainWorld(worldSettings());
  const actuators = new Map([['local-processes', { available: true, detail: '' }]]);
  const supervisor = new Supervisor(
    {
      ...world.state,
      actuators,
      lastNowMs: 0,
      startedAtMs: 0,
      wallAheadMs: clock.now().wallMs - clock.now().elapsedMs,
    },
    {
      clock,
      journal,
      actuators: [actuator],
      log: SILENT,
      lookAgain: () => undefined,
      onBroken: (error) => broken.push(error),
      ...parts,
    },
  );
  return { supervisor, clock, order, settle, actuator, broken, world };
}

t.test('submit() begins the record of a trip before the stop, and the stop waits for no disk (I3)', async (t) => {
  const { supervisor, order, actuator, settle } = build();
  const { answer, recorded } = supervisor.submit(STOP);
  t.equal(answer.kind, 'stopping');
  t.equal(order[0]?.startsWith('journal urgent: TRIP'), true, order.join(' | '));
  t.equal(order[1], 'stop', 'the actuator is at work while the journal has not answered');
  t.equal(actuator.orders[0]?.what, 'everything');
  for (const answerDisk of settle) answerDisk({ ok: false, code: 'ENOSPC', detail: 'no space left' });
  t.match(await recorded, { ok: false, code: 'ENOSPC' });
  await supervisor.close();
});

t.test('submit() tells every listener each message, in order', async (t) => {
  const { supervisor } = build();
  const seen: Message[] = [];
  const unsubscribe = supervisor.subscribe((message) => seen.push(message));
  supervisor.subscribe((message) => {
    if (message.type === 'event' && message.data.name === 'tripped') supervisor.submitSoon({ kind: 'clock-looked' });
  });
  supervisor.submit(STOP);
  unsubscribe();
  supervisor.submit({ kind: 'journal-reported', ok: false, detail: 'test' });
  t.same(
    seen.map((message) => message.type === 'event' && message.data.name),
    ['tripped'],
  );
  await supervisor.close();
});

t.test('close() withdraws the orders; a reset does so for its own', async (t) => {
  const { supervisor, actuator } = build();
  supervisor.submit(STOP);
  t.equal(actuator.withdrawn?.aborted, false);
  await supervisor.close();
  t.equal(actuator.withdrawn?.aborted, true);
  actuator.report({ entries: [], verified: true });
  t.same(
    Object.keys([...supervisor.state.trips.values()][0]?.report.actuators ?? {}),
    [],
    'a late report is not heard',
  );
});

t.test('submit() takes an actuator report back through the door', async (t) => {
  const { supervisor, actuator } = build();
  supervisor.submit(STOP);
  actuator.report({ entries: [], verified: true });
  t.match([...supervisor.state.trips.values()][0]?.report.actuators, { 'local-processes': { verified: true } });
  await supervisor.close();
});

t.test('submit() looks at the clock by itself when a lease is due', async (t) => {
  const { supervisor, clock, actuator, world } = build();
  for (let round = 0; round < 2; round++) {
    await clock.advance(1_000);
    world.elapsedMs = clock.now().elapsedMs;
    supervisor.submit({ kind: 'observed', why: 'tick', reports: world.reports() });
  }
  world.elapsedMs = clock.now().elapsedMs;
  const { answer } = supervisor.submit({
    kind: 'lease-asked',
    identity: 'local',
    reports: world.reports(),
    request: {
      id: '0b0e7a52-8f0e-4f8e-9d7c-2b1f5f3f9a01',
      workload: 'w',
      intensity: null,
      nodes: null,
      gpus: null,
      constraints: null,
      constraintKeys: [],
      ttlMs: 5_000,
      maxDurationMs: null,
      processGroup: { pgid: 4711, startTicks: 1 },
    },
  });
  t.equal(answer.kind, 'granted');
  await clock.advance(4_999);
  t.equal(supervisor.state.leases.size, 1);
  await clock.advance(2);
  t.equal(supervisor.state.leases.size, 0);
  t.match(actuator.orders, [{ what: 'leases', targets: [{ processGroup: { pgid: 4711 } }] }]);
  t.equal(actuator.withdrawn?.aborted, false, 'looked after while its workload lives');
  actuator.report({ entries: [], verified: true });
  t.equal(actuator.withdrawn?.aborted, true, 'and over when it is gone');
  await supervisor.close();
});

t.test('submit() orders a blind stop and ends when an invariant breaks', async (t) => {
  const { supervisor, actuator, broken, clock } = build();
  supervisor.submit({ kind: 'clock-looked' });
  // Monotonic time going back is what no caller may do; the manual clock can be made to.
  await clock.advance(10);
  supervisor.submit({ kind: 'clock-looked' });
  clock.now = () => ({ elapsedMs: 1, wallMs: 1 });
  t.throws(() => supervisor.submit({ kind: 'clock-looked' }), InvariantBroken);
  t.match(actuator.orders, [{ orderId: 'broken-invariant', what: 'everything', scope: { kind: 'all' } }]);
  t.equal(broken.length, 1);
});
