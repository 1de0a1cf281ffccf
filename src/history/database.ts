// The one file that knows which database the history lives in: SQLite, compiled to WebAssembly, on Node's own file
// system calls (node-sqlite3-wasm; why this one: docs/decisions/0005-history.md). A damaged file or a dying disk is an
// exception here and never a signal that ends the process, as it is where files are mapped into memory.
//
// Every call waits for the disk, so this belongs on a thread that nobody waits for.
import { renameSync, rmSync } from 'node:fs';
import sqlite from 'node-sqlite3-wasm';

const { Database: Sqlite } = sqlite;
type Sqlite = InstanceType<typeof sqlite.Database>;
type Statement = ReturnType<Sqlite['prepare']>;

export type Value = number | string | Uint8Array | null;
export type Row = Readonly<Record<string, Value>>;

const PAGE_BYTES = 4096;
/** The log in front of the file: written back at every 2 MiB, cut back to that much after a larger one. */
const LOG_PAGES = 512;
const CACHE_KIB = 8 * 1024;

/** What a damaged file is answered with, wherever the damage is met. */
const CORRUPT = /malformed|not a database|corrupt/i;

/** The file has all the bytes that it may have. A full disk is said otherwise. */
export const isFull = (error: unknown): boolean => error instanceof Error && error.message.endsWith('is full');

/** The file cannot be believed any more. */
export const isCorrupt = (error: unknown): boolean => error instanceof Error && CORRUPT.test(error.message);

export class Database {
  readonly #sqlite: Sqlite;
  readonly #statements = new Map<string, Statement>();

  /**
   * Opens or makes the file at `path`, which will hold `maxBytes` at most, its log included. Throws what SQLite throws;
   * {@link isCorrupt} tells a damaged file from a disk that does not want.
   */
  constructor(path: string, maxBytes: number) {
    // The lock is a folder, and outlives a process that was killed. The state folder's own lock says that nobody else
    // is here.
    rmSync(`${path}.lock`, { recursive: true, force: true });
    this.#sqlite = new Sqlite(path);
    try {
      this.#pragma('locking_mode=EXCLUSIVE');
      this.#pragma(`page_size=${PAGE_BYTES}`);
      // In the log an aborted write is no damage, and one tick is one write instead of five.
      this.#pragma('journal_mode=WAL');
      // What was seen right before the power went is what will be asked for: each batch is on the disk itself.
      this.#pragma('synchronous=FULL');
      this.#pragma(`cache_size=-${CACHE_KIB}`);
      this.#pragma(`wal_autocheckpoint=${LOG_PAGES}`);
      this.#pragma(`journal_size_limit=${LOG_PAGES * PAGE_BYTES}`);
      this.#pragma(`max_page_count=${Math.floor(maxBytes / PAGE_BYTES) - 2 * LOG_PAGES}`);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  all(sql: string, ...values: readonly Value[]): Row[] {
    return this.#prepared(sql).all([...values]) as Row[];
  }

  first(sql: string, ...values: readonly Value[]): Row | null {
    return this.all(sql, ...values)[0] ?? null;
  }

  /** Rows one at a time, for what would be large all at once. */
  each(sql: string, ...values: readonly Value[]): IterableIterator<Row> {
    return this.#prepared(sql).iterate([...values]) as IterableIterator<Row>;
  }

  /** Gives the id of the row that was inserted last. */
  run(sql: string, ...values: readonly Value[]): number {
    return Number(this.#prepared(sql).run([...values]).lastInsertRowid);
  }

  exec(sql: string): void {
    this.#sqlite.exec(sql);
  }

  /** All of `work` or nothing of it. */
  transaction<T>(work: () => T): T {
    this.#sqlite.exec('BEGIN IMMEDIATE');
    try {
      const made = work();
      this.#sqlite.exec('COMMIT');
      return made;
    } catch (error) {
      if (this.#sqlite.inTransaction) this.#sqlite.exec('ROLLBACK');
      throw error;
    }
  }

  /** The version that {@link stamp} wrote; 0 for a new file. */
  get version(): number {
    return this.#pragma('user_version');
  }

  stamp(version: number): void {
    this.#pragma(`user_version=${version}`);
  }

  /** Bytes of the file that hold something, and bytes that it may have. */
  get fill(): { readonly usedBytes: number; readonly mostBytes: number; readonly fileBytes: number } {
    const pages = this.#pragma('page_count');
    return {
      usedBytes: (pages - this.#pragma('freelist_count')) * PAGE_BYTES,
      mostBytes: this.#pragma('max_page_count') * PAGE_BYTES,
      fileBytes: pages * PAGE_BYTES,
    };
  }

  /** Never throws: whatever is left behind, the next start opens it. */
  close(): void {
    try {
      for (const statement of this.#statements.values()) statement.finalize();
      this.#sqlite.close();
    } catch {
      // A disk that does not want is told of by whoever wrote to it.
    }
  }

  #pragma(text: string): number {
    return Number(Object.values(this.#sqlite.get(`PRAGMA ${text}`) ?? { none: 0 })[0]);
  }

  #prepared(sql: string): Statement {
    let statement = this.#statements.get(sql);
    if (!statement) {
      statement = this.#sqlite.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }
}

/** Moves a damaged file and its log out of the way; an older one that stood aside there gives way. */
export function setAside(path: string): string {
  const aside = `${path}.corrupt`;
  for (const suffix of ['', '-wal']) {
    rmSync(aside + suffix, { force: true });
    try {
      renameSync(path + suffix, aside + suffix);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
  return aside;
}
