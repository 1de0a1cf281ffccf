// What nvidia-smi printed, taken apart: rows of cards, and everything that is no row. The tool says its failures in
// words, on stdout or stderr, among the rows or instead of them, with a status of 0 or not; so every line that is no row
// is looked at for a refused field, for a failing card, and for the card's place on the bus. Nothing is run here, and
// what a row's cells mean is nvidia-smi-card.ts.
import { canonicalPciAddress } from '../domain/reading.ts';
import { type Card, cardOfRow, printable } from './nvidia-smi-card.ts';

export interface QueryAnswer {
  /** Of whole rows, and of rows that are garbled after their identity. */
  readonly cards: readonly Card[];
  /** Lines about a card that has no row: that it is lost, that its handle cannot be had. */
  readonly faults: readonly CardFault[];
  /** Everything else that was said, one line each. */
  readonly remarks: readonly string[];
  /** The field that this driver does not know; then there are no rows. */
  readonly rejectedField?: string;
}

export interface CardFault {
  /** Canonical; absent where the tool names no address ("GPU2: Unknown Error"). */
  readonly pciAddress?: string;
  readonly text: string;
}

/** The words of a card that does not answer; wordings and spacing vary by driver. */
const CARD_FAULT = /unable to determine the device handle|gpu is lost|fallen off the bus/i;
const REFUSED_FIELD = /^Field "([\w.]{1,80})" is not a valid field to query/i;

/** Lines taken of one answer. The tool prints one per card and few more. */
const MOST_LINES = 500;

/** The answer to a query of `fields` as `csv,noheader,nounits`. */
export function parseQuery(
  output: { readonly stdout: string; readonly stderr: string },
  fields: readonly string[],
): QueryAnswer {
  const cards: Card[] = [];
  const texts = new Set<string>();
  for (const line of `${output.stdout}\n${output.stderr}`.split('\n').slice(0, MOST_LINES)) {
    const cells = line.split(',').map((cell) => cell.trim());
    const card = cells.length >= 4 ? cardOfRow(cells, fields) : null;
    if (card) cards.push(card);
    else if (line.trim() !== '') texts.add(printable(line));
  }
  const rejectedField = [...texts].map((text) => REFUSED_FIELD.exec(text)?.[1]).find((field) => field !== undefined);
  const withRow = new Set(cards.map(({ sighting }) => sighting.pciAddress));
  const faults: CardFault[] = [];
  const remarks: string[] = [];
  for (const text of texts) {
    const pciAddress = addressIn(text);
    if (pciAddress !== undefined && !withRow.has(pciAddress)) faults.push({ pciAddress, text });
    else if (pciAddress === undefined && CARD_FAULT.test(text)) faults.push({ text });
    // A damaged infoROM, say, is reported beside the row of a card that works.
    else remarks.push(text);
  }
  return { cards, faults, remarks, ...(rejectedField !== undefined && { rejectedField }) };
}

/** `GPU0000:07:00.0`, `GPU 0000:02:00.0`, `GPU3: 0000:5F:00.0`, `gpu 00000000:41:00.0`. */
function addressIn(text: string): string | undefined {
  const found = /(?<![0-9:])[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7](?!\d)/i.exec(text)?.[0];
  return found === undefined ? undefined : (canonicalPciAddress(found) ?? undefined);
}

/** A card's own temperature limits in °C; empty for cards that only tell T.Limit distances. */
export interface TemperatureLimits {
  readonly slowdownC?: number;
  readonly shutdownC?: number;
  readonly targetC?: number;
}

const LIMIT_NAMES: ReadonlyMap<string, keyof TemperatureLimits> = new Map([
  ['Slowdown Temp', 'slowdownC'],
  ['Shutdown Temp', 'shutdownC'],
  ['Target Temperature', 'targetC'],
]);

/**
 * The absolute limits in what `-q -d TEMPERATURE` prints, by canonical PCI address. "GPU Slowdown T.Limit Temp" (Ada,
 * Hopper and Blackwell data-center cards) is a distance, -2 °C say, and is passed over.
 */
export function parseTemperatureLimits(stdout: string): ReadonlyMap<string, TemperatureLimits> {
  const limits = new Map<string, TemperatureLimits>();
  let address: string | undefined;
  for (const line of stdout.split('\n')) {
    const heading = /^GPU ([0-9a-f:.]+)\s*$/i.exec(line)?.[1];
    if (heading !== undefined) {
      address = canonicalPciAddress(heading) ?? undefined;
      if (address !== undefined) limits.set(address, {});
      continue;
    }
    const [, name, degrees = ''] =
      /^\s+GPU (Slowdown Temp|Shutdown Temp|Target Temperature)\s*:\s*(\d{1,3}) C\s*$/.exec(line) ?? [];
    const value = Number(degrees);
    const key = name === undefined ? undefined : LIMIT_NAMES.get(name);
    if (address === undefined || key === undefined || value <= 0 || value > 125) continue;
    limits.set(address, { ...limits.get(address), [key]: value });
  }
  return limits;
}

/** NVML's return codes, which the tool exits with (nvml.h). */
const STATUS_MEANING = new Map([
  [2, 'invalid argument'],
  [3, 'not supported'],
  [4, 'no permission'],
  [6, 'not found'],
  [8, 'power cable not attached'],
  [9, 'driver not loaded'],
  [10, 'interrupt trouble'],
  [12, 'NVML library not found'],
  [13, 'function not in this NVML'],
  [14, 'infoROM corrupted'],
  [15, 'GPU lost'],
  [17, 'blocked by the operating system or cgroup'],
  [18, 'driver and library versions differ'],
]);

/** What people can do about the failures that are seen most. */
const ADVICE: readonly (readonly [when: RegExp, advice: string])[] = [
  [/NVML: Unknown Error/i, 'this monitor lost its GPU devices (in a container: their cgroup); restart the container'],
  [/version mismatch/i, 'the driver was updated under the running kernel; reboot, or reload its modules'],
  [/communicate with the NVIDIA driver/i, 'load the driver'],
];

/** Why an answer is none, in the tool's own words (120 characters), with what can be done about it if that is known. */
export function explainFailure(status: number, { cards, faults, remarks }: QueryAnswer): string {
  const meaning = STATUS_MEANING.get(status);
  const text =
    [...faults.map((fault) => fault.text), ...remarks][0] ??
    (cards.length > 0 ? 'rows without a word of why' : 'it printed nothing');
  return withAdvice(`nvidia-smi ended with status ${status}${meaning === undefined ? '' : ` (${meaning})`}: ${text}`);
}

/** The tool's words, with what can be done about it if that is known. */
export function withAdvice(text: string): string {
  const advice = ADVICE.find(([when]) => when.test(text))?.[1];
  return advice === undefined ? text : `${text}; ${advice}`;
}
