// Every right that the emergency stop and what surrounds it use, for the kinds that this cluster serves. What a stop
// cannot do without is vital: where that is missing nothing may start. The rest is shown.

import { findArmable } from './admission.ts';
import type { KubeResource } from './kube-api.ts';
import type { Right } from './kube-rights.ts';
import { LATCH_MAP } from './latch-news.ts';
import { LEADER_LEASE } from './leadership.ts';
import { LEASE_MAP } from './lease-store.ts';
import { COMMAND_GROUP, isBuiltIn, type OwnerKind, ownerKindsIn } from './owner-kinds.ts';
import { RESTORE_MAP } from './prior-values.ts';
import { autoscalerIn } from './rivals.ts';

export interface NeededRight {
  readonly right: Right;
  readonly isVital: boolean;
}

export interface RightsScope {
  readonly kinds: readonly KubeResource[];
  /** Where workloads are; empty: everywhere. */
  readonly namespaces: readonly string[];
  /** The service's own. */
  readonly namespace: string;
  readonly findsExporters: boolean;
}

/** What to ask for, each right once. Token reviews are asked by a client of their own and show by themselves. */
export function neededRights({ kinds, namespaces, namespace, findsExporters }: RightsScope): readonly NeededRight[] {
  const places: readonly { readonly namespace?: string }[] =
    namespaces.length === 0 ? [{}] : namespaces.map((name) => ({ namespace: name }));
  const vital = (right: Right): NeededRight => ({ right, isVital: true });
  const everywhere = (rights: readonly Omit<Right, 'namespace'>[]): Right[] =>
    places.flatMap((place) => rights.map((right) => ({ ...right, ...place })));
  const pods = everywhere(['list', 'delete'].map((verb) => ({ verb, group: '', resource: 'pods' })));
  const nodes: Right = { verb: 'list', group: '', resource: 'nodes' };
  const rules = findArmable(kinds).flatMap(({ place: { group, resource } }) =>
    ['get', 'patch'].map((verb): Right => ({ verb, group, resource, name: 'vsf-estop' })),
  );
  const own = (verb: string, group: string, resource: string, name?: string): Right => ({
    verb,
    group,
    resource,
    namespace,
    ...(name !== undefined && { name }),
  });
  const kept = [
    own('create', '', 'configmaps'),
    ...[LATCH_MAP, RESTORE_MAP, LEASE_MAP].flatMap((name) =>
      ['get', 'update'].map((verb) => own(verb, '', 'configmaps', name)),
    ),
    own('create', 'coordination.k8s.io', 'leases'),
    ...['get', 'update'].map((verb) => own(verb, 'coordination.k8s.io', 'leases', LEADER_LEASE)),
  ];
  const owners = ownerKindsIn(kinds).flatMap((kind) =>
    everywhere(rightsOver(kind, kinds)).map((right) => ({ right, isVital: isBuiltIn(kind) })),
  );
  const autoscalers = autoscalerIn(kinds);
  const useful: Right[] = [
    own('create', '', 'pods'),
    own('create', '', 'events'),
    ...everywhere(autoscalers ? [{ verb: 'list', group: autoscalers.group, resource: autoscalers.resource }] : []),
    ...(findsExporters && namespaces.length > 0 ? [{ verb: 'list', group: '', resource: 'pods' }] : []),
  ];
  return [
    ...[...pods, nodes, ...rules, ...kept].map(vital),
    ...owners,
    ...useful.map((right) => ({ right, isVital: false })),
  ];
}

/** To see a controller and to work its switch. */
function rightsOver({ resource: served, rule }: OwnerKind, kinds: readonly KubeResource[]): Omit<Right, 'namespace'>[] {
  const { group, resource } = served;
  const see = ['get', 'list'].map((verb) => ({ verb, group, resource }));
  switch (rule.method.by) {
    case 'scale':
      return [...see, ...['get', 'patch'].map((verb) => ({ verb, group, resource, subresource: 'scale' }))];
    case 'fields':
      return [...see, { verb: 'patch', group, resource }];
    case 'command': {
      const command = kinds.find((kind) => kind.group === COMMAND_GROUP && kind.kind === 'Command');
      return command ? [...see, { verb: 'create', group: COMMAND_GROUP, resource: command.resource }] : see;
    }
    case 'nothing':
      return see;
  }
}
