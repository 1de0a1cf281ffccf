// Takes out of the state what is to be kept: every reading that has limits, of every node. Reading a thousand nodes
// takes some 50 ms, so it is done a few at a time, with room for everything else between; the state is one immutable
// value, so what is taken is of one moment all the same.
import type { Clock } from '../clock.ts';
import { limitsOf, type NodeLimits, type WorstMargin } from '../domain/evaluate.ts';
import { readNode } from '../domain/node-readings.ts';
import { type Reading, unitOf } from '../domain/reading.ts';
import { severityOf } from '../domain/result.ts';
import { settingsOf } from '../domain/settings.ts';
import type { NodeState, SafetyState } from '../domain/state.ts';
import type { Batch, Figures, Layout, OpenSpan, Series } from './records.ts';

/** The loop is held for this long at most; an emergency stop may be next. */
const HOLD_MS = 2;
/** A node whose cards change all the time makes new layouts all the time; beyond this its old ones are forgotten. */
const MOST_LAYOUTS_OF_A_NODE = 16;
const COOLING = severityOf('WAIT_COOLDOWN');
const TRIPPED = severityOf('ABORT');

/** The layout that a node's readings had last. */
interface Shape {
  readonly layout: Layout;
  readonly limits: NodeLimits;
  /** The readings, in the order in which they came, and where the value of each belongs; -1 for none. */
  readonly readings: readonly Pick<Reading, 'component' | 'id' | 'quantity'>[];
  readonly places: readonly number[];
}

interface KnownNode {
  shape: Shape;
  /** Layouts by what they say. */
  readonly layouts: Map<string, Layout>;
}

export interface Moment {
  readonly wallMs: number;
  readonly severity: number;
  readonly margins: readonly WorstMargin[];
}

export class FigureTaker {
  readonly #clock: Clock;
  readonly #nodes = new Map<string, KnownNode>();
  #lastId = 0;
  #fresh: Layout[] = [];
  #forgotten: number[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Layouts that were made, and those that were given up, since the last call. */
  changes(): Pick<Batch, 'layouts' | 'forgotten'> {
    const changes = { layouts: this.#fresh, forgotten: this.#forgotten };
    this.#fresh = [];
    this.#forgotten = [];
    return changes;
  }

  /** Makes every layout anew, for a thread that knows none. */
  reset(): void {
    this.#nodes.clear();
    this.#fresh = [];
    this.#forgotten = [];
  }

  /** The figures of all nodes in `state`. Holds the loop for 2 ms at a time. */
  async take(state: SafetyState, moment: Moment): Promise<Figures> {
    const nowMs = this.#clock.now().elapsedMs;
    const margins = new Map(moment.margins.map(({ node, marginRatio }) => [node, marginRatio]));
    const isAllTripped = [...state.trips.values()].some(({ scope }) => scope.kind === 'all');
    const tripped = new Set(
      [...state.trips.values()].flatMap(({ scope }) => (scope.kind === 'nodes' ? scope.nodes : [])),
    );
    const layouts: number[] = [];
    const severities: number[] = [];
    const nodeMargins: number[] = [];
    const values: number[] = [];
    let heldSinceMs = nowMs;
    for (const [name, node] of state.nodes) {
      if (this.#clock.now().elapsedMs - heldSinceMs >= HOLD_MS) {
        await this.#clock.sleep(0);
        heldSinceMs = this.#clock.now().elapsedMs;
      }
      layouts.push(this.#addValues(state, name, node, nowMs, values));
      severities.push(isAllTripped || tripped.has(name) ? TRIPPED : severityOfNode(node));
      nodeMargins.push(margins.get(name) ?? Number.NaN);
    }
    for (const [name, { layouts: old }] of this.#nodes) {
      if (state.nodes.has(name)) continue;
      this.#forget(old.values());
      this.#nodes.delete(name);
    }
    return {
      atMs: moment.wallMs,
      severity: moment.severity,
      layouts: new Uint32Array(layouts),
      severities: new Uint8Array(severities),
      margins: new Float32Array(nodeMargins),
      values: new Float32Array(values),
    };
  }

  /** Appends the numbers of one node, and gives the id of their layout. */
  #addValues(state: SafetyState, name: string, node: NodeState, nowMs: number, values: number[]): number {
    const options = { purpose: 'running', nowMs, staleBeforeMs: state.staleBeforeMs } as const;
    const { readings } = readNode(node.watch, settingsOf(state.settings, name), options);
    const known = this.#nodes.get(name);
    const shape =
      known && fits(known.shape, readings, node.limits) ? known.shape : this.#reshape(name, readings, node.limits);
    const start = values.length;
    for (const _ of shape.layout.series) values.push(Number.NaN);
    for (const [index, { state: is }] of readings.entries()) {
      const place = shape.places[index] ?? -1;
      if (place >= 0 && is.kind === 'measured') values[start + place] = is.value;
    }
    return shape.layout.id;
  }

  #reshape(name: string, readings: readonly Reading[], limits: NodeLimits): Shape {
    const keyed = readings.flatMap((reading) => {
      const own = limitsOf(reading, limits);
      if (!own) return [];
      const { component, id, quantity } = reading;
      const series: Series = { component, ...(id !== undefined && { id }), quantity, unit: unitOf(quantity), ...own };
      return [{ key: keyOf(reading), series }];
    });
    // In one order, whatever the order in which the sources answered.
    const sorted = new Map(keyed.sort((a, b) => (a.key < b.key ? -1 : 1)).map(({ key, series }) => [key, series]));
    const content = JSON.stringify([...sorted.values()]);
    let known = this.#nodes.get(name);
    let layout = known?.layouts.get(content);
    if (!layout) {
      layout = { id: ++this.#lastId, node: name, series: [...sorted.values()] };
      this.#fresh.push(layout);
    }
    const order = [...sorted.keys()];
    const shape: Shape = {
      layout,
      limits,
      readings: readings.map(({ component, id, quantity }) => ({
        component,
        ...(id !== undefined && { id }),
        quantity,
      })),
      places: readings.map((reading) => order.indexOf(keyOf(reading))),
    };
    if (known) known.shape = shape;
    else {
      known = { shape, layouts: new Map() };
      this.#nodes.set(name, known);
    }
    if (known.layouts.size >= MOST_LAYOUTS_OF_A_NODE && !known.layouts.has(content)) {
      this.#forget(known.layouts.values());
      known.layouts.clear();
    }
    known.layouts.set(content, layout);
    return shape;
  }

  #forget(layouts: Iterable<Layout>): void {
    for (const { id } of layouts) this.#forgotten.push(id);
  }
}

const keyOf = ({ component, id = '', quantity }: Pick<Reading, 'component' | 'id' | 'quantity'>): string =>
  `${component}\n${id}\n${quantity}`;

/** Whether these are the readings of last time, in their order and under the same limits. */
function fits(shape: Shape, readings: readonly Reading[], limits: NodeLimits): boolean {
  if (shape.readings.length !== readings.length) return false;
  const { constraints, slowdownC } = shape.limits;
  if (constraints !== limits.constraints || !isSame(slowdownC, limits.slowdownC)) return false;
  for (const [index, { component, id, quantity }] of readings.entries()) {
    const old = shape.readings[index];
    if (old?.quantity !== quantity || old.id !== id || old.component !== component) return false;
  }
  return true;
}

function isSame(a: ReadonlyMap<string, number>, b: ReadonlyMap<string, number>): boolean {
  if (a === b) return true;
  if (a.size !== b.size) return false;
  for (const [key, value] of a) if (b.get(key) !== value) return false;
  return true;
}

function severityOfNode({ findings, cooling }: NodeState): number {
  let worst = cooling ? COOLING : 0;
  for (const { action } of findings) worst = Math.max(worst, severityOf(action));
  return worst;
}

/** The trips and cooldowns that are on. */
export function openSpansOf({ trips, nodes }: SafetyState): OpenSpan[] {
  const spans: OpenSpan[] = [];
  for (const { tripId, scope, reason, sinceWallMs } of trips.values()) {
    const on = scope.kind === 'all' ? [null] : scope.nodes;
    for (const node of on) spans.push({ state: 'tripped', node, tripId, reason, sinceMs: sinceWallMs });
  }
  for (const [node, { cooling }] of nodes) {
    if (cooling) spans.push({ state: 'cooling', node, tripId: null, reason: null, sinceMs: null });
  }
  return spans;
}
