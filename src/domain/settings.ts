// What the domain is told once, at start, and never again: the configuration as far as judging needs it. Immutable for
// the life of the process.
import type { ProfileName, SafetyConstraints } from './constraints.ts';

/** Names of waivers and requirements. */
export const REQUIREMENT_NAMES = [
  'cpu-temperature',
  'cpu',
  'memory',
  'gpu-temperature',
  'gpu-power',
  'gpu-memory',
  'total-power',
] as const;
export type RequirementName = (typeof REQUIREMENT_NAMES)[number];

/** What the configuration says of one card, by UUID or PCI address. */
export interface GpuSettings {
  readonly waive: readonly RequirementName[];
  readonly ignore: boolean;
}

/** Assumptions for the estimate of total power; measured once by whoever configures them. */
export interface PowerSettings {
  /** Board, fans, disks, NICs: what neither GPUs nor CPU packages account for, W. */
  readonly baseW: number;
  /** Output over input of the power supply, over 0 and at most 1. */
  readonly psuEfficiency: number;
}

export interface NodeSettings {
  readonly constraints: SafetyConstraints;
  readonly profile: ProfileName;
  readonly waive: readonly RequirementName[];
  readonly require: readonly RequirementName[];
  readonly expectGpus: number;
  /** Keys in canonical spelling (`GPU-…` lower-case, or a Linux PCI address). */
  readonly gpus: ReadonlyMap<string, GpuSettings>;
  readonly power: PowerSettings | null;
  /** How long a failing source's last good readings count, ms. At most 60 s. */
  readonly staleAfterMs: number;
}

export interface SafetySettings {
  /** Told apart from other processes and earlier starts, for the stream. */
  readonly instance: string;
  /** The node that this process runs on. */
  readonly localNode: string;
  /** The kernel's boot id: leases from an earlier boot are over. */
  readonly bootId: string;
  readonly simulated: boolean;
  readonly intervalMs: number;
  readonly fastIntervalMs: number;
  readonly blindAbortAfterMs: number;
  readonly bootGraceMs: number;
  readonly tripScope: 'cluster' | 'node';
  /** What holds for a node that is not named. */
  readonly defaults: NodeSettings;
  readonly nodes: ReadonlyMap<string, NodeSettings>;
}

/** The settings of a node, named in the configuration or not. */
export function settingsOf(settings: SafetySettings, node: string): NodeSettings {
  return settings.nodes.get(node) ?? settings.defaults;
}

const NOTHING_SAID: GpuSettings = Object.freeze({ waive: Object.freeze([]), ignore: false });

/** The configuration's word on a card, found by its UUID or by its PCI address. */
export function gpuSettingsOf(
  node: NodeSettings,
  gpu: { readonly id: string; readonly pciAddress?: string },
): GpuSettings {
  if (node.gpus.size === 0) return NOTHING_SAID;
  const found = node.gpus.get(gpu.id) ?? (gpu.pciAddress === undefined ? undefined : node.gpus.get(gpu.pciAddress));
  return found ?? NOTHING_SAID;
}
