// From a Config to this process's place in a cluster: the service account of the pod that it runs in, or a kubeconfig
// that is named. Nothing of it is read from where kubectl looks.
import { existsSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { Clock } from './clock.ts';
import { type Config, processEnvironment } from './config.ts';
import type { Message, SafetyEvent } from './domain/events.ts';
import type { SafetySettings } from './domain/settings.ts';
import type { SafetyState } from './domain/state.ts';
import type { Journal } from './journal.ts';
import { createClusterEvents } from './kubernetes/cluster-events.ts';
import { ClusterMember } from './kubernetes/cluster-member.ts';
import type { CredentialPlace } from './kubernetes/kube-credentials.ts';
import { createLateKubeClient } from './kubernetes/late-kube-client.ts';
import type { PriorDisk } from './kubernetes/prior-values.ts';
import { createTokenReviewer, type ReviewPace, type TokenReview } from './kubernetes/token-review.ts';
import type { DurableRecord, Log } from './supervisor.ts';

const SERVICE_ACCOUNT_TOKEN = 'var/run/secrets/kubernetes.io/serviceaccount/token';

/** Where the cluster's credentials are, or why there is no cluster. */
export type ClusterPlace =
  | { readonly kind: 'none' }
  | { readonly kind: 'cluster'; readonly place: CredentialPlace }
  | { readonly kind: 'refused'; readonly detail: string };

/** The cluster that `config` means; `root` is where the pod's files are looked for. */
export function clusterPlaceOf(config: Config, root: string): ClusterPlace {
  const { enabled, kubeconfig } = config.kubernetes;
  const isPod =
    processEnvironment['KUBERNETES_SERVICE_HOST'] !== undefined && existsSync(join(root, SERVICE_ACCOUNT_TOKEN));
  const isMeant = enabled !== false && (kubeconfig !== null || enabled === true || isPod);
  if (!isMeant) {
    const keys = [
      ...(config.discovery.kubernetes ? ['discovery.kubernetes'] : []),
      ...(config.auth.kubernetes ? ['auth.kubernetes'] : []),
    ];
    if (keys.length === 0) return { kind: 'none' };
    const why = 'this is no pod with a service account, and kubernetes.kubeconfig names no cluster';
    return { kind: 'refused', detail: `Cannot start with ${keys.join(' and ')}: ${why}` };
  }
  if (config.source === 'simulated' && !config.simulated.actOnRealWorkloads) {
    const detail =
      'Cannot start with source: simulated in a cluster, whose real workloads it would stop: set kubernetes.enabled: ' +
      'false, or simulated.actOnRealWorkloads: true where that is meant';
    return { kind: 'refused', detail };
  }
  return { kind: 'cluster', place: { kubeconfig, ...(kubeconfig === null && root !== '/' && { root }) } };
}

export interface ClusterParts {
  readonly config: Config;
  readonly settings: SafetySettings;
  readonly clock: Clock;
  readonly log: Log;
  readonly place: CredentialPlace;
  /** Left out: over the network. */
  readonly kubeClient?: typeof createLateKubeClient;
  /** What an earlier start of this folder's service left in the journal under {@link MEMBER_KEY}. */
  readonly earlier: unknown;
  /** Where values from before a stop are kept until the cluster has them; left out: nowhere. */
  readonly disk?: PriorDisk;
  readonly state: () => SafetyState;
  readonly tell: (event: SafetyEvent) => void;
}

/** A place in a cluster, with what is the start's own business. */
export interface JoinedCluster {
  readonly member: ClusterMember;
  /** Whose token it is; `null` where the cluster is not asked. */
  readonly reviewToken: ((token: string, pace: ReviewPace) => Promise<TokenReview>) | null;
  /** Something was published: the cluster's record is renewed by it, and its people are told. */
  hear(message: Message): void;
  /** The journal, with the leases written to the cluster beside it. */
  recordIn(journal: Journal): DurableRecord;
  close(): Promise<void>;
}

const PRIOR_KEY = 'prior/';

/** The journal as the place for values from before a stop; `map` is what was replayed. */
export function priorDiskOf(journal: Pick<Journal, 'append'>, map: ReadonlyMap<string, unknown>): PriorDisk {
  return {
    earlier: [...map].filter(([key]) => key.startsWith(PRIOR_KEY)).map(([, value]) => value),
    async keep(prior) {
      const why = `a stop changes ${prior.resource} ${prior.namespace ?? ''}/${prior.name}`;
      const written = await journal.append({ set: { [PRIOR_KEY + prior.uid]: prior }, why }, { urgent: true });
      return written.ok;
    },
    drop(uids) {
      const keys = uids.map((uid) => PRIOR_KEY + uid);
      void journal.append({ delete: keys, why: 'the cluster has what was before a stop' });
    },
  };
}

/** Under which the journal keeps who this process is in its cluster. */
export const MEMBER_KEY = 'member';

/** Makes the parts; nothing is asked of the cluster yet. */
export function joinCluster(parts: ClusterParts): JoinedCluster {
  const { config, settings, clock, log, place, state, tell, kubeClient = createLateKubeClient } = parts;
  const api = kubeClient({ clock, ...place });
  const identity = identityOf(settings);
  // Made-up tokens take no connection from a stop.
  const reviewApi = config.auth.kubernetes ? kubeClient({ clock, ...place }) : null;
  const onTrouble = (detail: string | null): void =>
    detail === null
      ? log.info('The cluster judges tokens again')
      : log.error(`The cluster judges no tokens: ${detail}`);
  const reviewer = reviewApi && createTokenReviewer({ api: reviewApi, clock, onTrouble });
  const member = new ClusterMember({
    api,
    clock,
    namespace: config.kubernetes.namespace,
    namespaces: config.kubernetes.namespaces,
    identity,
    predecessors: predecessorsIn(parts.earlier, settings),
    exporters: config.discovery.kubernetes ? config.discovery.exporters : null,
    simulated: settings.simulated,
    ...(parts.disk && { disk: parts.disk }),
    state,
    tell,
    warn: (message) => log.warn(message),
  });
  const events = createClusterEvents({ api, clock, namespace: config.kubernetes.namespace, identity });
  return {
    member,
    hear(message) {
      member.hear(message);
      // Each process knows of each trip; one of them says so.
      if (state().cluster?.leadership.state !== 'standby') events.tell(message);
    },
    reviewToken: reviewer && ((token, pace) => reviewer.review(token, pace)),
    recordIn: (journal) => ({
      async append(change, options) {
        const local = journal.append(change, options);
        const stored = member.append(change);
        // A trip's record never waits for the cluster.
        if (options.urgent) return local;
        const [written, told] = await Promise.all([local, stored]);
        if (!written.ok || told.ok) return written;
        return { ok: false, code: 'cluster', detail: told.detail };
      },
    }),
    async close() {
      await events.close();
      await member.close();
      await reviewApi?.close();
    },
  };
}

/** Unlike any other process's, also of this one's other starts. */
const identityOf = ({ instance }: SafetySettings): string => `${hostname()}_${instance}`;

/** Starts that are remembered: a Lease outlives its holder by 15 s, and hardly more crashes fit into that. */
const MOST_PREDECESSORS = 20;

/** What the journal keeps of this start, and of those before it in this boot. */
export function memberRecord(earlier: unknown, settings: SafetySettings): Record<string, unknown> {
  const formerly = predecessorsIn(earlier, settings).slice(0, MOST_PREDECESSORS);
  return { identity: identityOf(settings), bootId: settings.bootId, formerly };
}

/**
 * The identities of earlier starts in this boot, the last one first: the lock of the state folder, which this process
 * holds, proves that they have ended. One alone would not do: a start that crashed may never have led.
 */
function predecessorsIn(earlier: unknown, { bootId }: SafetySettings): readonly string[] {
  if (typeof earlier !== 'object' || earlier === null) return [];
  const { identity, bootId: itsBootId, formerly } = earlier as Record<string, unknown>;
  if (itsBootId !== bootId || bootId === '') return [];
  return [identity, ...(Array.isArray(formerly) ? formerly : [])].filter((one) => typeof one === 'string');
}
