// What the cluster's record means to the process that reads it: what it must do about trips and resets of others, and
// when the record itself is a reason to trip. Pure.

import type { ClusterReset } from '../domain/cluster.ts';
import type { CopiedTrip, TripCause } from '../domain/interlock.ts';
import type { LatchCopy } from './latch-copy.ts';
import type { LocalLatch, Merge } from './latch-merge.ts';

export const LATCH_MAP = 'vsf-estop';

/** What the process must do because of what the cluster says. */
export type LatchNews =
  | { readonly kind: 'tripped-elsewhere'; readonly trips: readonly CopiedTrip[] }
  | ({ readonly kind: 'reset-elsewhere' } & ClusterReset)
  /** The record holds these trips; by id, how many stops had joined each before it was asked. */
  | { readonly kind: 'heard'; readonly joined: ReadonlyMap<string, number> }
  /** The record is corrupt, was latched by hand, or is gone while the deny rule is armed. */
  | {
      readonly kind: 'must-trip';
      readonly cause: Extract<TripCause, 'corrupt-state' | 'manual'>;
      readonly reason: string;
    };

/** What cannot be taken over, only answered by a trip of everything. What is older than our last reset demands nothing. */
export function demandOf(copy: LatchCopy, local: LocalLatch): LatchNews | null {
  if (copy.kind === 'corrupt') {
    const reason = `ConfigMap ${LATCH_MAP} cannot be trusted: ${copy.detail}`;
    return { kind: 'must-trip', cause: 'corrupt-state', reason };
  }
  if (copy.kind !== 'latched' || copy.byHand === null || copy.record.resets < local.resets) return null;
  return { kind: 'must-trip', cause: 'manual', reason: `ConfigMap ${LATCH_MAP} was latched by hand: ${copy.byHand}` };
}

/** What two copies of the latch make, as news: resets before the trips that came after them. */
export function newsOf({ reset, adopt }: Merge): readonly LatchNews[] {
  return [
    ...(reset ? [{ kind: 'reset-elsewhere', ...reset } as const] : []),
    ...(adopt.length > 0 ? [{ kind: 'tripped-elsewhere', trips: adopt } as const] : []),
  ];
}
