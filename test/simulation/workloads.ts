// What loads a world's nodes, and who holds the leave for it: clients that ask for a lease, renew it and are told what to
// do, and that obey at once, late or never. A load that does not obey is ended by the service's actuators alone.
import { type Clock, TIMED_OUT, withDeadline } from '../../src/clock.ts';
import type { Answer } from '../../src/domain/events.ts';
import type { SafetyResult } from '../../src/domain/result.ts';
import type { PretendMachine } from '../support/pretend-machine.ts';
import type { Chance } from './chance.ts';
import type { Chronicle } from './chronicle.ts';
import type { WorldCluster } from './cluster.ts';
import type { Machine } from './machine.ts';
import type { Life } from './replica.ts';
import type { Story } from './story.ts';
import type { Timeline } from './timeline.ts';

const ASKS_AGAIN_MS = 20_000;
/** As the HTTP layer waits for a grant's record. */
const RECORD_DEADLINE_MS = 5_000;

export interface WorkloadParts {
  readonly timeline: Timeline;
  readonly chronicle: Chronicle;
  readonly chance: Chance;
  readonly cluster: WorldCluster | null;
  readonly processes: PretendMachine;
  /** Processes that can be asked, the best first. */
  readonly lives: () => readonly Life[];
  readonly onGranted: (life: Life, workload: Workload, result: SafetyResult) => void;
}

export class Workload {
  readonly name: string;
  readonly machine: Machine;
  readonly plan: Story['workloads'][number];
  leaseId: string | null = null;
  /** The life that granted it, and those that have renewed it since. */
  readonly heldBy = new Set<number>();
  /** Since when its processes run; `null` while they do not. */
  runsSinceMs: number | null = null;
  /** What it makes of its intensity. */
  #factor = 1;
  #isSilent = false;
  #clientRuns = false;
  /** The number of the question that is open. */
  #question = 0;
  #renewedAtMs = 0;
  #pid = 0;
  /** The lease that its process group was made under. */
  groupLeaseId = '';
  /** The lease that it was told of last. */
  heldLeaseId = '';
  #made = 0;
  readonly #parts: WorkloadParts;

  constructor(parts: WorkloadParts, plan: Story['workloads'][number], machine: Machine, index: number) {
    this.#parts = parts;
    this.plan = plan;
    this.machine = machine;
    this.name = `load-${index}`;
  }

  /** Share of full load that its processes make now. */
  get load(): number {
    return this.runsSinceMs === null ? 0 : this.plan.intensity * this.#factor;
  }

  /** Its client is silent, and the lease over for it: who has nothing but the lease cannot know that it runs on. */
  get hasLapsed(): boolean {
    return this.#isSilent && this.#parts.timeline.nowMs >= this.#renewedAtMs + this.plan.ttlMs;
  }

  begin(): void {
    if (this.plan.hasLease) this.#ask();
    else this.#keepUp();
  }

  /** Its client falls silent; its load goes on. */
  dieSilently(): void {
    if (this.leaseId === null) return;
    const { leaseId } = this;
    const { timeline, chronicle } = this.#parts;
    this.#isSilent = true;
    chronicle.tell(this.name, 'its client falls silent');
    timeline.after(this.plan.ttlMs * 3, () => {
      if (this.leaseId !== leaseId) return;
      this.leaseId = null;
      // The load of a client that is no process group and no pod ends with it, at last.
      if (this.plan.kind === 'client') this.#exit();
      this.#ask();
    });
  }

  /** Looks whether its processes are there still, since others may have ended them. */
  look(): void {
    const { timeline, chronicle } = this.#parts;
    const isThere = this.#isThere();
    if (isThere && this.runsSinceMs === null) this.runsSinceMs = timeline.nowMs;
    if (isThere || this.runsSinceMs === null) return;
    this.runsSinceMs = null;
    this.#factor = 1;
    chronicle.tell(this.name, 'its processes are gone');
    if (this.plan.hasLease && this.leaseId === null) this.#askLater();
  }

  /** Without a lease: somebody has it run whenever nothing is tripped. */
  #keepUp(): void {
    const { timeline, lives } = this.#parts;
    const states = lives().map(({ running }) => running?.supervisor.state);
    const isClear = states.length > 0 && states.every((state) => state?.trips.size === 0);
    if (isClear && this.runsSinceMs === null) this.#run();
    timeline.after(60_000, () => this.#keepUp());
  }

  /** Asks anew after a while; one question is open at a time. */
  #askLater(): void {
    this.#question += 1;
    const question = this.#question;
    this.#parts.timeline.after(ASKS_AGAIN_MS, () => {
      if (question === this.#question) this.#ask();
    });
  }

  #ask(): void {
    if (this.leaseId !== null) return;
    const [life] = this.#parts.lives();
    // Asked again unless an answer comes before, since the process may die over it.
    this.#askLater();
    if (!life || this.#isThere()) return;
    const question = this.#question;
    life.clock.after(5, () => {
      if (question === this.#question) void this.#askOf(life);
    });
  }

  async #askOf(life: Life): Promise<void> {
    const { timeline, chance, chronicle, onGranted } = this.#parts;
    const { running } = life;
    if (!running) return;
    const leaseId = chance.uuid();
    const nodes = [this.machine.name];
    const processGroup = this.plan.kind === 'group' ? this.#makeGroup(leaseId) : null;
    const reports = await running.monitor.observeNow(nodes);
    if (life.isDead) return;
    const request = {
      id: leaseId,
      workload: this.name,
      intensity: this.plan.intensity,
      nodes,
      constraints: null,
      constraintKeys: [],
      gpus: null,
      ttlMs: this.plan.ttlMs,
      maxDurationMs: null,
      processGroup,
    };
    const { answer, recorded } = running.supervisor.submit({
      kind: 'lease-asked',
      request,
      identity: this.name,
      reports,
    });
    // It may have died in the middle of that step, and nobody hears what it had decided.
    if (life.isDead) return;
    if (answer.kind !== 'granted') {
      chronicle.count(`lease ${answer.kind}`);
      if (processGroup) this.#parts.processes.remove(processGroup.pgid);
      this.#askLater();
      return;
    }
    onGranted(life, this, answer.result);
    const written = await withDeadline(life.clock as Clock, RECORD_DEADLINE_MS, recorded);
    if (life.isDead) return;
    const isDurable = written !== TIMED_OUT && written.ok;
    if (!isDurable) {
      running.supervisor.submit({ kind: 'release-asked', leaseId, identity: this.name, isUntold: true });
    }
    if (!isDurable || !running.supervisor.state.leases.has(leaseId)) {
      chronicle.count('lease given back unwritten');
      if (processGroup) this.#parts.processes.remove(processGroup.pgid);
      this.#askLater();
      return;
    }
    chronicle.count('leases granted');
    chronicle.tell(this.name, `holds lease ${leaseId} on ${this.machine.name}`);
    if (this.leaseId !== null) return;
    this.leaseId = leaseId;
    this.heldLeaseId = leaseId;
    this.#question += 1;
    this.#isSilent = false;
    this.heldBy.clear();
    this.heldBy.add(life.number);
    this.#renewedAtMs = timeline.nowMs;
    this.#run();
    timeline.after(this.plan.ttlMs / 3, () => this.#renew(leaseId));
  }

  #renew(leaseId: string): void {
    const { timeline } = this.#parts;
    const { ttlMs } = this.plan;
    if (this.leaseId !== leaseId || this.#isSilent) return;
    const lives = this.#parts.lives();
    if (timeline.nowMs - this.#renewedAtMs > ttlMs) {
      this.#end('its client could not renew');
      return;
    }
    timeline.after(ttlMs / 3, () => this.#renew(leaseId));
    const tries = lives.slice(0, 2);
    for (const life of tries) {
      life.clock.after(5, () => {
        if (this.leaseId !== leaseId || !life.running) return;
        const { answer } = life.running.supervisor.submit({
          kind: 'renewal-asked',
          leaseId,
          identity: this.name,
          intensity: null,
          reports: [],
        });
        this.#hear(answer, life);
      });
      // A client goes to the next one only where the first cannot say.
      if (life.running?.supervisor.state.leases.has(leaseId)) break;
    }
  }

  #hear(answer: Answer, life: Life): void {
    const { timeline, chronicle } = this.#parts;
    if (answer.kind === 'renewed') {
      this.#renewedAtMs = timeline.nowMs;
      this.heldBy.add(life.number);
      this.#obey(answer.result);
      return;
    }
    chronicle.count(`renewal ${answer.kind}`);
    if (answer.kind === 'lease-ended' || answer.kind === 'lease-unknown') {
      this.#end(`its client is told ${answer.kind}`);
    }
  }

  #obey({ action }: SafetyResult): void {
    const { timeline, chance, chronicle } = this.#parts;
    const { obedience } = this.plan;
    const factor = action === 'PROCEED' ? 1 : action === 'REDUCE_INTENSITY' ? 0.5 : 0;
    if (action !== 'PROCEED') chronicle.count(`told ${action}`);
    if (obedience === 'ignores') return;
    const lagMs = obedience === 'lags' ? chance.between(20_000, 60_000) : chance.between(200, 2_000);
    const { leaseId } = this;
    timeline.after(lagMs, () => {
      if (this.leaseId === leaseId) this.#factor = factor;
    });
  }

  /** Its lease is over. Who obeys ends by himself; who does not must be ended. */
  #end(why: string): void {
    const { timeline, chance, chronicle } = this.#parts;
    chronicle.tell(this.name, why);
    this.leaseId = null;
    if (this.plan.obedience !== 'ignores' || this.plan.kind === 'client') {
      timeline.after(chance.between(500, 3_000), () => {
        if (this.leaseId === null) this.#exit();
      });
    }
    this.#askLater();
  }

  #run(): void {
    const { cluster, timeline } = this.#parts;
    const { kind } = this.plan;
    this.runsSinceMs = timeline.nowMs;
    this.#factor = 1;
    if (kind === 'client') this.#clientRuns = true;
    if (kind === 'client' || kind === 'group' || !cluster) return;
    this.#made += 1;
    const labels = {
      app: this.name,
      'vsf-workload': 'true',
      ...(this.leaseId !== null && { 'vsf-lease': this.leaseId }),
    };
    const node = this.machine.name;
    const { standIn } = cluster;
    const name = `${this.name}-${this.#made}`;
    const template = { metadata: { labels }, spec: { nodeName: node } };
    if (kind === 'pod') {
      if (cluster.isDenying) return;
      standIn.pod(name, { labels, node });
    } else if (kind === 'job') standIn.owner('Job', name, { spec: { parallelism: 2, template } });
    else {
      const deployment = standIn.owner('Deployment', name, { spec: { replicas: 2, template } });
      standIn.owner('ReplicaSet', `${name}-rs`, { spec: { replicas: 2, template } }, deployment);
    }
  }

  /** It ends by itself: its owner takes everything away. */
  #exit(): void {
    const { cluster, processes } = this.#parts;
    if (this.plan.kind === 'group') processes.remove(this.#pid);
    else if (this.plan.kind === 'client') this.#clientRuns = false;
    else if (cluster) this.#clear(cluster);
    this.look();
  }

  #clear(cluster: WorldCluster): void {
    const isOwn = (name: string): boolean => name.startsWith(`${this.name}-`);
    cluster.standIn.takeAway((object) => object.kind !== 'Pod' && isOwn(object.metadata.name));
    // A hung node's pods stay whatever their owner wants.
    cluster.standIn.takeAway(
      (object) =>
        object.kind === 'Pod' && isOwn(object.metadata.name) && !cluster.standIn.hung.has(object.spec.nodeName),
    );
  }

  #isThere(): boolean {
    const { cluster, processes } = this.#parts;
    if (this.plan.kind === 'client') return this.#clientRuns;
    if (this.plan.kind === 'group') return this.#pid !== 0 && processes.has(this.#pid);
    return cluster?.standIn.pods.some(({ metadata }) => metadata.labels?.app === this.name) ?? false;
  }

  #makeGroup(leaseId: string): { readonly pgid: number; readonly startTicks: number } {
    const { processes } = this.#parts;
    this.#pid = 100_000 + this.#made * 10;
    this.groupLeaseId = leaseId;
    this.#made += 1;
    processes.add({ pid: this.#pid, pgid: this.#pid, mark: leaseId, startTicks: 100 + this.#made });
    const { obedience } = this.plan;
    processes.onSignal = (pid, signal) => {
      if (signal === 'SIGKILL' || obedience !== 'ignores') processes.remove(Math.abs(pid));
    };
    return { pgid: this.#pid, startTicks: 100 + this.#made };
  }
}
