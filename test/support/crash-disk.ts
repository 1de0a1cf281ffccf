// A disk in memory for the journal's tests that forgets what was not synced. It can fail any operation, halfway where
// that is possible, and crash at any operation; what a restart finds is chosen among what a real disk may have kept:
// of each file's unsynced writes a prefix, the last one perhaps torn or as NULs; a truncation, which is metadata, or not;
// of a folder's unsynced changes a prefix.
import type { DurableFiles } from '../../src/durable-files.ts';

interface Inode {
  current: Buffer;
  durable: Buffer;
  /** Writes and truncations since the last datasync. */
  unsynced: FileChange[];
}

type FileChange =
  | { readonly kind: 'write'; readonly position: number; readonly bytes: Buffer }
  | { kind: 'truncate'; size: number };
type Entries = Map<string, Inode>;
type FolderChange = (entries: Entries) => void;

export interface DiskFaults {
  /** Numbers of the operations, from 0, that fail. */
  readonly failAt: Pick<ReadonlySet<number>, 'has'>;
  /** The operation in whose middle the machine stops. */
  readonly crashAt: number;
}

export class CrashDisk implements DurableFiles {
  /** Resolves at the crash; from then on no operation returns. */
  readonly crashed: Promise<void>;
  readonly #faults: DiskFaults;
  readonly #turn: () => Promise<void>;
  #signalCrash: () => void = () => undefined;
  #isCrashed = false;
  #operations = 0;
  #entries: Entries = new Map();
  #durableEntries: Entries = new Map();
  #unsyncedEntries: FolderChange[] = [];
  readonly #open: (Inode | null)[] = [];

  /** @param turn what an operation waits for before it is done. */
  constructor(faults: DiskFaults, turn: () => Promise<void> = nextTurn) {
    this.#faults = faults;
    this.#turn = turn;
    this.crashed = new Promise((resolve) => {
      this.#signalCrash = resolve;
    });
  }

  /**
   * The disk as a restart finds it. `power`: the machine lost power, `choose(n)` picks from 0 to n what was kept.
   * `kill`: only the process died, and the page cache with all that was written is still there.
   */
  restart(
    how: 'kill' | 'power',
    choose: (max: number) => number,
    faults: DiskFaults,
    turn: () => Promise<void> = nextTurn,
  ): CrashDisk {
    const next = new CrashDisk(faults, turn);
    const entries: Entries = new Map(this.#durableEntries);
    const keptChanges = how === 'kill' ? this.#unsyncedEntries.length : choose(this.#unsyncedEntries.length);
    for (const change of this.#unsyncedEntries.slice(0, keptChanges)) change(entries);
    for (const [path, inode] of entries) {
      const bytes = how === 'kill' ? inode.current : keptBytes(inode, choose);
      next.#entries.set(path, { current: bytes, durable: bytes, unsynced: [] });
    }
    next.#durableEntries = new Map(next.#entries);
    return next;
  }

  /** The machine or the process stops now, between two operations. */
  crash(): void {
    this.#isCrashed = true;
    this.#signalCrash();
  }

  /** Bits of what is on the disk change by themselves. */
  rot(path: string, change: (bytes: Buffer) => Buffer): void {
    const inode = this.#entries.get(path);
    if (!inode) return;
    inode.current = change(Buffer.from(inode.current));
    inode.durable = inode.current;
    inode.unsynced = [];
  }

  async read(path: string): Promise<Buffer> {
    return Buffer.from(this.#find(path).current);
  }

  async list(): Promise<string[]> {
    return [...this.#entries.keys()].map((path) => path.slice(path.lastIndexOf('/') + 1));
  }

  async open(path: string, how: 'update' | 'create'): Promise<number> {
    await this.#step();
    if (how === 'create') {
      if (this.#entries.has(path)) throw failure('EEXIST');
      const inode: Inode = { current: Buffer.alloc(0), durable: Buffer.alloc(0), unsynced: [] };
      this.#changeFolder((entries) => entries.set(path, inode));
    }
    return this.#open.push(this.#find(path)) - 1;
  }

  async write(fd: number, bytes: Buffer, position: number): Promise<number> {
    await this.#step(() => this.#change(fd, { kind: 'write', position, bytes: half(bytes) }));
    this.#change(fd, { kind: 'write', position, bytes: Buffer.from(bytes) });
    return bytes.length;
  }

  writeNow(fd: number, bytes: Buffer, position: number): number {
    if (this.#isCrashed) throw failure('EIO');
    const fault = this.#nextFault();
    this.#change(fd, { kind: 'write', position, bytes: fault ? half(bytes) : Buffer.from(bytes) });
    if (fault) throw failure('ENOSPC');
    return bytes.length;
  }

  async datasync(fd: number): Promise<void> {
    await this.#step();
    const inode = this.#inode(fd);
    inode.durable = inode.current;
    inode.unsynced = [];
  }

  async truncate(fd: number, size: number): Promise<void> {
    await this.#step();
    this.#change(fd, { kind: 'truncate', size });
  }

  async close(fd: number): Promise<void> {
    this.#inode(fd);
    this.#open[fd] = null;
    await this.#step();
  }

  async rename(from: string, to: string): Promise<void> {
    await this.#step();
    const inode = this.#find(from);
    this.#changeFolder((entries) => {
      entries.delete(from);
      entries.set(to, inode);
    });
  }

  async remove(path: string): Promise<void> {
    await this.#step();
    this.#changeFolder((entries) => entries.delete(path));
  }

  async syncFolder(): Promise<void> {
    await this.#step();
    this.#durableEntries = new Map(this.#entries);
    this.#unsyncedEntries = [];
  }

  /** One operation: goes through, fails, or never returns; `halfway` is done before a failure or crash. */
  async #step(halfway: () => void = () => undefined): Promise<void> {
    await this.#turn(); // as from a real disk: not in the same turn
    if (this.#isCrashed) return new Promise(() => undefined);
    const fault = this.#nextFault();
    if (fault) halfway();
    if (fault === 'crash') return new Promise(() => undefined);
    if (fault === 'fail') throw failure('ENOSPC');
  }

  #nextFault(): 'crash' | 'fail' | null {
    const number = this.#operations++;
    if (number === this.#faults.crashAt) {
      this.#isCrashed = true;
      this.#signalCrash();
      return 'crash';
    }
    return this.#faults.failAt.has(number) ? 'fail' : null;
  }

  #change(fd: number, change: FileChange): void {
    const inode = this.#inode(fd);
    inode.unsynced.push(change);
    inode.current = applied(inode.current, change);
  }

  #changeFolder(change: FolderChange): void {
    this.#unsyncedEntries.push(change);
    change(this.#entries);
  }

  #inode(fd: number): Inode {
    const inode = this.#open[fd];
    if (!inode) throw failure('EBADF');
    return inode;
  }

  #find(path: string): Inode {
    const inode = this.#entries.get(path);
    if (!inode) throw failure('ENOENT');
    return inode;
  }
}

function applied(bytes: Buffer, change: FileChange): Buffer {
  if (change.kind === 'truncate') return bytes.subarray(0, change.size);
  const end = change.position + change.bytes.length;
  const gap = Buffer.alloc(Math.max(0, change.position - bytes.length));
  return Buffer.concat([bytes.subarray(0, change.position), gap, change.bytes, bytes.subarray(end)]);
}

/** Some prefix of what was not synced, its last write perhaps cut short and perhaps zeroed. */
function keptBytes(inode: Inode, choose: (max: number) => number): Buffer {
  const kept = choose(inode.unsynced.length);
  const changes = inode.unsynced.slice(0, kept).filter(({ kind }) => kind === 'write' || choose(1) === 1);
  const bytes = changes.reduce(applied, inode.durable);
  const torn = inode.unsynced[kept];
  if (torn?.kind !== 'write') return bytes;
  const cut = torn.bytes.subarray(0, choose(torn.bytes.length - 1));
  return applied(bytes, { ...torn, bytes: choose(3) === 0 ? Buffer.alloc(cut.length) : cut });
}

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

const half = (bytes: Buffer): Buffer => Buffer.from(bytes.subarray(0, bytes.length >> 1));

const failure = (code: string): Error => Object.assign(new Error(`${code}: made up by the test`), { code });
