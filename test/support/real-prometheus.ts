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

export interface Alerting {
  /** Absolute paths. */
  readonly ruleFiles: readonly string[];
  /** `host:port` of an Alertmanager. */
  readonly alertmanager?: string;
}

/** Starts a Prometheus that scrapes `jobs` and judges its rules every second, and waits until it answers queries. */
export async function startPrometheus(
  t: Test,
  jobs: readonly ScrapeJob[],
  { ruleFiles, alertmanager }: Alerting = { ruleFiles: [] },
): Promise<Program> {
  const folder = await tempDir(t);
  const config = join(folder, 'prometheus.yml');
  // JSON is YAML.
  await writeFile(
    config,
    JSON.stringify({
      global: { scrape_interval: '1s', scrape_timeout: '1s', evaluation_interval: '1s' },
      rule_files: ruleFiles,
      ...(alertmanager && { alerting: { alertmanagers: [{ static_configs: [{ targets: [alertmanager] }] }] } }),
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
      // What fires before an Alertmanager is known is lost, and by default told again only a minute later.
      '--rules.alert.resend-delay=1s',
      '--log.level=warn',
    ],
    { url, readyUrl: `${url}/-/ready` },
  );
}
