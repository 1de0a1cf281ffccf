// A message of the service, as people read it: it names a card by its UUID, which nobody knows by heart, and a moment to
// the millisecond in another time zone. Pure.
import { gpuName } from './readings.ts';
import { clockText } from './text.ts';
import type { NodeStatus } from './wire.ts';

const UUID = /\b(?:GPU )?(GPU-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\b/g;
const MOMENT = /\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z/g;

/** The message with every card of `nodes` named by its slot, and moments by the reader's clock. */
export function readable(message: string, nodes: readonly Pick<NodeStatus, 'gpus'>[]): string {
  const named = message.replace(UUID, (told: string, id: string) => {
    const owner = nodes.find(({ gpus }) => gpus.some((gpu) => gpu.id === id));
    return owner ? `GPU ${gpuName(id, owner.gpus)}` : told;
  });
  return named.replace(MOMENT, clockText);
}
