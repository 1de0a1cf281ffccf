// Series that look as if they should be read, and why they are not: for `explain`, when somebody asks where a number is.
// The first rule that a name meets counts; a name that series.ts reads meets none.

export interface UnreadRule {
  readonly names: RegExp;
  readonly why: string;
}

/** Of exporters of GPUs. */
export const UNREAD_GPU_SERIES: readonly UnreadRule[] = [
  {
    names: /^nvidia_smi_temperature_gpu_tlimit|^DCGM_FI_DEV_GPU_TEMP_(LIMIT|MARGIN)/,
    why: 'degrees left until the card slows down, not a temperature',
  },
  {
    names: /^DCGM_FI_DEV_MEM_COPY_UTIL|^nvidia_smi_utilization_memory|umc_activity$/,
    why: 'how busy the memory bus is, not how full the memory',
  },
  {
    names: /^DCGM_FI_DEV_FB_(RESERVED|TOTAL)|^nvidia_smi_(mig_)?memory_(reserved|total)/,
    why: 'no workload can get what is reserved: the share is used / (used + free)',
  },
  { names: /^nvidia_smi_module_power/, why: 'CPU and GPU of a module together' },
  { names: /^amd_gpu_memory_use_percent/, why: 'how busy the memory is, or how full: releases differ' },
  { names: /^DCGM_FI_PROF_/, why: 'reads 0 under load on some systems; only shown elsewhere, never judged' },
  { names: /^(DCGM_|nvidia_smi_|(amd_)?gpu_|amd_gpu_|hw_|kepler_node_gpu_)/, why: 'nothing is judged by it' },
];

/** Of exporters of whole machines' power. */
export const UNREAD_POWER_SERIES: readonly UnreadRule[] = [
  { names: /output_watts$|^idrac_power_output/, why: 'what a supply gives is less than what it takes' },
  { names: /capacity_watts$|(min|max)_consumed_watts$/, why: 'a limit or an extreme, not what is drawn now' },
  { names: /^ipmi_.*_state$/, why: 'a state is no number; "nominal" stands beside NaN' },
  { names: /^ipmi_temperature_celsius/, why: 'a BMC sensor may be °C, a code or a margin' },
  { names: /^(ipmi|idrac|redfish|kepler)_/, why: 'nothing is judged by it' },
];
