// One process of the service in a world, through its lives: the real assembly with its monitor, supervisor, journal and
// actuators, on a disk, a clock, a network and a cluster that are the world's. It may die between any two steps.
import { type Assembled, assemble } from '../../src/assemble.ts';
import type { Outside } from '../../src/assemble-outside.ts';
import type { Config } from '../../src/config.ts';
import type { Effect, Message } from '../../src/domain/events.ts';
import { createExporter } from '../../src/sources/exporter.ts';
import type { HttpGet } from '../../src/sources/http-get.ts';
import { CrashDisk } from '../support/crash-disk.ts';
import type { PretendMachine } from '../support/pretend-machine.ts';
import type { Chance } from './chance.ts';
import type { Chronicle } from './chronicle.ts';
import type { WorldCluster } from './cluster.ts';
import type { Exporter } from './exporters.ts';
import { createLightSource } from './light-source.ts';
import { ProcessClock, type Timeline } from './timeline.ts';

export type DiskFault = 'fails' | 'hangs' | null;
type Step = 'decided' | 'journaling' | 'effect' | 'done';

/** One life of a process. */
export interface Life {
  /** Unlike any other's in its world. */
  readonly number: number;
  readonly replica: Replica;
  readonly clock: ProcessClock;
  readonly startedAtMs: number;
  /** `null` while it starts. */
  running: Assembled | null;
  runningSinceMs: number;
  isDead: boolean;
}

export interface ReplicaParts {
  readonly name: string;
  readonly timeline: Timeline;
  readonly chronicle: Chronicle;
  readonly chance: Chance;
  readonly config: Config;
  readonly exporters: ReadonlyMap<string, Exporter>;
  readonly cluster: WorldCluster | null;
  readonly processes: PretendMachine;
  readonly nextLife: () => number;
  readonly onRunning: (life: Life) => void;
  readonly onStep: (life: Life, step: Step, effect: Effect | undefined) => void;
  readonly onMessage: (life: Life, message: Message) => void;
  readonly onEnded: (life: Life) => void;
}

export class Replica {
  readonly name: string;
  life: Life | null = null;
  diskFault: DiskFault = null;
  /** Steps of the supervisor until it dies in the middle of one; `null`: it does not. */
  diesInSteps: number | null = null;
  /** How it dies then. */
  diesBy: 'kill' | 'power' = 'kill';
  restartsAfterMs = 3_000;
  readonly #parts: ReplicaParts;
  #disk: CrashDisk;
  #hasToken = false;
  #bootId: string;
  #wallAheadMs = 0;

  constructor(parts: ReplicaParts) {
    this.name = parts.name;
    this.#parts = parts;
    this.#bootId = parts.chance.uuid();
    this.#disk = new CrashDisk(this.#faults, this.#diskTurn);
  }

  get bootId(): string {
    return this.#bootId;
  }

  /** Begins a life; it runs some time later. */
  start(): void {
    const { timeline, chronicle, nextLife } = this.#parts;
    const life: Life = {
      number: nextLife(),
      replica: this,
      clock: new ProcessClock(timeline, this.#wallAheadMs),
      startedAtMs: timeline.nowMs,
      running: null,
      runningSinceMs: Number.POSITIVE_INFINITY,
      isDead: false,
    };
    this.life = life;
    chronicle.tell(this.name, `starts (life ${life.number})`);
    chronicle.count('starts');
    void this.#assemble(life);
  }

  /** Dies now. `power`: its machine went with it, and of the disk only what was synced is sure. */
  die(by: 'kill' | 'power'): void {
    const { life } = this;
    if (!life || life.isDead) return;
    const { timeline, chronicle, chance, onEnded } = this.#parts;
    chronicle.tell(this.name, `dies by ${by}`);
    chronicle.count(`death by ${by}`);
    onEnded(life);
    life.isDead = true;
    life.clock.end();
    this.#wallAheadMs = life.clock.wallAheadMs;
    this.life = null;
    this.diesInSteps = null;
    this.#disk.crash();
    if (by === 'power') {
      this.#bootId = chance.uuid();
      this.#parts.processes.reboot();
    }
    const before = this.#disk;
    timeline.after(this.restartsAfterMs, () => {
      let isTorn = false;
      const choose = (max: number): number => {
        const kept = chance.whole(0, max);
        isTorn ||= kept < max;
        return kept;
      };
      this.#disk = before.restart(by, choose, this.#faults, this.#diskTurn);
      if (isTorn) chronicle.count('writes lost or torn by a power cut');
      this.start();
    });
  }

  /** Bytes of the journal change by themselves. */
  rot(): void {
    const { chance, chronicle } = this.#parts;
    chronicle.count('journal rotted');
    this.#disk.rot('/sim/state/journal.jsonl', (bytes) => {
      if (bytes.length > 0) bytes[chance.whole(0, bytes.length - 1)] = chance.whole(0, 255);
      return bytes;
    });
  }

  get #faults(): { readonly failAt: { has(): boolean }; readonly crashAt: number } {
    return { failAt: { has: () => this.#failsNow() }, crashAt: -1 };
  }

  #failsNow(): boolean {
    if (this.diskFault !== 'fails') return false;
    this.#parts.chronicle.count('disk operations failed');
    return true;
  }

  readonly #diskTurn = async (): Promise<void> => {
    const { timeline, chronicle } = this.#parts;
    if (this.diskFault === 'hangs') chronicle.count('disk operations hung');
    while (this.diskFault === 'hangs') await timeline.sleep(500);
    await timeline.sleep(1);
  };

  async #assemble(life: Life): Promise<void> {
    const { chronicle, config, onRunning, onStep, onMessage } = this.#parts;
    const say = (level: string, message: string): void => {
      if (!life.isDead) chronicle.tell(this.name, `[${level}] ${message}`);
    };
    const assembled = await assemble(config, {
      clock: life.clock,
      root: '/sim/root',
      outside: this.#outsideOf(life),
      log: {
        fatal: (message) => say('fatal', message),
        error: (message) => say('error', message),
        warn: (message) => say('warn', message),
        info: (message) => say('info', message),
      },
      onBroken: (error) => {
        if (!life.isDead) chronicle.violate('an invariant broke', String(error));
      },
      onStep: (step, effect) => {
        if (life.isDead) return;
        onStep(life, step, effect);
        if (this.diesInSteps === null || --this.diesInSteps > 0) return;
        chronicle.count(`death at step ${step}`);
        this.die(this.diesBy);
      },
    });
    if (life.isDead) return;
    if (assembled.kind === 'refused') {
      chronicle.violate('a start was refused', assembled.message);
      return;
    }
    life.running = assembled;
    life.runningSinceMs = this.#parts.timeline.nowMs;
    onRunning(life);
    assembled.supervisor.subscribe((message) => {
      if (!life.isDead) onMessage(life, message);
    });
  }

  #outsideOf(life: Life): Outside {
    const { cluster, processes } = this.#parts;
    const isDead = (): boolean => life.isDead;
    return {
      openStateFolder: async () => ({
        kind: 'open',
        stateFolder: {
          folder: '/sim/state',
          tokenExists: this.#hasToken,
          notes: [],
          ensureOperatorToken: async () => {
            this.#hasToken = true;
            return { kind: 'found', token: 'the-operator-of-this-world' };
          },
          close: async () => undefined,
        },
      }),
      files: this.#disk,
      httpGetter: () => ({ get: this.#getOf(life), post: this.#getOf(life), close: () => undefined }),
      exporter: (options) => {
        const exporter = this.#parts.exporters.get(options.url);
        if (!exporter?.isLight) return createExporter(options);
        return createLightSource({ exporter, life, timeline: this.#parts.timeline });
      },
      kubeClient: ({ clock }) => {
        if (!cluster) throw new Error('This world has no cluster');
        return cluster.doorOf({ clock, replica: this.name, by: life.number, isDead });
      },
      processTable: () => processes.table,
      kill: (pid, signal) => {
        if (!life.isDead) processes.kill(pid, signal);
      },
      bootId: () => this.#bootId,
    };
  }

  #getOf(life: Life): HttpGet {
    const { exporters, timeline, chronicle } = this.#parts;
    return async (url, { deadlineMs }) => {
      const exporter = exporters.get(url.split('?')[0] ?? url);
      if (!exporter) throw new Error(`Nothing of this world is at ${url}`);
      const leftMs = deadlineMs - life.clock.now().elapsedMs;
      const takesMs = exporter.answersInMs(timeline.nowMs);
      if (takesMs === null || takesMs > leftMs) {
        if (takesMs === null) chronicle.count('looks at a hung exporter');
        await life.clock.sleep(leftMs);
        return { kind: 'failed', cause: 'timeout', detail: `no answer within ${Math.round(leftMs)} ms` };
      }
      const answer = exporter.answer(timeline.nowMs, life.number);
      await life.clock.sleep(takesMs);
      return answer;
    };
  }
}
