// What would be read from a directory with sys/ and proc/ as a machine shows them: its own, or a copy. The real sources
// read it; what they took is known by the files that their readings name, and every other sensor in it is listed with
// the reason why nothing is taken from it. So this page cannot say otherwise than the service does.
import { dirname } from 'node:path';
import type { Clock } from '../clock.ts';
import type { GpuSighting, HardwareComponent, SourceReport } from '../domain/reading.ts';
import { createGpuSysfs } from '../sources/gpu-sysfs.ts';
import { createLocalMachine } from '../sources/local-machine.ts';
import { parseInteger, Sysfs } from '../sources/sysfs.ts';
import { createSystemPower } from '../sources/system-power.ts';
import { type Explained, explainReading, type Ignored } from './explain-report.ts';
import { printable, valueText } from './layout.ts';

/** Two samples a second apart, and a driver or two that hang for a second each. */
const LOOK_MS = 10_000;
const HWMON = '/sys/class/hwmon';
const THERMAL = '/sys/class/thermal';

/** Why a chip or a zone of that name does not speak for a CPU, a card or the whole machine. */
const REASONS: readonly (readonly [name: RegExp, why: string])[] = [
  [/^acpitz/, "a value of the firmware, often frozen, never the die's"],
  [
    /^(nct\d|it8\d|w83|f71|sch\d|asb|lm\d|adt7|emc)/,
    'a chip on the board (Super-I/O): it also shows pins where nothing is connected',
  ],
  [/^(nvme|drivetemp)/, 'a drive'],
  [/^(iwlwifi|mt7|ath1|phy|r8169|mlx|i350|ixgbe)/, 'a network adapter'],
  [/^(spd5118|jc42)/, 'a memory module'],
  [/^(amdgpu|radeon|nouveau|i915|xe)/, 'of a GPU: cards are read in /sys/class/drm, integrated graphics only shown'],
  [/^(pch|x570|b550)/, 'the chipset'],
  [/^(asus|dell|thinkpad|applesmc|hp|surface|gigabyte|msi)/, "the board's own controller, not the die"],
  [/^(BAT|ucsi|AC)/, 'a battery or a plug'],
  [/^INT3400/, 'a policy of the firmware, no sensor'],
];
const OTHER_TEMPERATURE = "no driver of a CPU's sensors is called so";
const OTHER_POWER = 'a part of the machine: only an ACPI power meter and power supplies measure all of it';

/** Reads the tree below `root` once; takes about two seconds. */
export async function explainTree(root: string, clock: Clock): Promise<Explained> {
  const node = 'tree';
  const sources = [
    createLocalMachine({ node, clock, root }),
    createGpuSysfs({ node, clock, root }),
    createSystemPower({ node, clock, root }),
  ];
  const deadlineMs = clock.now().elapsedMs + LOOK_MS;
  const reports = await Promise.all(sources.map((source) => source.read(deadlineMs)));
  await Promise.all(sources.map((source) => source.close()));
  const gpus = new Map<string, GpuSighting>();
  for (const gpu of reports.flatMap((report) => report.gpus)) gpus.set(gpu.id, gpu);
  const isHere = root === '/';
  return {
    form: 'sysfs',
    title: isHere ? "this machine's own /sys and /proc" : "a copy of a machine's /sys and /proc",
    readings: reports.flatMap(({ readings }) => readings).map(explainReading),
    gpus: [...gpus.values()],
    hardwareLimits: reports.flatMap(({ hardwareLimits }) => hardwareLimits),
    throttledGpus: [],
    ignored: await unreadSensors(new Sysfs({ clock, root }), reports),
    notes: reports.flatMap(({ outcome, notes }) => (outcome.kind === 'failed' ? [outcome.detail, ...notes] : notes)),
    advice: [
      ...(isHere
        ? []
        : [
            'A copy stands still: the share of the CPUs and power from energy counters (RAPL, Intel cards) need a machine.',
          ]),
      ...([...gpus.values()].some(({ vendor }) => vendor === 'nvidia')
        ? ['NVIDIA cards are read through nvidia-smi: explain its output as well.']
        : []),
    ],
  };
}

/** The files that readings were taken from, and whose. */
class Taken {
  readonly #sysfs: Sysfs;
  readonly #files = new Map<string, HardwareComponent>();
  readonly #texts: readonly string[];

  constructor(sysfs: Sysfs, reports: readonly SourceReport[]) {
    this.#sysfs = sysfs;
    this.#texts = reports.flatMap(({ notes }) => notes).filter((note) => note.includes(': left out: '));
  }

  async collect(reports: readonly SourceReport[]): Promise<this> {
    for (const { readings, notes } of reports) {
      for (const { component, value, origin } of readings) if (value !== null) await this.#add(origin, component);
      // A sum of several supplies is too long for an origin; the notes name each.
      for (const note of notes) if (/^Total power: .* W$/.test(note)) await this.#add(note, 'system');
    }
    return this;
  }

  async #add(text: string, component: HardwareComponent): Promise<void> {
    for (const [path] of text.matchAll(/\/sys\/[^\s,:;…]+/g)) this.#files.set(await this.real(path), component);
  }

  /** hwmon2 is reached through /sys/class/hwmon and through its card: the same file. */
  async real(path: string): Promise<string> {
    const directory = await this.#sysfs.resolve(dirname(path));
    return directory.ok ? `${directory.value}/${path.slice(dirname(path).length + 1)}` : path;
  }

  has(file: string): boolean {
    return this.#files.has(file);
  }

  /** Whose chip it is, where something was taken of it. */
  ownerOf(directory: string): HardwareComponent | undefined {
    return [...this.#files].find(([file]) => file === directory || dirname(file) === directory)?.[1];
  }

  /** A reader's own words about the sensor `/sys/class/hwmon/hwmon2/temp1`. */
  wordOn(prefix: string): string | undefined {
    const note = this.#texts.find((text) => text.includes(`${prefix}_`));
    return note?.slice(note.indexOf(': left out: ') + ': left out: '.length).replaceAll(`${dirname(prefix)}/`, '');
  }
}

async function unreadSensors(sysfs: Sysfs, reports: readonly SourceReport[]): Promise<Ignored[]> {
  const taken = await new Taken(sysfs, reports).collect(reports);
  return [...(await unreadChips(sysfs, taken)), ...(await unreadZones(sysfs, taken))];
}

/** Sensors of temperature and power of all chips in hwmon from which no reading was taken. */
async function unreadChips(sysfs: Sysfs, taken: Taken): Promise<Ignored[]> {
  const ignored: Ignored[] = [];
  const entries = await sysfs.list(HWMON);
  for (const entry of entries.ok ? entries.value : []) {
    const directory = `${HWMON}/${entry}`;
    const name = await sysfs.readText(`${directory}/name`);
    const chip = name.ok ? printable(name.value) : 'a chip without a name';
    const files = await sysfs.list(directory);
    const owner =
      taken.ownerOf(dirname(await taken.real(`${directory}/name`))) ?? taken.ownerOf(await taken.real(directory));
    for (const file of files.ok ? files.value : []) {
      const [, sensor = '', kind] = /^((temp|power)\d+)_(?:input|average)$/.exec(file) ?? [];
      if (kind === undefined || taken.has(await taken.real(`${directory}/${file}`))) continue;
      const label = await sysfs.readText(`${directory}/${sensor}_label`);
      // A supply is named by its directory: it is the sensor with the label of its total.
      if (owner === 'system' && label.ok && /^(power total|pin1?)$/i.test(label.value)) continue;
      const why = taken.wordOn(`${directory}/${sensor}`) ?? reasonFor(chip, kind, owner);
      ignored.push({
        what: `${chip}${label.ok ? ` ${label.value}` : ''}, ${entry}/${file}`,
        says: await saidBy(sysfs, `${directory}/${file}`, kind),
        why,
      });
    }
  }
  return ignored;
}

function reasonFor(chip: string, kind: string, owner: HardwareComponent | undefined): string {
  if (owner === 'cpu' && kind === 'temp') return 'the hottest sensor of its chip counts, and this is not it';
  if (owner === 'gpu') return 'neither what the card is judged by nor one that is shown';
  if (owner === 'system') return 'a rail, part of the total that counts';
  const known = REASONS.find(([name]) => name.test(chip))?.[1];
  return known ?? (kind === 'temp' ? OTHER_TEMPERATURE : OTHER_POWER);
}

async function unreadZones(sysfs: Sysfs, taken: Taken): Promise<Ignored[]> {
  const ignored: Ignored[] = [];
  const entries = await sysfs.list(THERMAL);
  for (const entry of entries.ok ? entries.value : []) {
    if (!/^thermal_zone\d+$/.test(entry)) continue;
    const file = `${THERMAL}/${entry}/temp`;
    if (taken.has(await taken.real(file))) continue;
    const type = await sysfs.readText(`${THERMAL}/${entry}/type`);
    const name = type.ok ? printable(type.value) : 'a zone without a type';
    const known = REASONS.find(([pattern]) => pattern.test(name))?.[1];
    const why = known ?? "zones stand in only where hwmon has no chip of the CPU, and then those of a CPU's type";
    ignored.push({ what: `${name}, ${entry}`, says: await saidBy(sysfs, file, 'temp'), why });
  }
  return ignored;
}

/** m°C and µW, as the kernel tells them. */
async function saidBy(sysfs: Sysfs, file: string, kind: string): Promise<string> {
  const text = await sysfs.readText(file);
  if (!text.ok) return text.code;
  const number = parseInteger(text.value);
  if (number === null) return printable(text.value.slice(0, 20));
  return kind === 'temp' ? valueText(number / 1e3, '°C') : valueText(number / 1e6, 'W');
}
