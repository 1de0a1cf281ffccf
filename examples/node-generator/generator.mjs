// A workload generator in its shortest form: loads one CPU core, as hard as the safety service allows.
//
//   npm install vsf-safety
//   node generator.mjs [SECONDS]
//
// The load runs in a worker, so that this thread stays free to renew the lease. Exit codes as in `vsf-safety run`:
// 0 done, 75 refused, 76 stopped for safety.
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { SafeWorkloadContext, UnsafeError } from 'vsf-safety';

const seconds = Number(process.argv[2] ?? 60);

/** Busy for `share` of each tenth of a second. */
const BURN = `
const { parentPort } = require('node:worker_threads');
let share = 0;
parentPort.on('message', (told) => { share = told; });
setInterval(() => {
  const until = performance.now() + 100 * share;
  while (performance.now() < until);
}, 100);
`;

async function generate(ctx) {
  if (!ctx.safe) {
    console.log('refused:', ctx.result.reason);
    process.exitCode = 75;
    return;
  }
  console.log('running at', ctx.intensityCap);
  const worker = new Worker(BURN, { eval: true });
  ctx.signal.addEventListener('abort', () => worker.terminate());
  try {
    for (let left = seconds * 10; left > 0; left--) {
      worker.postMessage(ctx.paused ? 0 : ctx.intensityCap);
      await sleep(100, undefined, { signal: ctx.signal });
    }
  } finally {
    await worker.terminate();
  }
}

try {
  const options = {
    workload: 'example-generator',
    wait: true,
    onWarning: (result) => console.log('warning:', result.action, result.reason),
    onCritical: (result) => console.log('critical:', result.reason),
  };
  await SafeWorkloadContext.run(options, generate);
} catch (error) {
  if (!(error instanceof UnsafeError)) throw error;
  console.log('stopped:', error.result.action);
  process.exitCode = 76;
}
