// Small files of /proc and /sys, read without ever waiting for the kernel. A sensor file is a call into a driver: it may
// answer with an error (ENODATA, EINVAL, EAGAIN), with nothing, or never. Each read therefore has a deadline, and one
// that did not come back is remembered: it keeps a thread of Node's pool of four until the driver lets go, and four of
// them would stop every file, name look-up and journal write of the process. So files are read one after the other,
// nothing further is asked of a driver that hangs, and after two hung reads nothing further is opened at all.
// What the numbers mean is left to those who ask. All paths are absolute and taken below `root`, so that a captured
// tree can stand for a machine.
import { open, readdir, realpath } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { type Clock, TIMED_OUT, withDeadline } from '../clock.ts';

/** Why a file gave no value. */
export interface FileFailure {
  readonly ok: false;
  /** The kernel's errno name (`ENODATA`, `ENOENT`, …), or `empty`, `too-large`, `not-a-number`, `hung`. */
  readonly code: string;
  /** For people: deed, path, reason. */
  readonly detail: string;
}

export type FileAnswer<T> = { readonly ok: true; readonly value: T } | FileFailure;

export interface SysfsOptions {
  readonly clock: Clock;
  /** Where `/proc` and `/sys` are found. Default `/`. */
  readonly root?: string;
  /** How long one read may take, ms. Default 1000, and a look at a whole machine has 5 s at most. */
  readonly readTimeoutMs?: number;
}

/** A sysfs attribute never exceeds one page. */
const PAGE_BYTES = 4096;

/** Half of Node's default thread pool: the other half must go on serving the rest of the process. */
const MOST_HUNG = 2;

interface HungRead {
  readonly path: string;
  /** The directory of the driver that hangs, with the root. */
  readonly place: string;
  readonly sinceMs: number;
}

/** Of the whole process, as the thread pool is: several sources read /sys, and the same driver would hang each of them. */
const hungReads = new Set<HungRead>();

/** The number that a file's text is: plain decimal digits with an optional sign, else `null` (`''`, `0x1F`, `1e5`, `NaN`). */
export function parseInteger(text: string): number | null {
  return /^[+-]?\d{1,20}$/.test(text) ? Number(text) : null;
}

/** Whether a failure only says that there is no such file or device (any more). */
export function isAbsent(failure: FileFailure): boolean {
  return failure.code === 'ENOENT' || failure.code === 'ENODEV';
}

export class Sysfs {
  readonly #clock: Clock;
  readonly #root: string;
  readonly #readTimeoutMs: number;
  #lastInTurn: Promise<unknown> = Promise.resolve();

  constructor({ clock, root = '/', readTimeoutMs = 1000 }: SysfsOptions) {
    this.#clock = clock;
    this.#root = root;
    this.#readTimeoutMs = readTimeoutMs;
  }

  /**
   * The text of a file without surrounding blanks; at most `maxBytes`, one page unless told. A file with nothing but
   * blanks is the failure `empty`: `Number('')` is 0, and a CPU at 0 °C would look cool.
   */
  readText(path: string, maxBytes: number = PAGE_BYTES): Promise<FileAnswer<string>> {
    return this.#inTurn(path, placeOf(path), () => readBounded(join(this.#root, path), path, maxBytes));
  }

  /** The decimal number in a file; anything else in it is the failure `not-a-number`, quoted in part. */
  async readInteger(path: string): Promise<FileAnswer<number>> {
    const text = await this.readText(path);
    if (!text.ok) return text;
    const value = parseInteger(text.value);
    if (value !== null) return { ok: true, value };
    const quoted = JSON.stringify(text.value.slice(0, 40));
    return { ok: false, code: 'not-a-number', detail: `Cannot read a number from ${path}: it says ${quoted}` };
  }

  /** The names in a directory, in natural order: `hwmon2` before `hwmon10`. */
  list(path: string): Promise<FileAnswer<string[]>> {
    return this.#inTurn(path, path, async () => {
      try {
        return { ok: true, value: (await readdir(join(this.#root, path))).sort(naturalOrder) };
      } catch (error) {
        return failureOf('list', path, error);
      }
    });
  }

  /** Where a link of /sys/class leads, as a path below `root`: the device, which keeps its place over reboots. */
  resolve(path: string): Promise<FileAnswer<string>> {
    return this.#inTurn(path, path, async () => {
      try {
        const target = relative(await realpath(this.#root), await realpath(join(this.#root, path)));
        return { ok: true, value: `/${target}` };
      } catch (error) {
        return failureOf('resolve', path, error);
      }
    });
  }

  /** One after the other, so that no file has two reads under way and a hung driver costs one thread. */
  #inTurn<T>(path: string, place: string, work: () => Promise<FileAnswer<T>>): Promise<FileAnswer<T>> {
    const mine = this.#lastInTurn.then(() => this.#bounded(path, join(this.#root, place), work));
    this.#lastInTurn = mine;
    return mine;
  }

  async #bounded<T>(path: string, place: string, work: () => Promise<FileAnswer<T>>): Promise<FileAnswer<T>> {
    const refusal = this.#refusal(path, place);
    if (refusal) return refusal;
    const sinceMs = this.#clock.now().elapsedMs;
    const answering = work();
    const answer = await withDeadline(this.#clock, this.#readTimeoutMs, answering);
    if (answer !== TIMED_OUT) return answer;
    const hung: HungRead = { path, place, sinceMs };
    hungReads.add(hung);
    void answering.then(() => hungReads.delete(hung));
    return { ok: false, code: 'hung', detail: `Cannot read ${path}: no answer within ${this.#readTimeoutMs} ms` };
  }

  #refusal(path: string, place: string): FileFailure | undefined {
    const hung = [...hungReads];
    const blocking = hung.find((other) => other.place === place) ?? (hung.length >= MOST_HUNG ? hung[0] : undefined);
    if (!blocking) return undefined;
    const seconds = ((this.#clock.now().elapsedMs - blocking.sinceMs) / 1000).toFixed(0);
    return {
      ok: false,
      code: 'hung',
      detail: `${path} not opened: ${blocking.path} has not answered for ${seconds} s`,
    };
  }
}

/** In /sys the files of one directory are one driver's; those of /proc have nothing to do with each other. */
function placeOf(path: string): string {
  return path.startsWith('/sys/') ? dirname(path) : path;
}

/** Orders names with numbers in them as people do. */
export const naturalOrder = new Intl.Collator('en', { numeric: true }).compare;

async function readBounded(file: string, path: string, maxBytes: number): Promise<FileAnswer<string>> {
  try {
    const handle = await open(file, 'r');
    try {
      const buffer = Buffer.alloc(maxBytes + 1);
      let length = 0;
      while (length < buffer.length) {
        const { bytesRead } = await handle.read(buffer, length, buffer.length - length, null);
        if (bytesRead === 0) break;
        length += bytesRead;
      }
      if (length > maxBytes) {
        return { ok: false, code: 'too-large', detail: `Cannot read ${path}: over ${maxBytes} bytes` };
      }
      const text = buffer.toString('utf8', 0, length).trim();
      return text === ''
        ? { ok: false, code: 'empty', detail: `Cannot read ${path}: it is empty` }
        : { ok: true, value: text };
    } finally {
      await handle.close();
    }
  } catch (error) {
    return failureOf('read', path, error);
  }
}

function failureOf(deed: string, path: string, error: unknown): FileFailure {
  const code = (error as NodeJS.ErrnoException).code ?? String(error);
  return { ok: false, code, detail: `Cannot ${deed} ${path}: ${code}` };
}
