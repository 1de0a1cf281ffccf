// Which chips and thermal zones are a CPU's, by their names. Where a driver measures nothing but CPUs its name says so.
// Boards with an ARM or RISC-V chip have thermal zones instead, named freely by whoever wrote the device tree, one for
// each cluster of cores: the sensor of the whole chip lies far from them and shows 45 °C beside a cluster at 96. A name
// that says "cpu" is taken, as are the ways of naming a cluster that device trees of Linux and of vendors have; not what
// only stands near the CPU, cools it, or repeats its zones.

/** Drivers that measure a CPU and nothing else: Intel's, AMD's three, VIA's. */
const CPU_DRIVER = /^(coretemp|k10temp|zenpower|k8temp|via_cputemp)$/i;

/** Intel's package; sensors of a whole chip whose cores are most of it: Rockchip's and Amlogic's, and Jetson's hottest. */
const WHOLE_CHIP = /^(x86-pkg-temp|(soc|tj)-thermal)$/;

/**
 * Clusters without "cpu" in their name: bigcore0-thermal (Rockchip), BIG (Exynos), cluster0-thermal (Qualcomm),
 * core-cluster, cluster6-7-thermal (NXP; but ddr-cluster5 is the memory's), cls0 (HiSilicon), atlas0-thermal (Exynos).
 */
const CLUSTER = /^((big|mid|little)(-?core)?\d*|(core-)?cluster\d*(-\d+)?|cls\d+|(atlas|apollo)\d*)(-thermal|-therm)?$/;

/** By the core's name, Cortex-A53 to A725: a53-thermal (Amlogic), a55-thermal (NXP). */
const CORTEX = /^(cortex-)?a(1[257]|[357]\d{1,2})-thermal$/;

/**
 * With "cpu" in its name, yet not its temperature: another chip's, one beside it, what cools it, or the zones that
 * Qualcomm's kernels derive from the others (cpu-1-max-step, cpu-0-0-lowf).
 */
const BESIDE_CPU =
  /gpu|npu|mem|dimm|ddr|dram|nvme|disk|wifi|fan|pwm|cool|freq|idle|skin|board|pcb|ambient|inlet|outlet|ntc|vrm|-vr(-|\d|$)|power|volt|vdd|curr|load|usage|virt|step|lowf|trip/;

/** Whether a chip in hwmon is a CPU's. A thermal zone stands there, too, with `-` written as `_`. */
export function isCpuChip(name: string): boolean {
  return CPU_DRIVER.test(name) || isCpuZone(name);
}

/**
 * Whether a thermal zone is a CPU's, by its type. Not acpitz (a firmware's value), pch, iwlwifi or INT3400; nor a bare
 * `soc`, which is the battery's state of charge on Qualcomm's boards.
 *
 * @example
 * isCpuZone('bigcore0-thermal') // true
 * isCpuZone('gpu-thermal') // false
 */
export function isCpuZone(type: string): boolean {
  const name = type.toLowerCase().replace(/[-_. ]+/g, '-');
  if (name.includes('cpu')) return !BESIDE_CPU.test(name);
  return WHOLE_CHIP.test(name) || CLUSTER.test(name) || CORTEX.test(name);
}
