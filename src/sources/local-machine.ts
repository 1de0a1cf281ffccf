// The machine that this process runs on, read from /proc and /sys: CPU share, memory, CPU temperature, and GPUs on the
// bus as signs that they must be measured (nvidia-smi and the like measure them). In a container these files show the
// host, which is what a guard of hardware wants. The four parts are read side by side; a part that is not there by the
// deadline is a missing reading, never a late report. Nothing is read through a tool or a library: systeminformation
// reports the ACPI zone for the CPU, knows one socket and blocks.
import { type Clock, TIMED_OUT, withDeadline } from '../clock.ts';
import { EMPTY_REPORT, type MissingCause, type RawReading, type SourceReport } from '../domain/reading.ts';
import { type CpuTimes, LONGEST_SHARE_MS, SHORTEST_SHARE_MS, shareBetween } from './cpu-share.ts';
import { CpuTemperature, type CpuTemperatures } from './cpu-temperature.ts';
import { joined } from './joined.ts';
import { type MemoryFigures, memoryShare } from './memory-share.ts';
import { type PciDisplays, readPciDisplays } from './pci-display.ts';
import type { Source } from './source.ts';
import { type FileFailure, parseInteger, Sysfs } from './sysfs.ts';

export interface LocalMachineOptions {
  readonly node: string;
  readonly clock: Clock;
  /** Where `/proc` and `/sys` are found; a captured tree in tests. Default `/`. */
  readonly root?: string;
  /** How far Tctl lies above the die on this machine, °C; only for AMD chips without Tdie. Default 0. */
  readonly tctlOffsetC?: number;
  /**
   * Counts the ZFS cache above its minimum as available memory. ZFS gives it back under pressure, though not at once,
   * and MemAvailable leaves it out. Default false: by the letter it is in use.
   */
  readonly zfsCacheIsAvailable?: boolean;
}

/** `/proc/stat` has a number for each interrupt line: about 100 KB on large servers. */
const LARGEST_PROC_FILE_BYTES = 1024 * 1024;
const MOST_NOTES = 50;

/** The source `local-machine`. It holds no file open; {@link Source.close} only ends a wait between two samples. */
export function createLocalMachine(options: LocalMachineOptions): Source {
  return new LocalMachine(options);
}

class LocalMachine implements Source {
  readonly id = 'local-machine';
  readonly node: string;
  readonly carriesHeat = true;
  readonly #clock: Clock;
  readonly #sysfs: Sysfs;
  readonly #closing = new AbortController();
  #isVirtual: boolean | undefined;
  readonly #cpuShare: () => Promise<RawReading>;
  readonly #memory: () => Promise<RawReading>;
  readonly #temperatures: () => Promise<CpuTemperatures>;
  readonly #displays: () => Promise<PciDisplays>;
  #lookUnderWay: Promise<SourceReport> | undefined;

  constructor({ node, clock, root = '/', tctlOffsetC = 0, zfsCacheIsAvailable = false }: LocalMachineOptions) {
    this.node = node;
    this.#clock = clock;
    this.#sysfs = new Sysfs({ clock, root });
    const cpuTemperature = new CpuTemperature(this.#sysfs, { tctlOffsetC });
    const share = new CpuShare(this.#sysfs, clock, this.#closing.signal);
    // A part that outlives its look is joined by the next one, so that at most one of each is under way.
    this.#cpuShare = joined(() => share.read());
    this.#memory = joined(async () => ({
      sampledAtMs: this.#nowMs(),
      ...(await readMemory(this.#sysfs, zfsCacheIsAvailable)),
    }));
    this.#temperatures = joined(() => this.#readTemperatures(cpuTemperature));
    this.#displays = joined(() => readPciDisplays(this.#sysfs));
  }

  async read(deadlineMs: number): Promise<SourceReport> {
    const startedAtMs = this.#nowMs();
    if (this.#lookUnderWay) {
      const report = await withDeadline(this.#clock, deadlineMs - startedAtMs, this.#lookUnderWay);
      return report === TIMED_OUT ? this.#timedOut(startedAtMs) : report;
    }
    this.#lookUnderWay = this.#look(startedAtMs, deadlineMs);
    try {
      return await this.#lookUnderWay;
    } finally {
      this.#lookUnderWay = undefined;
    }
  }

  async close(): Promise<void> {
    this.#closing.abort();
  }

  async #look(startedAtMs: number, deadlineMs: number): Promise<SourceReport> {
    const inTime = <T>(part: Promise<T>): Promise<T | typeof TIMED_OUT> =>
      withDeadline(this.#clock, deadlineMs - startedAtMs, part);
    const [share, memory, temperatures, displays] = await Promise.all([
      inTime(this.#cpuShare()),
      inTime(this.#memory()),
      inTime(this.#temperatures()),
      inTime(this.#displays()),
    ]);
    if ([share, memory, temperatures, displays].every((part) => part === TIMED_OUT)) return this.#timedOut(startedAtMs);
    const late = `not read within ${Math.round(deadlineMs - startedAtMs)} ms`;
    const readings: RawReading[] = [
      share === TIMED_OUT ? missing('cpu', 'utilization', 'not-yet-read', `/proc/stat: two samples: ${late}`) : share,
      memory === TIMED_OUT ? missing('memory', 'memory', 'unreadable', `/proc/meminfo: ${late}`) : memory,
      ...(temperatures === TIMED_OUT
        ? [missing('cpu', 'temperature', 'unreadable', `CPU sensors: ${late}`)]
        : temperatures.readings),
    ];
    const notes = [
      ...(temperatures === TIMED_OUT ? [] : temperatures.notes),
      ...(displays === TIMED_OUT ? [`GPUs on the bus: ${late}`] : displays.notes),
    ];
    return {
      ...this.#frame(startedAtMs),
      outcome: { kind: 'answered' },
      readings,
      gpus: displays === TIMED_OUT ? [] : displays.gpus,
      hardwareLimits: temperatures === TIMED_OUT ? [] : temperatures.hardwareLimits,
      notes: notes.slice(0, MOST_NOTES),
    };
  }

  async #readTemperatures(cpuTemperature: CpuTemperature): Promise<CpuTemperatures> {
    const sampledAtMs = this.#nowMs();
    const found = await cpuTemperature.read();
    const readings = found.readings.map((reading) => ({ ...reading, sampledAtMs }));
    const hasNone = readings.some(({ cause }) => cause === 'no-sensor');
    if (!hasNone || !(await this.#isVirtualMachine())) return { ...found, readings };
    const note = "This is a virtual machine: the CPU's sensors are its host's and cannot be read from in here.";
    return { ...found, readings, notes: [...found.notes, note] };
  }

  /** Asked once: on a machine with many CPUs the kernel takes its time over this file. */
  async #isVirtualMachine(): Promise<boolean> {
    if (this.#isVirtual === undefined) {
      const cpuinfo = await this.#sysfs.readText('/proc/cpuinfo', LARGEST_PROC_FILE_BYTES);
      this.#isVirtual = cpuinfo.ok && /^flags\s*:.*\bhypervisor\b/m.test(cpuinfo.value);
    }
    return this.#isVirtual;
  }

  #timedOut(startedAtMs: number): SourceReport {
    const detail = `Cannot read /proc and /sys: no answer within ${Math.round(this.#nowMs() - startedAtMs)} ms`;
    return { ...this.#frame(startedAtMs), outcome: { kind: 'failed', cause: 'timeout', detail } };
  }

  #frame(startedAtMs: number): Omit<SourceReport, 'outcome'> {
    return { ...EMPTY_REPORT, source: this.id, node: this.node, startedAtMs, finishedAtMs: this.#nowMs() };
  }

  #nowMs(): number {
    return this.#clock.now().elapsedMs;
  }
}

/** The share of time that the CPUs worked, between the last sample and this one. */
class CpuShare {
  readonly #sysfs: Sysfs;
  readonly #clock: Clock;
  readonly #closing: AbortSignal;
  #last: CpuTimes | undefined;
  #share: RawReading | undefined;

  constructor(sysfs: Sysfs, clock: Clock, closing: AbortSignal) {
    this.#sysfs = sysfs;
    this.#clock = clock;
    this.#closing = closing;
  }

  /** Since the last sample, where that is 1 to 90 s old; the last share within 1 s of it; else over a second from now. */
  async read(): Promise<RawReading> {
    let from = this.#last;
    if (!from || this.#ageMs(from) > LONGEST_SHARE_MS) {
      this.#share = undefined;
      const first = await this.#sample();
      if (!('cpus' in first)) return first;
      this.#last = first;
      from = first;
    }
    if (this.#ageMs(from) < SHORTEST_SHARE_MS) {
      if (this.#share) return this.#share;
      await this.#clock.sleep(SHORTEST_SHARE_MS - this.#ageMs(from), this.#closing);
      if (this.#closing.aborted) return missing('cpu', 'utilization', 'not-yet-read', '/proc/stat: source closed');
    }
    const to = await this.#sample();
    if (!('cpus' in to)) return to;
    this.#last = to;
    this.#share = shareBetween(from, to, '/proc/stat');
    return this.#share;
  }

  async #sample(): Promise<CpuTimes | RawReading> {
    const stat = await this.#sysfs.readText('/proc/stat', LARGEST_PROC_FILE_BYTES);
    if (!stat.ok) return unreadable('cpu', 'utilization', stat);
    const cpus = new Map<string, readonly number[]>();
    for (const [, cpu = '', fields = ''] of stat.value.matchAll(/^(cpu\d+) (.+)$/gm)) {
      // Fields 9 and 10, guest and guest_nice, are contained in user and nice already.
      const ticks = fields.trim().split(/\s+/).slice(0, 8).map(parseInteger);
      if (ticks.length >= 5 && ticks.every((tick) => tick !== null)) cpus.set(cpu, ticks);
    }
    if (cpus.size === 0) return missing('cpu', 'utilization', 'invalid', '/proc/stat: no line of a CPU can be read');
    return { atMs: this.#clock.now().elapsedMs, cpus };
  }

  #ageMs(times: CpuTimes): number {
    return this.#clock.now().elapsedMs - times.atMs;
  }
}

async function readMemory(sysfs: Sysfs, zfsCacheIsAvailable: boolean): Promise<RawReading> {
  const meminfo = await sysfs.readText('/proc/meminfo', LARGEST_PROC_FILE_BYTES);
  if (!meminfo.ok) return unreadable('memory', 'memory', meminfo);
  const bytes = new Map<string, number>();
  for (const [, key = '', number = ''] of meminfo.value.matchAll(/^(\w+):\s+(\d{1,15}) kB$/gm)) {
    bytes.set(key, Number(number) * 1024);
  }
  const figures: MemoryFigures = {
    total: bytes.get('MemTotal'),
    available: bytes.get('MemAvailable'),
    free: bytes.get('MemFree'),
    buffers: bytes.get('Buffers'),
    cached: bytes.get('Cached'),
    reclaimable: bytes.get('SReclaimable'),
    shared: bytes.get('Shmem'),
    zfsCacheAboveMinimum: await zfsCacheAboveMinimumBytes(sysfs),
  };
  return memoryShare(figures, zfsCacheIsAvailable, '/proc/meminfo');
}

/** What ZFS could give back of its ARC; 0 without ZFS. */
async function zfsCacheAboveMinimumBytes(sysfs: Sysfs): Promise<number> {
  const arcstats = await sysfs.readText('/proc/spl/kstat/zfs/arcstats', LARGEST_PROC_FILE_BYTES);
  if (!arcstats.ok) return 0;
  const bytes = new Map<string, number>();
  for (const [, key = '', number = ''] of arcstats.value.matchAll(/^(size|c_min)\s+\d+\s+(\d{1,20})$/gm)) {
    bytes.set(key, Number(number));
  }
  const [size, minimum] = [bytes.get('size'), bytes.get('c_min')];
  return size === undefined || minimum === undefined ? 0 : Math.max(0, size - minimum);
}

function unreadable(component: 'cpu' | 'memory', quantity: RawReading['quantity'], failure: FileFailure): RawReading {
  return missing(component, quantity, 'unreadable', failure.detail);
}

function missing(
  component: 'cpu' | 'memory',
  quantity: RawReading['quantity'],
  cause: MissingCause,
  origin: string,
): RawReading {
  return { component, quantity, value: null, cause, origin };
}
