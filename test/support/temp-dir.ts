// A folder of its own for a test, gone when the test is over.
import { mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';

/** Makes a new empty folder (mode 0700) that is removed after `t`; gives its absolute path, without symbolic links. */
export async function tempDir(t: Test): Promise<string> {
  const folder = await mkdtemp(join(await realpath(tmpdir()), 'vsf-safety-test-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  return folder;
}
