// Keeps the workloads stopped: two admission objects that the chart installs disarmed, armed by one small PATCH each. The
// webhook form points at an address where nothing listens and fails closed, in milliseconds and on every cluster; the
// policy form (API 1.30) says why in plain words, up to a second late. Both are armed where both are. Neither needs a
// server of ours. When to arm and when to disarm is the latch's business.
import { type KubeApi, type KubeFailure, type KubeObject, type KubeResource, pathOf } from './kube-api.ts';
import type { ArmState } from './stop-latch.ts';
import { WORKLOAD_LABEL } from './workload-label.ts';

const GROUP = 'admissionregistration.k8s.io';
/** The name of all three installed objects. */
export const DENY_RULE = 'vsf-estop';
export const WEBHOOK_NAME = 'estop.vsf.local';
/** A label that no pod bears: while the selector asks for it, the rule matches nothing. */
export const DISARM_LABEL = 'vsf-estop-disarmed';
const DISARM_VALUE = 'never-set';

type Form = 'webhook' | 'policy';
type Place = Pick<KubeResource, 'group' | 'version' | 'resource' | 'namespaced'>;

/** One of the two objects, as this cluster serves its kind. */
export interface Armable {
  readonly form: Form;
  readonly place: Place;
}

const RESOURCE: Readonly<Record<Form, string>> = {
  webhook: 'validatingwebhookconfigurations',
  policy: 'validatingadmissionpolicybindings',
};

/**
 * The forms that a cluster serves, by what discovery found. Where nothing of the group was found (discovery failed, or
 * never ran) both are tried at `v1`: in an emergency a 404 costs less than not having asked.
 */
export function findArmable(kinds: readonly KubeResource[]): readonly Armable[] {
  const group = kinds.filter((kind) => kind.group === GROUP);
  const forms = Object.entries(RESOURCE) as [Form, string][];
  return forms.flatMap(([form, resource]) => {
    const found = group.find((kind) => kind.resource === resource);
    if (!found && group.length > 0) return [];
    return [{ form, place: { group: GROUP, version: found?.version ?? 'v1', resource, namespaced: false } }];
  });
}

/** Whether the rule stands, as it was read back. */
export type RuleState = ArmState | { readonly kind: 'disarmed' };

/** What a trial with a pod that is never made showed. */
export type Trial =
  | { readonly kind: 'denied' }
  | { readonly kind: 'admitted' }
  /** We may not try, or the answer was about something else. */
  | { readonly kind: 'unknown'; readonly detail: string };

export interface Admission {
  /** Arms what is installed and judges what the server answers. Never rejects. */
  arm(timeoutMs: number): Promise<ArmState>;
  disarm(timeoutMs: number): Promise<RuleState>;
  readArmed(timeoutMs: number): Promise<RuleState>;
  /** Asks for a labelled pod as a dry run in the service's own namespace: the rule must refuse it. */
  tryOut(timeoutMs: number): Promise<Trial>;
}

export function createAdmission(parts: {
  readonly api: KubeApi;
  readonly kinds: () => readonly KubeResource[];
  /** The service's own: the only one where it may create a pod, and only as a dry run. */
  readonly namespace: string;
}): Admission {
  const { api, kinds, namespace } = parts;

  /** Both forms at the same time; one that is not installed is left out. */
  async function each(ask: (armable: Armable, path: string) => ReturnType<KubeApi['get']>): Promise<RuleState> {
    const states = await Promise.all(
      findArmable(kinds()).map(async (armable): Promise<RuleState> => {
        const answer = await ask(armable, pathOf(armable.place, { name: DENY_RULE }));
        if (!answer.ok) return stateOfFailure(answer);
        return judge(armable.form, answer.value);
      }),
    );
    return together(states);
  }

  return {
    async arm(timeoutMs) {
      const state = await each(({ form }, path) => api.patch(path, armingPatch(form), timeoutMs));
      // The server took the patch and shows a rule that is off: somebody changes what we write.
      return state.kind === 'disarmed' ? { kind: 'failed', detail: 'The deny rule is off right after arming' } : state;
    },
    disarm: (timeoutMs) => each(({ form }, path) => api.patch(path, disarmingPatch(form), timeoutMs)),
    readArmed: (timeoutMs) => each((_, path) => api.get(path, timeoutMs)),
    async tryOut(timeoutMs) {
      const pods = pathOf({ group: '', version: 'v1', resource: 'pods', namespaced: true }, { namespace });
      const answer = await api.create(pods, TRIAL_POD, timeoutMs, { dryRun: true });
      if (answer.ok) return { kind: 'admitted' };
      // The policy answers 403 and the webhook 500; only their names tell them from a missing right or another's rule.
      const isOurs = answer.detail.includes(DENY_RULE) || answer.detail.includes(WEBHOOK_NAME);
      return isOurs ? { kind: 'denied' } : { kind: 'unknown', detail: answer.detail };
    },
  };
}

/** The webhook's list is replaced by index, guarded by its name; a merge patch would replace the whole list. */
function webhookPatch(matchLabels: Readonly<Record<string, string>>): unknown {
  return [
    { op: 'test', path: '/webhooks/0/name', value: WEBHOOK_NAME },
    { op: 'replace', path: '/webhooks/0/objectSelector', value: { matchLabels } },
  ];
}

function bindingPatch(disarmValue: string | null): unknown {
  return { spec: { matchResources: { objectSelector: { matchLabels: { [DISARM_LABEL]: disarmValue } } } } };
}

function armingPatch(form: Form): unknown {
  return form === 'webhook' ? webhookPatch({ [WORKLOAD_LABEL]: 'true' }) : bindingPatch(null);
}

function disarmingPatch(form: Form): unknown {
  if (form === 'policy') return bindingPatch(DISARM_VALUE);
  return webhookPatch({ [WORKLOAD_LABEL]: 'true', [DISARM_LABEL]: DISARM_VALUE });
}

function stateOfFailure(failure: KubeFailure): RuleState {
  // Not installed, or a kind that this server does not serve. A missing right is no absence: nobody knows.
  if (failure.kind === 'not-found') return { kind: 'absent' };
  return { kind: 'failed', detail: failure.detail };
}

/** Armed only if everything that is installed is armed. */
function together(states: readonly RuleState[]): RuleState {
  const installed = states.filter((state) => state.kind !== 'absent');
  const failed = installed.find((state) => state.kind === 'failed');
  if (failed) return failed;
  if (installed.length === 0) return { kind: 'absent' };
  return installed.find((state) => state.kind === 'disarmed') ?? { kind: 'armed' };
}

interface Selector {
  readonly matchLabels?: Readonly<Record<string, string>>;
  readonly matchExpressions?: readonly unknown[];
}

/** Judges what the object does, not what was asked of it: a rule that ignores failures denies nothing. */
function judge(form: Form, object: KubeObject): RuleState {
  const what = form === 'webhook' ? 'ValidatingWebhookConfiguration' : 'ValidatingAdmissionPolicyBinding';
  const broken = (detail: string): RuleState => ({ kind: 'failed', detail: `${what} ${DENY_RULE} ${detail}` });
  const rule = form === 'webhook' ? webhookRule(object) : bindingRule(object);
  if ('fault' in rule) return broken(rule.fault);
  const { matchLabels = {}, matchExpressions = [] } = rule.objects ?? {};
  if (matchLabels[DISARM_LABEL] !== undefined) return { kind: 'disarmed' };
  const isOther = ([key, value]: [string, string]): boolean => key !== WORKLOAD_LABEL || value !== 'true';
  const other = Object.entries(matchLabels).find(isOther);
  if (other) return broken(`selects only objects with ${other.join('=')}`);
  if (matchExpressions.length > 0) return broken('selects objects by expressions, which could leave workloads out');
  const { matchLabels: spaces = {}, matchExpressions: spaceRules = [] } = rule.namespaces ?? {};
  if (Object.keys(spaces).length > 0 || spaceRules.length > 0) return broken('holds in some namespaces only');
  return { kind: 'armed' };
}

type Rule = { readonly objects: Selector | undefined; readonly namespaces: Selector | undefined };

function webhookRule(object: KubeObject): Rule | { readonly fault: string } {
  const [webhook] = (object['webhooks'] ?? []) as readonly {
    readonly name?: string;
    readonly failurePolicy?: string;
    readonly objectSelector?: Selector;
    readonly namespaceSelector?: Selector;
  }[];
  if (webhook?.name !== WEBHOOK_NAME) return { fault: `has no webhook ${WEBHOOK_NAME}` };
  if (webhook.failurePolicy !== 'Fail') return { fault: `has failurePolicy ${webhook.failurePolicy}, must be Fail` };
  return { objects: webhook.objectSelector, namespaces: webhook.namespaceSelector };
}

function bindingRule({ spec }: KubeObject): Rule | { readonly fault: string } {
  const actions = (spec?.['validationActions'] ?? []) as readonly string[];
  if (!actions.includes('Deny')) return { fault: `has validationActions [${actions.join(', ')}], must have Deny` };
  const matches = (spec?.['matchResources'] ?? {}) as {
    readonly objectSelector?: Selector;
    readonly namespaceSelector?: Selector;
  };
  return { objects: matches.objectSelector, namespaces: matches.namespaceSelector };
}

/** Small, and within the strictest pod security, so that nothing but our rule has a reason to refuse it. */
const TRIAL_POD = {
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: 'vsf-estop-trial', labels: { [WORKLOAD_LABEL]: 'true' } },
  spec: {
    automountServiceAccountToken: false,
    securityContext: { runAsNonRoot: true, runAsUser: 65532, seccompProfile: { type: 'RuntimeDefault' } },
    containers: [
      {
        name: 'trial',
        image: 'never-pulled',
        resources: { requests: { cpu: '1m', memory: '1Mi' }, limits: { cpu: '1m', memory: '1Mi' } },
        securityContext: {
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ['ALL'] },
        },
      },
    ],
  },
};
