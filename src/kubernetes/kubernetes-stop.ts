// The actuator for a Kubernetes cluster. It looks at the cluster at every tick and keeps what it saw, so that a stop
// starts from memory; while orders stand it looks every 500 ms, later every 2 s, once for all of them, and hands each
// look to each order (cluster-stop.ts). Needs no leadership: any replica may stop.
import type { Actuator, Inventory, Preview, StopProgress } from '../actuators/actuator.ts';
import { type Clock, TIMED_OUT, withDeadline } from '../clock.ts';
import type { LiveWorkload, StopOrder } from '../domain/stop.ts';
import { ClusterStop } from './cluster-stop.ts';
import { limitInFlight } from './in-flight.ts';
import type { KubeApi, KubeResource } from './kube-api.ts';
import { isReady } from './pod-state.ts';
import type { NodeState } from './pod-sweep.ts';
import type { StopLatch } from './stop-latch.ts';
import { previewOf } from './stop-preview.ts';
import { type Look, WorkloadInventory } from './workload-inventory.ts';

/** Deletes under way at a time: as many as the pool has connections. 1,000 pods take about 2 s. */
const DELETES_IN_FLIGHT = 16;
/** Between looks in the first 30 s of an order, and after. */
const LOOK_EVERY_MS = 500;
const LOOK_FIRST_MS = 30_000;
const LOOK_LATER_MS = 2000;
/** A quarter of the time at most: lists of thousands cost the server more than the deletes, and must not crowd them out. */
const LOOK_PAUSE_FACTOR = 3;
const LONGEST_LOOK_PAUSE_MS = 5000;
/** Controllers and nodes change less, and their lists are longer. */
const OWNERS_EVERY_MS = 2000;
const NODES_EVERY_MS = 5000;
/** 5,000 pods in pages from a busy server take seconds; each request inside has its own deadline. */
const LOOK_TIMEOUT_MS = 10_000;
/** A stop goes on whatever the record of the latch says, or does not say, by then. */
const CATCH_UP_WITHIN_MS = 3_000;
/** For so long the last list of pods says where there are none. */
const PODS_KNOWN_FOR_MS = 60_000;
const NODES_PATH = '/api/v1/nodes';

export interface KubernetesActuatorOptions {
  readonly clock: Clock;
  readonly api: KubeApi;
  /** What discovery found last. */
  readonly kinds: () => readonly KubeResource[];
  /** Where workloads are; empty: everywhere. */
  readonly namespaces: readonly string[];
  readonly latch: StopLatch;
  /** What the rest of the service calls a node of the cluster. */
  readonly nodeName: (node: string) => string;
  /** Rights that a stop needs and this service lacks, in words; any of them refuses starts. */
  readonly missingRights: () => readonly string[];
}

/** The actuator for the cluster that `api` leads to. */
export function createKubernetesActuator(options: KubernetesActuatorOptions): Actuator {
  const { clock, api, kinds, latch, missingRights, nodeName } = options;
  const running = new Map<ClusterStop, { readonly ending: AbortController; readonly work: Promise<unknown> }>();
  const kept = (): ReadonlySet<string> => new Set([...running.keys()].flatMap((one) => [...one.ownerUids]));
  const looks = new WorkloadInventory({ ...options, kept });
  const line = limitInFlight(DELETES_IN_FLIGHT);
  let nodes: ReadonlyMap<string, boolean> | null = null;
  let nodesAtMs = -Infinity;
  let podsAtMs = -Infinity;
  let looking: Promise<void> | null = null;
  let nudge = new AbortController();
  /** Nothing was heard of the cluster since the start, or since it was away. */
  let isOutOfTouch = true;

  const nodeState = (node: string): NodeState => {
    if (nodes === null) return 'unknown';
    return nodes.get(node) === true ? 'ready' : 'silent';
  };

  async function inventory(deadlineMs: number): Promise<Inventory> {
    const timeoutMs = Math.max(1, deadlineMs - clock.now().elapsedMs);
    const last = looks.lastFull;
    // While a stop goes on it looks more often than a tick.
    const isRecent = last !== null && clock.now().elapsedMs - last.askedAtMs <= OWNERS_EVERY_MS;
    const look = isRecent ? last : await looks.look({ owners: true, timeoutMs });
    if (!look.podsFailure) podsAtMs = look.askedAtMs;
    // A server that restarts must not make every node one where anything may run.
    const seesPods = clock.now().elapsedMs - podsAtMs <= PODS_KNOWN_FOR_MS;
    return { ...inventoryOf(look, missingRights(), nodeName), seesPods, unprotected: look.rivals };
  }

  async function preview(order: StopOrder, deadlineMs: number): Promise<Preview> {
    const timeoutMs = Math.max(1, deadlineMs - clock.now().elapsedMs);
    const { view, podsFailure, problems } = await looks.look({ owners: true, timeoutMs });
    const vital = problems.filter(({ isVital }) => isVital).map(({ detail }) => detail);
    const failures = [...(podsFailure ? [podsFailure.detail] : []), ...vital];
    return {
      failure: failures.length === 0 ? null : failures.join('; '),
      entries: previewOf(order, view, nodeName),
    };
  }

  async function stop(
    order: StopOrder,
    report: (progress: StopProgress) => void,
    withdrawn: AbortSignal,
  ): Promise<void> {
    const ending = new AbortController();
    const end = (): void => ending.abort();
    if (withdrawn.aborted) end();
    else withdrawn.addEventListener('abort', end, { once: true });
    const one = new ClusterStop({
      context: { clock, api, latch, kinds },
      order,
      line,
      nodeState,
      report,
      lookSoon: () => nudge.abort(),
      ended: ending.signal,
    });
    const work = one.run(looks.lastFull);
    running.set(one, { ending, work });
    nudge.abort();
    looking ??= lookWhileNeeded().finally(() => (looking = null));
    await work;
    withdrawn.removeEventListener('abort', end);
    running.delete(one);
    if (running.size === 0) nudge.abort();
  }

  async function lookWhileNeeded(): Promise<void> {
    while (running.size > 0) {
      nudge = new AbortController();
      const startedMs = clock.now().elapsedMs;
      const owners = startedMs - (looks.lastFull?.askedAtMs ?? -Infinity) >= OWNERS_EVERY_MS || isNew(startedMs);
      const [look] = await Promise.all([looks.look({ owners, timeoutMs: LOOK_TIMEOUT_MS }), lookAtNodes(startedMs)]);
      if (look.podsFailure) isOutOfTouch = true;
      else if (isOutOfTouch) {
        // What was reset elsewhere meanwhile, and runs again, must not be stopped again.
        await withDeadline(clock, CATCH_UP_WITHIN_MS, latch.catchUp());
        isOutOfTouch = false;
      }
      for (const one of running.keys()) one.take(look);
      const nowMs = clock.now().elapsedMs;
      const isYoung = [...running.keys()].some((one) => nowMs - one.orderedAtMs < LOOK_FIRST_MS);
      const tookMs = nowMs - startedMs;
      const pauseMs = Math.min(tookMs * LOOK_PAUSE_FACTOR, LONGEST_LOOK_PAUSE_MS);
      await clock.sleep(Math.max((isYoung ? LOOK_EVERY_MS : LOOK_LATER_MS) - tookMs, pauseMs), nudge.signal);
    }
    looks.narrow();
  }

  /** An order that has seen no list of controllers of its own yet. */
  const isNew = (nowMs: number): boolean =>
    [...running.keys()].some((one) => one.orderedAtMs >= (looks.lastFull?.askedAtMs ?? nowMs));

  async function lookAtNodes(nowMs: number): Promise<void> {
    if (nowMs - nodesAtMs < NODES_EVERY_MS) return;
    nodesAtMs = nowMs;
    const answer = await withDeadline(clock, LOOK_TIMEOUT_MS, api.list(NODES_PATH, {}, LOOK_TIMEOUT_MS));
    if (answer === TIMED_OUT || !answer.ok) nodes = null;
    else nodes = new Map(answer.value.items.map((node) => [node.metadata.name, isReady(node)]));
  }

  async function close(): Promise<void> {
    for (const { ending } of running.values()) ending.abort();
    nudge.abort();
    await Promise.all([...running.values()].map(({ work }) => work));
    await looking;
  }

  return { name: 'kubernetes', inventory, preview, stop, close };
}

/** What a look says to the rest of the service. Pods that are on no node yet load nothing. */
function inventoryOf(
  { view, podsFailure, problems }: Look,
  missingRights: readonly string[],
  nodeName: (node: string) => string,
): Inventory {
  const workloads: LiveWorkload[] = [];
  let unscheduled = 0;
  for (const { namespace, name, node, leaseId, isActive } of view.pods.values()) {
    if (!isActive) continue;
    if (node === null) unscheduled += 1;
    workloads.push({
      kind: 'pod',
      node: node === null ? null : nodeName(node),
      name: `${namespace}/${name}`,
      ...(leaseId !== undefined && { leaseId }),
    });
  }
  const vital = problems.filter((problem) => problem.isVital).map((problem) => problem.detail);
  const rights = missingRights.length > 0 ? [`missing rights: ${missingRights.join(', ')}`] : [];
  const faults = [...(podsFailure ? [podsFailure.detail] : []), ...vital, ...rights];
  const waiting = unscheduled > 0 ? `, ${unscheduled} pods not scheduled` : '';
  const found = `${workloads.length - unscheduled} pods on nodes${waiting}, ${view.owners.size} controllers`;
  const notes = problems.filter((problem) => !problem.isVital).map((problem) => problem.detail);
  const detail = faults.length > 0 ? faults.join('; ') : [found, ...notes].join('; ');
  return { available: faults.length === 0, detail, workloads };
}

export type { ArmState, PriorField, PriorValue, StopLatch } from './stop-latch.ts';
