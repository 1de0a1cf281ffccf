import t from 'tap';
import type { EventName, Message } from '../../src/domain/events.ts';
import { AlertBoard } from '../../src/notify/alert-board.ts';
import { DomainWorld, NODE } from '../support/domain-world.ts';

const ALL: ReadonlySet<EventName> = new Set(['tripped', 'stop-unverified', 'cooling-started']);
const iso = (ms: number): string => new Date(ms).toISOString();

interface Told {
  readonly labels: Record<string, string>;
  readonly annotations: Record<string, string>;
  readonly startsAt: string;
  readonly endsAt: string;
}

/** A world whose published messages reach the board. */
class Rig {
  readonly world = DomainWorld.running();
  readonly board: AlertBoard;

  constructor(events = ALL) {
    this.board = new AlertBoard(events);
    this.world.effects = [];
  }

  get now() {
    return { elapsedMs: this.world.elapsedMs, wallMs: this.world.wallMs };
  }

  /** What would be sent now, and whether it arrives. */
  send(outcome: 'taken' | 'refused' | null = 'taken'): Told[] | null {
    for (const effect of this.world.effects.splice(0)) {
      if (effect.kind === 'publish') this.board.take(effect.message as Message);
    }
    const delivery = this.board.due(this.now, this.world.state);
    if (delivery && outcome) this.board.settle(delivery, outcome, this.now);
    return delivery && JSON.parse(delivery.body);
  }

  trip(): string {
    this.world.submit({ kind: 'stop-requested', nodes: null, cause: 'manual', reason: 'smoke', by: 'anna' });
    return [...this.world.state.trips.keys()].at(-1) ?? '';
  }
}

t.test('AlertBoard tells a trip until its reset: at once, again each minute, and its end once', async (t) => {
  const rig = new Rig();
  t.equal(rig.send(), null, 'nothing stands');
  const tripId = rig.trip();
  const startedMs = rig.world.wallMs;
  t.match(rig.send(), [
    {
      labels: { alertname: 'VsfSafetyEmergencyStop', severity: 'critical', instance: NODE, trip_id: tripId },
      annotations: { summary: 'EMERGENCY STOP of everything: smoke', description: /By anna, cause manual/ },
      startsAt: iso(startedMs),
      endsAt: iso(startedMs + 240_000),
    },
  ]);
  t.equal(rig.send(), null, 'told already');
  rig.world.pass(59_000);
  t.equal(rig.send(), null);
  rig.world.pass(1_000);
  t.equal(rig.send(null)?.length, 1);
  t.match(
    rig.send(),
    [{ startsAt: iso(startedMs), endsAt: iso(startedMs + 300_000) }],
    'again, since it did not arrive',
  );

  // 30 s without an actuator that verified it.
  rig.world.tick();
  const unverified = rig.send();
  t.match(
    unverified?.map(({ labels }) => labels['alertname']),
    ['VsfSafetyEmergencyStop', 'VsfSafetyStopUnverified'],
  );
  t.ok(
    unverified?.every(({ labels }) => !('vsf_estop' in labels)),
    'it never trips itself by way of Alertmanager',
  );

  rig.world.run(20);
  rig.world.submit({
    kind: 'reset-requested',
    tripId,
    reason: 'aired',
    by: 'anna',
    acknowledgeUnverified: true,
    reports: rig.world.reports(),
  });
  t.equal(rig.world.state.trips.size, 0);
  const endedMs = rig.world.wallMs;
  const ends = rig.send(null);
  t.same(
    ends?.map(({ endsAt }) => endsAt),
    [iso(endedMs), iso(endedMs)],
  );
  rig.world.pass(5_000);
  t.same(rig.send(), ends, 'the end is told until it arrives');
  rig.world.pass(600_000);
  t.equal(rig.send(), null, 'and then no more');
});

t.test('AlertBoard tells what stands when it begins, and a cooldown that came back as one', async (t) => {
  const rig = new Rig();
  rig.trip();
  const late = new AlertBoard(ALL);
  t.match(JSON.parse(late.due(rig.now, rig.world.state)?.body ?? ''), [{ labels: { severity: 'critical' } }]);

  const warm = new Rig();
  warm.world.gpu().temperatureC = 81;
  warm.world.run(10);
  const [first] = warm.send() ?? [];
  t.match(first, { labels: { alertname: 'VsfSafetyCooling', severity: 'warning', node: NODE } });
  warm.world.gpu().temperatureC = 50;
  warm.world.run(80);
  const [over] = warm.send(null) ?? [];
  t.match(over, { startsAt: first?.startsAt, endsAt: iso(warm.world.wallMs) });
  warm.world.gpu().temperatureC = 81;
  warm.world.run(10);
  const again = warm.send();
  t.equal(again?.length, 1, 'its end was never told, so it is not told of now');
  t.ok((again?.[0]?.endsAt ?? '') > iso(warm.world.wallMs));
});

t.test('AlertBoard tells only what was asked for, and bounds what it tells', async (t) => {
  const rig = new Rig(new Set<EventName>(['cooling-started']));
  rig.trip();
  t.equal(rig.send(), null);
  const { state } = rig.world;
  const [node] = state.nodes.values();
  const trips = new Map(state.trips);
  const many = new Map(
    Array.from({ length: 3_000 }, (_, i) => [`n${i}`, { ...node, cooling: { lastWarningAtMs: 0 } }] as const),
  );
  const board = new AlertBoard(ALL);
  const crowded = { ...state, trips, nodes: many } as typeof state;
  const told: Told[] = JSON.parse(board.due(rig.now, crowded)?.body ?? '[]');
  t.equal(told.length, 1_000);
  t.equal(told[0]?.labels['alertname'], 'VsfSafetyEmergencyStop', 'trips first');
});
