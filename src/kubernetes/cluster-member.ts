// This process as one of a cluster's: who leads, the common record of the latch and of the leases, what a stop overwrote,
// and the actuator that stops. It joins the parts of this folder and tells the door what they find; what follows from that
// the domain decides. Stopping waits for none of it.
import type { Actuator } from '../actuators/actuator.ts';
import { type Clock, withDeadline } from '../clock.ts';
import type { ClusterDetails, ClusterState } from '../domain/cluster.ts';
import type { DurableChange, Message, SafetyEvent } from '../domain/events.ts';
import type { CopiedTrip } from '../domain/interlock.ts';
import type { SafetyState } from '../domain/state.ts';
import { type Admission, createAdmission, type RuleState } from './admission.ts';
import { ClusterFacts } from './cluster-facts.ts';
import { ClusterLatch, type ResetOutcome } from './cluster-latch.ts';
import { createExporterFinder, type ExporterFinder, type ExporterPods } from './exporter-finder.ts';
import type { KubeApi } from './kube-api.ts';
import { createKubernetesActuator } from './kubernetes-stop.ts';
import type { LatchNews } from './latch-news.ts';
import { Leadership } from './leadership.ts';
import { createLeaseStore, LEASE_KEY, type LeaseStore, type StoreOutcome } from './lease-store.ts';
import { createPriorValues, type PriorDisk, type PriorValues, RESTORE_MAP } from './prior-values.ts';
import { type RestoreRequest, type RestoreStep, restore } from './restore.ts';

/** The cluster's record is waited for at a start; a server that is away must not keep the hardware unwatched. */
const START_WITHIN_MS = 4_000;
const LOAD_TIMEOUT_MS = 3_000;
const RULE_TIMEOUT_MS = 2_000;
/** Between tries to read the leases of the leader before. */
const TAKE_OVER_AGAIN_MS = 1_000;
const TAKE_OVER_TIMEOUT_MS = 2_000;
const FORGET_TIMEOUT_MS = 3_000;
const LEASES_CLOSE_MS = 2_000;
/** After these the cluster's record has something new to hold. */
const WRITTEN_AT_ONCE: readonly string[] = ['tripped', 'stop-verified', 'stop-unverified'];

export interface ClusterMemberParts {
  readonly api: KubeApi;
  readonly clock: Clock;
  /** Of the service's own objects. */
  readonly namespace: string;
  /** Where workloads are; empty: everywhere. */
  readonly namespaces: readonly string[];
  /** Unlike any other process's, also of this one's other starts. */
  readonly identity: string;
  /** Of earlier starts that are known to have ended. */
  readonly predecessors: readonly string[];
  /** Which pods are exporters; `null` where none are looked for. */
  readonly exporters: readonly ExporterPods[] | null;
  readonly simulated: boolean;
  /** Where values from before a stop are kept until the cluster has them; left out: nowhere. */
  readonly disk?: PriorDisk;
  readonly state: () => SafetyState;
  /** Puts an event through the door, at once where none is being decided. */
  readonly tell: (event: SafetyEvent) => void;
  readonly warn: (message: string) => void;
}

export class ClusterMember {
  readonly actuator: Actuator;
  /** `null` where exporters are not looked for. */
  readonly finder: ExporterFinder | null;
  readonly #parts: ClusterMemberParts;
  readonly #facts: ClusterFacts;
  readonly #admission: Admission;
  readonly #priors: PriorValues;
  readonly #latch: ClusterLatch;
  readonly #leadership: Leadership;
  readonly #leases: LeaseStore;
  readonly #closing = new AbortController();
  #arePriorsLoaded = false;
  #areLeasesKnown = false;
  #takingOver: Promise<void> | null = null;
  #refreshing: Promise<void> | null = null;
  #denyRule: ClusterState['denyRule'] = 'unknown';
  #told = '';

  constructor(parts: ClusterMemberParts) {
    const { api, clock, namespace, namespaces, identity, predecessors, exporters, simulated, state, disk } = parts;
    const own = { api, clock, namespace };
    this.#parts = parts;
    this.#facts = new ClusterFacts({ ...own, namespaces, findsExporters: exporters !== null });
    const kinds = () => this.#facts.kinds;
    this.#admission = createAdmission({ api, kinds, namespace });
    this.#leadership = new Leadership({ ...own, identity, predecessors });
    const isActive = (orderId: string): boolean => state().trips.has(orderId);
    this.#priors = createPriorValues({ ...own, epoch: () => state().epoch, isActive, ...(disk && { disk }) });
    this.#latch = new ClusterLatch({
      ...own,
      admission: this.#admission,
      priors: this.#priors,
      local: () => ({ epoch: state().epoch, trips: state().trips.values() }),
      isLeader: () => this.#leadership.isLeader,
      simulated,
      onNews: (news) => parts.tell(eventOf(news, (node) => nodeNamed(state(), node))),
    });
    this.#leases = createLeaseStore({ ...own, mayWrite: () => this.#leadership.isLeader });
    this.finder = exporters && createExporterFinder({ api, clock, exporters });
    this.actuator = createKubernetesActuator({
      clock,
      api,
      kinds,
      namespaces,
      latch: this.#latch,
      nodeName: (node) => nodeNamed(state(), node),
      missingRights: () => this.#facts.missing,
    });
    this.#leadership.onChange((view) => {
      if (view.state === 'leader') this.#takeOver();
      else this.#areLeasesKnown = false;
      this.#report();
    });
  }

  /** Reads what the cluster holds, before anything is resumed or granted. Ends within 4 s, read or not; never rejects. */
  async start(): Promise<void> {
    const reading = Promise.all([this.#facts.refresh(), this.#loadPriors(), this.#latch.start(), this.#readRule()]);
    await withDeadline(this.#parts.clock, START_WITHIN_MS, reading);
    this.#report();
  }

  /** Stands for election. */
  lead(): void {
    this.#leadership.start();
  }

  /** Once per tick: what is due is found out anew, and told. Never rejects; a call while another is under way joins it. */
  refresh(): Promise<void> {
    this.#refreshing ??= Promise.all([this.#facts.refresh(), this.#loadPriors(), this.#readRule()])
      .then(() => this.#report())
      .finally(() => (this.#refreshing = null));
    return this.#refreshing;
  }

  /** Without taking part: what a stop would find. For `check`. */
  async look(): Promise<void> {
    await Promise.all([this.#facts.refresh(), this.#readRule()]);
  }

  /** What an operator is shown beside the state. */
  facts(): ClusterDetails {
    const { api, namespace, namespaces } = this.#parts;
    const priors = this.#priors.all();
    const priorTrips: Record<string, number> = {};
    for (const { orderId } of priors) priorTrips[orderId] = (priorTrips[orderId] ?? 0) + 1;
    return {
      server: api.server,
      namespace,
      namespaces,
      leasesFailure: this.#leases.failure,
      missingRights: this.#facts.missing,
      missingOptionalRights: this.#facts.missingOptional,
      failingGroups: this.#facts.failing,
      priorValues: priors.length,
      priorTrips,
    };
  }

  get denyRule(): ClusterState['denyRule'] {
    return this.#denyRule;
  }

  /** Something was published; the cluster's record is renewed where that is news to it. */
  hear(message: Message): void {
    if (message.type !== 'event') return;
    const { name, tripId, tookOver } = message.data;
    if (WRITTEN_AT_ONCE.includes(name)) this.#latch.poke();
    if (tripId !== undefined && tookOver) this.#priors.handOver(tookOver, tripId);
  }

  /**
   * Writes what of a durable change is about leases. Only the leader's count: of others nothing is written, and a lease
   * that the door granted a moment after the leadership went, which no other process would know, says so.
   */
  append(change: DurableChange): Promise<StoreOutcome> {
    if (this.#leadership.isLeader) return this.#leases.append(change);
    const isGrant = Object.keys(change.set).some((key) => key.startsWith(LEASE_KEY));
    return Promise.resolve(isGrant ? { ok: false, detail: 'this process leads no longer' } : { ok: true });
  }

  reset(request: Parameters<ClusterLatch['reset']>[0]): Promise<ResetOutcome> {
    return this.#leadership.isLeader ? this.#latch.reset(request) : Promise.resolve({ kind: 'not-leader' });
  }

  /**
   * Gives back what the stop of `tripId` took; what has nothing left to be given back is forgotten. Other processes stop
   * as well, so what they took is read anew; where that fails, nothing is given back.
   */
  async restore(
    request: { readonly tripId: string } & Pick<RestoreRequest, 'dryRun' | 'mayGoOn'> & {
        readonly onStep: (step: RestoreStep) => void;
      },
  ): Promise<readonly RestoreStep[]> {
    const { api, clock } = this.#parts;
    const { tripId, dryRun, mayGoOn, onStep } = request;
    const loaded = await this.#priors.load(LOAD_TIMEOUT_MS);
    if (!loaded.ok) {
      const detail = `What was stopped cannot be read: ${loaded.detail}`;
      return [{ uid: '', object: `ConfigMap ${RESTORE_MAP}`, outcome: 'failed', detail }];
    }
    const priors = this.#priors.all().filter(({ orderId }) => orderId === tripId);
    const steps = await restore({
      api,
      clock,
      priors,
      dryRun,
      onStep,
      mayGoOn: async () => {
        if (!this.#leadership.isLeader) return { ok: false, detail: 'this process does not lead any more' };
        return mayGoOn();
      },
    });
    const over = steps.filter(({ outcome }) => ['restored', 'gone', 'by-controller'].includes(outcome));
    if (!dryRun && over.length > 0) {
      await this.#priors.forget(
        over.map(({ uid }) => uid),
        FORGET_TIMEOUT_MS,
      );
    }
    return steps;
  }

  /** Writes what is left and gives the leadership back, in this order. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#latch.close();
    this.#priors.close();
    await this.#leases.close(LEASES_CLOSE_MS);
    await this.#leadership.release();
    await this.#parts.api.close();
  }

  async #loadPriors(): Promise<void> {
    if (this.#arePriorsLoaded) return;
    this.#arePriorsLoaded = (await this.#priors.load(LOAD_TIMEOUT_MS)).ok;
  }

  async #readRule(): Promise<void> {
    const rule = await this.#admission.readArmed(RULE_TIMEOUT_MS);
    this.#denyRule = wordOf(rule);
    this.#latch.noteRule(rule);
  }

  /** The leases of the process that led before: until they are read nothing is granted. */
  #takeOver(): void {
    this.#takingOver ??= this.#readLeases().finally(() => (this.#takingOver = null));
  }

  async #readLeases(): Promise<void> {
    const { clock, tell, warn } = this.#parts;
    while (this.#leadership.isLeader && !this.#closing.signal.aborted) {
      const read = await this.#leases.read(TAKE_OVER_TIMEOUT_MS);
      if (!this.#leadership.isLeader || this.#closing.signal.aborted) return;
      if (read.kind === 'read') {
        for (const problem of read.problems) warn(problem);
        tell({ kind: 'leases-taken-over', leases: read.leases });
        this.#areLeasesKnown = true;
        this.#report();
        return;
      }
      await clock.sleep(TAKE_OVER_AGAIN_MS, this.#closing.signal);
    }
  }

  #report(): void {
    const cluster: ClusterState = {
      leadership: this.#leadership.view,
      isLatchKnown: this.#latch.isKnown,
      latchFailure: this.#latch.failure,
      areLeasesKnown: this.#areLeasesKnown && this.#leadership.isLeader,
      denyRule: this.#denyRule,
    };
    const told = JSON.stringify(cluster);
    if (told === this.#told || this.#closing.signal.aborted) return;
    this.#told = told;
    this.#parts.tell({ kind: 'cluster-reported', cluster });
  }
}

function eventOf(news: LatchNews, nodeName: (node: string) => string): SafetyEvent {
  switch (news.kind) {
    case 'tripped-elsewhere':
      return { kind: 'cluster-tripped', trips: news.trips.map((trip) => namedHere(trip, nodeName)) };
    case 'reset-elsewhere':
      return { kind: 'cluster-reset', epoch: news.epoch, tripIds: news.tripIds, last: news.last };
    case 'heard':
      return { kind: 'cluster-heard', joined: news.joined };
    case 'must-trip': {
      const { cause, reason } = news;
      return { kind: 'stop-requested', nodes: null, cause, reason, by: 'cluster' };
    }
  }
}

/** Another process may write a node's name in other letters, and the trip must hold the same node here. */
function namedHere(trip: CopiedTrip, nodeName: (node: string) => string): CopiedTrip {
  const { scope } = trip;
  return scope.kind === 'all' ? trip : { ...trip, scope: { kind: 'nodes', nodes: scope.nodes.map(nodeName) } };
}

function wordOf({ kind }: RuleState): ClusterState['denyRule'] {
  return kind === 'failed' ? 'unknown' : kind;
}

/** Kubernetes writes a node's name in lower case; ours is the one that the configuration or the host gives. */
function nodeNamed({ nodes, settings }: SafetyState, name: string): string {
  if (nodes.has(name) || settings.nodes.has(name)) return name;
  const isSame = (other: string): boolean => other.toLowerCase() === name.toLowerCase();
  return [settings.localNode, ...settings.nodes.keys(), ...nodes.keys()].find(isSame) ?? name;
}
