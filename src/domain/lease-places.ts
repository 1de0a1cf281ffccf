// What live leases mean for a node: that a workload is live there, and which limits were brought along. With a thousand
// nodes and thousands of leases nobody can ask each about each, so it is worked out once for a set of leases and kept
// beside it. The set is immutable, as all state is: what is kept can never be wrong.
import { limitAt, limitText, type SafetyConstraints, stricterOf } from './constraints.ts';
import { type Lease, placesIn, type WorkloadInventory } from './lease.ts';
import type { Finding } from './result.ts';
import { settingsOf } from './settings.ts';
import type { SafetyState } from './state.ts';

interface LeasePlaces {
  readonly inventory: WorkloadInventory;
  /** Nodes that are live by a lease, beside those with a workload; `null` is every node. */
  readonly nodes: ReadonlySet<string> | null;
  /** The strictest of what leases without nodes brought; and of what the others brought, by node. */
  readonly everywhere: SafetyConstraints | null;
  readonly byNode: ReadonlyMap<string, SafetyConstraints>;
}

const leasePlaces = new WeakMap<ReadonlyMap<string, Lease>, LeasePlaces>();

function placesOf(state: SafetyState): LeasePlaces {
  const { leases, inventory } = state;
  const kept = leasePlaces.get(leases);
  if (kept?.inventory === inventory) return kept;
  let everywhere: SafetyConstraints | null = null;
  const byNode = new Map<string, SafetyConstraints>();
  for (const { nodes, constraints } of leases.values()) {
    if (!constraints) continue;
    if (nodes === null) everywhere = everywhere ? stricterOf(everywhere, constraints) : constraints;
    for (const node of nodes ?? []) byNode.set(node, stricterOf(byNode.get(node) ?? constraints, constraints));
  }
  const places = { inventory, nodes: leasedNodes(state), everywhere, byNode };
  leasePlaces.set(leases, places);
  return places;
}

/** As `isLeaseOn` says of each lease, without the nodes that have a workload in the inventory: those are live anyway. */
function leasedNodes({ leases, inventory, settings }: SafetyState): ReadonlySet<string> | null {
  const { podNodesByLease } = placesIn(inventory);
  const leased = new Set<string>();
  for (const { id, nodes, processGroup } of leases.values()) {
    if (nodes) for (const node of nodes) leased.add(node);
    else if (processGroup) leased.add(settings.localNode);
    else if (!podNodesByLease.has(id) && !inventory.seesPods) return null;
  }
  return leased;
}

/** Whether a workload is live on a node: a lease, a labelled pod, a registered process group. */
export function isLive(state: SafetyState, node: string): boolean {
  if (placesIn(state.inventory).nodes.has(node)) return true;
  const { nodes } = placesOf(state);
  return nodes === null || nodes.has(node);
}

/** A node's profile, made stricter by what live leases brought there: per cell the strictest. */
export function withLeaseLimits(state: SafetyState, node: string, profile: SafetyConstraints): SafetyConstraints {
  const { everywhere, byNode } = placesOf(state);
  const own = byNode.get(node);
  const stricter = everywhere ? stricterOf(profile, everywhere) : profile;
  return own ? stricterOf(stricter, own) : stricter;
}

/**
 * Findings with the lease named whose own limit they are by: `/status` shows a service's limits, and whoever reads of a
 * stop at 50 °C there would look in vain for that number.
 */
export function namingLeases(state: SafetyState, node: string, findings: Finding[]): Finding[] {
  const { everywhere, byNode } = placesOf(state);
  if (!everywhere && !byNode.has(node)) return findings;
  const profile = settingsOf(state.settings, node).constraints;
  return findings.map((finding) => {
    const key = limitKeyOf(finding);
    if (key === null || finding.limit === undefined || !(finding.limit < limitAt(profile, key))) return finding;
    const lease = [...state.leases.values()].find(
      ({ nodes, constraints }) =>
        constraints && limitAt(constraints, key) === finding.limit && (nodes?.includes(node) ?? true),
    );
    if (!lease) return finding;
    const whose = `the limit of lease "${lease.workload}", that of ${node} is ${limitText(profile, key)}`;
    return { ...finding, message: `${finding.message} (${whose})` };
  });
}

/** The path of the limit that a finding is by; `null` where it is by none. */
function limitKeyOf({ code, component, quantity }: Finding): string | null {
  const level = code === 'over-warning' ? 'warning' : code === 'over-hard-stop' ? 'hardStop' : null;
  if (component !== 'gpu' && component !== 'cpu' && component !== 'memory' && component !== 'system') return null;
  if (level === null) {
    if (code !== 'over-maximum') return null;
    const part = component === 'memory' ? 'system' : component;
    return `${part}.${quantity === 'utilization' ? 'utilizationRatio' : 'memoryRatio'}.max`;
  }
  return `${component}.${quantity === 'temperature' ? 'temperatureC' : 'powerW'}.${level}`;
}
