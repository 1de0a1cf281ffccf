// What this process may do among those of its cluster, where that is not everything: somebody who stands before a standby
// must know that stopping works there, and where a reset goes.
import type { Status } from './wire.ts';

type Leadership = Status['leadership'];

/** A word and what follows from it; `null` where this process may do all there is. */
export function leadershipNote({ leader, state, holder, detail }: Leadership): { word: string; text: string } | null {
  if (leader) return null;
  if (state === 'unknown') {
    const why = detail === undefined ? '' : ` (${detail})`;
    return {
      word: 'NO LEADER KNOWN',
      text: `The cluster does not say who leads${why}. The emergency stop works here; nothing new may start, and nobody can reset.`,
    };
  }
  const who = holder ? `${holder} leads.` : 'Nobody leads yet.';
  return {
    word: 'STANDBY',
    text: `${who} The emergency stop works here, too; starts, resets and restores are the leader’s.`,
  };
}
