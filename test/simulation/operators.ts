// The people of a world: one who resets whatever tripped once things look well, as an operator would, and those of the
// story, who press, reset, drill and forget at bad moments. They do what the HTTP routes do, in the same order.
import type { TripScope } from '../../src/domain/stop.ts';
import type { Chance } from './chance.ts';
import type { Chronicle } from './chronicle.ts';
import type { Life } from './replica.ts';
import type { Timeline } from './timeline.ts';

const LOOKS_EVERY_MS = 15_000;
/** Tries after which the one who resets takes an unverified stop for good. */
const ACKNOWLEDGES_AFTER = 4;

export interface OperatorParts {
  readonly timeline: Timeline;
  readonly chronicle: Chronicle;
  readonly chance: Chance;
  readonly lives: () => readonly Life[];
  /** Cards that a node truly has. */
  readonly cardsOf: (node: string) => readonly string[];
  readonly pressed: (life: Life, scope: TripScope) => void;
  readonly resetAsked: (tripId: string) => void;
  readonly beforeReset: (tripId: string) => void;
  readonly afterReset: (life: Life, tripId: string, scope: readonly string[] | null, isDone: boolean) => void;
  /** Whether anything but memory was touched since it was asked last. */
  readonly touches: () => number;
}

export class Operators {
  readonly #parts: OperatorParts;
  readonly #tries = new Map<string, number>();

  constructor(parts: OperatorParts) {
    this.#parts = parts;
  }

  /** From now on somebody looks after trips. */
  start(): void {
    const { timeline } = this.#parts;
    timeline.every(LOOKS_EVERY_MS, () => {
      for (const life of this.#parts.lives()) {
        const [tripId] = life.running?.supervisor.state.trips.keys() ?? [];
        if (tripId === undefined) continue;
        const tries = (this.#tries.get(tripId) ?? 0) + 1;
        this.#tries.set(tripId, tries);
        life.clock.after(10, () => void this.reset(life, tripId, tries > ACKNOWLEDGES_AFTER));
        if (tries > ACKNOWLEDGES_AFTER) this.#forgetStrangers(life);
        return;
      }
    });
  }

  press(life: Life, nodes: readonly string[] | null): void {
    life.clock.after(10, () => {
      if (!life.running) return;
      const { chronicle } = this.#parts;
      chronicle.tell('operator', `presses the stop at ${life.replica.name} for ${nodes?.join() ?? 'everything'}`);
      chronicle.count('stops pressed');
      const { supervisor } = life.running;
      const { answer } = supervisor.submit({
        kind: 'stop-requested',
        nodes,
        cause: 'manual',
        reason: 'pressed',
        by: 'ada',
      });
      // A trigger never goes by without a latch.
      if (answer.kind !== 'stopping') chronicle.violate('a stop was not taken', `it was answered with ${answer.kind}`);
      else if (!life.isDead && !supervisor.state.trips.has(answer.tripId)) {
        chronicle.violate('a stop was not latched', `trip ${answer.tripId} is not there`);
      } else if (!life.isDead) this.#parts.pressed(life, nodes ? { kind: 'nodes', nodes } : { kind: 'all' });
    });
  }

  /** At a moment that was not chosen for its fitness, and whatever of the stop is verified. */
  resetNow(life: Life): void {
    life.clock.after(10, () => {
      for (const tripId of life.running?.supervisor.state.trips.keys() ?? []) void this.reset(life, tripId, true);
      void this.reset(life, 'a-trip-that-never-was', true);
    });
  }

  drill(life: Life): void {
    life.clock.after(10, () => void this.#drill(life));
  }

  forget(life: Life, node: string): void {
    life.clock.after(10, () => {
      const answer = life.running?.supervisor.submit({
        kind: 'forget-requested',
        node,
        gpu: null,
        reason: 'sold',
        by: 'ada',
      }).answer;
      this.#parts.chronicle.count(`forget ${answer?.kind ?? 'unanswered'}`);
    });
  }

  /** Cards of another machine that were learnt here, and that hold a reset up. */
  #forgetStrangers(life: Life): void {
    for (const [node, { watch }] of life.running?.supervisor.state.nodes ?? []) {
      const own = this.#parts.cardsOf(node).map((uuid) => uuid.toLowerCase());
      for (const gpu of watch.gpus.known.keys()) {
        if (own.includes(gpu.toLowerCase())) continue;
        this.#parts.chronicle.count('cards of another machine forgotten');
        life.running?.supervisor.submit({ kind: 'forget-requested', node, gpu, reason: 'never was here', by: 'ada' });
      }
    }
  }

  /** As POST /estop/reset does it. */
  async reset(life: Life, tripId: string, acknowledgeUnverified: boolean): Promise<void> {
    const { chronicle, resetAsked, beforeReset, afterReset } = this.#parts;
    const { running } = life;
    if (!running || life.isDead) return;
    const { supervisor, monitor, cluster } = running;
    if (cluster && supervisor.state.cluster?.leadership.state !== 'leader') return;
    const trip = supervisor.state.trips.get(tripId);
    const scope = trip?.scope.kind === 'nodes' ? trip.scope.nodes : null;
    const reports = trip ? await monitor.observeNow(scope) : [];
    if (life.isDead) return;
    const event = {
      kind: 'reset-requested',
      tripId,
      reason: 'all well',
      by: 'ada',
      acknowledgeUnverified,
      reports,
    } as const;
    if (!cluster) {
      resetAsked(tripId);
      beforeReset(tripId);
      const { answer } = supervisor.submit(event);
      chronicle.count(`reset ${answer.kind}`);
      if (!life.isDead) afterReset(life, tripId, scope, answer.kind === 'reset-done');
      return;
    }
    const judged = supervisor.submit({ ...event, stage: 'judge' });
    chronicle.count(`reset ${judged.answer.kind}`);
    if (judged.answer.kind !== 'reset-allowed') return;
    const { judged: known } = judged.answer;
    resetAsked(tripId);
    const outcome = await cluster.member.reset({
      tripId,
      by: 'ada',
      reason: 'all well',
      judged: known,
      commit: () => {
        if (life.isDead) return;
        beforeReset(tripId);
        afterReset(life, tripId, scope, true);
        supervisor.submit({ ...event, reports: [], stage: 'commit', judged: known });
      },
    });
    if (!life.isDead) chronicle.count(`reset in the cluster ${outcome.kind}`);
  }

  async #drill(life: Life): Promise<void> {
    const { chronicle, touches } = this.#parts;
    const { running } = life;
    if (!running) return;
    const before = [...running.supervisor.state.trips.keys()].join();
    const { answer } = running.supervisor.submit({ kind: 'drill-requested', nodes: null, by: 'ada' });
    if (answer.kind !== 'drilling') return;
    const isQuiet = before === '';
    const touched = touches();
    await running.runDrill(answer.order);
    if (life.isDead) return;
    chronicle.count('drills');
    const { trips } = running.supervisor.state;
    if (trips.has(answer.order.orderId)) chronicle.violate('I8', 'a drill latched');
    // While nothing is tripped nobody else touches anything but for lapses.
    if (isQuiet && trips.size === 0 && touches() !== touched && running.supervisor.state.endedLeases.size === 0) {
      chronicle.violate('I8', 'something was touched during a drill');
    }
  }
}
