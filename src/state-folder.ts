// The folder that keeps what must outlive the process: the journal and the operator's token. Opening it makes it,
// takes its lock, and tells whether an earlier start has left a token there.
//
// The order is the caller's: open the folder, then the journal, and only then make the token. A token without a journal
// therefore means a journal that was lost, and that starts tripped.
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import * as fs from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import type { Clock } from './clock.ts';
import { diskFiles, errorCode, errorText, replaceFile } from './durable-files.ts';
import { type LockHolder, type StateLock, takeStateLock } from './state-lock.ts';

export type { LockHolder } from './state-lock.ts';

export type OpenedStateFolder =
  | { readonly kind: 'open'; readonly stateFolder: StateFolder }
  /** Another process has it. */
  | { readonly kind: 'held'; readonly holder: LockHolder; readonly detail: string }
  /** It cannot be made, read or locked. */
  | { readonly kind: 'unusable'; readonly detail: string };

export interface StateFolder {
  /** Absolute. */
  readonly folder: string;
  /** There was a token when the folder was opened, readable or not: somebody started here before. */
  readonly tokenExists: boolean;
  /** What a person should know and nothing is refused for, each a sentence for the log. */
  readonly notes: readonly string[];
  /** Reads the operator's token, or makes it where there is none. Call it only once the journal is there. */
  ensureOperatorToken(): Promise<OperatorToken>;
  /** Gives the lock back. */
  close(): Promise<void>;
}

export type FoundToken =
  | { readonly kind: 'found'; readonly token: string }
  | { readonly kind: 'absent' }
  /** There is one that must not be used; `detail` says why and what to do. */
  | { readonly kind: 'refused'; readonly detail: string };

export type OperatorToken =
  | Exclude<FoundToken, { kind: 'absent' }>
  | { readonly kind: 'made'; readonly token: string }
  /** There is none and it cannot be made: a full or read-only disk. */
  | { readonly kind: 'unwritable'; readonly detail: string };

const TOKEN_FILE = 'operator-token';
/** 256 bits, as much as the SHA-256 that tokens are compared by. */
const TOKEN_BYTES = 32;
/** For a token that a person put there: a shorter one is guessed, or was cut short; a longer file is another file. */
const MIN_TOKEN_CHARS = 16;
const MAX_TOKEN_FILE_BYTES = 512;

/** Opens the state folder at `folder`, making it (mode 0700) if need be. Never rejects. */
export async function openStateFolder(options: {
  readonly folder: string;
  readonly clock: Clock;
}): Promise<OpenedStateFolder> {
  const folder = resolve(options.folder);
  let notes: string[];
  try {
    await makeFolder(folder);
    notes = await folderNotes(folder);
  } catch (error) {
    return { kind: 'unusable', detail: `Cannot use ${folder} as state folder: ${errorText(error)}` };
  }
  const locked = await takeStateLock(folder, options.clock);
  switch (locked.kind) {
    case 'held': {
      const { pid, host } = locked.holder;
      const who = pid === null ? 'a process that does not answer' : `process ${pid} on ${host ?? 'this host'}`;
      return { kind: 'held', holder: locked.holder, detail: `Cannot lock state folder ${folder}: ${who} holds it` };
    }
    case 'unusable':
      return locked;
    case 'taken': {
      const { lock } = locked;
      if (lock.note !== null) notes.push(lock.note);
      return await describe(folder, lock, notes);
    }
  }
}

async function describe(folder: string, lock: StateLock, notes: readonly string[]): Promise<OpenedStateFolder> {
  try {
    const tokenExists = await exists(join(folder, TOKEN_FILE));
    const stateFolder: StateFolder = {
      folder,
      tokenExists,
      notes,
      ensureOperatorToken: () => ensureOperatorToken(folder),
      close: () => lock.release(),
    };
    return { kind: 'open', stateFolder };
  } catch (error) {
    await lock.release();
    return { kind: 'unusable', detail: `Cannot look for the operator token in ${folder}: ${errorText(error)}` };
  }
}

/** Reads the operator's token in `folder`, as the service and the command line both do. Never rejects. */
export async function readOperatorToken(folder: string): Promise<FoundToken> {
  const path = join(folder, TOKEN_FILE);
  const refuse = (why: string): FoundToken => ({
    kind: 'refused',
    detail: `Cannot use operator token ${path}: ${why}`,
  });
  try {
    const file = await fs.open(path, constants.O_RDONLY | constants.O_NONBLOCK); // a FIFO would hang otherwise
    try {
      const stat = await file.stat();
      if (!stat.isFile()) return refuse('it is not a file');
      const mode = stat.mode & 0o777;
      if ((mode & 0o077) !== 0) {
        const shown = mode.toString(8).padStart(4, '0');
        return refuse(`its mode is ${shown}, so that others can read or change it; allowed is 0600: chmod 600 ${path}`);
      }
      if (stat.size > MAX_TOKEN_FILE_BYTES) {
        return refuse(`it has ${stat.size} bytes, allowed are ${MAX_TOKEN_FILE_BYTES}`);
      }
      const token = (await file.readFile('utf8')).trim();
      if (token === '') return refuse('it is empty; remove it and a start makes a new one');
      if (token.length < MIN_TOKEN_CHARS || !/^[\x21-\x7e]+$/.test(token)) {
        return refuse(`it must be one line of at least ${MIN_TOKEN_CHARS} visible ASCII characters`);
      }
      return { kind: 'found', token };
    } finally {
      await file.close();
    }
  } catch (error) {
    return errorCode(error) === 'ENOENT' ? { kind: 'absent' } : refuse(errorText(error));
  }
}

async function ensureOperatorToken(folder: string): Promise<OperatorToken> {
  const found = await readOperatorToken(folder);
  if (found.kind !== 'absent') return found;
  const path = join(folder, TOKEN_FILE);
  // The prefix lets a secret scanner and a person recognise it.
  const token = `vsf_${randomBytes(TOKEN_BYTES).toString('base64url')}`;
  try {
    const fd = await replaceFile(diskFiles, path, Buffer.from(`${token}\n`));
    await diskFiles.close(fd);
    await diskFiles.syncFolder(folder);
    return { kind: 'made', token };
  } catch (error) {
    return { kind: 'unwritable', detail: `Cannot write operator token ${path}: ${errorText(error)}` };
  }
}

/**
 * Makes what is missing of `folder`, each entry synced: without that a power cut could take the whole folder with a
 * latch in it, and the next start would look like a first one.
 */
async function makeFolder(folder: string): Promise<void> {
  const firstMade = await fs.mkdir(folder, { recursive: true, mode: 0o700 });
  if (firstMade === undefined) return;
  for (let made = folder; made.length >= firstMade.length; made = dirname(made)) {
    await diskFiles.syncFolder(dirname(made));
  }
}

/** Group and others that may write can replace the latch. Said and not refused: Kubernetes makes its volumes 0777. */
async function folderNotes(folder: string): Promise<string[]> {
  const mode = (await fs.stat(folder)).mode & 0o777;
  if ((mode & 0o022) === 0) return [];
  return [`State folder ${folder} can be changed by others: its mode is 0${mode.toString(8)}, better 0700`];
}

async function exists(path: string): Promise<boolean> {
  try {
    await fs.lstat(path);
    return true;
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return false;
    throw error;
  }
}
