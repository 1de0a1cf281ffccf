// Which controllers can bring pods back, and the switch of each, as a table: set these fields to these values and check
// that they came back so. A kind that is not here and has a `/scale` is scaled to 0; the rest have no switch. Each row
// counts only where discovery finds the kind. Sources: the types in each project's repository, mid-2026; built-in kinds
// are tried on real control planes.
// GitOps objects (Argo CD, Flux) are left alone on purpose: what they raise again is counted and set back.
import type { KubeObject, KubeResource } from './kube-api.ts';
import { isMarked } from './workload-label.ts';

/** One field of a switch. */
export interface SwitchField {
  /** Keys may hold dots and slashes. */
  readonly path: readonly string[];
  readonly stop: unknown;
  /** What a missing field means, where that is as good as `stop` or is to be told as the value before. */
  readonly absent?: unknown;
}

export type StopMethod =
  /** `/scale` to exactly 0: at 1, an autoscaler with a minimum raises it again. */
  | { readonly by: 'scale' }
  /** Merge-patched together. The next list is tried where a server accepts the first and drops it. */
  | { readonly by: 'fields'; readonly attempts: readonly (readonly SwitchField[])[] }
  /** Volcano: a `Command` object is created; the phase tells. */
  | { readonly by: 'command'; readonly action: string; readonly stoppedPhases: readonly string[] }
  /** The deny rule and the deletes are all there is. */
  | { readonly by: 'nothing'; readonly why: string };

export interface OwnerRule {
  readonly group: string;
  readonly kind: string;
  readonly method: StopMethod;
  /** Where the labels of its pods stand, dots between keys, `*` any key or index. Empty: it makes no pods itself. */
  readonly templates: readonly string[];
  /** Where the built-in kinds keep what `/scale` shows. */
  readonly replicas?: readonly string[];
  /** It can be over (a finished Job): then there is nothing to stop. */
  readonly ends?: true;
  /** Where it names the object that it scales (KEDA), which is not its child. */
  readonly target?: readonly string[];
}

/** A kind that this cluster serves and that can own pods. */
export interface OwnerKind {
  readonly resource: KubeResource;
  readonly rule: OwnerRule;
}

/** No node bears this key. Pods are gone within 33 ms; cordoning does not stop a DaemonSet. */
export const STOPPED_SELECTOR = 'vsf-safety.io/stopped';

/** Of Volcano's `Command` objects. */
export const COMMAND_GROUP = 'bus.volcano.sh';

const POD_TEMPLATE = 'spec.template.metadata.labels';
const scale: StopMethod = { by: 'scale' };
const fields = (...attempts: readonly (readonly SwitchField[])[]): StopMethod => ({ by: 'fields', attempts });
const suspend = (...path: readonly string[]): StopMethod => fields([{ path, stop: true, absent: false }]);

const scaled = (group: string, kind: string): OwnerRule => ({
  group,
  kind,
  method: scale,
  templates: [POD_TEMPLATE],
  replicas: ['spec', 'replicas'],
});

const suspended = (
  group: string,
  kind: string,
  templates: readonly string[],
  path = ['spec', 'suspend'],
): OwnerRule => ({
  group,
  kind,
  method: suspend(...path),
  templates,
});

const KUBEFLOW_JOBS = ['PyTorchJob', 'TFJob', 'XGBoostJob', 'PaddleJob', 'JAXJob', 'MXJob', 'MPIJob'];
const RAY_CLUSTER = ['headGroupSpec.template.metadata.labels', 'workerGroupSpecs.*.template.metadata.labels'];
const below = (prefix: string, paths: readonly string[]): readonly string[] => paths.map((path) => `${prefix}.${path}`);

export const OWNER_RULES: readonly OwnerRule[] = [
  scaled('apps', 'Deployment'),
  scaled('apps', 'ReplicaSet'),
  scaled('apps', 'StatefulSet'),
  scaled('', 'ReplicationController'),
  {
    group: 'apps',
    kind: 'DaemonSet',
    method: fields([{ path: ['spec', 'template', 'spec', 'nodeSelector', STOPPED_SELECTOR], stop: 'true' }]),
    templates: [POD_TEMPLATE],
  },
  {
    group: 'batch',
    kind: 'Job',
    // Servers before 1.22 accept `suspend` and drop it, and the pods run on; parallelism 0 works there.
    method: fields(
      [{ path: ['spec', 'suspend'], stop: true, absent: false }],
      [{ path: ['spec', 'parallelism'], stop: 0, absent: 1 }],
    ),
    templates: [POD_TEMPLATE],
    ends: true,
  },
  suspended('batch', 'CronJob', ['spec.jobTemplate.spec.template.metadata.labels']),
  {
    group: 'keda.sh',
    kind: 'ScaledObject',
    // Both: older versions went back and forth between 0 and 1 with only one of them.
    method: fields([
      { path: ['metadata', 'annotations', 'autoscaling.keda.sh/paused'], stop: 'true' },
      { path: ['metadata', 'annotations', 'autoscaling.keda.sh/paused-replicas'], stop: '0' },
    ]),
    templates: [],
    target: ['spec', 'scaleTargetRef'],
  },
  {
    group: 'keda.sh',
    kind: 'ScaledJob',
    method: fields([{ path: ['metadata', 'annotations', 'autoscaling.keda.sh/paused'], stop: 'true' }]),
    templates: ['spec.jobTargetRef.template.metadata.labels'],
  },
  scaled('argoproj.io', 'Rollout'),
  {
    group: 'kueue.x-k8s.io',
    kind: 'Workload',
    // Kueue resumes a Job that it admitted, so the admission is what must end. It is the Job's child.
    method: fields([{ path: ['spec', 'active'], stop: false, absent: true }]),
    templates: ['spec.podSets.*.template.metadata.labels'],
    ends: true,
  },
  {
    ...suspended('jobset.x-k8s.io', 'JobSet', ['spec.replicatedJobs.*.template.spec.template.metadata.labels']),
    ends: true,
  },
  {
    group: 'batch.volcano.sh',
    kind: 'Job',
    method: {
      by: 'command',
      // TerminateJob would be final.
      action: 'AbortJob',
      stoppedPhases: ['Aborting', 'Aborted', 'Terminating', 'Terminated', 'Completing', 'Completed', 'Failed'],
    },
    templates: ['spec.tasks.*.template.metadata.labels'],
    ends: true,
  },
  ...KUBEFLOW_JOBS.map(
    (kind): OwnerRule => ({
      ...suspended('kubeflow.org', kind, ['spec.*.*.template.metadata.labels'], ['spec', 'runPolicy', 'suspend']),
      ends: true,
    }),
  ),
  { ...suspended('trainer.kubeflow.org', 'TrainJob', ['spec.podTemplateOverrides.*.metadata.labels']), ends: true },
  suspended('ray.io', 'RayCluster', below('spec', RAY_CLUSTER)),
  { ...suspended('ray.io', 'RayJob', below('spec.rayClusterSpec', RAY_CLUSTER)), ends: true },
  suspended('ray.io', 'RayService', below('spec.rayClusterConfig', RAY_CLUSTER)),
  suspended('ray.io', 'RayCronJob', below('spec.jobTemplate.rayClusterSpec', RAY_CLUSTER)),
  {
    ...suspended('argoproj.io', 'Workflow', ['spec.podMetadata.labels', 'spec.templates.*.metadata.labels']),
    ends: true,
  },
  suspended('argoproj.io', 'CronWorkflow', [
    'spec.workflowSpec.podMetadata.labels',
    'spec.workflowSpec.templates.*.metadata.labels',
  ]),
  {
    group: 'serving.knative.dev',
    kind: 'Service',
    method: { by: 'nothing', why: 'a Knative Service has no stop switch' },
    templates: [POD_TEMPLATE],
  },
];

const KEY = (group: string, kind: string): string => `${group}/${kind}`;
const RULES = new Map(OWNER_RULES.map((rule) => [KEY(rule.group, rule.kind), rule]));

/** The rule of a kind, known or not. A Node owns its static pods and is no controller: `null`. */
export function ruleOf({ group, kind, hasScale }: Pick<KubeResource, 'group' | 'kind' | 'hasScale'>): OwnerRule | null {
  if (group === '' && kind === 'Node') return null;
  const known = RULES.get(KEY(group, kind));
  if (known) return known;
  const none: StopMethod = { by: 'nothing', why: `a ${kind} has no /scale, and no other switch of it is known here` };
  return { group, kind, method: hasScale ? scale : none, templates: [] };
}

export const BUILT_IN_GROUPS: readonly string[] = ['', 'apps', 'batch'];

/** A kind that every cluster has and that a stop must know all of. */
export const isBuiltIn = ({ rule }: OwnerKind): boolean =>
  BUILT_IN_GROUPS.includes(rule.group) && OWNER_RULES.includes(rule);

/** The kinds of a cluster that have a switch, or a row in the table. */
export function ownerKindsIn(kinds: readonly KubeResource[]): readonly OwnerKind[] {
  return kinds.flatMap((resource) => {
    if (!resource.verbs.includes('list')) return [];
    const rule = ruleOf(resource);
    if (!rule || (rule.method.by === 'nothing' && !RULES.has(KEY(resource.group, resource.kind)))) return [];
    return [{ resource, rule }];
  });
}

/** The field at a path; `undefined` where there is none. */
export function valueAt(object: unknown, path: readonly string[]): unknown {
  let value = object;
  for (const key of path) {
    if (typeof value !== 'object' || value === null) return undefined;
    value = (value as Record<string, unknown>)[key];
  }
  return value ?? undefined;
}

/** A merge patch that sets fields. */
export function patchOf(fields: readonly { readonly path: readonly string[]; readonly value: unknown }[]): object {
  const patch: Record<string, unknown> = {};
  for (const { path, value } of fields) {
    let at = patch;
    for (const key of path.slice(0, -1)) {
      const inner = (at[key] ?? {}) as Record<string, unknown>;
      at[key] = inner;
      at = inner;
    }
    at[path.at(-1) ?? ''] = value;
  }
  return patch;
}

/** Whether a controller's pods are labelled: `unknown` where no template is known. */
export function templateMark(rule: OwnerRule, object: KubeObject): 'marked' | 'unmarked' | 'unknown' {
  const labels = rule.templates.flatMap((path) => allAt(object, path.split('.')));
  if (labels.some((found) => isMarked(found as Record<string, unknown>))) return 'marked';
  return rule.templates.length > 0 ? 'unmarked' : 'unknown';
}

/** The labels that a controller gives its pods, where a template is known. */
export function templateLabels(rule: OwnerRule, object: KubeObject): readonly Record<string, unknown>[] {
  return rule.templates.flatMap((path) => allAt(object, path.split('.'))) as Record<string, unknown>[];
}

function allAt(object: unknown, path: readonly string[]): readonly object[] {
  if (typeof object !== 'object' || object === null) return [];
  const [key, ...rest] = path;
  if (key === undefined) return [object];
  if (key === '*') return Object.values(object).flatMap((value) => allAt(value, rest));
  return allAt((object as Record<string, unknown>)[key], rest);
}

/** What an object with a `scaleTargetRef` at `path` scales; the kind is a Deployment where it names none. */
export function scaleTargetOf(object: KubeObject, path: readonly string[]): { kind: string; name: string | undefined } {
  const { kind = 'Deployment', name } = (valueAt(object, path) ?? {}) as { kind?: string; name?: string };
  return { kind, name };
}

/** Whether every field of one of the switch's lists is at its stop value. A scale needs its number. */
export function isSwitchedOff(method: StopMethod, object: KubeObject): boolean {
  switch (method.by) {
    case 'fields':
      return method.attempts.some((attempt) =>
        attempt.every(({ path, stop, absent }) => (valueAt(object, path) ?? absent) === stop),
      );
    case 'command': {
      const phase = valueAt(object, ['status', 'state', 'phase']);
      return typeof phase === 'string' && method.stoppedPhases.includes(phase);
    }
    case 'scale':
    case 'nothing':
      return false;
  }
}

const ENDED_CONDITIONS = ['Complete', 'Completed', 'Failed', 'Succeeded', 'Finished'];
const ENDED_PHASES = ['Succeeded', 'Failed', 'Error', 'Completed', 'Terminated', 'Aborted'];

/** Whether a controller that can end has ended, and so will make no pod again. */
export function hasEnded(rule: OwnerRule, object: KubeObject): boolean {
  if (!rule.ends) return false;
  const conditions = valueAt(object, ['status', 'conditions']);
  if (Array.isArray(conditions)) {
    const isTrue = (one: { type?: unknown; status?: unknown }): boolean =>
      one.status === 'True' && ENDED_CONDITIONS.includes(String(one.type));
    if (conditions.some(isTrue)) return true;
  }
  const phase = valueAt(object, ['status', 'phase']);
  return rule.kind === 'Workflow' && typeof phase === 'string' && ENDED_PHASES.includes(phase);
}

/**
 * Whether stopping this controller would destroy what it keeps: a StatefulSet that deletes its volumes when it is scaled
 * down. It is left to the deny rule and the deletes.
 */
export function losesDataWhenScaled({ group, kind }: OwnerRule, object: KubeObject): boolean {
  if (group !== 'apps' || kind !== 'StatefulSet') return false;
  return valueAt(object, ['spec', 'persistentVolumeClaimRetentionPolicy', 'whenScaled']) === 'Delete';
}
