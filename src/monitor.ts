// Looks at the hardware: every `interval` at everything, every `fastInterval` at what is hot or loaded, and at once when
// somebody asks for a start. One look per source at a time; a source that does not answer by the deadline is reported as
// failed, so that each tick ends in exactly one result whatever happens (I4).
import { type Clock, TIMED_OUT, withDeadline } from './clock.ts';
import { fastNodes, hasClockJumped } from './domain/decide.ts';
import { EMPTY_REPORT, type SourceReport } from './domain/reading.ts';
import type { SafetyState } from './domain/state.ts';
import type { Source } from './sources/source.ts';
import type { Supervisor } from './supervisor.ts';

/**
 * A round that waits for a hung source must still end before 1.5 intervals have passed since the last result, when a
 * tick counts as late; with intervals of a second a source needs most of it.
 */
const ROUND_SHARE_OF_INTERVAL = 0.45;
const SHORT_ROUND_SHARE = 0.9;
const SHORT_ROUND_MS = 1_000;
/** The first evaluation takes the two samples that a rate needs, 1 s apart; the first look of a rate takes its second. */
const FIRST_ROUND_AT_LEAST_MS = 2_000;
const FIRST_LOOKS_APART_MS = 1_000;
/** A source that fails early in a tick is tried once more after this pause, if there is time. */
const RETRY_PAUSE_MS = 100;
/** A tick that outlasted its interval, or whose readings a jump of the clock made old, is followed by the next one after this. */
const AFTER_STANDSTILL_MS = 1_000;
/** A preflight is answered within 5 s; its readings must be there a little earlier. */
export const QUESTION_DEADLINE_MS = 4_000;
/**
 * Who asks the same so soon after another is answered by the same look: two hundred questions over a thousand nodes would
 * otherwise be two hundred times two thousand waits. Where looks take long, half of what one takes: then no more than two
 * or three are under way, and a flood of questions leaves ticks their time.
 */
const QUESTION_JOINS_MS = 250;
const QUESTION_JOINS_AT_MOST_MS = 2_000;
/** Looks at so many sources for questions leave the process as much time in between as they take, or this much. */
const RESTED_FROM_SOURCES = 20;
const QUESTION_REST_AT_MOST_MS = 800;
const FAST_DEADLINE_MS = 1_800;
/** The last look for a newer sample begins this long before its deadline; an exporter answers within some 100 ms. */
const LAST_LOOK_MS = 300;
/** Nodes that have answered are judged after so long, however long others take: whose readings we hold is not unseen. */
const JUDGED_WITHIN_MS = 500;
/** What a second look was told is judged so long before its deadline, whoever is silent still. */
const JUDGED_BEFORE_MS = 100;
/** No source is kept busy by fast sampling for more than half of the time. */
const MOST_BUSY_RATIO = 0.5;

export interface MonitorParts {
  readonly clock: Clock;
  /** Which sources there are now; asked at each round, since found ones come and go. */
  readonly sources: () => readonly Source[];
  readonly supervisor: () => Supervisor;
  readonly intervalMs: number;
  readonly fastIntervalMs: number;
  /** Called at the start of each tick: refreshes what the actuators see. Must end by itself. */
  readonly inventory: () => Promise<void>;
}

/** So many sources are asked at once; the next ones when these have had about the time that they take of the process. */
const SLICE = 25;
const SLICE_PAUSE_MS = 25;
/** The rest of a round is for answers, and for a second try. */
const MOST_SPREAD_RATIO = 0.4;

interface Question {
  /** Until when others may join it, monotonic. */
  joinedUntilMs: number;
  reports: Promise<SourceReport[]>;
}

export class Monitor {
  readonly #parts: MonitorParts;
  readonly #lastTookMs = new WeakMap<Source, { readonly endedAtMs: number; readonly tookMs: number }>();
  /** Looks for questions that are under way, by the nodes that were asked about. */
  readonly #questions = new Map<string, Question>();
  #questionJoinsMs = QUESTION_JOINS_MS;
  /** When the next look at a fleet for a question may begin. */
  #questionsRestedAtMs = 0;
  /** Ticks and fast looks that wait for sources now. */
  #reading = 0;
  #fast: { readonly state: SafetyState; readonly nodes: ReadonlySet<string> } | null = null;
  #stopped = new AbortController();
  #loops: Promise<void>[] = [];
  /** How long the last tick took from its start to its result, ms. */
  lastTickTookMs: number | null = null;

  constructor(parts: MonitorParts) {
    this.#parts = parts;
  }

  /** Starts both loops; the first tick begins at once. */
  start(): void {
    this.#loops = [this.#tickLoop(), this.#fastLoop()];
  }

  /**
   * How often hot nodes are really sampled: as configured, unless a source of one of them would be busy for more than
   * half of it. While none is sampled, what would hold if all were.
   */
  get effectiveFastIntervalMs(): number {
    const { sources } = this.#parts;
    const nodes = this.#fastNodes();
    const heat = sources().filter(({ carriesHeat, node }) => carriesHeat && (nodes.size === 0 || nodes.has(node)));
    const slowestMs = Math.max(0, ...heat.map((source) => this.#lastTookMs.get(source)?.tookMs ?? 0));
    return Math.max(this.#parts.fastIntervalMs, Math.round(slowestMs / MOST_BUSY_RATIO));
  }

  /** Whether sources are being read now for a tick or for what is hot: with a deadline, and for what runs. */
  get isReading(): boolean {
    return this.#reading > 0;
  }

  /** Worked out once for each state: over a thousand nodes it takes tens of ms, and every question asks. */
  #fastNodes(): ReadonlySet<string> {
    const { state } = this.#parts.supervisor();
    if (this.#fast?.state !== state) this.#fast = { state, nodes: new Set(fastNodes(state)) };
    return this.#fast.nodes;
  }

  async stop(): Promise<void> {
    this.#stopped.abort();
    await Promise.allSettled(this.#loops);
  }

  /** Reads the named nodes (`null`: all) for a question; joins looks that are under way, or have just begun. Ends within 4 s. */
  observeNow(nodes: readonly string[] | null): Promise<readonly SourceReport[]> {
    const key = JSON.stringify(nodes);
    const joined = this.#questions.get(key);
    if (joined && joined.joinedUntilMs >= this.#parts.clock.now().elapsedMs) return joined.reports;
    const named = nodes && new Set(nodes);
    const asked = this.#parts.sources().filter((source) => !named || named.has(source.node));
    const question: Question = { joinedUntilMs: Infinity, reports: Promise.resolve([]) };
    question.reports = this.#lookFor(question, asked);
    this.#questions.set(key, question);
    const forget = (): void => {
      if (this.#questions.get(key) === question) this.#questions.delete(key);
    };
    void question.reports.then(forget, forget);
    return question.reports;
  }

  /** A flood of questions about a fleet must not leave the process without a breath: a stop is let in there. */
  async #lookFor(question: Question, sources: readonly Source[]): Promise<SourceReport[]> {
    const { clock } = this.#parts;
    const askedMs = clock.now().elapsedMs;
    const isFleet = sources.length >= RESTED_FROM_SOURCES;
    if (isFleet && this.#questionsRestedAtMs > askedMs) {
      await clock.sleep(this.#questionsRestedAtMs - askedMs, this.#stopped.signal);
    }
    const startedMs = clock.now().elapsedMs;
    question.joinedUntilMs = startedMs + this.#questionJoinsMs;
    const reports = await this.#look(sources, QUESTION_DEADLINE_MS - (startedMs - askedMs));
    if (isFleet) {
      const endedMs = clock.now().elapsedMs;
      const tookMs = endedMs - startedMs;
      this.#questionJoinsMs = Math.min(QUESTION_JOINS_AT_MOST_MS, Math.max(QUESTION_JOINS_MS, tookMs / 2));
      this.#questionsRestedAtMs = endedMs + Math.min(QUESTION_REST_AT_MOST_MS, tookMs);
    }
    return reports;
  }

  /**
   * Second looks at nodes with an unconfirmed hard stop: half-way to the deadline, and just before it, since a source that
   * renews its samples slowly may have no newer one half-way.
   */
  lookAgain(nodes: readonly string[], deadlineMs: number): void {
    const { clock } = this.#parts;
    const leftMs = deadlineMs - clock.now().elapsedMs;
    // Near its deadline both are the same look.
    for (const waitMs of new Set([leftMs / 2, Math.max(leftMs / 2, leftMs - LAST_LOOK_MS)])) {
      clock.after(waitMs, () => {
        if (this.#stopped.signal.aborted) return;
        const hot = this.#parts.sources().filter((source) => source.carriesHeat && nodes.includes(source.node));
        void this.#lookBefore(hot, leftMs - waitMs);
      });
    }
  }

  /** Of a node whose other sources are silent, too, what was told is judged before the deadline, and not with it. */
  async #lookBefore(sources: readonly Source[], budgetMs: number): Promise<void> {
    this.#noticeJump();
    const told: SourceReport[] = [];
    const all = Promise.all(
      sources.map(async (source) => {
        told.push(await this.#lookAt(source, budgetMs));
      }),
    );
    await withDeadline(this.#parts.clock, budgetMs - JUDGED_BEFORE_MS, all);
    if (told.length > 0) this.#submit('fast', told.splice(0));
    await all;
    if (told.length > 0) this.#submit('fast', told);
  }

  async #tickLoop(): Promise<void> {
    const { clock, intervalMs, inventory, supervisor, sources } = this.#parts;
    const roundMs = Math.max(
      intervalMs * ROUND_SHARE_OF_INTERVAL,
      Math.min(intervalMs * SHORT_ROUND_SHARE, SHORT_ROUND_MS),
    );
    let budgetMs = Math.max(roundMs, FIRST_ROUND_AT_LEAST_MS);
    // The first evaluation is published after a second look: rates, and counters that must be seen to move, need two.
    const firstLookMs = clock.now().elapsedMs;
    this.#submit('fast', await this.#counted(this.#look(sources(), budgetMs)));
    await clock.sleep(FIRST_LOOKS_APART_MS - (clock.now().elapsedMs - firstLookMs), this.#stopped.signal);
    let dueMs = clock.now().elapsedMs;
    while (!this.#stopped.signal.aborted) {
      const startedMs = clock.now().elapsedMs;
      supervisor().submitSoon({ kind: 'clock-looked' });
      const [reports] = await Promise.all([
        this.#counted(this.#round(sources(), budgetMs)),
        inventory().catch(() => undefined),
      ]);
      if (this.#stopped.signal.aborted) return;
      this.#submit('tick', reports);
      this.lastTickTookMs = clock.now().elapsedMs - startedMs;
      budgetMs = roundMs;
      dueMs += intervalMs;
      // After a standstill, or a jump of the clock in this round, the rhythm starts anew: missed ticks are not made up for,
      // but what was read before it is old.
      const nowMs = clock.now().elapsedMs;
      if (dueMs <= nowMs || supervisor().state.staleBeforeMs > startedMs)
        dueMs = nowMs + Math.min(intervalMs, AFTER_STANDSTILL_MS);
      await clock.sleep(dueMs - nowMs, this.#stopped.signal);
    }
  }

  async #fastLoop(): Promise<void> {
    const { clock, fastIntervalMs, sources } = this.#parts;
    while (!this.#stopped.signal.aborted) {
      await clock.sleep(fastIntervalMs, this.#stopped.signal);
      if (this.#stopped.signal.aborted) return;
      const nodes = this.#fastNodes();
      const due = sources().filter((source) => source.carriesHeat && nodes.has(source.node) && this.#isRested(source));
      if (due.length === 0) continue;
      this.#noticeJump();
      const looks = due.map((source) => this.#lookAt(source, FAST_DEADLINE_MS));
      this.#submit('fast', await this.#counted(this.#inTime(due, looks)));
    }
  }

  /** What the looks gave; of nodes that had to wait for others it has gone through the door before, and is left out. */
  async #inTime(sources: readonly Source[], looks: readonly Promise<SourceReport>[]): Promise<SourceReport[]> {
    const underWay = new Map<string, number>();
    for (const { node } of sources) underWay.set(node, (underWay.get(node) ?? 0) + 1);
    let told: SourceReport[] = [];
    for (const look of looks) {
      void look.then((report) => {
        told.push(report);
        underWay.set(report.node, (underWay.get(report.node) ?? 1) - 1);
      });
    }
    const all = Promise.all(looks);
    while ((await withDeadline(this.#parts.clock, JUDGED_WITHIN_MS, all)) === TIMED_OUT) {
      // A node's sources are judged together: one tells the power that belongs to another's temperature.
      const isWhole = ({ node }: SourceReport): boolean => underWay.get(node) === 0;
      const whole = told.filter(isWhole);
      told = told.filter((report) => !isWhole(report));
      if (whole.length > 0) this.#submit('fast', whole);
    }
    return told;
  }

  async #counted<T>(look: Promise<T>): Promise<T> {
    this.#reading += 1;
    try {
      return await look;
    } finally {
      this.#reading -= 1;
    }
  }

  #isRested(source: Source): boolean {
    const last = this.#lastTookMs.get(source);
    if (!last) return true;
    const restedMs = this.#parts.clock.now().elapsedMs - last.endedAtMs;
    return restedMs >= last.tookMs * (1 / MOST_BUSY_RATIO - 1);
  }

  async #look(sources: readonly Source[], budgetMs: number): Promise<SourceReport[]> {
    this.#noticeJump();
    return Promise.all(sources.map((source) => this.#lookAt(source, budgetMs)));
  }

  /** A jump of the clock is noticed before a look begins: what is read after it would else be taken for older than it. */
  #noticeJump(): void {
    const { clock, supervisor } = this.#parts;
    const { state } = supervisor();
    if (hasClockJumped(state, clock.now())) supervisor().submitSoon({ kind: 'clock-looked' });
  }

  /** Every source once, or twice where the first look fails early. A large fleet is asked in slices, one after another. */
  async #round(sources: readonly Source[], budgetMs: number): Promise<SourceReport[]> {
    const { clock } = this.#parts;
    const endMs = clock.now().elapsedMs + budgetMs;
    const slices = Math.ceil(sources.length / SLICE);
    const pauseMs = Math.min(SLICE_PAUSE_MS, (budgetMs * MOST_SPREAD_RATIO) / slices);
    const looks: Promise<SourceReport>[] = [];
    for (const [index, source] of sources.entries()) {
      if (index > 0 && index % SLICE === 0) await clock.sleep(pauseMs, this.#stopped.signal);
      looks.push(this.#lookTwice(source, endMs - clock.now().elapsedMs));
    }
    return this.#inTime(sources, looks);
  }

  /** A failure that comes early is not yet the source's last word in this tick. */
  async #lookTwice(source: Source, budgetMs: number): Promise<SourceReport> {
    const { clock } = this.#parts;
    const endMs = clock.now().elapsedMs + budgetMs;
    const first = await this.#lookAt(source, budgetMs);
    const leftMs = endMs - clock.now().elapsedMs - RETRY_PAUSE_MS;
    if (first.outcome.kind === 'answered' || leftMs < budgetMs / 4 || this.#stopped.signal.aborted) return first;
    await clock.sleep(RETRY_PAUSE_MS, this.#stopped.signal);
    return this.#lookAt(source, leftMs);
  }

  async #lookAt(source: Source, budgetMs: number): Promise<SourceReport> {
    const { clock } = this.#parts;
    const startedAtMs = clock.now().elapsedMs;
    // Sources end by themselves at the deadline; this guards against one that does not.
    const report = await withDeadline(clock, budgetMs + 100, source.read(startedAtMs + budgetMs)).catch(
      (error: unknown) => (error instanceof Error ? error : new Error(String(error))),
    );
    const finishedAtMs = clock.now().elapsedMs;
    // What is beyond its time is not the source's doing: this process stood still, and must not rest for that as well.
    const tookMs = Math.min(finishedAtMs - startedAtMs, budgetMs);
    this.#lastTookMs.set(source, { endedAtMs: finishedAtMs, tookMs });
    if (report !== TIMED_OUT && !(report instanceof Error)) return report;
    const detail = report === TIMED_OUT ? `no answer within ${budgetMs} ms` : `it broke off: ${report.message}`;
    return {
      ...EMPTY_REPORT,
      source: source.id,
      node: source.node,
      startedAtMs,
      finishedAtMs,
      outcome: { kind: 'failed', cause: report === TIMED_OUT ? 'timeout' : 'failed', detail },
    };
  }

  #submit(why: 'tick' | 'fast', reports: readonly SourceReport[]): void {
    if (this.#stopped.signal.aborted) return;
    this.#parts.supervisor().submitSoon({ kind: 'observed', why, reports });
  }
}
