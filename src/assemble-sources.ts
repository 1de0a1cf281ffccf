// From a Config to what reads the hardware: this machine, the exporters of a cluster, a Prometheus server, or a pretended
// rig. Exporters come and go with what finds them, so the rest of the service asks for the sources anew at each round.
import { type Clock, withDeadline } from './clock.ts';
import { type Config, isNodeName, processEnvironment } from './config.ts';
import type { ClusterMachine } from './domain/cluster.ts';
import type { Listing } from './domain/events.ts';
import type { SafetySettings } from './domain/settings.ts';
import { createNodeObjectSource } from './kubernetes/cluster-node.ts';
import type { ExporterFinder } from './kubernetes/exporter-finder.ts';
import { type Credentials, createCredentials } from './sources/credentials.ts';
import { Discovery } from './sources/discovery.ts';
import { createExporter } from './sources/exporter.ts';
import { createGpuSysfs } from './sources/gpu-sysfs.ts';
import { createHttpGetter, type HttpGetter } from './sources/http-get.ts';
import { createIpmiDcmi } from './sources/ipmi-dcmi.ts';
import { createLocalMachine } from './sources/local-machine.ts';
import { createNvidiaSmi } from './sources/nvidia-smi.ts';
import { createPortableMachine } from './sources/portable-machine.ts';
import { PrometheusServer } from './sources/promql.ts';
import { WANTED_NAMES } from './sources/series.ts';
import { createSeriesReader, type SeriesReader } from './sources/series-reader.ts';
import { shownAddress } from './sources/shown-address.ts';
import { createSimulatedRig, type SimulatedRig } from './sources/simulated.ts';
import type { Source } from './sources/source.ts';
import { createSystemPower } from './sources/system-power.ts';
import type { Target } from './sources/targets.ts';
import { VERSION } from './version.ts';

/** Everything that is read, as it is now. */
export interface SourceSet {
  /** The rig behind `source: simulated`; `null` under every other source. */
  readonly simulation: SimulatedRig | null;
  sources(): readonly Source[];
  /** Looks for targets where that is due. Ends within 5 s; never rejects. */
  refresh(): Promise<void>;
  /** What is to be watched; `null` where nothing is found and all is configured. */
  listing(): Listing | null;
  close(): Promise<void>;
}

export interface SourceParts {
  readonly config: Config;
  readonly settings: SafetySettings;
  readonly clock: Clock;
  /** Where /proc and /sys are found. */
  readonly root: string;
  /** Finds exporters among a cluster's pods; `null` where nobody does. */
  readonly finder: ExporterFinder | null;
  /** Left out: over the network. */
  readonly httpGetter?: (options: { readonly clock: Clock }) => HttpGetter;
  readonly exporter?: typeof createExporter;
}

/** The first lists must be there before the first round, or that round would judge half a cluster; but not for ever. */
const FIRST_REFRESH_MS = 5_000;

const NODES_TIMEOUT_MS = 2_500;

/** Builds what `config` says is read, with the first lists of targets taken. */
export async function openSources(parts: SourceParts): Promise<SourceSet> {
  const { config, clock, httpGetter = createHttpGetter } = parts;
  if (config.source === 'simulated') return simulatedSet(parts);
  const getter = httpGetter({ clock });
  const credentials = config.credentials.length > 0 ? createCredentials({ clock, settings: config.credentials }) : null;
  const open = config.source === 'prometheus' ? prometheusSet : exporterSet;
  const set = open(parts, getter, credentials);
  await withDeadline(clock, FIRST_REFRESH_MS, set.refresh());
  return set;
}

function simulatedSet({ config, settings, clock }: SourceParts): SourceSet {
  const simulation = createSimulatedRig({ node: settings.localNode, clock, gpus: config.simulated.gpus });
  return {
    simulation,
    sources: () => [simulation],
    refresh: async () => undefined,
    listing: () => null,
    close: () => simulation.close(),
  };
}

/** This machine's own sources, none under `source: exporters`. */
function localSources({ config, settings, clock, root }: SourceParts): Source[] {
  if (config.source !== 'local') return [];
  const node = settings.localNode;
  const nvidia = createNvidiaSmi({ node, clock, env: processEnvironment, root });
  if (process.platform !== 'linux') return [createPortableMachine({ node, clock }), nvidia];
  const { tctlOffsetC, zfsCacheIsAvailable } = nodeOptions(config, node);
  return [
    createLocalMachine({ node, clock, root, tctlOffsetC, zfsCacheIsAvailable }),
    nvidia,
    createGpuSysfs({ node, clock, root }),
    createSystemPower({ node, clock, root }),
    createIpmiDcmi({ node, clock, env: processEnvironment }),
  ];
}

/** This machine, and every exporter that is configured or found. */
function exporterSet(parts: SourceParts, getter: HttpGetter, credentials: Credentials | null): SourceSet {
  const { config, settings, clock, finder, exporter = createExporter } = parts;
  const local = localSources(parts);
  // A cluster writes this machine's name in lower case, and it must not become a second node.
  const isNamed = local.length === 0 || config.nodes.some(({ name }) => name === settings.localNode);
  const nodes = isNamed ? config.nodes : [...config.nodes, { name: settings.localNode, endpoints: [] }];
  const discovery = new Discovery({
    clock,
    settings: { ...config.discovery, nodes },
    get: getter.get,
    credentials,
    kubernetes: finder,
    isNodeName,
  });
  const exporters = new Map<string, Source>();
  const nodeObjects = new Map<string, Source>();
  const keyOf = ({ node, url }: Target): string => `${node} ${url}`;
  let taken = discovery.current();
  let all: readonly Source[] = [];

  const take = (): void => {
    taken = discovery.current();
    const targets = new Map(taken.targets.map((target) => [keyOf(target), target]));
    for (const [key, exporter] of exporters) {
      if (targets.has(key)) continue;
      exporters.delete(key);
      void exporter.close();
    }
    for (const [key, target] of targets) {
      if (!exporters.has(key)) exporters.set(key, exporterOf(target));
    }
    const names = new Set(taken.nodes);
    for (const name of nodeObjects.keys()) if (!names.has(name)) nodeObjects.delete(name);
    for (const node of taken.nodes) {
      if (finder?.node(node) && !nodeObjects.has(node)) {
        nodeObjects.set(node, createNodeObjectSource({ node, clock, lookUp: finder.node }));
      }
    }
    all = [...local, ...exporters.values(), ...nodeObjects.values()];
  };
  const exporterOf = ({ node, url, origin }: Target): Source =>
    exporter({
      node,
      url,
      clock,
      get: getter.get,
      allowedRanges: origin === 'configured' ? null : config.discovery.allow,
      credentials,
      reader: readerOf(config, node, true),
      version: VERSION,
    });
  take();

  return {
    simulation: null,
    sources: () => all,
    async refresh() {
      await Promise.all([discovery.refreshIfDue(), finder?.lookAtNodes(NODES_TIMEOUT_MS)]);
      if (discovery.current() !== taken) take();
    },
    listing: () => ({
      ...watchedBy(all, [...taken.nodes, ...(local.length > 0 ? [settings.localNode] : [])]),
      problems: taken.problems,
      unread: taken.unread,
      ...(finder && { machines: machinesOf(taken.nodes, finder) }),
    }),
    async close() {
      await Promise.allSettled(all.map((source) => source.close()));
      getter.close();
    },
  };
}

/** What the cluster says of the nodes that it was found to have. */
function machinesOf(nodes: readonly string[], finder: ExporterFinder): ReadonlyMap<string, ClusterMachine> {
  return new Map(
    nodes.flatMap((name) => {
      const machine = finder.node(name);
      return machine ? [[name, { isReady: machine.isReady, bootId: machine.bootId }] as const] : [];
    }),
  );
}

/** The targets of a Prometheus server. */
function prometheusSet(parts: SourceParts, getter: HttpGetter, credentials: Credentials | null): SourceSet {
  const { config, settings, clock } = parts;
  const { url = '', nodeLabels = [], match = null } = config.prometheus ?? {};
  const outlets = new Map<string, string[]>();
  for (const { name, outlets: own } of config.nodes) {
    for (const { series } of own) outlets.set(series, [...(outlets.get(series) ?? []), name]);
  }
  const nodes = config.nodes.map(({ name }) => name);
  const server = new PrometheusServer({
    clock,
    url,
    get: getter.get,
    credentials,
    nodeLabels,
    match: match ?? '',
    nodes,
    isNodeName,
    wanted: WANTED_NAMES,
    reader: (node, of) => readerOf(config, node, of === 'outlets'),
    outlets,
    staleAfterMs: Math.max(settings.defaults.staleAfterMs, ...[...settings.nodes.values()].map((n) => n.staleAfterMs)),
    intervalMs: settings.intervalMs,
  });
  return {
    simulation: null,
    sources: () => server.sources(),
    refresh: async () => {
      if (server.sources().length === 0) await server.discover(clock.now().elapsedMs + FIRST_REFRESH_MS);
    },
    listing: () => ({
      ...watchedBy(server.sources(), nodes),
      problems: server.problems.map((detail) => ({ origin: shownAddress(url), detail })),
      // Each configured node has a source that says so itself; of others nothing is known before the first answer.
      unread: server.hasAnswered ? [] : [shownAddress(url)],
    }),
    close: async () => getter.close(),
  };
}

function readerOf(config: Config, node: string, readsOutlets: boolean): SeriesReader {
  const { tctlOffsetC, zfsCacheIsAvailable, outlets } = nodeOptions(config, node);
  const own = readsOutlets ? outlets : [];
  return createSeriesReader({ tctlOffsetC, zfsCacheIsAvailable, outlets: own, explains: false });
}

function nodeOptions(
  config: Config,
  node: string,
): Pick<Config['nodes'][number], 'tctlOffsetC' | 'zfsCacheIsAvailable' | 'outlets'> {
  return config.nodes.find(({ name }) => name === node) ?? { tctlOffsetC: 0, zfsCacheIsAvailable: false, outlets: [] };
}

function watchedBy(sources: readonly Source[], nodes: readonly string[]): Pick<Listing, 'nodes' | 'sources'> {
  const byNode = new Map<string, Set<string>>();
  for (const { node, id } of sources) {
    const own = byNode.get(node);
    if (own) own.add(id);
    else byNode.set(node, new Set([id]));
  }
  return { nodes: new Set([...nodes, ...byNode.keys()]), sources: byNode };
}
