// Whose row it is: which card the labels of a sample tell. A UUID is a card's name everywhere; a PCI address within the
// node; AMD's serial number where no UUID is given; an exporter's own number of the card ("gpu 0") is none, since it
// moves between boots and tools, and stands in only where a body tells nothing else. Host names in labels are the
// exporter's pod, `localhost`, or a container's id, and are not looked at.
import { canonicalGpuUuid, canonicalPciAddress } from '../domain/reading.ts';
import type { Labels } from './scrape.ts';
import type { GpuExporter } from './series-rows.ts';

export interface RowIdentity {
  readonly uuid?: string;
  readonly pciAddress?: string;
  readonly serial?: string;
  readonly index?: string;
  readonly name?: string;
  /** MIG instance or partition; '' is the whole card. */
  readonly part: string;
}

/** What exporters write into a label where they have nothing: `""`, `NA`, `[N/A]`, `<<<NULL>>>`. */
const NOTHING = /^(n\/?a|none|null|unknown|\[.*\]|<<<.*>>>)?$/i;
/** Whole: half of one would be another card, never to be seen again. An instance's UUID (`MIG-…`) is not the card's. */
const UUID = /^(gpu-)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const SERIAL = /^(?!0+$)[\w.-]{1,40}$/;
const INDEX = /^\d{1,4}$/;
const NAME_LENGTH = 80;

/**
 * Identities by the labels that they are of: rows of one card bear the same, tick after tick, on every node of a
 * cluster. Too many texts are let go of, and fill anew.
 */
const KNOWN = new Map<
  GpuExporter,
  {
    readonly names: readonly string[];
    readonly byText: Map<string, RowIdentity>;
    /** A series that is told again has the very labels of before. */
    readonly byLabels: WeakMap<Labels, RowIdentity>;
  }
>();
const MOST_KNOWN = 50_000;

/** What the labels of a row tell of its card; the same object for the same labels. */
export function identityOf(exporter: GpuExporter, labels: Labels): RowIdentity {
  let known = KNOWN.get(exporter);
  if (!known) {
    known = { names: Object.values(exporter.labels).flat(), byText: new Map(), byLabels: new WeakMap() };
    KNOWN.set(exporter, known);
  }
  const again = known.byLabels.get(labels);
  if (again) return again;
  let text = '';
  for (const name of known.names) text += `${labels[name] ?? ''}\n`;
  let identity = known.byText.get(text);
  if (!identity) {
    identity = readIdentity(exporter, labels);
    if (known.byText.size >= MOST_KNOWN) known.byText.clear();
    known.byText.set(text, identity);
  }
  known.byLabels.set(labels, identity);
  return identity;
}

function readIdentity({ labels: known }: GpuExporter, labels: Labels): RowIdentity {
  const tell = (candidates: readonly string[] | undefined, form: RegExp): string | undefined => {
    for (const label of candidates ?? []) {
      const value = labels[label]?.trim();
      if (value !== undefined && !NOTHING.test(value) && form.test(value)) return value;
    }
    return undefined;
  };
  const uuid = tell(known.uuid, UUID);
  const pciAddress = canonicalPciAddress(tell(known.pci, /:/) ?? '');
  const serial = tell(known.serial, SERIAL);
  const index = tell(known.index, INDEX);
  const name = tell(known.name, /^[\x20-\x7e]+$/);
  return {
    ...(uuid !== undefined && { uuid: canonicalGpuUuid(uuid) }),
    ...(pciAddress !== null && { pciAddress }),
    ...(serial !== undefined && { serial }),
    ...(index !== undefined && { index }),
    ...(name !== undefined && { name: name.slice(0, NAME_LENGTH) }),
    part: tell(known.part, /^[\w .:-]{1,40}$/) ?? '',
  };
}

/**
 * What a line that could not be read still tells: a whole UUID or PCI address in a label of its own, so that the card
 * whose reading is missing can be named. `null` where it tells neither.
 */
export function identityInText(exporter: GpuExporter, text: string): RowIdentity | null {
  const labels: Record<string, string> = {};
  for (const label of [...(exporter.labels.uuid ?? []), ...(exporter.labels.pci ?? [])]) {
    const value = new RegExp(`[{,"\\s]${label}="([0-9A-Za-z.:-]{1,60})"`).exec(text)?.[1];
    if (value !== undefined) labels[label] = value;
  }
  const identity = identityOf(exporter, labels);
  const isWhole = identity.uuid === undefined || identity.uuid.length === WHOLE_UUID_LENGTH;
  return isWhole && (identity.uuid ?? identity.pciAddress) !== undefined ? identity : null;
}

const WHOLE_UUID_LENGTH = 'GPU-00000000-0000-0000-0000-000000000000'.length;

/** The cards of one body. First every row is learnt, then each is asked for. */
export class CardIds {
  /** Weaker names of cards to their ids; `null` where two cards bear one. */
  readonly #aliases = new Map<string, string | null>();

  learn({ exporter }: GpuExporter, identity: RowIdentity): void {
    const id = identity.uuid ?? identity.pciAddress;
    if (id === undefined) return;
    const { pciAddress, serial, index } = identity;
    if (pciAddress !== undefined) this.#alias(pciAddress, id);
    // A card's further partitions may have UUIDs of their own.
    if (serial !== undefined && !isFurtherPartition(identity)) this.#alias(`${exporter} serial ${serial}`, id);
    if (index !== undefined) this.#alias(`${exporter} index ${index}`, id);
  }

  /** `null` where the row tells no card. */
  idOf({ exporter }: GpuExporter, identity: RowIdentity): string | null {
    const { uuid, pciAddress, serial, index } = identity;
    const bySerial = serial === undefined ? null : this.#aliases.get(`${exporter} serial ${serial}`);
    if (bySerial && isFurtherPartition(identity)) return bySerial;
    if (uuid !== undefined) return uuid;
    if (pciAddress !== undefined) return this.#aliases.get(pciAddress) ?? pciAddress;
    if (serial !== undefined) return bySerial ?? `${exporter}-serial-${serial}`;
    if (index === undefined) return null;
    return this.#aliases.get(`${exporter} index ${index}`) ?? `${exporter}-gpu-${index}`;
  }

  #alias(name: string, id: string): void {
    const known = this.#aliases.get(name);
    // A UUID is the better name of what was first met by its PCI address.
    this.#aliases.set(name, known === undefined || known === id || known === name ? id : id === name ? known : null);
  }
}

/** An AMD partition other than the first, which tells 0 for what only the card has. */
const isFurtherPartition = ({ serial, part }: RowIdentity): boolean =>
  serial !== undefined && part !== '' && part !== '0';
