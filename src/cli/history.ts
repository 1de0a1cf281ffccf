// `vsf-safety history`: what was. On a terminal the lines that matter are plotted with their limits, and trips and
// cooldowns marked below; everywhere every line has a row with its highest value and when that was; then the events.
import type { HistorySchema, Told } from '../http/schemas.ts';
import { CLIENT_HELP, CLIENT_OPTIONS, ServiceClient } from './client.ts';
import { type Command, CommandFailed, EXIT, type Io, readArguments } from './io.ts';
import {
  type Cell,
  limitText,
  type Paint,
  paintFor,
  printable,
  tableOf,
  valueText,
  writeJson,
  writeLines,
} from './layout.ts';
import { nameOf } from './node-table.ts';
import {
  axisLines,
  LABEL_WIDTH,
  type PlotFrame,
  type PlotLimit,
  type PlotLine,
  plotLines,
  secondText,
} from './plot.ts';
import { isStatus } from './status.ts';

const help = `\
Usage: vsf-safety history [--node NODE] [--from TIME] [--to TIME] [--gpu ID] [options]

Shows what was: on a terminal plots with their limits, then the highest value of everything and when
it was, trips, cooldowns and events. Of several nodes each one's worst margin, unless one is named.

Options:
  --node NODE        every reading of this node
  --from TIME        where to begin (default -1h)
  --to TIME          where to end (default now)
  --gpu ID           only this card of the node: its slot or its UUID, or the beginning of one
${CLIENT_HELP}

A TIME is before now (-90s, -30m, -1h, -2d), a time of this machine's clock (2026-01-31T12:00), one
with a zone (2026-01-31T12:00:00Z), or ms since 1970.

Exit code: 0 when the service answered, also where there is nothing; 1 when it did not.

Examples:
  vsf-safety history
  vsf-safety history --node bizon1 --from -6h --gpu 0000:0b:00.0
  vsf-safety history --json | jq '.spans'
`;

type History = Told<typeof HistorySchema>;
type SeriesOf = History['series'][number];
interface Cards {
  readonly gpus: readonly { readonly id: string; readonly pciAddress?: string }[];
}

const PLOT_HEIGHT = 8;
/** Below that a plot tells nothing, and the table does. */
const NARROWEST = 50;
const WIDEST = 200;
const MOST_NODES = 20;
const MOST_EVENTS = 30;

export const command: Command = {
  help,
  async run(args, io) {
    const { values } = readArguments(signed(args), {
      ...CLIENT_OPTIONS,
      node: { type: 'string' },
      from: { type: 'string', default: '-1h' },
      to: { type: 'string', default: 'now' },
      gpu: { type: 'string' },
    });
    const client = await ServiceClient.from(values, io);
    const query = new URLSearchParams({ from: zoned(values.from), to: zoned(values.to) });
    if (values.node !== undefined) query.set('node', values.node);
    const { body } = await client.ask({ method: 'GET', path: `/history?${query}`, needs: 'anybody', expects: [200] });
    if (!isHistory(body)) throw new CommandFailed(`${client.url} did not answer with a history; is it vsf-safety?`);
    if (values.json) {
      writeJson(io.stdout, body);
      return EXIT.ok;
    }
    const cards = await cardsOf(client, body);
    const chosen = values.gpu === undefined ? body : { ...body, series: ofCard(body, values.gpu, cards) };
    writeLines(io.stdout, historyLines(chosen, cards, io));
    return EXIT.ok;
  },
};

/** `--from -1h` as it is typed: a value that begins with a dash would be taken for an option. */
function signed(args: readonly string[]): string[] {
  const joined: string[] = [];
  for (const arg of args) {
    const last = joined.at(-1);
    if ((last === '--from' || last === '--to') && /^-\d/.test(arg)) joined[joined.length - 1] = `${last}=${arg}`;
    else joined.push(arg);
  }
  return joined;
}

/** A time without a zone is one of this machine's clock. */
function zoned(text: string): string {
  const ms = /^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?$/.test(text) ? new Date(text).getTime() : Number.NaN;
  return Number.isNaN(ms) ? text : String(ms);
}

const isHistory = (body: unknown): body is History =>
  typeof body === 'object' && body !== null && 'at' in body && 'series' in body && 'margins' in body;

/** Which slot each card is in, as the service sees it now; nothing where it does not say. */
async function cardsOf(client: ServiceClient, { series }: History): Promise<Cards> {
  const node = series[0]?.node;
  if (node === undefined) return { gpus: [] };
  const path = `/status?node=${encodeURIComponent(node)}`;
  try {
    const { body } = await client.ask({ method: 'GET', path, needs: 'anybody', expects: [200] });
    return { gpus: isStatus(body) ? body.nodes.flatMap(({ gpus }) => gpus) : [] };
  } catch (error) {
    // A node that is gone has a past all the same.
    if (error instanceof CommandFailed) return { gpus: [] };
    throw error;
  }
}

function ofCard({ series, margins }: History, wanted: string, { gpus }: Cards): SeriesOf[] {
  const cards = [
    ...new Set(series.flatMap(({ component, id }) => (component === 'gpu' && id !== undefined ? [id] : []))),
  ];
  if (cards.length === 0 && margins.length > 1) {
    throw new CommandFailed('--gpu needs --node: there is more than one node', EXIT.usage);
  }
  const slotOf = (id: string): string | undefined => gpus.find((gpu) => gpu.id === id)?.pciAddress;
  const begins = (text: string): boolean => text.toLowerCase().startsWith(wanted.toLowerCase());
  const found = cards.filter((id) => begins(id) || begins(slotOf(id) ?? ''));
  if (found.length === 1) return series.filter(({ component, id }) => component === 'gpu' && id === found[0]);
  const known = cards.map((id) => slotOf(id) ?? id).join(', ') || 'none';
  const what = found.length === 0 ? 'is no card of then' : `names ${found.length} cards`;
  throw new CommandFailed(`--gpu ${JSON.stringify(wanted)} ${what}; there are: ${known}`);
}

function historyLines(history: History, cards: Cards, io: Pick<Io, 'stdout' | 'env'>): string[] {
  const paint = paintFor(io);
  const fromMs = Date.parse(history.from);
  const toMs = Date.parse(history.to);
  const withDay = toMs - fromMs > 86_400_000;
  const lines = headLines(history, fromMs, toMs, paint);
  if (history.at.length === 0) {
    const kept =
      history.keptFrom === null
        ? 'nothing is kept yet'
        : `the oldest is from ${secondText(Date.parse(history.keptFrom), true)}`;
    lines.push('', `  No figures in this time: ${kept}`);
  } else {
    const { columns = 80 } = io.stdout as { readonly columns?: number };
    const frame = { fromMs, toMs, width: Math.min(WIDEST, columns) - LABEL_WIDTH - 1, height: PLOT_HEIGHT };
    if (io.stdout.isTTY === true && columns >= NARROWEST) lines.push(...plots(history, cards, frame, paint));
    lines.push(...seriesTable(history, cards, withDay, paint), ...marginTable(history, withDay, paint));
  }
  return [...lines, ...spanTable(history, paint), ...eventTable(history, withDay, paint)];
}

function headLines(
  { node, series, nodesTotal, simulated, stepSeconds, store }: History,
  fromMs: number,
  toMs: number,
  paint: Paint,
): string[] {
  const whose = node ?? series[0]?.node ?? (nodesTotal === 0 ? 'no node' : `${nodesTotal} nodes`);
  const head = `${paint(printable(whose), 'bold')}, ${secondText(fromMs, true)} to ${secondText(toMs, true)}, a point stands for ${stepSeconds} s`;
  return [
    simulated ? `${head}  ${paint('SIMULATED: no hardware was watched', 'yellow')}` : head,
    ...(store.state === 'ok' ? [] : [paint(`New figures are being LOST: ${printable(store.detail)}`, 'red')]),
  ];
}

/** The quantities that are plotted, and of which the hottest device is. */
const PLOTS = [
  { component: 'gpu', quantity: 'temperature' },
  { component: 'gpu', quantity: 'power' },
  { component: 'cpu', quantity: 'temperature' },
  { component: 'system', quantity: 'total-power' },
] as const;

function plots(history: History, cards: Cards, frame: PlotFrame, paint: Paint): string[] {
  const drawn = PLOTS.flatMap(({ component, quantity }) => {
    const own = history.series.filter((series) => series.component === component && series.quantity === quantity);
    return own.length === 0 ? [] : [lineOf(own, history, cards)];
  });
  const margin = drawn.length === 0 ? marginLine(history) : [];
  const charts = [...drawn, ...margin].flatMap((line) => ['', ...plotLines(line, frame, paint)]);
  return charts.length === 0 ? [] : [...charts, ...axisLines(history.spans, frame, paint)];
}

/** One line for all devices of a kind: from the coolest to the hottest. */
function lineOf(series: readonly SeriesOf[], { at }: History, cards: Cards): PlotLine {
  const [first] = series;
  const name =
    series.length === 1 && first
      ? nameOf(first, cards)
      : `${first?.component} ${first?.quantity}, ${series.length} devices from lowest to highest`;
  const of = (cells: (one: SeriesOf) => readonly (number | null)[], choose: (...values: number[]) => number) =>
    at.map((_, index) => {
      const values = series.map((one) => cells(one)[index] ?? null).filter((value) => value !== null);
      return values.length === 0 ? null : choose(...values);
    });
  const limits = first?.limits.at(-1);
  const limit = (name: string, value: number | undefined, colour: PlotLimit['colour']): PlotLimit[] =>
    value === undefined ? [] : [{ name, value, colour }];
  return {
    title: printable(name),
    unit: first?.unit ?? '',
    at,
    min: of(({ min }) => min, Math.min),
    max: of(({ max }) => max, Math.max),
    limits: [
      ...limit('warning', limits?.warning, 'yellow'),
      ...limit('hard stop', limits?.hardStop, 'red'),
      ...limit('maximum', limits?.max, 'yellow'),
    ],
  };
}

function marginLine({ at, margins }: History): PlotLine[] {
  if (margins.length === 0) return [];
  const worst = at.map((_, index) => {
    const values = margins.map(({ min }) => min[index] ?? null).filter((value) => value !== null);
    return values.length === 0 ? null : Math.min(...values);
  });
  const limits = [{ name: 'at a limit', value: 0, colour: 'red' as const }];
  return [{ title: 'worst margin of all nodes', unit: 'ratio', at, min: worst, max: worst, limits }];
}

const HEAD = (texts: readonly string[]): Cell[] => texts.map((text) => ({ text, colour: 'dim' }));

function seriesTable({ series, at }: History, cards: Cards, withDay: boolean, paint: Paint): string[] {
  if (series.length === 0) return [];
  const rows = series.map((one): Cell[] => {
    const { unit, limits } = one;
    const peak = highest(one.max);
    const now = limits.at(-1);
    const means = one.mean.filter((value) => value !== null);
    const mean = means.reduce((sum, value) => sum + value, 0) / means.length;
    const bound = now?.hardStop ?? now?.max ?? Number.POSITIVE_INFINITY;
    const isOver = peak.value >= (now?.hardStop ?? Number.POSITIVE_INFINITY) || peak.value > bound;
    const text = valueText(peak.value, unit);
    const isWarm = peak.value >= (now?.warning ?? Number.POSITIVE_INFINITY);
    return [
      nameOf(one, cards),
      isOver ? { text: `${text} OVER`, colour: 'red' } : isWarm ? { text: `${text} WARNING`, colour: 'yellow' } : text,
      secondText(at[peak.index] ?? 0, withDay),
      valueText(mean, unit),
      now?.max === undefined ? limitText(now?.warning, unit) : `max ${limitText(now.max, unit)}`,
      limitText(now?.hardStop, unit),
    ];
  });
  return ['', ...tableOf([HEAD(['READING', 'HIGHEST', 'WHEN', 'MEAN', 'WARNING', 'HARD STOP']), ...rows], paint)];
}

function highest(cells: readonly (number | null)[]): { readonly value: number; readonly index: number } {
  let best = { value: Number.NEGATIVE_INFINITY, index: 0 };
  for (const [index, value] of cells.entries()) if (value !== null && value > best.value) best = { value, index };
  return best;
}

function marginTable({ margins, nodesTotal, series }: History, withDay: boolean, paint: Paint): string[] {
  if (series.length > 0 || margins.length === 0) return [];
  const rows = margins.slice(0, MOST_NODES).map(({ node, worst: { at, marginRatio } }): Cell[] => {
    const text = `${(marginRatio * 100).toFixed(1)} %`;
    return [node, marginRatio <= 0 ? { text: `${text} OVER`, colour: 'red' } : text, secondText(at, withDay)];
  });
  const rest = nodesTotal - rows.length;
  const more = rest > 0 ? [`  and ${rest} more nodes, each further from its limits; --node NODE shows one`] : [];
  return ['', ...tableOf([HEAD(['NODE', 'WORST MARGIN', 'WHEN']), ...rows], paint), ...more];
}

function spanTable({ spans }: History, paint: Paint): string[] {
  if (spans.length === 0) return [];
  const rows = spans
    .slice(-MOST_EVENTS)
    .map(({ state, node, from, to, reason = '' }): Cell[] => [
      { text: state, colour: state === 'tripped' ? 'red' : 'yellow' },
      node ?? 'everything',
      secondText(from, true),
      to === null ? 'still on' : `to ${secondText(to, true)}`,
      reason,
    ]);
  return ['', paint('Trips and cooldowns', 'bold'), ...tableOf(rows, paint)];
}

function eventTable({ events, eventsTotal }: History, withDay: boolean, paint: Paint): string[] {
  if (events.length === 0) return ['', '  No events in this time'];
  const rows = events
    .slice(-MOST_EVENTS)
    .map(({ at, name, message }) => [secondText(Date.parse(at), withDay), name, message]);
  const rest = eventsTotal - rows.length;
  const more = rest > 0 ? [`  ${rest} earlier ones; --json shows up to 500`] : [];
  return ['', paint('Events', 'bold'), ...more, ...tableOf(rows, paint)];
}
