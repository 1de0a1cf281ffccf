// What a source says, and what is believed of it. A source answers with raw numbers; only `parseReading` turns one into
// a value that may be compared with a limit, so NaN, a sentinel or "0 °C" never reaches a comparison, where it would
// read as "not too hot". Absence is a value with a cause. How readings behave over time (stale, frozen, jumping) is
// tracking.ts; what they mean is evaluate.ts.

/** What is measured. Temperatures in °C, powers in W; `memory` and `utilization` are shares from 0 to 1. */
export type Quantity = 'temperature' | 'power' | 'memory' | 'utilization' | 'total-power' | 'intensity';

/** The part of a node that a reading belongs to. */
export type HardwareComponent = 'gpu' | 'cpu' | 'memory' | 'system';

export type Unit = '°C' | 'W' | 'ratio';

/** Why a reading is not there. */
export type MissingCause =
  | 'no-sensor' // nothing on this machine measures it, or no source offers it
  | 'not-supported' // the device says that it cannot tell
  | 'invalid' // a number that is none: NaN, sentinel, outside what is physically possible
  | 'unreadable' // the sensor is there and reading it failed
  | 'source-failed' // the source did not answer, and its last answer is too old (or, for a start, not from now)
  | 'stale' // older than `staleAfter`, or from before a suspend or a clock change
  | 'frozen' // the source or the sensor repeats itself
  | 'implausible-fall' // fell over 40 °C in 10 s at unchanged power; waits for a second sample
  | 'not-yet-seen-to-change' // the source's witness has not moved since this process started
  | 'gone' // was there earlier and is no longer listed
  | 'not-yet-read'; // nothing has been read so far

/** The failure of a whole source, as a value. */
export type FailureCause =
  | 'timeout'
  | 'refused'
  | 'bad-status'
  | 'bad-body'
  | 'empty'
  | 'not-installed'
  | 'failed'
  | 'unkillable';

/**
 * One number as a source gives it. `value: null` says that the source answered without it, with the reason; a number
 * may still turn out invalid. `id` names the device within the component: for a GPU the `id` of a {@link GpuSighting},
 * for several CPU chips one id each (the hottest counts), nothing for `system` and `memory`.
 */
export interface RawReading {
  readonly component: HardwareComponent;
  readonly id?: string;
  readonly quantity: Quantity;
  readonly value: number | null;
  /** Why there is no value; only with `value: null`. Default `no-sensor`. */
  readonly cause?: MissingCause;
  /** For people: chip, label, file, field, or the text that stood where a number belongs (at most 120 characters). */
  readonly origin: string;
  /** Monotonic time of the sample itself where the source tells it; else the start of the read counts. */
  readonly sampledAtMs?: number;
  /** A sum of parts and assumptions, never a measurement. */
  readonly estimated?: boolean;
  /** Only total power: which source wins when several tell it; the lowest rank does. */
  readonly rank?: number;
  /**
   * Shown and never judged: a board sensor, an instant power beside the average, a memory temperature. Informational
   * readings never make anything missing.
   */
  readonly informational?: boolean;
  /** The source's witness says nothing of it, since it came by another program; only its device's own does. */
  readonly ownWitnessOnly?: true;
}

/** A card that a source lists, with or without readings of it. */
export interface GpuSighting {
  /** Canonical: {@link canonicalGpuUuid} where there is a UUID, else {@link canonicalPciAddress}. */
  readonly id: string;
  readonly uuid?: string;
  readonly pciAddress?: string;
  readonly name?: string;
  readonly vendor: 'nvidia' | 'amd' | 'intel' | 'other';
  /** `false` for integrated graphics, a BMC or a virtual adapter: listed, never required. */
  readonly required: boolean;
  /** It has no memory of its own (GB10, Jetson): judged by the system's memory. */
  readonly unifiedMemory?: boolean;
  /** Pods that use it, `namespace/name`, where a source tells: shown, never part of which card it is, never kept. */
  readonly pods?: readonly string[];
}

/** A sign that there is at least one GPU here, without telling which (a failing nvidia-smi, node capacity). */
export interface GpuSign {
  readonly kind: 'nvidia-smi-failed' | 'node-capacity' | 'driver-loaded';
  readonly detail: string;
  /** How many cards there are, where the sign proves that; most prove only that there is one. */
  readonly count?: number;
}

/** What the hardware says of its own limits; only for the conflict report and a card's own slowdown temperature. */
export interface HardwareLimits {
  readonly component: 'gpu' | 'cpu';
  readonly id?: string;
  /** Absolute temperature at which the card slows itself down, °C. Never a T.Limit distance. */
  readonly slowdownC?: number;
  /** Absolute temperature at which the card turns itself off, °C. */
  readonly shutdownC?: number;
  /** Temperature that the driver regulates to, °C. */
  readonly targetC?: number;
  readonly enforcedPowerW?: number;
  readonly defaultPowerW?: number;
  /** The CPU's own critical temperature (TjMax), °C. */
  readonly criticalC?: number;
}

/** A counter or clock of the source that must move while the source is alive. */
export interface Witness {
  /** What it vouches for: the whole source, or one GPU. */
  readonly of: 'source' | { readonly gpu: string };
  readonly name: string;
  readonly value: number;
}

/** One look at one source on one node: what it answered, or that it failed. */
export interface SourceReport {
  /** Stable and unique within the node: `local-machine`, `nvidia-smi`, an endpoint's URL. */
  readonly source: string;
  readonly node: string;
  /** Monotonic times. A reading is as old as the start of the look, unless it tells its own time. */
  readonly startedAtMs: number;
  readonly finishedAtMs: number;
  readonly outcome:
    | { readonly kind: 'answered' }
    | {
        readonly kind: 'failed';
        readonly cause: FailureCause;
        readonly detail: string;
        /** How an error's body begins, printable, at most 120 characters. For operators only: it may tell secrets. */
        readonly excerpt?: string;
      };
  readonly readings: readonly RawReading[];
  readonly gpus: readonly GpuSighting[];
  readonly gpuSigns: readonly GpuSign[];
  readonly witnesses: readonly Witness[];
  /** GPUs whose driver reports HW thermal slowdown or HW power brake in this sample. */
  readonly throttledGpus: readonly { readonly gpu: string; readonly reason: string }[];
  readonly hardwareLimits: readonly HardwareLimits[];
  /** For people: what this source looked for and where, one line each (at most 50). */
  readonly notes: readonly string[];
  /** Of a source that is asked over the network. */
  readonly scrape?: ScrapeFigures;
  readonly simulated?: true;
}

/** How one scrape of an exporter went. */
export interface ScrapeFigures {
  readonly url: string;
  readonly tookMs: number;
  /** Of the body, after decompression. */
  readonly bytes: number;
  /** Samples of the series that are read. */
  readonly samples: number;
  /** Lines of these series that could not be read: each one's reading is missing. */
  readonly rejectedLines: number;
  /** The first five, `line 7: no value: DCGM_FI_DEV_GPU_TEMP{…}`. For operators only. */
  readonly rejected: readonly string[];
  /** How far the source's wall clock is ahead of ours, ms; `null` where it does not tell the time. */
  readonly sourceWallAheadMs: number | null;
}

/** A report with nothing in it yet; spread it and set what there is. */
export const EMPTY_REPORT = Object.freeze({
  readings: [],
  gpus: [],
  gpuSigns: [],
  witnesses: [],
  throttledGpus: [],
  hardwareLimits: [],
  notes: [],
}) satisfies Partial<SourceReport>;

/** A reading after plausibility, freshness and merging: what evaluate() judges and /status shows. */
export interface Reading {
  readonly node: string;
  readonly component: HardwareComponent;
  readonly id?: string;
  readonly quantity: Quantity;
  readonly state: Measured | Missing;
}

export interface Measured {
  readonly kind: 'measured';
  readonly value: number;
  readonly unit: Unit;
  /** Monotonic time of the sample. */
  readonly atMs: number;
  readonly source: string;
  readonly origin: string;
  readonly estimated: boolean;
  readonly informational: boolean;
  /**
   * The sample may break a hard stop only after a second look: it came by an impossible jump, or it is a power.
   * `awaiting` until a newer sample confirms it or the wait is over. Set by second-look.ts.
   */
  readonly secondLook: 'not-needed' | 'awaiting' | 'done';
}

export interface Missing {
  readonly kind: 'missing';
  readonly cause: MissingCause;
  readonly detail: string;
  /** Required by the profile and not waived: gives `reading-missing`. */
  readonly required: boolean;
  readonly waived: boolean;
}

/** The readings of one moment for one node. */
export interface NodeReadings {
  readonly node: string;
  readonly readings: readonly Reading[];
  readonly throttledGpus: readonly { readonly gpu: string; readonly reason: string }[];
}

/** The readings of one moment. */
export interface Snapshot {
  readonly atMs: number;
  readonly nodes: readonly NodeReadings[];
}

/** Key of a reading within its node; stable text, used in maps and in the journal. */
export function readingKey(component: HardwareComponent, id: string | undefined, quantity: Quantity): string {
  return `${component}/${id ?? ''}/${quantity}`;
}

/** The unit that a quantity is given in. */
export function unitOf(quantity: Quantity): Unit {
  switch (quantity) {
    case 'temperature':
      return '°C';
    case 'power':
    case 'total-power':
      return 'W';
    case 'memory':
    case 'utilization':
    case 'intensity':
      return 'ratio';
  }
}

/**
 * What is physically possible: a temperature over 0 and at most 125 °C; a GPU over 0 and at most
 * 1500 W; a node's total over 0 and at most 20 kW; a share from 0 to 1, where up to 100.5 % is rounding (metric
 * sources, part 0).
 */
const PLAUSIBLE: Record<Quantity, { readonly over?: number; readonly from?: number; readonly to: number }> = {
  temperature: { over: 0, to: 125 },
  power: { over: 0, to: 1500 },
  'total-power': { over: 0, to: 20_000 },
  memory: { from: 0, to: 1.005 },
  utilization: { from: 0, to: 1.005 },
  intensity: { over: 0, to: 1 },
};

/** What an ACPI power meter says that measures nothing: all ones, in µW. In mW it is 4.29 MW, beyond any total. */
const ALL_ONES_W = 0xffff_ffff / 1e6;

/**
 * The value of a raw number, or why it is none. The only way from a sensor's number to a comparison.
 *
 * @example
 * parseReading('temperature', 61) // { ok: true, value: 61 }
 * parseReading('temperature', 0) // { ok: false, detail: 'temperature 0 °C is outside over 0 to 125 °C' }
 */
export function parseReading(
  quantity: Quantity,
  value: number,
): { readonly ok: true; readonly value: number } | { readonly ok: false; readonly detail: string } {
  if (quantity === 'total-power' && value === ALL_ONES_W) {
    return { ok: false, detail: `${quantity} ${value} W is all ones (0xFFFFFFFF µW), which measures nothing` };
  }
  const range = PLAUSIBLE[quantity];
  const isPlausible =
    Number.isFinite(value) &&
    value <= range.to &&
    (range.over === undefined || value > range.over) &&
    (range.from === undefined || value >= range.from);
  if (!isPlausible) {
    const unit = unitOf(quantity);
    const bounds = range.over === undefined ? `${range.from} to ${range.to}` : `over ${range.over} to ${range.to}`;
    return { ok: false, detail: `${quantity} ${value} ${unit} is outside ${bounds} ${unit}` };
  }
  return { ok: true, value: unitOf(quantity) === 'ratio' ? Math.min(value, 1) : value };
}

/** NVIDIA's UUID in one spelling: `GPU-` prefix, lower-case hex. Exporters write it without the prefix, too. */
export function canonicalGpuUuid(uuid: string): string {
  return `GPU-${uuid.trim().replace(/^gpu-/i, '').toLowerCase()}`;
}

/**
 * A PCI address in Linux' spelling, `0000:0b:00.0`. NVIDIA prints an 8-digit domain in upper case
 * (`00000000:0B:00.0`); a domain over 16 bits keeps its digits. `null` where the text is no PCI address.
 */
export function canonicalPciAddress(text: string): string | null {
  const match = /^(?:([0-9a-f]{1,8}):)?([0-9a-f]{1,2}):([0-9a-f]{1,2})\.([0-7])$/i.exec(text.trim());
  if (!match) return null;
  const [, domain = '0', bus = '', device = '', fn = ''] = match;
  const shortDomain = domain.replace(/^0+/, '').padStart(4, '0');
  return `${shortDomain}:${bus.padStart(2, '0')}:${device.padStart(2, '0')}.${fn}`.toLowerCase();
}
