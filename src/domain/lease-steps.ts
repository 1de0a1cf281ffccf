// Leases and preflights: both are one question, "may this start?", answered by one function. A lease is a preflight
// that, if the answer is yes, is written down.
import { clusterFindings, leaseElsewhere } from './cluster-steps.ts';
import { limitText, looserKeys, stricterOf } from './constraints.ts';
import { formatValue, type NodeLimits } from './evaluate.ts';
import type { Answer, LeaseRequest, StartRequest } from './events.ts';
import { invariant } from './invariant.ts';
import { gpuNamed } from './known-gpus.ts';
import { EVALUATION_COUNTS_MS, intensityCapOf, isNotObeying, type Lease, leaseAfter, MOST_LEASES } from './lease.ts';
import { type Ending, endLeases, stopLeases } from './lease-endings.ts';
import { unmonitoredFindings } from './listing.ts';
import { newNode, startFindings } from './node-step.ts';
import type { Finding, SafetyResult, Unprotected } from './result.ts';
import { type Action, worstOf } from './result.ts';
import { isKnownNode, type NodeState, type SafetyState } from './state.ts';
import type { Step } from './step.ts';
import {
  compose,
  heldFindings,
  isIn,
  isReduction,
  resultForLease,
  type Scope,
  scopeOf,
  standingFindings,
} from './verdicts.ts';

/** Findings that only a start has: they are about this service, not about the hardware. */
export function serviceFindings(step: Step): Finding[] {
  const { state, nowMs } = step;
  const findings: Finding[] = [];
  const refuse = (code: Finding['code'], component: Finding['component'], message: string): void => {
    findings.push({ code, level: 'refusal', component, action: 'WAIT_COOLDOWN', message });
  };
  for (const [name, actuator] of state.actuators) {
    if (!actuator.available)
      refuse('actuator-unavailable', 'actuator', `Actuator ${name} is not available: ${actuator.detail}`);
  }
  if (!state.journal.ok) {
    refuse(
      'journal-unavailable',
      'monitor',
      `The journal cannot be written, so no lease would outlive a restart: ${state.journal.detail}`,
    );
  }
  findings.push(...clusterFindings(state));
  const { intervalMs } = state.settings;
  if (state.lastTickAtMs === null) refuse('tick-late', 'monitor', 'The first evaluation has not been made yet');
  else if (nowMs - state.lastTickAtMs > intervalMs * 1.5) {
    const ageS = Math.round((nowMs - state.lastTickAtMs) / 1000);
    refuse(
      'tick-late',
      'monitor',
      `The last evaluation is ${ageS} s old, at most ${(intervalMs * 1.5) / 1000} s are allowed`,
    );
  }
  return findings;
}

/** What an answer about no node at all says: a loop over nothing would find nothing wrong. */
export const NOTHING_READ: Finding = Object.freeze({
  code: 'reading-missing',
  level: 'missing',
  component: 'monitor',
  action: 'WAIT_COOLDOWN',
  message: 'No node has been read yet',
});

interface Judgement {
  readonly result: SafetyResult;
  readonly intensity: number;
  readonly isTripped: boolean;
  readonly retryAfterSeconds: number | null;
}

/**
 * May this start? The nodes asked about have just been judged with readings taken for the question. `holder` is the lease
 * that asks for more: its cut is halved from what it has, not from what it would like.
 */
function judgeStart(step: Step, request: StartRequest, holder: Lease | null = null): Judgement {
  const { state } = step;
  const scope = scopeOf(request.nodes);
  const asked = isIn(scope);
  const findings = serviceFindings(step);
  const unprotected: Unprotected[] = [];
  let maximum = state.settings.defaults.constraints.workload.intensityRatio.max;
  const names = request.nodes ?? [...state.nodes.keys()];
  if (names.length > 0) maximum = 1;
  for (const name of names) {
    const node = state.nodes.get(name) ?? newNode(state, name);
    const limits = limitsForRequest(node, request);
    const own = startFindings(step, node, node.limits, node.findings);
    const asRequested = request.constraints ? startFindings(step, node, limits, node.findings) : own;
    findings.push(...withoutForeignAborts(asRequested, own));
    maximum = Math.min(maximum, limits.constraints.workload.intensityRatio.max);
    if (request.constraints) {
      for (const key of looserKeys(request.constraints, node.limits.constraints, request.constraintKeys)) {
        const message =
          `${key} of the request is ${limitText(request.constraints, key)}, looser than ` +
          `${limitText(node.limits.constraints, key)} on ${name}, and is ignored`;
        unprotected.push({ code: 'constraint-ignored', node: name, name: key, message });
      }
    }
  }
  findings.push(...unmonitoredFindings(state, request.nodes));
  if (names.length === 0) findings.push(NOTHING_READ);
  if (holder && !findings.some(isReduction)) findings.push(...heldFindings(holder, step.nowMs));
  const intensity = request.intensity ?? maximum;
  const isOverAsked = intensity > maximum;
  if (isOverAsked) {
    findings.push({
      code: 'over-maximum',
      level: 'refusal',
      component: 'workload',
      quantity: 'intensity',
      value: intensity,
      unit: 'ratio',
      limit: maximum,
      action: 'REDUCE_INTENSITY',
      message: `Intensity ${formatValue(intensity, 'ratio')} was asked for, maximum is ${formatValue(maximum, 'ratio')}`,
    });
  }
  const given = holder?.intensity ?? intensity;
  const result = compose(state, scope, findings, step.moment, {
    intensity: given,
    unprotected,
    constraints: request.constraints,
  });
  const trips = [...state.trips.values()];
  const isTripped = trips.some((trip) => trip.scope.kind === 'all' || trip.scope.nodes.some(asked));
  const retryAfterSeconds =
    result.safe || isOverAsked ? null : (result.waitSeconds ?? Math.ceil(state.settings.intervalMs / 1000));
  return { result, intensity, isTripped, retryAfterSeconds };
}

function limitsForRequest(node: NodeState, request: StartRequest): NodeLimits {
  if (!request.constraints) return node.limits;
  return { ...node.limits, constraints: stricterOf(node.limits.constraints, request.constraints) };
}

/**
 * A request's own stricter hard stop refuses its start; it must not stop workloads that run by other limits. Only what
 * is over the limits in force may say ABORT, and that has tripped already.
 */
function withoutForeignAborts(asRequested: readonly Finding[], own: readonly Finding[]): Finding[] {
  return asRequested.map((finding) => {
    if (finding.action !== 'ABORT') return finding;
    const isOwn = own.some(
      (other) =>
        other.action === 'ABORT' &&
        other.component === finding.component &&
        other.id === finding.id &&
        other.quantity === finding.quantity,
    );
    return isOwn ? finding : { ...finding, action: 'WAIT_COOLDOWN' as const };
  });
}

function unknownNodes(state: SafetyState, nodes: readonly string[] | null): string[] {
  return nodes?.filter((node) => !isKnownNode(state, node)) ?? [];
}

const nodesAsked = (state: SafetyState, nodes: readonly string[] | null): NodeState[] =>
  [...state.nodes].flatMap(([name, node]) => (!nodes || nodes.includes(name) ? [node] : []));

function namedGpu(state: SafetyState, nodes: readonly string[] | null, name: string): string | null {
  const found = nodesAsked(state, nodes).map((node) => gpuNamed(node.watch.gpus, name));
  return found.find((gpu) => gpu !== null)?.id ?? null;
}

function knownGpus(state: SafetyState, nodes: readonly string[] | null): string[] {
  return nodesAsked(state, nodes).flatMap((node) => [...node.watch.gpus.known.keys()]);
}

export function askPreflight(step: Step, request: StartRequest): Answer {
  const unknown = unknownNodes(step.state, request.nodes);
  if (unknown.length > 0) return { kind: 'unknown-nodes', nodes: unknown };
  const { result, isTripped, retryAfterSeconds } = judgeStart(step, request);
  return { kind: 'judged', result, isTripped, retryAfterSeconds };
}

export function askLease(step: Step, request: LeaseRequest, identity: string): Answer {
  const { state } = step;
  const same = state.leases.get(request.id);
  if (same && same.identity !== identity) return { kind: 'lease-forbidden' };
  if (same) return { kind: 'granted', lease: same, result: resultForLease(state, same, step.moment) };
  const ended = state.endedLeases.get(request.id);
  if (ended) return ended.identity === identity ? { kind: 'lease-ended', ended } : { kind: 'lease-forbidden' };
  const unknown = unknownNodes(state, request.nodes);
  if (unknown.length > 0) return { kind: 'unknown-nodes', nodes: unknown };
  const gpus = request.gpus?.map((name) => namedGpu(state, request.nodes, name)) ?? null;
  if (gpus?.includes(null)) {
    const asked = request.gpus?.filter((_, place) => gpus[place] === null) ?? [];
    return { kind: 'gpu-unknown', asked, known: knownGpus(state, request.nodes) };
  }
  if (state.leases.size >= MOST_LEASES) return { kind: 'lease-limit', limit: MOST_LEASES };
  const { result, intensity, isTripped, retryAfterSeconds } = judgeStart(step, request);
  if (!result.safe) return { kind: 'judged', result, isTripped, retryAfterSeconds };
  invariant(!isTripped && result.interlock.state === 'clear', 'A lease may be granted only when clear (I2)');
  const lease: Lease = {
    id: request.id,
    workload: request.workload,
    identity,
    nodes: request.nodes,
    gpus: gpus?.flatMap((id) => id ?? []) ?? null,
    intensity,
    ttlMs: request.ttlMs,
    maxDurationMs: request.maxDurationMs,
    processGroup: request.processGroup,
    constraints: request.constraints,
    looserKeys: [
      ...new Set(result.unprotected.flatMap(({ code, name }) => (code === 'constraint-ignored' && name ? [name] : []))),
    ],
    grantedWallMs: step.moment.wallMs,
    expiresAtMs: step.nowMs + request.ttlMs,
    endsAtMs: request.maxDurationMs === null ? null : step.nowMs + request.maxDurationMs,
    bootId: state.settings.bootId,
    simulated: state.settings.simulated,
    reducedUntilMs: null,
    told: { action: 'PROCEED', sinceMs: step.nowMs, notObeyed: false },
  };
  step.change({ leases: new Map(state.leases).set(lease.id, lease) });
  const why = `lease "${lease.workload}" (${lease.id}) granted to ${identity} at intensity ${intensity}`;
  step.record(`lease/${lease.id}`, lease, why);
  step.tell({
    name: 'lease-granted',
    leaseId: lease.id,
    message: `Lease "${lease.workload}" granted at intensity ${intensity}`,
  });
  return { kind: 'granted', lease, result: resultForLease(step.state, lease, step.moment) };
}

type Found = { readonly lease: Lease } | { readonly answer: Answer };

function findLease(state: SafetyState, id: string, identity: string): Found {
  const lease = state.leases.get(id);
  if (lease) return lease.identity === identity ? { lease } : { answer: { kind: 'lease-forbidden' } };
  const ended = state.endedLeases.get(id);
  if (!ended) return { answer: leaseElsewhere(state) ?? { kind: 'lease-unknown' } };
  return { answer: ended.identity === identity ? { kind: 'lease-ended', ended } : { kind: 'lease-forbidden' } };
}

/** Renews; a raise is judged as a start and, when refused, leaves the lease renewed and unchanged. */
export function askRenewal(step: Step, leaseId: string, identity: string, intensity: number | null): Answer {
  const found = findLease(step.state, leaseId, identity);
  if ('answer' in found) return found.answer;
  const evaluatedAtMs = step.state.lastEvaluationAtMs;
  const ageMs = evaluatedAtMs === null ? null : step.nowMs - evaluatedAtMs;
  if (ageMs === null || ageMs > EVALUATION_COUNTS_MS || found.lease.expiresAtMs === null) {
    return { kind: 'evaluation-too-old', ageSeconds: ageMs === null ? null : Math.round(ageMs / 1000) };
  }
  let lease: Lease = { ...found.lease, expiresAtMs: step.nowMs + found.lease.ttlMs };
  let refused: SafetyResult | null = null;
  if (intensity !== null && intensity !== lease.intensity) {
    const judgement = intensity > lease.intensity ? judgeRaise(step, lease, intensity) : null;
    if (judgement && !judgement.safe) refused = judgement;
    else {
      lease = { ...lease, intensity };
      step.record(`lease/${lease.id}`, lease, `lease "${lease.workload}" now at intensity ${intensity}`);
    }
  }
  step.change({ leases: new Map(step.state.leases).set(lease.id, lease) });
  return { kind: 'renewed', lease, result: refused ?? resultForLease(step.state, lease, step.moment) };
}

/** Whether a lease may have more. While its cut is held it may not, or asking for more would lift the cut. */
function judgeRaise(step: Step, lease: Lease, intensity: number): SafetyResult {
  const { nodes, constraints } = lease;
  const { result } = judgeStart(step, { intensity, nodes, constraints, constraintKeys: [] }, lease);
  if (result.intensityCap === undefined) return result;
  // A maximum that refused the raise may be over what was granted; the holder obeys what it reads here.
  return { ...result, intensityCap: Math.min(result.intensityCap, intensityCapOf(lease)) };
}

export function askRelease(step: Step, leaseId: string, identity: string, isUntold = false): Answer {
  const found = findLease(step.state, leaseId, identity);
  if ('answer' in found) {
    const isReleased = found.answer.kind === 'lease-ended' && found.answer.ended.outcome === 'released';
    return isReleased ? { kind: 'released' } : found.answer;
  }
  if (isUntold) {
    const leases = new Map(step.state.leases);
    leases.delete(found.lease.id);
    step.change({ leases });
    const message = `The grant of "${found.lease.workload}" could not be written and is void`;
    step.record(`lease/${found.lease.id}`, null, message);
    step.tell({ name: 'lease-ended', leaseId: found.lease.id, message }, 'warn');
    return { kind: 'released' };
  }
  endLeases(step, [{ lease: found.lease, outcome: 'released', reason: 'given back by its holder' }]);
  return { kind: 'released' };
}

/** Every live lease after an evaluation: cut or freed, and told about when it does not obey. */
export function updateLeases(step: Step): void {
  const { state, nowMs } = step;
  if (state.leases.size === 0) return;
  // Thousands of leases, and most looks change none: then what is kept beside their set serves on.
  let leases: Map<string, Lease> | null = null;
  const everything = actionOf(state, { kind: 'all' });
  for (const lease of state.leases.values()) {
    const { action, isReducing } = lease.nodes ? actionOf(state, scopeOf(lease.nodes)) : everything;
    let after = leaseAfter(lease, action, isReducing, nowMs);
    if ((lease.reducedUntilMs === null) !== (after.reducedUntilMs === null)) tellCut(step, after);
    if (isNotObeying(after, nowMs)) {
      after = { ...after, told: { ...after.told, notObeyed: true } };
      const message = `"${lease.workload}" has been told ${action} for two minutes and the cause still stands`;
      step.tell({ name: 'not-obeyed', leaseId: lease.id, message }, 'warn');
    }
    if (after === lease) continue;
    leases ??= new Map(state.leases);
    leases.set(lease.id, after);
  }
  if (leases) step.change({ leases });
}

function tellCut(step: Step, lease: Lease): void {
  const isCut = lease.reducedUntilMs !== null;
  const cap = intensityCapOf(lease);
  const message = isCut
    ? `"${lease.workload}" is cut to intensity ${cap}`
    : `"${lease.workload}" may use intensity ${cap} again`;
  step.record(`lease/${lease.id}`, lease, message);
  step.tell({ name: isCut ? 'intensity-reduced' : 'intensity-restored', leaseId: lease.id, message });
}

function actionOf(state: SafetyState, scope: Scope): { readonly action: Action; readonly isReducing: boolean } {
  let action: Action = 'PROCEED';
  let isReducing = false;
  for (const finding of standingFindings(state, scope)) {
    if (finding.level === 'refusal') continue;
    action = worstOf(action, finding.action);
    isReducing ||= isReduction(finding);
  }
  return { action, isReducing };
}

/** Ends leases whose holder fell silent or whose time is over, and stops their workloads alone. */
export function lapseLeases(step: Step): void {
  const endings: Ending[] = [];
  for (const lease of step.state.leases.values()) {
    if ((leaseDueMs(step.state, lease) ?? Infinity) > step.nowMs) continue;
    if (lease.endsAtMs !== null && step.nowMs >= lease.endsAtMs) {
      const reason = `its maximum duration of ${(lease.maxDurationMs ?? 0) / 1000} s is over`;
      endings.push({ lease, outcome: 'revoked', reason });
    } else if (lease.expiresAtMs !== null && step.nowMs >= lease.expiresAtMs) {
      endings.push({ lease, outcome: 'lapsed', reason: `it was not renewed within ${lease.ttlMs / 1000} s` });
    }
  }
  endLeases(step, endings);
  stopLeases(
    step,
    endings.map(({ lease }) => lease),
  );
}

/**
 * When a lease is over if nobody renews it, monotonic; `null` is not known yet. While this process does not lead, another
 * one may, and be renewed there; and until its leases have been taken over nobody knows how long that went on. Till then
 * only what runs on this machine lapses, or pods would be stopped in their run.
 */
export function leaseDueMs({ cluster }: SafetyState, lease: Lease): number | null {
  const isRenewedHere = !cluster || (cluster.leadership.state === 'leader' && cluster.areLeasesKnown);
  if (!isRenewedHere && lease.processGroup === null) return null;
  const dueMs = Math.min(lease.expiresAtMs ?? Infinity, lease.endsAtMs ?? Infinity);
  return dueMs === Infinity ? null : dueMs;
}

/**
 * After a restart, and after leases were taken over, the first evaluation gives each one full TTL; those of a restart
 * once per start.
 */
export function reviveLeases(step: Step): void {
  if (![...step.state.leases.values()].some(({ expiresAtMs }) => expiresAtMs === null)) return;
  const leases = new Map(step.state.leases);
  for (const lease of leases.values()) {
    if (lease.expiresAtMs === null) leases.set(lease.id, { ...lease, expiresAtMs: step.nowMs + lease.ttlMs });
  }
  step.change({ leases });
}
