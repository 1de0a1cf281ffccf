// One node with everything that is read of it: a row per card, for the CPU and for the machine, a column per quantity,
// each against its two limits.
import type { JSX } from 'preact';
import { ToneIcon } from './icons.tsx';
import { Meter } from './meter.tsx';
import { readable } from './names.ts';
import { type Part, partsOf, quantityName } from './readings.ts';
import { ageText } from './text.ts';
import type { Tone } from './verdict.ts';
import type { NodeStatus, ReadingStatus } from './wire.ts';

const COLUMNS: readonly { readonly title: string; readonly quantities: readonly string[] }[] = [
  { title: 'Temperature', quantities: ['temperature'] },
  { title: 'Power', quantities: ['power', 'total-power'] },
  { title: 'Memory, load', quantities: ['memory', 'utilization'] },
];
const STATE_TONES: Readonly<Record<NodeStatus['interlock'], Tone>> = {
  clear: 'safe',
  cooling: 'wait',
  tripped: 'stop',
};

export function NodeCard({ node }: { readonly node: NodeStatus }): JSX.Element {
  const { interlock, coolingSeconds, live, profile, findings } = node;
  const cooling =
    interlock === 'cooling' && coolingSeconds !== null ? `, ${ageText(coolingSeconds)} to go at least` : '';
  return (
    <article class="node-card" aria-labelledby={`node-${node.node}`}>
      <header>
        <h3 id={`node-${node.node}`}>{node.node}</h3>
        <span class={`chip tone-${STATE_TONES[interlock]}`}>
          <ToneIcon tone={STATE_TONES[interlock]} size={16} /> {interlock}
          {cooling}
        </span>
        <span class="quiet">
          {live ? 'a workload is live' : 'no workload'}, limits {profile}
        </span>
      </header>
      {findings.length > 0 && (
        <ul class={`findings ${findings[0]?.action === 'ABORT' ? 'abort' : ''}`}>
          {findings.slice(0, 8).map(({ code, id, quantity, message, action }) => (
            <li key={`${code}/${id}/${quantity}`}>
              <code>{action}</code> {readable(message, [node])}
            </li>
          ))}
          {findings.length > 8 && <li>and {findings.length - 8} more</li>}
        </ul>
      )}
      {node.readings.length === 0 ? (
        <p class="empty">Nothing has been read here.</p>
      ) : (
        <table class="parts">
          <caption class="sr-only">Readings of {node.node} against their limits</caption>
          <thead>
            <tr>
              <th scope="col">Part</th>
              {COLUMNS.map(({ title }) => (
                <th scope="col" key={title}>
                  {title}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {partsOf(node).map((part) => (
              <PartRow key={part.key} part={part} />
            ))}
          </tbody>
        </table>
      )}
    </article>
  );
}

function PartRow({ part }: { readonly part: Part }): JSX.Element {
  return (
    <tr>
      <th scope="row">
        {part.title}
        {part.subtitle && <small>{part.subtitle}</small>}
      </th>
      {COLUMNS.map(({ title, quantities }) => {
        const shown = part.readings.filter(({ quantity }) => quantities.includes(quantity));
        return (
          <td key={title} class={shown.length === 0 ? 'nothing' : ''}>
            {shown.map((reading) => (
              <Meter key={reading.quantity} reading={reading} {...labelOf(part, reading)} />
            ))}
          </td>
        );
      })}
    </tr>
  );
}

/** Where the column does not say it. */
function labelOf({ key }: Part, { quantity }: ReadingStatus): { readonly label?: string } {
  if (quantity === 'utilization' || key === 'whole') return { label: quantityName(quantity) };
  return {};
}
