// GPUs as the PCI bus shows them. A card that its driver lost, or that no tool reads, still stands in
// /sys/bus/pci/devices, so the bus is the witness that a GPU is there and must be measured. The kernel keeps class,
// vendor and device of each function in memory: reading them asks no hardware and wakes no sleeping card. Nothing is
// measured here. What cannot be told apart from a GPU that gets hot is required: unknown is not safe.
import { canonicalPciAddress, type GpuSighting } from '../domain/reading.ts';
import { type FileAnswer, isAbsent, type Sysfs } from './sysfs.ts';

export interface PciDisplays {
  readonly gpus: readonly GpuSighting[];
  readonly notes: readonly string[];
}

const DEVICES = '/sys/bus/pci/devices';

const NVIDIA = 0x10de;
const AMD_GRAPHICS = 0x1002;
const AMD_PROCESSORS = 0x1022;
const INTEL = 0x8086;

/** BMC graphics of server boards, and what hypervisors show their guests: they draw consoles and heat nothing. */
const CONSOLE_ADAPTERS = new Map([
  [0x1a03, 'ASPEED BMC graphics'],
  [0x102b, 'Matrox BMC graphics'],
  [0x1234, 'QEMU virtual display'],
  [0x1af4, 'virtio virtual display'],
  [0x1b36, 'Red Hat QXL virtual display'],
  [0x15ad, 'VMware virtual display'],
  [0x1414, 'Hyper-V virtual display'],
  [0x1013, 'Cirrus virtual display'],
  [0x80ee, 'VirtualBox virtual display'],
  [0x1d0f, 'Amazon EC2 virtual display'],
]);

/**
 * APUs from before AMD's security processor, which are told by their id: Kaveri, Llano, Ontario, Kabini, Mullins,
 * Carrizo, Stoney, Trinity and Richland (Linux, radeon and amdgpu id tables).
 */
const OLD_APU_IDS: readonly (readonly [from: number, to: number])[] = [
  [0x1304, 0x131d],
  [0x9640, 0x964f],
  [0x9802, 0x980a],
  [0x9830, 0x983f],
  [0x9850, 0x985f],
  [0x9870, 0x9877],
  [0x98e4, 0x98e4],
  [0x9900, 0x99a4],
];

/**
 * Intel's cards: DG1, Arc A and Flex (DG2), Arc B (Battlemage), Data Center Max. In a guest with the card passed
 * through one may stand where the integrated graphics stands on a real machine.
 */
const INTEL_CARD_IDS: readonly (readonly [from: number, to: number])[] = [
  [0x4905, 0x4909],
  [0x5690, 0x56c2],
  [0xe202, 0xe2ff],
  [0x0bd0, 0x0bdb],
];

interface PciFunction {
  readonly address: string;
  readonly classCode: number;
  /** 'unreadable' where the file is there and gives none. */
  readonly vendor: number | 'unreadable';
  readonly device: number | 'unreadable';
}

/** The bus's files, and whether one of them hung or was not opened because others hang. */
class PciBus {
  readonly addresses: readonly string[];
  readonly #sysfs: Sysfs;
  #isCutOff = false;

  constructor(sysfs: Sysfs, addresses: readonly string[]) {
    this.#sysfs = sysfs;
    this.addresses = addresses;
  }

  /** What was concluded without such a file is no fact about the machine. */
  get isCutOff(): boolean {
    return this.#isCutOff;
  }

  /** `0x10de` as the number it is. */
  async hex(address: string, file: 'class' | 'vendor' | 'device'): Promise<number | 'unreadable'> {
    const text = this.#noted(await this.#sysfs.readText(`${DEVICES}/${address}/${file}`));
    const digits = text.ok ? /^0x([0-9a-f]{4,6})$/i.exec(text.value)?.[1] : undefined;
    return digits === undefined ? 'unreadable' : Number.parseInt(digits, 16);
  }

  async isBootDisplay(address: string): Promise<boolean> {
    const text = this.#noted(await this.#sysfs.readText(`${DEVICES}/${address}/boot_vga`));
    return text.ok && text.value === '1';
  }

  async isVirtualFunction(address: string): Promise<boolean> {
    return this.#noted(await this.#sysfs.resolve(`${DEVICES}/${address}/physfn`)).ok;
  }

  #noted<T>(answer: FileAnswer<T>): FileAnswer<T> {
    if (!answer.ok && answer.code === 'hung') this.#isCutOff = true;
    return answer;
  }
}

/** Lists every display function on the bus, once. Never rejects; how long it takes is bounded by {@link Sysfs}. */
export async function readPciDisplays(sysfs: Sysfs): Promise<PciDisplays> {
  const addresses = await sysfs.list(DEVICES);
  if (!addresses.ok) {
    const note = isAbsent(addresses) ? `${DEVICES} is not there: no PCI bus, or /sys is not mounted` : addresses.detail;
    return { gpus: [], notes: [`GPUs on the bus: none seen: ${note}`] };
  }
  const gpus: GpuSighting[] = [];
  const notes: string[] = [];
  const halfRead: string[] = [];
  for (const address of addresses.value) {
    const bus = new PciBus(sysfs, addresses.value);
    const answer = await lookAt(bus, address);
    if (bus.isCutOff) {
      // Not taken for a GPU: it would be remembered, and then missed for ever.
      halfRead.push(address);
    } else if (answer === 'unreadable') {
      notes.push(`GPUs on the bus: the class of ${address} cannot be read`);
    } else if (answer !== 'no display') {
      gpus.push(answer);
      notes.push(`GPUs on the bus: ${address} ${answer.name ?? ''}: ${answer.required ? 'required' : 'not required'}`);
    }
  }
  if (halfRead.length > 0) {
    notes.push(`GPUs on the bus: reads of /sys hang, ${halfRead.length} functions left out, the first ${halfRead[0]}`);
  }
  notes.unshift(`GPUs on the bus: ${gpus.length} display functions among ${addresses.value.length} in ${DEVICES}`);
  return { gpus, notes };
}

async function lookAt(bus: PciBus, address: string): Promise<GpuSighting | 'no display' | 'unreadable'> {
  const classCode = await bus.hex(address, 'class');
  if (classCode === 'unreadable') return 'unreadable';
  const vendor = await bus.hex(address, 'vendor');
  if (!mayBeGpu(classCode, vendor)) return 'no display';
  const device = await bus.hex(address, 'device');
  const { kind, required } = await judge(bus, { address, classCode, vendor, device });
  const boot = (await bus.isBootDisplay(address)) ? ', boot display' : '';
  const id = canonicalPciAddress(address) ?? address;
  const name = `${kind} ${hexText(vendor)}:${hexText(device)}${boot}`;
  return { id, pciAddress: id, name, vendor: vendorName(vendor), required };
}

/**
 * Base class 03 is display: 0300 VGA, 0302 3D (data-center cards without outputs), 0380 other (Instinct MI200). From
 * MI300 on, AMD's Instinct call themselves 1200, processing accelerator (ROCm issue 4454); so do Intel's NPUs, which
 * are no GPUs.
 */
function mayBeGpu(classCode: number, vendor: PciFunction['vendor']): boolean {
  return classCode >> 16 === 0x03 || (classCode >> 8 === 0x1200 && vendor === AMD_GRAPHICS);
}

async function judge(bus: PciBus, pci: PciFunction): Promise<{ readonly kind: string; readonly required: boolean }> {
  const { vendor } = pci;
  if (vendor === 'unreadable') return { kind: 'display function of an unknown vendor', required: true };
  // The host of a shared card (vGPU, MxGPU) shows up to 32 virtual functions beside the one that has the sensors.
  if (await bus.isVirtualFunction(pci.address)) return { kind: 'virtual function of a card', required: false };
  switch (vendor) {
    case NVIDIA:
      return { kind: 'NVIDIA', required: true };
    case INTEL:
      return isIntegratedIntel(pci)
        ? { kind: 'Intel integrated graphics', required: false }
        : { kind: 'Intel card', required: true };
    case AMD_GRAPHICS:
      return (await isIntegratedAmd(bus, pci))
        ? { kind: 'AMD integrated graphics', required: false }
        : { kind: 'AMD card', required: true };
    default:
      // Only NVIDIA, AMD and Intel count as signs of a GPU; a console chip of another maker must not block a server.
      return { kind: CONSOLE_ADAPTERS.get(vendor) ?? 'display of another vendor', required: false };
  }
}

/** Intel's graphics have been device 2 on bus 0 since the first; function 1 was its second head until about 2010. */
function isIntegratedIntel({ address, device }: PciFunction): boolean {
  return address.startsWith('0000:00:02.') && device !== 'unreadable' && !isAmong(INTEL_CARD_IDS, device);
}

/**
 * Integrated, where a function of AMD's *processor* vendor id shares the device: on every Ryzen with graphics the GPU is
 * function 0 of an internal device whose further functions are the security processor (1022, class 1080) and USB. A
 * card's own audio, USB and UCSI functions carry the graphics vendor id 1002, so none looks like this. The size of the
 * memory tells nothing: cards exist with 1 GiB, Strix Halo gives its graphics 96. Neither does a missing bridge: guests
 * see a passed-through card on bus 0. An Instinct is required in any case, MI300A with its own CPU cores too.
 */
async function isIntegratedAmd(bus: PciBus, pci: PciFunction): Promise<boolean> {
  if (pci.classCode >> 16 !== 0x03) return false;
  if (pci.device !== 'unreadable' && isAmong(OLD_APU_IDS, pci.device)) return true;
  const sameDevice = pci.address.slice(0, pci.address.lastIndexOf('.') + 1);
  for (const address of bus.addresses) {
    if (address === pci.address || !address.startsWith(sameDevice)) continue;
    if ((await bus.hex(address, 'vendor')) === AMD_PROCESSORS) return true;
  }
  return false;
}

function isAmong(ranges: readonly (readonly [from: number, to: number])[], device: number): boolean {
  return ranges.some(([from, to]) => device >= from && device <= to);
}

function vendorName(vendor: PciFunction['vendor']): GpuSighting['vendor'] {
  if (vendor === NVIDIA) return 'nvidia';
  if (vendor === AMD_GRAPHICS) return 'amd';
  return vendor === INTEL ? 'intel' : 'other';
}

function hexText(number: number | 'unreadable'): string {
  return number === 'unreadable' ? '????' : number.toString(16).padStart(4, '0');
}
