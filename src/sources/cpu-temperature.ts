// The temperature of the CPU from /sys, one reading per chip. Which sensor speaks for the CPU is decided by the driver's
// name and by nothing else (cpu-sensor-names.ts): the first sensor found is often an ACPI zone frozen at 27.8 °C, and a
// board chip (nct6775, it87) shows 109 °C on pins where nothing is connected while the die is at 55. Within a chip the
// hottest plausible sensor counts: one package sensor, or one Tccd, may be the only hot one. Where no driver of a CPU is
// there, thermal zones of a CPU's type stand in. Whether a number is believed is parseReading's word, what it means
// evaluate's.
import { type HardwareLimits, type MissingCause, parseReading, type RawReading } from '../domain/reading.ts';
import { isCpuChip, isCpuZone } from './cpu-sensor-names.ts';
import { type FileFailure, isAbsent, naturalOrder, type Sysfs } from './sysfs.ts';

export interface CpuTemperatures {
  /** At least one: with nothing found it is a missing one that says what was looked for. */
  readonly readings: readonly RawReading[];
  readonly hardwareLimits: readonly HardwareLimits[];
  /** What was looked for and where, and what was left out of it. */
  readonly notes: readonly string[];
}

export interface CpuTemperatureOptions {
  /**
   * How far the fan-control scale Tctl lies above the die on this machine, °C; 10, 20 or 27 on some Threadrippers and
   * early Ryzens. Only for chips without Tdie, and never guessed: default 0.
   */
  readonly tctlOffsetC?: number;
}

const HWMON = '/sys/class/hwmon';
const THERMAL = '/sys/class/thermal';

/** A CPU's critical temperature outside this is a placeholder, °C. */
const CRITICAL_C = { from: 60, to: 130 };

/** Whether a sensor's critical temperature, °C, can be a CPU's own. */
export function isLikelyCritical(celsius: number): boolean {
  return celsius >= CRITICAL_C.from && celsius <= CRITICAL_C.to;
}

const ORIGIN_LENGTH = 120;

/** An entry of /sys/class/hwmon: who it is, and where. */
interface Entry {
  readonly name: string;
  /** `/sys/class/hwmon/hwmon2`. */
  readonly directory: string;
  /** `/sys/devices/platform/coretemp.0`: the same after a reboot, and when the driver is loaded anew. */
  readonly devicePath: string;
}

interface Chip extends Entry {
  readonly id: string;
}

interface Sensor {
  /** `/sys/class/hwmon/hwmon2/temp1`, to which `_input`, `_label` and so on are added. */
  readonly prefix: string;
  /** What the driver's scale lies above the die, °C. */
  readonly offsetC: number;
}

/** What a sensor said: a number, believed or not, or why there is none. */
type Said =
  | { readonly kind: 'number'; readonly celsius: number; readonly sensor: Sensor }
  | { readonly kind: 'nothing'; readonly cause: MissingCause; readonly detail: string };

/** The CPU's sensors of one machine. It remembers the chips, so that none can go unnoticed. */
export class CpuTemperature {
  readonly #sysfs: Sysfs;
  readonly #tctlOffsetC: number;
  /** By directory. A hung driver is not asked for its name any more, and keeps the one that it told. */
  #entries: ReadonlyMap<string, Entry> = new Map();
  /** By name and device path; given once. */
  readonly #ids = new Map<string, string>();
  /** Ids of the chips that ever had a sensor, by device path. */
  readonly #spoken = new Map<string, string>();

  constructor(sysfs: Sysfs, { tctlOffsetC = 0 }: CpuTemperatureOptions = {}) {
    this.#sysfs = sysfs;
    this.#tctlOffsetC = tctlOffsetC;
  }

  /** Reads every CPU chip, or else every CPU zone, once. Never rejects; {@link Sysfs} bounds how long it takes. */
  async read(): Promise<CpuTemperatures> {
    const listing = await this.#sysfs.list(HWMON);
    if (!listing.ok && !isAbsent(listing)) return this.#blind(listing);
    const { chips, others, readings } = await this.#findChips(listing.ok ? listing.value : []);
    const hardwareLimits: HardwareLimits[] = [];
    const notes = [
      `CPU temperature: ${HWMON} has ${listed(chips.map(({ id }) => id))}; not the CPU's: ${listed(others)}`,
    ];
    const silent = new Map(this.#spoken);
    for (const chip of chips) {
      const said = await readChip(this.#sysfs, chip, this.#tctlOffsetC);
      notes.push(...said.notes);
      if (!said.reading) continue;
      readings.push(said.reading);
      this.#spoken.set(chip.devicePath, chip.id);
      silent.delete(chip.devicePath);
      const { criticalC } = said;
      if (criticalC !== undefined) hardwareLimits.push({ component: 'cpu', id: chip.id, criticalC });
    }
    for (const [devicePath, id] of silent) {
      readings.push(missing(id, 'gone', `${devicePath} had a sensor earlier and has none now`));
      notes.push(`${id}: if its chip was taken out on purpose, restart this service to forget it`);
    }
    if (readings.length > 0) return { readings, hardwareLimits, notes };

    const zones = await readZones(this.#sysfs);
    const zoneIds = zones.readings.map(({ id }) => id ?? 'no list');
    notes.push(`CPU temperature: ${THERMAL} has ${listed(zoneIds)}; not the CPU's: ${listed(zones.others)}`);
    if (zones.readings.length > 0) return { readings: zones.readings, hardwareLimits, notes };
    const seen = `${HWMON}: ${listed(others)}; ${THERMAL}: ${listed(zones.others)}`;
    return { readings: [missing(undefined, 'no-sensor', `no CPU chip or zone in ${seen}`)], hardwareLimits, notes };
  }

  /** No list of chips is not a list without chips. */
  #blind({ detail }: FileFailure): CpuTemperatures {
    const ids = this.#spoken.size > 0 ? [...this.#spoken.values()] : [undefined];
    return { readings: ids.map((id) => missing(id, 'unreadable', detail)), hardwareLimits: [], notes: [detail] };
  }

  /** The CPU's chips, the names of the others, and a missing reading for each entry that may be either. */
  async #findChips(
    names: readonly string[],
  ): Promise<{ readonly chips: readonly Chip[]; readonly others: readonly string[]; readonly readings: RawReading[] }> {
    const entries = new Map<string, Entry>();
    const readings: RawReading[] = [];
    for (const entryName of names) {
      const directory = `${HWMON}/${entryName}`;
      const name = await this.#sysfs.readText(`${directory}/name`);
      if (!name.ok && isAbsent(name)) continue;
      const entry = name.ok ? await this.#entryOf(name.value, directory) : this.#entries.get(directory);
      if (entry) {
        entries.set(directory, entry);
      } else if (!name.ok) {
        // A chip that never told its name may be the second socket's.
        readings.push(missing(entryName, 'unreadable', name.detail));
      }
    }
    this.#entries = entries;
    const all = [...entries.values()];
    const others = all.flatMap(({ name }) => (isCpuChip(name) ? [] : [name]));
    const chips = all
      .filter(({ name }) => isCpuChip(name))
      .sort((a, b) => naturalOrder(a.devicePath, b.devicePath))
      .map((entry) => ({ ...entry, id: this.#idOf(entry) }));
    return { chips, others, readings };
  }

  async #entryOf(name: string, directory: string): Promise<Entry> {
    const target = isCpuChip(name) ? await this.#sysfs.resolve(directory) : undefined;
    // A link leads to …/coretemp.0/hwmon/hwmon2 or to …/thermal_zone0/hwmon2; where there is none, it is its own device.
    const device = target?.ok ? /^(\/sys\/devices\/.+?)(?:\/hwmon)?\/hwmon\d+$/.exec(target.value)?.[1] : undefined;
    return { name, directory, devicePath: device ?? directory };
  }

  /** Name and place in the order of device paths, `coretemp-1`: hwmonN changes at every boot. */
  #idOf({ name, devicePath }: Entry): string {
    const key = `${name} ${devicePath}`;
    const known = this.#ids.get(key);
    if (known !== undefined) return known;
    const ordinal = [...this.#ids.keys()].filter((other) => other.startsWith(`${name} `)).length;
    this.#ids.set(key, `${name}-${ordinal}`);
    return `${name}-${ordinal}`;
  }
}

async function readChip(
  sysfs: Sysfs,
  chip: Chip,
  tctlOffsetC: number,
): Promise<{ readonly reading?: RawReading; readonly criticalC?: number; readonly notes: readonly string[] }> {
  const files = await sysfs.list(chip.directory);
  if (!files.ok) return { reading: missing(chip.id, 'unreadable', files.detail), notes: [] };
  const has = new Set(files.value.map((file) => `${chip.directory}/${file}`));
  const { sensors, besideTdie } = await sensorsOfTheDie(sysfs, chip, has, tctlOffsetC);
  const notes = besideTdie.map(
    (prefix) => `${chip.id}: left out: ${prefix}_input is Tctl, a fan-control scale, beside Tdie`,
  );
  if (sensors.length === 0) return { notes: [...notes, `${chip.id}: no temperature of the die in ${chip.directory}`] };

  const saying: Said[] = [];
  for (const sensor of sensors) saying.push(await readSensor(sysfs, sensor, has));
  for (const said of saying) {
    if (said.kind === 'nothing') {
      notes.push(`${chip.id}: left out: ${said.detail}`);
      continue;
    }
    const parsed = parseReading('temperature', said.celsius);
    if (!parsed.ok) notes.push(`${chip.id}: left out: ${said.sensor.prefix}_input: ${parsed.detail}`);
  }
  const reading = await hottest(sysfs, chip, saying);
  const criticalC = await criticalOf(sysfs, sensors, has);
  return { reading, ...(criticalC === undefined ? {} : { criticalC }), notes };
}

async function sensorsOfTheDie(
  sysfs: Sysfs,
  chip: Chip,
  has: ReadonlySet<string>,
  tctlOffsetC: number,
): Promise<{ readonly sensors: readonly Sensor[]; readonly besideTdie: readonly string[] }> {
  const labelled: { readonly prefix: string; readonly sensor: string; readonly label: string }[] = [];
  for (const file of has) {
    const [, prefix = '', sensor = ''] = /^(.*\/(temp\d+))_input$/.exec(file) ?? [];
    if (prefix === '') continue;
    const label = tellsTctl(chip.name) ? await labelOf(sysfs, prefix) : '';
    labelled.push({ prefix, sensor, label });
  }
  const { kept, besideTdie } = dieSensors(chip.name, labelled, tctlOffsetC);
  return { sensors: kept, besideTdie: besideTdie.map(({ prefix }) => prefix) };
}

/**
 * A chip's sensors, without AMD's Tctl where the chip tells better. Tctl is a fan-control scale, up to 27 °C above the
 * die on purpose (a Threadripper at 69 shows 96), so it counts only on a k10temp without Tdie, less the configured
 * offset. zenpower always has Tdie. `sensor` is `temp1` and so on, `label` is '' for a sensor without one.
 */
export function dieSensors<S extends { readonly sensor: string; readonly label: string }>(
  chipName: string,
  sensors: readonly S[],
  tctlOffsetC: number,
): { readonly kept: readonly (S & { readonly offsetC: number })[]; readonly besideTdie: readonly S[] } {
  if (!tellsTctl(chipName)) return { kept: sensors.map((each) => ({ offsetC: 0, ...each })), besideTdie: [] };
  const hasTdie = chipName === 'zenpower' || sensors.some(({ label }) => label === 'Tdie');
  // Before Linux 5.x k10temp had no labels; its temp1 was Tctl.
  const isTctl = ({ sensor, label }: S): boolean =>
    label === 'Tctl' || (chipName === 'k10temp' && label === '' && sensor === 'temp1');
  return {
    kept: sensors
      .filter((each) => !(hasTdie && isTctl(each)))
      .map((each) => ({ ...each, offsetC: isTctl(each) ? tctlOffsetC : 0 })),
    besideTdie: sensors.filter((each) => hasTdie && isTctl(each)),
  };
}

function tellsTctl(chipName: string): boolean {
  return chipName === 'k10temp' || chipName === 'zenpower';
}

/** The hottest that can be believed; else the highest number, for the domain to call invalid; nothing of nothing. */
export function hottestOf<S extends { readonly celsius: number }>(numbers: readonly S[]): S | undefined {
  const believed = numbers.filter(({ celsius }) => parseReading('temperature', celsius).ok);
  const among = believed.length > 0 ? believed : numbers;
  return among.reduce<S | undefined>((best, each) => (best && best.celsius >= each.celsius ? best : each), undefined);
}

/** '' where there is none. */
async function labelOf(sysfs: Sysfs, prefix: string): Promise<string> {
  const label = await sysfs.readText(`${prefix}_label`);
  return label.ok ? label.value : '';
}

async function readSensor(sysfs: Sysfs, sensor: Sensor, has: ReadonlySet<string>): Promise<Said> {
  const faultFile = `${sensor.prefix}_fault`;
  if (has.has(faultFile)) {
    // 1 says that the wire is broken; the number beside it is then anything. A flag that cannot be read vouches for nothing.
    const fault = await sysfs.readText(faultFile);
    if (!fault.ok) return nothing(fault);
    if (fault.value !== '0') {
      return { kind: 'nothing', cause: 'unreadable', detail: `${faultFile} is ${fault.value.slice(0, 10)}` };
    }
  }
  const input = await sysfs.readInteger(`${sensor.prefix}_input`);
  return input.ok ? { kind: 'number', celsius: onTheDie(input.value, sensor), sensor } : nothing(input);
}

function onTheDie(millidegrees: number, { offsetC }: Sensor): number {
  return (millidegrees - offsetC * 1000) / 1000;
}

/**
 * The chip's own limit, °C (Intel: TjMax), from the first sensor that has a likely one; a chip's sensors share it.
 * `tempN_max` is a fan's threshold and no limit.
 */
async function criticalOf(
  sysfs: Sysfs,
  sensors: readonly Sensor[],
  has: ReadonlySet<string>,
): Promise<number | undefined> {
  for (const sensor of sensors) {
    const file = `${sensor.prefix}_crit`;
    if (!has.has(file)) continue;
    const critical = await sysfs.readInteger(file);
    if (!critical.ok) continue;
    const celsius = onTheDie(critical.value, sensor);
    if (isLikelyCritical(celsius)) return celsius;
  }
  return undefined;
}

/** The hottest sensor that can be believed; else a number that cannot, for the domain to call invalid; else the cause. */
async function hottest(sysfs: Sysfs, { id, name }: Chip, saying: readonly Said[]): Promise<RawReading> {
  const best = hottestOf(saying.flatMap((said) => (said.kind === 'number' ? [said] : [])));
  if (best) {
    const { prefix, offsetC } = best.sensor;
    const label = await labelOf(sysfs, prefix);
    const offset = offsetC === 0 ? '' : ` less ${offsetC} °C`;
    const origin = clipped(`${[name, label].join(' ').trim()}${offset}, ${prefix}_input`);
    return { component: 'cpu', id, quantity: 'temperature', value: best.celsius, origin };
  }
  const silent = saying.flatMap((said) => (said.kind === 'nothing' ? [said] : []));
  const worst = silent.find(({ cause }) => cause === 'unreadable') ?? silent[0];
  return missing(id, worst?.cause ?? 'no-sensor', worst?.detail ?? 'no sensor');
}

/** CPU zones, each a reading of its own. Type and temperature are paired by directory: one that fails shifts no other. */
async function readZones(
  sysfs: Sysfs,
): Promise<{ readonly readings: readonly RawReading[]; readonly others: readonly string[] }> {
  const entries = await sysfs.list(THERMAL);
  if (!entries.ok) {
    return { readings: isAbsent(entries) ? [] : [missing(undefined, 'unreadable', entries.detail)], others: [] };
  }
  const others: string[] = [];
  const readings: RawReading[] = [];
  const ofType = new Map<string, number>();
  for (const entry of entries.value.filter((name) => /^thermal_zone\d+$/.test(name))) {
    const directory = `${THERMAL}/${entry}`;
    const type = await sysfs.readText(`${directory}/type`);
    if (!type.ok) {
      if (!isAbsent(type)) readings.push(missing(entry, 'unreadable', type.detail));
    } else if (isCpuZone(type.value)) {
      const ordinal = ofType.get(type.value) ?? 0;
      ofType.set(type.value, ordinal + 1);
      readings.push(await readZone(sysfs, type.value, `${type.value}-${ordinal}`, `${directory}/temp`));
    } else {
      others.push(type.value);
    }
  }
  return { readings, others };
}

async function readZone(sysfs: Sysfs, type: string, id: string, file: string): Promise<RawReading> {
  const temperature = await sysfs.readInteger(file);
  if (!temperature.ok) {
    const { cause, detail } = nothing(temperature);
    return missing(id, cause, detail);
  }
  const origin = clipped(`${type}, ${file}`);
  return { component: 'cpu', id, quantity: 'temperature', value: temperature.value / 1000, origin };
}

function nothing(failure: FileFailure): Said & { readonly kind: 'nothing' } {
  return { kind: 'nothing', cause: failure.code === 'not-a-number' ? 'invalid' : 'unreadable', detail: failure.detail };
}

function missing(id: string | undefined, cause: MissingCause, detail: string): RawReading {
  const of = id === undefined ? {} : { id };
  return { component: 'cpu', ...of, quantity: 'temperature', value: null, cause, origin: clipped(detail) };
}

function clipped(text: string): string {
  return text.length <= ORIGIN_LENGTH ? text : `${text.slice(0, ORIGIN_LENGTH - 1)}…`;
}

/** `nvme ×2, acpitz`, or `nothing`. */
function listed(names: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return [...counts].map(([name, count]) => (count === 1 ? name : `${name} ×${count}`)).join(', ') || 'nothing';
}
