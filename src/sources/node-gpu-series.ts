// AMD's and Intel's cards, and NVIDIA's under nouveau, as node_exporter shows their drivers' hwmon chips, and amdgpu's
// memory from its drm collector; by the rules of gpu-sysfs.ts and gpu-sysfs-chip.ts. A card is the PCI address at the
// end of its chip's path. The exporter leaves out a sensor that it cannot read, so a label without a number is a sensor
// that failed.
//
// Which display is integrated? On the bus a function of AMD's processor vendor tells (pci-display.ts), which is not
// exported. But amdgpu gives the voltage of the north bridge, `vddnb`, for processors with graphics alone, and a hot spot
// or a memory temperature for cards alone (amdgpu_pm.c; MI300A has these and no vddnb, and is required). So a chip
// with vddnb and without these is integrated, and any other is required: unknown is not safe. The size of the memory
// tells nothing (cards exist with 1 GiB, Strix Halo gives its graphics 96). Intel's two drivers register a chip for
// cards only (i915_hwmon.c, xe_hwmon.c), and nouveau drives no integrated graphics on the PCI bus.
import {
  canonicalPciAddress,
  type GpuSighting,
  type HardwareLimits,
  type MissingCause,
  type Quantity,
  type RawReading,
} from '../domain/reading.ts';
import { EnergyRates } from './energy-meter.ts';
import {
  type GpuDriver,
  isNoValue,
  judgedSensor,
  powerLimitNames,
  powerLimits,
  SHOWN_LABELS,
  vendorOfDriver,
  vramReading,
} from './gpu-sysfs-chip.ts';
import { clipped, type NodeSamples, rejectionText, seriesText, type Told } from './node-samples.ts';
import type { IgnoredSeries } from './scrape.ts';
import { NODE, NODE_POWER_LIMITS } from './series.ts';

export interface NodeGpuAnswer {
  readonly readings: readonly RawReading[];
  readonly gpus: readonly GpuSighting[];
  readonly hardwareLimits: readonly HardwareLimits[];
  readonly notes: readonly string[];
  readonly ignored: readonly IgnoredSeries[];
}

/** More than any machine has; the exporter is not to be believed beyond. */
const MOST_CARDS = 64;

const VENDOR_NAMES = { amd: 'AMD', intel: 'Intel', nvidia: 'NVIDIA', other: 'other' } as const;

interface Card {
  readonly sighting: GpuSighting;
  readonly chip: string;
  readonly driver: GpuDriver;
  /** Its name in the drm collector, `card0`; `undefined` where nobody tells which one it is. */
  readonly drm: string | undefined;
}

/** The cards of one target; remembers counters of energy. */
export class NodeGpus {
  readonly #rates = new EnergyRates();

  read(node: NodeSamples): NodeGpuAnswer {
    const { cards, notes } = findCards(node);
    const readings: RawReading[] = [];
    const hardwareLimits: HardwareLimits[] = [];
    const ignored: IgnoredSeries[] = [];
    for (const card of cards) {
      const found = [...readTemperatures(node, card, ignored), this.#readPower(node, card), ...readMemory(node, card)];
      const { required } = card.sighting;
      readings.push(...(required ? found : found.map((reading) => ({ ...reading, informational: true }))));
      hardwareLimits.push(...limitsOf(node, card));
    }
    return { readings, gpus: cards.map(({ sighting }) => sighting), hardwareLimits, notes, ignored };
  }

  /** The average where there is one: amdgpu has exactly one of the two. Intel's cards count joules instead. */
  #readPower(node: NodeSamples, { sighting: { id }, chip, driver }: Card): RawReading {
    for (const series of [NODE.averagePower, NODE.power]) {
      const told = node.told(series, chip, 'power1');
      if (told.sample || told.rejected) return scaled(node, id, 'power', told, 1e6, `${driver}, `);
    }
    for (const sensor of ['energy1', 'energy2']) {
      const { sample, rejected } = node.told(NODE.energy, chip, sensor);
      if (rejected && !sample) return missing(id, 'power', 'invalid', rejectionText(rejected));
      if (!sample) continue;
      const what = seriesText(NODE.energy, { chip, sensor });
      if (!Number.isFinite(sample.value)) return missing(id, 'power', 'invalid', `${what} is ${sample.value}`);
      const atMs = node.timeOf(sample).sampledAtMs ?? node.scrape.startedAtMs;
      const rate = this.#rates.next(`${chip} ${sensor}`, sample.value * 1e6, atMs);
      if (rate.kind === 'first') return missing(id, 'power', 'not-yet-read', `${what}: power takes two scrapes`);
      const part = sensor === 'energy2' ? ' package only' : '';
      const origin = clipped(`${driver}${part}, over ${(rate.overMs / 1000).toFixed(1)} s, ${what}`);
      return { component: 'gpu', id, quantity: 'power', value: rate.powerW, origin, sampledAtMs: rate.atMs };
    }
    const isOld = driver === 'radeon' || driver === 'nouveau';
    return missing(id, 'power', isOld ? 'not-supported' : 'no-sensor', `${driver} shows no power of ${chip}`);
  }
}

function findCards(node: NodeSamples): { readonly cards: readonly Card[]; readonly notes: readonly string[] } {
  const cards = new Map<string, Card>();
  const notes: string[] = [];
  const infos = [...node.of(NODE.cardInfo), ...node.rejectedOf(NODE.cardInfo)].flatMap(({ labels }) =>
    labels ? [labels] : [],
  );
  // A card whose hwmon chip failed is still known to the drm collector, which lists amdgpu's.
  const chips = [
    ...node.chips.map(({ chip, name }) => ({ chip, driver: name })),
    ...infos.flatMap(({ chip, vendor }) =>
      chip !== undefined && vendor === 'amd' ? [{ chip, driver: 'amdgpu' }] : [],
    ),
  ].filter(({ driver }) => vendorOfDriver(driver) !== undefined);
  const amdCount = new Set(chips.flatMap(({ chip, driver }) => (driver === 'amdgpu' ? [idOf(chip)] : []))).size;
  for (const { chip, driver } of chips) {
    const id = idOf(chip);
    if (cards.has(id)) continue;
    if (cards.size >= MOST_CARDS) {
      notes.unshift(`GPUs of node_exporter: over ${MOST_CARDS} cards, the rest is left out`);
      break;
    }
    const vendor = vendorOfDriver(driver) ?? 'other';
    const info = infos.find((labels) => labels['chip'] !== undefined && idOf(labels['chip']) === id);
    const isIntegrated = vendor === 'amd' && isPartOfProcessor(node, chip);
    const unique = info?.['unique_id'] ? `, unique id ${info['unique_id']}` : '';
    const name = `${VENDOR_NAMES[vendor]} ${isIntegrated ? 'integrated graphics' : 'card'} (${driver})${unique}`;
    const address = addressOf(chip);
    const sighting = { id, ...(address !== null && { pciAddress: address }), name, vendor, required: !isIntegrated };
    const drm = driver === 'amdgpu' ? (info?.['card'] ?? (amdCount === 1 ? onlyDrmCard(node) : undefined)) : undefined;
    cards.set(id, { sighting, chip, driver: driver as GpuDriver, drm });
    if (address === null)
      notes.push(`GPUs of node_exporter: ${chip} (${driver}) tells no PCI address: known by this name`);
    notes.push(`GPUs of node_exporter: ${id} ${name}: ${isIntegrated ? 'not required' : 'required'}`);
  }
  return { cards: [...cards.values()], notes };
}

function isPartOfProcessor(node: NodeSamples, chip: string): boolean {
  const labels = node.ofChip(NODE.sensorLabel, chip).map((sample) => sample.labels['label']);
  return labels.includes('vddnb') && !labels.includes('junction') && !labels.includes('mem');
}

/** `0000:00:03_1_0000:0a:00_0` ends in the card's address; from 1.12 on a driver's name may follow. */
function addressOf(chip: string): string | null {
  const [, slot, fn] = /(?:^|_)([0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2})_([0-7])(?:_[^:]*)?$/.exec(chip) ?? [];
  return slot === undefined ? null : canonicalPciAddress(`${slot}.${fn}`);
}

function idOf(chip: string): string {
  return addressOf(chip) ?? chip;
}

/** Before `node_drm_card_info` told the chip, only a single card could be joined. */
function onlyDrmCard(node: NodeSamples): string | undefined {
  const rows = [...node.of(NODE.cardMemorySize), ...node.rejectedOf(NODE.cardMemorySize)];
  const cards = new Set(rows.map(({ labels }) => labels?.['card']));
  return cards.size === 1 ? [...cards][0] : undefined;
}

function readTemperatures(node: NodeSamples, card: Card, ignored: IgnoredSeries[]): RawReading[] {
  const { sighting, chip, driver } = card;
  const all = node.sensorsOf('temp', [NODE.temperature], chip);
  // A sensor whose label stood in a line that cannot be read may be any.
  const isOneUnknown = node.lostLinesOf([NODE.sensorLabel]).length > 0;
  const sensors = isOneUnknown ? all.filter(({ label }) => label !== '') : all;
  const judged = judgedSensor(sensors, isOneUnknown);
  const readings: RawReading[] = [];
  if (!judged) {
    const why = `no temperature of ${driver} labelled edge or pkg, or without label, on ${chip}`;
    const isUnread = isOneUnknown || node.failedCollectors(['hwmon']).length > 0;
    readings.push(missing(sighting.id, 'temperature', isUnread ? 'unreadable' : 'no-sensor', why));
  }
  for (const sensor of sensors) {
    const told = node.told(NODE.temperature, chip, sensor.sensor);
    if (sensor !== judged && !SHOWN_LABELS.includes(sensor.label)) {
      const what = seriesText(NODE.temperature, { chip, sensor: sensor.sensor });
      ignored.push({ what, why: `"${sensor.label}" is a part of the card` });
      continue;
    }
    const reading = scaled(node, sighting.id, 'temperature', told, 1e3, `${`${driver} ${sensor.label}`.trim()}, `);
    readings.push(sensor === judged ? reading : { ...reading, informational: true });
  }
  return readings;
}

/** Memory and, informational, utilization, which the drm collector tells of amdgpu. */
function readMemory(node: NodeSamples, { sighting: { id }, driver, drm }: Card): RawReading[] {
  if (driver !== 'amdgpu') return [missing(id, 'memory', 'no-sensor', `node_exporter tells no memory of ${driver}`)];
  if (drm === undefined) {
    const rejected = [NODE.cardInfo, NODE.cardMemoryUsed, NODE.cardMemorySize].flatMap((name) =>
      node.rejectedOf(name),
    )[0];
    if (rejected) return [missing(id, 'memory', 'invalid', rejectionText(rejected))];
    const isOff = node.of(NODE.cardMemorySize).length === 0;
    const why = isOff
      ? 'no node_drm_memory_vram series: node_exporter tells memory with --collector.drm only'
      : 'which card the node_drm_memory_vram series are of is not told: node_drm_card_info has no chip';
    return [missing(id, 'memory', 'no-sensor', why)];
  }
  const used = node.toldBy(NODE.cardMemoryUsed, { card: drm });
  const size = node.toldBy(NODE.cardMemorySize, { card: drm });
  const busy = node.toldBy(NODE.cardBusy, { card: drm }).sample;
  const rejected = used.rejected ?? size.rejected;
  const where = `${NODE.cardMemoryUsed} of ${drm}`;
  const readings: RawReading[] = [];
  if (used.sample && size.sample) {
    readings.push({
      ...vramReading(id, used.sample.value, size.sample.value, where),
      ...node.timeOf(used.sample, size.sample),
    });
  } else if (rejected) readings.push(missing(id, 'memory', 'invalid', rejectionText(rejected)));
  else readings.push(missing(id, 'memory', 'no-sensor', `no ${where}, or no ${NODE.cardMemorySize}`));
  if (busy) {
    const base = { component: 'gpu', id, quantity: 'utilization', informational: true } as const;
    readings.push({
      ...base,
      value: busy.value / 100,
      origin: `amdgpu, ${NODE.cardBusy} of ${drm}`,
      ...node.timeOf(busy),
    });
  }
  return readings;
}

function limitsOf(node: NodeSamples, { sighting: { id }, chip, driver }: Card): readonly HardwareLimits[] {
  const { enforced, byDefault } = powerLimitNames(driver);
  const wattsOf = (name: string): number | undefined =>
    node.told(NODE_POWER_LIMITS[name] ?? '', chip, 'power1').sample?.value;
  return powerLimits(id, wattsOf(enforced), wattsOf(byDefault));
}

/** `scale`: what the exporter divided the driver's number by; bit patterns that mean "no value" are of that number. */
function scaled(
  node: NodeSamples,
  id: string,
  quantity: Quantity,
  { sample, rejected }: Told,
  scale: number,
  origin: string,
): RawReading {
  if (!sample) {
    const detail = rejected ? rejectionText(rejected) : `${origin}no number: node_exporter cannot read it`;
    return missing(id, quantity, rejected ? 'invalid' : 'unreadable', detail);
  }
  const what = `${origin}${seriesText(sample.name, sample.labels)}`;
  const raw = Math.round(sample.value * scale);
  if (isNoValue(raw)) return missing(id, quantity, 'invalid', `${raw} is no value: ${what}`);
  return { component: 'gpu', id, quantity, value: sample.value, origin: clipped(what), ...node.timeOf(sample) };
}

function missing(id: string, quantity: Quantity, cause: MissingCause, detail: string): RawReading {
  return { component: 'gpu', id, quantity, value: null, cause, origin: clipped(detail) };
}
