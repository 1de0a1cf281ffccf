// What the hwmon chip of a GPU's driver says: temperature, power, limits; and the memory that amdgpu tells beside it.
// Which sensor is the card's temperature is decided by its label: amdgpu's edge, Intel's pkg. The hot spot (junction)
// is hotter by design, with limits of its own, and is judged only where there is no edge (MI300). Whatever a driver
// does not tell is a missing reading with the reason, never left out: an absent sensor must not look like a cool card.
// Numbers are passed on as they are, for the domain to believe or not, except for bit patterns that mean "no value".
import {
  type GpuSighting,
  type HardwareLimits,
  type MissingCause,
  parseReading,
  type Quantity,
  type RawReading,
} from '../domain/reading.ts';
import type { EnergyCounter, Metered } from './energy-meter.ts';
import { type FileAnswer, type FileFailure, isAbsent, type Sysfs } from './sysfs.ts';

export type GpuDriver = 'amdgpu' | 'radeon' | 'nouveau' | 'i915' | 'xe';

/** The hwmon chip of one card's driver. */
export interface Chip {
  readonly driver: GpuDriver;
  readonly directory: string;
  /** The names in it. */
  readonly files: readonly string[];
}

/** i915 has further chips, `i915_gt0`, for parts of a card. */
const DRIVERS: Readonly<Record<GpuSighting['vendor'], readonly GpuDriver[]>> = {
  amd: ['amdgpu', 'radeon'],
  intel: ['i915', 'xe'],
  nvidia: ['nouveau'],
  other: [],
};

const VENDORS = ['amd', 'intel', 'nvidia'] as const;

/** In this order the first that is there is the card's temperature; '' is a sensor without label (older drivers). */
const JUDGED_LABELS = ['edge', 'pkg', '', 'junction'];
/** Shown. The others are not even read: each of Intel's vram_ch_N takes about 100 ms. */
export const SHOWN_LABELS: readonly string[] = ['edge', 'pkg', 'junction', 'mem', 'vram'];

/** All ones of 16, 31, 32 and 64 bits: "no value" in the tables of AMD's firmware (MangoHud#875, #1953). */
const NO_VALUE: ReadonlySet<number> = new Set([0xffff, 0x7fffffff, 0xffffffff, 2 ** 64]);

const ORIGIN_LENGTH = 120;

/** Whether a number, in the driver's own unit (m°C, µW, bytes), is a bit pattern that says "no value". */
export function isNoValue(raw: number): boolean {
  return NO_VALUE.has(raw);
}

/** Whose driver of a GPU this is; `undefined` for any other driver. */
export function vendorOfDriver(name: string): GpuSighting['vendor'] | undefined {
  return VENDORS.find((vendor) => DRIVERS[vendor].some((driver) => driver === name));
}

/** The hwmon chip below a card's device directory, or why there is none; `ENOENT` where its driver has none. */
export async function findChip(
  sysfs: Sysfs,
  vendor: GpuSighting['vendor'],
  device: string,
): Promise<Chip | FileFailure> {
  const chips = await sysfs.list(`${device}/hwmon`);
  if (!chips.ok && !isAbsent(chips)) return chips;
  let unreadable: FileFailure | undefined;
  for (const entry of chips.ok ? chips.value : []) {
    const directory = `${device}/hwmon/${entry}`;
    const name = await sysfs.readText(`${directory}/name`);
    const driver = name.ok ? DRIVERS[vendor].find((known) => known === name.value) : undefined;
    if (driver) {
      const files = await sysfs.list(directory);
      return files.ok ? { driver, directory, files: files.value } : files;
    }
    if (!name.ok && !isAbsent(name)) unreadable = name;
  }
  const detail = `no sensors of ${DRIVERS[vendor].join(' or ')} in ${device}/hwmon`;
  return unreadable ?? { ok: false, code: 'ENOENT', detail };
}

/** The counter that a card without a power sensor is metered by: Intel's, of the card, else of its package. */
export function energyCounterOf({ directory, files }: Chip): EnergyCounter | undefined {
  if (powerFiles(files).length > 0) return undefined;
  const name = ['energy1_input', 'energy2_input'].find((file) => files.includes(file));
  return name === undefined ? undefined : { file: `${directory}/${name}` };
}

/** Temperature and power of a card, each one judged reading, and the temperatures that are only shown. */
export async function readChip(
  sysfs: Sysfs,
  chip: Chip,
  id: string,
  metered: ReadonlyMap<string, Metered>,
): Promise<RawReading[]> {
  return [...(await readTemperatures(sysfs, chip, id)), await readPower(sysfs, chip, id, metered)];
}

/** The missing readings of a card of which something cannot be read. */
export function unread(id: string, failure: FileFailure, quantities: readonly Quantity[]): RawReading[] {
  return quantities.map((quantity) => failedReading(id, quantity, failure));
}

/**
 * Memory and, informational, utilization of a card of amdgpu, which tells them beside its chip. used / total is here
 * what used / (used + free) is elsewhere: amdgpu's total leaves out what the firmware keeps.
 */
export async function readMemory(sysfs: Sysfs, { id, vendor }: GpuSighting, device: string): Promise<RawReading[]> {
  const none = missing(id, 'memory', 'no-sensor', 'no mem_info_vram_used and _total: in /sys only amdgpu tells memory');
  if (vendor !== 'amd') return [none];
  const used = await sysfs.readInteger(`${device}/mem_info_vram_used`);
  const total = await sysfs.readInteger(`${device}/mem_info_vram_total`);
  const readings: RawReading[] = [];
  if (used.ok && total.ok) {
    readings.push(vramReading(id, used.value, total.value, `${device}/mem_info_vram_used`));
  } else {
    const failures = [used, total].flatMap((answer) => (answer.ok ? [] : [answer]));
    const failure = failures.find((each) => !isAbsent(each));
    readings.push(failure ? failedReading(id, 'memory', failure) : none);
  }
  const busy = await sysfs.readInteger(`${device}/gpu_busy_percent`);
  if (busy.ok && parseReading('utilization', busy.value / 100).ok) {
    const origin = `amdgpu, ${device}/gpu_busy_percent`;
    readings.push({ ...present(id, 'utilization', busy.value / 100, origin), informational: true });
  }
  return readings;
}

/**
 * A card's power limits. No temperature limit is taken from a chip: amdgpu's temp1_crit is the throttling limit on some
 * generations, the shutdown on others, and a placeholder of 80 °C where the firmware's table has none, which as a
 * slowdown temperature would lower the hard stop for nothing.
 */
export async function readLimits(
  sysfs: Sysfs,
  { driver, directory }: Chip,
  id: string,
): Promise<readonly HardwareLimits[]> {
  const files = powerLimitNames(driver);
  const wattsOf = (answer: FileAnswer<number>): number | undefined => (answer.ok ? answer.value / 1e6 : undefined);
  const enforcedPowerW = wattsOf(await sysfs.readInteger(`${directory}/power1_${files.enforced}`));
  const defaultPowerW = wattsOf(await sysfs.readInteger(`${directory}/power1_${files.byDefault}`));
  return powerLimits(id, enforcedPowerW, defaultPowerW);
}

/** xe's `cap` is the limit of bursts of some ms; the one that holds is `max`, 0 when it is off. */
export function powerLimitNames(driver: GpuDriver): { readonly enforced: string; readonly byDefault: string } {
  return driver === 'i915' || driver === 'xe'
    ? { enforced: 'max', byDefault: 'rated_max' }
    : { enforced: 'cap', byDefault: 'cap_default' };
}

/** The limits of a card, W, as far as they can be believed; nothing where none can. */
export function powerLimits(
  id: string,
  enforcedW: number | undefined,
  defaultW: number | undefined,
): readonly HardwareLimits[] {
  const believed = (watts: number | undefined): watts is number =>
    watts !== undefined && parseReading('power', watts).ok;
  if (!believed(enforcedW) && !believed(defaultW)) return [];
  const enforced = believed(enforcedW) && { enforcedPowerW: enforcedW };
  return [{ component: 'gpu', id, ...enforced, ...(believed(defaultW) && { defaultPowerW: defaultW }) }];
}

interface Sensor {
  /** `temp1`. */
  readonly prefix: string;
  /** '' without one. */
  readonly label: string;
}

async function readTemperatures(sysfs: Sysfs, chip: Chip, id: string): Promise<RawReading[]> {
  const { driver, directory, files } = chip;
  const sensors: Sensor[] = [];
  let unlabelled: FileFailure | undefined;
  for (const file of files) {
    const prefix = /^(temp\d+)_input$/.exec(file)?.[1];
    if (prefix === undefined) continue;
    const label = files.includes(`${prefix}_label`) ? await sysfs.readText(`${directory}/${prefix}_label`) : undefined;
    // A sensor whose label cannot be read may be any.
    if (label && !label.ok) unlabelled = label;
    else sensors.push({ prefix, label: label?.value ?? '' });
  }
  const judged = judgedSensor(sensors, unlabelled !== undefined);
  const readings: RawReading[] = [];
  if (!judged) {
    const why = `no temperature of ${driver} labelled edge or pkg, or without label, in ${directory}`;
    const absent = missing(id, 'temperature', 'no-sensor', why);
    readings.push(unlabelled ? failedReading(id, 'temperature', unlabelled) : absent);
  }
  for (const sensor of sensors) {
    if (sensor !== judged && !SHOWN_LABELS.includes(sensor.label)) continue;
    const file = `${directory}/${sensor.prefix}_input`;
    const origin = `${`${driver} ${sensor.label}`.trim()}, ${file}`;
    const reading = scaled(id, 'temperature', await sysfs.readInteger(file), 1e3, origin);
    readings.push(sensor === judged ? reading : { ...reading, informational: true });
  }
  return readings;
}

/** The sensor that is the card's temperature. One with a label that cannot be read, `isOneUnknown`, may be the edge. */
export function judgedSensor<S extends { readonly label: string }>(
  sensors: readonly S[],
  isOneUnknown: boolean,
): S | undefined {
  const best = JUDGED_LABELS.flatMap((label) => sensors.find((sensor) => sensor.label === label) ?? [])[0];
  return isOneUnknown && best?.label === 'junction' ? undefined : best;
}

/** The average where there is one: exactly one of the two is there, depending on chip and kernel (nvtop#244). */
function powerFiles(files: readonly string[]): string[] {
  return ['power1_average', 'power1_input'].filter((file) => files.includes(file));
}

async function readPower(
  sysfs: Sysfs,
  chip: Chip,
  id: string,
  metered: ReadonlyMap<string, Metered>,
): Promise<RawReading> {
  const { driver, directory, files } = chip;
  const [name] = powerFiles(files);
  if (name !== undefined) {
    const file = `${directory}/${name}`;
    return scaled(id, 'power', await sysfs.readInteger(file), 1e6, `${driver} ${name}, ${file}`);
  }
  const counter = energyCounterOf(chip);
  const energy = counter && metered.get(counter.file);
  if (!counter || !energy) {
    const isOld = driver === 'radeon' || driver === 'nouveau';
    return missing(id, 'power', isOld ? 'not-supported' : 'no-sensor', `${driver} shows no power in ${directory}`);
  }
  switch (energy.kind) {
    case 'failed':
      return failedReading(id, 'power', energy.failure);
    case 'first':
      return missing(id, 'power', 'not-yet-read', `${counter.file}: power takes two reads, a second apart`);
    case 'power': {
      const part = counter.file.endsWith('energy2_input') ? ' package only' : '';
      const origin = `${driver}${part}, ${counter.file} over ${(energy.overMs / 1000).toFixed(1)} s`;
      return { ...present(id, 'power', energy.powerW, origin), sampledAtMs: energy.atMs };
    }
  }
}

/** The share of a card's memory from bytes used and bytes that there are. `where` is for people. */
export function vramReading(id: string, used: number, total: number, where: string): RawReading {
  const origin = `amdgpu, ${where} of ${(total / 2 ** 30).toFixed(1)} GiB`;
  if (NO_VALUE.has(used) || NO_VALUE.has(total) || total <= 0) {
    return missing(id, 'memory', 'invalid', `${used} of ${total} bytes is no value: ${where}, _total`);
  }
  return present(id, 'memory', used / total, origin);
}

function scaled(id: string, quantity: Quantity, answer: FileAnswer<number>, scale: number, origin: string): RawReading {
  if (!answer.ok) return failedReading(id, quantity, answer);
  if (NO_VALUE.has(answer.value)) return missing(id, quantity, 'invalid', `${answer.value} is no value: ${origin}`);
  return present(id, quantity, answer.value / scale, origin);
}

function failedReading(id: string, quantity: Quantity, failure: FileFailure): RawReading {
  const cause = isAbsent(failure) ? 'no-sensor' : failure.code === 'not-a-number' ? 'invalid' : 'unreadable';
  return missing(id, quantity, cause, failure.detail);
}

function present(id: string, quantity: Quantity, value: number, origin: string): RawReading {
  return { component: 'gpu', id, quantity, value, origin: clipped(origin) };
}

function missing(id: string, quantity: Quantity, cause: MissingCause, detail: string): RawReading {
  return { component: 'gpu', id, quantity, value: null, cause, origin: clipped(detail) };
}

function clipped(text: string): string {
  return text.length <= ORIGIN_LENGTH ? text : `${text.slice(0, ORIGIN_LENGTH - 1)}…`;
}
