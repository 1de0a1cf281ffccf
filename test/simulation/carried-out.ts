// Whether a stop is more than a word: while a node is tripped, what is labelled and runs there ends, and what would make
// it anew stays stopped, however often somebody scales it back, as soon as the cluster's server lets it be done.
import type { Chronicle } from './chronicle.ts';
import type { WorldCluster } from './cluster.ts';
import { isHeld } from './promises.ts';
import type { Life, Replica } from './replica.ts';
import type { Timeline } from './timeline.ts';
import type { Workload } from './workloads.ts';

/** TERM, grace and KILL, or a delete and the kubelet's word, with tries again and looks in between. */
const WITHIN_MS = 30_000;

// biome-ignore lint/suspicious/noExplicitAny: objects of every kind.
type Any = any;

export interface CarriedOutParts {
  readonly timeline: Timeline;
  readonly chronicle: Chronicle;
  readonly cluster: WorldCluster | null;
  readonly workloads: readonly Workload[];
  readonly lives: () => readonly Life[];
  /** Their journals were damaged. */
  readonly rotted: ReadonlySet<Replica>;
}

export class CarriedOut {
  /** Since when something has stood against each process's word, by what it is. */
  readonly #sinceMs = new Map<string, number>();
  readonly #parts: CarriedOutParts;

  constructor(parts: CarriedOutParts) {
    this.#parts = parts;
  }

  watch(): void {
    const { timeline, chronicle, lives } = this.#parts;
    const standing = new Set<string>();
    for (const life of lives()) {
      if (life.clock.isBlocked || !life.running || life.running.supervisor.state.trips.size === 0) continue;
      for (const what of this.#resisting(life)) standing.add(`${life.number} ${what}`);
    }
    for (const key of this.#sinceMs.keys()) if (!standing.has(key)) this.#sinceMs.delete(key);
    for (const key of standing) {
      const sinceMs = this.#sinceMs.get(key);
      if (sinceMs === undefined) this.#sinceMs.set(key, timeline.nowMs);
      else if (timeline.nowMs - sinceMs > WITHIN_MS) {
        chronicle.violate('a stop is carried out', `life ${key} for over 30 s under a trip`);
        return;
      }
    }
  }

  /** What runs, or would run, although it may not, and could be stopped. */
  #resisting(life: Life): readonly string[] {
    const { workloads, cluster } = this.#parts;
    const found: string[] = [];
    for (const { name, plan, machine, runsSinceMs, groupLeaseId, heldLeaseId } of workloads) {
      if (plan.kind !== 'group' || runsSinceMs === null || !isHeld(life, machine.name)) continue;
      // What a damaged journal held of process groups nobody knows, and nothing is touched on a guess; nor does anybody
      // know one whose start was asked for when the service died: its client holds it back until it has its answer.
      const mayBeUnknown = this.#parts.rotted.has(life.replica) || heldLeaseId !== groupLeaseId;
      if (mayBeUnknown && !knows(life, groupLeaseId)) continue;
      found.push(`${name}'s process group runs (${groupLeaseId})`);
    }
    if (!cluster || cluster.wellSinceMs(life.replica.name) === Number.POSITIVE_INFINITY) return found;
    for (const object of cluster.standIn.all) {
      const node = object.spec?.nodeName ?? object.spec?.template?.spec?.nodeName;
      const labels = object.kind === 'Pod' ? object.metadata.labels : object.spec?.template?.metadata?.labels;
      if (typeof node !== 'string' || labels?.['vsf-workload'] !== 'true' || !isHeld(life, node)) continue;
      if (object.kind === 'Pod' ? !object.metadata.deletionTimestamp : isWanting(object)) {
        found.push(`${object.kind} ${object.metadata.name} stands`);
      }
    }
    return found;
  }
}

function knows({ running }: Life, leaseId: string): boolean {
  const state = running?.supervisor.state;
  if (!state) return false;
  const isTarget = [...state.trips.values()].some(({ targets }) => targets.some((one) => one.leaseId === leaseId));
  return isTarget || state.leases.has(leaseId) || state.endedLeases.has(leaseId);
}

/** Whether a controller would make pods. */
function isWanting({ kind, spec }: Any): boolean {
  return kind === 'Job' ? spec.suspend !== true : (spec.replicas ?? 0) > 0;
}
