// Loaded into the real service (`node --import bench/probe.mjs …`, forked): tells how long its event loop was held, its memory
// and what keeps it alive, when it is asked over IPC. `{ reset: true }` begins anew; `{ collect: true }` collects garbage
// first, so that what is left is held by somebody.
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

const RESOLUTION_MS = 5;
const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
delay.enable();
let idle = performance.eventLoopUtilization();
let collect = null;

function collectGarbage() {
  if (collect === null) {
    setFlagsFromString('--expose-gc');
    collect = runInNewContext('gc');
  }
  collect();
}

process.on('message', (asked) => {
  // What the timer itself takes is no delay.
  const ms = (value) => Math.max(0, value / 1e6 - RESOLUTION_MS);
  const { utilization } = performance.eventLoopUtilization(idle);
  const loop = { p50: ms(delay.percentile(50)), p99: ms(delay.percentile(99)), max: ms(delay.max), busyRatio: utilization };
  if (asked.collect) collectGarbage();
  process.send({ ...loop, memory: process.memoryUsage(), resources: process.getActiveResourcesInfo() });
  if (asked.reset) {
    delay.reset();
    idle = performance.eventLoopUtilization();
  }
});
process.channel?.unref();
