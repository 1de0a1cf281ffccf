// Gives controllers back what a stop took from them. Separate from the reset, never by itself, and careful: a
// controller is touched only if it is the very one that was stopped (its uid) and still holds the value that the stop
// set, so that nobody's later decision is undone. One at a time, with a question in between, since each one that comes
// back is load. Who may ask, and for which trip, is the caller's business.
import type { Clock } from '../clock.ts';
import { type KubeApi, type KubeObject, pathOf } from './kube-api.ts';
import { patchOf, valueAt } from './owner-kinds.ts';
import type { PriorField, PriorValue } from './stop-latch.ts';

export interface RestoreStep {
  readonly uid: string;
  /** `deployments.apps gpu/load`. */
  readonly object: string;
  /**
   * `would-restore` in a dry run · `restored` · `kept` it holds another value by now · `gone` no longer there, or another
   * one of the same name · `by-controller` the controller above brings it back · `failed` could not be read or changed ·
   * `not-reached` the question before it was answered with no.
   */
  readonly outcome: 'would-restore' | 'restored' | 'kept' | 'gone' | 'by-controller' | 'failed' | 'not-reached';
  /** In words: from what to what, or why not. */
  readonly detail: string;
}

export interface RestoreRequest {
  readonly api: KubeApi;
  readonly clock: Clock;
  readonly priors: readonly PriorValue[];
  readonly dryRun: boolean;
  /** Asked before each controller that is to be changed: leading still, nothing tripped, a preflight that says yes. */
  readonly mayGoOn: () => Promise<{ readonly ok: true } | { readonly ok: false; readonly detail: string }>;
  /** Told after each one, for whoever waits. */
  readonly onStep?: (step: RestoreStep) => void;
}

const REQUEST_TIMEOUT_MS = 5_000;
/** Time for a controller's pods to start drawing power before the next question is asked. */
const PAUSE_MS = 1_000;

/** Restores, or says what it would restore. Never rejects: each controller has its own outcome. */
export async function restore(request: RestoreRequest): Promise<readonly RestoreStep[]> {
  const { api, clock, dryRun, mayGoOn, onStep } = request;
  const steps: RestoreStep[] = [];
  let refusal: string | null = null;
  let isFirst = true;
  for (const prior of inOrder(request.priors)) {
    const say = (outcome: RestoreStep['outcome'], detail: string): RestoreStep => ({
      uid: prior.uid,
      object: nameOf(prior),
      outcome,
      detail,
    });
    const next = async (): Promise<RestoreStep> => {
      if (refusal !== null) return say('not-reached', refusal);
      const found = await look(api, prior, request.priors);
      if (found.outcome !== 'would-restore' || dryRun) return say(found.outcome, found.detail);
      if (!isFirst) await clock.sleep(PAUSE_MS);
      isFirst = false;
      const answer = await mayGoOn();
      if (!answer.ok) {
        refusal = `Not restored: ${answer.detail}`;
        return say('not-reached', refusal);
      }
      const changed = await giveBack(api, prior, found.object, found.fields);
      return say(changed.outcome, changed.detail);
    };
    const step = await next();
    steps.push(step);
    onStep?.(step);
  }
  return steps;
}

const nameOf = ({ resource, group, namespace, name }: PriorValue): string =>
  `${resource}${group === '' ? '' : `.${group}`} ${namespace === undefined ? '' : `${namespace}/`}${name}`;

/** Top-down, so that a controller is asked to bring back its own before they are looked at; else by name. */
function inOrder(priors: readonly PriorValue[]): readonly PriorValue[] {
  const byUid = new Map(priors.map((prior) => [prior.uid, prior]));
  const depthOf = (prior: PriorValue): number => {
    let depth = 0;
    // A ring of owners would never end.
    for (let above = parentOf(prior); above && depth < priors.length; above = parentOf(above)) depth += 1;
    return depth;
  };
  const parentOf = ({ controllerUid }: PriorValue) =>
    controllerUid === undefined ? undefined : byUid.get(controllerUid);
  const depths = new Map(priors.map((prior) => [prior, depthOf(prior)]));
  return [...priors].sort((a, b) => (depths.get(a) ?? 0) - (depths.get(b) ?? 0) || (nameOf(a) < nameOf(b) ? -1 : 1));
}

type Look =
  | {
      readonly outcome: 'would-restore';
      readonly detail: string;
      readonly object: KubeObject;
      readonly fields: readonly PriorField[];
    }
  | { readonly outcome: 'kept' | 'gone' | 'by-controller' | 'failed'; readonly detail: string };

/** What stands against restoring this one, by what it is now. */
async function look(api: KubeApi, prior: PriorValue, all: readonly PriorValue[]): Promise<Look> {
  // Replicas are their controller's to give; everything else (a CronJob's running Job, say) is nobody's but ours.
  if (prior.through === 'scale' && prior.controllerUid !== undefined) {
    const above = all.find(({ uid }) => uid === prior.controllerUid);
    if (above) return { outcome: 'by-controller', detail: `Left to ${nameOf(above)}, which it belongs to` };
  }
  if (prior.through === 'command') {
    return { outcome: 'failed', detail: 'It was stopped by a command: it must be resumed by hand (ResumeJob)' };
  }
  const answer = await api.get(placeOf(prior), REQUEST_TIMEOUT_MS);
  if (!answer.ok) {
    if (answer.kind === 'not-found') return { outcome: 'gone', detail: 'It is not there any more' };
    return { outcome: 'failed', detail: answer.detail };
  }
  const object = answer.value;
  if (object.metadata.uid !== prior.uid) {
    return { outcome: 'gone', detail: `Another one of this name was made since (uid ${object.metadata.uid})` };
  }
  if (object.metadata.deletionTimestamp !== undefined) return { outcome: 'gone', detail: 'It is being deleted' };
  const holdsStop = (field: PriorField): boolean => isSame(valueAt(object, field.path), field.stop);
  const fields = prior.fields.filter(holdsStop);
  // A switch that the server took and dropped is recorded too, and still holds what it held: there is nothing to give back.
  const isUntouched = (field: PriorField): boolean => isSame(valueAt(object, field.path), field.prior);
  const other = prior.fields.find((field) => !holdsStop(field) && (fields.length === 0 || !isUntouched(field)));
  if (other) {
    const now = shown(valueAt(object, other.path));
    return { outcome: 'kept', detail: `${pathIn(other)} is ${now} by now, not ${shown(other.stop)}: left as it is` };
  }
  return { outcome: 'would-restore', detail: fields.map(change).join(', '), object, fields };
}

async function giveBack(
  api: KubeApi,
  prior: PriorValue,
  object: KubeObject,
  fields: readonly PriorField[],
): Promise<Pick<RestoreStep, 'outcome' | 'detail'>> {
  // The resourceVersion makes it a compare-and-swap: what changed since the look is looked at by a person.
  const { resourceVersion } = object.metadata;
  const version =
    resourceVersion === undefined ? [] : [{ path: ['metadata', 'resourceVersion'], value: resourceVersion }];
  const patch = patchOf([...version, ...fields.map(({ path, prior: value }) => ({ path, value }))]);
  const answer = await api.patch(placeOf(prior), patch, REQUEST_TIMEOUT_MS);
  if (!answer.ok) {
    const isChanged = answer.kind === 'conflict';
    return { outcome: 'failed', detail: isChanged ? `It changed just now: ${answer.detail}` : answer.detail };
  }
  const dropped = fields.find((field) => !isSame(valueAt(answer.value, field.path), field.prior));
  if (dropped)
    return {
      outcome: 'failed',
      detail: `${pathIn(dropped)} was not taken: it is ${shown(valueAt(answer.value, dropped.path))}`,
    };
  return { outcome: 'restored', detail: fields.map(change).join(', ') };
}

function placeOf({ group, version, resource, namespace, name, through }: PriorValue): string {
  return pathOf(
    { group, version, resource, namespaced: namespace !== undefined },
    { ...(namespace !== undefined && { namespace }), name, ...(through === 'scale' && { subresource: 'scale' }) },
  );
}

/** The server leaves out what is 0, false or empty, and a value taken away is missing: those are one. */
function isSame(a: unknown, b: unknown): boolean {
  const isNothing = (value: unknown): boolean =>
    value === undefined || value === null || value === 0 || value === false || value === '';
  return (isNothing(a) && isNothing(b)) || a === b || JSON.stringify(a) === JSON.stringify(b);
}

const shown = (value: unknown): string => (value === undefined ? 'not set' : JSON.stringify(value));
const pathIn = ({ path }: PriorField): string => path.join('.');
const change = (field: PriorField): string =>
  `${pathIn(field)} ${shown(field.stop)} -> ${field.prior === null ? 'not set' : shown(field.prior)}`;
