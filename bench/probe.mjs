// Loaded into the real service (`node --import bench/probe.mjs …`, forked): tells how long its event loop was held, when it is
// asked over IPC. `{ reset: true }` begins anew.
import { monitorEventLoopDelay } from 'node:perf_hooks';

const RESOLUTION_MS = 5;
const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
delay.enable();
let idle = performance.eventLoopUtilization();
process.on('message', ({ reset }) => {
  // What the timer itself takes is no delay.
  const ms = (value) => Math.max(0, value / 1e6 - RESOLUTION_MS);
  const { utilization } = performance.eventLoopUtilization(idle);
  const answer = { p50: ms(delay.percentile(50)), p99: ms(delay.percentile(99)), max: ms(delay.max), busyRatio: utilization };
  if (reset) {
    delay.reset();
    idle = performance.eventLoopUtilization();
  }
  process.send(answer);
});
process.channel?.unref();
