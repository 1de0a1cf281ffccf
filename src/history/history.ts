// The history as everybody else sees it: it listens to what is published, hands it to a thread that waits for the disk,
// and passes questions on. Whatever the disk does, nothing here is waited for: what cannot be written in time is
// dropped, counted and told of. The safety path knows nothing of it.
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { Worker } from 'node:worker_threads';
import { type Clock, TIMED_OUT, withDeadline } from '../clock.ts';
import type { Message, SafetyEvent } from '../domain/events.ts';
import { severityOf } from '../domain/result.ts';
import type { SafetyState } from '../domain/state.ts';
import { FigureTaker, openSpansOf } from './figure-taker.ts';
import type { Batch, Figures, HistoryQuery, KeptEvent, Reply, Request, StoreBounds } from './records.ts';

/** Evaluations that wait for the disk: five minutes of ticks, and of 1,000 nodes with eight GPUs 4 MB. */
const MOST_FIGURES = 30;
const MOST_EVENTS = 2_000;
/** A batch that is not on the disk by then is told of; it may still get there. */
const WRITE_DEADLINE_MS = 10_000;
const QUERY_DEADLINE_MS = 8_000;
const MOST_QUERIES = 4;
const CLOSE_DEADLINE_MS = 2_000;
/** A thread that ended is started again after this. */
const RESTART_MS = 60_000;
/** What the thread may take of memory, for its own objects; a question over a month of 1,000 nodes needs some 100 MB. */
const MOST_HEAP_MIB = 512;
/**
 * SQLite, as WebAssembly, is compiled a second time by V8's optimizing compiler, which takes half a second of CPU at the start and
 * keeps 35 to 50 MiB for good; neither ticks nor questions of 20 nodes are faster by it (bench/history.mjs). So a function must have
 * run for some 500 times as long as usual before it is. V8 has this for all of a process. (`--liftoff-only` would leave that compiler
 * out, but ends the process where the plain one meets what a CPU cannot do, as those that virtual machines pretend.)
 */
const PATIENT_COMPILER = '--wasm-tiering-budget=1000000000';

export interface HistoryHealth {
  readonly state: 'off' | 'ok' | 'failing';
  readonly detail: string;
  readonly sizeBytes: number;
  readonly maxBytes: number;
  readonly keepMs: number;
  /** Wall clock, ms; `null`: nothing is kept yet. */
  readonly keptFromMs: number | null;
  /** Evaluations and events that were not written, since the start. */
  readonly lost: number;
}

export type HistoryOutcome =
  /** JSON, as the service answers it. */
  | { readonly kind: 'answered'; readonly text: string }
  | { readonly kind: 'unknown-node' }
  | { readonly kind: 'unavailable'; readonly detail: string };

export interface HistoryParts {
  readonly clock: Clock;
  /** Of the state; its lock says that nobody else writes here. */
  readonly folder: string;
  readonly bounds: StoreBounds;
  readonly supervisor: {
    readonly state: SafetyState;
    subscribe(listener: (message: Message) => void): () => void;
    submitSoon(event: SafetyEvent): void;
  };
}

/** Where the figures of this kind of source are kept; what was simulated is never mixed with what was measured. */
export const historyFile = (folder: string, simulated: boolean): string =>
  join(folder, simulated ? 'history-simulated.sqlite' : 'history.sqlite');

export class History {
  readonly #parts: HistoryParts;
  readonly #taker: FigureTaker;
  readonly #waiting = new Map<number, (reply: Reply | null) => void>();
  readonly #path: string;
  #worker: Worker | null = null;
  #figures: Figures[] = [];
  #events: KeptEvent[] = [];
  #unsubscribe: () => void = () => undefined;
  #cancelRestart: () => void = () => undefined;
  #lastId = 0;
  #queries = 0;
  #isTaking = false;
  #isWriting = false;
  #isPumpDue = false;
  #isClosed = false;
  #hasToldFull = false;
  #health: HistoryHealth;

  constructor(parts: HistoryParts) {
    this.#parts = parts;
    this.#taker = new FigureTaker(parts.clock);
    this.#path = historyFile(parts.folder, parts.bounds.simulated);
    const { maxBytes, keepMs } = parts.bounds;
    this.#health = { state: 'ok', detail: '', sizeBytes: 0, maxBytes, keepMs, keptFromMs: null, lost: 0 };
  }

  /** Begins to keep what is published. */
  start(): void {
    this.#startWorker();
    this.#unsubscribe = this.#parts.supervisor.subscribe((message) => this.#take(message));
  }

  health(): HistoryHealth {
    return this.#health;
  }

  /** Asks the store; answered within 8 s, whatever the disk does. */
  async ask(query: HistoryQuery): Promise<HistoryOutcome> {
    if (this.#queries >= MOST_QUERIES) {
      return { kind: 'unavailable', detail: `${MOST_QUERIES} questions are being answered already` };
    }
    this.#queries += 1;
    // Counted until the thread has answered: a question that nobody waits for any more still keeps it busy.
    const asked = this.#request((id) => ({ kind: 'query', id, query })).finally(() => {
      this.#queries -= 1;
    });
    const reply = await withDeadline(this.#parts.clock, QUERY_DEADLINE_MS, asked);
    if (reply === TIMED_OUT) return { kind: 'unavailable', detail: `no answer within ${QUERY_DEADLINE_MS / 1000} s` };
    if (reply?.kind === 'answered') return { kind: 'answered', text: reply.text };
    if (reply?.kind === 'unknown-node') return { kind: 'unknown-node' };
    const why = reply?.kind === 'failed' ? reply.detail : 'the thread that reads it has ended';
    return { kind: 'unavailable', detail: `${why} (${this.#path})` };
  }

  /** Resolves when everything that was published so far is written, or lost. For tests and for the end. */
  async settled(): Promise<void> {
    while (this.#worker && (this.#isTaking || this.#isWriting || this.#isPumpDue)) await this.#parts.clock.sleep(1);
  }

  /** Writes what is left, and ends; 2 s at most. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#unsubscribe();
    this.#cancelRestart();
    const worker = this.#worker;
    if (!worker) return;
    const ending = this.settled().then(() => this.#request((id) => ({ kind: 'close', id })));
    await withDeadline(this.#parts.clock, CLOSE_DEADLINE_MS, ending);
    // One that hangs in the kernel cannot be ended, and is not waited for.
    this.#worker = null;
    void worker.terminate();
  }

  /** Called within a decision: takes note, and nothing else. */
  #take(message: Message): void {
    if (message.type === 'event') {
      const { report: _, ...data } = message.data;
      this.#events.push({ at: message.at, ...data });
      if (this.#events.length > MOST_EVENTS) {
        this.#events.shift();
        this.#lose(1);
      }
      this.#pumpSoon();
      return;
    }
    // The one before is still being taken out of its state: thousands of nodes, or an interval of a second.
    if (this.#isTaking) {
      this.#lose(1);
      return;
    }
    this.#isTaking = true;
    const { action, worstMargins } = message.data;
    const moment = { wallMs: Date.parse(message.at), severity: severityOf(action), margins: worstMargins };
    const { state } = this.#parts.supervisor;
    void this.#parts.clock
      .sleep(0)
      .then(() => this.#taker.take(state, moment))
      .then((figures) => {
        this.#figures.push(figures);
        if (this.#figures.length > MOST_FIGURES) {
          this.#figures.shift();
          this.#lose(1);
        }
      })
      .catch((error: unknown) => this.#fail(`figures could not be taken: ${String(error)}`, 1))
      .finally(() => {
        this.#isTaking = false;
        this.#pumpSoon();
      });
  }

  #pumpSoon(): void {
    if (this.#isPumpDue) return;
    this.#isPumpDue = true;
    queueMicrotask(() => {
      this.#isPumpDue = false;
      void this.#pump();
    });
  }

  /** Hands over what has come together, one batch at a time. */
  async #pump(): Promise<void> {
    if (this.#isWriting || !this.#worker || this.#figures.length + this.#events.length === 0) return;
    this.#isWriting = true;
    const { clock, supervisor } = this.#parts;
    const batch: Batch = {
      atMs: clock.now().wallMs,
      ...this.#taker.changes(),
      figures: this.#figures,
      events: this.#events,
      open: openSpansOf(supervisor.state),
    };
    const count = batch.figures.length + batch.events.length;
    this.#figures = [];
    this.#events = [];
    const cancel = clock.after(WRITE_DEADLINE_MS, () => {
      this.#fail(`nothing was written within ${WRITE_DEADLINE_MS / 1000} s`, 0);
    });
    const moved = batch.figures.flatMap(({ layouts, severities, margins, values }) => [
      layouts.buffer,
      severities.buffer,
      margins.buffer,
      values.buffer,
    ]);
    const reply = await this.#request((id) => ({ kind: 'write', id, batch }), moved as ArrayBuffer[]);
    cancel();
    this.#isWriting = false;
    if (reply?.kind === 'written') this.#succeed(reply.store);
    else this.#fail(reply?.kind === 'failed' ? reply.detail : 'the thread that writes it has ended', count);
    if (this.#figures.length + this.#events.length > 0) this.#pumpSoon();
  }

  #succeed({ sizeBytes, keptFromMs, droppedBeforeMs }: Extract<Reply, { kind: 'written' }>['store']): void {
    const { maxBytes, keepMs } = this.#parts.bounds;
    const wasFailing = this.#health.state === 'failing';
    const isShort = droppedBeforeMs !== null || this.#hasToldFull;
    const detail = isShort ? `full: ${maxBytes} bytes hold less than what history.keep wants` : '';
    this.#health = { ...this.#health, state: 'ok', detail, sizeBytes, keptFromMs };
    if (wasFailing) this.#report('back', `The history is written again; ${this.#health.lost} entries were lost so far`);
    if (droppedBeforeMs === null || this.#hasToldFull) return;
    this.#hasToldFull = true;
    const why = `The history is full: ${maxBytes} bytes do not hold ${keepMs / 3_600_000} h, so the oldest goes first`;
    this.#report('full', `${why}. history.maxBytes gives it more`);
  }

  #fail(detail: string, lost: number): void {
    const wasFailing = this.#health.state === 'failing';
    this.#health = { ...this.#health, state: 'failing', detail, lost: this.#health.lost + lost };
    if (!wasFailing) this.#report('failed', `The history cannot be written to ${this.#path}: ${detail}`);
  }

  #lose(count: number): void {
    this.#health = { ...this.#health, lost: this.#health.lost + count };
  }

  #report(what: 'back' | 'failed' | 'full' | 'begun-anew', detail: string): void {
    if (!this.#isClosed) this.#parts.supervisor.submitSoon({ kind: 'history-reported', what, detail });
  }

  #startWorker(): void {
    setFlagsFromString(PATIENT_COMPILER);
    const worker = new Worker(new URL('./worker.js', import.meta.url), {
      workerData: { path: this.#path, bounds: this.#parts.bounds },
      resourceLimits: { maxOldGenerationSizeMb: MOST_HEAP_MIB },
      stdout: false,
    });
    worker.unref();
    this.#worker = worker;
    worker.on('message', (reply: Reply) => {
      if ('begunAnew' in reply && reply.begunAnew !== null) {
        this.#report('begun-anew', `The history was damaged and begins anew; the old one is ${reply.begunAnew}`);
      }
      this.#waiting.get(reply.id)?.(reply);
      this.#waiting.delete(reply.id);
    });
    worker.on('error', (error) => this.#fail(error.message, 0));
    worker.on('exit', () => this.#onExit());
  }

  #onExit(): void {
    this.#worker = null;
    for (const settle of this.#waiting.values()) settle(null);
    this.#waiting.clear();
    if (this.#isClosed) return;
    this.#cancelRestart = this.#parts.clock.after(RESTART_MS, () => {
      // The new thread knows no layouts, so what was taken by the old ones is of no use to it.
      this.#lose(this.#figures.length);
      this.#figures = [];
      this.#taker.reset();
      this.#startWorker();
      this.#pumpSoon();
    });
  }

  #request(make: (id: number) => Request, moved: readonly ArrayBuffer[] = []): Promise<Reply | null> {
    const worker = this.#worker;
    if (!worker) return Promise.resolve(null);
    const request = make(++this.#lastId);
    return new Promise((resolve) => {
      this.#waiting.set(request.id, resolve);
      worker.postMessage(request, moved);
    });
  }
}
