// The history on the disk: figures of single moments for the last hour, of minutes for a day, of quarters of an hour for
// as long as is wanted; events; and when the interlock was not clear. A stretch is made from finer ones when it is over,
// and these are dropped when they are old. When the file is full, the oldest goes.
//
// Rows lie in the order of their time, so that a tick of a thousand nodes is written to a few dozen pages next to each
// other; the points of one node are gathered by its number instead. A row of up to 1,000 bytes, a minute of 80 numbers,
// lies in its page; a longer one takes a page of its own.
import { Database, isCorrupt, isFull, setAside } from './database.ts';
import { bytesOf, floatsOf, fromBytes, Joiner, toBytes } from './downsampling.ts';
import type { Batch, Figures, KeptEvent, Layout, OpenSpan, Series, StoreBounds, StoreFigures } from './records.ts';

const VERSION = 1;
/** Of figures: how long a stretch is (0: one moment), and how long it is kept. */
export const TIERS = [
  { stretchMs: 0, keepMs: 3_600_000 },
  { stretchMs: 60_000, keepMs: 24 * 3_600_000 },
  { stretchMs: 900_000, keepMs: Number.POSITIVE_INFINITY },
] as const;

/** A service that trips and resets all day long has some hundreds. */
const MOST_EVENTS = 20_000;
const MOST_SPANS = 20_000;
/** Above this share of its bytes the oldest goes, until it is below the other. */
const FULL_RATIO = 0.97;
const ROOMY_RATIO = 0.9;
/** So much of the time that is kept goes at once. */
const DROP_RATIO = 0.02;
/** Stretches made in one go; the rest after the next batch. */
const MOST_STRETCHES = 20;
const HOUR_MS = 3_600_000;

const SCHEMA = `
CREATE TABLE node(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE layout(id INTEGER PRIMARY KEY, node INTEGER NOT NULL, series TEXT NOT NULL, used INTEGER NOT NULL, UNIQUE(node, series));
CREATE TABLE moment(tier INTEGER, at INTEGER, severity INTEGER NOT NULL, nodes BLOB NOT NULL, margins BLOB NOT NULL, PRIMARY KEY(tier, at)) WITHOUT ROWID;
CREATE TABLE figures(tier INTEGER, at INTEGER, node INTEGER, layout INTEGER, severity INTEGER NOT NULL, ticks INTEGER NOT NULL, numbers BLOB NOT NULL, PRIMARY KEY(tier, at, node, layout)) WITHOUT ROWID;
CREATE TABLE event(id INTEGER PRIMARY KEY, at INTEGER NOT NULL, node TEXT, data TEXT NOT NULL);
CREATE INDEX event_at ON event(at);
CREATE TABLE span(id INTEGER PRIMARY KEY, since INTEGER NOT NULL, until INTEGER, state TEXT NOT NULL, node TEXT, trip TEXT, reason TEXT);
CREATE INDEX span_until ON span(until);
CREATE TABLE rolled(tier INTEGER PRIMARY KEY, upto INTEGER NOT NULL);
`;

export class Store {
  readonly path: string;
  readonly bounds: StoreBounds;
  #database: Database;
  readonly #layouts: Map<number, Layout>;
  /** Ids of nodes and layouts in this file, by what they are called while the process runs. */
  #nodeIds = new Map<string, number>();
  #layoutIds = new Map<number, number>();
  #layoutsUsedAtMs = 0;
  #begunAnew: string | null = null;

  /** Opens the file at `path`, or begins a new one where it is damaged. Throws where the disk does not want.
   * `layouts` are those that were told, and outlive this store. */
  constructor(path: string, bounds: StoreBounds, layouts: Map<number, Layout>) {
    this.path = path;
    this.#layouts = layouts;
    this.bounds = bounds;
    this.#database = this.#open();
  }

  get database(): Database {
    return this.#database;
  }

  close(): void {
    this.#database.close();
  }

  /** Once: where the file stands that a new one has taken the place of. */
  takeBegunAnew(): string | null {
    const aside = this.#begunAnew;
    this.#begunAnew = null;
    return aside;
  }

  /** Takes the place of a damaged file, which stands aside from now on. */
  beginAnew(): void {
    this.#database.close();
    this.#begunAnew = setAside(this.path);
    this.#forgetIds();
    this.#database = this.#open();
  }

  /** Writes a batch, makes the stretches that are over by now, and drops what is too old or too much. */
  write(batch: Batch): StoreFigures {
    for (const layout of batch.layouts) this.#layouts.set(layout.id, layout);
    const newestMs = Math.max(batch.atMs, ...batch.figures.map(({ atMs }) => atMs));
    let droppedBeforeMs: number | null = null;
    try {
      this.#addBatch(batch);
      this.#database.transaction(() => this.#joinStretches(newestMs));
    } catch (error) {
      this.#forgetIds();
      // Its bytes are used up before the usual look at them: room is made, and what does not fit then is lost.
      if (!isFull(error)) throw error;
      droppedBeforeMs = this.#dropTooMuch(newestMs, ROOMY_RATIO);
      this.#addBatch(batch);
    } finally {
      for (const id of batch.forgotten) this.#layouts.delete(id);
    }
    this.#database.transaction(() => this.#dropOld(newestMs));
    droppedBeforeMs = this.#dropTooMuch(newestMs, FULL_RATIO) ?? droppedBeforeMs;
    return { sizeBytes: this.#database.fill.fileBytes, keptFromMs: this.keptFromMs, droppedBeforeMs };
  }

  #addBatch({ figures, events, open, atMs }: Batch): void {
    this.#database.transaction(() => {
      for (const one of figures) this.#addFigures(one);
      for (const event of events) this.#addEvent(event);
      this.#followSpans(open, atMs);
    });
  }

  /** They may name rows that were taken back. */
  #forgetIds(): void {
    this.#nodeIds = new Map();
    this.#layoutIds = new Map();
  }

  /** When the oldest figures are from, wall clock, ms. */
  get keptFromMs(): number | null {
    const oldest = TIERS.map((_, tier) => this.oldest(tier)).filter((at) => at !== null);
    return oldest.length === 0 ? null : Math.min(...oldest);
  }

  oldest(tier: number): number | null {
    return numberOrNull(this.#database.first('SELECT min(at) AS at FROM moment WHERE tier=?', tier)?.['at']);
  }

  /** Up to where the stretches of a tier have been made, wall clock, ms; `null`: none yet. */
  rolledUpTo(tier: number): number | null {
    return numberOrNull(this.#database.first('SELECT upto FROM rolled WHERE tier=?', tier)?.['upto']);
  }

  #open(): Database {
    try {
      return openFile(this.path, this.bounds.maxBytes);
    } catch (error) {
      // One of another version stands aside, too: that version may want it back.
      if (!isCorrupt(error) && !(error instanceof OtherVersion)) throw error;
      this.#begunAnew = setAside(this.path);
      return openFile(this.path, this.bounds.maxBytes);
    }
  }

  #addFigures({ atMs, severity, layouts, severities, margins, values }: Figures): void {
    const nodes: number[] = [];
    let start = 0;
    for (const [index, id] of layouts.entries()) {
      const layout = this.#layouts.get(id);
      if (!layout) throw new Error(`layout ${id} was never told`);
      const node = this.#nodeId(layout.node);
      const size = layout.series.length;
      nodes.push(node);
      const numbers = bytesOf(values.subarray(start, start + size));
      this.#putFigures(0, atMs, node, this.#layoutId(layout, atMs), severities[index] ?? 0, 1, numbers);
      start += size;
    }
    this.#putMoment(0, atMs, severity, Uint32Array.from(nodes), margins);
    // The clock was set back: these stretches will be made once more, from both.
    for (const [tier, { stretchMs }] of TIERS.entries()) {
      const upTo = stretchMs === 0 ? null : this.rolledUpTo(tier);
      if (upTo !== null && atMs < upTo) this.#setRolled(tier, floorTo(atMs, stretchMs));
    }
  }

  #addEvent(event: KeptEvent): void {
    const { at, node = null } = event;
    this.#database.run('INSERT INTO event(at, node, data) VALUES(?,?,?)', Date.parse(at), node, JSON.stringify(event));
  }

  /** Ends the spans that are over, and begins those that are new. */
  #followSpans(open: readonly OpenSpan[], atMs: number): void {
    const known = this.#database.all('SELECT id, state, node, trip FROM span WHERE until IS NULL');
    const idOf = new Map(known.map(({ id, state, node, trip }) => [spanKey(state, node, trip), Number(id)]));
    for (const { state, node, tripId, reason, sinceMs } of open) {
      if (idOf.delete(spanKey(state, node, tripId))) continue;
      const sql = 'INSERT INTO span(since, state, node, trip, reason) VALUES(?,?,?,?,?)';
      this.#database.run(sql, sinceMs ?? atMs, state, node, tripId, reason);
    }
    for (const id of idOf.values()) this.#database.run('UPDATE span SET until=? WHERE id=?', atMs, id);
  }

  /** Makes each stretch that is over from the finer ones within it. */
  #joinStretches(nowMs: number): void {
    let left = MOST_STRETCHES;
    for (const [tier, { stretchMs }] of TIERS.entries()) {
      const finer = TIERS[tier - 1];
      if (!finer || this.bounds.keepMs <= finer.keepMs) continue;
      for (;;) {
        const upTo = this.rolledUpTo(tier) ?? Number.MIN_SAFE_INTEGER;
        const sql = 'SELECT min(at) AS at FROM moment WHERE tier=? AND at>=?';
        const next = numberOrNull(this.#database.first(sql, tier - 1, upTo)?.['at']);
        if (next === null || left === 0) break;
        const from = floorTo(next, stretchMs);
        if (from + stretchMs > nowMs) break;
        this.#joinStretch(tier, from, from + stretchMs);
        this.#setRolled(tier, from + stretchMs);
        left -= 1;
      }
    }
  }

  #joinStretch(tier: number, from: number, to: number): void {
    const joiners = new Map<string, { node: number; layout: number; severity: number; joiner: Joiner; size: number }>();
    for (const row of this.#rowsWithin('figures', tier, from, to)) {
      const node = Number(row['node']);
      const layout = Number(row['layout']);
      const key = `${node} ${layout}`;
      const numbers = row['numbers'] as Uint8Array;
      const ticks = Number(row['ticks']);
      const size = numbers.length / 4 / (ticks === 1 ? 1 : 3);
      let joint = joiners.get(key);
      if (!joint) {
        joint = { node, layout, severity: 0, joiner: new Joiner(size), size };
        joiners.set(key, joint);
      }
      const stretch = fromBytes(numbers, ticks, joint.size);
      if (stretch) joint.joiner.add(stretch);
      joint.severity = Math.max(joint.severity, Number(row['severity']));
    }
    for (const { node, layout, severity, joiner } of joiners.values()) {
      const joined = joiner.joined();
      this.#putFigures(tier, from, node, layout, severity, joined.ticks, toBytes(joined));
    }
    let worst = 0;
    const margins = new Map<number, number>();
    for (const { severity, nodes, margins: own } of this.#rowsWithin('moment', tier, from, to)) {
      worst = Math.max(worst, Number(severity));
      const values = floatsOf(own as Uint8Array);
      for (const [index, node] of idsOf(nodes as Uint8Array).entries()) {
        const value = values[index] ?? Number.NaN;
        const old = margins.get(node) ?? Number.NaN;
        margins.set(node, old <= value || Number.isNaN(value) ? old : value);
      }
    }
    this.#putMoment(tier, from, worst, Uint32Array.from(margins.keys()), Float32Array.from(margins.values()));
  }

  /** What the finer tier has of a stretch, and what this one has already, where a clock was set back. */
  #rowsWithin(table: 'figures' | 'moment', tier: number, from: number, to: number): ReturnType<Database['all']> {
    return [
      ...this.#database.all(`SELECT * FROM ${table} WHERE tier=? AND at=?`, tier, from),
      ...this.#database.all(`SELECT * FROM ${table} WHERE tier=? AND at>=? AND at<?`, tier - 1, from, to),
    ];
  }

  #dropOld(nowMs: number): void {
    const oldestMs = nowMs - this.bounds.keepMs;
    for (const [tier, { keepMs }] of TIERS.entries()) {
      const coarser = TIERS[tier + 1];
      // To the end of a coarser stretch, so that none is told of twice; and none before that is made.
      const isJoined = coarser !== undefined && this.bounds.keepMs > keepMs;
      const upTo = isJoined ? floorTo(nowMs - keepMs, coarser.stretchMs) : oldestMs;
      const rolled = isJoined ? (this.rolledUpTo(tier + 1) ?? Number.MIN_SAFE_INTEGER) : upTo;
      this.#dropTier(tier, Math.max(oldestMs, Math.min(upTo, rolled)));
    }
    this.#dropRecords(oldestMs);
    this.#database.run(
      'DELETE FROM event WHERE id <= (SELECT id FROM event ORDER BY id DESC LIMIT 1 OFFSET ?)',
      MOST_EVENTS,
    );
    this.#database.run(
      'DELETE FROM span WHERE id <= (SELECT id FROM span ORDER BY id DESC LIMIT 1 OFFSET ?)',
      MOST_SPANS,
    );
    if (nowMs - this.#layoutsUsedAtMs < HOUR_MS && nowMs >= this.#layoutsUsedAtMs) return;
    // Layouts in use are marked anew every hour; those that no figure can have any more go.
    this.#layoutsUsedAtMs = nowMs;
    this.#layoutIds = new Map();
    this.#database.run('DELETE FROM layout WHERE used < ?', oldestMs - 3 * HOUR_MS);
    // A cluster that makes its nodes anew every day leaves names that nothing is known of any more.
    this.#nodeIds = new Map();
    this.#database.run('DELETE FROM node WHERE id NOT IN (SELECT node FROM layout)');
  }

  /** Drops the oldest of everything until there is room again; gives the time before which nothing is left. */
  #dropTooMuch(nowMs: number, aboveRatio: number): number | null {
    const isAbove = (ratio: number): boolean => {
      const { usedBytes, mostBytes } = this.#database.fill;
      return usedBytes > mostBytes * ratio;
    };
    if (!isAbove(aboveRatio)) return null;
    let before: number | null = null;
    for (let turn = 0; turn < 1 / DROP_RATIO && isAbove(ROOMY_RATIO); turn++) {
      const from = this.keptFromMs;
      if (from === null) break;
      const upTo = from + Math.max(60_000, (nowMs - from) * DROP_RATIO);
      this.#database.transaction(() => {
        for (const tier of TIERS.keys()) this.#dropTier(tier, upTo);
        this.#dropRecords(upTo);
      });
      before = upTo;
    }
    return before;
  }

  #dropTier(tier: number, before: number): void {
    this.#database.run('DELETE FROM figures WHERE tier=? AND at<?', tier, before);
    this.#database.run('DELETE FROM moment WHERE tier=? AND at<?', tier, before);
  }

  #dropRecords(before: number): void {
    this.#database.run('DELETE FROM event WHERE at<?', before);
    this.#database.run('DELETE FROM span WHERE until<?', before);
  }

  #putFigures(
    tier: number,
    at: number,
    node: number,
    layout: number,
    severity: number,
    ticks: number,
    numbers: Uint8Array,
  ): void {
    this.#database.run(
      'INSERT OR REPLACE INTO figures VALUES(?,?,?,?,?,?,?)',
      tier,
      at,
      node,
      layout,
      severity,
      ticks,
      numbers,
    );
  }

  #putMoment(tier: number, at: number, severity: number, nodes: Uint32Array, margins: Float32Array): void {
    const sql = 'INSERT OR REPLACE INTO moment VALUES(?,?,?,?,?)';
    this.#database.run(sql, tier, at, severity, new Uint8Array(nodes.buffer), bytesOf(margins));
  }

  #setRolled(tier: number, upTo: number): void {
    this.#database.run('INSERT OR REPLACE INTO rolled VALUES(?,?)', tier, upTo);
  }

  #nodeId(name: string): number {
    const known = this.#nodeIds.get(name);
    if (known !== undefined) return known;
    const row = this.#database.first('SELECT id FROM node WHERE name=?', name);
    const id = row ? Number(row['id']) : this.#database.run('INSERT INTO node(name) VALUES(?)', name);
    this.#nodeIds.set(name, id);
    return id;
  }

  #layoutId(layout: Layout, atMs: number): number {
    const known = this.#layoutIds.get(layout.id);
    if (known !== undefined) return known;
    const node = this.#nodeId(layout.node);
    const series = JSON.stringify(layout.series);
    const row = this.#database.first('SELECT id FROM layout WHERE node=? AND series=?', node, series);
    const id = row
      ? Number(row['id'])
      : this.#database.run('INSERT INTO layout(node, series, used) VALUES(?,?,?)', node, series, atMs);
    this.#database.run('UPDATE layout SET used=? WHERE id=?', atMs, id);
    this.#layoutIds.set(layout.id, id);
    return id;
  }
}

class OtherVersion extends Error {}

function openFile(path: string, maxBytes: number): Database {
  const database = new Database(path, maxBytes);
  try {
    const { version } = database;
    if (version === 0) {
      database.transaction(() => {
        database.exec(SCHEMA);
        database.stamp(VERSION);
      });
    } else if (version !== VERSION) throw new OtherVersion(`format version ${version}`);
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

export const floorTo = (at: number, stretchMs: number): number => Math.floor(at / stretchMs) * stretchMs;

const numberOrNull = (value: unknown): number | null => (value === null || value === undefined ? null : Number(value));

const spanKey = (state: unknown, node: unknown, trip: unknown): string => `${state}\n${node ?? ''}\n${trip ?? ''}`;

/** Ids as they were written: copied, as numbers begin at every fourth byte alone. */
export const idsOf = (bytes: Uint8Array): Uint32Array => new Uint32Array(bytes.slice().buffer);

/** The series of a layout as they were written. */
export const seriesOf = (text: string): readonly Series[] => JSON.parse(text) as readonly Series[];
