// What `watch` shows: the newest status of the service as lines for one screen. The word on top is the service's; below
// it the readings (watch-readings.ts), worst first, then what protects less than it could. A small screen loses what is
// harmless first, and says how much it does not show. What is old is never shown as if it were the present. Pure; who
// asks the service and writes to the terminal is watch.ts.
import type { NodeStatus, Status } from '../http/status-view.ts';
import { ageText, type Cell, type Paint, printable, tableOf } from './layout.ts';
import { podRows } from './node-table.ts';
import { COLOURS } from './status.ts';
import { readingLines } from './watch-readings.ts';

/** What is known at one moment. */
export interface Seen {
  readonly url: string;
  /** The last answer; `null` before the first. */
  readonly status: Status | null;
  /** Since that answer arrived, or since watching began. */
  readonly ageSeconds: number;
  /** Why there is no newer answer; `null` while the service answers. */
  readonly failure: string | null;
  readonly intervalSeconds: number;
}

export interface Size {
  readonly columns: number;
  readonly rows: number;
}

/** A request may take this long before what is shown counts as old. */
const ANSWER_GRACE_SECONDS = 2;
/** No result by this many intervals after the last is a late tick, and starts are refused (`tick-late`). */
const LATE_AFTER_INTERVALS = 1.5;
const REASON_LINES = 3;

/** Why what is shown is not the present. */
export interface Alarm {
  readonly kind: 'no-contact' | 'old';
  readonly text: string;
}

/** `null` while what is shown is the present. */
export function alarmOf({ url, status, ageSeconds, failure, intervalSeconds }: Seen): Alarm | null {
  if (failure !== null || ageSeconds > intervalSeconds + ANSWER_GRACE_SECONDS) {
    const why = failure ?? `${url} has not answered yet`;
    return { kind: 'no-contact', text: `NO CONTACT for ${ageText(ageSeconds)}, trying on: ${printable(why)}` };
  }
  if (status === null) return null;
  const { lastTickAgeSeconds, intervalSeconds: everySeconds } = status.evaluation;
  const tickAgeSeconds = lastTickAgeSeconds === null ? null : lastTickAgeSeconds + ageSeconds;
  if (tickAgeSeconds === null || tickAgeSeconds <= LATE_AFTER_INTERVALS * everySeconds) return null;
  const late = `the service last judged ${ageText(tickAgeSeconds)} ago and should every ${everySeconds} s`;
  return { kind: 'old', text: `OLD: ${late}; it refuses starts until it does` };
}

/** One change on one line, for files and pipes: `2026-01-01T00:00:10.000Z ABORT tripped GPU 2 on rig is at …`. */
export function changeLine(status: Status): string {
  const { at, lastResult, simulated } = status;
  const reason = lastResult?.reason ?? 'the first evaluation is under way';
  const told = `${at} ${lastResult?.action ?? '-'} ${interlockWord(status)} ${reason}`;
  return printable(simulated ? `${told} (simulated)` : told);
}

/** What {@link changeLine} tells of, without what changes all the time: a new text is a change. */
export function changeKey({ lastResult, interlock, simulated }: Status): string {
  const notClear = Object.entries(interlock.nodes).filter(([, state]) => state !== 'clear');
  return JSON.stringify([lastResult?.action, interlock.state, interlock.tripId, notClear, simulated]);
}

/** `clear`; `cooling:a,b` where it is not the same on all nodes. One word. */
function interlockWord({ interlock }: Status): string {
  const affected = Object.entries(interlock.nodes).filter(([, state]) => state === interlock.state);
  if (interlock.state === 'clear' || affected.length === Object.keys(interlock.nodes).length) return interlock.state;
  return `${interlock.state}:${affected.map(([node]) => node).join(',')}`;
}

/** The whole screen: at most `rows` lines of at most `columns` characters. */
export function screenLines(seen: Seen, { columns, rows }: Size, paint: Paint): string[] {
  const loud = (text: string): string => paint(paint(text, 'bold'), 'red');
  const alarm = alarmOf(seen);
  const { status } = seen;
  const foot = paint(`every ${seen.intervalSeconds} s, Ctrl-C ends`, 'dim');
  const alarmLines = alarm === null ? [] : wrapped(`!! ${alarm.text}`, columns, REASON_LINES).map(loud);
  if (status === null) {
    const asking = [`vsf-safety at ${seen.url}`, ...(alarm === null ? ['  asking …'] : alarmLines), foot];
    return clipped(asking, columns).slice(0, rows);
  }
  const head = [...aboutLine(seen, status, paint), ...alarmLines, ...wordLines(seen, status, alarm, columns, paint)];
  const table = readingLines(status, columns, paint);
  return clipped([...fitted(head, table, sectionsOf(status, paint), rows - 1), foot], columns);
}

function aboutLine({ url }: Seen, { version, uptimeSeconds, simulated }: Status, paint: Paint): string[] {
  const about = printable(`vsf-safety ${version} at ${url}, up ${ageText(uptimeSeconds)}`);
  return [simulated ? `${about}  ${paint('SIMULATED: no hardware is watched', 'yellow')}` : about];
}

/** The action and its reason, and how the interlock stands. */
function wordLines(seen: Seen, status: Status, alarm: Alarm | null, columns: number, paint: Paint): string[] {
  const { lastResult, interlock, evaluation, nodes, constraints } = status;
  const action = printable(lastResult?.action ?? 'NONE YET');
  const reason = lastResult?.reason ?? 'the first evaluation is under way';
  // What was right a minute ago must not stand there in green.
  const colour = alarm === null ? (COLOURS[action] ?? 'bold') : 'bold';
  const word = alarm === null ? action : `LAST KNOWN: ${action}`;
  const [first = '', ...more] = wrapped(`${word}  ${printable(reason)}`, columns, REASON_LINES);
  const only = nodes.length === 1 ? nodes[0] : undefined;
  const { lastEvaluationAgeSeconds } = evaluation;
  const ageSeconds = lastEvaluationAgeSeconds === null ? null : lastEvaluationAgeSeconds + seen.ageSeconds;
  const interlockText = printable(`interlock ${interlock.state}`);
  const facts = [
    ...(only ? nodeFacts(only) : []),
    ageSeconds === null ? 'not yet evaluated' : `evaluated ${ageText(ageSeconds)} ago`,
    ...(lastResult?.waitSeconds === undefined ? [] : [`wait ${ageText(lastResult.waitSeconds)}`]),
    ...(lastResult?.intensityCap === undefined ? [] : [`intensity at most ${lastResult.intensityCap}`]),
    `profile ${only?.profile ?? constraints.profile}`,
    ...(interlock.tripId === undefined ? [] : [`trip ${interlock.tripId}`]),
  ];
  return [
    `${paint(paint(first.slice(0, word.length), 'bold'), colour)}${first.slice(word.length)}`,
    ...more,
    [
      paint(interlockText, alarm === null ? (COLOURS[interlock.state] ?? 'bold') : 'bold'),
      ...facts.map(printable),
    ].join(', '),
  ];
}

function nodeFacts({ coolingSeconds, live }: NodeStatus): string[] {
  const cooling = coolingSeconds === null ? [] : [`${ageText(coolingSeconds)} of cooling to go at least`];
  return [...cooling, live ? 'a workload is live' : 'no workload'];
}

interface Section {
  readonly title: string;
  readonly lines: readonly string[];
}

/** What stands below the readings, the most important first; only what there is something to say of. */
function sectionsOf(status: Status, paint: Paint): Section[] {
  const { nodes, leases, unleased, unprotected, sources, actuators, journal, lastResult } = status;
  const section = (title: string, rows: readonly (readonly Cell[])[]): Section[] =>
    rows.length === 0 ? [] : [{ title: `${title} (${rows.length})`, lines: tableOf(rows, paint) }];
  const worstNodesFirst = [...nodes].sort((a, b) => STATES.indexOf(b.interlock) - STATES.indexOf(a.interlock));
  return [
    // The first one is the reason on top.
    ...section(
      'Further findings',
      (lastResult?.findings ?? []).slice(1).map(({ message }) => [message]),
    ),
    ...section(
      'Not working',
      [
        ...(journal.ok ? [] : [['journal', journal.detail]]),
        ...Object.entries(actuators).flatMap(([name, { available, detail }]) => (available ? [] : [[name, detail]])),
        ...sources.flatMap(({ node, source, failure }) =>
          failure === null ? [] : [[source, `${node}: ${failure.detail} (for ${ageText(failure.seconds)})`]],
        ),
      ].map(([name = '', detail = '']) => [{ text: name, colour: 'red' as const }, detail]),
    ),
    ...section(
      'Unprotected',
      unprotected.map(({ message }) => [message]),
    ),
    ...section(
      'Leases',
      leases.map((lease) => leaseCells(lease, status.at)),
    ),
    ...section(
      'Without a lease',
      unleased.map(({ kind, name, node = '-', gpu = '' }) => [kind, name, node, gpu]),
    ),
    ...section(
      'GPUs used by pods',
      nodes.flatMap((node) => podRows(node).map(([gpu, pods]) => [node.node, gpu, pods])),
    ),
    ...(nodes.length < 2
      ? []
      : section(
          'Nodes',
          worstNodesFirst.map((node) => {
            const colour = COLOURS[node.interlock] ?? 'bold';
            return [node.node, { text: node.interlock, colour }, nodeFacts(node).join(', '), `profile ${node.profile}`];
          }),
        )),
  ];
}

const STATES = ['clear', 'cooling', 'tripped'];

function leaseCells(
  { workload, intensity, intensityCap, nodes, expiresAt }: Status['leases'][number],
  at: string,
): Cell[] {
  const reduced = intensityCap < intensity;
  const granted = `intensity ${reduced ? `${intensityCap} of ${intensity}` : intensity}`;
  // By the service's own clock, which may differ from ours.
  const leftSeconds = expiresAt === null ? null : (Date.parse(expiresAt) - Date.parse(at)) / 1000;
  return [
    workload,
    reduced ? { text: granted, colour: 'yellow' } : granted,
    nodes === null ? 'all nodes' : nodes.join(', '),
    leftSeconds === null ? 'waits for the first evaluation' : `lapses in ${ageText(Math.max(0, leftSeconds))}`,
  ];
}

/** Puts it together on `rows` lines: sections shrink first, then the harmless end of the table, then sections go. */
function fitted(
  head: readonly string[],
  table: readonly string[],
  sections: readonly Section[],
  rows: number,
): string[] {
  const attempts = [
    { mostLines: Number.POSITIVE_INFINITY, tableRows: table.length },
    { mostLines: 3, tableRows: Math.min(table.length, Math.floor(rows / 2)) },
    { mostLines: 1, tableRows: Math.min(table.length, 7) },
    { mostLines: 0, tableRows: Math.min(table.length, 4) },
  ];
  for (const { mostLines, tableRows } of attempts) {
    const below = sections.flatMap(({ title, lines }) =>
      mostLines === 0 ? [title] : ['', title, ...cut(lines, mostLines)],
    );
    const room = rows - head.length - below.length;
    if (room >= tableRows) return [...head, ...cut(table, room), ...below];
  }
  return [...head, ...cut(table, Math.max(0, rows - head.length))].slice(0, rows);
}

/** The first lines, and how many more there are. */
function cut(lines: readonly string[], most: number): readonly string[] {
  if (lines.length <= most) return lines;
  // A heading without a line is no use, and one line alone says more than "+1 more".
  const kept = Math.max(0, most - 1);
  return most <= 0 ? [] : [...lines.slice(0, kept), `  +${lines.length - kept} more`];
}

/** At most `most` lines of at most `columns` characters, broken between words. */
function wrapped(text: string, columns: number, most: number): string[] {
  const lines: string[] = [];
  let rest = text;
  while (rest.length > columns && lines.length < most - 1) {
    const blank = rest.lastIndexOf(' ', columns);
    const end = blank > columns / 2 ? blank : columns;
    lines.push(rest.slice(0, end));
    rest = `  ${rest.slice(end).trimStart()}`;
  }
  return [...lines, rest];
}

/** Cuts painted lines at the edge of the screen; colours do not count, and end as they would have. */
function clipped(lines: readonly string[], columns: number): string[] {
  return lines.map((line) => {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: what paint() adds begins with one
    const parts = line.split(/(\u001b\[\d+m)/);
    const isColour = (part: string): boolean => part.startsWith('\u001b');
    const length = parts.reduce((sum, part) => sum + (isColour(part) ? 0 : part.length), 0);
    if (length <= columns) return line;
    let room = columns - 1;
    const kept = parts.map((part) => {
      if (isColour(part)) return part;
      const text = part.slice(0, Math.max(0, room));
      const isEdge = room >= 0 && part.length > room;
      room = isEdge ? -1 : room - part.length;
      return isEdge ? `${text}…` : text;
    });
    return kept.join('');
  });
}
