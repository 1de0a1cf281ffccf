// Writes openapi/openapi.yaml from the routes' own schemas. A test compares the file with what the app says, so a run
// that was forgotten is found.
import { writeFile } from 'node:fs/promises';
import pino from 'pino';
import { systemClock } from '../dist/clock.js';
import { buildApp } from '../dist/http/app.js';
import { TokenSet } from '../dist/http/token-set.js';

/** Just enough to build the app; nothing is ever asked of it. */
const parts = {
  config: {
    listen: { host: '127.0.0.1', port: 0, hosts: [] },
    auth: { tokens: [], anonymous: 'none', kubernetes: false },
  },
  supervisor: { subscribe: () => () => undefined },
  monitor: { lastTickTookMs: null },
  clock: systemClock,
  tokens: new TokenSet({ operator: '', configured: [] }),
  simulation: null,
  log: pino({ level: 'silent' }),
};

const file = new URL('../openapi/openapi.yaml', import.meta.url);
const app = buildApp(parts);
await app.ready();
await writeFile(file, app.swagger({ yaml: true }));
await app.close();
