// Stops one controller and keeps it stopped: read what it is, record that, set its switch, check what came back, and look
// at every later list whether somebody raised it again. Each controller has its own retries; nothing here waits for
// another, but for a moment for the controller above (topmost first). The kinds and their switches are owner-kinds.ts.
import { type Clock, TIMED_OUT, withDeadline } from '../clock.ts';
import type { StopEntry } from '../domain/stop.ts';
import type { OwnerView } from './cluster-view.ts';
import { retryDelayMs } from './in-flight.ts';
import {
  type KubeAnswer,
  type KubeApi,
  type KubeFailure,
  type KubeObject,
  type KubeResource,
  pathOf,
} from './kube-api.ts';
import {
  COMMAND_GROUP,
  isSwitchedOff,
  losesDataWhenScaled,
  patchOf,
  type StopMethod,
  type SwitchField,
  valueAt,
} from './owner-kinds.ts';
import type { PriorField, PriorValue, StopLatch } from './stop-latch.ts';

const REQUEST_TIMEOUT_MS = 3000;
/** What it was is worth this much delay; then the last list's word is taken. */
const READ_TIMEOUT_MS = 300;
const RECORD_TIMEOUT_MS = 250;
/** Deletes of a Job's pods wait this long for its suspend, or the Job fails for good; and a controller for the one above. */
export const ANSWER_WAIT_MS = 300;
/** A Volcano command that has had no effect by then is given again. */
const COMMAND_AGAIN_MS = 10_000;

/** What the pursuits of one order share. */
export interface StopContext {
  readonly clock: Clock;
  readonly api: KubeApi;
  readonly latch: StopLatch;
  readonly kinds: () => readonly KubeResource[];
  readonly orderId: string;
  readonly orderedAtMs: number;
  readonly ended: AbortSignal;
  readonly changed: () => void;
}

type Outcome = Pick<StopEntry, 'state' | 'verified'> & { readonly detail?: string };

export class OwnerPursuit {
  readonly #context: StopContext;
  readonly #method: StopMethod;
  readonly #answered: Promise<unknown>;
  #tellAnswered: () => void = () => undefined;
  #owner: OwnerView;
  /** Which of the switch's lists of fields is tried. */
  #attempt = 0;
  #isPursuing = false;
  /** When the switch was last seen set in an answer to us, monotonic. */
  #setAtMs: number | undefined;
  #commands = 0;
  #raises = 0;
  #raisedBy = '';
  #isNotable: boolean;
  #entry: StopEntry;

  constructor(context: StopContext, owner: OwnerView) {
    this.#context = context;
    this.#owner = owner;
    const { rule, resource } = owner.kind;
    const keepsData: StopMethod = { by: 'nothing', why: 'scaling it down would delete its volumes' };
    this.#method = losesDataWhenScaled(rule, owner.object) ? keepsData : rule.method;
    const answer = new Promise<void>((resolve) => (this.#tellAnswered = resolve));
    this.#answered = Promise.race([answer, context.clock.sleep(ANSWER_WAIT_MS, context.ended)]);
    // An old revision at 0 below a controller of ours is nothing to tell of.
    this.#isNotable = owner.controllerUid === undefined || !this.#isOff(owner.object);
    this.#entry = {
      actuator: 'kubernetes',
      kind: resource.kind,
      name: owner.namespace === undefined ? owner.name : `${owner.namespace}/${owner.name}`,
      ...(owner.leaseIds[0] !== undefined && { leaseId: owner.leaseIds[0] }),
      state: 'found',
      how: '',
      verified: false,
      tookMs: 0,
    };
  }

  /** Resolves with the first answer to its switch, after 300 ms at the latest. */
  get answered(): Promise<unknown> {
    return this.#answered;
  }

  /** `null` for what was stopped before and stays so below another controller. */
  get entry(): StopEntry | null {
    return this.#isNotable ? this.#entry : null;
  }

  /** It has no switch: only the deny rule keeps its pods away. */
  get isGuardedOnly(): boolean {
    return this.#method.by === 'nothing';
  }

  /** A switch that must be set before its pods may be deleted. */
  get holdsPods(): boolean {
    return this.#owner.kind.rule.ends === true && this.#method.by !== 'nothing';
  }

  get isStopped(): boolean {
    return this.#entry.verified;
  }

  /** Begins, a moment after the controllers above if there are any. */
  start(above: readonly OwnerPursuit[]): void {
    if (above.length === 0) this.#begin();
    else void Promise.all(above.map((pursuit) => pursuit.answered)).then(() => this.#begin());
  }

  /** What a later list showed. */
  see(owner: OwnerView, askedAtMs: number): void {
    this.#owner = owner;
    if (this.#isPursuing || this.isGuardedOnly) return;
    if (owner.hasEnded) {
      this.#tell({ state: 'stopped', verified: true, detail: 'it has ended by itself' });
      return;
    }
    if (this.#method.by === 'scale' && owner.kind.rule.replicas === undefined) {
      void this.#readBack();
      return;
    }
    this.#judge(this.#isOff(owner.object), owner.object, askedAtMs);
  }

  /** It is in no list any more; where its kind was listed in vain, that says nothing. */
  leave(look: { readonly wouldShow: (owner: OwnerView) => boolean }): void {
    if (look.wouldShow(this.#owner)) this.#tell({ state: 'stopped', verified: true, detail: 'gone' });
  }

  /** For one without a switch: whether the deny rule holds and nothing of it runs. */
  guard(isKept: boolean): void {
    if (this.#method.by !== 'nothing') return;
    const how = { ...this.#entry, how: 'deny rule and deletes only' };
    this.#entry = how;
    const detail = `${this.#method.why}${isKept ? '' : ', and nothing keeps it from making pods again'}`;
    this.#tell({ state: isKept ? 'stopped' : 'stopping', verified: isKept, detail });
  }

  #judge(isOff: boolean, object: KubeObject | null, askedAtMs: number): void {
    // A list that was asked for before our answer came may show it as it was before.
    if (askedAtMs < (this.#setAtMs ?? -Infinity)) return;
    if (isOff) {
      this.#tell({ state: 'stopped', verified: true });
      return;
    }
    if (this.#setAtMs !== undefined) {
      this.#raises += 1;
      this.#raisedBy = (object && raiserOf(object, this.#fields()[0]?.path)) ?? this.#raisedBy;
    }
    void this.#pursue();
  }

  #begin(): void {
    if (this.isGuardedOnly) {
      this.#tellAnswered();
      this.guard(false);
    } else void this.#pursue();
  }

  async #pursue(): Promise<void> {
    const { clock, ended } = this.#context;
    if (this.#isPursuing || ended.aborted) return;
    this.#isPursuing = true;
    for (let attempt = 0; !ended.aborted; attempt++) {
      let failure: KubeFailure | null;
      try {
        failure = await this.#turn();
      } catch (error) {
        // Nothing known throws here. Whatever does must not end the pursuit.
        failure = { ok: false, kind: 'bad-body', status: null, detail: String(error), retryAfterMs: null };
      }
      this.#tellAnswered();
      if (!failure) break;
      this.#isNotable = true;
      this.#tell({ state: 'failed', verified: false, detail: failure.detail });
      await clock.sleep(retryDelayMs(failure, failure.kind === 'conflict' ? 0 : attempt), ended);
    }
    this.#isPursuing = false;
  }

  /** One try; `null` when there is nothing left to do before the next list. */
  async #turn(): Promise<KubeFailure | null> {
    const { clock, latch } = this.#context;
    const { object, isGone } = await this.#read();
    // The next list tells whether it is gone or was made anew.
    if (isGone) return null;
    const isOff = object ? this.#isOff(object) : false;
    if (isOff) {
      this.#setAtMs ??= clock.now().elapsedMs;
      const known = latch.priorOf(this.#owner.uid);
      if (known) this.#notePrior(known.fields);
      this.#tell({ state: 'stopped', verified: true, ...(known ? {} : { detail: 'it was off before' }) });
      return null;
    }
    this.#isNotable = true;
    const changes = this.#changes(object);
    if (this.#setAtMs === undefined && object !== null) {
      const recorded = latch.recordPrior(this.#priorValue(changes));
      await withDeadline(clock, RECORD_TIMEOUT_MS, recorded);
      // What was recorded first counts, also before a restart.
      this.#notePrior(latch.priorOf(this.#owner.uid)?.fields ?? changes);
    }
    return this.#method.by === 'command' ? await this.#command() : await this.#patch(changes);
  }

  async #read(): Promise<{ readonly object: KubeObject | null; readonly isGone: boolean }> {
    const { clock, api } = this.#context;
    const remembered = this.#owner.isRead && !this.#needsScale() ? this.#owner.object : null;
    const path = this.#path(this.#needsScale() ? 'scale' : undefined);
    const answer = await withDeadline(clock, READ_TIMEOUT_MS, api.get(path, READ_TIMEOUT_MS));
    if (answer === TIMED_OUT) return { object: remembered, isGone: false };
    if (!answer.ok) return { object: remembered, isGone: answer.kind === 'not-found' };
    return { object: answer.value, isGone: answer.value.metadata.uid !== this.#owner.uid };
  }

  async #patch(changes: readonly PriorField[]): Promise<KubeFailure | null> {
    const { clock, api } = this.#context;
    const isScale = this.#method.by === 'scale';
    const set = changes.map(({ path, stop }) => ({ path, value: stop }));
    // With the uid, one that was made anew under the same name is not hit by what was known of the old one.
    const uid = { path: ['metadata', 'uid'], value: this.#owner.uid };
    const path = this.#path(isScale ? 'scale' : undefined);
    const answer = await this.#within(api.patch(path, patchOf([...set, uid]), REQUEST_TIMEOUT_MS));
    if (answer.ok) {
      if (changes.every(({ path, stop }) => (valueAt(answer.value, path) ?? (isScale ? 0 : undefined)) === stop)) {
        this.#setAtMs = clock.now().elapsedMs;
        this.#tell({ state: 'stopping', verified: false });
        return null;
      }
      const dropped = changes.map(({ path }) => path.at(-1)).join(', ');
      const detail = `Cannot stop ${this.#entry.kind} ${this.#entry.name}: the server took ${dropped} and dropped it`;
      return { ok: false, kind: 'refused', status: 200, detail, retryAfterMs: this.#nextAttempt() ? 0 : null };
    }
    if (answer.kind === 'not-found') return null;
    return answer.kind === 'refused' && this.#nextAttempt() ? { ...answer, retryAfterMs: 0 } : answer;
  }

  async #command(): Promise<KubeFailure | null> {
    const { clock, api, kinds } = this.#context;
    const { name, namespace, uid, kind } = this.#owner;
    const nowMs = clock.now().elapsedMs;
    if (this.#setAtMs !== undefined && nowMs - this.#setAtMs < COMMAND_AGAIN_MS) return null;
    const command = kinds().find((one) => one.group === COMMAND_GROUP && one.kind === 'Command');
    const { group, version } = kind.resource;
    if (!command || namespace === undefined || this.#method.by !== 'command') {
      const detail = `Cannot stop ${kind.resource.kind} ${name}: the cluster does not serve Command.${COMMAND_GROUP}`;
      return { ok: false, kind: 'not-found', status: null, detail, retryAfterMs: null };
    }
    this.#commands += 1;
    const body = {
      apiVersion: `${command.group}/${command.version}`,
      kind: command.kind,
      metadata: { name: `vsf-stop-${uid}-${this.#commands}`, namespace },
      action: this.#method.action,
      target: { apiVersion: `${group}/${version}`, kind: kind.resource.kind, name, uid, controller: true },
    };
    const answer = await this.#within(api.create(pathOf(command, { namespace }), body, REQUEST_TIMEOUT_MS));
    if (!answer.ok && answer.kind !== 'conflict') return answer;
    this.#setAtMs = clock.now().elapsedMs;
    this.#tell({ state: 'stopping', verified: false });
    return null;
  }

  /** For a kind whose lists do not tell how many it wants: CRDs keep that where they like. */
  async #readBack(): Promise<void> {
    const { clock, api } = this.#context;
    const askedAtMs = clock.now().elapsedMs;
    const answer = await this.#within(api.get(this.#path('scale'), REQUEST_TIMEOUT_MS));
    if (answer.ok && !this.#isPursuing) this.#judge(this.#isOff(answer.value), this.#owner.object, askedAtMs);
  }

  async #within(work: Promise<KubeAnswer<KubeObject>>): Promise<KubeAnswer<KubeObject>> {
    const answer = await withDeadline(this.#context.clock, REQUEST_TIMEOUT_MS + 500, work);
    if (answer !== TIMED_OUT) return answer;
    const detail = `Cannot stop ${this.#entry.kind} ${this.#entry.name}: no answer within ${REQUEST_TIMEOUT_MS} ms`;
    return { ok: false, kind: 'timeout', status: null, detail, retryAfterMs: null };
  }

  #needsScale(): boolean {
    return this.#method.by === 'scale' && this.#owner.kind.rule.replicas === undefined;
  }

  #isOff(object: KubeObject): boolean {
    if (this.#method.by !== 'scale') return isSwitchedOff(this.#method, object);
    if (object.kind === 'Scale') return (valueAt(object, ['spec', 'replicas']) ?? 0) === 0;
    const { replicas } = this.#owner.kind.rule;
    return replicas !== undefined && valueAt(object, replicas) === 0;
  }

  #fields(): readonly SwitchField[] {
    switch (this.#method.by) {
      case 'scale':
        return [{ path: ['spec', 'replicas'], stop: 0 }];
      case 'fields':
        return this.#method.attempts[this.#attempt] ?? [];
      case 'command':
        return [{ path: ['status', 'state', 'phase'], stop: this.#method.stoppedPhases[0] }];
      case 'nothing':
        return [];
    }
  }

  #changes(object: KubeObject | null): readonly PriorField[] {
    return this.#fields().map(({ path, stop, absent }) => ({
      path,
      stop,
      prior: (object === null ? undefined : valueAt(object, path)) ?? absent ?? null,
    }));
  }

  /** Goes over to the switch's next list of fields; `false` when there is none. */
  #nextAttempt(): boolean {
    if (this.#method.by !== 'fields' || this.#attempt + 1 >= this.#method.attempts.length) return false;
    this.#attempt += 1;
    return true;
  }

  #priorValue(fields: readonly PriorField[]): PriorValue {
    const { kind, namespace, name, uid, controllerUid } = this.#owner;
    const { group, version, resource } = kind.resource;
    const through = this.#method.by === 'scale' ? 'scale' : this.#method.by === 'command' ? 'command' : 'object';
    const { orderId } = this.#context;
    return {
      orderId,
      group,
      version,
      kind: kind.resource.kind,
      resource,
      namespace,
      name,
      uid,
      controllerUid,
      through,
      fields,
    };
  }

  #notePrior(recorded: readonly PriorField[]): void {
    const words = recorded.map(({ path, prior }) =>
      this.#method.by === 'scale' ? String(prior) : `${path.at(-1)}: ${prior === null ? 'none' : String(prior)}`,
    );
    const how = recorded.map(({ path, prior, stop }) =>
      this.#method.by === 'scale' ? `scale ${String(prior)} -> 0` : `${path.at(-1)} -> ${String(stop)}`,
    );
    this.#entry = { ...this.#entry, prior: words.join(', '), how: how.join(', ') };
  }

  #path(subresource: string | undefined): string {
    const { kind, namespace, name } = this.#owner;
    return pathOf(kind.resource, {
      ...(namespace !== undefined && { namespace }),
      name,
      ...(subresource !== undefined && { subresource }),
    });
  }

  #tell(outcome: Outcome): void {
    const { detail: told, ...rest } = this.#entry;
    const fight =
      this.#raises > 0 ? `raised again ${this.#raises} times${this.#raisedBy && `, last by ${this.#raisedBy}`}` : '';
    const detail = [outcome.detail, fight].filter((part) => part).join('; ');
    if (rest.state === outcome.state && rest.verified === outcome.verified && (told ?? '') === detail) return;
    const tookMs = Math.round(this.#context.clock.now().elapsedMs - this.#context.orderedAtMs);
    const { state, verified } = outcome;
    this.#entry = { ...rest, state, verified, tookMs, ...(detail !== '' && { detail }) };
    this.#context.changed();
  }
}

/** Who wrote a field last, as the server's book of field managers says. */
function raiserOf(object: KubeObject, path: readonly string[] | undefined): string | undefined {
  const entries = [...(object.metadata.managedFields ?? [])].filter(({ subresource }) => subresource !== 'status');
  const owners = entries.filter((entry) => {
    const fields = (entry as { readonly fieldsV1?: unknown }).fieldsV1;
    return (
      path &&
      valueAt(
        fields,
        path.map((key) => `f:${key}`),
      ) !== undefined
    );
  });
  const newest = (owners.length > 0 ? owners : entries).sort((a, b) => (b.time ?? '').localeCompare(a.time ?? ''))[0];
  return newest?.manager;
}
