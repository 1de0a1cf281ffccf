// What else must be seen: leases and what runs without one, what nothing protects, where the readings come from, what can
// stop workloads, and the log.
import type { ComponentChildren, JSX } from 'preact';
import { useState } from 'preact/hooks';
import { ToneIcon } from './icons.tsx';
import { readable } from './names.ts';
import type { LogEntry } from './spans.ts';
import { ageText, clockText } from './text.ts';
import type { Tone } from './verdict.ts';
import { WideTable } from './wide-table.tsx';
import type { SafetyResult, Status, WithHistory } from './wire.ts';

/** Rows at first; the rest on demand. */
const FEW_ROWS = 12;

interface ListProps<Row> {
  readonly id: string;
  readonly title: string;
  readonly rows: readonly Row[];
  readonly head: readonly string[];
  readonly empty: string;
  readonly children: (row: Row) => JSX.Element;
  readonly note?: ComponentChildren;
  readonly few?: number;
}

function List<Row>({ id, title, rows, head, empty, children, note, few = FEW_ROWS }: ListProps<Row>): JSX.Element {
  const [isAll, setAll] = useState(false);
  const shown = isAll ? rows : rows.slice(0, few);
  return (
    <section id={id} class="panel" aria-labelledby={`${id}-title`}>
      <h2 id={`${id}-title`}>
        {title} {rows.length > 0 && <span class="count">{rows.length}</span>}
      </h2>
      {note}
      {rows.length === 0 ? (
        <p class="empty">{empty}</p>
      ) : (
        <WideTable label={title}>
          <thead>
            <tr>
              {head.map((title) => (
                <th scope="col" key={title}>
                  {title}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>{shown.map(children)}</tbody>
        </WideTable>
      )}
      {rows.length > few && (
        <button type="button" class="more" onClick={() => setAll(!isAll)}>
          {isAll ? 'Show fewer' : `Show all ${rows.length}`}
        </button>
      )}
    </section>
  );
}

export const Leases = ({
  status,
  serverSeconds,
}: {
  readonly status: Status;
  readonly serverSeconds: number;
}): JSX.Element => (
  <List
    id="leases"
    title="Leases"
    rows={status.leases}
    head={['Workload', 'Intensity', 'Nodes', 'Held by', 'Ends unless renewed']}
    empty="No workload has leave to run."
  >
    {({ id, workload, intensity, intensityCap, nodes, identity, expiresAt }) => (
      <tr key={id}>
        <td title={id}>
          <b>{workload}</b>
        </td>
        <td>{intensityCap < intensity ? `${intensityCap} of ${intensity}` : intensity}</td>
        <td>{nodes === null ? 'all' : nodes.join(', ')}</td>
        <td>{identity}</td>
        <td>
          {expiresAt === null
            ? 'after the first judgement'
            : `in ${ageText(Math.max(0, Date.parse(expiresAt) / 1000 - serverSeconds))}`}
        </td>
      </tr>
    )}
  </List>
);

export const Unleased = ({ status }: { readonly status: Status }): JSX.Element | null =>
  status.unleased.length === 0 ? null : (
    <List
      id="unleased"
      title="Running without a lease"
      rows={status.unleased}
      head={['Kind', 'Name', 'Node', 'GPU']}
      empty=""
    >
      {({ kind, name, node, gpu, memoryMiB }) => (
        <tr key={`${kind}/${node}/${name}/${gpu}`}>
          <td>{kind}</td>
          <td>{name}</td>
          <td>{node}</td>
          <td>{[gpu, memoryMiB === undefined ? '' : `${memoryMiB} MiB`].filter(Boolean).join(', ')}</td>
        </tr>
      )}
    </List>
  );

interface Gap {
  readonly key: string;
  readonly kind: string;
  readonly text: string;
  readonly tone: Tone;
}

/** Whatever protects less than one might think: what is not judged, and hands that are missing. */
export function Unprotected({
  status,
  result,
}: {
  readonly status: Status;
  readonly result: SafetyResult;
}): JSX.Element {
  const { actuators, journal, discovery } = status;
  const gaps: Gap[] = [
    ...Object.entries(actuators)
      .filter(([, { available }]) => !available)
      .map(([name, { detail }]) => gap('cannot stop', `${name}: ${detail}`, 'unknown')),
    ...(journal.ok ? [] : [gap('journal', `cannot be written: ${journal.detail}`, 'unknown')]),
    ...historyGaps(status),
    ...status.unprotected.map(({ code, message }) => gap(code, message, 'wait')),
    ...result.unprotected
      .filter(({ node }) => node === undefined)
      .map(({ code, message }) => gap(code, message, 'wait')),
    ...discovery.problems.map(({ origin, detail }) => gap('list of targets', `${origin}: ${detail}`, 'unknown')),
  ];
  const rows = [...new Map(gaps.map((one) => [one.key, one])).values()];
  return (
    <List
      id="unprotected"
      title="Unprotected"
      rows={rows}
      head={['What', 'Why']}
      empty="Everything that this service knows how to watch is watched."
      few={8}
    >
      {({ key, kind, text, tone }) => (
        <tr key={key}>
          <td class="nowrap">
            <ToneIcon tone={tone} size={16} /> {kind}
          </td>
          <td>{text}</td>
        </tr>
      )}
    </List>
  );
}

/** Limits that do not fit what the hardware says of itself, with what would resolve it. */
export const Conflicts = ({ status }: { readonly status: Status }): JSX.Element | null =>
  status.conflicts.length === 0 ? null : (
    <List
      id="conflicts"
      title="Limits against the hardware"
      rows={status.conflicts}
      head={['Conflict', 'What would resolve it']}
      empty=""
      few={4}
    >
      {({ code, message, remedy }) => (
        <tr key={`${code}/${message}`}>
          <td>{readable(message, status.nodes)}</td>
          <td>{remedy === null ? 'resolved already' : <code>{remedy}</code>}</td>
        </tr>
      )}
    </List>
  );

const gap = (kind: string, text: string, tone: Tone): Gap => ({ key: `${kind}/${text}`, kind, text, tone });

/** Services before the history do not tell of one. */
function historyGaps(status: Status): Gap[] {
  const { history } = status as Status & WithHistory;
  return history?.state === 'failing' ? [gap('history', `figures are being lost: ${history.detail}`, 'wait')] : [];
}

export function Sources({ status, ageSeconds }: { readonly status: Status; readonly ageSeconds: number }): JSX.Element {
  const rows = [...status.sources].sort(
    (a, b) => Number(a.up) - Number(b.up) || (b.oldestReadingAgeSeconds ?? 0) - (a.oldestReadingAgeSeconds ?? 0),
  );
  return (
    <List
      id="sources"
      title="Sources"
      rows={rows}
      head={['Source', 'Node', 'State', 'Newest', 'Oldest reading']}
      empty="Nothing is read."
    >
      {({ node, source, up, failure, lastSuccessAgeSeconds, oldestReadingAgeSeconds, notes }) => (
        <tr key={`${node}/${source}`}>
          <td title={notes.join('\n') || undefined}>
            <b>{source}</b>
          </td>
          <td>{node}</td>
          <td class="nowrap-icon">
            <ToneIcon tone={up ? 'safe' : 'unknown'} size={16} />{' '}
            {up ? 'up' : `failed: ${failure?.cause ?? ''} ${failure?.detail ?? ''}`}
          </td>
          <td>{lastSuccessAgeSeconds === null ? 'never' : `${ageText(lastSuccessAgeSeconds + ageSeconds)} ago`}</td>
          <td>{oldestReadingAgeSeconds === null ? 'none counts' : ageText(oldestReadingAgeSeconds + ageSeconds)}</td>
        </tr>
      )}
    </List>
  );
}

const EVENT_TONES: Readonly<Record<string, Tone>> = {
  tripped: 'stop',
  'stop-unverified': 'stop',
  'not-obeyed': 'stop',
  'stop-progress': 'wait',
  'cooling-started': 'wait',
  'intensity-reduced': 'slow',
  'reading-lost': 'unknown',
  'sensor-glitch': 'unknown',
  'journal-failed': 'unknown',
  'clock-jumped': 'unknown',
  reset: 'safe',
  'stop-verified': 'safe',
  'cooling-ended': 'safe',
  'reading-back': 'safe',
};

interface EventsProps {
  readonly events: readonly LogEntry[];
  readonly nodes: Status['nodes'];
  readonly hasGap: boolean;
  readonly isKept: boolean;
}

export const Events = ({ events, nodes, hasGap, isKept }: EventsProps): JSX.Element => (
  <List
    id="events"
    title="Events"
    rows={events}
    head={['Time', 'Event', 'What']}
    empty="Nothing has happened since this page was opened."
    note={
      <>
        {!isKept && <p class="quiet">Only what has happened since this page was opened.</p>}
        {hasGap && <p class="alarm">Some events were missed while there was no contact.</p>}
      </>
    }
  >
    {({ key, at, name, message, node, by }) => (
      <tr key={key}>
        <td class="nowrap">
          <time dateTime={at} title={at}>
            {clockText(at)}
          </time>
        </td>
        <td class="nowrap">
          {EVENT_TONES[name] && <ToneIcon tone={EVENT_TONES[name]} size={16} />} {name}
        </td>
        <td>
          {readable(message, nodes)}
          <span class="quiet">
            {node !== undefined && !message.includes(node) ? ` on ${node}` : ''}
            {by !== undefined && !message.includes(by) ? ` by ${by}` : ''}
          </span>
        </td>
      </tr>
    )}
  </List>
);
