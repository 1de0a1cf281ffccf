// Which names of chips and thermal zones are a CPU's. The names are those of Linux' device trees, and of the vendors'
// own kernels: what boards show in /sys.
import t from 'tap';
import { isCpuChip, isCpuZone } from '../../src/sources/cpu-sensor-names.ts';

/** By whose device trees they are. */
const OF_A_CPU: Readonly<Record<string, readonly string[]>> = {
  Intel: ['x86_pkg_temp', 'TCPU', 'TCPU_PCI'],
  'any board': ['cpu', 'cpu-thermal', 'cpu_thermal', 'cpu-thermal-zone', 'cpu_thermal_zone', 'CPU-thermal', 'cpu_temp'],
  Rockchip: ['soc-thermal', 'bigcore-thermal', 'bigcore0-thermal', 'bigcore2-thermal', 'littlecore-thermal'],
  Qualcomm: [
    'cpu0-thermal',
    'cpu-0-0-thermal',
    'cpu-1-0-usr',
    'cpu0-gold-usr',
    'cpuss-0',
    'cpuss-0-usr',
    'cpuss0-thermal',
    'cluster0-thermal',
  ],
  Tegra: ['CPU-therm', 'MCPU-therm', 'BCPU-therm', 'tj-thermal'],
  MediaTek: ['mtktscpu', 'cpu-little0-thermal', 'cpu-big1-thermal', 'cpu_big0-thermal', 'cpu-medium-core4-thermal'],
  Amlogic: ['a53-thermal', 'a73-thermal', 'soc_thermal'],
  Exynos: ['BIG', 'MID', 'LITTLE', 'cluster1-thermal', 'atlas0-thermal', 'apollo-thermal'],
  HiSilicon: ['cls0', 'cls0-thermal'],
  NXP: [
    'cpu-thermal0',
    'a55-thermal',
    'core-cluster',
    'core-cluster1-thermal',
    'cluster-thermal',
    'cluster6-7-thermal',
  ],
  Marvell: ['ap-cpu-thermal', 'ap-thermal-cpu1', 'ap-cpu0-thermal'],
  Allwinner: ['cpul_thermal_zone', 'cpub_thermal_zone'],
};

const OF_NO_CPU: Readonly<Record<string, readonly string[]>> = {
  firmware: ['acpitz', 'INT3400 Thermal', 'B0D4', 'SEN1', 'TSKN', 'thermal-fan-est', 'Processor', 'LNXCPU-fan'],
  'graphics and accelerators': ['gpu', 'gpu-thermal', 'GPU-therm', 'gpuss-0-usr', 'npu-thermal', 'G3D', 'cpu-gpu-max'],
  'beside the CPU': [
    'cpu_fan',
    'cpu-fan-thermal',
    'cpu-skin',
    'cpu-board',
    'cpu_vrm',
    'cpu0-vr',
    'cpu-inlet',
    'cpu_ntc',
  ],
  'repeated by other zones': ['cpu-1-max-step', 'cpu-0-0-lowf', 'cpu-virtual', 'hepta-cpu-max-step'],
  'cooling, no zone': ['thermal-cpufreq-0', 'cpufreq-cpu0', 'cpu-cooling'],
  memory: ['ddr-thermal', 'ddr-cluster5', 'ddr-cluster5-thermal', 'jc42', 'spd5118', 'cpu-dimm0'],
  'disk and network': ['nvme', 'drivetemp', 'iwlwifi_1', 'mt7915_phy0', 'wifi-therm'],
  'another part of the SoC': [
    'center-thermal',
    'cluster4-hsio3-thermal',
    'soc0-thermal',
    'CV0-therm',
    'AO-therm',
    'PMIC-Die',
    'ap-thermal-ic',
    'cp0-thermal-ic',
    'aoss0-thermal',
    'mtktspmic',
  ],
  board: ['nct6775', 'it87', 'asusec', 'pch_skylake', 'Tboard_tegra', 'xo-therm'],
  // Qualcomm's zone of this type is the battery's state of charge in percent.
  'no temperature': ['soc', 'cpu-power', 'cpu_load', 'big-data', 'littlefs', 'a73', 'clusterfs'],
};

t.test('isCpuZone() knows the zones of a CPU, of every vendor, in either spelling of the separator', async (t) => {
  for (const [whose, names] of Object.entries(OF_A_CPU)) {
    for (const name of names) {
      t.equal(isCpuZone(name), true, `${whose}: ${name}`);
      t.equal(isCpuZone(name.replaceAll('-', '_')), true, `${whose}: ${name} with _`);
      t.equal(isCpuZone(name.replaceAll('_', '-')), true, `${whose}: ${name} with -`);
    }
  }
});

t.test('isCpuZone() takes nothing for the CPU that only stands near it, cools it, or repeats it', async (t) => {
  for (const [what, names] of Object.entries(OF_NO_CPU)) {
    for (const name of names) t.equal(isCpuZone(name), false, `${what}: ${name}`);
  }
});

t.test('isCpuChip() knows the drivers of a CPU, and the zones of a CPU that stand in hwmon', async (t) => {
  for (const name of ['coretemp', 'k10temp', 'zenpower', 'k8temp', 'via_cputemp']) {
    t.equal(isCpuChip(name), true, name);
  }
  for (const name of Object.values(OF_A_CPU).flat()) t.equal(isCpuChip(name.replaceAll('-', '_')), true, name);
  for (const name of Object.values(OF_NO_CPU).flat()) t.equal(isCpuChip(name.replaceAll('-', '_')), false, name);
});
