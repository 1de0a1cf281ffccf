// What the whole machine draws, as its BMC tells: `ipmitool dcmi power reading`, where the tool is installed and there
// is a BMC. BMCs are slow (answers took 30 to 50 s), so no round waits for one: a call goes on by itself, and until it
// ends the last answer is given again with its own time, from which the domain takes how old it is. At most one call is
// under way, and one begins every ten seconds. The output is read strictly: anything else than a whole number of watts
// in a whole answer is no number. Only the BMC of this machine is asked.
import { type Clock, TIMED_OUT, withDeadline } from '../clock.ts';
import { EMPTY_REPORT, type MissingCause, type RawReading, type SourceReport } from '../domain/reading.ts';
import {
  BoundedCommand,
  type CommandAnswer,
  type CommandExit,
  type CommandFailure,
  type Launch,
} from './bounded-command.ts';
import type { Source } from './source.ts';

export interface IpmiDcmiOptions {
  readonly node: string;
  readonly clock: Clock;
  /** The child's environment, with the `PATH` that the tool is looked up on. */
  readonly env: NodeJS.ProcessEnv;
  /** Default `ipmitool`. */
  readonly command?: string;
  readonly launch?: Launch;
}

/** Before every other measurement but one that somebody configured (rank 1); the lowest wins. */
const DCMI_RANK = 2;
/**
 * A call begins at most this often. Somewhat under a tick of 10 s, so that a tick that is a little early has its call.
 */
const CALL_EVERY_MS = 9_500;
/** Where there is no tool, no BMC or no measurement; a driver may still be loaded, a tool installed later. */
const LOOK_AGAIN_MS = 300_000;
/** A call over the BMC's own bus may take 30 to 50 s; then it is taken to hang. */
const CALL_TIMEOUT_MS = 60_000;
/**
 * A healthy BMC answers in well under a second: so long a round waits, that its reading is of now and not of the last.
 */
const PATIENCE_MS = 1_000;
/** The BMC knows no such command (c1), or not with these data (cc): it has no DCMI power measurement. */
const NEVER_CODES: ReadonlySet<string> = new Set(['c1', 'cc']);
const ORIGIN_LENGTH = 120;

/** The source `ipmi-dcmi`. */
export function createIpmiDcmi(options: IpmiDcmiOptions): Source {
  return new IpmiDcmi(options);
}

/** How a call ended: with a reading, present or not, or in failure. */
type Result =
  | {
      readonly kind: 'answered';
      readonly reading: RawReading;
      readonly notes: readonly string[];
      readonly isWorthAsking: boolean;
    }
  | { readonly kind: 'failed'; readonly failure: CommandFailure };

class IpmiDcmi implements Source {
  readonly id = 'ipmi-dcmi';
  readonly node: string;
  /** Too slow for a look every 2 s. */
  readonly carriesHeat = false;
  readonly #clock: Clock;
  readonly #command: BoundedCommand;
  #last: Result | undefined;
  #callUnderWay: Promise<void> | undefined;
  #calledAtMs = -Infinity;

  constructor({ node, clock, env, command = 'ipmitool', launch }: IpmiDcmiOptions) {
    this.node = node;
    this.#clock = clock;
    this.#command = new BoundedCommand({ clock, command, env, ...(launch && { launch }) });
  }

  async read(deadlineMs: number): Promise<SourceReport> {
    const startedAtMs = this.#nowMs();
    const everyMs = this.#last?.kind === 'answered' && !this.#last.isWorthAsking ? LOOK_AGAIN_MS : CALL_EVERY_MS;
    if (!this.#callUnderWay && startedAtMs - this.#calledAtMs >= everyMs) {
      this.#callUnderWay = this.#call(startedAtMs).finally(() => {
        this.#callUnderWay = undefined;
      });
    }
    const waitMs = Math.min(PATIENCE_MS, deadlineMs - startedAtMs);
    const isSlow = this.#callUnderWay && (await withDeadline(this.#clock, waitMs, this.#callUnderWay)) === TIMED_OUT;
    return this.#report(startedAtMs, isSlow === true);
  }

  async close(): Promise<void> {
    this.#command.close();
  }

  async #call(startedAtMs: number): Promise<void> {
    this.#calledAtMs = startedAtMs;
    const answer = await this.#command.run(['dcmi', 'power', 'reading'], startedAtMs + CALL_TIMEOUT_MS);
    this.#last = resultOf(answer, startedAtMs);
  }

  #report(startedAtMs: number, isSlow: boolean): SourceReport {
    const finishedAtMs = this.#nowMs();
    const frame = { ...EMPTY_REPORT, source: this.id, node: this.node, startedAtMs, finishedAtMs };
    const seconds = Math.round((finishedAtMs - this.#calledAtMs) / 1000);
    const slow = isSlow ? [`Total power: the BMC has not answered for ${seconds} s; its last answer stands`] : [];
    if (!this.#last) {
      const reading = missing('not-yet-read', `the BMC has not answered its first question for ${seconds} s`);
      return { ...frame, outcome: { kind: 'answered' }, readings: [reading], notes: slow };
    }
    if (this.#last.kind === 'failed') {
      const { cause, detail } = this.#last.failure;
      return { ...frame, outcome: { kind: 'failed', cause, detail }, notes: slow };
    }
    const { reading, notes } = this.#last;
    return { ...frame, outcome: { kind: 'answered' }, readings: [reading], notes: [...notes, ...slow] };
  }

  #nowMs(): number {
    return this.#clock.now().elapsedMs;
  }
}

/** A tool that is not installed has answered the question: there is nothing to be had here. */
function resultOf(answer: CommandAnswer, startedAtMs: number): Result {
  if (answer.ok) return parseExit(answer, startedAtMs);
  if (answer.cause !== 'not-installed') return { kind: 'failed', failure: answer };
  const note = 'Total power: ipmitool is not installed, or not on the PATH: a BMC, if there is one, is not asked';
  return nothingThere(missing('no-sensor', 'ipmitool is not installed'), note);
}

/**
 * What a run of `ipmitool dcmi power reading` says. A reading is as old as the run's start: nobody tells when in
 * between the BMC measured. Its status says little: the tool ends with 0 when the BMC refuses, too.
 *
 * @example
 * // "    Instantaneous power reading:                   220 Watts" and "… reading state is:    activated" give 220.
 */
function parseExit({ status, stdout, stderr }: CommandExit, startedAtMs: number): Result {
  const refusal = explainRefusal(`${stderr} ${stdout}`.replace(/\s+/g, ' ').trim());
  if (refusal) return refusal;
  if (status !== 0) return failed(`it ended with status ${status}: ${firstWords(stderr) || firstWords(stdout)}`);
  const number = /^\s*Instantaneous power reading\s*:\s*(\S+) +Watts\s*$/m.exec(stdout)?.[1];
  const state = /^\s*Power reading state is\s*:\s*(\S+)\s*$/m.exec(stdout)?.[1];
  // The state comes last: without it the answer was cut.
  if (number === undefined || state === undefined) {
    return answered(missing('invalid', `ipmitool gave no power reading: "${firstWords(stdout)}"`), startedAtMs);
  }
  if (!/^\d{1,6}$/.test(number)) {
    return answered(missing('invalid', `ipmitool says "${number.slice(0, 40)}" where watts belong`), startedAtMs);
  }
  const reading = { component: 'system', quantity: 'total-power', value: Number(number), rank: DCMI_RANK } as const;
  const origin = 'BMC, ipmitool dcmi power reading, instantaneous';
  if (state === 'activated') return answered({ ...reading, origin }, startedAtMs);
  // By the standard such a number may be anything, yet OpenBMC gives true ones this way. Called an estimate it can warn
  // and stop, and satisfies no requirement.
  return answered({ ...reading, origin: `${origin}; the BMC calls it ${state}`, estimated: true }, startedAtMs);
}

/** What the tool says instead of a reading, where that is understood. */
function explainRefusal(text: string): Result | undefined {
  if (/could not open device at .*no such file or directory/i.test(text)) {
    const why = 'no BMC, or its drivers ipmi_si and ipmi_devintf are not loaded';
    return nothingThere(missing('no-sensor', `no BMC device /dev/ipmi0: ${why}`), `Total power: no /dev/ipmi0: ${why}`);
  }
  if (/could not open device at .*permission denied/i.test(text)) {
    const why = '/dev/ipmi0: permission denied: run as root, or give this user the device';
    return nothingThere(missing('unreadable', why), `Total power: ${why}`);
  }
  const [, words = '', code = ''] = /DCMI request failed because: (.{0,100}?) ?\(([0-9a-f]{2})\)/i.exec(text) ?? [];
  if (NEVER_CODES.has(code.toLowerCase())) {
    const why = `the BMC measures no power: it refuses with "${words}" (${code})`;
    return nothingThere(missing('not-supported', why), `Total power: ${why}`);
  }
  return code === '' ? undefined : failed(`the BMC refuses with "${words}" (${code})`);
}

function answered(reading: RawReading, startedAtMs: number): Result {
  return { kind: 'answered', reading: { ...reading, sampledAtMs: startedAtMs }, notes: [], isWorthAsking: true };
}

function nothingThere(reading: RawReading, note: string): Result {
  return { kind: 'answered', reading, notes: [note], isWorthAsking: false };
}

function failed(why: string): Result {
  return { kind: 'failed', failure: { ok: false, cause: 'failed', detail: `Cannot read power by ipmitool: ${why}` } };
}

function firstWords(text: string): string {
  return text.replace(/\s+/g, ' ').trim().slice(0, 60);
}

function missing(cause: MissingCause, detail: string): RawReading {
  const origin = detail.length <= ORIGIN_LENGTH ? detail : `${detail.slice(0, ORIGIN_LENGTH - 1)}…`;
  return { component: 'system', quantity: 'total-power', value: null, cause, origin, rank: DCMI_RANK };
}
