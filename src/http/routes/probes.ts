// Is this process alive, and can it protect? Both answers hang on the age of the last completed tick on the monotonic
// clock: a process that answers HTTP while its loop stands still is not alive (and would be the last to notice).
import Type from 'typebox';
import type { Now } from '../../clock.ts';
import type { SafetyState } from '../../domain/state.ts';
import type { App, AppParts } from '../parts.ts';
import { Problem } from '../problem.ts';
import { json, problems } from '../schemas.ts';

/** Live while the last evaluation is younger than 3 intervals … */
const ALIVE_INTERVALS = 3;
/** … ready while a tick is not late, which refuses starts too. */
const IN_TIME_INTERVALS = 1.5;

export function addProbeRoutes(app: App, { supervisor, clock }: AppParts): void {
  app.get('/healthz', {
    schema: {
      operationId: 'isAlive',
      summary: 'Alive: the last evaluation is younger than three intervals',
      tags: ['watch'],
      response: {
        200: json(Type.Object({ alive: Type.Literal(true) }), 'Alive'),
        503: problems('The monitor has stalled'),
      },
    },
    async handler() {
      const reason = whyStalled(supervisor.state, clock.now());
      if (reason !== null) throw new Problem('stalled', `This service has stalled: ${reason}`, { reasons: [reason] });
      return { alive: true as const };
    },
  });

  app.get('/readyz', {
    schema: {
      operationId: 'isReady',
      summary: 'Ready: the latch is known, and the last tick was in time',
      tags: ['watch'],
      response: {
        200: json(Type.Object({ ready: Type.Literal(true) }), 'Ready'),
        503: problems('Not ready; `reasons` says why'),
      },
    },
    async handler() {
      const reasons = whyNotReady(supervisor.state, clock.now());
      if (reasons.length > 0)
        throw new Problem('not-ready', `This service is not ready: ${reasons.join('; ')}`, { reasons });
      return { ready: true as const };
    },
  });
}

/** Since a start the first tick has as long as any other. */
export function whyStalled(state: SafetyState, now: Now): string | null {
  const limitMs = ALIVE_INTERVALS * state.settings.intervalMs;
  const ageMs = now.elapsedMs - (state.lastTickAtMs ?? state.startedAtMs);
  if (ageMs < limitMs) return null;
  const what = state.lastTickAtMs === null ? 'there was no evaluation since the start' : 'the last evaluation was';
  return `${what} ${Math.round(ageMs / 1000)} s ago, ${limitMs / 1000} s are allowed`;
}

/**
 * Everything that stands against being ready; empty is ready. A journal that cannot be written is none of it: behind a
 * Service a process that is not ready is asked for no stop, and it can stop. `journal-unavailable` refuses starts.
 */
export function whyNotReady(state: SafetyState, now: Now): string[] {
  const reasons: string[] = [];
  const limitMs = IN_TIME_INTERVALS * state.settings.intervalMs;
  if (state.lastTickAtMs === null) reasons.push('the first evaluation has not been made yet');
  else if (now.elapsedMs - state.lastTickAtMs > limitMs) {
    const ageS = Math.round((now.elapsedMs - state.lastTickAtMs) / 1000);
    reasons.push(`the last evaluation is ${ageS} s old, at most ${limitMs / 1000} s are allowed`);
  }
  const { cluster } = state;
  if (cluster && !cluster.isLatchKnown) {
    const why = cluster.latchFailure ?? 'its record has not been read yet';
    reasons.push(`whether the cluster is stopped is not known: ${why}`);
  }
  return reasons;
}
