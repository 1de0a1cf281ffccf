// Which nodes there are, where something finds them (a file, a registry, Kubernetes): listed nodes are watched; one that
// is listed no longer is gone only if nothing runs there and nothing is stopped there, and then only after a while, since
// lists lose entries for a moment. Gone means set aside, not forgotten: its cards are still known when it comes back. A
// cluster that makes its nodes anew every day never brings them back, so of those set aside the oldest are let go.
import type { ClusterMachine } from './cluster.ts';
import type { Listing } from './events.ts';
import { dropNode } from './forgetting.ts';
import { covers } from './interlock.ts';
import { isLive } from './lease-places.ts';
import { newNode } from './node-step.ts';
import type { Finding } from './result.ts';
import { settingsOf } from './settings.ts';
import type { NodeState, SafetyState } from './state.ts';
import type { Step } from './step.ts';
import type { SourceWatch } from './tracking.ts';

/** For how long a node may be off the lists before it is set aside. */
export const UNLISTED_FOR_MS = 60_000;
/** So many nodes that nothing lists any more are remembered: as many as lists may name at once. */
export const MOST_ASIDE = 5_000;

/** Takes a list: new nodes are watched from now on, sources that are gone for good are dropped. */
export function takeListing(step: Step, listing: Listing): void {
  const nodes = new Map(step.state.nodes);
  const aside = new Map(step.state.nodesAside);
  const unlistedSinceMs = new Map<string, number>();
  for (const name of listing.nodes) {
    if (nodes.has(name)) continue;
    nodes.set(name, aside.get(name) ?? newNode(step.state, name));
    if (!aside.delete(name)) continue;
    step.tell({ name: 'node-listed', node: name, message: `${name} is listed again and watched` });
  }
  for (const [name, node] of nodes) {
    if (!listing.nodes.has(name)) {
      unlistedSinceMs.set(name, step.state.unlistedSinceMs.get(name) ?? step.nowMs);
      continue;
    }
    const sources = keptSources(step, node, listing.sources.get(name) ?? new Set());
    const kept = sources ? { ...node, watch: { ...node.watch, sources } } : node;
    nodes.set(name, withMachine(step, kept, listing.machines?.get(name) ?? null));
  }
  const { problems, unread } = listing;
  step.change({ nodes, nodesAside: aside, unlistedSinceMs, finders: { problems, unread } });
}

/** A node that is back from a boot has its grace anew, once in that boot, and from when it is Ready again. */
function withMachine(step: Step, node: NodeState, machine: ClusterMachine | null): NodeState {
  const { machine: before, graceBootId } = node;
  const isSame = before?.isReady === machine?.isReady && before?.bootId === machine?.bootId;
  const isBack = before?.isReady === false && machine?.isReady === true;
  const known = isSame ? node : { ...node, machine, ...(isBack && { readySinceMs: step.nowMs }) };
  const bootId = machine?.isReady ? machine.bootId : null;
  if (bootId === null || bootId === graceBootId) return known;
  const { node: name } = node.watch;
  const { startedAtMs, settings } = step.state;
  // The first word of a node is no boot: its grace runs from our start.
  const sinceMs = graceBootId === null ? startedAtMs : step.nowMs;
  const startedWallMs = step.moment.wallMs - (step.nowMs - sinceMs);
  step.record(`boot/${name}`, { bootId, startedWallMs, ofCluster: true }, `${name} is Ready in boot ${bootId}`);
  const seen = graceBootId === null ? node.watch.seen : new Set<string>();
  return {
    ...known,
    graceBootId: bootId,
    graceUntilMs: sinceMs + settings.bootGraceMs,
    watch: { ...node.watch, seen },
  };
}

/**
 * A source that is off the list: an exporter's pod that moved. Its last readings count like those of one that fails, so
 * it goes when they are stale; one that never answered goes at once, or it would refuse starts for ever.
 */
function keptSources(
  step: Step,
  node: NodeState,
  listed: ReadonlySet<string>,
): ReadonlyMap<string, SourceWatch> | null {
  const { staleAfterMs } = settingsOf(step.state.settings, node.watch.node);
  const isKept = ({ source, lastAnswer }: SourceWatch): boolean =>
    listed.has(source) || (lastAnswer !== null && step.nowMs - lastAnswer.startedAtMs <= staleAfterMs);
  const kept = [...node.watch.sources].filter(([, source]) => isKept(source));
  return kept.length === node.watch.sources.size ? null : new Map(kept);
}

/** Sets aside what has been off the lists for long enough, and takes back what a workload turned up on. */
export function settleListing(step: Step): void {
  const { unlistedSinceMs, nodesAside } = step.state;
  for (const [name, sinceMs] of unlistedSinceMs) {
    if (step.nowMs - sinceMs < UNLISTED_FOR_MS || !step.state.nodes.has(name) || mustStay(step.state, name)) continue;
    setAside(step, name);
  }
  for (const name of nodesAside.keys()) if (mustStay(step.state, name)) takeBack(step, name);
}

/** A node where something runs, or is stopped, is missing, not gone. */
function mustStay(state: SafetyState, name: string): boolean {
  if (isLive(state, name)) return true;
  return [...state.trips.values()].some((trip) => covers(trip.scope, name));
}

function setAside(step: Step, name: string): void {
  const nodes = new Map(step.state.nodes);
  const node = nodes.get(name);
  if (!node) return;
  nodes.delete(name);
  step.change({ nodes, nodesAside: new Map(step.state.nodesAside).set(name, outlineOf(node)) });
  const message = `${name} is listed no longer and nothing runs there: it is set aside, its cards stay known`;
  step.tell({ name: 'node-unlisted', node: name, message }, 'warn');
  const { nodesAside } = step.state;
  const [oldest] = nodesAside;
  if (nodesAside.size <= MOST_ASIDE || !oldest) return;
  const reason = `of over ${MOST_ASIDE} nodes that are listed no longer it is the one that has been away for longest`;
  dropNode(step, oldest[1], { node: oldest[0], reason, by: 'monitor' });
}

/** What must be known of a node if it comes back: its cards, its cooldown, its graces. What was read of it is old by then. */
function outlineOf(node: NodeState): NodeState {
  const gpus = { ...node.watch.gpus, listed: new Map(), unlearnt: 0 };
  const nothing = { looks: new Map(), missingSinceMs: new Map(), throttles: new Map(), findings: [], unprotected: [] };
  return { ...node, ...nothing, blindCountsAtMs: null, watch: { ...node.watch, sources: new Map(), gpus } };
}

function takeBack(step: Step, name: string): void {
  const aside = new Map(step.state.nodesAside);
  const node = aside.get(name);
  if (!node) return;
  aside.delete(name);
  step.change({ nodes: new Map(step.state.nodes).set(name, node), nodesAside: aside });
  const message = `A workload runs on ${name}, which is not listed: it is watched again, as far as that goes`;
  step.tell({ name: 'node-listed', node: name, message }, 'warn');
}

/** Nodes that a start is asked for, or that workloads run on, and that nothing watches; and lists nobody has read. */
export function unmonitoredFindings(state: SafetyState, asked: readonly string[] | null): Finding[] {
  const names = new Set(asked ?? []);
  const unread = asked === null ? state.finders.unread.map(unreadFinding) : [];
  for (const { node } of state.inventory.workloads) {
    if (node !== null && (asked === null || asked.includes(node))) names.add(node);
  }
  const unmonitored = [...names].sort().flatMap((node) => {
    if (state.nodes.has(node)) return [];
    const why = state.nodesAside.has(node) ? 'is listed no longer' : 'is not configured and not found';
    return [
      {
        code: 'node-unmonitored' as const,
        level: 'refusal' as const,
        node,
        component: 'monitor' as const,
        action: 'WAIT_COOLDOWN' as const,
        message: `${node} ${why}, so nothing watches its hardware`,
      },
    ];
  });
  return [...unread, ...unmonitored];
}

/** A list that was never read may name a node that burns. */
function unreadFinding(origin: string): Finding {
  return {
    code: 'node-unmonitored',
    level: 'refusal',
    component: 'monitor',
    id: origin,
    action: 'WAIT_COOLDOWN',
    message: `The list of targets of ${origin} has not been read since this service started`,
  };
}
