// The chart in helm/, rendered by the real Helm. scripts/helm.mjs fetches that where it is not there yet.
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { parseAllDocuments } from 'yaml';
import type { AnyObject } from './control-plane.ts';

const CHART = join(process.cwd(), 'helm');
/** Helm keeps what it was told of a cluster's kinds in its user's home. */
const HOME = mkdtempSync(join(tmpdir(), 'vsf-safety-helm-'));
process.on('exit', () => rmSync(HOME, { recursive: true, force: true }));

let helmPath = '';
/** Why a test that needs Helm is skipped; `false` where it is there. */
export const lacksHelm: string | false = await findHelm();

async function findHelm(): Promise<string | false> {
  try {
    const { stdout } = await promisify(execFile)(process.execPath, ['scripts/helm.mjs']);
    helmPath = stdout.trim();
    return false;
  } catch (error) {
    const { stderr = '' } = error as { stderr?: string };
    return `needs helm, which could not be fetched (scripts/helm.mjs): ${/Error: .*/.exec(stderr)?.[0] ?? stderr}`;
  }
}

export interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** One run of helm; nothing of this machine's own settings of it counts. */
export async function helm(args: readonly string[]): Promise<Ran> {
  return new Promise((resolve) => {
    const env = { PATH: process.env['PATH'], HOME, HELM_CACHE_HOME: HOME };
    execFile(helmPath, args, { env, maxBuffer: 2 ** 26 }, (error, out, err) => {
      resolve({ code: error === null ? 0 : Number(error.code ?? 1), out, err });
    });
  });
}

export interface Render {
  readonly release?: string;
  readonly namespace?: string;
  /** Over the chart's own. */
  readonly values?: object;
  /** Of the cluster it is meant for. */
  readonly kubeVersion?: string;
  /** Kinds that the cluster has beyond the usual ones, as `group/version/Kind`. */
  readonly apiVersions?: readonly string[];
}

/** What `helm template` says and how it ends. `folder` is where the values are written. */
export async function runTemplate(folder: string, render: Render = {}): Promise<Ran> {
  const { release = 'vsf-safety', namespace = 'vsf-safety', values = {}, kubeVersion, apiVersions = [] } = render;
  const file = join(folder, 'values.json');
  await writeFile(file, JSON.stringify(values));
  return helm([
    'template',
    release,
    CHART,
    `--namespace=${namespace}`,
    `--values=${file}`,
    ...(kubeVersion === undefined ? [] : [`--kube-version=${kubeVersion}`]),
    ...apiVersions.map((one) => `--api-versions=${one}`),
  ]);
}

/** The chart's manifests. Throws with Helm's own words where it refuses. */
export async function renderChart(folder: string, render: Render = {}): Promise<AnyObject[]> {
  const { code, out, err } = await runTemplate(folder, render);
  if (code !== 0) throw new Error(`Cannot render the chart: ${err}`);
  return parseAllDocuments(out)
    .map((document) => {
      if (document.errors.length > 0) throw new Error(`The chart renders no YAML: ${document.errors.join()}`);
      return document.toJS() as AnyObject;
    })
    .filter((object) => object !== null);
}
