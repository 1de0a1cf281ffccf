// One answer out of findings: for everything, for the nodes asked about, or for the holder of a lease.
import { unprotectedOfAll } from './cluster.ts';
import {
  canonicalText,
  digestOf,
  limitText,
  profileNameOf,
  type SafetyConstraints,
  stricterOf,
} from './constraints.ts';
import { type Cooling, interlockFindings, viewInterlock } from './interlock.ts';
import { isLeaseOn, type Lease } from './lease.ts';
import { type Finding, MOST_FINDINGS, resultOf, type SafetyResult, type Unprotected } from './result.ts';
import { type NodeSettings, settingsOf } from './settings.ts';
import type { NodeState, SafetyState } from './state.ts';

export type Scope = SafetyResult['scope'];

export const scopeOf = (nodes: readonly string[] | null): Scope => (nodes ? { kind: 'nodes', nodes } : { kind: 'all' });

/** Whether a node is in a scope; to be made once and asked of many. */
export function isIn(scope: Scope): (node: string) => boolean {
  if (scope.kind === 'all') return () => true;
  const names = new Set(scope.nodes);
  return (node) => names.has(node);
}

/** The nodes asked about that are known. */
function nodesIn(state: SafetyState, scope: Scope): readonly NodeState[] {
  if (scope.kind === 'all') return [...state.nodes.values()];
  const [first, ...others] = scope.nodes;
  // One node of a thousand is asked about often; several keep the order of the state.
  const only = first !== undefined && others.length === 0 ? state.nodes.get(first) : undefined;
  if (only) return [only];
  const asked = isIn(scope);
  return [...state.nodes].flatMap(([name, node]) => (asked(name) ? [node] : []));
}

type Limits = Pick<NodeSettings, 'profile' | 'constraints'>;

/** A node's limits as those of a request or a lease make them stricter, if they do: what is judged by, and its name. */
function limitsUsed(own: Limits, asked: SafetyConstraints): Limits {
  const constraints = stricterOf(own.constraints, asked);
  if (canonicalText(constraints) === canonicalText(own.constraints)) return own;
  return { profile: profileNameOf(constraints), constraints };
}

/** What one of our answers is made of, once its findings are known. */
export function compose(
  state: SafetyState,
  scope: Scope,
  findings: readonly Finding[],
  moment: { readonly elapsedMs: number; readonly wallMs: number },
  extra: {
    readonly intensity?: number;
    readonly unprotected?: readonly Unprotected[];
    /** Limits that the request or the lease brought. */
    readonly constraints?: SafetyConstraints | null;
  } = {},
): SafetyResult {
  const isAsked = isIn(scope);
  const trips = [...state.trips.values()];
  const { settings } = state;
  const unprotected: Unprotected[] = [...(extra.unprotected ?? []), ...unprotectedOfAll(state)];
  const profiles = new Set<string>();
  const asked = extra.constraints ?? null;
  // Most nodes have the same limits.
  const used = new Map<SafetyConstraints, Limits>();
  const limitsOf = (own: Limits): Limits => {
    if (!asked) return own;
    const limits = used.get(own.constraints) ?? limitsUsed(own, asked);
    used.set(own.constraints, limits);
    return limits;
  };
  const cooling: [string, Cooling][] = [];
  for (const node of nodesIn(state, scope)) {
    const name = node.watch.node;
    if (node.cooling) cooling.push([name, node.cooling]);
    // An answer carries so many at most.
    if (unprotected.length < MOST_FINDINGS) unprotected.push(...node.unprotected);
    profiles.add(limitsOf(settingsOf(settings, name)).profile);
  }
  const isStricter = [...used].some(([own, { constraints }]) => own !== constraints);
  const own = interlockFindings(trips, cooling, isAsked, moment.elapsedMs, settings.intervalMs);
  return resultOf([...findings, ...own], {
    scope,
    unprotected,
    interlock: viewInterlock(trips, cooling, isAsked),
    simulated: settings.simulated,
    sequence: state.sequence,
    wallMs: moment.wallMs,
    profile: [...profiles].join(', ') || settings.defaults.profile,
    constraintsDigest:
      asked && isStricter ? digestOf(`${state.constraintsDigest}\n${canonicalText(asked)}`) : state.constraintsDigest,
    ...(extra.intensity !== undefined && { intensity: extra.intensity }),
  });
}

/** The findings that stand for the nodes asked about, from their last evaluation. */
export function standingFindings(state: SafetyState, scope: Scope): Finding[] {
  if (scope.kind === 'all') return [...state.nodes.values()].flatMap((node) => node.findings);
  // A lease is most often of one node.
  const names = scope.nodes.length > 1 ? [...new Set(scope.nodes)] : scope.nodes;
  return names.flatMap((name) => state.nodes.get(name)?.findings ?? []);
}

/** What a lease's holder must do now. */
export function resultForLease(
  state: SafetyState,
  lease: Lease,
  moment: { readonly elapsedMs: number; readonly wallMs: number },
): SafetyResult {
  const scope = lease.nodes ? scopeOf(lease.nodes) : scopeOf(untouchedNodes(state, lease));
  const findings = standingFindings(state, scope).filter((finding) => finding.level !== 'refusal');
  if (!findings.some(isReduction)) findings.push(...heldFindings(lease, moment.elapsedMs));
  const unprotected = leaseUnprotected(state, lease);
  return compose(state, scope, findings, moment, {
    intensity: lease.intensity,
    unprotected,
    constraints: lease.constraints,
  });
}

/**
 * Where a lease without nodes is judged: everywhere, but for nodes whose own trip has stopped workloads that this one is
 * not among. `null` is everywhere.
 */
function untouchedNodes(state: SafetyState, lease: Lease): readonly string[] | null {
  const tripped = [...state.trips.values()].flatMap(({ scope }) => (scope.kind === 'nodes' ? scope.nodes : []));
  if (tripped.length === 0) return null;
  const isThere = (node: string): boolean => isLeaseOn(lease, node, state.inventory, state.settings.localNode);
  const isTripped = isIn({ kind: 'nodes', nodes: tripped });
  return [...state.nodes.keys()].filter((node) => !isTripped(node) || isThere(node));
}

/** What is left of a lease's cut, whose cause may be gone. */
export function heldFindings(lease: Lease, nowMs: number): Finding[] {
  if (lease.reducedUntilMs === null) return [];
  const leftS = Math.max(1, Math.ceil((lease.reducedUntilMs - nowMs) / 1000));
  return [
    {
      code: 'reduction-held',
      level: 'warning',
      component: 'workload',
      id: lease.id,
      action: 'REDUCE_INTENSITY',
      message: `The cut of "${lease.workload}" is held for ${leftS} s more`,
    },
  ];
}

export const isReduction = (finding: Finding): boolean => finding.action === 'REDUCE_INTENSITY';

function leaseUnprotected(state: SafetyState, lease: Lease): Unprotected[] {
  const list: Unprotected[] = lease.looserKeys.map((name) => ({
    code: 'constraint-ignored',
    name,
    message: `${name} of "${lease.workload}"${askedText(lease, name)} is looser than the limit in force and is ignored`,
  }));
  if (!lease.processGroup && state.actuators.get('kubernetes')?.available !== true) {
    const message =
      `Nothing can stop "${lease.workload}" but itself: its lease names no process group and Kubernetes is not ` +
      'configured';
    list.push({ code: 'no-actuator', id: lease.id, message });
  }
  return list;
}

const askedText = ({ constraints }: Lease, key: string): string =>
  constraints ? `, ${limitText(constraints, key)},` : '';
