// The service as built, with one difference: /proc and /sys of the machine are looked for below MACHINE_ROOT, where a
// test has laid them out. Tools such as nvidia-smi are those of its PATH.
import { homedir, hostname } from 'node:os';
import { parseArgs } from 'node:util';
import { loadConfig } from '../../dist/config.js';
import { createLogger, serve } from '../../dist/serve.js';

const { values } = parseArgs({
  options: {
    port: { type: 'string' },
    'state-dir': { type: 'string' },
    source: { type: 'string' },
    config: { type: 'string' },
  },
});
const { config: file = null, ...flags } = values;
const loaded = loadConfig({ file, env: {}, flags, hostname: hostname(), homeDir: homedir() });
if (!loaded.ok) throw new Error(JSON.stringify(loaded.problems));

const outcome = await serve(loaded.config, {
  log: createLogger('info'),
  root: process.env.MACHINE_ROOT,
  onBroken: (error) => {
    throw error;
  },
});
if (outcome.kind !== 'running') throw new Error(outcome.message);
// With everything closed nothing keeps the process, unless something was left running.
process.once('SIGTERM', () => void outcome.close());
