// The share of time that CPUs worked, between two samples of the kernel's counters of time. The counters come from
// /proc/stat (local-machine.ts) or from an exporter (node-share-series.ts), and are judged by one rule: small steps back
// are jitter, large ones a CPU that began anew, and a CPU whose counters stand still is offline, neither idle nor busy.
import type { RawReading } from '../domain/reading.ts';

/** A share over a shorter time is noise: the counters move in steps of 10 ms. */
export const SHORTEST_SHARE_MS = 1000;
/**
 * A share over a longer time hides what the CPU does now. A node under load may be silent for up to 70 s before that is
 * blindness: the first scrape after it must tell, or it comes too late.
 */
export const LONGEST_SHARE_MS = 90_000;
/**
 * 3 s in clock ticks, which Linux shows 100 of per second on every architecture. Counters step back by a few ticks while
 * a CPU sleeps or a hypervisor steals time; further back, the CPU was unplugged and begins anew (node_exporter's rule).
 */
const SMALLEST_RESET_TICKS = 300;
/** Places in {@link CpuTimes.cpus} of the time in which a CPU does nothing. */
const IDLE = 3;
const IOWAIT = 4;

export interface CpuTimes {
  /** Monotonic time of the sample. */
  readonly atMs: number;
  /**
   * Ticks (hundredths of a second) of each CPU: user, nice, system, idle, iowait, irq, softirq, steal. Guest times are
   * contained in user and nice. `undefined` for a counter that is not told.
   */
  readonly cpus: ReadonlyMap<string, readonly (number | undefined)[]>;
}

/**
 * 1 - Δ(idle + iowait) / Δ(all), summed over the CPUs in both samples. A CPU whose counters stood still is offline and
 * falls out of the sums by itself: counted as idle, two dead ones of four would turn 98 % into 49 (LXCFS, lxcfs#581).
 * `where` says for people where the counters stand.
 */
export function shareBetween(from: CpuTimes, to: CpuTimes, where: string): RawReading {
  let allTicks = 0;
  let workedTicks = 0;
  let counted = 0;
  let reset = 0;
  for (const [cpu, after] of to.cpus) {
    const before = from.cpus.get(cpu);
    if (!before) continue;
    let all = 0;
    let idle = 0;
    let isReset = false;
    for (let mode = 0; mode < after.length; mode += 1) {
      const step = (after[mode] ?? 0) - (before[mode] ?? after[mode] ?? 0);
      isReset ||= step <= -SMALLEST_RESET_TICKS;
      // A small step back is jitter. Dropping the whole CPU for it would hide one that is busy.
      const forward = Math.max(0, step);
      all += forward;
      if (mode === IDLE || mode === IOWAIT) idle += forward;
    }
    if (isReset) {
      reset++;
      continue;
    }
    if (all > 0) counted++;
    allTicks += all;
    workedTicks += all - idle;
  }
  const over = `over ${((to.atMs - from.atMs) / 1000).toFixed(1)} s`;
  const left = reset === 0 ? '' : `; ${reset} left out: counters began anew`;
  return {
    component: 'cpu',
    quantity: 'utilization',
    sampledAtMs: to.atMs,
    ...(allTicks === 0
      ? { value: null, cause: 'frozen', origin: `${where}: no counter moved ${over}${left}` }
      : { value: workedTicks / allTicks, origin: `${where}: ${counted} of ${to.cpus.size} CPUs ${over}${left}` }),
  };
}
