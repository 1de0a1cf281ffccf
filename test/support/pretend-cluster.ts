// A cluster as the HTTP layer sees it, without one: what is known of it, and what becomes of a reset and a restore.
import type { ClusterDetails } from '../../src/domain/cluster.ts';
import type { ClusterPart } from '../../src/http/parts.ts';

const FACTS: ClusterDetails = {
  server: 'https://10.0.0.1:6443',
  namespace: 'vsf-safety',
  namespaces: [],
  leasesFailure: null,
  missingRights: [],
  missingOptionalRights: [],
  failingGroups: [],
  priorValues: 0,
  priorTrips: {},
};

export function pretendCluster(
  change: { readonly facts?: Partial<ClusterDetails>; readonly restore?: ClusterPart['restore'] } = {},
): ClusterPart {
  return {
    facts: () => ({ ...FACTS, ...change.facts }),
    reset: async ({ commit }) => {
      commit();
      return { kind: 'done' };
    },
    restore: change.restore ?? (async () => []),
  };
}
