// The two promises, counted by somebody who knows the truth. *Missed*: a part truly at or over its hard stop for longer
// than the bound, with load on its node and an honest path to the reading all that time, and a process that watched and
// did not trip. *False*: a trip by itself although all that is true stayed below its warning and the sensors' faults stayed
// within what the contract tolerates. And the third that the contract gives a number for: blind under load for over 70 s.
// How each bound is reckoned is in docs/simulation.md; nothing here is taken from the code under test.
import type { Chronicle } from './chronicle.ts';
import type { Delivery, Exporter } from './exporters.ts';
import { LIMITS } from './exposition-text.ts';
import type { Card, Machine } from './machine.ts';
import type { Life, Replica } from './replica.ts';
import { areUnread, carriersOf, isJustGood, isUnread, lastGoodMs, ROUND_MS } from './seen.ts';
import type { Timeline } from './timeline.ts';
import type { Workload } from './workloads.ts';

/** As the contract and the monitor's words have it; ms. */
/** A fast round waits for its slowest source. */
const FAST_ROUND_MS = 1_900;
/** Of an interval a tick's round may take this share, its second try included, and the guard behind it. */
const ROUND_SHARE = 0.45;
const ROUND_GUARD_MS = 200;
/** The first round's second look follows the first a second later. */
const FIRST_LOOKS_APART_MS = 1_000;
/** A hard stop of power waits for a newer sample, at most. */
const SECOND_LOOK_MS = 5_000;
/** staleAfter and blindAbortAfter; a tick more is the most that blindness under load may stand. */
const BLIND_AFTER_MS = 60_000;
const INVENTORY_MS = 3_000;
const BOOT_GRACE_MS = 120_000;
/** Rounding, and timers that fire in the same millisecond. */
const SLACK_MS = 300;

export const WATCH_EVERY_MS = 500;
const BLINDNESS_EVERY_MS = 2_000;
/** A rise of over 40 °C within 10 s, or by as much in proportion, is a jump. */
const JUMP_C = 40;
const JUMP_MS = 10_000;
/** A second look waits 2 s at least, and looks for the last time somewhat before. */
const SECOND_LOOK_LEAST_MS = 2_000;
const LAST_LOOK_MS = 350;
/** A warning or worse this lately is a good enough reason. */
const LATELY_MS = 15_000;
const BLIND_ANSWERED_MS = 30_000;
const BLIND_FAILING_MS = 60_000;
/** A share of CPU time is as old as the last two looks that were a second apart. */
const RATE_MS = 1_000;
/** For so long an exporter of another machine is not believed; after that its cards are this node's, as the contract has it. */
const STRANGERS_MS = 30_000;
/** A share of CPU time is told by two answers so far apart at most. */
const LONGEST_SHARE_MS = 90_000;

interface Subject {
  readonly machine: Machine;
  readonly name: string;
  readonly isPower: boolean;
  /** `null` is the CPU. */
  readonly card: Card | null;
  /** Since when it has been truly at or over its hard stop; `null` while it is not. */
  overSinceMs: number | null;
  /** A life that has answered this crossing. */
  answeredBy: Set<number>;
}

/** A machine, what can be too hot about it, and the loads that may run there. */
interface Node {
  readonly machine: Machine;
  readonly subjects: readonly Subject[];
  readonly workloads: readonly Workload[];
  /** At its last look something was over its hard stop. */
  isOver: boolean;
}

export interface PromiseParts {
  readonly timeline: Timeline;
  readonly chronicle: Chronicle;
  readonly machines: readonly Machine[];
  readonly workloads: readonly Workload[];
  readonly lives: () => readonly Life[];
  readonly intervalMs: number;
  readonly fastIntervalMs: number;
  readonly slackMs: number;
  readonly serverWellSinceMs: (life: Life) => number;
  readonly isForgotten: (life: Life, machine: Machine) => boolean;
}

export class Promises {
  /** From the true crossing to the trip, ms; of crossings with an honest path that began under load. */
  readonly reactionsMs: number[] = [];
  nodeMsUnderLoad = 0;
  readonly #parts: PromiseParts;
  readonly #nodes: readonly Node[];
  readonly #warmAtMs = new Map<Machine, number>();
  readonly #loadedSinceMs = new Map<Machine, number>();
  readonly #unblockedAtMs = new Map<number, number>();
  readonly #carriedMs = new Map<Machine, Map<Replica, number>>();
  readonly #seenTrips = new Set<string>();
  readonly #tickRoundMs: number;
  /** An inventory is taken each tick, answers within 3 s and counts from the next look on. */
  readonly #knownLiveMs: number;
  readonly #blindMs: number;

  constructor(parts: PromiseParts) {
    this.#parts = parts;
    this.#tickRoundMs = parts.intervalMs * ROUND_SHARE + ROUND_GUARD_MS;
    this.#knownLiveMs = parts.intervalMs + INVENTORY_MS + this.#tickRoundMs;
    this.#blindMs = BLIND_AFTER_MS + parts.intervalMs;
    const of = (machine: Machine, card: Card | null, isPower: boolean): Subject => ({
      machine,
      name: card ? `card ${card.index}${isPower ? ' power' : ''}` : 'CPU',
      isPower,
      card,
      overSinceMs: null,
      answeredBy: new Set(),
    });
    this.#nodes = parts.machines.map((machine) => ({
      machine,
      subjects: [
        ...machine.cards.flatMap((card) => [of(machine, card, false), of(machine, card, true)]),
        of(machine, null, false),
      ],
      workloads: parts.workloads.filter((workload) => workload.machine === machine),
      isOver: false,
    }));
  }

  /** Looks at the truth, and at who has answered it. */
  watch(): void {
    const { timeline } = this.#parts;
    const lives = this.#parts.lives();
    const { nowMs } = timeline;
    for (const life of lives) {
      if (life.clock.isBlocked) this.#unblockedAtMs.set(life.number, nowMs + WATCH_EVERY_MS);
    }
    const isBlindnessDue = nowMs % BLINDNESS_EVERY_MS < WATCH_EVERY_MS;
    for (const node of this.#nodes) {
      const { machine, subjects, workloads } = node;
      if (!workloads.some(({ runsSinceMs }) => runsSinceMs !== null)) this.#loadedSinceMs.delete(machine);
      else {
        if (!this.#loadedSinceMs.has(machine)) this.#loadedSinceMs.set(machine, nowMs);
        this.nodeMsUnderLoad += WATCH_EVERY_MS;
      }
      const isWarm = machine.isWarm(nowMs);
      if (isWarm) this.#warmAtMs.set(machine, nowMs);
      // Nothing is over its hard stop that is not over its warning.
      if (isWarm || node.isOver) {
        for (const subject of subjects) this.#watchSubject(subject, lives);
        node.isOver = subjects.some(({ overSinceMs }) => overSinceMs !== null);
      }
      if (isBlindnessDue) this.#watchBlindness(machine, lives);
    }
  }

  /** A trip of a life came to be. */
  tripped(life: Life, tripId: string, cause: string, nodes: readonly string[] | null, hasRotted: boolean): void {
    const { chronicle, machines } = this.#parts;
    this.#noteReactions(life, nodes);
    if (this.#seenTrips.has(tripId)) return;
    this.#seenTrips.add(tripId);
    chronicle.count(`trips: ${cause}`);
    const scope = machines.filter(({ name }) => nodes === null || nodes.includes(name));
    if (cause === 'corrupt-state' && !hasRotted) {
      chronicle.violate('false trip', `trip ${tripId} for a corrupt state that nothing made corrupt`);
    }
    if (cause === 'hard-stop' && !scope.some((machine) => this.#isHardStopDue(life, machine))) {
      const warm = scope.map((machine) => `${machine.name} ${warmth(machine, this.#parts.timeline.nowMs)}`);
      chronicle.violate(
        'false trip',
        `trip ${tripId} for a hard stop where all is below its warning: ${warm.join('; ')}`,
      );
    }
    if (cause === 'blind' && !scope.some((machine) => this.#isBlindnessDue(life, machine))) {
      const unseen = scope.map((machine) => {
        const { forMs, isAnswered } = this.#unseenForMs(life, machine);
        return `${machine.name} for ${Math.round(forMs)} ms${isAnswered ? ', though it answers' : ''}`;
      });
      chronicle.violate('false trip', `trip ${tripId} for blindness, unseen are ${unseen.join('; ')}`);
    }
  }

  #watchSubject(subject: Subject, lives: readonly Life[]): void {
    const { timeline, chronicle } = this.#parts;
    const { machine, isPower, card } = subject;
    const part = card?.part ?? machine.cpu;
    const limit = card ? LIMITS.gpuC.hardStop : LIMITS.cpuC.hardStop;
    const since = isPower
      ? part.powerW >= LIMITS.gpuW.hardStop
        ? (subject.overSinceMs ?? timeline.nowMs)
        : null
      : part.overSinceMs(limit, timeline.nowMs);
    if (since === null) {
      subject.overSinceMs = null;
      if (subject.answeredBy.size > 0) subject.answeredBy = new Set();
      return;
    }
    if (subject.overSinceMs === null) {
      subject.overSinceMs = since;
      chronicle.count(isPower ? 'true crossings of a power' : 'true crossings of a temperature');
      chronicle.tell(machine.name, `${subject.name} truly reached its hard stop`);
    }
    if (card?.isLost) return;
    for (const life of lives) this.#holdTo(life, subject);
  }

  /** The bound of one crossing for one process. */
  #holdTo(life: Life, subject: Subject): void {
    const { timeline, chronicle } = this.#parts;
    const { machine, overSinceMs, isPower, card } = subject;
    const loadedSinceMs = this.#loadedSinceMs.get(machine);
    if (!life.running || life.clock.isBlocked || overSinceMs === null || loadedSinceMs === undefined) return;
    if (isHeld(life, machine.name)) {
      subject.answeredBy.add(life.number);
      return;
    }
    const watchingMs = Math.max(life.runningSinceMs, this.#unblockedAtMs.get(life.number) ?? 0);
    const path = this.#bestPath(machine, card !== null);
    if (!path) return;
    const fromMs = Math.max(overSinceMs, loadedSinceMs, path.honestSinceMs, watchingMs);
    const isKnownLive = this.#knownLiveSinceMs(life, machine) <= fromMs;
    const second = isPower ? SECOND_LOOK_MS : 0;
    const base = path.periodMs + path.latencyMs + second + SLACK_MS + this.#parts.slackMs;
    const fastMs = base + this.#parts.fastIntervalMs + 2 * FAST_ROUND_MS;
    const firstMs = this.#tickRoundMs + FIRST_LOOKS_APART_MS;
    const tickMs = base + this.#parts.intervalMs + this.#tickRoundMs + (fromMs === watchingMs ? firstMs : 0);
    const boundMs = isKnownLive && fromMs > watchingMs ? Math.min(fastMs, tickMs) : tickMs;
    const stoodMs = timeline.nowMs - fromMs;
    if (stoodMs <= boundMs) return;
    chronicle.violate(
      'missed',
      `${machine.name}'s ${subject.name} has been at its hard stop for ${Math.round(timeline.nowMs - overSinceMs)} ms, ` +
        `${Math.round(stoodMs)} ms of them in sight of ${life.replica.name}, which has not tripped; the bound is ${Math.round(boundMs)} ms`,
    );
  }

  /** The path that has been honest for longest; `null`: none is. */
  #bestPath(
    machine: Machine,
    isCard: boolean,
  ): { readonly honestSinceMs: number; readonly periodMs: number; readonly latencyMs: number } | null {
    let best: Exporter | null = null;
    for (const exporter of machine.exporters) {
      if (isCard ? exporter.kind === 'node' : exporter.kind === 'dcgm' || exporter.kind === 'nvidia') continue;
      exporter.settle(this.#parts.timeline.nowMs);
      if (exporter.honestSinceMs === Number.POSITIVE_INFINITY) continue;
      if (!best || exporter.honestSinceMs < best.honestSinceMs) best = exporter;
    }
    if (!best) return null;
    // A look that was under way when its source came back is waited for, and the source rests as long as that took.
    const honestSinceMs = best.honestSinceMs === 0 ? 0 : best.honestSinceMs + 2 * this.#tickRoundMs;
    return { honestSinceMs, periodMs: best.periodMs, latencyMs: best.isSlow ? 1_500 : best.latencyMs };
  }

  /** Since when this process must know that something runs there, by its lease or by its pods. */
  #knownLiveSinceMs(life: Life, machine: Machine): number {
    const { workloads, serverWellSinceMs } = this.#parts;
    const own = workloads.filter((one) => one.machine === machine && one.runsSinceMs !== null);
    const sinces = own.map(({ heldBy, leaseId, hasLapsed, plan, runsSinceMs }) => {
      if (runsSinceMs === null) return Number.POSITIVE_INFINITY;
      const isHeld = leaseId !== null && heldBy.has(life.number) && !hasLapsed;
      if (isHeld && plan.kind !== 'client') return Math.max(runsSinceMs, serverWellSinceMs(life)) + this.#knownLiveMs;
      if (isHeld) return runsSinceMs;
      if (plan.kind === 'client' || plan.kind === 'group') return Number.POSITIVE_INFINITY;
      return Math.max(runsSinceMs, serverWellSinceMs(life), life.runningSinceMs) + this.#knownLiveMs;
    });
    return Math.min(Number.POSITIVE_INFINITY, ...sinces);
  }

  /** How fast this life answered what is over now. */
  #noteReactions(life: Life, nodes: readonly string[] | null): void {
    const { timeline } = this.#parts;
    for (const { machine, card, overSinceMs, answeredBy } of this.#nodes.flatMap(({ subjects }) => subjects)) {
      if (overSinceMs === null || answeredBy.size > 0 || (nodes !== null && !nodes.includes(machine.name))) continue;
      answeredBy.add(life.number);
      const path = this.#bestPath(machine, card !== null);
      const isFair = path !== null && path.honestSinceMs <= overSinceMs && life.runningSinceMs < overSinceMs;
      const isWatched = (this.#unblockedAtMs.get(life.number) ?? 0) <= overSinceMs;
      if (isFair && isWatched && this.#loadedSinceMs.has(machine)) this.reactionsMs.push(timeline.nowMs - overSinceMs);
    }
  }

  /** What speaks for a trip for a hard stop: a truth, or a lie that stood too long to be taken for one sample. */
  #isHardStopDue(life: Life, machine: Machine): boolean {
    const { nowMs } = this.#parts.timeline;
    if (machine.isWarm(nowMs) || nowMs - (this.#warmAtMs.get(machine) ?? Number.NEGATIVE_INFINITY) < LATELY_MS)
      return true;
    return machine.exporters.some((exporter) => {
      // What came right before a standstill or a sleep of the machine is judged after it.
      const isLate = ({ atMs }: Delivery): boolean =>
        Math.min(life.clock.countedSinceMs(atMs), life.clock.ableForMs(atMs)) < LATELY_MS;
      const lately = (exporter.deliveries.get(life.number) ?? []).filter(isLate);
      const over = lately.filter(({ told }) => told.temperatureShare >= 1 || told.powerShare >= 1);
      const samples = new Set(over.map(({ sampledAtMs }) => sampledAtMs));
      if (samples.size >= 2 || over.some(({ madSample }) => madSample === null)) return true;
      const [first] = over;
      if (!first) return false;
      const before = lately.findLast(({ atMs, isGood }) => isGood && atMs < first.atMs);
      if (first.told.powerShare < 1 && !isJump(first, before)) return true;
      // One mad sample stands only where no newer one was to be had within its time: 2 s or one period, 5 s at most.
      const isNewer = (delivery: Delivery): boolean =>
        delivery.isGood && delivery.sampledAtMs > first.sampledAtMs && nowMs - delivery.atMs > ROUND_MS;
      const nextSampleMs = first.sampledAtMs + exporter.periodMs;
      const lastLookMs = first.atMs + SECOND_LOOK_LEAST_MS - LAST_LOOK_MS - exporter.latencyMs;
      const wasToBeHad = exporter.fault === null && nextSampleMs <= lastLookMs;
      return !lately.some(isNewer) && !wasToBeHad && nowMs - first.atMs >= 1_900;
    });
  }

  /** For how long this process has had no good word of what must be read. */
  #unseenForMs(life: Life, machine: Machine): { readonly forMs: number; readonly isAnswered: boolean } {
    const { nowMs } = this.#parts.timeline;
    let worst = { forMs: 0, isAnswered: false };
    for (const isCard of [true, false]) {
      const carriers = carriersOf(machine, isCard);
      const goods = carriers.map((exporter) => lastGoodMs(exporter, life, nowMs));
      const goodAtMs = Math.max(life.startedAtMs, ...goods);
      const forMs = nowMs - goodAtMs;
      if (forMs < BLIND_ANSWERED_MS / 2) continue;
      const isAnswered = carriers.some((exporter) =>
        exporter.deliveries
          .get(life.number)
          ?.some(({ atMs, isGood, isAnswer }) => atMs > goodAtMs && !isGood && isAnswer),
      );
      // What a start has not read once is missing from its first look on; the boot's grace is given once.
      const isUnread = areUnread(carriers, life, nowMs);
      worst = { forMs: Math.max(forMs, worst.forMs), isAnswered: worst.isAnswered || isAnswered || isUnread };
    }
    return worst;
  }

  /** A process ends: for how long it has been without a good word of each machine counts on in its next life. */
  ended(life: Life): void {
    const { nowMs } = this.#parts.timeline;
    for (const machine of this.#parts.machines) {
      const forMs = nowMs - this.#goodAtMs(life, machine);
      const before = this.#carriedMs.get(machine)?.get(life.replica) ?? 0;
      const carried = this.#carriedMs.get(machine) ?? new Map<Replica, number>();
      this.#carriedMs.set(machine, carried.set(life.replica, isUnread(life, machine, nowMs) ? before + forMs : forMs));
    }
  }

  /** When all that must be read there was last had from there by this process, or when that started. */
  #goodAtMs(life: Life, machine: Machine): number {
    const { nowMs } = this.#parts.timeline;
    const [ofCards, ofNode] = [true, false].map((isCard) =>
      Math.max(life.startedAtMs, ...carriersOf(machine, isCard).map((one) => lastGoodMs(one, life, nowMs))),
    );
    return Math.min(ofCards ?? nowMs, ofNode ?? nowMs);
  }

  #isBlindnessDue(life: Life, machine: Machine): boolean {
    const { nowMs } = this.#parts.timeline;
    const unseen = this.#unseenForMs(life, machine);
    const carriedMs = isUnread(life, machine, nowMs) ? (this.#carriedMs.get(machine)?.get(life.replica) ?? 0) : 0;
    const ageMs = nowMs - this.#goodAtMs(life, machine);
    // What an exporter repeats is as old as its sample.
    const sampleAgeMs = Math.max(...machine.exporters.map(({ lastGoodAgeMs }) => lastGoodAgeMs.get(life.number) ?? 0));
    const unseenMs = Math.max(unseen.forMs + sampleAgeMs, this.#withoutShareForMs(life, machine));
    const forMs = carriedMs > 0 ? ageMs + carriedMs : unseenMs;
    const isAnswered = carriedMs > 0 || unseen.isAnswered;
    const strangeForMs = Math.max(...machine.exporters.map(({ longestStrangeMs }) => longestStrangeMs));
    if (strangeForMs >= STRANGERS_MS) return true;
    const hasJumped = this.#isLostByJump(life, machine, forMs);
    return forMs >= (isAnswered || hasJumped ? BLIND_ANSWERED_MS : BLIND_FAILING_MS) - RATE_MS - SLACK_MS;
  }

  /**
   * What was read before the clock jumped does not count, so that nothing is tolerated as merely not renewed. A rate
   * takes two good answers since.
   */
  #isLostByJump(life: Life, machine: Machine, forMs: number): boolean {
    const { jumpedAtMs } = life.clock;
    const sinceMs = this.#parts.timeline.nowMs - jumpedAtMs;
    if (sinceMs <= forMs) return true;
    if (sinceMs > forMs + 2 * this.#parts.intervalMs) return false;
    const isSince = ({ atMs, isGood }: Delivery): boolean => isGood && atMs > jumpedAtMs;
    const goods = carriersOf(machine, false).map((one) => one.deliveries.get(life.number)?.filter(isSince).length ?? 0);
    return Math.max(0, ...goods) < 2;
  }

  /** For how long the share of CPU time has not been known, where the last two good answers are too far apart for one. */
  #withoutShareForMs(life: Life, machine: Machine): number {
    const { nowMs } = this.#parts.timeline;
    const forMs = carriersOf(machine, false).map(({ deliveries, goodBeforeAtMs }) => {
      const goods = (deliveries.get(life.number) ?? []).filter(({ atMs, isGood }) => isGood && nowMs - atMs > ROUND_MS);
      const last = goods.at(-1)?.atMs ?? nowMs;
      const before = goods.at(-2)?.atMs ?? goodBeforeAtMs.get(life.number) ?? life.startedAtMs;
      return last - before > LONGEST_SHARE_MS ? nowMs - before : 0;
    });
    return Math.min(...forMs);
  }

  /** Nothing good from there for over 70 s, under load, and no trip. */
  #watchBlindness(machine: Machine, lives: readonly Life[]): void {
    const { timeline, chronicle } = this.#parts;
    const loadedSinceMs = this.#loadedSinceMs.get(machine);
    if (loadedSinceMs === undefined) return;
    for (const life of lives) {
      if (machine.exporters.every((exporter) => isJustGood(exporter, life, timeline.nowMs, this.#blindMs / 2)))
        continue;
      if (!life.running || life.clock.isBlocked || isHeld(life, machine.name)) continue;
      if (!machine.exporters.some(({ lastGoodAtMs }) => lastGoodAtMs.has(life.number))) continue;
      const { nowMs } = timeline;
      const knownMs = nowMs - this.#knownLiveSinceMs(life, machine);
      const awakeMs = nowMs - Math.max(life.runningSinceMs, this.#unblockedAtMs.get(life.number) ?? 0);
      const { forMs } = this.#unseenForMs(life, machine);
      const seenForMs = Math.min(forMs, knownMs + this.#blindMs - 30_000 - this.#parts.intervalMs, awakeMs);
      const isYoung = nowMs - life.startedAtMs < BOOT_GRACE_MS + this.#blindMs;
      if (isYoung || this.#parts.isForgotten(life, machine)) continue;
      if (seenForMs <= this.#blindMs + SLACK_MS + BLINDNESS_EVERY_MS) continue;
      chronicle.violate(
        'blind',
        `${life.replica.name} has had no good word of ${machine.name} for ${Math.round(forMs)} ms under load, and has not tripped`,
      );
    }
  }
}

/** Whether the mad temperature of a delivery cannot be: there is one before it from which no card gets so hot in the time. */
function isJump({ atMs, madSample }: Delivery, before: Delivery | undefined): boolean {
  const beforeC = before?.told.cardsC[madSample?.card ?? 0];
  if (!before || !madSample || beforeC === undefined || atMs - before.atMs > JUMP_MS) return false;
  return madSample.value - beforeC > JUMP_C * Math.max(1, (atMs - before.sampledAtMs) / JUMP_MS);
}

/** Whether a process holds a node by a trip. */
export function isHeld({ running }: Life, node: string): boolean {
  for (const { scope } of running?.supervisor.state.trips.values() ?? []) {
    if (scope.kind === 'all' || scope.nodes.includes(node)) return true;
  }
  return false;
}

function warmth(machine: Machine, nowMs: number): string {
  const cards = machine.cards.map(
    ({ part }) => `${part.temperatureC(nowMs).toFixed(1)} °C ${part.powerW.toFixed(0)} W`,
  );
  return `${cards.join(', ')}, CPU ${machine.cpu.temperatureC(nowMs).toFixed(1)} °C`;
}
