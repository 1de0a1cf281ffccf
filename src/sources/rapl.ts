// What the CPUs draw, from the energy counters of RAPL in /sys/class/powercap (Intel, and AMD since Zen, under the same
// name). One reading per socket for the packages and one for the memory that RAPL counts beside them; together they are
// the CPU's part of the estimate of total power. The zones overlap, so most are left out: cores and uncore are inside
// the package, the MMIO zones repeat the MSR zones under the same names (summed, a package would count twice), and on
// AMD each die of a socket shows the whole socket. psys, "the platform", is shown and not counted: it contains package
// and memory, but what else it contains is the board maker's choice, often nothing sensible on desktops and servers,
// and the configured base stands for just that part. Since Linux 5.10 the counters are root's alone to read.

import type { Clock } from '../clock.ts';
import { groupedBy } from '../domain/collections.ts';
import type { MissingCause, RawReading } from '../domain/reading.ts';
import { type EnergyCounter, EnergyMeter, type Metered } from './energy-meter.ts';
import { type FileFailure, isAbsent, type Sysfs } from './sysfs.ts';

export interface CpuPower {
  /** Component `cpu`, quantity `power`: `package-0`, `dram-0` and so on per socket; `psys-0` informational. */
  readonly readings: readonly RawReading[];
  /** What was looked for and where, and what was left out of it. */
  readonly notes: readonly string[];
}

const POWERCAP = '/sys/class/powercap';
/** A line for each CPU: over 100 KB on large servers. */
const LARGEST_CPUINFO_BYTES = 1024 * 1024;
const ORIGIN_LENGTH = 120;
const NEEDS_ROOT = 'run as root or with CAP_DAC_READ_SEARCH';
/** The platform counts as one, whatever the number of its zones. */
const PSYS = 'psys-0';

/** What a zone counts. */
export interface Place {
  readonly kind: 'package' | 'dram' | 'psys';
  readonly socket: number;
  /** Number of the die within the socket, where the kernel names dies (`package-0-die-1`). */
  readonly die: number | undefined;
}

interface Zone extends Place {
  /** `intel-rapl:0:2`. */
  readonly entry: string;
  readonly counter: EnergyCounter;
}

/** The RAPL counters of one machine, followed from read to read. */
export class Rapl {
  readonly #sysfs: Sysfs;
  readonly #meter: EnergyMeter;
  #diesMirrorSocket: boolean | undefined;

  /** `closing` ends the wait between the first two reads. */
  constructor(sysfs: Sysfs, clock: Clock, closing: AbortSignal) {
    this.#sysfs = sysfs;
    this.#meter = new EnergyMeter(sysfs, clock, closing);
  }

  /**
   * Reads every counter once; for the first time twice, a second apart, where that ends before `deadlineMs`
   * (monotonic), else the readings are missing, `not-yet-read`. Never rejects.
   */
  async read(deadlineMs: number): Promise<CpuPower> {
    const entries = await this.#sysfs.list(POWERCAP);
    if (!entries.ok) {
      const note = isAbsent(entries) ? `${POWERCAP} is not there: no RAPL here` : entries.detail;
      return { readings: [], notes: [`CPU power: ${note}`] };
    }
    const { zones, notes } = await this.#findZones(entries.value);
    const metered = await this.#meter.read(
      zones.map(({ counter }) => counter),
      deadlineMs,
    );
    const readings: RawReading[] = [];
    for (const [id, alike] of groupsOf(zones)) {
      const hasDies = new Set(alike.map(({ die }) => die)).size > 1;
      const told = alike.map((zone) => ({ ...zone, metered: metered.get(zone.counter.file) }));
      readings.push(readingOfZones(id, told, hasDies && (await this.#dieShowsSocket()), POWERCAP));
    }
    const isLocked = [...metered.values()].some((each) => each.kind === 'failed' && isDenied(each.failure));
    const locked = `CPU power: ${NEEDS_ROOT} to read it; an estimate of total power is only a lower bound without it`;
    return { readings, notes: [...notes, ...(isLocked ? [locked] : [])] };
  }

  async #findZones(entries: readonly string[]): Promise<{ readonly zones: Zone[]; readonly notes: string[] }> {
    const { used, mirrored } = countedEntries(entries);
    const names = new Map<string, string>();
    const zones: Zone[] = [];
    const notes: string[] = [];
    const others: string[] = [...mirrored];
    for (const entry of used) {
      const name = await this.#sysfs.readText(`${POWERCAP}/${entry}/name`);
      if (!name.ok) {
        notes.push(`CPU power: left out: ${name.detail}`);
        continue;
      }
      names.set(entry, name.value);
      // `intel-rapl:0:2` is the third zone within `intel-rapl:0`; a parent is listed before its children.
      const parent = names.get(entry.replace(/:\d+$/, ''));
      const place = placeOf(name.value, parent);
      if (!place) {
        others.push(`${entry} (${name.value})`);
        continue;
      }
      const range = await this.#sysfs.readInteger(`${POWERCAP}/${entry}/max_energy_range_uj`);
      const file = `${POWERCAP}/${entry}/energy_uj`;
      zones.push({ entry, ...place, counter: { file, ...(range.ok && { rangeUj: range.value }) } });
    }
    const found = zones.map(({ entry, kind, socket }) => `${entry} (${kind}-${socket})`).join(', ') || 'nothing';
    notes.unshift(
      `CPU power: ${POWERCAP} has ${found}; contained in them or repeating them: ${others.join(', ') || 'nothing'}`,
    );
    return { zones, notes };
  }

  /**
   * AMD shows the socket's counter under every die (codecarbon#1379: 68 W and 68 W on a machine drawing 125 W at the
   * wall); Intel's dies have counters of their own. Asked once: the kernel takes its time over this file.
   */
  async #dieShowsSocket(): Promise<boolean> {
    if (this.#diesMirrorSocket === undefined) {
      const cpuinfo = await this.#sysfs.readText('/proc/cpuinfo', LARGEST_CPUINFO_BYTES);
      if (!cpuinfo.ok) return false;
      this.#diesMirrorSocket = /^vendor_id\s*:\s*(AuthenticAMD|HygonGenuine)\s*$/m.test(cpuinfo.value);
    }
    return this.#diesMirrorSocket;
  }
}

/** One zone and what its counter gave. */
export interface ToldZone extends Place {
  readonly entry: string;
  readonly metered: Metered | undefined;
}

/**
 * One reading from the zones of one kind and socket: usually one zone, several where the kernel names dies. `where` says
 * for people where the zones stand.
 */
export function readingOfZones(
  id: string,
  zones: readonly ToldZone[],
  diesMirrorSocket: boolean,
  where: string,
): RawReading {
  const base = { component: 'cpu', id, quantity: 'power', ...(id === PSYS && { informational: true }) } as const;
  const missing = (cause: MissingCause, detail: string): RawReading => ({
    ...base,
    value: null,
    cause,
    origin: clipped(detail),
  });
  const dies = new Map<number | undefined, Metered & { readonly kind: 'power' }>();
  for (const { entry, die, metered } of zones) {
    if (metered?.kind === 'failed') {
      const { code, detail } = metered.failure;
      const why = isDenied(metered.failure) ? `${detail}: ${NEEDS_ROOT}` : detail;
      return missing(code === 'not-a-number' ? 'invalid' : 'unreadable', why);
    }
    if (metered?.kind !== 'power')
      return missing('not-yet-read', `${entry} in ${where}: power takes two reads, a second apart`);
    // The same zone twice is one meter shown twice.
    if (metered.powerW >= (dies.get(die)?.powerW ?? 0)) dies.set(die, metered);
  }
  const powers = [...dies.values()];
  const watts = powers.map(({ powerW }) => powerW);
  const isMirrored = powers.length > 1 && diesMirrorSocket;
  const how = powers.length === 1 ? '' : isMirrored ? ', the highest die' : ', the sum of its dies';
  const overS = Math.max(...powers.map(({ overMs }) => overMs)) / 1000;
  return {
    ...base,
    value: isMirrored ? Math.max(...watts) : watts.reduce((sum, powerW) => sum + powerW, 0),
    origin: clipped(
      `RAPL ${id}${how}: ${zones.map(({ entry }) => entry).join(' ')} in ${where} over ${overS.toFixed(1)} s`,
    ),
    sampledAtMs: Math.min(...powers.map(({ atMs }) => atMs)),
  };
}

/** The entries of /sys/class/powercap to count: the MSR zones, else the MMIO zones that repeat them. */
export function countedEntries(entries: readonly string[]): {
  readonly used: readonly string[];
  readonly mirrored: readonly string[];
} {
  const throughMsr = entries.filter((entry) => /^intel-rapl:\d+(:\d+)?$/.test(entry));
  const throughMmio = entries.filter((entry) => /^intel-rapl-mmio:\d+(:\d+)?$/.test(entry));
  return throughMsr.length > 0 ? { used: throughMsr, mirrored: throughMmio } : { used: throughMmio, mirrored: [] };
}

/** What a zone counts, by its name and its parent's; `undefined` for what is inside another zone. */
export function placeOf(name: string, parent: string | undefined): Place | undefined {
  if (name === 'psys') return { kind: 'psys', socket: 0, die: undefined };
  const within = name === 'dram' ? parent : name;
  const [, socket, die] = /^package-(\d+)(?:-die-(\d+))?$/.exec(within ?? '') ?? [];
  if (socket === undefined) return undefined;
  return {
    kind: name === 'dram' ? 'dram' : 'package',
    socket: Number(socket),
    die: die === undefined ? undefined : Number(die),
  };
}

/** Zones by what they count: `package-0`, `dram-1`, `psys-0`. */
export function groupsOf<Z extends Place>(zones: readonly Z[]): ReadonlyMap<string, readonly Z[]> {
  return groupedBy(zones, ({ kind, socket }) => `${kind}-${socket}`);
}

function isDenied({ code }: FileFailure): boolean {
  return code === 'EACCES' || code === 'EPERM';
}

function clipped(text: string): string {
  return text.length <= ORIGIN_LENGTH ? text : `${text.slice(0, ORIGIN_LENGTH - 1)}…`;
}
