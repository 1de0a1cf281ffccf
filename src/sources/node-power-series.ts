// What the whole machine and its CPUs draw, from node_exporter, by the rules of system-power.ts and rapl.ts: an ACPI
// power meter, else the totals of the power supplies, never a rail and never a mix; RAPL's packages and their memory,
// without the zones that are contained in them or repeat them. RAPL counts joules, so its power takes two scrapes; the
// exporter does not tell where a counter wraps, so an interval in which one fell gives no power.
import type { RawReading } from '../domain/reading.ts';
import { EnergyRates, type Metered } from './energy-meter.ts';
import { clipped, type HwmonChip, type NodeSamples, rejectionText, seriesText } from './node-samples.ts';
import { countedEntries, groupsOf, type Place, placeOf, readingOfZones } from './rapl.ts';
import type { IgnoredSeries, RejectedLine, Sample } from './scrape.ts';
import { NODE, NODE_RAPL } from './series.ts';
import { ACPI_METER_RANK, readingOf, type Said, SUPPLY_CHIP, SUPPLY_TOTAL, Supplies } from './system-power.ts';

export interface NodePowers {
  readonly readings: readonly RawReading[];
  readonly notes: readonly string[];
  readonly ignored: readonly IgnoredSeries[];
}

/** More zones than any machine has. */
const MOST_ZONES = 256;

/** AMD shows a socket's counter under each of its dies; Intel's dies have counters of their own. */
const AMD_CPU_CHIP = /^(k10temp|zenpower|k8temp)$/;

/** What one chip said, and the sample it stands in. */
interface ChipSaid {
  readonly said: Said;
  readonly sample?: Sample;
}

/** The total power of one target's machine. It remembers how many supplies there were. */
export class NodeTotalPower {
  readonly #supplies = new Supplies();

  read(node: NodeSamples): NodePowers {
    const meters = node.chips.filter(({ name }) => name === 'power_meter').map((chip) => readMeter(node, chip));
    const supplies = node.chips.filter(({ name }) => SUPPLY_CHIP.test(name)).map((chip) => readSupply(node, chip));
    const lost = node.lostLinesOf([NODE.power, NODE.sensorLabel, NODE.chipName])[0];
    const sum = this.#supplies.sumOf([
      ...supplies.map(({ said }) => said),
      // It may be a supply's: without it the sum would look like a light load.
      ...(lost && supplies.length > 0 ? [unread(rejectionText(lost))] : []),
    ]);
    const sumTime = node.timeOf(...supplies.flatMap(({ sample }) => sample ?? []));
    const readings = [
      ...meters.map(({ said, sample }) => ({
        ...readingOf(said, ACPI_METER_RANK),
        ...(sample ? node.timeOf(sample) : {}),
      })),
      ...sum.map((reading) => ({ ...reading, ...sumTime })),
    ];
    const notes = [...meters, ...supplies].map(
      ({ said }) => `Total power: ${said.ok ? `${said.what}: ${said.watts} W` : said.detail}`,
    );
    return { readings, notes, ignored: [] };
  }
}

function readMeter(node: NodeSamples, { chip }: HwmonChip): ChipSaid {
  const battery = node.told(NODE.powerIsBattery, chip, 'power1').sample;
  if (battery && battery.value !== 0) {
    return { said: { ok: false, code: 'ENOENT', detail: `${chip} measures a battery, not the machine` } };
  }
  const { sample, rejected } = node.told(NODE.averagePower, chip, 'power1');
  if (!sample) {
    const detail = `power_meter ${chip} has no ${NODE.averagePower}`;
    return { said: rejected ? unread(rejectionText(rejected)) : { ok: false, code: 'unreadable', detail } };
  }
  const interval = node.told(NODE.averagePowerInterval, chip, 'power1').sample?.value ?? 0;
  const over = interval > 0 ? `, average over ${interval} s` : '';
  return { said: { ok: true, watts: sample.value, what: `ACPI power meter ${chip}${over}` }, sample };
}

function readSupply(node: NodeSamples, { chip, name }: HwmonChip): ChipSaid {
  const total = node.sensorsOf('power', [NODE.power], chip).find(({ label }) => SUPPLY_TOTAL.test(label));
  if (!total) {
    return {
      said: { ok: false, code: 'ENOENT', detail: `${chip} (${name}) has no sensor labelled "power total" or "pin"` },
    };
  }
  const { sample, rejected } = node.told(NODE.power, chip, total.sensor);
  if (!sample) {
    const detail = `${chip} (${name}) has no number for "${total.label}": node_exporter cannot read it`;
    return { said: rejected ? unread(rejectionText(rejected)) : { ok: false, code: 'unreadable', detail } };
  }
  const side = /total/i.test(total.label) ? 'output' : 'input';
  return { said: { ok: true, watts: sample.value, what: `${name} ${total.label} (${side}), ${chip}` }, sample };
}

function unread(detail: string): Said & { readonly ok: false } {
  return { ok: false, code: 'not-a-number', detail };
}

/** One line of RAPL's series, read or not. */
interface Zone {
  /** `intel-rapl:0:2`, or the zone's name where the exporter does not tell the path. */
  readonly entry: string;
  /** As in /sys: `package-0`, `dram`. */
  readonly name: string;
  readonly index: string;
  readonly told: Sample | RejectedLine;
}

/** The power of one target's CPUs; remembers the counters. */
export class NodeRapl {
  readonly #rates = new EnergyRates();

  read(node: NodeSamples): NodePowers {
    const told = zonesOf(node);
    const zones = told.slice(0, MOST_ZONES);
    const paths = new Set(zones.map(({ entry }) => entry));
    const { mirrored } = countedEntries([...paths]);
    const names = new Map(zones.map(({ entry, name }) => [entry, name]));
    const counted = zones.flatMap((zone) => {
      // Without a path nothing but the index tells whose memory it is.
      const above = /^(.+):\d+$/.exec(zone.entry)?.[1];
      const parent = (above && names.get(above)) ?? `package-${zone.index}`;
      const place = mirrored.includes(zone.entry) ? undefined : placeOf(zone.name, parent);
      return place ? [{ ...zone, ...place }] : [];
    });
    const showsSocket = node.chips.some(({ name }) => AMD_CPU_CHIP.test(name));
    const readings: RawReading[] = [];
    for (const [id, alike] of groupsOf(counted)) {
      const metered = alike.map((zone) => ({ ...zone, metered: this.#meter(node, zone) }));
      readings.push(readingOfZones(id, metered, showsSocket, 'node_rapl'));
    }
    const lost = node.lostLinesOf([...NODE_RAPL.keys()])[0];
    if (lost) readings.push(unreadable('unreadable-line', clipped(rejectionText(lost))));
    if (told.length > MOST_ZONES) {
      readings.push(unreadable('zones', `node_rapl has ${told.length} zones, at most ${MOST_ZONES} are read`));
    }
    const isAsked = node.of(NODE.collectorSuccess).some(({ labels }) => labels['collector'] === 'rapl');
    const none = 'CPU power: no node_rapl series: no RAPL here, or node_exporter does not run as root';
    return { readings, notes: isAsked && zones.length === 0 ? [none] : [], ignored: ignoredOf(zones, counted) };
  }

  #meter(node: NodeSamples, { entry, name, told }: Zone): Metered {
    if (!('value' in told)) return { kind: 'failed', failure: unread(rejectionText(told)) };
    if (!Number.isFinite(told.value)) {
      return { kind: 'failed', failure: unread(`${seriesText(told.name, told.labels)} is ${told.value}`) };
    }
    const atMs = node.timeOf(told).sampledAtMs ?? node.scrape.startedAtMs;
    return this.#rates.next(`${entry} ${name}`, told.value * 1e6, atMs);
  }
}

/** A part of what the CPUs draw is not known. */
const unreadable = (id: string, origin: string): RawReading => ({
  component: 'cpu',
  id,
  quantity: 'power',
  value: null,
  cause: 'invalid',
  origin,
});

function zonesOf(node: NodeSamples): readonly Zone[] {
  const zones: Zone[] = [];
  for (const [series, zoneName] of NODE_RAPL) {
    for (const told of [...node.of(series), ...node.rejectedOf(series)]) {
      if (told.labels === null) continue;
      const { index = '0', path = '', rapl_zone: label = '' } = told.labels;
      const raw = zoneName ?? label;
      const name = raw === 'package' ? `package-${index}` : raw;
      const entry = path.slice(path.lastIndexOf('/') + 1) || `${raw}-${index}`;
      zones.push({ entry, name, index, told });
    }
  }
  return zones;
}

function ignoredOf(zones: readonly Zone[], counted: readonly (Zone & Place)[]): readonly IgnoredSeries[] {
  const isCounted = new Set(counted.map(({ told }) => told));
  return zones
    .filter(({ told }) => !isCounted.has(told))
    .map(({ told }) => ({
      what: seriesText(told.name, told.labels ?? {}),
      why: 'it is contained in a package, or repeats one (the MMIO zones do)',
    }));
}
