// One node, looked at and judged again: reports into its watch, readings out of it, second looks, cooldown, blindness,
// and the findings that stand until the next look.
import { describeSubject, evaluate, formatValue, type NodeLimits, type WorstMargin, worstMargin } from './evaluate.ts';
import { unprotectedOn } from './expected-readings.ts';
import { coolingAfter } from './interlock.ts';
import { NO_GPUS } from './known-gpus.ts';
import { isLive, namingLeases, withLeaseLimits } from './lease-places.ts';
import { isReadAlike, type Purpose, readGpuPowersW, readNode } from './node-readings.ts';
import { type NodeWatch, rewatchNode } from './node-watch.ts';
import { type NodeReadings, type Reading, readingKey, type SourceReport } from './reading.ts';
import type { Finding } from './result.ts';
import { cpuPowerOf } from './samples.ts';
import { lookAgain, type PendingLook, SLEPT_THROUGH_MS } from './second-look.ts';
import { gpuSettingsOf, settingsOf } from './settings.ts';
import { sourceFindings } from './source-findings.ts';
import type { NodeState, SafetyState } from './state.ts';
import type { Step } from './step.ts';
import { type SourceWatch, watchSource } from './tracking.ts';

const NOT_READY_GRACE_MS = 300_000;
/** A process that stood still while a node was blind has so long for a look, before the blindness counts: a round of a tick. */
const LOOK_WHEN_AWAKE_MS = 5_000;

/** A node of which nothing is known yet. */
export function newNode(state: SafetyState, name: string): NodeState {
  const watch: NodeWatch = {
    node: name,
    sources: new Map(),
    gpus: NO_GPUS,
    slowdownC: new Map(),
    seen: new Set(),
    cpuChips: new Map(),
  };
  return {
    watch,
    cooling: null,
    looks: new Map(),
    missingSinceMs: new Map(),
    liveSinceMs: null,
    blindCountsAtMs: null,
    graceUntilMs: state.startedAtMs + state.settings.bootGraceMs,
    graceBootId: null,
    machine: null,
    readySinceMs: null,
    blindCarryMs: 0,
    throttles: new Map(),
    limits: { constraints: settingsOf(state.settings, name).constraints, slowdownC: new Map() },
    findings: [],
    unprotected: [],
    ...state.boots.get(name),
  };
}

/** The profile of a node, made stricter by what live leases brought there, and its cards' own limits. */
function limitsOf(state: SafetyState, node: NodeState): NodeLimits {
  const name = node.watch.node;
  const constraints = withLeaseLimits(state, name, settingsOf(state.settings, name).constraints);
  const { slowdownC } = node.watch;
  const isSame = constraints === node.limits.constraints && slowdownC === node.limits.slowdownC;
  return isSame ? node.limits : { constraints, slowdownC };
}

/** Takes reports of one node into its watch. Cards seen for the first time are remembered durably. */
export function takeReports(step: Step, name: string, reports: readonly SourceReport[]): void {
  const { settings } = step.state;
  const nodeSettings = settingsOf(settings, name);
  const node = step.state.nodes.get(name) ?? newNode(step.state, name);
  let sources: Map<string, SourceWatch> | null = null;
  let { throttles } = node;
  // A CPU's temperature and its power come from different drivers, and so from different sources.
  const cpuPowerW = cpuPowerOf(reports);
  for (const report of reports) {
    const before = (sources ?? node.watch.sources).get(report.source) ?? null;
    // Two looks may come in out of order; an older one must not undo a newer.
    // And one look may answer several questions, with the same reports.
    if (before && (report === before.lastReport || report.startedAtMs < before.lastReport.startedAtMs)) continue;
    const after = watchSource(before, report, nodeSettings.staleAfterMs, cpuPowerW);
    sources ??= new Map(node.watch.sources);
    sources.set(report.source, after);
    if (!after.failure) throttles = countThrottles(throttles, report, after);
  }
  if (!sources && step.state.nodes.has(name)) return;
  const watch = rewatchNode(node.watch, sources ?? node.watch.sources, settings.simulated);
  rememberGpus(step, node.watch, watch);
  step.setNode(name, { ...node, watch, throttles });
}

/**
 * HW slowdown and power brake count in two samples running; a single one is a blink. Each source is counted
 * for itself: one that tells nothing of throttling says nothing against one that does.
 */
function countThrottles(
  before: NodeState['throttles'],
  report: SourceReport,
  watch: SourceWatch,
): NodeState['throttles'] {
  if (before.size === 0 && report.throttledGpus.length === 0) return before;
  const throttles = new Map(before);
  const active = new Set(report.throttledGpus.map(({ gpu }) => gpu));
  const prefix = `${report.source} `;
  for (const [key, { gpu }] of throttles) if (key.startsWith(prefix) && !active.has(gpu)) throttles.delete(key);
  for (const gpu of active) {
    const count = throttles.get(prefix + gpu)?.count ?? 0;
    const witness = watch.witnesses.get(gpu) ?? watch.witnesses.get('');
    const isRepeated = witness?.everChanged === true && witness.changedAtMs < report.startedAtMs;
    if (count === 0 || !isRepeated) throttles.set(prefix + gpu, { gpu, count: count + 1 });
  }
  return throttles;
}

function rememberGpus(step: Step, before: NodeWatch, after: NodeWatch): void {
  for (const gpu of after.gpus.known.values()) {
    const old = before.gpus.known.get(gpu.id);
    if (old && old.pciAddress === gpu.pciAddress && old.name === gpu.name) continue;
    const why = `GPU ${gpu.id} (${gpu.name ?? gpu.vendor}) seen on ${after.node}`;
    step.record(`gpu/${after.node}/${gpu.id}`, gpu, why);
    if (!old) step.tell({ name: 'gpu-seen', node: after.node, message: why });
  }
  for (const id of before.gpus.known.keys()) {
    if (!after.gpus.known.has(id))
      step.record(`gpu/${after.node}/${id}`, null, `GPU ${id} on ${after.node} has another name`);
  }
}

/** Readings of a node for one question, with second looks marked as they stand. */
export function readingsFor(step: Step, node: NodeState, purpose: Purpose): NodeReadings {
  const read = readOnce(step, node.watch, purpose);
  if (read.throttledGpus.length === 0) return read;
  const throttledGpus = read.throttledGpus.filter(({ gpu }) => {
    const aliases = node.watch.gpus.aliases;
    return [...node.throttles.values()].some(
      (throttle) => (aliases.get(throttle.gpu) ?? throttle.gpu) === gpu && throttle.count >= 2,
    );
  });
  return { ...read, throttledGpus };
}

function readOnce(step: Step, watch: NodeWatch, purpose: Purpose): NodeReadings {
  const { settings, staleBeforeMs } = step.state;
  const kept = step.lastRead?.watch === watch ? step.lastRead.by : {};
  let read = kept[purpose] ?? (isReadAlike(watch) ? (kept.running ?? kept.start) : undefined);
  read ??= readNode(watch, settingsOf(settings, watch.node), { purpose, nowMs: step.nowMs, staleBeforeMs });
  step.lastRead = { watch, by: { ...kept, [purpose]: read } };
  return read;
}

/** How near a node is to a limit by what counts for running workloads; `null` where nothing with a limit is read. */
export function marginOf(step: Step, { watch, limits }: NodeState): WorstMargin | null {
  const kept = step.margins.get(watch);
  if (kept?.limits === limits) return kept.margin;
  const margin = worstMargin(readOnce(step, watch, 'running'), limits);
  step.margins.set(watch, { limits, margin });
  return margin;
}

const updatePeriodOf =
  (node: NodeState) =>
  (source: string): number | null =>
    node.watch.sources.get(source)?.updatePeriodMs ?? null;

/** What judging a node found beyond its findings: what decide() must act on. */
export interface Judged {
  readonly node: string;
  readonly hardStops: readonly Finding[];
  readonly blind: readonly Finding[];
}

/** Judges a node as it stands now and keeps the findings in the state. */
export function judgeNode(step: Step, name: string): Judged {
  const before = step.state.nodes.get(name) ?? newNode(step.state, name);
  const limits = limitsOf(step.state, before);
  const running = readingsFor(step, before, 'running');
  const looked = lookAgain(before.looks, running, limits, updatePeriodOf(before), step.nowMs);
  tellLooks(step, name, before.looks, looked.pending, looked.cleared);
  const cooling = coolingAfter(before.cooling, looked.readings, limits, step.nowMs);
  tellCooling(step, before, cooling !== null);

  const live = isLive(step.state, name);
  const carriedMs = step.nowMs - before.blindCarryMs;
  const liveSinceMs = live ? (before.liveSinceMs ?? carriedMs) : null;
  const missingSinceMs = stillMissing(step, before, looked.readings, carriedMs);
  let node: NodeState = { ...before, limits, cooling, looks: looked.pending, liveSinceMs, missingSinceMs };
  const countsAtMs = blindCountsAtMs(step, node);
  if (countsAtMs !== node.blindCountsAtMs) node = { ...node, blindCountsAtMs: countsAtMs };

  const asRunning = namingLeases(step.state, name, evaluate(looked.readings, limits));
  let findings = live ? asRunning : startFindings(step, node, limits, asRunning);
  const blind: Finding[] = [];
  if (live) {
    findings = findings.map((finding) => {
      const tooLong = finding.code === 'reading-missing' ? blindTooLong(step.state, node, finding, step.nowMs) : null;
      if (tooLong === null) return finding;
      const aborting: Finding = { ...finding, action: 'ABORT', message: `${finding.message}; ${tooLong}` };
      blind.push(aborting);
      return aborting;
    });
  }
  const unprotected = unprotectedOn(node.watch, settingsOf(step.state.settings, name), looked.readings);
  // Before the actuators were asked once, "nothing runs here" is not known: the blind clock of before keeps running.
  const isLiveKnown = live || step.state.actuators.size > 0;
  node = { ...node, findings, unprotected, blindCarryMs: isLiveKnown ? 0 : before.blindCarryMs };
  rememberBlindness(step, before, node);
  step.setNode(name, node);
  marginOf(step, node);
  const hardStops = findings.filter((finding) => finding.code === 'over-hard-stop' && finding.action === 'ABORT');
  return { node: name, hardStops, blind };
}

/**
 * The findings of a node for a start: only readings taken for it count, and slow sources refuse. A hard stop that only
 * the last good readings of a failing source show stands all the same.
 */
export function startFindings(
  step: Step,
  node: NodeState,
  limits: NodeLimits,
  asRunning: readonly Finding[],
): Finding[] {
  const read = readingsFor(step, node, 'start');
  const looked = lookAgain(node.looks, read, limits, updatePeriodOf(node), step.nowMs);
  const findings = namingLeases(step.state, node.watch.node, evaluate(looked.readings, limits));
  const has = (finding: Finding): boolean =>
    findings.some((other) => other.code === finding.code && sameSubject(other, finding));
  findings.push(...asRunning.filter((finding) => finding.code === 'over-hard-stop' && !has(finding)));
  findings.push(...sourceFindings(step.state, node));
  return findings;
}

const sameSubject = (a: Finding, b: Finding): boolean =>
  a.component === b.component && a.id === b.id && a.quantity === b.quantity;

function stillMissing(
  step: Step,
  before: NodeState,
  readings: NodeReadings,
  carriedMs: number,
): ReadonlyMap<string, number> {
  const isMissing = ({ state }: Reading): boolean => state.kind === 'missing' && state.required;
  if (before.missingSinceMs.size === 0 && !readings.readings.some(isMissing)) return before.missingSinceMs;
  const missing = new Map<string, number>();
  const isFirst = step.state.lastEvaluationAtMs === null;
  for (const reading of readings.readings) {
    if (reading.state.kind !== 'missing' || !reading.state.required) continue;
    const key = readingKey(reading.component, reading.id, reading.quantity);
    const sinceMs = before.missingSinceMs.get(key);
    missing.set(key, sinceMs ?? carriedMs);
    if (sinceMs !== undefined || isFirst) continue;
    const message = `${describeSubject(reading)}: ${reading.quantity} is lost: ${reading.state.detail}`;
    step.tell({ name: 'reading-lost', node: reading.node, message }, 'warn');
  }
  for (const [key, sinceMs] of before.missingSinceMs) {
    if (missing.has(key)) continue;
    const back = readings.readings.find((r) => readingKey(r.component, r.id, r.quantity) === key);
    const now = back?.state.kind === 'measured' ? ` (${formatValue(back.state.value, back.state.unit)})` : '';
    const lostS = Math.round((step.nowMs - sinceMs) / 1000);
    const message = `${key} on ${before.watch.node} is no longer missing after ${lostS} s${now}`;
    step.tell({ name: 'reading-back', node: before.watch.node, message });
  }
  return missing;
}

/**
 * Blind too long, in words: the reading has been missing, with a workload live, for `blindAbortAfter`; for one that was
 * never seen since the start not before the boot grace is over, once per boot of the node. `null` where it is not.
 */
function blindTooLong(state: SafetyState, node: NodeState, finding: Finding, nowMs: number): string | null {
  const { component, id, quantity } = finding;
  if (quantity === undefined || node.liveSinceMs === null) return null;
  if (component !== 'gpu' && component !== 'cpu' && component !== 'memory' && component !== 'system') return null;
  const key = readingKey(component, id, quantity);
  const sinceMs = Math.max(node.missingSinceMs.get(key) ?? nowMs, node.liveSinceMs);
  const graceMs = node.watch.seen.has(key) ? -Infinity : node.graceUntilMs;
  if (nowMs < Math.max(blindFromMs(state, node, sinceMs), graceMs)) return null;
  // What is allowed has no part in when somebody was awake to see that it was over.
  const allowedMs = Math.max(blindFromMs(state, { ...node, blindCountsAtMs: null }, sinceMs), graceMs) - sinceMs;
  const [forS, allowedS] = [nowMs - sinceMs, allowedMs].map((ms) => Math.round(ms / 1000));
  return `blind for too long: ${forS} s, at most ${allowedS} s are allowed`;
}

/**
 * When a reading that is missing since `sinceMs` has been so for too long, monotonic. On a node that its cluster calls not
 * Ready nothing can be stopped through the API, and much of it is silent for a while; back again, its exporters have the
 * usual time to be read, but all in all never longer than had it stayed away.
 */
function blindFromMs({ settings }: SafetyState, node: NodeState, sinceMs: number): number {
  const { machine, readySinceMs, blindCountsAtMs } = node;
  const { blindAbortAfterMs: usualMs } = settings;
  const longestMs = sinceMs + Math.max(usualMs, NOT_READY_GRACE_MS);
  const readyMs = machine?.isReady === false ? longestMs : Math.min((readySinceMs ?? -Infinity) + usualMs, longestMs);
  return Math.max(sinceMs + usualMs, readyMs, blindCountsAtMs ?? -Infinity);
}

/** When the first reading that is missing under load has been so for too long, monotonic; `null` when none is. */
export function blindDueMs(state: SafetyState, node: NodeState): number | null {
  if (node.liveSinceMs === null || node.missingSinceMs.size === 0) return null;
  const dues = [...node.missingSinceMs].map(([key, sinceMs]) => {
    const dueMs = blindFromMs(state, node, Math.max(sinceMs, node.liveSinceMs ?? 0));
    return node.watch.seen.has(key) ? dueMs : Math.max(dueMs, node.graceUntilMs);
  });
  return Math.min(...dues);
}

/**
 * From when a node's blindness counts as too long: from the moment when the time for that has come. Where this process
 * slept through that moment nobody has tried to read the node, which may be well again: it is looked at first, once in
 * each blindness. Not after a restart, whose first evaluation comes after two looks.
 */
function blindCountsAtMs(step: Step, node: NodeState): number | null {
  const dueMs = blindDueMs(step.state, node);
  if (dueMs === null) return null;
  if (node.blindCountsAtMs !== null) return node.blindCountsAtMs;
  const { nowMs } = step;
  if (nowMs < dueMs) return null;
  if (nowMs < dueMs + SLEPT_THROUGH_MS || node.blindCarryMs > 0) return nowMs;
  const deadlineMs = nowMs + LOOK_WHEN_AWAKE_MS;
  step.effect({ kind: 'look-again', nodes: [node.watch.node], deadlineMs });
  return deadlineMs;
}

/** A crash loop must not restart the blind clock: how long it has run is remembered while it runs. */
function rememberBlindness(step: Step, before: NodeState, node: NodeState): void {
  const name = node.watch.node;
  const isBlind = node.liveSinceMs !== null && node.missingSinceMs.size > 0;
  const wasBlind = before.blindCarryMs > 0 || (before.liveSinceMs !== null && before.missingSinceMs.size > 0);
  if (isBlind) {
    const sinceMs = Math.max(Math.min(...node.missingSinceMs.values()), node.liveSinceMs ?? step.nowMs);
    const forMs = Math.round(step.nowMs - sinceMs);
    if (forMs <= step.state.settings.blindAbortAfterMs * 2) {
      const { simulated } = step.state.settings;
      step.record(`blind/${name}`, { forMs, simulated }, `${name} is blind under load`);
    }
  } else if (wasBlind && node.blindCarryMs === 0)
    step.record(`blind/${name}`, null, `${name} is blind under load no longer`);
}

function tellLooks(
  step: Step,
  name: string,
  before: ReadonlyMap<string, PendingLook>,
  pending: ReadonlyMap<string, PendingLook>,
  cleared: readonly PendingLook[],
): void {
  for (const look of cleared) {
    const { reading } = look;
    const value = formatValue(reading.state.value, reading.state.unit);
    const message = `${describeSubject(reading)} gave ${value} once and took it back: ${reading.state.origin}`;
    step.tell({ name: 'sensor-glitch', node: name, message }, 'warn');
  }
  const isNew = ([key, { isDone, deadlineMs }]: [string, PendingLook]): boolean =>
    !isDone && before.get(key)?.deadlineMs !== deadlineMs;
  const fresh = [...pending].filter(isNew).map(([, look]) => look.deadlineMs);
  if (fresh.length === 0) return;
  step.effect({ kind: 'look-again', nodes: [name], deadlineMs: Math.min(...fresh) });
}

function tellCooling(step: Step, before: NodeState, isCooling: boolean): void {
  const { node } = before.watch;
  if (isCooling === (before.cooling !== null)) return;
  const key = `cooling/${node}`;
  const { simulated } = step.state.settings;
  if (isCooling) {
    const message = `${node} is cooling down: starts wait for at least 60 s`;
    step.record(key, { sinceWallMs: step.moment.wallMs, simulated }, message);
    step.tell({ name: 'cooling-started', node, message }, 'warn');
  } else {
    const message = `${node} has cooled down`;
    step.record(key, null, message);
    step.tell({ name: 'cooling-ended', node, message });
  }
}

/** What the cards of a node draw now, W, where that is known. */
export function gpuPowersW(step: Step, { watch }: NodeState): ReadonlyMap<string, number> {
  const { settings, staleBeforeMs } = step.state;
  const options = { purpose: 'running', nowMs: step.nowMs, staleBeforeMs } as const;
  return readGpuPowersW(watch, settingsOf(settings, watch.node), options);
}

/** The last known power of each judged card, however it is now: what it drew when the trip came, W. */
export function lastGpuPowersW(step: Step, node: NodeState): ReadonlyMap<string, number> {
  const REMEMBERED_MS = 120_000;
  const powers = new Map<string, number>();
  const nodeSettings = settingsOf(step.state.settings, node.watch.node);
  for (const source of node.watch.sources.values()) {
    for (const track of source.tracks.values()) {
      const { raw } = track;
      if (raw.component !== 'gpu' || raw.quantity !== 'power' || !track.hasValue) continue;
      if (step.nowMs - track.atMs > REMEMBERED_MS) continue;
      const id = node.watch.gpus.aliases.get(raw.id ?? '') ?? raw.id ?? '';
      const gpu = node.watch.gpus.known.get(id);
      if (!gpu || gpuSettingsOf(nodeSettings, gpu).ignore) continue;
      powers.set(id, Math.max(track.value, powers.get(id) ?? 0));
    }
  }
  return powers;
}
