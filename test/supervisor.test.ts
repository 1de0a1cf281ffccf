import t from 'tap';
import type { Actuator, StopProgress } from '../src/actuators/actuator.ts';
import type { Message, SafetyEvent } from '../src/domain/events.ts';
import { InvariantBroken } from '../src/domain/invariant.ts';
import type { StopOrder } from '../src/domain/stop.ts';
import { type DurableRecord, type Log, type Recorded, Supervisor, type SupervisorParts } from '../src/supervisor.ts';
import { DomainWorld, LEASE_ID, NODE, START, worldSettings } from './support/domain-world.ts';
import { ManualClock } from './support/manual-clock.ts';

const STOP: SafetyEvent = { kind: 'stop-requested', nodes: null, cause: 'manual', reason: 'test', by: 'tester' };

class RecordingActuator implements Actuator {
  readonly name: Actuator['name'];
  readonly orders: StopOrder[] = [];
  readonly log: string[];
  report: (progress: StopProgress) => void = () => undefined;
  withdrawn: AbortSignal | null = null;

  constructor(log: string[], name: Actuator['name'] = 'local-processes') {
    this.log = log;
    this.name = name;
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
  const actuators = new Map(
    (parts.actuators ?? [actuator]).map(({ name }) => [name, { available: true, detail: '' }] as const),
  );
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

/** A lease that runs out after 5 s, as asked of a supervisor that has evaluated twice. */
async function leased({ supervisor, clock, world }: ReturnType<typeof build>): Promise<void> {
  for (let round = 0; round < 2; round++) {
    await clock.advance(1_000);
    world.elapsedMs = clock.now().elapsedMs;
    supervisor.submit({ kind: 'observed', why: 'tick', reports: world.reports() });
  }
  const request = { ...START, id: LEASE_ID, workload: 'w', gpus: null, ttlMs: 5_000, maxDurationMs: null };
  const processGroup = { pgid: 4711, startTicks: 1 };
  const { answer } = supervisor.submit({
    kind: 'lease-asked',
    identity: 'local',
    reports: world.reports(),
    request: { ...request, processGroup },
  });
  if (answer.kind !== 'granted') throw new Error(`the lease was answered ${answer.kind}`);
}

t.test('submit() goes on with the stop of a lapse until every actuator has seen its workload gone', async (t) => {
  const actuators = [new RecordingActuator([], 'kubernetes'), new RecordingActuator([])] as const;
  const built = build({ actuators });
  await leased(built);
  await built.clock.advance(5_000);
  const [one, other] = actuators;
  t.match([one.orders, other.orders], [[{ what: 'leases' }], [{ what: 'leases' }]]);
  one.report({ entries: [], verified: true });
  one.report({ entries: [], verified: true });
  t.equal(other.withdrawn?.aborted, false, 'one of them twice is not both');
  other.report({ entries: [], verified: false });
  t.equal(other.withdrawn?.aborted, false);
  other.report({ entries: [], verified: true });
  t.same([one.withdrawn?.aborted, other.withdrawn?.aborted], [true, true]);
  await built.supervisor.close();
});

t.test('submit() leaves a trip to its actuators after they have seen everything gone', async (t) => {
  const { supervisor, actuator } = build();
  supervisor.submit(STOP);
  actuator.report({ entries: [], verified: true });
  t.equal(actuator.withdrawn?.aborted, false, 'what comes back must be stopped, too');
  await supervisor.close();
});

t.test('submit() says what is stopped and why at level fatal, and withdraws the order at the reset', async (t) => {
  const fatal: string[] = [];
  const built = build({ log: { ...SILENT, fatal: (message: string) => fatal.push(message) } });
  await leased(built);
  const { supervisor, actuator, clock, world } = built;
  const { answer } = supervisor.submit(STOP);
  if (answer.kind !== 'stopping') throw new Error(`the stop was answered ${answer.kind}`);
  t.match(fatal, [/EMERGENCY STOP of everything: test/]);
  world.cool();
  await clock.advance(10_000);
  world.elapsedMs = clock.now().elapsedMs;
  supervisor.submit({ kind: 'observed', why: 'tick', reports: world.reports() });
  actuator.report({ entries: [], verified: true });
  t.equal(actuator.withdrawn?.aborted, false);
  const reset = { tripId: answer.tripId, reason: 'checked', by: 'ada', acknowledgeUnverified: false };
  const { answer: done } = supervisor.submit({ kind: 'reset-requested', ...reset, reports: world.reports() });
  t.equal(done.kind, 'reset-done');
  t.equal(actuator.withdrawn?.aborted, true);
  await supervisor.close();
});

t.test('submit() bears an actuator that breaks off, says so, and lets the others go on', async (t) => {
  const errors: string[] = [];
  const good = new RecordingActuator([]);
  const bad: Actuator = {
    name: 'kubernetes',
    inventory: () => good.inventory(),
    stop: () => Promise.reject(new Error('ECONNREFUSED')),
    close: async () => undefined,
  };
  const log = { ...SILENT, error: (message: string) => errors.push(message) };
  const { supervisor, clock } = build({ actuators: [bad, good], log });
  supervisor.submit(STOP);
  await clock.advance(1);
  t.equal(errors.filter((message) => /kubernetes.*ECONNREFUSED/.test(message)).length, 1);
  t.equal(good.orders.length, 1);
  t.equal(good.withdrawn?.aborted, false);
  await supervisor.close();
});

t.test('submit() has nodes looked at again before the deadline of a second look', async (t) => {
  const asked: [readonly string[], number][] = [];
  const built = build({ lookAgain: (nodes, deadlineMs) => asked.push([nodes, deadlineMs]) });
  await leased(built);
  built.world.gpu().powerW = 305;
  built.world.elapsedMs = built.clock.now().elapsedMs;
  built.supervisor.submit({ kind: 'observed', why: 'fast', reports: built.world.reports() });
  t.same(asked, [[[NODE], built.clock.now().elapsedMs + 2_000]]);
  await built.supervisor.close();
});

t.test('submit() takes one event at a time: from within a decision it refuses, submitSoon() waits', async (t) => {
  const { supervisor } = build();
  const tried: unknown[] = [];
  supervisor.subscribe((message) => {
    if (message.type !== 'event' || message.data.name !== 'drill') return;
    try {
      supervisor.submit({ kind: 'clock-looked' });
    } catch (error) {
      tried.push(error);
    }
    supervisor.submitSoon(STOP);
    t.equal(supervisor.state.trips.size, 0);
  });
  supervisor.submit({ kind: 'drill-requested', nodes: null, by: 'ada' });
  t.equal(tried.length, 1);
  t.ok(tried[0] instanceof InvariantBroken);
  t.equal(supervisor.state.trips.size, 1, 'right after it');
  await supervisor.close();
});

t.test('close() lets nothing in afterwards, and no timer wake it', async (t) => {
  const built = build();
  await leased(built);
  await built.supervisor.close();
  built.supervisor.submitSoon(STOP);
  t.equal(built.supervisor.state.trips.size, 0);
  await built.clock.advance(10_000);
  t.equal(built.supervisor.state.leases.size, 1);
});

t.test('submit() names live leases in a blind stop, orders it once, and gives it 4 s before it lets go', async (t) => {
  const built = build();
  await leased(built);
  const { supervisor, actuator, broken, clock } = built;
  clock.now = () => ({ elapsedMs: 1, wallMs: 1 });
  for (let time = 0; time < 2; time++) t.throws(() => supervisor.submit({ kind: 'clock-looked' }), InvariantBroken);
  t.equal(broken.length, 2);
  t.match(actuator.orders, [{ orderId: 'broken-invariant', targets: [{ leaseId: LEASE_ID }] }]);
  t.equal(actuator.orders.length, 1);
  let isClosed = false;
  const closed = supervisor.close().then(() => {
    isClosed = true;
  });
  await clock.advance(3_999);
  t.same([isClosed, actuator.withdrawn?.aborted], [false, false]);
  await clock.advance(1);
  await closed;
  t.equal(actuator.withdrawn?.aborted, true);
});

t.test('submit() names what a trip had still to stop in a blind stop', async (t) => {
  const built = build();
  await leased(built);
  const { supervisor, actuator, clock } = built;
  supervisor.submit(STOP);
  clock.now = () => ({ elapsedMs: 1, wallMs: 1 });
  t.throws(() => supervisor.submit({ kind: 'clock-looked' }), InvariantBroken);
  t.match(actuator.orders.at(-1), { orderId: 'broken-invariant', targets: [{ leaseId: LEASE_ID }] });
  t.equal(actuator.orders.at(-1)?.targets.length, 1);
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
