// One process per state folder, by a lock that dies with its holder, so that a crash never needs a person to remove it.
//
// Node has no flock. On Linux the lock is a socket in the abstract namespace, named for the folder's device and inode:
// taking it is atomic, and the kernel drops it with its process. That namespace is per network namespace, so two
// containers that share a volume would not see each other; for them there is a socket file `lock` in the folder too,
// which another process may replace only if nobody answers behind it. Elsewhere than on Linux the file is all there is.
// Neither reaches over a network file system to another machine. Any user of the machine can take the abstract name and
// so keep the service from starting, which shows at once; none can take the lock away.
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs/promises';
import * as net from 'node:net';
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { Clock } from './clock.ts';
import { errorCode, errorText } from './durable-files.ts';

/** Who holds a lock, as it says itself. */
export interface LockHolder {
  /** In the holder's own process namespace; null: it holds the lock and does not answer (stopped, hung, another user's). */
  readonly pid: number | null;
  /** The holder's host or container name. */
  readonly host: string | null;
}

export interface StateLock {
  /** What the lock cannot protect from, in this folder; null: nothing. */
  readonly note: string | null;
  release(): Promise<void>;
}

export type LockOutcome =
  | { readonly kind: 'taken'; readonly lock: StateLock }
  | { readonly kind: 'held'; readonly holder: LockHolder }
  | { readonly kind: 'unusable'; readonly detail: string };

const LOCK_FILE = 'lock';
/** A holder answers from its event loop; one that does not within this is hung, and holds all the same. */
const ASK_TIMEOUT_MS = 1_000;
const MAX_ANSWER_CHARS = 512;
/** Each retry follows a holder that went away meanwhile; nobody goes away three times. */
const ATTEMPTS = 3;
/** `sun_path` holds 104 bytes with its end on macOS and BSD. Node cuts a longer path off without an error. */
const MAX_SOCKET_PATH_BYTES = 103;

const UNKNOWN_HOLDER: LockHolder = { pid: null, host: null };

/** Takes the lock of `folder`, which must exist. Never rejects. The lock does not keep the process alive. */
export async function takeStateLock(folder: string, clock: Clock): Promise<LockOutcome> {
  try {
    return process.platform === 'linux' ? await takeOnLinux(folder, clock) : await takeByFile(folder, folder, clock);
  } catch (error) {
    return { kind: 'unusable', detail: `Cannot take the lock of ${folder}: ${errorText(error)}` };
  }
}

async function takeOnLinux(folder: string, clock: Clock): Promise<LockOutcome> {
  const directory = await fs.open(folder, 'r');
  try {
    const { dev, ino } = await directory.stat({ bigint: true });
    const name = `\0vsf-safety-${dev}-${ino}`;
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const server = await listen(name);
      if (server) return await addFile(server, folder, directory.fd, clock);
      const holder = await ask(name, clock);
      if (holder) return { kind: 'held', holder };
    }
    return { kind: 'held', holder: UNKNOWN_HOLDER };
  } finally {
    await directory.close();
  }
}

/** The file beside the abstract name. Where it cannot be made (a full or read-only disk) the name has to do. */
async function addFile(server: net.Server, folder: string, directoryFd: number, clock: Clock): Promise<LockOutcome> {
  let note: string;
  try {
    // By way of the descriptor, since the folder's own path may be longer than a socket's may be.
    const outcome = await takeByFile(folder, `/proc/self/fd/${directoryFd}`, clock);
    if (outcome.kind === 'held') {
      await close(server);
      return outcome;
    }
    if (outcome.kind === 'taken') {
      const release = (): Promise<void> => outcome.lock.release().then(() => close(server));
      return { kind: 'taken', lock: { note: null, release } };
    }
    note = outcome.detail;
  } catch (error) {
    note = errorText(error);
  }
  note = `No lock file in ${folder} (${note}): another container that shares it is not kept out`;
  return { kind: 'taken', lock: { note, release: () => close(server) } };
}

/** Takes the socket file; `socketFolder` is the folder by a path that is short enough for a socket. */
async function takeByFile(folder: string, socketFolder: string, clock: Clock): Promise<LockOutcome> {
  // Made under a name of its own and then linked, so that `lock` never exists without somebody listening behind it.
  const own = `${LOCK_FILE}.${process.pid}.${randomBytes(4).toString('hex')}`;
  const length = Buffer.byteLength(join(socketFolder, `${own}.stale`));
  if (length > MAX_SOCKET_PATH_BYTES) {
    const detail = `its path is too long for a socket: ${length} bytes, at most ${MAX_SOCKET_PATH_BYTES}`;
    return { kind: 'unusable', detail: `Cannot lock ${folder}: ${detail}` };
  }
  const server = await listen(join(socketFolder, own));
  if (!server) return { kind: 'unusable', detail: `Cannot lock ${folder}: ${own} is taken` };
  try {
    const { ino } = await fs.stat(join(folder, own), { bigint: true });
    const holder = await linkUnlessHeld(folder, socketFolder, own, clock);
    if (holder) {
      await close(server);
      return { kind: 'held', holder };
    }
    const release = async (): Promise<void> => {
      const there = await fs.stat(join(folder, LOCK_FILE), { bigint: true }).catch(() => null);
      if (there?.ino === ino) await fs.rm(join(folder, LOCK_FILE), { force: true }).catch(() => undefined);
      await close(server);
    };
    return { kind: 'taken', lock: { note: null, release } };
  } catch (error) {
    await close(server);
    throw error;
  } finally {
    await fs.rm(join(folder, own), { force: true });
  }
}

/** Gives `lock` to our socket, in place of one that nobody listens behind; else tells its holder. */
async function linkUnlessHeld(
  folder: string,
  socketFolder: string,
  own: string,
  clock: Clock,
): Promise<LockHolder | null> {
  const lock = join(folder, LOCK_FILE);
  const aside = `${own}.stale`;
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    if (await succeeds('EEXIST', fs.link(join(folder, own), lock))) return null;
    const holder = await ask(join(socketFolder, LOCK_FILE), clock);
    if (holder) return holder;
    // Stale. Another process may find the same and be faster: what we move out of the way may already be its new lock.
    if (!(await succeeds('ENOENT', fs.rename(lock, join(folder, aside))))) continue;
    const faster = await ask(join(socketFolder, aside), clock);
    if (faster) await succeeds('EEXIST', fs.link(join(folder, aside), lock));
    await fs.rm(join(folder, aside), { force: true });
    if (faster) return faster;
  }
  return UNKNOWN_HOLDER;
}

/** Whether `work` went through; false for the one failure that is expected of it. */
async function succeeds(expectedCode: string, work: Promise<void>): Promise<boolean> {
  try {
    await work;
    return true;
  } catch (error) {
    if (errorCode(error) === expectedCode) return false;
    throw error;
  }
}

/** A server at `path` that tells whoever connects who holds the lock; null: the address is taken. */
function listen(path: string): Promise<net.Server | null> {
  return new Promise((resolve, reject) => {
    const server = net.createServer((socket) => {
      socket.unref();
      socket.on('error', () => undefined); // who asked has left
      socket.end(`${JSON.stringify({ pid: process.pid, host: hostname() })}\n`, () => socket.destroy());
    });
    server.maxConnections = 16;
    server.unref();
    server.on('error', (error) => (errorCode(error) === 'EADDRINUSE' ? resolve(null) : reject(error)));
    server.listen({ path }, () => resolve(server));
  });
}

/** Who listens at `path`; null: nobody. Whatever else goes wrong, somebody must be thought to hold it. */
function ask(path: string, clock: Clock): Promise<LockHolder | null> {
  return new Promise((resolve) => {
    let answer = '';
    const socket = net.connect({ path });
    const finish = (holder: LockHolder | null): void => {
      cancel();
      socket.destroy();
      resolve(holder);
    };
    const cancel = clock.after(ASK_TIMEOUT_MS, () => finish(UNKNOWN_HOLDER));
    socket.setEncoding('utf8');
    socket.on('data', (chunk: string) => {
      answer += chunk;
      if (answer.length > MAX_ANSWER_CHARS) finish(UNKNOWN_HOLDER);
    });
    socket.on('end', () => finish(parseHolder(answer)));
    socket.on('error', (error) => {
      finish(['ECONNREFUSED', 'ENOENT'].includes(errorCode(error)) ? null : UNKNOWN_HOLDER);
    });
  });
}

function parseHolder(answer: string): LockHolder {
  try {
    const { pid, host } = JSON.parse(answer) as { pid?: unknown; host?: unknown };
    return { pid: typeof pid === 'number' ? pid : null, host: typeof host === 'string' ? host : null };
  } catch {
    return UNKNOWN_HOLDER;
  }
}

const close = (server: net.Server): Promise<void> => new Promise((resolve) => server.close(() => resolve()));
