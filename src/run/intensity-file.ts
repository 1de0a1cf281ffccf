// A file with one number: the share of full load that the workload may use now. For programs that can slow down by
// themselves and would rather read a file than speak HTTP. Replaced whole, so that no reader sees half of it.
import { mkdtemp, rename, rmdir, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export class IntensityFile {
  readonly path: string;
  readonly #folder: string | null;
  #written: number | null = null;
  #writing: Promise<void> = Promise.resolve();

  private constructor(path: string, folder: string | null) {
    this.path = path;
    this.#folder = folder;
  }

  /** In a new folder that only this user can enter. */
  static async create(): Promise<IntensityFile> {
    const folder = await mkdtemp(join(tmpdir(), 'vsf-intensity-'));
    return new IntensityFile(join(folder, 'cap'), folder);
  }

  /** At a place of somebody's choice, as a volume shared between containers. */
  static at(path: string): IntensityFile {
    return new IntensityFile(path, null);
  }

  /** What is to be removed in the end. */
  get leftovers(): readonly string[] {
    return this.#folder === null ? [this.path] : [this.path, this.#folder];
  }

  /** Resolves with why it could not be written; `null` is all well. */
  async write(cap: number): Promise<string | null> {
    if (cap === this.#written) return null;
    this.#written = cap;
    const next = this.#writing.then(() => this.#replace(cap));
    this.#writing = next.catch(() => undefined);
    try {
      await next;
      return null;
    } catch (error) {
      this.#written = null;
      return `Cannot write the intensity cap ${cap} to ${this.path}: ${(error as Error).message}`;
    }
  }

  async remove(): Promise<void> {
    await this.#writing;
    for (const path of this.leftovers) await unlink(path).catch(() => rmdir(path).catch(() => undefined));
  }

  async #replace(cap: number): Promise<void> {
    await writeFile(`${this.path}.new`, `${cap}\n`);
    await rename(`${this.path}.new`, this.path);
  }
}
