// Config in, running parts out, and one `close` that takes them down in order. Used by the service, by `check` and by
// tests; what listens to the network is put on top of it (serve.ts).
import { randomBytes, randomUUID } from 'node:crypto';
import { join } from 'node:path';
import type { Actuator } from './actuators/actuator.ts';
import { createDrill } from './actuators/drill.ts';
import { GpuProcesses } from './actuators/gpu-processes.ts';
import { createLocalProcesses } from './actuators/local-processes.ts';
import type { ProcessTable } from './actuators/process-table.ts';
import {
  clusterPlaceOf,
  type JoinedCluster,
  joinCluster,
  MEMBER_KEY,
  memberRecord,
  priorDiskOf,
} from './assemble-cluster.ts';
import { takeInventory, unconfiguredKubernetes } from './assemble-inventory.ts';
import { openNotifier } from './assemble-notify.ts';
import { type Outside, realOutside } from './assemble-outside.ts';
import { openSources, type SourceSet } from './assemble-sources.ts';
import { type Clock, systemClock, withDeadline } from './clock.ts';
import { type Config, processEnvironment } from './config.ts';
import { type Restored, restoreState } from './domain/durable.ts';
import { type GpuProcess, targetOf } from './domain/lease.ts';
import type { SafetySettings } from './domain/settings.ts';
import type { SafetyState } from './domain/state.ts';
import type { StopEntry, StopOrder } from './domain/stop.ts';
import { History } from './history/history.ts';
import { type Journal, type OpenedJournal, openJournal } from './journal.ts';
import { Monitor } from './monitor.ts';
import type { Notifier } from './notify/notifier.ts';
import { ComputeApps } from './sources/compute-apps.ts';
import type { SimulatedRig } from './sources/simulated.ts';
import type { StateFolder } from './state-folder.ts';
import { type Log, Supervisor, type SupervisorParts } from './supervisor.ts';
import { VERSION } from './version.ts';

/** The running parts, as whatever serves them needs them. */
export interface Assembled {
  readonly kind: 'running';
  readonly config: Config;
  readonly instance: string;
  readonly clock: Clock;
  readonly supervisor: Supervisor;
  readonly monitor: Monitor;
  readonly journal: Journal;
  /** `null`: none is kept. */
  readonly history: History | null;
  readonly processTable: ProcessTable;
  readonly notifier: Notifier;
  /** The rig behind `source: simulated`; `null` under every other source. */
  readonly simulation: SimulatedRig | null;
  readonly operatorToken: string;
  readonly tokenFile: string;
  /** Locked by this process. */
  readonly stateFolder: StateFolder;
  readonly isFirstStart: boolean;
  /** What the drill actuator would stop under `order`. */
  runDrill(order: StopOrder): Promise<readonly StopEntry[]>;
  /** What computes on this machine's GPUs, by the last look. */
  gpuProcesses(): readonly GpuProcess[];
  /** This process's place in a cluster; `null` where none is configured. */
  readonly cluster: JoinedCluster | null;
  /** Stops watching; what runs goes on running, and the latch stays on disk. */
  close(): Promise<void>;
}

export type AssembleOutcome =
  | Assembled
  | { readonly kind: 'refused'; readonly exitCode: number; readonly message: string };

export interface AssembleOptions {
  readonly log: Log;
  /** An invariant broke while running: workloads have been ordered to stop, and the process must end, non-zero. */
  readonly onBroken: (error: unknown) => void;
  readonly clock?: Clock;
  /** Test seam of the supervisor: called between the steps of each event. */
  readonly onStep?: SupervisorParts['onStep'];
  /** Where /proc, /sys and k3s' files are looked for. Default `/`. */
  readonly root?: string;
  /** Test seam: another world around the same parts. */
  readonly outside?: Outside;
}

/** The list of processes on GPUs is for showing: it must be done, or given up, long before the next tick. */
const GPU_PROCESSES_TIMEOUT_MS = 3_000;
/** What hangs is left behind: whoever ends a service kills it after some 20 s. */
const PARTS_CLOSE_MS = 5_000;
/** Leases are written and the leadership given back; a server that is away is left to find out by itself. */
const CLUSTER_CLOSE_MS = 5_000;
/** So long a start waits for what is better known before than after. */
const JOINING_WITHIN_MS = 2_000;
/** The journal's last writes may take this long at shutdown. */
const JOURNAL_CLOSE_MS = 2_000;

/** Builds everything for `config` and starts watching. Refuses with the exit code and the reason; never throws. */
export async function assemble(config: Config, options: AssembleOptions): Promise<AssembleOutcome> {
  const { log, clock = systemClock, root = '/', outside = realOutside } = options;
  const refuse = (message: string): AssembleOutcome => ({ kind: 'refused', exitCode: 1, message });
  const found = clusterPlaceOf(config, root);
  if (found.kind === 'refused') return refuse(found.detail);
  const opened = await outside.openStateFolder({ folder: config.stateDir, clock });
  if (opened.kind !== 'open') return refuse(opened.detail);
  const { stateFolder } = opened;
  for (const note of stateFolder.notes) log.warn(note);
  const journalOpened = await openJournal({
    folder: stateFolder.folder,
    clock,
    productVersion: VERSION,
    tokenExists: stateFolder.tokenExists,
    files: outside.files,
  });
  if (journalOpened.kind === 'newer') {
    await stateFolder.close();
    const { fileVersion, supported } = journalOpened;
    return refuse(
      `Cannot read the journal in ${stateFolder.folder}: it has format version ${fileVersion}, this vsf-safety ` +
        `${VERSION} reads up to ${supported}. It was left untouched; start the newer version, or use another stateDir`,
    );
  }
  const token = await takeToken(stateFolder, log);

  const { journal } = journalOpened;
  const settings: SafetySettings = { ...config.settings, instance: randomUUID(), bootId: outside.bootId(root) };
  const moment = { ...clock.now(), id: randomUUID() };
  const replayed = replayedMap(journalOpened);
  const restored = restoreState(settings, replayed, moment, { inCluster: found.kind === 'cluster' });
  let supervisor: Supervisor;
  const cluster =
    found.kind === 'cluster'
      ? joinCluster({
          config,
          settings,
          clock,
          log,
          place: found.place,
          kubeClient: outside.kubeClient,
          earlier: replayed.get(MEMBER_KEY),
          disk: priorDiskOf(journal, replayed),
          state: () => supervisor.state,
          tell: (event) => supervisor.submitSoon(event),
        })
      : null;
  const sources = await openSources({
    config,
    settings,
    clock,
    root,
    finder: cluster?.member.finder ?? null,
    httpGetter: outside.httpGetter,
    exporter: outside.exporter,
  });
  const { simulation } = sources;
  const processTable = outside.processTable({ clock });
  const liveTargets = () => [...supervisor.state.leases.values()].map(targetOf);
  const localProcesses = createLocalProcesses({
    node: settings.localNode,
    clock,
    table: processTable,
    targets: liveTargets,
    kill: outside.kill,
  });
  const actuators: readonly Actuator[] = [localProcesses, ...(cluster ? [cluster.member.actuator] : [])];
  const drill = createDrill({ clock, actuators });
  const monitor = new Monitor({
    clock,
    sources: () => sources.sources(),
    supervisor: () => supervisor,
    intervalMs: settings.intervalMs,
    fastIntervalMs: settings.fastIntervalMs,
    inventory: async () => {
      // A server that hangs delays no tick: what it says comes through the door when it says it.
      void cluster?.member.refresh();
      await Promise.all([
        takeListing(supervisor, sources),
        takeInventory(supervisor, actuators, clock, unconfiguredKubernetes(config, root)),
      ]);
    },
  });
  supervisor = new Supervisor(restored.state, {
    clock,
    journal: cluster?.recordIn(journal) ?? journal,
    actuators,
    log,
    lookAgain: (nodes, deadlineMs) => monitor.lookAgain(nodes, deadlineMs),
    onBroken: options.onBroken,
    ...(options.onStep && { onStep: options.onStep }),
  });
  journal.onHealthChange(({ ok, lastError }) => {
    const detail = lastError?.detail ?? 'everything is on the disk';
    supervisor.submitSoon({ kind: 'journal-reported', ok, detail });
  });
  const notifier = openNotifier(config, supervisor, clock, log);
  // Who must report before a stop is verified is known before anything can trip.
  const unasked = actuators.map(({ name }) => ({ name, available: false, detail: 'it has not been asked yet' }));
  supervisor.submit({ kind: 'inventoried', actuators: unasked, workloads: [], seesPods: false });
  if (cluster) supervisor.subscribe((message) => cluster.hear(message));
  await takeOver(supervisor, journal, journalOpened, restored);
  if (cluster) {
    // What was reset elsewhere while this process was down must not be stopped again.
    await cluster.member.start();
    const membership = {
      set: { [MEMBER_KEY]: memberRecord(replayed.get(MEMBER_KEY), settings) },
      why: 'stands for election in its cluster',
    };
    // Where pods are should be known before leases are judged by it, and a stop begins from it; a server that is away is
    // not asked, and neither it nor a disk that hangs keeps the hardware unwatched.
    const isThere = supervisor.state.cluster?.isLatchKnown === true;
    await Promise.all([
      withDeadline(clock, JOINING_WITHIN_MS, journal.append(membership)),
      isThere &&
        withDeadline(
          clock,
          JOINING_WITHIN_MS,
          takeInventory(supervisor, actuators, clock, unconfiguredKubernetes(config, root)),
        ),
    ]);
  }
  supervisor.submit({ kind: 'started' });
  cluster?.member.lead();
  if (simulation) obeyStops(supervisor, simulation);
  const computeApps = new ComputeApps({ clock, env: processEnvironment });
  const gpuProcesses = new GpuProcesses({
    node: settings.localNode,
    clock,
    table: processTable,
    targets: liveTargets,
    readApps: async (deadlineMs) => (hasDriver(supervisor.state) ? computeApps.read(deadlineMs) : []),
  });
  if (config.source === 'local') lookAfterTicks(supervisor, gpuProcesses, clock);
  submitListing(supervisor, sources);
  const history = historyOf(config, stateFolder, supervisor, clock);
  history?.start();
  monitor.start();

  return {
    kind: 'running',
    config,
    instance: settings.instance,
    clock,
    supervisor,
    monitor,
    journal,
    history,
    processTable,
    notifier,
    simulation,
    operatorToken: token,
    tokenFile: join(stateFolder.folder, 'operator-token'),
    stateFolder,
    isFirstStart: journalOpened.kind === 'first-start',
    runDrill: (order) => runDrill(drill, order),
    gpuProcesses: () => gpuProcesses.list,
    cluster,
    close: async () => {
      await monitor.stop();
      computeApps.close();
      await supervisor.close();
      await history?.close();
      await withDeadline(
        clock,
        PARTS_CLOSE_MS,
        Promise.allSettled([notifier, sources, ...actuators].map((part) => part.close())),
      );
      if (cluster) await withDeadline(clock, CLUSTER_CLOSE_MS, cluster.close());
      await withDeadline(clock, JOURNAL_CLOSE_MS, journal.close());
      await stateFolder.close();
    },
  };
}

/** What was, kept in the state folder; `null` where that is turned off. */
function historyOf(config: Config, { folder }: StateFolder, supervisor: Supervisor, clock: Clock): History | null {
  if (!config.history) return null;
  const { intervalMs, simulated } = config.settings;
  return new History({ clock, folder, supervisor, bounds: { ...config.history, intervalMs, simulated } });
}

/** The operator's token: found, made at the first start, or, where the file is no good, one that nobody can know. */
async function takeToken(stateFolder: StateFolder, log: Log): Promise<string> {
  const token = await stateFolder.ensureOperatorToken();
  switch (token.kind) {
    case 'found':
    case 'made':
      return token.token;
    case 'refused':
      // A machine must be watched, and a trip stay on, whatever became of a file; only the operator's door stays shut.
      log.error(`${token.detail}. Until the file is good nobody can reset from this machine`);
      return randomBytes(32).toString('base64url');
    case 'unwritable':
      log.error(`${token.detail}. Without it nobody can reset from this machine until the disk takes it again`);
      return randomBytes(32).toString('base64url');
  }
}

function replayedMap(opened: Exclude<OpenedJournal, { kind: 'newer' }>): ReadonlyMap<string, unknown> {
  return opened.kind === 'replayed' || opened.kind === 'unwritable' ? opened.state : new Map();
}

/** What replay found goes through the door like everything else; corrupt means tripped. */
async function takeOver(
  supervisor: Supervisor,
  journal: Journal,
  opened: Exclude<OpenedJournal, { kind: 'newer' }>,
  restored: Restored,
): Promise<void> {
  if (opened.kind === 'unwritable') supervisor.submit({ kind: 'journal-reported', ok: false, detail: opened.detail });
  const corrupt = opened.kind === 'corrupt' ? opened.detail : restored.problems.join('; ');
  if (corrupt) {
    const kept = opened.kind === 'corrupt' && opened.keptAside ? ` (kept as ${opened.keptAside})` : '';
    const { recorded } = supervisor.submit({
      kind: 'stop-requested',
      nodes: null,
      cause: 'corrupt-state',
      reason: `The journal cannot be trusted: ${corrupt.slice(0, 500)}${kept}`,
      by: 'start-up',
    });
    await recorded;
  }
  if (Object.keys(restored.set).length > 0 || restored.delete.length > 0) {
    const outcome = await journal.append({ set: restored.set, delete: restored.delete, why: 'taken over at start' });
    if (!outcome.ok) supervisor.submit({ kind: 'journal-reported', ok: false, detail: outcome.detail });
  }
}

/** A rig's pretended load stops when its workloads do, as real load would. */
function obeyStops(supervisor: Supervisor, simulation: SimulatedRig): void {
  supervisor.subscribe((message) => {
    if (message.type === 'event' && message.data.name === 'tripped') simulation.apply({ load: 0 });
  });
}

/** Only a driver that has just answered is asked for more: one that hangs must not collect processes. */
function hasDriver({ nodes, settings }: SafetyState): boolean {
  return nodes.get(settings.localNode)?.watch.sources.get('nvidia-smi')?.failure === null;
}

/** Who is on the GPUs, at most once a tick and when its round is over. */
function lookAfterTicks(supervisor: Supervisor, gpuProcesses: GpuProcesses, clock: Clock): void {
  const { intervalMs } = supervisor.state.settings;
  let lastTickAtMs: number | null = null;
  supervisor.subscribe(({ type }) => {
    const { lastTickAtMs: tickAtMs } = supervisor.state;
    if (type !== 'evaluation' || tickAtMs === lastTickAtMs) return;
    lastTickAtMs = tickAtMs;
    void gpuProcesses.look(clock.now().elapsedMs + Math.min(GPU_PROCESSES_TIMEOUT_MS, intervalMs / 2));
  });
}

/** What is found goes through the door, too: which nodes there are decides what must be read. */
async function takeListing(supervisor: Supervisor, sources: SourceSet): Promise<void> {
  await sources.refresh();
  submitListing(supervisor, sources);
}

/** What is to be watched goes through the door. */
export function submitListing(supervisor: Supervisor, sources: SourceSet): void {
  const listing = sources.listing();
  if (listing) supervisor.submitSoon({ kind: 'nodes-listed', listing });
}

async function runDrill(drill: Actuator, order: StopOrder): Promise<readonly StopEntry[]> {
  let entries: readonly StopEntry[] = [];
  await drill.stop(order, (progress) => (entries = progress.entries), new AbortController().signal);
  return entries;
}
