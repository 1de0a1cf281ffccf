// A record of many entries in ConfigMaps, each of which holds at most 1 MiB: `name`, then `name-1`, `name-2` … as it
// grows. An entry is a key with one JSON text and stays in the part where it once went, so that a change writes one
// part. Which entry wins is said by the holder; how a part is written without losing a foreign change is config-map.ts.
import type { Clock } from '../clock.ts';
import { type ConfigMapCell, createConfigMapCell, type MapData } from './config-map.ts';
import type { KubeApi } from './kube-api.ts';

/** A role names each ConfigMap that may be written, so there are only so many. */
export const MOST_PARTS = 4;
/** The server refuses a ConfigMap over 1 MiB; room is left for its metadata. */
const MOST_BYTES_A_PART = 900 * 1024;

/** The ConfigMaps that a record may use, as the role must name them. */
export function partNames(name: string): readonly string[] {
  return Array.from({ length: MOST_PARTS }, (_, index) => (index === 0 ? name : `${name}-${index}`));
}

export type SplitRead =
  | { readonly kind: 'read'; readonly entries: ReadonlyMap<string, string> }
  | { readonly kind: 'unreachable'; readonly detail: string };

export type SplitWrite = { readonly ok: true } | { readonly ok: false; readonly detail: string };

/** The new text of an entry, by the old one (`null`: none): `null` deletes it, `undefined` leaves it. */
export type EntryChange = (before: string | null) => string | null | undefined;

export class SplitMap {
  readonly #cells: readonly ConfigMapCell[];
  /** In which part an entry was seen last, and how large each part was then. */
  readonly #places = new Map<string, number>();
  readonly #bytes: number[] = Array.from({ length: MOST_PARTS }, () => 0);
  #isRead = false;
  /** Changes go one after another: two at once could give one entry two places. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(parts: {
    readonly api: KubeApi;
    readonly clock: Clock;
    readonly namespace: string;
    readonly name: string;
  }) {
    this.#cells = partNames(parts.name).map((name) => createConfigMapCell({ ...parts, name }));
  }

  /** All entries. A part that is not there is empty; one that cannot be read makes the whole unreadable. */
  async read(timeoutMs: number): Promise<SplitRead> {
    const parts = await Promise.all(this.#cells.map((cell) => cell.read(timeoutMs)));
    const entries = new Map<string, string>();
    for (const part of parts) if (part.kind === 'unreachable') return { kind: 'unreachable', detail: part.detail };
    this.#places.clear();
    for (const [index, part] of parts.entries()) {
      const data = part.kind === 'found' ? part.data : {};
      this.#see(index, data);
      for (const [key, text] of Object.entries(data)) entries.set(key, text);
    }
    this.#isRead = true;
    return { kind: 'read', entries };
  }

  /** Carries out `changes`, the parts at the same time. Says why when one could not be written; the others stand. */
  change(changes: ReadonlyMap<string, EntryChange>, timeoutMs: number): Promise<SplitWrite> {
    const changed = this.#last.then(() => this.#change(changes, timeoutMs));
    this.#last = changed;
    return changed;
  }

  async #change(changes: ReadonlyMap<string, EntryChange>, timeoutMs: number): Promise<SplitWrite> {
    if (!this.#isRead) {
      // Where an entry went in an earlier life must be known first, or it would be there twice.
      const read = await this.read(timeoutMs);
      if (read.kind === 'unreachable') return { ok: false, detail: read.detail };
    }
    const byPart = new Map<number, Map<string, EntryChange>>();
    for (const [key, change] of changes) {
      const part = this.#places.get(key) ?? this.#roomFor(key, change);
      if (part === null) {
        return {
          ok: false,
          detail: `Cannot record ${key}: all ${MOST_PARTS} ConfigMaps ${this.#cells[0]?.name} are full`,
        };
      }
      const own = byPart.get(part) ?? new Map<string, EntryChange>();
      byPart.set(part, own.set(key, change));
    }
    const written = await Promise.all([...byPart].map(([part, own]) => this.#changePart(part, own, timeoutMs)));
    return written.find((outcome) => !outcome.ok) ?? { ok: true };
  }

  async #changePart(part: number, changes: ReadonlyMap<string, EntryChange>, timeoutMs: number): Promise<SplitWrite> {
    const cell = this.#cells[part];
    if (!cell) return { ok: false, detail: `There is no part ${part}` };
    const written = await cell.swap((found) => {
      const data: Record<string, string> = { ...found };
      let isChanged = false;
      for (const [key, change] of changes) {
        const before = data[key] ?? null;
        const after = change(before);
        if (after === undefined || after === before) continue;
        isChanged = true;
        if (after === null) delete data[key];
        else data[key] = after;
      }
      return { data: isChanged ? data : null, value: data };
    }, timeoutMs);
    if (!written.ok) return written;
    this.#see(part, written.value);
    return { ok: true };
  }

  #see(part: number, data: MapData): void {
    for (const [key, index] of this.#places) if (index === part) this.#places.delete(key);
    let bytes = 0;
    for (const [key, text] of Object.entries(data)) {
      this.#places.set(key, part);
      bytes += sizeOf(key, text);
    }
    this.#bytes[part] = bytes;
  }

  /** The first part with room for a new entry, which is counted there at once; `null` when all are full. */
  #roomFor(key: string, change: EntryChange): number | null {
    const text = change(null);
    // Nothing to write: any part will do, and it will be left as it is.
    if (text === null || text === undefined) return 0;
    const bytes = sizeOf(key, text);
    const part = this.#bytes.findIndex((used) => used + bytes <= MOST_BYTES_A_PART);
    if (part < 0) return null;
    this.#bytes[part] = (this.#bytes[part] ?? 0) + bytes;
    this.#places.set(key, part);
    return part;
  }
}

/** The server counts the bytes of the values; the keys are small and counted to be on the safe side. */
function sizeOf(key: string, text: string): number {
  return Buffer.byteLength(key) + Buffer.byteLength(text);
}
