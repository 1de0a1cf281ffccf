// Which of a cluster's workloads one order covers. What was covered once stays so: with its pods deleted, a controller
// has nothing left that leads to it from the node that tripped.
import type { StopOrder } from '../domain/stop.ts';
import type { ClusterView, OwnerView, PodView } from './cluster-view.ts';

export interface Covered {
  /** Topmost first: a controller undoes what happens to those below it. */
  readonly owners: readonly OwnerView[];
  /**
   * Those that nothing makes again first: a controller answers the first delete of its pods within 20 ms, and by the time
   * that theirs are sent, the deny rule has had longer to come into force.
   */
  readonly pods: readonly PodView[];
}

export class StopScope {
  readonly #order: StopOrder;
  readonly #nodes: ReadonlySet<string>;
  readonly #leases: ReadonlySet<string>;
  readonly #owners = new Set<string>();
  readonly #pods = new Set<string>();

  constructor(order: StopOrder) {
    this.#order = order;
    const nodes = order.what === 'everything' && order.scope.kind === 'nodes' ? order.scope.nodes : [];
    // Kubernetes writes a node's name in lower case, its host perhaps not.
    this.#nodes = new Set(nodes.map((node) => node.toLowerCase()));
    this.#leases = new Set(order.targets.map((target) => target.leaseId));
  }

  /** What a view shows of the order's scope. */
  cover(view: ClusterView): Covered {
    const { what, scope } = this.#order;
    if (what === 'everything' && scope.kind === 'all')
      return covered(view, [...view.owners.values()], view.pods.values());
    const pods = [...view.pods.values()];
    const seeds = pods.filter((pod) => this.#isSeed(pod));
    for (const pod of seeds) this.#pods.add(pod.uid);
    for (const owner of view.owners.values()) if (this.#isLeased(owner.leaseIds)) this.#takeOwner(view, owner);
    for (const pod of seeds) {
      for (const owner of view.ancestorsOf(pod)) {
        if (what === 'leases' && !this.#isAlone(view, owner)) continue;
        this.#takeOwner(view, owner);
      }
    }
    // What a covered controller makes anew is covered too.
    for (const uid of [...this.#owners]) {
      for (const owner of view.descendantsOf(uid)) this.#owners.add(owner.uid);
    }
    for (const pod of pods) if (this.#isBelow(pod)) this.#pods.add(pod.uid);
    return covered(
      view,
      [...view.owners.values()].filter((owner) => this.#owners.has(owner.uid)),
      pods.filter((pod) => this.#pods.has(pod.uid)),
    );
  }

  #isSeed(pod: PodView): boolean {
    return this.#isLeased([pod.leaseId]) || (pod.node !== null && this.#nodes.has(pod.node.toLowerCase()));
  }

  #isBelow({ controllerUid, leaseId }: PodView): boolean {
    if (controllerUid === undefined || !this.#owners.has(controllerUid)) return false;
    // A lapse stops one workload alone, even where another lease's pod hangs below the same controller.
    return this.#order.what === 'everything' || leaseId === undefined || this.#leases.has(leaseId);
  }

  #isLeased(ids: readonly (string | undefined)[]): boolean {
    return ids.some((id) => id !== undefined && this.#leases.has(id));
  }

  #takeOwner(view: ClusterView, owner: OwnerView): void {
    this.#owners.add(owner.uid);
    for (const scaler of view.ancestorsOf(owner)) if (scaler.kind.rule.target) this.#owners.add(scaler.uid);
  }

  /**
   * Whether everything that runs below a controller is the lapsed lease's: then it is that workload, and leaving it
   * would bring the pods back at once. A controller that others' pods hang on as well is left alone.
   */
  #isAlone(view: ClusterView, owner: OwnerView): boolean {
    const below = [owner, ...view.descendantsOf(owner.uid)].flatMap(({ uid }) => view.podsOf(uid));
    return below.every((pod) => !pod.isActive || this.#isLeased([pod.leaseId]));
  }
}

function covered(view: ClusterView, owners: readonly OwnerView[], pods: Iterable<PodView>): Covered {
  const running = owners.filter((owner) => !owner.hasEnded);
  const isMadeAgain = ({ controllerUid }: PodView): number => (controllerUid === undefined ? 0 : 1);
  return {
    owners: running.sort((a, b) => view.depthOf(a) - view.depthOf(b)),
    pods: [...pods].sort((a, b) => isMadeAgain(a) - isMadeAgain(b)),
  };
}
