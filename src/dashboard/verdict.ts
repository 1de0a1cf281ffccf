// The word on top: safe or not, and what to press, said so that it is understood in a second. The service's action and
// reason stay beside it, word for word. Pure.
import type { Liveness } from './liveness.ts';
import type { Estop, SafetyResult } from './wire.ts';

/** Each has a colour, a shape and a pattern of its own. */
export type Tone = 'safe' | 'slow' | 'wait' | 'stop' | 'unknown';

export interface Verdict {
  readonly tone: Tone;
  /** `SAFE`, `STOPPED`. */
  readonly word: string;
  /** What that means for workloads. */
  readonly meaning: string;
  /** What to do now, and what to press. */
  readonly todo: string;
}

/** What to say of the newest result, if it is the present. */
export function verdictOf(liveness: Liveness, result: SafetyResult | null, estop: Estop | null): Verdict {
  switch (liveness.kind) {
    case 'locked':
      return {
        tone: 'unknown',
        word: 'LOCKED',
        meaning: 'This page may not read how things stand. Take it that it is not safe.',
        todo: 'Enter a token: “Token” above. The emergency stop needs one, too.',
      };
    case 'connecting':
      return {
        tone: 'unknown',
        word: 'ASKING …',
        meaning: 'Nothing is known yet. Take it that it is not safe.',
        todo: 'Wait a moment.',
      };
    case 'lost':
      return {
        tone: 'unknown',
        word: 'NO CONTACT',
        meaning: 'The service does not answer this page. Nobody knows here whether it is safe.',
        todo: 'Look at the machine. In doubt hold STOP, use its power switch, or “vsf-safety estop” on it.',
      };
    case 'old':
      return {
        tone: 'unknown',
        word: 'OLD',
        meaning: 'The service answers, but what it says is not the present. Take it that it is not safe.',
        todo: 'Workloads are refused while it lasts. In doubt hold STOP.',
      };
    case 'live':
      return result ? liveVerdict(result, estop) : { ...STARTING };
  }
}

const STARTING: Verdict = {
  tone: 'unknown',
  word: 'STARTING',
  meaning: 'The first judgement is under way. Nothing may start yet.',
  todo: 'Wait a moment.',
};

function liveVerdict(result: SafetyResult, estop: Estop | null): Verdict {
  if (result.interlock.state === 'tripped') return trippedVerdict(result, estop);
  switch (result.action) {
    case 'PROCEED':
      return { tone: 'safe', word: 'SAFE', meaning: 'Workloads may start and run.', todo: 'Nothing to do.' };
    case 'REDUCE_INTENSITY':
      return {
        tone: 'slow',
        word: 'SLOW DOWN',
        meaning: 'Workloads are told to cut to half. Nothing new may start.',
        todo: 'Nothing to press: it ends by itself a minute after the cause. If it does not fall, hold STOP.',
      };
    case 'WAIT_COOLDOWN': {
      const isBlind = result.findings[0]?.level === 'missing';
      return {
        tone: 'wait',
        word: isBlind ? 'WAIT: BLIND' : 'WAIT',
        meaning: 'Workloads are told to pause. Nothing may start.',
        todo: isBlind
          ? 'Bring the missing reading back. Under load the node is stopped after 30 s without it.'
          : 'Nothing to press: it ends by itself once it is cool. If it goes on rising, hold STOP.',
      };
    }
    case 'ABORT':
      return { tone: 'stop', word: 'STOP', meaning: 'Everything is being stopped.', todo: 'Keep clear and wait.' };
  }
}

function trippedVerdict({ interlock }: SafetyResult, estop: Estop | null): Verdict {
  const isAll = estop === null || estop.trips.some(({ scope }) => scope.kind === 'all');
  const nodes = Object.keys(interlock.nodes).filter((node) => interlock.nodes[node] === 'tripped');
  const what = isAll ? 'Everything' : nodes.length === 1 ? `Node ${nodes[0]}` : `${nodes.length} nodes`;
  switch (worstReport(estop)) {
    case 'stopping':
      return {
        tone: 'stop',
        word: 'STOPPING',
        meaning: `${what} must stop now. Nothing may start.`,
        todo: 'Wait until the stop is verified, below.',
      };
    case 'unverified':
      return {
        tone: 'stop',
        word: 'STOP UNVERIFIED',
        meaning: 'Nobody has seen that everything stopped. Something may still run.',
        todo: 'Look at the machine, and stop what runs by its power switch. The list is below.',
      };
    case 'verified':
      return {
        tone: 'stop',
        word: 'STOPPED',
        meaning: `${what} was stopped, and stays so until a reset.`,
        todo: 'Find out why and make it safe. Then an operator resets it, below.',
      };
  }
}

/** The report that is worst of all trips that are on. */
function worstReport(estop: Estop | null): 'stopping' | 'verified' | 'unverified' {
  const states = (estop?.trips ?? []).map(({ report }) => report.state);
  if (states.includes('unverified')) return 'unverified';
  return states.includes('stopping') || estop === null ? 'stopping' : 'verified';
}
