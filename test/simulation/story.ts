// The story of a world: what it is made of, and what befalls it and when, drawn from the seed before anything runs. A
// list of acts that stand for themselves, so that a failing story can be made shorter by leaving acts out.
import { Chance } from './chance.ts';
import type { ServerFault } from './cluster.ts';
import type { ExporterFault } from './exporters.ts';

export type WorkloadKind = 'deployment' | 'job' | 'pod' | 'group' | 'client';
export type Obedience = 'obeys' | 'lags' | 'ignores';

/** An act; `node`, `card`, `exporter` and `replica` are indexes, taken modulo how many there are. */
export type Act = { readonly atMs: number; readonly forMs: number } & (
  | { readonly kind: 'fan-fails'; readonly node: number; readonly card: number; readonly factor: number }
  | { readonly kind: 'cpu-cooler-fails'; readonly node: number; readonly factor: number }
  | { readonly kind: 'hot-air'; readonly node: number; readonly byC: number }
  | { readonly kind: 'power-surge'; readonly node: number; readonly card: number; readonly byW: number }
  | { readonly kind: 'card-lost'; readonly node: number; readonly card: number }
  | { readonly kind: 'exporter'; readonly node: number; readonly exporter: number; readonly fault: ExporterFaultName }
  | {
      readonly kind: 'mad-sample';
      readonly node: number;
      readonly card: number;
      readonly quantity: 'temperature' | 'power';
      readonly by: number;
    }
  /** Without `replica` for everybody. */
  | { readonly kind: 'server'; readonly fault: ServerFault; readonly replica?: number }
  | { readonly kind: 'node-hangs'; readonly node: number }
  | { readonly kind: 'scaled-back'; readonly node: number }
  | { readonly kind: 'disk'; readonly replica: number; readonly fault: 'fails' | 'hangs' }
  | { readonly kind: 'dies'; readonly replica: number; readonly by: 'kill' | 'power'; readonly inSteps: number | null }
  | { readonly kind: 'rots'; readonly replica: number }
  | { readonly kind: 'stalls'; readonly replica: number }
  | { readonly kind: 'suspends'; readonly replica: number }
  | { readonly kind: 'wall-jumps'; readonly replica: number; readonly byMs: number }
  | { readonly kind: 'operator-presses'; readonly replica: number; readonly node: number | null }
  | { readonly kind: 'operator-resets'; readonly replica: number }
  | { readonly kind: 'operator-drills'; readonly replica: number }
  | { readonly kind: 'operator-forgets'; readonly replica: number; readonly node: number }
  | { readonly kind: 'holder-dies'; readonly node: number }
);

export type ExporterFaultName = Exclude<ExporterFault['kind'], never>;

export interface Story {
  readonly seed: number;
  readonly lengthMs: number;
  /**
   * `fleet`: nodes without a cluster, read by bytes; `light`: many of them, read without, for node-hours; `cluster`:
   * Kubernetes, and one or two replicas; `workstation`: one node with a process group.
   */
  readonly kind: 'fleet' | 'light' | 'cluster' | 'workstation';
  readonly replicas: number;
  readonly nodes: readonly { readonly cards: number; readonly exporters: readonly NodeExporter[] }[];
  readonly workloads: readonly {
    readonly node: number;
    readonly kind: WorkloadKind;
    readonly obedience: Obedience;
    readonly hasLease: boolean;
    readonly ttlMs: number;
    readonly intensity: number;
  }[];
  readonly tripScope: 'cluster' | 'node';
  readonly hasDenyRule: boolean;
  readonly intervalMs: number;
  readonly fastIntervalMs: number;
  readonly acts: readonly Act[];
  /** Added to each bound, ms; for a test of the simulation itself. */
  readonly boundSlackMs?: number;
}

export interface NodeExporter {
  readonly kind: 'node' | 'dcgm' | 'nvidia' | 'merged';
  readonly periodMs: number;
  readonly latencyMs: number;
  readonly skewMs: number;
  readonly rounds: 'nearest' | 'down' | 'tenths';
}

const MINUTE_MS = 60_000;
/** Nodes of each kind of world. */
const COUNTS = { light: [60, 100], cluster: [2, 4], fleet: [3, 8], workstation: [1, 1] } as const;

/** Which worlds there are, and how long they last. */
interface Mix {
  readonly weights: Readonly<Record<Story['kind'], number>>;
  readonly minutes: Readonly<Record<Story['kind'], readonly [number, number]>>;
  /** The looks of light worlds, tick and fast. All others have the defaults. */
  readonly lightIntervalsMs: readonly number[];
  /** For how long a lease of a light world stands unrenewed. */
  readonly lightTtlsMs: readonly number[];
  /** Acts in an hour of a light world's node. */
  readonly lightActsPerHour: number;
}

/** `many`: as much as can be seen in some minutes. `long`: node-hours, for the night. */
const MIXES = {
  many: {
    weights: { light: 5, cluster: 2.5, fleet: 1.2, workstation: 1.3 },
    minutes: { light: [13, 20], cluster: [6, 8], fleet: [6, 8], workstation: [7, 11] },
    lightIntervalsMs: [10_000, 20_000, 30_000, 30_000],
    lightTtlsMs: [60_000, 120_000, 300_000],
    lightActsPerHour: 1,
  },
  long: {
    weights: { light: 3, cluster: 2.5, fleet: 1.2, workstation: 1.3 },
    minutes: { light: [180, 360], cluster: [6, 8], fleet: [6, 8], workstation: [7, 11] },
    lightIntervalsMs: [10_000, 20_000, ...Array.from({ length: 10 }, () => 30_000)],
    lightTtlsMs: [60_000, ...Array.from({ length: 4 }, () => 300_000)],
    lightActsPerHour: 0.5,
  },
} as const satisfies Record<string, Mix>;

export type MixName = keyof typeof MIXES;

/** The story of a seed. Of the same seed and mix always the same. */
export function storyOf(seed: number, mix: MixName = 'many'): Story {
  const chance = new Chance(seed, 'story');
  const { weights, minutes, lightIntervalsMs, lightTtlsMs, lightActsPerHour } = MIXES[mix];
  const kind = chance.weighted(weights);
  const [fewest, most] = COUNTS[kind];
  const count = chance.whole(fewest, most);
  const [shortest, longest] = minutes[kind];
  const lengthMs = Math.round(chance.between(shortest, longest) * MINUTE_MS);
  const nodes = Array.from({ length: count }, () => {
    const cards = kind === 'light' || kind === 'fleet' ? chance.whole(1, 2) : chance.whole(1, 3);
    return { cards, exporters: exportersOf(chance, kind) };
  });
  const workloads = nodes.flatMap((_, node) => {
    const own = [workloadOf(chance, kind, node, true, lightTtlsMs)];
    if (kind === 'cluster' && chance.is(0.3)) own.push(workloadOf(chance, kind, node, false, lightTtlsMs));
    return own;
  });
  const isLight = kind === 'light';
  const lightActs = (count * lengthMs * lightActsPerHour) / (60 * MINUTE_MS);
  const actCount = isLight ? Math.round(lightActs * chance.between(0.5, 1.5)) : chance.whole(6, 14);
  const acts = Array.from({ length: actCount }, () => actOf(chance, kind, lengthMs));
  const intervalMs = isLight ? chance.pick(lightIntervalsMs) : 10_000;
  return {
    seed,
    lengthMs,
    kind,
    replicas: kind === 'cluster' && chance.is(0.6) ? 2 : 1,
    nodes,
    workloads,
    // With many nodes everything would be stopped most of the time.
    tripScope: chance.is(isLight ? 0.9 : 0.6) ? 'node' : 'cluster',
    hasDenyRule: chance.is(0.7),
    intervalMs,
    fastIntervalMs: isLight ? intervalMs : 2_000,
    acts: acts.sort((one, other) => one.atMs - other.atMs),
  };
}

function exportersOf(chance: Chance, kind: Story['kind']): readonly NodeExporter[] {
  const of = (what: NodeExporter['kind']): NodeExporter => ({
    kind: what,
    // node_exporter reads when it is asked.
    periodMs: what === 'node' || what === 'merged' ? 0 : chance.pick([1_000, 1_000, 2_000, 5_000]),
    latencyMs: chance.whole(2, 150),
    skewMs: chance.is(0.1) ? chance.whole(-30_000, 30_000) : chance.whole(-500, 500),
    rounds: chance.pick(['nearest', 'down', 'tenths']),
  });
  if (kind === 'fleet' || kind === 'light') return [of('merged')];
  return chance.is(0.3) ? [of('node'), of('dcgm'), of('nvidia')] : [of('node'), of('dcgm')];
}

function workloadOf(
  chance: Chance,
  kind: Story['kind'],
  node: number,
  hasLease: boolean,
  lightTtlsMs: readonly number[],
): Story['workloads'][number] {
  const kinds: Readonly<Record<Story['kind'], readonly WorkloadKind[]>> = {
    fleet: ['client'],
    light: ['client'],
    cluster: ['deployment', 'job', 'pod'],
    workstation: ['group'],
  };
  return {
    node,
    kind: hasLease ? chance.pick(kinds[kind]) : 'deployment',
    obedience: hasLease ? chance.weighted({ obeys: 5, lags: 2, ignores: 3 }) : 'ignores',
    hasLease,
    ttlMs: kind === 'light' ? chance.pick(lightTtlsMs) : 30_000,
    intensity: chance.pick([0.5, 0.7, 0.8, 0.8]),
  };
}

/** Short enough to be tolerated, long enough not to be, or much longer. */
const howLong = (chance: Chance): number =>
  Math.round(
    chance.pick([chance.between(1_000, 20_000), chance.between(15_000, 70_000), chance.between(60_000, 400_000)]),
  );

const WEIGHTS = {
  'fan-fails': 5,
  'cpu-cooler-fails': 3,
  'hot-air': 2,
  'power-surge': 4,
  'card-lost': 1,
  exporter: 14,
  'mad-sample': 7,
  server: 6,
  'node-hangs': 2,
  'scaled-back': 3,
  disk: 3,
  dies: 5,
  rots: 0.5,
  stalls: 3,
  suspends: 2,
  'wall-jumps': 3,
  'operator-presses': 2,
  'operator-resets': 4,
  'operator-drills': 2,
  'operator-forgets': 1,
  'holder-dies': 3,
} as const satisfies Record<Act['kind'], number>;

export const ACT_KINDS = Object.keys(WEIGHTS) as readonly Act['kind'][];

/** What befalls a cluster alone, and what befalls a process with all that it watches. */
const OF_CLUSTERS: readonly Act['kind'][] = ['server', 'node-hangs', 'scaled-back'];
const OF_ALL_NODES: readonly Act['kind'][] = [
  'disk',
  'dies',
  'rots',
  'stalls',
  'suspends',
  'wall-jumps',
  'operator-presses',
];

function weightsIn(kind: Story['kind']): Readonly<Record<Act['kind'], number>> {
  const weights: Record<Act['kind'], number> = { ...WEIGHTS };
  if (kind !== 'cluster') for (const what of OF_CLUSTERS) weights[what] = 0;
  // So many nodes have so many acts that there would be no quiet between these.
  if (kind === 'light') for (const what of OF_ALL_NODES) weights[what] *= 0.3;
  return weights;
}

const FAULTS: readonly ExporterFaultName[] = [
  'hang',
  'hang',
  'refuse',
  'error',
  'empty',
  'html',
  'cut',
  'cut-quietly',
  'freeze',
  'freeze',
  'slow',
  'stranger',
  'lie-low',
  'not-a-number',
  'card-missing',
];

function actOf(chance: Chance, kind: Story['kind'], lengthMs: number): Act {
  // The first minutes are for starting up.
  const when = { atMs: Math.round(chance.between(90_000, lengthMs - 150_000)), forMs: howLong(chance) };
  const node = chance.whole(0, 99);
  const card = chance.whole(0, 99);
  const replica = chance.whole(0, 99);
  const what = chance.weighted(weightsIn(kind));
  switch (what) {
    case 'fan-fails':
    case 'cpu-cooler-fails':
      return { ...when, kind: what, node, card, factor: chance.between(1.3, 3) };
    case 'hot-air':
      return { ...when, kind: what, node, byC: chance.between(5, 25) };
    case 'power-surge':
      return { ...when, kind: what, node, card, byW: chance.between(20, 200) };
    case 'card-lost':
      return { ...when, kind: what, node, card };
    case 'exporter':
      return { ...when, kind: what, node, exporter: chance.whole(0, 2), fault: chance.pick(FAULTS) };
    case 'mad-sample': {
      const quantity = chance.pick(['temperature', 'power'] as const);
      return { ...when, kind: what, node, card, quantity, by: quantity === 'power' ? 749.67 : chance.between(42, 60) };
    }
    case 'server':
      // Half of them are between the server and one replica.
      return { ...when, kind: what, fault: chance.pick(SERVER_FAULTS), ...(replica < 50 && { replica }) };
    case 'node-hangs':
    case 'scaled-back':
    case 'holder-dies':
    case 'operator-forgets':
      return what === 'operator-forgets' ? { ...when, kind: what, node, replica } : { ...when, kind: what, node };
    case 'disk':
      return { ...when, kind: what, replica, fault: chance.pick(['fails', 'hangs']) };
    case 'dies': {
      const by = chance.pick(['kill', 'power'] as const);
      return { ...when, kind: what, replica, by, inSteps: chance.is(0.6) ? chance.whole(1, 400) : null };
    }
    case 'stalls':
    case 'suspends':
      return { ...when, kind: what, replica, forMs: Math.min(when.forMs, 120_000) };
    case 'wall-jumps':
      return { ...when, kind: what, replica, byMs: Math.round(chance.between(-400_000, 400_000)) };
    case 'operator-presses':
      return { ...when, kind: what, replica, node: chance.is(0.5) ? node : null };
    case 'rots':
    case 'operator-resets':
    case 'operator-drills':
      return { ...when, kind: what, replica };
  }
}

const SERVER_FAULTS: readonly ServerFault[] = [
  'away',
  'silent',
  'throttles',
  'errs',
  'conflicts',
  'slow',
  'forgets-answers',
];

/** One line for people. */
export function describeAct({ atMs, forMs, ...act }: Act): string {
  const details = Object.entries(act)
    .filter(([key]) => key !== 'kind')
    .map(([key, value]) => `${key} ${typeof value === 'number' ? Math.round(value * 100) / 100 : value}`);
  return `${(atMs / 1000).toFixed(0).padStart(6)} s  ${act.kind} ${details.join(', ')} for ${(forMs / 1000).toFixed(0)} s`;
}
