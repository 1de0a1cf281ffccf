// Who may raise again what a stop holds at 0: autoscalers, KEDA, and tools that keep a cluster as a repository says. The
// stop deals with each of them, but whoever starts a load should have read it before. Pure.
import { firstFew } from '../domain/first-few.ts';
import type { Unprotected } from '../domain/result.ts';
import type { ClusterView, OwnerView } from './cluster-view.ts';
import { controllerOf } from './cluster-view.ts';
import type { KubeObject, KubeResource } from './kube-api.ts';
import { scaleTargetOf } from './owner-kinds.ts';

interface GitOpsTool {
  readonly name: string;
  /** Labels or annotations that the tool puts on what it manages. Helm's own `app.kubernetes.io/…` say nothing of it. */
  readonly marks: readonly string[];
}

const GITOPS: readonly GitOpsTool[] = [
  { name: 'Argo CD', marks: ['argocd.argoproj.io/tracking-id', 'argocd.argoproj.io/instance'] },
  { name: 'Flux', marks: ['kustomize.toolkit.fluxcd.io/name', 'helm.toolkit.fluxcd.io/name'] },
  { name: 'Rancher Fleet', marks: ['objectset.rio.cattle.io/id'] },
];

/** The kind that holds the cluster's HorizontalPodAutoscalers, where it serves it. */
export const autoscalerIn = (kinds: readonly KubeResource[]): KubeResource | undefined =>
  kinds.find(({ group, kind }) => group === 'autoscaling' && kind === 'HorizontalPodAutoscaler');

const AUTOSCALER_TARGET = ['spec', 'scaleTargetRef'];
/** Controllers that one entry names; the others are counted. */
const MOST_NAMED = 3;

/**
 * What of ours somebody else may set back, an entry for each who may: `autoscalers` are the HorizontalPodAutoscalers of
 * the workloads' namespaces. Empty where nobody does.
 */
export function rivalsOf(view: ClusterView, autoscalers: readonly KubeObject[]): readonly Unprotected[] {
  const owners = [...view.owners.values()].filter(({ hasEnded }) => !hasEnded);
  const entries = GITOPS.map(({ name, marks }) => {
    const managed = owners.filter(({ object: { metadata } }) =>
      marks.some((mark) => metadata.labels?.[mark] !== undefined || metadata.annotations?.[mark] !== undefined),
    );
    return entryOf(
      name,
      managed,
      (names) => `${name} manages ${names} and may raise it while a stop holds it at 0: ${SET_BACK}`,
    );
  });
  const paused = owners.flatMap((scaler) =>
    scaler.kind.rule.target ? targetsOf(scaler.object, scaler.kind.rule.target, owners) : [],
  );
  entries.push(
    entryOf(
      'KEDA',
      paused,
      (names) => `KEDA scales ${names}: a stop pauses its ScaledObject, which older versions ignore; ${SET_BACK}`,
    ),
  );
  // KEDA makes one of its own for each ScaledObject, which sleeps with that.
  const free = autoscalers.filter((one) => controllerOf(one)?.kind !== 'ScaledObject');
  const scaled = free.flatMap((one) => targetsOf(one, AUTOSCALER_TARGET, owners));
  entries.push(
    entryOf(
      'HorizontalPodAutoscaler',
      scaled,
      (names) =>
        `A HorizontalPodAutoscaler scales ${names}: it rests while that is at 0, and raises it as soon as somebody else sets 1`,
    ),
  );
  return entries.filter((entry) => entry !== null);
}

const SET_BACK =
  'the stop sets it to 0 again at each look and tells who raised it; better switch that off for what is to be stopped';

function entryOf(name: string, owners: readonly OwnerView[], words: (names: string) => string): Unprotected | null {
  const names = [...new Set(owners.map((owner) => `${owner.kind.resource.kind} ${placed(owner)}`))].sort();
  if (names.length === 0) return null;
  return { code: 'may-be-raised', name, message: words(firstFew(names, MOST_NAMED)) };
}

const placed = ({ namespace, name }: OwnerView): string => (namespace === undefined ? name : `${namespace}/${name}`);

/** Of `owners`, what an object scales by its reference at `path`. */
function targetsOf(scaler: KubeObject, path: readonly string[], owners: readonly OwnerView[]): readonly OwnerView[] {
  const { kind, name } = scaleTargetOf(scaler, path);
  const { namespace } = scaler.metadata;
  return owners.filter(
    (owner) => owner.kind.resource.kind === kind && owner.name === name && owner.namespace === namespace,
  );
}
