// A real program that stands in for a tool of the machine (nvidia-smi, ipmitool): a small shell script in a folder of its
// own, which is the whole PATH that the tested code sees. It notes every call. Its processes, and their children wherever
// they went, carry the folder in their environment; by that they are found, and at the end of the test none is left.
import { chmod, readdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Test } from 'tap';
import { tempDir } from './temp-dir.ts';

export interface StandIn {
  readonly folder: string;
  /** The environment to run it with. */
  readonly env: { readonly PATH: string; readonly STAND_IN: string };
  /** The arguments of each call so far. */
  calls(): Promise<string[]>;
  /** What it does from the next call on. */
  become(script: string): Promise<void>;
  /** The pids of everything that it started and that still runs. */
  live(): Promise<number[]>;
}

/**
 * Puts a program called `name` on a PATH of its own.
 *
 * @param script for /bin/sh, with the usual tools on its own PATH and the folder as `$STAND_IN`
 */
export async function standIn(t: Test, name: string, script: string): Promise<StandIn> {
  const folder = await tempDir(t);
  const mark = `STAND_IN=${folder}`;

  const self: StandIn = {
    folder,
    env: { PATH: folder, STAND_IN: folder },
    async calls() {
      const noted = await readFile(join(folder, 'calls'), 'utf8').catch(() => '');
      return noted.split('\n').filter((line) => line !== '');
    },
    async become(next) {
      // A shell reads its script as it goes: the old file is left to those that run it.
      const draft = join(folder, 'draft');
      const head = `#!/bin/sh\nPATH=/usr/bin:/bin\nprintf '%s\\n' "$*" >> "$STAND_IN/calls"\n`;
      await writeFile(draft, `${head}${next}\n`);
      await chmod(draft, 0o755);
      await rename(draft, join(folder, name));
    },
    async live() {
      const pids = (await readdir('/proc')).filter((entry) => /^\d+$/.test(entry)).map(Number);
      const marked = await Promise.all(
        pids.map(async (pid) => {
          const environment = await readFile(`/proc/${pid}/environ`, 'utf8').catch(() => '');
          return environment.split('\0').includes(mark);
        }),
      );
      return pids.filter((_, place) => marked[place]);
    },
  };
  t.teardown(async () => {
    for (const pid of await self.live()) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It ended meanwhile.
      }
    }
  });
  await self.become(script);
  return self;
}
