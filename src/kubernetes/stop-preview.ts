// What an order would do to a cluster, as entries of a report: for a drill. Pure; nothing is asked and nothing is touched.
import type { StopEntry, StopOrder } from '../domain/stop.ts';
import type { ClusterView, OwnerView } from './cluster-view.ts';
import { losesDataWhenScaled, type StopMethod, valueAt } from './owner-kinds.ts';
import { StopScope } from './stop-scope.ts';

/** Controllers, topmost first, then pods. */
export function previewOf(order: StopOrder, view: ClusterView, nodeName: (node: string) => string): StopEntry[] {
  const { owners, pods } = new StopScope(order).cover(view);
  const untouched = { actuator: 'drill', state: 'would-stop', verified: false, tookMs: 0 } as const;
  const controllers = owners.flatMap((owner): StopEntry[] => {
    const { namespace, name, kind, leaseIds } = owner;
    const how = howOf(owner);
    if (how === null) return [];
    return [
      {
        ...untouched,
        kind: kind.resource.kind,
        name: namespace === undefined ? name : `${namespace}/${name}`,
        ...(leaseIds[0] !== undefined && { leaseId: leaseIds[0] }),
        how,
      },
    ];
  });
  const running = pods.filter(({ isActive }) => isActive);
  return [
    ...controllers,
    ...running.map(({ namespace, name, node, leaseId }): StopEntry => {
      const where = node === null ? {} : { node: nodeName(node) };
      const lease = leaseId === undefined ? {} : { leaseId };
      return { ...untouched, kind: 'Pod', name: `${namespace}/${name}`, ...where, ...lease, how: 'delete, grace 1 s' };
    }),
  ];
}

/** `null` for what is off already below another controller, such as a Deployment's old revisions. */
function howOf({ kind: { rule }, object, controllerUid }: OwnerView): string | null {
  const method: StopMethod = losesDataWhenScaled(rule, object) ? { by: 'nothing', why: '' } : rule.method;
  switch (method.by) {
    case 'scale': {
      const replicas = rule.replicas && valueAt(object, rule.replicas);
      if (replicas === 0) return controllerUid === undefined ? 'at 0 already' : null;
      return typeof replicas === 'number' ? `scale ${replicas} -> 0` : 'scale to 0';
    }
    case 'fields':
      return (method.attempts[0] ?? []).map(({ path, stop }) => `${path.at(-1)} -> ${String(stop)}`).join(', ');
    case 'command':
      return `command ${method.action}`;
    case 'nothing':
      return 'deny rule and deletes only';
  }
}
