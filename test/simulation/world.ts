// One world: a story's nodes, processes, cluster, loads and people on one timeline, run from its beginning to its end, and
// judged at every step. The same story always gives the same run.
import { loopTurn } from '../../src/clock.ts';
import { type Config, loadConfig } from '../../src/config.ts';
import type { Trip } from '../../src/domain/interlock.ts';
import { PretendMachine } from '../support/pretend-machine.ts';
import { perform, type Stage } from './acts.ts';
import { CarriedOut } from './carried-out.ts';
import { Chance, withSeededChance } from './chance.ts';
import { Chronicle, type Violation } from './chronicle.ts';
import { WorldCluster } from './cluster.ts';
import { Exporter } from './exporters.ts';
import { House } from './house.ts';
import { Machine } from './machine.ts';
import { Operators } from './operators.ts';
import { Promises, WATCH_EVERY_MS } from './promises.ts';
import { type Life, Replica } from './replica.ts';
import type { Story } from './story.ts';
import { ProcessClock, Timeline, withOwnTurns } from './timeline.ts';
import { Workload } from './workloads.ts';

export interface Outcome {
  readonly seed: number;
  readonly violation: Violation | null;
  readonly digest: string;
  readonly counts: Readonly<Record<string, number>>;
  readonly reactionsMs: readonly number[];
  readonly nodeHours: number;
  readonly steps: number;
  readonly lastLines: readonly string[];
}

/** Runs a story to its end, or to the first rule that is broken. */
export async function runWorld(story: Story, echo: ((line: string) => void) | null = null): Promise<Outcome> {
  const chance = new Chance(story.seed, 'the code under test');
  let uncaught: Violation | null = null;
  const note = (error: unknown): void => {
    uncaught ??= { rule: 'nothing is uncaught', detail: String(error), atMs: story.lengthMs };
  };
  process.on('uncaughtException', note);
  process.on('unhandledRejection', note);
  try {
    const outcome = await withSeededChance(chance, () => withOwnTurns(() => runStory(story, echo)));
    // Node looks for rejections when it has nothing else to do.
    await loopTurn();
    return { ...outcome, violation: outcome.violation ?? uncaught };
  } finally {
    process.off('uncaughtException', note);
    process.off('unhandledRejection', note);
  }
}

async function runStory(story: Story, echo: ((line: string) => void) | null): Promise<Outcome> {
  const timeline = new Timeline();
  const chronicle = new Chronicle(() => timeline.nowMs, echo);
  const chance = new Chance(story.seed, 'the world');
  const machines = story.nodes.map(({ cards }, index) => new Machine(`node-${index + 1}`, chance, cards, 0));
  const exporters = exportersOf(story, machines);
  const processes = new PretendMachine();
  const worldClock = new ProcessClock(timeline, 0);
  const cluster =
    story.kind === 'cluster'
      ? new WorldCluster({
          clock: worldClock,
          nodes: machines.map(({ name }) => name),
          chance,
          chronicle,
          nowMs: () => timeline.nowMs,
          hasDenyRule: story.hasDenyRule,
        })
      : null;
  const replicas: Replica[] = [];
  const rotted = new Set<Replica>();
  const lives = (): readonly Life[] => livesOf(replicas);
  const isForgotten = (life: Life, machine: Machine): boolean =>
    rotted.has(life.replica) && !machine.isWarm(timeline.nowMs) && knownCards(life, machine) < machine.cards.length;
  const isOverInCluster = (tripId: string): boolean => cluster?.isOver(tripId) ?? false;
  const house = new House({ timeline, chronicle, lives, intervalMs: story.intervalMs, isOverInCluster });
  const workloads = story.workloads.map((plan, index) => {
    const machine = machines[plan.node] as Machine;
    const onGranted = (life: Life, { machine: { name } }: Workload): void =>
      house.granted(life, name, isWellRead(life, machine) || isForgotten(life, machine));
    return new Workload({ timeline, chronicle, chance, cluster, processes, lives, onGranted }, plan, machine, index);
  });
  const promises = new Promises({
    timeline,
    chronicle,
    machines,
    workloads,
    lives,
    intervalMs: story.intervalMs,
    fastIntervalMs: story.fastIntervalMs,
    slackMs: story.boundSlackMs ?? 0,
    serverWellSinceMs: ({ replica }) => cluster?.wellSinceMs(replica.name) ?? 0,
    isForgotten,
  });
  const carriedOut = new CarriedOut({ timeline, chronicle, cluster, workloads, lives, rotted });
  const operators = new Operators({
    timeline,
    chronicle,
    chance,
    lives,
    cardsOf: (node) => machines.find(({ name }) => name === node)?.cards.map(({ uuid }) => uuid) ?? [],
    pressed: (life, scope) => house.pressed(life, scope),
    resetAsked: (tripId) => house.noteResetAsked(tripId),
    beforeReset: (tripId) => house.noteReset(tripId),
    afterReset: (life, tripId, scope, isDone) => {
      if (!isDone) {
        house.takeBackReset(tripId);
        return;
      }
      const meant = machines.filter(({ name }) => scope === null || scope.includes(name));
      const hot = meant.find((machine) => !isWellRead(life, machine) && !isForgotten(life, machine));
      if (hot) chronicle.violate('a reset is judged', `trip ${tripId} was reset while ${hot.name} was warm or unseen`);
    },
    touches: () => house.touches,
  });
  if (cluster) {
    cluster.onTouch = (touched) => house.touched(touched);
    putBystanders(cluster, machines);
  }
  let lifeNumber = 0;
  const config = configOf(story, machines);
  const tripsOf = ({ running }: Life): readonly Trip[] => [...(running?.supervisor.state.trips.values() ?? [])];
  const judgeTrip = (life: Life, { tripId, cause, scope }: Trip): void => {
    promises.tripped(life, tripId, cause, scope.kind === 'all' ? null : scope.nodes, rotted.size > 0);
  };
  for (let index = 0; index < story.replicas; index++) {
    replicas.push(
      new Replica({
        name: `safety-${index}`,
        timeline,
        chronicle,
        chance,
        config,
        exporters,
        cluster,
        processes,
        nextLife: () => ++lifeNumber,
        onRunning: (life) => {
          house.running(life);
          for (const trip of tripsOf(life)) judgeTrip(life, trip);
        },
        onStep: (life, step) => {
          if (step === 'done') house.step(life);
        },
        onMessage: (life, message) => {
          house.message(life, message);
          if (message.type === 'evaluation') {
            chronicle.note(`${life.number} ${message.sequence} ${message.data.action}`);
            return;
          }
          const { name, tripId, message: text } = message.data;
          chronicle.note(`${life.number} ${name} ${text}`);
          chronicle.count(`event ${name}`);
          const trip = name === 'tripped' && tripsOf(life).find((one) => one.tripId === tripId);
          if (trip) judgeTrip(life, trip);
        },
        onEnded: (life) => {
          house.ended(life);
          // One that was not told any more is judged by what this process knew, not by what the next one does.
          for (const trip of tripsOf(life)) judgeTrip(life, trip);
          promises.ended(life);
          for (const exporter of exporters.values()) exporter.forget(life.number);
        },
      }),
    );
  }
  const stage: Stage = {
    timeline,
    chronicle,
    chance,
    machines,
    replicas,
    cluster,
    workloads,
    operators,
    house,
    rotted,
  };
  for (const act of story.acts) timeline.at(act.atMs, () => perform(act, stage));
  for (const [index, replica] of replicas.entries()) timeline.at(index * 7_000, () => replica.start());
  for (const [index, workload] of workloads.entries()) timeline.at(25_000 + index * 300, () => workload.begin());
  operators.start();
  const workloadsOn = new Map(machines.map((machine) => [machine, workloads.filter((one) => one.machine === machine)]));
  timeline.every(WATCH_EVERY_MS, () => {
    for (const workload of workloads) workload.look();
    for (const [machine, own] of workloadsOn) machine.setLoad(loadOf(own), timeline.nowMs);
    promises.watch();
    carriedOut.watch();
    house.watch();
  });
  timeline.every(60_000, () => cluster?.forgetRequests());
  await timeline.run(story.lengthMs, () => chronicle.violation !== null);
  for (const replica of replicas) replica.life?.clock.end();
  return {
    seed: story.seed,
    violation: chronicle.violation,
    digest: chronicle.digest,
    counts: chronicle.counts,
    reactionsMs: promises.reactionsMs,
    nodeHours: promises.nodeMsUnderLoad / 3_600_000,
    steps: timeline.steps,
    lastLines: chronicle.lastLines(60),
  };
}

/** Those that run, the leader first. */
function livesOf(replicas: readonly Replica[]): readonly Life[] {
  const found: Life[] = [];
  for (const { life } of replicas) if (life?.running && !life.isDead) found.push(life);
  if (found.length < 2) return found;
  const rank = ({ running }: Life): number =>
    running?.supervisor.state.cluster?.leadership.state === 'leader' || !running?.cluster ? 0 : 1;
  return found.sort((one, other) => rank(one) - rank(other));
}

function exportersOf(story: Story, machines: readonly Machine[]): ReadonlyMap<string, Exporter> {
  const all = new Map<string, Exporter>();
  for (const [index, { exporters }] of story.nodes.entries()) {
    const machine = machines[index] as Machine;
    machine.exporters = exporters.map((plan, place) => {
      const url = `http://${machine.name}:${9100 + place}/metrics`;
      const exporter = new Exporter({ ...plan, url, machine, isLight: story.kind === 'light' }, 0);
      all.set(url, exporter);
      return exporter;
    });
  }
  return all;
}

function loadOf(workloads: readonly Workload[]): number {
  let load = 0;
  for (const workload of workloads) load += workload.load;
  return Math.min(load, 1);
}

/** A card that only a damaged journal told of, since it is not to be seen now, nobody knows any more. */
function knownCards({ running }: Life, { name }: Machine): number {
  return running?.supervisor.state.nodes.get(name)?.watch.gpus.known.size ?? 0;
}

/** A whole, true and cool word of the machine reached this process within the last seconds in which it could act on one. */
function isWellRead(life: Life, machine: Machine): boolean {
  return [true, false].every((isCard) =>
    machine.exporters.some((exporter) => {
      const isCarrier = exporter.kind === 'merged' || (exporter.kind === 'node') !== isCard;
      const last = exporter.deliveries.get(life.number)?.at(-1);
      return (
        isCarrier &&
        last !== undefined &&
        last.told.warningShare < 1 &&
        last.told.warningShare > 0 &&
        ageMs(life, last.atMs) < 12_000
      );
    }),
  );
}

/** Wall and monotonic clock may move apart by so much unnoticed (`decide.ts`). */
const UNNOTICED_SLEEP_MS = 15_000;

/** How old something is for a process: a sleep that is too short for the service to take it for a jump is not in it. */
function ageMs({ clock }: Life, sinceMs: number): number {
  const sleptMs = clock.sleptForMs(sinceMs);
  return clock.ableForMs(sinceMs) - (sleptMs <= UNNOTICED_SLEEP_MS ? sleptMs : 0);
}

/** What is none of the service's business, on every node. */
function putBystanders({ standIn }: WorldCluster, machines: readonly Machine[]): void {
  for (const { name } of machines) {
    standIn.pod(`bystander-${name}`, { labels: { app: 'web' }, node: name });
    const template = { metadata: { labels: { app: 'web' } }, spec: { nodeName: name } };
    standIn.owner('StatefulSet', `database-${name}`, { spec: { replicas: 1, template } });
  }
}

function configOf({ kind, tripScope, intervalMs, fastIntervalMs }: Story, machines: readonly Machine[]): Config {
  const nodes = machines.map(({ name, exporters }) => {
    const endpoints = exporters.map(({ url }) => JSON.stringify(url)).join(', ');
    return `  - { name: ${name}, endpoints: [ ${endpoints} ] }`;
  });
  const kubernetes = kind === 'cluster' ? '{ enabled: true, kubeconfig: /sim/kubeconfig }' : '{ enabled: false }';
  const text = [
    'stateDir: /sim/state',
    'source: exporters',
    'history: { enabled: false }',
    `tripScope: ${tripScope}`,
    `interval: ${intervalMs / 1000}s`,
    `fastInterval: ${fastIntervalMs / 1000}s`,
    `kubernetes: ${kubernetes}`,
    'nodes:',
    ...nodes,
    '',
  ].join('\n');
  const loaded = loadConfig({ text, file: 'world.yaml', env: {}, hostname: 'node-1', homeDir: '/sim' });
  if (!loaded.ok) throw new Error(`A world's configuration is wrong: ${JSON.stringify(loaded.problems)}`);
  return loaded.config;
}
