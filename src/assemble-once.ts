// One question and no service: what a preflight says now, with the cluster looked at and not joined.
import { randomUUID } from 'node:crypto';
import type { Inventory } from './actuators/actuator.ts';
import { submitListing } from './assemble.ts';
import { clusterPlaceOf, type JoinedCluster, joinCluster } from './assemble-cluster.ts';
import { unconfiguredKubernetes } from './assemble-inventory.ts';
import { openSources } from './assemble-sources.ts';
import { type Clock, systemClock } from './clock.ts';
import { type Config, readBootId } from './config.ts';
import type { ClusterState } from './domain/cluster.ts';
import { restoreState } from './domain/durable.ts';
import type { Answer } from './domain/events.ts';
import type { SafetySettings } from './domain/settings.ts';
import type { SafetyState } from './domain/state.ts';
import { Monitor } from './monitor.ts';
import { type Log, Supervisor } from './supervisor.ts';

const INVENTORY_TIMEOUT_MS = 5_000;
const SILENT: Log = { fatal: () => undefined, error: () => undefined, warn: () => undefined, info: () => undefined };

/** What was seen of the cluster. */
export interface ClusterSeen {
  readonly facts: ReturnType<JoinedCluster['member']['facts']>;
  readonly denyRule: ClusterState['denyRule'];
  readonly inventory: Inventory;
}

export type JudgedOnce =
  | {
      readonly ok: true;
      readonly answer: Answer;
      readonly state: SafetyState;
      readonly nowMs: number;
      /** `null` where none is configured. */
      readonly cluster: ClusterSeen | null;
    }
  | { readonly ok: false; readonly detail: string };

async function lookAt({ member }: JoinedCluster, clock: Clock): Promise<ClusterSeen> {
  await member.look();
  // On a busy machine the first look may have ended while credentials were still being read: it has one look only.
  if (member.facts().missingRights.length > 0) await member.look();
  const inventory = await member.actuator.inventory(clock.now().elapsedMs + INVENTORY_TIMEOUT_MS);
  return { facts: member.facts(), denyRule: member.denyRule, inventory };
}

/** What one preflight of this machine says, without a service: two looks, a second apart, and one question. */
export async function judgeOnce(
  config: Config,
  options: { readonly clock?: Clock; readonly root?: string } = {},
): Promise<JudgedOnce> {
  const { clock = systemClock, root = '/' } = options;
  const settings: SafetySettings = { ...config.settings, instance: randomUUID(), bootId: readBootId(root) };
  const { state } = restoreState(settings, new Map(), { ...clock.now(), id: randomUUID() });
  const found = clusterPlaceOf(config, root);
  if (found.kind === 'refused') return { ok: false, detail: found.detail };
  const cluster =
    found.kind === 'cluster'
      ? joinCluster({
          config,
          settings,
          clock,
          log: SILENT,
          place: found.place,
          earlier: null,
          state: () => supervisor.state,
          tell: () => undefined,
        })
      : null;
  const sources = await openSources({ config, settings, clock, root, finder: cluster?.member.finder ?? null });
  const supervisor: Supervisor = new Supervisor(state, {
    clock,
    journal: { append: async () => ({ ok: true }) },
    actuators: [],
    log: SILENT,
    lookAgain: () => undefined,
    onBroken: (error) => {
      throw error;
    },
  });
  const monitor = new Monitor({
    clock,
    sources: () => sources.sources(),
    supervisor: () => supervisor,
    intervalMs: settings.intervalMs,
    fastIntervalMs: settings.fastIntervalMs,
    inventory: async () => undefined,
  });
  const unconfigured = unconfiguredKubernetes(config, root);
  const seen = cluster ? await lookAt(cluster, clock) : null;
  const told =
    seen?.inventory ?? (unconfigured === null ? null : { available: false, detail: unconfigured, workloads: [] });
  supervisor.submit({
    kind: 'inventoried',
    actuators: told ? [{ name: 'kubernetes', available: told.available, detail: told.detail }] : [],
    workloads: told?.workloads ?? [],
    seesPods: told?.seesPods ?? false,
    unprotected: told?.unprotected ?? [],
  });
  submitListing(supervisor, sources);
  supervisor.submit({ kind: 'observed', why: 'tick', reports: await monitor.observeNow(null) });
  await clock.sleep(1_000);
  const reports = await monitor.observeNow(null);
  // A Prometheus server tells by its answer which targets there are.
  submitListing(supervisor, sources);
  const request = { intensity: null, nodes: null, constraints: null, constraintKeys: [] };
  const { answer } = supervisor.submit({ kind: 'preflight-asked', request, reports });
  await Promise.allSettled([supervisor.close(), sources.close(), cluster?.close()]);
  return { ok: true, answer, state: supervisor.state, nowMs: clock.now().elapsedMs, cluster: seen };
}
