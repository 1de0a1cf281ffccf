// The shapes of the rows of series.ts: what a row can say of an exporter's series. The rows themselves, which a new
// exporter adds to, stand there; what becomes of them is gpu-series.ts' and power-series.ts'.

import type { Blanks } from './sentinels.ts';

/** What a series says of a card, in °C, W or as a share after division by `per`; memory in any one unit per exporter. */
export type GpuFact =
  | 'temperature'
  | 'power'
  | 'memory-used'
  | 'memory-free'
  /** Judged against only where there is no `memory-free`: it may contain what no workload can get. */
  | 'memory-size'
  | 'memory-ratio'
  /** Shown, never judged. */
  | 'memory-temperature'
  | 'utilization'
  /** A counter that moves while the card is read. */
  | 'energy'
  /** NVML's mask of clock event reasons; 1 while the hardware slows the card for heat, or by its power brake. */
  | 'throttle-bits'
  | 'hw-thermal-flag'
  | 'hw-power-brake-flag'
  /** Absolute, °C. A margin (T.Limit, GPU_TEMP_LIMIT) is a distance and is never read. */
  | 'slowdown-temperature'
  | 'enforced-power-limit'
  | 'default-power-limit'
  /** Code of the last fault; count of faults with the code in label `xid`; over 0: the card wants something done. */
  | 'xid'
  | 'xid-count'
  | 'wants-recovery'
  /** Nothing but that the card is there. */
  | 'seen'
  /** Of the exporter, not of a card: 1 after a good collection; exit status of its tool; Unix time of the collection. */
  | 'collect-success'
  | 'exit-status'
  | 'collected-at';

export interface GpuSeries {
  readonly is: GpuFact;
  /** Older and newer names of the same thing; all are read. */
  readonly names: readonly string[];
  /** The value is in this part of a °C or W; 100 for percent. Default 1. */
  readonly per?: number;
  /** Less than this, before the division, cannot be in the unit that `per` tells. */
  readonly least?: number;
  /** Only rows whose labels have one of these values; '' is a label that is not there. */
  readonly where?: Readonly<Record<string, readonly string[]>>;
  /** Judged only while the card has never given this fact by a row without it. */
  readonly standIn?: true;
}

/** One exporter, by which labels it tells a card, and what it says. Host names in labels are never an identity. */
export interface GpuExporter {
  readonly exporter: string;
  readonly vendor: 'nvidia' | 'amd' | 'intel';
  /** Labels, the first that is there counts. A number (`index`) identifies a card only where nothing else does. */
  readonly labels: {
    readonly uuid?: readonly string[];
    readonly serial?: readonly string[];
    readonly pci?: readonly string[];
    readonly index?: readonly string[];
    readonly name?: readonly string[];
    /** Parts of a card with memory of their own: MIG instances, AMD partitions. */
    readonly part?: readonly string[];
  };
  /** Parts are MIG instances: each has memory of its own, and tells it where any does. */
  readonly hasInstances?: true;
  /** Nothing but this exporter writes these names: a row that tells no card is of a card all the same. */
  readonly namesAreItsOwn?: true;
  /** Whose patterns stand for "no value" (sentinels.ts). */
  readonly blanks: Blanks;
  readonly series: readonly GpuSeries[];
  /**
   * Any other family of the exporter: its rows are signs of the cards that they name by more than a number, whatever
   * their value. A card that fell out of all that is read may still stand there.
   */
  readonly lists?: {
    readonly names: RegExp;
    /** A row with one of these labels is of something else. */
    readonly notOf?: readonly string[];
  };
}

export interface PowerSeries {
  readonly exporter: string;
  /** `total`: W of the machine; `supply`: W that one power supply takes, to be added; `cpu-package`: W of one socket. */
  readonly is: 'total' | 'supply' | 'cpu-package';
  readonly names: readonly string[];
  /** Of a total. */
  readonly rank?: number;
  /** The value is in this part of a W. Default 1. */
  readonly per?: number;
  /** Only rows with these labels. */
  readonly where?: Readonly<Record<string, RegExp>>;
  /** A subsystem may stand beside the whole: only rows whose id is 0 or whose name says so. */
  readonly whole?: { readonly ids: readonly string[]; readonly names: readonly string[] };
  /** Labels that tell supplies or sockets apart. */
  readonly by?: readonly string[];
  /** A series that is 0 where the exporter could not ask for this one: then no value of this one counts. */
  readonly up?: { readonly name: string; readonly labels: Readonly<Record<string, string>> };
}
