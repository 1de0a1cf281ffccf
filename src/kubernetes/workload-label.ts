// The one mark that says "this may be stopped". It is a constant and no setting: a wrong selector is the difference
// between stopping the load and stopping the cluster. Leases are told by a second mark, as a label or an annotation.
import type { KubeObject } from './kube-api.ts';

export const WORKLOAD_LABEL = 'vsf-workload';
/** For queries: what a labelled pod or controller is found by. */
export const WORKLOAD_SELECTOR = `${WORKLOAD_LABEL}=true`;
/** Names the lease that a workload runs by. */
export const LEASE_MARK = 'vsf-lease';

/** Whether labels (of an object, or of the pods of a template) bear the mark. Exactly `true`; `True` or `1` do not. */
export const isMarked = (labels: Readonly<Record<string, unknown>> | undefined): boolean =>
  labels?.[WORKLOAD_LABEL] === 'true';

/** The lease that an object says it runs by. */
export const leaseOf = ({ metadata }: KubeObject): string | undefined =>
  metadata.labels?.[LEASE_MARK] ?? metadata.annotations?.[LEASE_MARK];
