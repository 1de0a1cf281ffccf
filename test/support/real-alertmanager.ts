// Debian's Alertmanager, started on a loopback port over a temporary folder, alone and without a cluster.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Test } from 'tap';
import { isInstalled, type Program, startProgram } from './real-node-exporter.ts';
import { tempDir } from './temp-dir.ts';

const PROGRAM = '/usr/bin/prometheus-alertmanager';

/** Why a test that needs an Alertmanager is skipped; `false` where it is installed. */
export const lacksAlertmanager = isInstalled(PROGRAM)
  ? false
  : `needs ${PROGRAM} (apt install prometheus-alertmanager)`;

/** Starts an Alertmanager with `config` (as alertmanager.yml) on `port`, and waits until it is ready. */
export async function startAlertmanager(t: Test, config: object, port: number): Promise<Program> {
  const folder = await tempDir(t);
  const file = join(folder, 'alertmanager.yml');
  // JSON is YAML.
  await writeFile(file, JSON.stringify(config));
  const url = `http://127.0.0.1:${port}`;
  return startProgram(
    t,
    PROGRAM,
    [
      `--config.file=${file}`,
      `--storage.path=${join(folder, 'data')}`,
      `--web.listen-address=127.0.0.1:${port}`,
      '--cluster.listen-address=',
      '--log.level=warn',
    ],
    { url, readyUrl: `${url}/-/ready` },
  );
}
