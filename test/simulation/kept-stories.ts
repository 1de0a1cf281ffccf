// Stories that are kept: the shortest ones that broke a rule before it was mended, and small ones that a planted fault needs
// and a seed seldom tells. A seed's number would not do: it means another world as soon as worlds are drawn otherwise.
import type { Act, NodeExporter, Story, WorkloadKind } from './story.ts';

const MINUTE_MS = 60_000;

interface Plan {
  readonly kind: Story['kind'];
  readonly exporters: readonly Partial<NodeExporter>[];
  readonly load: WorkloadKind;
  readonly acts: readonly Act[];
  readonly minutes?: number;
  readonly intensity?: number;
  readonly intervalMs?: number;
  /** All alike, and each with a load. */
  readonly nodes?: number;
}

/** A quiet world of one node with one load on it, or of some. */
function quiet(plan: Plan): Story {
  const { kind, exporters, load, acts, minutes = 20, intensity = 0.8, intervalMs = 10_000, nodes = 1 } = plan;
  const plain: NodeExporter = { kind: 'merged', periodMs: 0, latencyMs: 20, skewMs: 0, rounds: 'nearest' };
  return {
    seed: 1,
    lengthMs: minutes * MINUTE_MS,
    kind,
    replicas: 1,
    nodes: Array.from({ length: nodes }, () => ({
      cards: 2,
      exporters: exporters.map((given) => ({ ...plain, ...given })),
    })),
    workloads: Array.from({ length: nodes }, (_, node) => ({
      node,
      kind: load,
      obedience: 'ignores',
      hasLease: true,
      ttlMs: 60_000,
      intensity,
    })),
    tripScope: 'node',
    hasDenyRule: false,
    intervalMs,
    fastIntervalMs: kind === 'light' ? intervalMs : 2_000,
    acts,
  };
}

const BOTH: Plan['exporters'] = [{ kind: 'node' }, { kind: 'dcgm', periodMs: 1_000 }];
const pressed: Act = { atMs: 5 * MINUTE_MS, forMs: 1, kind: 'operator-presses', replica: 0, node: null };

export const KEPT_STORIES = {
  /** 749 W among the six samples of a minute raised their mean by 100 W; the card's whole degrees had stood still for two. */
  'a mad power beside a settled temperature': quiet({
    kind: 'light',
    exporters: [{ latencyMs: 2 }],
    load: 'client',
    intensity: 0.3,
    acts: [0, 1].map((card) => ({
      atMs: 10 * MINUTE_MS + card * 200_000,
      forMs: 1,
      kind: 'mad-sample',
      node: 0,
      card,
      quantity: 'power',
      by: 749.67,
    })),
  }),
  /** Looked at every 30 s a minute has two samples; each mad one was taken back a second later. */
  'two mad powers within a minute beside a settled temperature': quiet({
    kind: 'light',
    exporters: [{ latencyMs: 2 }],
    load: 'client',
    intensity: 0.3,
    intervalMs: 30_000,
    acts: [0, 20_000].map((laterMs) => ({
      atMs: 10 * MINUTE_MS + laterMs,
      forMs: 1,
      kind: 'mad-sample',
      node: 0,
      card: 0,
      quantity: 'power',
      by: 749.67,
    })),
  }),
  /** Lost by the jump, read again, and that was not judged before the process stood still: blind for 30 s when it woke. */
  'a jump of the clock, and a standstill of the service': quiet({
    kind: 'fleet',
    exporters: [{ latencyMs: 140 }],
    load: 'client',
    acts: [
      { atMs: 180_500, forMs: MINUTE_MS, kind: 'wall-jumps', replica: 0, byMs: -300_000 },
      { atMs: 181_500, forMs: 36_000, kind: 'stalls', replica: 0 },
    ],
    minutes: 5,
  }),
  /** Back before it was blind for too long; but its share of CPU time would have taken a second scrape. */
  'a node_exporter that hangs for 55 s': quiet({
    kind: 'fleet',
    exporters: BOTH,
    load: 'client',
    acts: [{ atMs: 187_000, forMs: 54_800, kind: 'exporter', node: 0, exporter: 0, fault: 'hang' }],
    minutes: 6,
  }),
  /** The look after the sleep began before the jump of the clock was noticed, and was taken for one from before it. */
  'a sleep between a mad power and its second look': quiet({
    kind: 'fleet',
    exporters: [{ kind: 'node' }, { kind: 'dcgm', periodMs: 5_000, latencyMs: 102 }],
    load: 'client',
    acts: [
      { atMs: 299_000, forMs: 1, kind: 'mad-sample', node: 0, card: 0, quantity: 'power', by: 749.67 },
      { atMs: 305_100, forMs: 120_000, kind: 'suspends', replica: 0 },
    ],
  }),
  /** A node's sources are judged together, so the newer sample waited for the one that hung until the mad one counted. */
  'a mad temperature while another exporter of the card hangs': quiet({
    kind: 'fleet',
    exporters: [
      { kind: 'node' },
      { kind: 'dcgm', periodMs: 2_000, latencyMs: 49 },
      { kind: 'nvidia', periodMs: 2_000, latencyMs: 116 },
    ],
    load: 'client',
    acts: [
      { atMs: 300_200, forMs: 19_000, kind: 'exporter', node: 0, exporter: 2, fault: 'hang' },
      { atMs: 300_700, forMs: 1, kind: 'mad-sample', node: 0, card: 1, quantity: 'temperature', by: 48.18 },
    ],
  }),
  /** Half-way to the deadline the exporter repeats itself; without a later look there was no newer sample. */
  'a mad temperature of a source that renews every two seconds': quiet({
    kind: 'fleet',
    exporters: [{ kind: 'node' }, { kind: 'dcgm', periodMs: 2_000, latencyMs: 5 }],
    load: 'client',
    acts: Array.from({ length: 2 }, (_, index) => ({
      atMs: 5 * MINUTE_MS + index * 61_370,
      forMs: 1,
      kind: 'mad-sample',
      node: 0,
      card: 0,
      quantity: 'temperature',
      by: 50,
    })),
  }),
  /** The deadline of its second look had passed when the process woke, and nobody had looked. One of these falls in between. */
  'a mad temperature, and a standstill of the service before it is looked at again': quiet({
    kind: 'fleet',
    exporters: BOTH,
    load: 'client',
    acts: Array.from({ length: 6 }, (_, index) => 2 * MINUTE_MS * (index + 1) + 330 * index).flatMap((atMs, index) => [
      { atMs, forMs: 1, kind: 'mad-sample', node: 0, card: 0, quantity: 'temperature', by: 50 },
      { atMs: atMs + 500 + 350 * index, forMs: 40_000, kind: 'stalls', replica: 0 },
    ]),
    minutes: 15,
  }),
  /** The second look a second later saw the same sample again, and its counter had not been seen to move. */
  'a mad power that is the first sample after a start': quiet({
    kind: 'workstation',
    exporters: [{ kind: 'node' }, { kind: 'dcgm', periodMs: 2_000, latencyMs: 5 }],
    load: 'group',
    acts: [
      { atMs: 5 * MINUTE_MS, forMs: 4_500, kind: 'dies', replica: 0, by: 'kill', inSteps: null },
      { atMs: 5 * MINUTE_MS + 1_000, forMs: 1, kind: 'mad-sample', node: 0, card: 0, quantity: 'power', by: 749.67 },
    ],
    minutes: 6,
  }),
  'an exporter that freezes under load': quiet({
    kind: 'fleet',
    exporters: BOTH,
    load: 'client',
    acts: [{ atMs: 5 * MINUTE_MS, forMs: 4 * MINUTE_MS, kind: 'exporter', node: 0, exporter: 1, fault: 'freeze' }],
    minutes: 10,
  }),
  /** Its exporter was back for a second of its minute, but the round waited for another node's, which hung. */
  'an exporter that is back in time, and another that keeps the round waiting': quiet({
    kind: 'light',
    exporters: [{}],
    load: 'client',
    nodes: 2,
    intervalMs: 30_000,
    acts: [
      { atMs: 403_000, forMs: 44_000, kind: 'exporter', node: 0, exporter: 0, fault: 'error' },
      { atMs: 443_000, forMs: 52_000, kind: 'exporter', node: 1, exporter: 0, fault: 'hang' },
    ],
    minutes: 9,
  }),
  /** Two seconds after a tick: the next one alone would come too late. */
  'a card that gets hot between two ticks': quiet({
    kind: 'fleet',
    exporters: [{ rounds: 'down' }],
    load: 'client',
    acts: [{ atMs: 3 * MINUTE_MS, forMs: 3 * MINUTE_MS, kind: 'fan-fails', node: 0, card: 0, factor: 3 }],
    minutes: 6,
  }),
  'an exporter that hangs': quiet({
    kind: 'fleet',
    exporters: BOTH,
    load: 'client',
    acts: [{ atMs: 5 * MINUTE_MS, forMs: 4 * MINUTE_MS, kind: 'exporter', node: 0, exporter: 1, fault: 'hang' }],
    minutes: 10,
  }),
  'a stop of a Deployment': quiet({
    kind: 'cluster',
    exporters: BOTH,
    load: 'deployment',
    acts: [pressed],
    minutes: 8,
  }),
  /** The process that does not lead hears of the reset up to two seconds later; until then a press joins what is over. */
  'a press on a standby that has not heard of the reset yet': {
    ...quiet({
      kind: 'cluster',
      exporters: BOTH,
      load: 'deployment',
      // The operator who looks after trips resets at the half minute.
      acts: [pressed, { ...pressed, atMs: pressed.atMs + 30_300, replica: 1 }],
      minutes: 8,
    }),
    replicas: 2,
  },
  /** The later one went into the earlier one, which the cluster hears of last; the reset is of another node's trip. */
  'stops of one node at two replicas that do not hear of each other, and a reset beside them': {
    ...quiet({
      kind: 'cluster',
      exporters: BOTH,
      load: 'deployment',
      acts: [
        { ...pressed, node: 1 },
        { atMs: pressed.atMs + 2_000, forMs: 14_000, kind: 'server', fault: 'away', replica: 1 },
        { ...pressed, atMs: pressed.atMs + 5_000, replica: 1, node: 0 },
        { ...pressed, atMs: pressed.atMs + 9_000, node: 0 },
        { atMs: pressed.atMs + 13_000, forMs: 60_000, kind: 'server', fault: 'silent', replica: 0 },
        { atMs: pressed.atMs + 36_000, forMs: 60_000, kind: 'exporter', node: 0, exporter: 0, fault: 'refuse' },
        { atMs: pressed.atMs + 40_000, forMs: 1, kind: 'operator-resets', replica: 1 },
      ],
      minutes: 9,
      nodes: 2,
    }),
    replicas: 2,
  },
  /** Nothing but the urgent record of the trip itself can have reached the disk. */
  'a stop, and a kill of the service before it is verified': quiet({
    kind: 'workstation',
    exporters: BOTH,
    load: 'group',
    acts: [pressed, { atMs: pressed.atMs + 1_500, forMs: 4_000, kind: 'dies', replica: 0, by: 'kill', inSteps: null }],
    minutes: 6,
  }),
  'a stop, and a restart of the service': quiet({
    kind: 'workstation',
    exporters: BOTH,
    load: 'group',
    acts: [pressed, { atMs: pressed.atMs + 7_000, forMs: 4_000, kind: 'dies', replica: 0, by: 'kill', inSteps: null }],
    minutes: 8,
  }),
} as const satisfies Record<string, Story>;
