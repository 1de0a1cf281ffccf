// Which series of which exporter is which reading: data, and nothing else. A new exporter, or a new name of an old
// series, is a row here; what rows of one kind have in common is done by node-series.ts, gpu-series.ts and
// power-series.ts. Names that no row knows are never even parsed, but for the labels of those that list cards.
import type { GpuExporter, PowerSeries } from './series-rows.ts';

// --- node_exporter (node-series.ts) ---

/** The series of node_exporter and of its kin on Windows, by what they are read as. */
export const NODE = {
  /** The exporter's own clock: it moves while the exporter is alive. */
  time: 'node_time_seconds',
  /** 0 for a collector that failed, and for one that has no data on this machine. */
  collectorSuccess: 'node_scrape_collector_success',
  /** When each file of the textfile collector was written: the only age of what it says. */
  textfileTime: 'node_textfile_mtime_seconds',

  // Labels `chip` and `sensor`; `chip` is made of the device's path.
  chipName: 'node_hwmon_chip_names',
  sensorLabel: 'node_hwmon_sensor_label',
  temperature: 'node_hwmon_temp_celsius',
  /** 1: the wire is broken. */
  temperatureFault: 'node_hwmon_temp_fault',
  criticalTemperature: 'node_hwmon_temp_crit_celsius',
  power: 'node_hwmon_power_watt',
  averagePower: 'node_hwmon_power_average_watt',
  averagePowerInterval: 'node_hwmon_power_average_interval_seconds',
  /** A flag, divided by a million like the watts. */
  powerIsBattery: 'node_hwmon_power_is_battery_watt',
  energy: 'node_hwmon_energy_joule_total',

  /** Labels `zone` and `type`. 0 °C for a zone that could not be read (from 1.12 on). */
  zoneTemperature: 'node_thermal_zone_temp',

  // Label `card`; collector `drm`, which is off unless asked for, and knows amdgpu only.
  cardInfo: 'node_drm_card_info',
  cardMemoryUsed: 'node_drm_memory_vram_used_bytes',
  cardMemorySize: 'node_drm_memory_vram_size_bytes',
  cardBusy: 'node_drm_gpu_busy_percent',

  /** Labels `cpu` and `mode`. node_cpu_guest_seconds_total is contained in it. */
  cpuTime: 'node_cpu_seconds_total',
  memoryTotal: 'node_memory_MemTotal_bytes',
  memoryAvailable: 'node_memory_MemAvailable_bytes',
  memoryFree: 'node_memory_MemFree_bytes',
  memoryBuffers: 'node_memory_Buffers_bytes',
  memoryCached: 'node_memory_Cached_bytes',
  memoryReclaimable: 'node_memory_SReclaimable_bytes',
  memoryShared: 'node_memory_Shmem_bytes',
  zfsCache: 'node_zfs_arc_size',
  zfsCacheMinimum: 'node_zfs_arc_c_min',

  /** Labels `core` and `mode`. */
  windowsCpuTime: 'windows_cpu_time_total',
  windowsMemoryTotal: 'windows_memory_physical_total_bytes',
  /** The same before 0.31. */
  windowsMemoryTotalOld: 'windows_cs_physical_memory_bytes',
  windowsMemoryAvailable: 'windows_memory_available_bytes',
} as const;

/** Limits of a GPU's power, by the name that its driver gives them in hwmon. */
export const NODE_POWER_LIMITS: Readonly<Record<string, string>> = {
  cap: 'node_hwmon_power_cap_watt',
  cap_default: 'node_hwmon_power_cap_default_watt',
  max: 'node_hwmon_power_max_watt',
  rated_max: 'node_hwmon_power_rated_max_watt',
};

/**
 * RAPL's counters, J, with the zone that each counts; labels `index` and `path`. The exporter makes the zone's name a
 * part of the series' and a number at its end the `index`, except in `package-0-die-1`. `null`: the zone stands in the
 * label `rapl_zone` (`--collector.rapl.enable-zone-label`). Cores and uncore are inside the package and are not read.
 */
export const NODE_RAPL: ReadonlyMap<string, string | null> = new Map([
  ['node_rapl_joules_total', null],
  ['node_rapl_package_joules_total', 'package'],
  ['node_rapl_dram_joules_total', 'dram'],
  ['node_rapl_psys_joules_total', 'psys'],
  ...[0, 1, 2, 3, 4, 5, 6, 7].flatMap((socket) =>
    [0, 1, 2, 3].map((die): [string, string] => [
      `node_rapl_package_${socket}_die_${die}_joules_total`,
      `package-${socket}-die-${die}`,
    ]),
  ),
]);

export const NODE_SERIES_NAMES: readonly string[] = [
  ...Object.values(NODE),
  ...Object.values(NODE_POWER_LIMITS),
  ...NODE_RAPL.keys(),
];

// --- exporters of GPUs (gpu-series.ts) ---

/**
 * dcgm-exporter calls a series as the operator's CSV does: by DCGM's names from before 4.6 or since. Its `UUID` is the
 * card's, on the rows of MIG instances too. FB_RESERVED, which no workload can get, is in neither used nor free.
 */
const DCGM_EXPORTER: GpuExporter = {
  exporter: 'dcgm-exporter',
  vendor: 'nvidia',
  labels: {
    uuid: ['UUID', 'uuid'],
    pci: ['pci_bus_id'],
    index: ['gpu'],
    name: ['modelName'],
    part: ['GPU_I_ID'],
  },
  namesAreItsOwn: true,
  blanks: 'dcgm',
  series: [
    { is: 'temperature', names: ['DCGM_FI_DEV_GPU_TEMP', 'DCGM_FI_DEV_GPU_TEMP_CELSIUS'] },
    { is: 'power', names: ['DCGM_FI_DEV_POWER_USAGE', 'DCGM_FI_DEV_BOARD_POWER_WATTS'] },
    // Instant, not averaged.
    { is: 'power', names: ['DCGM_FI_DEV_POWER_USAGE_INSTANT', 'DCGM_FI_DEV_BOARD_POWER_RAW_WATTS'], standIn: true },
    { is: 'memory-used', names: ['DCGM_FI_DEV_FB_USED'] },
    { is: 'memory-free', names: ['DCGM_FI_DEV_FB_FREE'] },
    // used / (total - reserved), 0 to 1 under both names.
    { is: 'memory-ratio', names: ['DCGM_FI_DEV_FB_USED_PERCENT', 'DCGM_FI_DEV_FB_USED_RATIO'] },
    { is: 'memory-temperature', names: ['DCGM_FI_DEV_MEMORY_TEMP', 'DCGM_FI_DEV_MEMORY_TEMP_CELSIUS'] },
    // Percent, the one called ratio too.
    { is: 'utilization', names: ['DCGM_FI_DEV_GPU_UTIL', 'DCGM_FI_DEV_GPU_UTIL_RATIO'], per: 100 },
    // mJ since the driver was loaded.
    { is: 'energy', names: ['DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION'] },
    { is: 'throttle-bits', names: ['DCGM_FI_DEV_CLOCKS_EVENT_REASONS', 'DCGM_FI_DEV_CLOCK_THROTTLE_REASONS'] },
    { is: 'slowdown-temperature', names: ['DCGM_FI_DEV_SLOWDOWN_TEMP', 'DCGM_FI_DEV_GPU_TEMP_SLOWDOWN_CELSIUS'] },
    {
      is: 'enforced-power-limit',
      names: ['DCGM_FI_DEV_ENFORCED_POWER_LIMIT', 'DCGM_FI_DEV_BOARD_POWER_LIMIT_ENFORCED_WATTS'],
    },
    {
      is: 'enforced-power-limit',
      names: ['DCGM_FI_DEV_POWER_MGMT_LIMIT', 'DCGM_FI_DEV_BOARD_POWER_LIMIT_REQUESTED_WATTS'],
      standIn: true,
    },
    {
      is: 'default-power-limit',
      names: ['DCGM_FI_DEV_POWER_MGMT_LIMIT_DEF', 'DCGM_FI_DEV_BOARD_POWER_LIMIT_DEFAULT_WATTS'],
    },
    { is: 'xid', names: ['DCGM_FI_DEV_XID_ERRORS', 'DCGM_FI_DEV_XID_ERROR'] },
    { is: 'xid-count', names: ['DCGM_EXP_XID_ERRORS_COUNT'] },
    // In the default list, and enough to be a body of cards where all of the families above are lost.
    { is: 'seen', names: ['DCGM_FI_DEV_SM_CLOCK', 'DCGM_FI_DEV_MEM_CLOCK', 'DCGM_FI_DEV_PCIE_REPLAY_COUNTER'] },
  ],
  lists: { names: /^DCGM_/, notOf: ['nvswitch', 'nvlink', 'cpu', 'cpucore'] },
  hasInstances: true,
};

/** `uuid` comes without `GPU-`. A field that the driver answers with [N/A] is left out. */
const NVIDIA_GPU_EXPORTER: GpuExporter = {
  exporter: 'nvidia_gpu_exporter',
  vendor: 'nvidia',
  labels: { uuid: ['uuid'], pci: ['pci_bus_id'], index: ['index'], name: ['name'], part: ['gpu_instance_id'] },
  namesAreItsOwn: true,
  blanks: null,
  series: [
    { is: 'seen', names: ['nvidia_smi_gpu_info'] },
    { is: 'temperature', names: ['nvidia_smi_temperature_gpu'] },
    { is: 'power', names: ['nvidia_smi_power_draw_watts', 'nvidia_smi_power_draw_average_watts'] },
    { is: 'power', names: ['nvidia_smi_power_draw_instant_watts'], standIn: true },
    { is: 'memory-used', names: ['nvidia_smi_memory_used_bytes', 'nvidia_smi_mig_memory_used_bytes'] },
    { is: 'memory-free', names: ['nvidia_smi_memory_free_bytes', 'nvidia_smi_mig_memory_free_bytes'] },
    { is: 'memory-temperature', names: ['nvidia_smi_temperature_memory'] },
    { is: 'utilization', names: ['nvidia_smi_utilization_gpu_ratio'] },
    {
      is: 'throttle-bits',
      names: ['nvidia_smi_clocks_event_reasons_active', 'nvidia_smi_clocks_throttle_reasons_active'],
    },
    {
      is: 'hw-thermal-flag',
      names: [
        'nvidia_smi_clocks_event_reasons_hw_thermal_slowdown',
        'nvidia_smi_clocks_throttle_reasons_hw_thermal_slowdown',
      ],
    },
    {
      is: 'hw-power-brake-flag',
      names: [
        'nvidia_smi_clocks_event_reasons_hw_power_brake_slowdown',
        'nvidia_smi_clocks_throttle_reasons_hw_power_brake_slowdown',
      ],
    },
    { is: 'enforced-power-limit', names: ['nvidia_smi_enforced_power_limit_watts'] },
    { is: 'default-power-limit', names: ['nvidia_smi_power_default_limit_watts'] },
    { is: 'xid-count', names: ['nvidia_smi_xid_errors_total'] },
    { is: 'wants-recovery', names: ['nvidia_smi_gpu_recovery_action'] },
    { is: 'collect-success', names: ['nvidia_smi_last_collect_success'] },
    { is: 'exit-status', names: ['nvidia_smi_command_exit_code'] },
    { is: 'collected-at', names: ['nvidia_smi_last_collect_success_timestamp_seconds'] },
  ],
  lists: { names: /^nvidia_smi_/ },
  hasInstances: true,
};

/** Plain, and with the prefix of the example configuration. */
const amdNames = (...names: readonly string[]): string[] => names.flatMap((name) => [name, `amd_${name}`]);

/**
 * AMD's device-metrics-exporter. 0 °C or 0 W is a sensor that this part has not, and partitions other than the first
 * tell 0 W for the card: the worst of a card's rows counts. The hot spot (junction) is hotter by design and is judged
 * only where the card gives no edge (MI300).
 */
const AMD_DEVICE_METRICS: GpuExporter = {
  exporter: 'device-metrics-exporter',
  vendor: 'amd',
  labels: {
    uuid: ['gpu_uuid'],
    serial: ['serial_number'],
    index: ['gpu_id'],
    name: ['card_series', 'card_model'],
    part: ['gpu_partition_id'],
  },
  blanks: 'amd',
  series: [
    { is: 'temperature', names: amdNames('gpu_edge_temperature') },
    { is: 'temperature', names: amdNames('gpu_junction_temperature'), standIn: true },
    { is: 'power', names: amdNames('gpu_package_power', 'gpu_average_package_power', 'gpu_power_usage') },
    { is: 'memory-used', names: amdNames('gpu_used_vram') },
    { is: 'memory-free', names: amdNames('gpu_free_vram') },
    { is: 'memory-size', names: amdNames('gpu_total_vram') },
    { is: 'memory-temperature', names: amdNames('gpu_memory_temperature', 'gpu_hbm_temperature') },
    { is: 'utilization', names: amdNames('gpu_gfx_activity'), per: 100 },
    { is: 'energy', names: amdNames('gpu_energy_consumed') },
    { is: 'seen', names: amdNames('gpu_health') },
  ],
  lists: { names: /^(amd_)?gpu_/ },
};

/** Retired. The card's number stands in a label that is called as the metric; memory it does not tell. */
const AMD_SMI_EXPORTER: GpuExporter = {
  exporter: 'amd_smi_exporter',
  vendor: 'amd',
  labels: { index: ['gpu_power', 'gpu_current_temperature', 'gpu_use_percent'], name: ['productname'] },
  blanks: 'amd',
  series: [
    { is: 'temperature', names: ['amd_gpu_current_temperature'], per: 1e3, least: 1e3 },
    { is: 'power', names: ['amd_gpu_power'], per: 1e6, least: 1e4 },
    { is: 'utilization', names: ['amd_gpu_use_percent'], per: 100 },
  ],
};

/**
 * XPU Manager 2. The names are OpenTelemetry's for any hardware, so only rows with a PCI address are cards. Locations
 * contain each other and are never added: the card's power counts, else the worst of the others.
 */
const INTEL_XPUMD: GpuExporter = {
  exporter: 'xpumd',
  vendor: 'intel',
  labels: { pci: ['pci_bdf'], name: ['hw_model'], part: ['hw_name'] },
  blanks: null,
  series: [
    { is: 'seen', names: ['hw_gpu_info'] },
    {
      is: 'temperature',
      names: ['hw_temperature_celsius'],
      where: { hw_sensor_location: ['gpu', ''], statistic: ['max', ''] },
    },
    {
      is: 'temperature',
      names: ['hw_temperature_celsius'],
      where: { hw_sensor_location: ['package', 'card'], statistic: ['max', ''] },
      standIn: true,
    },
    { is: 'memory-temperature', names: ['hw_temperature_celsius'], where: { hw_sensor_location: ['memory'] } },
    { is: 'power', names: ['hw_power_watts'], where: { hw_sensor_location: ['card', ''] } },
    { is: 'power', names: ['hw_power_watts'], where: { hw_sensor_location: ['package', 'gpu'] }, standIn: true },
    { is: 'memory-ratio', names: ['hw_memory_utilization_ratio'], where: { hw_memory_location: ['device', ''] } },
    { is: 'memory-used', names: ['hw_memory_usage_bytes'], where: { hw_memory_location: ['device', ''] } },
    { is: 'memory-size', names: ['hw_memory_size_bytes'], where: { hw_memory_location: ['device', ''] } },
    { is: 'utilization', names: ['hw_gpu_utilization_ratio'] },
  ],
};

/** Kepler reads NVIDIA cards' board power once more; it counts where a UUID stands with it. */
const KEPLER_GPUS: GpuExporter = {
  exporter: 'Kepler',
  vendor: 'nvidia',
  labels: { uuid: ['gpu_uuid'], name: ['gpu_name'] },
  blanks: null,
  series: [{ is: 'power', names: ['kepler_node_gpu_watts'] }],
};

export const GPU_EXPORTERS: readonly GpuExporter[] = [
  DCGM_EXPORTER,
  NVIDIA_GPU_EXPORTER,
  AMD_DEVICE_METRICS,
  AMD_SMI_EXPORTER,
  INTEL_XPUMD,
  KEPLER_GPUS,
];

export const GPU_SERIES_NAMES: readonly string[] = [
  ...new Set(GPU_EXPORTERS.flatMap(({ series }) => series.flatMap(({ names }) => names))),
];

const LISTING = new RegExp(GPU_EXPORTERS.flatMap(({ lists }) => lists?.names.source ?? []).join('|'));

/** Whether the rows of a family that is not read otherwise are signs of their cards. */
export const listsCards = (name: string): boolean => LISTING.test(name);

// --- exporters of whole machines' power (power-series.ts) ---

/** Which source of total power wins: the lowest. 1 is what somebody configured, 4 node_exporter's ACPI meter. */
export const POWER_RANK = { outlets: 1, dcmi: 2, redfish: 3, supplies: 5 } as const;

/** Names of what stands for a whole machine among a BMC's power controls. */
export const WHOLE_MACHINE = /system|chassis|total/i;
/** Names that say a part with the same words: "CPU Sub-system Power" (HPE), "Total GPU Power", "System Fan Power". */
export const PART_OF_MACHINE = /sub[ _-]?system|cpu|processor|gpu|accelerator|memory|dimm|dram|storage|drive|disk|fan/i;

export const POWER_SERIES: readonly PowerSeries[] = [
  {
    exporter: 'ipmi_exporter',
    is: 'total',
    // The second name stands in its documentation only.
    names: ['ipmi_dcmi_power_consumption_watts', 'ipmi_dcmi_power_consumption_current_watts'],
    rank: POWER_RANK.dcmi,
    up: { name: 'ipmi_up', labels: { collector: 'dcmi' } },
  },
  {
    exporter: 'ipmi_exporter',
    is: 'supply',
    // "PS1 Input Power", "PSU2 Power In", "PSU1_PIN", where `_` is no end of a word for \b. Other sensors in W may be
    // outputs, parts or totals.
    names: ['ipmi_power_watts'],
    where: { name: /^(psu?|power[ _-]supply)[ _-]?\d+(?![a-z0-9]).*(?<![a-z0-9])(input|in|pin)(?![a-z0-9])/i },
    by: ['id', 'name'],
    up: { name: 'ipmi_up', labels: { collector: 'ipmi' } },
  },
  {
    exporter: 'idrac_exporter',
    is: 'total',
    names: ['idrac_power_control_consumed_watts'],
    rank: POWER_RANK.redfish,
    whole: { ids: ['id'], names: ['name'] },
  },
  {
    exporter: 'idrac_exporter',
    is: 'supply',
    names: ['idrac_power_supply_input_watts', 'idrac_power_input_watts'],
    by: ['id', 'psu'],
  },
  {
    exporter: 'redfish_exporter',
    is: 'total',
    // An average, over a minute (Dell) to 20 minutes (HPE).
    names: ['redfish_chassis_power_average_consumed_watts'],
    rank: POWER_RANK.redfish,
    whole: {
      ids: ['power_metric_id', 'power_control_id', 'id'],
      names: ['power_metric', 'power_control', 'name'],
    },
  },
  {
    exporter: 'redfish_exporter',
    is: 'supply',
    // Of some supplies the rating (telegraf#9575): too high rather than too low.
    names: ['redfish_chassis_power_powersupply_power_input_watts'],
    by: ['chassis_id', 'power_supply_id', 'power_supply'],
  },
  {
    exporter: 'Kepler',
    is: 'supply',
    names: ['kepler_platform_watts'],
    where: { source_type: /^PowerSupply$/ },
    by: ['bmc_id', 'chassis_id', 'source_id'],
  },
  {
    exporter: 'Kepler',
    is: 'total',
    names: ['kepler_platform_watts'],
    rank: POWER_RANK.supplies,
    where: { source_type: /^PowerControl$/ },
  },
  // Zones overlap: package contains core and uncore, psys contains package.
  {
    exporter: 'Kepler',
    is: 'cpu-package',
    names: ['kepler_node_cpu_watts'],
    where: { zone: /^package$/ },
    by: ['path'],
  },
  { exporter: 'amd_smi_exporter', is: 'cpu-package', names: ['amd_socket_power'], per: 1e3, by: ['socket_power'] },
];

export const POWER_SERIES_NAMES: readonly string[] = [
  ...new Set(POWER_SERIES.flatMap(({ names, up }) => (up ? [...names, up.name] : names))),
];

// --- all of them ---

/** Every name that is read of an exposition; outlets of a PDU are added by their configuration. */
export const WANTED_NAMES: ReadonlySet<string> = new Set([
  ...NODE_SERIES_NAMES,
  ...GPU_SERIES_NAMES,
  ...POWER_SERIES_NAMES,
]);
