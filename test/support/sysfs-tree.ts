// Lays a table of path -> content out as real files below a fresh directory, so that a machine's /sys and /proc can
// stand in a test. Errors are real ones too: a directory gives EISDIR, a link into /proc gives EIO or EINVAL, a FIFO
// that nobody writes hangs like a driver that never answers.
import { createHook } from 'node:async_hooks';
import { execFileSync } from 'node:child_process';
import { constants } from 'node:fs';
import { mkdir, mkdtemp, open, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as realDelay } from 'node:timers/promises';
import type { Test } from 'tap';
import type { ManualClock } from './manual-clock.ts';

/** How many requests for files this process has made so far. */
let fileRequests = 0;
createHook({
  init: (_id, type) => {
    if (type === 'FSREQPROMISE') fileRequests++;
  },
}).enable();

/** A file's content, or something that is no plain file. */
export type TreeEntry = string | { readonly linkTo: string } | { readonly is: 'fifo' | 'directory' };
export type TreeTable = Readonly<Record<string, TreeEntry>>;

/** Reading it fails with EIO: address 0 of the reader's own memory. */
export const FAILS_WITH_EIO: TreeEntry = { linkTo: '/proc/self/mem' };
/** Reading it fails with EINVAL, as a disabled thermal zone does: a file that the kernel lets be written only. */
export const FAILS_WITH_EINVAL: TreeEntry = { linkTo: '/proc/self/clear_refs' };
/** Opening it waits for ever, in a thread of the pool, as a wedged driver does. */
export const NEVER_ANSWERS: TreeEntry = { is: 'fifo' };

export interface SysfsTree {
  readonly root: string;
  /** Replaces or adds an entry. */
  put(path: string, entry: TreeEntry): Promise<void>;
  remove(path: string): Promise<void>;
  /** Lets the readers of a FIFO go; they read nothing. */
  release(path: string): Promise<void>;
}

/** The tree in a directory of its own, removed when the test `t` ends, with every hung reader let go. */
export async function layOut(t: Test, table: TreeTable): Promise<SysfsTree> {
  const root = await mkdtemp(join(tmpdir(), 'sysfs-tree-'));
  const fifos = new Set<string>();

  const tree: SysfsTree = {
    root,
    async put(path, entry) {
      await tree.remove(path);
      const file = join(root, path);
      await mkdir(dirname(file), { recursive: true });
      if (typeof entry === 'string') {
        await writeFile(file, entry);
      } else if ('linkTo' in entry) {
        await symlink(entry.linkTo, file);
      } else if (entry.is === 'directory') {
        await mkdir(file);
      } else {
        execFileSync('mkfifo', [file]);
        fifos.add(path);
      }
    },
    async remove(path) {
      if (fifos.has(path)) await tree.release(path);
      fifos.delete(path);
      await rm(join(root, path), { recursive: true, force: true });
    },
    async release(path) {
      // Opened both ways a FIFO never waits, and its waiting readers go on; closed again, they read the end.
      const handle = await open(join(root, path), constants.O_RDWR | constants.O_NONBLOCK);
      await handle.close();
    },
  };
  t.teardown(async () => {
    for (const path of fifos) await tree.release(path);
    await untilFilesRest();
    await rm(root, { recursive: true, force: true });
  });
  for (const [path, entry] of Object.entries(table)) await tree.put(path, entry);
  return tree;
}

/**
 * The outcome of `work`, with the manual clock moved on by 100 ms at a time, and only while no file is being read: so
 * that no read that answers meets a time limit, however busy the machine is, and each one that hangs does.
 */
export async function whileTimePasses<T>(clock: ManualClock, work: Promise<T>): Promise<T> {
  let isDone = false;
  const finished = work.finally(() => {
    isDone = true;
  });
  for (;;) {
    await untilFilesRest();
    if (isDone) return finished;
    await clock.advance(100);
  }
}

/** Resolves once no read is under way, or those that are have led to no further one for 50 ms and so hang. */
async function untilFilesRest(): Promise<void> {
  let quietMs = 0;
  while (quietMs < 50) {
    const requests = fileRequests;
    await realDelay(5);
    quietMs = fileRequests === requests ? quietMs + 5 : 0;
    if (quietMs > 0 && !process.getActiveResourcesInfo().includes('FSReqPromise')) return;
  }
}

/** For what the kernel does in its own time: the reader of a FIFO wakes up when it wakes up. */
export async function untilTrue(isTrue: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 1000 && !(await isTrue()); tries++) await realDelay(2);
}
