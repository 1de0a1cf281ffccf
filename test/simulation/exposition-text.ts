// What exporters of a world write: the families and labels of the real programs, and beside the text how near what it
// says is to the limits, for those who judge.
import type { Exporter, MadSample } from './exporters.ts';
import type { Card, Machine } from './machine.ts';

/** The limits that a world judges by, its own word and not the product's. */
export const LIMITS = {
  gpuC: { warning: 80, hardStop: 85 },
  cpuC: { warning: 90, hardStop: 95 },
  gpuW: { warning: 250, hardStop: 300 },
} as const;

/** The highest of what is said, as a share of its limit: 1 is at it. */
export interface Told {
  readonly temperatureShare: number;
  readonly powerShare: number;
  /** Of any warning. */
  readonly warningShare: number;
  /** The temperatures of cards, °C, by their index. */
  readonly cardsC: readonly (number | undefined)[];
}

export interface Distortion {
  readonly wallS: number;
  /** °C less than is true, and as many W. */
  readonly lowerBy: number;
  readonly notANumber: string | null;
  readonly withoutCard: number | null;
  readonly mad: MadSample | null;
}

interface Saying {
  text: string;
  temperatureShare: number;
  powerShare: number;
  warningShare: number;
  cardsC: (number | undefined)[];
  isWhole: boolean;
}

/** The body that `exporter` gives of `machine` as it was at `atMs`. */
export function exposition(
  exporter: Pick<Exporter, 'kind' | 'rounds'>,
  machine: Machine,
  atMs: number,
  distortion: Distortion,
): { readonly text: string; readonly told: Told; readonly isWhole: boolean } {
  const said: Saying = { text: '', temperatureShare: 0, powerShare: 0, warningShare: 0, cardsC: [], isWhole: true };
  const { kind } = exporter;
  if (kind === 'node' || kind === 'merged') sayNode(said, machine, atMs, distortion, exporter.rounds);
  if (kind !== 'node') {
    for (const card of machine.cards) {
      if (card.isLost || card.index === distortion.withoutCard) {
        said.isWhole = false;
        continue;
      }
      sayCard(said, kind, machine, card, atMs, distortion, exporter.rounds);
    }
  }
  const { text, temperatureShare, powerShare, warningShare, cardsC, isWhole } = said;
  return { text, told: { temperatureShare, powerShare, warningShare, cardsC }, isWhole };
}

/** As the program rounds. */
export function rounded(value: number, rounds: Exporter['rounds']): number {
  if (rounds === 'tenths') return Math.round(value * 10) / 10;
  return rounds === 'down' ? Math.floor(value) : Math.round(value);
}

/** No card draws the same twice: ±0.5 W, by the time of the sample. Two that are alike to the bit are a sensor that hangs. */
const noiseW = (atMs: number, card: number): number =>
  ((Math.imul(atMs + card * 104_729, 0x9e3779b1) >>> 8) % 1_000) / 1_000 - 0.5;

function sayNode(
  said: Saying,
  machine: Machine,
  atMs: number,
  { wallS, lowerBy, notANumber }: Distortion,
  rounds: Exporter['rounds'],
): void {
  // A lie is a possible number.
  const value = Math.max(rounded(machine.cpu.temperatureC(atMs) - lowerBy, rounds === 'down' ? 'nearest' : rounds), 1);
  const [idle, busy] = machine.cpuTimes(atMs);
  const total = 64 * 2 ** 30;
  said.text += NODE_HEAD;
  said.text += `node_hwmon_temp_celsius{chip="platform_coretemp_0",sensor="temp1"} ${notANumber ?? value}\n`;
  said.text += `node_cpu_seconds_total{cpu="0",mode="idle"} ${idle.toFixed(2)}\n`;
  said.text += `node_cpu_seconds_total{cpu="0",mode="iowait"} 3\nnode_cpu_seconds_total{cpu="0",mode="system"} 9\n`;
  said.text += `node_cpu_seconds_total{cpu="0",mode="user"} ${busy.toFixed(2)}\n`;
  said.text += `node_memory_MemTotal_bytes ${total}\n`;
  said.text += `node_memory_MemAvailable_bytes ${Math.round(total * (1 - machine.memoryShare))}\n`;
  said.text += `node_time_seconds ${wallS.toFixed(3)}\n`;
  if (notANumber === null) sayTemperature(said, value, 95, 90);
  else said.isWhole = false;
}

const NODE_HEAD =
  'node_hwmon_chip_names{chip="platform_coretemp_0",chip_name="coretemp"} 1\n' +
  'node_hwmon_sensor_label{chip="platform_coretemp_0",label="Package id 0",sensor="temp1"} 1\n';

function sayTemperature(said: Saying, value: number, hardStop: number, warning: number): void {
  said.temperatureShare = Math.max(said.temperatureShare, value / hardStop);
  said.warningShare = Math.max(said.warningShare, value / warning);
}

function sayCard(
  said: Saying,
  kind: Exporter['kind'],
  machine: Machine,
  { part, uuid, index }: Card,
  atMs: number,
  { lowerBy, notANumber, mad }: Distortion,
  rounds: Exporter['rounds'],
): void {
  const isMad = mad?.card === index;
  const trueC = rounded(part.temperatureC(atMs) - lowerBy, rounds);
  const celsius = isMad && mad.quantity === 'temperature' ? mad.value : Math.max(trueC, 1);
  const trueW = Math.round((part.powerW - lowerBy + noiseW(atMs, index)) * 10) / 10;
  const watts = isMad && mad.quantity === 'power' ? mad.value : Math.max(trueW, 5);
  const [used, free] = machine.cardMemoryMib();
  const energy = part.energyJ(atMs);
  if (kind === 'nvidia') {
    const label = `{uuid="${uuid.slice(4)}"}`;
    said.text +=
      `nvidia_smi_gpu_info{index="${index}",name="NVIDIA RTX 6000",pci_bus_id="00000000:${(0x21 + index).toString(16)}:00.0",uuid="${uuid.slice(4)}"} 1\n` +
      `nvidia_smi_temperature_gpu${label} ${notANumber ?? celsius}\nnvidia_smi_power_draw_watts${label} ${watts}\n` +
      `nvidia_smi_memory_used_bytes${label} ${used * 2 ** 20}\nnvidia_smi_memory_free_bytes${label} ${free * 2 ** 20}\n`;
  } else {
    const label = `{gpu="${index}",UUID="${uuid}",pci_bus_id="00000000:${(0x21 + index).toString(16)}:00.0",device="nvidia${index}",modelName="NVIDIA RTX 6000"}`;
    said.text +=
      `DCGM_FI_DEV_GPU_TEMP${label} ${notANumber ?? celsius}\nDCGM_FI_DEV_POWER_USAGE${label} ${watts}\n` +
      `DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION${label} ${Math.round(energy * 1000)}\n` +
      `DCGM_FI_DEV_FB_FREE${label} ${free}\nDCGM_FI_DEV_FB_USED${label} ${used}\n`;
  }
  if (notANumber === null) {
    sayTemperature(said, celsius, 85, 80);
    said.cardsC[index] = celsius;
  } else said.isWhole = false;
  said.powerShare = Math.max(said.powerShare, watts / 300);
  said.warningShare = Math.max(said.warningShare, watts / 250);
}
