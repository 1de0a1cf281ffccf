// Which processes compute on the NVIDIA cards of this machine, asked through `nvidia-smi --query-compute-apps`. For
// showing only: nothing is judged by it, so a tool that fails or hangs gives no list, and what that means for the cards
// is nvidia-smi.ts. Whose processes they are is left to the actuators, who know groups and marks. In a container of its
// own the driver tells the numbers of the host's processes, or none.
import { basename } from 'node:path';
import type { Clock } from '../clock.ts';
import { BoundedCommand, type Launch } from './bounded-command.ts';

/** One process on one card; a process on two cards is told twice. */
export interface ComputeApp {
  readonly pid: number;
  /** The card's UUID; of a MIG slice, its card's. */
  readonly gpu: string;
  /** In MiB; `null` where the driver does not tell. */
  readonly memoryMiB: number | null;
  /** Without its path; empty where it is not told. */
  readonly program: string;
}

/** The name comes last: it is the program's own choice and may hold commas. */
const QUESTION = [
  '--query-compute-apps=pid,gpu_uuid,used_memory,process_name',
  '--format=csv,noheader,nounits',
] as const;
const ROW = /^(\d{1,10}), *((?:GPU|MIG)-[\w/-]{1,100}), *([^,]*)(?:, *(.*))?$/;
const MOST_APPS = 256;
const MOST_PROGRAM_CHARACTERS = 60;

export class ComputeApps {
  readonly #command: BoundedCommand;

  /** `env`: the child's environment, with the `PATH` that the tool is looked up on. */
  constructor({
    clock,
    env,
    launch,
  }: { readonly clock: Clock; readonly env: NodeJS.ProcessEnv; readonly launch?: Launch }) {
    this.#command = new BoundedCommand({ clock, env, command: 'nvidia-smi', ...(launch && { launch }) });
  }

  /** The list as it is now, at most 256 rows; empty where there is none to be had. Ends at `deadlineMs` (monotonic). */
  async read(deadlineMs: number): Promise<readonly ComputeApp[]> {
    const answer = await this.#command.run(QUESTION, deadlineMs);
    return answer.ok && answer.status === 0 ? parseComputeApps(answer.stdout) : [];
  }

  close(): void {
    this.#command.close();
  }
}

/** Rows of `pid, gpu_uuid, used_memory, process_name`; what is no row ("No running processes found") is passed over. */
export function parseComputeApps(text: string): ComputeApp[] {
  const apps: ComputeApp[] = [];
  for (const line of text.split('\n')) {
    const [, pid, gpu, memory = '', path = ''] = ROW.exec(line.trim()) ?? [];
    if (pid === undefined || gpu === undefined) continue;
    apps.push({
      pid: Number(pid),
      gpu,
      memoryMiB: /^\d{1,9}$/.test(memory.trim()) ? Number(memory) : null,
      program: programOf(path),
    });
    if (apps.length >= MOST_APPS) break;
  }
  return apps;
}

/** `/usr/bin/python3` is python3; `[Not Found]` and `[Insufficient Permissions]` are no names. */
function programOf(path: string): string {
  const name = path.startsWith('[') ? '' : basename(path.replaceAll('\\', '/'));
  return [...name.replaceAll(/[^\p{L}\p{N}\p{P}\p{S} ]/gu, '?')].slice(0, MOST_PROGRAM_CHARACTERS).join('');
}
