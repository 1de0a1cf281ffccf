// What users would otherwise run, from Debian's packages: Prometheus and Alertmanager, on loopback over folders that are
// gone with the bench.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort, freshFolder, isAnswered, isInstalled, start, until } from './measure.mjs';

const PROMETHEUS = '/usr/bin/prometheus';
const ALERTMANAGER = '/usr/bin/prometheus-alertmanager';

const lack = (program, name) => (isInstalled(program) ? false : `${program} is not installed (apt install ${name})`);
/** Why a peer is skipped; `false` where it is installed. */
export const lacksPrometheus = lack(PROMETHEUS, 'prometheus');
export const lacksAlertmanager = lack(ALERTMANAGER, 'prometheus-alertmanager');

/**
 * Starts a Prometheus that scrapes `jobs` (`{ job, urls }`) every `interval` and judges `rules` (groups) every
 * `evaluationInterval`, and waits until it answers.
 */
export async function startPrometheus({ jobs, interval = '10s', evaluationInterval = interval, rules = null, alertmanager = null }) {
  const folder = freshFolder();
  const config = join(folder, 'prometheus.yml');
  if (rules) writeFileSync(join(folder, 'rules.yml'), JSON.stringify({ groups: rules }));
  // JSON is YAML.
  writeFileSync(
    config,
    JSON.stringify({
      global: { scrape_interval: interval, scrape_timeout: interval, evaluation_interval: evaluationInterval },
      rule_files: rules ? [join(folder, 'rules.yml')] : [],
      ...(alertmanager && { alerting: { alertmanagers: [{ static_configs: [{ targets: [new URL(alertmanager).host] }] }] } }),
      scrape_configs: jobs.map(({ job, urls }) => ({
        job_name: job,
        static_configs: urls.map((url) => {
          const { host, pathname } = new URL(url);
          return { targets: [host], labels: { __metrics_path__: pathname } };
        }),
        // Targets of one address, told apart by their paths.
        relabel_configs: [{ source_labels: ['__metrics_path__'], target_label: 'instance' }],
      })),
    }),
  );
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const program = start(PROMETHEUS, [
    `--config.file=${config}`,
    `--storage.tsdb.path=${join(folder, 'data')}`,
    `--web.listen-address=127.0.0.1:${port}`,
    '--log.level=warn',
  ]);
  await until('Prometheus', () => isAnswered(`${url}/-/ready`), { program });
  return { ...program, url };
}

/** Starts an Alertmanager that tells `webhook` at once of what fires. */
export async function startAlertmanager({ webhook, groupInterval }) {
  const folder = freshFolder();
  const file = join(folder, 'alertmanager.yml');
  const route = { receiver: 'stop', group_by: ['...'], group_wait: '0s', group_interval: groupInterval, repeat_interval: '1h' };
  writeFileSync(file, JSON.stringify({ route, receivers: [{ name: 'stop', webhook_configs: [{ url: webhook, send_resolved: false }] }] }));
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const program = start(ALERTMANAGER, [
    `--config.file=${file}`,
    `--storage.path=${join(folder, 'data')}`,
    `--web.listen-address=127.0.0.1:${port}`,
    '--cluster.listen-address=',
    '--log.level=warn',
  ]);
  await until('Alertmanager', () => isAnswered(`${url}/-/ready`), { program });
  return { ...program, url };
}
