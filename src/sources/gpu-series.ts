// The GPUs of one exposition: which rows of GPU_EXPORTERS are in it, whose card each row is, and what a card's rows make
// together. A card that any row names is listed, with or without readings: dcgm-exporter may tell limits of four cards
// and the temperature of one, or of three nothing but how busy their memory's bus is. A line that could not be read still
// tells whose it was, and its reading is missing. An exporter whose own collection failed gives no readings, since what
// it repeats is old. What the rows are stands in series.ts, the labels' meaning in gpu-identity.ts, one card's readings
// in gpu-rows.ts.
import type { GpuSign, Witness } from '../domain/reading.ts';
import { CardIds, identityInText, identityOf, type RowIdentity } from './gpu-identity.ts';
import { podOf } from './gpu-pods.ts';
import { type CardAnswer, type GpuRow, readCard } from './gpu-rows.ts';
import { readUnnamed } from './gpu-unnamed.ts';
import { printable } from './nvidia-smi-card.ts';
import {
  type IgnoredSeries,
  type Labels,
  type RejectedLine,
  type Scrape,
  type SeriesAnswer,
  type SeriesEngine,
  type SeriesOptions,
  sampledAtMs,
} from './scrape.ts';
import { GPU_EXPORTERS, GPU_SERIES_NAMES } from './series.ts';
import type { GpuExporter, GpuFact, GpuSeries } from './series-rows.ts';
import { UNREAD_GPU_SERIES } from './series-unread.ts';

/** An exporter may not name more: what it says of further cards is left out, with a note. */
const MOST_CARDS = 64;
/** How much is remembered of cards, two quantities each; then it is forgotten, and learnt anew. */
const MOST_GIVEN = 8 * MOST_CARDS;
const MOST_NOTES = 30;
const MOST_IGNORED = 100;

const EXPORTER_FACTS: ReadonlySet<GpuFact> = new Set(['collect-success', 'exit-status', 'collected-at']);

interface Entry {
  readonly exporter: GpuExporter;
  readonly series: GpuSeries;
}

/** A name may stand for several facts, told apart by labels. */
const ENTRIES: ReadonlyMap<string, readonly Entry[]> = (() => {
  const entries = new Map<string, Entry[]>();
  for (const exporter of GPU_EXPORTERS) {
    for (const series of exporter.series) {
      for (const name of series.names) entries.set(name, [...(entries.get(name) ?? []), { exporter, series }]);
    }
  }
  return entries;
})();

/** The few names of which an exporter says something of itself. */
const EXPORTER_ENTRIES = [...ENTRIES].flatMap(([name, entries]) =>
  entries.filter(({ series }) => EXPORTER_FACTS.has(series.is)).map((entry) => ({ ...entry, name })),
);

const READ_NAMES: ReadonlySet<string> = new Set(GPU_SERIES_NAMES);

/** Reads the GPUs of one target; it remembers which cards gave which readings. */
export function createGpuSeries({ explains }: SeriesOptions): SeriesEngine {
  const given = new Set<string>();
  return {
    read(scrape): SeriesAnswer {
      if (given.size > MOST_GIVEN) given.clear();
      return readGpus(scrape, given, explains);
    },
  };
}

function readGpus(scrape: Scrape, given: Set<string>, explains: boolean): SeriesAnswer {
  const rows = rowsOf(scrape);
  const ids = new CardIds();
  const identities = new Map(rows.map(({ exporter, identity }) => [identity, exporter]));
  for (const [identity, exporter] of identities) ids.learn(exporter, identity);
  const idOf = new Map([...identities].map(([identity, exporter]) => [identity, ids.idOf(exporter, identity)]));
  const cards = new Map<string, GpuRow[]>();
  const leftOut = new Set<string>();
  const unnamed: GpuRow[] = [];
  const nobodys: GpuRow[] = [];
  for (const row of rows) {
    const id = idOf.get(row.identity) ?? null;
    const card = id === null ? undefined : cards.get(id);
    if (card) card.push(row);
    else if (row.value === null && !isCertain(row.identity)) nobodys.push(row);
    else if (id === null) unnamed.push(row);
    else if (cards.size < MOST_CARDS) cards.set(id, [row]);
    else leftOut.add(id);
  }
  const { signs, failed } = failuresOf(scrape);
  const answers = [...cards].map(([id, own]) => answerOf(id, own, failed, given));
  const present = new Set<GpuExporter>();
  for (const own of cards.values()) for (const { exporter } of own) present.add(exporter);
  const cardless = readUnnamed(scrape, unnamed, nobodys, present, given);
  const limitsNote =
    leftOut.size === 0 ? [] : [`GPUs: more than ${MOST_CARDS} are named; ${leftOut.size} are left out`];
  const counts = countNotes(cards);
  const faults = answers.flatMap((answer) => answer.notes);
  return {
    readings: [...answers.flatMap(({ readings }) => readings), ...cardless.readings],
    gpus: answers.map(({ sighting }) => sighting),
    gpuSigns: [...signs, ...cardless.gpuSigns],
    witnesses: [...sourceWitnesses(scrape), ...answers.flatMap(({ witnesses }) => witnesses)],
    throttledGpus: answers.flatMap(({ sighting, throttle }) =>
      throttle === null ? [] : { gpu: sighting.id, reason: throttle },
    ),
    hardwareLimits: answers.flatMap(({ limits }) => limits ?? []),
    notes: [...limitsNote, ...cardless.notes, ...counts, ...faults].slice(0, MOST_NOTES),
    ignored: explains ? ignoredIn(scrape, unnamed) : [],
  };
}

/** A failed collection leaves the card listed, and none of its readings. */
function answerOf(
  id: string,
  rows: readonly GpuRow[],
  failed: ReadonlySet<GpuExporter>,
  given: Set<string>,
): CardAnswer {
  const trusted = rows.filter(({ exporter }) => !failed.has(exporter));
  if (trusted.length === rows.length) return readCard(id, rows, given);
  const listing = rows.map((row) => ({ ...row, series: { ...row.series, is: 'seen' as const } }));
  return { ...readCard(id, trusted, given), sighting: readCard(id, listing, given).sighting };
}

/** Samples first, then the lines that could not be read, then cards that only other families name. */
function rowsOf(scrape: Scrape): GpuRow[] {
  const rows: GpuRow[] = [];
  for (const [name, entries] of ENTRIES) {
    for (const sample of scrape.samples.get(name) ?? []) {
      const entry = entryOf(entries, sample.labels);
      if (!entry || EXPORTER_FACTS.has(entry.series.is)) continue;
      rows.push({
        exporter: entry.exporter,
        series: entry.series,
        name,
        identity: identityOf(entry.exporter, sample.labels),
        value: sample.value,
        reason: undefined,
        sampledAtMs: sampledAtMs(sample, scrape),
        xid: sample.labels['xid'],
        pod: podOf(sample.labels),
      });
    }
  }
  for (const line of scrape.rejected) {
    const entry = entryOf(ENTRIES.get(line.name) ?? [], line.labels);
    if (!entry || EXPORTER_FACTS.has(entry.series.is)) continue;
    rows.push({
      exporter: entry.exporter,
      series: entry.series,
      name: line.name,
      identity: rejectedIdentity(entry.exporter, line) ?? { part: '' },
      value: null,
      reason: `line ${line.line}: ${line.reason}`,
      sampledAtMs: undefined,
      xid: undefined,
      pod: null,
    });
  }
  return [...rows, ...listedRows(scrape, rows)];
}

/** One for each card, or part of one, that nothing else of the body names. A number names none here. */
function listedRows({ listed = [] }: Scrape, rows: readonly GpuRow[]): GpuRow[] {
  const found: GpuRow[] = [];
  const known = new Set(rows.map(({ identity }) => identity));
  for (const { name, labels } of listed) {
    const exporter = GPU_EXPORTERS.find(({ lists }) => lists?.names.test(name));
    if (!exporter || exporter.lists?.notOf?.some((label) => labels[label] !== undefined)) continue;
    const identity = identityOf(exporter, labels);
    if (!isCertain(identity) || known.has(identity)) continue;
    known.add(identity);
    const told = { value: Number.NaN, reason: undefined, sampledAtMs: undefined, xid: undefined };
    found.push({ exporter, series: LISTED, name, identity, ...told, pod: podOf(labels) });
  }
  return found;
}

const LISTED: GpuSeries = { is: 'seen', names: [] };

/**
 * Of a rejected line only the labels before its fault are known. A number among them finds a card that the body names
 * otherwise, and makes none.
 */
function rejectedIdentity(exporter: GpuExporter, { labels, text }: RejectedLine): RowIdentity | null {
  const known = labels ? identityOf(exporter, labels) : null;
  if (known && isCertain(known)) return known;
  return identityInText(exporter, text) ?? known;
}

const isCertain = ({ uuid, pciAddress, serial }: RowIdentity): boolean => (uuid ?? pciAddress ?? serial) !== undefined;

/** Which of a name's series a row is of; without labels the first. */
function entryOf(entries: readonly Entry[], labels: Labels | null): Entry | undefined {
  for (const entry of entries) if (labels === null || isMeant(entry.series, labels)) return entry;
  return undefined;
}

function isMeant({ where }: GpuSeries, labels: Labels): boolean {
  if (!where) return true;
  return Object.entries(where).every(([label, values]) => values.includes(labels[label] ?? ''));
}

/** What exporters say of their own collection: a tool that fails for its cards is a sign of a GPU. */
function failuresOf(scrape: Scrape): { readonly signs: GpuSign[]; readonly failed: ReadonlySet<GpuExporter> } {
  const signs: GpuSign[] = [];
  const failed = new Set<GpuExporter>();
  for (const { exporter, series, name, value } of exporterFacts(scrape)) {
    const isBad = series.is === 'collect-success' ? value !== 1 : series.is === 'exit-status' && value !== 0;
    if (!isBad) continue;
    if (series.is === 'collect-success') failed.add(exporter);
    signs.push({ kind: 'nvidia-smi-failed', detail: printable(`${exporter.exporter}: ${name} is ${value}`) });
  }
  for (const { name, line, reason } of scrape.rejected) {
    // A word of success that cannot be read is none.
    const entry = EXPORTER_ENTRIES.find((each) => each.name === name && each.series.is === 'collect-success');
    if (!entry) continue;
    failed.add(entry.exporter);
    const detail = `${entry.exporter.exporter}: line ${line} of ${name} cannot be read: ${reason}`;
    signs.push({ kind: 'nvidia-smi-failed', detail: printable(detail) });
  }
  return { signs, failed };
}

function sourceWitnesses(scrape: Scrape): Witness[] {
  return exporterFacts(scrape).flatMap(({ series, name, value }) =>
    series.is === 'collected-at' && Number.isFinite(value) ? [{ of: 'source' as const, name, value }] : [],
  );
}

function exporterFacts(scrape: Scrape): (Entry & { readonly name: string; readonly value: number })[] {
  return EXPORTER_ENTRIES.flatMap((entry) =>
    (scrape.samples.get(entry.name) ?? []).map(({ value }) => ({ ...entry, value })),
  );
}

/** One line per exporter; and one for cards that only a number names. */
function countNotes(cards: ReadonlyMap<string, readonly GpuRow[]>): string[] {
  const byExporter = new Map<string, Set<string>>();
  for (const [id, rows] of cards) {
    for (const { exporter } of rows) {
      const ids = byExporter.get(exporter.exporter);
      if (ids) ids.add(id);
      else byExporter.set(exporter.exporter, new Set([id]));
    }
  }
  return [...byExporter].flatMap(([exporter, ids]) => {
    const numbered = [...ids].filter((id) => id.startsWith(`${exporter}-gpu-`));
    const warning = `${numbered.join(', ')}: known by number only, which may move between cards at the next boot`;
    return [`${exporter} tells of ${ids.size} GPUs`, ...(numbered.length > 0 ? [printable(warning)] : [])];
  });
}

function ignoredIn(scrape: Scrape, unnamed: readonly GpuRow[]): IgnoredSeries[] {
  const names = new Set(unnamed.map(({ exporter, name }) => `${exporter.exporter} ${name}`));
  const ignored: IgnoredSeries[] = [...names].map((what) => ({ what, why: 'no label tells which card it is of' }));
  for (const [name, [sample]] of scrape.samples) {
    const rule = READ_NAMES.has(name) ? undefined : UNREAD_GPU_SERIES.find(({ names }) => names.test(name));
    if (rule) ignored.push({ what: name, ...(sample && { says: String(sample.value) }), why: rule.why });
  }
  return ignored.slice(0, MOST_IGNORED);
}
