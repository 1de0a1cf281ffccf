// The answer: findings, one action, and what follows from it. The order of the actions lives here and nowhere else.
import { invariant } from './invariant.ts';
import type { HardwareComponent, Quantity, Unit } from './reading.ts';

/** In ascending order of severity; the worst finding's action is the result's (I7). */
export const ACTIONS = ['PROCEED', 'REDUCE_INTENSITY', 'WAIT_COOLDOWN', 'ABORT'] as const;
export type Action = (typeof ACTIONS)[number];

/** Position in the order: 0 for PROCEED to 3 for ABORT. */
export function severityOf(action: Action): number {
  const severity = ACTIONS.indexOf(action);
  invariant(severity >= 0, `Unknown action ${action}`);
  return severity;
}

/** The more severe of two actions. */
export function worstOf(a: Action, b: Action): Action {
  return severityOf(a) >= severityOf(b) ? a : b;
}

export const FINDING_CODES = [
  'over-warning',
  'over-hard-stop',
  'over-maximum',
  'reading-missing',
  'hardware-throttle',
  'reduction-held',
  'interlock-cooling',
  'interlock-tripped',
  'actuator-unavailable',
  'tick-late',
  'state-unknown',
  'not-leader',
  'source-too-slow',
  'node-unmonitored',
  'journal-unavailable',
] as const;
export type FindingCode = (typeof FINDING_CODES)[number];

export const FINDING_LEVELS = ['warning', 'critical', 'missing', 'refusal'] as const;
export type FindingLevel = (typeof FINDING_LEVELS)[number];

export type FindingComponent = HardwareComponent | 'workload' | 'interlock' | 'actuator' | 'monitor';

/** One constraint warned or broken, with its numbers. */
export interface Finding {
  readonly code: FindingCode;
  readonly level: FindingLevel;
  readonly node?: string;
  readonly component: FindingComponent;
  readonly id?: string;
  readonly quantity?: Quantity;
  readonly value?: number;
  readonly unit?: Unit;
  readonly limit?: number;
  readonly action: Action;
  readonly message: string;
  /** `interlock-cooling`: what is left. */
  readonly waitSeconds?: number;
}

/**
 * Something that is not protected, told in every answer: a waiver, an unmeasured quantity, a missing actuator, or
 * somebody who may undo a stop.
 */
export interface Unprotected {
  readonly code:
    | 'waived'
    | 'ignored'
    | 'not-measured'
    | 'no-actuator'
    | 'no-deny-rule'
    | 'may-be-raised'
    | 'constraint-ignored';
  readonly node?: string;
  readonly id?: string;
  /** The waiver or requirement name: `gpu-power`, `total-power` …; for a looser request the constraint's key. */
  readonly name?: string;
  readonly message: string;
}

export type InterlockState = 'clear' | 'cooling' | 'tripped';

/** The interlock of the nodes that a result covers. */
export interface InterlockView {
  readonly state: InterlockState;
  /** The trip of everything, or the first of the nodes asked about. */
  readonly tripId?: string;
  /** Nodes that are not clear. */
  readonly nodes: Readonly<Record<string, InterlockState>>;
}

/** The one shape of every verdict. */
export interface SafetyResult {
  readonly safe: boolean;
  readonly action: Action;
  readonly reason: string;
  /** The nodes that this result covers; `all` when nobody named any. */
  readonly scope: { readonly kind: 'all' } | { readonly kind: 'nodes'; readonly nodes: readonly string[] };
  readonly findings: readonly Finding[];
  readonly findingsTotal: number;
  readonly unprotected: readonly Unprotected[];
  readonly waitSeconds?: number;
  readonly intensityFactor?: number;
  readonly intensityCap?: number;
  readonly suggestedPowerCapW?: number;
  readonly interlock: InterlockView;
  readonly simulated?: true;
  readonly sequence: number;
  /** ISO 8601, wall clock. */
  readonly evaluatedAt: string;
  readonly profile: string;
  readonly constraintsDigest: string;
}

/** The most findings and the most unprotected entries that one answer carries. */
export const MOST_FINDINGS = 100;

/** Wait this long on WAIT_COOLDOWN, and cut to this share on REDUCE_INTENSITY. */
export const COOLDOWN_SECONDS = 60;
export const REDUCTION_FACTOR = 0.5;

const LEVEL_ORDER: Record<FindingLevel, number> = { critical: 0, missing: 1, warning: 2, refusal: 3 };

/** Worst first; equals in a stable order, so that two results of the same findings are the same. */
export function bySeverity(a: Finding, b: Finding): number {
  return (
    severityOf(b.action) - severityOf(a.action) ||
    LEVEL_ORDER[a.level] - LEVEL_ORDER[b.level] ||
    compareText(a.node, b.node) ||
    compareText(a.component, b.component) ||
    compareText(a.id, b.id)
  );
}

function compareText(a = '', b = ''): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}

/** What `resultOf` is told beside the findings. */
export interface ResultContext {
  readonly scope: SafetyResult['scope'];
  readonly unprotected: readonly Unprotected[];
  readonly interlock: InterlockView;
  readonly simulated: boolean;
  readonly sequence: number;
  readonly wallMs: number;
  readonly profile: string;
  readonly constraintsDigest: string;
  /** What the intensity cap is half of: what was granted, at a start what was asked. */
  readonly intensity?: number;
}

/** Joins findings to one verdict: the worst action, its reason, and the numbers that tell a client what to do. */
export function resultOf(findings: readonly Finding[], context: ResultContext): SafetyResult {
  const sorted = [...findings].sort(bySeverity);
  const action = sorted[0]?.action ?? 'PROCEED';
  const worst = sorted[0];
  const rest = sorted.length - 1;
  const reason = worst ? worst.message + (rest > 0 ? ` (and ${rest} more)` : '') : 'Every check passes';
  const waitSeconds = waitOf(sorted);
  const reduction = reductionOf(sorted, context.intensity);
  return {
    safe: action === 'PROCEED',
    action,
    reason,
    scope: context.scope,
    findings: sorted.slice(0, MOST_FINDINGS),
    findingsTotal: sorted.length,
    unprotected: context.unprotected.slice(0, MOST_FINDINGS),
    ...(action === 'WAIT_COOLDOWN' && { waitSeconds }),
    ...reduction,
    interlock: context.interlock,
    ...(context.simulated && { simulated: true as const }),
    sequence: context.sequence,
    evaluatedAt: new Date(context.wallMs).toISOString(),
    profile: context.profile,
    constraintsDigest: context.constraintsDigest,
  };
}

/** 60 s for a finding that says nothing else; what is left of a cooldown when that is all that is in the way. */
function waitOf(findings: readonly Finding[]): number {
  const waits = findings
    .filter((finding) => finding.action === 'WAIT_COOLDOWN')
    .map((finding) => finding.waitSeconds ?? COOLDOWN_SECONDS);
  // Not by Math.max(...): a fleet that is blind has more findings than a call may have arguments.
  return waits.length > 0 ? waits.reduce((longest, seconds) => Math.max(longest, seconds)) : COOLDOWN_SECONDS;
}

function reductionOf(
  findings: readonly Finding[],
  intensity: number | undefined,
): Pick<SafetyResult, 'intensityFactor' | 'intensityCap' | 'suggestedPowerCapW'> {
  const reductions = findings.filter((finding) => finding.action === 'REDUCE_INTENSITY');
  if (reductions.length === 0) return {};
  const overAsked = reductions.find((finding) => finding.quantity === 'intensity');
  const fromHardware = reductions.some((finding) => finding.quantity !== 'intensity');
  const caps = [
    ...(overAsked?.limit === undefined ? [] : [overAsked.limit]),
    ...(fromHardware && intensity !== undefined ? [intensity * REDUCTION_FACTOR] : []),
  ];
  // 5 % below the warning: a cap at the warning itself would sit on it. Advice only; we write to no card.
  const powerLimits = reductions
    .filter((finding) => finding.component === 'gpu' && finding.quantity === 'power' && finding.limit !== undefined)
    .map((finding) => Math.floor((finding.limit ?? 0) * 0.95));
  return {
    ...(fromHardware && { intensityFactor: REDUCTION_FACTOR }),
    ...(caps.length > 0 && { intensityCap: Math.min(...caps) }),
    ...(powerLimits.length > 0 && { suggestedPowerCapW: powerLimits.reduce((least, watts) => Math.min(least, watts)) }),
  };
}
