// The NVIDIA cards of this machine, asked through `nvidia-smi`. The tool is run as a bounded child process, one at a
// time: on a wedged driver it hangs, and its GPUs are then missing while everything else goes on. One lost card can make
// the tool answer for none, so the others are then asked one by one. A driver that does not know a field refuses the
// whole question, so it is asked again without that field. A tool that is there and fails is a sign of a GPU; one that is
// not there says nothing, and the PCI bus tells whether there is a card. What the output means is nvidia-smi-output.ts.
import { type Clock, TIMED_OUT, withDeadline } from '../clock.ts';
import {
  canonicalPciAddress,
  EMPTY_REPORT,
  type FailureCause,
  type GpuSighting,
  type HardwareLimits,
  type SourceReport,
} from '../domain/reading.ts';
import { BoundedCommand, type CommandFailure, type Launch } from './bounded-command.ts';
import { joined } from './joined.ts';
import { ALL_FIELDS, type Card, CORE_FIELDS, sightingAt, unreadCard, withoutField } from './nvidia-smi-card.ts';
import {
  type CardFault,
  explainFailure,
  parseQuery,
  parseTemperatureLimits,
  type QueryAnswer,
  type TemperatureLimits,
} from './nvidia-smi-output.ts';
import type { Source } from './source.ts';
import { Sysfs } from './sysfs.ts';

export interface NvidiaSmiOptions {
  readonly node: string;
  readonly clock: Clock;
  /** The child's environment, with the `PATH` that the tool is looked up on. */
  readonly env: NodeJS.ProcessEnv;
  /** Default `nvidia-smi`. */
  readonly command?: string;
  /** Where `/proc` is found; a captured tree in tests. Default `/`. */
  readonly root?: string;
  readonly launch?: Launch;
}

/** Refused fields that are learnt in one look; then the core alone is asked, so that temperature and power are had. */
const MOST_REFUSALS = 2;

/** Status 14: an infoROM is corrupted; 15: a card is lost. Rows beside them are of cards that answered. */
const ROWS_COUNT_WITH_STATUS = new Set([0, 14, 15]);

/** How long after an attempt at the cards' own temperature limits the next one is made, ms, while some are unknown. */
const LIMITS_AGAIN_MS = 600_000;

/** The driver's list of its cards, kept by the kernel module: there even while the tool answers for none. */
const DRIVER_CARDS = '/proc/driver/nvidia/gpus';

/** Left of a look's time for putting the report together, ms, so that it tells how the tool ended. */
const REPORT_MS = 50;

const MOST_NOTES = 50;

/** Without it the driver is set up anew for each call: 24 to 30 s were seen against 2 (aks-gpu issue 105). */
const SLOW_NOTE = 'nvidia-smi can take half a minute without persistence mode (nvidia-persistenced, nvidia-smi -pm 1)';

/** The source `nvidia-smi`. */
export function createNvidiaSmi(options: NvidiaSmiOptions): Source {
  return new NvidiaSmi(options);
}

/** What the tool said in one run that came to an end. */
interface Said {
  readonly ok: true;
  readonly status: number;
  readonly answer: QueryAnswer;
}

class NvidiaSmi implements Source {
  readonly id = 'nvidia-smi';
  readonly node: string;
  readonly carriesHeat = true;
  readonly #clock: Clock;
  readonly #command: BoundedCommand;
  readonly #sysfs: Sysfs;
  /** What this driver knows of {@link ALL_FIELDS}, as far as it has been learnt. */
  #fields: readonly string[] = ALL_FIELDS;
  /** The cards of the last answer, by id, read or not: whom to ask for when the tool answers for none. */
  #met: ReadonlyMap<string, GpuSighting> = new Map();
  readonly #temperatureLimits = new Map<string, TemperatureLimits>();
  #limitsAskedAtMs = -Infinity;
  readonly #joinedLook = joined((startedAtMs: number, deadlineMs: number) => this.#look(startedAtMs, deadlineMs));

  constructor({ node, clock, env, command = 'nvidia-smi', root = '/', launch }: NvidiaSmiOptions) {
    this.node = node;
    this.#clock = clock;
    this.#command = new BoundedCommand({ clock, command, env, ...(launch && { launch }) });
    this.#sysfs = new Sysfs({ clock, root });
  }

  async read(deadlineMs: number): Promise<SourceReport> {
    const startedAtMs = this.#nowMs();
    // A look that is joined may have a later deadline than this caller's.
    const report = await withDeadline(
      this.#clock,
      deadlineMs - startedAtMs,
      this.#joinedLook(startedAtMs, deadlineMs - REPORT_MS),
    );
    if (report !== TIMED_OUT) return report;
    const allowedMs = Math.max(0, Math.round(deadlineMs - startedAtMs));
    return this.#failed(startedAtMs, 'timeout', `Cannot run nvidia-smi: it did not answer within ${allowedMs} ms`);
  }

  async close(): Promise<void> {
    this.#command.close();
  }

  async #look(startedAtMs: number, deadlineMs: number): Promise<SourceReport> {
    const asked = await this.#ask([], deadlineMs);
    if (!asked.ok) {
      if (asked.cause !== 'not-installed') return this.#failed(startedAtMs, asked.cause, asked.detail);
      const note = 'nvidia-smi is not installed: no NVIDIA driver here, or not on the PATH; the PCI bus tells of cards';
      return { ...this.#frame(startedAtMs), outcome: { kind: 'answered' }, notes: [note] };
    }
    const { status, answer } = asked;
    const cards = new Map<string, Card>();
    addCards(cards, trustedCards(asked));
    if (answer.faults.length > 0) await this.#askOneByOne(cards, answer.faults, deadlineMs);
    if (cards.size === 0) {
      const isSilent = status === 0 && answer.remarks.length === 0 && answer.faults.length === 0;
      return this.#failed(startedAtMs, isSilent ? 'empty' : 'failed', explainFailure(status, answer));
    }
    this.#met = new Map([...cards.values()].map(({ sighting }) => [sighting.id, sighting]));
    const limitsNote = await this.#readTemperatureLimits([...cards.values()], deadlineMs);
    const trouble = [...answer.faults.map(({ text }) => text), ...answer.remarks];
    const unknownFields = ALL_FIELDS.filter((field) => !this.#fields.includes(field));
    const notes = [
      `nvidia-smi tells of ${cards.size} GPUs`,
      ...trouble.map((text) => `nvidia-smi says: ${text}`),
      ...(unknownFields.length > 0 ? [`this driver does not know: ${unknownFields.join(', ')}`] : []),
      ...limitsNote,
    ];
    return {
      ...this.#frame(startedAtMs),
      outcome: { kind: 'answered' },
      readings: [...cards.values()].flatMap((card) => card.readings),
      gpus: [...cards.values()].map((card) => card.sighting),
      gpuSigns: answer.faults.map(({ text }) => ({ kind: 'nvidia-smi-failed', detail: text })),
      throttledGpus: [...cards].flatMap(([gpu, { throttle }]) =>
        throttle === undefined ? [] : { gpu, reason: throttle },
      ),
      hardwareLimits: [...cards.values()].map((card) => this.#limitsOf(card)),
      notes: notes.slice(0, MOST_NOTES),
    };
  }

  /** One question; again without the field that the driver refuses, and what it refused is not asked any more. */
  async #ask(selection: readonly string[], deadlineMs: number): Promise<Said | CommandFailure> {
    for (let refusals = 0; ; refusals++) {
      const fields = refusals < MOST_REFUSALS ? this.#fields : CORE_FIELDS;
      const query = [...selection, `--query-gpu=${fields.join(',')}`, '--format=csv,noheader,nounits'];
      const exit = await this.#command.run(query, deadlineMs);
      if (!exit.ok) return exit;
      const answer = parseQuery(exit, fields);
      const isRefused = answer.cards.length === 0 && (answer.rejectedField !== undefined || exit.status === 2);
      if (!isRefused || fields === CORE_FIELDS) return { ok: true, status: exit.status, answer };
      this.#fields = withoutField(fields, answer.rejectedField);
    }
  }

  /**
   * With one card lost, the tool may answer for none: each other card is asked for by its own name, within what is left
   * of the time. What then still has no row is there and unreadable.
   */
  async #askOneByOne(cards: Map<string, Card>, faults: readonly CardFault[], deadlineMs: number): Promise<void> {
    for (const { pciAddress, text } of faults) {
      if (pciAddress !== undefined) addCards(cards, [unreadCard(this.#sightingOf(pciAddress), 'unreadable', text)]);
    }
    const others = (await this.#cardsOfDriver(deadlineMs)).filter((sighting) => !isAmong(cards, sighting));
    let giveUp: string | undefined;
    for (const [place, sighting] of others.entries()) {
      let why = giveUp;
      if (why === undefined) {
        // An equal part of the time for each, so that one that hangs does not take it all.
        const partMs = (deadlineMs - this.#nowMs()) / (others.length - place);
        const asked = await this.#ask(['-i', sighting.uuid ?? sighting.id], this.#nowMs() + partMs);
        if (asked.ok) {
          addCards(cards, trustedCards(asked));
          why = explainFailure(asked.status, asked.answer);
        } else {
          why = asked.detail;
          if (asked.cause === 'unkillable') giveUp = why;
        }
      }
      if (!isAmong(cards, sighting)) addCards(cards, [unreadCard(sighting, 'unreadable', why)]);
    }
  }

  /** Every card of the last answer and every one that the driver lists. */
  async #cardsOfDriver(deadlineMs: number): Promise<GpuSighting[]> {
    const listed = await withDeadline(this.#clock, deadlineMs - this.#nowMs(), this.#sysfs.list(DRIVER_CARDS));
    const sightings = new Map(this.#met);
    for (const name of listed !== TIMED_OUT && listed.ok ? listed.value : []) {
      const address = canonicalPciAddress(name);
      if (address === null) continue;
      const sighting = this.#sightingOf(address);
      sightings.set(sighting.id, sighting);
    }
    return [...sightings.values()];
  }

  #sightingOf(pciAddress: string): GpuSighting {
    const met = [...this.#met.values()].find((sighting) => sighting.pciAddress === pciAddress);
    return met ?? sightingAt(pciAddress);
  }

  /** Once per card, since they are burnt in; a driver that fails to tell them is asked again rarely. */
  async #readTemperatureLimits(cards: readonly Card[], deadlineMs: number): Promise<string[]> {
    const isAnyUnknown = cards.some(({ sighting }) => !this.#temperatureLimits.has(sighting.pciAddress ?? ''));
    const nowMs = this.#nowMs();
    if (!isAnyUnknown || nowMs - this.#limitsAskedAtMs < LIMITS_AGAIN_MS) return [];
    this.#limitsAskedAtMs = nowMs;
    const exit = await this.#command.run(['-q', '-d', 'TEMPERATURE'], deadlineMs);
    if (!exit.ok) return [`the cards' own slowdown temperatures were not read: ${exit.detail}`];
    for (const [address, limits] of parseTemperatureLimits(exit.stdout)) this.#temperatureLimits.set(address, limits);
    return [];
  }

  #limitsOf({ limits, sighting }: Card): HardwareLimits {
    return { ...limits, ...this.#temperatureLimits.get(sighting.pciAddress ?? '') };
  }

  #failed(startedAtMs: number, cause: FailureCause, detail: string): SourceReport {
    return {
      ...this.#frame(startedAtMs),
      outcome: { kind: 'failed', cause, detail },
      gpuSigns: [{ kind: 'nvidia-smi-failed', detail }],
      notes: cause === 'timeout' ? [SLOW_NOTE] : [],
    };
  }

  #frame(startedAtMs: number): Omit<SourceReport, 'outcome'> {
    return { ...EMPTY_REPORT, source: this.id, node: this.node, startedAtMs, finishedAtMs: this.#nowMs() };
  }

  #nowMs(): number {
    return this.#clock.now().elapsedMs;
  }
}

/** No rows of a tool that failed for a reason of its own. */
function trustedCards({ status, answer }: Said): readonly Card[] {
  return ROWS_COUNT_WITH_STATUS.has(status) || answer.faults.length > 0 ? answer.cards : [];
}

/** By id, or by its place on the bus where its UUID was not known before. */
function isAmong(cards: ReadonlyMap<string, Card>, { id, pciAddress }: GpuSighting): boolean {
  if (cards.has(id)) return true;
  return pciAddress !== undefined && [...cards.values()].some(({ sighting }) => sighting.pciAddress === pciAddress);
}

function addCards(cards: Map<string, Card>, more: readonly Card[]): void {
  for (const card of more) cards.set(card.sighting.id, card);
}
