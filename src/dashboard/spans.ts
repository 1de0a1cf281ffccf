// When a node was tripped or cooling in the last hour, from everything that tells of it: the history, the trips that are
// on, the last one that ended, and the events that came while the page was open. Pure.
import type { Span } from './timeline.ts';
import type { Estop, History, NodeStatus } from './wire.ts';

/** An event as the log keeps it. */
export interface LogEntry {
  readonly key: string;
  readonly at: string;
  readonly name: string;
  readonly message: string;
  readonly node?: string;
  readonly by?: string;
}

interface Telling {
  readonly history: History | null;
  readonly estop: Estop | null;
  /** The newest first. */
  readonly events: readonly LogEntry[];
  readonly status: NodeStatus | null;
}

const secondsOf = (iso: string): number => Date.parse(iso) / 1000;

/** Of `node`, in no particular order; the same stretch may be told twice, which is drawn as one. */
export function spansOf(node: string, { history, estop, events, status }: Telling): Span[] {
  const kept = (history?.spans ?? [])
    .filter((span) => span.node === null || span.node === node)
    // What was still on when the history was asked for may have ended since: the trips and the status know.
    .filter((span) => span.to !== null || (span.state === 'cooling' && status?.interlock === 'cooling'))
    .map(
      ({ state, from, to }): Span => ({ state, fromSeconds: from / 1000, toSeconds: to === null ? null : to / 1000 }),
    );
  return [...kept, ...tripsOf(node, estop), ...coolingsOf(node, events, status)];
}

function tripsOf(node: string, estop: Estop | null): Span[] {
  if (!estop) return [];
  const active = estop.trips
    .filter(({ scope }) => scope.kind === 'all' || scope.nodes.includes(node))
    .map(({ since }): Span => ({ state: 'tripped', fromSeconds: secondsOf(since), toSeconds: null }));
  const last = estop.lastTrip;
  if (!last || (last.scope.kind === 'nodes' && !last.scope.nodes.includes(node))) return active;
  const ended: Span = { state: 'tripped', fromSeconds: secondsOf(last.since), toSeconds: secondsOf(last.resetAt) };
  return [ended, ...active];
}

function coolingsOf(node: string, events: readonly LogEntry[], status: NodeStatus | null): Span[] {
  const spans: Span[] = [];
  let fromSeconds: number | null = null;
  for (const { at, name, node: of } of [...events].reverse()) {
    if (of !== node) continue;
    if (name === 'cooling-started') fromSeconds ??= secondsOf(at);
    if (name !== 'cooling-ended' || fromSeconds === null) continue;
    spans.push({ state: 'cooling', fromSeconds, toSeconds: secondsOf(at) });
    fromSeconds = null;
  }
  if (fromSeconds !== null && status?.interlock === 'cooling') {
    spans.push({ state: 'cooling', fromSeconds, toSeconds: null });
  }
  return spans;
}
