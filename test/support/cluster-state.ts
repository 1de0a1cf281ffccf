// What a process of a cluster knows, in the few forms that tests need.
import type { ClusterState } from '../../src/domain/cluster.ts';

const KNOWN = { isLatchKnown: true, latchFailure: null, denyRule: 'disarmed' } as const;

export const LEADER: ClusterState = {
  ...KNOWN,
  leadership: { state: 'leader', identity: 'me' },
  areLeasesKnown: true,
};

export const standbyOf = (leader: string | null): ClusterState => ({
  ...KNOWN,
  leadership: { state: 'standby', identity: 'me', leader },
  areLeasesKnown: false,
});

export const UNREACHABLE: ClusterState = {
  ...KNOWN,
  leadership: { state: 'unknown', identity: 'me', detail: 'connect ECONNREFUSED' },
  areLeasesKnown: false,
};
