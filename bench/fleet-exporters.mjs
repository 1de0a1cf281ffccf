// A fleet to scrape, in a process of its own: for each node one port's path with a node_exporter's body and one with a
// dcgm-exporter's for eight GPUs, as large as real ones, with values that move at every answer.
// Started by fleet.mjs: `node fleet-exporters.mjs NODES`; prints its port.
import { createServer } from 'node:http';

const nodes = Number(process.argv[2]);
const CPUS = 64;
const started = Date.now();

/** Families that nobody here reads make up most of a real node_exporter's body. */
const filler = Array.from({ length: 500 }, (_, i) => {
  const family = Math.floor(i / 10);
  const head = i % 10 === 0 ? `# HELP node_filler_${family}_total Something else.\n# TYPE node_filler_${family}_total counter\n` : '';
  return `${head}node_filler_${family}_total{device="sd${i % 10}",mountpoint="/srv/data/${i}"} ${i * 1234.5}\n`;
}).join('');

function nodeBody(node) {
  const now = Date.now() / 1000;
  const upS = (Date.now() - started) / 1000;
  const lines = [];
  for (let cpu = 0; cpu < CPUS; cpu += 1) {
    for (const [mode, share] of [['idle', 0.7], ['iowait', 0.01], ['irq', 0], ['nice', 0], ['softirq', 0.01], ['steal', 0], ['system', 0.08], ['user', 0.2]]) {
      lines.push(`node_cpu_seconds_total{cpu="${cpu}",mode="${mode}"} ${(1000 + upS * share).toFixed(2)}`);
    }
  }
  for (let socket = 0; socket < 2; socket += 1) {
    const chip = `platform_coretemp_${socket}`;
    lines.push(`node_hwmon_chip_names{chip="${chip}",chip_name="coretemp"} 1`);
    for (let sensor = 1; sensor <= 17; sensor += 1) {
      lines.push(`node_hwmon_temp_celsius{chip="${chip}",sensor="temp${sensor}"} ${50 + ((node + sensor + Math.round(upS)) % 9)}`);
      lines.push(`node_hwmon_temp_crit_celsius{chip="${chip}",sensor="temp${sensor}"} 100`);
    }
  }
  lines.push('node_memory_MemTotal_bytes 5.4e+11', 'node_memory_MemAvailable_bytes 4.1e+11', `node_time_seconds ${now}`);
  return `${filler}${lines.join('\n')}\n`;
}

const DCGM = ['SM_CLOCK', 'MEM_CLOCK', 'MEMORY_TEMP', 'GPU_TEMP', 'POWER_USAGE', 'TOTAL_ENERGY_CONSUMPTION', 'PCIE_REPLAY_COUNTER', 'GPU_UTIL', 'MEM_COPY_UTIL', 'ENC_UTIL', 'DEC_UTIL', 'FB_FREE', 'FB_USED', 'FB_RESERVED', 'NVLINK_BANDWIDTH_TOTAL', 'VGPU_LICENSE_STATUS'];

function gpuBody(node) {
  const upS = (Date.now() - started) / 1000;
  const lines = [];
  for (const field of DCGM) {
    lines.push(`# HELP DCGM_FI_DEV_${field} Something of a GPU.`, `# TYPE DCGM_FI_DEV_${field} gauge`);
    for (let gpu = 0; gpu < 8; gpu += 1) {
      const uuid = `GPU-${node.toString(16).padStart(8, '0')}-0000-4000-8000-00000000000${gpu}`;
      const value = {
        GPU_TEMP: 55 + ((node + gpu + Math.round(upS)) % 9),
        POWER_USAGE: (180 + ((node * 7 + gpu * 3 + upS) % 40)).toFixed(3),
        TOTAL_ENERGY_CONSUMPTION: Math.round(1e9 + upS * 200_000),
        FB_USED: 20_000,
        FB_FREE: 60_000,
        GPU_UTIL: 97,
      }[field];
      lines.push(
        `DCGM_FI_DEV_${field}{gpu="${gpu}",UUID="${uuid}",pci_bus_id="00000000:${(16 + gpu).toString(16)}:00.0",device="nvidia${gpu}",modelName="NVIDIA H100 80GB HBM3",Hostname="node-${node}",DCGM_FI_DRIVER_VERSION="580.105.08",container="train",namespace="gpu",pod="train-${node}-${gpu}"} ${value ?? 0}`,
      );
    }
  }
  return `${lines.join('\n')}\n`;
}

const server = createServer((request, response) => {
  const [, node = '', kind] = (request.url ?? '').split('?')[0].split('/');
  const body = kind === 'gpu' ? gpuBody(Number(node)) : nodeBody(Number(node));
  response.setHeader('content-type', 'text/plain; version=0.0.4; charset=utf-8');
  response.end(body);
});
server.keepAliveTimeout = 120_000;
server.listen(0, '127.0.0.1', 8192, () => {
  const [nodeBytes, gpuBytes] = [nodeBody(1), gpuBody(1)].map((body) => Buffer.byteLength(body));
  process.stdout.write(`${JSON.stringify({ port: server.address().port, nodes, nodeBytes, gpuBytes })}\n`);
});
