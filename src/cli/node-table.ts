// One node as a table: every reading against its limits, the worst of them in colour, and beside what is missing why.
// `status` and `check` show nodes alike.
import { firstFew } from '../domain/first-few.ts';
import type { NodeStatus, ReadingStatus } from '../http/status-view.ts';
import { ageText, type Cell, limitText, type Paint, printable, tableOf, valueText } from './layout.ts';

const HEAD = ['READING', 'VALUE', 'WARNING', 'HARD STOP', 'AGE', 'SOURCE'].map(
  (text): Cell => ({ text, colour: 'dim' }),
);

/** The lines for one node; `headline` is what is said of it as a whole. */
export function nodeLines(node: NodeStatus, headline: string, paint: Paint): string[] {
  const title = `${paint(printable(node.node), 'bold')}  ${printable(headline)}`;
  if (node.readings.length === 0) return [title, '  nothing has been read here'];
  const shown = [...node.readings].sort((a, b) => order(a) - order(b));
  return [
    title,
    ...tableOf([HEAD, ...shown.map((reading) => rowOf(reading, node))], paint),
    ...podRows(node).map(([gpu, pods]) => `  ${printable(`gpu ${gpu} is used by ${pods}`)}`),
  ];
}

/** Of a card that many share the first are told, and how many more. */
const MOST_PODS = 3;

/** Each card that pods are known to use, with their names. */
export function podRows({ gpus }: Pick<NodeStatus, 'gpus'>): (readonly [gpu: string, pods: string])[] {
  return gpus.flatMap(({ id, pods = [] }) => {
    if (pods.length === 0) return [];
    return [[gpuName(id, { gpus }), firstFew(pods, MOST_PODS)] as const];
  });
}

/** What is judged first, by part of the machine; what is only shown last. Stable within a part. */
const PARTS: readonly ReadingStatus['component'][] = ['cpu', 'memory', 'gpu', 'system'];
const order = ({ component, informational }: ReadingStatus): number =>
  PARTS.indexOf(component) + (informational ? 10 : 0);

function rowOf(reading: ReadingStatus, node: NodeStatus): readonly Cell[] {
  const { unit, limits, value } = reading;
  const name = nameOf(reading, node);
  // A share has one limit that it may reach and not pass.
  const warning = limits?.max === undefined ? limitText(limits?.warning, unit) : `max ${limitText(limits.max, unit)}`;
  const hardStop = limitText(limits?.hardStop, unit);
  if (value === undefined) {
    const { missing = 'not-yet-read', detail = '', required, waived } = reading;
    const text = `${missing}${waived ? ' (waived)' : required ? '' : ' (not required)'}`;
    return [name, required ? { text, colour: 'yellow' } : { text, colour: 'dim' }, warning, hardStop, '', detail];
  }
  const shown = `${valueText(value, unit)}${reading.estimated ? ' estimated' : ''}`;
  const colour = colourOf(reading);
  const age = reading.ageSeconds === undefined ? '' : ageText(reading.ageSeconds);
  const source = [reading.source, reading.origin].filter((part) => part !== undefined && part !== '').join(': ');
  return [name, colour ? { text: shown, colour } : shown, warning, hardStop, age, { text: source, colour: 'dim' }];
}

function colourOf({ value = 0, limits, informational }: ReadingStatus): 'red' | 'yellow' | 'dim' | null {
  if (informational) return 'dim';
  if (limits?.hardStop !== undefined && value >= limits.hardStop) return 'red';
  if (limits?.max !== undefined && value > limits.max) return 'yellow';
  return limits?.warning !== undefined && value >= limits.warning ? 'yellow' : null;
}

type Named = Pick<ReadingStatus, 'component' | 'id' | 'quantity'>;
interface WithGpus {
  readonly gpus: readonly { readonly id: string; readonly pciAddress?: string }[];
}

/** `cpu temperature`, `gpu 0000:0b:00.0 power`, `total power`. */
export function nameOf({ component, id, quantity }: Named, node: WithGpus): string {
  if (component === 'system' && quantity === 'total-power') return 'total power';
  if (component === 'memory') return 'memory';
  const device = component === 'gpu' && id !== undefined ? ` ${gpuName(id, node)}` : id === undefined ? '' : ` ${id}`;
  return `${component}${device} ${quantity}`;
}

/** A card by its slot, as it is found in the case and by lspci; by the beginning of its UUID where nobody tells. */
function gpuName(id: string, node: WithGpus): string {
  return node.gpus.find((gpu) => gpu.id === id)?.pciAddress ?? id.replace(/^(GPU-[0-9a-f]{8})-.*$/, '$1');
}
