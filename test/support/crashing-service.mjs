// The service as built, with one difference: it kills itself (SIGKILL, as a crash would) at a given step of a trip.
// CRASH_AT counts the supervisor's steps from the first of the step that trips: 1 is "decided", 2 "journaling", then one
// for each effect, and the last is "done".
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
const crashAt = Number(process.env.CRASH_AT);
let pending = 0;
let steps = 0;
let isTripping = false;

const outcome = await serve(loaded.config, {
  log: createLogger('info'),
  onBroken: (error) => {
    throw error;
  },
  onStep: (step, effect) => {
    if (step === 'decided') {
      pending = 1;
      if (isTripping) return;
    }
    const trips = effect?.kind === 'journal' && effect.urgent;
    if (trips && !isTripping) {
      isTripping = true;
      steps = pending; // the "decided" before it
    }
    if (!isTripping) return;
    if (crashAt === 1 || ++steps >= crashAt) process.kill(process.pid, 'SIGKILL');
  },
});
if (outcome.kind !== 'running') throw new Error(outcome.message);
