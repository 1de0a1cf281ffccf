// All nodes: a few as cards, many as a grid of tiles, the ones that want attention first, with a card for the one that is
// looked at. A thousand tiles cost nothing that is not seen: a tile is drawn again only when what it says has changed.
import type { JSX } from 'preact';
import { memo } from 'preact/compat';
import { useState } from 'preact/hooks';
import { LEVEL_WORDS, LevelIcon, ToneIcon } from './icons.tsx';
import { NodeCard } from './node-card.tsx';
import type { NodeSummary } from './readings.ts';
import { StopControl } from './stop-control.tsx';
import { countText } from './text.ts';
import type { Status } from './wire.ts';

/** Up to this many nodes are shown whole. */
const MOST_CARDS = 3;

interface Props {
  readonly status: Status;
  /** Worst first. */
  readonly summaries: readonly NodeSummary[];
  /** The node that is looked at. */
  readonly selected: string | null;
  onSelect(node: string): void;
  onStopped(): void;
}

export function Nodes({ status, summaries, selected, onSelect, onStopped }: Props): JSX.Element {
  const [search, setSearch] = useState('');
  const [isTroubleOnly, setTroubleOnly] = useState(false);
  const count = status.nodes.length;
  if (count <= MOST_CARDS) {
    return (
      <section id="nodes" class="panel" aria-labelledby="nodes-title">
        <h2 id="nodes-title">{count === 1 ? 'Node' : 'Nodes'}</h2>
        {count === 0 && <p class="empty">No node is watched yet.</p>}
        {summaries.map(({ node }) => {
          const found = status.nodes.find((one) => one.node === node);
          return found && <NodeCard key={node} node={found} />;
        })}
      </section>
    );
  }
  const wanted = search.trim().toLowerCase();
  const shown = summaries.filter(
    (one) => (wanted === '' || one.node.toLowerCase().includes(wanted)) && (!isTroubleOnly || isTrouble(one)),
  );
  const troubled = summaries.filter(isTrouble).length;
  const card = status.nodes.find(({ node }) => node === selected);
  return (
    <section id="nodes" class="panel" aria-labelledby="nodes-title">
      <div class="panel-head">
        <h2 id="nodes-title">{countText(count, 'node')}, worst first</h2>
        <label class="search">
          <span class="sr-only">Search nodes</span>
          <input
            type="search"
            placeholder="Search nodes"
            value={search}
            onInput={(event) => setSearch(event.currentTarget.value)}
          />
        </label>
        <label class="check">
          <input
            type="checkbox"
            checked={isTroubleOnly}
            onChange={(event) => setTroubleOnly(event.currentTarget.checked)}
          />
          only those with trouble ({troubled})
        </label>
        <span class="quiet" role="status">
          {shown.length === count ? '' : `${shown.length} shown`}
        </span>
      </div>
      <ul class="tiles">
        {shown.map((summary) => (
          <Tile key={summary.node} {...summary} isSelected={summary.node === selected} onChoose={onSelect} />
        ))}
      </ul>
      {shown.length === 0 && <p class="empty">No node is like that.</p>}
      {card && (
        <div class="selected-node">
          <NodeCard node={card} />
          <StopControl
            nodes={[card.node]}
            class="small"
            title={`STOP ${card.node}`}
            subtitle="hold 1 s, this node only"
            onStopped={onStopped}
            key={card.node}
          />
        </div>
      )}
    </section>
  );
}

const isTrouble = ({ state, level, trouble }: NodeSummary): boolean =>
  state !== 'clear' || trouble !== '' || level === 'missing' || level === 'warning' || level === 'stop';

type TileProps = NodeSummary & { readonly isSelected: boolean; onChoose(node: string): void };

function PlainTile({ node, state, level, nearness, nearest, trouble, isSelected, onChoose }: TileProps): JSX.Element {
  const word = state === 'tripped' ? 'TRIPPED' : state === 'cooling' ? 'COOLING' : LEVEL_WORDS[level];
  const percent = nearness === null ? '?' : `${Math.round(nearness * 100)} %`;
  return (
    <li>
      <button
        type="button"
        class={`tile level-${state === 'tripped' ? 'stop' : state === 'cooling' ? 'warning' : level}`}
        aria-pressed={isSelected}
        title={trouble || undefined}
        onClick={() => onChoose(node)}
      >
        <span class="tile-name">
          {state === 'clear' ? (
            <LevelIcon level={level} />
          ) : (
            <ToneIcon tone={state === 'tripped' ? 'stop' : 'wait'} size={16} />
          )}
          <span>{node}</span>
        </span>
        <span class="tile-line">
          <b>{percent}</b>
          <span class="tile-word">{word}</span>
        </span>
        <span class="tile-bar" aria-hidden="true">
          <span style={{ width: `${Math.min(100, (nearness ?? 0) * 100)}%` }} />
        </span>
        <span class="tile-near">{nearest}</span>
      </button>
    </li>
  );
}

const Tile = memo(PlainTile);
