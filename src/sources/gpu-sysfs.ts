// AMD's and Intel's cards, and NVIDIA's under nouveau, as their kernel drivers show them in /sys: no tool and no
// library is needed. A card is an entry cardN of /sys/class/drm with a PCI device behind it (card0-HDMI-A-1 is a socket
// on it, and a partitioned card has several entries); what it measures stands in the hwmon chip of its driver.
// Integrated graphics are listed and only shown: they are on the CPU's die, whose limits are others (95 °C, not 85),
// and what amdgpu calls their power contains the CPU's. Which display is integrated is pci-display.ts' word; what a
// chip's files mean is gpu-sysfs-chip.ts'. NVIDIA's own driver shows nothing here; nvidia-smi.ts asks it.
import { type Clock, TIMED_OUT, withDeadline } from '../clock.ts';
import {
  canonicalPciAddress,
  EMPTY_REPORT,
  type FailureCause,
  type GpuSighting,
  type HardwareLimits,
  type RawReading,
  type SourceReport,
} from '../domain/reading.ts';
import { EnergyMeter } from './energy-meter.ts';
import { type Chip, energyCounterOf, findChip, readChip, readLimits, readMemory, unread } from './gpu-sysfs-chip.ts';
import { joined } from './joined.ts';
import { readPciDisplays } from './pci-display.ts';
import type { Source } from './source.ts';
import { type FileFailure, isAbsent, Sysfs } from './sysfs.ts';

export interface GpuSysfsOptions {
  readonly node: string;
  readonly clock: Clock;
  /** Where `/sys` is found; a captured tree in tests. Default `/`. */
  readonly root?: string;
}

const DRM = '/sys/class/drm';
const MOST_NOTES = 50;

const VENDORS: ReadonlyMap<string, GpuSighting['vendor']> = new Map([
  ['0x1002', 'amd'],
  ['0x8086', 'intel'],
  ['0x10de', 'nvidia'],
]);

/** The source `gpu-sysfs`. It holds no file open; {@link Source.close} only ends a wait between two samples. */
export function createGpuSysfs(options: GpuSysfsOptions): Source {
  return new GpuSysfs(options);
}

interface Card {
  readonly sighting: GpuSighting;
  /** `/sys/class/drm/card0/device`. */
  readonly directory: string;
  /** Its driver's hwmon chip, or why there is none. */
  readonly chip: Chip | FileFailure;
}

class GpuSysfs implements Source {
  readonly id = 'gpu-sysfs';
  readonly node: string;
  readonly carriesHeat = true;
  readonly #clock: Clock;
  readonly #sysfs: Sysfs;
  readonly #meter: EnergyMeter;
  readonly #closing = new AbortController();
  /** The bus, read again when a card comes up that is not among them: it takes hundreds of reads. */
  #displays: readonly GpuSighting[] = [];
  /** PCI addresses by directory. */
  readonly #addresses = new Map<string, string>();
  /** By PCI address; what a card is does not change. */
  readonly #sightings = new Map<string, GpuSighting>();
  readonly #joinedLook = joined((startedAtMs: number, deadlineMs: number) => this.#look(startedAtMs, deadlineMs));

  constructor({ node, clock, root = '/' }: GpuSysfsOptions) {
    this.node = node;
    this.#clock = clock;
    this.#sysfs = new Sysfs({ clock, root });
    this.#meter = new EnergyMeter(this.#sysfs, clock, this.#closing.signal);
  }

  async read(deadlineMs: number): Promise<SourceReport> {
    const startedAtMs = this.#nowMs();
    // The look goes on after this caller's deadline, and the next one joins it: no file is read twice at a time.
    const report = await withDeadline(this.#clock, deadlineMs - startedAtMs, this.#joinedLook(startedAtMs, deadlineMs));
    if (report !== TIMED_OUT) return report;
    const allowedMs = Math.round(deadlineMs - startedAtMs);
    return this.#failed(startedAtMs, 'timeout', `Cannot read ${DRM}: no answer within ${allowedMs} ms`);
  }

  async close(): Promise<void> {
    this.#closing.abort();
  }

  async #look(startedAtMs: number, deadlineMs: number): Promise<SourceReport> {
    const entries = await this.#sysfs.list(DRM);
    if (!entries.ok) {
      if (!isAbsent(entries)) {
        return this.#failed(startedAtMs, entries.code === 'hung' ? 'timeout' : 'failed', entries.detail);
      }
      const note = `GPUs by sysfs: ${DRM} is not there: no GPU driver is loaded, or /sys is not mounted`;
      return { ...this.#frame(startedAtMs), outcome: { kind: 'answered' }, notes: [note] };
    }
    const { cards, notes } = await this.#findCards(entries.value.filter((entry) => /^card\d+$/.test(entry)));
    const counters = cards.flatMap(({ chip }) => ('driver' in chip ? (energyCounterOf(chip) ?? []) : []));
    const metered = await this.#meter.read(counters, deadlineMs);

    const readings: RawReading[] = [];
    const hardwareLimits: HardwareLimits[] = [];
    for (const { sighting, directory, chip } of cards) {
      const found =
        'driver' in chip
          ? await readChip(this.#sysfs, chip, sighting.id, metered)
          : unread(sighting.id, chip, ['temperature', 'power']);
      const hung = await this.#hungReadOf(chip);
      const memory = hung ? unread(sighting.id, hung, ['memory']) : await readMemory(this.#sysfs, sighting, directory);
      const all = [...found, ...memory];
      readings.push(...(sighting.required ? all : all.map((reading) => ({ ...reading, informational: true }))));
      if ('driver' in chip) hardwareLimits.push(...(await readLimits(this.#sysfs, chip, sighting.id)));
      if (all.some(({ cause }) => cause === 'unreadable'))
        notes.push(...(await this.#sleepNote(sighting.id, directory)));
    }
    notes.unshift(`GPUs by sysfs: ${cards.length} cards of AMD, Intel or under nouveau in ${DRM}`);
    return {
      ...this.#frame(startedAtMs),
      outcome: { kind: 'answered' },
      readings,
      gpus: cards.map(({ sighting }) => sighting),
      hardwareLimits,
      notes: notes.slice(0, MOST_NOTES),
    };
  }

  async #findCards(entries: readonly string[]): Promise<{ readonly cards: Card[]; readonly notes: string[] }> {
    const cards = new Map<string, Card>();
    const notes: string[] = [];
    for (const entry of entries) {
      const directory = `${DRM}/${entry}/device`;
      const address = await this.#addressOf(directory);
      if (address === null) {
        notes.push(`GPUs by sysfs: left out: no PCI device behind ${DRM}/${entry}`);
        continue;
      }
      if (cards.has(address)) continue;
      const sighting = await this.#sightingOf(address, directory);
      if (!sighting) {
        notes.push(`GPUs by sysfs: left out: ${entry}, ${address}: not of AMD, Intel or NVIDIA`);
        continue;
      }
      const alive = await this.#sysfs.readText(`${directory}/vendor`);
      const isHung = !alive.ok && alive.code === 'hung';
      const chip = isHung ? alive : await findChip(this.#sysfs, sighting.vendor, directory);
      if (!('driver' in chip)) notes.push(`GPUs by sysfs: ${address}: ${chip.detail}`);
      // Without nouveau a card of NVIDIA has nothing to tell here, and its own driver's tool lists it.
      if (sighting.vendor === 'nvidia' && !('driver' in chip)) continue;
      cards.set(address, { sighting, directory, chip });
    }
    return { cards: [...cards.values()], notes };
  }

  /**
   * A card's files are in two directories, and a driver that hangs in one hangs in the other: it is asked for nothing
   * more, since two hung reads stop all reading of /sys. The name of a chip is answered without the driver.
   */
  async #hungReadOf(chip: Chip | FileFailure): Promise<FileFailure | undefined> {
    const name = 'driver' in chip ? await this.#sysfs.readText(`${chip.directory}/name`) : chip;
    return 'code' in name && name.code === 'hung' ? name : undefined;
  }

  /**
   * The link leads to `/sys/devices/pci0000:00/…/0000:03:00.0`. Null for what is not on the PCI bus. Below a directory
   * of a driver that hangs nothing is looked up, and the card keeps the address that it had.
   */
  async #addressOf(directory: string): Promise<string | null> {
    const device = await this.#sysfs.resolve(directory);
    if (!device.ok) return (!isAbsent(device) && this.#addresses.get(directory)) || null;
    const address = canonicalPciAddress(device.value.slice(device.value.lastIndexOf('/') + 1));
    if (address !== null) this.#addresses.set(directory, address);
    return address;
  }

  async #sightingOf(address: string, directory: string): Promise<GpuSighting | undefined> {
    const known = this.#sightings.get(address);
    if (known) return known;
    const id = await this.#sysfs.readText(`${directory}/vendor`);
    const vendor = id.ok ? VENDORS.get(id.value) : undefined;
    if (!vendor) return undefined;
    if (!this.#displays.some((gpu) => gpu.id === address)) {
      this.#displays = (await readPciDisplays(this.#sysfs)).gpus;
    }
    const display = this.#displays.find((gpu) => gpu.id === address);
    const unique = await this.#sysfs.readText(`${directory}/unique_id`);
    const name = `${display?.name ?? vendor}${unique.ok ? `, unique id ${unique.value}` : ''}`;
    // A card that the bus does not list is required: unknown is not safe.
    const sighting = { id: address, pciAddress: address, name, vendor, required: display?.required ?? true };
    this.#sightings.set(address, sighting);
    return sighting;
  }

  /** From Linux 6.15 on amdgpu answers EPERM for a card that sleeps; before, the question woke it. */
  async #sleepNote(id: string, directory: string): Promise<string[]> {
    const status = await this.#sysfs.readText(`${directory}/power/runtime_status`);
    if (!status.ok || status.value !== 'suspended') return [];
    return [`GPUs by sysfs: ${id} sleeps and is not read until it wakes; "on" in its power/control keeps it awake`];
  }

  #failed(startedAtMs: number, cause: FailureCause, detail: string): SourceReport {
    return { ...this.#frame(startedAtMs), outcome: { kind: 'failed', cause, detail } };
  }

  #frame(startedAtMs: number): Omit<SourceReport, 'outcome'> {
    return { ...EMPTY_REPORT, source: this.id, node: this.node, startedAtMs, finishedAtMs: this.#nowMs() };
  }

  #nowMs(): number {
    return this.#clock.now().elapsedMs;
  }
}
