// Who did what and why: one JSON line for each deed that changes what may run, in two files of the state folder that are
// never larger than a bound. It is for people who ask afterwards; the interlock lives by the journal alone. Nothing waits
// for it: what the disk does not take is kept in memory, tried again, and in the end dropped and counted.
import { constants } from 'node:fs';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from './clock.ts';
import { errorText } from './durable-files.ts';

export const AUDIT_DEEDS = [
  'stop',
  'drill',
  'reset',
  'restore',
  'forget',
  'simulate',
  'commission',
  'tokens-reloaded',
  'certificate-reloaded',
  'started',
  'entries-lost',
] as const;
export type AuditDeed = (typeof AUDIT_DEEDS)[number];

/** One deed, or one that was refused. What does not apply is left out. */
export interface AuditEntry {
  readonly deed: AuditDeed;
  readonly outcome: 'done' | 'refused' | 'failed';
  /** As leases and trips name somebody: `local`, `token:<12 hex>`, `kubernetes:<user>`, `alertmanager (…)`, `monitor`. */
  readonly by: string;
  readonly role?: string;
  /** Of the peer, which behind a proxy is the proxy's. */
  readonly address?: string;
  readonly reason?: string;
  /** HTTP status that was answered, with the problem's code. */
  readonly status?: number;
  readonly code?: string;
  readonly tripId?: string;
  /** It joined a trip that was on already. */
  readonly joined?: boolean;
  readonly nodes?: readonly string[];
  readonly gpu?: string;
  readonly dryRun?: boolean;
  readonly detail?: string;
  /** Entries like it that were left out before it, since there were too many. */
  readonly left?: number;
}

export interface AuditRecord extends AuditEntry {
  /** Wall clock. */
  readonly at: string;
}

export interface AuditHealth {
  readonly ok: boolean;
  readonly detail: string;
  /** Entries that never reached the disk, since the start. */
  readonly lost: number;
}

const FILE = 'audit.jsonl';
const EARLIER_FILE = 'audit.1.jsonl';
/** Some 15,000 deeds, and as many in the earlier file. */
const MOST_BYTES = 4 * 1024 * 1024;
const MOST_WAITING = 1_000;
const MOST_TEXT = 1_000;
const RETRY_MS = 10_000;

export class Audit {
  readonly #folder: string;
  readonly #clock: Clock;
  readonly #mostBytes: number;
  #waiting: string[] = [];
  #isWriting = false;
  #isTailKnown = false;
  #lost = 0;
  #lostUntold = 0;
  #failure: string | null = null;
  #cancelRetry: () => void = () => undefined;

  constructor(options: { readonly folder: string; readonly clock: Clock; readonly mostBytes?: number }) {
    this.#folder = options.folder;
    this.#clock = options.clock;
    this.#mostBytes = options.mostBytes ?? MOST_BYTES;
  }

  /** Takes one entry; returns at once, whatever the disk does. Texts are cut at 1,000 characters. */
  record(entry: AuditEntry): void {
    const record: AuditRecord = { at: new Date(this.#clock.now().wallMs).toISOString(), ...entry };
    this.#waiting.push(
      `${JSON.stringify(record, (_key, value) => (typeof value === 'string' ? value.slice(0, MOST_TEXT) : value))}\n`,
    );
    if (this.#waiting.length > MOST_WAITING) {
      this.#waiting.shift();
      this.#lost += 1;
      this.#lostUntold += 1;
    }
    if (this.#failure === null) void this.#drain();
  }

  health(): AuditHealth {
    return { ok: this.#failure === null, detail: this.#failure ?? '', lost: this.#lost };
  }

  /** Writes what waits; the caller has the deadline. */
  async close(): Promise<void> {
    this.#cancelRetry();
    await this.#drain();
    while (this.#isWriting) await this.#clock.sleep(1);
  }

  async #drain(): Promise<void> {
    if (this.#isWriting) return;
    this.#isWriting = true;
    this.#cancelRetry();
    try {
      while (this.#waiting.length > 0) {
        const lines = this.#waiting;
        this.#waiting = [];
        try {
          await this.#append(this.#withLost(lines).join(''));
          this.#failure = null;
          this.#lostUntold = 0;
        } catch (error) {
          this.#failure = `Cannot write ${join(this.#folder, FILE)}: ${errorText(error)}`;
          const all = [...lines, ...this.#waiting];
          this.#waiting = all.slice(-MOST_WAITING);
          this.#lost += all.length - this.#waiting.length;
          this.#lostUntold += all.length - this.#waiting.length;
          this.#cancelRetry = this.#clock.after(RETRY_MS, () => void this.#drain());
          return;
        }
      }
    } finally {
      this.#isWriting = false;
    }
  }

  /** A gap says that it is one. */
  #withLost(lines: readonly string[]): readonly string[] {
    if (this.#lostUntold === 0) return lines;
    const at = new Date(this.#clock.now().wallMs).toISOString();
    const gap: AuditRecord = { at, deed: 'entries-lost', outcome: 'failed', by: 'audit', left: this.#lostUntold };
    return [`${JSON.stringify(gap)}\n`, ...lines];
  }

  async #append(text: string): Promise<void> {
    const path = join(this.#folder, FILE);
    // Opened anew each time, so that a file that somebody moved away is no loss; a pipe or a link out of here is no file.
    const flags =
      constants.O_APPEND | constants.O_CREAT | constants.O_RDWR | constants.O_NOFOLLOW | constants.O_NONBLOCK;
    let file = await fs.open(path, flags, 0o600);
    try {
      const { size } = await file.stat();
      if (size > 0 && size + Buffer.byteLength(text) > this.#mostBytes) {
        await file.close();
        await fs.rename(path, join(this.#folder, EARLIER_FILE));
        file = await fs.open(path, flags, 0o600);
      }
      // A crash, or a disk that was full, may have left half a line.
      const isTorn = !this.#isTailKnown && (await endsTorn(file));
      this.#isTailKnown = false;
      await file.appendFile(isTorn ? `\n${text}` : text);
      await file.datasync();
      this.#isTailKnown = true;
    } finally {
      await file.close().catch(() => undefined);
    }
  }
}

async function endsTorn(file: fs.FileHandle): Promise<boolean> {
  const { size } = await file.stat();
  if (size === 0) return false;
  const { bytesRead, buffer } = await file.read(Buffer.alloc(1), 0, 1, size - 1);
  return bytesRead === 1 && buffer[0] !== 0x0a;
}

/** Everything that is kept in `folder`, the oldest first; a line that is none is left out. Rejects with Node's error. */
export async function readAudit(folder: string): Promise<AuditRecord[]> {
  const texts = await Promise.all([EARLIER_FILE, FILE].map((name) => readIfThere(join(folder, name))));
  return texts
    .join('\n')
    .split('\n')
    .flatMap((line) => {
      try {
        const record: unknown = JSON.parse(line);
        return typeof record === 'object' && record !== null && 'deed' in record ? [record as AuditRecord] : [];
      } catch {
        return [];
      }
    });
}

async function readIfThere(path: string): Promise<string> {
  try {
    return await fs.readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw error;
  }
}
