// Takes the pods of one order down, each with its own state: DELETE with a grace of 1 s, so that the object stays until
// the kubelet has seen the processes dead; again where nothing came of it; with grace 0 only as a last resort for a
// node that does not answer, and then told as unconfirmed. What a list shows decides, never the answer to a delete.
import { TIMED_OUT, withDeadline } from '../clock.ts';
import type { StopEntry } from '../domain/stop.ts';
import type { PodView } from './cluster-view.ts';
import { retryDelayMs } from './in-flight.ts';
import { type KubeAnswer, type KubeFailure, type KubeObject, pathOf } from './kube-api.ts';
import type { StopContext } from './owner-stop.ts';
import { isBeingKilled, isMirror } from './pod-state.ts';

const PODS = { group: '', version: 'v1', resource: 'pods', namespaced: true };
const REQUEST_TIMEOUT_MS = 3000;
/** A kubelet kills after 2 s at most when the grace is 1 s; who is there after this is not being killed. */
const LAST_RESORT_MS = 10_000;
/** Entries of pods in a report; what is gone for sure is counted beyond that (a fight may go on for days). */
const MOST_TOLD = 10_000;

/** Whether a pod's node answers. `unknown` where nodes cannot be listed: then nothing is forced. */
export type NodeState = 'ready' | 'silent' | 'unknown';

interface Pursued {
  view: PodView;
  state: StopEntry['state'];
  how: string;
  detail: string | undefined;
  tookMs: number;
  isActive: boolean;
  /** The last whole list showed it, so that it is there and still ours. */
  isListed: boolean;
  isBusy: boolean;
  failures: number;
  /** When a delete was last taken, monotonic; and the first. */
  sentAtMs: number | undefined;
  firstSentAtMs: number | undefined;
  forcedAtMs: number | undefined;
  /** Gone, but from a node that could not have said so. */
  isUnseen: boolean;
}

export interface PodSweepParts {
  readonly context: StopContext;
  /** The line that all deletes of this service wait in. */
  readonly line: <T>(work: () => Promise<T>) => Promise<T>;
  /** What a pod's delete waits for: the suspend of its Job. */
  readonly holdFor: (pod: PodView) => Promise<unknown> | undefined;
  /** Whether a pod is (still) one that may be deleted. */
  readonly isOurs: (pod: PodView) => boolean;
  readonly nodeState: (node: string) => NodeState;
}

export class PodSweep {
  readonly #parts: PodSweepParts;
  readonly #pods = new Map<string, Pursued>();
  #uncounted = 0;

  constructor(parts: PodSweepParts) {
    this.#parts = parts;
  }

  /** Pods that may still run. */
  get active(): number {
    let count = 0;
    for (const pod of this.#pods.values()) if (pod.isActive) count += 1;
    return count;
  }

  /** Nothing was taken off a node that did not answer. */
  get isConfirmed(): boolean {
    for (const pod of this.#pods.values()) if (pod.forcedAtMs !== undefined || pod.isUnseen) return false;
    return true;
  }

  runsBelow(ownerUids: ReadonlySet<string>): boolean {
    for (const { view, isActive } of this.#pods.values()) {
      if (isActive && view.controllerUid !== undefined && ownerUids.has(view.controllerUid)) return true;
    }
    return false;
  }

  entries(): StopEntry[] {
    const entries = [...this.#pods.values()].map(entryOf);
    if (this.#uncounted === 0) return entries;
    const name = `${this.#uncounted} more that are gone`;
    const more = {
      actuator: 'kubernetes',
      kind: 'Pod',
      name,
      state: 'stopped',
      how: '',
      verified: true,
      tookMs: 0,
    } as const;
    return [...entries, more];
  }

  /**
   * Takes in what a look covers and sends what is due. `askedAtMs`: when its list was asked for; `isWhole`: what is not
   * in it is gone.
   */
  take(
    pods: readonly PodView[],
    { askedAtMs, isWhole }: { readonly askedAtMs: number; readonly isWhole: boolean },
  ): void {
    const seen = new Set<string>();
    for (const view of pods) {
      seen.add(view.uid);
      const pod = this.#pods.get(view.uid) ?? this.#add(view);
      if (!pod) continue;
      pod.view = view;
      pod.isListed = true;
      if (!view.isActive) this.#end(pod, undefined);
      else {
        pod.isActive = true;
        this.#actOn(pod, askedAtMs);
      }
    }
    if (!isWhole) return;
    for (const pod of this.#pods.values()) {
      if (seen.has(pod.view.uid)) continue;
      pod.isListed = false;
      if (!pod.isActive) this.#lookAtNode(pod);
      // Without a delete that was taken it may be there and have lost its label.
      else if (pod.sentAtMs === undefined && !pod.isBusy) void this.#findOut(pod);
      else if (pod.sentAtMs !== undefined) this.#end(pod, undefined);
    }
    this.#bound();
  }

  #add(view: PodView): Pursued | undefined {
    // Long finished before the order.
    if (!view.isActive) return undefined;
    const pod: Pursued = {
      view,
      state: 'found',
      how: '',
      detail: undefined,
      tookMs: 0,
      isActive: true,
      isListed: true,
      isBusy: false,
      failures: 0,
      sentAtMs: undefined,
      firstSentAtMs: undefined,
      forcedAtMs: undefined,
      isUnseen: false,
    };
    this.#pods.set(view.uid, pod);
    this.#parts.context.changed();
    return pod;
  }

  #actOn(pod: Pursued, askedAtMs: number): void {
    if (pod.isBusy) return;
    const { object, node } = pod.view;
    if (isMirror(object)) {
      const detail = `a static pod: only its file on ${node ?? 'the node'} can be taken away, which the API cannot`;
      this.#tell(pod, 'failed', detail);
      return;
    }
    if (!isBeingKilled(object)) {
      // A list from before the delete was taken shows it as it was.
      if (pod.sentAtMs === undefined || askedAtMs > pod.sentAtMs) void this.#delete(pod, 1);
      return;
    }
    const nowMs = this.#parts.context.clock.now().elapsedMs;
    pod.sentAtMs ??= nowMs;
    pod.firstSentAtMs ??= nowMs;
    const agoMs = nowMs - pod.firstSentAtMs;
    if (agoMs < LAST_RESORT_MS) {
      this.#tell(pod, 'stopping', undefined);
      return;
    }
    const where = node === null ? 'it is on no node' : `its node ${node}`;
    const state = node === null ? 'ready' : this.#parts.nodeState(node);
    // A pod that a finalizer keeps would not go by force either.
    if (state === 'silent' && (pod.forcedAtMs === undefined || nowMs - pod.forcedAtMs >= LAST_RESORT_MS)) {
      void this.#delete(pod, 0);
      return;
    }
    const why = { silent: ' does not answer', ready: ' answers', unknown: ' cannot be asked for' }[state];
    this.#tell(pod, 'stopping', `still there 10 s after its delete; ${where}${node === null ? '' : why}`);
  }

  async #delete(pod: Pursued, graceSeconds: 0 | 1): Promise<void> {
    const { context, line, holdFor, isOurs } = this.#parts;
    pod.isBusy = true;
    const hold = pod.sentAtMs === undefined ? holdFor(pod.view) : undefined;
    if (hold) await hold;
    const answer = await line(async () => {
      // Much may have changed while it waited: a label taken away, the order withdrawn.
      if (context.ended.aborted || !pod.isActive || !pod.isListed || !isOurs(pod.view)) return null;
      return await this.#remove(pod.view, graceSeconds);
    });
    pod.isBusy = false;
    if (!answer || !pod.isActive) return;
    const nowMs = context.clock.now().elapsedMs;
    // 404 and 409 (another uid): that pod is gone, as the next list will say.
    if (answer.ok || answer.kind === 'not-found' || answer.kind === 'conflict') {
      pod.failures = 0;
      pod.sentAtMs = nowMs;
      pod.firstSentAtMs ??= nowMs;
      const words = `delete, grace ${graceSeconds} s`;
      if (!pod.how.includes(words)) pod.how = pod.how === '' ? words : `${pod.how}; ${words}`;
      if (graceSeconds === 0) pod.forcedAtMs = nowMs;
      this.#tell(pod, 'stopping', undefined);
      return;
    }
    pod.failures += 1;
    this.#tell(pod, 'failed', answer.detail);
    pod.isBusy = true;
    await context.clock.sleep(retryDelayMs(answer, pod.failures - 1), context.ended);
    pod.isBusy = false;
    // Nothing waits for a list here: lists may be what fails.
    if (pod.isActive && !context.ended.aborted) void this.#delete(pod, graceSeconds);
  }

  async #remove({ uid, name, namespace }: PodView, graceSeconds: 0 | 1): Promise<KubeAnswer<KubeObject>> {
    const { api, clock } = this.#parts.context;
    const path = pathOf(PODS, { namespace, name });
    const answer = await withDeadline(
      clock,
      REQUEST_TIMEOUT_MS + 500,
      api.remove(path, { graceSeconds, uid }, REQUEST_TIMEOUT_MS),
    );
    return answer === TIMED_OUT ? noAnswer(`delete pod ${namespace}/${name}`) : answer;
  }

  async #findOut(pod: Pursued): Promise<void> {
    const { api } = this.#parts.context;
    const { namespace, name, uid } = pod.view;
    pod.isBusy = true;
    const answer = await api.get(pathOf(PODS, { namespace, name }), REQUEST_TIMEOUT_MS);
    pod.isBusy = false;
    const isGone = answer.ok ? answer.value.metadata.uid !== uid : answer.kind === 'not-found';
    if (isGone) this.#end(pod, 'gone without a delete from here');
    else if (answer.ok) this.#tell(pod, 'refused', 'it lost its label, so it is not ours to touch any more');
  }

  #end(pod: Pursued, detail: string | undefined): void {
    pod.isActive = false;
    const { node } = pod.view;
    const isSilent = node !== null && this.#parts.nodeState(node) === 'silent';
    if (pod.forcedAtMs !== undefined) {
      this.#tell(pod, 'stopped', `unconfirmed: removed by force from ${node}, which does not answer`);
      return;
    }
    pod.isUnseen = isSilent && pod.state !== 'stopped' ? true : pod.isUnseen;
    if (pod.isUnseen) {
      this.#lookAtNode(pod);
      return;
    }
    if (pod.state !== 'stopped') this.#tell(pod, 'stopped', detail);
  }

  /** A node that is back has taken down whatever the API no longer knows. */
  #lookAtNode(pod: Pursued): void {
    const { node } = pod.view;
    if (!pod.isUnseen || node === null) return;
    if (this.#parts.nodeState(node) === 'ready') {
      pod.isUnseen = false;
      this.#tell(pod, 'stopped', undefined);
    } else this.#tell(pod, 'stopped', `unconfirmed: gone from the API while its node ${node} does not answer`);
  }

  #bound(): void {
    let over = this.#pods.size - MOST_TOLD;
    if (over <= 0) return;
    for (const [uid, pod] of this.#pods) {
      if (over <= 0) return;
      if (pod.isActive || pod.isUnseen || pod.forcedAtMs !== undefined) continue;
      this.#pods.delete(uid);
      this.#uncounted += 1;
      over -= 1;
    }
  }

  #tell(pod: Pursued, state: StopEntry['state'], detail: string | undefined): void {
    if (pod.state === state && pod.detail === detail) return;
    const { context } = this.#parts;
    pod.state = state;
    pod.detail = detail;
    pod.tookMs = Math.round(context.clock.now().elapsedMs - context.orderedAtMs);
    context.changed();
  }
}

function entryOf({ view, state, how, detail, tookMs, isActive, isUnseen, forcedAtMs }: Pursued): StopEntry {
  return {
    actuator: 'kubernetes',
    kind: 'Pod',
    name: `${view.namespace}/${view.name}`,
    ...(view.node !== null && { node: view.node }),
    ...(view.leaseId !== undefined && { leaseId: view.leaseId }),
    state,
    how,
    verified: !isActive && !isUnseen && forcedAtMs === undefined,
    tookMs,
    ...(detail !== undefined && { detail }),
  };
}

const noAnswer = (deed: string): KubeFailure => ({
  ok: false,
  kind: 'timeout',
  status: null,
  detail: `Cannot ${deed}: no answer within ${REQUEST_TIMEOUT_MS} ms`,
  retryAfterMs: null,
});
