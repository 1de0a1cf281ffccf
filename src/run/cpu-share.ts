// A lower CPU share for a workload that must slow down, by a cgroup of its own (cgroup v2, cpu.max). It is made only
// inside the cgroup that this process was given, and only where that is ours alone, as systemd's Delegate=yes gives it
// (`systemd-run --user --scope -p Delegate=yes vsf-safety run …`): beside it, a unit that is killed would leave the
// workload running. The kernel takes processes in the leaves only, so this process moves into a leaf, too. Where it may
// not be, the reason is told, and the cap in the file is all there is: `nice` would lower nothing on a machine that has
// nothing else to do.
import { mkdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';

const PERIOD_US = 100_000;

export type CpuShare =
  | { readonly ok: true; readonly share: CgroupShare }
  | { readonly ok: false; readonly detail: string };

interface Place {
  /** Where cgroup v2 is mounted. */
  readonly root?: string;
  /** Of this process, as /proc/self/cgroup. */
  readonly membership?: string;
  readonly cpus?: number;
}

/** Prepares the cgroup. To be called before any process is started that is to stay out of it. */
export async function prepareCpuShare(leaseId: string, place: Place = {}): Promise<CpuShare> {
  const { root = '/sys/fs/cgroup', membership = '/proc/self/cgroup', cpus = availableParallelism() } = place;
  try {
    const path = /^0::(\/.*)$/m.exec(await readFile(membership, 'utf8'))?.[1];
    if (path === undefined) return { ok: false, detail: 'this system has no cgroup v2' };
    const own = join(root, path);
    const controllers = await readFile(join(own, 'cgroup.controllers'), 'utf8').catch(() => '');
    if (!controllers.split(/\s+/).includes('cpu')) {
      return { ok: false, detail: `cgroup ${path} has no cpu controller` };
    }
    const members = (await readFile(join(own, 'cgroup.procs'), 'utf8')).split('\n').filter(Boolean);
    if (members.some((pid) => Number(pid) !== process.pid)) {
      const remedy = 'start it by "systemd-run --user --scope -p Delegate=yes"';
      return { ok: false, detail: `cgroup ${path} is shared with ${members.length - 1} other processes; ${remedy}` };
    }
    const leaf = join(own, 'vsf-safety');
    await mkdir(leaf, { recursive: true });
    await writeFile(join(leaf, 'cgroup.procs'), String(process.pid));
    await writeFile(join(own, 'cgroup.subtree_control'), '+cpu');
    const folder = join(own, `workload-${leaseId}`);
    await mkdir(folder);
    return { ok: true, share: new CgroupShare(folder, cpus) };
  } catch (error) {
    return { ok: false, detail: (error as Error).message };
  }
}

export class CgroupShare {
  readonly folder: string;
  readonly #cpus: number;

  constructor(folder: string, cpus: number) {
    this.folder = folder;
    this.#cpus = cpus;
  }

  /** Takes a process in, and all that it will start. Says why not; `null` is all well. */
  adopt(pid: number): Promise<string | null> {
    return this.#write('cgroup.procs', String(pid));
  }

  /** At most this share of all CPUs together; `null`: no limit. */
  limit(ratio: number | null): Promise<string | null> {
    const quota = ratio === null ? 'max' : Math.max(1_000, Math.round(ratio * this.#cpus * PERIOD_US));
    return this.#write('cpu.max', `${quota} ${PERIOD_US}`);
  }

  /** Only once nothing is in it. */
  async remove(): Promise<void> {
    await rmdir(this.folder).catch(() => undefined);
  }

  async #write(file: string, text: string): Promise<string | null> {
    try {
      await writeFile(join(this.folder, file), text);
      return null;
    } catch (error) {
      return (error as Error).message;
    }
  }
}
