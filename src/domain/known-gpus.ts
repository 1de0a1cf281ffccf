// Which cards a node has. A card that was seen once is expected until an operator forgets it, across restarts: a lost
// GPU shows up as absence, and a loop over what is left would say "all fine". Cards are the same by UUID; by PCI address
// where nothing tells a UUID. Numbers such as "GPU 2" are never an identity: they move between boots and tools.
import { canonicalGpuUuid, canonicalPciAddress, type GpuSighting } from './reading.ts';

/**
 * So many cards are learnt per node, far more than any machine has: each is required from then on, and remembered
 * durably, so a source must not invent them without end. Cards that are known already are never dropped for it.
 */
export const MOST_GPUS = 64;

/** Of one card, by all sources together. */
const MOST_PODS = 32;

export interface KnownGpu {
  readonly id: string;
  readonly pciAddress?: string;
  readonly name?: string;
  readonly vendor: GpuSighting['vendor'];
  readonly unifiedMemory: boolean;
  /** Recorded under `source: simulated`; binds only there. */
  readonly simulated: boolean;
}

export interface GpuIdentities {
  /** Cards that must be read, by id: seen now or earlier. */
  readonly known: ReadonlyMap<string, KnownGpu>;
  /** Every spelling that a source uses now, to the card's id. */
  readonly aliases: ReadonlyMap<string, string>;
  /** Listed now, required or not. */
  readonly listed: ReadonlyMap<string, GpuSighting>;
  /** How many required cards are listed that were not learnt, since there are too many: then nothing may start here. */
  readonly unlearnt: number;
}

export const NO_GPUS: GpuIdentities = Object.freeze({
  known: new Map(),
  aliases: new Map(),
  listed: new Map(),
  unlearnt: 0,
});

/**
 * Joins what the sources of a node list now with the cards known before. A card first seen on the bus and then by its
 * driver keeps one entry, under its UUID. Another UUID in the same slot is another card: the old one is gone.
 */
export function identifyGpus(
  before: ReadonlyMap<string, KnownGpu>,
  sightings: readonly GpuSighting[],
  simulated: boolean,
): GpuIdentities {
  const byPci = new Map<string, string>();
  for (const gpu of before.values()) if (gpu.pciAddress && gpu.id !== gpu.pciAddress) byPci.set(gpu.pciAddress, gpu.id);
  for (const sighting of sightings) {
    if (sighting.pciAddress && sighting.id !== sighting.pciAddress) byPci.set(sighting.pciAddress, sighting.id);
  }
  const known = new Map<string, KnownGpu>();
  for (const gpu of before.values()) {
    // A bus entry whose UUID is known now becomes that card.
    const id = byPci.get(gpu.id) ?? gpu.id;
    if (id === gpu.id) known.set(id, gpu);
    else if (!before.has(id)) known.set(id, { ...gpu, id });
  }
  // Slots known from earlier count too: a source that fails still tells its cards' last readings by them.
  const aliases = new Map(byPci);
  const listed = new Map<string, GpuSighting>();
  const unlearnt = new Set<string>();
  for (const sighting of sightings) {
    const id = byPci.get(sighting.id) ?? sighting.id;
    aliases.set(sighting.id, id);
    if (sighting.pciAddress) aliases.set(sighting.pciAddress, id);
    const other = listed.get(id);
    const merged = other ? mergeSightings(other, sighting) : sighting;
    listed.set(id, merged.id === id ? merged : { ...merged, id });
    // One source that can tell that a card is integrated outweighs the bus, which often cannot.
    if (!merged.required && !before.has(id)) {
      known.delete(id);
      unlearnt.delete(id);
      continue;
    }
    const old = known.get(id);
    if (!old && known.size >= MOST_GPUS) {
      unlearnt.add(id);
      continue;
    }
    const pciAddress = sighting.pciAddress ?? old?.pciAddress;
    const name = sighting.uuid ? (sighting.name ?? old?.name) : (old?.name ?? sighting.name);
    const unifiedMemory = sighting.unifiedMemory ?? old?.unifiedMemory ?? false;
    const isSame =
      old?.vendor === sighting.vendor &&
      old.pciAddress === pciAddress &&
      old.name === name &&
      old.unifiedMemory === unifiedMemory;
    // A thousand nodes look at their cards every few seconds, and nothing about them changes.
    if (isSame) continue;
    known.set(id, {
      id,
      ...(pciAddress !== undefined && { pciAddress }),
      ...(name !== undefined && { name }),
      vendor: sighting.vendor,
      unifiedMemory,
      simulated: old?.simulated ?? simulated,
    });
  }
  return { known, aliases, listed, unlearnt: unlearnt.size };
}

/** The known card that somebody means by a UUID or PCI address, in any spelling; `null` if there is none. */
export function gpuNamed(gpus: GpuIdentities, name: string): KnownGpu | null {
  const id = [name, canonicalPciAddress(name) ?? '', canonicalGpuUuid(name)]
    .map((spelling) => gpus.aliases.get(spelling) ?? spelling)
    .find((spelling) => gpus.known.has(spelling));
  return id === undefined ? null : (gpus.known.get(id) ?? null);
}

function mergeSightings(a: GpuSighting, b: GpuSighting): GpuSighting {
  const [main, other] = b.uuid && !a.uuid ? [b, a] : [a, b];
  const pods = a.pods && b.pods ? { pods: [...new Set([...a.pods, ...b.pods])].slice(0, MOST_PODS) } : {};
  return { ...other, ...main, ...pods, required: a.required && b.required };
}
