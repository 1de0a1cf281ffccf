// Debian's Prometheus, started on a free loopback port over a temporary folder, scraping what a test names every second.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Test } from 'tap';
import { freePort, isInstalled, type Program, startProgram } from './real-node-exporter.ts';
import { tempDir } from './temp-dir.ts';

const PROGRAM = '/usr/bin/prometheus';

/** Why a test that needs a Prometheus is skipped; `false` where it is installed. */
export const lacksPrometheus = isInstalled(PROGRAM) ? false : `needs ${PROGRAM} (apt install prometheus)`;

export interface ScrapeJob {
  readonly job: string;
  /** `host:port` each. */
  readonly targets: readonly string[];
  readonly labels?: Readonly<Record<string, string>>;
}

/** Starts a Prometheus that scrapes `jobs` every second, and waits until it answers queries. */
export async function startPrometheus(t: Test, jobs: readonly ScrapeJob[]): Promise<Program> {
  const folder = await tempDir(t);
  const config = join(folder, 'prometheus.yml');
  // JSON is YAML.
  await writeFile(
    config,
    JSON.stringify({
      global: { scrape_interval: '1s', scrape_timeout: '1s' },
      scrape_configs: jobs.map(({ job, targets, labels = {} }) => ({
        job_name: job,
        static_configs: [{ targets, labels }],
      })),
    }),
  );
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  return startProgram(
    t,
    PROGRAM,
    [
      `--config.file=${config}`,
      `--storage.tsdb.path=${join(folder, 'data')}`,
      `--web.listen-address=127.0.0.1:${port}`,
      '--log.level=warn',
    ],
    { url, readyUrl: `${url}/-/ready` },
  );
}
