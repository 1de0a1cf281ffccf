import t from 'tap';
import type { Message } from '../src/domain/events.ts';
import type { SourceReport } from '../src/domain/reading.ts';
import { Monitor } from '../src/monitor.ts';
import type { Source } from '../src/sources/source.ts';
import { Supervisor } from '../src/supervisor.ts';
import { DomainWorld, GPU_A, worldSettings } from './support/domain-world.ts';
import { ManualClock } from './support/manual-clock.ts';

/** A source over the pretended node that can be made to hang, to throw, or to be slow. */
class FakeSource implements Source {
  readonly id = 'fake';
  readonly node = 'bizon1';
  readonly carriesHeat = true;
  readonly #world: DomainWorld;
  readonly #clock: ManualClock;
  reads = 0;
  takesMs = 0;
  mode: 'answers' | 'hangs' | 'throws' = 'answers';

  constructor(world: DomainWorld, clock: ManualClock) {
    this.#world = world;
    this.#clock = clock;
  }
  async read(): Promise<SourceReport> {
    this.reads += 1;
    if (this.mode === 'hangs') return new Promise(() => undefined);
    if (this.mode === 'throws') throw new Error('a bug in a source');
    if (this.takesMs > 0) await this.#clock.sleep(this.takesMs);
    this.#world.elapsedMs = this.#clock.now().elapsedMs;
    const [report] = this.#world.reports();
    if (!report) throw new Error('no report');
    return report;
  }
  async close(): Promise<void> {}
}

function build(others: readonly Source[] = []) {
  const clock = new ManualClock();
  const world = new DomainWorld(worldSettings());
  world.elapsedMs = clock.now().elapsedMs;
  world.wallMs = clock.now().wallMs;
  const source = new FakeSource(world, clock);
  let supervisor: Supervisor;
  const monitor = new Monitor({
    clock,
    sources: () => [source, ...others],
    supervisor: () => supervisor,
    intervalMs: 10_000,
    fastIntervalMs: 2_000,
    inventory: async () => undefined,
  });
  const log = { fatal: () => undefined, error: () => undefined, warn: () => undefined, info: () => undefined };
  supervisor = new Supervisor(
    {
      ...world.state,
      lastNowMs: 0,
      startedAtMs: clock.now().elapsedMs,
      wallAheadMs: clock.now().wallMs - clock.now().elapsedMs,
    },
    {
      clock,
      journal: { append: async () => ({ ok: true }) },
      actuators: [],
      log,
      lookAgain: (nodes, deadlineMs) => monitor.lookAgain(nodes, deadlineMs),
      onBroken: (error) => {
        throw error;
      },
    },
  );
  const evaluations: Message[] = [];
  supervisor.subscribe((message) => {
    if (message.type === 'evaluation') evaluations.push(message);
  });
  const stop = async (): Promise<void> => {
    const stopping = monitor.stop();
    await clock.advance(30_000);
    await stopping;
    await supervisor.close();
  };
  return { clock, world, source, monitor, supervisor, evaluations, stop };
}

t.test('Monitor publishes exactly one evaluation every interval', async (t) => {
  const { clock, monitor, evaluations, stop } = build();
  monitor.start();
  await clock.advance(900);
  t.equal(evaluations.length, 0, 'the first takes two looks, a second apart');
  await clock.advance(200);
  t.equal(evaluations.length, 1);
  await clock.advance(60_000);
  t.equal(evaluations.length, 7);
  await stop();
});

t.test('Monitor ends each tick in one result while its source hangs, breaks and comes back (I4)', async (t) => {
  const { clock, monitor, source, evaluations, supervisor, stop } = build();
  monitor.start();
  await clock.advance(11_100);
  t.equal(evaluations.length, 2);
  source.mode = 'hangs';
  await clock.advance(9_950);
  t.equal(evaluations.length, 2, 'the round waits for its deadline');
  await clock.advance(14_650);
  t.equal(evaluations.length, 4, 'and ends 4.6 s after it began, the next one likewise');
  const lateAfterMs = 15_000;
  t.ok((supervisor.state.lastTickAtMs ?? 0) > clock.now().elapsedMs - lateAfterMs, 'so that no tick counts as late');
  t.match(supervisor.state.lastResult?.findings[0], { code: 'reading-missing', message: /no answer within 4500 ms/ });
  source.mode = 'throws';
  const readsBefore = source.reads;
  await clock.advance(10_000);
  t.equal(source.reads - readsBefore, 2, 'a failure that comes early is tried again within the tick');
  t.match(supervisor.state.lastResult?.findings[0], { message: /broke off: a bug in a source/ });
  source.mode = 'answers';
  await clock.advance(20_000);
  t.equal(supervisor.state.lastResult?.action, 'PROCEED');
  await stop();
});

t.test('Monitor samples a hot node every 2 s and publishes a change of action at once', async (t) => {
  const { clock, monitor, world, source, evaluations, stop } = build();
  monitor.start();
  await clock.advance(11_100);
  const cool = source.reads;
  await clock.advance(8_000);
  t.equal(source.reads, cool, 'a cool and idle node is left alone between ticks');
  world.gpu(GPU_A).temperatureC = 76.5;
  await clock.advance(2_000);
  const warm = source.reads;
  await clock.advance(7_900);
  t.ok(source.reads - warm >= 3, `within 5 °C of its warning: ${source.reads - warm} looks in 8 s`);
  const before = evaluations.length;
  world.gpu(GPU_A).temperatureC = 86;
  await clock.advance(2_000);
  t.ok(evaluations.length > before);
  t.match(evaluations.at(-1), { data: { action: 'ABORT' } });
  await stop();
});

t.test('Monitor judges a node that has answered while another one keeps the round waiting', async (t) => {
  const hung: Source = {
    id: 'hung',
    node: 'bizon2',
    carriesHeat: true,
    read: () => new Promise(() => undefined),
    close: async () => undefined,
  };
  const { clock, monitor, world, supervisor, evaluations, stop } = build([hung]);
  monitor.start();
  await clock.advance(30_000);
  while (monitor.isReading) await clock.advance(10);
  world.gpu(GPU_A).temperatureC = 86;
  while (!monitor.isReading) await clock.advance(10);
  const ticks = evaluations.length;
  await clock.advance(600);
  t.ok(monitor.isReading, 'the round still waits');
  t.equal(supervisor.state.trips.size, 1, 'and what is hot is stopped');
  await clock.advance(5_000);
  t.ok(evaluations.length >= ticks + 2, 'the tick ends in its own result');
  await stop();
});

t.test('Monitor does not take its own standstill for a slow source', async (t) => {
  const { clock, monitor, world, source, stop } = build();
  world.gpu(GPU_A).temperatureC = 78.5;
  source.takesMs = 100;
  monitor.start();
  // A tick begins at 21 s.
  await clock.advance(21_010);
  t.ok(monitor.isReading);
  clock.hold(60_000);
  await clock.advance(500);
  const before = source.reads;
  await clock.advance(6_000);
  t.ok(source.reads > before + 1, 'beside the next tick, it rests for no longer than the 4.5 s that a look may take');
  await stop();
});

t.test('Monitor looks at everything again soon after a standstill in the middle of a round', async (t) => {
  const { clock, monitor, source, stop } = build();
  source.takesMs = 100;
  monitor.start();
  await clock.advance(21_010);
  clock.hold(40_000);
  await clock.advance(200);
  const before = source.reads;
  await clock.advance(1_000);
  t.equal(source.reads, before + 1, 'the next tick has not waited for its interval');
  await clock.advance(9_700);
  t.equal(source.reads, before + 1, 'with it the rhythm starts anew');
  await clock.advance(200);
  t.equal(source.reads, before + 2);
  await stop();
});

t.test('Monitor looks at everything again soon after a jump of the clock in the middle of a round', async (t) => {
  const { clock, monitor, source, supervisor, stop } = build();
  source.takesMs = 100;
  monitor.start();
  await clock.advance(21_150);
  clock.jumpWall(60_000);
  supervisor.submit({ kind: 'clock-looked' });
  await clock.advance(1_000);
  const before = source.reads;
  await clock.advance(1_000);
  t.equal(source.reads, before, 'one between two rounds makes the next no earlier');
  await clock.advance(7_900);
  t.equal(source.reads, before + 1);
  clock.jumpWall(60_000);
  supervisor.submit({ kind: 'clock-looked' });
  await clock.advance(1_200);
  t.equal(source.reads, before + 2, 'what this round has read is from before the jump');
  await stop();
});

t.test('Monitor keeps no source busy by fast sampling for more than half of the time', async (t) => {
  const { clock, monitor, world, source, stop } = build();
  world.gpu(GPU_A).temperatureC = 78.5;
  source.takesMs = 1_500;
  monitor.start();
  await clock.advance(60_000);
  t.ok(source.reads * 1_500 <= 30_000 + 6 * 1_500, `${source.reads} looks of 1.5 s in 60 s, six of them ticks`);
  t.ok(source.reads > 7, 'and it is sampled between ticks');
  t.equal(monitor.effectiveFastIntervalMs, 3_000, 'and says how often');
  await stop();
});

t.test('Monitor looks again in time when a hard stop waits for its second sample', async (t) => {
  const { clock, monitor, world, supervisor, stop } = build();
  monitor.start();
  await clock.advance(11_100);
  world.gpu(GPU_A).powerW = 320.5;
  await clock.advance(10_000);
  t.equal(supervisor.state.trips.size, 0, 'one sample stops nothing');
  await clock.advance(1_500);
  t.equal(supervisor.state.trips.size, 1, 'a newer one a second later does');
  await stop();
});

t.test('Monitor looks again just before the deadline, for a source that repeats itself half-way', async (t) => {
  const { clock, monitor, world, supervisor, stop } = build();
  monitor.start();
  await clock.advance(11_100);
  world.gpu(GPU_A).witness = 7;
  world.gpu(GPU_A).temperatureC = 112;
  await clock.advance(11_400);
  t.equal(supervisor.state.nodes.get('bizon1')?.looks.size, 1, 'the same sample still waits for a newer one');
  world.gpu(GPU_A).witness = 8;
  world.gpu(GPU_A).temperatureC = 61;
  await clock.advance(3_000);
  t.equal(supervisor.state.nodes.get('bizon1')?.looks.size, 0);
  t.equal(supervisor.state.trips.size, 0, 'a mad sample that was taken back stops nothing');
  await stop();
});

t.test('observeNow() reads the nodes named and ends although a source hangs', async (t) => {
  const { clock, monitor, source, stop } = build();
  t.same(await monitor.observeNow(['elsewhere']), []);
  source.mode = 'hangs';
  const asked = monitor.observeNow(['bizon1']);
  await clock.advance(4_200);
  t.match(await asked, [{ outcome: { kind: 'failed', cause: 'timeout' } }]);
  await stop();
});

t.test(
  'observeNow() answers a burst of the same question by one look, and a later one by a look of its own',
  async (t) => {
    const { clock, monitor, source, stop } = build();
    source.takesMs = 600;
    const before = source.reads;
    const burst = Array.from({ length: 50 }, () => monitor.observeNow(null));
    await clock.advance(250);
    burst.push(monitor.observeNow(null));
    t.equal(source.reads, before + 1);
    await clock.advance(1);
    const later = monitor.observeNow(null);
    const other = monitor.observeNow(['bizon1']);
    await clock.advance(600);
    const [first, ...others] = await Promise.all(burst);
    for (const answer of others) t.equal(answer, first);
    t.not(await later, first);
    t.not(await other, first);
    await stop();
  },
);
