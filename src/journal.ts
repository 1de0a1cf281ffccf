// The durable record: a map of text keys to JSON values (`trip/…`, `lease/…`, `gpu/…`) that survives crashes, restarts
// and power cuts, kept as one append-only file of changes in the state folder.
//
// This file opens it, and tells apart what a start may find: nothing yet, a record to go on from, one that cannot be
// trusted, one of a newer version, a disk that takes nothing. What that means for the interlock is the caller's;
// appending is in journal-file.ts, the form of a line in journal-record.ts.
import { join } from 'node:path';
import { type DurableFiles, diskFiles, errorCode, errorText } from './durable-files.ts';
import {
  FileJournal,
  isoTime,
  JOURNAL_FILE,
  type Journal,
  type JournalFileOptions,
  type ReadFile,
} from './journal-file.ts';
import { type Damage, JOURNAL_VERSION, type LiveKeys, readJournal } from './journal-record.ts';

export type { AppendOutcome, FailedAppend, Journal, JournalHealth } from './journal-file.ts';
export type { JournalChange } from './journal-record.ts';

/** The outcome of opening. `journal` takes appends in each case that has one; where they fail, `health()` says so. */
export type OpenedJournal =
  | { readonly kind: 'first-start'; readonly journal: Journal }
  | {
      readonly kind: 'replayed';
      readonly journal: Journal;
      readonly state: ReadonlyMap<string, unknown>;
      readonly droppedTornRecord: boolean;
    }
  /**
   * The record cannot be trusted, or is gone from a folder that had one: the caller is tripped, and its first append
   * says so. Until that append is durable, every further start finds this again.
   */
  | { readonly kind: 'corrupt'; readonly journal: Journal; readonly keptAside: string | null; readonly detail: string }
  /** Written by a newer version, and left untouched. */
  | { readonly kind: 'newer'; readonly fileVersion: number; readonly supported: number }
  /** A full or read-only disk; `state` is what the file holds all the same. Each append tries again. */
  | {
      readonly kind: 'unwritable';
      readonly journal: Journal;
      readonly state: ReadonlyMap<string, unknown>;
      readonly detail: string;
    };

export interface JournalOptions extends JournalFileOptions {
  /** The operator's token is in the folder: then there was a first start, and a journal that is absent is lost. */
  readonly tokenExists: boolean;
}

/** Opens the journal in `folder`, making it at a first start. Never rejects. */
export async function openJournal(options: JournalOptions): Promise<OpenedJournal> {
  const found = await findJournal(options);
  switch (found.kind) {
    case 'newer':
      return { kind: 'newer', fileVersion: found.fileVersion, supported: JOURNAL_VERSION };
    case 'absent': {
      const journal = new FileJournal(options, new Map(), null, false);
      const failure = await journal.begin();
      return failure
        ? { kind: 'unwritable', journal, state: new Map(), detail: failure }
        : { kind: 'first-start', journal };
    }
    case 'damaged': {
      const journal = new FileJournal(options, new Map(), found.damage, found.isInTheWay);
      const failure = await journal.begin();
      const { keptAside, detail } = found.damage;
      if (!failure) return { kind: 'corrupt', journal, keptAside, detail };
      return {
        kind: 'corrupt',
        journal,
        keptAside: journal.isFileInTheWay ? null : keptAside,
        detail: `${detail}; and no new one could be begun: ${failure}`,
      };
    }
    case 'read': {
      const { live, damage } = found;
      const journal = new FileJournal(options, live, damage, false);
      const failure = await journal.begin(found);
      if (damage) return { kind: 'corrupt', journal, ...damage };
      const state = new Map([...live].map(([key, text]): [string, unknown] => [key, JSON.parse(text)]));
      if (failure) return { kind: 'unwritable', journal, state, detail: failure };
      return { kind: 'replayed', journal, state, droppedTornRecord: found.goodBytes < found.fileBytes };
    }
  }
}

type FoundJournal =
  | { readonly kind: 'absent' }
  | { readonly kind: 'newer'; readonly fileVersion: number }
  /** `isInTheWay`: there is a file, to be moved to `damage.keptAside` before a new one takes its place. */
  | { readonly kind: 'damaged'; readonly damage: Damage; readonly isInTheWay: boolean }
  | ({ readonly kind: 'read'; readonly live: LiveKeys; readonly damage: Damage | null } & ReadFile);

async function findJournal({ folder, clock, tokenExists, files = diskFiles }: JournalOptions): Promise<FoundJournal> {
  const path = join(folder, JOURNAL_FILE);
  let detail: string;
  try {
    const bytes = await files.read(path);
    const contents = readJournal(bytes);
    if (contents.kind === 'read') return { ...contents, fileBytes: bytes.length };
    if (contents.kind === 'newer') return contents;
    detail = `Cannot replay ${path}: ${contents.detail}`;
  } catch (error) {
    if (errorCode(error) === 'ENOENT') {
      const trace = tokenExists ? 'operator token' : await findKeptAside(files, folder);
      if (trace === null) return { kind: 'absent' };
      detail = `${path} is gone, though an earlier start left its ${trace} in the folder`;
      return { kind: 'damaged', damage: { keptAside: null, detail }, isInTheWay: false };
    }
    // Whether it holds a trip cannot be known, which is no better than knowing that it does.
    detail = `Cannot read ${path}: ${errorText(error)}`;
  }
  const stamp = isoTime(clock).replaceAll(/[-:]/g, '');
  return { kind: 'damaged', damage: { keptAside: join(folder, `${KEPT_ASIDE}${stamp}`), detail }, isInTheWay: true };
}

const KEPT_ASIDE = 'journal.corrupt-';

/** A file set aside by a start that died before it could begin a new journal; null: none, or no such folder. */
async function findKeptAside(files: DurableFiles, folder: string): Promise<string | null> {
  try {
    return (await files.list(folder)).find((name) => name.startsWith(KEPT_ASIDE)) ?? null;
  } catch (error) {
    return errorCode(error) === 'ENOENT' ? null : `contents, which cannot be listed (${errorText(error)}),`;
  }
}
