// Asks the cluster beforehand whether it would let us: a right that is missing is known in quiet times, not in the
// middle of an emergency stop. What cannot be asked is told apart from what is refused.
import type { KubeApi } from './kube-api.ts';

export interface Right {
  /** As in RBAC: `get`, `list`, `patch`, `delete`. */
  readonly verb: string;
  /** `''` for core. */
  readonly group: string;
  /** Plural. */
  readonly resource: string;
  readonly subresource?: string;
  /** Absent: in all namespaces. */
  readonly namespace?: string;
  /** Absent: whatever their name. */
  readonly name?: string;
}

export interface RightsAnswer {
  /** Those that the cluster says we lack. */
  readonly missing: readonly Right[];
  /** Those that the cluster did not say a word about, and why. */
  readonly unknown: readonly { readonly right: Right; readonly detail: string }[];
}

const REVIEWS = '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews';

/**
 * Which of `rights` we lack, all asked at once. Says nothing about other people's admission rules.
 * @param timeoutMs for all of them.
 */
export async function reviewRights(api: KubeApi, rights: readonly Right[], timeoutMs: number): Promise<RightsAnswer> {
  const missing: Right[] = [];
  const unknown: { right: Right; detail: string }[] = [];
  await Promise.all(
    rights.map(async (right) => {
      const { verb, group, resource, subresource, namespace, name } = right;
      const resourceAttributes = { verb, group, resource, subresource, namespace, name };
      const review = {
        apiVersion: 'authorization.k8s.io/v1',
        kind: 'SelfSubjectAccessReview',
        spec: { resourceAttributes },
      };
      const answer = await api.create(REVIEWS, review, timeoutMs);
      if (!answer.ok) {
        unknown.push({ right, detail: answer.detail });
        return;
      }
      const allowed = answer.value.status?.['allowed'];
      if (typeof allowed !== 'boolean') unknown.push({ right, detail: 'Cannot read its review: it does not say' });
      else if (!allowed) missing.push(right);
    }),
  );
  const inOrder = (one: Right, other: Right): number => rights.indexOf(one) - rights.indexOf(other);
  return {
    missing: missing.sort(inOrder),
    unknown: unknown.sort((one, other) => inOrder(one.right, other.right)),
  };
}

/** For people: `patch deployments.apps/scale in gpu`, `patch validatingwebhookconfigurations.… "vsf-estop"`. */
export function wordsOf({ verb, group, resource, subresource, namespace, name }: Right): string {
  const kind = group === '' ? resource : `${resource}.${group}`;
  const what = subresource === undefined ? kind : `${kind}/${subresource}`;
  return `${verb} ${what}${name === undefined ? '' : ` "${name}"`}${namespace === undefined ? '' : ` in ${namespace}`}`;
}
