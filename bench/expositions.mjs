// Bodies as a node_exporter with 64 CPUs and a dcgm-exporter with eight GPUs write them: as large as real ones, with the
// families that nobody here reads in the same share, and with values that move. Made here, captured nowhere.

const CPUS = 64;
const startedMs = Date.now();

/** Families that nobody here reads make up most of a real node_exporter's body. */
const filler = Array.from({ length: 330 }, (_, i) => {
  const family = Math.floor(i / 10);
  const head = i % 10 === 0 ? `# HELP node_filler_${family}_total Something else.\n# TYPE node_filler_${family}_total counter\n` : '';
  return `${head}node_filler_${family}_total{device="sd${i % 10}",mountpoint="/srv/data/${i}"} ${i * 1234.5}\n`;
}).join('');

const MODES = [['idle', 0.7], ['iowait', 0.01], ['irq', 0], ['nice', 0], ['softirq', 0.01], ['steal', 0], ['system', 0.08], ['user', 0.2]];

/** The same for all nodes, so made once for each tenth of a second: a fleet of thousands must cost its server little. */
let shared = { tenth: -1, text: '' };
function sharedPart(upS) {
  const tenth = Math.round(upS * 10);
  if (shared.tenth === tenth) return shared.text;
  const lines = ['# HELP node_cpu_seconds_total Seconds the CPUs spent in each mode.', '# TYPE node_cpu_seconds_total counter'];
  for (let cpu = 0; cpu < CPUS; cpu += 1) {
    for (const [mode, share] of MODES) {
      lines.push(`node_cpu_seconds_total{cpu="${cpu}",mode="${mode}"} ${(1000 + (tenth / 10) * share).toFixed(2)}`);
    }
  }
  for (const [name, value] of [['node_memory_MemTotal_bytes', '5.4e+11'], ['node_memory_MemAvailable_bytes', '4.1e+11'], ['node_time_seconds', Date.now() / 1000]]) {
    lines.push(`# HELP ${name} Something of the node.`, `# TYPE ${name} gauge`, `${name} ${value}`);
  }
  shared = { tenth, text: `${filler}${lines.join('\n')}\n` };
  return shared.text;
}

/** A node_exporter's, some 60 KB. */
export function nodeBody(node) {
  const upS = (Date.now() - startedMs) / 1000;
  const families = { node_hwmon_chip_names: [], node_hwmon_temp_celsius: [], node_hwmon_temp_crit_celsius: [] };
  for (let socket = 0; socket < 2; socket += 1) {
    const chip = `platform_coretemp_${socket}`;
    families.node_hwmon_chip_names.push(`{chip="${chip}",chip_name="coretemp"} 1`);
    for (let sensor = 1; sensor <= 17; sensor += 1) {
      const labels = `{chip="${chip}",sensor="temp${sensor}"}`;
      families.node_hwmon_temp_celsius.push(`${labels} ${50 + ((node + sensor + Math.round(upS)) % 9)}`);
      families.node_hwmon_temp_crit_celsius.push(`${labels} 100`);
    }
  }
  const lines = Object.entries(families).flatMap(([name, series]) => [
    `# HELP ${name} Something of a sensor.`,
    `# TYPE ${name} gauge`,
    ...series.map((one) => `${name}${one}`),
  ]);
  return `${sharedPart(upS)}${lines.join('\n')}\n`;
}

const DCGM = ['SM_CLOCK', 'MEM_CLOCK', 'MEMORY_TEMP', 'GPU_TEMP', 'POWER_USAGE', 'TOTAL_ENERGY_CONSUMPTION', 'PCIE_REPLAY_COUNTER', 'GPU_UTIL', 'MEM_COPY_UTIL', 'ENC_UTIL', 'DEC_UTIL', 'FB_FREE', 'FB_USED', 'FB_RESERVED', 'NVLINK_BANDWIDTH_TOTAL', 'VGPU_LICENSE_STATUS'];

/** A dcgm-exporter's with pod labels, some 35 KB. The hottest GPU is at `hottestC`, where that is given. */
export function gpuBody(node, hottestC = null) {
  const upS = (Date.now() - startedMs) / 1000;
  const lines = [];
  for (const field of DCGM) {
    lines.push(`# HELP DCGM_FI_DEV_${field} Something of a GPU.`, `# TYPE DCGM_FI_DEV_${field} gauge`);
    for (let gpu = 0; gpu < 8; gpu += 1) {
      const uuid = `GPU-${node.toString(16).padStart(8, '0')}-0000-4000-8000-00000000000${gpu}`;
      const value = {
        GPU_TEMP: gpu === 0 && hottestC !== null ? hottestC : 55 + ((node + gpu + Math.round(upS)) % 9),
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
