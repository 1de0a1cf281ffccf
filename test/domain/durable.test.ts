// The durable record: what a restart takes over, and what is so wrong that it means tripped.
import t from 'tap';
import { restoreState } from '../../src/domain/durable.ts';
import type { Lease } from '../../src/domain/lease.ts';
import { DomainWorld, GPU_A, GPU_B, LEASE_ID, NODE, worldSettings } from '../support/domain-world.ts';

const moment = { elapsedMs: 5_000, wallMs: Date.UTC(2026, 0, 2), id: 'restore' };
const problemsOf = (key: string, value: unknown): readonly string[] =>
  restoreState(worldSettings(), new Map([[key, value]]), moment).problems;

/** A world that has left every kind of record behind. */
function lived(): DomainWorld {
  const world = DomainWorld.lived({ maxDurationMs: 600_000, constraints: worldSettings().defaults.constraints });
  world.submit({ kind: 'stop-requested', nodes: [NODE], cause: 'manual', reason: 'x', by: 'ada' });
  world.durable.set(`lease/${LEASE_ID}`, leaseRecord());
  return world;
}

function leaseRecord(): Lease {
  const world = DomainWorld.running();
  world.askLease({ maxDurationMs: 600_000 });
  return world.durable.get(`lease/${LEASE_ID}`) as Lease;
}

t.test('restoreState() takes over every kind of record, and finds no fault with what decide() wrote', async (t) => {
  const world = lived();
  const kinds = new Set([...world.durable.keys()].map((key) => key.split('/')[0]));
  t.same([...kinds].sort(), ['blind', 'boot', 'cooling', 'ended', 'epoch', 'gpu', 'last-trip', 'lease', 'trip']);
  const { state, problems } = restoreState(world.settings, world.durable, moment);
  t.same(problems, []);
  t.match(state, { epoch: 1, lastTrip: { resetBy: 'ada' } });
  t.same([...state.leases.keys()], [LEASE_ID]);
  t.ok(state.endedLeases.has('ended'));
  t.equal(state.trips.size, 1);
  const node = state.nodes.get(NODE);
  t.same([...(node?.watch.gpus.known.keys() ?? [])].sort(), [GPU_A, GPU_B]);
  t.same(node?.cooling, { lastWarningAtMs: moment.elapsedMs }, 'a cooldown begins anew');
  t.ok((node?.blindCarryMs ?? 0) >= 0);
  t.equal(state.lastTickAtMs, null, 'and no evaluation is remembered');
});

t.test('restoreState() names every value that is not what it should be, and goes on with the rest', async (t) => {
  const world = lived();
  const keyOf = (kind: string): string => [...world.durable.keys()].find((key) => key.startsWith(kind)) ?? '';
  const broken: Record<string, [string, (record: Record<string, unknown>) => unknown][]> = {
    'trip/': [
      ['no id', (r) => ({ ...r, tripId: 7 })],
      ['no scope', (r) => ({ ...r, scope: { kind: 'some' } })],
      ['nodes that are no names', (r) => ({ ...r, scope: { kind: 'nodes', nodes: [1] } })],
      ['no targets', (r) => ({ ...r, targets: null })],
      ['no report', (r) => ({ ...r, report: {} })],
      ['an actuator without entries', (r) => ({ ...r, report: { ...(r['report'] as object), actuators: { k: {} } } })],
      [
        'an actuator that is nothing',
        (r) => ({ ...r, report: { ...(r['report'] as object), actuators: { k: null } } }),
      ],
      ['a power that is text', (r) => ({ ...r, loadedW: { x: '250' } })],
      ['no time', (r) => ({ ...r, sinceWallMs: null })],
    ],
    'lease/': [
      ['no holder', (r) => ({ ...r, identity: null })],
      ['an intensity of 0', (r) => ({ ...r, intensity: 0 })],
      ['an intensity over 1', (r) => ({ ...r, intensity: 1.1 })],
      ['a TTL that is NaN', (r) => ({ ...r, ttlMs: null })],
      ['nodes that are no names', (r) => ({ ...r, nodes: [null] })],
      ['half a process group', (r) => ({ ...r, processGroup: { pgid: 4711 } })],
      [
        'limits that are off',
        (r) => ({ ...r, constraints: { gpu: { temperatureC: { warning: 500, hardStop: 501 } } } }),
      ],
      ['a maximum duration that is text', (r) => ({ ...r, maxDurationMs: '1h' })],
      ['no list of looser keys', (r) => ({ ...r, looserKeys: undefined })],
    ],
    'gpu/': [
      ['no vendor', (r) => ({ ...r, vendor: undefined })],
      ['a slot that is no text', (r) => ({ ...r, pciAddress: 7 })],
    ],
    'ended/': [
      ['an outcome that there is not', (r) => ({ ...r, outcome: 'exploded' })],
      ['an owed stop of nothing', (r) => ({ ...r, owedStop: { bootId: 'boot-1', nodes: null } })],
      [
        'an owed stop of half a group',
        (r) => ({
          ...r,
          owedStop: {
            bootId: 'boot-1',
            nodes: null,
            target: { leaseId: 'a', workload: 'w', processGroup: { pgid: 4711 } },
          },
        }),
      ],
    ],
    'last-trip': [['no trip', (r) => ({ ...r, trip: null })]],
    epoch: [['an epoch that is text', (r) => ({ ...r, epoch: '7' })]],
    'blind/': [['a negative time', (r) => ({ ...r, forMs: -1 })]],
    'boot/': [['no boot id', (r) => ({ ...r, bootId: null })]],
  };
  for (const [kind, faults] of Object.entries(broken)) {
    const key = keyOf(kind);
    const record = world.durable.get(key) as Record<string, unknown>;
    for (const [name, spoil] of faults) t.equal(problemsOf(key, spoil(record)).length, 1, `${kind} with ${name}`);
    t.same(problemsOf(key, record), [], `${kind} as it was`);
  }
  for (const value of [null, 7, 'text', [], true])
    t.equal(problemsOf(keyOf('trip/'), value).length, 1, JSON.stringify(value));
  t.equal(problemsOf('surprise/1', {}).length, 1, 'a kind from nowhere');
  const spoiled = new Map(world.durable).set(keyOf('gpu/'), 7);
  const { state, problems } = restoreState(world.settings, spoiled, moment);
  t.equal(problems.length, 1);
  t.equal(state.trips.size, 1, 'what can be read is kept: the latch above all');
});

/** A copy of `record` with what is at `path` (`a.b.0`) replaced; `undefined` leaves a field out. */
function withChanged(record: object, path: string, value: unknown): object {
  const copy = structuredClone(record);
  const steps = path.split('.');
  const last = steps.pop() ?? '';
  let at = copy as Record<string, unknown>;
  for (const step of steps) at = at[step] as Record<string, unknown>;
  if (value === undefined && !Array.isArray(at)) delete at[last];
  else at[last] = value;
  return copy;
}

t.test('restoreState() takes no record in which anything is not what it should be', async (t) => {
  const world = lived();
  const recordOf = (kind: string): [string, object] => {
    const found = [...world.durable].find(([key]) => key.startsWith(kind));
    if (!found) throw new Error(`the world has left no ${kind} behind`);
    return [found[0], found[1] as object];
  };
  const group = { pgid: 4711, startTicks: 12 };
  const [tripKey, trip] = recordOf('trip/');
  const [leaseKey, lease] = recordOf('lease/');
  const [endedKey, ended] = recordOf('ended/');
  const whole: readonly [key: string, record: object, paths: readonly string[]][] = [
    [
      tripKey,
      { ...trip, scope: { kind: 'nodes', nodes: [NODE] }, targets: [{ leaseId: LEASE_ID }], loadedW: { x: 250 } },
      [
        'tripId',
        'cause',
        'reason',
        'by',
        'sinceWallMs',
        'scope',
        'scope.kind',
        'scope.nodes',
        'scope.nodes.0',
        'targets',
        'targets.0',
        'targets.0.leaseId',
        'report',
        'report.startedAt',
        'report.actuators',
        'report.stillLoaded',
        'report.unknownNodes',
        'loadedW',
      ],
    ],
    [...recordOf('last-trip'), ['trip', 'trip.tripId', 'resetBy', 'resetReason', 'resetWallMs']],
    [...recordOf('epoch'), ['epoch', 'lastResetWallMs']],
    [
      leaseKey,
      {
        ...lease,
        nodes: [NODE],
        processGroup: group,
        looserKeys: ['gpu.powerW'],
        intensity: 1,
        constraints: worldSettings().defaults.constraints,
      },
      [
        'id',
        'workload',
        'identity',
        'bootId',
        'grantedWallMs',
        'intensity',
        'ttlMs',
        'nodes',
        'nodes.0',
        'looserKeys',
        'looserKeys.0',
        'maxDurationMs',
        'processGroup',
        'processGroup.pgid',
        'processGroup.startTicks',
      ],
    ],
    [
      endedKey,
      {
        ...ended,
        owedStop: {
          bootId: 'boot-1',
          nodes: [NODE],
          target: { leaseId: LEASE_ID, workload: 'w', processGroup: group },
          verifiedBy: [],
        },
      },
      [
        'id',
        'workload',
        'identity',
        'outcome',
        'reason',
        'endedWallMs',
        'owedStop.bootId',
        'owedStop.nodes',
        'owedStop.target',
        'owedStop.target.leaseId',
        'owedStop.target.workload',
        'owedStop.target.processGroup.pgid',
        'owedStop.target.processGroup.startTicks',
      ],
    ],
    [...recordOf('gpu/'), ['id', 'vendor', 'unifiedMemory']],
    [`blind/${NODE}`, { forMs: 5_000 }, ['forMs']],
    ['prior/default/Job/x', { uid: 'u', orderId: 'o' }, ['uid', 'orderId']],
    ['member/self', { identity: 'i', bootId: 'b' }, ['identity', 'bootId']],
    [`boot/${NODE}`, { bootId: 'boot-1', startedWallMs: 5 }, ['bootId', 'startedWallMs']],
  ];
  for (const [key, record, paths] of whole) {
    t.same(problemsOf(key, record), [], `${key} as it should be`);
    // A symbol is what nothing should be, whatever it should be; NaN is no number.
    for (const path of paths) {
      for (const value of [undefined, Symbol('none'), Number.NaN]) {
        const what = value === undefined ? 'nothing' : String(value);
        t.equal(problemsOf(key, withChanged(record, path, value)).length, 1, `${key} with ${what} for ${path}`);
      }
    }
  }
  for (const ttlMs of [0, -1]) t.equal(problemsOf(leaseKey, { ...lease, ttlMs }).length, 1, `a TTL of ${ttlMs}`);
  for (const key of ['cooling/', 'blind/', 'gpu/'])
    t.equal(problemsOf(key, { forMs: 1 }).length, 1, `${key} of no node`);
});

t.test('restoreState() gives a boot its grace once, whatever the clock does meanwhile', async (t) => {
  const settings = worldSettings();
  const graceLeftMs = (map: ReadonlyMap<string, unknown>, wallMs: number, bootId = 'boot-1'): number => {
    const { state } = restoreState({ ...settings, bootId }, map, { ...moment, wallMs });
    return (state.nodes.get(NODE)?.graceUntilMs ?? Number.NaN) - moment.elapsedMs;
  };
  t.equal(graceLeftMs(new Map(), 0), 120_000);
  const map = new Map([[`boot/${NODE}`, { bootId: 'boot-1', startedWallMs: 1_000_000 }]]);
  t.equal(graceLeftMs(map, 1_050_000), 70_000);
  t.equal(graceLeftMs(map, 9_000_000), 0);
  t.equal(graceLeftMs(map, 0), 120_000, 'a clock that was set back stretches it over its length never');
  t.equal(graceLeftMs(map, 9_000_000, 'boot-2'), 120_000);
  t.same(restoreState(settings, map, moment).set, {}, 'a known boot needs no new record');
});

t.test('restoreState() starts the monotonic clock of what it takes over at now', async (t) => {
  const map = new Map<string, unknown>([
    [`lease/${LEASE_ID}`, { ...leaseRecord(), grantedWallMs: moment.wallMs - 100_000 }],
  ]);
  const { state } = restoreState(worldSettings(), map, moment);
  t.match(state.leases.get(LEASE_ID), {
    expiresAtMs: null,
    endsAtMs: moment.elapsedMs + 500_000,
    told: { action: 'PROCEED' },
  });
  const over = new Map<string, unknown>([[`lease/${LEASE_ID}`, { ...leaseRecord(), grantedWallMs: 0 }]]);
  t.equal(restoreState(worldSettings(), over, moment).state.leases.get(LEASE_ID)?.endsAtMs, moment.elapsedMs);
});
