// What RBAC objects grant to an account, right by right, in the form in which the service asks for them.

import type { KubeResource } from '../../src/kubernetes/kube-api.ts';
import { OWNER_RULES } from '../../src/kubernetes/owner-kinds.ts';
import type { AnyObject } from './control-plane.ts';

/** Each right as JSON of src/kubernetes/kube-rights.ts. Without those on addresses and those of the cluster's own roles. */
export function grantedBy(objects: readonly AnyObject[], account: string): ReadonlySet<string> {
  const granted = new Set<string>();
  const isMeant = ({ kind, name, namespace }: AnyObject): boolean =>
    kind === 'ServiceAccount' && account === `system:serviceaccount:${namespace}:${name}`;
  for (const { kind, metadata, roleRef, subjects } of objects) {
    if (!subjects?.some(isMeant)) continue;
    const role = objects.find((one) => one.kind === roleRef.kind && one.metadata.name === roleRef.name);
    const place = kind === 'RoleBinding' ? { namespace: metadata.namespace } : {};
    for (const { apiGroups, resources, verbs, resourceNames = [undefined] } of role?.rules ?? []) {
      for (const verb of verbs)
        for (const group of apiGroups)
          for (const whole of resources)
            for (const name of resourceNames) {
              const [resource, subresource] = whole.split('/');
              granted.add(JSON.stringify({ verb, group, resource, subresource, ...place, name }));
            }
    }
  }
  return granted;
}

/** The kinds of some groups as discovery would list them, and what else the service looks for in every cluster. */
export function servedKinds(groups: readonly string[]): readonly KubeResource[] {
  const verbs = ['get', 'list', 'patch', 'create', 'delete'];
  const kind = (group: string, name: string, hasScale: boolean): KubeResource => ({
    group,
    version: 'v1',
    kind: name,
    resource: `${name.toLowerCase()}s`,
    namespaced: true,
    verbs,
    hasScale,
  });
  return [
    ...OWNER_RULES.filter(({ group }) => groups.includes(group)).map((rule) =>
      kind(rule.group, rule.kind, rule.method.by === 'scale'),
    ),
    kind('autoscaling', 'HorizontalPodAutoscaler', false),
    kind('admissionregistration.k8s.io', 'ValidatingWebhookConfiguration', false),
    kind('admissionregistration.k8s.io', 'ValidatingAdmissionPolicyBinding', false),
    ...(groups.includes('batch.volcano.sh') ? [kind('bus.volcano.sh', 'Command', false)] : []),
  ];
}
