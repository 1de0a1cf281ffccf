// A node that its test feeds: a stand-in for node_exporter and dcgm-exporter in one, whose numbers go on by themselves as a
// machine's do (time, CPU seconds, energy), and whose card is as hot as the test says.
import type { Test } from 'tap';
import { cpuTimes, intelSocket, memory } from '../fixtures/node-exporter.ts';
import { type StandInExporter, says, standInExporter } from './stand-in-exporter.ts';

export interface FedNode {
  readonly exporter: StandInExporter;
  /** The card's temperature, °C. */
  celsius: number;
}

/** What one card says now: 150 W, an eighth of its memory in use. */
export function cardText(uuid: string, celsius: number): string {
  const labels = `gpu="0",UUID="${uuid}",device="nvidia0",modelName="NVIDIA L40S",Hostname="dcgm-x7k2p"`;
  return `DCGM_FI_DEV_GPU_TEMP{${labels}} ${celsius}
DCGM_FI_DEV_POWER_USAGE{${labels}} 150.25
DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{${labels}} ${Math.round(performance.now() * 150)}
DCGM_FI_DEV_FB_USED{${labels}} 5120
DCGM_FI_DEV_FB_FREE{${labels}} 40960
`;
}

/** What a machine of one socket says now, idle and cool. */
export function machineText(): string {
  const seconds = performance.now() / 1000;
  const cpu = { idle: seconds * 0.9, user: seconds * 0.1 };
  const time = `node_time_seconds ${Date.now() / 1000}\n`;
  return time + intelSocket(0, 45) + cpuTimes({ 0: cpu }) + memory({ MemTotal: 64e9, MemAvailable: 48e9 });
}

/** Starts its exporter, closed after `t`. */
export async function fedNode(t: Test, uuid: string): Promise<FedNode> {
  const node: { celsius: number } = { celsius: 55 };
  const exporter = await standInExporter(t, (request, response) =>
    says(machineText() + cardText(uuid, node.celsius))(request, response),
  );
  return Object.assign(node, { exporter });
}
