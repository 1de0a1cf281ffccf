// THE DOOR. Everything that happens goes through this one pure function: state and event in, new state, answer and
// effects out. It looks at the clock, gives each event to its steps, and asserts the invariants before it lets go.
import { tellClockSkew } from './clock-skew.ts';
import { adoptTrips, hearStops, resetElsewhere, takeCluster, takeOverLeases } from './cluster-steps.ts';
import { groupedBy } from './collections.ts';
import { cardTemperatureC } from './constraints.ts';
import type { WorstMargin } from './evaluate.ts';
import type { Answer, Effect, Moment, SafetyEvent } from './events.ts';
import { forget } from './forgetting.ts';
import { isWithin, type Trip } from './interlock.ts';
import { invariant, unreachable } from './invariant.ts';
import { isLeaseIn } from './lease.ts';
import { isLive } from './lease-places.ts';
import {
  askLease,
  askPreflight,
  askRelease,
  askRenewal,
  lapseLeases,
  leaseDueMs,
  NOTHING_READ,
  reviveLeases,
  serviceFindings,
  updateLeases,
} from './lease-steps.ts';
import { limitsDigest } from './limits-digest.ts';
import { settleListing, takeListing } from './listing.ts';
import { blindDueMs, type Judged, judgeNode, marginOf, newNode, takeReports } from './node-step.ts';
import type { SourceReport } from './reading.ts';
import type { NodeState, SafetyState } from './state.ts';
import { Step } from './step.ts';
import {
  requestDrill,
  requestReset,
  requestStop,
  resumeStops,
  settleTrips,
  takeProgress,
  trip,
  unverifiedAtMs,
} from './trip-steps.ts';
import { compose, standingFindings } from './verdicts.ts';

export { leaseElsewhere } from './cluster-steps.ts';
export { resultForLease } from './verdicts.ts';

export interface Decision {
  readonly state: SafetyState;
  readonly answer: Answer;
  readonly effects: readonly Effect[];
}

/** Wall and monotonic time that move apart by more than this between two looks are a jump. */
const CLOCK_JUMP_MS = 15_000;
/** Nodes this close to a warning are sampled fast, and at most this many. */
const FAST_WITHIN_C = 5;
const MOST_FAST_NODES = 200;

/** Decides one event. Pure: the same arguments give the same decision. Throws only when an invariant breaks. */
export function decide(state: SafetyState, event: SafetyEvent, moment: Moment): Decision {
  invariant(moment.elapsedMs >= state.lastNowMs, 'Monotonic time went back (I9)');
  const step = new Step(state, moment);
  lookAtClock(step);
  const answer = handle(step, event);
  checkInvariants(state, step.state, event, answer);
  return { state: step.state, answer, effects: step.effects() };
}

type Times = Pick<Moment, 'elapsedMs' | 'wallMs'>;

/** By how much wall time has moved against monotonic time since the last look at the clock, ms. */
const clockMovedMs = ({ wallAheadMs }: SafetyState, { elapsedMs, wallMs }: Times): number =>
  wallMs - elapsedMs - wallAheadMs;

/** Whether the clock has jumped and no decision has noticed it yet. */
export const hasClockJumped = (state: SafetyState, now: Times): boolean =>
  Math.abs(clockMovedMs(state, now)) > CLOCK_JUMP_MS;

/** A suspend, or somebody set the clock: what was read before this look is stale; the new offset is the base. */
function lookAtClock(step: Step): void {
  const { state, moment } = step;
  const movedMs = clockMovedMs(state, moment);
  step.change({ lastNowMs: moment.elapsedMs, wallAheadMs: moment.wallMs - moment.elapsedMs });
  if (!hasClockJumped(state, moment)) return;
  step.change({ staleBeforeMs: moment.elapsedMs });
  const message = `Wall clock and monotonic clock moved apart by ${Math.round(movedMs / 1000)} s: earlier readings are stale`;
  step.tell({ name: 'clock-jumped', message }, 'warn');
  // What is answered before the next look would otherwise stand on the judgement of before.
  if (state.lastEvaluationAtMs !== null) judgeAndTrip(step, [...state.nodes.keys()]);
}

function handle(step: Step, event: SafetyEvent): Answer {
  switch (event.kind) {
    case 'clock-looked':
      return lookAtDue(step);
    case 'observed':
      observe(step, event.reports, event.why);
      return { kind: 'none' };
    case 'preflight-asked':
      observe(step, event.reports, 'question', event.request.nodes);
      return askPreflight(step, event.request);
    case 'lease-asked':
      observe(step, event.reports, 'question', event.request.nodes);
      return askLease(step, event.request, event.identity);
    case 'renewal-asked':
      if (event.reports.length > 0) observe(step, event.reports, 'question');
      // A timer may be late: what has run out is over before anything can extend it.
      lapseLeases(step);
      return askRenewal(step, event.leaseId, event.identity, event.intensity);
    case 'release-asked':
      return askRelease(step, event.leaseId, event.identity, event.isUntold ?? false);
    case 'stop-requested': {
      const answer = requestStop(step, event);
      publishIfChanged(step);
      return answer;
    }
    case 'drill-requested':
      return requestDrill(step, event.nodes, event.by);
    case 'stop-reported':
      takeProgress(step, event);
      settleTrips(step);
      return { kind: 'none' };
    case 'reset-requested': {
      observe(step, event.reports, 'question');
      const answer = requestReset(step, event);
      if (answer.kind !== 'reset-done') return answer;
      judgeAndTrip(step, [...step.state.nodes.keys()]);
      publishIfChanged(step);
      return answer;
    }
    case 'forget-requested': {
      const answer = forget(step, event);
      if (step.state.nodes.has(event.node)) judgeAndTrip(step, [event.node]);
      publishIfChanged(step);
      return answer;
    }
    case 'inventoried':
      step.change({
        actuators: new Map(event.actuators.map(({ name, available, detail }) => [name, { available, detail }])),
        inventory: {
          workloads: event.workloads,
          seesPods: event.seesPods,
          ...(event.unprotected && { unprotected: event.unprotected }),
        },
      });
      return { kind: 'none' };
    case 'nodes-listed':
      takeListing(step, event.listing);
      return { kind: 'none' };
    case 'journal-reported':
      return takeJournal(step, event.ok, event.detail);
    case 'cluster-tripped':
      adoptTrips(step, event.trips);
      publishIfChanged(step);
      return { kind: 'none' };
    case 'cluster-reset':
      resetElsewhere(step, event);
      // Before the first look there is nothing to judge, and what was missing before a restart would count as missing now.
      if (step.state.lastEvaluationAtMs !== null) judgeAndTrip(step, [...step.state.nodes.keys()]);
      publishIfChanged(step);
      return { kind: 'none' };
    case 'cluster-heard':
      hearStops(step, event.joined);
      return { kind: 'none' };
    case 'cluster-reported':
      takeCluster(step, event.cluster);
      publishIfChanged(step);
      return { kind: 'none' };
    case 'leases-taken-over':
      takeOverLeases(step, event.leases);
      return { kind: 'none' };
    case 'restore-reported': {
      const { tripId, by, message } = event;
      step.tell({ name: 'restore', tripId, message, by }, 'warn');
      return { kind: 'none' };
    }
    case 'history-reported':
      // Told and no more: nothing depends on what was.
      step.tell({ name: `history-${event.what}`, message: event.detail }, event.what === 'back' ? 'info' : 'warn');
      return { kind: 'none' };
    case 'started':
      resumeStops(step);
      return { kind: 'none' };
    default:
      return unreachable(event);
  }
}

/**
 * Readings came in: take them, judge, trip, and publish if this was a tick or the action changed. Nodes that are `asked`
 * about (`null`: all) are judged as they stand now, read or not, so that no answer tells what has not been acted on.
 */
function observe(
  step: Step,
  reports: readonly SourceReport[],
  why: 'tick' | 'fast' | 'question',
  asked: readonly string[] | null = [],
): void {
  const byNode = groupedBy(reports, ({ node }) => node);
  for (const [node, own] of byNode) takeReports(step, node, own);
  if (why === 'tick') {
    for (const name of step.state.settings.nodes.keys()) {
      if (!step.state.nodes.has(name)) addNode(step, name);
    }
  }
  tellClockSkew(step, reports);
  if (why === 'tick') settleListing(step);
  // The first evaluation that counts gives leases of before their full TTL, before anything is judged by them.
  reviveLeases(step);
  const askedNames = new Set(asked);
  const isTouched = (name: string): boolean => byNode.has(name) || asked === null || askedNames.has(name);
  judgeAndTrip(
    step,
    [...step.state.nodes.keys()].filter((name) => why === 'tick' || isTouched(name)),
  );
  // Only a look at every node is an evaluation: fast samples of one node must not keep another one's lease alive.
  const isWhole = why === 'tick' || byNode.size === step.state.nodes.size;
  step.change({
    ...(isWhole && { lastEvaluationAtMs: step.nowMs }),
    ...(why === 'tick' && { lastTickAtMs: step.nowMs }),
  });
  step.change({ constraintsDigest: limitsDigest(step.state) });
  updateLeases(step);
  lapseLeases(step);
  settleTrips(step);
  if (why === 'tick') publish(step);
  else publishIfChanged(step);
}

function addNode(step: Step, name: string): void {
  step.setNode(name, newNode(step.state, name));
}

function judgeAndTrip(step: Step, nodes: readonly string[]): void {
  const judged: Judged[] = nodes.map((node) => judgeNode(step, node));
  for (const { node, hardStops, blind } of judged) {
    const [hardStop] = hardStops;
    if (hardStop) {
      const scope =
        step.state.settings.tripScope === 'cluster'
          ? ({ kind: 'all' } as const)
          : ({ kind: 'nodes', nodes: [node] } as const);
      trip(step, { scope, cause: 'hard-stop', reason: hardStop.message, by: 'monitor' });
    }
    const [missing] = blind;
    if (missing) {
      trip(step, { scope: { kind: 'nodes', nodes: [node] }, cause: 'blind', reason: missing.message, by: 'monitor' });
    }
  }
}

/** Something is due: a second look that nobody answered, a lease, a stop that should be verified by now. */
function lookAtDue(step: Step): Answer {
  const due = [...step.state.nodes].filter(
    ([, node]) =>
      [...node.looks.values()].some((look) => look.deadlineMs <= step.nowMs) ||
      (blindDueMs(step.state, node) ?? Infinity) <= step.nowMs,
  );
  if (due.length > 0)
    judgeAndTrip(
      step,
      due.map(([name]) => name),
    );
  lapseLeases(step);
  settleTrips(step);
  publishIfChanged(step);
  return { kind: 'none' };
}

function takeJournal(step: Step, ok: boolean, detail: string): Answer {
  if (step.state.journal.ok === ok) return { kind: 'none' };
  step.change({ journal: { ok, detail } });
  const message = ok ? `The journal works again: ${detail}` : `The journal cannot be written: ${detail}`;
  step.tell({ name: ok ? 'journal-back' : 'journal-failed', message }, ok ? 'info' : 'error');
  publishIfChanged(step);
  return { kind: 'none' };
}

/** True while some node has no live workload: there the tick judges as a start is judged. */
function hasIdleNode(state: SafetyState): boolean {
  return [...state.nodes.keys()].some((node) => !isLive(state, node));
}

/** The published verdict: all nodes, live ones judged as running, idle ones as a start would be. */
function overall(step: Step): ReturnType<typeof compose> {
  const scope = { kind: 'all' } as const;
  const findings = standingFindings(step.state, scope);
  if (step.state.nodes.size === 0) findings.push(NOTHING_READ);
  if (step.state.nodes.size === 0 || hasIdleNode(step.state)) findings.push(...serviceFindings(step));
  return compose(step.state, scope, findings, step.moment);
}

function publish(step: Step, result = overall(step)): void {
  const margins = [...step.state.nodes.values()].flatMap((node) => {
    const margin = publishedMarginOf(step, node);
    return margin ? [margin] : [];
  });
  step.publishEvaluation(result, margins);
  step.change({ margins: step.margins });
}

/** Of a node that this step did not judge the margin of the last publication, where nothing was read since. */
function publishedMarginOf(step: Step, node: NodeState): WorstMargin | null {
  const last = step.state.margins.get(node.watch);
  if (step.margins.has(node.watch) || last?.limits !== node.limits) return marginOf(step, node);
  step.margins.set(node.watch, last);
  return last.margin;
}

/** A change of action is published at once; before the first tick there is nothing to change. */
function publishIfChanged(step: Step): void {
  if (step.state.publishedAction === null) return;
  const result = overall(step);
  if (result.action !== step.state.publishedAction) publish(step, result);
}

/** When the clock must be looked at next, monotonic; `null` when nothing is due. */
export function nextWakeMs(state: SafetyState): number | null {
  let nextMs = Infinity;
  for (const lease of state.leases.values()) nextMs = Math.min(nextMs, leaseDueMs(state, lease) ?? Infinity);
  for (const active of state.trips.values()) nextMs = Math.min(nextMs, unverifiedAtMs(active) ?? Infinity);
  for (const node of state.nodes.values()) {
    for (const look of node.looks.values()) {
      // A look whose time is over has tripped; it stands until the reading comes down and needs no waking.
      if (look.deadlineMs > state.lastNowMs) nextMs = Math.min(nextMs, look.deadlineMs);
    }
    const blindMs = blindDueMs(state, node);
    if (blindMs !== null && blindMs > state.lastNowMs) nextMs = Math.min(nextMs, blindMs);
  }
  return nextMs === Infinity ? null : nextMs;
}

/** Nodes worth sampling fast, worst first: a live workload, an open second look, or a temperature near its warning. */
export function fastNodes(state: SafetyState): string[] {
  const scored: { name: string; score: number }[] = [];
  for (const [name, node] of state.nodes) {
    const nearC = nearestWarningC(node);
    const isHot = nearC <= FAST_WITHIN_C;
    if (!isHot && node.looks.size === 0 && !isLive(state, name)) continue;
    scored.push({ name, score: node.looks.size > 0 ? -Infinity : nearC });
  }
  return scored
    .sort((a, b) => a.score - b.score)
    .slice(0, MOST_FAST_NODES)
    .map(({ name }) => name);
}

/** The smallest distance of a temperature to its warning, °C; negative over it, infinite when none is read. */
function nearestWarningC(node: NodeState): number {
  const { gpu, cpu } = node.limits.constraints;
  let nearestC = Infinity;
  for (const source of node.watch.sources.values()) {
    for (const track of source.tracks.values()) {
      if (track.raw.quantity !== 'temperature' || track.state.kind !== 'valid') continue;
      const id = node.watch.gpus.aliases.get(track.raw.id ?? '') ?? track.raw.id ?? '';
      const profile =
        track.raw.component === 'gpu'
          ? cardTemperatureC(gpu.temperatureC, node.limits.slowdownC.get(id))
          : cpu.temperatureC;
      nearestC = Math.min(nearestC, profile.warning - track.value);
    }
  }
  return nearestC;
}

/** What must hold after every step; `docs/interlock.md` numbers them. */
function checkInvariants(before: SafetyState, after: SafetyState, event: SafetyEvent, answer: Answer): void {
  for (const [id, { scope }] of before.trips) {
    if (after.trips.has(id)) continue;
    const isTakenOver = [...after.trips.values()].some((other) => isWithin(scope, other.scope));
    const isReset =
      (event.kind === 'reset-requested' && event.tripId === id && event.stage !== 'judge') ||
      (event.kind === 'cluster-reset' && event.tripIds.includes(id));
    invariant(isReset || isTakenOver, `Trip ${id} ended without an operator's reset (I1)`);
  }
  for (const [id, lease] of after.leases === before.leases ? [] : after.leases) {
    if (before.leases.has(id)) continue;
    const isTakenOver = event.kind === 'leases-taken-over';
    // A start is judged everywhere; what has run on since before a node's trip only where it runs.
    const isHeldBy = ({ scope }: Trip): boolean => {
      if (isTakenOver) return isLeaseIn(lease, scope, after.inventory, after.settings.localNode);
      return scope.kind === 'all' || !lease.nodes || lease.nodes.some((node) => scope.nodes.includes(node));
    };
    const isHeld = [...after.trips.values()].some(isHeldBy);
    invariant((isTakenOver || event.kind === 'lease-asked') && !isHeld, `Lease ${id} was granted while tripped (I2)`);
  }
  invariant(after.epoch >= before.epoch, 'The epoch went back (I11)');
  const isTick = event.kind === 'observed' && event.why === 'tick';
  if (isTick) invariant(after.lastResult !== before.lastResult, 'A tick ended without a result (I4)');
  const published = after.lastResult === before.lastResult ? null : after.lastResult;
  for (const result of [published, 'result' in answer ? answer.result : null]) {
    if (!result) continue;
    const worst = result.findings[0]?.action ?? 'PROCEED';
    invariant(result.action === worst, `The action ${result.action} is not the worst finding's, ${worst} (I7)`);
    const isTripped = result.interlock.state === 'tripped';
    invariant(result.action !== 'ABORT' || isTripped, 'ABORT was answered untripped');
  }
}
