// The app over real parts: supervisor, monitor and simulated rig, on a manual clock. Only the disk, the actuator and the
// process table are pretended, because tests must be able to make them fail. Every answer is held against the OpenAPI
// document, and the app is closed at the end of its test.

import { createHash } from 'node:crypto';
import type { AddressInfo } from 'node:net';
import type { InjectOptions, LightMyRequestResponse } from 'fastify';
import pino from 'pino';
import type { Test } from 'tap';
import type { Actuator, StopProgress } from '../../src/actuators/actuator.ts';
import { CommissionStore } from '../../src/commission-store.ts';
import type { Config, Role } from '../../src/config.ts';
import type { ClusterState } from '../../src/domain/cluster.ts';
import { restoreState } from '../../src/domain/durable.ts';
import type { LiveWorkload, StopEntry, StopOrder } from '../../src/domain/stop.ts';
import { History } from '../../src/history/history.ts';
import { buildApp } from '../../src/http/app.ts';
import { readCommissionReport } from '../../src/http/commission-view.ts';
import type { App, AppParts, ClusterPart, ProcessGroupCheck } from '../../src/http/parts.ts';
import { TokenSet } from '../../src/http/token-set.ts';
import { Monitor } from '../../src/monitor.ts';
import { createSimulatedRig, type SimulatedRig } from '../../src/sources/simulated.ts';
import { type Submitted, Supervisor, type SupervisorParts } from '../../src/supervisor.ts';
import { ApiDocument } from './api-document.ts';
import { nodeSettings, worldSettings } from './domain-world.ts';
import { ManualClock } from './manual-clock.ts';

export const NODE = 'bizon1';
export const INTERVAL_MS = 10_000;
/** The first tick comes with the second look, a second after the start: at the wall time that a test begins with. */
const FIRST_TICK_MS = 1_000;
export const TOKENS: Readonly<Record<Role, string>> = {
  viewer: 'viewer-token-0123456789',
  workload: 'workload-token-0123456789',
  operator: 'operator-token-0123456789',
};
/** The token of the state folder, not in the configuration. */
export const OWN_TOKEN = 'vsf_own-operator-token';
export const bearer = (token: string): { authorization: string } => ({ authorization: `Bearer ${token}` });

export const LEADING: ClusterState = {
  leadership: { state: 'leader', identity: 'vsf-safety-1' },
  isLatchKnown: true,
  latchFailure: null,
  areLeasesKnown: true,
  denyRule: 'disarmed',
};

type Recorded = Awaited<Submitted['recorded']>;

/** A disk that works, fails or hangs as a test says. */
export class PretendDisk implements Pick<SupervisorParts['journal'], 'append'> {
  mode: 'works' | 'fails' | 'hangs' = 'works';
  readonly written: string[] = [];
  readonly #waiting: ((outcome: Recorded) => void)[] = [];

  /** A disk that hung takes everything after all. */
  recover(): void {
    this.mode = 'works';
    for (const settle of this.#waiting.splice(0)) settle({ ok: true });
  }

  append(change: { readonly why: string }): Promise<Recorded> {
    if (this.mode === 'hangs') return new Promise((resolve) => this.#waiting.push(resolve));
    if (this.mode === 'fails') return Promise.resolve({ ok: false, code: 'ENOSPC', detail: 'no space left on device' });
    this.written.push(change.why);
    return Promise.resolve({ ok: true });
  }
}

/** An actuator that remembers its orders and reports what a test tells it to. */
export class PretendActuator implements Actuator {
  readonly name = 'local-processes';
  readonly orders: StopOrder[] = [];
  workloads: readonly LiveWorkload[] = [];
  readonly #reports: ((progress: StopProgress) => void)[] = [];

  async inventory() {
    return { available: true, detail: 'pretended', workloads: this.workloads };
  }
  async stop(order: StopOrder, report: (progress: StopProgress) => void, withdrawn: AbortSignal): Promise<void> {
    this.orders.push(order);
    this.#reports.push(report);
    await new Promise<void>((resolve) => withdrawn.addEventListener('abort', () => resolve()));
  }
  async close(): Promise<void> {}

  /** Everything that was ordered so far is gone. */
  verify(entries: readonly StopEntry[] = []): void {
    for (const report of this.#reports) report({ entries, verified: true });
  }
}

export interface TestOptions {
  readonly listen?: Partial<Config['listen']>;
  readonly auth?: Partial<Config['auth']>;
  /** How often the rig is read before the test begins; two are needed before a start is safe, and with 0 it never is. Default 2. */
  readonly ticks?: number;
  /** Simulated rigs of two cards each; the first is called `bizon1`, the others `node-2` and so on. Default 1. */
  readonly nodes?: number;
  /** Without the rig's own route. */
  readonly real?: boolean;
  /** As one of a cluster's processes, which leads it. */
  readonly cluster?: ClusterPart;
  /** What takes the audit's entries; left out: nobody does. */
  readonly audit?: AppParts['audit'];
  /** The state folder for commissioning reports; left out: none is kept. */
  readonly commissionFolder?: string;
  /** Where a history is kept; left out: none is. */
  readonly historyFolder?: string;
  readonly verifyProcessGroup?: (asked: {
    readonly pgid: number;
    readonly leaseId: string;
  }) => Promise<ProcessGroupCheck>;
}

export interface TestApp {
  readonly app: App;
  readonly parts: AppParts;
  readonly clock: ManualClock;
  readonly supervisor: Supervisor;
  /** The first rig. */
  readonly rig: SimulatedRig;
  readonly rigs: readonly SimulatedRig[];
  readonly disk: PretendDisk;
  readonly actuator: PretendActuator;
  readonly document: ApiDocument;
  readonly history: History | null;
  /** Everything that was published is in the history. */
  historySettled(): Promise<void>;
  /** Injects a request as from loopback and holds the answer against the document. */
  ask(request: InjectOptions & { readonly url: string }): Promise<LightMyRequestResponse>;
  /** Time passes, the monitor's rounds included. */
  pass(ms: number): Promise<void>;
  /** Listens on a free port of 127.0.0.1. */
  listen(): Promise<{ readonly port: number; readonly url: string }>;
  close(): Promise<void>;
}

/** Builds the app and closes it after `t`. */
export async function startApp(t: Test, options: TestOptions = {}): Promise<TestApp> {
  const { ticks = 2 } = options;
  const beforeMs = ticks > 0 ? FIRST_TICK_MS : 0;
  const clock = new ManualClock({ elapsedMs: 1_000_000 - beforeMs, wallMs: Date.UTC(2026, 0, 1) - beforeMs });
  const disk = new PretendDisk();
  const actuator = new PretendActuator();
  const rig = createSimulatedRig({ node: NODE, clock, gpus: 2 });
  const others = Array.from({ length: (options.nodes ?? 1) - 1 }, (_, index) =>
    createSimulatedRig({ node: `node-${index + 2}`, clock, gpus: 2, seed: index + 2 }),
  );
  const rigs = [rig, ...others];
  const nodes = new Map(rigs.map((one) => [one.node, nodeSettings()]));
  const settings = worldSettings({ simulated: true, instance: 'instance-1', intervalMs: INTERVAL_MS, nodes });
  const { state } = restoreState(settings, new Map(), { ...clock.now(), id: 'start' });
  const log = pino({ level: 'silent' });
  const supervisor: Supervisor = new Supervisor(state, {
    clock,
    journal: disk,
    actuators: [actuator],
    log,
    lookAgain: (nodes, deadlineMs) => monitor.lookAgain(nodes, deadlineMs),
    onBroken: (error) => t.fail(`an invariant broke: ${String(error)}`),
  });
  const inventory = async (): Promise<void> => {
    const { workloads, ...rest } = await actuator.inventory();
    const actuators = [{ name: actuator.name, ...rest }];
    supervisor.submitSoon({ kind: 'inventoried', actuators, workloads, seesPods: false });
  };
  const monitor = new Monitor({
    clock,
    sources: () => rigs,
    supervisor: () => supervisor,
    intervalMs: INTERVAL_MS,
    fastIntervalMs: 2_000,
    inventory,
  });
  const history = options.historyFolder === undefined ? null : openHistory(options.historyFolder);
  function openHistory(folder: string): History {
    const bounds = { keepMs: 86_400_000, maxBytes: 2 ** 26, intervalMs: INTERVAL_MS, simulated: true };
    const opened = new History({ clock, folder, supervisor, bounds });
    opened.start();
    return opened;
  }
  const historySettled = (): Promise<void> => waited(clock, history?.settled());
  const auth: Config['auth'] = {
    tokens: (Object.entries(TOKENS) as [Role, string][]).map(([role, token]) => ({ role, sha256: sha256(token) })),
    anonymous: 'none',
    kubernetes: false,
    ...options.auth,
  };
  const parts: AppParts = {
    history,
    config: { listen: { host: '127.0.0.1', port: 0, hosts: [], ...options.listen }, auth },
    tokens: new TokenSet({ operator: OWN_TOKEN, configured: auth.tokens }),
    ...(options.audit && { audit: options.audit }),
    ...(options.commissionFolder !== undefined && {
      commission: await CommissionStore.open(options.commissionFolder, readCommissionReport),
    }),
    supervisor,
    monitor,
    clock,
    instance: settings.instance,
    version: '0.0.0-test',
    ...(options.cluster && { cluster: options.cluster }),
    journalHealth: () => ({ ok: disk.mode === 'works', lastError: null, sizeBytes: 0, pending: 0 }),
    verifyProcessGroup:
      options.verifyProcessGroup ?? (async ({ pgid }) => ({ ok: true, group: { pgid, startTicks: 99 } })),
    runDrill: async (order) => order.targets.map(wouldStop),
    simulation: options.real ? null : rig,
    log,
  };
  if (options.cluster) supervisor.submit({ kind: 'cluster-reported', cluster: LEADING });
  const app = buildApp(parts);
  await app.ready();
  const document = new ApiDocument(app.swagger());

  const close = async (): Promise<void> => {
    let isClosed = false;
    const closing = app.close().then(() => {
      isClosed = true;
    });
    // What closing waits for passes on the manual clock.
    while (!isClosed) await clock.advance(100);
    await closing;
    await waited(clock, history?.close());
    const stopping = Promise.all([monitor.stop(), supervisor.close(), ...rigs.map((one) => one.close())]);
    await clock.advance(INTERVAL_MS);
    await stopping;
  };
  let closed: Promise<void> | undefined;
  t.teardown(() => (closed ??= close()));

  if (ticks > 0) monitor.start();
  for (let tick = 0; tick < ticks; tick++) await clock.advance(tick === 0 ? FIRST_TICK_MS : INTERVAL_MS);

  return {
    app,
    parts,
    clock,
    supervisor,
    rig,
    rigs,
    disk,
    actuator,
    document,
    history,
    historySettled,
    async ask(request) {
      const method = request.method ?? 'GET';
      const answer = await app.inject({ ...request, headers: { host: '127.0.0.1:8470', ...request.headers } });
      if (method !== 'HEAD') {
        const problems = document.problemsOf(method, request.url, answer);
        t.same(problems, [], `${method} ${request.url} answers as documented`);
      }
      return answer;
    },
    pass: (ms) => clock.advance(ms),
    async listen() {
      await app.listen({ host: '127.0.0.1', port: 0 });
      const { port } = app.server.address() as AddressInfo;
      return { port, url: `http://127.0.0.1:${port}` };
    },
    close: () => (closed ??= close()),
  };
}

/** Lets the time pass that `work` waits for, a millisecond at a time, while other threads do theirs. */
async function waited(clock: ManualClock, work: Promise<void> | undefined): Promise<void> {
  let isDone = work === undefined;
  void work?.finally(() => {
    isDone = true;
  });
  while (!isDone) await clock.advance(1);
}

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

function wouldStop({ leaseId, workload }: StopOrder['targets'][number]): StopEntry {
  return {
    actuator: 'drill',
    kind: 'lease',
    name: workload,
    leaseId,
    state: 'would-stop',
    how: 'revoke',
    verified: false,
    tookMs: 0,
  };
}
