// Why a series of node_exporter is there and is not read: for `explain`, where somebody wonders about a number. Only
// what could be taken for a reading is named; the hundreds of other series of node_exporter measure nothing of ours.
import { isCpuChip, isCpuZone } from './cpu-sensor-names.ts';
import { vendorOfDriver } from './gpu-sysfs-chip.ts';
import { type HwmonChip, type NodeSamples, seriesText } from './node-samples.ts';
import type { IgnoredSeries, Sample } from './scrape.ts';
import { NODE } from './series.ts';
import { SUPPLY_CHIP, SUPPLY_TOTAL } from './system-power.ts';

const MOST_IGNORED = 500;

/** By driver; the first that fits. */
const OTHER_CHIPS: readonly (readonly [name: RegExp, why: string])[] = [
  [/^acpitz$/, "it is a firmware's value, often a fixed one (16.8 °C beside a CPU at 71)"],
  [/^(nct|it8|f71|f8|w83|sch5|asus|applesmc)/, "it is a board chip's: pins without a sensor show anything (109 °C)"],
  [/^(nvme|drivetemp)/, "it is a disk's"],
  [/^(corsairpsu|psu?\d*|pmbus)/, "it is a power supply's"],
];

/** By the name of a whole family. */
const FAMILIES: readonly (readonly [name: RegExp, why: string])[] = [
  [/^node_hwmon_temp_(?!celsius$|crit_celsius$|fault$)/, 'a limit, an alarm or a kind of a sensor, no temperature'],
  [/^node_hwmon_power_(alarm|cap_m|average_m|accuracy|is_battery)/, 'a limit or a flag, no power'],
  [/^node_cpu_guest_seconds_total$/, 'guest time is contained in user and nice already'],
  [/^node_rapl_(core|uncore)_joules_total$/, 'it is contained in the package'],
  [/^node_power_supply_power_watt$/, "it is what flows into a laptop's battery"],
  [/^node_drm_memory_(gtt|vis_vram)_/, "it is a part of the card's memory, or the system's"],
  [/^node_edac_/, 'faults of memory are not judged'],
  [/^node_cooling_device_/, 'states of cooling are not judged'],
  [/^node_cpu_(core|package)_throttles_total$/, 'throttling of a CPU is not judged'],
  [/^node_load\d+$/, 'it counts processes that wait, no share of time'],
];

export function ignoredOf(node: NodeSamples): readonly IgnoredSeries[] {
  const ignored: IgnoredSeries[] = [];
  const names = new Map(node.chips.map((chip) => [chip.chip, chip]));
  for (const sample of node.of(NODE.temperature)) {
    const why = whyNoTemperature(names.get(sample.labels['chip'] ?? ''));
    if (why !== undefined) ignored.push({ what: text(sample), says: `${sample.value} °C`, why });
  }
  const hasCpuChip = node.chips.some(({ name }) => isCpuChip(name));
  for (const sample of node.of(NODE.zoneTemperature)) {
    const isOfCpu = isCpuZone(sample.labels['type'] ?? '');
    if (isOfCpu && !hasCpuChip) continue;
    const why = isOfCpu ? "the CPU's own chip is read instead" : "it is no CPU's zone, by its type";
    ignored.push({ what: text(sample), says: `${sample.value} °C`, why });
  }
  for (const sample of [...node.of(NODE.power), ...node.of(NODE.averagePower)]) {
    const why = whyNoPower(node, names.get(sample.labels['chip'] ?? ''), sample);
    if (why !== undefined) ignored.push({ what: text(sample), says: `${sample.value} W`, why });
  }
  for (const [name, samples] of node.scrape.samples) {
    const why = FAMILIES.find(([pattern]) => pattern.test(name))?.[1];
    if (why !== undefined && samples.length > 0) ignored.push({ what: name, says: `${samples.length} series`, why });
  }
  return ignored.slice(0, MOST_IGNORED);
}

function whyNoTemperature(chip: HwmonChip | undefined): string | undefined {
  if (!chip || chip.name === '') return 'nobody tells which driver it is of, and its path tells no CPU';
  if (isCpuChip(chip.name) || vendorOfDriver(chip.name)) return undefined;
  const why = OTHER_CHIPS.find(([name]) => name.test(chip.name))?.[1];
  return why ?? `${chip.name} is no driver of a CPU or a GPU`;
}

function whyNoPower(node: NodeSamples, chip: HwmonChip | undefined, { labels }: Sample): string | undefined {
  const name = chip?.name ?? '';
  if (name === 'power_meter' || vendorOfDriver(name)) return undefined;
  if (!chip || !SUPPLY_CHIP.test(name)) return `${name || 'an unknown driver'} measures a part of the machine`;
  const sensor = node.sensorsOf('power', [NODE.power], chip.chip).find((each) => each.sensor === labels['sensor']);
  return sensor && SUPPLY_TOTAL.test(sensor.label) ? undefined : "it is a rail, a part of the supply's total";
}

function text({ name, labels }: Sample): string {
  return seriesText(name, labels);
}
