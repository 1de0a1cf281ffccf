// The few file operations that a durable record needs, behind an interface so that a test can fail, tear or crash at
// any one of them. Whoever reads an error here gets Node's own, with its `code`; turning it into a value is left to the
// journal and the state folder, which know what the file is for.
import * as fs from 'node:fs';
import { promisify } from 'node:util';

/** File operations by plain descriptor number. All reject (or throw) with Node's error. */
export interface DurableFiles {
  read(path: string): Promise<Buffer>;
  list(folder: string): Promise<string[]>;
  /** `update`: an existing file, for writing. `create`: a new one, mode 0600, which must not exist yet. */
  open(path: string, how: 'update' | 'create'): Promise<number>;
  /** Writes at `position`, maybe less than all; gives the number of bytes written. */
  write(fd: number, bytes: Buffer, position: number): Promise<number>;
  /** The same without leaving the event loop: into the page cache, where a killed process does not lose it. */
  writeNow(fd: number, bytes: Buffer, position: number): number;
  /** Returns once the file's content and length are on the disk. */
  datasync(fd: number): Promise<void>;
  truncate(fd: number, sizeBytes: number): Promise<void>;
  close(fd: number): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  /** Gone afterwards; no error if it was not there. */
  remove(path: string): Promise<void>;
  /** Returns once the folder's entries (files made, renamed, removed) are on the disk. */
  syncFolder(folder: string): Promise<void>;
}

const open = promisify(fs.open);
const write = promisify(fs.write);
const close = promisify(fs.close);
const fsync = promisify(fs.fsync);

/** The real disk. */
export const diskFiles: DurableFiles = {
  read: (path) => fs.promises.readFile(path),
  list: (folder) => fs.promises.readdir(folder),
  open: (path, how) => open(path, how === 'update' ? 'r+' : 'wx', 0o600),
  write: async (fd, bytes, position) => (await write(fd, bytes, 0, bytes.length, position)).bytesWritten,
  writeNow: (fd, bytes, position) => fs.writeSync(fd, bytes, 0, bytes.length, position),
  datasync: promisify(fs.fdatasync),
  truncate: promisify(fs.ftruncate),
  close,
  rename: (from, to) => fs.promises.rename(from, to),
  remove: (path) => fs.promises.rm(path, { force: true }),
  syncFolder: async (folder) => {
    const fd = await open(folder, 'r', 0);
    try {
      await fsync(fd);
    } catch (error) {
      // Some network and FUSE file systems know no fsync of a folder; there is nothing better to do on them.
      if (!['EINVAL', 'ENOTSUP', 'ENOSYS'].includes(errorCode(error))) throw error;
    } finally {
      await close(fd);
    }
  },
};

/** Writes all of `bytes` at `position`. A write that makes no progress is an error, not an endless loop. */
export async function writeAll(files: DurableFiles, fd: number, bytes: Buffer, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const written = await files.write(fd, bytes.subarray(done), position + done);
    if (written <= 0)
      throw Object.assign(new Error(`wrote ${written} of ${bytes.length - done} bytes`), { code: 'EIO' });
    done += written;
  }
}

/**
 * Puts `bytes` at `path` so that a crash at any point leaves either the old file or the new one, whole: written to
 * `<path>.new`, synced, renamed over. Gives the new file's descriptor, open for writing. The rename itself is on the
 * disk only after `syncFolder`, which is the caller's, since a failure there means "in place, perhaps not for good".
 */
export async function replaceFile(files: DurableFiles, path: string, bytes: Buffer): Promise<number> {
  const next = `${path}.new`;
  await files.remove(next);
  const fd = await files.open(next, 'create');
  try {
    await writeAll(files, fd, bytes, 0);
    await files.datasync(fd);
    await files.rename(next, path);
    return fd;
  } catch (error) {
    // The first error is the one to tell; a full disk wants the space of the half-written file back.
    await files.close(fd).catch(() => undefined);
    await files.remove(next).catch(() => undefined);
    throw error;
  }
}

/** Node's code of a failed operation (`ENOSPC`, `EROFS`…), else `unknown`. */
export function errorCode(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'unknown';
}

/** The message of whatever was thrown. */
export function errorText(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
