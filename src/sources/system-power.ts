// What the whole machine draws, from /sys/class/hwmon: an ACPI power meter (many servers), else the power supplies, of
// which each tells its own total (Corsair's by USB, PMBus ones by I2C) and which are added. Never a rail, which is part
// of a total, and never a mix of both kinds: both are reported with their rank, and the domain takes one. A supply that
// gave its power once and gives none now makes the sum missing, since the rest of a sum looks like a light load. With
// it goes what the CPUs draw (rapl.ts), the part of an estimate where nothing measures the whole. Most workstations
// have none of these sensors, and the report then says what was looked for. BMCs are asked by ipmi-dcmi.ts.
import { type Clock, TIMED_OUT, withDeadline } from '../clock.ts';
import {
  EMPTY_REPORT,
  type MissingCause,
  parseReading,
  type RawReading,
  type SourceReport,
} from '../domain/reading.ts';
import { joined } from './joined.ts';
import { Rapl } from './rapl.ts';
import type { Source } from './source.ts';
import { type FileFailure, isAbsent, Sysfs } from './sysfs.ts';

export interface SystemPowerOptions {
  readonly node: string;
  readonly clock: Clock;
  /** Where `/sys` is found; a captured tree in tests. Default `/`. */
  readonly root?: string;
}

const HWMON = '/sys/class/hwmon';

/** Places in the order of sources of total power, where the lowest wins: 2 the BMC, 3 Redfish, 4 and 5 these. */
export const ACPI_METER_RANK = 4;
export const SUPPLIES_RANK = 5;

/**
 * Drivers of power supplies: Corsair HXi and RMi, and PMBus ones by their makers (IBM, Delta, Bel, Inspur, Intel CRPS,
 * FSP, Acbel). By name, since voltage regulators and hot-swap controllers on PMBus call a part of the machine's power
 * `pin`, too.
 */
export const SUPPLY_CHIP =
  /^(corsairpsu|pmbus|psu?\d*|cffps\d?|dps\d+ab|pfe\d+|ipsps\d|(intel_)?crps\d*|y[mh]\d+e|fsg032)$/i;
/**
 * The one sensor of a supply that stands for all of it. Corsair's `power total` is what it gives; from the wall it
 * takes 7 to 12 % more (the curves that liquidctl estimates the input by).
 */
export const SUPPLY_TOTAL = /^(power total|pin1?)$/i;

const ORIGIN_LENGTH = 120;
const MOST_NOTES = 50;

/** The source `system-power`. It holds no file open; {@link Source.close} only ends a wait between two samples. */
export function createSystemPower(options: SystemPowerOptions): Source {
  return new SystemPower(options);
}

interface Found {
  readonly readings: readonly RawReading[];
  readonly notes: readonly string[];
}

/** One chip's word on power, W. */
export type Said = { readonly ok: true; readonly watts: number; readonly what: string } | FileFailure;

class SystemPower implements Source {
  readonly id = 'system-power';
  readonly node: string;
  readonly carriesHeat = true;
  readonly #clock: Clock;
  readonly #sysfs: Sysfs;
  readonly #rapl: Rapl;
  readonly #closing = new AbortController();
  readonly #supplies = new Supplies();
  readonly #joinedLook = joined((startedAtMs: number, deadlineMs: number) => this.#look(startedAtMs, deadlineMs));

  constructor({ node, clock, root = '/' }: SystemPowerOptions) {
    this.node = node;
    this.#clock = clock;
    this.#sysfs = new Sysfs({ clock, root });
    this.#rapl = new Rapl(this.#sysfs, clock, this.#closing.signal);
  }

  async read(deadlineMs: number): Promise<SourceReport> {
    const startedAtMs = this.#nowMs();
    // The look goes on after this caller's deadline, and the next one joins it: no file is read twice at a time.
    const report = await withDeadline(this.#clock, deadlineMs - startedAtMs, this.#joinedLook(startedAtMs, deadlineMs));
    if (report !== TIMED_OUT) return report;
    const detail = `Cannot read ${HWMON}: no answer within ${Math.round(deadlineMs - startedAtMs)} ms`;
    return { ...this.#frame(startedAtMs), outcome: { kind: 'failed', cause: 'timeout', detail } };
  }

  async close(): Promise<void> {
    this.#closing.abort();
  }

  async #look(startedAtMs: number, deadlineMs: number): Promise<SourceReport> {
    const [total, cpus] = await Promise.all([this.#readTotal(), this.#rapl.read(deadlineMs)]);
    return {
      ...this.#frame(startedAtMs),
      outcome: { kind: 'answered' },
      readings: [...total.readings, ...cpus.readings],
      notes: [...total.notes, ...cpus.notes].slice(0, MOST_NOTES),
    };
  }

  async #readTotal(): Promise<Found> {
    const entries = await this.#sysfs.list(HWMON);
    if (!entries.ok) {
      const [cause, why] = isAbsent(entries)
        ? (['no-sensor', `${HWMON} is not there: no sensor's driver is loaded, or /sys is not mounted`] as const)
        : (['unreadable', entries.detail] as const);
      return { readings: [missing(cause, why, ACPI_METER_RANK)], notes: [`Total power: ${why}`] };
    }
    const meters: Said[] = [];
    const supplies: Said[] = [];
    const others: string[] = [];
    const notes: string[] = [];
    let nameless: FileFailure | undefined;
    for (const entry of entries.value) {
      const directory = `${HWMON}/${entry}`;
      const name = await this.#sysfs.readText(`${directory}/name`);
      if (!name.ok) {
        if (!isAbsent(name)) nameless = name;
        notes.push(`Total power: left out: ${name.detail}`);
      } else if (name.value === 'power_meter') meters.push(await this.#readMeter(directory));
      else if (SUPPLY_CHIP.test(name.value)) supplies.push(await this.#readSupply(directory, name.value));
      else others.push(name.value);
    }
    const readings = [...meters.map((said) => readingOf(said, ACPI_METER_RANK)), ...this.#supplies.sumOf(supplies)];
    const counts = `${meters.length} ACPI power meters and ${supplies.length} power supplies`;
    const among = `not of the whole machine: ${[...new Set(others)].join(', ') || 'nothing'}`;
    notes.unshift(`Total power: ${counts} in ${HWMON}; ${among}`);
    for (const said of [...meters, ...supplies]) {
      notes.push(`Total power: ${said.ok ? `${said.what}: ${said.watts} W` : said.detail}`);
    }
    if (readings.length > 0) return { readings, notes };
    const why = nameless?.detail ?? `no power meter or power supply in ${HWMON}; ${among}`;
    return { readings: [missing(nameless ? 'unreadable' : 'no-sensor', why, ACPI_METER_RANK)], notes };
  }

  /** One total per meter; with several the domain takes the highest, since their parts of the machine may overlap. */
  async #readMeter(directory: string): Promise<Said> {
    const isBattery = await this.#sysfs.readText(`${directory}/power1_is_battery`);
    if (isBattery.ok && isBattery.value !== '0') {
      return { ok: false, code: 'ENOENT', detail: `${directory} measures a battery, not the machine` };
    }
    // The ACPI driver has the average only.
    const file = `${directory}/power1_average`;
    const power = await this.#sysfs.readInteger(file);
    if (!power.ok) return power;
    const interval = await this.#sysfs.readInteger(`${directory}/power1_average_interval`);
    const over = interval.ok && interval.value > 0 ? `, average over ${interval.value / 1000} s` : '';
    return { ok: true, watts: power.value / 1e6, what: `ACPI power meter, ${file}${over}` };
  }

  async #readSupply(directory: string, name: string): Promise<Said> {
    const files = await this.#sysfs.list(directory);
    if (!files.ok) return files;
    for (const file of files.value) {
      const prefix = /^(power\d+)_label$/.exec(file)?.[1];
      if (prefix === undefined) continue;
      const label = await this.#sysfs.readText(`${directory}/${file}`);
      if (!label.ok && !isAbsent(label)) return label;
      if (!label.ok || !SUPPLY_TOTAL.test(label.value)) continue;
      const power = await this.#sysfs.readInteger(`${directory}/${prefix}_input`);
      if (!power.ok) return power;
      const side = /total/i.test(label.value) ? 'output' : 'input';
      return { ok: true, watts: power.value / 1e6, what: `${name} ${label.value} (${side}), ${directory}` };
    }
    return {
      ok: false,
      code: 'ENOENT',
      detail: `${directory} (${name}) has no sensor labelled "power total" or "pin"`,
    };
  }

  #frame(startedAtMs: number): Omit<SourceReport, 'outcome'> {
    return { ...EMPTY_REPORT, source: this.id, node: this.node, startedAtMs, finishedAtMs: this.#nowMs() };
  }

  #nowMs(): number {
    return this.#clock.now().elapsedMs;
  }
}

/** The power supplies of one machine: it remembers how many there were, so that none can go unnoticed. */
export class Supplies {
  /** The most supplies that gave their power at the same time. */
  #most = 0;

  /** The supplies' sum; a redundant one in standby rightly gives 0. Nothing where there was never a supply. */
  sumOf(supplies: readonly Said[]): RawReading[] {
    const given = supplies.flatMap((said) => (said.ok ? [said] : []));
    this.#most = Math.max(this.#most, given.length);
    if (supplies.length === 0 && this.#most === 0) return [];
    const silent = supplies.find((said) => !said.ok);
    if (silent && !silent.ok) return [missing(causeOf(silent), silent.detail, SUPPLIES_RANK)];
    if (given.length < this.#most) {
      const why = `${given.length} of the ${this.#most} power supplies that gave their power earlier are there`;
      return [missing('gone', `${why}; restart this service if one was taken out`, SUPPLIES_RANK)];
    }
    // A sentinel or a negative number must not vanish in a sum: it is passed on as it is, for the domain to refuse.
    const odd = given.find(({ watts }) => watts !== 0 && !parseReading('total-power', watts).ok);
    const watts = odd ? odd.watts : given.reduce((sum, said) => sum + said.watts, 0);
    const what = odd ? odd.what : given.map((said) => said.what).join(' + ');
    return [readingOf({ ok: true, watts, what }, SUPPLIES_RANK)];
  }
}

/** What a meter of this rank said, as a reading. */
export function readingOf(said: Said, rank: number): RawReading {
  if (!said.ok) return missing(causeOf(said), said.detail, rank);
  return { component: 'system', quantity: 'total-power', value: said.watts, origin: clipped(said.what), rank };
}

function missing(cause: MissingCause, detail: string, rank: number): RawReading {
  return { component: 'system', quantity: 'total-power', value: null, cause, origin: clipped(detail), rank };
}

function causeOf(failure: FileFailure): MissingCause {
  if (isAbsent(failure)) return 'no-sensor';
  return failure.code === 'not-a-number' ? 'invalid' : 'unreadable';
}

function clipped(text: string): string {
  return text.length <= ORIGIN_LENGTH ? text : `${text.slice(0, ORIGIN_LENGTH - 1)}…`;
}
