// One order, carried out on one cluster: everything at the same time and nothing waiting for another, then whatever
// each new look at the cluster shows, for as long as the order stands. It starts from the last look in memory, so that
// the first delete needs no answer. It ends by being withdrawn only; "verified" is a thing it says, not an end.
import type { StopProgress } from '../actuators/actuator.ts';
import type { StopEntry, StopOrder } from '../domain/stop.ts';
import type { PodView } from './cluster-view.ts';
import type { KubeFailure } from './kube-api.ts';
import { OwnerPursuit, type StopContext } from './owner-stop.ts';
import { type NodeState, PodSweep } from './pod-sweep.ts';
import type { ArmState } from './stop-latch.ts';
import { StopScope } from './stop-scope.ts';
import type { Look } from './workload-inventory.ts';
import { isMarked } from './workload-label.ts';

/** The contract's rule: so many lists without an active pod, over so long. */
const QUIET_LISTS = 3;
const QUIET_MS = 15_000;
const UNREACHABLE_AFTER_MS = 5000;
const REARM_MS = 2000;
/** Reports are gathered: thousands of pods change within a second, and a report of them all must not crowd out the deletes. */
const REPORT_EVERY_MS = 100;
const REPORT_PER_ENTRY_MS = 0.2;
/** Controllers that are followed; what makes new ones while a trip stands, day after day, must not fill the memory. */
const MOST_OWNERS = 2_000;

interface ClusterStopParts {
  readonly context: Omit<StopContext, 'changed' | 'orderId' | 'orderedAtMs' | 'ended'>;
  readonly order: StopOrder;
  readonly line: <T>(work: () => Promise<T>) => Promise<T>;
  readonly nodeState: (node: string) => NodeState;
  readonly report: (progress: StopProgress) => void;
  /** Asks for a look at the cluster now rather than in its time. */
  readonly lookSoon: () => void;
  readonly ended: AbortSignal;
}

export class ClusterStop {
  readonly #parts: ClusterStopParts;
  readonly #context: StopContext;
  readonly #scope: StopScope;
  readonly #owners = new Map<string, OwnerPursuit>();
  readonly #sweep: PodSweep;
  /** Whether new labelled pods can and shall be refused: a rule for all of the cluster suits an order for all of it. */
  readonly #arms: boolean;
  #armed: ArmState | null = null;
  #quiet: { readonly sinceMs: number; readonly lists: number } | null = null;
  #listedAtMs: number;
  #listFailure: KubeFailure | null = null;
  #problems: Look['problems'] | null = null;
  #isReportDue = false;
  #lastReport = '';
  /** Entries of the last report. */
  #told = 0;
  /** Controllers that were followed to their end and are told of no more. */
  #uncounted = 0;

  constructor(parts: ClusterStopParts) {
    const { order, ended } = parts;
    this.#parts = parts;
    const orderedAtMs = parts.context.clock.now().elapsedMs;
    const changed = (): void => this.#reportSoon();
    this.#context = { ...parts.context, orderId: order.orderId, orderedAtMs, ended, changed };
    this.#listedAtMs = orderedAtMs;
    this.#scope = new StopScope(order);
    this.#arms = order.what === 'everything' && order.scope.kind === 'all';
    this.#sweep = new PodSweep({
      context: this.#context,
      line: parts.line,
      nodeState: parts.nodeState,
      holdFor: (pod) => this.#holdFor(pod),
      isOurs: (pod) => isMarked(pod.object.metadata.labels) || this.#owners.has(pod.controllerUid ?? ''),
    });
  }

  get ownerUids(): Iterable<string> {
    return this.#owners.keys();
  }

  get orderedAtMs(): number {
    return this.#context.orderedAtMs;
  }

  /** Acts on what is in memory; resolves when the order is withdrawn. */
  async run(memory: Look | null): Promise<void> {
    const { clock, ended } = this.#context;
    // Sent before anything else: behind hundreds of deletes it would let the first new pods in.
    const arming = this.#arms ? this.#keepArmed() : undefined;
    if (memory) this.#act(memory, false);
    this.#report();
    while (!ended.aborted) {
      await clock.sleep(1000, ended);
      this.#reportSoon();
    }
    await arming;
  }

  /** Takes in a new look at the cluster. */
  take(look: Look): void {
    if (this.#context.ended.aborted) return;
    this.#listFailure = look.podsFailure;
    if (!look.podsFailure) this.#listedAtMs = this.#context.clock.now().elapsedMs;
    if (look.hasOwners) this.#problems = look.problems.filter((problem) => problem.isVital);
    this.#act(look, look.podsFailure === null && look.askedAtMs >= this.orderedAtMs);
    if (look.podsFailure) return;
    if (this.#sweep.active > 0) this.#quiet = null;
    else if (look.askedAtMs >= this.orderedAtMs) {
      this.#quiet = { sinceMs: this.#quiet?.sinceMs ?? look.askedAtMs, lists: (this.#quiet?.lists ?? 0) + 1 };
      if (look.askedAtMs - this.#quiet.sinceMs >= QUIET_MS) this.#reportSoon();
    }
  }

  #act(look: Look, isWhole: boolean): void {
    const { owners, pods } = this.#scope.cover(look.view);
    const shown = new Set<string>();
    for (const owner of owners) {
      shown.add(owner.uid);
      const known = this.#owners.get(owner.uid);
      if (known) {
        if (look.hasOwners) known.see(owner, look.askedAtMs);
        continue;
      }
      const pursuit = new OwnerPursuit(this.#context, owner);
      this.#owners.set(owner.uid, pursuit);
      const above = look.view.ancestorsOf(owner).map(({ uid }) => this.#owners.get(uid));
      pursuit.start(above.filter((one) => one !== undefined));
    }
    this.#sweep.take(pods, { askedAtMs: look.askedAtMs, isWhole });
    if (!look.hasOwners) return;
    for (const [uid, pursuit] of this.#owners) {
      const owner = look.view.owners.get(uid);
      if (owner?.hasEnded) pursuit.see(owner, look.askedAtMs);
      else if (!shown.has(uid) && !owner && look.askedAtMs >= this.orderedAtMs) pursuit.leave(look);
      if (!pursuit.isGuardedOnly) continue;
      const below = new Set([uid, ...look.view.descendantsOf(uid).map((one) => one.uid)]);
      pursuit.guard(this.#armed?.kind === 'armed' && !this.#sweep.runsBelow(below));
    }
    this.#bound(look.view);
  }

  /** The oldest that are gone are counted alone, as the pods' are. */
  #bound(view: Look['view']): void {
    for (const [uid, pursuit] of this.#owners) {
      if (this.#owners.size <= MOST_OWNERS) return;
      if (!pursuit.isStopped || view.owners.has(uid) || this.#sweep.runsBelow(new Set([uid]))) continue;
      this.#owners.delete(uid);
      this.#uncounted += 1;
    }
  }

  #holdFor({ controllerUid }: PodView): Promise<unknown> | undefined {
    const owner = this.#owners.get(controllerUid ?? '');
    return owner?.holdsPods ? owner.answered : undefined;
  }

  async #keepArmed(): Promise<void> {
    const { clock, latch, ended } = this.#context;
    while (!ended.aborted) {
      const wasArmed = this.#armed?.kind === 'armed';
      this.#armed = await latch.arm(this.#parts.order);
      // Nothing new comes in from here on: one look finds whoever was quicker than the rule.
      if (this.#armed.kind === 'armed' && !wasArmed) this.#parts.lookSoon();
      this.#reportSoon();
      await clock.sleep(REARM_MS, ended);
    }
  }

  #reportSoon(): void {
    if (this.#isReportDue || this.#context.ended.aborted) return;
    this.#isReportDue = true;
    this.#context.clock.after(Math.max(REPORT_EVERY_MS, this.#told * REPORT_PER_ENTRY_MS), () => {
      this.#isReportDue = false;
      this.#report();
    });
  }

  #report(): void {
    if (this.#context.ended.aborted) return;
    const owners = [...this.#owners.values()].map((pursuit) => pursuit.entry).filter((entry) => entry !== null);
    const entries = [...this.#clusterEntries(), ...owners, ...this.#sweep.entries()];
    this.#told = entries.length;
    const verified = this.#isVerified();
    const said = JSON.stringify([verified, entries]);
    if (said === this.#lastReport) return;
    this.#lastReport = said;
    try {
      this.#parts.report({ entries, verified });
    } catch (error) {
      // A listener's bug is the process's to die of, by its own handler; it must not end the stop here.
      queueMicrotask(() => {
        throw error;
      });
    }
  }

  #isVerified(): boolean {
    const quiet = this.#quiet;
    if (!quiet || this.#context.clock.now().elapsedMs - quiet.sinceMs < QUIET_MS || quiet.lists < QUIET_LISTS)
      return false;
    const isArmed = !this.#arms || this.#armed?.kind === 'armed' || this.#armed?.kind === 'absent';
    // Without kinds no controller was listed, and none of them was a problem.
    const areKindsKnown = this.#context.kinds().length > 0;
    const areOwnersKnown = areKindsKnown && this.#problems !== null && this.#problems.length === 0;
    const areOwnersStopped = [...this.#owners.values()].every((owner) => owner.isStopped);
    return isArmed && areOwnersKnown && areOwnersStopped && this.#sweep.isConfirmed && this.#listFailure === null;
  }

  /** What is told of no single object: the server, its lists, the deny rule. */
  #clusterEntries(): StopEntry[] {
    const entries: StopEntry[] = [];
    const nowMs = this.#context.clock.now().elapsedMs;
    const add = (kind: string, name: string, state: StopEntry['state'], detail: string | undefined): void => {
      const verified = state === 'stopped';
      const how = kind === 'DenyRule' ? 'armed' : '';
      const rest = detail === undefined ? {} : { detail };
      entries.push({
        actuator: 'kubernetes',
        kind,
        name,
        state,
        how: verified ? how : '',
        verified,
        tookMs: 0,
        ...rest,
      });
    };
    if (nowMs - this.#listedAtMs >= UNREACHABLE_AFTER_MS) {
      const why = this.#listFailure?.detail ?? 'it has not answered yet';
      const name = this.#context.api.server;
      add('Cluster', name, 'failed', `No list of pods for over ${UNREACHABLE_AFTER_MS / 1000} s, still trying: ${why}`);
    }
    if (this.#uncounted > 0) add('Controller', `${this.#uncounted} more that are gone`, 'stopped', undefined);
    for (const { what, detail } of this.#problems ?? []) add('List', what, 'failed', detail);
    if (this.#armed && this.#armed.kind !== 'absent') {
      const failure = this.#armed.kind === 'failed' ? this.#armed.detail : undefined;
      add('DenyRule', 'vsf-estop', failure === undefined ? 'stopped' : 'failed', failure);
    }
    return entries;
  }
}
