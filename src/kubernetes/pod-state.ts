// What a pod's object says of the processes behind it. An object that is terminating still runs; one that is gone may.
import type { KubeObject } from './kube-api.ts';
import { valueAt } from './owner-kinds.ts';

const STATUS_LISTS = ['initContainerStatuses', 'containerStatuses', 'ephemeralContainerStatuses'];

/**
 * Whether something may still run: the phase is neither Succeeded nor Failed, and, when it is terminating, not every
 * container is told to have ended. A finalizer keeps the object of a dead pod for as long as it likes.
 */
export function isActive(pod: KubeObject): boolean {
  const phase = pod.status?.['phase'];
  if (phase === 'Succeeded' || phase === 'Failed') return false;
  if (!isTerminating(pod)) return true;
  const told = STATUS_LISTS.flatMap((list) => {
    const statuses = pod.status?.[list];
    return Array.isArray(statuses) ? (statuses as unknown[]) : [];
  });
  const containers = pod.spec?.['containers'];
  const main = pod.status?.['containerStatuses'];
  const isTold = Array.isArray(containers) && Array.isArray(main) && main.length >= containers.length;
  return !isTold || told.some((status) => valueAt(status, ['state', 'terminated']) === undefined);
}

export const isTerminating = ({ metadata }: KubeObject): boolean => metadata.deletionTimestamp !== undefined;

/** A static pod: the kubelet made the object from a file, and deleting the object does not stop the containers. */
export const isMirror = ({ metadata }: KubeObject): boolean =>
  metadata.annotations?.['kubernetes.io/config.mirror'] !== undefined;

/** Whether its grace is at most ours already. */
export const isBeingKilled = (pod: KubeObject): boolean =>
  isTerminating(pod) && (pod.metadata.deletionGracePeriodSeconds ?? 30) <= 1;

/** Whether a node answers: its Ready condition is True. */
export function isReady(node: KubeObject): boolean {
  const conditions = valueAt(node, ['status', 'conditions']);
  if (!Array.isArray(conditions)) return false;
  return conditions.some(
    (one: { type?: unknown; status?: unknown } | null) => one?.type === 'Ready' && one.status === 'True',
  );
}
