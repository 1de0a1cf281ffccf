// Scrapes what it is told on stdin (URLs, a JSON list, node's and GPU's in turn) every second and makes readings of it, as
// a tick does, and nothing else. In a process of its own, so that its CPU can be told.
import { text } from 'node:stream/consumers';
import { systemClock } from '../dist/clock.js';
import { createExporter } from '../dist/sources/exporter.js';
import { createHttpGetter } from '../dist/sources/http-get.js';
import { createSeriesReader } from '../dist/sources/series-reader.js';

const clock = systemClock;
const { get } = createHttpGetter({ clock });
const urls = JSON.parse(await text(process.stdin));
const options = { outlets: [], tctlOffsetC: 0, zfsCacheIsAvailable: false, explains: false };
const sources = urls.map((url, i) =>
  createExporter({ node: `node-${Math.floor(i / 2)}`, url, clock, get, allowedRanges: null, credentials: null, reader: createSeriesReader(options), version: 'bench' }),
);
for (;;) {
  const startedMs = clock.now().elapsedMs;
  const reports = await Promise.all(sources.map((source) => source.read(startedMs + 900)));
  const answered = reports.filter(({ outcome }) => outcome.kind === 'answered').length;
  console.log(`scraped ${answered} of ${urls.length}`);
  await clock.sleep(Math.max(0, 1_000 - (clock.now().elapsedMs - startedMs)));
}
