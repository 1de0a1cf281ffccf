// The commissioning reports of the state folder: each as JSON, and in words for people, in two files that bear its date.
// The last ones are kept. Nothing of safety hangs on them: one that cannot be read is passed over.
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { COMMISSION_NAME } from './domain/commission.ts';
import { diskFiles, replaceFile } from './durable-files.ts';

const FOLDER = 'commission';
const MOST_KEPT = 10;
/** One that is handed in has at most 1 MiB; the cards of the largest cluster are added. */
const MOST_BYTES = 8 * 1024 * 1024;

/** Of a report of this moment, without an ending. */
export const commissionName = (wallMs: number): string =>
  `commission-${new Date(wallMs).toISOString().slice(0, 19).replaceAll(':', '')}Z`;

export class CommissionStore<Report extends { readonly name: string }> {
  readonly folder: string;
  #last: Report | null = null;
  #turn: Promise<unknown> = Promise.resolve();

  private constructor(folder: string) {
    this.folder = folder;
  }

  /** Reads the newest report that `read` understands. Never rejects. */
  static async open<Report extends { readonly name: string }>(
    stateFolder: string,
    read: (value: unknown) => Report | null,
  ): Promise<CommissionStore<Report>> {
    const store = new CommissionStore<Report>(join(stateFolder, FOLDER));
    for (const name of (await store.#names()).reverse()) {
      store.#last = await store.#read(name, read);
      if (store.#last !== null) break;
    }
    return store;
  }

  /** `null`: there was none. */
  get last(): Report | null {
    return this.#last;
  }

  /** Keeps a report, one after the other; of two in the same second the later. Rejects with Node's error. */
  keep(report: Report, inWords: string): Promise<void> {
    const turn = this.#turn.then(() => this.#keep(report, inWords));
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  async #keep(report: Report, inWords: string): Promise<void> {
    await fs.mkdir(this.folder, { recursive: true, mode: 0o700 });
    const path = join(this.folder, report.name);
    // The JSON last: it is what counts as the report.
    for (const [ending, text] of [
      ['md', inWords],
      ['json', `${JSON.stringify(report, null, 2)}\n`],
    ] as const) {
      await diskFiles.close(await replaceFile(diskFiles, `${path}.${ending}`, Buffer.from(text)));
    }
    await diskFiles.syncFolder(this.folder);
    this.#last = report;
    // After a clock that was ahead the others may all be of later dates than this one, which stays.
    const others = (await this.#names()).filter((name) => name !== report.name);
    for (const old of others.slice(0, 1 - MOST_KEPT)) {
      await diskFiles.remove(join(this.folder, `${old}.json`));
      await diskFiles.remove(join(this.folder, `${old}.md`));
    }
  }

  /** The oldest first. */
  async #names(): Promise<string[]> {
    try {
      const files = await fs.readdir(this.folder);
      return files
        .filter((file) => file.endsWith('.json') && COMMISSION_NAME.test(file.slice(0, -5)))
        .map((file) => file.slice(0, -5))
        .sort();
    } catch {
      return [];
    }
  }

  async #read(name: string, read: (value: unknown) => Report | null): Promise<Report | null> {
    const path = join(this.folder, `${name}.json`);
    try {
      const { size } = await fs.stat(path);
      return size > MOST_BYTES ? null : read(JSON.parse(await fs.readFile(path, 'utf8')));
    } catch {
      return null;
    }
  }
}
