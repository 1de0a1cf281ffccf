// The monitor: ask, hold a lease, be told, stop everything. One interface over a service somewhere and over one inside
// this process. It keeps no verdict of its own: what is asked of it is answered by the lease's holder.
import { basename } from 'node:path';
import { systemClock } from '../clock.ts';
import { processEnvironment } from '../config-environment.ts';
import type { StopReport } from '../domain/interlock.ts';
import { Callbacks, type SafetyCallback, warn } from './callbacks.ts';
import type { EmbeddedConfig } from './embedded.ts';
import { type HardwareMetrics, readMetrics } from './hardware-metrics.ts';
import { HttpService, type ServiceOptions } from './http-service.ts';
import { LeaseHolder, type LeaseView } from './lease-holder.ts';
import {
  askLease,
  askPreflight,
  type Grant,
  type LeaseAsk,
  REQUEST_TIMEOUT_MS,
  type Refusal,
  releaseLease,
  waitForLease,
} from './lease-requests.ts';
import { errorOf, notTheService, type SafetyService } from './safety-service.ts';
import { isObject, localVerdict, UnsafeError, type Verdict } from './verdict.ts';

/** What is to run, and by which limits. */
export interface WorkloadOptions extends Omit<LeaseAsk, 'workload' | 'processGroup' | 'id'> {
  /** A name for people, 1 to 200 printable characters; default: the program's. */
  readonly workload?: string | undefined;
}

/** The monitor inside this process: needs no running service, and its own state folder. */
export interface EmbeddedOptions {
  readonly embedded: true;
  /** The configuration: a file's name, or an object like the file; default `VSF_SAFETY_CONFIG`, else defaults. */
  readonly config?: EmbeddedConfig | undefined;
}

/** What is to run, and who watches it: a service, or one that is embedded here. */
export type MonitorOptions = WorkloadOptions & (ServiceOptions | EmbeddedOptions);

/** What `emergencyStop` asks for. */
export interface StopOptions {
  /** For the record. */
  readonly reason?: string;
  /** Left out: everything. */
  readonly nodes?: readonly string[];
}

/** An emergency stop, latched; the report tells how far it has come. */
export interface StopAnswer {
  readonly tripId: string;
  /** Another stop was under way already. */
  readonly joined: boolean;
  readonly report: StopReport;
}

const STOP_ATTEMPTS = 3;
const STOP_RETRY_MS = 1_000;
const GIVEN_BACK = localVerdict('ABORT', 'given-back', 'The lease was given back before it was granted');

/**
 * Asks whether a workload may start, and watches over it while it runs.
 *
 * A lease is renewed from this process' event loop: code that blocks it for longer than the lease's TTL (30 s unless
 * `ttlSeconds` says otherwise) loses the lease, and is over. Heavy computing belongs into a worker or a child process.
 * While a lease is held, the process does not end by itself.
 *
 * @example
 * import { BIZON1_CONSTRAINTS, HardwareSafetyMonitor } from 'vsf-safety';
 *
 * const monitor = new HardwareSafetyMonitor({ constraints: BIZON1_CONSTRAINTS, intensity: 0.6 });
 * const result = await monitor.preFlightCheck();
 * console.log(result.safe, result.action, result.reason);
 *
 * await monitor.startRuntimeMonitoring(); // throws UnsafeError where it is refused
 * monitor.onWarning((warning) => console.log('slow down:', warning.action, monitor.intensityCap));
 * monitor.onCritical((end) => console.log('stop:', end.reason));
 * const { nodes } = await monitor.collectMetrics();
 * for (const { component, quantity, value, unit } of nodes[0]?.readings ?? []) {
 *   if (quantity === 'temperature') console.log(component, value, unit);
 * }
 * await monitor.stopRuntimeMonitoring();
 */
export class HardwareSafetyMonitor {
  readonly #options: MonitorOptions;
  readonly #open: () => Promise<SafetyService>;
  readonly #ask: LeaseAsk;
  readonly #warning = new Callbacks('onWarning');
  readonly #critical = new Callbacks('onCritical');
  #service: Promise<SafetyService> | null = null;
  #holder: LeaseHolder | null = null;
  #run = endedRun(localVerdict('WAIT_COOLDOWN', 'not-started', 'No lease has been asked for yet'));
  /** What the callbacks were told last. */
  #told: LeaseView | null = null;
  #starting: Promise<Verdict | null> | null = null;
  /** Ends the waiting for leave to start. */
  #stopped = new AbortController();
  #waiting: (() => void)[] = [];

  /** Throws a `TypeError` for an address or a token that cannot be one. Nothing is asked yet. */
  constructor(options: MonitorOptions = {}) {
    const { workload = programName(), intensity, nodes, gpus, constraints, ttlSeconds, maxDurationSeconds } = options;
    this.#ask = { workload, intensity, nodes, gpus, constraints, ttlSeconds, maxDurationSeconds };
    this.#options = options;
    if (options.embedded === true) {
      const { config } = options;
      // Only who embeds the service loads it.
      this.#open = async () => (await import('./embedded.ts')).openEmbedded(config, systemClock);
    } else {
      const service = new HttpService(options, processEnvironment, systemClock);
      this.#open = async () => service;
    }
  }

  /** May a workload start now? Judged with readings taken for the question; grants nothing. */
  async preFlightCheck(): Promise<Verdict> {
    return askPreflight(await this.#connect(), this.#ask);
  }

  /**
   * Takes a lease and renews it until `stopRuntimeMonitoring()`. Throws {@link UnsafeError} where it is refused, and a
   * SafetyServiceError for a mistake in what was asked. Where one is held already, nothing happens.
   */
  async startRuntimeMonitoring(): Promise<Verdict> {
    const refused = await this.takeLease({ wait: false });
    if (refused) throw new UnsafeError(refused);
    return this.result;
  }

  /**
   * As `startRuntimeMonitoring`, and gives the refusal instead of throwing it; `null` is granted. With `wait` it asks
   * again for as long as the service says when to; `signal` ends that, by throwing its reason.
   */
  takeLease(how: { readonly wait: boolean; readonly signal?: AbortSignal | undefined }): Promise<Verdict | null> {
    if (this.#starting) return this.#starting;
    const starting = this.#take(how).finally(() => {
      this.#starting = null;
    });
    this.#starting = starting;
    return starting;
  }

  /**
   * Gives the lease back, as well as it goes, and lets the service go: an embedded monitor ends with its last user. The
   * signal is aborted, so that nothing runs on without a lease. Never throws; the next call begins anew.
   */
  async stopRuntimeMonitoring(): Promise<void> {
    const { view } = this;
    const holder = this.#holder;
    const opening = this.#service;
    this.#holder = null;
    this.#service = null;
    this.#stopped.abort(new UnsafeError(GIVEN_BACK));
    this.#stopped = new AbortController();
    if (holder && view) {
      const releasing = holder.release();
      this.#run.end(holder.view.verdict);
      this.#wake();
      const failed = await releasing;
      if (failed !== null) warn(`Cannot give lease ${view.id} back, it will lapse: ${failed}`);
    }
    await this.#warning.drain(systemClock);
    await this.#critical.drain(systemClock);
    const service = await opening?.catch(() => null);
    await service?.close();
  }

  /** So that `await using` gives the lease back. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stopRuntimeMonitoring();
  }

  /**
   * EMERGENCY STOP of everything, or of the nodes named, and of this workload at once, answered or not. It latches
   * until an operator resets it. Tried three times; throws a SafetyServiceError where no service took it.
   *
   * @example
   * import { HardwareSafetyMonitor } from 'vsf-safety';
   *
   * const { tripId, report } = await new HardwareSafetyMonitor().emergencyStop({ reason: 'smoke' });
   * console.log(tripId, report.state);
   */
  async emergencyStop(options: StopOptions = {}): Promise<StopAnswer> {
    const { reason = `Emergency stop by ${this.#ask.workload}`, nodes } = options;
    this.#holder?.end(localVerdict('ABORT', 'emergency-stop', reason));
    const service = await this.#connect();
    const request = { method: 'POST', path: '/estop', body: { reason, nodes }, timeoutMs: REQUEST_TIMEOUT_MS } as const;
    for (let attempt = 1; ; attempt++) {
      let answer = await service.ask(request);
      // A wrong token must not keep anybody from stopping: on the service's own machine none is needed.
      const isForbidden = answer.kind === 'answered' && (answer.status === 401 || answer.status === 403);
      if (isForbidden && service.hasToken) answer = await service.ask({ ...request, asNobody: true });
      if (answer.kind === 'answered' && answer.status === 202) {
        const { tripId, joined, report } = answer.body;
        if (typeof tripId !== 'string' || !isObject(report)) throw notTheService(answer.status, 'no trip');
        return { tripId, joined: joined === true, report: report as unknown as StopReport };
      }
      const error = errorOf(answer);
      if (answer.kind === 'answered' || attempt === STOP_ATTEMPTS) throw error;
      warn(`Emergency stop: attempt ${attempt} of ${STOP_ATTEMPTS} failed: ${error.message}`);
      await systemClock.sleep(STOP_RETRY_MS);
    }
  }

  /** Every reading that the service has, of the nodes asked about or of all. */
  async collectMetrics(): Promise<HardwareMetrics> {
    return readMetrics(await this.#connect(), this.#options.nodes, REQUEST_TIMEOUT_MS);
  }

  /**
   * Calls back on `REDUCE_INTENSITY` and `WAIT_COOLDOWN`, once per change. What came before is handed over. A callback
   * that throws is called again with the next answer, for as long as its cause stands. The returned function ends it.
   */
  onWarning(callback: SafetyCallback): () => void {
    return this.#warning.add(callback);
  }

  /** Calls back once when the workload must stop: `ABORT`, a revoked or lapsed lease, the loss of the service. */
  onCritical(callback: SafetyCallback): () => void {
    return this.#critical.add(callback);
  }

  /** How the lease stands, to the moment; `null` without one. */
  get view(): LeaseView | null {
    return this.#holder?.view ?? null;
  }

  /** The newest verdict: the refusal, the last renewal's, or the end's. */
  get result(): Verdict {
    return this.view?.verdict ?? this.#run.verdict;
  }

  /** Whether a lease is held and nothing has ended it. True also while paused or reduced. */
  get safe(): boolean {
    const { view } = this;
    return view !== null && view.state !== 'over';
  }

  /** Whether the workload must hold still: `WAIT_COOLDOWN`. */
  get paused(): boolean {
    return this.view?.state === 'paused';
  }

  /** The share of full load that may be used now, over 0 to 1; 0 without leave to run. */
  get intensityCap(): number {
    return this.view?.intensityCap ?? 0;
  }

  /** Aborts, with an {@link UnsafeError}, when the workload must stop; is aborted while there is no lease. One per lease. */
  get signal(): AbortSignal {
    return this.#run.signal;
  }

  /** For code that works without a break: throws {@link UnsafeError} unless a lease is held, to the moment. */
  throwIfUnsafe(): void {
    if (!this.safe) throw new UnsafeError(this.result);
  }

  /** Resolves when the workload may go on, at once unless it is paused; rejects with {@link UnsafeError} once it must end. */
  async resumed(): Promise<void> {
    for (;;) {
      this.throwIfUnsafe();
      if (!this.paused) return;
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  #connect(): Promise<SafetyService> {
    if (this.#service) return this.#service;
    const opening = this.#open();
    this.#service = opening;
    opening.catch(() => {
      if (this.#service === opening) this.#service = null;
    });
    return opening;
  }

  async #take(how: { readonly wait: boolean; readonly signal?: AbortSignal | undefined }): Promise<Verdict | null> {
    if (this.safe) return null;
    const opening = this.#connect();
    const service = await opening;
    const { signal } = this.#stopped;
    const answer = how.wait
      ? await waitForLease(service, systemClock, this.#ask, how.signal ? AbortSignal.any([signal, how.signal]) : signal)
      : await askLease(service, systemClock, this.#ask);
    if (this.#service === opening) return this.#begin(service, answer);
    // Stopped before it had begun: what was granted meanwhile, nobody holds.
    if (answer.kind === 'granted') await releaseLease(service, answer.id, REQUEST_TIMEOUT_MS);
    return GIVEN_BACK;
  }

  #begin(service: SafetyService, answer: Grant | Refusal): Verdict | null {
    if (answer.kind === 'refused') {
      this.#holder = null;
      this.#run = endedRun(answer.verdict);
      return answer.verdict;
    }
    if (answer.verdict.local === undefined && answer.verdict.simulated) {
      warn('The safety service watches a simulated rig; no hardware is protected');
    }
    const run = newRun();
    this.#run = run;
    this.#told = null;
    this.#holder = new LeaseHolder({ service, clock: systemClock }, answer, {
      onResult: (view) => this.#tell(view),
      onMissed: (detail, leftMs) => {
        warn(`The lease was not renewed, ${Math.round(leftMs / 1000)} s are left: ${detail}`);
      },
      onOver: (view) => {
        run.end(view.verdict);
        this.#critical.deliver(view.verdict);
        this.#wake();
      },
    });
    this.#holder.start();
    return null;
  }

  #tell(view: LeaseView): void {
    const before = this.#told;
    this.#told = view;
    const isNew = before?.verdict.action !== view.verdict.action || before.intensityCap !== view.intensityCap;
    if (view.verdict.action === 'PROCEED') this.#warning.forgive();
    else if (isNew) this.#warning.deliver(view.verdict);
    else this.#warning.retry(view.verdict);
    this.#wake();
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}

/** One lease as its workload sees it: a signal, and what is left to say when it is over. */
interface Run {
  readonly signal: AbortSignal;
  readonly verdict: Verdict;
  end(verdict: Verdict): void;
}

function newRun(): Run {
  const controller = new AbortController();
  let last: Verdict = localVerdict('WAIT_COOLDOWN', 'not-started', 'The lease has not begun');
  return {
    signal: controller.signal,
    get verdict() {
      return last;
    },
    end(verdict) {
      if (controller.signal.aborted) return;
      last = verdict;
      controller.abort(new UnsafeError(verdict));
    },
  };
}

function endedRun(verdict: Verdict): Run {
  const run = newRun();
  run.end(verdict);
  return run;
}

/** `generator.js (4711)`, in printable ASCII. */
function programName(): string {
  const name = basename(process.argv[1] ?? 'node').replace(/[^\x20-\x7e]/g, '');
  return `${name.trim().slice(0, 150) || 'node'} (${process.pid})`;
}
