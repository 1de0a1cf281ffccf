// A lease as the API tells it: monotonic moments become wall times, milliseconds become seconds.
import type { Now } from '../clock.ts';
import { intensityCapOf, type Lease } from '../domain/lease.ts';
import type { LeaseSchema, Told } from './schemas.ts';

/** The view of a lease at `now`. */
export function leaseView(lease: Lease, now: Now): Told<typeof LeaseSchema> {
  return {
    id: lease.id,
    workload: lease.workload,
    identity: lease.identity,
    nodes: lease.nodes,
    gpus: lease.gpus,
    intensity: lease.intensity,
    intensityCap: intensityCapOf(lease),
    ttlSeconds: lease.ttlMs / 1000,
    maxDurationSeconds: lease.maxDurationMs === null ? null : lease.maxDurationMs / 1000,
    processGroup: lease.processGroup,
    grantedAt: new Date(lease.grantedWallMs).toISOString(),
    expiresAt: wallTime(lease.expiresAtMs, now),
    endsAt: wallTime(lease.endsAtMs, now),
    simulated: lease.simulated,
  };
}

/** A monotonic moment on the wall clock, as that is set now. */
function wallTime(atMs: number | null, now: Now): string | null {
  return atMs === null ? null : new Date(now.wallMs + (atMs - now.elapsedMs)).toISOString();
}
