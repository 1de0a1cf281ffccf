// The fleet's exporters in a process of their own (fleet-exporters.mjs), and the configuration of a service that watches it.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freshFolder, start, until } from './measure.mjs';

/** Starts `nodes` nodes with two exporters each, a share of them warm enough for fast sampling, behind so many ports. */
export async function startFleet(nodes, warmShare = 0, portCount = 1) {
  const args = [nodes, warmShare, portCount].map(String);
  const program = start(process.execPath, [join(import.meta.dirname, 'fleet-exporters.mjs'), ...args]);
  const { ports, nodeBytes, gpuBytes } = await until('the fleet', () => JSON.parse(program.said()), { program });
  const bases = ports.map((port) => `http://127.0.0.1:${port}`);
  const [base] = bases;
  return {
    ...program,
    nodes,
    base,
    nodeBytes,
    gpuBytes,
    /** Per node: node_exporter's, dcgm-exporter's. */
    urls: Array.from({ length: nodes }, (_, i) => ['node', 'gpu'].map((kind) => `${bases[i % bases.length]}/${i}/${kind}`)),
    /** Bytes so far, by who asked. */
    sentTo: async (who) => (await (await fetch(`${base}/sent`)).json())[who] ?? 0,
  };
}

/** Writes the configuration of a service that watches a fleet; its path. */
export function fleetConfig(fleet, { interval = '10s', settings = '' } = {}) {
  const folder = freshFolder();
  const file = join(folder, 'safety.yaml');
  const nodes = fleet.urls.map((endpoints, i) => `  - { name: node-${i}, endpoints: ${JSON.stringify(endpoints)} }`);
  const lines = ['source: exporters', `stateDir: ${folder}/state`, `interval: ${interval}`, 'kubernetes: { enabled: false }', settings];
  writeFileSync(file, `${[...lines, 'nodes:', ...nodes].join('\n')}\n`);
  return file;
}
