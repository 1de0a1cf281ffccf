// A single mad sample kills nothing, and delays nothing for long. A hard stop that came by an impossible jump, and any
// power over its hard stop, waits for a second and newer sample: 2 s or one update period of the source, 5 s at most.
// Confirmed, or none to be had in time: it counts. Every other hard stop counts at once.
import { hardLimitOf, type NodeLimits } from './evaluate.ts';
import type { Measured, NodeReadings, Reading } from './reading.ts';
import { readingKey } from './reading.ts';

const SECOND_LOOK_MS = 2_000;
const SECOND_LOOK_AT_MOST_MS = 5_000;
/** A deadline that is judged so much later found nobody awake to look: the process was stopped, or got no CPU. */
export const SLEPT_THROUGH_MS = 1_000;

/** A hard stop that waits for its second sample. */
export interface PendingLook {
  readonly reading: Reading & { readonly state: Measured };
  readonly sampleAtMs: number;
  readonly deadlineMs: number;
  /** The first deadline was slept through, and a second one given; there is no third. */
  readonly isProlonged: boolean;
  /** A newer sample confirmed it, or none came in time: it has counted, and its end is no glitch. */
  readonly isDone: boolean;
}

export interface SecondLooks {
  readonly readings: NodeReadings;
  readonly pending: ReadonlyMap<string, PendingLook>;
  /** Looks that ended without confirmation: a sensor glitch, worth an event. */
  readonly cleared: readonly PendingLook[];
}

/** Marks each reading over its hard stop as awaiting or done. `updatePeriodMs` tells a source's period where known. */
export function lookAgain(
  before: ReadonlyMap<string, PendingLook>,
  node: NodeReadings,
  limits: NodeLimits,
  updatePeriodMs: (source: string) => number | null,
  nowMs: number,
): SecondLooks {
  if (before.size === 0 && node.readings.every((reading) => isQuiet(reading, limits))) {
    return { readings: node, pending: before, cleared: [] };
  }
  const pending = new Map<string, PendingLook>();
  const cleared: PendingLook[] = [];
  const readings: Reading[] = [];
  for (const reading of node.readings) {
    const key = readingKey(reading.component, reading.id, reading.quantity);
    const look = before.get(key);
    if (reading.state.kind === 'missing') {
      readings.push(reading);
      if (look) readings.push(expire(look, pending, key, nowMs));
      continue;
    }
    const state = reading.state;
    const limit = isThreshold(reading) ? hardLimitOf(reading, limits) : null;
    if (limit === null || state.value < limit) {
      if (look && !look.isDone) cleared.push(look);
      // A jump that stays below its hard stop is a plain reading: it may start a cooldown.
      readings.push(
        state.secondLook === 'awaiting' ? { ...reading, state: { ...state, secondLook: 'not-needed' } } : reading,
      );
      continue;
    }
    const isPower = reading.quantity === 'power' || reading.quantity === 'total-power';
    const needsLook = isPower || state.secondLook === 'awaiting';
    if (!needsLook) {
      readings.push(reading);
      continue;
    }
    const waitMs = Math.min(SECOND_LOOK_AT_MOST_MS, Math.max(SECOND_LOOK_MS, updatePeriodMs(state.source) ?? 0));
    const open = look ?? {
      reading: { ...reading, state },
      sampleAtMs: state.atMs,
      deadlineMs: nowMs + waitMs,
      isProlonged: false,
      isDone: false,
    };
    const isNewer = state.atMs > open.sampleAtMs;
    const after = isNewer ? { ...open, isDone: true } : waitedOn(open, nowMs);
    pending.set(key, after);
    readings.push(marked({ ...reading, state }, after));
  }
  // What nobody requires leaves no missing reading behind when it falls silent; its look stands all the same.
  const keys = new Set(node.readings.map(({ component, id, quantity }) => readingKey(component, id, quantity)));
  for (const [key, look] of before) if (!keys.has(key)) readings.push(expire(look, pending, key, nowMs));
  return { readings: { ...node, readings }, pending, cleared };
}

/** Nothing to look at twice, and nothing to take back: almost every reading of almost every look. */
function isQuiet(reading: Reading, limits: NodeLimits): boolean {
  const { state } = reading;
  if (state.kind === 'missing') return true;
  if (state.secondLook === 'awaiting') return false;
  const limit = isThreshold(reading) ? hardLimitOf(reading, limits) : null;
  return limit === null || state.value < limit;
}

/** The second sample does not come: the first one stays until the deadline, and counts from then on. */
function expire(look: PendingLook, pending: Map<string, PendingLook>, key: string, nowMs: number): Reading {
  const after = waitedOn(look, nowMs);
  pending.set(key, after);
  return marked(look.reading, after);
}

const marked = (reading: PendingLook['reading'], { isDone }: PendingLook): Reading => ({
  ...reading,
  state: { ...reading.state, secondLook: isDone ? 'done' : 'awaiting' },
});

/**
 * No newer sample was to be had until the deadline: what was seen counts. Where the deadline was slept through nobody has
 * tried to have one: a look takes two seconds, and a run of three days is not ended for lack of them.
 */
function waitedOn(look: PendingLook, nowMs: number): PendingLook {
  if (look.isDone || nowMs < look.deadlineMs) return look;
  if (!look.isProlonged && nowMs >= look.deadlineMs + SLEPT_THROUGH_MS) {
    return { ...look, deadlineMs: nowMs + SECOND_LOOK_MS, isProlonged: true };
  }
  return { ...look, isDone: true };
}

/** Only temperatures and powers have hard stops; shares have maxima. */
function isThreshold(reading: Reading): boolean {
  return reading.quantity === 'temperature' || reading.quantity === 'power' || reading.quantity === 'total-power';
}
