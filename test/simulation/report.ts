// The words of a run: a failure as a short story with its seed, and the sum of many worlds as a table.
import { shownTime } from './chronicle.ts';
import { ACT_KINDS, describeAct, type MixName, type Story } from './story.ts';
import type { Outcome } from './world.ts';

/** How much was seen, and for how much work. */
export interface Worked {
  worlds: number;
  /** Under load. */
  nodeHours: number;
  cpuSeconds: number;
}

/** What many worlds come to. Plain data: it goes between processes, and into the file of results. */
export interface Totals extends Worked {
  /** The same of each kind of world. */
  kinds: Record<string, Worked>;
  steps: number;
  missed: number;
  falseTrips: number;
  otherViolations: number;
  failedSeeds: { seed: number; rule: string; detail: string }[];
  counts: Record<string, number>;
  /** How many took so many tenths of a second. */
  reactionTenths: Record<string, number>;
}

const noWork = (): Worked => ({ worlds: 0, nodeHours: 0, cpuSeconds: 0 });

export const noTotals = (): Totals => ({
  ...noWork(),
  kinds: {},
  steps: 0,
  missed: 0,
  falseTrips: 0,
  otherViolations: 0,
  failedSeeds: [],
  counts: {},
  reactionTenths: {},
});

function addWork(sum: Worked, { worlds, nodeHours, cpuSeconds }: Worked): void {
  sum.worlds += worlds;
  sum.nodeHours += nodeHours;
  sum.cpuSeconds += cpuSeconds;
}

function addKinds(sum: Totals['kinds'], part: Totals['kinds']): void {
  for (const [kind, work] of Object.entries(part)) {
    sum[kind] ??= noWork();
    addWork(sum[kind], work);
  }
}

/** Adds a world of `kind` that took `cpuSeconds`. Of one that broke a rule only that: it is to be mended and run anew. */
export function addOutcome(totals: Totals, outcome: Outcome, kind: Story['kind'], cpuSeconds: number): void {
  const { seed, violation, counts, reactionsMs, nodeHours, steps } = outcome;
  if (violation) {
    const { rule, detail } = violation;
    if (rule === 'missed' || rule === 'blind') totals.missed += 1;
    else if (rule === 'false trip') totals.falseTrips += 1;
    else totals.otherViolations += 1;
    totals.failedSeeds.push({ seed, rule, detail });
    return;
  }
  const work = { worlds: 1, nodeHours, cpuSeconds };
  addWork(totals, work);
  addKinds(totals.kinds, { [kind]: work });
  totals.steps += steps;
  for (const ms of reactionsMs) addCounts(totals.reactionTenths, { [Math.round(ms / 100)]: 1 });
  addCounts(totals.counts, counts);
}

/** Takes out what broke a rule; the seeds that are to be run anew. */
export function takeFailures(totals: Totals): readonly number[] {
  totals.missed = 0;
  totals.falseTrips = 0;
  totals.otherViolations = 0;
  return totals.failedSeeds.splice(0).map(({ seed }) => seed);
}

export function addTotals(sum: Totals, part: Totals): void {
  addWork(sum, part);
  addKinds(sum.kinds, part.kinds);
  sum.steps += part.steps;
  sum.missed += part.missed;
  sum.falseTrips += part.falseTrips;
  sum.otherViolations += part.otherViolations;
  sum.failedSeeds.push(...part.failedSeeds);
  addCounts(sum.reactionTenths, part.reactionTenths);
  addCounts(sum.counts, part.counts);
}

function addCounts(sum: Record<string, number>, part: Readonly<Record<string, number>>): void {
  for (const [what, count] of Object.entries(part)) sum[what] = (sum[what] ?? 0) + count;
}

/** What must have come up in a run of many worlds; a fault that never does proves nothing. */
export const MUST_OCCUR: readonly string[] = [
  ...ACT_KINDS.map((kind) => `act ${kind}`),
  ...['hang', 'refuse', 'error', 'empty', 'html', 'cut', 'cut-quietly', 'freeze', 'slow', 'stranger', 'lie-low'].map(
    (fault) => `exporter ${fault}`,
  ),
  ...['not-a-number', 'card-missing'].map((fault) => `exporter ${fault}`),
  ...['away', 'throttles', 'errs', 'conflicts', 'slow'].map((fault) => `server ${fault}`),
  'looks at a hung exporter',
  'mad sample of a temperature',
  'mad sample of a power',
  'true crossings of a temperature',
  'true crossings of a power',
  'trips: hard-stop',
  'trips: blind',
  'trips: manual',
  'trips: corrupt-state',
  'death by kill',
  'death by power',
  'death at step decided',
  'death at step journaling',
  'death at step effect',
  'death at step done',
  'writes lost or torn by a power cut',
  'disk operations failed',
  'disk operations hung',
  'leases granted',
  'cooldowns that ended',
  'event clock-jumped',
  'event sensor-glitch',
  'event stop-verified',
  'event stop-unverified',
  'event lease-ended',
  'reset reset-refused',
  'reset in the cluster done',
  'touched: remove',
  'touched: patch',
  'controllers scaled back up',
  'drills',
];

/** Of {@link MUST_OCCUR}, those that did not. */
export const neverOccurred = ({ counts }: Totals): readonly string[] =>
  MUST_OCCUR.filter((what) => (counts[what] ?? 0) === 0);

const reactionsOf = ({ reactionTenths }: Totals): number =>
  Object.values(reactionTenths).reduce((sum, count) => sum + count, 0);

/** The reaction that `share` of all did not exceed, in words. */
function reactionAt(totals: Totals, share: number): string {
  const rising = Object.entries(totals.reactionTenths).sort(([one], [other]) => Number(one) - Number(other));
  const all = reactionsOf(totals);
  let below = 0;
  const found = rising.find(([, count]) => {
    below += count;
    return below >= all * share;
  });
  return found === undefined ? '–' : `${(Number(found[0]) / 10).toFixed(1)} s`;
}

const describeWork = ({ worlds, nodeHours, cpuSeconds }: Worked): string =>
  `${cpuSeconds.toFixed(0)} s, ${(cpuSeconds / Math.max(worlds, 1)).toFixed(2)} s a world, ` +
  `${(nodeHours / Math.max(cpuSeconds, 1e-9)).toFixed(1)} node-hours a second`;

/** The sum, in lines. */
export function describeTotals(totals: Totals, wallSeconds: number): readonly string[] {
  const never = neverOccurred(totals);
  const rows: [string, string][] = [
    ['worlds', String(totals.worlds)],
    [
      'node-hours under load',
      `${totals.nodeHours.toFixed(1)} (${(totals.nodeHours / 8_760).toFixed(3)} machine-years)`,
    ],
    ['steps', String(totals.steps)],
    ['wall time', `${wallSeconds.toFixed(0)} s`],
    ['CPU time', describeWork(totals)],
    ...Object.entries(totals.kinds).map(([kind, work]): [string, string] => [
      `  ${kind}`,
      `${work.worlds} worlds, ${describeWork(work)}`,
    ]),
    ['missed', String(totals.missed)],
    ['false', String(totals.falseTrips)],
    ['other rules broken', String(totals.otherViolations)],
    ['reactions', String(reactionsOf(totals))],
    ['reaction, median', reactionAt(totals, 0.5)],
    ['reaction, 99 %', reactionAt(totals, 0.99)],
    ['reaction, worst', reactionAt(totals, 1)],
    ['never occurred', never.length === 0 ? 'nothing that should have' : never.join(', ')],
  ];
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, value]) => `${name.padEnd(width)}  ${value}`);
}

/** How often each thing happened, in lines. */
export function describeCounts({ counts }: Totals): readonly string[] {
  return Object.entries(counts)
    .sort(([one], [other]) => (one < other ? -1 : 1))
    .map(([what, count]) => `${String(count).padStart(9)}  ${what}`);
}

/** A failure for people: the world, what befell it, how it ended, and how to see it again. */
export function describeFailure(
  story: Story,
  { violation, lastLines }: Outcome,
  mix: MixName = 'many',
): readonly string[] {
  if (!violation) return [];
  const { seed, kind, nodes, replicas, workloads, tripScope } = story;
  return [
    `seed ${seed}: ${violation.rule} at ${shownTime(violation.atMs)}`,
    `  ${violation.detail}`,
    `the world: ${kind}, ${nodes.length} nodes, ${replicas} replicas, tripScope ${tripScope}, interval ${story.intervalMs / 1000} s, fast ${story.fastIntervalMs / 1000} s`,
    ...workloads.map(({ node, kind: what, obedience, hasLease, intensity }) => {
      return `  on node-${node + 1} a ${what} at ${intensity} that ${obedience}${hasLease ? '' : ', without a lease'}`;
    }),
    `the story, ${story.acts.length} acts:`,
    ...story.acts.map((act) => `  ${describeAct(act)}`),
    'the last lines:',
    ...lastLines.slice(-30).map((line) => `  ${line.slice(0, 300)}`),
    `as a story: ${JSON.stringify(story)}`,
    `again: npm run simulate -- --seed ${seed}${mix === 'long' ? ' --nightly' : ''}`,
  ];
}
