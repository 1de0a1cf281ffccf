// The actuator of a drill: it asks the real actuators what runs now and lists what a stop with the same order would
// stop. It holds nothing that could signal, patch or delete, so it cannot touch anything (I8). What an inventory does
// not tell, such as the controllers above a pod, is not in the list.
import { type Clock, TIMED_OUT, withDeadline } from '../clock.ts';
import type { LiveWorkload, StopEntry, StopOrder } from '../domain/stop.ts';
import type { Actuator, Inventory, StopProgress } from './actuator.ts';

/** An operator waits for the answer; an API server that does not answer in 3 s would not have been told to stop either. */
const INVENTORY_TIMEOUT_MS = 3000;

/** Which workloads are live, as far as a drill asks an actuator. */
export type InventoryOf = Pick<Actuator, 'name' | 'inventory' | 'preview'>;

/** A drill over the inventories of `actuators`. Its `stop` ends as soon as the list is whole. */
export function createDrill({
  clock,
  actuators,
}: {
  readonly clock: Clock;
  readonly actuators: readonly InventoryOf[];
}): Actuator {
  async function ask(actuator: InventoryOf, deadlineMs: number): Promise<Inventory> {
    const answer = await withDeadline(clock, deadlineMs - clock.now().elapsedMs, actuator.inventory(deadlineMs));
    if (answer !== TIMED_OUT) return answer;
    const detail = `Cannot list what ${actuator.name} would stop: no answer within ${INVENTORY_TIMEOUT_MS} ms`;
    return { available: false, detail, workloads: [] };
  }

  async function preview(
    name: string,
    look: NonNullable<Actuator['preview']>,
    order: StopOrder,
    startedMs: number,
  ): Promise<StopEntry[]> {
    const answer = await withDeadline(clock, INVENTORY_TIMEOUT_MS, look(order, startedMs + INVENTORY_TIMEOUT_MS));
    const tookMs = Math.round(clock.now().elapsedMs - startedMs);
    if (answer === TIMED_OUT) {
      const detail = `Cannot list what ${name} would stop: no answer within ${INVENTORY_TIMEOUT_MS} ms`;
      return [notAsked(name, detail, tookMs)];
    }
    const entries = answer.entries.map((entry) => ({ ...entry, tookMs }));
    return answer.failure === null ? entries : [...entries, notAsked(name, answer.failure, tookMs)];
  }

  async function stop(order: StopOrder, report: (progress: StopProgress) => void): Promise<void> {
    const startedMs = clock.now().elapsedMs;
    const perActuator = await Promise.all(
      actuators.map(async (actuator): Promise<StopEntry[]> => {
        if (actuator.preview) return preview(actuator.name, actuator.preview, order, startedMs);
        const { available, detail, workloads } = await ask(actuator, startedMs + INVENTORY_TIMEOUT_MS);
        const tookMs = Math.round(clock.now().elapsedMs - startedMs);
        const found = workloads.filter((workload) => isCovered(order, workload));
        const entries = found.map((workload) => wouldStop(order, workload, tookMs));
        // "Nothing to stop" and "could not be asked" must not look alike.
        return available ? entries : [...entries, notAsked(actuator.name, detail, tookMs)];
      }),
    );
    const entries = perActuator.flat();
    const seen = new Set(entries.map((entry) => entry.leaseId));
    const tookMs = Math.round(clock.now().elapsedMs - startedMs);
    for (const { leaseId, workload } of order.targets) {
      if (!seen.has(leaseId)) entries.push(wouldRevoke(leaseId, workload, tookMs));
    }
    // A drill stops nothing, so nothing is ever verified as gone.
    report({ entries, verified: false });
  }

  return {
    name: 'drill',
    inventory: async () => ({ available: true, detail: 'a drill runs nothing', workloads: [] }),
    stop,
    close: async () => undefined,
  };
}

/** A workload of a named lease is covered wherever it runs; the others only by an order for everything in their node. */
function isCovered(order: StopOrder, workload: LiveWorkload): boolean {
  if (order.targets.some((target) => target.leaseId === workload.leaseId)) return true;
  if (order.what === 'leases') return false;
  return order.scope.kind === 'all' || (workload.node !== null && order.scope.nodes.includes(workload.node));
}

function wouldStop(order: StopOrder, { kind, node, name, leaseId }: LiveWorkload, tookMs: number): StopEntry {
  const target = order.targets.find((other) => other.leaseId === leaseId);
  const number = target ? `pgid ${name} (${target.workload})` : `pgid ${name}`;
  return {
    actuator: 'drill',
    kind,
    name: kind === 'process-group' ? number : name,
    ...(node === null ? {} : { node }),
    ...(leaseId === undefined ? {} : { leaseId }),
    state: 'would-stop',
    how: kind === 'process-group' ? 'SIGTERM, SIGKILL' : 'delete, grace 1 s',
    verified: false,
    tookMs,
  };
}

function wouldRevoke(leaseId: string, workload: string, tookMs: number): StopEntry {
  return {
    actuator: 'drill',
    kind: 'lease',
    name: workload,
    leaseId,
    state: 'would-stop',
    how: 'revoke',
    verified: false,
    tookMs,
    detail: 'no live process group or marked pod of this lease was found',
  };
}

function notAsked(name: string, detail: string, tookMs: number): StopEntry {
  return { actuator: 'drill', kind: 'actuator', name, state: 'failed', how: '', verified: false, tookMs, detail };
}
