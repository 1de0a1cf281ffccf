// The answer to a trip, whoever asked for it: latched, and how far the stop has come. The stop waits for none of this.
import { type Clock, TIMED_OUT, withDeadline } from '../clock.ts';
import type { StopReport } from '../domain/interlock.ts';
import type { SafetyState } from '../domain/state.ts';
import type { Submitted } from '../supervisor.ts';
import type { AppParts } from './parts.ts';
import { refusal } from './refusal.ts';
import type { StopAnswerSchema, Told } from './schemas.ts';

/** A quick disk has the trip by then, and the answer can say so; it goes out within 100 ms either way. */
const RECORD_WAIT_MS = 50;

/** How long to hold an answer for the stop's first round, unless `until` is aborted before. */
export interface Hold {
  readonly ms: number;
  readonly until: AbortSignal;
}

/** The body of a 202. Throws a problem where nothing was tripped, because no node named is known. */
export async function answerStop(
  { supervisor, clock }: Pick<AppParts, 'supervisor' | 'clock'>,
  { answer, recorded }: Submitted,
  hold: Hold | null,
): Promise<Told<typeof StopAnswerSchema>> {
  if (answer.kind !== 'stopping') throw refusal(answer, 'stop');
  const { tripId, joined } = answer;
  const written = await withDeadline(clock, RECORD_WAIT_MS, recorded);
  if (hold && hold.ms > 0) await settled(supervisor, clock, tripId, hold);
  const report = { ...(reportOf(supervisor.state, tripId) ?? answer.report), unknownNodes: answer.report.unknownNodes };
  return { tripId, joined, recorded: written !== TIMED_OUT && written.ok, report };
}

/** Resolves once the stop is verified or unverified, another trip took it over, or the hold is over. */
async function settled(supervisor: AppParts['supervisor'], clock: Clock, tripId: string, hold: Hold): Promise<void> {
  const isSettled = (): boolean => reportOf(supervisor.state, tripId)?.state !== 'stopping';
  if (isSettled()) return;
  const over = new AbortController();
  const unsubscribe = supervisor.subscribe(() => {
    if (isSettled()) over.abort();
  });
  await clock.sleep(hold.ms, AbortSignal.any([over.signal, hold.until]));
  unsubscribe();
}

/** What is written down of a stop that was asked for. */
export function stopNote({ answer }: Submitted): { readonly tripId?: string; readonly joined?: boolean } {
  return answer.kind === 'stopping' ? { tripId: answer.tripId, joined: answer.joined } : {};
}

function reportOf(state: SafetyState, tripId: string): StopReport | undefined {
  const last = state.lastTrip?.trip;
  return state.trips.get(tripId)?.report ?? (last?.tripId === tripId ? last.report : undefined);
}
