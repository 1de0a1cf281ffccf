// A pretended node in front of the real decide(): what its sensors say is a plain table, time moves when a test says so.
// Everything that decide() returned is kept, so that tests can look at answers, events, orders and records.
import { DEFAULT_CONSTRAINTS, type SafetyConstraints } from '../../src/domain/constraints.ts';
import { decide } from '../../src/domain/decide.ts';
import { restoreState } from '../../src/domain/durable.ts';
import type { Answer, Effect, EventData, LeaseRequest, SafetyEvent, StartRequest } from '../../src/domain/events.ts';
import type { Lease } from '../../src/domain/lease.ts';
import {
  EMPTY_REPORT,
  type GpuSign,
  type RawReading,
  type SourceReport,
  type Witness,
} from '../../src/domain/reading.ts';
import type { Finding, SafetyResult } from '../../src/domain/result.ts';
import type { NodeSettings, SafetySettings } from '../../src/domain/settings.ts';
import type { SafetyState } from '../../src/domain/state.ts';
import type { LiveWorkload, StopEntry, StopOrder } from '../../src/domain/stop.ts';

/** One card's numbers; a `null` is told as "answered without it", a missing key is not told at all. */
export interface FakeGpu {
  temperatureC?: number | null;
  powerW?: number | null;
  memoryRatio?: number | null;
  /** Present unless `false`: an energy counter that grows by itself with each look. */
  witness?: boolean | number;
  throttled?: string;
  slowdownC?: number;
  pciAddress?: string;
  unifiedMemory?: boolean;
}

/** Everything that the one source of the pretended node says. */
export interface FakeNode {
  cpuC: number | null | Record<string, number | null>;
  cpuRatio: number | null;
  memoryRatio: number | null;
  totalW?: number | null;
  gpus: Record<string, FakeGpu>;
  /** The source fails as a whole. */
  fails?: boolean;
  /** A clock of the whole source, `node_time_seconds`; none unless given. */
  clock?: number;
  signs?: readonly GpuSign[];
  /** Said in addition, as it stands. */
  also?: readonly RawReading[];
}

export const NODE = 'bizon1';
export const GPU_A = 'GPU-aaaaaaaa-0000-4000-8000-000000000000';
export const GPU_B = 'GPU-bbbbbbbb-0000-4000-8000-000000000000';
export const LEASE_ID = '0b0e7a52-8f0e-4f8e-9d7c-2b1f5f3f9a01';

export const coolGpu = (): FakeGpu => ({ temperatureC: 55.25, powerW: 120.5, memoryRatio: 0.3 });

export function coolNode(): FakeNode {
  return {
    cpuC: 52.125,
    cpuRatio: 0.2,
    memoryRatio: 0.4,
    totalW: 640,
    gpus: { [GPU_A]: coolGpu(), [GPU_B]: coolGpu() },
  };
}

export function nodeSettings(change: Partial<NodeSettings> = {}): NodeSettings {
  return {
    constraints: DEFAULT_CONSTRAINTS,
    profile: 'default',
    waive: [],
    require: [],
    expectGpus: 0,
    gpus: new Map(),
    power: null,
    staleAfterMs: 30_000,
    ...change,
  };
}

export function worldSettings(change: Partial<SafetySettings> = {}, node: Partial<NodeSettings> = {}): SafetySettings {
  return {
    instance: 'instance-1',
    localNode: NODE,
    bootId: 'boot-1',
    simulated: false,
    intervalMs: 10_000,
    fastIntervalMs: 2_000,
    blindAbortAfterMs: 30_000,
    bootGraceMs: 120_000,
    tripScope: 'cluster',
    defaults: nodeSettings(),
    nodes: new Map([[NODE, nodeSettings(node)]]),
    ...change,
  };
}

export const START: StartRequest = { intensity: null, nodes: null, constraints: null, constraintKeys: [] };

export class DomainWorld {
  settings: SafetySettings;
  nodes: Record<string, FakeNode>;
  elapsedMs = 1_000_000;
  wallMs = Date.UTC(2026, 0, 1);
  state: SafetyState;
  /** All effects so far, and the durable map that a journal would hold. */
  effects: Effect[] = [];
  readonly durable = new Map<string, unknown>();
  /** Other sources, read in each look beside the nodes' own. */
  others: ((atMs: number) => SourceReport)[] = [];
  #ids = 0;
  #looks = 0;

  constructor(settings: SafetySettings = worldSettings(), nodes: Record<string, FakeNode> = { [NODE]: coolNode() }) {
    this.settings = settings;
    this.nodes = nodes;
    this.state = this.#restore(settings);
  }

  /** The only node of most tests. */
  get node(): FakeNode {
    const node = this.nodes[NODE];
    if (!node) throw new Error('this world has no node of that name');
    return node;
  }

  gpu(id = GPU_A): FakeGpu {
    const gpu = this.node.gpus[id];
    if (!gpu) throw new Error(`this world has no ${id}`);
    return gpu;
  }

  /** A world whose first evaluation is made and whose witnesses have moved. */
  static running(settings?: SafetySettings, nodes?: Record<string, FakeNode>): DomainWorld {
    const world = new DomainWorld(settings, nodes);
    world.inventory();
    world.tick();
    world.pass(10_000);
    world.tick();
    return world;
  }

  /** One that has a lease that ended, a trip that was reset, a live lease as asked for, a cooldown and a blind node behind it. */
  static lived(lease: Partial<LeaseRequest>): DomainWorld {
    const world = DomainWorld.running();
    world.askLease({ id: 'ended' });
    world.submit({ kind: 'release-asked', leaseId: 'ended', identity: 'local' });
    world.stop();
    world.cool();
    world.stopReported(true);
    world.run(10);
    world.reset();
    world.askLease(lease);
    world.gpu().temperatureC = 82;
    world.run(10);
    Object.assign(world.gpu(), { temperatureC: null });
    world.run(10);
    return world;
  }

  /** What the actuators see: by default one that is ready and sees nothing. */
  inventory(workloads: readonly LiveWorkload[] = [], seesPods = false, isAvailable = true): void {
    const actuators = [{ name: 'local-processes', available: isAvailable, detail: isAvailable ? '' : 'no permission' }];
    this.submit({ kind: 'inventoried', actuators, workloads, seesPods });
  }

  submit(event: SafetyEvent): Answer {
    this.#ids += 1;
    const id = `00000000-0000-4000-8000-${String(this.#ids).padStart(12, '0')}`;
    const decision = decide(this.state, event, { elapsedMs: this.elapsedMs, wallMs: this.wallMs, id });
    this.state = decision.state;
    for (const effect of decision.effects) {
      this.effects.push(effect);
      if (effect.kind !== 'journal') continue;
      for (const key of effect.change.delete) this.durable.delete(key);
      // As the journal would give it back: through JSON.
      for (const [key, value] of Object.entries(effect.change.set))
        this.durable.set(key, JSON.parse(JSON.stringify(value)));
    }
    return decision.answer;
  }

  pass(ms: number): void {
    this.elapsedMs += ms;
    this.wallMs += ms;
  }

  /** One tick now; gives the published result. */
  tick(): SafetyResult {
    this.submit({ kind: 'observed', why: 'tick', reports: this.reports() });
    return this.result;
  }

  /** Ticks every 10 s for so many seconds. */
  run(seconds: number): SafetyResult {
    for (let left = seconds; left > 0; left -= 10) {
      this.pass(10_000);
      this.tick();
    }
    return this.result;
  }

  fast(): SafetyResult {
    this.submit({ kind: 'observed', why: 'fast', reports: this.reports() });
    return this.result;
  }

  preflight(request: Partial<StartRequest> = {}): Extract<Answer, { kind: 'judged' }> {
    const answer = this.submit({ kind: 'preflight-asked', request: { ...START, ...request }, reports: this.reports() });
    if (answer.kind !== 'judged') throw new Error(`preflight was answered ${answer.kind}`);
    return answer;
  }

  askLease(request: Partial<LeaseRequest> = {}, identity = 'local'): Answer {
    const whole: LeaseRequest = {
      ...START,
      id: LEASE_ID,
      workload: 'train-7',
      gpus: null,
      ttlMs: 300_000,
      maxDurationMs: null,
      processGroup: { pgid: 4711, startTicks: 99 },
      ...request,
    };
    return this.submit({ kind: 'lease-asked', request: whole, identity, reports: this.reports() });
  }

  renew(intensity: number | null = null, id = LEASE_ID): Answer {
    const reports = intensity === null ? [] : this.reports();
    return this.submit({ kind: 'renewal-asked', leaseId: id, identity: 'local', intensity, reports });
  }

  /** The first trip that is on. */
  get tripId(): string {
    const [tripId] = this.state.trips.keys();
    if (tripId === undefined) throw new Error('nothing is tripped');
    return tripId;
  }

  stop(nodes: readonly string[] | null = null): Extract<Answer, { kind: 'stopping' }> {
    const answer = this.submit({ kind: 'stop-requested', nodes, cause: 'manual', reason: 'smoke', by: 'ada' });
    if (answer.kind !== 'stopping') throw new Error(`the stop was answered ${answer.kind}`);
    return answer;
  }

  /** The load is gone: every sensor of every node is cool again, every card draws little. */
  cool(): void {
    for (const node of Object.values(this.nodes)) {
      Object.assign(node, { cpuC: 45, cpuRatio: 0.05, memoryRatio: 0.3, totalW: 300, fails: false });
      for (const gpu of Object.values(node.gpus))
        Object.assign(gpu, { temperatureC: 40.25, powerW: 30.5, memoryRatio: 0.1 });
    }
  }

  /** The actuator says that nothing is left, or that something is. */
  stopReported(verified = true, orderId = this.tripId, entries: readonly StopEntry[] = []): void {
    this.submit({ kind: 'stop-reported', orderId, actuator: 'local-processes', entries, verified });
  }

  reset(change: { tripId?: string; acknowledgeUnverified?: boolean; reports?: readonly SourceReport[] } = {}): Answer {
    return this.submit({
      kind: 'reset-requested',
      tripId: change.tripId ?? this.tripId,
      reason: 'checked',
      by: 'ada',
      acknowledgeUnverified: change.acknowledgeUnverified ?? false,
      reports: change.reports ?? this.reports(),
    });
  }

  /** The lease of most tests. */
  get lease(): Lease {
    const lease = this.state.leases.get(LEASE_ID);
    if (!lease) throw new Error('there is no such live lease');
    return lease;
  }

  told(name: EventData['name']): EventData[] {
    return this.events.filter((event) => event.name === name);
  }

  /** A new process over the same durable record. */
  restart(change: { settings?: Partial<SafetySettings>; downMs?: number } = {}): void {
    this.pass(change.downMs ?? 1_000);
    this.settings = { ...this.settings, instance: `${this.settings.instance}+`, ...change.settings };
    this.state = this.#restore(this.settings);
    this.effects = [];
    this.submit({ kind: 'started' });
  }

  get result(): SafetyResult {
    const { lastResult } = this.state;
    if (!lastResult) throw new Error('nothing has been published yet');
    return lastResult;
  }

  /** Findings of the last published result, as `code component/id/quantity`. */
  get codes(): string[] {
    return codesOf(this.result.findings);
  }

  get events(): EventData[] {
    return this.effects.flatMap((effect) =>
      effect.kind === 'publish' && effect.message.type === 'event' ? [effect.message.data] : [],
    );
  }

  get orders(): StopOrder[] {
    return this.effects.flatMap((effect) => (effect.kind === 'stop-workloads' ? [effect.order] : []));
  }

  get interlock(): string {
    return this.result.interlock.state;
  }

  reports(): SourceReport[] {
    this.#looks += 1;
    const own = Object.entries(this.nodes).map(([name, node]) => this.#report(name, node));
    return [...own, ...this.others.map((other) => other(this.elapsedMs))];
  }

  #restore(settings: SafetySettings): SafetyState {
    const moment = { elapsedMs: this.elapsedMs, wallMs: this.wallMs, id: 'restore' };
    const restored = restoreState(settings, this.durable, moment);
    if (restored.problems.length > 0) throw new Error(`corrupt: ${restored.problems.join('; ')}`);
    for (const key of restored.delete) this.durable.delete(key);
    for (const [key, value] of Object.entries(restored.set)) this.durable.set(key, value);
    return restored.state;
  }

  #report(name: string, node: FakeNode): SourceReport {
    const base = {
      ...EMPTY_REPORT,
      source: 'fake',
      node: name,
      startedAtMs: this.elapsedMs,
      finishedAtMs: this.elapsedMs,
    };
    if (node.fails)
      return { ...base, outcome: { kind: 'failed', cause: 'timeout', detail: 'no answer within 8000 ms' } };
    const readings: RawReading[] = [];
    const say = (part: Omit<RawReading, 'origin' | 'value'>, value: number | null | undefined): void => {
      if (value !== undefined) readings.push({ ...part, value, origin: 'a fake sensor' });
    };
    const chips = typeof node.cpuC === 'object' && node.cpuC !== null ? node.cpuC : { 'coretemp-0': node.cpuC };
    for (const [id, value] of Object.entries(chips)) say({ component: 'cpu', id, quantity: 'temperature' }, value);
    say({ component: 'cpu', quantity: 'utilization' }, node.cpuRatio);
    say({ component: 'memory', quantity: 'memory' }, node.memoryRatio);
    say({ component: 'system', quantity: 'total-power', rank: 2 }, node.totalW);
    readings.push(...(node.also ?? []));
    const witnesses: Witness[] = [];
    if (node.clock !== undefined) witnesses.push({ of: 'source', name: 'node_time_seconds', value: node.clock });
    for (const [id, gpu] of Object.entries(node.gpus)) {
      say({ component: 'gpu', id, quantity: 'temperature' }, gpu.temperatureC);
      say({ component: 'gpu', id, quantity: 'power' }, gpu.powerW);
      say({ component: 'gpu', id, quantity: 'memory' }, gpu.memoryRatio);
      if (gpu.witness === false) continue;
      const value = typeof gpu.witness === 'number' ? gpu.witness : 1_000_000 + this.#looks;
      witnesses.push({ of: { gpu: id }, name: 'energy counter', value });
    }
    const gpus = Object.entries(node.gpus);
    return {
      ...base,
      outcome: { kind: 'answered' },
      readings,
      witnesses,
      gpus: gpus.map(([id, gpu]) => ({
        id,
        uuid: id,
        ...(gpu.pciAddress && { pciAddress: gpu.pciAddress }),
        name: 'Fake GPU',
        vendor: 'nvidia',
        required: true,
        ...(gpu.unifiedMemory && { unifiedMemory: true }),
      })),
      gpuSigns: node.signs ?? [],
      throttledGpus: gpus.flatMap(([gpu, { throttled }]) => (throttled ? [{ gpu, reason: throttled }] : [])),
      hardwareLimits: gpus.flatMap(([id, { slowdownC }]) =>
        slowdownC === undefined ? [] : [{ component: 'gpu' as const, id, slowdownC }],
      ),
    };
  }
}

/** What a source of the pretended node answers at `atMs`: this, and nothing else. */
export const answered = (source: string, atMs: number, said: Partial<SourceReport> = {}): SourceReport => ({
  ...EMPTY_REPORT,
  source,
  node: NODE,
  startedAtMs: atMs,
  finishedAtMs: atMs,
  outcome: { kind: 'answered' },
  ...said,
});

export const codesOf = (findings: readonly Finding[]): string[] =>
  findings.map((finding) => `${finding.code} ${finding.component}/${finding.id ?? ''}/${finding.quantity ?? ''}`);

/** A profile like the default with some cells changed. */
export function profile(
  change: (
    copy: {
      -readonly [K in keyof SafetyConstraints]: SafetyConstraints[K];
    },
  ) => void,
): SafetyConstraints {
  const copy = structuredClone(DEFAULT_CONSTRAINTS);
  change(copy);
  return copy;
}
