// What runs, as the actuators see it, and whether something runs here that nobody could stop: put through the door at
// each tick.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Actuator } from './actuators/actuator.ts';
import type { Clock } from './clock.ts';
import type { Config } from './config.ts';
import type { Supervisor } from './supervisor.ts';

/** An actuator that does not answer by then has an unknown inventory. */
const INVENTORY_TIMEOUT_MS = 3_000;

/** What every actuator sees now goes through the door; one that does not answer is not available. */
export async function takeInventory(
  supervisor: Supervisor,
  actuators: readonly Actuator[],
  clock: Clock,
  unconfigured: string | null,
): Promise<void> {
  const deadlineMs = clock.now().elapsedMs + INVENTORY_TIMEOUT_MS;
  const inventories = await Promise.all(
    actuators.map(async (actuator) => {
      const inventory = await actuator.inventory(deadlineMs).catch((error: unknown) => ({
        available: false,
        detail: `its inventory broke off: ${String(error)}`,
        workloads: [],
      }));
      return { name: actuator.name, seesPods: false, unprotected: [], ...inventory };
    }),
  );
  const states = inventories.map(({ name, available, detail }) => ({ name: String(name), available, detail }));
  if (unconfigured) states.push({ name: 'kubernetes', available: false, detail: unconfigured });
  supervisor.submitSoon({
    kind: 'inventoried',
    actuators: states,
    workloads: inventories.flatMap((inventory) => inventory.workloads),
    seesPods: inventories.some((inventory) => inventory.seesPods),
    unprotected: inventories.flatMap(({ unprotected }) => unprotected ?? []),
  });
}

/** Signs of a k3s on this machine that nobody configured: its pods would go on after a stop. */
export function unconfiguredKubernetes(config: Config, root: string): string | null {
  if (config.kubernetes.enabled !== 'auto' || config.kubernetes.kubeconfig !== null) return null;
  const sign = ['run/k3s', 'etc/rancher/k3s/k3s.yaml'].map((path) => join(root, path)).find((path) => existsSync(path));
  if (!sign) return null;
  return (
    `a k3s is on this machine (${sign}) and Kubernetes is not configured: its pods could not be stopped. ` +
    'Name kubernetes.kubeconfig, or write kubernetes.enabled: false'
  );
}
