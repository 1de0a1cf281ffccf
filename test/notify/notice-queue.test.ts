import t from 'tap';
import type { EventData, EventName, Message } from '../../src/domain/events.ts';
import { MOST_WAITING, NoticeQueue } from '../../src/notify/notice-queue.ts';
import { DomainWorld, NODE } from '../support/domain-world.ts';

const ALL: ReadonlySet<EventName> = new Set(['tripped', 'stop-verified', 'reset', 'cooling-started']);
const NOW = { elapsedMs: 0, wallMs: 0 };

let sequence = 0;
const message = (name: EventName, change: Partial<EventData> = {}): Message => {
  sequence += 1;
  return { type: 'event', sequence, at: '2026-01-01T00:00:00.000Z', data: { name, message: `${name}!`, ...change } };
};
const published = (world: DomainWorld): Message[] =>
  world.effects.flatMap((effect) => (effect.kind === 'publish' ? [effect.message] : []));

/** Everything that waits, taken. */
function drained(queue: NoticeQueue, world: DomainWorld): Record<string, unknown>[] {
  const notices: Record<string, unknown>[] = [];
  for (let next = queue.due(NOW, world.state); next; next = queue.due(NOW, world.state)) {
    const notice = JSON.parse(next.body);
    if (notice.id !== next.id) throw new Error('a notice bears another id than its delivery');
    notices.push(notice);
    queue.settle(next, 'taken');
  }
  return notices;
}

t.test('NoticeQueue tells a real trip and its reset in one stable shape', async (t) => {
  const world = DomainWorld.running();
  const queue = new NoticeQueue(ALL);
  world.effects = [];
  world.gpu().temperatureC = 91;
  // The jump waits for a second sample.
  world.pass(2_000);
  world.fast();
  world.pass(2_000);
  world.fast();
  for (const one of published(world)) queue.take(one, world.state);
  const notices = drained(queue, world);
  t.same(
    notices.map(({ event }) => event),
    ['cooling-started', 'tripped'],
  );
  const notice = notices[1] ?? {};
  const [trip] = world.state.trips.values();
  t.same(Object.keys(notice), [
    'version',
    'id',
    'event',
    'at',
    'service',
    'instance',
    'simulated',
    'message',
    'node',
    'tripId',
    'by',
    'scope',
    'cause',
    'reason',
    'stop',
    'dropped',
  ]);
  t.match(notice, {
    version: 1,
    id: /^instance-1-\d+$/,
    event: 'tripped',
    service: 'vsf-safety',
    tripId: trip?.tripId,
    scope: { kind: 'all' },
    cause: 'hard-stop',
    reason: /hard stop is 85 °C/,
    stop: { state: 'stopping', found: 0, stopped: 0 },
    dropped: 0,
  });

  world.effects = [];
  world.gpu().temperatureC = 50;
  world.run(90);
  world.submit({
    kind: 'reset-requested',
    tripId: trip?.tripId ?? '',
    reason: 'fan replaced',
    by: 'anna',
    acknowledgeUnverified: true,
    reports: world.reports(),
  });
  for (const one of published(world)) queue.take(one, world.state);
  t.match(drained(queue, world).at(-1), {
    event: 'reset',
    tripId: trip?.tripId,
    by: 'anna',
    message: /fan replaced/,
    reason: /hard stop is 85 °C/,
    stop: { state: 'unverified' },
  });
});

t.test(
  'NoticeQueue keeps the order, tells the same until it is settled, and takes only what was asked for',
  async (t) => {
    const { state } = DomainWorld.running();
    const queue = new NoticeQueue(ALL);
    t.equal(queue.due(NOW, state), null);
    t.equal(queue.take(message('tripped'), state), 'urgent');
    t.equal(queue.take(message('stop-progress'), state), 'ignored');
    t.equal(queue.take(message('cooling-started', { node: NODE }), state), 'noted');
    const first = queue.due(NOW, state);
    t.same(queue.due(NOW, state), first);
    t.match(JSON.parse(first?.body ?? ''), { event: 'tripped', node: null });
    if (first) queue.settle(first, 'taken');
    t.match(JSON.parse(queue.due(NOW, state)?.body ?? ''), { event: 'cooling-started', node: NODE });
    t.equal(queue.pending, 1);
  },
);

t.test('NoticeQueue drops the oldest cooldown first, never a trip for one, and tells how many went', async (t) => {
  const { state } = DomainWorld.running();
  const queue = new NoticeQueue(ALL);
  queue.take(message('tripped', { message: 'the trip' }), state);
  for (let i = 0; i < 1_000; i++) queue.take(message('cooling-started', { message: `cooldown ${i}` }), state);
  t.equal(queue.pending, MOST_WAITING);
  t.equal(queue.dropped, 1_001 - MOST_WAITING);
  const first = queue.due(NOW, state);
  t.match(JSON.parse(first?.body ?? ''), { message: 'the trip', dropped: 1_001 - MOST_WAITING });
  if (first) queue.settle(first, 'taken');
  const second = queue.due(NOW, state);
  t.match(JSON.parse(second?.body ?? ''), { message: `cooldown ${1_001 - MOST_WAITING}`, dropped: 0 });
  // Refused for good: it is lost, and the next one says so.
  if (second) queue.settle(second, 'refused');
  t.match(JSON.parse(queue.due(NOW, state)?.body ?? ''), { dropped: 1 });

  for (let i = 0; i < MOST_WAITING + 10; i++) queue.take(message('tripped', { message: `trip ${i}` }), state);
  t.equal(queue.pending, MOST_WAITING);
  t.match(
    JSON.parse(queue.due(NOW, state)?.body ?? ''),
    { message: 'trip 10' },
    'the oldest of all, when no cooldown is left',
  );
});
