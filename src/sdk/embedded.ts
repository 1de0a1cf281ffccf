// The service inside this process: the same parts and the same routes, asked without a network. For a program that must
// protect itself where nobody runs a service. One process per state folder holds for it as for the service, so that all
// who embed the same configuration share one monitor; it ends with the last of them. What it costs: it lives and dies
// with this process, and an event loop that is blocked blocks the monitor, too.
import { homedir, hostname } from 'node:os';
import { pino } from 'pino';
import { type Assembled, assemble } from '../assemble.ts';
import { type Clock, TIMED_OUT, withDeadline } from '../clock.ts';
import { type Config, explainProblems, loadConfig, processEnvironment } from '../config.ts';
import type { EventName } from '../domain/events.ts';
import type { App } from '../http/parts.ts';
import { TokenSet } from '../http/token-set.ts';
import { appOf } from '../serve.ts';
import {
  answerOf,
  type SafetyService,
  SafetyServiceError,
  type ServiceAnswer,
  type ServiceRequest,
} from './safety-service.ts';

/** A configuration: a file's name, or an object like the file. */
export type EmbeddedConfig = string | Readonly<Record<string, unknown>>;

/** For the first evaluation, without which every start is refused. */
const FIRST_EVALUATION_MS = 10_000;
const CLOSE_MS = 5_000;
/** What a lease's holder should hear of at once. */
const HINTS: ReadonlySet<EventName> = new Set<EventName>([
  'tripped',
  'cooling-started',
  'cooling-ended',
  'lease-ended',
  'intensity-reduced',
  'intensity-restored',
]);

interface Shared {
  users: number;
  readonly opening: Promise<EmbeddedService>;
}
const opened = new Map<string, Shared>();
/** Those that end still hold their state folder. */
const closing = new Map<string, Promise<void>>();

/**
 * Starts the embedded monitor, or joins the one that runs by the same configuration: a file's name, or an object like
 * the file. Throws a {@link SafetyServiceError} (`embedded-refused`) for a configuration or a state folder that cannot
 * be used.
 */
export async function openEmbedded(config: EmbeddedConfig | undefined, clock: Clock): Promise<SafetyService> {
  const key = JSON.stringify(config ?? null);
  const shared = opened.get(key) ?? { users: 0, opening: openAfter(closing.get(key), config, clock) };
  opened.set(key, shared);
  shared.users++;
  let isOpen = true;
  const leave = async (): Promise<void> => {
    if (!isOpen) return;
    isOpen = false;
    shared.users--;
    if (shared.users > 0) return;
    opened.delete(key);
    const ending = shared.opening.then((service) => service.close()).finally(() => closing.delete(key));
    closing.set(key, ending);
    await ending;
  };
  try {
    const service = await shared.opening;
    return {
      place: service.place,
      hasToken: service.hasToken,
      ask: (request) => service.ask(request),
      onChange: (listener) => service.onChange(listener),
      close: leave,
    };
  } catch (error) {
    opened.delete(key);
    throw error;
  }
}

async function openAfter(
  ending: Promise<void> | undefined,
  config: EmbeddedConfig | undefined,
  clock: Clock,
): Promise<EmbeddedService> {
  await ending?.catch(() => undefined);
  return EmbeddedService.open(config, clock);
}

class EmbeddedService implements SafetyService {
  readonly place = 'the embedded monitor';
  readonly hasToken = false;
  readonly #clock: Clock;
  readonly #assembled: Assembled;
  readonly #app: App;
  readonly #listeners = new Set<() => void>();
  #broken: string | null = null;

  private constructor(assembled: Assembled, app: App, clock: Clock) {
    this.#assembled = assembled;
    this.#app = app;
    this.#clock = clock;
    assembled.supervisor.subscribe((message) => {
      if (message.type === 'event' && HINTS.has(message.data.name)) this.#tellListeners();
    });
  }

  static async open(given: EmbeddedConfig | undefined, clock: Clock): Promise<EmbeddedService> {
    const config = configOf(given);
    const log = logger(config);
    let broken: unknown = null;
    let tellBroken = (error: unknown): void => {
      broken ??= error ?? new Error('an invariant broke');
    };
    const assembled = await assemble(config, { log, clock, onBroken: (error) => tellBroken(error) });
    if (assembled.kind === 'refused') throw new SafetyServiceError('embedded-refused', assembled.message);
    const app = appOf(assembled, log, {
      tokens: new TokenSet({ operator: assembled.operatorToken, configured: config.auth.tokens }),
    });
    const service = new EmbeddedService(assembled, app, clock);
    tellBroken = (error) => service.#break(error);
    if (broken !== null) service.#break(broken);
    await service.#firstEvaluation();
    return service;
  }

  async ask({ method, path, body, timeoutMs }: ServiceRequest): Promise<ServiceAnswer> {
    if (this.#broken !== null) return brokenAnswer(this.#broken);
    const asking = this.#app.inject({ method, url: path, ...(body !== undefined && { payload: body as object }) });
    const answer = await withDeadline(this.#clock, timeoutMs, asking).catch((error: unknown) => String(error));
    if (answer === TIMED_OUT || typeof answer === 'string') {
      const why = answer === TIMED_OUT ? `no answer within ${timeoutMs / 1000} s` : answer;
      return { kind: 'unreachable', detail: `Cannot ask ${this.place}: ${why}` };
    }
    const retryAfter = answer.headers['retry-after'];
    return answerOf(answer.statusCode, retryAfter === undefined ? undefined : String(retryAfter), answer.body);
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async close(): Promise<void> {
    const closing = this.#app.close().then(() => this.#assembled.close());
    await withDeadline(this.#clock, CLOSE_MS, closing);
  }

  async #firstEvaluation(): Promise<void> {
    const { supervisor } = this.#assembled;
    if (supervisor.state.lastTickAtMs !== null) return;
    const ticked = new AbortController();
    const unsubscribe = supervisor.subscribe(({ type }) => {
      if (type === 'evaluation') ticked.abort();
    });
    await this.#clock.sleep(FIRST_EVALUATION_MS, ticked.signal);
    unsubscribe();
  }

  /** The parts have ordered their stop; every lease is over, and whoever asks is told so. */
  #break(error: unknown): void {
    this.#broken = `The monitor broke and has stopped everything: ${error instanceof Error ? error.message : String(error)}`;
    this.#tellListeners();
  }

  #tellListeners(): void {
    for (const listener of [...this.#listeners]) listener();
  }
}

function brokenAnswer(reason: string): ServiceAnswer {
  const body = { code: 'lease-ended', outcome: 'stopped', reason, detail: reason };
  return { kind: 'answered', status: 410, body, retryAfterSeconds: null };
}

function configOf(given: EmbeddedConfig | undefined): Config {
  const origin = { env: processEnvironment, hostname: hostname(), homeDir: homedir() };
  // Nothing listens; but what is asked in this process is asked on this machine.
  const flags = { host: '127.0.0.1' };
  const loaded =
    typeof given === 'object'
      ? loadConfig({ ...origin, flags, file: null, text: JSON.stringify(given) })
      : loadConfig({ ...origin, flags, ...(given !== undefined && { file: given }) });
  if (loaded.ok) return loaded.config;
  throw new SafetyServiceError('embedded-refused', explainProblems(loaded.problems, loaded.file));
}

/** On standard error: the output is the program's own. What goes well is no news there. */
function logger({ logLevel }: Config) {
  return pino(
    { level: logLevel === 'info' ? 'warn' : logLevel, formatters: { level: (label) => ({ level: label }) } },
    pino.destination({ fd: 2, sync: true }),
  );
}
