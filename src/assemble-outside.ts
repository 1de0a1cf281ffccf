// Everything of the world that a running service reaches other than by its clock: the state folder and its disk,
// exporters, a cluster, this machine's processes. One set of doors, so that the simulation can run the very parts that
// serve, in the order in which they start, in a world of its own.
import type { Kill } from './actuators/process-group.ts';
import { createProcessTable, type ProcessTable } from './actuators/process-table.ts';
import type { Clock } from './clock.ts';
import { readBootId } from './config.ts';
import { type DurableFiles, diskFiles } from './durable-files.ts';
import type { KubeApi } from './kubernetes/kube-api.ts';
import type { CredentialPlace } from './kubernetes/kube-credentials.ts';
import { createLateKubeClient } from './kubernetes/late-kube-client.ts';
import { createExporter } from './sources/exporter.ts';
import { createHttpGetter, type HttpGetter } from './sources/http-get.ts';
import { openStateFolder } from './state-folder.ts';

export interface Outside {
  readonly openStateFolder: typeof openStateFolder;
  /** Where the journal is. */
  readonly files: DurableFiles;
  readonly httpGetter: (options: { readonly clock: Clock }) => HttpGetter;
  /** What reads one exporter; a simulation of years leaves the bytes out. */
  readonly exporter: typeof createExporter;
  readonly kubeClient: (options: { readonly clock: Clock } & CredentialPlace) => KubeApi;
  readonly processTable: (options: { readonly clock: Clock }) => ProcessTable;
  readonly kill: Kill;
  /** Of the machine's boot; see `readBootId`. */
  readonly bootId: (root: string) => string;
}

/** The real world. */
export const realOutside: Outside = {
  openStateFolder,
  files: diskFiles,
  httpGetter: createHttpGetter,
  exporter: createExporter,
  kubeClient: createLateKubeClient,
  processTable: createProcessTable,
  kill: (pid, signal) => void process.kill(pid, signal),
  bootId: readBootId,
};
