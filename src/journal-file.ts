// The journal's file, `journal.jsonl`: appends changes to it and keeps it small.
//
// An append is acknowledged once it is on the disk (fdatasync). Appends that arrive during a sync share the next one.
// A disk that fails is a value, and what it did not take is owed: it goes before the next append, from the last good
// byte on, or is tried again by itself, since a trip that met a full disk must not be missing after the next restart.
// When most of the file is history, it is replaced by a snapshot of the live keys. Reading is left to journal.ts.
import { join } from 'node:path';
import { type Clock, TIMED_OUT, withDeadline } from './clock.ts';
import { type DurableFiles, diskFiles, errorCode, errorText, replaceFile, writeAll } from './durable-files.ts';
import {
  applyChange,
  type ChangeText,
  changeJson,
  changeText,
  type Damage,
  encodeLines,
  encodeSnapshot,
  JOURNAL_VERSION,
  type JournalChange,
  LINE_FRAME_BYTES,
  type Lines,
  type LiveKeys,
  mergeChanges,
} from './journal-record.ts';

export const JOURNAL_FILE = 'journal.jsonl';

/**
 * `ok`: on the disk, as is every change before it that was not refused. Otherwise a code. Where it is the disk's
 * (`ENOSPC`, `EROFS`, `EIO`…) or `timed-out`, the change is not durable now, and will be once the disk takes writes
 * again. With `queue-full`, `too-large`, `not-json` and `closed` it was refused and is not kept.
 */
export type AppendOutcome = { readonly ok: true } | FailedAppend;

export interface FailedAppend {
  readonly ok: false;
  readonly code: string;
  readonly detail: string;
}

export interface JournalHealth {
  /** All that was handed in and tried is on the disk, and nothing is overdue. */
  readonly ok: boolean;
  /** The last failure of an append or a compaction since the start, with its ISO wall time. */
  readonly lastError: { readonly at: string; readonly detail: string } | null;
  readonly sizeBytes: number;
  /** Acknowledged since the start. */
  readonly appends: number;
  /** Handed in and not yet answered by the disk. */
  readonly pending: number;
}

export interface Journal {
  /**
   * Resolves once the change is durable, or with the reason why not, at the latest after 5 s; never rejects. Changes
   * reach the file in the order of the calls. `urgent` (a trip): where the disk is idle the bytes are in the page cache
   * when this returns, so that not even a `kill -9` of this process loses them; where a write is under way it waits in
   * line, since a second write to a hung disk would stop the event loop.
   */
  append(change: JournalChange, options?: { readonly urgent?: boolean }): Promise<AppendOutcome>;
  health(): JournalHealth;
  /** Calls `listener` whenever `health().ok` has changed: also when a retry succeeds while nobody appends. */
  onHealthChange(listener: (health: JournalHealth) => void): void;
  /** Takes no more appends and resolves when the last is through: as long as the disk takes, so bound it outside. */
  close(): Promise<void>;
}

/** An append that is not durable by then is answered `timed-out`; nobody waits longer for a hung disk. */
const APPEND_DEADLINE_MS = 5_000;
/** What the disk did not take is tried again at this pace, appends or not. */
const RETRY_MS = 5_000;
/** Bounds of what waits for a slow disk, and of one record (a record is a few hundred bytes; a stop report some 100 KiB). */
const MAX_PENDING = 10_000;
const MAX_PENDING_BYTES = 32 * 1024 * 1024;
const MAX_RECORD_BYTES = 1024 * 1024;
/** The part of these that is not kept free for urgent records. */
const NOT_URGENT_SHARE = 0.9;
/** Where compaction keeps failing, the file grows to this; above it an append needs a compaction that succeeds. */
const MAX_FILE_BYTES = 256 * 1024 * 1024;
/** Compaction starts above this and above four times the snapshot, so that it costs a third of the writing at most. */
const COMPACT_FROM_BYTES = 1024 * 1024;
const COMPACT_FACTOR = 4;

export interface JournalFileOptions {
  /** The state folder, absolute. */
  readonly folder: string;
  readonly clock: Clock;
  /** For the header: which version of the product began the file. */
  readonly productVersion: string;
  /** For tests that fail or crash the disk. */
  readonly files?: DurableFiles;
}

/** What was found of a file that can be read. */
export interface ReadFile {
  readonly version: number;
  readonly goodBytes: number;
  readonly fileBytes: number;
  /** Of the last good record: what the next one begins with. */
  readonly checksum: number;
}

export const isoTime = (clock: Clock): string => new Date(clock.now().wallMs).toISOString();

interface PendingAppend {
  readonly json: string;
  readonly lineBytes: number;
  readonly text: ChangeText;
  readonly why: string;
  /** Already in the file by `writeNow`, only to be synced. */
  readonly isWritten: boolean;
  readonly settle: (outcome: AppendOutcome) => void;
}

export class FileJournal implements Journal {
  readonly #options: JournalFileOptions;
  readonly #files: DurableFiles;
  readonly #path: string;
  /** The acknowledged keys. */
  readonly #live: LiveKeys;
  #damage: Damage | null;
  #isFileInTheWay: boolean;

  /** null: no file that takes appends; the next attempt writes a new one from the live keys. */
  #fd: number | null = null;
  /** Bytes of acknowledged records: where the next one goes. */
  #sizeBytes = 0;
  /** Of the last of them. */
  #checksum = 0;
  /** There may be bytes of a failed write behind `#sizeBytes`. */
  #hasTornTail = false;
  /** A rename is not yet known to be on the disk: until it is, an append to the new file could vanish with it. */
  #owesFolderSync = false;
  #compactAboveBytes = COMPACT_FROM_BYTES;

  #queue: PendingAppend[] = [];
  /** Handed in and not settled, in the queue and in the write under way. */
  #pending = 0;
  #pendingBytes = 0;
  #isBusy = false;
  #draining: Promise<void> = Promise.resolve();
  /** What the disk did not take, as one change; null: nothing. */
  #owed: ChangeText | null = null;
  #cancelRetry: () => void = () => undefined;
  #isClosed = false;
  #appends = 0;
  #isOk = true;
  #lastError: JournalHealth['lastError'] = null;
  readonly #listeners: ((health: JournalHealth) => void)[] = [];

  constructor(options: JournalFileOptions, live: LiveKeys, damage: Damage | null, isFileInTheWay: boolean) {
    this.#options = options;
    this.#files = options.files ?? diskFiles;
    this.#path = join(options.folder, JOURNAL_FILE);
    this.#live = live;
    this.#damage = damage;
    this.#isFileInTheWay = isFileInTheWay;
  }

  /** A damaged file is still to be moved to `damage.keptAside` before a new one may take its place. */
  get isFileInTheWay(): boolean {
    return this.#isFileInTheWay;
  }

  /** Makes the file ready for appends, from `found` where it may go on; gives what went wrong, or null. */
  async begin(found?: ReadFile): Promise<string | null> {
    try {
      if (found?.version === JOURNAL_VERSION) {
        this.#sizeBytes = found.goodBytes;
        this.#checksum = found.checksum;
        this.#hasTornTail = found.fileBytes > found.goodBytes;
        this.#fd = await this.#files.open(this.#path, 'update');
        this.#compactAboveBytes = compactAbove(this.#snapshot().bytes.length);
        await this.#compactIfLarge();
      } else {
        await this.#makeWritable();
      }
      return null;
    } catch (error) {
      this.#retryLater();
      return this.#fail(`Cannot open ${this.#path} for writing`, error).detail;
    }
  }

  append(change: JournalChange, { urgent = false } = {}): Promise<AppendOutcome> {
    const prepared = this.#prepare(change, urgent);
    if ('ok' in prepared) return Promise.resolve(prepared);
    const { json, lineBytes } = prepared;
    const durable = new Promise<AppendOutcome>((resolve) => {
      this.#pending += 1;
      this.#pendingBytes += lineBytes;
      const settle = (outcome: AppendOutcome): void => {
        this.#pending -= 1;
        this.#pendingBytes -= lineBytes;
        resolve(outcome);
      };
      this.#queue.push({ ...prepared, why: change.why, isWritten: urgent && this.#writeAtOnce(json), settle });
      if (!this.#isBusy) this.#draining = this.#drain();
    });
    return this.#bounded(durable, change.why);
  }

  health(): JournalHealth {
    return {
      ok: this.#isOk,
      lastError: this.#lastError,
      sizeBytes: this.#sizeBytes,
      appends: this.#appends,
      pending: this.#pending,
    };
  }

  onHealthChange(listener: (health: JournalHealth) => void): void {
    this.#listeners.push(listener);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#draining;
    if (this.#owed) await this.#drain(); // the last chance
    this.#cancelRetry();
    const fd = this.#fd;
    this.#fd = null;
    if (fd !== null) await this.#files.close(fd).catch(() => undefined); // all that counts is synced
  }

  #prepare(
    change: JournalChange,
    urgent: boolean,
  ): { readonly text: ChangeText; readonly json: string; readonly lineBytes: number } | FailedAppend {
    const deed = `Cannot record "${change.why}"`;
    const refuse = (code: string, reason: string): FailedAppend => ({ ok: false, code, detail: `${deed}: ${reason}` });
    if (this.#isClosed) return refuse('closed', 'the journal is closed');
    const text = changeText(change);
    if (!text) return refuse('not-json', 'a value has no JSON form');
    const json = changeJson(text, change.why, isoTime(this.#options.clock));
    const lineBytes = Buffer.byteLength(json) + LINE_FRAME_BYTES;
    if (lineBytes > MAX_RECORD_BYTES) {
      return refuse('too-large', `the record has ${lineBytes} bytes, at most ${MAX_RECORD_BYTES} are taken`);
    }
    const share = urgent ? 1 : NOT_URGENT_SHARE;
    const [most, mostBytes] = [share * MAX_PENDING, Math.floor(share * MAX_PENDING_BYTES)];
    if (this.#pending >= most || this.#pendingBytes + lineBytes > mostBytes) {
      const waiting = `${this.#pending} records (${this.#pendingBytes} bytes) wait for the disk`;
      return refuse('queue-full', `${waiting}, at most ${most} (${mostBytes} bytes) may`);
    }
    return { text, json, lineBytes };
  }

  async #bounded(durable: Promise<AppendOutcome>, why: string): Promise<AppendOutcome> {
    const { clock } = this.#options;
    const outcome = await withDeadline(clock, APPEND_DEADLINE_MS, durable);
    if (outcome !== TIMED_OUT) return outcome;
    const error = Object.assign(new Error(`not on the disk after ${APPEND_DEADLINE_MS} ms`), { code: 'timed-out' });
    return this.#fail(`Cannot record "${why}" in ${this.#path}`, error);
  }

  /** Puts an urgent record into the page cache now, if that cannot wait for anything; false: all of it has to queue. */
  #writeAtOnce(json: string): boolean {
    const fd = this.#fd;
    if (fd === null || this.#isBusy || this.#owed || this.#hasTornTail || this.#isOverfull) return false;
    const { bytes } = encodeLines([json], this.#checksum);
    try {
      return this.#files.writeNow(fd, bytes, this.#sizeBytes) === bytes.length;
    } catch {
      return false; // the queued attempt that follows meets the same disk, and reports it
    }
  }

  async #drain(): Promise<void> {
    this.#isBusy = true;
    do {
      const batch = this.#queue;
      this.#queue = [];
      const outcome = await this.#record(batch);
      for (const append of batch) append.settle(outcome);
      await this.#compactIfLarge();
    } while (this.#queue.length > 0);
    this.#isBusy = false;
    if (!this.#isOk) this.#retryLater();
  }

  #retryLater(): void {
    this.#cancelRetry();
    this.#cancelRetry = this.#options.clock.after(RETRY_MS, () => {
      if (!this.#isOk && !this.#isBusy && !this.#isClosed) this.#draining = this.#drain();
    });
  }

  /** One write and one sync for the whole batch and what is owed from before. */
  async #record(batch: readonly PendingAppend[]): Promise<AppendOutcome> {
    const whys = batch.map(({ why }) => `"${why}"`).slice(0, 5);
    const late = this.#owed ? [changeJson(this.#owed, 'written late', isoTime(this.#options.clock))] : [];
    const jsons = [...late, ...batch.map(({ json }) => json)];
    // What was written at once is the first of its batch, and nothing is owed: it found the disk idle and well.
    const written = batch.reduce((sum, append) => sum + (append.isWritten ? append.lineBytes : 0), 0);
    const changes = [...(this.#owed ? [this.#owed] : []), ...batch.map(({ text }) => text)];
    let lines: Lines;
    try {
      const fd = await this.#makeWritable();
      // Only now is it known which line they follow.
      lines = encodeLines(jsons, this.#checksum);
      const { bytes } = lines;
      await writeAll(this.#files, fd, bytes.subarray(written), this.#sizeBytes + written);
      await this.#files.datasync(fd);
    } catch (error) {
      this.#hasTornTail = true;
      if (changes.length > 0) this.#owed = mergeChanges(this.#live, changes);
      return this.#fail(`Cannot record ${whys.join(', ') || 'what is owed'} in ${this.#path}`, error);
    }
    this.#sizeBytes += lines.bytes.length;
    this.#checksum = lines.checksum;
    for (const change of changes) applyChange(this.#live, change);
    this.#owed = null;
    if (changes.length > 0) this.#damage = null;
    this.#appends += batch.length;
    this.#setOk(true);
    return { ok: true };
  }

  /** The descriptor, once the file takes appends at `#sizeBytes` and is sure to be found there after a power cut. */
  async #makeWritable(): Promise<number> {
    let fd = this.#fd;
    if (fd === null || this.#isOverfull) {
      fd = await this.#rewrite();
    } else if (this.#hasTornTail) {
      await this.#files.truncate(fd, this.#sizeBytes);
      await this.#files.datasync(fd); // or the old tail could come back behind the new record
      this.#hasTornTail = false;
    }
    if (this.#owesFolderSync) {
      await this.#files.syncFolder(this.#options.folder);
      this.#owesFolderSync = false;
    }
    return fd;
  }

  /** Replaces the file by a snapshot of the live keys; on failure what was there stays in use. */
  async #rewrite(): Promise<number> {
    if (this.#isFileInTheWay && this.#damage?.keptAside) {
      await this.#files.rename(this.#path, this.#damage.keptAside);
      this.#isFileInTheWay = false;
    }
    const { bytes, checksum } = this.#snapshot();
    const fd = await replaceFile(this.#files, this.#path, bytes);
    const old = this.#fd;
    this.#fd = fd;
    this.#sizeBytes = bytes.length;
    this.#checksum = checksum;
    this.#hasTornTail = false;
    this.#owesFolderSync = true;
    this.#compactAboveBytes = compactAbove(bytes.length);
    if (old !== null) await this.#files.close(old).catch(() => undefined); // its name is gone already
    return fd;
  }

  async #compactIfLarge(): Promise<void> {
    if (this.#fd === null || this.#sizeBytes <= this.#compactAboveBytes) return;
    try {
      await this.#rewrite();
      await this.#makeWritable();
    } catch (error) {
      this.#note(`Cannot compact ${this.#path} (${this.#sizeBytes} bytes): ${errorText(error)}`);
      this.#compactAboveBytes = this.#sizeBytes + COMPACT_FROM_BYTES;
    }
  }

  get #isOverfull(): boolean {
    return this.#sizeBytes > MAX_FILE_BYTES;
  }

  #snapshot(): Lines {
    const { productVersion, clock } = this.#options;
    return encodeSnapshot(this.#live, this.#damage, productVersion, isoTime(clock));
  }

  #fail(deed: string, error: unknown): FailedAppend {
    const detail = `${deed}: ${errorText(error)}`;
    this.#note(detail);
    this.#setOk(false);
    return { ok: false, code: errorCode(error), detail };
  }

  #setOk(isOk: boolean): void {
    if (this.#isOk === isOk) return;
    this.#isOk = isOk;
    // In a turn of its own: a listener that throws must not tear the write loop.
    queueMicrotask(() => {
      for (const listener of this.#listeners) listener(this.health());
    });
  }

  #note(detail: string): void {
    this.#lastError = { at: isoTime(this.#options.clock), detail };
  }
}

const compactAbove = (snapshotBytes: number): number => Math.max(COMPACT_FROM_BYTES, COMPACT_FACTOR * snapshotBytes);
