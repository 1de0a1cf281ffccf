// What a stop did, or a drill would do, object by object.
import type { JSX } from 'preact';
import { WideTable } from './wide-table.tsx';
import type { StopEntry } from './wire.ts';

/** More are counted and not listed: a table of thousands helps nobody. */
const MOST_ENTRIES = 100;

interface Props {
  readonly entries: readonly StopEntry[];
  readonly empty: string;
}

const ORDER: readonly StopEntry['state'][] = ['failed', 'refused', 'stopping', 'found', 'would-stop', 'stopped'];

export function StopEntries({ entries, empty }: Props): JSX.Element {
  if (entries.length === 0) return <p class="quiet">{empty}</p>;
  const sorted = [...entries].sort((a, b) => ORDER.indexOf(a.state) - ORDER.indexOf(b.state));
  return (
    <>
      <WideTable label="What it stops">
        <thead>
          <tr>
            <th scope="col">What</th>
            <th scope="col">Where</th>
            <th scope="col">State</th>
            <th scope="col">How</th>
            <th scope="col">Took</th>
          </tr>
        </thead>
        <tbody>
          {sorted.slice(0, MOST_ENTRIES).map(({ kind, name, node, state, how, verified, tookMs, detail, prior }) => (
            <tr key={`${kind}/${name}/${node}`}>
              <td>
                {kind} <b>{name}</b>
              </td>
              <td>{node ?? ''}</td>
              <td class={`entry-${state}`}>
                {state}
                {verified ? ', verified' : ''}
              </td>
              <td>{[how, prior === undefined ? '' : `was ${prior}`, detail].filter(Boolean).join('; ')}</td>
              <td>{tookMs > 0 ? `${Math.round(tookMs)} ms` : ''}</td>
            </tr>
          ))}
        </tbody>
      </WideTable>
      {sorted.length > MOST_ENTRIES && <p class="quiet">and {sorted.length - MOST_ENTRIES} more, see GET /estop</p>}
    </>
  );
}
