// Tells one webhook, one request at a time, so that its order is kept: each with a deadline, and again after a growing
// pause with jitter when it fails. Nothing waits for it, and nothing that goes wrong here is more than a line in the log
// and a number in the metrics.
import { type Clock, TIMED_OUT, withDeadline } from '../clock.ts';
import type { EventName, Message } from '../domain/events.ts';
import type { SafetyState } from '../domain/state.ts';
import { type Credentials, RotatedFile } from '../sources/credentials.ts';
import type { HttpAnswer, HttpPost } from '../sources/http-get.ts';
import type { Delivery, Outbox } from './outbox.ts';
import { keyOf, signatureHeaders } from './signature.ts';

const ATTEMPT_TIMEOUT_MS = 5_000;
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 30_000;
/** An answer is only looked at for its status. */
const MOST_ANSWER_BYTES = 2 ** 20;
/** Any address but link-local ones, which no range lets through. */
const ANYWHERE: readonly string[] = ['0.0.0.0/0', '::/0'];
/** This body will never be taken; everything else (401, 404, 429, 500 …) somebody may mend. */
const REFUSED_FOR_GOOD: readonly number[] = [400, 413, 415, 422];

export interface NotifySettings {
  /** Once in the configuration; a label and a word in the log. */
  readonly name: string;
  /** Whole: for Alertmanager with its path. */
  readonly url: string;
  readonly format: 'plain' | 'alertmanager';
  /** Absolute path of what notices are signed with; `null` signs nothing. */
  readonly secretFile: string | null;
  readonly events: readonly EventName[];
}

/** How telling one webhook goes. */
export interface NotifyStatus {
  readonly target: string;
  readonly host: string;
  readonly format: NotifySettings['format'];
  /** The last try succeeded, or there was none yet. */
  readonly ok: boolean;
  readonly pending: number;
  /** Since the start: requests taken, requests failed, and what was never told. */
  readonly sent: number;
  readonly failed: number;
  readonly dropped: number;
  /** Wall times, ISO 8601. */
  readonly lastSentAt: string | null;
  readonly lastError: { readonly at: string; readonly detail: string } | null;
}

export interface TargetParts {
  readonly clock: Clock;
  readonly post: HttpPost;
  readonly credentials: Credentials | null;
  readonly state: () => SafetyState;
  readonly log: { warn(message: string): void; info(message: string): void };
  readonly random: () => number;
}

type Attempt = { readonly kind: 'taken' } | { readonly kind: 'failed' | 'refused'; readonly detail: string };

export class NotifyTarget {
  readonly #settings: NotifySettings;
  readonly #parts: TargetParts;
  readonly #outbox: Outbox;
  readonly #secret: RotatedFile | null;
  readonly #running: Promise<void>;
  #nudge = new AbortController();
  #isClosed = false;
  #failuresRunning = 0;
  #sent = 0;
  #failed = 0;
  #lastSentAtMs: number | null = null;
  #lastError: { readonly atMs: number; readonly detail: string } | null = null;

  constructor(settings: NotifySettings, outbox: Outbox, parts: TargetParts) {
    this.#settings = settings;
    this.#outbox = outbox;
    this.#parts = parts;
    this.#secret = settings.secretFile === null ? null : new RotatedFile(parts.clock, settings.secretFile);
    this.#running = this.#run();
  }

  /** Called within a decision: notes what is to be told, and no more. */
  take(message: Message): void {
    const droppedBefore = this.#outbox.dropped;
    const taken = this.#outbox.take(message, this.#parts.state());
    // A trip tries at once; everything else waits out a pause after a failure.
    if (taken === 'urgent' || (taken === 'noted' && this.#failuresRunning === 0)) this.#nudge.abort();
    if (droppedBefore === 0 && this.#outbox.dropped > 0) {
      this.#parts.log.warn(`Webhook ${this.#settings.name} is not told of everything: too much waits for it`);
    }
  }

  status(): NotifyStatus {
    const { name, url, format } = this.#settings;
    const iso = (ms: number): string => new Date(ms).toISOString();
    const lastError = this.#lastError;
    return {
      target: name,
      // No more of it: the path of many a webhook is its password.
      host: new URL(url).host,
      format,
      ok: this.#failuresRunning === 0,
      pending: this.#outbox.pending,
      sent: this.#sent,
      failed: this.#failed,
      dropped: this.#outbox.dropped,
      lastSentAt: this.#lastSentAtMs === null ? null : iso(this.#lastSentAtMs),
      lastError: lastError && { at: iso(lastError.atMs), detail: lastError.detail },
    };
  }

  /** What has not been told by now is not told. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#nudge.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { clock, state } = this.#parts;
    // Never within whatever built it.
    await clock.sleep(0);
    while (!this.#isClosed) {
      this.#nudge = new AbortController();
      const delivery = this.#outbox.due(clock.now(), state());
      if (delivery) await this.#deliver(delivery);
      else await clock.sleep((this.#outbox.nextDueMs() ?? Infinity) - clock.now().elapsedMs, this.#nudge.signal);
    }
  }

  async #deliver(delivery: Delivery): Promise<void> {
    const { clock, random } = this.#parts;
    const attempt = await this.#attempt(delivery);
    if (this.#isClosed) return;
    if (attempt.kind === 'failed') {
      this.#noteFailure(attempt.detail);
      const pauseMs = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (this.#failuresRunning - 1));
      // Between half of it and all: many services that lost one receiver do not come back in step.
      await clock.sleep(pauseMs * (0.5 + random() / 2), this.#nudge.signal);
      return;
    }
    this.#outbox.settle(delivery, attempt.kind, clock.now());
    if (attempt.kind === 'refused') {
      const { detail } = attempt;
      this.#lastError = { atMs: clock.now().wallMs, detail };
      this.#parts.log.warn(`Webhook ${this.#settings.name} refuses what it is told, which is given up: ${detail}`);
      return;
    }
    this.#sent += 1;
    this.#lastSentAtMs = clock.now().wallMs;
    if (this.#failuresRunning > 0) {
      this.#parts.log.info(`Webhook ${this.#settings.name} takes what it is told again`);
    }
    this.#failuresRunning = 0;
  }

  #noteFailure(detail: string): void {
    this.#failed += 1;
    this.#failuresRunning += 1;
    this.#lastError = { atMs: this.#parts.clock.now().wallMs, detail };
    if (this.#failuresRunning === 1) {
      this.#parts.log.warn(`Cannot tell webhook ${this.#settings.name}, tried again until it works: ${detail}`);
    }
  }

  async #attempt({ id, body }: Delivery): Promise<Attempt> {
    const { clock, post, credentials } = this.#parts;
    const deadlineMs = clock.now().elapsedMs + ATTEMPT_TIMEOUT_MS;
    let key: Buffer | null = null;
    if (this.#secret) {
      const secret = await withDeadline(clock, ATTEMPT_TIMEOUT_MS, this.#secret.read());
      if (secret === TIMED_OUT)
        return { kind: 'failed', detail: `${this.#settings.secretFile} could not be read in time` };
      if (!secret.ok) return { kind: 'failed', detail: secret.detail };
      key = keyOf(secret.bytes);
      if (key === null) {
        return { kind: 'failed', detail: `${this.#settings.secretFile} holds no secret: it needs 16 bytes or more` };
      }
    }
    const answer = await post(this.#settings.url, {
      deadlineMs,
      headers: {
        'content-type': 'application/json',
        'user-agent': 'vsf-safety',
        ...(this.#settings.format === 'plain' && signatureHeaders(key, { id, body }, clock.now().wallMs)),
      },
      body,
      maxBytes: MOST_ANSWER_BYTES,
      credentials,
      allowedRanges: ANYWHERE,
    });
    return outcomeOf(answer);
  }
}

function outcomeOf(answer: HttpAnswer): Attempt {
  if (answer.kind === 'failed') {
    // Where it leads may be the webhook's own path again, which nobody is to read in a log.
    return { kind: 'failed', detail: answer.detail.replace(/redirect to .*/, 'a redirect, which is not followed') };
  }
  const { status, statusText } = answer;
  if (status >= 200 && status < 300) return { kind: 'taken' };
  const detail = `it answered ${status}${statusText === '' ? '' : ` ${statusText}`}`;
  return { kind: REFUSED_FOR_GOOD.includes(status) ? 'refused' : 'failed', detail };
}
